"""While an account is locked out it holds no position and no working order; whatever appears goes at once.

A lockout enforces itself: it is judged after every event like a rule, and ends by the times it bears.
"""

from __future__ import annotations

from flatguard.model.account import AccountState
from flatguard.model.decisions import Flatten
from flatguard.model.events import Event
from flatguard.model.lockouts import latest_end
from flatguard.rules._rule import Finding

NAME = "lockout"


def judge_lockouts(state: AccountState, event: Event) -> Finding | None:
    """Return what has appeared on a locked account; None where it is flat or not locked."""
    locks = state.locked(event.at)
    if not locks:
        return None
    positions = [f"{position.size:+d} {state.label(c)}" for c, position in sorted(state.positions.items())]
    orders = [
        f"order {o.id} ({o.side.name.lower()} {o.remaining} {state.label(o.contract_id)})" for o in state.working_orders
    ]
    if not positions and not orders:
        return None
    until = latest_end(locks)
    endless = {lock.condition for lock in locks if lock.until is None}
    return Finding(
        reason=f"locked out by {', '.join(lock.rule for lock in locks)}; appeared: {', '.join(positions + orders)}",
        decisions=(Flatten(),),
        figures=(
            ("locked by", ", ".join(lock.rule for lock in locks)),
            (
                "locked until",
                until.isoformat() if until is not None else " and ".join(sorted(endless - {""})) or "no end set",
            ),
            ("positions", ", ".join(positions) or "none"),
            ("working orders", ", ".join(orders) or "none"),
        ),
    )
