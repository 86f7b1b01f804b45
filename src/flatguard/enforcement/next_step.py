"""From what is wanted and what is held to the next requests. Pure, and never away from flat.

No step raises the size of a position or turns it around: closes go by the broker's own close call, which takes the size
from the server, partial closes are smaller than what is held, stops of ours stand against the position and cover at
most what is open, and everything else is a cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from attrs import frozen

from flatguard.enforcement.plan import Wanted
from flatguard.ledger.protection import STOPS, is_ours
from flatguard.model.decisions import ProtectAt
from flatguard.model.ids import ContractId, OrderId
from flatguard.model.trading import Order, OrderStatus, OrderType, Position, Side

STAY_UNTIL_FLAT = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP, OrderType.MARKET})


@frozen
class Close:
    """Close the contract, whatever its size."""

    contract_id: ContractId


@frozen
class PartialClose:
    """Close ``size`` of ``held`` contracts."""

    contract_id: ContractId
    size: int
    held: int


@frozen
class Cancel:
    """Cancel one order."""

    contract_id: ContractId
    order_id: OrderId


@frozen
class PlaceStop:
    """Place a stop against the position."""

    contract_id: ContractId
    side: Side
    size: int
    stop_price: Decimal


@frozen
class MoveStop:
    """Change a stop: to a better price, to what is open, or both. ``size`` includes what of it is filled."""

    contract_id: ContractId
    order_id: OrderId
    stop_price: Decimal | None = None
    size: int | None = None


Step = Close | PartialClose | Cancel
StopStep = PlaceStop | MoveStop


@frozen
class Held:
    """What an account holds, by one source: its open positions and its working orders."""

    positions: Mapping[ContractId, Position]
    orders: tuple[Order, ...]

    @classmethod
    def of(cls, positions: Iterable[Position], orders: Iterable[Order]) -> Held:
        """Take rows as they come; flat ones and orders that ended do not count."""
        return cls({p.contract_id: p for p in positions if p.size}, tuple(o for o in orders if o.working))

    def size(self, contract_id: ContractId) -> int:
        """Return the signed size held in a contract."""
        position = self.positions.get(contract_id)
        return position.size if position is not None else 0


def next_steps(wanted: Wanted, held: Held) -> tuple[Step, ...]:
    """Return all that may be asked of the broker now, closes first. Empty where nothing is left to ask."""
    caps = wanted.caps
    steps: list[Step] = []
    for contract_id, position in sorted(held.positions.items()):
        cap = 0 if wanted.flat else caps.get(contract_id)
        if cap == 0:
            steps.append(Close(contract_id))
        elif cap is not None and abs(position.size) > cap:
            steps.append(PartialClose(contract_id, abs(position.size) - cap, abs(position.size)))
    steps += [
        Cancel(order.contract_id, order.id)
        for order in held.orders
        if _must_go(order, wanted, caps, held)
        and order.status is not OrderStatus.PENDING_CANCELLATION
        and (order.id in wanted.without or not stays_until_flat(order, held.size(order.contract_id)))
    ]
    return tuple(steps)


def reached(wanted: Wanted, held: Held) -> bool:
    """Whether what is held is the end state that is wanted."""
    caps = wanted.caps
    for contract_id, position in held.positions.items():
        cap = 0 if wanted.flat else caps.get(contract_id)
        if cap is not None and abs(position.size) > cap:
            return False
    return not any(_must_go(order, wanted, caps, held) for order in held.orders)


def _must_go(order: Order, wanted: Wanted, caps: Mapping[ContractId, int], held: Held) -> bool:
    """Whether the end state does not have this order: all go where flat is wanted, else those named or that add."""
    if wanted.flat or order.id in wanted.without:
        return True
    cap = caps.get(order.contract_id)
    if cap is None:
        return False
    size = held.size(order.contract_id)
    return cap == 0 or size * order.side.sign > 0


def stays_until_flat(order: Order, size: int) -> bool:
    """Whether ``order`` can only reduce a position of signed ``size`` and is left to do so.

    A protective stop goes last. A market order that reduces is a close on its way, most likely our own.
    """
    return order.type in STAY_UNTIL_FLAT and size * order.side.sign < 0 and order.remaining <= abs(size)


def next_stops(protect: Iterable[ProtectAt], held: Held) -> tuple[StopStep, ...]:
    """Return the stops to place and to move now. There is one of ours in a contract at most, and it only tightens."""
    steps: list[StopStep] = []
    for decision in protect:
        size = held.size(decision.contract_id)
        stops = [
            order
            for order in held.orders
            if order.contract_id == decision.contract_id and order.type in STOPS and order.side.sign * size < 0
        ]
        room = abs(size) - sum(order.remaining for order in stops if order.id != decision.order_id)
        step = (
            _move(decision, stops, size, room) if decision.order_id is not None else _place(decision, stops, size, room)
        )
        if step is not None:
            steps.append(step)
    return tuple(steps)


def _place(decision: ProtectAt, stops: list[Order], size: int, room: int) -> PlaceStop | None:
    covered = min(decision.size, room)
    if not size or covered <= 0 or any(is_ours(order) for order in stops):
        return None
    side = Side.SELL if size > 0 else Side.BUY
    return PlaceStop(decision.contract_id, side, covered, decision.stop_price)


def _move(decision: ProtectAt, stops: list[Order], size: int, room: int) -> MoveStop | None:
    order = next((order for order in stops if order.id == decision.order_id and order.type is OrderType.STOP), None)
    covered = min(decision.size, room)
    if order is None or order.stop_price is None or order.status is OrderStatus.PENDING_CANCELLATION or covered <= 0:
        return None
    better = (decision.stop_price - order.stop_price) * (1 if size > 0 else -1) > 0
    resized = covered != order.remaining and is_ours(order)
    if not better and not resized:
        return None
    return MoveStop(
        order.contract_id,
        order.id,
        decision.stop_price if better else None,
        order.fill_volume + covered if resized else None,
    )
