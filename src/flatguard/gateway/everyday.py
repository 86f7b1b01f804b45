"""The everyday messages of the hubs, read at once from their JSON text.

``wire`` reads whatever the broker may say, by way of plain values. Nearly all that it does say has one shape, and comes
hundreds of times a second. What is plainly of that shape is read here, in one go, into the same values; everything else
is left to ``wire``, which is the authority: a test holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded, Subnormal, Underflow
from typing import Annotated, Generic, TypeVar

import msgspec

from flatguard.gateway.wire import LONG, SHORT, Amount, Prices, amount, moment
from flatguard.model.ids import AccountId, ContractId, OrderId, TradeId
from flatguard.model.trading import Order, OrderStatus, OrderType, Position, Side, Trade

T = TypeVar("T")

_ANY_ID = msgspec.Meta(ge=-(2**63), le=2**63 - 1)
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]

_STATUSES = {member.value: member for member in OrderStatus}
_TYPES = {member.value: member for member in OrderType}
_SIDES = {member.value: member for member in Side}


class _Told(msgspec.Struct, Generic[T], gc=False):
    """The envelope around a row."""

    data: T


class _Row(msgspec.Struct, rename="camel", gc=False):
    """What every row of the user hub has: which account, of which contract, since when."""

    account_id: Annotated[AccountId, _ANY_ID]
    contract_id: ContractId
    creation_timestamp: str


class _Order(_Row):
    id: Annotated[OrderId, _ANY_ID]
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
    parent_order_id: Annotated[OrderId, _ANY_ID] | None = None
    linked_order_id: Annotated[OrderId, _ANY_ID] | None = None


class _Position(_Row):
    type: int
    size: Count
    average_price: Amount


class _Trade(_Row):
    id: Annotated[TradeId, _ANY_ID]
    price: Amount
    side: int
    size: Count
    order_id: Annotated[OrderId, _ANY_ID]
    profit_and_loss: Amount = None
    fees: Amount = 0
    commissions: Amount = None
    voided: bool = False


_ordinary = Context(
    prec=15, Emax=14, Emin=-13, traps=[InvalidOperation, Overflow, Underflow, Subnormal, Inexact, Rounded, Clamped]
).create_decimal
"""Takes a number that ``amount`` has nothing against, or raises an ArithmeticError."""

_read_order = msgspec.json.Decoder(tuple[_Told[_Order]], float_hook=_ordinary).decode
_read_position = msgspec.json.Decoder(tuple[_Told[_Position]], float_hook=_ordinary).decode
_read_trade = msgspec.json.Decoder(tuple[_Told[_Trade]], float_hook=_ordinary).decode
_read_quote = msgspec.json.Decoder(tuple[ContractId, Prices], float_hook=_ordinary).decode


def _amount(value: Amount) -> Decimal:
    return value if type(value) is Decimal else amount(value)


def _order(text: bytes) -> Order:
    row = _read_order(text)[0].data
    return Order(
        row.id,
        row.account_id,
        row.contract_id,
        _STATUSES[row.status],
        _TYPES[row.type],
        _SIDES[row.side],
        row.size,
        moment(row.creation_timestamp),
        None if row.update_timestamp is None else moment(row.update_timestamp),
        None if row.limit_price is None else _amount(row.limit_price),
        None if row.stop_price is None else _amount(row.stop_price),
        row.fill_volume,
        None if row.filled_price is None else _amount(row.filled_price),
        row.custom_tag,
        row.parent_order_id,
        row.linked_order_id,
    )


def _position(text: bytes) -> Position:
    row = _read_position(text)[0].data
    if row.size and row.type not in {LONG, SHORT}:
        raise ValueError(row.type)
    return Position(
        row.account_id,
        row.contract_id,
        -row.size if row.type == SHORT else row.size,
        _amount(row.average_price),
        moment(row.creation_timestamp),
    )


def _trade(text: bytes) -> Trade:
    row = _read_trade(text)[0].data
    return Trade(
        row.id,
        row.account_id,
        row.contract_id,
        moment(row.creation_timestamp),
        _amount(row.price),
        None if row.profit_and_loss is None else _amount(row.profit_and_loss),
        _amount(row.fees),
        None if row.commissions is None else _amount(row.commissions),
        _SIDES[row.side],
        row.size,
        row.voided,
        row.order_id,
    )


def _quote(text: bytes) -> tuple[ContractId, Prices]:
    contract_id, prices = _read_quote(text)
    if prices.last_price is not None:
        prices.last_price = _amount(prices.last_price) or None
    if prices.best_bid is not None:
        prices.best_bid = _amount(prices.best_bid) or None
    if prices.best_ask is not None:
        prices.best_ask = _amount(prices.best_ask) or None
    return contract_id, prices


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
