"""The official JavaScript client against the double: what it does at the broker, it does here."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.interop.driving import (
    COMBINE,
    JAVASCRIPT,
    MARKET_EVENTS,
    MNQ,
    USER_EVENTS,
    Client,
    Double,
    Fields,
    driven,
    running_double,
    same_figures,
    until,
)

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

AT_ONCE = [0, 50, 50, 50]
"""When to come back after a loss, in milliseconds."""


# --- the way in ---


async def test_it_negotiates_and_asks_for_a_token_for_each_request(double: Double, client: Client) -> None:
    started = await client.connect()
    assert started["id"]
    assert len(client.all("asked for a token")) == 2
    assert await double.negotiations() == [{"status": 200}]
    assert await double.upgrades() == [{"status": 101}]


async def test_it_connects_without_negotiating(double: Double, client: Client) -> None:
    started = await client.connect(skip_negotiation=True)
    assert started["id"] is None
    assert len(client.all("asked for a token")) == 1
    assert await double.negotiations() == []
    assert await double.upgrades() == [{"status": 101}]


@pytest.mark.parametrize("skip_negotiation", [False, True])
async def test_the_token_may_stand_in_the_address(double: Double, client: Client, skip_negotiation: bool) -> None:
    await client.connect(url=double.url(bears_token=True), token="", skip_negotiation=skip_negotiation)
    assert (await client.invoke("SubscribeAccounts"))["said"] == "completed"
    assert len(await double.negotiations()) == (0 if skip_negotiation else 1)


@pytest.mark.parametrize("skip_negotiation", [False, True])
async def test_a_bad_token_keeps_it_out(double: Double, client: Client, skip_negotiation: bool) -> None:
    await client.start(token="nonsense", skip_negotiation=skip_negotiation)
    error = (await client.says("failed to start"))["error"]
    if skip_negotiation:
        assert await double.upgrades() == [{"status": 401}]
    else:
        assert "Status code '401'" in error
        assert await double.negotiations() == [{"status": 401}]


async def test_a_refusal_to_negotiate_reaches_it_word_for_word(double: Double, client: Client) -> None:
    await double.fault("refuse_negotiation")
    await client.start()
    assert "This hub does not negotiate at the moment." in (await client.says("failed to start"))["error"]
    assert await double.upgrades() == []


async def test_it_follows_redirects_with_the_token_it_is_given(double: Double, client: Client) -> None:
    await double.fault("redirect_negotiation", count=2)
    await client.connect()
    assert len(client.all("asked for a token")) == 1, "its own token is for the first request only"
    redirected = {"status": 200, "fault": "redirect_negotiation"}
    assert await double.negotiations() == [redirected, redirected, {"status": 200}]
    assert await double.upgrades() == [{"status": 101}]


async def test_it_comes_back_from_where_it_first_began(double: Double, client: Client) -> None:
    """The token of the redirect is dead by then: with that one it would be refused."""
    await double.fault("redirect_negotiation", count=1)
    await client.connect(reconnect_ms=AT_ONCE)
    await double.fault("cut_hub")
    await client.says("reconnected")
    assert len(client.all("asked for a token")) == 3
    assert [outcome["status"] for outcome in await double.upgrades()] == [101, 101]


async def test_redirects_without_end_end(double: Double, client: Client) -> None:
    await double.fault("redirect_negotiation")
    await client.start()
    assert "Negotiate redirection limit exceeded." in (await client.says("failed to start"))["error"]
    assert len(await double.negotiations()) == 100


# --- calls and events ---


async def test_calls_complete_with_null_or_fail_with_the_words_of_the_server(double: Double, client: Client) -> None:
    await client.connect()
    for method, values in (("SubscribeAccounts", []), ("SubscribeOrders", [COMBINE]), ("subscribetrades", [COMBINE])):
        completed = await client.invoke(method, *values)
        assert (completed["said"], completed["result"]) == ("completed", None)
    assert (await client.invoke("Nonsense", COMBINE))["error"] == "Unknown hub method 'Nonsense'"
    for values in ([], [str(COMBINE)], [COMBINE, COMBINE], [1], [None]):
        error = (await client.invoke("SubscribeOrders", *values))["error"]
        assert error == "Failed to invoke 'SubscribeOrders' due to an error on the server."


async def test_a_call_that_wants_no_answer_is_carried_out(double: Double, client: Client) -> None:
    await client.connect()
    await client.tell("send", method="SubscribeOrders", values=[COMBINE])
    await client.invoke("SubscribeAccounts")
    assert await double.subscriptions() == ["GatewayUserOrder", "GatewayUserAccount"]


async def test_a_trade_arrives_with_the_figures_of_the_books(double: Double, client: Client) -> None:
    await client.connect()
    for what in ("Orders", "Positions", "Trades"):
        await client.invoke(f"Subscribe{what}", COMBINE)
    await double.buy(2)
    (order,) = await client.event("GatewayUserOrder", lambda event: event["data"]["status"] == 2)
    assert same_figures(order["data"], (await double.rows("orders"))[-1])
    await client.invoke("UnsubscribeOrders", COMBINE)
    (trade,) = [said["values"][0] for said in client.all("event") if said["name"] == "GatewayUserTrade"]
    assert same_figures(trade["data"], (await double.rows("trades"))[-1])
    (position,) = [said["values"][0] for said in client.all("event") if said["name"] == "GatewayUserPosition"]
    assert same_figures(position["data"], (await double.rows("positions"))[-1])
    assert (position["data"]["size"], trade["action"]) == (2, 0)


async def test_the_price_that_the_market_is_moved_to_arrives(double: Double, client: Client) -> None:
    await client.connect(url=double.url("market"))
    await client.invoke("SubscribeContractQuotes", MNQ)
    at = await double.rest.sim("price", contractId="MNQ", price=25010.25)
    await client.event("GatewayQuote", lambda contract, quote: (contract, quote.get("lastPrice")) == (MNQ, at["price"]))


# --- what events look like ---


async def test_events_of_the_user_hub_are_the_rows_of_the_books_in_the_dialect_of_the_hubs(
    double: Double, client: Client
) -> None:
    await client.connect()
    await client.invoke("SubscribeAccounts")
    for what in ("Orders", "Positions", "Trades"):
        await client.invoke(f"Subscribe{what}", COMBINE)
    legs = {"stopLossBracket": {"ticks": -400, "type": 4}, "takeProfitBracket": {"ticks": 400, "type": 1}}
    entry = {"accountId": COMBINE, "contractId": MNQ, "type": 2, "side": 0, "size": 2, "customTag": "stranger"}
    assert (await double.rest("Order/place", **entry, **legs))["success"]
    await double.rest("Order/place", accountId=COMBINE, contractId=MNQ, type=1, side=0, size=1, limitPrice=1)
    await until(partial(_tells_the_truth, double, client, "positions"))
    assert (await double.rest("Position/closeContract", accountId=COMBINE, contractId=MNQ))["success"]
    for kind in ("orders", "trades", "accounts"):
        await until(partial(_tells_the_truth, double, client, kind))

    told = [said["values"] for said in client.all("event")]
    assert all(len(values) == 1 and values[0].keys() == {"action", "data"} for values in told)
    assert all(None not in values[0]["data"].values() for values in told)
    flat = client.told("GatewayUserPosition")[-1][0]
    assert (flat["action"], flat["data"]["type"], flat["data"]["size"]) == (2, 0, 0)
    actions = {name: {values[0]["action"] for values in client.told(name)} for name in USER_EVENTS}
    assert actions == dict(zip(USER_EVENTS, ({1}, {1}, {1, 2}, {0}), strict=True))
    orders = [values[0]["data"] for values in client.told("GatewayUserOrder")]
    assert {order["status"] for order in orders} == {1, 2, 5, 6, 8}
    digits = [len(_fraction(data[name])) for data in orders for name in ("creationTimestamp", "updateTimestamp")]
    assert max(digits) == 7


async def _tells_the_truth(double: Double, client: Client, kind: str) -> bool:
    """Whether the last that the hub told of each row is that row: nulls left out, commissions put in."""
    name = {"orders": "Order", "positions": "Position", "trades": "Trade", "accounts": "Account"}[kind]
    told = {values[0]["data"]["id"]: values[0]["data"] for values in client.told(f"GatewayUser{name}")}
    rows = {
        row["id"]: _as_the_hub_writes(row) for row in await double.rows(kind) if row["id"] in told or kind == "orders"
    }
    commissions = {"commissions"} if kind == "trades" else set()
    return bool(rows) and rows == {
        row_id: {name: value for name, value in _as_the_hub_writes(data).items() if name not in commissions}
        for row_id, data in told.items()
        if commissions <= data.keys()
    }


def _as_the_hub_writes(row: Fields) -> Fields:
    """Leave out nulls and what only the double tells; cut times to the microseconds that REST knows."""
    return {
        name: (value[:19], _fraction(value)[:6].ljust(6, "0")) if name.endswith("Timestamp") else value
        for name, value in row.items()
        if value is not None and name != "realized_net"
    }


def _fraction(stamp: str) -> str:
    """Return the digits of the second of a time that is written as the gateway writes them."""
    matched = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d{1,7}))?\+00:00", stamp)
    assert matched, stamp
    return matched[1] or ""


async def test_events_of_the_market_hub_have_the_shapes_of_the_brokers(double: Double, client: Client) -> None:
    await client.connect(url=double.url("market"))
    for what in ("Quotes", "Trades", "MarketDepth"):
        await client.invoke(f"SubscribeContract{what}", MNQ)
    await client.event("GatewayQuote")
    at = await double.rest.sim("price", contractId="MNQ", price=25010.25)
    await client.event("GatewayQuote", lambda _, quote: quote.get("lastPrice") == at["price"])
    await client.event("GatewayDepth", lambda _, levels: levels[0]["price"] == at["bid"])
    assert all(values[0] == MNQ and len(values) == 2 for name in MARKET_EVENTS for values in client.told(name))

    names = {"symbol", "lastUpdated", "timestamp", "contract"}
    figures = {"lastPrice", "bestBid", "bestAsk", "change", "changePercent", "open", "high", "low", "volume"}
    first, *deltas = [quote for _, quote in client.told("GatewayQuote")]
    assert first.keys() == names | figures
    assert all(names < quote.keys() < names | figures for quote in deltas), "what stands still is not told again"
    merged = {name: value for quote in (first, *deltas) for name, value in quote.items()}
    assert (merged["lastPrice"], merged["bestBid"], merged["bestAsk"]) == (at["price"], at["bid"], at["ask"])
    assert (merged["symbol"], merged["contract"]) == ("F.US.MNQ", MNQ)
    assert all(None not in quote.values() for quote in (first, *deltas))

    prints = [row for _, rows in client.told("GatewayTrade") for row in rows]
    assert at["price"] in {row["price"] for row in prints}
    assert {frozenset(row) for row in prints} == {
        frozenset({"symbolId", "price", "timestamp", "type", "volume", "contractId"})
    }
    assert {row["type"] for row in prints} <= {0, 1}
    assert max(len(_fraction(row["timestamp"])) for row in prints) <= 3

    levels = [level for _, levels in client.told("GatewayDepth") for level in levels]
    assert None in levels
    assert {(level["type"], level["price"]) for level in levels if level} >= {(4, at["bid"]), (3, at["ask"])}
    assert {frozenset(level) for level in levels if level} == {
        frozenset({"contractId", "timestamp", "type", "price", "volume", "currentVolume"})
    }
    assert all(len(_fraction(level["timestamp"])) <= 7 for level in levels if level)


# --- what it survives ---


async def test_it_comes_back_after_a_cut_with_a_fresh_id_and_nothing_else(double: Double, client: Client) -> None:
    first = await client.connect(reconnect_ms=AT_ONCE)
    await client.invoke("SubscribeOrders", COMBINE)
    await double.fault("cut_hub")
    assert "1006" in (await client.says("reconnecting"))["error"]
    again = await client.says("reconnected")
    assert again["id"] != first["id"]
    assert await double.negotiations() == [{"status": 200}] * 2
    assert await double.upgrades() == [{"status": 101, "ended": "cut_hub"}, {"status": 101}]
    assert len(client.all("asked for a token")) == 4
    assert await double.subscriptions() == [], "it has to subscribe again"
    await client.invoke("SubscribeOrders", COMBINE)
    await double.buy()
    await client.event("GatewayUserOrder")


async def test_it_comes_back_without_negotiating_too(double: Double, client: Client) -> None:
    await client.connect(skip_negotiation=True, reconnect_ms=AT_ONCE)
    await double.fault("cut_hub")
    assert (await client.says("reconnected"))["id"] is None
    assert len(client.all("asked for a token")) == 2
    assert await double.negotiations() == []


async def test_every_attempt_negotiates_anew(double: Double, client: Client) -> None:
    await client.connect(reconnect_ms=AT_ONCE)
    await double.fault("refuse_hub", count=2)
    await double.fault("cut_hub")
    await client.says("reconnected")
    assert [outcome["status"] for outcome in await double.upgrades()] == [101, 503, 503, 101]
    assert len(await double.negotiations()) == 4


async def test_it_comes_back_after_a_close_that_allows_it(double: Double, client: Client) -> None:
    await client.connect(reconnect_ms=AT_ONCE)
    await double.fault("close_hub")
    await client.says("reconnecting")
    await client.says("reconnected")
    assert [outcome.get("ended") for outcome in await double.upgrades()] == ["close_hub", None]


async def test_it_stays_away_after_a_close_that_does_not_allow_it(double: Double, client: Client) -> None:
    await client.connect(reconnect_ms=AT_ONCE)
    await double.fault("logout_hub")
    await client.event("GatewayLogout")
    await client.says("closed")
    assert client.all("reconnecting") == []
    assert await double.upgrades() == [{"status": 101, "ended": "logout_hub"}]


async def test_a_message_that_is_too_long_costs_the_connection_and_it_comes_back(
    double: Double, client: Client
) -> None:
    await client.connect(reconnect_ms=AT_ONCE)
    await client.tell("invoke", call=0, method="SubscribeOrders", values=["x" * 40_000])
    assert "Connection closed with an error." in (await client.says("reconnecting"))["error"]
    assert (await client.says("failed"))["call"] == 0
    await client.says("reconnected")


async def test_pings_keep_both_ends_alive(tmp_path: Path) -> None:
    async with (
        running_double(tmp_path, hub_ping_s=0.2, hub_client_timeout_s=2) as double,
        driven(JAVASCRIPT, double) as client,
    ):
        await client.connect(reconnect_ms=AT_ONCE, server_timeout_ms=2000, ping_ms=200)
        await trio.sleep(4)  # twice what either end would bear
        assert (await client.invoke("SubscribeAccounts"))["said"] == "completed"
        assert client.all("reconnecting") == []
        await double.fault("silence_hub")
        assert "Server timeout elapsed" in (await client.says("reconnecting"))["error"]


async def test_a_client_that_stops_pinging_is_closed_and_comes_back(tmp_path: Path) -> None:
    async with running_double(tmp_path, hub_client_timeout_s=0.5) as double, driven(JAVASCRIPT, double) as client:
        await client.connect(reconnect_ms=AT_ONCE)
        await client.says("reconnecting")
        await client.says("reconnected")
        assert await double.ended() == "the client fell silent"


# --- the way out ---


async def test_it_says_close_when_it_stops(double: Double, client: Client) -> None:
    await client.connect(reconnect_ms=AT_ONCE)
    await client.tell("stop")
    assert (await client.says("closed"))["error"] is None
    await client.says("stopped")
    assert await double.ended() == "the client said Close"
    assert await double.rows("clients") == []
