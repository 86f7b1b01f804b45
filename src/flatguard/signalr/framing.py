"""Text to messages and back: cutting at the record separator, exact JSON, and what each message must hold.

Every message is one JSON object followed by the byte 0x1E. A WebSocket message may carry several of them, or
a piece of one, so bytes are collected, cut at 0x1E and decoded after cutting: that byte cannot be part of
another UTF-8 sequence, whereas a character may well be split between two reads.

The other side's mistakes fall into two kinds. What a later version of the protocol might add (unknown types,
unknown properties) is passed over; what contradicts the protocol ends the connection with a
RemoteProtocolError. Where the two widespread implementations disagree we accept what a careful server may
send, and never guess at a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import (
    Clamped,
    Context,
    Decimal,
    Inexact,
    InvalidOperation,
    Overflow,
    Rounded,
    Subnormal,
    Underflow,
)
from json.encoder import encode_basestring
from math import isfinite
from typing import Any

import msgspec

from flatguard.signalr.errors import LocalProtocolError, RemoteProtocolError
from flatguard.signalr.messages import (
    VOID,
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HandshakeAccepted,
    HandshakeRefused,
    HandshakeRequest,
    HubMessage,
    Invocation,
    Message,
    Ping,
    Sequence,
    StreamInvocation,
    StreamItem,
)

SEPARATOR = "\x1e"

MAX_DEPTH = 64
"""How deep JSON may nest, the message itself included: the limit that ASP.NET Core sets too."""

MAX_DIGITS = 1_000
MAX_EXPONENT = 6_144
"""Past these a number is no price and no id, only a load: 1e999999999 turned into an int fills the memory."""

SHORT = 2_048
"""Bytes of a message that may be read with an eye on what is wanted of it only."""

Fields = dict[str, object]


# --- Cutting ---


class Records:
    """Collects bytes and cuts them at the separator. ``rest`` is the piece that still lacks one.

    ``too_long`` says that the record behind those that were returned last is longer than allowed; it ends here.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self.rest = bytearray()
        self.too_long = False

    def cut(self, data: bytes) -> list[bytes]:
        """Return each record that ``data`` completes, without its separator."""
        most = self._max_message_bytes
        all_short = len(self.rest) + len(data) <= most
        *records, piece = data.split(b"\x1e")
        if records and self.rest:
            records[0] = bytes(self.rest) + records[0]
            self.rest.clear()
        self.rest += piece
        if not all_short:
            for index, record in enumerate((*records, self.rest)):
                if len(record) > most:
                    self.too_long = True
                    return records[:index]
        return records


# --- JSON ---


_EXACT = Context(
    prec=MAX_DIGITS,
    Emax=MAX_EXPONENT,
    Emin=-MAX_EXPONENT,
    traps=[InvalidOperation, Overflow, Underflow, Subnormal, Inexact, Rounded, Clamped],
)
"""Takes a number as it stands, or raises; it never rounds one."""

_decode: Callable[[bytes], object] = msgspec.json.Decoder(float_hook=_EXACT.create_decimal).decode
_MANY_DIGITS = re.compile(rb"(?<![0-9])[0-9]{%d}" % (MAX_DIGITS + 1))


def read_json(record: bytes) -> Fields:
    """Decode one record, which must be an object. Numbers stay exact: int, or Decimal."""
    try:
        fields = _decode(record)
    except (msgspec.DecodeError, ValueError) as error:
        raise RemoteProtocolError(f"a message is not JSON: {error}") from None
    except ArithmeticError:
        raise RemoteProtocolError("a message is not JSON: a number is out of all proportion") from None
    except RecursionError:
        raise RemoteProtocolError("a message is nested too deeply") from None
    if not isinstance(fields, dict):
        raise RemoteProtocolError("a message is not a JSON object")
    if record.count(b"{") + record.count(b"[") > MAX_DEPTH and _nests_too_deeply(fields):
        raise RemoteProtocolError("a message is nested too deeply")
    if len(record) > MAX_DIGITS and _MANY_DIGITS.search(record) and _holds_a_huge_integer(fields):
        raise RemoteProtocolError("a message is not JSON: a number has too many digits")
    return fields


def _nests_too_deeply(value: object) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent) if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def _holds_a_huge_integer(value: object) -> bool:
    if isinstance(value, int):
        return not -(10**MAX_DIGITS) < value < 10**MAX_DIGITS
    return any(_holds_a_huge_integer(child) for child in _children(value))


def _children(parent: object) -> Iterator[object]:
    if isinstance(parent, dict):
        return iter(parent.values())
    return iter(parent) if isinstance(parent, list) else iter(())


