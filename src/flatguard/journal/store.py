"""The journal's file: opening, migrating, writing in groups, recovering. Blocking; called through one lane.

WAL with ``synchronous = FULL``: what was committed survives a power cut.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import define, field, frozen

from flatguard.errors import FlatguardError, JournalDamaged, JournalUnavailable
from flatguard.journal.chain import OTHERS, STOPPED, Chain
from flatguard.journal.codec import decode, encode
from flatguard.journal.migrations import create, migrate
from flatguard.journal.retention import forget
from flatguard.journal.tape import TapeRow, judged_text, tape_row
from flatguard.model.account import AccountState
from flatguard.model.decisions import Decision
from flatguard.model.entries import (
    Alive,
    Checkpoint,
    EndStateProven,
    Entry,
    Forgotten,
    Judged,
    RunStarted,
    RunStopped,
    Standing,
    StepTaken,
)
from flatguard.model.ids import AccountId
from flatguard.model.lockouts import Lockout

BUSY_S = 5.0
APPEND_EVENT = "INSERT INTO tape (account, at, kind, event, judged, run) VALUES (?, ?, ?, ?, ?, ?)"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    _chain: Chain = field(repr=False)
    id: str
    _run: int = 0
    _started_at: str = EPOCH.isoformat()
    _based: dict[AccountId, tuple[int, str]] = field(factory=dict, repr=False)

    @classmethod
    def open(cls, path: Path, now: datetime = EPOCH) -> Store:
        """Open the journal at ``path``, creating or migrating it; ``now`` is for the record of that.

        Raises JournalDamaged where the file is not a sound journal, JournalUnavailable where it cannot be opened now,
        FlatguardError where it is none of ours. A file
        that is there and empty was emptied: a new journal appears under its name only once it is whole.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                create(path, now)
            db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.OperationalError) as error:
            raise JournalUnavailable(
                f"the journal {path} cannot be opened: {error}", hint="check journal.path and its folder's permissions"
            ) from None
        try:
            path.chmod(0o600)
            migrate(db, path, now)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA foreign_keys = ON")
            store = cls(path, db, Chain.at_end_of(db), _id_of(db))
            if store._chain.is_new:
                store.write(())
        except FlatguardError:
            db.close()
            raise
        except OSError as error:
            db.close()
            raise JournalUnavailable(
                f"the journal {path} cannot be opened: {error}", hint="check the file's owner"
            ) from None
        except sqlite3.OperationalError as error:  # a disk, a lock or a mode; damage is another class
            db.close()
            raise JournalUnavailable(f"the journal {path} cannot be used: {error}", hint="check the disk") from None
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter: SQLite quotes what it found
            db.close()
            raise JournalDamaged(f"the journal {path} is damaged: {error}") from None
        return store

    @classmethod
    @contextmanager
    def copied(cls, path: Path, now: datetime) -> Iterator[Store]:
        """Open a copy of a journal that cannot be opened itself, to read what it holds while the block runs.

        Raises OSError where it cannot be copied, else as ``open`` does.
        """
        with TemporaryDirectory(prefix="flatguard-") as folder:
            copy = Path(folder) / "journal.db"
            for suffix in ("", "-wal"):
                source = path.with_name(path.name + suffix)
                if source.exists():
                    copy.with_name(copy.name + suffix).write_bytes(source.read_bytes())
            with closing(cls.open(copy, now)) as store:
                yield store

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def set_aside(self, now: datetime) -> Path:
        """Close the file, move it out of the way as it was, and return where it went.

        It is moved while open: closed under its name, SQLite would fold the log into it.
        """
        try:
            target = set_aside(self.path, now)
        except PermissionError:  # Windows does not move an open file
            self.close()
            return set_aside(self.path, now)
        self.close()
        return target

    def write(self, entries: Iterable[Entry]) -> None:
        """Write ``entries`` in one transaction: all of them are durable when this returns, or none.

        Raises sqlite3.Error where the disk does not take them; they may be written again later.
        """
        known = self._run, self._started_at, dict(self._based)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if self._chain.is_new:
                self._chain.take_all()
            for entry in entries:
                self._write_one(entry)
            self._chain.seal(self._run)
            self._db.execute("COMMIT")
            self._chain.written()
        except BaseException:
            self._chain.undone()
            self._run, self._started_at, self._based = known
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _write_one(self, entry: Entry) -> None:
        match entry:
            case Judged():
                self._write_judged(entry)
            case StepTaken():
                self._append(
                    "step",
                    entry.answered_at,
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
                self._append(
                    "proof",
                    entry.proven_at,
                    account=entry.account_id,
                    breaches=json.dumps(entry.breaches),
                    reached_at=entry.reached_at.isoformat(),
                    proven_at=entry.proven_at.isoformat(),
                )
            case Checkpoint(state):
                self._write_checkpoint(state)
            case Standing(account_id, at, body):
                self._replace("standing", account=account_id, at=at.isoformat(), body=body)
            case RunStarted():
                self._append(
                    "run",
                    entry.at,
                    started_at=entry.at.isoformat(),
                    alive_at=entry.at.isoformat(),
                    version=entry.version,
                    pid=entry.pid,
                    accounts=json.dumps(entry.accounts),
                    settings=entry.settings,
                    link="{}",
                )
                self._run = self._db.execute("SELECT max(id) FROM run").fetchone()[0]
                self._started_at = entry.at.isoformat()
            case RunStopped(at):
                self._db.execute("UPDATE run SET stopped_at = ? WHERE id = ?", (at.isoformat(), self._run))
                self._chain.add(at.isoformat(), STOPPED, self._run, at.isoformat())
            case Forgotten(before):
                forget(self._db, self._chain, before)
            case Alive(at, link):
                self._db.execute(
                    "UPDATE run SET alive_at = ?, link = ? WHERE id = ?", (at.isoformat(), link, self._run)
                )
                self._chain.pulse(at.isoformat())

    def _write_judged(self, entry: Judged) -> None:
        at = entry.event.at.isoformat()
        event = (entry.account_id, at, type(entry.event).__name__, encode(entry.event), judged_text(entry), self._run)
        seq = self._db.execute(APPEND_EVENT, event).lastrowid
        self._chain.add_event(at, (seq, *event))
        for breach in entry.found:
            self._append(
                "breach",
                entry.event.at,
                account=breach.account_id,
                id=breach.id,
                rule=breach.rule,
                at=breach.at.isoformat(),
                cause=breach.cause,
                reason=breach.reason,
                figures=json.dumps(breach.figures),
                sources=json.dumps(breach.sources),
                decisions=encode(breach.decisions, tuple[Decision, ...]),
                run=self._run,
            )
        if entry.locks is not None:
            self._write_lockouts(entry.account_id, entry.locks)

    def _write_checkpoint(self, state: AccountState) -> None:
        """Write down where an account stands; the first time in a run or a trading day, for replays too."""
        seq, text = self._last_seq(), encode(state)
        self._replace("checkpoint", account=state.id, seq=seq, state=text)
        self._write_lockouts(state.id, state.lockouts)
        day = "" if state.today is None else state.today.label.isoformat()
        if self._based.get(state.id) != (self._run, day):
            self._replace("base", account=state.id, seq=seq, run=self._run, day=day, at=self._now(state.id), state=text)
            self._based[state.id] = (self._run, day)

    def _now(self, account_id: AccountId) -> str:
        """Return the account's time: that of its last row, or when the run began if that was later."""
        row = self._db.execute("SELECT at FROM tape WHERE account = ? ORDER BY seq DESC LIMIT 1", (account_id,))
        return max((row.fetchone() or ("",))[0], self._started_at)

    def _write_lockouts(self, account_id: AccountId, lockouts: Iterable[Lockout]) -> None:
        """Write down all that an account has: one whose condition has come true is not among them any more."""
        self._db.execute("DELETE FROM lockout WHERE account = ?", (account_id,))
        for lock in lockouts:
            self._replace(
                "lockout",
                account=lock.account_id,
                rule=lock.rule,
                scope=lock.scope,
                since=lock.since.isoformat(),
                until=None if lock.until is None else lock.until.isoformat(),
                reason=lock.reason,
                breach=lock.breach,
                kind=lock.kind,
                condition=lock.condition,
            )

    def _append(self, table: str, when: datetime, /, **row: object) -> None:
        """Write a row that stays as it is. A breach found again after a crash is the same breach."""
        values = tuple(map(_storable, row.values()))
        cursor = self._put("INSERT OR IGNORE" if table == "breach" else "INSERT", table, **row)
        if cursor.rowcount:
            key = () if table == "breach" else (cursor.lastrowid,)
            of = dict(zip(row, values, strict=True))
            rest = (of[name] for name in OTHERS[table][len(key) :])
            self._chain.add(when.isoformat(), table, *key, *rest)

    def _replace(self, table: str, **row: object) -> None:
        self._put("INSERT OR REPLACE", table, **row)

    def _put(self, verb: str, table: str, **row: object) -> sqlite3.Cursor:
        columns = ", ".join(row)
        marks = ", ".join("?" * len(row))
        return self._db.execute(
            f"{verb} INTO {table} ({columns}) VALUES ({marks})", tuple(map(_storable, row.values()))
        )

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
            yield tape_row(kind, event, judged)


def _id_of(db: sqlite3.Connection) -> str:
    return str(db.execute("SELECT id FROM journal").fetchone()[0])


def _storable(value: object) -> object:
    """Return ``value`` as SQLite takes it: half a character, which a broker may send, becomes its escape."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


COMPANIONS = ("", "-wal", "-shm")


def set_aside(path: Path, now: datetime) -> Path:
    """Move a damaged journal out of the way, with its companions, and return where it went. Never overwrites."""
    name = f"{path.name}.damaged-{now:%Y%m%dT%H%M%SZ}"
    names = chain((name,), (f"{name}-{number}" for number in count(2)))
    target = next(path.with_name(n) for n in names if not any(path.with_name(n + c).exists() for c in COMPANIONS))
    for suffix in COMPANIONS:
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(target.with_name(target.name + suffix))
    return target
