"""What the core promises about any input at all, said once for whoever makes the inputs up.

Only its two errors leave it, and where it reads, only the one that blames the other side. After that one it stays where
it is. What came before a bad message is delivered. However the bytes are cut, they mean the same, and what another
reader of JSON finds in them. And what it delivers, the other end could have said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from itertools import pairwise

from attrs import frozen

from flatguard.signalr import (
    VOID,
    Ack,
    Close,
    Connection,
    HandshakeAccepted,
    HandshakeRefused,
    HandshakeRequest,
    Message,
    RemoteProtocolError,
    Role,
    Sequence,
    State,
)

RS = b"\x1e"
REQUEST = b'{"protocol":"json","version":1}' + RS
ROOM = 1 << 20

READING = {
    Role.CLIENT: (State.NEW, State.GREETING, State.OPEN, State.LEAVING),
    Role.SERVER: (State.NEW, State.GREETING, State.OPEN, State.LEAVING),
}
"""The states in which input is read."""


def connection_in(role: Role, state: State, room: int = ROOM) -> Connection:
    """Return a connection that has come to ``state`` on the ordinary way."""
    connection = Connection(role, max_message_bytes=max(room, len(REQUEST)))
    if state is State.BROKEN:
        connection.send_failed()
    if state in (State.NEW, State.BROKEN):
        return connection
    if role is Role.CLIENT:
        connection.send(HandshakeRequest())
    else:
        connection.receive(REQUEST)
    if state is State.GREETING:
        return connection
    if role is Role.CLIENT:
        connection.receive(b"{}" + RS)
    else:
        connection.send(HandshakeAccepted())
    match state:
        case State.LEAVING:
            connection.send(Close())
        case State.LEFT:
            connection.receive(b'{"type":7}' + RS)
        case State.FAULTY:
            try:
                connection.receive(RS)
            except RemoteProtocolError:
                pass
        case State.CLOSED:
            connection.receive_eof()
    assert connection.state is state
    return connection


@frozen
class Heard:
    """What came of an input. Messages are told by their repr, in which 1 and 1.0 differ."""

    messages: tuple[str, ...]
    fault: str
    state: State


def hear(connection: Connection, pieces: Iterable[bytes]) -> tuple[Heard, list[Message]]:
    """Feed ``pieces`` to a connection, up to the first error."""
    messages: list[Message] = []
    fault = ""
    try:
        for piece in pieces:
            messages += connection.receive(piece)
        if connection.state is State.FAULTY:
            connection.receive(b"")
    except RemoteProtocolError as error:
        fault = str(error)
        assert fault
    assert (connection.state is State.FAULTY) == bool(fault)
    return Heard(tuple(map(repr, messages)), fault, connection.state), messages


def check(role: Role, state: State, data: bytes, cuts: Iterable[int], room: int = ROOM) -> Heard:
    """Check every promise on one input; return what was heard."""
    connection = connection_in(role, state, room)
    whole, messages = hear(connection, [data])
    check_that_it_is_over_after_a_fault(connection, whole)
    for cut in (cut_at(data, cuts), cut_behind_each_separator(data)):
        in_pieces, _ = hear(connection_in(role, state, room), cut)
        assert in_pieces == whole
    for message in messages:
        check_that_the_other_end_could_have_said_it(role, message)
    for record in data.split(RS)[:-1]:
        check_that_another_reader_of_json_reads_the_same(role, record)
    return whole


def _contents(message: Message) -> tuple[object, ...]:
    return tuple(getattr(message, name) for name in type(message).__match_args__)


def _as_written(value: object) -> str:
    """Tell a value apart from all others, but not 1.5e1 from 15, which is how it is written."""
    match value:
        case Decimal() if value.as_tuple().exponent == 0:
            return repr(int(value))
        case list() | tuple():
            return f"[{','.join(map(_as_written, value))}]"
        case dict():
            return f"{{{','.join(f'{key!r}:{_as_written(child)}' for key, child in value.items())}}}"
        case _:
            return repr(value)


LIMITED = re.compile(rb"[0-9]{300}|[eE][+-]?[0-9]{3}|\\u[dD][89a-fA-F]")
"""What may be refused although it is JSON: numbers out of proportion, halves of surrogate pairs."""


def check_that_another_reader_of_json_reads_the_same(role: Role, record: bytes) -> None:
    """The standard library's, which is slow and known: what it refuses is refused, what it reads is what was said."""
    heard, messages = hear(connection_in(role, State.OPEN), [record + RS])
    not_json = heard.fault.startswith("a message is not JSON") or "surrogate" in heard.fault
    try:
        fields = json.loads(record.decode(), parse_float=Decimal, parse_constant=_refuse)
    except RecursionError:
        assert heard.fault
        return
    except (ValueError, InvalidOperation):
        assert not_json or "nested" in heard.fault
        return
    assert not not_json or LIMITED.search(record)
    for message in messages:
        for name in ("target", "invocation_id", "arguments", "item", "result", "error", "sequence_id"):
            said = getattr(message, name, None)
            if said is not None and said is not VOID:
                said = list(said) if isinstance(said, tuple) else said
                assert repr(said) == repr(fields[KEY_OF.get(name, name)])


KEY_OF = {"invocation_id": "invocationId", "sequence_id": "sequenceId"}


def _refuse(text: str) -> object:
    raise ValueError(text)


def cut_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut ``data`` at these places, wherever they are."""
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


def cut_behind_each_separator(data: bytes) -> list[bytes]:
    """Cut ``data`` as a server does that sends each message by itself."""
    return [record + RS for record in data.split(RS)[:-1]] + [data.split(RS)[-1]]


def check_that_it_is_over_after_a_fault(connection: Connection, heard: Heard) -> None:
    """No later input changes anything, and each is told the same."""
    if connection.state is not State.FAULTY:
        return
    for more in (lambda: connection.receive(b'{"type":6}' + RS), connection.receive_eof) * 2:
        assert fault_of(more) == heard.fault
        assert connection.state is State.FAULTY


def fault_of(act: Callable[[], object]) -> str | None:
    """Return what the other side is blamed for; None if for nothing."""
    try:
        act()
    except RemoteProtocolError as error:
        return str(error)
    return None


def check_that_the_other_end_could_have_said_it(role: Role, message: Message) -> None:
    """And would be understood again. Only of a stateful reconnection nobody here says anything."""
    if isinstance(message, Ack | Sequence):
        return
    before = State.OPEN
    if isinstance(message, HandshakeRequest):
        before = State.NEW
    elif isinstance(message, HandshakeAccepted | HandshakeRefused):
        before = State.GREETING
    text = connection_in(Role.SERVER if role is Role.CLIENT else Role.CLIENT, before).send(message)
    listener = connection_in(role, before)
    try:
        [again] = listener.receive(text)
        assert type(again) is type(message)
        assert _as_written(_contents(again)) == _as_written(_contents(message))
    except RemoteProtocolError:
        # A number may be written with a digit or two more than it was read with, and so pass the limit of digits.
        assert len(text) > 1_000
