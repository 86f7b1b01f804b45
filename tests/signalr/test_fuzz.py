"""The core against inputs that nobody would send: valid messages, bent in every place, cut and glued at any byte."""

from __future__ import annotations

import sys
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.signalr import LocalProtocolError, RemoteProtocolError, Role, State
from tests.fuzz.grammar import ACCEPTED, KEYS, MESSAGES, REQUEST, VALUES, write
from tests.fuzz.promises import READING, RS, check, connection_in, cut_at, fault_of

Fields = list[tuple[str, str]]

values = st.sampled_from(VALUES) | st.integers().map(str) | st.floats().map(repr)
fields = st.tuples(st.sampled_from(KEYS), values)


@st.composite
def bent(draw: st.DrawFn, valid: st.SearchStrategy[Fields]) -> bytes:
    """Draw a record that was valid before keys were dropped, doubled, exchanged and given other values."""
    record = list(draw(valid))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(record)))
        match draw(st.sampled_from(["drop", "put", "retype", "double", "shuffle"])):
            case "drop":
                del record[at : at + 1]
            case "put":
                record.insert(at, draw(fields))
            case "retype" if at < len(record):
                record[at] = (record[at][0], draw(values))
            case "double" if at < len(record):
                record.append((record[at][0], draw(values)))
            case "shuffle":
                record = draw(st.permutations(record))
    return write(record)


@st.composite
def scrawled(draw: st.DrawFn, record: bytes) -> bytes:
    """Draw the record with some bytes gone and others put in their place."""
    start = draw(st.integers(0, len(record)))
    end = start + draw(st.integers(0, 4))
    return (
        record[:start]
        + draw(st.binary(max_size=3) | st.sampled_from([b"\x1e", b"\xff", b"\xef\xbb\xbf", b" "]))
        + record[end:]
    )


messages = bent(st.sampled_from(MESSAGES))
greetings = bent(st.sampled_from([REQUEST, ACCEPTED, [("error", '"no"')]]))
records = messages | messages.flatmap(scrawled) | st.sampled_from(MESSAGES).map(write) | values.map(str.encode)
ends = st.sampled_from([RS, RS, RS, RS, RS, b"", RS + RS, b" " + RS, b"\n" + RS])
sessions = st.tuples(
    st.none() | greetings.map(lambda greeting: greeting + RS),
    st.lists(st.tuples(records, ends).map(b"".join), max_size=5).map(b"".join),
).map(lambda parts: (parts[0] or b"") + parts[1])
ends_and_states = st.sampled_from([(role, state) for role in Role for state in READING[role]])
cuts = st.lists(st.integers(0, 10_000), max_size=5)
rooms = st.sampled_from([1 << 20, 60, 200])


@given(ends_and_states, sessions, cuts, rooms)
@settings(max_examples=400)
def test_bent_messages_break_no_promise_of_the_core(
    where: tuple[Role, State], data: bytes, places: list[int], room: int
) -> None:
    check(*where, data, places, room)


@given(ends_and_states, st.lists(st.sampled_from(MESSAGES), max_size=5), messages, st.data())
@settings(max_examples=150)
def test_a_stream_cut_at_every_byte_says_the_same(
    where: tuple[Role, State], good: list[Fields], last: bytes, data: st.DataObject
) -> None:
    octets = b"".join(write(record) + RS for record in good) + last[:200] + RS
    check(*where, octets, range(len(octets)))


@given(st.sampled_from(Role), st.sampled_from(list(State)), sessions, st.sampled_from([bytes, str]))
@settings(max_examples=200)
def test_in_whatever_state_only_the_two_errors_leave(
    role: Role, state: State, data: bytes, kind: type[bytes | str]
) -> None:
    """Text too, also with halves of surrogate pairs in it."""
    connection = connection_in(role, state)
    try:
        connection.receive(data if kind is bytes else data.decode("utf-8", "surrogateescape"))
        connection.receive_eof()
    except RemoteProtocolError:
        assert connection.state is State.FAULTY
    except LocalProtocolError:
        assert connection.state is state is State.BROKEN
    if state in (State.LEFT, State.CLOSED):
        assert connection.state is state, "what comes after the end is dropped"


