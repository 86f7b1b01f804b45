"""docs/simulator.md: what it shows runs, and what there is stands in it."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import fields
from click.testing import CliRunner

from flatguard.cli import cli
from flatguard.shipped import shipped_calendar
from flatguard.simulator import AccountSetup, Options, UserSetup, load_scenario
from flatguard.simulator.control import SCHEMAS
from flatguard.simulator.faults import ACCOUNT_FAULTS, EVENT_FAULTS, HUB_FAULTS, KNOWN_FAULTS, REST_FAULTS
from flatguard.simulator.recordings import NEEDED, OPTIONAL
from tests.simulator.conftest import START

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "simulator.md").read_text("utf-8")
SHOWN = "http://127.0.0.1:8080"
posix = pytest.mark.skipif(sys.platform == "win32", reason="ends processes by POSIX signals")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def rows(before: str) -> dict[str, list[str]]:
    """Return the table that follows this text: what stands in its first column, and the other columns."""
    table = PAGE.split(before, 1)[1].split("\n|", 1)[1].split("\n\n", 1)[0]
    lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in table.splitlines()]
    return {cells[0]: cells[1:] for cells in lines[2:]}


def names(before: str) -> set[str]:
    return {name for key in rows(before) for name in re.findall(r"`([^`]+)`", key)}


@contextmanager
def served(*arguments: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", "flatguard", "simulator", "serve", "--port", "0", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGTERM)


def written(value: object) -> str:
    """Write a default as TOML does."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, Decimal) else f"{value:g}" if isinstance(value, float) else str(value)


def test_every_option_stands_on_the_page_with_its_default_and_its_meaning() -> None:
    (class_,) = (
        node
        for node in ast.parse((ROOT / "src/flatguard/simulator/options.py").read_text("utf-8")).body
        if isinstance(node, ast.ClassDef)
    )
    said = {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(class_.body, class_.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
    there = {f"`{knob.name}`": [f"`{written(knob.default)}`", said[knob.name]] for knob in fields(Options)}
    assert rows("### Options") == there


def test_every_fault_stands_on_the_page_in_the_words_of_the_program() -> None:
    places = {
        "On hub events;": EVENT_FAULTS,
        "On connections;": HUB_FAULTS,
        "On REST calls;": REST_FAULTS,
        "On accounts;": ACCOUNT_FAULTS,
    }
    for place, faults in places.items():
        assert rows(place) == {f"`{name}`": [text] for name, text in faults.items()}
    assert sum(map(len, places.values())) == len(KNOWN_FAULTS)


def test_every_control_call_stands_on_the_page_with_its_fields() -> None:
    calls = {key.strip("`").split()[-1]: cells[0] for key, cells in rows("## Control it").items() if "POST" in key}
    assert set(calls) == {f"/sim/{name}" for name in SCHEMAS}
    for name, schema in SCHEMAS.items():
        if name != "orders":
            assert set(re.findall(r"`(\w+)", calls[f"/sim/{name}"])) == set(schema), name


def test_every_key_of_a_scenario_and_every_column_stands_on_the_page() -> None:
    users = rows("lie on the contract's ticks.")
    assert {name.strip("`") for name in users} == {field.name for field in fields(UserSetup)}
    accounts = PAGE.split("| Key of `[[users.accounts]]` |", 1)[1].split("\n\n", 1)[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in accounts.splitlines()[1:])))
    assert named == {field.name for field in fields(AccountSetup)}
    for columns in (*NEEDED.values(), *OPTIONAL.values()):
        assert all(f"`{column}`" in PAGE for column in columns)
    for year in {str(day.year) for day in shipped_calendar().special_days}:
        assert year in PAGE


def test_every_flag_stands_on_the_page() -> None:
    told = CliRunner().invoke(cli, ["simulator", "serve", "--help"]).output
    assert set(re.findall(r"--[a-z]+", told)) - {"--help"} == names("is the same every time.")


