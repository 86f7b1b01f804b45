"""The running gateway: its clock, and what it does when it cannot keep up or when something in it breaks."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock

from flatguard.simulator import World
from flatguard.simulator.app import Gateway
from tests.simulator.conftest import COMBINE, MNQ, START, calm_world, running

ORDER = {"accountId": COMBINE, "contractId": MNQ, "type": 2, "side": 0, "size": 1}


async def test_where_the_machine_cannot_keep_up_the_brokers_clock_is_late_instead_of_the_answers(
    mock_clock: MockClock,
) -> None:
    world = calm_world(market_step_ms=0.01)
    gateway = Gateway(world)
    world.watch(MNQ, START)
    mock_clock.jump(1)
    now = gateway.now()
    assert START < now < START + timedelta(milliseconds=1), "a hundred trades at most"
    mock_clock.jump(0.0001)
    assert now < gateway.now() < now + timedelta(milliseconds=1)
    world.unwatch(MNQ)
    for _ in range(3):
        mock_clock.jump(0.0001)
        now = gateway.now()
    assert now == START + timedelta(seconds=1.0004), "and catches up when it can"


async def test_while_it_catches_up_it_answers(autojump_clock: MockClock) -> None:
    async with running(calm_world(market_step_ms=0.02)) as system:
        system.world.watch(MNQ, system.gateway.now())
        autojump_clock.jump(0.5)
        with trio.fail_after(0.1):
            await system.rest("Account/search", onlyActiveAccounts=True)
        assert system.gateway.now() < START + timedelta(seconds=0.4)


def test_a_quote_wakes_once_and_leaves_in_time() -> None:
    world = World(seed=1, start=START)
    world.watch(MNQ, START)
    assert world.outbox.next_moment is not None
    world.outbox.take(world.outbox.next_moment)
    for _ in range(20):
        wake = world.next_wake
        assert wake is not None
        world.run(wake)
        assert world.outbox.next_moment == wake
        assert world.outbox.take(wake)


def crash(*_: object, **__: object) -> None:
    raise RuntimeError("a bug of ours")


async def test_a_crash_within_a_request_ends_that_request_only(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(calm_world()) as system:
        system.gateway.survives_crashes = True
        with monkeypatch.context() as patch:
            patch.setattr(system.world, "place", crash)
            response = await system.rest.send("/api/Order/place", ORDER)
        assert (response.status_code, response.json()["status"]) == (500, 500)
        assert response.headers["content-type"].startswith("application/problem+json")
        assert "RuntimeError: a bug of ours" in capsys.readouterr().err
        assert (await system.rest.truth())["requests"][-1]["outcome"]["status"] == 500
        assert (await system.rest("Order/place", **ORDER))["success"]


async def test_a_crash_within_a_call_on_a_hub_ends_that_connection_only(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(calm_world()) as system, system.market_hub() as other:
        system.gateway.survives_crashes = True
        await other.invoke("SubscribeContractQuotes", MNQ)
        with monkeypatch.context() as patch:
            patch.setattr(system.world, "watch", crash)
            async with system.market_hub() as hub:
                await hub.say({"type": 1, "target": "SubscribeContractTrades", "arguments": [MNQ]})
                await hub.wait_closed()
        assert "RuntimeError: a bug of ours" in capsys.readouterr().err
        await system.move(25010)
        await trio.sleep(1)
        assert not other.closed
        assert other.events("GatewayQuote")


async def test_in_memory_a_crash_within_a_request_is_raised(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(RuntimeError, match="a bug of ours"), flatten_subgroups=True, allow_unwrapped=False
    ):
        async with running(calm_world()) as system:
            monkeypatch.setattr(system.world, "place", crash)
            await system.rest.send("/api/Order/place", ORDER)
            await trio.sleep(1)
