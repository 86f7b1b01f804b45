"""The life of one connection, as a table; no I/O, no clock, either role.

Two rules. Everything about states stands in this file's table; an illegal move is a failed lookup. And the
table does not know what any message contains.

``receive`` reads all that has come, so the state may be ahead of the caller who still answers the first of
several messages. Therefore the states in which we no longer listen (they said Close, or broke the protocol)
still let us finish what we had to say, and say Close.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, StrEnum

from flatguard.signalr import framing
from flatguard.signalr.errors import LocalProtocolError, RemoteProtocolError
from flatguard.signalr.messages import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HandshakeAccepted,
    HandshakeRefused,
    HandshakeRequest,
    Invocation,
    Message,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
)


class Role(StrEnum):
    """Which end we are."""

    CLIENT = "client"
    SERVER = "server"


class State(StrEnum):
    """Where a connection stands."""

    NEW = "new"
    """Nothing has been said."""

    GREETING = "greeting"
    """The client has asked, the server has not answered."""

    OPEN = "open"
    """Both sides may say what they like."""

    LEAVING = "leaving"
    """We have said Close. What they said before they knew still counts."""

    LEFT = "left"
    """They have said Close. What follows it is dropped; we may finish, and say Close."""

    FAULTY = "faulty"
    """They sent what cannot be understood. Nothing more is read; we may finish, and say Close."""

    CLOSED = "closed"
    """Over, in good order or because the stream ended. Nothing may be sent; what still comes is dropped."""

    BROKEN = "broken"
    """A message of ours was cut short, so the next one would be misread. Nothing may be sent or received."""


class By(Enum):
    """Who says it."""

    US = "we"
    THEM = "they"


Move = tuple[By, type[Message]]
Table = dict[State, dict[Move, State]]

# Ack and Sequence belong to stateful reconnection. We never ask for it, so we send neither, and pass both on.
_SERVER_SAYS: tuple[type[Message], ...] = (Invocation, StreamItem, Completion, Ping)
_CLIENT_SAYS: tuple[type[Message], ...] = (*_SERVER_SAYS, StreamInvocation, CancelInvocation)


def _say(by: By, kinds: tuple[type[Message], ...], *, then: State) -> dict[Move, State]:
    return {(by, kind): then for kind in kinds}


TRANSITIONS: dict[Role, Table] = {
    Role.CLIENT: {
        State.NEW: {(By.US, HandshakeRequest): State.GREETING},
        State.GREETING: {
            (By.THEM, HandshakeAccepted): State.OPEN,
            (By.THEM, HandshakeRefused): State.CLOSED,
        },
        State.OPEN: {
            **_say(By.US, _CLIENT_SAYS, then=State.OPEN),
            (By.US, Close): State.LEAVING,
            **_say(By.THEM, (*_SERVER_SAYS, Ack, Sequence), then=State.OPEN),
            (By.THEM, Close): State.LEFT,
        },
        State.LEAVING: {
            **_say(By.THEM, (*_SERVER_SAYS, Ack, Sequence), then=State.LEAVING),
            (By.THEM, Close): State.CLOSED,
        },
        State.LEFT: {**_say(By.US, _CLIENT_SAYS, then=State.LEFT), (By.US, Close): State.CLOSED},
        State.FAULTY: {**_say(By.US, _CLIENT_SAYS, then=State.FAULTY), (By.US, Close): State.CLOSED},
        State.CLOSED: {},
        State.BROKEN: {},
    },
    Role.SERVER: {
        State.NEW: {
            (By.THEM, HandshakeRequest): State.GREETING,
            # Nobody waits for ever to be asked.
            (By.US, HandshakeRefused): State.CLOSED,
        },
        State.GREETING: {
            (By.US, HandshakeAccepted): State.OPEN,
            (By.US, HandshakeRefused): State.CLOSED,
            # A client need not wait for the answer before it goes on.
            **_say(By.THEM, (*_CLIENT_SAYS, Ack, Sequence), then=State.GREETING),
            (By.THEM, Close): State.LEFT,
        },
        State.OPEN: {
            **_say(By.US, _SERVER_SAYS, then=State.OPEN),
            (By.US, Close): State.LEAVING,
            **_say(By.THEM, (*_CLIENT_SAYS, Ack, Sequence), then=State.OPEN),
            (By.THEM, Close): State.LEFT,
        },
        State.LEAVING: {
            **_say(By.THEM, (*_CLIENT_SAYS, Ack, Sequence), then=State.LEAVING),
            (By.THEM, Close): State.CLOSED,
        },
        State.LEFT: {
            (By.US, HandshakeAccepted): State.LEFT,
            (By.US, HandshakeRefused): State.CLOSED,
            **_say(By.US, _SERVER_SAYS, then=State.LEFT),
            (By.US, Close): State.CLOSED,
        },
        State.FAULTY: {
            (By.US, HandshakeAccepted): State.FAULTY,
            (By.US, HandshakeRefused): State.CLOSED,
            **_say(By.US, _SERVER_SAYS, then=State.FAULTY),
            (By.US, Close): State.CLOSED,
        },
        State.CLOSED: {},
        State.BROKEN: {},
    },
}
"""What may be said by whom, and where it leads. From every state, the end of the stream leads to CLOSED, a
send cut short to BROKEN, and whatever is illegal or unreadable from them to FAULTY."""

DEFAULT_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Room for the largest first batch of market depth. ASP.NET Core grants its clients 32 KiB."""


