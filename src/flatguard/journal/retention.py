"""What was seen is let go after a while; what was decided and done stays, and the chain says what is gone.

Only rows go that a base and a checkpoint stand for, so that folding can begin at every day that is left, and only whole
links of the chain. The newest row stays: without it numbers would begin anew, before the checkpoint, and a restart
would not find what came since.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from typing import Any

from attrs import frozen

from flatguard.journal.chain import FORGOTTEN, Chain

FORGET_AT_ONCE = 20_000  # rows: more than an hour brings, and a fraction of a second
MERGE_AT_ONCE = 5_000  # links
PAGES_AT_ONCE = 2_000

_BASES = """
    SELECT base.account, max(base.seq) FROM base JOIN checkpoint USING (account)
    WHERE base.at < ? AND base.seq <= checkpoint.seq GROUP BY base.account
"""
_SHARE = "SELECT seq FROM tape WHERE account = ? AND seq <= ? ORDER BY seq LIMIT 1 OFFSET ?"
_WHOLE_LINKS = """
    SELECT tape_upto FROM chain WHERE tape_upto <= ? AND tape_upto < (SELECT max(seq) FROM tape)
    ORDER BY tape_upto DESC LIMIT 1
"""
_SPENT = """
    SELECT number, first, since, before, run, tape_from, tape_upto, others FROM chain
    WHERE number >= ? AND (tape_upto IS NULL OR tape_upto <= ?) ORDER BY number LIMIT ?
"""


@frozen
class _Link:
    number: int
    first: int
    since: str
    before: str
    run: int | None
    tape_from: int | None
    tape_upto: int | None
    others: list[list[Any]]


def forget(db: sqlite3.Connection, chain: Chain, before: datetime) -> None:
    """Let go of rows older than ``before``, some at a time, of bases before them, and of links that say no more."""
    for account, base in db.execute(_BASES, (before.isoformat(),)).fetchall():
        share = db.execute(_SHARE, (account, base, FORGET_AT_ONCE)).fetchone()
        row = db.execute(_WHOLE_LINKS, (base if share is None else share[0],)).fetchone()
        if row is not None:
            gone = db.execute("DELETE FROM tape WHERE account = ? AND seq <= ?", (account, row[0])).rowcount
            if gone:
                chain.add(before.isoformat() if not chain.at else None, FORGOTTEN, account, row[0])
        db.execute("DELETE FROM base WHERE account = ? AND seq < ?", (account, base))
    _merge(db)
    db.execute(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})").fetchall()


def _merge(db: sqlite3.Connection) -> None:
    """Let one row stand for neighbouring links that say no more than that rows were let go.

    It has the first one's hash before, the last one's hash, and the time between them. A link with another row stays
    as it is, and so does the last that says up to where an account's rows are gone.
    """
    oldest = db.execute("SELECT min(seq) FROM tape").fetchone()[0]
    if oldest is None:
        return
    merged = db.execute("SELECT coalesce(max(number), 1) FROM chain WHERE first < number").fetchone()[0]
    links = [
        _Link(number, first, since, before, run, start, upto, json.loads(others))
        for number, first, since, before, run, start, upto, others in db.execute(
            _SPENT, (merged, oldest - 1, MERGE_AT_ONCE)
        ).fetchall()
    ]
    last_word = {account: link.number for link in links for kind, account, *_ in link.others if kind == FORGOTTEN}
    group: list[_Link] = []
    for link in links:
        spent = all(kind == FORGOTTEN and last_word[account] > link.number for kind, account, *_ in link.others)
        if not spent or (group and (link.first, link.run) != (group[-1].number + 1, group[-1].run)):
            _stand_for(db, group)
            group = []
        if spent:
            group.append(link)
    _stand_for(db, group)


def _stand_for(db: sqlite3.Connection, group: list[_Link]) -> None:
    if len(group) < 2:
        return
    first, last = group[0], group[-1]
    db.execute("DELETE FROM chain WHERE number >= ? AND number < ?", (first.number, last.number))
    db.execute(
        "UPDATE chain SET first = ?, since = ?, before = ?, tape_from = ?, tape_upto = ?,"
        " tape = '{}', others = '[]', digest = '' WHERE number = ?",
        (
            first.first,
            first.since,
            first.before,
            min((link.tape_from for link in group if link.tape_from is not None), default=None),
            max((link.tape_upto for link in group if link.tape_upto is not None), default=None),
            last.number,
        ),
    )
