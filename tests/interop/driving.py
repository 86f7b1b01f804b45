"""The double in a process of its own, and clients of other people's, each driven by lines of JSON.

A client is told ``{"do": ...}``: ``start`` (url, token, events and its own options), ``invoke`` (call, method,
values), ``send`` (method, values), ``stop``. It says ``{"said": ...}``: started, failed to start, asked for a
token, completed and failed (call), event (name, values), reconnecting, reconnected, closed, stopped, ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx
import trio
from attrs import define, field

from tests.fakes.gateway_client import Rest, read

SOON_S = 15
"""Far more than anything here takes on an idle machine."""
COMBINE, MNQ = 25700001, "CON.F.US.MNQ.Z26"
USER_EVENTS = ["GatewayUserAccount", "GatewayUserOrder", "GatewayUserPosition", "GatewayUserTrade"]
MARKET_EVENTS = ["GatewayQuote", "GatewayTrade", "GatewayDepth"]
EVENTS = [*USER_EVENTS, *MARKET_EVENTS, "GatewayLogout"]
CLIENTS = Path(__file__).parent / "clients"
JAVASCRIPT = ("node", str(CLIENTS / "javascript.js"))
PYSIGNALR = (sys.executable, str(CLIENTS / "pysignalr_client.py"))
SIGNALRCORE = (sys.executable, str(CLIENTS / "signalrcore_client.py"))
PROJECTX_PYTHON = os.environ.get("PROJECTX_PYTHON", "")
"""A Python that has project-x-py, which wants a newer one than we do; empty for none."""
PROJECTX = (PROJECTX_PYTHON, str(CLIENTS / "projectx_client.py"))

Fields = dict[str, Any]
AnyAnswer = TypeVar("AnyAnswer")
AnyClient = TypeVar("AnyClient", bound="Client")


async def until(ask: Callable[[], Awaitable[AnyAnswer]]) -> AnyAnswer:
    """Ask until the answer is not empty, and return it."""
    with trio.fail_after(SOON_S):
        while True:
            if answer := await ask():
                return answer
            await trio.sleep(0.05)
    raise AssertionError("fail_after has raised")


@asynccontextmanager
async def process_of(*command: str) -> AsyncIterator[trio.Process]:
    """Run a command with pipes to it and from it; afterwards it has ended, whatever it takes."""
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            process.terminate()
            with trio.move_on_after(3):
                await process.wait()
            if process.returncode is None:
                process.kill()
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                await pipe.aclose()


async def lines_of(process: trio.Process) -> AsyncIterator[str]:
    """Yield what a process prints, line by line, until it has no more to say."""
    assert process.stdout is not None
    rest = b""
    async for data in process.stdout:
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode()


@define(eq=False)
class Double:
    """The gateway double, with somebody logged in."""

    ready: Fields
    rest: Rest

    def url(self, hub: str = "user", *, bears_token: bool = False) -> str:
        query = f"?access_token={self.rest.token}" if bears_token else ""
        return f"{self.ready[f'{hub}_hub_url']}{query}"

    async def buy(self, size: int = 1) -> None:
        """Buy MNQ at market as the trader's own hand."""
        order = {"accountId": COMBINE, "contractId": MNQ, "type": 2, "side": 0, "size": size}
        assert (await self.rest.sim("orders", **order))["success"]

    async def fault(self, name: str, **how: object) -> None:
        await self.rest.sim("faults", name=name, **how)

    async def rows(self, kind: str) -> list[Fields]:
        rows: list[Fields] = (await self.rest.truth())[kind]
        return rows

    async def subscriptions(self) -> list[str]:
        return [row["event"] for client in await self.rows("clients") for row in client["subscriptions"]]

    async def seen(self, path: str) -> list[Fields]:
        """What became of each request to this path so far."""
        return [row["outcome"] for row in await self.rows("requests") if row["path"] == path]

    async def negotiations(self) -> list[Fields]:
        return await self.seen("/hubs/user/negotiate")

    async def upgrades(self) -> list[Fields]:
        return await self.seen("/hubs/user")

    async def ended(self, index: int = 0) -> str:
        """Return why the connection of an upgrade ended, once it has."""
        return await until(partial(self._ending, index))

    async def _ending(self, index: int) -> str:
        outcomes = await self.upgrades()
        return str(outcomes[index].get("ended", "")) if len(outcomes) > index else ""


