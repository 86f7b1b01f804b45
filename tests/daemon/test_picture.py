"""How often the picture is read: on a timer, faster when blind, at once when in doubt, and within the allowance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
import trio
from attrs import define, evolve, field

from flatguard.daemon.contracts import LEARN_S, Contracts
from flatguard.daemon.picture import (
    ACCUSE_AGAIN_S,
    BLIND_EVERY_S,
    EXPOSURE_EVERY_S,
    HUB_LAG_S,
    Pictures,
    seconds_a_round,
)
from flatguard.enforcement.board import Board
from flatguard.errors import GatewayUnreachable
from flatguard.ledger.apply import apply
from flatguard.ledger.reconcile import unsettled_since
from flatguard.model.account import AccountState, Link
from flatguard.model.events import (
    ContractRefuted,
    Event,
    EventSetAside,
    ExposureRead,
    Hub,
    LinkDown,
    LinkUp,
    OrderChanged,
    PictureCorrected,
    PositionChanged,
    ReadingFailed,
    RecordRead,
    TradeMade,
)
from flatguard.model.ids import AccountId, ContractId, OrderId, TradeId
from flatguard.model.lockouts import Lockout
from flatguard.model.trading import (
    Account,
    Contract,
    Order,
    OrderStatus,
    OrderType,
    Position,
    Side,
    Trade,
)
from tests.fakes.clock import TrioClock
from tests.fakes.entries import ACCOUNT, MNQ

MORNING = datetime(2026, 3, 18, 14, 30, tzinfo=UTC)


@define
class Broker:
    """The REST side as the pictures need it; every request is counted with its moment."""

    clock: TrioClock
    requests: list[float] = field(factory=list)
    began: list[float] = field(factory=list)
    recorded: list[float] = field(factory=list)
    cross_checked: list[bool] = field(factory=list)
    asked_since: list[datetime] = field(factory=list)
    positions: tuple[Position, ...] = ()
    orders: tuple[Order, ...] = ()
    trades: tuple[Trade, ...] = ()
    contracts: frozenset[ContractId] = frozenset({MNQ})
    failing: bool = False
    contract_s: float = 0.0
    behind: timedelta = timedelta(0)

    def _broker_at(self) -> datetime:
        return (self.clock.now() - self.behind).replace(microsecond=0)

    def _request(self, number: int) -> None:
        self.requests += [trio.current_time()] * number
        if self.failing:
            raise GatewayUnreachable("no answer")

    async def read_record(self, account_id: AccountId, since: datetime) -> RecordRead:
        await trio.lowlevel.checkpoint()
        self.recorded.append(trio.current_time())
        self.asked_since.append(since)
        self._request(2)
        row = Account(account_id, "50K", Decimal(50_000), can_trade=True)
        now = self.clock.now()
        return RecordRead(now, account_id, now, self._broker_at(), row, self.trades, since)

    async def read_exposure(self, account_id: AccountId, *, cross_check: bool) -> ExposureRead:
        await trio.lowlevel.checkpoint()
        self.cross_checked.append(cross_check)
        self.began.append(trio.current_time())
        self._request(2)
        now = self.clock.now()
        return ExposureRead(now, account_id, now, self._broker_at(), self.positions, self.orders)

    async def contract(self, contract_id: ContractId) -> Contract:
        await trio.lowlevel.checkpoint()
        self._request(1)
        await trio.sleep(self.contract_s)
        if contract_id not in self.contracts:
            raise GatewayUnreachable("no such contract")
        return Contract(contract_id, "MNQZ6", Decimal("0.25"), Decimal("0.50"))


@define
class Room:
    """Pictures at work; what they send is folded at once, as the pipeline does."""

    broker: Broker
    board: Board
    clock: TrioClock
    pictures: Pictures
    sent: list[Event] = field(factory=list)
    frozen_at: list[float] = field(factory=list)
    answered_at: list[float] = field(factory=list)

    @property
    def state(self) -> AccountState:
        return self.board.states[ACCOUNT]

    async def send(self, events: tuple[Event, ...]) -> None:
        for event in events:
            self.sent.append(event)
            account_id: AccountId = getattr(event, "account_id", ACCOUNT)
            self.board.post(apply(self.board.states[account_id], event))
        for account_id in self.board.states:
            self.board.ring(account_id)
        await trio.lowlevel.checkpoint()

    def read_at(self) -> list[float]:
        """When readings began, by the virtual clock, to the tenth."""
        return [round(moment, 1) for moment in self.broker.began]


@asynccontextmanager
async def open_room(accounts: int = 1, *, hub_up: bool = True) -> AsyncIterator[Room]:
    clock = TrioClock(MORNING)
    states = {AccountId(ACCOUNT + n): AccountState(AccountId(ACCOUNT + n)) for n in range(accounts)}
    links = {Hub.USER: Link(up=hub_up), Hub.MARKET: Link(up=True)}
    board = Board({a: evolve(s, links=links) for a, s in states.items()})
    broker: Any = Broker(clock)
    room: Room
    pictures = Pictures(
        broker,
        broker,
        Contracts(broker, clock),
        board,
        clock,
        on_frozen=lambda why: room.frozen_at.append(trio.current_time()),
        on_answer=lambda: room.answered_at.append(trio.current_time()),
    )
    room = Room(broker, board, clock, pictures)
    async with trio.open_nursery() as nursery:
        for account_id in states:
            nursery.start_soon(pictures.keep, account_id, room.send)
        yield room
        nursery.cancel_scope.cancel()


def held(size: int, at: datetime = MORNING) -> Position:
    return Position(ACCOUNT, MNQ, size, Decimal(25_000), at)


# pace


async def test_while_all_looks_well_what_is_open_is_read_every_five_seconds_and_the_record_every_thirty(
    autojump_clock: object,
) -> None:
    async with open_room() as room:
        await trio.sleep(60.5)
        assert room.read_at() == [EXPOSURE_EVERY_S * n for n in range(13)]
        assert [round(moment) for moment in room.broker.recorded] == [0, 30, 60]
        assert room.broker.cross_checked == [n % 6 == 0 for n in range(13)]


async def test_while_the_user_hub_is_down_all_is_read_every_two_seconds_and_from_that_moment_on(
    autojump_clock: object,
) -> None:
    async with open_room() as room:
        await trio.sleep(11)
        await room.send((LinkDown(room.clock.now(), Hub.USER, "cut"),))
        await trio.sleep(10)
        assert room.read_at() == [0, 5, 10, 12, 14, 16, 18, 20]
        assert [round(moment) for moment in room.broker.recorded] == [0, 12, 14, 16, 18, 20]
        assert BLIND_EVERY_S == 2


@pytest.mark.parametrize("accounts", [2, 5, 20])
@pytest.mark.parametrize("hub_up", [True, False])
async def test_many_accounts_share_the_allowance_and_each_is_read_in_its_turn(
    autojump_clock: object, accounts: int, hub_up: bool
) -> None:
    async with open_room(accounts, hub_up=hub_up) as room:
        await trio.sleep(seconds_a_round(accounts, blind=not hub_up) + 5)
        first = len(room.broker.requests)
        await trio.sleep(600)
        assert (len(room.broker.requests) - first) / 10 <= 121
        by_account = [event for event in room.sent if isinstance(event, ExposureRead)]
        for account_id in room.board.states:
            assert len([event for event in by_account if event.account_id == account_id]) >= 10


@pytest.mark.parametrize("cause", ["doubt", "contract", "clock"])
async def test_what_cannot_be_cleared_up_does_not_use_up_the_allowance(autojump_clock: object, cause: str) -> None:
    """Readings that are owed but held back for lack of allowance would leave the account unseen for half a minute."""
    async with open_room(hub_up=False) as room:
        if cause == "contract":
            room.broker.contracts, room.broker.positions = frozenset(), (held(1),)
        if cause == "clock":
            room.broker.behind = timedelta(hours=9)
            lock = Lockout(ACCOUNT, "r", "account", MORNING, MORNING + timedelta(seconds=3), "", "")
            room.board.post(evolve(room.state, lockouts=(lock,)))
        for _ in range(600):
            if cause == "doubt":
                await room.send((EventSetAside(room.clock.now(), Hub.USER, "?", "unknown"),))
            await trio.sleep(1)
        for start in range(0, 540, 30):
            assert len([moment for moment in room.broker.requests if start <= moment < start + 60]) <= 150
        gaps = [later - sooner for sooner, later in zip(room.broker.began, room.broker.began[1:], strict=False)]
        assert max(gaps) <= BLIND_EVERY_S + 0.1


# at once


async def test_a_doubt_is_read_away_at_once(autojump_clock: object) -> None:
    async with open_room() as room:
        await trio.sleep(7.25)
        await room.send((EventSetAside(room.clock.now(), Hub.USER, "?", "unknown"),))
        await trio.sleep(3.5)
        assert room.read_at() == [0, 5, 7.2, 8.2, 10.2]
        assert room.state.doubt is None
        await trio.sleep(10)
        assert room.read_at()[4:] == [10.2, 15.2, 20.2]


async def test_a_contract_that_is_not_known_is_asked_for_at_once_and_told_before_the_reading(
    autojump_clock: object,
) -> None:
    async with open_room() as room:
        await trio.sleep(7.25)
        room.broker.positions = (held(1),)
        await room.send((PositionChanged(room.clock.now(), held(1)),))
        await trio.sleep(0.5)
        assert MNQ in room.state.contracts
        kinds = [type(event).__name__ for event in room.sent[-3:]]
        assert kinds == ["ContractLearned", "RecordRead", "ExposureRead"]


async def test_a_contract_of_which_only_the_hub_has_spoken_is_asked_for_too(autojump_clock: object) -> None:
    async with open_room() as room:
        await trio.sleep(7.25)
        await room.send((PositionChanged(room.clock.now(), held(1)),))
        await trio.sleep(0.5)
        assert MNQ in room.state.contracts


async def test_a_contract_that_cannot_be_learned_does_not_keep_the_reading_back(autojump_clock: object) -> None:
    async with open_room() as room:
        room.broker.contracts, room.broker.positions = frozenset(), (held(1),)
        await trio.sleep(0.5)
        assert room.state.positions[MNQ].size == 1
        assert MNQ not in room.state.contracts


async def test_at_the_end_of_a_lock_it_is_read_for_the_brokers_clock(autojump_clock: object) -> None:
    async with open_room() as room:
        await trio.sleep(1)
        ends = MORNING + timedelta(seconds=12)
        room.board.post(evolve(room.state, lockouts=(Lockout(ACCOUNT, "r", "account", MORNING, ends, "", ""),)))
        room.board.ring(ACCOUNT)
        await trio.sleep(11.9)
        assert room.state.locked(room.clock.now())
        await trio.sleep(0.2)
        assert room.read_at() == [0, 5, 10, 13]
        assert not room.state.locked(room.clock.now())


async def test_a_broker_whose_clock_is_behind_is_read_until_it_agrees(autojump_clock: object) -> None:
    async with open_room() as room:
        room.broker.behind = timedelta(seconds=8)
        ends = MORNING + timedelta(seconds=12)
        room.board.post(evolve(room.state, lockouts=(Lockout(ACCOUNT, "r", "account", MORNING, ends, "", ""),)))
        await trio.sleep(19.5)
        assert room.state.locked(room.clock.now())
        await trio.sleep(5)
        assert not room.state.locked(room.clock.now())


async def test_a_permanent_lock_is_no_reason_to_hurry(autojump_clock: object) -> None:
    async with open_room() as room:
        room.board.post(evolve(room.state, lockouts=(Lockout(ACCOUNT, "r", "account", MORNING, None, "", ""),)))
        await trio.sleep(11)
        assert room.read_at() == [0, 5, 10]


# failures


async def test_a_reading_that_fails_is_an_event_and_the_next_one_comes_all_the_same(autojump_clock: object) -> None:
    async with open_room() as room:
        await trio.sleep(1)
        room.broker.failing = True
        await trio.sleep(10)
        failures = [event for event in room.sent if isinstance(event, ReadingFailed)]
        assert [event.reason for event in failures] == ["no answer", "no answer"]
        assert room.state.read_failed == "no answer"
        assert room.answered_at == []
        room.broker.failing = False
        await trio.sleep(10)
        assert room.state.read_failed is None
        assert [round(moment) for moment in room.answered_at] == [15]


# a hub that looks well and is frozen


async def test_a_change_that_the_hub_does_not_tell_shows_that_it_is_frozen(autojump_clock: object) -> None:
    async with open_room() as room:
        await trio.sleep(1)
        room.broker.positions = (held(2),)
        await trio.sleep(20)
        assert room.frozen_at == [5 + HUB_LAG_S]


async def test_a_change_that_the_hub_tells_a_little_later_is_no_sign_of_anything(autojump_clock: object) -> None:
    async with open_room() as room:
        await trio.sleep(1)
        room.broker.positions = (held(2),)
        await trio.sleep(5)
        await room.send((PositionChanged(room.clock.now(), held(2)),))
        await trio.sleep(20)
        assert room.frozen_at == []


async def test_a_position_that_is_gone_without_a_word_shows_it_too_and_within_ten_seconds(
    autojump_clock: object,
) -> None:
    async with open_room() as room:
        await up_with_three(room)
        began = trio.current_time()
        room.broker.positions = ()
        await trio.sleep(20)
        assert room.frozen_at
        assert room.frozen_at[0] - began <= 10


async def test_the_first_reading_and_readings_without_a_hub_accuse_nobody(autojump_clock: object) -> None:
    async with open_room() as room:
        room.broker.positions = (held(2),)
        await trio.sleep(4)
        assert room.frozen_at == []
        await room.send((LinkDown(room.clock.now(), Hub.USER, "cut"),))
        room.broker.positions = ()
        await trio.sleep(10)
        assert room.frozen_at == []


# what is asked for


async def test_fills_are_asked_for_from_the_day_on_and_then_from_a_little_before_the_last_reading(
    autojump_clock: object,
) -> None:
    async with open_room() as room:
        await trio.sleep(601)
        day = datetime(2026, 3, 17, 22, 0, tzinfo=UTC)
        assert room.broker.asked_since[0] == day
        assert room.broker.asked_since[-1] == MORNING + timedelta(seconds=570) - timedelta(minutes=5)


async def test_after_the_reset_fills_are_asked_for_from_the_new_day_on(autojump_clock: object) -> None:
    async with open_room() as room:
        room.clock.ahead = timedelta(hours=7, minutes=29)
        await trio.sleep(120)
        assert room.broker.asked_since[-1] == datetime(2026, 3, 18, 22, 0, tzinfo=UTC)


# what does not add up


def filled(number: int, side: Side, size: int, at: datetime) -> TradeMade:
    made = Trade(
        TradeId(number), ACCOUNT, MNQ, at, Decimal(25_000), None, Decimal(0), None, side, size, False, OrderId(number)
    )
    return TradeMade(at, made)


async def up_with_three(room: Room) -> None:
    await trio.sleep(1)
    room.broker.positions = (held(3),)
    now = room.clock.now()
    await room.send((PositionChanged(now, held(3)), filled(1, Side.BUY, 3, now)))
    await trio.sleep(10)
    assert room.frozen_at == []
    room.broker.began.clear()
    room.broker.recorded.clear()


@pytest.mark.parametrize("lost", ["position", "fill"])
async def test_a_fill_that_does_not_fit_the_position_is_read_away_at_once(autojump_clock: object, lost: str) -> None:
    async with open_room() as room:
        await up_with_three(room)
        room.broker.positions = (held(5),)
        now, event = room.clock.now(), filled(2, Side.BUY, 2, room.clock.now())
        await room.send((PositionChanged(now, held(5)) if lost == "fill" else event,))
        await trio.sleep(HUB_LAG_S + 0.5)
        assert room.broker.recorded or lost == "position"
        assert room.state.size_of(MNQ) == 5
        assert unsettled_since(room.state) is None


async def test_fills_that_fit_are_no_reason_to_read(autojump_clock: object) -> None:
    async with open_room() as room:
        await up_with_three(room)
        room.broker.positions = ()
        now = room.clock.now()
        await room.send((filled(2, Side.SELL, 3, now), PositionChanged(now, held(0))))
        await trio.sleep(12)
        assert [later - sooner for sooner, later in pairwise(room.read_at())] == [5, 5]


async def test_what_the_hub_did_not_tell_is_named(autojump_clock: object) -> None:
    async with open_room() as room:
        await up_with_three(room)
        room.broker.positions = (held(4),)
        await trio.sleep(10)
        [corrected] = [event for event in room.sent if isinstance(event, PictureCorrected)]
        assert corrected.what == ("position MNQZ6: +3 is +4",)


async def test_what_changed_while_the_hub_was_down_is_named_with_the_reading(autojump_clock: object) -> None:
    async with open_room() as room:
        await up_with_three(room)
        room.broker.positions = (held(4),)
        await room.send((LinkDown(room.clock.now(), Hub.USER, "cut"),))
        await trio.sleep(2.5)
        [corrected] = [event for event in room.sent if isinstance(event, PictureCorrected)]
        assert corrected.what == ("position MNQZ6: +3 is +4",)
        assert room.frozen_at == []


async def test_an_order_that_the_hub_does_not_tell_shows_that_it_is_frozen(autojump_clock: object) -> None:
    async with open_room() as room:
        await trio.sleep(1)
        room.broker.orders = (Order(OrderId(7), ACCOUNT, MNQ, OrderStatus.OPEN, OrderType.LIMIT, Side.BUY, 2, MORNING),)
        await trio.sleep(9)
        assert room.frozen_at == [5 + HUB_LAG_S]
        [corrected] = [event for event in room.sent if isinstance(event, PictureCorrected)]
        assert corrected.what == ("order 7 (buy 2 MNQZ6) is working",)


async def test_after_our_clock_was_set_back_the_account_is_read_as_before(autojump_clock: object) -> None:
    async with open_room() as room:
        await trio.sleep(12)
        room.clock.ahead = -timedelta(hours=1)
        room.broker.began.clear()
        await trio.sleep(60)
        assert len(room.broker.began) >= 11


async def test_a_list_that_stays_old_does_not_cut_the_hub_again_and_again(autojump_clock: object) -> None:
    async with open_room() as room:
        await up_with_three(room)
        for _ in range(60):
            now = room.clock.now()
            await room.send((PositionChanged(now, held(6)), PositionChanged(now, held(3))))
            room.broker.positions = (held(6),)
            await trio.sleep(1.9)
        assert all(later - sooner >= ACCUSE_AGAIN_S for sooner, later in pairwise(room.frozen_at))


async def test_lists_that_are_old_for_a_while_do_not_cut_a_hub_that_told_all(autojump_clock: object) -> None:
    async with open_room() as room:
        await up_with_three(room)
        await trio.sleep(2)
        now = room.clock.now()
        await room.send((filled(2, Side.SELL, 1, now), PositionChanged(now, held(2))))
        await trio.sleep(5)
        room.broker.positions = (held(2),)
        await trio.sleep(30)
        assert room.frozen_at == []
        assert not [event for event in room.sent if isinstance(event, PictureCorrected)]


@pytest.mark.parametrize("seconds", [1.0, 2.5, 4.0, 4.9])
async def test_a_fill_that_the_hub_does_not_tell_shows_within_ten_seconds(
    autojump_clock: object, seconds: float
) -> None:
    async with open_room() as room:
        await up_with_three(room)
        await trio.sleep(4 + seconds)  # readings come at 10, 15, 20
        room.broker.positions = ()
        changed_at = trio.current_time()
        room.broker.trades = (filled(2, Side.SELL, 3, room.clock.now()).trade,)
        await trio.sleep(10)
        [frozen_at] = room.frozen_at
        assert frozen_at - changed_at < 10
        assert room.state.positions == {}


async def test_a_position_kept_overnight_refutes_no_contract(autojump_clock: object) -> None:
    """What is closed today was opened at the price of a day before, of which the day's fills tell nothing."""
    async with open_room() as room:
        room.broker.positions = (held(2),)
        await trio.sleep(1)
        now = room.clock.now()
        bought = filled(1, Side.BUY, 2, now - timedelta(minutes=2)).trade
        sold = evolve(filled(2, Side.SELL, 2, now - timedelta(minutes=1)).trade, profit_and_loss=Decimal(240))
        room.broker.trades = (bought, sold)
        await trio.sleep(60)
        assert room.state.size_of(MNQ) == 2
        assert room.state.contracts
        assert not [event for event in room.sent if isinstance(event, ContractRefuted)]


async def test_a_trailing_stop_that_moves_without_a_word_accuses_nobody(autojump_clock: object) -> None:
    def trailing(stop: int) -> Order:
        return Order(
            OrderId(7),
            ACCOUNT,
            MNQ,
            OrderStatus.OPEN,
            OrderType.TRAILING_STOP,
            Side.SELL,
            3,
            MORNING,
            stop_price=Decimal(stop),
        )

    async with open_room() as room:
        await up_with_three(room)
        room.broker.orders = (trailing(24_000),)
        await room.send((OrderChanged(room.clock.now(), trailing(24_000)),))
        for step in range(10):
            room.broker.orders = (trailing(24_000 + step),)
            await trio.sleep(5)
        assert room.frozen_at == []
        assert room.state.orders[OrderId(7)].stop_price == 24_009


async def test_what_was_read_of_the_account_waits_little_for_a_contract(autojump_clock: object) -> None:
    async with open_room() as room:
        await trio.sleep(3)
        room.broker.contract_s = 30.0
        room.broker.positions = (held(1),)
        began = trio.current_time()
        events = await room.pictures.read(ACCOUNT)
        assert trio.current_time() - began == LEARN_S
        assert [type(event) for event in events[:2]] == [RecordRead, ExposureRead]


async def test_what_the_reading_at_a_connection_was_too_early_for_accuses_nobody(autojump_clock: object) -> None:
    """Lists lag by a second: a change just before the hub was up shows in the next reading only."""
    async with open_room() as room:
        await up_with_three(room)
        now = room.clock.now()
        await room.send((LinkDown(now, Hub.USER, "cut"), *await room.pictures.read(ACCOUNT), LinkUp(now, Hub.USER)))
        room.broker.positions = (held(4),)
        await trio.sleep(20)
        assert room.frozen_at == []
        [corrected] = [event for event in room.sent if isinstance(event, PictureCorrected)]
        assert corrected.what == ("position MNQZ6: +3 is +4",)


async def test_after_a_connection_the_record_is_read_once_more(autojump_clock: object) -> None:
    async with open_room() as room:
        await up_with_three(room)
        await room.send((LinkDown(room.clock.now(), Hub.USER, "cut"),))
        await trio.sleep(0.1)
        await room.send((LinkUp(room.clock.now(), Hub.USER),))
        room.broker.recorded.clear()
        await trio.sleep(HUB_LAG_S + 0.1)
        assert len(room.broker.recorded) == 1
        await trio.sleep(12)
        assert len(room.broker.recorded) == 1


async def test_that_the_broker_answers_again_is_noticed_although_somebody_else_read_first(
    autojump_clock: object,
) -> None:
    """Enforcement reads for itself; the hubs wait for the word of this task."""
    async with open_room(hub_up=False) as room:
        await trio.sleep(1)
        room.broker.failing = True
        await trio.sleep(10)
        room.broker.failing = False
        await room.send((await room.broker.read_exposure(ACCOUNT, cross_check=False),))
        assert room.state.read_failed is None
        await trio.sleep(3)
        assert len(room.answered_at) == 1
