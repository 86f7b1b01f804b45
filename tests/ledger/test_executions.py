"""What the fills of the day made: the same in whatever order they are told, and at the same cost at any time of day."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from flatguard.ledger.apply import apply
from flatguard.ledger.executions import execute
from flatguard.model.account import AccountState, Terms
from flatguard.model.events import ClockReached, ContractLearned, Event, RecordRead, TradeMade
from flatguard.model.executions import Execution, Executions, Happening, Timeline, index_from
from flatguard.model.ids import OrderId, TradeId
from flatguard.model.trading import Contract, Trade
from flatguard.model.value import changed
from tests.fakes.desk import ACCOUNT, MNQ, chicago, exposure, order, record, trade

START = chicago("2025-01-14 17:00")
NOON = chicago("2025-01-15 12:00")
SECOND = timedelta(seconds=1)


def fill(number: int, of: int, at: datetime = NOON, profit: str | int | None = None, **more: object) -> Trade:
    return evolve(trade(number, at, profit, **more), order_id=OrderId(of))


def after(*events: Event) -> AccountState:
    state = AccountState(ACCOUNT)
    for event in events:
        state = apply(state, event)
    return state


def told(*rows: Trade) -> AccountState:
    return after(*(TradeMade(NOON + SECOND, row) for row in rows))


def of(state: AccountState, number: int) -> Execution:
    return state.executions.by_order[OrderId(number)]


def rows(timeline: Timeline) -> list[tuple[int, int]]:
    return [(timeline[number].trade_id, timeline[number].losing_run) for number in range(len(timeline))]


def test_an_orders_fills_are_added_up() -> None:
    state = told(
        fill(1, 7, NOON, "-75", size=2, fees="0.74", commissions="0.50"),
        fill(2, 7, NOON + SECOND, "-75.5", size=1, fees="0.37", commissions="0.25"),
        fill(3, 8, NOON + SECOND, None, size=3, fees="1.11"),
    )
    made = of(state, 7)
    assert (made.contract_id, made.volume, made.average_price) == (MNQ, 3, 21000)
    assert (made.profit_and_loss, made.fees, made.commissions) == (Decimal("-150.5"), Decimal("1.11"), Decimal("0.75"))
    assert made.net == Decimal("-152.36")
    assert (made.first_at, made.last_at, made.increased_exposure) == (NOON, NOON + SECOND, False)
    opening = of(state, 8)
    assert (opening.profit_and_loss, opening.net, opening.increased_exposure) == (None, None, True)


def test_the_price_is_the_average_by_volume() -> None:
    cheap = evolve(fill(1, 7, size=2), price=Decimal(100))
    assert of(told(cheap, fill(2, 7, size=1)), 7).average_price == Decimal(21200) / 3
    assert of(told(cheap, evolve(fill(2, 7, size=2), price=Decimal(101))), 7).average_price == Decimal("100.5")
    assert of(told(evolve(cheap, size=0)), 7).average_price == 100


def test_an_order_that_turns_a_position_around_both_closes_and_opens() -> None:
    """What it opened is no part of what it made."""
    made = of(told(fill(1, 7, NOON, "-20", fees=1), fill(2, 7, NOON, None, fees=1)), 7)
    assert (made.increased_exposure, made.net) == (True, -21)


def test_a_fill_that_is_voided_is_taken_out_and_an_order_without_any_is_none() -> None:
    one, other = fill(1, 7, NOON, "-75"), fill(2, 7, NOON + SECOND, "-75")
    state = told(one, other, evolve(one, voided=True))
    assert (of(state, 7).profit_and_loss, of(state, 7).first_at) == (-75, NOON + SECOND)
    state = told(one, other, evolve(one, voided=True), evolve(other, voided=True))
    assert state.executions == Executions()


def test_losses_in_a_row_are_counted_by_orders_and_nothing_at_all_breaks_no_run() -> None:
    state = told(
        fill(1, 1, NOON, -10),
        fill(2, 2, NOON + SECOND, 0),
        fill(3, 3, NOON + 2 * SECOND, None),
        fill(4, 4, NOON + 3 * SECOND, -5),
        fill(5, 4, NOON + 4 * SECOND, -5),
        fill(6, 5, NOON + 5 * SECOND, 1),
        fill(7, 6, NOON + 6 * SECOND, -1),
    )
    assert rows(state.executions.results) == [(1, 1), (5, 2), (6, 0), (7, 1)]
    assert state.executions.losing_run == 1
    assert Executions().losing_run == 0


def test_a_winner_that_is_told_late_breaks_the_run_where_it_was_made() -> None:
    losers = [fill(number, number, NOON + number * SECOND, -10) for number in (1, 3, 4)]
    assert rows(told(*losers, fill(2, 2, NOON + 2 * SECOND, 10)).executions.results) == [(1, 1), (2, 0), (3, 1), (4, 2)]


def test_windows_are_counted_by_the_time_at_which_fills_were_made() -> None:
    fills = told(*(fill(number, number, NOON + number * SECOND) for number in range(5))).executions.fills
    assert [index_from(fills, NOON + at * SECOND) for at in (-1, 0, 2, 4, 5)] == [0, 0, 2, 4, 5]


def test_what_was_told_since_the_last_judgement_is_known() -> None:
    first, late = fill(2, 2, NOON), fill(1, 1, NOON - 9 * SECOND)
    state = after(record(NOON, [first]), TradeMade(NOON, late))
    assert state.changed_from == NOON - 9 * SECOND
    state = apply(state, exposure(NOON))
    assert state.changed_from == NOON - 9 * SECOND  # nothing could be judged before
    state = apply(state, ClockReached(NOON))
    assert state.changed_from is None
    assert apply(state, TradeMade(NOON, late)).changed_from is None
    assert apply(state, TradeMade(NOON, evolve(late, voided=True))).changed_from == NOON - 9 * SECOND
    assert apply(state, TradeMade(NOON, evolve(first, fees=Decimal(1)))).changed_from == NOON


def test_a_rate_that_becomes_known_changes_what_earlier_orders_made() -> None:
    early, late = fill(1, 1, NOON, -10, commissions=None), fill(2, 2, NOON + SECOND, -10, commissions=3)
    state = after(record(NOON, [early]), exposure(NOON), ClockReached(NOON), TradeMade(NOON, late))
    assert (of(state, 1).commissions, state.changed_from) == (3, NOON)


def test_a_contract_that_is_described_can_change_what_its_fills_cost() -> None:
    terms = Terms(commissions={"ABC": Decimal(9)})
    state = AccountState(ACCOUNT, terms)
    for event in (record(NOON, [fill(1, 1, NOON, -10, commissions=None)]), exposure(NOON), ClockReached(NOON)):
        state = apply(state, event)
    state = apply(state, ContractLearned(NOON, Contract(MNQ, "ABCU5", Decimal(1), Decimal(1))))
    assert (of(state, 1).net, state.changed_from) == (-19, NOON)


def test_the_next_day_begins_with_nothing_but_its_own_fills() -> None:
    tomorrow = chicago("2025-01-15 17:00")
    state = after(TradeMade(NOON, fill(1, 1, NOON)), TradeMade(NOON, fill(2, 2, tomorrow)))
    assert set(state.executions.by_order) == {1}
    state = apply(state, ClockReached(tomorrow))
    assert set(state.executions.by_order) == {2}


def test_an_order_has_left_to_fill_what_neither_its_row_nor_its_fills_tell_to_be_filled() -> None:
    state = told(fill(1, 7, size=2))
    assert state.remaining(order(7, MNQ, size=5)) == 3
    assert state.remaining(order(7, MNQ, size=5, fill_volume=4)) == 1
    assert state.remaining(order(7, MNQ, size=1)) == 0
    assert state.remaining(order(8, MNQ, size=5, fill_volume=4)) == 1


CROWDED = st.sampled_from([START - SECOND, START, START + SECOND, NOON, NOON + SECOND, START + timedelta(hours=24)])


@st.composite
def batches(draw: st.DrawFn) -> list[Event]:
    """Fills of a few orders, told one by one or many at once, some again, some busted, some with their costs later."""
    fills = [
        fill(
            number,
            draw(st.integers(1, 4)),
            draw(CROWDED),
            draw(st.none() | st.integers(-2, 2)),
            fees=draw(st.sampled_from(["0", "0.36"])),
            commissions=draw(st.sampled_from([None, "0.25", "0.25", "0.50"])),
        )
        for number in range(1, draw(st.integers(1, 8)) + 1)
    ]
    other = [evolve(fill, voided=True) for fill in fills[:3]]
    other += [evolve(fill, fees=Decimal(1), made_at=fill.made_at - SECOND) for fill in fills[1:3]]
    rows = draw(st.lists(st.sampled_from([*fills, *fills, *other]), max_size=16))
    events: list[Event] = []
    while rows:
        size = draw(st.integers(1, 4))
        batch, rows = rows[:size], rows[size:]
        events += [TradeMade(NOON, row) for row in batch] if draw(st.booleans()) else [record(NOON, batch)]
    if draw(st.booleans()):
        events.insert(draw(st.integers(0, len(events))), exposure(NOON))
    return events


def plainly(state: AccountState) -> Executions:
    """The same, in the plainest way that there is."""
    today = state.today
    assert today is not None
    fills = sorted(
        (t for t in state.trades.values() if not t.voided and today.starts_at <= t.made_at < today.ends_at),
        key=lambda t: (t.made_at, t.id),
    )
    by_order = execute(changed(state, executions=Executions())).executions.by_order
    orders = list(dict.fromkeys(t.order_id for t in fills))
    assert set(orders) == set(by_order)
    opening = [[t for t in fills if t.order_id == i and t.profit_and_loss is None][:1] for i in orders]
    closing = [[t for t in fills if t.order_id == i and t.profit_and_loss is not None][-1:] for i in orders]
    results: list[Happening] = []
    for last in sorted((t for some in closing for t in some), key=lambda t: (t.made_at, t.id)):
        net = by_order[last.order_id].net
        run = results[-1].losing_run if results else 0
        if net:
            results.append(Happening(last.made_at, last.id, last.order_id, run + 1 if net < 0 else 0))
    return Executions(
        by_order,
        _timeline(fills),
        _timeline([next(t for t in fills if t.order_id == i) for i in orders]),
        _timeline(sorted((t for some in opening for t in some), key=lambda t: (t.made_at, t.id))),
        Map(enumerate(results)),
    )


def _timeline(fills: list[Trade]) -> Timeline:
    return Map(enumerate(Happening(t.made_at, TradeId(t.id), t.order_id) for t in fills))


@given(batches())
def test_what_is_kept_along_is_at_every_step_what_comes_out_of_all_fills_at_once(events: list[Event]) -> None:
    state = AccountState(ACCOUNT)
    for event in events:
        before, state = state, apply(state, event)
        assert state.executions == plainly(state)
        for happening in happenings(state) - happenings(before):
            assert state.changed_from is not None
            assert state.changed_from <= happening.made_at


def happenings(state: AccountState) -> set[Happening]:
    made = state.executions
    return {*made.fills.values(), *made.orders.values(), *made.entries.values(), *made.results.values()}


@given(batches(), st.randoms(use_true_random=False))
def test_in_whatever_order_fills_are_told_they_made_the_same(events: list[Event], chance: Random) -> None:
    rows = [row for event in events for row in _rows(event)]
    one = after(*(TradeMade(NOON, row) for row in [*rows, *rows]))
    chance.shuffle(rows)
    assert after(record(NOON, rows)).executions == one.executions


def _rows(event: Event) -> tuple[Trade, ...]:
    if isinstance(event, RecordRead):
        return event.trades
    return (event.trade,) if isinstance(event, TradeMade) else ()
