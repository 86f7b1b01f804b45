"""A settings file becomes ``Settings``, or one list of everything that is wrong with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import tomli_w
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.errors import InvalidSettings
from flatguard.model.account import Terms
from flatguard.model.ids import AccountId
from flatguard.rules._rule import Rule
from flatguard.rules.auth_loss_guard import AuthLossGuard
from flatguard.rules.consecutive_losses import ConsecutiveLosses
from flatguard.rules.cooldown_after_loss import CooldownAfterLoss, Tier
from flatguard.rules.daily_drawdown import DailyDrawdown
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.daily_realized_profit import DailyRealizedProfit
from flatguard.rules.daily_unrealized_loss import DailyUnrealizedLoss
from flatguard.rules.flat_by import FlatBy
from flatguard.rules.max_contracts import MaxContracts
from flatguard.rules.max_contracts_per_instrument import MaxContractsPerInstrument
from flatguard.rules.max_loss_limit import MaxLossLimit
from flatguard.rules.max_unrealized_profit import MaxUnrealizedProfit
from flatguard.rules.no_stop_loss_grace import NoStopLossGrace
from flatguard.rules.session_block_outside import SessionBlockOutside
from flatguard.rules.symbol_blocks import SymbolBlocks
from flatguard.rules.trade_frequency_limit import TradeFrequencyLimit
from flatguard.rules.trade_management import TradeManagement
from flatguard.settings import paths
from flatguard.settings.load import (
    COMMISSIONS,
    AccountSettings,
    GatewaySettings,
    JournalSettings,
    Settings,
    TradingDaySettings,
    WarningSettings,
    load,
)
from flatguard.settings.structure import as_written, key_text
from flatguard.shipped import shipped_calendar
from tests.fakes import other_rules

LOGIN = '[gateway]\nuser_name = "trader1"\n'
ACCOUNT = "[[accounts]]\nid = 25700001\n"
MINIMAL = LOGIN + ACCOUNT

Read = Callable[..., Settings]
Refused = Callable[..., list[str]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


@pytest.fixture
def read(file: Path) -> Read:
    """Load the settings of a text."""

    def read(text: str, **environ: str) -> Settings:
        file.write_text(text, encoding="utf-8")
        return load(file, environ)

    return read


@pytest.fixture
def refused(read: Read, file: Path) -> Refused:
    """Return the errors of a text, without the folder of the file."""

    def refused(text: str, **environ: str) -> list[str]:
        with pytest.raises(InvalidSettings) as caught:
            read(text, **environ)
        assert caught.value.exit_status == 2
        assert caught.value.hint
        return [line.removeprefix(f"{file.parent}{os.sep}") for line in str(caught.value).splitlines()]

    return refused


CALENDAR = Path(__file__).parents[2] / "config" / "calendars" / "cme_globex.toml"


# ---- what is read


def test_a_login_and_an_account_are_enough(read: Read, file: Path) -> None:
    assert read(MINIMAL) == Settings(
        path=file,
        gateway=GatewaySettings(
            user_name="trader1",
            rest_url="https://api.topstepx.com",
            user_hub_url="https://rtc.topstepx.com/hubs/user",
            market_hub_url="https://rtc.topstepx.com/hubs/market",
        ),
        journal=JournalSettings(paths.state_folder() / "journal.db"),
        trading_day=TradingDaySettings(time(17), ZoneInfo("America/Chicago")),
        commissions=COMMISSIONS,
        other_commission=Decimal("0.50"),
        accounts=(AccountSettings(AccountId(25700001), "shadow", None, {}),),
    )


def test_without_settings_of_its_own_the_terms_are_those_of_an_account_by_default(read: Read) -> None:
    assert read(MINIMAL).terms == evolve(Terms(), commissions=COMMISSIONS, calendar=shipped_calendar())


def test_the_terms_are_what_the_file_says(read: Read) -> None:
    text = '[trading_day]\nreset = "16:30"\nzone = "America/New_York"\n[commissions]\nother = "1"\nEP = 2.05\nmnq = 0\n'
    terms = read(text + MINIMAL).terms
    assert (terms.reset, terms.zone.key) == (time(16, 30), "America/New_York")
    assert terms.other_commission == 1
    assert terms.commissions == {**COMMISSIONS, "ES": Decimal("2.05"), "MNQ": Decimal(0)}


def test_a_calendar_of_ones_own_lies_beside_the_settings_and_is_among_the_terms(read: Read, file: Path) -> None:
    own = CALENDAR.read_text(encoding="utf-8").replace("ends = 2027-12-31", "ends = 2028-06-30")
    (file.parent / "mine.toml").write_text(own, encoding="utf-8")
    settings = read(f'[calendar]\npath = "mine.toml"\n{MINIMAL}')
    assert settings.calendar.path == file.parent.absolute() / "mine.toml"
    assert settings.terms.calendar is settings.exchange
    assert settings.exchange.ends == date(2028, 6, 30)
    assert settings.origins["calendar.path"] == "file:2"
    assert read(MINIMAL).exchange.ends == date(2027, 12, 31)


def test_sixty_days_before_the_calendar_ends_that_is_among_the_warnings(read: Read) -> None:
    settings = read(MINIMAL)
    assert settings.findings_at(datetime(2027, 10, 1, tzinfo=UTC)) == settings.findings
    *others, ends_soon = settings.findings_at(datetime(2027, 12, 1, tzinfo=UTC))
    assert tuple(others) == settings.findings
    assert ends_soon.startswith("the exchange calendar ends on 2027-12-31")


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        (('equity = "08:15"', 'equity = "8:15"'), 'early_close.equity: must be a time of day such as "16:00"'),
        (("date = 2026-04-03", "date = 2026-04-04"), "date: 2026-04-04 is a weekend, on which nothing trades anyway"),
        (('name = "Good Friday"\n', ""), "days[4].name: is missing"),
    ],
)
def test_a_mistake_in_ones_own_calendar_is_named_with_its_line(
    refused: Refused, file: Path, broken: tuple[str, str], error: str
) -> None:
    good = CALENDAR.read_text(encoding="utf-8")
    (file.parent / "mine.toml").write_text(good.replace(*broken, 1), encoding="utf-8")
    (line,) = refused(f'[calendar]\npath = "mine.toml"\n{MINIMAL}')
    where, _, told = line.partition(": ")
    assert told.endswith(error)
    first = good[: good.index("date = 2026-04-03")].count("\n")
    assert where.startswith("mine.toml:")
    assert first <= int(where.removeprefix("mine.toml:")) <= first + 5


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "mine.toml: there is no such file"),
        ("reviewed = ", "mine.toml:1: not TOML: Invalid value"),
        ("", "mine.toml:1: groups: is missing"),
    ],
)
def test_ones_own_calendar_must_be_there_and_be_one(refused: Refused, file: Path, text: str | None, error: str) -> None:
    if text is not None:
        (file.parent / "mine.toml").write_text(text, encoding="utf-8")
    (line,) = refused(f'[calendar]\npath = "mine.toml"\n{MINIMAL}')
    assert line.startswith(error)


@pytest.mark.parametrize("written", ['"500.10"', "500.10", "5001e-1"])
def test_money_is_exact_however_it_is_written(read: Read, written: str) -> None:
    settings = read(f"[rules.daily_realized_loss]\nloss_limit = {written}\n{MINIMAL}")
    assert settings.accounts[0].rules == {"daily_realized_loss": DailyRealizedLoss(Decimal("500.10"))}


@pytest.mark.parametrize("written", ["17:00:00", '"17:00"', '"17:00:00"'])
def test_a_time_of_day_may_be_text_or_a_time(read: Read, written: str) -> None:
    assert read(f"[trading_day]\nreset = {written}\n{MINIMAL}").trading_day.reset == time(17)


def test_a_common_rule_holds_for_every_account_and_an_accounts_own_keys_beat_it(read: Read) -> None:
    text = (
        "[rules.max_contracts]\nlimit = 5\nlockout_on_breach = true\n"
        + MINIMAL
        + "[accounts.rules.max_contracts]\nlimit = 2\n[accounts.rules.daily_realized_loss]\nloss_limit = 100\n"
        + "[[accounts]]\nid = 2\n"
    )
    first, second = read(text).accounts
    assert first.rules == {
        "daily_realized_loss": DailyRealizedLoss(Decimal(100)),
        "max_contracts": MaxContracts(limit=2, lockout_on_breach=True),
    }
    assert second.rules == {"max_contracts": MaxContracts(limit=5, lockout_on_breach=True)}


def test_a_required_key_may_be_common_or_the_accounts_own(read: Read) -> None:
    common = '[rules.max_contracts_per_instrument]\nenforcement = "close_all"\n'
    own = "[accounts.rules.max_contracts_per_instrument]\nlimits = { EP = 1 }\n"
    rule = read(common + MINIMAL + own).accounts[0].rules["max_contracts_per_instrument"]
    assert rule == MaxContractsPerInstrument(limits={"ES": 1}, enforcement="close_all")


@pytest.mark.parametrize(
    ("common", "own", "on"),
    [
        ("", "", True),
        ("enabled = true", "", True),
        ("enabled = false", "", False),
        ("", "enabled = false", False),
        ("enabled = true", "enabled = false", False),
        ("enabled = false", "limit = 2", False),
        ("enabled = false", "enabled = true", True),
    ],
)
def test_a_rule_is_off_where_it_is_not_enabled_and_the_accounts_word_counts(
    read: Read, common: str, own: str, on: bool
) -> None:
    text = f"[rules.max_contracts]\n{common}\n{MINIMAL}[accounts.rules.max_contracts]\n{own}\n"
    account = read(text).accounts[0]
    assert ("max_contracts" in account.rules, account.switched_off) == (on, () if on else ("max_contracts",))


def test_a_rule_that_is_off_needs_no_required_keys(read: Read) -> None:
    assert read(f"[rules.daily_realized_loss]\nenabled = false\n{MINIMAL}").accounts[0].rules == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_gateway_on_this_machine_may_be_without_encryption(read: Read, host: str) -> None:
    assert read(f'{LOGIN}rest_url = "http://{host}:8080/"\n{ACCOUNT}').gateway.rest_url == f"http://{host}:8080"


def test_a_relative_journal_lies_beside_the_settings(read: Read, file: Path) -> None:
    assert read(f'[journal]\npath = "kept/journal.db"\n{MINIMAL}').journal.path == file.parent / "kept" / "journal.db"


def test_a_relative_journal_lies_beside_the_settings_however_these_are_named(
    read: Read, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(f'[journal]\npath = "journal.db"\n{MINIMAL}')
    monkeypatch.chdir(file.parent)
    assert load(Path("config.toml"), {}).journal.path == file.parent / "journal.db"


def test_the_home_folder_may_be_a_tilde(read: Read, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert read(f'[journal]\npath = "~/journal.db"\n{MINIMAL}').journal.path == tmp_path / "journal.db"


def test_a_byte_order_mark_is_not_held_against_the_file(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load(file, {}).gateway.user_name == "trader1"


# ---- where it comes from


def test_the_environment_beats_the_file(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = f'[journal]\npath = "/elsewhere/journal.db"\n{MINIMAL}'
    settings = read(text, FLATGUARD_USER_NAME="trader2", FLATGUARD_JOURNAL="mine.db")
    assert (settings.gateway.user_name, settings.journal.path) == ("trader2", tmp_path / "mine.db")
    assert settings.origins["gateway.user_name"] == settings.origins["journal.path"] == "environment"


def test_the_login_may_come_from_the_environment_alone(read: Read) -> None:
    assert read(ACCOUNT, FLATGUARD_USER_NAME="trader2").gateway.user_name == "trader2"


def test_a_blank_variable_counts_as_not_set(read: Read) -> None:
    assert read(MINIMAL, FLATGUARD_USER_NAME=" ", FLATGUARD_JOURNAL="").gateway.user_name == "trader1"


def test_every_value_keeps_where_it_comes_from(read: Read) -> None:
    text = """\
