"""One connection to a SignalR hub: greet, keep alive, call, receive, answer, and know when it is lost.

Two tasks serve a connection. One listens: it hands over what the server calls, wakes those who wait for an answer, and
gives up after 30 s without a message. One speaks up: it pings whenever we have said nothing for 15 s, however much the
server says meanwhile, for the server counts our silence only. Both look at one clock, ``trio.current_time()``. A third
runs the answers to what the server asks of us, if anybody offered any.

What was read is never dropped. It waits for whoever takes it, up to HELD messages; then nothing more is read, the
server is held up, and may hang up in the end; our pings go on. Only where somebody waits for an answer, which may stand
behind what nobody takes, does the reader go on, up to HELD_AT_MOST; beyond that the connection is given up, loudly.

A connection is never mended. When it is lost, those who wait learn it at once, what had been read before is still
handed over, and then ``receive`` says why; whoever opened it opens another. Nothing is restored by that: subscribe
again, and read the picture again.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from typing import ClassVar

import trio
from attrs import field, frozen, mutable

from flatguard.signalr import (
    VOID,
    CancelInvocation,
    Close,
    Completion,
    Connection,
    HandshakeRefused,
    HandshakeRequest,
    Invocation,
    Message,
    Ping,
    RemoteProtocolError,
    Role,
    State,
    StreamInvocation,
    StreamItem,
)
from flatguard.signalr.framing import ReadCall
from flatguard.signalr_client.address import Address, TokenIn
from flatguard.signalr_client.answers import Answers
from flatguard.signalr_client.errors import HubCallFailed, HubCallUnresolved, HubLost, HubRefused, HubUnreachable
from flatguard.signalr_client.handlers import Handler
from flatguard.signalr_client.negotiate import Negotiated, negotiate
from flatguard.signalr_client.socket import (
    Dial,
    Socket,
    SocketClosed,
    SocketError,
    SocketRefused,
    dial_tcp,
    open_helpers,
    open_socket,
)
from flatguard.signalr_client.stream import Stream

HELD = 10_000
"""Messages that may wait to be taken: minutes of a busy market. A consumer further behind does not lag but hang."""

HELD_AT_MOST = 100_000

_WILL_RECUR = {1002, 1007, 1009}  # one side broke the WebSocket protocol, or a message was too long


@frozen
class Timings:
    """How long to wait, in seconds. A limit is twice the other side's interval; these are the values of SignalR."""

    opening_limit_s: float = 15.0
    """For all of negotiating, connecting, upgrading and greeting."""

    keep_alive_s: float = 15.0
    """After so long without a message of ours, a ping."""

    silence_limit_s: float = 30.0
    """After so long without a message of theirs, or with a message of ours stuck, the link is lost."""

    closing_limit_s: float = 2.0
    """For saying Close."""


STANDARD = Timings()


@frozen
class HubStatistics:
    """A look at a connection, for the status report."""

    messages_received: int
    bytes_received: int
    heard_at: float
    """When the last message came, by ``trio.current_time()``; pings count."""

    round_trip_s: float | None
    """How long the latest answered call took; None before the first."""

    messages_waiting: int
    """Read, and not yet taken by anybody."""

    calls_waiting: int
    answers_ignored: int
    """Answers to no call of ours: late ones, after the caller gave up, or a confused server's."""


@mutable
class _Call:
    """A call that waits for its answer; ``waiting`` is cancelled when the answer cannot come any more."""

    waiting: trio.CancelScope = field(factory=trio.CancelScope)
    answered: trio.Event = field(factory=trio.Event)
    answer: Completion | None = None
    sent_at: float = math.nan
    hungry: ClassVar[bool] = True


