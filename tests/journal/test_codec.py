"""What goes into the journal comes out as it was."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args

import pytest
from attrs import evolve
from hypothesis import example, given
from hypothesis import strategies as st
from immutables import Map

from flatguard.journal.codec import EVENT_KINDS, decode, encode
from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import Breach, CloseContract, Decision, Flatten, LockOut, ReduceTo
from flatguard.model.events import Event, Hub, QuoteMoved
from flatguard.model.ids import AccountId, ContractId
from flatguard.model.lockouts import Lockout
from flatguard.model.trading import OrderStatus, OrderType, Side, Trade
from tests.fakes.desk import trade
from tests.fakes.values import drawn

AT = datetime(2026, 3, 18, 14, 30, 0, 123456, tzinfo=UTC)
SOME_TRADE = trade(1, AT)


def same(one: object, other: object) -> bool:
    """Whether two values are equal, down to the digits of their decimals."""
    return one == other and repr(one) == repr(other)


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_kind_of_event_comes_back_as_it_was(kind: Any, data: st.DataObject) -> None:
    event = data.draw(drawn(kind))
    assert EVENT_KINDS[type(event).__name__] is kind
    assert same(decode(encode(event), kind), event)


@given(drawn(AccountState, terms=st.just(Terms())))
def test_an_accounts_state_comes_back_as_it_was(state: AccountState) -> None:
    assert same(decode(encode(state), AccountState), state)


@given(
    drawn(AccountState, terms=st.just(Terms())),
    st.dictionaries(st.integers(1, 2**40) | st.sampled_from([2, 2**32 + 3]), drawn(Trade)),  # those two hash alike
)
@example(AccountState(AccountId(7)), dict.fromkeys([2, 2**32 + 3], SOME_TRADE))
def test_equal_states_are_the_same_text_however_their_fills_came(state: AccountState, trades: dict[Any, Trade]) -> None:
    one, other = Map(trades), Map(reversed(trades.items()))
    for number in sorted(trades)[:3]:
        other = other.delete(number).set(number, trades[number])
    assert evolve(state, trades=one) == evolve(state, trades=other)
    assert encode(evolve(state, trades=one)) == encode(evolve(state, trades=other))


@given(drawn(Breach))
def test_breaches_come_back_with_each_kind_of_decision(breach: Breach) -> None:
    assert same(decode(encode((breach,), tuple[Breach, ...]), tuple[Breach, ...]), (breach,))


@given(st.lists(drawn(Lockout), max_size=3).map(tuple))
def test_lockouts_come_back_as_they_were(locks: tuple[Lockout, ...]) -> None:
    assert same(decode(encode(locks, tuple[Lockout, ...]), tuple[Lockout, ...]), locks)


def test_the_kinds_of_decisions_are_told_apart() -> None:
    decisions = (Flatten(), CloseContract(ContractId("a")), ReduceTo(ContractId("a"), 2), LockOut(None), LockOut(AT))
    kind = tuple[Decision, ...]
    assert decode(encode(decisions, kind), kind) == decisions


def test_a_price_keeps_its_digits_and_is_never_a_float() -> None:
    quote = QuoteMoved(AT, ContractId("CON.F.US.MNQ.Z26"), last=Decimal("25000.10"), bid=Decimal("1E+3"))
    text = encode(quote)
    assert json.loads(text)["last"] == "25000.10"
    assert str(decode(text, QuoteMoved).bid) == "1E+3"


def test_a_moment_keeps_its_microseconds_and_its_zone() -> None:
    back = decode(encode(QuoteMoved(AT, ContractId("x"))), QuoteMoved)
    assert back.at == AT
    assert back.at.tzinfo is UTC


def test_a_number_of_the_brokers_that_we_do_not_know_survives() -> None:
    for kind in (OrderStatus, OrderType, Side):
        assert decode(encode(kind(99)), kind) is not None
        assert decode(encode(kind(99)), kind) == 99


def test_mappings_by_id_and_by_hub_keep_their_keys() -> None:
    state = AccountState(AccountId(7), seen={ContractId("a"): AT})
    back = decode(encode(state), AccountState)
    assert list(back.links) == [Hub.USER, Hub.MARKET]
    assert all(isinstance(hub, Hub) for hub in back.links)


def test_text_that_is_no_valid_unicode_is_kept_as_ascii() -> None:
    event = decode(encode(QuoteMoved(AT, ContractId("\ud800 é"))), QuoteMoved)
    assert event.contract_id == "\ud800 é"
    assert encode(event).isascii()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"at":"yesterday","contract_id":"x"}',
        '{"at":"2026-03-18T14:30:00+00:00","contract_id":"x","last":"much"}',
        '{"at":"2026-03-18T14:30:00+00:00","contract_id":"x","last":[]}',
    ],
)
def test_text_that_is_not_of_its_kind_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="QuoteMoved"):
        decode(text, QuoteMoved)
