"""Which trading day is it, and when does it turn.

The day turns at the reset, 17:00 in Chicago unless set otherwise, on every calendar day: 17:00:00 belongs to the new
day. It is computed in local time, so the two nights on which the clocks change give a day of 23 and one of 25 hours.
A reset set to an hour that the clocks skip moves forward; in an hour that comes twice it is the first.

When the market is closed is a matter of the exchange, not of the reset: it is from Friday 16:00 to Sunday 17:00 in
Chicago, and by the calendar, where there is one, around the days on which nothing trades. Such a day has its reset like
any other, but gives its name to no trading day.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta

from flatguard.model.account import Terms, TradingDay
from flatguard.model.calendar import CHICAGO, Calendar, Group, Session, moment_on, trading_date

ONE_DAY = timedelta(days=1)

WEEKENDS_ONLY = Calendar(date.min, date.min, {"equity": Group(frozenset(), (Session(time(17), time(16)),))})
"""When the exchange trades as far as is known without a calendar."""


def trading_day(moment: datetime, terms: Terms) -> TradingDay:
    """Return the trading day that ``moment`` (aware) belongs to."""
    ends_on = moment.astimezone(terms.zone).date()
    while moment >= _reset_on(ends_on, terms):
        ends_on += ONE_DAY
    while moment < _reset_on(ends_on - ONE_DAY, terms):  # a late reset can be moved past midnight by the clocks
        ends_on -= ONE_DAY
    ends_at = _reset_on(ends_on, terms)
    return TradingDay(
        label=_session_of(ends_at - timedelta.resolution, terms.calendar or WEEKENDS_ONLY),
        starts_at=_reset_on(ends_on - ONE_DAY, terms),
        ends_at=ends_at,
        unlocks_at=_last_reset_before_opening(ends_on, terms),
    )


def _reset_on(day: date, terms: Terms) -> datetime:
    return moment_on(day, terms.reset, terms.zone)


def _session_of(last_moment: datetime, calendar: Calendar) -> date:
    """A day without a session belongs to the next that has one: Sunday evening is the beginning of Monday's."""
    day = last_moment.astimezone(CHICAGO).date()
    while calendar.closed_on(day):
        day += ONE_DAY
    return day


def _last_reset_before_opening(ends_on: date, terms: Terms) -> datetime:
    """A lockout does not end while nothing can be traded, but with the last reset before the opening, or at it."""
    opening = _opening_after(_reset_on(ends_on, terms), terms.calendar or WEEKENDS_ONLY)
    while _reset_on(ends_on + ONE_DAY, terms) <= opening:
        ends_on += ONE_DAY
    return _reset_on(ends_on, terms)


def _opening_after(moment: datetime, calendar: Calendar) -> datetime:
    """Return when trading starts again after a closed day around ``moment``; where there is none, ``moment`` itself."""
    day = trading_date(moment)
    span = calendar.span(day)
    if span is not None and (moment < span[1] or not calendar.closed_on(day + ONE_DAY)):
        return moment
    while span is None or span[1] <= moment:
        day += ONE_DAY
        span = calendar.span(day)
    return span[0]
