"""What is accepted, what is passed over, what ends the connection: one row for each kind of input."""

from __future__ import annotations

import json
import random
from decimal import Decimal, InvalidOperation

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.signalr import (
    VOID,
    Ack,
    CancelInvocation,
    Close,
    Completion,
    Connection,
    HandshakeAccepted,
    HandshakeRefused,
    HandshakeRequest,
    Invocation,
    Message,
    Ping,
    RemoteProtocolError,
    Role,
    Sequence,
    State,
    StreamInvocation,
    StreamItem,
)
from flatguard.signalr.framing import read_json

RS = "\x1e"


def open_connection(role: Role) -> Connection:
    connection = Connection(role)
    if role is Role.CLIENT:
        connection.send(HandshakeRequest())
        connection.receive("{}" + RS)
    else:
        connection.receive('{"protocol":"json","version":1}' + RS)
        connection.send(HandshakeAccepted())
    assert connection.state is State.OPEN
    return connection


PASSED_OVER = [
    '{"type":0}',
    '{"type":10}',
    '{"type":99}',
    '{"type":-1}',
    '{"type":1.5}',
    '{"type":1e400}',
    '{"type":2147483648}',
    '{"type":99,"target":5,"invocationId":null,"arguments":{}}',
]

REFUSED = [
    # not a message at all
    "",
    " ",
    "[]",
    "1",
    "null",
    '"text"',
    "{}",
    '{"type":"1"}',
    '{"type":null}',
    '{"type":true,"target":"T","arguments":[]}',
    '{"type":[1]}',
    '{"type":{}}',
    # not JSON
    '{"type":6',
    '{"type":6}}',
    '{"type":6} x',
    '{"type":6}{"type":6}',
    '{"type":6,}',
    '{"type":06}',
    '{"type":6,"x":NaN}',
    '{"type":6,"x":Infinity}',
    '{"type":6,"x":-Infinity}',
    '{"type":6/* six */}',
    '{"type":6,"x":"\t"}',
    "{'type':6}",
    '\ufeff{"type":6}',
    # more than anyone means to send
    '{"type":6,"x":' + "[" * 64 + "]" * 64 + "}",
    '{"type":6,"x":' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"type":6,"x":' + "9" * 5_000 + "}",
    '{"type":6,"x":1.' + "9" * 5_000 + "}",
    '{"type":6,"x":1e999999999}',
    '{"type":6,"x":1e-999999999}',
    '{"type":6,"x":1e9999999999999999999999}',
    # half of a character
    '{"type":1,"target":"T","arguments":["\\ud800"]}',
    '{"type":1,"target":"T","arguments":[{"\\uDFFF":1}]}',
    '{"type":1,"target":"\\ud83d","arguments":[]}',
    # invocations
    '{"type":1,"arguments":[]}',
    '{"type":1,"target":5,"arguments":[]}',
    '{"type":1,"target":"","arguments":[]}',
    '{"type":1,"target":null,"arguments":[]}',
    '{"type":1,"target":"T","arguments":[],"invocationId":1}',
    '{"type":1,"target":"T","arguments":[],"invocationId":true}',
    '{"type":1,"target":"T","arguments":[],"invocationId":null}',
    '{"type":1,"target":"T","arguments":[],"invocationId":""}',
    '{"type":1,"target":"T"}',
    '{"type":1,"target":"T","arguments":null}',
    '{"type":1,"target":"T","arguments":{}}',
    '{"type":1,"target":"T","arguments":"ab"}',
    # items
    '{"type":2,"invocationId":"1"}',
    '{"type":2,"item":1}',
    '{"type":2,"invocationId":"","item":1}',
    '{"type":2,"invocationId":null,"item":1}',
    '{"type":2,"invocationId":1,"item":1}',
    # completions
    '{"type":3}',
    '{"type":3,"invocationId":""}',
    '{"type":3,"invocationId":null}',
    '{"type":3,"invocationId":3}',
    '{"type":3,"invocationId":"1","result":1,"error":"x"}',
    '{"type":3,"invocationId":"1","result":0,"error":"x"}',
    '{"type":3,"invocationId":"1","result":1,"error":""}',
    '{"type":3,"invocationId":"1","error":5}',
    '{"type":3,"invocationId":"1","error":false}',
    # numbering
    '{"type":8}',
    '{"type":8,"sequenceId":"1"}',
    '{"type":8,"sequenceId":true}',
    '{"type":8,"sequenceId":null}',
    '{"type":8,"sequenceId":1.5}',
    '{"type":9}',
    '{"type":9,"sequenceId":1.5}',
]

