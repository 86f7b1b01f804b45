"""The ten things that clients of SignalR most often get wrong, each seen from outside, through all layers at once."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from decimal import Decimal
from random import Random

import pytest
import trio
import trio.testing
from attrs import define, field

from flatguard.errors import FlatguardError
from flatguard.signalr import (
    Close,
    Completion,
    HandshakeAccepted,
    HandshakeRequest,
    Invocation,
    Ping,
    StreamInvocation,
    StreamItem,
)
from flatguard.signalr_client.address import TokenIn
from flatguard.signalr_client.errors import HubCallUnresolved, HubError, HubLost, HubUnreachable
from flatguard.signalr_client.handlers import Dispatcher
from flatguard.signalr_client.hub import Hub, open_hub
from flatguard.signalr_client.reconnect import Link
from tests.fakes.breaking_stream import Break, BreakingStream, breaking_pair
from tests.fakes.signalr_server import ACCEPTED, Answered, Behaviour, Line, Peer, Serve, Site, attend, greet

URL = "https://rtc.example.com/hubs/user"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.s3cr3t"


async def token() -> str:
    await trio.lowlevel.checkpoint()
    return TOKEN


async def take(hub: Hub, count: int) -> list[Invocation]:
    """Receive so many calls, in however many batches."""
    taken: list[Invocation] = []
    while len(taken) < count:
        taken += await hub.receive()
    return taken


# --- The stream is cut at the separator, wherever the WebSocket's messages end ---

EVENTS = [Invocation("Füße 😀", (number, Decimal("1.50"), "\x1e")) for number in range(5)]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 100_000])
async def test_the_handshake_and_what_follows_it_may_come_in_pieces_of_any_size(serve: Serve, size: int) -> None:
    """One piece with everything in it, and pieces that end within a character, are the two that get lost."""

    async def behave(peer: Peer) -> None:
        await peer.accept()
        await peer.hear()
        octets = "".join([peer.core.send(message) for message in (HandshakeAccepted(), *EVENTS)]).encode()
        for start in range(0, len(octets), size):
            await peer.socket.send_message(octets[start : start + size])

    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub:
        assert repr(await take(hub, len(EVENTS))) == repr(EVENTS)


async def test_a_handshake_answer_that_comes_in_two_pieces_is_waited_for(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    async def behave(peer: Peer) -> None:
        await peer.accept()
        await peer.hear()
        await peer.socket.send_message("{")
        await trio.sleep(5)
        await peer.socket.send_message('}\x1e{"type":1,"target":"A","argum')
        await trio.sleep(5)
        await peer.socket.send_message('ents":[]}\x1e')

    began_at = trio.current_time()
    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub:
        assert trio.current_time() - began_at == 5
        assert await hub.receive() == [Invocation("A")]


# --- Nothing is sent before the handshake is answered ---


async def test_a_hub_is_not_open_and_says_nothing_until_the_handshake_is_answered(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    heard_before_the_answer: list[object] = []

    async def behave(peer: Peer) -> None:
        await peer.accept()
        with trio.move_on_after(14):
            await peer.listen()
        heard_before_the_answer.extend(message for _, message in peer.heard)
        await peer.say(HandshakeAccepted())
        await peer.answer_calls("done")

    began_at = trio.current_time()
    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub:
        assert trio.current_time() - began_at == 14
        assert await hub.invoke("First") == "done"
    assert heard_before_the_answer == [HandshakeRequest()]


# --- Pings go by what we said last, patience by what the server said last ---


async def test_a_ping_goes_out_at_once_and_then_whenever_we_have_said_nothing_for_fifteen_seconds(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    """Whatever the server says meanwhile: it counts what it hears."""
    line = Line()

    async def behave(peer: Peer) -> None:
        await line(peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.answer_calls)
            while True:
                await trio.sleep(1)
                await peer.say(Invocation("Quote"))

    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub:
        await trio.sleep(20)
        await hub.invoke("Subscribe")
        await trio.sleep(35)
        assert line.peer.times_of(Ping) == [0, 15, 35, 50]
        assert line.peer.times_of(Invocation) == [20]


@pytest.mark.parametrize(
    "sign_of_life",
    [
        '{"type":6}\x1e',
        '{"type":99}\x1e',
        '{"type":1,"target":"A","arguments":[]}\x1e',
        '{"type":3,"invocationId":"0"}\x1e',
    ],
)
async def test_any_message_of_the_server_is_a_sign_of_life(
    serve: Serve, sign_of_life: str, autojump_clock: trio.abc.Clock
) -> None:
    began_at = trio.current_time()

    async def behave(peer: Peer) -> None:
        await peer.greet()
        for _ in range(3):
            await trio.sleep(29)
            await peer.socket.send_message(sign_of_life)
        await trio.sleep_forever()

    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub:
        await lost(hub)
        assert trio.current_time() - began_at == 3 * 29 + 30


async def test_a_websocket_that_is_alive_does_not_speak_for_the_hub(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    """A proxy answers pings long after the hub behind it has died. Nor does what we say count."""
    began_at = trio.current_time()

    async def behave(peer: Peer) -> None:
        await peer.greet()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.listen)
            while True:
                await trio.sleep(1)
                await peer.socket.ping()
                await peer.socket.pong()
                await peer.socket.send_message("")

    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub, trio.open_nursery() as nursery:

        async def talk() -> None:
            while True:
                await hub.send("Anyone?")
                await trio.sleep(1)

        async def talk_until_lost() -> None:
            with pytest.raises(HubLost):
                await talk()

        nursery.start_soon(talk_until_lost)
        assert "said nothing for 30 s" in (await lost(hub)).reason
        assert trio.current_time() - began_at == 30


async def lost(hub: Hub) -> HubLost:
    """Wait until the hub is lost, and return why."""
    with pytest.raises(HubLost) as loss:
        await take(hub, 1_000_000)
    return loss.value


# --- Whoever waits learns of the loss in that moment ---


@define
class Ending:
    """One way to lose a connection. A line that breaks has nobody at its end who could say so."""

    name: str
    after_s: float = 0

    async def __call__(self, peer: Peer, line: BreakingStream) -> None:
        match self.name:
            case "close":
                await peer.say(Close("bye"))
            case "goodbye":
                await peer.socket.aclose()
            case "garbage":
                await peer.socket.send_message("garbage\x1e")
            case "end" | "reset":
                line.break_off()
        await trio.sleep_forever()


ENDINGS = [Ending("close"), Ending("goodbye"), Ending("garbage"), Ending("end"), Ending("reset"), Ending("silence", 30)]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
async def test_every_call_and_every_stream_fails_the_moment_the_connection_is_lost(
    nursery: trio.Nursery, ending: Ending, autojump_clock: trio.abc.Clock
) -> None:
    ours, theirs = breaking_pair(Break.END if ending.name == "end" else Break.RESET)

    async def behave(peer: Peer) -> None:
        await peer.greet()
        while len(peer.times_of(Invocation)) < 20 or len(peer.times_of(StreamInvocation)) < 20:
            await peer.hear()
        for _, message in list(peer.heard):
            if isinstance(message, StreamInvocation):
                await peer.say(StreamItem(message.invocation_id, None))
        await trio.testing.wait_all_tasks_blocked()
        await ending(peer, ours)

    async def dial(url: str) -> trio.abc.Stream:
        nursery.start_soon(attend, theirs, behave)
        return ours

    failed_at: list[float] = []
    items: list[object] = []
    async with open_hub(URL, negotiating=False, dial=dial) as hub:

        async def call(number: int) -> None:
            with pytest.raises(HubCallUnresolved, match=f"Call{number} may or may not have run: "):
                await hub.invoke(f"Call{number}")
            failed_at.append(trio.current_time())

        async def iterate(number: int) -> None:
            async with hub.stream(f"Stream{number}") as stream:
                with pytest.raises(HubCallUnresolved, match=f"Stream{number} may or may not have run: "):
                    items.extend([item async for item in stream])
                failed_at.append(trio.current_time())

        began_at = trio.current_time()
        async with trio.open_nursery() as waiting:
            for number in range(20):
                waiting.start_soon(call, number)
                waiting.start_soon(iterate, number)
        assert failed_at == [began_at + ending.after_s] * 40
        assert hub.statistics().calls_waiting == 0
        assert hub.statistics().messages_waiting == 0


async def test_every_call_and_every_stream_fails_the_moment_we_leave(
    nursery: trio.Nursery, serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    failed_at: list[float] = []
    line = Line()

    async def call(hub: Hub) -> None:
        with pytest.raises(HubCallUnresolved, match="Call may or may not have run: we left"):
            await hub.invoke("Call")
        failed_at.append(trio.current_time())

    async def iterate(hub: Hub) -> None:
        async with hub.stream("Stream") as stream:
            with pytest.raises(HubCallUnresolved, match="Stream may or may not have run: we left"):
                await anext(stream)
            failed_at.append(trio.current_time())

    async with open_hub(URL, negotiating=False, dial=serve(line)) as hub:
        for waiter in (call, iterate) * 3:
            nursery.start_soon(waiter, hub)
        await trio.testing.wait_all_tasks_blocked()
        left_at = trio.current_time()
    assert failed_at == [left_at] * 6
    with pytest.raises(HubLost, match="we left"):
        await hub.invoke("Late")


# --- Coming back is a whole new beginning ---


def linked(site: Site, *, ask: Callable[[], Awaitable[str]] = token) -> Link:
    return Link(lambda: open_hub(URL, token=ask, dial=site.dial), Random(1), come_back_always=True)


async def receive_for_ever(hub: Hub) -> None:
    await lost(hub)
    raise HubLost("for the link to know")


async def test_coming_back_takes_the_first_address_a_new_token_a_new_id_and_a_new_handshake(
    site: Site, autojump_clock: trio.abc.Clock
) -> None:
    heard: list[object] = []

    async def behave(peer: Peer) -> None:
        await peer.greet(Close(allow_reconnect=True))
        heard.append(peer.heard[0][1])

    def id_(number: int) -> Answered:
        return Answered({**ACCEPTED, "connectionToken": f"id-{number}"})

    on = Answered({"url": "https://elsewhere.example/hub", "accessToken": "theirs"})
    site.behave = behave
    site.answers = [on, id_(1), on, id_(2), on, id_(3), Answered("", 503)]
    tokens: list[str] = []

    async def ask() -> str:
        tokens.append(f"ours-{len(tokens) + 1}")
        return tokens[-1]

    with trio.move_on_after(20):
        await linked(site, ask=ask).keep(receive_for_ever)
    asked = [(asked.headers["host"], asked.headers["authorization"]) for asked in site.asked[:6]]
    assert asked == [
        place
        for number in (1, 2, 3)
        for place in (("rtc.example.com", f"Bearer ours-{number}"), ("elsewhere.example", "Bearer theirs"))
    ]
    assert [path for path, _ in site.upgrades] == [f"/hub?id=id-{number}" for number in (1, 2, 3)]
    assert heard == [HandshakeRequest()] * 3


async def test_one_connection_is_one_attempt_and_a_link_is_as_many_as_it_takes(
    site: Site, autojump_clock: trio.abc.Clock
) -> None:
    site.answers = [Answered("", 503)]
    with pytest.raises(HubError):
        async with open_hub(URL, dial=site.dial):
            pytest.fail("it opened")
    await trio.sleep(1_000)
    assert len(site.asked) == 1
    link = linked(site)
    with trio.move_on_after(100_000):
        await link.keep(receive_for_ever)
    attempts = len(site.asked) - 1
    assert 100_000 / 72 < attempts < 100_000 / 48
    assert link.state.attempt == attempts


async def nothing(peer: Peer) -> None:
    await trio.sleep_forever()


async def upgrade_only(peer: Peer) -> None:
    await peer.accept()


async def refuse(peer: Peer) -> None:
    await peer.request.reject(503)
    await trio.sleep_forever()


@pytest.mark.parametrize("where", ["token", "dial", "negotiation", "upgrade", "handshake", "service", "pause"])
async def test_coming_back_can_be_given_up_at_any_point(
    nursery: trio.Nursery, where: str, autojump_clock: trio.abc.Clock
) -> None:
    behaviours: dict[str, Behaviour] = {"upgrade": nothing, "handshake": upgrade_only, "pause": refuse}
    site = Site(nursery, behave=behaviours.get(where, greet))
    lines: list[BreakingStream] = []

    async def ask() -> str:
        if where == "token":
            await trio.sleep_forever()
        return TOKEN

    async def dial(url: str) -> trio.abc.Stream:
        if where == "dial":
            await trio.sleep_forever()
        ours, theirs = breaking_pair(Break.END)
        lines.append(ours)
        if where != "negotiation":
            nursery.start_soon(site.attend, theirs)
        else:
            kept.append(theirs)
        return ours

    kept: list[trio.abc.Stream] = []
    link = Link(lambda: open_hub(URL, token=ask, dial=dial), Random(1))
    began_at = trio.current_time()
    with trio.move_on_after(1) as scope:
        await link.keep(receive_for_ever)
    assert scope.cancelled_caught
    assert trio.current_time() - began_at == 1
    assert len(lines) == {"token": 0, "dial": 0, "negotiation": 1}.get(where, 2)
    assert all(line.closed for line in lines)


# --- A Close is honoured, and only a Close ---


@pytest.mark.parametrize(
    ("close", "worth_reconnecting"),
    [
        ('{"type":7}', False),
        ('{"type":7,"allowReconnect":false}', False),
        ('{"type":7,"allowReconnect":null}', False),
        ('{"type":7,"allowReconnect":1}', False),
        ('{"type":7,"allowReconnect":"true"}', False),
        ('{"type":7,"AllowReconnect":true}', False),
        ('{"type":7,"allowReconnect":true}', True),
        ('{"type":7,"error":"bye","allowReconnect":true}', True),
        ('{"type":7,"error":5}', False),
    ],
)
async def test_a_close_invites_us_back_only_by_the_word_true(
    serve: Serve, close: str, *, worth_reconnecting: bool
) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.send_message(close + '\x1e{"type":1,"target":"Late","arguments":[]}\x1egarbage\x1e')

    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub:
        loss = await lost(hub)
        assert (loss.worth_reconnecting, loss.will_recur) == (worth_reconnecting, False)
        assert "the server closed the connection" in loss.reason


@pytest.mark.parametrize("code", [1000, 1001])
async def test_a_websocket_that_closes_in_good_order_without_a_close_was_lost(serve: Serve, code: int) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.aclose(code)

    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub:
        assert (await lost(hub)).worth_reconnecting


# --- What is unknown is passed over, what is malformed ends the connection, and only one family of errors leaves ---


async def test_unknown_types_and_properties_are_passed_over(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        for text in (
            '{"type":0}',
            '{"type":99,"invocationId":null,"target":7}',
            '{"type":4,"target":"T","arguments":[],"invocationId":"1"}',
            '{"type":8,"sequenceId":1}',
            '{"type":9,"sequenceId":1}',
            '{"headers":{"a":7},"self":1,"type":1,"target":"A","arguments":[],"streamIds":7,"new":[]}',
        ):
            await peer.socket.send_message(text + "\x1e")

    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub:
        assert await hub.receive() == [Invocation("A")]


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        "{}",
        '{"type":true}',
        '{"type":1,"target":"","arguments":[]}',
        '{"type":1,"target":"T","arguments":null}',
        '{"type":2,"invocationId":"1"}',
        '{"type":3,"invocationId":null}',
        '{"type":6,"x":NaN}',
        '{"type":6,"x":1e999999999}',
        '{"type":6,"x":' + "9" * 5_000 + "}",
        '{"type":6,"x":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"type":1,"target":"\\ud800","arguments":[]}',
        '{"type":6',
    ],
    ids=lambda record: record[:30],
)
async def test_what_is_malformed_ends_the_connection_with_the_one_error_behind_what_was_good(
    serve: Serve, record: str
) -> None:
    good = '{"type":1,"target":"Good","arguments":[]}\x1e'

    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.send_message(good + record + "\x1e" + good)

    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub:
        assert await hub.receive() == [Invocation("Good")]
        with pytest.raises(HubLost, match="the server broke the protocol") as loss:
            await hub.receive()
        assert type(loss.value) is HubLost
        with pytest.raises(HubLost):
            await hub.invoke("Late")


@pytest.mark.parametrize(
    "url",
    [
        "https://h.example/a b",
        "https://h.example/hüb",
        "https://hüb.example/",
        "https://h.example/\r\nX: y",
        "https://h\x00.example/",
        "https://[::1",
        "https://h.example:99999/",
        "https://h.example:seven/",
        "https://h.example:0/",
        f"https://{'h' * 64}.example/",
        "https://h..example/",
        "https://",
    ],
)
async def test_a_redirect_to_what_cannot_be_dialled_is_an_error_of_the_family(site: Site, url: str) -> None:
    """Each is one that some layer below would have refused in its own way."""
    site.answers = [Answered({"url": url})]
    with pytest.raises(HubUnreachable, match="something that is no http URL"):
        async with open_hub(URL, token=token, dial=site.dial):
            pytest.fail("it opened")
    assert len(site.asked) == 1


async def test_a_cookie_that_no_header_of_ours_can_hold_is_not_brought_back(site: Site) -> None:
    cookies = tuple(("Set-Cookie", cookie) for cookie in ("name=José", "é=1", "affinity=7; Path=/"))
    site.answers = [Answered({"url": URL}, headers=cookies), Answered(ACCEPTED, headers=cookies[:1])]
    async with open_hub(URL, dial=site.dial):
        pass
    assert site.asked[1].headers["cookie"] == "affinity=7"
    assert site.upgrades[0][1]["cookie"] == "affinity=7"


# --- Absent, null and all that is false are told apart ---


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ("", None),
        (',"result":null', None),
        (',"result":null,"error":null', None),
        (',"error":""', None),
        (',"result":""', ""),
        (',"result":0', 0),
        (',"result":0.0', Decimal("0.0")),
        (',"result":false', False),
        (',"result":[]', []),
        (',"result":{}', {}),
        (',"result":"x","error":null', "x"),
    ],
)
async def test_a_call_returns_exactly_what_the_completion_holds(serve: Serve, fields: str, result: object) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        while not peer.times_of(Invocation):
            await peer.hear()
        await peer.socket.send_message('{"type":3,"invocationId":"1"' + fields + "}\x1e")

    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub:
        assert repr(await hub.invoke("Call")) == repr(result)


# --- Handlers run apart from the reader, in order, each for itself; and every question gets one answer ---


async def test_handlers_run_in_order_and_hold_up_nothing_else_and_fail_alone(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    line = Line()
    ran: list[str] = []
    failures: list[tuple[str, str]] = []

    async def behave(peer: Peer) -> None:
        await line(peer)
        await peer.say(*(Invocation("Tell", (number,)) for number in range(3)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.answer_calls)
            while True:
                await trio.sleep(15)
                await peer.say(Ping())

    async with open_hub(URL, negotiating=False, dial=serve(behave)) as hub, trio.open_nursery() as nursery:

        async def slowly(number: int) -> None:
            await hub.invoke("Ask", number)
            await trio.sleep(40)
            ran.append(f"slow {number}")

        async def faultily(number: int) -> None:
            raise ValueError(f"faulty {number}")

        async def quickly(number: int) -> None:
            ran.append(f"quick {number}")

        dispatcher = Dispatcher(
            {"Tell": [slowly, faultily, quickly]},
            lambda target, error: failures.append((target, str(error))),
        )
        nursery.start_soon(dispatcher.run, hub)
        await trio.sleep(125)
        assert ran == [f"{how} {number}" for number in range(3) for how in ("slow", "quick")]
        assert failures == [("Tell", f"faulty {number}") for number in range(3)]
        assert line.peer.times_of(Invocation) == [0, 40, 80]
        nursery.cancel_scope.cancel()


MANY = 120
"""Of the slow ones, more than are answered at once."""


@define
class Answers:
    """Handlers of every temper."""

    slowly: list[int] = field(factory=list)

    async def value(self, number: int) -> object:
        return number

    async def none(self, number: int) -> object:
        return None

    async def fault(self, number: int) -> object:
        raise ValueError("a fault")

    async def unwritable(self, number: int) -> object:
        return object()

    async def slow(self, number: int) -> object:
        self.slowly.append(number)
        await trio.sleep(10)
        return number

    async def two(self, number: int, other: int) -> object:
        return number, other


async def test_every_question_gets_exactly_one_answer_and_what_is_no_question_gets_none(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    line = Line()
    targets = ["value", "none", "fault", "unwritable", "slow", "two", "nobody's"]
    handlers = Answers()
    answers = {name: getattr(handlers, name) for name in targets[:-1]}
    async with open_hub(URL, negotiating=False, dial=serve(line), answers=answers) as hub:
        await line.up.wait()
        questions = [Invocation(targets[n % 7], (n,), f"q{n}") for n in range(7 * MANY)]
        for question in questions:
            await line.peer.say(question, Invocation("Tell", (question.invocation_id,)))
        with trio.move_on_after(25):
            await take(hub, 1_000_000)
        said = [message for _, message in line.peer.heard if isinstance(message, Completion)]
        assert sorted(answer.invocation_id for answer in said) == sorted(f"q{n}" for n in range(7 * MANY))
        for answer in said:
            number = int(answer.invocation_id[1:])
            match targets[number % 7]:
                case _ if answer.error == "Client is busy.":
                    continue
                case "value" | "slow":
                    assert answer == Completion(answer.invocation_id, number)
                case "none":
                    assert answer == Completion(answer.invocation_id, None)
                case _:
                    assert answer.error
        assert 50 < len(handlers.slowly) < MANY, "there is a limit, and who is beyond it is told"
        assert handlers.slowly == sorted(handlers.slowly)


# --- The token goes where it belongs, and nowhere else ---


@pytest.mark.parametrize("token_in", [TokenIn.HEADER, TokenIn.QUERY, TokenIn.HEADER | TokenIn.QUERY])
@pytest.mark.parametrize("negotiating", [True, False])
async def test_the_token_goes_in_header_or_query_as_chosen_and_in_no_message_error_or_log(
    site: Site, caplog: pytest.LogCaptureFixture, token_in: TokenIn, *, negotiating: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    heard: list[str] = []

    async def behave(peer: Peer) -> None:
        await peer.accept()
        while True:
            text = str(await peer.socket.get_message())
            heard.append(text)
            for message in peer.core.receive(text):
                match message:
                    case HandshakeRequest():
                        await peer.say(HandshakeAccepted(), Invocation("Ask", (), "q"))
                    case Invocation(target="Call"):
                        await peer.say(Completion(message.invocation_id or "", None))
                    case Invocation(target="Die"):
                        await peer.socket.send_message("garbage\x1e")

    site.behave = behave
    errors: list[FlatguardError] = []
    async with open_hub(URL, token=token, token_in=token_in, negotiating=negotiating, dial=site.dial) as hub:
        await hub.invoke("Call")
        await hub.send("Tell")
        async with hub.stream("Stream"):
            pass
        for attempt in ("Die", "Late"):
            with pytest.raises(FlatguardError) as error:
                await hub.invoke(attempt)
            errors.append(error.value)
    requests = [(asked.target, asked.headers) for asked in site.asked] + site.upgrades
    assert len(requests) == 1 + negotiating
    for target, headers in requests:
        assert (headers.get("authorization") == f"Bearer {TOKEN}") == (TokenIn.HEADER in token_in)
        assert (f"access_token={TOKEN}" in target) == (TokenIn.QUERY in token_in)
    assert len(heard) >= 5
    told = "".join([*heard, caplog.text, *site.dialled, repr(hub), *map(_whole, errors)])
    assert TOKEN not in told
    assert "headers" not in "".join(heard)


def _whole(error: FlatguardError) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
