"""What the fills of the trading day made: order by order, and in the order of time."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from attrs import field
from immutables import Map

from flatguard.model.ids import ContractId, OrderId, TradeId
from flatguard.model.value import value

Place = tuple[datetime, TradeId]
"""Where a fill stands among others: when it was made; of one moment, by its id."""


@value
class Execution:
    """What the fills of one order made that day, those that were voided taken out.

    ``profit_and_loss`` is gross, and None while no fill has closed anything; ``net`` is that of the closing fills less
    their own costs. ``fills`` are in the order in which they were made; ``opened`` is the first that opened a position
    or added to one, ``closed`` the first that took from one and ``last_closed`` the newest.
    """

    contract_id: ContractId
    volume: int
    average_price: Decimal
    profit_and_loss: Decimal | None
    net: Decimal | None
    fees: Decimal
    commissions: Decimal
    fills: tuple[Place, ...]
    opened: Place | None
    closed: Place | None
    last_closed: Place | None

    @property
    def first_at(self) -> datetime:
        """When its first fill was made."""
        return self.fills[0][0]

    @property
    def last_at(self) -> datetime:
        """When its newest fill was made."""
        return self.fills[-1][0]

    @property
    def increased_exposure(self) -> bool:
        """Whether any of it opened a position or added to one."""
        return self.opened is not None


@value
class Happening:
    """A fill that something is counted by. ``losing_run`` is how many orders in a row had lost with it."""

    made_at: datetime
    trade_id: TradeId
    order_id: OrderId
    losing_run: int = 0


Timeline = Map[int, Happening]
"""What happened, numbered from 0 in the order of time. One more at its end costs the same however long it is."""


def index_from(timeline: Timeline, moment: datetime) -> int:
    """Return the number of the first that was made at ``moment`` or later; the length where there is none."""
    low, high = 0, len(timeline)
    while low < high:
        middle = (low + high) // 2
        if timeline[middle].made_at < moment:
            low = middle + 1
        else:
            high = middle
    return low


@value
class Executions:
    """The fills of the trading day, by what they made.

    In the order of time: ``fills``; ``orders``, each at its first fill; ``entries``, orders that opened a position or
    added to one, each at the first fill that did; ``results``, orders that closed something at a net profit or loss,
    each at its newest fill that did.
    """

    by_order: Map[OrderId, Execution] = field(factory=Map)
    fills: Map[int, Happening] = field(factory=Map)
    orders: Map[int, Happening] = field(factory=Map)
    entries: Map[int, Happening] = field(factory=Map)
    results: Map[int, Happening] = field(factory=Map)

    @property
    def losing_run(self) -> int:
        """How many orders in a row have lost, up to now."""
        return self.results[len(self.results) - 1].losing_run if self.results else 0
