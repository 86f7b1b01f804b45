"""One HTTP POST without a body over a stream of ours; all the HTTP that a SignalR client needs.

It dials as the WebSocket does, so what holds for that (certificates, streams in memory) holds here. A cancel closes the
stream, and nothing is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

import h11
import trio
from attrs import field, frozen

from flatguard.signalr_client.errors import HubUnreachable
from flatguard.signalr_client.socket import Dial

MAX_BODY_BYTES = 1024 * 1024
READ_BYTES = 16 * 1024


@frozen
class Reply:
    """What the server answered. ``cookies`` is what it set, by name, without the attributes."""

    status: int
    body: bytes = field(repr=False)
    cookies: Mapping[str, str] = field(repr=False)


async def post(url: str, headers: Mapping[str, str], dial: Dial) -> Reply:
    """POST to an http or https URL and return the answer, whatever its status.

    Returns when the answer is complete, always by way of a checkpoint. Raises HubUnreachable where none comes. If
    cancelled, the connection is closed; the server may have seen the request.
    """
    parts = urlsplit(url)
    request = _request(parts, headers)
    scheme = {"http": "ws", "https": "wss"}[parts.scheme]
    try:
        stream = await dial(parts._replace(scheme=scheme, query="", fragment="").geturl())
    except (OSError, trio.BrokenResourceError) as error:
        why = str(error) or str(error.__cause__ or "the line broke")  # a refused certificate is in the cause
        raise HubUnreachable(f"cannot connect to {parts.hostname}: {why}") from None
    try:
        return await _exchange(stream, request)
    except h11.RemoteProtocolError:
        raise HubUnreachable("what answered the negotiation does not speak HTTP") from None
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        raise HubUnreachable("the line broke during the negotiation") from None
    finally:
        await trio.aclose_forcefully(stream)


def _request(parts: SplitResult, headers: Mapping[str, str]) -> h11.Request:
    try:
        return h11.Request(
            method="POST",
            target=parts._replace(scheme="", netloc="", path=parts.path or "/", fragment="").geturl(),
            headers=[
                ("Host", parts.netloc.rpartition("@")[2]),
                ("Content-Length", "0"),
                ("Connection", "close"),
                # With it, a server that keeps sessions in cookies answers 401 and leads to no page to log in at.
                ("X-Requested-With", "XMLHttpRequest"),
                *headers.items(),
            ],
        )
    except (h11.LocalProtocolError, UnicodeError):
        pass  # neither is quoted: they hold the token
    raise HubUnreachable("the URL or a header cannot be written")


async def _exchange(stream: trio.abc.Stream, request: h11.Request) -> Reply:
    connection = h11.Connection(h11.CLIENT)
    await stream.send_all((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    status, body, cookies = 0, bytearray(), dict[str, str]()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(READ_BYTES)))
            case h11.Response() as response:
                status = response.status_code
                set_by = (value for name, value in response.headers if name == b"set-cookie" and value.isascii())
                cookies = dict(_cookie(value) for value in set_by)
            case h11.Data(data=data):
                body += data
                if len(body) > MAX_BODY_BYTES:
                    raise HubUnreachable("the answer to the negotiation is too long")
            case h11.EndOfMessage():
                return Reply(status, bytes(body), cookies)


def _cookie(header: bytes) -> tuple[str, str]:
    name, _, value = header.decode("ascii").partition(";")[0].partition("=")
    return name.strip(), value.strip()
