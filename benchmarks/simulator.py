"""How fast the gateway double is: a trading day in virtual time, and what it delivers on real sockets.

The day: 100,000 quotes between 17:00 and 16:00 in Chicago, one account that places 500 market orders through REST, one
client on each hub, everything that the double does by default (lag, repeats, slippage). Counted are the events that the
clients received and the calls that were answered, per second of real time, clients included: they run in the same
process. On sockets the double serves in a process of its own.

    python benchmarks/simulator.py --runs 3
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from typing import Any

import h11
import trio
import trio.testing

from flatguard.signalr_client import Hub, HubError, TokenIn, open_hub
from flatguard.simulator import AccountSetup, Options, UserSetup, World, open_double

MNQ = "CON.F.US.MNQ.Z26"
ALL_STREAMS = ("ContractQuotes", "ContractTrades", "ContractMarketDepth")
QUOTES, ORDERS = 100_000, 500
OPENS = datetime(2026, 11, 17, 23, tzinfo=UTC)  # Tuesday 17:00 in Chicago
SESSION = timedelta(hours=23)
SOCKET_SECONDS = 5.0
SOCKET_STEPS_MS = {1: 0.1, 10: 0.25}
"""From one quote to the next, by the number of clients: more than the double can deliver."""


async def count_events(hub: Hub, counted: list[int]) -> None:
    """Count what a hub tells until it hangs up."""
    try:
        while True:
            told = len(await hub.receive())
            counted[0] += told
    except HubError:
        pass


async def day(quotes: int, streams: Sequence[str]) -> int:
    """Let a trading day pass and return how many events and answers there were."""
    step_ms = SESSION.total_seconds() * 1000 / quotes
    world = World(seed=1, start=OPENS, options=Options(sessions=True, market_step_ms=step_ms))
    counted = [0]
    async with open_double(world) as double, double.hub("user") as user, double.hub("market") as market:  # noqa: SIM117
        async with trio.open_nursery() as nursery:  # cancelled before the hubs say goodbye
            await user.invoke("SubscribeAccounts")
            for name in ("Orders", "Positions", "Trades"):
                await user.invoke(f"Subscribe{name}", double.account_id)
            for name in streams:
                await market.invoke(f"Subscribe{name}", MNQ)
            nursery.start_soon(count_events, user, counted)
            nursery.start_soon(count_events, market, counted)
            pause = SESSION.total_seconds() / (ORDERS + 1)
            for number in range(ORDERS):
                await trio.sleep_until(trio.current_time() + pause)
                order = {"accountId": double.account_id, "contractId": MNQ, "type": 2, "side": number % 2, "size": 1}
                answer = await double.rest("Order/place", **order)
                counted[0] += answer["success"]
                if (double.now() - OPENS).total_seconds() > 22.9 * 3600:
                    await double.log_in()
            await trio.sleep((OPENS + SESSION - double.now()).total_seconds())
            nursery.cancel_scope.cancel()
    return counted[0]


def virtual_rate(quotes: int, streams: Sequence[str] = ALL_STREAMS) -> tuple[int, float]:
    """Return the events of one day, and how many of them passed per second of real time."""
    began = time.perf_counter()
    events = trio.run(day, quotes, streams, clock=trio.testing.MockClock(autojump_threshold=0))
    return events, events / (time.perf_counter() - began)


# --- on sockets ---


@asynccontextmanager
async def served(step_ms: float = 250) -> AsyncIterator[dict[str, Any]]:
    """Serve a calm double in another process and yield its ready line."""
    command = [sys.executable, __file__, "--serve", str(step_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  once, before anything is timed
    assert process.stdout is not None
    try:
        yield json.loads(await trio.to_thread.run_sync(process.stdout.readline))
    finally:
        process.terminate()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(process.wait)


async def serve(step_ms: float) -> None:
    """Serve until ended: no delays, no allowance, and a price every ``step_ms``."""
    from functools import partial

    from flatguard.simulator import serve_simulator

    options = Options.calm().but(
        price_walk=True,
        market_step_ms=step_ms,
        execution_ms=(0, 0),
        answer_after_fill_ms=(0, 0),
        rest_allowance=(10**9, 60),
    )
    rich = AccountSetup(id=1, name="PRAC-V2-1-1", balance=Decimal(10**9))  # the spread would use up any other
    user = UserSetup(user_name="trader1", accounts=(rich,))
    world = World(seed=1, start=datetime(2026, 11, 18, 15, tzinfo=UTC), options=options, users=(user,))
    async with trio.open_nursery() as nursery:
        print(json.dumps(await nursery.start(partial(serve_simulator, world))), flush=True)


class Rest:
    """One keep-alive connection; as little between us and the double as can be."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._connection = h11.Connection(h11.CLIENT)
        self.token = ""

    async def __call__(self, path: str, **body: object) -> dict[str, Any]:
        content = json.dumps(body).encode()
        headers = [("host", "localhost"), ("content-type", "application/json"), ("content-length", str(len(content)))]
        if self.token:
            headers.append(("authorization", f"Bearer {self.token}"))
        events = (h11.Request(method="POST", target=path, headers=headers), h11.Data(data=content), h11.EndOfMessage())
        await self._stream.send_all(b"".join(self._connection.send(event) or b"" for event in events))
        answer = b""
        while not isinstance(event := self._connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                self._connection.receive_data(bytes(await self._stream.receive_some(65536)))
            elif isinstance(event, h11.Data):
                answer += event.data
        self._connection.start_next_cycle()
        read: dict[str, Any] = json.loads(answer)
        return read


async def log_in(ready: dict[str, Any]) -> Rest:
    """Open a connection and log in on it."""
    rest = Rest(await trio.open_tcp_stream("127.0.0.1", int(ready["rest_url"].rpartition(":")[2])))
    user = ready["users"][0]
    rest.token = (await rest("/api/Auth/loginKey", userName=user["user_name"], apiKey=user["api_key"]))["token"]
    return rest


async def timed(call: Callable[[], Awaitable[dict[str, Any]]], seconds: float) -> list[float]:
    """Make a call over and over for so long and return how long each took, in milliseconds."""
    took = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        assert (await call())["success"]
        took.append((time.perf_counter() - began) * 1000)
    return took


async def rest_figures(seconds: float) -> tuple[float, list[float]]:
    """Return reads per second over four connections, and how long orders took over one, in milliseconds."""
    async with served() as ready:
        account = ready["users"][0]["accounts"][0]["id"]
        took: list[float] = []

        async def read(rest: Rest) -> None:
            took.extend(await timed(lambda: rest("/api/Position/searchOpen", accountId=account), seconds))

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(read, await log_in(ready))
        rest, sides = await log_in(ready), iter(range(10**9))

        def place() -> Awaitable[dict[str, Any]]:
            body = {"accountId": account, "contractId": "CON.F.US.EP.Z26", "type": 2, "size": 1}
            return rest("/api/Order/place", side=next(sides) % 2, **body)

        return len(took) / seconds, await timed(place, seconds)


async def quote_rate(clients: int, seconds: float) -> float:
    """Return how many quotes per second all clients together are sent; they only count."""
    async with served(SOCKET_STEPS_MS[clients]) as ready:
        token = (await log_in(ready)).token

        async def bearer() -> str:
            await trio.lowlevel.checkpoint()
            return token

        counted = [0]

        async def listen(task_status: trio.TaskStatus[None]) -> None:
            async with open_hub(
                ready["market_hub_url"], token=bearer, token_in=TokenIn.QUERY, negotiating=False
            ) as hub:
                await hub.invoke("SubscribeContractQuotes", MNQ)
                task_status.started()
                await count_events(hub, counted)

        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                await nursery.start(listen)
            await trio.sleep(1)
            before, began = counted[0], time.perf_counter()
            await trio.sleep(seconds)
            rate = (counted[0] - before) / (time.perf_counter() - began)
            nursery.cancel_scope.cancel()
        return rate


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quotes", type=int, default=QUOTES)
    parser.add_argument("--seconds", type=float, default=SOCKET_SECONDS)
    parser.add_argument("--profile", action="store_true", help="profile one day instead")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        trio.run(serve, given.serve)
        return
    if given.profile:
        cProfile.runctx("virtual_rate(quotes)", globals(), {"quotes": given.quotes}, sort="tottime")
        return
    days = [virtual_rate(given.quotes) for _ in range(given.runs)]
    calls, orders = trio.run(rest_figures, given.seconds)
    names = ("trio", "hypercorn", "starlette", "wsproto", "h11")
    print(f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in names)}")
    print(f"{'a trading day in virtual time':44}{days[0][0]:>10,} events")
    print(f"{'  events per second, median':44}{statistics.median(rate for _, rate in days):>10,.0f}")
    print(f"{'REST reads per second, 4 connections':44}{calls:>10,.0f}")
    print(f"{'order round trip, median':44}{statistics.median(orders):>10.2f} ms")
    print(f"{'order round trip, 99th percentile':44}{statistics.quantiles(orders, n=100)[98]:>10.2f} ms")
    for clients in SOCKET_STEPS_MS:
        rate = trio.run(quote_rate, clients, given.seconds)
        print(f"{f'quotes per second to {clients} of our clients':44}{rate:>10,.0f}")


if __name__ == "__main__":
    main()
