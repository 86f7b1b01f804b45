"""``docs/locks.md`` speaks of what is there: kinds, names, keys and numbers; and every rule that locks points to it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from flatguard.cli.status import exit_status
from flatguard.daemon.recovery import DAMAGED
from flatguard.journal.reading import LockoutRow
from flatguard.model.lockouts import LockKind
from flatguard.rules import _lockout, discover

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "locks.md").read_text("utf-8")


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_every_kind_is_explained() -> None:
    assert {
        row.split("|")[1].strip() for row in section("Kinds").splitlines() if "account" in row and row[0] == "|"
    } == {str(kind) for kind in LockKind}


def test_what_it_names_in_the_code_is_there() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", section("For engineers"), re.MULTILINE)
    assert rows
    for path, what in rows:
        text = (ROOT / path).read_text("utf-8")
        for name in re.findall(r"`(\w+)`", what):
            assert re.search(rf"\b(class|def) {name}\b", text), f"{name} in {path}"


def test_the_name_of_its_breach_and_of_a_damaged_journal_are_those_of_the_code() -> None:
    assert f"called `{_lockout.NAME}`" in PAGE
    assert f"by `{DAMAGED}`" in PAGE


def test_the_keys_of_a_lock_in_the_status_are_those_of_the_code() -> None:
    line = next(line for line in PAGE.splitlines() if line.startswith("`--json` has them under"))
    keys = {field for field in inspect.signature(LockoutRow).parameters if field != "account"}
    assert set(re.findall(r"`(\w+)`", line)) == keys | {"lockouts"}


@pytest.mark.parametrize(
    ("running", "protection", "scope", "status"),
    [
        (True, "PROTECTED", "account", 6),
        (True, "SHADOW", "account", 6),
        (True, "PROTECTED", "RTY", 0),
        (True, "BLIND", "account", 1),
        (False, "NOT PROTECTED", "account", 3),
    ],
)
def test_the_exit_status_is_as_it_says(running: bool, protection: str, scope: str, status: int) -> None:
    accounts = [{"protection": protection, "lockouts": [{"scope": scope}]}]
    assert exit_status({"daemon": {"running": running}, "accounts": accounts}, check=True) == status


@pytest.mark.parametrize("rule", sorted(path.stem for path in (ROOT / "docs" / "rules").glob("*.md")))
def test_every_rule_that_may_lock_points_to_it(rule: str) -> None:
    code = inspect.getsource(inspect.getmodule(discover()[rule]) or pytest.fail(rule))
    page = (ROOT / "docs" / "rules" / f"{rule}.md").read_text("utf-8")
    assert ("(../locks.md)" in page) == bool(re.search(r"\bLockOut\b|\bday_end\b", code)), rule
