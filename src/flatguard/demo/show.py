"""Put the demo together: double, daemon, trader, view; then read the report from the journal and hold it against the
double's own truth.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio
from attrs import frozen

from flatguard.clock import SystemClock
from flatguard.daemon.run import Guard, World, guard
from flatguard.demo.trader import Trader
from flatguard.errors import FlatguardError
from flatguard.gateway.allowance import Allowance
from flatguard.gateway.asking import JSON
from flatguard.gateway.auth import log_in, validate
from flatguard.gateway.http import HttpClient
from flatguard.gateway.rest import Gateway
from flatguard.gateway.token import Token
from flatguard.journal.reading import BreachStory, read_facts, read_stories
from flatguard.model.ids import AccountId, ContractId
from flatguard.model.trading import Contract
from flatguard.secret import Secret
from flatguard.settings.load import Settings, load
from flatguard.signalr.framing import write_json
from flatguard.simulator.rows import order_row, position_row
from flatguard.simulator.serve import serve_simulator
from flatguard.simulator.world import World as Double

ENDS_WITHIN_S = 55.0
READY_WITHIN_S = 10.0
TICKER = "MNQ"
WORKING = frozenset({1, 6, 7, 8})
EXPECTED = frozenset({"max_contracts", "daily_realized_loss", "lockout"})

SETTINGS = """\
[gateway]
rest_url = "{rest_url}"
user_hub_url = "{user_hub_url}"
market_hub_url = "{market_hub_url}"
user_name = "{user_name}"

[journal]
path = "journal.db"

[rules.max_contracts]
limit = 3
enforcement = "reduce_to_limit"

[rules.daily_realized_loss]
loss_limit = "500"

[[accounts]]
id = {account}
mode = "enforce"
"""


@frozen
class Report:
    """What was caught, how fast, and whether the double's own truth agrees."""

    seed: int
    stories: tuple[BreachStory, ...]
    final_positions: tuple[dict[str, Any], ...]
    final_working_orders: tuple[dict[str, Any], ...]
    realized_ours: str | None
    realized_broker: str
    trouble: str | None

    @property
    def ok(self) -> bool:
        """Whether all ended as it should: everything caught, nothing left, the same P&L to the cent."""
        return not self.failures

    @property
    def failures(self) -> tuple[str, ...]:
        """What did not end as it should."""
        found = {story.rule for story in self.stories}
        failures = [] if self.trouble is None else [self.trouble]
        failures += [f"no breach of {rule} was found" for rule in sorted(EXPECTED - found)]
        failures += [f"the end of breach {s.id} was not proven" for s in self.stories if s.proven_at is None]
        if self.final_positions or self.final_working_orders:
            failures.append("the account is not flat")
        if self.realized_ours is None or Decimal(self.realized_ours) != Decimal(self.realized_broker):
            failures.append("realised P&L is not the broker's")
        return tuple(failures)


Watch = Callable[[Guard, AccountId], None]


async def show(seed: int, narrate: Callable[[str], None], watch: Watch, tell: Callable[[str], None]) -> Report:
    """Run the demo on loopback and return the report. Ends by itself within a minute.

    ``narrate`` takes what the trader does, ``watch`` the guard once it is at work, ``tell`` what the guard has to say.
    """
    clock = SystemClock()
    double = Double(seed=seed, start=clock.now())
    with tempfile.TemporaryDirectory(prefix="flatguard-demo-") as folder:
        trouble: str | None = f"not finished within {ENDS_WITHIN_S:.0f} s"
        async with trio.open_nursery() as nursery:
            ready = await nursery.start(lambda task_status: serve_simulator(double, task_status=task_status))
            user = ready["users"][0]
            account_id = AccountId(user["accounts"][0]["id"])
            settings = _settings(Path(folder), ready, account_id)
            with trio.move_on_after(ENDS_WITHIN_S):
                try:
                    await _play(settings, Secret(user["api_key"]), account_id, double, ready, narrate, watch, tell)
                    trouble = None
                except* (FlatguardError, RuntimeError) as errors:
                    trouble = _first(errors)
            report = _report(settings, seed, account_id, double, trouble)
            nursery.cancel_scope.cancel()
    return report


def _first(group: BaseExceptionGroup[Exception]) -> str:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return str(first)


def _settings(folder: Path, ready: dict[str, Any], account_id: AccountId) -> Settings:
    path = folder / "config.toml"
    path.write_text(
        SETTINGS.format(**ready, user_name=ready["users"][0]["user_name"], account=account_id), encoding="utf-8"
    )
    return load(path, {})


async def _play(
    settings: Settings,
    key: Secret,
    account_id: AccountId,
    double: Double,
    ready: dict[str, Any],
    narrate: Callable[[str], None],
    watch: Watch,
    tell: Callable[[str], None],
) -> None:
    stopping = trio.Event()
    clock = SystemClock()
    world = World(clock=clock, random=random.Random(double.seed))
    http = HttpClient(settings.gateway.rest_url)
    name = settings.gateway.user_name
    token = Token(lambda: log_in(http, name, key), lambda text: validate(http, text), clock)
    platform = Gateway(http, token, clock, Allowance())

    async def move_price(contract: Contract, price: Decimal | None) -> None:
        how: dict[str, object] = {"resume": True} if price is None else {"price": price}
        await http.post("/sim/price", write_json({"contractId": contract.id, **how}), JSON)

    try:
        async with trio.open_nursery() as nursery:
            at_work: Guard = await nursery.start(guard, settings, key, stopping, tell, world)
            watch(at_work, account_id)
            await _until_protected(at_work, account_id)
            contract = await platform.contract(_contract_id(ready))
            price = double.markets[contract.id].last
            await Trader(platform, account_id, contract, price, move_price, narrate).play()
            stopping.set()
    finally:
        await http.aclose()


def _contract_id(ready: dict[str, Any]) -> ContractId:
    return next(ContractId(row["id"]) for row in ready["contracts"] if row["name"].startswith(TICKER))


async def _until_protected(at_work: Guard, account_id: AccountId) -> None:
    with trio.fail_after(READY_WITHIN_S):
        while at_work.standing(account_id)["protection"] != "PROTECTED":
            await at_work.board.wait_ring(account_id)


def _report(settings: Settings, seed: int, account_id: AccountId, double: Double, trouble: str | None) -> Report:
    facts = read_facts(settings.journal.path)
    standing = facts.standings.get(account_id)
    book = double.books[account_id]
    return Report(
        seed=seed,
        stories=read_stories(settings.journal.path),
        final_positions=tuple(position_row(row) for row in book.positions.rows() if row.size),
        final_working_orders=tuple(order_row(row) for row in book.orders.rows() if row.status in WORKING),
        realized_ours=None if standing is None else standing[1]["realized_pnl"],
        realized_broker=f"{book.realized_net:.2f}",
        trouble=trouble,
    )
