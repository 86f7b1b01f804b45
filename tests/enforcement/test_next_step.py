"""The next requests: never away from flat, never stuck, protective stops last."""

from __future__ import annotations

from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.enforcement.next_step import (
    Cancel,
    Close,
    Held,
    MoveStop,
    PartialClose,
    PlaceStop,
    Step,
    next_steps,
    next_stops,
    reached,
)
from flatguard.enforcement.plan import Wanted
from flatguard.ledger.protection import is_ours
from flatguard.model.decisions import Breach, CloseContract, Decision, Flatten, ProtectAt, ReduceTo, WithoutOrder
from flatguard.model.ids import ContractId, OrderId
from flatguard.model.trading import Order, OrderStatus, OrderType, Side
from tests.fakes.desk import ACCOUNT, EP, MNQ, RTY, chicago, order, position

CONTRACTS = st.sampled_from([MNQ, EP, RTY])
WORKING = [OrderStatus(number) for number in (0, 1, 6, 7, 8, 42)]
STOPS = [OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP]


def want(*decisions: Decision) -> Wanted:
    breach = Breach("1", "a", ACCOUNT, chicago("2025-01-15 12:00"), "", "", (), decisions)
    return Wanted().including(breach)


def held(sizes: dict[ContractId, int], *orders: Order) -> Held:
    return Held.of([position(contract_id, size) for contract_id, size in sizes.items()], orders)


ORDERS = st.builds(
    order,
    st.just(0),
    CONTRACTS,
    st.sampled_from([*Side, Side(9)]),
    st.integers(1, 5),
    st.sampled_from(list(OrderType)),
    st.sampled_from([*WORKING, OrderStatus.FILLED]),
    st.integers(0, 2),
)
ACCOUNTS = st.builds(
    lambda sizes, orders: held(sizes, *(order_numbered(n, o) for n, o in enumerate(orders, 1))),
    st.dictionaries(CONTRACTS, st.integers(-6, 6)),
    st.lists(ORDERS, max_size=6),
)
PLANS = st.lists(
    st.just(Flatten())
    | st.builds(CloseContract, CONTRACTS)
    | st.builds(ReduceTo, CONTRACTS, st.integers(0, 4))
    | st.builds(WithoutOrder, CONTRACTS, st.integers(1, 6).map(OrderId)),
    min_size=1,
    max_size=4,
).map(lambda decisions: want(*decisions))


def order_numbered(number: int, row: Order) -> Order:
    return order(number, row.contract_id, row.side, row.size, row.type, row.status, row.fill_volume)


def protects(row: Order, account: Held) -> bool:
    """A stop on the other side that could not turn the position around."""
    size = account.size(row.contract_id)
    return row.type in STOPS and size * row.side.sign < 0 and row.remaining <= abs(size)


def carried_out(account: Held, step: Step) -> Held:
    """The account once the broker has done as asked."""
    sizes = {contract_id: row.size for contract_id, row in account.positions.items()}
    match step:
        case Close(contract_id):
            sizes[contract_id] = 0
        case PartialClose(contract_id, size):
            sizes[contract_id] -= size if sizes[contract_id] > 0 else -size
        case Cancel(order_id=order_id):
            return held(sizes, *(o for o in account.orders if o.id != order_id))
    return held(sizes, *account.orders)


@given(PLANS, ACCOUNTS)
def test_no_step_raises_a_position_or_turns_it_around(plan: Wanted, account: Held) -> None:
    for step in next_steps(plan, account):
        if isinstance(step, Cancel):
            assert any(o.id == step.order_id and o.contract_id == step.contract_id for o in account.orders)
            continue
        before = account.size(step.contract_id)
        after = carried_out(account, step).size(step.contract_id)
        assert before != 0
        assert abs(after) < abs(before)
        assert after * before >= 0


@given(PLANS, ACCOUNTS)
def test_a_reduction_never_closes_more_than_the_excess(plan: Wanted, account: Held) -> None:
    for step in next_steps(plan, account):
        if isinstance(step, PartialClose):
            assert step.held == abs(account.size(step.contract_id))
            assert step.held - step.size == plan.caps[step.contract_id] > 0
        elif isinstance(step, Close):
            assert plan.flat or plan.caps[step.contract_id] == 0


@given(PLANS, ACCOUNTS)
def test_while_the_end_is_not_reached_there_is_something_to_ask_or_to_wait_for(plan: Wanted, account: Held) -> None:
    steps = next_steps(plan, account)
    if reached(plan, account):
        assert steps == ()
    elif not steps:
        assert any(o.status is OrderStatus.PENDING_CANCELLATION for o in account.orders)


@given(PLANS, ACCOUNTS)
def test_protective_stops_go_last(plan: Wanted, account: Held) -> None:
    cancelled = {step.order_id for step in next_steps(plan, account) if isinstance(step, Cancel)}
    assert not any(protects(o, account) for o in account.orders if o.id in cancelled - plan.without)


