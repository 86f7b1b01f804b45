"""What a client is like after a quiet hour, and after a thousand broken lines: as it was before."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import pytest
import trio
import trio.testing
from attrs import define, field
from trio_websocket import ConnectionClosed

from flatguard.signalr import Close, Completion, HandshakeAccepted, Invocation, Ping
from flatguard.signalr_client.errors import HubError, HubLost, HubUnreachable
from flatguard.signalr_client.hub import Hub, open_hub
from flatguard.signalr_client.reconnect import Link, Phase
from tests.fakes.breaking_stream import Break, BreakingStream, breaking_pair
from tests.fakes.signalr_server import Peer, Rewound, Site

URL = "https://rtc.example.com/hubs/user"
HOUR_S = 3_600
BREAKS = 1_000
GARBLED = 300


OURS = ("flatguard.signalr",)
AND_OF_THOSE_BELOW = (*OURS, "trio", "wsproto", "h11")


HUB = "flatguard.signalr_client.hub.Hub"


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


def line_that_breaks(random: Random) -> tuple[BreakingStream, trio.abc.Stream]:
    """After a random number of bytes, in one direction, in one of the ways of lines."""
    after = random.randrange(random.choice([160, 160, 300, 1_500]))
    how = random.choice(list(Break))
    if random.random() < 0.5:
        return breaking_pair(how, readable=after)
    return breaking_pair(how, writable=after)


def line_that_garbles(random: Random) -> tuple[BreakingStream, trio.abc.Stream]:
    """Some bytes arrive as others."""
    places = [random.randrange(random.choice([200, 600])) for _ in range(random.randrange(1, 6))]
    return breaking_pair(Break.RESET, garbled={place: random.randrange(256) for place in places})


@define
class Storm:
    """A server on bad lines. On each it tells a series of numbered events, and hears which of them were seen."""

    site: Site
    random: Random
    lay: Callable[[Random], tuple[BreakingStream, trio.abc.Stream]]
    lines: list[BreakingStream] = field(factory=list)
    reached: Counter[str] = field(factory=Counter)
    """How far lines got, other than those for negotiation."""

    async def dial(self, url: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        line, theirs = self.lay(self.random)
        self.lines.append(line)
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

    async def tell_a_little(self, peer: Peer) -> None:
        await peer.greet(Invocation("Event", (0,)))
        for number in range(1, 5):
            await peer.say(Invocation("Event", (number,)), Completion("1", None))
            await peer.socket.ping()
        await peer.say(Close())

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
            nursery.start_soon(self._iterate_in_vain, hub)
            nursery.start_soon(self._call_in_vain, hub)
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

    async def _iterate_in_vain(self, hub: Hub) -> None:
        async with hub.stream("Nothing") as stream:
            with pytest.raises(HubLost):
                await anext(stream)

    async def _call_in_vain(self, hub: Hub) -> None:
        with pytest.raises(HubLost):
            await hub.invoke("Nothing")


@asynccontextmanager
async def only_the_family() -> AsyncIterator[None]:
    """Check that nothing leaves the block but the errors that a caller was told of, and a cancel."""
    try:
        yield
    except BaseException as error:
        _, strangers = BaseExceptionGroup("what left", [error]).split((HubError, trio.Cancelled))
        if strangers is not None:
            raise AssertionError("an error of another family") from strangers
        raise


async def test_a_thousand_broken_lines_cost_no_event_and_no_order_and_leave_nothing_behind(
    autojump_clock: trio.abc.Clock,
) -> None:
    hubs_before = census()[HUB]  # of other tests, in the same process
    async with nothing_left_over(), trio.open_nursery() as nursery:
        storm = Storm(Site(nursery), Random(7), line_that_breaks)
        storm.site.behave = storm.tell
        customer = Customer(storm)
        over = trio.Event()

        async def dial(url: str) -> trio.abc.Stream:
            assert all(line.closed for line in storm.lines), "two lines at once"
            breaks = sum(line.broken.is_set() for line in storm.lines)
            if len(storm.lines) % 250 == 0:
                assert tasks() < 20
                assert census()[HUB] <= hubs_before, "the dead ones are gone"
            if breaks == BREAKS:
                over.set()
                await trio.sleep_forever()
            return await storm.dial(url)

        @asynccontextmanager
        async def open_one() -> AsyncIterator[Hub]:
            negotiating = storm.random.random() < 0.2
            async with only_the_family(), open_hub(URL, negotiating=negotiating, dial=dial) as hub:
                yield hub

        link = Link(open_one, Random(1))
        nursery.start_soon(link.keep, customer.serve)
        await over.wait()
        nursery.cancel_scope.cancel()
        del link
    assert all(line.closed for line in storm.lines)
    stages = ["a request", "a handshake", "a hub", "an event"]
    assert storm.reached[stages[0]] < BREAKS
    assert all(storm.reached[less] > storm.reached[more] > 0 for less, more in pairwise(stages)), "at every stage"
    assert customer.most_of_one_connection > 10


async def test_lines_that_garble_what_they_carry_end_in_an_error_of_the_family_and_leave_nothing_behind(
    autojump_clock: trio.abc.Clock,
) -> None:
    """In the negotiation, the upgrade, a frame's header or a record: whatever is read is somebody's fault, and told."""
    ends = Counter[type[BaseException]]()
    async with nothing_left_over(), trio.open_nursery() as nursery:
        storm = Storm(Site(nursery), Random(7), line_that_garbles)
        storm.site.behave = storm.tell_a_little
        for number in range(GARBLED):
            with pytest.raises(HubError) as ended, trio.fail_after(100):
                async with open_hub(URL, negotiating=number % 3 == 0, dial=storm.dial) as hub:
                    await receive_for_ever(hub)
            ends[type(ended.value)] += 1
            assert all(line.closed for line in storm.lines)
        del hub, ended
        nursery.cancel_scope.cancel()
    assert ends[HubLost] > 20
    assert ends[HubUnreachable] > 20
