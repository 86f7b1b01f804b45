"""A stream in memory that breaks, by itself after so many bytes or when told to, or garbles what is read from it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import trio
import trio.testing


class Break(Enum):
    """How a line goes."""

    END = "the other side hung up"
    RESET = "the line was cut, and the system says so"
    SILENCE = "the line was cut, and nobody says so"


class BreakingStream(trio.abc.Stream):
    """One end of a pair in memory. Breaks once ``readable`` bytes were read or ``writable`` bytes were written.

    ``garbled`` says which of the bytes that are read become which other ones.
    """

    def __init__(
        self,
        stream: trio.StapledStream,
        *,
        how: Break,
        readable: int | None = None,
        writable: int | None = None,
        garbled: Mapping[int, int] | None = None,
    ) -> None:
        self._stream = stream
        self._how = how
        self._garbled = garbled or {}
        self._read = 0
        self._readable = readable
        self._writable = writable
        self._shut = trio.Event()
        self.broken = trio.Event()
        if readable == 0 or writable == 0:
            self.break_off()

    @property
    def closed(self) -> bool:
        """Whether whoever opened it has closed it."""
        return self._shut.is_set()

    async def wait_closed(self) -> None:
        """Wait until whoever opened it has closed it."""
        await self._shut.wait()

    def break_off(self) -> None:
        """Break now. Unless by silence, the far end learns it at once, and so does who reads here."""
        self.broken.set()
        if self._how is not Break.SILENCE:
            self._close_both_ways()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self.broken.is_set():
            limit = max_bytes if self._readable is None else min(self._readable, max_bytes or self._readable)
            try:
                data = await self._stream.receive_some(limit)
            except trio.ClosedResourceError:
                if not self.broken.is_set():
                    raise
            else:
                if self._readable is not None:
                    self._readable -= len(data)
                if not self.broken.is_set():
                    if self._readable == 0:
                        self.break_off()
                    return self._garble(data)
        return await self._read_nothing()

    def _garble(self, data: bytes | bytearray) -> bytes:
        began, self._read = self._read, self._read + len(data)
        return bytes(self._garbled.get(place, octet) for place, octet in enumerate(data, began))

    async def _read_nothing(self) -> bytes:
        if self._how is Break.SILENCE:
            await self._shut.wait()
        else:
            await trio.lowlevel.checkpoint()
        if self.closed:
            raise trio.ClosedResourceError
        if self._how is Break.RESET:
            raise trio.BrokenResourceError
        return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.closed:
            raise trio.ClosedResourceError
        octets = bytes(data)
        if not self.broken.is_set():
            part = octets[: self._writable]
            await self._stream.send_all(part)
            if self._writable is not None:
                self._writable -= len(part)
                if self._writable == 0:
                    self.break_off()
            if part == octets:
                return
        await trio.lowlevel.checkpoint()
        if self._how is not Break.SILENCE:
            raise trio.BrokenResourceError

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self._shut.set()
        self._close_both_ways()
        await trio.lowlevel.checkpoint()

    def _close_both_ways(self) -> None:
        for half in (self._stream.send_stream, self._stream.receive_stream):
            assert isinstance(half, trio.testing.MemorySendStream | trio.testing.MemoryReceiveStream)
            half.close()


def breaking_pair(
    how: Break,
    *,
    readable: int | None = None,
    writable: int | None = None,
    garbled: Mapping[int, int] | None = None,
) -> tuple[BreakingStream, trio.abc.Stream]:
    """Return a stream that breaks, and its far end."""
    ours, theirs = trio.testing.memory_stream_pair()
    return BreakingStream(ours, how=how, readable=readable, writable=writable, garbled=garbled), theirs
