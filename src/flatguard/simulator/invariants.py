"""What must be true of a world at every moment, whatever happened to it."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from itertools import pairwise

from flatguard.simulator.booking import replayed
from flatguard.simulator.state import Book, Order, Position, Status, Trade
from flatguard.simulator.world import World

_ROUNDING = Decimal("0.01")


def broken(world: World) -> list[str]:
    """Return a sentence for each thing that does not add up; empty if all is well."""
    return [
        f"account {account_id}: {sentence}"
        for account_id, book in world.books.items()
        for sentence in (
            *_money(world, account_id, book),
            *_sizes(book),
            *_profits(book),
            *_fills(book),
            *_lives(book),
            *_tags(book),
            *_siblings(world, book),
        )
    ]


def _money(world: World, account_id: int, book: Book) -> list[str]:
    net = sum((trade.net for trade in book.trades.rows()), Decimal(0))
    sentences = []
    if net != book.realized_net:
        sentences.append(f"trades make {net}, the books say {book.realized_net}")
    balance = world.account(account_id).balance
    if balance != book.setup.balance + net + book.adjustments:
        sentences.append(f"the balance is {balance}, but {book.setup.balance + net + book.adjustments} is due")
    return sentences


def _sizes(book: Book) -> list[str]:
    traded: Counter[str] = Counter()
    for trade in book.trades.rows():
        traded[trade.contract.id] += 0 if trade.voided else trade.side.sign * trade.size
    held = {position.contract.id: position for position in book.positions.rows()}
    sentences = []
    for contract_id, size in traded.items():
        position = held[contract_id]
        if position.size != size:
            sentences.append(f"{contract_id}: trades make {size}, the position is {position.size}")
        if sum(count for _, count in position.lots) != abs(position.size):
            sentences.append(f"{contract_id}: lots {position.lots} do not make {position.size}")
    return sentences


def _profits(book: Book) -> list[str]:
    """What came in and went out, with what is held at its average, must make the profit and loss that was told."""
    by_contract: dict[str, list[Trade]] = {}
    for trade in book.trades.rows():
        by_contract.setdefault(trade.contract.id, []).append(trade)
    sentences = []
    for contract_id, trades in by_contract.items():
        position = book.positions.latest(contract_id)
        if position is None or any(trade.voided for trade in trades):
            continue  # other half-turns keep the profit that they were told with
        points = sum((-trade.side.sign * trade.size * trade.price for trade in trades), Decimal(0))
        due = position.contract.value_of(points + position.size * position.average_price)
        told = sum((trade.profit_and_loss or Decimal(0) for trade in trades), Decimal(0))
        if abs(due - told) > _ROUNDING:
            sentences.append(f"{contract_id}: prices make a profit of {due}, the trades say {told}")
        if (position.size, position.average_price, position.lots) != _replayed(position, trades):
            sentences.append(f"{contract_id}: {position} is not what its trades make")
    return sentences


def _replayed(position: Position, trades: list[Trade]) -> tuple[int, Decimal, tuple[tuple[int, int], ...]]:
    size, average, lots = replayed(trades)
    return size, average if size else position.average_price, lots


def _lives(book: Book) -> list[str]:
    """What has ended stays as it ended, and what has filled does not empty."""
    sentences = []
    for order in book.orders.rows():
        versions = book.orders.history(order.id)
        for before, after in pairwise(versions):
            if not before.status.working:
                sentences.append(f"order {order.id}: had ended at {before.status} and went to {after.status}")
            if after.fill_volume < before.fill_volume:
                sentences.append(f"order {order.id}: filled {before.fill_volume}, then {after.fill_volume}")
        if not 0 <= order.fill_volume <= max(order.size, 0):
            sentences.append(f"order {order.id}: filled {order.fill_volume} of {order.size}")
    return sentences


def _tags(book: Book) -> list[str]:
    """Of orders with one tag, at most the first was taken."""
    first: dict[str, Order] = {}
    sentences = []
    for order in book.orders.rows():
        if order.custom_tag is None or first.setdefault(order.custom_tag, order) is order:
            continue
        if book.orders.history(order.id)[-1].status not in {Status.PENDING, Status.REJECTED}:
            sentences.append(f"order {order.id}: tag {order.custom_tag!r} was taken by {first[order.custom_tag].id}")
    return sentences


def _fills(book: Book) -> list[str]:
    filled: Counter[int] = Counter()
    for trade in book.trades.rows():
        filled[trade.order_id] += trade.size
    sentences = []
    for order in book.orders.rows():
        if filled[order.id] != order.fill_volume:
            sentences.append(f"order {order.id}: {filled[order.id]} traded, {order.fill_volume} filled")
        if (order.status is Status.FILLED) != (order.fill_volume == order.size and order.size > 0):
            sentences.append(f"order {order.id}: status {order.status} at {order.fill_volume}/{order.size}")
    return sentences


def _siblings(world: World, book: Book) -> list[str]:
    by_parent: dict[int, list[Order]] = {}
    for order in book.orders.rows():
        if order.parent_id is not None and order.fill_volume and order.id not in world.left_behind:
            by_parent.setdefault(order.parent_id, []).append(order)
    return [f"both legs of entry {parent_id} filled" for parent_id, legs in by_parent.items() if len(legs) > 1]
