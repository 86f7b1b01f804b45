"""When the exchange trades, by kind of product, with its holidays and with daylight saving. Pure.

A session belongs to a trading day, Monday to Friday, and most begin on the evening before it: Sunday evening is
Monday's. So a holiday, or an early close, is a matter of one trading day, and everything follows from the windows of
that day. They are made in Chicago's local time, which is what makes the two nights right on which the clocks change.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

from attrs import field, frozen

from flatguard.shipped import shipped

CHICAGO = ZoneInfo("America/Chicago")
_DAY_TURNS = time(17)
_HALTS = time(16)
_ONE_DAY = timedelta(days=1)
_FRIDAY, _SATURDAY = 4, 5
FRIDAY_REFUSALS = timedelta(minutes=5)
"""How long before the last close of a Friday orders are refused already."""
_YEARS_WITH_HOLIDAYS = (2026, 2027)


class Group(StrEnum):
    """Products that keep the same hours, also on holidays."""

    EQUITY = "equity"
    FX = "fx"
    RATES = "rates"
    METALS = "metals"
    ENERGY = "energy"
    CRYPTO = "crypto"
    GRAINS = "grains"
    LIVESTOCK = "livestock"


_ALMOST_ALL_DAY = ((-1, _DAY_TURNS, 0, _HALTS),)
# for each window: the day it opens (-1 is the evening before the trading day) and when, the day it closes and when
_HOURS: Mapping[Group, tuple[tuple[int, time, int, time], ...]] = {
    **dict.fromkeys(Group, _ALMOST_ALL_DAY),
    Group.GRAINS: ((-1, time(19), 0, time(7, 45)), (0, time(8, 30), 0, time(13, 20))),
    Group.LIVESTOCK: ((0, time(8, 30), 0, time(13, 5)),),
}


@frozen
class SpecialDay:
    """A trading day with other hours than usual: who does not trade at all, and who only until when."""

    name: str
    is_business_day: bool
    closed: frozenset[Group]
    until: Mapping[Group, time] = field(factory=dict)


@lru_cache(maxsize=1)
def special_days() -> Mapping[date, SpecialDay]:
    """Return the holidays and short days of the years that we know."""
    found = {}
    for year in _YEARS_WITH_HOLIDAYS:
        for row in tomllib.loads(shipped(f"holidays/cme-{year}.toml"))["days"]:
            found[row["date"]] = _special_day(row)
    return found


def _special_day(row: Mapping[str, Any]) -> SpecialDay:
    closed = row.get("closed", ())
    return SpecialDay(
        row["name"],
        {"holiday": False, "short": True}[row["kind"]],
        frozenset(Group if closed == "all" else map(Group, closed)),
        {Group(group): time.fromisoformat(text) for group, text in row.get("until", {}).items()},
    )


def is_business_day(day: date) -> bool:
    """Tell whether ``day`` counts where the exchange counts days: no weekend, no holiday."""
    special = special_days().get(day)
    return day.weekday() < _SATURDAY and (special is None or special.is_business_day)


def trading_day(at: datetime) -> date:
    """Return the day to which ``at`` belongs; from 17:00 on, that is tomorrow."""
    local = at.astimezone(CHICAGO)
    return local.date() + _ONE_DAY if local.time() >= _DAY_TURNS else local.date()


def trading_day_start(moment: datetime | date) -> datetime:
    """Return, in UTC, when a trading day began: 17:00 of the evening before."""
    day = trading_day(moment) if isinstance(moment, datetime) else moment
    return _moment(day - _ONE_DAY, _DAY_TURNS)


def _moment(day: date, at: time) -> datetime:
    return datetime.combine(day, at, CHICAGO).astimezone(UTC)


@lru_cache(maxsize=1024)
def windows(day: date, group: Group = Group.EQUITY) -> tuple[tuple[datetime, datetime], ...]:
    """Return when a trading day's sessions open and close, in UTC, in order; none at all on a closed day."""
    special = special_days().get(day)
    if day.weekday() >= _SATURDAY or (special is not None and group in special.closed):
        return ()
    last = None if special is None else special.until.get(group)
    found = []
    for opening_day, opens, closing_day, closes in _HOURS[group]:
        start = _moment(day + opening_day * _ONE_DAY, opens)
        end = _moment(day + closing_day * _ONE_DAY, closes)
        end = end if last is None else min(end, _moment(day, last))
        if start < end:
            found.append((start, end))
    return tuple(found)


def is_open(at: datetime, group: Group = Group.EQUITY) -> bool:
    """Tell whether prices move at ``at``."""
    return any(start <= at < end for start, end in windows(trading_day(at), group))


def takes_orders(at: datetime, group: Group = Group.EQUITY) -> bool:
    """Tell whether orders are accepted at ``at``; on Fridays refusals begin five minutes before the last close."""
    day = trading_day(at)
    early = at + FRIDAY_REFUSALS if day.weekday() == _FRIDAY else at
    return is_open(at, group) and early < windows(day, group)[-1][1]


def next_opening(at: datetime, group: Group = Group.EQUITY) -> datetime:
    """Return when prices move next; ``at`` itself if they do."""
    return next(max(at, start) for start, end in _windows_from(trading_day(at), group) if at < end)


def _windows_from(day: date, group: Group) -> Iterator[tuple[datetime, datetime]]:
    for days in count():
        yield from windows(day + days * _ONE_DAY, group)
