"""One method per endpoint of the gateway that flatguard uses; typed in, typed out.

Readings raise where they are not complete: a list that is missing is never an empty one. Requests that change something
never raise for what the broker answers; their outcome is done, refused or unknown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from attrs import define, field, frozen

from flatguard.clock import WallClock
from flatguard.errors import FlatguardError, GatewayUnreachable, UnreadableAnswer
from flatguard.gateway import verdict
from flatguard.gateway.http import Answer, HttpClient, NoAnswer
from flatguard.gateway.token import Token
from flatguard.gateway.verdict import broker_text
from flatguard.gateway.wire import structure, structure_list
from flatguard.model.events import ExposureRead, RecordRead
from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.outcomes import Outcome, Refused, Unknown
from flatguard.model.trading import Account, Contract, Order, OrderStatus, OrderType, Position, Side, Trade
from flatguard.secret import Secret
from flatguard.signalr.errors import ProtocolError
from flatguard.signalr.framing import read_json, write_json

WORKING = [OrderStatus.OPEN, OrderStatus.PENDING, OrderStatus.PENDING_CANCELLATION, OrderStatus.SUSPENDED]
PAGE = 100
MAX_PAGES = 50  # 5,000 working orders; past that the answer is taken for nonsense
READ_TRIES = 3  # for a list that changes while its pages are read
QUIET_S = 5.0  # where a 429 does not say how long; the picture must not grow older than that

Body = Mapping[str, object]


@define
class Gateway:
    """The REST side of one login, in one lane of its allowance.

    ``take`` returns when the next request may go out. Every method is a checkpoint; a request that has left is not cut
    short by a cancel.
    """

    http: HttpClient
    token: Token
    clock: WallClock
    take: Callable[[], Awaitable[None]]
    be_quiet: Callable[[float], None] = field(default=lambda seconds: None)
    broker_at: datetime | None = None

    # reading

    async def accounts(self) -> tuple[Account, ...]:
        """Return all accounts of the login, those that cannot trade any more too."""
        return structure_list(
            await self._read("/api/Account/search", {"onlyActiveAccounts": False}), "accounts", Account
        )

    async def contract(self, contract_id: ContractId) -> Contract:
        """Return one contract, also of an expired month."""
        body = await self._read("/api/Contract/searchById", {"contractId": contract_id})
        contract = structure(body.get("contract"), Contract)
        if contract.id != contract_id:
            raise UnreadableAnswer(f"asked for {contract_id}, the gateway described {contract.id:.40}")
        return contract

    async def contracts(self) -> tuple[Contract, ...]:
        """Return the contracts that trade now, one active month per product."""
        return structure_list(await self._read("/api/Contract/available", {"live": False}), "contracts", Contract)

    async def positions(self, account_id: AccountId) -> tuple[Position, ...]:
        """Return all open positions."""
        body = await self._read("/api/Position/searchOpen", {"accountId": account_id})
        return _of(account_id, structure_list(body, "positions", Position))

    async def working_orders(self, account_id: AccountId) -> tuple[Order, ...]:
        """Return all orders that may still fill: statuses 1, 6, 7 and 8, every page.

        ``Order/searchOpen`` would show status 1 only.
        """
        for _ in range(READ_TRIES):
            orders = await self._all_pages(account_id)
            if orders is not None:
                return _of(account_id, [order for order in orders if order.working])
        raise UnreadableAnswer("the list of working orders changes faster than it can be read")

    async def _all_pages(self, account_id: AccountId) -> list[Order] | None:
        """Return the rows of all pages, in order of their ids; None where the list moved while it was read.

        The offset counts rows, and a page holds 100 at most whatever is asked for, perhaps fewer one day. So each page
        begins with the last row of the one before: where that row is not there, orders that ended have moved others
        past the cut, unseen.
        """
        orders: list[Order] = []
        for _ in range(MAX_PAGES):
            body = await self._read(
                "/api/Order/v2/query",
                {
                    "filter": {"accountId": account_id, "statuses": [int(status) for status in WORKING]},
                    "pageSize": PAGE,
                    "pageOffset": max(0, len(orders) - 1),
                    "sortBy": 1,
                    "sortDirection": 0,
                    "includeTotalCount": True,
                },
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
                raise UnreadableAnswer(f"the gateway counts {total!r:.20} working orders and lists {len(orders)}")
        raise UnreadableAnswer("the list of working orders has no end")

    async def trades(self, account_id: AccountId, since: datetime) -> tuple[Trade, ...]:
        """Return all fills made since ``since``."""
        body = await self._read("/api/Trade/search", {"accountId": account_id, "startTimestamp": since.isoformat()})
        return _of(account_id, structure_list(body, "trades", Trade))

    async def read_exposure(self, account_id: AccountId) -> ExposureRead:
        """Read working orders and positions, completely or not at all.

        In this order: what goes from order to position in between is then seen twice, never not at all.
        """
        began_at = self.clock.now()
        orders = await self.working_orders(account_id)
        positions = await self.positions(account_id)
        return ExposureRead(self.clock.now(), account_id, began_at, self.broker_at, positions, orders)

    async def read_record(self, account_id: AccountId, since: datetime) -> RecordRead:
        """Read the account's row and its fills since ``since``, completely or not at all."""
        began_at = self.clock.now()
        account = next((row for row in await self.accounts() if row.id == account_id), None)
        if account is None:
            raise UnreadableAnswer(f"account {account_id} is not in the gateway's list")
        trades = await self.trades(account_id, since)
        return RecordRead(self.clock.now(), account_id, began_at, self.broker_at, account, trades, since)

    # acting

    async def place(
        self,
        account_id: AccountId,
        contract_id: ContractId,
        side: Side,
        size: int,
        order_type: OrderType = OrderType.MARKET,
        *,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        custom_tag: str | None = None,
    ) -> Outcome:
        """Place an order. Prices lie on the contract's tick grid; a tag may never be used twice."""
        return await self._act(
            verdict.PLACE,
            {
                "accountId": account_id,
                "contractId": contract_id,
                "type": int(order_type),
                "side": int(side),
                "size": size,
                "limitPrice": limit_price,
                "stopPrice": stop_price,
                "trailPrice": None,
                "customTag": custom_tag,
            },
        )

    async def cancel(self, account_id: AccountId, order_id: OrderId) -> Outcome:
        """Cancel an order. Done means accepted; the order's own event says when it ended."""
        return await self._act(verdict.CANCEL, {"accountId": account_id, "orderId": order_id})

    async def close(self, account_id: AccountId, contract_id: ContractId) -> Outcome:
        """Close the whole position. Resting orders stay."""
        return await self._act(verdict.CLOSE, {"accountId": account_id, "contractId": contract_id})

    async def partial_close(self, account_id: AccountId, contract_id: ContractId, size: int) -> Outcome:
        """Close ``size`` contracts of the position. Resting orders stay."""
        return await self._act(
            verdict.PARTIAL_CLOSE, {"accountId": account_id, "contractId": contract_id, "size": size}
        )

    # the two ways of asking

    async def _read(self, path: str, body: Body) -> Body:
        token, answer = await self._post(path, body)
        if answer.status in {401, 403}:
            _, answer = await self._post(path, body, refused=token)
        read = _object(answer)
        success, code = read.get("success"), read.get("errorCode")
        if success is not True or type(code) is not int or code != 0:
            raise UnreadableAnswer(f"{path} answered with code {code!r:.20}: {broker_text(read.get('errorMessage'))}")
        return read

    async def _act(self, path: str, body: Body) -> Outcome:
        try:
            token, answer = await self._post(path, body)
        except NoAnswer as error:
            return Unknown(str(error))
        except FlatguardError as error:  # every other one is raised before the request leaves
            return Refused(verdict.NOT_SENT, f"nothing was sent: {error}")
        if answer.status == 401:  # turned away at the door, so not carried out: this one may be sent again, once
            try:
                _, answer = await self._post(path, body, refused=token)
            except NoAnswer as error:
                return Unknown(str(error))
            except FlatguardError:
                pass  # it stays with what was answered
        return verdict.verdict(path, answer.status, _maybe_object(answer), answer.retry_after_s)

    async def _post(self, path: str, body: Body, *, refused: Secret | None = None) -> tuple[Secret, Answer]:
        """Send when it is our turn, with a token other than ``refused``; return the token used and the answer."""
        content = write_json(body)
        await self.take()
        token = await (self.token.current() if refused is None else self.token.renewed(refused))
        answer = await self.http.post(path, content, {**JSON, **_bearer(token)})
        if answer.date is not None:
            self.broker_at = answer.date
        if answer.status == 429:
            self.be_quiet(answer.retry_after_s if answer.retry_after_s is not None else QUIET_S)
        return token, answer


