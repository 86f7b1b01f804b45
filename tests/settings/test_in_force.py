"""What a run writes down of its settings is enough to judge again as it did: the same rules, the same terms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flatguard.errors import InvalidSettings
from flatguard.rules._book import RuleBook
from flatguard.settings.in_force import in_force, version, written
from flatguard.settings.load import Settings, load
from flatguard.shipped import shipped

PRESETS = ["example.toml", "presets/topstep-50k.toml"]
LOGIN_AND_ACCOUNT = 'gateway = { user_name = "trader1" }\naccounts = [{ id = 25700001 }]\n'
OWN = """
[gateway]
user_name = "trader1"

[trading_day]
reset = "16:30"
zone = "Europe/Berlin"

[commissions]
MNQ = "0.37"
other = "1.10"

[warnings]
at = [50, 75, 90]

[calendar]
path = "calendar.toml"

[[accounts]]
id = 25700001
mode = "enforce"

[accounts.rules.daily_realized_loss]
loss_limit = "499.99"
combined = false

[accounts.rules.max_contracts]
limit = 3
weights = { MNQ = "0.1" }
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Settings]:
    def read(text: str) -> Settings:
        (tmp_path / "calendar.toml").write_text(
            shipped("calendars/cme_globex.toml").replace("2026-12-25", "2026-12-23")
        )
        (tmp_path / "config.toml").write_text(text)
        return load(tmp_path / "config.toml", {})

    return read


def same(settings: Settings) -> None:
    again = in_force(written(settings))
    assert again.terms == settings.terms
    assert [(a.id, a.mode, RuleBook(a.rules)) for a in again.accounts] == [
        (a.id, a.mode, RuleBook(a.rules)) for a in settings.accounts
    ]


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_shipped_comes_back_the_same(name: str, read: Callable[[str], Settings]) -> None:
    """Every rule has its table in the example: one whose settings cannot be written down fails here."""
    text = shipped(name)
    same(read(text if "[[accounts]]" in text else LOGIN_AND_ACCOUNT + text))


def test_what_a_trader_sets_comes_back_the_same_with_his_own_calendar(read: Callable[[str], Settings]) -> None:
    settings = read(OWN)
    same(settings)
    again = in_force(written(settings))
    assert again.terms.calendar != read(shipped("example.toml")).exchange
    assert again.origins["accounts[25700001].rules.daily_realized_loss.combined"] == "file:25"
    assert again.origins["accounts[25700001].rules.daily_realized_loss.include_fees"] == "default"


def test_no_name_of_the_login_is_written_down(read: Callable[[str], Settings]) -> None:
    assert "trader1" not in written(read(OWN))


def test_the_same_settings_have_the_same_version_and_others_another(read: Callable[[str], Settings]) -> None:
    one, two = written(read(OWN)), written(read(OWN.replace("499.99", "500")))
    assert version(one) == version(written(read(OWN)))
    assert version(one) != version(two)
    assert len(version(one)) == 8


@pytest.mark.parametrize("text", ["{}", "", "[]", '{"trading_day":{},"warnings":{},"accounts":[],"commissions":3}'])
def test_settings_that_an_older_version_did_not_write_in_full_are_refused(text: str) -> None:
    with pytest.raises(InvalidSettings, match="not in the journal in full"):
        in_force(text)


def test_a_rule_that_is_not_known_here_is_named(read: Callable[[str], Settings]) -> None:
    facts = json.loads(written(read(OWN)))
    facts["accounts"][0]["rules"]["somebody_elses"] = {"limit": 1}
    with pytest.raises(InvalidSettings, match="somebody_elses: is not known here"):
        in_force(json.dumps(facts))
