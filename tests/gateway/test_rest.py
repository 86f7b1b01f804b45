"""Every endpoint against the double, on virtual time: complete or an error, done or refused or unknown."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import trio

from flatguard.errors import FlatguardError, GatewayUnreachable, LoginRefused, UnreadableAnswer
from flatguard.gateway.allowance import QUIET_S, Allowance, Lane
from flatguard.gateway.auth import validate
from flatguard.gateway.http import HARD_CAP_S, READ_S
from flatguard.gateway.reading import MAX_PAGES, PAGE
from flatguard.gateway.verdict import (
    ACCOUNTS,
    BARS,
    CANCEL,
    CLOSE,
    CONTRACT,
    CONTRACTS,
    CONTRACTS_NAMED,
    MODIFY,
    ORDER,
    ORDERS,
    ORDERS_MADE,
    ORDERS_OPEN,
    PARTIAL_CLOSE,
    PLACE,
    POSITIONS,
    READING_CODES,
    TRADES,
    ReadingRefused,
)
from flatguard.model.ids import AccountId, OrderId
from flatguard.model.outcomes import Done, Outcome, Refused, Unknown
from flatguard.model.trading import BarUnit, Bracket, OrderQuery, OrderStatus, OrderType, Side
from flatguard.secret import Secret
from flatguard.signalr.framing import write_json
from flatguard.simulator.contracts import find_contract
from flatguard.simulator.options import Options
from flatguard.simulator.rest import ENDPOINTS
from tests.fakes.memory_gateway import START, MemoryGateway, open_gateway
from tests.gateway.test_outcomes_page import rows as rows_of_page

MNQ = "CON.F.US.MNQ.Z26"
LOGIN = "/api/Auth/loginKey"

Read = Callable[[MemoryGateway], Awaitable[object]]
Act = Callable[[MemoryGateway], Awaitable[Outcome]]


async def read_an_order(gateway: MemoryGateway) -> object:
    """Read the order that works, one of the trader's own hand."""
    orders = gateway.world.books[gateway.account_id].orders
    if not list(orders.rows()):
        gateway.place("MNQ", 1, limit=20_000)
        await trio.sleep(1)
    return await gateway.reading.order(gateway.account_id, OrderId(next(iter(orders.rows())).id))


READINGS: dict[str, Read] = {
    ACCOUNTS: lambda g: g.reading.accounts(),
    CONTRACTS: lambda g: g.reading.contracts(),
    CONTRACTS_NAMED: lambda g: g.reading.contracts_named("MNQ"),
    CONTRACT: lambda g: g.reading.contract(MNQ),
    BARS: lambda g: g.reading.bars(MNQ, START - timedelta(hours=1), START, BarUnit.MINUTE),
    ORDERS_MADE: lambda g: g.reading.orders_made(g.account_id, START),
    ORDERS_OPEN: lambda g: g.reading.open_orders(g.account_id),
    ORDER: read_an_order,
    POSITIONS: lambda g: g.reading.positions(g.account_id),
    ORDERS: lambda g: g.reading.working_orders(g.account_id),
    TRADES: lambda g: g.reading.trades(g.account_id, START),
}
ACTS: dict[str, Act] = {
    PLACE: lambda g: g.acting.place(g.account_id, MNQ, Side.BUY, 1, custom_tag="t-1"),
    CANCEL: lambda g: g.acting.cancel(g.account_id, 1),
    MODIFY: lambda g: g.acting.modify(g.account_id, 1, size=2),
    CLOSE: lambda g: g.acting.close(g.account_id, MNQ),
    PARTIAL_CLOSE: lambda g: g.acting.partial_close(g.account_id, MNQ, 1),
}
ELSEWHERE = {f"/api/Auth/{name}" for name in ("loginKey", "loginApp", "validate", "logout")}
every_reading = pytest.mark.parametrize("path", READINGS)
every_act = pytest.mark.parametrize("path", ACTS)


def answer(**body: object) -> str:
    return write_json({"success": True, "errorCode": 0, "errorMessage": None, **body})


def order_row(order_id: int, account_id: int, status: int = 1) -> dict[str, Any]:
    return {
        "id": order_id,
        "accountId": account_id,
        "contractId": MNQ,
        "creationTimestamp": "2026-11-18T15:00:00+00:00",
        "status": status,
        "type": 1,
        "side": 0,
        "size": 1,
        "limitPrice": 100,
    }


class Hooked(Allowance):
    """Does something before each request but the first."""

    def __init__(self, before: Callable[[int], Awaitable[None]]) -> None:
        super().__init__()
        self.before = before
        self.calls = 0

    async def take(self, lane: Lane, account_id: AccountId | None = None, *, history: bool = False) -> None:
        self.calls += 1
        await super().take(lane, account_id, history=history)
        await self.before(self.calls)


def test_every_operation_of_the_gateway_has_its_method() -> None:
    """With the ping, which is no POST, they are 21."""
    assert READINGS.keys() | ACTS.keys() | ELSEWHERE == ENDPOINTS.keys()
    assert READINGS.keys() == READING_CODES.keys()


# --- Reading ---


