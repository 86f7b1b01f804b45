"""The two SignalR hubs: who is connected, what each has subscribed to, and how connections live and die.

A connection gets what happens while it is subscribed, and nothing else: no snapshot, no replay, and its
subscriptions end with it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import trio
from attrs import define, field, frozen
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from flatguard.signalr import (
    Close,
    Completion,
    Connection,
    HandshakeAccepted,
    HandshakeRefused,
    HandshakeRequest,
    Invocation,
    LocalProtocolError,
    Message,
    Ping,
    RemoteProtocolError,
    Role,
    State,
    StreamInvocation,
)
from flatguard.simulator.faults import ENDS_CONNECTIONS
from flatguard.simulator.negotiation import Bearer, Refusal, UpgradeRefused, version_of
from flatguard.simulator.outbox import Event
from flatguard.simulator.rest import bearer_token, json_response
from flatguard.simulator.wire import HUSH, SPEAK, TEAR, Tear

if TYPE_CHECKING:
    from flatguard.simulator.app import Gateway

MAX_MESSAGE_BYTES = 32 * 1024 - 1
"""What ASP.NET Core accepts per hub message: 32 KiB with its separator."""

_UNSENT_MAX = 20_000
"""Messages that may wait for a slow client; a market second of many contracts is some hundreds."""
_GLUED_MAX = 50
"""Hub messages in one WebSocket message, at most; under load the original glues them too."""
_NEWEST_VERSION = 2
"""Of the hub protocol. A client asks for 2 when it means to resume connections, which nobody is offered here."""
_OLD_VERSION_GRACE_S = 2
_HANDSHAKE_CANCELED = "Handshake was canceled."
_NO_HANDSHAKE = "An unexpected error occurred during connection handshake."


@frozen
class _Method:
    event: str
    reads: type[int] | type[str] | None
    """The type of its one argument; None if it takes none."""


_USER_METHODS = {
    "Accounts": _Method("GatewayUserAccount", None),
    "Orders": _Method("GatewayUserOrder", int),
    "Positions": _Method("GatewayUserPosition", int),
    "Trades": _Method("GatewayUserTrade", int),
}
_MARKET_METHODS = {
    "ContractQuotes": _Method("GatewayQuote", str),
    "ContractTrades": _Method("GatewayTrade", str),
    "ContractMarketDepth": _Method("GatewayDepth", str),
}
_STREAMS: Mapping[str, Mapping[str, _Method]] = MappingProxyType({"user": _USER_METHODS, "market": _MARKET_METHODS})
METHODS: Mapping[str, Mapping[str, tuple[bool, _Method]]] = MappingProxyType(
    {
        hub: MappingProxyType(
            {
                f"{verb}{name}".lower(): (verb == "subscribe", method)
                for name, method in streams.items()
                for verb in ("subscribe", "unsubscribe")
            }
        )
        for hub, streams in _STREAMS.items()
    }
)
"""By hub and by the name in lower case, since the case does not count: whether it adds, and to what."""


class _Refused(Exception):
    """A call of the client fails; the text goes back as the completion's error."""