[gateway]
user_name = "trader1"
[commissions]
EP = "0.3"
[rules.max_contracts]
limit = 5
count_type = "gross"
[rules.daily_realized_loss]
enabled = false
[[accounts]]
id = 25700001
[accounts.rules.max_contracts]
limit = 2
"""
    origins = read(text).origins
    prefix = "accounts[25700001]"
    assert origins["gateway.user_name"] == "file:2"
    assert origins["gateway.rest_url"] == "default"
    assert origins["commissions.ES"] == "file:4"
    assert origins["commissions.MNQ"] == "default"
    assert origins[f"{prefix}.id"] == "file:11"
    assert origins[f"{prefix}.mode"] == "default"
    assert origins[f"{prefix}.rules.max_contracts.limit"] == "file:13"
    assert origins[f"{prefix}.rules.max_contracts.count_type"] == "file:7"
    assert origins[f"{prefix}.rules.max_contracts.weights"] == "default"
    assert origins[f"{prefix}.rules.daily_realized_loss.enabled"] == "file:9"


# ---- what is allowed, and probably not meant


def test_an_account_without_rules_is_allowed_and_warned_of(read: Read) -> None:
    assert read(MINIMAL).findings == (
        "accounts[25700001]: no rule is on, so this account is NOT PROTECTED; write one, such as [rules.max_contracts]",
    )


def test_an_account_that_is_in_shadow_because_nothing_was_said_is_warned_of(read: Read) -> None:
    text = "[rules.max_contracts]\n" + MINIMAL
    assert read(text).findings == (
        'accounts[25700001]: is in shadow, so its rules judge and nothing is sent; write mode = "enforce"',
    )
    assert read(text + 'mode = "shadow"\n').findings == ()
    assert read(text + 'mode = "enforce"\n').accounts[0].mode == "enforce"


def test_a_products_limit_above_that_of_the_account_is_warned_of(read: Read, file: Path) -> None:
    text = """\
