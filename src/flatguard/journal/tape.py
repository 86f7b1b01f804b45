"""One row of the tape: an event as it was folded, with what judging it gave, and how the two are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from flatguard.journal.codec import EVENT_KINDS, decode, encode
from flatguard.model.decisions import Breach, LimitNear
from flatguard.model.entries import Judged
from flatguard.model.events import Event
from flatguard.model.lockouts import Lockout


@frozen
class TapeRow:
    """One event as it was folded, with what was found and what had cleared.

    ``locks`` are the account's lockouts after it, None where it left them as they were, ``warned`` likewise.
    """

    event: Event
    found: tuple[Breach, ...] = ()
    cleared: tuple[str, ...] = ()
    locks: tuple[Lockout, ...] | None = None
    warned: Mapping[str, int] | None = None


def judged_text(entry: Judged) -> str | None:
    """Return what judging gave, as the tape holds it; None where it gave nothing."""
    if not entry.changed:
        return None
    return json.dumps(
        {
            "found": encode(entry.found, tuple[Breach, ...]),
            "cleared": entry.cleared,
            "failed": entry.failed,
            "locks": None if entry.locks is None else encode(entry.locks, tuple[Lockout, ...]),
            "near": encode(entry.near, tuple[LimitNear, ...]),
            "warned": entry.warned,
        }
    )


def tape_row(kind: str, event: str, judged: str | None) -> TapeRow:
    """Return the row that was written so. Raises ValueError, KeyError or TypeError where none was."""
    value = decode(event, EVENT_KINDS[kind])
    if judged is None:
        return TapeRow(value)
    outcome: dict[str, Any] = json.loads(judged)
    locks = outcome["locks"]
    return TapeRow(
        value,
        decode(outcome["found"], tuple[Breach, ...]),
        tuple(outcome["cleared"]),
        None if locks is None else decode(locks, tuple[Lockout, ...]),
        outcome.get("warned"),
    )