@define(eq=False)
class Client:
    """One connection to a hub. Whoever wants to say something posts it; one task writes."""

    gateway: Gateway
    hub: str
    user: str
    to_send: trio.MemorySendChannel[Message]
    connection: Connection = field(factory=partial(Connection, Role.SERVER, max_message_bytes=MAX_MESSAGE_BYTES))
    subscriptions: dict[tuple[str, int | str | None], bool] = field(factory=dict)
    """What it subscribed to; the value tells whether something has been sent."""
    pinged: bool = False
    ending: trio.Event = field(factory=trio.Event)
    """Set when the socket is to go without a farewell."""
    ended: str = ""
    """Why it ends, in the words of the log of requests; the first reason counts."""

    def deliver(self, event: Event) -> None:
        """Send an event if this client subscribed to it."""
        subscription = self._subscription(event)
        if subscription is None:
            return
        first = not self.subscriptions[subscription]
        arguments = event.first if first and event.first is not None else event.arguments
        faults = self.gateway.world.faults
        if arguments is None or (faults.any and faults.strikes("freeze_hub", self.hub, self.gateway.now())):
            return
        self.subscriptions[subscription] = True
        self.post(Invocation(event.name, arguments))

    def _subscription(self, event: Event) -> tuple[str, int | str | None] | None:
        if (event.name, event.key) in self.subscriptions:
            return event.name, event.key
        if (event.name, None) in self.subscriptions and self._owns(event.key):
            return event.name, None
        return None

    def _owns(self, account_id: int | str | None) -> bool:
        book = self.gateway.world.books.get(account_id) if isinstance(account_id, int) else None
        return book is not None and book.user == self.user

    def post(self, message: Message) -> None:
        """Have ``message`` sent; a client that does not read loses its connection in the end."""
        try:
            self.to_send.send_nowait(message)
        except trio.WouldBlock:
            self.ends_for("the client did not read")
            self.ending.set()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it is leaving already

    def ends_for(self, reason: str) -> None:
        """Note why this connection ends, unless that is known already."""
        self.ended = self.ended or reason

    def end_by(self, fault_name: str) -> None:
        """End this connection in the way of ``cut_hub``, ``close_hub`` or ``logout_hub``."""
        self.ends_for(fault_name)
        if fault_name == "cut_hub":
            self.ending.set()
            return
        if fault_name == "logout_hub":
            self.post(Invocation("GatewayLogout", ("This session was logged out.",)))
        self.post(Close(allow_reconnect=fault_name == "close_hub"))

    def expire(self, at: datetime) -> None:
        """End this connection because its token has expired at ``at``, unless it is gone."""
        if self in self.gateway.clients:
            self.end_by("logout_hub")

    # --- calls ---

    def call(self, message: Invocation | StreamInvocation) -> None:
        """Carry out a call of the client and complete it, if it wants an answer."""
        error = None
        try:
            self._call(message)
        except _Refused as refusal:
            error = str(refusal)
        if message.invocation_id is None:
            return
        if error is None:
            self.post(Completion(message.invocation_id, result=None))
        else:
            self.post(Completion(message.invocation_id, error=error))

    def _call(self, message: Invocation | StreamInvocation) -> None:
        name = message.target
        known = METHODS[self.hub].get(name.lower())
        if known is None:
            raise _Refused(f"Unknown hub method '{name}'")
        adds, method = known
        if isinstance(message, StreamInvocation):
            raise _Refused(
                f"The client attempted to invoke the non-streaming '{name}' method with a streaming invocation."
            )
        key = self._argument(method, message)
        subscription = (method.event, key)
        world, now = self.gateway.world, self.gateway.now()
        if adds and subscription not in self.subscriptions:
            self.subscriptions[subscription] = False
            if isinstance(key, str):
                world.watch(key, now, method.event)
        elif not adds and self.subscriptions.pop(subscription, None) is not None and isinstance(key, str):
            world.unwatch(key, method.event)
        self.gateway.stir()

    def _argument(self, method: _Method, message: Invocation) -> int | str | None:
        if method.reads is None and not message.arguments:
            return None
        if method.reads is not None and len(message.arguments) == 1:
            value = message.arguments[0]
            if method.reads is int and type(value) is int and self._owns(value):
                return value
            if method.reads is str and isinstance(value, str) and self.gateway.world.listing.get(value) is not None:
                return value
        raise _Refused(f"Failed to invoke '{message.target}' due to an error on the server.")

    def leave(self) -> None:
        """Forget everything; called when the connection has ended."""
        if self in self.gateway.clients:
            self.gateway.clients.remove(self)
        for event, key in self.subscriptions:
            if isinstance(key, str):
                self.gateway.world.unwatch(key, event)
        self.subscriptions.clear()


# --- the way in ---


def routes(gateway: Gateway) -> Iterable[BaseRoute]:
    """Return the routes of both hubs."""
    for hub in METHODS:
        yield WebSocketRoute(f"/hubs/{hub}", partial(_upgrade, gateway, hub))
        yield Route(f"/hubs/{hub}/negotiate", partial(_negotiate, gateway, hub), methods=["POST"])


def _query(request: HTTPConnection, name: str) -> str | None:
    """Return a parameter of the query; as in ASP.NET Core, the case of its name does not count."""
    return next((value for key, value in request.query_params.items() if key.lower() == name.lower()), None)


def _token(request: HTTPConnection) -> str:
    return _query(request, "access_token") or bearer_token(request)


