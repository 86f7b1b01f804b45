"""Profit and loss, to the cent: what is open at a price to believe, and what the broker's fills come to."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.ledger.apply import apply
from flatguard.ledger.pnl import (
    OpenProfit,
    commission_of,
    first_fill,
    mark_price,
    open_by_contract,
    profit_at,
    unrealized,
)
from flatguard.model.account import AccountState, Terms
from flatguard.model.events import BarRead, ContractLearned, Event, PositionChanged, QuoteMoved, TradeMade
from flatguard.model.ids import ContractId
from flatguard.model.trading import Quote, Trade
from tests.fakes.desk import ACCOUNT, CL, EP, MES, MNQ, NQ, RTY, chicago, contract, money, position, trade

NOW = chicago("2025-01-15 10:00")
FRESH = NOW - timedelta(seconds=10)
STALE = FRESH - timedelta(microseconds=1)
M6B = ContractId("CON.F.US.M6B.U25")


@pytest.mark.parametrize(
    ("contract_id", "size", "average", "mark", "profit"),
    [
        pytest.param(MNQ, 2, "21000.00", "20950.00", "-200.00", id="1.3-1"),
        pytest.param(MNQ, -2, "21000.00", "21050.00", "-200.00", id="1.3-2"),
        pytest.param(MNQ, 2, "21000.00", "21100.00", "400.00", id="1.3-3"),
        pytest.param(EP, 1, "5800.00", "5792.00", "-400.00", id="1.3-4"),
        pytest.param(EP, 1, "5800.00", "5816.00", "800.00", id="1.3-5"),
        pytest.param(EP, -1, "5800.00", "5752.00", "2400.00", id="1.3-6"),
        pytest.param(NQ, 1, "21000.00", "20985.00", "-300.00", id="1.3-7"),
        pytest.param(CL, -1, "77.50", "77.45", "50.00", id="1.3-8"),
        pytest.param(RTY, 3, "2100.0", "2098.5", "-225.00", id="1.3-9"),
        pytest.param(MNQ, 1, "21000.00", "21000.25", "0.50", id="one tick"),
        pytest.param(CL, 1, "0.50", "-37.63", "-38130.00", id="through zero, as in April 2020"),
        pytest.param(M6B, 1, "1.2345", "1.2346", "0.625", id="a tick worth part of a cent"),
        pytest.param(MNQ, 3, "21000.083333333332", "20916.75", "-500", id="an average that the broker cut off"),
        pytest.param(EP, 3, "5800.333333333333333333333333", "5797", "-500", id="an average without an end"),
    ],
)
def test_open_profit_is_ticks_times_tick_value_times_size(
    contract_id: ContractId, size: int, average: str, mark: str, profit: str
) -> None:
    """Exact, so that a loss which reaches the limit to the cent is not seen as a hair above it."""
    assert profit_at(position(contract_id, size, average), Decimal(mark), contract(contract_id)) == Decimal(profit)


def quote(last: str | None = None, bid: str | None = None, ask: str | None = None, last_at=NOW, book_at=NOW) -> Quote:
    return Quote(MNQ, money(last), money(bid), money(ask), last_at if last else None, book_at if bid or ask else None)


@pytest.mark.parametrize(
    ("told", "long", "short"),
    [
        pytest.param(quote("21000", "20999.75", "21000.25"), "21000", "21000", id="the last price"),
        pytest.param(quote("21000"), "21000", "21000", id="the last price, though no book was told"),
        pytest.param(quote(bid="20999", ask="21001"), "20999", "21001", id="no last price: the side the exit hits"),
        pytest.param(quote("21000", last_at=FRESH), "21000", "21000", id="10 s old is fresh"),
        pytest.param(quote("21000", last_at=STALE), None, None, id="older than 10 s is no price"),
        pytest.param(quote("21050", "20999", "21001", last_at=STALE), "20999", "21001", id="an old last: the book"),
        pytest.param(quote("21050", "20999", "21001", book_at=STALE), "21050", "21050", id="an old book: the last"),
        pytest.param(quote("21050", "20999", "21001", STALE, STALE), None, None, id="both old"),
        pytest.param(quote("21300", "20999", "21001"), "20999", "21001", id="a last that the book denies: the book"),
        pytest.param(quote("20790", "20999", "21001"), "20790", "20790", id="a last within one percent of the book"),
        pytest.param(quote("21000", "21002", "20998"), "21000", "21000", id="a crossed book says nothing"),
        pytest.param(quote(bid="21002", ask="20998"), None, None, id="a crossed book alone"),
        pytest.param(quote(bid="21000", ask="21000"), "21000", "21000", id="a locked book is a book"),
        pytest.param(quote("0", "20999", "21001"), "20999", "21001", id="a last of zero is no price"),
        pytest.param(quote("0"), None, None, id="a last of zero alone"),
        pytest.param(quote("0", "0", "0"), None, None, id="zeros all over are a quote not yet made"),
        pytest.param(quote("20990", "0", "21001"), "20990", "20990", id="a bid of zero is no price"),
        pytest.param(quote(bid="0", ask="21001"), None, "21001", id="a bid of zero and no last"),
        pytest.param(quote(bid="20999"), "20999", None, id="half a book: the side it has"),
        pytest.param(quote(ask="21001"), None, "21001", id="the other half"),
        pytest.param(quote("2100"), None, None, id="a jump to a tenth that nothing else shows"),
        pytest.param(quote("18899"), None, None, id="a tenth below the entry that nothing else shows"),
        pytest.param(quote("18900"), "18900", "18900", id="just within a tenth of the entry"),
        pytest.param(quote(bid="2100", ask="21001"), None, "21001", id="one side of the book jumped"),
        pytest.param(quote("16000", "15999", "16001"), "16000", "16000", id="a crash that two numbers show"),
        pytest.param(quote(bid="15999", ask="16001"), "15999", "16001", id="a crash that both sides show"),
        pytest.param(quote("16000", "20999", "21001"), "20999", "21001", id="a last that jumped"),
    ],
)
def test_a_position_is_valued_at_a_price_that_can_be_believed(told: Quote, long: str | None, short: str | None) -> None:
    """A price that may close everything is told twice or lies near the entry; a missing one is not zero."""
    assert mark_price(told, position(MNQ, 1, "21000"), NOW) == money(long)
    assert mark_price(told, position(MNQ, -1, "21000"), NOW) == money(short)


@pytest.mark.parametrize(
    ("last", "bid", "ask", "mark"),
    [
        pytest.param("0", "-0.01", "0.01", "0", id="zero"),
        pytest.param("-37.63", "-37.70", "-37.60", "-37.63", id="far below zero"),
        pytest.param(None, "-0.02", "0.01", "-0.02", id="around zero, without a last price"),
    ],
)
def test_energy_may_trade_at_zero_and_below_where_the_book_says_so(
    last: str | None, bid: str, ask: str, mark: str
) -> None:
    assert mark_price(quote(last, bid, ask), position(MNQ, 1, "10.00"), NOW) == Decimal(mark)


def test_without_a_quote_there_is_no_price() -> None:
    assert mark_price(None, position(MNQ, 1), NOW) is None


def test_a_price_from_the_future_is_as_stale_as_one_from_the_past() -> None:
    """When the machine's clock is set back, the last price before it must not look fresh for an hour."""
    assert mark_price(quote("21000", last_at=NOW + timedelta(hours=1)), position(MNQ, 1, "21000"), NOW) is None


