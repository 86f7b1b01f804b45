"""Events and moments in, breaches out; nothing waits, nothing is lost, and no failure ends guarding."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, evolve, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.daemon import pipeline as pipeline_module
from flatguard.daemon.pipeline import LONGEST_SLEEP_S, Batch, Pipeline, contracts_of, merged
from flatguard.enforcement.board import Board
from flatguard.enforcement.carry_out import Told, Withdrawn
from flatguard.model.account import AccountState
from flatguard.model.entries import Checkpoint, Entry, Judged
from flatguard.model.events import (
    ClockReached,
    Event,
    ExposureRead,
    Hub,
    LinkUp,
    PositionChanged,
    QuoteMoved,
    RecordRead,
    TradeMade,
)
from flatguard.model.ids import AccountId, ContractId, OrderId, TradeId
from flatguard.model.lockouts import Lockout
from flatguard.model.money import ZERO
from flatguard.model.trading import Account, Position, Side, Trade
from flatguard.rules._book import RuleBook
from flatguard.rules._rule import Finding, Rule
from flatguard.rules.blindness import Blindness
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.daily_realized_profit import DailyRealizedProfit
from flatguard.rules.daily_unrealized_loss import DailyUnrealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.rules.max_contracts_per_instrument import MaxContractsPerInstrument
from tests.fakes.clock import TrioClock
from tests.fakes.entries import ACCOUNT, MNQ, OTHER

MORNING = datetime(2026, 3, 18, 14, 30, tzinfo=UTC)
FIVE_PM = datetime(2026, 3, 18, 22, 0, tzinfo=UTC)
MES = ContractId("CON.F.US.MES.Z26")
TWO = {"max_contracts": MaxContracts(limit=2)}


def position(size: int, at: datetime, account: AccountId = ACCOUNT) -> PositionChanged:
    return PositionChanged(at, Position(account, MNQ, size, Decimal(25000), MORNING))


def picture(at: datetime, account: AccountId = ACCOUNT, broker_at: datetime | None = None) -> Batch:
    row = Account(account, "50K", Decimal(50_000), can_trade=True)
    return (
        RecordRead(at, account, at, broker_at, row, (), MORNING),
        ExposureRead(at, account, at, broker_at, (), ()),
    )


@define
class Line:
    """A pipeline at work between two channels."""

    pipeline: Pipeline
    board: Board
    clock: TrioClock
    feed: trio.MemorySendChannel[Batch]
    told: trio.MemoryReceiveChannel[Told | Withdrawn]
    entries: list[Entry] = field(factory=list)
    failures: list[tuple[AccountId, str]] = field(factory=list)
    watched: list[frozenset[ContractId]] = field(factory=list)

    @property
    def state(self) -> AccountState:
        return self.board.states[ACCOUNT]

    async def send(self, *events: Event) -> None:
        await self.feed.send(events)
        await trio.testing.wait_all_tasks_blocked()

    def events(self, kind: type[Event] | None = None) -> list[Event]:
        found = [entry.event for entry in self.entries if isinstance(entry, Judged)]
        return [event for event in found if kind is None or isinstance(event, kind)]

    def messages(self) -> list[Told | Withdrawn]:
        out: list[Told | Withdrawn] = []
        while True:
            try:
                out.append(self.told.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return out


@asynccontextmanager
async def open_line(
    rules: Mapping[str, Rule],
    *accounts: AccountId,
    start: datetime = MORNING,
    pictured: bool = True,
    others: Mapping[str, Rule] | None = None,
) -> AsyncIterator[Line]:
    """Open a line; all accounts but the first are under ``others`` where these are given."""
    accounts = accounts or (ACCOUNT,)
    board = Board({account: AccountState(account) for account in accounts})
    clock = TrioClock(start)
    feed_in, feed_out = trio.open_memory_channel[Batch](100)
    told_in, told_out = trio.open_memory_channel[Told | Withdrawn](100_000)
    line: Line
    pipeline = Pipeline(
        {a: RuleBook(rules if others is None or a == accounts[0] else others) for a in accounts},
        board,
        clock,
        note=lambda entry: line.entries.append(entry),
        on_failure=lambda account, what: line.failures.append((account, what)),
        watch=lambda contracts, unpriced: line.watched.append(contracts),
    )
    line = Line(pipeline, board, clock, feed_in, told_out)
    async with trio.open_nursery() as nursery, feed_in:
        nursery.start_soon(pipeline.judge_events, feed_out, told_in)
        for account in accounts if pictured else ():
            await line.send(*picture(start, account))
        yield line
        await feed_in.aclose()


# quotes


def quote(seconds: float, contract: ContractId = MNQ, **parts: int) -> QuoteMoved:
    prices: dict[str, Any] = {name: Decimal(price) for name, price in parts.items()}
    return QuoteMoved(MORNING + timedelta(seconds=seconds), contract, **prices)


def test_quotes_of_a_batch_are_merged_per_contract_and_no_part_is_lost() -> None:
    batch = (quote(1, last=10), quote(1, MES, last=5), quote(2, bid=9), quote(3, last=11), quote(3, ask=12))
    assert merged(batch) == [quote(3, last=11, bid=9, ask=12), quote(1, MES, last=5)]


def test_nothing_but_quotes_is_merged_and_the_order_stays() -> None:
    moves = [position(n, MORNING) for n in (1, 2, 2, 1)]
    batch = (moves[0], quote(1, last=1), moves[1], moves[2], quote(2, last=2), moves[3])
    assert merged(batch) == [moves[0], quote(2, last=2), moves[1], moves[2], moves[3]]


async def test_a_quote_is_folded_into_the_accounts_that_hold_the_contract_and_no_others(
    autojump_clock: object,
) -> None:
    async with open_line({}, ACCOUNT, OTHER) as line:
        await line.send(position(1, MORNING))
        await line.send(quote(1, last=10), quote(1, bid=9), quote(1, MES, last=5))
        assert line.events(QuoteMoved) == [quote(1, last=10, bid=9)]
        assert MNQ in line.state.quotes
        assert not line.board.states[OTHER].quotes
        assert line.watched[-1] == {MNQ} == contracts_of(line.state)


async def test_events_of_all_accounts_reach_all_and_those_of_strangers_reach_none(autojump_clock: object) -> None:
    async with open_line({}, ACCOUNT, OTHER) as line:
        await line.send(LinkUp(MORNING, Hub.USER), position(1, MORNING, AccountId(1)))
        assert all(state.links[Hub.USER].up for state in line.board.states.values())
        assert line.events(PositionChanged) == []


STRICT: dict[str, Rule] = {
    "max_contracts": MaxContracts(limit=1),
    "daily_realized_loss": DailyRealizedLoss(Decimal(100)),
    "daily_unrealized_loss": DailyUnrealizedLoss(Decimal(10)),
    "blindness": Blindness(5),
}
LOOSE: dict[str, Rule] = {
    "max_contracts": MaxContracts(limit=9, enforcement="reduce_to_limit"),
    "daily_realized_profit": DailyRealizedProfit(Decimal(100)),
    "max_contracts_per_instrument": MaxContractsPerInstrument({"MNQ": 0}),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from([ACCOUNT, OTHER]),
        st.sampled_from(["position", "trade", "quote", "reading"]),
        st.integers(-4, 4),
        st.sampled_from([0, 1, 7, 90]),
    ),
    max_size=12,
)


async def course(steps: list[tuple[AccountId, str, int, int]], *accounts: AccountId) -> dict[AccountId, list[Any]]:
    """Play the steps of ``accounts``; return of each what was judged and told of it, and how it ended."""
    first, second = (STRICT, LOOSE) if accounts[0] == ACCOUNT else (LOOSE, STRICT)
    async with open_line(first, *accounts, others=second) as line:
        for number, (account, what, size, wait) in enumerate(steps):
            await trio.sleep(wait + 0.37)  # so that nothing happens at the very moment that a rule named
            now = line.clock.now()
            if what == "quote":
                await line.send(QuoteMoved(now, MNQ, Decimal(25000 + size)))
            elif account not in accounts:
                continue
            elif what == "position":
                await line.send(position(size, now, account))
            elif what == "trade":
                profit = Decimal(size * 30)
                order_id = OrderId(number)
                fill = Trade(
                    TradeId(number), account, MNQ, now, Decimal(1), profit, ZERO, ZERO, Side.SELL, 1, False, order_id
                )
                await line.send(TradeMade(now, fill))
            else:
                await line.send(*picture(now, account, now))
        await trio.sleep(60.5)
        judged = [entry for entry in line.entries if isinstance(entry, Judged)]
        messages = line.messages()
        return {
            a: [
                [entry for entry in judged if entry.account_id == a],
                [m for m in messages if (m.breach.account_id if isinstance(m, Told) else m.account_id) == a],
                line.board.states[a].lockouts,
            ]
            for a in accounts
        }


@settings(max_examples=25)
@given(steps=STEPS)
def test_two_accounts_with_opposite_settings_never_influence_each_other(
    steps: list[tuple[AccountId, str, int, int]],
) -> None:
    """Each comes out as if it were alone. A price is the market's, and so both hear of it."""
    both = trio.run(course, steps, ACCOUNT, OTHER, clock=trio.testing.MockClock(autojump_threshold=0))
    for account in (ACCOUNT, OTHER):
        alone = trio.run(course, steps, account, clock=trio.testing.MockClock(autojump_threshold=0))
        assert both[account] == alone[account]


