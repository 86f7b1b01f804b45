"""The everyday reading gives what the authority gives, or leaves it to the authority."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flatguard.gateway.everyday import read_call
from flatguard.gateway.wire import events_in
from flatguard.model.events import Event, EventSetAside, Hub, OrderChanged, PositionChanged, QuoteMoved, TradeMade
from flatguard.signalr import Connection, HandshakeRequest, Invocation, RemoteProtocolError, Role
from flatguard.signalr.framing import ReadCall, write_json

AT = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)

ORDER = {
    "id": 3408995735,
    "accountId": 25700001,
    "contractId": "CON.F.US.MNQ.Z26",
    "symbolId": "F.US.MNQ",
    "creationTimestamp": "2026-11-20T14:30:00.1234567+00:00",
    "updateTimestamp": "2026-11-20T14:30:00.9999999+00:00",
    "status": 1,
    "type": 4,
    "side": 1,
    "size": 2,
    "stopPrice": Decimal("24950.25"),
    "fillVolume": 0,
    "customTag": "mine",
    "parentOrderId": 3408995734,
}
POSITION = {
    "id": 825245547,
    "accountId": 25700001,
    "contractId": "CON.F.US.MNQ.Z26",
    "contractDisplayName": "MNQZ26",
    "creationTimestamp": "2026-11-20T14:30:00.1+00:00",
    "type": 2,
    "size": 3,
    "averagePrice": 25000,
}
TRADE = {
    "id": 3004518356,
    "accountId": 25700001,
    "contractId": "CON.F.US.MNQ.Z26",
    "creationTimestamp": "2026-11-20T14:30:00Z",
    "price": Decimal("24950.50"),
    "profitAndLoss": Decimal("-49.0"),
    "fees": Decimal("0.36"),
    "commissions": Decimal("0.25"),
    "side": 0,
    "size": 1,
    "voided": False,
    "orderId": 3408995735,
}
QUOTE = {
    "symbol": "F.US.MNQ",
    "lastPrice": Decimal("25000.00"),
    "bestBid": Decimal("24999.75"),
    "bestAsk": Decimal("25000.25"),
    "change": Decimal("-1.5"),
    "volume": 1204,
    "timestamp": "2026-11-20T14:30:00.348+00:00",
}
EVERYDAY: dict[str, tuple[list[Any], type[Event]]] = {
    "GatewayUserOrder": ([{"action": 1, "data": ORDER}], OrderChanged),
    "GatewayUserPosition": ([{"action": 1, "data": POSITION}], PositionChanged),
    "GatewayUserTrade": ([{"action": 0, "data": TRADE}], TradeMade),
    "GatewayQuote": (["CON.F.US.MNQ.Z26", QUOTE], QuoteMoved),
}


def record(target: str, arguments: object) -> str:
    return write_json({"type": 1, "target": target, "arguments": arguments}) + "\x1e"


def events(text: str, reader: ReadCall | None) -> tuple[str, ...] | str:
    """Return what is made of a record, spelt out to the last digit; a broken protocol by its name."""
    connection = Connection(Role.CLIENT, read_call=reader)
    connection.send(HandshakeRequest())
    connection.receive("{}\x1e")
    try:
        messages = connection.receive(text)
    except RemoteProtocolError:
        return "broken"
    return tuple(
        repr(event)
        for message in messages
        if isinstance(message, Invocation)
        for event in events_in(Hub.USER, message.target, message.arguments, AT)
    )


@pytest.mark.parametrize("target", EVERYDAY)
def test_what_comes_every_day_is_read_at_once_and_into_the_same(target: str) -> None:
    arguments, kind = EVERYDAY[target]
    call = read_call(record(target, arguments).rstrip("\x1e").encode())
    assert call is not None
    [event] = events_in(Hub.USER, call.target, call.arguments, AT)
    assert type(event) is kind
    assert (repr(event),) == events(record(target, arguments), None)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**15, 10**16]),
    st.sampled_from([Decimal(text) for text in ("1.0", "2.00", "0.0", "-7.25", "1E+3", "1E-30", "1E+16", "0.1E1")]),
    st.sampled_from(["7", "-7", "2.50", "1e5", "NaN", "Infinity", "", " 7", "x", "2026-11-20T14:30:00", "é", 'a"b']),
    st.sampled_from(["2026-11-20", "2026-11-20T14:30:00.123456789-06:00", "2026-11-20T14:30:00+00:00"]),
    st.just([]),
    st.just({}),
    st.just({"data": {}}),
)
ABSENT = object()


@given(
    target=st.sampled_from(sorted(EVERYDAY)),
    changes=st.lists(st.tuples(st.integers(0, 30), st.one_of(ODD, st.just(ABSENT))), max_size=3),
    shape=st.sampled_from(["told", "told", "told", "bare", "list", "two", "none"]),
)
@example(target="GatewayUserTrade", changes=[(30, 2**63)], shape="told")  # no enumeration holds it
@settings(max_examples=2_000, deadline=None)
def test_whatever_stands_in_a_row_both_readings_agree(
    target: str, changes: list[tuple[int, object]], shape: str
) -> None:
    arguments, _ = EVERYDAY[target]
    row = dict(arguments[-1] if target == "GatewayQuote" else arguments[0]["data"])
    known = sorted(
        {*row, "limitPrice", "filledPrice", "linkedOrderId", "profitAndLoss", "updateTimestamp", "commissions", "new"}
    )
    for place, value in changes:
        name = known[place % len(known)]
        row.pop(name, None)
        if value is not ABSENT:
            row[name] = value
    told = row if target == "GatewayQuote" else {"action": 1, "data": row}
    shaped = {"told": [told], "bare": [row], "list": [[told]], "two": [told, told], "none": []}[shape]
    head = ["CON.F.US.MNQ.Z26"] if target == "GatewayQuote" else []
    text = record(target, head + shaped)
    assert events(text, read_call) == events(text, None)


@given(
    target=st.sampled_from(sorted(EVERYDAY)),
    at=st.integers(0, 600),
    put=st.sampled_from(["", "{", "}", "[", "]", '"', ",", ":", "0", "-", "e", ".", "\\", "\x00", "é", " ", "null"]),
    cut=st.integers(0, 2),
)
@settings(max_examples=2_000, deadline=None)
def test_what_is_no_json_any_more_is_broken_in_both_readings(target: str, at: int, put: str, cut: int) -> None:
    arguments, _ = EVERYDAY[target]
    whole = record(target, arguments)[:-1]
    place = at % (len(whole) + 1)
    text = whole[:place] + put + whole[place + cut :] + "\x1e"
    plain, ours = events(text, None), events(text, read_call)
    if plain == "broken" and ours != "broken":
        json.loads(text[:-1])  # only numbers beyond our limits, in what nobody wants, may be let through
    else:
        assert ours == plain


@pytest.mark.parametrize(
    "text",
    [
        '{"type":1,"target":"GatewayUserOrder","arguments":[],"invocationId":""}',
        '{"type":1,"target":"GatewayUserOrder","arguments":[],"invocationId":null}',
        '{"type":1,"target":"","arguments":[]}',
        '{"type":1,"target":"GatewayQuote","arguments":' + "[" * 70 + "]" * 70 + "}",
        '{"type":1,"target":"GatewayQuote","arguments":["\x01",{}]}',
        '{"type":1,"target":"GatewayQuote","arguments":["\\ud800",{}]}',
    ],
)
def test_what_breaks_the_protocol_breaks_it_for_every_reading(text: str) -> None:
    assert events(text + "\x1e", read_call) == events(text + "\x1e", None) == "broken"


@pytest.mark.parametrize(
    "text",
    [
        '{"type":2,"invocationId":"1","item":1}',
        '{"type":1.0,"target":"GatewayQuote","arguments":["C",{"bestBid":1}]}',
        '{"type":1,"target":"GatewayQuote","arguments":["C",{"bestBid":1}],"invocationId":"7"}',
        '{"type":1,"target":"gatewayQUOTE","arguments":["C",{"bestBid":1}]}',
        '{"type":99,"target":"GatewayQuote","arguments":["C",{"bestBid":1}]}',
        '{"type":1,"target":"GatewayQuote","target":"GatewayOther","arguments":["C",{"bestBid":1}]}',
        '{"type":1,"type":6,"target":"GatewayQuote","arguments":["C",{"bestBid":1}]}',
        '{"type":6}',
    ],
)
def test_what_is_not_everyday_is_read_as_ever(text: str) -> None:
    def messages(reader: ReadCall | None) -> object:
        connection = Connection(Role.CLIENT, read_call=reader)
        connection.send(HandshakeRequest())
        connection.receive("{}\x1e")
        return connection.receive(text + "\x1e")

    assert messages(read_call) == messages(None)


def test_a_row_that_cannot_be_read_is_set_aside_with_its_whole_text() -> None:
    """Where the everyday reading gives up, nothing of what the broker said is lost."""
    broken = {**ORDER, "side": "x"}
    text = record("GatewayUserOrder", [{"action": 1, "data": broken}])
    connection = Connection(Role.CLIENT, read_call=read_call)
    connection.send(HandshakeRequest())
    connection.receive("{}\x1e")
    [call] = connection.receive(text)
    assert isinstance(call, Invocation)
    [event] = events_in(Hub.USER, call.target, call.arguments, AT)
    assert isinstance(event, EventSetAside)
    assert "symbolId" in event.raw
