"""The order in which the user hub tells what happened, against the captured sequences."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import trio

from flatguard.simulator import Options, World
from tests.fakes.gateway_client import Hub
from tests.simulator.conftest import BUY, COMBINE, LIMIT, SELL, START, STOP, System, running

BRACKETS = {"stopLossBracket": {"ticks": -10, "type": 4}, "takeProfitBracket": {"ticks": 17, "type": 1}}


def story(hub: Hub, since: float = 0) -> list[str]:
    """Return what the hub told, one word or two per event."""
    words = []
    names: dict[int, str] = {}
    known: set[int] = set()
    for at, message in hub.heard:
        if message.get("type") != 1:
            continue
        (argument,) = message["arguments"]
        data = argument["data"]
        match message["target"]:
            case "GatewayUserOrder":
                if "parentOrderId" in data:
                    names[data["id"]] = "stop" if data["type"] == STOP else "target"
                word = f"{names.get(data['id'], 'order')} {data['status']}"
            case "GatewayUserTrade":
                kind = "closing" if "profitAndLoss" in data else "opening"
                word = f"{kind} again" if data["id"] in known else kind
                known.add(data["id"])
            case "GatewayUserPosition":
                word = f"position {data['size']}"
            case _:
                word = "account"
        if at >= since:
            words.append(word)
    return words


def moments(hub: Hub, since: float) -> list[int]:
    """Return milliseconds from the first event after ``since`` to each one."""
    times = [at for at, message in hub.heard if message.get("type") == 1 and at >= since]
    return [round((at - times[0]) * 1000) for at in times]


async def test_a_market_entry_with_brackets_is_told_as_in_sequence_a(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await calm.place(size=15, customTag="abc", **BRACKETS)
        await trio.sleep(5)
    assert story(hub) == [
        "order 6", "stop 8", "target 8", "opening", "order 2", "position 15", "account", "stop 1", "target 1",
    ]  # fmt: skip
    assert moments(hub, 0) == [0, 3, 4, 8, 10, 15, 21, 25, 26]


async def test_a_filled_target_is_told_as_in_sequence_b(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await calm.place(size=15, **BRACKETS)
        await trio.sleep(5)
        filled_at = trio.current_time()
        await calm.move(Decimal("25004.5"))
        await trio.sleep(5)
    assert story(hub, filled_at) == [
        "target 2", "closing", "opening again", "position 0", "account", "stop 3",
    ]  # fmt: skip
    assert moments(hub, filled_at) == [0, 1, 2, 7, 13, 18]


async def test_a_filled_stop_is_told_as_in_sequence_c(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await calm.place(size=15)
        await calm.place(SELL, 15, kind=STOP, stopPrice=24990)
        await trio.sleep(5)
        filled_at = trio.current_time()
        await calm.move(24990)
        await trio.sleep(5)
    assert story(hub, filled_at) == ["opening again", "closing", "order 2", "position 0", "account"]
    assert moments(hub, filled_at) == [0, 1, 1, 7, 13]


async def test_a_market_order_that_flattens_is_told_as_in_sequence_d(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await calm.place(size=15)
        await trio.sleep(5)
        placed_at = trio.current_time()
        await calm.place(SELL, 15)
        await trio.sleep(5)
    assert story(hub, placed_at) == ["order 6", "opening again", "order 2", "closing", "position 0", "account"]
    assert moments(hub, placed_at) == [0, 8, 9, 10, 14, 20]


async def test_a_target_left_behind_opens_the_other_way_as_in_sequence_e(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await calm.place(size=15)
        await calm.place(SELL, 15, kind=LIMIT, limitPrice=25010)
        await calm.rest("Position/closeContract", accountId=COMBINE, contractId="CON.F.US.MNQ.Z26")
        await trio.sleep(180)
        filled_at = trio.current_time()
        await calm.move(25010)
        await trio.sleep(5)
    assert story(hub, filled_at) == ["order 2", "opening", "position 15", "account"]
    assert moments(hub, filled_at) == [0, 1, 9, 16]
    assert hub.events("GatewayUserPosition")[-1][1][0]["data"]["type"] == 2


async def test_a_plain_market_entry_is_told_as_in_sequence_f(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await calm.place()
        await trio.sleep(5)
    assert story(hub) == ["order 6", "opening", "order 2", "position 1", "account"]


async def test_a_refused_order_is_told_as_in_sequence_g(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await calm.place(kind=LIMIT, limitPrice=Decimal("25000.1"))
        await trio.sleep(5)
    assert story(hub) == ["order 6", "order 5"]
    assert moments(hub, 0) == [0, 4]


async def test_a_reversal_is_told_as_a_closing_and_an_opening_half_turn(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await calm.place(size=2)
        await trio.sleep(1)
        placed_at = trio.current_time()
        await calm.place(SELL, 3)
        await trio.sleep(1)
    assert story(hub, placed_at) == [
        "order 6", "opening again", "order 2", "closing", "opening", "position 0", "position 1", "account",
    ]  # fmt: skip


async def test_a_re_sent_opening_trade_writes_its_price_the_other_way(calm: System, autojump_clock: object) -> None:
    await calm.move(Decimal("24999.75"))
    async with calm.user_hub() as hub:
        await calm.place()
        await calm.place(SELL)
        await trio.sleep(1)
    opening, again = (record for record in hub.records if '"GatewayUserTrade"' in record and '"side":0' in record)
    assert '"price":25000,' in opening
    assert '"price":25000.0,' in again


async def rough(seed: int, trading: Any) -> Hub:
    """Trade on a gateway as it comes, and return what its hub told."""
    async with running(World(seed=seed, start=START)) as system, system.user_hub() as hub:
        await trading(system)
        await trio.sleep(10)
    return hub


async def test_whatever_the_disorder_the_position_follows_the_fill_and_the_account_follows_the_position(
    autojump_clock: object,
) -> None:
    async def trading(system: System) -> None:
        for side in (BUY, SELL) * 4:
            await system.place(side, 2)
            await trio.sleep(1)

    orders_first = set()
    for seed in range(5):
        hub = await rough(seed, trading)
        sizes = [int(word.split()[1]) for word in story(hub) if word.startswith("position")]
        assert sizes == [2, 0] * 4
        words = [word for word in story(hub) if word != "account"]
        positions = [index for index, word in enumerate(words) if word.startswith("position")]
        for before, after in pairwise([-1, *positions]):
            turn = words[before + 1 : after]
            assert "order 2" in turn
            assert "opening" in turn or "closing" in turn
            orders_first.add(turn.index("order 2") < turn.index("opening" if "opening" in turn else "closing"))
    assert orders_first == {True, False}, "the order event comes before the trade in some turns and after it in others"


async def test_account_events_come_again_with_the_same_balance(autojump_clock: object) -> None:
    async def trading(system: System) -> None:
        await system.place()

    hub = await rough(3, trading)
    accounts = [arguments[0]["data"] for _, arguments in hub.events("GatewayUserAccount")]
    assert 2 <= len(accounts) <= 4
    assert {account["balance"] for account in accounts} == {Decimal("49999.39")}


async def test_the_last_event_of_an_order_sometimes_comes_twice(autojump_clock: object) -> None:
    async def trading(system: System) -> None:
        for side in (BUY, SELL) * 10:
            await system.place(side)
            await trio.sleep(1)

    hub = await rough(1, trading)
    repeated = story(hub).count("order 2") - 20
    assert 0 < repeated < 20


async def test_events_reach_the_client_40_to_56_ms_after_they_happened(autojump_clock: object) -> None:
    async with running(World(seed=2, start=START)) as system, system.user_hub() as hub:
        placed_at = trio.current_time()
        await system.place()
        heard_at = next(at for at, message in hub.heard if message.get("target") == "GatewayUserOrder")
        assert 0.039 <= heard_at - placed_at <= 0.057


async def test_the_answer_to_place_comes_after_the_events_of_the_fill(autojump_clock: object) -> None:
    options = Options()
    for seed in range(10):
        async with running(World(seed=seed, start=START, options=options)) as system, system.user_hub() as hub:
            await system.place()
            answered_at = trio.current_time()
            told_at = max(at for at, message in hub.heard if message.get("target") == "GatewayUserTrade")
            assert "order 2" in story(hub)
            assert 0 <= answered_at - told_at <= 0.125