@frozen
class Enforcer:
    """The broker as enforcement needs it. Closes have a lane and connections of their own, so that neither hanging
    cancels nor a used-up allowance hold them up.
    """

    closes: Gateway
    others: Gateway

    async def read_exposure(self, account_id: AccountId) -> ExposureRead:
        """Read positions and working orders, completely or not at all."""
        return await self.others.read_exposure(account_id)

    async def close(self, account_id: AccountId, contract_id: ContractId) -> Outcome:
        """Close the whole position. Resting orders stay."""
        return await self.closes.close(account_id, contract_id)

    async def partial_close(self, account_id: AccountId, contract_id: ContractId, size: int) -> Outcome:
        """Close ``size`` contracts of the position. Resting orders stay."""
        return await self.closes.partial_close(account_id, contract_id, size)

    async def cancel(self, account_id: AccountId, order_id: OrderId) -> Outcome:
        """Cancel an order."""
        return await self.others.cancel(account_id, order_id)


JSON = {"content-type": "application/json"}


def _bearer(token: Secret) -> dict[str, Secret]:
    return {"authorization": Secret(f"Bearer {token.reveal()}")}


Row = TypeVar("Row", Position, Order, Trade)


def _of(account_id: AccountId, rows: Sequence[Row]) -> tuple[Row, ...]:
    """An answer about another account answers another question: leaving its rows out would make ours look empty."""
    if any(row.account_id != account_id for row in rows):
        raise UnreadableAnswer(f"asked for account {account_id}, the gateway told of another account")
    return tuple(rows)


def _object(answer: Answer) -> Body:
    """Return the answer's JSON object. Raises GatewayUnreachable for a server's failure, else UnreadableAnswer."""
    if answer.status >= 500 or answer.status in {408, 425, 429}:
        raise GatewayUnreachable(f"the gateway answered with HTTP status {answer.status}")
    if answer.status != 200:
        raise UnreadableAnswer(f"the gateway answered with HTTP status {answer.status}")
    body = _maybe_object(answer)
    if body is None:
        raise UnreadableAnswer("the gateway's answer is not a JSON object")
    return body


def _maybe_object(answer: Answer) -> Body | None:
    try:
        return read_json(answer.body)
    except ProtocolError:
        return None
