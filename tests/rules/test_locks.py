"""Hard locks let nothing be open, of the account or of a product; cooldowns let stand what was open, and no more."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.account import AccountState, Span
from flatguard.model.decisions import CloseContract, Decision, Flatten, LockOut, ReduceTo, WithoutOrder
from flatguard.model.events import Event, LockLifted, TradeMade
from flatguard.model.ids import OrderId
from flatguard.model.lockouts import LockKind
from flatguard.model.trading import OrderStatus, OrderType, Side
from flatguard.rules._book import Judgement
from flatguard.rules._rule import Finding, Rule
from tests.fakes.desk import ACCOUNT, EP, ES, MNQ, NQ, RTY, Desk, chicago, exposure, order, position, trade

OPENING = chicago("2025-01-15 17:00")


@frozen
class AfterTrades(Rule):
    """Calls for ``decisions`` on each fill; its cooldowns last ``minutes`` from there."""

    decisions: tuple[Decision, ...] = ()
    minutes: int = 5
    scope: str = "account"

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        if not isinstance(event, TradeMade):
            return None
        until = event.at + timedelta(minutes=self.minutes)
        decisions = self.decisions or (LockOut(until, self.scope, kind=LockKind.COOLDOWN),)
        return Finding("a fill was made", decisions, (), cause=f"trade {event.trade.id}")


def desk(**settings: object) -> Desk:
    return Desk({"brake": AfterTrades(**settings)})


def lose(account: Desk) -> Judgement:
    """A loss in a contract that no test holds: what is held otherwise was told by position and fills alike."""
    return account.trade("-100", contract_id=NQ)


def told(account: Desk) -> list[tuple[Decision, ...]]:
    return [breach.decisions for breach in account.told if breach.rule == "lockout"]


# cooldowns


def test_what_was_open_when_a_cooldown_began_may_stay_and_be_given_up_but_not_grow() -> None:
    account = desk()
    account.hold(MNQ, 3)
    lose(account)
    assert account.told[-1].reason.startswith("a fill was made, cooling down until 2025-01-15 10:05")
    account.hold(MNQ, 2)
    assert told(account) == []
    account.hold(MNQ, 3)
    assert told(account) == [(ReduceTo(MNQ, 2),)]
    assert account.told[-1].reason == "locked by brake; open all the same: +3 MNQU5, +2 allowed"
    account.hold(MNQ, 2)
    account.hold(MNQ, 0)
    account.hold(MNQ, 1)
    assert told(account)[1:] == [(CloseContract(MNQ),)]


def test_a_position_turned_around_is_closed_and_another_contract_too() -> None:
    account = desk()
    account.hold(MNQ, 3)
    lose(account)
    account.hold(MNQ, -1)
    account.hold(EP, 1)
    assert told(account) == [(CloseContract(MNQ),)]
    assert account.last.standing[0].decisions == (CloseContract(EP), CloseContract(MNQ))


def test_orders_that_could_add_go_at_once_and_those_that_reduce_or_protect_stay() -> None:
    account = desk()
    account.hold(MNQ, 2)
    rows = {
        1: order(1, MNQ, Side.BUY, 1),
        2: order(2, MNQ, Side.SELL, 2),
        3: order(3, MNQ, Side.SELL, 3),
        4: order(4, MNQ, Side.SELL, 3, OrderType.STOP),
        5: order(5, MNQ, Side.SELL, 2, OrderType.TRAILING_STOP, OrderStatus.SUSPENDED),
        6: order(6, EP, Side.SELL, 1, OrderType.STOP),
    }
    for row in rows.values():
        account.order(row)
    found = lose(account).found
    assert [breach.rule for breach in found] == ["brake", "lockout"]
    assert found[1].decisions == (
        WithoutOrder(MNQ, OrderId(1)),
        WithoutOrder(MNQ, OrderId(3)),
        WithoutOrder(EP, OrderId(6)),
    )


def test_it_ends_by_time_and_the_next_one_begins_anew() -> None:
    account = desk()
    lose(account)
    account.at("10:06").read()
    assert account.state.lockouts == ()
    account.hold(MNQ, 2)
    assert told(account) == []
    lose(account)
    account.hold(MNQ, 1)
    account.hold(MNQ, 2)
    assert told(account) == [(ReduceTo(MNQ, 1),)]


def test_a_second_cooldown_does_not_let_stand_what_came_during_the_first() -> None:
    account = desk()
    account.hold(MNQ, 1)
    lose(account)
    account.hold(MNQ, 3)
    lose(account.later(60))
    assert account.state.may_hold[MNQ] == Span(0, 1)


def test_of_two_rules_cooldowns_the_later_end_counts() -> None:
    account = Desk({"brake": AfterTrades(), "long": AfterTrades(minutes=30)})
    lose(account)
    account.at("10:10").read()
    account.hold(MNQ, 1)
    assert told(account) == [(CloseContract(MNQ),)]


@pytest.mark.parametrize("fill_first", [True, False])
def test_the_fill_that_began_it_may_be_told_before_its_position(fill_first: bool) -> None:
    """What the trader held when the cooldown began stays, in whichever order the hub tells of it."""
    account = desk()
    if not fill_first:
        account.hold(MNQ, 2)
    account.trade(None, side=Side.BUY, size=2)
    if fill_first:
        account.hold(MNQ, 2)
    assert told(account) == []
    account.hold(MNQ, 3)
    assert told(account) == [(ReduceTo(MNQ, 2),)]


def test_what_the_fills_show_given_up_does_not_come_back() -> None:
    account = desk()
    account.trade(None, side=Side.BUY, size=2)
    account.hold(MNQ, 2)
    account.trade("-100", side=Side.SELL, size=1)
    account.trade("-100", side=Side.SELL, size=1)
    account.hold(MNQ, 0)
    account.hold(MNQ, 1)
    assert told(account)[-1:] == [(CloseContract(MNQ),)]


def test_a_cooldown_of_a_product_is_about_that_product() -> None:
    account = desk(scope="MNQ")
    lose(account)
    account.order(order(1, EP))
    account.hold(EP, 1)
    assert told(account) == []
    account.hold(MNQ, 1)
    assert told(account) == [(CloseContract(MNQ),)]


def test_a_cooldown_survives_a_reading_that_shows_more() -> None:
    account = desk()
    account.hold(MNQ, 1)
    lose(account)
    account.tell(exposure(account.later(20).now, [position(MNQ, 4)]))
    account.tell(exposure(account.later(5).now, [position(MNQ, 4)]))
    assert told(account) == [(ReduceTo(MNQ, 1),)]


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_during_a_cooldown_exposure_falls_and_never_rises(sizes: list[int]) -> None:
    account = desk()
    account.hold(MNQ, 3)
    lose(account)
    allowed = 3
    for size in sizes:
        account.hold(MNQ, size)
        excess = size < 0 or size > allowed
        assert ("lockout" in account.state.breached) == excess
        allowed = min(allowed, max(0, size))


# hard locks


def test_a_lock_of_a_product_closes_that_product_and_leaves_the_others() -> None:
    account = desk(decisions=(LockOut(None, "RTY"),))
    lose(account)
    assert account.told[0].reason == "a fill was made, RTY locked until an administrator lifts it"
    account.hold(EP, 1)
    account.hold(RTY, 1)
    account.order(order(1, RTY))
    account.order(order(2, EP))
    assert told(account) == [(CloseContract(RTY),)]
    assert account.last.state.breached["lockout"].told == (CloseContract(RTY),)


def test_a_rule_that_locks_several_products_and_closes_them_leaves_nothing_to_the_lockout() -> None:
    account = desk(decisions=(LockOut(OPENING, "RTY"), LockOut(OPENING, "ES"), CloseContract(RTY), CloseContract(EP)))
    account.hold(RTY, 1)
    account.hold(EP, 1)
    lose(account)
    assert [breach.rule for breach in account.told] == ["brake"]
    assert {lock.scope for lock in account.state.lockouts} == {"RTY", "ES"}
    assert account.told[0].reason.endswith(
        "RTY locked until 2025-01-15 17:00 CST, ES locked until 2025-01-15 17:00 CST"
    )


def test_flat_absorbs_what_a_cooldown_would_reduce() -> None:
    account = Desk({"brake": AfterTrades(), "lock": AfterTrades((LockOut(OPENING),))})
    account.hold(MNQ, 1)
    lose(account)
    assert told(account) == [(Flatten(),)]


def test_closed_absorbs_what_a_cooldown_would_reduce() -> None:
    account = Desk({"brake": AfterTrades(), "lock": AfterTrades((LockOut(OPENING, "ES"),))})
    account.hold(ES, 1)
    lose(account)
    account.hold(ES, 2)
    assert account.state.breached["lockout"].told == (CloseContract(ES),)


@pytest.mark.parametrize("filled", [2, 1])
def test_an_order_whose_fills_make_up_its_size_cannot_fill_though_its_own_row_comes_last(filled: int) -> None:
    account = desk(decisions=(LockOut(OPENING),))
    lose(account)
    row = evolve(trade(90, account.now, 5, size=filled), order_id=OrderId(41))
    account.tell(TradeMade(account.now, row))
    account.order(order(41, MNQ, Side.SELL, 2))
    open_all_the_same = [breach for breach in account.told if breach.rule == "lockout"]
    assert len(open_all_the_same) == (filled < 2)
    for breach in open_all_the_same:
        assert breach.reason == "locked by brake; open all the same: order 41 (sell 1 MNQU5)"


# how they end


@pytest.mark.parametrize("kind", LockKind)
def test_an_administrator_ends_the_locks_of_one_rule_on_one_scope(kind: LockKind) -> None:
    account = Desk({"a": AfterTrades((LockOut(OPENING, kind=kind),)), "b": AfterTrades((LockOut(OPENING),))})
    lose(account)
    account.tell(LockLifted(account.now, ACCOUNT, "a", "MNQ", "ann", "a mistake"))
    assert len(account.state.lockouts) == 2
    account.tell(LockLifted(account.now, ACCOUNT, "a", "account", "ann", "a mistake"))
    assert [lock.rule for lock in account.state.lockouts] == ["b"]
    assert account.state.may_hold == {}


@pytest.mark.parametrize(("until", "shown"), [("17:00", "17:00 CST"), ("17:00:30", "17:00:30 CST")])
def test_the_reason_tells_the_end_to_the_second_where_that_matters(until: str, shown: str) -> None:
    end: datetime = chicago(f"2025-01-15 {until}")
    account = desk(decisions=(LockOut(end),))
    assert lose(account).found[0].reason == f"a fill was made, locked until 2025-01-15 {shown}"
