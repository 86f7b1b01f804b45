"""Profit and loss, exact: realised from the broker's trades, open from positions, prices and tick values.

A trade's ``profit_and_loss`` is gross; costs are charged per fill, on opening half-turns too. The gateway's REST rows
leave commissions out although they are charged, so a fill that does not tell its commission is charged the dearest rate
that fills of its contract have told, else the one that the settings assume.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import reduce

from attrs import frozen

from flatguard.model.account import AccountState, Realized
from flatguard.model.ids import ContractId
from flatguard.model.money import ZERO
from flatguard.model.trading import Contract, Position, Quote, Trade

QUOTE_FRESH = timedelta(seconds=10)
PRICE_AGREEMENT = Decimal("0.01")  # two prices no further apart than this share of themselves confirm one another
NEAR_ENTRY = Decimal("0.10")  # a price that nothing confirms is believed within this share of the entry
GRID = Decimal("0.0001")  # what divisions leave behind is rounded to a hundredth of a cent


def rate_told(trade: Trade) -> Decimal | None:
    """Return the commission a contract that ``trade`` tells, None where it tells none."""
    return None if trade.commissions is None or trade.size == 0 else trade.commissions / trade.size


def commission_of(trade: Trade, state: AccountState) -> Decimal:
    """Return what ``trade`` cost in commission, in US dollars."""
    if trade.commissions is not None:
        return trade.commissions
    rate = state.commission_rates.get(trade.contract_id)
    if rate is None:
        rate = state.terms.commissions.get(state.ticker(trade.contract_id), state.terms.other_commission)
    return (rate * trade.size).quantize(GRID)


def add_fill(realized: Realized, trade: Trade, commission: Decimal) -> Realized:
    """Return ``realized`` with one more fill, made after all those in it."""
    gross = realized.gross + (trade.profit_and_loss or ZERO)
    fees = realized.fees + trade.fees
    commissions = realized.commissions + commission
    net = gross - fees - commissions
    return Realized(
        gross=gross,
        fees=fees,
        commissions=commissions,
        fills=realized.fills + 1,
        low_gross=min(gross, realized.low_gross),
        low_net=min(net, realized.low_net),
        high_gross=max(gross, realized.high_gross),
        high_net=max(net, realized.high_net),
        last_made_at=trade.made_at,
    )


def realize(state: AccountState) -> Realized:
    """Add up today's fills anew, in the order in which they were made."""
    return reduce(lambda _, step: step[1], _day_so_far(state), Realized())


def first_fill_at_or_below(state: AccountState, floor: Decimal, *, net: bool) -> Trade | None:
    """Return the fill that first brought today's realised P&L to ``floor`` or below it."""
    return next((trade for trade, day in _day_so_far(state) if (day.net if net else day.gross) <= floor), None)


def first_fill_at_or_above(state: AccountState, target: Decimal, *, net: bool) -> Trade | None:
    """Return the fill that first brought today's realised P&L to ``target`` or above it."""
    return next((trade for trade, day in _day_so_far(state) if (day.net if net else day.gross) >= target), None)


def _day_so_far(state: AccountState) -> Iterator[tuple[Trade, Realized]]:
    realized = Realized()
    for trade in sorted(state.trades.values(), key=lambda t: (t.made_at, t.id)):
        if counts_today(trade, state):
            realized = add_fill(realized, trade, commission_of(trade, state))
            yield trade, realized


def counts_today(trade: Trade, state: AccountState) -> bool:
    """Whether ``trade`` was made in the state's trading day and not voided. Trades are booked by their own time."""
    today = state.today
    return today is not None and not trade.voided and today.starts_at <= trade.made_at < today.ends_at


@frozen
class OpenProfit:
    """Open P&L of an account in US dollars; ``unpriced`` are the contracts held without a price to believe."""

    amount: Decimal
    unpriced: tuple[ContractId, ...]


def unrealized(state: AccountState, at: datetime) -> OpenProfit:
    """Return open P&L at ``at``. A position without a usable price adds nothing and is named."""
    amount = ZERO
    unpriced: list[ContractId] = []
    for position in state.positions.values():
        mark = mark_price(state.quotes.get(position.contract_id), position, at)
        contract = state.contracts.get(position.contract_id)
        if mark is None or contract is None:
            unpriced.append(position.contract_id)
        else:
            amount += profit_at(position, mark, contract)
    return OpenProfit(amount, tuple(unpriced))


def profit_at(position: Position, mark: Decimal, contract: Contract) -> Decimal:
    """Return the P&L of one position at ``mark``: points moved, times size, in ticks, times tick value.

    An average entry need not lie on the tick grid and may come with its digits cut off, so the result is rounded to a
    hundredth of a cent: a loss that reaches a limit must not seem a hair short of it.
    """
    return ((mark - position.average_price) * position.size * contract.tick_value / contract.tick_size).quantize(GRID)


def mark_price(quote: Quote | None, position: Position, at: datetime) -> Decimal | None:
    """Return the price at which ``position`` is valued, None where there is none to believe.

    The last trade's price if it is fresh and the book confirms it; else the side of the book that the exit would hit,
    if the other side confirms it. A price that stands alone is believed only near the entry, since a wrong one would
    close everything; so zero is a price only where another one says so too (energy has traded at and below zero).
    """
    if quote is None:
        return None
    entry = position.average_price
    bid, ask = _book(quote, at)
    exit_side = bid if position.size > 0 else ask
    last = quote.last if _fresh(quote.last_at, at) else None
    if last is not None and any(_confirm(last, side, entry) for side in (bid, ask) if side is not None):
        return last
    if bid is not None and ask is not None and _confirm(bid, ask, entry):
        return exit_side
    alone = last if bid is None and ask is None else exit_side
    return alone if alone is not None and abs(alone - entry) <= abs(entry) * NEAR_ENTRY else None


def _fresh(told_at: datetime | None, at: datetime) -> bool:
    return told_at is not None and abs(at - told_at) <= QUOTE_FRESH


def _book(quote: Quote, at: datetime) -> tuple[Decimal | None, Decimal | None]:
    """Return bid and ask; neither where they are old, crossed, or the zeros of a book not yet made."""
    bid, ask = quote.bid, quote.ask
    nonsense = bid is not None and ask is not None and (bid > ask or bid == ask == 0)
    return (None, None) if nonsense or not _fresh(quote.book_at, at) else (bid, ask)


def _confirm(one: Decimal, other: Decimal, entry: Decimal) -> bool:
    """Whether two prices agree; around zero the entry tells what is near."""
    return abs(one - other) <= max(abs(one), abs(other), abs(entry)) * PRICE_AGREEMENT
