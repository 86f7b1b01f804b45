"""The request allowance: never more than the service allows, always room for enforcement, and each in its turn."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest
import trio
import trio.lowlevel
import trio.testing
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.gateway.allowance import (
    ASSUMED_LEAST,
    ASSUMED_SENT_AT_START,
    AT_ONCE,
    GENERAL_LIMIT,
    GENERAL_WINDOW_S,
    HISTORY_LIMIT,
    HISTORY_SHARE,
    HISTORY_WINDOW_S,
    LEAST_SHARE,
    LEFT_BY_CONFIRMATION,
    LEFT_BY_ENFORCEMENT,
    LEFT_BY_ROUTINE,
    LONGEST_QUIET_S,
    MOST_RESERVED,
    QUIET_S,
    RECOVERY_A_S,
    RESERVE,
    SHRUNK_S,
    Allowance,
    Lane,
    reserve_for,
)
from flatguard.gateway.verdict import BARS, TooManyRequests
from flatguard.model.account import AccountState
from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.outcomes import Done
from flatguard.model.trading import BarUnit, Order, OrderStatus, OrderType, Position, Side
from flatguard.simulator.options import Options
from tests.fakes.memory_gateway import START, open_gateway

SHARES = {
    Lane.ENFORCEMENT: GENERAL_LIMIT - LEFT_BY_ENFORCEMENT,
    Lane.CONFIRMATION: GENERAL_LIMIT - LEFT_BY_CONFIRMATION,
    Lane.RECONCILIATION: GENERAL_LIMIT - RESERVE,
    Lane.ROUTINE: GENERAL_LIMIT - RESERVE - LEFT_BY_ROUTINE,
}
"""How much of the window each lane that may have to wait can see used, while little is open."""

every_waiting_lane = pytest.mark.parametrize("lane", SHARES)
every_lane = pytest.mark.parametrize("lane", Lane)
MNQ = ContractId("CON.F.US.MNQ.Z26")
ACCOUNT_1, ACCOUNT_2, ACCOUNT_3 = AccountId(1), AccountId(2), AccountId(3)


async def take(allowance: Allowance, lane: Lane, times: int = 1, account_id: AccountId | None = None) -> None:
    for _ in range(times):
        await allowance.take(lane, account_id)


async def take_history(allowance: Allowance, times: int) -> None:
    for _ in range(times):
        await allowance.take(Lane.ROUTINE, history=True)


def used(allowance: Allowance) -> int:
    return allowance.statistics().used


# --- What each lane may take ---


@every_waiting_lane
async def test_each_lane_leaves_its_part_to_those_before_it(autojump_clock: trio.abc.Clock, lane: Lane) -> None:
    allowance = Allowance()
    with trio.move_on_after(GENERAL_WINDOW_S - 1):
        await take(allowance, lane, 1_000)
    assert used(allowance) == SHARES[lane] < GENERAL_LIMIT


def test_the_more_urgent_lane_has_always_more_room() -> None:
    assert sorted(SHARES.values(), reverse=True) == list(SHARES.values())
    assert min(SHARES[Lane.ENFORCEMENT], SHARES[Lane.CONFIRMATION]) > GENERAL_LIMIT - RESERVE


@pytest.mark.parametrize("lane", sorted(AT_ONCE))
async def test_a_close_and_a_token_go_at_once_however_much_is_used_up(
    autojump_clock: trio.abc.Clock, lane: Lane
) -> None:
    allowance = Allowance()
    await take(allowance, Lane.ENFORCEMENT, SHARES[Lane.ENFORCEMENT])
    allowance.too_many(60.0)
    began = trio.current_time()
    await take(allowance, lane, 30)
    assert trio.current_time() == began
    assert used(allowance) == SHARES[Lane.ENFORCEMENT] + 30, "and they count"


async def test_bars_have_a_window_of_their_own(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    began = trio.current_time()
    await take_history(allowance, HISTORY_SHARE)
    await take(allowance, Lane.ROUTINE, SHARES[Lane.ROUTINE])
    assert trio.current_time() == began
    await take_history(allowance, 1)
    assert trio.current_time() - began == HISTORY_WINDOW_S
    assert allowance.statistics().history_used == 1
    assert HISTORY_SHARE < HISTORY_LIMIT


async def test_a_request_is_forgotten_after_its_window(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    await take(allowance, Lane.ENFORCEMENT, 5)
    await trio.sleep(GENERAL_WINDOW_S - 0.001)
    assert used(allowance) == 5
    await trio.sleep(0.002)
    assert used(allowance) == 0


# --- The reserve ---


@pytest.mark.parametrize(
    ("needed", "kept"),
    [
        (0, RESERVE),
        (RESERVE - LEFT_BY_CONFIRMATION, RESERVE),
        (57, 57 + LEFT_BY_CONFIRMATION),
        (MOST_RESERVED - LEFT_BY_CONFIRMATION, MOST_RESERVED),
        (9_999, MOST_RESERVED),
    ],
)
async def test_readings_leave_to_enforcement_what_it_may_need(
    autojump_clock: trio.abc.Clock, needed: int, kept: int
) -> None:
    allowance = Allowance(lambda: needed)
    with trio.move_on_after(GENERAL_WINDOW_S - 1):
        await take(allowance, Lane.RECONCILIATION, 1_000)
    assert used(allowance) == GENERAL_LIMIT - kept


async def test_a_reserve_that_grows_holds_back_who_already_waits(autojump_clock: trio.abc.Clock) -> None:
    needed = 0
    allowance = Allowance(lambda: needed)
    began = trio.current_time()
    await take(allowance, Lane.RECONCILIATION, 100)
    await trio.sleep(10)
    await take(allowance, Lane.RECONCILIATION, SHARES[Lane.RECONCILIATION] - 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, allowance, Lane.RECONCILIATION, 60)
        await trio.sleep(1)
        needed = MOST_RESERVED
    assert trio.current_time() - began == GENERAL_WINDOW_S + 10, "50 remain: room for 50 more, and 60 wait"


def test_what_enforcement_may_need_grows_with_what_is_open() -> None:
    flat = AccountState(ACCOUNT_1)
    assert reserve_for([]) == reserve_for([flat]) == 0
    one = evolve(flat, positions={MNQ: Position(ACCOUNT_1, MNQ, 1, Decimal(25_000), START)})
    assert reserve_for([one]) == 2 + 1 + 6
    statuses = {OrderId(1): OrderStatus.OPEN, OrderId(2): OrderStatus.SUSPENDED, OrderId(3): OrderStatus.FILLED}
    orders = {
        order_id: Order(order_id, ACCOUNT_2, MNQ, status, OrderType.LIMIT, Side.BUY, 1, START)
        for order_id, status in statuses.items()
    }
    assert reserve_for([one, evolve(flat, orders=orders)]) == (2 + 1 + 6) + (2 + 2 + 6)


# --- Turns ---


Asked = tuple[Lane, AccountId | None]


async def order_of_going(asked: Sequence[Asked]) -> list[Asked]:
    """Have all ask while there is no room, in this order; return the order in which they go as room appears."""
    allowance = Allowance()
    await take(allowance, Lane.CLOSE, GENERAL_LIMIT)
    went: list[Asked] = []

    async def go(lane: Lane, account_id: AccountId | None) -> None:
        await allowance.take(lane, account_id)
        went.append((lane, account_id))

    async with trio.open_nursery() as nursery:
        for lane, account_id in asked:
            nursery.start_soon(go, lane, account_id)
            await trio.testing.wait_all_tasks_blocked()
        while any(allowance.statistics().waiting.values()):
            allowance._general.sent.popleft()
            allowance._general.let_go(trio.current_time())
            await trio.testing.wait_all_tasks_blocked()
    return went


async def test_the_most_urgent_lane_goes_first(autojump_clock: trio.abc.Clock) -> None:
    lanes = list(SHARES)
    went = await order_of_going([(lane, None) for lane in reversed(lanes)])
    assert [lane for lane, _ in went] == lanes


async def test_accounts_of_a_lane_take_turns_although_one_asked_for_much_before(autojump_clock: trio.abc.Clock) -> None:
    flood = [(Lane.RECONCILIATION, ACCOUNT_1)] * 5
    others = [(Lane.RECONCILIATION, ACCOUNT_2), (Lane.RECONCILIATION, ACCOUNT_3), (Lane.RECONCILIATION, ACCOUNT_2)]
    went = await order_of_going([*flood, *others])
    assert [account for _, account in went] == [1, 2, 3, 1, 2, 1, 1, 1]


async def test_an_account_that_asks_all_the_time_delays_none_by_more_than_a_turn(
    autojump_clock: trio.abc.Clock,
) -> None:
    allowance = Allowance()
    went: list[AccountId] = []

    async def ask(account_id: AccountId) -> None:
        while True:
            await allowance.take(Lane.RECONCILIATION, account_id)
            went.append(account_id)

    for _ in range(SHARES[Lane.RECONCILIATION]):
        await take(allowance, Lane.RECONCILIATION)
        await trio.sleep(GENERAL_WINDOW_S / SHARES[Lane.RECONCILIATION])
    with trio.move_on_after(2 * GENERAL_WINDOW_S):
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(ask, ACCOUNT_1)
            nursery.start_soon(ask, ACCOUNT_2)
    assert len(went) == pytest.approx(2 * SHARES[Lane.RECONCILIATION], abs=3)
    assert went.count(ACCOUNT_2) == pytest.approx(len(went) / 2, abs=3)


# --- Giving up ---


@every_waiting_lane
async def test_one_who_gives_up_waiting_takes_nothing_and_leaves_no_hole(
    autojump_clock: trio.abc.Clock, lane: Lane
) -> None:
    allowance = Allowance()
    await take(allowance, Lane.CLOSE, GENERAL_LIMIT)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(5) as patience:
            nursery.start_soon(take, allowance, lane)
            await take(allowance, lane)
        assert patience.cancelled_caught
        assert used(allowance) == GENERAL_LIMIT
        assert allowance.statistics().waiting[lane] == 1
    assert trio.current_time() - began == GENERAL_WINDOW_S
    assert used(allowance) == 1


async def test_one_who_is_cancelled_at_the_very_moment_of_its_turn_gives_it_back(
    autojump_clock: trio.abc.Clock,
) -> None:
    allowance = Allowance()
    await take(allowance, Lane.CLOSE, GENERAL_LIMIT)
    scope = trio.CancelScope()

    async def give_up() -> None:
        with scope:
            await take(allowance, Lane.RECONCILIATION)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        allowance._general.sent.clear()
        allowance._general.let_go(trio.current_time())
        assert used(allowance) == 1, "it was its turn, and it does not know yet that it is cancelled"
    assert scope.cancelled_caught
    assert used(allowance) == 0


@every_lane
async def test_taking_is_always_a_checkpoint(autojump_clock: trio.abc.Clock, lane: Lane) -> None:
    allowance = Allowance()
    with trio.testing.assert_checkpoints():
        await take(allowance, lane)
    with trio.CancelScope() as scope:
        scope.cancel()
        await take(allowance, lane)
    assert scope.cancelled_caught
    assert used(allowance) == 1


# --- A 429 all the same ---


async def test_readings_are_quiet_for_as_long_as_asked_and_enforcement_is_not(autojump_clock: trio.abc.Clock) -> None:
    for lane in (Lane.RECONCILIATION, Lane.ROUTINE):
        allowance = Allowance()
        allowance.too_many(17)
        began = trio.current_time()
        await take(allowance, Lane.ENFORCEMENT)
        await take(allowance, Lane.CONFIRMATION)
        assert trio.current_time() == began
        await take(allowance, lane)
        assert trio.current_time() - began == 17


async def test_a_shorter_wait_does_not_cut_a_longer_one(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    began = trio.current_time()
    allowance.too_many(17)
    allowance.too_many(3)
    await take(allowance, Lane.ROUTINE)
    assert trio.current_time() - began == 17


async def test_being_asked_again_while_waiting_prolongs_the_wait(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    allowance.too_many(10)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, allowance, Lane.ROUTINE)
        await trio.sleep(5)
        allowance.too_many(20)
    assert trio.current_time() - began == 25


@pytest.mark.parametrize("seconds", [LONGEST_QUIET_S + 1, 86_400.0, float("inf")])
async def test_nobody_can_keep_the_picture_from_being_read_for_longer_than_a_minute(
    autojump_clock: trio.abc.Clock, seconds: float
) -> None:
    allowance = Allowance()
    began = trio.current_time()
    allowance.too_many(seconds)
    await take(allowance, Lane.RECONCILIATION)
    assert trio.current_time() - began == LONGEST_QUIET_S <= GENERAL_WINDOW_S


async def test_without_a_wait_routine_waits_twice_as_long_each_time_and_the_picture_does_not(
    autojump_clock: trio.abc.Clock,
) -> None:
    allowance = Allowance()
    waits: dict[Lane, list[float]] = {Lane.RECONCILIATION: [], Lane.ROUTINE: []}
    for _ in range(6):
        allowance.too_many(None)
        allowance.too_many(None)  # one that was under way beside it tells nothing new
        began = trio.current_time()
        for lane, waited in waits.items():
            await take(allowance, lane)
            waited.append(trio.current_time() - began)
    assert waits[Lane.ROUTINE] == [5, 10, 20, 40, 60, 60]
    assert waits[Lane.RECONCILIATION] == [QUIET_S] * 6


async def test_after_a_window_without_a_429_the_waits_begin_anew(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    for _ in range(3):
        allowance.too_many(None)
        await take(allowance, Lane.ROUTINE)
    await trio.sleep(GENERAL_WINDOW_S)
    allowance.too_many(None)
    assert allowance.statistics().quiet_s == QUIET_S


async def test_what_passed_is_taken_for_the_limit_for_a_while_and_then_it_recovers(
    autojump_clock: trio.abc.Clock,
) -> None:
    allowance = Allowance()
    await take(allowance, Lane.CLOSE, 131)
    allowance.too_many(0)
    assert allowance.statistics().assumed == 130
    await trio.sleep(SHRUNK_S)
    assert allowance.statistics().assumed == 130
    with trio.move_on_after(GENERAL_WINDOW_S - SHRUNK_S + 0.5):
        await take(allowance, Lane.RECONCILIATION, 1_000)
    assert used(allowance) == pytest.approx(130 - RESERVE, abs=2)
    await trio.sleep(20)
    assert allowance.statistics().assumed == pytest.approx(130 + 20 * RECOVERY_A_S, abs=2)
    await trio.sleep(60 / RECOVERY_A_S)
    assert allowance.statistics().assumed == GENERAL_LIMIT


async def test_requests_that_were_refused_did_not_pass(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    await take(allowance, Lane.CLOSE, 150)
    for _ in range(10):
        allowance.too_many(0)
    assert allowance.statistics().assumed == 140


async def test_a_429_out_of_nothing_leaves_enough_for_the_picture(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance(lambda: MOST_RESERVED)
    await take(allowance, Lane.RECONCILIATION)
    allowance.too_many(0)
    assert allowance.statistics().assumed == ASSUMED_LEAST
    with trio.move_on_after(10):
        await take(allowance, Lane.RECONCILIATION, 1_000)
    assert used(allowance) == LEAST_SHARE


async def test_a_shrunken_limit_holds_no_enforcement_back(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    allowance.too_many(30)
    began = trio.current_time()
    await take(allowance, Lane.CONFIRMATION, SHARES[Lane.CONFIRMATION])
    await take(allowance, Lane.ENFORCEMENT, SHARES[Lane.ENFORCEMENT] - SHARES[Lane.CONFIRMATION])
    assert trio.current_time() == began


async def test_a_429_for_bars_quiets_only_bars(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    allowance.too_many(30, history=True)
    began = trio.current_time()
    await take(allowance, Lane.ROUTINE)
    assert trio.current_time() == began
    await take_history(allowance, 1)
    assert trio.current_time() - began == 30


# --- After a restart ---


async def test_a_run_does_not_burst_past_what_the_run_before_may_have_sent(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance(sent_before=ASSUMED_SENT_AT_START)
    began, own = trio.current_time(), SHARES[Lane.RECONCILIATION] - ASSUMED_SENT_AT_START
    await take(allowance, Lane.RECONCILIATION, own)
    assert trio.current_time() == began
    await take(allowance, Lane.RECONCILIATION)
    assert trio.current_time() - began == GENERAL_WINDOW_S


# --- Measuring ---


@every_waiting_lane
async def test_waits_are_measured_for_each_lane(autojump_clock: trio.abc.Clock, lane: Lane) -> None:
    allowance = Allowance()
    await take(allowance, lane)
    await trio.sleep(10)
    await take(allowance, Lane.CLOSE, GENERAL_LIMIT)
    assert not any(allowance.statistics().longest_wait_s.values())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, allowance, lane)
        await trio.sleep(1)
        waiting = allowance.statistics().waiting
        assert waiting[lane] == sum(waiting.values()) == 1
    statistics = allowance.statistics()
    assert statistics.longest_wait_s[lane] == sum(statistics.longest_wait_s.values()) == GENERAL_WINDOW_S
    assert not any(statistics.waiting.values())
    await take(allowance, lane)
    assert allowance.statistics().longest_wait_s[lane] == GENERAL_WINDOW_S, "the longest, not the last"


async def test_429s_are_counted(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    allowance.too_many(None)
    allowance.too_many(1, history=True)
    assert allowance.statistics().refused == 2
    await trio.sleep(1_000)
    assert allowance.statistics().refused == 2


# --- With the double ---


async def test_a_burst_of_300_ends_with_everything_done_and_nothing_refused(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.place("MNQ", 3)
        await trio.sleep(1)
        routine, closing, cancelling = (gateway.gateway(lane) for lane in (Lane.ROUTINE, Lane.CLOSE, Lane.ENFORCEMENT))
        await gateway.token.current()
        done = 0

        async def read() -> None:
            nonlocal done
            await routine.positions(gateway.account_id)
            done += 1

        async def draw() -> None:
            nonlocal done
            await routine.bars(MNQ, START, START, BarUnit.MINUTE)
            done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(read)
            for _ in range(100):
                nursery.start_soon(draw)
            await trio.sleep(20)
            assert 0 < done < 300
            began = trio.current_time()
            assert isinstance(await closing.close(gateway.account_id, MNQ), Done)
            await cancelling.cancel(gateway.account_id, OrderId(1))
            assert trio.current_time() - began < 1, "in the middle of it, enforcement waits for nothing"
        assert done == 400
        assert {request["outcome"]["status"] for request in gateway.double.gateway.requests} == {200}
        assert len(gateway.requests(BARS)) == 100
        assert gateway.allowance.statistics().refused == 0
        assert gateway.allowance.statistics().longest_wait_s[Lane.ENFORCEMENT] == 0


@pytest.mark.parametrize("counted", [False, True], ids=["free", "counted"])
async def test_beside_a_tool_that_takes_half_of_the_allowance_everything_gets_done(
    autojump_clock: trio.abc.Clock, counted: bool
) -> None:
    """The window is shared with what we do not see; refusals make readings slower, and do not stop enforcement."""
    options = Options.calm().but(retry_after=False, refused_calls_count=counted)
    async with open_gateway(options) as gateway:
        await gateway.token.current()
        other = gateway.gateway(Lane.CLOSE, allowance=Allowance())
        read = 0

        async def other_tool() -> None:
            while True:
                await other.cancel(gateway.account_id, OrderId(1))
                await trio.sleep(0.6)

        async def readings() -> None:
            nonlocal read
            while True:
                try:
                    await gateway.reading.positions(gateway.account_id)
                    read += 1
                except TooManyRequests:
                    pass
                await trio.sleep(0.4)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other_tool)
            nursery.start_soon(readings)
            await trio.sleep(600)
            nursery.cancel_scope.cancel()
        assert read > 10 * 50, "about half of the allowance is left, less the reserve"
        assert 0 < gateway.allowance.statistics().refused < 50


# --- Any schedule ---

Step = tuple[float, Lane | str, int, int]
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.5, 7.0, 31.0, 59.9375, 61.0, 62.0]),
        st.sampled_from([*SHARES, Lane.ROUTINE, "refused", "give up"]),
        st.integers(1, 120),
        st.integers(1, 3),
    ),
    min_size=1,
    max_size=8,
)


def most_in_a_window(moments: Sequence[float]) -> int:
    """Return the largest number of moments within any window, the last instant excluded."""
    ordered = sorted(moments)
    return max((sum(1 for at in ordered if began <= at < began + GENERAL_WINDOW_S) for began in ordered), default=0)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_no_schedule_passes_the_limits_and_everybody_gets_a_turn(schedule: list[Step]) -> None:
    sent: dict[Lane, list[float]] = {lane: [] for lane in SHARES}
    late: list[float] = []

    async def run() -> None:
        allowance = Allowance()

        async def send(lane: Lane, account: int, patience_s: float) -> None:
            asked = trio.current_time()
            with trio.move_on_after(patience_s) as patience:
                await take(allowance, lane, 1, AccountId(account))
            if patience.cancelled_caught:
                return
            sent[lane].append(trio.current_time())
            if lane is Lane.ENFORCEMENT and trio.current_time() > asked:
                late.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for pause, lane, count, account in schedule:
                await trio.sleep(pause)
                if lane == "refused":
                    allowance.too_many(count)
                    continue
                for _ in range(count):
                    if isinstance(lane, Lane):
                        nursery.start_soon(send, lane, account, float("inf"))
                    else:
                        nursery.start_soon(send, Lane.ROUTINE, account, count / 8)
        assert not any(allowance.statistics().waiting.values())
        assert allowance.statistics().used == sum(
            at + GENERAL_WINDOW_S > trio.current_time() for moments in sent.values() for at in moments
        ), "those who gave up left nothing behind"

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    for lane, moments in sent.items():
        assert len(moments) >= sum(count for _, kind, count, _ in schedule if kind is lane), "everybody gets a turn"
    so_far: list[float] = []
    for lane in reversed(SHARES):
        so_far += sent[lane]
        assert most_in_a_window(so_far) <= SHARES[lane]
    for at in late:
        window = sum(at - GENERAL_WINDOW_S - 1e-6 <= other <= at for other in so_far)
        assert window >= SHARES[Lane.ENFORCEMENT], "it waited for nothing"


async def test_a_call_for_a_token_is_counted_and_does_not_wait(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()
    await take(allowance, Lane.ENFORCEMENT, SHARES[Lane.ENFORCEMENT])

    async def log_in(name: str) -> str:
        await trio.lowlevel.checkpoint()
        return f"token of {name}"

    began = trio.current_time()
    assert await allowance.counting(log_in)("trader") == "token of trader"
    assert trio.current_time() == began
    assert used(allowance) == SHARES[Lane.ENFORCEMENT] + 1


async def test_a_429_to_a_call_for_a_token_quiets_the_readings_too(autojump_clock: trio.abc.Clock) -> None:
    allowance = Allowance()

    async def log_in() -> str:
        await trio.lowlevel.checkpoint()
        raise TooManyRequests("HTTP status 429", 17.0)

    with pytest.raises(TooManyRequests):
        await allowance.counting(log_in)()
    statistics = allowance.statistics()
    assert (statistics.used, statistics.refused, statistics.quiet_s) == (1, 1, 17.0)
