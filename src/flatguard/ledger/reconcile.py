"""What a complete reading by REST changes in what we know.

A reading replaces rows, except those of which the hub has spoken since the reading was begun. REST lists lag the hub by
up to a second, so a row that the hub touched just before the reading began keeps the hub's word too.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from attrs import evolve, frozen

from flatguard.model.account import AccountState
from flatguard.model.events import ExposureRead, Hub, RecordRead
from flatguard.model.ids import ContractId, OrderId
from flatguard.model.trading import Order, Position, Side

REST_LAG = timedelta(seconds=1.5)
OLD_LISTS = timedelta(seconds=10)  # what the hub told so lately, no list alone takes back
CLOCK_SET_BACK = timedelta(minutes=1)  # a stamp this far in the future was made before the machine's clock was set back


def knows_better(
    heard_at: datetime | None, reading: ExposureRead | RecordRead, *, began: datetime | None = None
) -> bool:
    """Whether what the hub said at ``heard_at`` is newer than ``reading``.

    ``began``, where given, stands for the beginning of an earlier reading.
    """
    if heard_at is None or heard_at >= reading.at + CLOCK_SET_BACK:
        return False
    return heard_at > (began or reading.began_at) - REST_LAG


def overtaken(newest: datetime | None, reading: ExposureRead | RecordRead) -> bool:
    """Whether ``reading`` is the late answer to a question asked before the one that ``newest`` began."""
    return newest is not None and reading.began_at < newest < reading.at + CLOCK_SET_BACK


def merge_positions(state: AccountState, reading: ExposureRead) -> AccountState:
    """Return the state with the positions of ``reading``, but for contracts of which the hub knows better.

    Lists have been seen old, and short. So a position that became smaller is taken for that only where the fills say so
    too, or a second reading in a row; and one of which the hub spoke a moment ago only where the fills do.
    """
    read = {row.contract_id: row for row in reading.positions if row.size}
    positions: dict[ContractId, Position] = {}
    increased, by_fills = dict(state.increased_at), dict(state.by_fills)
    contradicted: dict[ContractId, int] = {}
    for contract_id in state.positions.keys() | read.keys() | by_fills.keys():
        known, row = state.positions.get(contract_id), read.get(contract_id)
        before, size = state.size_of(contract_id), 0 if row is None else row.size
        if knows_better(state.seen.get(contract_id), reading) or not _credible(state, contract_id, size, reading):
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
    return evolve(state, positions=positions, increased_at=increased, by_fills=by_fills, contradicted=contradicted)


def _credible(state: AccountState, contract_id: ContractId, size: int, reading: ExposureRead) -> bool:
    """Whether a reading is to be believed that shows ``size`` where we know of a position."""
    before = state.size_of(contract_id)
    if state.exposure_at is None or size in (before, state.by_fills.get(contract_id, 0)):
        return True
    if _told_lately(state.seen.get(contract_id), reading):
        return False
    return abs(size) >= abs(before) or size * before < 0 or size == state.contradicted.get(contract_id)


def _told_lately(heard_at: datetime | None, reading: ExposureRead) -> bool:
    """Whether a list that is a little old would not know of what the hub said at ``heard_at``."""
    return knows_better(heard_at, reading, began=reading.began_at - OLD_LISTS + REST_LAG)


def merge_orders(state: AccountState, reading: ExposureRead) -> AccountState:
    """Return the state with the working orders of ``reading``, but for those of which the hub knows better.

    An order that ended stays ended: an older list cannot revive it. One that a list lacks is gone where a second one in
    a row lacks it, and the hub, which would have told of its end, has not just told of it.
    """
    listed = {row.id for row in reading.orders}
    missing = {i for i, o in state.orders.items() if o.working and i not in listed}
    hub, seen = state.links[Hub.USER], state.order_seen
    told = {i for i in missing if hub.up and i in seen and (hub.since or seen[i]) <= seen[i]}
    doubtful = {i for i in missing if i not in state.missing or (i in told and _told_lately(seen[i], reading))}
    orders = {
        i: o
        for i, o in state.orders.items()
        if not o.working
        or (i in doubtful and state.exposure_at is not None)
        or knows_better(state.order_seen.get(i), reading)
    }
    for row in reading.orders:
        orders.setdefault(row.id, row)
    return evolve(state, orders=orders, missing=tuple(sorted(missing)))


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


@frozen
class Difference:
    """What a reading shows otherwise than it was known; ``about`` is the contract, the order, or None for the account.

    A hub that has spoken of it after ``since`` knew it too.
    """

    about: ContractId | OrderId | None
    what: str
    since: datetime


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
        if size != before and not knows_better(state.seen.get(contract_id), reading):
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
    """What a change of an order shows in; hub and lists differ in the rest."""
    return order.size, order.fill_volume, order.limit_price, order.stop_price
