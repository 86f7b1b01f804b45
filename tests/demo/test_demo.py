"""The demo as a newcomer starts it: real sockets, real time, three ways of looking at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from rich.console import Console

from flatguard.cli.demo import as_object, closing_lines
from flatguard.demo.show import Report
from flatguard.demo.view import View, countdown
from flatguard.journal.reading import BreachStory

NOON = datetime.fromisoformat("2026-03-18T17:00:00+00:00")


def on_screen(command: list[str]) -> tuple[int, str]:
    """Run ``command`` in a terminal of its own; return exit status and all that it drew."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "110", "LINES": "40"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    drawn = bytearray()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        try:
            while piece := screen.read(65_536):
                drawn += piece
        except OSError:
            pass  # how Linux says that the other end is closed
    return process.wait(timeout=10), drawn.decode()


@pytest.fixture(scope="module")
def shows() -> dict[str, tuple[int, str, float]]:
    """Run the demo in three processes at once; return exit status, output and seconds of each."""
    command = [sys.executable, "-m", "flatguard", "demo"]
    began = time.monotonic()
    processes = {
        "json": subprocess.Popen([*command, "--json", "--seed", "3"], stdout=subprocess.PIPE, text=True),
        "lines": subprocess.Popen([*command, "--seed", "4"], stdout=subprocess.PIPE, text=True),
    }
    ended = {}
    if sys.platform != "win32":
        ended["screen"] = (*on_screen([*command, "--seed", "5"]), time.monotonic() - began)
    for name, process in processes.items():
        output, _ = process.communicate(timeout=90)
        ended[name] = (process.returncode, output, time.monotonic() - began)
    return ended


@pytest.mark.e2e
def test_it_ends_by_itself_within_a_minute_and_its_object_says_that_all_was_caught(
    shows: dict[str, tuple[int, str, float]],
) -> None:
    status, output, seconds = shows["json"]
    report = json.loads(output)
    assert (status, report["ok"], report["schema_version"], report["seed"]) == (0, True, 1, 3)
    assert seconds < 60
    assert {breach["rule"] for breach in report["breaches"]} == {"max_contracts", "daily_realized_loss", "lockout"}
    assert all(breach["breach_to_flat_ms"] >= breach["breach_to_request_ms"] >= 0 for breach in report["breaches"])
    assert (report["final_positions"], report["final_working_orders"]) == ([], [])
    assert Decimal(report["realized_pnl"]["ours"]) == Decimal(report["realized_pnl"]["broker"]) <= -500
    loss = next(breach for breach in report["breaches"] if breach["rule"] == "daily_realized_loss")
    assert datetime.fromisoformat(loss["locked_until"]) > datetime.fromisoformat(loss["at"])


@pytest.mark.e2e
def test_without_a_terminal_it_tells_the_story_in_lines(shows: dict[str, tuple[int, str, float]]) -> None:
    status, output, _ = shows["lines"]
    assert status == 0
    for part in ("BREACH max_contracts", "closing 2 of 5 MNQ", "BREACH daily_realized_loss", "BREACH lockout", "equal"):
        assert part in output
    assert output.rstrip().endswith("All caught; the broker's own books agree.")


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="2026-11-20: no pseudo-terminals there")
def test_in_a_terminal_it_draws_protection_limits_and_the_lock_with_its_countdown(
    shows: dict[str, tuple[int, str, float]],
) -> None:
    status, output, _ = shows["screen"]
    assert status == 0
    for part in ("PROTECTED", "realised today", "daily_realized_loss", "LOCKED by daily_realized_loss", "what happens"):
        assert part in output


def story(*, proven: bool = True) -> BreachStory:
    reached = NOON if proven else None
    return BreachStory("ab", 1, "max_contracts", NOON, "cause", "5 held", (), (), reached, reached, None)


def report(**changes: object) -> Report:
    facts: dict[str, object] = {
        "seed": 1,
        "stories": (story(),),
        "final_positions": (),
        "final_working_orders": (),
        "realized_ours": "-1.00",
        "realized_broker": "-1.00",
        "trouble": None,
    }
    return Report(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "failure"),
    [
        ({"stories": (story(proven=False),)}, "the end of breach ab was not proven"),
        ({"final_positions": ({"size": 1},)}, "the account is not flat"),
        ({"final_working_orders": ({"id": 1},)}, "the account is not flat"),
        ({"realized_ours": "-1.01"}, "realised P&L is not the broker's"),
        ({"realized_ours": None}, "realised P&L is not the broker's"),
        ({"trouble": "not finished"}, "not finished"),
        ({}, "no breach of lockout was found"),
    ],
)
def test_whatever_did_not_end_as_it_should_is_named_and_makes_the_demo_fail(
    changes: dict[str, object], failure: str
) -> None:
    failed = report(**changes)
    assert failure in failed.failures
    assert not failed.ok
    assert as_object(failed)["ok"] is False
    assert f"FAILED: {failure}" in closing_lines(failed)


def test_the_screen_says_the_loudest_thing_first(tmp_path: Path) -> None:
    console = Console(width=100, record=True, file=(tmp_path / "screen").open("w", encoding="utf-8"))
    view = View(console)
    view.add("a line")
    standing = {
        "protection": "BLIND",
        "reason": "not read yet",
        "id": 7,
        "name": None,
        "balance": None,
        "realized_pnl": None,
        "unrealized_pnl": None,
        "limits": [{"rule": "max_contracts", "value": "1", "limit": "2", "distance": "1"}],
        "positions": [{"size": 1, "contract": "MNQZ6", "average_price": "1", "mark": None, "open_pnl": None}],
        "working_orders": [
            {
                "side": "buy",
                "remaining": 1,
                "contract": "MNQZ6",
                "type": "limit",
                "limit_price": "5",
                "stop_price": None,
            }
        ],
        "lockouts": [{"rule": "by_hand", "until": None}, {"rule": "loss", "until": "2026-03-18T20:07:59+00:00"}],
    }
    console.print(view.draw(standing, NOON, {"MNQZ6": "25000.00"}))
    text = console.export_text()
    assert text.lstrip().startswith("BLIND")
    for part in ("not read yet", "position +1 MNQZ6", "order buy 1 MNQZ6", "LOCKED by loss, 3:07:59 left", "a line"):
        assert part in text
    console.file.close()


def test_a_countdown_that_is_over_stands_at_zero() -> None:
    assert countdown(NOON, NOON) == countdown(NOON, NOON.replace(hour=23)) == "0:00:00"
