"""The operations of the REST side: what each of them reads, does and answers, and the table of them all.

Known: the paths, fields and codes, 100 rows of v2/query with offsets in rows, the inert filter by contract. Inferred:
which code of loginApp means what.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from attrs import field, frozen

from flatguard.simulator.bodies import (
    Body,
    Field,
    Nested,
    boolean,
    int32,
    int64,
    integers,
    moment,
    number,
    optional,
    required,
    side,
    text,
)
from flatguard.simulator.limits import BARS_PATH
from flatguard.simulator.refusals import Bracket, Edit, Ticket
from flatguard.simulator.rows import Row, account_row, contract_row, order_row, position_row, trade_row
from flatguard.simulator.setup import UserSetup
from flatguard.simulator.state import Book, Status
from flatguard.simulator.world import Answer

if TYPE_CHECKING:
    from flatguard.simulator.app import Gateway

MAX_QUERY_ROWS = 100
_MAX_CONTRACTS_FOUND = 20
_MAX_BARS = 20_000
_MAX_BAR_WIDTH = 1000
_UNDOCUMENTED_CODE = 99
_SIGN_FIRST = "Please log in to the platform and complete the required agreements."


@frozen
class Call:
    """A request that may be acted upon.

    Lists are read as of ``seen_at``, which a fault may put into the past.
    """

    gateway: Gateway
    user: str
    token: str
    body: Body
    now: datetime
    seen_at: datetime

    def book(self, account_id: int | None = None) -> Book | None:
        """Return the books of an account, by default the one that the body names, if it is this login's."""
        book = self.gateway.world.books.get(self.body["accountId"] if account_id is None else account_id)
        return book if book is not None and book.user == self.user else None


@frozen
class Reply:
    """What a call is answered: the envelope's code and text, what stands beside them, and when it leaves."""

    code: int = 0
    message: str | None = None
    extra: Mapping[str, object] = field(factory=dict)
    at: datetime | None = None

    def envelope(self) -> Row:
        """Return the body of the answer."""
        return {
            **self.extra,
            "success": self.code == 0,
            "errorCode": self.code,
            "errorMessage": self.message,
        }


@frozen(kw_only=True)
class Endpoint:
    """One operation. ``pending`` and ``unknown`` are its codes for outcomes that decide nothing."""

    type_name: str
    schema: Mapping[str, Field]
    act: Callable[[Call], Reply]
    public: bool = False
    rows: str | None = None
    pending: int | None = None
    unknown: int = _UNDOCUMENTED_CODE
    refuses_exit: int | None = None


# --- what each call does ---


def _login(call: Call) -> Reply:
    user = call.gateway.world.users.get(call.body["userName"].lower())
    if user is None or user.api_key != call.body["apiKey"]:
        return Reply(3, extra={"token": None})
    if not user.key_login:
        return Reply(10, extra={"token": None})
    return _logged_in(call, user)


def _login_app(call: Call) -> Reply:
    """Log in by password, as the OpenAPI description still offers; the codes follow their names (assumed)."""
    user = call.gateway.world.users.get(call.body["userName"].lower())
    if user is None:
        return Reply(1, extra={"token": None})
    if not user.password or user.password != call.body["password"]:
        return Reply(2, extra={"token": None})
    return _logged_in(call, user)


def _logged_in(call: Call, user: UserSetup) -> Reply:
    if not user.agreements_signed:
        return Reply(7, _SIGN_FIRST, {"token": None})
    if not user.subscribed:
        return Reply(9, extra={"token": None})
    return Reply(extra={"token": call.gateway.tokens.issue(user.user_name, call.now)})


def _validate(call: Call) -> Reply:
    return Reply(extra={"newToken": call.gateway.tokens.issue(call.user, call.now)})


def _logout(call: Call) -> Reply:
    call.gateway.tokens.end(call.token)
    return Reply()


def _accounts(call: Call) -> Reply:
    rows = []
    for account_id, book in call.gateway.world.books.items():
        account = book.account.seen(account_id, call.seen_at)
        if account is None or book.user != call.user:
            continue
        if not call.body["onlyActiveAccounts"] or (account.can_trade and account.visible):
            rows.append(account_row(account))
    return Reply(extra={"accounts": rows})


