"""Prices from bars: when they are asked for, what they are taken for, and what they say of a silent hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import trio
from attrs import define, field

from flatguard.daemon.picture import ACCUSE_AGAIN_S
from flatguard.daemon.prices import LOOK_EVERY_S, QUIET, Prices
from flatguard.enforcement.board import Board
from flatguard.errors import GatewayUnreachable
from flatguard.ledger.apply import apply
from flatguard.ledger.pnl import unrealized
from flatguard.model.account import AccountState
from flatguard.model.events import (
    BarRead,
    ContractLearned,
    Event,
    ExposureRead,
    Hub,
    LinkDown,
    LinkUp,
    QuoteMoved,
)
from flatguard.model.ids import ContractId
from flatguard.model.trading import Bar, BarUnit, Contract, Position
from tests.fakes.clock import TrioClock
from tests.fakes.entries import ACCOUNT, MNQ

MORNING = datetime(2026, 3, 18, 14, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@define
class History:
    """The gateway's bars: a second each, the newest first, like those of a market that trades now and then."""

    traded_at: list[datetime] = field(factory=list)
    price: Decimal = Decimal(25_000)
    asked: list[float] = field(factory=list)
    failing: bool = False
    clock: TrioClock | None = None  # where the answers bear the time
    behind: timedelta = timedelta(0)  # the gateway's clock, compared with ours
    broker_at: datetime | None = None

    async def bars(
        self, contract_id: ContractId, since: datetime, until: datetime, unit: BarUnit, *, limit: int, partial: bool
    ) -> tuple[Bar, ...]:
        await trio.lowlevel.checkpoint()
        assert (contract_id, unit, partial) == (MNQ, BarUnit.SECOND, True)
        self.asked.append(trio.current_time())
        if self.failing:
            raise GatewayUnreachable("no answer")
        if self.clock is not None:
            self.broker_at = (self.clock.now() - self.behind).replace(microsecond=0)
        told = (at - self.behind for at in self.traded_at)
        seconds = sorted({at.replace(microsecond=0) for at in told if since <= at <= until}, reverse=True)
        return tuple(Bar(at, self.price, self.price, self.price, self.price, 1) for at in seconds[:limit])


@define
class Room:
    clock: TrioClock
    history: History
    board: Board
    frozen: list[str] = field(factory=list)
    sent: list[Event] = field(factory=list)

    @property
    def state(self) -> AccountState:
        return self.board.states[ACCOUNT]

    async def send(self, events: tuple[Event, ...]) -> None:
        await trio.lowlevel.checkpoint()
        for event in events:
            self.sent.append(event)
            self.board.post(apply(self.state, event))

    async def quote(self) -> None:
        price = self.history.price
        await self.send((QuoteMoved(self.clock.now(), MNQ, price, price, price),))


