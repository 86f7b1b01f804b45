"""Events and moments in, breaches out. Folding and judging do not wait for anything, so nothing happens in between.

One loop for all accounts of a login. A batch is what one read of a socket brought; quotes in it, and in those that wait
behind it, are merged per contract before they are judged, every other event is judged one by one. Time comes as a value
too: when nothing arrives before the next moment at which a rule, a lockout or the trading day has to be looked at, that
moment is the event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from math import inf

import trio
from attrs import define, evolve, field

from flatguard.clock import WallClock
from flatguard.enforcement.board import Board
from flatguard.enforcement.carry_out import Told, Withdrawn
from flatguard.ledger.apply import apply
from flatguard.model.account import AccountState
from flatguard.model.entries import Checkpoint, Entry
from flatguard.model.events import (
    BarRead,
    ClockReached,
    Event,
    EventSetAside,
    Hub,
    QuoteMoved,
    account_of,
)
from flatguard.model.ids import AccountId, ContractId
from flatguard.rules._book import RuleBook
from flatguard.rules._step import step

Batch = tuple[Event, ...]
Watch = Callable[[frozenset[ContractId], frozenset[ContractId]], None]

LONGEST_SLEEP_S = 300.0  # the wall clock can be corrected and a laptop can sleep: look again, the moment still decides
CHECKPOINT_EVERY = 2_000
MERGED_AT_MOST = 100  # batches; then whoever else has to run has its turn


@define
class Pipeline:
    """The one task that folds and judges.

    ``on_failure`` hears of rules that raised, once of each, and of events that did not fold; ``watch`` of the contracts
    whose quotes are needed, and of those among them that have no price yet.
    """

    books: Mapping[AccountId, RuleBook]
    board: Board
    clock: WallClock
    note: Callable[[Entry], None]
    on_failure: Callable[[AccountId, str], None] = field(default=lambda account_id, what: None)
    watch: Watch = field(default=lambda contracts, unpriced: None)
    _failed: dict[AccountId, tuple[tuple[str, str], ...]] = field(factory=dict)
    _told_of: set[tuple[AccountId, str]] = field(factory=set)
    _judged_at: dict[AccountId, datetime] = field(factory=dict)
    _since_checkpoint: int = 0

    async def judge_events(
        self, feed: trio.MemoryReceiveChannel[Batch], told: trio.MemorySendChannel[Told | Withdrawn]
    ) -> None:
        """Fold every event, judge it, and tell enforcement.

        Returns when ``feed`` ends, leaving a checkpoint of every account. Every pass is a checkpoint in Trio's sense
        too. If cancelled, a breach not yet told is lost with the process; the next start judges again.
        """
        async with feed, told:
            while True:
                with trio.move_on_after(self._seconds_to_next_moment()) as waiting:
                    try:
                        batch = (*await feed.receive(), *_waiting(feed))
                    except trio.EndOfChannel:
                        break
                if waiting.cancelled_caught:
                    batch = (ClockReached(self.clock.now()),)
                for event in merged(batch):
                    for account_id in self._concerned(event):
                        for message in self._judge(account_id, event):
                            await told.send(message)
                        if account_of(event) is not None:
                            self.board.ring(account_id)
                self._watch()
        self.checkpoint()

    def _watch(self) -> None:
        states = self.board.states.values()
        wanted = frozenset().union(*(contracts_of(state) for state in states))
        self.watch(wanted, frozenset(c for c in wanted if any(_lacks_price(state, c) for state in states)))

    def checkpoint(self) -> None:
        """Write down where every account stands, so that the next start has little tape to fold.

        Each trading day begins with one, from which its tape can be folded again.
        """
        self._since_checkpoint = 0
        for state in self.board.states.values():
            self.note(Checkpoint(state))

    def failing(self, account_id: AccountId) -> tuple[tuple[str, str], ...]:
        """Return the rules of the account that raised when they were last asked, each with its error."""
        return self._failed.get(account_id, ())

    def _tell_of(self, account_id: AccountId, failed: tuple[tuple[str, str], ...]) -> None:
        for rule, what in failed:
            if (account_id, rule) not in self._told_of:
                self._told_of.add((account_id, rule))
                self.on_failure(account_id, f"rule {rule} failed: {what}")

    def _judge(self, account_id: AccountId, event: Event) -> list[Told | Withdrawn]:
        before, book = self.board.states[account_id], self.books[account_id]
        try:
            folded = apply(before, event)
        except Exception as error:  # noqa: BLE001  an event that cannot be folded must not end guarding: it is set aside
            event = EventSetAside(event.at, Hub.USER, repr(event)[:2000], f"{type(error).__name__}: {error}")
            folded = apply(before, event)
            self.on_failure(account_id, event.reason)
        taken = step(before, event, folded, book)
        after, judged = taken.state, taken.judged
        self._failed[account_id] = judged.failed
        self._tell_of(account_id, judged.failed)
        self.board.post(after)
        self._judged_at[account_id] = event.at
        self.note(judged)
        self._since_checkpoint += 1
        if self._since_checkpoint >= CHECKPOINT_EVERY:
            self.checkpoint()
        elif after.today != before.today:
            self.note(Checkpoint(after))
        messages: list[Told | Withdrawn] = [Withdrawn(account_id, rule) for rule in judged.cleared]
        messages += [Told(breach) for breach in (*judged.found, *taken.standing)]
        return messages

    def _concerned(self, event: Event) -> tuple[AccountId, ...]:
        """Return the accounts that an event is folded into: the one it names, else all that have to do with it."""
        account_id = account_of(event)
        if account_id is not None:
            return (account_id,) if account_id in self.books else ()
        if isinstance(event, QuoteMoved | BarRead):
            return tuple(a for a, state in self.board.states.items() if _follows(state, event.contract_id))
        if isinstance(event, ClockReached):
            return tuple(account_id for account_id in self.books if self._due(account_id, event.at))
        return tuple(self.books)

    def _next_moment(self, account_id: AccountId, now: datetime) -> datetime | None:
        """Return the account's next moment later than its last event; it may have passed meanwhile."""
        return self.books[account_id].next_moment(self.board.states[account_id], self._judged_at.get(account_id, now))

    def _due(self, account_id: AccountId, at: datetime) -> bool:
        moment = self._next_moment(account_id, at)
        return moment is not None and moment <= at

    def _seconds_to_next_moment(self) -> float:
        now = self.clock.now()
        moments = [self._next_moment(account_id, now) for account_id in self.books]
        soonest = min(((m - now).total_seconds() for m in moments if m is not None), default=inf)
        return min(max(soonest, 0.0), LONGEST_SLEEP_S)


