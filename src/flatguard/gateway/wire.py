"""The broker's JSON to values of ``model``, and back. Past this module there is no dictionary.

Extra keys are allowed, since the broker may add fields. User-hub events come as ``{"action": n, "data": {...}}`` with
empty properties left out, REST rows bare with nulls; both are read alike. Numbers are exact, ids may be text, and a
position's direction is in ``type`` while its ``size`` is never negative.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any, TypeVar, cast

import cattrs
import msgspec
from cattrs.gen import make_dict_structure_fn, override

from flatguard.errors import UnreadableAnswer
from flatguard.model.events import (
    AccountChanged,
    Event,
    EventSetAside,
    Hub,
    OrderChanged,
    PositionChanged,
    QuoteMoved,
    TradeMade,
)
from flatguard.model.ids import AccountId, ContractId, OrderId, TradeId
from flatguard.model.trading import Account, Bar, Contract, Order, OrderStatus, OrderType, Position, Side, Trade

T = TypeVar("T")
E = TypeVar("E", bound=IntEnum)

LONG, SHORT = 1, 2

LARGEST = Decimal(10**15)  # no price and no balance comes near; beyond it reckoning would not be exact any more
_EVERYDAY = 15
_EXPONENTS = (-28, 15)  # what the broker's own decimals can have
_AMOUNT = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,28})?")
_WHOLE = re.compile(r"-?[0-9]{1,19}")


def amount(value: Any, _type: type = Decimal) -> Decimal:
    """Read a price or a sum of money, exactly. Raises ValueError for what is none, or none that a market has."""
    if type(value) is Decimal and len(text := str(value)) <= _EVERYDAY and "E" not in text and value.is_finite():
        return value  # so short, and written without an exponent, it is within all limits
    if type(value) is int and -LARGEST < value < LARGEST:
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError(f"not an exact number: {value!r:.40}")
    if isinstance(value, str) and not _AMOUNT.fullmatch(value):
        raise ValueError(f"not a number: {value!r:.40}")
    number = Decimal(value)
    if not number.is_finite() or abs(number) >= LARGEST or not _EXPONENTS[0] <= _exponent(number) <= _EXPONENTS[1]:
        raise ValueError(f"not an amount of anything: {value!r:.40}")
    return number


def _exponent(number: Decimal) -> int:
    return int(number.as_tuple().exponent)


def _integer(value: Any, _type: type = int) -> int:
    if type(value) is int and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    elif isinstance(value, Decimal) and (exact := amount(value)) == exact.to_integral_value():
        value = int(exact)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError(f"not a whole number: {value!r:.40}")
    return value


def _boolean(value: Any, _type: type) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"neither true nor false: {value!r:.40}")
    return value


def _text(value: Any, _type: type) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not text: {value!r:.40}")
    return value


def moment(value: Any, _type: type = datetime) -> datetime:
    """Read a timestamp of the broker's, to the nearest microsecond of its seven digits; one without a zone is UTC."""
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError(f"not a time: {value!r:.40}")
    try:
        read = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        read = datetime.fromisoformat(value)  # which knows more spellings
    if read.tzinfo is UTC:
        return read
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def _members(kind: type[E]) -> Callable[[Any, type], E]:
    known = {member.value: member for member in kind}

    def read(value: Any, _type: type) -> E:
        return known[value] if type(value) is int and value in known else kind(_integer(value))

    return read


def _if_told(read: Callable[[Any, Any], object]) -> Callable[[Any, Any], object]:
    return lambda value, kind: None if value is None else read(value, kind)


