"""Session tokens: JWTs signed with HS256, as the gateway issues them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

from attrs import define, field

_NAME_IDENTIFIER = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"
_ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


@define
class Tokens:
    """Issues and checks tokens.

    A new login leaves earlier tokens alone; a logout ends just the one that it bears.
    """

    rng: random.Random
    life: timedelta
    _secret: bytes = field(init=False)
    _ended: set[str] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        self._secret = self.rng.randbytes(32)

    def issue(self, user: str, now: datetime) -> str:
        """Return a token for ``user``, good for ``life`` from ``now``."""
        claims = {
            _NAME_IDENTIFIER: "600001",
            "sid": f"{self.rng.getrandbits(128):032x}",
            "name": user,
            _ROLE: ["user", "market:tob"],
            "msd": "CMEGROUP_TOB",
            "mfa": "verified",
            "exp": int((now + self.life).timestamp()),
        }
        head = _encode(json.dumps({"alg": "HS256", "typ": "JWT"}, separators=(",", ":")).encode())
        body = _encode(json.dumps(claims, separators=(",", ":")).encode())
        return f"{head}.{body}.{self._sign(f'{head}.{body}')}"

    def user_of(self, token: str, now: datetime) -> str | None:
        """Return whose token this is; None if it is malformed, forged, expired or logged out."""
        signed, _, signature = token.rpartition(".")
        if token in self._ended or not hmac.compare_digest(signature.encode(), self._sign(signed).encode()):
            return None
        claims = _claims(token)
        return str(claims["name"]) if now.timestamp() < claims["exp"] else None

    def expiry_of(self, token: str) -> datetime:
        """Return when a token of ours expires."""
        return datetime.fromtimestamp(_claims(token)["exp"], UTC)

    def end(self, token: str) -> None:
        """Log out."""
        self._ended.add(token)

    def _sign(self, text: str) -> str:
        return _encode(hmac.digest(self._secret, text.encode(), hashlib.sha256))


def _claims(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(_decode(token.split(".")[1]))
    return claims


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
