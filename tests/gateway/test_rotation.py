"""When a hub is led over to a newer token: in a quiet moment, in time all the same, and never both at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, cast

import trio
from attrs import define, field

from flatguard.gateway.rotation import APART_S, LAST_CALL, LOOK_S, rotate_hubs
from flatguard.gateway.token import REFRESH_AHEAD, Token
from flatguard.signalr_client import Phase
from flatguard.signalr_client.reconnect import LinkState
from tests.fakes.clock import TrioClock
from tests.fakes.memory_gateway import START
from tests.gateway.test_token import HOUR, Broker

DAY = timedelta(hours=24)


@define
class Hub:
    """A hub that connects at once and takes the present token; both listener and link, as far as rotation looks."""

    token: Token
    left: list[float] = field(factory=list)
    token_ends_at: datetime | None = None
    phase: Phase = Phase.CONNECTED
    since: float = 0.0

    @property
    def link(self) -> Hub:
        return self

    @property
    def state(self) -> LinkState:
        return LinkState(self.phase, self.since)

    def reconnect(self) -> None:
        self.left.append(trio.current_time() - BEGAN[0])
        self.since, self.token_ends_at = trio.current_time(), self.token.expires_at


BEGAN = [0.0]


async def rotating(nursery: trio.Nursery, quiet: Any) -> tuple[Hub, Hub]:
    """Return a market and a user hub that have connected with a token of a day, which is kept fresh."""
    BEGAN[0] = trio.current_time()
    clock = TrioClock(START)
    token = Broker(clock).token()
    await token.current()
    hubs = Hub(token), Hub(token)
    for hub in hubs:
        hub.token_ends_at, hub.since = token.expires_at, trio.current_time()
    nursery.start_soon(token.keep_fresh)
    nursery.start_soon(rotate_hubs, token, cast(Any, hubs), clock, quiet)
    return hubs


async def test_in_a_quiet_hour_both_go_soon_after_the_refresh_one_after_the_other(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    market, user = await rotating(nursery, lambda: True)
    await trio.sleep(23 * HOUR)
    refreshed = (DAY - REFRESH_AHEAD).total_seconds()
    assert refreshed <= market.left[0] <= refreshed + LOOK_S
    assert market.left[0] + APART_S <= user.left[0] <= market.left[0] + APART_S + LOOK_S
    assert len(market.left) == len(user.left) == 1
    await trio.sleep(22 * HOUR)
    assert len(market.left) == len(user.left) == 2


async def test_a_quiet_moment_is_waited_for(autojump_clock: trio.abc.Clock, nursery: trio.Nursery) -> None:
    busy = [True]
    market, user = await rotating(nursery, lambda: not busy[0])
    await trio.sleep(23 * HOUR)
    assert market.left == user.left == []
    busy[0] = False
    await trio.sleep(LOOK_S + 1)
    assert len(market.left) == 1


async def test_where_no_moment_is_quiet_it_is_done_before_the_old_token_ends(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    market, user = await rotating(nursery, lambda: False)
    await trio.sleep(25 * HOUR)
    last_call = (DAY - LAST_CALL).total_seconds()
    assert last_call <= market.left[0] < user.left[0] < DAY.total_seconds()


async def test_none_leaves_while_one_is_away_or_has_just_come(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    market, user = await rotating(nursery, lambda: True)
    market.phase = Phase.RECONNECTING
    await trio.sleep(23 * HOUR)
    assert market.left == user.left == []
    market.phase, market.since = Phase.CONNECTED, trio.current_time()
    await trio.sleep(APART_S - 1)
    assert market.left == []
    await trio.sleep(LOOK_S + 1)
    assert len(market.left) == 1


async def test_a_hub_that_came_back_by_itself_with_the_new_token_is_let_be(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    busy = [True]
    market, user = await rotating(nursery, lambda: not busy[0])
    await trio.sleep(23 * HOUR)
    market.token_ends_at = market.token.expires_at
    busy[0] = False
    await trio.sleep(HOUR)
    assert (market.left, len(user.left)) == ([], 1)
