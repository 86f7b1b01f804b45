"""What traded before the start, made up: so that a bot that asks for the bars of the last days gets some. Pure.

It is walked backwards from the price at the start, on a stream of chance of its own, and no further than somebody asks:
minute by minute for the last thirty days, day by day for three years before them. A day moves by about a hundredth of
the price. The same seed has the same past, whoever asks for what first.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal

from attrs import define, field

from flatguard.simulator.contracts import Contract
from flatguard.simulator.sessions import trading_day, trading_day_start, windows

_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
_MINUTE_DAYS = 30
_DAYS = 3 * 365
_MINUTES_A_DAY = 24 * 60
_MOVE_A_DAY = 0.01
_LEAST_TICKS = 4
_MOST_A_MINUTE = 400


@define
class Traded:
    """What traded within some time from ``at`` on; bars are sums of these."""

    at: datetime
    first: Decimal
    high: Decimal
    low: Decimal
    last: Decimal
    volume: int


@define
class Past:
    """The past of one contract up to ``start``. ``sessions``: whether it kept the exchange's hours."""

    contract: Contract
    rng: random.Random
    start: datetime
    price: Decimal
    """What the last trade before the start was made at."""
    moves: bool
    sessions: bool
    _walked: list[Traded] = field(factory=list)
    _walk: Iterator[Traded] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._walk = self._backwards()

    def back(self, *, days: bool) -> Iterator[Traded]:
        """Yield what traded, the newest first: minutes, and behind them ``days`` where they are asked for."""
        index = 0
        while True:
            if index == len(self._walked):
                earlier = next(self._walk, None)
                if earlier is None:
                    return
                self._walked.append(earlier)
            if not days and self._walked[index].at < self._minutes_since:
                return
            yield self._walked[index]
            index += 1

    @property
    def _minutes_since(self) -> datetime:
        return trading_day_start(trading_day(self.start) - _MINUTE_DAYS * _DAY)

    def _backwards(self) -> Iterator[Traded]:
        ticks = int(self.price / self.contract.tick_size)
        a_day = ticks * _MOVE_A_DAY if self.moves else 0
        a_minute = a_day / _MINUTES_A_DAY**0.5
        newest = trading_day(self.start)
        for number in range(_DAYS):
            sessions = self._sessions(newest - number * _DAY)
            if number > _MINUTE_DAYS:
                for opens, closes in sessions[:1]:
                    minutes = (closes - opens) // _MINUTE
                    ticks, traded = self._traded(opens, ticks, a_day, minutes)
                    yield traded
                continue
            for opens, closes in reversed(sessions):
                for minute in range((min(closes, self.start) - opens) // _MINUTE - 1, -1, -1):
                    ticks, traded = self._traded(opens + minute * _MINUTE, ticks, a_minute, 1)
                    yield traded

    def _sessions(self, day: date) -> Sequence[tuple[datetime, datetime]]:
        if self.sessions:
            return windows(day, self.contract.ticker)
        return ((trading_day_start(day), trading_day_start(day + _DAY)),)

    def _traded(self, at: datetime, last: int, spread: float, minutes: int) -> tuple[int, Traded]:
        """Return the price before, in ticks, and what traded on the way from there to ``last``."""
        chance, step = self.rng, self.contract.tick_size
        first = max(_LEAST_TICKS, last - round(chance.gauss(0, spread)))
        high = max(first, last) + round(abs(chance.gauss(0, spread / 2)))
        low = max(_LEAST_TICKS, min(first, last) - round(abs(chance.gauss(0, spread / 2))))
        volume = chance.randint(1, _MOST_A_MINUTE) * minutes
        return first, Traded(at, first * step, high * step, low * step, last * step, volume)
