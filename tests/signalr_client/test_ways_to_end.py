"""Every way in which a connection ends: what the hub says of it, and what a link does then.

A client comes back unless the server sent it away for good; a guard comes back always. What will recur, and what was
meant for good, alarms, and is not answered by coming back at once. Whoever comes back brings a new token, and has
negotiated anew.
"""

from __future__ import annotations

from random import Random

import pytest
import trio
from attrs import define, field

from flatguard.signalr import Close, HandshakeRefused, Ping
from flatguard.signalr_client.errors import HubLost, HubRefused
from flatguard.signalr_client.hub import Hub, open_hub
from flatguard.signalr_client.reconnect import STABLE_S, Link, LinkState, Phase
from flatguard.signalr_client.socket import Dial
from tests.fakes.breaking_stream import Break, BreakingStream, breaking_pair
from tests.fakes.signalr_server import ACCEPTED, Answered, Behaviour, Peer, Site

URL = "https://rtc.example.com/hubs/user"
LONG_S = 600.0
both_kinds = pytest.mark.parametrize("come_back_always", [False, True], ids=["client", "guard"])


class Middle(Random):
    """Draws the middle of every range, so that a delay can be named."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Each connection meets the next behaviour; the last one holds for all that follow."""
    rest = list(behaviours)

    async def behave(peer: Peer) -> None:
        await (rest.pop(0) if len(rest) > 1 else rest[0])(peer)

    return behave


async def stay_for_ever(peer: Peer) -> None:
    """Be a good server."""
    await peer.greet()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.listen)
        while True:
            await peer.say(Ping())
            await trio.sleep(15)


async def stay(peer: Peer) -> None:
    """Be a good server for long enough that the connection counts as one that held."""
    with trio.move_on_after(STABLE_S + 1):
        await stay_for_ever(peer)


