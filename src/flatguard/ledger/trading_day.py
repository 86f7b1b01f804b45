"""Which trading day is it, and when does it turn.

The day turns at the reset, 17:00 in Chicago unless set otherwise, on every calendar day: 17:00:00 belongs to the new
day. It is computed in local time, so the two nights on which the clocks change give a day of 23 and one of 25 hours.
A reset set to an hour that the clocks skip moves forward; in an hour that comes twice it is the first.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from flatguard.model.account import Terms, TradingDay

ONE_DAY = timedelta(days=1)
FRIDAY, SATURDAY, SUNDAY = 4, 5, 6


def trading_day(moment: datetime, terms: Terms) -> TradingDay:
    """Return the trading day that ``moment`` (aware) belongs to."""
    today = moment.astimezone(terms.zone).date()
    ends_on = today if moment < _reset_on(today, terms) else today + ONE_DAY
    return TradingDay(
        label=_skip_weekend(ends_on),
        starts_at=_reset_on(ends_on - ONE_DAY, terms),
        ends_at=_reset_on(ends_on, terms),
        unlocks_at=_reset_on(_next_opening(ends_on), terms),
    )


def _reset_on(day: date, terms: Terms) -> datetime:
    return datetime.combine(day, terms.reset, terms.zone).astimezone(UTC)


def _skip_weekend(day: date) -> date:
    """Saturday and Sunday belong to Monday: Sunday evening is the beginning of Monday's session."""
    while day.weekday() in {SATURDAY, SUNDAY}:
        day += ONE_DAY
    return day


def _next_opening(reset_day: date) -> date:
    """The market does not open at the reset of a Friday or a Saturday, but on Sunday."""
    while reset_day.weekday() in {FRIDAY, SATURDAY}:
        reset_day += ONE_DAY
    return reset_day
