"""signalrcore 1.0.2 against the double.

It negotiates version 0, and then greets the hub with protocol version 0 as well, unless it is given a protocol
object; the tests give it one of version 1, except for the test of just that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.driving import COMBINE, SIGNALRCORE, Client, Double, driven, running_double, same_figures

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]


@pytest.fixture
async def client(double: Double) -> AsyncIterator[Client]:
    async with driven(SIGNALRCORE, double) as client:
        yield client


async def test_it_negotiates_and_connects(double: Double, client: Client) -> None:
    await client.connect(version=1)
    assert (await client.invoke("SubscribeAccounts"))["result"] is None
    assert len(client.all("asked for a token")) == 1
    assert await double.negotiations() == [{"status": 200}]
    assert await double.upgrades() == [{"status": 101}]


async def test_it_connects_without_negotiating(double: Double, client: Client) -> None:
    await client.connect(version=1, skip_negotiation=True)
    assert (await client.invoke("SubscribeAccounts"))["result"] is None
    assert await double.negotiations() == []


async def test_left_to_itself_it_speaks_version_0_and_is_dropped_as_at_the_broker(
    double: Double, client: Client
) -> None:
    await client.start(skip_negotiation=True)
    assert await double.ended() == "the handshake failed"
    assert client.all("started") == []


async def test_a_bad_token_keeps_it_out(double: Double, client: Client) -> None:
    await client.start(version=1, token="nonsense")
    await client.says("failed to start")
    assert await double.upgrades() == []


async def test_a_refusal_to_negotiate_reaches_it(double: Double, client: Client) -> None:
    await double.fault("refuse_negotiation")
    await client.start(version=1)
    assert "This hub does not negotiate at the moment." in (await client.says("failed to start"))["error"]


async def test_calls_fail_with_the_words_of_the_server(double: Double, client: Client) -> None:
    await client.connect(version=1)
    assert (await client.invoke("Nonsense"))["error"] == "Unknown hub method 'Nonsense'"
    error = (await client.invoke("SubscribeOrders", str(COMBINE)))["error"]
    assert error == "Failed to invoke 'SubscribeOrders' due to an error on the server."


async def test_a_trade_arrives_with_the_figures_of_the_books(double: Double, client: Client) -> None:
    await client.connect(version=1)
    await client.invoke("SubscribePositions", COMBINE)
    await double.buy(2)
    (position,) = await client.event("GatewayUserPosition")
    assert same_figures(position["data"], (await double.rows("positions"))[-1])


async def test_a_cut_is_reported(double: Double, client: Client) -> None:
    """A reset is all it sees of it, and after that it does not come back, asked to or not."""
    await client.connect(version=1)
    await double.fault("cut_hub")
    await client.says("closed")


async def test_it_comes_back_after_a_close_when_asked_to(double: Double, client: Client) -> None:
    await client.connect(version=1, reconnect_s=1)
    await double.fault("close_hub")
    await client.says("reconnected")
    assert [outcome["status"] for outcome in await double.upgrades()] == [101, 101]
    assert len(await double.negotiations()) == 2


async def test_it_leaves_without_a_close(tmp_path: Path) -> None:
    """Neither Close nor the WebSocket's own farewell; and it goes no sooner than the next message comes."""
    async with running_double(tmp_path, hub_ping_s=0.2) as double, driven(SIGNALRCORE, double) as client:
        await client.connect(version=1)
        await client.tell("stop")
        assert await double.ended() == "the client was gone"
