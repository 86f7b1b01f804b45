"""What the two ends say to each other. Frozen values, the same for both roles.

An argument, an item or a result is a plain JSON value: None, bool, int, str, list, dict, and ``Decimal`` for
every number written with a point or an exponent. A headers field is never written, and dropped when read: it
has no meaning, and is a place where tokens have leaked.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec
from attrs import frozen


class Void(Enum):
    """The type of :data:`VOID`."""

    VOID = "no value"

    def __repr__(self) -> str:
        return self.name


VOID: Final = Void.VOID
"""The result of a call that ended well and gave nothing; None is a value of its own."""


@frozen
class HandshakeRequest:
    """The client's first message: which hub protocol it speaks."""

    protocol: str = "json"
    version: int = 1


@frozen
class HandshakeAccepted:
    """The server's answer: go on."""


@frozen
class HandshakeRefused:
    """The server's answer: no, because of ``error``. Then it hangs up."""

    error: str


class Invocation(msgspec.Struct, frozen=True, gc=False):  # not attrs: most messages are these, and it is quicker
    """Run ``target``. With an ``invocation_id`` the other side owes one Completion, without it none."""

    target: str
    arguments: tuple[object, ...] = ()
    invocation_id: str | None = None
    stream_ids: tuple[str, ...] = ()


@frozen
class StreamItem:
    """One more item of a stream; ``item`` may be None."""

    invocation_id: str
    item: object


@frozen
class Completion:
    """A call or a stream is over: with a ``result`` (None counts), an ``error``, or neither (``VOID``)."""

    invocation_id: str
    result: object = VOID
    error: str | None = None


@frozen
class StreamInvocation:
    """Run ``target`` and send its results one by one. Only a client says this."""

    target: str
    invocation_id: str
    arguments: tuple[object, ...] = ()
    stream_ids: tuple[str, ...] = ()


@frozen
class CancelInvocation:
    """Stop what runs under this id; a Completion still follows. Only a client says this."""

    invocation_id: str


@frozen
class Ping:
    """I am here."""


@frozen
class Close:
    """I am leaving. Only an explicit ``allow_reconnect`` invites the other side to come back."""

    error: str | None = None
    allow_reconnect: bool = False


@frozen
class Ack:
    """All up to ``sequence_id`` has arrived. Part of stateful reconnection, which we never ask for."""

    sequence_id: int


@frozen
class Sequence:
    """The next message has number ``sequence_id``. Part of stateful reconnection, which we never ask for."""

    sequence_id: int


HubMessage = Invocation | StreamItem | Completion | StreamInvocation | CancelInvocation | Ping | Close | Ack | Sequence
Message = HandshakeRequest | HandshakeAccepted | HandshakeRefused | HubMessage
