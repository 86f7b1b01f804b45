"""Every act explains itself, and the same tape gives the same decisions: a day over two restarts and the day's turn."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from click.testing import CliRunner, Result

from flatguard.cli import _record, cli
from flatguard.cli import history as history_command
from flatguard.cli import lockouts as lockouts_command
from flatguard.cli import why as why_command
from flatguard.rules._rule import Rule
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.settings.load import Settings
from flatguard.simulator.options import Options
from tests.fakes.entries import FIVE_PM
from tests.fakes.system import System, open_system

RULES: dict[str, Rule] = {
    "max_contracts": MaxContracts(limit=4, enforcement="reduce_to_limit"),
    "daily_realized_loss": DailyRealizedLoss(loss_limit=Decimal(500)),
}
BEGINS = FIVE_PM - timedelta(seconds=90)


async def the_day(system: System) -> None:
    """Trade too much; be restarted; lose too much; try again, locked; be killed; live into the next day."""
    await system.until_protected()
    await system.order("MNQ", 5)
    await system.until(lambda: system.held("MNQ") == 4 and system.stories() and system.stories()[0].proven_at)
    await system.stop()
    await system.start()
    await system.until_protected()
    await system.order("MNQ", -4)
    await system.price("ES", 5000)
    await system.order("ES", 2)
    await trio.sleep(2)
    await system.price("ES", 4994)
    await system.until(lambda: not system.held("ES") and not system.working())
    await trio.sleep(3)
    await system.order("MNQ", 1)
    await system.until(lambda: not system.held("MNQ"))
    await trio.sleep(3)
    await system.kill()
    await system.start()
    await system.until_protected()
    await system.until(lambda: system.clock.now() > FIVE_PM + timedelta(seconds=5), 200)
    await system.order("MNQ", 3)
    await system.until(lambda: system.held("MNQ") == 3)
    await system.order("MNQ", 3)
    await system.until(lambda: system.held("MNQ") == 4)
    await trio.sleep(5)
    await system.stop()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings under which the day was lived; their journal holds it."""
    folder = tmp_path_factory.mktemp("day")

    async def live() -> Settings:
        async with open_system(folder, RULES, options=Options(), start=BEGINS) as system:
            await the_day(system)
            return system.settings

    return trio.run(live, clock=trio.testing.MockClock(autojump_threshold=0))


Run = Callable[..., Result]


