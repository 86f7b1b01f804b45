"""Fold one event into an account's state. Every event enters, locked or not; judging comes after.

Nothing counts twice: trades are kept by id, rows of orders and positions replace one another, and a reading by REST
gives way to what the hub said since it was begun (less the time by which REST lists are known to lag).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar, assert_never

from attrs import evolve
from immutables import Map

from flatguard.ledger.executions import execute
from flatguard.ledger.held_down import ratchet
from flatguard.ledger.peaks import with_peaks
from flatguard.ledger.pnl import add_fill, commission_of, counts_today, order_made, rate_told, realize
from flatguard.ledger.protection import with_bare
from flatguard.ledger.reconcile import CLOCK_SET_BACK, knows_better, merge_orders, merge_positions, overtaken
from flatguard.ledger.trading_day import trading_day
from flatguard.model.account import AccountState, BlindSpell, DayPeak, Link
from flatguard.model.events import (
    AccountChanged,
    BarRead,
    ClockReached,
    ClosesRefused,
    ContractLearned,
    ContractRefuted,
    Event,
    EventSetAside,
    ExposureRead,
    Hub,
    LinkDown,
    LinkUp,
    LockLifted,
    OrderChanged,
    PictureCorrected,
    PositionChanged,
    QuoteMoved,
    ReadingFailed,
    RecordRead,
    TradeMade,
)
from flatguard.model.ids import ContractId
from flatguard.model.trading import Order, Position, Quote, Trade
from flatguard.model.value import changed

TOMBSTONE_LIFE = timedelta(seconds=60)  # a late "open" must not revive an order that ended
KEPT_AFTER_THEIR_DAY = timedelta(days=1)  # fills: a clock set forward and back again must not lose them

BAR = timedelta(seconds=1)
CLOCKS_AGREE = timedelta(seconds=60)  # a slow answer and the second that its date is rounded to, with room to spare

K = TypeVar("K")
V = TypeVar("V")


def apply(state: AccountState, event: Event) -> AccountState:
    """Return the state after ``event``. The trading day turns first, if ``event.at`` has reached its end."""
    if isinstance(event, (ExposureRead, RecordRead)):
        state = _broker_seen(state, event)
    if state.changed_from is not None and state.pictured:
        state = changed(state, changed_from=None)
    before = state
    state = with_peaks(_fold(_turn_day(state, event.at - state.clock_ahead), event), event)
    state = with_bare(before, state, event)
    return ratchet(state, event.at) if state.may_hold else state


def _fold(state: AccountState, event: Event) -> AccountState:
    match event:  # what comes most often first
        case QuoteMoved():
            return _with_quote(state, event)
        case OrderChanged(at=at, order=order):
            return _with_order(state, order, at)
        case PositionChanged(at=at, position=position):
            return _with_position(state, position, at)
        case TradeMade(at=at, trade=trade):
            return _with_trades(state, (trade,), at, last_event_at=at)
        case AccountChanged(account=account):
            return changed(state, account=account, account_seen=event.at)
        case BarRead():
            return _with_bar(state, event)
        case ExposureRead():
            return _with_exposure(state, event)
        case RecordRead():
            return _with_record(state, event)
        case ReadingFailed(reason=reason):
            return _perhaps_blind(changed(state, read_failed=reason), event.at)
        case ClosesRefused(reason=reason):
            return changed(state, closes_refused=reason)
        case ContractLearned(contract=contract):
            ticker = state.ticker(contract.id)
            state = changed(state, contracts=_put(state.contracts, contract.id, contract))
            if state.ticker(contract.id) == ticker:
                return state
            return execute(changed(state, realized=realize(state)))  # commissions are assumed by ticker
        case ContractRefuted(contract_id=contract_id):
            return changed(state, contracts=_without(state.contracts, contract_id))
        case LinkUp(hub=hub, at=at):
            state = changed(state, links=_put(state.links, hub, Link(up=True, since=at, reason="")))
            return _seeing_again(state, at) if hub is Hub.USER else state
        case LinkDown(hub=hub, at=at, reason=reason):
            link = state.links[hub]
            since = link.since if not link.up and link.since is not None else at
            state = changed(state, links=_put(state.links, hub, Link(up=False, since=since, reason=reason)))
            return _perhaps_blind(state, at)
        case EventSetAside(hub=Hub.USER, reason=reason):
            return changed(state, doubt=f"an event could not be understood: {reason}", doubted_at=event.at)
        case LockLifted(rule=rule, scope=scope):
            kept = tuple(lock for lock in state.lockouts if (lock.rule, lock.scope) != (rule, scope))
            return changed(state, lockouts=kept)
        case EventSetAside() | ClockReached() | PictureCorrected():
            return state
        case _:
            assert_never(event)


def _put(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    return {**mapping, key: value}


def _without(mapping: Mapping[K, V], key: K) -> Mapping[K, V]:
    return {k: v for k, v in mapping.items() if k != key}


def _perhaps_blind(state: AccountState, at: datetime) -> AccountState:
    """Blind is who neither hears nor reads. It counts from when the later of the two ended."""
    hub = state.links[Hub.USER]
    if hub.up or state.read_failed is None or state.blind_since is not None or not state.pictured:
        return state
    return changed(state, blind_since=max(hub.since or at, state.exposure_at or at))


def _seeing_again(state: AccountState, at: datetime) -> AccountState:
    return (
        state
        if state.blind_since is None
        else changed(state, blind_since=None, was_blind=BlindSpell(state.blind_since, at))
    )


def _broker_seen(state: AccountState, reading: ExposureRead | RecordRead) -> AccountState:
    """Take the broker's clock from a reading, and how far ours is ahead of it, if that is more than a slow answer."""
    if reading.broker_at is None:
        return state
    ahead = reading.at - reading.broker_at
    seen = reading.broker_at if state.broker_seen is None else max(state.broker_seen, reading.broker_at)
    return changed(state, broker_seen=seen, clock_ahead=ahead if abs(ahead) > CLOCKS_AGREE else timedelta(0))


