"""A web server that does as it is told, on streams in memory, and httpx's way to it. It knows just enough of HTTP to
find the end of a request; everything else is the test's."""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpcore
import pytest
import trio
import trio.testing
from attrs import define, field
from httpcore._backends.trio import TrioStream

Behave = Callable[[trio.abc.Stream, bytes], Awaitable[None]]
Connect = Callable[[], Awaitable[None]]


def reply(body: bytes = b"{}", *, status: str = "200 OK", **headers: str) -> bytes:
    """Return a whole HTTP answer."""
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


async def read_request(stream: trio.abc.Stream) -> bytes | None:
    """Return the next request, whole; None when the client has hung up."""
    data = bytearray()
    while True:
        head, found, body = bytes(data).partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        if found and len(body) >= (int(length[1]) if length else 0):
            return bytes(data)
        piece = await stream.receive_some()
        if not piece:
            return None
        data += piece


def anonymous(side: int) -> ssl.SSLContext:
    """TLS without certificates, which is enough for everything but their check."""
    context = ssl.SSLContext(side)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if side == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return context


async def at_once() -> None:
    """Connect without delay."""
    await trio.lowlevel.checkpoint()


async def serve_requests(stream: trio.abc.Stream, behave: Behave, received: list[bytes]) -> None:
    """Serve one connection until either side hangs up."""
    try:
        async with stream:
            while (request := await read_request(stream)) is not None:
                received.append(request)
                await behave(stream, request)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client hung up, or the behaviour did


class _Stream(TrioStream):
    """Alive until a read says otherwise: streams in memory have no socket to ask."""

    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else None

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        secured = await super().start_tls(ssl_context, server_hostname, timeout)
        assert isinstance(secured, TrioStream)
        return _Stream(secured._stream)


@define
class PlainServer(httpcore.AsyncNetworkBackend):
    """The server, and the network that leads to it. ``connect`` is how long, or whether, connecting takes."""

    nursery: trio.Nursery
    behave: Behave
    connect: Connect = at_once
    greet: Connect = at_once
    tls: bool = False
    dialled: int = 0
    open: int = 0
    received: list[bytes] = field(factory=list)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        assert timeout is not None, "every step has its limit"
        with trio.move_on_after(timeout):
            await self.connect()
            self.dialled += 1
            ours, theirs = trio.testing.memory_stream_pair()
            self.nursery.start_soon(self._attend, theirs)
            return _Stream(ours)
        raise httpcore.ConnectTimeout

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    async def _attend(self, stream: trio.abc.Stream) -> None:
        self.open += 1
        try:
            await self.greet()
            if self.tls:
                stream = trio.SSLStream(stream, anonymous(ssl.PROTOCOL_TLS_SERVER), server_side=True)
            await serve_requests(stream, self.behave, self.received)
        finally:
            self.open -= 1

    def takes_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have every client of httpx that is made from now on connect to this server."""
        monkeypatch.setattr("httpcore._async.connection_pool.AutoBackend", lambda: self)
