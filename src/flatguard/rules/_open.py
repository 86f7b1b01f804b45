"""What is open in an account, in words, and which orders could make it more. Shared by locks and rules."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flatguard.model.account import AccountState
from flatguard.model.decisions import CloseContract, WithoutOrder
from flatguard.model.ids import ContractId
from flatguard.model.trading import Order, OrderType

Closing = CloseContract | WithoutOrder

STOPS = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP})


def open_contracts(state: AccountState) -> list[ContractId]:
    """Return the contracts that are held or have a working order, in the order of their ids."""
    return state.worked_out(_open_contracts, state.positions, state.orders, state.executions)


def _open_contracts(state: AccountState) -> list[ContractId]:
    return sorted({*state.positions, *(order.contract_id for order in that_may_fill(state))})


def open_in_words(state: AccountState) -> Mapping[ContractId, list[str]]:
    """Return the position and the working orders of every contract that has any: ``+2 MNQU5``."""
    open_in: dict[ContractId, list[str]] = {}
    for contract_id, position in sorted(state.positions.items()):
        open_in.setdefault(contract_id, []).append(f"{position.size:+d} {state.label(contract_id)}")
    for order in that_may_fill(state):
        open_in.setdefault(order.contract_id, []).append(order_in_words(state, order))
    return open_in


def order_in_words(state: AccountState, order: Order) -> str:
    """Return an order as a person reads it: ``order 7 (buy 1 MNQU5)``."""
    return f"order {order.id} ({order.side.name.lower()} {state.remaining(order)} {state.label(order.contract_id)})"


def that_may_fill(state: AccountState) -> list[Order]:
    """Return the working orders but those whose fills make up their size: an order's own row is told last."""
    return state.worked_out(_that_may_fill, state.orders, state.executions)


def _that_may_fill(state: AccountState) -> list[Order]:
    return [order for order in state.working_orders if state.remaining(order)]


def could_add(state: AccountState, order: Order) -> bool:
    """Whether a fill could raise the position that is held, or turn it around. A stop against it protects."""
    size = state.size_of(order.contract_id)
    if order.side.sign * size >= 0:
        return True
    return order.type not in STOPS and state.remaining(order) > abs(size)


def all_of(state: AccountState, contracts: Collection[ContractId]) -> dict[Closing, str]:
    """Return what closes ``contracts``, and what is open in them, in words."""
    words = open_in_words(state) if contracts else {}
    return {CloseContract(contract_id): ", ".join(words[contract_id]) for contract_id in contracts}


def adding_orders(state: AccountState, contracts: Collection[ContractId]) -> dict[Closing, str]:
    """Return the orders in ``contracts`` that could add to what is held, as decisions, and in words."""
    return {
        WithoutOrder(order.contract_id, order.id): order_in_words(state, order)
        for order in that_may_fill(state)
        if order.contract_id in contracts and could_add(state, order)
    }


def by_ticker(state: AccountState, found: Mapping[Closing, str]) -> tuple[tuple[str, str], ...]:
    """Return what was found of every product, in words, as the figures of a breach."""
    words: dict[str, list[str]] = {}
    for decision, what in found.items():
        words.setdefault(state.ticker(decision.contract_id), []).append(what)
    return tuple((ticker, ", ".join(what)) for ticker, what in sorted(words.items()))
