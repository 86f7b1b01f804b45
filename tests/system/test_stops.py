"""Stops on virtual time: one appears, trails and goes; a position that has none is closed after its grace."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import trio

from flatguard.rules.no_stop_loss_grace import NoStopLossGrace
from flatguard.rules.trade_management import TradeManagement
from flatguard.simulator.options import Options
from tests.fakes.system import System, open_system

either_way = pytest.mark.parametrize("options", [Options.calm(), Options()], ids=["calm", "as it is"])


def stops(system: System) -> list[tuple[Decimal | None, int]]:
    """The stops that work by the broker's books."""
    book = system.double.books[system.account_id]
    return [(o.stop_price, o.remaining) for o in book.orders.rows() if o.id in system.working()]


@either_way
async def test_a_stop_goes_to_breakeven_trails_and_is_gone_after_the_trader_has_closed(
    tmp_path: Path, autojump_clock: object, options: Options
) -> None:
    async with open_system(tmp_path, {"trade_management": TradeManagement()}, options=options) as system:
        await system.until_protected()
        await system.price("MNQ", 21000)
        await system.order("MNQ", 2)
        await system.until(lambda: system.held("MNQ") == 2)
        entry = Decimal(21000)
        await trio.sleep(3)
        await system.price("MNQ", entry + 3)
        await system.until(lambda: stops(system))
        await system.price("MNQ", entry + 6)
        await system.until(lambda: any(p is not None and p >= entry + 3 for p, _ in stops(system)))
        await system.price("MNQ", entry + 8)
        await system.until(lambda: any(p is not None and p >= entry + 5 for p, _ in stops(system)))
        assert len(stops(system)) == 1
        assert stops(system)[0][1] == 2
        await system.order("MNQ", -2)
        await system.until(lambda: not system.working(), 10)
        await trio.sleep(5)
        assert system.held("MNQ") == 0
        assert len(system.requests("/api/Order/place")) == 1


@either_way
async def test_a_position_without_a_stop_is_closed_at_the_end_of_its_grace(
    tmp_path: Path, autojump_clock: object, options: Options
) -> None:
    rules = {"no_stop_loss_grace": NoStopLossGrace(grace=timedelta(seconds=20))}
    async with open_system(tmp_path, rules, options=options) as system:
        await system.until_protected()
        await system.order("MNQ", 1)
        await system.until(lambda: system.held("MNQ") == 1)
        await trio.sleep(18)
        assert system.held("MNQ") == 1
        await system.until(lambda: system.held("MNQ") == 0, 4)
