"""What a complete reading by REST changes in what we know.

A reading replaces rows, except those of which the hub has spoken since the reading was begun. REST lists lag the hub by
up to a second, so a row that the hub touched just before the reading began keeps the hub's word too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from attrs import frozen
from immutables import Map

from flatguard.model.account import AccountState
from flatguard.model.events import ExposureRead, Hub, RecordRead
from flatguard.model.ids import ContractId, OrderId
from flatguard.model.trading import Order, OrderType, Position, Side
from flatguard.model.value import changed

REST_LAG = timedelta(seconds=1.5)
OLD_LIST = timedelta(seconds=6)  # some have been seen five seconds old, and one that is old once is so again at once
FILL_FOLLOWS = timedelta(seconds=2)  # a position that the hub told; its fill comes at once, or was lost
CLOCK_SET_BACK = timedelta(minutes=1)  # a stamp this far in the future was made before the machine's clock was set back


def knows_better(
    heard_at: datetime | None,
    reading: ExposureRead | RecordRead,
    *,
    began: datetime | None = None,
    lag: timedelta = REST_LAG,
) -> bool:
    """Whether what the hub said at ``heard_at`` is newer than ``reading``, which shows what was ``lag`` before it.

    ``began``, where given, stands for the beginning of an earlier reading.
    """
    if heard_at is None or heard_at >= reading.at + CLOCK_SET_BACK:
        return False
    return heard_at > (began or reading.began_at) - lag


def overtaken(newest: datetime | None, reading: ExposureRead | RecordRead) -> bool:
    """Whether ``reading`` is the late answer to a question asked before the one that ``newest`` began."""
    return newest is not None and reading.began_at < newest < reading.at + CLOCK_SET_BACK


def merge_positions(state: AccountState, reading: ExposureRead) -> AccountState:
    """Return the state with the positions of ``reading``, but for contracts of which the hub knows better.

    Lists have been seen old, and short. So a position that became smaller is taken for that only where the fills say so
    too, or a second reading in a row. Until OLD_LIST after the last word on a contract only fills can overrule that
    word, larger or smaller: two lists in a row can both be old.
    """
    read = {row.contract_id: row for row in reading.positions if row.size}
    positions: dict[ContractId, Position] = {}
    increased, by_fills = dict(state.increased_at), dict(state.by_fills)
    contradicted: dict[ContractId, int] = {}
    for contract_id in state.positions.keys() | read.keys() | by_fills.keys():
        known, row = state.positions.get(contract_id), read.get(contract_id)
        before, size = state.size_of(contract_id), 0 if row is None else row.size
        if knows_better(state.seen.get(contract_id), reading) or not _credible(state, reading, contract_id, size):
            if known is not None:
                positions[contract_id] = known
            if size != before:
                contradicted[contract_id] = size
            continue
        if not knows_better(state.filled_at.get(contract_id), reading):
            by_fills[contract_id] = size
        if row is None:
            continue
        positions[contract_id] = row
        if known is None:
            increased[contract_id] = row.opened_at
        elif abs(size) > abs(before) or size * before < 0:
            increased[contract_id] = reading.began_at
    return changed(state, positions=positions, increased_at=increased, by_fills=by_fills, contradicted=contradicted)


def _credible(state: AccountState, reading: ExposureRead, contract_id: ContractId, size: int) -> bool:
    """Whether a reading is to be believed that shows ``size`` of a contract."""
    before, by_fills = state.size_of(contract_id), state.by_fills.get(contract_id)  # None: no fill tells anything
    if state.exposure_at is None or size in (before, by_fills):
        return True
    told = (state.seen.get(contract_id), state.filled_at.get(contract_id))
    just_told = any(knows_better(moment, reading, lag=OLD_LIST) for moment in told)
    if abs(size) > abs(before) or size * before < 0:
        return not just_told or before != by_fills
    return not just_told and size == state.contradicted.get(contract_id)


def _ended(state: AccountState, reading: ExposureRead, order_id: OrderId) -> bool:
    """Whether an order that a reading lacks is to be taken for ended.

    No fill tells of its end. So the hub's word stands for longer only where the hub was up ever since.
    """
    told, hub = state.order_seen.get(order_id), state.links[Hub.USER]
    if state.exposure_at is None:
        return not knows_better(told, reading)
    heard_since = told is not None and hub.up and (hub.since is None or told >= hub.since)
    return order_id in state.missing and not knows_better(told, reading, lag=OLD_LIST if heard_since else REST_LAG)


def merge_orders(state: AccountState, reading: ExposureRead) -> AccountState:
    """Return the state with the working orders of ``reading``, but for those of which the hub knows better.

    An order that ended stays ended: an older list cannot revive it. One that a list lacks is gone where a second one in
    a row lacks it, and the hub, where it was up ever since, has not spoken of it within OLD_LIST.
    """
    listed = {row.id for row in reading.orders}
    missing = {i for i, o in state.orders.items() if o.working and i not in listed}
    orders = {
        i: o
        for i, o in state.orders.items()
        if not o.working
        or (not _ended(state, reading, i) if i in missing else knows_better(state.order_seen.get(i), reading))
    }
    for row in reading.orders:
        orders.setdefault(row.id, row)
    return changed(state, orders=Map(orders), missing=tuple(sorted(missing)))


# --- What does not agree ---


def unsettled_since(state: AccountState) -> datetime | None:
    """Return when something was last told of a contract whose fills and position disagree; None where all add up."""
    if state.exposure_at is None:
        return None
    unsettled = [
        max(state.seen.get(c, state.exposure_at), state.filled_at.get(c, state.exposure_at))
        for c in state.positions.keys() | state.by_fills.keys()
        if state.by_fills.get(c, 0) != state.size_of(c)
    ]
    return min(unsettled, default=None)


def position_due(state: AccountState) -> bool:
    """Whether a fill was told whose position is yet to be: until then its profit stands in both, realised and open."""
    return any(
        state.by_fills.get(contract_id, 0) != state.size_of(contract_id)
        and (contract_id not in state.seen or state.seen[contract_id] < filled_at)
        for contract_id, filled_at in state.filled_at.items()
    )


def fill_due_until(state: AccountState, at: datetime) -> datetime | None:
    """Return until when a fill is awaited whose position is smaller already; None where none is, or it never came.

    Until then its profit stands nowhere: no more in what is open, and not yet in what is realised.
    """
    awaited = [
        state.seen[contract_id] + FILL_FOLLOWS
        for contract_id, by_fills in state.by_fills.items()
        if state.size_of(contract_id) * by_fills >= 0
        and abs(state.size_of(contract_id)) < abs(by_fills)
        and contract_id in state.seen
        and state.seen[contract_id] <= at < state.seen[contract_id] + FILL_FOLLOWS
    ]
    return max(awaited, default=None)


@frozen
class Difference:
    """What a reading shows otherwise than it was known; ``about`` is the contract, the order, or None for the account.

    A hub that has spoken of it after ``since`` knew it too.
    """

    about: ContractId | OrderId | None
    what: str
    since: datetime


def with_fills(state: AccountState, reading: RecordRead) -> AccountState:
    """Return the state with what the fills of ``reading`` that are not known yet make of the positions."""
    by_fills = dict(state.by_fills)
    for trade in reading.trades:
        if state.exposure_at is not None and trade.id not in state.trades and not trade.voided:
            by_fills[trade.contract_id] = by_fills.get(trade.contract_id, 0) + trade.side.sign * trade.size
    return changed(state, by_fills=by_fills)


def differences(state: AccountState, reading: ExposureRead | RecordRead, hub_lag: timedelta) -> tuple[Difference, ...]:
    """Return in what ``reading`` differs from what is known, but for what the hub told, or may still tell, about it."""
    if not state.pictured:
        return ()
    if isinstance(reading, RecordRead):
        found = (*_account_differences(state, reading), *_fill_differences(state, reading, hub_lag))
    else:
        found = (*_position_differences(state, reading), *_order_differences(state, reading))
    return tuple(Difference(about, what, reading.began_at - REST_LAG) for about, what in found)


Found = Iterator[tuple[ContractId | OrderId | None, str]]


def _account_differences(state: AccountState, reading: RecordRead) -> Found:
    known, read = state.account, reading.account
    if known is None or knows_better(state.account_seen, reading):
        return
    if known.can_trade != read.can_trade:
        yield None, "the account may trade again" if read.can_trade else "the account may not trade"
    if known.visible != read.visible:
        yield None, "the account is shown again" if read.visible else "the account is retired"


def _fill_differences(state: AccountState, reading: RecordRead, hub_lag: timedelta) -> Found:
    for trade in reading.trades:
        if trade.id not in state.trades and not trade.voided and trade.made_at < reading.began_at - hub_lag:
            did = "bought" if trade.side is Side.BUY else "sold"
            what = f"fill {trade.id}: {did} {trade.size} {state.label(trade.contract_id)} at {trade.price:f}"
            yield trade.contract_id, what


def _position_differences(state: AccountState, reading: ExposureRead) -> Found:
    sizes = {row.contract_id: row.size for row in reading.positions}
    for contract_id in sorted(state.positions.keys() | sizes.keys()):
        before, size = state.size_of(contract_id), sizes.get(contract_id, 0)
        if size == before or knows_better(state.seen.get(contract_id), reading):
            continue
        if _credible(state, reading, contract_id, size):
            yield contract_id, f"position {state.label(contract_id)}: {before:+d} is {size:+d}"


def _order_differences(state: AccountState, reading: ExposureRead) -> Found:
    listed = {row.id: row for row in reading.orders}
    known = {order.id: order for order in state.working_orders}
    for order_id in sorted(known.keys() | listed.keys()):
        before, row = known.get(order_id), listed.get(order_id)
        told = state.orders.get(order_id)
        if before == row or knows_better(state.order_seen.get(order_id), reading):
            continue
        if told is not None and not told.working:
            continue  # it has ended; an older list cannot revive it
        if row is None and not _ended(state, reading, order_id):
            continue
        order = row or before
        assert order is not None
        what = f"order {order_id} ({order.side.name.lower()} {order.remaining} {state.label(order.contract_id)})"
        if before is None:
            yield order_id, f"{what} is working"
        elif row is None:
            yield order_id, f"{what} has ended"
        elif _alike(before) != _alike(row):
            yield order_id, f"{what} was changed"


def _alike(order: Order) -> tuple[object, ...]:
    """What a change of an order shows in; hub and lists differ in the rest. A trailing stop moves without a word."""
    stop_price = None if order.type is OrderType.TRAILING_STOP else order.stop_price
    return order.size, order.fill_volume, order.limit_price, stop_price
