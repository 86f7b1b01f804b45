"""One event after another into an account: nothing is lost, nothing counts twice, whatever the order."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.ledger.apply import apply
from flatguard.ledger.pnl import realize
from flatguard.ledger.trading_day import trading_day
from flatguard.model.account import AccountState, BlindSpell, Link, Terms
from flatguard.model.events import (
    AccountChanged,
    BarRead,
    ClockReached,
    ClosesRefused,
    ContractLearned,
    Event,
    EventSetAside,
    Hub,
    LinkDown,
    LinkUp,
    OrderChanged,
    PositionChanged,
    QuoteMoved,
    ReadingFailed,
    RecordRead,
    TradeMade,
)
from flatguard.model.ids import ContractId
from flatguard.model.trading import Contract, OrderStatus, Quote, Side, Trade
from tests.fakes.desk import (
    ACCOUNT,
    EP,
    MNQ,
    RTY,
    account_row,
    chicago,
    contract,
    exposure,
    order,
    position,
    record,
    trade,
)

NOON = chicago("2025-01-15 12:00")
SECOND = timedelta(seconds=1)


def after(*events: Event, state: AccountState | None = None) -> AccountState:
    state = state or AccountState(ACCOUNT)
    for event in events:
        state = apply(state, event)
    return state


def told(*rows: Trade, at: datetime = NOON) -> list[Event]:
    return [TradeMade(at, row) for row in rows]


# trades


def test_a_fill_told_again_counts_once() -> None:
    row = trade(7, NOON, -450, fees=1)
    once = after(*told(row))
    assert after(*told(row), state=once).realized is once.realized


def test_the_opening_fill_told_again_when_its_position_closes_changes_nothing() -> None:
    """The hub pushes it again beside the closing one, before or after it, its price written with one more digit."""
    opening, closing = trade(1, NOON - SECOND, None, fees="5.55"), trade(2, NOON, "532.5", fees="5.55")
    again = evolve(opening, price=Decimal("21000.0"))
    once = after(*told(opening, closing)).realized
    assert after(*told(opening, closing, again)).realized == once
    assert after(*told(opening, again, closing)).realized == once
    assert once.fills == 2


def test_a_cost_once_seen_is_not_undone_by_a_row_that_lacks_it() -> None:
    hub = trade(1, NOON, 10, fees="0.36", commissions="0.25")
    rest = trade(1, NOON, None, fees=0, commissions=None)
    for events in ([*told(hub), record(NOON, [rest])], [record(NOON, [rest]), *told(hub)]):
        day = after(*events).realized
        assert (day.gross, day.fees, day.commissions) == (Decimal(10), Decimal("0.36"), Decimal("0.25"))


def test_of_two_costs_told_for_one_fill_the_dearer_counts() -> None:
    rows = [trade(1, NOON, 10, commissions="0.25"), trade(1, NOON, 10, commissions="0.50")]
    assert after(*told(*rows)).realized.commissions == Decimal("0.50")
    assert after(*told(*reversed(rows))).realized.commissions == Decimal("0.50")


def test_a_fill_told_again_with_a_later_time_stays_in_its_day() -> None:
    row = trade(1, chicago("2025-01-15 16:50"), -450)
    evening = chicago("2025-01-15 18:00")
    state = after(*told(row), *told(evolve(row, made_at=evening), at=evening))
    assert state.realized.net == 0


def test_a_fill_busted_later_is_taken_off_again() -> None:
    row = trade(1, NOON, -450, fees=1)
    state = after(*told(row, evolve(row, voided=True), row))
    assert (state.realized.net, state.realized.fills) == (Decimal(0), 0)


def test_a_fill_that_arrives_busted_does_not_count() -> None:
    assert after(*told(trade(1, NOON, -450, voided=True))).realized.fills == 0


def test_a_fill_told_late_takes_its_place_among_the_others() -> None:
    """The day's low is that of the fills in the order in which they were made, not told, and not numbered."""
    loss, win = trade(2, NOON - SECOND, -500), trade(1, NOON, 300)
    assert after(*told(win, loss)).realized.low_net == -500


def test_fills_of_one_moment_are_taken_in_the_order_of_their_ids() -> None:
    rows = [trade(1, NOON, -500), trade(2, NOON, 300)]
    assert after(*told(*rows)).realized == after(*told(*reversed(rows))).realized
    assert after(*told(*rows)).realized.low_net == -500


