"""The worked examples that the rules' pages show come out as the pages say, and every word of them is understood."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import evolve

from tests.rules.worked_examples import KINDS, OUTCOME, PAGES, STEPS, Example, NotUnderstood, examples_of, play

EXAMPLES = [example for page in sorted(PAGES.glob("*.md")) for example in examples_of(page.stem)]
NOTATION = PAGES.parent / "worked-examples.md"
ONE = Example("max_contracts", "X-1", "`limit = 1`", "MNQ +2", "all closed")


def shown(heading: str) -> list[str]:
    """The words in backticks of a section's table, of whole steps or outcomes."""
    section = NOTATION.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    first = [words for cell, _ in rows for words in re.findall("`([^`]+)`", cell)]
    more = [words for _, cell in rows for words in re.findall("`([^`]+ [^`]+)`", cell) if " with " not in cell]
    return [words.replace("−", "-") for words in (*first, *more) if words not in KINDS]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.page}-{example.id}")
def test_it_comes_out_as_the_page_says(example: Example) -> None:
    assert play(example) == example.outcome, str(example)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"steps": "MNQ +2; lunch"}, "no step is called 'lunch'", id="a step"),
        pytest.param({"outcome": "all closed and forgotten"}, "no outcome is called 'forgotten'", id="an outcome"),
        pytest.param({"settings": "the usual"}, "settings are TOML in backticks, defaults or as above", id="settings"),
        pytest.param({"steps": "on Fri 2025-01-15 11:00"}, "2025-01-15 is a Wed, not a Fri", id="a day of the week"),
        pytest.param({"steps": "11:00; 10:00"}, "time goes back", id="a time that is over"),
        pytest.param({"steps": "fill 7 again"}, "fill 7 has not been told", id="a fill"),
        pytest.param({"steps": "order 7 filled"}, "order 7 has not been told", id="an order"),
        pytest.param({"steps": "opening fill -300"}, "an opening fill has none", id="a profit of what only opens"),
        pytest.param({"steps": "fill -300 slippage 2"}, "no fill has 'slippage'", id="something about a fill"),
        pytest.param({"steps": "MNQ"}, "nothing happens to MNQ", id="a contract alone"),
        pytest.param({"steps": "XYZ +1"}, "what a tick of XYZ is worth is not known", id="a product"),
    ],
)
def test_what_it_has_no_words_for_fails_with_the_page_and_the_row(change: dict[str, str], message: str) -> None:
    with pytest.raises(NotUnderstood, match=rf"^docs/rules/max_contracts\.md, row X-1: .*{message}"):
        play(evolve(ONE, **change))


def test_a_row_that_comes_out_otherwise_is_no_success() -> None:
    assert play(evolve(ONE, steps="MNQ +1")) == "nothing" != ONE.outcome


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param("Nothing.", "has no table of worked examples", id="no table"),
        pytest.param("| Id | Outcome |\n| --- | --- |\n| 1 | nothing |", "has no table", id="another table"),
        pytest.param("{head}| 1 | defaults | MNQ flat |", "row 1: has to say Id, Settings", id="a short row"),
        pytest.param("{head}| 1 | as above | MNQ flat | nothing |", "nothing stands above", id="as above nothing"),
    ],
)
def test_a_table_that_is_none_fails_with_the_page(tmp_path: Path, rows: str, message: str) -> None:
    head = "| Id | Settings | What happens | Outcome |\n| --- | --- | --- | --- |\n"
    (tmp_path / "odd.md").write_text(f"# Odd\n\n## Example\n\n{rows.format(head=head)}\n\n## End\n", encoding="utf-8")
    with pytest.raises(NotUnderstood, match=message):
        examples_of("odd", tmp_path)


@pytest.mark.parametrize("words", shown("What happens"))
def test_every_step_on_the_page_of_the_notation_is_one(words: str) -> None:
    assert any(pattern.fullmatch(words) for pattern, _, _ in STEPS)


@pytest.mark.parametrize("words", shown("Outcome"))
def test_every_outcome_on_the_page_of_the_notation_is_one(words: str) -> None:
    assert words in {"nothing", "until Sun 2025-01-19 17:00"} or OUTCOME.fullmatch(words)


@pytest.mark.parametrize(
    ("steps", "outcome"),
    [
        ("order 1: buy 1 RTY limit 2000; order 1 moved to 2001; order 1 resized to 2; order 1 cancelled", "nothing"),
        ("order 1: sell 2 MNQ trailing stop 20990, pending; order 1 filled; MNQ +1 at 21000", "nothing"),
        ("a reading shows MNQ +1 and ES -1; MNQ.Z25 +2", "all closed"),
        ("the record shows fill 8: -300; fill 8 again; fill -300 in ES of 2 bought by order 3", "nothing"),
        ("opening fill of 2 in MNQ sold fees 1.40 commissions 0.50 made 09:59:59", "nothing"),
        ("fill -10, 11 times 5 min apart; 10:50", "nothing"),
        ("09:30 ET; on Thu 2025-01-16 09:30:15.250 ET", "nothing"),
        ("MNQ +2; restart after 5 min with defaults; MNQ +6", "all closed, then all closed"),
    ],
)
def test_steps_mean_what_they_say(steps: str, outcome: str) -> None:
    assert play(evolve(ONE, settings="`limit = 1`", steps=steps, outcome=outcome)) == outcome
