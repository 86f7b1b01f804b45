"""The journal's file: opening, migrating, writing in groups, recovering. Blocking; called through one lane.

WAL with ``synchronous = FULL``: what was committed survives a power cut.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from attrs import define, field, frozen

from flatguard.errors import FlatguardError, JournalDamaged
from flatguard.journal.codec import EVENT_KINDS, decode, encode
from flatguard.model.account import AccountState
from flatguard.model.decisions import Breach, Decision
from flatguard.model.entries import (
    Alive,
    Checkpoint,
    EndStateProven,
    Entry,
    Judged,
    RunStarted,
    RunStopped,
    Standing,
    StepTaken,
)
from flatguard.model.events import Event
from flatguard.model.ids import AccountId

BUSY_S = 5.0


@frozen
class TapeRow:
    """One event as it was folded, with what was found and what had cleared."""

    event: Event
    found: tuple[Breach, ...]
    cleared: tuple[str, ...]


@frozen
class Recovered:
    """What the journal knows of an account: its newest checkpoint, if any, and the tape behind it."""

    state: AccountState | None
    tape: tuple[TapeRow, ...]


@define
class Store:
    """An open journal. Use from one thread at a time."""

    path: Path
    _db: sqlite3.Connection = field(repr=False)
    _run: int = 0

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the journal at ``path``, creating or migrating it.

        Raises JournalDamaged where the file is not a sound journal, FlatguardError where it cannot be opened.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as error:
            raise FlatguardError(
                f"the journal {path} cannot be opened: {error}", hint="check journal.path and its folder's permissions"
            ) from None
        try:
            path.chmod(0o600)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            _migrate(db)
        except sqlite3.OperationalError as error:
            db.close()
            raise FlatguardError(f"the journal {path} cannot be used: {error}", hint="check the disk") from None
        except sqlite3.DatabaseError as error:
            db.close()
            raise JournalDamaged(f"the journal {path} is damaged: {error}") from None
        return cls(path, db)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def write(self, entries: Iterable[Entry]) -> None:
        """Write ``entries`` in one transaction: all of them are durable when this returns, or none.

        Raises sqlite3.Error where the disk does not take them; they may be written again later.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for entry in entries:
                self._write_one(entry)
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _write_one(self, entry: Entry) -> None:
        match entry:
            case Judged():
                self._write_judged(entry)
            case StepTaken():
                self._insert(
                    "step",
                    account=entry.account_id,
                    breaches=json.dumps(entry.breaches),
                    action=entry.action,
                    contract=entry.contract_id,
                    detail=entry.detail,
                    sent_at=entry.sent_at.isoformat(),
                    answered_at=entry.answered_at.isoformat(),
                    outcome=entry.outcome,
                    reason=entry.reason,
                )
            case EndStateProven():
                self._insert(
                    "proof",
                    account=entry.account_id,
                    breaches=json.dumps(entry.breaches),
                    reached_at=entry.reached_at.isoformat(),
                    proven_at=entry.proven_at.isoformat(),
                )
            case Checkpoint(state):
                self._replace("checkpoint", account=state.id, seq=self._last_seq(), state=encode(state))
            case Standing(account_id, at, body):
                self._replace("standing", account=account_id, at=at.isoformat(), body=body)
            case RunStarted():
                self._insert(
                    "run",
                    started_at=entry.at.isoformat(),
                    alive_at=entry.at.isoformat(),
                    version=entry.version,
                    pid=entry.pid,
                    accounts=json.dumps(entry.accounts),
                    settings=entry.settings,
                    link="{}",
                )
                self._run = self._db.execute("SELECT max(id) FROM run").fetchone()[0]
            case RunStopped(at):
                self._db.execute("UPDATE run SET stopped_at = ? WHERE id = ?", (at.isoformat(), self._run))
            case Alive(at, link):
                self._db.execute(
                    "UPDATE run SET alive_at = ?, link = ? WHERE id = ?", (at.isoformat(), link, self._run)
                )

    def _write_judged(self, entry: Judged) -> None:
        judged = None
        if entry.found or entry.cleared or entry.failed:
            judged = json.dumps(
                {
                    "found": encode(entry.found, tuple[Breach, ...]),
                    "cleared": list(entry.cleared),
                    "failed": [list(failure) for failure in entry.failed],
                }
            )
        self._insert(
            "tape",
            account=entry.account_id,
            at=entry.event.at.isoformat(),
            kind=type(entry.event).__name__,
            event=encode(entry.event),
            judged=judged,
        )
        for breach in entry.found:
            self._insert(
                "breach",
                id=breach.id,
                account=breach.account_id,
                rule=breach.rule,
                at=breach.at.isoformat(),
                cause=breach.cause,
                reason=breach.reason,
                figures=json.dumps(breach.figures),
                decisions=encode(breach.decisions, tuple[Decision, ...]),
                run=self._run,
            )
        for lock in entry.locks or ():
            self._replace(
                "lockout",
                account=lock.account_id,
                rule=lock.rule,
                scope=lock.scope,
                since=lock.since.isoformat(),
                until=None if lock.until is None else lock.until.isoformat(),
                reason=lock.reason,
                breach=lock.breach,
            )

    def _insert(self, table: str, **row: object) -> None:
        self._put("INSERT OR IGNORE", table, row)

    def _replace(self, table: str, **row: object) -> None:
        self._put("INSERT OR REPLACE", table, row)

    def _put(self, verb: str, table: str, row: dict[str, object]) -> None:
        columns = ", ".join(row)
        marks = ", ".join("?" * len(row))
        self._db.execute(f"{verb} INTO {table} ({columns}) VALUES ({marks})", tuple(row.values()))

    def _last_seq(self) -> int:
        return int(self._db.execute("SELECT coalesce(max(seq), 0) FROM tape").fetchone()[0])

    def recover(self, account_id: AccountId) -> Recovered:
        """Return what is known of an account. Raises JournalDamaged where it cannot be read."""
        try:
            row = self._db.execute("SELECT seq, state FROM checkpoint WHERE account = ?", (account_id,)).fetchone()
            state = decode(row[1], AccountState) if row is not None else None
            tape = tuple(self._tape(account_id, row[0] if row is not None else 0))
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
            raise JournalDamaged(f"the journal {self.path} is damaged: {error}") from None
        return Recovered(state, tape)

    def _tape(self, account_id: AccountId, after: int) -> Iterator[TapeRow]:
        rows = self._db.execute(
            "SELECT kind, event, judged FROM tape WHERE account = ? AND seq > ? ORDER BY seq", (account_id, after)
        )
        for kind, event, judged in rows:
            found: tuple[Breach, ...] = ()
            cleared: tuple[str, ...] = ()
            if judged is not None:
                outcome = json.loads(judged)
                found = decode(outcome["found"], tuple[Breach, ...])
                cleared = tuple(outcome["cleared"])
            yield TapeRow(decode(event, EVENT_KINDS[kind]), found, cleared)


def _migrate(db: sqlite3.Connection) -> None:
    """Bring the schema up to date; a step and the record that it ran are one transaction."""
    done = int(db.execute("PRAGMA user_version").fetchone()[0])
    steps = sorted(entry.name for entry in files("flatguard.journal").joinpath("schema").iterdir())
    for number, name in enumerate((step for step in steps if step.endswith(".sql")), 1):
        if number <= done:
            continue
        sql = files("flatguard.journal").joinpath("schema", name).read_text("utf-8")
        db.executescript(f"BEGIN;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")


def set_aside(path: Path, now: datetime) -> Path:
    """Move a damaged journal out of the way, with its companions, and return where it went. Never overwrites."""
    target = path.with_name(f"{path.name}.damaged-{now:%Y%m%dT%H%M%SZ}")
    for suffix in ("", "-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(target.with_name(target.name + suffix))
    return target