class Hub:
    """An open connection. Any task may call; usually one ``receive``s."""

    def __init__(
        self,
        socket: Socket,
        timings: Timings,
        answers: Mapping[str, Handler],
        connection_id: str | None,
        read_call: ReadCall | None,
    ) -> None:
        self.connection_id = connection_id
        """The server's name for this connection; None without negotiation."""

        self._socket = socket
        self._timings = timings
        self._core = Connection(Role.CLIENT, read_call=read_call)
        self._writing = trio.Lock()
        self._spoke_at = self._heard_at = trio.current_time()
        self._ids = count(1)
        self._calls: dict[str, _Call | Stream] = {}
        self._asking: set[trio.CancelScope] = set()
        self._answers_ignored = 0
        self._messages_received = self._bytes_received = 0
        self._round_trip_s: float | None = None
        # The channels have no bound of their own: what they hold is counted together, and the reader waits for room.
        self._batches_in, self._batches_out = trio.open_memory_channel[list[Invocation]](math.inf)
        self._to_say_in, self._to_say_out = trio.open_memory_channel[Message](math.inf)
        self._held = 0
        self._room = trio.lowlevel.ParkingLot()
        self._answers = Answers(answers, self._to_say_in.send_nowait)
        self._loss: HubLost | None = None
        self._lost = trio.Event()

    @property
    def lost(self) -> bool:
        """Whether the connection is over; then ``loss`` says why."""
        return self._loss is not None

    @property
    def loss(self) -> HubLost:
        """Why the connection is over; only once it is."""
        assert self._loss is not None
        return HubLost(
            self._loss.reason, worth_reconnecting=self._loss.worth_reconnecting, will_recur=self._loss.will_recur
        )

    async def receive(self) -> list[Invocation]:
        """Return the next batch: the server's calls that one read brought, in order, never empty.

        Returns when a batch is there, always by way of a checkpoint. After the last one, raises HubLost. If cancelled,
        nothing is lost. Calls that ``answers`` takes care of are not among them.
        """
        try:
            batch = await self._batches_out.receive()
        except trio.EndOfChannel:
            raise self.loss from None
        self._taken(len(batch))
        return batch

    async def invoke(self, target: str, *arguments: object) -> object:
        """Run ``target`` on the server and return its result; None where it has none.

        Returns when the answer is there. Checkpoints, unless the arguments cannot be written (LocalProtocolError).
        Raises HubCallFailed where the server answers with an error, HubLost when the connection was lost before the
        call was sent, and HubCallUnresolved at once when it is lost later.

        If cancelled while waiting for the answer, the server is asked to stop and may run it all the same, and the
        answer is ignored. If cancelled in the middle of sending, the connection is lost, since what follows half a
        message would be misread.
        """
        call, id_ = _Call(), str(next(self._ids))
        try:
            await self._ask(target, Invocation(target, arguments, id_), call, id_)
            with call.waiting:
                await call.answered.wait()
        finally:
            if self._calls.pop(id_, None) is not None and call.answer is None:
                self._stop(id_)
        if call.answer is None:
            raise HubCallUnresolved(target, self.loss)
        if call.answer.error is not None:
            raise HubCallFailed(target, call.answer.error)
        return None if call.answer.result is VOID else call.answer.result

    async def send(self, target: str, *arguments: object) -> None:
        """Have ``target`` run on the server, without an answer of any kind.

        Returns when the operating system has the message. Checkpoints, unless the arguments cannot be written
        (LocalProtocolError). Raises HubLost when the connection was lost before, HubCallUnresolved when it broke in the
        moment of sending. If cancelled in the middle of that, the connection is lost.
        """
        await self._ask(target, Invocation(target, arguments))

    @asynccontextmanager
    async def stream(self, target: str, *arguments: object) -> AsyncIterator[Stream]:
        """Run ``target`` on the server, which answers with a stream of items, for the length of the block.

        Entering returns when the call is sent, and raises as ``send`` does. Leaving before the stream has ended asks
        the server to stop it, without waiting; what still comes of it is dropped.
        """
        id_ = str(next(self._ids))
        stream = Stream(target, self._taken, lambda: self.loss)
        try:
            await self._ask(target, StreamInvocation(target, id_, arguments), stream, id_)
            yield stream
        finally:
            stream.drop()
            if self._calls.pop(id_, None) is not None and stream.answer is None:
                self._stop(id_)

    def statistics(self) -> HubStatistics:
        """Return the counters, and what waits at this moment."""
        return HubStatistics(
            messages_received=self._messages_received,
            bytes_received=self._bytes_received,
            heard_at=self._heard_at,
            round_trip_s=self._round_trip_s,
            messages_waiting=self._held,
            calls_waiting=len(self._calls),
            answers_ignored=self._answers_ignored,
        )

    # --- Calling ---

    async def _ask(
        self, target: str, message: Invocation | StreamInvocation, call: _Call | Stream | None = None, id_: str = ""
    ) -> None:
        leaving = False
        with trio.CancelScope() as asking:
            self._asking.add(asking)
            try:
                async with self._writing:
                    if self._loss is not None:
                        raise self.loss
                    text = self._core.send(message)
                    await trio.lowlevel.checkpoint_if_cancelled()  # not later: what is known below is about to leave
                    leaving = True
                    if call is not None:
                        self._calls[id_] = call
                        call.sent_at = trio.current_time()
                        self._room.unpark_all()
                    return await self._transmit(text)
            except SocketClosed as closed:
                raise HubCallUnresolved(target, _lost_by(closed)) from None
            finally:
                self._asking.discard(asking)
        raise HubCallUnresolved(target, self.loss) if leaving else self.loss  # the connection was lost meanwhile

    def _stop(self, id_: str) -> None:
        """Have the server told that nobody waits for this call any more."""
        if self._loss is None and self._core.state is State.OPEN:
            self._to_say_in.send_nowait(CancelInvocation(id_))

    # --- Opening and leaving ---

    async def _greet(self) -> list[Message]:
        """Shake hands; return the messages that came behind the server's answer."""
        async with self._writing:
            await self._send(HandshakeRequest())
        messages: list[Message] = []
        while not messages:
            messages = self._hear(await self._socket.receive())
        answer, *early = messages
        if isinstance(answer, HandshakeRefused):
            raise HubRefused(f"the server refused the handshake: {answer.error}")
        return early

    async def _serve(self, early: list[Message]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, early)
            nursery.start_soon(self._speak_up)
            nursery.start_soon(self._answers.give)
            await self._lost.wait()
            with trio.move_on_after(self._timings.closing_limit_s):
                async with self._writing:
                    pass  # what is on its way out leaves whole: behind half a message no farewell would be understood
            nursery.cancel_scope.cancel()

    async def _leave(self) -> None:
        welcome = self._loss is None or self._core.state is State.LEFT
        self._lose(HubLost("we left", worth_reconnecting=False))
        if not welcome:
            return
        async with self._writing:
            if self._core.state in (State.OPEN, State.LEFT):
                try:
                    await self._send(Close())
                except SocketClosed:
                    pass
        await self._socket.aclose()

    def _lose(self, loss: HubLost) -> None:
        """The first reason stands. Nothing more is read or sent, and whoever waits learns it now."""
        if self._loss is None:
            self._loss = loss
            self._batches_in.close()
            self._lost.set()
            for asking in self._asking:
                asking.cancel()
            for call in self._calls.values():
                if isinstance(call, Stream):
                    call.end()
                else:
                    call.waiting.cancel()

    # --- Listening ---

    async def _listen(self, early: list[Message]) -> None:
        if self.lost:
            return  # we have left already
        try:
            await self._take(early)
            while True:
                with trio.move_on_at(self._heard_at + self._timings.silence_limit_s) as patience:
                    data = await self._socket.receive()
                if patience.cancelled_caught:
                    self._lose(HubLost(f"the server said nothing for {self._timings.silence_limit_s:g} s"))
                if self._loss is not None:
                    return  # for that reason, or because a send was cut short just now
                await self._take(self._hear(data))
        except SocketClosed as closed:
            self._lose(_lost_by(closed))
        except RemoteProtocolError as error:
            self._lose(HubLost(f"the server broke the protocol: {error}", will_recur=True))

    def _hear(self, data: bytes) -> list[Message]:
        messages = self._core.receive(data)
        self._bytes_received += len(data)
        self._messages_received += len(messages)
        return messages

    async def _take(self, messages: list[Message]) -> None:
        batch: list[Invocation] = []
        for message in messages:
            match message:
                case Invocation(invocation_id=None):
                    batch.append(message)
                case Invocation():
                    if not self._answers.take(message):
                        batch.append(message)
                case Completion():
                    self._settle(message)
                case StreamItem():
                    self._put(message)
        if batch:
            self._batches_in.send_nowait(batch)
            self._held += len(batch)
        match messages:
            case [*_, Close(error=error, allow_reconnect=allowed)]:  # nothing follows a Close
                why = f"the server closed the connection: {error or 'it gave no reason'}"
                self._lose(HubLost(why, worth_reconnecting=allowed))
        if self._core.state is State.FAULTY:
            self._core.receive(b"")  # raises what is wrong with the message behind these
        if self._held > HELD_AT_MOST:
            self._lose(HubLost(f"{self._held} messages wait and nobody takes them"))
        while self._held > HELD and self._loss is None and not self._somebody_waits():
            await self._room.park()
        self._heard_at = trio.current_time()

    def _somebody_waits(self) -> bool:
        return any(call.answer is None and call.hungry for call in self._calls.values())

    def _taken(self, messages: int) -> None:
        self._held -= messages
        self._room.unpark_all()

    def _settle(self, answer: Completion) -> None:
        call = self._calls.get(answer.invocation_id)
        if call is None or call.answer is not None:
            self._answers_ignored += 1
            return
        call.answer = answer
        self._round_trip_s = trio.current_time() - call.sent_at
        if isinstance(call, Stream):
            call.end()
        else:
            call.answered.set()

    def _put(self, item: StreamItem) -> None:
        call = self._calls.get(item.invocation_id)
        if isinstance(call, Stream) and call.answer is None:
            call.put(item.item)
            self._held += 1
        else:
            self._settle(Completion(item.invocation_id, error="the server answers with a stream"))

    # --- Speaking ---

    async def _speak_up(self) -> None:
        """Say what is due. The first ping is due at once: a server watches for us only from then on."""
        due: Message = Ping()
        while True:
            with trio.move_on_after(self._timings.silence_limit_s) as patience:
                try:
                    async with self._writing:
                        if self._loss is not None:
                            return
                        await self._send(due)
                except SocketClosed:
                    return  # the reader takes what has come before, and then says so
            if patience.cancelled_caught:
                self._lose(HubLost("the server takes no more messages"))
                return
            due = await self._wait_until_due()

    async def _wait_until_due(self) -> Message:
        while True:
            with trio.move_on_at(self._spoke_at + self._timings.keep_alive_s):
                return await self._to_say_out.receive()
            if trio.current_time() >= self._spoke_at + self._timings.keep_alive_s:
                return Ping()

    async def _send(self, message: Message) -> None:
        """Send while holding the lock."""
        await trio.lowlevel.checkpoint_if_cancelled()  # not later: then we could not tell whether a part has left
        await self._transmit(self._core.send(message))

    async def _transmit(self, text: str) -> None:
        try:
            await self._socket.send(text)
        except SocketClosed:
            raise
        except BaseException:
            self._core.send_failed()
            self._lose(HubLost("a message of ours was cut short"))
            raise
        self._spoke_at = trio.current_time()


