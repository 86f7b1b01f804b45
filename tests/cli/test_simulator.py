"""``flatguard simulator serve``: one line when it is ready, and an error that says what to do."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from flatguard.cli import cli

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="ends processes by POSIX signals"),
]


def test_the_ready_line_holds_all_that_a_bot_needs_and_it_ends_when_asked() -> None:
    command = [sys.executable, "-m", "flatguard", "simulator", "serve", "--seed", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert set(ready) == {
            "rest_url",
            "user_hub_url",
            "market_hub_url",
            "control_url",
            "users",
            "contracts",
            "seed",
            "sessions",
            "month_roll",
        }
        assert ready["seed"] == 5
        user = ready["users"][0]
        assert set(user) == {"user_name", "api_key", "accounts"}
        assert set(user["accounts"][0]) == {"id", "name", "balance"}
        assert set(ready["contracts"][0]) == {"id", "name", "tick_size", "tick_value", "price"}
        body = json.dumps({"userName": user["user_name"], "apiKey": user["api_key"]}).encode()
        request = urllib.request.Request(
            f"{ready['rest_url']}/api/Auth/loginKey", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.loads(answer.read())["success"] is True
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert process.stdout.read() == ""


def test_a_port_in_use_ends_it_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "flatguard", "simulator", "serve", "--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert done.stdout == ""
    error, hint = done.stderr.splitlines()
    assert error.startswith("Error: cannot listen on 127.0.0.1 port ")
    assert "--port 0" in hint


def test_a_scenario_that_cannot_be_used_is_wrong_settings(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text("[[user]]\n")
    command = [sys.executable, "-m", "flatguard", "simulator", "serve", "--scenario", str(scenario)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_port_that_cannot_exist_is_wrong_usage() -> None:
    assert CliRunner().invoke(cli, ["simulator", "serve", "--port", "70000"]).exit_code == 2


def test_it_starts_when_it_is_told_and_runs_as_fast_as_it_is_told() -> None:
    start = ["--start", "2027-01-04T09:00:00-06:00", "--speed", "1000"]
    command = [sys.executable, "-m", "flatguard", "simulator", "serve", *start]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        request = urllib.request.Request(f"{ready['control_url']}/clock", b'{"advance_s": 0}')
        with urllib.request.urlopen(request, timeout=10) as answer:
            now = datetime.fromisoformat(json.loads(answer.read())["now"])
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert datetime(2027, 1, 4, 15, tzinfo=UTC) < now < datetime(2027, 1, 5, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--start", "noon"],
        ["--start", "2026-11-18T15:00:00"],
        ["--start", "2100-03-01T15:00:00Z"],
        ["--speed", "0"],
        ["--speed", "-1"],
        ["--speed", "nan"],
        ["--speed", "100000"],
    ],
)
def test_a_start_without_an_offset_or_a_speed_that_cannot_be_is_wrong_usage(arguments: list[str]) -> None:
    done = CliRunner().invoke(cli, ["simulator", "serve", *arguments])
    assert done.exit_code == 2
    assert arguments[0] in done.output
