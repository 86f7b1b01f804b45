"""pysignalr 1.3.3 against the double.

It negotiates version 0, and asks its token factory only after it has connected; so it is given the token in a
header or in the address.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.interop.driving import COMBINE, PYSIGNALR, Client, Double, driven, same_figures

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]


@pytest.fixture
async def client(double: Double) -> AsyncIterator[Client]:
    async with driven(PYSIGNALR, double) as client:
        yield client


@pytest.mark.parametrize("in_address", [False, True])
async def test_it_negotiates_and_connects(double: Double, client: Client, in_address: bool) -> None:
    await client.connect(url=double.url(bears_token=in_address), token="" if in_address else None)
    assert (await client.invoke("SubscribeAccounts"))["result"] is None
    assert await double.negotiations() == [{"status": 200}]
    assert await double.upgrades() == [{"status": 101}]


async def test_a_bad_token_keeps_it_out(double: Double, client: Client) -> None:
    await client.start(token="nonsense")
    assert "AuthorizationError" in (await client.says("ended"))["error"]
    assert await double.upgrades() == []


async def test_a_refusal_to_negotiate_reaches_it(double: Double, client: Client) -> None:
    await double.fault("refuse_negotiation")
    await client.start()
    assert "This hub does not negotiate at the moment." in (await client.says("ended"))["error"]


async def test_it_goes_where_a_redirect_sends_it(double: Double, client: Client) -> None:
    """It goes there without negotiating a second time, which the specification would have it do."""
    await double.fault("redirect_negotiation", count=1)
    await client.connect()
    assert (await client.invoke("SubscribeAccounts"))["said"] == "completed"
    assert await double.upgrades() == [{"status": 101}]


async def test_calls_fail_with_the_words_of_the_server(double: Double, client: Client) -> None:
    await client.connect()
    assert (await client.invoke("Nonsense"))["error"] == "Unknown hub method 'Nonsense'"
    error = (await client.invoke("SubscribeOrders", str(COMBINE)))["error"]
    assert error == "Failed to invoke 'SubscribeOrders' due to an error on the server."


async def test_a_trade_arrives_with_the_figures_of_the_books(double: Double, client: Client) -> None:
    """It hands over the list of all arguments, not the arguments."""
    await client.connect()
    await client.invoke("SubscribePositions", COMBINE)
    await double.buy(2)
    (position,) = await client.event("GatewayUserPosition")
    assert same_figures(position["data"], (await double.rows("positions"))[-1])


@pytest.mark.parametrize("fault", ["cut_hub", "close_hub"])
async def test_it_comes_back_by_way_of_an_id_that_is_dead(double: Double, client: Client, fault: str) -> None:
    """First it tries the address that it had; only when that is not found does it negotiate anew.

    It does not read allowReconnect, so a Close and a cut are the same to it.
    """
    await client.connect()
    await double.fault(fault)
    await client.says("closed")
    await client.says("started")
    assert [outcome["status"] for outcome in await double.upgrades()] == [101, 404, 101]
    assert len(await double.negotiations()) == 2
    assert await double.subscriptions() == []
    await client.invoke("SubscribeOrders", COMBINE)
    await double.buy()
    await client.event("GatewayUserOrder")


async def test_it_leaves_without_a_close(double: Double, client: Client) -> None:
    """It cannot be stopped but by cancelling it, and then closes the WebSocket only."""
    await client.connect()
    await client.tell("stop")
    await client.says("stopped")
    assert await double.ended() == "the client was gone"
