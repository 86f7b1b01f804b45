"""The everyday messages of the hubs, read at once from their JSON text.

``wire`` reads whatever the broker may say, by way of plain values. Nearly all that it does say has one shape, and comes
hundreds of times a second. What is plainly of that shape is read here, in one go, into the same values; everything else
is left to ``wire``, which is the authority: a test holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

import msgspec

from flatguard.gateway.wire import LONG, SHORT, Prices, amount, moment, price
from flatguard.model.ids import AccountId, ContractId, OrderId, TradeId
from flatguard.model.trading import Order, OrderStatus, OrderType, Position, Side, Trade
from flatguard.signalr.framing import exact

T = TypeVar("T")

Amount = Any
"""A number as the protocol's core reads it, or whatever else stands there; ``wire.amount`` says what it is worth."""

Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

_STATUSES = {member.value: member for member in OrderStatus}
_TYPES = {member.value: member for member in OrderType}
_SIDES = {member.value: member for member in Side}


class _Told(msgspec.Struct, Generic[T], gc=False):
    """The envelope around a row."""

    data: T


class _Order(msgspec.Struct, rename="camel", gc=False):
    id: Id
    account_id: Id
    contract_id: str
    creation_timestamp: str
    status: int
    type: int
    side: int
    size: Count
    update_timestamp: str | None = None
    limit_price: Amount = None
    stop_price: Amount = None
    fill_volume: Count = 0
    filled_price: Amount = None
    custom_tag: str | None = None
    parent_order_id: Id | None = None
    linked_order_id: Id | None = None


class _Position(msgspec.Struct, rename="camel", gc=False):
    account_id: Id
    contract_id: str
    creation_timestamp: str
    type: int
    size: Count
    average_price: Amount


class _Trade(msgspec.Struct, rename="camel", gc=False):
    id: Id
    account_id: Id
    contract_id: str
    creation_timestamp: str
    price: Amount
    side: int
    size: Count
    order_id: Id
    profit_and_loss: Amount = None
    fees: Amount = 0
    commissions: Amount = None
    voided: bool = False


class _Quote(msgspec.Struct, rename="camel", gc=False):
    last_price: Amount = None
    best_bid: Amount = None
    best_ask: Amount = None


_read_order = msgspec.json.Decoder(tuple[_Told[_Order]], float_hook=exact).decode
_read_position = msgspec.json.Decoder(tuple[_Told[_Position]], float_hook=exact).decode
_read_trade = msgspec.json.Decoder(tuple[_Told[_Trade]], float_hook=exact).decode
_read_quote = msgspec.json.Decoder(tuple[str, _Quote], float_hook=exact).decode


def _perhaps(value: Amount) -> Decimal | None:
    return None if value is None else amount(value)


def _order(text: bytes) -> Order:
    row = _read_order(text)[0].data
    return Order(
        OrderId(row.id),
        AccountId(row.account_id),
        ContractId(row.contract_id),
        _STATUSES[row.status],
        _TYPES[row.type],
        _SIDES[row.side],
        row.size,
        moment(row.creation_timestamp),
        None if row.update_timestamp is None else moment(row.update_timestamp),
        _perhaps(row.limit_price),
        _perhaps(row.stop_price),
        row.fill_volume,
        _perhaps(row.filled_price),
        row.custom_tag,
        None if row.parent_order_id is None else OrderId(row.parent_order_id),
        None if row.linked_order_id is None else OrderId(row.linked_order_id),
    )


def _position(text: bytes) -> Position:
    row = _read_position(text)[0].data
    if row.size and row.type not in {LONG, SHORT}:
        raise ValueError(row.type)
    return Position(
        AccountId(row.account_id),
        ContractId(row.contract_id),
        -row.size if row.type == SHORT else row.size,
        amount(row.average_price),
        moment(row.creation_timestamp),
    )


def _trade(text: bytes) -> Trade:
    row = _read_trade(text)[0].data
    return Trade(
        TradeId(row.id),
        AccountId(row.account_id),
        ContractId(row.contract_id),
        moment(row.creation_timestamp),
        amount(row.price),
        _perhaps(row.profit_and_loss),
        amount(row.fees),
        _perhaps(row.commissions),
        _SIDES[row.side],
        row.size,
        row.voided,
        OrderId(row.order_id),
    )


def _quote(text: bytes) -> tuple[str, Prices]:
    contract_id, told = _read_quote(text)
    return contract_id, Prices(price(told.last_price), price(told.best_bid), price(told.best_ask))


_READERS: Mapping[str, Callable[[bytes], tuple[object, ...]]] = {
    "GatewayQuote": _quote,
    "GatewayUserOrder": lambda text: (_order(text),),
    "GatewayUserPosition": lambda text: (_position(text),),
    "GatewayUserTrade": lambda text: (_trade(text),),
}


def read_arguments(target: str, text: bytes) -> tuple[object, ...] | None:
    """Return the arguments of a hub's call, where they are plainly of the everyday shape; None where they are not.

    A row of the user hub is a value of ``model`` already, and a quote is its prices.
    """
    read = _READERS.get(target)
    if read is None:
        return None
    try:
        return read(text)
    except (msgspec.DecodeError, ValueError, KeyError, ArithmeticError):
        return None
