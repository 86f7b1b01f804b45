"""The token's life in the whole system, on virtual time: refreshed, rotated, refused, stored; and nothing is missed."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import keyring
import pytest
import trio
from attrs import evolve

from flatguard.gateway.rotation import APART_S
from flatguard.gateway.token import Phase
from flatguard.model.events import Hub
from flatguard.rules.max_contracts import MaxContracts
from flatguard.settings.secrets import sealed_file
from flatguard.signalr_client import Phase as LinkPhase
from flatguard.simulator.options import Options
from tests.fakes.keyring import Keyring
from tests.fakes.system import System, open_system

pytestmark = pytest.mark.slow

PLENTY = {"max_contracts": MaxContracts(limit=50)}
LIFE_S = 700.0  # short: a second of it costs twenty milliseconds
LIVELY = Options().but(token_life_s=LIFE_S)
CALM = Options.calm().but(token_life_s=LIFE_S)


def upgrades(system: System, hub: Hub, since: datetime) -> list[float]:
    """Return when somebody connected to a hub, in seconds after ``since``."""
    return [
        (datetime.fromisoformat(request["time"]) - since).total_seconds()
        for request in system.requests(f"/hubs/{hub}")
        if request["outcome"].get("status") == 101
    ]


def refused(system: System) -> list[str]:
    """Return the paths of the requests that came with a token that is over."""
    return [entry["path"] for entry in system.gateway.gateway.requests if entry["outcome"].get("status") == 401]


async def sleep_until(system: System, seconds: float, since: datetime) -> None:
    await trio.sleep(seconds - (system.clock.now() - since).total_seconds())


async def trade_on(system: System, seconds: float) -> int:
    """Let the trader turn about for so long; return how many orders he has placed."""
    ends, orders = trio.current_time() + seconds, 0
    while trio.current_time() < ends:
        await system.order("MNQ", 1 if orders % 2 == 0 else -1)
        orders += 1
        await trio.sleep(1.7)
    return orders


@pytest.mark.parametrize("closes", [False, True], ids=["the broker leaves hubs open", "the broker closes them"])
async def test_each_hub_gets_the_new_token_in_time_and_nothing_is_lost_or_counted_twice(
    tmp_path: Path, autojump_clock: object, *, closes: bool
) -> None:
    async with open_system(tmp_path, PLENTY, options=LIVELY.but(close_hub_on_expiry=closes)) as system:
        began = system.clock.now()
        await system.until_protected()
        await system.order("ES", 2)  # so that no moment is quiet
        await sleep_until(system, LIFE_S / 2 - 10, began)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trade_on, system, 120.0)
            assert system.at_work is not None
            link = system.at_work.hubs[Hub.USER]
            await system.fault("refuse_hub", target="user")
            await system.until(lambda: link.state.phase is not LinkPhase.CONNECTED, 200)
            await trio.sleep(2)  # trades go on while the user hub is away
            await system.heal()
        await system.until(lambda: link.state.phase is LinkPhase.CONNECTED)
        await sleep_until(system, LIFE_S + 60, began)
        await system.until(lambda: system.state.realized.net == system.broker_net)
        assert {str(c): p.size for c, p in system.state.positions.items()} == {
            row["contractId"]: row["size"] * (1 if row["type"] == 1 else -1)
            for row in (await system.rest.truth())["positions"]
            if row["accountId"] == system.account_id
        }
        market = [at for at in upgrades(system, Hub.MARKET, began) if at < LIFE_S]  # then it gets the third token
        user = [at for at in upgrades(system, Hub.USER, began) if at < LIFE_S + 30]
        assert (len(market), len(user)) == (2, 2), "at the start, and once before the end of the token"
        assert LIFE_S / 2 <= market[1] < market[1] + APART_S <= user[1] < LIFE_S
        assert refused(system) == []
        assert len(system.requests("/api/Auth/loginKey")) == 1


async def test_a_quiet_moment_is_taken_as_soon_as_there_is_a_newer_token(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, PLENTY, options=CALM) as system:
        began = system.clock.now()
        await system.until_protected()
        await sleep_until(system, LIFE_S / 2 + 200, began)
        for hub in (Hub.MARKET, Hub.USER):
            first, second = upgrades(system, hub, began)
            assert first < 10
            assert LIFE_S / 2 <= second <= LIFE_S / 2 + 100
        market, user = upgrades(system, Hub.MARKET, began)[1], upgrades(system, Hub.USER, began)[1]
        assert user - market >= APART_S


async def test_no_hub_is_left_while_the_other_is_away(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, PLENTY, options=CALM) as system:
        began = system.clock.now()
        await system.until_protected()
        await sleep_until(system, LIFE_S / 2 - 30, began)
        await system.fault("refuse_hub", target="market")
        await system.fault("cut_hub", target="market")
        await sleep_until(system, LIFE_S - 60, began)
        assert len(upgrades(system, Hub.USER, began)) == 1
        await system.heal()
        await sleep_until(system, LIFE_S + 100, began)
        assert system.protection == "PROTECTED"
        assert refused(system) == []


async def test_a_refused_login_is_in_the_reason_of_every_account_and_told_once(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, PLENTY, options=CALM, accounts=2) as system:
        began = system.clock.now()
        await system.until_protected()
        assert system.at_work is not None
        assert system.at_work.link()["token"] == "valid until 2026-03-18T14:41:40Z"
        user = next(iter(system.double.users.values()))
        system.double.users[user.user_name] = evolve(user, key_login=False)
        await system.fault("http_500", target="/api/Auth/validate")
        await sleep_until(system, LIFE_S / 2 + 30, began)
        for account in system.settings.accounts:
            standing = system.at_work.standing(account.id)
            assert standing["protection"] == "PROTECTED", "what we hold is good still"
            assert str(standing["reason"]).startswith("LOGIN_REFUSED until 2026-03-18T14:41:40Z: the gateway refused")
        assert system.at_work.link()["token"].startswith("LOGIN_REFUSED")
        assert [link.state.phase for link in system.at_work.hubs.values()] == [LinkPhase.CONNECTED] * 2
        await sleep_until(system, LIFE_S + 60, began)
        assert system.protection == "BLIND"
        assert system.at_work.token.state.phase is Phase.LOGIN_REFUSED
        assert len([sentence for sentence in system.said if "LOGIN_REFUSED" in sentence]) == 1
        assert len(system.requests("/api/Auth/loginKey")) < 6
        system.double.users[user.user_name] = user
        await system.until(lambda: system.protection == "PROTECTED", 400)
        assert "the gateway accepts the login again" in system.said


async def test_enforcement_goes_on_with_the_old_token_while_a_new_one_does_not_come(
    tmp_path: Path, autojump_clock: object
) -> None:
    rules = {"max_contracts": MaxContracts(limit=2, enforcement="reduce_to_limit")}
    async with open_system(tmp_path, rules, options=CALM) as system:
        began = system.clock.now()
        await system.until_protected()
        for path in ("/api/Auth/validate", "/api/Auth/loginKey"):
            await system.fault("timeout_before", target=path)
        await sleep_until(system, LIFE_S / 2 + 3, began)
        assert system.at_work is not None
        assert system.at_work.token.state.phase is Phase.REFRESHING
        await system.order("MNQ", 5)
        assert await system.until(lambda: system.held("MNQ") == 2) < 2


# --- A stored token ---


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    backend = Keyring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
    monkeypatch.setattr("flatguard.settings.paths.state_folder", lambda: tmp_path / "state")
    return backend


def storing(system: System, storage: str) -> None:
    system.settings = evolve(system.settings, gateway=evolve(system.settings.gateway, token_storage=storage))


async def test_a_restart_uses_the_stored_token_and_does_not_log_in_again(
    tmp_path: Path, autojump_clock: object, machine: Keyring
) -> None:
    async with open_system(tmp_path, PLENTY, options=CALM, started=False) as system:
        storing(system, "encrypted")
        path = sealed_file(system.settings.gateway.login, "token")
        for end in (system.stop, system.kill, system.stop):
            await system.start()
            await system.until_protected()
            await system.until(path.exists)
            await end()
        assert len(system.requests("/api/Auth/loginKey")) == 1
        assert len(system.requests("/api/Auth/validate")) == 2
        assert system.requests("/api/Auth/logout") == [], "stopping is no logging out"
        path.write_bytes(b"damage")
        system.said.clear()
        await system.start()
        await system.until_protected()
        assert len([s for s in system.said if "it is deleted, and flatguard logs in" in s]) == 1
        assert len(system.requests("/api/Auth/loginKey")) == 2
        await system.stop()


async def test_a_stored_token_that_is_over_leads_to_a_login(
    tmp_path: Path, autojump_clock: object, machine: Keyring
) -> None:
    async with open_system(tmp_path, PLENTY, options=CALM, started=False) as system:
        storing(system, "encrypted")
        await system.start()
        await system.until_protected()
        await trio.sleep(1)
        await system.stop()
        await trio.sleep(timedelta(hours=1).total_seconds())
        await system.start()
        await system.until_protected()
        assert len(system.requests("/api/Auth/loginKey")) == 2


async def test_by_default_nothing_is_stored(tmp_path: Path, autojump_clock: object, machine: Keyring) -> None:
    async with open_system(tmp_path, PLENTY, options=CALM) as system:
        await system.until_protected()
        await trio.sleep(5)
        assert not (tmp_path / "state").exists()
        assert machine.kept == {}


async def test_a_keyring_that_waits_for_a_person_is_not_waited_for(
    tmp_path: Path, autojump_clock: object, machine: Keyring
) -> None:
    from collections.abc import Callable
    from typing import Any

    from flatguard.settings.token_file import TokenFile
    from tests.fakes.system import inline

    async def asks_nobody(function: Callable[..., Any], *arguments: Any, abandon_on_cancel: bool = False) -> Any:
        if getattr(function, "__self__", None).__class__ is TokenFile:
            await trio.sleep_forever()
        return await inline(function, *arguments)

    async with open_system(tmp_path, PLENTY, options=CALM, started=False) as system:
        storing(system, "encrypted")
        system.run_sync = asks_nobody
        await system.start()
        await system.until_protected()
        assert [s for s in system.said if "keyring does not answer" in s]
