"""Rules are found, not listed: a file of ours, or an entry point of somebody else's."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from flatguard import rules
from flatguard.rules import ENTRY_POINTS, discover
from flatguard.rules._rule import Rule
from flatguard.rules.max_contracts import MaxContracts


def install(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str]) -> None:
    """Let other distributions offer rules: pairs of a name and what it points to."""
    points = [EntryPoint(name, value, ENTRY_POINTS) for name, value in entries]

    def entry_points(*, group: str) -> list[EntryPoint]:
        assert group == "flatguard.rules"
        return points

    monkeypatch.setattr(rules, "entry_points", entry_points)


def our_folder(monkeypatch: pytest.MonkeyPatch, folder: Path, **modules: str) -> None:
    """Put files beside our own rules."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(folder)])


def test_every_file_of_ours_is_a_rule_by_the_name_of_the_file() -> None:
    assert set(discover()) >= {"max_contracts", "max_contracts_per_instrument", "daily_realized_loss"}
    assert all(issubclass(rule, Rule) for rule in discover().values())
    assert not any(name.startswith("_") for name in discover())


def test_what_is_found_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        discover()["mine"] = MaxContracts  # type: ignore[index]


def test_another_distribution_adds_its_rule_under_the_name_of_its_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ("their_rule", "flatguard.rules.max_contracts:MaxContracts"))
    assert discover()["their_rule"] is MaxContracts


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param(
            [("max_contracts", "theirs:Rule")],
            "two rules are called 'max_contracts'; the second is theirs:Rule",
            id="the name of one of ours",
        ),
        pytest.param(
            [("mine", "flatguard.rules.max_contracts:MaxContracts"), ("mine", "theirs:Rule")],
            "two rules are called 'mine'; the second is theirs:Rule",
            id="two of theirs",
        ),
        pytest.param(
            [("lockout", "theirs:Rule")],
            "no rule can be called 'lockout', as theirs:Rule is: lockouts themselves are reported so",
            id="the name under which lockouts are enforced",
        ),
        pytest.param(
            [("mine", "nowhere.at_all:Rule")],
            "the rule 'mine' cannot be loaded from nowhere.at_all:Rule: No module named 'nowhere'",
            id="not installed",
        ),
        pytest.param(
            [("mine", "flatguard.rules.max_contracts:Minimum")],
            "the rule 'mine' cannot be loaded from flatguard.rules.max_contracts:Minimum: ",
            id="not in its module",
        ),
        pytest.param(
            [("mine", "flatguard.model.money:dollars")],
            "the rule 'mine' cannot be loaded from flatguard.model.money:dollars: it is no subclass of Rule",
            id="a function",
        ),
        pytest.param(
            [("mine", "flatguard.model.trading:Position")],
            "the rule 'mine' cannot be loaded from flatguard.model.trading:Position: it is no subclass of Rule",
            id="a class that is no rule",
        ),
    ],
)
def test_an_entry_that_is_no_rule_of_its_own_stops_the_start_and_says_why(
    monkeypatch: pytest.MonkeyPatch, entries: list[tuple[str, str]], message: str
) -> None:
    install(monkeypatch, *entries)
    with pytest.raises(RuntimeError) as raised:
        discover()
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "defines"),
    [
        pytest.param("from flatguard.rules._rule import Rule\n", 0, id="none"),
        pytest.param("from flatguard.rules.max_contracts import MaxContracts\n", 0, id="one that it only imports"),
        pytest.param("from flatguard.rules._rule import Rule\nclass A(Rule): ...\nclass B(Rule): ...\n", 2, id="two"),
    ],
)
def test_a_file_with_none_or_two_rules_stops_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, defines: int
) -> None:
    module = f"odd_{defines}_{len(text)}"
    our_folder(monkeypatch, tmp_path, **{module: text})
    message = f"flatguard.rules.{module} must define exactly one rule, it defines {defines}"
    with pytest.raises(RuntimeError, match=message):
        discover()


def test_a_file_called_lockout_stops_the_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    our_folder(monkeypatch, tmp_path, lockout="")
    with pytest.raises(RuntimeError, match="no rule can be called 'lockout'"):
        discover()
