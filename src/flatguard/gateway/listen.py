"""Listen to the broker's hubs for ever: connect, subscribe, hand over events; come back after every loss.

Nothing is restored by a new connection: subscriptions are made anew, and what happened meanwhile is read by REST before
the events that arrived since subscribing are handed over, so that there is no gap and nothing is judged on half a day.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import NoReturn

import trio
from attrs import define, field

from flatguard.clock import WallClock
from flatguard.errors import FlatguardError
from flatguard.gateway.backoff import delay_s
from flatguard.gateway.hub import Hub as HubConnection
from flatguard.gateway.hub import HubError, HubRefused, open_hub
from flatguard.gateway.socket import Dial
from flatguard.gateway.token import Token
from flatguard.gateway.wire import events_in
from flatguard.model.events import Event, Hub, LinkDown, LinkUp
from flatguard.model.ids import AccountId, ContractId
from flatguard.signalr import Invocation

SUBSCRIBE_S = 10.0
STABLE_S = 60.0  # a connection that held this long starts the delays over
PHOTOGRAPH_S = 5.0  # how long events wait for the reading that precedes them
QUIET_MARKET_S = 15.0  # no quote for contracts that are held: the stream is taken for dead
QUIET_MARKET_MOST_S = 300.0
PRICE_WITHIN_S = 3.0  # after subscribing; then something was lost
KEEP_QUOTES_S = 60.0  # a contract is watched this long after it was last held

USER_STREAMS = ("SubscribeOrders", "SubscribePositions", "SubscribeTrades")

Batch = tuple[Event, ...]
Send = Callable[[Batch], Awaitable[None]]
Serve = Callable[[HubConnection], Awaitable[None]]


@define
class Listener:
    """One hub, and how to come back to it. ``send`` takes batches of events, each what one read of the socket gave."""

    hub: Hub
    url: str
    token: Token
    clock: WallClock
    random: Random
    send: Send
    dial: Dial | None = None
    up: bool = False
    _attempt: int = 0
    _hurry: trio.Event = field(factory=trio.Event)
    _leave: trio.Event = field(factory=trio.Event)

    def hurry(self) -> None:
        """Cut the present pause short: there is reason to think that the hub can be reached."""
        self._hurry.set()

    def reconnect(self) -> None:
        """Give up the present connection, which looks well and is not, and connect anew."""
        self._leave.set()

    async def listen(self, serve: Serve) -> NoReturn:
        """Connect and ``serve`` for ever. There is no last attempt; every loss is told by a LinkDown."""
        while True:
            with trio.move_on_after(delay_s(self._attempt, self.random)):
                await self._hurry.wait()
            self._hurry, self._leave = trio.Event(), trio.Event()
            began = trio.current_time()
            reason = await self._listen_once(serve)
            self.up = False
            self._attempt = 0 if trio.current_time() - began >= STABLE_S else self._attempt + 1
            await self.send((LinkDown(self.clock.now(), self.hub, reason),))

    async def tell_up(self, *events: Event) -> None:
        """Tell that the hub is connected and subscribed, followed by ``events``."""
        self.up = True
        await self.send((LinkUp(self.clock.now(), self.hub), *events))

    async def _listen_once(self, serve: Serve) -> str:
        """Serve one connection and return why it ended."""
        reason = "connecting anew"
        try:
            async with (
                open_hub(self.url, token=self.token.current, dial=self.dial) as connection,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(self._leave_when_asked, nursery.cancel_scope)
                await serve(connection)
        except* HubRefused as refused:
            reason = _first(refused)
            await self._renew_token()
        except* (HubError, FlatguardError, trio.TooSlowError) as lost:
            reason = _first(lost) or "subscribing took too long"
        return reason

    async def _renew_token(self) -> None:
        """The upgrade was refused: perhaps the token is not good any more. The next attempt takes a new one."""
        try:
            await self.token.renewed(await self.token.current())
        except FlatguardError:
            pass  # the next attempt says why

    async def _leave_when_asked(self, scope: trio.CancelScope) -> None:
        await self._leave.wait()
        scope.cancel()

    def events(self, invocations: Iterable[Invocation]) -> Batch:
        """Return what the hub's messages say, received now."""
        at = self.clock.now()
        return tuple(event for i in invocations for event in events_in(self.hub, i.target, i.arguments, at))


