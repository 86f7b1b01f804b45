"""project-x-py 4.4.1 against the double: a whole trading client that somebody else wrote, on Python 3.12.

It is given the addresses by its own configuration, ``PROJECTX_API_URL`` and the like, and is not changed in any way.
``TradingSuite.create`` takes no configuration and goes to the broker's own addresses whatever the environment says; so
the suite is put together from its parts, as ``create`` does it.

What it gets wrong, here as at the broker:

- ``place_bracket_order`` sends bracket ticks without sign, is refused each time (code 2) and then places three orders
  of its own, which nothing at the broker holds together.
- ``position_closed`` reports a profit of 0, always: it takes the average price of the flat event for the exit price.
- ``ping`` wants JSON, and the answer is the bare word ``pong``.
- It hands on quotes as they come, with None for what has not changed; and of those that come close together only the
  last, so that what the others told is lost.
- Bars of a width of which it found none at the start it never begins.
- ``GatewayLogout`` goes to its log only, and after a close that does not allow it, it comes back all the same.
- When a position changes size it sets all orders of its own on that contract to the new size, the filled entry too.
- ``cancel_position_orders`` and what it does of itself when a position is gone leave the broker's bracket legs alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from tests.interop.driving import (
    COMBINE,
    MARKET_EVENTS,
    MNQ,
    PROJECTX,
    PROJECTX_PYTHON,
    USER_EVENTS,
    Client,
    Double,
    Fields,
    driven,
    same_figures,
    until,
)

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(60),
    pytest.mark.skipif(
        not PROJECTX_PYTHON,
        reason=os.environ.get("PROJECTX_MISSING", "`nox -s interop` alone makes the environment of project-x-py"),
    ),
]

CALLBACKS = ["account_update", "order_update", "position_update", "trade_execution", "market_trade", "market_depth"]
BUS = ["order_filled", "position_opened", "position_closed", "quote_update"]
EVENTS = [*(f"realtime.{name}" for name in CALLBACKS), *(f"bus.{name}" for name in BUS)]


class Trader(Client):
    """The client with the package's own names for what it does."""

    async def log_in(self, **changes: str) -> None:
        ready = self.double.ready
        (user,) = ready["users"]
        where = {name: ready[name] for name in ("user_hub_url", "market_hub_url")}
        who = {name: user[name] for name in ("user_name", "api_key")}
        start = {"api_url": f"{ready['rest_url']}/api", **where, **who, "instrument": "MNQ", "events": EVENTS}
        await self.tell("start", **start | changes)

    async def __call__(self, method: str, **values: object) -> Any:
        said = await self.invoke(method, values)
        assert said["said"] == "completed", said
        return said["result"]

    async def working(self, *order_ids: int) -> None:
        """Return once the client sees exactly these orders working; lists trail behind what happened."""

        async def right() -> bool:
            return {order["id"] for order in await self("orders.search_open_orders")} == {*order_ids}

        await until(right)

    async def holds(self, *sizes: int) -> list[Fields]:
        """Return its positions once they are of these sizes."""

        async def right() -> list[list[Fields]]:
            positions = await self("positions.get_all_positions")
            return [positions] if [position["size"] for position in positions] == [*sizes] else []

        (positions,) = await until(right)
        return positions


@asynccontextmanager
async def trading(double: Double) -> AsyncIterator[Trader]:
    async with driven(PROJECTX, double, Trader) as trader:
        await trader.log_in()
        await trader.says("started")
        yield trader


async def subscribed(double: Double) -> bool:
    return sorted(await double.subscriptions()) == sorted([*USER_EVENTS, *MARKET_EVENTS])


@pytest.fixture
async def trader(double: Double) -> AsyncIterator[Trader]:
    async with trading(double) as trader:
        yield trader


# --- the way in ---


async def test_it_logs_in_and_lists_what_there_is(double: Double, trader: Trader) -> None:
    accounts = await trader("client.list_accounts")
    assert accounts == [
        {name: value for name, value in row.items() if name != "realized_net"} for row in await double.rows("accounts")
    ]
    assert (await trader("client.get_account_info"))["id"] == COMBINE
    contracts = await trader("client.list_available_contracts")
    assert [contract["id"] for contract in contracts] == [contract["id"] for contract in double.ready["contracts"]]
    (found,) = await trader("client.search_instruments", query="MNQ")
    assert (found["id"], found["tickSize"], found["tickValue"]) == (MNQ, 0.25, 0.5)
    assert await trader("client.get_instrument", symbol=MNQ) == found
    assert await trader("client.validate_session") is True
    assert await subscribed(double)


