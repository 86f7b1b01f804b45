"""Ask again where a routine call failed, and stop asking for a while where that does not help.

For calls that can wait: contracts, bars, searches of the past. Not for readings of the picture, which are repeated on
their own timer; never for the token or for enforcement.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import trio
from attrs import define, field

from flatguard.errors import GatewayUnreachable
from flatguard.gateway.breaker import Breaker
from flatguard.gateway.verdict import ReadingRefused, TooManyRequests

ATTEMPTS = 5
BASE_S = 1.0  # doubled with each attempt
LONGEST_S = 60.0

T = TypeVar("T")


class NotAsked(GatewayUnreachable):
    """The breaker is open: the gateway has failed too often, and is left alone for a while."""


def pause_s(failures: int, chance: Random, asked_s: float | None = None) -> float:
    """Return how long to wait after so many failures: anything up to the bound, but not less than was asked for."""
    drawn_s = chance.uniform(0.0, min(LONGEST_S, BASE_S * 2 ** (failures - 1)))
    return drawn_s if asked_s is None else max(drawn_s, asked_s)


@define
class Patience:
    """How the routine calls of one login are repeated; they share one breaker."""

    random: Random = field(repr=False)
    breaker: Breaker = field(factory=Breaker)

    async def ask(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what ``call`` returns, calling up to five times while the gateway does not answer or is too busy.

        Raises what the last call raised, NotAsked where the breaker is open. Checkpoints as ``call`` does; a cancel
        ends it between two calls or within one.
        """
        failures = 0
        while True:
            try:
                return await self._once(call)
            except NotAsked:
                raise
            except GatewayUnreachable as error:
                failures += 1
                asked_s = error.retry_after_s if isinstance(error, TooManyRequests) else None
                if failures == ATTEMPTS or (asked_s is not None and asked_s > LONGEST_S):
                    raise
            await trio.sleep(pause_s(failures, self.random, asked_s))

    async def _once(self, call: Callable[[], Awaitable[T]]) -> T:
        ticket = self.breaker.admit(trio.current_time())
        if ticket is None:
            await trio.lowlevel.checkpoint()
            raise NotAsked("the gateway failed too often", hint="it is asked again within 5 minutes")
        try:
            answer = await call()
        except ReadingRefused:
            self.breaker.succeeded(ticket)
            raise
        except TooManyRequests:
            self.breaker.told_nothing(ticket)
            raise
        except GatewayUnreachable:
            self.breaker.failed(ticket, trio.current_time())
            raise
        except BaseException:
            self.breaker.told_nothing(ticket)
            raise
        self.breaker.succeeded(ticket)
        return answer
