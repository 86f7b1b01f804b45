"""How long from a breach event on the socket to the close request on the wire, on loopback.

The gateway double serves real sockets in this process; the real daemon guards with its journal on. One round: the
trader buys 3 where 1 is allowed. Timed is from our receipt of the position event to the moment at which the close
request leaves, which includes making the breach durable, since the broker's trades alone would not show it. Beside it,
in the same run, a bare REST round trip over the same client library. Quote the ratios: the figures move with the
machine.

    python benchmarks/breach_to_request.py --rounds 50
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import trio

from flatguard.clock import SystemClock
from flatguard.daemon.run import Guard, World, guard
from flatguard.gateway.http import HttpClient
from flatguard.model.entries import EndStateProven, Entry, Judged, StepTaken
from flatguard.secret import Secret
from flatguard.settings.load import load
from flatguard.simulator.options import Options
from flatguard.simulator.serve import serve_simulator
from flatguard.simulator.world import World as Double

SETTINGS = """\
[gateway]
rest_url = "{rest_url}"
user_hub_url = "{user_hub_url}"
market_hub_url = "{market_hub_url}"
user_name = "{user_name}"
[journal]
path = "journal.db"
[rules.max_contracts]
limit = 1
[rules.daily_realized_loss]
loss_limit = "40000"
[[accounts]]
id = {account}
mode = "enforce"
"""

# the double answers at once and moves no price by itself: what is left is ours
OPTIONS = Options.calm().but(answer_after_fill_ms=(0, 0), execution_ms=(0, 0))


async def measure(rounds: int) -> dict[str, list[float]]:
    """Return the times of all rounds in microseconds, by what was timed."""
    times: dict[str, list[float]] = {"breach to request": [], "bare REST round trip": []}
    clock = SystemClock()
    double = Double(seed=1, start=clock.now(), options=OPTIONS)
    with tempfile.TemporaryDirectory() as folder:
        async with trio.open_nursery() as nursery:
            ready = await nursery.start(lambda task_status: serve_simulator(double, task_status=task_status))
            settings, key, account = _settings(Path(folder), ready)
            at_work: Guard = await nursery.start(guard, settings, key, trio.Event(), print, World(clock=clock))
            while at_work.standing(account)["protection"] != "PROTECTED":
                await at_work.board.wait_ring(account)
            http = HttpClient(ready["rest_url"])
            for _ in range(rounds):
                times["bare REST round trip"].append(await _round_trip(http))
                times["breach to request"].append(await _breach(http, at_work, account))
            await http.aclose()
            nursery.cancel_scope.cancel()
    return times


def _settings(folder: Path, ready: dict[str, Any]) -> tuple[Any, Secret, Any]:
    user = ready["users"][0]
    path = folder / "config.toml"
    account = user["accounts"][0]["id"]
    path.write_text(SETTINGS.format(**ready, user_name=user["user_name"], account=account), encoding="utf-8")
    return load(path, {}), Secret(user["api_key"]), account


async def _round_trip(http: HttpClient) -> float:
    began = trio.current_time()
    await http.post("/sim/price", json.dumps({"contractId": "ES", "resume": True}), {})
    return (trio.current_time() - began) * 1e6


async def _breach(http: HttpClient, at_work: Guard, account: Any) -> float:
    """Have the trader buy 3 where 1 is allowed; return the time from our receipt of it to our request's leaving."""
    found: dict[str, float] = {}
    proven = trio.Event()

    def look(entry: Entry) -> None:
        match entry:
            case Judged(found=breaches) if breaches:
                found["at"] = breaches[0].at.timestamp()
            case StepTaken(sent_at=sent_at) if "sent" not in found:
                found["sent"] = sent_at.timestamp()
            case EndStateProven():
                proven.set()

    at_work.on_entry.append(look)
    order = {"accountId": account, "contractId": "MNQ", "type": 2, "side": 0, "size": 3}
    await http.post("/sim/orders", json.dumps(order), {"content-type": "application/json"})
    with trio.fail_after(20):
        await proven.wait()
    at_work.on_entry.remove(look)
    await trio.sleep(0.7)
    return (found["sent"] - found["at"]) * 1e6


def main() -> None:
    """Measure and print p50, p99 and their ratio to the bare round trip."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    if rounds < 2:
        parser.error("--rounds: two at least, one has no spread")
    times = trio.run(measure, rounds)
    bare = statistics.median(times["bare REST round trip"])
    print(f"{rounds} rounds, loopback, journal on")
    print(f"{'':24}{'p50 us':>10}{'p99 us':>10}{'p50 / bare':>12}")
    for name, values in times.items():
        p99 = statistics.quantiles(values, n=100)[98]
        p50 = statistics.median(values)
        print(f"{name:24}{p50:10.0f}{p99:10.0f}{p50 / bare:12.2f}")


if __name__ == "__main__":
    main()
