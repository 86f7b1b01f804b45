"""Scenario files: what they set, what happens when, and how they are refused."""

from __future__ import annotations

from datetime import datetime
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
speed = 2
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


@pytest.mark.parametrize(("text", "complaint"), [("[", "not TOML"), (None, "cannot read")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, complaint: str) -> None:
    path = tmp_path / "missing.toml" if text is None else written(tmp_path, text)
    with pytest.raises(InvalidSettings, match=complaint) as caught:
        load_scenario(path)
    assert str(path) in str(caught.value)
