"""The WebSocket by itself, over each transport: what it promises, dialling on loopback, and what becomes of errors."""

from __future__ import annotations

import logging
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream
from wsproto.frame_protocol import Opcode

from flatguard.signalr_client.socket import (
    Dial,
    Socket,
    SocketClosed,
    SocketError,
    SocketRefused,
    SocketUnreachable,
    Transport,
    dial_tcp,
    open_helpers,
    open_socket,
    over_trio_websocket,
    over_websockets,
)

URL = "ws://h.example/hub?access_token=s3cr3t"
Serve = Callable[[trio.abc.Stream], Awaitable[None]]
Cut = Callable[[bytes], list[bytes]]


@pytest.fixture(params=[over_websockets, over_trio_websocket], ids=lambda transport: transport.__name__)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


async def echo(stream: trio.abc.Stream) -> None:
    """Say back the first message, then say goodbye."""
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, stream)
        connection = await request.accept()
        await connection.send_message(await connection.get_message())
        await connection.aclose(1001)
        nursery.cancel_scope.cancel()


def anonymous(side: int) -> ssl.SSLContext:
    """TLS without certificates, which is enough to see that it is TLS."""
    context = ssl.SSLContext(side)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if side == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return context


@asynccontextmanager
async def listening(serve: Serve = echo) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


# --- Dialling ---


async def test_a_message_goes_there_and_back_over_tcp(transport: Transport) -> None:
    async with (
        listening() as port,
        open_socket(f"ws://127.0.0.1:{port}/hub?a=b", transport=transport) as socket,
    ):
        await socket.send("hello")
        assert await socket.receive() == b"hello"
        for _ in range(2):
            with pytest.raises(SocketClosed) as closed:
                await socket.receive()
            assert closed.value.code == 1001
        with pytest.raises(SocketClosed):
            await socket.send("anyone there?")