@pytest.fixture
def journal(recorded: Settings, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    copyfile(recorded.journal.path, tmp_path / "journal.db")
    return tmp_path / "journal.db"


@pytest.fixture
def run(recorded: Settings, journal: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line on that journal, ten seconds after the day has turned."""
    settings = evolve(recorded, journal=evolve(recorded.journal, path=journal))

    class Clock:
        def now(self) -> datetime:
            return FIVE_PM + timedelta(seconds=10)

    for room in (history_command, lockouts_command, why_command):
        monkeypatch.setattr(room, "SystemClock", Clock)
    monkeypatch.setattr(_record, "load", lambda _path, _environ: settings)
    return lambda *words: CliRunner().invoke(cli, words, catch_exceptions=False)


def facts(result: Result) -> Any:
    return json.loads(result.stdout)


def test_the_same_tape_gives_the_same_decisions_and_states(run: Run) -> None:
    result = run("replay", "--json")
    (account,) = facts(result)["accounts"]
    assert account["difference"] is None, account["difference"]
    assert result.exit_code == 0
    assert len(account["runs"]) == 3
    assert account["states_compared"] >= 4, "both restarts, the day's turn, and the end"
    assert account["breaches"] == len(facts(run("history", "--json"))["history"])
    assert "THE SAME AGAIN" in run("replay").stdout


def test_a_changed_byte_is_found_as_the_first_difference(run: Run, journal: Path) -> None:
    with closing(sqlite3.connect(journal)) as db, db:
        seq, event = db.execute(
            "SELECT seq, event FROM tape WHERE kind = 'PositionChanged' AND event LIKE '%\"size\":5%' ORDER BY seq"
        ).fetchone()
        db.execute("UPDATE tape SET event = ? WHERE seq = ?", (event.replace('"size":5', '"size":4'), seq))
    result = run("replay", "--json")
    (account,) = facts(result)["accounts"]
    assert result.exit_code == 1
    assert account["difference"]["row"] == seq
    assert account["difference"]["what"] == "found"
    assert account["difference"]["recorded"].startswith("max_contracts: 5 contracts held")
    assert account["difference"]["came_out"] == "nothing"
    text = run("replay").stdout
    assert f"first in row {seq}, Wed 2026-03-18 16:58:" in text
    assert "came out: nothing" in text


def test_a_changed_price_that_decides_nothing_is_found_in_the_next_state(run: Run, journal: Path) -> None:
    with closing(sqlite3.connect(journal)) as db, db:
        changed = 'replace(event, \'"name":"\', \'"name":"x\')'
        db.execute(f"UPDATE tape SET event = {changed} WHERE kind = 'RecordRead' AND run = 3")
    (account,) = facts(run("replay", "--json"))["accounts"]
    assert account["difference"]["event"] == ""
    assert account["difference"]["what"] == "the state's account"


def test_a_part_of_the_tape_is_the_same_by_itself(run: Run) -> None:
    (whole,) = facts(run("replay", "--json"))["accounts"]
    result = run("replay", "--from", FIVE_PM.isoformat(), "--json")
    (later,) = facts(result)["accounts"]
    assert (result.exit_code, later["difference"]) == (0, None)
    assert 0 < later["events"] < whole["events"]
    (earlier,) = facts(run("replay", "--to", FIVE_PM.isoformat(), "--json"))["accounts"]
    assert earlier["difference"] is None
    assert earlier["breaches"] + later["breaches"] == whole["breaches"]


def test_other_rules_would_have_decided_otherwise(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(
        "[rules.max_contracts]\nlimit = 5\n[rules.daily_realized_loss]\nloss_limit = 10\n"
    )
    result = run("replay", "--rules", str(tmp_path / "other.toml"), "--json")
    (account,) = facts(result)["accounts"]
    assert result.exit_code == 0
    first = account["decisions"][0]
    assert (first["rule"], first["would_be_decided"]) == ("max_contracts", None)
    loss = next(row for row in account["decisions"] if row["rule"] == "daily_realized_loss" and row["would_be_decided"])
    assert "limit -$10.00" in loss["would_be_decided"]["reason"]
    assert loss["would_be_decided"]["locks"][0]["until"] == "2026-03-18T22:00:00Z"
    text = run("replay", "--rules", str(tmp_path / "other.toml")).stdout
    assert "what another leads to is not simulated" in text
    assert "then only" in text
    assert "now only" in text


def test_every_decision_is_told_in_full(run: Run, recorded: Settings) -> None:
    rows = facts(run("history", "--json"))["history"]
    loss = next(row for row in rows if row["rule"] == "daily_realized_loss")
    assert loss["outcome"] == "proven"
    story = facts(run("why", loss["id"][:6], "--json"))
    assert story["settings"]["rule"]["loss_limit"]["value"] == "500"
    assert {figure["name"] for figure in story["figures"]} >= {"limit", "realised, as judged"}
    assert story["event"]["received_at"] == story["at"]
    assert story["sources"][-1]["name"] == "user hub"
    assert story["requests"][0]["after_ms"] >= 0
    assert story["proven_ms"] >= story["reached_ms"] >= story["requests"][0]["after_ms"]
    assert story["locks"][0]["until"] == "2026-03-18T22:00:00Z"
    assert [led["reason"] for led in story["led_to"]]
    text = run("why", loss["id"]).stdout
    for word in ("Found", "After", "Figures", "Sources", "Settings", "Requests", "Seen", "Proven", "Lock", "Led to"):
        assert f"\n{word}" in text, word
    for row in rows:
        assert run("why", row["id"]).exit_code == 0


def test_the_history_is_one_line_for_each(run: Run) -> None:
    lines = run("history").stdout.splitlines()
    assert len(lines) == len(facts(run("history", "--json"))["history"])
    assert "max_contracts" in lines[0]
    assert "5 contracts held (net), limit 4 -- proven, first request after" in lines[0]
    assert len(run("history", "--since", "today").stdout.splitlines()) < len(lines), "the day has turned"
    assert len(run("history", "--warnings").stdout.splitlines()) > len(lines)


def test_locks_are_shown_with_the_daemon_down(run: Run) -> None:
    result = run("lockouts", "--json")
    assert result.exit_code == 0
    assert facts(result)["running"] is False
    assert "The daemon is not running" in run("lockouts").stderr
    (gone,) = facts(run("lockouts", "--all", "--json"))["lockouts"]
    assert (gone["rule"], gone["in_force"], gone["until"]) == ("daily_realized_loss", False, "2026-03-18T22:00:00Z")
    assert "flatguard why" in run("lockouts", "--all").stdout