def _available(call: Call) -> Reply:
    rows = [contract_row(contract) for contract in call.gateway.world.listing.active(call.now)]
    return Reply(extra={"contracts": [] if call.body["live"] else rows})


def _search_contracts(call: Call) -> Reply:
    wanted = (call.body["searchText"] or "").upper()
    rows = [
        contract_row(contract)
        for contract in call.gateway.world.listing.active(call.now)
        if wanted in contract.id or wanted in contract.name
    ]
    return Reply(extra={"contracts": [] if call.body["live"] else rows[:_MAX_CONTRACTS_FOUND]})


def _find_contract(call: Call) -> Reply:
    listing = call.gateway.world.listing
    contract = listing.get(call.body["contractId"])
    if contract is None:
        return Reply(1, extra={"contract": None})
    return Reply(extra={"contract": contract_row(contract, active=listing.is_active(contract, call.now))})


def _bars(call: Call) -> Reply:
    body = call.body
    code = 0
    if call.gateway.world.listing.get(body["contractId"]) is None or body["live"]:
        code = 1
    elif body["unit"] not in range(1, 7):
        code = 2
    elif not 1 <= body["unitNumber"] <= _MAX_BAR_WIDTH:
        code = 3
    elif not 1 <= body["limit"] <= _MAX_BARS:
        code = 4
    if code:
        return Reply(code, extra={"bars": None})
    bars = call.gateway.world.markets[body["contractId"]].bars(
        body["unit"],
        body["unitNumber"],
        body["startTime"],
        body["endTime"],
        body["limit"],
        call.now,
        partial=body["includePartialBar"],
    )
    return Reply(extra={"bars": bars})


def _open_orders(call: Call) -> Reply:
    return _orders(call, lambda row: row["status"] == Status.OPEN)


def _search_orders(call: Call) -> Reply:
    return _orders(call, _made_between(call.body["startTimestamp"], call.body["endTimestamp"]))


def _orders(call: Call, wanted: Callable[[Row], bool]) -> Reply:
    book = call.book()
    if book is None:
        return Reply(1, extra={"orders": None})
    return Reply(extra={"orders": [row for row in map(order_row, book.orders.rows(call.seen_at)) if wanted(row)]})


def _made_between(start: datetime | None, end: datetime | None) -> Callable[[Row], bool]:
    def wanted(row: Row) -> bool:
        made = datetime.fromisoformat(row["creationTimestamp"])
        return (start is None or made >= start) and (end is None or made <= end)

    return wanted


def _order(call: Call) -> Reply:
    book = call.book()
    order = None if book is None else book.orders.seen(call.body["orderId"], call.seen_at)
    if order is None:
        return Reply(1, extra={"order": None})
    return Reply(extra={"order": order_row(order)})


def _query_orders(call: Call) -> Reply:
    wanted = call.body["filter"]
    book = call.book(wanted["accountId"])
    if book is None:
        return Reply(1, extra={"orders": None, "totalCount": None})
    in_time = _made_between(wanted["createdAfter"], wanted["createdBefore"])
    rows = [row for row in map(order_row, book.orders.rows(call.seen_at)) if in_time(row)]
    if wanted["statuses"]:
        rows = [row for row in rows if row["status"] in wanted["statuses"]]
    # the filter by contract is accepted and does nothing, as in the original
    key = "id" if call.body["sortBy"] == 1 else "creationTimestamp"
    rows.sort(key=lambda row: (_sortable(row[key]), row["id"]), reverse=call.body["sortDirection"] == 1)
    offset = max(0, call.body["pageOffset"] or 0)
    size = min(MAX_QUERY_ROWS, call.body["pageSize"] or MAX_QUERY_ROWS)
    total = len(rows) if call.body["includeTotalCount"] else None
    return Reply(extra={"orders": rows[offset : offset + max(0, size)], "totalCount": total})


def _sortable(value: int | str) -> datetime | int:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


def _positions(call: Call) -> Reply:
    book = call.book()
    if book is None:
        return Reply(1, extra={"positions": None})
    rows = [position_row(position) for position in book.positions.rows(call.seen_at) if position.size]
    return Reply(extra={"positions": rows})


