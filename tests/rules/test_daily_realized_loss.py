"""Daily realized loss: every worked example, then each setting, then time, restarts and what cannot be seen."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.decisions import Flatten, LockOut
from flatguard.model.events import ContractLearned, PositionChanged
from flatguard.model.ids import ContractId
from flatguard.model.trading import Contract, Side
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from tests.fakes.desk import EP, ES, MNQ, MNQ_Z, RTY, Desk, chicago, exposure, order, position, record, trade

NAME = "daily_realized_loss"
LIMIT = Decimal(500)


def desk(at: str = "2025-01-15 10:00", **settings: Any) -> Desk:
    """The examples are gross unless they say otherwise."""
    return Desk({NAME: DailyRealizedLoss(**{"loss_limit": LIMIT, "include_fees": False, **settings})}, at)


def standing(account: Desk) -> str:
    measure = account.book.rules[NAME].measure(account.state, account.now)
    assert measure is not None
    return measure.texts[0]


# the examples; Wednesday 15 January 2025


@pytest.mark.parametrize(
    ("profits", "breaches_on", "ends_at"),
    [
        pytest.param(["-300", "-100"], None, "-400.00", id="003-1"),
        pytest.param(["-450", "-49.99"], None, "-499.99", id="003-2"),
        pytest.param(["-450", "-50"], 2, "-500.00", id="003-3, inclusive"),
        pytest.param(["-450", "-75.50"], 2, "-525.50", id="003-4"),
        pytest.param(["100", "-200", None, "-450"], 4, "-550.00", id="003-5"),
        pytest.param(["100", "-50", "-200", "-450"], 4, "-600.00", id="003-6"),
    ],
)
def test_the_day_breaches_on_the_fill_that_reaches_the_limit(
    profits: list[str | None], breaches_on: int | None, ends_at: str
) -> None:
    account = desk()
    found = [bool(account.trade(profit).found) for profit in profits]
    assert found == [number == breaches_on for number in range(1, len(profits) + 1)]
    assert standing(account) == ends_at
    assert bool(account.locked_until()) == (breaches_on is not None)


def test_003_4_the_breach_closes_and_cancels_everything_and_locks_for_three_hours() -> None:
    account = desk("2025-01-15 13:59")
    account.trade("-450")
    account.at("14:00").trade("-75.50")
    (breach,) = account.told
    assert breach.decisions == (LockOut(chicago("2025-01-15 17:00")), Flatten())
    assert breach.reason == "Realised loss: -$525.50, limit -$500.00, locked until 2025-01-15 17:00 CST"
    assert breach.figures == (
        ("realised gross", "-$525.50"),
        ("fees and commissions", "$0.00"),
        ("realised, as judged", "-$525.50"),
        ("lowest of the day", "-$525.50"),
        ("open", "$0.00"),
        ("limit", "-$500.00"),
    )
    assert breach.cause == "trade 2"
    assert breach.on_record
    assert account.at("16:59:59").locked_until() == [chicago("2025-01-15 17:00")]


def open_loss(account: Desk, mark: str) -> None:
    """Two MNQ from 21000: a point is $4."""
    account.hold(MNQ, 2, "21000")
    account.quote(MNQ, last=mark)


def test_003_8_realised_and_open_loss_together_reach_the_limit() -> None:
    account = desk()
    account.trade("-480")
    open_loss(account, "20993.75")
    (breach,) = account.told
    assert breach.reason.startswith("Realised and open loss: -$505.00, limit -$500.00, locked until")
    assert dict(breach.figures)["open"] == "-$25.00"
    assert not breach.on_record


def test_003_9_a_quote_alone_may_breach() -> None:
    account = desk()
    account.trade("-300")
    open_loss(account, "21012.50")
    assert not account.told
    assert account.quote(MNQ, last="20950.25").found == ()
    assert len(account.quote(MNQ, last="20950.00").found) == 1
    assert account.told[0].decisions == (LockOut(chicago("2025-01-15 17:00")), Flatten())


@pytest.mark.parametrize(("include_fees", "ends_at"), [(True, "-503.40"), (False, "-495.00")])
def test_003_10_fees_count_where_they_are_included(include_fees: bool, ends_at: str) -> None:
    account = desk(include_fees=include_fees)
    for profit in (None, "-165", None, "-165", None, "-165"):
        account.trade(profit, fees="1.40")
    assert standing(account) == ends_at
    assert bool(account.told) == include_fees


def test_003_11_a_fill_told_again_after_a_reconnection_counts_once() -> None:
    account = desk()
    account.trade("-450", number=7)
    account.trade("-450", number=7, made="2025-01-15 10:00")
    account.read([trade(7, chicago("2025-01-15 10:00"), "-450")])
    assert standing(account) == "-450.00"
    assert not account.told


def test_003_12_a_fill_busted_after_the_breach_does_not_unlock() -> None:
    account = desk()
    account.trade("-450", number=1)
    account.trade("-75", number=2)
    account.trade("-450", number=1, voided=True)
    assert standing(account) == "-75.00"
    assert account.locked_until() == [chicago("2025-01-15 17:00")]


def test_003_13_after_17_the_day_is_new_and_the_lock_over() -> None:
    account = desk()
    account.trade("-600")
    account.at("17:00").look()
    account.read()
    account.trade("-50")
    assert standing(account) == "-50.00"
    assert len(account.told) == 1
    assert account.locked_until() == []


def test_a_lock_of_yesterday_does_not_stand_in_for_one_of_today() -> None:
    account = desk()
    account.trade("-600")
    account.at("2025-01-16 09:00").read()
    account.trade("-500")
    assert account.locked_until() == [chicago("2025-01-16 17:00")]
    assert len(account.told) == 2


# what counts, and when


def test_a_winner_after_the_breach_does_not_unlock_and_is_no_second_breach() -> None:
    account = desk()
    account.hold(MNQ, 2)
    account.trade("-500")
    account.trade("300")
    assert len(account.told) == 1
    assert account.locked_until() == [chicago("2025-01-15 17:00")]


def test_the_losses_of_the_forced_close_are_no_second_breach() -> None:
    account = desk()
    account.trade("-500")
    account.trade("-80")
    assert len(account.told) == 1


def test_a_fill_made_before_17_and_told_after_it_belongs_to_the_old_day() -> None:
    account = desk("2025-01-15 16:59")
    account.trade("-450")
    account.at("17:00:01").trade("-100", made="2025-01-15 16:59:59")
    assert not account.told
    assert standing(account) == "0.00"


def test_a_loss_that_only_the_record_shows_breaches_too() -> None:
    account = desk()
    account.read([trade(1, account.now, "-500")])
    assert account.told[0].cause == "trade 1"


def test_a_loss_told_late_breaches_though_the_day_has_recovered_meanwhile() -> None:
    """The limit was reached when it was reached; how late we were told makes no difference."""
    account = desk()
    account.at("11:00").trade("300", number=2)
    account.trade("-500", number=1, made="2025-01-15 10:30")
    assert account.told[0].cause == "trade 1"
    assert account.told[0].reason.startswith("Realised loss: -$500.00 at its lowest, now -$200.00, limit -$500.00")


def test_a_commission_that_turns_out_dearer_may_bring_the_day_to_the_limit() -> None:
    account = desk(include_fees=True)
    account.trade("-499.50", number=1, commissions=None)
    assert [breach.cause for breach in account.told] == ["trade 1"]
    cheaper = desk(include_fees=True)
    cheaper.trade("-499.50", number=1, commissions="0.25")
    assert not cheaper.told


@pytest.mark.parametrize(
    ("at", "until"),
    [
        pytest.param("2025-01-17 10:00", "2025-01-19 17:00", id="Friday: until Sunday's opening"),
        pytest.param("2025-01-17 18:00", "2025-01-19 17:00", id="Friday evening: likewise"),
        pytest.param("2025-01-19 17:00", "2025-01-20 17:00", id="Sunday's opening: Monday"),
        pytest.param("2025-03-07 10:00", "2025-03-09 17:00", id="the clocks go forward on the way"),
        pytest.param("2025-10-31 10:00", "2025-11-02 17:00", id="the clocks go back on the way"),
        pytest.param("2025-03-09 17:00", "2025-03-10 17:00", id="the day after they went forward"),
        pytest.param("2025-11-02 16:59", "2025-11-02 17:00", id="the day on which they go back"),
    ],
)
def test_the_lock_ends_when_the_next_session_starts(at: str, until: str) -> None:
    account = desk(at)
    account.trade("-500")
    assert account.locked_until() == [chicago(until)]
    account.now = chicago(until) - timedelta.resolution
    account.read()
    assert account.locked_until() == [chicago(until)]
    account.now = chicago(until)
    account.read()
    assert account.locked_until() == []


# settings


def test_only_open_and_realised_loss_together_count_where_combined_is_off() -> None:
    account = desk(combined=False)
    account.trade("-480")
    open_loss(account, "20900")
    assert not account.told
    assert standing(account) == "-480.00"


def test_an_open_profit_does_not_lift_a_realised_loss() -> None:
    account = desk()
    open_loss(account, "21100")
    assert standing(account) == "400.00"
    account.trade("-500")
    assert len(account.told) == 1


def test_a_permanent_lock_has_no_end() -> None:
    account = desk(lockout_until="permanent")
    account.trade("-500")
    assert account.told[0].decisions == (LockOut(None), Flatten())
    assert account.told[0].reason.endswith("locked until an administrator lifts it")
    account.at("2025-02-15 12:00").read()
    assert account.locked_until() == [None]


def test_a_lock_until_the_reset_becomes_permanent_where_the_settings_now_say_so() -> None:
    account = desk()
    account.trade("-500")
    account.book = type(account.book)({NAME: DailyRealizedLoss(LIMIT, lockout_until="permanent")})
    account.look()
    assert account.locked_until() == [None]
    account.book = type(account.book)({NAME: DailyRealizedLoss(LIMIT)})
    account.later(60).look()
    assert account.locked_until() == [None]


def test_a_limit_raised_after_the_breach_does_not_lift_the_lock() -> None:
    account = desk()
    account.trade("-500")
    account.book = type(account.book)({NAME: DailyRealizedLoss(Decimal(5000))})
    account.look()
    assert account.locked_until() == [chicago("2025-01-15 17:00")]


def test_close_all_positions_closes_without_a_lock_and_again_what_is_opened_later_that_day() -> None:
    account = desk(enforcement="close_all_positions")
    account.hold(MNQ, 1)
    account.trade("-500")
    assert account.told[0].decisions == (Flatten(),)
    account.hold(MNQ, 0)
    assert not account.state.breached
    assert account.locked_until() == []
    account.order(order(1, MNQ))
    account.at("16:00").hold(MNQ, 1)
    assert [breach.decisions for breach in account.told] == [(Flatten(),)] * 2
    account.at("17:00").look()
    assert not account.state.breached


def test_close_all_positions_goes_on_while_an_order_rests() -> None:
    account = desk(enforcement="close_all_positions")
    account.order(order(1, MNQ))
    account.trade("-500")
    assert account.told[0].decisions == (Flatten(),)


def test_alert_only_tells_once_and_closes_nothing() -> None:
    account = desk(enforcement="alert_only")
    account.hold(MNQ, 1)
    account.trade("-500")
    account.trade("-100")
    account.at("15:00").look()
    assert [breach.decisions for breach in account.told] == [()]
    assert account.locked_until() == []


def test_an_alert_on_open_loss_is_told_again_once_it_is_realised() -> None:
    account = desk(enforcement="alert_only")
    open_loss(account, "20800")
    account.trade("-800")
    assert [breach.on_record for breach in account.told] == [False, True]


@pytest.mark.parametrize("amount", ["0", "-500", "NaN", "Infinity"])
def test_a_limit_that_is_no_positive_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match='a loss is written as a positive amount, such as "500"'):
        DailyRealizedLoss(Decimal(amount))


# a restart changes nothing


@given(
    profits=st.lists(st.integers(-400, 400), min_size=1, max_size=8), more=st.lists(st.integers(-50, 50), max_size=3)
)
def test_judging_the_record_again_after_a_crash_gives_the_same_breach_and_the_same_lock(
    profits: list[int], more: list[int]
) -> None:
    account = desk(include_fees=True)
    for profit in profits:
        account.later(60).trade(profit, fees="0.50")
    before = [(breach.id, breach.cause, breach.lockouts) for breach in account.told]
    for profit in more:
        account.later(60).trade(profit, fees="0.50")
    again = account.later(5).restarted()
    if before:
        assert [(breach.id, breach.cause, breach.lockouts) for breach in again.told] == before
        assert again.locked_until() == account.locked_until()
    else:
        assert [b.id for b in again.told] == [b.id for b in account.told]


def test_another_day_and_another_account_have_other_breaches() -> None:
    first = desk()
    first.trade("-500", number=1)
    second = desk("2025-01-16 10:00")
    second.trade("-500", number=2)
    assert first.told[0].id != second.told[0].id


# what cannot be seen


def blind(account: Desk) -> str | None:
    return account.book.rules[NAME].blind(account.state, account.now)


def test_without_a_price_open_loss_is_not_guessed_and_after_30_seconds_the_rule_says_that_it_is_blind() -> None:
    account = desk()
    account.trade("-499")
    account.hold(MNQ, 2, "21000")
    assert blind(account.later(30)) is None
    assert blind(account.later(0.001)) == "no price to believe for MNQU5 (none has come), so open P&L is not counted"
    account.quote(MNQ, last="21000")
    assert blind(account) is None
    assert blind(account.later(30)) is None
    assert blind(account.later(0.001)) is not None
    account.look()
    assert not account.told


def test_adding_to_a_position_that_has_no_price_does_not_buy_another_30_seconds() -> None:
    account = desk()
    opened = account.now
    for size in (1, 2, 3, 4):
        account.later(10).tell(PositionChanged(account.now, position(MNQ, size, opened=opened)))
    assert blind(account) is not None


def test_prices_that_come_but_cannot_be_believed_make_the_rule_blind_at_once() -> None:
    account = desk()
    account.hold(MNQ, 2, "21000")
    account.quote(MNQ, last="2100")
    assert blind(account) == "no price to believe for MNQU5 (0 s old), so open P&L is not counted"


def test_a_contract_whose_tick_size_is_not_known_makes_the_rule_blind_however_fresh_its_prices() -> None:
    odd = ContractId("CON.F.US.ZZZ.U25")
    account = desk()
    account.hold(odd, 1, "100")
    account.later(30).quote(odd, last="100")
    assert blind(account) is None
    account.later(0.001).quote(odd, last="100")
    assert blind(account) == f"the tick size of {odd} is not known, so open P&L is not counted"
    account.tell(ContractLearned(account.now, Contract(odd, "ZZZU5", Decimal(1), Decimal(1))))
    assert blind(account) is None


def test_a_loss_whose_fill_is_told_before_its_position_counts_once() -> None:
    """Between the two it would stand in both: realised, and open."""
    account = desk()
    account.trade(None, contract_id=MNQ, side=Side.BUY, size=2)
    account.hold(MNQ, 2, "21000")
    account.quote(MNQ, last="20925")
    account.trade("-300", contract_id=MNQ, size=2)
    account.look()
    assert account.told == []
    account.hold(MNQ, 0)
    assert account.told == []
    assert standing(account) == "-300.00"


def a_winner_beside_a_loser() -> Desk:
    """The day at -400, a long of two MNQ worth +50, one of an ES worth -100."""
    account = desk()
    account.trade("-400", contract_id=RTY)
    account.trade(None, contract_id=RTY, side=Side.BUY)
    account.trade(None, contract_id=MNQ, side=Side.BUY, size=2)
    account.hold(MNQ, 2, "21000")
    account.trade(None, contract_id=ES, side=Side.BUY)
    account.hold(ES, 1, "5800")
    account.quote(MNQ, last="21012.50")
    account.quote(ES, last="5798")
    assert standing(account) == "-450.00"
    return account


def test_a_profit_whose_position_is_told_closed_before_its_fill_is_not_missing_meanwhile() -> None:
    account = a_winner_beside_a_loser()
    account.hold(MNQ, 0)
    account.look()
    account.trade("50", contract_id=MNQ, size=2)
    account.look()
    assert account.told == []
    assert standing(account) == "-450.00"


def test_a_fill_that_does_not_follow_its_position_is_waited_for_two_seconds_and_no_longer() -> None:
    account = a_winner_beside_a_loser()
    account.hold(MNQ, 0)
    closed_at = account.now
    assert account.book.next_moment(account.state, account.now) == closed_at + timedelta(seconds=2)
    account.later(1.999).look()
    assert account.told == []
    account.later(0.001).look()
    assert [breach.at for breach in account.told] == [closed_at + timedelta(seconds=2)]


def test_a_clock_set_back_does_not_make_it_wait_for_a_fill_for_longer() -> None:
    account = a_winner_beside_a_loser()
    account.hold(MNQ, 0)
    account.later(-3)
    account.quote(ES, last="5798")
    assert account.told


def test_one_position_without_a_price_leaves_the_combined_check_out_and_the_realised_one_in() -> None:
    """What the other one is worth is not known: it may be the hedge."""
    account = desk()
    account.hold(MNQ_Z, -2, "21000")
    open_loss(account, "20800")
    assert not account.told
    account.trade("-500")
    assert dict(account.told[0].figures)["open"] == "-$800.00, without MNQZ5"


def test_where_open_loss_does_not_count_nothing_makes_the_rule_blind() -> None:
    account = desk(combined=False)
    account.hold(MNQ, 2)
    assert blind(account.later(3600)) is None


def test_what_is_shown_is_the_day_as_judged_against_the_limit() -> None:
    account = desk()
    account.trade("-100")
    open_loss(account, "20990")
    measure = account.book.rules[NAME].measure(account.state, account.now)
    assert measure is not None
    assert measure.texts == ("-140.00", "-500.00", "360.00")


def test_before_both_readings_nothing_is_judged() -> None:
    account = desk()
    account.state = type(account.state)(account.state.id)
    account.trade("-900")
    account.tell(exposure(account.now))
    assert not account.told
    account.tell(record(account.now))
    assert len(account.told) == 1


def test_accounts_are_judged_apart() -> None:
    losing, other = desk(), desk()
    losing.trade("-500")
    other.trade("-100", contract_id=EP)
    assert losing.told
    assert not other.told
