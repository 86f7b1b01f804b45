"""Cooldown after loss: every worked example, then what one trade is, each setting, and what is told late or again."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.decisions import Flatten, LockOut
from flatguard.model.events import TradeMade
from flatguard.model.ids import OrderId
from flatguard.model.lockouts import LockKind
from flatguard.rules.cooldown_after_loss import NAME, CooldownAfterLoss, Tier
from tests.fakes.desk import MNQ, Desk, chicago, trade

TWO = chicago("2025-01-15 14:00")


def desk(**settings: Any) -> Desk:
    return Desk({NAME: CooldownAfterLoss(**settings)}, TWO)


def lose(account: Desk, number: int, minutes: float, profit: str | int | None, of: int = 0, **more: Any) -> None:
    row = trade(number, TWO + timedelta(minutes=minutes), profit, **more)
    account.now = max(account.now, row.made_at + timedelta(milliseconds=50))
    account.tell(TradeMade(account.now, evolve(row, order_id=OrderId(of or number))))


def seconds(account: Desk) -> list[float]:
    """How long each pause that was found lasts, from two o'clock on."""
    locks = [lock for breach in account.told if breach.rule == NAME for lock in breach.lockouts]
    return [(lock.until - TWO).total_seconds() for lock in locks if lock.until is not None]


@pytest.mark.parametrize(
    ("profit", "pause"),
    [
        pytest.param("150.50", [], id="007-1"),
        pytest.param("-75", [], id="007-2"),
        pytest.param("-99.99", [], id="007-3"),
        pytest.param("-100.00", [300], id="007-4"),
        pytest.param("-150", [300], id="007-5"),
        pytest.param("-200", [900], id="007-6"),
        pytest.param("-250", [900], id="007-7"),
        pytest.param("-350", [1800], id="007-8"),
        pytest.param(None, [], id="007-9"),
    ],
)
@pytest.mark.parametrize("group_by", ["order", "execution"])
def test_the_larger_the_loss_the_longer_the_pause(profit: str | None, pause: list[float], group_by: Any) -> None:
    account = desk(group_by=group_by)
    lose(account, 1, 0, profit)
    assert seconds(account) == pause
    for breach in account.told:
        assert [lock.kind for lock in breach.lockouts] == [LockKind.COOLDOWN]
        assert (breach.cause, breach.on_record) == ("trade 1", False)


def test_007_10_a_larger_loss_during_a_pause_moves_its_end() -> None:
    account = desk()
    lose(account, 1, 0, -120)
    lose(account, 2, 3, -220)
    assert account.locked_until() == [chicago("2025-01-15 14:18")]
    assert account.told[0].reason == (
        "Loss of one order: -$120.00, limit -$100.00, pause of 5 min, cooling down until 2025-01-15 14:05 CST"
    )
    assert account.told[1].figures == (("order, net", "-$220.00"), ("limit", "-$200.00"), ("pause", "15 min"))


def test_007_11_a_smaller_loss_during_a_pause_does_not_shorten_it() -> None:
    account = desk()
    lose(account, 1, 0, -320)
    lose(account, 2, 20, -110)
    assert seconds(account) == [1800]
    assert account.locked_until() == [chicago("2025-01-15 14:30")]


@pytest.mark.parametrize(("group_by", "pause"), [("order", [300 + 1]), ("execution", [])])
def test_007_12_the_fills_of_one_order_add_up(group_by: Any, pause: list[float]) -> None:
    account = desk(group_by=group_by)
    lose(account, 1, 0, -60, of=7)
    assert seconds(account) == []
    lose(account, 2, 1 / 60, -60, of=7)
    assert seconds(account) == pause


def test_007_13_after_a_crash_what_is_left_of_the_pause_goes_on() -> None:
    account = desk()
    lose(account, 1, 3, -220)
    account.now = chicago("2025-01-15 14:10")
    again = account.restarted()
    assert again.locked_until() == [chicago("2025-01-15 14:18")]
    assert [breach.id for breach in again.told] == [breach.id for breach in account.told]
    account.now = chicago("2025-01-15 14:18")
    assert account.restarted().told == []


def test_small_losses_of_several_orders_do_not_add_up() -> None:
    account = desk()
    for number in (1, 2, 3):
        lose(account, number, number, -60)
    assert account.told == []


def test_more_fills_of_the_same_order_make_it_longer_where_they_reach_the_next_tier_and_not_otherwise() -> None:
    account = desk()
    for number, profit in ((1, -110), (2, -10), (3, None), (4, -90), (5, -10)):
        lose(account, number, number, profit, of=7)
    assert seconds(account) == [60 + 300, 240 + 900]


def test_a_fill_that_wins_back_what_another_lost_ends_no_pause() -> None:
    account = desk()
    for number, profit in ((1, -110), (2, 90), (3, -90)):
        lose(account, number, number, profit, of=7)
    assert seconds(account) == [60 + 300]


