"""The double on streams in memory, so that a whole system can run on a virtual clock."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from attrs import frozen
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from flatguard.simulator.app import Gateway
from flatguard.simulator.wire import serve_connection
from flatguard.simulator.world import World


class _NoSocket:
    """What Hypercorn asks of a socket."""

    family = socket.AF_INET

    def getpeername(self) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 80)


class _MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a pair, with the parts of a socket stream that HTTP servers look for."""

    def __init__(self, stream: trio.StapledStream[MemorySendStream, MemoryReceiveStream]) -> None:
        self._stream = stream
        self.socket = _NoSocket()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


@frozen
class InMemoryGateway:
    """A gateway that runs, and can be dialled."""

    gateway: Gateway
    nursery: trio.Nursery

    def dial(self) -> trio.abc.HalfCloseableStream:
        """Open a connection and return the client's end; plain HTTP/1.1 and WebSocket, whatever the host."""
        client, server = memory_stream_pair()
        # HTTP clients judge the age of an idle connection by the real clock, so here none is ever too old
        serve = partial(serve_connection, keep_alive_s=math.inf)
        self.nursery.start_soon(serve, self.gateway.app, _MemoryStream(server))
        return _MemoryStream(client)


@asynccontextmanager
async def open_in_memory(world: World) -> AsyncIterator[InMemoryGateway]:
    """Run ``world`` without sockets; its clock follows ``trio.current_time()``.

    Leaving ends every connection.
    """
    async with trio.open_nursery() as nursery:
        gateway = Gateway(world)
        await nursery.start(gateway.run)
        yield InMemoryGateway(gateway, nursery)
        nursery.cancel_scope.cancel()
