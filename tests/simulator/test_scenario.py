"""Scenario files: what they set, what happens when, and how they are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import trio

from flatguard.errors import InvalidSettings
from flatguard.simulator import Options
from flatguard.simulator.scenario import load_scenario, open_world
from flatguard.simulator.serve import ready_line
from tests.simulator.conftest import ES, MNQ, START, running

FULL = """
[options]
calm = true
read_lag_ms = [0, 300]
sessions = true
rest_allowance = [10, 60.5]
price_band = "0.5"

[[users]]
user_name = "Anna"

[[users.accounts]]
id = 1
name = "50KTC-V2-1-1"
balance = "50000.25"
max_minis = 3

[[users.accounts]]
id = 2
name = "50KTC-V2-1-0"
balance = 48000
can_trade = false
visible = false

[prices]
MNQ = "25100.25"

[[faults]]
at_s = 10
name = "http_500"
duration_s = 5

[[moves]]
at_s = 20
contract = "MNQ"
price = 25050

[[moves]]
at_s = 30
contract = "MNQ"
resume = true
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    return path


async def test_a_scenario_sets_the_start_and_what_befalls_it(tmp_path: Path, autojump_clock: object) -> None:
    scenario = load_scenario(written(tmp_path, FULL))
    assert scenario.options == Options.calm().but(
        read_lag_ms=(0, 300), sessions=True, rest_allowance=(10, 60.5), price_band=Decimal("0.5")
    )
    world = scenario.world(seed=7, start=START)
    async with running(world) as system:
        rows = (await system.rest("Account/search", onlyActiveAccounts=False))["accounts"]
        assert [(row["id"], row["balance"], row["canTrade"], row["isVisible"]) for row in rows] == [
            (1, Decimal("50000.25"), True, True),
            (2, 48000, False, False),
        ]
        market = world.markets[MNQ]
        assert market.last == Decimal("25100.25")
        await trio.sleep(12)
        assert (await system.rest.send("/api/Order/searchOpen", {"accountId": 1})).status_code == 500
        await trio.sleep(5)
        assert (await system.rest.send("/api/Order/searchOpen", {"accountId": 1})).status_code == 200
        await trio.sleep(5)
        assert (market.last, market.held) == (25050, True)
        await trio.sleep(10)
        assert market.held is False


async def test_a_fault_of_a_scenario_ends_connections_too(tmp_path: Path, autojump_clock: object) -> None:
    text = '[options]\ncalm = true\n[[faults]]\nat_s = 10\nname = "cut_hub"\ntarget = "user"\n'
    world = load_scenario(written(tmp_path, text)).world(seed=1, start=START)
    async with running(world) as system, system.user_hub() as hub:
        await hub.wait_closed()
        assert trio.current_time() == pytest.approx(10)


def test_a_world_opened_without_a_scenario_starts_now(tmp_path: Path) -> None:
    class Stopped:
        def now(self) -> datetime:
            return START

    assert open_world(None, seed=1, clock=Stopped()).start == START
    path = written(tmp_path, "[prices]\nES = 6900\n")
    assert open_world(path, seed=1, clock=Stopped()).markets[ES].last == 6900


def test_an_empty_scenario_is_the_world_as_it_comes(tmp_path: Path) -> None:
    world = load_scenario(written(tmp_path, "")).world(seed=1, start=START)
    line = ready_line(world, "127.0.0.1:1")
    assert [account["id"] for account in line["users"][0]["accounts"]] == [25700001, 26200002, 27300003]