def _bearer(gateway: Gateway, hub: str, token: str, *, upgrades: bool) -> Bearer | None:
    """Return who comes with this token: a login's own, or the pass of a redirect; None if it is not good."""
    now = gateway.now()
    user = gateway.tokens.user_of(token, now)
    if user is None:
        return gateway.negotiations.spend(token, hub, now, upgrades=upgrades)
    return Bearer(user.lower(), gateway.tokens.expiry_of(token))


async def _negotiate(gateway: Gateway, hub: str, request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    entry = gateway.note_request(request.method, request.url.path)
    token = _token(request)
    entry["ms"] = 0
    bearer = _bearer(gateway, hub, token, upgrades=False)
    if bearer is None:
        entry["outcome"]["status"] = 401
        return Response(status_code=401)
    entry["user"] = bearer.user
    entry["outcome"]["status"] = 200
    try:
        return json_response(_negotiated(gateway, hub, request, token, bearer, entry["outcome"]))
    except Refusal as refusal:
        entry["outcome"]["error"] = str(refusal)
        return json_response({"error": str(refusal)})


def _negotiated(
    gateway: Gateway, hub: str, request: Request, token: str, bearer: Bearer, outcome: dict[str, object]
) -> dict[str, object]:
    faults, negotiations, now = gateway.world.faults, gateway.negotiations, gateway.now()
    version = version_of(_query(request, "negotiateVersion"))
    if faults.strikes("refuse_negotiation", hub, now):
        outcome["fault"] = "refuse_negotiation"
        raise Refusal("This hub does not negotiate at the moment.")
    if faults.strikes("redirect_negotiation", hub, now):
        outcome["fault"] = "redirect_negotiation"
        here = request.url.replace(path=f"/hubs/{hub}", query="")
        return {"url": str(here), "accessToken": negotiations.redirect(bearer, hub, now)}
    if gateway.tokens.user_of(token, now) is None:
        negotiations.renew(token, bearer, hub, now)
    return negotiations.offer(hub, version, now)


async def _upgrade(gateway: Gateway, hub: str, websocket: WebSocket) -> None:
    entry = gateway.note_request("GET", websocket.url.path)
    bearer = _bearer(gateway, hub, _token(websocket), upgrades=True)
    try:
        if bearer is None:
            raise UpgradeRefused(401)
        entry["user"] = bearer.user
        if gateway.world.faults.strikes("refuse_hub", hub, gateway.now()):
            entry["outcome"]["fault"] = "refuse_hub"
            raise UpgradeRefused(503)
        with gateway.negotiations.connected(_query(websocket, "id"), hub, gateway.now()):
            entry["outcome"]["status"] = 101
            await websocket.accept()
            await _serve(gateway, hub, bearer, websocket, entry["outcome"])
    except UpgradeRefused as refused:
        entry["outcome"]["status"] = refused.status
        await websocket.send_denial_response(Response(status_code=refused.status))


async def _serve(gateway: Gateway, hub: str, bearer: Bearer, websocket: WebSocket, outcome: dict[str, object]) -> None:
    """Serve one connection from its handshake to its end, and add to its outcome why it ended."""
    to_send, posted = trio.open_memory_channel[Message](_UNSENT_MAX)
    client = Client(gateway, hub, bearer.user, to_send)
    faults = gateway.world.faults
    websocket.scope[HUSH](lambda: faults.any and faults.in_force("silence_hub", hub, gateway.now()))
    if gateway.world.options.close_hub_on_expiry:
        gateway.world.schedule(bearer.expiry, client.expire)
        gateway.stir()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tear_when_told, client, websocket.scope[TEAR])
            nursery.start_soon(_read, client, websocket, nursery)
            await _write(client, websocket, posted)
            nursery.cancel_scope.cancel()
    finally:
        client.leave()
        outcome["ended"] = client.ended or "the double stopped"


async def _read(client: Client, websocket: WebSocket, nursery: trio.Nursery) -> None:
    """Read until the client leaves, falls silent or breaks the protocol; then let the writer end."""
    await trio.lowlevel.checkpoint()
    with client.to_send:
        error = None
        try:
            if await _converse(client, websocket, nursery):
                return
            client.ends_for("the client fell silent")
        except RemoteProtocolError:
            client.ends_for("the client could not be understood")
            error = "Connection closed with an error."
        except WebSocketDisconnect:
            client.ends_for("the client was gone")
            return
        if client in client.gateway.clients:
            client.post(Close(error=error, allow_reconnect=True))
        else:
            client.post(HandshakeRefused(_NO_HANDSHAKE if error else _HANDSHAKE_CANCELED))


