"""Session block outside, beside the worked examples of its page: holidays, clock changes, its moments."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.model.account import Terms
from flatguard.model.calendar import Calendar, Group, SpecialDay
from flatguard.model.calendar import Session as ExchangeSession
from flatguard.model.decisions import CloseContract, Decision, Flatten, LockOut
from flatguard.model.ids import ContractId
from flatguard.rules.session_block_outside import DAYS, DAYS_KNOWN, NAME, Day, Session, SessionBlockOutside
from flatguard.shipped import shipped_calendar
from tests.fakes.desk import CL, EP, ES, MNQ, NQ, Desk, chicago, position, record

NEW_YORK = ZoneInfo("America/New_York")
US: dict[str, Any] = {"start": time(9, 30), "end": time(16), "zone": NEW_YORK}
ES_HOURS: dict[str, Session] = {"ES": Session(time(18), time(17), NEW_YORK, ("sun", "mon", "tue", "wed", "thu"))}


def new_york(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


def desk(at: datetime, *held: ContractId, calendar: Calendar | None = None, **settings: Any) -> Desk:
    rule = SessionBlockOutside(**{**US, **settings})
    rows = [position(contract_id, 1) for contract_id in held]
    return Desk({NAME: rule}, at, terms=Terms(calendar=calendar), positions=rows)


def told(account: Desk) -> list[tuple[Decision, ...]]:
    return [breach.decisions for breach in account.told]


def go(account: Desk, moment: datetime) -> None:
    """Nothing happens until ``moment``; the broker's clock is heard then."""
    account.now = moment
    account.tell(record(moment))


# the examples: 09:30 to 16:00 in New York


@pytest.mark.parametrize(
    ("at", "until"),
    [
        pytest.param("2025-01-14 09:29:59.999999", "2025-01-14 09:30", id="009-3, a moment before"),
        pytest.param("2025-01-14 16:00", "2025-01-15 09:30", id="009-4"),
        pytest.param("2025-01-14 15:59:59.999999", None, id="009-4, a moment before"),
    ],
)
def test_what_is_open_outside_the_session_is_closed_and_the_account_locked_until_the_next(
    at: str, until: str | None
) -> None:
    account = desk(new_york(at), MNQ)
    assert told(account) == ([] if until is None else [(LockOut(new_york(until)), Flatten())])
    account.look()
    assert [breach.rule for breach in account.told].count(NAME) == (until is not None)


@pytest.mark.parametrize(("begins", "hours"), [("2025-01-10 16:00", 65.5), ("2025-01-17 16:00", 89.5)])
def test_009_6_and_7_a_lock_lasts_so_long(begins: str, hours: float) -> None:
    account = desk(new_york(begins), MNQ, holidays=("2025-01-20",))
    (lock,) = account.state.lockouts
    assert lock.until == account.now + timedelta(hours=hours)


def test_009_4_a_position_that_is_open_is_closed_at_the_moment_that_the_session_ends() -> None:
    account = desk(new_york("2025-01-14 11:30"), MNQ)
    moment = account.book.next_moment(account.state, account.now)
    assert moment == new_york("2025-01-14 16:00")
    go(account, moment)
    (breach,) = account.told
    assert breach.at == moment
    assert breach.reason == (
        "Outside the session: +1 MNQU5 (09:30 to 16:00 America/New_York), locked until 2025-01-15 08:30 CST"
    )
    assert breach.figures == (("MNQ", "+1 MNQU5"), ("next session of MNQ", "2025-01-15T14:30:00+00:00"))
    account.hold(MNQ, 0)
    go(account, new_york("2025-01-15 09:30"))
    assert account.locked_until() == []
    account.hold(MNQ, 1)
    assert len(account.told) == 1


