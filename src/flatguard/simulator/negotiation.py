"""What negotiating hands out: ids that open one WebSocket each, and passes that are good for one attempt.

An id is the address of a connection that does not exist yet. It waits a short while for its WebSocket, and
afterwards opens nothing any more, so a client that comes back has to negotiate anew. A pass is the token of a
redirect: it takes the place of the login's own token for the rest of the attempt, and of no other.
"""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from attrs import define, field, frozen

ID_LIFE = timedelta(seconds=15)
"""How long an id waits for its WebSocket, and a pass for the next request: what ASP.NET Core grants an id."""
NEWEST_VERSION = 1
_INT32_MAX = 2**31 - 1


class Refusal(Exception):
    """There is nothing to connect to, and the text of the answer says why. It comes with HTTP 200."""


class UpgradeRefused(Exception):
    """There will be no WebSocket; ``status`` is the answer to the upgrade."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


@frozen
class Bearer:
    """Whom a good token belongs to, and until when it is good."""

    user: str
    expiry: datetime


@frozen
class _Pass:
    bearer: Bearer
    hub: str
    negotiates: bool
    """Whether it has yet to negotiate; it may also go straight to the WebSocket."""
    until: datetime


def version_of(asked: str | None) -> int:
    """Return the version on which to settle with a client that asked for this one. Raises ``Refusal``."""
    number = "0" if asked is None else asked.strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", number) or abs(int(number)) > _INT32_MAX:
        raise Refusal(f"The client requested an invalid protocol version '{asked}'")
    if int(number) < 0:
        raise Refusal(f"The client requested version '{int(number)}', but the server does not support this version.")
    return min(int(number), NEWEST_VERSION)


@define
class Negotiations:
    """The ids and passes of one gateway, both hubs."""

    rng: random.Random
    _waiting: dict[str, tuple[str, datetime]] = field(factory=dict)
    """By id: the hub, and until when it may be connected."""
    _open: dict[str, str] = field(factory=dict)
    """By id: the hub whose WebSocket is open."""
    _passes: dict[str, _Pass] = field(factory=dict)

    def offer(self, hub: str, version: int, now: datetime) -> dict[str, object]:
        """Return the answer to a client that may connect; from version 1 on, id and token are two things."""
        self._forget_old(now)
        public = self._random_text(16)
        names: dict[str, object] = {"connectionId": public}
        secret = public
        if version > 0:
            secret = names["connectionToken"] = self._random_text(16)
        self._waiting[secret] = (hub, now + ID_LIFE)
        websockets = {"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}
        return {"negotiateVersion": version, **names, "availableTransports": [websockets]}

    @contextmanager
    def connected(self, secret: str | None, hub: str, now: datetime) -> Iterator[None]:
        """Hold the place of an id while its WebSocket is open; without an id there is nothing to hold.

        Raises ``UpgradeRefused``: 409 if its WebSocket is open, 404 if the id was never given out for this
        hub or is used up.
        """
        self._forget_old(now)
        if not secret:
            yield
            return
        if self._open.get(secret) == hub:
            raise UpgradeRefused(409)
        if self._waiting.get(secret, ("", now))[0] != hub:
            raise UpgradeRefused(404)
        del self._waiting[secret]
        self._open[secret] = hub
        try:
            yield
        finally:
            del self._open[secret]

    # --- passes ---

    def redirect(self, bearer: Bearer, hub: str, now: datetime) -> str:
        """Return a pass with which to negotiate once more."""
        token = self._random_text(48)
        self._passes[token] = _Pass(bearer, hub, negotiates=True, until=now + ID_LIFE)
        return token

    def spend(self, token: str, hub: str, now: datetime, *, upgrades: bool) -> Bearer | None:
        """Use up a pass, for negotiating or for the upgrade; None if this is not one that is good for it.

        After negotiating, ``renew`` makes it good for the upgrade.
        """
        self._forget_old(now)
        held = self._passes.get(token)
        if held is None or held.hub != hub or not (upgrades or held.negotiates):
            return None
        del self._passes[token]
        return held.bearer

    def renew(self, token: str, bearer: Bearer, hub: str, now: datetime) -> None:
        """Let a pass that has negotiated open its WebSocket."""
        self._passes[token] = _Pass(bearer, hub, negotiates=False, until=now + ID_LIFE)

    def _forget_old(self, now: datetime) -> None:
        self._waiting = {key: held for key, held in self._waiting.items() if now < held[1]}
        self._passes = {key: held for key, held in self._passes.items() if now < held.until}

    def _random_text(self, size: int) -> str:
        return base64.urlsafe_b64encode(self.rng.randbytes(size)).rstrip(b"=").decode()