def test_everything_wrong_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    text = """
colour = "red"
[options]
hub_lag_ms = 3
sessions = 1
speed = 0
[[users]]
api_key = 3
[[users.accounts]]
id = 1
name = "a"
balance = "much"
[[users.accounts]]
id = 1
name = "b"
balance = nan
[prices]
XXX = 1
MNQ = "25000.1"
[[faults]]
name = "earthquake"
[[faults]]
at_s = -1
name = "slow"
[[moves]]
at_s = 1
contract = "MNQ"
"""
    with pytest.raises(InvalidSettings) as caught:
        load_scenario(written(tmp_path, text))
    _, *lines = str(caught.value).splitlines()
    assert [line.strip().split(": ")[0] for line in lines] == [
        "options.hub_lag_ms",
        "options.sessions",
        "options.speed",
        "users[0].user_name",
        "users[0].api_key",
        "users[0].accounts[0].balance",
        "users[0].accounts[1].balance",
        "users",
        "prices.XXX",
        "prices.MNQ",
        "faults[0].at_s",
        "faults[0].name",
        "faults[1].at_s",
        "moves[0].price",
        "colour",
    ]
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("text", "place", "complaint"),
    [
        ('start = "2026-11-18"', "start", "must be a date with a time and an offset"),
        ("start = 2026-11-18T15:00:00", "start", "must be a date with a time and an offset"),
        ("[options]\nspeed = 0", "options.speed", "must be more than 0"),
        ("[options]\nspeed = 3601", "options.speed", "must be at most 3600"),
        ("[options]\nmarket_step_ms = 0.5", "options.market_step_ms", "must be at least 1"),
        (
            '[[paths]]\ncontract = "MNQ"\npoints = [[0, 25000], [1, 25250.25]]',
            "paths[0].points",
            "[1]: is more than 1000 ticks a second away",
        ),
        ("[options]\nmarket_step_ms = 0", "options.market_step_ms", "must be more than 0"),
        ("[options]\nhub_lag_ms = [3, 1]", "options.hub_lag_ms", "the lower number and the higher"),
        ("[options]\naccount_repeats = [-1, 1]", "options.account_repeats", "from 0 to 1000"),
        ("[options]\norder_repeat_probability = 1.5", "options.order_repeat_probability", "between 0 and 1"),
        ('[[faults]]\nat_s = 0\nname = "slow"\nprobability = 2', "faults[0].probability", "between 0 and 1"),
        ('[[paths]]\ncontract = "MNQ"', "paths[0].points", "is missing"),
        ('[[paths]]\ncontract = "MNQ"\npoints = []', "paths[0].points", "at least one"),
        ('[[paths]]\ncontract = "MNQ"\npoints = [[0, 1], [1]]', "paths[0].points", "[1]: must be seconds and a price"),
        ('[[paths]]\ncontract = "MNQ"\npoints = [[0, "1.1"]]', "paths[0].points", "[0]: MNQ trades in steps of 0.25"),
        ('[[paths]]\ncontract = "MNQ"\npoints = [[5, 1], [4, 1]]', "paths[0].points", "[1]: the seconds must not"),
        ('[[paths]]\ncontract = "MNQ"\npoints = 1', "paths[0].points", "must be an array"),
        ("[[paths]]\npoints = [[0, 1]]", "paths[0].contract", "is missing"),
        ('[[recordings]]\ncontract = "MNQ"\nformat = "ticks"', "recordings[0].path", "is missing"),
        (
            '[[recordings]]\ncontract = "MNQ"\npath = "a"\nformat = "tick"',
            "recordings[0].format",
            "must be one of ticks, bars",
        ),
        (
            '[[recordings]]\ncontract = "MNQ"\npath = "a"\nformat = "ticks"\nat = "now"',
            "recordings[0].at",
            "must be one of start, absolute",
        ),
        (
            '[[recordings]]\ncontract = "MNQ"\npath = "a"\nformat = "ticks"\nbar_s = 60',
            "recordings[0].bar_s",
            "is for bars",
        ),
        (
            '[[paths]]\ncontract = "MNQ"\npoints = [[0, 1]]\n[[paths]]\ncontract = "mnq"\npoints = [[0, 1]]',
            "paths[1]",
            "MNQ has a path or a recording already",
        ),
        ('[prices]\nMNQ = "1e40"', "prices.MNQ", "no number that anything here can have"),
        (
            '[[paths]]\ncontract = "MNQ"\npoints = [[0, 1], [1e20, 2]]',
            "paths[0].points",
            "no number that anything here can have",
        ),
        *(
            ("[[users]]\nuser_name = 'a'\n[[users.accounts]]\n" + account, f"users[0].accounts[0].{key}", complaint)
            for account, key, complaint in (
                ("id = 0", "id", "must be a positive number of 32 bits"),
                ("id = 2147483648", "id", "must be a positive number of 32 bits"),
                ("max_minis = -1", "max_minis", "must be from 0 to"),
                ("balance = '0.00001'", "balance", "at most four decimals"),
                ("floor = '0.00001'", "floor", "at most four decimals"),
            )
        ),
        ("[options]\nrefusal_when_locked = 0", "options.refusal_when_locked", "must be 2, 4 or 10"),
        ('[[faults]]\nat_s = 0\nname = "slow"\ntarget = "/api/Order"', "faults[0].target", "/api/Order/place"),
        ("start = 2100-03-01T15:00:00Z", "start", "between 2001 and 2098"),
        ('[[faults]]\nat_s = 0\nname = "http_401"\ndelay_s = 3', "faults[0].delay_s", "http_401 delays nothing"),
        ('[[faults]]\nat_s = 0\nname = "slow_cancel"\ntarget = "99"', "faults[0].target", "there is no account 99"),
        ('[[recordings]]\ncontract = "ES"\npath = "a\\u0000"\nformat = "bars"', "recordings[0].path", "character 0"),
        ('[[users]]\nuser_name = "a"\naccounts = [{liquidates = true}]', "users[0].accounts[0].liquidates", "a floor"),
        ("[prices]\nMNQ = 25000\nmnq = 25001", "prices.mnq", "MNQ has a price already"),
        ('[[users]]\nuser_name = "anna"\n[[users]]\nuser_name = "Anna"', "users", "two users bear the same name"),
    ],
)
def test_what_is_wrong_is_told_with_the_name_of_its_field(
    tmp_path: Path, text: str, place: str, complaint: str
) -> None:
    with pytest.raises(InvalidSettings) as caught:
        load_scenario(written(tmp_path, text))
    told = [line.strip() for line in str(caught.value).splitlines()]
    assert any(line.startswith(f"{place}: ") and complaint in line for line in told), told