# moments


async def test_over_a_day_without_events_the_clock_is_an_event_once_at_the_reset(autojump_clock: object) -> None:
    async with open_line(TWO) as line:
        await trio.sleep(24 * 3600)
        assert [event.at for event in line.events(ClockReached)] == [FIVE_PM]
        assert line.state.today is not None
        assert line.state.today.starts_at == FIVE_PM


async def test_the_clock_is_an_event_at_the_end_of_each_lock_and_at_no_other_moment(autojump_clock: object) -> None:
    ends = [MORNING + timedelta(minutes=5), MORNING + timedelta(hours=1, microseconds=1)]
    async with open_line(TWO) as line:
        locks = tuple(Lockout(ACCOUNT, f"rule{n}", "account", MORNING, end, "", "") for n, end in enumerate(ends))
        line.board.post(evolve(line.state, lockouts=locks))
        await line.send(LinkUp(MORNING, Hub.USER))
        await trio.sleep(24 * 3600)
        assert [event.at for event in line.events(ClockReached)] == [*ends, FIVE_PM]


@frozen
class AtMoments(Rule):
    """A rule that wants to be judged at given moments."""

    moments: tuple[datetime, ...]

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        return None

    def judge_again_at(self, state: AccountState) -> datetime | None:
        return next((m for m in self.moments if state.exposure_at is not None and m > state.exposure_at), None)


