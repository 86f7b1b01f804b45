"""Requests that fail, hang, lie or are lost: nothing is carried out twice, nothing is taken for flat, exits go on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from flatguard.gateway.allowance import Lane
from flatguard.gateway.breaker import OPEN_S
from flatguard.gateway.http import HttpClient
from flatguard.gateway.rest import Gateway
from flatguard.model.events import Hub
from flatguard.model.ids import ContractId
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.simulator.contracts import find_contract
from flatguard.simulator.operations import Call
from flatguard.simulator.options import Options
from tests.fakes.system import System, open_system
from tests.fakes.truth import disagreements, turned_away

pytestmark = pytest.mark.slow

PLENTY = {"max_contracts": MaxContracts(limit=50)}
REDUCE_TO_2 = {"max_contracts": MaxContracts(limit=2, enforcement="reduce_to_limit")}
CLOSE_ALL = {"max_contracts": MaxContracts(limit=2, enforcement="close_all")}
LOSS_500 = {"daily_realized_loss": DailyRealizedLoss(loss_limit=Decimal(500))}
CLOSE, PARTIAL, CANCEL = (
    "/api/Position/closeContract",
    "/api/Position/partialCloseContract",
    "/api/Order/cancel",
)
LOGIN, VALIDATE, CONTRACT = "/api/Auth/loginKey", "/api/Auth/validate", "/api/Contract/searchById"


def contract_id(ticker: str) -> ContractId:
    contract = find_contract(ticker)
    assert contract is not None
    return ContractId(contract.id)


def when(request: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(request["time"]).timestamp()


def sizes(system: System, ticker: str) -> list[int]:
    """Return every size that the position ever had by the broker's books."""
    return [row.size for row in system.double.books[system.account_id].positions.history(contract_id(ticker))]


def closed_by_us(system: System) -> int:
    """Return how many contracts were filled by orders of the close endpoints."""
    rows = system.double.books[system.account_id].orders.rows()
    return sum(row.fill_volume for row in rows if row.closing)


# --- The token, while something is going on ---


async def test_a_token_refreshed_in_the_middle_of_a_flatten_fails_no_request_and_the_flatten_completes(
    tmp_path: Path, autojump_clock: object
) -> None:
    rules = {**CLOSE_ALL, **LOSS_500}
    async with open_system(tmp_path, rules, options=Options().but(token_life_s=120)) as system:
        began = system.clock.now()
        await system.until_protected()
        await system.order("ES", 1)
        for step in range(3):
            await system.order("MNQ", 1, limit=20_000 + step)
        await system.until(lambda: (system.clock.now() - began).total_seconds() > 58.0, 70)
        await system.fault("slow", target=VALIDATE, delay_s=2)
        await system.fault("http_500", target=CLOSE, count=4)  # so that it takes a while
        await system.order("MNQ", 5)
        assert system.at_work is not None
        token = system.at_work.token
        first = await token.current()
        await system.until(lambda: system.requests(CLOSE), 2)
        await system.until(lambda: str(token.state.phase) == "refreshing", 5)
        await system.until(lambda: token.expires_at > began + timedelta(seconds=130), 5)
        assert system.stories()[0].proven_at is None, "the flatten is going on"
        await system.until(lambda: system.stories() and system.stories()[0].proven_at, 30)
        assert await token.current() != first
        assert system.held("MNQ") == 0
        assert turned_away(system, 401) == []
        assert (len(system.requests(LOGIN)), len(system.requests(VALIDATE))) == (1, 1)


@pytest.mark.parametrize("closes", [False, True], ids=["the broker leaves hubs open", "the broker closes them"])
async def test_over_the_lives_of_many_short_tokens_nobody_is_turned_away_and_no_event_is_lost(
    tmp_path: Path, autojump_clock: object, *, closes: bool
) -> None:
    life_s, lives = 300.0, 4
    options = Options().but(token_life_s=life_s, close_hub_on_expiry=closes)
    async with open_system(tmp_path, PLENTY, options=options) as system:
        await system.until_protected()
        ends, turn = trio.current_time() + lives * life_s, 1
        while trio.current_time() < ends:
            await system.order("MNQ", turn)
            turn = -turn
            await trio.sleep(3.1)
        await system.until(lambda: not disagreements(system))
        assert turned_away(system, 401) == []
        assert len(system.requests(LOGIN)) == 1
        assert lives < len(system.requests(VALIDATE)) <= 2 * lives + 1, "one for each half of a life"
        assert system.protection == "PROTECTED"


