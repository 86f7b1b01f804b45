"""When the exchange trades: Sunday 17:00 to Friday 16:00 in Chicago, halting each day from 16:00 to 17:00."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

CHICAGO = ZoneInfo("America/Chicago")
_OPENS = time(17)
_HALTS = time(16)
_FRIDAY_REFUSALS = time(15, 55)
_FRIDAY, _SATURDAY, _SUNDAY = 4, 5, 6


def trading_day(at: datetime) -> date:
    """Return the day to which ``at`` belongs; from 17:00 on, that is tomorrow."""
    local = at.astimezone(CHICAGO)
    return local.date() + timedelta(days=1) if local.time() >= _OPENS else local.date()


def trading_day_start(moment: datetime | date) -> datetime:
    """Return, in UTC, when a trading day began: 17:00 of the evening before."""
    day = trading_day(moment) if isinstance(moment, datetime) else moment
    return datetime.combine(day - timedelta(days=1), _OPENS, CHICAGO).astimezone(UTC)


def is_open(at: datetime) -> bool:
    """Tell whether prices move at ``at``."""
    return _open_until(at, _HALTS)


def takes_orders(at: datetime) -> bool:
    """Tell whether orders are accepted at ``at``; on Fridays refusals begin five minutes early."""
    return _open_until(at, _FRIDAY_REFUSALS if at.astimezone(CHICAGO).weekday() == _FRIDAY else _HALTS)


def _open_until(at: datetime, end: time) -> bool:
    local = at.astimezone(CHICAGO)
    if local.time() >= _OPENS:
        return local.weekday() not in {_FRIDAY, _SATURDAY}
    return local.time() < end and local.weekday() not in {_SATURDAY, _SUNDAY}
