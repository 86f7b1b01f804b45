"""A wall clock that follows Trio's, so that a virtual clock moves it too; it can be set wrong like a real one."""

from __future__ import annotations

from datetime import datetime, timedelta

import trio


class TrioClock:
    """Starts at ``start`` when it is made. ``ahead`` is how wrong it is."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._began = trio.current_time()
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        """Return the start, plus what has passed on Trio's clock, plus how wrong it is."""
        return self._start + timedelta(seconds=trio.current_time() - self._began) + self.ahead
