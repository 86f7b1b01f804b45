"""A plain client of a gateway: httpx and trio-websocket on the streams of a ``dial``, speaking text by hand.

It knows nothing of flatguard's own client, so that the double and the client cannot share a mistake.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import httpcore
import httpx
import trio
from httpcore._backends.trio import TrioStream
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

Dial = Callable[[], trio.abc.HalfCloseableStream]
SEPARATOR = "\x1e"


class _AlwaysAlive(TrioStream):
    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else None


class DialBackend(httpcore.AsyncNetworkBackend):
    """An httpcore backend whose every connection is dialled."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _AlwaysAlive(self._dial())

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


def http_over(dial: Dial) -> httpx.AsyncClient:
    """Return an httpx client that dials."""
    transport = httpx.AsyncHTTPTransport(verify=False)  # no TLS here, so no certificates to load
    transport._pool = httpcore.AsyncConnectionPool(network_backend=DialBackend(dial))
    return httpx.AsyncClient(transport=transport, base_url="http://gateway", timeout=60)


class Rest:
    """Calls of one login. Answers are dicts with Decimals."""

    def __init__(self, http: httpx.AsyncClient, token: str = "") -> None:
        self.http = http
        self.token = token

    async def send(self, path: str, body: object = None) -> httpx.Response:
        content = None if body is None else json.dumps(body, default=float)
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        return await self.http.post(path, content=content, headers=headers)

    async def __call__(self, path: str, **body: object) -> dict[str, Any]:
        response = await self.send(f"/api/{path}", body)
        assert response.status_code == 200, (response.status_code, response.text)
        return read(response.text)

    async def sim(self, name: str, /, **body: object) -> dict[str, Any]:
        response = await self.http.post(f"/sim/{name}", content=json.dumps(body, default=float))
        assert response.status_code == 200, response.text
        return read(response.text)

    async def truth(self) -> dict[str, Any]:
        return read((await self.http.get("/sim/truth")).text)

    async def login(self, user_name: str, api_key: str) -> Rest:
        answer = await self("Auth/loginKey", userName=user_name, apiKey=api_key)
        assert answer["success"], answer
        self.token = answer["token"]
        return self


def read(text: str) -> Any:
    """Parse JSON exactly."""
    return json.loads(text, parse_float=Decimal)


class Hub:
    """One hub connection: what came is kept in ``heard``, with its time on Trio's clock."""

    def __init__(self, socket: WebSocketConnection) -> None:
        self.socket = socket
        self.heard: list[tuple[float, dict[str, Any]]] = []
        self.records: list[str] = []
        self.closed = False
        self._calls = 0
        self._news = trio.Event()

    async def say(self, message: dict[str, Any]) -> None:
        await self.socket.send_message(json.dumps(message) + SEPARATOR)

    async def invoke(self, target: str, *arguments: object) -> dict[str, Any]:
        """Call a hub method and return its completion."""
        self._calls += 1
        call_id = str(self._calls)
        await self.say({"type": 1, "invocationId": call_id, "target": target, "arguments": list(arguments)})
        return await self.wait_for(lambda message: message.get("invocationId") == call_id)

    async def wait_for(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the first message, heard or yet to come, that is wanted."""
        seen = 0
        while True:
            for _, message in self.heard[seen:]:
                if wanted(message):
                    return message
            seen = len(self.heard)
            assert not self.closed, "the hub has hung up"
            news = self._news
            await news.wait()

    async def wait_closed(self) -> None:
        while not self.closed:
            await self._news.wait()

    def events(self, *names: str) -> list[tuple[str, Any]]:
        """Return (target, arguments) of the events heard, of these names or all."""
        return [
            (message["target"], message["arguments"])
            for _, message in self.heard
            if message.get("type") == 1 and (not names or message["target"] in names)
        ]

    async def read(self) -> None:
        try:
            buffer = ""
            while True:
                buffer += await self.socket.get_message()
                *records, buffer = buffer.split(SEPARATOR)
                for record in records:
                    self.records.append(record)
                    self.heard.append((trio.current_time(), read(record)))
                self._stir()
        except ConnectionClosed:
            self.closed = True
            self._stir()

    def _stir(self) -> None:
        self._news.set()
        self._news = trio.Event()


HANDSHAKE = '{"protocol":"json","version":1}'


@asynccontextmanager
async def open_hub(
    dial: Dial,
    token: str,
    hub: str = "user",
    *,
    id: str = "",  # noqa: A002 - the parameter's own name
    handshake: str | None = HANDSHAKE,
    headers: list[tuple[str, str]] | None = None,
) -> AsyncIterator[Hub]:
    """Connect to a hub and shake hands; with an unusual handshake, or with none, do not wait for the answer."""
    query = {"id": id, "access_token": token}
    path = f"/hubs/{hub}?" + "&".join(f"{name}={value}" for name, value in query.items() if value)
    async with trio.open_nursery() as nursery:
        socket = await wrap_client_stream(
            nursery,
            dial(),
            "gateway",
            path,
            max_message_size=2**24,
            extra_headers=[(k.encode(), v.encode()) for k, v in headers or ()],
        )
        client = Hub(socket)
        if handshake is not None:
            await socket.send_message(handshake + SEPARATOR)
        nursery.start_soon(client.read)
        if handshake == HANDSHAKE:
            assert await client.wait_for(lambda _: True) == {}
        try:
            yield client
        finally:
            with trio.move_on_after(2, shield=True):
                await socket.aclose()
            nursery.cancel_scope.cancel()
