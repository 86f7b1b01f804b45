"""Trade management, beside the worked examples of its page: whose stop it is, its size, and what settles first."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.decisions import Decision, ProtectAt, WithoutOrder
from flatguard.model.events import PositionChanged, TradeMade
from flatguard.model.ids import ContractId, OrderId
from flatguard.model.trading import Order, OrderStatus, OrderType, Side
from flatguard.rules.trade_management import NAME, TradeManagement
from tests.fakes.desk import EP, MNQ, Desk, chicago, exposure, order, position, trade

TICK = Decimal("0.25")


class Trader(Desk):
    """An account whose broker does at once what the rule calls for, where ``obeys``."""

    def __init__(self, *, obeys: bool = True, **settings: Any) -> None:
        super().__init__({NAME: TradeManagement(**settings)})
        self.obeys = obeys
        self.did: list[Decision] = []
        self._number = 100

    def hold(self, contract_id: ContractId, size: int, average: str = "21000") -> Any:
        judgement = super().hold(contract_id, size, average)
        self.later(2)
        return judgement

    def tell(self, event: Any) -> Any:
        judgement = super().tell(event)
        for breach in (*judgement.found, *judgement.standing):
            for decision in breach.decisions:
                self.did.append(decision)
                if self.obeys:
                    self.do(decision)
        return judgement

    def do(self, decision: Decision) -> None:
        if isinstance(decision, ProtectAt):
            size = self.state.size_of(decision.contract_id)
            known = self.state.orders.get(decision.order_id) if decision.order_id is not None else None
            if known is not None:
                resized = known.size if known.custom_tag is None else decision.size
                self.order(evolve(known, stop_price=decision.stop_price, size=resized))
                return
            number = self._number = self._number + 1
            side = Side.SELL if size > 0 else Side.BUY
            self.order(stop(number, decision.stop_price, decision.contract_id, size=decision.size, side=side))
        elif isinstance(decision, WithoutOrder):
            self.order(evolve(self.state.orders[decision.order_id], status=OrderStatus.CANCELLED))

    def runs(self, contract_id: ContractId, *prices: str) -> list[Decision]:
        """The market moves, two seconds apart; returns what the rule called for meanwhile."""
        before = len(self.did)
        for price in prices:
            self.later(2).quote(contract_id, last=price)
        return self.did[before:]


def stop(
    number: int,
    price: str | Decimal,
    contract_id: ContractId = MNQ,
    *,
    size: int = 1,
    side: Side = Side.SELL,
    ours: bool = True,
    kind: OrderType = OrderType.STOP,
) -> Order:
    row = order(number, contract_id, side, size, kind)
    return evolve(row, stop_price=Decimal(price), custom_tag=f"flatguard-{number}" if ours else None)


def placed(price: str, size: int = 1, contract_id: ContractId = MNQ) -> ProtectAt:
    return ProtectAt(contract_id, Decimal(price), size)


def moved(price: str, size: int = 1, contract_id: ContractId = MNQ, number: int = 101) -> ProtectAt:
    return ProtectAt(contract_id, Decimal(price), size, OrderId(number))


# the examples


def test_012_1_without_the_rule_nothing_is_done() -> None:
    account = Desk({})
    account.hold(MNQ, 2, "21000")
    account.quote(MNQ, last="21010")
    assert not account.told


@pytest.mark.parametrize(
    ("contract_id", "size", "entry", "prices", "expected"),
    [
        pytest.param(EP, 1, "5800", ["5805", "5810"], [placed("5802.50", 1, EP), moved("5807.50", 1, EP)], id="012-6"),
        pytest.param(
            EP,
            1,
            "5800",
            ["5805", "5810", "5806"],
            [placed("5802.50", 1, EP), moved("5807.50", 1, EP)],
            id="012-7",
        ),
        pytest.param(MNQ, -1, "21000", ["20995", "20990"], [placed("20997.50"), moved("20992.50")], id="012-9"),
    ],
)
def test_the_stop_goes_to_breakeven_and_then_trails(
    contract_id: ContractId,
    size: int,
    entry: str,
    prices: list[str],
    expected: list[Decision],
) -> None:
    account = Trader()
    account.hold(contract_id, size, entry)
    assert account.runs(contract_id, *prices) == expected


def test_012_11_a_stop_of_the_traders_own_is_left_alone() -> None:
    account = Trader()
    account.hold(MNQ, 1)
    account.order(stop(1, "20995", ours=False))
    assert account.runs(MNQ, "21002.50", "21010") == []


def test_012_12_of_five_prices_within_a_second_the_last_one_counts() -> None:
    account = Trader()
    account.hold(MNQ, 1)
    account.runs(MNQ, "21005")
    began = account.now
    for ticks in range(1, 6):
        account.later(0.1).quote(MNQ, last=str(Decimal(21005) + ticks * TICK))
    assert account.did == [placed("21002.50")]
    assert account.book.rules[NAME].next_moment(account.state, account.now) == began + timedelta(seconds=1)
    account.now = began + timedelta(seconds=1)
    account.look()
    assert account.did[1:] == [moved("21003.75")]


# words


def test_what_it_does_it_says_with_its_figures() -> None:
    account = Trader(obeys=False)
    account.hold(MNQ, 2)
    account.runs(MNQ, "21002.75")
    (breach,) = account.told
    assert breach.reason == "a stop for 2 MNQU5 to 21000.00"
    assert breach.figures == (("MNQU5", "entry 21000, best 21002.75, market 21002.75"),)
    account.order(stop(1, "21000", size=2))
    account.runs(MNQ, "21005")
    assert account.told[1].reason == "the stop of order 1 for 2 MNQU5 to 21002.50"


def test_a_stop_that_is_not_there_yet_is_called_for_as_one_breach() -> None:
    account = Trader(obeys=False)
    account.hold(MNQ, 1)
    account.runs(MNQ, "21002.50", "21005", "21006")
    assert len(account.told) == 1
    assert account.did == [placed("21000"), placed("21002.50"), placed("21003.50")]


# what it must not do


def test_a_stop_never_moves_backwards() -> None:
    account = Trader()
    account.hold(MNQ, 1)
    account.runs(MNQ, "21010")
    account.tell(PositionChanged(account.now, position(MNQ, 2, "21004", chicago("2025-01-15 10:00"))))
    account.later(5)
    assert account.runs(MNQ, "21009") == [moved("21007.50", 2)]


def test_where_the_market_has_passed_the_trail_breakeven_still_counts() -> None:
    account = Trader(obeys=False)
    account.hold(MNQ, 1)
    account.runs(MNQ, "21010")
    assert account.runs(MNQ, "21006") == [placed("21000")]
    assert account.runs(MNQ, "21000") == []


def test_no_price_no_stop_and_the_rule_is_blind_after_half_a_minute() -> None:
    account = Trader()
    account.hold(MNQ, 1)
    account.later(31).look()
    reason = account.book.rules[NAME].blind(account.state, account.now)
    assert reason == "no price to believe for MNQU5 (none has come), so its stop is not moved"
    assert account.did == []


def test_a_step_that_is_too_small_is_not_taken() -> None:
    account = Trader(trailing_step_ticks=4)
    account.hold(MNQ, 1)
    assert account.runs(MNQ, "21005", "21005.75", "21006") == [placed("21002.50"), moved("21003.50")]


@pytest.mark.parametrize(("size", "price"), [(1, "21000"), (-1, "21000.25")])
def test_an_entry_off_the_grid_is_rounded_away_from_the_market(size: int, price: str) -> None:
    account = Trader(trailing=False)
    account.hold(MNQ, size, "21000.1")
    assert account.runs(MNQ, str(21000 + 5 * size)) == [placed(price)]


def test_breakeven_alone_and_trailing_alone() -> None:
    account = Trader(trailing=False)
    account.hold(MNQ, 1)
    assert account.runs(MNQ, "21002.50", "21010") == [placed("21000")]
    account = Trader(breakeven=False)
    account.hold(MNQ, 1)
    assert account.runs(MNQ, "21002.50", "21005") == [placed("21002.50")]


# whose stop it is


def test_a_stop_of_the_traders_own_is_tightened_where_that_is_allowed_and_its_size_left_alone() -> None:
    account = Trader(respect_manual_stops=False)
    account.hold(MNQ, 2)
    account.order(stop(1, "20995", ours=False))
    account.later(2)
    assert account.runs(MNQ, "21002.50") == [moved("21000", 1, number=1)]
    account.order(stop(2, "20990", ours=False, kind=OrderType.STOP_LIMIT))
    account.later(2)
    assert all(d.order_id == 1 for d in account.runs(MNQ, "21002.75", "21006") if isinstance(d, ProtectAt))


def test_where_the_trader_sets_a_stop_too_ours_shrinks_or_goes() -> None:
    account = Trader()
    account.hold(MNQ, 2)
    account.runs(MNQ, "21002.50")
    account.order(stop(1, "20995", ours=False))
    assert account.did[1:] == [moved("21000", 1)]
    account.later(2).order(stop(2, "20995", ours=False))
    assert account.did[2:] == [WithoutOrder(MNQ, OrderId(101))]


def test_of_two_stops_of_ours_the_better_one_stays() -> None:
    account = Trader()
    account.hold(MNQ, 1)
    account.order(stop(1, "20990"))
    account.order(stop(2, "20995"))
    assert account.did == [WithoutOrder(MNQ, OrderId(1))]


def test_ours_goes_where_what_is_left_is_covered_by_the_traders_own_but_only_once_things_have_settled() -> None:
    account = Trader()
    account.hold(MNQ, 2)
    account.runs(MNQ, "21002.50")
    account.order(stop(1, "20995", ours=False))
    account.later(2).look()
    before = len(account.did)
    opened = account.state.positions[MNQ].opened_at
    account.tell(PositionChanged(account.now, position(MNQ, 1, "21000", opened)))
    assert account.did[before:] == []
    assert account.book.rules[NAME].next_moment(account.state, account.now) == account.now + timedelta(seconds=1)
    account.later(1).look()
    assert account.did[before:] == [WithoutOrder(MNQ, OrderId(101))]


def test_a_position_that_only_a_reading_has_shown_is_looked_after_at_the_first_price() -> None:
    account = Trader()
    account.tell(exposure(account.later(10).now, [position(MNQ, 2, "21000", account.now)]))
    assert account.book.rules[NAME].next_moment(account.state, account.now) is None
    assert account.runs(MNQ, "21005") == [placed("21002.50", 2)]


# its size


def test_the_stop_follows_the_size_of_the_position_once_things_have_settled() -> None:
    account = Trader()
    account.hold(MNQ, 3)
    account.runs(MNQ, "21002.50")
    opened = account.state.positions[MNQ].opened_at
    account.tell(PositionChanged(account.now, position(MNQ, 1, "21000", opened)))
    assert account.did[1:] == []
    assert account.book.rules[NAME].next_moment(account.state, account.now) == account.now + timedelta(seconds=1)
    account.later(1).look()
    assert account.did[1:] == [moved("21000", 1)]


def test_once_the_position_is_closed_our_stop_goes_after_a_second() -> None:
    account = Trader()
    account.hold(MNQ, 1)
    account.runs(MNQ, "21002.50")
    closed = account.later(1).now
    account.tell(PositionChanged(closed, position(MNQ, 0)))
    assert account.did[1:] == []
    assert account.book.rules[NAME].next_moment(account.state, account.now) == closed + timedelta(seconds=1)
    account.later(1).look()
    assert account.did[1:] == [WithoutOrder(MNQ, OrderId(101))]
    assert account.told[-1].reason == "order 101 of ours covers nothing in MNQU5"


def test_a_stop_that_fills_is_not_cancelled_and_not_replaced() -> None:
    account = Trader()
    account.hold(MNQ, 1)
    account.runs(MNQ, "21005")
    filled = evolve(account.state.orders[OrderId(101)], status=OrderStatus.FILLED, fill_volume=1)
    account.later(1).order(filled)
    account.quote(MNQ, last="21004")
    account.later(0.2).tell(PositionChanged(account.now, position(MNQ, 0)))
    account.later(5).look()
    assert account.did == [placed("21002.50")]


def test_while_fills_say_that_the_position_is_smaller_no_stop_is_placed() -> None:
    account = Trader()
    account.hold(MNQ, 1)
    account.tell(exposure(account.now, account.state.positions.values()))
    account.later(2).tell(TradeMade(account.now, trade(1, account.now, "10", contract_id=MNQ)))
    assert account.runs(MNQ, "21005") == []


def test_while_a_close_is_under_way_no_stop_is_placed() -> None:
    account = Trader()
    account.hold(MNQ, 1)
    account.order(order(7, MNQ, Side.SELL, 1, OrderType.MARKET, OrderStatus.PENDING))
    assert account.runs(MNQ, "21005") == []


def test_after_a_flip_the_stop_of_before_goes() -> None:
    account = Trader()
    account.hold(MNQ, 1)
    account.runs(MNQ, "21002.50")
    account.hold(MNQ, -1, "21002")
    assert account.did[1:] == [WithoutOrder(MNQ, OrderId(101))]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"breakeven_offset_ticks": 10}, "must be less than breakeven_trigger_ticks, 10, not 10"),
        ({"trailing_activation_ticks": 9}, "must be breakeven_trigger_ticks, 10, or more, not 9"),
        ({"trailing_distance_ticks": 0}, "must be 1 or more"),
        ({"min_modify_interval": timedelta(0)}, 'must last from "1s"'),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TradeManagement(**settings)


WALK = st.lists(st.tuples(st.integers(0, 3), st.integers(-12, 14)), min_size=1, max_size=12)


def walked(walk: list[tuple[int, int]], size: int, *, every_second: bool) -> list[tuple[datetime, Decision]]:
    account = Trader(min_modify_interval=timedelta(seconds=2))
    account.hold(MNQ, size)
    done: list[tuple[datetime, Decision]] = []

    def judge_until(until: datetime) -> None:
        while True:
            due = account.book.next_moment(account.state, account.now)
            if every_second:
                due = account.now + timedelta(seconds=1)
            if due is None or due >= until:
                return
            account.now = due
            noted(account.look)

    def noted(act: Any) -> None:
        before = len(account.did)
        act()
        done.extend((account.now, decision) for decision in account.did[before:])

    price, moment = Decimal(21000), account.now
    for wait, ticks in [*walk, (5, 0)]:
        moment += timedelta(seconds=wait)
        price += ticks * TICK
        judge_until(moment)
        account.now = moment
        noted(lambda at=price: account.quote(MNQ, last=str(at)))
    return done


@given(walk=WALK, size=st.sampled_from([2, -1]))
def test_judging_at_the_moments_that_it_names_does_what_judging_every_second_does(
    walk: list[tuple[int, int]], size: int
) -> None:
    assert walked(walk, size, every_second=True) == walked(walk, size, every_second=False)


@given(walk=WALK, size=st.sampled_from([2, -1]))
def test_whatever_the_market_does_the_stop_only_tightens(walk: list[tuple[int, int]], size: int) -> None:
    prices = [d.stop_price for _, d in walked(walk, size, every_second=False) if isinstance(d, ProtectAt)]
    assert prices == sorted(set(prices), reverse=size < 0)
    assert all(price % TICK == 0 for price in prices)