def test_a_contract_described_after_its_first_fill_is_charged_by_its_ticker_from_then_on() -> None:
    """Otherwise the sum would change at whatever made the day be added up next, hours later."""
    odd = ContractId("CON.F.US.ZZZ.U25")
    terms = Terms(commissions={"QQ": Decimal(2)}, other_commission=Decimal(1))
    state = after(*told(trade(1, NOON, 0, commissions=None, contract_id=odd)), state=AccountState(ACCOUNT, terms))
    assert state.realized.commissions == 1
    state = apply(state, ContractLearned(NOON, Contract(odd, "QQU5", Decimal(1), Decimal(1))))
    assert state.realized.commissions == 2


START = chicago("2025-01-14 17:00")
# fills of the day before, of the day, of the day after
MADE = st.integers(-3, 27).map(lambda hour: START + timedelta(hours=hour))


@st.composite
def tellings(draw: st.DrawFn) -> list[list[Event]]:
    """Some fills, each told once or more, by the hub and by REST: the same events in two orders."""
    events: list[Event] = []
    for number in range(1, draw(st.integers(1, 6)) + 1):
        profit = draw(st.none() | st.integers(-300, 300))
        fees, commission = draw(st.sampled_from(["0", "0.36"])), draw(st.sampled_from(["0.25", "0.50"]))
        hub = trade(number, draw(MADE), profit, fees=fees, commissions=commission, size=draw(st.integers(1, 3)))
        partial = [evolve(hub, commissions=None), evolve(hub, profit_and_loss=None), evolve(hub, voided=True)]
        rows = draw(st.lists(st.sampled_from([hub, hub, *partial]), min_size=1, max_size=4))
        events += [TradeMade(NOON, row) if draw(st.booleans()) else record(NOON, [row]) for row in rows]
    events.append(ContractLearned(NOON, contract(MNQ)))
    return [events, draw(st.permutations(events))]


@given(tellings())
def test_any_order_of_telling_gives_the_same_day(orders: list[list[Event]]) -> None:
    one, other = (after(*events) for events in orders)
    assert one.realized == other.realized
    assert one.realized == realize(one)


@given(tellings())
def test_any_order_of_telling_gives_the_same_next_day(orders: list[list[Event]]) -> None:
    """A fill made after the reset, told before our clock has reached it, waits for its day."""
    one, other = (after(*events, ClockReached(START + timedelta(hours=24))) for events in orders)
    assert one.realized == other.realized == realize(one)


# four moments at most, so that many fills share one and many are told late; one before the day, one after it
CROWDED = st.sampled_from([START - SECOND, START, START + SECOND, START + timedelta(hours=24)])


@st.composite
def batches(draw: st.DrawFn) -> list[Event]:
    """Fills in the order of their ids or not, told one by one or many at once, some again, some busted."""
    fills = [
        trade(
            number,
            draw(CROWDED),
            draw(st.none() | st.integers(-300, 300)),
            fees=draw(st.sampled_from(["0", "0.36"])),
            commissions=draw(st.sampled_from([None, "0.25", "0.25", "0.50"])),
        )
        for number in range(1, draw(st.integers(1, 8)) + 1)
    ]
    rows = draw(st.lists(st.sampled_from([*fills, *(evolve(fill, voided=True) for fill in fills[:2])]), max_size=14))
    events: list[Event] = []
    while rows:
        size = draw(st.integers(1, 4))
        batch, rows = rows[:size], rows[size:]
        events += told(*batch) if draw(st.booleans()) else [record(NOON, batch)]
    return events


@given(batches())
def test_the_sums_kept_along_are_at_every_step_those_of_adding_up_from_nothing(events: list[Event]) -> None:
    state = AccountState(ACCOUNT)
    for event in events:
        state = apply(state, event)
        assert state.realized == realize(state)


@given(batches(), st.randoms(use_true_random=False))
def test_however_fills_are_grouped_the_day_is_the_same(events: list[Event], chance: Random) -> None:
    rows = [row for event in events for row in (event.trades if isinstance(event, RecordRead) else (event.trade,))]
    one = after(*told(*rows), *told(*rows))
    chance.shuffle(rows)
    assert after(record(NOON, rows)).realized == one.realized


MOST_CALLS = 200
"""About twice what the dearest event takes today: room for a rule's needs, none for a fold that walks through a day."""


def calls_of(event: Event, state: AccountState) -> int:
    """How many functions are called to fold ``event``, once names that are looked up often have been."""
    apply(state, event)
    calls = [0]

    def count(_frame: object, happened: str, _what: object) -> None:
        calls[0] += happened in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        apply(state, event)
    finally:
        sys.setprofile(before)
    return calls[0]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(TradeMade(NOON, trade(9_999, NOON, -10)), id="a fill"),
        pytest.param(TradeMade(NOON, trade(9_999, NOON - SECOND, -10)), id="a fill of the same moment as the last one"),
        pytest.param(TradeMade(NOON, trade(3, NOON - 3 * SECOND, -1)), id="a fill told again"),
        pytest.param(record(NOON, [trade(3, NOON - 3 * SECOND, -1, commissions=None)]), id="a fill read after the hub"),
        pytest.param(OrderChanged(NOON, order(1, MNQ)), id="an order"),
        pytest.param(PositionChanged(NOON, position(MNQ, 1)), id="a position"),
        pytest.param(QuoteMoved(NOON, MNQ, last=Decimal(21000)), id="a quote"),
        pytest.param(ContractLearned(NOON, contract(MNQ)), id="a contract described again"),
    ],
)
def test_folding_an_event_takes_as_much_after_a_thousand_fills_as_after_ten(event: Event) -> None:
    def day(fills: int) -> AccountState:
        rows = [trade(number, NOON - number * SECOND, -1) for number in range(1, fills + 1)]
        orders = [order(number, MNQ, status=OrderStatus.FILLED) for number in range(10, 10 + fills)]
        events = [*(OrderChanged(NOON, row) for row in orders), ContractLearned(NOON, contract(MNQ))]
        return after(record(NOON, rows), *events)

    assert calls_of(event, day(1_000)) == calls_of(event, day(10)) < MOST_CALLS


# the day turns


def test_the_day_turns_at_17_sharp_and_begins_at_nothing() -> None:
    state = after(*told(trade(1, NOON, -450)))
    assert apply(state, ClockReached(chicago("2025-01-15 16:59:59.999999"))).realized.net == -450
    turned = apply(state, ClockReached(chicago("2025-01-15 17:00:00")))
    assert turned.realized.net == 0
    assert turned.today == trading_day(chicago("2025-01-15 17:00:00"), Terms())


def test_a_fill_of_the_old_day_told_after_17_does_not_count_for_the_new_one() -> None:
    state = after(*told(trade(1, chicago("2025-01-15 16:59:59.9"), -450), at=chicago("2025-01-15 17:00:00.1")))
    assert state.realized.net == 0


def test_a_fill_made_at_17_sharp_belongs_to_the_new_day() -> None:
    row = trade(1, chicago("2025-01-15 17:00"), -50)
    early = after(*told(row, at=chicago("2025-01-15 16:59:59.8")))
    assert early.realized.net == 0
    assert apply(early, ClockReached(chicago("2025-01-15 17:00"))).realized.net == -50


def test_a_rate_that_was_told_yesterday_is_known_today() -> None:
    state = after(*told(trade(1, NOON, commissions="0.25")))
    next_noon = NOON + timedelta(days=1)
    state = after(*told(trade(2, next_noon, commissions=None), at=next_noon), state=state)
    assert state.realized.commissions == Decimal("0.25")


def test_when_the_machines_clock_is_set_back_the_day_is_what_it_was() -> None:
    """Set forward by a day and back again, it must not have wiped the loss."""
    state = after(*told(trade(1, NOON, -450), trade(2, NOON + SECOND, -40)))
    ahead = NOON + timedelta(days=1)
    state = after(ClockReached(ahead), *told(trade(3, NOON + 2 * SECOND, -5), at=ahead), state=state)
    assert state.realized.net == 0
    state = apply(state, ClockReached(NOON + 3 * SECOND))
    assert state.realized.net == -495


def test_an_event_received_just_before_the_reset_and_judged_just_after_it_does_not_turn_the_day_back() -> None:
    state = after(ClockReached(chicago("2025-01-15 17:00")), ClockReached(chicago("2025-01-15 16:59:59.9")))
    assert state.today == trading_day(chicago("2025-01-15 17:00"), Terms())


def test_fills_are_forgotten_when_they_can_no_longer_count() -> None:
    state = after(*told(trade(1, NOON, -450)), ClockReached(NOON + timedelta(days=3)))
    assert not state.trades
    assert not after(*told(trade(1, NOON, -450), at=NOON + timedelta(days=3)), state=state).trades


# positions


def test_a_position_is_what_the_hub_said_last_and_gone_when_it_says_zero() -> None:
    state = after(PositionChanged(NOON, position(MNQ, 2)), PositionChanged(NOON, position(EP, -1)))
    assert {c: p.size for c, p in state.positions.items()} == {MNQ: 2, EP: -1}
    state = apply(state, PositionChanged(NOON, position(MNQ, 0)))
    assert list(state.positions) == [EP]


@pytest.mark.parametrize(
    ("before", "now", "grew"),
    [
        pytest.param(0, 1, True, id="opened"),
        pytest.param(2, 3, True, id="added to"),
        pytest.param(-2, -3, True, id="added to short"),
        pytest.param(3, 2, False, id="reduced"),
        pytest.param(3, 3, False, id="told again"),
        pytest.param(3, -2, True, id="turned around"),
        pytest.param(3, 0, False, id="closed"),
    ],
)
def test_it_is_remembered_when_a_position_last_grew(before: int, now: int, grew: bool) -> None:
    events = [PositionChanged(NOON, position(MNQ, before)), PositionChanged(NOON + SECOND, position(MNQ, now))]
    assert (after(*events).increased_at.get(MNQ) == NOON + SECOND) == grew


# orders


ENDED = [OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REJECTED]


@pytest.mark.parametrize("ended", ENDED)
def test_an_order_that_ended_is_not_revived_by_an_older_word_of_it(ended: OrderStatus) -> None:
    state = after(
        OrderChanged(NOON, order(1, MNQ, status=ended)),
        OrderChanged(NOON + SECOND, order(1, MNQ)),
        exposure(NOON + 50 * SECOND, orders=[order(1, MNQ)]),
    )
    assert state.working_orders == ()


def test_an_order_that_ended_twice_keeps_its_last_word() -> None:
    state = after(
        OrderChanged(NOON, order(1, MNQ, status=OrderStatus.CANCELLED)),
        OrderChanged(NOON, order(1, MNQ, status=OrderStatus.FILLED)),
    )
    assert [o.status for o in state.orders.values()] == [OrderStatus.FILLED]


def test_orders_that_ended_are_forgotten_after_a_minute() -> None:
    state = after(
        OrderChanged(NOON, order(1, MNQ, status=OrderStatus.FILLED)),
        OrderChanged(NOON + 60 * SECOND, order(2, MNQ)),
    )
    assert set(state.orders) == {1, 2}
    state = apply(state, OrderChanged(NOON + 61 * SECOND, order(2, MNQ)))
    assert set(state.orders) == set(state.order_seen) == {2}


def test_an_order_that_ended_is_remembered_for_a_minute_and_forgotten_within_two() -> None:
    state = after(
        OrderChanged(NOON, order(1, MNQ)),
        OrderChanged(NOON + SECOND, order(2, MNQ, status=OrderStatus.FILLED)),
        OrderChanged(NOON + 61 * SECOND, order(3, MNQ)),
    )
    assert set(state.orders) == {1, 2, 3}
    state = apply(state, OrderChanged(NOON + 122 * SECOND, order(3, MNQ)))
    assert set(state.orders) == set(state.order_seen) == {1, 3}


def test_orders_are_forgotten_also_after_the_machines_clock_was_set_back() -> None:
    state = after(
        OrderChanged(NOON - 7_200 * SECOND, order(1, MNQ, status=OrderStatus.FILLED)),
        OrderChanged(NOON, order(2, MNQ)),
        OrderChanged(NOON - 3_600 * SECOND, order(3, MNQ, status=OrderStatus.FILLED)),
        OrderChanged(NOON - 3_500 * SECOND, order(4, MNQ)),
    )
    assert set(state.orders) == {2, 4}


def test_orders_of_every_status_that_may_still_fill_are_working() -> None:
    """Bracket children are suspended until the entry fills; a status that the broker adds is none that ended."""
    statuses = [OrderStatus(number) for number in (0, 1, 6, 7, 8, 42)]
    events = [OrderChanged(NOON, order(number, MNQ, status=status)) for number, status in enumerate(statuses, 1)]
    assert [o.status for o in after(*events).working_orders] == statuses


