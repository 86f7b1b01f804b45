"""Bring accounts to the end states that breaches call for: read, compare, act, read again, until it is proven.

One desk per account, so that a slow one never delays another; at a desk one request per contract or order is in
flight, side by side. Nothing here gives up while a breach stands, and nothing stands between a breach and its first
request but, for what the broker's record does not show, 50 ms for the disk.

The first requests go out on the picture that the breach was judged on. Every later one goes by a newer reading: a lost
answer is resolved by looking, never by repeating. A partial close in particular is repeated only once two readings in
a row agree and no market order is pending, since one that is still on its way would be doubled. The end state is proven
by two complete REST readings in a row, the second begun after the last event of the account.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from math import inf

import trio
from attrs import define, evolve, field, frozen

from flatguard.clock import WallClock
from flatguard.enforcement.board import Board, stirred
from flatguard.enforcement.broker import Broker
from flatguard.enforcement.next_step import Cancel, Close, Held, PartialClose, Step, next_steps, reached
from flatguard.enforcement.pace import REFUSED_PAUSES_S, pause_after, sent_into_a_closed_market
from flatguard.enforcement.plan import Wanted
from flatguard.enforcement.stops import StopDesk, in_words
from flatguard.enforcement.under_way import Attempt, UnderWay
from flatguard.errors import FlatguardError
from flatguard.ledger.apply import apply
from flatguard.model.decisions import Breach
from flatguard.model.entries import EndStateProven, Entry, StepTaken
from flatguard.model.events import ClosesRefused, Event, ExposureRead, ReadingFailed
from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.outcomes import Done, Outcome, Refused, Unknown
from flatguard.model.trading import OrderType

DISK_WAIT_S = 0.05  # how long a breach that the broker's record does not show waits to be durable
SETTLE_S = 1.5  # REST lists lag the hub by up to a second; after that a reading shows what a request did
READ_AGAIN_S = 0.25  # between two readings that shall prove the end state; longer while they do not
READ_AGAIN_MOST_S = 2.0  # readings share the allowance with everything else
READ_AGAIN_CLOSED_S = 15.0  # the same while a closed market lets nothing change
READ_AT_LEAST_S = 1.0  # however much the hub tells, look for ourselves this often
MARKET_FILLS_S = 1.0  # a market order fills within an eighth of a second, or rests because the market does not trade
ACCOUNT_REJECTED = "AccountRejected"
NO_PARTIAL_CLOSES = ("OrderRejected", ACCOUNT_REJECTED)  # then the contract is closed whole
GONE = ("PositionNotFound", "OrderNotFound")


@frozen
class Told:
    """A breach for enforcement to deal with, new or still standing."""

    breach: Breach


@frozen
class Withdrawn:
    """A rule's condition has cleared by itself."""

    account_id: AccountId
    rule: str


@define
class Recorder:
    """Where enforcement reports to: ``note`` never waits, ``kept`` returns once all noted so far is on disk."""

    note: Callable[[Entry], None]
    kept: Callable[[], Awaitable[None]]
    report: Callable[[Event], None]


async def carry_out_breaches(
    told: trio.MemoryReceiveChannel[Told | Withdrawn],
    brokers: Callable[[AccountId], Broker | None],
    board: Board,
    recorder: Recorder,
    clock: WallClock,
) -> None:
    """Deal with every breach that is told. ``brokers`` gives None for an account on which nothing may be sent.

    Returns when ``told`` has ended and every account has reached its end state. The intake never waits for the broker.
    If cancelled, requests in flight may still be carried out; the next start reads and judges again.
    """
    async with trio.open_nursery() as desks_open, told:
        desks: dict[AccountId, _Desk] = {}
        stop_desks: dict[AccountId, StopDesk] = {}
        async for message in told:
            account_id = message.breach.account_id if isinstance(message, Told) else message.account_id
            broker = brokers(account_id)
            if broker is None:
                continue
            if account_id not in desks:
                desks[account_id] = _Desk(account_id, broker, board, recorder, clock)
                desks_open.start_soon(desks[account_id].work)
                board.seat(account_id, desks[account_id].under_way)
                closes = desks[account_id].closes
                stop_desks[account_id] = StopDesk(
                    account_id, broker, board, recorder.note, recorder.kept, clock, closes
                )
                desks_open.start_soon(stop_desks[account_id].work)
            if isinstance(message, Told):
                desks[account_id].want(message.breach)
                stop_desks[account_id].want(message.breach)
            else:
                desks[account_id].withdraw(message.rule)
                stop_desks[account_id].withdraw(message.rule)
        for account_id, desk in desks.items():
            desk.close_when_done()
            stop_desks[account_id].close_when_done()


