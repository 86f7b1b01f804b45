"""Daily drawdown: the floor under the day's best, with what is open and without, and what cannot be seen."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.daemon.recovery import awakened
from flatguard.journal.codec import decode, encode
from flatguard.model.account import AccountState
from flatguard.model.decisions import Flatten, LockOut
from flatguard.model.events import PositionChanged
from flatguard.model.trading import Side
from flatguard.rules.daily_drawdown import NAME, DailyDrawdown
from tests.fakes.desk import ES, MNQ, Desk, chicago, exposure, position, record, trade

RESET = chicago("2025-01-15 17:00")
LIMIT = Decimal(400)


def desk(limit: Decimal = LIMIT, **settings: Any) -> Desk:
    account = Desk({NAME: DailyDrawdown(limit, **{"include_fees": False, **settings})})
    hold(account, 0)
    return account


def hold(account: Desk, size: int) -> None:
    """Two MNQ from 21000: a point is $4. The position is told after its fill."""
    account.tell(PositionChanged(account.later(1).now, position(MNQ, size, "21000", chicago("2025-01-15 09:59"))))


def bought(account: Desk) -> None:
    account.trade(side=Side.BUY, size=2)
    hold(account, 2)


def sold(account: Desk, profit: str) -> None:
    account.trade(profit, size=2)
    hold(account, 0)


def round_trip(account: Desk, profit: str) -> None:
    bought(account)
    sold(account, profit)


def at(account: Desk, dollars: int) -> bool:
    """The price makes ``dollars`` of the two; whether that is found."""
    return bool(account.later(1).quote(MNQ, last=str(21000 + Decimal(dollars) / 4)).found)


def measured(account: Desk) -> tuple[str, str, str] | None:
    measure = account.book.rules[NAME].measure(account.state, account.now)
    return None if measure is None else measure.texts


def blind(account: Desk) -> str | None:
    return account.book.rules[NAME].blind(account.state, account.now)


# the floor


@pytest.mark.parametrize(
    ("settings", "peak", "floor"),
    [
        ({}, 0, -400),
        ({}, 600, 200),
        ({"starts_at_profit": "500"}, 499, None),
        ({"starts_at_profit": "500"}, 500, 100),
        ({"profit_target": "1000", "keep": "700"}, 999, 599),
        ({"profit_target": "1000", "keep": "700"}, 1000, 700),
        ({"profit_target": "1000", "keep": "700"}, 1200, 800),
        ({"profit_target": "300", "keep": "0", "starts_at_profit": "500"}, 300, 0),
    ],
)
def test_the_higher_of_the_two_floors_counts(settings: dict[str, str], peak: int, floor: int | None) -> None:
    rule = DailyDrawdown(LIMIT, **{key: Decimal(amount) for key, amount in settings.items()})  # type: ignore[arg-type]
    assert rule.floor(Decimal(peak)) == floor


@pytest.mark.parametrize(
    ("settings", "dollars", "found_on"),
    [
        pytest.param({}, [600, 201, 200], 3, id="inclusive, from the best"),
        pytest.param({}, [-399, -400], 2, id="from zero, where it only loses"),
        pytest.param({}, [100, 300, 50, 600, 201], None, id="the best rises, the fall begins anew"),
        pytest.param({"starts_at_profit": Decimal(500)}, [499, -600], None, id="not judged before the profit"),
        pytest.param({"starts_at_profit": Decimal(500)}, [500, 100], 2, id="judged from the profit on"),
        pytest.param({"profit_target": Decimal(1000), "keep": Decimal(700)}, [1000, 701, 700], 3, id="what is kept"),
        pytest.param({"profit_target": Decimal(1000), "keep": Decimal(700)}, [999, 700], None, id="short of it"),
    ],
)
def test_the_day_ends_when_it_stands_at_its_floor(
    settings: dict[str, Any], dollars: list[int], found_on: int | None
) -> None:
    account = desk(**settings)
    bought(account)
    found = [at(account, amount) for amount in dollars]
    assert found == [number == found_on for number in range(1, len(dollars) + 1)]
    assert account.locked_until() == ([RESET] if found_on else [])


@pytest.mark.parametrize(
    ("settings", "profits", "found_on"),
    [
        pytest.param({}, ["600", "-399.99", "-0.01"], 3, id="inclusive, from the best"),
        pytest.param({}, ["-400"], 1, id="from zero"),
        pytest.param({"profit_target": Decimal(1000), "keep": Decimal(700)}, ["1000", "-300"], 2, id="what is kept"),
        pytest.param({"starts_at_profit": Decimal(500)}, ["-600", "900"], None, id="not judged before the profit"),
    ],
)
def test_without_what_is_open_the_fills_are_judged(
    settings: dict[str, Any], profits: list[str], found_on: int | None
) -> None:
    account = desk(include_open=False, **settings)
    for number, profit in enumerate(profits, 1):
        account.trade(profit)
        assert bool(account.told) == (found_on is not None and number >= found_on)
    if found_on:
        assert (account.told[0].cause, account.told[0].on_record) == (f"trade {found_on}", True)


def test_the_breach_says_what_it_stood_on() -> None:
    account = desk()
    bought(account)
    at(account, 600)
    at(account, 200)
    (breach,) = account.told
    assert breach.decisions == (LockOut(RESET), Flatten())
    assert breach.reason == (
        "Daily drawdown: the day stands at $200.00 after $600.00 at 10:00, floor $200.00, "
        "locked until 2025-01-15 17:00 CST"
    )
    assert breach.figures == (("day, as judged", "$200.00"), ("best of the day", "$600.00"), ("floor", "$200.00"))
    assert not breach.on_record
    assert measured(account) == ("-400.00", "-400.00", "0.00")


# a close is told twice


def test_a_profit_taken_counts_once_whichever_of_fill_and_position_is_told_first() -> None:
    fill_first, position_first = desk(), desk()
    for account in (fill_first, position_first):
        bought(account)
        at(account, 500)
    fill_first.trade("500", size=2)
    at(fill_first, 500)
    hold(fill_first, 0)
    hold(position_first, 0)
    position_first.trade("500", size=2)
    for account in (fill_first, position_first):
        assert not account.told
        assert account.state.day_peak.gross.amount == 500
        assert measured(account) == ("0.00", "-400.00", "400.00")


def test_where_fills_and_positions_do_not_agree_for_long_the_rule_is_blind() -> None:
    account = desk()
    account.trade("100", size=2)
    assert measured(account) is None
    assert blind(account.later(29)) is None
    assert blind(account.later(2)) == "positions and fills do not agree, so the drawdown is not judged"


def test_without_a_price_nothing_is_guessed() -> None:
    account = desk()
    bought(account)
    assert measured(account) is None
    account.later(31)
    assert blind(account) is not None
    account.later(600).look()
    assert not account.told
    realised = desk(include_open=False)
    bought(realised)
    assert blind(realised.later(600)) is None


def test_while_one_position_has_no_price_the_day_has_no_sum() -> None:
    account = desk()
    bought(account)
    account.tell(PositionChanged(account.now, position(ES, 1, "5800")))
    account.later(7).tell(exposure(account.now, account.state.positions.values()))
    assert not at(account, -600)


# time and settings


def test_fees_count_where_they_are_included() -> None:
    account = desk(include_fees=True, include_open=False)
    account.trade("-399", fees="1")
    assert len(account.told) == 1
    both = desk(include_fees=True)
    round_trip(both, "100")
    assert both.state.day_peak.net.amount == 100
    assert measured(both) == ("0.00", "-400.00", "400.00")


def test_a_fall_made_good_before_it_was_told_is_found_in_the_record() -> None:
    account = desk(include_open=False)
    moments = [account.now + timedelta(seconds=n) for n in range(3)]
    account.later(60).read([trade(n, moments[n], profit) for n, profit in enumerate(("600", "-450", "300"))])
    (breach,) = account.told
    assert breach.cause == "trade 1"
    assert breach.reason.startswith(
        "Daily drawdown: with fill 1 the day fell to its floor, now it stands at $450.00 after $600.00, floor $200.00"
    )


def test_after_17_the_best_is_new() -> None:
    account = desk()
    round_trip(account, "600")
    account.at("17:00").look()
    assert measured(account) == ("0.00", "-400.00", "400.00")
    round_trip(account, "-399")
    assert not account.told


def test_a_restart_keeps_the_best_of_the_day() -> None:
    account = desk()
    bought(account)
    at(account, 600)
    held = tuple(account.state.positions.values())
    account.state = awakened(decode(encode(account.state), AccountState))
    account.later(60).tell(record(account.now))
    account.tell(exposure(account.now, held))
    assert at(account, 200)


def test_close_all_positions_closes_without_a_lock_and_alert_only_closes_nothing() -> None:
    closing, telling = desk(enforcement="close_all_positions"), desk(enforcement="alert_only")
    for account in (closing, telling):
        bought(account)
        at(account, -400)
        assert account.locked_until() == []
    assert [breach.decisions for breach in closing.told] == [(Flatten(),)]
    assert [breach.decisions for breach in telling.told] == [()]


def test_a_permanent_lock_has_no_end() -> None:
    account = desk(lockout_until="permanent")
    bought(account)
    at(account, -400)
    assert account.told[0].decisions == (LockOut(None), Flatten())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"drawdown_limit": "0"}, "a loss is written as a positive amount"),
        ({"starts_at_profit": "-1"}, "must be an amount of zero or more"),
        ({"profit_target": "0", "keep": "0"}, "must be an amount above zero"),
        ({"profit_target": "100"}, "needs both profit_target and keep"),
        ({"keep": "100"}, "needs both profit_target and keep"),
        ({"profit_target": "100", "keep": "-1"}, "must be an amount of zero or more"),
        ({"profit_target": "100", "keep": "100"}, "must be less than profit_target, which is 100, not 100"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, str], words: str) -> None:
    amounts = {key: Decimal(amount) for key, amount in {"drawdown_limit": "1", **settings}.items()}
    with pytest.raises(ValueError, match=words):
        DailyDrawdown(**amounts)  # type: ignore[arg-type]


# for any day


@given(st.lists(st.integers(-100, 150).map(lambda steps: steps * 4), min_size=1, max_size=12))
def test_it_breaches_exactly_where_the_day_first_stands_at_the_limit_below_its_best(dollars: list[int]) -> None:
    account = desk()
    bought(account)
    best, due = 0, False
    for amount in dollars:
        at(account, amount)
        best = max(best, amount)
        due = due or amount <= best - 400
        assert bool(account.told) == due


@given(st.lists(st.integers(-300, 300), min_size=1, max_size=10))
def test_judging_the_record_again_after_a_crash_gives_the_same_breach(profits: list[int]) -> None:
    account = desk(include_open=False)
    for profit in profits:
        account.later(60).trade(profit)
    again = account.later(5).restarted()
    assert [(b.id, b.cause) for b in again.told] == [(b.id, b.cause) for b in account.told]
