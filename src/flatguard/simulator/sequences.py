"""In which order, and how far apart, the user hub tells of a fill.

Milliseconds from the moment of execution, as captured; the position always comes after trade and order, the
account after the position, and whether the order or the trade comes first depends on what kind of order it
was.
"""

from __future__ import annotations

from enum import Enum, auto

from attrs import frozen

from flatguard.simulator.state import Type


class Part(Enum):
    """What is told."""

    ORDER = auto()
    TRADE = auto()
    OPENING_AGAIN = auto()
    POSITION = auto()
    ACCOUNT = auto()


@frozen
class Sequence:
    """The parts of one execution, with their offsets in milliseconds."""

    parts: tuple[tuple[Part, float], ...]

    @property
    def last_fill_ms(self) -> float:
        """When the trade and the order have both been told: the earliest moment for the HTTP answer."""
        return max(offset for part, offset in self.parts if part in {Part.ORDER, Part.TRADE})


_MARKET_OPENS = Sequence(((Part.TRADE, 0), (Part.ORDER, 2), (Part.POSITION, 7), (Part.ACCOUNT, 13)))
_MARKET_CLOSES = Sequence(
    ((Part.OPENING_AGAIN, 0), (Part.ORDER, 1), (Part.TRADE, 2), (Part.POSITION, 6), (Part.ACCOUNT, 12))
)
_LIMIT_OPENS = Sequence(((Part.ORDER, 0), (Part.TRADE, 1), (Part.POSITION, 9), (Part.ACCOUNT, 16)))
_LIMIT_CLOSES = Sequence(
    ((Part.ORDER, 0), (Part.TRADE, 1), (Part.OPENING_AGAIN, 2), (Part.POSITION, 7), (Part.ACCOUNT, 13))
)
_STOP_OPENS = Sequence(((Part.TRADE, 0), (Part.ORDER, 1), (Part.POSITION, 7), (Part.ACCOUNT, 13)))
_STOP_CLOSES = Sequence(
    ((Part.OPENING_AGAIN, 0), (Part.TRADE, 1), (Part.ORDER, 1), (Part.POSITION, 7), (Part.ACCOUNT, 13))
)

CHILD_CREATED_MS = (3, 4)
"""From the entry's first event to those of its stop and its target."""
CHILD_ACTIVATED_MS = (17, 18)
"""From the entry's execution to the activation of its stop and its target."""
REJECTED_MS = 4
"""From an order's first event to its rejection."""
VOIDED_MS = 6
"""From the event of a busted trade to that of its position, and from that to that of the account (assumed)."""


def sequence_of(order_type: Type, *, closes: bool) -> Sequence:
    """Return how an execution of this kind of order is told."""
    if order_type is Type.MARKET:
        return _MARKET_CLOSES if closes else _MARKET_OPENS
    if order_type in {Type.STOP, Type.TRAILING_STOP}:
        return _STOP_CLOSES if closes else _STOP_OPENS
    return _LIMIT_CLOSES if closes else _LIMIT_OPENS
