"""Coming back: after which delays, how often, with what, and what is told of it meanwhile."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from random import Random

import pytest
import trio
import trio.testing

from flatguard.signalr import Close, Invocation, Ping
from flatguard.signalr_client.errors import HubCallFailed, HubLost, HubUnreachable
from flatguard.signalr_client.hub import STANDARD, Hub, open_hub
from flatguard.signalr_client.reconnect import CHANGES_HELD, STABLE_S, Link, LinkState, Phase, Serve, delay_s
from tests.fakes.chance import Edge
from tests.fakes.signalr_server import ACCEPTED, Answered, Behaviour, Peer, Site, serving

URL = "https://rtc.example.com/hubs/user"


# --- The schedule ---


@pytest.mark.parametrize(
    ("attempt", "lowest", "middle", "highest"),
    [(0, 0, 0, 0), (1, 1.6, 2, 2.4), (2, 8, 10, 12), (3, 24, 30, 36), (4, 48, 60, 72), (1_000, 48, 60, 72)],
)
def test_the_delay_grows_to_a_minute_and_never_ends(attempt: int, lowest: float, middle: float, highest: float) -> None:
    drawn = [delay_s(attempt, Edge(edge)) for edge in ("lowest", "middle", "highest")]
    assert drawn == pytest.approx([lowest, middle, highest])


def test_two_daemons_do_not_come_back_in_step() -> None:
    assert delay_s(4, Random(1)) != delay_s(4, Random(2))


def test_the_same_seed_gives_the_same_delay() -> None:
    assert delay_s(4, Random(1)) == delay_s(4, Random(1))


# --- A server that lets us in or not ---


class Door:
    """Opens hubs whose server does as the next behaviour says, the last one for ever; notes when."""

    def __init__(self, nursery: trio.Nursery, *behaviours: Behaviour | Exception) -> None:
        self.nursery = nursery
        self.behaviours = list(behaviours)
        self.tried_at: list[float] = []

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Hub]:
        behave = self.behaviours[min(len(self.tried_at), len(self.behaviours) - 1)]
        self.tried_at.append(trio.current_time())
        if isinstance(behave, Exception):
            raise behave
        async with open_hub(URL, negotiating=False, dial=serving(self.nursery, behave)) as hub:
            yield hub


async def listen(hub: Hub) -> None:
    while True:
        await hub.receive()


def closing(close: Close, after_s: float = 0.0) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await say_pings(peer, after_s)
        await peer.say(close)

    return behave


def cut(after_s: float = 0.0) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await say_pings(peer, after_s)
        await peer.socket.aclose(1001)

    return behave


async def say_pings(peer: Peer, for_s: float) -> None:
    with trio.move_on_after(for_s):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.listen)
            while True:
                await trio.sleep(15)
                await peer.say(Ping())


async def stay(peer: Peer) -> None:
    await peer.greet()
    await say_pings(peer, math.inf)


UNREACHABLE = HubUnreachable("nobody is there")


async def changes_of(link: Link, serve: Serve = listen, for_s: float = 1_000.0) -> list[LinkState]:
    """Keep a link for so long, or until it is closed, and return its changes."""
    with trio.move_on_after(for_s):
        await link.keep(serve)
    changes: list[LinkState] = []
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            changes.append(link.changes.receive_nowait())
    return changes


async def test_attempts_that_fail_come_after_the_delays_of_the_schedule_for_ever(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    door = Door(nursery, UNREACHABLE)
    await changes_of(Link(door, Edge()))
    assert door.tried_at[:7] == [0, 2, 12, 42, 102, 162, 222]
    assert door.tried_at[-1] == 942


async def test_a_loss_is_followed_by_an_attempt_at_once(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> None:
    door = Door(nursery, cut(after_s=STABLE_S), stay)
    await changes_of(Link(door, Edge()), for_s=70)
    assert door.tried_at == [0, STABLE_S]


async def test_only_a_connection_that_held_starts_the_delays_over(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    short, long = cut(after_s=STABLE_S - 1), cut(after_s=STABLE_S)
    door = Door(nursery, short, short, long, short, stay)
    await changes_of(Link(door, Edge()), for_s=400)
    ends = [at + for_s for at, for_s in zip(door.tried_at, (59, 59, 60, 59), strict=False)]
    assert [at - end for at, end in zip(door.tried_at[1:], ends, strict=True)] == [2, 10, 0, 2]


async def test_attempts_between_that_fail_count_on(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> None:
    door = Door(nursery, cut(after_s=STABLE_S), UNREACHABLE, UNREACHABLE, stay)
    await changes_of(Link(door, Edge()), for_s=100)
    assert door.tried_at == [0, 60, 62, 72]


async def test_a_hurry_cuts_the_pause_and_only_that_one(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> None:
    door = Door(nursery, UNREACHABLE)
    link = Link(door, Edge())
    nursery.start_soon(link.keep, listen)
    await trio.sleep(15)
    link.hurry()
    await trio.sleep(50)
    assert door.tried_at == [0, 2, 12, 15]


async def test_a_connection_that_only_looks_well_is_given_up_when_asked(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    door = Door(nursery, stay)
    link = Link(door, Edge())
    nursery.start_soon(link.keep, listen)
    await trio.sleep(10)
    link.reconnect()
    await trio.sleep(5)
    assert door.tried_at == [0, 12]
    assert link.statistics().reconnects == 1


# --- Whether to come back ---


async def test_a_close_without_an_invitation_is_the_end(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> None:
    door = Door(nursery, closing(Close("go away")))
    changes = await changes_of(Link(door, Edge()))
    assert [change.phase for change in changes] == [Phase.CONNECTED, Phase.CLOSED]
    assert changes[-1].reason == "the server closed the connection: go away"
    assert len(door.tried_at) == 1


async def test_a_close_with_an_invitation_is_a_loss_like_any_other(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    door = Door(nursery, closing(Close("restarting", allow_reconnect=True), after_s=STABLE_S), stay)
    await changes_of(Link(door, Edge()), for_s=70)
    assert door.tried_at == [0, 60]


async def test_who_must_not_stay_away_comes_back_uninvited_but_not_at_once(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    door = Door(nursery, closing(Close("go away"), after_s=STABLE_S), stay)
    changes = await changes_of(Link(door, Edge(), come_back_always=True), for_s=70)
    assert door.tried_at == [0, 62]
    assert [(change.phase, change.alarming) for change in changes] == [
        (Phase.CONNECTED, False),
        (Phase.RECONNECTING, True),
        (Phase.CONNECTED, False),
    ]


async def test_a_loss_that_will_recur_is_an_alarm_and_not_followed_at_once(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    async def garble(peer: Peer) -> None:
        await peer.greet()
        await say_pings(peer, STABLE_S)
        await peer.socket.send_message("garbage\x1e")

    door = Door(nursery, garble, stay)
    changes = await changes_of(Link(door, Edge()), for_s=70)
    assert door.tried_at == [0, 62]
    assert changes[1].alarming


@pytest.mark.parametrize("error", [HubCallFailed("Subscribe", "no"), HubLost("too quiet")])
async def test_whoever_serves_may_give_the_connection_up(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock, error: Exception
) -> None:
    async def give_up(hub: Hub) -> None:
        await trio.sleep(1)
        raise error

    door = Door(nursery, stay)
    changes = await changes_of(Link(door, Edge()), give_up, for_s=5)
    assert door.tried_at == [0, 3]
    assert changes[1].reason == str(error)


async def test_whoever_serves_and_returns_gets_another_connection(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    async def leave(hub: Hub) -> None:
        await trio.sleep(1)

    door = Door(nursery, stay)
    await changes_of(Link(door, Edge()), leave, for_s=5)
    assert door.tried_at == [0, 3]


async def test_what_the_server_said_counts_more_than_what_whoever_serves_made_of_it(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    async def confused(hub: Hub) -> None:
        with pytest.raises(HubLost):
            await hub.receive()
        raise HubCallFailed("Subscribe", "no")

    changes = await changes_of(Link(Door(nursery, closing(Close("go away"))), Edge()), confused)
    assert changes[-1].phase is Phase.CLOSED
    assert "go away" in changes[-1].reason


async def test_what_whoever_serves_knows_of_the_loss_is_not_forgotten(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    """A caller may learn before the reader that the socket closed, and with which code."""

    async def told_first(hub: Hub) -> None:
        await trio.sleep(STABLE_S)
        raise HubLost("the WebSocket closed with code 1009", will_recur=True)

    async def alive(peer: Peer) -> None:
        await peer.greet()
        await say_pings(peer, math.inf)

    door = Door(nursery, alive)
    changes = await changes_of(Link(door, Edge()), told_first, for_s=STABLE_S + 5)
    assert changes[1].alarming
    assert door.tried_at == [0, STABLE_S + 2]


async def test_asking_for_another_connection_while_one_is_being_made_changes_nothing(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    async def slow(peer: Peer) -> None:
        await trio.sleep(5)
        await peer.greet()
        await say_pings(peer, math.inf)

    door = Door(nursery, slow)
    link = Link(door, Edge())
    nursery.start_soon(link.keep, listen)
    await trio.sleep(3)
    link.reconnect()
    await trio.sleep(20)
    assert door.tried_at == [0]


async def test_an_alarm_stands_until_there_is_a_connection(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    door = Door(nursery, closing(Close("go away")), UNREACHABLE, stay)
    changes = await changes_of(Link(door, Edge(), come_back_always=True), for_s=60)
    assert [change.alarming for change in changes] == [False, True, True, False]


async def test_an_error_that_is_a_bug_ends_the_link(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> None:
    async def fail(hub: Hub) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as raised:
        await Link(Door(nursery, stay), Edge()).keep(fail)
    assert raised.group_contains(ZeroDivisionError)


@pytest.mark.parametrize("after_s", [0.5, 1.0, 5.0, 30.0])
async def test_a_cancel_ends_pause_attempt_and_connection_at_once(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock, after_s: float
) -> None:
    async def mute(peer: Peer) -> None:
        await trio.sleep_forever()

    door = Door(nursery, cut(after_s=1), mute, stay)
    link = Link(door, Edge())
    with trio.move_on_after(after_s):
        await link.keep(listen)
    assert trio.current_time() <= after_s + STANDARD.closing_limit_s, "time to say Close, where somebody might hear it"
    await trio.testing.wait_all_tasks_blocked()


async def test_every_attempt_asks_for_a_token_and_negotiates_anew(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    site = Site(nursery, behave=cut(after_s=10))
    site.answers = [Answered({**ACCEPTED, "connectionToken": f"id{n}", "connectionId": f"c{n}"}) for n in range(9)]
    tokens: list[str] = []

    async def token() -> str:
        await trio.lowlevel.checkpoint()
        tokens.append(f"t{len(tokens)}")
        return tokens[-1]

    link = Link(partial(open_hub, URL, token=token, dial=site.dial), Edge())
    changes = await changes_of(link, for_s=40)
    assert [path for path, _ in site.upgrades] == [f"/hubs/user?id=id{n}" for n in range(3)]
    assert [headers["authorization"] for _, headers in site.upgrades] == [f"Bearer t{n}" for n in range(3)]
    assert [asked.headers["authorization"] for asked in site.asked] == [f"Bearer t{n}" for n in range(3)]
    assert [c.connection_id for c in changes if c.phase is Phase.CONNECTED] == ["c0", "c1", "c2"]


# --- How it stands ---


async def test_a_link_tells_every_change_with_its_time_and_reason(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    door = Door(nursery, UNREACHABLE, cut(after_s=20), UNREACHABLE, UNREACHABLE, stay)
    link = Link(door, Edge())
    assert link.state == LinkState(Phase.CONNECTING, 0)
    closed = "the WebSocket closed with code 1001"
    assert await changes_of(link, for_s=200) == [
        LinkState(Phase.CONNECTING, 0, "nobody is there", attempt=1),
        LinkState(Phase.CONNECTED, 2),
        LinkState(Phase.RECONNECTING, 22, closed),
        LinkState(Phase.RECONNECTING, 22, "nobody is there", attempt=1),
        LinkState(Phase.RECONNECTING, 22, "nobody is there", attempt=2),
        LinkState(Phase.CONNECTED, 122),
    ]


async def test_a_watcher_who_is_far_behind_learns_the_latest_and_holds_nobody_up(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    door = Door(nursery, *[UNREACHABLE] * 40, stay)
    link = Link(door, Edge())
    nursery.start_soon(link.keep, listen)
    await trio.sleep(3_600)
    waiting = [link.changes.receive_nowait() for _ in range(CHANGES_HELD)]
    assert waiting[-1] == link.state
    assert link.state.phase is Phase.CONNECTED
    assert [state.attempt for state in waiting[:-1]] == list(range(40 - CHANGES_HELD + 2, 41))


async def test_a_watcher_may_leave(nursery: trio.Nursery, autojump_clock: trio.abc.Clock) -> None:
    link = Link(Door(nursery, UNREACHABLE), Edge())
    link.changes.close()
    with trio.move_on_after(50):
        await link.keep(listen)
    assert link.state.attempt == 4


async def test_the_counters_are_those_of_the_link_and_of_its_present_connection(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    async def talk(peer: Peer) -> None:
        await peer.greet(Invocation("A"), Invocation("B"))
        await trio.sleep(10)
        await peer.socket.aclose()

    link = Link(Door(nursery, talk, UNREACHABLE), Edge())
    assert (link.statistics().reconnects, link.statistics().connection) == (0, None)
    nursery.start_soon(link.keep, listen)
    await trio.sleep(5)
    present = link.statistics()
    assert present.connection is not None
    assert (present.connections, present.reconnects, present.connection.messages_received) == (1, 0, 3)
    await trio.sleep(20)
    assert link.statistics().connection is None