def _first(group: BaseExceptionGroup[Exception]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)


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
        with trio.fail_after(SUBSCRIBE_S):
            await hub.invoke("SubscribeAccounts")
            for account_id in self.accounts:
                for stream in USER_STREAMS:
                    await hub.invoke(stream, account_id)
        photograph: list[Event] = []
        held: list[Event] = []
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as holding:
                holding.deadline = trio.current_time() + PHOTOGRAPH_S
                nursery.start_soon(self._photograph_into, photograph, holding)  # noqa: ASYNC111  harmless when late
                while True:
                    held += self.listener.events(await hub.receive())
            in_time = bool(photograph)
            await self.listener.tell_up(*photograph, *held)
            while True:
                await self.listener.send(self.listener.events(await hub.receive()))
                if not in_time and photograph:
                    in_time = True
                    await self.listener.send(tuple(photograph))

    async def _photograph_into(self, photograph: list[Event], holding: trio.CancelScope) -> None:
        photograph += await self.photograph()
        holding.cancel()


@define
class MarketHub:
    """Quotes of the contracts that are held or have working orders, and no others: they come forty a second.

    Only the first quote after subscribing is full. A contract that is still without a price some seconds later is
    therefore subscribed anew.
    """

    listener: Listener
    wanted: frozenset[ContractId] = frozenset()
    unpriced: frozenset[ContractId] = frozenset()
    _changed: trio.Event = field(factory=trio.Event)
    _quiet_for: float = QUIET_MARKET_S

    def watch(self, contracts: frozenset[ContractId], unpriced: frozenset[ContractId] = frozenset()) -> None:
        """Want the quotes of exactly ``contracts``, ``unpriced`` of which nobody has a price for yet.

        Those no longer named are kept for a minute.
        """
        if (contracts, unpriced) != (self.wanted, self.unpriced):
            self.wanted, self.unpriced = contracts, unpriced
            changed, self._changed = self._changed, trio.Event()
            changed.set()

    async def listen(self) -> NoReturn:
        """Listen for ever. A stream that tells nothing of contracts that are wanted is given up and opened anew."""
        await self.listener.listen(self._serve)

    async def _serve(self, hub: HubConnection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._subscribe, hub)
            await self.listener.tell_up()
            while True:
                limit = self._quiet_for if self.wanted else float("inf")
                with trio.move_on_after(limit) as waiting:
                    batch = self.listener.events(await hub.receive())
                    self._quiet_for = QUIET_MARKET_S
                    await self.listener.send(batch)
                if waiting.cancelled_caught and self.wanted:
                    self._quiet_for = min(self._quiet_for * 2, QUIET_MARKET_MOST_S)  # a closed market is quiet too
                    raise HubError(f"no quote for {limit:.0f} s")

    async def _subscribe(self, hub: HubConnection) -> None:
        """Keep the hub's subscriptions equal to what is wanted, for ever."""
        wanted_at: dict[ContractId, float] = {}
        subscribed_at: dict[ContractId, float] = {}
        while True:
            changed = self._changed
            now = trio.current_time()
            wanted_at.update(dict.fromkeys(self.wanted, now))
            without_price = {c for c in self.unpriced if now - subscribed_at.get(c, now) >= PRICE_WITHIN_S}
            for contract_id in sorted(without_price | {c for c, at in wanted_at.items() if now - at >= KEEP_QUOTES_S}):
                await hub.invoke("UnsubscribeContractQuotes", contract_id)
                del subscribed_at[contract_id]
                if contract_id not in self.wanted:
                    del wanted_at[contract_id]
            for contract_id in sorted(wanted_at.keys() - subscribed_at.keys()):
                await hub.invoke("SubscribeContractQuotes", contract_id)
                subscribed_at[contract_id] = trio.current_time()
            with trio.move_on_after(PRICE_WITHIN_S if self.unpriced else KEEP_QUOTES_S):
                await changed.wait()
