"""What was decided, what was asked of the broker then, and what came of it: questions for ``why`` and ``history``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from flatguard.errors import NotOnRecord
from flatguard.journal.reading import StepRow, reading

_COLUMNS = "id, account, rule, at, cause, reason, figures, sources, decisions, run"
_FOR_EVER = "9999"

WITH_SOURCES = 5  # the version of the schema


@frozen
class Decision:
    """A breach as it was written down. ``calls_for`` are the end states, as tables by their ``_type``."""

    id: str
    account: int
    rule: str
    at: datetime
    cause: str
    reason: str
    figures: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, str], ...]
    calls_for: tuple[Mapping[str, Any], ...]
    run: int

    @property
    def locks(self) -> tuple[Mapping[str, Any], ...]:
        """The locks that it called for."""
        return tuple(wanted for wanted in self.calls_for if wanted["_type"] == "LockOut")


@frozen
class Outcome:
    """What was asked for a decision, and when the end state was seen and proven."""

    steps: tuple[StepRow, ...] = ()
    reached_at: datetime | None = None
    proven_at: datetime | None = None


@frozen
class Cause:
    """The event after which a rule found something, as the tape holds it."""

    seq: int
    at: datetime
    kind: str
    event: Mapping[str, Any]


@frozen
class Lock:
    """A lockout as it was last written, in force or over; ``breach`` is the decision that it came of."""

    account: int
    rule: str
    scope: str
    kind: str
    condition: str
    since: datetime
    until: datetime | None
    reason: str
    breach: str


@frozen
class Near:
    """That a limit was near."""

    account: int
    rule: str
    at: datetime
    percent: int
    text: str


@frozen
class RunOf:
    """The run in which something was decided: when it began, of which version, and the settings in force as text."""

    started_at: datetime
    version: str
    settings: str


@frozen
class Decided:
    """A journal, open for questions, as of one moment."""

    db: sqlite3.Connection

    def starting_with(self, prefix: str) -> tuple[Decision, ...]:
        """Return the decisions whose id begins with ``prefix``, oldest first."""
        return self._decisions("substr(id, 1, ?) = ? ORDER BY at", (len(prefix), prefix))

    def between(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        rule: str | None = None,
        account: int | None = None,
        most: int = -1,
    ) -> tuple[Decision, ...]:
        """Return the newest decisions, at ``most`` so many, newest last."""
        newest = self._decisions(
            "at >= ? AND at < ? AND rule = coalesce(?, rule) AND account = coalesce(?, account)"
            " ORDER BY at DESC, rowid DESC LIMIT ?",
            (_text(since, ""), _text(until, _FOR_EVER), rule, account, most),
        )
        return newest[::-1]

    def _decisions(self, which: str, values: Sequence[object]) -> tuple[Decision, ...]:
        rows = self.db.execute(f"SELECT {_COLUMNS} FROM breach WHERE {which}", values)
        return tuple(
            Decision(
                id=row[0],
                account=row[1],
                rule=row[2],
                at=_time(row[3]),
                cause=row[4],
                reason=row[5],
                figures=_pairs(row[6]),
                sources=_pairs(row[7]),
                calls_for=tuple(json.loads(row[8])),
                run=row[9],
            )
            for row in rows
        )

    def outcomes(self, decisions: Sequence[Decision]) -> Mapping[str, Outcome]:
        """Return by id what came of ``decisions``."""
        taken: dict[str, list[StepRow]] = {decision.id: [] for decision in decisions}
        proofs: dict[str, tuple[datetime, datetime]] = {}
        since = min((decision.at for decision in decisions), default=None)
        for row in self.db.execute(
            "SELECT breaches, action, contract, detail, sent_at, answered_at, outcome, reason FROM step"
            " WHERE answered_at >= ? ORDER BY id",
            (_text(since, _FOR_EVER),),
        ):
            for breach in json.loads(row[0]):
                if breach in taken:
                    taken[breach].append(StepRow(row[1], row[2], row[3], _time(row[4]), _time(row[5]), row[6], row[7]))
        for breaches, reached, proven in self.db.execute(
            "SELECT breaches, reached_at, proven_at FROM proof WHERE proven_at >= ? ORDER BY id",
            (_text(since, _FOR_EVER),),
        ):
            for breach in json.loads(breaches):
                proofs.setdefault(breach, (_time(reached), _time(proven)))
        return {
            decision.id: Outcome(tuple(taken[decision.id]), *proofs.get(decision.id, (None, None)))
            for decision in decisions
        }

    def cause_of(self, decision: Decision) -> Cause | None:
        """Return the event after which it was found; None once the tape has let go of it."""
        row = self.db.execute(
            "SELECT seq, at, kind, event FROM tape WHERE account = ? AND at = ? AND instr(judged, ?) ORDER BY seq",
            (decision.account, decision.at.isoformat(), decision.id),
        ).fetchone()
        return None if row is None else Cause(row[0], _time(row[1]), row[2], json.loads(row[3]))

    def warnings(
        self,
        since: datetime | None = None,
        until: datetime | None = None,
        rule: str | None = None,
        account: int | None = None,
    ) -> tuple[Near, ...]:
        """Return when limits were near, oldest first, as far back as the tape goes."""
        rows = self.db.execute(
            "SELECT judged FROM tape WHERE instr(judged, 'percent') AND at >= ? AND at < ?"
            " AND account = coalesce(?, account) ORDER BY seq",
            (_text(since, ""), _text(until, _FOR_EVER), account),
        )
        return tuple(
            Near(near["account_id"], near["rule"], _time(near["at"]), near["percent"], near["text"])
            for (judged,) in rows
            for near in json.loads(json.loads(judged).get("near", "[]"))
            if rule in {None, near["rule"]}
        )

    def locks(self) -> tuple[Lock, ...]:
        """Return every lockout that is written down."""
        rows = self.db.execute(
            "SELECT account, rule, scope, kind, condition, since, until, reason, breach FROM lockout ORDER BY 1, 6, 2"
        )
        return tuple(
            Lock(
                account=row[0],
                rule=row[1],
                scope=row[2],
                kind=row[3],
                condition=row[4],
                since=_time(row[5]),
                until=None if row[6] is None else _time(row[6]),
                reason=row[7],
                breach=row[8],
            )
            for row in rows
        )

    def run(self, number: int) -> RunOf | None:
        """Return a run by its number."""
        row = self.db.execute("SELECT started_at, version, settings FROM run WHERE id = ?", (number,)).fetchone()
        return None if row is None else RunOf(_time(row[0]), row[1], row[2])

    def rules(self) -> frozenset[str]:
        """Return the rules that have ever found something."""
        return frozenset(name for (name,) in self.db.execute("SELECT DISTINCT rule FROM breach"))

    def accounts(self) -> frozenset[int]:
        """Return the accounts that were ever guarded."""
        runs = self.db.execute("SELECT accounts FROM run")
        return frozenset(account for (accounts,) in runs for account in json.loads(accounts))


@contextmanager
def asking(path: Path) -> Iterator[Decided]:
    """Open the journal for questions while the block runs.

    Raises NotOnRecord where there is none, FlatguardError where it is of another version, JournalDamaged where it
    cannot be read.
    """
    with reading(path, needs=WITH_SOURCES) as db:
        if db is None:
            raise NotOnRecord(
                f"there is no journal at {path} yet", hint="flatguard run begins one; --config names settings"
            )
        yield Decided(db)


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in json.loads(text))


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _text(moment: datetime | None, otherwise: str) -> str:
    return otherwise if moment is None else moment.astimezone(UTC).isoformat()
