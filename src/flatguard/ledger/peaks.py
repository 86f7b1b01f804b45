"""The best that positions, the day and the account have stood at. Facts, folded from each event; rules judge them.

A peak counts what was believed at a moment: a position its marks, the day only moments at which every position had a
price, and agreed with its fills. A close is told as a fill and as a position, one after the other; between them the
same profit would count twice, or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import evolve

from flatguard.ledger.pnl import mark_price, profit_at, unrealized
from flatguard.ledger.reconcile import knows_better, unsettled_since
from flatguard.model.account import AccountState, Balances, DayPeak, Peak, PeakSource, PositionPeak
from flatguard.model.events import (
    BarRead,
    Event,
    ExposureRead,
    PositionChanged,
    QuoteMoved,
    RecordRead,
    TradeMade,
)
from flatguard.model.ids import ContractId
from flatguard.model.trading import Position
from flatguard.model.value import changed

SAME_OPENING = timedelta(seconds=1)  # the hub and the lists need not write it with the same digits


def with_peaks(state: AccountState, event: Event) -> AccountState:
    """Return ``state``, which ``event`` has just been folded into, with the peaks that it moved."""
    if isinstance(event, QuoteMoved | BarRead):
        if event.contract_id not in state.positions:
            return state
        return _valued(state, (event.contract_id,), event.at, PeakSource.QUOTE)
    if isinstance(event, PositionChanged):
        contract_id = event.position.contract_id
        state = _followed(state, (contract_id,), event.at)
        return _valued(state, (contract_id,), event.at, PeakSource.FILL)
    if isinstance(event, ExposureRead):
        state = _followed(state, tuple(state.positions.keys() | state.peaks.keys()), event.at)
        return _valued(state, tuple(state.positions), event.at, PeakSource.FILL)
    if isinstance(event, RecordRead):
        return _day_valued(_balanced(state, event), event.at, PeakSource.FILL)
    return _day_valued(state, event.at, PeakSource.FILL) if isinstance(event, TradeMade) else state


def _followed(state: AccountState, contracts: tuple[ContractId, ...], at: datetime) -> AccountState:
    """Begin the peak of a position that is new, let go of one that is gone, and take what became of the others."""
    peaks = dict(state.peaks)
    for contract_id in contracts:
        position, peak = state.positions.get(contract_id), peaks.get(contract_id)
        if position is None:
            peaks.pop(contract_id, None)
        elif peak is None or not _same(peak, position):
            peaks[contract_id] = PositionPeak(
                opened_at=position.opened_at,
                size=position.size,
                average_price=position.average_price,
                profit=Peak(at=at, by=PeakSource.FILL),
                best_price=Peak(position.average_price, at, PeakSource.FILL),
            )
        elif (peak.size, peak.average_price) != (position.size, position.average_price):
            peaks[contract_id] = evolve(peak, size=position.size, average_price=position.average_price)
    return state if peaks == state.peaks else changed(state, peaks=peaks)


def _same(peak: PositionPeak, position: Position) -> bool:
    return peak.size * position.size > 0 and abs(peak.opened_at - position.opened_at) <= SAME_OPENING


def _valued(state: AccountState, contracts: tuple[ContractId, ...], at: datetime, by: PeakSource) -> AccountState:
    raised: dict[ContractId, PositionPeak] = {}
    for contract_id in contracts:
        peak, position = state.peaks.get(contract_id), state.positions.get(contract_id)
        contract = state.contracts.get(contract_id)
        if peak is None or position is None or contract is None:
            continue
        mark = mark_price(state.quotes.get(contract_id), position, at)
        if mark is None:
            continue
        better = peak
        profit = profit_at(position, mark, contract)
        if profit > peak.profit.amount:
            better = evolve(better, profit=Peak(profit, at, by))
        if (mark - peak.best_price.amount) * position.size > 0:
            better = evolve(better, best_price=Peak(mark, at, by))
        if better is not peak:
            raised[contract_id] = better
    peaks: Mapping[ContractId, PositionPeak] = {**state.peaks, **raised}
    return _day_valued(changed(state, peaks=peaks) if raised else state, at, by)


def settled(state: AccountState) -> bool:
    """Whether the picture is complete, and positions and fills tell the same."""
    return state.pictured and unsettled_since(state) is None


def day_total(state: AccountState, at: datetime, *, net: bool) -> Decimal | None:
    """Return what the day has made with what is open; None while that cannot be told."""
    if not settled(state):
        return None
    open_profit = unrealized(state, at)
    realized = state.realized.net if net else state.realized.gross
    return None if open_profit.unpriced else realized + open_profit.amount


def start_of_day(state: AccountState) -> Decimal | None:
    """Return the balance with which the trading day began; None while it is not known."""
    today, balances = state.today, state.balances
    return balances.day_start if today is not None and balances.day_started == today.starts_at else None


def _day_valued(state: AccountState, at: datetime, by: PeakSource) -> AccountState:
    if not settled(state):
        return state
    open_profit = unrealized(state, at)
    if open_profit.unpriced:
        return state
    peak = state.day_peak
    net = _raised(peak.net, state.realized.net + open_profit.amount, at, by)
    gross = _raised(peak.gross, state.realized.gross + open_profit.amount, at, by)
    return state if net is peak.net and gross is peak.gross else changed(state, day_peak=DayPeak(net, gross))


def _raised(peak: Peak, amount: Decimal, at: datetime, by: PeakSource) -> Peak:
    return Peak(amount, at, by) if amount > peak.amount else peak


def _balanced(state: AccountState, reading: RecordRead) -> AccountState:
    """Take the day's first balance from the first reading in it: the balance read, less what the day has made.

    So it is found also where nobody watched while the day turned. A reading that the hub has overtaken is not taken,
    as its balance and our fills would not be of the same moment.
    """
    known, today = state.balances, state.today
    moved = (state.account_seen, *state.filled_at.values())
    if (
        today is None
        or known.day_started == today.starts_at
        or reading.began_at - state.clock_ahead < today.starts_at
        or any(knows_better(moment, reading) for moment in moved)
    ):
        return state
    start = reading.account.balance - state.realized.net
    best = known.best_close
    if best.at is None or start > best.amount:
        best = Peak(start, today.starts_at, PeakSource.FILL)
    return changed(state, balances=Balances(day_started=today.starts_at, day_start=start, best_close=best))
