"""Keep the picture of every account true: read it by REST at start, after every connection, and on a timer.

The hubs tell changes, not states, and never repeat what a broken connection missed. So the picture is read while all
looks well too; faster while the user hub is down, at once when something arrived that could not be understood, and at
the end of a lockout, which needs the broker's clock. The pace scales with the number of accounts, since all of a login
share one allowance.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta

import trio
from attrs import define

from flatguard.clock import WallClock
from flatguard.daemon.pipeline import contracts_of
from flatguard.enforcement.board import Board
from flatguard.errors import FlatguardError
from flatguard.gateway.rest import Gateway
from flatguard.ledger.reconcile import merge_positions
from flatguard.ledger.trading_day import trading_day
from flatguard.model.account import AccountState
from flatguard.model.events import ContractLearned, Event, ExposureRead, Hub, ReadingFailed, RecordRead
from flatguard.model.ids import AccountId, ContractId

READ_EVERY_S = 5.0
READ_EVERY_BLIND_S = 2.5
READ_SOON_S = (1.0, 1.0, 2.0, 4.0)  # after the last reading, where something is to be cleared up
REQUESTS_A_READING = 4
REQUESTS_A_MINUTE = 100.0  # what readings may take of the allowance, all accounts together
OVERLAP = timedelta(minutes=5)  # fills are asked for from a little before the last complete reading, then kept by id
JUST_READ = timedelta(seconds=2)
CLOCKS_AGREE = timedelta(seconds=1)  # the broker's answers tell whole seconds
LEARN_S = 2.0  # a contract can wait for the next reading; what was read of the account cannot wait for a contract
HUB_LAG_S = 2.0  # by then the hub has told what a reading shows


def seconds_a_round(accounts: int) -> float:
    """Return how long it takes to read all accounts of a login once, at the pace that the allowance permits."""
    return accounts * REQUESTS_A_READING * 60.0 / REQUESTS_A_MINUTE


Send = Callable[[tuple[Event, ...]], Awaitable[None]]


@define
class Pictures:
    """Reads the accounts of one login.

    ``exposures`` reads over the connection that enforcement uses, which keeps it warm. ``on_frozen`` is called when a
    hub that looks well has failed to tell a change, ``on_answer`` when the broker answers again.
    """

    records: Gateway
    exposures: Gateway
    board: Board
    clock: WallClock
    on_frozen: Callable[[], None]
    on_answer: Callable[[], None]

    async def keep(self, account_id: AccountId, send: Send) -> None:
        """Read one account whenever it is due, for ever. Failures are events; the next reading comes all the same."""
        in_vain = 0
        while True:
            began = trio.current_time()
            unread = self.board.states[account_id].read_failed is not None
            events = await self.read(account_id)
            hidden = self._not_told_by_hub(account_id, events)
            await send(events)
            if unread and any(isinstance(event, ExposureRead | RecordRead) for event in events):
                self.on_answer()
            if hidden:
                await trio.sleep(HUB_LAG_S)
                seen = self.board.states[account_id].seen
                if any(seen.get(c) is None or seen[c] < since for c, since in hidden.items()):
                    self.on_frozen()
            in_vain = in_vain + 1 if await self._due(account_id, began, in_vain) else 0

    async def read(self, account_id: AccountId) -> tuple[Event, ...]:
        """Read one account now and return what was read, contracts not known yet first. Never raises for the broker."""
        state = self.board.states[account_id]
        read: list[Event] = []
        wanted = set(contracts_of(state))
        failure: FlatguardError | None = None
        try:
            record = await self.records.read_record(account_id, self._record_since(state))
            wanted.update(trade.contract_id for trade in record.trades)
            read.append(record)
        except FlatguardError as error:
            failure = error
        try:
            if not self._just_read(account_id):
                exposure = await self.exposures.read_exposure(account_id)
                wanted.update(position.contract_id for position in exposure.positions)
                wanted.update(order.contract_id for order in exposure.orders)
                read.append(exposure)
        except FlatguardError as error:
            failure = error
        if failure is not None:
            read.append(ReadingFailed(self.clock.now(), account_id, str(failure)))
        return (*await self._learn(wanted - state.contracts.keys()), *read)

    def _just_read(self, account_id: AccountId) -> bool:
        """Whether enforcement, which reads for itself, has done so a moment ago and found nothing to doubt."""
        state = self.board.states[account_id]
        if state.exposure_at is None or not state.links[Hub.USER].up or state.doubt is not None:
            return False
        return self.clock.now() - state.exposure_at < JUST_READ

    async def _learn(self, contract_ids: AbstractSet[ContractId]) -> list[Event]:
        learned: list[Event] = []
        with trio.move_on_after(LEARN_S):
            for contract_id in sorted(contract_ids):
                try:
                    contract = await self.records.contract(contract_id)
                except FlatguardError:
                    continue  # counted by its root meanwhile; the next reading asks again
                learned.append(ContractLearned(self.clock.now(), contract))
        return learned

    def _record_since(self, state: AccountState) -> datetime:
        today = trading_day(self.clock.now() - state.clock_ahead, state.terms)
        if state.record_at is None:
            return today.starts_at
        return max(today.starts_at, state.record_at - OVERLAP)

    def _not_told_by_hub(self, account_id: AccountId, events: tuple[Event, ...]) -> dict[ContractId, datetime]:
        """Return the contracts whose position a reading changes although the user hub is up, and when it was begun."""
        state = self.board.states[account_id]
        if not state.links[Hub.USER].up or not state.pictured:
            return {}
        changed: dict[ContractId, datetime] = {}
        for event in events:
            if isinstance(event, ExposureRead):
                after = merge_positions(state, event).positions
                for contract_id in state.positions.keys() | after.keys():
                    before_size = state.positions[contract_id].size if contract_id in state.positions else 0
                    after_size = after[contract_id].size if contract_id in after else 0
                    if before_size != after_size:
                        changed[contract_id] = event.began_at - timedelta(seconds=HUB_LAG_S)
        return changed

    async def _due(self, account_id: AccountId, began: float, in_vain: int) -> bool:
        """Return when the account has to be read again: whether that is to clear something up.

        ``in_vain`` readings in a row did not. Each further one waits longer, until the usual pace: what cannot be
        cleared up must not use up the allowance, or no reading at all would come through.
        """
        pace = seconds_a_round(len(self.board.states))
        while True:
            state, now = self.board.states[account_id], self.clock.now()
            every = READ_EVERY_S if state.links[Hub.USER].up else READ_EVERY_BLIND_S
            wait = began + max(every, pace) - trio.current_time()
            unclear = self._unclear(state, now)
            if unclear and in_vain < len(READ_SOON_S):
                wait = min(wait, began + READ_SOON_S[in_vain] - trio.current_time())
            for lock in state.lockouts:
                if lock.until is not None and now < lock.until + CLOCKS_AGREE:
                    wait = min(wait, (lock.until + CLOCKS_AGREE - now).total_seconds())
            if wait <= 0:
                return unclear
            with trio.move_on_after(wait):
                await self.board.wait_ring(account_id)

    def _unclear(self, state: AccountState, now: datetime) -> bool:
        """Whether a reading would tell more: what is in doubt, a contract, or whether a lock is over by the broker."""
        if state.doubt is not None or contracts_of(state) - state.contracts.keys():
            return True
        ended = (lock for lock in state.lockouts if lock.until is not None and lock.until + CLOCKS_AGREE <= now)
        return any(lock.holds(now, state.broker_seen) for lock in ended)
