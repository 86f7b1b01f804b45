"""Trade management: a stop of ours is moved to breakeven, then trails the best price since the entry.

Judged after every event, at prices that are fresh and believed. Places a stop where there is none, moves its own, never
backwards, lets it follow the size of the position, and takes it away once the position is closed. It closes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from attrs import field, frozen

from flatguard.ledger.pnl import mark_price
from flatguard.ledger.protection import is_ours, our_orders, stops_against
from flatguard.model.account import AccountState
from flatguard.model.decisions import ProtectAt, WithoutOrder
from flatguard.model.events import Event
from flatguard.model.ids import ContractId
from flatguard.model.money import ZERO, on_grid
from flatguard.model.trading import Order, OrderType, Position
from flatguard.rules._prices import without_price
from flatguard.rules._rule import Finding, Rule
from flatguard.rules._settings import at_least, lasts

NAME = "trade_management"

SETTLED = timedelta(seconds=1)  # a fill, its order and its position are told one after the other

OnStops = ProtectAt | WithoutOrder


@frozen
class TradeManagement(Rule):
    """Settings of ``[rules.trade_management]``.

    Ticks count from the average entry in the direction of the position; ``trailing_distance_ticks`` from the best
    price since it. ``trailing_step_ticks`` is by how much a trailing stop must become better to be moved at all.
    """

    breakeven: bool = True
    breakeven_trigger_ticks: int = field(default=10, validator=at_least(1))
    breakeven_offset_ticks: int = field(default=0, validator=at_least(0))
    trailing: bool = True
    trailing_activation_ticks: int = field(default=20, validator=at_least(1))
    trailing_distance_ticks: int = field(default=10, validator=at_least(1))
    trailing_step_ticks: int = field(default=1, validator=at_least(1))
    min_modify_interval: timedelta = field(
        default=timedelta(seconds=1), validator=lasts(timedelta(seconds=1), timedelta(hours=1))
    )
    respect_manual_stops: bool = True

    @breakeven_offset_ticks.validator
    def _within_the_profit(self, _attribute: object, offset: int) -> None:
        if offset >= self.breakeven_trigger_ticks:
            raise ValueError(f"must be less than breakeven_trigger_ticks, {self.breakeven_trigger_ticks}, not {offset}")

    @trailing_activation_ticks.validator
    def _after_breakeven(self, _attribute: object, activation: int) -> None:
        if self.breakeven and self.trailing and activation < self.breakeven_trigger_ticks:
            raise ValueError(
                f"must be breakeven_trigger_ticks, {self.breakeven_trigger_ticks}, or more, not {activation}"
            )

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Find the stops that are to be placed, moved or taken away."""
        decisions = self._decisions(state, event.at)
        if not decisions:
            return None
        said = [_said(state, decision) for decision in decisions]
        return Finding(
            reason="; ".join(said),
            decisions=decisions,
            figures=tuple(_figures(state, event.at, decisions)),
        )

    def next_moment(self, state: AccountState, after: datetime) -> datetime | None:
        """The next moment at which the interval is over, or things have settled: something may be done then."""
        return min((moment for moment in self._waited_for(state) if moment > after), default=None)

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """A position cannot be valued: prices contradict each other, or there has been none for 30 s."""
        missing = without_price(state, at)
        return None if missing is None else f"{missing}, so its stop is not moved"

    def _waited_for(self, state: AccountState) -> Iterator[datetime]:
        contracts = state.positions.keys() | {order.contract_id for order in our_orders(state)}
        for contract_id in contracts:
            if contract_id in state.seen:
                yield state.seen[contract_id] + SETTLED
        for order in state.orders.values():
            if order.contract_id in contracts and order.type is OrderType.STOP and order.id in state.order_seen:
                yield state.order_seen[order.id] + self.min_modify_interval
                yield state.order_seen[order.id] + SETTLED

    def _decisions(self, state: AccountState, at: datetime) -> tuple[OnStops, ...]:
        ours: dict[ContractId, list[Order]] = {}
        for order in our_orders(state):
            ours.setdefault(order.contract_id, []).append(order)
        found: list[OnStops] = []
        for contract_id in sorted(state.positions.keys() | ours.keys()):
            position = state.positions.get(contract_id)
            stops = ours.get(contract_id, [])
            if position is not None:
                found += self._managed(state, position, stops, at)
            elif _settled(state, contract_id, at):
                found += [WithoutOrder(contract_id, order.id) for order in stops]
        return tuple(found)

    def _managed(self, state: AccountState, position: Position, ours: list[Order], at: datetime) -> Iterator[OnStops]:
        contract_id, size = position.contract_id, abs(position.size)
        way = 1 if position.size > 0 else -1
        against = list(stops_against(state, position))
        manual = [order for order in against if not is_ours(order)]
        priced = [(o.stop_price * way, -o.id, o) for o in against if is_ours(o) and o.stop_price is not None]
        best = max(priced, default=None, key=lambda row: row[:2])
        keep = best[2] if best is not None else None
        yield from (WithoutOrder(contract_id, order.id) for order in ours if order is not keep)
        settled = _settled(state, contract_id, at)
        if keep is not None and keep.stop_price is not None:
            room = size - sum(order.remaining for order in manual)
            if room <= 0:
                if settled:
                    yield WithoutOrder(contract_id, keep.id)
                return
            price = self._better(state, position, keep, at)
            resized = settled and keep.remaining != room
            if price is not None or resized:
                yield ProtectAt(contract_id, price or keep.stop_price, room if settled else keep.remaining, keep.id)
        elif manual and not self.respect_manual_stops:
            for order in manual:
                price = self._better(state, position, order, at) if order.type is OrderType.STOP else None
                if price is not None:
                    yield ProtectAt(contract_id, price, min(order.remaining, size), order.id)
        elif not manual and settled and not _exit_under_way(state, position, at):
            due = max((price * way for price, _ in self._candidates(state, position, at)), default=None)
            if due is not None:
                yield ProtectAt(contract_id, due * way, size)

    def _better(self, state: AccountState, position: Position, order: Order, at: datetime) -> Decimal | None:
        """Return the price to which a stop is to be tightened now; None while it may stay, or was moved just now."""
        told_at = state.order_seen.get(order.id)
        if order.stop_price is None or (told_at is not None and at < told_at + self.min_modify_interval):
            return None
        way, stop = 1 if position.size > 0 else -1, order.stop_price
        better = [
            price * way
            for price, least in self._candidates(state, position, at)
            if price != stop and (price - stop) * way >= least
        ]
        return max(better) * way if better else None

    def _candidates(self, state: AccountState, position: Position, at: datetime) -> Iterator[tuple[Decimal, Decimal]]:
        """Yield where a stop is due, if the market has not passed that price, and how much it must gain there."""
        contract, peak = state.contracts.get(position.contract_id), state.peaks.get(position.contract_id)
        mark = mark_price(state.quotes.get(position.contract_id), position, at)
        if contract is None or peak is None or mark is None:
            return
        way, tick, entry = 1 if position.size > 0 else -1, contract.tick_size, position.average_price
        shown = (peak.best_price.amount - entry) * way
        if self.breakeven and shown >= self.breakeven_trigger_ticks * tick:
            price = _away(entry + way * self.breakeven_offset_ticks * tick, tick, way)
            if (mark - price) * way > 0:
                yield price, ZERO
        if self.trailing and shown >= self.trailing_activation_ticks * tick:
            price = _away(peak.best_price.amount - way * self.trailing_distance_ticks * tick, tick, way)
            if (mark - price) * way > 0:
                yield price, self.trailing_step_ticks * tick


