"""What each call must send: names, types, and the problem document for those that do not."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from attrs import frozen

from flatguard.simulator import exact_json

Body = dict[str, Any]


class BadBody(Exception):
    """The body cannot be bound to the call; ``errors`` is the part of the problem document that says why."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(text)
        self.errors: dict[str, list[str]] = {
            "request": ["The request field is required."],
            path: [text],
        }


@frozen
class Field:
    """One property. ``read`` returns the value or raises ``ValueError``."""

    read: Callable[[object], Any]
    required: bool = True
    nullable: bool = False


def _is_int(value: object, bits: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << bits - 1) <= value < 1 << bits - 1:
        raise ValueError
    return value


def int32(value: object) -> int:
    """Read a 32-bit integer."""
    return _is_int(value, 32)


def int64(value: object) -> int:
    """Read a 64-bit integer."""
    return _is_int(value, 64)


def side(value: object) -> int:
    """Read 0 or 1."""
    if value not in (0, 1):
        raise ValueError
    return _is_int(value, 32)


def boolean(value: object) -> bool:
    """Read a boolean."""
    if not isinstance(value, bool):
        raise ValueError
    return value


def text(value: object) -> str:
    """Read a string."""
    if not isinstance(value, str):
        raise ValueError
    return value


def number(value: object) -> Decimal:
    """Read a number, exactly."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError
    return Decimal(value)


def moment(value: object) -> datetime:
    """Read a date-time; without an offset it is UTC."""
    at = datetime.fromisoformat(text(value))
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def integers(value: object) -> list[int]:
    """Read an array of integers."""
    if not isinstance(value, list):
        raise ValueError
    return [int32(item) for item in value]


def required(read: Callable[[object], Any]) -> Field:
    """Return a property that must be there and not null."""
    return Field(read)


def optional(read: Callable[[object], Any]) -> Field:
    """Return a property that may be left out or null."""
    return Field(read, required=False, nullable=True)


def nested(name: str, schema: Mapping[str, Field]) -> Callable[[object], Body]:
    """Return a reader of an object inside the body; ``name`` is its type's name in error texts."""
    return lambda value: bind(value, name, schema)


def bind(value: object, name: str, schema: Mapping[str, Field], path: str = "$") -> Body:
    """Return the properties of ``schema`` found in ``value``, None where left out; others are ignored.

    Raises ``BadBody`` where a required one is missing or a type is wrong.
    """
    if not isinstance(value, dict):
        raise BadBody(path, f"The JSON value could not be converted to {name}. Path: {path}.")
    missing = [key for key, field in schema.items() if field.required and key not in value]
    if missing:
        listed = ", ".join(f"'{key}'" for key in missing)
        raise BadBody(
            path,
            f"JSON deserialization for type '{name}' was missing required properties including: {listed}.",
        )
    body: Body = {}
    for key, field in schema.items():
        item = value.get(key)
        if item is None and (field.nullable or key not in value):
            body[key] = None
            continue
        try:
            body[key] = field.read(item)
        except ValueError:
            raise BadBody(f"{path}.{key}", f"The JSON value could not be converted. Path: {path}.{key}.") from None
    return body


def parse(data: bytes, name: str, schema: Mapping[str, Field]) -> Body:
    """Read a request body. Raises ``BadBody``."""
    try:
        value = exact_json.loads(data)
    except (ValueError, RecursionError):
        raise BadBody("$", "The body is not valid JSON. Path: $.") from None
    return bind(value, name, schema)


def problem(errors: Mapping[str, list[str]], rng: random.Random) -> str:
    """Return the problem document of a 400."""
    return exact_json.dumps(
        {
            "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
            "title": "One or more validation errors occurred.",
            "status": 400,
            "errors": errors,
            "traceId": f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-00",
        }
    )
