"""Flat by: at its time, until the trading day turns, before each close, and the warnings before it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import CloseContract, Decision, Flatten, LockOut
from flatguard.model.events import ClockReached
from flatguard.model.ids import ContractId
from flatguard.rules._rule import Measure
from flatguard.rules.flat_by import NAME, FlatBy
from flatguard.shipped import shipped_calendar
from tests.fakes.desk import ACCOUNT, EP, MNQ, Desk, chicago, order, position, record

ZC = ContractId("CON.F.US.ZCE.Z26")
CALENDAR = shipped_calendar()


def desk(at: str, *held: ContractId, terms: Terms | None = None, **settings: Any) -> Desk:
    rows = [position(contract_id, 2) for contract_id in held]
    return Desk({NAME: FlatBy(**settings)}, at, terms=terms or Terms(calendar=CALENDAR), positions=rows)


def told(account: Desk) -> list[tuple[Decision, ...]]:
    return [breach.decisions for breach in account.told if breach.rule == NAME]


def go(account: Desk, moment: datetime) -> None:
    """Nothing happens until ``moment``; the broker's clock is heard then."""
    account.now = moment
    account.tell(record(moment))


# at the time


@pytest.mark.parametrize(
    ("at", "until"),
    [
        pytest.param("2026-08-12 15:09:59.999999", None, id="a moment before"),
        pytest.param("2026-08-12 16:59:59", "2026-08-12 17:00", id="until the day turns"),
        pytest.param("2026-08-12 17:00", None, id="the next day"),
        pytest.param("2026-04-02 15:10", "2026-04-02 17:00", id="before a day that trades in the morning"),
        pytest.param("2026-12-24 15:10", "2026-12-27 17:00", id="before Christmas and the weekend"),
        pytest.param("2026-03-06 15:10", "2026-03-08 17:00", id="the clocks go forward"),
        pytest.param("2026-10-30 15:10", "2026-11-01 17:00", id="the clocks go back"),
    ],
)
def test_what_is_open_from_then_on_is_closed_and_the_account_locked(at: str, until: str | None) -> None:
    account = desk(at, MNQ)
    assert told(account) == ([] if until is None else [(LockOut(chicago(until)), Flatten())])
    account.look()
    assert len(told(account)) == (until is not None)


def test_the_reason_says_what_was_open() -> None:
    account = desk("2026-08-12 10:00", MNQ)
    account.order(order(7, EP))
    go(account, chicago("2026-08-12 15:10"))
    breach = account.told[-1]
    assert breach.reason == ("Flat by 15:10 CDT: +2 MNQU5, order 7 (buy 1 ESU5), locked until 2026-08-12 17:00 CDT")
    assert breach.figures == (
        ("flat by", "2026-08-12T20:10:00+00:00"),
        ("open", "+2 MNQU5, order 7 (buy 1 ESU5)"),
    )


def test_a_clock_that_the_trader_sets_back_does_not_put_it_off() -> None:
    account = desk("2026-08-12 15:00", MNQ)
    account.tell(record(chicago("2026-08-12 14:15"), broker_at=chicago("2026-08-12 15:15")))
    assert told(account) == [(LockOut(chicago("2026-08-12 17:00")), Flatten())]


@pytest.mark.parametrize(
    ("zone", "at", "reset", "day", "moment"),
    [
        ("Europe/Berlin", "21:55", "17:00", "2026-03-11 10:00", "2026-03-11 15:55"),
        ("Europe/Berlin", "21:55", "17:00", "2026-04-08 10:00", "2026-04-08 14:55"),
        ("Asia/Tokyo", "05:10", "17:00", "2026-08-12 10:00", "2026-08-12 15:10"),
        ("America/Chicago", "02:30", "17:00", "2026-03-07 20:00", "2026-03-08 03:30"),
        ("America/Chicago", "01:30", "17:00", "2026-10-31 20:00", "2026-11-01 01:30"),
        ("Asia/Tokyo", "07:30", "17:00", "2026-10-31 20:00", "2026-11-01 16:30"),
    ],
)
def test_in_any_zone_it_comes_once_a_trading_day(zone: str, at: str, reset: str, day: str, moment: str) -> None:
    terms = Terms(reset=time.fromisoformat(reset))
    account = desk(day, MNQ, terms=terms, time=time.fromisoformat(at), zone=ZoneInfo(zone), warn_before=timedelta(0))
    assert told(account) == []
    assert account.book.rules[NAME].next_moment(account.state, account.now) == chicago(moment)


