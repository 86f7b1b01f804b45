"""``docs/signalr.md`` says what the client does."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio

from flatguard.signalr import Completion, Invocation, StreamInvocation, StreamItem
from flatguard.signalr_client import hub, reconnect
from tests.fakes.signalr_server import Peer, Site

PAGE = (Path(__file__).parents[2] / "docs" / "signalr.md").read_text("utf-8")


async def test_the_example_of_the_page_runs(site: Site) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet(Invocation("Hello", ("you",)))
        while True:
            for message in await peer.hear():
                match message:
                    case Invocation(target="Add", arguments=(int() as a, int() as b), invocation_id=str() as id_):
                        await peer.say(Completion(id_, a + b))
                    case StreamInvocation(target="Count", arguments=(int() as most,), invocation_id=id_):
                        await peer.say(*(StreamItem(id_, number) for number in range(most)), Completion(id_))

    async def token() -> str:
        await trio.lowlevel.checkpoint()
        return "t0ken"

    site.behave = behave
    [code] = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "open_hub" in block]
    names: dict[str, Any] = {}
    exec(code, names)
    example: Callable[..., Awaitable[object]] = names["example"]
    answer = await example("https://h.example/hub", token, site.dial)
    assert answer == (3, [0, 1, 2], [Invocation("Hello", ("you",))])


def test_the_page_knows_the_limits_and_the_delays() -> None:
    timings = hub.STANDARD
    assert [line.split("|")[2].strip() for line in PAGE.splitlines() if re.match(r"\| .* \| \d+ s \|", line)] == [
        f"{seconds:g} s"
        for seconds in (
            timings.opening_limit_s,
            timings.keep_alive_s,
            timings.silence_limit_s,
            timings.silence_limit_s,
            timings.closing_limit_s,
        )
    ]
    delays = ", ".join(f"{delay:g}" for delay in reconnect.DELAYS_S)
    assert f"{delays} and then always {reconnect.LONGEST_DELAY_S:g} seconds" in PAGE.replace("\n", " ")
    assert f"{hub.HELD:,} waiting messages" in PAGE
    assert f"up to {hub.HELD_AT_MOST:,}" in PAGE
