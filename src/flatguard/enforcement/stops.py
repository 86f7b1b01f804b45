"""Keep the stops that rules call for: place one, tighten it, let it follow the position. Nothing here closes anything.

It stands beside the desk that closes and cancels, and never in its way: contracts that are being closed are left alone.
One request in flight per contract. What came of it is seen, not assumed: an order that may have been placed is looked
for under its tag, by the hub and by complete readings, and only where two of those do not show it is another one
placed, under another tag.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from math import inf

import trio
from attrs import define, field

from flatguard.clock import WallClock
from flatguard.enforcement.board import Board, stirred
from flatguard.enforcement.broker import Broker
from flatguard.enforcement.next_step import Held, MoveStop, PlaceStop, StopStep, next_stops
from flatguard.ledger.protection import OURS
from flatguard.model.account import AccountState
from flatguard.model.decisions import Breach, ProtectAt
from flatguard.model.entries import Entry, StepTaken
from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.outcomes import Done, Outcome, Refused, Unknown
from flatguard.model.trading import Order, OrderStatus

DISK_WAIT_S = 0.05  # how long an order of ours waits to be durable
LOOK_AGAIN_S = 1.0
SETTLE_S = 1.5
LISTS_LAG = timedelta(seconds=1.5)  # a reading begun later than this after an answer shows what the request did
REFUSED_PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
NO_ORDER = "OrderNotFound"


@define
class _Asked:
    """A request, and what is known of it. ``readings`` are those that could have shown its effect, and did not."""

    step: StopStep
    tag: str
    sent_at: datetime
    answered_at: datetime | None = None
    outcome: Outcome | None = None
    readings: set[datetime] = field(factory=set)


@define
class StopDesk:
    """The stops of one account. ``closes`` says whether a contract is being closed, or has just been."""

    account_id: AccountId
    broker: Broker
    board: Board
    note: Callable[[Entry], None]
    kept: Callable[[], Awaitable[None]]
    clock: WallClock
    closes: Callable[[ContractId], bool]
    wanted: dict[str, Breach] = field(factory=dict)
    asked: dict[ContractId, _Asked] = field(factory=dict)
    paused_until: dict[ContractId, float] = field(factory=dict)
    refusals: dict[ContractId, int] = field(factory=dict)
    attempts: int = 0
    closing: bool = False
    bell: trio.Event = field(factory=trio.Event)

    def want(self, breach: Breach) -> None:
        """Take what a rule calls for now; it replaces what the rule called for before."""
        self.wanted.pop(breach.rule, None)
        if any(isinstance(decision, ProtectAt) for decision in breach.decisions):
            self.wanted[breach.rule] = breach
        self.bell.set()

    def withdraw(self, rule: str) -> None:
        """Drop what the rule no longer calls for: its stop is there, or needless."""
        self.wanted.pop(rule, None)
        self.bell.set()

    def close_when_done(self) -> None:
        """End once the requests under way are answered; a stop not placed yet is the next run's."""
        self.closing = True
        self.bell.set()

    async def work(self) -> None:
        """Keep the stops until told to end. If cancelled, a request in flight may still be carried out."""
        async with trio.open_nursery() as requests:
            while not self.closing:
                self._settle()
                for step, breach in self._steps():
                    if step.contract_id not in self.asked and not self._paused(step.contract_id):
                        asked = self.asked[step.contract_id] = _Asked(step, self._tag(breach), self.clock.now())
                        requests.start_soon(self._perform, breach, asked)
                until = trio.current_time() + LOOK_AGAIN_S if self.wanted or self.asked else inf
                await stirred(until, self.bell.wait, lambda: self.board.wait_ring(self.account_id))
                self.bell = trio.Event()

    def _steps(self) -> list[tuple[StopStep, Breach]]:
        state = self.board.states[self.account_id]
        held = Held.of(state.positions.values(), state.orders.values())
        steps: list[tuple[StopStep, Breach]] = []
        for breach in self.wanted.values():
            protect = [d for d in breach.decisions if isinstance(d, ProtectAt) and not self.closes(d.contract_id)]
            steps += [(step, breach) for step in next_stops(protect, held)]
        return steps

    def _paused(self, contract_id: ContractId) -> bool:
        return trio.current_time() < self.paused_until.get(contract_id, -inf)

    def _tag(self, breach: Breach) -> str:
        """Return a tag that no order has ever had: a breach has an id of its own, and each request a number."""
        self.attempts += 1
        about = f"{self.account_id}|{breach.rule}|{breach.id}|{breach.at.isoformat()}|{self.attempts}"
        return f"{OURS}-{hashlib.sha256(about.encode()).hexdigest()[:20]}"

    async def _perform(self, breach: Breach, asked: _Asked) -> None:
        with trio.move_on_after(DISK_WAIT_S):
            await self.kept()
        step = asked.step
        if all(step != still for still, _ in self._steps()):  # the picture has moved meanwhile
            del self.asked[step.contract_id]
            self.bell.set()
            return
        asked.sent_at = self.clock.now()
        match step:
            case PlaceStop(contract_id, side, size, price):
                outcome = await self.broker.place_stop(self.account_id, contract_id, side, size, price, asked.tag)
            case MoveStop(_, order_id, stop_price, new_size):
                outcome = await self.broker.move_stop(self.account_id, order_id, stop_price, new_size)
        asked.answered_at, asked.outcome = self.clock.now(), outcome
        self.note(_entry(self.account_id, breach, asked, outcome))
        if isinstance(outcome, Refused):
            self._refused(step.contract_id)
        self.bell.set()

    def _refused(self, contract_id: ContractId) -> None:
        """Leave the contract alone for a while, longer each time: the next attempt is at the price of then."""
        tries = self.refusals.get(contract_id, 0)
        self.refusals[contract_id] = tries + 1
        self.paused_until[contract_id] = trio.current_time() + REFUSED_PAUSES_S[min(tries, len(REFUSED_PAUSES_S) - 1)]

    def _settle(self) -> None:
        """Let go of requests of which it is known what came of them."""
        state = self.board.states[self.account_id]
        for contract_id, asked in tuple(self.asked.items()):
            if asked.outcome is None or asked.answered_at is None:
                continue
            shown = self._shown(state, asked)
            if shown is not None and shown.status is OrderStatus.REJECTED:
                self._refused(contract_id)
            elif shown is not None:
                self.refusals.pop(contract_id, None)
                if not shown.working:  # what it did to the position is still to be told
                    self.paused_until[contract_id] = trio.current_time() + SETTLE_S
            read_at = state.exposure_at
            if read_at is not None and read_at >= asked.answered_at + LISTS_LAG:
                asked.readings.add(read_at)
            enough = (
                1 if isinstance(asked.step, MoveStop) else 2
            )  # a list that lacks an order is believed the second time
            known = isinstance(asked.outcome, Refused) and not asked.outcome.reason.startswith(NO_ORDER)
            if shown is not None or known or len(asked.readings) >= enough:
                del self.asked[contract_id]

    @staticmethod
    def _shown(state: AccountState, asked: _Asked) -> Order | None:
        """Return the order that shows the effect of a request, as far as the picture has it by now."""
        match asked.step, asked.outcome:
            case MoveStop(order_id=order_id), _:
                told_at = state.order_seen.get(order_id)
                return state.orders.get(order_id) if told_at is not None and told_at > asked.sent_at else None
            case PlaceStop(), Done(order_id=number) if number is not None and OrderId(number) in state.orders:
                return state.orders[OrderId(number)]
            case _:
                return next((order for order in state.orders.values() if order.custom_tag == asked.tag), None)


def in_words(outcome: Outcome) -> tuple[str, str]:
    """Return how a request ended, in a word, and why."""
    match outcome:
        case Done():
            return "done", ""
        case Refused(code=code, reason=text):
            return "refused", f"{text} (code {code})"
        case Unknown(reason=text):
            return "unknown", text


def _entry(account_id: AccountId, breach: Breach, asked: _Asked, outcome: Outcome) -> StepTaken:
    assert asked.answered_at is not None
    match asked.step:
        case PlaceStop(side=side, size=size, stop_price=price):
            action, detail = "place_stop", f"{side.name.lower()} {size} at {price:f}, tag {asked.tag}"
        case MoveStop(order_id=order_id, stop_price=stop_price, size=new_size):
            changes = [f"to {stop_price:f}"] if stop_price is not None else []
            changes += [f"size {new_size}"] if new_size is not None else []
            action, detail = "move_stop", f"order {order_id} {', '.join(changes)}"
    word, reason = in_words(outcome)
    return StepTaken(
        account_id, (breach.id,), action, asked.step.contract_id, detail, asked.sent_at, asked.answered_at, word, reason
    )
