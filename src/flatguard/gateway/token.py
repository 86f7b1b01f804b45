"""The session token: get it, keep it fresh, hand it out.

It lives for about a day. A new one is fetched well ahead, by validating the old one, else by logging in; meanwhile
callers keep the one that still works. Only ``exp`` is read from it, and where that cannot be read a day is assumed.

Whoever needs another token waits for the one attempt that is under way, and shares its success and its failure: so a
hundred callers whose token was refused cost one login, and none of them waits longer than WAIT_S. A login that the
broker refuses is not asked for again for a while, whoever wants it: only a person can mend it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from math import inf

import trio
from attrs import define, field, frozen

from flatguard.clock import WallClock
from flatguard.errors import FlatguardError, GatewayUnreachable, LoginRefused
from flatguard.secret import Secret

ASSUMED_LIFE = timedelta(hours=24)
REFRESH_AHEAD = timedelta(hours=2)
RETRY_PAUSES_S = (1.0, 5.0, 15.0, 60.0)
REFUSED_PAUSE_S = 300.0  # a person has to mend it; knocking more often mends nothing, and may lock the login out
WAIT_S = 5.0  # what a request waits for a token at most, enforcement's too
LOGINS_APART_S = 10.0  # a gateway that turns every request away must not be logged in to with each
LONGEST_SLEEP_S = 300.0  # a wall clock may be set, and a machine may sleep; the moment is looked at again


class Phase(StrEnum):
    """How we stand with the broker's door."""

    EXPIRED = "expired"
    """There is no token that is good by our clock: none yet, or it is over."""

    VALID = "valid"

    REFRESHING = "refreshing"
    """Another one is being fetched, or is due and could not be had yet; the one in hand is still good."""

    LOGIN_REFUSED = "LOGIN_REFUSED"
    """The broker does not let us in again. What we hold may still be good; a person has to mend it before its end."""


@frozen
class TokenState:
    """The token as others see it. ``expires_at`` is the end of the one in hand, ``reason`` why there is no other."""

    phase: Phase
    expires_at: datetime | None = None
    reason: str = ""

    def __str__(self) -> str:
        word = "since" if self.phase is Phase.EXPIRED else "until"
        end = f" {word} {self.expires_at:%Y-%m-%dT%H:%M:%SZ}" if self.expires_at is not None else ""
        return f"{self.phase}{end}" + (f": {self.reason}" if self.reason else "")


@define(eq=False)
class _Attempt:
    """One attempt to get a token, and why it failed, for all who wait for it."""

    ended: trio.Event = field(factory=trio.Event)
    failure: FlatguardError | None = None


