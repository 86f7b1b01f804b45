"""Events on their way to the hubs: each with its moment, and the lag and the disorder of the real thing."""

from __future__ import annotations

import heapq
import random
from datetime import datetime, timedelta

from attrs import define, field, frozen

from flatguard.simulator.faults import Faults
from flatguard.simulator.options import Options
from flatguard.simulator.rows import Row

_LAG_HOLDS = timedelta(milliseconds=50)


@frozen
class Event:
    """One event of a hub. ``key`` is the account id or the contract id that subscriptions go by.

    ``first`` is what a client gets that has had nothing of this kind yet; None: the same as everyone. Without
    ``arguments`` nobody else gets anything.
    """

    name: str
    key: int | str
    arguments: tuple[object, ...] | None
    first: tuple[object, ...] | None = None


@define
class _Lag:
    """A delay that changes from burst to burst but not within one, so that order survives."""

    rng: random.Random
    bounds_ms: tuple[float, float]
    _newest: datetime | None = None
    _lag: timedelta = timedelta(0)
    _next: timedelta = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._next = self._drawn()

    def _drawn(self) -> timedelta:
        return milliseconds(self.rng.uniform(*self.bounds_ms))

    def _begins_burst(self, moment: datetime) -> bool:
        return self._newest is None or moment - self._newest > _LAG_HOLDS

    def at(self, moment: datetime) -> timedelta:
        if self._begins_burst(moment):
            self._lag, self._next = self._next, self._drawn()
        self._newest = moment if self._newest is None else max(moment, self._newest)
        return self._lag

    def least(self, moment: datetime) -> timedelta:
        """Return a lag that no event of ``moment`` will fall short of, whatever happens before."""
        low, high = self.bounds_ms
        if milliseconds(high - low) > _LAG_HOLDS:
            return milliseconds(low)  # a burst in between could be told later than the one that follows it
        return self._next if self._begins_burst(moment) else min(self._lag, self._next)


def milliseconds(amount: float) -> timedelta:
    """Return a duration, to the microsecond."""
    return timedelta(microseconds=round(amount * 1000))


@define
class Outbox:
    """What the hubs will send, and when."""

    options: Options
    faults: Faults
    rng: random.Random
    _user_lag: _Lag = field(init=False)
    _market_lag: _Lag = field(init=False)
    _queue: list[tuple[datetime, int, Event]] = field(factory=list)
    _told: dict[tuple[str, int, int | str], datetime] = field(factory=dict)
    _count: int = 0

    def __attrs_post_init__(self) -> None:
        self._user_lag = _Lag(random.Random(self.rng.random()), self.options.hub_lag_ms)
        self._market_lag = _Lag(random.Random(self.rng.random()), self.options.hub_lag_ms)

    def tell_user(self, name: str, account_id: int, action: int, row: Row, at: datetime) -> None:
        """Queue an event of the user hub that happens at ``at``.

        Neighbours may change places, but not if they are about the same order, position, trade or account.
        """
        half = self.options.swap_within_ms / 2
        send_at = at + self._user_lag.at(at) + milliseconds(self.rng.uniform(-half, half))
        about = (name, account_id, row["contractId"] if name == "GatewayUserPosition" else row["id"])
        send_at = self._told[about] = max(send_at, self._told.get(about, send_at))
        self._post(Event(name, account_id, ({"action": action, "data": row},)), at, send_at)

    def tell_market(self, name: str, contract_id: str, body: object, at: datetime, *, first: object = None) -> None:
        """Queue an event of the market hub; without a ``body`` it is for those only who have had none yet."""
        news, opening = (None if told is None else (contract_id, told) for told in (body, first))
        event = Event(name, contract_id, news, opening)
        self._post(event, at, at + self._market_lag.at(at))

    def _post(self, event: Event, at: datetime, send_at: datetime) -> None:
        if self.faults.strikes("drop_event", event.name, at):
            return
        if fault := self.faults.strikes("delay_event", event.name, at):
            send_at += fault.delay(2)
        if fault := self.faults.strikes("reorder_events", event.name, at):
            send_at += fault.delay(0.2) * self.rng.random()
        copies = 2 if self.faults.strikes("duplicate_event", event.name, at) else 1
        for _ in range(copies):
            self._count += 1
            heapq.heappush(self._queue, (send_at, self._count, event))

    def earliest(self, at: datetime, *, for_users: bool) -> datetime:
        """Return a moment before which nothing leaves of what happens at ``at``, on the market hub or on both."""
        leaves_at = at + self._market_lag.least(at)
        if for_users:
            half = milliseconds(self.options.swap_within_ms / 2)
            leaves_at = min(leaves_at, at + self._user_lag.least(at) - half)
        return max(leaves_at, at)

    @property
    def next_moment(self) -> datetime | None:
        """When the next event has to leave; None if none waits."""
        return self._queue[0][0] if self._queue else None

    def take(self, now: datetime) -> list[Event]:
        """Return the events that are due, in order, and forget them."""
        due = []
        while self._queue and self._queue[0][0] <= now:
            due.append(heapq.heappop(self._queue)[2])
        return due