@given(PLANS, ACCOUNTS)
def test_asking_again_and_again_reaches_the_end_and_stays_there(plan: Wanted, account: Held) -> None:
    for _ in range(3):
        for step in next_steps(plan, account):
            account = carried_out(account, step)
        pending = {o.id for o in account.orders if o.status is OrderStatus.PENDING_CANCELLATION}
        sizes = {contract_id: row.size for contract_id, row in account.positions.items()}
        account = held(sizes, *(o for o in account.orders if o.id not in pending))
    assert reached(plan, account)
    assert next_steps(plan, account) == ()
    if plan.flat:
        assert not account.positions
        assert not account.orders


@given(PLANS, ACCOUNTS)
def test_what_nobody_spoke_of_is_left_alone(plan: Wanted, account: Held) -> None:
    for step in next_steps(plan, account):
        named = isinstance(step, Cancel) and step.order_id in plan.without
        assert plan.flat or named or step.contract_id in plan.caps


def test_an_order_named_is_cancelled_although_it_protects_and_its_position_is_left_alone() -> None:
    account = held({MNQ: 2}, order(1, MNQ, Side.SELL, 2, OrderType.STOP), order(2, MNQ, Side.SELL, 2, OrderType.STOP))
    plan = want(WithoutOrder(MNQ, OrderId(1)))
    assert next_steps(plan, account) == (Cancel(MNQ, OrderId(1)),)
    assert not reached(plan, account)
    assert reached(plan, carried_out(account, Cancel(MNQ, OrderId(1))))


def test_closes_come_before_cancels() -> None:
    account = held({MNQ: 2, EP: -1}, order(1, RTY), order(2, MNQ))
    assert next_steps(want(Flatten()), account) == (
        Close(EP),
        Close(MNQ),
        Cancel(RTY, OrderId(1)),
        Cancel(MNQ, OrderId(2)),
    )


@pytest.mark.parametrize("kind", STOPS)
@pytest.mark.parametrize(("size", "side"), [(2, Side.SELL), (-2, Side.BUY)])
def test_a_stop_that_covers_the_position_stays_until_it_is_flat_and_then_goes(
    kind: OrderType, size: int, side: Side
) -> None:
    stop = order(1, MNQ, side, 2, kind)
    assert next_steps(want(Flatten()), held({MNQ: size}, stop)) == (Close(MNQ),)
    assert next_steps(want(Flatten()), held({}, stop)) == (Cancel(MNQ, OrderId(1)),)
    assert not reached(want(Flatten()), held({}, stop))


@pytest.mark.parametrize(
    ("row", "why"),
    [
        pytest.param(order(1, MNQ, Side.SELL, 3, OrderType.STOP), "it would turn the position around", id="too large"),
        pytest.param(order(1, MNQ, Side.BUY, 2, OrderType.STOP), "it would add", id="the same way"),
        pytest.param(order(1, MNQ, Side.SELL, 2, OrderType.LIMIT), "a target protects nothing", id="a target"),
        pytest.param(order(1, EP, Side.SELL, 1, OrderType.STOP), "it is another contract's", id="nothing held there"),
        pytest.param(order(1, MNQ, Side.SELL, 2, OrderType(9)), "who knows what it is", id="a type not known"),
    ],
)
def test_what_does_not_protect_is_cancelled_while_the_position_is_being_closed(row: Order, why: str) -> None:
    assert Cancel(row.contract_id, row.id) in next_steps(want(Flatten()), held({MNQ: 2}, row)), why


def test_a_stop_filled_in_part_protects_by_what_is_left_of_it() -> None:
    stop = order(1, MNQ, Side.SELL, 5, OrderType.STOP, fill_volume=3)
    assert next_steps(want(Flatten()), held({MNQ: 2}, stop)) == (Close(MNQ),)


def test_a_market_order_that_reduces_is_left_to_its_work_and_counts_as_not_done() -> None:
    """It is most likely our own close on its way."""
    closing = order(1, MNQ, Side.SELL, 2, OrderType.MARKET, OrderStatus.PENDING)
    assert next_steps(want(Flatten()), held({MNQ: 2}, closing)) == (Close(MNQ),)
    adding = order(1, MNQ, Side.BUY, 2, OrderType.MARKET, OrderStatus.PENDING)
    assert Cancel(MNQ, OrderId(1)) in next_steps(want(Flatten()), held({MNQ: 2}, adding))


def test_a_cancel_that_is_under_way_is_not_asked_for_again_but_waited_for() -> None:
    account = held({}, order(1, MNQ, status=OrderStatus.PENDING_CANCELLATION))
    assert next_steps(want(Flatten()), account) == ()
    assert not reached(want(Flatten()), account)


def test_an_order_of_a_status_not_known_is_cancelled() -> None:
    assert next_steps(want(Flatten()), held({}, order(1, MNQ, status=OrderStatus(42)))) == (Cancel(MNQ, OrderId(1)),)