@pytest.mark.parametrize(
    ("at", "contract_id", "until"),
    [
        pytest.param("2025-01-13 18:30", ES, None, id="009-10, ES"),
        pytest.param("2025-01-13 16:59:59", ES, None, id="009-11, before the break"),
        pytest.param("2025-01-12 18:00", ES, None, id="Sunday evening"),
        pytest.param("2025-01-10 17:00", ES, "2025-01-12 18:00", id="Friday evening"),
    ],
)
def test_a_product_with_a_session_of_its_own_is_locked_by_itself(
    at: str, contract_id: ContractId, until: str | None
) -> None:
    account = desk(new_york(at), contract_id, sessions=ES_HOURS)
    ticker = account.state.ticker(contract_id)
    assert told(account) == ([] if until is None else [(LockOut(new_york(until), ticker), CloseContract(contract_id))])


def test_009_10_the_other_product_stays() -> None:
    account = desk(new_york("2025-01-13 18:30"), ES, MNQ, NQ, sessions=ES_HOURS)
    until = new_york("2025-01-14 09:30")
    assert told(account) == [(LockOut(until, "MNQ"), LockOut(until, "NQ"), CloseContract(MNQ), CloseContract(NQ))]


# each enforcement


def test_without_the_global_session_only_products_with_one_are_judged() -> None:
    account = desk(new_york("2025-01-13 17:30"), ES, MNQ, sessions=ES_HOURS, global_session=False)
    assert told(account) == [(LockOut(new_york("2025-01-13 18:00"), "ES"), CloseContract(ES))]
    assert account.book.next_moment(account.state, account.now) is not None


def test_it_can_be_flat_some_seconds_before_the_end() -> None:
    account = desk(new_york("2025-01-14 15:58:59"), MNQ, flatten_before_seconds=60)
    assert not account.told
    assert account.book.next_moment(account.state, account.now) == new_york("2025-01-14 15:59")
    go(account, new_york("2025-01-14 15:59"))
    assert told(account) == [(LockOut(new_york("2025-01-15 09:30")), Flatten())]


def test_a_clock_that_the_trader_sets_back_does_not_make_the_session_longer() -> None:
    account = desk(new_york("2025-01-14 15:50"), MNQ)
    at = new_york("2025-01-14 15:05")
    account.tell(record(at, broker_at=new_york("2025-01-14 16:05")))
    assert told(account) == [(LockOut(new_york("2025-01-15 09:30")), Flatten())]


# settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"end": time(9, 30)}, "is when the session starts, 09:30"),
        ({"sessions": {"ES": ES_HOURS["ES"], "EP": ES_HOURS["ES"]}}, "EP names the product ES a second time"),
        ({"allowed_days": ()}, "must name at least one day"),
        ({"allowed_days": ("mon", "mon")}, "names a day twice"),
        ({"holidays": ("2025-01-20", "2025-01-20")}, "names 2025-01-20 twice"),
        ({"holidays": ("20 January",)}, "must be written as dates"),
        ({"early_closes": {"2025-13-01": time(12)}}, "must be written as dates"),
        ({"early_closes": {"2025-01-20": time(12), "20250120": time(13)}}, "names a date twice"),
        ({"holidays": ("2025-01-20",), "early_closes": {"2025-01-20": time(12)}}, "keep one of the two"),
        ({"global_session": False}, "nothing would be judged"),
        ({"flatten_before_seconds": -1}, "must be 0 or more"),
        ({"flatten_before_seconds": 23400}, "leaves nothing of the session from 09:30 to 16:00"),
        (
            {"flatten_before_seconds": 600, "sessions": {"ES": Session(time(23, 55), time(0, 5), NEW_YORK)}},
            "leaves nothing of the session from 23:55 to 00:05",
        ),
    ],
)
def test_sessions_that_contradict_themselves_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SessionBlockOutside(**{**US, **settings})


def test_a_session_of_a_product_that_ends_when_it_starts_is_refused() -> None:
    with pytest.raises(ValueError, match="is when the session starts, 18:00"):
        Session(time(18), time(18), NEW_YORK)


# holidays