def _lost_by(closed: SocketClosed) -> HubLost:
    return HubLost(str(closed), will_recur=closed.code in _WILL_RECUR)


@asynccontextmanager
async def open_hub(
    url: str,
    *,
    token: Callable[[], Awaitable[str]] | None = None,
    token_in: TokenIn = TokenIn.HEADER,
    negotiating: bool = True,
    answers: Mapping[str, Handler] | None = None,
    read_call: ReadCall | None = None,
    timings: Timings = STANDARD,
    dial: Dial | None = None,
) -> AsyncIterator[Hub]:
    """Connect to a hub for the length of the block, by negotiation or straight to the WebSocket.

    The token is asked for first, under the caller's own limit. Entering then returns when the server has accepted the
    handshake, or raises HubUnreachable or HubRefused, within ``timings.opening_limit_s``. What the server says before
    that is not lost. Leaving says Close where anyone may still hear it, and takes ``timings.closing_limit_s`` at most,
    cancelled or not. If cancelled, nothing is left open and no task is left; an error of the block leaves as it is.

    ``answers`` are run for calls of the server that want a result: begun in order, side by side, with the call's
    arguments. What they return is the result, what they raise its error.

    ``read_call`` may read the calls that it knows from their JSON text, with arguments as it likes; the arguments of
    the others are plain values.

    The block is not told of a loss other than by ``receive`` and the calls.
    """
    address = Address(url, None if token is None else await token(), token_in)
    dial = dial or dial_tcp
    with trio.move_on_after(timings.opening_limit_s) as opening:
        async with AsyncExitStack() as stack:
            try:
                place = await negotiate(address, dial) if negotiating else Negotiated(address, None)
                socket = await stack.enter_async_context(
                    open_socket(place.address.socket_url(), headers=place.address.headers(), dial=dial)
                )
                hub = Hub(socket, timings, answers or {}, place.connection_id, read_call)
                early = await hub._greet()
            except SocketRefused as error:
                raise HubRefused(str(error), status=error.status) from None
            except (SocketError, RemoteProtocolError) as error:
                raise HubUnreachable(str(error)) from None
            opening.deadline = math.inf
            await trio.lowlevel.checkpoint_if_cancelled()  # the limit may have passed in this very moment
            helpers = await stack.enter_async_context(open_helpers())
            helpers.start_soon(hub._serve, early)
            try:
                yield hub
            finally:
                with trio.move_on_after(timings.closing_limit_s, shield=True):
                    await hub._leave()
    if opening.cancelled_caught:
        raise HubUnreachable(f"the hub did not answer within {timings.opening_limit_s:g} s")
