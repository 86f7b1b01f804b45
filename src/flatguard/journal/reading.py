"""Questions to a journal that another process may be writing: read-only, with nothing but the standard library."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from flatguard.errors import JournalDamaged


@frozen
class Run:
    """The newest run of a daemon. ``stopped_at`` is None while it runs, and after a crash."""

    started_at: datetime
    stopped_at: datetime | None
    alive_at: datetime
    version: str
    link: Mapping[str, Any]


@frozen
class LockoutRow:
    """A lockout as it was last written, in force or over."""

    account: int
    rule: str
    scope: str
    kind: str
    condition: str
    since: datetime
    until: datetime | None
    reason: str


@frozen
class StepRow:
    """One request of enforcement and its outcome."""

    action: str
    contract: str
    detail: str
    sent_at: datetime
    answered_at: datetime
    outcome: str
    reason: str


@frozen
class BreachStory:
    """A breach from finding to proof: what was asked of the broker, and when the end state was seen and proven."""

    id: str
    account: int
    rule: str
    at: datetime
    cause: str
    reason: str
    figures: tuple[tuple[str, str], ...]
    steps: tuple[StepRow, ...]
    reached_at: datetime | None
    proven_at: datetime | None
    locked_until: datetime | None


@frozen
class Facts:
    """What the journal says of the newest run. ``standings`` are by account: when written, and a JSON object."""

    run: Run | None
    standings: Mapping[int, tuple[datetime, Mapping[str, Any]]]
    lockouts: tuple[LockoutRow, ...]


def read_facts(path: Path) -> Facts:
    """Return what ``status`` shows. No run and no standings where there is no journal yet."""
    with _reading(path) as db:
        if db is None:
            return Facts(None, {}, ())
        row = db.execute(
            "SELECT started_at, stopped_at, alive_at, version, link FROM run ORDER BY id DESC LIMIT 1"
        ).fetchone()
        standings = {
            account: (datetime.fromisoformat(at), json.loads(body))
            for account, at, body in db.execute("SELECT account, at, body FROM standing")
        }
        return Facts(None if row is None else _run(row), standings, tuple(_lockouts(db)))


def read_stories(path: Path) -> tuple[BreachStory, ...]:
    """Return every breach with what came of it, oldest first. None where there is no journal yet."""
    with _reading(path) as db:
        if db is None:
            return ()
        steps = [
            (json.loads(row[0]), StepRow(row[1], row[2], row[3], _time(row[4]), _time(row[5]), row[6], row[7]))
            for row in db.execute(
                "SELECT breaches, action, contract, detail, sent_at, answered_at, outcome, reason FROM step ORDER BY id"
            )
        ]
        proofs = [
            (json.loads(breaches), _time(reached), _time(proven))
            for breaches, reached, proven in db.execute("SELECT breaches, reached_at, proven_at FROM proof ORDER BY id")
        ]
        stories = []
        for row in db.execute(
            "SELECT id, account, rule, at, cause, reason, figures, decisions FROM breach ORDER BY at"
        ):
            proof = next((p for p in proofs if row[0] in p[0]), None)
            stories.append(
                BreachStory(
                    id=row[0],
                    account=row[1],
                    rule=row[2],
                    at=_time(row[3]),
                    cause=row[4],
                    reason=row[5],
                    figures=tuple((name, value) for name, value in json.loads(row[6])),
                    steps=tuple(step for breaches, step in steps if row[0] in breaches),
                    reached_at=None if proof is None else proof[1],
                    proven_at=None if proof is None else proof[2],
                    locked_until=_locked_until(json.loads(row[7])),
                )
            )
        return tuple(stories)


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Open the journal for reading; the block sees one moment of it. None where there is none, or no schema in it."""
    if not path.exists():
        yield None
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as db:
            db.execute("BEGIN")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            yield db if version else None
    except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
        raise JournalDamaged(
            f"the journal {path} cannot be read: {error}",
            hint="start the daemon: it sets a damaged journal aside, and its accounts count as locked until the reset",
        ) from None


def _run(row: tuple[str, str | None, str, str, str]) -> Run:
    started, stopped, alive, version, link = row
    return Run(_time(started), None if stopped is None else _time(stopped), _time(alive), version, json.loads(link))


def _lockouts(db: sqlite3.Connection) -> Iterator[LockoutRow]:
    for account, rule, scope, kind, condition, since, until, reason in db.execute(
        "SELECT account, rule, scope, kind, condition, since, until, reason FROM lockout ORDER BY 1, 2, 3, 4, 5"
    ):
        end = None if until is None else _time(until)
        yield LockoutRow(account, rule, scope, kind, condition, _time(since), end, reason)


def _locked_until(decisions: list[dict[str, str | None]]) -> datetime | None:
    """Return the end of the lock that a breach called for; None where it called for none, or for one without end."""
    ends = [decision["until"] for decision in decisions if decision["_type"] == "LockOut"]
    return None if not ends or ends[0] is None else _time(ends[0])


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