class Connection:
    """One end of a connection: three verbs and a state. It neither reads nor writes; carry the text yourself.

    Only LocalProtocolError and RemoteProtocolError are ever raised; the first changes nothing.
    """

    def __init__(
        self,
        role: Role,
        *,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
        read_call: framing.ReadCall | None = None,
    ) -> None:
        self.role = role
        self._read_as_client = framing.reader_for_client(read_call)
        self._max_message_bytes = max_message_bytes
        self._records = framing.Records(max_message_bytes)
        self._fault = ""
        self._enter(State.NEW)

    @property
    def state(self) -> State:
        """Where the connection stands, after all that was sent and received."""
        return self._state

    def send(self, message: Message) -> str:
        """Return the text to put on the wire for ``message``, separator included."""
        then = self._ours.get(type(message))
        if then is None:
            raise LocalProtocolError(
                f"a {self.role} may not send {type(message).__name__} while the connection is {self._state}"
            )
        text = framing.write(message)
        if then is not self._state:
            self._enter(then)
        return text

    def receive(self, data: str | bytes) -> list[Message]:
        """Return the messages that ``data`` completes; unknown ones are passed over.

        When a record cannot be understood, the messages before it are returned, the state is FAULTY at once,
        and the next call, whatever it brings, raises the RemoteProtocolError. Where nothing came before, it
        is raised at once. So a driver handles what it got and then, if the state is FAULTY, calls
        ``receive(b"")`` to learn why.
        """
        if self._drops():
            return []
        if self._state is State.FAULTY:
            raise RemoteProtocolError(self._fault)
        if self._state is State.BROKEN:
            raise LocalProtocolError("nothing may be received after a message of ours was cut short")
        # A lone surrogate in a str becomes bytes that fail to decode later, as they should.
        octets = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        messages: list[Message] = []
        try:
            state, read, theirs = self._state, self._read, self._theirs
            for record in self._records.cut(octets):
                message = read(record)
                if message is None:
                    continue
                then = theirs.get(type(message))
                if then is None:
                    raise RemoteProtocolError(f"{type(message).__name__} came while the connection was {state}")
                messages.append(message)
                if then is not state:
                    self._enter(then)
                    if self._drops():
                        return messages
                    state, read, theirs = self._state, self._read, self._theirs
            if self._records.too_long:
                raise RemoteProtocolError(f"a message is longer than {self._max_message_bytes} bytes")
        except RemoteProtocolError as error:
            self._fail(str(error))
            if not messages:
                raise
        return messages

    def receive_eof(self) -> None:
        """Take note that nothing more will come. Raises RemoteProtocolError if that cuts a message in two."""
        if self._state is State.FAULTY:
            raise RemoteProtocolError(self._fault)
        if self._drops() or self._state is State.BROKEN:
            return
        if self._records.rest:
            self._fail("the stream ended in the middle of a message")
            raise RemoteProtocolError(self._fault)
        self._enter(State.CLOSED)

    def send_failed(self) -> None:
        """Take note that what ``send`` returned may not have left whole, by an error or by cancellation."""
        self._enter(State.BROKEN)

    def _enter(self, state: State) -> None:
        """Look up once what ``state`` means, not for every message."""
        self._state = state
        row = TRANSITIONS[self.role][state]
        self._ours = {kind: then for (by, kind), then in row.items() if by is By.US}
        self._theirs = {kind: then for (by, kind), then in row.items() if by is By.THEM}
        self._read = self._reader(state)

    def _reader(self, state: State) -> Callable[[bytes], Message | None]:
        if self.role is Role.SERVER:
            return framing.read_handshake_request if state is State.NEW else framing.read_as_server
        return framing.read_handshake_response if state in (State.NEW, State.GREETING) else self._read_as_client

    def _drops(self) -> bool:
        return self._state is State.LEFT or self._state is State.CLOSED

    def _fail(self, fault: str) -> None:
        self._fault = fault
        self._enter(State.FAULTY)
