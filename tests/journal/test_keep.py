"""The lane to the disk: nobody waits for it, nothing of weight is lost, and trouble is told."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import define, evolve, field

from flatguard.journal.keep import HOLD_S, MOST_HELD, RETRY_S, Keeper
from flatguard.model.entries import Entry, Judged
from tests.fakes.entries import broken, held, quoted, step

FULL = "database or disk is full"


@define
class Disk:
    """Stands where the store stands: takes groups, refuses them, or takes its time."""

    groups: list[list[Entry]] = field(factory=list)
    refuses: str | None = None
    takes_s: float = 0.0
    broken: bool = False

    @property
    def entries(self) -> list[Entry]:
        return [entry for group in self.groups for entry in group]

    async def run_sync(self, write: Callable[..., object], group: Any) -> None:
        await trio.sleep(self.takes_s)
        write(group)

    def write(self, group: Any) -> None:
        assert not self.broken
        if self.refuses is not None:
            raise sqlite3.OperationalError(self.refuses)
        self.groups.append(list(group))


@define
class Lane:
    disk: Disk
    keeper: Keeper
    until: trio.Event
    ended: trio.Event


@asynccontextmanager
async def open_lane(most_held: int = MOST_HELD) -> AsyncIterator[Lane]:
    disk: Any = Disk()
    lane = Lane(disk, Keeper(disk, disk.run_sync, most_held), trio.Event(), trio.Event())

    async def keep() -> None:
        await lane.keeper.keep(lane.until)
        lane.ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep)
        await trio.testing.wait_all_tasks_blocked()
        yield lane
        nursery.cancel_scope.cancel()


async def test_what_is_posted_together_is_written_as_one_group_in_order(autojump_clock: object) -> None:
    async with open_lane() as lane:
        for n in range(100):
            lane.keeper.post(quoted(n))
            await trio.sleep(HOLD_S / 200)
        assert lane.disk.groups == []
        await trio.sleep(HOLD_S)
        assert lane.disk.groups == [[quoted(n) for n in range(100)]]


async def test_whoever_waits_for_the_disk_is_not_held_up_for_a_group(autojump_clock: object) -> None:
    async with open_lane() as lane:
        lane.keeper.post(held(1))
        began = trio.current_time()
        await lane.keeper.kept()
        assert trio.current_time() == began
        assert lane.disk.entries == [held(1)]


async def test_kept_returns_at_once_where_nothing_is_to_be_written(autojump_clock: object) -> None:
    async with open_lane() as lane:
        await lane.keeper.kept()
        assert lane.disk.groups == []


async def test_kept_returns_only_when_all_posted_before_it_is_on_the_disk(autojump_clock: object) -> None:
    async with open_lane() as lane:
        lane.disk.takes_s = 0.02
        lane.keeper.post(held(1))
        await trio.sleep(HOLD_S + 0.01)  # the first group is on its way
        lane.keeper.post(held(2))
        await lane.keeper.kept()
        assert lane.disk.entries == [held(1), held(2)]


async def test_kept_does_not_return_while_the_disk_refuses(autojump_clock: object) -> None:
    async with open_lane() as lane:
        lane.disk.refuses = FULL
        lane.keeper.post(held(1))
        with trio.move_on_after(30) as waited:
            await lane.keeper.kept()
        assert waited.cancelled_caught
        lane.disk.refuses = None
        await lane.keeper.kept()
        assert lane.disk.entries == [held(1)]


async def test_dropped_quotes_do_not_make_an_earlier_entry_look_written(autojump_clock: object) -> None:
    async with open_lane(most_held=10) as lane:
        lane.disk.refuses = FULL
        returned: list[int] = []

        async def wait() -> None:
            await lane.keeper.kept()
            returned.append(len(lane.disk.entries))

        async with trio.open_nursery() as nursery:
            lane.keeper.post(held(1))
            nursery.start_soon(wait)
            await trio.sleep(2)
            for n in range(50):
                lane.keeper.post(quoted(n))
            assert lane.keeper.dropped > 0
            await trio.sleep(2)
            assert returned == []
            lane.disk.refuses = None
        assert lane.disk.entries[0] == held(1)


@pytest.mark.parametrize("trouble", [FULL, "database is locked", "attempt to write a readonly database"])
async def test_a_disk_that_refuses_is_told_and_what_was_posted_is_written_later_in_order(
    autojump_clock: object, trouble: str
) -> None:
    async with open_lane() as lane:
        assert lane.keeper.trouble is None
        lane.disk.refuses = trouble
        lane.keeper.post(held(1))
        await trio.sleep(1)
        assert lane.keeper.trouble == trouble
        for n in range(2, 20):
            lane.keeper.post(held(n))
            await trio.sleep(0.3)
        assert lane.keeper.trouble == trouble
        lane.disk.refuses = None
        await trio.sleep(RETRY_S + HOLD_S)
        assert lane.keeper.trouble is None
        assert lane.disk.entries == [held(n) for n in range(1, 20)]


async def test_a_disk_that_hangs_is_trouble_too(autojump_clock: object) -> None:
    async with open_lane() as lane:
        lane.disk.takes_s = 60
        lane.keeper.post(held(1))
        await trio.sleep(1)
        assert lane.keeper.trouble is None
        await trio.sleep(9.05)
        assert lane.keeper.trouble == "the disk has not answered for 10 s"
        await trio.sleep(60)
        assert lane.keeper.trouble is None


async def test_posting_never_waits_however_long_the_disk_fails(autojump_clock: object) -> None:
    async with open_lane() as lane:
        lane.disk.refuses = FULL
        began = trio.current_time()
        for n in range(20_000):
            lane.keeper.post(held(n))
        assert trio.current_time() == began
        assert lane.keeper.unwritten == 20_000


async def test_only_quotes_that_changed_nothing_are_dropped_and_they_are_counted(autojump_clock: object) -> None:
    async with open_lane(most_held=100) as lane:
        lane.disk.refuses = FULL
        found = broken("a1")
        cleared = evolve(quoted(1), cleared=("max_contracts",))
        failed = evolve(quoted(2), failed=(("max_contracts", "x"),))
        warned = evolve(quoted(3), warned={"max_contracts": 60})
        weighty: list[Entry] = [held(1), found, cleared, failed, warned, step("a1")]
        for entry in weighty:
            lane.keeper.post(entry)
        for n in range(1_000):
            lane.keeper.post(quoted(n))
        assert lane.keeper.unwritten <= 100
        lane.disk.refuses = None
        await trio.sleep(5)
        assert [entry for entry in lane.disk.entries if entry in weighty] == weighty
        assert lane.keeper.dropped == 1_000 + len(weighty) - len(lane.disk.entries)
        last = lane.disk.entries[-1]
        assert isinstance(last, Judged)
        assert last == quoted(999)


async def test_room_is_looked_for_seldom_where_there_is_nothing_to_drop(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0
    make_room = Keeper._make_room

    def count(self: Keeper) -> None:
        nonlocal looked
        looked += 1
        make_room(self)

    monkeypatch.setattr(Keeper, "_make_room", count)
    async with open_lane(most_held=100) as lane:
        lane.disk.refuses = FULL
        for n in range(10_000):
            lane.keeper.post(held(n))
        assert looked < 10
        lane.disk.refuses = None
        await lane.keeper.kept()
        assert lane.disk.entries == [held(n) for n in range(10_000)]


async def test_shutting_down_writes_what_is_left_without_waiting_for_more(autojump_clock: object) -> None:
    async with open_lane() as lane:
        lane.disk.takes_s = 0.5
        lane.keeper.post(held(1))
        await trio.sleep(0.1)
        lane.keeper.post(held(2))
        began = trio.current_time()
        lane.until.set()
        await lane.ended.wait()
        assert trio.current_time() - began < 1.1
        assert lane.disk.entries == [held(1), held(2)]


async def test_shutting_down_with_nothing_posted_ends_at_once(autojump_clock: object) -> None:
    async with open_lane() as lane:
        began = trio.current_time()
        lane.until.set()
        await lane.ended.wait()
        assert trio.current_time() == began


@pytest.mark.parametrize("already_failing", [True, False])
async def test_shutting_down_with_a_full_disk_gives_up_after_one_more_try(
    autojump_clock: object, already_failing: bool
) -> None:
    async with open_lane() as lane:
        lane.disk.refuses = FULL
        lane.keeper.post(held(1))
        if already_failing:
            await trio.sleep(1.3)
        began = trio.current_time()
        lane.until.set()
        await lane.ended.wait()
        assert trio.current_time() - began < HOLD_S
        assert lane.keeper.unwritten == 1


async def test_an_error_that_is_not_the_disks_is_not_hidden(autojump_clock: object) -> None:
    with pytest.RaisesGroup(AssertionError, flatten_subgroups=True):
        async with open_lane() as lane:
            lane.disk.broken = True
            lane.keeper.post(held(1))
            await trio.sleep(1)
