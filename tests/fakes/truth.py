"""The double's own books beside what the daemon knows, and the tape as it grows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from flatguard.model.account import AccountState
from flatguard.model.entries import Entry, Judged
from flatguard.model.events import Event, PictureCorrected
from flatguard.model.ids import AccountId
from tests.fakes.system import System


def disagreements(system: System, account_id: AccountId | None = None, since: datetime | None = None) -> list[str]:
    """Return in what the daemon's picture of an account is not the broker's: sizes, orders, trades and net by the cent.

    The trades are those made from ``since`` on, which is the beginning of the trading day where there was one.
    """
    account_id = system.account_id if account_id is None else account_id
    assert system.at_work is not None
    return list(_disagreements(system, system.at_work.board.states[account_id], since))


def _disagreements(system: System, state: AccountState, since: datetime | None) -> Iterator[str]:
    book = system.double.books[state.id]
    sizes = {row.contract.id: row.size for row in book.positions.rows() if row.size}
    if (known := {str(c): p.size for c, p in state.positions.items()}) != sizes:
        yield f"positions {known}, the broker has {sizes}"
    working = {row.id: row.remaining for row in book.orders.rows() if row.status.working}
    if (orders := {int(order.id): order.remaining for order in state.working_orders}) != working:
        yield f"orders {orders}, the broker has {working}"
    made = {row.id: row for row in book.trades.rows() if since is None or row.created >= since}
    told = {int(t.id): t for t in state.trades.values() if since is None or t.made_at >= since}
    if told.keys() != made.keys():
        yield f"lacks trades {sorted(made.keys() - told.keys())}, has made up {sorted(told.keys() - made.keys())}"
    net = sum((row.net for row in made.values()), Decimal(0))
    if state.realized.net != net:
        yield f"realized {state.realized.net}, the broker has {net}"


def tape_of(system: System) -> list[Event]:
    """Return the list to which every event is added, from now on, as the pipeline folds it."""
    tape: list[Event] = []

    def look(entry: Entry) -> None:
        if isinstance(entry, Judged):
            tape.append(entry.event)

    assert system.at_work is not None
    system.at_work.on_entry.append(look)
    return tape


def named(tape: list[Event]) -> str:
    """Return all differences that were named."""
    return "; ".join(what for event in tape if isinstance(event, PictureCorrected) for what in event.what)


def turned_away(system: System, status: int) -> list[str]:
    """Return the paths of the requests that were answered by ``status`` without a fault having done it."""
    return [
        request["path"]
        for request in system.gateway.gateway.requests
        if request["outcome"].get("status") == status and "fault" not in request["outcome"]
    ]
