"""The double on streams in memory, so that a whole system can run on a virtual clock."""

from __future__ import annotations

import math
import operator
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from attrs import frozen

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


class _Way:
    """Bytes on their way from one end to the other.

    Trio's own memory streams would do, but schedule twice as often, and that is what virtual time is spent on.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._ended = False
        self._deaf = False
        self._reading = False
        self._readers = trio.lowlevel.ParkingLot()

    def put(self, data: bytes | bytearray | memoryview) -> None:
        if self._deaf:
            raise trio.BrokenResourceError("the other end is closed")
        self._data += data
        if data:  # nothing at all would look like the end
            self._readers.unpark_all()

    def end(self) -> None:
        self._ended = True
        self._readers.unpark_all()

    def stop_listening(self) -> None:
        self._deaf = True
        self._readers.unpark_all()

    async def get(self, max_bytes: int | None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        if self._reading:
            raise trio.BusyResourceError("another task is reading this stream already")
        self._reading = True
        try:
            if self._data or self._ended or self._deaf:
                await trio.lowlevel.checkpoint()
            else:
                await self._readers.park()
        finally:
            self._reading = False
        if self._deaf:
            raise trio.ClosedResourceError
        data = bytes(self._data[:max_bytes])
        del self._data[:max_bytes]
        return data


class _MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection, with the parts of a socket stream that HTTP servers look for."""

    def __init__(self, outgoing: _Way, incoming: _Way) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._closed = False
        self._said_all = False
        self._sending = False
        self.socket = _NoSocket()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream already")
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._closed or self._said_all:
            raise trio.ClosedResourceError
        self._outgoing.put(data)
        self._sending = True
        await trio.lowlevel.cancel_shielded_checkpoint()  # the data has left
        self._sending = False

    async def wait_send_all_might_not_block(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream already")
        await trio.lowlevel.checkpoint()
        if self._closed or self._said_all:
            raise trio.ClosedResourceError

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError
        self._said_all = True
        self._outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self._incoming.get(max_bytes)

    async def aclose(self) -> None:
        self._closed = True
        self._outgoing.end()
        self._incoming.stop_listening()
        await trio.lowlevel.checkpoint()


def memory_streams() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
    """Return two ends that are connected; what is sent is never held back, so a sender does not wait."""
    one_way, other_way = _Way(), _Way()
    return _MemoryStream(one_way, other_way), _MemoryStream(other_way, one_way)


@frozen
class InMemoryGateway:
    """A gateway that runs, and can be dialled."""

    gateway: Gateway
    nursery: trio.Nursery

    def dial(self) -> trio.abc.HalfCloseableStream:
        """Open a connection and return the client's end; plain HTTP/1.1 and WebSocket, whatever the host."""
        client, server = memory_streams()
        # HTTP clients judge the age of an idle connection by the real clock, so here none is ever too old
        serve = partial(serve_connection, keep_alive_s=math.inf)
        self.nursery.start_soon(serve, self.gateway.app, server)
        return client


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
