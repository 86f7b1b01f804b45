"""A trader who trades on at the moment of a breach, met in many orders of events: it never ends worse than before."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
import trio
from attrs import define, field

from flatguard.rules._rule import Rule
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.simulator.options import Options
from flatguard.simulator.state import Order
from tests.fakes.system import System, open_system

REDUCE_TO_2: Mapping[str, Rule] = {"max_contracts": MaxContracts(limit=2, enforcement="reduce_to_limit")}
CLOSE_ALL: Mapping[str, Rule] = {"max_contracts": MaxContracts(limit=2, enforcement="close_all")}
LOSS_500: Mapping[str, Rule] = {"daily_realized_loss": DailyRealizedLoss(loss_limit=Decimal(500))}
SEEDS = [seed if seed < 15 else pytest.param(seed, marks=pytest.mark.slow) for seed in range(40)]
FLIPPED_MOST_S = 2.0
HANDS = {"re-enters": (2, 1), "adds": (3,), "reverses": (-10,), "closes by hand": (-5,), "closes and adds": (-5, 4)}


@define
class Watch:
    """Looks at the broker's books all the time: for how long more than allowed was held on the other side."""

    system: System
    ticker: str
    allowed: int
    longest_s: float = 0.0
    since: float | None = field(default=None)

    async def look(self) -> None:
        while True:
            now = trio.current_time()
            if self.system.held(self.ticker) < -self.allowed:
                self.since = now if self.since is None else self.since
                self.longest_s = max(self.longest_s, now - self.since)
            else:
                self.since = None
            await trio.sleep(0.005)


def raising(system: System, ticker: str) -> list[str]:
    """Return the fills of closing orders, which are ours alone, after which more was held than before."""
    book = system.double.books[system.account_id]
    orders: dict[int, Order] = {order.id: order for order in book.orders.rows()}
    size, wrong = 0, []
    for trade in book.trades.rows():
        if trade.voided or trade.contract.ticker != ticker:
            continue
        before, size = size, size + trade.side.sign * trade.size
        if orders[trade.order_id].closing and (abs(size) > abs(before) or size * before < 0):
            wrong.append(f"{before} to {size} by order {trade.order_id}")
    return wrong


async def trade_on(system: System, random: Random, sizes: tuple[int, ...]) -> None:
    """Trade by hand at about the moment of the breach."""
    for size in sizes:
        await trio.sleep(random.uniform(0, 0.25))
        await system.order("MNQ", size)


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_the_trader_does_at_the_moment_of_a_breach_it_ends_at_the_end_state(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)
    monkeypatch.setattr("trio._core._run._r", Random(seed))
    hand = tuple(HANDS.values())[seed % len(HANDS)]
    rules, most = ((REDUCE_TO_2, 2), (CLOSE_ALL, 2))[seed // len(HANDS) % 2]
    options = Options(close_is_capped=seed % 3 != 0)
    async with open_system(tmp_path, rules, options=options, seed=seed + 1) as system:
        await system.until_protected()
        watch = Watch(system, "MNQ", most)
        async with trio.open_nursery() as nursery:
            await system.order("MNQ", 5)
            nursery.start_soon(watch.look)
            await trade_on(system, random, hand)
            await trio.sleep(2)
            await system.until(lambda: abs(system.held("MNQ")) <= most, 10)
            await system.until(
                lambda: system.at_work is not None and system.at_work.board.under_way(system.account_id) is None, 20
            )
            nursery.cancel_scope.cancel()
        await trio.sleep(3)
        assert abs(system.held("MNQ")) <= most
        assert raising(system, "MNQ") == []
        await system.until(lambda: system.stories() and all(story.proven_at for story in system.stories()), 10)
        assert watch.longest_s <= FLIPPED_MOST_S
