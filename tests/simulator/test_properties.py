"""Whatever is traded, everything adds up after every step, and what the hub tells in the end is what is true."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flatguard.simulator import Options, UserSetup, World
from flatguard.simulator.exact_json import dumps
from flatguard.simulator.invariants import broken
from flatguard.simulator.refusals import Bracket, Edit, Ticket
from flatguard.simulator.rows import order_row, position_row, trade_row
from flatguard.simulator.setup import DEFAULT_ACCOUNTS
from flatguard.simulator.state import Book, Status
from tests.simulator.conftest import COMBINE, MNQ, PRACTICE, START, calm_world

TYF = "CON.F.US.FVA.H27"
contracts = st.sampled_from([MNQ, TYF])
sides = st.sampled_from([0, 1])
ticks = st.integers(-30, 30)
accounts = st.sampled_from([COMBINE, COMBINE, PRACTICE])
PRACTICES: list[dict[str, Any]] = [
    {},
    {"liquidates": True, "floor": Decimal(149990)},
    {"protect_stop_ticks": 8, "protect_target_ticks": 12},
    {"protect_stop_ticks": 6, "liquidates": True, "floor": Decimal(149970)},
]
TROUBLES = ("fast_market", "slow_cancel", "void_trade", "outside_range")
legs = st.none() | st.builds(Bracket, st.integers(-20, 20), st.sampled_from([1, 4, 5]))


class Trading(RuleBasedStateMachine):
    """A trader, an exchange and some faults."""

    world: World
    now: datetime

    @initialize(
        seed=st.integers(0, 2**16), rough=st.booleans(), gap_fills=st.booleans(), practice=st.sampled_from(PRACTICES)
    )
    def begin(self, seed: int, rough: bool, gap_fills: bool, practice: dict[str, Any]) -> None:
        options = (Options() if rough else Options.calm()).but(oco_gap_fills=gap_fills)
        first, second, *_ = DEFAULT_ACCOUNTS
        users = (UserSetup(user_name="trader1", accounts=(first, evolve(second, **practice))),)
        self.world = World(seed=seed, start=START, options=options, users=users)
        self.now = START
        self.told: dict[tuple[int, str], Any] = {}
        self.balances = {first.id: first.balance, second.id: second.balance}

    @rule(ms=st.integers(0, 3000))
    def let_time_pass(self, ms: int) -> None:
        self.now += timedelta(milliseconds=ms)
        self.world.run(self.now)
        self.listen()

    def listen(self) -> None:
        for event in self.world.outbox.take(self.now):
            if event.name == "GatewayUserPosition":
                (argument,) = event.arguments
                assert isinstance(argument, dict)
                row = argument["data"]
                self.told[row["accountId"], row["contractId"]] = row["size"] * (-1 if row["type"] == 2 else 1)
            if event.name == "GatewayUserAccount":
                (argument,) = event.arguments
                assert isinstance(argument, dict)
                self.balances[argument["data"]["id"]] = argument["data"]["balance"]

    @rule(
        account=accounts,
        contract_id=contracts,
        kind=st.sampled_from([1, 2, 2, 2, 3, 4, 5, 6, 7]),
        side=sides,
        size=st.integers(1, 5),
        away=ticks,
        stop_leg=legs,
        limit_leg=legs,
        tag=st.none() | st.text(max_size=2),
    )
    def place(
        self,
        account: int,
        contract_id: str,
        kind: int,
        side: int,
        size: int,
        away: int,
        stop_leg: Bracket | None,
        limit_leg: Bracket | None,
        tag: str | None,
    ) -> None:
        market = self.world.markets[contract_id]
        price = market.last + away * market.contract.tick_size
        ticket = Ticket(
            account_id=account,
            contract_id=contract_id,
            type=kind,
            side=side,
            size=size,
            limit_price=price,
            stop_price=price,
            trail_price=price,
            custom_tag=tag,
            stop_loss=stop_leg,
            take_profit=limit_leg,
        )
        self.world.place(ticket, self.now)

    def rows(self, kind: str, account: int) -> list[Any]:
        return list(getattr(self.world.books[account], kind).rows())

    @precondition(lambda self: self.rows("orders", COMBINE) and self.rows("orders", PRACTICE))
    @rule(data=st.data(), account=accounts, away=ticks, size=st.none() | st.integers(0, 9), modify=st.booleans())
    def touch_an_order(self, data: st.DataObject, account: int, away: int, size: int | None, modify: bool) -> None:
        order = data.draw(st.sampled_from(self.rows("orders", account)))
        if not modify:
            self.world.cancel(account, order.id, self.now)
            return
        market = self.world.markets[order.contract.id]
        price = market.last + away * market.contract.tick_size
        edit = Edit(size=size, limit_price=price, stop_price=price, trail_price=price)
        self.world.modify(account, order.id, self.now, edit)

    @precondition(lambda self: self.rows("trades", COMBINE))
    @rule(data=st.data())
    def bust_a_trade(self, data: st.DataObject) -> None:
        self.world.void_trade(data.draw(st.sampled_from(self.rows("trades", COMBINE))).id, self.now)

    @rule(account=accounts, contract_id=contracts, size=st.none() | st.integers(1, 4))
    def close(self, account: int, contract_id: str, size: int | None) -> None:
        self.world.close(account, contract_id, self.now, size)

    @rule(contract_id=contracts, away=ticks)
    def move_the_price(self, contract_id: str, away: int) -> None:
        market = self.world.markets[contract_id]
        self.world.move_price(contract_id, market.last + away * market.contract.tick_size, self.now)

    @rule(balance=st.integers(47000, 53000), may=st.none() | st.booleans())
    def set_the_balance(self, balance: int, may: bool | None) -> None:
        self.world.set_account(COMBINE, self.now, balance=Decimal(balance), can_trade=may)

    @rule(name=st.sampled_from(["partial_fills", "leg_left_behind", "velocity_control", *TROUBLES]))
    def break_something(self, name: str) -> None:
        self.world.faults.start(name, self.now, probability=0.5, count=3)

    @invariant()
    def all_adds_up(self) -> None:
        if hasattr(self, "world"):
            assert broken(self.world) == []

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        for contract_id in (MNQ, TYF):  # so that nothing fills when there is no time left to tell it
            self.world.move_price(contract_id, self.world.markets[contract_id].last, self.now)
        self.let_time_pass(20_000)
        book = self.world.books[COMBINE]
        for (account, contract_id), size in self.told.items():
            assert size == self.world.position(account, contract_id)
        for account, balance in self.balances.items():
            assert balance == self.world.account(account).balance
        dumps([*map(order_row, book.orders.rows()), *map(trade_row, book.trades.rows())])
        dumps([position_row(position, hub=True) for position in book.positions.rows()])


TestTrading = Trading.TestCase
TestTrading.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_long_day_of_random_trading_adds_up() -> None:
    world = World(seed=11, start=START)
    chance = world.chance("the trader of this test")
    now = START
    for _ in range(300):
        now += timedelta(milliseconds=chance.randint(1, 4000))
        side, sign = chance.choice([(0, 1), (1, -1)])
        with_legs = chance.random() < 0.5
        ticket = Ticket(
            account_id=COMBINE,
            contract_id=MNQ,
            type=2,
            side=side,
            size=chance.randint(1, 5),
            stop_loss=Bracket(-8 * sign, 4) if with_legs else None,
            take_profit=Bracket(12 * sign, 1) if with_legs else None,
        )
        world.place(ticket, now)
        if chance.random() < 0.2:
            world.close(COMBINE, MNQ, now)
        assert broken(world) == []
    assert world.books[COMBINE].realized_net < 0, "chance pays the costs"
    assert len(list(world.books[COMBINE].trades.rows())) > 300


def test_the_invariants_notice_what_does_not_add_up() -> None:
    def traded() -> World:
        world = calm_world()
        ticket = Ticket(account_id=COMBINE, contract_id=MNQ, type=2, side=0, size=2)
        world.place(ticket, START)
        world.run(START + timedelta(seconds=1))
        assert broken(world) == []
        return world

    world = traded()
    world.books[COMBINE].realized_net += 1
    assert "books say" in broken(world)[0]
    world = traded()
    world.books[COMBINE].adjustments += 1
    assert "is due" in broken(world)[0]
    world = traded()
    trade = next(world.books[COMBINE].trades.rows())
    world.books[COMBINE].trades.put(-1, trade, START)
    sentences = " ".join(broken(world))
    assert "the position is 2" in sentences
    assert "4 traded, 2 filled" in sentences


def test_the_invariants_notice_what_was_told_wrongly() -> None:
    def traded() -> tuple[World, Book]:
        world = calm_world()
        for side, size, tag in ((0, 2, "a"), (1, 1, "b")):
            world.place(
                Ticket(account_id=COMBINE, contract_id=MNQ, type=2, side=side, size=size, custom_tag=tag), START
            )
            world.run(START + timedelta(seconds=1))
        return world, world.books[COMBINE]

    world, book = traded()
    *_, closing = book.trades.rows()
    book.trades.put(closing.id, evolve(closing, price=closing.price + 1), START)
    assert "prices make a profit" in " ".join(broken(world))
    world, book = traded()
    (position,) = book.positions.rows()
    book.positions.put(MNQ, evolve(position, average_price=Decimal(25001)), START)
    assert "is not what its trades make" in " ".join(broken(world))
    world, book = traded()
    first, second = book.orders.rows()
    book.orders.put(first.id, evolve(first, status=Status.OPEN, fill_volume=1), START)
    sentences = " ".join(broken(world))
    assert "had ended at 2 and went to 1" in sentences
    assert "filled 2, then 1" in sentences
    book.orders.put(second.id, evolve(second, custom_tag="a", fill_volume=3), START)
    sentences = " ".join(broken(world))
    assert f"tag 'a' was taken by {first.id}" in sentences
    assert "filled 3 of 1" in sentences
