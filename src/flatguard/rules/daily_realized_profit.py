"""Daily realized profit: the day ends when its profit reaches ``target``, so that what was won is kept.

Judged after every event, on the broker's own trades of the trading day; with ``combined`` also on those plus what is
open. Reaching the target is a breach. Closes everything, cancels everything and locks the account until the reset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from attrs import field, frozen

from flatguard.ledger.pnl import first_fill, unrealized
from flatguard.ledger.reconcile import fill_due_until, position_due
from flatguard.model.account import AccountState, Realized, Terms
from flatguard.model.events import Event
from flatguard.model.money import ZERO, dollars
from flatguard.model.trading import Trade
from flatguard.rules._contradictions import lock_that_never_comes, pocket_change
from flatguard.rules._day_end import Enforcement, LockoutUntil, day_end, day_ended
from flatguard.rules._prices import without_price
from flatguard.rules._rule import Contradiction, Finding, Measure, Rule
from flatguard.rules._settings import one_line, profit_amount

NAME = "daily_realized_profit"


@frozen
class DailyRealizedProfit(Rule):
    """Settings of ``[rules.daily_realized_profit]``.

    ``target``: US dollars. ``combined``: open P&L counts towards it, so an open winner is closed. ``include_fees``:
    judge net of fees and commissions. ``lockout_until``: the daily reset, or for good until an administrator acts.
    ``message``: the words that the trader reads first.
    """

    target: Decimal = field(default=Decimal(1000), validator=profit_amount)
    combined: bool = False
    include_fees: bool = True
    enforcement: Enforcement = "close_all_and_lockout"
    lockout_until: LockoutUntil = "daily_reset"
    message: str = field(default="Well done, the daily profit target is reached", validator=one_line)

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when the day's fills have reached the target, or with ``combined`` when fills and open P&L do."""
        if day_ended(NAME, state, self.enforcement, self.lockout_until):
            return None
        realized = self._realized(state.realized)
        high = state.realized.high_net if self.include_fees else state.realized.high_gross
        fill = None
        if high >= self.target:
            fill = state.worked_out(self._first_fill, state.realized)
        open_profit = unrealized(state, event.at)
        together = realized + open_profit.amount
        settled = not position_due(state) and fill_due_until(state, event.at) is None
        known = not open_profit.unpriced and settled
        combined = self.combined and known and together >= self.target
        if fill is None and not combined:
            return None
        if fill is None:
            profit = f"{dollars(together)} realised and open"
        elif realized == high:
            profit = f"{dollars(high)} realised"
        else:
            profit = f"{dollars(high)} realised at its highest, now {dollars(realized)}"
        unpriced = ", ".join(state.label(contract_id) for contract_id in open_profit.unpriced)
        return Finding(
            reason=f"{self.message}: {profit}, target {dollars(self.target)}",
            decisions=day_end(state, self.enforcement, self.lockout_until),
            figures=(
                ("realised gross", dollars(state.realized.gross)),
                ("fees and commissions", dollars(-(state.realized.fees + state.realized.commissions))),
                ("realised, as judged", dollars(realized)),
                ("highest of the day", dollars(high)),
                ("open", dollars(open_profit.amount) + (f", without {unpriced}" if unpriced else "")),
                ("target", dollars(self.target)),
            ),
            cause=f"trade {fill.id}" if fill is not None else "",
            on_record=fill is not None,
        )

    def next_moment(self, state: AccountState, after: datetime) -> datetime | None:
        """The moment from which on a fill that did not follow its position is not waited for."""
        if not self.combined or day_ended(NAME, state, self.enforcement, self.lockout_until):
            return None
        return fill_due_until(state, after)

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """Open P&L cannot be counted: prices contradict each other, or there has been none for 30 s."""
        missing = without_price(state, at) if self.combined else None
        return None if missing is None else f"{missing}, so open P&L is not counted"

    def measure(self, state: AccountState, at: datetime) -> Measure:
        """The day's P&L as judged, against the target."""
        amount = self._realized(state.realized) + (unrealized(state, at).amount if self.combined else ZERO)
        return Measure(amount, self.target, "USD")

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """An amount that costs alone make up; an end of a lock that is not set."""
        yield from pocket_change("target", self.target, terms)
        yield from lock_that_never_comes(self.enforcement, self.lockout_until)

    def _first_fill(self, state: AccountState) -> Trade | None:
        return first_fill(state, lambda day: self._realized(day) >= self.target)

    def _realized(self, day: Realized) -> Decimal:
        return day.net if self.include_fees else day.gross