[rules.max_contracts]
limit = 5
weights = { MNQ = "0.1" }
[rules.max_contracts_per_instrument]
limits = { ES = 5, NQ = 6, MNQ = 50, MES = 51 }
[gateway]
user_name = "trader1"
[[accounts]]
id = 1
mode = "enforce"
"""
    place = f"{file}:5: rules.max_contracts_per_instrument.limits"
    assert read(text).findings == (
        f"{place}.NQ: allows 6, which count 6, but max_contracts allows 5",
        f"{place}.MES: allows 51, which count 51, but max_contracts allows 5",
    )


CONTRADICTING = """\
[gateway]
user_name = "trader1"
[rules.max_contracts]
limit = 5
[rules.max_contracts_per_instrument]
enforcement = "close_all"
[rules.max_contracts_per_instrument.limits]
MNQ = 2
EP = 3
[[accounts]]
id = 1
mode = "enforce"
[[accounts]]
id = 2
mode = "enforce"
[accounts.rules.max_contracts]
limit = 2
[[accounts]]
id = 3
mode = "enforce"
[accounts.rules.max_contracts_per_instrument]
default_limit = 9
"""


def test_a_contradiction_is_told_at_the_line_where_it_is_written_and_of_the_accounts_that_have_it(
    read: Read, file: Path
) -> None:
    common, own = "rules.max_contracts_per_instrument", "accounts[3].rules.max_contracts_per_instrument"
    assert read(CONTRADICTING).findings == (
        f"{file}:9: {common}.limits.EP: allows 3, which count 3, but max_contracts allows 2 (account 2)",
        f"{file}:22: {own}.default_limit: allows 9 of each, but max_contracts allows 5 in all",
    )


def test_what_all_accounts_have_in_common_is_told_once(read: Read, file: Path) -> None:
    text = CONTRADICTING.replace("limit = 5", "limit = 2").replace("default_limit = 9\n", "")
    text = text.replace("[rules.max_contracts]\n", "[rules.max_contracts]\nweights = { ES = 1 }\n", 1)
    assert read(text).findings == (
        f"{file}:10: rules.max_contracts_per_instrument.limits.EP: allows 3, which count 3, but max_contracts allows 2",
    )


@pytest.fixture
def touchy(monkeypatch: pytest.MonkeyPatch) -> None:
    other_rules.install(monkeypatch)


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_a_mode_at_the_top_is_that_of_every_account_that_does_not_say_its_own(read: Read, mode: str) -> None:
    other = "shadow" if mode == "enforce" else "enforce"
    text = f'mode = "{mode}"\n[rules.max_contracts]\nlimit = 2\n{MINIMAL}[[accounts]]\nid = 2\nmode = "{other}"\n'
    settings = read(text)
    assert [account.mode for account in settings.accounts] == [mode, other]
    assert settings.origins["accounts[25700001].mode"] == "file:1"
    assert settings.origins["accounts[2].mode"] == "file:10"
    assert settings.findings == (), "whoever writes it has meant it"


def test_a_mode_at_the_top_that_is_none_is_refused_once(read: Read) -> None:
    with pytest.raises(InvalidSettings) as caught:
        read(f'mode = "off"\n{MINIMAL}[[accounts]]\nid = 2\n')
    assert str(caught.value).count("mode:") == 1
    assert 'config.toml:1: mode: must be "enforce" or "shadow", not "off"' in str(caught.value)


TOUCHY = f"[rules.max_contracts]\n[rules.touchy]\nmood = 'MOOD'\n{MINIMAL}mode = 'enforce'\n"


@pytest.mark.usefixtures("touchy")
def test_a_rule_of_another_distribution_says_itself_what_it_contradicts(read: Read, file: Path) -> None:
    assert read(TOUCHY.replace("MOOD", "odd")).findings == (
        f"{file}:2: rules.touchy: is odd until 17:00:00",
        f"{file}:2: rules.touchy.table.NQ: is not there",
        f"{file}:3: rules.touchy.mood: cannot be odd beside max_contracts",
    )


@pytest.mark.usefixtures("touchy")
def test_what_cannot_be_in_force_together_is_an_error(refused: Refused) -> None:
    text = TOUCHY.replace("MOOD", "bad")
    assert refused(text) == ["config.toml:3: rules.touchy.mood: cannot be bad beside max_contracts"]


@pytest.mark.usefixtures("touchy")
def test_a_rule_that_cannot_say_what_it_contradicts_is_told_and_in_force(read: Read, file: Path) -> None:
    settings = read(TOUCHY.replace("MOOD", "faulty"))
    assert settings.findings == (f"{file}:2: rules.touchy: cannot say what it contradicts: ZeroDivisionError: 0 by 0",)
    assert settings.accounts[0].rules["touchy"] == other_rules.Touchy("faulty")


def test_nothing_is_said_of_contradictions_while_a_value_cannot_be_read(refused: Refused) -> None:
    assert len(refused(CONTRADICTING + "typo = 1\n")) == 1


# ---- what is refused

WRONG = {
    # the file and its sections
    LOGIN: "config.toml:1: accounts: is missing; write [[accounts]], and below it id = 25700001",
    ACCOUNT: "config.toml:1: gateway.user_name: is missing and has no default; write user_name = …",
    f"{LOGIN}[accounts]\nid = 1\n": (
        "config.toml:3: accounts: must be an array of tables; write [[accounts]], with two brackets"
    ),
    f"accounts = [5]\n{LOGIN}": "config.toml:1: accounts[0]: must be a table, not 5; write [[accounts]]",
    f"journal = 5\n{MINIMAL}": "config.toml:1: journal: must be a table, not 5; write [journal]",
    f"[gatway]\n{MINIMAL}": "config.toml:1: gatway: is not known here; did you mean gateway?",
    f"[max_contracts]\n{MINIMAL}": "config.toml:1: max_contracts: is the table of a rule; write [rules.max_contracts]",
    f"rules = 1\n{MINIMAL}": "config.toml:1: rules: must hold the tables of rules, not 1",
    f"commissions = 1\n{MINIMAL}": "config.toml:1: commissions: must be a table, not 1; write [commissions]",
    # the gateway
    f'[gateway]\nuser_name = " "\n{ACCOUNT}': (
        "config.toml:2: gateway.user_name: must not be blank; write the login name of the platform"
    ),
    f"[gateway]\nuser_name = 5\n{ACCOUNT}": (
        'config.toml:2: gateway.user_name: must be text, not 5; write it in quotes: "…"'
    ),
    f'{LOGIN}rest_url = "http://api.topstepx.com"\n{ACCOUNT}': (
        "config.toml:3: gateway.rest_url: must begin with https://, since the API key goes there;"
        " write https://api.topstepx.com"
    ),
    f'{LOGIN}rest_url = "https://me:hush@api.topstepx.com"\n{ACCOUNT}': (
        "config.toml:3: gateway.rest_url: must hold neither a login nor parameters; write the address alone"
    ),
    f'{LOGIN}api_key = "hush"\n{ACCOUNT}': (
        "config.toml:3: gateway.api_key: is not written in this file;"
        " store it with flatguard login, or set FLATGUARD_API_KEY"
    ),
    # the journal and the day
    f'[journal]\npath = " "\n{MINIMAL}': 'config.toml:2: journal.path: must be the path of a file, not " "',
    f'[journal]\npath = "a\\u0000b"\n{MINIMAL}': (
        'config.toml:2: journal.path: must be the path of a file, not "a\\u0000b"'
    ),
    f'[journal]\npath = "~nobody-of-this-name/j.db"\n{MINIMAL}': (
        "config.toml:2: journal.path: names a home folder that cannot be found:"
        ' "~nobody-of-this-name/j.db"; write it out'
    ),
    f'[trading_day]\nreset = "24:00"\n{MINIMAL}': (
        'config.toml:2: trading_day.reset: must be a time of day, not "24:00"; write "17:00"'
    ),
    f"[warnings]\nat = [80, 60]\n{MINIMAL}": (
        "config.toml:2: warnings.at: must be percents between 0 and 100, each above the one before, not [80, 60]"
    ),
    f"[warnings]\nat = [100]\n{MINIMAL}": (
        "config.toml:2: warnings.at: must be percents between 0 and 100, each above the one before, not [100]"
    ),
    f"[trading_day]\nreset = 1700\n{MINIMAL}": (
        'config.toml:2: trading_day.reset: must be a time of day, not 1700; write "17:00"'
    ),
    f'[trading_day]\nzone = "America/Chcago"\n{MINIMAL}': (
        'config.toml:2: trading_day.zone: is not a known time zone: "America/Chcago"; did you mean America/Chicago?'
    ),
    f'[trading_day]\nzone = "/etc/passwd"\n{MINIMAL}': (
        'config.toml:2: trading_day.zone: is not a known time zone: "/etc/passwd"; write one such as "America/Chicago"'
    ),
    # commissions
    f'[commissions]\nMNQ = "-0.25"\n{MINIMAL}': (
        'config.toml:2: commissions.MNQ: must be 0 or more, such as "0.25", not -0.25'
    ),
    f"[commissions]\nES = 1\nEP = 1\n{MINIMAL}": (
        "config.toml:3: commissions.EP: names the product ES a second time; keep one"
    ),
    f"[commissions]\nothr = 1\n{MINIMAL}": (
        "config.toml:2: commissions.othr: is not a ticker; write one such as MNQ, or other"
    ),
    f'[commissions]\n"E S" = 1\n{MINIMAL}': (
        'config.toml:2: commissions."E S": is not a ticker; write one such as MNQ, or other'
    ),
    # accounts
    f'{LOGIN}[[accounts]]\nmode = "enforce"\n': (
        "config.toml:3: accounts[0].id: is missing and has no default; write id = …"
    ),
    f'{LOGIN}[[accounts]]\nid = "5"\n': (
        'config.toml:4: accounts[0].id: must be a whole number, not "5"; write 5, without quotes'
    ),
    f"{LOGIN}[[accounts]]\nid = true\n": (
        "config.toml:4: accounts[0].id: must be a whole number, not true; write one such as 5"
    ),
    f"{LOGIN}[[accounts]]\nid = 0\n": (
        "config.toml:4: accounts[0].id: must be the number by which the broker knows the account, not 0"
    ),
    f"{MINIMAL}[[accounts]]\nid = 25700001\n": (
        "config.toml:6: accounts[25700001].id: is the account of line 4 again; keep one of the two"
    ),
    f'{MINIMAL}mode = "enforced"\n': (
        'config.toml:5: accounts[25700001].mode: must be "enforce" or "shadow", not "enforced"'
    ),
    f"{MINIMAL}mod = 1\n": "config.toml:5: accounts[25700001].mod: is not known here; did you mean mode?",
    f"{MINIMAL}rule = 1\n": "config.toml:5: accounts[25700001].rule: is not known here; did you mean rules?",
    f"{MINIMAL}zzz = 1\n": (
        "config.toml:5: accounts[25700001].zzz: is not known here; write one of id, mode, nickname, rules"
    ),
    # rules
    f"[rules.max_contract]\n{MINIMAL}": (
        "config.toml:1: rules.max_contract: is not known here; did you mean max_contracts?"
    ),
    f"[rules]\nmax_contracts = 5\n{MINIMAL}": (
        "config.toml:2: rules.max_contracts: must be a table, not 5; write [rules.max_contracts]"
    ),
    f"[rules.max_contracts]\nlimt = 5\n{MINIMAL}": (
        "config.toml:2: rules.max_contracts.limt: is not known here; did you mean limit?"
    ),
    f"[rules.max_contracts]\nlimit = 0\n{MINIMAL}": (
        "config.toml:2: rules.max_contracts.limit: must be 1 or more, not 0;"
        " to forbid trading, block the symbols or set a session"
    ),
    f"[rules.max_contracts]\nlimit = 5.0\n{MINIMAL}": (
        "config.toml:2: rules.max_contracts.limit: must be a whole number, not 5.0; write one such as 5"
    ),
    f'[rules.max_contracts]\nenforcement = "reduce"\n{MINIMAL}': (
        'config.toml:2: rules.max_contracts.enforcement: must be "close_all", "reduce_to_limit" or "close_offender",'
        ' not "reduce"'
    ),
    f'[rules.max_contracts]\nenabled = "no"\n{MINIMAL}': (
        'config.toml:2: rules.max_contracts.enabled: must be true or false, not "no"; write it without quotes'
    ),
    f"[rules.max_contracts]\nweights = 5\n{MINIMAL}": (
        "config.toml:2: rules.max_contracts.weights: must be a table, not 5; write { NAME = value }"
    ),
    f"[rules.max_contracts]\nweights = {{ ES = 1, EP = 1 }}\n{MINIMAL}": (
        "config.toml:2: rules.max_contracts.weights: EP names the product ES a second time"
    ),
    f"[rules.max_contracts.weights]\nMNQ = 0.1\nMES = false\n{MINIMAL}": (
        'config.toml:3: rules.max_contracts.weights.MES: must be a number, not false; write one such as "500" or "0.25"'
    ),
    f"[rules.daily_realized_loss]\n{MINIMAL}": (
        "config.toml:1: rules.daily_realized_loss.loss_limit: is missing and has no default; write loss_limit = …"
    ),
    f"{MINIMAL}[accounts.rules.daily_realized_loss]\n": (
        "config.toml:5: accounts[25700001].rules.daily_realized_loss.loss_limit: is missing and has no default;"
        " write loss_limit = …"
    ),
    f"[rules.daily_realized_loss]\nloss_limit = -500\n{MINIMAL}": (
        'config.toml:2: rules.daily_realized_loss.loss_limit: a loss is written as a positive amount, such as "500",'
        " not -500"
    ),
    f'[rules.daily_realized_loss]\nloss_limit = "$500"\n{MINIMAL}': (
        'config.toml:2: rules.daily_realized_loss.loss_limit: must be a number, not "$500";'
        ' write one such as "500" or "0.25"'
    ),
    f"[rules.daily_realized_loss]\nloss_limit = nan\n{MINIMAL}": (
        "config.toml:2: rules.daily_realized_loss.loss_limit: must be a number of 15 digits at most before and after"
        " its point, not NaN"
    ),
    f"[rules.daily_realized_loss]\nloss_limit = 1e400\n{MINIMAL}": (
        "config.toml:2: rules.daily_realized_loss.loss_limit: must be a number of 15 digits at most before and after"
        " its point, not 1E+400"
    ),
    f"[rules.daily_realized_loss]\nloss_limit = 1e99999999999999999999\n{MINIMAL}": (
        "config.toml:2: rules.daily_realized_loss.loss_limit: must be a number of 15 digits at most before and after"
        " its point, not NaN"
    ),
    f'[rules.max_contracts_per_instrument]\nlimits.ES = 1\nunknown_symbol_action = "allow"\n{MINIMAL}': (
        "config.toml:3: rules.max_contracts_per_instrument.unknown_symbol_action:"
        ' must be "block", "allow_unlimited" or "allow_with_limit:N" with N from 1, not \'allow\''
    ),
}


@pytest.mark.parametrize(("text", "error"), WRONG.items(), ids=[error.split(": ")[1] for error in WRONG.values()])
def test_each_mistake_is_named_with_its_line_and_what_to_write(refused: Refused, text: str, error: str) -> None:
    assert refused(text) == [error]


def test_a_session_that_ends_when_it_starts_is_told_once(refused: Refused) -> None:
    text = f'{LOGIN}{ACCOUNT}[rules.session_block_outside]\nstart = "09:30"\nend = "09:30"\n'
    (error,) = refused(text)
    assert "rules.session_block_outside.end: is when the session starts, 09:30" in error


@pytest.mark.parametrize(
    "url", ["api.topstepx.com", "ftp://api.topstepx.com", "https://", "https://[::1", "https://a b", "https://x:port"]
)
def test_what_is_no_address_is_refused(refused: Refused, url: str) -> None:
    assert refused(f'{LOGIN}user_hub_url = "{url}"\n{ACCOUNT}') == [
        'config.toml:3: gateway.user_hub_url: must be the address of a gateway; write one such as "https://api.topstepx.com"'
    ]


@pytest.mark.parametrize("key", ["api_key", "apikey", "API-KEY", "token", "password", "secret", "key", "credentials"])
def test_a_secret_in_the_file_is_refused_and_never_repeated(refused: Refused, key: str) -> None:
    for text in (f'{key} = "hush"\n{MINIMAL}', f'{LOGIN}{key} = "hush"\n{ACCOUNT}', f'{MINIMAL}{key} = "hush"\n'):
        (error,) = refused(text)
        assert "store it with flatguard login, or set FLATGUARD_API_KEY" in error
        assert "hush" not in error


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(refused: Refused) -> None:
    text = """\