@asynccontextmanager
async def open_room(*, size: int = 2, market_up: bool = True) -> AsyncIterator[Room]:
    clock = TrioClock(MORNING)
    history: Any = History()
    room = Room(clock, history, Board({ACCOUNT: AccountState(ACCOUNT)}))
    held = (Position(ACCOUNT, MNQ, size, Decimal(25_000), MORNING),) if size else ()
    await room.send(
        (
            ContractLearned(MORNING, Contract(MNQ, "MNQZ6", Decimal("0.25"), Decimal("0.50"))),
            ExposureRead(MORNING, ACCOUNT, MORNING, MORNING, held, ()),
            LinkUp(MORNING, Hub.MARKET) if market_up else LinkDown(MORNING, Hub.MARKET, "cut"),
        )
    )
    prices = Prices(history, room.board, clock, room.frozen.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(prices.keep, room.send)
        yield room
        nursery.cancel_scope.cancel()


async def test_nothing_is_asked_while_quotes_come_or_nothing_is_held(autojump_clock: object) -> None:
    async with open_room() as room:
        for _ in range(60):
            await room.quote()
            await trio.sleep(1)
        assert [at for at in room.history.asked if at > 0] == []
    async with open_room(size=0) as room:
        await trio.sleep(60)
        assert room.history.asked == []


async def test_while_the_market_hub_is_down_what_is_held_is_priced_from_bars(autojump_clock: object) -> None:
    async with open_room(market_up=False) as room:
        room.history.price = Decimal(25_010)
        for _ in range(20):
            room.history.traded_at.append(room.clock.now())
            await trio.sleep(1)
        profit = unrealized(room.state, room.clock.now())
        assert (profit.amount, profit.unpriced) == (Decimal(40), ())
        assert room.frozen == []


async def test_a_bar_that_comes_late_is_no_fresh_price(autojump_clock: object) -> None:
    async with open_room(market_up=False) as room:
        room.history.traded_at.append(MORNING - timedelta(seconds=60))
        await trio.sleep(4)
        [told] = {event.began_at for event in room.sent if isinstance(event, BarRead)}
        assert told == MORNING - timedelta(seconds=60)
        assert room.state.quotes[MNQ].last_at == told + SECOND
        assert unrealized(room.state, room.clock.now()).unpriced == (MNQ,)


async def test_a_bar_that_no_quote_told_of_shows_that_the_hub_is_frozen_within_ten_seconds(
    autojump_clock: object,
) -> None:
    async with open_room() as room:
        await room.quote()
        began = trio.current_time()
        with trio.fail_after(10):
            while not room.frozen:
                room.history.traded_at.append(room.clock.now())
                await trio.sleep(0.5)
        assert trio.current_time() - began >= QUIET.total_seconds()
        assert room.frozen == [f"a bar shows trades in {MNQ} that no quote told"]


async def test_a_market_in_which_nobody_trades_accuses_nobody(autojump_clock: object) -> None:
    async with open_room() as room:
        room.history.traded_at.append(room.clock.now())
        await room.quote()
        await trio.sleep(600)
        assert room.frozen == []
        assert len(room.history.asked) <= 600 / LOOK_EVERY_S + 1


async def test_a_hub_that_never_tells_prices_is_not_cut_with_every_look(autojump_clock: object) -> None:
    async with open_room() as room:
        await room.quote()
        for _ in range(600):
            room.history.traded_at.append(room.clock.now())
            await trio.sleep(1)
        assert 1 < len(room.frozen) <= 600 / ACCUSE_AGAIN_S + 1


async def test_a_newer_quote_is_not_overwritten_by_a_bar(autojump_clock: object) -> None:
    async with open_room() as room:
        await room.quote()
        before = room.state.quotes[MNQ]
        await room.send((BarRead(room.clock.now(), MNQ, MORNING - 5 * SECOND, Decimal(1)),))
        assert room.state.quotes[MNQ] == before


@pytest.mark.parametrize("answer", ["fails", "empty"])
async def test_bars_that_cannot_be_had_change_nothing(autojump_clock: object, answer: str) -> None:
    async with open_room(market_up=False) as room:
        room.history.failing = answer == "fails"
        await trio.sleep(60)
        assert len(room.history.asked) >= 20
        assert MNQ not in room.state.quotes


# clocks that are some seconds apart, as they often are


CLOCKS = pytest.mark.parametrize("behind", [-40, -10, -3, 0, 3, 10, 40])


@CLOCKS
async def test_a_quiet_market_accuses_nobody_whatever_our_clock_shows(autojump_clock: object, behind: int) -> None:
    async with open_room() as room:
        room.history.clock, room.history.behind = room.clock, behind * SECOND
        for _ in range(20):
            room.history.traded_at.append(room.clock.now())
            await room.quote()
            await trio.sleep(7.3)
        assert room.frozen == []


@CLOCKS
async def test_a_frozen_hub_is_found_within_ten_seconds_whatever_our_clock_shows(
    autojump_clock: object, behind: int
) -> None:
    async with open_room() as room:
        room.history.clock, room.history.behind = room.clock, behind * SECOND
        await room.quote()
        with trio.fail_after(10):
            while not room.frozen:
                room.history.traded_at.append(room.clock.now())
                await trio.sleep(0.5)


@CLOCKS
async def test_a_bars_price_is_as_old_as_it_is_whatever_our_clock_shows(autojump_clock: object, behind: int) -> None:
    async with open_room() as room:
        room.history.clock, room.history.behind = room.clock, behind * SECOND
        await room.quote()
        await trio.sleep(8)
        room.history.price = Decimal(25_010)
        traded_at = room.clock.now()
        room.history.traded_at.append(traded_at)
        await trio.sleep(8)
        quote = room.state.quotes[MNQ]
        assert quote.last == 25_010
        assert quote.last_at is not None
        assert abs(quote.last_at - traded_at) <= SECOND


async def test_after_our_clock_was_set_back_silence_is_still_noticed(autojump_clock: object) -> None:
    async with open_room() as room:
        await room.quote()
        room.clock.ahead = -timedelta(hours=1)
        await trio.sleep(10)
        assert len(room.history.asked) >= 3
