"""Profit and loss, exact: realised from the broker's trades, open from positions, prices and tick values.

A trade's ``profit_and_loss`` is gross; costs are charged per fill, on opening half-turns too. The gateway's REST rows
leave commissions out although they are charged, so a fill that does not tell its commission is charged the dearest rate
that fills of its contract have told, else the one that the settings assume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce

from flatguard.model.account import AccountState, Realized
from flatguard.model.ids import ContractId, TradeId
from flatguard.model.money import ZERO
from flatguard.model.trading import Contract, Position, Quote, Trade
from flatguard.model.value import value

QUOTE_FRESH = timedelta(seconds=10)
PRICE_AGREEMENT = Decimal("0.01")  # two prices no further apart than this share of themselves confirm one another
NEAR_ENTRY = Decimal("0.10")  # a price that nothing confirms is believed within this share of the entry
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
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


def order_made(trade: Trade) -> tuple[datetime, TradeId]:
    """Return the place of ``trade`` among others: when it was made; of one moment, by its id."""
    return trade.made_at, trade.id


def add_fill(realized: Realized, trade: Trade, commission: Decimal) -> Realized:
    """Return ``realized`` with one more fill, made after all those in it."""
    gross = realized.gross + (trade.profit_and_loss or ZERO)
    fees = realized.fees + trade.fees
    commissions = realized.commissions + commission
    net = gross - fees - commissions
    high_gross, high_net = max(gross, realized.high_gross), max(net, realized.high_net)
    return Realized(
        gross=gross,
        fees=fees,
        commissions=commissions,
        fills=realized.fills + 1,
        low_gross=min(gross, realized.low_gross),
        low_net=min(net, realized.low_net),
        high_gross=high_gross,
        high_net=high_net,
        fall_gross=max(high_gross - gross, realized.fall_gross),
        fall_net=max(high_net - net, realized.fall_net),
        last_fill=order_made(trade),
    )


def realize(state: AccountState) -> Realized:
    """Add up today's fills anew, in the order in which they were made."""
    return reduce(lambda _, step: step[1], _day_so_far(state), Realized())


def first_fill(state: AccountState, reached: Callable[[Realized], bool]) -> Trade | None:
    """Return the first of today's fills after which the day ``reached`` what is asked for."""
    return next((trade for trade, day in _day_so_far(state) if reached(day)), None)


def _day_so_far(state: AccountState) -> Iterator[tuple[Trade, Realized]]:
    realized = Realized()
    for trade in sorted(state.trades.values(), key=order_made):
        if counts_today(trade, state):
            realized = add_fill(realized, trade, commission_of(trade, state))
            yield trade, realized


def counts_today(trade: Trade, state: AccountState) -> bool:
    """Whether ``trade`` was made in the state's trading day and not voided. Trades are booked by their own time."""
    today = state.today
    return today is not None and not trade.voided and today.starts_at <= trade.made_at < today.ends_at


@value
class OpenProfit:
    """Open P&L of an account in US dollars; ``unpriced`` are the contracts held without a price to believe."""

    amount: Decimal
    unpriced: tuple[ContractId, ...]


@value
class _Worth:
    """What a position earns by a quote, None where there is no price to believe; true from ``since`` to ``until``."""

    position: Position
    quote: Quote | None
    contract: Contract | None
    since: datetime
    until: datetime
    profit: Decimal | None


@value
class _Valuation:
    """What all positions are worth, from ``since`` to ``until``."""

    positions: Mapping[ContractId, Position]
    contracts: Mapping[ContractId, Contract]
    quotes: Mapping[ContractId, Quote]
    since: datetime
    until: datetime
    worths: Mapping[ContractId, _Worth]
    by_contract: Mapping[ContractId, Decimal]
    total: OpenProfit


def unrealized(state: AccountState, at: datetime) -> OpenProfit:
    """Return open P&L at ``at``. A position without a usable price adds nothing and is named."""
    return _valuation(state, at).total


def open_by_contract(state: AccountState, at: datetime) -> Mapping[ContractId, Decimal]:
    """Return the open P&L of every position that has a price to believe, in the order of contract ids."""
    return _valuation(state, at).by_contract


def _valuation(state: AccountState, at: datetime) -> _Valuation:
    """Value what is held. Several rules ask for it after every event, and an event changes one price at most.

    So what is known of a position is taken while it, its quote and its contract are the same and no price has become
    too old.
    """
    known: _Valuation | None = state.memory.get(_valuation)
    if (
        known is None
        or known.positions is not state.positions
        or known.contracts is not state.contracts
        or not known.since <= at <= known.until
    ):
        known = _valued_anew(state, at, {} if known is None else known.worths)
    elif known.quotes is not state.quotes:
        known = _revalued(state, at, known)
    else:
        return known
    state.memory[_valuation] = known
    return known


def _valued_anew(state: AccountState, at: datetime, before: Mapping[ContractId, _Worth]) -> _Valuation:
    worths: dict[ContractId, _Worth] = {}
    for contract_id, position in sorted(state.positions.items()):
        worth = before.get(contract_id)
        quote, contract = state.quotes.get(contract_id), state.contracts.get(contract_id)
        same = worth is not None and (
            worth.position is position and worth.quote is quote and worth.contract is contract
        )
        if worth is None or not same or not worth.since <= at <= worth.until:
            worth = _worth(position, quote, contract, at)
        worths[contract_id] = worth
    since = max((worth.since for worth in worths.values()), default=EARLIEST)
    until = min((worth.until for worth in worths.values()), default=LATEST)
    by_contract = {contract_id: worth.profit for contract_id, worth in worths.items() if worth.profit is not None}
    unpriced = tuple(contract_id for contract_id in state.positions if contract_id not in by_contract)
    total = OpenProfit(sum(by_contract.values(), ZERO), unpriced)
    return _Valuation(state.positions, state.contracts, state.quotes, since, until, worths, by_contract, total)


def _revalued(state: AccountState, at: datetime, known: _Valuation) -> _Valuation:
    """Return ``known`` with what other quotes make of it; all else is the same."""
    quotes = state.quotes
    moved = [contract_id for contract_id, worth in known.worths.items() if quotes.get(contract_id) is not worth.quote]
    worths, by_contract = {**known.worths}, {**known.by_contract}
    since, until, amount = known.since, known.until, known.total.amount
    for contract_id in moved:
        before = worths[contract_id]
        worth = worths[contract_id] = _worth(before.position, quotes.get(contract_id), before.contract, at)
        if worth.profit is None or before.profit is None:
            return _valued_anew(state, at, worths)
        by_contract[contract_id] = worth.profit
        amount += worth.profit - before.profit
        since, until = max(since, worth.since), min(until, worth.until)
    total = OpenProfit(amount, known.total.unpriced) if moved else known.total
    return _Valuation(known.positions, known.contracts, quotes, since, until, worths, by_contract, total)


def _worth(position: Position, quote: Quote | None, contract: Contract | None, at: datetime) -> _Worth:
    mark = mark_price(quote, position, at)
    profit = None if mark is None or contract is None else profit_at(position, mark, contract)
    until = LATEST
    for told_at in () if quote is None else (quote.last_at, quote.book_at):
        if told_at is not None and at < told_at - QUOTE_FRESH:
            until = at  # the clock was set back: fresh again later
        elif told_at is not None and at <= told_at + QUOTE_FRESH:
            until = min(until, told_at + QUOTE_FRESH)
    return _Worth(position, quote, contract, at, until, profit)


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
    if last is not None and (
        (bid is not None and _confirm(last, bid, entry)) or (ask is not None and _confirm(last, ask, entry))
    ):
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
