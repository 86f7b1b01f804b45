"""Is the record as it was written, and is it all there? Two questions, answered apart, from a journal read-only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from flatguard.journal.chain import FORGOTTEN, HEARTBEAT, KEYS, OTHERS, STOPPED, TAPE, beginning, canonical, link_hash
from flatguard.journal.reading import reading

GAP = 2 * HEARTBEAT + timedelta(seconds=30)
"""Longer than this without a link, nothing was recorded: every minute has one while a daemon runs."""


@frozen
class Gap:
    """A time of which there is no record. ``clean``: the daemon had been stopped, rather than ended or hung."""

    since: datetime
    until: datetime
    clean: bool


@frozen
class Head:
    """The newest link: whoever notes it elsewhere can later tell whether the end was cut off or made anew."""

    number: int
    at: datetime
    hash: str


@define
class Verdict:
    """What a journal is worth. ``findings`` speak against its integrity; gaps are about what was never written."""

    journal: str = ""
    findings: list[str] = field(factory=list)
    gaps: list[Gap] = field(factory=list)
    since: datetime | None = None
    links: int = 0
    rows: int = 0
    forgotten: dict[int, int] = field(factory=dict)
    merged: int = 0
    head: Head | None = None
    head_known: bool | None = None
    stopped: bool = False

    @property
    def intact(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.findings and self.head_known is not False


@frozen
class _Link:
    number: int
    first: int
    since: str
    at: str
    run: int | None
    tape_from: int | None
    tape_upto: int | None
    tape: dict[str, list[Any]]
    others: list[list[Any]]
    digest: str
    before: str
    hash: str
    sound: bool

    @property
    def name(self) -> str:
        return f"link {self.number} of {self.at}"


def verify(path: Path, head: str | None = None) -> Verdict | None:
    """Check a journal, against a head noted earlier where there is one. None where there is no journal.

    Raises JournalDamaged where the file cannot be read.
    """
    with reading(path, needs=4) as db:
        if db is None:
            return None
        return _verify(db, head)


def _verify(db: sqlite3.Connection, head: str | None) -> Verdict:
    verdict = Verdict(journal=str(db.execute("SELECT id FROM journal").fetchone()[0]))
    found = verdict.findings
    links = list(_links(db))
    for link in links:
        for kind, account, *rest in (tuple(other) for other in link.others):
            if kind == FORGOTTEN:
                verdict.forgotten[account] = max(rest[0], verdict.forgotten.get(account, 0))
    claimed: dict[str, set[tuple[Any, ...]]] = {table: set() for table in OTHERS}
    before, number, upto, at = beginning(verdict.journal), 0, None, None
    stopped = False
    for link in links:
        if not link.sound:
            found.append(f"{link.name} was changed: its hash does not fit what it says")
        if link.first != number + 1:
            found.append(f"links {number + 1} to {link.first - 1} are missing before {link.name}")
        elif link.before != before:
            found.append(f"{link.name} does not follow the link before it")
        if link.tape_from is not None and upto is not None and link.tape_from != upto + 1 and link.first == link.number:
            found.append(f"{link.name} does not begin behind row {upto} of the tape")
        before, number = link.hash, link.number
        upto = link.tape_upto if link.tape_upto is not None else upto
        if link.first < link.number:
            verdict.merged += link.number - link.first + 1
        else:
            found.extend(_tape(db, link, verdict))
            found.extend(_others(db, link, claimed))
        since, until = datetime.fromisoformat(link.since), datetime.fromisoformat(link.at)
        began_again = any(kind == "run" for kind, *_ in link.others)
        if at is not None and (since - at > GAP or (began_again and not stopped)):
            verdict.gaps.append(Gap(at, since, stopped))
        verdict.since = verdict.since or since
        at, stopped = until, any(kind == STOPPED for kind, *_ in link.others)
    found.extend(_unclaimed(db, claimed, upto or 0, verdict))
    if links:
        last = links[-1]
        verdict.links, verdict.stopped = last.number, stopped
        verdict.head = Head(last.number, datetime.fromisoformat(last.at), last.hash)
    if head is not None:
        verdict.head_known = any(link.hash == head for link in links)
    return verdict


def _links(db: sqlite3.Connection) -> Iterator[_Link]:
    for row in db.execute(
        "SELECT number, first, since, at, run, tape_from, tape_upto, tape, others, digest, before, hash"
        " FROM chain ORDER BY number"
    ):
        number, first, since, *hashed, hash_ = row
        tape, others = json.loads(hashed[4]), json.loads(hashed[5])
        sound = first < number or link_hash(number, hashed) == hash_
        at, run, start, upto, _, _, digest, before = hashed
        yield _Link(number, first, since, at, run, start, upto, tape, others, digest, before, hash_, sound)


def _tape(db: sqlite3.Connection, link: _Link, verdict: Verdict) -> Iterator[str]:
    """Say what is not right of a link's rows of the tape: those of an account that were let go are all gone."""
    if link.tape_from is None or link.tape_upto is None:
        return
    seen: dict[str, tuple[int, Any]] = {}
    query = f"SELECT {', '.join(TAPE)} FROM tape WHERE seq BETWEEN ? AND ? ORDER BY seq"
    for row in db.execute(query, (link.tape_from, link.tape_upto)):
        count, digest = seen.get(str(row[1]), (0, None))
        digest = sha256() if digest is None else digest
        digest.update(canonical(row))
        seen[str(row[1])] = count + 1, digest
        verdict.rows += 1
    where = f"rows {link.tape_from} to {link.tape_upto} of the tape, {link.name}"
    for account in sorted({*seen, *link.tape}):
        had, hash_ = link.tape.get(account, [0, None])
        has, digest = seen.get(account, (0, None))
        if verdict.forgotten.get(int(account), 0) >= link.tape_upto:
            if has:
                yield f"account {account}: {has} rows are among those that were let go ({where})"
        elif has != had:
            what = f"{had - has} were removed" if has < had else f"{has - had} were inserted"
            yield f"account {account}: {what} ({where})"
        elif digest is None or digest.hexdigest() != hash_:
            yield f"account {account}: at least one was changed ({where})"


