"""When to try again what the broker has refused: at once at first, then rarer, and when a closed market opens. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import frozen

from flatguard.model.account import AccountState
from flatguard.model.ids import ContractId
from flatguard.model.outcomes import Refused

REFUSED_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 5.0)  # caps the pace, never the number of attempts
HALTED_PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0)  # nobody announces when a halt ends
CLOSED_PAUSES_S = (5.0, 15.0, 60.0, 300.0, 600.0)  # the calendar may be wrong, so it is tried all the same
NOT_TRADING = ("outsidetradinghours", "contractnotactive", "not in an active trading status", "market is closed")


@frozen
class Pause:
    """How long to leave something alone, and when the market opens that it waits for, where it does."""

    seconds: float
    market_opens_at: datetime | None = None


def market_opens_at(state: AccountState, contract_id: ContractId, at: datetime) -> datetime | None:
    """Return when the contract trades next by the calendar; None while it does, or where no calendar knows."""
    if state.terms.calendar is None:
        return None
    opens = state.terms.calendar.opens_next(state.ticker(contract_id), at)
    return opens if opens is not None and opens > at else None


def not_trading(refused: Refused) -> bool:
    """Whether the broker refused because the contract does not trade now."""
    return any(words in refused.reason.lower() for words in NOT_TRADING)


def sent_into_a_closed_market(
    state: AccountState, contract_id: ContractId, sent_at: datetime, refused: Refused
) -> bool:
    """Whether a refusal is one that the reopening cures. Code 0 is none: the broker was not reached."""
    closed = market_opens_at(state, contract_id, sent_at) is not None
    return refused.code != 0 and (closed or not_trading(refused))


def pause_after(
    state: AccountState, contract_id: ContractId, sent_at: datetime, now: datetime, refused: Refused, tries: int
) -> Pause:
    """Return how long to leave alone what was refused ``tries`` times before in a row.

    What was sent into a closed market is tried rarely, and at the first instant of the next session.
    """
    opens = market_opens_at(state, contract_id, sent_at) if refused.code != 0 else None
    if opens is not None:
        left = max(timedelta(0), opens - now).total_seconds()
        return Pause(min(_nth(CLOSED_PAUSES_S, tries), left), opens)
    return Pause(_nth(HALTED_PAUSES_S if not_trading(refused) else REFUSED_PAUSES_S, tries))


def _nth(pauses: tuple[float, ...], tries: int) -> float:
    return pauses[min(tries, len(pauses) - 1)]
