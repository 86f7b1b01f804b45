"""Lockouts and how they combine: they add up, they never replace one another.

There is one lockout per (account, rule, scope, condition). The same rule locking again keeps the later end. What holds
for the account is the union of all; the end shown is the latest. One that waits for a condition stands beside those
that end by time, and goes when the rule that set it says that the condition has come true.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from attrs import evolve, frozen

from flatguard.model.ids import AccountId

ACCOUNT_SCOPE = "account"


@frozen
class Lockout:
    """New exposure is not allowed.

    ``until`` None means until ``condition`` (words for a person) has come true, or where there is none, until an
    administrator acts.
    ``breach`` is the id of the breach that caused it, for ``flatguard why``.
    """

    account_id: AccountId
    rule: str
    scope: str
    since: datetime
    until: datetime | None
    reason: str
    breach: str
    condition: str = ""

    @property
    def key(self) -> tuple[AccountId, str, str, str]:
        """What there is one lockout for."""
        return self.account_id, self.rule, self.scope, self.condition

    def holds(self, at: datetime, broker_seen: datetime | None) -> bool:
        """Whether it is in force at ``at``.

        A lockout with an end is over only when our clock and the newest time that the broker's answers carried have
        both reached it; a machine whose clock is set forward stays locked.
        """
        if self.until is None or at < self.until:
            return True
        return broker_seen is None or broker_seen < self.until


def combine(lockouts: Iterable[Lockout], new: Lockout) -> tuple[Lockout, ...]:
    """Return ``lockouts`` with ``new`` added; for the same key the later end wins."""
    kept: list[Lockout] = []
    for old in lockouts:
        if old.key != new.key:
            kept.append(old)
        elif old.until is None or (new.until is not None and new.until <= old.until):
            new = old
        elif old.until > new.since:
            new = evolve(old, until=new.until, reason=new.reason, breach=new.breach)
    return (*kept, new)


def latest_end(lockouts: Iterable[Lockout]) -> datetime | None:
    """Return the latest end of ``lockouts``; None when there is none or one of them has no end."""
    ends = [lockout.until for lockout in lockouts]
    if not ends or None in ends:
        return None
    return max(end for end in ends if end is not None)
