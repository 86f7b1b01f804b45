"""Consecutive losses: what a losing trade is, what breaks a run, what a pause does to it, and what is told late."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.decisions import Flatten, LockOut
from flatguard.model.events import TradeMade
from flatguard.model.ids import OrderId
from flatguard.model.lockouts import LockKind
from flatguard.rules.consecutive_losses import NAME, ConsecutiveLosses
from tests.fakes.desk import MNQ, Desk, chicago, trade

TEN = chicago("2025-01-15 10:00")
RESET = chicago("2025-01-15 17:00")


def desk(**settings: Any) -> Desk:
    return Desk({NAME: ConsecutiveLosses(**settings)}, TEN)


def close(account: Desk, number: int, profit: str | int | None, *, of: int = 0, minutes: int = -1, **more: Any) -> None:
    row = trade(number, TEN + timedelta(minutes=number if minutes < 0 else minutes), profit, **more)
    account.now = max(account.now, row.made_at + timedelta(milliseconds=50))
    account.tell(TradeMade(account.now, evolve(row, order_id=OrderId(of or number))))


def after(*profits: str | int | None, **settings: Any) -> Desk:
    account = desk(**settings)
    for number, profit in enumerate(profits, 1):
        close(account, number, profit)
    return account


def minutes(account: Desk) -> list[float]:
    """The ends of the pauses that were found, in minutes after ten."""
    locks = [lock for breach in account.told if breach.rule == NAME for lock in breach.lockouts]
    return [(lock.until - TEN).total_seconds() / 60 for lock in locks if lock.until is not None]


@pytest.mark.parametrize(
    ("profits", "ends"),
    [
        pytest.param((-10, -10), [], id="two are not three"),
        pytest.param((-10, -20, -30), [18], id="three"),
        pytest.param((-10, -20, 5, -30), [], id="a winner breaks the run"),
        pytest.param((-10, 0, -20, 0, -30), [20], id="nothing won or lost neither breaks it nor counts"),
        pytest.param((None, -10, None, -20, None, -30), [21], id="opening fills neither"),
        pytest.param((-10, -20, -30, -40), [18], id="after a pause the run is counted anew"),
        pytest.param((-10, -20, -30, -40, -50, -60), [18, 21], id="and locks again when it is full again"),
    ],
)
def test_so_many_losing_orders_in_a_row_are_a_breach(profits: tuple[int | None, ...], ends: list[float]) -> None:
    account = after(*profits)
    assert minutes(account) == ends
    for breach in account.told:
        assert [lock.kind for lock in breach.lockouts] == [LockKind.COOLDOWN]


def test_it_is_said_how_many_and_what_the_last_one_lost() -> None:
    (breach,) = after(-10, -20, "-30.50").told
    assert breach.reason == (
        "3 losing orders in a row, the last -$30.50, limit 3, cooling down until 2025-01-15 10:18 CST"
    )
    assert breach.figures == (("losing orders in a row", "3"), ("limit", "3"), ("the last of them, net", "-$30.50"))
    assert (breach.cause, breach.on_record) == ("trade 3", False)


def test_an_order_is_one_trade_however_many_fills_it_has() -> None:
    account = desk()
    for number in (1, 2, 3, 4):
        close(account, number, -10, of=7)
    assert account.told == []
    assert measured(account) == "1 losses in a row"


def test_the_fills_that_follow_do_not_prolong_the_pause() -> None:
    account = after(-10, -10)
    for number in (3, 4, 5):
        close(account, number, -10, of=7)
        account.hold(MNQ, 0)
    assert minutes(account) == [18]


def test_an_order_is_judged_by_what_all_its_fills_made_net_of_their_costs() -> None:
    account = after(-10, -10)
    close(account, 3, 20, of=7)
    assert account.told == []
    close(account, 4, "-19.50", of=7, fees="0.25", commissions="0.25")
    assert account.told == []
    close(account, 5, 0, of=7, fees="0.01")
    assert minutes(account) == [18]


def measured(account: Desk) -> str:
    return account.book.rules[NAME].measure(account.state, account.now).texts[0]  # type: ignore[union-attr]


def test_the_run_since_the_last_pause_is_shown() -> None:
    assert [measured(after(*(-1,) * n)) for n in range(5)] == [f"{n} losses in a row" for n in (0, 1, 2, 0, 1)]


def test_it_can_end_the_day() -> None:
    account = after(-10, -20, losses=2, enforcement="close_all_and_lockout")
    (breach,) = account.told
    assert breach.decisions == (LockOut(RESET), Flatten())
    close(account, 3, -10)
    close(account, 4, -10)
    assert len(account.told) == 1
    assert account.restarted().locked_until() == [RESET]


def test_the_run_begins_anew_with_the_trading_day() -> None:
    account = after(-10, -20)
    account.at("17:00").read()
    close(account, 3, -30, minutes=421)
    assert account.told == []


def test_fills_told_late_count_where_they_were_made() -> None:
    account = desk()
    for number, profit in ((4, -10), (1, -10), (3, -10)):
        close(account, number, profit)
    assert minutes(account) == [19]
    account = desk()
    for number, profit in ((4, -10), (2, 10), (1, -10), (3, -10)):
        close(account, number, profit)
    assert account.told == []


def test_a_winner_that_is_voided_joins_what_it_parted() -> None:
    account = after(-10, -10, 10, -10)
    close(account, 3, 10, voided=True)
    assert minutes(account) == [19]


def test_an_order_that_becomes_a_loss_when_its_last_fill_is_voided_counts_as_one() -> None:
    account = after(-10, -10)
    close(account, 4, 20, of=7)
    close(account, 3, -10, of=7)
    close(account, 4, 20, of=7, voided=True)
    assert minutes(account) == [18]


def test_what_is_told_again_sets_nothing_more_and_a_pause_that_is_over_none() -> None:
    account = after(-10, -10, -10)
    account.read(account.state.trades.values())
    close(account, 3, -10)
    assert len(account.told) == 1
    assert account.restarted().locked_until() == account.locked_until()
    account.now = TEN + timedelta(minutes=18)
    assert account.restarted().told == []


@pytest.mark.parametrize("settings", [{"losses": 0}, {"cooldown": timedelta(0)}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        desk(**settings)


@given(
    st.lists(st.tuples(st.sampled_from([1, 60, 600]), st.sampled_from([None, 0, 10, -10, -20])), max_size=14),
    st.integers(1, 3),
)
def test_judged_at_events_and_named_moments_it_finds_what_judging_every_second_finds(
    fills: list[tuple[int, int | None]], losses: int
) -> None:
    named, always = (
        desk(losses=losses, cooldown=timedelta(minutes=2)),
        desk(losses=losses, cooldown=timedelta(minutes=2)),
    )
    at = 0
    for number, (gap, profit) in enumerate(fills, 1):
        row = trade(number, TEN + timedelta(seconds=at + gap), profit)
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
    run, found = 0, 0
    for _, profit in fills:
        run = run + 1 if profit in {-10, -20} else 0 if profit == 10 else run
        found += profit in {-10, -20} and run % losses == 0
    assert len(always.told) == found
