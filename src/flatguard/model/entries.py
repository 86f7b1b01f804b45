"""What the journal writes down beside the events: what was found, what was sent, what came back, what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import frozen

from flatguard.model.account import AccountState
from flatguard.model.decisions import Breach, LimitNear
from flatguard.model.events import Event
from flatguard.model.ids import AccountId
from flatguard.model.lockouts import Lockout


@frozen
class Judged:
    """One event as the pipeline folded it, with all that judging it gave. Written as one piece.

    ``account_id`` is the account that it was folded into. ``locks`` are the account's lockouts after it, where it
    changed them, ``warned`` likewise.
    """

    account_id: AccountId
    event: Event
    found: tuple[Breach, ...] = ()
    cleared: tuple[str, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()
    locks: tuple[Lockout, ...] | None = None
    near: tuple[LimitNear, ...] = ()
    warned: Mapping[str, int] | None = None

    @property
    def changed(self) -> bool:
        """Whether judging gave anything."""
        found_something = self.found or self.cleared or self.failed or self.near
        return bool(found_something) or self.locks is not None or self.warned is not None


@frozen
class StepTaken:
    """One request of enforcement: which breaches called for it, what was asked, when, and how it ended."""

    account_id: AccountId
    breaches: tuple[str, ...]
    action: str
    contract_id: str
    detail: str
    sent_at: datetime
    answered_at: datetime
    outcome: str
    reason: str


@frozen
class EndStateProven:
    """The account was seen in the end state that the breaches called for.

    ``reached_at`` is when it was first seen there, ``proven_at`` when two complete readings had agreed.
    """

    account_id: AccountId
    breaches: tuple[str, ...]
    reached_at: datetime
    proven_at: datetime


@frozen
class Checkpoint:
    """An account's state after everything posted before it: recovery starts from the newest."""

    state: AccountState


@frozen
class Standing:
    """The facts of one account as ``status`` shows them, a JSON object. The newest replaces the one before."""

    account_id: AccountId
    at: datetime
    body: str


@frozen
class RunStarted:
    """A daemon began to guard. ``settings`` is the text in force, without secrets."""

    at: datetime
    version: str
    pid: int
    accounts: tuple[AccountId, ...]
    settings: str


@frozen
class RunStopped:
    """The daemon ended cleanly; after a crash there is none."""

    at: datetime


@frozen
class Alive:
    """The daemon's pulse and what it says of its links, a JSON object. The newest replaces the one before."""

    at: datetime
    link: str


@frozen
class Forgotten:
    """What was folded before ``before`` is let go, some of it at a time; what was decided and done stays."""

    before: datetime


Entry = Judged | StepTaken | EndStateProven | Checkpoint | Standing | RunStarted | RunStopped | Alive | Forgotten