# --- Every value in every place ---

EVERYWHERE = [*VALUES, *(f"[{value}]" for value in VALUES)]
EMPTY = {"{}", '{"":{}}'}
TOO_LARGE = {"9" * 1_001, "9" * 5_000, "1." + "0" * 4_500, "1e6145", "1e999999999", "-1e-999999999"}
NAMES_A_TYPE = {"0", "-0", "1", "1.0", "10e-1", "3", "6", "7"}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("record", [REQUEST, *MESSAGES], ids=lambda record: write(record).decode())
def test_every_value_in_every_place_of_a_message_breaks_no_promise(record: Fields, role: Role) -> None:
    state = State.NEW if role is Role.SERVER and record == REQUEST else State.OPEN
    for at, (name, _) in enumerate(record):
        for value in EVERYWHERE:
            octets = write([*record[:at], (name, value), *record[at + 1 :]]) + RS
            heard = check(role, state, octets, [len(octets) // 2])
            if name == "type" and heard.messages:
                assert value in NAMES_A_TYPE
            if value.strip("[]") in TOO_LARGE:
                assert heard.fault


@pytest.mark.parametrize(("role", "state"), [(role, state) for role in Role for state in READING[role]])
def test_every_value_in_place_of_a_message_breaks_no_promise(role: Role, state: State) -> None:
    for value in EVERYWHERE:
        octets = value.encode("utf-8", "surrogatepass") + RS
        heard = check(role, state, octets, [len(octets) // 2])
        assert (not heard.fault) == (value in EMPTY and (role, state) == (Role.CLIENT, State.GREETING))


# --- Work ---


class CallCount:
    """Counts the calls that Python and C functions get, which are what a loop of ours costs."""

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> CallCount:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, arg: object) -> None:
        if event in ("call", "c_call"):
            self.calls += 1


CALLS_FOR_NOTHING = 40
CALLS_PER_BYTE = 6
"""Twice what the dearest input takes, which is one ping behind the other."""

patterns = st.sampled_from(
    [
        b"[",
        b"[]",
        b"[],",
        b"{}",
        b'{"a":',
        b"[{},",
        b"\x1e",
        b"{}\x1e",
        b'{"type":6}\x1e',
        b'{"type":99}\x1e',
        b'"\\ud800",',
        b"1,",
        b"0",
        b" ",
    ]
)


@given(ends_and_states, patterns, st.integers(1, 400), sessions, cuts)
@settings(max_examples=200)
def test_the_work_grows_with_the_bytes_and_no_faster(
    where: tuple[Role, State], pattern: bytes, times: int, data: bytes, places: list[int]
) -> None:
    filler = pattern * times
    pieces = cut_at(data + b'{"type":99,"x":[' + filler + b"]}" + RS, places)
    connection = connection_in(*where)
    with CallCount() as work:
        try:
            for piece in pieces:
                connection.receive(piece)
        except RemoteProtocolError:
            pass
    octets = sum(map(len, pieces))
    assert work.calls <= len(pieces) * CALLS_FOR_NOTHING + octets * CALLS_PER_BYTE


@given(ends_and_states, st.integers(1, 300), st.integers(60, 500), st.sampled_from([b" ", b"[", b'"', b"\xff", b"7"]))
@settings(max_examples=100)
def test_a_message_without_end_is_refused_as_soon_as_it_passes_the_limit(
    where: tuple[Role, State], piece: int, room: int, octet: bytes
) -> None:
    connection = connection_in(*where, room)
    fed = 0
    while fed <= room:
        assert connection.state is where[1]
        fed += piece
        fault = fault_of(lambda: connection.receive(octet * piece))
    assert fault == f"a message is longer than {room} bytes"
