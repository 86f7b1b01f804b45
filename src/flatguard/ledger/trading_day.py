"""Which trading day is it, and when does it turn.

The day turns at the reset, 17:00 in Chicago unless set otherwise, on every calendar day: 17:00:00 belongs to the new
day. It is computed in local time, so the two nights on which the clocks change give a day of 23 and one of 25 hours.
A reset set to an hour that the clocks skip moves forward; in an hour that comes twice it is the first.

When the market is closed is a matter of the exchange, not of the reset: from Friday 16:00 to Sunday 17:00 in Chicago.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from flatguard.model.account import Terms, TradingDay

ONE_DAY = timedelta(days=1)
FRIDAY, SATURDAY, SUNDAY = 4, 5, 6

EXCHANGE = ZoneInfo("America/Chicago")
WEEK_CLOSES = (FRIDAY, time(16))
WEEK_OPENS = (SUNDAY, time(17))


def trading_day(moment: datetime, terms: Terms) -> TradingDay:
    """Return the trading day that ``moment`` (aware) belongs to."""
    ends_on = moment.astimezone(terms.zone).date()
    while moment >= _reset_on(ends_on, terms):
        ends_on += ONE_DAY
    while moment < _reset_on(ends_on - ONE_DAY, terms):  # a late reset can be moved past midnight by the clocks
        ends_on -= ONE_DAY
    ends_at = _reset_on(ends_on, terms)
    return TradingDay(
        label=_session_of(ends_at - timedelta.resolution),
        starts_at=_reset_on(ends_on - ONE_DAY, terms),
        ends_at=ends_at,
        unlocks_at=_last_reset_before_opening(ends_on, terms) if _closed_for_weekend(ends_at) else ends_at,
    )


def _reset_on(day: date, terms: Terms) -> datetime:
    return datetime.combine(day, terms.reset, terms.zone).astimezone(UTC)


def _session_of(last_moment: datetime) -> date:
    """Saturday and Sunday belong to Monday: Sunday evening is the beginning of Monday's session."""
    day = last_moment.astimezone(EXCHANGE).date()
    while day.weekday() in {SATURDAY, SUNDAY}:
        day += ONE_DAY
    return day


def _closed_for_weekend(moment: datetime) -> bool:
    local = moment.astimezone(EXCHANGE)
    return WEEK_CLOSES <= (local.weekday(), local.time()) < WEEK_OPENS


def _last_reset_before_opening(ends_on: date, terms: Terms) -> datetime:
    """A lockout does not end while nothing can be traded, but with the last reset before the opening, or at it."""
    while _closed_for_weekend(_reset_on(ends_on + ONE_DAY, terms) - timedelta.resolution):
        ends_on += ONE_DAY
    return _reset_on(ends_on, terms)
