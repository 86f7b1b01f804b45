"""When the exchange trades: ordinary weeks, holidays, the nights when the clocks change, and files that are wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.calendar import CHICAGO, Calendar, Group, Session, SpecialDay, starts_at, trading_date
from flatguard.model.calendar_file import MalformedCalendar, load_calendar
from flatguard.shipped import shipped, shipped_calendar
from tests.fakes.desk import chicago

CALENDAR = shipped_calendar()
TEXT = shipped("calendars/cme_globex.toml")
ONE_TICKER_EACH = ("ES", "6E", "ZN", "GC", "CL", "MBT", "ZC", "LE")
AROUND_THE_CLOCK = Group(frozenset({"ES"}), (Session(time(17), time(16)),))


def local(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(CHICAGO):%a %H:%M}"


# ---- open or not


@pytest.mark.parametrize(
    ("ticker", "moment", "opens", "closes"),
    [
        pytest.param("ES", "2026-11-18 12:00", None, "Wed 16:00", id="in the middle of an ordinary week"),
        pytest.param("ES", "2026-11-18 15:59:59.999999", None, "Wed 16:00", id="the last moment before the halt"),
        pytest.param("ES", "2026-11-18 16:00", "Wed 17:00", "Thu 16:00", id="the daily halt begins"),
        pytest.param("ES", "2026-11-18 17:00", None, "Thu 16:00", id="the daily halt is over"),
        pytest.param("ES", "2026-11-20 16:00", "Sun 17:00", "Mon 16:00", id="Friday's close"),
        pytest.param("ES", "2026-11-21 12:00", "Sun 17:00", "Mon 16:00", id="Saturday"),
        pytest.param("ES", "2026-11-22 16:59:59", "Sun 17:00", "Mon 16:00", id="Sunday before the opening"),
        pytest.param("ES", "2026-11-22 17:00", None, "Mon 16:00", id="Sunday's opening"),
        pytest.param("ES", "2026-11-26 11:59", None, "Thu 12:00", id="Thanksgiving before its early halt"),
        pytest.param("ES", "2026-11-26 12:00", "Thu 17:00", "Fri 12:15", id="Thanksgiving's early halt"),
        pytest.param("CL", "2026-11-26 12:00", None, "Thu 13:30", id="energy halts later"),
        pytest.param("6E", "2026-11-26 12:00", None, "Thu 16:00", id="currencies do not halt early"),
        pytest.param("ES", "2026-12-24 12:15", "Sun 17:00", "Mon 16:00", id="Christmas is closed, and then a weekend"),
        pytest.param("ES", "2026-12-25 12:00", "Sun 17:00", "Mon 16:00", id="on Christmas Day itself"),
        pytest.param("ZC", "2026-11-18 18:59", "Wed 19:00", "Thu 07:45", id="grains open two hours later"),
        pytest.param("ZC", "2026-11-18 07:45", "Wed 08:30", "Wed 13:20", id="grains pause in the morning"),
        pytest.param("ZC", "2026-11-18 08:30", None, "Wed 13:20", id="the grains' second session"),
        pytest.param("ZC", "2026-11-25 13:20", "Fri 08:30", "Fri 12:05", id="nor on Thanksgiving's evening"),
        pytest.param("LE", "2026-11-18 17:00", "Thu 08:30", "Thu 13:05", id="livestock has no evening"),
        pytest.param("QQQ", "2026-11-26 12:00", "Thu 17:00", "Fri 12:15", id="an unknown ticker: the equity hours"),
    ],
)
def test_a_product_is_open_or_says_when_it_opens_and_always_when_it_closes(
    ticker: str, moment: str, opens: str | None, closes: str
) -> None:
    at = chicago(moment)
    assert CALENDAR.is_open(ticker, at) is (opens is None)
    assert local(CALENDAR.opens_next(ticker, at)) == (opens or local(at))
    assert local(CALENDAR.closes_next(ticker, at)) == closes


@pytest.mark.parametrize(
    ("friday", "monday", "opens", "hours"),
    [
        pytest.param("2026-03-06", "2026-03-09", "2026-03-08T22:00", 48, id="forward in March"),
        pytest.param("2026-10-30", "2026-11-02", "2026-11-01T23:00", 50, id="back in November"),
        pytest.param("2026-11-13", "2026-11-16", "2026-11-15T23:00", 49, id="on any other weekend"),
    ],
)
def test_the_week_opens_at_17_in_chicago_also_when_the_clocks_change(
    friday: str, monday: str, opens: str, hours: int
) -> None:
    closed = CALENDAR.closes_next("ES", chicago(f"{friday} 12:00"))
    assert closed is not None
    opening = CALENDAR.opens_next("ES", closed)
    assert opening == datetime.fromisoformat(opens).replace(tzinfo=UTC)
    assert opening - closed == timedelta(hours=hours)
    assert CALENDAR.sessions(date.fromisoformat(monday), "ES") == ((opening, opening + timedelta(hours=23)),)


def test_hours_within_the_change_of_clocks_move_forward_or_are_the_first_of_two() -> None:
    night = Calendar(
        date(2026, 1, 1), date(2026, 12, 31), {"equity": Group(frozenset(), (Session(time(17), time(2, 30)),))}
    )
    assert local(night.closes_next("ES", chicago("2026-03-09 01:00"))) == "Mon 02:30"
    on_sundays = Session(time(1, 30), time(4)).on(date(2026, 11, 1))
    assert on_sundays is not None
    assert on_sundays[0] == datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    in_spring = Session(time(2, 30), time(4)).on(date(2026, 3, 8))
    assert in_spring is not None
    assert in_spring[0] == datetime(2026, 3, 8, 8, 30, tzinfo=UTC)


MOMENTS = st.datetimes(datetime(2025, 12, 1), datetime(2028, 2, 1), timezones=st.just(UTC))  # noqa: DTZ001
TICKERS = st.sampled_from((*ONE_TICKER_EACH, "QQQ"))


@given(TICKERS, MOMENTS)
def test_open_is_what_lies_between_an_opening_and_its_close(ticker: str, at: datetime) -> None:
    opens, closes = CALENDAR.opens_next(ticker, at), CALENDAR.closes_next(ticker, at)
    assert opens is not None
    assert closes is not None
    assert at <= opens < closes
    assert CALENDAR.is_open(ticker, at) is (opens == at)
    assert CALENDAR.is_open(ticker, opens)
    assert CALENDAR.is_open(ticker, closes - timedelta.resolution)
    assert not CALENDAR.is_open(ticker, closes)
    if opens > at:
        assert not CALENDAR.is_open(ticker, opens - timedelta.resolution)
        assert CALENDAR.closes_next(ticker, opens) == closes


@given(TICKERS, MOMENTS, st.data())
def test_nothing_opens_or_closes_before_the_next_opening_or_close(
    ticker: str, at: datetime, data: st.DataObject
) -> None:
    opens, closes = CALENDAR.opens_next(ticker, at), CALENDAR.closes_next(ticker, at)
    assert opens is not None
    assert closes is not None
    between = data.draw(st.datetimes(at.replace(tzinfo=None), closes.replace(tzinfo=None), timezones=st.just(UTC)))
    assert CALENDAR.is_open(ticker, between) is (opens <= between < closes)


@given(TICKERS, st.dates(date(2026, 1, 1), date(2027, 12, 31)))
def test_a_closed_day_has_no_session_and_an_early_close_ends_its_last_one(ticker: str, day: date) -> None:
    sessions, early = CALENDAR.sessions(day, ticker), CALENDAR.early_close(day, ticker)
    assert CALENDAR.closed_on(day, ticker) is (not sessions)
    if early is not None:
        assert sessions[-1][1].astimezone(CHICAGO).timetz() == early.replace(tzinfo=CHICAGO)
    span = CALENDAR.span(day)
    assert (span is None) is CALENDAR.closed_on(day)
    for opens, closes in sessions:
        assert span is not None
        assert span[0] <= opens < closes <= span[1]


# ---- days


@pytest.mark.parametrize(
    ("day", "closed_for", "nothing_trades"),
    [
        pytest.param("2026-11-25", "", False, id="an ordinary Wednesday"),
        pytest.param("2026-11-26", "ZC LE", False, id="Thanksgiving"),
        pytest.param("2026-04-03", "CL GC ZC LE", False, id="Good Friday with an employment report"),
        pytest.param("2027-03-26", " ".join(ONE_TICKER_EACH), True, id="Good Friday without one"),
        pytest.param("2026-12-25", " ".join(ONE_TICKER_EACH), True, id="Christmas"),
        pytest.param("2026-11-28", " ".join(ONE_TICKER_EACH), True, id="a Saturday"),
        pytest.param("2026-11-29", " ".join(ONE_TICKER_EACH), True, id="a Sunday, whose evening is Monday's"),
    ],
)
def test_a_day_is_closed_for_a_product_or_for_all(day: str, closed_for: str, nothing_trades: bool) -> None:
    on = date.fromisoformat(day)
    assert {ticker for ticker in ONE_TICKER_EACH if CALENDAR.closed_on(on, ticker)} == set(closed_for.split())
    assert CALENDAR.closed_on(on) is nothing_trades


@pytest.mark.parametrize(
    ("day", "ticker", "expected"),
    [
        ("2026-11-26", "ES", time(12)),
        ("2026-11-26", "MCL", time(13, 30)),
        ("2026-11-26", "6E", None),
        ("2026-11-26", "ZC", None),
        ("2026-11-27", "ZC", time(12, 5)),
        ("2026-11-27", "GC", time(13, 45)),
        ("2026-06-19", "GC", time(12)),
        ("2026-11-25", "ES", None),
        ("2026-12-25", "ES", None),
        ("2026-11-27", "QQQ", time(12, 15)),
    ],
)
def test_an_early_close_is_known_by_product(day: str, ticker: str, expected: time | None) -> None:
    assert CALENDAR.early_close(date.fromisoformat(day), ticker) == expected


def test_an_early_close_before_a_session_leaves_nothing_of_it() -> None:
    day = date(2026, 12, 24)
    grains = Group(frozenset({"ZC"}), (Session(time(19), time(7, 45)), Session(time(8, 30), time(13, 20))))
    special = SpecialDay("a night only", early_closes={"grains": time(7)})
    short = Calendar(day, day, {"equity": AROUND_THE_CLOCK, "grains": grains}, {day: special})
    assert [tuple(map(local, span)) for span in short.sessions(day, "ZC")] == [("Wed 19:00", "Thu 07:00")]


def test_a_late_opening_takes_the_evening_and_what_lies_before_it() -> None:
    day = date(2026, 12, 29)
    for first, expected in ((time(7), "Tue 07:00"), (time(8), "Tue 08:30"), (time(9), "Tue 09:00")):
        grains = Group(frozenset({"ZC"}), (Session(time(19), time(7, 45)), Session(time(8, 30), time(13, 20))))
        special = SpecialDay("a late day", late_opens={"grains": first})
        late = Calendar(day, day, {"equity": AROUND_THE_CLOCK, "grains": grains}, {day: special})
        assert local(late.opens_next("ZC", chicago("2026-12-28 19:00"))) == expected
        assert local(late.opens_next("ES", chicago("2026-12-28 19:00"))) == "Mon 19:00"


def test_a_market_that_stays_closed_for_more_than_a_month_has_no_next_session() -> None:
    first = date(2026, 6, 1)
    closed = {first + timedelta(days): SpecialDay("closed", closed=frozenset({"equity"})) for days in range(40)}
    long = Calendar(first, first, {"equity": AROUND_THE_CLOCK}, closed)
    assert long.opens_next("ES", chicago("2026-06-01 12:00")) is None
    assert long.closes_next("ES", chicago("2026-06-01 12:00")) is None
    assert long.opens_next("ES", chicago("2026-06-20 12:00")) == chicago("2026-07-12 17:00")


@given(MOMENTS)
def test_a_trading_date_begins_at_17_on_the_evening_before(at: datetime) -> None:
    day = trading_date(at)
    assert starts_at(day) <= at < starts_at(day + timedelta(days=1))
    assert starts_at(day).astimezone(CHICAGO).time() == time(17)


def test_holidays_are_no_business_days_and_short_days_are() -> None:
    days = ["2026-11-25", "2026-11-26", "2026-11-27", "2026-11-28"]
    assert [CALENDAR.is_business_day(date.fromisoformat(day)) for day in days] == [True, False, True, False]


# ---- how far it reaches


def test_the_calendar_covers_its_last_trading_date_and_no_later_one() -> None:
    assert CALENDAR.ends == date(2027, 12, 31)
    assert CALENDAR.covers(chicago("2027-12-31 16:59:59"))
    assert not CALENDAR.covers(chicago("2027-12-31 17:00"))
    assert local(CALENDAR.opens_next("ES", chicago("2028-01-17 12:00"))) == "Mon 12:00", "then every day is usual"


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        ("2027-10-31 23:59", None),
        ("2027-11-01 00:00", "ends on 2027-12-31"),
        ("2027-12-31 23:59", "ends on 2027-12-31"),
        ("2028-01-01 00:00", "ended on 2027-12-31"),
    ],
)
def test_sixty_days_before_its_end_it_warns(moment: str, said: str | None) -> None:
    warning = CALENDAR.warning(chicago(moment))
    assert warning is None if said is None else warning is not None and said in warning


# ---- the shipped file


def test_the_shipped_file_says_where_it_is_from_and_names_its_days_in_order() -> None:
    assert "CME Group" in CALENDAR.source
    assert "www.cmegroup.com" in TEXT
    days = list(CALENDAR.special_days)
    assert days == sorted(days)
    assert {day.year for day in days} == {2026, 2027}
    assert all(CALENDAR.group(ticker) == group for group, ticker in zip(CALENDAR.groups, ONE_TICKER_EACH, strict=True))


def test_the_same_text_is_the_same_calendar_and_two_are_equal_by_what_they_say() -> None:
    assert load_calendar(TEXT) is CALENDAR
    again = load_calendar(f"{TEXT}\n")
    assert again is not CALENDAR
    assert again == CALENDAR
    assert evolve(CALENDAR, ends=date(2026, 12, 31)) != CALENDAR


# ---- files that are wrong

MINIMAL = """
source = "a test"
reviewed = 2026-11-20
ends = 2026-12-31
days = []
[groups.equity]
tickers = ["ES"]
sessions = ["17:00-16:00"]
"""
GRAINS = '[groups.grains]\ntickers = ["ZC"]\nsessions = ["19:00-07:45", "08:30-13:20"]\n'
DAY = MINIMAL.replace("days = []", "") + GRAINS + '[[days]]\ndate = 2026-12-25\nname = "Christmas"\n'


def test_a_file_of_ones_own_may_be_short() -> None:
    calendar = load_calendar(DAY + 'closed = "all"\n')
    assert calendar.closed_on(date(2026, 12, 25))
    assert not calendar.closed_on(date(2026, 12, 24))
    assert load_calendar(MINIMAL).special_days == {}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("reviewed = ", "Invalid value"),
        (MINIMAL + "[more]\n", "more: is not known here; write one of source, reviewed, ends, groups, days"),
        (MINIMAL.replace("reviewed = 2026-11-20", ""), "reviewed: is missing"),
        (MINIMAL.replace("2026-11-20", '"2026-11-20"'), "reviewed: must be a date, without quotes, such as 2026-12-25"),
        (MINIMAL.replace("2026-11-20", "2026-11-20T10:00:00"), "reviewed: must be a date"),
        (MINIMAL.replace('"a test"', "1"), "source: must be text"),
        (MINIMAL.replace('"a test"', '" "'), "source: must be text"),
        (MINIMAL.replace("days = []", ""), "days: is missing"),
        (MINIMAL.replace("days = []", "days = 3"), "days: must be an array of tables"),
        (MINIMAL.replace("days = []", "days = [3]"), "days: must be an array of tables"),
        (MINIMAL.replace("groups.equity", "groups.shares"), "groups: must have equity"),
        (MINIMAL.replace("[groups.equity]", "[groups]\nequity = 1\n[other]"), "other: is not known here"),
        (MINIMAL.partition("[groups")[0] + "[groups]\nequity = 1\n", "groups.equity: must be a table"),
        (MINIMAL + "hours = 1\n", "groups.equity.hours: is not known here; write one of tickers, sessions"),
        (MINIMAL.replace('["ES"]', "[1]"), "groups.equity.tickers: must be an array of texts"),
        (MINIMAL.replace('["17:00-16:00"]', "[]"), 'groups.equity.sessions: is empty; write ["17:00-16:00"]'),
        (
            MINIMAL.replace("17:00-16:00", "17:00"),
            "groups.equity.sessions[0]: must be when it opens and when it closes",
        ),
        (
            MINIMAL.replace("17:00-16:00", "17:00-25:00"),
            'groups.equity.sessions[0]: must be a time of day such as "16:00"',
        ),
        (MINIMAL.replace("17:00-16:00", "16:00-16:00"), "groups.equity.sessions[0]: must lie between 17:00 of the eve"),
        (MINIMAL.replace("17:00-16:00", "15:00-14:00"), "groups.equity.sessions[0]: must lie between 17:00 of the eve"),
        (MINIMAL.replace("17:00-16:00", "08:00-18:00"), "groups.equity.sessions[0]: must lie between 17:00 of the eve"),
        (
            DAY.replace("08:30-13:20", "07:30-13:20"),
            "groups.grains.sessions[1]: must begin after the session before it",
        ),
        (
            DAY.replace("08:30-13:20", "18:30-13:20"),
            "groups.grains.sessions[1]: must begin after the session before it",
        ),
        (DAY.replace('"ZC"', '"ES"'), "groups.grains.tickers: ES is in the group equity already"),
        (DAY + "until = 1\n", "days[0].until: is not known here"),
        (DAY.replace("date = 2026-12-25", ""), "days[0].date: is missing"),
        (DAY.replace("2026-12-25", "2026-12-26"), "days[0].date: 2026-12-26 is a weekend"),
        (
            DAY.replace("2026-12-25", "2027-01-01"),
            "days[0].date: 2027-01-01 is after the end of the calendar, 2026-12-31",
        ),
        (DAY + '[[days]]\ndate = 2026-12-25\nname = "Again"\n', "days[1].date: 2026-12-25 is there already"),
        (DAY.replace('name = "Christmas"', ""), "days[0].name: is missing"),
        (DAY + 'business_day = "no"\n', "days[0].business_day: must be true or false"),
        (DAY + 'closed = "grains"\n', "days[0].closed: must be an array of texts"),
        (
            DAY + 'closed = ["equity", "grain"]\n',
            'days[0].closed[1]: there is no group "grain"; write one of equity, grains',
        ),
        (DAY + "late_open = 12\n", "days[0].late_open: must be a table"),
        (DAY + 'late_open = { fx = "08:00" }\n', 'days[0].late_open.fx: there is no group "fx"'),
        (DAY + 'late_open = { grains = "8" }\n', "days[0].late_open.grains: must be a time of day"),
        (DAY + 'late_open = { grains = "13:20" }\n', "days[0].late_open.grains: must be before 13:20, when grains"),
        (
            DAY + 'early_close = { grains = "12:00" }\nlate_open = { grains = "12:30" }\n',
            "days[0].late_open.grains: must be before 12:00, when grains closes",
        ),
        (DAY + 'closed = "all"\nlate_open = { grains = "08:30" }\n', "days[0].late_open.grains: is closed on this day"),
        (DAY + "early_close = 12\n", "days[0].early_close: must be a table"),
        (DAY + 'early_close = { fx = "12:00" }\n', 'days[0].early_close.fx: there is no group "fx"'),
        (DAY + "early_close = { equity = 12 }\n", 'days[0].early_close.equity: must be a time of day such as "16:00"'),
        (DAY + 'early_close = { equity = "T1200" }\n', "days[0].early_close.equity: must be a time of day"),
        (DAY + 'early_close = { equity = "16:00" }\n', "days[0].early_close.equity: must be before 16:00"),
        (
            DAY + 'closed = "all"\nearly_close = { equity = "12:00" }\n',
            "days[0].early_close.equity: is closed on this day",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong_and_where(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        load_calendar(text)
    assert str(caught.value).startswith(error)


def test_what_is_wrong_has_its_place() -> None:
    with pytest.raises(MalformedCalendar) as caught:
        load_calendar(DAY + 'early_close = { fx = "12:00" }\n')
    assert caught.value.place == ("days", 0, "early_close", "fx")
    assert caught.value.what == 'there is no group "fx"; write one of equity, grains'


def test_a_calendar_has_the_usual_hours() -> None:
    with pytest.raises(ValueError, match="equity"):
        Calendar(date(2026, 1, 1), date(2026, 12, 31), {"grains": AROUND_THE_CLOCK})
