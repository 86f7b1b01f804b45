"""The readings: of the picture, made once and repeated on a timer of their own, and the routine ones, which are made
again while the gateway does not answer. A list that is missing is never an empty one.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from flatguard.errors import UnreadableAnswer
from flatguard.gateway import verdict
from flatguard.gateway.asking import Asking, Body, of_account
from flatguard.gateway.wire import structure, structure_list
from flatguard.model.events import ExposureRead, RecordRead
from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.trading import (
    Account,
    Bar,
    BarUnit,
    Contract,
    Order,
    OrderQuery,
    OrderStatus,
    Position,
    Trade,
)

WORKING = (OrderStatus.OPEN, OrderStatus.PENDING, OrderStatus.PENDING_CANCELLATION, OrderStatus.SUSPENDED)
PAGE = 100
MAX_PAGES = 50  # 5,000 orders; past that the answer is taken for nonsense
READ_TRIES = 3  # for a list that changes while its pages are read
MAX_BARS = 20_000


class Picturing(Asking):
    """What makes up the picture of an account. Nothing here is repeated, and nothing stands before it."""

    __slots__ = ()

    async def ping(self) -> None:
        """Return when the gateway has answered, which needs no token. Raises GatewayUnreachable, UnreadableAnswer."""
        await self.allowance.take(self.lane)
        answer = await self.http.get("/api/Status/ping")
        self._learn_from(answer)
        verdict.readable(answer.status, {}, answer.retry_after_s)
        if answer.body.strip(b' \t\r\n"') != b"pong":
            raise UnreadableAnswer("the gateway did not answer a ping with a pong")

    async def accounts(self) -> tuple[Account, ...]:
        """Return all accounts of the login, those that cannot trade any more too."""
        return await self._accounts()

    async def positions(self, account_id: AccountId) -> tuple[Position, ...]:
        """Return all open positions."""
        body = await self._read(verdict.POSITIONS, {"accountId": account_id}, account_id)
        return of_account(account_id, structure_list(body, "positions", Position))

    async def working_orders(self, account_id: AccountId) -> tuple[Order, ...]:
        """Return all orders that may still fill: statuses 1, 6, 7 and 8, every page.

        ``open_orders`` would show status 1 only.
        """
        orders = await self._queried(account_id, OrderQuery(WORKING))
        return tuple(order for order in orders if order.working)

    async def open_orders(self, account_id: AccountId) -> tuple[Order, ...]:
        """Return the orders of status 1: not those that are suspended, nor those on their way. A cross-check only."""
        body = await self._read(verdict.ORDERS_OPEN, {"accountId": account_id}, account_id)
        return of_account(account_id, structure_list(body, "orders", Order))

    async def order(self, account_id: AccountId, order_id: OrderId) -> Order:
        """Return one order of any status. Raises ReadingRefused, code 1, where the gateway does not know it."""
        body = await self._read(verdict.ORDER, {"accountId": account_id, "orderId": order_id}, account_id)
        (order,) = of_account(account_id, [structure(body.get("order"), Order)])
        if order.id != order_id:
            raise UnreadableAnswer(f"asked for order {order_id}, the gateway described {order.id}")
        return order

    async def trades(self, account_id: AccountId, since: datetime, until: datetime | None = None) -> tuple[Trade, ...]:
        """Return all fills made since ``since``, and not after ``until``."""
        body = await self._read(verdict.TRADES, _span(account_id, since, until), account_id)
        return of_account(account_id, structure_list(body, "trades", Trade))

    async def read_exposure(self, account_id: AccountId, *, cross_check: bool = False) -> ExposureRead:
        """Read working orders and positions, completely or not at all.

        In this order: what goes from order to position in between is then seen twice, never not at all. With
        ``cross_check`` orders that only the shorter list of the gateway shows count too: better one too many.
        """
        began_at = self.clock.now()
        orders = await self.working_orders(account_id)
        if cross_check:
            listed = {order.id for order in orders}
            opened = await self.open_orders(account_id)
            orders += tuple(order for order in opened if order.id not in listed and order.working)
        positions = await self.positions(account_id)
        return ExposureRead(self.clock.now(), account_id, began_at, self.broker_at, positions, orders)

    async def read_record(self, account_id: AccountId, since: datetime) -> RecordRead:
        """Read the account's row and its fills since ``since``, completely or not at all."""
        began_at = self.clock.now()
        account = next((row for row in await self._accounts(account_id) if row.id == account_id), None)
        if account is None:
            raise UnreadableAnswer(f"account {account_id} is not in the gateway's list")
        trades = await self.trades(account_id, since)
        return RecordRead(self.clock.now(), account_id, began_at, self.broker_at, account, trades, since)

    async def _accounts(self, for_account: AccountId | None = None) -> tuple[Account, ...]:
        """Return all accounts, as a request of one of them when it comes to whose turn it is."""
        body = await self._read(verdict.ACCOUNTS, {"onlyActiveAccounts": False}, for_account)
        return structure_list(body, "accounts", Account)

    async def _queried(self, account_id: AccountId, query: OrderQuery) -> tuple[Order, ...]:
        """Return every order that ``query`` names, in order of their ids."""
        for _ in range(READ_TRIES):
            orders = await self._all_pages(account_id, query)
            if orders is not None:
                return of_account(account_id, orders)
        raise UnreadableAnswer("the list of orders changes faster than it can be read")

    async def _all_pages(self, account_id: AccountId, query: OrderQuery) -> list[Order] | None:
        """Return the rows of all pages, in order of their ids; None where the list moved while it was read.

        The offset counts rows, and a page holds 100 at most whatever is asked for, perhaps fewer one day. So each page
        begins with the last row of the one before: where that row is not there, orders that ended have moved others
        past the cut, unseen.
        """
        orders: list[Order] = []
        for _ in range(MAX_PAGES):
            body = await self._read(
                verdict.ORDERS,
                {
                    "filter": _filter(account_id, query),
                    "pageSize": PAGE,
                    "pageOffset": max(0, len(orders) - 1),
                    "sortBy": 1,
                    "sortDirection": 0,
                    "includeTotalCount": True,
                },
                account_id,
            )
            page, total = structure_list(body, "orders", Order), body.get("totalCount")
            if orders and (not page or page[0].id != orders[-1].id):
                return None
            new = page[1:] if orders else page
            orders += new
            if type(total) is int and len(orders) == total:
                return orders
            if not new and total is None:
                return orders
            if not new:
                raise UnreadableAnswer(f"the gateway counts {total!r:.20} orders and lists {len(orders)}")
        raise UnreadableAnswer("the list of orders has no end")


