"""Stops of ours: placed once, found again under their tag, only tightened, and never in the way of a close."""

from __future__ import annotations

from decimal import Decimal
from math import inf

import pytest
import trio
from attrs import evolve

from flatguard.enforcement.stops import DISK_WAIT_S, REFUSED_PAUSES_S
from flatguard.model.decisions import CloseContract, Flatten, ProtectAt
from flatguard.model.events import OrderChanged
from flatguard.model.ids import OrderId
from flatguard.model.outcomes import Refused, Unknown
from flatguard.model.trading import Order, OrderStatus, OrderType, Side
from tests.enforcement.test_carry_out import ACCOUNT, MNQ, Room, Withdrawn, at_work, until


def at(price: str, size: int = 2, number: int | None = None) -> ProtectAt:
    return ProtectAt(MNQ, Decimal(price), size, None if number is None else OrderId(number))


async def read(room: Room) -> None:
    room.fold(await room.broker.read_exposure(ACCOUNT, for_an_exit=False))


async def done(room: Room) -> None:
    await room.told.send(Withdrawn(ACCOUNT, "rule"))


async def test_a_stop_is_placed_once_and_then_moved(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        await room.tell(at("100"))
        await trio.sleep(5)
        ((contract_id, side, size, price, tag),) = room.broker.asked("place_stop")  # type: ignore[misc]
        assert (contract_id, side, size, price) == (MNQ, Side.SELL, 2, 100)
        assert tag.startswith("flatguard-")
        await room.tell(at("105", 2, 900))
        await trio.sleep(5)
        assert room.broker.asked("move_stop") == [(900, 105, None)]
        assert [step.action for step in room.steps] == ["place_stop", "move_stop"]
        assert not room.proofs
        await done(room)


async def test_it_is_made_durable_first_but_not_waited_for_long(autojump_clock: object) -> None:
    async with at_work(MNQ=2, kept_after_s=inf) as room:
        began = trio.current_time()
        await room.tell(at("100"))
        await until(lambda: room.broker.asked("place_stop"))
        assert room.broker.times("place_stop")[0] - began == pytest.approx(DISK_WAIT_S)


async def test_an_order_whose_answer_was_lost_is_found_under_its_tag_and_not_placed_again(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=2) as room:
        room.broker.answers["place_stop"] = [Unknown("OrderPending")]
        await room.tell(at("100"))
        await trio.sleep(10)
        assert len(room.broker.asked("place_stop")) == 1
        tag = room.broker.asked("place_stop")[0][4]  # type: ignore[index]
        row = Order(OrderId(7), ACCOUNT, MNQ, OrderStatus.OPEN, OrderType.STOP, Side.SELL, 2, room.broker.clock.now())
        row = evolve(row, stop_price=Decimal(100), custom_tag=tag)
        room.fold(OrderChanged(room.broker.clock.now(), row))
        await trio.sleep(10)
        assert len(room.broker.asked("place_stop")) == 1


async def test_an_order_whose_answer_was_lost_is_placed_anew_after_two_readings_without_it(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=2) as room:
        room.broker.answers["place_stop"] = [Unknown("no answer")]
        await room.tell(at("100"))
        await trio.sleep(1)
        await read(room)  # too early to tell
        await trio.sleep(2)
        await read(room)
        await trio.sleep(2)
        assert len(room.broker.asked("place_stop")) == 1
        await read(room)
        await trio.sleep(2)
        first, second = room.broker.asked("place_stop")
        assert first[4] != second[4]  # type: ignore[index]


async def test_what_is_refused_is_tried_again_at_an_ever_slower_pace_under_other_tags(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        room.broker.answers["place_stop"] = [Refused(2, "OrderRejected: Invalid stop price")] * 3
        await room.tell(at("100"))
        await until(lambda: len(room.broker.asked("place_stop")) == 4)
        times = room.broker.times("place_stop")
        for earlier, later, pause in zip(times, times[1:], REFUSED_PAUSES_S, strict=False):
            assert pause <= later - earlier <= pause + 1.1
        assert len({asked[4] for asked in room.broker.asked("place_stop")}) == 4  # type: ignore[index]


async def test_an_order_that_is_accepted_and_then_rejected_is_not_placed_again_at_once(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        tell, room.broker.tell = room.broker.tell, lambda event: None
        await room.tell(at("100"))
        await trio.sleep(0.1)
        tell(
            OrderChanged(room.broker.clock.now(), evolve(room.broker.orders[OrderId(900)], status=OrderStatus.REJECTED))
        )
        await trio.sleep(0.9)
        assert len(room.broker.asked("place_stop")) == 1
        await until(lambda: len(room.broker.asked("place_stop")) == 2)


async def test_a_stop_that_filled_at_once_is_not_replaced_before_the_position_is_told(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        tell, room.broker.tell = room.broker.tell, lambda event: None
        await room.tell(at("100"))
        await trio.sleep(0.1)
        tell(OrderChanged(room.broker.clock.now(), evolve(room.broker.orders[OrderId(900)], status=OrderStatus.FILLED)))
        await trio.sleep(1)
        await done(room)
        await trio.sleep(5)
        assert len(room.broker.asked("place_stop")) == 1


async def test_a_stop_to_be_moved_that_is_gone_is_not_asked_for_before_a_reading(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        await room.tell(at("100"))
        await trio.sleep(2)
        room.broker.answers["move_stop"] = [Refused(2, "OrderNotFound")] * 9
        await room.tell(at("105", 2, 900))
        await trio.sleep(20)
        assert len(room.broker.asked("move_stop")) == 1
        await done(room)


async def test_in_a_contract_that_is_being_closed_nothing_is_placed_and_the_close_goes_first(
    autojump_clock: object,
) -> None:
    async with at_work(MNQ=2, ES=1) as room:
        room.broker.closing_takes_s[MNQ] = 3
        began = trio.current_time()
        await room.tell(CloseContract(MNQ), rule="closes")
        await room.tell(at("100"))
        await until(lambda: room.proofs)
        assert room.broker.times("close") == [began]
        assert not room.broker.asked("place_stop")
        room.broker.move(MNQ, 2)
        await trio.sleep(0.5)
        assert not room.broker.asked("place_stop")
        await until(lambda: room.broker.asked("place_stop"))


async def test_a_stop_that_hangs_delays_no_close(autojump_clock: object) -> None:
    async with at_work(MNQ=2) as room:
        hang = room.broker.place_stop

        async def hanging(*about: object) -> object:
            await trio.sleep(30)
            return await hang(*about)  # type: ignore[arg-type]

        room.broker.place_stop = hanging  # type: ignore[assignment,method-assign]
        await room.tell(at("100"))
        await trio.sleep(1)
        began = trio.current_time()
        await room.tell(Flatten(), rule="closes")
        await until(lambda: room.broker.asked("close"))
        assert room.broker.times("close")[0] - began < 0.1
        await until(lambda: room.proofs)


async def test_what_is_withdrawn_before_it_left_is_not_sent(autojump_clock: object) -> None:
    async with at_work(MNQ=2, kept_after_s=0.04) as room:
        await room.tell(at("100"))
        await trio.sleep(0.01)
        await done(room)
        await trio.sleep(5)
        assert not room.broker.asked("place_stop")
