"""Which trading day a moment belongs to, on ordinary days, over weekends, on the nights when the clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st

from flatguard.ledger.trading_day import trading_day
from flatguard.model.account import Terms
from flatguard.model.calendar import Calendar, Group, Session, SpecialDay
from flatguard.shipped import shipped_calendar
from tests.fakes.desk import chicago

US = Terms()
WITH_HOLIDAYS = Terms(calendar=shipped_calendar())
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "label"),
    [
        pytest.param("2025-01-13 18:00", "2025-01-14", id="Monday evening belongs to Tuesday"),
        pytest.param("2025-01-15 10:00", "2025-01-15", id="a morning belongs to its own date"),
        pytest.param("2025-01-15 16:59:59.999999", "2025-01-15", id="the last microsecond of the day"),
        pytest.param("2025-01-15 17:00:00", "2025-01-16", id="17:00:00 belongs to the new day"),
        pytest.param("2025-01-12 17:00", "2025-01-13", id="Sunday's opening belongs to Monday"),
        pytest.param("2025-01-12 16:59", "2025-01-13", id="before it, too"),
        pytest.param("2025-01-17 16:00", "2025-01-17", id="Friday afternoon is Friday"),
        pytest.param("2025-01-17 18:00", "2025-01-20", id="Friday evening belongs to Monday"),
        pytest.param("2025-01-18 12:00", "2025-01-20", id="Saturday belongs to Monday"),
    ],
)
def test_a_day_is_called_by_the_date_on_which_its_session_ends(moment: str, label: str) -> None:
    assert trading_day(chicago(moment), US).label == date.fromisoformat(label)


@pytest.mark.parametrize(
    ("moment", "starts", "ends", "hours"),
    [
        pytest.param("2025-03-09 03:00", "2025-03-08T23:00", "2025-03-09T22:00", 23, id="spring 2025"),
        pytest.param("2025-11-02 03:00", "2025-11-01T22:00", "2025-11-02T23:00", 25, id="autumn 2025"),
        pytest.param("2026-03-08 03:00", "2026-03-07T23:00", "2026-03-08T22:00", 23, id="spring 2026"),
        pytest.param("2026-11-01 03:00", "2026-10-31T22:00", "2026-11-01T23:00", 25, id="autumn 2026"),
        pytest.param("2025-01-15 03:00", "2025-01-14T23:00", "2025-01-15T23:00", 24, id="any other night"),
    ],
)
def test_the_day_turns_at_17_in_chicago_also_when_the_clocks_change(
    moment: str, starts: str, ends: str, hours: int
) -> None:
    day = trading_day(chicago(moment), US)
    assert (day.starts_at, day.ends_at) == (utc(starts), utc(ends))
    assert day.ends_at - day.starts_at == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("moment", "unlocks"),
    [
        pytest.param("2025-01-15 14:00", "2025-01-15 17:00", id="before the reset: today"),
        pytest.param("2025-01-15 18:00", "2025-01-16 17:00", id="after it: tomorrow"),
        pytest.param("2025-01-16 17:00", "2025-01-19 17:00", id="Thursday evening is Friday's session: Sunday"),
        pytest.param("2025-01-17 10:00", "2025-01-19 17:00", id="Friday: Sunday, for nothing opens before"),
        pytest.param("2025-01-17 18:00", "2025-01-19 17:00", id="Friday evening: Sunday"),
        pytest.param("2025-01-18 18:00", "2025-01-19 17:00", id="Saturday evening: Sunday"),
        pytest.param("2025-01-19 16:59", "2025-01-19 17:00", id="Sunday before the opening: the opening"),
        pytest.param("2025-01-19 17:00", "2025-01-20 17:00", id="Sunday's opening: Monday"),
        pytest.param("2025-03-07 10:00", "2025-03-09 17:00", id="over the weekend in which the clocks go forward"),
        pytest.param("2025-10-31 10:00", "2025-11-02 17:00", id="over the weekend in which the clocks go back"),
        pytest.param("2026-03-06 10:00", "2026-03-08 17:00", id="forward in 2026"),
        pytest.param("2026-10-30 10:00", "2026-11-01 17:00", id="back in 2026"),
    ],
)
def test_a_lockout_until_the_reset_ends_when_the_next_session_starts(moment: str, unlocks: str) -> None:
    assert trading_day(chicago(moment), US).unlocks_at == chicago(unlocks)


@pytest.mark.parametrize(
    ("reset", "zone", "moment", "label", "unlocks"),
    [
        pytest.param("17:00", "America/New_York", "2025-01-17 10:00", "2025-01-17", "2025-01-19 16:00", id="17:00 ET"),
        pytest.param("00:00", "America/Chicago", "2025-01-16 10:00", "2025-01-16", "2025-01-17 00:00", id="midnight"),
        pytest.param(
            "00:00", "America/Chicago", "2025-01-17 10:00", "2025-01-17", "2025-01-19 00:00", id="midnight, Friday"
        ),
        pytest.param("08:00", "Asia/Tokyo", "2025-01-16 10:00", "2025-01-16", "2025-01-16 17:00", id="Tokyo"),
        pytest.param("08:00", "Asia/Tokyo", "2025-01-17 10:00", "2025-01-17", "2025-01-19 17:00", id="Tokyo, Friday"),
        pytest.param("22:00", "UTC", "2025-01-17 10:00", "2025-01-17", "2025-01-19 16:00", id="22:00 UTC, Friday"),
    ],
)
def test_with_another_reset_a_lockout_still_ends_with_its_day_unless_the_market_is_closed_then(
    reset: str, zone: str, moment: str, label: str, unlocks: str
) -> None:
    """A reset at midnight in Chicago on Thursday night is no weekend, though the calendar says Friday by then."""
    day = trading_day(chicago(moment), Terms(time.fromisoformat(reset), ZoneInfo(zone)))
    assert day.label == date.fromisoformat(label)
    assert day.unlocks_at == chicago(unlocks)


@pytest.mark.parametrize(
    ("reset", "night", "ends"),
    [
        pytest.param("02:30", "2025-03-09", "2025-03-09T08:30", id="an hour that is skipped moves forward"),
        pytest.param("01:30", "2025-11-02", "2025-11-02T06:30", id="of an hour that comes twice it is the first"),
    ],
)
def test_a_reset_set_inside_the_change_of_clocks_happens_once(reset: str, night: str, ends: str) -> None:
    assert trading_day(chicago(f"{night} 00:10"), Terms(time.fromisoformat(reset))).ends_at == utc(ends)


ZONES = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)
TERMS = st.builds(Terms, reset=st.times(), zone=ZONES)


LATE_IN_GREENLAND = Terms(time(23, 30), ZoneInfo("America/Nuuk"))  # 23:00 jumps to midnight there each spring


@given(moment=MOMENTS, terms=st.just(US) | TERMS)
@example(moment=utc("2025-03-30T01:10"), terms=LATE_IN_GREENLAND)
def test_every_instant_belongs_to_exactly_one_day(moment: datetime, terms: Terms) -> None:
    day = trading_day(moment, terms)
    assert day.starts_at <= moment < day.ends_at
    before, after = trading_day(day.starts_at - timedelta.resolution, terms), trading_day(day.ends_at, terms)
    assert before.ends_at == day.starts_at
    assert after.starts_at == day.ends_at
    assert trading_day(day.starts_at, terms) == trading_day(day.ends_at - timedelta.resolution, terms) == day


@given(moment=MOMENTS, terms=st.just(US) | TERMS)
def test_a_lockout_ends_at_a_reset_and_no_session_is_spent_waiting_for_it(moment: datetime, terms: Terms) -> None:
    day = trading_day(moment, terms)
    assert day.unlocks_at >= day.ends_at
    assert trading_day(day.unlocks_at, terms).starts_at == day.unlocks_at
    if day.unlocks_at != day.ends_at:  # then the market is closed all the time between the two
        for edge in (day.ends_at, day.unlocks_at - timedelta.resolution):
            local = edge.astimezone(US.zone)
            assert (local.weekday(), local.time()) >= (4, time(16))
            assert (local.weekday(), local.time()) < (6, time(17))


def test_a_year_has_one_reset_on_each_calendar_day() -> None:
    resets = [trading_day(chicago("2025-01-01 12:00") + timedelta(days=d), US).ends_at for d in range(366)]
    assert [r.astimezone(US.zone).time() for r in resets] == [time(17)] * 366
    assert {b - a for a, b in pairwise(resets)} == {timedelta(hours=h) for h in (23, 24, 25)}


# ---- with the exchange's calendar


@pytest.mark.parametrize(
    ("moment", "label", "unlocks"),
    [
        pytest.param("2026-12-24 10:00", "2026-12-24", "2026-12-27 17:00", id="Christmas Eve: after Christmas"),
        pytest.param("2026-12-24 18:00", "2026-12-28", "2026-12-27 17:00", id="its evening belongs to Monday"),
        pytest.param("2026-12-25 12:00", "2026-12-28", "2026-12-27 17:00", id="and so does Christmas Day"),
        pytest.param("2026-12-27 17:00", "2026-12-28", "2026-12-28 17:00", id="trading starts again"),
        pytest.param("2026-12-31 10:00", "2026-12-31", "2027-01-03 17:00", id="before New Year's Day"),
        pytest.param("2027-03-25 10:00", "2027-03-25", "2027-03-28 17:00", id="before a Good Friday that is closed"),
        pytest.param("2026-04-02 10:00", "2026-04-02", "2026-04-02 17:00", id="before one on which some trade"),
        pytest.param("2026-04-03 10:00", "2026-04-03", "2026-04-05 17:00", id="on that one"),
        pytest.param("2026-11-25 18:00", "2026-11-26", "2026-11-26 17:00", id="Thanksgiving trades, and has its day"),
        pytest.param("2026-11-27 14:00", "2026-11-27", "2026-11-29 17:00", id="a short Friday"),
        pytest.param("2026-03-06 10:00", "2026-03-06", "2026-03-08 17:00", id="the clocks go forward"),
        pytest.param("2026-10-30 10:00", "2026-10-30", "2026-11-01 17:00", id="the clocks go back"),
        pytest.param(
            "2028-12-22 10:00", "2028-12-22", "2028-12-24 17:00", id="after the calendar's end: weekends only"
        ),
    ],
)
def test_a_day_on_which_nothing_trades_has_no_name_and_no_lock_ends_on_it(
    moment: str, label: str, unlocks: str
) -> None:
    day = trading_day(chicago(moment), WITH_HOLIDAYS)
    assert day.label == date.fromisoformat(label)
    assert day.unlocks_at == chicago(unlocks)


CLOSED_WEDNESDAY = date(2026, 7, 1)
MIDWEEK = Terms(
    calendar=Calendar(
        date(2026, 1, 1),
        date(2026, 12, 31),
        {"equity": Group(frozenset({"ES"}), (Session(time(17), time(16)),))},
        {
            date(2026, 6, 30): SpecialDay("short", early_closes={"equity": time(12)}),
            CLOSED_WEDNESDAY: SpecialDay("closed", closed=frozenset({"equity"})),
        },
    )
)


@pytest.mark.parametrize(
    ("reset", "moment", "label", "unlocks"),
    [
        pytest.param("17:00", "2026-06-30 10:00", "2026-06-30", "2026-07-01 17:00", id="the day before"),
        pytest.param("17:00", "2026-06-30 18:00", "2026-07-02", "2026-07-01 17:00", id="the evening before"),
        pytest.param("17:00", "2026-07-01 17:00", "2026-07-02", "2026-07-02 17:00", id="trading starts again"),
        pytest.param("11:00", "2026-06-30 10:00", "2026-06-30", "2026-06-30 11:00", id="a reset while it trades"),
        pytest.param("13:00", "2026-06-30 10:00", "2026-06-30", "2026-07-01 13:00", id="a reset after the early close"),
        pytest.param("00:00", "2026-06-30 10:00", "2026-06-30", "2026-07-01 00:00", id="a reset at midnight"),
        pytest.param("16:30", "2026-06-29 10:00", "2026-06-29", "2026-06-29 16:30", id="a reset in the daily halt"),
    ],
)
def test_in_the_middle_of_a_week_too_and_with_any_reset(reset: str, moment: str, label: str, unlocks: str) -> None:
    day = trading_day(chicago(moment), evolve(MIDWEEK, reset=time.fromisoformat(reset)))
    assert day.label == date.fromisoformat(label)
    assert day.unlocks_at == chicago(unlocks)


def test_a_short_day_between_two_that_are_closed_is_not_waited_away() -> None:
    monday, tuesday = date(2029, 12, 24), date(2029, 12, 25)
    special = {
        monday: SpecialDay("Christmas Eve", early_closes={"equity": time(12, 15)}),
        tuesday: SpecialDay("Christmas", closed=frozenset({"equity"})),
    }
    assert MIDWEEK.calendar is not None
    terms = Terms(reset=time(13), calendar=evolve(MIDWEEK.calendar, special_days=special))
    assert trading_day(chicago("2029-12-21 18:00"), terms).unlocks_at == chicago("2029-12-23 13:00")
    assert trading_day(chicago("2029-12-24 12:00"), terms).unlocks_at == chicago("2029-12-25 13:00")


def test_a_closed_day_has_its_reset_like_any_other() -> None:
    start = chicago("2026-01-01 12:00")
    resets = [trading_day(start + timedelta(days=d), WITH_HOLIDAYS).ends_at for d in range(365)]
    assert resets == [trading_day(start + timedelta(days=d), US).ends_at for d in range(365)]


AROUND_HOLIDAYS = st.datetimes(datetime(2025, 12, 20), datetime(2028, 1, 10), timezones=st.just(UTC))  # noqa: DTZ001


@given(
    moment=AROUND_HOLIDAYS, terms=st.just(WITH_HOLIDAYS) | TERMS.map(lambda t: evolve(t, calendar=shipped_calendar()))
)
def test_a_lock_never_outlasts_the_next_opening_after_its_day_and_its_day_trades(
    moment: datetime, terms: Terms
) -> None:
    calendar, day = shipped_calendar(), trading_day(moment, terms)
    assert not calendar.closed_on(day.label)
    assert day.unlocks_at >= day.ends_at
    openings = [calendar.opens_next(ticker, day.ends_at) for ticker in ("ES", "6E", "CL", "MBT")]
    assert day.unlocks_at <= max(day.ends_at, *filter(None, openings))


@given(moment=AROUND_HOLIDAYS)
def test_with_the_usual_reset_a_lock_ends_when_trading_starts(moment: datetime) -> None:
    unlocks_at = trading_day(moment, WITH_HOLIDAYS).unlocks_at
    assert shipped_calendar().is_open("ES", unlocks_at)
