"""An account's state: how the next one is made, and what is worked out of it once."""

from __future__ import annotations

from attrs import evolve

from flatguard.ledger.apply import apply
from flatguard.model.account import AccountState
from flatguard.model.events import PositionChanged
from flatguard.model.value import changed
from tests.fakes.desk import ACCOUNT, EP, MNQ, chicago, position

NOON = chicago("2025-01-15 12:00")


def test_a_state_with_other_values_is_as_if_it_had_been_made_with_them() -> None:
    state = AccountState(ACCOUNT)
    after = changed(state, read_failed="no answer", missing=())
    assert after == evolve(state, read_failed="no answer")
    assert state == AccountState(ACCOUNT)


def test_what_was_worked_out_is_taken_while_it_was_worked_out_of_the_very_same() -> None:
    """Also in later states, and not from one in which anything of it is another."""
    worked: list[AccountState] = []

    def held(state: AccountState) -> int:
        worked.append(state)
        return len(state.positions)

    empty = AccountState(ACCOUNT)
    one = apply(empty, PositionChanged(NOON, position(MNQ, 1)))
    failed = changed(one, read_failed="no answer")
    two = apply(failed, PositionChanged(NOON, position(EP, 1)))
    found = [state.worked_out(held, state.positions, state.contracts) for state in (empty, one, one, failed, two, one)]
    assert found == [0, 1, 1, 1, 2, 1]
    assert worked == [empty, one, two, one]
