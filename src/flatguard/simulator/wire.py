"""One connection served by Hypercorn, over any Trio stream, with a handle to tear it.

Hypercorn offers no public way to serve a stream that is already open; the private names stand in this module
only.
"""

from __future__ import annotations

import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp, Receive, Scope, Send

TEAR = "flatguard.tear"
"""Key of the ASGI scope: an async function that cuts the connection, without a farewell."""

HUSH = "flatguard.hush"
"""Key of the ASGI scope: takes a function that tells whether nothing at all may be sent now, pongs included.

What the layers in between answer by themselves is lost then, frame by frame. ``SPEAK`` still speaks.
"""

Tear = Callable[[], Awaitable[None]]

SPEAK = "flatguard.speak"
"""Key of the ASGI scope: an async function that sends a text on an accepted WebSocket, past the layers in between.

They take longer over a message than all the rest of the double. A frame from a server is bare of a mask, and may be
sent uncompressed whatever was agreed upon.
"""


KESTREL_KEEP_ALIVE_S = 130.0


class _Hushable:
    """A stream that loses what is sent on it while it is hushed."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.hushed: Callable[[], bool] = lambda: False

    async def send_all(self, data: bytes) -> None:
        if self.hushed():
            await trio.lowlevel.checkpoint()
        else:
            await self._stream.send_all(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _config(keep_alive_s: float) -> Config:
    config = Config()
    config.include_date_header = False  # the broker's clock says the date
    config.include_server_header = False
    config.keep_alive_timeout = keep_alive_s
    config.keep_alive_max_requests = 1_000_000
    config.errorlog = logging.getLogger("flatguard.simulator")
    return config


async def serve_connection(
    app: ASGIApp, stream: trio.abc.Stream, *, keep_alive_s: float = KESTREL_KEEP_ALIVE_S
) -> None:
    """Serve ``app`` on one connection until it ends or has been idle for ``keep_alive_s``.

    A cancel closes the stream.
    """

    async def tear() -> None:
        connection = getattr(stream, "socket", None)
        if isinstance(connection, trio.socket.SocketType):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)

    async def speak(text: str) -> None:
        try:
            server.send_lock.acquire_nowait()  # which it nearly always can, and that saves a turn of Trio's scheduler
        except trio.WouldBlock:
            await server.send_lock.acquire()
        try:
            with trio.CancelScope(shield=True):  # a frame leaves whole
                await stream.send_all(_text_frame(text.encode()))
        except trio.BusyResourceError:
            pass  # Hypercorn is saying goodbye on this stream, which it does outside its lock: nobody listens any more
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await server.protocol.handle(Closed())
        finally:
            server.send_lock.release()

    async def torn_app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[TEAR] = tear
        scope[SPEAK] = speak
        scope[HUSH] = partial(setattr, hushable, "hushed")
        await app(scope, receive, send)

    hushable = _Hushable(stream)
    server = TCPServer(
        ASGIWrapper(cast(Any, torn_app)),
        _config(keep_alive_s),
        WorkerContext(None),
        ConnectionState({}),
        cast(Any, hushable),
    )
    await server


def _text_frame(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload
