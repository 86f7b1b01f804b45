"""Let each hub connect anew with the present token before the one that it came with is over.

A hub keeps the token of its connection; nobody says whether the broker hangs up when that is over. Rather than find
out in the middle of a trade, each hub is led over in a quiet moment, one after the other, while the old token is still
good. Where no moment is quiet, it is done in time all the same. What happens meanwhile is read by REST, as after every
reconnection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import NoReturn

import trio

from flatguard.clock import WallClock
from flatguard.gateway.listen import Listener
from flatguard.gateway.token import LONGEST_SLEEP_S, REFRESH_AHEAD, Token
from flatguard.signalr_client import Phase

LAST_CALL = timedelta(minutes=10)
"""So long before the end of its token a hub is led over whether it is quiet or not."""

APART_S = 60.0
"""What lies between two hubs at least, and between two tries of one: both are up for so long before one leaves."""

LOOK_S = 15.0
"""How often it is looked whether the moment is quiet, once a hub is due."""


async def rotate_hubs(
    token: Token, listeners: Sequence[Listener], clock: WallClock, quiet: Callable[[], bool]
) -> NoReturn:
    """Lead the ``listeners`` over in their order whenever there is a newer token, for ever.

    A hub is left only while all of them are connected. One that the broker closes by itself connects ordinarily, and
    is not due any more. A cancel leaves every hub as it is.
    """
    while True:
        due = next((listener for listener in listeners if _due(listener, token, clock)), None)
        if due is not None and _may_leave(due, listeners, clock, quiet):
            due.link.reconnect()
        if due is not None:
            await trio.sleep(LOOK_S)
        else:
            with trio.move_on_after(LONGEST_SLEEP_S):
                await token.wait_changed()


def _due(listener: Listener, token: Token, clock: WallClock) -> bool:
    """Whether a hub came with another token than the present one, which ends before long."""
    ends = listener.token_ends_at
    return (
        ends is not None
        and token.expires_at is not None
        and ends < token.expires_at
        and clock.now() >= ends - REFRESH_AHEAD
    )


def _may_leave(due: Listener, listeners: Sequence[Listener], clock: WallClock, quiet: Callable[[], bool]) -> bool:
    now = trio.current_time()
    states = [listener.link.state for listener in listeners]
    if any(state.phase is not Phase.CONNECTED or now - state.since < APART_S for state in states):
        return False
    assert due.token_ends_at is not None
    return quiet() or clock.now() >= due.token_ends_at - LAST_CALL
