"""Lockouts add up and never replace one another."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flatguard.model.account import AccountState
from flatguard.model.ids import AccountId
from flatguard.model.lockouts import LockKind, Lockout, latest_end, union
from tests.fakes.desk import ACCOUNT, chicago

SET = chicago("2025-01-15 14:00")
RESET = chicago("2025-01-15 17:00")
HOUR = timedelta(hours=1)


def lock(until: datetime | None = RESET, rule: str = "daily_realized_loss", scope: str = "account") -> Lockout:
    return Lockout(ACCOUNT, rule, scope, SET, until, f"until {until}", f"breach {until}")


def test_a_shorter_lock_of_the_same_rule_does_not_shorten_one() -> None:
    assert union([lock()], [lock(RESET - HOUR)]) == (lock(),)


def test_of_equal_ends_it_does_not_matter_which_came_first() -> None:
    again = evolve(lock(), reason="again", breach="another")
    assert union([lock()], [again]) == union([again], [lock()]) == (again,)


def test_a_longer_lock_of_the_same_rule_takes_over_and_is_in_force_since_the_first() -> None:
    longer = evolve(lock(RESET + HOUR), since=SET + HOUR)
    assert union([lock()], [longer]) == (evolve(longer, since=SET),)


def test_a_lock_without_an_end_outlasts_every_other() -> None:
    assert union([lock()], [lock(None)]) == union([lock(None)], [lock()]) == (lock(None),)


@pytest.mark.parametrize(
    "other",
    [
        lock(rule="max_contracts"),
        lock(scope="MNQ"),
        evolve(lock(), account_id=AccountId(25700002)),
        evolve(lock(None), condition="it rains"),
        evolve(lock(), kind=LockKind.COOLDOWN),
    ],
)
def test_a_lock_of_another_rule_scope_account_kind_or_condition_stands_beside(other: Lockout) -> None:
    assert set(union([lock()], [other])) == {lock(), other}


def test_a_lock_is_about_its_product_or_about_all() -> None:
    assert lock().covers("MNQ")
    assert lock(scope="MNQ").covers("MNQ")
    assert not lock(scope="ES").covers("MES")


ENDS = st.none() | st.integers(1, 4).map(lambda hours: SET + hours * HOUR)
LOCKS = st.lists(
    st.builds(
        Lockout,
        account_id=st.just(ACCOUNT),
        rule=st.sampled_from("ab"),
        scope=st.sampled_from(["account", "MNQ"]),
        since=st.integers(0, 3).map(lambda hours: SET + hours * HOUR),
        until=ENDS,
        reason=st.sampled_from(["x", "y"]),
        breach=st.sampled_from(["1", "2"]),
        condition=st.sampled_from(["", "it rains"]),
        kind=st.sampled_from(LockKind),
    ),
    max_size=6,
)


def in_force(locks: Iterable[Lockout], at: datetime) -> set[tuple[object, ...]]:
    return {each.key for each in locks if each.holds(at, at)}


@given(LOCKS, LOCKS, LOCKS)
def test_locks_are_a_join_semilattice(a: list[Lockout], b: list[Lockout], c: list[Lockout]) -> None:
    assert union(a, union(b, c)) == union(union(a, b), c)
    assert union(a, b) == union(b, a)
    one = union(a, [])
    assert union(one, one) == union(one, []) == one


@given(LOCKS, LOCKS, st.integers(0, 5))
def test_nothing_is_shortened_or_lifted_by_what_comes_to_it(
    locks: list[Lockout], more: list[Lockout], hours: int
) -> None:
    at = SET + hours * HOUR
    together = union(locks, more)
    assert in_force(together, at) == in_force(locks, at) | in_force(more, at)
    assert latest_end(together) == latest_end([*locks, *more])
    assert len(together) == len({each.key for each in together})


class Locks(RuleBasedStateMachine):
    """A naive model beside it: every lock ever set, and for each key the latest end among them."""

    def __init__(self) -> None:
        super().__init__()
        self.locks: tuple[Lockout, ...] = ()
        self.set: list[Lockout] = []
        self.now = SET

    @rule(new=LOCKS)
    def add(self, new: list[Lockout]) -> None:
        self.locks = union(self.locks, new)
        self.set += new

    @rule(hours=st.integers(0, 2))
    def wait(self, hours: int) -> None:
        self.now += hours * HOUR

    @rule()
    def drop_what_is_over(self) -> None:
        self.locks = tuple(each for each in self.locks if each.holds(self.now, self.now))

    @invariant()
    def what_holds_is_what_was_set_and_is_not_over(self) -> None:
        assert in_force(self.locks, self.now) == in_force(self.set, self.now)
        for each in self.locks:
            ends = [other.until for other in self.set if other.key == each.key]
            if each.holds(self.now, self.now):
                assert each.until == (None if None in ends else max(end for end in ends if end))


TestLocks = Locks.TestCase


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
