"""A product that the broker does not know is told of: a limit on it guards nothing. Guarding never waits for that."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from flatguard.daemon import products
from flatguard.gateway.rest import Gateway
from flatguard.journal.reading import read_facts
from flatguard.model.trading import Contract
from flatguard.rules.max_contracts import MaxContracts
from flatguard.rules.max_contracts_per_instrument import MaxContractsPerInstrument
from tests.fakes.other_rules import Touchy
from tests.fakes.system import System, open_system

AVAILABLE, SEARCH = "/api/Contract/available", "/api/Contract/search"
GOOD = {
    "max_contracts": MaxContracts(limit=2, enforcement="reduce_to_limit", weights={"EP": Decimal(1), "MNQ": Decimal(1)})
}
MISTYPED = {
    "max_contracts": MaxContracts(limit=2, enforcement="reduce_to_limit"),
    "max_contracts_per_instrument": MaxContractsPerInstrument({"MMQ": 2, "MNQ": 2, "WXYZ": 1, "ES": 1}),
}
FOUND = [
    "max_contracts_per_instrument names MMQ, which the broker does not know; did you mean MYM or MNQ?",
    "max_contracts_per_instrument names WXYZ, which the broker does not know; correct it, or take it out",
]


def findings(system: System) -> Any:
    """What the standing of the account says."""
    assert system.at_work is not None
    return system.at_work.standing(system.account_id)["findings"]


def told(system: System) -> list[str]:
    return [sentence for sentence in system.said if "names" in sentence]


async def test_an_unknown_product_is_told_once_stands_in_the_standing_and_ends_nothing(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, MISTYPED) as system:
        await system.until_protected()
        await system.until(lambda: findings(system) == FOUND)
        await trio.sleep(100)
        assert told(system) == [f"account {system.account_id}: {sentence}" for sentence in FOUND]
        assert system.protection == "PROTECTED"
        _, standing = read_facts(system.settings.journal.path).standings[system.account_id]
        assert json.loads(json.dumps(standing["findings"])) == FOUND
        await system.order("MNQ", 3)
        await system.until(lambda: system.held("MNQ") == 2)


async def test_known_products_cost_one_request_a_round_however_they_are_written(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "LOOK_AROUND_S", 150.0)
    async with open_system(tmp_path, GOOD) as system:
        await system.until_protected()
        await trio.sleep(100)
        assert (len(system.requests(AVAILABLE)), system.requests(SEARCH)) == (1, [])
        assert findings(system) == []
        await trio.sleep(100)
        assert len(system.requests(AVAILABLE)) == 2
        assert told(system) == []


async def test_settings_that_name_no_product_ask_nothing(tmp_path: Path, autojump_clock: object) -> None:
    rules = {"max_contracts": MaxContracts(), "touchy": Touchy("faulty", {"WXYZ": 1})}
    async with open_system(tmp_path, rules) as system:
        await system.until_protected()
        await trio.sleep(100)
        assert system.requests(AVAILABLE) == []
        assert findings(system) == []


async def test_it_is_asked_until_it_is_answered_and_guarding_does_not_wait(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, MISTYPED, started=False) as system:
        await system.fault("http_500", target=AVAILABLE)
        await system.start()
        await system.until_protected()
        await system.order("MNQ", 3)
        await system.until(lambda: system.held("MNQ") == 2, 5)
        await trio.sleep(600)
        assert findings(system) == []
        assert system.protection == "PROTECTED"
        await system.heal()
        await system.until(lambda: findings(system) == FOUND, 200)


async def test_neither_an_empty_list_nor_one_short_list_accuses_anybody(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, asked = Gateway.contracts, 0

    async def short_at_first(gateway: Gateway) -> tuple[Contract, ...]:
        nonlocal asked
        asked += 1
        rows = await whole(gateway)
        return () if asked == 1 else rows[:1] if asked == 2 else rows

    async def nothing(gateway: Gateway, text: str) -> tuple[Contract, ...]:
        await trio.lowlevel.checkpoint()
        return ()

    monkeypatch.setattr(Gateway, "contracts", short_at_first)
    monkeypatch.setattr(Gateway, "contracts_named", nothing)
    async with open_system(tmp_path, GOOD) as system:
        await system.until_protected()
        await trio.sleep(100)
        assert asked == 3
        assert findings(system) == told(system) == []


async def test_a_product_that_is_not_offered_and_is_found_by_a_search_is_known(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Gateway.contracts

    async def without_es(gateway: Gateway) -> tuple[Contract, ...]:
        return tuple(contract for contract in await whole(gateway) if contract.ticker != "ES")

    monkeypatch.setattr(Gateway, "contracts", without_es)
    async with open_system(tmp_path, GOOD) as system:
        await system.until_protected()
        await trio.sleep(100)
        assert len(system.requests(SEARCH)) == 1
        assert findings(system) == []


async def test_a_product_that_is_named_by_a_root_we_do_not_know_is_told_with_its_ticker(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Gateway.contracts

    async def renamed(gateway: Gateway) -> tuple[Contract, ...]:
        rows = await whole(gateway)
        return tuple(evolve(row, name="NEWU6") if row.root == "MES" else row for row in rows if row.ticker != "ES")

    async def none(gateway: Gateway, text: str) -> tuple[Contract, ...]:
        await trio.lowlevel.checkpoint()
        return ()

    monkeypatch.setattr(Gateway, "contracts", renamed)
    monkeypatch.setattr(Gateway, "contracts_named", none)
    async with open_system(tmp_path, {"max_contracts": MaxContracts(weights={"MES": Decimal(1)})}) as system:
        await system.until(lambda: findings(system))
        assert findings(system)[0].endswith("did you mean NEW?")


async def test_what_is_listed_on_a_later_day_is_not_held_against_the_settings_any_more(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "LOOK_AROUND_S", 60.0)
    async with open_system(tmp_path, MISTYPED) as system:
        await system.until(lambda: findings(system) == FOUND)
        whole = Gateway.contracts

        async def newly_listed(gateway: Gateway) -> tuple[Contract, ...]:
            rows = await whole(gateway)
            return (*rows, evolve(rows[0], name="WXYZU6"))

        monkeypatch.setattr(Gateway, "contracts", newly_listed)
        await system.until(lambda: findings(system) == FOUND[:1], 100)
        assert len(told(system)) == 2
