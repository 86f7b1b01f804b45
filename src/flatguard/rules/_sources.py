"""Where the figures of a breach came from, and how old they were. The same for every rule."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from flatguard.ledger.pnl import QUOTE_FRESH, mark_price
from flatguard.model.account import AccountState
from flatguard.model.events import Hub
from flatguard.model.money import on_grid, plain
from flatguard.model.trading import Position


def sources(state: AccountState, at: datetime) -> tuple[tuple[str, str], ...]:
    """Return, by what was known, its source and its age at ``at``."""
    return tuple(_sources(state, at))


def _sources(state: AccountState, at: datetime) -> Iterator[tuple[str, str]]:
    for contract_id, position in sorted(state.positions.items()):
        yield f"price of {state.label(contract_id)}", _price(state, position, at)
    heard = "" if state.last_event_at is None else f"; the hub last spoke {_age(state.last_event_at, at)} ago"
    yield "positions and orders", _read(state.exposure_at, at) + heard
    yield "trades and balance", _read(state.record_at, at)
    hub = state.links[Hub.USER]
    since = "" if hub.since is None else f" for {_age(hub.since, at)}"
    yield "user hub", f"up{since}" if hub.up else f"down{since}: {hub.reason}"


def _price(state: AccountState, position: Position, at: datetime) -> str:
    quote, contract = state.quotes.get(position.contract_id), state.contracts.get(position.contract_id)
    mark = mark_price(quote, position, at)
    if quote is None or mark is None:
        return "none to believe"
    traded = quote.last_at is not None and mark == quote.last and abs(at - quote.last_at) <= QUOTE_FRESH
    side = "last trade" if traded else "bid" if position.size > 0 else "ask"
    told_at = quote.last_at if traded else quote.book_at
    price = plain(mark) if contract is None else on_grid(mark, contract.tick_size)
    return f"{price} ({side}), {_age(told_at, at)} old"


def _read(began_at: datetime | None, at: datetime) -> str:
    return "not read yet" if began_at is None else f"read {_age(began_at, at)} ago"


def _age(moment: datetime | None, at: datetime) -> str:
    assert moment is not None, "a price has its time"
    return f"{max(0.0, (at - moment).total_seconds()):.1f} s"