@pytest.mark.parametrize(
    ("sizes", "steps"),
    [
        pytest.param({MNQ: 4}, [PartialClose(MNQ, 1, 4)], id="long"),
        pytest.param({MNQ: -5}, [PartialClose(MNQ, 2, 5)], id="short"),
        pytest.param({MNQ: 3}, [], id="at the cap"),
        pytest.param({MNQ: -2, EP: 9}, [], id="below it, and another contract"),
    ],
)
def test_reducing_closes_the_excess(sizes: dict[ContractId, int], steps: list[Step]) -> None:
    plan = want(ReduceTo(MNQ, 3))
    assert list(next_steps(plan, held(sizes))) == steps
    assert reached(plan, held(sizes)) == (not steps)


def test_reducing_cancels_what_adds_and_leaves_what_reduces() -> None:
    account = held({MNQ: 2}, order(1, MNQ, Side.BUY), order(2, MNQ, Side.SELL), order(3, EP, Side.BUY))
    assert next_steps(want(ReduceTo(MNQ, 3)), account) == (Cancel(MNQ, OrderId(1)),)


def test_closing_a_contract_cancels_all_its_orders_and_no_others() -> None:
    account = held({MNQ: 2, EP: 1}, order(1, MNQ, Side.SELL), order(2, EP))
    assert next_steps(want(CloseContract(MNQ)), account) == (Close(MNQ), Cancel(MNQ, OrderId(1)))


def test_what_is_flat_and_what_has_ended_does_not_count_as_held() -> None:
    account = held({MNQ: 0}, order(1, MNQ, status=OrderStatus.FILLED))
    assert account == Held({}, ())
    assert reached(want(Flatten()), account)


PRICES = st.integers(90, 110).map(Decimal)
NUMBERS = st.none() | st.integers(1, 6).map(OrderId)
PROTECT = st.lists(
    st.builds(ProtectAt, CONTRACTS, PRICES, st.integers(1, 9), NUMBERS),
    max_size=3,
    unique_by=lambda decision: decision.contract_id,
)
PRICED = st.builds(
    lambda account, prices, ours: held(
        {c: p.size for c, p in account.positions.items()},
        *(
            evolve(o, stop_price=Decimal(price), custom_tag="flatguard-1" if our else None)
            for o, price, our in zip(account.orders, prices, ours, strict=False)
        ),
    ),
    ACCOUNTS,
    st.lists(st.integers(90, 110), min_size=6, max_size=6),
    st.lists(st.booleans(), min_size=6, max_size=6),
)


@given(PROTECT, PRICED)
def test_stops_of_ours_only_tighten_and_cover_what_is_open_at_most(protect: list[ProtectAt], account: Held) -> None:
    for step in next_stops(protect, account):
        size = account.size(step.contract_id)
        orders = {o.id: o for o in account.orders if o.contract_id == step.contract_id}
        stops = [o for o in orders.values() if o.type in STOPS and o.side.sign * size < 0]
        if isinstance(step, PlaceStop):
            assert step.side.sign * size < 0
            assert step.size + sum(o.remaining for o in stops) <= abs(size)
            assert not any(is_ours(o) for o in stops)
            continue
        before = orders[step.order_id]
        assert before.stop_price is not None
        assert before.side.sign * size < 0
        if step.stop_price is not None:
            assert (step.stop_price - before.stop_price) * size > 0
        if step.size is not None:
            assert is_ours(before)
            others = sum(o.remaining for o in stops if o.id != before.id)
            assert 0 < step.size - before.fill_volume <= abs(size) - others


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (order(1, MNQ, Side.SELL, 2, OrderType.STOP, OrderStatus.PENDING_CANCELLATION), "it is going"),
        (order(1, MNQ, Side.SELL, 2, OrderType.TRAILING_STOP), "the broker moves it"),
        (order(1, MNQ, Side.SELL, 2, OrderType.STOP), "it has no price"),
    ],
)
def test_a_stop_that_cannot_be_moved_is_not(row: Order, why: str) -> None:
    row = evolve(row, custom_tag="flatguard-1")
    assert next_stops([ProtectAt(MNQ, Decimal(100), 2, OrderId(1))], held({MNQ: 2}, row)) == (), why


def test_a_stop_is_placed_beside_none_of_ours_and_moved_in_price_and_size() -> None:
    stop = evolve(
        order(1, MNQ, Side.SELL, 3, OrderType.STOP, fill_volume=1), stop_price=Decimal(90), custom_tag="flatguard-1"
    )
    place, move = ProtectAt(MNQ, Decimal(100), 5), ProtectAt(MNQ, Decimal(100), 5, OrderId(1))
    assert next_stops([place], held({MNQ: 3})) == (PlaceStop(MNQ, Side.SELL, 3, Decimal(100)),)
    assert next_stops([place], held({MNQ: 3}, stop)) == ()
    assert next_stops([place], held({})) == ()
    assert next_stops([move], held({MNQ: 3}, stop)) == (MoveStop(MNQ, OrderId(1), Decimal(100), 4),)
    assert next_stops([move], held({MNQ: 2}, evolve(stop, stop_price=Decimal(100)))) == ()