def _position(row: Mapping[str, Any], _type: type) -> Position:
    kind, size = _integer(row["type"]), _integer(row["size"])
    if size < 0 or (size > 0 and kind not in {LONG, SHORT}):
        raise ValueError(f"a position of type {kind} and size {size}")
    return Position(
        account_id=AccountId(_integer(row["accountId"])),
        contract_id=ContractId(_text(row["contractId"], str)),
        size=-size if kind == SHORT else size,
        average_price=amount(row["averagePrice"]),
        opened_at=moment(row["creationTimestamp"]),
    )


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(Decimal, amount)
    converter.register_structure_hook(int, _integer)
    converter.register_structure_hook(bool, _boolean)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(datetime, moment)
    for name in (AccountId, OrderId, TradeId):
        converter.register_structure_hook(name, _integer)
    converter.register_structure_hook(ContractId, _text)
    # Found once, here; the converter's own way with what may be missing looks for the reader at every value.
    for kind, read in ((Decimal, amount), (datetime, moment), (str, _text), (OrderId, _integer)):
        converter.register_structure_hook(kind | None, _if_told(read))
    for enumeration in (OrderStatus, OrderType, Side):
        converter.register_structure_hook(enumeration, _members(enumeration))
    converter.register_structure_hook(Position, _position)

    def rename(model: type, **names: str) -> None:
        renames: Any = {field: override(rename=name) for field, name in names.items()}
        converter.register_structure_hook(model, make_dict_structure_fn(model, converter, **renames))

    rename(Account, can_trade="canTrade", visible="isVisible")
    rename(Contract, tick_size="tickSize", tick_value="tickValue", symbol_id="symbolId", active="activeContract")
    rename(
        Order,
        account_id="accountId",
        contract_id="contractId",
        created_at="creationTimestamp",
        updated_at="updateTimestamp",
        limit_price="limitPrice",
        stop_price="stopPrice",
        fill_volume="fillVolume",
        filled_price="filledPrice",
        custom_tag="customTag",
        parent_order_id="parentOrderId",
        linked_order_id="linkedOrderId",
    )
    rename(Bar, at="t", open="o", high="h", low="l", close="c", volume="v")
    rename(
        Trade,
        account_id="accountId",
        contract_id="contractId",
        made_at="creationTimestamp",
        profit_and_loss="profitAndLoss",
        order_id="orderId",
    )
    return converter


_CONVERTER = _converter()
_READERS: Mapping[type, Callable[[Any, type], Any]] = {
    model: _CONVERTER.get_structure_hook(model) for model in (Account, Bar, Contract, Order, Position, Trade)
}
_TRADE_DEFAULTS: Mapping[str, object] = {"profitAndLoss": None, "fees": 0, "commissions": None, "voided": False}


def structure(row: object, model: type[T]) -> T:
    """Read one row of the broker's as ``model``. Raises UnreadableAnswer with the reason."""
    if not isinstance(row, dict):
        raise UnreadableAnswer(f"a row that should be of type {model.__name__.lower()} is not an object")
    told = {**_TRADE_DEFAULTS, **row} if model is Trade else row
    try:
        value: T = _READERS[model](told, model)
        _refuse_nonsense(value)
    except (KeyError, ValueError, TypeError, ArithmeticError) as error:
        if None in row.values():  # null says what a missing key says, but only here do we know that it matters
            return structure({key: value for key, value in row.items() if value is not None}, model)
        what = f"lacks {error}" if isinstance(error, KeyError) else f"cannot be read: {error}"
    else:
        return value
    raise UnreadableAnswer(f"a row of type {model.__name__.lower()} {what}")


def _refuse_nonsense(value: object) -> None:
    if isinstance(value, Order):
        if value.size < 0 or value.fill_volume < 0:
            raise ValueError(f"{value.fill_volume} of {value.size} filled")
    elif isinstance(value, Trade):
        if value.size < 0:
            raise ValueError(f"a size of {value.size}")
    elif isinstance(value, Contract) and (value.tick_size <= 0 or value.tick_value <= 0):
        raise ValueError(f"a tick of {value.tick_size} worth {value.tick_value}")


