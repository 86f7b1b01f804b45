"""The daemon dies around a request of its own, at any moment of it, and the next start finishes what it began."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from flatguard.rules.max_contracts import MaxContracts
from flatguard.simulator.options import Options
from tests.fakes.system import System, open_system
from tests.system.test_interleavings import raising

CLOSE = "/api/Position/closeContract"
PARTIAL_CLOSE = "/api/Position/partialCloseContract"
REDUCE = MaxContracts(limit=2, enforcement="reduce_to_limit", lockout_on_breach=False)
FLATTEN = MaxContracts(limit=2, enforcement="close_all", lockout_on_breach=True)


def sent(system: System) -> int:
    return sum(len(system.requests(path)) for path in (CLOSE, PARTIAL_CLOSE, "/api/Order/cancel"))


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.06, 0.1, 0.15, 0.2, 0.3, 0.6, 1.2])
@pytest.mark.parametrize("rule", [REDUCE, FLATTEN], ids=["reduce", "flatten and lock"])
async def test_a_kill_at_any_moment_of_enforcement_is_made_good_by_the_next_start(
    tmp_path: Path, autojump_clock: object, rule: MaxContracts, after_s: float
) -> None:
    """The moments fall before, into and after the request, counted from the fill at the broker."""
    async with open_system(tmp_path, {"max_contracts": rule}, options=Options()) as system:
        await system.until_protected()
        await system.order("MNQ", 1)
        await system.order("MNQ", -1, stop=20000)
        await system.order("MNQ", 4)
        await system.until(lambda: system.held("MNQ") == 5 or sent(system))
        await trio.sleep(after_s)
        await system.kill()
        await trio.sleep(2)
        await system.start()
        left = 2 if rule is REDUCE else 0
        await system.until(lambda: system.held("MNQ") == left, 20)
        await system.until_protected()
        await trio.sleep(6)
        assert system.held("MNQ") == left, "no partial close was made twice"
        assert raising(system, "MNQ") == []
        if rule is FLATTEN:
            assert system.state.locked(system.clock.now())
            assert not system.working()