[[accounts]]
id = 1
mode = "off"
[accounts.rules.max_contracts]
limit = 0
[[accounts]]
id = 1
[gateway]
rest_url = "http://example.com"
[rules.max_contracts]
count_type = "all"
weights = { MNQ = -1 }
[rules.max_contracts_per_instrument]
limits = 3
default_limit = 0
unknown_symbol_action = 7
[rules.daily_realized_loss]
combined = 1
"""
    assert [error.split(": ")[:2] for error in refused(text)] == [
        ["config.toml:3", "accounts[1].mode"],
        ["config.toml:5", "accounts[1].rules.max_contracts.limit"],
        ["config.toml:7", "accounts[1].id"],
        ["config.toml:8", "gateway.user_name"],
        ["config.toml:9", "gateway.rest_url"],
        ["config.toml:11", "rules.max_contracts.count_type"],
        ["config.toml:12", "rules.max_contracts.weights"],
        ["config.toml:14", "rules.max_contracts_per_instrument.limits"],
        ["config.toml:15", "rules.max_contracts_per_instrument.default_limit"],
        ["config.toml:16", "rules.max_contracts_per_instrument.unknown_symbol_action"],
        ["config.toml:17", "rules.daily_realized_loss.loss_limit"],
        ["config.toml:18", "rules.daily_realized_loss.combined"],
    ]


def test_a_mistake_in_a_common_rule_is_told_once_whatever_the_number_of_accounts(refused: Refused) -> None:
    text = f"[rules.max_contracts]\nlimit = 0\n{MINIMAL}[[accounts]]\nid = 2\n"
    assert len(refused(text)) == 1


def test_a_common_rule_is_checked_though_no_account_is_named(refused: Refused) -> None:
    assert len(refused(f"[rules.max_contracts]\nlimit = 0\n{LOGIN}")) == 2


def test_a_bad_variable_is_named_instead_of_a_line(refused: Refused) -> None:
    assert refused(MINIMAL, FLATGUARD_JOURNAL="~nobody-of-this-name/j.db") == [
        'FLATGUARD_JOURNAL: names a home folder that cannot be found: "~nobody-of-this-name/j.db"; write it out'
    ]


def test_the_hint_counts_the_lines_and_says_how_to_check_again(file: Path) -> None:
    for text, what in ((LOGIN, "that line"), ("", "these 2 lines")):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidSettings) as caught:
            load(file, {})
        assert caught.value.hint == f"correct {what}, then: flatguard config check"


# ---- what cannot be read at all


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[gateway\n", "config.toml:1: not TOML: Expected ']' at the end of a table declaration"),
        ("a = 1\nb = \n", "config.toml:2: not TOML: Invalid value"),
        ("a = 1\n\na = 2\n", "config.toml:3: not TOML: Cannot overwrite a value"),
        ('a = 1\nb = "x', "config.toml:2: not TOML: Unterminated string"),
        ("a = 1\nb = " + "[" * 20000, "config.toml:2: not TOML: cannot be read"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_line(refused: Refused, text: str, error: str) -> None:
    assert refused(text) == [error]


def test_a_missing_file_says_how_to_write_one(file: Path) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(file, {})
    assert (str(caught.value), caught.value.hint) == (f"{file}: there is no such file", "flatguard config init")


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(file: Path) -> None:
    file.write_bytes(b"# one\n# tw\xf6\n")
    with pytest.raises(InvalidSettings, match=r"config\.toml:2: is not UTF-8 text"):
        load(file, {})


def test_a_file_that_cannot_be_read_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="cannot be read: "):
        load(tmp_path, {})


# ---- properties

MONEY = st.decimals(min_value=0, max_value=100_000, places=2)
LOSSES = MONEY.filter(bool)
TICKERS = st.sampled_from(["ES", "NQ", "MNQ", "MES", "CL", "6E", "ZB"])
DURATIONS = st.integers(1, 86_400).map(lambda seconds: timedelta(seconds=seconds))
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)

RULES: st.SearchStrategy[Mapping[str, Rule]] = st.fixed_dictionaries(
    {},
    optional={
        "max_contracts": st.builds(
            MaxContracts,
            limit=st.integers(1, 99),
            count_type=st.sampled_from(["net", "gross", "net_signed"]),
            enforcement=st.sampled_from(["close_all", "reduce_to_limit", "close_offender"]),
            weights=st.dictionaries(TICKERS, LOSSES),
            lockout_on_breach=st.booleans(),
        ),
        "max_contracts_per_instrument": st.builds(
            MaxContractsPerInstrument,
            limits=st.dictionaries(TICKERS, st.integers(0, 99)),
            count_type=st.sampled_from(["net", "gross"]),
            enforcement=st.sampled_from(["reduce_to_limit", "close_all"]),
            default_limit=st.none() | st.integers(1, 9),
            lockout_on_breach=st.booleans(),
        ),
        "daily_realized_loss": st.builds(
            DailyRealizedLoss,
            loss_limit=LOSSES,
            combined=st.booleans(),
            include_fees=st.booleans(),
            enforcement=st.sampled_from(["close_all_and_lockout", "close_all_positions", "alert_only"]),
            lockout_until=st.sampled_from(["daily_reset", "permanent"]),
        ),
        "daily_realized_profit": st.builds(
            DailyRealizedProfit,
            target=LOSSES,
            combined=st.booleans(),
            message=NAMES.filter(str.isprintable),
        ),
        "max_unrealized_profit": st.builds(
            MaxUnrealizedProfit,
            mode=st.sampled_from(["profit_target", "breakeven"]),
            profit_target=LOSSES,
            scope=st.sampled_from(["per_position", "total"]),
            action=st.sampled_from(["close_position", "close_all_and_lockout"]),
        ),
        "daily_drawdown": st.builds(
            DailyDrawdown, drawdown_limit=LOSSES, starts_at_profit=LOSSES, include_open=st.booleans()
        ),
        "max_loss_limit": st.builds(MaxLossLimit, start_balance=MONEY, distance=LOSSES, best_close=st.none() | MONEY),
        "trade_frequency_limit": st.builds(
            TradeFrequencyLimit,
            per_minute=st.none() | st.integers(1, 9),
            per_hour=st.integers(10, 99),
            count=st.sampled_from(["orders", "executions", "entries"]),
            cooldown_per_session=st.none() | DURATIONS,
        ),
        "cooldown_after_loss": st.builds(
            CooldownAfterLoss,
            tiers=st.tuples(st.builds(Tier, LOSSES, DURATIONS)),
            close_positions=st.booleans(),
        ),
        "consecutive_losses": st.builds(
            ConsecutiveLosses,
            losses=st.integers(1, 9),
            enforcement=st.sampled_from(["cooldown", "close_all_and_lockout"]),
            cooldown=DURATIONS,
        ),
    },
)
ACCOUNTS = st.builds(
    AccountSettings,
    id=st.integers(1, 2**63 - 1).map(AccountId),
    mode=st.sampled_from(["enforce", "shadow"]),
    nickname=st.none() | NAMES,
    rules=RULES,
)
SETTINGS = st.builds(
    Settings,
    path=st.just(Path(tempfile.gettempdir()) / "config.toml"),
    gateway=st.builds(
        GatewaySettings,
        user_name=NAMES,
        rest_url=st.sampled_from(["https://api.topstepx.com", "http://localhost:8080", "https://api.e8.projectx.com"]),
    ),
    journal=st.builds(JournalSettings, path=st.just(Path(tempfile.gettempdir()).absolute() / "a b" / "journal.db")),
    trading_day=st.builds(
        TradingDaySettings,
        reset=st.times().map(lambda at: at.replace(microsecond=0)),
        zone=st.sampled_from(["America/Chicago", "Europe/Berlin", "UTC"]).map(ZoneInfo),
    ),
    commissions=st.dictionaries(TICKERS, MONEY).map(lambda rates: {**COMMISSIONS, **rates}),
    other_commission=MONEY,
    warnings=st.builds(
        WarningSettings, st.sets(st.integers(1, 99), max_size=4).map(lambda shares: tuple(sorted(shares)))
    ),
    accounts=st.lists(ACCOUNTS, min_size=1, max_size=3, unique_by=lambda account: account.id).map(tuple),
)


def set_only(table: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is not set, which TOML has no word for."""
    return {key: value for key, value in table.items() if value is not None}