async def _converse(client: Client, websocket: WebSocket, nursery: trio.Nursery) -> bool:
    """Answer what the client says. Returns True if it has left, False if it has fallen silent.

    Raises ``RemoteProtocolError`` and ``WebSocketDisconnect``.
    """
    options = client.gateway.world.options
    deadline = trio.current_time() + options.hub_handshake_timeout_s
    while True:
        with trio.move_on_at(deadline) as waiting:
            data = await _receive(websocket)
        if waiting.cancelled_caught:
            return False
        messages = client.connection.receive(data)
        for message in messages:
            if isinstance(message, HandshakeRequest):
                if not await _shake_hands(client, message, nursery):
                    client.ends_for("the handshake failed")
                    return True
            elif isinstance(message, Close):
                client.ends_for("the client said Close")
                client.post(Close())
                return True
            elif isinstance(message, Ping):
                client.pinged = True
            elif isinstance(message, (Invocation, StreamInvocation)):
                client.call(message)
        if client.connection.state is State.FAULTY:
            client.connection.receive(b"")
        if messages:  # a piece of one, or an empty frame, is no sign of life
            deadline = trio.current_time() + options.hub_client_timeout_s if client.pinged else math.inf


async def _receive(websocket: WebSocket) -> str | bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    data: str | bytes = message.get("text") or message.get("bytes") or b""
    return data


async def _shake_hands(client: Client, request: HandshakeRequest, nursery: trio.Nursery) -> bool:
    await trio.lowlevel.checkpoint()
    if request.protocol != "json":
        client.post(HandshakeRefused(f"The protocol '{request.protocol}' is not supported."))
        return False
    if request.version > _NEWEST_VERSION:
        client.post(HandshakeRefused(f"The server does not support version {request.version} of the 'json' protocol."))
        return False
    if request.version < 1:
        await trio.sleep(_OLD_VERSION_GRACE_S)
        client.ending.set()
        return False
    client.post(HandshakeAccepted())
    gateway = client.gateway
    if gateway.world.options.one_session:
        for older in gateway.clients:
            if (older.hub, older.user) == (client.hub, client.user):
                older.end_by("logout_hub")
    gateway.clients.append(client)
    nursery.start_soon(_ping, client)
    for name in sorted(ENDS_CONNECTIONS):
        if gateway.world.faults.strikes(name, client.hub, gateway.now()):
            client.end_by(name)
    return True


async def _ping(client: Client) -> None:
    while True:
        await trio.sleep(client.gateway.world.options.hub_ping_s)
        client.post(Ping())


async def _write(client: Client, websocket: WebSocket, posted: trio.MemoryReceiveChannel[Message]) -> None:
    """Send what is posted, in order, until nothing more can come or Close has been said; then hang up."""
    async with posted:
        async for message in posted:
            batch = [message, *_waiting(posted)]
            if text := "".join(_spoken(client, batch)):
                await websocket.scope[SPEAK](text)
            if any(isinstance(message, (Close, HandshakeRefused)) for message in batch):
                break
    await websocket.close()


def _waiting(posted: trio.MemoryReceiveChannel[Message]) -> Iterator[Message]:
    """Yield what else is posted already, within reason: it leaves in the same WebSocket message."""
    try:
        for _ in range(_GLUED_MAX - 1):
            yield posted.receive_nowait()
    except (trio.WouldBlock, trio.EndOfChannel):
        pass


def _spoken(client: Client, batch: Iterable[Message]) -> Iterator[str]:
    """Yield the text of each message that may be said now."""
    faults, gateway = client.gateway.world.faults, client.gateway
    for message in batch:
        if not faults.any or faults.strikes("silence_hub", client.hub, gateway.now()) is None:
            try:
                yield client.connection.send(message)
            except LocalProtocolError:
                pass  # said too late, or before the handshake


async def _tear_when_told(client: Client, tear: Tear) -> None:
    await client.ending.wait()
    await tear()
