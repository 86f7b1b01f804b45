"""Lockouts and how they combine: they add up, they never replace one another.

There is one lockout per (account, rule, scope, kind, condition). The same rule locking again keeps the later end. What
holds for the account is the union of all; the end shown is the latest. A lock that waits for a condition stands beside
those that end by time, and goes when the rule that set it says that the condition has come true.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum

from attrs import evolve, frozen

from flatguard.model.ids import AccountId

ACCOUNT_SCOPE = "account"

_FOR_EVER = datetime.max.replace(tzinfo=UTC)


class LockKind(StrEnum):
    """What a lock forbids: to hold anything at all, or to hold more than when it began."""

    HARD = "hard"
    COOLDOWN = "cooldown"


@frozen
class Lockout:
    """New exposure is not allowed: in the whole account, or where ``scope`` is a ticker in that product.

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
    kind: LockKind = LockKind.HARD

    @property
    def key(self) -> tuple[AccountId, str, str, str, str]:
        """What there is one lockout for."""
        return self.account_id, self.rule, self.scope, self.kind, self.condition

    def covers(self, ticker: str) -> bool:
        """Whether it is about a product."""
        return self.scope in {ACCOUNT_SCOPE, ticker}

    def holds(self, at: datetime, broker_seen: datetime | None) -> bool:
        """Whether it is in force at ``at``.

        A lockout with an end is over only when our clock and the newest time that the broker's answers carried have
        both reached it; a machine whose clock is set forward stays locked.
        """
        if self.until is None or at < self.until:
            return True
        return broker_seen is None or broker_seen < self.until


def union(one: Iterable[Lockout], other: Iterable[Lockout]) -> tuple[Lockout, ...]:
    """Return what two sets of lockouts make together, in the order of their keys.

    Of the same key the later end wins, in force since the earlier beginning; of equal ends the one whose breach and
    reason sort first. So it does not matter in which order, how often, or in which groups locks come together.
    """
    by_key: dict[tuple[AccountId, str, str, str, str], Lockout] = {}
    for lock in (*one, *other):
        known = by_key.get(lock.key)
        if known is not None:
            lock = evolve(min(known, lock, key=_later_end_first), since=min(known.since, lock.since))
        by_key[lock.key] = lock
    return tuple(by_key[key] for key in sorted(by_key))


def _later_end_first(lock: Lockout) -> tuple[float, str, str]:
    return -(lock.until or _FOR_EVER).timestamp(), lock.breach, lock.reason


def latest_end(lockouts: Iterable[Lockout]) -> datetime | None:
    """Return the latest end of ``lockouts``; None when there is none or one of them has no end."""
    ends = [lockout.until for lockout in lockouts]
    if not ends or None in ends:
        return None
    return max(end for end in ends if end is not None)
