"""A rule is a file, a test and a page for traders, all of one name; and the page says what the file does."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Mapping
from datetime import time, timedelta
from decimal import Decimal
from pathlib import Path
from types import NoneType
from zoneinfo import ZoneInfo

import attrs
import pytest

from flatguard import rules
from flatguard.model.ids import AccountId
from flatguard.rules import discover
from flatguard.settings.load import load
from tests.rules.worked_examples import examples_of

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "rules"
MACHINERY = {"book", "contradictions", "discover", "facts", "locks", "near_limits", "sources", "worked_examples"}

HEADINGS = ["What it watches", "When it acts", "What it does", "Settings", "Example", "What it cannot do"]
LOGIN_AND_ACCOUNT = '[gateway]\nuser_name = "trader1"\n\n{}\n[[accounts]]\nid = 25700001\n'

OURS = sorted(path.stem for path in Path(*rules.__path__).glob("*.py") if not path.stem.startswith("_"))


def page(rule: str) -> str:
    return (PAGES / f"{rule}.md").read_text(encoding="utf-8")


def section(rule: str, heading: str) -> str:
    return page(rule).split(f"\n## {heading}\n")[1].split("\n## ")[0]


def table(text: str) -> list[list[str]]:
    """The rows of a Markdown table below its head."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows[2:]]


def written(default: object) -> str:
    """A default as the settings file would say it."""
    if default is attrs.NOTHING:
        return "required"
    if default is None:
        return "not set"
    match default:
        case attrs.Factory(factory=make):  # type: ignore[misc]
            assert make is dict
            return "`{}`"
        case tuple() if default and attrs.has(type(default[0])):
            return "below"
        case tuple():
            return f"`{json.dumps(default)}`"
        case ZoneInfo():
            return f'`"{default}"`'
        case time():
            return f'`"{default:%H:%M}"`'
        case bool():
            return f"`{str(default).lower()}`"
        case str() | Decimal():
            return f'`"{default}"`'
        case timedelta():
            seconds = int(default.total_seconds())
            units = ((3600, "h"), (60, "m"), (1, "s")) if seconds else ((1, "s"),)
            count, unit = next((seconds // size, unit) for size, unit in units if not seconds % size)
            return f'`"{count}{unit}"`'
        case _:
            return f"`{default}`"


def type_words(kind: object) -> list[str]:
    """What the column of types has to mention of a field's type."""
    if typing.get_origin(kind) is typing.Literal:
        return [f'`"{choice}"`' for choice in typing.get_args(kind)]
    if typing.get_origin(kind) is Mapping:
        return ["table of date to" if typing.get_args(kind)[1] is time else "table of ticker or root to"]
    if typing.get_origin(kind) is tuple:
        return ["array of"]
    known = {bool: ["true or false"], Decimal: ["US dollars"], str: ['`"'], int: ["whole number, "]}
    known |= {time: ["time of day"], ZoneInfo: ["time zone"], timedelta: ["duration"]}
    plain = next(each for each in (*typing.get_args(kind), kind) if each is not NoneType and each in known)
    return known[plain]  # type: ignore[index]


def test_rules_tests_and_pages_bear_the_same_names() -> None:
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests" / "rules").glob("test_*.py")}
    pages = {path.stem for path in PAGES.glob("*.md")}
    assert set(OURS) == tests - MACHINERY == pages
    assert set(OURS) <= set(discover())


@pytest.mark.parametrize("rule", OURS)
def test_every_page_has_the_same_headings(rule: str) -> None:
    lines = page(rule).splitlines()
    assert lines[0] == f"# {rule.replace('_', ' ').capitalize()}"
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == HEADINGS
    for heading in HEADINGS:
        assert section(rule, heading).strip()


@pytest.mark.parametrize("rule", OURS)
def test_the_settings_on_the_page_are_the_fields_of_the_class(rule: str) -> None:
    kind = discover()[rule]
    hints = typing.get_type_hints(kind)
    rows = table(section(rule, "Settings"))
    assert [(row[0], row[2]) for row in rows] == [
        (f"`{field.name}`", written(field.default)) for field in attrs.fields(kind)
    ]
    for (key, types, _, meaning), field in zip(rows, attrs.fields(kind), strict=True):
        assert meaning, key
        for words in type_words(hints[field.name]):
            assert words in types, key


@pytest.mark.parametrize("rule", OURS)
def test_every_choice_is_explained_on_the_page(rule: str) -> None:
    for name, hint in typing.get_type_hints(discover()[rule]).items():
        if typing.get_origin(hint) is typing.Literal:
            explained = page(rule).replace(section(rule, "Settings"), "")
            for choice in typing.get_args(hint):
                if name in {"enforcement", "count_type"}:
                    assert choice in explained, f"{choice} of {name}"


@pytest.mark.parametrize("rule", OURS)
def test_the_example_on_the_page_loads(rule: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", page(rule), re.DOTALL)
    assert len(blocks) == 1
    assert blocks[0] in section(rule, "Example")
    file = tmp_path / "config.toml"
    file.write_text(LOGIN_AND_ACCOUNT.format(blocks[0]), encoding="utf-8")
    (account,) = load(file, {}).accounts
    assert account.id == AccountId(25700001)
    assert isinstance(account.rules[rule], discover()[rule])


def test_every_page_has_worked_examples_by_ids_of_their_own() -> None:
    """``tests/rules/test_worked_examples.py`` runs them."""
    ids = [example.id for rule in OURS for example in examples_of(rule)]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"([A-Z]+|\d{3})-\d+[a-z]?", row) for row in ids)
    for rule in OURS:
        assert "[Worked examples](../worked-examples.md)" in section(rule, "Example")


@pytest.mark.parametrize("rule", OURS)
def test_a_page_has_one_sentence_on_a_line(rule: str) -> None:
    """So that a change shows which sentence it changed."""
    for line in page(rule).splitlines():
        assert not re.search(r"[a-z)`]\. [A-Z]", line), line


@pytest.mark.parametrize("rule", OURS)
def test_the_file_begins_with_its_own_sentence(rule: str) -> None:
    text = Path(*rules.__path__, f"{rule}.py").read_text(encoding="utf-8")
    assert text.startswith(f'"""{rule.replace("_", " ").capitalize()}: ')
    assert f"Settings of ``[rules.{rule}]``." in text
