"""``docs/outcomes.md`` says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flatguard.enforcement.carry_out import ACCOUNT_REJECTED, GONE, NO_PARTIAL_CLOSES
from flatguard.gateway.breaker import FAILURES, OPEN_S, PROBES
from flatguard.gateway.http import HARD_CAP_S, READ_S
from flatguard.gateway.retry import ATTEMPTS, BASE_S
from flatguard.gateway.verdict import CANCEL, CLOSE, CODES, PARTIAL_CLOSE, READING_CODES, TURNED_AWAY, verdict
from flatguard.model.outcomes import Done, Outcome, Refused

PAGE = (Path(__file__).parents[2] / "docs" / "outcomes.md").read_text("utf-8")


def section(heading: str) -> str:
    """Return what stands below a heading, up to the next one."""
    _, _, rest = f"\n{PAGE}".partition(f"\n{heading}\n")
    assert rest, f"docs/outcomes.md has no heading {heading!r}"
    return re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def word(outcome: Outcome) -> str:
    return type(outcome).__name__.lower()


def answer(path: str, code: int) -> Outcome:
    return verdict(path, 200, {"success": code == 0, "errorCode": code, "errorMessage": None, "orderId": 1}, None)


@pytest.mark.parametrize("path", CODES)
def test_every_code_of_an_endpoint_is_on_the_page_with_its_name_and_outcome(path: str) -> None:
    expected = {0: "Success", **CODES[path]}
    assert [row[:3] for row in rows(f"### {path}")] == [
        [str(code), name, word(answer(path, code))] for code, name in expected.items()
    ]


@pytest.mark.parametrize("path", CODES)
def test_the_page_says_what_is_done_about_every_code(path: str) -> None:
    assert all(row[3] for row in rows(f"### {path}"))


def test_the_page_says_of_which_refusals_enforcement_makes_more() -> None:
    told = {row[1]: row[3] for row in rows(f"### {PARTIAL_CLOSE}")}
    assert {name for name, act in told.items() if "close the contract whole" in act} == set(NO_PARTIAL_CLOSES)
    for path in (CANCEL, CLOSE, PARTIAL_CLOSE):
        told = {row[1]: row[3] for row in rows(f"### {path}")}
        assert {name for name, act in told.items() if "read again at once" in act} <= set(GONE)
        assert {name for name, act in told.items() if "ALERT-ONLY" in act} <= {ACCOUNT_REJECTED}


def test_the_page_has_no_endpoint_that_the_code_does_not_have() -> None:
    assert re.findall(r"^### (/api/.*)$", PAGE, flags=re.MULTILINE) == list(CODES)


def test_every_http_status_on_the_page_has_the_outcome_that_it_says() -> None:
    named = {int(status): row[1] for row in rows("## HTTP statuses") for status in row[0].split(", ")}
    assert named == {status: word(verdict("/api/Order/cancel", status, None, None)) for status in named}
    assert named.keys() >= TURNED_AWAY.keys()
    assert {status for status, outcome in named.items() if outcome == "refused"} == TURNED_AWAY.keys()


def test_the_three_outcomes_are_those_of_the_model() -> None:
    assert [row[0] for row in rows("# Done, refused, unknown")] == ["done", "refused", "unknown"]
    assert (word(Done()), word(Refused(1, ""))) == ("done", "refused")


def test_the_limits_that_the_page_names_are_those_in_force() -> None:
    stages = section("## When there is no answer")
    assert f"no answer within {READ_S:.0f} s" in stages
    assert f"not complete after {HARD_CAP_S:.0f} s" in stages


def test_every_code_of_every_reading_is_on_the_page_with_its_name() -> None:
    listed = [row for row in rows("## Readings") if row[0].startswith("/api/")]
    assert listed == [
        [path, str(code) if code else "none", name]
        for path, codes in READING_CODES.items()
        for code, name in (codes or {0: ""}).items()
    ]


def test_the_page_says_how_often_routine_calls_are_repeated() -> None:
    text = " ".join(section("## Readings").split())
    assert ATTEMPTS == 5
    assert "up to five times" in text
    assert f"after 0 to {BASE_S:.0f}, {BASE_S * 2:.0f}, {BASE_S * 4:.0f} and {BASE_S * 8:.0f} s" in text
    assert (OPEN_S, PROBES) == (60, 3)
    assert f"after {FAILURES} failures in a row they are left alone for a minute, then probed three times" in text