async def test_a_rules_moment_is_reached_to_the_microsecond(autojump_clock: object) -> None:
    moment = MORNING + timedelta(seconds=1, microseconds=333_333)
    async with open_line({"at_moments": AtMoments((moment,))}) as line:
        await trio.sleep(1_000)
        assert [event.at for event in line.events(ClockReached)] == [moment]


async def test_a_moment_of_one_account_is_no_event_of_the_other(autojump_clock: object) -> None:
    async with open_line({}, ACCOUNT, OTHER) as line:
        end = MORNING + timedelta(minutes=5)
        line.board.post(evolve(line.state, lockouts=(Lockout(ACCOUNT, "r", "account", MORNING, end, "", ""),)))
        await line.send(LinkUp(MORNING, Hub.USER))
        await trio.sleep(600)
        assert [(entry.account_id, entry.event.at) for entry in line.entries if _is_clock(entry)] == [(ACCOUNT, end)]  # type: ignore[union-attr]


def _is_clock(entry: Entry) -> bool:
    return isinstance(entry, Judged) and isinstance(entry.event, ClockReached)


async def test_a_clock_that_is_set_forward_is_noticed_within_five_minutes(autojump_clock: object) -> None:
    async with open_line(TWO) as line:
        line.clock.ahead = timedelta(hours=12)
        await trio.sleep(LONGEST_SLEEP_S + 1)
        assert len(line.events(ClockReached)) == 1
        line.clock.ahead = timedelta(0)
        await trio.sleep(3600)
        assert len(line.events(ClockReached)) == 1