def write_json(value: object) -> str:
    """Encode a plain JSON value. A Decimal is written with its own digits, never by way of a float."""
    try:
        text = _json(value, MAX_DEPTH)
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise LocalProtocolError("half of a surrogate pair cannot be written") from None
    except ValueError as error:
        raise LocalProtocolError(f"cannot be written as JSON: {error}") from None
    return text


def _json(value: object, levels: int) -> str:
    scalar = _SCALARS.get(type(value))
    if scalar is not None:
        return scalar(value)
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, float):
        return _float(value)
    if levels == 0:
        raise ValueError("nested too deeply")
    if isinstance(value, list | tuple):
        return "[" + ",".join([_json(item, levels - 1) for item in value]) + "]"
    if isinstance(value, dict):
        return "{" + ",".join([f"{_key(key)}:{_json(item, levels - 1)}" for key, item in value.items()]) + "}"
    raise ValueError(f"no JSON stands for {type(value).__name__}")


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value} is not a number")
    return str(value)


def _float(value: float) -> str:
    if not isfinite(value):
        raise ValueError(f"{value} is not a number")
    return float.__repr__(value)


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise ValueError(f"a key is {type(key).__name__}, not text")
    return encode_basestring(key)


_SCALARS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    int: int.__repr__,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
    Decimal: _decimal,
    float: _float,
}
"""How plain values are written; what is derived from them is found out step by step."""


# --- Reading ---


def read_handshake_request(record: bytes) -> HandshakeRequest:
    """Read what a client says first. Whether protocol and version will do is for the server to answer."""
    fields = read_json(record)
    protocol, version = fields.get("protocol"), fields.get("version")
    if "type" in fields or not isinstance(protocol, str) or type(version) is not int:
        raise RemoteProtocolError("expected a handshake request")
    return HandshakeRequest(protocol, version)


def read_handshake_response(record: bytes) -> HandshakeAccepted | HandshakeRefused:
    """Read what a server answers to it. An ``error`` of any kind but null is a refusal."""
    fields = read_json(record)
    if "type" in fields:
        raise RemoteProtocolError("expected a handshake response, not another message")
    error = fields.get("error")
    if error is None:
        return HandshakeAccepted()
    return HandshakeRefused(error if isinstance(error, str) else write_json(error))


def read_as_client(record: bytes) -> HubMessage | None:
    """Read a hub message from a server; None for a type that is unknown or not meant for a client."""
    return _read(record, _FROM_SERVER)


ReadCall = Callable[[bytes], Invocation | None]
"""Reads a server's call from its record, where it knows it; None to have the record read as ever."""


def reader_for_client(read_call: ReadCall | None) -> Callable[[bytes], HubMessage | None]:
    """Return ``read_as_client``, before which ``read_call`` may try.

    Only a short record in ASCII is read that way. In what is not wanted of it, numbers and depth may then be beyond our
    limits; nobody sees them.
    """
    if read_call is None:
        return read_as_client
    ours = read_call

    def read(record: bytes) -> HubMessage | None:
        if len(record) <= SHORT and record.isascii():  # in what it skips, a decoder may not look for bad UTF-8
            return ours(record) or read_as_client(record)
        return read_as_client(record)

    return read


def read_as_server(record: bytes) -> HubMessage | None:
    """Read a hub message from a client; None for an unknown type."""
    return _read(record, _FROM_CLIENT)


_NUMBERS = frozenset({int, Decimal})  # and not bool, which is an int too


def _read(record: bytes, readers: dict[object, Callable[[Fields], HubMessage]]) -> HubMessage | None:
    fields = read_json(record)
    kind = fields.get("type")
    if type(kind) not in _NUMBERS:
        raise RemoteProtocolError("a message has no numeric type")
    reader = readers.get(kind)  # 1.0 finds what 1 finds: equal numbers have equal hashes
    return None if reader is None else reader(fields)


def _text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise RemoteProtocolError(f"{name} is missing, empty or not text")
    return value


def _arguments(fields: Fields) -> tuple[object, ...]:
    value = fields.get("arguments")
    if not isinstance(value, list):
        raise RemoteProtocolError("arguments are missing or not a list")
    return tuple(value)


def _invocation_id(fields: Fields) -> str | None:
    return _text(fields, "invocationId") if "invocationId" in fields else None


