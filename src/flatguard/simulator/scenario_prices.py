"""The prices of a scenario file: at the start, along paths, and from recordings; each for a contract that there is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen

from flatguard.simulator import scenario_values as values
from flatguard.simulator.contracts import ACTIVE, Contract, Listing
from flatguard.simulator.recordings import NEEDED, UnusableRecording, read_recording
from flatguard.simulator.scenario_table import Table
from flatguard.simulator.tape import Tape, path_ticks

Known = Callable[[Any], tuple[str, Contract]]
"""Reads the name of a contract; returns the name to go by, and a contract that shows its tick grid."""


@frozen
class Drive:
    """What moves a contract. ``name`` is its id or its ticker; the ticker means the month active at the start."""

    place: str
    name: str
    tape: Callable[[Contract, datetime], Tape]


def first_prices(table: Table, known: Known) -> dict[str, Decimal]:
    """Return the prices at the start, by id or by ticker."""
    prices = {}
    for name in table.values:
        try:
            key, contract = known(name)
        except ValueError as error:
            table.complain(name, str(error))
            continue
        if key in prices:
            table.complain(name, f"{key} has a price already")
        price = table.take(name, partial(price_of, contract))
        if price is not None:
            prices[key] = price
    return prices


def path_of(table: Table, known: Known, pace: timedelta) -> Drive | None:
    """Return a path; None if something is wrong with it."""
    named = table.take("contract", known, needed=True)
    points = None if named is None else table.take("points", partial(_points, named[1]), needed=True)
    table.take("points", values.array)
    table.refuse_unknown()
    if named is None or points is None:
        return None

    def tape(contract: Contract, start: datetime) -> Tape:
        ticks = partial(path_ticks, points, start, contract.tick_size, pace)
        return Tape(ticks(), ticks)

    return Drive(table.path, named[0], tape)


def recording_of(table: Table, known: Known, folder: Path) -> Drive | None:
    """Return a recording; None if something is wrong with it."""
    named = table.take("contract", known, needed=True)
    path = table.take("path", values.text, needed=True)
    kind = table.take("format", partial(values.one_of, tuple(NEEDED)), needed=True)
    at = table.take("at", partial(values.one_of, ("start", "absolute"))) or "start"
    bar_s = table.take("bar_s", values.positive)
    if bar_s is not None and kind == "ticks":
        table.complain("bar_s", "is for bars; these are ticks")
    table.refuse_unknown()
    if named is None or path is None or kind is None:
        return None
    try:
        recording = read_recording(folder / path, kind, named[1], bar_s=bar_s)
    except UnusableRecording as error:
        for text in error.args:
            table.complain("path", text)
        return None

    def tape(_contract: Contract, start: datetime) -> Tape:
        return Tape(recording.shifted_to(start) if at == "start" else recording.since(start))

    return Drive(table.path, named[0], tape)


def _points(contract: Contract, value: Any) -> list[tuple[Decimal, Decimal]]:
    points: list[tuple[Decimal, Decimal]] = []
    for index, point in enumerate(values.array(value)):
        try:
            if not isinstance(point, list) or len(point) != 2:
                raise ValueError('must be seconds and a price, such as [60, "24950.25"]')
            seconds, price = Decimal(str(values.seconds(point[0]))), price_of(contract, point[1])
            if seconds < (points[-1][0] if points else 0):
                raise ValueError("the seconds must not be negative, nor go back")
            if points and _ticks_a_second(contract, points[-1], (seconds, price)) > values.MOST:
                raise ValueError(
                    f"is more than {values.MOST} ticks a second away; for a gap, give two points the same second"
                )
        except ValueError as error:
            raise ValueError(f"[{index}]: {error}") from None
        points.append((seconds, price))
    if not points:
        raise ValueError("must hold at least one point")
    return points


def _ticks_a_second(contract: Contract, before: tuple[Decimal, Decimal], after: tuple[Decimal, Decimal]) -> Decimal:
    lasts = after[0] - before[0]
    return abs(after[1] - before[1]) / contract.tick_size / lasts if lasts else Decimal(0)


def known_contract(listing: Listing, value: Any) -> tuple[str, Contract]:
    """Return the name to go by, an id or a ticker, and a contract that shows its tick grid."""
    contract = listing.get(values.text(value))
    if contract is not None:
        return contract.id, contract
    contract = ACTIVE.get(value.upper())
    if contract is None:
        raise ValueError(f"there is no contract {value!r}; give an id, or a ticker such as MNQ")
    return contract.ticker, contract


def price_of(contract: Contract, value: Any) -> Decimal:
    """Read a price that lies on the contract's ticks."""
    price = values.decimal(value)
    if price <= 0 or not contract.aligned(price):
        raise ValueError(f"{contract.ticker} trades in steps of {contract.tick_size}; {price} is not one of them")
    return price
