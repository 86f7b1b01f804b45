"""The running gateway: its clock, and what it does when it cannot keep up or when something in it breaks."""

from __future__ import annotations

from datetime import timedelta

import trio
from trio.testing import MockClock

from flatguard.simulator.app import Gateway
from tests.simulator.conftest import MNQ, START, calm_world, running


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
