"""The driver against a real WebSocket server and our own server-side core, on streams in memory, in virtual time."""

from __future__ import annotations

import logging
import traceback
from decimal import Decimal
from functools import partial

import pytest
import trio
import trio.testing

from flatguard.errors import GatewayUnreachable
from flatguard.signalr import (
    VOID,
    Close,
    Completion,
    HandshakeAccepted,
    HandshakeRefused,
    HandshakeRequest,
    Invocation,
    LocalProtocolError,
    Ping,
    StreamItem,
)
from flatguard.signalr_client import hub as hub_module
from flatguard.signalr_client.address import TokenIn
from flatguard.signalr_client.errors import HubCallFailed, HubCallUnresolved, HubLost, HubRefused, HubUnreachable
from flatguard.signalr_client.hub import Hub
from flatguard.signalr_client.hub import open_hub as open_hub_by_default
from flatguard.signalr_client.socket import Dial
from tests.fakes.signalr_server import Behaviour, Line, Pair, Peer, Serve, deaf_after_greeting, greet

URL = "https://rtc.example.com/hubs/user"
open_hub = partial(open_hub_by_default, token_in=TokenIn.HEADER | TokenIn.QUERY, negotiating=False)
TOKEN = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.s3cr3t+/="


async def token() -> str:
    return TOKEN


async def all_of(hub: Hub, count: int) -> list[Invocation]:
    """The next calls of the server, in however many batches they come."""
    received: list[Invocation] = []
    while len(received) < count:
        received += await hub.receive()
    return received


# --- Opening ---