# quotes


def test_a_quote_keeps_the_parts_that_are_not_mentioned() -> None:
    state = after(
        QuoteMoved(NOON, MNQ, bid=Decimal(1)),
        QuoteMoved(NOON + SECOND, MNQ, last=Decimal(2)),
        QuoteMoved(NOON + 2 * SECOND, MNQ, ask=Decimal(3)),
    )
    expected = Quote(MNQ, Decimal(2), Decimal(1), Decimal(3), last_at=NOON + SECOND, book_at=NOON + 2 * SECOND)
    assert state.quotes == {MNQ: expected}
    assert expected.at == NOON + 2 * SECOND


@pytest.mark.parametrize(("began", "price"), [(-2, 2), (-1, 2), (0, 7)])
def test_a_bar_that_comes_late_does_not_take_the_place_of_a_newer_price(began: int, price: int) -> None:
    """A bar that began at ``began`` seconds ended one later; the last trade was told at NOON."""
    quoted = after(QuoteMoved(NOON, MNQ, last=Decimal(2)))
    late = BarRead(NOON + 5 * SECOND, MNQ, NOON + began * SECOND, Decimal(7))
    state = apply(quoted, late)
    assert state.quotes[MNQ].last == price
    assert state.quotes[MNQ].last_at == (NOON if price == 2 else NOON + SECOND)


def test_any_quote_confirms_the_book_and_only_a_trade_confirms_the_last_price() -> None:
    told = QuoteMoved(NOON, MNQ, last=Decimal(2), bid=Decimal(1), ask=Decimal(3))
    quote = after(told, QuoteMoved(NOON + 9 * SECOND, MNQ)).quotes[MNQ]
    assert (quote.last_at, quote.book_at) == (NOON, NOON + 9 * SECOND)
    assert after(QuoteMoved(NOON, MNQ, last=Decimal(2))).quotes[MNQ].book_at is None


# the link, the account, failures


def test_a_link_that_stays_down_has_been_down_since_it_was_lost() -> None:
    state = after(LinkUp(NOON, Hub.USER), LinkDown(NOON + SECOND, Hub.USER, "cut"))
    state = apply(state, LinkDown(NOON + 2 * SECOND, Hub.USER, "refused"))
    assert state.links[Hub.USER] == Link(up=False, since=NOON + SECOND, reason="refused")
    assert state.links[Hub.MARKET] == Link()


def test_a_link_that_never_was_up_is_down_since_it_first_failed() -> None:
    assert after(LinkDown(NOON, Hub.MARKET, "refused")).links[Hub.MARKET].since == NOON


def test_a_link_that_comes_up_says_since_when() -> None:
    assert after(LinkUp(NOON, Hub.USER)).links[Hub.USER] == Link(up=True, since=NOON, reason="")


def test_the_account_is_what_was_told_last() -> None:
    state = after(AccountChanged(NOON, account_row("1")), record(NOON + 5 * SECOND, account=account_row("2")))
    assert state.account == account_row("2")
    assert apply(state, AccountChanged(NOON, account_row("3"))).account == account_row("3")


def test_a_record_read_while_the_hub_told_of_the_account_gives_way_to_it() -> None:
    """Else a balance, or the leave to trade, would jump back for as long as it takes to read again."""
    state = after(
        AccountChanged(NOON, account_row("1", can_trade=False)),
        record(NOON + SECOND, began=NOON - SECOND, account=account_row("2")),
    )
    assert state.account == account_row("1", can_trade=False)


def test_a_record_that_was_overtaken_by_a_newer_one_adds_its_fills_and_nothing_else() -> None:
    state = after(
        record(NOON + 2 * SECOND, account=account_row("2")),
        record(NOON + 3 * SECOND, [trade(1, NOON, -50)], began=NOON, account=account_row("1")),
    )
    assert (state.account, state.record_at) == (account_row("2"), NOON + 2 * SECOND)
    assert state.realized.net == -50


def test_an_event_that_nobody_has_taught_it_is_refused_loudly() -> None:
    class Surprise:
        at = NOON

    with pytest.raises(AssertionError, match="Expected code to be unreachable"):
        apply(AccountState(ACCOUNT), Surprise())  # type: ignore[arg-type]


