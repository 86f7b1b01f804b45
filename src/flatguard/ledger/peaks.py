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

from flatguard.ledger.pnl import mark_price, open_by_contract, unrealized
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
from flatguard.model.money import ZERO
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
    """Begin the peak of a position that is new, let go of one that is gone, and take what became of the others.

    What the others showed together was no more than the sum of what each did.
    """
    peaks = dict(state.peaks)
    ended = False
    for contract_id in contracts:
        position, peak = state.positions.get(contract_id), peaks.get(contract_id)
        if position is None:
            ended = peaks.pop(contract_id, None) is not None or ended
        elif peak is None or not _same(peak, position):
            ended = ended or peak is not None
            peaks[contract_id] = PositionPeak(
                opened_at=position.opened_at,
                size=position.size,
                average_price=position.average_price,
                profit=Peak(at=at, by=PeakSource.FILL),
                best_price=Peak(position.average_price, at, PeakSource.FILL),
            )
        elif (peak.size, peak.average_price) != (position.size, position.average_price):
            peaks[contract_id] = evolve(peak, size=position.size, average_price=position.average_price)
    if peaks == state.peaks:
        return state
    together = state.open_peak
    if ended:
        most = sum((peak.profit.amount for peak in peaks.values()), ZERO)
        together = Peak(most, at, PeakSource.FILL) if most < together.amount else together
    return changed(state, peaks=peaks, open_peak=together)


def _same(peak: PositionPeak, position: Position) -> bool:
    return peak.size * position.size > 0 and abs(peak.opened_at - position.opened_at) <= SAME_OPENING


def _valued(state: AccountState, contracts: tuple[ContractId, ...], at: datetime, by: PeakSource) -> AccountState:
    profits = open_by_contract(state, at)
    raised: dict[ContractId, PositionPeak] = {}
    for contract_id in contracts:
        peak = state.peaks.get(contract_id)
        if peak is None or contract_id not in profits:
            continue
        position = state.positions[contract_id]
        mark = mark_price(state.quotes.get(contract_id), position, at)
        best = peak.best_price
        if mark is not None and (mark - best.amount) * position.size > 0:
            best = Peak(mark, at, by)
        profit = _raised(peak.profit, profits[contract_id], at, by)
        if profit is not peak.profit or best is not peak.best_price:
            raised[contract_id] = evolve(peak, profit=profit, best_price=best)
    if raised:
        peaks: Mapping[ContractId, PositionPeak] = {**state.peaks, **raised}
        state = changed(state, peaks=peaks)
    if len(profits) == len(state.positions):
        together = _raised(state.open_peak, sum(profits.values(), ZERO), at, by)
        state = state if together is state.open_peak else changed(state, open_peak=together)
    return _day_valued(state, at, by)


def _raised(peak: Peak, amount: Decimal, at: datetime, by: PeakSource) -> Peak:
    return Peak(amount, at, by) if amount > peak.amount else peak


def settled(state: AccountState) -> bool:
    """Whether the picture is complete, and positions and fills tell the same."""
    of = (state.positions, state.by_fills, state.seen, state.filled_at, state.exposure_at)
    return state.pictured and state.worked_out(unsettled_since, *of) is None


def day_total(state: AccountState, at: datetime, *, net: bool) -> Decimal | None:
    """Return what the day has made with what is open; None while that cannot be told."""
    open_profit = unrealized(state, at)
    realized = state.realized.net if net else state.realized.gross
    return realized + open_profit.amount if not open_profit.unpriced and settled(state) else None


def _day_valued(state: AccountState, at: datetime, by: PeakSource) -> AccountState:
    open_profit, peak = unrealized(state, at), state.day_peak
    net = _raised(peak.net, state.realized.net + open_profit.amount, at, by)
    gross = _raised(peak.gross, state.realized.gross + open_profit.amount, at, by)
    if (net is peak.net and gross is peak.gross) or open_profit.unpriced or not settled(state):
        return state
    return changed(state, day_peak=DayPeak(net, gross))


# --- The balance ---


def start_of_day(state: AccountState) -> Decimal | None:
    """Return the balance with which the trading day began; None while it is not known."""
    today, balances = state.today, state.balances
    return balances.day_start if today is not None and balances.day_started == today.starts_at else None


def balance_now(state: AccountState) -> Decimal | None:
    """Return what the balance is at least: the day's start and its fills, or less where less was read.

    The row of the account may come before the fill that moved it, or after; the fills are of one moment with the
    positions. Until the start is known it is the balance told.
    """
    start = start_of_day(state)
    if start is None:
        return None if state.account is None else state.account.balance
    return start + state.realized.net + min(ZERO, state.balances.unexplained)


def _balanced(state: AccountState, reading: RecordRead) -> AccountState:
    """Take from a reading the balance with which the day began: what it reads, less what the day has made.

    So it is found also where nobody watched while the day turned. A reading during which something moved is not taken:
    its balance and our fills would not be of the same moment.
    """
    known, today = state.balances, state.today
    moved = (state.account_seen, *state.filled_at.values())
    if (
        today is None
        or reading.began_at - state.clock_ahead < today.starts_at
        or any(knows_better(moment, reading) for moment in moved)
    ):
        return state
    start = reading.account.balance - state.realized.net
    if known.day_started == today.starts_at:
        return changed(state, balances=evolve(known, unexplained=start - known.day_start))
    best = known.best_close
    if best.at is None or start > best.amount:
        best = Peak(start, today.starts_at, PeakSource.FILL)
    return changed(state, balances=Balances(day_started=today.starts_at, day_start=start, best_close=best))
