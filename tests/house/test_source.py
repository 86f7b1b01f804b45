"""What holds for every file of ours, beside what the linters see."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src"
PACKAGE = SRC / "flatguard"
FILES = sorted(PACKAGE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

PURE = ("model", "ledger", "rules", "signalr")
IMPURE = {
    "asyncio",
    "flatguard.clock",
    "httpx",
    "keyring",
    "logging",
    "os",
    "pathlib",
    "random",
    "socket",
    "sqlite3",
    "structlog",
    "subprocess",
    "threading",
    "time",
    "trio",
    "trio_websocket",
    "websockets",
}
BANNED = set(PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"])


def name(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name(path))


def bindings(module: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Every import in a module, wherever it stands: what is imported, the name it binds, what that name means."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                yield (alias.name, alias.asname, alias.name) if alias.asname else (alias.name, top, top)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                what = f"{node.module}.{alias.name}"
                yield what, alias.asname or alias.name, what


def imported(module: ast.Module) -> set[str]:
    return {what for what, _, _ in bindings(module)}


def within(what: str, packages: set[str]) -> bool:
    return any(what == package or what.startswith(f"{package}.") for package in packages)


def dotted(node: ast.expr, meaning: dict[str, str]) -> str | None:
    """What an expression such as ``datetime.now`` refers to, by the imports of its module."""
    if isinstance(node, ast.Name):
        return meaning.get(node.id)
    if isinstance(node, ast.Attribute):
        before = dotted(node.value, meaning)
        return f"{before}.{node.attr}" if before is not None else None
    return None


def uses(module: ast.Module) -> set[str]:
    """Everything that a module refers to by way of an import."""
    meaning = {bound: means for _, bound, means in bindings(module)}
    names = (dotted(node, meaning) for node in ast.walk(module) if isinstance(node, ast.Attribute | ast.Name))
    return imported(module) | {what for what in names if what is not None}


def offences(text: str) -> set[str]:
    return {what for what in uses(ast.parse(text)) if what in BANNED or within(what, {"asyncio"})}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from datetime import datetime\ndatetime.now()", {"datetime.datetime.now"}),
        ("import datetime\ndatetime.datetime.now()", {"datetime.datetime.now"}),
        ("import datetime as d\nclock = d.datetime.utcnow", {"datetime.datetime.utcnow"}),
        ("from datetime import date as day\nday.today()", {"datetime.date.today"}),
        ("import time\ntime.time()", {"time.time"}),
        ("from time import time\ntime()", {"time.time"}),
        ("from time import monotonic as m\nm()", {"time.monotonic"}),
        ("def f():\n    import random\n    return random.random()", {"random.random"}),
        ("import asyncio.events", {"asyncio.events"}),
        ("from datetime import datetime\ndatetime.fromisoformat('2025-01-15')", set()),
        ("from random import Random\nRandom(1).random()", set()),
    ],
)
def test_this_file_can_tell_what_is_banned(text: str, found: set[str]) -> None:
    assert offences(text) == found


@pytest.mark.parametrize("path", FILES, ids=name)
def test_only_the_clock_asks_the_system_for_the_time_and_nobody_uses_what_is_banned(path: Path) -> None:
    found = offences(path.read_text(encoding="utf-8"))
    assert found <= ({"datetime.datetime.now"} if name(path) == "flatguard/clock.py" else set())


@pytest.mark.parametrize("path", [p for p in FILES if name(p).split("/")[1] in PURE], ids=name)
def test_the_pure_rooms_know_nothing_of_the_world(path: Path) -> None:
    """No clock, no chance, no file, no thread, no network, no log."""
    assert {what for what in imported(tree(path)) if within(what, IMPURE)} == set()


@pytest.mark.parametrize(
    ("library", "door"),
    [
        ("httpx", "flatguard/gateway/http.py"),
        ("trio_websocket", "flatguard/signalr_client/socket_trio_websocket.py"),
        ("websockets", "flatguard/signalr_client/socket_websockets.py"),
    ],
)
def test_each_library_that_has_traps_stands_behind_one_door(library: str, door: str) -> None:
    users = {name(path) for path in FILES if any(within(what, {library}) for what in imported(tree(path)))}
    assert users == {door}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_what_is_public_says_what_it_is(path: Path) -> None:
    module = tree(path)
    assert ast.get_docstring(module), "the file itself"
    public = [
        node
        for node in module.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
    ]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_imports_go_downward() -> None:
    """As the contracts in pyproject.toml draw it."""
    command = shutil.which("lint-imports", path=os.pathsep.join([str(Path(sys.executable).parent), os.defpath]))
    assert command is not None, "import-linter belongs to the test dependencies"
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    checked = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def our_texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.split("\0") if line and (ROOT / line).is_file()]


def test_no_file_names_a_folder_of_one_machine() -> None:
    """A path that only its author has is a defect for everybody else."""
    somebodys = re.compile(rb"(?<![\w.~-])/(?:work|root)(?:/|\b)")
    assert [p.relative_to(ROOT).as_posix() for p in our_texts() if somebodys.search(p.read_bytes())] == []
