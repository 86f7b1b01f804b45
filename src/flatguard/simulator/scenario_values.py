"""The single values of a scenario file, each with what it has to be. ``ValueError`` says what is wrong with one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import Any

MOST = 1000
"""Of what happens in a second, and of a few things besides."""
_MAX_SPEED = 3_600  # as the command line has it
_LEAST = 0.001
_LEAST_MONEY = Decimal("0.0001")
_LONGEST = 10**9
_ABSURD = Decimal(10) ** 12


def table(value: Any) -> dict[str, Any]:
    """Read a table."""
    if not isinstance(value, dict):
        raise ValueError("must be a table")
    return value


def tables(value: Any) -> list[Any]:
    """Read an array of tables."""
    if not isinstance(value, list):
        raise ValueError("must be an array of tables")
    return value


def boolean(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def whole(value: Any) -> int:
    """Read a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


def identity(value: Any) -> int:
    """Read an id."""
    if not 0 < whole(value) < 1 << 31:
        raise ValueError("must be a positive number of 32 bits")
    return whole(value)


def refusal_code(value: Any) -> int:
    """Read a code by which a locked account is refused."""
    if whole(value) not in {2, 4, 10}:
        raise ValueError("must be 2, 4 or 10")
    return whole(value)


def ticks(value: Any) -> int:
    """Read a distance."""
    if not 1 <= whole(value) <= 1000:
        raise ValueError("must be from 1 to 1000 ticks")
    return whole(value)


def text(value: Any) -> str:
    """Read a text that says something."""
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    if "\0" in value:
        raise ValueError("must not hold the character 0")
    return value


def decimal(value: Any) -> Decimal:
    """Read a number, or a text that is one, exactly."""
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise ValueError("must be a number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    if not number.is_finite() or abs(number) >= _ABSURD:
        raise ValueError(f"{value!r} is no number that anything here can have")
    return number


def money(value: Any) -> Decimal:
    """Read an amount."""
    if decimal(value) % _LEAST_MONEY:
        raise ValueError("must have at most four decimals")
    return decimal(value)


def minis(value: Any) -> Decimal:
    """Read a position limit."""
    if not 0 <= decimal(value) <= _LONGEST:
        raise ValueError(f"must be from 0 to {_LONGEST}")
    return decimal(value)


def seconds(value: Any) -> float:
    """Read a duration that may be nil."""
    number = decimal(value)
    if number < 0:
        raise ValueError("must not be negative")
    if number > _LONGEST:
        raise ValueError(f"must be at most {_LONGEST}")
    return float(number)


def positive(value: Any) -> float:
    """Read a duration."""
    number = seconds(value)
    if number < _LEAST:
        raise ValueError(f"must be more than 0: at least {_LEAST}")
    return number


def speed(value: Any) -> float:
    """Read how many times as fast as real time."""
    if positive(value) > _MAX_SPEED:
        raise ValueError(f"must be at most {_MAX_SPEED}")
    return positive(value)


def step_ms(value: Any) -> float:
    """Read how often something trades."""
    if positive(value) < 1:
        raise ValueError(f"must be at least 1, which is {MOST} trades a second")
    return positive(value)


def count(value: Any) -> int:
    """Read a number of times."""
    if not 0 <= whole(value) <= MOST:
        raise ValueError(f"must be from 0 to {MOST}; none negative")
    return whole(value)


def calls(value: Any) -> int:
    """Read a number of calls."""
    if not whole(value) >= 1:
        raise ValueError("must be at least one call")
    return whole(value)


def band(value: Any) -> Decimal:
    """Read a share that may be more than all."""
    if not 0 <= decimal(value) <= MOST:
        raise ValueError(f"must be from 0 to {MOST}")
    return decimal(value)


def share(value: Any) -> float:
    """Read a probability."""
    number = seconds(value)
    if number > 1:
        raise ValueError("must lie between 0 and 1")
    return number


def moment(value: Any) -> datetime:
    """Read a date with a time, as UTC."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a date with a time and an offset, such as 2026-11-18T15:00:00Z, without quotes")
    if not 2001 <= value.year <= 2098:  # two digits have to name a contract's year
        raise ValueError("must lie between 2001 and 2098")
    return value.astimezone(UTC)


def one_of(names: Sequence[str], value: Any) -> str:
    """Read one of some words."""
    if value not in names:
        raise ValueError(f"must be one of {', '.join(names)}")
    return text(value)


def array(value: Any) -> list[Any]:
    """Read an array."""
    if not isinstance(value, list):
        raise ValueError("must be an array")
    return value


def pair(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    """Return what reads two values, each in its own way."""

    def read(value: Any) -> tuple[Any, Any]:
        if not isinstance(value, list) or len(value) != 2:
            raise ValueError("must be an array of two numbers")
        return first(value[0]), second(value[1])

    return read


def span(read_one: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    """Return what reads the two ends of a range."""

    def read(value: Any) -> tuple[Any, Any]:
        low, high = pair(read_one, read_one)(value)
        if not 0 <= low <= high:
            raise ValueError("must be the lower number and the higher one, none negative")
        return low, high

    return read


OPTION_READERS: Mapping[Any, Callable[[Any], Any]] = MappingProxyType(
    {
        bool: boolean,
        int: count,
        float: seconds,
        Decimal: band,
        tuple[float, float]: span(seconds),
        tuple[int, int]: span(count),
        tuple[int, float]: pair(calls, positive),
    }
)
"""By the type of an option."""
OWN_OPTION_READERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "speed": speed,
        "market_step_ms": step_ms,
        "hub_ping_s": positive,
        "order_repeat_probability": share,
        "refusal_when_locked": refusal_code,
    }
)
"""By the name of an option that wants more than its type."""
FIELD_READERS: Mapping[Any, Callable[[Any], Any]] = MappingProxyType(
    {
        bool: boolean,
        int: identity,
        int | None: ticks,
        str: text,
        Decimal: money,
        Decimal | None: money,
    }
)
"""By the type of a key of users and accounts."""
OWN_READERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType({"max_minis": minis})
