"""From what is wanted and what is held to the next requests. Pure, and never away from flat.

No step raises the size of a position or turns it around: closes go by the broker's own close call, which takes the size
from the server, partial closes are smaller than what is held, and everything else is a cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from flatguard.enforcement.plan import Wanted
from flatguard.model.ids import ContractId, OrderId
from flatguard.model.trading import Order, OrderStatus, OrderType, Position

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


Step = Close | PartialClose | Cancel


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
