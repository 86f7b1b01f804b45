"""Checks that the settings of several rules share. Their texts are what a person reads beside the key and the line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, TypeVar

from flatguard.model.products import product

V = TypeVar("V")

Check = Callable[[Any, Any, Any], None]


def at_least(lowest: int, hint: str = "") -> Check:
    """Refuse numbers below ``lowest``."""

    def check(_rule: object, _field: object, number: int) -> None:
        if number < lowest:
            raise ValueError(f"must be {lowest} or more, not {number}" + (f"; {hint}" if hint else ""))

    return check


def lasts(lowest: timedelta, longest: timedelta) -> Check:
    """Refuse durations outside of ``lowest`` and ``longest``, both in whole seconds."""

    def check(_rule: object, _field: object, span: timedelta) -> None:
        if not lowest <= span <= longest:
            low, high = (f"{limit.total_seconds():.0f}s" for limit in (lowest, longest))
            raise ValueError(f'must last from "{low}" to "{high}", not {span.total_seconds():.0f} s')

    return check


def loss_amount(_rule: object, _field: object, amount: Decimal) -> None:
    """Refuse losses that are not written as positive amounts; one that is infinite would never be reached."""
    if not amount.is_finite() or amount <= 0:
        raise ValueError(f'a loss is written as a positive amount, such as "500", not {amount}')


def profit_amount(_rule: object, _field: object, amount: Decimal) -> None:
    """Refuse profits that are no positive amounts; one that is infinite would never be reached."""
    if not amount.is_finite() or amount <= 0:
        raise ValueError(f'must be an amount above zero, such as "1000", not {amount}')


def amount_from_zero(_rule: object, _field: object, amount: Decimal) -> None:
    """Refuse amounts below zero."""
    if not amount.is_finite() or amount < 0:
        raise ValueError(f'must be an amount of zero or more, such as "100", not {amount}')


def an_amount(_rule: object, _field: object, amount: Decimal) -> None:
    """Refuse what is no amount of money."""
    if not amount.is_finite():
        raise ValueError(f'must be an amount, such as "50000", not {amount}')


def one_line(_rule: object, _field: object, text: str) -> None:
    """Refuse text that a line of a log could not show."""
    if not text.strip() or not text.isprintable():
        raise ValueError(f"must be words on one line, not {text!r}")


def by_product(table: Mapping[str, V]) -> Mapping[str, V]:
    """Key ``table`` by ticker, whichever way its keys name the product; refuse a product named twice."""
    keyed: dict[str, V] = {}
    for name, value in table.items():
        ticker = product(name)
        if ticker in keyed:
            raise ValueError(f"{name} names the product {ticker} a second time")
        keyed[ticker] = value
    return keyed


def positive_weights(_rule: object, _field: object, weights: Mapping[str, Decimal]) -> None:
    """Refuse weights at or below zero, and those that are no number."""
    for ticker, weight in weights.items():
        if not weight.is_finite() or weight <= 0:
            raise ValueError(f'{ticker} must weigh more than 0, such as "0.1" for a micro, not {weight}')


def sizes_from_zero(_rule: object, _field: object, sizes: Mapping[str, int]) -> None:
    """Refuse negative sizes."""
    for ticker, size in sizes.items():
        if size < 0:
            raise ValueError(f"{ticker} must be 0 or more contracts, not {size}")


def some_time(_rule: object, _field: object, duration: Any) -> None:
    """Refuse durations of nothing, and those longer than a day: until the reset is another setting."""
    if duration is not None and not timedelta(seconds=1) <= duration <= timedelta(days=1):
        raise ValueError(f'must be between 1 s and 24 h, such as "15m", not {duration.total_seconds():.0f} s')
