"""What is wanted of an account, from all breaches at once."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.enforcement.plan import Wanted
from flatguard.model.decisions import Breach, CloseContract, Decision, Flatten, LockOut, ReduceTo, WithoutOrder
from flatguard.model.ids import OrderId
from tests.fakes.desk import ACCOUNT, EP, MNQ, RTY, chicago

NOON = chicago("2025-01-15 12:00")


def breach(*decisions: Decision, rule: str = "a", number: str = "1") -> Breach:
    return Breach(number, rule, ACCOUNT, NOON, "", "", (), decisions)


def wanted(*breaches: Breach) -> Wanted:
    plan = Wanted()
    for each in breaches:
        plan = plan.including(each)
    return plan


def test_an_order_once_to_go_stays_to_go_wherever_it_is() -> None:
    plan = wanted(breach(WithoutOrder(MNQ, OrderId(1))), breach(WithoutOrder(EP, OrderId(2))))
    assert plan.without == {1, 2}
    assert (plan.flat, plan.caps) == (False, {})
    assert plan.without_reductions_of("a") == plan


def test_at_first_nothing_is_wanted() -> None:
    assert not Wanted()
    assert (Wanted().flat, Wanted().caps) == (False, {})


@pytest.mark.parametrize(
    ("decisions", "flat", "caps"),
    [
        pytest.param([Flatten()], True, {}, id="flat"),
        pytest.param([LockOut(NOON), Flatten()], True, {}, id="a lock with it"),
        pytest.param([CloseContract(MNQ)], False, {MNQ: 0}, id="closed"),
        pytest.param([ReduceTo(MNQ, 2)], False, {MNQ: 2}, id="reduced"),
        pytest.param([ReduceTo(MNQ, 2), ReduceTo(MNQ, 3)], False, {MNQ: 2}, id="the smaller cap"),
        pytest.param([ReduceTo(MNQ, 3), ReduceTo(MNQ, 2)], False, {MNQ: 2}, id="in either order"),
        pytest.param([CloseContract(MNQ), ReduceTo(MNQ, 2)], False, {MNQ: 0}, id="closed absorbs reduced"),
        pytest.param([ReduceTo(MNQ, 2), CloseContract(MNQ)], False, {MNQ: 0}, id="in either order as well"),
        pytest.param([ReduceTo(MNQ, 2), CloseContract(EP)], False, {MNQ: 2, EP: 0}, id="each contract by itself"),
    ],
)
def test_decisions_of_one_breach_and_of_several_merge_alike(
    decisions: list[Decision], flat: bool, caps: dict[str, int]
) -> None:
    together = wanted(breach(*decisions))
    apart = wanted(*(breach(each, rule=str(n)) for n, each in enumerate(decisions)))
    for plan in (together, apart):
        assert plan
        assert (plan.flat, plan.caps) == (flat, caps)


@pytest.mark.parametrize("decisions", [(), (LockOut(NOON),)])
def test_a_breach_that_asks_for_nothing_at_the_broker_adds_nothing(decisions: tuple[Decision, ...]) -> None:
    assert not wanted(breach(*decisions))
    before = wanted(breach(ReduceTo(MNQ, 2)))
    assert before.including(breach(*decisions)) == before


CONTRACTS = st.sampled_from([MNQ, EP, RTY])
DECISIONS = st.lists(
    st.just(Flatten())
    | st.builds(CloseContract, CONTRACTS)
    | st.builds(ReduceTo, CONTRACTS, st.integers(0, 4))
    | st.builds(LockOut, st.none()),
    max_size=4,
)


@given(st.dictionaries(st.sampled_from("abcd"), DECISIONS), st.randoms(use_true_random=False))
def test_in_which_order_rules_speak_does_not_matter(by_rule: dict[str, list[Decision]], dice: Random) -> None:
    breaches = [breach(*decisions, rule=rule) for rule, decisions in by_rule.items()]
    one, other = wanted(*breaches), wanted(*dice.sample(breaches, len(breaches)))
    assert (one.flat, one.caps) == (other.flat, other.caps)


def test_what_a_rule_says_now_replaces_the_reduction_that_it_said_before() -> None:
    assert wanted(breach(ReduceTo(MNQ, 2)), breach(ReduceTo(EP, 1))).caps == {EP: 1}


def test_a_close_once_decided_is_carried_out_though_the_rule_now_speaks_of_another() -> None:
    """Half closed, a product may be within its limit again; the settings said to close it whole."""
    plan = wanted(breach(CloseContract(MNQ), CloseContract(EP)), breach(CloseContract(EP)))
    assert plan.caps == {MNQ: 0, EP: 0}
    assert plan.including(breach(ReduceTo(RTY, 1))).caps == {MNQ: 0, EP: 0, RTY: 1}
    assert wanted(breach(LockOut(NOON), Flatten()), breach(CloseContract(EP))).flat


def test_being_told_the_same_again_changes_nothing() -> None:
    plan = wanted(breach(CloseContract(MNQ), ReduceTo(EP, 1)))
    assert plan.including(breach(CloseContract(MNQ), ReduceTo(EP, 1))) == plan
    half = plan.including(breach(ReduceTo(EP, 1)))
    assert half.including(breach(ReduceTo(EP, 1))) == half


def test_all_breaches_under_way_are_proven_together() -> None:
    plan = wanted(breach(Flatten()), breach(Flatten(), number="2"), breach(Flatten()), breach(Flatten(), rule="b"))
    assert plan.ids == ("1", "2")


def test_a_reduction_is_dropped_when_its_condition_has_cleared_by_itself() -> None:
    plan = wanted(breach(ReduceTo(MNQ, 2)), breach(ReduceTo(EP, 1), rule="b", number="2"))
    assert plan.without_reductions_of("a") == wanted(breach(ReduceTo(EP, 1), rule="b", number="2"))
    assert not plan.without_reductions_of("a").without_reductions_of("b")


@pytest.mark.parametrize("decision", [Flatten(), CloseContract(MNQ)])
def test_a_close_is_not_for_part_of_it_may_be_what_cleared_the_condition(decision: Decision) -> None:
    plan = wanted(breach(decision, ReduceTo(EP, 1)))
    assert plan.without_reductions_of("a") == plan


def test_a_rule_of_which_nothing_is_wanted_has_nothing_to_drop() -> None:
    plan = wanted(breach(ReduceTo(MNQ, 2)))
    assert plan.without_reductions_of("b") == plan
