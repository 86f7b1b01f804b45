"""Daily realized loss: the day ends when its loss reaches ``loss_limit``.

Judged after every event, on the broker's own trades of the trading day; with ``combined`` also on those plus what is
open. Reaching the limit is a breach. Closes everything, cancels everything and locks the account until the reset.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from attrs import field, frozen

from flatguard.ledger.pnl import QUOTE_FRESH, first_fill_at_or_below, unrealized
from flatguard.model.account import AccountState
from flatguard.model.decisions import Decision, Flatten, LockOut
from flatguard.model.events import Event
from flatguard.model.lockouts import Lockout
from flatguard.model.money import ZERO, dollars
from flatguard.rules._rule import Finding, Measure, Rule
from flatguard.rules._settings import loss_amount

NAME = "daily_realized_loss"
WITHOUT_FOR = timedelta(seconds=30)  # a price or a tick size that is not there yet is on its way for so long


@frozen
class DailyRealizedLoss(Rule):
    """Settings of ``[rules.daily_realized_loss]``.

    ``loss_limit``: US dollars, positive. ``include_fees``: judge net of fees and commissions. ``combined``: open P&L
    counts towards the same limit. ``lockout_until``: the daily reset, or for good until an administrator acts.
    """

    loss_limit: Decimal = field(validator=loss_amount)
    combined: bool = True
    include_fees: bool = True
    enforcement: Literal["close_all_and_lockout", "close_all_positions", "alert_only"] = "close_all_and_lockout"
    lockout_until: Literal["daily_reset", "permanent"] = "daily_reset"

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when the day's fills have reached the limit, or with ``combined`` when fills and open P&L do."""
        if self._dealt_with(state):
            return None
        low = state.realized.low_net if self.include_fees else state.realized.low_gross
        fill = None
        if low <= -self.loss_limit:
            fill = first_fill_at_or_below(state, -self.loss_limit, net=self.include_fees)
        realized = self._realized(state)
        open_profit = unrealized(state, event.at)
        together = realized + open_profit.amount
        combined = self.combined and not open_profit.unpriced and together <= -self.loss_limit
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
            decisions=self._decisions(state),
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

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """Open P&L cannot be counted: prices contradict each other, or there has been none for 30 s."""
        if not self.combined:
            return None
        for contract_id in unrealized(state, at).unpriced:
            opened_at = state.positions[contract_id].opened_at
            quote = state.quotes.get(contract_id)
            quoted_at = quote.at if quote is not None else None
            if contract_id not in state.contracts:
                if at - opened_at > WITHOUT_FOR:
                    return f"the tick size of {contract_id} is not known, so open P&L is not counted"
                continue
            contradictory = quoted_at is not None and at - quoted_at <= QUOTE_FRESH
            if contradictory or at - max(opened_at, quoted_at or opened_at) > WITHOUT_FOR:
                age = "none has come" if quoted_at is None else f"{(at - quoted_at).total_seconds():.0f} s old"
                return f"no price to believe for {state.label(contract_id)} ({age}), so open P&L is not counted"
        return None

    def measure(self, state: AccountState, at: datetime) -> Measure:
        """The day's P&L as judged, against the limit."""
        amount = self._realized(state) + (unrealized(state, at).amount if self.combined else ZERO)
        return Measure(f"{amount:.2f}", f"{-self.loss_limit:.2f}", f"{amount + self.loss_limit:.2f}")

    def _realized(self, state: AccountState) -> Decimal:
        return state.realized.net if self.include_fees else state.realized.gross

    def _dealt_with(self, state: AccountState) -> bool:
        """Whether the lock that this rule sets is set, or what it closes is closed."""
        if self.enforcement == "close_all_and_lockout":
            return any(lock.rule == NAME and self._covers(lock, state) for lock in state.lockouts)
        return self.enforcement == "close_all_positions" and not state.positions and not state.working_orders

    def _covers(self, lock: Lockout, state: AccountState) -> bool:
        if lock.until is None:
            return True
        return self.lockout_until == "daily_reset" and state.today is not None and lock.until >= state.today.unlocks_at

    def _decisions(self, state: AccountState) -> tuple[Decision, ...]:
        if self.enforcement == "alert_only":
            return ()
        if self.enforcement == "close_all_positions" or state.today is None:
            return (Flatten(),)
        return LockOut(state.today.unlocks_at if self.lockout_until == "daily_reset" else None), Flatten()
