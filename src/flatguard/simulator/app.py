"""The running gateway: a world with a clock, its hub connections, its log of requests, and the ASGI app."""

from __future__ import annotations

import traceback
from datetime import datetime, timedelta
from email.utils import format_datetime
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from flatguard.simulator import control, hubs, rest
from flatguard.simulator.bodies import PROBLEM_TYPE, internal_error
from flatguard.simulator.limits import Allowances
from flatguard.simulator.negotiation import Negotiations
from flatguard.simulator.outbox import Event
from flatguard.simulator.rows import rest_time
from flatguard.simulator.tokens import Tokens
from flatguard.simulator.world import World

_MOST_AT_ONCE = 50
"""Things that happen in the world before other tasks have their turn: some milliseconds' work."""


class Gateway:
    """A world that lives. ``app`` serves it; ``run`` makes its time pass, ``speed`` times as fast as Trio's clock."""

    def __init__(self, world: World, *, speed: float = 1, survives_crashes: bool = False) -> None:
        self.world = world
        self.speed = speed
        self.survives_crashes = survives_crashes
        """Whether a crash within a request ends only that: a stranger's bot goes on, a test of ours must not."""
        self.tokens = Tokens(world.chance("tokens"), timedelta(seconds=world.options.token_life_s))
        self.trace_rng = world.chance("traces")
        self.negotiations = Negotiations(world.chance("negotiations"))
        self.allowances = Allowances(world.options)
        self.requests: list[dict[str, Any]] = []
        self.clients: list[hubs.Client] = []
        self._began = self._read_at = trio.current_time()
        self._now = world.start
        self._advanced = timedelta(0)
        self._stirred = trio.Event()
        self._crash: Exception | None = None
        routes = [*rest.routes(self), *hubs.routes(self), *control.routes(self)]
        paths = [route.path for route in routes if isinstance(route, (Route, WebSocketRoute))]
        self._paths = {path.lower(): path for path in paths}
        self._starlette = Starlette(
            routes=routes, exception_handlers={HTTPException: self._nowhere, Exception: self._crashed}
        )
        self._starlette.router.redirect_slashes = False

    def now(self) -> datetime:
        """Let the world come up to the present, and return the broker's time.

        That is the start, and what has passed at its speed or been advanced since. Where the machine cannot keep up
        with so much trading, only a piece of it is done, and the broker's clock is as late as the world.
        """
        moment = trio.current_time()
        if moment != self._read_at:
            self._read_at = moment
            present = self.world.start + timedelta(seconds=(moment - self._began) * self.speed) + self._advanced
            self._now = self.world.run(present, _MOST_AT_ONCE)
        return self._now

    def advance(self, distance: timedelta) -> None:
        """Put the broker's clock forward; no trading takes place on the way."""
        self.world.jump(self.now(), distance)
        self._advanced += distance
        self._now += distance
        self.world.run(self._now)
        self.stir()

    def stir(self) -> None:
        """Have ``run`` look again at what comes next; call it after every change to the world."""
        self._stirred.set()

    def note_request(self, method: str, path: str) -> dict[str, Any]:
        """Begin an entry of the log of requests; whoever answers fills in the rest."""
        entry: dict[str, Any] = {
            "time": rest_time(self.now()),
            "user": None,
            "method": method,
            "path": path,
            "body": None,
            "outcome": {},
            "ms": None,
        }
        self.requests.append(entry)
        return entry

    async def sleep_until(self, moment: datetime) -> None:
        """Return when the broker's clock says ``moment``. Always a checkpoint."""
        await trio.sleep(self._real_seconds_to(moment))

    def _real_seconds_to(self, moment: datetime) -> float:
        return max(0, (moment - self.now()).total_seconds() / self.speed)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make time pass in the world and send its events, for ever; a cancel leaves the world as it is.

        Raises whatever went wrong inside a request, unless it is to survive that: in a test a bug of the double must
        not look like a broker's mood.
        """
        task_status.started()
        while True:
            self._stirred = trio.Event()
            now = self.now()
            self.world.run(now)  # what has become due since the clock was read
            for event in self.world.outbox.take(now):
                self._deliver(event)
            self._end_connections(now)
            if self._crash is not None:
                raise self._crash
            moment = self.world.next_wake
            until = float("inf") if moment is None else self._real_seconds_to(moment)
            with trio.move_on_after(until):
                await self._stirred.wait()

    def _end_connections(self, now: datetime) -> None:
        faults = self.world.faults
        for fault in faults.take_fresh():
            for client in list(self.clients):
                if faults.strikes(fault.name, client.hub, now) is not None:
                    client.end_by(fault.name)
            faults.met_connections(fault)

    def _deliver(self, event: Event) -> None:
        for client in list(self.clients):
            client.deliver(event)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI request or WebSocket; every answer bears the broker's date."""

        async def send_dated(message: Message) -> None:
            if message["type"] in {
                "http.response.start",
                "websocket.accept",
                "websocket.http.response.start",
            }:
                date = format_datetime(self.now(), usegmt=True).encode()
                message["headers"] = [*message.get("headers", ()), (b"date", date)]
            await send(message)

        if "path" in scope:  # the case of a path does not count, nor does a slash at its end, as in ASP.NET Core
            path = scope["path"]
            scope["path"] = self._paths.get(path.lower().removesuffix("/"), path)
        try:
            await self._starlette(scope, receive, send_dated)
        except ClientDisconnect:
            pass  # gone before its request was whole
        except Exception as error:
            if not self.survives_crashes:
                self._crash = error
                self.stir()
                raise
            if scope["type"] == "websocket":  # Hypercorn ends what we have left; a call is answered already
                traceback.print_exception(error)

    async def _crashed(self, request: Request, error: Exception) -> Response:
        """Answer a call in which the double itself has crashed; Starlette raises the error again afterwards."""
        await trio.lowlevel.checkpoint()
        if self.survives_crashes and not isinstance(error, ClientDisconnect):
            traceback.print_exception(error)
        return Response(internal_error(self.trace_rng), status_code=500, media_type=PROBLEM_TYPE)

    async def _nowhere(self, request: Request, error: Exception) -> Response:
        """Answer a call of what does not exist, or not by this method: without a body."""
        await trio.lowlevel.checkpoint()
        assert isinstance(error, HTTPException)
        entry = self.note_request(request.method, request.url.path)
        entry["outcome"]["status"], entry["ms"] = error.status_code, 0
        return Response(status_code=error.status_code, headers=error.headers)
