"""Compare the shipped calendar with pandas-market-calendars, on every trading date of its years.

Neither is right by itself. A difference that somebody has looked into stands in ``EXPLAINED``, and in the head of the
calendar file; any other fails, and so does an explanation that explains nothing any more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pandas_market_calendars  # type: ignore[import-not-found,unused-ignore]

from flatguard.model.calendar import CHICAGO
from flatguard.shipped import shipped_calendar

OURS = shipped_calendar()
THEIRS = {
    "equity": "CME Globex Equity",
    "fx": "CMEGlobex_FX",
    "rates": "CME_Bond",
    "metals": "CMEGlobex_GC",
    "energy": "CMEGlobex_CL",
    "crypto": "CME Globex Cryptocurrencies",
    "grains": "CMEGlobex_Grains",
    "livestock": "CMEGlobex_Livestock",
}

REPORT = "trades on every Good Friday there; CME Group does so only where the employment report falls on it"
LIKE_2023 = "rates ended with FX on the Good Friday of 2023 (inferred)"
UNKNOWN = "these hours of the day are not known there for these products"
AS_IN_2026 = "its rules for 2027 are those that its 2026 was corrected from; ours are the corrected times"
FRIDAY_HOLIDAY = "a holiday that is a Friday ends at 12:00, as CME Group published for 2026"

EXPLAINED = {
    ("rates", date(2026, 4, 3)): LIKE_2023,
    ("rates", date(2026, 6, 19)): UNKNOWN,
    ("rates", date(2027, 6, 18)): UNKNOWN,
    ("equity", date(2027, 3, 26)): REPORT,
    ("fx", date(2027, 3, 26)): REPORT,
    ("crypto", date(2027, 3, 26)): REPORT,
    **{(group, date(2027, 6, 18)): FRIDAY_HOLIDAY for group in ("metals", "energy")},
    **{(group, date(2027, 9, 6)): AS_IN_2026 for group in ("metals", "energy")},
    **{(group, date(2027, 11, 26)): AS_IN_2026 for group in ("metals", "energy")},
    **{(group, day): UNKNOWN for group in ("grains", "livestock") for day in (date(2026, 6, 19), date(2027, 6, 18))},
    **{("grains", day): UNKNOWN for day in (date(2026, 1, 2), date(2026, 11, 27), date(2026, 12, 24))},
    ("grains", date(2027, 11, 26)): UNKNOWN,
}


def trading_dates() -> Iterator[date]:
    """Yield the weekdays from the first year with a special day to the calendar's end."""
    day = date(min(OURS.special_days).year, 1, 1)
    while day <= OURS.ends:
        if day.weekday() < 5:
            yield day
        day += timedelta(days=1)


def our_hours(group: str, day: date) -> str:
    """Return when the group's sessions of a trading date open and close, or ``closed``."""
    ticker = min(OURS.groups[group].tickers)
    return shown([moment for span in OURS.sessions(day, ticker) for moment in span])


def their_hours(schedule: Any, day: date) -> str:
    """Return the same by their schedule."""
    if str(day) not in schedule.index:
        return "closed"
    row = schedule.loc[str(day)]
    columns = ("market_open", "break_start", "break_end", "market_close")
    return shown([row[column].to_pydatetime() for column in columns if column in schedule.columns])


def shown(moments: list[Any]) -> str:
    """Write moments in Chicago's time."""
    return " ".join(f"{moment.astimezone(CHICAGO):%a-%H:%M}" for moment in moments) or "closed"


def main() -> int:
    """List the differences; return 1 where one is not explained, or an explanation is of no use."""
    days, found, wrong = list(trading_dates()), set(), 0
    for group, name in THEIRS.items():
        schedule = pandas_market_calendars.get_calendar(name).schedule(str(days[0]), str(days[-1]))
        for day in days:
            ours, theirs = our_hours(group, day), their_hours(schedule, day)
            if ours == theirs:
                continue
            found.add((group, day))
            why = EXPLAINED.get((group, day))
            wrong += why is None
            print(f"{'NOT EXPLAINED' if why is None else 'explained'}: {day} {group}: {ours}, {name}: {theirs}", end="")
            print("" if why is None else f" ({why})")
    for group, day in sorted(EXPLAINED.keys() - found):
        wrong += 1
        print(f"NO DIFFERENCE any more: {day} {group}; take the explanation out")
    print(f"{len(days)} trading dates, {len(THEIRS)} groups, {len(found)} differences, {wrong} to look into")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
