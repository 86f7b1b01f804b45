"""Who watches. It knows the broker's books, the broker's log of requests, the journal's file, and what is claimed.

Nothing of the ledger, the rules or enforcement is imported here: who checks must not share the error.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from attrs import define, field

from flatguard.simulator.world import World as Double
from tests.sim.script import day_of

CHICAGO = ZoneInfo("America/Chicago")
OPEN_STATUSES = frozenset({1, 6, 7, 8})


@define
class View:
    """All that the invariants look at, at one moment. ``claims`` is what the daemon says of each account, if it runs.

    ``well_since`` is since when nothing is wrong with the world, in seconds of the run; None while something is.
    ``held_since`` remembers since when a condition holds, by its name.
    """

    double: Double
    accounts: tuple[int, ...]
    journal: Path
    requests: list[Mapping[str, Any]]
    secrets: tuple[str, ...]
    said: list[str]
    limits: Mapping[str, Any]
    elapsed: float = 0.0
    now: datetime = field(factory=lambda: datetime.max.replace(tzinfo=UTC))
    claims: Mapping[int, Mapping[str, Any]] = field(factory=dict)
    running: bool = False
    well_since: float | None = None
    protected_once: bool = False
    traded_since: float = 0.0
    held_since: dict[str, float] = field(factory=dict)
    memory: dict[str, Any] = field(factory=dict)
    _db: sqlite3.Connection | None = field(default=None, repr=False)

    # the broker's truth

    def sizes(self, account: int) -> dict[str, int]:
        """Return signed sizes by contract."""
        return {row.contract.id: row.size for row in self.double.books[account].positions.rows() if row.size}

    def working(self, account: int) -> dict[int, Any]:
        """Return the working orders by id."""
        return {row.id: row for row in self.double.books[account].orders.rows() if row.status in OPEN_STATUSES}

    def net_today(self, account: int) -> Decimal:
        """Return the day's realised P&L less all costs, from the broker's trades."""
        since = day_of(self.now, CHICAGO)
        rows = self.double.books[account].trades.rows()
        return sum((row.net for row in rows if row.created >= since and not row.voided), Decimal(0))

    # the journal

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask the journal's file."""
        if self._db is None:
            if not self.journal.exists():
                return []
            self._db = sqlite3.connect(f"file:{self.journal}?mode=ro", uri=True)
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            self._db.close()
            self._db = None
            return []

    def hard_locks(self, account: int) -> list[tuple[str, str | None]]:
        """Return the hard locks of the account that are not over: rule and end."""
        rows = self.rows(
            "SELECT rule, until FROM lockout WHERE account = ? AND scope = 'account' AND kind = 'hard'", account
        )
        return [(rule, until) for rule, until in rows if until is None or datetime.fromisoformat(until) > self.now]

    # patience

    def lasted(self, name: str, holds: object, allowed_s: float) -> bool:
        """Whether a condition has held for longer than is allowed, in a world in which nothing was wrong meanwhile."""
        if not holds or self.well_since is None or not self.running:
            self.held_since.pop(name, None)
            return False
        since = max(self.held_since.setdefault(name, self.elapsed), self.well_since)
        return self.elapsed - since > allowed_s

    def decisions(self) -> Iterator[tuple[str, int, str, list[Mapping[str, Any]], datetime]]:
        """Yield the breaches on record: id, account, rule, decisions, when."""
        for id_, account, rule, decisions, at in self.rows("SELECT id, account, rule, decisions, at FROM breach"):
            yield id_, account, rule, json.loads(decisions), datetime.fromisoformat(at)
