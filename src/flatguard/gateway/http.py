"""The only module that knows httpx. It sends one request and returns the answer, or says how it failed.

Connections are kept warm. TLS is verified, against the bundle of SSL_CERT_FILE or SSL_CERT_DIR where one is set;
proxies are those of HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

httpx 0.28 loses a connection of its pool for good when a cancel lands while a request is being connected or queued
(encode/httpcore#1093). So no cancel ever reaches it: a request runs shielded, bounded by the library's own time limits
and, since those have no total, by a hard cap. When the cap or the pool's limit fires, the client is replaced; the old
one is closed when its last request has ended.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf

import httpx
import trio
from attrs import define, field, frozen

from flatguard import __version__
from flatguard.errors import GatewayUnreachable
from flatguard.secret import Secret

CONNECTIONS = 16
CONNECT_S = 4.0
READ_S = 5.0
HARD_CAP_S = 12.0  # for everything; each single step stalls within its own limit, so this one cuts what drips
CLOSE_S = 2.0
KEEP_WARM_S = 30.0  # well past the period of the readings that keep a connection warm for enforcement, and well short
# of what servers and routers on the way put up with

_SECONDS = re.compile(r" *[0-9]{1,9} *")

Text = str | Secret
TransportFactory = Callable[[], httpx.AsyncBaseTransport]


class NotSent(GatewayUnreachable):
    """No connection could be made: the request cannot have been carried out."""


class NoAnswer(GatewayUnreachable):
    """The request may have left, and no usable answer came: whether it was carried out is unknown."""


@frozen
class Answer:
    """An HTTP answer. ``date`` is the service's clock, to the second; ``retry_after_s`` what a 429 asked for."""

    status: int
    body: bytes = field(repr=False)
    date: datetime | None
    retry_after_s: float | None


@define(eq=False)
class _Warm:
    """A client of the library's, how many requests are on it, and whether another has taken its place."""

    client: httpx.AsyncClient
    requests: int = 0
    replaced: bool = False


@define
class HttpClient:
    """One warm client for one purpose. The gate bounds how many requests run at once, below the pool's limit."""

    base_url: str
    transport: TransportFactory | None = None
    hard_cap_s: float = HARD_CAP_S
    replaced: int = 0
    _tls: ssl.SSLContext | None = None
    _warm: _Warm | None = field(default=None, init=False)
    _end_by: float = field(default=inf, init=False)
    _under_way: set[trio.CancelScope] = field(factory=set, init=False)
    _gate: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(CONNECTIONS - 2), init=False)

    async def post(self, path: str, content: Text, headers: Mapping[str, Text]) -> Answer:
        """Send ``content`` as JSON and return the answer, whatever its status.

        Raises NotSent where no connection could be made, NoAnswer where the request may have been carried out. Checks
        for cancellation before it sends; from then on the request runs to its end, ``hard_cap_s`` at most.
        """
        return await self._request("POST", path, content, headers)

    async def get(self, path: str) -> Answer:
        """Fetch a path; otherwise as ``post``."""
        return await self._request("GET", path, "", {})

    async def _request(self, method: str, path: str, content: Text, headers: Mapping[str, Text]) -> Answer:
        async with self._gate:
            warm = self._warm if self._warm is not None else self._open()
            warm.requests += 1
            request = trio.CancelScope(shield=True)
            request.deadline = min(trio.current_time() + self.hard_cap_s, self._end_by)
            self._under_way.add(request)
            try:
                with request:
                    return await self._send(warm, method, path, content, headers)
                self._replace(warm)
                raise NoAnswer("no complete answer in time")
            finally:
                self._under_way.discard(request)
                warm.requests -= 1
                if warm.replaced and not warm.requests:
                    with trio.move_on_after(CLOSE_S, shield=True):
                        await warm.client.aclose()

    def end_within(self, seconds: float) -> None:
        """Cut off what is under way, and what is still to come, ``seconds`` from now: the daemon stops."""
        self._end_by = trio.current_time() + seconds
        for request in self._under_way:
            request.deadline = min(request.deadline, self._end_by)

    async def aclose(self) -> None:
        """Close the connections. Shielded, bounded to two seconds."""
        warm, self._warm = self._warm, None
        if warm is not None:
            with trio.move_on_after(CLOSE_S, shield=True):
                await warm.client.aclose()

    async def _send(self, warm: _Warm, method: str, path: str, content: Text, headers: Mapping[str, Text]) -> Answer:
        try:
            reply = await warm.client.request(
                method,
                path,
                content=_revealed(content).encode(),
                headers={name: _revealed(text) for name, text in headers.items()},
            )
        except httpx.PoolTimeout:
            self._replace(warm)
            raise NotSent("no free connection") from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:  # the last: it made no tunnel
            raise NotSent(f"no connection to the gateway ({_why(error)})") from None
        except httpx.HTTPError as error:
            raise NoAnswer(f"no answer from the gateway ({_why(error)})") from None
        date = _date(reply.headers.get("date"))
        return Answer(reply.status_code, reply.content, date, _retry_after(reply.headers.get("retry-after"), date))

    def _open(self) -> _Warm:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
        client = httpx.AsyncClient(
            base_url=self.base_url,
            transport=self.transport() if self.transport is not None else None,
            verify=self._tls,
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S, pool=3),
            limits=httpx.Limits(
                max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=KEEP_WARM_S
            ),
            headers={"user-agent": f"flatguard/{__version__}", "accept": "application/json"},
        )
        self._warm = _Warm(client)
        return self._warm

    def _replace(self, warm: _Warm) -> None:
        warm.replaced = True
        if warm is self._warm:
            self._warm = None
            self.replaced += 1


def _revealed(text: Text) -> str:
    return text.reveal() if isinstance(text, Secret) else text


def _why(error: Exception) -> str:
    """Name a transport failure without its text, which may quote an address with a token in it."""
    return type(error).__name__


def _date(header: str | None) -> datetime | None:
    """Read an HTTP date. One without a zone, or with that of nowhere (-0000), is UTC, not the time of this machine."""
    try:
        date = parsedate_to_datetime(header or "")
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _retry_after(header: str | None, now: datetime | None) -> float | None:
    """Read seconds, or a date, which is compared with the service's own clock."""
    if header is not None and _SECONDS.fullmatch(header):
        return float(header)
    until = _date(header)
    return None if until is None or now is None else max(0.0, (until - now).total_seconds())
