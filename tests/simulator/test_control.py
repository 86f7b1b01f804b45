"""The calls under /sim, and the log of requests."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
import trio
from attrs import evolve

from flatguard.simulator import Options, UserSetup, World
from flatguard.simulator.faults import EVENTS, PATHS
from flatguard.simulator.hubs import METHODS
from flatguard.simulator.operations import ENDPOINTS
from flatguard.simulator.setup import DEFAULT_ACCOUNTS
from tests.simulator.conftest import BUY, COMBINE, LIMIT, MNQ, SELL, START, System, running


async def test_a_price_set_by_hand_holds_until_it_is_let_go(autojump_clock: object) -> None:
    async with running(World(seed=1, start=START)) as system, system.market_hub() as hub:
        await hub.invoke("SubscribeContractQuotes", MNQ)
        answer = await system.rest.sim("price", contractId=MNQ, price=25010)
        assert answer == {
            "contractId": MNQ,
            "price": 25010,
            "bid": Decimal("25009.75"),
            "ask": Decimal("25010.25"),
            "held": True,
            "traded": True,
        }
        await trio.sleep(30)
        assert system.world.markets[MNQ].last == 25010
        told = [arguments[1] for _, arguments in hub.events("GatewayQuote")]
        assert len(told) > 100, "quotes go on while a price is held"
        await system.rest.sim("price", contractId="MNQ", resume=True)
        await trio.sleep(30)
        assert system.world.markets[MNQ].last != 25010


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"contractId": "XXX", "price": 1}, "there is no contract 'XXX'"),
        ({"contractId": "MNQ", "price": 25000.1}, "steps of 0.25"),
        ({"contractId": "MNQ"}, "either a price or resume"),
        ({"contractId": "MNQ", "price": 25000, "resume": True}, "either a price or resume"),
        ({"contractId": "MNQ", "price": "25000"}, "$.price"),
    ],
)
async def test_a_price_that_cannot_be_is_refused_with_the_reason(
    calm: System, autojump_clock: object, body: dict[str, object], complaint: str
) -> None:
    response = await calm.rest.http.post("/sim/price", json=body)
    assert response.status_code == 400
    assert complaint in response.text


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("faults", {"name": "drop_event", "target": "user"}, "target"),
        ("faults", {"name": "cut_hub", "target": "users"}, "target"),
        ("faults", {"name": "http_500", "target": "Order/place"}, "target"),
        ("faults", {"name": "http_500", "target": "/api/Order/placed"}, "target"),
        ("faults", {"name": "drop_event", "target": "GatewayUserTrades"}, "target"),
        ("faults", {"name": "partial_fills", "target": "MNQ"}, "target"),
        ("faults", {"name": "slow", "probability": 1.5}, "probability"),
        ("faults", {"name": "slow", "count": 0}, "count"),
        ("faults", {"name": "slow", "delay_s": -1}, "delay_s"),
        ("faults", {"name": "http_401", "delay_s": 1}, "delay_s"),
        ("faults", {"name": "slow_cancel", "target": 99}, "target"),
        ("faults", {"name": "slow", "duration_s": 1e12}, "duration_s"),
        ("account", {"accountId": COMBINE, "balance": 1e13}, "balance"),
        ("account", {"accountId": COMBINE, "balance": 0.00001}, "balance"),
        ("clock", {"advance_s": 1e11}, "advance_s"),
        ("price", {"contractId": "MNQ", "price": 1e20}, "price"),
    ],
)
async def test_what_cannot_be_used_is_refused_by_the_name_of_its_field(
    calm: System, autojump_clock: object, path: str, body: dict[str, object], field: str
) -> None:
    response = await calm.rest.http.post(f"/sim/{path}", json=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith(f"{field}: ")


async def test_the_traders_own_hand_uses_no_allowance_and_shows_on_the_hub(
    calm: System, autojump_clock: object
) -> None:
    async with calm.user_hub() as hub:
        for index in range(210):
            body = {"accountId": COMBINE, "contractId": "MNQ", "type": 2, "side": index % 2, "size": 1}
            answer = await calm.rest.sim("orders", **body)
        assert (answer["success"], answer["errorCode"]) == (True, 0)
        await trio.sleep(1)
        assert hub.events("GatewayUserPosition")[-1][1][0]["data"]["size"] == 0
    assert (await calm.rest("Account/search", onlyActiveAccounts=True))["success"]
    refused = await calm.rest.sim("orders", accountId=1, contractId="MNQ", type=2, side=0, size=1)
    assert refused == {"orderId": None, "success": False, "errorCode": 1, "errorMessage": None}
    assert (await calm.rest.http.post("/sim/orders", json={"accountId": COMBINE})).status_code == 400


async def test_the_traders_own_hand_changes_and_cancels_an_order(autojump_clock: object) -> None:
    follower = evolve(DEFAULT_ACCOUNTS[0], follower=True)
    users = (UserSetup(user_name="trader1", accounts=(follower,)),)
    async with running(World(seed=1, start=START, options=Options.calm(), users=users)) as system:
        order_id = (await system.place(kind=LIMIT, limitPrice=24900))["orderId"]
        which = {"accountId": COMBINE, "orderId": order_id}
        assert (await system.rest.sim("modify", **which, limitPrice=24800, size=2))["success"]
        row = (await system.rest("Order/searchById", **which))["order"]
        assert (row["limitPrice"], row["size"]) == (24800, 2)
        assert (await system.rest.sim("modify", **which, size=0))["errorCode"] == 3
        assert (await system.rest("Order/cancel", **which))["errorCode"] == 6, "that is the API, not the platform"
        assert await system.rest.sim("cancel", **which) == {"success": True, "errorCode": 0, "errorMessage": None}
        assert (await system.rest.sim("cancel", **which))["errorCode"] == 2
        assert (await system.rest.sim("cancel", accountId=1, orderId=1))["errorCode"] == 1


async def test_the_desk_locks_an_account_and_the_hub_tells(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub() as hub:
        row = await calm.rest.sim("account", accountId=COMBINE, canTrade=False, balance=Decimal("49000.5"))
        assert (row["canTrade"], row["balance"]) == (False, Decimal("49000.5"))
        await trio.sleep(1)
        ((_, (event,)),) = hub.events("GatewayUserAccount")
        assert event["data"] == row
    response = await calm.rest.http.post("/sim/account", json={"accountId": 1})
    assert (response.status_code, str(COMBINE) in response.text) == (400, True)


async def test_advancing_the_clock_trades_nothing_on_the_way(autojump_clock: object) -> None:
    async with running(World(seed=1, start=START)) as system, system.market_hub() as hub:
        await hub.invoke("SubscribeContractQuotes", MNQ)
        await trio.sleep(1)
        volume = system.world.markets[MNQ].volume
        await system.rest.sim("clock", advance_s=3600)
        await trio.sleep(0.5)
        assert system.world.markets[MNQ].volume - volume <= 15, "three steps at most"
        assert (await system.rest.http.post("/sim/clock", json={"advance_s": -1})).status_code == 400


async def test_quote_statistics_start_again_at_17_in_chicago(autojump_clock: object) -> None:
    async with running(World(seed=1, start=START)) as system, system.market_hub() as hub:
        await hub.invoke("SubscribeContractQuotes", MNQ)
        await system.rest.sim("price", contractId="MNQ", price=25100)
        market = system.world.markets[MNQ]
        assert (market.high, market.volume > 0) == (25100, True)
        await system.rest.sim("price", contractId="MNQ", price=25000)
        await system.rest.sim("clock", advance_s=8 * 3600 - 1)
        assert market.high == 25100
        await trio.sleep(2)
        assert (market.open, market.high) == (25000, 25000)


async def test_a_bug_of_the_double_ends_it_instead_of_looking_like_a_mood_of_the_broker(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_place(*args: object) -> None:
        raise RuntimeError("a bug")

    async def run_into_it() -> None:
        async with running(World(seed=1, start=START)) as system:
            monkeypatch.setattr(system.world, "place", broken_place)
            order = {"accountId": COMBINE, "contractId": MNQ, "type": 2, "side": 0, "size": 1}
            await system.rest.send("/api/Order/place", order)
            await trio.sleep(1)

    with pytest.raises(BaseExceptionGroup) as caught:
        await run_into_it()
    assert "a bug" in repr(caught.value.exceptions)


async def test_truth_holds_every_row_connection_and_request(calm: System, autojump_clock: object) -> None:
    async with calm.user_hub(), calm.market_hub() as market:
        await market.invoke("SubscribeContractQuotes", MNQ)
        await calm.place(BUY, 2)
        await calm.place(SELL, 1)
        await calm.place(kind=LIMIT, limitPrice=24900)
        truth = await calm.rest.truth()
    assert [(row["contractId"], row["type"], row["size"]) for row in truth["positions"]] == [(MNQ, 1, 1)]
    assert [row["status"] for row in truth["orders"]] == [2, 2, 1]
    assert [row["profitAndLoss"] for row in truth["trades"]] == [
        None,
        Decimal("-0.25") * 2 / Decimal("0.25") * Decimal("0.5"),
    ]
    combine = truth["accounts"][0]
    assert combine["balance"] - 50000 == combine["realized_net"] == Decimal(-1) - 3 * Decimal("0.61")
    assert [(client["hub"], len(client["subscriptions"])) for client in truth["clients"]] == [
        ("user", 4),
        ("market", 1),
    ]
    paths = [entry["path"] for entry in truth["requests"]]
    assert paths == ["/api/Auth/loginKey", "/hubs/user", "/hubs/market"] + ["/api/Order/place"] * 3
    login, *_, last = truth["requests"]
    assert login["body"] == {"userName": "trader1", "apiKey": "(redacted)"}
    assert (last["outcome"], last["time"][:10]) == ({"status": 200, "errorCode": 0}, "2026-11-18")
    assert [entry["user"] for entry in truth["requests"]] == ["trader1"] * 6
    assert calm.rest.token not in json.dumps(truth, default=str)


async def test_the_log_holds_also_what_led_nowhere_and_how_long_each_call_took(autojump_clock: object) -> None:
    async with running(World(seed=1, start=START)) as system:
        await system.rest.send("/api/Position/closeAll", {})
        await system.rest.http.get("/api/Order/place")
        await system.rest.http.get("/api/Status/ping")
        system.rest.token = ""
        await system.rest.send("/api/Trade/search", [{"apiKey": "hidden"}])
        _, nowhere, method, ping, stranger = (await system.rest.truth())["requests"]
    assert [entry["outcome"]["status"] for entry in (nowhere, method, ping, stranger)] == [404, 405, 200, 401]
    assert (method["method"], ping["ms"] > 0, stranger["ms"] > 0) == ("GET", True, True)
    assert (stranger["user"], stranger["body"]) == (None, [{"apiKey": "(redacted)"}])


async def test_a_key_that_nobody_knows_is_refused_by_its_name(calm: System, autojump_clock: object) -> None:
    """A slip of the pen must not start another fault than the one that was meant."""
    body = b'{"name": "http_500", "probabilty": 0.0}'
    refused = await calm.rest.http.post("/sim/faults", content=body)
    assert refused.status_code == 400
    assert "probabilty is not known here" in refused.text
    assert (await calm.rest("Account/search", onlyActiveAccounts=True))["success"]


def test_the_targets_of_faults_are_what_there_is() -> None:
    assert set(PATHS) == set(ENDPOINTS)
    assert set(EVENTS) == {method.event for methods in METHODS.values() for _, method in methods.values()}