async def test_all_accounts_are_read_with_their_balances(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        accounts = await gateway.reading.accounts()
        expected = {account.id for user in gateway.world.users.values() for account in user.accounts}
        assert {account.id for account in accounts} <= expected
        ours = next(account for account in accounts if account.id == gateway.account_id)
        assert ours.balance == gateway.world.account(gateway.account_id).balance
        assert ours.can_trade


async def test_an_account_that_may_not_trade_any_more_is_still_listed(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.world.set_account(gateway.account_id, gateway.double.gateway.now(), can_trade=False)
        accounts = await gateway.reading.accounts()
        assert [account.can_trade for account in accounts if account.id == gateway.account_id] == [False]


async def test_a_contract_is_read_with_its_tick(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        contract = await gateway.reading.contract(MNQ)
        known = find_contract("MNQ")
        assert known is not None
        assert (contract.tick_size, contract.tick_value) == (known.tick_size, known.tick_value)
        assert contract in await gateway.reading.contracts()


async def test_another_contract_than_the_one_asked_for_is_not_taken_for_it(autojump_clock: trio.abc.Clock) -> None:
    row = {"id": "CON.F.US.EP.Z26", "name": "ESZ6", "tickSize": Decimal("0.25"), "tickValue": Decimal("12.5")}
    async with open_gateway() as gateway:
        gateway.instead(CONTRACT, answer(contract=row))
        with pytest.raises(UnreadableAnswer, match=MNQ):
            await gateway.reading.contract(MNQ)


async def test_positions_and_trades_are_read_as_they_are_in_the_books(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.place("MNQ", 3)
        gateway.place("ES", -2)
        await trio.sleep(1)
        positions = await gateway.reading.positions(gateway.account_id)
        assert {position.contract_id: position.size for position in positions} == {MNQ: 3, "CON.F.US.EP.Z26": -2}
        trades = await gateway.reading.trades(gateway.account_id, START)
        assert sorted((trade.contract_id, trade.side.sign * trade.size) for trade in trades) == [
            ("CON.F.US.EP.Z26", -2),
            (MNQ, 3),
        ]
        assert await gateway.reading.trades(gateway.account_id, START + timedelta(seconds=2)) == ()


async def test_orders_of_every_status_that_may_still_fill_are_working(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        statuses = [1, 2, 3, 4, 5, 6, 7, 8, 9]
        listed = [order_row(status, gateway.account_id, status) for status in statuses]
        gateway.instead(ORDERS, answer(orders=listed, totalCount=len(listed)))
        orders = await gateway.reading.working_orders(gateway.account_id)
        assert [order.status for order in orders] == [1, 6, 7, 8, 9], "a status that we do not know may fill too"


async def test_all_pages_of_working_orders_are_read(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ids = [gateway.place("MNQ", 1, limit=20_000) for _ in range(2 * PAGE + 37)]
        await trio.sleep(1)
        orders = await gateway.reading.working_orders(gateway.account_id)
        assert [order.id for order in orders] == ids
        assert {order.status for order in orders} == {OrderStatus.OPEN}
        assert {order.limit_price for order in orders} == {Decimal(20_000)}
        bodies = [entry["body"] for entry in gateway.requests(ORDERS)]
        assert [body["pageOffset"] for body in bodies] == [0, PAGE - 1, 2 * PAGE - 2]
        assert {tuple(body["filter"]["statuses"]) for body in bodies} == {(1, 6, 7, 8)}


@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1])
async def test_no_order_is_lost_at_the_edge_of_a_page(autojump_clock: trio.abc.Clock, count: int) -> None:
    async with open_gateway() as gateway:
        ids = [gateway.place("MNQ", 1, limit=20_000) for _ in range(count)]
        await trio.sleep(1)
        orders = await gateway.reading.working_orders(gateway.account_id)
        assert [order.id for order in orders] == ids
        assert len(gateway.requests(ORDERS)) == (1 if count <= PAGE else 2)


async def test_a_server_with_smaller_pages_hides_no_order(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        listed = [order_row(order_id, gateway.account_id) for order_id in range(1, 8)]
        pages = [listed[0:3], listed[2:5], listed[4:7]]
        gateway.instead(ORDERS, *(answer(orders=page, totalCount=7) for page in pages))
        orders = await gateway.reading.working_orders(gateway.account_id)
        assert [order.id for order in orders] == [1, 2, 3, 4, 5, 6, 7]


async def test_without_a_total_the_list_ends_where_nothing_new_comes(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        listed = [order_row(order_id, gateway.account_id) for order_id in range(1, 6)]
        gateway.instead(ORDERS, *(answer(orders=page) for page in (listed[:3], listed[2:], listed[4:])))
        orders = await gateway.reading.working_orders(gateway.account_id)
        assert [order.id for order in orders] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("total", [None, 0])
async def test_no_orders_are_no_orders_with_one_request(autojump_clock: trio.abc.Clock, total: object) -> None:
    async with open_gateway() as gateway:
        gateway.instead(ORDERS, answer(orders=[], totalCount=total))
        assert await gateway.reading.working_orders(gateway.account_id) == ()
        assert len(gateway.requests(ORDERS)) == 1


@pytest.mark.parametrize("pages", [[[1, 2], [2]], [[]]], ids=str)
async def test_fewer_orders_than_the_server_counts_are_an_error(
    autojump_clock: trio.abc.Clock, pages: list[list[int]]
) -> None:
    async with open_gateway() as gateway:
        listed = [[order_row(order_id, gateway.account_id) for order_id in page] for page in pages]
        gateway.instead(ORDERS, *(answer(orders=page, totalCount=5) for page in listed))
        with pytest.raises(UnreadableAnswer, match="5"):
            await gateway.reading.working_orders(gateway.account_id)


async def test_orders_that_end_between_two_pages_hide_no_others(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ids = [gateway.place("MNQ", 1, limit=20_000) for _ in range(150)]
        await trio.sleep(1)

        async def before(call: int) -> None:
            if call == 2:
                for order_id in ids[:5]:
                    gateway.world.cancel(gateway.account_id, order_id, gateway.double.gateway.now())
                await trio.sleep(1)

        reading = gateway.gateway(Lane.ROUTINE, allowance=Hooked(before))
        orders = await reading.working_orders(gateway.account_id)
        assert [order.id for order in orders] == ids[5:]


async def test_a_list_that_never_stands_still_is_an_error(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        pages = [[order_row(k * 10, gateway.account_id)] for k in range(1, 1_000)]
        gateway.instead(ORDERS, *(answer(orders=page, totalCount=1_000) for page in pages))
        with pytest.raises(UnreadableAnswer, match="changes faster"):
            await gateway.reading.working_orders(gateway.account_id)
        assert len(gateway.requests(ORDERS)) < MAX_PAGES


async def test_a_list_without_an_end_is_an_error(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        pages = [[order_row(k, gateway.account_id), order_row(k + 1, gateway.account_id)] for k in range(1, 200)]
        gateway.instead(ORDERS, *(answer(orders=page, totalCount=10**9) for page in pages))
        with pytest.raises(UnreadableAnswer, match="no end"):
            await gateway.reading.working_orders(gateway.account_id)
        assert len(gateway.requests(ORDERS)) == MAX_PAGES


@pytest.mark.parametrize("path", [POSITIONS, ORDERS, TRADES])
async def test_rows_of_another_account_are_an_error(autojump_clock: trio.abc.Clock, path: str) -> None:
    async with open_gateway() as gateway:
        gateway.place("MNQ", 1)
        gateway.place("MNQ", 1, limit=20_000)
        await trio.sleep(1)
        gateway.account_id, theirs = 424_242, gateway.account_id
        body = {
            POSITIONS: {"positions": [_position(theirs)]},
            ORDERS: {"orders": [order_row(1, theirs)], "totalCount": 1},
            TRADES: {"trades": [_trade(theirs)]},
        }[path]
        gateway.instead(path, answer(**body))
        with pytest.raises(UnreadableAnswer, match="another account"):
            await READINGS[path](gateway)


def _position(account_id: int) -> dict[str, Any]:
    return {
        "accountId": account_id,
        "contractId": MNQ,
        "type": 1,
        "size": 1,
        "averagePrice": 1,
        "creationTimestamp": "2026-11-18T15:00:00Z",
    }


def _trade(account_id: int) -> dict[str, Any]:
    return {
        "id": 1,
        "accountId": account_id,
        "contractId": MNQ,
        "creationTimestamp": "2026-11-18T15:00:00Z",
        "price": 1,
        "side": 0,
        "size": 1,
        "orderId": 1,
    }


async def test_the_exposure_is_read_whole_with_the_times_of_its_reading(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(Options.calm().but(answer_ms=(250, 250))) as gateway:
        gateway.place("MNQ", 2)
        order = gateway.place("MNQ", -1, limit=30_000)
        await gateway.log_in()
        await gateway.token.current()
        await trio.sleep(1)
        began = gateway.clock.now()
        exposure = await gateway.reading.read_exposure(gateway.account_id)
        assert exposure.account_id == gateway.account_id
        assert (exposure.began_at, exposure.at) == (began, began + timedelta(seconds=0.5))
        assert [(position.contract_id, position.size) for position in exposure.positions] == [(MNQ, 2)]
        assert [row.id for row in exposure.orders] == [order]
        assert exposure.broker_at == exposure.at.replace(microsecond=0)


async def test_an_order_that_fills_while_the_exposure_is_read_is_in_it(autojump_clock: trio.abc.Clock) -> None:
    """Orders first: what goes from order to position in between is then seen twice, never not at all."""
    async with open_gateway() as gateway:
        price = gateway.world.markets[MNQ].last
        gateway.place("MNQ", 1, limit=price - 50)
        await trio.sleep(1)

        async def before(call: int) -> None:
            if call == 2:
                gateway.world.move_price(MNQ, price - 100, gateway.double.gateway.now())
                await trio.sleep(1)

        reading = gateway.gateway(Lane.ROUTINE, allowance=Hooked(before))
        exposure = await reading.read_exposure(gateway.account_id)
        assert exposure.positions or exposure.orders


async def test_the_record_is_the_accounts_row_and_its_fills(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.place("MNQ", 2)
        await trio.sleep(1)
        began = gateway.clock.now()
        record = await gateway.reading.read_record(gateway.account_id, START)
        assert (record.account.id, record.account_id) == (gateway.account_id, gateway.account_id)
        assert [trade.size for trade in record.trades] == [2]
        assert (record.trades_since, record.began_at) == (START, began)


async def test_every_request_for_an_account_stands_in_that_accounts_turn(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        asked: list[AccountId | None] = []

        class Noting(Allowance):
            async def take(self, lane: Lane, account_id: AccountId | None = None, *, history: bool = False) -> None:
                asked.append(account_id)
                await super().take(lane, account_id, history=history)

        noting = gateway.gateway(Lane.ENFORCEMENT, allowance=Noting())
        await noting.read_record(gateway.account_id, START)
        await noting.read_exposure(gateway.account_id)
        await noting.orders_made(gateway.account_id, START)
        await noting.open_orders(gateway.account_id)
        gateway.acting = noting
        for act in ACTS.values():
            await act(gateway)
        assert asked == [gateway.account_id] * (6 + len(ACTS))


async def test_an_account_that_is_not_in_the_list_has_no_record(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        with pytest.raises(UnreadableAnswer, match="424242"):
            await gateway.reading.read_record(424242, START)


async def test_bars_are_read_exactly_the_newest_first(autojump_clock: trio.abc.Clock) -> None:
    row = {"t": "2026-11-18T14:59:00+00:00", "o": 29546, "h": Decimal("29548.75"), "l": 29546, "c": 1, "v": 148, "k": 9}
    async with open_gateway() as gateway:
        gateway.instead(BARS, answer(bars=[row]))
        (bar,) = await gateway.reading.bars(MNQ, START, START, BarUnit.MINUTE)
        assert (bar.at, bar.high, bar.volume) == (START - timedelta(minutes=1), Decimal("29548.75"), 148)
        gateway.heal()
        last = gateway.world.markets[MNQ].last
        for step in range(4):
            gateway.world.move_price(MNQ, last + step, gateway.double.gateway.now())
            await trio.sleep(300)
        bars = await gateway.reading.bars(MNQ, START, START + timedelta(hours=1), BarUnit.MINUTE, 5, limit=3)
        assert [(bar.at, bar.close) for bar in bars] == [
            (START + timedelta(minutes=5 * step), last + step) for step in (3, 2, 1)
        ]
        body = gateway.requests(BARS)[-1]["body"]
        assert (body["unit"], body["unitNumber"], body["limit"], body["includePartialBar"]) == (2, 5, 3, False)


async def test_bars_of_a_unit_that_the_gateway_does_not_know_are_refused(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        with pytest.raises(ReadingRefused, match="UnitInvalid"):
            await gateway.reading.bars(MNQ, START, START, BarUnit(9))


async def test_contracts_are_found_by_a_part_of_their_name(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        found = await gateway.reading.contracts_named("MNQ")
        assert [contract.id for contract in found] == [MNQ]


async def test_one_order_is_read_by_its_id(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        order_id = OrderId(gateway.place("MNQ", 1))
        await trio.sleep(1)
        order = await gateway.reading.order(gateway.account_id, order_id)
        assert (order.id, order.status, order.working) == (order_id, OrderStatus.FILLED, False)
        with pytest.raises(ReadingRefused, match="OrderNotFound"):
            await gateway.reading.order(gateway.account_id, OrderId(1))
        gateway.instead(ORDER, answer(order=order_row(order_id + 1, gateway.account_id)))
        with pytest.raises(UnreadableAnswer, match=str(order_id)):
            await gateway.reading.order(gateway.account_id, order_id)


async def test_orders_are_listed_by_when_they_were_made_by_status_and_by_contract(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_gateway() as gateway:
        account_id = gateway.account_id
        filled = gateway.place("MNQ", 1)
        await trio.sleep(10)
        resting = gateway.place("MNQ", 1, limit=20_000)
        other = gateway.place("ES", 1, limit=gateway.world.markets["CON.F.US.EP.Z26"].last - 10)
        await trio.sleep(1)
        five_s = START + timedelta(seconds=5)

        async def listed(query: OrderQuery) -> list[int]:
            return [order.id for order in await gateway.reading.orders(account_id, query)]

        assert await listed(OrderQuery()) == [filled, resting, other]
        assert await listed(OrderQuery(statuses=(OrderStatus.FILLED,))) == [filled]
        assert await listed(OrderQuery(contract_id=MNQ)) == [filled, resting], "the gateway itself does not filter"
        assert await listed(OrderQuery(created_after=five_s)) == [resting, other]
        assert await listed(OrderQuery(created_before=five_s)) == [filled]
        made = await gateway.reading.orders_made(account_id, START, five_s)
        assert [order.id for order in made] == [filled]
        assert {order.id for order in await gateway.reading.open_orders(account_id)} == {resting, other}


async def test_fills_of_a_time_that_is_over_are_read_up_to_its_end(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.place("MNQ", 1)
        await trio.sleep(10)
        gateway.place("MNQ", 2)
        await trio.sleep(1)
        fills = await gateway.reading.past_trades(gateway.account_id, START, START + timedelta(seconds=5))
        assert [trade.size for trade in fills] == [1]


async def test_a_ping_needs_no_token_and_counts(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        await gateway.reading.ping()
        assert [entry["path"] for entry in gateway.double.gateway.requests] == ["/api/Status/ping"]
        assert gateway.allowance.statistics().used == 1


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, "<html>", UnreadableAnswer),
        (200, "", UnreadableAnswer),
        (404, "pong", UnreadableAnswer),
        (503, "pong", GatewayUnreachable),
        (429, "pong", GatewayUnreachable),
    ],
)
async def test_a_ping_without_a_pong_is_an_error(
    autojump_clock: trio.abc.Clock, status: int, body: str, error: type[FlatguardError]
) -> None:
    async with open_gateway() as gateway:
        gateway.instead("/api/Status/ping", body, status=status)
        with pytest.raises(error):
            await gateway.reading.ping()
        assert gateway.allowance.statistics().refused == (status == 429)


@every_reading
async def test_a_reading_that_is_refused_is_an_error(autojump_clock: trio.abc.Clock, path: str) -> None:
    body = write_json({"success": False, "errorCode": 1, "errorMessage": "No\nsuch thing"})
    async with open_gateway() as gateway:
        gateway.instead(path, body)
        with pytest.raises(UnreadableAnswer, match=r"code 1, .*: No such thing"):
            await READINGS[path](gateway)


@pytest.mark.parametrize(
    ("path", "code", "name"),
    [
        (path, code, name)
        for path, codes in READING_CODES.items()
        for code, name in {**codes, 99: "not documented"}.items()
    ],
)
async def test_a_code_on_a_reading_is_an_error_with_its_name_and_never_an_empty_list(
    autojump_clock: trio.abc.Clock, path: str, code: int, name: str
) -> None:
    nothing = {"orders": [], "positions": [], "trades": [], "accounts": [], "contracts": [], "bars": []}
    async with open_gateway() as gateway:
        gateway.instead(path, write_json({**nothing, "success": False, "errorCode": code, "errorMessage": None}))
        with pytest.raises(ReadingRefused, match=f"{path} answered with code {code}, {name}") as caught:
            await READINGS[path](gateway)
        assert caught.value.code == code
        assert len(gateway.requests(path)) == 1


@every_reading
async def test_a_list_that_is_left_out_is_an_error_never_empty(autojump_clock: trio.abc.Clock, path: str) -> None:
    async with open_gateway() as gateway:
        gateway.fault("missing_list", target=path)
        with pytest.raises(UnreadableAnswer):
            await READINGS[path](gateway)
        gateway.heal()
        await READINGS[path](gateway)


@every_reading
@pytest.mark.parametrize(
    "body",
    [
        '{"success":true,"errorCode":0,"orders":null,"positions":null,"trades":null,"accounts":null,"contracts":null}',
        '{"orders":[],"positions":[],"trades":[],"accounts":[],"contracts":[],"contract":{}}',
        '{"success":false,"errorCode":0,"orders":[],"positions":[],"trades":[],"accounts":[],"contracts":[]}',
        '{"success":true,"errorCode":1,"orders":[],"positions":[],"trades":[],"accounts":[],"contracts":[]}',
        '{"success":true,"errorCode":false,"orders":[],"positions":[],"trades":[],"accounts":[],"contracts":[]}',
        '{"success":true,"errorCode":0,"orders":[{}],"positions":[{}],"trades":[{}],"accounts":[{}],"contracts":[{}]}',
        "[]",
        "null",
        "",
        '{"success":true,"errorCode":0,"orders":[',
        "<html><body>We will be right back</body></html>",
        b"\xff\xfe",
    ],
)
async def test_what_is_not_a_complete_answer_is_an_error(
    autojump_clock: trio.abc.Clock, path: str, body: str | bytes
) -> None:
    async with open_gateway() as gateway:
        gateway.instead(path, body)
        with pytest.raises(UnreadableAnswer):
            await READINGS[path](gateway)


@every_reading
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("timeout_before", GatewayUnreachable),
        ("reset_after", GatewayUnreachable),
        ("http_500", GatewayUnreachable),
        ("http_429", GatewayUnreachable),
        ("html_body", UnreadableAnswer),
        ("error_unknown", UnreadableAnswer),
    ],
)
async def test_a_reading_that_fails_is_an_error_and_the_next_one_goes_through(
    autojump_clock: trio.abc.Clock, path: str, fault: str, error: type[FlatguardError]
) -> None:
    async with open_gateway() as gateway:
        gateway.fault(fault, target=path)
        with pytest.raises(error):
            await READINGS[path](gateway)
        gateway.heal()
        await READINGS[path](gateway)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, UnreadableAnswer),
        (404, UnreadableAnswer),
        (302, UnreadableAnswer),
        (408, GatewayUnreachable),
        (429, GatewayUnreachable),
        (500, GatewayUnreachable),
        (503, GatewayUnreachable),
        (524, GatewayUnreachable),
    ],
)
async def test_a_status_says_whether_the_gateway_can_be_reached(
    autojump_clock: trio.abc.Clock, status: int, error: type[FlatguardError]
) -> None:
    async with open_gateway() as gateway:
        gateway.instead(POSITIONS, answer(positions=[]), status=status)
        with pytest.raises(error, match=str(status)):
            await gateway.reading.positions(gateway.account_id)


async def test_a_reading_without_a_connection_says_so(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        await gateway.token.current()
        gateway.refusing, gateway.http._warm = True, None
        with pytest.raises(GatewayUnreachable, match="no connection"):
            await gateway.reading.accounts()


# --- Tokens that are refused ---


@every_reading
async def test_a_reading_whose_token_is_refused_is_repeated_once_with_another(
    autojump_clock: trio.abc.Clock, path: str
) -> None:
    async with open_gateway() as gateway:
        gateway.fault("http_401", target=path, count=1)
        await READINGS[path](gateway)
        assert [entry["outcome"]["status"] for entry in gateway.requests(path)] == [401, 200]
        assert len(gateway.requests(LOGIN)) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_reading_that_stays_refused_ends_after_one_login(autojump_clock: trio.abc.Clock, status: int) -> None:
    async with open_gateway() as gateway:
        gateway.instead(POSITIONS, "", status=status)
        with pytest.raises(UnreadableAnswer, match=str(status)):
            await gateway.reading.positions(gateway.account_id)
        assert (len(gateway.requests(POSITIONS)), len(gateway.requests(LOGIN))) == (2, 2)


async def test_readings_whose_token_ended_share_one_login(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        await gateway.reading.accounts()
        gateway.double.gateway.tokens.end(await gateway.bearer())
        async with trio.open_nursery() as nursery:
            for read in READINGS.values():
                nursery.start_soon(read, gateway)
        assert len(gateway.requests(LOGIN)) == 2


@every_act
async def test_a_request_turned_away_for_its_token_is_sent_once_more(autojump_clock: trio.abc.Clock, path: str) -> None:
    async with open_gateway() as gateway:
        gateway.fault("http_401", target=path, count=1)
        await ACTS[path](gateway)
        assert [entry["outcome"]["status"] for entry in gateway.requests(path)] == [401, 200]
        assert len(gateway.requests(LOGIN)) == 2


@every_act
async def test_a_request_turned_away_twice_is_refused_and_not_sent_again(
    autojump_clock: trio.abc.Clock, path: str
) -> None:
    async with open_gateway() as gateway:
        gateway.fault("http_401", target=path)
        outcome = await ACTS[path](gateway)
        assert isinstance(outcome, Refused)
        assert outcome.code == 401
        assert len(gateway.requests(path)) == 2


@every_act
async def test_a_request_whose_token_ended_while_it_waited_for_its_turn_takes_the_new_one(
    autojump_clock: trio.abc.Clock, path: str
) -> None:
    async with open_gateway(Options.calm().but(token_life_s=3600)) as gateway:
        await gateway.token.current()

        async def before(_call: int) -> None:
            await trio.sleep(3600)

        gateway.acting.allowance = Hooked(before)
        await ACTS[path](gateway)
        assert [entry["outcome"]["status"] for entry in gateway.requests(path)] == [200]


# --- Acting ---


async def test_an_order_is_placed_with_all_that_was_said(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        outcome = await gateway.acting.place(
            gateway.account_id, MNQ, Side.SELL, 2, OrderType.LIMIT, limit_price=Decimal("30000.25"), custom_tag="abc"
        )
        assert isinstance(outcome, Done)
        (order,) = await gateway.reading.working_orders(gateway.account_id)
        assert (order.id, order.side, order.size, order.type) == (outcome.order_id, Side.SELL, 2, OrderType.LIMIT)
        assert (order.limit_price, order.stop_price, order.custom_tag) == (Decimal("30000.25"), None, "abc")


async def test_a_stop_is_placed_at_its_price(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.place("MNQ", 1)
        stop = gateway.world.markets[MNQ].last - 100
        outcome = await gateway.acting.place(gateway.account_id, MNQ, Side.SELL, 1, OrderType.STOP, stop_price=stop)
        assert isinstance(outcome, Done)
        await trio.sleep(1)
        (order,) = await gateway.reading.working_orders(gateway.account_id)
        assert (order.type, order.stop_price) == (OrderType.STOP, stop)


async def test_a_tag_is_refused_the_second_time(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        assert isinstance(await ACTS[PLACE](gateway), Done)
        again = await ACTS[PLACE](gateway)
        assert isinstance(again, Refused)
        assert again.code == 2
        assert again.reason.startswith("OrderRejected: ")


async def test_an_order_brings_its_bracket_along(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        outcome = await gateway.acting.place(
            gateway.account_id,
            MNQ,
            Side.BUY,
            1,
            stop_loss=Bracket(-40, OrderType.STOP),
            take_profit=Bracket(80, OrderType.LIMIT),
        )
        assert isinstance(outcome, Done)
        await trio.sleep(1)
        legs = await gateway.reading.working_orders(gateway.account_id)
        assert sorted(leg.type for leg in legs) == [OrderType.LIMIT, OrderType.STOP]


async def test_a_trailing_stop_is_placed_at_its_first_level(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        level = gateway.world.markets[MNQ].last - 20
        await gateway.acting.place(gateway.account_id, MNQ, Side.SELL, 1, OrderType.TRAILING_STOP, trail_price=level)
        assert gateway.requests(PLACE)[0]["body"]["trailPrice"] == level


async def test_an_order_is_changed_in_place(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        order_id = OrderId(gateway.place("MNQ", 1, limit=20_000))
        await trio.sleep(1)
        changed = await gateway.acting.modify(gateway.account_id, order_id, size=2, limit_price=Decimal("20000.25"))
        assert isinstance(changed, Done)
        await trio.sleep(1)
        (order,) = await gateway.reading.working_orders(gateway.account_id)
        assert (order.id, order.size, order.limit_price) == (order_id, 2, Decimal("20000.25"))
        assert await gateway.acting.modify(gateway.account_id, OrderId(1), size=2) == Refused(2, "OrderNotFound")


async def test_an_order_is_cancelled_once(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        order_id = gateway.place("MNQ", 1, limit=20_000)
        await trio.sleep(1)
        assert isinstance(await gateway.acting.cancel(gateway.account_id, order_id), Done)
        await trio.sleep(1)
        assert await gateway.reading.working_orders(gateway.account_id) == ()
        assert await gateway.acting.cancel(gateway.account_id, order_id) == Refused(2, "OrderNotFound")


async def test_a_position_is_closed_in_part_and_then_whole(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.place("MNQ", 3)
        await trio.sleep(1)
        assert isinstance(await gateway.acting.partial_close(gateway.account_id, MNQ, 2), Done)
        await trio.sleep(1)
        assert gateway.world.position(gateway.account_id, MNQ) == 1
        too_many = await gateway.acting.partial_close(gateway.account_id, MNQ, 2)
        assert isinstance(too_many, Refused)
        assert too_many.reason.startswith("InvalidCloseSize")
        assert isinstance(await gateway.acting.close(gateway.account_id, MNQ), Done)
        await trio.sleep(1)
        assert gateway.world.position(gateway.account_id, MNQ) == 0
        assert await gateway.acting.close(gateway.account_id, MNQ) == Refused(2, "PositionNotFound")


@every_act
@pytest.mark.parametrize("fault", ["error_pending", "error_unknown"])
async def test_a_code_that_decides_nothing_is_unknown(autojump_clock: trio.abc.Clock, path: str, fault: str) -> None:
    async with open_gateway() as gateway:
        gateway.fault(fault, target=path)
        assert isinstance(await ACTS[path](gateway), Unknown)
        assert len(gateway.requests(path)) == 1


@pytest.mark.parametrize("path", [CANCEL, CLOSE, PARTIAL_CLOSE])
async def test_an_account_on_which_we_may_not_act_says_so(autojump_clock: trio.abc.Clock, path: str) -> None:
    async with open_gateway() as gateway:
        gateway.fault("refuse_exits")
        outcome = await ACTS[path](gateway)
        assert isinstance(outcome, Refused)
        assert outcome.reason == "AccountRejected: Live accounts not supported"


@every_act
@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ("timeout_before", READ_S),
        ("timeout_after", READ_S),
        ("reset_after", 0),
        ("http_500", 0),
        ("http_500_after", 0),
        ("html_body", 0),
        ("http_429", 0),
    ],
)
async def test_a_lost_answer_is_unknown_and_nothing_is_sent_twice(
    autojump_clock: trio.abc.Clock, path: str, fault: str, seconds: float
) -> None:
    async with open_gateway() as gateway:
        await gateway.token.current()
        gateway.fault(fault, target=path)
        began = trio.current_time()
        assert isinstance(await ACTS[path](gateway), Unknown)
        assert trio.current_time() - began == pytest.approx(seconds, abs=0.1)
        await trio.sleep(60)
        assert len(gateway.requests(path)) == 1


async def test_an_answer_lost_after_acting_and_one_lost_before_look_the_same(autojump_clock: trio.abc.Clock) -> None:
    outcomes, sizes = [], []
    for fault in ("timeout_before", "timeout_after"):
        async with open_gateway() as gateway:
            gateway.place("MNQ", 3)
            await trio.sleep(1)
            gateway.fault(fault, target=CLOSE)
            outcomes.append(await ACTS[CLOSE](gateway))
            sizes.append(gateway.world.position(gateway.account_id, MNQ))
    assert outcomes[0] == outcomes[1]
    assert sizes == [3, 0], "which is why only reading can tell"


@every_act
async def test_a_request_without_a_connection_was_not_sent_and_is_refused(
    autojump_clock: trio.abc.Clock, path: str
) -> None:
    async with open_gateway() as gateway:
        await gateway.token.current()
        gateway.refusing, gateway.http._warm = True, None
        outcome = await ACTS[path](gateway)
        assert isinstance(outcome, Refused)
        assert outcome.code == 0
        assert "nothing was sent" in outcome.reason
        assert not gateway.requests(path)


@every_act
@pytest.mark.parametrize("how", ["refused", "unreachable", "unreadable"])
async def test_a_request_without_a_token_was_not_sent_and_is_refused(
    autojump_clock: trio.abc.Clock, path: str, how: str
) -> None:
    async with open_gateway(api_key="wrong" if how == "refused" else None) as gateway:
        if how != "refused":
            gateway.fault({"unreachable": "timeout_before", "unreadable": "html_body"}[how], target=LOGIN)
        outcome = await ACTS[path](gateway)
        assert isinstance(outcome, Refused)
        assert outcome.code == 0
        assert "nothing was sent" in outcome.reason
        assert not gateway.requests(path)


@every_act
async def test_a_request_turned_away_for_its_token_is_refused_where_no_other_can_be_had(
    autojump_clock: trio.abc.Clock, path: str
) -> None:
    async with open_gateway() as gateway:
        await gateway.token.current()
        gateway.fault("http_401", target=path)
        gateway.fault("http_500", target=LOGIN)
        outcome = await ACTS[path](gateway)
        assert isinstance(outcome, Refused)
        assert outcome.code == 401
        assert len(gateway.requests(path)) == 1


@every_act
async def test_a_second_attempt_after_401_whose_answer_is_lost_is_unknown(
    autojump_clock: trio.abc.Clock, path: str
) -> None:
    async with open_gateway() as gateway:
        gateway.fault("http_401", target=path, count=1)
        gateway.fault("timeout_after", target=path)
        assert isinstance(await ACTS[path](gateway), Unknown)
        assert len(gateway.requests(path)) == 2


@every_act
async def test_half_a_body_is_unknown(autojump_clock: trio.abc.Clock, path: str) -> None:
    async with open_gateway() as gateway:
        gateway.instead(path, answer(orderId=1)[:-4])
        assert isinstance(await ACTS[path](gateway), Unknown)


@every_act
async def test_a_request_goes_to_its_end_although_its_caller_is_cancelled(
    autojump_clock: trio.abc.Clock, path: str
) -> None:
    async with open_gateway() as gateway:
        await gateway.token.current()
        gateway.fault("slow", target=path, delay_s=3)
        outcome: Outcome | None = None
        with trio.move_on_after(1):
            outcome = await ACTS[path](gateway)
        assert outcome is not None, "the outcome of what was sent is not thrown away"


async def test_every_stage_on_the_page_has_been_seen_to_end_as_it_says(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        seen: dict[str, str] = {}

        async def see(stage: str, *, code: int | None = None) -> None:
            outcome = await ACTS[CLOSE](gateway)
            word = type(outcome).__name__.lower()
            seen[stage] = f"{word}, code {outcome.code}" if isinstance(outcome, Refused) else word
            gateway.heal()

        gateway.fault("http_500", target=LOGIN)
        await see("no token could be had")
        await gateway.token.current()
        gateway.fault("http_401", target=CLOSE)
        gateway.fault("http_500", target=LOGIN)
        await see("401, and no new token could be had")
        gateway.fault("timeout_after", target=CLOSE)
        await see(f"no answer within {READ_S:.0f} s")
        gateway.fault("reset_after", target=CLOSE)
        await see("the line broke before the answer was complete")
        gateway.refusing, gateway.http._warm = True, None
        await see("no connection: refused, unreachable, no TLS, no name")
        page = {row[0]: row[1] for row in rows_of_page("## When there is no answer")}
        assert page.items() >= seen.items()
        assert page.keys() - seen.keys() == {
            "no free connection in the pool",
            "the proxy makes no tunnel",
            "the line was kept warm, and the server gave it up",
            "the line broke while the request was being sent",
            f"the answer drips and is not complete after {HARD_CAP_S:.0f} s",
        }, "which are seen in the tests of the HTTP client and of sockets"


# --- Too many requests ---


@pytest.mark.parametrize("path", [POSITIONS, CLOSE])
@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("17", 17), ("Wed, 18 Nov 2026 15:00:42 GMT", 42), ("86400", 60), ("soon", QUIET_S), (None, QUIET_S)],
)
async def test_too_many_requests_make_routine_quiet_and_enforcement_not(
    autojump_clock: trio.abc.Clock, path: str, retry_after: str | None, seconds: float
) -> None:
    async with open_gateway() as gateway:
        await gateway.token.current()
        headers = {} if retry_after is None else {"retry_after": retry_after}
        gateway.instead(path, "", status=429, date="Wed, 18 Nov 2026 15:00:00 GMT", **headers)
        began = trio.current_time()
        try:
            outcome = await {**READINGS, **ACTS}[path](gateway)
        except GatewayUnreachable:
            outcome = None
        assert isinstance(outcome, Unknown | None)
        gateway.heal()
        await gateway.acting.positions(gateway.account_id)
        assert trio.current_time() - began < 1
        await gateway.reading.positions(gateway.account_id)
        assert trio.current_time() - began == pytest.approx(seconds, abs=1)


async def test_the_wait_that_is_asked_of_a_request_is_handed_on(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.instead(CLOSE, "", status=429, retry_after="9")
        outcome = await ACTS[CLOSE](gateway)
        assert isinstance(outcome, Unknown)
        assert outcome.retry_after_s == 9


def test_a_429_without_a_wait_does_not_let_the_picture_grow_old() -> None:
    assert QUIET_S < 15, "from then on an account counts as not seen"


async def test_every_request_waits_for_its_turn_in_its_own_lane(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        for read in READINGS.values():
            await read(gateway)
        assert gateway.allowance.statistics().used == len(READINGS) - 1
        assert gateway.allowance.statistics().history_used == 1
        for act in ACTS.values():
            await act(gateway)
        assert gateway.allowance.statistics().used == len(READINGS) - 1 + len(ACTS)


# --- The broker's clock ---


async def test_the_brokers_clock_is_taken_from_every_answer(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        assert gateway.reading.broker_at is None
        await gateway.reading.accounts()
        assert gateway.reading.broker_at == START
        await trio.sleep(90.5)
        gateway.fault("http_500", target=POSITIONS)
        with pytest.raises(GatewayUnreachable):
            await gateway.reading.positions(gateway.account_id)
        assert gateway.reading.broker_at == START + timedelta(seconds=90)


async def test_an_answer_without_a_date_leaves_the_brokers_clock_where_it_was(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        await gateway.reading.accounts()
        gateway.instead(POSITIONS, answer(positions=[]))
        await trio.sleep(10)
        await gateway.reading.positions(gateway.account_id)
        assert gateway.reading.broker_at == START


# --- Secrets ---


@pytest.mark.parametrize(
    "fault", ["timeout_before", "reset_after", "http_401", "http_429", "http_500", "html_body", "missing_list"]
)
async def test_no_secret_is_in_any_error_any_repr_or_any_log(
    autojump_clock: trio.abc.Clock, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_gateway() as gateway:
        token = await gateway.token.current()
        gateway.fault(fault)
        shown = [repr(gateway.reading), repr(gateway.http), repr(gateway.token), str(gateway.token)]
        for read in [*READINGS.values(), lambda g: g.log_in(), lambda g: validate(g.http, token)]:
            try:
                await read(gateway)
            except FlatguardError as error:
                shown += [*traceback.format_exception(error), repr(error), error.hint]
        shown += [repr(await act(gateway)) for act in ACTS.values()]
        shown.append(caplog.text)
        for secret in (token.reveal(), token.reveal().split(".")[2], gateway.api_key):
            assert not [text for text in shown if secret in text]


# --- The token's own calls ---


async def test_validating_gives_another_token(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        old = await gateway.log_in()
        await trio.sleep(5)
        assert await validate(gateway.http, old) != old


@pytest.mark.parametrize("body", [answer(), answer(newToken=None), answer(newToken="")])
async def test_validating_without_another_token_keeps_the_old_one(autojump_clock: trio.abc.Clock, body: str) -> None:
    async with open_gateway() as gateway:
        gateway.instead("/api/Auth/validate", body)
        assert await validate(gateway.http, Secret("old")) == Secret("old")


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, '{"success":false,"errorCode":3}', UnreadableAnswer),
        (200, '{"success":true,"newToken":5}', UnreadableAnswer),
        (200, '{"success":true,"newToken":"two words"}', UnreadableAnswer),
        (200, "<html>", UnreadableAnswer),
        (401, "", UnreadableAnswer),
        (503, "", GatewayUnreachable),
        (429, "", GatewayUnreachable),
    ],
)
async def test_a_validation_that_fails_is_an_error(
    autojump_clock: trio.abc.Clock, status: int, body: str, error: type[FlatguardError]
) -> None:
    async with open_gateway() as gateway:
        gateway.instead("/api/Auth/validate", body, status=status)
        with pytest.raises(error):
            await validate(gateway.http, Secret("old"))


@pytest.mark.parametrize("fault", ["timeout_before", "timeout_after", "reset_after", "http_500", "http_429"])
async def test_a_login_that_gets_no_answer_is_tried_again_and_not_refused(
    autojump_clock: trio.abc.Clock, fault: str
) -> None:
    async with open_gateway() as gateway:
        gateway.fault(fault, target=LOGIN)
        with pytest.raises(GatewayUnreachable) as caught:
            await gateway.log_in()
        assert not isinstance(caught.value, LoginRefused)
        assert caught.value.exit_status == 5