@define
class Token:
    """The token of one login. ``log_in`` and ``validate`` fetch a new one; each ends within WAIT_S.

    ``stored`` is one of an earlier run, to be validated instead of the first login. ``tell`` takes a sentence for the
    operator when a login is refused although there was a token, and when it is accepted again.
    """

    log_in: Callable[[], Awaitable[Secret]]
    validate: Callable[[Secret], Awaitable[Secret]]
    clock: WallClock
    tell: Callable[[str], None] = field(default=lambda sentence: None)
    stored: Secret | None = None
    expires_at: datetime | None = field(default=None, init=False)
    refresh_at: datetime | None = field(default=None, init=False)
    _secret: Secret | None = field(default=None, init=False)
    _attempt: _Attempt | None = field(default=None, init=False)
    _changed: trio.Event = field(factory=trio.Event, init=False)
    _late: str = field(default="", init=False)
    _refusal: LoginRefused | None = field(default=None, init=False)
    _refused_at: float = field(default=0.0, init=False)
    _spare_logins_until: float = field(default=-inf, init=False)

    @property
    def state(self) -> TokenState:
        """How it stands at this moment."""
        if self._refusal is not None:
            return TokenState(Phase.LOGIN_REFUSED, self.expires_at, str(self._refusal))
        if not self._good():
            return TokenState(Phase.EXPIRED, self.expires_at, self._late)
        if self._attempt is not None or self._late:
            return TokenState(Phase.REFRESHING, self.expires_at, self._late)
        return TokenState(Phase.VALID, self.expires_at)

    async def current(self) -> Secret:
        """Return a token that is valid by our clock, at once where there is one, else from a login.

        Raises LoginRefused where the broker does not want us, GatewayUnreachable where it does not answer in WAIT_S.
        A checkpoint only where it has to wait. If cancelled, what others wait for goes to one of them.
        """
        if self._secret is not None and self._good():
            return self._secret
        return await self.renewed(self._secret)

    async def renewed(self, refused: Secret | None) -> Secret:
        """Return a token other than ``refused``: one that somebody else fetched meanwhile, else from a new login.

        One that took the place of a refused one a moment ago is returned although it was refused too: so would be the
        next. Otherwise as ``current``.
        """
        with trio.move_on_after(WAIT_S):
            while self._secret is None or (self._secret == refused and trio.current_time() >= self._spare_logins_until):
                if self._attempt is None:
                    await self._try(self._first_or_login)
                    self._spare_logins_until = trio.current_time() + LOGINS_APART_S if refused else -inf
                else:
                    await self._share(self._attempt)
            return self._secret
        raise GatewayUnreachable(f"no token could be had within {WAIT_S:.0f} s")

    async def holds(self, secret: Secret) -> bool:
        """Return whether the broker still knows the session of a token of ours; False only where it says no.

        It need not be the one in hand, which another may have fetched because that session has ended.
        """
        try:
            await self.validate(secret)
        except GatewayUnreachable:
            return True
        except FlatguardError:
            return False
        return True

    async def wait_other_than(self, known: Secret | None) -> Secret:
        """Return the token once it is another than ``known``. If cancelled, nothing is left behind."""
        while self._secret is None or self._secret == known:
            await self._changed.wait()
        return self._secret

    async def wait_changed(self) -> None:
        """Return when the next token is there. If cancelled, nothing is left behind."""
        await self._changed.wait()

    async def keep_fresh(self) -> None:
        """Replace the token ahead of its end, for ever. A refused login is retried too: a person may mend it."""
        tries = 0
        while True:
            await trio.sleep(self._pause_s(tries) if tries else self._seconds_until_refresh())
            if self.refresh_at is not None and self.clock.now() < self.refresh_at:
                tries = 0  # another one came meanwhile, or it is too early still
                continue
            try:
                if self._attempt is None:
                    await self._try(self._refreshed)
                else:
                    await self._share(self._attempt)
                tries = 0
            except FlatguardError:
                tries += 1

    def _pause_s(self, tries: int) -> float:
        return REFUSED_PAUSE_S if self._refusal is not None else RETRY_PAUSES_S[min(tries, len(RETRY_PAUSES_S)) - 1]

    def _seconds_until_refresh(self) -> float:
        if self.refresh_at is None:
            return 0.0
        return min(max((self.refresh_at - self.clock.now()).total_seconds(), 1.0), LONGEST_SLEEP_S)

    def _good(self) -> bool:
        return self.expires_at is not None and self.clock.now() < self.expires_at

    async def _try(self, fetch: Callable[[], Awaitable[Secret]]) -> None:
        """Fetch a token for everybody. A cancel ends the attempt without a verdict, so that another may make it."""
        attempt = self._attempt = _Attempt()
        try:
            self._keep(await fetch())
        except FlatguardError as error:
            attempt.failure, self._late = error, str(error)
            raise
        finally:
            self._attempt = None
            attempt.ended.set()

    async def _share(self, attempt: _Attempt) -> None:
        await attempt.ended.wait()
        if (error := attempt.failure) is not None:
            raise type(error)(str(error), hint=error.hint)  # an exception raised by many would gather their tracebacks

    async def _first_or_login(self) -> Secret:
        """Return the token of an earlier run where the broker says that it is good, else one from a login."""
        if self.stored is not None:
            try:
                secret = await self.validate(self.stored)
            except GatewayUnreachable:
                raise  # it may be good still
            except FlatguardError:
                pass
            else:
                self.stored = None
                return secret
            self.stored = None
        return await self._logged_in()

    async def _refreshed(self) -> Secret:
        """Return what the broker gives for the token in hand, or from a login where that lasts no longer."""
        if self._secret is not None:
            try:
                secret = await self.validate(self._secret)
            except FlatguardError:
                pass  # a login may do where this did not
            else:
                expiry = _expiry(secret)
                if secret != self._secret and (expiry is None or self.expires_at is None or expiry > self.expires_at):
                    return secret
        return await self._logged_in()

    async def _logged_in(self) -> Secret:
        """Log in, unless that was refused a short while ago; then say the same again."""
        if self._refusal is not None and trio.current_time() < self._refused_at + REFUSED_PAUSE_S:
            raise LoginRefused(str(self._refusal), hint=self._refusal.hint)
        try:
            return await self.log_in()
        except LoginRefused as error:
            told = str(self._refusal) if self._refusal is not None else ""
            self._refusal = LoginRefused(str(error), hint=error.hint)
            self._refused_at = trio.current_time()
            if self._secret is not None and str(error) != told:
                self.tell(f"LOGIN_REFUSED: {error}; {error.hint}; {self._what_is_left()}")
            raise

    def _what_is_left(self) -> str:
        until = f"the token in hand is good until {self.expires_at:%H:%M} UTC" if self._good() else "there is no token"
        return f"{until}, and the login is tried every {REFUSED_PAUSE_S / 60:.0f} minutes"

    def _keep(self, secret: Secret) -> None:
        now, expiry = self.clock.now(), _expiry(secret)
        self._secret, self._late = secret, ""
        # one that is over on arrival says that our clock is wrong, not that it has to be replaced at once
        self.expires_at = expiry if expiry is not None and expiry > now else now + ASSUMED_LIFE
        self.refresh_at = self.expires_at - min(REFRESH_AHEAD, (self.expires_at - now) / 2)
        if self._refusal is not None:
            self._refusal = None
            self.tell("the gateway accepts the login again")
        changed, self._changed = self._changed, trio.Event()
        changed.set()


def _expiry(token: Secret) -> datetime | None:
    """Read ``exp`` from a JWT without checking its signature, which is the broker's business."""
    try:
        payload = Secret(token.reveal().split(".")[1])
        claims = json.loads(base64.urlsafe_b64decode(payload.reveal() + "=" * (-len(payload.reveal()) % 4)))
        return datetime.fromtimestamp(int(claims["exp"]), UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError, RecursionError):
        return None
