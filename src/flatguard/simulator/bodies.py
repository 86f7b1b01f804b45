"""What each call must send: names, types, and the problem document for those that do not.

Known: missing properties and wrong types are answered by 400. Inferred: the layout of the document, .NET's range of
decimals, and its limit of 64 on nesting.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

from attrs import frozen

from flatguard.simulator import exact_json

Body = dict[str, Any]

PROBLEM_TYPE = "application/problem+json; charset=utf-8"
_DECIMAL = Context(prec=28)
_DECIMAL_MAX = Decimal(79228162514264337593543950335)
_DECIMAL_STEP = Decimal("1e-28")


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
    """Read a number as .NET's decimal does: 28 digits, and nothing beyond its range."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError
    if not -_DECIMAL_MAX <= value <= _DECIMAL_MAX:
        raise ValueError
    amount = _DECIMAL.create_decimal(value)
    return amount if abs(amount) >= _DECIMAL_STEP else Decimal(0)


def moment(value: object) -> datetime:
    """Read a date-time; without an offset it is UTC."""
    at = datetime.fromisoformat(text(value))
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise ValueError from None


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


@frozen
class Nested:
    """A reader of an object inside the body; ``name`` is its type's name in error texts."""

    name: str
    schema: Mapping[str, Field]

    def __call__(self, value: object, path: str = "$") -> Body:
        """Read the object that stands at ``path``. Raises ``BadBody``."""
        return bind(value, self.name, self.schema, path)


def bind(value: object, name: str, schema: Mapping[str, Field], path: str = "$") -> Body:
    """Return the properties of ``schema`` found in ``value``, None where left out; others are ignored.

    As in ASP.NET Core, the case of a property's name does not count. Raises ``BadBody`` where a required one is
    missing or a type is wrong.
    """
    if not isinstance(value, dict):
        raise BadBody(path, f"The JSON value could not be converted to {name}. Path: {path}.")
    given = {key.lower(): item for key, item in value.items()}
    missing = [key for key, field in schema.items() if field.required and key.lower() not in given]
    if missing:
        listed = ", ".join(f"'{key}'" for key in missing)
        raise BadBody(
            path,
            f"JSON deserialization for type '{name}' was missing required properties including: {listed}.",
        )
    return {key: _property(field, given.get(key.lower()), f"{path}.{key}") for key, field in schema.items()}


def _property(field: Field, item: object, path: str) -> Any:
    if item is None and field.nullable:
        return None
    try:
        return field.read(item, path) if isinstance(field.read, Nested) else field.read(item)
    except ValueError:
        raise BadBody(path, f"The JSON value could not be converted. Path: {path}.") from None


def parse(data: bytes, name: str, schema: Mapping[str, Field], *, strict: bool = False) -> Body:
    """Read a request body; where ``strict``, a property that nobody knows is an error. Raises ``BadBody``."""
    if not data:
        raise BadBody("", "A non-empty request body is required.")
    try:
        value = exact_json.loads(data)
    except ValueError:
        raise BadBody("$", "The body is not valid JSON. Path: $.") from None
    if strict and isinstance(value, dict):
        known = {key.lower() for key in schema}
        for key in value:
            if key.lower() not in known:
                raise BadBody(f"$.{key}", f"{key} is not known here; known are {', '.join(schema)}.")
    return bind(value, name, schema)


def problem(errors: Mapping[str, list[str]], rng: random.Random) -> str:
    """Return the problem document of a 400."""
    return _document(400, "15.5.1", "One or more validation errors occurred.", rng, errors=errors)


def unsupported_media(rng: random.Random) -> str:
    """Return the problem document of a 415."""
    return _document(415, "15.5.16", "Unsupported Media Type", rng)


def internal_error(rng: random.Random) -> str:
    """Return the problem document of a 500."""
    return _document(500, "15.6.1", "An error occurred while processing your request.", rng)


def _document(status: int, section: str, title: str, rng: random.Random, **more: object) -> str:
    return exact_json.dumps(
        {
            "type": f"https://tools.ietf.org/html/rfc9110#section-{section}",
            "title": title,
            "status": status,
            **more,
            "traceId": f"00-{rng.getrandbits(128):032x}-{rng.getrandbits(64):016x}-00",
        }
    )