def structure_list(body: Mapping[str, object], key: str, model: type[T]) -> tuple[T, ...]:
    """Read the rows under ``key``. A list that is missing or null is unreadable, never empty."""
    rows = body.get(key)
    if not isinstance(rows, list):
        raise UnreadableAnswer(f"the answer has no list of {key}")
    return tuple(structure(row, model) for row in rows)


def _data(argument: object) -> object:
    if isinstance(argument, dict) and isinstance(argument.get("data"), dict):
        return argument["data"]
    return argument


def _rows(arguments: Sequence[object]) -> list[object]:
    """Return the entities in a user-hub event's arguments: enveloped or bare, one or several."""
    rows: list[object] = []
    for argument in arguments:
        if isinstance(argument, list):
            rows += map(_data, argument)
        else:
            rows.append(_data(argument))
    return rows


_USER_EVENTS: Mapping[str, tuple[type, Callable[[datetime, Any], Event]]] = {
    "gatewayuseraccount": (Account, AccountChanged),
    "gatewayuserorder": (Order, OrderChanged),
    "gatewayuserposition": (Position, PositionChanged),
    "gatewayusertrade": (Trade, TradeMade),
}


Amount = Any
"""A number as the protocol's core reads it, or whatever else stands there; ``amount`` says what it is worth."""


class Prices(msgspec.Struct, rename="camel", gc=False):
    """What a quote tells; None for what it does not."""

    last_price: Amount = None
    best_bid: Amount = None
    best_ask: Amount = None


def _quote(arguments: Sequence[object], at: datetime) -> Event:
    """The first argument names the contract; the body names only its symbol, and only what changed.

    A zero is an empty field: partial updates have been seen to carry it. Taken for a price it would close positions.
    """
    if len(arguments) != 2 or not isinstance(arguments[0], str) or not isinstance(arguments[1], dict):
        raise UnreadableAnswer("a quote is not a contract and an object")
    body = arguments[1]
    return QuoteMoved(
        at, ContractId(arguments[0]), _price(body, "lastPrice"), _price(body, "bestBid"), _price(body, "bestAsk")
    )


def _price(body: Mapping[str, Any], name: str) -> Decimal | None:
    value = body.get(name)
    if value is None:
        return None
    try:
        return amount(value) or None
    except ValueError as error:
        raise UnreadableAnswer(f"{name} of a quote is {error}") from None


_ROWS_READ_ALREADY: Mapping[type, Callable[[datetime, Any], Event]] = {
    Order: OrderChanged,
    Position: PositionChanged,
    Trade: TradeMade,
}
"""What to make of rows that were read on the way in."""


def events_in(hub: Hub, target: str, arguments: Sequence[object], at: datetime) -> tuple[Event, ...]:
    """Return what a hub's message says. Unknown targets say nothing; what cannot be read is set aside with its text."""
    if arguments:  # most have been read on the way in
        last = arguments[-1]
        if type(last) is Prices:
            return (QuoteMoved(at, cast(ContractId, arguments[0]), last.last_price, last.best_bid, last.best_ask),)
        happened = _ROWS_READ_ALREADY.get(type(last))
        if happened is not None:
            return (happened(at, last),)
    return _events_in_anything(hub, target, arguments, at)


def _events_in_anything(hub: Hub, target: str, arguments: Sequence[object], at: datetime) -> tuple[Event, ...]:
    name = target.lower()

    def set_aside(what: object, error: UnreadableAnswer) -> Event:
        return EventSetAside(at, hub, f"{target} {what!r}"[:2000], str(error))

    if name == "gatewayquote":
        try:
            return (_quote(arguments, at),)
        except UnreadableAnswer as error:
            return (set_aside(arguments, error),)
    if name not in _USER_EVENTS:
        return ()
    model, happened = _USER_EVENTS[name]
    events: list[Event] = []
    for row in _rows(arguments):
        try:
            events.append(happened(at, structure(row, model)))
        except UnreadableAnswer as error:
            events.append(set_aside(row, error))
    return tuple(events)