def test_a_time_that_leaves_nothing_of_the_trading_day_is_told_and_not_judged() -> None:
    account = desk("2026-08-12 16:59", MNQ, time=time(17))
    assert told(account) == []
    blind = account.book.rules[NAME].blind(account.state, account.now)
    assert blind == "17:00 America/Chicago does not come before the trading day turns, so it is not judged"
    assert desk("2026-08-12 16:59").book.rules[NAME].blind(account.state, account.now) is None


def test_before_a_trading_day_is_known_nothing_is_judged() -> None:
    account = desk("2026-08-12 15:20")
    unknown = AccountState(ACCOUNT)
    assert FlatBy().judge(unknown, ClockReached(account.now)) is None
    assert FlatBy().blind(unknown, account.now) is None


# before each close


@pytest.mark.parametrize(
    ("at", "held", "decisions"),
    [
        pytest.param(
            "2026-08-12 13:15", ZC, (LockOut(chicago("2026-08-12 17:00"), "ZC"), CloseContract(ZC)), id="grains"
        ),
        pytest.param("2026-08-12 13:15", MNQ, (), id="a product that closes after the time"),
        pytest.param(
            "2026-11-26 11:55",
            MNQ,
            (LockOut(chicago("2026-11-26 17:00"), "MNQ"), CloseContract(MNQ)),
            id="Thanksgiving",
        ),
        pytest.param("2026-11-26 13:00", ZC, (), id="a day on which it does not trade"),
    ],
)
def test_a_product_that_closes_earlier_is_closed_before(
    at: str, held: ContractId, decisions: tuple[Decision, ...]
) -> None:
    account = desk(at, held, before_close=timedelta(minutes=5))
    assert told(account) == ([decisions] if decisions else [])
    assert not told(desk(at, held))


def test_its_lock_does_not_stand_in_for_the_accounts() -> None:
    account = desk("2026-08-12 13:15", ZC, MNQ, before_close=timedelta(minutes=5))
    assert account.told[0].reason == "ZC flat by 13:15 CDT: +2 ZCZ6, ZC locked until 2026-08-12 17:00 CDT"
    assert account.told[0].figures == (("ZC flat by", "2026-08-12T18:15:00+00:00"), ("ZC", "+2 ZCZ6"))
    account.hold(ZC, 0)
    go(account, chicago("2026-08-12 15:10"))
    assert told(account)[1:] == [(LockOut(chicago("2026-08-12 17:00")), Flatten())]


def test_without_a_lock_a_product_is_closed_again_whenever_it_appears() -> None:
    account = desk("2026-08-12 13:15", ZC, before_close=timedelta(minutes=5), lockout=False)
    account.hold(ZC, 0)
    account.hold(ZC, 1)
    assert told(account) == [(CloseContract(ZC),)] * 2


def test_without_a_calendar_no_close_is_known() -> None:
    account = desk("2026-08-12 13:15", ZC, terms=Terms(), before_close=timedelta(minutes=5))
    assert told(account) == []
    blind = account.book.rules[NAME].blind(account.state, account.now)
    assert blind == "there is no exchange calendar, so no holiday and no early close is known"


# warnings


def warnings(account: Desk, *moments: str) -> list[tuple[int, str]]:
    told: list[tuple[int, str]] = []
    for moment in moments:
        go(account, chicago(moment))
        told += [(near.percent, near.text) for near in account.last.near]
    return told


def test_who_still_has_something_open_is_warned_15_and_6_and_3_minutes_before() -> None:
    account = desk("2026-08-12 14:54", MNQ)
    day = "2026-08-12"
    moments = [f"{day} 14:55", f"{day} 15:03:59", f"{day} 15:04", f"{day} 15:07", f"{day} 15:09"]
    assert warnings(account, *moments) == [
        (0, "flat by 15:10 CDT, 15 minutes left: +2 MNQU5 open"),
        (60, "flat by 15:10 CDT, 6 minutes left: +2 MNQU5 open"),
        (80, "flat by 15:10 CDT, 3 minutes left: +2 MNQU5 open"),
    ]