# --- Too many requests, and too many failures ---


async def test_300_requests_at_once_end_with_everything_done_nothing_refused_and_a_close_in_the_middle_at_once(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=Options()) as system:
        await system.until_protected()
        assert system.at_work is not None
        allowance, done = system.at_work.allowance, 0
        http = HttpClient(system.settings.gateway.rest_url, system.world.transport)
        routine = Gateway(http, system.at_work.token, system.clock, allowance, Lane.ROUTINE)

        async def ask() -> None:
            nonlocal done
            await routine.contract(contract_id("MNQ"))
            done += 1

        async with trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(ask)
            await trio.sleep(5)
            assert 0 < done < 300
            await system.order("MNQ", 5)
            assert await system.until(lambda: system.held("MNQ") == 2, 5) < 0.5
            await system.until(lambda: system.stories()[0].proven_at, 10)
        await http.aclose()
        assert done == 300
        assert not [r for r in system.gateway.gateway.requests if r["outcome"].get("status") == 429]
        waits = allowance.statistics().longest_wait_s
        assert waits[Lane.CLOSE] == waits[Lane.ENFORCEMENT] == waits[Lane.CONFIRMATION] == 0


async def test_the_breaker_opens_for_routine_calls_only_and_three_probes_close_it_again(
    tmp_path: Path, autojump_clock: object
) -> None:
    """That one contract opens it, and that it then keeps quiet, is in test_requests."""
    async with open_system(tmp_path, REDUCE_TO_2, options=Options()) as system:
        await system.until_protected()
        assert system.at_work is not None
        breaker = system.at_work.patience.breaker
        await system.fault("http_500", target=CONTRACT)
        for ticker in ("MES", "M2K", "MYM"):
            await system.order(ticker, 1, limit=int(system.last(ticker) * Decimal("0.9")))
        await system.until(lambda: breaker.state(trio.current_time()) == "open", 30)
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2, 2)
        assert breaker.state(trio.current_time()) == "open", "enforcement acts all the same"
        assert system.state.contracts == {}
        await system.heal()
        await system.until(lambda: breaker.state(trio.current_time()) == "closed", 2 * OPEN_S)
        await system.until(lambda: len(system.state.contracts) == 4, 30)


# --- The network dies between request and answer ---

LOST = ("timeout_after", "reset_after", "http_500_after", "error_unknown_after")


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize("strikes", [1, 3])
async def test_a_partial_close_whose_answer_is_lost_is_carried_out_once(
    tmp_path: Path, autojump_clock: object, fault: str, strikes: int
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=Options()) as system:
        await system.until_protected()
        await system.fault(fault, target=PARTIAL, count=strikes)
        await system.order("MNQ", 5)
        await system.until(lambda: system.stories() and system.stories()[0].proven_at, 60)
        await trio.sleep(20)
        assert sizes(system, "MNQ")[-1] == min(sizes(system, "MNQ")[1:], default=2) == 2
        assert closed_by_us(system) == 3


@pytest.mark.parametrize("fault", LOST)
@pytest.mark.parametrize("size", [5, -5])
async def test_a_close_whose_answer_is_lost_ends_flat_and_never_flips(
    tmp_path: Path, autojump_clock: object, fault: str, size: int
) -> None:
    async with open_system(tmp_path, CLOSE_ALL, options=Options()) as system:
        await system.until_protected()
        await system.fault(fault, target=CLOSE, count=3)
        await system.order("MNQ", size)
        await system.until(lambda: system.stories() and system.stories()[0].proven_at, 60)
        await trio.sleep(20)
        assert sizes(system, "MNQ")[-1] == 0
        assert not any(held * size < 0 for held in sizes(system, "MNQ")), "it never flips"
        assert closed_by_us(system) == 5


