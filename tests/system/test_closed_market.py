"""A breach that stands while the market is closed: it is told, it is tried rarely, and the opening ends it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

from flatguard.cli.narrate import attempt_in_words
from flatguard.rules.max_contracts import MaxContracts
from flatguard.simulator.options import Options
from tests.fakes.system import System, open_system

PAUSE = datetime(2026, 3, 18, 21, 0, tzinfo=UTC)  # Wednesday, 16:00 in Chicago
CLOSES = ("/api/Position/closeContract", "/api/Position/partialCloseContract")
REOPENING = datetime(2026, 3, 18, 22, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("enforcement", "left"), [("close_all", 0), ("reduce_to_limit", 2)], ids=["flat", "reduced to two"]
)
async def test_what_the_closed_market_keeps_open_is_closed_at_the_first_instant_of_the_next_session(
    tmp_path: Path, autojump_clock: object, enforcement: Literal["close_all", "reduce_to_limit"], left: int
) -> None:
    rules = {"max_contracts": MaxContracts(limit=2, enforcement=enforcement)}
    start = PAUSE - timedelta(seconds=20)
    async with open_system(tmp_path, rules, options=Options(sessions=True), start=start) as system:
        await system.until_protected()
        for path in CLOSES:
            await system.fault("error_unknown", target=path)  # until the market has closed
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 5 and system.stories())
        await system.until(lambda: system.clock.now() > PAUSE + timedelta(seconds=5), 60)
        await system.heal()
        await system.until(lambda: _opens(system), 30)
        await system.kill()
        await trio.sleep((REOPENING - timedelta(minutes=4) - system.clock.now()).total_seconds())
        await system.start()
        await system.until(lambda: _opens(system), 30)
        assert system.held("MNQ") == 5
        tries = sum(len(system.requests(path)) for path in CLOSES)
        await system.until(lambda: system.clock.now() >= REOPENING, 300)
        assert system.held("MNQ") == 5
        assert sum(len(system.requests(path)) for path in CLOSES) - tries < 8
        await system.until(lambda: system.held("MNQ") == left, 0.5)
        await system.until(lambda: all(story.proven_at for story in system.stories()), 10)
        assert system.held("MNQ") == left


def _opens(system: System) -> bool:
    """Whether the standing says that the close waits for the reopening."""
    assert system.at_work is not None
    entries: Any = system.at_work.standing(system.account_id)["enforcing"]
    zone = system.settings.trading_day.zone
    words = "waits for the market to open at Wed 17:00:00 CDT"
    return bool(entries) and all(attempt_in_words(entry, zone).endswith(words) for entry in entries)