def _stream_ids(fields: Fields) -> tuple[str, ...]:
    value = fields.get("streamIds", [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise RemoteProtocolError("streamIds are not a list of text")
    return tuple(value)


def _invocation_from_client(fields: Fields) -> Invocation:
    return Invocation(_text(fields, "target"), _arguments(fields), _invocation_id(fields), _stream_ids(fields))


def _invocation_from_server(fields: Fields) -> Invocation:
    # A server has no streams to upload: whatever it writes in streamIds says nothing.
    return Invocation(_text(fields, "target"), _arguments(fields), _invocation_id(fields))


def _stream_item(fields: Fields) -> StreamItem:
    if "item" not in fields:
        raise RemoteProtocolError("item is missing")
    return StreamItem(_text(fields, "invocationId"), fields["item"])


def _completion(fields: Fields) -> Completion:
    invocation_id = _text(fields, "invocationId")
    error, result = fields.get("error"), fields.get("result", VOID)
    if error is not None and not isinstance(error, str):
        raise RemoteProtocolError("the error of a completion is not text")
    if error is not None and result is not VOID and result is not None:
        raise RemoteProtocolError("a completion has both a result and an error")
    if error:
        return Completion(invocation_id, error=error)
    return Completion(invocation_id, result)


def _stream_invocation(fields: Fields) -> StreamInvocation:
    return StreamInvocation(
        _text(fields, "target"), _text(fields, "invocationId"), _arguments(fields), _stream_ids(fields)
    )


def _cancel_invocation(fields: Fields) -> CancelInvocation:
    return CancelInvocation(_text(fields, "invocationId"))


def _ping(fields: Fields) -> Ping:
    return Ping()


def _close(fields: Fields) -> Close:
    error = fields.get("error")
    return Close(error if isinstance(error, str) else None, fields.get("allowReconnect") is True)


def _sequence_id(fields: Fields) -> int:
    value = fields.get("sequenceId")
    if isinstance(value, bool) or not isinstance(value, int):
        raise RemoteProtocolError("sequenceId is missing or not a whole number")
    return value


def _ack(fields: Fields) -> Ack:
    return Ack(_sequence_id(fields))


def _sequence(fields: Fields) -> Sequence:
    return Sequence(_sequence_id(fields))


_FROM_CLIENT: dict[object, Callable[[Fields], HubMessage]] = {
    1: _invocation_from_client,
    2: _stream_item,
    3: _completion,
    4: _stream_invocation,
    5: _cancel_invocation,
    6: _ping,
    7: _close,
    8: _ack,
    9: _sequence,
}
_FROM_SERVER: dict[object, Callable[[Fields], HubMessage]] = {
    1: _invocation_from_server,
    2: _stream_item,
    3: _completion,
    6: _ping,
    7: _close,
    8: _ack,
    9: _sequence,
}


# --- Writing ---


def write(message: Message) -> str:
    """Encode one message, with its separator. Fields that say nothing are left out, never written as null."""
    return write_json(_fields(message)) + SEPARATOR


def _fields(message: Message) -> Fields:
    match message:
        case HandshakeRequest(protocol=protocol, version=version):
            return {"protocol": protocol, "version": version}
        case HandshakeAccepted():
            return {}
        case HandshakeRefused(error=error):
            return {"error": error}
        case Invocation(target=target, arguments=arguments, invocation_id=id_, stream_ids=stream_ids):
            return _call(1, id_, target, arguments, stream_ids)
        case StreamItem(invocation_id=id_, item=item):
            return {"type": 2, "invocationId": _said(id_), "item": item}
        case Completion(invocation_id=id_, result=result, error=error):
            if result is not VOID and error is not None:
                raise LocalProtocolError("a completion has both a result and an error")
            completion: Fields = {"type": 3, "invocationId": _said(id_)}
            if result is not VOID:
                completion["result"] = result
            if error is not None:
                completion["error"] = _said(error)
            return completion
        case StreamInvocation(target=target, invocation_id=id_, arguments=arguments, stream_ids=stream_ids):
            return _call(4, id_, target, arguments, stream_ids)
        case CancelInvocation(invocation_id=id_):
            return {"type": 5, "invocationId": _said(id_)}
        case Ping():
            return {"type": 6}
        case Close(error=error, allow_reconnect=allow_reconnect):
            close: Fields = {"type": 7}
            if error is not None:
                close["error"] = error
            if allow_reconnect:
                close["allowReconnect"] = True
            return close
        case Ack(sequence_id=sequence_id):
            return {"type": 8, "sequenceId": sequence_id}
        case Sequence(sequence_id=sequence_id):  # pragma: no branch
            return {"type": 9, "sequenceId": sequence_id}


def _call(
    kind: int, id_: str | None, target: str, arguments: tuple[object, ...], stream_ids: tuple[str, ...]
) -> Fields:
    call: Fields = {"type": kind}
    if id_ is not None:
        call["invocationId"] = _said(id_)
    call |= {"target": _said(target), "arguments": arguments}
    if stream_ids:
        call["streamIds"] = stream_ids
    return call


def _said(text: object) -> str:
    """An empty target, id or error would be read as none at all."""
    if not isinstance(text, str) or not text:
        raise LocalProtocolError("a target, an id or an error is empty or not text")
    return text
