"""What a client is like after a quiet hour, and after a thousand broken lines: as it was before."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import pytest
import trio
import trio.testing
from attrs import define, field
from trio_websocket import ConnectionClosed

from flatguard.signalr import HandshakeAccepted, Invocation, Ping
from flatguard.signalr_client.errors import HubLost
from flatguard.signalr_client.hub import Hub, open_hub
from flatguard.signalr_client.reconnect import Link, Phase
from tests.fakes.breaking_stream import Break, BreakingStream, breaking_pair
from tests.fakes.signalr_server import Peer, Rewound, Site

URL = "https://rtc.example.com/hubs/user"
HOUR_S = 3_600
BREAKS = 1_000


OURS = ("flatguard.signalr",)
AND_OF_THOSE_BELOW = (*OURS, "trio", "wsproto", "h11")


def census(of: tuple[str, ...] = OURS) -> Counter[str]:
    """Count what is alive of the classes of these packages."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    return Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if str(kind.__module__).startswith(of))


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def let_others_end() -> None:
    """Let those whose end has been decided come to it."""
    await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def nothing_left_over() -> AsyncIterator[None]:
    """Check that the block leaves no task and no object of ours behind."""
    before = census()
    tasks_before = tasks()
    yield
    await let_others_end()
    assert tasks() == tasks_before
    assert census() <= before


# --- A quiet hour ---


@define
class QuietServer:
    """Pings every 15 s, and notes when it was pinged; it keeps nothing else, so as not to be counted."""

    pinged_at: list[float] = field(factory=list)
    lines: list[BreakingStream] = field(factory=list)

    async def be(self, peer: Peer) -> None:
        await peer.greet()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._note_pings, peer)
            while True:
                await peer.say(Ping())
                await trio.sleep(15)

    async def _note_pings(self, peer: Peer) -> None:
        began_at = trio.current_time()
        while True:
            messages = await peer.hear()
            peer.heard.clear()
            self.pinged_at += [trio.current_time() - began_at] * messages.count(Ping())

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Site]:
        async with trio.open_nursery() as nursery:
            yield Site(nursery, behave=self.be)
            await let_others_end()
            nursery.cancel_scope.cancel()


async def receive_for_ever(hub: Hub) -> None:
    while True:
        await hub.receive()


async def check_that_nothing_grows_for_an_hour() -> None:
    samples, scopes = [], []
    for _ in range(6):
        await trio.sleep(HOUR_S / 6)
        alive = census(AND_OF_THOSE_BELOW)
        scopes.append(alive.pop("trio.CancelScope"))
        samples.append((tasks(), alive))
    assert samples == samples[:1] * 6
    assert max(scopes) - min(scopes) <= 5, "a scope or two are between two waits"