def state_with(*events: object, terms: Terms | None = None) -> AccountState:
    state = AccountState(ACCOUNT, terms or Terms())
    for event in events:
        state = apply(state, event)  # type: ignore[arg-type]
    return state


def test_a_position_without_a_price_or_a_tick_size_adds_nothing_and_is_named() -> None:
    state = state_with(
        ContractLearned(NOW, contract(MNQ)),
        ContractLearned(NOW, contract(EP)),
        PositionChanged(NOW, position(MNQ, 2, "21000")),
        PositionChanged(NOW, position(EP, 1, "5800")),
        PositionChanged(NOW, position(RTY, 1, "2100")),
        QuoteMoved(NOW, MNQ, last=Decimal(20950)),
        QuoteMoved(NOW, RTY, last=Decimal(2090)),
    )
    assert unrealized(state, NOW) == OpenProfit(Decimal(-200), (EP, RTY))
    assert unrealized(state, NOW + timedelta(seconds=11)) == OpenProfit(Decimal(0), (MNQ, EP, RTY))


@st.composite
def markets(draw: st.DrawFn) -> list[Event]:
    """Positions, quotes and contracts, a few seconds apart; now and then the machine's clock is set back."""
    events: list[Event] = []
    now = NOW
    price = st.none() | st.sampled_from([Decimal(99), Decimal(100), Decimal("100.25"), Decimal(150)])
    for _ in range(draw(st.integers(1, 12))):
        now += timedelta(seconds=draw(st.sampled_from([0, 0.1, 3, 10, 11, -20])))
        contract_id = draw(st.sampled_from([MNQ, EP, RTY]))
        kind = draw(st.integers(0, 5))
        if kind == 0:
            events.append(PositionChanged(now, position(contract_id, draw(st.integers(-2, 2)))))
        elif kind == 1:
            events.append(ContractLearned(now, contract(contract_id)))
        else:
            events.append(QuoteMoved(now, contract_id, draw(price), draw(price), draw(price)))
    return events


