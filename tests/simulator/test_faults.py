"""Each fault, shown happening, and shown to end."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from flatguard.simulator import Options, World
from flatguard.simulator.faults import KNOWN_FAULTS
from tests.fakes.gateway_client import Hub, open_hub
from tests.simulator.conftest import (
    BUY,
    COMBINE,
    LIMIT,
    MARKET,
    MNQ,
    PRACTICE,
    SELL,
    START,
    STOP,
    System,
    calm_world,
    running,
)  # fmt: skip

ORDER = {"accountId": COMBINE, "contractId": MNQ, "type": 2, "side": 0, "size": 1}
ACCOUNT = {"accountId": COMBINE}


async def fault(system: System, name: str, **how: Any) -> None:
    await system.rest.sim("faults", name=name, **how)


async def end_all(system: System) -> None:
    assert (await system.rest.http.delete("/sim/faults")).status_code == 200


def told(hub: Hub, name: str) -> int:
    return len(hub.events(name))


async def unanswered(system: System, path: str, body: Mapping[str, Any], patience_s: float = 30) -> bool:
    """Send a call; return whether nothing came back."""
    with trio.move_on_after(patience_s):
        await system.rest.send(f"/api/{path}", body)
        return False
    return True


def size(system: System) -> int:
    return system.world.position(COMBINE, MNQ)


# --- on hub events ---


async def test_drop_event(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await fault(calm, "drop_event", target="GatewayUserTrade")
        await calm.place()
        await trio.sleep(1)
        assert (told(hub, "GatewayUserTrade"), told(hub, "GatewayUserPosition")) == (0, 1)
        await end_all(calm)
        await calm.place()
        await trio.sleep(1)
        assert told(hub, "GatewayUserTrade") == 1


async def test_delay_event(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await fault(calm, "delay_event", target="GatewayUserPosition", delay_s=3)
        await calm.place()
        await trio.sleep(2.9)
        assert told(hub, "GatewayUserPosition") == 0
        await trio.sleep(0.2)
        assert told(hub, "GatewayUserPosition") == 1


async def test_duplicate_event(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await fault(calm, "duplicate_event", count=1)
        await calm.place()
        await trio.sleep(1)
        assert [arguments[0]["data"]["status"] for _, arguments in hub.events("GatewayUserOrder")] == [6, 6, 2]


async def test_reorder_events(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await fault(calm, "reorder_events")
        orders = set()
        for side in (BUY, SELL) * 5:
            before = len(hub.events())
            await calm.place(side)
            await trio.sleep(1)
            orders.add(tuple(name for name, _ in hub.events()[before:]))
        assert len(orders) > 2


# --- on hubs ---


async def test_freeze_hub(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub, calm.market_hub() as market:
        await fault(calm, "freeze_hub", target="user", duration_s=60)
        await calm.place()
        await market.invoke("SubscribeContractQuotes", MNQ)
        await trio.sleep(20)
        assert hub.events() == []
        assert market.events()
        assert (await hub.invoke("SubscribeAccounts"))["result"] is None
        assert hub.heard[-2][1] == {"type": 6}
        await trio.sleep(60)
        assert hub.events() == [], "what was frozen is lost"
        await calm.place()
        await trio.sleep(1)
        assert hub.events()


async def test_silence_hub(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await fault(calm, "silence_hub", target="user")
        heard = len(hub.heard)
        await hub.say({"type": 6})
        await calm.place()
        await trio.sleep(25)
        assert len(hub.heard) == heard
        assert not hub.closed
        await end_all(calm)
        await trio.sleep(6)
        assert hub.heard[-1][1] == {"type": 7, "allowReconnect": True}, "30 s after its only ping"


async def test_a_silent_hub_answers_no_ping_of_the_websocket_either(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await hub.socket.ping(b"before")
        await fault(calm, "silence_hub", target="user", duration_s=60)
        with pytest.raises(trio.TooSlowError), trio.fail_after(20):
            await hub.socket.ping(b"during")
        await trio.sleep(60)
        assert not hub.closed
        with trio.fail_after(5):
            await hub.socket.ping(b"after")


async def test_cut_hub(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub, calm.market_hub() as market:
        await fault(calm, "cut_hub", target="user")
        await hub.wait_closed()
        assert hub.heard[-1][1].get("type") == 3, "no Close"
        await trio.sleep(1)
        assert not market.closed
    async with calm.user_hub() as again:
        await trio.sleep(60)
        assert not again.closed, "it met the connections of that moment only"


async def test_a_lasting_cut_meets_new_connections_too(calm: System, autojump_clock: object) -> None:
    await fault(calm, "cut_hub", target="user", duration_s=10)
    async with open_hub(calm.dial, calm.rest.token, handshake='{"protocol":"json","version":1} ') as hub:
        await hub.wait_closed()
    await trio.sleep(10)
    async with calm.user_hub() as hub:
        await trio.sleep(1)
        assert not hub.closed


async def test_close_hub(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await fault(calm, "close_hub")
        await hub.wait_closed()
        assert hub.heard[-1][1] == {"type": 7, "allowReconnect": True}


async def test_logout_hub(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        await fault(calm, "logout_hub")
        await hub.wait_closed()
        assert [message.get("target", message["type"]) for _, message in hub.heard[-2:]] == ["GatewayLogout", 7]
        assert hub.heard[-1][1] == {"type": 7}


async def test_refuse_hub(calm: System, autojump_clock: object) -> None:
    await fault(calm, "refuse_hub", target="market", count=1)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with calm.market_hub():
            pass
    assert "503" in repr(caught.value.exceptions)
    async with calm.user_hub(), calm.market_hub():
        pass


async def test_refuse_negotiation(calm: System, autojump_clock: object) -> None:
    await fault(calm, "refuse_negotiation", target="user", count=1)
    refused = await calm.rest.send("/hubs/user/negotiate?negotiateVersion=1")
    assert (refused.status_code, refused.json()) == (200, {"error": "This hub does not negotiate at the moment."})
    assert "error" not in (await calm.rest.send("/hubs/user/negotiate?negotiateVersion=1")).json()


async def test_redirect_negotiation(calm: System, autojump_clock: object) -> None:
    await fault(calm, "redirect_negotiation", target="market", count=1)
    assert "connectionId" in (await calm.rest.send("/hubs/user/negotiate")).json()
    answer = (await calm.rest.send("/hubs/market/negotiate")).json()
    assert answer == {"url": "http://gateway/hubs/market", "accessToken": answer["accessToken"]}
    assert "connectionId" in (await calm.rest.send("/hubs/market/negotiate")).json()


# --- on REST ---


async def test_timeout_before(calm: System, autojump_clock: object) -> None:
    await fault(calm, "timeout_before", target="/api/Order/place", count=1)
    assert await unanswered(calm, "Order/place", ORDER)
    assert size(calm) == 0
    assert (await calm.place())["success"]


async def test_timeout_after(calm: System, autojump_clock: object) -> None:
    await fault(calm, "timeout_after", target="/api/Order/place", count=1)
    assert await unanswered(calm, "Order/place", ORDER)
    assert size(calm) == 1
    assert calm.gateway.requests[-1]["outcome"] == {"status": None, "errorCode": 0, "fault": "timeout_after"}


async def test_reset_after(calm: System, autojump_clock: object) -> None:
    await fault(calm, "reset_after", target="/api/Order/place", count=1)
    with pytest.raises(httpx.TransportError):
        await calm.place()
    await trio.sleep(1)
    assert size(calm) == 1


async def test_slow(calm: System, autojump_clock: object) -> None:
    await fault(calm, "slow", target="/api/Position/searchOpen", delay_s=8)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(calm.place)
        assert (await calm.rest("Position/searchOpen", **ACCOUNT))["positions"] == [], "as it was when asked"
    assert trio.current_time() - began == pytest.approx(8)


@pytest.mark.parametrize(("name", "status"), [("http_401", 401), ("http_429", 429), ("http_500", 500)])
async def test_http_statuses_that_come_before_acting(
    calm: System, autojump_clock: object, name: str, status: int
) -> None:
    await fault(calm, name, target="/api/Order/place", count=1)
    response = await calm.rest.send("/api/Order/place", ORDER)
    assert (response.status_code, response.content) == (status, b"")
    await trio.sleep(1)
    assert size(calm) == 0
    assert (await calm.place())["success"]


async def test_http_500_after(calm: System, autojump_clock: object) -> None:
    await fault(calm, "http_500_after", count=1)
    assert (await calm.rest.send("/api/Order/place", ORDER)).status_code == 500
    await trio.sleep(1)
    assert size(calm) == 1


async def test_html_body(calm: System, autojump_clock: object) -> None:
    await fault(calm, "html_body")
    response = await calm.rest.send("/api/Order/place", ORDER)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert size(calm) == 0


async def test_missing_list(calm: System, autojump_clock: object) -> None:
    await fault(calm, "missing_list", target="/api/Position/searchOpen")
    assert await calm.rest("Position/searchOpen", **ACCOUNT) == {
        "success": True,
        "errorCode": 0,
        "errorMessage": None,
    }
    assert "orders" in await calm.rest("Order/searchOpen", **ACCOUNT)


async def test_stale_read(calm: System, autojump_clock: object) -> None:
    await calm.place()
    await trio.sleep(10)
    await calm.place(SELL)
    await fault(calm, "stale_read", delay_s=5)
    assert (await calm.rest("Position/searchOpen", **ACCOUNT))["positions"], "as it was"
    await end_all(calm)
    assert (await calm.rest("Position/searchOpen", **ACCOUNT))["positions"] == []


@pytest.mark.parametrize(
    ("path", "more", "code"),
    [
        ("Order/place", {"contractId": MNQ, "type": 2, "side": 1, "size": 3}, 6),
        ("Position/closeContract", {"contractId": MNQ}, 6),
        ("Position/partialCloseContract", {"contractId": MNQ, "size": 3}, 7),
    ],
)
async def test_error_pending_acts_later(
    calm: System, autojump_clock: object, path: str, more: dict[str, Any], code: int
) -> None:
    await calm.place(size=3)
    await fault(calm, "error_pending", target=f"/api/{path}", count=1, delay_s=4)
    assert (await calm.rest(path, **ACCOUNT, **more))["errorCode"] == code
    await trio.sleep(3.9)
    assert size(calm) == 3
    await trio.sleep(0.2)
    assert size(calm) == 0


@pytest.mark.parametrize(("path", "code"), [("Order/cancel", 4), ("Order/modify", 4)])
async def test_error_pending_on_orders(calm: System, autojump_clock: object, path: str, code: int) -> None:
    order_id = (await calm.place(kind=LIMIT, limitPrice=24900))["orderId"]
    await fault(calm, "error_pending", target=f"/api/{path}", count=1)
    answer = await calm.rest(path, **ACCOUNT, orderId=order_id, limitPrice=24800)
    assert answer["errorCode"] == code
    await trio.sleep(3)
    row = (await calm.rest("Order/searchById", **ACCOUNT, orderId=order_id))["order"]
    assert row["status"] == 3 or row["limitPrice"] == 24800


async def test_an_order_answered_by_a_pending_code_shows_at_status_6_until_it_acts(
    calm: System, autojump_clock: object
) -> None:
    await fault(calm, "error_pending", count=2, delay_s=4)
    bracket = {"stopLossBracket": {"ticks": -40, "type": 4}}
    assert (await calm.place(kind=LIMIT, limitPrice=24900, customTag="a", **bracket))["errorCode"] == 6
    assert (await calm.place(customTag="b"))["errorCode"] == 6
    rows = (await calm.rest("Order/v2/query", filter=ACCOUNT))["orders"]
    assert [(row["customTag"], row["status"]) for row in rows] == [("a", 6), ("a-SL", 8), ("b", 6)]
    which = {**ACCOUNT, "orderId": rows[2]["id"]}
    assert (await calm.rest("Order/modify", **which, size=2))["errorCode"] == 3
    assert (await calm.rest("Order/cancel", **which))["success"], "it never reaches the market"
    await trio.sleep(5)
    rows = (await calm.rest("Order/v2/query", filter=ACCOUNT))["orders"]
    assert ([row["status"] for row in rows], size(calm)) == ([1, 8, 3], 0)
    await calm.move(24895)
    await trio.sleep(1)
    rows = (await calm.rest("Order/v2/query", filter=ACCOUNT))["orders"]
    assert ([row["status"] for row in rows], size(calm)) == ([2, 1, 3], 1)


async def test_error_pending_fails(calm: System, autojump_clock: object) -> None:
    await fault(calm, "error_pending_fails", delay_s=4)
    answer = await calm.place(customTag="lost")
    assert (answer["success"], answer["errorCode"], answer["orderId"]) == (False, 6, None)
    statuses = []
    for _ in range(2):
        (row,) = (await calm.rest("Order/v2/query", filter=ACCOUNT))["orders"]
        statuses.append(row["status"])
        await trio.sleep(4.1)
    assert (statuses, size(calm)) == ([6, 5], 0)
    await end_all(calm)
    assert (await calm.place(customTag="lost"))["errorMessage"] == "Specified custom tag is already in use"
    await calm.place()
    await fault(calm, "error_pending_fails")
    assert (await calm.rest("Position/closeContract", **ACCOUNT, contractId=MNQ))["errorCode"] == 6
    await trio.sleep(60)
    assert size(calm) == 1, "a close that fails later closes nothing"


@pytest.mark.parametrize(
    ("path", "more", "code"),
    [
        ("Order/place", {"contractId": MNQ, "type": 2, "side": 1, "size": 3}, 7),
        ("Position/closeContract", {"contractId": MNQ}, 7),
        ("Position/partialCloseContract", {"contractId": MNQ, "size": 3}, 8),
    ],
)
async def test_error_unknown_after(
    calm: System, autojump_clock: object, path: str, more: dict[str, Any], code: int
) -> None:
    await calm.place(size=3)
    await fault(calm, "error_unknown_after", target=f"/api/{path}")
    answer = await calm.rest(path, **ACCOUNT, **more)
    assert (answer["success"], answer["errorCode"]) == (False, code)
    assert size(calm) == 0


@pytest.mark.parametrize(
    ("path", "more", "code"),
    [
        ("Order/place", {"contractId": MNQ, "type": 2, "side": 1, "size": 3}, 7),
        ("Order/cancel", {"orderId": 1}, 5),
        ("Order/modify", {"orderId": 1}, 5),
        ("Position/closeContract", {"contractId": MNQ}, 7),
        ("Position/partialCloseContract", {"contractId": MNQ, "size": 3}, 8),
        ("Trade/search", {"startTimestamp": "2020-01-01"}, 99),
    ],
)
async def test_error_unknown(calm: System, autojump_clock: object, path: str, more: dict[str, Any], code: int) -> None:
    await calm.place(size=3)
    await fault(calm, "error_unknown", target=f"/api/{path}")
    answer = await calm.rest(path, **ACCOUNT, **more)
    assert (answer["success"], answer["errorCode"]) == (False, code)
    await trio.sleep(5)
    assert size(calm) == 3


async def test_refuse_exits(calm: System, autojump_clock: object) -> None:
    await calm.place()
    await fault(calm, "refuse_exits")
    assert (await calm.rest("Position/closeContract", **ACCOUNT, contractId=MNQ))["errorCode"] == 8
    assert (await calm.rest("Position/partialCloseContract", **ACCOUNT, contractId=MNQ, size=1))["errorCode"] == 9
    assert (await calm.rest("Order/cancel", **ACCOUNT, orderId=1))["errorCode"] == 6


# --- on the account ---


async def test_velocity_control(calm: System, autojump_clock: object) -> None:
    await fault(calm, "velocity_control", target=COMBINE)
    answer = await calm.place()
    assert (answer["errorCode"], "velocity control" in answer["errorMessage"]) == (2, True)
    assert (await calm.place(accountId=PRACTICE))["success"]


async def test_outside_range(calm: System, autojump_clock: object) -> None:
    await fault(calm, "outside_range", count=1)
    answer = await calm.place(kind=LIMIT, limitPrice=24990)
    assert (answer["errorCode"], answer["errorMessage"]) == (2, "Invalid price. Price is outside allowed range.")
    assert (await calm.place(kind=LIMIT, limitPrice=24990))["success"], "the same, a moment later"


async def test_fast_market(calm: System, autojump_clock: object) -> None:
    await calm.place()
    await calm.place(SELL, kind=STOP, stopPrice=24995)
    await fault(calm, "fast_market", target=COMBINE)
    await calm.move(24995)
    (_, stop) = (await calm.rest("Order/v2/query", filter=ACCOUNT))["orders"]
    assert (stop["status"], stop["filledPrice"]) == (2, Decimal("24984.75"))
    assert calm.world.markets[MNQ].last == 24985


async def test_slow_cancel(calm: System, autojump_clock: object) -> None:
    ids = [(await calm.place(kind=LIMIT, limitPrice=price))["orderId"] for price in (24990, 24900)]
    await trio.sleep(1)
    await fault(calm, "slow_cancel", delay_s=3)
    for order_id in (*ids, ids[0]):
        assert (await calm.rest("Order/cancel", **ACCOUNT, orderId=order_id))["success"]
    assert (await calm.rest("Order/searchOpen", **ACCOUNT))["orders"] == []
    rows = (await calm.rest("Order/v2/query", filter=ACCOUNT))["orders"]
    assert [row["status"] for row in rows] == [7, 7]
    await calm.move(24990)
    await trio.sleep(3)
    rows = (await calm.rest("Order/v2/query", filter=ACCOUNT))["orders"]
    assert ([row["status"] for row in rows], size(calm)) == ([2, 3], 1)


async def test_void_trade(calm: System, autojump_clock: object) -> None:
    await fault(calm, "void_trade", target=COMBINE, count=1, delay_s=3)
    async with calm.user_hub() as hub:
        await calm.place(size=2)
        await trio.sleep(1)
        assert (size(calm), calm.world.account(COMBINE).balance) == (2, Decimal("49998.78"))
        await trio.sleep(4)
    assert (size(calm), calm.world.account(COMBINE).balance) == (0, 50000)
    assert [arguments[0]["data"]["voided"] for _, arguments in hub.events("GatewayUserTrade")] == [False, True]
    assert hub.events("GatewayUserPosition")[-1][1][0]["data"]["size"] == 0


async def test_partial_fills(calm: System, autojump_clock: object) -> None:
    await fault(calm, "partial_fills", target=COMBINE)
    async with calm.user_hub() as hub:
        await calm.place(size=7)
        await trio.sleep(1)
    orders = [arguments[0]["data"] for _, arguments in hub.events("GatewayUserOrder")]
    assert [(order["status"], order["fillVolume"]) for order in orders] == [(6, 0), (1, 4), (1, 6), (2, 7)]
    trades = [arguments[0]["data"]["size"] for _, arguments in hub.events("GatewayUserTrade")]
    assert trades == [4, 2, 1]
    positions = [arguments[0]["data"]["size"] for _, arguments in hub.events("GatewayUserPosition")]
    assert positions == [4, 6, 7]


async def test_an_order_cancelled_between_its_parts_keeps_what_it_has(calm: System, autojump_clock: object) -> None:
    await fault(calm, "partial_fills")
    order_id = (await calm.place(kind=LIMIT, limitPrice=24900, size=7, stopLossBracket={"ticks": -10, "type": 4}))[
        "orderId"
    ]
    await calm.move(24900)
    assert (await calm.rest("Order/cancel", **ACCOUNT, orderId=order_id))["success"]
    await trio.sleep(1)
    assert size(calm) == 4
    rows = (await calm.rest("Order/v2/query", filter=ACCOUNT))["orders"]
    assert [(row["status"], row["fillVolume"], row["size"]) for row in rows] == [(3, 4, 7), (1, 0, 4)]


async def test_a_close_in_parts_closes_no_more_than_is_open_at_each(calm: System, autojump_clock: object) -> None:
    await calm.place(size=4)
    await fault(calm, "partial_fills", count=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(calm.rest, "Position/closeContract", **ACCOUNT, contractId=MNQ))
        await trio.sleep(0.02)
        assert size(calm) == 2, "the first part"
        await calm.place(SELL, 1)
    await trio.sleep(1)
    assert size(calm) == 0
    rows = (await calm.rest("Order/v2/query", filter=ACCOUNT))["orders"]
    assert [(row["status"], row["size"], row["fillVolume"]) for row in rows] == [(2, 4, 4), (2, 3, 3), (2, 1, 1)]


@pytest.mark.parametrize(("kind", "status"), [(MARKET, 3), (LIMIT, 1)])
async def test_between_two_parts_the_market_may_close(kind: int, status: int, autojump_clock: object) -> None:
    start = datetime(2026, 11, 18, 21, 59, 59, tzinfo=UTC)  # a second before the halt
    options = Options.calm().but(sessions=True, part_ms=2000)
    async with running(World(seed=1, start=start, options=options)) as system:
        await fault(system, "partial_fills", count=1)
        order_id = (await system.place(size=5, kind=kind, limitPrice=25001 if kind == LIMIT else None))["orderId"]
        await trio.sleep(5)
        row = (await system.rest("Order/searchById", **ACCOUNT, orderId=order_id))["order"]
        assert (row["status"], row["fillVolume"], size(system)) == (status, 3, 3)
        await trio.sleep(3601)
        assert size(system) == (5 if kind == LIMIT else 3), "what rests fills at the opening"


async def test_leg_left_behind(calm: System, autojump_clock: object) -> None:
    await fault(calm, "leg_left_behind")
    await calm.place(stopLossBracket={"ticks": -10, "type": 4}, takeProfitBracket={"ticks": 10, "type": 1})
    await trio.sleep(1)
    await calm.move(25010)
    await trio.sleep(60)
    (leg,) = (await calm.rest("Order/searchOpen", **ACCOUNT))["orders"]
    assert (leg["type"], size(calm)) == (STOP, 0)
    await calm.move(24990)
    assert size(calm) == -1


# --- what holds for all ---


async def test_probability_is_drawn_from_the_seed(autojump_clock: object) -> None:
    counts = []
    for _ in range(2):
        async with running(calm_world(seed=9)) as system:
            await fault(system, "http_500", probability=0.5)
            answers = [await system.rest.send("/api/Position/searchOpen", ACCOUNT) for _ in range(40)]
            counts.append([answer.status_code for answer in answers])
    assert counts[0] == counts[1]
    assert 8 < counts[0].count(500) < 32


async def test_a_fault_ends_with_its_duration(calm: System, autojump_clock: object) -> None:
    await fault(calm, "http_500", duration_s=10)
    for wait_s, status in ((0, 500), (9, 500), (1, 200)):
        await trio.sleep(wait_s)
        assert (await calm.rest.send("/api/Position/searchOpen", ACCOUNT)).status_code == status


async def test_an_unknown_fault_is_refused_with_the_names_of_the_known(calm: System, autojump_clock: object) -> None:
    response = await calm.rest.http.post("/sim/faults", json={"name": "earthquake"})
    assert response.status_code == 400
    assert all(name in response.json()["error"] for name in KNOWN_FAULTS)


def test_every_fault_has_a_test() -> None:
    shown = {name.removeprefix("test_") for name in globals()} | {"http_401", "http_429", "http_500"}
    shown |= {"error_pending"}
    assert set(KNOWN_FAULTS) <= shown


async def test_faults_do_not_unbalance_the_books(autojump_clock: object) -> None:
    """Everything at once; what ``running`` checks at its end is the assertion."""
    async with running(World(seed=3, start=START)) as system:
        for name in ("partial_fills", "leg_left_behind", "drop_event", "duplicate_event", "http_500_after"):
            await fault(system, name, probability=0.3)
        for index in range(20):
            body = ORDER | {"side": index % 2, "size": 3}
            ticks = 10 if index % 2 else -10
            await system.rest.send("/api/Order/place", body | {"stopLossBracket": {"ticks": ticks, "type": 4}})
            await trio.sleep(1)
        assert system.world.books[COMBINE].realized_net != 0
