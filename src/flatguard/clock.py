"""What time it is. The only module that asks the operating system for the date.

The core never needs it: there, time is ``event.at``. Durations use ``trio.current_time()``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class WallClock(Protocol):
    """Gives the date and the time of day; it may step when somebody corrects the machine's clock."""

    def now(self) -> datetime:
        """Return the present moment as an aware UTC datetime."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the machine's idea of the present moment."""
        return datetime.now(UTC)
