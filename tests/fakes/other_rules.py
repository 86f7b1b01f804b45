"""Rules as other distributions might bring them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, time
from importlib.metadata import EntryPoint

import pytest
from attrs import field, frozen

from flatguard import rules
from flatguard.model.account import AccountState, Terms
from flatguard.model.events import Event
from flatguard.rules import ENTRY_POINTS
from flatguard.rules._rule import Contradiction, Finding, Rule


@frozen
class Touchy(Rule):
    """A rule that does not go with others, and some of whose settings cannot be borne at all."""

    mood: str = "good"
    table: Mapping[str, int] = field(factory=dict)

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Never find anything."""
        return None

    def products(self) -> frozenset[str]:
        """Those of the table, unless it is in a bad mood."""
        if self.mood == "faulty":
            raise ZeroDivisionError("0 by 0")
        return frozenset(self.table)

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """As the mood is."""
        assert "touchy" not in others
        if self.mood == "faulty":
            raise ZeroDivisionError("0 by 0")
        if "max_contracts" in others:
            yield Contradiction("mood", f"cannot be {self.mood} beside max_contracts", refused=self.mood == "bad")
        if self.mood == "odd":
            yield Contradiction("", f"is odd until {terms.reset}")
            yield Contradiction("table", "is not there", entry="NQ")


@frozen
class Session:
    """A table within the array of another one."""

    start: time
    days: tuple[int, ...] = (0, 1, 2, 3, 4)
    until: date | None = None


@frozen
class Elaborate(Rule):
    """A rule whose settings have every shape that a file can hold."""

    sessions: tuple[Session, ...] = ()
    by_product: Mapping[str, Session] = field(factory=dict)
    main: Session | None = None
    closed_on: tuple[date, ...] = ()

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Never find anything."""
        return None


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another distribution offer these rules."""
    points = [
        EntryPoint(kind.__name__.lower(), f"{__name__}:{kind.__name__}", ENTRY_POINTS) for kind in (Touchy, Elaborate)
    ]

    def entry_points(*, group: str) -> list[EntryPoint]:
        assert group == ENTRY_POINTS
        return points

    monkeypatch.setattr(rules, "entry_points", entry_points)