def _others(db: sqlite3.Connection, link: _Link, claimed: dict[str, set[tuple[Any, ...]]]) -> Iterator[str]:
    digest, missing = sha256(), False
    for table, *key in link.others:
        if table not in OTHERS:
            digest.update(canonical((table, *key)))
            continue
        claimed[table].add(tuple(key))
        where = " AND ".join(f"{column} = ?" for column in OTHERS[table][: KEYS[table]])
        row = db.execute(f"SELECT {', '.join(OTHERS[table])} FROM {table} WHERE {where}", key).fetchone()
        if row is None:
            missing = True
            yield f"{table} {' '.join(map(str, key))} was removed ({link.name})"
        else:
            digest.update(canonical((table, *row)))
    if link.others and not missing and digest.hexdigest() != link.digest:
        yield f"{', '.join(sorted({str(other[0]) for other in link.others}))}: a row was changed ({link.name})"


def _unclaimed(
    db: sqlite3.Connection, claimed: dict[str, set[tuple[Any, ...]]], upto: int, verdict: Verdict
) -> Iterator[str]:
    behind = db.execute("SELECT count(*) FROM tape WHERE seq > ?", (upto,)).fetchone()[0]
    if behind:
        yield f"{behind} rows of the tape are in no link: they were inserted, or links were removed"
    begins = db.execute("SELECT coalesce(min(tape_from), 0) FROM chain WHERE first = number").fetchone()[0]
    ahead = db.execute("SELECT count(*) FROM tape WHERE seq < ?", (begins,)).fetchone()[0]
    if ahead:
        yield f"{ahead} rows of the tape come before all that is left"
    for table, columns in OTHERS.items():
        keys = ", ".join(columns[: KEYS[table]])
        for key in db.execute(f"SELECT {keys} FROM {table} ORDER BY {keys}"):
            if key not in claimed[table]:
                yield f"{table} {' '.join(map(str, key))} is in no link: it was inserted, or links were removed"
