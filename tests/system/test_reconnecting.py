"""Hubs that are cut, frozen or logged out: what was missed is read, named and judged, and the hub comes back."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest
import trio

from flatguard.model.events import (
    Event,
    Hub,
    LinkDown,
    LinkUp,
    OrderChanged,
    PositionChanged,
    TradeMade,
)
from flatguard.model.ids import AccountId, ContractId
from flatguard.rules.max_contracts import MaxContracts
from flatguard.signalr import Invocation, Message
from flatguard.signalr_client.reconnect import STABLE_S
from flatguard.simulator.hubs import Client
from flatguard.simulator.options import Options
from tests.fakes.system import System, open_system
from tests.fakes.truth import disagreements, named, tape_of

pytestmark = pytest.mark.slow

PLENTY = {"max_contracts": MaxContracts(limit=50)}
REDUCE_TO_2 = {"max_contracts": MaxContracts(limit=2, enforcement="reduce_to_limit")}


def up(system: System) -> bool:
    return system.state.links[Hub.USER].up


async def until_it_agrees(system: System, seconds: float = 30.0, account_id: AccountId | None = None) -> float:
    """Return once the hub is up and the picture is the broker's, and how long that took."""
    try:
        return await system.until(lambda: up(system) and not disagreements(system, account_id), seconds)
    except trio.TooSlowError:
        raise AssertionError(disagreements(system, account_id)) from None


# --- What was missed ---


@pytest.mark.parametrize("away_s", [1.5, 30.0], ids=["a moment", "long enough to poll"])
async def test_an_order_a_fill_and_a_close_that_were_missed_are_read_to_the_cent_and_named(
    tmp_path: Path, autojump_clock: object, away_s: float
) -> None:
    async with open_system(tmp_path, PLENTY, options=Options()) as system:
        await system.until_protected()
        await system.order("MNQ", 2)
        await system.order("ES", 1)
        resting = await system.order("MNQ", 1, limit=20_000)
        await until_it_agrees(system)
        await trio.sleep(5)
        tape = tape_of(system)
        await system.fault("refuse_hub", target="user", duration_s=away_s)
        await system.fault("cut_hub", target="user")
        await system.until(lambda: not up(system))
        await system.order("ES", -1)
        await system.order("MES", 3)
        missed = await system.order("MES", -1, limit=int(system.last("MES") * Decimal("1.1")))
        system.double.cancel(system.account_id, resting, system.gateway.gateway.now())
        system.gateway.gateway.stir()
        await system.until(lambda: up(system), 90)
        await until_it_agrees(system, 5)
        assert len(system.state.trades) == 4
        told = named(tape)
        for what in ("position ES", "position MES", "fill", f"order {missed}", f"order {resting}"):
            assert what in told, told


@pytest.mark.parametrize("accounts", [1, 6])
async def test_with_a_broker_that_takes_100_ms_the_picture_is_reconciled_within_5_s_of_the_loss(
    tmp_path: Path, autojump_clock: object, accounts: int
) -> None:
    async with open_system(tmp_path, PLENTY, options=Options(), accounts=accounts) as system:
        ids = [account.id for account in system.settings.accounts]
        await system.until_protected()
        for account_id in ids:
            await system.order("MNQ", 2, account=account_id)
        await trio.sleep(10)
        await system.fault("slow", delay_s=0.1)
        took: list[float] = []
        for round_ in range(4):
            await system.fault("refuse_hub", target="user", duration_s=0.05)  # what happens now is told to nobody
            await system.fault("cut_hub", target="user")
            began = trio.current_time()
            for account_id in ids:
                await system.order("MNQ", 1 if round_ % 2 else -1, account=account_id)
            await system.until(lambda: not up(system))
            for account_id in ids:
                await until_it_agrees(system, account_id=account_id)
            took.append(trio.current_time() - began)
            await trio.sleep(STABLE_S + 10)  # then a loss is a first one again
        print(f"reconciled after {', '.join(f'{seconds:.2f}' for seconds in took)} s")
        assert max(took) < 5


# --- What goes on all the while ---

EVENTS_A_SECOND = 60
STORM_S = 200.0
BUSY = Options().but(market_step_ms=100)


async def trade_in_a_storm(system: System, chance: Random) -> None:
    held = dict.fromkeys(("MNQ", "MES", "M2K"), 0)
    while True:
        ticker = chance.choice(tuple(held))
        size = -1 if held[ticker] >= 5 else 1 if held[ticker] <= -5 else chance.choice((-1, 1))
        held[ticker] += size
        await system.order(ticker, size)
        await trio.sleep(chance.uniform(0.05, 0.15))


def as_sent(message: Invocation) -> Iterator[tuple[object, ...]]:
    """Yield what a message of the user hub tells, but for the account's balance."""
    if message.target == "GatewayQuote" or message.target == "GatewayUserAccount":
        return
    row = message.arguments[0]["data"]
    match message.target:
        case "GatewayUserOrder":
            yield "order", row["id"], row["status"]
        case "GatewayUserPosition":
            yield "position", row["contractId"], row["size"]
        case "GatewayUserTrade":
            yield "trade", row["id"]


def as_told(tape: list[Event]) -> list[list[tuple[object, ...]]]:
    """Return the same of what came by the hub, connection by connection."""
    told: list[list[tuple[object, ...]]] = [[]]
    for event in tape:
        match event:
            case LinkUp(hub=Hub.USER):
                told.append([])
            case OrderChanged(order=order):
                told[-1].append(("order", order.id, order.status))
            case PositionChanged(position=position):
                told[-1].append(("position", position.contract_id, abs(position.size)))
            case TradeMade(trade=trade):
                told[-1].append(("trade", trade.id))
    return [segment for segment in told if segment]