def written(settings: Settings) -> dict[str, Any]:
    """The settings as the mapping that a file holds."""
    return {
        "gateway": as_written(settings.gateway),
        "journal": as_written(settings.journal),
        "trading_day": as_written(settings.trading_day),
        "commissions": as_written({**settings.commissions, "other": settings.other_commission}),
        "warnings": as_written(settings.warnings),
        "accounts": [
            set_only({"id": one.id, "mode": one.mode, "nickname": one.nickname})
            | {"rules": {name: set_only(as_written(rule)) for name, rule in one.rules.items()}}
            for one in settings.accounts
        ],
    }


def load_text(text: str) -> Settings:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_bytes(text.encode())
        return load(file, {})


@given(SETTINGS)
def test_settings_written_and_loaded_are_the_same_settings(settings: Settings) -> None:
    assert evolve(load_text(tomli_w.dumps(written(settings))), path=settings.path) == settings


@given(ACCOUNTS.filter(lambda account: account.rules), st.data())
def test_a_rule_is_the_same_wherever_each_of_its_keys_is_written(account: AccountSettings, data: st.DataObject) -> None:
    common: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, rule in account.rules.items():
        for key, value in set_only(as_written(rule)).items():
            (common if data.draw(st.booleans()) else own).setdefault(name, {})[key] = value
    document = {
        "gateway": {"user_name": "trader1"},
        "rules": common,
        "accounts": [{"id": account.id, "rules": own}],
    }
    assert load_text(tomli_w.dumps(document)).accounts[0].rules == account.rules


