"""What a complete reading by REST changes in what we know.

A reading replaces rows, except those of which the hub has spoken since the reading was begun. REST lists lag the hub by
up to a second, so a row that the hub touched just before the reading began keeps the hub's word too.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from attrs import evolve

from flatguard.model.account import AccountState
from flatguard.model.events import ExposureRead, RecordRead

REST_LAG = timedelta(seconds=1.5)
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
    """Return the state with the positions of ``reading``, but for contracts of which the hub knows better."""
    positions = {c: p for c, p in state.positions.items() if knows_better(state.seen.get(c), reading)}
    increased = dict(state.increased_at)
    for row in reading.positions:
        if row.size == 0 or knows_better(state.seen.get(row.contract_id), reading):
            continue
        positions[row.contract_id] = row
        held = state.positions.get(row.contract_id)
        if held is None:
            increased[row.contract_id] = row.opened_at
        elif abs(row.size) > abs(held.size) or row.size * held.size < 0:
            increased[row.contract_id] = reading.began_at
    return evolve(state, positions=positions, increased_at=increased)


def merge_orders(state: AccountState, reading: ExposureRead) -> AccountState:
    """Return the state with the working orders of ``reading``, but for those of which the hub knows better.

    An order that ended stays ended: an older list cannot revive it.
    """
    orders = {i: o for i, o in state.orders.items() if not o.working or knows_better(state.order_seen.get(i), reading)}
    for row in reading.orders:
        orders.setdefault(row.id, row)
    return evolve(state, orders=orders)
