"""One table of a scenario file, checked as it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from attrs import define, field

from flatguard.simulator import scenario_values

T = TypeVar("T")


@define
class Table:
    """A table of the file. Taking a key checks it; what is wrong is collected, and the key reads as None."""

    path: str
    values: dict[str, Any]
    errors: list[str]
    _taken: set[str] = field(factory=set)

    def _place(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def complain(self, key: str, text: str) -> None:
        """Say what is wrong with a key."""
        self.errors.append(f"{self._place(key)}: {text}")

    def take(self, key: str, read: Callable[[Any], T], *, needed: bool = False) -> T | None:
        """Return what ``read`` makes of a key; None where it is left out, or wrong, which is noted."""
        self._taken.add(key)
        if key not in self.values:
            if needed:
                self.complain(key, "is missing")
            return None
        try:
            return read(self.values[key])
        except ValueError as error:
            self.complain(key, str(error))
            return None

    def table(self, key: str) -> Table:
        """Return a table within this one, empty where there is none."""
        value = self.take(key, scenario_values.table)
        return Table(self._place(key), value or {}, self.errors)

    def tables(self, key: str) -> Iterator[Table]:
        """Yield the tables of an array."""
        for index, value in enumerate(self.take(key, scenario_values.tables) or []):
            if isinstance(value, dict):
                yield Table(f"{self._place(key)}[{index}]", value, self.errors)
            else:
                self.complain(f"{key}[{index}]", "must be a table")

    def refuse_unknown(self) -> None:
        """Complain of every key that has not been taken."""
        for key in self.values:
            if key not in self._taken:
                self.complain(key, f"is not known here; known are {', '.join(sorted(self._taken))}")