def _trades(call: Call) -> Reply:
    book = call.book()
    if book is None:
        return Reply(1, extra={"trades": None})
    wanted = _made_between(call.body["startTimestamp"], call.body["endTimestamp"])
    to_row = partial(trade_row, commissions=call.gateway.world.options.rest_commissions)
    rows = [row for row in map(to_row, book.trades.rows(call.seen_at)) if wanted(row)]
    return Reply(extra={"trades": rows[::-1]})


def ticket_of(body: Body) -> Ticket:
    """Return what a body of Order/place asks for."""
    legs = {
        name: None if body[key] is None else Bracket(body[key]["ticks"], body[key]["type"])
        for name, key in (("stop_loss", "stopLossBracket"), ("take_profit", "takeProfitBracket"))
    }
    return Ticket(
        account_id=body["accountId"],
        contract_id=body["contractId"],
        type=body["type"],
        side=body["side"],
        size=body["size"],
        limit_price=body["limitPrice"],
        stop_price=body["stopPrice"],
        trail_price=body["trailPrice"],
        custom_tag=body["customTag"],
        **legs,
    )


def edit_of(body: Body) -> Edit:
    """Return what a body of Order/modify asks for."""
    return Edit(
        size=body["size"],
        limit_price=body["limitPrice"],
        stop_price=body["stopPrice"],
        trail_price=body["trailPrice"],
    )


def placed(answer: Answer) -> Reply:
    """Return the reply of Order/place; a refused order may bear an id too."""
    return Reply(answer.code, answer.message, {"orderId": answer.order_id}, answer.at)


def place(call: Call) -> Reply:
    """Place an order; a fault may ask for it otherwise, and knows it by this function."""
    if call.book() is None:
        return Reply(1, extra={"orderId": None})
    return placed(call.gateway.world.place(ticket_of(call.body), call.now))


def mutated(answer: Answer) -> Reply:
    """Return the reply of a call that changes something and names no order."""
    return Reply(answer.code, answer.message, at=answer.at)


def _cancel(call: Call) -> Reply:
    if call.book() is None:
        return Reply(1)
    return mutated(call.gateway.world.cancel(call.body["accountId"], call.body["orderId"], call.now))


def _modify(call: Call) -> Reply:
    if call.book() is None:
        return Reply(1)
    body = call.body
    return mutated(call.gateway.world.modify(body["accountId"], body["orderId"], call.now, edit_of(body)))


def _close(call: Call) -> Reply:
    if call.book() is None:
        return Reply(1)
    body = call.body
    return mutated(call.gateway.world.close(body["accountId"], body["contractId"], call.now, size=body.get("size")))


# --- the table ---

_ACCOUNT = {"accountId": required(int32)}
_SPAN = {"startTimestamp": required(moment), "endTimestamp": optional(moment)}
_BRACKET = optional(Nested("PlaceOrderBracket", {"ticks": required(int32), "type": required(int32)}))