@define
class Story:
    """A link to a server, and what became of its connections."""

    site: Site
    come_back_always: bool = False
    negotiating: bool = True
    dial: Dial | None = None
    tokens: list[str] = field(factory=list)
    tried_at: list[float] = field(factory=list)
    served_at: list[float] = field(factory=list)
    lost_at: list[float] = field(factory=list)
    losses: list[HubLost] = field(factory=list)
    ids: list[str | None] = field(factory=list)
    states: list[LinkState] = field(factory=list)
    over: bool = False
    discreet: bool = False
    """Whether whoever serves keeps the loss to itself, and returns as if nothing had been."""

    async def token(self) -> str:
        self.tried_at.append(trio.current_time())
        self.tokens.append(f"token-{len(self.tokens) + 1}")
        await trio.lowlevel.checkpoint()
        return self.tokens[-1]

    async def serve(self, hub: Hub) -> None:
        self.served_at.append(trio.current_time())
        self.ids.append(hub.connection_id)
        try:
            while True:
                await hub.receive()
        except HubLost as loss:
            self.losses.append(loss)
            self.lost_at.append(trio.current_time())
            if not self.discreet:
                raise

    async def tell(self, *, for_s: float = LONG_S) -> None:
        link = Link(
            lambda: open_hub(URL, token=self.token, negotiating=self.negotiating, dial=self.dial or self.site.dial),
            Middle(),
            self.come_back_always,
        )

        async def watch() -> None:
            async for state in link.changes:
                self.states.append(state)

        with trio.move_on_after(for_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await link.keep(self.serve)
                self.over = True

    @property
    def came_back_after_s(self) -> float:
        """The pause between the first loss and the attempt that follows it."""
        return self.tried_at[1] - self.lost_at[0]

    @property
    def pauses_s(self) -> list[float]:
        """The time between one attempt and the next, of attempts that took no time."""
        return [after - before for before, after in zip(self.tried_at, self.tried_at[1:], strict=False)]

    @property
    def phases(self) -> list[Phase]:
        return [state.phase for state in self.states]


@pytest.fixture
def anew(site: Site) -> Site:
    """A server whose every negotiation gives another id."""
    site.answers = [
        Answered({**ACCEPTED, "connectionId": f"public-{n}", "connectionToken": f"secret-{n}"}) for n in range(1, 20)
    ]
    return site


def check_each_came_with_a_new_token_and_a_new_id(story: Story) -> None:
    site = story.site
    assert [asked.headers["authorization"] for asked in site.asked] == [f"Bearer {token}" for token in story.tokens]
    assert [headers["authorization"] for _, headers in site.upgrades] == [f"Bearer {token}" for token in story.tokens]
    assert [path for path, _ in site.upgrades] == [f"/hubs/user?id=secret-{n + 1}" for n in range(len(site.upgrades))]
    assert len(set(story.tokens)) == len(story.tokens)


async def lose(
    site: Site, ending: Behaviour, *, come_back_always: bool, dial: Dial | None = None, discreet: bool = False
) -> Story:
    """Have a connection that held end as told; the next one holds for ever."""

    async def behave(peer: Peer) -> None:
        await stay(peer)
        await ending(peer)

    site.behave = in_turn(behave, stay_for_ever)
    story = Story(site, come_back_always, dial=dial, discreet=discreet)
    await story.tell()
    return story


def check_it_came_back_at_once_and_unalarmed(story: Story) -> None:
    [loss] = story.losses
    assert (loss.worth_reconnecting, loss.will_recur) == (True, False)
    assert story.came_back_after_s == 0
    assert story.phases == [Phase.CONNECTED, Phase.RECONNECTING, Phase.CONNECTED]
    assert [state.alarming for state in story.states] == [False, False, False]
    assert story.ids == ["public-1", "public-2"]
    assert not story.over
    check_each_came_with_a_new_token_and_a_new_id(story)


def check_it_came_back_after_a_pause_and_alarmed(story: Story) -> None:
    assert story.came_back_after_s == 2
    assert story.phases == [Phase.CONNECTED, Phase.RECONNECTING, Phase.CONNECTED]
    assert [state.alarming for state in story.states] == [False, True, False]
    assert story.ids == ["public-1", "public-2"]
    assert not story.over
    check_each_came_with_a_new_token_and_a_new_id(story)


# --- A Close ---


@both_kinds
@pytest.mark.parametrize("error", [None, "Connection closed with an error."])
async def test_a_close_without_leave_to_reconnect_is_for_good_except_for_a_guard(
    anew: Site, come_back_always: bool, error: str | None, autojump_clock: trio.abc.Clock
) -> None:
    story = await lose(anew, lambda peer: peer.say(Close(error)), come_back_always=come_back_always)
    [loss] = story.losses
    assert (loss.worth_reconnecting, loss.will_recur) == (False, False)
    assert (error or "it gave no reason") in loss.reason
    if come_back_always:
        check_it_came_back_after_a_pause_and_alarmed(story)
    else:
        assert story.over
        assert story.phases == [Phase.CONNECTED, Phase.CLOSED]
        assert story.states[-1].reason == loss.reason
        assert len(anew.asked) == len(anew.upgrades) == len(story.tokens) == 1


@both_kinds
async def test_a_close_for_good_is_heeded_although_whoever_serves_keeps_it_to_itself(
    anew: Site, come_back_always: bool, autojump_clock: trio.abc.Clock
) -> None:
    """As someone does who reads a stream to its end, and returns; the Close came behind it."""
    story = await lose(anew, lambda peer: peer.say(Close()), come_back_always=come_back_always, discreet=True)
    if come_back_always:
        check_it_came_back_after_a_pause_and_alarmed(story)
    else:
        assert story.over
        assert story.phases == [Phase.CONNECTED, Phase.CLOSED]
        assert story.states[-1].reason == story.losses[0].reason


@both_kinds
@pytest.mark.parametrize("error", [None, "Restarting"])
async def test_a_close_with_leave_to_reconnect_is_a_loss_like_any_other(
    anew: Site, come_back_always: bool, error: str | None, autojump_clock: trio.abc.Clock
) -> None:
    ending = Close(error, allow_reconnect=True)
    story = await lose(anew, lambda peer: peer.say(ending), come_back_always=come_back_always)
    check_it_came_back_at_once_and_unalarmed(story)
    assert (error or "it gave no reason") in story.losses[0].reason


# --- A goodbye of the WebSocket, and the end of the line ---


@both_kinds
@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_websocket_closed_in_good_order_without_a_close_is_a_loss(
    anew: Site, come_back_always: bool, code: int, autojump_clock: trio.abc.Clock
) -> None:
    story = await lose(anew, lambda peer: peer.socket.aclose(code), come_back_always=come_back_always)
    check_it_came_back_at_once_and_unalarmed(story)
    assert story.losses[0].reason == f"the WebSocket closed with code {code}"


@both_kinds
@pytest.mark.parametrize("how", [Break.END, Break.RESET])
async def test_the_end_of_the_line_is_a_loss(
    anew: Site, come_back_always: bool, how: Break, autojump_clock: trio.abc.Clock
) -> None:
    lines: list[BreakingStream] = []

    async def dial(url: str) -> trio.abc.Stream:
        ours, theirs = breaking_pair(how)
        lines.append(ours)
        anew.nursery.start_soon(anew.attend, theirs)
        return ours

    async def ending(peer: Peer) -> None:
        lines[1].break_off()  # number 0 was the negotiation's
        await trio.sleep_forever()

    story = await lose(anew, ending, come_back_always=come_back_always, dial=dial)
    check_it_came_back_at_once_and_unalarmed(story)
    assert story.losses[0].reason == "the WebSocket closed with code 1006"


@both_kinds
@pytest.mark.parametrize("code", [1002, 1007, 1009])
async def test_a_close_code_for_a_broken_protocol_or_size_limit_alarms_and_is_not_hurried(
    anew: Site, come_back_always: bool, code: int, autojump_clock: trio.abc.Clock
) -> None:
    story = await lose(anew, lambda peer: peer.socket.aclose(code), come_back_always=come_back_always)
    [loss] = story.losses
    assert (loss.worth_reconnecting, loss.will_recur) == (True, True)
    assert loss.reason == f"the WebSocket closed with code {code}"
    check_it_came_back_after_a_pause_and_alarmed(story)


FRAMES = {
    "an opcode that nobody knows": b"\x83\x00",
    "text that is no UTF-8": b"\x81\x02\xff\x1e",
    "a message beyond all limits": b"\x81\x7f" + (17 * 2**20).to_bytes(8, "big") + b" " * (17 * 2**20),
}


@both_kinds
@pytest.mark.parametrize("frame", FRAMES)
async def test_a_server_that_breaks_the_websocket_protocol_alarms_and_is_not_hurried_back_to(
    anew: Site, come_back_always: bool, frame: str, autojump_clock: trio.abc.Clock
) -> None:
    async def ending(peer: Peer) -> None:
        await peer.socket._stream.send_all(FRAMES[frame])

    story = await lose(anew, ending, come_back_always=come_back_always)
    [loss] = story.losses
    assert (loss.worth_reconnecting, loss.will_recur) == (True, True)
    check_it_came_back_after_a_pause_and_alarmed(story)


# --- A server that is there and yet is not ---


@both_kinds
async def test_a_server_that_says_nothing_for_thirty_seconds_is_lost_whatever_its_websocket_says(
    anew: Site, come_back_always: bool, autojump_clock: trio.abc.Clock
) -> None:
    silent_since: list[float] = []

    async def ending(peer: Peer) -> None:
        await peer.say(Ping())
        silent_since.append(trio.current_time())
        while True:
            await trio.sleep(5)
            await peer.socket.ping()
            await peer.socket.pong()

    story = await lose(anew, ending, come_back_always=come_back_always)
    check_it_came_back_at_once_and_unalarmed(story)
    assert story.lost_at[0] - silent_since[0] == 30
    assert story.losses[0].reason == "the server said nothing for 30 s"


@both_kinds
@pytest.mark.parametrize("text", ["garbage\x1e", "\x1e", '{"type":1}\x1e', '{"type":6}\x1e[]\x1e', "{}\x1e"])
async def test_a_message_that_cannot_be_understood_alarms_and_is_not_hurried(
    anew: Site, come_back_always: bool, text: str, autojump_clock: trio.abc.Clock
) -> None:
    story = await lose(anew, lambda peer: peer.socket.send_message(text), come_back_always=come_back_always)
    [loss] = story.losses
    assert (loss.worth_reconnecting, loss.will_recur) == (True, True)
    assert loss.reason.startswith("the server broke the protocol: ")
    check_it_came_back_after_a_pause_and_alarmed(story)


@both_kinds
async def test_what_recurs_is_met_with_ever_longer_pauses(
    anew: Site, come_back_always: bool, autojump_clock: trio.abc.Clock
) -> None:
    async def babble(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.send_message("garbage\x1e")

    anew.behave = babble
    story = Story(anew, come_back_always)
    await story.tell(for_s=240)
    assert story.pauses_s == [2, 10, 30, 60, 60, 60]
    assert [state.alarming for state in story.states if state.phase is Phase.RECONNECTING] == [True] * 7


# --- An attempt to come back that fails ---


async def come_back_to(site: Site, refusal: Behaviour, *, come_back_always: bool) -> Story:
    """Lose a connection that held; the attempt to come back is refused as told, and the one after it is not."""

    async def go_away(peer: Peer) -> None:
        await stay(peer)
        await peer.socket.aclose(1001)

    site.behave = in_turn(go_away, refusal, stay_for_ever)
    story = Story(site, come_back_always)
    await story.tell()
    return story


def check_the_next_attempt_succeeded(story: Story, reason: str) -> None:
    assert story.came_back_after_s == 0
    assert story.tried_at[2] - story.tried_at[1] == 2
    assert story.phases == [Phase.CONNECTED, Phase.RECONNECTING, Phase.RECONNECTING, Phase.CONNECTED]
    assert [state.attempt for state in story.states] == [0, 0, 1, 0]
    assert [state.alarming for state in story.states] == [False] * 4
    assert story.states[1].since == story.states[2].since == story.lost_at[0]
    assert reason in story.states[2].reason
    assert len(story.losses) == 1
    assert not story.over


@both_kinds
async def test_a_handshake_refused_on_the_way_back_is_a_failed_attempt(
    anew: Site, come_back_always: bool, autojump_clock: trio.abc.Clock
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.accept()
        await peer.hear()
        await peer.say(HandshakeRefused("Handshake was canceled."))

    story = await come_back_to(anew, refuse, come_back_always=come_back_always)
    check_the_next_attempt_succeeded(story, "the server refused the handshake: Handshake was canceled.")
    check_each_came_with_a_new_token_and_a_new_id(story)
    assert story.ids == ["public-1", "public-3"]


@both_kinds
@pytest.mark.parametrize("status", [401, 403, 404])
async def test_an_upgrade_refused_on_the_way_back_is_tried_again_with_a_new_token_and_a_new_id(
    anew: Site, come_back_always: bool, status: int, autojump_clock: trio.abc.Clock
) -> None:
    """After 401 and 403 it takes another token, after 404, where the id was stale, another negotiation."""

    async def refuse(peer: Peer) -> None:
        await peer.request.reject(status)
        await trio.sleep_forever()

    story = await come_back_to(anew, refuse, come_back_always=come_back_always)
    check_the_next_attempt_succeeded(story, f"HTTP {status}")
    check_each_came_with_a_new_token_and_a_new_id(story)


@both_kinds
@pytest.mark.parametrize("status", [401, 403])
async def test_a_negotiation_refused_on_the_way_back_is_tried_again_with_a_new_token(
    anew: Site, come_back_always: bool, status: int, autojump_clock: trio.abc.Clock
) -> None:
    anew.answers[1] = Answered("", status)
    story = await come_back_to(anew, stay_for_ever, come_back_always=come_back_always)
    check_the_next_attempt_succeeded(story, f"HTTP {status} to the negotiation")
    assert [asked.headers["authorization"] for asked in anew.asked] == [f"Bearer token-{n}" for n in (1, 2, 3)]
    assert [headers["authorization"] for _, headers in anew.upgrades] == ["Bearer token-1", "Bearer token-3"]


@both_kinds
@pytest.mark.parametrize("status", [401, 403, 404])
async def test_without_negotiation_a_refused_upgrade_is_tried_again_with_a_new_token(
    site: Site, come_back_always: bool, status: int, autojump_clock: trio.abc.Clock
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.request.reject(status)
        await trio.sleep_forever()

    site.behave = in_turn(refuse, stay_for_ever)
    story = Story(site, come_back_always, negotiating=False)
    await story.tell()
    assert story.pauses_s == [2]
    assert site.asked == []
    assert [headers["authorization"] for _, headers in site.upgrades] == ["Bearer token-1", "Bearer token-2"]
    assert story.phases == [Phase.CONNECTING, Phase.CONNECTED]


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("by_negotiation", [True, False])
async def test_who_opens_one_connection_learns_the_status_of_its_refusal(
    site: Site, status: int, by_negotiation: bool
) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.request.reject(status)
        await trio.sleep_forever()

    site.behave = refuse
    if by_negotiation:
        site.answers = [Answered("", status)]
    with pytest.raises(HubRefused) as refused:
        async with open_hub(URL, dial=site.dial):
            pytest.fail("it opened")
    assert refused.value.status == status
    assert len(site.asked) == 1, "one connection is one attempt"
