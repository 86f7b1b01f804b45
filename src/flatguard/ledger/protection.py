"""What protects a position, and what of it nothing protects, since when.

A stop protects that works on the other side of the position and is not beyond the market already; it covers as many
contracts as are left of it. What is bare has been so since it was opened or its stop went, each part since its own
moment. A stop that comes covers what has been bare longest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from attrs import evolve

from flatguard.ledger.pnl import mark_price
from flatguard.model.account import AccountState, Bare
from flatguard.model.events import (
    BarRead,
    ContractLearned,
    ContractRefuted,
    Event,
    ExposureRead,
    OrderChanged,
    PositionChanged,
    QuoteMoved,
)
from flatguard.model.ids import ContractId
from flatguard.model.trading import Order, OrderStatus, OrderType, Position
from flatguard.model.value import changed

STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP})
STANDING = frozenset({OrderStatus.OPEN, OrderStatus.PENDING, OrderStatus.SUSPENDED})
OURS = "flatguard"


def is_ours(order: Order) -> bool:
    """Whether we placed an order: the tags of ours begin alike."""
    return order.custom_tag is not None and order.custom_tag.startswith(OURS)


def _ours(state: AccountState) -> tuple[Order, ...]:
    return tuple(o for o in state.working_orders if is_ours(o) and o.status is not OrderStatus.PENDING_CANCELLATION)


def our_orders(state: AccountState) -> tuple[Order, ...]:
    """Return the orders of ours that work and are not being cancelled, oldest id first."""
    return state.worked_out(_ours, state.orders)


def _stops(state: AccountState) -> Mapping[ContractId, list[Order]]:
    stops: dict[ContractId, list[Order]] = {}
    for order in state.orders.values():
        if order.type in STOPS and order.status in STANDING and order.remaining:
            stops.setdefault(order.contract_id, []).append(order)
    return stops


def stops_against(state: AccountState, position: Position) -> Iterator[Order]:
    """Yield the stops that work against a position, whatever their price."""
    for order in state.worked_out(_stops, state.orders).get(position.contract_id, ()):
        if order.side.sign * position.size < 0:
            yield order


def protecting(state: AccountState, position: Position, at: datetime) -> Iterator[Order]:
    """Yield the stops that protect a position at ``at``."""
    stops = tuple(stops_against(state, position))
    market = mark_price(state.quotes.get(position.contract_id), position, at) if stops else None
    for order in stops:
        if order.type is OrderType.TRAILING_STOP or _stands_well(state, order, position, market):
            yield order


def awaits_price(state: AccountState, position: Position) -> bool:
    """Whether a stop against a position hangs on its entry and has no price yet."""
    return any(
        order.status is OrderStatus.SUSPENDED and order.type is not OrderType.TRAILING_STOP and order.stop_price is None
        for order in stops_against(state, position)
    )


def _stands_well(state: AccountState, order: Order, position: Position, market: Decimal | None) -> bool:
    """Whether a stop has a price that the market has not passed, and that is near enough."""
    stop, way = order.stop_price, 1 if position.size > 0 else -1
    if stop is None or (market is not None and (market - stop) * way < 0):
        return False
    contract, most = state.contracts.get(position.contract_id), state.terms.farthest_stop_ticks
    return contract is None or most is None or (position.average_price - stop) * way <= most * contract.tick_size


def with_bare(before: AccountState, after: AccountState, event: Event) -> AccountState:
    """Return ``after``, which ``event`` has made of ``before``, with what no stop covers of each position."""
    bare = dict(after.bare)
    for contract_id in _concerned(after, event):
        position = after.positions.get(contract_id)
        parts = () if position is None else _parts(before, after, position, event.at)
        if parts:
            bare[contract_id] = parts
        else:
            bare.pop(contract_id, None)
    return after if bare == after.bare else changed(after, bare=bare)


def _concerned(state: AccountState, event: Event) -> Iterable[ContractId]:
    """Return the contracts whose position, stops or price an event is about."""
    match event:
        case QuoteMoved(contract_id=contract_id) | BarRead(contract_id=contract_id):
            return (contract_id,)
        case OrderChanged(order=row) | PositionChanged(position=row):
            return (row.contract_id,)
        case ContractLearned(contract=contract):
            return (contract.id,)
        case ContractRefuted(contract_id=contract_id):
            return (contract_id,)
        case ExposureRead():
            return (*state.positions, *(c for c in state.bare if c not in state.positions))
        case _:
            return ()


def _parts(before: AccountState, after: AccountState, position: Position, at: datetime) -> tuple[Bare, ...]:
    contract_id, size = position.contract_id, abs(position.size)
    held = before.positions.get(contract_id)
    if held is None or held.size * position.size < 0 or _turned_over(before, held, position):
        turned = held is not None and held.size * position.size < 0
        parts: tuple[Bare, ...] = (Bare(size, at if turned else _opened(before, position, at)),)
    else:
        parts, grown = before.bare.get(contract_id, ()), size - abs(held.size)
        if grown > 0:
            parts = (*parts, Bare(grown, at))
    covered = sum(order.remaining for order in protecting(after, position, at))
    missing = max(0, size - covered) - sum(part.size for part in parts)
    return (*parts, Bare(missing, at, stop_lost=True)) if missing > 0 else _covered(parts, -missing)


def _covered(parts: tuple[Bare, ...], size: int) -> tuple[Bare, ...]:
    """Return what is left bare once ``size`` contracts more are covered."""
    left: list[Bare] = []
    for part in parts:
        taken = min(size, part.size)
        size -= taken
        if taken < part.size:
            left.append(evolve(part, size=part.size - taken))
    return tuple(left)


def _turned_over(before: AccountState, held: Position, position: Position) -> bool:
    """Whether it was closed and opened anew while nobody looked."""
    return before.exposure_at is None and position.opened_at > held.opened_at


def _opened(before: AccountState, position: Position, at: datetime) -> datetime:
    """Return when a position was opened, on our clock; the broker's word counts from when it was last seen flat."""
    opened_at = position.opened_at + before.clock_ahead
    return min(at, max(opened_at, before.flat_at.get(position.contract_id, opened_at)))


def last_told(state: AccountState, contract_id: ContractId) -> datetime | None:
    """Return when the hub last spoke of a contract's position, or of a stop in it."""
    told = [state.seen.get(contract_id)]
    told += [
        state.order_seen.get(order.id)
        for order in state.orders.values()
        if order.contract_id == contract_id and order.type in STOPS
    ]
    return max((moment for moment in told if moment is not None), default=None)
