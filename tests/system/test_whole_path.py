"""The whole path, on virtual time: an event of the broker's in, the account in its end state, the proof in the journal."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.simulator.options import Options
from tests.fakes.system import open_system

REDUCE_TO_2 = {"max_contracts": MaxContracts(limit=2, enforcement="reduce_to_limit")}
LOSS_500 = {"daily_realized_loss": DailyRealizedLoss(loss_limit=Decimal(500))}


@pytest.mark.parametrize("options", [Options.calm(), Options()], ids=["calm", "as it is"])
async def test_an_order_for_five_leaves_two(tmp_path: Path, autojump_clock: object, options: Options) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=options) as system:
        await system.until_protected()
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2)
        await system.until(lambda: system.stories() and system.stories()[0].proven_at)
        assert system.held("MNQ") == 2
        assert [step.detail for step in system.stories()[0].steps] == ["3 of 5"]
