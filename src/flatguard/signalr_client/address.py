"""Where a hub is, and with what one may enter: URLs, headers and the token that stands in one of them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Flag, auto
from urllib.parse import SplitResult, quote, urlsplit

from attrs import evolve, field, frozen

from flatguard.signalr_client.errors import HubUnreachable

_HEADER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_VISIBLE = re.compile(r"[!-~]+")
_WEBSOCKET = {"http": "ws", "https": "wss"}
_HTTP = {"ws": "http", "wss": "https"}


class TokenIn(Flag):
    """Where a server looks for the token: in the Authorization header, or in ``access_token`` of the query."""

    HEADER = auto()
    QUERY = auto()


@frozen
class Address:
    """A hub, as one attempt to connect sees it. Its repr shows neither token nor id nor cookie."""

    hub: str
    """The URL of the hub, without anything of ours: http or ws, with or without TLS."""

    token: str | None = field(default=None, repr=False)
    token_in: TokenIn = TokenIn.HEADER
    id: str | None = field(default=None, repr=False)
    """What negotiation gave us for the WebSocket; None without negotiation."""

    cookies: Mapping[str, str] = field(factory=dict, repr=False)
    """What the server set during negotiation: a load balancer finds the way back by it."""

    @property
    def encrypted(self) -> bool:
        """Whether the line is under TLS."""
        return urlsplit(self.hub).scheme in {"https", "wss"}

    def socket_url(self) -> str:
        """Return the URL of the WebSocket, with id and token where they belong."""
        parts = urlsplit(self.hub)
        scheme = _WEBSOCKET.get(parts.scheme, parts.scheme)
        return _url(parts, scheme, parts.path, [_parameter("id", self.id), self._in_query()])

    def negotiation_url(self) -> str:
        """Return the URL to negotiate at: ``/negotiate`` behind the path, and the query kept."""
        parts = urlsplit(self.hub)
        asked = any(pair.partition("=")[0] == "negotiateVersion" for pair in parts.query.split("&"))
        version = None if asked else _parameter("negotiateVersion", "1")
        path = f"{parts.path.removesuffix('/')}/negotiate"
        return _url(parts, _HTTP.get(parts.scheme, parts.scheme), path, [version, self._in_query()])

    def headers(self) -> dict[str, str]:
        """Return the headers of ours for negotiation and upgrade.

        Raises HubUnreachable where the token stands in the header alone and no header can hold it.
        """
        headers = (
            {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        )
        if self.token is not None and TokenIn.HEADER in self.token_in:
            if _HEADER_TOKEN.fullmatch(self.token):
                headers["Authorization"] = f"Bearer {self.token}"
            elif TokenIn.QUERY not in self.token_in:
                raise HubUnreachable("the token has characters that no header can hold")
        return headers

    def redirected(self, url: str, token: str | None) -> Address:
        """Return where a redirect leads. A new token takes the place of ours, for this attempt only.

        Raises HubUnreachable for what is no URL of a server, and where it would take the token out of TLS.
        """
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").encode("idna")  # as whoever dials will do, who would not blame the server
            leads_somewhere = parts.scheme in {"http", "https"} and bool(host) and parts.port != 0
        except ValueError:
            leads_somewhere = False
        if not leads_somewhere or not _VISIBLE.fullmatch(url):
            raise HubUnreachable("the server sent us on to something that is no http URL")
        there = Address(url, token or self.token, self.token_in)
        if self.encrypted and not there.encrypted:
            raise HubUnreachable("the server sent us on to a line without TLS")
        same_host = parts.netloc == urlsplit(self.hub).netloc
        return evolve(there, cookies=self.cookies) if same_host else there

    def _in_query(self) -> str | None:
        return _parameter("access_token", self.token) if TokenIn.QUERY in self.token_in else None


def _parameter(name: str, value: str | None) -> str | None:
    return None if value is None else f"{name}={quote(value, safe='', errors='replace')}"


def _url(parts: SplitResult, scheme: str, path: str, parameters: list[str | None]) -> str:
    query = "&".join(part for part in [parts.query, *parameters] if part)
    return parts._replace(scheme=scheme, path=path, query=query, fragment="").geturl()
