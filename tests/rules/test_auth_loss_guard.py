"""Auth loss guard: every worked example, then each setting, restarts, and the end of its lock and of no other."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.journal.codec import decode, encode
from flatguard.model.account import AccountState
from flatguard.model.decisions import Flatten, LockOut
from flatguard.model.events import AccountChanged, EventSetAside, Hub
from flatguard.rules._book import Judgement, RuleBook
from flatguard.rules._rule import Rule
from flatguard.rules.auth_loss_guard import NAME, RESTORED, AuthLossGuard
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from tests.fakes.desk import ACCOUNT, EP, MNQ, Desk, account_row, chicago, exposure, order, position, record

LOSS = "daily_realized_loss"


def desk(at: str = "2025-01-15 10:00", **settings: Any) -> Desk:
    return Desk({NAME: AuthLossGuard(**settings)}, at)


def tell(account: Desk, can_trade: bool) -> Judgement:
    """The hub tells the account's row."""
    return account.tell(AccountChanged(account.later(1).now, account_row(can_trade=can_trade)))


def read(account: Desk, can_trade: bool) -> Judgement:
    return account.tell(record(account.later(5).now, account=account_row(can_trade=can_trade)))


def woken(account: Desk, can_trade: bool) -> Desk:
    """The account after a restart: what the journal kept, and then the first readings."""
    again = Desk(account.book.rules, account.later(60).now)
    kept = decode(encode(account.state), AccountState)
    again.state = evolve(kept, exposure_at=None, record_at=None, terms=account.state.terms)
    again.told.clear()
    again.tell(exposure(again.now, kept.positions.values()))
    assert again.locked_until() == account.locked_until()  # before all is read nothing is lifted
    again.tell(record(again.now, account=account_row(can_trade=can_trade)))
    return again


# the examples


def test_010_2_when_trading_is_taken_away_everything_is_closed_and_the_account_locked() -> None:
    account = desk()
    account.hold(MNQ, 2)
    account.hold(EP, 1)
    account.order(order(1, MNQ))
    tell(account, can_trade=False)
    (breach,) = account.told
    assert breach.decisions == (LockOut(None, condition=RESTORED), Flatten())
    assert breach.reason == (
        "The broker does not let this account trade (canTrade is false), "
        "locked until the broker lets the account trade again"
    )
    assert breach.figures == (
        ("canTrade", "false"),
        ("known from", "the user hub"),
        ("positions", "2"),
        ("working orders", "1"),
    )
    assert not breach.on_record
    assert account.locked_until() == [None]
    account.later(5).look()
    assert [b.id for b in account.last.standing] == [breach.id]  # still closing
    assert len(account.told) == 1


def test_010_4_at_the_start_it_is_known_from_a_reading() -> None:
    account = desk()
    account.state = AccountState(ACCOUNT)
    account.tell(exposure(account.now, [position(MNQ, 1)]))
    assert not account.told
    read(account, can_trade=False)
    (breach,) = account.told
    assert breach.decisions == (LockOut(None, condition=RESTORED), Flatten())
    assert dict(breach.figures)["known from"] == "a reading"


def test_010_5_a_flat_account_is_locked_too() -> None:
    account = desk()
    tell(account, can_trade=False)
    assert dict(account.told[0].figures)["positions"] == "0"
    assert account.locked_until() == [None]
    account.later(30).look()
    assert account.state.breached == {}  # nothing is left to do


def test_010_6_lock_unlock_lock() -> None:
    account = desk()
    seen = []
    for can_trade in (False, True, False):
        tell(account.later(4), can_trade)
        seen.append(account.locked_until())
    assert seen == [[None], [], [None]]
    assert len({breach.id for breach in account.told}) == 2
    assert account.state.lockouts[0].since == account.now


def test_010_7_only_its_own_lock_goes() -> None:
    account = Desk({NAME: AuthLossGuard(), LOSS: DailyRealizedLoss(Decimal(500))}, "2025-01-15 14:59")
    account.trade("-600")
    tell(account, can_trade=False)
    assert account.locked_until() == [None, chicago("2025-01-15 17:00")]
    tell(account.at("15:00"), can_trade=True)
    assert [lock.rule for lock in account.state.locked(account.now)] == [LOSS]


@pytest.mark.parametrize("can_trade", [True, False])
def test_010_8_an_event_that_does_not_say_changes_nothing_and_the_picture_is_in_doubt(can_trade: bool) -> None:
    account = desk()
    tell(account, can_trade)
    locked = account.locked_until()
    account.tell(EventSetAside(account.now, Hub.USER, '{"id":25700001}', "canTrade is missing"))
    assert account.locked_until() == locked
    assert account.state.doubt is not None


