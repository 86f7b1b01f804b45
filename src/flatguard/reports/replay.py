"""Fold a tape again. By the rules that were in force everything must come out as it was recorded, state for state.

The tape's rows come as values together with the text in which judging them was recorded; how such texts are made is the
journal's to say, and handed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from attrs import define, evolve, field, frozen

from flatguard.ledger.apply import apply
from flatguard.ledger.awakened import awakened
from flatguard.ledger.pnl import realize
from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import Breach
from flatguard.model.entries import Judged
from flatguard.model.events import Event
from flatguard.rules._book import RuleBook
from flatguard.rules._step import step

NOTHING = "nothing"
NESTED = ("found", "locks", "near")  # texts within the text
LONGEST = 400


@frozen
class Difference:
    """Where what came out first differs from what was recorded: in row ``seq``, or in the state after it.

    ``event`` is what the row holds, empty for a state; ``what`` names the part that differs.
    """

    seq: int
    at: datetime
    event: str
    what: str
    recorded: str
    came_out: str


@define
class Folding:
    """An account being folded again by ``book``; ``decided`` gathers what is found."""

    state: AccountState
    book: RuleBook
    judged_text: Callable[[Judged], str | None]
    state_text: Callable[[AccountState], str]
    decided: list[Breach] = field(factory=list)

    def begin_run(self, book: RuleBook, terms: Terms) -> None:
        """Go on as a daemon that starts: without what does not outlive a process, by its own settings."""
        self.state = evolve(awakened(self.state), terms=terms)
        self.book = book

    def fold(self, event: Event) -> Judged:
        """Fold one event, judge, and return what judging gave."""
        taken = step(self.state, event, apply(self.state, event), self.book)
        self.state = taken.state
        self.decided += taken.judged.found
        return taken.judged

    def fold_row(self, seq: int, event: Event, recorded: str | None) -> Difference | None:
        """Fold a row of the tape. Returns what did not come out as it was recorded."""
        try:
            judged = self.fold(event)
        except Exception as error:  # noqa: BLE001  it was folded once, so the row was changed, or the program
            return Difference(seq, event.at, _shown(event), "fold", "folded", f"{type(error).__name__}: {error}")
        text = self.judged_text(judged)
        if text == recorded:
            return None
        before, now = _parts(recorded), _parts(text)
        for what in before or now:
            if not _agree(before.get(what), now.get(what)):
                return Difference(seq, event.at, _shown(event), what, _words(before.get(what)), _words(now.get(what)))
        return None

    def same_as(self, seq: int, at: datetime, recorded: str) -> Difference | None:
        """Compare the state with one that was written down behind row ``seq``, byte for byte."""
        text = self.state_text(self.state)
        if text == recorded:
            return None
        before, now = json.loads(recorded), json.loads(text)
        # what a later version of the program keeps besides is no difference
        what = next((key for key in before if before[key] != now.get(key, NOTHING)), None)
        if what is None:
            what = next((key for key in before if json.dumps(before[key]) != json.dumps(now[key])), None)
        if what is None:
            return None
        return Difference(seq, at, "", f"the state's {what}", _words(before[what]), _words(now.get(what)))


def beginning_otherwise(state: AccountState, terms: Terms) -> AccountState:
    """Return where judging by other rules begins: the account as it was, with its locks, and nothing found yet."""
    state = evolve(state, terms=terms, breached={}, warned={})
    return evolve(state, realized=realize(state))


def _parts(text: str | None) -> dict[str, Any]:
    """Return what judging gave as a tree; nothing is an empty one."""
    if text is None:
        return {}
    parts: dict[str, Any] = json.loads(text)
    return {key: json.loads(part) if key in NESTED and part is not None else part for key, part in parts.items()}


def _agree(recorded: Any, came_out: Any) -> bool:
    """Whether two trees say the same. What an older version did not write down yet is no difference."""
    if isinstance(recorded, dict) and isinstance(came_out, dict):
        return all(_agree(value, came_out.get(key)) for key, value in recorded.items())
    if isinstance(recorded, list) and isinstance(came_out, list):
        return len(recorded) == len(came_out) and all(map(_agree, recorded, came_out))
    return bool(recorded == came_out) or (not recorded and not came_out)


def _words(part: Any) -> str:
    """Tell a part of what was recorded, or came out, in as few words as serve."""
    if part is None or part in ([], {}, ""):
        return NOTHING
    if isinstance(part, list):
        return "; ".join(map(_words, part))
    if isinstance(part, dict) and "reason" in part and "rule" in part:
        until = f", until {part['until']}" if "until" in part else ""
        return f"{part['rule']}: {part['reason']}{until}"
    text = part if isinstance(part, str) else json.dumps(part, separators=(", ", ": "))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _shown(event: Event) -> str:
    text = repr(event)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
