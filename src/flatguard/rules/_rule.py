"""What a rule is."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from attrs import frozen

from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import Breach, Decision, LockOut
from flatguard.model.events import Event
from flatguard.model.lockouts import ACCOUNT_SCOPE, LockKind, Lockout
from flatguard.model.money import plain


@frozen
class Measure:
    """Where an account stands against a rule's limit.

    A loss is a negative value with a negative limit. ``unit`` is ``USD`` or a word that follows the number; ``of`` says
    which of several things it is about, such as a ticker.
    """

    value: Decimal
    limit: Decimal
    unit: str = ""
    of: str = ""

    @property
    def distance(self) -> Decimal:
        """What is left before the limit; below zero beyond it."""
        return self.limit - self.value if self.limit >= 0 else self.value - self.limit

    @property
    def percent(self) -> int:
        """How much of the limit is used, in whole percent, rounded down; a limit of zero is used by anything."""
        if not self.limit:
            return 100 if self.value > 0 else 0
        return max(0, int(self.value * 100 / self.limit))

    @property
    def texts(self) -> tuple[str, str, str]:
        """Value, limit and distance as a person reads them: ``-200.00`` dollars, ``2 MNQ``, ``30 s``."""
        if self.unit == "USD":
            of = f" ({self.of})" if self.of else ""
            return f"{self.value:.2f}{of}", f"{self.limit:.2f}", f"{self.distance:.2f}"
        value, limit, left = (f"{plain(n)} {self.unit}".rstrip() for n in (self.value, self.limit, self.distance))
        return f"{value} {self.of}".rstrip(), limit, left


@frozen
class Fact:
    """Something of the past that a rule must know, which the ledger keeps for it, also across restarts.

    ``start`` is its value on an account that nothing is known of. ``fold`` makes the next one from the value, an event,
    and the account's state after that event. It must be pure, and quick: it is asked about every event. Values are what
    JSON knows: None, true and false, whole numbers, text, and lists and tables of these; write money and times as text.
    """

    start: Any
    fold: Callable[[Any, Event, AccountState], Any]


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


@frozen
class Contradiction:
    """Two settings that do not go together, as the rule that sees it says it.

    ``key`` is the field of that rule at which to put it right, ``entry`` the key within it where it is a table.
    ``text`` follows their name in a line. ``refused``: these settings cannot be in force; else they are allowed, and
    probably not meant.
    """

    key: str
    text: str
    entry: str = ""
    refused: bool = False


class Rule(ABC):
    """A trader's rule. Subclasses are frozen attrs classes; their fields are the keys of the rule's table.

    A rule is pure: it never logs, never waits, never asks for the time, never remembers. What it must know of the past
    is a fact of the account, which the ledger keeps; what no account keeps yet, a rule may declare in ``facts``, and
    find in ``state.facts`` under ``rule.fact``.
    """

    facts: ClassVar[Mapping[str, Fact]] = {}
    rungs: ClassVar[tuple[int, ...] | None] = None
    """At which shares of its limit, in percent, to warn; None: where the settings say. 0: as soon as it is measured."""

    @abstractmethod
    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Return what is broken in ``state``, which ``event`` has just been folded into; None while all is well."""

    def judge_again_at(self, state: AccountState) -> datetime | None:
        """Return the moment at which the rule must be judged though nothing happens; None when there is none."""
        return None

    def next_moment(self, state: AccountState, after: datetime) -> datetime | None:
        """Return the next moment as ``judge_again_at`` does, of several the first that is later than ``after``."""
        return self.judge_again_at(state)

    def keeps(self, lock: Lockout, state: AccountState) -> bool:
        """Return whether a lock that this rule set goes on waiting for its condition; False ends it.

        Asked about the rule's locks that have a condition, before every judgement. No other lock can be ended so.
        """
        return True

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """Return why the rule cannot judge at ``at``; None while it can."""
        return None

    def reading_wanted_at(self, state: AccountState) -> datetime | None:
        """Return from when on a complete reading of what is open would tell the rule what it must know; else None."""
        return None

    def terms(self, terms: Terms) -> Terms:
        """Return the account's terms with what the rule's settings fix about how the ledger counts."""
        return terms

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """Return where the account stands against the rule's limit; None where it has none to show."""
        return None

    def products(self) -> frozenset[str]:
        """Return the tickers that the settings name; those that the broker does not know are told to the trader."""
        return frozenset()

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterable[Contradiction]:
        """Return what does not go together: settings of this rule with each other, with the other rules, the terms.

        ``others`` are the rules in force on the same account, by name. Asked once, when the settings are read.
        """
        return ()

    def near(self, measure: Measure, state: AccountState, at: datetime) -> str:
        """Return the words of a warning that the limit is near."""
        value, limit, left = measure.texts
        return f"{value} of {limit} ({measure.percent} %), {left} left"


def breach_of(rule: str, finding: Finding, state: AccountState, event: Event) -> Breach:
    """Make the breach of a finding. The same cause on the same account and day has the same id, also after a crash."""
    cause = finding.cause or moment_of(event)
    locks = [d for d in finding.decisions if isinstance(d, LockOut)]
    return Breach(
        id=_short_id((rule, str(state.id), cause)),
        rule=rule,
        account_id=state.id,
        at=event.at,
        cause=cause,
        reason=", ".join([finding.reason, *dict.fromkeys(_locked_until(lock, state) for lock in locks)]),
        figures=finding.figures,
        decisions=finding.decisions,
        on_record=finding.on_record,
    )


def moment_of(event: Event) -> str:
    """Return the cause of a breach that is the state at a moment, and nothing more particular."""
    return event.at.isoformat()


def _locked_until(lock: LockOut, state: AccountState) -> str:
    what = "locked" if lock.kind is LockKind.HARD else "cooling down"
    what = what if lock.scope == ACCOUNT_SCOPE else f"{lock.scope} {what}"
    if lock.condition:
        return f"{what} until {lock.condition}"
    if lock.until is None:
        return f"{what} until an administrator lifts it"
    until = lock.until.astimezone(state.terms.zone)
    seconds = ":%S" if until.second else ""
    return f"{what} until {until.strftime(f'%Y-%m-%d %H:%M{seconds} %Z')}"


def _short_id(parts: Iterable[str]) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
