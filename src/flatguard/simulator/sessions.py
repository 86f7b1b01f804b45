"""When the simulated exchange trades: as the shipped calendar says, and on Fridays it refuses orders earlier. Pure."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from flatguard.model.calendar import Span, starts_at, trading_date
from flatguard.shipped import shipped_calendar

FRIDAY_REFUSALS = timedelta(minutes=5)
"""How long before the last close of a Friday orders are refused already."""
_FRIDAY = 4


def trading_day(at: datetime) -> date:
    """Return the day to which ``at`` belongs; from 17:00 on, that is tomorrow."""
    return trading_date(at)


def trading_day_start(moment: datetime | date) -> datetime:
    """Return, in UTC, when a trading day began: 17:00 of the evening before."""
    return starts_at(trading_date(moment) if isinstance(moment, datetime) else moment)


def is_business_day(day: date) -> bool:
    """Tell whether ``day`` counts where the exchange counts days: no weekend, no holiday."""
    return shipped_calendar().is_business_day(day)


def windows(day: date, ticker: str) -> tuple[Span, ...]:
    """Return when a product's sessions of a trading day open and close, in UTC, in order; none on a closed day."""
    return shipped_calendar().sessions(day, ticker)


def is_open(at: datetime, ticker: str) -> bool:
    """Tell whether prices move at ``at``."""
    return shipped_calendar().is_open(ticker, at)


def takes_orders(at: datetime, ticker: str) -> bool:
    """Tell whether orders are accepted at ``at``; on Fridays refusals begin five minutes before the last close."""
    day = trading_date(at)
    early = at + FRIDAY_REFUSALS if day.weekday() == _FRIDAY else at
    return is_open(at, ticker) and early < windows(day, ticker)[-1][1]


def next_opening(at: datetime, ticker: str) -> datetime:
    """Return when prices move next; ``at`` itself if they do."""
    opening = shipped_calendar().opens_next(ticker, at)
    assert opening is not None, "the shipped calendar has no month without a session"
    return opening