async def test_a_hub_that_is_idle_for_an_hour_stays_connected_and_leaves_nothing_behind(
    autojump_clock: trio.abc.Clock,
) -> None:
    server = QuietServer()
    async with nothing_left_over(), server.up() as site, open_hub(URL, dial=site.dial) as hub:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive_for_ever, hub)
            await trio.sleep(1)
            await check_that_nothing_grows_for_an_hour()
            assert hub.statistics().messages_received == HOUR_S / 15 + 2, "a ping at once, and the handshake"
            nursery.cancel_scope.cancel()
        del hub
    assert server.pinged_at == [15 * count for count in range(HOUR_S // 15 + 1)]


async def test_a_link_that_is_idle_for_an_hour_is_the_same_connection_and_leaves_nothing_behind(
    autojump_clock: trio.abc.Clock,
) -> None:
    server = QuietServer()
    async with nothing_left_over(), server.up() as site, trio.open_nursery() as nursery:
        link = Link(lambda: open_hub(URL, dial=site.dial), Random(1))
        nursery.start_soon(link.keep, receive_for_ever)
        await trio.sleep(1)
        await check_that_nothing_grows_for_an_hour()
        assert link.state.phase is Phase.CONNECTED
        assert link.statistics().connections == 1
        nursery.cancel_scope.cancel()
        del link
    assert server.pinged_at == [15 * count for count in range(HOUR_S // 15 + 1)]


# --- A thousand broken lines ---


@define
class Storm:
    """A server whose every line breaks, after a random number of bytes either way, in one of the ways of lines.

    On each connection it tells a series of numbered events. The client says which of them it has seen.
    """

    site: Site
    random: Random
    lines: list[BreakingStream] = field(factory=list)
    ways: Counter[tuple[str, Break]] = field(factory=Counter)
    reached: Counter[str] = field(factory=Counter)
    """How far lines got, other than those for negotiation."""

    async def dial(self, url: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        way = self.random.choice(["readable", "writable"])
        after = self.random.randrange(self.random.choice([160, 160, 300, 1_500]))
        how = self.random.choice(list(Break))
        line, theirs = breaking_pair(how, **{way: after})
        self.lines.append(line)
        self.ways[way, how] += 1
        self.site.nursery.start_soon(self._attend, line, theirs)
        return line

    async def _attend(self, line: BreakingStream, theirs: trio.abc.Stream) -> None:
        """Be the server until the client has closed the line, for not everything here notices a broken one."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve, theirs)
            await line.wait_closed()
            nursery.cancel_scope.cancel()
        await trio.aclose_forcefully(theirs)

    async def _serve(self, theirs: trio.abc.Stream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            octets = await theirs.receive_some()
            if not octets:
                return
            request += octets
        try:
            await self.site.attend(Rewound(theirs, request))
        except* (trio.BrokenResourceError, ConnectionClosed):
            pass

    async def tell(self, peer: Peer) -> None:
        self.reached["a request"] += 1
        connection, number = self.reached["a request"], 0
        await peer.accept()
        while not peer.heard:
            await peer.hear()
        self.reached["a handshake"] += 1
        if self.random.random() < 0.5:
            await peer.say(HandshakeAccepted(), Invocation("Event", (connection, 0)))
        else:
            await peer.say(HandshakeAccepted())
            await peer.say(Invocation("Event", (connection, 0)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._check_that_they_were_seen_in_order, peer)
            while True:
                batch = self.random.randrange(1, 4)
                await peer.say(*[Invocation("Event", (connection, number + more)) for more in range(1, batch + 1)])
                number += batch
                await trio.sleep(self.random.choice([0, 0.1, 20]))

    async def _check_that_they_were_seen_in_order(self, peer: Peer) -> None:
        expected = 0
        while True:
            for message in await peer.hear():
                if isinstance(message, Invocation) and message.target == "Seen":
                    assert message.arguments == (expected,)
                    expected += 1


@define
class Customer:
    """Takes the events of one connection after the other, and checks that none is missing, doubled or misplaced."""

    storm: Storm
    latest: int = 0
    most_of_one_connection: int = 0

    async def serve(self, hub: Hub) -> None:
        self.storm.reached["a hub"] += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_in_vain, hub)
            await self._take(hub)

    async def _take(self, hub: Hub) -> None:
        expected = 0
        connection = None
        while True:
            for event in await hub.receive():
                if connection is None:
                    connection = event.arguments[0]
                    assert isinstance(connection, int)
                    assert connection > self.latest
                    self.latest = connection
                    self.storm.reached["an event"] += 1
                assert event.arguments == (connection, expected)
                expected += 1
                self.most_of_one_connection = max(self.most_of_one_connection, expected)
                await hub.send("Seen", expected - 1)

    async def _ask_in_vain(self, hub: Hub) -> None:
        async with hub.stream("Nothing") as stream:
            with pytest.raises(HubLost):
                await anext(stream)
        with pytest.raises(HubLost):
            await hub.invoke("Nothing")


async def test_a_thousand_broken_lines_cost_no_event_and_no_order_and_leave_nothing_behind(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with nothing_left_over(), trio.open_nursery() as nursery:
        storm = Storm(Site(nursery), Random(7))
        storm.site.behave = storm.tell
        customer = Customer(storm)
        over = trio.Event()

        async def dial(url: str) -> trio.abc.Stream:
            assert all(line.closed for line in storm.lines), "two lines at once"
            breaks = sum(line.broken.is_set() for line in storm.lines)
            if len(storm.lines) % 250 == 0:
                assert tasks() < 20
                assert census()["flatguard.signalr_client.hub.Hub"] <= 1, "the latest, for the sake of its last words"
            if breaks == BREAKS:
                over.set()
                await trio.sleep_forever()
            return await storm.dial(url)

        link = Link(lambda: open_hub(URL, negotiating=storm.random.random() < 0.2, dial=dial), Random(1))
        nursery.start_soon(link.keep, customer.serve)
        await over.wait()
        nursery.cancel_scope.cancel()
        del link
    assert all(line.closed for line in storm.lines)
    assert len(storm.ways) == 6, "each direction in each way"
    stages = ["a request", "a handshake", "a hub", "an event"]
    assert storm.reached[stages[0]] < BREAKS
    assert all(storm.reached[less] > storm.reached[more] > 0 for less, more in pairwise(stages)), "at every stage"
    assert customer.most_of_one_connection > 10
