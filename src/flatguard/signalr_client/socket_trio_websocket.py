"""The WebSocket by way of trio-websocket. The only module that knows that library.

What it leaves to be done here:

- It waits for its reader task to report the upgrade, and waits for ever when the reader ends first, because the
  server hung up or does not speak HTTP. So the reader runs where we see it end.
- Its reader's exceptions leave as groups, and some quote the request, which carries a token. So they are turned into
  errors of ours in one place, and the originals are dropped.
- It hands over every message by itself, through a channel, which costs more than all the rest. So the messages of one
  read are collected, and handed over together before the next read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

import trio
from h11 import ProtocolError as HttpProtocolError
from trio_websocket import CloseReason, ConnectionClosed, ConnectionRejected, WebSocketConnection
from wsproto import ConnectionType, WSConnection
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.utilities import ProtocolError as WebSocketProtocolError

from flatguard.signalr_client.socket_contract import (
    READ_BYTES,
    Socket,
    SocketClosed,
    SocketError,
    SocketRefused,
    SocketUnreachable,
    Upgrade,
    open_helpers,
)

TOO_BIG = 1009


@asynccontextmanager
async def over_trio_websocket(upgrade: Upgrade) -> AsyncIterator[Socket]:
    """Upgrade with trio-websocket. Raises SocketUnreachable or SocketRefused; a task reads for the block."""
    async with open_helpers() as nursery:
        reader = _Reader(nursery)
        try:
            yield _TrioWebSocket(await _open(reader, upgrade))
        finally:
            reader.stop()


async def _open(reader: _Reader, upgrade: Upgrade) -> _Connection:
    connection = _Connection(upgrade)
    with reader.watching:
        reader.start_soon(connection._reader_task)
        await connection._open_handshake.wait()
        return connection
    if connection.refusal:  # the server hung up in the middle of explaining it
        raise SocketRefused(connection.refusal)
    raise reader.failure or SocketUnreachable("the server hung up before it opened a WebSocket")


class _TrioWebSocket(Socket):
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        try:
            return await self._connection.send_message(text)
        except ConnectionClosed:
            pass  # raised below, without this one as its context: it quotes the server
        raise self._closed()

    async def receive(self) -> bytes:
        try:
            return cast(bytes, await self._connection.get_message())
        except ConnectionClosed:
            await trio.lowlevel.checkpoint()  # the channel makes none when it has ended
        raise self._closed()

    async def aclose(self) -> None:
        await self._connection.aclose()

    def _closed(self) -> SocketClosed:
        reason = self._connection.closed
        return SocketClosed(None if reason is None else int(reason.code))


class _Connection(WebSocketConnection):
    """The library's connection, which hands over reads instead of messages. Its reader calls all this."""

    def __init__(self, upgrade: Upgrade) -> None:
        url = upgrade.url
        super().__init__(
            _Inlet(upgrade.stream, self._hand_over),
            WSConnection(ConnectionType.CLIENT),
            host=url.netloc.rpartition("@")[2],
            path=(url.path or "/") + (f"?{url.query}" if url.query else ""),
            client_extra_headers=[(name.encode(), value.encode()) for name, value in upgrade.headers.items()],
            max_message_size=upgrade.max_message_bytes,
            receive_buffer_size=READ_BYTES,
        )
        self._collected: list[bytes] = []

    @property
    def refusal(self) -> int:
        """The HTTP status instead of the agreement; 0 if there was none."""
        return self._reject_status

    async def _handle_message_event(self, event: BytesMessage | TextMessage) -> None:
        if self._close_reason is not None:
            return
        octets = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        self._message_size += len(octets)
        if self._message_size > self._max_message_size:
            await self._hand_over()
            self._close_reason = CloseReason(TOO_BIG, None)
            await self._send(CloseConnection(code=TOO_BIG))
            await self._send_channel.aclose()
            self._reader_running = False
        elif octets:
            self._collected.append(octets)
        if event.message_finished:
            self._message_size = 0

    async def _close_web_socket(self, code: int, reason: str | None = None) -> None:
        await self._hand_over()
        await super()._close_web_socket(code, reason)

    async def _hand_over(self) -> None:
        if self._collected:
            data = b"".join(self._collected)
            self._collected.clear()
            try:
                await self._send_channel.send(data)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                pass  # we said goodbye in the meantime


class _Inlet(trio.abc.Stream):
    """The stream, as the library sees it. Before it reads on, what the last read brought is handed over."""

    def __init__(self, stream: trio.abc.Stream, hand_over: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._hand_over = hand_over

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await self._hand_over()
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Reader:
    """Runs the library's reader task, and says when and why it has ended.

    The task is shielded, since it also carries our goodbye when the block is cancelled; ``stop`` ends it.
    ``watching`` is a scope that ends with it.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._running = trio.CancelScope(shield=True)
        self.watching = trio.CancelScope()
        self.failure: SocketError | None = None

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        self._nursery.start_soon(self._run, task)

    def stop(self) -> None:
        self._running.cancel()

    async def _run(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            with self._running:
                await task()
        except ConnectionRejected as error:
            self.failure = SocketRefused(error.status_code)
        except (HttpProtocolError, WebSocketProtocolError):
            # The library tries to complain to the server, which a client cannot.
            self.failure = SocketUnreachable("what answered does not speak WebSocket")
        finally:
            self.watching.cancel()
