"""The exchange's hours: by kind of product, over the weekend, on holidays, and when the clocks change."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.simulator.sessions import (
    CHICAGO,
    Group,
    is_business_day,
    is_open,
    next_opening,
    special_days,
    takes_orders,
    trading_day,
    windows,
)

START_OF_2026 = datetime(2026, 1, 1, tzinfo=UTC)
HOLIDAYS = Path(__file__).parents[2] / "config" / "holidays"


def at(text: str) -> datetime:
    """Read a Chicago time such as ``2026-11-18 16:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=CHICAGO)


def edges(day: str, group: Group = Group.EQUITY) -> list[str]:
    """Return when the sessions of a trading day open and close, in Chicago's time."""
    return [
        f"{moment.astimezone(CHICAGO):%a %H:%M}"
        for window in windows(date.fromisoformat(day), group)
        for moment in window
    ]


@pytest.mark.parametrize(
    ("moment", "group", "expected"),
    [
        ("2026-11-18 15:59:59", Group.EQUITY, True),
        ("2026-11-18 16:00", Group.EQUITY, False),
        ("2026-11-18 16:59:59", Group.EQUITY, False),
        ("2026-11-18 17:00", Group.EQUITY, True),
        ("2026-11-20 15:59:59", Group.ENERGY, True),
        ("2026-11-20 16:00", Group.ENERGY, False),
        ("2026-11-21 12:00", Group.FX, False),
        ("2026-11-22 16:59:59", Group.FX, False),
        ("2026-11-22 17:00", Group.FX, True),
        ("2026-11-18 07:44:59", Group.GRAINS, True),
        ("2026-11-18 07:45", Group.GRAINS, False),
        ("2026-11-18 08:30", Group.GRAINS, True),
        ("2026-11-18 13:20", Group.GRAINS, False),
        ("2026-11-18 18:59", Group.GRAINS, False),
        ("2026-11-18 19:00", Group.GRAINS, True),
        ("2026-11-20 19:00", Group.GRAINS, False),
        ("2026-11-22 19:00", Group.GRAINS, True),
        ("2026-11-18 08:29:59", Group.LIVESTOCK, False),
        ("2026-11-18 08:30", Group.LIVESTOCK, True),
        ("2026-11-18 13:05", Group.LIVESTOCK, False),
    ],
)
def test_each_kind_of_product_keeps_its_hours(moment: str, group: Group, expected: bool) -> None:
    assert is_open(at(moment), group) is expected
    assert takes_orders(at(moment), group) is (expected and moment[:16] != "2026-11-20 15:59")


@pytest.mark.parametrize(("moment", "expected"), [("15:54:59", True), ("15:55", False), ("15:59", False)])
def test_on_fridays_orders_are_refused_five_minutes_early(moment: str, expected: bool) -> None:
    assert takes_orders(at(f"2026-11-20 {moment}")) is expected
    assert takes_orders(at(f"2026-11-19 {moment}")) is True


@pytest.mark.parametrize(
    ("day", "group", "expected"),
    [
        ("2026-11-26", Group.EQUITY, ["Wed 17:00", "Thu 12:00"]),
        ("2026-11-26", Group.METALS, ["Wed 17:00", "Thu 13:30"]),
        ("2026-11-26", Group.FX, ["Wed 17:00", "Thu 16:00"]),
        ("2026-11-26", Group.GRAINS, []),
        ("2026-11-27", Group.EQUITY, ["Thu 17:00", "Fri 12:15"]),
        ("2026-11-27", Group.GRAINS, ["Thu 19:00", "Fri 07:45", "Fri 08:30", "Fri 12:05"]),
        ("2026-12-25", Group.EQUITY, []),
        ("2026-12-28", Group.EQUITY, ["Sun 17:00", "Mon 16:00"]),
        ("2026-04-03", Group.EQUITY, ["Thu 17:00", "Fri 08:15"]),
        ("2026-04-03", Group.ENERGY, []),
        ("2027-01-01", Group.CRYPTO, []),
        ("2027-03-26", Group.RATES, []),
        ("2027-07-05", Group.RATES, ["Sun 17:00", "Mon 12:00"]),
    ],
)
def test_holidays_and_short_days_end_early_or_are_not_held(day: str, group: Group, expected: list[str]) -> None:
    assert edges(day, group) == expected


def test_a_closed_day_does_not_open_on_the_evening_before_and_the_next_opens_on_its_own_evening() -> None:
    assert not is_open(at("2026-12-31 17:00"))
    assert not is_open(at("2026-12-24 12:15"))
    assert next_opening(at("2026-12-24 12:15")) == at("2026-12-27 17:00")
    assert next_opening(at("2026-01-18 19:00"), Group.GRAINS) == at("2026-01-19 19:00")
    assert next_opening(at("2026-11-18 12:00")) == at("2026-11-18 12:00")


@pytest.mark.parametrize(
    ("day", "opens_utc", "hours"),
    [("2026-03-06", 23, 23), ("2026-03-09", 22, 23), ("2026-10-30", 22, 23), ("2026-11-02", 23, 23)],
)
def test_the_day_opens_at_17_in_chicago_on_both_sides_of_the_nights_on_which_the_clocks_change(
    day: str, opens_utc: int, hours: int
) -> None:
    ((start, end),) = windows(date.fromisoformat(day))
    assert (start.hour, end - start) == (opens_utc, timedelta(hours=hours))


def test_the_weekends_on_which_the_clocks_change_are_an_hour_shorter_and_longer() -> None:
    usual = timedelta(hours=49)
    for friday, difference in (("2026-03-06", -1), ("2026-10-30", 1), ("2026-11-13", 0)):
        closes = windows(date.fromisoformat(friday))[-1][1]
        assert next_opening(closes) - closes == usual + timedelta(hours=difference)


def test_a_holiday_is_no_business_day_and_a_short_day_is_one() -> None:
    days = ["2026-11-25", "2026-11-26", "2026-11-27", "2026-11-28"]
    assert [is_business_day(date.fromisoformat(day)) for day in days] == [True, False, True, False]


def test_the_files_of_holidays_say_where_they_are_from_and_name_each_day_once() -> None:
    files = sorted(HOLIDAYS.glob("*.toml"))
    assert [file.name for file in files] == ["cme-2026.toml", "cme-2027.toml"]
    for file in files:
        text = file.read_text("utf-8")
        assert "www.cmegroup.com" in text
        dates = [row["date"] for row in tomllib.loads(text)["days"]]
        assert dates == sorted(set(dates))
        assert {str(day.year) for day in dates} == {file.stem[-4:]}
        assert all(day.weekday() < 5 for day in dates)
        assert set(dates) <= set(special_days())


@given(
    st.integers(0, 2 * 365 * 24 * 60).map(lambda minutes: START_OF_2026 + timedelta(minutes=minutes)),
    st.sampled_from(list(Group)),
)
def test_the_next_opening_is_the_first_moment_at_which_the_market_is_open(moment: datetime, group: Group) -> None:
    opening = next_opening(moment, group)
    assert opening >= moment
    assert is_open(opening, group)
    if opening > moment:
        assert not is_open(moment, group)
        assert not is_open(opening - timedelta.resolution, group)
        assert trading_day(opening) >= trading_day(moment)
