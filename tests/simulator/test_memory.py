"""The streams in memory keep Trio's contract for streams, as Trio's own check has it."""

from __future__ import annotations

import trio
from trio.testing import check_half_closeable_stream

from flatguard.simulator.memory import memory_streams


async def test_a_pair_of_ends_is_a_half_closeable_stream() -> None:
    async def make() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
        await trio.lowlevel.checkpoint()
        return memory_streams()

    await check_half_closeable_stream(make, None)
