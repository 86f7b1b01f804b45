"""What orders do: refusals and their order, brackets, stops, closes, and money to the cent."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
import trio

from flatguard.simulator import AccountSetup, Options, UserSetup, World
from flatguard.simulator.refusals import NOT_TRADING, Ticket
from tests.simulator.conftest import (
    BUY,
    COMBINE,
    EXPRESS,
    LIMIT,
    MARKET,
    MNQ,
    PRACTICE,
    SELL,
    START,
    STOP,
    STOP_LIMIT,
    TRAILING,
    System,
    calm_world,
    running,
)  # fmt: skip

SL, TP = {"ticks": -10, "type": 4}, {"ticks": 17, "type": 1}


def bracket(ticks: int, kind: int = 4) -> dict[str, int]:
    return {"ticks": ticks, "type": kind}


async def orders(system: System, account: int = COMBINE) -> list[dict[str, Any]]:
    return (await system.rest("Order/v2/query", filter={"accountId": account}))["orders"]


async def position(system: System, contract: str = MNQ, account: int = COMBINE) -> int:
    return system.world.position(account, contract)


async def close(system: System, size: int | None = None, **more: object) -> dict[str, Any]:
    body = {"accountId": COMBINE, "contractId": MNQ, **more}
    if size is None:
        return await system.rest("Position/closeContract", **body)
    return await system.rest("Position/partialCloseContract", **body, size=size)


# --- refusals ---


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"kind": LIMIT, "limitPrice": Decimal("25000.1")}, "Invalid limit price. Price is not aligned to tick size."),
        ({"kind": STOP, "stopPrice": Decimal("25010.1")}, "Invalid stop price. Price is not aligned to tick size."),
        ({"kind": STOP, "stopPrice": 24990}, "Invalid stop price"),
        ({"kind": LIMIT, "limitPrice": 250}, "Invalid price. Price is outside allowed range."),
        ({"kind": TRAILING}, "Trail Distance not set."),
        ({"kind": TRAILING, "trailPrice": 25300}, "Trail Distance exceeds maximum (1000)"),
        (
            {"kind": TRAILING, "trailPrice": Decimal("25000.1")},
            "Invalid trail price. Price is not aligned to tick size.",
        ),
        (
            {"stopLossBracket": bracket(40)},
            "Invalid stop loss ticks (40). Ticks should be less than zero when longing.",
        ),
        (
            {"side": SELL, "takeProfitBracket": bracket(30, 1)},
            "Invalid take profit ticks (30). Ticks should be less than zero when going short.",
        ),
        (
            {"side": SELL, "stopLossBracket": bracket(1)},
            "Invalid stop loss ticks (1). Price should be at least 4 ticks away.",
        ),
        ({"stopLossBracket": bracket(-10, 1)}, "Invalid stop loss type (Limit)"),
        ({"size": 0}, "Invalid order size."),
        ({"size": 51}, "Not enough margin."),
        ({"kind": 9}, "Invalid order type."),
    ],
)
async def test_a_refused_order_has_code_2_a_text_an_id_and_a_record_of_status_5(
    calm: System, autojump_clock: object, asked: dict[str, Any], text: str
) -> None:
    answer = await calm.place(**asked, customTag="once")
    assert (answer["success"], answer["errorCode"], answer["errorMessage"]) == (False, 2, text)
    (row,) = await orders(calm)
    assert (row["id"], row["status"], row["customTag"]) == (answer["orderId"], 5, "once")
    again = await calm.place(customTag="once")
    assert again["errorMessage"] == "Specified custom tag is already in use", "also after a refusal"


async def test_a_refused_order_cannot_be_cancelled_before_its_record_says_so(
    calm: System, autojump_clock: object
) -> None:
    ticket = Ticket(account_id=COMBINE, contract_id=MNQ, type=2, side=0, size=0)
    refused = calm.world.place(ticket, calm.gateway.now())
    assert refused.order_id is not None
    assert calm.world.cancel(COMBINE, refused.order_id, calm.gateway.now()).code == 2
    await trio.sleep(1)
    assert [row["status"] for row in await orders(calm)] == [5]


async def test_the_first_thing_wrong_is_the_one_that_is_told(autojump_clock: object) -> None:
    saturday = datetime(2026, 11, 21, 18, tzinfo=UTC)
    options = Options.calm().but(sessions=True, auto_oco=False)
    everything: dict[str, Any] = {
        "kind": LIMIT,
        "limitPrice": Decimal("0.1"),
        "size": 1000,
        "stopLossBracket": bracket(1),
    }
    async with running(World(seed=1, start=saturday, options=options)) as system:
        assert (await system.place(**everything, customTag="a"))["errorMessage"] == NOT_TRADING
        assert "already in use" in (await system.place(**everything, customTag="a"))["errorMessage"]
        assert (await system.place(**everything, contractId="CON.F.US.MNQ.U26"))["errorCode"] == 9
        await system.rest.sim("account", accountId=COMBINE, canTrade=False)
        assert (await system.place(**everything))["errorCode"] == 10
        assert (await system.place(**everything, accountId=1))["errorCode"] == 1
    async with running(calm_world(auto_oco=False)) as system:
        assert "aligned" in (await system.place(**everything))["errorMessage"]
        everything["limitPrice"] = 25000
        assert "Auto OCO" in (await system.place(**everything))["errorMessage"]
    async with running(calm_world()) as system:
        assert "Ticks should be less" in (await system.place(**everything))["errorMessage"]


async def test_a_tag_is_taken_for_ever_and_for_its_own_account_only(calm: System, autojump_clock: object) -> None:
    assert (await calm.place(customTag="abc"))["success"]
    await trio.sleep(3600)
    assert (await calm.place(customTag="abc"))["errorMessage"] == "Specified custom tag is already in use"
    assert (await calm.place(customTag="abc", accountId=PRACTICE))["success"]


async def test_the_firm_counts_ten_micros_as_one_mini(calm: System, autojump_clock: object) -> None:
    assert (await calm.place(size=2, contractId="CON.F.US.EP.Z26"))["success"]
    assert (await calm.place(size=31))["errorMessage"] == "Not enough margin."
    assert (await calm.place(size=30))["success"]
    assert (await calm.place(SELL, 60))["success"], "a reversal to the same size is not more"


async def test_the_firm_counts_what_orders_that_rest_could_add(calm: System, autojump_clock: object) -> None:
    resting = await calm.place(kind=LIMIT, size=30, limitPrice=24900)
    assert (await calm.place(size=21))["errorMessage"] == "Not enough margin."
    assert (await calm.place(size=20))["success"]
    for ticks in (40, 80):
        assert (await calm.place(SELL, 20, kind=STOP, stopPrice=25000 - ticks))["success"], "less is always possible"
    await calm.rest("Order/cancel", accountId=COMBINE, orderId=resting["orderId"])
    assert (await calm.place(SELL, 31, kind=STOP, stopPrice=24900))["errorMessage"] == "Not enough margin."
    assert (await calm.place(size=30, stopLossBracket=SL, takeProfitBracket=TP))["success"], "legs add nothing"


async def test_an_order_is_made_no_larger_than_it_could_have_been_placed(calm: System, autojump_clock: object) -> None:
    await calm.place()
    resting = await calm.place(kind=LIMIT, limitPrice=24900)
    which = {"accountId": COMBINE, "orderId": resting["orderId"]}

    async def made(size: int) -> tuple[int, str | None]:
        answer = await calm.rest("Order/modify", **which, size=size, limitPrice=24800)
        return answer["errorCode"], answer["errorMessage"]

    assert await made(50) == (3, "Not enough margin.")
    assert await made(49) == (0, None)
    await calm.rest.sim("account", accountId=COMBINE, canTrade=False)
    assert [await made(50), await made(40)] == [(6, None), (0, None)]
    await calm.rest.sim("account", accountId=COMBINE, canTrade=True, balance=48000)
    assert [await made(41), await made(30)] == [(3, "Not enough margin."), (0, None)]


async def test_below_the_firms_floor_nothing_is_opened_and_all_can_be_closed(
    calm: System, autojump_clock: object
) -> None:
    await calm.place()
    await calm.rest.sim("account", accountId=COMBINE, balance=48000)
    answer = await calm.place()
    assert (answer["errorCode"], answer["errorMessage"]) == (3, None)
    assert (await calm.place(SELL, 2))["errorCode"] == 3, "half of it would open the other side"
    assert (await calm.place(SELL))["success"]
    assert await position(calm) == 0


@pytest.mark.parametrize(("first", "then"), [("q", "q-SL"), ("q", "q-TP"), ("q-TP", "q")])
async def test_an_order_cannot_bear_the_tag_of_a_leg(
    calm: System, autojump_clock: object, first: str, then: str
) -> None:
    assert (await calm.place(customTag=first, stopLossBracket=SL, takeProfitBracket=TP))["success"]
    again = await calm.place(customTag=then, stopLossBracket=SL, takeProfitBracket=TP)
    assert again["errorMessage"] == "Specified custom tag is already in use"


async def test_an_express_account_trades_from_a_balance_of_zero(calm: System, autojump_clock: object) -> None:
    assert (await calm.place(accountId=EXPRESS))["success"]
    assert calm.world.account(EXPRESS).balance == Decimal("-0.61")


async def test_a_locked_account_may_still_close_and_cancel(calm: System, autojump_clock: object) -> None:
    await calm.place()
    resting = await calm.place(kind=LIMIT, limitPrice=24900)
    await calm.rest.sim("account", accountId=COMBINE, canTrade=False)
    assert (await calm.rest("Order/cancel", accountId=COMBINE, orderId=resting["orderId"]))["success"]
    assert (await close(calm))["success"]
    assert await position(calm) == 0


async def test_when_the_market_is_closed_orders_are_refused_with_code_2_and_closes_with_their_own(
    autojump_clock: object,
) -> None:
    friday = datetime(2026, 11, 20, 21, 50, tzinfo=UTC)
    world = World(seed=1, start=friday, options=Options.calm().but(sessions=True))
    async with running(world) as system, system.market_hub() as hub:
        await hub.invoke("SubscribeContractQuotes", MNQ)
        assert (await system.place())["success"], "15:50 in Chicago"
        await system.rest.sim("clock", advance_s=5 * 60)
        assert (await system.place())["errorMessage"] == NOT_TRADING, "refusals begin at 15:55 on Fridays"
        assert (await close(system))["errorCode"] == 5
        assert (await close(system, 1))["errorCode"] == 6
        await system.rest.sim("clock", advance_s=10 * 60)
        await trio.sleep(5)
        heard = len(hub.heard)
        await trio.sleep(600)
        assert {message["type"] for _, message in hub.heard[heard:]} == {6}, "silent but for pings"
        await system.rest.sim("clock", advance_s=49 * 3600)
        await system.rest.login("trader1", system.world.users["trader1"].api_key)
        assert (await close(system))["success"], "Sunday after 17:00"


# --- brackets ---


async def test_bracket_legs_have_consecutive_ids_tags_parents_and_prices_from_the_fill(
    calm: System, autojump_clock: object
) -> None:
    entry_id = (await calm.place(size=2, customTag="abc", stopLossBracket=SL, takeProfitBracket=TP))["orderId"]
    await trio.sleep(1)
    _, stop, target = await orders(calm)
    shown = ("id", "status", "type", "side", "size", "customTag", "parentOrderId")
    assert [stop[key] for key in shown] == [entry_id + 1, 1, 4, 1, 2, "abc-SL", entry_id]
    assert [target[key] for key in shown] == [entry_id + 2, 1, 1, 1, 2, "abc-TP", entry_id]
    assert (stop["stopPrice"], target["limitPrice"]) == (Decimal("24997.75"), Decimal("25004.5"))
    assert "linkedOrderId" not in stop
    assert target["linkedOrderId"] == stop["id"]
    assert (stop["trailDistance"], stop["trailPrice"]) == (-10, Decimal("-2.5"))


async def test_legs_are_suspended_without_a_price_until_the_entry_fills(calm: System, autojump_clock: object) -> None:
    await calm.place(kind=LIMIT, limitPrice=24990, stopLossBracket=SL)
    await trio.sleep(1)
    assert [(row["status"], row["stopPrice"]) for row in await orders(calm)] == [(1, None), (8, None)]
    await calm.move(24990)
    await trio.sleep(1)
    entry, stop = await orders(calm)
    assert (entry["filledPrice"], stop["status"], stop["stopPrice"]) == (24990, 1, Decimal("24987.5"))


async def test_cancelling_an_entry_cancels_its_legs(calm: System, autojump_clock: object) -> None:
    entry = await calm.place(kind=LIMIT, limitPrice=24990, stopLossBracket=SL, takeProfitBracket=TP)
    answer = await calm.rest("Order/cancel", accountId=COMBINE, orderId=entry["orderId"])
    assert answer == {"success": True, "errorCode": 0, "errorMessage": None}
    assert [row["status"] for row in await orders(calm)] == [3, 3, 3]
    assert (await calm.rest("Order/cancel", accountId=COMBINE, orderId=entry["orderId"]))["errorCode"] == 2


async def test_a_leg_whose_sibling_has_filled_fills_no_more_however_late_its_cancellation(
    autojump_clock: object,
) -> None:
    async with running(calm_world(oco_ms=(58_000, 58_000))) as system:
        await system.place(stopLossBracket=SL, takeProfitBracket=TP)
        await trio.sleep(1)
        await system.move(25005)
        await trio.sleep(1)
        await system.move(24950)
        assert await position(system) == 0
        assert [row["status"] for row in await orders(system)] == [2, 1, 2]
        await trio.sleep(58)
        assert [row["status"] for row in await orders(system)] == [2, 3, 2]


async def test_a_gap_through_a_stop_fills_it_at_the_market(calm: System, autojump_clock: object) -> None:
    await calm.place(stopLossBracket=SL)
    await trio.sleep(1)
    await calm.move(24950)
    assert (await orders(calm))[1]["filledPrice"] == Decimal("24949.75")


async def test_stops_slip_one_tick_more_unless_told_otherwise(autojump_clock: object) -> None:
    async with running(calm_world(stop_slippage_ticks=Options().stop_slippage_ticks)) as system:
        await system.place()
        await system.place(SELL, kind=STOP, stopPrice=Decimal("24996.75"))
        await system.move(Decimal("24996.75"))
        assert (await orders(system))[1]["filledPrice"] == Decimal("24996.25")


async def test_a_stop_limit_rests_as_a_limit_once_its_stop_is_touched(calm: System, autojump_clock: object) -> None:
    asked = {"kind": STOP_LIMIT, "stopPrice": 25010, "limitPrice": Decimal("25010.5")}
    placed = await calm.place(**asked)
    assert placed["success"]
    (row,) = (await calm.rest("Order/searchOpen", accountId=COMBINE))["orders"]
    assert (row["type"], row["stopPrice"], row["limitPrice"]) == (STOP_LIMIT, 25010, Decimal("25010.5"))
    await calm.move(25005)
    assert await position(calm) == 0, "the limit could trade, but the stop is not touched"
    await calm.move(25020)
    assert await position(calm) == 0, "the market has run past the limit"
    edit = {"accountId": COMBINE, "orderId": placed["orderId"]}
    assert (await calm.rest("Order/modify", **edit, limitPrice=25012, stopPrice=25000))["success"]
    await calm.move(25012)
    assert (await orders(calm))[0]["filledPrice"] == 25012
    assert (await calm.place(**asked | {"stopPrice": 25000}))["errorMessage"] == "Invalid stop price"
    assert (await calm.place(**asked | {"stopPrice": 25030, "limitPrice": None}))["errorMessage"] == (
        "Invalid limit price."
    )


async def test_a_stop_limit_that_is_touched_within_its_limit_fills_at_once(
    calm: System, autojump_clock: object
) -> None:
    await calm.place(SELL, kind=STOP_LIMIT, stopPrice=24990, limitPrice=24980)
    await calm.move(24990)
    (row,) = await orders(calm)
    assert (row["status"], row["filledPrice"]) == (2, Decimal("24989.75"))


async def test_a_stop_bears_no_limit_that_it_does_not_have(calm: System, autojump_clock: object) -> None:
    await calm.place(SELL, kind=STOP, stopPrice=24990, limitPrice=24980)
    assert (await orders(calm))[0]["limitPrice"] is None


@pytest.mark.parametrize("gap_fills", [True, False])
async def test_an_option_lets_a_fast_market_fill_both_legs(autojump_clock: object, gap_fills: bool) -> None:
    async with running(calm_world(oco_ms=(8000, 8000), oco_gap_fills=gap_fills)) as system:
        await system.place(stopLossBracket=SL, takeProfitBracket=TP)
        await trio.sleep(1)
        await system.move(25010)
        await system.move(24990)
        await trio.sleep(10)
        assert await position(system) == (-1 if gap_fills else 0)
        assert [row["status"] for row in await orders(system)] == ([2, 2, 2] if gap_fills else [2, 3, 2])


async def test_a_trailing_stop_follows_the_market_one_way(calm: System, autojump_clock: object) -> None:
    await calm.place()
    placed = await calm.place(SELL, kind=TRAILING, trailPrice=24990)
    row = (await orders(calm))[1]
    assert (row["id"], row["trailDistance"], row["trailPrice"], row["stopPrice"]) == (placed["orderId"], 40, 10, None)
    for price in (25020, 25011):
        await calm.move(price)
        assert await position(calm) == 1
    await calm.move(25010)
    assert await position(calm) == 0


async def test_a_trailing_leg_stands_at_its_distance_from_the_fill(calm: System, autojump_clock: object) -> None:
    await calm.place(stopLossBracket=bracket(-40, TRAILING))
    await trio.sleep(1)
    leg = (await orders(calm))[1]
    assert (leg["trailDistance"], leg["trailPrice"]) == (-40, -10), "signed, as all bracket ticks"
    await calm.rest("Order/modify", accountId=COMBINE, orderId=leg["id"], trailPrice=24995)
    assert (await orders(calm))[1]["trailDistance"] == -20
    await calm.rest("Order/modify", accountId=COMBINE, orderId=leg["id"], trailPrice=24990)
    await calm.move(Decimal("25000.25"))
    await calm.move(24991)
    assert await position(calm) == 1
    await calm.move(Decimal("24990.25"))
    assert await position(calm) == 0


# --- closing ---


async def test_closing_a_position_leaves_every_order_alive(calm: System, autojump_clock: object) -> None:
    await calm.place(size=2, stopLossBracket=SL, takeProfitBracket=TP)
    await calm.place(kind=LIMIT, limitPrice=24900)
    answer = await close(calm)
    assert answer == {"success": True, "errorCode": 0, "errorMessage": None}
    await trio.sleep(60)
    rows = await orders(calm)
    assert [row["status"] for row in rows] == [2, 1, 1, 1, 2]
    assert (rows[-1]["type"], rows[-1]["customTag"]) == (MARKET, None)
    await calm.move(25010)
    assert await position(calm) == -2, "the target opens the other way"


async def test_an_option_lets_closing_take_the_bracket_legs_with_it(autojump_clock: object) -> None:
    async with running(calm_world(close_cancels_brackets=True)) as system:
        await system.place(stopLossBracket=SL)
        await system.place(kind=LIMIT, limitPrice=24900)
        await trio.sleep(1)
        await close(system)
        assert [row["status"] for row in await orders(system)] == [2, 3, 1, 2]


async def test_closing_what_is_flat_is_code_2_and_too_much_code_5(calm: System, autojump_clock: object) -> None:
    assert (await close(calm))["errorCode"] == 2
    assert (await close(calm, contractId="CON.F.US.XXX.Z26"))["errorCode"] == 3
    await calm.place(size=3)
    assert (await close(calm, 4))["errorCode"] == 5
    assert (await close(calm, 0))["errorCode"] == 5
    assert (await close(calm, 1))["success"]
    assert await position(calm) == 2


async def test_two_closes_at_once_close_once(calm: System, autojump_clock: object) -> None:
    await calm.place(size=3)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(close, calm)
        nursery.start_soon(close, calm)
    assert await position(calm) == 0
    assert [row["status"] for row in await orders(calm)] == [2, 2, 3]


async def test_an_option_lets_two_closes_at_once_reverse_the_position(autojump_clock: object) -> None:
    async with running(calm_world(close_is_capped=False)) as system:
        await system.place(size=3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(close, system)
            nursery.start_soon(close, system)
        assert await position(system) == -3


# --- modifying ---


@pytest.mark.parametrize("level", [Decimal("-7E28"), Decimal("7E28"), Decimal("1E15"), Decimal("-1E13")])
async def test_a_trail_beyond_all_prices_is_refused_and_harms_nothing(
    calm: System, autojump_clock: object, level: Decimal
) -> None:
    placed = await calm.place(SELL, kind=5, trailPrice=24990)
    edit = {"accountId": COMBINE, "orderId": placed["orderId"]}
    assert (await calm.rest("Order/modify", **edit, trailPrice=level))["errorCode"] == 3
    assert (await calm.rest("Order/modify", **edit, trailPrice=24980))["success"]


async def test_an_order_is_modified_in_place_and_nulls_change_nothing(calm: System, autojump_clock: object) -> None:
    placed = await calm.place(kind=LIMIT, limitPrice=24900, size=2)
    edit = {"accountId": COMBINE, "orderId": placed["orderId"]}
    assert (await calm.rest("Order/modify", **edit, limitPrice=24950, size=None))["success"]
    (row,) = await orders(calm)
    assert (row["id"], row["status"], row["limitPrice"], row["size"]) == (placed["orderId"], 1, 24950, 2)
    wrong = await calm.rest("Order/modify", **edit, limitPrice=Decimal("24950.1"))
    assert (wrong["errorCode"], wrong["errorMessage"]) == (
        3,
        "Invalid limit price. Price is not aligned to tick size.",
    )
    assert (await calm.rest("Order/modify", accountId=COMBINE, orderId=1, size=1))["errorCode"] == 2
    assert (await calm.rest("Order/modify", **edit, limitPrice=25010))["success"]
    await trio.sleep(1)
    assert (await orders(calm))[0]["filledPrice"] == Decimal("25000.25"), "marketable now, so at the ask"


async def test_a_stop_cannot_be_moved_to_the_wrong_side(calm: System, autojump_clock: object) -> None:
    placed = await calm.place(SELL, kind=STOP, stopPrice=24990)
    edit = {"accountId": COMBINE, "orderId": placed["orderId"]}
    assert (await calm.rest("Order/modify", **edit, stopPrice=25010))["errorCode"] == 3
    assert (await calm.rest("Order/modify", **edit, stopPrice=24995))["success"]


async def test_a_trailing_stop_is_moved_to_a_level_and_shows_the_distance(calm: System, autojump_clock: object) -> None:
    await calm.place()
    placed = await calm.place(SELL, kind=TRAILING, trailPrice=24990)
    edit = {"accountId": COMBINE, "orderId": placed["orderId"]}
    assert (await calm.rest("Order/modify", **edit, trailPrice=24980))["success"]
    assert (await orders(calm))[1]["trailDistance"] == 80
    await calm.move(24981)
    assert await position(calm) == 1
    await calm.move(24980)
    assert await position(calm) == 0


async def test_joining_the_book_is_a_limit_at_the_best_price_of_that_moment(
    calm: System, autojump_clock: object
) -> None:
    await calm.place(kind=6)
    await calm.place(SELL, kind=7)
    await calm.move(25005)
    bid, ask = await orders(calm)
    assert (bid["limitPrice"], bid["status"]) == (Decimal("24999.75"), 1)
    assert (ask["limitPrice"], ask["filledPrice"]) == (Decimal("25000.25"), Decimal("25000.25"))


async def test_a_suspended_leg_cannot_be_modified(calm: System, autojump_clock: object) -> None:
    entry = await calm.place(kind=LIMIT, limitPrice=24900, stopLossBracket=SL)
    answer = await calm.rest("Order/modify", accountId=COMBINE, orderId=entry["orderId"] + 1, stopPrice=24000)
    assert answer["errorCode"] == 3


# --- money ---


def micro_dow_account(balance: str) -> World:
    setup = AccountSetup(id=COMBINE, name="150KTC-V2-500001-86000001", balance=Decimal(balance))
    users = (UserSetup(user_name="trader1", accounts=(setup,)),)
    prices = {"CON.F.US.MYM.Z26": Decimal(49908)}
    return World(seed=1, start=START, options=Options.calm(), users=users, prices=prices)


async def test_fifteen_micro_dow_cost_9_30_a_side_and_win_532_50(autojump_clock: object) -> None:
    """Figures of a real account: 150061.03 falls to 150051.73 on entry and ends at 150574.93."""
    mym = "CON.F.US.MYM.Z26"
    async with running(micro_dow_account("150061.03")) as system, system.user_hub() as hub:
        await system.place(size=15, contractId=mym)
        assert system.world.account(COMBINE).balance == Decimal("150051.73")
        await system.rest("Order/place", accountId=COMBINE, contractId=mym, type=1, side=1, size=15, limitPrice=49980)
        await system.move(49980, "MYM")
        await trio.sleep(1)
        assert system.world.account(COMBINE).balance == Decimal("150574.93")
        opening, closing, _ = (arguments[0]["data"] for _, arguments in hub.events("GatewayUserTrade"))
        assert (opening["price"], opening["fees"], opening["commissions"]) == (49909, Decimal("5.55"), Decimal("3.75"))
        assert "profitAndLoss" not in opening
        assert closing["profitAndLoss"] == Decimal("532.5")
        (account, *_) = (await system.rest.truth())["accounts"]
        assert account["realized_net"] == Decimal("513.90")


async def test_fifteen_bonds_cost_20_85_a_side(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub(PRACTICE) as hub:
        await calm.place(size=15, contractId="CON.F.US.USA.H27", accountId=PRACTICE)
        await trio.sleep(1)
        (trade,) = (arguments[0]["data"] for _, arguments in hub.events("GatewayUserTrade"))
    assert (trade["fees"], trade["commissions"]) == (Decimal("13.35"), Decimal("7.5"))
    assert calm.world.account(PRACTICE).balance == Decimal(150000) - Decimal("20.85")


async def test_adding_weighs_the_average_and_reducing_leaves_it(calm: System, autojump_clock: object) -> None:
    averages = []
    for side, size, price in ((BUY, 1, 25000), (BUY, 2, 25003), (SELL, 1, 25010)):
        await calm.move(Decimal(price) - Decimal("0.25") * (1 if side == BUY else -1))
        await calm.place(side, size)
        (row,) = (await calm.rest("Position/searchOpen", accountId=COMBINE))["positions"]
        averages.append((row["size"], row["averagePrice"]))
    assert averages == [(1, 25000), (3, 25002), (2, 25002)]
    trades = (await calm.rest("Trade/search", accountId=COMBINE, startTimestamp="2020-01-01T00:00:00Z"))["trades"]
    assert [trade["profitAndLoss"] for trade in trades] == [16, None, None]


async def test_a_close_at_the_entry_price_is_zero_and_not_null(calm: System, autojump_clock: object) -> None:
    await calm.place()
    await calm.move(Decimal("25000.5"))
    await close(calm)
    trades = (await calm.rest("Trade/search", accountId=COMBINE, startTimestamp="2020-01-01T00:00:00Z"))["trades"]
    assert trades[0]["profitAndLoss"] == 0
    assert trades[0]["profitAndLoss"] is not None


async def test_a_short_wins_when_the_price_falls(calm: System, autojump_clock: object) -> None:
    await calm.place(SELL, 2)
    await calm.move(24990)
    await close(calm)
    trades = (await calm.rest("Trade/search", accountId=COMBINE, startTimestamp="2020-01-01T00:00:00Z"))["trades"]
    assert trades[0]["profitAndLoss"] == 38, "from 24999.75 to 24990.25, two contracts at 2 a point"


async def test_a_position_gets_a_new_id_each_time_it_leaves_flat(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        for side in (BUY, SELL, BUY, SELL):
            await calm.place(side)
            await trio.sleep(1)
    ids = [arguments[0]["data"]["id"] for _, arguments in hub.events("GatewayUserPosition")]
    assert ids[0] == ids[1] != ids[2] == ids[3]


async def test_prices_walk_on_the_grid_and_only_while_somebody_looks(autojump_clock: object) -> None:
    async with running(World(seed=1, start=START)) as system:
        await trio.sleep(60)
        market = system.world.markets[MNQ]
        assert market.last == 25000
        async with system.market_hub() as hub:
            await hub.invoke("SubscribeContractQuotes", MNQ)
            await trio.sleep(60)
        assert market.last != 25000
        assert market.contract.aligned(market.last)
        await trio.sleep(60)
        assert system.world.next_moment is None


async def test_a_price_that_an_order_has_is_checked_whatever_else_is_sent_with_it(
    calm: System, autojump_clock: object
) -> None:
    placed = await calm.place(SELL, kind=STOP, stopPrice=24990)
    edit = {"accountId": COMBINE, "orderId": placed["orderId"], "limitPrice": 24990}
    for price in (Decimal("24990.1"), 25010):
        assert (await calm.rest("Order/modify", **edit, stopPrice=price))["errorCode"] == 3
    assert (await orders(calm))[0]["stopPrice"] == 24990


@pytest.mark.parametrize("takes", [True, False])
async def test_an_option_lets_the_cancellation_of_one_leg_take_the_other(autojump_clock: object, takes: bool) -> None:
    async with running(calm_world(cancel_takes_sibling=takes)) as system:
        entry = await system.place(stopLossBracket=SL, takeProfitBracket=TP)
        await trio.sleep(1)
        await system.rest("Order/cancel", accountId=COMBINE, orderId=entry["orderId"] + 1)
        assert [row["status"] for row in await orders(system)] == [2, 3, 3 if takes else 1]