async def test_a_hub_is_open_once_the_handshake_is_answered(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    began_at = trio.current_time()

    async def behave(peer: Peer) -> None:
        await peer.accept()
        assert await peer.hear() == [HandshakeRequest("json", 1)]
        await trio.sleep(7)
        await peer.say(HandshakeAccepted())

    async with open_hub(URL, token=token, dial=serve(behave)):
        assert trio.current_time() - began_at == 7


@pytest.mark.parametrize(
    ("url", "dialled", "path"),
    [
        ("https://h.example/hubs/user", "wss://h.example/hubs/user", "/hubs/user?access_token="),
        ("http://h.example:8080/hubs/user", "ws://h.example:8080/hubs/user", "/hubs/user?access_token="),
        ("wss://h.example/hubs/user?a=b", "wss://h.example/hubs/user", "/hubs/user?a=b&access_token="),
        ("ws://h.example", "ws://h.example", "/?access_token="),
    ],
)
async def test_the_token_goes_in_query_and_header_but_not_to_whoever_dials(
    serve: Serve, url: str, dialled: str, path: str
) -> None:
    seen: list[tuple[str, dict[bytes, bytes]]] = []
    urls: list[str] = []

    async def behave(peer: Peer) -> None:
        seen.append((peer.request.path, dict(peer.request.headers)))
        await peer.greet()

    far_end = serve(behave)

    async def dial(url: str) -> trio.abc.Stream:
        urls.append(url)
        return await far_end(url)

    async with open_hub(url, token=token, dial=dial):
        pass
    [(target, headers)] = seen
    assert target == path + "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.s3cr3t%2B%2F%3D"
    assert headers[b"authorization"] == b"Bearer " + TOKEN.encode()
    assert urls == [dialled]


async def test_a_token_that_no_header_can_hold_goes_in_the_query_alone(serve: Serve) -> None:
    seen: list[tuple[str, dict[bytes, bytes]]] = []

    async def behave(peer: Peer) -> None:
        seen.append((peer.request.path, dict(peer.request.headers)))
        await peer.greet()

    async def odd_token() -> str:
        return "é\r\nx: y"

    async with open_hub(URL, token=odd_token, dial=serve(behave)):
        pass
    [(target, headers)] = seen
    assert target.endswith("?access_token=%C3%A9%0D%0Ax%3A%20y")
    assert b"authorization" not in headers


async def test_a_refused_handshake_is_told_with_the_servers_words(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.accept()
        await peer.hear()
        await peer.say(HandshakeRefused("Handshake was canceled."))

    with pytest.raises(HubRefused, match="the server refused the handshake: Handshake was canceled") as refused:
        async with open_hub(URL, token=token, dial=serve(behave)):
            pytest.fail("it opened")
    assert refused.value.status is None


@pytest.mark.parametrize("status", [401, 403, 404, 503])
@pytest.mark.parametrize("body", [b"", b"<html>no</html>"])
async def test_the_status_of_a_refused_upgrade_can_be_seen(serve: Serve, status: int, body: bytes) -> None:
    """After 401 the caller asks for a fresh token before it comes back."""

    async def behave(peer: Peer) -> None:
        await peer.request.reject(status, body=body)
        await trio.sleep_forever()

    with pytest.raises(HubRefused) as refused:
        async with open_hub(URL, token=token, dial=serve(behave)):
            pytest.fail("it opened")
    assert refused.value.status == status
    assert isinstance(refused.value, GatewayUnreachable)


async def dial_for_ever(url: str) -> trio.abc.Stream:
    await trio.sleep_forever()
    raise AssertionError


async def dial_a_mute(url: str) -> trio.abc.Stream:
    """The server accepts TCP and says nothing: a half-dead load balancer."""
    ours, theirs = trio.testing.memory_stream_pair()
    MUTES.append(theirs)
    return ours


MUTES: list[trio.abc.Stream] = []


async def upgrade_only(peer: Peer) -> None:
    await peer.accept()


async def answer_in_part(peer: Peer) -> None:
    await peer.accept()
    await peer.socket.send_message("{")


@pytest.mark.parametrize(
    "behave", [dial_for_ever, dial_a_mute, upgrade_only, answer_in_part], ids=lambda behave: behave.__name__
)
async def test_an_opening_that_is_never_answered_ends_by_its_limit(
    serve: Serve, behave: Behaviour | Dial, autojump_clock: trio.abc.Clock
) -> None:
    began_at = trio.current_time()
    dial = behave if behave in (dial_for_ever, dial_a_mute) else serve(behave)  # type: ignore[arg-type]
    with pytest.raises(HubUnreachable, match="did not answer within 15 s"):
        async with open_hub(URL, token=token, dial=dial):  # type: ignore[arg-type]
            pytest.fail("it opened")
    assert trio.current_time() - began_at == 15


async def test_the_time_that_the_token_takes_does_not_count(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    async def slow_token() -> str:
        await trio.sleep(100)
        return TOKEN

    async with open_hub(URL, token=slow_token, dial=serve(greet)):
        pass


async def test_the_limit_of_opening_does_not_end_what_is_open(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    async with open_hub(URL, token=token, dial=serve(greet)):
        await trio.sleep(20)


def says(*octets: bytes) -> Dial:
    """The server answers the upgrade with these bytes, then hangs up."""

    async def dial(url: str) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        for piece in octets:
            await theirs.send_all(piece)
        await theirs.send_eof()
        return ours

    return dial


async def dial_nobody(url: str) -> trio.abc.Stream:
    raise OSError("connection refused")


@pytest.mark.parametrize(
    ("page", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 200),
        (b"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n", 401),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Encoding: gzip\r\nTransfer-Encoding: gzip\r\n\r\n", 401),
        (b"HTTP/1.0 403 Forbidden\r\n\r\nno way", 403),
        (b"HTTP/1.1 403\r\n", 403),
        (b"HTTP/1.1 401 Unauthorized\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 401),
        (b"HTTP/1.1 401 Unauthorized\r\nno colon\r\n\r\n", 401),
    ],
)
async def test_a_refusal_is_known_by_its_status_however_broken_the_rest_is(
    autojump_clock: trio.abc.Clock, page: bytes, status: int
) -> None:
    """401 and 403 call for another token, also where an old load balancer says them."""
    began_at = trio.current_time()
    with pytest.raises(HubRefused) as refused:
        async with open_hub(URL, token=token, dial=says(page)):
            pytest.fail("it opened")
    assert (refused.value.status, trio.current_time()) == (status, began_at)


@pytest.mark.parametrize(
    "dial",
    [
        dial_nobody,
        says(),
        says(b"SSH-2.0-OpenSSH_9.6\r\n"),
        says(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: \xff\r\nConnection: \xff\r\n\r\n"),
        says(b"\x00" * 100_000),
    ],
    ids=[
        "nobody",
        "silence",
        "ssh",
        "bare 101",
        "101 without key",
        "101 in no charset",
        "zeros",
    ],
)
async def test_what_is_no_websocket_server_is_unreachable_at_once(dial: Dial, autojump_clock: trio.abc.Clock) -> None:
    began_at = trio.current_time()
    with pytest.raises(HubUnreachable):
        async with open_hub(URL, token=token, dial=dial):
            pytest.fail("it opened")
    assert trio.current_time() == began_at


@pytest.mark.parametrize("answer", ['{"type":6}\x1e', "garbage\x1e", "\x1e"])
async def test_a_hub_that_answers_the_handshake_with_something_else_is_unreachable(serve: Serve, answer: str) -> None:
    async def behave(peer: Peer) -> None:
        await peer.accept()
        await peer.hear()
        await peer.socket.send_message(answer)

    with pytest.raises(HubUnreachable):
        async with open_hub(URL, token=token, dial=serve(behave)):
            pytest.fail("it opened")


async def test_a_hub_that_hangs_up_instead_of_answering_the_handshake_is_unreachable(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.accept()
        await peer.hear()
        await peer.socket.aclose()

    with pytest.raises(HubUnreachable, match="closed with code 1000"):
        async with open_hub(URL, token=token, dial=serve(behave)):
            pytest.fail("it opened")


# --- Receiving ---


async def test_what_comes_behind_the_handshake_in_the_same_message_is_received(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet(Invocation("First", (1,)), Ping(), Invocation("Second", (2,)))

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        assert await hub.receive() == [Invocation("First", (1,)), Invocation("Second", (2,))]


async def test_a_batch_is_what_one_websocket_message_carried(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.say(Invocation("A"), Ping(), Invocation("B"))
        await peer.say(Ping())
        await peer.say(Invocation("C"))

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        assert await hub.receive() == [Invocation("A"), Invocation("B")]
        assert await hub.receive() == [Invocation("C")]


async def test_a_message_in_pieces_and_in_binary_frames_is_whole_in_the_end(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        octets = '{"type":1,"target":"Füße","arguments":[1.50]}\x1e'.encode()
        for octet in octets:
            await peer.socket.send_message(bytes([octet]))
            await peer.socket.send_message(b"")

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        assert repr(await hub.receive()) == repr([Invocation("Füße", (Decimal("1.50"),))])


async def test_a_message_of_several_megabytes_arrives(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.say(Invocation("Depth", ("x" * 3_000_000,)))

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        [depth] = await hub.receive()
        assert len(str(depth.arguments[0])) == 3_000_000


async def test_what_was_read_before_the_loss_is_handed_over_first(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, token=token, dial=serve(line)) as hub:
        await line.up.wait()
        await line.peer.say(Invocation("A"))
        await line.peer.say(Invocation("B"), Close())
        await trio.testing.wait_all_tasks_blocked()
        assert await hub.receive() == [Invocation("A")]
        assert await hub.receive() == [Invocation("B")]
        for _ in range(2):
            with pytest.raises(HubLost):
                await hub.receive()


async def test_messages_before_a_bad_one_are_handed_over(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.send_message('{"type":1,"target":"A","arguments":[]}\x1egarbage\x1e')

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        assert await hub.receive() == [Invocation("A")]
        with pytest.raises(HubLost, match="the server broke the protocol: a message is not JSON") as lost:
            await hub.receive()
        assert lost.value.worth_reconnecting


async def test_a_slow_consumer_stalls_no_ping_and_misses_nothing(
    serve: Serve, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "HELD", 3)
    line = Line()
    async with open_hub(URL, token=token, dial=serve(line)) as hub, trio.open_nursery() as nursery:
        await line.up.wait()

        async def flood() -> None:
            for number in range(20):
                await line.peer.say(Invocation("Quote", (number,)))

        nursery.start_soon(flood)
        await trio.sleep(100)
        assert hub.statistics().messages_waiting == 4, "one was in the reader's hands"
        assert line.peer.times_of(Ping) == [0, 15, 30, 45, 60, 75, 90]
        assert await all_of(hub, 20) == [Invocation("Quote", (number,)) for number in range(20)]
        assert hub.statistics().messages_waiting == 0


async def test_a_call_is_answered_although_the_consumer_is_behind(
    serve: Serve, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a consumer that calls would wait for an answer behind the very events that it has yet to take."""
    monkeypatch.setattr(hub_module, "HELD", 3)

    async def behave(peer: Peer) -> None:
        await peer.greet()
        for number in range(20):
            await peer.say(Invocation("Quote", (number,)))
        await peer.answer_calls("done")

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        await trio.sleep(1)
        assert await hub.invoke("Subscribe") == "done"
        assert hub.statistics().messages_waiting == 20


async def test_a_call_of_the_server_that_wants_a_result_gets_the_answer_that_there_is_none(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, token=token, dial=serve(line)) as hub:
        await line.up.wait()
        questions = [Invocation("Ask", (number,), f"s{number}") for number in range(100)]
        await line.peer.say(Invocation("Tell"), *questions)
        assert await hub.receive() == [Invocation("Tell"), *questions]
        await trio.testing.wait_all_tasks_blocked()
        answers = [message for _, message in line.peer.heard if isinstance(message, Completion)]
        assert answers == [Completion(f"s{number}", error="Client didn't provide a result.") for number in range(100)]


# --- Keeping alive ---


async def test_a_ping_goes_out_at_once_and_then_after_each_silence_of_ours(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    """The server's chatter is no reason not to ping: it counts what it hears, not what it says."""
    line = Line()

    async def chatty(peer: Peer) -> None:
        await line(peer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.listen)
            while True:
                await peer.say(Invocation("Quote"))
                await trio.sleep(1)

    async with open_hub(URL, token=token, dial=serve(chatty)) as hub:
        with trio.move_on_after(50):
            while True:
                await hub.receive()
        assert line.peer.times_of(Ping) == [0, 15, 30, 45]


async def test_a_call_puts_off_the_ping(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    line = Line()

    async def behave(peer: Peer) -> None:
        await line(peer)
        await peer.answer_calls()

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        await trio.sleep(10)
        await hub.invoke("Subscribe")
        await trio.sleep(29)
        assert line.peer.times_of(Ping) == [0, 25]


async def test_a_server_that_says_nothing_is_lost_after_thirty_seconds(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    """Though its WebSocket pings go on: a proxy may keep those up for a hub that is long dead."""
    began_at = trio.current_time()

    async def half_dead(peer: Peer) -> None:
        await peer.greet()
        while True:
            await peer.socket.ping()
            await peer.socket.send_message("")
            await trio.sleep(1)

    async with open_hub(URL, token=token, dial=serve(half_dead)) as hub:
        with pytest.raises(HubLost, match="the server said nothing for 30 s") as lost:
            await hub.receive()
        assert lost.value.worth_reconnecting
        assert trio.current_time() - began_at == 30


async def test_pings_of_the_server_keep_the_hub(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    async def alive(peer: Peer) -> None:
        await peer.greet()
        while True:
            await trio.sleep(29)
            await peer.say(Ping())

    async with open_hub(URL, token=token, dial=serve(alive)) as hub:
        with trio.move_on_after(300) as five_minutes:
            await hub.receive()
        assert five_minutes.cancelled_caught


async def test_time_that_the_consumer_takes_is_no_silence_of_the_server(
    serve: Serve, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "HELD", 1)

    async def behave(peer: Peer) -> None:
        await peer.greet()
        for number in range(5):
            await peer.say(Invocation("Quote", (number,)))

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        await trio.sleep(200)
        assert await all_of(hub, 5) == [Invocation("Quote", (number,)) for number in range(5)]


# --- Calling ---


@pytest.mark.parametrize("result", [None, VOID, 0, "", False, [1], {"a": Decimal("1.50")}])
async def test_a_call_returns_its_result(serve: Serve, result: object) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.answer_calls(result)

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        returned = await hub.invoke("SubscribeOrders", 25700001)
        assert repr(returned) == repr(None if result is VOID else result)


async def test_a_call_says_what_it_was_told_to_say(serve: Serve) -> None:
    line = Line()

    async def behave(peer: Peer) -> None:
        await line(peer)
        await peer.answer_calls()

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        await hub.invoke("SubscribeOrders", 25700001)
        await hub.invoke("SubscribeContractQuotes", "CON.F.US.MNQ.U26", None)
    calls = [message for _, message in line.peer.heard if isinstance(message, Invocation)]
    assert calls == [
        Invocation("SubscribeOrders", (25700001,), "1"),
        Invocation("SubscribeContractQuotes", ("CON.F.US.MNQ.U26", None), "2"),
    ]


async def test_a_call_that_the_server_refuses_fails_with_its_words(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        while True:
            for message in await peer.hear():
                if isinstance(message, Invocation):
                    await peer.say(Completion(message.invocation_id or "", error="Unknown hub method 'X'"))

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        with pytest.raises(HubCallFailed, match="X failed: Unknown hub method 'X'") as failed:
            await hub.invoke("X")
        assert not isinstance(failed.value, HubLost)


async def test_answers_find_their_calls_in_any_order(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        calls: list[Invocation] = []
        while len(calls) < 3:
            calls += [message for message in await peer.hear() if isinstance(message, Invocation)]
        await peer.say(*[Completion(call.invocation_id or "", call.target) for call in reversed(calls)])

    results: dict[str, object] = {}
    async with open_hub(URL, token=token, dial=serve(behave)) as hub:

        async def call(target: str) -> None:
            results[target] = await hub.invoke(target)

        async with trio.open_nursery() as nursery:
            for target in ("A", "B", "C"):
                nursery.start_soon(call, target)
    assert results == {"A": "A", "B": "B", "C": "C"}


async def test_an_answer_that_nobody_waits_for_is_counted_and_ignored(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    line = Line()
    async with open_hub(URL, token=token, dial=serve(line)) as hub:
        await line.up.wait()
        with trio.move_on_after(5) as patience:
            await hub.invoke("Slow")
        assert patience.cancelled_caught
        await line.peer.say(Completion("1", "late"), Completion("77", "whose?"), Invocation("Next"))
        assert await hub.receive() == [Invocation("Next")]
        assert (hub.statistics().calls_waiting, hub.statistics().answers_ignored) == (0, 2)


async def test_a_stream_in_answer_to_a_call_fails_the_call(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        while True:
            for message in await peer.hear():
                if isinstance(message, Invocation):
                    id_ = message.invocation_id or ""
                    await peer.say(StreamItem(id_, 1), Completion(id_))

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        with pytest.raises(HubCallFailed, match="answers with a stream"):
            await hub.invoke("Quotes")


async def test_a_call_that_cannot_be_written_harms_nobody_else(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.answer_calls("well")

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        with pytest.raises(LocalProtocolError):
            await hub.invoke("Subscribe", object())
        assert await hub.invoke("Subscribe", 1) == "well"
        assert hub.statistics().calls_waiting == 0


async def call_until_lost(hub: Hub) -> HubCallUnresolved:
    with pytest.raises(HubCallUnresolved) as unresolved:
        await hub.invoke("SubscribeOrders", 1)
    return unresolved.value


@pytest.mark.parametrize("ending", ["close", "goodbye", "reset", "garbage", "silence"])
async def test_a_call_that_waits_fails_at_once_when_the_hub_is_lost(
    serve: Serve, ending: str, autojump_clock: trio.abc.Clock
) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        while not peer.times_of(Invocation):
            await peer.hear()
        match ending:
            case "close":
                await peer.say(Close("bye"))
            case "goodbye":
                await peer.socket.aclose()
            case "reset":
                await peer.socket._stream.aclose()
            case "garbage":
                await peer.socket.send_message("garbage\x1e")

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        began_at = trio.current_time()
        unresolved = await call_until_lost(hub)
        assert "SubscribeOrders may or may not have run: " in str(unresolved)
        assert trio.current_time() - began_at == (30 if ending == "silence" else 0)
        with pytest.raises(HubLost) as lost:
            await hub.invoke("SubscribeTrades", 1)
        assert not isinstance(lost.value, HubCallUnresolved), "this one has certainly not run"
        assert lost.value.reason == str(lost.value)
        assert hub.statistics().calls_waiting == 0


# --- Ending ---


async def test_a_call_that_meets_a_broken_line_while_it_is_sent_is_unresolved(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, token=token, dial=serve(line)) as hub:
        await line.up.wait()
        await trio.testing.wait_all_tasks_blocked()
        hang_up_unheard(line.peer)
        await call_until_lost(hub)
        with pytest.raises(HubLost, match="code 1006"):
            await hub.receive()


async def test_a_call_over_a_socket_that_closed_while_the_consumer_was_behind_is_unresolved(
    serve: Serve, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what had come before is still handed over."""
    monkeypatch.setattr(hub_module, "HELD", 1)

    async def behave(peer: Peer) -> None:
        await peer.greet()
        for number in range(3):
            await peer.say(Invocation("Quote", (number,)))
        await peer.socket.aclose(1001)

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        await trio.sleep(1)
        assert hub.statistics().messages_waiting == 2
        await call_until_lost(hub)
        for number in range(3):
            assert await hub.receive() == [Invocation("Quote", (number,))]
        with pytest.raises(HubLost, match="code 1001"):
            await hub.receive()


async def test_leaving_over_a_broken_line_is_no_error(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, token=token, dial=serve(line)):
        await line.up.wait()
        await trio.testing.wait_all_tasks_blocked()
        hang_up_unheard(line.peer)


def hang_up_unheard(peer: Peer) -> None:
    """Break the line such that only our next send can notice."""
    stream = peer.socket._stream
    assert isinstance(stream, trio.StapledStream)
    assert isinstance(stream.receive_stream, trio.testing.MemoryReceiveStream)
    stream.receive_stream.close()


@pytest.mark.parametrize(
    ("close", "worth_reconnecting", "reason"),
    [
        (Close(), False, "the server closed the connection: it gave no reason"),
        (Close("Connection closed with an error."), False, "closed with an error"),
        (Close(allow_reconnect=True), True, "it gave no reason"),
        (Close("Restarting", allow_reconnect=True), True, "Restarting"),
    ],
)
async def test_a_close_says_whether_to_come_back(
    serve: Serve, close: Close, worth_reconnecting: bool, reason: str
) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet(close)

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        with pytest.raises(HubLost, match=reason) as lost:
            await hub.receive()
        assert lost.value.worth_reconnecting is worth_reconnecting


async def test_a_goodbye_of_the_socket_without_a_close_is_a_loss_like_any_other(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.socket.aclose(1000)

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        with pytest.raises(HubLost, match="code 1000") as lost:
            await hub.receive()
        assert lost.value.worth_reconnecting


async def test_a_close_is_answered_with_a_close(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, token=token, dial=serve(line)) as hub:
        await line.up.wait()
        await line.peer.say(Close())
        with pytest.raises(HubLost):
            await hub.receive()
    await trio.testing.wait_all_tasks_blocked()
    assert line.peer.times_of(Close)
    with pytest.raises(HubLost, match="the server closed the connection"):  # not: "we left"
        await hub.receive()


async def test_a_close_that_comes_while_we_speak_is_answered_too(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    """Our first ping takes a second to leave. Were it cut short, nothing that follows would be understood."""
    line = Line()
    far_end = serve(line)

    async def slow(url: str) -> trio.abc.Stream:
        stream = await far_end(url)
        assert isinstance(stream, trio.StapledStream)
        deliver = stream.send_stream.send_all_hook

        async def deliver_slowly() -> None:
            await deliver()
            await trio.sleep(1)

        stream.send_stream.send_all_hook = deliver_slowly
        return stream

    async with open_hub(URL, token=token, dial=slow) as hub:
        await line.up.wait()
        await line.peer.say(Close())
        with pytest.raises(HubLost):
            await hub.receive()
    await trio.testing.wait_all_tasks_blocked()
    assert line.peer.times_of(Close)


async def test_leaving_says_close_and_then_goodbye(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, token=token, dial=serve(line)):
        await line.up.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert line.peer.times_of(Close)
    assert line.peer.socket.closed is not None
    assert line.peer.socket.closed.code == 1000


async def test_leaving_says_close_when_cancelled_too(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    line = Line()
    with trio.move_on_after(5):
        async with open_hub(URL, token=token, dial=serve(line)) as hub:
            await hub.receive()
    await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() == 5
    assert line.peer.times_of(Close) == [5]
    assert line.peer.socket.closed is not None
    assert line.peer.socket.closed.code == 1000


@pytest.mark.parametrize("pair", [trio.testing.lockstep_stream_pair, trio.testing.memory_stream_pair])
async def test_leaving_a_server_that_does_not_answer_takes_two_seconds_at_most(
    pair: Pair, nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    """Whether our Close gets stuck, or leaves and is never answered."""
    async with open_hub(URL, token=token, dial=deaf_after_greeting(nursery, pair)):
        await trio.sleep(1)
        left_at = trio.current_time()
    assert trio.current_time() - left_at == 2


async def test_leaving_a_silent_server_does_not_wait(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    """It has been given up; the next connection should not have to wait for its goodbye."""

    async def freeze(peer: Peer) -> None:
        await peer.greet()
        await trio.sleep_forever()

    async with open_hub(URL, token=token, dial=serve(freeze)) as hub:
        with pytest.raises(HubLost, match="said nothing"):
            await hub.receive()
        lost_at = trio.current_time()
    assert trio.current_time() == lost_at


async def test_after_leaving_nothing_works(serve: Serve) -> None:
    async with open_hub(URL, token=token, dial=serve(greet)) as hub:
        pass
    with pytest.raises(HubLost, match="we left") as lost:
        await hub.receive()
    assert not lost.value.worth_reconnecting
    with pytest.raises(HubLost):
        await hub.invoke("Subscribe")


async def test_an_error_of_the_block_leaves_as_it_is(serve: Serve) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as raised:
        async with open_hub(URL, token=token, dial=serve(greet)):
            raise error
    assert raised.value is error


async def test_a_loss_does_not_interrupt_the_block(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet(Close())

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        await trio.sleep(100)
        with pytest.raises(HubLost):
            await hub.receive()


# --- Sending that gets stuck ---


async def test_a_server_that_takes_no_more_messages_is_lost(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    async with open_hub(URL, token=token, dial=deaf_after_greeting(nursery, talks=True)) as hub:
        with pytest.raises(HubLost):
            await hub.receive()
        assert trio.current_time() == 15 + 30


async def test_a_hub_is_lost_when_no_ping_gets_past_a_stuck_call(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    async with open_hub(URL, token=token, dial=deaf_after_greeting(nursery, talks=True)) as hub:
        await trio.sleep(1)
        assert "takes no more messages" in str(await call_until_lost(hub))
        assert trio.current_time() == 15 + 30


async def test_a_call_stuck_behind_a_stuck_ping_has_certainly_not_run(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    async with open_hub(URL, token=token, dial=deaf_after_greeting(nursery, talks=True)) as hub:
        await trio.sleep(20)
        with pytest.raises(HubLost) as lost:
            await hub.invoke("Subscribe")
        assert not isinstance(lost.value, HubCallUnresolved)


async def test_a_call_cancelled_in_the_middle_of_sending_breaks_the_hub(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    """Half a message may have left, and whatever we said next would be read as its other half."""
    async with open_hub(URL, token=token, dial=deaf_after_greeting(nursery)) as hub:
        await trio.sleep(1)
        with trio.move_on_after(5) as patience:
            await hub.invoke("Subscribe")
        assert patience.cancelled_caught
        with pytest.raises(HubLost, match="cut short"):
            await hub.invoke("Subscribe")
        with pytest.raises(HubLost, match="cut short"):
            await hub.receive()


async def test_a_call_cancelled_before_it_is_sent_harms_nobody(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.answer_calls("well")

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        with trio.CancelScope() as given_up:
            given_up.cancel()
            await hub.invoke("Subscribe")
        assert given_up.cancelled_caught
        assert await hub.invoke("Subscribe") == "well"


async def test_a_call_cancelled_in_the_moment_of_its_turn_harms_nobody(serve: Serve, nursery: trio.Nursery) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.answer_calls("well")

    given_up = trio.CancelScope()

    async def call(hub: Hub) -> None:
        with given_up:
            await hub.invoke("Subscribe")

    async with open_hub(URL, token=token, dial=serve(behave)) as hub:
        await trio.testing.wait_all_tasks_blocked()  # the first ping has gone
        await hub._writing.acquire()
        nursery.start_soon(call, hub)
        await trio.testing.wait_all_tasks_blocked()
        hub._writing.release()
        given_up.cancel()
        assert await hub.invoke("Subscribe") == "well"
        assert given_up.cancelled_caught


# --- The secret ---


SECRETS = ("s3cr3t", "c2VjcmV0", "access_token")


async def echo_the_token(peer: Peer) -> None:
    await peer.request.reject(401, body=b"bad token " + TOKEN.encode(), extra_headers=[(b"x-token", TOKEN.encode())])
    await trio.sleep_forever()


async def close_with_the_token(peer: Peer) -> None:
    await peer.accept()
    await peer.socket.aclose(1008, reason=TOKEN)


async def accept_oddly(url: str) -> trio.abc.Stream:
    return await says(b"HTTP/1.1 101 " + TOKEN.encode() + b"\r\n\r\n")(url)


@pytest.mark.parametrize(
    "far_end",
    [echo_the_token, close_with_the_token, upgrade_only, dial_nobody, dial_a_mute, accept_oddly],
    ids=lambda far_end: far_end.__name__,
)
async def test_the_token_is_in_no_error(
    serve: Serve, far_end: Behaviour | Dial, autojump_clock: trio.abc.Clock
) -> None:
    """Neither in those that are raised nor in those that they came from, even where the server echoes it."""
    dials = (dial_nobody, dial_a_mute, accept_oddly)
    dial = far_end if far_end in dials else serve(far_end)  # type: ignore[arg-type]
    with pytest.raises(GatewayUnreachable) as raised:
        async with open_hub(URL, token=token, dial=dial):  # type: ignore[arg-type]
            pytest.fail("it opened")
    told = ["".join(traceback.format_exception(raised.value))]
    error: BaseException | None = raised.value
    while error is not None:
        told += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    for part in SECRETS:
        assert part not in " ".join(told)


async def test_the_token_is_in_no_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The library writes whole URLs to its log when it is the one who dials."""
    caplog.set_level(logging.DEBUG)
    async with open_hub(URL, token=token, dial=serve(greet)) as hub:
        told = caplog.text + repr(hub)
    assert "trio-websocket" in told, "it does log"
    for part in SECRETS:
        assert part not in told
