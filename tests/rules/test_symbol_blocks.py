"""Symbol blocks, beside the worked examples of its page: the list, each enforcement, and how a lock ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.decisions import CloseContract, Decision, LockOut, WithoutOrder
from flatguard.model.ids import ContractId, OrderId
from flatguard.model.products import TICKER_OF_ROOT
from flatguard.model.trading import OrderType, Side
from flatguard.rules.symbol_blocks import LISTED, NAME, SymbolBlocks
from tests.fakes.desk import CL, EP, ES, MES, MNQ, NQ, RTY, Desk, order, position

RTY_H = ContractId("CON.F.US.RTY.H25")
RTY_M = ContractId("CON.F.US.RTY.M25")
BTC = ContractId("CON.F.US.BTC.U25")
ODD = ContractId("UNUSUAL.FORMAT.RTY")


def desk(*blocked: str, **settings: Any) -> Desk:
    return Desk({NAME: SymbolBlocks(blocked or ("RTY", "BTC", "ES"), **settings)})


def lock(ticker: str) -> LockOut:
    return LockOut(None, ticker, LISTED)


def told(account: Desk) -> list[tuple[Decision, ...]]:
    return [breach.decisions for breach in account.told]


def scopes(account: Desk) -> list[str]:
    return [each.scope for each in account.state.locked(account.now)]


# the examples


@pytest.mark.parametrize(
    ("contract_id", "decisions"),
    [
        pytest.param(ES, [(lock("ES"), CloseContract(ES))], id="011-6, a contract of the examples"),
        pytest.param(ODD, [], id="an id that names no product is no RTY"),
    ],
)
def test_a_position_in_a_blocked_product_is_closed_and_the_product_locked(
    contract_id: ContractId, decisions: list[Any]
) -> None:
    account = desk()
    account.hold(contract_id, 1)
    assert told(account) == decisions
    account.later(60).look()
    assert len(account.told) == len(decisions)


def test_011_2_the_reason_says_what_is_open_and_until_when_the_lock_holds() -> None:
    account = desk()
    account.hold(RTY, 1)
    (breach,) = account.told
    assert breach.reason == "Blocked symbols: +1 RTYU5, RTY locked until the symbol is taken off the list"
    assert breach.figures == (("RTY", "+1 RTYU5"),)
    assert not breach.on_record
    assert [(each.scope, each.until, each.condition) for each in account.state.lockouts] == [("RTY", None, LISTED)]


def test_011_3_a_working_order_is_cancelled() -> None:
    account = desk()
    account.order(order(7, BTC))
    assert told(account) == [(lock("BTC"), CloseContract(BTC))]
    assert account.told[0].figures == (("BTC", "order 7 (buy 1 BTCU5)"),)


@pytest.mark.parametrize("name", ["Rty", " RTY "])
def test_011_8_the_case_of_the_list_does_not_matter(name: str) -> None:
    account = desk(name)
    account.hold(RTY, 1)
    assert told(account) == [(lock("RTY"), CloseContract(RTY))]


# the list


@pytest.mark.parametrize(
    ("pattern", "blocked"),
    [
        ("M*", {MNQ, MES}),
        ("m*", {MNQ, MES}),
        ("*Q", {MNQ, NQ}),
        ("N*", {NQ}),
        ("*", {MNQ, MES, EP, NQ, RTY, CL, ODD}),
        ("CLE", {CL}),
        ("CL", {CL}),
        ("E*", {EP}),
        ("EN*", set()),
        ("unusual.format.rty", {ODD}),
        ("*RTY", {RTY, ODD}),
    ],
)
def test_a_name_or_a_pattern_is_about_tickers(pattern: str, blocked: set[ContractId]) -> None:
    account = desk(pattern, allow_block_all=True)
    for contract_id in (MNQ, MES, EP, NQ, RTY, CL, ODD):
        account.hold(contract_id, 1)
    closed = {d.contract_id for decisions in told(account) for d in decisions if isinstance(d, CloseContract)}
    assert closed == blocked


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("ES", "RTY", "EP"), "names ES twice, perhaps once by its ticker and once by its root"),
        (("RTY", "rty"), "names RTY twice"),
        (("M*", "m*"), r"names M\* twice"),
        (("*",), r'"\*" blocks every product; if that is meant, write allow_block_all = true'),
        (("RTY", "**"), r'"\*\*" blocks every product'),
        (("",), "must hold tickers or roots"),
        (("E S",), "must hold tickers or roots"),
        (("[ES]",), "must hold tickers or roots"),
        (("CON.F.US.EP.U25",), "CON.F.US.EP.U25 is one expiry; write its product ES"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SymbolBlocks(names)


def test_what_is_open_at_the_start_is_found_by_the_first_reading() -> None:
    account = Desk({NAME: SymbolBlocks(("RTY",))}, positions=[position(RTY, 1)])
    assert told(account) == [(lock("RTY"), CloseContract(RTY))]


def test_one_breach_locks_several_products() -> None:
    rows = [position(RTY, 1), position(EP, 1), position(MNQ, 1)]
    account = Desk({NAME: SymbolBlocks(("RTY", "ES"))}, positions=rows)
    assert told(account) == [(lock("ES"), lock("RTY"), CloseContract(EP), CloseContract(RTY))]
    assert scopes(account) == ["ES", "RTY"]


def test_a_second_product_is_a_breach_of_its_own() -> None:
    account = desk()
    account.hold(RTY, 1)
    account.hold(EP, 1)
    assert told(account) == [(lock("RTY"), CloseContract(RTY)), (lock("ES"), CloseContract(EP))]


@given(st.sampled_from(sorted(TICKER_OF_ROOT.items())), st.booleans(), st.data())
def test_ticker_and_root_mean_the_same_product_in_any_case(
    names: tuple[str, str], traded_by_root: bool, data: st.DataObject
) -> None:
    root, ticker = names
    listed = "".join(data.draw(st.sampled_from([c.lower(), c])) for c in data.draw(st.sampled_from([root, ticker])))
    contract_id = ContractId(f"CON.F.US.{root if traded_by_root else ticker}.U25")
    account = desk(listed)
    account.hold(contract_id, 1)
    account.hold(MNQ, 1)
    assert told(account) == [(lock(ticker), CloseContract(contract_id))]


# each enforcement


def test_cancel_orders_only_leaves_the_position_and_what_protects_it() -> None:
    account = desk(enforcement="cancel_orders_only")
    account.hold(RTY, 2)
    account.order(order(1, RTY, Side.SELL, 2, OrderType.STOP))
    account.order(order(2, RTY, Side.SELL, 2))
    account.order(order(3, MNQ))
    assert not account.told
    account.order(order(4, RTY, Side.BUY, 1))
    assert told(account) == [(WithoutOrder(RTY, OrderId(4)),)]
    assert account.told[0].reason == "Blocked symbols: order 4 (buy 1 RTYU5)"
    assert scopes(account) == []


def test_another_enforcement_ends_the_locks() -> None:
    account = desk()
    account.hold(RTY, 1)
    account.hold(RTY, 0)
    account.book = desk(enforcement="cancel_orders_only").book
    account.look()
    assert scopes(account) == []


def test_without_its_rule_no_lock_goes_on() -> None:
    account = desk()
    account.hold(RTY, 1)
    account.hold(RTY, 0)
    account.book = Desk({}).book
    account.look()
    assert scopes(account) == []
