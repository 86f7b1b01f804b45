"""The only module that knows httpx. It sends one POST and returns the answer, or says how it failed.

httpx 0.28 loses a connection of its pool for good when a cancel lands while a request is being connected or queued
(encode/httpcore#1093). So no cancel ever reaches it: a request runs shielded, bounded by the library's own time limits
and, since those have no total, by a hard cap. When the cap or the pool's limit fires the client is replaced.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
import trio
from attrs import define, field, frozen

from flatguard import __version__
from flatguard.errors import FlatguardError

CONNECTIONS = 16
CONNECT_S = 4.0
READ_S = 5.0
HARD_CAP_S = 12.0  # more than connect, write, read and pool together

TransportFactory = Callable[[], httpx.AsyncBaseTransport]


class NotSent(FlatguardError):
    """No connection could be made: the request cannot have been carried out."""

    exit_status = 5


class NoAnswer(FlatguardError):
    """The request may have left, and no usable answer came: whether it was carried out is unknown."""

    exit_status = 5


@frozen
class Answer:
    """An HTTP answer. ``date`` is the service's clock, to the second; ``retry_after_s`` what a 429 asked for."""

    status: int
    body: bytes = field(repr=False)
    date: datetime | None
    retry_after_s: float | None


@define
class HttpClient:
    """One warm client for one purpose. ``requests`` bounds how many run at once, below the pool's limit."""

    base_url: str
    transport: TransportFactory | None = None
    replaced: int = 0
    _client: httpx.AsyncClient | None = None
    _tls: ssl.SSLContext | None = None
    _gate: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(CONNECTIONS - 2))

    async def post(self, path: str, content: str, headers: Mapping[str, str]) -> Answer:
        """Send ``content`` as JSON and return the answer, whatever its status.

        Raises NotSent where no connection could be made, NoAnswer where the request may have been carried out. Checks
        for cancellation before it sends; from then on the request runs to its end, ``HARD_CAP_S`` at most.
        """
        async with self._gate:
            client = self._client if self._client is not None else self._open()
            with trio.move_on_after(HARD_CAP_S, shield=True):
                return await self._send(client, path, content, headers)
            await self._replace(client)
            raise NoAnswer("no answer in time")

    async def aclose(self) -> None:
        """Close the connections. Shielded, bounded to two seconds."""
        client, self._client = self._client, None
        if client is not None:
            with trio.move_on_after(2, shield=True):
                await client.aclose()

    async def _send(self, client: httpx.AsyncClient, path: str, content: str, headers: Mapping[str, str]) -> Answer:
        try:
            reply = await client.post(path, content=content.encode(), headers=headers)
        except httpx.PoolTimeout:
            await self._replace(client)
            raise NotSent("no free connection") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise NotSent(f"no connection to the gateway ({_why(error)})") from None
        except httpx.HTTPError as error:
            raise NoAnswer(f"no answer from the gateway ({_why(error)})") from None
        return Answer(
            reply.status_code,
            reply.content,
            _date(reply.headers.get("date")),
            _retry_after(reply.headers.get("retry-after"), _date(reply.headers.get("date"))),
        )

    def _open(self) -> httpx.AsyncClient:
        if self._tls is None:
            self._tls = httpx.create_ssl_context()
        self._client = httpx.AsyncClient(
            base_url=self.base_url,
            transport=self.transport() if self.transport is not None else None,
            verify=self._tls,
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S, pool=3),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            headers={"user-agent": f"flatguard/{__version__}", "accept": "application/json"},
        )
        return self._client

    async def _replace(self, client: httpx.AsyncClient) -> None:
        if client is self._client:
            self.replaced += 1
            await self.aclose()


def _why(error: Exception) -> str:
    """Name a transport failure without its text, which may quote an address with a token in it."""
    return type(error).__name__


def _date(header: str | None) -> datetime | None:
    if header is None:
        return None
    try:
        return parsedate_to_datetime(header).astimezone(UTC)
    except ValueError:
        return None


def _retry_after(header: str | None, now: datetime | None) -> float | None:
    """Read seconds, or a date, which is compared with the service's own clock."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    until = _date(header)
    return None if until is None or now is None else max(0.0, (until - now).total_seconds())