def _waiting(feed: trio.MemoryReceiveChannel[Batch]) -> Iterator[Event]:
    """Yield the events of what waits already: under pressure quotes of several batches are merged, not queued."""
    for _ in range(MERGED_AT_MOST):
        try:
            yield from feed.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return


def contracts_of(state: AccountState) -> frozenset[ContractId]:
    """Return the contracts whose prices matter to an account: held, or with a working order."""
    return frozenset(state.positions) | {order.contract_id for order in state.orders.values() if order.working}


def _follows(state: AccountState, contract_id: ContractId) -> bool:
    """Whether an account's quotes of a contract are kept: while its prices matter, and once it has been traded.

    Quotes are sparse, so one who only begins to listen when he holds something has no price for a while.
    """
    return contract_id in contracts_of(state) or contract_id in state.quotes or contract_id in state.seen


def _lacks_price(state: AccountState, contract_id: ContractId) -> bool:
    quote = state.quotes.get(contract_id)
    return contract_id in state.positions and (quote is None or quote.at is None)


def merged(batch: Iterable[Event]) -> list[Event]:
    """Merge the quotes of a batch per contract, keeping the newest of each part; all else stays, in order.

    Quotes are sparse: fields are merged, never dropped. The merged quote stands where the first one stood.
    """
    out: list[Event] = []
    places: dict[ContractId, int] = {}
    for event in batch:
        if not isinstance(event, QuoteMoved):
            out.append(event)
            continue
        place = places.get(event.contract_id)
        if place is None:
            places[event.contract_id] = len(out)
            out.append(event)
            continue
        known = out[place]
        assert isinstance(known, QuoteMoved)
        out[place] = evolve(
            known,
            at=event.at,
            last=known.last if event.last is None else event.last,
            bid=known.bid if event.bid is None else event.bid,
            ask=known.ask if event.ask is None else event.ask,
        )
    return out
