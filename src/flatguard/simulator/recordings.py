"""Recorded prices from CSV: ticks as they were, or bars, each played as four ticks within its time."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path

from attrs import define, field, frozen

from flatguard.simulator.contracts import Contract
from flatguard.simulator.tape import Tick

NEEDED: Mapping[str, tuple[str, ...]] = {
    "ticks": ("time", "price"),
    "bars": ("time", "open", "high", "low", "close", "volume"),
}
"""The columns that a file of each format has to have."""
OPTIONAL: Mapping[str, tuple[str, ...]] = {"ticks": ("volume", "bid", "ask"), "bars": ()}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_COMPLAINTS = 5
_MAX_AT_ONCE = 1000
_MINUTE = timedelta(minutes=1)
_LAST_YEAR = 2098


class UnusableRecording(Exception):
    """The file cannot be played; each argument says one thing that is wrong, with its line and column."""


@frozen
class Recording:
    """Ticks at the times at which they were recorded."""

    ticks: Sequence[Tick]

    def shifted_to(self, start: datetime) -> Iterator[Tick]:
        """Yield the ticks as if the first had been at ``start``."""
        distance = start - self.ticks[0].at
        return (Tick(tick.at + distance, tick.price, tick.volume, tick.bid, tick.ask) for tick in self.ticks)

    def since(self, start: datetime) -> Iterator[Tick]:
        """Yield the ticks that are not before ``start``."""
        return (tick for tick in self.ticks if tick.at >= start)


def read_recording(path: Path, kind: str, contract: Contract, *, bar_s: float | None = None) -> Recording:
    """Read a file of ``kind`` ``ticks`` or ``bars``; ``bar_s`` is how long a bar lasts.

    By default a bar lasts as long as the two that are closest together are apart. Raises ``UnusableRecording``.
    """
    rows = _Rows(path, kind, contract)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            ticks = _read(rows, file, bar_s)
    except OSError as error:
        raise UnusableRecording(f"{path}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnusableRecording(f"{path}: is not CSV: {error}") from error
    if not ticks and not rows.complaints:
        rows.complaints.append(f"{path}: holds no rows")
    if rows.complaints:
        more = len(rows.complaints) - _MAX_COMPLAINTS
        kept = rows.complaints[:_MAX_COMPLAINTS]
        raise UnusableRecording(*kept, *([f"{path}: and {more} more"] if more > 0 else []))
    return Recording(ticks)


def _read(rows: _Rows, file: Iterator[str], bar_s: float | None) -> Sequence[Tick]:
    reader = csv.reader(file)
    header = [name.strip().lower() for name in next(reader, [])]
    if not rows.accepts(header):
        return ()
    read: list[tuple[datetime, dict[str, Decimal]]] = []
    at_once = 0
    for cells in reader:
        if not cells:
            continue
        rows.line = reader.line_num
        values = rows.values(header, cells)
        if values is None:
            continue
        if read and values[0] < read[-1][0]:
            rows.complain("time", "is earlier than the row before")
        elif rows.kind == "bars" and read and values[0] == read[-1][0]:
            rows.complain("time", "is the same as in the row before")
        at_once = at_once + 1 if read and values[0] == read[-1][0] else 1
        if at_once == _MAX_AT_ONCE + 1:
            rows.complain("time", f"is that of more than {_MAX_AT_ONCE} rows")
        read.append(values)
    if rows.complaints:
        return ()
    if rows.kind == "ticks":
        return list(_ticks(read))
    apart = min((later - earlier for (earlier, _), (later, _) in pairwise(read)), default=None)
    width = apart or _MINUTE if bar_s is None else timedelta(seconds=bar_s)
    if apart is not None and width > apart:
        text = f"bar_s says {bar_s} s, but two bars are only {apart.total_seconds()} s apart"
        rows.complaints.append(f"{rows.path}: {text}")
        return ()
    return list(_bars(read, width))


def _ticks(rows: Sequence[tuple[datetime, dict[str, Decimal]]]) -> Iterator[Tick]:
    for at, values in rows:
        volume = values.get("volume")
        yield Tick(at, values["price"], None if volume is None else int(volume), values.get("bid"), values.get("ask"))


def _bars(rows: Sequence[tuple[datetime, dict[str, Decimal]]], width: timedelta) -> Iterator[Tick]:
    for at, bar in rows:
        first, high, low, last = (bar[name] for name in ("open", "high", "low", "close"))
        extremes = (high, low) if high - first <= first - low else (low, high)
        share, rest = divmod(int(bar["volume"]), 4)
        for number, price in enumerate((first, *extremes, last)):
            yield Tick(at + width * number / 4, price, share + (number < rest))


@define
class _Rows:
    """Turns cells into values, and collects what is wrong with them."""

    path: Path
    kind: str
    contract: Contract
    line: int = 1
    complaints: list[str] = field(factory=list)

    def complain(self, column: str, text: str) -> None:
        self.complaints.append(f"{self.path}, line {self.line}, column {column}: {text}")

    def accepts(self, header: Sequence[str]) -> bool:
        known = NEEDED[self.kind] + OPTIONAL[self.kind]
        for name in NEEDED[self.kind]:
            if name not in header:
                self.complain(name, f"is missing; {self.kind} have the columns {', '.join(known)}")
        for name in dict.fromkeys(header):
            if name not in known:
                self.complain(name or "(without a name)", f"is not known here; known are {', '.join(known)}")
            elif header.count(name) > 1:
                self.complain(name, "is there twice")
        return not self.complaints

    def values(self, header: Sequence[str], cells: Sequence[str]) -> tuple[datetime, dict[str, Decimal]] | None:
        """Return a row's time and numbers; None if something is wrong with it."""
        before = len(self.complaints)
        if len(cells) != len(header):
            at = header[min(len(cells), len(header) - 1)]
            self.complain(at, f"the row has {len(cells)} cells instead of {len(header)}")
            return None
        found: dict[str, Decimal] = {}
        time = _EPOCH
        for name, cell in zip(header, map(str.strip, cells), strict=True):
            try:
                if name == "time":
                    time = _time(cell)
                elif cell or name in NEEDED[self.kind]:
                    found[name] = self._volume(cell) if name == "volume" else self._price(cell)
            except ValueError as error:
                self.complain(name, str(error))
        if len(self.complaints) == before:
            self._compare(found)
        return (time, found) if len(self.complaints) == before else None

    def _compare(self, found: Mapping[str, Decimal]) -> None:
        if self.kind == "bars":
            if found["high"] < max(found["open"], found["close"], found["low"]):
                self.complain("high", "is lower than another price of the bar")
            if found["low"] > min(found["open"], found["close"]):
                self.complain("low", "is higher than another price of the bar")
            return
        step = self.contract.tick_size
        if found.get("bid", found["price"] - step) >= found.get("ask", found["price"] + step):
            self.complain("bid" if "bid" in found else "ask", "leaves the bid no lower than the ask")

    def _price(self, cell: str) -> Decimal:
        price = _number(cell)
        if price <= 0 or not self.contract.aligned(price):
            step = self.contract.tick_size
            raise ValueError(f"{self.contract.ticker} trades in steps of {step}; {cell} is not one of them")
        return price

    def _volume(self, cell: str) -> Decimal:
        volume = _number(cell)
        if volume < 0 or volume % 1:
            raise ValueError(f"{cell!r} is not a whole number of contracts")
        return volume


def _number(cell: str) -> Decimal:
    try:
        number = Decimal(cell)
    except InvalidOperation:
        raise ValueError(f"{cell!r} is not a number") from None
    if not number.is_finite() or abs(number.adjusted()) > 12:
        raise ValueError(f"{cell!r} is not a number that can be used")
    return number


def _time(cell: str) -> datetime:
    """Read seconds (since 1970, or since anything else where the recording is shifted), or a date with an offset."""
    try:
        if cell.replace(".", "", 1).isdecimal():
            at = _EPOCH + timedelta(microseconds=int(Decimal(cell) * 1_000_000))
        else:
            at = datetime.fromisoformat(cell)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{cell!r} is not a time; write it like 2026-11-18T15:00:00Z, or as a number of seconds"
        ) from None
    if at.tzinfo is None:
        raise ValueError(f"{cell!r} does not say in which time zone; write it like 2026-11-18T15:00:00Z")
    if not _EPOCH.year <= at.year <= _LAST_YEAR:
        raise ValueError(f"{cell!r} does not lie between {_EPOCH.year} and {_LAST_YEAR}")
    return at.astimezone(UTC)
