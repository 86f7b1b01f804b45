"""How the daemon asks the gateway: what goes first, what is counted, what is repeated, what is left alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from flatguard.daemon.contracts import LEARN_S
from flatguard.daemon.picture import BLIND_EVERY_S
from flatguard.gateway.allowance import ASSUMED_SENT_AT_START, GENERAL_LIMIT, LEFT_BY_ENFORCEMENT, Allowance, Lane
from flatguard.gateway.breaker import FAILURES
from flatguard.journal.reading import read_facts
from flatguard.rules.max_contracts import MaxContracts
from flatguard.simulator.options import Options
from tests.fakes.system import System, open_system

REDUCE_TO_2 = {"max_contracts": MaxContracts(limit=2, enforcement="reduce_to_limit")}
CLOSE_ALL = {"max_contracts": MaxContracts(limit=2, enforcement="close_all")}
CONTRACT, LOGIN = "/api/Contract/searchById", "/api/Auth/loginKey"


def allowance(system: System) -> Allowance:
    assert system.at_work is not None
    return system.at_work.allowance


async def use_up(system: System, requests: int) -> None:
    """Have so many requests counted, as though they had been sent."""
    for _ in range(requests):
        await allowance(system).take(Lane.CLOSE)


async def test_a_login_is_counted(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, started=False) as system:
        await system.start()
        await system.until(lambda: system.requests(LOGIN))
        await trio.sleep(0.5)
        sent = [request for request in system.gateway.gateway.requests if request["path"].startswith("/api/")]
        assert allowance(system).statistics().used == len(sent) + ASSUMED_SENT_AT_START


@pytest.mark.parametrize("used", [GENERAL_LIMIT - LEFT_BY_ENFORCEMENT, 2 * GENERAL_LIMIT])
async def test_an_allowance_that_is_used_up_delays_no_close(tmp_path: Path, autojump_clock: object, used: int) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        await use_up(system, used)
        await system.order("MNQ", 5)
        assert await system.until(lambda: system.held("MNQ") == 2, 5) < 1


async def test_readings_that_use_up_their_share_leave_enforcement_its_own(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, CLOSE_ALL) as system:
        await system.until_protected()
        for step in range(20):
            await system.order("MNQ", 1, limit=20_000 + step)
        await system.until(lambda: len(system.state.working_orders) == 20)
        await trio.sleep(1)
        assert allowance(system).reserve() == 2 + 20 + 6, "what is kept for enforcement goes by what is open"
        with trio.move_on_after(1):
            while True:
                await allowance(system).take(Lane.ROUTINE)
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 0, 2)
        await system.until(lambda: system.stories() and system.stories()[0].proven_at, 5)
        assert not any(request["outcome"]["status"] == 429 for request in system.gateway.gateway.requests)
        waits = allowance(system).statistics().longest_wait_s
        assert waits[Lane.ENFORCEMENT] == waits[Lane.CONFIRMATION] == 0


async def test_a_contract_that_cannot_be_looked_up_delays_no_picture_and_is_left_alone_after_a_while(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        await system.fault("http_500", target=CONTRACT)
        await system.order("MNQ", 1)
        assert system.at_work is not None
        breaker = system.at_work.patience.breaker
        await system.until(lambda: breaker.state(trio.current_time()) == "open", 30)
        asked = len(system.requests(CONTRACT))
        assert asked == FAILURES
        for _ in range(40):
            await trio.sleep(1)
            assert system.state.exposure_at is not None
            assert (system.clock.now() - system.state.exposure_at).total_seconds() < 10
        assert len(system.requests(CONTRACT)) == asked, "the breaker is open"
        await system.order("MNQ", 4)
        await system.until(lambda: system.held("MNQ") == 2, 2)
        await system.heal()
        await system.until(lambda: system.state.contracts, 60)
        assert breaker.state(trio.current_time()) == "half-open"


async def test_a_contract_whose_description_does_not_come_keeps_what_was_read_back_no_longer_than_it_may(
    tmp_path: Path, autojump_clock: object
) -> None:
    """What has left is not cut short by a cancel, only by the connection's own limit."""
    async with open_system(tmp_path, CLOSE_ALL) as system:
        await system.until_protected()
        await system.fault("timeout_before", target=CONTRACT)
        await system.fault("refuse_hub", target="user")
        await system.fault("cut_hub", target="user")
        await trio.sleep(3)
        await system.order("MNQ", 5)
        assert await system.until(lambda: system.held("MNQ") == 0) < BLIND_EVERY_S + LEARN_S + 0.5


async def test_how_rest_is_used_is_written_down_for_status(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=Options()) as system:
        await system.until_protected()
        await trio.sleep(5)
        run = read_facts(system.settings.journal.path).run
        assert run is not None
        assert run.link["allowance"]["limit"] == GENERAL_LIMIT
        assert run.link["allowance"]["used"] > ASSUMED_SENT_AT_START
        assert run.link["breaker"] == {"state": "closed", "open_until": None, "failures": 0}
        json.dumps(run.link)
