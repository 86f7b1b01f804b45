"""The session token: get it, keep it fresh, hand it out.

It lives for about a day. A new one is fetched well ahead, by validating the old one, else by logging in; meanwhile
callers keep the one that still works. Only ``exp`` is read from it, and where that cannot be read a day is assumed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import trio
from attrs import define, field

from flatguard.clock import WallClock
from flatguard.errors import FlatguardError, LoginRefused

ASSUMED_LIFE = timedelta(hours=24)
REFRESH_AHEAD = timedelta(hours=2)
RETRY_PAUSES_S = (1.0, 5.0, 15.0, 60.0)


@define
class Token:
    """The token of one login. ``log_in`` and ``validate`` fetch a new one; the text of neither is ever shown."""

    log_in: Callable[[], Awaitable[str]]
    validate: Callable[[str], Awaitable[str]]
    clock: WallClock
    expires_at: datetime | None = None
    _text: str = field(default="", repr=False)
    _lock: trio.Lock = field(factory=trio.Lock, repr=False)

    async def current(self) -> str:
        """Return a token that is valid by our clock, logging in where there is none.

        Raises LoginRefused where the broker does not want us, GatewayUnreachable where it does not answer.
        """
        if self.expires_at is None or self.clock.now() >= self.expires_at:
            return await self.renewed(self._text)
        return self._text

    async def renewed(self, refused: str) -> str:
        """Return a token other than ``refused``: one that somebody else fetched meanwhile, else from a new login."""
        async with self._lock:
            if self._text == refused:
                self._keep(await self.log_in())
            return self._text

    async def keep_fresh(self) -> None:
        """Replace the token ahead of its end, for ever. A refused login is retried too: a person may mend it."""
        tries = 0
        while True:
            old = self._text
            await trio.sleep(self._seconds_until_refresh() if tries == 0 else _pause(tries))
            tries = 0 if await self._refreshed(old) else tries + 1

    async def _refreshed(self, old: str) -> bool:
        """Return whether there is a token other than ``old`` now; somebody else may have fetched it meanwhile."""
        async with self._lock:
            try:
                if self._text == old:
                    self._keep(await self._validated() or await self.log_in())
            except FlatguardError:
                return False
            return True

    async def _validated(self) -> str:
        """Return what the broker gives for the token in hand; empty where that is no new one."""
        if not self._text:
            return ""
        try:
            text = await self.validate(self._text)
        except FlatguardError:
            return ""  # a login may do where this did not
        return "" if text == self._text else text

    def _keep(self, text: str) -> None:
        now, expiry = self.clock.now(), _expiry(text)
        self._text = text
        # one that is over on arrival says that our clock is wrong, not that it has to be replaced at once
        self.expires_at = expiry if expiry is not None and expiry > now else now + ASSUMED_LIFE

    def _seconds_until_refresh(self) -> float:
        if self.expires_at is None:
            return 0.0
        left = self.expires_at - self.clock.now()
        return max(1.0, max(left - REFRESH_AHEAD, left / 2).total_seconds())


def _pause(tries: int) -> float:
    return RETRY_PAUSES_S[min(tries, len(RETRY_PAUSES_S)) - 1]


def _expiry(token: str) -> datetime | None:
    """Read ``exp`` from a JWT without checking its signature, which is the broker's business."""
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return datetime.fromtimestamp(int(claims["exp"]), UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError):
        return None


NOT_BY_KEY = "log in with an API key; flatguard sends nothing else"
LOGIN_REFUSALS = {
    1: ("the user name is not known", "check gateway.user_name; it is the platform's login name"),
    2: ("the password was not accepted", NOT_BY_KEY),
    3: ("the user name or the API key is wrong", "check gateway.user_name and the key"),
    4: ("the application is not known", NOT_BY_KEY),
    5: ("the application was not accepted", NOT_BY_KEY),
    6: ("the device was not accepted", NOT_BY_KEY),
    7: ("the platform's agreements are not signed", "log in to the platform once and accept them"),
    9: ("there is no API subscription", "subscribe to API access, then link it to this user"),
    10: ("API key login is switched off by the firm", "ask the firm to allow it"),
}
"""The documented codes that only a person can mend, why, and how. 8 is an unknown error, which passes."""


def login_refused(code: int, text: str) -> LoginRefused:
    """Make the error of a login that the broker refused with ``code``, one of LOGIN_REFUSALS, in words of its own."""
    reason, hint = LOGIN_REFUSALS[code]
    return LoginRefused(f"the gateway refused the login: {reason}{text and f' ({text})'}", hint=hint)
