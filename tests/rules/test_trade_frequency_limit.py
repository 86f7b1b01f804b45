"""Trade frequency: every worked example, then what counts, what a cooldown allows, and what is told late or again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.decisions import LockOut
from flatguard.model.events import LockLifted, TradeMade
from flatguard.model.ids import OrderId
from flatguard.model.lockouts import LockKind
from flatguard.model.trading import OrderStatus, Side, Trade
from flatguard.rules.trade_frequency_limit import NAME, TradeFrequencyLimit
from tests.fakes.desk import ACCOUNT, MNQ, Desk, chicago, order, record, trade

TEN = chicago("2025-01-15 10:00")
RESET = chicago("2025-01-15 17:00")
HOUR = timedelta(hours=1)
LIMITS = {"per_minute": 3, "per_hour": 10, "per_session": 50}


def desk(**settings: Any) -> Desk:
    return Desk({NAME: TradeFrequencyLimit(**({**LIMITS, **settings}))}, TEN)


def fill(number: int, seconds: float, of: int | None = None, profit: int | None = None, **more: Any) -> Trade:
    row = trade(number, TEN + timedelta(seconds=seconds), profit, **more)
    return evolve(row, order_id=OrderId(number if of is None else of))


def tell(account: Desk, row: Trade, *, delay: float = 0.05) -> None:
    account.now = max(account.now, row.made_at + timedelta(seconds=delay))
    account.tell(TradeMade(account.now, row))


def trades(account: Desk, *seconds: float) -> Desk:
    for number, at in enumerate(seconds, 1):
        tell(account, fill(number, at))
    return account


def ends(account: Desk) -> list[float]:
    """The ends of what was found, in seconds after ten."""
    locks = [lock for breach in account.told if breach.rule == NAME for lock in breach.lockouts]
    return [(lock.until - TEN).total_seconds() for lock in locks if lock.until is not None]


EVERY_5_MIN = tuple(300.0 * number for number in range(11))


@pytest.mark.parametrize(
    ("settings", "seconds", "until"),
    [
        pytest.param({}, (0, 10, 20), [], id="006-1"),
        pytest.param({"breach_on": "reach"}, (0, 10, 20), [80], id="006-1, reach"),
        pytest.param({}, (0, 10, 20, 30), [90], id="006-2"),
        pytest.param({}, (0, 10, 20, 70), [], id="006-3"),
        pytest.param({}, (0, 10, 20, 60), [], id="006-4, exactly 60 s old is outside"),
        pytest.param({}, (0, 10, 20, 59.999999), [119.999999], id="006-4, a moment earlier"),
        pytest.param({}, EVERY_5_MIN, [3000 + 1800], id="006-5"),
        pytest.param({}, tuple(400.0 * n for n in range(51)), [25200], id="006-6"),
        pytest.param(
            {"cooldown_per_session": timedelta(hours=1)},
            tuple(400.0 * n for n in range(51)),
            [23600],
            id="006-6, an hour",
        ),
        pytest.param({}, (*(300.0 * n for n in range(7)), 2000, 2010, 2020, 2030), [3830], id="006-7"),
        pytest.param({"cooldown_per_minute": timedelta(seconds=120)}, (0, 10, 20, 30), [150], id="006-10"),
        pytest.param({"per_minute": 1, "breach_on": "reach"}, (0,), [60], id="one is reached by one"),
    ],
)
def test_one_trade_too_many_begins_a_cooldown(settings: dict[str, Any], seconds: tuple[float, ...], until: Any) -> None:
    account = trades(desk(**settings), *seconds)
    assert ends(account) == until
    if until:
        (breach,) = account.told
        assert [lock.kind for lock in breach.lockouts] == [LockKind.COOLDOWN]
        assert (breach.cause, breach.on_record) == (f"trade {len(seconds)}", False)
        account.look()
        account.read(account.state.trades.values())
        assert len(account.told) == 1


def test_006_7_all_windows_are_in_the_reason_and_the_longest_cooldown_counts() -> None:
    account = trades(desk(), *(300.0 * n for n in range(7)), 2000, 2010, 2020, 2030)
    (breach,) = account.told
    assert breach.reason.startswith(
        "Trade frequency: 4 orders in 60 s, limit 3; 11 orders in 1 h, limit 10, cooling down until 2025-01-15 11:03:50"
    )
    assert breach.figures == (("orders in 60 s", "4 of 3"), ("orders in 1 h", "11 of 10"))


def test_the_session_is_named_as_the_trading_day() -> None:
    account = trades(desk(per_minute=None, per_hour=None, per_session=1), 0, 10)
    (breach,) = account.told
    assert breach.reason.startswith("Trade frequency: 2 orders in the trading day, limit 1, cooling down until")
    assert breach.decisions == (LockOut(RESET, kind=LockKind.COOLDOWN),)


def test_006_8_a_voided_fill_is_not_counted() -> None:
    account = trades(desk(), 0, 10, 20)
    tell(account, fill(2, 10, voided=True))
    tell(account, fill(4, 30))
    assert account.told == []


def test_a_cooldown_stays_though_a_fill_that_led_to_it_is_voided() -> None:
    account = trades(desk(), 0, 10, 20, 30)
    tell(account, fill(1, 0, voided=True))
    assert account.locked_until() == [TEN + timedelta(seconds=90)]


@pytest.mark.parametrize(("count", "seen"), [("orders", 1), ("executions", 3), ("entries", 1)])
def test_006_9_one_order_filled_in_three_pieces(count: str, seen: int) -> None:
    account = desk(count=count)
    for number, size in ((1, 2), (2, 2), (3, 1)):
        tell(account, fill(number, number / 1000, of=77, size=size))
    measure = account.book.rules[NAME].measure(account.state, account.now)
    assert measure is not None
    assert measure.texts == (f"{seen} {count} in 60 s", f"3 {count}", f"{3 - seen} {count}")


@pytest.mark.parametrize(("count", "breaches"), [("orders", 1), ("executions", 1), ("entries", 0)])
def test_what_only_closes_is_no_entry(count: str, breaches: int) -> None:
    account = desk(count=count)
    for number, profit in ((1, None), (2, 5), (3, None), (4, -5)):
        tell(account, fill(number, number, profit=profit))
    assert len(account.told) == breaches


@pytest.mark.parametrize("count", ["orders", "executions"])
def test_what_only_reduces_during_a_cooldown_counts_and_does_not_extend_it(count: str) -> None:
    account = trades(desk(count=count), 0, 10, 20, 30)
    for number, at in ((5, 40), (6, 50), (7, 60)):
        tell(account, fill(number, at, profit=-5))
    assert ends(account) == [90]
    tell(account, fill(8, 65))
    assert ends(account) == [90, 125]
    tell(account, fill(9, 126, profit=5))
    assert ends(account) == [90, 125]


def test_a_reduction_that_is_one_too_many_begins_a_cooldown_where_none_runs() -> None:
    account = desk()
    for number in range(4):
        tell(account, fill(number + 1, number, profit=5))
    assert ends(account) == [63]


@pytest.mark.parametrize("again", [fill(1, 0), fill(4, 30)])
def test_a_fill_told_again_counts_once(again: Trade) -> None:
    """An opening half-turn has been seen to be told again when its position closes."""
    account = trades(desk(), 0, 10, 20)
    tell(account, again)
    tell(account, again)
    assert len(account.told) == (again.id == 4)
    account.tell(LockLifted(account.now, ACCOUNT, NAME, "account", "ann", "a mistake"))
    tell(account, again)
    account.read(account.state.trades.values())
    assert account.locked_until() == []


def test_after_a_reconnection_nothing_is_found_again() -> None:
    account = trades(desk(), 0, 10, 20, 30)
    account.later(5).read(account.state.trades.values())
    account.later(3600).read(account.state.trades.values())
    assert len(account.told) == 1
    assert account.locked_until() == []


def test_fills_told_late_and_in_any_order_are_judged_by_their_own_times() -> None:
    account = desk()
    for number, at in ((4, 30), (2, 10), (3, 20), (1, 0)):
        tell(account, fill(number, at))
    assert ends(account) == [90]


def test_a_cooldown_that_is_over_when_its_fill_becomes_known_sets_no_lock() -> None:
    rows = [fill(number, 10 * number) for number in range(4)]
    for late, found in ((89.9, 1), (90, 0)):
        account = desk()
        account.later(late).read(rows)
        assert len(account.told) == found


def test_a_clock_that_is_ahead_does_not_end_it() -> None:
    account = desk()
    account.now = TEN + timedelta(seconds=600)
    ahead = record(
        account.now, [fill(number, 10 * number) for number in range(4)], broker_at=TEN + timedelta(seconds=31)
    )
    account.tell(ahead)
    assert ends(account) == [90]


def test_after_a_crash_the_same_cooldown_is_found_again_and_one_that_is_over_is_not() -> None:
    account = trades(desk(), 0, 10, 20, 30)
    tell(account, fill(5, 40, profit=5))
    again = account.restarted()
    assert [breach.id for breach in again.told] == [breach.id for breach in account.told]
    assert again.locked_until() == account.locked_until()
    account.now = TEN + timedelta(seconds=90)
    assert account.restarted().told == []


def test_orders_that_could_add_go_and_an_exit_is_no_breach_though_its_row_comes_last() -> None:
    account = desk()
    account.hold(MNQ, 2)
    exit_order = order(5, MNQ, Side.SELL, 2)
    account.order(exit_order)
    account.order(order(6, MNQ, Side.BUY, 1))
    trades(account, 2, 10, 20, 30)
    assert [breach.rule for breach in account.told] == [NAME, "lockout"]
    account.order(order(6, MNQ, Side.BUY, 1, status=OrderStatus.CANCELLED))
    told = len(account.told)
    tell(account, fill(9, 40, of=5, profit=10, size=2))
    account.hold(MNQ, 0)
    account.order(evolve(exit_order, status=OrderStatus.FILLED))
    assert account.told[told:] == []


def test_the_window_of_which_most_is_used_is_shown() -> None:
    account = trades(desk(), 0, 10, *(100.0 * n for n in range(1, 6)))
    account.now = TEN + timedelta(seconds=510)
    measure = account.book.rules[NAME].measure(account.state, account.now)
    assert measure is not None
    assert measure.texts == ("7 orders in 1 h", "10 orders", "3 orders")


def test_counting_begins_anew_with_the_trading_day() -> None:
    account = desk(per_minute=None, per_hour=None, per_session=2)
    trades(account, 0, 10, 20)
    assert account.locked_until() == [RESET]
    account.at("17:00").read()
    tell(account, fill(8, 7 * 3600 + 1))
    assert account.locked_until() == []
    assert len(account.told) == 1


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"per_minute": None, "per_hour": None, "per_session": None}, "set at least one"),
        ({"per_minute": 11}, "a shorter time cannot have the higher limit"),
        ({"per_hour": 51}, "a shorter time cannot have the higher limit"),
        ({"per_hour": None, "per_minute": 51}, "a shorter time cannot have the higher limit"),
        ({"per_minute": 0}, "must be 1 or more"),
        ({"cooldown_per_minute": timedelta(0)}, "must be between 1 s and 24 h"),
        ({"cooldown_per_session": timedelta(days=2)}, "must be between 1 s and 24 h"),
    ],
)
def test_limits_that_make_no_sense_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        desk(**settings)


GAPS = st.lists(st.tuples(st.sampled_from([0, 1, 5, 20, 60, 300]), st.booleans()), min_size=1, max_size=12)


@given(GAPS, st.sampled_from(["orders", "executions", "entries"]))
def test_judged_at_events_and_named_moments_it_finds_what_judging_every_second_finds(
    gaps: list[tuple[int, bool]], count: str
) -> None:
    settings: dict[str, Any] = {"per_minute": 2, "per_hour": 4, "per_session": 9, "count": count}
    named, always = desk(**settings), desk(**settings)
    at = 0
    for number, (gap, closes) in enumerate(gaps, 1):
        row = fill(number, at + gap, profit=1 if closes else None)
        while (moment := named.book.next_moment(named.state, named.now)) is not None and moment < row.made_at:
            named.now = moment
            named.look()
        for second in range(at + 1, at + gap):
            always.now = TEN + timedelta(seconds=second, milliseconds=50)
            always.look()
        at += gap
        for account in (named, always):
            account.now = row.made_at + timedelta(milliseconds=50)
            account.read([row])
    assert [(b.id, b.at, b.decisions) for b in named.told] == [(b.id, b.at, b.decisions) for b in always.told]


@given(st.lists(st.integers(0, 200), min_size=1, max_size=12), st.integers(1, 4))
def test_it_breaches_exactly_where_counting_by_hand_does(seconds: list[int], limit: int) -> None:
    seconds.sort()
    account = trades(desk(per_minute=limit, per_hour=None, per_session=None), *seconds)
    found: list[datetime] = []
    for number, at in enumerate(seconds):
        if len([one for one in seconds[: number + 1] if one > at - 60]) > limit:
            found.append(TEN + timedelta(seconds=at + 60))
    told = [lock.until for breach in account.told for lock in breach.lockouts]
    assert told == list(dict.fromkeys(found))