ONE_ES: Mapping[str, int] = {"ES": 1}


def complete() -> dict[str, Any]:
    """A document in which every key that is known stands once."""
    rules = {
        "max_contracts": set_only(as_written(MaxContracts())) | {"enabled": True},
        "max_contracts_per_instrument": as_written(MaxContractsPerInstrument(ONE_ES, default_limit=1))
        | {"enabled": True},
        "daily_realized_loss": as_written(DailyRealizedLoss(Decimal(1))) | {"enabled": True},
        "daily_realized_profit": as_written(DailyRealizedProfit()) | {"enabled": True},
        "daily_unrealized_loss": as_written(DailyUnrealizedLoss()) | {"enabled": True},
        "max_unrealized_profit": as_written(MaxUnrealizedProfit()) | {"enabled": True},
        "daily_drawdown": as_written(DailyDrawdown(Decimal(1), profit_target=Decimal(2), keep=Decimal(1)))
        | {"enabled": True},
        "max_loss_limit": as_written(MaxLossLimit(Decimal(0), Decimal(1), best_close=Decimal(0), stops_at=Decimal(0)))
        | {"enabled": True},
        "trade_frequency_limit": as_written(TradeFrequencyLimit(1, 2, 3, cooldown_per_session=timedelta(hours=1)))
        | {"enabled": True},
        "cooldown_after_loss": as_written(CooldownAfterLoss()) | {"enabled": True},
        "consecutive_losses": as_written(ConsecutiveLosses()) | {"enabled": True},
        "auth_loss_guard": as_written(AuthLossGuard()) | {"enabled": True},
        "flat_by": as_written(FlatBy()) | {"enabled": True},
        "session_block_outside": as_written(SessionBlockOutside()) | {"enabled": True},
        "symbol_blocks": as_written(SymbolBlocks(("RTY",))) | {"enabled": True},
        "no_stop_loss_grace": as_written(NoStopLossGrace(max_stop_distance_ticks=1)) | {"enabled": True},
        "trade_management": as_written(TradeManagement()) | {"enabled": True},
    }
    return {
        "gateway": as_written(GatewaySettings("trader1")),
        "journal": as_written(JournalSettings(Path("journal.db"))),
        "trading_day": as_written(TradingDaySettings()),
        "calendar": {"path": str(CALENDAR)},
        "commissions": {"other": "0.5"},
        "warnings": {"at": [50]},
        "rules": rules,
        "accounts": [{"id": 1, "mode": "shadow", "nickname": "n", "rules": rules}],
    }


