"""Take entries without ever making anyone wait, and write them down in groups.

While the disk does not take them they stay in memory, in order, and are tried again; whoever asks is told that the
record is not durable. Guarding goes on.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from attrs import define, field

from flatguard.journal.store import Store
from flatguard.model.entries import Entry, Judged
from flatguard.model.events import QuoteMoved

HOLD_S = 0.05  # a group is collected this long, unless somebody waits for it
RETRY_S = 1.0
MOST_HELD = 200_000  # entries kept while the disk fails: hours of trading; then quotes go first

RunSync = Callable[..., Awaitable[Any]]


@define
class Keeper:
    """The journal's one writing lane. ``trouble`` is None, or why what was posted is not durable."""

    store: Store
    run_sync: RunSync
    trouble: str | None = None
    dropped: int = 0
    _pending: deque[Entry] = field(factory=deque)
    _posted: int = 0
    _written: int = 0
    _something: trio.Event = field(factory=trio.Event)
    _urgent: trio.Event = field(factory=trio.Event)
    _progress: trio.Event = field(factory=trio.Event)

    def post(self, entry: Entry) -> None:
        """Take an entry; it is written soon. Never waits."""
        if len(self._pending) >= MOST_HELD:
            self._make_room()
        self._pending.append(entry)
        self._posted += 1
        self._something.set()

    async def kept(self) -> None:
        """Return once all that was posted is on disk; not before, should the disk refuse it. A cancel is harmless."""
        target = self._posted
        while self._written < target:
            self._urgent.set()
            await self._progress.wait()

    async def keep(self, until: trio.Event) -> None:
        """Write what is posted until ``until`` is set and nothing is left, or the disk refuses the rest.

        A cancel leaves a group wholly written or not at all.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wake_at, until)
            while self._pending or not until.is_set():
                await self._something.wait()
                if not until.is_set() and self.trouble is None:
                    with trio.move_on_after(HOLD_S):
                        await self._urgent.wait()
                self._something, self._urgent = trio.Event(), trio.Event()
                if not await self._write_pending():
                    if until.is_set():
                        break
                    await trio.sleep(RETRY_S)
                    self._something.set()
            nursery.cancel_scope.cancel()

    async def _wake_at(self, until: trio.Event) -> None:
        await until.wait()
        self._something.set()
        self._urgent.set()

    async def _write_pending(self) -> bool:
        if not self._pending:
            return True
        group, self._pending = self._pending, deque()
        try:
            await self.run_sync(self.store.write, group)
        except sqlite3.Error as error:
            self.trouble = str(error)
            self._pending.extendleft(reversed(group))
            return False
        self._written += len(group)
        self.trouble = None
        progress, self._progress = self._progress, trio.Event()
        progress.set()
        return True

    def _make_room(self) -> None:
        """Give up the oldest quotes, which a later quote replaces; nothing else is ever dropped."""
        kept = deque(e for e in self._pending if not (isinstance(e, Judged) and isinstance(e.event, QuoteMoved)))
        self.dropped += len(self._pending) - len(kept)
        self._written += len(self._pending) - len(kept)
        self._pending = kept