async def test_a_batch_that_is_late_behind_a_moment_does_not_lose_the_moment(autojump_clock: object) -> None:
    async with open_line(TWO) as line:
        line.clock.ahead = FIVE_PM - MORNING
        await line.send(position(1, FIVE_PM - timedelta(seconds=1)))
        await trio.sleep(0.1)
        assert len(line.events(ClockReached)) == 1
        assert line.state.today is not None
        assert line.state.today.starts_at == FIVE_PM


# judging


async def test_a_breach_is_told_written_as_one_piece_and_withdrawn_when_it_clears(autojump_clock: object) -> None:
    async with open_line(TWO) as line:
        await line.send(position(5, MORNING))
        (told,) = line.messages()
        assert isinstance(told, Told)
        entry = line.entries[-1]
        assert isinstance(entry, Judged)
        assert entry.found == (told.breach,)
        await line.send(position(2, MORNING))
        assert line.messages() == [Withdrawn(ACCOUNT, "max_contracts")]


async def test_before_the_first_complete_picture_nothing_is_judged(autojump_clock: object) -> None:
    async with open_line(TWO, pictured=False) as line:
        await line.send(position(5, MORNING))
        assert line.messages() == []
        await line.send(picture(MORNING)[0])
        assert line.messages() == []
        await line.send(picture(MORNING)[1])
        assert len(line.messages()) == 1


async def test_a_lock_is_written_with_the_event_that_set_it_and_only_there(autojump_clock: object) -> None:
    async with open_line({"max_contracts": MaxContracts(limit=2, lockout_on_breach=True)}) as line:
        await line.send(position(5, MORNING))
        await line.send(position(4, MORNING))
        first, second = [e for e in line.entries if isinstance(e, Judged) and isinstance(e.event, PositionChanged)]
        assert first.locks == line.state.lockouts
        assert second.locks is None


# failures


