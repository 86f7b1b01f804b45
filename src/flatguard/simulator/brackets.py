"""The orders that stand on either side of an entry or of a position. Pure.

Known: legs of an entry (Auto OCO Brackets) have the ids that follow the entry's, its tag with a suffix, the entry as
parent; they wait at status 8 without a price and get one from the entry's fill. The orders that the platform itself
attaches (Position Brackets) bear neither parent nor tag. Inferred: those follow the size and the average price of the
position, and go when it is flat.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from attrs import evolve

from flatguard.simulator.contracts import Contract
from flatguard.simulator.refusals import Ticket
from flatguard.simulator.state import Book, Order, Position, Side, Status, Type


def legs_of(entry: Order, ticket: Ticket) -> Iterator[Order]:
    """Yield the suspended legs asked for with an entry, the stop first."""
    stop_id = None
    legs = ((ticket.stop_loss, "SL"), (ticket.take_profit, "TP"))
    for place, (leg, suffix) in enumerate((leg, suffix) for leg, suffix in legs if leg is not None):
        yield Order(
            id=entry.id + 1 + place,
            account_id=entry.account_id,
            contract=entry.contract,
            created=entry.created,
            updated=entry.created,
            status=Status.SUSPENDED,
            type=Type(leg.type),
            side=entry.side.other,
            size=entry.size,
            custom_tag=None if entry.custom_tag is None else f"{entry.custom_tag}-{suffix}",
            trail_ticks=leg.ticks if leg.type == Type.TRAILING_STOP else None,
            bracket_ticks=leg.ticks,
            parent_id=entry.id,
            linked_id=stop_id,
        )
        stop_id = entry.id + 1 + place


def tags_of(ticket: Ticket) -> set[str]:
    """Return the tags that an order and its legs will bear."""
    if ticket.custom_tag is None:
        return set()
    legs = ((ticket.stop_loss, "SL"), (ticket.take_profit, "TP"))
    return {ticket.custom_tag, *(f"{ticket.custom_tag}-{suffix}" for leg, suffix in legs if leg is not None)}


def children(book: Book, parent_id: int) -> Iterator[Order]:
    """Yield the legs of an entry as they are now."""
    for child_id in (parent_id + 1, parent_id + 2):  # an entry and its legs have consecutive ids
        child = book.orders.latest(child_id)
        if child is not None and child.parent_id == parent_id:
            yield child


def woken(leg: Order, entry: Order, at: datetime) -> tuple[Order, Decimal]:
    """Return a leg as it works once its entry has filled, and the price at which it stands."""
    assert entry.filled_price is not None
    assert leg.bracket_ticks is not None
    price = _to_grid(entry.filled_price, leg.contract) + leg.bracket_ticks * leg.contract.tick_size
    return _priced(evolve(leg, status=Status.OPEN, size=entry.fill_volume, updated=at), price), price


def protection(position: Position, ticks: tuple[int | None, int | None], at: datetime) -> Iterator[Order]:
    """Yield the stop and the target that the platform attaches to a position, their ids still 0."""
    sign = 1 if position.size > 0 else -1
    for kind, distance in zip((Type.STOP, Type.LIMIT), ticks, strict=True):
        if distance is None or not position.size:
            continue
        away = distance * sign * (-1 if kind is Type.STOP else 1) * position.contract.tick_size
        order = Order(
            id=0,
            account_id=position.account_id,
            contract=position.contract,
            created=at,
            updated=at,
            status=Status.OPEN,
            type=kind,
            side=Side.SELL if sign > 0 else Side.BUY,
            size=abs(position.size),
            protective=True,
        )
        yield _priced(order, _to_grid(position.average_price, position.contract) + away)


def _priced(order: Order, price: Decimal) -> Order:
    if order.type is Type.LIMIT:
        return evolve(order, limit_price=price)
    return evolve(order, stop_price=price) if order.type is Type.STOP else order


def _to_grid(price: Decimal, contract: Contract) -> Decimal:
    return (price / contract.tick_size).quantize(Decimal(1), ROUND_HALF_EVEN) * contract.tick_size
