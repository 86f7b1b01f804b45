"""What contracts are: asked once, asked again where that failed or a day later, and held against their fills."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import trio
from attrs import define, evolve, field

from flatguard.daemon.contracts import ASK_AGAIN_S, LEARN_S, REFRESH_S, Contracts
from flatguard.errors import GatewayUnreachable
from flatguard.ledger.apply import apply
from flatguard.model.account import AccountState
from flatguard.model.events import ContractLearned, ContractRefuted, Event, PositionChanged
from flatguard.model.ids import ContractId, OrderId, TradeId
from flatguard.model.trading import Contract, Position, Side, Trade
from flatguard.rules._book import RuleBook
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from tests.fakes.clock import TrioClock
from tests.fakes.entries import ACCOUNT, MNQ

ES = ContractId("CON.F.US.EP.Z26")
MORNING = datetime(2026, 3, 18, 14, 30, tzinfo=UTC)
RIGHT = Contract(MNQ, "MNQZ6", Decimal("0.25"), Decimal("0.50"))
WRONG = evolve(RIGHT, tick_value=Decimal(5))


@define
class Broker:
    """Describes contracts; every question is kept with its moment."""

    described: dict[ContractId, Contract] = field(factory=lambda: {MNQ: RIGHT})
    asked: list[tuple[float, ContractId]] = field(factory=list)
    takes_s: float = 0.0
    failing: bool = False

    async def contract(self, contract_id: ContractId) -> Contract:
        self.asked.append((trio.current_time(), contract_id))
        await trio.sleep(self.takes_s)
        if self.failing or contract_id not in self.described:
            raise GatewayUnreachable("no answer")
        return self.described[contract_id]


@define
class Room:
    """The descriptions at work; what is learned is folded at once, as the pipeline does."""

    broker: Broker = field(factory=Broker)
    state: AccountState = field(factory=lambda: AccountState(ACCOUNT))
    contracts: Contracts = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.contracts = Contracts(self.broker, TrioClock(MORNING))  # type: ignore[arg-type]

    def fold(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        for event in events:
            self.state = apply(self.state, event)
        return events

    async def learn(self, *contract_ids: ContractId) -> tuple[Event, ...]:
        return self.fold(await self.contracts.learn(contract_ids, self.state))

    async def verify(self, *fills: Trade) -> tuple[Event, ...]:
        return self.fold(await self.contracts.verify(self.state, fills))


def fill(number: int, signed: int, price: int, profit: int | None = None) -> Trade:
    side = Side.BUY if signed > 0 else Side.SELL
    made_at, gross = MORNING + timedelta(seconds=number), None if profit is None else Decimal(profit)
    return Trade(
        id=TradeId(number),
        account_id=ACCOUNT,
        contract_id=MNQ,
        made_at=made_at,
        price=Decimal(price),
        profit_and_loss=gross,
        fees=Decimal(0),
        commissions=None,
        side=side,
        size=abs(signed),
        voided=False,
        order_id=OrderId(number),
    )


ROUND_TRIP = (fill(1, 2, 21_000), fill(2, -2, 21_010, 40))  # 80 ticks of fifty cents


async def test_a_contract_is_asked_for_once_and_told_once(autojump_clock: object) -> None:
    room = Room()
    (learned,) = await room.learn(MNQ)
    assert isinstance(learned, ContractLearned)
    assert learned.contract == RIGHT
    for _ in range(100):
        assert await room.learn(MNQ, MNQ) == ()
        await trio.sleep(60)
    assert len(room.broker.asked) == 1


async def test_one_that_could_not_be_had_is_asked_for_again_but_no_sooner_than_after_five_seconds(
    autojump_clock: object,
) -> None:
    room = Room(Broker(failing=True))
    began = trio.current_time()
    while trio.current_time() < began + 3.5 * ASK_AGAIN_S:
        assert await room.learn(MNQ) == ()
        assert room.contracts.wanting([MNQ], room.state) == [MNQ]
        await trio.sleep(0.5)
    assert [at - began for at, _ in room.broker.asked] == [0, ASK_AGAIN_S, 2 * ASK_AGAIN_S, 3 * ASK_AGAIN_S]
    room.broker.failing = False
    await trio.sleep(ASK_AGAIN_S)
    assert len(await room.learn(MNQ)) == 1


async def test_it_is_asked_for_anew_once_a_day_and_only_a_change_is_told(autojump_clock: object) -> None:
    room = Room()
    await room.learn(MNQ)
    for asked in (2, 3):
        await trio.sleep(REFRESH_S)
        assert await room.learn(MNQ) == ()
        assert len(room.broker.asked) == asked
    room.broker.described[MNQ] = evolve(RIGHT, tick_value=Decimal(1))
    await trio.sleep(REFRESH_S - 1)
    assert await room.learn(MNQ) == ()
    await trio.sleep(1)
    (changed,) = await room.learn(MNQ)
    assert isinstance(changed, ContractLearned)
    assert changed.contract.tick_value == 1


async def test_a_day_on_an_answer_that_does_not_come_leaves_what_is_known(autojump_clock: object) -> None:
    room = Room()
    await room.learn(MNQ)
    room.broker.failing = True
    await trio.sleep(REFRESH_S)
    assert await room.learn(MNQ) == ()
    assert room.state.contracts[MNQ] == RIGHT


async def test_what_was_learned_by_an_earlier_run_is_known_and_asked_for_once_for_this_day(
    autojump_clock: object,
) -> None:
    before, after = Room(), Room()
    await before.learn(MNQ)
    after.state = before.state
    assert after.contracts.wanting([MNQ], after.state) == []
    assert await after.learn(MNQ) == ()
    assert len(after.broker.asked) == 1


async def test_a_reading_waits_for_all_contracts_together_no_longer_than_two_seconds(autojump_clock: object) -> None:
    room = Room(Broker(takes_s=1.5, described={MNQ: RIGHT, ES: evolve(RIGHT, id=ES)}))
    began = trio.current_time()
    (first,) = await room.learn(MNQ, ES)
    assert trio.current_time() - began == LEARN_S
    await trio.sleep(ASK_AGAIN_S)
    (second,) = await room.learn(MNQ, ES)
    assert {first.contract.id, second.contract.id} == {MNQ, ES}  # type: ignore[union-attr]


async def test_fills_that_fit_ask_nothing_and_tell_nothing(autojump_clock: object) -> None:
    room = Room()
    await room.learn(MNQ)
    assert await room.verify(*ROUND_TRIP) == ()
    assert len(room.broker.asked) == 1


async def test_a_description_that_fills_contradict_is_asked_for_again_at_once_and_replaced_by_one_that_fits(
    autojump_clock: object,
) -> None:
    room = Room(Broker({MNQ: WRONG}))
    await room.learn(MNQ)
    room.broker.described[MNQ] = RIGHT
    (learned,) = await room.verify(*ROUND_TRIP)
    assert isinstance(learned, ContractLearned)
    assert room.state.contracts[MNQ] == RIGHT


async def test_one_that_fills_contradict_still_is_refuted_and_left_alone_for_a_day(autojump_clock: object) -> None:
    room = Room(Broker({MNQ: WRONG}))
    await room.learn(MNQ)
    (refuted,) = await room.verify(*ROUND_TRIP)
    assert isinstance(refuted, ContractRefuted)
    assert refuted.reason == "fill 2 made 40, but 80 ticks of 5 are 400.00"
    assert room.state.contracts == {}
    asked = len(room.broker.asked)
    assert asked == 2
    for _ in range(23):
        assert room.contracts.wanting([MNQ], room.state) == []
        assert await room.learn(MNQ) == ()
        await trio.sleep(3_600)
    assert len(room.broker.asked) == asked
    room.broker.described[MNQ] = RIGHT
    await trio.sleep(3_600)
    assert len(await room.learn(MNQ)) == 1
    assert room.state.contracts[MNQ] == RIGHT


async def test_a_gateway_that_hangs_refutes_by_what_was_known_and_holds_nobody_up(autojump_clock: object) -> None:
    room = Room(Broker({MNQ: WRONG}))
    await room.learn(MNQ)
    room.broker.takes_s = 60.0
    began = trio.current_time()
    (refuted,) = await room.verify(*ROUND_TRIP)
    assert trio.current_time() - began == LEARN_S
    assert isinstance(refuted, ContractRefuted)


async def test_the_rules_that_need_a_refuted_contract_say_so_and_the_others_go_on(autojump_clock: object) -> None:
    room = Room(Broker({MNQ: WRONG}))
    await room.learn(MNQ)
    now = MORNING + timedelta(seconds=10)
    room.fold((PositionChanged(now, Position(ACCOUNT, MNQ, 2, Decimal(21_000), MORNING)),))
    await room.verify(*ROUND_TRIP)
    now += timedelta(minutes=1)
    blinded = RuleBook({"daily_realized_loss": DailyRealizedLoss(loss_limit=Decimal(500))})
    counting = RuleBook({"max_contracts": MaxContracts(limit=5)})
    assert blinded.answers(room.state, now).blind
    assert counting.answers(room.state, now).blind is None
