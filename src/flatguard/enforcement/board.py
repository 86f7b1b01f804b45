"""The newest state of every account, for those beside the pipeline, and a bell that rings when one moves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import trio

from flatguard.enforcement.under_way import UnderWay
from flatguard.model.account import AccountState
from flatguard.model.ids import AccountId


class Board:
    """States by account. The pipeline writes; enforcement, status and the live view read."""

    def __init__(self, states: Mapping[AccountId, AccountState]) -> None:
        self._states = dict(states)
        self._bells = {account_id: trio.Event() for account_id in states}
        self._desks: dict[AccountId, Callable[[], UnderWay | None]] = {}

    @property
    def states(self) -> Mapping[AccountId, AccountState]:
        """The newest states, read-only."""
        return MappingProxyType(self._states)

    def under_way(self, account_id: AccountId) -> UnderWay | None:
        """Return what enforcement is at on an account now; None where nothing is wanted of it."""
        desk = self._desks.get(account_id)
        return None if desk is None else desk()

    def seat(self, account_id: AccountId, under_way: Callable[[], UnderWay | None]) -> None:
        """Take note of whom to ask what is under way on an account."""
        self._desks[account_id] = under_way

    def post(self, state: AccountState) -> None:
        """Replace an account's state without ringing."""
        self._states[state.id] = state

    def ring(self, account_id: AccountId) -> None:
        """Wake whoever waits for this account."""
        bell, self._bells[account_id] = self._bells[account_id], trio.Event()
        bell.set()

    async def wait_ring(self, account_id: AccountId) -> None:
        """Return when the account's bell rings next. A cancel leaves nothing behind."""
        await self._bells[account_id].wait()


async def stirred(until: float, *waits: Callable[[], Awaitable[None]]) -> bool:
    """Return True once the first of ``waits`` has ended; False at ``until``, in Trio's time."""
    with trio.move_on_at(until) as waited:
        async with trio.open_nursery() as nursery:

            async def first(wait: Callable[[], Awaitable[None]]) -> None:
                await wait()
                nursery.cancel_scope.cancel()

            for wait in waits:
                nursery.start_soon(first, wait)
    return not waited.cancelled_caught
