"""The whole system in one process: the real daemon, the gateway double, streams in memory, a virtual clock.

Nothing between the two is faked but time and the network: HTTP, WebSocket, SignalR, SQLite and the rules are real.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import httpcore
import httpx
import trio
from attrs import define, field

from flatguard.daemon.run import Guard, World, guard
from flatguard.journal.reading import BreachStory, read_stories
from flatguard.model.account import AccountState
from flatguard.model.ids import AccountId
from flatguard.rules._rule import Rule
from flatguard.secret import Secret
from flatguard.settings.load import AccountSettings, GatewaySettings, JournalSettings, Settings, TradingDaySettings
from flatguard.simulator.contracts import find_contract
from flatguard.simulator.memory import InMemoryGateway, open_in_memory
from flatguard.simulator.options import Options
from flatguard.simulator.world import World as Double
from tests.fakes.clock import TrioClock
from tests.fakes.gateway_client import DialBackend, Rest, http_over

WEDNESDAY_MORNING = datetime(2026, 3, 18, 14, 30, tzinfo=UTC)  # 09:30 in Chicago


async def inline(function: Callable[..., Any], *arguments: Any, abandon_on_cancel: bool = False) -> Any:
    """Run what production gives to a thread: autojump does not see threads."""
    await trio.lowlevel.checkpoint()
    return function(*arguments)


@define
class System:
    """A running double, and the means to start, stop and kill the daemon beside it."""

    double: Double
    gateway: InMemoryGateway
    rest: Rest
    settings: Settings
    nursery: trio.Nursery
    clock: TrioClock
    said: list[str] = field(factory=list)
    at_work: Guard | None = None
    away: bool = False  # whether the gateway cannot be reached
    run_sync: Callable[..., Awaitable[Any]] = inline
    markers: Path | None = None
    _stopping: trio.Event = field(factory=trio.Event)
    _scope: trio.CancelScope = field(factory=trio.CancelScope)
    _ended: trio.Event = field(factory=trio.Event)

    @property
    def account_id(self) -> AccountId:
        """The account that most scenarios play on."""
        return self.settings.accounts[0].id

    @property
    def state(self) -> AccountState:
        """What the daemon knows of it."""
        assert self.at_work is not None
        return self.at_work.board.states[self.account_id]

    @property
    def protection(self) -> object:
        """What the daemon claims."""
        assert self.at_work is not None
        return self.at_work.standing(self.account_id)["protection"]

    async def start(self) -> None:
        """Start the daemon and return once it protects, or at least runs."""
        self._stopping, self._scope, self._ended = trio.Event(), trio.CancelScope(), trio.Event()
        started = trio.Event()
        self.nursery.start_soon(self._run, started)
        await started.wait()

    @property
    def world(self) -> World:
        """The world as the daemon meets it here."""
        return World(
            clock=self.clock,
            run_sync=self.run_sync,
            random=Random(1),
            transport=self._transport,
            dial=self._dial,
            markers=self.markers,
        )

    async def _run(self, started: trio.Event) -> None:
        user = next(iter(self.double.users.values()))

        class Status:
            def started(status, value: Guard) -> None:  # noqa: N805
                self.at_work = value
                started.set()

        with self._scope:
            await guard(
                self.settings, Secret(user.api_key), self._stopping, self.said.append, self.world, task_status=Status()
            )
        self._ended.set()

    async def stop(self) -> None:
        """Stop the daemon as SIGTERM does, and return when it has ended."""
        self._stopping.set()
        await self._ended.wait()

    async def kill(self) -> None:
        """End the daemon as SIGKILL does, as far as one process can: nothing more is sent, nothing more is written."""
        assert self.at_work is not None
        self.at_work.keeper._pending.clear()
        self._scope.cancel()
        await self._ended.wait()

    def _transport(self) -> httpx.AsyncBaseTransport:
        transport = httpx.AsyncHTTPTransport(verify=False)
        transport._pool = httpcore.AsyncConnectionPool(
            network_backend=DialBackend(self._connect), max_connections=16, max_keepalive_connections=16
        )
        return transport

    async def _dial(self, _url: str) -> trio.abc.Stream:
        if self.away:
            raise OSError("no route to the gateway")
        return self.gateway.dial()

    def _connect(self) -> trio.abc.HalfCloseableStream:
        if self.away:
            raise httpcore.ConnectError("no route to the gateway")
        return self.gateway.dial()

    # the trader and the market

    async def order(
        self, ticker: str, size: int, *, limit: object = None, stop: object = None, account: AccountId | None = None
    ) -> int:
        """Place an order as the trader's own hand does: positive sizes buy, negative sell. Returns its id."""
        contract = find_contract(ticker)
        assert contract is not None
        kind = 1 if limit is not None else 4 if stop is not None else 2
        answer = await self.rest.sim(
            "orders",
            accountId=self.account_id if account is None else account,
            contractId=contract.id,
            type=kind,
            side=0 if size > 0 else 1,
            size=abs(size),
            limitPrice=limit,
            stopPrice=stop,
        )
        assert answer["success"], answer
        return int(answer["orderId"])

    async def price(self, ticker: str, price: object) -> None:
        """Move the market there and hold it."""
        await self.rest.sim("price", contractId=ticker, price=price)

    def last(self, ticker: str) -> Decimal:
        """Return the market's last price."""
        contract = find_contract(ticker)
        assert contract is not None
        return self.double.markets[contract.id].last

    async def fault(self, name: str, **how: object) -> None:
        """Start a fault."""
        response = await self.rest.http.post("/sim/faults", json={"name": name, **how})
        assert response.status_code == 200, response.text

    async def heal(self) -> None:
        """End all faults."""
        await self.rest.http.delete("/sim/faults")

    # the double's own truth

    def held(self, ticker: str) -> int:
        """Return the signed size that the broker's books show."""
        contract = find_contract(ticker)
        assert contract is not None
        return self.double.position(self.account_id, contract.id)

    def working(self) -> list[int]:
        """Return the ids of the orders that work by the broker's books."""
        return [order.id for order in self.double.books[self.account_id].orders.rows() if order.status in {1, 6, 7, 8}]

    @property
    def broker_net(self) -> Decimal:
        """Realised P&L less costs by the broker's books."""
        return self.double.books[self.account_id].realized_net

    def requests(self, path: str) -> list[Mapping[str, Any]]:
        """Return the requests that the gateway received for a path."""
        return [request for request in self.gateway.gateway.requests if request["path"] == path]

    def stories(self) -> tuple[BreachStory, ...]:
        """Return the breaches as the journal tells them."""
        return read_stories(self.settings.journal.path)

    async def until(self, true: Callable[[], object], seconds: float = 30.0) -> float:
        """Return once ``true()`` holds, and how many virtual seconds that took; fail after ``seconds``."""
        began = trio.current_time()
        with trio.fail_after(seconds):
            while not true():  # noqa: ASYNC110  the clock is virtual, and what is awaited rings no bell
                await trio.sleep(0.01)
        return trio.current_time() - began

    async def until_protected(self) -> None:
        """Return once the daemon claims to protect the account."""
        await self.until(lambda: self.protection == "PROTECTED")


