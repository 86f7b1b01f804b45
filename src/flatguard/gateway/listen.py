"""Listen to the broker's hubs for ever: connect, subscribe, hand over events; come back after every loss.

Nothing is restored by a new connection: subscriptions are made anew, and what happened meanwhile is read by REST before
the events that arrived since subscribing are handed over, so that there is no gap and nothing is judged on half a day.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from math import inf
from random import Random
from typing import NoReturn

import trio
from attrs import define, field

from flatguard.clock import WallClock
from flatguard.gateway.everyday import read_call
from flatguard.gateway.token import Token
from flatguard.gateway.wire import events_in
from flatguard.model.events import Event, Hub, LinkDown, LinkUp, QuoteMoved
from flatguard.model.ids import AccountId, ContractId
from flatguard.secret import Secret
from flatguard.signalr_client import Hub as HubConnection
from flatguard.signalr_client import HubCallFailed, HubLost, HubRefused, Link, Phase, TokenIn, open_hub
from flatguard.signalr_client.reconnect import LinkState, Serve
from flatguard.signalr_client.socket import Dial

SUBSCRIBE_S = 10.0
PHOTOGRAPH_S = 5.0  # how long events wait for the reading that precedes them
QUIET_MARKET_S = 60.0  # no quote although contracts are wanted, and nobody says whether they trade: taken for dead
QUIET_MARKET_MOST_S = 300.0  # a closed market is quiet too, so the patience doubles up to this
PRICE_WITHIN_S = 3.0  # after subscribing; then something was lost, or the market is closed
PRICE_WITHIN_MOST_S = 60.0
KEEP_QUOTES_S = 60.0  # a contract is watched so much longer than it is wanted
TOKEN_REFUSED = {401, 403}

LOGOUT = "gatewaylogout"  # in whatever capitals
LOGOUTS_S = 120.0
LOGOUTS_MANY = 5  # within LOGOUTS_S: then two programs are logging one another out
SESSION_S = 5.0  # for asking whether our session still holds

USER_STREAMS = ("SubscribeOrders", "SubscribePositions", "SubscribeTrades")

Batch = tuple[Event, ...]
Send = Callable[[Batch], Awaitable[None]]


@define
class Listener:
    """One hub of the broker's, kept connected. ``send`` takes batches of events, each what one read brought.

    ``session_holds`` asks the broker whether the token that we came with is still one of a session; it is asked when we
    were logged out.
    """

    hub: Hub
    url: str
    token: Token
    clock: WallClock
    random: Random
    send: Send
    dial: Dial | None = None
    session_holds: Callable[[Secret], Awaitable[bool]] | None = None
    link: Link = field(init=False)
    _tried: Secret = field(factory=lambda: Secret(""), init=False)
    token_ends_at: datetime | None = field(default=None, init=False)  # that of the latest attempt
    _token_refused: bool = field(default=False, init=False)
    _untold: list[Event] = field(factory=list, init=False)
    _logouts: list[float] = field(factory=list, init=False)
    _ask_session: bool = field(default=False, init=False)
    _logout: str = field(default="", init=False)
    _telling: trio.StrictFIFOLock = field(factory=trio.StrictFIFOLock, init=False)

    def __attrs_post_init__(self) -> None:
        # The broker sends everybody away when it logs a session out. A guard comes back all the same.
        self.link = Link(self._open, self.random, come_back_always=True)

    async def listen(self, serve: Serve) -> NoReturn:
        """Connect and ``serve`` for ever. Each failed attempt, like each loss, is told by a LinkDown."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_losses)
            await self.link.keep(serve)
        raise AssertionError("a link that always comes back has ended")

    async def tell_up(self, *events: Event) -> None:
        """Tell that the hub is connected and subscribed, then ``events``; earlier losses are told earlier."""
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                self._note(self.link.changes.receive_nowait())
        await self.tell(LinkUp(self.clock.now(), self.hub), *events)

    async def receive(self, hub: HubConnection) -> Batch:
        """Return what the hub says next. Raises HubLost also where it logs us out; what it said before comes first."""
        invocations = await hub.receive()
        at = self.clock.now()
        said: list[Event] = []
        for call in invocations:
            if call.target.lower() == LOGOUT:
                await self.tell(*said)
                raise self._logged_out()
            said += events_in(self.hub, call.target, call.arguments, at)
        return tuple(said)

    def _logged_out(self) -> HubLost:
        now = trio.current_time()
        self._logouts = [*(at for at in self._logouts if at > now - LOGOUTS_S), now]
        self._ask_session = self.session_holds is not None
        self._logout = "the broker logged us out"
        often = len(self._logouts) >= LOGOUTS_MANY
        if often:
            times = f"{len(self._logouts)} times in two minutes"
            self._logout += f", {times}: another program of this user competes with us"
        return HubLost(self._logout, will_recur=often)

    async def _why_logged_out(self) -> str:
        """Tell apart two cases: a session that has ended needs a new token, one that goes on has a rival."""
        assert self.session_holds is not None
        if self.token_ends_at is not None and self.clock.now() >= self.token_ends_at:
            return "the token that the hub came with is over"
        with trio.move_on_after(SESSION_S):
            if not await self.session_holds(self._tried):
                self._token_refused = True
                return "the broker ended our session; logging in anew"
        return "logged out although our session holds: this user logged in elsewhere, or maintenance"

    async def _tell_losses(self) -> None:
        async for state in self.link.changes:
            self._note(state)
            await self.tell()

    def _note(self, state: LinkState) -> None:
        if state.phase is not Phase.CONNECTED:
            warning = "; this will most likely happen again" if state.alarming else ""
            reason, self._logout = self._logout or state.reason, ""  # the connection's own end says less
            self._untold.append(LinkDown(self.clock.now(), self.hub, reason + warning))

    async def tell(self, *events: Event) -> None:
        """Tell what has been noted, then ``events``: a feed that takes its time must not turn down and up around."""
        async with self._telling:
            downs = tuple(self._untold)
            if downs or events:
                await self.send((*downs, *events))
                del self._untold[: len(downs)]

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[HubConnection]:
        try:
            # The broker wants no negotiation, and documents the token in both places.
            async with open_hub(
                self.url,
                token=self._next_token,
                token_in=TokenIn.HEADER | TokenIn.QUERY,
                negotiating=False,
                read_call=read_call,
                dial=self.dial,
            ) as connection:
                yield connection
        except HubRefused as error:
            self._token_refused = error.status in TOKEN_REFUSED
            raise

    async def _next_token(self) -> str:
        """Return the token to try, which is another one if the last was refused, or its session has ended."""
        if self._ask_session:
            self._ask_session = False
            self._untold.append(LinkDown(self.clock.now(), self.hub, await self._why_logged_out()))
            await self.tell()
        self._tried = await (self.token.renewed(self._tried) if self._token_refused else self.token.current())
        self._token_refused, self.token_ends_at = False, self.token.expires_at
        return self._tried.reveal()


