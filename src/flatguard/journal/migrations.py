"""The steps of the schema: a new journal takes all of them, an older one those that it lacks, after a backup.

All that are lacking are one transaction, so a step that fails leaves the file as it was.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import chain, count
from pathlib import Path

from flatguard.errors import FlatguardError, JournalDamaged, JournalUnavailable


def steps() -> list[Traversable]:
    """Return the steps in order."""
    schema = files("flatguard.journal").joinpath("schema")
    return sorted((step for step in schema.iterdir() if step.name.endswith(".sql")), key=lambda step: step.name)


def create(path: Path, now: datetime) -> None:
    """Make an empty journal beside ``path`` and give it that name when it is whole."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished, isolation_level=None)) as db:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        _take_steps(db, 0, now)
    unfinished.rename(path)


def migrate(db: sqlite3.Connection, path: Path, now: datetime) -> None:
    """Bring the schema up to date. Raises FlatguardError with the place of the backup where a step fails."""
    done = int(db.execute("PRAGMA user_version").fetchone()[0])
    if done == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        raise JournalDamaged(f"the journal {path} is damaged: it is empty")
    if done == 0:
        raise FlatguardError(f"{path} is another program's database", hint="set another journal.path")
    if done > len(steps()):
        raise FlatguardError(
            f"the journal {path} was written by a newer flatguard", hint="run that one, or set another journal.path"
        )
    db.execute("PRAGMA journal_mode = WAL")
    if done == len(steps()):
        return
    backup = _back_up(db, path, done, now)
    try:
        _take_steps(db, done, now)
    except sqlite3.Error as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise JournalUnavailable(
            f"the journal {path} cannot be used: bringing it from version {done} to {len(steps())} failed ({error}); "
            f"it is as it was, and a backup is at {backup}",
            hint="check the disk; if that is sound, run the flatguard that wrote it, and report this",
        ) from None


def _back_up(db: sqlite3.Connection, path: Path, done: int, now: datetime) -> Path:
    """Copy the journal beside itself and return where. Never overwrites."""
    name = f"{path.name}.version-{done}-{now:%Y%m%dT%H%M%SZ}"
    target = next(p for p in (path.with_name(n) for n in _numbered(name)) if not p.exists())
    try:
        target.touch(mode=0o600)
        with closing(sqlite3.connect(target)) as copy:
            db.backup(copy)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


def _numbered(name: str) -> Iterator[str]:
    return chain((name,), (f"{name}-{number}" for number in count(2)))


def _take_steps(db: sqlite3.Connection, done: int, now: datetime) -> None:
    lacking = list(enumerate(steps()[done:], done + 1))
    sql = "\n".join(step.read_text("utf-8") for _, step in lacking)
    db.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {done + len(lacking)};")
    db.executemany(
        "INSERT INTO migration (version, applied_at, description) VALUES (?, ?, ?)",
        [(number, now.isoformat(), _description(step)) for number, step in lacking],
    )
    db.execute("COMMIT")


def _description(step: Traversable) -> str:
    return step.name.removesuffix(".sql").partition("_")[2].replace("_", " ")