async def test_an_event_that_cannot_be_folded_is_set_aside_and_the_account_is_in_doubt_until_read_again(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = pipeline_module.apply

    def apply(state: AccountState, event: Event) -> AccountState:
        if event == position(3, MORNING):
            raise KeyError("no such thing")
        return fold(state, event)

    monkeypatch.setattr(pipeline_module, "apply", apply)
    async with open_line(TWO, ACCOUNT, OTHER) as line:
        await line.send(position(3, MORNING), position(1, MORNING, OTHER))
        assert line.failures == [(ACCOUNT, "KeyError: 'no such thing'")]
        (aside,) = [event for event in line.events() if "Aside" in type(event).__name__]
        assert repr(position(3, MORNING)) in repr(aside)
        assert line.state.doubt is not None
        assert line.board.states[OTHER].doubt is None
        assert line.board.states[OTHER].positions[MNQ].size == 1
        line.clock.ahead = timedelta(seconds=10)
        await line.send(*picture(MORNING + timedelta(seconds=9)))
        await line.send(*picture(MORNING + timedelta(seconds=10)))
        assert line.state.doubt is None


@frozen
class Faulty(Rule):
    """A rule that raises on quotes, and wherever else it is asked to."""

    judging: bool = False
    moments: bool = False

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        if self.judging and isinstance(event, QuoteMoved):
            raise ArithmeticError(f"no good at {event.last}")
        return None

    def judge_again_at(self, state: AccountState) -> datetime | None:
        if self.moments and state.positions:
            raise LookupError("no moment")
        return None


async def test_a_rule_that_raises_is_told_once_and_shown_and_does_not_blind_the_others(autojump_clock: object) -> None:
    async with open_line({**TWO, "faulty": Faulty(judging=True)}) as line:
        await line.send(position(2, MORNING))
        for n in range(20):
            await line.send(quote(n, last=n))
        assert line.failures == [(ACCOUNT, "rule faulty failed: ArithmeticError: no good at 0")]
        assert line.pipeline.failing(ACCOUNT) == (("faulty", "ArithmeticError: no good at 19"),)
        await line.send(position(5, MORNING))
        assert len(line.messages()) == 1
        assert line.pipeline.failing(ACCOUNT) == ()


async def test_a_rule_that_cannot_say_its_next_moment_is_told_and_locks_and_resets_go_on(
    autojump_clock: object,
) -> None:
    async with open_line({**TWO, "faulty": Faulty(moments=True)}) as line:
        await line.send(position(2, MORNING))
        await trio.sleep(24 * 3600)
        assert line.failures == [(ACCOUNT, "rule faulty failed: LookupError: no moment")]
        assert line.pipeline.failing(ACCOUNT) == (("faulty", "LookupError: no moment"),)
        assert [event.at for event in line.events(ClockReached)] == [FIVE_PM]
        await line.send(position(5, FIVE_PM + timedelta(days=1)))
        assert len(line.messages()) == 1


# checkpoints


async def test_there_is_a_checkpoint_every_so_many_events_and_at_the_end(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline_module, "CHECKPOINT_EVERY", 10)
    async with open_line({}, ACCOUNT, OTHER) as line:
        for n in range(40):
            await line.send(position(n + 1, MORNING))
    kinds = [type(entry) for entry in line.entries]
    assert kinds.count(Checkpoint) == 2 * 4 + 2 + 2  # each account's day begins with one
    assert isinstance(line.entries[-1], Checkpoint)
    last = {entry.state.id: entry.state for entry in line.entries if isinstance(entry, Checkpoint)}
    assert last == dict(line.board.states)
    for n, entry in enumerate(line.entries):
        if isinstance(entry, Checkpoint):
            before = [e.event for e in line.entries[:n] if isinstance(e, Judged) and e.account_id == entry.state.id]
            assert entry.state.positions.get(MNQ) == next(
                (e.position for e in reversed(before) if isinstance(e, PositionChanged)), None
            )


async def test_it_ends_with_its_feed_and_closes_what_it_tells(autojump_clock: object) -> None:
    async with open_line(TWO) as line:
        await line.feed.aclose()
        with pytest.raises(trio.EndOfChannel):
            await line.told.receive()


async def test_a_full_feed_holds_the_hubs_back_and_loses_nothing(autojump_clock: object) -> None:
    async with open_line({}) as line:
        for n in range(1_000):
            await line.feed.send((position(n + 1, MORNING),))
        await trio.testing.wait_all_tasks_blocked()
        assert len(line.events(PositionChanged)) == 1_000


async def test_under_pressure_quotes_of_waiting_batches_are_merged_and_nothing_else_is(autojump_clock: object) -> None:
    async with open_line({}) as line:
        await line.send(position(1, MORNING))
        for n in range(50):
            line.feed.send_nowait((quote(n, last=n), position(n + 2, MORNING), quote(n, bid=n)))
        await trio.testing.wait_all_tasks_blocked()
        assert len(line.events(PositionChanged)) == 51
        assert len(line.events(QuoteMoved)) < 10
        assert (line.state.quotes[MNQ].last, line.state.quotes[MNQ].bid) == (Decimal(49), Decimal(49))
