"""Profit and loss, exact: realised from the broker's trades, open from positions, prices and tick values.

A trade's ``profit_and_loss`` is gross; costs are charged per fill, on opening half-turns too. The gateway's REST rows
leave commissions out although they are charged, so a fill that does not tell its commission is charged the dearest rate
that fills of its contract have told, else the one that the settings assume.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import frozen

from flatguard.model.account import AccountState, Realized
from flatguard.model.ids import ContractId
from flatguard.model.money import ZERO
from flatguard.model.trading import Contract, Position, Quote, Trade

QUOTE_FRESH = timedelta(seconds=10)
PRICE_AGREEMENT = Decimal("0.01")  # a last price further than this share from the book is not believed by itself


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
    return rate * trade.size


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
        last_made_at=trade.made_at,
    )


def realize(state: AccountState) -> Realized:
    """Add up today's fills anew, in the order in which they were made."""
    realized = Realized()
    for _, realized in _day_so_far(state):  # noqa: B007  the last one is the day
        pass
    return realized


def first_fill_at_or_below(state: AccountState, floor: Decimal, *, net: bool) -> Trade | None:
    """Return the fill that first brought today's realised P&L to ``floor`` or below it."""
    return next((trade for trade, day in _day_so_far(state) if (day.net if net else day.gross) <= floor), None)


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

    Dividing last keeps it exact: points times size lies on the tick grid even where the average entry does not.
    """
    return (mark - position.average_price) * position.size * contract.tick_value / contract.tick_size


def mark_price(quote: Quote | None, position: Position, at: datetime) -> Decimal | None:
    """Return the price at which ``position`` is valued, None where there is none to believe.

    The last trade's price if it is fresh and the book agrees with it; otherwise the side of the book that the exit
    would hit. Zero is a price only where the book says so too (energy has traded at and below zero).
    """
    if quote is None:
        return None
    book_fresh = quote.book_at is not None and at - quote.book_at <= QUOTE_FRESH
    crossed = quote.bid is not None and quote.ask is not None and quote.bid > quote.ask
    bid, ask = (quote.bid, quote.ask) if book_fresh and not crossed else (None, None)
    if quote.last is not None and quote.last_at is not None and at - quote.last_at <= QUOTE_FRESH:
        sides = [side for side in (bid, ask) if side is not None]
        if not sides and quote.last != 0:
            return quote.last
        if any(abs(quote.last - side) <= abs(side) * PRICE_AGREEMENT for side in sides):
            return quote.last
    return bid if position.size > 0 else ask
