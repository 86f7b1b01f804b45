"""Lockouts add up and never replace one another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.account import AccountState
from flatguard.model.lockouts import Lockout, combine, latest_end
from tests.fakes.desk import ACCOUNT, chicago

SET = chicago("2025-01-15 14:00")
RESET = chicago("2025-01-15 17:00")
HOUR = timedelta(hours=1)


def lock(until: datetime | None = RESET, rule: str = "daily_realized_loss", scope: str = "account") -> Lockout:
    return Lockout(ACCOUNT, rule, scope, SET, until, f"until {until}", f"breach {until}")


def test_a_shorter_lock_of_the_same_rule_does_not_shorten_one() -> None:
    assert combine([lock()], lock(RESET - HOUR)) == (lock(),)


def test_the_same_end_keeps_what_was_said_first() -> None:
    assert combine([lock()], evolve(lock(), reason="again", breach="another")) == (lock(),)


def test_a_longer_lock_of_the_same_rule_takes_over_and_is_in_force_since_the_first() -> None:
    longer = evolve(lock(RESET + HOUR), since=SET + HOUR)
    assert combine([lock()], longer) == (evolve(longer, since=SET),)


def test_a_lock_without_an_end_outlasts_every_other() -> None:
    assert combine([lock()], lock(None)) == (lock(None),)
    assert combine([lock(None)], lock()) == (lock(None),)


def test_a_lock_set_after_the_one_before_was_over_is_in_force_since_then() -> None:
    """Otherwise today's lockout would claim to have stood since last week's."""
    tomorrow = evolve(lock(RESET + 24 * HOUR), since=RESET + HOUR)
    assert combine([lock()], tomorrow) == (tomorrow,)


@pytest.mark.parametrize(
    "other",
    [
        lock(rule="max_contracts"),
        lock(scope="MNQ"),
        evolve(lock(), account_id=25700002),
        evolve(lock(None), condition="it rains"),
    ],
)
def test_a_lock_of_another_rule_scope_account_or_condition_stands_beside(other: Lockout) -> None:
    assert combine([lock()], other) == (lock(), other)


ENDS = st.none() | st.integers(1, 8).map(lambda hours: SET + hours * HOUR)
LOCKS = st.lists(st.builds(lock, until=ENDS, rule=st.sampled_from("abc"), scope=st.sampled_from(["account", "MNQ"])))


def in_force(locks: tuple[Lockout, ...], at: datetime) -> set[tuple[str, str]]:
    return {(each.rule, each.scope) for each in locks if each.holds(at, at)}


@given(LOCKS, st.randoms(use_true_random=False), st.integers(0, 9))
def test_what_holds_is_the_union_in_whatever_order_the_locks_came(
    locks: list[Lockout], dice: Random, hours: int
) -> None:
    at = SET + hours * HOUR
    shuffled = dice.sample(locks, len(locks))
    one: tuple[Lockout, ...] = ()
    other: tuple[Lockout, ...] = ()
    for first, second in zip(locks, shuffled, strict=True):
        one, other = combine(one, first), combine(other, second)
    assert in_force(one, at) == in_force(other, at) == {(each.rule, each.scope) for each in locks if each.holds(at, at)}
    assert latest_end(one) == latest_end(other) == latest_end(locks)
    assert len(one) == len({(each.rule, each.scope) for each in locks})


def test_the_end_of_nothing_is_none() -> None:
    assert latest_end([]) is None


@pytest.mark.parametrize(
    ("ours", "brokers", "holds"),
    [
        pytest.param(RESET - timedelta.resolution, RESET, True, id="our clock has not reached the end"),
        pytest.param(RESET, RESET, False, id="both have"),
        pytest.param(RESET, RESET - timedelta.resolution, True, id="the broker's has not: ours was set forward"),
        pytest.param(RESET + 24 * HOUR, None, True, id="the broker's is not known yet"),
    ],
)
def test_a_lock_ends_when_our_clock_and_the_brokers_both_say_so(
    ours: datetime, brokers: datetime | None, holds: bool
) -> None:
    assert lock().holds(ours, brokers) is holds
    state = AccountState(ACCOUNT, broker_seen=brokers, lockouts=(lock(),))
    assert state.locked(ours) == ((lock(),) if holds else ())


def test_a_lock_without_an_end_holds_for_ever() -> None:
    assert lock(None).holds(datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
