"""A gateway in memory and a client of it, on a virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from attrs import frozen

from flatguard.simulator import Options, World
from flatguard.simulator.app import Gateway
from flatguard.simulator.invariants import broken
from flatguard.simulator.memory import open_in_memory
from tests.fakes.gateway_client import Dial, Hub, Rest, http_over, open_hub

START = datetime(2026, 11, 18, 15, tzinfo=UTC)
"""A Wednesday morning in Chicago."""
COMBINE, PRACTICE, EXPRESS = 25700001, 26200002, 27300003
MNQ, ES = "CON.F.US.MNQ.Z26", "CON.F.US.EP.Z26"
BUY, SELL = 0, 1
LIMIT, MARKET, STOP_LIMIT, STOP, TRAILING = 1, 2, 3, 4, 5


def calm_world(seed: int = 1, **changes: Any) -> World:
    """Return a world without chance."""
    return World(seed=seed, start=START, options=Options.calm().but(**changes))


@frozen
class System:
    """A gateway that runs in memory, with somebody logged in."""

    gateway: Gateway
    dial: Dial
    rest: Rest

    @property
    def world(self) -> World:
        return self.gateway.world

    @asynccontextmanager
    async def user_hub(self, *accounts: int) -> AsyncIterator[Hub]:
        """Connect and subscribe to everything of these accounts."""
        async with open_hub(self.dial, self.rest.token) as hub:
            assert (await hub.invoke("SubscribeAccounts")).get("error") is None
            for account in accounts or (COMBINE,):
                for what in ("Orders", "Positions", "Trades"):
                    assert (await hub.invoke(f"Subscribe{what}", account)).get("error") is None
            yield hub

    def market_hub(self) -> AbstractAsyncContextManager[Hub]:
        return open_hub(self.dial, self.rest.token, "market")

    async def place(self, side: int = BUY, size: int = 1, *, kind: int = MARKET, **more: object) -> dict[str, Any]:
        """Place an order for MNQ on the Combine account, unless told otherwise."""
        body = {"accountId": COMBINE, "contractId": MNQ, "type": kind, "side": side, "size": size, **more}
        return await self.rest("Order/place", **body)

    async def move(self, price: object, contract: str = "MNQ") -> None:
        await self.rest.sim("price", contractId=contract, price=price)


SystemOf = Callable[[World], AbstractAsyncContextManager[System]]


@asynccontextmanager
async def running(world: World) -> AsyncIterator[System]:
    """Run ``world`` in memory and log in; afterwards everything must add up."""
    async with open_in_memory(world) as double, http_over(double.dial) as http:
        user = next(iter(world.users.values()))
        rest = await Rest(http).login(user.user_name, user.api_key)
        yield System(double.gateway, double.dial, rest)
        assert broken(world) == []


@pytest.fixture
async def calm(autojump_clock: object) -> AsyncIterator[System]:
    """A running gateway without chance."""
    async with running(calm_world()) as system:
        yield system