UNDERSTOOD: list[tuple[str, Message]] = [
    ('{"type":6}', Ping()),
    ('{"type":6.0}', Ping()),
    (' \t\r\n{ "type" : 6 }\n', Ping()),
    ('{"type":6,"later":{"version":[1,2]}}', Ping()),
    ('{"type":1,"type":6}', Ping()),
    ('{"type":1,"target":"T","arguments":[]}', Invocation("T")),
    ('{"arguments":[null,0,false,""],"target":"T","type":1}', Invocation("T", (None, 0, False, ""))),
    ('{"type":1.0,"target":"T","arguments":[1]}', Invocation("T", (1,))),
    ('{"type":1,"invocationId":"a b","target":"T","arguments":[]}', Invocation("T", (), "a b")),
    ('{"type":1,"target":"T","arguments":[],"headers":{"a":"b"}}', Invocation("T")),
    ('{"type":1,"target":"T","arguments":[],"headers":[5]}', Invocation("T")),
    ('{"type":1,"target":"T","arguments":["\\u001e\\ud83d\\ude00"]}', Invocation("T", ("\x1e😀",))),
    ('{"type":1,"target":"T","arguments":["\\\\ud800"]}', Invocation("T", ("\\ud800",))),
    ('{"type":1,"target":"T","arguments":[9007199254740993]}', Invocation("T", (9007199254740993,))),
    ('{"type":2,"invocationId":"1","item":42}', StreamItem("1", 42)),
    ('{"type":2,"invocationId":"1","item":null}', StreamItem("1", None)),
    ('{"type":3,"invocationId":"1"}', Completion("1")),
    ('{"type":3,"invocationId":"1","result":null}', Completion("1", None)),
    ('{"type":3,"invocationId":"1","result":0}', Completion("1", 0)),
    ('{"type":3,"invocationId":"1","result":""}', Completion("1", "")),
    ('{"type":3,"invocationId":"1","result":false}', Completion("1", False)),
    ('{"type":3,"invocationId":"1","error":"x"}', Completion("1", error="x")),
    ('{"type":3,"invocationId":"1","result":null,"error":"x"}', Completion("1", error="x")),
    ('{"type":3,"invocationId":"1","result":1,"error":null}', Completion("1", 1)),
    ('{"type":3,"invocationId":"1","error":""}', Completion("1")),
    ('{"type":3,"invocationId":"1","error":null}', Completion("1")),
    ('{"type":7}', Close()),
    ('{"type":7,"error":"x","allowReconnect":true}', Close("x", allow_reconnect=True)),
    ('{"type":7,"error":null}', Close()),
    ('{"type":7,"error":5}', Close()),
    ('{"type":7,"allowReconnect":"true"}', Close()),
    ('{"type":7,"allowReconnect":1}', Close()),
    ('{"type":8,"sequenceId":1394}', Ack(1394)),
    ('{"type":9,"sequenceId":1234}', Sequence(1234)),
]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("record", PASSED_OVER)
def test_a_type_that_nobody_knows_is_passed_over(record: str, role: Role) -> None:
    connection = open_connection(role)
    assert connection.receive(record + RS + '{"type":6}' + RS) == [Ping()]
    assert connection.state is State.OPEN


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("record", REFUSED)
def test_a_record_that_contradicts_the_protocol_ends_the_connection(record: str, role: Role) -> None:
    connection = open_connection(role)
    with pytest.raises(RemoteProtocolError):
        connection.receive(record + RS)
    assert connection.state is State.FAULTY


@pytest.mark.parametrize(
    "data",
    [b'{"type":6,"x":"\xff"}\x1e', b'{"type":6,"x":"\xed\xa0\x80"}\x1e', '{"type":6,"x":"\ud800"}\x1e'],
    ids=["stray byte", "surrogate in bytes", "surrogate in text"],
)
def test_what_is_not_utf_8_ends_the_connection(data: str | bytes) -> None:
    connection = open_connection(Role.CLIENT)
    with pytest.raises(RemoteProtocolError):
        connection.receive(data)
    assert connection.state is State.FAULTY


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("record", "message"), UNDERSTOOD)
def test_a_message_is_understood(record: str, message: Message, role: Role) -> None:
    [received] = open_connection(role).receive(record + RS)
    assert received == message
    assert repr(received) == repr(message), "equal is not the same: 0 == False, 1 == Decimal(1)"