def _turn_day(state: AccountState, at: datetime) -> AccountState:
    """Start the next trading day if it has come, or the right one again after the clock was set back.

    Our clock alone does not turn it: whoever sets the machine's clock would start a day without losses. Locks end by
    their own times, so there is nothing to clear.
    """
    today, seen = state.today, state.broker_seen
    if today is not None and today.starts_at - CLOCK_SET_BACK < at < today.ends_at:
        return state
    if today is not None and seen is not None:
        if at >= today.ends_at and seen < today.ends_at - CLOCKS_AGREE:
            return state
        if at < today.starts_at <= seen:
            return state
    today = trading_day(at, state.terms)
    kept = {t.id: t for t in state.trades.values() if t.made_at >= today.starts_at - KEPT_AFTER_THEIR_DAY}
    state = changed(state, today=today, trades=Map(kept), warned={}, day_peak=DayPeak())
    return execute(changed(state, realized=realize(state)))


def _with_position(state: AccountState, position: Position, at: datetime) -> AccountState:
    contract_id = position.contract_id
    held = state.positions.get(contract_id)
    before = held.size if held is not None else 0
    grew = abs(position.size) > abs(before) or position.size * before < 0
    return changed(
        state,
        last_event_at=at,
        positions=_put(state.positions, contract_id, position)
        if position.size
        else _without(state.positions, contract_id),
        seen=_put(state.seen, contract_id, at),
        increased_at=_put(state.increased_at, contract_id, at) if grew else state.increased_at,
        flat_at=state.flat_at if position.size else _put(state.flat_at, contract_id, at),
    )


def _with_order(state: AccountState, order: Order, at: datetime) -> AccountState:
    known = state.orders.get(order.id)
    if known is not None and not known.working and order.working:
        return changed(state, last_event_at=at)  # it has ended; this word of it is older
    if state.orders_swept_at is None or abs(at - state.orders_swept_at) > TOMBSTONE_LIFE:
        state = _swept(state, at)
    return changed(
        state,
        last_event_at=at,
        orders=state.orders.set(order.id, order),
        order_seen=state.order_seen.set(order.id, at),
    )


def _swept(state: AccountState, at: datetime) -> AccountState:
    """Let go of orders that ended long ago. Now and then only, so that an update does not cost what all orders do."""
    seen = state.order_seen
    orders = {i: o for i, o in state.orders.items() if o.working or at - seen.get(i, at) <= TOMBSTONE_LIFE}
    kept = {i: moment for i, moment in seen.items() if i in orders}
    return changed(state, orders=Map(orders), order_seen=Map(kept), orders_swept_at=at)


def _with_quote(state: AccountState, event: QuoteMoved) -> AccountState:
    """Merge a quote. Quotes are deltas: a book that one does not mention stands, so any quote keeps it fresh.

    A last price is as old as the trade that made it, whatever is quoted since.
    """
    contract_id, at = event.contract_id, event.at
    known = state.quotes.get(contract_id) or Quote(contract_id)
    bid = known.bid if event.bid is None else event.bid
    ask = known.ask if event.ask is None else event.ask
    last, last_at = (known.last, known.last_at) if event.last is None else (event.last, at)
    quote = Quote(contract_id, last, bid, ask, last_at, None if bid is None and ask is None else at)
    return changed(state, quotes={**state.quotes, contract_id: quote})


