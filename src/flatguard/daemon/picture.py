"""Keep the picture of every account true: read it by REST at start, after every connection, and on a timer.

The hubs tell changes, not states, and never repeat what a broken connection missed. So what is open is read every few
seconds while all looks well too, and the record (fills and the account's row) every half minute; both are read faster
while the user hub is down, and at once when something does not add up, could not be understood, or at the end of a
lockout, which needs the broker's clock. The pace scales with the number of accounts, since all of a login share one
allowance. What a reading shows and the hub did not tell is named, and is a reason to connect anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from math import inf

import trio
from attrs import define

from flatguard.clock import WallClock
from flatguard.daemon.contracts import Contracts
from flatguard.daemon.pipeline import contracts_of
from flatguard.enforcement.board import Board
from flatguard.errors import FlatguardError
from flatguard.gateway.rest import Gateway
from flatguard.ledger.reconcile import Difference, differences, unsettled_since, with_fills
from flatguard.ledger.trading_day import trading_day
from flatguard.model.account import AccountState
from flatguard.model.events import (
    Event,
    ExposureRead,
    Hub,
    PictureCorrected,
    ReadingFailed,
    RecordRead,
)
from flatguard.model.ids import AccountId

EXPOSURE_EVERY_S = 5.0  # positions and working orders: two requests
RECORD_EVERY_S = 30.0  # fills and the account's row: two more
QUIET_RECORD_EVERY_S = 120.0  # where nothing moved, and many accounts want the allowance
BLIND_EVERY_S = 2.0  # both, while the user hub is down
READ_SOON_S = (1.0, 1.0, 2.0, 4.0)  # after the last reading, where something is to be cleared up
REQUESTS_A_MINUTE = 120.0  # what readings may take of the allowance, all accounts together
OVERLAP = timedelta(minutes=5)  # fills are asked for from a little before the last complete reading, then kept by id
JUST_READ = timedelta(seconds=2)
CLOCKS_AGREE = timedelta(seconds=1)  # the broker's answers tell whole seconds
HUB_LAG_S = 2.0  # by then the hub has told what a reading shows
HUB_LAG = timedelta(seconds=HUB_LAG_S)
ACCUSE_AGAIN_S = 30.0  # lists can be old: a hub is not cut for every one of them


def seconds_a_round(accounts: int, *, blind: bool = False) -> float:
    """Return how often each account of a login can be read, at the pace that the allowance permits, in seconds."""
    requests = 4.0 if blind else 2.0 + 2.0 * EXPOSURE_EVERY_S / RECORD_EVERY_S
    return accounts * requests * 60.0 / REQUESTS_A_MINUTE


def crowded(accounts: int) -> bool:
    """Whether the accounts of a login are so many that they have to share."""
    return seconds_a_round(accounts) > EXPOSURE_EVERY_S


def old_after(accounts: int) -> tuple[timedelta, timedelta]:
    """Return from which age on a reading of what is open, and one of the record, says that there is no picture."""
    exposure_s = 3 * max(EXPOSURE_EVERY_S, seconds_a_round(accounts))
    record_s = (QUIET_RECORD_EVERY_S if crowded(accounts) else RECORD_EVERY_S) + 2 * exposure_s
    return timedelta(seconds=exposure_s), timedelta(seconds=record_s)


Send = Callable[[tuple[Event, ...]], Awaitable[None]]


@define
class Pictures:
    """Reads the accounts of one login.

    ``exposures`` reads over the connection that enforcement uses, which keeps it warm. ``on_frozen`` is called when a
    hub that looks well has failed to tell a change, ``on_answer`` when the broker answers again.
    ``reading_wanted_at`` says when a rule needs a reading to judge an account, beside those that come anyway.
    """

    records: Gateway
    exposures: Gateway
    contracts: Contracts
    board: Board
    clock: WallClock
    on_frozen: Callable[[str], None]
    on_answer: Callable[[], None]
    reading_wanted_at: Callable[[AccountState], datetime | None] = lambda state: None
    accused_at: float = -inf

    async def keep(self, account_id: AccountId, send: Send) -> None:
        """Read one account whenever it is due, for ever. Failures are events; the next reading comes all the same."""
        in_vain = 0
        failing = False
        while True:
            began = trio.current_time()
            state = self.board.states[account_id]
            record = in_vain > 0 or self._record_due(state)
            events = await self._read(account_id, record=record, cross_check=record and state.links[Hub.USER].up)
            missed, withheld = self._untold(account_id, events)
            await send((*events, *self._correction(account_id, missed)))
            failed, failing = failing, any(isinstance(event, ReadingFailed) for event in events)
            if failed and not failing:
                self.on_answer()
            if withheld:
                await self._question_hub(account_id, withheld, send)
            in_vain = in_vain + 1 if await self._due(account_id, began, in_vain) else 0

    async def read(self, account_id: AccountId) -> tuple[Event, ...]:
        """Read all of one account now and return what was read: contracts not known yet first, what differs last.

        Never raises for the broker.
        """
        events = await self._read(account_id, record=True, cross_check=True)
        missed, withheld = self._untold(account_id, events)
        return (*events, *self._correction(account_id, (*missed, *withheld)))

    async def _read(self, account_id: AccountId, *, record: bool, cross_check: bool) -> tuple[Event, ...]:
        state = self.board.states[account_id]
        read: list[Event] = []
        wanted = set(contracts_of(state))
        failure: FlatguardError | None = None
        if record:
            try:
                told = await self.records.read_record(account_id, self._record_since(state))
                wanted.update(trade.contract_id for trade in told.trades)
                read.append(told)
            except FlatguardError as error:
                failure = error
        try:
            if not self._just_read(account_id):
                exposure = await self.exposures.read_exposure(account_id, cross_check=cross_check)
                wanted.update(position.contract_id for position in exposure.positions)
                wanted.update(order.contract_id for order in exposure.orders)
                read.append(exposure)
        except FlatguardError as error:
            failure = error
        if failure is not None:
            read.append(ReadingFailed(self.clock.now(), account_id, str(failure)))
        fills = [trade for reading in read if isinstance(reading, RecordRead) for trade in reading.trades]
        learned = await self.contracts.learn(wanted, state)
        return (*learned, *read, *await self.contracts.verify(state, fills))

    def _record_due(self, state: AccountState) -> bool:
        now = self.clock.now()
        if state.record_at is None or not state.links[Hub.USER].up or self._unclear(state, now):
            return True
        up_since = state.links[Hub.USER].since
        if up_since is not None and state.record_at < up_since + HUB_LAG:
            return True  # lists lag: of what came before the hub was up, that reading may not have told the last
        age, moved = now - state.record_at, state.last_event_at is not None and state.last_event_at > state.record_at
        every_s = RECORD_EVERY_S if moved or not crowded(len(self.board.states)) else QUIET_RECORD_EVERY_S
        return age >= timedelta(seconds=every_s) - JUST_READ or age < timedelta(0)

    def _just_read(self, account_id: AccountId) -> bool:
        """Whether enforcement, which reads for itself, has done so a moment ago and found nothing to doubt."""
        state = self.board.states[account_id]
        if state.exposure_at is None or not state.links[Hub.USER].up or self._unclear(state, self.clock.now()):
            return False
        return abs(self.clock.now() - state.exposure_at) < JUST_READ  # from the future: our clock was set back

    # --- What the hub did not tell ---

    def _untold(
        self, account_id: AccountId, events: tuple[Event, ...]
    ) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
        """Return what readings show otherwise than it is known: what no hub can have told, and what one should have.

        Of what changed just before a hub was up, the reading then may not have shown the last.
        """
        state = self.board.states[account_id]
        hub = state.links[Hub.USER]
        missed: list[Difference] = []
        withheld: list[Difference] = []
        for reading in events:
            if isinstance(reading, ExposureRead | RecordRead):
                last = state.exposure_at if isinstance(reading, ExposureRead) else state.record_at
                heard = hub.up and last is not None and (hub.since is None or last >= hub.since + HUB_LAG)
                lag = HUB_LAG if hub.up else timedelta(0)  # where nobody is there to tell it yet
                (withheld if heard else missed).extend(differences(state, reading, lag))
            if isinstance(reading, RecordRead):
                state = with_fills(state, reading)
        return tuple(missed), tuple(withheld)

    def _correction(self, account_id: AccountId, missed: tuple[Difference, ...]) -> tuple[Event, ...]:
        """Return the event that names differences."""
        if not missed:
            return ()
        return (PictureCorrected(self.clock.now(), account_id, tuple(found.what for found in missed)),)

    async def _question_hub(self, account_id: AccountId, withheld: tuple[Difference, ...], send: Send) -> None:
        """Give the hub its time to tell what a reading showed. What it does not tell is named, and it is cut."""
        await trio.sleep(HUB_LAG_S)
        state = self.board.states[account_id]
        silent = [found.what for found in withheld if not _told_since(state, found)]
        if not silent or not state.links[Hub.USER].up:
            return
        await send((PictureCorrected(self.clock.now(), account_id, tuple(silent)),))
        if trio.current_time() >= self.accused_at + ACCUSE_AGAIN_S:
            self.accused_at = trio.current_time()
            self.on_frozen("it did not tell what a reading showed")

    def _record_since(self, state: AccountState) -> datetime:
        today = trading_day(self.clock.now() - state.clock_ahead, state.terms)
        if state.record_at is None:
            return today.starts_at
        return max(today.starts_at, state.record_at - OVERLAP)

    async def _due(self, account_id: AccountId, began: float, in_vain: int) -> bool:
        """Return when the account has to be read again: whether that is to clear something up.

        ``in_vain`` readings in a row did not. Each further one waits longer, until the usual pace: what cannot be
        cleared up must not use up the allowance, or no reading at all would come through.
        """
        accounts = len(self.board.states)
        while True:
            state, now = self.board.states[account_id], self.clock.now()
            blind = not state.links[Hub.USER].up
            read_for = timedelta(seconds=trio.current_time() - began)
            every = BLIND_EVERY_S if blind else EXPOSURE_EVERY_S
            wait = began + max(every, seconds_a_round(accounts, blind=blind)) - trio.current_time()
            unclear = self._unclear(state, now)
            if unclear and in_vain < len(READ_SOON_S):
                wait = min(wait, began + READ_SOON_S[in_vain] - trio.current_time())
            unsettled = unsettled_since(state)
            if unsettled is not None and not unclear:
                wait = min(wait, (unsettled + HUB_LAG - now).total_seconds())
            wanted_at = self.reading_wanted_at(state)
            if wanted_at is not None and not unclear:
                wait = min(wait, (wanted_at - now).total_seconds())
            up_since = state.links[Hub.USER].since
            if not blind and up_since is not None and now - read_for < up_since + HUB_LAG:
                wait = min(wait, (up_since + HUB_LAG - now).total_seconds())  # lists lag: once more, soon
            for lock in state.lockouts:
                if lock.until is not None and now < lock.until + CLOCKS_AGREE:
                    wait = min(wait, (lock.until + CLOCKS_AGREE - now).total_seconds())
            if wait <= 0:
                return unclear
            with trio.move_on_after(wait):
                await self.board.wait_ring(account_id)

    def _unclear(self, state: AccountState, now: datetime) -> bool:
        """Whether a reading would tell more: what is in doubt, a contract, or whether a lock is over by the broker."""
        if state.doubt is not None or self.contracts.wanting(contracts_of(state), state):
            return True
        if state.contradicted or state.missing:
            return True
        wanted_at = self.reading_wanted_at(state)
        if wanted_at is not None and wanted_at <= now:
            return True
        unsettled = unsettled_since(state)
        if unsettled is not None and now - unsettled >= HUB_LAG:
            return True
        ended = (lock for lock in state.lockouts if lock.until is not None and lock.until + CLOCKS_AGREE <= now)
        return any(lock.holds(now, state.broker_seen) for lock in ended)


def _told_since(state: AccountState, found: Difference) -> bool:
    """Whether the hub has spoken of what differed, or it is nothing that the hub would have to tell."""
    if found.about is None:
        return True
    told = state.order_seen.get(found.about) if isinstance(found.about, int) else state.seen.get(found.about)
    return told is not None and told > found.since