async def test_a_wrong_key_keeps_it_out(double: Double) -> None:
    async with driven(PROJECTX, double, Trader) as trader:
        await trader.log_in(api_key="nonsense")
        assert "Authentication" in (await trader.says("failed to start"))["error"]
    assert (await double.seen("/api/Auth/loginKey"))[1] == {"status": 200, "errorCode": 3}
    assert await double.negotiations() == []


async def test_its_ping_cannot_read_the_bare_word(double: Double, trader: Trader) -> None:
    assert "Failed to parse JSON" in (await trader.invoke("client.ping", {}))["error"]
    assert await double.seen("/api/Status/ping") == [{"status": 200}]


# --- the market ---


async def test_quotes_prints_depth_and_bars_reach_it(double: Double) -> None:
    await double.rest.sim("price", contractId="MNQ", price=25000)  # bars that it finds none of it never begins
    async with trading(double) as trader:
        (first,) = await trader.event("bus.quote_update")
        assert (first["last"], first["bid"], first["ask"]) == (25000, 24999.75, 25000.25)
        await double.rest.sim("price", contractId="MNQ", price=25010.25)
        await trader.event("bus.quote_update", lambda quote: quote["last"] == 25010.25 or quote["bid"] == 25010)
        (prints,) = await trader.event("realtime.market_trade", lambda event: event["data"][0]["price"] == 25010.25)
        assert (prints["contract_id"], len(prints["data"])) == (MNQ, 1)
        (depth,) = await trader.event("realtime.market_depth")
        assert depth["contract_id"] == MNQ
        assert {level["type"] for level in depth["data"] if level} == {3, 4}
        assert await trader("data.get_current_price") == 25010.25
        (*_, newest) = await trader("client.get_bars", symbol="MNQ", days=1, interval=5)  # those of 1 it has kept
        assert (newest["close"], newest["high"]) == (25010.25, 25010.25)
        assert newest["volume"] > 0
        (*_, own) = await trader("data.get_data", timeframe="1min")
        assert own["close"] == 25010.25


# --- trading ---


async def test_it_trades_a_bracket_from_entry_to_flat(double: Double, trader: Trader) -> None:
    """Its own making of a bracket: a market order, and when that is filled a stop and a limit."""
    bracket = await trader(
        "orders.place_bracket_order",
        contract_id=MNQ,
        side=0,
        size=2,
        entry_price=None,
        entry_type="market",
        stop_loss_price=24900,
        take_profit_price=25100,
    )
    assert bracket["success"], bracket
    entry, stop, target = (bracket[f"{leg}_order_id"] for leg in ("entry", "stop", "target"))
    await trader.working(stop, target)
    (opened,) = await trader.holds(2)
    assert same_figures(opened, (await double.rows("positions"))[-1])

    assert await trader("orders.modify_order", order_id=stop, stop_price=24890) is True
    await trader.event(
        "realtime.order_update", lambda event: (event["data"]["id"], event["data"].get("stopPrice")) == (stop, 24890)
    )
    assert (await trader("positions.partially_close_position", contract_id=MNQ, close_size=1))["success"]
    await trader.holds(1)
    await trader.event("realtime.order_update", lambda event: (event["data"]["id"], event["data"]["size"]) == (stop, 1))
    resized = await double.seen("/api/Order/modify")
    assert {outcome["errorCode"] for outcome in resized} == {0, 2}, "it resizes its legs, and the filled entry"
    await double.rest.sim("price", contractId="MNQ", price=25050)
    assert (await trader("positions.close_position_direct", contract_id=MNQ))["success"]
    (closed,) = await trader.event("bus.position_closed")
    assert (closed["size"], closed["pnl"]) == (0, 0), "what it takes for the profit"
    await trader.holds()
    await trader.working()  # it cancels its own orders when the position is gone

    told = [event["data"] for (event,) in trader.told("realtime.order_update")]
    seen = {order_id: [data["status"] for data in told if data["id"] == order_id] for order_id in (entry, stop, target)}
    assert (seen[entry][0], seen[entry][-1]) == (6, 2)
    assert (seen[stop][0], seen[stop][-1]) == (1, 3)
    assert (seen[target][0], seen[target][-1]) == (1, 3)
    sizes = [event["data"]["size"] for (event,) in trader.told("realtime.position_update")]
    assert sizes == [2, 1, 0]
    trades = {event["data"]["id"]: event["data"] for (event,) in trader.told("realtime.trade_execution")}
    rows = await double.rows("trades")
    assert {*trades} == {row["id"] for row in rows}
    assert rows[-1]["profitAndLoss"] > 0
    assert all(same_figures(trades[row["id"]], row) for row in rows)
    (account,) = [row for row in await double.rows("accounts") if row["id"] == COMBINE]
    assert trader.told("realtime.account_update")[-1][0]["data"]["balance"] == account["balance"]
    filled = [event["order"]["id"] for (event,) in trader.told("bus.order_filled")]
    assert filled[0] == entry


