"""Blindness: what to do when for ``after_s`` seconds nothing of the account could be seen.

Blind is who neither hears of the account nor can read it: the user hub is down and the gateway does not answer. Judged
at the moment that it has lasted so long. Tells of it, or also closes and cancels what was open then, as soon as the
broker answers.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from attrs import field, frozen

from flatguard.model.account import AccountState, BlindSpell
from flatguard.model.decisions import Flatten
from flatguard.model.events import Event, Hub
from flatguard.rules._rule import Finding, Measure, Rule
from flatguard.rules._settings import at_least

NAME = "blindness"


@frozen
class Blindness(Rule):
    """Settings of ``[rules.blindness]``.

    ``after_s``: seconds of blindness. ``enforcement``: tell of it only, or also leave nothing open that was open then.
    """

    after_s: int = field(default=60, validator=at_least(5, "a reading may take that long"))
    enforcement: Literal["alert_only", "close_all_positions"] = "alert_only"

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach while it lasts; with ``close_all_positions`` also after it, until what was open then is gone."""
        spell = _newest_spell(state, event.at)
        if spell is None or spell.until - spell.since < timedelta(seconds=self.after_s):
            return None
        closing = self.enforcement == "close_all_positions" and _open_since_then(state, spell)
        if state.blind_since is None and not closing:
            return None
        lasted = f"{(spell.until - spell.since).total_seconds():.0f} s"
        return Finding(
            reason=f"Nothing could be seen of the account for {self.after_s} s, since {spell.since:%H:%M:%S} UTC",
            decisions=(Flatten(),) if closing else (),
            figures=(
                ("blind since", spell.since.isoformat()),
                ("for", lasted),
                ("the user hub", state.links[Hub.USER].reason or "is up again"),
                ("the gateway", state.read_failed or "answers again"),
            ),
            cause=f"blind since {spell.since.isoformat()}",
        )

    def judge_again_at(self, state: AccountState) -> datetime | None:
        """The moment at which blindness that began has lasted so long."""
        return None if state.blind_since is None else state.blind_since + timedelta(seconds=self.after_s)

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """How long the account has not been seen, against the limit; None while it is seen."""
        if state.blind_since is None:
            return None
        seconds = (at - state.blind_since).total_seconds()
        return Measure(Decimal(round(seconds)), Decimal(self.after_s), "s")


def _newest_spell(state: AccountState, at: datetime) -> BlindSpell | None:
    return state.was_blind if state.blind_since is None else BlindSpell(state.blind_since, at)


def _open_since_then(state: AccountState, spell: BlindSpell) -> bool:
    """Whether something is open that was open while nothing could be seen."""
    return any(
        state.increased_at.get(contract_id, position.opened_at) <= spell.until
        for contract_id, position in state.positions.items()
    ) or any(order.created_at <= spell.until for order in state.working_orders)