def test_who_enters_late_is_warned_at_once_and_who_enters_again_again() -> None:
    account = desk("2026-08-12 15:08:29")
    for _ in range(2):
        texts = [near.text for near in account.hold(MNQ, -1).near]
        left = int((chicago("2026-08-12 15:10") - account.now).total_seconds())
        assert texts == [f"flat by 15:10 CDT, {left} seconds left: -1 MNQU5 open"]
        assert account.state.warned == {NAME: 80}
        account.hold(MNQ, 0)
        assert account.state.warned == {}


def test_a_product_that_has_to_be_flat_earlier_is_named() -> None:
    account = desk("2026-08-12 13:00", ZC, MNQ, before_close=timedelta(minutes=5))
    assert [near.text for near in account.last.near] == ["ZC flat by 13:15 CDT, 15 minutes left: +2 ZCZ6 open"]
    account.hold(ZC, 0)
    assert account.state.warned == {}


@pytest.mark.parametrize("warn_before", [timedelta(0), timedelta(minutes=15)])
def test_its_warnings_are_a_matter_of_its_own_settings(warn_before: timedelta) -> None:
    account = desk("2026-08-12 15:04", MNQ, terms=Terms(warn_at=()), warn_before=warn_before)
    assert len(account.last.near) == bool(warn_before)
    measure = account.book.rules[NAME].measure(account.state, account.now)
    assert (None if measure is None else measure.texts) == (("540 s", "900 s", "360 s") if warn_before else None)


def test_times_that_no_day_has_room_for_are_refused() -> None:
    with pytest.raises(ValueError, match="must be 12 hours or less"):
        FlatBy(warn_before=timedelta(hours=13))


class Wordless(FlatBy):
    """A rule that fails to find words for its warning."""

    def near(self, measure: Measure, state: AccountState, at: datetime) -> str:
        raise KeyError("words")


def test_a_warning_without_words_is_given_all_the_same() -> None:
    account = Desk({NAME: Wordless()}, "2026-08-12 15:04", positions=[position(MNQ, 1)])
    (near,) = account.last.near
    assert (near.account_id, near.percent, near.text) == (ACCOUNT, 60, "60 % of its limit")
    assert [failure.rule for failure in account.last.failed] == [NAME]


# its moments


def walk(rule: FlatBy, start: datetime, step: timedelta | None, terms: Terms) -> list[Any]:
    """Judge a day of what nobody closes, at every step or only at the moments that are named."""
    account = Desk({NAME: rule}, start, terms=terms, positions=[position(MNQ, 1), position(ZC, 1)])
    seen: list[Any] = []
    end = start + timedelta(hours=26)
    while True:
        seen += [(near.at, near.percent, near.text) for near in account.last.near]
        moment = account.book.next_moment(account.state, account.now) if step is None else account.now + step
        if step is None and moment is not None and account.state.breached:
            moment = max(moment, account.now + timedelta(minutes=5))  # what stands is told again every 2 s
        if moment is None or moment > end:
            return [*seen, *((breach.at, breach.decisions) for breach in account.told)]
        go(account, moment)


@settings(max_examples=15)
@given(
    st.sampled_from([date(2026, 3, 7), date(2026, 10, 31), date(2026, 11, 25), date(2026, 8, 12)]),
    st.builds(time, st.integers(0, 23), st.sampled_from([0, 5, 10, 30, 55])),
    st.sampled_from(["America/Chicago", "Europe/Berlin", "Asia/Tokyo", "Australia/Lord_Howe"]).map(ZoneInfo),
    st.sampled_from([0, 5, 30]),
    st.sampled_from([0, 25, 100]),
)
def test_judging_at_its_moments_finds_what_judging_all_the_time_finds(
    day: date, at: time, zone: ZoneInfo, before_close: int, warn_before: int
) -> None:
    """All that happens here does at a whole five minutes, so judging at each of these is judging all the time."""
    rule = FlatBy(at, zone, True, timedelta(minutes=before_close), timedelta(minutes=warn_before))
    start = datetime.combine(day, time(6), UTC)
    terms = Terms(calendar=CALENDAR)
    assert walk(rule, start, None, terms) == walk(rule, start, timedelta(minutes=5), terms)
