"""A SignalR server for tests of the client: real WebSocket, our server-side core, streams in memory, any behaviour."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import h11
import trio
import trio.testing
from attrs import define, field, frozen
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from flatguard.signalr import (
    Completion,
    Connection,
    HandshakeAccepted,
    Invocation,
    Message,
    Ping,
    Role,
)
from flatguard.signalr_client.socket import Dial


class Peer:
    """What a test's server does, said in the protocol's words. ``heard`` is what it received, and when."""

    def __init__(self, request: WebSocketRequest, began_at: float) -> None:
        self.request = request
        self.socket: WebSocketConnection
        self.core = Connection(Role.SERVER)
        self.began_at = began_at
        self.heard: list[tuple[float, Message]] = []

    async def accept(self) -> None:
        self.socket = await self.request.accept()

    async def greet(self, *more: Message) -> None:
        """Upgrade, and shake hands; ``more`` goes in the same WebSocket message as the answer."""
        await self.accept()
        while not self.heard:
            await self.hear()
        await self.write(HandshakeAccepted(), *more)

    async def hear(self) -> list[Message]:
        messages = self.core.receive(await self.socket.get_message())
        self.heard += [(trio.current_time() - self.began_at, message) for message in messages]
        return messages

    async def listen(self) -> None:
        while True:
            await self.hear()

    async def say(self, *messages: Message) -> None:
        await self.write(*messages)
        await trio.testing.wait_all_tasks_blocked()  # so that it is read by itself, if anybody reads

    async def write(self, *messages: Message) -> None:
        await self.socket.send_message("".join([self.core.send(message) for message in messages]))

    async def answer_calls(self, result: object = None) -> None:
        """Answer every call, for ever."""
        while True:
            for message in await self.hear():
                if isinstance(message, Invocation) and message.invocation_id is not None:
                    await self.say(Completion(message.invocation_id, result))

    def times_of(self, kind: type[Message]) -> list[float]:
        return [at for at, message in self.heard if type(message) is kind]


Behaviour = Callable[[Peer], Awaitable[None]]
Serve = Callable[[Behaviour], Dial]


async def greet(peer: Peer) -> None:
    await peer.greet()


class Line:
    """A server that a test steers while the hub is open."""

    def __init__(self) -> None:
        self.peer: Peer
        self.up = trio.Event()

    async def __call__(self, peer: Peer) -> None:
        await peer.greet()
        self.peer = peer
        self.up.set()


def serving(nursery: trio.Nursery, behave: Behaviour) -> Dial:
    """Return a ``dial`` whose far end is a WebSocket server that behaves as told, then goes on listening."""

    async def dial(url: str) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(attend, theirs, behave)
        return ours

    return dial


async def attend(stream: trio.abc.Stream, behave: Behaviour) -> None:
    """Be the WebSocket server at the end of ``stream`` until it closes."""
    async with trio.open_nursery() as reading:
        peer = Peer(await wrap_server_stream(reading, stream), trio.current_time())
        try:
            await behave(peer)
            await peer.listen()
        except* ConnectionClosed:
            pass
        reading.cancel_scope.cancel()


# --- One that gets stuck ---

Pair = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]


def deaf_after_greeting(
    nursery: trio.Nursery, pair: Pair = trio.testing.lockstep_stream_pair, *, talks: bool = False
) -> Dial:
    """A server that takes the handshake and our first ping, and then reads no more: our sends get stuck.

    On a lockstep pair, a send is not over before the other end has read it.
    """

    async def dial(url: str) -> trio.abc.Stream:
        ours, theirs = pair()
        nursery.start_soon(attend, theirs)
        return ours

    async def attend(stream: trio.abc.Stream) -> None:
        async with trio.open_nursery() as reading:
            peer = Peer(await wrap_server_stream(reading, stream), 0)
            await peer.greet()
            while not peer.times_of(Ping):
                await peer.hear()
            reading.cancel_scope.cancel()
        try:
            while talks:
                await trio.sleep(10)
                await stream.send_all(b"\x81\x0b" + b'{"type":6}\x1e')
        except trio.BrokenResourceError:
            pass

    return dial


# --- With negotiation in front of it ---


@frozen
class Asked:
    """A request to negotiate, as it came."""

    target: str
    headers: dict[str, str]


@frozen
class Answered:
    """What a negotiation is answered with; a body that is no text is sent as JSON."""

    body: object
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


ACCEPTED = {
    "negotiateVersion": 1,
    "connectionId": "public",
    "connectionToken": "sec/ret=",
    "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}],
}


@define
class Site:
    """A server with a negotiation, at any host. ``answers`` are given in turn, the last one for ever."""

    nursery: trio.Nursery
    answers: list[Answered] = field(factory=lambda: [Answered(ACCEPTED)])
    behave: Behaviour = greet
    dialled: list[str] = field(factory=list)
    asked: list[Asked] = field(factory=list)
    upgrades: list[tuple[str, dict[str, str]]] = field(factory=list)

    async def dial(self, url: str) -> trio.abc.Stream:
        """Open a connection to it."""
        await trio.lowlevel.checkpoint()
        self.dialled.append(url)
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.attend, theirs)
        return ours

    async def attend(self, stream: trio.abc.Stream) -> None:
        """Be the server at the end of ``stream``."""
        first = bytes(await stream.receive_some())
        if first.startswith(b"POST"):
            await self._negotiate(stream, first)
        else:
            await attend(Rewound(stream, first), self._note_and_behave)

    async def _note_and_behave(self, peer: Peer) -> None:
        headers = {name.decode(): value.decode() for name, value in peer.request.headers}
        self.upgrades.append((peer.request.path, headers))
        await self.behave(peer)

    async def _negotiate(self, stream: trio.abc.Stream, first: bytes) -> None:
        server = h11.Connection(h11.SERVER)
        server.receive_data(first)
        request = server.next_event()
        assert isinstance(request, h11.Request)
        assert isinstance(server.next_event(), h11.EndOfMessage)
        headers = {name.decode().lower(): value.decode() for name, value in request.headers}
        self.asked.append(Asked(request.target.decode(), headers))
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        body = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        response = h11.Response(
            status_code=answer.status,
            headers=[
                ("Transfer-Encoding", "chunked"),
                *((name, value.encode("latin-1")) for name, value in answer.headers),
            ],
        )
        for event in (response, h11.Data(data=body.encode()), h11.EndOfMessage()):
            await stream.send_all(server.send(event) or b"")
        await stream.aclose()


class Rewound(trio.abc.Stream):
    """A stream of which something has been read already."""

    def __init__(self, stream: trio.abc.Stream, first: bytes) -> None:
        self._stream = stream
        self._first = first

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._first:
            await trio.lowlevel.checkpoint()
            first, self._first = self._first, b""
            return first
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()
