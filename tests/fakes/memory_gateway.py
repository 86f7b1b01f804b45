"""The gateway's room as the daemon puts it together, with the double at the other end of streams in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpcore
import httpx
import trio
from attrs import define, evolve, field
from starlette.types import Receive, Scope, Send

from flatguard.gateway import auth
from flatguard.gateway.allowance import Allowance, Lane
from flatguard.gateway.http import HttpClient
from flatguard.gateway.rest import Gateway
from flatguard.gateway.retry import Patience
from flatguard.gateway.token import Token
from flatguard.secret import Secret
from flatguard.simulator.contracts import find_contract
from flatguard.simulator.memory import InMemoryGateway, open_in_memory
from flatguard.simulator.options import Options
from flatguard.simulator.setup import DEFAULT_USERS
from flatguard.simulator.world import Ticket, World
from tests.fakes.clock import TrioClock
from tests.fakes.gateway_client import DialBackend

START = datetime(2026, 11, 18, 15, tzinfo=UTC)
"""A Wednesday morning in Chicago."""


@define
class MemoryGateway:
    """A running double, and a client of each kind. ``refusing`` says that nothing listens any more."""

    double: InMemoryGateway
    nursery: trio.Nursery
    clock: TrioClock
    user_name: str
    api_key: str = field(repr=False)
    allowance: Allowance = field(factory=Allowance)
    refusing: bool = False
    account_id: int = 0
    http: HttpClient = field(init=False)
    token: Token = field(init=False)
    reading: Gateway = field(init=False)
    acting: Gateway = field(init=False)
    answers: dict[str, list[tuple[int, Mapping[str, str], bytes]]] = field(factory=dict, repr=False)

    def __attrs_post_init__(self) -> None:
        self.http = HttpClient("http://gateway", self._transport)
        self.token = Token(self.log_in, lambda text: auth.validate(self.http, text), self.clock)
        self.reading = self.gateway(Lane.RECONCILIATION)
        self.acting = self.gateway(Lane.ENFORCEMENT)
        self.double.gateway.app = self._app  # type: ignore[method-assign]

    def gateway(self, lane: Lane, patience: Patience | None = None, allowance: Allowance | None = None) -> Gateway:
        """Return another client of the login, in a lane of its own."""
        shared = self.allowance if allowance is None else allowance
        return Gateway(self.http, self.token, self.clock, shared, lane, patience)

    @property
    def world(self) -> World:
        return self.double.gateway.world

    async def log_in(self) -> Secret:
        return await auth.log_in(self.http, self.user_name, Secret(self.api_key))

    async def bearer(self) -> str:
        """Return the token as text, as a hub wants it."""
        return (await self.token.current()).reveal()

    def requests(self, path: str | None = None) -> list[dict[str, Any]]:
        """Return the requests that the double received, for a path or all."""
        return [entry for entry in self.double.gateway.requests if path in {None, entry["path"]}]

    def fault(self, name: str, **how: Any) -> None:
        """Start a fault."""
        self.world.faults.start(name, self.double.gateway.now(), **how)
        self.double.gateway.stir()

    def heal(self) -> None:
        """End all faults and all answers of our own."""
        self.world.faults.clear()
        self.answers.clear()

    def instead(self, path: str, *bodies: str | bytes, status: int = 200, **headers: str) -> None:
        """Answer with ``bodies`` in turn, the last one for ever, instead of the double."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = [
            (status, fields, body.encode() if isinstance(body, str) else body) for body in bodies or ("",)
        ]

    async def dial(self, _url: str = "") -> trio.abc.Stream:
        """Open a connection, as a hub does."""
        await trio.lowlevel.checkpoint()
        if self.refusing:
            raise OSError("connection refused")
        return self.double.dial()

    def place(self, ticker: str, size: int, *, limit: Decimal | int | None = None) -> int:
        """Place an order by the trader's own hand and return its id."""
        contract = find_contract(ticker)
        assert contract is not None
        ticket = Ticket(
            account_id=self.account_id,
            contract_id=contract.id,
            type=2 if limit is None else 1,
            side=0 if size > 0 else 1,
            size=abs(size),
            limit_price=None if limit is None else Decimal(limit),
            stop_price=None,
        )
        answer = self.world.place(ticket, self.double.gateway.now())
        self.double.gateway.stir()
        assert answer.code == 0, answer
        assert answer.order_id is not None
        return answer.order_id

    def _transport(self) -> httpx.AsyncBaseTransport:
        transport = httpx.AsyncHTTPTransport()
        transport._pool = httpcore.AsyncConnectionPool(network_backend=DialBackend(self._stream), max_connections=16)
        return transport

    def _stream(self) -> trio.abc.HalfCloseableStream:
        if self.refusing:
            raise httpcore.ConnectError("connection refused")
        return self.double.dial()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers = self.answers.get(scope["path"])
        if answers is None:
            await type(self.double.gateway).app(self.double.gateway, scope, receive, send)
            return
        status, headers, body = answers[0] if len(answers) == 1 else answers.pop(0)
        self.double.gateway.note_request(scope["method"], scope["path"])["outcome"]["status"] = status
        fields = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def open_gateway(
    options: Options | None = None, *, api_key: str | None = None, seed: int = 1
) -> AsyncIterator[MemoryGateway]:
    """Run a calm double, or one with ``options``, and everything that is needed to talk to it."""
    first, *others = DEFAULT_USERS[0].accounts
    unlimited = evolve(first, max_minis=None)  # so that pages and pages of orders can rest
    users = (evolve(DEFAULT_USERS[0], accounts=(unlimited, *others)),)
    world = World(seed=seed, start=START, options=options if options is not None else Options.calm(), users=users)
    user = next(iter(world.users.values()))
    failure: BaseException | None = None
    async with open_in_memory(world) as double, trio.open_nursery() as nursery:
        gateway = MemoryGateway(
            double, nursery, TrioClock(START), user.user_name, user.api_key if api_key is None else api_key
        )
        gateway.account_id = user.accounts[0].id
        try:
            yield gateway
        except Exception as error:  # noqa: BLE001 - raised again below, by itself instead of in a group
            failure = error
        await gateway.http.aclose()
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
