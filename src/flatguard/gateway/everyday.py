"""The everyday messages of the hubs, read at once from their JSON text.

``wire`` reads whatever the broker may say, by way of plain values. Nearly all that it does say has one shape, and comes
hundreds of times a second. What is plainly of that shape is read here, in one go, into the same values; everything else
is left to ``wire``, which is the authority: a test holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Rounded, Subnormal, Underflow
from typing import Annotated, Generic, Literal, TypeVar

import msgspec

from flatguard.gateway.wire import LONG, SHORT, Amount, Prices, amount
from flatguard.model.ids import AccountId, ContractId, OrderId, TradeId
from flatguard.model.trading import Order, OrderStatus, OrderType, Position, Side, Trade
from flatguard.signalr import Invocation

T = TypeVar("T")

_ANY_ID = msgspec.Meta(ge=-(2**63), le=2**63 - 1)
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Row(msgspec.Struct, rename="camel", kw_only=True, gc=False):
    """A row of the user hub. Fields stand in the order in which the broker writes them: so they are found quickest."""


class _Order(_Row, kw_only=True):
    id: Annotated[OrderId, _ANY_ID]
    account_id: Annotated[AccountId, _ANY_ID]
    contract_id: ContractId
    creation_timestamp: Moment
    update_timestamp: Moment | None = None
    status: OrderStatus
    type: OrderType
    side: Side
    size: Count
    limit_price: Amount = None
    stop_price: Amount = None
    fill_volume: Count = 0
    filled_price: Amount = None
    custom_tag: str | None = None
    parent_order_id: Annotated[OrderId, _ANY_ID] | None = None
    linked_order_id: Annotated[OrderId, _ANY_ID] | None = None


class _Position(_Row, kw_only=True):
    account_id: Annotated[AccountId, _ANY_ID]
    contract_id: ContractId
    creation_timestamp: Moment
    type: int
    size: Count
    average_price: Amount


class _Trade(_Row, kw_only=True):
    id: Annotated[TradeId, _ANY_ID]
    account_id: Annotated[AccountId, _ANY_ID]
    contract_id: ContractId
    creation_timestamp: Moment
    price: Amount
    profit_and_loss: Amount = None
    fees: Amount = 0
    commissions: Amount = None
    side: Side
    size: Count
    voided: bool = False
    order_id: Annotated[OrderId, _ANY_ID]


class _Told(msgspec.Struct, Generic[T], gc=False):
    """The envelope around a row."""

    data: T


class _Call(msgspec.Struct, tag_field="target", rename="camel", kw_only=True, gc=False):
    """A call that wants no answer."""

    type: Literal[1]
    invocation_id: msgspec.UnsetType = msgspec.UNSET


class _OrderCall(_Call, tag="GatewayUserOrder", kw_only=True):
    arguments: tuple[_Told[_Order]]

    def read(self) -> Invocation:
        row = self.arguments[0].data
        created, updated = row.creation_timestamp, row.update_timestamp
        limit, stop, filled = row.limit_price, row.stop_price, row.filled_price
        order = Order(  # no function is called for a field that is as it should be: those were a sixth of the time
            row.id,
            row.account_id,
            row.contract_id,
            row.status,
            row.type,
            row.side,
            row.size,
            created if created.tzinfo is UTC else created.astimezone(UTC),
            updated if updated is None or updated.tzinfo is UTC else updated.astimezone(UTC),
            limit if limit is None or type(limit) is Decimal else amount(limit),
            stop if stop is None or type(stop) is Decimal else amount(stop),
            row.fill_volume,
            filled if filled is None or type(filled) is Decimal else amount(filled),
            row.custom_tag,
            row.parent_order_id,
            row.linked_order_id,
        )
        return Invocation("GatewayUserOrder", (order,))


class _PositionCall(_Call, tag="GatewayUserPosition", kw_only=True):
    arguments: tuple[_Told[_Position]]

    def read(self) -> Invocation:
        row = self.arguments[0].data
        if row.size and row.type not in {LONG, SHORT}:
            raise ValueError(row.type)
        position = Position(
            row.account_id,
            row.contract_id,
            -row.size if row.type == SHORT else row.size,
            _amount(row.average_price),
            row.creation_timestamp.astimezone(UTC),
        )
        return Invocation("GatewayUserPosition", (position,))


class _TradeCall(_Call, tag="GatewayUserTrade", kw_only=True):
    arguments: tuple[_Told[_Trade]]

    def read(self) -> Invocation:
        row = self.arguments[0].data
        trade = Trade(
            row.id,
            row.account_id,
            row.contract_id,
            row.creation_timestamp.astimezone(UTC),
            _amount(row.price),
            None if row.profit_and_loss is None else _amount(row.profit_and_loss),
            _amount(row.fees),
            None if row.commissions is None else _amount(row.commissions),
            row.side,
            row.size,
            row.voided,
            row.order_id,
        )
        return Invocation("GatewayUserTrade", (trade,))


class _QuoteCall(_Call, tag="GatewayQuote", kw_only=True):
    arguments: tuple[ContractId, Prices]

    def read(self) -> Invocation:
        prices = self.arguments[1]
        if prices.last_price is not None:
            prices.last_price = _amount(prices.last_price) or None
        if prices.best_bid is not None:
            prices.best_bid = _amount(prices.best_bid) or None
        if prices.best_ask is not None:
            prices.best_ask = _amount(prices.best_ask) or None
        return Invocation("GatewayQuote", self.arguments)


def _amount(value: Amount) -> Decimal:
    return value if type(value) is Decimal else amount(value)


_ordinary = Context(
    prec=15, Emax=14, Emin=-13, traps=[InvalidOperation, Overflow, Underflow, Subnormal, Inexact, Rounded, Clamped]
).create_decimal
"""Takes a number that ``amount`` has nothing against, or raises an ArithmeticError."""

_EverydayCall = _OrderCall | _PositionCall | _TradeCall | _QuoteCall
_read: Callable[[bytes], _EverydayCall] = msgspec.json.Decoder(_EverydayCall, float_hook=_ordinary).decode


def read_call(record: bytes) -> Invocation | None:
    """Return a hub's call, where it is plainly of an everyday shape; None where it is not.

    Of its arguments a row of the user hub is a value of ``model`` already, and a quote is its prices.
    """
    try:
        return _read(record).read()
    except (msgspec.DecodeError, ValueError, ArithmeticError, RecursionError):
        return None
