"""The record as JSON lines, for whoever wants to look at it with tools of their own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flatguard.journal.reading import reading

SCHEMA_VERSION = 1

_QUERIES = {
    "run": "SELECT id, started_at, stopped_at, alive_at, version, pid, accounts, settings FROM run"
    " WHERE started_at >= ? AND started_at < ? ORDER BY id",
    "breach": "SELECT id, account, run, rule, at, cause, reason, figures, decisions FROM breach"
    " WHERE at >= ? AND at < ? AND (? IS NULL OR account = ?) ORDER BY at",
    "step": "SELECT id, account, breaches, action, contract, detail, sent_at, answered_at, outcome, reason FROM step"
    " WHERE sent_at >= ? AND sent_at < ? AND (? IS NULL OR account = ?) ORDER BY id",
    "proof": "SELECT id, account, breaches, reached_at, proven_at FROM proof"
    " WHERE reached_at >= ? AND reached_at < ? AND (? IS NULL OR account = ?) ORDER BY id",
    "event": "SELECT seq, account, run, at, kind AS event_kind, event, judged FROM tape"
    " WHERE at >= ? AND at < ? AND (? IS NULL OR account = ?) ORDER BY seq",
}
_JSON = {"accounts", "settings", "breaches", "figures", "decisions", "event", "judged"}
_WITHIN = {"found", "locks", "near"}
"""What judging gave is JSON text within JSON text."""


def export(
    path: Path, since: datetime | None = None, until: datetime | None = None, account: int | None = None
) -> Iterator[str]:
    """Yield one JSON object a line, runs first and events last; none where there is no journal.

    ``since`` belongs to what is told, ``until`` no longer. Raises JournalDamaged where the file cannot be read.
    """
    times = ("" if since is None else _text(since), "9999" if until is None else _text(until))
    with reading(path, needs=3) as db:
        if db is None:
            return
        for kind, query in _QUERIES.items():
            cursor = db.execute(query, times if kind == "run" else (*times, account, account))
            names = [column[0] for column in cursor.description]
            for row in cursor:
                yield json.dumps({"schema_version": SCHEMA_VERSION, "kind": kind, **_told(names, row)})


def _told(names: list[str], row: sqlite3.Row | tuple[Any, ...]) -> dict[str, Any]:
    told = {name: json.loads(v) if name in _JSON and v is not None else v for name, v in zip(names, row, strict=True)}
    if told.get("judged"):
        told["judged"] = {
            name: json.loads(v) if name in _WITHIN and v is not None else v for name, v in told["judged"].items()
        }
    return told


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
