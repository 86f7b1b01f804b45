"""What a cooldown lets stand: what was open when it began, and of that only what has been kept since.

A position and its fills are told apart, in either order, so both are witnesses: what either of them shows was open, and
is given up once neither shows it any more.
"""

from __future__ import annotations

from datetime import datetime

from flatguard.model.account import AccountState, Span
from flatguard.model.ids import ContractId
from flatguard.model.lockouts import LockKind, Lockout
from flatguard.model.value import changed


def cooling(state: AccountState, at: datetime) -> tuple[Lockout, ...]:
    """Return the cooldowns in force at ``at``."""
    return tuple(lock for lock in state.locked(at) if lock.kind is LockKind.COOLDOWN)


def hold_down(state: AccountState, lock: Lockout, at: datetime) -> AccountState:
    """Return the state with what ``lock`` lets stand, a cooldown that is to begin at ``at``."""
    running = cooling(state, at)
    may_hold = dict(state.may_hold)
    for contract_id in state.positions.keys() | state.by_fills.keys():
        ticker = state.ticker(contract_id)
        if lock.covers(ticker) and not any(other.covers(ticker) for other in running):
            may_hold[contract_id] = _shown(state, contract_id)
    return changed(state, may_hold=may_hold)


def ratchet(state: AccountState, at: datetime) -> AccountState:
    """Return the state with what may be held no more than what is: what was given up does not come back.

    Without a cooldown in force at ``at`` nothing is kept.
    """
    may_hold = {}
    for contract_id, span in state.may_hold.items() if cooling(state, at) else ():
        shown = _shown(state, contract_id)
        left = Span(max(span.least, shown.least), min(span.most, shown.most))
        if left != Span():
            may_hold[contract_id] = left
    return state if may_hold == state.may_hold else changed(state, may_hold=may_hold)


def _shown(state: AccountState, contract_id: ContractId) -> Span:
    size = state.size_of(contract_id)
    return Span().including(size).including(state.by_fills.get(contract_id, size))
