"""What a socket promises, whichever library speaks the WebSocket protocol underneath."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import SplitResult

import trio
from attrs import frozen

from flatguard.errors import GatewayUnreachable

READ_BYTES = 64 * 1024
"""How much to ask of the stream: many small messages come with one read when the market is busy."""

ABNORMAL = 1006
"""The code of a line that broke without a farewell."""

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


class Socket(ABC):
    """An open WebSocket. One task receives; several may send, one whole message at a time.

    Inwards it is a pipe of bytes. SignalR puts a separator behind every message of its own, so where a WebSocket
    message begins or ends, in how many frames it came, and whether they were called text or binary says nothing.
    """

    @abstractmethod
    async def send(self, text: str) -> None:
        """Send one text message.

        Returns when the operating system has it. Checkpoints unless it raises SocketClosed. If cancelled, a
        part may have left and the socket is of no further use.
        """

    @abstractmethod
    async def receive(self) -> bytes:
        """Return what one read of the stream brought of data, joined in order, never empty.

        Returns when there is some, always by way of a checkpoint; raises SocketClosed after the last. If cancelled,
        nothing is lost. WebSocket pings are answered while somebody receives; while nobody does, nothing is read, so
        that a server which is too fast is held up.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Say goodbye; leaving the block of ``open_socket`` without it hangs up.

        Returns when the server has said it too, which it may never do: put a limit around it. Checkpoints unless the
        socket is closed already. If cancelled, the stream is closed.
        """


@frozen
class Upgrade:
    """What it takes to turn a stream into a WebSocket."""

    stream: trio.abc.Stream
    url: SplitResult
    headers: Mapping[str, str]
    max_message_bytes: int


Transport = Callable[[Upgrade], AbstractAsyncContextManager[Socket]]
"""Upgrades a stream and serves the WebSocket for the length of a block; the stream is its caller's to close."""


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
