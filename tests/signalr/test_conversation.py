"""Two ends back to back, and the same bytes in every shape in which a network may bring them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.signalr import (
    VOID,
    CancelInvocation,
    Close,
    Completion,
    Connection,
    HandshakeAccepted,
    HandshakeRequest,
    HubMessage,
    Invocation,
    Message,
    Ping,
    ProtocolError,
    Role,
    State,
    StreamInvocation,
    StreamItem,
)


class ConnectionPair:
    """A client and a server without a network: what one sends, the other has received."""

    def __init__(self) -> None:
        self.ends = {role: Connection(role) for role in Role}

    @classmethod
    def greeted(cls) -> ConnectionPair:
        pair = cls()
        pair.send(Role.CLIENT, HandshakeRequest())
        pair.send(Role.SERVER, HandshakeAccepted())
        return pair

    def send(self, sender: Role, *messages: Message) -> str:
        """Check that the other end receives exactly ``messages``; return the text that carried them."""
        receiver = self.ends[Role.SERVER if sender is Role.CLIENT else Role.CLIENT]
        text = "".join([self.ends[sender].send(message) for message in messages])
        received = receiver.receive(text)
        assert repr(received) == repr(list(messages))
        return text

    @property
    def states(self) -> tuple[State, State]:
        return self.ends[Role.CLIENT].state, self.ends[Role.SERVER].state


def test_a_conversation_from_the_first_word_to_the_last() -> None:
    pair = ConnectionPair()
    pair.send(Role.CLIENT, HandshakeRequest())
    assert pair.states == (State.GREETING, State.GREETING)
    pair.send(Role.SERVER, HandshakeAccepted(), Invocation("Welcome"))
    assert pair.states == (State.OPEN, State.OPEN)
    pair.send(Role.CLIENT, Ping(), Invocation("SubscribeOrders", (25700001,), "1"))
    pair.send(Role.SERVER, Completion("1", None), Invocation("GatewayUserOrder", ({"action": 1},)))
    pair.send(Role.CLIENT, StreamInvocation("Quotes", "2", ("MNQ",)))
    pair.send(Role.SERVER, StreamItem("2", Decimal("29547.25")))
    pair.send(Role.CLIENT, CancelInvocation("2"))
    pair.send(Role.SERVER, Completion("2", VOID))
    pair.send(Role.SERVER, Close(allow_reconnect=True))
    assert pair.states == (State.LEFT, State.LEAVING)
    pair.send(Role.CLIENT, Close())
    assert pair.states == (State.CLOSED, State.CLOSED)


SCRIPT = (
    '{"protocol":"json","version":1}\x1e'
    '{"type":6}\x1e'
    '{"type":1,"target":"Füße 😀","arguments":[1.50,"\\u001e"]}\x1e'
    '{"type":99}\x1e'
    '{"type":3,"invocationId":"1","result":null}\x1e'
).encode()
SPOKEN = [
    HandshakeRequest(),
    Ping(),
    Invocation("Füße 😀", (Decimal("1.50"), "\x1e")),
    Completion("1", None),
]


@pytest.mark.parametrize("at", range(len(SCRIPT) + 1))
def test_a_stream_may_be_split_anywhere(at: int) -> None:
    """Also between the bytes of one character."""
    server = Connection(Role.SERVER)
    assert server.receive(SCRIPT[:at]) + server.receive(SCRIPT[at:]) == SPOKEN


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_a_stream_may_come_in_pieces_of_any_size(size: int) -> None:
    server = Connection(Role.SERVER)
    pieces = [SCRIPT[start : start + size] for start in range(0, len(SCRIPT), size)]
    assert [message for piece in pieces for message in server.receive(piece)] == SPOKEN


def test_text_and_bytes_and_nothing_at_all_may_alternate() -> None:
    server = Connection(Role.SERVER)
    text = SCRIPT.decode()
    received = [
        server.receive(text[:40]),
        server.receive(""),
        server.receive(b""),
        server.receive(text[40:].encode()),
    ]
    assert [message for part in received for message in part] == SPOKEN


# --- Properties ---

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
names = texts.filter(bool)
numbers = st.decimals(allow_nan=False, allow_infinity=False).filter(lambda number: abs(number.adjusted()) < 6_000)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
calls = st.builds(Invocation, names, st.lists(values, max_size=3).map(tuple), st.none() | names)
answers = st.builds(Completion, names, values | st.just(VOID)) | st.builds(Completion, names, error=names)
either_way: st.SearchStrategy[HubMessage] = calls | answers | st.builds(StreamItem, names, values) | st.just(Ping())


def numerically_same(ours: object, theirs: object) -> bool:
    """A Decimal without point or exponent is an int on the wire; the others keep even trailing zeros."""
    if isinstance(ours, Decimal) and isinstance(theirs, int):
        return ours == theirs and ours.as_tuple().exponent == 0
    if isinstance(ours, Decimal) and isinstance(theirs, Decimal):
        return ours.as_tuple() == theirs.as_tuple()
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(map(numerically_same, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return list(ours) == list(theirs) and numerically_same(list(ours.values()), list(theirs.values()))
    return type(ours) is type(theirs) and ours == theirs


def contents(message: Message) -> list[object]:
    return [getattr(message, name) for name in type(message).__match_args__]


@given(st.lists(either_way, max_size=5), st.sampled_from(Role), st.integers(1, 40))
@settings(max_examples=150)
def test_whatever_one_end_says_the_other_hears_unchanged(messages: list[HubMessage], sender: Role, piece: int) -> None:
    pair = ConnectionPair.greeted()
    receiver = pair.ends[Role.SERVER if sender is Role.CLIENT else Role.CLIENT]
    octets = "".join([pair.ends[sender].send(message) for message in messages]).encode()
    received: list[Message] = []
    for start in range(0, len(octets), piece):
        received += receiver.receive(octets[start : start + piece])
    assert [type(message) for message in received] == [type(message) for message in messages]
    for theirs, ours in zip(received, messages, strict=True):
        assert numerically_same(contents(ours), contents(theirs))
    assert receiver.state is State.OPEN


json_like = st.recursive(
    st.sampled_from(
        ["null", "true", '"x"', '""', '"\\ud800"', "1", "1.0", "-0", "1e400", "NaN", "[", "}", "07", "\x00"]
    )
    | st.integers().map(str),
    lambda inner: st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
    max_leaves=4,
)
fields = st.sampled_from(
    [
        "type",
        "target",
        "invocationId",
        "arguments",
        "item",
        "result",
        "error",
        "sequenceId",
        "streamIds",
        "protocol",
    ]
)
objects = st.lists(st.tuples(fields, json_like), max_size=5).map(
    lambda pairs: "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}"
)
typed = st.tuples(st.integers(0, 10), objects).map(lambda pair: f'{{"type":{pair[0]},{pair[1][1:]}')
records = st.one_of(objects, typed, json_like, st.text(max_size=10)).map(lambda record: record + "\x1e")
inputs = st.lists(
    records | records.map(lambda text: text.encode("utf-8", "replace")) | st.binary(max_size=12), max_size=4
)


@given(inputs, st.sampled_from(Role), st.booleans())
@settings(max_examples=400)
def test_only_the_two_errors_leave_a_connection(data: list[str | bytes], role: Role, greeted: bool) -> None:
    end = ConnectionPair.greeted().ends[role] if greeted else Connection(role)
    if role is Role.CLIENT and not greeted:
        end.send(HandshakeRequest())
    try:
        for piece in data:
            end.receive(piece)
        end.receive_eof()
    except ProtocolError:
        assert end.state is State.FAULTY
