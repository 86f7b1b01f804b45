"""What the fills of the day made: order by order, and in the order of time.

Fills are told in any order, twice, late; they are voided, and their costs become known, when others were made since. An
order that one of them changes is added up anew from its own fills, and what happened in the order of time is written
anew from the place that changed. As that is the end but for rare exceptions, a fill costs the same however many the day
has.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from flatguard.ledger.pnl import LATEST, commission_of, counts_today
from flatguard.model.account import AccountState
from flatguard.model.executions import Execution, Executions, Happening, Place, Timeline
from flatguard.model.ids import OrderId, TradeId
from flatguard.model.money import ZERO
from flatguard.model.trading import Trade
from flatguard.model.value import changed

Row = tuple[datetime, TradeId, OrderId, bool]  # a happening that is to be numbered, and whether it lost
_LAST: Row = (LATEST, TradeId(0), OrderId(0), False)
Counted = tuple[list[Row], list[Row], list[Row], list[Row]]


def execute(state: AccountState, told: Iterable[Trade] | None = None) -> AccountState:
    """Return the state with what its fills made, after those ``told`` are new among them or changed; None: all of them.

    ``changed_from`` becomes the earliest moment at which this made something different.
    """
    if told is None:
        return _anew(state)
    known = state.executions
    touched: dict[OrderId, dict[TradeId, datetime]] = {}
    for trade in told:  # the same one may be among them twice
        touched.setdefault(trade.order_id, {})[trade.id] = state.trades[trade.id].made_at
    by_order = known.by_order.mutate()
    gone: Counted = ([], [], [], [])
    new: Counted = ([], [], [], [])
    earliest: datetime | None = state.changed_from
    for order_id, places in touched.items():
        before = known.by_order.get(order_id)
        earliest_told = min(places.values())
        if before is not None:
            _count(gone, order_id, before)
            places |= {trade_id: made_at for made_at, trade_id in before.fills if trade_id not in places}
        in_order = sorted([(made_at, trade_id) for trade_id, made_at in places.items()])
        after = _execution([state.trades[trade_id] for _, trade_id in in_order], state)
        if after is not None:
            _count(new, order_id, after)
            by_order[order_id] = after
        elif before is not None:
            del by_order[order_id]
        if before != after:
            if after is not None and after.last_closed is not None and len(after.fills) < len(in_order):
                earliest_told = min(earliest_told, after.last_closed[0])  # without its last fill it ended earlier
            earliest = earliest_told if earliest is None else min(earliest, earliest_told)
    executions = Executions(
        by_order.finish(),
        _rewritten(known.fills, gone[0], new[0]),
        _rewritten(known.orders, gone[1], new[1]),
        _rewritten(known.entries, gone[2], new[2]),
        _rewritten(known.results, gone[3], new[3]),
    )
    return changed(state, executions=executions, changed_from=earliest)


def _anew(state: AccountState) -> AccountState:
    """Add up everything; what differs from before has changed."""
    before, earliest = state.executions.by_order, state.changed_from
    blank = changed(state, executions=Executions(), changed_from=None)
    state = execute(blank, [trade for trade in state.trades.values() if counts_today(trade, state)])
    after = state.executions.by_order
    moments = [execution.first_at for i, execution in after.items() if before.get(i) != execution]
    moments += [execution.first_at for i, execution in before.items() if i not in after]
    return changed(state, changed_from=min([*moments, *([earliest] if earliest is not None else [])], default=None))


def _execution(trades: list[Trade], state: AccountState) -> Execution | None:
    """Add up the fills of one order, given in the order in which they were made; None where none of them counts."""
    trades = [trade for trade in trades if counts_today(trade, state)]
    if not trades:
        return None
    volume, value, profit, net = 0, ZERO, ZERO, ZERO
    fees, commissions = ZERO, ZERO
    opened: Place | None = None
    closed: Place | None = None
    last_closed: Place | None = None
    for trade in trades:
        commission = commission_of(trade, state)
        volume += trade.size
        value += trade.price * trade.size
        fees += trade.fees
        commissions += commission
        if trade.profit_and_loss is None:
            opened = opened or (trade.made_at, trade.id)
        else:
            last_closed = (trade.made_at, trade.id)
            closed = closed or last_closed
            profit += trade.profit_and_loss
            net += trade.profit_and_loss - trade.fees - commission
    return Execution(
        contract_id=trades[0].contract_id,
        volume=volume,
        average_price=value / volume if volume else trades[0].price,
        profit_and_loss=profit if closed is not None else None,
        net=net if closed is not None else None,
        fees=fees,
        commissions=commissions,
        fills=tuple([(trade.made_at, trade.id) for trade in trades]),
        opened=opened,
        closed=closed,
        last_closed=last_closed,
    )


def _count(counted: Counted, order_id: OrderId, execution: Execution) -> None:
    """Add what an order is counted by to fills, orders, entries and results."""
    fills, orders, entries, results = counted
    fills += [(*place, order_id, False) for place in execution.fills]
    orders.append((*execution.fills[0], order_id, False))
    if execution.opened is not None:
        entries.append((*execution.opened, order_id, False))
    if execution.net and execution.last_closed is not None:
        results.append((*execution.last_closed, order_id, execution.net < 0))


def _rewritten(timeline: Timeline, gone: list[Row], new: list[Row]) -> Timeline:
    """Return ``timeline`` without ``gone`` and with ``new``, written anew from the first place that differs."""
    if gone == new:
        return timeline
    out, rows = (set(gone).difference(new), list(set(new).difference(gone))) if gone else (gone, new)
    first = min(*out, *rows, _LAST)[:2]
    end = start = len(timeline)
    while start and ((last := timeline[start - 1]).made_at, last.trade_id) >= first:
        row = (last.made_at, last.trade_id, last.order_id, last.losing_run > 0)
        if row not in out:
            rows.append(row)
        start -= 1
    rows.sort()
    run = timeline[start - 1].losing_run if start else 0
    written = timeline.mutate()
    for number, (made_at, trade_id, order_id, lost) in enumerate(rows, start):
        run = run + 1 if lost else 0
        written[number] = Happening(made_at, trade_id, order_id, run)
    for number in range(start + len(rows), end):
        del written[number]
    return written.finish()
