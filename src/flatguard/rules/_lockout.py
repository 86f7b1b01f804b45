"""What a lock forbids is closed or cancelled, for as long as the lock lasts.

A hard lock lets nothing be open in the account, or in the product that it is about. A cooldown lets stand what was open
when it began; whatever comes to that goes, and so does every order that could add to it. Protective stops stay.

A lock enforces itself: it is judged after every event like a rule, and ends by the times that it bears.
"""

from __future__ import annotations

from collections.abc import Iterator

from flatguard.ledger.held_down import cooling
from flatguard.model.account import AccountState, Span
from flatguard.model.decisions import CloseContract, Decision, Flatten, ReduceTo, WithoutOrder
from flatguard.model.events import Event
from flatguard.model.ids import ContractId
from flatguard.model.lockouts import ACCOUNT_SCOPE, LockKind, Lockout, latest_end
from flatguard.rules._open import could_add, open_in_words, order_in_words, that_may_fill
from flatguard.rules._rule import Finding

NAME = "lockout"


def judge_lockouts(state: AccountState, event: Event) -> Finding | None:
    """Return what is open although a lock forbids it; None where nothing is."""
    locks = state.locked(event.at)
    if not locks:
        return None
    hard = [lock for lock in locks if lock.kind is LockKind.HARD]
    forbidden = _locked_out(state, hard)
    shut = {decision.contract_id for decision in forbidden if isinstance(decision, CloseContract)}
    if Flatten() not in forbidden:
        forbidden |= {d: what for d, what in _cooling_down(state, event) if d.contract_id not in shut}
    if not forbidden:
        return None
    until = latest_end(locks)
    by = ", ".join(dict.fromkeys(lock.rule for lock in locks))
    conditions = sorted({lock.condition for lock in locks if lock.until is None} - {""})
    return Finding(
        reason=f"locked by {by}; open all the same: {', '.join(forbidden.values())}",
        decisions=tuple(forbidden),
        figures=(
            ("locked by", by),
            ("locked until", until.isoformat() if until is not None else " and ".join(conditions) or "no end set"),
            ("not allowed", ", ".join(forbidden.values())),
        ),
    )


def _locked_out(state: AccountState, locks: list[Lockout]) -> dict[Decision, str]:
    """Return what has to become true under hard locks, and what shows that it is not, in words."""
    open_in = open_in_words(state)
    if open_in and any(lock.scope == ACCOUNT_SCOPE for lock in locks):
        return {Flatten(): ", ".join(what for row in open_in.values() for what in row)}
    return {
        CloseContract(contract_id): ", ".join(row)
        for contract_id, row in open_in.items()
        if any(lock.covers(state.ticker(contract_id)) for lock in locks)
    }


def _cooling_down(state: AccountState, event: Event) -> Iterator[tuple[CloseContract | ReduceTo | WithoutOrder, str]]:
    locks = cooling(state, event.at)
    for contract_id, position in sorted(state.positions.items()):
        allowed = state.may_hold.get(contract_id, Span()).nearest(position.size)
        if allowed != position.size and _covered(state, contract_id, locks):
            what = f"{position.size:+d} {state.label(contract_id)}, {allowed:+d} allowed"
            yield ReduceTo(contract_id, abs(allowed)) if allowed else CloseContract(contract_id), what
    for order in that_may_fill(state):
        if could_add(state, order) and _covered(state, order.contract_id, locks):
            yield WithoutOrder(order.contract_id, order.id), order_in_words(state, order)


def _covered(state: AccountState, contract_id: ContractId, locks: tuple[Lockout, ...]) -> bool:
    return any(lock.covers(state.ticker(contract_id)) for lock in locks)
