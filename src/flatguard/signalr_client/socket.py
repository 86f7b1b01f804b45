"""A WebSocket whose opening and closing always end: the door to it, and the way to the host.

Two libraries can speak the protocol behind this door, each in a module of its own that nobody else imports; the same
tests hold both to the contract. What is common to them is here:

- Libraries that dial write the URL to their log, and the URL carries a token. So we dial, and hand them a stream;
  which is also how tests go without a network.
- When the server closes, they leave the stream open. So the stream is ours, and is closed in any case.

A limit on opening is the caller's: put a cancel scope around it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import SplitResult, urlsplit

import trio

from flatguard.signalr_client.socket_contract import (
    Dial,
    Socket,
    SocketClosed,
    SocketError,
    SocketRefused,
    SocketUnreachable,
    Transport,
    Upgrade,
    open_helpers,
)
from flatguard.signalr_client.socket_trio_websocket import over_trio_websocket
from flatguard.signalr_client.socket_websockets import over_websockets

__all__ = [
    "MAX_MESSAGE_BYTES",
    "Dial",
    "Socket",
    "SocketClosed",
    "SocketError",
    "SocketRefused",
    "SocketUnreachable",
    "Transport",
    "dial_tcp",
    "open_helpers",
    "open_socket",
    "over_trio_websocket",
    "over_websockets",
]

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Larger than any message of the broker's. The libraries' own limit is 1 MiB; to pass it ends the connection."""


@asynccontextmanager
async def open_socket(
    url: str,
    *,
    headers: dict[str, str] | None = None,
    dial: Dial | None = None,
    transport: Transport = over_websockets,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> AsyncIterator[Socket]:
    """Open a WebSocket to a ``ws`` or ``wss`` URL for the length of the block.

    Entering returns when the server has agreed, and waits for that as long as the caller's cancel scope
    allows; it raises SocketUnreachable or SocketRefused. Leaving hangs up without waiting. Cancelled at any
    point, the stream is closed and no task is left. An error of the block leaves as it is, not in a group.
    """
    parts = urlsplit(url)
    headers = headers or {}
    if " " in parts.path + parts.query or not all(map(_is_writable, (parts.path, parts.query, *headers.values()))):
        raise SocketUnreachable("the URL or a header cannot be written")  # and is not quoted: it holds the token
    stream = await _stream_to(parts, dial or dial_tcp)
    try:
        async with transport(Upgrade(stream, parts, headers, max_message_bytes)) as socket:
            yield socket
    finally:
        await trio.aclose_forcefully(stream)


def _is_writable(text: str) -> bool:
    """Whether it can stand in a request; not every version of the libraries looks."""
    return text.isascii() and text.isprintable()


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