def test_that_the_broker_refuses_closes_holds_until_it_accepts_one() -> None:
    state = after(ClosesRefused(NOON, ACCOUNT, "AccountRejected"))
    assert state.closes_refused == "AccountRejected"
    assert apply(state, ClosesRefused(NOON, ACCOUNT, None)).closes_refused is None


def test_a_reading_that_failed_is_known_until_one_succeeds() -> None:
    state = after(ReadingFailed(NOON, ACCOUNT, "no answer"))
    assert state.read_failed == "no answer"
    assert apply(state, exposure(NOON + SECOND)).read_failed is None


def test_only_events_of_the_account_move_what_a_proof_of_flatness_waits_for() -> None:
    state = after(OrderChanged(NOON, order(1, MNQ)))
    assert state.last_event_at == NOON
    for event in (exposure(NOON + SECOND), QuoteMoved(NOON + SECOND, MNQ), ClockReached(NOON + SECOND)):
        state = apply(state, event)
    assert state.last_event_at == NOON
    assert after(*told(trade(1, NOON))).last_event_at == NOON
    assert after(PositionChanged(NOON, position(MNQ, 1))).last_event_at == NOON


def test_the_brokers_clock_never_runs_backward() -> None:
    state = after(exposure(NOON, broker_at=NOON + SECOND), record(NOON, broker_at=NOON))
    assert state.broker_seen == NOON + SECOND
    assert apply(state, evolve(exposure(NOON + 9 * SECOND), broker_at=None)).broker_seen == NOON + SECOND


# doubt: something was said that could not be understood


ASIDE = EventSetAside(NOON, Hub.USER, "{}", "a trade lacks 'id'")


def test_what_could_not_be_understood_puts_the_picture_in_doubt_until_all_of_it_is_read_anew() -> None:
    state = after(ASIDE)
    assert state.doubt == "an event could not be understood: a trade lacks 'id'"
    state = apply(state, record(NOON + 3 * SECOND))
    assert state.doubt is not None
    assert apply(state, exposure(NOON + 4 * SECOND)).doubt is None


def test_a_reading_begun_before_it_does_not_clear_a_doubt() -> None:
    state = after(ASIDE, record(NOON + 3 * SECOND), exposure(NOON + 3 * SECOND, began=NOON - SECOND))
    assert state.doubt is not None


def test_a_reading_of_the_exposure_alone_does_not_clear_a_doubt() -> None:
    """What was not understood may have been a fill, which only the record shows."""
    assert after(record(NOON), ASIDE, exposure(NOON + 4 * SECOND)).doubt is not None


def test_a_doubt_is_cleared_although_the_machines_clock_was_set_back_meanwhile() -> None:
    back = NOON - timedelta(hours=1)
    assert after(ASIDE, record(back), exposure(back)).doubt is None


def test_what_the_market_hub_says_and_nobody_understands_casts_no_doubt_on_the_account() -> None:
    assert after(EventSetAside(NOON, Hub.MARKET, "{}", "?")).doubt is None


def test_an_account_is_pictured_once_both_readings_are_there() -> None:
    assert not after(exposure(NOON)).pictured
    assert not after(record(NOON)).pictured
    assert after(record(NOON), exposure(NOON)).pictured


def test_a_contract_that_was_described_is_known_by_its_name() -> None:
    state = after(ContractLearned(NOON, contract(EP)))
    assert (state.label(EP), state.ticker(EP)) == ("ESU5", "ES")
    assert (state.label(RTY), state.ticker(RTY)) == ("RTYU5", "RTY")
    assert AccountState(ACCOUNT).ticker(EP) == "ES"
    assert state.label(ContractId("SOMETHING")) == "SOMETHING"


# --- whose clock turns the day ---


def read_at(ours: str, brokers: str, *events: Event, state: AccountState | None = None) -> AccountState:
    """The record is read while our clock and the broker's show different times."""
    state = state if state is not None else AccountState(ACCOUNT)
    state = apply(state, record(chicago(ours), broker_at=chicago(brokers)))
    for event in events:
        state = apply(state, event)
    return state


