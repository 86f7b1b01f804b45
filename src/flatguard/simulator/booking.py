"""What a fill does to a position: half-turns, averages, the opening trades that a closing one uses up.

Known: a closing half-turn bears gross profit and loss and an opening one null; adding weighs the average and reducing
leaves it; each return to flat ends a position's id. Inferred: a reversing fill is two half-turns and two positions,
opening trades are used up oldest first, and a busted trade is as if it had never been for size and average, while the
profit of other half-turns stays as it was told. Pure but for ids.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from attrs import define, evolve, field, frozen

from flatguard.simulator.state import Order, Position, Trade

Lots = tuple[tuple[int, int], ...]

_AVERAGE_DIGITS = Decimal("1e-12")
_MONEY_DIGITS = Decimal("0.0001")


@frozen
class Booked:
    """A fill as it goes into the books, in the order in which it is told."""

    trades: tuple[Trade, ...]
    positions: tuple[Position, ...]
    used_up: tuple[int, ...]
    """Opening trades that the closing half-turn took contracts from."""


@define
class Bookkeeper:
    """Books fills. Ids rise by uneven steps, in the ranges seen."""

    rng: random.Random
    _next_trade_id: int = field(default=3_004_518_356, init=False)
    _next_position_id: int = field(default=825_245_547, init=False)

    def book(self, order: Order, quantity: int, price: Decimal, before: Position | None, at: datetime) -> Booked:
        """Return what ``quantity`` contracts of ``order`` at ``price`` make of the position ``before``."""
        held = before.size if before is not None else 0
        closing = min(quantity, abs(held)) if held * order.side.sign < 0 else 0
        trades: list[Trade] = []
        positions: list[Position] = []
        used_up: list[int] = []
        if closing:
            assert before is not None
            points = (price - before.average_price) * (1 if held > 0 else -1)
            gross = (order.contract.value_of(points) * closing).quantize(_MONEY_DIGITS, ROUND_HALF_EVEN)
            trades.append(self._trade(order, closing, price, gross, at))
            used_up, lots = take_lots(before.lots, closing)
            before = evolve(before, size=held + order.side.sign * closing, lots=lots)
            positions.append(before)
        if quantity > closing:
            trade = self._trade(order, quantity - closing, price, None, at)
            trades.append(trade)
            positions.append(self._enlarged(before, trade))
        return Booked(tuple(trades), tuple(positions), tuple(used_up))

    def _trade(self, order: Order, size: int, price: Decimal, gross: Decimal | None, at: datetime) -> Trade:
        trade = Trade(
            id=self._next_trade_id,
            account_id=order.account_id,
            contract=order.contract,
            created=at,
            price=price,
            profit_and_loss=gross,
            fees=order.contract.fees * size,
            commissions=order.contract.commission * size,
            side=order.side,
            size=size,
            order_id=order.id,
        )
        self._next_trade_id += 1 + self.rng.randint(0, 40)
        return trade

    def _enlarged(self, before: Position | None, trade: Trade) -> Position:
        if before is None or not before.size:
            return self._opened(trade, trade.created)
        return evolve(
            before,
            size=before.size + trade.side.sign * trade.size,
            average_price=_average(before.average_price, abs(before.size), trade),
            lots=(*before.lots, (trade.id, trade.size)),
        )

    def _opened(self, trade: Trade, at: datetime) -> Position:
        position = Position(
            id=self._next_position_id,
            account_id=trade.account_id,
            contract=trade.contract,
            created=at,
            size=trade.side.sign * trade.size,
            average_price=trade.price,
            lots=((trade.id, trade.size),),
        )
        self._next_position_id += 1 + self.rng.randint(0, 9)
        return position

    def without(self, voided: Trade, before: Position, trades: Iterable[Trade], at: datetime) -> Position:
        """Return the position as it is without ``voided``; ``trades`` are those of its contract that still stand."""
        size, average, lots = replayed(trades)
        if not before.size and size:
            before = self._opened(voided, at)
        return evolve(before, size=size, average_price=average or before.average_price, lots=lots)


def replayed(trades: Iterable[Trade]) -> tuple[int, Decimal, Lots]:
    """Return the signed size, the average price and the lots that ``trades`` make, oldest first; 0 when flat."""
    size, average, lots = 0, Decimal(0), Lots()
    for trade in trades:
        signed = trade.side.sign * trade.size
        closing = min(trade.size, abs(size)) if size * signed < 0 else 0
        opening = trade.size - closing
        if closing:
            lots = take_lots(lots, closing)[1]
            size += trade.side.sign * closing
        if opening:
            average = _average(average, abs(size), evolve(trade, size=opening))
            lots = (*lots, (trade.id, opening))
            size += trade.side.sign * opening
    return size, average if size else Decimal(0), lots


def averaged(order: Order, quantity: int, price: Decimal) -> Decimal:
    """Return an order's average fill price after ``quantity`` more at ``price``."""
    done = order.fill_volume + quantity
    spent = (order.filled_price or Decimal(0)) * order.fill_volume + price * quantity
    return (spent / done).quantize(_AVERAGE_DIGITS, ROUND_HALF_EVEN)


def _average(average: Decimal, size: int, trade: Trade) -> Decimal:
    cost = average * size + trade.price * trade.size
    return (cost / (size + trade.size)).quantize(_AVERAGE_DIGITS, ROUND_HALF_EVEN) if size else trade.price


def take_lots(lots: Lots, size: int) -> tuple[list[int], Lots]:
    """Take ``size`` contracts from the oldest lots; return the trades touched and what is left."""
    consumed: list[int] = []
    left: list[tuple[int, int]] = []
    for trade_id, count in lots:
        if size > 0:
            consumed.append(trade_id)
        taken = min(size, count)
        size -= taken
        if count > taken:
            left.append((trade_id, count - taken))
    return consumed, tuple(left)
