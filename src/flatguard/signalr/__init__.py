"""The SignalR JSON hub protocol, without I/O: text in, messages out; messages in, text out. Both roles."""

from flatguard.signalr.connection import TRANSITIONS, By, Connection, Role, State
from flatguard.signalr.errors import LocalProtocolError, ProtocolError, RemoteProtocolError
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
    Void,
)

__all__ = [
    "TRANSITIONS",
    "VOID",
    "Ack",
    "By",
    "CancelInvocation",
    "Close",
    "Completion",
    "Connection",
    "HandshakeAccepted",
    "HandshakeRefused",
    "HandshakeRequest",
    "HubMessage",
    "Invocation",
    "LocalProtocolError",
    "Message",
    "Ping",
    "ProtocolError",
    "RemoteProtocolError",
    "Role",
    "Sequence",
    "State",
    "StreamInvocation",
    "StreamItem",
    "Void",
]
