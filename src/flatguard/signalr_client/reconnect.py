"""One connection after the other: lose it, wait, open the next, and say at any time how it stands.

SignalR's own schedule gives up after 42 seconds, which is no way to guard an account: a gap of minutes is ordinary. So
the schedule goes on with its longest delay for ever. It is spread by a fifth, for after an outage everybody comes back
at once; only the first attempt is immediate, since most losses are over at once. It starts over after a connection that
held. A loss that will recur, and a server that sent us away for good, skip the immediate attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from random import Random

import trio
from attrs import define, evolve, field, frozen

from flatguard.errors import FlatguardError
from flatguard.signalr_client.errors import HubLost
from flatguard.signalr_client.hub import Hub, HubStatistics

DELAYS_S = (0.0, 2.0, 10.0, 30.0)
LONGEST_DELAY_S = 60.0
SPREAD = 0.2

STABLE_S = 60.0
"""A connection that was up for so long starts the delays over."""

CHANGES_HELD = 16
"""Changes of state that wait for a watcher. The oldest give way: who is so far behind wants to know the present."""

Open = Callable[[], AbstractAsyncContextManager[Hub]]
Serve = Callable[[Hub], Awaitable[None]]


def delay_s(attempt: int, random: Random) -> float:
    """Return the seconds to wait before ``attempt``; the first after a loss is number 0."""
    nominal = DELAYS_S[attempt] if attempt < len(DELAYS_S) else LONGEST_DELAY_S
    return nominal * random.uniform(1 - SPREAD, 1 + SPREAD)


class Phase(StrEnum):
    """Where the link stands."""

    CONNECTING = "connecting"
    """The first attempt, or the ones after it, and there has been no connection yet."""

    CONNECTED = "connected"
    """The hub has accepted us. What it told before is not told again."""

    RECONNECTING = "reconnecting"
    """There was a connection, and there will be another."""

    CLOSED = "closed"
    """It is over: the server sent us away for good."""


@frozen
class LinkState:
    """How the link stands, and since when by ``trio.current_time()``."""

    phase: Phase
    since: float
    reason: str = ""
    """Why there is no connection: the loss first, then the latest attempt's failure. Empty while there is one."""

    attempt: int = 0
    """Attempts that have failed in this phase."""

    alarming: bool = False
    """Whether the connection will most likely end again as it did: somebody should look."""

    connection_id: str | None = None


@frozen
class LinkStatistics:
    """Counters over all connections of a link, and of the present one."""

    connections: int
    """How often the hub has accepted us."""

    connection: HubStatistics | None
    """None while there is none."""

    @property
    def reconnects(self) -> int:
        """How often we have come back."""
        return max(0, self.connections - 1)


@define
class Link:
    """Keeps a hub connected. ``open_one`` makes one whole attempt: fresh token, fresh negotiation, handshake.

    ``come_back_always`` is for those who must not stay away: they return even where the server has closed the
    connection without inviting them back.
    """

    open_one: Open
    random: Random
    come_back_always: bool = False
    state: LinkState = field(init=False)
    _changes_in: trio.MemorySendChannel[LinkState] = field(init=False)
    _changes_out: trio.MemoryReceiveChannel[LinkState] = field(init=False)
    _hub: Hub | None = None
    _connections: int = 0
    _delays: int = 0
    _why: str = "connecting anew"
    _hurry: trio.Event = field(factory=trio.Event, init=False)
    _leave: trio.Event = field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._changes_in, self._changes_out = trio.open_memory_channel[LinkState](CHANGES_HELD)
        self.state = LinkState(Phase.CONNECTING, trio.current_time())

    @property
    def changes(self) -> trio.MemoryReceiveChannel[LinkState]:
        """Every change of ``state``, in order; for one watcher. It ends when the link is closed."""
        return self._changes_out

    def statistics(self) -> LinkStatistics:
        """Return the counters at this moment."""
        return LinkStatistics(self._connections, None if self._hub is None else self._hub.statistics())

    def hurry(self) -> None:
        """Cut the present pause short: there is reason to think that the hub can be reached."""
        self._hurry.set()

    def reconnect(self, why: str = "connecting anew") -> None:
        """Give up the present connection, which looks well and is not, and connect anew."""
        self._why = why
        self._leave.set()

    async def keep(self, serve: Serve) -> None:
        """Connect and ``serve`` each connection, one after the other, for ever; there is no last attempt.

        ``serve`` has to receive: that hands over what was read before a loss, and then tells of the loss.
        A connection is given up when ``serve`` ends, whether it returns or raises a FlatguardError; other errors leave.
        Returns only when the server has sent us away for good, unless ``come_back_always``. If cancelled, whatever it
        is at is cut short, and nothing is left open.
        """
        while True:
            self._hurry = trio.Event()
            with trio.move_on_after(delay_s(self._delays, self.random)):
                await self._hurry.wait()
            connected = self._connections
            loss = await self._connect_once(serve)
            held = self._connections > connected and trio.current_time() - self.state.since >= STABLE_S
            self._delays = 0 if held else self._delays + 1
            if loss.will_recur or not loss.worth_reconnecting:
                self._delays = max(1, self._delays)
            if not loss.worth_reconnecting and not self.come_back_always:
                self._become(LinkState(Phase.CLOSED, trio.current_time(), loss.reason))
                self._changes_in.close()
                return
            if self.state.phase is Phase.CONNECTED:
                self._become(LinkState(Phase.RECONNECTING, trio.current_time(), loss.reason, alarming=_alarms(loss)))
            else:
                failed = self.state.attempt + 1
                alarming = self.state.alarming or _alarms(loss)
                self._become(evolve(self.state, reason=loss.reason, attempt=failed, alarming=alarming))

    async def _connect_once(self, serve: Serve) -> HubLost:
        """Serve one connection and return why it ended: what the hub says counts more than what came of it here."""
        loss, reason = None, None
        try:
            async with self.open_one() as self._hub, trio.open_nursery() as nursery:
                self._connections += 1
                self._leave = trio.Event()  # only now: what was asked for before is this connection
                self._become(LinkState(Phase.CONNECTED, trio.current_time(), connection_id=self._hub.connection_id))
                nursery.start_soon(self._leave_when_asked, nursery.cancel_scope)
                try:
                    await serve(self._hub)
                finally:
                    loss = self._hub.loss if self._hub.lost else None
                nursery.cancel_scope.cancel()
        except* FlatguardError as group:
            reason = _as_loss(_first(group))
        finally:
            self._hub = None
        return loss or reason or HubLost(self._why)

    async def _leave_when_asked(self, scope: trio.CancelScope) -> None:
        await self._leave.wait()
        scope.cancel()

    def _become(self, state: LinkState) -> None:
        self.state = state
        try:
            self._changes_in.send_nowait(state)
        except trio.WouldBlock:
            self._changes_out.receive_nowait()
            self._changes_in.send_nowait(state)
        except trio.BrokenResourceError:
            pass  # the watcher has left


def _as_loss(error: BaseException) -> HubLost:
    """Return another error: the traceback of this one would keep all that it has met alive."""
    if isinstance(error, HubLost):
        return HubLost(str(error), worth_reconnecting=error.worth_reconnecting, will_recur=error.will_recur)
    return HubLost(str(error))


def _alarms(loss: HubLost) -> bool:
    return loss.will_recur or not loss.worth_reconnecting


def _first(group: BaseExceptionGroup[Exception]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