@define
class _Rest:
    """Why a contract or an order is left alone for now: a request in flight, or its effect not yet to be seen."""

    step: Step
    sent_at: datetime
    until: float = inf  # trio time; while a request is in flight there is no end
    market_opens_at: datetime | None = None  # ends it too: a machine that slept has another trio time


@frozen
class _Tried:
    """How often something was asked, and what came of it last."""

    tries: int = 0
    outcome: str = ""
    reason: str = ""


@define
class _Desk:
    """One account under enforcement."""

    account_id: AccountId
    broker: Broker
    board: Board
    recorder: Recorder
    clock: WallClock
    wanted: Wanted = field(factory=Wanted)
    closing: bool = False
    resting: dict[object, _Rest] = field(factory=dict)
    refusals: dict[object, int] = field(factory=dict)  # in a row
    shut_out: set[object] = field(factory=set)  # what the closed market keeps from being done
    tried: dict[object, _Tried] = field(factory=dict)
    since: datetime | None = None
    owed: dict[str, tuple[str, ...]] = field(factory=dict)  # by rule: what had come about when more came at once
    closed_at: dict[object, datetime] = field(factory=dict)  # when the broker took our close or cancel, or knew of none
    whole: set[ContractId] = field(factory=set)
    partly: set[ContractId] = field(factory=set)
    readings: list[ExposureRead] = field(factory=list)
    reading: set[bool] = field(factory=set)  # which readings are under way: False for a proof, True for an exit
    held_up: bool = False  # whether a partial close waits for readings
    given_time: set[object] = field(factory=set)  # market orders, which fill by themselves
    read_pause_s: float = READ_AGAIN_S
    read_again_at: float = 0.0
    reached_at: datetime | None = None
    closed_lately: dict[ContractId | None, float] = field(factory=dict)
    bell: trio.Event = field(factory=trio.Event)

    def closes(self, contract_id: ContractId) -> bool:
        """Whether the contract is being closed or reduced, or has just been: then no stop of ours is touched there."""
        if self.wanted.flat or contract_id in self.wanted.caps:
            return True
        lately = (self.closed_lately.get(each, -inf) for each in (contract_id, None))
        return trio.current_time() < max(lately) + SETTLE_S

    def want(self, breach: Breach) -> None:
        if not self.wanted:
            self.read_again_at = trio.current_time() + READ_AGAIN_S  # its own picture is as good as a reading
            self.read_pause_s = READ_AGAIN_S
            self.since = breach.at
        before = self.wanted
        self.wanted = before.including(breach)
        if self.wanted is not before and (owed := self.owed.pop(breach.rule, ())):
            self.wanted = evolve(self.wanted, ids=(*owed, *self.wanted.ids))
        if (before.flat, before.caps) != (self.wanted.flat, self.wanted.caps):
            self.readings.clear()  # what was proven so far was for less
            self.read_pause_s = READ_AGAIN_S
        self.bell.set()

    def withdraw(self, rule: str) -> None:
        """Drop what the rule no longer calls for, unless it has come about: then it is still to be proven."""
        if not self._looks_reached():
            ids, self.wanted = self.wanted.ids, self.wanted.without_reductions_of(rule)
            dropped = tuple(each for each in ids if each not in self.wanted.ids)
            if dropped and (self.tried or self.resting):
                self.owed[rule] = (*self.owed.get(rule, ()), *dropped)  # proven with what follows
        self.bell.set()

    def close_when_done(self) -> None:
        self.closing = True
        self.bell.set()

    def under_way(self) -> UnderWay | None:
        """Return what is being enforced, since when, and how the attempts went."""
        if not self.wanted or self.since is None:
            return None
        attempts = tuple(self._attempt(step) for step in self._steps())
        return UnderWay(self.wanted.ids, tuple(self.wanted.breaches), self.since, attempts)

    def _attempt(self, step: Step) -> Attempt:
        tried = self.tried.get(_key(step), _Tried())
        rest = self.resting.get(_key(step))
        next_try_at: datetime | None = self.clock.now()
        if rest is not None:
            left_s = max(0.0, rest.until - trio.current_time())
            next_try_at = None if left_s == inf else self.clock.now() + timedelta(seconds=left_s)
        return Attempt(
            action=_in_short(step)[0],
            contract_id=step.contract_id,
            order_id=step.order_id if isinstance(step, Cancel) else None,
            tries=tried.tries,
            outcome=tried.outcome,
            reason=tried.reason,
            next_try_at=next_try_at,
            market_opens_at=None if rest is None else rest.market_opens_at,
        )

    async def work(self) -> None:
        async with trio.open_nursery() as requests:
            while self.wanted or not self.closing:
                if not self.wanted:
                    self._forget()
                    await self._stirred(inf)
                    continue
                await self._disk_had_its_chance()
                self._act(requests)
                moved = await self._stirred(self._look_again_at())
                if self._worth_reading(moved=moved):
                    self.reading.add(self.held_up)
                    requests.start_soon(self._read, self.held_up)
                self._conclude()

    def _forget(self) -> None:
        self.readings.clear()
        self.refusals.clear()
        self.shut_out.clear()
        self.tried.clear()
        self.closed_at.clear()
        self.whole.clear()
        self.partly.clear()
        self.given_time.clear()
        self.reached_at = None

    async def _disk_had_its_chance(self) -> None:
        """Wait until what is wanted is durable, 50 ms at most, where the broker's record would not tell it again."""
        on_record = all(breach.on_record for breach in self.wanted.breaches.values())
        if on_record and not any(isinstance(step, PartialClose) for step in self._steps()):
            return
        with trio.move_on_after(DISK_WAIT_S):
            await self.recorder.kept()

    # what to do

    def _held(self) -> Held:
        """Return the newest picture: the ledger's, which already holds our own readings and all hub events."""
        state = self.board.states[self.account_id]
        for reading in self.readings[-1:]:
            if state.exposure_at is None or reading.began_at > state.exposure_at:
                state = apply(state, reading)  # ours has not come through the pipeline yet
        positions = [position for position in state.positions.values() if not self._seen_closed(position.contract_id)]
        return Held.of(positions, [order for order in state.orders.values() if not self._seen_cancelled(order.id)])

    def _seen_closed(self, contract_id: ContractId) -> bool:
        """Whether the newest reading shows what a close of ours has explained, and nothing has been told since."""
        told_at = self.board.states[self.account_id].seen.get(contract_id)
        return self._explained(contract_id, told_at) and _size_in(self.readings[-1], contract_id) == 0

    def _seen_cancelled(self, order_id: OrderId) -> bool:
        """The same of an order and our cancel: the hub's word of it may be lost."""
        told_at = self.board.states[self.account_id].order_seen.get(order_id)
        return self._explained(order_id, told_at) and all(order.id != order_id for order in self.readings[-1].orders)

    def _explained(self, key: object, told_at: datetime | None) -> bool:
        closed_at = self.closed_at.get(key)
        if closed_at is None or not self.readings or self.readings[-1].began_at <= closed_at:
            return False
        return told_at is None or told_at < closed_at

    def _steps(self) -> tuple[Step, ...]:
        return tuple(
            Close(step.contract_id) if isinstance(step, PartialClose) and step.contract_id in self.whole else step
            for step in next_steps(self.wanted, self._held())
        )

    def _act(self, requests: trio.Nursery) -> None:
        self.held_up = False
        for step in self._steps():
            if self._rests(step):
                continue
            if isinstance(step, PartialClose) and not self._may_reduce(step):
                self.held_up = True
                continue
            rest = self.resting[_key(step)] = _Rest(step, self.clock.now())
            if self._fills_by_itself(step):
                rest.until = trio.current_time() + MARKET_FILLS_S
            else:
                requests.start_soon(self._perform, step, rest)

    def _fills_by_itself(self, step: Step) -> bool:
        """Whether a cancel is for a market order just met: it would come too late, and each counts in the allowance."""
        if not isinstance(step, Cancel) or step.order_id in self.given_time:
            return False
        self.given_time.add(step.order_id)
        order = self.board.states[self.account_id].orders.get(step.order_id)
        return order is not None and order.type is OrderType.MARKET

    def _rests(self, step: Step) -> bool:
        rest = self.resting.get(_key(step))
        if rest is None:
            return False
        seen_done = self._seen_done(rest)
        opened = rest.market_opens_at is not None and rest.market_opens_at <= self.clock.now()
        if not seen_done and not opened and trio.current_time() < rest.until:
            return True
        if seen_done:
            self.partly.discard(step.contract_id)
        del self.resting[_key(step)]
        return False

    def _seen_done(self, rest: _Rest) -> bool:
        """Whether the hub has shown the whole effect of a request, answered or not.

        For a close that is a flat position: one that has only shrunk may be in the middle of filling.
        """
        state = self.board.states[self.account_id]
        contract_id = rest.step.contract_id
        match rest.step:
            case Close():
                return state.flat_at.get(contract_id, rest.sent_at) > rest.sent_at
            case PartialClose(size=closed, held=held):
                position = state.positions.get(contract_id)
                size = abs(position.size) if position is not None else 0
                return state.seen.get(contract_id, rest.sent_at) > rest.sent_at and size == held - closed
            case Cancel():
                return False

    def _may_reduce(self, step: PartialClose) -> bool:
        """Whether a partial close may go out: the first one, or one that two newer readings agree upon."""
        if step.contract_id not in self.partly:
            return True
        pending = any(
            order.type is OrderType.MARKET and order.contract_id == step.contract_id for order in self._held().orders
        )
        sizes = [_size_in(reading, step.contract_id) for reading in self.readings[-2:]]
        return not pending and len(sizes) == 2 and sizes == [step.held, step.held]

    async def _perform(self, step: Step, rest: _Rest) -> None:
        sent_at = self.clock.now()
        breaches = self.wanted.ids
        match step:
            case Close(contract_id):
                outcome = await self.broker.close(self.account_id, contract_id)
            case PartialClose(contract_id, size):
                self.partly.add(contract_id)
                self.readings.clear()
                outcome = await self.broker.partial_close(self.account_id, contract_id, size)
            case Cancel(_, order_id):
                outcome = await self.broker.cancel(self.account_id, order_id)
        self.recorder.note(_entry(self.account_id, breaches, step, sent_at, self.clock.now(), outcome))
        tries = self.tried.get(_key(step), _Tried()).tries + 1
        self.tried[_key(step)] = _Tried(tries, *in_words(outcome))
        if isinstance(outcome, Done) or _gone(outcome):
            self.closed_at[_key(step)] = self.clock.now()
        shut_out = isinstance(outcome, Refused) and sent_into_a_closed_market(
            self.board.states[self.account_id], step.contract_id, sent_at, outcome
        )
        if shut_out and not _gone(outcome):
            self._wait_for_the_market(step)
        else:
            self._learn(step, outcome)
        rest.until = trio.current_time() + self._rest_after(step, rest, outcome)
        self.bell.set()

    def _wait_for_the_market(self, step: Step) -> None:
        """Keep what is wanted as it is: such a refusal says nothing of the account, nor of partial closes."""
        self.shut_out.add(_key(step))
        self.partly.discard(step.contract_id)  # nothing of it is on its way

    def _learn(self, step: Step, outcome: Outcome) -> None:
        """Take from an outcome what is known from now on about this account or contract."""
        if _key(step) in self.shut_out:
            self.shut_out.discard(_key(step))
            self.refusals.pop(_key(step), None)
            self.read_pause_s = READ_AGAIN_S
            self.read_again_at = min(self.read_again_at, trio.current_time() + READ_AGAIN_S)
        refused = self.board.states[self.account_id].closes_refused
        if isinstance(step, Cancel):
            return
        if isinstance(outcome, Done) and refused is not None:
            self.recorder.report(ClosesRefused(self.clock.now(), self.account_id, None))
        if not isinstance(outcome, Refused) or _gone(outcome):
            return
        if ACCOUNT_REJECTED in outcome.reason and refused is None:
            self.recorder.report(ClosesRefused(self.clock.now(), self.account_id, outcome.reason))
        if isinstance(step, PartialClose) and outcome.reason.startswith(NO_PARTIAL_CLOSES):
            self.whole.add(step.contract_id)

    def _rest_after(self, step: Step, rest: _Rest, outcome: Outcome) -> float:
        key = _key(step)
        match outcome:
            case Done():
                self.refusals.pop(key, None)
                return SETTLE_S
            case Refused() if _gone(outcome):
                return READ_AGAIN_S
            case Refused() if isinstance(step, PartialClose) and key not in self.shut_out:
                return 0.0
            case Unknown(retry_after_s=asked):
                return max(SETTLE_S, min(asked or 0.0, REFUSED_PAUSES_S[-1]))
            case Refused():
                tries = self.refusals.get(key, 0)
                self.refusals[key] = tries + 1
                state, now = self.board.states[self.account_id], self.clock.now()
                pause = pause_after(state, step.contract_id, rest.sent_at, now, outcome, tries)
                rest.market_opens_at = pause.market_opens_at
                return pause.seconds

    # how it went

    def _look_again_at(self) -> float:
        """Until when, in Trio's time, to wait for the hub or an answer before acting again or reading by REST."""
        now = trio.current_time()
        rests_end = min((rest.until for rest in self.resting.values() if rest.until > now), default=inf)
        if self.held_up in self.reading:
            return rests_end  # its end stirs us
        if self._looks_reached() or rests_end == inf:
            return self.read_again_at
        return min(rests_end, self.read_again_at + READ_AT_LEAST_S)

    def _looks_reached(self) -> bool:
        return reached(self.wanted, self._held())

    def _worth_reading(self, *, moved: bool) -> bool:
        """Whether to look for ourselves. Acting never waits for a reading, which may hang."""
        now = trio.current_time()
        if self.held_up in self.reading or now < self.read_again_at:
            return False
        return self._looks_reached() or not moved or now >= self.read_again_at + READ_AT_LEAST_S

    async def _stirred(self, until: float) -> bool:
        """Return True when something moved: the account, a request, what is wanted; False at ``until``."""
        moved = await stirred(until, self.bell.wait, lambda: self.board.wait_ring(self.account_id))
        self.bell = trio.Event()
        return moved

    async def _read(self, for_an_exit: bool) -> None:
        self.read_again_at = trio.current_time() + self.read_pause_s
        closed = any(rest.market_opens_at is not None for rest in self.resting.values())
        self.read_pause_s = min(self.read_pause_s * 1.5, READ_AGAIN_CLOSED_S if closed else READ_AGAIN_MOST_S)
        try:
            reading = await self.broker.read_exposure(self.account_id, for_an_exit=for_an_exit)
            if not self.readings or reading.began_at > self.readings[-1].began_at:
                self.readings = [*self.readings[-1:], reading]
            self.recorder.report(reading)
        except FlatguardError as error:
            self.readings.clear()
            self.recorder.report(ReadingFailed(self.clock.now(), self.account_id, str(error)))
        self.reading.discard(for_an_exit)
        self.bell.set()

    def _conclude(self) -> None:
        if not self.wanted:
            return
        if not self._looks_reached():
            self.reached_at = None
            return
        if self.reached_at is None:
            self.reached_at = self.clock.now()
        if not self._proven():
            return
        proven = EndStateProven(self.account_id, self.wanted.ids, self.reached_at, self.clock.now())
        self.recorder.note(proven)
        closed: list[ContractId | None] = [None] if self.wanted.flat else [*self.wanted.caps]
        self.closed_lately |= dict.fromkeys(closed, trio.current_time())
        self.wanted = Wanted()
        self.since = None

    def _proven(self) -> bool:
        """Whether two complete readings in a row show the end state, the second begun after the last event."""
        if len(self.readings) < 2:
            return False
        last_event = self.board.states[self.account_id].last_event_at
        second = self.readings[1]
        return all(reached(self.wanted, Held.of(r.positions, r.orders)) for r in self.readings) and (
            last_event is None or second.began_at > last_event
        )


def _gone(outcome: Outcome) -> bool:
    """Whether what should be closed or cancelled is not there (any more). A reading has to confirm it."""
    return isinstance(outcome, Refused) and outcome.reason.startswith(GONE)


def _key(step: Step) -> object:
    return step.order_id if isinstance(step, Cancel) else step.contract_id


def _size_in(reading: ExposureRead, contract_id: ContractId) -> int:
    return sum(abs(p.size) for p in reading.positions if p.contract_id == contract_id)


def _entry(
    account_id: AccountId,
    breaches: tuple[str, ...],
    step: Step,
    sent_at: datetime,
    answered_at: datetime,
    outcome: Outcome,
) -> StepTaken:
    action, detail = _in_short(step)
    word, reason = in_words(outcome)
    return StepTaken(account_id, breaches, action, step.contract_id, detail, sent_at, answered_at, word, reason)


def _in_short(step: Step) -> tuple[str, str]:
    """Return what a step does, in a word, and about what."""
    match step:
        case Close():
            return "close", ""
        case PartialClose(size=size, held=held):
            return "partial_close", f"{size} of {held}"
        case Cancel(order_id=order_id):
            return "cancel", f"order {order_id}"
