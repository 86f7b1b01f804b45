"""A call whose answer is many values, one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable

import trio

from flatguard.signalr import Completion, LocalProtocolError
from flatguard.signalr_client.errors import HubCallFailed, HubCallUnresolved, HubLost


class Stream:
    """The items of one streaming call, in order: iterate over it. They wait here until they are taken."""

    def __init__(self, target: str, taken: Callable[[int], None], loss: Callable[[], HubLost]) -> None:
        self._target = target
        self._taken = taken
        self._loss = loss
        self._items_in, self._items_out = trio.open_memory_channel[object](math.inf)
        self.waiting = 0
        self.answer: Completion | None = None
        self.sent_at = math.nan

    @property
    def hungry(self) -> bool:
        """Whether somebody waits for an item that is not there."""
        return self._items_out.statistics().tasks_waiting_receive > 0

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> object:
        """Return the next item, always by way of a checkpoint. If cancelled, none is lost.

        After the last, raises HubCallFailed where the server ended the stream with an error, HubCallUnresolved where
        the connection was lost first. Outside the block, raises LocalProtocolError.
        """
        if not self.waiting:
            self._taken(0)  # the reader may have stopped, and has to go on for us
        try:
            item = await self._items_out.receive()
        except trio.ClosedResourceError:
            raise LocalProtocolError(f"the block of the stream {self._target} has ended") from None
        except trio.EndOfChannel:
            pass
        else:
            self._take(1)
            return item
        if self.answer is None:
            raise HubCallUnresolved(self._target, self._loss())
        if self.answer.error is not None:
            raise HubCallFailed(self._target, self.answer.error)
        raise StopAsyncIteration

    def put(self, item: object) -> None:
        """Hold an item until it is taken."""
        self._items_in.send_nowait(item)
        self.waiting += 1

    def end(self) -> None:
        """Take note that no more items come."""
        self._items_in.close()

    def drop(self) -> None:
        """Forget what nobody took; nothing can be taken any more."""
        self._take(self.waiting)
        self._items_out.close()

    def _take(self, items: int) -> None:
        self.waiting -= items
        self._taken(items)