async def test_a_message_goes_there_and_back_over_tls(transport: Transport) -> None:
    async def dial(url: str) -> trio.abc.Stream:
        return await dial_tcp(url, ssl_context=anonymous(ssl.PROTOCOL_TLS_CLIENT))

    async def echo_over_tls(stream: trio.abc.Stream) -> None:
        context = anonymous(ssl.PROTOCOL_TLS_SERVER)
        await echo(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    async with (
        listening(echo_over_tls) as port,
        open_socket(f"wss://127.0.0.1:{port}/hub", dial=dial, transport=transport) as socket,
    ):
        await socket.send("hello")
        assert await socket.receive() == b"hello"
        await socket.aclose()


async def test_a_server_that_does_not_speak_tls_is_unreachable(transport: Transport) -> None:
    async def speak_plainly(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(speak_plainly) as port:
        with pytest.raises(SocketUnreachable, match=r"cannot connect to 127\.0\.0\.1: .*SSL"):
            async with open_socket(f"wss://127.0.0.1:{port}/hub?access_token=s3cr3t", transport=transport):
                pytest.fail("it opened")


async def test_where_nobody_listens_there_is_nothing_to_reach(transport: Transport) -> None:
    async with listening() as port:
        pass
    with pytest.raises(SocketUnreachable, match=r"cannot connect to 127\.0\.0\.1"):
        async with open_socket(f"ws://127.0.0.1:{port}/hub", transport=transport):
            pytest.fail("it opened")


# --- Upgrading ---


def far_end(octets: bytes, *, hang_up: bool = False) -> tuple[Dial, trio.abc.Stream]:
    ours, theirs = trio.testing.memory_stream_pair()

    async def dial(url: str) -> trio.abc.Stream:
        await theirs.send_all(octets)
        if hang_up:
            await theirs.send_eof()
        return ours

    return dial, ours


REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"
JUNK = b"?\r\n\r\n"
PLAIN = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"  # accepts no key
NEVER = trio.TooSlowError


@pytest.mark.parametrize(
    ("octets", "hang_up", "ending"),
    [
        (REFUSAL, False, SocketRefused),
        (b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", False, SocketRefused),
        (b"HTTP/1.1 503 Unavailable\r\n\r\nlater", True, SocketRefused),
        (JUNK, False, SocketUnreachable),
        (PLAIN, False, SocketUnreachable),
        (b"", True, SocketUnreachable),
        (b"HTTP/1.1 101 Switch", True, SocketUnreachable),
        (b"", False, NEVER),
        (b"HTTP/1.1 101 Switch", False, NEVER),
    ],
)
async def test_the_stream_is_closed_however_the_upgrade_fails(
    octets: bytes,
    hang_up: bool,
    ending: type[Exception],
    transport: Transport,
    autojump_clock: trio.abc.Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The libraries leave that to the server, which may take its time or be gone."""
    caplog.set_level(logging.DEBUG)
    dial, stream = far_end(octets, hang_up=hang_up)
    with pytest.raises(ending) as raised, trio.fail_after(5):
        async with open_socket(URL, dial=dial, transport=transport):
            pytest.fail("it opened")
    if isinstance(raised.value, SocketRefused):
        assert raised.value.status == int(octets[9:12])
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"still open?")
    if isinstance(raised.value, SocketError):
        assert raised.value.__context__ is None, "it may quote the request"
    assert "s3cr3t" not in caplog.text


async def test_a_line_that_breaks_under_the_request_is_unreachable(transport: Transport) -> None:
    async def dial(url: str) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.aclose()
        return ours

    with pytest.raises(SocketUnreachable, match="hung up"):
        async with open_socket(URL, dial=dial, transport=transport):
            pytest.fail("it opened")


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("", {"Authorization": "Bearer \u20ac s3cr3t"}),
        ("", {"Authorization": "s3cr3t\r\nX: y"}),
        ("\u20ac", {}),
        (" HTTP/1.1", {}),
        ("\x00", {}),
    ],
)
async def test_what_cannot_stand_in_a_request_is_not_quoted(
    query: str, headers: dict[str, str], transport: Transport, autojump_clock: trio.abc.Clock
) -> None:
    dial, _ = far_end(b"")
    with pytest.raises(SocketUnreachable) as raised, trio.fail_after(5):
        async with open_socket(URL + query, headers=headers, dial=dial, transport=transport):
            pytest.fail("it opened")
    assert raised.value.__context__ is None
    assert "s3cr3t" not in str(raised.value)


# --- An open WebSocket: a server that says frames ---


class Peer:
    """The server's end. It writes frames by hand, and reads what the client says as a WebSocket server does."""

    def __init__(self, connection: WebSocketConnection, stream: trio.abc.Stream, reading: trio.CancelScope) -> None:
        self.connection = connection
        self.stream = stream
        self.reading = reading

    async def say(self, *frames: bytes) -> None:
        """In one piece, so that one read brings it."""
        await self.stream.send_all(b"".join(frames))

    async def heard(self) -> str | bytes:
        return await self.connection.get_message()

    async def goodbye(self) -> int:
        """The code of the client's goodbye."""
        with pytest.raises(ConnectionClosed) as closed:
            await self.heard()
        assert closed.value.reason is not None
        return int(closed.value.reason.code)


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """As a server writes it: without a mask."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
    return bytes([opcode | (0x80 if final else 0)]) + length + payload


def text(payload: bytes, *, final: bool = True) -> bytes:
    return frame(Opcode.TEXT, payload, final=final)


def more(payload: bytes, *, final: bool = True) -> bytes:
    return frame(Opcode.CONTINUATION, payload, final=final)


def goodbye(code: int) -> bytes:
    return frame(Opcode.CLOSE, struct.pack("!H", code))


@asynccontextmanager
async def connected(transport: Transport, *, max_message_bytes: int = 1_000) -> AsyncIterator[tuple[Socket, Peer]]:
    ours, theirs = trio.testing.memory_stream_pair()
    peers: list[Peer] = []

    async def accept(stream: trio.abc.Stream, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as reading:
            task_status.started()
            request = await wrap_server_stream(reading, stream)
            peers.append(Peer(await request.accept(), stream, reading.cancel_scope))

    async def dial(url: str) -> trio.abc.Stream:
        return ours

    async with trio.open_nursery() as nursery:
        await nursery.start(accept, theirs)
        async with open_socket(URL, dial=dial, transport=transport, max_message_bytes=max_message_bytes) as socket:
            await trio.testing.wait_all_tasks_blocked()
            yield socket, peers[0]
        await trio.testing.wait_all_tasks_blocked()  # what was said last is still heard
        nursery.cancel_scope.cancel()


async def until_closed(socket: Socket) -> tuple[bytes, int | None]:
    """All that still comes, and the code that ends it."""
    received = b""
    try:
        while True:
            received += await socket.receive()
    except SocketClosed as closed:
        return received, closed.code


async def test_what_one_read_brings_comes_as_one(transport: Transport) -> None:
    """Fragments, message ends and the kind of frame are nothing to SignalR; empty messages are nothing at all."""
    async with connected(transport) as (socket, peer):
        await peer.say(
            text(b"a\x1eb"),
            frame(Opcode.BINARY, b"\xffc"),
            text(b""),
            text("d\u20ac".encode()[:2], final=False),
            frame(Opcode.PING, b"between"),
            more("d\u20ac".encode()[2:]),
            text(b"e"),
        )
        assert await socket.receive() == b"a\x1eb\xffc" + "d\u20ac".encode() + b"e"


async def test_reads_come_in_order_and_none_is_empty(transport: Transport, autojump_clock: trio.abc.Clock) -> None:
    async with connected(transport) as (socket, peer), trio.open_nursery() as nursery:

        async def speak() -> None:
            for number in range(20):
                await peer.say(text(b""), frame(Opcode.PONG, b"unasked"))
                await trio.sleep(1)
                await peer.say(text(b"%d," % number))
                await trio.sleep(1)
            await peer.say(goodbye(1000))

        nursery.start_soon(speak)
        assert [await socket.receive() for _ in range(20)] == [b"%d," % number for number in range(20)]
        assert await until_closed(socket) == (b"", 1000)


async def test_bytes_that_come_one_by_one_make_the_same(transport: Transport) -> None:
    async with connected(transport) as (socket, peer), trio.open_nursery() as nursery:

        async def receive() -> None:
            received, code = await until_closed(socket)
            assert received == b"x" * 200 + b"y"
            assert code == 1001

        nursery.start_soon(receive)
        for octet in text(b"x" * 200) + text(b"y") + goodbye(1001):
            await peer.say(bytes([octet]))
            await trio.testing.wait_all_tasks_blocked()


async def test_what_comes_behind_the_agreement_is_not_lost(transport: Transport) -> None:
    ours, theirs = trio.testing.memory_stream_pair()

    async def dial(url: str) -> trio.abc.Stream:
        nursery.start_soon(agree)
        return ours

    async def agree() -> None:
        held: list[bytes] = []
        relay = trio.StapledStream(Holding(held), theirs)
        async with trio.open_nursery() as reading:
            await (await wrap_server_stream(reading, relay)).accept()
            await theirs.send_all(b"".join(held) + text(b"early") + goodbye(1000))
            reading.cancel_scope.cancel()

    async with trio.open_nursery() as nursery, open_socket(URL, dial=dial, transport=transport) as socket:
        with trio.testing.assert_checkpoints():
            assert await socket.receive() == b"early"
        assert await until_closed(socket) == (b"", 1000)


class Holding(trio.abc.SendStream):
    """Keeps what is sent."""

    def __init__(self, held: list[bytes]) -> None:
        self.held = held

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.held.append(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_receiving_is_a_checkpoint_also_when_data_is_there(transport: Transport) -> None:
    async with connected(transport) as (socket, peer):
        for _ in range(3):
            await peer.say(text(b"x"))
            await trio.testing.wait_all_tasks_blocked()
            with trio.testing.assert_checkpoints():
                assert await socket.receive() == b"x"
        await peer.say(goodbye(1000))
        for _ in range(2):
            with trio.testing.assert_checkpoints(), pytest.raises(SocketClosed):
                await socket.receive()


async def test_a_cancelled_receive_loses_nothing(transport: Transport, autojump_clock: trio.abc.Clock) -> None:
    """Wherever the cancel comes: before the data, together with it, with a ping among it, or after it."""
    async with connected(transport) as (socket, peer):
        received, sent = b"", b""
        for number in range(40):
            async with trio.open_nursery() as nursery:

                async def listen(delay: float) -> None:
                    nonlocal received
                    with trio.move_on_after(delay):
                        received += await socket.receive()

                nursery.start_soon(listen, [0, 1, 2][number % 3])
                await trio.sleep([0, 1, 2, 3][number % 4])
                await peer.say(text(b"%d," % number), frame(Opcode.PING, b""), text(b"!"))
                sent += b"%d,!" % number
        await peer.say(goodbye(1000))
        rest, code = await until_closed(socket)
        assert received + rest == sent
        assert code == 1000


async def test_pings_are_answered_while_somebody_receives(transport: Transport, autojump_clock: trio.abc.Clock) -> None:
    async with connected(transport) as (socket, peer), open_helpers() as nursery:
        nursery.start_soon(until_closed, socket)
        for number in range(3):
            with trio.fail_after(1):
                await peer.connection.ping(b"%d" % number)


async def test_a_ping_beside_data_is_answered_although_the_receiver_is_cancelled_then(
    transport: Transport, autojump_clock: trio.abc.Clock
) -> None:
    async with connected(transport) as (socket, peer), open_helpers() as nursery:
        answered = trio.Event()

        async def ping() -> None:
            await peer.connection.ping(b"there?")
            answered.set()

        await peer.say(text(b"x"))
        nursery.start_soon(ping)
        await trio.testing.wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            assert await socket.receive() == b"x"
            scope.cancel()
            await socket.receive()
        assert scope.cancelled_caught
        with trio.move_on_after(1):
            await socket.receive()
        with trio.fail_after(1):
            await answered.wait()


async def test_a_line_that_takes_nothing_more_does_not_stop_the_reading(autojump_clock: trio.abc.Clock) -> None:
    """Of the answers that cannot leave, the oldest are dropped: only the newest ping needs its pong."""
    async with connected(over_websockets) as (socket, peer):
        ours = socket._stream  # type: ignore[attr-defined]
        written: list[bytes] = []
        ours.send_stream = Stuck(written)
        for number in range(1_000):
            await peer.say(frame(Opcode.PING, b"%d" % number), text(b"x"))
            assert await socket.receive() == b"x"
            await trio.testing.wait_all_tasks_blocked()
        ours.send_stream.way.set()
        await socket.send("and a message behind them")
        assert [len(data) for data in written[:1]] == [2 + 4 + 1], "the pong that was stuck"
        assert len(written[1]) == 63 * (2 + 4 + 3) + (2 + 4 + 25), "the newest, and the message"
        assert len(written) == 2


class Stuck(Holding):
    """Takes nothing until it may."""

    def __init__(self, held: list[bytes]) -> None:
        super().__init__(held)
        self.way = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.way.wait()
        await super().send_all(data)


async def test_messages_of_several_tasks_leave_whole(transport: Transport, autojump_clock: trio.abc.Clock) -> None:
    async with connected(transport) as (socket, peer):
        stream = peer.stream
        assert isinstance(stream, trio.StapledStream)
        async with trio.open_nursery() as nursery:
            for letter in "abc":
                nursery.start_soon(socket.send, letter * 300)
            await peer.say(frame(Opcode.PING, b"?"))
            with trio.move_on_after(1):
                await socket.receive()
        assert sorted([await peer.heard() for _ in range(3)]) == ["a" * 300, "b" * 300, "c" * 300]


@pytest.mark.parametrize("code", [1000, 1001, 1011, 4000])
async def test_their_goodbye_is_answered_and_told(code: int, transport: Transport) -> None:
    async with connected(transport) as (socket, peer):
        await peer.say(text(b"last"), goodbye(code), text(b"too late"))
        assert await until_closed(socket) == (b"last", code)
        with pytest.raises(SocketClosed):
            await socket.send("anyone there?")
        await socket.aclose()
        assert await peer.goodbye() == code


async def test_their_goodbye_is_answered_before_it_is_told(transport: Transport) -> None:
    """For whoever is told of it leaves, and the stream is closed."""
    async with connected(transport) as (socket, peer):
        await peer.say(goodbye(1001))
        with pytest.raises(SocketClosed):
            await socket.receive()
    assert peer.connection.closed is not None
    assert peer.connection.closed.code == 1001


async def test_an_answer_under_way_is_finished_although_the_block_is_cancelled(autojump_clock: trio.abc.Clock) -> None:
    """The goodbye that follows it would be read as its second half."""
    written: list[bytes] = []
    with trio.CancelScope() as scope:
        async with connected(over_websockets) as (socket, peer):
            line = socket._stream.send_stream = Stuck(written)  # type: ignore[attr-defined]
            await peer.say(frame(Opcode.PING, b""), text(b"x"))
            assert await socket.receive() == b"x"
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            with trio.move_on_after(1, shield=True):
                await trio.testing.wait_all_tasks_blocked()
                line.way.set()
                await socket.aclose()
    assert [data[0] & 0xF for data in written] == [Opcode.PONG, Opcode.CLOSE]


async def test_a_line_that_breaks_is_told(transport: Transport) -> None:
    async with connected(transport) as (socket, peer):
        await peer.say(text(b"last"), text(b"cut")[:1])
        await peer.stream.aclose()
        assert await until_closed(socket) == (b"last", 1006)
        with pytest.raises(SocketClosed):
            await socket.send("anyone there?")


async def test_a_line_that_breaks_under_a_message_is_told_to_the_receiver_too(transport: Transport) -> None:
    async with connected(transport) as (socket, peer), trio.open_nursery() as nursery:

        async def receive() -> None:
            assert await until_closed(socket) == (b"", 1006)

        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        assert isinstance(peer.stream, trio.StapledStream)
        await peer.stream.receive_stream.aclose()
        with pytest.raises(SocketClosed) as closed:
            await socket.send("anyone there?")
        assert closed.value.code == 1006


@pytest.mark.parametrize(
    ("faulty", "code"),
    [
        (frame(0x3, b"no such opcode"), 1002),
        (more(b"of nothing"), 1002),
        (text(b"", final=False) + text(b"a second beginning"), 1002),
        (frame(Opcode.PING, b"", final=False), 1002),
        (frame(Opcode.PING, b"p" * 126), 1002),
        (bytes([0xC1, 0]), 1002),
        (frame(Opcode.CLOSE, struct.pack("!H", 1005)), 1002),
        (frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007),
    ],
)
async def test_what_is_no_websocket_ends_it_behind_what_came_before(
    faulty: bytes, code: int, transport: Transport
) -> None:
    async with connected(transport) as (socket, peer):
        await peer.say(text(b"good"), faulty, text(b"too late"))
        assert await until_closed(socket) == (b"good", code)


@pytest.mark.parametrize(
    "beyond", [text(b"x" * 11), text(b"x" * 6, final=False) + more(b"x" * 5), frame(Opcode.BINARY, b"x" * 200)]
)
async def test_a_message_beyond_the_limit_ends_it(beyond: bytes, transport: Transport) -> None:
    async with connected(transport, max_message_bytes=10) as (socket, peer):
        await peer.say(text(b"x" * 10), text(b"y" * 10), beyond, beyond, text(b"z"))
        received, code = await until_closed(socket)
        assert received.removesuffix(b"x" * 6) == b"x" * 10 + b"y" * 10, "a piece of it may have passed"
        assert code == 1009
        assert await peer.goodbye() == 1009


# --- Leaving ---


async def test_a_goodbye_waits_for_theirs(transport: Transport, autojump_clock: trio.abc.Clock) -> None:
    async with connected(transport) as (socket, peer):
        await peer.say(text(b"unread"))
        await socket.aclose()
        assert await peer.goodbye() == 1000
        assert await until_closed(socket) == (b"", 1000)
        with pytest.raises(SocketClosed):
            await socket.send("anyone there?")
        await socket.aclose()


async def test_a_goodbye_while_somebody_receives(transport: Transport, autojump_clock: trio.abc.Clock) -> None:
    async with connected(transport) as (socket, peer), trio.open_nursery() as nursery:
        nursery.start_soon(until_closed, socket)
        await trio.testing.wait_all_tasks_blocked()
        await socket.aclose()
        assert await peer.goodbye() == 1000


async def test_a_goodbye_that_nobody_answers_can_be_cancelled(
    transport: Transport, autojump_clock: trio.abc.Clock
) -> None:
    async with connected(transport) as (socket, peer), trio.open_nursery() as nursery:
        nursery.start_soon(until_closed, socket)
        peer.reading.cancel()
        with trio.move_on_after(1) as patience:
            await socket.aclose()
        assert patience.cancelled_caught
        with pytest.raises(trio.BrokenResourceError):
            await peer.say(text(b"still open?"))


async def test_a_goodbye_on_a_broken_line_ends_at_once(transport: Transport) -> None:
    async with connected(transport) as (socket, peer):
        await peer.stream.aclose()
        await socket.aclose()


async def test_a_message_cut_short_is_followed_by_nothing(autojump_clock: trio.abc.Clock) -> None:
    """The far end would read on in the middle of a frame."""
    async with connected(over_websockets) as (socket, peer):
        written: list[bytes] = []
        line = socket._stream.send_stream = Stuck(written)  # type: ignore[attr-defined]
        with trio.move_on_after(1):
            await socket.send("half of")
        line.way.set()
        with pytest.raises(SocketClosed):
            await socket.send("anyone there?")
        await peer.say(frame(Opcode.PING, b"?"), text(b"x"))
        assert await socket.receive() == b"x"
        await socket.aclose()
        assert written == []


@pytest.mark.parametrize("moment", range(30))
async def test_a_cancel_at_any_moment_leaves_no_task_and_no_stream(
    moment: int, transport: Transport, autojump_clock: trio.abc.Clock
) -> None:
    """Of opening, talking and leaving: every step of the far end comes a second after the one before."""
    ours, theirs = trio.testing.memory_stream_pair()

    async def dial(url: str) -> trio.abc.Stream:
        await trio.sleep(1)
        return ours

    async def slow_echo() -> None:
        stream = trio.StapledStream(Slow(theirs), theirs)
        try:
            await echo(stream)
        except* (trio.BrokenResourceError, ConnectionClosed):
            pass

    async def talk() -> None:
        async with open_socket(URL, dial=dial, transport=transport) as socket:
            await trio.sleep(1)
            await socket.send("hello")
            try:
                while True:
                    await socket.receive()
            except SocketClosed:
                await trio.sleep(1)
                await socket.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow_echo)
        before = list(trio.lowlevel.current_task().child_nurseries)
        with trio.move_on_after(moment * 0.5):
            await talk()
        assert trio.lowlevel.current_task().child_nurseries == before
        if moment > 2:
            with pytest.raises(trio.ClosedResourceError):
                await ours.send_all(b"still open?")
        nursery.cancel_scope.cancel()


class Slow(trio.abc.SendStream):
    """Sends after a second."""

    def __init__(self, stream: trio.abc.SendStream) -> None:
        self.stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.sleep(1)
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_an_error_of_the_block_leaves_as_it_is(transport: Transport) -> None:
    error = ValueError("mine")
    async with listening() as port:
        with pytest.raises(ValueError, match="mine") as raised:
            async with open_socket(f"ws://127.0.0.1:{port}/", transport=transport):
                raise error
    assert raised.value is error


# --- Helpers ---


async def test_helpers_end_with_the_block() -> None:
    ended = False

    async def help_for_ever() -> None:
        nonlocal ended
        try:
            await trio.sleep_forever()
        finally:
            ended = True

    async with open_helpers() as nursery:
        nursery.start_soon(help_for_ever)
        await trio.testing.wait_all_tasks_blocked()
    assert ended


async def test_one_error_leaves_as_it_is_and_without_the_group_as_its_context() -> None:
    error = ValueError("mine")

    async def block() -> None:
        async with open_helpers() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error

    with pytest.raises(ValueError, match="mine") as raised:
        await block()
    assert raised.value is error
    assert error.__context__ is None


async def test_the_error_of_a_helper_ends_the_block() -> None:
    async def fail() -> None:
        raise ValueError("a helper's")

    async def block() -> None:
        async with open_helpers() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()

    with pytest.raises(ValueError, match="a helper's"):
        await block()


async def test_two_errors_leave_together() -> None:
    async def fail() -> None:
        raise ValueError("a helper's")

    with pytest.RaisesGroup(ValueError, KeyError):
        async with open_helpers() as nursery:
            nursery.start_soon(fail)
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise KeyError("mine")


async def test_a_cancel_leaves_as_a_cancel(autojump_clock: trio.abc.Clock) -> None:
    with trio.move_on_after(1) as scope:
        async with open_helpers() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught
