"""Desks at work against a broker that answers, lags, refuses or hangs as the test has it; the clock is virtual."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import inf

import pytest
import trio
from attrs import define, evolve, field

from flatguard.enforcement.board import Board
from flatguard.enforcement.carry_out import DISK_WAIT_S, Recorder, Told, Withdrawn, carry_out_breaches
from flatguard.errors import GatewayUnreachable
from flatguard.ledger.apply import apply
from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import Breach, CloseContract, Decision, Flatten, ReduceTo
from flatguard.model.entries import EndStateProven, Entry, StepTaken
from flatguard.model.events import ClosesRefused, Event, ExposureRead, OrderChanged, PositionChanged
from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.outcomes import Done, Outcome, Refused, Unknown
from flatguard.model.trading import Order, OrderStatus, OrderType, Position, Side
from flatguard.shipped import shipped_calendar
from tests.fakes.clock import TrioClock

ACCOUNT = AccountId(1)
MNQ = ContractId("CON.F.US.MNQ.Z26")
ES = ContractId("CON.F.US.EP.Z26")
START = datetime(2026, 3, 18, 15, tzinfo=UTC)

Answer = Callable[[], Outcome]


@define(slots=False)
class ScriptedBroker:
    """Holds positions and orders; ``answers`` are what the next requests of a kind get, before it does as asked.

    ``tell`` is the hub: it is told what changed, unless the test keeps it silent.
    """

    clock: TrioClock
    sizes: dict[ContractId, int] = field(factory=dict)
    orders: dict[OrderId, Order] = field(factory=dict)
    answers: dict[str, list[Outcome]] = field(factory=dict)
    log: list[tuple[float, str, object]] = field(factory=list)
    reading_takes_s: float = 0.01
    closing_takes_s: dict[ContractId, float] = field(factory=dict)
    unreadable: bool = False
    no_allowance: bool = False  # whether whatever is no exit waits
    tell: Callable[[Event], None] = lambda event: None

    def asked(self, kind: str) -> list[object]:
        return [what for _, name, what in self.log if name == kind]

    def times(self, kind: str) -> list[float]:
        return [at for at, name, _ in self.log if name == kind]

    async def read_exposure(self, account_id: AccountId, *, for_an_exit: bool = False) -> ExposureRead:
        began = self.clock.now()
        self.log.append((trio.current_time(), "read", None))
        while self.no_allowance and not for_an_exit:  # noqa: ASYNC110  the clock is virtual
            await trio.sleep(0.1)
        await trio.sleep(self.reading_takes_s)
        if self.unreadable:
            raise GatewayUnreachable("no answer")
        rows = tuple(position(c, size) for c, size in self.sizes.items() if size)
        return ExposureRead(self.clock.now(), account_id, began, began, rows, tuple(self.orders.values()))

    async def close(self, account_id: AccountId, contract_id: ContractId) -> Outcome:
        return await self._do("close", contract_id, lambda: self.move(contract_id, 0))

    async def partial_close(self, account_id: AccountId, contract_id: ContractId, size: int) -> Outcome:
        held = self.sizes.get(contract_id, 0)
        return await self._do(
            "partial_close", (contract_id, size), lambda: self.move(contract_id, held - (size if held > 0 else -size))
        )

    async def cancel(self, account_id: AccountId, order_id: OrderId) -> Outcome:
        return await self._do("cancel", order_id, lambda: self.orders.pop(order_id, None))

    def move(self, contract_id: ContractId, size: int) -> None:
        self.sizes[contract_id] = size
        self.tell(PositionChanged(self.clock.now(), position(contract_id, size)))

    async def place_stop(
        self, account_id: AccountId, contract_id: ContractId, side: Side, size: int, stop_price: Decimal, tag: str
    ) -> Outcome:
        number = OrderId(900 + len(self.asked("place_stop")))
        row = Order(number, ACCOUNT, contract_id, OrderStatus.OPEN, OrderType.STOP, side, size, self.clock.now())
        row = evolve(row, stop_price=stop_price, custom_tag=tag)
        outcome = await self._do("place_stop", (contract_id, side, size, stop_price, tag), lambda: self.put(row))
        return Done(number) if outcome == Done() else outcome

    async def move_stop(
        self, account_id: AccountId, order_id: OrderId, stop_price: Decimal | None, size: int | None
    ) -> Outcome:
        def act() -> None:
            row = self.orders[order_id]
            self.put(evolve(row, stop_price=stop_price or row.stop_price, size=size or row.size))

        return await self._do("move_stop", (order_id, stop_price, size), act)

    def put(self, row: Order) -> None:
        self.orders[row.id] = row
        self.tell(OrderChanged(self.clock.now(), row))

    async def _do(self, kind: str, what: object, act: Callable[[], object]) -> Outcome:
        self.log.append((trio.current_time(), kind, what))
        await trio.sleep(self.closing_takes_s.get(what, 0.02) if isinstance(what, str) else 0.02)
        queued = self.answers.get(kind, [])
        if queued:
            return queued.pop(0)
        act()
        return Done()


def position(contract_id: ContractId, size: int) -> Position:
    return Position(ACCOUNT, contract_id, size, Decimal(100), START)


@define
class Room:
    """The desk's surroundings: the board as the pipeline keeps it, and what was noted and reported."""

    broker: ScriptedBroker
    board: Board
    told: trio.MemorySendChannel[Told | Withdrawn]
    noted: list[Entry] = field(factory=list)
    reported: list[Event] = field(factory=list)

    def fold(self, event: Event) -> None:
        self.board.post(apply(self.board.states[ACCOUNT], event))
        self.board.ring(ACCOUNT)

    def report(self, event: Event) -> None:
        self.reported.append(event)
        self.fold(event)

    async def tell(self, *decisions: Decision, rule: str = "rule", on_record: bool = True) -> None:
        """Tell a breach, as found on the state that the board shows now."""
        at = self.broker.clock.now()
        breach = Breach(f"{rule}-{at:%S%f}", rule, ACCOUNT, at, "cause", "reason", (), decisions, on_record)
        await self.told.send(Told(breach))

    @property
    def proofs(self) -> list[EndStateProven]:
        return [entry for entry in self.noted if isinstance(entry, EndStateProven)]

    @property
    def steps(self) -> list[StepTaken]:
        return [entry for entry in self.noted if isinstance(entry, StepTaken)]


@asynccontextmanager
async def at_work(*, kept_after_s: float = 0.0, **sizes: int) -> AsyncIterator[Room]:
    """Run enforcement for one account that holds ``sizes``; all desks are done when the block is left."""
    clock = TrioClock(START)
    broker = ScriptedBroker(clock, {{"MNQ": MNQ, "ES": ES}[name]: size for name, size in sizes.items()})
    board = Board({ACCOUNT: AccountState(ACCOUNT)})
    send, receive = trio.open_memory_channel[Told | Withdrawn](10)
    room = Room(broker, board, send)
    broker.tell = room.fold
    for contract_id, size in broker.sizes.items():
        room.fold(PositionChanged(clock.now(), position(contract_id, size)))
    await trio.sleep(1)

    async def kept() -> None:
        await trio.sleep(kept_after_s)

    recorder = Recorder(room.noted.append, kept, room.report)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(carry_out_breaches, receive, lambda _: broker, board, recorder, clock)
        async with send:
            yield room


async def until(true: Callable[[], object], seconds: float = 60) -> None:
    with trio.fail_after(seconds):
        while not true():  # noqa: ASYNC110  the clock is virtual
            await trio.sleep(0.01)


async def test_a_breach_is_closed_at_once_and_proven_by_two_readings(autojump_clock: object) -> None:
    async with at_work(MNQ=3, ES=-2) as room:
        began = trio.current_time()
        await room.tell(Flatten())
        await until(lambda: room.proofs)
        assert [at - began for at in room.broker.times("close")] == [0, 0]
        assert len(room.broker.times("read")) == 2
        assert room.broker.sizes == {MNQ: 0, ES: 0}


async def test_a_close_that_hangs_on_one_contract_delays_none_of_the_others(autojump_clock: object) -> None:
    async with at_work(MNQ=3, ES=-2) as room:
        room.broker.closing_takes_s[ES] = 30
        began = trio.current_time()
        await room.tell(Flatten())
        await until(lambda: room.broker.sizes[MNQ] == 0)
        assert trio.current_time() - began < 0.1
        await until(lambda: room.proofs)


async def test_a_reading_that_hangs_does_not_delay_the_close_of_what_appears_meanwhile(autojump_clock: object) -> None:
    async with at_work(MNQ=1) as room:
        room.broker.reading_takes_s = 20
        await room.tell(Flatten())
        await until(lambda: room.broker.sizes[MNQ] == 0)
        await trio.sleep(3)
        room.broker.move(ES, 2)
        began = trio.current_time()
        await until(lambda: room.broker.sizes[ES] == 0)
        assert trio.current_time() - began < 0.1
        await until(lambda: room.proofs, 300)


async def test_a_partial_close_whose_answer_is_lost_is_repeated_only_after_two_readings_that_agree(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=5) as room:
        room.broker.answers["partial_close"] = [Unknown("no answer")]
        await room.tell(ReduceTo(MNQ, 2))
        await until(lambda: len(room.broker.asked("partial_close")) == 2)
        first, second = room.broker.times("partial_close")
        assert sum(first < at < second for at in room.broker.times("read")) >= 2
        await until(lambda: room.proofs)
        assert room.broker.sizes[MNQ] == 2


async def test_a_used_up_allowance_does_not_keep_a_partial_close_from_its_readings(autojump_clock: object) -> None:
    async with at_work(MNQ=5) as room:
        room.broker.answers["partial_close"] = [Unknown("no answer")]
        room.broker.no_allowance = True
        await room.tell(ReduceTo(MNQ, 2))
        await until(lambda: len(room.broker.asked("partial_close")) == 2, 10)
        await until(lambda: room.broker.sizes[MNQ] == 2)
        room.broker.no_allowance = False
        await until(lambda: room.proofs)


async def test_a_market_order_just_placed_is_left_to_fill_and_cancelled_where_it_does_not(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=1) as room:
        entry = Order(
            OrderId(7), ACCOUNT, MNQ, OrderStatus.OPEN, OrderType.MARKET, Side.BUY, 1, room.broker.clock.now()
        )
        room.broker.put(entry)
        began = trio.current_time()
        await room.tell(Flatten())
        await until(lambda: room.proofs)
        assert [at - began for at in room.broker.times("cancel")] == [1.0]


async def test_a_partial_close_that_was_carried_out_although_its_answer_was_lost_is_not_repeated(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=5) as room:
        room.broker.answers["partial_close"] = [Unknown("no answer")]
        room.broker.tell = lambda event: None
        await room.tell(ReduceTo(MNQ, 2))
        await trio.sleep(0.5)
        room.broker.move(MNQ, 2)
        await until(lambda: room.proofs)
        assert room.broker.asked("partial_close") == [(MNQ, 3)]


async def test_while_a_market_order_is_pending_no_partial_close_is_repeated(autojump_clock: object) -> None:
    async with at_work(MNQ=5) as room:
        room.broker.answers["partial_close"] = [Unknown("no answer")]
        pending = Order(
            OrderId(7), ACCOUNT, MNQ, OrderStatus.PENDING, OrderType.MARKET, Side.SELL, 3, room.broker.clock.now()
        )
        room.broker.orders[pending.id] = pending
        await room.tell(ReduceTo(MNQ, 2))
        await trio.sleep(30)
        assert len(room.broker.asked("partial_close")) == 1
        assert not room.broker.asked("cancel"), "it is a close on its way"
        room.broker.orders.clear()
        room.broker.move(MNQ, 2)
        await until(lambda: room.proofs)


async def test_where_a_partial_close_is_refused_the_contract_is_closed_whole(autojump_clock: object) -> None:
    async with at_work(MNQ=5) as room:
        room.broker.answers["partial_close"] = [Refused(6, "OrderRejected")]
        await room.tell(ReduceTo(MNQ, 2))
        await until(lambda: room.proofs)
        assert room.broker.asked("close") == [MNQ]


async def test_a_partial_close_that_never_left_is_no_reason_to_close_the_contract_whole(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=5) as room:
        room.broker.answers["partial_close"] = [Refused(0, "no connection"), Refused(5, "InvalidCloseSize")]
        await room.tell(ReduceTo(MNQ, 2))
        await until(lambda: room.proofs)
        assert not room.broker.asked("close")
        assert room.broker.sizes[MNQ] == 2


async def test_it_never_gives_up_a_close_that_is_refused_and_says_so_at_a_capped_pace(autojump_clock: object) -> None:
    async with at_work(MNQ=1) as room:
        room.broker.answers["close"] = [Refused(1, "AccountNotFound")] * 50
        await room.tell(Flatten())
        await until(lambda: room.proofs, 600)
        times = room.broker.times("close")
        assert len(times) == 51
        assert max(later - earlier for earlier, later in pairwise(times)) <= 6.5
        assert [step.outcome for step in room.steps[:50]] == ["refused"] * 50


async def test_an_account_on_which_closes_are_refused_is_reported_and_reported_well_again(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=1) as room:
        room.broker.answers["close"] = [Refused(8, "AccountRejected: not for live accounts")] * 2
        await room.tell(Flatten())
        await until(lambda: room.proofs)
        reasons = [event.reason for event in room.reported if isinstance(event, ClosesRefused)]
        assert reasons == ["AccountRejected: not for live accounts", None]


async def test_readings_that_fail_do_not_stop_the_closing_and_are_no_proof(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        room.broker.unreadable = True
        await room.tell(Flatten())
        await until(lambda: room.broker.sizes[MNQ] == 0, 1)
        await trio.sleep(30)
        assert not room.proofs
        room.broker.unreadable = False
        await until(lambda: room.proofs)


async def test_readings_come_ever_more_slowly_while_they_prove_nothing(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        room.broker.unreadable = True
        await room.tell(Flatten())
        await trio.sleep(60)
        assert len(room.broker.times("read")) <= 40
        room.broker.unreadable = False
        await until(lambda: room.proofs)


async def test_what_the_record_does_not_show_waits_for_the_disk_but_not_for_long(autojump_clock: object) -> None:
    async with at_work(MNQ=2, kept_after_s=inf) as room:
        began = trio.current_time()
        await room.tell(Flatten(), on_record=False)
        await until(lambda: room.broker.asked("close"))
        assert room.broker.times("close")[0] - began == pytest.approx(DISK_WAIT_S)
        await until(lambda: room.proofs)


async def test_a_reduction_that_has_become_needless_is_dropped_and_a_close_is_not(autojump_clock: object) -> None:
    async with at_work(MNQ=5, ES=1) as room:
        room.broker.answers["partial_close"] = [Refused(0, "no connection")] * 3
        room.broker.answers["close"] = [Refused(0, "no connection")] * 3
        await room.tell(ReduceTo(MNQ, 2), rule="reduces")
        await room.tell(CloseContract(ES), rule="closes")
        await trio.sleep(0.1)
        await room.told.send(Withdrawn(ACCOUNT, "reduces"))
        await room.told.send(Withdrawn(ACCOUNT, "closes"))
        await until(lambda: room.proofs)
        assert room.broker.sizes == {MNQ: 5, ES: 0}


async def test_an_event_after_the_first_reading_makes_a_third_one_necessary(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        await room.tell(Flatten())
        await until(lambda: len(room.broker.times("read")) == 2)
        room.fold(PositionChanged(room.broker.clock.now(), position(ES, 0)))
        await until(lambda: room.proofs)
        assert len(room.broker.times("read")) >= 3


async def test_all_breaches_of_an_episode_are_proven_together_under_their_ids(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        await room.tell(Flatten())
        await trio.sleep(0.001)
        await room.tell(Flatten())
        await until(lambda: room.proofs)
        assert len(set(room.proofs[0].breaches)) == 2


async def test_enforcement_ends_with_its_channel_once_everything_is_in_its_end_state(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        await room.tell(Flatten())
    assert room.proofs


async def test_an_order_that_rests_on_a_flat_account_is_cancelled_and_a_stop_stays_until_flat(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=2) as room:
        stop = Order(OrderId(1), ACCOUNT, MNQ, OrderStatus.OPEN, OrderType.STOP, Side.SELL, 2, START)
        entry = evolve(stop, id=OrderId(2), type=OrderType.LIMIT, side=Side.BUY)
        room.broker.orders.update({stop.id: stop, entry.id: entry})
        room.fold(await room.broker.read_exposure(ACCOUNT, for_an_exit=False))
        room.broker.closing_takes_s[MNQ] = 1
        await room.tell(Flatten())
        await until(lambda: room.proofs)
        assert room.broker.asked("cancel")[:2] == [2, 1]
        closed = room.broker.times("close")[0] + 1
        assert [at >= closed for at in room.broker.times("cancel")][:2] == [False, True]


async def test_what_is_opened_again_is_closed_although_the_close_before_is_still_unanswered(
    autojump_clock: object,
) -> None:
    """The hub has shown the account flat in between, so the close that hangs has done its work."""
    async with at_work(MNQ=2) as room:
        room.broker.closing_takes_s[MNQ] = 8
        await room.tell(Flatten())
        await trio.sleep(0.1)
        room.broker.move(MNQ, 0)
        await trio.sleep(0.1)
        room.broker.move(MNQ, 1)
        began = trio.current_time()
        await until(lambda: len(room.broker.asked("close")) == 2)
        assert trio.current_time() - began < 0.1
        await until(lambda: room.proofs)


async def test_a_close_that_is_filling_in_parts_is_not_sent_again(autojump_clock: object) -> None:
    """Two closes of the same contracts could turn the position around."""
    async with at_work(MNQ=5) as room:
        room.broker.closing_takes_s[MNQ] = 0.5
        await room.tell(Flatten())
        for size in (4, 3, 1):
            await trio.sleep(0.1)
            room.broker.move(MNQ, size)
        await until(lambda: room.broker.sizes[MNQ] == 0)
        assert len(room.broker.asked("close")) == 1
        await until(lambda: room.proofs)


@pytest.mark.parametrize("answers", [[], [Unknown("HTTP status 500")] * 6])
async def test_without_a_hub_a_close_that_was_accepted_is_not_sent_again_and_again(
    autojump_clock: object, answers: list[Outcome]
) -> None:
    """One list that lacks a position is not believed by itself; after a close of ours that was accepted it is."""
    async with at_work(MNQ=3) as room:
        room.fold(await room.broker.read_exposure(ACCOUNT, for_an_exit=False))
        room.broker.tell = lambda event: None
        room.broker.answers["close"] = list(answers)
        await room.tell(Flatten())
        await until(lambda: room.proofs)
        assert len(room.broker.asked("close")) == len(answers) + 1


async def test_without_a_hub_what_is_opened_after_an_accepted_close_is_closed_too(autojump_clock: object) -> None:
    async with at_work(MNQ=3) as room:
        room.fold(await room.broker.read_exposure(ACCOUNT, for_an_exit=False))
        room.broker.tell = lambda event: None
        await room.tell(Flatten())
        await until(lambda: room.broker.sizes[MNQ] == 0)
        room.broker.move(MNQ, 2)
        await until(lambda: room.proofs)
        assert room.broker.sizes[MNQ] == 0


async def test_a_cancel_that_was_accepted_is_not_sent_again_and_again_where_the_hub_does_not_tell_of_it(
    autojump_clock: object,
) -> None:
    async with at_work() as room:
        resting = Order(OrderId(1), ACCOUNT, MNQ, OrderStatus.OPEN, OrderType.LIMIT, Side.BUY, 1, START)
        room.broker.orders[resting.id] = resting
        room.fold(await room.broker.read_exposure(ACCOUNT, for_an_exit=False))
        room.fold(OrderChanged(room.broker.clock.now(), resting))
        room.broker.tell = lambda event: None
        await room.tell(Flatten())
        began = trio.current_time()
        await until(lambda: room.proofs)
        assert trio.current_time() - began < 2
        assert room.broker.asked("cancel") == [resting.id]


HALTED = Refused(5, "OrderRejected: The instrument is not in an active trading status.")


def with_calendar(room: Room) -> datetime:
    """Let the account know the exchange's hours, in the daily pause; return when trading goes on."""
    state = room.board.states[ACCOUNT]
    room.board.post(evolve(state, terms=Terms(calendar=shipped_calendar())))
    room.broker.clock.ahead = datetime(2026, 3, 18, 21, 10, tzinfo=UTC) - room.broker.clock.now()
    return datetime(2026, 3, 18, 22, tzinfo=UTC)


async def test_what_a_closed_market_refuses_waits_for_the_opening_and_is_tried_at_its_first_instant(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=3) as room:
        opens = with_calendar(room)
        room.broker.answers["close"] = [Refused(5, "OrderRejected")] * 1_000
        began = trio.current_time()
        await room.tell(Flatten())
        to_the_opening = (opens - room.broker.clock.now()).total_seconds()
        await trio.sleep(to_the_opening - 30)
        attempts = len(room.broker.asked("close"))
        assert 5 <= attempts < 15, "it goes on trying, rarely"
        under_way = room.board.under_way(ACCOUNT)
        assert under_way is not None
        assert [attempt.market_opens_at for attempt in under_way.attempts] == [opens]
        assert len(room.broker.asked("read")) < to_the_opening / 10, "a closed market needs few readings"
        room.broker.answers.clear()
        await until(lambda: room.broker.sizes[MNQ] == 0)
        assert room.broker.times("close")[-1] - began == pytest.approx(to_the_opening, abs=0.01)
        opened = trio.current_time()
        await until(lambda: room.proofs)
        assert trio.current_time() - opened < 2


async def test_a_machine_that_slept_does_not_miss_the_opening_by_the_time_it_slept(autojump_clock: object) -> None:
    async with at_work(MNQ=3) as room:
        with_calendar(room)
        room.broker.answers["close"] = [Refused(5, "OrderRejected")] * 6
        await room.tell(Flatten())
        await until(lambda: len(room.broker.asked("close")) == 6, 2_000)
        room.broker.clock.ahead += timedelta(hours=1)
        await until(lambda: room.broker.sizes[MNQ] == 0, 20)
        await until(lambda: room.proofs)


async def test_a_closed_market_is_no_reason_to_close_whole_what_shall_be_reduced(autojump_clock: object) -> None:
    async with at_work(MNQ=5) as room:
        with_calendar(room)
        room.broker.answers["partial_close"] = [Refused(6, "OrderRejected")] * 3
        await room.tell(ReduceTo(MNQ, 2))
        await until(lambda: room.proofs, 3_600)
        assert not room.broker.asked("close")
        assert room.broker.sizes[MNQ] == 2


async def test_a_halt_of_which_no_calendar_knows_is_tried_through_at_a_capped_pace(autojump_clock: object) -> None:
    async with at_work(MNQ=1) as room:
        room.broker.answers["close"] = [HALTED] * 30
        await room.tell(Flatten())
        await until(lambda: room.proofs, 600)
        gaps = [round(later - earlier) for earlier, later in pairwise(room.broker.times("close"))]
        assert gaps == sorted(gaps)
        assert gaps[-1] == 10


async def test_what_is_under_way_can_be_told_at_every_moment(autojump_clock: object) -> None:
    async with at_work(MNQ=3, ES=-2) as room:
        assert room.board.under_way(ACCOUNT) is None
        room.broker.answers["close"] = [Refused(1, "AccountNotFound")] * 10
        began = room.broker.clock.now()
        await room.tell(Flatten(), rule="daily_realized_loss")
        await trio.sleep(0.01)
        first = room.board.under_way(ACCOUNT)
        assert first is not None
        assert (first.rules, first.since) == (("daily_realized_loss",), began)
        assert {(each.contract_id, each.tries, each.outcome) for each in first.attempts} == {(MNQ, 0, ""), (ES, 0, "")}
        assert all(each.next_try_at is None for each in first.attempts), "both are in flight"
        await trio.sleep(0.3)
        second = room.board.under_way(ACCOUNT)
        assert second is not None
        for each in second.attempts:
            assert (each.action, each.tries, each.outcome) == ("close", 1, "refused")
            assert each.reason == "AccountNotFound (code 1)"
            assert each.next_try_at is not None
            assert 0.1 < (each.next_try_at - began).total_seconds() < 1
        await until(lambda: not any(room.broker.sizes.values()))
        await trio.sleep(0.05)
        third = room.board.under_way(ACCOUNT)
        assert third is not None
        assert third.attempts == (), "it is being proven"
        await until(lambda: room.proofs)
        await trio.sleep(0.01)
        assert room.board.under_way(ACCOUNT) is None


async def test_an_order_that_cannot_be_cancelled_is_named(autojump_clock: object) -> None:
    async with at_work() as room:
        order = Order(OrderId(7), ACCOUNT, MNQ, OrderStatus.OPEN, OrderType.LIMIT, Side.BUY, 1, START)
        room.broker.put(order)
        room.broker.answers["cancel"] = [Refused(3, "Rejected")]
        await room.tell(Flatten())
        await trio.sleep(0.1)
        under_way = room.board.under_way(ACCOUNT)
        assert under_way is not None
        assert [(each.action, each.order_id, each.outcome) for each in under_way.attempts] == [("cancel", 7, "refused")]
        await until(lambda: room.proofs)


async def test_a_reduction_that_came_about_before_more_was_bought_is_proven_with_the_next(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=5) as room:
        await room.tell(ReduceTo(MNQ, 2))
        await trio.sleep(0.021)
        room.broker.move(MNQ, 5)
        await room.told.send(Withdrawn(ACCOUNT, "rule"))
        await room.tell(ReduceTo(MNQ, 2))
        await until(lambda: room.proofs)
        assert len(room.proofs[0].breaches) == 2
        assert room.broker.sizes[MNQ] == 2
