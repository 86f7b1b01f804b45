"""The exchange's hours: by kind of product, over the weekend, on holidays, and when the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.calendar import CHICAGO
from flatguard.shipped import shipped_calendar
from flatguard.simulator.contracts import PRODUCTS
from flatguard.simulator.sessions import (
    is_business_day,
    is_open,
    next_opening,
    takes_orders,
    trading_day,
    windows,
)

START_OF_2026 = datetime(2026, 1, 1, tzinfo=UTC)


def at(text: str) -> datetime:
    """Read a Chicago time such as ``2026-11-18 16:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=CHICAGO)


def edges(day: str, ticker: str = "ES") -> list[str]:
    """Return when the sessions of a trading day open and close, in Chicago's time."""
    return [
        f"{moment.astimezone(CHICAGO):%a %H:%M}"
        for window in windows(date.fromisoformat(day), ticker)
        for moment in window
    ]


@pytest.mark.parametrize(
    ("moment", "ticker", "expected"),
    [
        ("2026-11-18 15:59:59", "ES", True),
        ("2026-11-18 16:00", "ES", False),
        ("2026-11-18 16:59:59", "ES", False),
        ("2026-11-18 17:00", "ES", True),
        ("2026-11-20 15:59:59", "CL", True),
        ("2026-11-20 16:00", "CL", False),
        ("2026-11-21 12:00", "6E", False),
        ("2026-11-22 16:59:59", "6E", False),
        ("2026-11-22 17:00", "6E", True),
        ("2026-11-18 07:44:59", "ZC", True),
        ("2026-11-18 07:45", "ZC", False),
        ("2026-11-18 08:30", "ZC", True),
        ("2026-11-18 13:20", "ZC", False),
        ("2026-11-18 18:59", "ZC", False),
        ("2026-11-18 19:00", "ZC", True),
        ("2026-11-20 19:00", "ZC", False),
        ("2026-11-22 19:00", "ZC", True),
        ("2026-11-18 08:29:59", "LE", False),
        ("2026-11-18 08:30", "LE", True),
        ("2026-11-18 13:05", "LE", False),
    ],
)
def test_each_kind_of_product_keeps_its_hours(moment: str, ticker: str, expected: bool) -> None:
    assert is_open(at(moment), ticker) is expected
    assert takes_orders(at(moment), ticker) is (expected and moment[:16] != "2026-11-20 15:59")


@pytest.mark.parametrize(("moment", "expected"), [("15:54:59", True), ("15:55", False), ("15:59", False)])
def test_on_fridays_orders_are_refused_five_minutes_early(moment: str, expected: bool) -> None:
    assert takes_orders(at(f"2026-11-20 {moment}"), "ES") is expected
    assert takes_orders(at(f"2026-11-19 {moment}"), "ES") is True


@pytest.mark.parametrize(
    ("day", "ticker", "expected"),
    [
        ("2026-11-26", "ES", ["Wed 17:00", "Thu 12:00"]),
        ("2026-11-26", "GC", ["Wed 17:00", "Thu 13:30"]),
        ("2026-11-26", "6E", ["Wed 17:00", "Thu 16:00"]),
        ("2026-11-26", "ZC", []),
        ("2026-11-27", "ES", ["Thu 17:00", "Fri 12:15"]),
        ("2026-11-27", "ZC", ["Fri 08:30", "Fri 12:05"]),
        ("2026-12-25", "ES", []),
        ("2026-12-28", "ES", ["Sun 17:00", "Mon 16:00"]),
        ("2026-04-03", "ES", ["Thu 17:00", "Fri 08:15"]),
        ("2026-04-03", "CL", []),
        ("2027-01-01", "MBT", []),
        ("2027-03-26", "ZN", []),
        ("2027-07-05", "ZN", ["Sun 17:00", "Mon 12:00"]),
    ],
)
def test_holidays_and_short_days_end_early_or_are_not_held(day: str, ticker: str, expected: list[str]) -> None:
    assert edges(day, ticker) == expected


def test_a_closed_day_does_not_open_on_the_evening_before_and_the_next_opens_on_its_own_evening() -> None:
    assert not is_open(at("2026-12-31 17:00"), "ES")
    assert not is_open(at("2026-12-24 12:15"), "ES")
    assert next_opening(at("2026-12-24 12:15"), "ES") == at("2026-12-27 17:00")
    assert next_opening(at("2026-01-18 19:00"), "ZC") == at("2026-01-19 19:00")
    assert next_opening(at("2026-11-18 12:00"), "ES") == at("2026-11-18 12:00")


@pytest.mark.parametrize(
    ("day", "opens_utc", "hours"),
    [("2026-03-06", 23, 23), ("2026-03-09", 22, 23), ("2026-10-30", 22, 23), ("2026-11-02", 23, 23)],
)
def test_the_day_opens_at_17_in_chicago_on_both_sides_of_the_nights_on_which_the_clocks_change(
    day: str, opens_utc: int, hours: int
) -> None:
    ((start, end),) = windows(date.fromisoformat(day), "ES")
    assert (start.hour, end - start) == (opens_utc, timedelta(hours=hours))


def test_the_weekends_on_which_the_clocks_change_are_an_hour_shorter_and_longer() -> None:
    usual = timedelta(hours=49)
    for friday, difference in (("2026-03-06", -1), ("2026-10-30", 1), ("2026-11-13", 0)):
        closes = windows(date.fromisoformat(friday), "ES")[-1][1]
        assert next_opening(closes, "ES") - closes == usual + timedelta(hours=difference)


def test_a_holiday_is_no_business_day_and_a_short_day_is_one() -> None:
    days = ["2026-11-25", "2026-11-26", "2026-11-27", "2026-11-28"]
    assert [is_business_day(date.fromisoformat(day)) for day in days] == [True, False, True, False]


def test_the_calendar_names_every_product_that_is_listed() -> None:
    known = {ticker for group in shipped_calendar().groups.values() for ticker in group.tickers}
    assert {product.ticker for product in PRODUCTS.values()} <= known


@given(
    st.integers(0, 2 * 365 * 24 * 60).map(lambda minutes: START_OF_2026 + timedelta(minutes=minutes)),
    st.sampled_from(sorted(product.ticker for product in PRODUCTS.values())),
)
def test_the_next_opening_is_the_first_moment_at_which_the_market_is_open(moment: datetime, ticker: str) -> None:
    opening = next_opening(moment, ticker)
    assert opening >= moment
    assert is_open(opening, ticker)
    if opening > moment:
        assert not is_open(moment, ticker)
        assert not is_open(opening - timedelta.resolution, ticker)
        assert trading_day(opening) >= trading_day(moment)
