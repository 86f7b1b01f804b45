"""What the broker holds: accounts, orders, positions, trades, and what was visible of them at a moment.

Rows are frozen; a change is a new version, and a ``Timeline`` remembers since when a REST reader sees it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import Generic, TypeVar

from attrs import Factory, define, field, frozen

from flatguard.simulator.contracts import Contract
from flatguard.simulator.setup import AccountSetup

K = TypeVar("K")
V = TypeVar("V")


class Side(IntEnum):
    """Which way an order or a trade goes."""

    BUY = 0
    SELL = 1

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class Type(IntEnum):
    """The order types that can be placed."""

    LIMIT = 1
    MARKET = 2
    STOP_LIMIT = 3
    STOP = 4
    TRAILING_STOP = 5
    JOIN_BID = 6
    JOIN_ASK = 7


class Status(IntEnum):
    """Where an order is in its life."""

    OPEN = 1
    FILLED = 2
    CANCELLED = 3
    EXPIRED = 4
    REJECTED = 5
    PENDING = 6
    PENDING_CANCELLATION = 7
    SUSPENDED = 8

    @property
    def working(self) -> bool:
        """Whether the order may still fill."""
        return self in {Status.OPEN, Status.PENDING, Status.PENDING_CANCELLATION, Status.SUSPENDED}


@frozen
class Account:
    """An account as the broker sees it. ``balance`` is realised US dollars after costs."""

    id: int
    name: str
    balance: Decimal
    can_trade: bool = True
    visible: bool = True
    simulated: bool = True


@frozen(kw_only=True)
class Order:
    """One version of an order.

    ``trail_ticks`` is the distance of a trailing stop, ``bracket_ticks`` the signed distance of a bracket leg
    from the fill of its entry. ``closing``: made by closeContract, so its size was the server's to choose.
    ``triggered``: a stop-limit whose stop was touched, so that it rests as a limit. ``protective``: attached to a
    position by the platform.
    """

    id: int
    account_id: int
    contract: Contract
    created: datetime
    updated: datetime
    status: Status
    type: Type
    side: Side
    size: int
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    fill_volume: int = 0
    filled_price: Decimal | None = None
    custom_tag: str | None = None
    trail_ticks: int | None = None
    parent_id: int | None = None
    linked_id: int | None = None
    bracket_ticks: int | None = None
    closing: bool = False
    triggered: bool = False
    protective: bool = False

    @property
    def remaining(self) -> int:
        """Contracts still to fill."""
        return self.size - self.fill_volume


@frozen(kw_only=True)
class Position:
    """One version of the net position in a contract.

    ``size`` is signed; 0 is the version that says "flat".
    """

    id: int
    account_id: int
    contract: Contract
    created: datetime
    size: int
    average_price: Decimal
    lots: tuple[tuple[int, int], ...] = ()
    """Opening trades still in it, oldest first: (trade id, contracts left)."""


@frozen(kw_only=True)
class Trade:
    """One half-turn.

    ``profit_and_loss`` is gross US dollars, None on an opening one; costs are for the whole size.
    """

    id: int
    account_id: int
    contract: Contract
    created: datetime
    price: Decimal
    profit_and_loss: Decimal | None
    fees: Decimal
    commissions: Decimal
    side: Side
    size: int
    order_id: int
    voided: bool = False
    """Busted by the exchange or the firm: what it did to the balance was taken back."""

    @property
    def net(self) -> Decimal:
        """What this half-turn does to the balance."""
        if self.voided:
            return Decimal(0)
        return (self.profit_and_loss or Decimal(0)) - self.fees - self.commissions


class Timeline(Generic[K, V]):
    """Versions of keyed rows. Writes become visible to REST readers in the order in which they were made."""

    def __init__(self) -> None:
        self._versions: dict[K, list[tuple[datetime, V]]] = {}
        self._visible_up_to: datetime | None = None

    def put(self, key: K, value: V, visible_at: datetime) -> None:
        """Add a version, visible from ``visible_at``, but never before the version written before it."""
        if self._visible_up_to is not None and visible_at < self._visible_up_to:
            visible_at = self._visible_up_to
        self._visible_up_to = visible_at
        self._versions.setdefault(key, []).append((visible_at, value))

    def latest(self, key: K) -> V | None:
        """Return the newest version, seen by readers or not."""
        versions = self._versions.get(key)
        return versions[-1][1] if versions else None

    def history(self, key: K) -> list[V]:
        """Return every version, oldest first."""
        return [value for _, value in self._versions.get(key, ())]

    def seen(self, key: K, at: datetime) -> V | None:
        """Return the version that a reader sees at ``at``."""
        versions = self._versions.get(key)
        if not versions:
            return None
        if versions[-1][0] <= at:
            return versions[-1][1]
        index = bisect_right(versions, at, key=lambda version: version[0])
        return versions[index - 1][1] if index else None

    def rows(self, at: datetime | None = None) -> Iterator[V]:
        """Yield each key's version as seen at ``at`` (None: the newest), keys in order of appearance."""
        for key in self._versions:
            value = self.latest(key) if at is None else self.seen(key, at)
            if value is not None:
                yield value


@define(eq=False)
class Book:
    """Everything that one account holds."""

    user: str
    setup: AccountSetup
    """How it began, and the rules that the firm keeps for it."""
    account: Timeline[int, Account] = field(factory=Timeline)
    orders: Timeline[int, Order] = field(factory=Timeline)
    positions: Timeline[str, Position] = field(factory=Timeline)
    trades: Timeline[int, Trade] = field(factory=Timeline)
    tags: set[str] = Factory(set)
    realized_net: Decimal = Decimal(0)
    """Sum of profit and loss minus costs since the start."""
    adjustments: Decimal = Decimal(0)
    """Sum of what the firm's desk has put on the balance or taken from it."""