def tables_of(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place whose last part is a key that must be known. Tickers are not: the exchange may list new ones."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*place, key)
            if key not in {"limits", "weights"}:
                yield from tables_of(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from tables_of(inner, (*place, index))


def typos(key: str) -> st.SearchStrategy[str]:
    """What a hand makes of ``key``: a letter left out, doubled or wrong, or two swapped."""
    at = st.integers(0, len(key) - 1)
    return st.one_of(
        at.map(lambda i: key[:i] + key[i + 1 :]),
        at.map(lambda i: key[:i] + key[i] + key[i:]),
        at.map(lambda i: key[:i] + "x" + key[i + 1 :]),
        at.map(lambda i: key[:i] + key[i + 1 : i + 2] + key[i] + key[i + 2 :]),
    ).filter(lambda typo: typo != key)


PLACES = sorted(tables_of(complete()), key=str)


@given(st.sampled_from(PLACES), st.data())
def test_a_typo_in_any_key_is_refused_and_the_right_key_suggested(place: tuple[Any, ...], data: st.DataObject) -> None:
    document = complete()
    table: Any = document
    for part in place[:-1]:
        table = table[part]
    typo = data.draw(typos(place[-1]))
    table[typo] = table.pop(place[-1])
    with pytest.raises(InvalidSettings) as caught:
        load_text(tomli_w.dumps(document))
    if place == ("commissions", "other"):
        expected = f"{key_text(typo)}: is not a ticker; write one such as MNQ, or other"
    else:
        expected = f"{key_text(typo)}: is not known here; did you mean {place[-1]}?"
    assert expected in str(caught.value)


def test_the_complete_document_is_complete_and_loads() -> None:
    settings = load_text(tomli_w.dumps(complete()))
    for name, rule in settings.accounts[0].rules.items():
        assert as_written(rule).keys() <= complete()["rules"][name].keys()
