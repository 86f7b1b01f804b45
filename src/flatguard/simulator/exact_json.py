"""JSON in which a number is the decimal that was written, on the way in and on the way out."""

from __future__ import annotations

import json
from decimal import Context, Decimal
from typing import NoReturn

_MAX_DEPTH = 64
_WIDE = Context(prec=60)
_MAX_EXPONENT = 400
_quote = json.JSONEncoder(ensure_ascii=False).encode


def dumps(value: object) -> str:
    """Write ``value`` without spaces. A Decimal keeps its digits: ``49909`` and ``49909.0`` differ."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quote(str(key))}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(dumps(item) for item in value) + "]"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, float):
        raise TypeError("a float has no exact digits; use a Decimal")
    return _quote(value)


def loads(text: str | bytes) -> object:
    """Read strict JSON; a number with a point or an exponent becomes a Decimal.

    Raises ``ValueError``, also for what is JSON but harms those who keep it: values nested more than 64 deep (where
    .NET stops too), halves of surrogate pairs, numbers with exponents that no decimal has.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    try:
        value = json.loads(text, parse_float=_decimal, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None
    _inspect(value, _MAX_DEPTH)
    return value


def plain(amount: Decimal) -> Decimal:
    """Return the same amount without trailing zeros behind the point."""
    amount = _WIDE.add(amount, 0)  # minus zero becomes zero
    if amount == amount.to_integral_value():
        return amount.quantize(Decimal(1), context=_WIDE)
    return amount.normalize(_WIDE)


def _decimal(digits: str) -> Decimal:
    value = Decimal(digits)
    if value and abs(value.adjusted()) > _MAX_EXPONENT:
        raise ValueError(f"{digits[:20]} is out of range")
    return value or Decimal(0)


def _inspect(value: object, depth: int) -> None:
    if isinstance(value, str):
        value.encode()  # raises ValueError for half a surrogate pair
    elif isinstance(value, (dict, list)):
        if not depth:
            raise ValueError("nested too deep")
        if isinstance(value, dict):
            for key, item in value.items():
                key.encode()
                _inspect(item, depth - 1)
        else:
            for item in value:
                _inspect(item, depth - 1)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
