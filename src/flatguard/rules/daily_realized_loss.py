"""Daily realized loss: the day ends when its loss reaches ``loss_limit``.

Judged after every event, on the broker's own trades of the trading day; with ``combined`` also on those plus what is
open. Reaching the limit is a breach. Closes everything, cancels everything and locks the account until the reset.
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
from flatguard.rules._settings import loss_amount

NAME = "daily_realized_loss"


@frozen
class DailyRealizedLoss(Rule):
    """Settings of ``[rules.daily_realized_loss]``.

    ``loss_limit``: US dollars, positive. ``include_fees``: judge net of fees and commissions. ``combined``: open P&L
    counts towards the same limit. ``lockout_until``: the daily reset, or for good until an administrator acts.
    """

    loss_limit: Decimal = field(validator=loss_amount)
    combined: bool = True
    include_fees: bool = True
    enforcement: Enforcement = "close_all_and_lockout"
    lockout_until: LockoutUntil = "daily_reset"

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when the day's fills have reached the limit, or with ``combined`` when fills and open P&L do."""
        if day_ended(NAME, state, self.enforcement, self.lockout_until):
            return None
        low = state.realized.low_net if self.include_fees else state.realized.low_gross
        fill = None
        if low <= -self.loss_limit:
            fill = state.worked_out(self._first_fill, state.realized)
        realized = self._realized(state.realized)
        open_profit = unrealized(state, event.at)
        together = realized + open_profit.amount
        settled = not position_due(state) and fill_due_until(state, event.at) is None
        combined = self.combined and not open_profit.unpriced and settled and together <= -self.loss_limit
        if fill is None and not combined:
            return None
        if fill is None:
            loss = f"Realised and open loss: {dollars(together)}"
        elif realized == low:
            loss = f"Realised loss: {dollars(low)}"
        else:
            loss = f"Realised loss: {dollars(low)} at its lowest, now {dollars(realized)}"
        unpriced = ", ".join(state.label(contract_id) for contract_id in open_profit.unpriced)
        return Finding(
            reason=f"{loss}, limit {dollars(-self.loss_limit)}",
            decisions=day_end(state, self.enforcement, self.lockout_until),
            figures=(
                ("realised gross", dollars(state.realized.gross)),
                ("fees and commissions", dollars(-(state.realized.fees + state.realized.commissions))),
                ("realised, as judged", dollars(realized)),
                ("lowest of the day", dollars(low)),
                ("open", dollars(open_profit.amount) + (f", without {unpriced}" if unpriced else "")),
                ("limit", dollars(-self.loss_limit)),
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
        if not self.combined:
            return None
        missing = without_price(state, at)
        return None if missing is None else f"{missing}, so open P&L is not counted"

    def measure(self, state: AccountState, at: datetime) -> Measure:
        """The day's P&L as judged, against the limit."""
        amount = self._realized(state.realized) + (unrealized(state, at).amount if self.combined else ZERO)
        return Measure(amount, -self.loss_limit, "USD")

    @property
    def acts(self) -> bool:
        """Whether it closes anything."""
        return self.enforcement != "alert_only"

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """An amount that costs alone make up; an end of a lock that is not set."""
        yield from pocket_change("loss_limit", self.loss_limit, terms)
        yield from lock_that_never_comes(self.enforcement, self.lockout_until)

    def _first_fill(self, state: AccountState) -> Trade | None:
        return first_fill(state, lambda day: self._realized(day) <= -self.loss_limit)

    def _realized(self, day: Realized) -> Decimal:
        return day.net if self.include_fees else day.gross