@pytest.mark.parametrize(
    "record",
    [
        '{"type":4,"invocationId":"1","target":"T","arguments":[]}',
        '{"type":4}',
        '{"type":5,"invocationId":"1"}',
        '{"type":5,"invocationId":null}',
    ],
)
def test_a_client_passes_over_what_only_a_server_is_told(record: str) -> None:
    assert open_connection(Role.CLIENT).receive(record + RS) == []


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            '{"type":4,"invocationId":"1","target":"T","arguments":[5],"streamIds":["2"]}',
            StreamInvocation("T", "1", (5,), ("2",)),
        ),
        ('{"type":5,"invocationId":"1"}', CancelInvocation("1")),
        ('{"type":1,"target":"T","arguments":[],"streamIds":["2"]}', Invocation("T", stream_ids=("2",))),
    ],
)
def test_a_server_understands_streams(record: str, message: Message) -> None:
    assert open_connection(Role.SERVER).receive(record + RS) == [message]


@pytest.mark.parametrize(
    "record",
    [
        '{"type":4,"target":"T","arguments":[]}',
        '{"type":4,"invocationId":"","target":"T","arguments":[]}',
        '{"type":4,"invocationId":"1","target":"T"}',
        '{"type":5}',
        '{"type":5,"invocationId":""}',
        '{"type":5,"invocationId":7}',
        '{"type":1,"target":"T","arguments":[],"streamIds":null}',
        '{"type":1,"target":"T","arguments":[],"streamIds":"2"}',
        '{"type":1,"target":"T","arguments":[],"streamIds":[2]}',
    ],
)
def test_a_server_refuses_calls_that_it_could_not_answer(record: str) -> None:
    with pytest.raises(RemoteProtocolError):
        open_connection(Role.SERVER).receive(record + RS)


@pytest.mark.parametrize("stream_ids", ["null", '"2"', "[2]", '["2"]', "{}"])
def test_a_client_does_not_look_at_stream_ids(stream_ids: str) -> None:
    """They announce uploads, and a server has none."""
    record = '{"type":1,"target":"T","arguments":[],"streamIds":' + stream_ids + "}" + RS
    assert open_connection(Role.CLIENT).receive(record) == [Invocation("T")]


def test_prices_arrive_with_their_own_digits() -> None:
    """As floats they would be 29547.1 and 1.5, and 0.1 would be a little more than that."""
    [message] = open_connection(Role.CLIENT).receive(
        '{"type":1,"target":"T","arguments":[29547.10,1.50,0.1,-0.0,1E+2]}' + RS
    )
    assert isinstance(message, Invocation)
    assert repr(message.arguments) == repr(
        (Decimal("29547.10"), Decimal("1.50"), Decimal("0.1"), Decimal("-0.0"), Decimal("1E+2"))
    )


def test_a_completion_without_a_value_is_not_one_with_null() -> None:
    void, null = open_connection(Role.CLIENT).receive(
        '{"type":3,"invocationId":"1"}' + RS + '{"type":3,"invocationId":"2","result":null}' + RS
    )
    assert isinstance(void, Completion)
    assert isinstance(null, Completion)
    assert void.result is VOID
    assert null.result is None


def test_sixty_four_levels_are_not_too_deep() -> None:
    record = '{"type":6,"x":' + "[" * 63 + "]" * 63 + "}" + RS
    assert open_connection(Role.CLIENT).receive(record) == [Ping()]


def test_brackets_that_do_not_nest_are_not_depth() -> None:
    arguments = ",".join(['{"a":[]}', '"[{"'] * 100)
    [message] = open_connection(Role.CLIENT).receive('{"type":1,"target":"T","arguments":[' + arguments + "]}" + RS)
    assert isinstance(message, Invocation)
    assert len(message.arguments) == 200


@pytest.mark.parametrize(
    ("record", "answer"),
    [
        ("{}", HandshakeAccepted()),
        ('{"error":null}', HandshakeAccepted()),
        ('{"minorVersion":1}', HandshakeAccepted()),
        ('{"error":"no"}', HandshakeRefused("no")),
        ('{"error":""}', HandshakeRefused("")),
        ('{"error":5}', HandshakeRefused("5")),
        ('{"error":false}', HandshakeRefused("false")),
        ('{"error":"a","error":"b"}', HandshakeRefused("b")),
    ],
)
def test_a_handshake_is_answered(record: str, answer: Message) -> None:
    client = Connection(Role.CLIENT)
    client.send(HandshakeRequest())
    assert client.receive(record + RS) == [answer]


@pytest.mark.parametrize("record", ['{"type":6}', '{"type":0}', '{"type":null}', "[]", "5", '"{}"', "null", "", "{"])
def test_anything_but_a_handshake_response_ends_the_greeting(record: str) -> None:
    client = Connection(Role.CLIENT)
    client.send(HandshakeRequest())
    with pytest.raises(RemoteProtocolError):
        client.receive(record + RS)


