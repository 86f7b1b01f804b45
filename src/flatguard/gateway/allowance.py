"""The gateway's request allowance, shared by everything of one login: 200 requests in 60 s, and 50 in 30 s for bars.

Who asks stands in a lane; the most urgent lane goes first, and within a lane the accounts take turns. Each lane leaves
some of the allowance to those before it, so that enforcement always finds room; closes and the token never wait.
The windows are ours and exact; what the service counts precisely (fixed or sliding, per token or per address) is not
documented, and the trader's other tools use the same allowance unseen. So a 429 is believed: readings are quiet for a
while, and from then on get by with what was seen to pass, until the window has proven itself again.
``docs/allowance.md`` has the figures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import IntEnum
from typing import ParamSpec, TypeVar

import trio
from attrs import define, field, frozen

from flatguard.gateway.verdict import TooManyRequests
from flatguard.model.account import AccountState
from flatguard.model.ids import AccountId

LAG_S = 1.0  # requests that leave a window apart may arrive by so much closer together
GENERAL_LIMIT, GENERAL_WINDOW_S = 200, 60.0 + LAG_S
HISTORY_LIMIT, HISTORY_WINDOW_S = 50, 30.0 + LAG_S
HISTORY_SHARE = 45  # of the history's limit: other tools draw charts too

LEFT_BY_ENFORCEMENT = 10  # for closes, which wait for nothing
LEFT_BY_CONFIRMATION = 20
LEFT_BY_ROUTINE = 10  # for the readings of the picture, beside what these leave to enforcement
RESERVE = 50  # for enforcement, while little is open
MOST_RESERVED = 100  # however much is open: an account that is not read is not guarded either
LEAST_SHARE = 20  # for the readings, whatever others use

ASSUMED_LEAST = 100  # a 429 tells that others ask too, not that the service has become another one
SHRUNK_S = 60.0  # for so long what passed once is taken for the limit,
RECOVERY_A_S = 1.0  # then this much more each second
QUIET_S = 5.0  # where a 429 does not say how long; the picture must not grow older than that
LONGEST_QUIET_S = 60.0  # whatever is asked of us: after its own window the service has room, and nobody guards blind

ASSUMED_SENT_AT_START = 70  # by the run before; with it, readings and this run's own first minute stay below the limit


P = ParamSpec("P")
T = TypeVar("T")


class Lane(IntEnum):
    """Who asks, the most urgent first."""

    TOKEN = 0
    CLOSE = 1
    ENFORCEMENT = 2
    CONFIRMATION = 3
    RECONCILIATION = 4
    ROUTINE = 5


AT_ONCE = frozenset({Lane.TOKEN, Lane.CLOSE})


@frozen
class AllowanceStatistics:
    """What is used of the allowance, and who waits.

    ``used`` of ``assumed`` requests count in the present minute, ``history_used`` in the present half minute of bars.
    ``longest_wait_s`` is the longest wait of each lane since the start; ``refused`` counts the 429s, ``quiet_s`` is for
    how long routine calls still keep quiet because of the last one.
    """

    used: int
    assumed: int
    history_used: int
    waiting: Mapping[Lane, int]
    longest_wait_s: Mapping[Lane, float]
    refused: int
    quiet_s: float


def reserve_for(states: Iterable[AccountState]) -> int:
    """Return what enforcement may need at once: of each account with anything open two requests to settle it, one for
    each position and order, and three complete readings.
    """
    needed = 0
    for state in states:
        working = sum(order.working for order in state.orders.values())
        if state.positions or working:
            needed += 2 + len(state.positions) + working + 3 * 2
    return needed


@define(eq=False)
class _Waiter:
    lane: Lane
    account_id: AccountId | None
    granted: trio.Event = field(factory=trio.Event)
    granted_at: float | None = None


@define(eq=False)
class _Window:
    """One sliding window, and who waits for it. ``share`` says how many requests a lane may see used, given what is
    taken for the limit; a less urgent lane never has more than a more urgent one.
    """

    limit: int
    span_s: float
    assumed_least: int
    share: Callable[[Lane, int], int]
    sent: deque[float] = field(factory=deque)
    refused: deque[float] = field(factory=deque)
    waiting: dict[Lane, dict[AccountId | None, deque[_Waiter]]] = field(factory=lambda: {lane: {} for lane in Lane})
    shrunk_to: int | None = None
    shrunk_at: float = 0.0
    quiet_until: dict[Lane, float] = field(factory=lambda: dict.fromkeys(Lane, 0.0))
    in_a_row: int = 0

    def assumed(self, now: float) -> int:
        """Return what is taken for the limit now."""
        if self.shrunk_to is None:
            return self.limit
        regained = max(0.0, now - self.shrunk_at - SHRUNK_S) * RECOVERY_A_S
        return min(self.limit, self.shrunk_to + int(regained))

    def used(self, now: float) -> int:
        """Return how many requests count now, those that were refused too."""
        for moments in (self.sent, self.refused):
            while moments and moments[0] + self.span_s <= now:
                moments.popleft()
        return len(self.sent)

    def may_go_at(self, lane: Lane, now: float) -> float:
        """Return when the next of a lane may go: ``now`` or before, or the first moment at which to look again."""
        room = self.share(lane, self.assumed(now))
        free_at = 0.0 if self.used(now) < room else self.sent[-room] + self.span_s
        return max(free_at, self.quiet_until[lane])

    def join(self, waiter: _Waiter) -> None:
        self.waiting[waiter.lane].setdefault(waiter.account_id, deque()).append(waiter)

    def leave(self, waiter: _Waiter) -> None:
        queue = self.waiting[waiter.lane][waiter.account_id]
        queue.remove(waiter)
        if not queue:
            del self.waiting[waiter.lane][waiter.account_id]

    def let_go(self, now: float) -> None:
        """Grant all that may go now: lane by lane, the accounts of a lane in turn."""
        for lane in Lane:
            accounts = self.waiting[lane]
            while accounts:
                if self.may_go_at(lane, now) > now:
                    return  # nobody less urgent has more room
                account_id = next(iter(accounts))
                queue = accounts.pop(account_id)
                waiter = queue.popleft()
                if queue:
                    accounts[account_id] = queue  # behind all others
                waiter.granted_at = now
                waiter.granted.set()
                self.sent.append(now)

    def count_refusal(self, now: float, retry_after_s: float | None) -> None:
        """Take a 429 into account: readings keep quiet, and get by with less for a while."""
        before = self.refused[-1] if self.refused else None
        used = self.used(now)
        self.refused.append(now)
        passed = used - len(self.refused)
        self.shrunk_to, self.shrunk_at = max(self.assumed_least, min(self.assumed(now), passed)), now
        if before is None or before + self.span_s <= now:
            self.in_a_row = 0
        elif now >= self.quiet_until[Lane.ROUTINE]:  # those that were under way together tell the same thing
            self.in_a_row += 1
        asked_s = QUIET_S if retry_after_s is None else retry_after_s
        doubled_s = asked_s if retry_after_s is not None else QUIET_S * 2**self.in_a_row
        for lane, seconds in ((Lane.RECONCILIATION, asked_s), (Lane.ROUTINE, doubled_s)):
            self.quiet_until[lane] = max(self.quiet_until[lane], now + min(seconds, LONGEST_QUIET_S))


@define
class Allowance:
    """The two windows of one login.

    ``reserve`` says how many requests enforcement may need at once; what is kept for it, beside what its own lanes
    leave to each other, lies between RESERVE and MOST_RESERVED. ``sent_before`` counts as sent at this moment, for what
    a run before may have sent. The allowance is made inside of ``trio.run``, whose clock it goes by.
    """

    reserve: Callable[[], int] = field(default=lambda: 0)
    sent_before: int = 0
    longest_wait_s: dict[Lane, float] = field(factory=lambda: dict.fromkeys(Lane, 0.0))
    refused: int = 0
    _general: _Window = field(init=False)
    _history: _Window = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._general = _Window(GENERAL_LIMIT, GENERAL_WINDOW_S, ASSUMED_LEAST, self._share)
        self._history = _Window(HISTORY_SHARE, HISTORY_WINDOW_S, LEAST_SHARE, lambda _lane, assumed: assumed)
        if self.sent_before:
            self._general.sent.extend([trio.current_time()] * self.sent_before)

    async def take(self, lane: Lane, account_id: AccountId | None = None, *, history: bool = False) -> None:
        """Return when a request of ``lane`` for an account, or for the login, may go out; it is counted then.

        Closes and the token never wait: rather a 429 than a position left open. Always a checkpoint; a cancel takes
        nothing and holds nobody up.
        """
        window = self._history if history else self._general
        began = trio.current_time()
        await trio.lowlevel.checkpoint()
        if lane in AT_ONCE:
            window.sent.append(trio.current_time())
            return
        waiter = _Waiter(lane, account_id)
        window.join(waiter)
        window.let_go(trio.current_time())
        try:
            while waiter.granted_at is None:
                with trio.move_on_at(window.may_go_at(lane, trio.current_time())):
                    await waiter.granted.wait()
                window.let_go(trio.current_time())
        except BaseException:
            if waiter.granted_at is None:
                window.leave(waiter)
            else:  # at the very moment of the cancel
                window.sent.remove(waiter.granted_at)
                window.let_go(trio.current_time())
            raise
        self.longest_wait_s[lane] = max(self.longest_wait_s[lane], trio.current_time() - began)

    def counting(self, call: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Return ``call``, which fetches a token, such that it is counted, and a 429 is noted; it never waits."""

        async def counted(*args: P.args, **kwargs: P.kwargs) -> T:
            await self.take(Lane.TOKEN)
            try:
                return await call(*args, **kwargs)
            except TooManyRequests as error:
                self.too_many(error.retry_after_s)
                raise

        return counted

    def too_many(self, retry_after_s: float | None, *, history: bool = False) -> None:
        """Take note of a 429. Readings keep quiet for as long as it asks, a minute at most; enforcement does not."""
        self.refused += 1
        (self._history if history else self._general).count_refusal(trio.current_time(), retry_after_s)

    def statistics(self) -> AllowanceStatistics:
        """Return the figures that status shows."""
        now = trio.current_time()
        windows = (self._general, self._history)
        return AllowanceStatistics(
            used=self._general.used(now),
            assumed=self._general.assumed(now),
            history_used=self._history.used(now),
            waiting={lane: sum(len(queue) for w in windows for queue in w.waiting[lane].values()) for lane in Lane},
            longest_wait_s=dict(self.longest_wait_s),
            refused=self.refused,
            quiet_s=max(0.0, self._general.quiet_until[Lane.ROUTINE] - now),
        )

    def _share(self, lane: Lane, assumed: int) -> int:
        match lane:
            case Lane.ENFORCEMENT:
                return GENERAL_LIMIT - LEFT_BY_ENFORCEMENT
            case Lane.CONFIRMATION:
                return GENERAL_LIMIT - LEFT_BY_CONFIRMATION
        kept = min(max(self.reserve() + LEFT_BY_CONFIRMATION, RESERVE), MOST_RESERVED)
        left = LEFT_BY_ROUTINE if lane is Lane.ROUTINE else 0
        return max(LEAST_SHARE, assumed - kept) - left
