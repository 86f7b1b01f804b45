"""Which cooldown of a rule runs, and whether it answers what was found. Shared by the rules that are about fills."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from flatguard.model.account import AccountState
from flatguard.model.decisions import LockOut
from flatguard.model.events import Event
from flatguard.model.lockouts import ACCOUNT_SCOPE, Lockout

_FOR_EVER = datetime.max.replace(tzinfo=UTC)


def over(until: datetime, state: AccountState, event: Event) -> bool:
    """Whether ``until``, counted from a fill's own time, had passed at the broker's when ``event`` came."""
    return until <= event.at - state.clock_ahead


def runs_until(rule: str, state: AccountState, at: datetime) -> datetime | None:
    """Return until when the locks that ``rule`` set run that run at ``at``; None where none does."""
    ends = [_end(lock) for lock in state.lockouts if lock.rule == rule]
    return max((end for end in ends if end > at), default=None)


def answered(rule: str, wanted: LockOut, state: AccountState) -> bool:
    """Whether ``rule`` has already set a lock of that kind and at least that long."""
    until = wanted.until
    return any(
        (lock.rule, lock.kind, lock.scope) == (rule, wanted.kind, ACCOUNT_SCOPE)
        and (until is None or _end(lock) >= until)
        for lock in state.lockouts
    )


def _end(lock: Lockout) -> datetime:
    return lock.until or _FOR_EVER


def lasting(duration: timedelta) -> str:
    """Write a duration for a person: 60 s, 15 min, 1 h."""
    seconds = int(duration.total_seconds())
    for size, unit in ((3600, "h"), (60, "min")):
        if (seconds > size and seconds % size == 0) or seconds == 3600:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