CALENDAR = Calendar(
    date(2025, 1, 1),
    date(2025, 12, 31),
    {
        "equity": Group(frozenset({"ES", "MNQ"}), (ExchangeSession(time(17), time(16)),)),
        "energy": Group(frozenset({"CL"}), (ExchangeSession(time(17), time(16)),)),
    },
    {
        date(2025, 1, 20): SpecialDay("short", early_closes={"equity": time(12), "energy": time(13, 30)}),
        date(2025, 4, 18): SpecialDay("closed", closed=frozenset({"equity", "energy"})),
        date(2025, 7, 4): SpecialDay("for some", closed=frozenset({"energy"})),
    },
)


@pytest.mark.parametrize(
    ("at", "contract_id", "decisions"),
    [
        pytest.param("2025-01-20 11:59:59", MNQ, (), id="before the early close"),
        pytest.param(
            "2025-01-20 12:00", MNQ, (LockOut(chicago("2025-01-21 08:30"), "MNQ"), CloseContract(MNQ)), id="early close"
        ),
        pytest.param("2025-01-20 12:00", CL, (), id="another product goes on"),
        pytest.param(
            "2025-04-17 15:00", MNQ, (LockOut(chicago("2025-04-21 08:30")), Flatten()), id="the day before a closed day"
        ),
        pytest.param("2025-04-18 10:00", MNQ, (LockOut(chicago("2025-04-21 08:30")), Flatten()), id="a closed day"),
        pytest.param(
            "2025-07-04 10:00", CL, (LockOut(chicago("2025-07-07 08:30"), "CL"), CloseContract(CL)), id="closed for one"
        ),
        pytest.param("2025-07-04 10:00", MNQ, (), id="open for the other"),
    ],
)
def test_the_exchanges_holidays_end_sessions(at: str, contract_id: ContractId, decisions: tuple[Decision, ...]) -> None:
    account = desk(chicago(at), contract_id, calendar=CALENDAR)
    assert told(account) == ([decisions] if decisions else [])
    assert not desk(chicago(at), contract_id, calendar=CALENDAR, respect_holidays=False).told or "15:00" in at


@pytest.mark.parametrize(
    ("at", "until"),
    [
        pytest.param("2025-01-19 18:30", None, id="the evening before belongs to it"),
        pytest.param("2025-01-20 13:00", "2025-01-20 18:00", id="the early close"),
        pytest.param("2025-04-17 18:30", "2025-04-20 18:00", id="the evening before a closed day"),
        pytest.param("2025-04-17 16:59", None, id="before that"),
    ],
)
def test_a_session_over_night_belongs_to_the_trading_date_on_which_it_ends(at: str, until: str | None) -> None:
    account = desk(new_york(at), ES, sessions=ES_HOURS, calendar=CALENDAR)
    assert told(account) == ([] if until is None else [(LockOut(new_york(until), "ES"), CloseContract(ES))])


def test_a_session_across_the_turn_of_the_date_goes_on_after_an_early_close() -> None:
    hours = {"start": time(8), "end": time(19), "zone": ZoneInfo("America/Chicago")}
    account = desk(chicago("2025-01-20 12:00"), MNQ, calendar=CALENDAR, **hours)
    assert told(account) == [(LockOut(chicago("2025-01-20 17:00"), "MNQ"), CloseContract(MNQ))]


def test_early_closes_of_ones_own_are_in_the_zone_of_the_session() -> None:
    early = {"2025-01-14": time(13), "2025-01-15": time(23, 30), "2025-01-16": time(9)}
    account = desk(new_york("2025-01-14 13:00"), MNQ, early_closes=early)
    assert told(account) == [(LockOut(new_york("2025-01-15 09:30")), Flatten())]
    assert not desk(new_york("2025-01-15 15:00"), MNQ, early_closes=early).told
    assert desk(new_york("2025-01-16 09:30"), MNQ, early_closes=early).told