@define
class UserHub:
    """Orders, positions, trades and the account rows of ``accounts``."""

    listener: Listener
    accounts: tuple[AccountId, ...]
    photograph: Callable[[], Awaitable[Batch]]

    async def listen(self) -> NoReturn:
        """Listen for ever: subscribe, photograph, then hand over what happened since."""
        await self.listener.listen(self._serve)

    async def _serve(self, hub: HubConnection) -> None:
        await self._subscribe(hub)
        photograph: Batch = ()
        held: list[Event] = []
        holding = trio.CancelScope(deadline=trio.current_time() + PHOTOGRAPH_S)
        late = False

        async def take_photograph() -> None:
            nonlocal photograph
            photograph = await self.photograph()
            if late:
                await self.listener.tell(*photograph)
            else:
                holding.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_photograph)
            with holding:
                while True:
                    held += await self.listener.receive(hub)
            late = True
            await self.listener.tell_up(*photograph, *held)
            while True:
                await self.listener.send(await self.listener.receive(hub))

    async def _subscribe(self, hub: HubConnection) -> None:
        """Subscribe to everything at once: every round trip is one in which nothing is told to us."""
        refused: list[HubCallFailed] = []

        async def invoke(method: str, *arguments: object) -> None:
            try:
                await hub.invoke(method, *arguments)
            except HubCallFailed as error:
                refused.append(error)

        with trio.move_on_after(SUBSCRIBE_S) as limit:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(invoke, "SubscribeAccounts")
                for account_id in self.accounts:
                    for stream in USER_STREAMS:
                        nursery.start_soon(invoke, stream, account_id)
        if limit.cancelled_caught:
            raise HubLost("subscribing took too long")
        if refused:
            raise refused[0]