@given(markets(), st.lists(st.sampled_from([0, 9, 10, 10.000001, -11]), min_size=12, max_size=12))
def test_what_is_open_is_the_same_whether_it_was_valued_before_or_not(events: list[Event], later: list[float]) -> None:
    state = state_with(
        *(ContractLearned(NOW, contract(c)) for c in (MNQ, EP)),
        *(PositionChanged(NOW, position(c, 1)) for c in (MNQ, EP, RTY)),
        *(QuoteMoved(NOW, c, last=Decimal(100)) for c in (EP, MNQ, RTY)),
    )
    for event, seconds in zip(events, later, strict=False):
        state = apply(state, event)
        for at in (event.at, event.at + timedelta(seconds=seconds)):
            anew = evolve(state)
            assert not anew.memory
            assert unrealized(state, at) == unrealized(anew, at)
            assert list(open_by_contract(state, at).items()) == list(open_by_contract(anew, at).items())


def test_a_price_that_came_old_is_let_go_of_when_it_is_too_old_not_when_the_one_before_it_would_be() -> None:
    state = state_with(
        ContractLearned(NOW, contract(MNQ)),
        PositionChanged(NOW, position(MNQ, 1, "21000")),
        QuoteMoved(NOW, MNQ, bid=Decimal(20999), ask=Decimal(21001)),
    )
    assert unrealized(state, NOW).amount == -2
    bar = BarRead(NOW + timedelta(seconds=1), MNQ, NOW - timedelta(seconds=8), Decimal(21000), timedelta(0))
    state = apply(state, bar)
    assert unrealized(state, bar.at).amount == 0
    assert unrealized(state, NOW + timedelta(seconds=2)).amount == 0
    assert unrealized(state, NOW + timedelta(seconds=2.001)).amount == -2


def test_a_valuation_is_not_done_again_while_nothing_has_changed() -> None:
    state = state_with(
        ContractLearned(NOW, contract(MNQ)),
        PositionChanged(NOW, position(MNQ, 2, "21000")),
        QuoteMoved(NOW, MNQ, last=Decimal(20950)),
    )
    once = unrealized(state, NOW)
    assert unrealized(state, NOW + timedelta(seconds=10)) is once
    state = apply(state, QuoteMoved(NOW, EP, last=Decimal(5800)))
    assert unrealized(state, NOW) is once


# realised: what each fill comes to


def fills(*rows: Trade, terms: Terms | None = None) -> AccountState:
    return state_with(*(TradeMade(NOW, row) for row in rows), terms=terms)


def at(minute: int) -> object:
    return chicago("2025-01-15 09:00") + timedelta(minutes=minute)


def test_costs_are_charged_on_opening_half_turns_too() -> None:
    """The vendor's sample: one ES from 6064.25 to 6065.25 reports 50.00, with a fee of 1.40 on each leg."""
    day = fills(trade(1, at(0), None, fees="1.40"), trade(2, at(1), "50.00", fees="1.40")).realized
    assert (day.gross, day.fees, day.net, day.fills) == (Decimal("50.00"), Decimal("2.80"), Decimal("47.20"), 2)


def test_the_balance_of_a_real_day_is_met_to_the_cent() -> None:
    """15 MYM in and out, told on the hub with fees 5.55 and commissions 3.75 a leg: 150061.03 became 150574.93."""
    mym = ContractId("CON.F.US.MYM.M26")
    legs = {"fees": "5.55", "commissions": "3.75", "contract_id": mym, "size": 15}
    day = fills(trade(1, at(0), None, **legs), trade(2, at(1), "532.5", **legs)).realized
    assert Decimal("150061.03") + day.net == Decimal("150574.93")


def test_ten_cents_added_five_thousand_times_are_five_hundred_dollars() -> None:
    rows = [trade(n, at(0) + timedelta(seconds=n), "-0.10") for n in range(1, 5001)]
    state = AccountState(ACCOUNT)
    for row in rows:
        state = apply(state, TradeMade(NOW, row))
    assert state.realized.net == Decimal("-500.00")