PLACE_SCHEMA: Mapping[str, Field] = MappingProxyType(
    {
        **_ACCOUNT,
        "contractId": required(text),
        "type": required(int32),
        "side": required(side),
        "size": required(int32),
        "limitPrice": optional(number),
        "stopPrice": optional(number),
        "trailPrice": optional(number),
        "customTag": optional(text),
        "stopLossBracket": _BRACKET,
        "takeProfitBracket": _BRACKET,
    }
)
MODIFY_SCHEMA: Mapping[str, Field] = MappingProxyType(
    {
        **_ACCOUNT,
        "orderId": required(int64),
        "size": optional(int32),
        "limitPrice": optional(number),
        "stopPrice": optional(number),
        "trailPrice": optional(number),
    }
)
CANCEL_SCHEMA: Mapping[str, Field] = MappingProxyType({**_ACCOUNT, "orderId": required(int64)})
_FILTER = {
    **_ACCOUNT,
    "statuses": optional(integers),
    "contractId": optional(text),
    "createdAfter": optional(moment),
    "createdBefore": optional(moment),
}

ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType(
    {
        "/api/Auth/loginKey": Endpoint(
            type_name="LoginApiKeyRequest",
            schema={"userName": required(text), "apiKey": required(text)},
            act=_login,
            public=True,
            unknown=8,
        ),
        "/api/Auth/loginApp": Endpoint(
            type_name="LoginAppRequest",
            schema={
                "userName": required(text),
                "password": required(text),
                "deviceId": optional(text),
                "appId": optional(text),
                "verifyKey": optional(text),
            },
            act=_login_app,
            public=True,
            unknown=8,
        ),
        "/api/Auth/validate": Endpoint(type_name="ValidateRequest", schema={}, act=_validate, unknown=4),
        "/api/Auth/logout": Endpoint(type_name="LogoutRequest", schema={}, act=_logout, unknown=2),
        "/api/Account/search": Endpoint(
            type_name="SearchAccountRequest",
            schema={"onlyActiveAccounts": required(boolean)},
            act=_accounts,
            rows="accounts",
        ),
        "/api/Contract/available": Endpoint(
            type_name="ListAvailableContractRequest",
            schema={"live": required(boolean)},
            act=_available,
            rows="contracts",
        ),
        "/api/Contract/search": Endpoint(
            type_name="SearchContractRequest",
            schema={"searchText": optional(text), "live": required(boolean)},
            act=_search_contracts,
            rows="contracts",
        ),
        "/api/Contract/searchById": Endpoint(
            type_name="SearchContractByIdRequest",
            schema={"contractId": required(text)},
            act=_find_contract,
            rows="contract",
        ),
        BARS_PATH: Endpoint(
            type_name="RetrieveBarRequest",
            schema={
                "contractId": required(text),
                "live": required(boolean),
                "startTime": required(moment),
                "endTime": required(moment),
                "unit": required(int32),
                "unitNumber": required(int32),
                "limit": required(int32),
                "includePartialBar": required(boolean),
            },
            act=_bars,
            rows="bars",
        ),
        "/api/Order/search": Endpoint(
            type_name="SearchOrderRequest", schema={**_ACCOUNT, **_SPAN}, act=_search_orders, rows="orders"
        ),
        "/api/Order/searchOpen": Endpoint(
            type_name="SearchOpenOrderRequest", schema=_ACCOUNT, act=_open_orders, rows="orders"
        ),
        "/api/Order/searchById": Endpoint(
            type_name="SearchOrderByIdRequest",
            schema={**_ACCOUNT, "orderId": required(int64)},
            act=_order,
            rows="order",
        ),
        "/api/Order/v2/query": Endpoint(
            type_name="SearchOrdersQueryRequest",
            schema={
                "filter": required(Nested("SearchOrdersFilter", _FILTER)),
                "pageSize": optional(int32),
                "pageOffset": optional(int32),
                "sortBy": optional(int32),
                "sortDirection": optional(int32),
                "includeTotalCount": optional(boolean),
            },
            act=_query_orders,
            rows="orders",
        ),
        "/api/Order/place": Endpoint(
            type_name="PlaceOrderRequest", schema=PLACE_SCHEMA, act=place, pending=6, unknown=7
        ),
        "/api/Order/cancel": Endpoint(
            type_name="CancelOrderRequest",
            schema=CANCEL_SCHEMA,
            act=_cancel,
            pending=4,
            unknown=5,
            refuses_exit=6,
        ),
        "/api/Order/modify": Endpoint(
            type_name="ModifyOrderRequest",
            schema=MODIFY_SCHEMA,
            act=_modify,
            pending=4,
            unknown=5,
        ),
        "/api/Position/searchOpen": Endpoint(
            type_name="SearchPositionRequest", schema=_ACCOUNT, act=_positions, rows="positions"
        ),
        "/api/Position/closeContract": Endpoint(
            type_name="CloseContractPositionRequest",
            schema={**_ACCOUNT, "contractId": required(text)},
            act=_close,
            pending=6,
            unknown=7,
            refuses_exit=8,
        ),
        "/api/Position/partialCloseContract": Endpoint(
            type_name="PartialCloseContractPositionRequest",
            schema={**_ACCOUNT, "contractId": required(text), "size": required(int32)},
            act=_close,
            pending=7,
            unknown=8,
            refuses_exit=9,
        ),
        "/api/Trade/search": Endpoint(
            type_name="SearchTradeRequest", schema={**_ACCOUNT, **_SPAN}, act=_trades, rows="trades"
        ),
    }
)
