"""A contract's prices known beforehand: a path that somebody wrote down, or a recording, tick by tick.

The points of a path are joined by straight lines, and a line is traded tick by tick: no price on the way is left out,
so that a stop or a limit on the way meets its own price. Where a line is flat, or nearly so, it trades at the usual
pace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from attrs import define, field, frozen

_EVER = datetime.min.replace(tzinfo=UTC)


@frozen
class Tick:
    """One trade. ``volume`` None: left to chance; ``bid`` and ``ask`` None: one tick around the price."""

    at: datetime
    price: Decimal
    volume: int | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None


@define
class Tape:
    """Ticks in the order of their times, each taken once. After the last one the price stands still.

    ``since`` returns the ticks from some tick before a moment on, so that nobody need wind through all the others.
    """

    _ticks: Iterator[Tick]
    _since: Callable[[datetime], Iterator[Tick]] | None = None
    coming: Tick | None = field(init=False, default=None)
    """The next tick; None at the end."""

    def __attrs_post_init__(self) -> None:
        self._wind()

    def take(self, at: datetime) -> Tick | None:
        """Return the next tick if it is due at ``at``, and wind on."""
        tick = self.coming
        if tick is None or tick.at > at:
            return None
        self._wind()
        return tick

    def skip_to(self, moment: datetime) -> Tick | None:
        """Wind on to ``moment`` and return the last tick before it; None if there was none."""
        last = None
        if self._since is not None and self.coming is not None and self.coming.at < moment:
            self._ticks = self._since(moment)
            self._wind()
        while self.coming is not None and self.coming.at < moment:
            last = self.coming
            self._wind()
        return last

    def _wind(self) -> None:
        self.coming = next(self._ticks, None)


def path_ticks(
    points: Sequence[tuple[Decimal, Decimal]],
    start: datetime,
    tick_size: Decimal,
    pace: timedelta,
    since: datetime = _EVER,
) -> Iterator[Tick]:
    """Yield the ticks of a path, those long before ``since`` left out.

    ``points`` are (seconds after ``start``, price on the grid); two at the same second are a gap.
    """
    moment = start + _seconds(points[0][0])
    yield Tick(moment, points[0][1])
    for (from_s, from_price), (to_s, to_price) in pairwise(points):
        began, lasts = start + _seconds(from_s), _seconds(to_s - from_s)
        count = int(abs(to_price - from_price) / tick_size)
        if not lasts or not count:
            yield from _standing(moment, began + lasts, from_price, pace, since)
            moment = began + lasts
            yield Tick(moment, to_price)
            continue
        step = tick_size if to_price > from_price else -tick_size
        first = min(count, max(1, int((since - began) / lasts * count) - 1))
        moment = max(moment, began + lasts * ((first - 1) / count))
        for number in range(first, count + 1):
            at = began + lasts * (number / count)
            yield from _standing(moment, at, from_price + step * (number - 1), pace, since)
            moment = at
            yield Tick(at, from_price + step * number)


def _standing(began: datetime, until: datetime, price: Decimal, pace: timedelta, since: datetime) -> Iterator[Tick]:
    at = began + max(pace, ((since - began) // pace - 1) * pace)
    while at < until:
        yield Tick(at, price)
        at += pace


def _seconds(amount: Decimal) -> timedelta:
    return timedelta(microseconds=int(amount * 1_000_000))
