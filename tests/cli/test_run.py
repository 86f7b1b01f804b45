"""``flatguard run`` up to the daemon, and what it says."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import trio
from click.testing import CliRunner

from flatguard.cli import cli
from flatguard.cli import run as room
from flatguard.daemon.run import World
from flatguard.errors import InvalidSettings, LoginRefused
from flatguard.secret import Secret
from flatguard.settings.load import Settings

CONFIG = """
[gateway]
rest_url = "http://127.0.0.1:9"
user_name = "trader1"

[rules.max_contracts]
limit = 2

[[accounts]]
id = 1
mode = "enforce"

[[accounts]]
id = 2

[[accounts]]
id = 3
rules.max_contracts.enabled = false
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


Guarding = Callable[[trio.Event], Any]


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Settings, str]]:
    """Stand where the daemon stands; keeps what it was started with."""
    started: list[tuple[Settings, str]] = []

    async def guard(
        settings: Settings, key: Secret, stopping: trio.Event, tell: Any, world: World, *, task_status: Any
    ) -> None:
        started.append((settings, key.reveal()))
        task_status.started(SimpleNamespace(board=SimpleNamespace(states={}), on_entry=[]))
        await trio.lowlevel.checkpoint()
        if key.reveal() == "wrong":
            raise LoginRefused("the gateway refused the login")

    monkeypatch.setattr(room, "guard", guard)
    return started


def run(config: Path, key: str | None = "secret") -> Any:
    return CliRunner().invoke(cli, ["run", "--config", str(config)], env={"FLATGUARD_API_KEY": key})


def test_it_warns_of_what_is_probably_not_meant_and_says_nothing_of_protection_that_is_not_there_yet(
    config: Path, guarded: list[tuple[Settings, str]]
) -> None:
    result = run(config)
    assert result.exit_code == 0
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("Warning: accounts[2]: is in shadow")
    assert lines[1].startswith("Warning: accounts[3]: no rule is on, so this account is NOT PROTECTED")
    assert lines[2:] == ["stopped"]
    ((settings, key),) = guarded
    assert settings.path == config
    assert key == "secret"
    assert "secret" not in result.stderr


def test_an_error_of_the_daemon_comes_out_and_stopped_is_not_said(
    config: Path, guarded: list[tuple[Settings, str]]
) -> None:
    result = run(config, "wrong")
    assert isinstance(result.exception, BaseExceptionGroup)
    assert result.exception.subgroup(LoginRefused) is not None
    assert "stopped" not in result.stderr


def test_without_a_key_nothing_is_started(
    config: Path, guarded: list[tuple[Settings, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flatguard.settings.paths.state_folder", lambda: config.parent)
    result = run(config, None)
    assert isinstance(result.exception, InvalidSettings)
    assert guarded == []


def test_the_settings_may_be_named_before_the_command_or_by_the_environment(
    config: Path, guarded: list[tuple[Settings, str]]
) -> None:
    for arguments, more in (
        (["--config", str(config), "run"], {}),
        (["run"], {"FLATGUARD_CONFIG": str(config)}),
    ):
        assert CliRunner().invoke(cli, arguments, env={"FLATGUARD_API_KEY": "secret", **more}).exit_code == 0
    assert len(guarded) == 2


@pytest.mark.parametrize("arguments", [["run", "now"], ["runn"], ["run", "--conf"], ["simulator", "serve", "--port=x"]])
def test_wrong_usage_has_status_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli, arguments).exit_code == 2


def test_the_commands_are_listed_with_what_they_do() -> None:
    text = CliRunner().invoke(cli, ["--help"]).stdout
    for name in ("config", "demo", "run", "simulator", "status"):
        assert f"\n  {name} " in text


@pytest.mark.parametrize("error", [BrokenPipeError("nobody listens"), ValueError("I/O operation on closed file")])
def test_that_nobody_listens_any_more_is_no_reason_to_stop(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def echo(message: str, *, err: bool) -> None:
        raise error

    monkeypatch.setattr(click, "echo", echo)
    room.say("one", "two")


SIGNALS = """
import signal, sys, trio
from flatguard.daemon.stopping import stop_on_signals

async def main():
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(stop_on_signals, stopping)
        print("ready", flush=True)
        await stopping.wait()
        print("stopping", flush=True)
        if sys.argv[1] == "slow":
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()

trio.run(main)
"""


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="ends processes by POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("how", ["quick", "slow"])
def test_the_first_signal_asks_and_the_second_ends_it_at_once(number: signal.Signals, how: str) -> None:
    with subprocess.Popen([sys.executable, "-c", SIGNALS, how], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "stopping\n"
        if how == "slow":
            process.send_signal(number)
        assert process.wait(10) == (0 if how == "quick" else -number)
