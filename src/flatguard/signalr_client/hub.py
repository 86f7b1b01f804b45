"""One connection to a SignalR hub: greet, keep alive, call, receive, and know when it is lost.

Two tasks serve a connection. One listens: it hands over what the server calls, wakes those who wait for an answer, and
gives up after 30 s without a message. One speaks up: it pings whenever we have said nothing for 15 s, however much the
server says meanwhile, for the server counts our silence only. Both look at one clock, ``trio.current_time()``.

A connection is never mended. When it is lost, those who wait learn it at once, what had been read before is still
handed over, and then ``receive`` says why; whoever opened it opens another. Nothing is restored by that: subscribe
again, and read the picture again.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from urllib.parse import quote, urlsplit

import trio
from attrs import field, frozen, mutable

from flatguard.errors import FlatguardError, GatewayUnreachable
from flatguard.signalr import (
    VOID,
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
    StreamItem,
)
from flatguard.signalr_client.socket import (
    Dial,
    Socket,
    SocketClosed,
    SocketError,
    SocketRefused,
    open_helpers,
    open_socket,
)

BATCHES_HELD = 1_024
"""About eight seconds of a busy market. A consumer further behind than that does not lag but hang."""

NO_RESULT = "Client didn't provide a result."

_HEADER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")


@frozen
class Timings:
    """How long to wait, in seconds. A limit is twice the other side's interval; these are the values of SignalR."""

    opening_limit_s: float = 15.0
    """For all of connecting, upgrading and greeting."""

    keep_alive_s: float = 15.0
    """After so long without a message of ours, a ping."""

    silence_limit_s: float = 30.0
    """After so long without a message of theirs, or with a message of ours stuck, the link is lost."""

    closing_limit_s: float = 2.0
    """For saying Close."""


STANDARD = Timings()


class HubError(GatewayUnreachable):
    """Base of what ends a connection or prevents one; never raised itself."""


class HubUnreachable(HubError):
    """There was no connection within the limit; try again later."""


