"""The WebSocket by way of the protocol core of websockets, which does no I/O. The only module that knows that library.

The task that receives reads the stream and feeds the core; no other task and no channel stands between the stream and
whoever wants its bytes. What the core wants to answer, pongs above all, is written by a task of its own: a cancel of
``receive`` cannot cut an answer in half, and a line that takes no answers does not stop the reading.

What the core leaves to be done here:

- It writes the request, which carries a token, to its log, and quotes it in some errors. So it gets a logger that
  writes nothing, and its errors are replaced by ours.
- It never raises when the server errs: it says Close and discards what follows. So after each read we look whether the
  conversation is over, and why.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import SplitResult

import trio
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import WebSocketURI

from flatguard.signalr_client.socket_contract import (
    ABNORMAL,
    READ_BYTES,
    Socket,
    SocketClosed,
    SocketError,
    SocketRefused,
    SocketUnreachable,
    Upgrade,
    open_helpers,
)

FAREWELL = 1000

GOODBYE_S = 1.0
"""For answering the server's goodbye; a line that is stuck must not hide that it was said, and why."""

ANSWERS_HELD = 64
"""Answers that wait for a line which is not taking them; of more the oldest are dropped, for only the newest ping
needs its pong."""

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")
_SILENT = logging.Logger("silent", logging.CRITICAL + 1)
_DATA = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})


@asynccontextmanager
async def over_websockets(upgrade: Upgrade) -> AsyncIterator[Socket]:
    """Upgrade with the core of websockets. Raises SocketUnreachable or SocketRefused; a task answers for the block."""
    socket = _WebSocket(upgrade)
    await socket.open(upgrade.headers)
    async with open_helpers() as nursery:
        # Shielded, since half an answer would spoil the goodbye that follows it when the block is cancelled.
        answering = trio.CancelScope(shield=True)
        nursery.start_soon(socket.answer, answering)
        try:
            yield socket
        finally:
            answering.cancel()


class _WebSocket(Socket):
    def __init__(self, upgrade: Upgrade) -> None:
        self._stream = upgrade.stream
        self._core = ClientProtocol(_address(upgrade.url), max_size=upgrade.max_message_bytes, logger=_SILENT)
        self._early = b""  # what came behind the server's agreement, in the same read
        self._owed: deque[bytes] = deque(maxlen=ANSWERS_HELD)
        self._owing = trio.lowlevel.ParkingLot()
        self._writing = trio.StrictFIFOLock()
        self._cut_short = False
        self._reading = False
        self._not_reading = trio.lowlevel.ParkingLot()

    # --- Opening ---

    async def open(self, headers: Mapping[str, str]) -> None:
        request = self._core.connect()
        for name, value in headers.items():
            request.headers[name] = value
        self._core.send_request(request)
        head = b""
        try:
            await self._stream.send_all(b"".join(self._core.data_to_send()))
            while self._core.state is State.CONNECTING and self._core.handshake_exc is None:
                octets = await self._stream.receive_some(READ_BYTES)
                head += octets
                status = _STATUS_LINE.match(head)
                if status is not None and status[1] != b"101":  # whatever else comes with it, and however malformed
                    raise SocketRefused(int(status[1]))
                self._early += self._feed(octets)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._feed(b"")
        if self._core.handshake_exc is not None:
            raise _failure(self._core.handshake_exc)

    # --- Speaking ---

    async def send(self, text: str) -> None:
        async with self._writing:
            if self._core.state is State.OPEN:
                self._core.send_text(text.encode())
                self._owed += self._core.data_to_send()
                if await self._pay():
                    return
        raise self._closed()

    async def answer(self, scope: trio.CancelScope) -> None:
        """Write what is owed, until ``scope`` is cancelled."""
        with scope:
            while True:
                if not self._owed:
                    await self._owing.park()
                async with self._writing:
                    await self._pay()

    async def _pay(self) -> bool:
        """Write what is owed, while holding the lock. After a write that was cut short, nothing may follow."""
        data = b"".join(self._owed)
        self._owed.clear()
        if data and not self._cut_short:
            self._cut_short = True
            try:
                await self._stream.send_all(data)
                self._cut_short = False
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                if self._reading:  # there is nothing left to read, and may never be
                    await trio.aclose_forcefully(self._stream)
        return not self._cut_short

    # --- Listening ---

    async def receive(self) -> bytes:
        if self._early:
            await trio.lowlevel.checkpoint()
            data, self._early = self._early, b""
            return data
        while self._core.state is State.OPEN:
            data = await self._read()
            if data:
                return data
        with trio.move_on_after(GOODBYE_S):
            async with self._writing:
                await self._pay()  # our answer to their goodbye: nobody will be there to wait for it later
        raise self._closed()

    async def _read(self) -> bytes:
        self._reading = True
        try:
            octets = await self._stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            octets = b""
        finally:
            self._reading = False
            self._not_reading.unpark_all()
        return self._feed(octets)

    def _feed(self, octets: bytes | bytearray) -> bytes:
        if octets:
            self._core.receive_data(octets)
        else:
            self._core.receive_eof()
        answers = self._core.data_to_send()
        if answers:
            self._owed += answers
            self._owing.unpark_all()
        events = self._core.events_received()
        return b"".join([event.data for event in events if type(event) is Frame and event.opcode in _DATA])

    # --- Leaving ---

    async def aclose(self) -> None:
        if self._core.state is not State.OPEN:
            return
        try:
            async with self._stream:
                await self._say_goodbye()
        except trio.BrokenResourceError:
            pass

    async def _say_goodbye(self) -> None:
        async with self._writing:
            if self._core.state is State.OPEN:
                self._core.send_close(FAREWELL)
                self._owed += self._core.data_to_send()
            if not await self._pay():
                return
        while self._core.close_rcvd is None and self._core.state is not State.CLOSED:
            if self._reading:
                await self._not_reading.park()
            else:
                await self._read()

    def _closed(self) -> SocketClosed:
        said = self._core.close_rcvd or self._core.close_sent
        return SocketClosed(ABNORMAL if said is None else int(said.code))


def _address(url: SplitResult) -> WebSocketURI:
    assert url.hostname is not None, "settings were checked"
    secure = url.scheme == "wss"
    return WebSocketURI(secure, url.hostname, url.port or (443 if secure else 80), url.path, url.query)


def _failure(error: Exception) -> SocketError:
    if isinstance(error, InvalidStatus):
        return SocketRefused(error.response.status_code)
    if isinstance(error.__cause__, EOFError):
        return SocketUnreachable("the server hung up before it opened a WebSocket")
    return SocketUnreachable("what answered does not speak WebSocket")
