"""What goes over the wire, byte for byte."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import IntEnum, StrEnum

import pytest

from flatguard.signalr import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HandshakeAccepted,
    HandshakeRefused,
    HandshakeRequest,
    Invocation,
    LocalProtocolError,
    Message,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
)
from flatguard.signalr.framing import MAX_DEPTH, write, write_json


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (HandshakeRequest(), '{"protocol":"json","version":1}'),
        (HandshakeAccepted(), "{}"),
        (HandshakeRefused("no"), '{"error":"no"}'),
        (Invocation("T", (42, "x", None)), '{"type":1,"target":"T","arguments":[42,"x",null]}'),
        (Invocation("T", (), "1"), '{"type":1,"invocationId":"1","target":"T","arguments":[]}'),
        (
            Invocation("T", (), "1", ("2", "3")),
            '{"type":1,"invocationId":"1","target":"T","arguments":[],"streamIds":["2","3"]}',
        ),
        (StreamItem("1", None), '{"type":2,"invocationId":"1","item":null}'),
        (Completion("1"), '{"type":3,"invocationId":"1"}'),
        (Completion("1", None), '{"type":3,"invocationId":"1","result":null}'),
        (Completion("1", error="x"), '{"type":3,"invocationId":"1","error":"x"}'),
        (StreamInvocation("T", "1", (5,)), '{"type":4,"invocationId":"1","target":"T","arguments":[5]}'),
        (CancelInvocation("1"), '{"type":5,"invocationId":"1"}'),
        (Ping(), '{"type":6}'),
        (Close(), '{"type":7}'),
        (Close("x", allow_reconnect=True), '{"type":7,"error":"x","allowReconnect":true}'),
        (Ack(1394), '{"type":8,"sequenceId":1394}'),
        (Sequence(1234), '{"type":9,"sequenceId":1234}'),
    ],
)
def test_a_message_is_written_without_the_fields_that_say_nothing(message: Message, text: str) -> None:
    """Peers refuse an ``invocationId`` or an ``error`` of null."""
    assert write(message) == text + "\x1e"


@pytest.mark.parametrize(
    "message",
    [
        Invocation(""),
        Invocation("T", (), ""),
        Completion(""),
        Completion("1", error=""),
        Completion("1", 5, error="x"),
        StreamItem("", 1),
        CancelInvocation(""),
    ],
)
def test_a_message_that_would_be_misread_is_not_written(message: Message) -> None:
    with pytest.raises(LocalProtocolError):
        write(message)


class Side(IntEnum):
    ASK = 1


class Name(StrEnum):
    MNQ = "MNQ"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1.50"), "1.50"),
        (Decimal("0.1"), "0.1"),
        (Decimal("1E+2"), "1E+2"),
        (Decimal("-0.00"), "-0.00"),
        (Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
        (2**63, "9223372036854775808"),
        (0.5, "0.5"),
        (1e300, "1e+300"),
        (True, "true"),
        (Side.ASK, "1"),
        (Name.MNQ, '"MNQ"'),
        ('é\u2028\x1e\x00"\\', '"é\u2028\\u001e\\u0000\\"\\\\"'),
        ({"a": [1, (2,)], "": {}}, '{"a":[1,[2]],"":{}}'),
    ],
)
def test_a_value_is_written_exactly(value: object, text: str) -> None:
    assert write_json(value) == text
    json.loads(text)


def nested(depth: int) -> object:
    value: object = 0
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        Decimal("NaN"),
        Decimal("Infinity"),
        float("nan"),
        float("-inf"),
        object(),
        b"bytes",
        {1: 2},
        {None: 2},
        {1, 2},
        "\ud800",
        {"\udfff": 1},
        10**5_000,
        nested(MAX_DEPTH + 1),
        nested(50_000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_not_json_is_not_written(value: object) -> None:
    with pytest.raises(LocalProtocolError):
        write_json(value)


def test_a_value_that_holds_itself_is_not_written() -> None:
    value: list[object] = []
    value.append(value)
    with pytest.raises(LocalProtocolError):
        write_json(value)


def test_what_is_written_at_the_greatest_depth_may_be_written() -> None:
    assert write_json(nested(MAX_DEPTH)) == "[" * MAX_DEPTH + "0" + "]" * MAX_DEPTH


class Name(str):
    """Text by another name, as ids are."""

    __slots__ = ()


class Count(int):
    pass


class Price(Decimal):
    pass


class Share(float):
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [(Name("é"), '"é"'), (Count(7), "7"), (Price("1.50"), "1.50"), (Share(0.5), "0.5")],
)
def test_a_value_of_a_kind_of_its_own_is_written_like_the_plain_one(value: object, text: str) -> None:
    assert write_json(value) == text


@pytest.mark.parametrize("value", [Price("NaN"), Share("inf")])
def test_a_kind_of_number_that_is_none_is_not_written_either(value: object) -> None:
    with pytest.raises(LocalProtocolError):
        write_json(value)
