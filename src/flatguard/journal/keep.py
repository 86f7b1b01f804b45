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

from flatguard.journal.late import LateStore
from flatguard.journal.store import Store
from flatguard.model.entries import Entry, Judged
from flatguard.model.events import QuoteMoved

HOLD_S = 0.05  # a group is collected this long, unless somebody waits for it
SLOW_S = 2.0  # a disk that takes longer than this is trouble, whatever it answers in the end
RETRY_S = 1.0
MOST_HELD = 200_000  # entries kept while the disk fails: hours of trading; then quotes go first

RunSync = Callable[..., Awaitable[Any]]


@define
class Keeper:
    """The journal's one writing lane."""

    store: Store | LateStore
    run_sync: RunSync
    most_held: int = MOST_HELD
    dropped: int = 0
    _pending: deque[Entry] = field(factory=deque)
    _room: int = field(default=MOST_HELD)
    _posted: int = 0
    _durable: int = 0
    _refused: str | None = None
    _writing_since: float | None = None
    _something: trio.Event = field(factory=trio.Event)
    _urgent: trio.Event = field(factory=trio.Event)
    _progress: trio.Event = field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self._room = self.most_held

    @property
    def trouble(self) -> str | None:
        """Why what was posted is not durable, None while all is well."""
        if self._refused is not None or self._writing_since is None:
            return self._refused
        seconds = trio.current_time() - self._writing_since
        return f"the disk has not answered for {seconds:.0f} s" if seconds >= SLOW_S else None

    @property
    def unwritten(self) -> int:
        """How many entries wait to be written."""
        return len(self._pending)

    def post(self, entry: Entry) -> None:
        """Take an entry; it is written soon. Never waits."""
        if len(self._pending) >= self._room:
            self._make_room()
        self._pending.append(entry)
        self._posted += 1
        self._something.set()

    async def kept(self) -> None:
        """Return once all that was posted is on disk; not before, should the disk refuse it. A cancel is harmless."""
        target = self._posted
        await trio.lowlevel.checkpoint()
        while self._durable < target:
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
                if not until.is_set() and self._refused is None:
                    with trio.move_on_after(HOLD_S):
                        await self._urgent.wait()
                self._something, self._urgent = trio.Event(), trio.Event()
                if not await self._write_pending():
                    if until.is_set():
                        break
                    with trio.move_on_after(RETRY_S):
                        await until.wait()
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
        upto = self._posted
        self._writing_since = trio.current_time()
        try:
            await self.run_sync(self.store.write, group)
        except sqlite3.Error as error:
            self._refused = str(error)
            self._pending.extendleft(reversed(group))
            return False
        finally:
            self._writing_since = None
        self._refused = None
        self._room = self.most_held
        self._durable = upto
        progress, self._progress = self._progress, trio.Event()
        progress.set()
        return True

    def _make_room(self) -> None:
        """Give up the quotes that changed nothing, which later ones replace; nothing else is ever dropped.

        Looked for again only once as much has come anew, since looking takes its time.
        """
        kept = deque(entry for entry in self._pending if not _spare(entry))
        self.dropped += len(self._pending) - len(kept)
        self._pending = kept
        self._room = max(self.most_held, 2 * len(kept))


def _spare(entry: Entry) -> bool:
    """Whether it is a quote of which nothing came."""
    return isinstance(entry, Judged) and isinstance(entry.event, QuoteMoved) and not entry.changed
