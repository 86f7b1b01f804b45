"""The client against the gateway double, which negotiates as ASP.NET Core does: both ends are ours, and agree."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from flatguard.signalr_client import Hub, HubRefused, HubUnreachable, Link, Phase, TokenIn, open_hub
from flatguard.signalr_client.reconnect import STABLE_S
from tests.fakes.chance import Edge
from tests.fakes.memory_gateway import MemoryGateway, open_gateway

URL = "http://gateway/hubs/user"


async def listen(hub: Hub) -> None:
    while True:
        await hub.receive()


def negotiations(gateway: MemoryGateway) -> list[int]:
    return [entry["outcome"]["status"] for entry in gateway.requests("/hubs/user/negotiate")]


@pytest.mark.parametrize("token_in", [TokenIn.HEADER, TokenIn.QUERY, TokenIn.HEADER | TokenIn.QUERY])
async def test_a_negotiated_hub_calls_and_hears(autojump_clock: trio.abc.Clock, token_in: TokenIn) -> None:
    async with (
        open_gateway() as gateway,
        open_hub(URL, token=gateway.bearer, token_in=token_in, dial=gateway.dial) as hub,
    ):
        assert hub.connection_id
        assert await hub.invoke("SubscribeOrders", gateway.account_id) is None
    assert negotiations(gateway) == [200]


async def test_redirects_are_followed_with_their_passes(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.fault("redirect_negotiation", target="user", count=3)
        async with open_hub(URL, token=gateway.bearer, dial=gateway.dial) as hub:
            await hub.invoke("SubscribeAccounts")
        assert negotiations(gateway) == [200] * 4


async def test_a_refused_negotiation_is_told_in_its_words(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.fault("refuse_negotiation", target="user")
        with pytest.raises(HubRefused, match="does not negotiate at the moment"):
            async with open_hub(URL, token=gateway.bearer, dial=gateway.dial):
                pytest.fail("it opened")


async def test_a_circle_of_redirects_is_given_up(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.fault("redirect_negotiation", target="user")
        with pytest.raises(HubUnreachable, match="sent us on 100 times"):
            async with open_hub(URL, token=gateway.bearer, dial=gateway.dial):
                pytest.fail("it opened")


@pytest.mark.parametrize("fault", ["cut_hub", "close_hub"])
async def test_whoever_comes_back_negotiates_anew(autojump_clock: trio.abc.Clock, fault: str) -> None:
    async with open_gateway() as gateway:
        link = Link(partial(open_hub, URL, token=gateway.bearer, dial=gateway.dial), Edge())
        gateway.nursery.start_soon(link.keep, listen)
        await trio.sleep(STABLE_S)
        first = link.state.connection_id
        gateway.fault(fault, target="user")
        await trio.sleep(1)
        assert link.state.phase is Phase.CONNECTED
        assert link.state.connection_id != first
        assert negotiations(gateway) == [200, 200]
