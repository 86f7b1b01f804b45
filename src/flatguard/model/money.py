"""Money and prices are ``Decimal``, exact from the parser on."""

from __future__ import annotations

from decimal import Decimal

ZERO = Decimal(0)


def dollars(amount: Decimal) -> str:
    """Write an amount of US dollars for a person: sign, currency, cents (more digits only where it has them)."""
    exact = amount.quantize(Decimal("0.01")) if amount == amount.quantize(Decimal("0.01")) else amount.normalize()
    sign = "-" if exact < 0 else ""
    return f"{sign}${abs(exact):,f}"


def on_grid(price: Decimal, tick_size: Decimal) -> str:
    """Write a price with the number of decimals that its tick size has."""
    places = max(0, -int(tick_size.normalize().as_tuple().exponent))
    return f"{price:.{places}f}"


def plain(number: Decimal) -> str:
    """Write a count without exponent or trailing zeros: 5, 0.1."""
    return f"{number.normalize():f}"