def test_a_clock_set_forward_does_not_start_a_day_without_losses() -> None:
    loss = trade(1, chicago("2025-01-15 10:00"), "-480")
    state = read_at("2025-01-15 10:00", "2025-01-15 10:00", TradeMade(chicago("2025-01-15 10:00"), loss))
    state = apply(state, ClockReached(chicago("2025-01-16 10:01")))
    assert state.realized.gross == -480
    state = read_at("2025-01-16 10:02", "2025-01-15 10:02", state=state)
    later = trade(2, chicago("2025-01-15 10:03"), "-400")
    assert apply(state, TradeMade(chicago("2025-01-16 10:03"), later)).realized.gross == -880


def test_a_clock_set_back_does_not_keep_the_day_from_turning() -> None:
    state = read_at("2025-01-15 10:00", "2025-01-15 17:30")
    assert state.today == trading_day(chicago("2025-01-15 17:30"), state.terms)
    state = apply(state, TradeMade(chicago("2025-01-15 10:01"), trade(1, chicago("2025-01-15 17:31"), "-100")))
    assert state.realized.gross == -100


def test_a_clock_set_back_does_not_bring_yesterday_back_before_the_next_reading_shows_it() -> None:
    state = read_at("2025-01-15 17:30", "2025-01-15 17:30")
    assert apply(state, ClockReached(chicago("2025-01-15 10:00"))).today == state.today


def test_with_clocks_that_agree_the_day_turns_at_the_second_itself() -> None:
    state = read_at("2025-01-15 16:59:40", "2025-01-15 16:59:39")
    before = state.today
    assert apply(state, ClockReached(chicago("2025-01-15 16:59:59"))).today == before
    assert apply(state, ClockReached(chicago("2025-01-15 17:00:00"))).today != before


def test_how_far_our_clock_is_ahead_is_known_once_it_is_more_than_a_slow_answer() -> None:
    assert read_at("2025-01-15 10:00:50", "2025-01-15 10:00:00").clock_ahead == timedelta(0)
    assert read_at("2025-01-15 10:02", "2025-01-15 10:00").clock_ahead == timedelta(minutes=2)
    assert read_at("2025-01-15 10:00", "2025-01-15 10:02").clock_ahead == -timedelta(minutes=2)


# readings that may be old or short


def held(*events: Event) -> AccountState:
    """An account that is up, read once, and holds three MNQ and an order of which the hub has told."""
    at = NOON - 60 * SECOND
    return after(
        LinkUp(at, Hub.USER),
        record(at),
        exposure(at),
        PositionChanged(at, position(MNQ, 3)),
        *told(trade(1, at, size=3, side=Side.BUY), at=at),
        OrderChanged(at, order(7, MNQ)),
        *events,
    )


def test_a_position_that_a_reading_lacks_is_gone_only_when_a_second_one_lacks_it_too() -> None:
    once = held(exposure(NOON, orders=[order(7, MNQ)]))
    assert once.size_of(MNQ) == 3
    assert once.contradicted == {MNQ: 0}
    assert after(exposure(NOON + SECOND, orders=[order(7, MNQ)]), state=once).positions == {}


def test_a_position_that_fills_say_is_gone_is_believed_gone_at_once() -> None:
    closing = trade(2, NOON, 10, size=3)
    state = held(record(NOON + SECOND, [closing]), exposure(NOON + SECOND, orders=[order(7, MNQ)]))
    assert state.positions == {}
    assert state.contradicted == {}


def test_a_position_that_is_larger_than_known_is_believed_at_once() -> None:
    assert held(exposure(NOON, [position(MNQ, 5)], orders=[order(7, MNQ)])).size_of(MNQ) == 5
    assert held(exposure(NOON, [position(MNQ, -1)], orders=[order(7, MNQ)])).size_of(MNQ) == -1


def test_readings_that_disagree_leave_what_is_known() -> None:
    state = held(
        exposure(NOON, orders=[order(7, MNQ)]), exposure(NOON + SECOND, [position(MNQ, 1)], orders=[order(7, MNQ)])
    )
    assert state.size_of(MNQ) == 3


def test_an_order_that_a_reading_lacks_is_gone_only_when_a_second_one_lacks_it_too() -> None:
    once = held(exposure(NOON, [position(MNQ, 3)]))
    assert [o.id for o in once.working_orders] == [7]
    again = after(exposure(NOON + SECOND, [position(MNQ, 3)]), state=once)
    assert again.working_orders == ()
    back = after(exposure(NOON + SECOND, [position(MNQ, 3)], orders=[order(7, MNQ)]), state=once)
    assert back.missing == ()