@pytest.mark.parametrize(("include_fees", "pause"), [(True, [300]), (False, [])])
def test_costs_of_the_closing_fills_count_where_fees_are_included(include_fees: bool, pause: list[float]) -> None:
    account = desk(include_fees=include_fees)
    lose(account, 1, 0, None, fees=50)
    lose(account, 2, 0, "-99", fees="0.74", commissions="0.26")
    assert seconds(account) == pause


def test_a_cost_that_is_told_later_can_begin_a_pause_from_the_fills_own_time() -> None:
    account = desk()
    lose(account, 1, 0, "-99", commissions="0.26")
    lose(account, 1, 0, "-99", fees="0.74", commissions="0.26")
    assert seconds(account) == [300]


def test_a_voided_fill_sets_none_and_ends_none() -> None:
    account = desk()
    lose(account, 1, 0, -300, voided=True)
    assert account.told == []
    lose(account, 2, 0, -300)
    lose(account, 2, 0, -300, voided=True)
    assert len(account.locked_until()) == 1


def test_what_is_told_again_late_or_in_another_order_sets_nothing_more() -> None:
    account = desk()
    lose(account, 2, 4, -220)
    lose(account, 1, 0, -120)
    account.later(5).read(account.state.trades.values())
    account.at("14:30").read(account.state.trades.values())
    lose(account, 2, 4, -220)
    assert seconds(account) == [240 + 900]


def test_of_several_losses_that_become_known_at_once_the_one_whose_pause_ends_last_counts() -> None:
    account = desk()
    account.later(60).read([trade(1, TWO, -220), trade(2, TWO + timedelta(seconds=9), -120)])
    assert seconds(account) == [900]


def test_a_pause_that_is_over_when_its_fill_becomes_known_sets_no_lock() -> None:
    account = desk()
    account.later(299).read([trade(1, TWO, -100)])
    assert len(account.told) == 1
    account.later(400).read([trade(2, TWO + timedelta(seconds=1), -100)])
    assert len(account.told) == 1


def test_who_may_trade_on_is_only_told_and_once() -> None:
    account = desk(allow_trading_during_cooldown=True)
    lose(account, 1, 0, -110, of=7)
    account.hold(MNQ, 1)
    lose(account, 2, 1, -10, of=7)
    account.read(account.state.trades.values())
    (breach,) = account.told
    assert (breach.decisions, account.locked_until()) == ((), [])
    assert breach.reason == "Loss of one order: -$110.00, limit -$100.00, worth a pause of 5 min"


def test_with_close_positions_nothing_may_be_open_until_the_end() -> None:
    account = desk(close_positions=True)
    account.hold(MNQ, 1)
    lose(account, 1, 0, -100)
    assert account.told[0].decisions == (LockOut(TWO + timedelta(minutes=5), kind=LockKind.HARD), Flatten())
    account.hold(MNQ, 0)
    account.hold(MNQ, 1)
    assert account.told[-1].decisions == (Flatten(),)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"tiers": ()}, "at least one tier"),
        (
            {"tiers": (Tier(Decimal(2), timedelta(1)), Tier(Decimal(2), timedelta(1)))},
            "a larger loss than the one before",
        ),
        ({"tiers": (Tier(Decimal(1), timedelta(1)), Tier(Decimal(2), timedelta(0, 9)))}, "no shorter cooldown"),
        ({"allow_trading_during_cooldown": True, "close_positions": True}, "cannot be together"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        desk(**settings)


@pytest.mark.parametrize(("loss", "cooldown"), [("-100", timedelta(1)), ("0", timedelta(1)), ("1", timedelta(0))])
def test_a_tier_is_a_positive_loss_and_some_time(loss: str, cooldown: timedelta) -> None:
    with pytest.raises(ValueError, match=r"positive amount|must be between"):
        Tier(Decimal(loss), cooldown)


FILLS = st.lists(
    st.tuples(st.sampled_from([0, 1, 30, 200, 400]), st.sampled_from([None, 10, -60, -110, -210]), st.integers(1, 3)),
    min_size=1,
    max_size=10,
)


@given(FILLS, st.sampled_from(["order", "execution"]))
def test_judged_at_events_and_named_moments_it_finds_what_judging_every_second_finds(
    fills: list[tuple[int, int | None, int]], group_by: Any
) -> None:
    named, always = desk(group_by=group_by), desk(group_by=group_by)
    at = 0
    for number, (gap, profit, of) in enumerate(fills, 1):
        row = evolve(trade(number, TWO + timedelta(seconds=at + gap), profit), order_id=OrderId(of))
        while (moment := named.book.next_moment(named.state, named.now)) is not None and moment < row.made_at:
            named.now = moment
            named.look()
        for second in range(at + 1, at + gap):
            always.now = TWO + timedelta(seconds=second, milliseconds=50)
            always.look()
        at += gap
        for account in (named, always):
            account.now = row.made_at + timedelta(milliseconds=50)
            account.read([row])
    assert [(b.id, b.at, b.decisions) for b in named.told] == [(b.id, b.at, b.decisions) for b in always.told]
