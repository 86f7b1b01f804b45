"""What moves prices: chance, paths, recordings and hands; sessions, the month roll, and the broker's own speed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from flatguard.errors import InvalidSettings
from flatguard.simulator import Options, World, serve_simulator
from flatguard.simulator.contracts import PRODUCTS, Listing, contract_of
from flatguard.simulator.exact_json import dumps
from flatguard.simulator.scenario import load_scenario
from flatguard.simulator.sessions import is_open
from flatguard.simulator.tape import Tape, Tick, path_ticks
from tests.fakes.gateway_client import Hub, Rest
from tests.simulator.conftest import BUY, COMBINE, ES, LIMIT, MNQ, SELL, START, System, calm_world, running

QUARTER = Decimal("0.25")
CORN = "CON.F.US.ZCE.H27"
STILL = Options.calm()


def scenario(folder: Path, text: str, start: datetime = START, seed: int = 1) -> World:
    path = folder / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path).world(seed=seed, start=start)


def prices(hub: Hub, contract: str = MNQ) -> list[Decimal]:
    """Return the prices of the trades that the hub told."""
    return [
        print_["price"]
        for _, (contract_id, prints) in hub.events("GatewayTrade")
        if contract_id == contract
        for print_ in prints
    ]


async def bars(system: System, contract: str, start: datetime, minutes: int, width: int = 1) -> list[dict[str, Any]]:
    answer = await system.rest(
        "History/retrieveBars",
        contractId=contract,
        live=False,
        startTime=start.isoformat(),
        endTime=(start + timedelta(minutes=minutes)).isoformat(),
        unit=2,
        unitNumber=width,
        limit=1000,
        includePartialBar=True,
    )
    return list(reversed(answer["bars"]))


# --- paths ---


async def test_a_path_is_traded_tick_by_tick(tmp_path: Path, autojump_clock: object) -> None:
    text = '[options]\ncalm = true\n[[paths]]\ncontract = "MNQ"\npoints = [[1, "25000"], [3, "24999"], [3, "25010"]]\n'
    async with running(scenario(tmp_path, text)) as system, system.market_hub() as hub:
        await hub.invoke("SubscribeContractTrades", MNQ)
        await trio.sleep(5)
        told = prices(hub)
    on_the_way = [25000, 25000, Decimal("24999.75"), 24999.75, Decimal("24999.5")]
    assert told[:5] == on_the_way
    down = told.index(24999)
    assert {*told[:down]} == {25000, Decimal("24999.75"), Decimal("24999.5"), Decimal("24999.25")}
    assert set(told[down:]) == {24999, 25010}
    assert told[-1] == 25010, "after its end it stands still, and trades on"


async def test_a_limit_on_the_way_fills_at_its_own_price_although_nobody_watches(
    tmp_path: Path, autojump_clock: object
) -> None:
    text = '[options]\ncalm = true\n[[paths]]\ncontract = "MNQ"\npoints = [[0, "25000"], [60, "24950"]]\n'
    async with running(scenario(tmp_path, text)) as system:
        await system.place(kind=LIMIT, limitPrice=24975.25)
        await trio.sleep(29)
        assert system.world.position(COMBINE, MNQ) == 0
        await trio.sleep(2)
        assert system.world.position(COMBINE, MNQ) == 1
        (trade,) = (await system.rest.truth())["trades"]
        assert trade["price"] == Decimal("24975.25")


@given(
    st.lists(
        st.tuples(st.decimals(0, 30, places=3), st.integers(90_000, 90_400)),
        min_size=1,
        max_size=6,
        unique_by=lambda p: p[0],
    ).map(sorted)
)
def test_a_path_meets_each_point_in_time_leaves_no_tick_out_and_never_goes_back(
    points: Sequence[tuple[Decimal, int]],
) -> None:
    pace = timedelta(milliseconds=250)
    on_grid = [(seconds, ticks * QUARTER) for seconds, ticks in points]
    ticks = list(path_ticks(on_grid, START, QUARTER, pace))
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)
    for before, after in pairwise(ticks):
        assert abs(after.price - before.price) <= QUARTER
        assert after.at - before.at <= pace + timedelta(microseconds=1)
    for seconds, price in on_grid:
        assert Tick(START + timedelta(microseconds=int(seconds * 1_000_000)), price) in ticks
    for later in (timedelta(milliseconds=ms) for ms in range(0, 31_000, 1_234)):
        wound, sought = Tape(iter(ticks)), Tape(iter(ticks), partial(path_ticks, on_grid, START, QUARTER, pace))
        assert wound.skip_to(START + later) == sought.skip_to(START + later)
        assert wound.coming == sought.coming, "the same is found without winding through all of it"


def test_a_path_of_years_is_put_forward_at_once() -> None:
    far = partial(path_ticks, [(Decimal(0), Decimal(1)), (Decimal(10**9), Decimal(10**6))], START, QUARTER)
    ticks = partial(far, timedelta(milliseconds=1))
    tape = Tape(ticks(), ticks)
    tick = tape.skip_to(START + timedelta(days=9000))
    assert tick is not None
    assert START + timedelta(days=9000) - tick.at <= timedelta(milliseconds=1)


# --- by hand ---


async def test_a_price_set_by_hand_goes_before_the_path_until_it_is_let_go(
    tmp_path: Path, autojump_clock: object
) -> None:
    text = (
        '[options]\ncalm = true\n[[paths]]\ncontract = "MNQ"\npoints = [[0, "25000"], [100, "25100"], [500, "25100"]]\n'
    )
    async with running(scenario(tmp_path, text)) as system:
        market = system.world.markets[MNQ]
        await trio.sleep(10)
        await system.move(24000)
        await trio.sleep(40)
        assert market.last == 24000
        answer = await system.rest.sim("price", contractId="MNQ", resume=True)
        assert answer["price"] == 25050, "the path has gone on meanwhile"
        await trio.sleep(51)
        assert market.last == 25100
        await system.move(24000)
        await trio.sleep(500)
        await system.rest.sim("price", contractId="MNQ", resume=True)
        assert market.last == 25100, "also after the path has ended"


async def test_the_broker_clock_put_forward_takes_the_path_along_without_its_trades(
    tmp_path: Path, autojump_clock: object
) -> None:
    text = '[options]\ncalm = true\n[[paths]]\ncontract = "MNQ"\npoints = [[0, "25000"], [100, "25100"]]\n'
    async with running(scenario(tmp_path, text)) as system:
        await trio.sleep(1)
        volume = system.world.markets[MNQ].volume
        await system.rest.sim("clock", advance_s=59)
        assert system.world.markets[MNQ].volume - volume <= 10, "two ticks at most"
        await trio.sleep(0.3)
        assert system.world.markets[MNQ].last == Decimal("25060.25")


# --- recordings ---

BARS = """time,open,high,low,close,volume
2026-03-02T10:00:00-06:00,25000,25010.25,24995,25001,17
2026-03-02T10:01:00-06:00,25001,25003,24990.75,24991,3
2026-03-02T10:03:00-06:00,24991,24991,24991,24991,0
"""


@pytest.mark.parametrize(("at", "shift"), [("start", True), ("absolute", False)])
async def test_recorded_bars_come_back_from_the_history_as_they_were(
    tmp_path: Path, autojump_clock: object, at: str, shift: bool
) -> None:
    (tmp_path / "bars.csv").write_text(BARS)
    text = (
        f'[options]\ncalm = true\n[[recordings]]\ncontract = "MNQ"\npath = "bars.csv"\nformat = "bars"\nat = "{at}"\n'
    )
    recorded = datetime(2026, 3, 2, 16, tzinfo=UTC)
    start = START if shift else recorded - timedelta(seconds=30)
    async with running(scenario(tmp_path, text, start)) as system:
        await trio.sleep(30 + 3 * 60 + 50)
        rows = await bars(system, MNQ, START if shift else recorded, 2)
    assert [[row[key] for key in "ohlc"] + [row["v"]] for row in rows] == [
        [25000, Decimal("25010.25"), 24995, 25001, 17],
        [25001, 25003, Decimal("24990.75"), 24991, 3],
    ]


async def test_a_bar_goes_to_its_nearer_extreme_first(tmp_path: Path, autojump_clock: object) -> None:
    (tmp_path / "bars.csv").write_text(BARS)
    text = '[options]\ncalm = true\n[[recordings]]\ncontract = "MNQ"\npath = "bars.csv"\nformat = "bars"\n'
    async with running(scenario(tmp_path, text)) as system, system.market_hub() as hub:
        await hub.invoke("SubscribeContractTrades", MNQ)
        await hub.invoke("SubscribeContractQuotes", MNQ)
        await trio.sleep(179)
        told = prices(hub)
    assert told == [24995, Decimal("25010.25"), 25001, 25001, 25003, Decimal("24990.75")], (
        "the first was told before anyone listened, and nothing trades where the volume is used up"
    )


async def test_recorded_ticks_keep_their_times_bids_asks_and_volumes(tmp_path: Path, autojump_clock: object) -> None:
    (tmp_path / "ticks.csv").write_text(
        "Time, Price, Volume, Bid, Ask\n"
        "1000,25000,3,24999.50,25000.75\n"
        "1000.5,25001,7,,\n"
        "\n"
        "1002.125,25002.25,,25002,25002.25\n"
    )
    text = '[options]\ncalm = true\n[[recordings]]\ncontract = "MNQ"\npath = "ticks.csv"\nformat = "ticks"\n'
    world = scenario(tmp_path, text)
    market = world.markets[MNQ]
    assert world.next_moment == START
    world.run(START)
    assert (market.last, market.bid, market.ask, market.volume) == (
        25000,
        Decimal("24999.5"),
        Decimal("25000.75"),
        3,
    )
    world.run(START + timedelta(seconds=0.5))
    assert (market.last, market.bid, market.ask, market.volume) == (25001, Decimal("25000.75"), Decimal("25001.25"), 10)
    world.run(START + timedelta(seconds=2.124))
    assert market.last == 25001
    world.run(START + timedelta(seconds=2.125))
    assert (market.last, market.ask) == (Decimal("25002.25"), Decimal("25002.25"))


async def test_a_limit_fills_by_a_recordings_bid_and_ask_where_it_tells_them(
    tmp_path: Path, autojump_clock: object
) -> None:
    (tmp_path / "ticks.csv").write_text(
        "time,price,bid,ask\n"
        "0,25000,24999,25001\n"
        "2,24990,24989,24995\n"
        "3,24991,24989,24990\n"
        "4,25010,25005,25011\n"
        "5,25010,25010,25011\n"
        "6,24980,,\n"
    )
    text = '[options]\ncalm = true\n[[recordings]]\ncontract = "MNQ"\npath = "ticks.csv"\nformat = "ticks"\n'
    async with running(scenario(tmp_path, text)) as system:
        await system.place(kind=LIMIT, limitPrice=24990)
        await system.place(SELL, kind=LIMIT, limitPrice=25010)
        await system.place(kind=LIMIT, limitPrice=24980)
        held = []
        await trio.sleep(0.5)
        for _ in range(6):
            await trio.sleep(1)
            held.append(system.world.position(COMBINE, MNQ))
    assert held == [0, 0, 1, 1, 0, 1], "the last one by the last price, as the row tells no more"


def test_a_recording_that_ends_before_the_start_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "bars.csv").write_text(BARS)
    text = '[[recordings]]\ncontract = "MNQ"\npath = "bars.csv"\nformat = "bars"\nat = "absolute"\n'
    with pytest.raises(InvalidSettings, match=r"recordings\[0\]") as caught:
        scenario(tmp_path, text)
    assert "Start earlier" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "content", "complaint"),
    [
        ("ticks", "", "line 1, column time: is missing; ticks have the columns time, price, volume, bid, ask"),
        ("ticks", "time,price,colour\n", "line 1, column colour: is not known here"),
        ("ticks", "time,price,price\n", "line 1, column price: is there twice"),
        ("ticks", "time,price\n", "holds no rows"),
        ("ticks", "time,price\n1,25000\n2\n", "line 3, column price: the row has 1 cells instead of 2"),
        ("ticks", "time,price\nnoon,25000\n", "line 2, column time: 'noon' is not a time"),
        (
            "ticks",
            "time,price\n2026-03-02T10:00:00,25000\n",
            "line 2, column time: '2026-03-02T10:00:00' does not say in",
        ),
        ("ticks", "time,price\n1,25000.1\n", "line 2, column price: MNQ trades in steps of 0.25; 25000.1 is not one"),
        ("ticks", "time,price\n1,much\n", "line 2, column price: 'much' is not a number"),
        ("ticks", "time,price\n1,nan\n", "line 2, column price: 'nan' is not a number"),
        ("ticks", "time,price\n1,1e999\n", "line 2, column price: '1e999' is not a number"),
        ("ticks", "time,price,volume\n1,25000,1.5\n", "line 2, column volume: '1.5' is not a whole number"),
        ("ticks", "time,price,bid\n1,25000,25000.25\n", "line 2, column bid: leaves the bid no lower than"),
        (
            "ticks",
            "time,price\n0001-01-01T00:00:00+14:00,25000\n",
            "time: '0001-01-01T00:00:00+14:00' does",
        ),
        ("ticks", "time,price\n9999-12-31T23:59:59Z,25000\n", "time: '9999-12-31T23:59:59Z' does"),
        ("ticks", "time,price,bid,ask\n1,25000,25000,25000\n", "line 2, column bid: leaves the bid no lower than"),
        ("ticks", "time,price\n2,25000\n1,25000\n", "line 3, column time: is earlier than the row before"),
        ("ticks", "time,price\n" + "1,25000\n" * 1001, "line 1002, column time: is that of more than 1000 rows"),
        ("bars", "time,open,high,low,close,volume\n1,4,3,3,4,1\n", "line 2, column high: is lower than another price"),
        ("bars", "time,open,high,low,close,volume\n1,4,5,5,5,1\n", "line 2, column low: is higher than another price"),
        ("bars", "time,open,high,low,close,volume\n1,4,4,4,4,1\n1,4,4,4,4,1\n", "line 3, column time: is the same"),
    ],
)
def test_a_recording_that_cannot_be_played_is_refused_by_file_line_and_column(
    tmp_path: Path, kind: str, content: str, complaint: str
) -> None:
    (tmp_path / "prices.csv").write_text(content)
    text = f'[[recordings]]\ncontract = "MNQ"\npath = "prices.csv"\nformat = "{kind}"\n'
    with pytest.raises(InvalidSettings) as caught:
        scenario(tmp_path, text)
    assert f"recordings[0].path: {tmp_path / 'prices.csv'}" in str(caught.value)
    assert complaint in str(caught.value)


def test_of_many_mistakes_in_a_recording_the_first_are_shown(tmp_path: Path) -> None:
    (tmp_path / "prices.csv").write_text("time,price\n" + "1,x\n" * 9)
    with pytest.raises(InvalidSettings, match="and 4 more"):
        scenario(tmp_path, '[[recordings]]\ncontract = "MNQ"\npath = "prices.csv"\nformat = "ticks"\n')


@pytest.mark.parametrize(("content", "complaint"), [(None, "cannot be read"), (b"\xff\xfe", "is not CSV")])
def test_a_recording_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    if content is not None:
        (tmp_path / "prices.csv").write_bytes(content)
    with pytest.raises(InvalidSettings, match=complaint):
        scenario(tmp_path, '[[recordings]]\ncontract = "MNQ"\npath = "prices.csv"\nformat = "ticks"\n')


def test_a_tape_is_taken_in_order_and_once() -> None:
    ticks = [Tick(START + timedelta(seconds=number), Decimal(number)) for number in range(5)]
    tape = Tape(iter(ticks))
    assert tape.take(START - timedelta(seconds=1)) is None
    assert tape.take(START) == ticks[0]
    assert tape.skip_to(START + timedelta(seconds=3)) == ticks[2]
    assert (tape.skip_to(START), tape.take(START + timedelta(seconds=9))) == (None, ticks[3])


# --- the time before the start ---


def past_bars(
    world: World, unit: int, width: int = 1, limit: int = 20_000, contract: str = MNQ
) -> list[dict[str, Any]]:
    """Return all bars that there are before the start, the oldest first."""
    ever = START - timedelta(days=3000)
    return world.markets[contract].bars(unit, width, ever, START, limit, START, partial=True)[::-1]


def test_before_the_start_there_is_a_past_that_leads_to_the_price_at_the_start() -> None:
    world = World(seed=1, start=START, prices={"MNQ": Decimal(26000)})
    minutes = past_bars(world, 2)
    assert (len(minutes), minutes[-1]["c"], minutes[-1]["t"]) == (20_000, 26000, "2026-11-18T14:59:00+00:00")
    days = past_bars(world, 4)
    assert len(days) == 3 * 365
    for series in (minutes, days):
        assert all(before["c"] == after["o"] for before, after in pairwise(series))
        assert all(bar["l"] <= min(bar["o"], bar["c"]) <= max(bar["o"], bar["c"]) <= bar["h"] for bar in series)
        assert len({bar["c"] for bar in series}) > 100
    hour, of_it = past_bars(world, 3)[-1], minutes[-60:]
    assert (hour["o"], hour["c"]) == (of_it[0]["o"], of_it[-1]["c"])
    assert (hour["h"], hour["l"]) == (max(bar["h"] for bar in of_it), min(bar["l"] for bar in of_it))
    assert past_bars(world, 2, limit=60) == of_it


def test_the_same_seed_has_the_same_past_whoever_asks_for_what_first() -> None:
    one, other = World(seed=1, start=START), World(seed=1, start=START)
    days = past_bars(one, 4)
    other.run(START)
    assert past_bars(other, 2, limit=10) == past_bars(one, 2, limit=10)
    assert past_bars(other, 4) == days
    assert past_bars(World(seed=2, start=START), 4) != days


@pytest.mark.parametrize("contract", [MNQ, CORN])
def test_the_past_kept_the_hours_that_are_kept(contract: str) -> None:
    world = World(seed=1, start=START, options=STILL.but(sessions=True))
    ticker = world.markets[contract].contract.ticker
    times = [datetime.fromisoformat(bar["t"]) for bar in past_bars(world, 2, contract=contract)]
    assert len(times) > 15_000
    assert all(is_open(at, ticker) for at in times)
    assert {bar["c"] for bar in past_bars(world, 2)} == {25000}, "where prices stand still they always have"


async def test_a_bot_gets_the_bars_of_the_last_days(calm: System, autojump_clock: object) -> None:
    await trio.sleep(30)
    rows = await bars(calm, MNQ, START - timedelta(minutes=600), 700)
    assert len(rows) == 600
    assert rows == sorted(rows, key=lambda row: row["t"])
    assert rows == (await bars(calm, MNQ, START - timedelta(minutes=600), 599))


# --- sessions ---


async def test_the_hub_is_silent_while_the_market_is_closed_and_speaks_again_when_it_opens(
    autojump_clock: object,
) -> None:
    start = datetime(2026, 11, 18, 21, 59, 59, tzinfo=UTC)  # a second before the halt
    world = World(seed=1, start=start, options=STILL.but(sessions=True, price_walk=True))
    async with running(world) as system, system.market_hub() as hub:
        await hub.invoke("SubscribeContractQuotes", MNQ)
        await trio.sleep(2)
        told = len(hub.events("GatewayQuote"))
        assert told > 1
        assert (await system.place())["errorMessage"] is not None
        await trio.sleep(3500)
        assert len(hub.events("GatewayQuote")) == told
        await trio.sleep(130)
        assert len(hub.events("GatewayQuote")) > told + 50
        assert (await system.place())["success"]


async def test_who_subscribes_while_the_market_is_closed_gets_a_full_quote_when_it_opens(
    autojump_clock: object,
) -> None:
    start = datetime(2026, 11, 18, 22, 59, 50, tzinfo=UTC)  # in the halt, ten seconds before the opening
    world = World(seed=1, start=start, options=STILL.but(sessions=True))
    async with running(world) as system, system.market_hub() as hub:
        await hub.invoke("SubscribeContractQuotes", MNQ)
        await trio.sleep(9)
        assert hub.events("GatewayQuote") == []
        await trio.sleep(3)
        first = hub.events("GatewayQuote")[0][1][1]
        assert {"lastPrice", "bestBid", "bestAsk", "open", "volume"} <= set(first)


async def test_each_product_keeps_its_own_hours_at_the_gateway(autojump_clock: object) -> None:
    start = datetime(2026, 11, 18, 20, tzinfo=UTC)  # 14:00 in Chicago: the grains have closed at 13:20
    async with running(World(seed=1, start=start, options=STILL.but(sessions=True))) as system:
        assert (await system.place())["success"]
        refused = await system.place(contractId=CORN)
        assert (refused["success"], refused["errorCode"]) == (False, 2)
        async with system.market_hub() as hub:
            for contract in (CORN, MNQ):
                await hub.invoke("SubscribeContractTrades", contract)
            await trio.sleep(5)
            assert (len(prices(hub, CORN)), len(prices(hub, MNQ)) > 10) == (0, True)
        await system.rest.sim("clock", advance_s=5 * 3600)  # 19:00
        assert (await system.place(contractId=CORN))["success"]


async def test_a_holiday_comes_by_the_brokers_clock(autojump_clock: object) -> None:
    start = datetime(2026, 11, 26, 17, 59, tzinfo=UTC)  # Thanksgiving, a minute before noon in Chicago
    async with running(World(seed=1, start=start, options=STILL.but(sessions=True))) as system:
        assert (await system.place())["success"]
        await system.rest.sim("clock", advance_s=60)
        assert not (await system.place())["success"]
        await system.rest.sim("clock", advance_s=5 * 3600)
        assert (await system.place())["success"]


@pytest.mark.parametrize(
    ("night", "hours"), [(datetime(2026, 3, 8, tzinfo=UTC), 23), (datetime(2026, 11, 1, tzinfo=UTC), 25)]
)
async def test_on_the_nights_on_which_the_clocks_change_the_day_turns_at_17_in_chicago(
    autojump_clock: object, night: datetime, hours: int
) -> None:
    before = datetime(night.year, night.month, night.day - 1, 22 + (hours == 23), tzinfo=UTC) if night.day > 1 else None
    before = before or datetime(2026, 10, 31, 22, tzinfo=UTC)
    world = World(seed=1, start=before, options=STILL)
    async with running(world) as system, system.market_hub() as hub:
        await hub.invoke("SubscribeContractQuotes", MNQ)
        await trio.sleep(1)
        await system.move(25100)
        market = world.markets[MNQ]
        await system.rest.sim("clock", advance_s=hours * 3600 - 2)
        await trio.sleep(0.5)
        assert (market.open, market.high) == (25000, 25100)
        await trio.sleep(2)
        assert (market.open, market.high) == (25100, 25100)


# --- the month roll ---


def test_the_active_months_are_those_of_the_one_list_that_was_seen() -> None:
    listed = " ".join(
        contract.display_name for contract in Listing(rolls=True).active(datetime(2026, 8, 19, 20, tzinfo=UTC))
    )
    assert listed == (
        "ESU26 MESU26 NQU26 MNQU26 RTYU26 M2KU26 YMU26 MYMU26 NKDU26 CLV26 QMV26 MCLV26 NGU26 QGU26 MNGU26 RBV26 HOV26 "
        "PLV26 GCZ26 MGCZ26 SIU26 SILU26 HGU26 MHGU26 6EU26 E7U26 M6EU26 6BU26 M6BU26 6AU26 M6AU26 6CU26 6JU26 6SU26 "
        "6NU26 6MU26 ZTU26 ZFU26 ZNU26 TNU26 ZBU26 UBU26 ZCZ26 ZSX26 ZWZ26 ZMZ26 ZLZ26 LEV26 HEV26 MBTQ26 METQ26"
    )


@pytest.mark.parametrize(
    ("contract_id", "last_day"),
    [
        ("EP.Z26", date(2026, 12, 18)),
        ("EP.M26", date(2026, 6, 18)),  # the third Friday is a holiday
        ("CLE.F27", date(2026, 12, 21)),
        ("NGE.Z26", date(2026, 11, 25)),
        ("EU6.Z26", date(2026, 12, 14)),
        ("CA6.Z26", date(2026, 12, 15)),
        ("TYA.Z26", date(2026, 12, 21)),
        ("TUA.Z26", date(2026, 12, 31)),
        ("ZCE.Z26", date(2026, 12, 14)),
        ("GCE.Z26", date(2026, 12, 29)),
        ("HE.Z26", date(2026, 12, 14)),
        ("MBT.X26", date(2026, 11, 27)),
    ],
)
def test_contracts_expire_by_the_exchanges_rules(contract_id: str, last_day: date) -> None:
    contract = contract_of(f"CON.F.US.{contract_id}")
    assert contract is not None
    assert contract.ends_at.date() == last_day
    assert contract.rolls_at < contract.ends_at


@given(st.sampled_from(sorted(PRODUCTS)), st.integers(0, 3 * 365))
def test_at_any_time_each_product_has_one_active_month_that_is_still_traded(root: str, day: int) -> None:
    now = datetime(2026, 1, 5, 18, tzinfo=UTC) + timedelta(days=day)
    listing = Listing(rolls=True)
    contract = listing.find(PRODUCTS[root].ticker, now)
    assert contract is not None
    assert contract_of(contract.id) is contract
    assert listing.is_active(contract, now)
    assert listing.is_traded(contract, now)
    later = listing.find(PRODUCTS[root].ticker, contract.rolls_at)
    assert later is not None
    assert later.rolls_at > contract.rolls_at


@pytest.mark.parametrize(
    "name", ["", "MNQ", "CON.F.US.MNQ", "CON.F.US.MNQ.F27", "CON.F.US.XXX.Z26", "CON.F.EU.MNQ.Z26", "CON.F.US.MNQ.Z²6"]
)
def test_an_id_that_no_product_has_is_no_contract(name: str) -> None:
    assert contract_of(name) is None


async def test_at_the_roll_the_active_flag_moves_and_what_is_held_keeps_its_id_and_trades_on(
    autojump_clock: object,
) -> None:
    old, new = MNQ, "CON.F.US.MNQ.H27"
    start = datetime(2026, 12, 13, 22, 59, 50, tzinfo=UTC)  # the Sunday evening of the week of expiry
    world = World(seed=1, start=start, options=STILL.but(sessions=True, month_roll=True, token_life_s=1e7))
    async with running(world) as system:

        async def listed() -> list[str]:
            answer = await system.rest("Contract/search", searchText="MNQ", live=False)
            return [row["id"] for row in answer["contracts"]]

        async def flag(contract_id: str) -> bool:
            answer = await system.rest("Contract/searchById", contractId=contract_id)
            return bool(answer["contract"]["activeContract"])

        assert (await listed(), await flag(old), await flag(new)) == ([old], True, False)
        await trio.sleep(11)
        assert (await listed(), await flag(old), await flag(new)) == ([new], False, True)
        available = (await system.rest("Contract/available", live=False))["contracts"]
        assert [row["id"] for row in available if row["symbolId"] == "F.US.MNQ"] == [new]
        assert (await system.place(BUY, 2))["success"], "the old month trades on"
        resting = await system.place(kind=LIMIT, limitPrice=24000)
        assert (await system.place(SELL, 1, contractId=new))["success"]
        await trio.sleep(1)
        held = (await system.rest("Position/searchOpen", accountId=COMBINE))["positions"]
        assert [(row["contractId"], row["size"]) for row in held] == [(old, 2), (new, 1)]
        await system.rest.sim("clock", advance_s=5 * 24 * 3600 - 3600)  # the third Friday, 16:00 in Chicago
        await trio.sleep(1)
        refused = await system.place()
        assert (refused["success"], refused["errorCode"]) == (False, 9)
        orders = {row["id"]: row["status"] for row in (await system.rest.truth())["orders"]}
        assert orders[resting["orderId"]] == 4, "expired with its contract"
        assert system.world.position(COMBINE, old) == 2
        whole = {"accountId": COMBINE, "contractId": old}
        assert (await system.rest("Position/closeContract", **whole))["errorCode"] == 4
        assert (await system.rest("Position/partialCloseContract", **whole, size=1))["errorCode"] == 4


async def test_without_the_roll_too_a_month_that_is_not_traded_has_no_market(
    calm: System, autojump_clock: object
) -> None:
    expired = "CON.F.US.MNQ.U26"
    async with calm.market_hub() as hub:
        await hub.invoke("SubscribeContractQuotes", expired)
        assert (await calm.rest.sim("price", contractId=expired, price=24900))["traded"] is False
        await trio.sleep(5)
        assert hub.events("GatewayQuote") == []


async def test_without_the_roll_the_months_stay_as_they_are(autojump_clock: object) -> None:
    async with running(World(seed=1, start=datetime(2031, 1, 8, tzinfo=UTC), options=STILL)) as system:
        row = (await system.rest("Contract/searchById", contractId=ES))["contract"]
        assert (row["activeContract"], row["name"]) == (True, "ESZ6")
        assert (await system.place(contractId=ES))["success"]
        assert (await system.rest("Contract/searchById", contractId="CON.F.US.EP.H31"))["errorCode"] == 1


# --- determinism, and speed ---


def story(seed: int, folder: Path) -> str:
    """Return everything that the hubs would have been told in a minute, as text."""
    text = '[[paths]]\ncontract = "ES"\npoints = [[0, "6800"], [30, "6790"]]\n'
    world = scenario(folder, text, seed=seed)
    for contract_id in (MNQ, ES):
        world.watch(contract_id, START)
    told = []
    for second in range(60):
        at = START + timedelta(seconds=second)
        world.run(at)
        told += [(event.name, event.key, event.arguments) for event in world.outbox.take(at)]
    return dumps(told)


def test_the_same_seed_tells_the_same_story_to_the_byte(tmp_path: Path) -> None:
    assert story(3, tmp_path) == story(3, tmp_path) != story(4, tmp_path)


async def test_on_sockets_the_brokers_clock_runs_at_its_speed(nursery: trio.Nursery) -> None:
    world = calm_world(speed=10_000, token_life_s=3600)
    ready: dict[str, Any] = await nursery.start(serve_simulator, world)
    async with httpx.AsyncClient(base_url=ready["rest_url"]) as http:
        user = ready["users"][0]
        rest = await Rest(http).login(user["user_name"], user["api_key"])
        with trio.fail_after(20):  # an hour passes in 0.36 s
            while (await rest.send("/api/Auth/validate")).status_code != 401:  # noqa: ASYNC110  the clock rings no bell
                await trio.sleep(0.05)
        clock = json.loads((await http.post("/sim/clock", json={"advance_s": 0})).text)
    assert datetime.fromisoformat(clock["now"]) - START >= timedelta(hours=1)


async def test_in_virtual_time_the_speed_is_of_no_effect(autojump_clock: object) -> None:
    async with running(calm_world(speed=10_000)) as system:
        await trio.sleep(60)
        assert system.gateway.now() - START == timedelta(seconds=60)
