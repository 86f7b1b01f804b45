"""What can be wrong between the two ends of a connection: we broke the protocol, or they did.

Nothing else leaves :class:`~flatguard.signalr.Connection`, whatever it is fed; any other exception is a bug
there.
"""

from __future__ import annotations

from flatguard.errors import FlatguardError


class ProtocolError(FlatguardError):
    """Base of the two; never raised itself."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        if type(self) is ProtocolError:
            raise TypeError("say who broke the protocol: LocalProtocolError or RemoteProtocolError")
        super().__init__(message, hint=hint)


class LocalProtocolError(ProtocolError):
    """We asked for what may not be said now, or cannot be written. Nothing was sent; correct the caller."""


class RemoteProtocolError(ProtocolError):
    """They sent what cannot be understood, and nothing more is read. Hang up, and open another connection."""