def test_a_closing_fill_of_exactly_zero_is_a_fill_and_an_opening_one_is_too() -> None:
    assert fills(trade(1, at(0), None), trade(2, at(1), "0.0")).realized.fills == 2


# commissions: known, assumed, the dearer


def test_a_commission_that_was_told_is_the_commission() -> None:
    told = trade(1, at(0), "10", commissions="3.75", size=15)
    assert commission_of(told, fills(told)) == Decimal("3.75")


def test_a_commission_that_was_not_told_is_charged_at_the_rate_of_other_fills_of_the_contract() -> None:
    """REST rows leave commissions out although they are charged."""
    state = fills(trade(1, at(0), commissions="3.75", size=15), trade(2, at(1), commissions=None, size=2))
    assert state.realized.commissions == Decimal("4.25")


def test_among_rates_that_were_told_the_dearest_counts_also_for_fills_made_before() -> None:
    state = fills(
        trade(1, at(0), commissions=None, size=4),
        trade(2, at(1), commissions="0.25"),
        trade(3, at(2), commissions="0.75"),
        trade(4, at(3), commissions="0.10"),
    )
    assert state.realized.commissions == Decimal("3.00") + Decimal("1.10")


def test_where_no_fill_told_a_rate_the_settings_assume_one_by_ticker() -> None:
    terms = Terms(commissions={"ES": Decimal("1.10")}, other_commission=Decimal("0.70"))
    rows = (trade(1, at(0), commissions=None, contract_id=EP, size=2), trade(2, at(1), commissions=None, size=3))
    assert fills(*rows, terms=terms).realized.commissions == Decimal("2.20") + Decimal("2.10")


def test_a_rate_is_a_matter_of_its_own_contract() -> None:
    state = fills(trade(1, at(0), commissions="0.25"), trade(2, at(1), commissions=None, contract_id=MES))
    assert state.realized.commissions == Decimal("0.25") + Decimal("0.50")


def test_a_rate_that_does_not_divide_evenly_still_comes_to_whole_cents() -> None:
    """A dollar for three contracts is a dollar for the next three, not 0.9999999999999999999999999999."""
    untold = trade(2, at(1), commissions=None, size=3)
    assert commission_of(untold, fills(trade(1, at(0), commissions="1.00", size=3))) == Decimal("1.00")


def test_a_row_of_no_size_tells_no_rate() -> None:
    assert fills(trade(1, at(0), commissions="1.00", size=0)).commission_rates == {}


# the day's low


def test_the_low_is_the_lowest_that_the_day_stood_at_and_never_above_zero() -> None:
    day = fills(trade(1, at(0), 100), trade(2, at(1), -250), trade(3, at(2), 300)).realized
    assert (day.net, day.low_net, day.low_gross) == (Decimal(150), Decimal(-150), Decimal(-150))
    assert fills(trade(1, at(0), 100)).realized.low_net == 0


def test_the_lows_of_gross_and_net_are_kept_apart() -> None:
    day = fills(trade(1, at(0), -10, fees=2), trade(2, at(1), 1, fees=2)).realized
    assert (day.low_gross, day.low_net) == (Decimal(-10), Decimal(-13))


def test_the_fall_is_the_most_that_was_given_back_of_the_high_before_it() -> None:
    day = fills(*(trade(n, at(n), profit, fees=1) for n, profit in enumerate((100, -60, 40, -30, 50), 1))).realized
    assert (day.fall_gross, day.fall_net) == (Decimal(60), Decimal(61))


@given(profits=st.lists(st.integers(-300, 300), min_size=1, max_size=12), floor=st.integers(-600, -1))
def test_the_fill_that_first_reached_a_floor_is_found_exactly_when_the_low_is_there(
    profits: list[int], floor: int
) -> None:
    state = fills(*(trade(n, at(n), profit, fees=1) for n, profit in enumerate(profits, 1)))
    for net, low in ((True, state.realized.low_net), (False, state.realized.low_gross)):
        found = first_fill(state, lambda day, net=net: (day.net if net else day.gross) <= floor)  # type: ignore[misc]
        sums = [sum(profits[: n + 1]) - (n + 1 if net else 0) for n in range(len(profits))]
        first = next((n for n, total in enumerate(sums, 1) if total <= floor), None)
        assert (found.id if found is not None else None) == first
        assert (found is not None) == (low <= floor)