def _away(price: Decimal, tick: Decimal, way: int) -> Decimal:
    """Round to the tick grid, away from the market."""
    return (price / tick).to_integral_value(ROUND_FLOOR if way > 0 else ROUND_CEILING) * tick


def _settled(state: AccountState, contract_id: ContractId, at: datetime) -> bool:
    """Whether the hub has had its time to tell all of what it told of last."""
    told_at = state.seen.get(contract_id)
    return told_at is None or at >= told_at + SETTLED


def _exit_under_way(state: AccountState, position: Position, at: datetime) -> bool:
    """Whether the position may be smaller than it is known to be: its fills say so, or a stop or a close is at work."""
    if state.by_fills.get(position.contract_id, position.size) != position.size:
        return True
    for order in state.orders.values():
        if order.contract_id != position.contract_id or order.side.sign * position.size > 0:
            continue
        if order.working and order.type is OrderType.MARKET:
            return True
        if not order.working and order.type is OrderType.STOP and at < state.order_seen.get(order.id, at) + SETTLED:
            return True
    return False


def _price(state: AccountState, contract_id: ContractId, price: Decimal) -> str:
    contract = state.contracts.get(contract_id)
    return f"{price:f}" if contract is None else on_grid(price, contract.tick_size)


def _said(state: AccountState, decision: OnStops) -> str:
    if isinstance(decision, WithoutOrder):
        return f"order {decision.order_id} of ours covers nothing in {state.label(decision.contract_id)}"
    moved = "a stop" if decision.order_id is None else f"the stop of order {decision.order_id}"
    price = _price(state, decision.contract_id, decision.stop_price)
    return f"{moved} for {decision.size} {state.label(decision.contract_id)} to {price}"


def _figures(state: AccountState, at: datetime, decisions: tuple[OnStops, ...]) -> Iterator[tuple[str, str]]:
    for contract_id in dict.fromkeys(d.contract_id for d in decisions if isinstance(d, ProtectAt)):
        position, peak = state.positions[contract_id], state.peaks.get(contract_id)
        mark = mark_price(state.quotes.get(contract_id), position, at)
        shown = [f"entry {position.average_price:f}"]
        shown += [] if peak is None else [f"best {_price(state, contract_id, peak.best_price.amount)}"]
        shown += [] if mark is None else [f"market {_price(state, contract_id, mark)}"]
        yield state.label(contract_id), ", ".join(shown)