@asynccontextmanager
async def open_system(
    folder: Path,
    rules: Mapping[str, Rule],
    *,
    options: Options | None = None,
    seed: int = 1,
    mode: Any = "enforce",
    start: datetime = WEDNESDAY_MORNING,
    accounts: int = 1,
    started: bool = True,
) -> AsyncIterator[System]:
    """Run a double and the daemon beside it; both end with the block. What failed inside leaves as itself.

    The daemon guards the first ``accounts`` of the login, all by the same rules; without ``started`` it is not started.
    """
    double = Double(seed=seed, start=start, options=options if options is not None else Options.calm())
    user = next(iter(double.users.values()))
    settings = Settings(
        path=folder / "config.toml",
        gateway=GatewaySettings(
            user_name=user.user_name,
            rest_url=f"http://localhost:{1 + crc32(str(folder).encode()) % 65_535}",  # each test guards its own
            user_hub_url="http://localhost/hubs/user",
            market_hub_url="http://localhost/hubs/market",
        ),
        journal=JournalSettings(path=folder / "journal.db"),
        trading_day=TradingDaySettings(),
        commissions={"MNQ": Decimal("0.25"), "MES": Decimal("0.25")},
        other_commission=Decimal("0.50"),
        accounts=tuple(
            AccountSettings(id=AccountId(account.id), mode=mode, rules=rules) for account in user.accounts[:accounts]
        ),
    )
    failure: BaseException | None = None
    async with open_in_memory(double) as gateway, http_over(gateway.dial) as http, trio.open_nursery() as nursery:
        system = System(
            double=double,
            gateway=gateway,
            rest=Rest(http),
            settings=settings,
            nursery=nursery,
            clock=TrioClock(start),
        )
        if started:
            await system.start()
        try:
            yield system
        except Exception as error:  # noqa: BLE001  raised again below, without the groups around it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


Scenario = Callable[[System], Awaitable[None]]
