"""Names, numbers and money as the broker and a person write them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from flatguard.model.decisions import Breach, Flatten, LockOut
from flatguard.model.events import (
    AccountChanged,
    ClockReached,
    ClosesRefused,
    ContractLearned,
    Event,
    OrderChanged,
    PositionChanged,
    QuoteMoved,
    ReadingFailed,
    TradeMade,
    account_of,
)
from flatguard.model.ids import ContractId
from flatguard.model.money import dollars, on_grid, plain
from flatguard.model.products import product
from flatguard.model.trading import Contract, OrderStatus, Quote, Side, root_of, ticker_of
from tests.fakes.desk import ACCOUNT, MNQ, account_row, chicago, contract, exposure, order, position, record, trade

NOON = chicago("2025-01-15 12:00")


@pytest.mark.parametrize(
    ("contract_id", "root"),
    [
        ("CON.F.US.MNQ.U25", "MNQ"),
        ("CON.F.US.EP.U25", "EP"),
        ("con.f.us.ep.u25", "CON.F.US.EP.U25"),
        ("CON.F.US.MNQ", "CON.F.US.MNQ"),
        ("CON.X.US.MNQ.U25", "CON.X.US.MNQ.U25"),
        ("mnq", "MNQ"),
    ],
)
def test_the_root_is_the_fourth_part_of_a_contract_id_or_all_of_an_odd_one(contract_id: str, root: str) -> None:
    assert root_of(contract_id) == root


@pytest.mark.parametrize(
    ("name", "ticker"),
    [
        ("MNQU6", "MNQ"),
        ("MNQU26", "MNQ"),
        ("ESU5", "ES"),
        ("6EZ5", "6E"),
        ("M2KH6", "M2K"),
        ("SR3H6", "SR3"),
        ("mesm6", "MES"),
        ("ES", ""),
        ("U6", ""),
        ("ESA6", ""),
        ("", ""),
    ],
)
def test_the_ticker_is_the_name_without_month_and_year(name: str, ticker: str) -> None:
    assert ticker_of(name) == ticker


def test_a_contract_without_a_telling_name_goes_by_the_root_of_its_id() -> None:
    assert contract(ContractId("CON.F.US.EP.U25")).ticker == "ES"
    nameless = Contract(ContractId("CON.F.US.EP.U25"), "", Decimal(1), Decimal(1))
    assert (nameless.ticker, nameless.root) == ("EP", "EP")


@pytest.mark.parametrize(("name", "ticker"), [("EP", "ES"), ("ep", "ES"), ("ES", "ES"), ("enq", "NQ"), ("MNQ", "MNQ")])
def test_a_product_may_be_named_by_ticker_or_root(name: str, ticker: str) -> None:
    assert product(name) == ticker


def test_a_number_that_the_broker_adds_to_an_enumeration_is_carried() -> None:
    assert OrderStatus(42) == 42
    assert OrderStatus(42).name == "UNKNOWN_42"
    with pytest.raises(ValueError, match="is not a valid OrderStatus"):
        OrderStatus("1")  # type: ignore[arg-type]


def test_a_buy_adds_and_a_sell_takes() -> None:
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)


def test_an_order_could_fill_what_it_has_not_filled() -> None:
    assert order(1, MNQ, size=5, fill_volume=2).remaining == 3
    assert order(1, MNQ, size=5, fill_volume=6).remaining == 0


def test_a_quote_never_told_has_no_time() -> None:
    assert Quote(MNQ).at is None


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("-525.5", "-$525.50"),
        ("1234567.891", "$1,234,567.891"),
        ("0", "$0.00"),
        ("-0.00", "$0.00"),
        ("-0.625", "-$0.625"),
        ("5E+2", "$500.00"),
    ],
)
def test_dollars_have_a_sign_and_cents(amount: str, written: str) -> None:
    assert dollars(Decimal(amount)) == written


@pytest.mark.parametrize(
    ("price", "tick", "written"),
    [("21000", "0.25", "21000.00"), ("21000.00", "5", "21000"), ("1.2345", "0.00005", "1.23450"), ("7", "1E+1", "7")],
)
def test_a_price_has_the_decimals_of_its_tick(price: str, tick: str, written: str) -> None:
    assert on_grid(Decimal(price), Decimal(tick)) == written


@pytest.mark.parametrize(("number", "written"), [("5", "5"), ("0.10", "0.1"), ("1E+2", "100"), ("0", "0")])
def test_a_count_has_no_trailing_zeros(number: str, written: str) -> None:
    assert plain(Decimal(number)) == written


@pytest.mark.parametrize(
    "event",
    [
        AccountChanged(NOON, account_row()),
        OrderChanged(NOON, order(1, MNQ)),
        PositionChanged(NOON, position(MNQ, 1)),
        TradeMade(NOON, trade(1, NOON)),
        exposure(NOON),
        record(NOON),
        ReadingFailed(NOON, ACCOUNT, ""),
        ClosesRefused(NOON, ACCOUNT, None),
    ],
)
def test_what_concerns_one_account_names_it(event: Event) -> None:
    assert account_of(event) == ACCOUNT


@pytest.mark.parametrize(
    "event", [QuoteMoved(NOON, MNQ), ClockReached(NOON), ContractLearned(NOON, contract(MNQ))], ids=repr
)
def test_what_concerns_all_accounts_names_none(event: Event) -> None:
    assert account_of(event) is None


def test_a_breach_shows_the_lock_that_it_calls_for() -> None:
    def breach(*decisions: object) -> Breach:
        return Breach("1", "r", ACCOUNT, NOON, "", "", (), decisions)  # type: ignore[arg-type]

    assert breach(Flatten(), LockOut(NOON)).lockouts == (LockOut(NOON),)
    assert breach(Flatten()).lockouts == ()