def test_010_9_a_lock_outlives_a_restart_and_is_looked_at_again() -> None:
    account = desk()
    tell(account, can_trade=False)
    again = woken(account, can_trade=False)
    assert again.state.lockouts == account.state.lockouts
    assert not again.told
    assert woken(account, can_trade=True).locked_until() == []


# what else it may meet


def test_a_reading_alone_locks_and_unlocks() -> None:
    account = desk()
    read(account, can_trade=False)
    assert account.locked_until() == [None]
    read(account, can_trade=True)
    assert account.locked_until() == []


def test_while_it_is_locked_what_appears_is_closed() -> None:
    account = desk()
    tell(account, can_trade=False)
    account.hold(MNQ, 1)
    assert account.told[-1].rule == "lockout"
    assert account.told[-1].decisions == (Flatten(),)
    assert dict(account.told[-1].figures)["locked until"] == RESTORED


def test_what_was_to_be_closed_is_let_go_when_the_lock_ends_before_it_is() -> None:
    account = desk()
    account.hold(MNQ, 1)
    tell(account, can_trade=False)
    tell(account, can_trade=True)
    assert "lockout" in account.last.cleared
    assert account.state.breached == {}


def test_no_time_ends_it() -> None:
    account = desk()
    tell(account, can_trade=False)
    for _ in range(3):
        account.now = account.now.replace(year=account.now.year + 1)
        read(account, can_trade=False)
        assert account.locked_until() == [None]
    assert len(account.told) == 1


def test_accounts_are_judged_apart() -> None:
    one, other = desk(), desk()
    tell(one, can_trade=False)
    tell(other, can_trade=True)
    assert one.told
    assert not other.told


# settings


def test_without_auto_unlock_the_lock_outlasts_the_restriction() -> None:
    account = desk(auto_unlock_on_restore=False)
    tell(account, can_trade=False)
    assert account.told[0].decisions == (LockOut(None), Flatten())
    assert account.told[0].reason.endswith("locked until an administrator lifts it")
    account.later(5).look()
    assert account.state.breached == {}  # nothing is left to do
    tell(account, can_trade=True)
    assert account.locked_until() == [None]


def test_a_lock_that_waits_becomes_permanent_where_the_settings_now_say_so() -> None:
    account = desk()
    tell(account, can_trade=False)
    account.book = RuleBook({NAME: AuthLossGuard(auto_unlock_on_restore=False)})
    account.look()
    account.book = RuleBook({NAME: AuthLossGuard()})
    tell(account, can_trade=True)
    assert [(lock.until, lock.condition) for lock in account.state.locked(account.now)] == [(None, "")]


def test_with_auto_unlock_off_a_lock_that_waits_is_kept_too() -> None:
    account = desk()
    tell(account, can_trade=False)
    account.book = RuleBook({NAME: AuthLossGuard(auto_unlock_on_restore=False)})
    tell(account, can_trade=True)
    assert account.locked_until() == [None]


def test_alert_only_tells_once_for_each_time_and_closes_nothing() -> None:
    account = desk(enforcement="alert_only")
    account.hold(MNQ, 1)
    for can_trade in (False, False, True, False):
        tell(account, can_trade)
    assert [breach.decisions for breach in account.told] == [(), ()]
    assert account.locked_until() == []


def test_it_has_no_figure_and_is_blind_until_the_account_has_been_told() -> None:
    rule = AuthLossGuard()
    account = desk()
    assert rule.measure(account.state, account.now) is None
    assert rule.blind(account.state, account.now) is None
    assert rule.blind(AccountState(ACCOUNT), account.now) == (
        "it is not known yet whether the broker lets the account trade"
    )


# for any course of things


RULES: dict[str, Rule] = {NAME: AuthLossGuard(), LOSS: DailyRealizedLoss(Decimal(500))}


@given(st.lists(st.tuples(st.sampled_from(["hub", "reading", "trade", "hold"]), st.booleans()), max_size=12))
def test_it_is_locked_exactly_while_it_may_not_trade(steps: list[tuple[str, bool]]) -> None:
    account = Desk(RULES)
    may_trade, lost = True, 0
    for what, yes in steps:
        account.later(3)
        if what == "hold":
            account.hold(MNQ, int(yes))
        elif what == "trade":
            account.trade("-300")
            lost += 300
        else:
            may_trade = yes
            tell(account, yes) if what == "hub" else read(account, yes)
        locked = {lock.rule for lock in account.state.locked(account.now)}
        assert (NAME in locked) == (not may_trade)
        assert (LOSS in locked) == (lost >= 500)
