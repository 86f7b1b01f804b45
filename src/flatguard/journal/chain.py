"""Tamper evidence: what was written together is one link of a chain, and each link has the hash of the one before.

A link covers the rows of the tape that were appended, by account, and every other row that was appended. Rows that are
replaced in place (checkpoint, standing, lockout, a run's pulse) are in none; they follow from those that are. Whoever
writes the file can make a whole new chain: only its newest hash, noted elsewhere, proves that this was not done.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from attrs import define, field

if TYPE_CHECKING:
    from hashlib import _Hash

HEARTBEAT = timedelta(seconds=60)
MOST_ROWS = 5_000
"""Rows of the tape in one link: they are let go by whole links."""

TAPE = ("seq", "account", "at", "kind", "event", "judged", "run")
OTHERS: Mapping[str, tuple[str, ...]] = {
    "breach": ("account", "id", "rule", "at", "cause", "reason", "figures", "sources", "decisions", "run"),
    "step": (
        "id", "account", "breaches", "action", "contract", "detail", "sent_at", "answered_at", "outcome", "reason",
    ),
    "proof": ("id", "account", "breaches", "reached_at", "proven_at"),
    "run": ("id", "started_at", "version", "pid", "accounts", "settings"),
}  # fmt: skip
"""What never changes of the rows that are appended beside the tape; their keys come first."""
KEYS = {"breach": 2, "step": 1, "proof": 1, "run": 1}
STOPPED = "stopped"
FORGOTTEN = "forgotten"


def canonical(values: Iterable[object]) -> bytes:
    """Return the bytes that a row is hashed as."""
    return json.dumps(list(values), separators=(",", ":")).encode() + b"\n"


def link_hash(number: int, row: Iterable[object]) -> str:
    """Return the hash of a link: of its number and of ``at`` to ``before``, in the order of the table."""
    return sha256(canonical((number, *row))).hexdigest()


def beginning(journal_id: str) -> str:
    """Return what the first link of a journal comes after."""
    return sha256(journal_id.encode()).hexdigest()


@define
class Chain:
    """The end of a journal's chain, and what the next link will hold."""

    _db: sqlite3.Connection = field(repr=False)
    number: int = 0
    hash: str = ""
    at: str = ""
    _now: str = ""
    _start: int | None = None
    _upto: int | None = None
    _tape: dict[int, tuple[int, _Hash]] = field(factory=dict)
    _others: list[list[object]] = field(factory=list)
    _digest: _Hash = field(factory=sha256)
    _beats: bool = False
    _sealed: tuple[int, str, str] = (0, "", "")

    @classmethod
    def at_end_of(cls, db: sqlite3.Connection) -> Chain:
        """Return the chain of an open journal."""
        row = db.execute("SELECT number, hash, at FROM chain ORDER BY number DESC LIMIT 1").fetchone()
        if row is None:
            row = (0, beginning(db.execute("SELECT id FROM journal").fetchone()[0]), "")
        number, hash_, at = row
        return cls(db, number, hash_, at, now=at, sealed=(number, hash_, at))

    @property
    def is_new(self) -> bool:
        """Whether it has no link yet."""
        return self.number == 0

    def add_event(self, at: str, values: tuple[Any, ...]) -> None:
        """Take a row of the tape, its columns in the order of ``TAPE``."""
        seq, account = values[0], values[1]
        self._now = at
        self._start = seq if self._start is None else self._start
        self._upto = seq
        known = self._tape.get(account)
        count, digest = known if known is not None else (0, sha256())
        digest.update(canonical(values))
        self._tape[account] = (count + 1, digest)
        if seq - self._start >= MOST_ROWS - 1:
            self.seal(None)

    def add(self, at: str | None, table: str, *values: object) -> None:
        """Take another row: its columns in the order of ``OTHERS``. What has no row is its own key."""
        self._now = at or self._now
        self._others.append([table, *values[: KEYS.get(table, len(values))]])
        self._digest.update(canonical((table, *values)))

    def pulse(self, at: str) -> None:
        """Take the daemon's pulse: now and then it is a link, so that times without a daemon show."""
        self._now = at
        self._beats = not self.at or datetime.fromisoformat(at) - datetime.fromisoformat(self.at) >= HEARTBEAT

    def seal(self, run: int | None) -> None:
        """Append the link of all that was taken; none where that is nothing."""
        if self._start is None and not self._others and not self._beats:
            return
        tape = {str(a): [count, digest.hexdigest()] for a, (count, digest) in sorted(self._tape.items())}
        row = (
            self._now,
            run or None,
            self._start,
            self._upto,
            json.dumps(tape, separators=(",", ":")),
            json.dumps(self._others, separators=(",", ":")),
            self._digest.hexdigest() if self._others else "",
            self.hash,
        )
        self.number += 1
        self.at = self._now
        self.hash = link_hash(self.number, row)
        self._db.execute(
            "INSERT INTO chain"
            " (number, first, since, at, run, tape_from, tape_upto, tape, others, digest, before, hash)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (self.number, self.number, self._now, *row, self.hash),
        )
        self._clear()

    def written(self) -> None:
        """Say that what was sealed is on disk."""
        self._sealed = (self.number, self.hash, self.at)

    def undone(self) -> None:
        """Say that what was taken since the last group is not on disk."""
        self.number, self.hash, self.at = self._sealed
        self._now = self.at
        self._clear()

    def _clear(self) -> None:
        self._start = self._upto = None
        self._tape, self._others, self._digest, self._beats = {}, [], sha256(), False

    def take_all(self) -> None:
        """Take what an older program wrote, which had no chain."""
        for row in self._db.execute(f"SELECT {', '.join(TAPE)} FROM tape ORDER BY seq").fetchall():
            self.add_event(row[2], row)
        for table, columns in OTHERS.items():
            for row in self._db.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid"):
                self.add(None, table, *row)
        self.seal(None)