@pytest.mark.parametrize(
    "record",
    [
        "{}",
        '{"protocol":"json"}',
        '{"version":1}',
        '{"protocol":5,"version":1}',
        '{"protocol":"json","version":"1"}',
        '{"protocol":"json","version":true}',
        '{"protocol":"json","version":1.0}',
        '{"protocol":"json","version":1,"type":6}',
        '{"type":6}',
    ],
)
def test_anything_but_a_handshake_request_is_refused_by_a_server(record: str) -> None:
    with pytest.raises(RemoteProtocolError):
        Connection(Role.SERVER).receive(record + RS)


def test_a_server_is_told_of_a_protocol_that_it_does_not_speak() -> None:
    """It is the server's to refuse, with words of its own."""
    server = Connection(Role.SERVER)
    assert server.receive('{"protocol":"messagepack","version":3}' + RS) == [HandshakeRequest("messagepack", 3)]
    assert server.send(HandshakeRefused("not spoken here")) == '{"error":"not spoken here"}' + RS
    assert server.state is State.CLOSED


# --- The decoder beside the standard library's, which is slow and known to be exact ---

SEEDS = [
    b'{"type":1,"target":"T","arguments":[1,-0,0.0,1.50,1e5,-1E-7,9007199254740993,18446744073709551616,-9.0E+2]}',
    '{"a":"\\u00e9\\ud83d\\ude00\\n\\/","b":[true,false,null,{}],"\u00e9":"\U0001f600"}'.encode(),
    b'{"a":{"b":[[[]]]},"a":2,"c":"\\ud83d\\ude00"}',
    b' {"x" : [ 1 , 2.5e+3 ] } \n',
]
SPLINTERS = [
    *(bytes([octet]) for octet in b"\"\\0123456789-+.eE{}[],: \t\n\r\x00\x0b\x0c\x1f\x7f/'\xff"),
    *(b"\\u", b"d800", b"\\udc00", b"9" * 25, b"NaN", b"-Infinity", b"null", b"true", b"//", b"0x1"),
    *(b"1e999", b"1e7000", b"-1e-7000", b"0e9999999", b"\xc0\x80", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc2\xa0"),
]


def no_constant(text: str) -> object:
    raise ValueError(text)


REFERENCE = json.JSONDecoder(parse_float=Decimal, parse_constant=no_constant)


def by_the_reference(record: bytes) -> str | None:
    """What the standard library reads; None where it, or our limit on numbers and half characters, refuses."""
    try:
        fields = REFERENCE.decode(record.decode())
        repr(fields).encode()
        json.dumps(fields, ensure_ascii=False, default=str).encode()
    except (ValueError, InvalidOperation):
        return None
    return repr(fields) if isinstance(fields, dict) and not beyond(fields) else None


def beyond(value: object) -> bool:
    if isinstance(value, Decimal):
        return abs(value.adjusted()) > 6_144
    if isinstance(value, dict | list):
        return any(map(beyond, value.values() if isinstance(value, dict) else value))
    return False


def by_ours(record: bytes) -> str | None:
    try:
        return repr(read_json(record))
    except RemoteProtocolError:
        return None


@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False), st.integers(1, 4))
@settings(max_examples=400)
def test_a_spoiled_record_is_read_as_the_standard_library_reads_it(
    seed: bytes, chance: random.Random, times: int
) -> None:
    record = bytearray(seed)
    for _ in range(times):
        start = chance.randrange(len(record) + 1)
        record[start : start + chance.choice([0, 0, 1, 1, 2, 5])] = chance.choice(SPLINTERS)
    ours, theirs = by_ours(bytes(record)), by_the_reference(bytes(record))
    if ours is None and theirs is not None:
        assert b"\\u" in record, "half of a surrogate pair in a value that another replaces"
    else:
        assert ours == theirs


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5), st.booleans())
def test_whatever_is_json_is_read_as_the_standard_library_reads_it(fields: dict[str, object], escaped: bool) -> None:
    record = json.dumps(fields, ensure_ascii=escaped).encode("utf-8", "replace")
    assert by_ours(record) == by_the_reference(record)


@pytest.mark.parametrize("digits", [1_000, 1_001, 4_000])
@pytest.mark.parametrize("shape", ['{{"type":6,"x":{}}}', '{{"type":6,"x":[{{"y":-{}}}]}}', '{{"type":6,"x":"{}"}}'])
def test_a_whole_number_may_have_a_thousand_digits_and_a_text_any(digits: int, shape: str) -> None:
    """More of them take time that grows with their square."""
    understood = by_ours(shape.format("9" * digits).encode()) is not None
    assert understood == (digits == 1_000 or shape.endswith('"{}"}}'))
