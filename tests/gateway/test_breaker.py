"""The circuit breaker: opens after five failures in a row, lets three probes through, and closes when all answer."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from flatguard.gateway.breaker import FAILURES, OPEN_MOST_S, OPEN_S, PROBES, Breaker, BreakerStatistics, Ticket


def admitted(breaker: Breaker, now: float) -> Ticket:
    ticket = breaker.admit(now)
    assert ticket is not None
    return ticket


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.failed(admitted(breaker, now), now)


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker()
    fail(breaker, at, FAILURES)
    return breaker


def test_five_failures_in_a_row_open_it_for_a_minute() -> None:
    breaker = Breaker()
    fail(breaker, 100.0, FAILURES - 1)
    assert breaker.statistics(100.0) == BreakerStatistics("closed", None, FAILURES - 1, 0)
    fail(breaker, 100.0)
    assert breaker.statistics(100.0) == BreakerStatistics("open", 100.0 + OPEN_S, FAILURES, 1)
    assert breaker.admit(100.0 + OPEN_S - 0.001) is None
    assert breaker.statistics(100.0 + OPEN_S) == BreakerStatistics("half-open", None, FAILURES, 1)


def test_an_answer_in_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, FAILURES - 1)
    breaker.succeeded(admitted(breaker, 0.0))
    fail(breaker, 0.0, FAILURES - 1)
    assert breaker.state(0.0) == "closed"


def test_what_tells_nothing_neither_counts_nor_clears() -> None:
    breaker = Breaker()
    fail(breaker, 0.0, FAILURES - 1)
    for _ in range(20):
        breaker.told_nothing(admitted(breaker, 0.0))
    fail(breaker, 0.0)
    assert breaker.state(0.0) == "open"


def test_three_probes_go_through_and_close_it_once_all_are_answered() -> None:
    breaker = opened()
    probes = [admitted(breaker, OPEN_S) for _ in range(PROBES)]
    assert breaker.admit(OPEN_S) is None
    for probe in probes[:-1]:
        breaker.succeeded(probe)
        assert breaker.state(OPEN_S) == "half-open"
        assert breaker.admit(OPEN_S) is None
    breaker.succeeded(probes[-1])
    assert breaker.statistics(OPEN_S) == BreakerStatistics("closed", None, 0, 1)


def test_a_probe_that_tells_nothing_makes_room_for_another() -> None:
    breaker = opened()
    for _ in range(5):
        breaker.told_nothing(admitted(breaker, OPEN_S))
    probes = [admitted(breaker, OPEN_S) for _ in range(PROBES)]
    for probe in probes:
        breaker.succeeded(probe)
    assert breaker.state(OPEN_S) == "closed"


def test_each_probe_that_fails_doubles_the_time_up_to_five_minutes() -> None:
    breaker, now, lasted = opened(), 0.0, []
    for _ in range(5):
        assert breaker.open_until is not None
        lasted.append(breaker.open_until - now)
        now = breaker.open_until
        fail(breaker, now)
    assert lasted == [OPEN_S, 2 * OPEN_S, 4 * OPEN_S, OPEN_MOST_S, OPEN_MOST_S]
    assert breaker.opened == 6


def test_once_closed_it_opens_for_a_minute_again() -> None:
    breaker = opened()
    fail(breaker, OPEN_S)
    now = 3 * OPEN_S
    for _ in range(PROBES):
        breaker.succeeded(admitted(breaker, now))
    fail(breaker, now, FAILURES)
    assert breaker.statistics(now).open_until == now + OPEN_S


@pytest.mark.parametrize("late", ["succeeded", "failed", "told_nothing"])
def test_the_result_of_a_call_from_before_it_turned_changes_nothing(late: str) -> None:
    breaker = Breaker()
    old = admitted(breaker, 0.0)
    fail(breaker, 0.0, FAILURES)
    before = breaker.statistics(OPEN_S)
    if late == "failed":
        breaker.failed(old, OPEN_S)
    else:
        getattr(breaker, late)(old)
    assert breaker.statistics(OPEN_S) == before
    assert [breaker.admit(OPEN_S) is not None for _ in range(PROBES + 1)] == [True] * PROBES + [False]


class AnyHistory(RuleBasedStateMachine):
    """Any calls with any results at any times, beside a plain account of what must follow."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker()
        self.now = 0.0
        self.in_a_row = 0
        self.opened_at: float | None = None
        self.lasts = OPEN_S
        self.turns = 0
        self.out = self.answered = 0

    @rule(target=tickets)
    def call(self) -> object:
        ticket = self.breaker.admit(self.now)
        if self.opened_at is None:
            assert ticket is not None
        elif self.now < self.opened_at + self.lasts:
            assert ticket is None
        else:
            assert (ticket is not None) == (self.out + self.answered < PROBES)
            self.out += ticket is not None
        return multiple() if ticket is None else (ticket, self.turns)

    @rule(call=consumes(tickets))
    def answer(self, call: tuple[Ticket, int]) -> None:
        self.breaker.succeeded(call[0])
        if call[1] != self.turns:
            return
        self.in_a_row = 0
        if self.opened_at is not None:
            self.out, self.answered = self.out - 1, self.answered + 1
            if self.answered == PROBES:
                self.opened_at, self.lasts = None, OPEN_S
                self._turned()

    @rule(call=consumes(tickets))
    def failure(self, call: tuple[Ticket, int]) -> None:
        self.breaker.failed(call[0], self.now)
        if call[1] != self.turns:
            return
        self.in_a_row += 1
        if self.opened_at is not None:
            self.lasts = min(2 * self.lasts, OPEN_MOST_S)
        elif self.in_a_row < FAILURES:
            return
        self.opened_at = self.now
        self._turned()

    @rule(call=consumes(tickets))
    def nothing(self, call: tuple[Ticket, int]) -> None:
        self.breaker.told_nothing(call[0])
        if call[1] == self.turns and self.opened_at is not None:
            self.out -= 1

    @rule(seconds=st.sampled_from([0.5, 29.0, OPEN_S, 2 * OPEN_S, OPEN_MOST_S]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def gateway_is_down(self) -> None:
        for _ in range(FAILURES):
            ticket = self.breaker.admit(self.now)
            if ticket is not None:
                self.out += self.opened_at is not None
                self.failure((ticket, self.turns))

    def _turned(self) -> None:
        self.turns += 1
        self.out = self.answered = 0

    @invariant()
    def stands_as_told(self) -> None:
        statistics = self.breaker.statistics(self.now)
        if self.opened_at is None:
            assert statistics.state == "closed"
        elif self.now < self.opened_at + self.lasts:
            assert (statistics.state, statistics.open_until) == ("open", self.opened_at + self.lasts)
        else:
            assert statistics.state == "half-open"
        assert 0 <= self.breaker.probes_out + self.breaker.probes_answered <= PROBES


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
