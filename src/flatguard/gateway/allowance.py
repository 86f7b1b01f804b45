"""The gateway's request allowance, shared by everything of one login: 200 requests in 60 s beside history.

Routine calls keep well below it, so that enforcement always finds room. The window is ours and exact; what the service
counts precisely (fixed or sliding, per token or per address) is not documented.
"""

from __future__ import annotations

from collections import deque

import trio
from attrs import define, field, frozen

WINDOW_S = 60.0
GENERAL_LIMIT = 200
ROUTINE_LIMIT = 150  # reached only beside much enforcement; readings by themselves are paced to half the allowance
ENFORCEMENT_LIMIT = 175  # cancels and readings for proof: what is left is for closes, which wait for nothing
LONGEST_QUIET_S = 60.0  # whatever is asked of us: after its own window the service has room, and nobody guards blind


@frozen
class AllowanceStatistics:
    """Requests sent in the last minute, and how long the last one of each lane waited for its turn, in seconds."""

    used: int
    routine_waited_s: float
    enforcement_waited_s: float


@define
class Allowance:
    """A sliding window over the requests of the last 60 s."""

    sent: deque[float] = field(factory=deque)
    quiet_until: float = 0.0
    routine_waited_s: float = 0.0
    enforcement_waited_s: float = 0.0

    async def take_routine(self) -> None:
        """Return when a routine request may go out. Always a checkpoint; a cancel takes nothing."""
        began = trio.current_time()
        await trio.lowlevel.checkpoint()
        while True:
            wait = max(self._wait_for(ROUTINE_LIMIT), self.quiet_until - trio.current_time())
            if wait <= 0:
                break
            await trio.sleep(wait)
        self.sent.append(trio.current_time())
        self.routine_waited_s = trio.current_time() - began

    async def take_close(self) -> None:
        """Count a close, which goes out at once whatever is used up: rather a 429 than a position left open."""
        await trio.lowlevel.checkpoint()
        self.sent.append(trio.current_time())

    async def take_enforcement(self) -> None:
        """Return when a cancel or a reading of enforcement may go out."""
        began = trio.current_time()
        await trio.lowlevel.checkpoint()
        while True:
            wait = self._wait_for(ENFORCEMENT_LIMIT)
            if wait <= 0:
                break
            await trio.sleep(wait)
        self.sent.append(trio.current_time())
        self.enforcement_waited_s = trio.current_time() - began

    def be_quiet(self, seconds: float) -> None:
        """Keep routine requests back for ``seconds``, a minute at most: the service has said that it is too much."""
        self.quiet_until = max(self.quiet_until, trio.current_time() + min(seconds, LONGEST_QUIET_S))

    def statistics(self) -> AllowanceStatistics:
        """Return the figures that status shows."""
        self._forget_old()
        return AllowanceStatistics(len(self.sent), self.routine_waited_s, self.enforcement_waited_s)

    def _wait_for(self, limit: int) -> float:
        self._forget_old()
        return 0.0 if len(self.sent) < limit else self.sent[-limit] + WINDOW_S - trio.current_time()

    def _forget_old(self) -> None:
        while self.sent and self.sent[0] <= trio.current_time() - WINDOW_S:
            self.sent.popleft()
