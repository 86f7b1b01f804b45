"""Questions to a journal that another process may be writing: read-only, with nothing but the standard library."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from flatguard.errors import FlatguardError, JournalDamaged

NEWEST = 5
"""The version of the schema that this program writes."""


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
    with reading(path) as db:
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
    with reading(path) as db:
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


@frozen
class RunRow:
    """A run of a daemon. ``settings`` is what was in force, as JSON text; ``stopped_at`` is None after a crash."""

    id: int
    started_at: datetime
    stopped_at: datetime | None
    alive_at: datetime
    version: str
    accounts: tuple[int, ...]
    settings: str


@frozen
class EventText:
    """One row of the tape as it was written; ``flatguard.journal.tape.tape_row`` makes values of it.

    ``run`` is 0 in rows that are older than this knowledge.
    """

    seq: int
    run: int
    at: datetime
    kind: str
    event: str
    judged: str | None


@frozen
class BaseText:
    """An account's state after row ``seq`` of the tape, as it was written: folding can begin with the row behind it.

    The first of a run is what the run began with: of that before it, it has what outlives a process.
    """

    seq: int
    run: int
    day: str
    at: datetime
    state: str


@frozen
class Past:
    """What a journal still has of the past, as of one moment."""

    db: sqlite3.Connection

    def runs(self) -> tuple[RunRow, ...]:
        """Return every run, oldest first."""
        return tuple(
            RunRow(
                id_,
                _time(started),
                None if stopped is None else _time(stopped),
                _time(alive),
                version,
                tuple(json.loads(accounts)),
                settings,
            )
            for id_, started, stopped, alive, version, accounts, settings in self.db.execute(
                "SELECT id, started_at, stopped_at, alive_at, version, accounts, settings FROM run ORDER BY id"
            )
        )

    def accounts(self) -> tuple[int, ...]:
        """Return the accounts of which there is a state to begin at."""
        return tuple(row[0] for row in self.db.execute("SELECT DISTINCT account FROM base ORDER BY account"))

    def bases(self, account: int) -> tuple[BaseText, ...]:
        """Return the states at which folding an account's tape can begin, oldest first."""
        return tuple(
            BaseText(seq, run, day, _time(at), state)
            for seq, run, day, at, state in self.db.execute(
                "SELECT seq, run, day, at, state FROM base WHERE account = ? ORDER BY seq", (account,)
            )
        )

    def base(self, account: int, seq: int | None = None, at: datetime | None = None) -> BaseText | None:
        """Return the newest state that is not after row ``seq``, nor after ``at``; None where there is none so old."""
        row = self.db.execute(
            "SELECT seq, run, day, at, state FROM base WHERE account = ? AND seq <= ? AND at <= ?"
            " ORDER BY seq DESC LIMIT 1",
            (account, _LAST if seq is None else seq, _FOR_EVER if at is None else _text(at)),
        ).fetchone()
        return None if row is None else BaseText(row[0], row[1], row[2], _time(row[3]), row[4])

    def checkpoint(self, account: int) -> tuple[int, str] | None:
        """Return where an account stood when that was last written down, and after which row."""
        row = self.db.execute("SELECT seq, state FROM checkpoint WHERE account = ?", (account,)).fetchone()
        return None if row is None else (row[0], row[1])

    def rows(self, account: int, after: int) -> int:
        """Return how many rows of an account are behind row ``after``."""
        return int(
            self.db.execute("SELECT count(*) FROM tape WHERE account = ? AND seq > ?", (account, after)).fetchone()[0]
        )

    def tape(
        self,
        account: int,
        *,
        after: int = 0,
        upto: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[EventText]:
        """Yield an account's rows in order: behind ``after`` up to ``upto``, from ``since`` to before ``until``."""
        for seq, run, at, kind, event, judged in self.db.execute(
            "SELECT seq, run, at, kind, event, judged FROM tape"
            " WHERE account = ? AND seq > ? AND seq <= ? AND at >= ? AND at < ? ORDER BY seq",
            (
                account,
                after,
                _LAST if upto is None else upto,
                "" if since is None else _text(since),
                _FOR_EVER if until is None else _text(until),
            ),
        ):
            yield EventText(seq, run, _time(at), kind, event, judged)


_LAST = 2**63 - 1
_FOR_EVER = "9999"


@contextmanager
def reading_past(path: Path) -> Iterator[Past | None]:
    """Look at the past while the block runs. None where there is no journal yet.

    Raises JournalDamaged where it cannot be read, or has not been opened by a daemon that knows of this.
    """
    with reading(path, needs=3) as db:
        yield None if db is None else Past(db)


@contextmanager
def reading(path: Path, needs: int = 2) -> Iterator[sqlite3.Connection | None]:
    """Open the journal for reading; the block sees one moment of it. None where there is none, or no schema in it."""
    if not path.exists():
        yield None
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as db:
            db.execute("BEGIN")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > NEWEST:
                raise FlatguardError(
                    f"the journal {path} was written by a newer flatguard (version {version}, not {NEWEST})",
                    hint="read it with that one",
                )
            if needs > version > 0:
                raise FlatguardError(
                    f"the journal {path} was written by an older flatguard (version {version}, not {needs})",
                    hint="start the daemon: it brings its journal up to date, after a backup",
                )
            yield db if version else None
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise _unreadable(path, error) from None
        raise FlatguardError(f"the journal {path} is locked by another program", hint="try again later") from None
    except (sqlite3.Error, LookupError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> JournalDamaged:
    return JournalDamaged(
        f"the journal {path} cannot be read: {error}",
        hint="start the daemon: it sets a damaged journal aside, and its accounts count as locked until the reset",
    )


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


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