def _with_bar(state: AccountState, event: BarRead) -> AccountState:
    """Take a bar's price for the last one, as old as the bar says: bars have been seen to come late."""
    ahead = state.clock_ahead + BAR if event.ahead is None else event.ahead
    traded_at = min(event.at, event.began_at + ahead)
    known = state.quotes.get(event.contract_id) or Quote(event.contract_id)
    if known.last_at is not None and known.last_at >= traded_at:
        return state
    known = evolve(known, last=event.close, last_at=traded_at)
    return changed(state, quotes=_put(state.quotes, event.contract_id, known))


def _with_exposure(state: AccountState, reading: ExposureRead) -> AccountState:
    if overtaken(state.exposure_at, reading):
        return state
    state = _seeing_again(merge_orders(merge_positions(state, reading), reading), reading.at)
    settled = not knows_better(state.doubted_at, reading) and (
        state.record_at is not None and not knows_better(state.doubted_at, reading, began=state.record_at)
    )
    return changed(
        state,
        exposure_at=reading.began_at,
        read_failed=None,
        doubt=None if settled else state.doubt,
        doubted_at=None if settled else state.doubted_at,
    )


def _with_record(state: AccountState, reading: RecordRead) -> AccountState:
    state = _with_trades(state, reading.trades, reading.at, last_event_at=state.last_event_at)
    if overtaken(state.record_at, reading):
        return state
    account = state.account if knows_better(state.account_seen, reading) else reading.account
    return changed(state, account=account, record_at=reading.began_at)


def _with_trades(
    state: AccountState, trades: tuple[Trade, ...], at: datetime, *, last_event_at: datetime | None
) -> AccountState:
    """Add fills by id. What the hub told of a cost stays when a REST row does not tell it.

    Fills made after all others are added to the sums; anything else (late, voided, a cost learned) adds the day up
    anew.
    """
    known = state.trades.mutate()
    rates = dict(state.commission_rates)
    by_fills, filled_at = dict(state.by_fills), dict(state.filled_at)
    in_order = same_rates = True
    added: list[Trade] = []
    for row in trades:
        if state.today is not None and row.made_at < state.today.starts_at - KEPT_AFTER_THEIR_DAY:
            continue
        before = known.get(row.id)
        trade = row if before is None else _merged(before, row)
        if before is not None and trade == before:
            continue
        known[trade.id] = trade
        in_order = in_order and before is None
        added.append(trade)
        if before is None and not trade.voided and state.exposure_at is not None:
            by_fills[trade.contract_id] = by_fills.get(trade.contract_id, 0) + trade.side.sign * trade.size
            filled_at[trade.contract_id] = at
        same_rates = _learn_rate(rates, trade) and same_rates
    if not added:
        return changed(state, last_event_at=last_event_at)
    today = [trade for trade in added if counts_today(trade, state)]
    if len(today) > 1:
        today.sort(key=order_made)
    in_order = in_order and same_rates and (not today or order_made(today[0]) > state.realized.last_fill)
    realized = state.realized
    for trade in today if in_order else ():
        realized = add_fill(realized, trade, commission_of(trade, state))
    state = changed(
        state,
        last_event_at=last_event_at,
        trades=known.finish(),
        commission_rates=rates,
        by_fills=by_fills,
        filled_at=filled_at,
        realized=realized,
    )
    state = execute(state, added if same_rates else None)
    return state if in_order else changed(state, realized=realize(state))


def _learn_rate(rates: dict[ContractId, Decimal], trade: Trade) -> bool:
    """Keep the dearest rate told; return False where it changed, so that older fills are charged anew."""
    rate = rate_told(trade)
    if rate is None or (trade.contract_id in rates and rates[trade.contract_id] >= rate):
        return True
    rates[trade.contract_id] = rate
    return False


def _merged(before: Trade, row: Trade) -> Trade:
    """A fill told again: what one telling lacks the other has, the dearer cost counts, and busted stays busted."""
    if row == before:
        return before
    told = [commissions for commissions in (before.commissions, row.commissions) if commissions is not None]
    return evolve(
        row,
        made_at=min(before.made_at, row.made_at),
        profit_and_loss=before.profit_and_loss if row.profit_and_loss is None else row.profit_and_loss,
        fees=max(before.fees, row.fees),
        commissions=max(told, default=None),
        voided=before.voided or row.voided,
    )