@pytest.mark.parametrize("fault", LOST)
async def test_a_cancel_whose_answer_is_lost_leaves_no_order_and_holds_up_no_close(
    tmp_path: Path, autojump_clock: object, fault: str
) -> None:
    async with open_system(tmp_path, CLOSE_ALL, options=Options()) as system:
        await system.until_protected()
        await system.fault(fault, target=CANCEL, count=4)
        await system.order("MNQ", 5)
        for step in range(3):
            await system.order("MNQ", 1, limit=20_000 + step)
        await system.order("MNQ", 3)
        await system.until(lambda: system.held("MNQ") == 0, 5)
        await system.until(lambda: all(story.proven_at for story in system.stories()), 60)
        await trio.sleep(20)
        assert (system.held("MNQ"), system.working()) == (0, [])
        assert not any(held < 0 for held in sizes(system, "MNQ"))


async def test_lists_that_are_old_do_not_have_a_partial_close_carried_out_twice(
    tmp_path: Path, autojump_clock: object
) -> None:
    rules = {"max_contracts": MaxContracts(limit=5, enforcement="reduce_to_limit")}
    async with open_system(tmp_path, rules, options=Options()) as system:
        await system.until_protected()
        await system.fault("stale_read")
        await system.order("MNQ", 8)
        await system.until(lambda: system.held("MNQ") == 5, 2)
        await trio.sleep(30)
        assert sizes(system, "MNQ")[-1] == 5
        assert closed_by_us(system) == 3


# --- Everything fails ---


async def test_while_every_request_is_answered_by_500_closes_go_on_it_is_blind_and_then_flat_within_seconds(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, CLOSE_ALL, options=Options()) as system:
        await system.until_protected()
        await system.fault("http_500")
        await system.order("MNQ", 5)
        began, tried = trio.current_time(), len(system.requests(CLOSE))
        blind_after: float | None = None
        while trio.current_time() < began + 60:
            if blind_after is None and system.protection == "BLIND":
                blind_after = trio.current_time() - began
            await trio.sleep(0.5)
        assert blind_after is not None
        assert blind_after < 20, "three readings that did not come"
        sent = [when(request) - when(system.requests(CLOSE)[0]) for request in system.requests(CLOSE)[tried:]]
        assert max(after - before for before, after in pairwise([*sent, 60.0])) < 6, "closes are tried all the time"
        await system.heal()
        assert await system.until(lambda: system.held("MNQ") == 0, 10) < 6
        await system.until(lambda: system.protection == "PROTECTED" and not disagreements(system), 10)


# --- Answers that are none ---


@pytest.mark.parametrize("hub", ["with the hub", "without the hub"])
@pytest.mark.parametrize("fault", ["missing_list", "stale_read", "html_body", "error_unknown", "code 1"])
async def test_readings_that_say_nothing_or_lie_are_never_read_as_flat(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch, fault: str, hub: str
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=Options()) as system:
        await system.until_protected()
        if fault == "stale_read":  # the lists are from before the position
            await system.fault(fault)
        await system.order("MNQ", 2)
        resting = await system.order("MNQ", 1, limit=20_000)
        await system.until(lambda: system.state.size_of(contract_id("MNQ")) == 2 and system.state.working_orders, 5)
        if fault == "code 1":
            monkeypatch.setattr(Call, "book", lambda *_: None)
        elif fault != "stale_read":
            for path in ("/api/Position/searchOpen", "/api/Order/v2/query", "/api/Trade/search"):
                await system.fault(fault, target=path)
        if hub == "without the hub":
            await system.fault("refuse_hub", target="user")
            await system.fault("cut_hub", target="user")
        for _ in range(100):
            await trio.sleep(0.2)
            assert system.state.size_of(contract_id("MNQ")) == 2
            if fault != "stale_read":  # old lists have the hub cut, and a cancel might have been missed then
                assert [order.id for order in system.state.working_orders] == [resting]
        if fault != "stale_read":
            assert system.protection == "BLIND"
            assert system.state.read_failed
        monkeypatch.undo()
        await system.heal()
        await system.until(lambda: system.state.links[Hub.USER].up and system.protection == "PROTECTED", 90)
        await system.until(lambda: not disagreements(system))
