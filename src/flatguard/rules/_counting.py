"""Counting contracts, and choosing which to give up. Shared by the rules that cap size."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal

from flatguard.model.account import AccountState
from flatguard.model.decisions import CloseContract, ReduceTo
from flatguard.model.ids import ContractId
from flatguard.model.money import ZERO
from flatguard.model.trading import Position

LONG_AGO = datetime.min.replace(tzinfo=UTC)

Group = Callable[[Position], object]
Weight = Callable[[Position], Decimal]


def grouping(count_type: str, state: AccountState) -> Group:
    """Return what offsets what: nothing (gross), expiries of one product (net), everything (net_signed)."""
    if count_type == "gross":
        return lambda position: position.contract_id
    if count_type == "net":
        return lambda position: state.ticker(position.contract_id)
    return lambda position: "account"


def count(positions: Iterable[Position], group: Group, weight: Weight) -> Decimal:
    """Return the number of contracts: the magnitudes of each group's signed sum, added up."""
    return sum(map(abs, _nets(positions, group, weight).values()), ZERO)


def _nets(positions: Iterable[Position], group: Group, weight: Weight) -> dict[object, Decimal]:
    nets: dict[object, Decimal] = defaultdict(Decimal)
    for position in positions:
        nets[group(position)] += position.size * weight(position)
    return nets


def newest_first(state: AccountState, positions: Iterable[Position]) -> list[Position]:
    """Order positions by when they last grew, the newest first: the older one is more likely protected."""
    return sorted(
        positions,
        key=lambda p: (state.increased_at.get(p.contract_id, LONG_AGO), p.contract_id),
        reverse=True,
    )


def give_up(
    state: AccountState, positions: Iterable[Position], limit: Decimal, group: Group, weight: Weight
) -> tuple[ReduceTo, ...]:
    """Return the reductions that bring the count down to ``limit``, newest exposure first.

    Only rows that point the way their group does are reduced, since giving up a hedge would raise the count.
    """
    rows = list(positions)
    nets = _nets(rows, group, weight)
    excess = sum((abs(net) for net in nets.values()), ZERO) - limit
    reductions: dict[ContractId, ReduceTo] = {}
    for row in newest_first(state, rows):
        key, unit = group(row), weight(row)
        if excess <= 0 or nets[key] * row.size <= 0 or unit <= 0:
            continue
        size = min(abs(row.size), math.ceil(min(excess, abs(nets[key])) / unit))
        direction = 1 if row.size > 0 else -1
        excess -= abs(nets[key]) - abs(nets[key] - direction * size * unit)
        nets[key] -= direction * size * unit
        reductions[row.contract_id] = ReduceTo(row.contract_id, abs(row.size) - size)
    return tuple(reductions.values())


def offender(
    state: AccountState, positions: Iterable[Position], group: Group, weight: Weight
) -> tuple[CloseContract, ...]:
    """Return what closes the newest position that the count can do without.

    Closing a hedge, or more of a spread than its one leg exceeds the other by, would raise the count. A spread of which
    no leg can go by itself is closed whole.
    """
    rows = newest_first(state, positions)
    nets = _nets(rows, group, weight)
    for row in rows:
        net = nets[group(row)]
        if abs(net - row.size * weight(row)) < abs(net):
            return (CloseContract(row.contract_id),)
    newest = next(group(row) for row in rows if nets[group(row)])
    return tuple(CloseContract(row.contract_id) for row in rows if group(row) == newest)
