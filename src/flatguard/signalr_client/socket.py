"""A WebSocket whose opening and closing always end. The only module that knows trio-websocket.

What that library leaves to be done here:

- It waits for its reader task to report the upgrade, and waits for ever when the reader ends first, because
the server
  hung up or does not speak HTTP. So the reader runs where we see it end.
- Its reader's exceptions leave as groups, and some quote the request, which carries a token. So they are
turned into
  three errors of ours in one place, and the originals are dropped.
- It writes the URL to its log when it dials. So we dial, and hand it a stream; which is also how tests go
without a
  network.
- When the server closes, it leaves the stream open. So the stream is ours, and is closed in any case.

A limit on opening is the caller's: put a cancel scope around it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import SplitResult, urlsplit

import trio
from h11 import ProtocolError as HttpProtocolError
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream
from wsproto.utilities import ProtocolError as WebSocketProtocolError

from flatguard.errors import GatewayUnreachable

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Larger than any message of the broker's. The library's own limit is 1 MiB; to pass it ends the connection."""

READ_BYTES = 64 * 1024
"""Many small messages come with one read when the market is busy; the library asks for 4 KiB at a time."""

Dial = Callable[[str], Awaitable[trio.abc.Stream]]
"""Opens a stream to the host of a URL. The URL comes without its query, where the token is."""


class SocketError(GatewayUnreachable):
    """Base of the three; never raised itself."""


class SocketUnreachable(SocketError):
    """There is no WebSocket: nobody listens, the certificate is wrong, or what answers is something else."""


class SocketRefused(SocketError):
    """The server answered the upgrade with another HTTP status; 401 and 403 call for a fresh token."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered HTTP {status} instead of opening a WebSocket")
        self.status = status


class SocketClosed(SocketError):
    """The WebSocket is closed. ``code`` is 1000 after a farewell, 1006 when the line broke, 1009 after a
    message that was too large; None if nobody said.
    """

    def __init__(self, code: int | None) -> None:
        super().__init__("the WebSocket closed" if code is None else f"the WebSocket closed with code {code}")
        self.code = code


class Socket:
    """An open WebSocket. One task receives; several may send, one whole message at a time."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        """Send one text message.

        Returns when the operating system has it. Checkpoints unless it raises SocketClosed. If cancelled, a
        part may have left and the socket is of no further use.
        """
        try:
            return await self._connection.send_message(text)
        except ConnectionClosed:
            pass  # raised below, without this one as its context: it quotes the server
        raise self._closed()

    async def receive(self) -> str | bytes:
        """Return the next message, whole.

        Returns when one is there, always by way of a checkpoint; raises SocketClosed after the last. If
        cancelled, nothing is lost. While nobody receives, the library reads no further and answers no
        WebSocket pings.
        """
        try:
            return await self._connection.get_message()
        except ConnectionClosed:
            pass
        raise self._closed()

    async def aclose(self) -> None:
        """Say goodbye; leaving the block of ``open_socket`` without it hangs up.

        Returns when the server has said it too, which it may never do: put a limit around it. Checkpoints unless the
        socket is closed already. If cancelled, the stream is closed.
        """
        await self._connection.aclose()

    def _closed(self) -> SocketClosed:
        reason = self._connection.closed
        return SocketClosed(None if reason is None else reason.code)


@asynccontextmanager
async def open_socket(
    url: str, *, headers: dict[str, str] | None = None, dial: Dial | None = None
) -> AsyncIterator[Socket]:
    """Open a WebSocket to a ``ws`` or ``wss`` URL for the length of the block.

    Entering returns when the server has agreed, and waits for that as long as the caller's cancel scope
    allows; it raises SocketUnreachable or SocketRefused. Leaving hangs up without waiting. Cancelled at any
    point, the stream is closed and no task is left. An error of the block leaves as it is, not in a group.
    """
    parts = urlsplit(url)
    stream = await _stream_to(parts, dial or dial_tcp)
    try:
        async with open_helpers() as nursery:
            reader = _Reader(nursery)
            try:
                yield Socket(await _upgrade(reader, stream, parts, headers or {}))
            finally:
                reader.stop()
    finally:
        await trio.aclose_forcefully(stream)


async def _stream_to(parts: SplitResult, dial: Dial) -> trio.abc.Stream:
    try:
        return await dial(parts._replace(query="", fragment="").geturl())
    except (OSError, trio.BrokenResourceError) as error:
        why = str(error) or str(error.__cause__)  # a refused certificate is in the cause
    raise SocketUnreachable(f"cannot connect to {parts.hostname}: {why}")


async def dial_tcp(url: str, *, ssl_context: ssl.SSLContext | None = None) -> trio.abc.Stream:
    """Open a TCP stream to the host of ``url``, with TLS for ``wss``.

    Returns when connected and the certificate has been checked, always by way of a checkpoint. If cancelled,
    nothing is left open.
    """
    parts = urlsplit(url)
    assert parts.hostname is not None, "settings were checked"
    if parts.scheme != "wss":
        return await trio.open_tcp_stream(parts.hostname, parts.port or 80)
    stream = await trio.open_ssl_over_tcp_stream(
        parts.hostname, parts.port or 443, ssl_context=ssl_context, https_compatible=True
    )
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _upgrade(
    reader: _Reader, stream: trio.abc.Stream, parts: SplitResult, headers: dict[str, str]
) -> WebSocketConnection:
    with reader.watching:
        return await wrap_client_stream(
            cast(trio.Nursery, reader),
            cast(trio.SocketStream, stream),
            host=parts.netloc.rpartition("@")[2],
            resource=(parts.path or "/") + ("?" + parts.query if parts.query else ""),
            extra_headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()],
            max_message_size=MAX_MESSAGE_BYTES,
            receive_buffer_size=READ_BYTES,
        )
    raise reader.failure or SocketUnreachable("the server hung up before it opened a WebSocket")


class _Reader:
    """Runs the library's reader task, and says when and why it has ended.

    The library takes it for a nursery, of which it only uses ``start_soon``. The task is shielded, since it
    also carries our goodbye when the block is cancelled; ``stop`` ends it. ``watching`` is a scope that ends
    with it.
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
        except (HttpProtocolError, WebSocketProtocolError, UnicodeError):
            # The library tries to complain to the server, which a client cannot; or a header was not ASCII.
            self.failure = SocketUnreachable("what answered does not speak WebSocket")
        finally:
            self.watching.cancel()


@asynccontextmanager
async def open_helpers() -> AsyncIterator[trio.Nursery]:
    """Open a nursery for tasks that serve the block and end with it.

    Leaving cancels them and waits until they are gone. One error leaves as it is, not in a group.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = _sole(group)
    else:
        return
    raise error


def _sole(group: BaseExceptionGroup) -> BaseException:
    _, errors = group.split(trio.Cancelled)
    return group if errors is None or len(errors.exceptions) > 1 else errors.exceptions[0]
