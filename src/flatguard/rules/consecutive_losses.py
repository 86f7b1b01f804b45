"""Consecutive losses: a pause, or the end of the day, after so many losing trades in a row.

Judged when a fill is told. One trade is one order that closed something, all its fills together, net of their own
costs; the run begins anew with the trading day.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from attrs import field, frozen

from flatguard.model.account import AccountState
from flatguard.model.decisions import Flatten, LockOut
from flatguard.model.events import Event
from flatguard.model.executions import Place, index_from
from flatguard.model.ids import OrderId
from flatguard.model.lockouts import LockKind
from flatguard.model.money import ZERO, dollars
from flatguard.rules._cooldowns import answered, over
from flatguard.rules._rule import Finding, Measure, Rule
from flatguard.rules._settings import at_least, some_time

NAME = "consecutive_losses"


@frozen
class ConsecutiveLosses(Rule):
    """Settings of ``[rules.consecutive_losses]``.

    ``losses``: how many in a row. ``enforcement``: a pause of ``cooldown``, or the end of the day.
    """

    losses: int = field(default=3, validator=at_least(1))
    enforcement: Literal["cooldown", "close_all_and_lockout"] = "cooldown"
    cooldown: timedelta = field(default=timedelta(minutes=15), validator=some_time)

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach with every ``losses``-th loss of a run: after a pause the run is counted anew.

        A pause lasts from the order's first closing fill on, so that the fills that follow do not prolong it.
        """
        since = state.changed_from
        if since is None or state.today is None:
            return None
        results = state.executions.results
        latest: tuple[datetime, int, OrderId] | None = None
        for number in range(index_from(results, since), len(results)):
            result = results[number]
            if not result.losing_run or result.losing_run % self.losses:
                continue
            until = state.today.unlocks_at
            if self.enforcement == "cooldown":
                until = _began(state, result.order_id)[0] + self.cooldown
            if not over(until, state, event) and (latest is None or until > latest[0]):
                latest = until, result.losing_run, result.order_id
        if latest is None:
            return None
        until, run, order_id = latest
        hard = self.enforcement == "close_all_and_lockout"
        lock = LockOut(until, kind=LockKind.HARD if hard else LockKind.COOLDOWN)
        if answered(NAME, lock, state):
            return None
        lost = state.executions.by_order[order_id].net or ZERO
        return Finding(
            reason=f"{run} losing orders in a row, the last {dollars(lost)}, limit {self.losses}",
            decisions=(lock, Flatten()) if hard else (lock,),
            figures=(
                ("losing orders in a row", str(run)),
                ("limit", str(self.losses)),
                ("the last of them, net", dollars(lost)),
            ),
            cause=f"trade {_began(state, order_id)[1]}",
        )

    def measure(self, state: AccountState, at: datetime) -> Measure:
        """The losses in a row since the last pause."""
        run = state.executions.losing_run % self.losses
        return Measure(Decimal(run), Decimal(self.losses), "losses in a row")


def _began(state: AccountState, order_id: OrderId) -> Place:
    """Return the first fill of an order that closed something."""
    execution = state.executions.by_order[order_id]
    return execution.closed or execution.fills[0]
