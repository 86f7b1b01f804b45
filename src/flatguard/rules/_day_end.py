"""How a rule ends the day: what becomes true then, and whether it has. Shared by the rules on what the day made."""

from __future__ import annotations

from typing import Literal

from flatguard.model.account import AccountState
from flatguard.model.decisions import Decision, Flatten, LockOut
from flatguard.model.lockouts import Lockout

Enforcement = Literal["close_all_and_lockout", "close_all_positions", "alert_only"]
LockoutUntil = Literal["daily_reset", "permanent"]


def day_end(state: AccountState, enforcement: Enforcement, until: LockoutUntil) -> tuple[Decision, ...]:
    """Return what must become true."""
    if enforcement == "alert_only":
        return ()
    if enforcement == "close_all_positions" or state.today is None:
        return (Flatten(),)
    return LockOut(state.today.unlocks_at if until == "daily_reset" else None), Flatten()


def day_ended(rule: str, state: AccountState, enforcement: Enforcement, until: LockoutUntil) -> bool:
    """Whether the lock that ``rule`` sets is set, or what it closes is closed."""
    if enforcement == "close_all_and_lockout":
        return bool(state.lockouts) and any(
            lock.rule == rule and _covers(lock, state, until) for lock in state.lockouts
        )
    return enforcement == "close_all_positions" and not state.positions and not state.working_orders


def _covers(lock: Lockout, state: AccountState, until: LockoutUntil) -> bool:
    if lock.until is None:
        return True
    return until == "daily_reset" and state.today is not None and lock.until >= state.today.unlocks_at
