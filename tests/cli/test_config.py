"""``flatguard config`` as a person meets it."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from flatguard import cli
from flatguard.cli import config as room
from flatguard.cli.config import PRESETS, preset_text
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.flat_by import FlatBy
from flatguard.rules.max_contracts import MaxContracts
from flatguard.rules.max_loss_limit import MaxLossLimit
from flatguard.settings import paths
from flatguard.settings.load import load
from flatguard.shipped import shipped
from tests.fakes import other_rules

LOGIN = '[gateway]\nuser_name = "trader1"\n'
ACCOUNT = "[[accounts]]\nid = 25700001\n"
RULE = "[rules.max_contracts]\nlimit = 5\n"


@frozen
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "settings" / "config.toml"


def a_clock_that_stands(monkeypatch: pytest.MonkeyPatch, at: datetime) -> None:
    class Clock:
        def now(self) -> datetime:
            return at

    monkeypatch.setattr(room, "SystemClock", Clock)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], file: Path) -> Run:
    """Run ``flatguard`` with these words, its settings file being ``file`` unless they say otherwise."""
    a_clock_that_stands(monkeypatch, datetime(2026, 11, 20, tzinfo=UTC))
    monkeypatch.setattr(paths, "config_path", lambda: file)
    for variable in [name for name in os.environ if name.startswith("FLATGUARD_")]:
        monkeypatch.delenv(variable)

    def run(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["flatguard", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        status = ended.value.code
        return Ran(status if isinstance(status, int) else 0, printed.out, printed.err)

    return run


@pytest.fixture
def holds(file: Path) -> Callable[[str], None]:
    """Let the settings file hold this text."""

    def write(text: str) -> None:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")

    return write


Holds = Callable[[str], None]


# ---- init


@pytest.mark.parametrize("preset", PRESETS)
def test_init_writes_a_file_that_passes_the_check(run: Run, file: Path, preset: str) -> None:
    ran = run("config", "init", "--preset", preset, "--user-name", 'jo "x" \\', "--account", 42)
    assert ran == Ran(0, f"Wrote {file}\nNext: set the limits to your own, then\n  flatguard config check\n", "")
    settings = load(file, {})
    assert settings.gateway.user_name == 'jo "x" \\'
    assert [(account.id, account.mode) for account in settings.accounts] == [(42, "shadow")]
    assert run("config", "check").status == 0


def test_init_says_what_is_left_to_write(run: Run, file: Path) -> None:
    assert run("config", "init").out == (
        f"Wrote {file}\nNext: write gateway.user_name and the account's id, set the limits to your own, then\n"
        "  flatguard config check\n"
    )
    assert file.read_text(encoding="utf-8") == shipped("example.toml")


def test_init_names_the_file_in_what_to_do_next_where_it_is_not_the_usual_one(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "my settings.toml"
    assert run("config", "init", "--config", other).out.endswith(f"flatguard config check --config '{other}'\n")


def test_init_does_not_replace_a_file_unasked(run: Run, file: Path, holds: Holds) -> None:
    holds("mine")
    assert run("config", "init") == Ran(
        2, "", f"Error: {file}: is there already\nTry: --force replaces it; --config names another file\n"
    )
    assert file.read_text(encoding="utf-8") == "mine"
    assert run("config", "init", "--force").status == 0
    assert load(file, {}).gateway.user_name == "trader1"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_only_the_owner_may_read_what_init_writes(run: Run, file: Path, holds: Holds) -> None:
    run("config", "init")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    file.chmod(0o644)
    run("config", "init", "--force")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_init_leaves_the_old_file_and_nothing_else_where_it_cannot_write_the_new_one(
    run: Run, file: Path, holds: Holds, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds("mine")

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run("config", "init", "--force") == Ran(
        2, "", f"Error: {file}: cannot be written: No space left on device\n"
    )
    assert [(path.name, path.read_text(encoding="utf-8")) for path in file.parent.iterdir()] == [
        ("config.toml", "mine")
    ]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_init_writes_through_a_link_and_keeps_it(run: Run, file: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.toml"
    kept.write_text("mine", encoding="utf-8")
    file.parent.mkdir()
    file.symlink_to(kept)
    assert run("config", "init", "--force").status == 0
    assert file.is_symlink()
    assert load(kept, {}).gateway.user_name == "trader1"


@pytest.mark.parametrize("words", [["--user-name", " "], ["--account", "0"], ["--account", "x"], ["--preset", "none"]])
def test_init_refuses_what_the_file_could_not_hold(run: Run, file: Path, words: list[str]) -> None:
    ran = run("config", "init", *words)
    assert (ran.status, ran.out, file.exists()) == (2, "", False)


def test_the_shipped_files_hold_what_init_replaces_exactly_once() -> None:
    for name in PRESETS:
        assert preset_text(name).count('\nuser_name = "trader1"') == 1
        assert preset_text(name).count("\nid = 25700001") == 1


# Topstep's help center, "What are the limits of the Trading Combine" and "Express Funded Account Parameters", as of
# September 2026: contracts in minis (of the Express Funded Account the lowest rung of its scaling plan), and the daily
# loss limit; the balance at the start, and how far below it the maximum loss limit begins.
TOPSTEP = {
    "topstep-50k": (5, 1000, 50000, 2000),
    "topstep-100k": (10, 2000, 100000, 3000),
    "topstep-150k": (15, 3000, 150000, 4500),
    "topstep-express-50k": (2, 1000, 0, 2000),
    "topstep-express-100k": (3, 2000, 0, 3000),
    "topstep-express-150k": (3, 3000, 0, 4500),
}


def test_there_is_a_preset_for_every_kind_and_size() -> None:
    assert PRESETS.keys() == {"example", *TOPSTEP}


@pytest.mark.parametrize("preset", TOPSTEP)
def test_a_preset_holds_the_published_figures_and_contradicts_nothing(file: Path, holds: Holds, preset: str) -> None:
    holds(preset_text(preset))
    settings = load(file, {})
    contracts, daily_loss, start, distance = TOPSTEP[preset]
    rules = settings.accounts[0].rules
    assert settings.findings == ()
    whole, loss = rules["max_contracts"], rules["daily_realized_loss"]
    assert isinstance(whole, MaxContracts)
    assert (whole.limit, whole.count_type, set(whole.weights.values())) == (contracts, "net", {Decimal("0.1")})
    assert isinstance(loss, DailyRealizedLoss)
    assert (loss.loss_limit, loss.combined, loss.include_fees) == (daily_loss, True, True)
    assert rules["max_loss_limit"] == MaxLossLimit(Decimal(start), Decimal(distance), cushion=Decimal(100))
    assert rules["flat_by"] == FlatBy(time(15, 8), before_close=timedelta(minutes=2))


@pytest.mark.parametrize("preset", TOPSTEP)
def test_a_preset_says_where_its_figures_are_from_and_when_they_were_looked_up(preset: str) -> None:
    assert re.search(r"^# Checked in \w+ 20\d\d\. Source: ", preset_text(preset), re.MULTILINE)


# ---- check


def test_check_tells_every_account_its_mode_and_its_rules(run: Run, file: Path, holds: Holds) -> None:
    holds(
        f'{LOGIN}[[accounts]]\nid = 1\nmode = "enforce"\nnickname = "combine"\n[accounts.rules.max_contracts]\n'
        "[accounts.rules.daily_realized_loss]\nloss_limit = 100\n"
        '[[accounts]]\nid = 2\n[accounts.rules.max_contracts]\n[[accounts]]\nid = 3\nmode = "enforce"\n'
    )
    assert run("config", "check") == Ran(
        0,
        f"OK: 3 accounts, 3 rules in {file}\n"
        "  1 (combine): enforce, 2 rules (daily_realized_loss, max_contracts)\n"
        "  2: shadow, 1 rule (max_contracts)\n"
        "  3: enforce, no rule: NOT PROTECTED\n",
        'Warning: accounts[2]: is in shadow, so its rules judge and nothing is sent; write mode = "enforce"\n'
        "Warning: accounts[3]: no rule is on, so this account is NOT PROTECTED;"
        " write one, such as [rules.max_contracts]\n",
    )


def test_check_prints_all_errors_and_exits_with_2(run: Run, file: Path, holds: Holds) -> None:
    holds(f"{LOGIN}typo = 1\n")
    keys = "market_hub_url, rest_url, token_storage, user_hub_url, user_name"
    errors = [
        f"{file}:1: accounts: is missing; write [[accounts]], and below it id = 25700001",
        f"{file}:3: gateway.typo: is not known here; write one of {keys}",
    ]
    assert run("config", "check") == Ran(
        2, "", "Error: " + "\n".join(errors) + "\nTry: correct these 2 lines, then: flatguard config check\n"
    )
    ran = run("config", "check", "--json")
    assert json.loads(ran.out) == {"schema_version": 1, "path": str(file), "ok": False, "errors": errors}
    assert ran.status == 2


def test_check_as_json_has_the_facts(run: Run, file: Path, holds: Holds) -> None:
    holds(LOGIN + RULE + ACCOUNT)
    ran = run("config", "check", "--json")
    assert json.loads(ran.out) == {
        "schema_version": 1,
        "path": str(file),
        "ok": True,
        "accounts": [{"id": 25700001, "mode": "shadow", "rules": ["max_contracts"]}],
        "warnings": [
            'accounts[25700001]: is in shadow, so its rules judge and nothing is sent; write mode = "enforce"'
        ],
    }


def test_check_warns_of_a_calendar_that_ends_soon(run: Run, holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    holds(LOGIN + RULE + ACCOUNT + 'mode = "enforce"\n')
    assert run("config", "check").err == ""
    a_clock_that_stands(monkeypatch, datetime(2027, 12, 1, tzinfo=UTC))
    ran = run("config", "check", "--json")
    (warning,) = json.loads(ran.out)["warnings"]
    assert warning.startswith("the exchange calendar ends on 2027-12-31, and no holiday after it is known")
    assert ran.err == f"Warning: {warning}\n"
    assert ran.status == 0


def test_check_names_the_line_of_a_calendar_that_is_wrong(run: Run, file: Path, holds: Holds) -> None:
    holds(LOGIN + RULE + ACCOUNT + '[calendar]\npath = "mine.toml"\n')
    (file.parent / "mine.toml").write_text("reviewed = 1\n\n[groups.equity]\nsessions = 5\n", encoding="utf-8")
    ran = run("config", "check")
    assert ran.status == 2
    assert f"{file.parent / 'mine.toml'}:3: groups.equity.tickers: is missing" in ran.err


# ---- show

SHOWN = """\
[gateway]
user_name = "trader9"                                     # environment
rest_url = "https://api.topstepx.com"                     # default
user_hub_url = "https://rtc.topstepx.com/hubs/user"       # default
market_hub_url = "https://rtc.topstepx.com/hubs/market"   # default
"""

DISTINCTIVE = f"""\
{LOGIN}
[commissions]
EP = 0.3
[rules.max_contracts]
limit = 5
weights = {{ MNQ = "0.1", "GMCD" = 2 }}
[rules.max_contracts_per_instrument]
limits = {{ ES = 1 }}
[rules.daily_realized_loss]
enabled = false
[[accounts]]
id = 1
nickname = "the \\"first\\""
[accounts.rules.max_contracts]
limit = 2
[[accounts]]
id = 2
mode = "enforce"
[accounts.rules]
max_contracts.enabled = false
max_contracts_per_instrument.enabled = false
"""


def test_show_tells_what_is_in_force_and_where_it_comes_from(
    run: Run, file: Path, holds: Holds, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds(DISTINCTIVE)
    monkeypatch.setenv("FLATGUARD_USER_NAME", "trader9")
    monkeypatch.setenv("FLATGUARD_API_KEY", "hush")
    ran = run("config", "show")
    assert ran.status == 0
    assert ran.out.startswith(f"# In force from {file}\n")
    rows = [" ".join(row.split()) for row in ran.out.splitlines()]
    for row in SHOWN.splitlines():
        assert " ".join(row.split()) in rows
    for row in (
        'ES = "0.3" # file:5',
        'other = "0.50" # default',
        "id = 1 # file:14",
        'mode = "shadow" # default',
        'nickname = "the \\"first\\"" # file:15',
        "limit = 2 # file:17",
        'weights = { MNQ = "0.1", MCD = "2" } # file:8',
        "limits = { ES = 1 } # file:10",
        "enabled = false # file:12",
        "enabled = false # file:22",
    ):
        assert row in rows
    assert "hush" not in ran.out + ran.err


def test_an_account_without_rules_shows_as_not_protected(run: Run, holds: Holds) -> None:
    holds(LOGIN + ACCOUNT)
    ran = run("config", "show")
    assert ran.out.splitlines()[-1] == "# no rule: NOT PROTECTED"
    assert "NOT PROTECTED" in ran.err


def test_what_show_prints_is_a_settings_file_that_puts_the_same_in_force(
    run: Run, file: Path, holds: Holds, tmp_path: Path
) -> None:
    calendar = tmp_path / "mine.toml"
    calendar.write_text(shipped("calendars/cme_globex.toml"), encoding="utf-8")
    for text in (
        DISTINCTIVE,
        LOGIN + ACCOUNT + f"[calendar]\npath = '{calendar}'\n",
        LOGIN + ACCOUNT,
        *map(preset_text, PRESETS),
    ):
        holds(text)
        again = tmp_path / "again.toml"
        again.write_text(run("config", "show").out, encoding="utf-8")
        assert evolve(load(again, {}), path=file) == load(file, {})


ELABORATE = """\
[rules.elaborate]
sessions = [{ start = "08:30", until = 2026-12-24 }, { start = "17:00", days = [0, 6] }]
closed_on = [2026-12-25, "2027-01-01"]
main = { start = 09:00:00 }
[rules.elaborate.by_product.MNQ]
start = "09:30"
"""


def test_show_writes_tables_within_tables_arrays_of_tables_and_dates(
    run: Run, file: Path, holds: Holds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_rules.install(monkeypatch)
    holds(f"{ELABORATE}{LOGIN}{ACCOUNT}")
    ran = run("config", "show")
    assert (
        'sessions = [{ start = "08:30", days = [0, 1, 2, 3, 4], until = "2026-12-24" },'
        ' { start = "17:00", days = [0, 6] }]'
    ) in ran.out
    assert 'closed_on = ["2026-12-25", "2027-01-01"]' in ran.out
    again = tmp_path / "again.toml"
    again.write_text(ran.out, encoding="utf-8")
    assert evolve(load(again, {}), path=file) == load(file, {})
    shown = json.loads(run("config", "show", "--json").out)["accounts"][0]["rules"]["elaborate"]
    assert shown["closed_on"] == {"value": ["2026-12-25", "2027-01-01"], "from": "file:3"}
    assert run("config", "check").status == 0


def test_show_as_json_has_each_value_with_its_origin(run: Run, file: Path, holds: Holds) -> None:
    holds(DISTINCTIVE)
    facts: dict[str, Any] = json.loads(run("config", "show", "--json").out)
    assert (facts["schema_version"], facts["path"]) == (1, str(file))
    assert facts["gateway"]["user_name"] == {"value": "trader1", "from": "file:2"}
    assert facts["trading_day"]["reset"] == {"value": "17:00", "from": "default"}
    assert facts["commissions"]["MNQ"] == {"value": "0.25", "from": "default"}
    first, second = facts["accounts"]
    assert first["id"] == {"value": 1, "from": "file:14"}
    assert first["rules"]["max_contracts"]["limit"] == {"value": 2, "from": "file:17"}
    assert first["rules"]["max_contracts"]["weights"]["value"] == {"MNQ": "0.1", "MCD": "2"}
    assert second["rules"]["max_contracts"] == {"enabled": {"value": False, "from": "file:22"}}


# ---- which file


def test_path_prints_where_the_file_is(run: Run, file: Path, tmp_path: Path) -> None:
    assert run("config", "path") == Ran(0, f"{file}\n", "")
    assert run("config", "path", "--config", tmp_path / "x.toml").out == f"{tmp_path / 'x.toml'}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("--config", "x.toml", "config", "path"),
        ("config", "--config", "x.toml", "path"),
        ("config", "path", "--config", "x.toml"),
    ],
)
def test_the_file_may_be_named_before_or_after_the_command_and_beats_the_environment(
    run: Run, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLATGUARD_CONFIG", "y.toml")
    assert run(*words).out == "x.toml\n"
    assert run("config", "path").out == "y.toml\n"


@pytest.mark.parametrize("command", ["check", "show"])
def test_without_a_file_a_person_is_told_how_to_write_one(run: Run, file: Path, command: str) -> None:
    assert run("config", command) == Ran(2, "", f"Error: {file}: there is no such file\nTry: flatguard config init\n")