@asynccontextmanager
async def running_double(folder: Path, **options: object) -> AsyncIterator[Double]:
    """Run ``flatguard simulator serve`` on a free port."""
    scenario = folder / "scenario.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    scenario.write_text("\n".join(["[options]", *lines]), encoding="utf-8")
    command = (sys.executable, "-m", "flatguard", "simulator", "serve", "--port", "0", "--scenario", str(scenario))
    async with process_of(*command) as process:
        with trio.fail_after(SOON_S):
            async with aclosing(lines_of(process)) as lines_said:
                ready = read(await anext(lines_said))
        async with httpx.AsyncClient(base_url=ready["rest_url"], timeout=SOON_S) as http:
            (user,) = ready["users"]
            yield Double(ready, await Rest(http).login(user["user_name"], user["api_key"]))


@define(eq=False)
class Client:
    """Somebody else's client in a process of its own. What it says is kept, and taken in order by kind."""

    process: trio.Process
    double: Double
    heard: list[Fields] = field(factory=list)
    over: bool = False
    _taken: dict[str, int] = field(factory=dict)
    _calls: int = 0
    _news: trio.Event = field(factory=trio.Event)

    async def listen(self) -> None:
        async for line in lines_of(self.process):
            self.heard.append(read(line))
            self._stir()
        self.over = True
        self._stir()

    def _stir(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def all(self, what: str) -> list[Fields]:
        """Return all that it has said of this kind."""
        return [said for said in self.heard if said["said"] == what]

    def told(self, name: str) -> list[list[Any]]:
        """Return the values of all events of this name so far."""
        return [said["values"] for said in self.all("event") if said["name"] == name]

    async def tell(self, do: str, **more: object) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps({"do": do, **more}).encode() + b"\n")

    async def says(self, what: str, wanted: Callable[[Fields], bool] = lambda _: True) -> Fields:
        """Return the next thing of this kind that it says and nobody has taken; others of it are skipped."""
        with trio.move_on_after(SOON_S):
            while True:
                news = self._news
                for said in self.all(what)[self._taken.get(what, 0) :]:
                    self._taken[what] = self._taken.get(what, 0) + 1
                    if wanted(said):
                        return said
                if self.over:
                    break
                await news.wait()
        raise AssertionError(f"it never said {what!r}, but {self.heard}")

    async def start(self, *, url: str = "", token: str | None = None, **options: object) -> None:
        """Connect to the user hub, with the login's token unless told otherwise."""
        token = self.double.rest.token if token is None else token
        await self.tell("start", url=url or self.double.url(), token=token, events=EVENTS, **options)

    async def connect(self, **options: object) -> Fields:
        await self.start(**options)
        return await self.says("started")

    async def invoke(self, method: str, *values: object) -> Fields:
        """Call a method of the hub; return how it completed or failed."""
        self._calls += 1
        call = self._calls
        await self.tell("invoke", call=call, method=method, values=values)
        with trio.move_on_after(SOON_S):
            while not self.over:
                news = self._news
                for said in self.heard:
                    if said["said"] in {"completed", "failed"} and said["call"] == call:
                        return said
                await news.wait()
        raise AssertionError(f"{method} came to nothing: {self.heard}")

    async def event(self, name: str, wanted: Callable[..., bool] = lambda *_: True) -> list[Any]:
        """Return the values of the next event of this name that is wanted."""
        said = await self.says("event", lambda said: said["name"] == name and wanted(*said["values"]))
        values: list[Any] = said["values"]
        return values


@asynccontextmanager
async def driven(
    command: tuple[str, ...], double: Double, kind: Callable[[trio.Process, Double], AnyClient] = Client
) -> AsyncIterator[AnyClient]:
    """Run a client and hear what it says."""
    async with process_of(*command) as process, trio.open_nursery() as nursery:
        client = kind(process, double)
        nursery.start_soon(client.listen)
        yield client
        nursery.cancel_scope.cancel()


def same_figures(told: Fields, row: Fields) -> bool:
    """Whether an event says of a thing what the broker's books say: all they share, to the digit."""
    shared = {name for name in told.keys() & row.keys() if not name.endswith("Timestamp")}
    return len(shared) > 4 and all(told[name] == row[name] for name in shared)
