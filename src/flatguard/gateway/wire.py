"""The broker's JSON to values of ``model``, and back. Past this module there is no dictionary.

Extra keys are allowed, since the broker may add fields. User-hub events come as ``{"action": n, "data": {...}}`` with
empty properties left out, REST rows bare with nulls; both are read alike. Numbers are exact, ids may be text, and a
position's direction is in ``type`` while its ``size`` is never negative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import cattrs
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
from flatguard.model.ids import AccountId, ContractId
from flatguard.model.money import ZERO
from flatguard.model.trading import Account, Contract, Order, OrderStatus, OrderType, Position, Side, Trade

T = TypeVar("T")

LONG, SHORT = 1, 2


def _decimal(value: Any, _type: type) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise ValueError(f"not an exact number: {value!r}")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"not a number: {value!r}") from None
    if not number.is_finite():
        raise ValueError(f"not a finite number: {value!r}")
    return number


def _integer(value: Any, _type: type) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal) or value != value:
        raise ValueError(f"not an integer: {value!r}")
    number = int(value)
    if isinstance(value, Decimal) and number != value:
        raise ValueError(f"not an integer: {value!r}")
    return number


def _boolean(value: Any, _type: type) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"neither true nor false: {value!r}")
    return value


def _text(value: Any, _type: type) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not text: {value!r}")
    return value


def moment(value: Any, _type: type = datetime) -> datetime:
    """Read a timestamp of the broker's: up to seven fractional digits; one without a zone is UTC."""
    if not isinstance(value, str):
        raise ValueError(f"not a time: {value!r}")
    read = datetime.fromisoformat(value)
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def _position(row: Mapping[str, Any], _type: type) -> Position:
    kind, size = _integer(row["type"], int), _integer(row["size"], int)
    if size < 0 or (size > 0 and kind not in {LONG, SHORT}):
        raise ValueError(f"a position of type {kind} and size {size}")
    return Position(
        account_id=AccountId(_integer(row["accountId"], int)),
        contract_id=ContractId(_text(row["contractId"], str)),
        size=-size if kind == SHORT else size,
        average_price=_decimal(row["averagePrice"], Decimal),
        opened_at=moment(row["creationTimestamp"]),
    )


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(Decimal, _decimal)
    converter.register_structure_hook(int, _integer)
    converter.register_structure_hook(bool, _boolean)
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(datetime, moment)
    for enumeration in (OrderStatus, OrderType, Side):
        converter.register_structure_hook(enumeration, lambda value, kind: kind(_integer(value, int)))
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
_TRADE_DEFAULTS: Mapping[str, object] = {"profitAndLoss": None, "fees": 0, "commissions": None, "voided": False}


def structure(row: object, model: type[T]) -> T:
    """Read one row of the broker's as ``model``. Raises UnreadableAnswer with the reason."""
    if not isinstance(row, Mapping):
        raise UnreadableAnswer(f"a {model.__name__.lower()} is not an object")
    if model is Trade:
        row = {**_TRADE_DEFAULTS, **{k: v for k, v in row.items() if v is not None}}
    try:
        return _CONVERTER.structure(row, model)
    except KeyError as error:
        raise UnreadableAnswer(f"a {model.__name__.lower()} lacks {error}") from None
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UnreadableAnswer(f"a {model.__name__.lower()} cannot be read: {error}") from None


def structure_list(body: Mapping[str, object], key: str, model: type[T]) -> tuple[T, ...]:
    """Read the rows under ``key``. A list that is missing or null is unreadable, never empty."""
    rows = body.get(key)
    if not isinstance(rows, list):
        raise UnreadableAnswer(f"the answer has no list of {key}")
    return tuple(structure(row, model) for row in rows)


def _data(argument: object) -> object:
    if isinstance(argument, Mapping) and isinstance(argument.get("data"), Mapping):
        return argument["data"]
    return argument


def _rows(arguments: Sequence[object]) -> list[object]:
    """Return the entities in a user-hub event's arguments: enveloped or bare, one or several."""
    rows: list[object] = []
    for argument in arguments:
        rows += [_data(item) for item in argument] if isinstance(argument, list) else [_data(argument)]
    return rows


_USER_EVENTS: Mapping[str, Callable[[object, datetime], Event]] = {
    "gatewayuseraccount": lambda row, at: AccountChanged(at, structure(row, Account)),
    "gatewayuserorder": lambda row, at: OrderChanged(at, structure(row, Order)),
    "gatewayuserposition": lambda row, at: PositionChanged(at, structure(row, Position)),
    "gatewayusertrade": lambda row, at: TradeMade(at, structure(row, Trade)),
}


def _quote(arguments: Sequence[object], at: datetime) -> Event:
    """The first argument names the contract; the body names only its symbol, and only what changed."""
    if len(arguments) != 2 or not isinstance(arguments[0], str) or not isinstance(arguments[1], Mapping):
        raise UnreadableAnswer("a quote is not a contract and an object")
    body = arguments[1]

    def price(name: str) -> Decimal | None:
        try:
            return None if body.get(name) is None else _decimal(body[name], Decimal)
        except ValueError as error:
            raise UnreadableAnswer(f"{name} of a quote is {error}") from None

    last = price("lastPrice")
    bid, ask = price("bestBid"), price("bestAsk")
    if last == ZERO and ZERO not in {bid, ask}:
        last = None  # partial updates have been seen to carry a zero that is no price
    return QuoteMoved(at, ContractId(arguments[0]), last, bid, ask)


def events_in(hub: Hub, target: str, arguments: Sequence[object], at: datetime) -> tuple[Event, ...]:
    """Return what a hub's message says. Unknown targets say nothing; what cannot be read is set aside with its text."""
    name = target.lower()
    try:
        if name == "gatewayquote":
            return (_quote(arguments, at),)
        if name in _USER_EVENTS:
            return tuple(_USER_EVENTS[name](row, at) for row in _rows(arguments))
    except UnreadableAnswer as error:
        return (EventSetAside(at, hub, f"{target} {arguments!r}"[:2000], str(error)),)
    return ()
