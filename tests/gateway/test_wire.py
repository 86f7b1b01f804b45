"""The broker's rows as they were seen on the wire, and everything else that could stand in their place."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flatguard.errors import UnreadableAnswer
from flatguard.gateway.wire import events_in, moment, structure, structure_list
from flatguard.model.events import (
    AccountChanged,
    Event,
    EventSetAside,
    Hub,
    OrderChanged,
    PositionChanged,
    QuoteMoved,
    TradeMade,
    account_of,
)
from flatguard.model.trading import Account, Contract, Order, OrderStatus, OrderType, Position, Side, Trade
from flatguard.signalr.framing import read_json, write_json

NOW = datetime(2026, 8, 19, 20, 51, 32, tzinfo=UTC)
MNQ, MYM = "CON.F.US.MNQ.U26", "CON.F.US.MYM.M26"

# --- Rows of REST: nulls stand where there is nothing ---

ACCOUNT = """{"id": 25700001, "name": "50KTC-V2-DLL-600001-97000001", "balance": 49989.34,
    "canTrade": true, "isVisible": true, "simulated": true}"""
CONTRACT = """{"id": "CON.F.US.MNQ.U26", "name": "MNQU6", "description": "Micro E-mini Nasdaq-100: September 2026",
    "tickSize": 0.25, "tickValue": 0.5, "activeContract": true, "symbolId": "F.US.MNQ"}"""
ENTRY = """{"id": 3408995735, "accountId": 26200002, "contractId": "CON.F.US.MNQ.U26", "symbolId": "F.US.MNQ",
    "creationTimestamp": "2026-08-16T23:26:02.15673+00:00", "updateTimestamp": "2026-08-16T23:26:02.15673+00:00",
    "status": 2, "type": 2, "side": 0, "size": 1, "limitPrice": null, "stopPrice": null,
    "fillVolume": 1, "filledPrice": 30199.25, "customTag": "abc-1"}"""
TARGET = """{"id": 3408995737, "accountId": 26200002, "contractId": "CON.F.US.MNQ.U26", "symbolId": "F.US.MNQ",
    "creationTimestamp": "2026-08-16T23:26:02.15673+00:00", "updateTimestamp": "2026-08-16T23:27:00.301751+00:00",
    "status": 3, "type": 1, "side": 1, "size": 1, "limitPrice": 30203.5, "stopPrice": null, "fillVolume": 0,
    "filledPrice": null, "customTag": "abc-1-TP", "trailDistance": 17, "trailPrice": 4.25,
    "parentOrderId": 3408995735, "linkedOrderId": 3408995736}"""
POSITION = """{"id": 825245547, "accountId": 26200002, "contractId": "CON.F.US.MNQ.U26",
    "contractDisplayName": "MNQU26", "creationTimestamp": "2026-08-19T14:15:48.611387+00:00",
    "type": 1, "size": 1, "averagePrice": 29398.5}"""
CLOSING = """{"id": 3004518356, "accountId": 26200002, "contractId": "CON.F.US.MNQ.U26",
    "creationTimestamp": "2026-08-19T14:16:01.406128+00:00", "price": 29423, "profitAndLoss": -49, "fees": 0.36,
    "side": 0, "size": 1, "voided": false, "orderId": 3423462488}"""

# --- Events of the user hub: in an envelope, what is empty left out ---

HUB_ORDER = """{"action":1,"data":{"id":2934939667,"accountId":21800003,"contractId":"CON.F.US.MYM.M26",
    "symbolId":"F.US.MYM","creationTimestamp":"2026-05-06T13:36:03.2647798+00:00",
    "updateTimestamp":"2026-05-06T13:36:03.2647798+00:00","status":6,"type":2,"side":0,"size":15,"fillVolume":0}}"""
HUB_TRADE = """{"action":0,"data":{"id":2555492434,"accountId":21800003,"contractId":"CON.F.US.MYM.M26",
    "creationTimestamp":"2026-05-06T13:36:03.2874814+00:00","price":49909,"fees":5.55,"commissions":3.75,"side":0,
    "size":15,"voided":false,"orderId":2934939667}}"""
HUB_POSITION = """{"action":1,"data":{"id":703034461,"accountId":21800003,"contractId":"CON.F.US.MYM.M26",
    "contractDisplayName":"MYMM26","creationTimestamp":"2026-05-06T13:36:03.2936136+00:00","type":1,"size":15,
    "averagePrice":49909}}"""
HUB_ACCOUNT = """{"action":1,"data":{"id":21800003,"name":"150KTC-V2-500001-86000001","balance":150051.73,
    "canTrade":true,"isVisible":true,"simulated":true}}"""
HUB_FLAT = """{"action":2,"data":{"id":825245547,"accountId":26200002,"contractId":"CON.F.US.MNQ.U26",
    "contractDisplayName":"MNQU26","creationTimestamp":"2026-08-19T14:15:48.611387+00:00","type":0,"size":0,
    "averagePrice":29398.5}}"""
HUB_REJECTED = """{"action":1,"data":{"id":3425270858,"accountId":26200002,"contractId":"CON.F.US.MNQ.U26",
    "symbolId":"F.US.MNQ","creationTimestamp":"2026-08-19T20:49:25.3938333+00:00",
    "updateTimestamp":"2026-08-19T20:49:25.3962105+00:00","status":5,"type":2,"side":1,"size":1,"fillVolume":0,
    "customTag":"abc-2"}}"""
QUOTE = """{"symbol":"F.US.MNQ","bestBid":29547,"bestAsk":29547.5,
    "lastUpdated":"2026-08-19T20:51:31.4347534+00:00","timestamp":"2026-08-19T20:51:31.348+00:00",
    "contract":"CON.F.US.MNQ.U26"}"""

ORDER_EVENT, TRADE_EVENT = "GatewayUserOrder", "GatewayUserTrade"
POSITION_EVENT, ACCOUNT_EVENT = "GatewayUserPosition", "GatewayUserAccount"
USER_EVENTS = [
    (ACCOUNT_EVENT, HUB_ACCOUNT),
    (ORDER_EVENT, HUB_ORDER),
    (ORDER_EVENT, HUB_REJECTED),
    (TRADE_EVENT, HUB_TRADE),
    (POSITION_EVENT, HUB_POSITION),
    (POSITION_EVENT, HUB_FLAT),
]
ROWS: list[tuple[type, str]] = [
    (Account, ACCOUNT),
    (Contract, CONTRACT),
    (Order, ENTRY),
    (Order, TARGET),
    (Position, POSITION),
    (Trade, CLOSING),
]

every_user_event = pytest.mark.parametrize(("target", "text"), USER_EVENTS)


def read(text: str) -> dict[str, Any]:
    return read_json(text.encode())


def but(text: str, **changes: object) -> dict[str, Any]:
    """Return a row with changes."""
    return {**read(text), **changes}


def told(target: str, *arguments: object) -> tuple[Event, ...]:
    return events_in(Hub.USER, target, arguments, NOW)


def quoted(**body: object) -> tuple[Event, ...]:
    return events_in(Hub.MARKET, "GatewayQuote", (MNQ, body), NOW)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


# --- REST ---


def test_an_account_of_rest_is_read() -> None:
    assert structure(read(ACCOUNT), Account) == Account(
        25700001, "50KTC-V2-DLL-600001-97000001", Decimal("49989.34"), can_trade=True, visible=True, simulated=True
    )


def test_a_contract_is_read() -> None:
    contract = structure(read(CONTRACT), Contract)
    assert (contract.tick_size, contract.tick_value) == (Decimal("0.25"), Decimal("0.5"))
    assert (contract.id, contract.ticker, contract.symbol_id, contract.active) == (MNQ, "MNQ", "F.US.MNQ", True)


def test_a_contract_without_its_descriptive_texts_is_read() -> None:
    contract = structure(but(CONTRACT, description=None, symbolId=None), Contract)
    assert (contract.description, contract.symbol_id) == ("", "")


def test_a_filled_order_of_rest_is_read() -> None:
    at = utc("2026-08-16T23:26:02.156730+00:00")
    assert structure(read(ENTRY), Order) == Order(
        id=3408995735,
        account_id=26200002,
        contract_id=MNQ,
        status=OrderStatus.FILLED,
        type=OrderType.MARKET,
        side=Side.BUY,
        size=1,
        created_at=at,
        updated_at=at,
        fill_volume=1,
        filled_price=Decimal("30199.25"),
        custom_tag="abc-1",
    )


def test_the_parent_and_the_sibling_of_a_bracket_leg_are_read() -> None:
    order = structure(read(TARGET), Order)
    assert (order.parent_order_id, order.linked_order_id) == (3408995735, 3408995736)
    assert (order.limit_price, order.stop_price) == (Decimal("30203.5"), None)


@pytest.mark.parametrize(("kind", "size", "expected"), [(1, 3, 3), (2, 3, -3), (0, 0, 0), (1, 0, 0), (2, 0, 0)])
def test_the_direction_of_a_position_becomes_the_sign_of_its_size(kind: int, size: int, expected: int) -> None:
    assert structure(but(POSITION, type=kind, size=size), Position).size == expected


@pytest.mark.parametrize(("kind", "size"), [(0, 1), (3, 1), (-1, 1), (1, -1), (2, -2), (None, 1), (1, None)])
def test_a_position_whose_direction_is_not_told_is_unreadable(kind: object, size: object) -> None:
    with pytest.raises(UnreadableAnswer, match="position"):
        structure(but(POSITION, type=kind, size=size), Position)


def test_a_trade_of_rest_does_not_tell_its_commission_and_is_not_taken_for_free() -> None:
    trade = structure(read(CLOSING), Trade)
    assert trade.commissions is None
    assert (trade.profit_and_loss, trade.fees) == (Decimal(-49), Decimal("0.36"))


@pytest.mark.parametrize(("told_as", "expected"), [(None, None), (0, 0), (Decimal("0.0"), 0)])
def test_a_closing_fill_of_exactly_nothing_is_not_an_opening_one(told_as: object, expected: object) -> None:
    assert structure(but(CLOSING, profitAndLoss=told_as), Trade).profit_and_loss == expected


def test_a_voided_trade_says_so() -> None:
    assert structure(but(CLOSING, voided=True), Trade).voided
    assert not structure(but(CLOSING, voided=None), Trade).voided


@pytest.mark.parametrize(("model", "text"), ROWS)
def test_fields_that_the_broker_may_add_change_nothing(model: type, text: str) -> None:
    assert structure(but(text, brandNew={"a": [1]}, action=1, equity=Decimal(1)), model) == structure(read(text), model)


@pytest.mark.parametrize(("model", "text"), ROWS)
@pytest.mark.parametrize("row", [None, [], "text", 5, True, {}], ids=str)
def test_what_is_no_row_is_unreadable(model: type, text: str, row: object) -> None:
    with pytest.raises(UnreadableAnswer, match=model.__name__.lower()):
        structure(row, model)


@pytest.mark.parametrize("body", [{}, {"orders": None}, {"orders": {}}, {"orders": "x"}, {"positions": []}], ids=str)
def test_a_list_that_is_missing_is_unreadable_never_empty(body: Mapping[str, object]) -> None:
    with pytest.raises(UnreadableAnswer, match="no list of orders"):
        structure_list(body, "orders", Order)


def test_one_row_that_cannot_be_read_spoils_its_list() -> None:
    with pytest.raises(UnreadableAnswer):
        structure_list({"orders": [read(ENTRY), {}]}, "orders", Order)


def test_an_empty_list_is_empty() -> None:
    assert structure_list({"orders": []}, "orders", Order) == ()


@pytest.mark.parametrize("field", ["tickSize", "tickValue"])
@pytest.mark.parametrize("value", [0, -1, Decimal("-0.25"), Decimal("0.00"), None, "NaN"])
def test_a_contract_that_profit_cannot_be_reckoned_with_is_unreadable(field: str, value: object) -> None:
    with pytest.raises(UnreadableAnswer, match="contract"):
        structure(but(CONTRACT, **{field: value}), Contract)


@pytest.mark.parametrize(
    ("model", "text", "field"), [(Order, ENTRY, "size"), (Order, ENTRY, "fillVolume"), (Trade, CLOSING, "size")]
)
def test_a_size_below_zero_is_unreadable(model: type, text: str, field: str) -> None:
    with pytest.raises(UnreadableAnswer):
        structure(but(text, **{field: -1}), model)


# --- Numbers ---


@pytest.mark.parametrize("written", ["49909", "49909.0", "49909.00", '"49909"', '"49909.0"', "4.9909E4", "4.9909e+4"])
def test_the_same_price_is_the_same_however_it_is_written(written: str) -> None:
    row = read(HUB_TRADE.replace('"price":49909', f'"price":{written}'))
    (event,) = told(TRADE_EVENT, row)
    assert isinstance(event, TradeMade)
    assert event.trade.price == Decimal(49909)


@pytest.mark.parametrize("written", ["2934939667", "2934939667.0", '"2934939667"', "2.934939667E9"])
def test_the_same_id_is_the_same_however_it_is_written(written: str) -> None:
    (event,) = told(ORDER_EVENT, read(HUB_ORDER.replace('"id":2934939667', f'"id":{written}')))
    assert isinstance(event, OrderChanged)
    assert event.order.id == 2934939667
    assert type(event.order.id) is int


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        1.5,
        Decimal("1.5"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        2**63,
        -(2**63) - 1,
        Decimal("1E+19"),
        Decimal("1E+6000"),
        "",
        "1_000",
        "1,000",
        " 25700001",
        "25700001\n",
        "+25700001",
        "0x10",
        "٣",
        "1e3",
        "9" * 5_000,
        [25700001],
        {"id": 25700001},
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_whole_number_of_64_bits_is_no_id(value: object) -> None:
    with pytest.raises(UnreadableAnswer):
        structure(but(ACCOUNT, id=value), Account)


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        1.5,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        Decimal("1E+16"),
        Decimal("1E+6000"),
        Decimal("1E-6000"),
        Decimal("0E+6000"),
        10**16,
        10**1_000,
        "",
        "NaN",
        "inf",
        "1_000",
        "1,000.5",
        " 1",
        "٣",
        "1" * 5_000,
        "1e999999999",
        [1],
    ],
    ids=lambda value: repr(value)[:20],
)
def test_what_is_no_amount_is_unreadable(value: object) -> None:
    with pytest.raises(UnreadableAnswer):
        structure(but(ACCOUNT, balance=value), Account)


@pytest.mark.parametrize("value", ["0", "-0.0", "-37.63", "0.0000005", "110.734375", "999999999999999.99", "1E-7"])
def test_an_amount_is_kept_exactly(value: str) -> None:
    account = structure(read(ACCOUNT.replace("49989.34", value)), Account)
    assert account.balance == Decimal(value)


def test_an_amount_may_be_below_zero() -> None:
    assert structure(but(ACCOUNT, balance=Decimal("-1999.50")), Account).balance == Decimal("-1999.50")


@given(st.integers(-(10**20), 10**20), st.integers(-8, 0))
def test_every_price_comes_through_the_text_without_a_lost_digit(digits: int, exponent: int) -> None:
    price = Decimal(digits).scaleb(exponent)
    assume(abs(price) < 10**15)
    row = read(write_json({**read(ENTRY), "limitPrice": price}))
    read_price = structure(row, Order).limit_price
    assert read_price is not None
    assert read_price.as_tuple() == Decimal(write_json(price)).as_tuple()


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_64_bit_id_comes_through_as_number_and_as_text(number: int) -> None:
    assert structure(but(ENTRY, id=number), Order).id == number
    assert structure(but(ENTRY, id=str(number)), Order).id == number


# --- Times ---


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-08-19T14:15:48.611387+00:00", "2026-08-19T14:15:48.611387+00:00"),
        ("2026-05-06T13:36:03.2647798+00:00", "2026-05-06T13:36:03.264780+00:00"),
        ("2026-08-16T23:26:02.15673+00:00", "2026-08-16T23:26:02.156730+00:00"),
        ("2026-08-19T20:51:30.052+00:00", "2026-08-19T20:51:30.052000+00:00"),
        ("2026-08-19T20:51:00+00:00", "2026-08-19T20:51:00+00:00"),
        ("2026-08-19T20:51:00Z", "2026-08-19T20:51:00+00:00"),
        ("2026-08-19T20:51:00.1234567Z", "2026-08-19T20:51:00.123457+00:00"),
        ("2026-08-19T20:51:00", "2026-08-19T20:51:00+00:00"),
        ("2026-08-19T20:51:00.1234567", "2026-08-19T20:51:00.123457+00:00"),
        ("2026-08-19T15:51:00-05:00", "2026-08-19T20:51:00+00:00"),
        ("0001-01-01T00:00:00", "0001-01-01T00:00:00+00:00"),
    ],
)
def test_a_time_is_utc_whatever_its_digits_and_its_zone(written: str, expected: str) -> None:
    read_time = moment(written)
    assert read_time == datetime.fromisoformat(expected)
    assert read_time.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "written",
    [
        None,
        5,
        "",
        "yesterday",
        "2026-13-01T00:00:00",
        "z" * 10_000,
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:00:00-05:00",
    ],
)
def test_what_is_no_time_is_unreadable(written: object) -> None:
    with pytest.raises(UnreadableAnswer) as caught:
        structure(but(POSITION, creationTimestamp=written), Position)
    assert len(str(caught.value)) < 200


# --- Events of the user hub ---


def test_an_order_event_is_read_although_what_is_empty_is_left_out() -> None:
    at = utc("2026-05-06T13:36:03.264780+00:00")
    order = Order(
        id=2934939667,
        account_id=21800003,
        contract_id=MYM,
        status=OrderStatus.PENDING,
        type=OrderType.MARKET,
        side=Side.BUY,
        size=15,
        created_at=at,
        updated_at=at,
    )
    assert told(ORDER_EVENT, read(HUB_ORDER)) == (OrderChanged(NOW, order),)


def test_an_opening_trade_has_no_profit_and_its_commission() -> None:
    (event,) = told(TRADE_EVENT, read(HUB_TRADE))
    assert isinstance(event, TradeMade)
    assert (event.trade.profit_and_loss, event.trade.commissions) == (None, Decimal("3.75"))
    assert (event.trade.id, event.trade.order_id) == (2555492434, 2934939667)


def test_a_position_that_went_flat_is_one_of_size_zero() -> None:
    (event,) = told(POSITION_EVENT, read(HUB_FLAT))
    assert isinstance(event, PositionChanged)
    assert (event.position.size, event.position.account_id, event.position.contract_id) == (0, 26200002, MNQ)


def test_an_account_event_is_read() -> None:
    (event,) = told(ACCOUNT_EVENT, read(HUB_ACCOUNT))
    assert isinstance(event, AccountChanged)
    assert event.account.balance == Decimal("150051.73")


@every_user_event
def test_a_bare_row_says_what_an_enveloped_one_says(target: str, text: str) -> None:
    assert told(target, read(text)["data"]) == told(target, read(text))


@every_user_event
def test_a_lower_cased_target_is_understood(target: str, text: str) -> None:
    assert told(target.lower(), read(text)) == told(target, read(text))


@every_user_event
@pytest.mark.parametrize("action", [0, 1, 2, 3, None, "1"])
def test_the_action_of_an_envelope_says_nothing(target: str, text: str, action: object) -> None:
    assert told(target, {**read(text), "action": action}) == told(target, read(text))


@every_user_event
def test_several_rows_in_one_message_come_in_order(target: str, text: str) -> None:
    one = told(target, read(text))
    assert told(target, [read(text), read(text)["data"]]) == told(target, read(text), read(text)) == one * 2


@every_user_event
def test_rows_beside_one_that_cannot_be_read_are_not_lost(target: str, text: str) -> None:
    before, aside, after = told(target, [read(text), {"action": 1, "data": {"id": "what"}}, read(text)])
    assert (before, after) == told(target, read(text)) * 2
    assert isinstance(aside, EventSetAside)
    assert "what" in aside.raw


@every_user_event
def test_a_message_without_rows_says_nothing(target: str, text: str) -> None:
    assert told(target) == told(target, []) == ()


@every_user_event
@pytest.mark.parametrize("argument", [None, 5, "text", True, {}, {"action": 1}, {"action": 1, "data": None}], ids=str)
def test_an_event_that_cannot_be_read_is_set_aside_with_what_it_said(target: str, text: str, argument: object) -> None:
    (event,) = told(target, argument)
    assert isinstance(event, EventSetAside)
    assert event.raw.startswith(target)
    assert repr(argument) in event.raw
    assert (event.at, event.hub) == (NOW, Hub.USER)
    assert event.reason


def test_what_is_set_aside_is_bounded() -> None:
    (event,) = told(ORDER_EVENT, {"id": "x" * 1_000_000})
    assert isinstance(event, EventSetAside)
    assert len(event.raw) + len(event.reason) < 5_000


@pytest.mark.parametrize("target", ["GatewayLogout", "gatewaylogout", "GatewayTrade", "GatewayDepth", "Surprise", ""])
def test_a_target_that_tells_no_change_says_nothing(target: str) -> None:
    assert told(target, read(HUB_ORDER)) == ()


@pytest.mark.parametrize("number", [9, 99, -1])
def test_numbers_that_an_enumeration_does_not_have_are_kept(number: int) -> None:
    row = read(HUB_ORDER)["data"]
    (event,) = told(ORDER_EVENT, {**row, "status": number, "type": number, "side": number})
    assert isinstance(event, OrderChanged)
    assert (event.order.status, event.order.type, event.order.side) == (number, number, number)
    assert event.order.working, "a status that we do not know may still fill"
    assert str(number).removeprefix("-") in event.order.status.name


@pytest.mark.parametrize("field", ["status", "type", "side"])
@pytest.mark.parametrize("value", [True, False, None, "x", Decimal("1.5"), [1]])
def test_what_is_no_number_is_no_member_of_an_enumeration(field: str, value: object) -> None:
    with pytest.raises(UnreadableAnswer):
        structure(but(ENTRY, **{field: value}), Order)


# --- Quotes ---


def test_a_quote_names_its_contract_first_and_leaves_out_what_did_not_change() -> None:
    assert events_in(Hub.MARKET, "GatewayQuote", (MNQ, read(QUOTE)), NOW) == (
        QuoteMoved(NOW, MNQ, None, Decimal(29547), Decimal("29547.5")),
    )


def test_a_full_quote_is_read() -> None:
    assert quoted(lastPrice=Decimal("29547.25"), bestBid=29547, bestAsk=Decimal("29547.5"), volume=5, change=None) == (
        QuoteMoved(NOW, MNQ, Decimal("29547.25"), Decimal(29547), Decimal("29547.5")),
    )


def test_the_contract_of_a_quote_is_not_the_one_that_its_body_may_name() -> None:
    (event,) = events_in(Hub.MARKET, "GatewayQuote", (MYM, read(QUOTE)), NOW)
    assert isinstance(event, QuoteMoved)
    assert event.contract_id == MYM


@pytest.mark.parametrize("zero", [0, Decimal("0.0"), Decimal("-0"), "0"])
@pytest.mark.parametrize("field", ["lastPrice", "bestBid", "bestAsk"])
def test_a_zero_in_a_quote_is_no_price(field: str, zero: object) -> None:
    (event,) = quoted(**{"lastPrice": 5, "bestBid": 4, "bestAsk": 6, field: zero})
    assert isinstance(event, QuoteMoved)
    assert {"lastPrice": event.last, "bestBid": event.bid, "bestAsk": event.ask}[field] is None
    assert [event.last, event.bid, event.ask].count(None) == 1


def test_a_quote_of_nothing_but_zeros_has_no_price() -> None:
    assert quoted(lastPrice=0, bestBid=0, bestAsk=0) == (QuoteMoved(NOW, MNQ),)


def test_a_price_below_zero_is_one() -> None:
    assert quoted(lastPrice=Decimal("-37.63")) == (QuoteMoved(NOW, MNQ, Decimal("-37.63")),)


@pytest.mark.parametrize(
    "arguments",
    [(), (MNQ,), (MNQ, None), (MNQ, []), (MNQ, {}, {}), ({}, MNQ), (5, {}), (MNQ, {"lastPrice": "dear"})],
    ids=str,
)
def test_a_quote_that_cannot_be_read_is_set_aside(arguments: tuple[object, ...]) -> None:
    (event,) = events_in(Hub.MARKET, "GatewayQuote", arguments, NOW)
    assert isinstance(event, EventSetAside)
    assert event.hub is Hub.MARKET


# --- Everything else ---

numbers = st.integers(-(10**25), 10**25) | st.decimals(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | numbers
    | st.text(max_size=8)
    | st.sampled_from(["NaN", "1e400", "0001-01-01T00:00+14"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)
targets = st.sampled_from([ORDER_EVENT, TRADE_EVENT, POSITION_EVENT, ACCOUNT_EVENT, "GatewayQuote", "gatewayuserorder"])


@st.composite
def spoiled(draw: st.DrawFn, text: str) -> dict[str, Any]:
    """Return a real row in which some fields say something else, or nothing."""
    row = read(text)
    for field in draw(st.lists(st.sampled_from(sorted(row)), min_size=1, max_size=3, unique=True)):
        if draw(st.booleans()):
            row[field] = draw(json_values)
        else:
            del row[field]
    return row


@given(target=targets, arguments=st.lists(json_values, max_size=3))
def test_whatever_a_hub_says_becomes_events_or_is_set_aside(target: str, arguments: list[object]) -> None:
    for event in events_in(Hub.USER, target, arguments, NOW):
        assert isinstance(event, Event)


@given(data=st.data(), event=st.sampled_from(USER_EVENTS))
def test_a_spoiled_event_is_never_taken_for_another_account(data: st.DataObject, event: tuple[str, str]) -> None:
    target, text = event
    row = data.draw(spoiled(write_json(read(text)["data"])))
    (made,) = told(target, {"action": 1, "data": row})
    if not isinstance(made, EventSetAside):
        account_id = account_of(made)
        meant = row["id" if target == ACCOUNT_EVENT else "accountId"]
        assert account_id == (int(meant) if isinstance(meant, str) else meant)
        assert type(account_id) is int
        repr(made)


@given(data=st.data(), row=st.sampled_from(ROWS))
def test_a_spoiled_row_is_read_or_unreadable_and_nothing_else(data: st.DataObject, row: tuple[type, str]) -> None:
    model, text = row
    try:
        structure(data.draw(spoiled(text)), model)
    except UnreadableAnswer as error:
        assert 0 < len(str(error)) < 500  # noqa: PT017 - a row may be readable all the same


@given(body=st.dictionaries(st.sampled_from(["lastPrice", "bestBid", "bestAsk", "symbol"]), json_values))
def test_a_quote_moves_a_price_or_is_set_aside(body: dict[str, object]) -> None:
    (event,) = quoted(**body)
    assert isinstance(event, QuoteMoved | EventSetAside)
    if isinstance(event, QuoteMoved):
        assert event.contract_id == MNQ
        assert all(price is None or price for price in (event.last, event.bid, event.ask))
