"""The whole path, on virtual time: an event of the broker's in, the end state, the proof in the journal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import trio

from flatguard.model.events import Hub
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.simulator.options import Options
from tests.fakes.system import System, open_system

REDUCE_TO_2 = {"max_contracts": MaxContracts(limit=2, enforcement="reduce_to_limit")}
LOSS_500 = {"daily_realized_loss": DailyRealizedLoss(loss_limit=Decimal(500))}
BOTH = {**REDUCE_TO_2, **LOSS_500}
FIVE_PM = datetime(2026, 3, 18, 22, 0, tzinfo=UTC)  # 17:00 in Chicago, in summer time

either_way = pytest.mark.parametrize("options", [Options.calm(), Options()], ids=["calm", "as it is"])


async def lose(system: System, dollars: int) -> None:
    """Have the trader lose about ``dollars`` with two ES, closed by his own hand."""
    await system.price("ES", 5000)
    await system.order("ES", 2)
    await system.until(lambda: system.held("ES") == 2)
    await system.price("ES", 5000 - Decimal(dollars) / 100)
    await system.order("ES", -2)
    await system.until(lambda: system.held("ES") == 0)


async def until_proven(system: System, count: int = 1) -> None:
    await system.until(lambda: len(system.stories()) >= count and all(s.proven_at for s in system.stories()))


@either_way
async def test_an_order_for_five_leaves_two(tmp_path: Path, autojump_clock: object, options: Options) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=options) as system:
        await system.until_protected()
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2, 2)
        await until_proven(system)
        assert system.held("MNQ") == 2
        assert [step.detail for step in system.stories()[0].steps] == ["3 of 5"]


@either_way
async def test_reaching_the_daily_loss_flattens_cancels_and_locks_until_the_reset(
    tmp_path: Path, autojump_clock: object, options: Options
) -> None:
    async with open_system(tmp_path, LOSS_500, options=options) as system:
        await system.until_protected()
        await lose(system, 300)
        assert system.stories() == ()
        await system.order("MNQ", 1)
        await system.order("MNQ", 1, limit=20000)
        await system.order("MNQ", -1, stop=20000)
        await system.until(lambda: system.held("MNQ") == 1 and len(system.working()) == 2)
        await lose(system, 200)
        await system.until(lambda: system.held("MNQ") == 0 and not system.working(), 3)
        await until_proven(system)
        story = system.stories()[0]
        assert story.rule == "daily_realized_loss"
        assert story.locked_until == FIVE_PM
        await system.until(lambda: system.state.realized.net == system.broker_net)


@either_way
async def test_whatever_appears_on_a_locked_account_is_gone_at_once(
    tmp_path: Path, autojump_clock: object, options: Options
) -> None:
    async with open_system(tmp_path, LOSS_500, options=options) as system:
        await system.until_protected()
        await lose(system, 600)
        await until_proven(system)
        for _ in range(3):
            await system.order("MNQ", 2)
            await system.until(lambda: system.held("MNQ") == 0 and not system.working(), 2)
            await system.order("ES", -1, limit=5600)
            await system.until(lambda: not system.working(), 2)
            await trio.sleep(5)
        assert system.held("MNQ") == system.held("ES") == 0
        await system.until(lambda: system.state.realized.net == system.broker_net)


async def test_the_lock_ends_at_the_reset_and_the_new_day_starts_at_zero(
    tmp_path: Path, autojump_clock: object
) -> None:
    start = FIVE_PM - timedelta(minutes=2)
    async with open_system(tmp_path, LOSS_500, start=start) as system:
        await system.until_protected()
        await lose(system, 600)
        await until_proven(system)
        await system.until(lambda: system.clock.now() >= FIVE_PM - timedelta(seconds=1), 200)
        assert system.state.locked(system.clock.now())
        assert system.state.realized.net == system.broker_net
        await trio.sleep(1)
        assert system.state.realized.net == 0
        await system.until(lambda: not system.state.locked(system.clock.now()), 3)
        await system.order("MNQ", 1)
        await trio.sleep(10)
        assert system.held("MNQ") == 1


async def test_a_clock_set_forward_does_not_unlock(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, LOSS_500) as system:
        await system.until_protected()
        await lose(system, 600)
        await until_proven(system)
        system.clock.ahead = timedelta(hours=9)
        await trio.sleep(30)
        assert system.state.locked(system.clock.now())


@either_way
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_restart_keeps_the_lock_and_the_days_profit_and_loss(
    tmp_path: Path, autojump_clock: object, options: Options, end: str
) -> None:
    async with open_system(tmp_path, BOTH, options=options) as system:
        await system.until_protected()
        await lose(system, 600)
        await until_proven(system)
        await trio.sleep(5)
        await (system.stop() if end == "stop" else system.kill())
        before, locks = system.state.realized, system.state.lockouts
        await system.order("MNQ", 1)
        await system.until(lambda: system.held("MNQ") == 1)
        await system.start()
        await system.until(lambda: system.held("MNQ") == 0)
        assert system.state.lockouts == locks
        await system.until(lambda: system.state.realized.net == system.broker_net)
        assert system.state.realized.net < before.net
        await until_proven(system, 2)
        assert [story.rule for story in system.stories()] == ["daily_realized_loss", "lockout"]


async def test_a_loss_whose_lock_never_reached_the_disk_locks_again_under_the_same_id(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, LOSS_500) as system:
        await system.until_protected()
        await lose(system, 600)
        await until_proven(system)
        before, locks = system.stories()[0], system.state.lockouts
        await system.stop()
        for name in ("journal.db", "journal.db-wal", "journal.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        await system.start()
        await system.until(lambda: system.state.lockouts)
        assert [(lock.rule, lock.until, lock.breach) for lock in system.state.lockouts] == [
            (lock.rule, lock.until, lock.breach) for lock in locks
        ]
        await system.until(lambda: system.stories())
        assert system.stories()[0].id == before.id


async def test_what_happened_while_the_daemon_was_down_is_counted_to_the_cent(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, LOSS_500, options=Options()) as system:
        await system.until_protected()
        await lose(system, 100)
        await system.kill()
        await lose(system, 100)
        await system.start()
        await system.until_protected()
        await system.until(lambda: system.state.realized.net == system.broker_net)


@pytest.mark.parametrize("fault", ["cut_hub", "close_hub", "silence_hub", "freeze_hub", "refuse_hub", "logout_hub"])
async def test_a_user_hub_that_fails_does_not_stop_enforcement(
    tmp_path: Path, autojump_clock: object, fault: str
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=Options()) as system:
        await system.until_protected()
        await system.fault(fault, target="user", duration_s=120)
        await trio.sleep(1)
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2, 15)
        await system.heal()
        await system.until(lambda: system.state.links[Hub.USER].up, 90)
        await trio.sleep(5)
        await system.order("MNQ", 3)
        await system.until(lambda: len(system.stories()) == 2 and system.held("MNQ") == 2, 5)


@pytest.mark.parametrize(
    "fault", ["timeout_after", "timeout_before", "reset_after", "http_500", "html_body", "http_429", "error_unknown"]
)
async def test_a_lost_answer_to_a_partial_close_is_read_not_repeated(
    tmp_path: Path, autojump_clock: object, fault: str
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=Options()) as system:
        await system.until_protected()
        await system.fault(fault, target="/api/Position/partialCloseContract", count=2)
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2, 60)
        await trio.sleep(20)
        assert system.held("MNQ") == 2


async def test_shadow_judges_and_records_and_sends_nothing(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, mode="shadow") as system:
        await system.until(lambda: system.protection == "SHADOW")
        await system.order("MNQ", 5)
        await system.until(lambda: system.stories())
        await trio.sleep(10)
        assert system.held("MNQ") == 5
        assert not system.requests("/api/Position/partialCloseContract")
        assert system.stories()[0].steps == ()


async def test_whoever_enters_a_contract_that_is_watched_already_gets_its_price_by_subscribing_anew(
    tmp_path: Path, autojump_clock: object
) -> None:
    """Only the first quote after subscribing is full, and a market that stands still tells nothing more."""
    async with open_system(tmp_path, LOSS_500, accounts=2) as system:
        await system.until_protected()
        first, second = (account.id for account in system.settings.accounts)
        assert system.at_work is not None
        states = system.at_work.board.states
        await system.price("MNQ", 25000)
        await system.order("MNQ", 1, account=first)
        await system.until(lambda: any(quote.bid for quote in states[first].quotes.values()))
        await trio.sleep(5)
        await system.order("MNQ", 1, account=second)
        await system.until(lambda: any(quote.bid for quote in states[second].quotes.values()), 8)


async def test_accounts_of_one_login_are_guarded_side_by_side(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=Options(), accounts=2) as system:
        await system.until_protected()
        first, second = (account.id for account in system.settings.accounts)
        await system.fault("slow", target="/api/Position/partialCloseContract", count=1, delay_s=4)
        await system.order("MNQ", 5, account=first)
        await trio.sleep(0.3)
        await system.order("MNQ", 5, account=second)
        books = system.double.books
        contract = next(iter(books[second].positions.rows())).contract.id
        assert await system.until(lambda: system.double.position(second, contract) == 2) < 2
        await system.until(lambda: system.double.position(first, contract) == 2, 10)


async def test_a_gateway_that_answers_nothing_does_not_hold_up_the_stop(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        for path in ("Account/search", "Trade/search", "Position/searchOpen", "Position/partialCloseContract"):
            await system.fault("timeout_before", target=f"/api/{path}")
        await system.order("MNQ", 5)
        await trio.sleep(4)
        began = trio.current_time()
        await system.stop()
        assert trio.current_time() - began < 5