async def cut_at_random(system: System, chance: Random) -> None:
    while True:
        await trio.sleep(chance.uniform(5, 50))
        hub = chance.choice(("user", "market"))
        if chance.random() < 0.5:
            await system.fault("refuse_hub", target=hub, duration_s=chance.uniform(0, 5))
        await system.fault(chance.choice(("cut_hub", "close_hub")), target=hub)


async def test_with_60_events_a_second_and_cuts_at_random_every_fill_counts_once_and_in_order(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: dict[Client, list[tuple[object, ...]]] = {}
    counted = 0
    post = Client.post

    def count(client: Client, message: Message) -> None:
        nonlocal counted
        if isinstance(message, Invocation):
            counted += 1
            sent.setdefault(client, []).extend(as_sent(message))
        post(client, message)

    monkeypatch.setattr(Client, "post", count)
    chance = Random(1)
    async with open_system(tmp_path, PLENTY, options=BUSY) as system:
        tape = tape_of(system)
        await system.until_protected()
        counted, up_s = 0, 0.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trade_in_a_storm, system, chance)
            nursery.start_soon(cut_at_random, system, chance)
            for _ in range(int(STORM_S)):
                up_s += all(link.up for link in system.state.links.values())
                await trio.sleep(1)
            nursery.cancel_scope.cancel()
        assert 0.1 * STORM_S < up_s < STORM_S - 10
        assert counted / up_s > EVENTS_A_SECOND
        await system.until(lambda: up(system), 60)
        await until_it_agrees(system, 5)
        assert len(system.state.trades) == system.state.realized.fills > 500
        connections = iter(list(said) for said in sent.values() if said)
        for told in as_told(tape):
            assert any(said[: len(told)] == told for said in connections), "a connection tells in order, up to its end"


# --- A hub that is frozen ---


async def freeze_and_trade(system: System, account_id: AccountId) -> None:
    """Freeze the user hub, have the account break its limit, and hold the daemon to its ten seconds."""
    tape = tape_of(system)
    frozen = {client for client in system.gateway.gateway.clients if client.hub == "user"}
    await system.fault("freeze_hub", target="user")
    await trio.sleep(1.3)
    await system.order("MNQ", 5, account=account_id)
    assert system.at_work is not None
    (row,) = system.double.books[account_id].positions.rows()
    contract = row.contract.id
    began = trio.current_time()
    await system.until(lambda: named(tape))
    assert trio.current_time() - began < 10
    await system.until(lambda: system.double.position(account_id, contract) == 2)
    assert trio.current_time() - began < 10, "the rule is enforced"
    await system.until(lambda: not frozen.intersection(system.gateway.gateway.clients), 15)
    await system.heal()  # what was frozen was that connection
    await until_it_agrees(system, 15, account_id)
    state = system.at_work.board.states
    await system.order("MNQ", 1, account=account_id)
    await system.until(lambda: state[account_id].size_of(ContractId(contract)) == 3, 1)
    await system.until(lambda: system.double.position(account_id, contract) == 2, 5)


@pytest.mark.parametrize("accounts", [1, 6])
async def test_a_frozen_user_hub_is_noticed_within_10_s_of_what_it_withheld_and_a_new_connection_cures_it(
    tmp_path: Path, autojump_clock: object, accounts: int
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=Options(), accounts=accounts) as system:
        await system.until_protected()
        for account in system.settings.accounts:  # each in its turn of the readings
            await trio.sleep(70)
            await freeze_and_trade(system, account.id)


# --- Logged out ---


def reasons(tape: list[Event], hub: Hub) -> str:
    return "; ".join(event.reason for event in tape if isinstance(event, LinkDown) and event.hub is hub)


@pytest.mark.parametrize("hub", [Hub.USER, Hub.MARKET])
async def test_logged_out_of_a_hub_while_the_session_holds_it_comes_back_with_the_same_token(
    tmp_path: Path, autojump_clock: object, hub: Hub
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=Options()) as system:
        await system.until_protected()
        tape = tape_of(system)
        await system.fault("logout_hub", target=str(hub))
        await system.until(lambda: reasons(tape, hub))
        await system.until(lambda: system.state.links[hub].up)
        assert "our session holds" in reasons(tape, hub)
        assert "ended our session" not in reasons(tape, hub)
        assert len(system.requests("/api/Auth/loginKey")) == 1
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2, 2)


async def test_logged_out_of_a_session_that_has_ended_it_comes_back_with_a_new_login(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, options=Options()) as system:
        await system.until_protected()
        assert system.at_work is not None
        tape = tape_of(system)
        system.gateway.gateway.tokens.end((await system.at_work.token.current()).reveal())
        await system.fault("logout_hub", target="user")
        await system.fault("logout_hub", target="market")
        await system.order("MNQ", 5)
        assert await system.until(lambda: system.held("MNQ") == 2, 10) < 5
        await system.until(lambda: all(system.state.links[hub].up for hub in Hub))
        said = reasons(tape, Hub.USER) + reasons(tape, Hub.MARKET)
        assert said.count("the broker ended our session") == 2
        assert "our session holds" not in said
        assert len(system.requests("/api/Auth/loginKey")) == 2, "one login for all"
        await until_it_agrees(system)
