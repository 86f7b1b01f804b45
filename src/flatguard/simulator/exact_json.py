"""JSON in which a number is the decimal that was written, on the way in and on the way out."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import NoReturn

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
    """Read strict JSON; a number with a point or an exponent becomes a Decimal. Raises ``ValueError``."""
    return json.loads(text, parse_float=Decimal, parse_constant=_refuse)


def plain(amount: Decimal) -> Decimal:
    """Return the same amount without trailing zeros behind the point."""
    amount += 0  # minus zero becomes zero
    return amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount.normalize()


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