def test_the_calendar_that_comes_with_the_program_is_respected() -> None:
    """Thanksgiving of 2026 and the day after: equity futures end at 12:00 and 12:15 in Chicago."""
    calendar = shipped_calendar()
    account = desk(chicago("2026-11-26 10:00"), EP, calendar=calendar)
    assert not account.told
    closes = [account.book.next_moment(account.state, account.now)]
    go(account, chicago("2026-11-26 12:00"))
    assert told(account) == [(LockOut(chicago("2026-11-27 08:30"), "ES"), CloseContract(EP))]
    account = desk(chicago("2026-11-27 10:00"), EP, calendar=calendar)
    closes.append(account.book.next_moment(account.state, account.now))
    assert closes == [chicago("2026-11-26 12:00"), chicago("2026-11-27 12:15")]
    christmas = desk(chicago("2026-12-25 10:00"), EP, calendar=calendar)
    assert told(christmas) == [(LockOut(chicago("2026-12-28 08:30")), Flatten())]


def test_who_runs_for_years_keeps_no_more_days_and_locks_as_on_the_first() -> None:
    account = desk(new_york("2022-01-03 10:00"), MNQ)
    rule = account.book.rules[NAME]
    assert isinstance(rule, SessionBlockOutside)
    most = 0
    while account.now < new_york("2025-01-14 17:00"):
        rule.next_moment(account.state, account.now)
        go(account, account.now + timedelta(days=1))
        most = max(most, len(rule._known))
    assert most <= DAYS_KNOWN
    go(account, new_york("2025-01-17 17:00"))
    assert account.locked_until() == desk(account.now, MNQ).locked_until() == [new_york("2025-01-20 09:30")]


def test_who_knows_no_holidays_is_blind() -> None:
    def blind(calendar: Calendar | None, at: str = "2025-01-14 10:00", **settings: Any) -> str | None:
        account = desk(chicago(at), calendar=calendar, **settings)
        return account.book.rules[NAME].blind(account.state, account.now)

    assert blind(None) == "there is no exchange calendar, so no holiday and no early close is known"
    assert blind(CALENDAR) is None
    assert blind(CALENDAR, "2026-01-05 10:00") == (
        "the exchange calendar ended on 2025-12-31, so no holiday and no early close is known"
    )
    assert blind(None, respect_holidays=False) is None


# the nights on which the clocks change

NIGHT: dict[str, Any] = {"zone": ZoneInfo("America/Chicago"), "allowed_days": DAYS}


@pytest.mark.parametrize(
    ("start", "end", "moments"),
    [
        pytest.param("02:30", "05:00", ["2025-03-09T08:30", "2025-03-09T10:00"], id="a missing start moves forward"),
        pytest.param("22:00", "02:30", ["2025-03-09T04:00", "2025-03-09T08:30"], id="a missing end moves forward"),
        pytest.param("01:30", "03:00", ["2025-11-02T06:30", "2025-11-02T09:00"], id="of a doubled start the first"),
        pytest.param("22:00", "01:30", ["2025-11-02T03:00", "2025-11-02T06:30"], id="of a doubled end the first"),
    ],
)
def test_local_times_that_are_missing_or_come_twice(start: str, end: str, moments: list[str]) -> None:
    begins, ends = (datetime.fromisoformat(f"{moment}+00:00") for moment in moments)
    settings = {**NIGHT, "start": time.fromisoformat(start), "end": time.fromisoformat(end)}
    for at, inside in (
        (begins - timedelta(seconds=1), False),
        (begins, True),
        (ends - timedelta(seconds=1), True),
        (ends, False),
    ):
        assert bool(desk(at, MNQ, **settings).told) != inside, at


@pytest.mark.parametrize(
    ("held", "at", "moment"),
    [
        ((), "2025-01-14 10:00", None),
        ((MNQ,), "2025-01-14 10:00", "2025-01-14 16:00"),
        ((MNQ, ES), "2025-01-14 10:00", "2025-01-14 16:00"),
        ((ES,), "2025-01-14 10:00", "2025-01-14 17:00"),
        ((ES,), "2025-01-10 18:00", "2025-01-12 18:00"),
    ],
)
def test_its_moments_are_the_ends_and_starts_of_the_sessions_of_what_is_open(
    held: tuple[ContractId, ...], at: str, moment: str | None
) -> None:
    account = desk(new_york(at), *held, sessions=ES_HOURS)
    named = account.book.rules[NAME].next_moment(account.state, account.now)
    assert named == (None if moment is None else new_york(moment))


