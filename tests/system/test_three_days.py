"""Three trading days in which everything that the double can do wrong goes wrong.

Lived through are, of each day, four stretches of some minutes with trading and faults, the refresh of the token, and
the reset. The hours in between are not: there both clocks, the broker's and the machine's, are set forward together,
which is what a laptop that slept looks like. So this shows three lives of a token, three resets and every fault by
name; it does not show what only builds up over hours of running.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
import trio

from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.simulator.contracts import find_contract
from flatguard.simulator.faults import ACCOUNT_FAULTS, ENDS_CONNECTIONS, EVENT_FAULTS, HUB_FAULTS, REST_FAULTS
from flatguard.simulator.options import Options
from tests.fakes.system import System, open_system
from tests.fakes.truth import disagreements, turned_away

pytestmark = pytest.mark.slow

RULES = {
    "max_contracts": MaxContracts(limit=4, enforcement="reduce_to_limit"),
    "daily_realized_loss": DailyRealizedLoss(loss_limit=Decimal(400), combined=False),
}
SEED = 20_260_316
MONDAY_EVENING = datetime(2026, 3, 16, 22, 5, tzinfo=UTC)  # 17:05 in Chicago, as all of these
STRETCHES = [timedelta(hours=hours) for hours in (1, 9.5, 16.25, 21.5)]  # of a day
LOSING = 2  # and trade on, locked
STRETCH_S, FAULTS_AT_ONCE = 120.0, 6
QUIET = Options().but(market_step_ms=2_000)
TRADED = ("MNQ", "MES", "M2K")


async def jump(system: System, moment: datetime) -> None:
    """Set both clocks forward, but not past the refresh of the token; then live until it is refreshed."""
    assert system.at_work is not None
    while (distance := moment - system.clock.now()) > timedelta(0):
        due = system.at_work.token.refresh_at
        assert due is not None
        if stops := due < moment:
            distance = max(due - system.clock.now(), timedelta(0))
        system.clock.ahead += distance
        await system.rest.sim("clock", advance_s=distance.total_seconds())
        if stops:
            await trio.sleep(310)  # a sleep that does not know of the jump is at most so long
            assert system.at_work.token.refresh_at != due, "the token has been refreshed"


async def trade(system: System, chance: Random, seconds: float) -> None:
    """Trade by hand: at market, with limits, sometimes too much. What the broker refuses is refused."""
    ends = trio.current_time() + seconds
    while trio.current_time() < ends:
        ticker, side = chance.choice(TRADED), chance.choice((0, 1))
        limit = int(system.last(ticker) * Decimal("0.99" if side == 0 else "1.01"))
        how = {"type": 1, "limitPrice": limit} if chance.random() < 0.2 else {"type": 2}
        contract = find_contract(ticker)
        assert contract is not None
        size = chance.choice((1, 1, 1, 2, 3))
        await system.rest.sim(
            "orders", accountId=system.account_id, contractId=contract.id, side=side, size=size, **how
        )
        await trio.sleep(chance.uniform(0.5, 6))


async def lose(system: System) -> None:
    """Lose more than the day allows, whatever it has earned so far."""
    for ticker in TRADED:
        if held := system.held(ticker):
            await system.order(ticker, -held)
    while not system.state.locked(system.clock.now()):
        await system.order("MES", 2)
        await system.price("MES", system.last("MES") - 50)
        await system.order("MES", -2)
        await trio.sleep(1)
    await system.rest.sim("price", contractId="MES", resume=True)


async def do_wrong(system: System, chance: Random, name: str) -> None:
    """Start one fault for a while, or, where it ends connections, at once."""
    how: dict[str, object] = {}
    if name in HUB_FAULTS:
        how["target"] = chance.choice(("user", "market"))
    if name not in ENDS_CONNECTIONS:
        how["duration_s"] = chance.uniform(5, 25)
    if name in REST_FAULTS or name in EVENT_FAULTS:
        how["probability"] = chance.choice((0.05, 0.2, 0.5))
    await system.fault(name, **how)


async def stretch(system: System, chance: Random, faults: list[str]) -> None:
    """Trade for a minute while things go wrong; then nothing does, and within seconds everything is right."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trade, system, chance, STRETCH_S)
        for name in faults:
            await trio.sleep(chance.uniform(0, STRETCH_S / FAULTS_AT_ONCE))
            await do_wrong(system, chance, name)
    await system.heal()
    await until_right(system)


async def until_right(system: System) -> None:
    def wrong() -> list[str]:
        state = system.state
        assert state.today is not None
        found = disagreements(system, since=state.today.starts_at)
        if system.protection != "PROTECTED":
            found.append(f"it is {system.protection}")
        held = sum(abs(position.size) for position in state.positions.values())
        if held > 4:
            found.append(f"{held} contracts are held")
        if state.locked(system.clock.now()) and (held or state.working_orders):
            found.append("it is locked and not flat")
        return found

    try:
        await system.until(lambda: not wrong(), 90)
    except trio.TooSlowError:
        raise AssertionError(f"{system.clock.now()}: {wrong()}") from None


async def test_over_three_days_of_faults_no_event_is_lost_to_the_rules_and_nobody_is_turned_away(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio._core._run._r", Random(SEED))  # who goes first, too
    chance = Random(SEED)
    names = [*EVENT_FAULTS, *HUB_FAULTS, *REST_FAULTS, *ACCOUNT_FAULTS]
    chance.shuffle(names)
    assert len(names) <= 3 * len(STRETCHES) * FAULTS_AT_ONCE, "each is met once at least"
    days = []
    async with open_system(tmp_path, RULES, options=QUIET, start=MONDAY_EVENING, seed=SEED) as system:
        await system.until_protected()
        for day in range(3):
            begins = MONDAY_EVENING + timedelta(days=day)
            for number, after in enumerate(STRETCHES):
                await jump(system, begins + after)
                faults, names = names[:FAULTS_AT_ONCE], names[FAULTS_AT_ONCE:]
                if number == LOSING:
                    await lose(system)
                await stretch(system, chance, faults)
            assert system.state.locked(system.clock.now()), "the loss has locked it"
            assert system.state.today is not None
            days.append(system.state.realized.net)
            ends = system.state.today.ends_at
            await jump(system, ends - timedelta(seconds=60))
            await trio.sleep(10)
            await trade(system, chance, 5)
            await until_right(system)
            assert system.clock.now() < ends
            await trio.sleep((ends - system.clock.now()).total_seconds() + 3)
            assert system.state.realized.net == 0
            assert not system.state.locked(system.clock.now())
            await until_right(system)
        assert not system._ended.is_set(), "the daemon never ends"
        assert all(net <= -400 for net in days)
        assert turned_away(system, 401) == []
        assert turned_away(system, 429) == []