async def test_brackets_of_the_broker_work_when_the_ticks_are_signed_by_hand(double: Double, trader: Trader) -> None:
    placed = await trader(
        "orders.place_order",
        contract_id=MNQ,
        order_type=2,
        side=0,
        size=1,
        custom_tag="stranger-1",
        stop_loss_bracket={"ticks": -400, "type": 4},
        take_profit_bracket={"ticks": 400, "type": 1},
    )
    entry = placed["orderId"]
    stop, target = entry + 1, entry + 2
    await trader.working(stop, target)
    told = [event["data"] for (event,) in trader.told("realtime.order_update")]
    assert [data["status"] for data in told if data["id"] == stop] == [8, 1]
    queried = await trader("orders.query_orders", statuses=[1])
    assert {order["customTag"] for order in queried} == {"stranger-1-SL", "stranger-1-TP"}
    assert (await trader("positions.close_position_direct", contract_id=MNQ))["success"]
    await trader.holds()
    await trader("orders.cancel_position_orders", contract_id=MNQ)
    await trader.working(stop, target)  # it did not place them itself
    for order_id in (stop, target):
        assert await trader("orders.cancel_order", order_id=order_id) is True
    await trader.working()
    assert [row["status"] for row in await double.rows("orders") if row["id"] in {stop, target}] == [3, 3]


async def test_its_unsigned_brackets_are_refused_and_it_makes_its_own(double: Double, trader: Trader) -> None:
    at = await double.rest.sim("price", contractId="MNQ", price=25000)
    bracket = await trader(
        "orders.place_bracket_order",
        contract_id=MNQ,
        side=0,
        size=1,
        entry_price=float(at["ask"]),
        stop_loss_price=24900,
        take_profit_price=25100,
    )
    assert bracket["success"], bracket
    await trader.working(bracket["stop_order_id"], bracket["target_order_id"])
    refused, entry = (await double.rows("orders"))[:2]
    assert (refused["status"], entry["status"]) == (5, 2)
    assert entry["id"] == bracket["entry_order_id"]
    outcomes = await double.seen("/api/Order/place")
    assert [outcome["errorCode"] for outcome in outcomes] == [2, 0, 0, 0]
    await trader.event("realtime.order_update", lambda event: event["data"]["status"] == 5)


async def test_orders_of_every_kind_rest_and_are_cancelled(double: Double, trader: Trader) -> None:
    await double.rest.sim("price", contractId="MNQ", price=25000)
    buy = {"contract_id": MNQ, "side": 0, "size": 1}
    placed = [
        await trader("orders.place_limit_order", **buy, limit_price=24900.1),  # it puts that on a tick itself
        await trader("orders.place_stop_order", **buy, stop_price=25100),
        await trader("orders.place_trailing_stop_order", **buy, trail_price=25050),
        await trader("orders.place_join_bid_order", contract_id=MNQ, size=1),
    ]
    order_ids = [answer["orderId"] for answer in placed]
    await trader.working(*order_ids)
    rows = await double.rows("orders")
    assert [row["type"] for row in rows] == [1, 4, 5, 6]
    assert rows[0]["limitPrice"] == 24900
    for order_id in order_ids:
        assert await trader("orders.cancel_order", order_id=order_id) is True
    await trader.working()


async def test_what_the_broker_refuses_it_raises_with_the_words_of_the_broker(double: Double, trader: Trader) -> None:
    failed = await trader.invoke(
        "orders.place_stop_order", {"contract_id": MNQ, "side": 0, "size": 1, "stop_price": 20000}
    )
    assert "Invalid stop price" in failed["error"]
    (row,) = await double.rows("orders")
    assert row["status"] == 5


# --- what it survives ---


@pytest.mark.parametrize("fault", ["cut_hub", "close_hub", "logout_hub"])
async def test_whatever_ended_it_comes_back_and_subscribes_again(double: Double, trader: Trader, fault: str) -> None:
    """Even after a logout, and a close that does not allow it."""
    await double.fault(fault, target="user")
    assert await double.ended() == fault
    await until(partial(subscribed, double))
    await double.buy()
    (order,) = await trader.event("realtime.order_update", lambda event: event["data"]["status"] == 2)
    assert same_figures(order["data"], (await double.rows("orders"))[-1])
    assert (await trader.event("bus.position_opened"))[0]["size"] == 1


async def test_it_leaves_without_a_close(double: Double, trader: Trader) -> None:
    await trader.tell("stop")
    await trader.says("stopped")
    assert await double.ended() == "the client was gone"
