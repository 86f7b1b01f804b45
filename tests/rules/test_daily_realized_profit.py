"""Daily realized profit: every worked example, then each setting, then time, restarts and what cannot be seen."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.decisions import Flatten, LockOut
from flatguard.model.trading import Side
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.daily_realized_profit import NAME, DailyRealizedProfit
from tests.fakes.desk import ES, MNQ, MNQ_Z, RTY, Desk, chicago, order, trade

RESET = chicago("2025-01-15 17:00")


def desk(at: str = "2025-01-15 10:00", **settings: Any) -> Desk:
    """The examples are gross unless they say otherwise."""
    return Desk({NAME: DailyRealizedProfit(**{"include_fees": False, **settings})}, at)


def standing(account: Desk) -> tuple[str, str, str] | None:
    measure = account.book.rules[NAME].measure(account.state, account.now)
    return None if measure is None else measure.texts


def open_profit(account: Desk, mark: str) -> None:
    """Two MNQ from 21000: a point is $4."""
    account.hold(MNQ, 2, "21000")
    account.quote(MNQ, last=mark)


# the examples; Wednesday 15 January 2025


@pytest.mark.parametrize(
    ("profits", "breaches_on", "ends_at"),
    [
        pytest.param(["900", "99.99"], None, "999.99", id="013-1"),
        pytest.param(["900", "100"], 2, "1000.00", id="013-2, inclusive"),
        pytest.param(["900", "200"], 2, "1100.00", id="013-3"),
        pytest.param(["700", "-100"], None, "600.00", id="013-4"),
    ],
)
def test_the_day_breaches_on_the_fill_that_reaches_the_target(
    profits: list[str], breaches_on: int | None, ends_at: str
) -> None:
    account = desk()
    found = [bool(account.trade(profit).found) for profit in profits]
    assert found == [number == breaches_on for number in range(1, len(profits) + 1)]
    measure = standing(account)
    assert measure is not None
    assert measure[0] == ends_at
    assert account.locked_until() == ([RESET] if breaches_on else [])


@pytest.mark.parametrize("combined", [True, False])
def test_013_5_open_profit_counts_where_combined_is_on(combined: bool) -> None:
    account = desk(target=Decimal(1500), combined=combined)
    account.trade("1400")
    open_profit(account, "21037.50")
    assert bool(account.told) == combined
    if combined:
        (breach,) = account.told
        assert breach.decisions == (LockOut(RESET), Flatten())
        assert breach.reason == (
            "Well done, the daily profit target is reached: $1,550.00 realised and open, target $1,500.00, "
            "locked until 2025-01-15 17:00 CST"
        )
        assert dict(breach.figures)["open"] == "$150.00"
        assert not breach.on_record


@pytest.mark.parametrize(("include_fees", "ends_at"), [(True, "996.60"), (False, "1005.00")])
def test_013_6_fees_count_where_they_are_included(include_fees: bool, ends_at: str) -> None:
    account = desk(include_fees=include_fees)
    for profit in (None, "335", None, "335", None, "335"):
        account.trade(profit, fees="1.40")
    assert bool(account.told) != include_fees
    measure = standing(account)
    assert measure is not None
    assert measure[0] == ends_at


def test_013_7_what_the_forced_close_costs_does_not_unlock() -> None:
    account = desk()
    account.trade("1000")
    account.trade("-80")
    assert standing(account) == ("920.00", "1000.00", "80.00")
    assert len(account.told) == 1
    assert account.locked_until() == [RESET]


def test_013_8_beside_a_loss_limit_that_was_not_reached_only_the_profit_is_told() -> None:
    account = Desk(
        {
            "daily_realized_loss": DailyRealizedLoss(Decimal(500), include_fees=False),
            NAME: DailyRealizedProfit(include_fees=False),
        }
    )
    account.trade("-450")
    account.trade("1500")
    assert [breach.rule for breach in account.told] == [NAME]


def test_the_breach_says_what_it_stood_on() -> None:
    account = desk(include_fees=True, message="Enough for today")
    account.hold(MNQ, 1)
    account.trade("1100", fees="1.40", commissions="0.25")
    (breach,) = account.told
    assert breach.decisions == (LockOut(RESET), Flatten())
    assert breach.reason == (
        "Enough for today: $1,098.35 realised, target $1,000.00, locked until 2025-01-15 17:00 CST"
    )
    assert breach.figures == (
        ("realised gross", "$1,100.00"),
        ("fees and commissions", "-$1.65"),
        ("realised, as judged", "$1,098.35"),
        ("highest of the day", "$1,098.35"),
        ("open", "$0.00, without MNQU5"),
        ("target", "$1,000.00"),
    )
    assert (breach.cause, breach.on_record) == ("trade 1", True)


# what counts, and when


def test_an_open_loss_does_not_take_back_a_realised_profit() -> None:
    account = desk(combined=True)
    open_profit(account, "20900")
    account.trade("1000")
    assert len(account.told) == 1


def test_with_combined_an_open_loss_holds_back_what_is_not_realised() -> None:
    account = desk(combined=True)
    account.trade("900")
    open_profit(account, "21024.75")
    assert not account.told
    account.quote(MNQ, last="21025")
    assert len(account.told) == 1


def test_a_profit_told_late_breaches_though_the_day_has_fallen_meanwhile() -> None:
    account = desk()
    account.at("11:00").trade("-300", number=2)
    account.trade("1000", number=1, made="2025-01-15 10:30")
    assert account.told[0].cause == "trade 1"
    assert account.told[0].reason.startswith(
        "Well done, the daily profit target is reached: $1,000.00 realised at its highest, now $700.00, target"
    )


def test_a_fill_told_twice_counts_once_and_a_busted_one_not_at_all() -> None:
    account = desk()
    account.trade("600", number=7)
    account.trade("600", number=7, made="2025-01-15 10:00")
    account.trade("600", number=8, voided=True)
    assert standing(account) == ("600.00", "1000.00", "400.00")
    assert not account.told


def test_a_fill_busted_after_the_breach_does_not_unlock() -> None:
    account = desk()
    account.trade("1000", number=1)
    account.trade("1000", number=1, voided=True)
    assert account.state.realized.high_gross == 0
    assert account.locked_until() == [RESET]


def test_a_profit_that_only_the_record_shows_breaches_too() -> None:
    account = desk()
    account.read([trade(1, account.now, "1000")])
    assert account.told[0].cause == "trade 1"


def test_after_17_the_day_is_new_and_the_lock_over() -> None:
    account = desk()
    account.trade("1200")
    account.at("17:00").look()
    account.read()
    account.trade("999.99")
    assert len(account.told) == 1
    assert account.locked_until() == []
    account.trade("0.01")
    assert account.locked_until() == [chicago("2025-01-16 17:00")]


@pytest.mark.parametrize(
    ("at", "until"),
    [
        pytest.param("2025-01-15 18:00", "2025-01-16 17:00", id="in the evening: the next day"),
        pytest.param("2025-01-17 10:00", "2025-01-19 17:00", id="Friday: until Sunday's opening"),
        pytest.param("2025-03-07 10:00", "2025-03-09 17:00", id="the clocks go forward on the way"),
        pytest.param("2025-10-31 10:00", "2025-11-02 17:00", id="the clocks go back on the way"),
    ],
)
def test_the_lock_ends_when_the_next_session_starts(at: str, until: str) -> None:
    account = desk(at)
    account.trade("1000")
    assert account.locked_until() == [chicago(until)]
    account.now = chicago(until) - timedelta.resolution
    account.read()
    assert account.locked_until() == [chicago(until)]
    account.now = chicago(until)
    account.read()
    assert account.locked_until() == []


# settings


def test_a_permanent_lock_has_no_end() -> None:
    account = desk(lockout_until="permanent")
    account.trade("1000")
    assert account.told[0].decisions == (LockOut(None), Flatten())
    account.at("2025-02-15 12:00").read()
    assert account.locked_until() == [None]


def test_a_target_raised_after_the_breach_does_not_lift_the_lock() -> None:
    account = desk()
    account.trade("1000")
    account.book = type(account.book)({NAME: DailyRealizedProfit(Decimal(5000))})
    account.look()
    assert account.locked_until() == [RESET]


def test_close_all_positions_closes_without_a_lock_and_again_what_is_opened_later_that_day() -> None:
    account = desk(enforcement="close_all_positions")
    account.hold(MNQ, 1)
    account.trade("1000")
    account.hold(MNQ, 0)
    assert account.locked_until() == []
    account.order(order(1, MNQ))
    assert [breach.decisions for breach in account.told] == [(Flatten(),)] * 2


def test_alert_only_tells_once_and_closes_nothing() -> None:
    account = desk(enforcement="alert_only")
    account.hold(MNQ, 1)
    account.trade("1000")
    account.trade("100")
    account.at("15:00").look()
    assert [breach.decisions for breach in account.told] == [()]
    assert account.locked_until() == []


@pytest.mark.parametrize("amount", ["0", "-1000", "NaN", "Infinity"])
def test_a_target_that_is_no_positive_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match='must be an amount above zero, such as "1000", not'):
        DailyRealizedProfit(Decimal(amount))


@pytest.mark.parametrize("words", ["", "  ", "two\nlines", "a bell \a"])
def test_a_message_that_is_not_one_line_of_words_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="must be words on one line"):
        DailyRealizedProfit(message=words)


# for any day


PROFITS = st.lists(st.integers(-400, 900), min_size=1, max_size=8)


@given(PROFITS, st.lists(st.integers(-50, 50), max_size=3))
def test_judging_the_record_again_after_a_crash_gives_the_same_breach_and_the_same_lock(
    profits: list[int], more: list[int]
) -> None:
    account = desk(include_fees=True)
    for profit in (*profits, *more):
        account.later(60).trade(profit, fees="0.50")
    again = account.later(5).restarted()
    assert [(b.id, b.cause, b.lockouts) for b in again.told] == [(b.id, b.cause, b.lockouts) for b in account.told]
    assert again.locked_until() == account.locked_until()


@given(PROFITS)
def test_it_breaches_exactly_where_the_running_sum_has_reached_the_target(profits: list[int]) -> None:
    account = desk()
    running, reached = 0, False
    for profit in profits:
        account.later(60).trade(profit)
        running += profit
        reached = reached or running >= 1000
        assert bool(account.told) == reached
        measure = standing(account)
        assert measure is not None
        assert Decimal(measure[0]) == running
        assert Decimal(measure[2]) == 1000 - running


# what cannot be seen


def blind(account: Desk) -> str | None:
    return account.book.rules[NAME].blind(account.state, account.now)


def test_without_a_price_open_profit_is_not_guessed_and_after_30_seconds_the_rule_says_that_it_is_blind() -> None:
    account = desk(combined=True)
    account.trade("999")
    account.hold(MNQ, 2, "21000")
    assert blind(account.later(30)) is None
    assert blind(account.later(0.001)) == "no price to believe for MNQU5 (none has come), so open P&L is not counted"
    account.look()
    assert not account.told


def test_a_loss_whose_position_is_told_closed_before_its_fill_is_not_forgotten_meanwhile() -> None:
    account = desk(combined=True)
    account.trade("900", contract_id=RTY)
    account.trade(None, contract_id=RTY, side=Side.BUY)
    account.trade(None, contract_id=MNQ, side=Side.BUY, size=2)
    account.hold(MNQ, 2, "21000")
    account.trade(None, contract_id=ES, side=Side.BUY)
    account.hold(ES, 1, "5800")
    account.quote(MNQ, last="20975")
    account.quote(ES, last="5803")
    account.hold(MNQ, 0)
    closed_at = account.now
    assert account.book.next_moment(account.state, account.now) == closed_at + timedelta(seconds=2)
    account.trade("-100", contract_id=MNQ, size=2)
    account.look()
    assert account.told == []
    measure = standing(account)
    assert measure is not None
    assert measure[0] == "950.00"


def test_while_one_position_has_no_price_the_combined_check_is_out_and_the_realised_one_in() -> None:
    account = desk(combined=True)
    account.hold(MNQ_Z, -2, "21000")
    open_profit(account, "21300")
    assert not account.told
    account.trade("1000")
    assert dict(account.told[0].figures)["open"] == "$1,200.00, without MNQZ5"


def test_where_open_profit_does_not_count_nothing_makes_the_rule_blind() -> None:
    account = desk()
    account.hold(MNQ, 2)
    assert blind(account.later(3600)) is None


def test_accounts_are_judged_apart() -> None:
    winning, other = desk(), desk(target=Decimal(2000))
    winning.trade("1000")
    other.trade("1000")
    assert winning.told
    assert not other.told