@pytest.mark.parametrize(("seconds", "there"), [(2, True), (5, True), (7, False)])
def test_lists_that_stay_old_for_a_while_take_nothing_away_of_which_the_hub_has_just_told(
    seconds: int, there: bool
) -> None:
    state = held()
    for second in range(2, seconds + 1):
        state = after(exposure(NOON + (second - 60) * SECOND), state=state)
    assert (state.size_of(MNQ), len(state.working_orders)) == ((3, 1) if there else (0, 0))


def test_lists_that_stay_old_bring_nothing_back_that_hub_and_fills_have_just_told_gone() -> None:
    """An old position beside the one that took its place would look like more than there ever was."""
    at = NOON - 60 * SECOND
    gone = held(exposure(at), *told(trade(2, at, 10, size=3), at=at), PositionChanged(at, position(MNQ, 0)))
    old = [position(MNQ, 3)]
    assert after(exposure(at + 2 * SECOND, old), exposure(at + 5 * SECOND, old), state=gone).positions == {}
    assert after(exposure(at + 7 * SECOND, old), state=gone).size_of(MNQ) == 3
    opened = record(at + 2 * SECOND, [trade(3, at, size=3, side=Side.BUY)])
    assert after(opened, exposure(at + 2 * SECOND, old), state=gone).size_of(MNQ) == 3


def test_the_first_reading_is_believed_whole() -> None:
    """After a restart what was known may be hours old."""
    state = after(PositionChanged(NOON, position(MNQ, 3)), exposure(NOON + 5 * SECOND))
    assert state.positions == {}


# fills and positions


def test_fills_and_positions_are_counted_beside_each_other() -> None:
    assert held().by_fills == {MNQ: 3}
    more = held(*told(trade(2, NOON, size=2, side=Side.BUY)))
    assert more.by_fills == {MNQ: 5}
    assert more.size_of(MNQ) == 3
    assert after(*told(trade(2, NOON, size=2, side=Side.BUY)), state=more).by_fills == {MNQ: 5}
    read = after(exposure(NOON + 5 * SECOND, [position(MNQ, 5)], orders=[order(7, MNQ)]), state=more)
    assert read.by_fills == {MNQ: 5}


def test_a_reading_settles_what_did_not_add_up() -> None:
    wrong = held(*told(trade(2, NOON, size=2, side=Side.BUY)))
    read = after(exposure(NOON + 5 * SECOND, [position(MNQ, 3)], orders=[order(7, MNQ)]), state=wrong)
    assert read.by_fills == {MNQ: 3}


# blindness


def test_who_neither_hears_nor_reads_is_blind_since_the_later_of_the_two_ended() -> None:
    state = held(exposure(NOON, [position(MNQ, 3)], orders=[order(7, MNQ)]))
    unheard = after(LinkDown(NOON + 3 * SECOND, Hub.USER, "cut"), state=state)
    assert unheard.blind_since is None
    blind = after(ReadingFailed(NOON + 9 * SECOND, ACCOUNT, "no answer"), state=unheard)
    assert blind.blind_since == NOON + 3 * SECOND
    unread = after(ReadingFailed(NOON + 2 * SECOND, ACCOUNT, "no answer"), state=state)
    assert unread.blind_since is None
    assert after(LinkDown(NOON + 3 * SECOND, Hub.USER, "cut"), state=unread).blind_since == NOON + 3 * SECOND
    for sight in (LinkUp(NOON + 20 * SECOND, Hub.USER), exposure(NOON + 20 * SECOND)):
        seeing = after(sight, state=blind)
        assert seeing.blind_since is None
        assert seeing.was_blind == BlindSpell(NOON + 3 * SECOND, NOON + 20 * SECOND)


def test_a_position_of_which_no_fill_was_told_is_not_given_up_for_one_list() -> None:
    opened = held(PositionChanged(NOON, position(RTY, 1)))
    once = after(exposure(NOON + 20 * SECOND, [position(MNQ, 3)], [order(7, MNQ)]), state=opened)
    assert once.size_of(RTY) == 1
    assert after(exposure(NOON + 21 * SECOND, [position(MNQ, 3)], [order(7, MNQ)]), state=once).size_of(RTY) == 0
