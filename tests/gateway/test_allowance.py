"""The request allowance: never more than the service allows, and always room for enforcement."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.gateway.allowance import (
    ENFORCEMENT_LIMIT,
    GENERAL_LIMIT,
    LONGEST_QUIET_S,
    ROUTINE_LIMIT,
    WINDOW_S,
    Allowance,
)

ROUTINE, ENFORCEMENT = "routine", "enforcement"


async def take(allowance: Allowance, lane: str, times: int = 1) -> None:
    for _ in range(times):
        await (allowance.take_routine() if lane == ROUTINE else allowance.take_enforcement())


def taken(allowance: Allowance) -> int:
    return allowance.statistics().used


# --- What each lane may take ---


async def test_routine_leaves_a_third_to_others_and_to_enforcement(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    with trio.move_on_after(WINDOW_S - 1):
        await take(allowance, ROUTINE, 1_000)
    assert taken(allowance) == ROUTINE_LIMIT


async def test_enforcement_takes_nearly_everything_and_never_more(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    with trio.move_on_after(WINDOW_S - 1):
        await take(allowance, ENFORCEMENT, 1_000)
    assert taken(allowance) == ENFORCEMENT_LIMIT < GENERAL_LIMIT


async def test_enforcement_goes_at_once_when_routine_has_used_up_its_share(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(take, allowance, ROUTINE, 1_000)
        await trio.sleep(30)
        began = trio.current_time()
        await take(allowance, ENFORCEMENT, ENFORCEMENT_LIMIT - ROUTINE_LIMIT)
        assert trio.current_time() == began
        assert allowance.statistics().enforcement_waited_s == 0
        nursery.cancel_scope.cancel()


async def test_what_enforcement_has_taken_is_not_there_for_routine(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    await take(allowance, ENFORCEMENT, ROUTINE_LIMIT)
    began = trio.current_time()
    await take(allowance, ROUTINE)
    assert trio.current_time() - began == WINDOW_S


async def test_a_request_is_forgotten_after_a_minute(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    await take(allowance, ENFORCEMENT, 5)
    await trio.sleep(WINDOW_S - 0.001)
    assert taken(allowance) == 5
    await trio.sleep(0.001)
    assert taken(allowance) == 0


@pytest.mark.parametrize("lane", [ROUTINE, ENFORCEMENT])
async def test_one_who_gives_up_waiting_takes_nothing(autojump_clock: trio.abc.Clock, lane: str) -> None:
    allowance = Allowance()
    await take(allowance, ENFORCEMENT, ENFORCEMENT_LIMIT)
    with trio.move_on_after(5) as patience:
        await take(allowance, lane)
    assert patience.cancelled_caught
    assert taken(allowance) == ENFORCEMENT_LIMIT


@pytest.mark.parametrize("lane", [ROUTINE, ENFORCEMENT])
async def test_taking_is_always_a_checkpoint(autojump_clock: trio.abc.Clock, lane: str) -> None:
    allowance = Allowance()
    with trio.testing.assert_checkpoints():
        await take(allowance, lane)
    with trio.CancelScope() as scope:
        scope.cancel()
        await take(allowance, lane)
    assert scope.cancelled_caught
    assert taken(allowance) == 1


# --- Being quiet ---


async def test_routine_is_quiet_for_as_long_as_asked_and_enforcement_is_not(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    allowance.be_quiet(17)
    began = trio.current_time()
    await take(allowance, ENFORCEMENT)
    assert trio.current_time() == began
    await take(allowance, ROUTINE)
    assert trio.current_time() - began == 17


async def test_a_shorter_wait_does_not_cut_a_longer_one(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    began = trio.current_time()
    allowance.be_quiet(17)
    allowance.be_quiet(3)
    await take(allowance, ROUTINE)
    assert trio.current_time() - began == 17


async def test_being_asked_again_while_waiting_prolongs_the_wait(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    allowance.be_quiet(10)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, allowance, ROUTINE)
        await trio.sleep(5)
        allowance.be_quiet(20)
    assert trio.current_time() - began == 25


@pytest.mark.parametrize("seconds", [LONGEST_QUIET_S + 1, 86_400.0, float("inf")])
async def test_nobody_can_keep_the_picture_from_being_read_for_longer_than_a_minute(
    autojump_clock: trio.abc.Clock, seconds: float
) -> None:
    allowance = Allowance()
    began = trio.current_time()
    allowance.be_quiet(seconds)
    await take(allowance, ROUTINE)
    assert trio.current_time() - began == LONGEST_QUIET_S <= WINDOW_S


# --- Measuring ---


@pytest.mark.parametrize("lane", [ROUTINE, ENFORCEMENT])
async def test_waits_are_measured(autojump_clock: trio.abc.Clock, lane: str) -> None:
    allowance = Allowance()
    await take(allowance, lane)
    await trio.sleep(10)
    await take(allowance, ENFORCEMENT, ENFORCEMENT_LIMIT - 1)
    statistics = allowance.statistics()
    assert (statistics.routine_waited_s, statistics.enforcement_waited_s) == (0, 0)
    await take(allowance, lane)
    statistics = allowance.statistics()
    waited = {ROUTINE: statistics.routine_waited_s, ENFORCEMENT: statistics.enforcement_waited_s}
    assert waited[lane] == (WINDOW_S if lane == ROUTINE else WINDOW_S - 10)
    assert sum(waited.values()) == waited[lane]


# --- Any schedule ---

Step = tuple[float, str, int]
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.5, 7.0, 31.0, 59.9375, 60.0, 61.0]),
        st.sampled_from([ROUTINE, ROUTINE, ENFORCEMENT, "quiet"]),
        st.integers(1, 120),
    ),
    min_size=1,
    max_size=8,
)


def most_in_a_window(moments: Sequence[float]) -> int:
    """Return the largest number of moments within any 60 s, the last instant excluded."""
    ordered = sorted(moments)
    return max((sum(1 for at in ordered if began <= at < began + WINDOW_S) for began in ordered), default=0)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_no_schedule_passes_the_limits_in_any_minute(schedule: list[Step]) -> None:
    sent: dict[str, list[float]] = {ROUTINE: [], ENFORCEMENT: []}
    late: list[float] = []

    async def run() -> None:
        allowance = Allowance()

        async def send(lane: str) -> None:
            asked = trio.current_time()
            await take(allowance, lane)
            sent[lane].append(trio.current_time())
            if lane == ENFORCEMENT and trio.current_time() > asked:
                late.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for pause, lane, count in schedule:
                await trio.sleep(pause)
                if lane == "quiet":
                    allowance.be_quiet(count)
                    continue
                for _ in range(count):
                    nursery.start_soon(send, lane)

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    for lane, moments in sent.items():
        assert len(moments) == sum(count for _, kind, count in schedule if kind == lane), "everybody gets a turn"
    all_sent = sent[ROUTINE] + sent[ENFORCEMENT]
    assert most_in_a_window(all_sent) <= ENFORCEMENT_LIMIT
    assert most_in_a_window(sent[ROUTINE]) <= ROUTINE_LIMIT
    for at in late:
        assert sum(at - WINDOW_S - 1e-6 <= other <= at for other in all_sent) >= ENFORCEMENT_LIMIT, (
            "it waited for nothing"
        )


async def test_a_close_goes_out_at_once_however_much_is_used_up(autojump_clock: object) -> None:
    allowance = Allowance()
    for _ in range(ENFORCEMENT_LIMIT):
        await allowance.take_enforcement()
    began = trio.current_time()
    for _ in range(30):
        await allowance.take_close()
    assert trio.current_time() == began
    assert allowance.statistics().used == ENFORCEMENT_LIMIT + 30