@pytest.mark.parametrize(
    ("names", "complaint"),
    [(["MNQ", MNQ], f"paths\\[1\\]: {MNQ} has a path"), (["CON.F.US.MNQ.U26"], "paths\\[0\\]: .* is not traded")],
)
def test_a_path_that_could_not_be_played_is_refused(tmp_path: Path, names: list[str], complaint: str) -> None:
    text = "".join(f'[[paths]]\ncontract = "{name}"\npoints = [[0, 25000]]\n' for name in names)
    with pytest.raises(InvalidSettings, match=complaint):
        open_world(written(tmp_path, text), seed=1, start=START)


def test_bars_that_would_overlap_are_refused(tmp_path: Path) -> None:
    rows = "time,open,high,low,close,volume\n0,62,62,62,62,4\n60,62,62,62,62,4\n"
    (tmp_path / "crude.csv").write_text(rows, encoding="utf-8")
    text = '[[recordings]]\ncontract = "CL"\npath = "crude.csv"\nformat = "bars"\nbar_s = 90\n'
    with pytest.raises(InvalidSettings, match=r"crude\.csv: bar_s says 90\.0 s, but two bars are only 60\.0 s apart"):
        load_scenario(written(tmp_path, text))


def test_the_start_is_the_callers_then_the_files_then_now(tmp_path: Path) -> None:
    path = written(tmp_path, "start = 2026-03-02T10:00:00-06:00\n[options]\nspeed = 3\n")
    world = open_world(path, seed=1)
    assert (world.start, world.options.speed) == (datetime(2026, 3, 2, 16, tzinfo=UTC), 3)
    world = open_world(path, seed=1, start=START, speed=5)
    assert (world.start, world.options.speed) == (START, 5)


def test_a_ticker_means_the_month_that_is_active_then_and_a_price_means_every_month(tmp_path: Path) -> None:
    text = """
start = 2027-01-04T15:00:00Z
[options]
month_roll = true
[prices]
MNQ = 26000
[[paths]]
contract = "ES"
points = [[0, 7000]]
[[moves]]
at_s = 1
contract = "MNQ"
price = 26001
"""
    world = open_world(written(tmp_path, text), seed=1)
    world.run(world.start + timedelta(seconds=2))
    assert world.markets["CON.F.US.EP.H27"].last == 7000
    assert world.markets["CON.F.US.MNQ.H27"].last == 26001
    assert world.markets["CON.F.US.MNQ.M27"].last == 26000


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "not TOML"),
        (None, "cannot read"),
        (f"a = {'1' * 5000}", "not TOML"),
        (f"a = {'[' * 3000}{']' * 3000}", "not TOML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, complaint: str) -> None:
    path = tmp_path / "missing.toml" if text is None else written(tmp_path, text)
    with pytest.raises(InvalidSettings, match=complaint) as caught:
        load_scenario(path)
    assert str(path) in str(caught.value)