def test_the_scenario_on_the_page_is_one_and_uses_every_table(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    (tmp_path / "scenario.toml").write_text(text, encoding="utf-8")
    (tmp_path / "crude.csv").write_text("time,open,high,low,close,volume\n0,62,62.5,61.9,62.1,40\n")
    scenario = load_scenario(tmp_path / "scenario.toml")
    assert (len(scenario.events), len(scenario.drives), scenario.start) == (3, 2, START)
    assert scenario.users is not None
    world = scenario.world(seed=1, start=START)
    world.run(START.replace(minute=1))
    assert world.markets["CON.F.US.MNQ.Z26"].last == 24900


def test_the_example_in_virtual_time_runs() -> None:
    (example,) = (block for block in blocks("python") if "MockClock" in block)
    found: dict[str, Any] = {}
    exec(compile(example, "docs/simulator.md", "exec"), found)
    assert [(row["size"], row["averagePrice"]) for row in found["positions"]] == [(1, Decimal("25000.25"))]


@posix
@pytest.mark.e2e
def test_the_commands_and_snippets_run_against_a_double_as_they_stand(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not on this machine")
    with served("--seed", "1") as ready:
        lines = [line for block in blocks("sh") for line in block.splitlines() if "curl " in line]
        commands = "\n".join(["set -e", *lines]).replace("curl -s", "curl -s --fail -w '\\n'")
        commands = commands.replace(SHOWN, ready["rest_url"])
        done = subprocess.run(["sh", "-c", commands], capture_output=True, text=True, check=True, timeout=60)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        (snippet,) = (block for block in blocks("python") if "httpx" in block)
        exec(compile(snippet.replace(SHOWN, ready["rest_url"]), "docs/simulator.md", "exec"), {})
    shown = [json.loads(line.replace("…", "")) for block in blocks("json")[1:] for line in block.splitlines()]
    assert answers[0] | {"token": ""} == shown[0] | {"token": ""}
    assert answers[1]["accounts"][0] == shown[1]["accounts"][0]
    assert answers[2:4] == shown[2:4]
    assert answers[5]["clients"] == []


@posix
@pytest.mark.e2e
def test_the_ready_line_and_the_command_that_starts_at_the_roll_are_as_shown(tmp_path: Path) -> None:
    (shown, *_) = (json.loads(block) for block in blocks("json")[:1])
    with served("--seed", "1") as ready:
        assert set(ready) == set(shown)
        assert ready["users"][0]["api_key"] == shown["users"][0]["api_key"]
        assert ready["users"][0]["accounts"][0] == shown["users"][0]["accounts"][0]
        assert ready["contracts"][0] == shown["contracts"][0]
        assert (len(ready["users"][0]["accounts"]), len(ready["contracts"])) == (3, 51)
    (command,) = (line for block in blocks("sh") for line in block.splitlines() if "--start" in line)
    (tmp_path / "roll.toml").write_text("[options]\nmonth_roll = true\n")
    words = command.replace("roll.toml", str(tmp_path / "roll.toml")).split()
    with served(*words[words.index("serve") + 1 :]) as ready:
        assert next(row["name"] for row in ready["contracts"] if row["id"].startswith("CON.F.US.MNQ")) == "MNQZ6"


@posix
@pytest.mark.interop
def test_the_official_javascript_client_runs_as_shown(tmp_path: Path) -> None:
    (snippet,) = blocks("javascript")
    with served("--seed", "1") as ready:
        script = tmp_path / "bot.js"
        script.write_text(snippet.replace(SHOWN, ready["rest_url"]) + "\nhub.onclose(() => process.exit(0));\n")
        login = next(line for block in blocks("sh") for line in block.splitlines() if "loginKey" in line)
        answer = subprocess.run(
            shlex.split(login.replace(SHOWN, ready["rest_url"])), capture_output=True, check=True, timeout=20
        )
        environment = {**os.environ, "TOKEN": json.loads(answer.stdout)["token"]}
        with subprocess.Popen(["node", str(script)], stdout=subprocess.PIPE, text=True, env=environment) as bot:
            assert bot.stdout is not None
            try:
                order = {"accountId": 25700001, "contractId": "MNQ", "type": 2, "side": 0, "size": 1}
                body = ["curl", "-s", f"{ready['control_url']}/orders", "-d", json.dumps(order)]
                for _ in range(5):  # until it has subscribed, nothing is told
                    subprocess.run(body, capture_output=True, check=True, timeout=20)
                line = bot.stdout.readline()
            finally:
                bot.terminate()
    assert "id" in line or "{" in line


def test_the_readme_leads_to_the_page() -> None:
    assert "(docs/simulator.md)" in (ROOT / "README.md").read_text("utf-8")
