"""What a rule is."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from datetime import datetime

from attrs import frozen

from flatguard.model.account import AccountState
from flatguard.model.decisions import Breach, Decision, LockOut
from flatguard.model.events import Event
from flatguard.model.lockouts import Lockout


@frozen
class Measure:
    """Where an account stands against a rule: all three as text, ``distance`` being what is left before the limit."""

    value: str
    limit: str
    distance: str


@frozen
class Finding:
    """What a rule found: the end state it calls for, and why. The book makes a breach of it.

    ``cause`` is what made it so: the id of the trade, or nothing where it is the state at this moment.
    """

    reason: str
    decisions: tuple[Decision, ...]
    figures: tuple[tuple[str, str], ...]
    cause: str = ""
    on_record: bool = False


class Rule(ABC):
    """A trader's rule. Subclasses are frozen attrs classes; their fields are the keys of the rule's table.

    A rule is pure: it never logs, never waits, never asks for the time, never remembers. What it must know of the past
    is a fact of the account, which the ledger keeps.
    """

    @abstractmethod
    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Return what is broken in ``state``, which ``event`` has just been folded into; None while all is well."""

    def judge_again_at(self, state: AccountState) -> datetime | None:
        """Return the moment at which the rule must be judged though nothing happens; None when there is none."""
        return None

    def keeps(self, lock: Lockout, state: AccountState) -> bool:
        """Return whether a lock that this rule set goes on waiting for its condition; False ends it.

        Asked about the rule's locks that have a condition, before every judgement. No other lock can be ended so.
        """
        return True

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """Return why the rule cannot judge at ``at``; None while it can."""
        return None

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """Return where the account stands against the rule's limit; None where it has none to show."""
        return None


def breach_of(rule: str, finding: Finding, state: AccountState, event: Event) -> Breach:
    """Make the breach of a finding. The same cause on the same account and day has the same id, also after a crash."""
    cause = finding.cause or moment_of(event)
    lock = next((d for d in finding.decisions if isinstance(d, LockOut)), None)
    return Breach(
        id=_short_id((rule, str(state.id), cause)),
        rule=rule,
        account_id=state.id,
        at=event.at,
        cause=cause,
        reason=finding.reason if lock is None else f"{finding.reason}, {_locked_until(lock, state)}",
        figures=finding.figures,
        decisions=finding.decisions,
        on_record=finding.on_record,
    )


def moment_of(event: Event) -> str:
    """Return the cause of a breach that is the state at a moment, and nothing more particular."""
    return event.at.isoformat()


def _locked_until(lock: LockOut, state: AccountState) -> str:
    if lock.condition:
        return f"locked until {lock.condition}"
    if lock.until is None:
        return "locked until an administrator lifts it"
    return f"locked until {lock.until.astimezone(state.terms.zone):%Y-%m-%d %H:%M %Z}"


def _short_id(parts: Iterable[str]) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