class HubRefused(HubError):
    """The server said no. ``status`` is that of the HTTP upgrade; None if it refused the handshake that follows.

    401 and 403 call for a fresh token before the next attempt.
    """

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class HubLost(HubError):
    """The connection is over. What was read before has been handed over; what happens now is not told to us.

    ``worth_reconnecting`` is False where the server sent us away for good, or we left.
    """

    def __init__(self, reason: str, *, worth_reconnecting: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.worth_reconnecting = worth_reconnecting


class HubCallUnresolved(HubLost):
    """The connection was lost between a call and its answer: the server may or may not have run it."""

    def __init__(self, target: str, reason: str, *, worth_reconnecting: bool = True) -> None:
        super().__init__(f"{target} may or may not have run: {reason}", worth_reconnecting=worth_reconnecting)


class HubCallFailed(FlatguardError):
    """The server answered a call with ``error``."""

    def __init__(self, target: str, error: str) -> None:
        super().__init__(f"{target} failed: {error}")
        self.target = target
        self.error = error


@frozen
class HubStatistics:
    """A look at a connection, for the status report."""

    batches_waiting: int
    calls_waiting: int
    answers_ignored: int
    """Answers to no call of ours: late ones, after the caller gave up, or a confused server's."""


@mutable
class _Call:
    """A call that waits for its answer; ``waiting`` is cancelled when the answer cannot come any more."""

    waiting: trio.CancelScope = field(factory=trio.CancelScope)
    answered: trio.Event = field(factory=trio.Event)
    answer: Completion | None = None


class Hub:
    """An open connection. Any task may ``invoke``; usually one ``receive``s."""

    def __init__(self, socket: Socket, timings: Timings) -> None:
        self._socket = socket
        self._timings = timings
        self._core = Connection(Role.CLIENT)
        self._writing = trio.Lock()
        self._spoke_at = self._heard_at = trio.current_time()
        self._ids = count(1)
        self._calls: dict[str, _Call] = {}
        self._answers_ignored = 0
        # What was read is never dropped, so the channels have no bound of their own: the reader waits for room instead.
        self._batches_in, self._batches_out = trio.open_memory_channel[list[Invocation]](math.inf)
        self._batches_waiting = 0
        self._room = trio.lowlevel.ParkingLot()
        self._owed_in, self._owed_out = trio.open_memory_channel[Completion](math.inf)
        self._loss: tuple[str, bool] | None = None
        self._lost = trio.Event()

    async def receive(self) -> list[Invocation]:
        """Return the next batch: what one WebSocket message carried of the server's calls, in order, never empty.

        Returns when a batch is there, always by way of a checkpoint. After the last one, raises HubLost. If cancelled,
        nothing is lost.

        Batches wait for a slow consumer, up to BATCHES_HELD. Then nothing more is read until one is taken or somebody
        calls, the server is held up, and may hang up in the end; our pings go on.
        """
        try:
            batch = await self._batches_out.receive()
        except trio.EndOfChannel:
            raise self._as_lost() from None
        self._batches_waiting -= 1
        self._room.unpark_all()
        return batch

    async def invoke(self, target: str, *arguments: object) -> object:
        """Run ``target`` on the server and return its result; None where it has none.

        Returns when the answer is there. Checkpoints, unless the arguments cannot be written (LocalProtocolError).
        Raises HubCallFailed where the server answers with an error, HubLost when the connection was lost before the
        call was sent, and HubCallUnresolved at once when it is lost later.

        If cancelled while waiting for the answer, the call may still run, and the answer is ignored. If cancelled in
        the middle of sending, the connection is lost, since what follows half a message would be misread.
        """
        call, id_ = _Call(), str(next(self._ids))
        try:
            with call.waiting:
                async with self._writing:
                    if self._loss is not None:
                        raise self._as_lost()
                    self._calls[id_] = call
                    self._room.unpark_all()
                    await self._send(Invocation(target, arguments, id_))
                await call.answered.wait()
        except SocketClosed as closed:
            raise HubCallUnresolved(target, str(closed)) from None
        finally:
            self._calls.pop(id_, None)
        if call.answer is None:
            lost = self._as_lost()
            raise HubCallUnresolved(target, lost.reason, worth_reconnecting=lost.worth_reconnecting)
        if call.answer.error is not None:
            raise HubCallFailed(target, call.answer.error)
        return None if call.answer.result is VOID else call.answer.result

    def statistics(self) -> HubStatistics:
        """Return what waits at this moment."""
        return HubStatistics(
            batches_waiting=self._batches_waiting,
            calls_waiting=len(self._calls),
            answers_ignored=self._answers_ignored,
        )

    # --- Opening and leaving ---

    async def _greet(self) -> list[Message]:
        """Shake hands; return the messages that came behind the server's answer."""
        async with self._writing:
            await self._send(HandshakeRequest())
        messages: list[Message] = []
        while not messages:
            messages = self._core.receive(await self._socket.receive())
        self._heard_at = trio.current_time()
        answer, *early = messages
        if isinstance(answer, HandshakeRefused):
            raise HubRefused(f"the server refused the handshake: {answer.error}")
        return early

    async def _serve(self, early: list[Message]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, early)
            nursery.start_soon(self._speak_up)
            await self._lost.wait()
            nursery.cancel_scope.cancel()

    async def _leave(self) -> None:
        welcome = self._loss is None or self._core.state is State.LEFT
        self._lose("we left", worth_reconnecting=False)
        if not welcome:
            return
        async with self._writing:
            if self._core.state in (State.OPEN, State.LEFT):
                try:
                    await self._send(Close())
                except SocketClosed:
                    pass
        await self._socket.aclose()

    def _lose(self, reason: str, *, worth_reconnecting: bool = True) -> None:
        """The first reason stands. Nothing more is read or sent, and whoever waits learns it now."""
        if self._loss is None:
            self._loss = (reason, worth_reconnecting)
            self._batches_in.close()
            self._lost.set()
            for call in self._calls.values():
                call.waiting.cancel()

    def _as_lost(self) -> HubLost:
        assert self._loss is not None
        reason, worth_reconnecting = self._loss
        return HubLost(reason, worth_reconnecting=worth_reconnecting)

    # --- Listening ---

    async def _listen(self, early: list[Message]) -> None:
        try:
            await self._take(early)
            while True:
                with trio.move_on_at(self._heard_at + self._timings.silence_limit_s) as patience:
                    data = await self._socket.receive()
                if patience.cancelled_caught:
                    self._lose(f"the server said nothing for {self._timings.silence_limit_s:g} s")
                if self._loss is not None:
                    return  # for that reason, or because a send was cut short just now
                if data:
                    await self._take(self._core.receive(data))
        except SocketClosed as closed:
            self._lose(str(closed))
        except RemoteProtocolError as error:
            self._lose(f"the server broke the protocol: {error}")

    async def _take(self, messages: list[Message]) -> None:
        batch: list[Invocation] = []
        for message in messages:
            match message:
                case Invocation(invocation_id=id_):
                    batch.append(message)
                    if id_ is not None:
                        self._owed_in.send_nowait(Completion(id_, error=NO_RESULT))
                case Completion():
                    self._settle(message)
                case StreamItem(invocation_id=id_):
                    self._settle(Completion(id_, error="the server answers with a stream"))
        if batch:
            self._batches_in.send_nowait(batch)
            self._batches_waiting += 1
        match messages:
            case [*_, Close(error=error, allow_reconnect=allowed)]:  # nothing follows a Close
                why = f"the server closed the connection: {error or 'it gave no reason'}"
                self._lose(why, worth_reconnecting=allowed)
        if self._core.state is State.FAULTY:
            self._core.receive(b"")  # raises what is wrong with the message behind these
        while self._batches_waiting > BATCHES_HELD and not self._calls:
            await self._room.park()
        self._heard_at = trio.current_time()

    def _settle(self, answer: Completion) -> None:
        call = self._calls.get(answer.invocation_id)
        if call is None or call.answer is not None:
            self._answers_ignored += 1
            return
        call.answer = answer
        call.answered.set()

    # --- Speaking ---

    async def _speak_up(self) -> None:
        """Say what is due. The first ping is due at once: a server watches for us only from then on."""
        due: Message = Ping()
        while True:
            with trio.move_on_after(self._timings.silence_limit_s) as patience:
                try:
                    async with self._writing:
                        await self._send(due)
                except SocketClosed:
                    return  # the reader takes what has come before, and then says so
            if patience.cancelled_caught:
                self._lose("the server takes no more messages")
                return
            due = await self._wait_until_due()

    async def _wait_until_due(self) -> Message:
        while True:
            with trio.move_on_at(self._spoke_at + self._timings.keep_alive_s):
                return await self._owed_out.receive()
            if trio.current_time() >= self._spoke_at + self._timings.keep_alive_s:
                return Ping()

    async def _send(self, message: Message) -> None:
        """Send while holding the lock."""
        await trio.lowlevel.checkpoint_if_cancelled()  # not later: then we could not tell whether a part has left
        text = self._core.send(message)
        try:
            await self._socket.send(text)
        except SocketClosed:
            raise
        except BaseException:
            self._core.send_failed()
            self._lose("a message of ours was cut short")
            raise
        self._spoke_at = trio.current_time()


@asynccontextmanager
async def open_hub(
    url: str,
    *,
    token: Callable[[], Awaitable[str]],
    timings: Timings = STANDARD,
    dial: Dial | None = None,
) -> AsyncIterator[Hub]:
    """Connect to a hub for the length of the block, straight to the WebSocket, without negotiation.

    The token is asked for first, under the caller's own limit. Entering then returns when the server has accepted the
    handshake, or raises HubUnreachable or HubRefused, within ``timings.opening_limit_s``. What the server says before
    that is not lost. Leaving says Close where anyone may still hear it, and takes ``timings.closing_limit_s`` at most,
    cancelled or not. If cancelled, nothing is left open and no task is left; an error of the block leaves as it is.

    The block is not told of a loss other than by ``receive`` and ``invoke``.
    """
    secret = await token()
    with trio.move_on_after(timings.opening_limit_s) as opening:
        async with AsyncExitStack() as stack:
            try:
                socket = await stack.enter_async_context(
                    open_socket(_with_token(url, secret), headers=_headers(secret), dial=dial)
                )
                hub = Hub(socket, timings)
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


def _with_token(url: str, token: str) -> str:
    """The broker reads the token from the query only; the header is for servers that read it there."""
    parts = urlsplit(url)
    query = "access_token=" + quote(token, safe="", errors="replace")
    return parts._replace(
        scheme={"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme),
        query=f"{parts.query}&{query}" if parts.query else query,
        fragment="",
    ).geturl()


def _headers(token: str) -> dict[str, str]:
    """A token that no header can hold is left to the query: the error about it would quote it."""
    return {"Authorization": f"Bearer {token}"} if _HEADER_TOKEN.fullmatch(token) else {}
