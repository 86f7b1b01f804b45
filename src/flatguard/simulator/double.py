"""A running double for anybody's tests: in memory, with somebody logged in, in one ``async with``.

It speaks HTTP and SignalR like the one on sockets, over streams in memory, so that on a virtual clock a day of trading
passes in seconds and every run is the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from math import isfinite
from typing import Any

import h11
import trio
from attrs import define, field
from starlette.types import ASGIApp

from flatguard.errors import FlatguardError
from flatguard.signalr_client import Hub, TokenIn, open_hub
from flatguard.simulator import exact_json
from flatguard.simulator.memory import InMemoryGateway, open_in_memory
from flatguard.simulator.setup import UserSetup
from flatguard.simulator.world import World

WEDNESDAY_MORNING = datetime(2026, 11, 18, 15, tzinfo=UTC)
"""09:00 in Chicago, in the middle of a session of every product."""
_MAX_READ = 64 * 1024


class CallFailed(FlatguardError):
    """The double answered with another status than 200, or not at all, which is status 0.

    A refusal of business comes with 200 and is returned instead.
    """

    def __init__(self, path: str, status: int, body: bytes = b"") -> None:
        text = body.decode(errors="replace")[:500]
        super().__init__(f"{path} was answered by {status}: {text}" if status else f"{path} was not answered")
        self.status = status
        self.body = body


@define
class Double:
    """A double that runs, and a login at it. Whatever it answers has Decimals for numbers with a point."""

    memory: InMemoryGateway
    user: UserSetup
    token: str = field(default="", repr=False)

    @property
    def world(self) -> World:
        """The broker's books and markets, for assertions."""
        return self.memory.gateway.world

    @property
    def app(self) -> ASGIApp:
        """The ASGI application, for HTTP clients that can call one. The faults that cut connections need streams."""
        return self.memory.gateway.app

    @property
    def account_id(self) -> int:
        """The first account of the login."""
        return self.user.accounts[0].id

    def now(self) -> datetime:
        """Return what the broker's clock says."""
        return self.memory.gateway.now()

    def dial(self) -> trio.abc.HalfCloseableStream:
        """Open a connection and return the client's end: plain HTTP/1.1 or WebSocket, whatever the host."""
        return self.memory.dial()

    async def rest(self, path: str, /, **body: object) -> dict[str, Any]:
        """Call an operation, such as ``Order/place``, and return its envelope.

        Raises ``CallFailed`` for a status other than 200. Waits as long as the double does: put a cancel scope around
        it. If cancelled, the call may have been acted upon. Always a checkpoint.
        """
        return await self._call("POST", f"/api/{path}", body)

    async def sim(self, name: str, /, **body: object) -> dict[str, Any]:
        """Make a control call, such as ``price``; as ``rest`` otherwise."""
        return await self._call("POST", f"/sim/{name}", body)

    async def truth(self) -> dict[str, Any]:
        """Return what ``GET /sim/truth`` tells; as ``rest`` otherwise."""
        return await self._call("GET", "/sim/truth", None)

    def hub(self, name: str) -> AbstractAsyncContextManager[Hub]:
        """Connect to the hub ``user`` or ``market`` for the length of a block. Raises as ``open_hub`` does."""
        return open_hub(
            f"http://double/hubs/{name}",
            token=self._bearer,
            token_in=TokenIn.QUERY,
            negotiating=False,
            dial=self._dialled,
        )

    async def log_in(self) -> None:
        """Take a fresh token. Raises ``CallFailed`` if the login is refused; as ``rest`` otherwise."""
        answer = await self.rest("Auth/loginKey", userName=self.user.user_name, apiKey=self.user.api_key)
        if not answer["success"]:
            raise CallFailed("/api/Auth/loginKey", 200, exact_json.dumps(answer).encode())
        self.token = answer["token"]

    async def _bearer(self) -> str:
        await trio.lowlevel.checkpoint()
        return self.token

    async def _dialled(self, _url: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return self.dial()

    async def _call(self, method: str, path: str, body: Mapping[str, object] | None) -> dict[str, Any]:
        content = b"" if body is None else exact_json.dumps(_exact(body)).encode()
        headers = [("host", "double"), ("content-type", "application/json"), ("content-length", str(len(content)))]
        if self.token:
            headers.append(("authorization", f"Bearer {self.token}"))
        connection = h11.Connection(h11.CLIENT)
        async with self.dial() as stream:
            request = h11.Request(method=method, target=path, headers=[*headers, ("connection", "close")])
            try:
                for event in (request, h11.Data(data=content), h11.EndOfMessage()):
                    await stream.send_all(connection.send(event) or b"")
                status, answer = await _answer(connection, stream)
            except (trio.BrokenResourceError, h11.RemoteProtocolError):
                raise CallFailed(path, 0) from None
        if status != 200:
            raise CallFailed(path, status, answer)
        read = exact_json.loads(answer)
        if not isinstance(read, dict):
            raise CallFailed(path, status, answer)
        return read


def _exact(value: object) -> object:
    """Return ``value`` with each float as the decimal that Python prints for it, which is what a caller wrote."""
    if isinstance(value, Mapping):
        return {key: _exact(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(item) for item in value]
    if isinstance(value, float):
        if not isfinite(value):
            raise ValueError(f"{value} is no number that JSON has")
        return Decimal(str(value))
    return value


async def _answer(connection: h11.Connection, stream: trio.abc.ReceiveStream) -> tuple[int, bytes]:
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(_MAX_READ)))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, body


@asynccontextmanager
async def open_double(world: World | None = None, *, user_name: str | None = None) -> AsyncIterator[Double]:
    """Run ``world`` in memory and log in, for the length of the block.

    Without a world: the accounts that are there by default, seed 1, on a Wednesday morning. ``user_name`` is who logs
    in, by default the first of the world. Entering returns when the login is done. Leaving, or a cancel, ends every
    connection; an error of the block leaves as it is. Raises ``KeyError`` for a user whom the world does not have.
    """
    world = World(seed=1, start=WEDNESDAY_MORNING) if world is None else world
    user = next(iter(world.users.values())) if user_name is None else world.users[user_name.lower()]
    failure: Exception | None = None
    async with open_in_memory(world) as memory:
        double = Double(memory, user)
        await double.log_in()
        try:
            yield double
        except Exception as error:  # noqa: BLE001 - raised again below, by itself instead of in a group
            failure = error
    if failure is not None:
        raise failure
