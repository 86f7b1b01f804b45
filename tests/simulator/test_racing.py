"""Several clients and the trader's own hand at once on the same accounts, over HTTP; and the same twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import trio
import trio.testing
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.simulator import Options, UserSetup, World
from flatguard.simulator.invariants import broken
from flatguard.simulator.memory import open_in_memory
from flatguard.simulator.setup import DEFAULT_ACCOUNTS
from tests.fakes.gateway_client import Hub, Rest, http_over, open_hub
from tests.simulator.conftest import COMBINE, MNQ, PRACTICE, START, System

# --- what one of them does: a wait and a call ---


@frozen
class Step:
    """After ``wait_ms``, a call; ``pick`` chooses among the orders that the account has by then."""

    wait_ms: int
    act: str
    account: int
    side: int = 0
    size: int = 1
    away: int = 0
    pick: int = 0
    tag: str | None = None


steps = st.builds(
    Step,
    wait_ms=st.sampled_from([0, 0, 1, 7, 40, 300]),
    act=st.sampled_from(["market", "limit", "stop", "bracket", "modify", "cancel", "close", "partial", "price"]),
    account=st.sampled_from([COMBINE, COMBINE, PRACTICE]),
    side=st.integers(0, 1),
    size=st.integers(1, 4),
    away=st.integers(1, 12),
    pick=st.integers(0, 5),
    tag=st.none() | st.sampled_from(["a", "b", "c"]),
)


async def take(step: Step, system: System, *, by_hand: bool) -> dict[str, Any] | None:
    """Do what a step says; by hand where the platform offers it."""
    market = system.world.markets[MNQ]
    away = step.away * market.contract.tick_size
    body: dict[str, Any] = {"accountId": step.account}
    picked = [order.id for order in system.world.books[step.account].orders.rows()][-1 - step.pick :][:1]
    match step.act:
        case "price":
            await system.move(market.last + (away if step.side else -away))
            return None
        case "cancel" | "modify":
            edit = {} if step.act == "cancel" else {"limitPrice": market.last - away, "stopPrice": market.last + away}
            return await system.rest(f"Order/{step.act}", **body, orderId=picked[0] if picked else 1, **edit)
        case "close":
            return await system.rest("Position/closeContract", **body, contractId=MNQ)
        case "partial":
            return await system.rest("Position/partialCloseContract", **body, contractId=MNQ, size=step.size)
    sign = -1 if step.side else 1
    order = {"market": {"type": 2}, "limit": {"type": 1, "limitPrice": market.last - sign * away}}.get(step.act)
    if order is None:
        order = {"type": 4, "stopPrice": market.last + sign * away}
    if step.act == "bracket":
        legs = {"stopLossBracket": (-10 * sign, 4), "takeProfitBracket": (5 * sign, 1)}
        order = {"type": 2, **{name: {"ticks": ticks, "type": kind} for name, (ticks, kind) in legs.items()}}
    body |= {"contractId": MNQ, "side": step.side, "size": step.size, "customTag": step.tag, **order}
    return await system.rest.sim("orders", **body) if by_hand else await system.rest("Order/place", **body)


@settings(max_examples=60, deadline=None)
@given(*[st.lists(steps, max_size=8)] * 3, st.integers(0, 99), st.booleans())
def test_whoever_races_with_whom_everything_adds_up_after_every_step(
    one: list[Step], two: list[Step], hand: list[Step], seed: int, gap_fills: bool
) -> None:
    async def main() -> None:
        options = Options(oco_gap_fills=gap_fills, price_walk=False)
        async with playing(World(seed=seed, start=START, options=options)) as (system, log_in):
            others = [system, evolve(system, rest=await log_in("trader1")), system]
            async with trio.open_nursery() as nursery:
                for actor, (script, each) in enumerate(zip((one, two, hand), others, strict=True)):
                    nursery.start_soon(play, script, each, actor == 2)
            await trio.sleep(70)
            assert broken(system.world) == []
            rows = [row for row in (await system.rest.truth())["orders"] if row["status"] == 6]
            assert rows == [], "nothing hangs between"

    async def play(script: Sequence[Step], system: System, by_hand: bool) -> None:
        for step in script:
            await trio.sleep(step.wait_ms / 1000)
            answer = await take(step, system, by_hand=by_hand)
            assert broken(system.world) == []
            if answer is not None:
                assert answer["success"] == (answer["errorCode"] == 0)

    run_virtually(main)


def run_virtually(main: Callable[[], Any]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@asynccontextmanager
async def playing(world: World) -> AsyncIterator[tuple[System, Callable[[str], Any]]]:
    """Run a world, log its first user in, and offer to log in others; what fails inside leaves as itself."""
    failure: BaseException | None = None
    async with AsyncExitStack() as stack:
        double = await stack.enter_async_context(open_in_memory(world))

        async def log_in(name: str) -> Rest:
            http = await stack.enter_async_context(http_over(double.dial))
            return await Rest(http).login(name, world.users[name].api_key)

        try:
            yield System(double.gateway, double.dial, await log_in(next(iter(world.users)))), log_in
        except BaseExceptionGroup as group:
            failure = group.exceptions[0]
    if failure is not None:
        raise failure


# --- the same twice ---


@frozen
class Story:
    """All that was said, to whom and when."""

    answers: list[tuple[str, float, int, bytes]]
    hubs: list[list[tuple[float, str]]]
    truth: bytes


def story(seed: int) -> Story:
    """Play a long morning of two users, three clients, a hand, and faults; return every byte of it."""
    you = UserSetup(user_name="you", accounts=(evolve(DEFAULT_ACCOUNTS[0], id=28000001, name="50KTC-V2-700001-1"),))
    users = (UserSetup(user_name="trader1", accounts=DEFAULT_ACCOUNTS), you)
    answers: list[tuple[str, float, int, bytes]] = []
    hubs: list[list[tuple[float, str]]] = []
    truth = b""

    async def actor(name: str, system: System, account: int, offset_ms: int) -> None:
        """Trade at moments of one's own; a draw from a stream of the world's seed says what."""
        chance = system.world.chance(name)

        async def send(path: str, body: dict[str, Any]) -> None:
            response = await system.rest.send(path, body)
            answers.append((name, trio.current_time(), response.status_code, response.content))

        for turn in range(12):
            await trio.sleep_until(turn * 1.5 + offset_ms / 1000)
            side, kind = chance.randint(0, 1), chance.choice([1, 2, 2, 4])
            last = system.world.markets[MNQ].last
            sign = -1 if side else 1
            body = {"accountId": account, "contractId": MNQ, "type": kind, "side": side, "size": chance.randint(1, 3)}
            body |= {"limitPrice": last - 3 * sign, "stopPrice": last + 3 * sign, "customTag": f"{name}{turn}"}
            body |= {"stopLossBracket": {"ticks": -8 * sign, "type": 4}}
            await send("/sim/orders" if name == "hand" else "/api/Order/place", body)
            await send("/api/Position/searchOpen", {"accountId": account})
            if turn % 4 == 3:
                await send("/api/Position/closeContract", {"accountId": account, "contractId": MNQ})

    async def main() -> None:
        nonlocal truth
        world = World(seed=seed, start=START, users=users)
        for name in ("duplicate_event", "reorder_events", "partial_fills"):
            world.faults.start(name, START, probability=0.2)
        for name in ("error_pending", "error_pending_fails", "http_500_after"):
            world.faults.start(name, START, target="/api/Order/place", probability=0.1)
        async with playing(world) as (system, log_in):
            yours = evolve(system, rest=await log_in("you"))
            second = evolve(system, rest=await log_in("trader1"))
            async with AsyncExitStack() as stack:
                opened: list[Hub] = []
                for one, kind, ask in (
                    (system, "user", [("SubscribeOrders", COMBINE), ("SubscribeTrades", COMBINE)]),
                    (second, "user", [("SubscribePositions", COMBINE), ("SubscribePositions", PRACTICE)]),
                    (yours, "user", [("SubscribeAccounts",), ("SubscribeOrders", 28000001)]),
                    (yours, "market", [("SubscribeContractQuotes", MNQ), ("SubscribeContractTrades", MNQ)]),
                ):  # fmt: skip
                    hub = await stack.enter_async_context(open_hub(one.dial, one.rest.token, kind))
                    opened.append(hub)
                    for target, *arguments in ask:
                        await hub.invoke(target, *arguments)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(actor, "one", system, COMBINE, 103)
                    nursery.start_soon(actor, "two", second, PRACTICE, 411)
                    nursery.start_soon(actor, "hand", second, COMBINE, 719)
                    nursery.start_soon(actor, "you", yours, 28000001, 1017)
                await trio.sleep(5)
                hubs.extend([list(zip([at for at, _ in hub.heard], hub.records, strict=True)) for hub in opened])
                truth = (await system.rest.http.get("/sim/truth")).content
                assert broken(world) == []

    run_virtually(main)
    return Story(answers, hubs, truth)


def test_the_same_seed_and_the_same_calls_give_the_same_bytes_everywhere() -> None:
    first, again, other = story(7), story(7), story(8)
    assert len(first.answers) > 90
    assert all(len(hub) > 10 for hub in first.hubs)
    assert first.answers == again.answers
    assert first.hubs == again.hubs
    assert first.truth == again.truth
    assert first.hubs != other.hubs