@define
class MarketHub:
    """Quotes of the contracts that are held or have working orders, and no others: they come forty a second.

    Only the first quote after subscribing is full. A contract that is still without a price some seconds later is
    therefore subscribed anew, ever more slowly.
    """

    listener: Listener
    wanted: frozenset[ContractId] = frozenset()
    unpriced: frozenset[ContractId] = frozenset()
    _changed: trio.Event = field(factory=trio.Event)
    _subscribed: set[ContractId] = field(factory=set)
    _waiting: trio.CancelScope = field(factory=trio.CancelScope)
    _heard_at: float = 0.0
    _patience_s: float = QUIET_MARKET_S

    def watch(self, contracts: frozenset[ContractId], unpriced: frozenset[ContractId] = frozenset()) -> None:
        """Want the quotes of exactly ``contracts``, ``unpriced`` of which nobody has a price for yet.

        Those no longer named are kept for a minute.
        """
        if (contracts, unpriced) != (self.wanted, self.unpriced):
            if not self._subscribed:
                self._heard_at = trio.current_time()  # silence counts from here
            elif not self.wanted:  # or nearly from here: there must be time for one quote of what is wanted now
                self._heard_at = max(self._heard_at, trio.current_time() - self._patience_s + PRICE_WITHIN_S)
            self.wanted, self.unpriced = contracts, unpriced
            self._waiting.deadline = self._patience_ends_at
            changed, self._changed = self._changed, trio.Event()
            changed.set()

    @property
    def _patience_ends_at(self) -> float:
        return self._heard_at + self._patience_s if self.wanted else inf

    async def listen(self) -> NoReturn:
        """Listen for ever. A stream that tells nothing although contracts are wanted is given up and opened anew."""
        await self.listener.listen(self._serve)

    async def _serve(self, hub: HubConnection) -> None:
        self._subscribed = set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._subscribe, hub)
            await self.listener.tell_up()
            self._heard_at = trio.current_time()
            while True:
                batch = await self._receive(hub)
                if any(isinstance(event, QuoteMoved) for event in batch):
                    self._heard_at, self._patience_s = trio.current_time(), QUIET_MARKET_S
                began = trio.current_time()
                await self.listener.send(batch)
                self._heard_at += trio.current_time() - began  # that was no silence of the hub's

    async def _receive(self, hub: HubConnection) -> Batch:
        with trio.CancelScope(deadline=self._patience_ends_at) as self._waiting:
            return await self.listener.receive(hub)
        quiet_s, self._patience_s = self._patience_s, min(self._patience_s * 2, QUIET_MARKET_MOST_S)
        raise HubLost(f"no quote for {quiet_s:.0f} s")

    async def _subscribe(self, hub: HubConnection) -> NoReturn:
        """Keep the hub's subscriptions equal to what is wanted, for ever."""
        ends: dict[ContractId, float] = {}  # of what is not wanted any more
        waits: dict[ContractId, float] = {}  # for the price of what has none
        price_due: dict[ContractId, float] = {}
        while True:
            changed, wanted, unpriced, now = self._changed, self.wanted, self.unpriced, trio.current_time()
            waits = {c: wait for c, wait in waits.items() if c in unpriced}
            for contract_id in sorted(wanted - self._subscribed):
                await _try_to_invoke(hub, "SubscribeContractQuotes", contract_id)
                self._subscribed.add(contract_id)
                waits[contract_id] = min(2 * waits.get(contract_id, PRICE_WITHIN_S / 2), PRICE_WITHIN_MOST_S)
                price_due[contract_id] = trio.current_time() + waits[contract_id]
            ends = {c: ends.get(c, now + KEEP_QUOTES_S) for c in self._subscribed - wanted}
            due = ends | {c: price_due[c] for c in self._subscribed & wanted & unpriced}
            for contract_id in sorted(c for c, at in due.items() if at <= now):
                await _try_to_invoke(hub, "UnsubscribeContractQuotes", contract_id)
                self._subscribed.discard(contract_id)
            # what was due just now is due still, so the next round comes at once and subscribes what is wanted again
            with trio.move_on_at(min(due.values(), default=inf)):
                await changed.wait()


async def _try_to_invoke(hub: HubConnection, method: str, contract_id: ContractId) -> None:
    """Invoke a method. A contract that the hub will not have must not cost the others their quotes."""
    with trio.move_on_after(SUBSCRIBE_S) as limit:
        try:
            await hub.invoke(method, contract_id)
        except HubCallFailed:
            pass  # without quotes its rules say so; the next connection asks again
    if limit.cancelled_caught:
        raise HubLost("subscribing took too long")  # and the contracts behind this one would wait for ever