def _five_minutes(number: int) -> time:
    return time(number % 288 // 12, number % 12 * 5)


SESSIONS = st.builds(
    lambda start, length, zone, days: Session(_five_minutes(start), _five_minutes(start + length), zone, days),
    st.integers(0, 287),
    st.integers(2, 287),
    st.sampled_from(["America/Chicago", "America/New_York", "Europe/Berlin", "Asia/Tokyo"]).map(ZoneInfo),
    st.sets(st.sampled_from(DAYS), min_size=1).map(lambda days: tuple(sorted(days, key=DAYS.index))),
)
NIGHTS = st.sampled_from([datetime(2025, 3, 8, 18), datetime(2025, 11, 1, 18), datetime(2025, 1, 19, 12)])  # noqa: DTZ001


def walk(rule: SessionBlockOutside, start: datetime, hours: int, step: timedelta | None) -> list[tuple[datetime, Any]]:
    """Judge for some hours what two contracts hold, at every step or only at the moments that are named.

    Closes are refused all the time, and the broker's clock is heard at every judgement.
    """
    rows = [position(MNQ, 1), position(ES, -1)]
    account = Desk({NAME: rule}, start, terms=Terms(calendar=CALENDAR), positions=rows)
    end = start + timedelta(hours=hours)
    while True:
        moment = account.book.next_moment(account.state, account.now) if step is None else account.now + step
        if step is None and moment is not None and account.state.breached:
            moment = max(moment, account.now + timedelta(minutes=5))  # what stands is told again every 2 s
        if moment is None or moment > end:
            return [(breach.at, breach.decisions) for breach in account.told if breach.rule == NAME]
        account.now = moment
        account.tell(record(account.now))


@settings(max_examples=15)
@given(SESSIONS, st.none() | SESSIONS, NIGHTS, st.sampled_from(["close", "close_and_lockout"]), st.booleans())
def test_judging_at_its_moments_finds_what_judging_all_the_time_finds(
    everybody: Session, of_es: Session | None, start: datetime, enforcement: Any, early: bool
) -> None:
    """All that happens here does at a whole five minutes, so judging at each of these is judging all the time."""
    sessions: Mapping[str, Session] = {} if of_es is None else {"ES": of_es}
    rule = SessionBlockOutside(
        start=everybody.start,
        end=everybody.end,
        zone=everybody.zone,
        allowed_days=everybody.allowed_days,
        sessions=sessions,
        enforcement=enforcement,
        flatten_before_seconds=300 * early,
    )
    begin = start.replace(tzinfo=ZoneInfo("UTC"))
    assert walk(rule, begin, 16, None) == walk(rule, begin, 16, timedelta(minutes=5))


@given(SESSIONS, st.datetimes(datetime(2025, 1, 2), datetime(2025, 12, 28), timezones=st.just(ZoneInfo("UTC"))))  # noqa: DTZ001
def test_a_lock_ends_with_a_start_on_an_allowed_day_and_no_session_lies_before(hours: Session, at: datetime) -> None:
    rule = SessionBlockOutside(
        start=hours.start, end=hours.end, zone=hours.zone, allowed_days=hours.allowed_days, respect_holidays=False
    )
    account = Desk({NAME: rule}, at, positions=[position(MNQ, 1)])
    for lock in account.state.lockouts:
        assert lock.until is not None
        local = lock.until.astimezone(hours.zone)
        allowed: tuple[Day, ...] = hours.allowed_days
        assert DAYS[local.weekday()] in allowed
        inside = Desk({NAME: rule}, lock.until, positions=[position(MNQ, 1)])
        assert not inside.told
        before = Desk({NAME: rule}, lock.until - timedelta(seconds=1), positions=[position(MNQ, 1)])
        assert [each.until for each in before.state.lockouts] in ([lock.until], [])