class Looking(Picturing):
    """The routine readings: contracts, bars, searches of the past. They are repeated where there is a ``patience``."""

    __slots__ = ()

    async def contract(self, contract_id: ContractId) -> Contract:
        """Return one contract, also of an expired month."""
        body = await self._routine(lambda: self._read(verdict.CONTRACT, {"contractId": contract_id}))
        contract = structure(body.get("contract"), Contract)
        if contract.id != contract_id:
            raise UnreadableAnswer(f"asked for {contract_id}, the gateway described {contract.id:.40}")
        return contract

    async def contracts(self) -> tuple[Contract, ...]:
        """Return the contracts that trade now, one active month per product."""
        body = await self._routine(lambda: self._read(verdict.CONTRACTS, {"live": False}))
        return structure_list(body, "contracts", Contract)

    async def contracts_named(self, text: str) -> tuple[Contract, ...]:
        """Return the active contracts whose name or id holds ``text``, 20 at most; other products' too, therefore."""
        body = await self._routine(lambda: self._read(verdict.CONTRACTS_NAMED, {"searchText": text, "live": False}))
        return structure_list(body, "contracts", Contract)

    async def bars(
        self,
        contract_id: ContractId,
        since: datetime,
        until: datetime,
        unit: BarUnit,
        units: int = 1,
        *,
        limit: int = MAX_BARS,
        partial: bool = False,
    ) -> tuple[Bar, ...]:
        """Return bars of ``units`` units each, the newest first; of more than ``limit`` the newest.

        ``partial`` includes the one that is still forming.
        """
        question: Body = {
            "contractId": contract_id,
            "live": False,
            "startTime": since.isoformat(),
            "endTime": until.isoformat(),
            "unit": int(unit),
            "unitNumber": units,
            "limit": limit,
            "includePartialBar": partial,
        }
        return structure_list(await self._routine(lambda: self._read(verdict.BARS, question)), "bars", Bar)

    async def orders_made(
        self, account_id: AccountId, since: datetime, until: datetime | None = None
    ) -> tuple[Order, ...]:
        """Return the orders of every status made since ``since``, and not after ``until``."""
        question = _span(account_id, since, until)
        body = await self._routine(lambda: self._read(verdict.ORDERS_MADE, question, account_id))
        return of_account(account_id, structure_list(body, "orders", Order))

    async def orders(self, account_id: AccountId, query: OrderQuery) -> tuple[Order, ...]:
        """Return every order that ``query`` names, in order of their ids, however many pages that takes."""
        orders = await self._routine(lambda: self._queried(account_id, query))
        # the gateway takes the filter by contract, and does not apply it
        return tuple(order for order in orders if query.contract_id in {None, order.contract_id})

    async def past_trades(self, account_id: AccountId, since: datetime, until: datetime) -> tuple[Trade, ...]:
        """Return the fills of a time that is over; as ``trades``, but with patience."""
        return await self._routine(lambda: self.trades(account_id, since, until))


def _span(account_id: AccountId, since: datetime, until: datetime | None) -> Body:
    end: Body = {} if until is None else {"endTimestamp": until.isoformat()}
    return {"accountId": account_id, "startTimestamp": since.isoformat(), **end}


def _filter(account_id: AccountId, query: OrderQuery) -> Body:
    told: Iterable[tuple[str, object]] = (
        ("statuses", [int(status) for status in query.statuses] or None),
        ("contractId", query.contract_id),
        ("createdAfter", None if query.created_after is None else query.created_after.isoformat()),
        ("createdBefore", None if query.created_before is None else query.created_before.isoformat()),
    )
    return {"accountId": account_id, **{name: value for name, value in told if value is not None}}
