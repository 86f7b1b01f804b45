"""The two allowances of each login, as rolling windows.

Known: 50 calls per 30 s for bars, 200 per 60 s for all else. Inferred: the windows roll, are a login's own, and
calls without a token count for the name that they bear.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from attrs import define, field

from flatguard.simulator.options import Options

BARS_PATH = "/api/History/retrieveBars"


@define
class _Window:
    calls: int
    span: timedelta
    _times: deque[datetime] = field(factory=deque)

    def wait(self, now: datetime, *, count_refused: bool) -> timedelta | None:
        """Count a call; return None, or how long it is too early."""
        while self._times and self._times[0] <= now - self.span:
            self._times.popleft()
        if len(self._times) < self.calls:
            self._times.append(now)
            return None
        too_early = self._times[0] + self.span - now
        if count_refused:
            self._times.append(now)
            self._times.popleft()
        return too_early


@define
class Allowances:
    """Who has used how much. Bars have an allowance of their own; everything else shares one."""

    options: Options
    _windows: dict[tuple[str, bool], _Window] = field(factory=dict)

    def refuse(self, user: str, path: str, now: datetime) -> timedelta | None:
        """Count a call of ``user``; return None if the allowance covers it, else how long it is too early."""
        bars = path == BARS_PATH
        window = self._windows.get((user, bars))
        if window is None:
            calls, seconds = self.options.bars_allowance if bars else self.options.rest_allowance
            window = self._windows[user, bars] = _Window(calls, timedelta(seconds=seconds))
        return window.wait(now, count_refused=self.options.refused_calls_count)
