"""The double in one ``async with``, as anybody's tests use it."""

from __future__ import annotations

from decimal import Decimal

import httpx
import pytest
import trio

from flatguard.signalr_client import HubRefused
from flatguard.simulator import CallFailed, Options, World, open_double
from tests.simulator.conftest import COMBINE, MNQ, START


async def test_one_block_gives_a_double_a_login_and_its_hubs(autojump_clock: object) -> None:
    world = World(seed=1, start=START, options=Options.calm())
    async with open_double(world) as double, double.hub("user") as user, double.hub("market") as market:
        assert (double.account_id, double.now().date(), double.world) == (COMBINE, START.date(), world)
        await user.invoke("SubscribePositions", double.account_id)
        await market.invoke("SubscribeContractQuotes", MNQ)
        (quote,) = await market.receive()
        assert (quote.target, quote.arguments[1]["lastPrice"]) == ("GatewayQuote", 25000)
        placed = await double.rest(
            "Order/place", accountId=double.account_id, contractId=MNQ, type=2, side=0, size=2, limitPrice=None
        )
        assert placed["success"]
        (position,) = (event.arguments[0]["data"] for event in await user.receive())
        assert (position["size"], position["averagePrice"]) == (2, Decimal("25000.25"))
        assert (await double.sim("price", contractId="MNQ", price=Decimal("24990.5")))["price"] == Decimal("24990.5")
        assert [row["size"] for row in (await double.truth())["positions"]] == [2]


async def test_a_price_may_be_given_as_a_float(autojump_clock: object) -> None:
    async with open_double(World(seed=1, start=START, options=Options.calm())) as double:
        assert (await double.sim("price", contractId="MNQ", price=24990.75))["price"] == Decimal("24990.75")
        order = {"accountId": COMBINE, "contractId": MNQ, "type": 1, "side": 0, "size": 1, "limitPrice": 24980.25}
        assert (await double.rest("Order/place", **order))["success"]
        (row,) = (await double.truth())["orders"]
        assert row["limitPrice"] == Decimal("24980.25")
        with pytest.raises(ValueError, match="nan"):
            await double.sim("price", contractId="MNQ", price=float("nan"))


async def test_a_day_passes_at_once_on_a_virtual_clock(autojump_clock: object) -> None:
    async with open_double() as double:
        began = double.now()
        await trio.sleep(23 * 3600)
        assert (double.now() - began).total_seconds() >= 23 * 3600
        assert (await double.rest("Account/search", onlyActiveAccounts=True))["success"]


async def test_a_status_other_than_200_is_an_error_and_a_refusal_is_not(autojump_clock: object) -> None:
    async with open_double() as double:
        refused = await double.rest("Order/cancel", accountId=COMBINE, orderId=1)
        assert (refused["success"], refused["errorCode"]) == (False, 2)
        double.token = "nobody's"
        with pytest.raises(CallFailed, match="401") as caught:
            await double.rest("Account/search", onlyActiveAccounts=True)
        assert (caught.value.status, caught.value.body) == (401, b"")
        with pytest.raises(HubRefused):
            async with double.hub("user"):
                pass
        await double.log_in()
        assert (await double.rest("Account/search", onlyActiveAccounts=True))["success"]


async def test_who_logs_in_can_be_chosen_and_has_to_exist(autojump_clock: object) -> None:
    async with open_double(user_name="Trader1") as double:
        assert double.user.user_name == "trader1"
    with pytest.raises(KeyError):
        async with open_double(user_name="nobody"):
            pass


async def test_a_failure_inside_the_block_leaves_as_it_is(autojump_clock: object) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with open_double():
            raise LookupError("mine")


async def test_a_call_can_be_abandoned_and_the_next_one_made(autojump_clock: object) -> None:
    async with open_double() as double:
        await double.sim("faults", name="timeout_after", count=1)
        with trio.move_on_after(5) as waiting:
            await double.rest("Account/search", onlyActiveAccounts=True)
        assert waiting.cancelled_caught
        assert (await double.rest("Account/search", onlyActiveAccounts=True))["success"]


async def test_a_connection_that_is_reset_is_no_answer(autojump_clock: object) -> None:
    async with open_double() as double:
        await double.sim("faults", name="reset_after", count=1)
        with pytest.raises(CallFailed, match="was not answered") as caught:
            await double.rest("Account/search", onlyActiveAccounts=True)
        assert caught.value.status == 0


async def test_an_http_client_that_calls_asgi_needs_no_streams(autojump_clock: object) -> None:
    async with open_double() as double:
        transport = httpx.ASGITransport(app=double.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://double") as http:
            assert (await http.get("/api/Status/ping")).text == "pong"
            body = {"userName": double.user.user_name, "apiKey": double.user.api_key}
            assert (await http.post("/api/Auth/loginKey", json=body)).json()["success"] is True
