"""How a connection to a hub, or a call on it, can fail. The texts quote no URL and no token."""

from __future__ import annotations

from flatguard.errors import FlatguardError, GatewayUnreachable


class HubError(GatewayUnreachable):
    """Base of what ends a connection or prevents one; never raised itself."""


class HubUnreachable(HubError):
    """There was no connection within the limit; try again later."""


class HubRefused(HubError):
    """The server said no. ``status`` is the HTTP status of negotiation or upgrade; None where it said so in words.

    401 and 403 call for a fresh token before the next attempt.
    """

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class HubLost(HubError):
    """The connection is over. What was read before has been handed over; what happens now is not told to us.

    ``worth_reconnecting`` is False where the server sent us away for good, or we left. ``will_recur`` is True where one
    side broke a protocol or a size limit: the next connection will most likely end in the same way, so tell somebody,
    and do not hurry.
    """

    def __init__(self, reason: str, *, worth_reconnecting: bool = True, will_recur: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.worth_reconnecting = worth_reconnecting
        self.will_recur = will_recur


class HubCallUnresolved(HubLost):
    """The connection was lost between a call and its answer: the server may or may not have run it."""

    def __init__(self, target: str, loss: HubLost) -> None:
        super().__init__(
            f"{target} may or may not have run: {loss.reason}",
            worth_reconnecting=loss.worth_reconnecting,
            will_recur=loss.will_recur,
        )


class HubCallFailed(FlatguardError):
    """The server answered a call with ``error``."""

    def __init__(self, target: str, error: str) -> None:
        super().__init__(f"{target} failed: {error}")
        self.target = target
        self.error = error
