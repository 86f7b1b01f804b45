"""What contracts are: asked of the broker, kept, asked again each day, and held against what their fills earn.

Tick sizes and tick values are never our own. What was learned is on the tape, so a restart begins with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

import trio
from attrs import define, field

from flatguard.clock import WallClock
from flatguard.errors import FlatguardError
from flatguard.gateway.rest import Gateway
from flatguard.ledger.tick_check import contradiction
from flatguard.model.account import AccountState
from flatguard.model.events import ContractLearned, ContractRefuted, Event
from flatguard.model.ids import ContractId
from flatguard.model.trading import Contract, Trade

LEARN_S = 2.0  # a contract can wait for the next reading; what was read of the account cannot wait for a contract
ASK_AGAIN_S = 5.0  # what the gateway could not describe
REFRESH_S = 86_400.0  # what it described, or described wrongly


@define
class Contracts:
    """The descriptions that the accounts of one login need."""

    gateway: Gateway
    clock: WallClock
    _asked_at: dict[ContractId, float] = field(factory=dict)  # Trio's time
    _verified: dict[ContractId, Contract] = field(factory=dict)
    _refuted: set[ContractId] = field(factory=set)

    def wanting(self, contract_ids: Iterable[ContractId], state: AccountState) -> list[ContractId]:
        """Return those that are not known to the account and could be."""
        return [c for c in sorted(set(contract_ids)) if c not in state.contracts and c not in self._refuted]

    async def learn(self, contract_ids: Iterable[ContractId], state: AccountState) -> tuple[Event, ...]:
        """Return what is not known of them or has changed since it was asked. Never raises for the broker."""
        learned: list[Event] = []
        unknown = set(self.wanting(contract_ids, state))
        with trio.move_on_after(LEARN_S):
            for contract_id in sorted(set(contract_ids)):
                wait_s = ASK_AGAIN_S if contract_id in unknown else REFRESH_S
                if trio.current_time() < self._asked_at.get(contract_id, -inf) + wait_s:
                    continue
                told = await self._ask(contract_id)
                if told is not None and told != state.contracts.get(contract_id):
                    learned.append(ContractLearned(self.clock.now(), told))
        return tuple(learned)

    async def verify(self, state: AccountState, fills: Iterable[Trade]) -> tuple[Event, ...]:
        """Return what follows where ``fills`` and those before contradict a description: a better one, or none.

        Without one, the rules that need it say so.
        """
        told = {fill.id: fill for fill in fills}
        trades = tuple((told | dict(state.trades)).values())
        found: list[Event] = []
        for contract_id in sorted({fill.contract_id for fill in told.values() if fill.profit_and_loss is not None}):
            contract = state.contracts.get(contract_id)
            if contract is None or self._verified.get(contract_id) == contract:
                continue
            from_flat = state.size_of(contract_id) == _net(contract_id, trades)
            if contradiction(contract, trades, from_flat=from_flat) is None:
                if from_flat:
                    self._verified[contract_id] = contract
                continue
            again = contract
            with trio.move_on_after(LEARN_S):
                again = await self._ask(contract_id) or contract
            reason = contradiction(again, trades, from_flat=from_flat)
            if reason is None:
                found.append(ContractLearned(self.clock.now(), again))
            else:
                self._refuted.add(contract_id)
                found.append(ContractRefuted(self.clock.now(), contract_id, reason))
        return tuple(found)

    async def _ask(self, contract_id: ContractId) -> Contract | None:
        self._asked_at[contract_id] = trio.current_time()
        try:
            contract = await self.gateway.contract(contract_id)
        except FlatguardError:
            return None  # counted by its root meanwhile
        self._refuted.discard(contract_id)
        return contract


def _net(contract_id: ContractId, trades: Iterable[Trade]) -> int:
    counted = (trade for trade in trades if trade.contract_id == contract_id and not trade.voided)
    return sum(trade.side.sign * trade.size for trade in counted)
