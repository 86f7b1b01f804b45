"""What must be true of a world at every moment, whatever happened to it."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from flatguard.simulator.state import Book, Order, Status
from flatguard.simulator.world import World


def broken(world: World) -> list[str]:
    """Return a sentence for each thing that does not add up; empty if all is well."""
    return [
        f"account {account_id}: {sentence}"
        for account_id, book in world.books.items()
        for sentence in (
            *_money(world, account_id, book),
            *_sizes(book),
            *_fills(book),
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
