"""Open P&L by contract, and why it cannot be told. Shared by the rules that judge it."""

from __future__ import annotations

from datetime import datetime, timedelta

from flatguard.ledger.peaks import settled
from flatguard.ledger.pnl import QUOTE_FRESH, open_by_contract, unrealized
from flatguard.ledger.reconcile import unsettled_since
from flatguard.model.account import AccountState

__all__ = ["open_by_contract", "without_price"]

WITHOUT_FOR = timedelta(seconds=30)  # a price or a tick size that is not there yet is on its way for so long


def without_price(state: AccountState, at: datetime) -> str | None:
    """Return what is missing to value all that is held: prices contradict each other, or none has come for 30 s."""
    for contract_id in unrealized(state, at).unpriced:
        opened_at = state.positions[contract_id].opened_at
        quote = state.quotes.get(contract_id)
        quoted_at = quote.at if quote is not None else None
        if contract_id not in state.contracts:
            if at - opened_at > WITHOUT_FOR:
                return f"the tick size of {contract_id} is not known"
            continue
        contradictory = quoted_at is not None and at - quoted_at <= QUOTE_FRESH
        if contradictory or at - max(opened_at, quoted_at or opened_at) > WITHOUT_FOR:
            age = "none has come" if quoted_at is None else f"{(at - quoted_at).total_seconds():.0f} s old"
            return f"no price to believe for {state.label(contract_id)} ({age})"
    return None


def without_total(state: AccountState, at: datetime) -> str | None:
    """Return why what is made with what is open cannot be told: as ``without_price``, or the picture disagrees."""
    missing = without_price(state, at)
    since = None if settled(state) else unsettled_since(state)
    if missing is None and since is not None and at - since > WITHOUT_FOR:
        return "positions and fills do not agree"
    return missing
