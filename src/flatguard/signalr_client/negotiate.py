"""Negotiation: ask by HTTP where to connect, and with which id. Every attempt to connect begins anew with it.

A server may send us on, with another token; both hold for this attempt only. What it answers beside what we look for is
passed over, and so are transports that nobody here has heard of.
"""

from __future__ import annotations

from attrs import evolve, frozen

from flatguard.signalr import RemoteProtocolError
from flatguard.signalr.framing import read_json
from flatguard.signalr_client.address import Address
from flatguard.signalr_client.errors import HubRefused, HubUnreachable
from flatguard.signalr_client.post import Reply, post
from flatguard.signalr_client.socket import Dial

MAX_REQUESTS = 100
"""As many as the official clients send before they take it for a circle."""

_MEANING = {
    401: "the token is not accepted",
    403: "the token does not entitle to this hub",
    404: "there is no hub at this address",
}


@frozen
class Negotiated:
    """Where to connect. ``connection_id`` names the connection in the server's books, and is no secret."""

    address: Address
    connection_id: str | None


@frozen
class _Redirect:
    url: str
    token: str | None


@frozen
class _Accepted:
    id: str
    connection_id: str


async def negotiate(address: Address, dial: Dial) -> Negotiated:
    """Ask the server where to connect, and follow where it leads.

    Returns when a server has accepted, always by way of a checkpoint. Raises HubRefused where one says no, with the
    HTTP status or in words, and HubUnreachable where there is no usable answer. If cancelled, nothing is left open.
    """
    for _ in range(MAX_REQUESTS):
        reply = await post(address.negotiation_url(), address.headers(), dial)
        address = evolve(address, cookies={**address.cookies, **reply.cookies})
        match _read(reply):
            case _Redirect(url=url, token=token):
                address = address.redirected(url, token)
            case _Accepted(id=id_, connection_id=connection_id):
                return Negotiated(evolve(address, id=id_), connection_id)
    raise HubUnreachable(f"the server sent us on {MAX_REQUESTS} times")


def _read(reply: Reply) -> _Redirect | _Accepted:
    if reply.status != 200:
        meaning = _MEANING.get(reply.status)
        because = "" if meaning is None else f": {meaning}"
        raise HubRefused(f"the server answered HTTP {reply.status} to the negotiation{because}", status=reply.status)
    try:
        answer = read_json(reply.body)
    except RemoteProtocolError as error:
        raise HubUnreachable(f"the answer to the negotiation cannot be read: {error}") from None
    if answer.get("error"):
        raise HubRefused(f"the server refused the negotiation: {answer['error']}")
    if answer.get("url"):
        token = answer.get("accessToken") or None
        return _Redirect(_text(answer["url"], "url"), None if token is None else _text(token, "accessToken"))
    if "ProtocolVersion" in answer:
        raise HubUnreachable("the server speaks the SignalR of before ASP.NET Core, which is another protocol")
    if answer.get("useStatefulReconnect") is True:
        raise HubUnreachable("the server expects a stateful reconnection, which nobody asked for")
    if not _offers_websockets(answer.get("availableTransports")):
        raise HubUnreachable("the server offers no WebSocket for text messages")
    connection_id = _text(answer.get("connectionId"), "connectionId")
    if not answer.get("negotiateVersion"):
        return _Accepted(connection_id, connection_id)
    return _Accepted(_text(answer.get("connectionToken"), "connectionToken"), connection_id)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise HubUnreachable(f"the answer to the negotiation has no {name}")
    return value


def _offers_websockets(transports: object) -> bool:
    return isinstance(transports, list) and any(
        isinstance(offer, dict)
        and offer.get("transport") == "WebSockets"
        and isinstance(formats := offer.get("transferFormats"), list)
        and "Text" in formats
        for offer in transports
    )
