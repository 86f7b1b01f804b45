"""Trade frequency limit: no more than so many trades in a minute, an hour, a trading day.

Judged when a fill is told, by the times at which fills were made. One that goes beyond a limit begins a cooldown: what
is open may be given up, and nothing may come to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from attrs import field, frozen
from attrs.validators import optional

from flatguard.model.account import AccountState
from flatguard.model.decisions import LockOut
from flatguard.model.events import Event
from flatguard.model.executions import Happening, Timeline, index_from
from flatguard.model.lockouts import LockKind
from flatguard.rules._cooldowns import answered, lasting, over, runs_until
from flatguard.rules._rule import Finding, Measure, Rule
from flatguard.rules._settings import at_least, some_time

NAME = "trade_frequency_limit"
MINUTE, HOUR = timedelta(seconds=60), timedelta(hours=1)


@frozen
class _Window:
    """``limit`` trades in ``length``, or in the trading day where that is None."""

    limit: int
    length: timedelta | None
    cooldown: timedelta | None

    @property
    def name(self) -> str:
        return "the trading day" if self.length is None else lasting(self.length)

    def count(self, timeline: Timeline, at: datetime, until: int) -> int:
        """Return how many of the first ``until`` are in the window that ends at ``at``."""
        first = 0 if self.length is None else index_from(timeline, at - self.length + timedelta.resolution)
        return max(0, until - first)


def _at_least_one(rule: Any, _field: object, _value: object) -> None:
    limits = [limit for limit in (rule.per_minute, rule.per_hour, rule.per_session) if limit is not None]
    if not limits:
        raise ValueError("set at least one of per_minute, per_hour and per_session, such as per_hour = 10")
    if limits != sorted(limits):
        raise ValueError("a shorter time cannot have the higher limit: per_minute, per_hour, per_session must rise")


@frozen
class TradeFrequencyLimit(Rule):
    """Settings of ``[rules.trade_frequency_limit]``.

    ``per_minute``, ``per_hour``, ``per_session``: how many trades, each None for no limit. ``breach_on``: at one more
    than that, or at the last one allowed. ``count``: what is a trade. The cooldowns: how long each limit's lasts; None
    is until the daily reset.
    """

    per_minute: int | None = field(default=None, validator=optional(at_least(1)))
    per_hour: int | None = field(default=None, validator=optional(at_least(1)))
    per_session: int | None = field(default=None, validator=[optional(at_least(1)), _at_least_one])
    breach_on: Literal["exceed", "reach"] = "exceed"
    count: Literal["orders", "executions", "entries"] = "orders"
    cooldown_per_minute: timedelta = field(default=timedelta(seconds=60), validator=some_time)
    cooldown_per_hour: timedelta = field(default=timedelta(minutes=30), validator=some_time)
    cooldown_per_session: timedelta | None = field(default=None, validator=some_time)

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach where a fill that was just told, or that others were told around, was one too many when it was made.

        While a cooldown runs only what increases exposure begins another. Of several the one that ends last is found.
        """
        since = state.changed_from
        if since is None or state.today is None:
            return None
        timeline = self._timeline(state)
        finding: Finding | None = None
        ends: datetime | None = None
        for number in range(index_from(timeline, since), len(timeline)):
            made = timeline[number]
            broken = [window for window in self._windows() if self._breaks(timeline, number, window)]
            running = max(filter(None, (ends, runs_until(NAME, state, made.made_at))), default=None)
            if not broken or (running is not None and running > made.made_at and not self._increases(state, made)):
                continue
            until = max(self._until(window, made, state.today.unlocks_at) for window in broken)
            if ends is None or until > ends:
                ends, finding = until, self._finding(timeline, number, broken, until)
        if finding is None or ends is None or over(ends, state, event):
            return None
        return None if answered(NAME, _lock(ends), state) else finding

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """The window of which the largest share is used."""
        timeline = self._timeline(state)
        now = at - state.clock_ahead
        measures = [
            Measure(
                Decimal(window.count(timeline, now, len(timeline))),
                Decimal(window.limit),
                self.count,
                f"in {window.name}",
            )
            for window in self._windows()
        ]
        return max(measures, key=lambda measure: measure.percent)

    def _windows(self) -> Iterator[_Window]:
        for limit, length, cooldown in (
            (self.per_minute, MINUTE, self.cooldown_per_minute),
            (self.per_hour, HOUR, self.cooldown_per_hour),
            (self.per_session, None, self.cooldown_per_session),
        ):
            if limit is not None:
                yield _Window(limit, length, cooldown)

    def _timeline(self, state: AccountState) -> Timeline:
        made = state.executions
        return {"orders": made.orders, "executions": made.fills, "entries": made.entries}[self.count]

    def _breaks(self, timeline: Timeline, number: int, window: _Window) -> bool:
        """Whether the one that is ``allowed`` places before it is still in the window: quicker than counting them."""
        allowed = window.limit if self.breach_on == "exceed" else window.limit - 1
        if number < allowed:
            return False
        return window.length is None or timeline[number - allowed].made_at > timeline[number].made_at - window.length

    def _increases(self, state: AccountState, made: Happening) -> bool:
        if self.count == "executions":
            return state.trades[made.trade_id].profit_and_loss is None
        return state.executions.by_order[made.order_id].increased_exposure

    def _until(self, window: _Window, made: Happening, reset: datetime) -> datetime:
        return reset if window.cooldown is None else made.made_at + window.cooldown

    def _finding(self, timeline: Timeline, number: int, broken: list[_Window], until: datetime) -> Finding:
        made = timeline[number]
        counted = [(window, window.count(timeline, made.made_at, number + 1)) for window in broken]
        told = [f"{count} {self.count} in {window.name}, limit {window.limit}" for window, count in counted]
        figures = tuple((f"{self.count} in {window.name}", f"{count} of {window.limit}") for window, count in counted)
        return Finding(
            reason=f"Trade frequency: {'; '.join(told)}",
            decisions=(_lock(until),),
            figures=figures,
            cause=f"trade {made.trade_id}",
        )


def _lock(until: datetime) -> LockOut:
    return LockOut(until, kind=LockKind.COOLDOWN)
