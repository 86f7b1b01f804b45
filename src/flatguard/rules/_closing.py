"""Closing goes on until what is to be closed is closed. Shared by the rules that judge what is open."""

from __future__ import annotations

from flatguard.model.account import AccountState
from flatguard.model.decisions import Decision
from flatguard.model.ids import ContractId


def closing(rule: str, state: AccountState, contract_id: ContractId, decision: Decision) -> bool:
    """Whether ``rule`` has already called for ``decision``, and the position has not grown since.

    A close that is filled in part makes profit and loss smaller; the rest is to be closed all the same.
    """
    mark = state.breached.get(rule)
    if mark is None or decision not in mark.told:
        return False
    return state.increased_at.get(contract_id, state.positions[contract_id].opened_at) <= mark.told_at
