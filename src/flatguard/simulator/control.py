"""The calls under ``/sim``, for tests and demos: move prices, trade by hand, break things, see the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flatguard.simulator.bodies import (
    PROBLEM_TYPE,
    BadBody,
    Body,
    Field,
    boolean,
    int32,
    int64,
    number,
    optional,
    parse,
    problem,
    required,
    text,
)
from flatguard.simulator.contracts import Contract
from flatguard.simulator.exact_json import plain
from flatguard.simulator.faults import KNOWN_FAULTS, objections
from flatguard.simulator.operations import (
    CANCEL_SCHEMA,
    MODIFY_SCHEMA,
    PLACE_SCHEMA,
    Reply,
    edit_of,
    mutated,
    placed,
    ticket_of,
)
from flatguard.simulator.rest import json_response
from flatguard.simulator.rows import Row, account_row, order_row, position_row, trade_row

if TYPE_CHECKING:
    from flatguard.simulator.app import Gateway

_HIGHEST_PRICE = 10**9
_HIGHEST_BALANCE = 10**12
_LEAST_MONEY = Decimal("0.0001")
_FURTHEST_S = 100 * 366 * 86400
_LAST_YEAR = 2098

SCHEMAS: Mapping[str, Mapping[str, Field]] = MappingProxyType(
    {
        "price": {"contractId": required(text), "price": optional(number), "resume": optional(boolean)},
        "orders": PLACE_SCHEMA,
        "modify": MODIFY_SCHEMA,
        "cancel": CANCEL_SCHEMA,
        "faults": {
            "name": required(text),
            "target": optional(lambda value: value if isinstance(value, str) else str(int32(value))),
            "probability": optional(number),
            "count": optional(int32),
            "duration_s": optional(number),
            "delay_s": optional(number),
        },
        "account": {
            "accountId": required(int32),
            "canTrade": optional(boolean),
            "isVisible": optional(boolean),
            "balance": optional(number),
        },
        "restart": {"accountId": required(int32)},
        "flatten": {"accountId": required(int32)},
        "void": {"tradeId": required(int64)},
        "clock": {"advance_s": required(number)},
    }
)


class _Unusable(Exception):
    """The call cannot be carried out; the text says why."""


def routes(gateway: Gateway) -> Iterable[Route]:
    """Return the routes under ``/sim``."""
    acts: Mapping[str, Callable[[Gateway, Body], Row]] = {
        "price": _price,
        "faults": _start_fault,
        "account": _account,
        "restart": _restart,
        "flatten": _flatten,
        "void": _void,
        "clock": _clock,
    }
    for name, act in acts.items():
        yield Route(f"/sim/{name}", partial(_control, gateway, name, act), methods=["POST"])
    for name, by_hand in (("orders", _place), ("modify", _modify), ("cancel", _cancel)):
        yield Route(f"/sim/{name}", partial(_trade, gateway, name, by_hand), methods=["POST"])
    yield Route("/sim/faults", partial(_end_faults, gateway), methods=["DELETE"])
    yield Route("/sim/truth", partial(_truth, gateway), methods=["GET"])


async def _read(gateway: Gateway, name: str, request: Request) -> Body | Response:
    await trio.lowlevel.checkpoint()
    try:
        body = parse(await request.body(), f"sim/{name}", SCHEMAS[name], strict=name != "orders")
        if (contract_id := body.get("contractId")) is not None:
            body["contractId"] = _contract(gateway, contract_id).id
    except BadBody as bad:
        document = problem(bad.errors, gateway.trace_rng)
        return Response(document, status_code=400, media_type=PROBLEM_TYPE)
    except _Unusable as error:
        return _refusal(error)
    return body


async def _control(gateway: Gateway, name: str, act: Callable[[Gateway, Body], Row], request: Request) -> Response:
    body = await _read(gateway, name, request)
    if isinstance(body, Response):
        return body
    try:
        answer = act(gateway, body)
    except _Unusable as error:
        return _refusal(error)
    gateway.stir()
    return json_response(answer)


def _refusal(error: _Unusable) -> Response:
    return json_response({"error": str(error)}, 400)


def _contract(gateway: Gateway, name: str) -> Contract:
    contract = gateway.world.listing.find(name, gateway.now())
    if contract is None:
        raise _Unusable(f"there is no contract {name!r}; give an id such as CON.F.US.MNQ.Z26, or a ticker such as MNQ")
    return contract


def _price(gateway: Gateway, body: Body) -> Row:
    contract, now = _contract(gateway, body["contractId"]), gateway.now()
    price = body["price"]
    if (price is None) == (body["resume"] is not True):
        raise _Unusable("give either a price or resume: true")
    if price is None:
        gateway.world.resume_price(contract.id, now)
        traded = False
    elif not 0 < price <= _HIGHEST_PRICE or not contract.aligned(price):
        raise _Unusable(f"price: {contract.ticker} trades in steps of {contract.tick_size}; {price} is not one of them")
    else:
        traded = gateway.world.move_price(contract.id, price, now)
    market = gateway.world.markets[contract.id]
    return {
        "contractId": contract.id,
        "price": plain(market.last),
        "bid": plain(market.bid),
        "ask": plain(market.ask),
        "held": market.held,
        "traded": traded,
    }


async def _trade(gateway: Gateway, name: str, act: Callable[[Gateway, Body], Reply], request: Request) -> Response:
    """Do what the trader's hand does on the platform, and answer as the broker answers the same call."""
    body = await _read(gateway, name, request)
    if isinstance(body, Response):
        return body
    reply = act(gateway, body)
    gateway.stir()
    await gateway.sleep_until(reply.at or gateway.now())
    return json_response(reply.envelope())


def _place(gateway: Gateway, body: Body) -> Reply:
    return placed(gateway.world.place(ticket_of(body), gateway.now()))


def _modify(gateway: Gateway, body: Body) -> Reply:
    return mutated(gateway.world.modify(body["accountId"], body["orderId"], gateway.now(), edit_of(body)))


def _cancel(gateway: Gateway, body: Body) -> Reply:
    return mutated(gateway.world.cancel(body["accountId"], body["orderId"], gateway.now(), by_hand=True))


def _start_fault(gateway: Gateway, body: Body) -> Row:
    name = body["name"]
    how: dict[str, Any] = {key: body[key] for key in ("target", "count") if body[key] is not None}
    how |= {key: float(body[key]) for key in ("probability", "duration_s", "delay_s") if body[key] is not None}
    if wrong := [f"{key}: {text}" for key, text in objections(name, gateway.world.books, **how)]:
        raise _Unusable("; ".join(wrong))
    gateway.world.faults.start(name, gateway.now(), **how)
    return {"name": name, "does": KNOWN_FAULTS[name]}


async def _end_faults(gateway: Gateway, request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    gateway.world.faults.clear()
    return json_response({})


def _account(gateway: Gateway, body: Body) -> Row:
    account_id, balance = _account_id(gateway, body), body["balance"]
    if balance is not None and (abs(balance) > _HIGHEST_BALANCE or balance % _LEAST_MONEY):
        raise _Unusable(f"balance: must lie within {_HIGHEST_BALANCE} either way, with at most four decimals")
    gateway.world.set_account(
        account_id, gateway.now(), can_trade=body["canTrade"], visible=body["isVisible"], balance=balance
    )
    return account_row(gateway.world.account(account_id))


def _account_id(gateway: Gateway, body: Body) -> int:
    account_id: int = body["accountId"]
    if account_id not in gateway.world.books:
        known = ", ".join(map(str, gateway.world.books))
        raise _Unusable(f"accountId: there is no account {account_id}; known are {known}")
    return account_id


def _restart(gateway: Gateway, body: Body) -> Row:
    return account_row(gateway.world.restart_account(_account_id(gateway, body), gateway.now()))


def _flatten(gateway: Gateway, body: Body) -> Row:
    cleared = gateway.world.flatten(_account_id(gateway, body), gateway.now())
    return {
        "cancelled": [order.id for order in cleared.cancelled],
        "closing": [contract.id for contract in cleared.closing],
        "left": [contract.id for contract in cleared.left],
    }


def _void(gateway: Gateway, body: Body) -> Row:
    try:
        return trade_row(gateway.world.void_trade(body["tradeId"], gateway.now()))
    except KeyError:
        raise _Unusable(f"tradeId: there is no trade {body['tradeId']}") from None


def _clock(gateway: Gateway, body: Body) -> Row:
    seconds = body["advance_s"]
    if seconds < 0:
        raise _Unusable("advance_s: the broker's clock does not go back")
    if seconds > _FURTHEST_S or (gateway.now() + timedelta(seconds=float(seconds))).year > _LAST_YEAR:
        raise _Unusable(f"advance_s: the broker's clock ends with the year {_LAST_YEAR}")
    gateway.advance(timedelta(seconds=float(seconds)))
    return {"now": gateway.now().isoformat()}


async def _truth(gateway: Gateway, request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    gateway.world.run(gateway.now())
    return json_response(truth(gateway))


def truth(gateway: Gateway) -> Row:
    """Return everything: all rows in the broker's REST form, the connections, and every request so far.

    The outcome of an upgrade also says, when its connection is over, why it ``ended``.

    Account rows also bear ``realized_net``: profit and loss less fees and commissions since the start, US
    dollars.
    """
    books = gateway.world.books
    return {
        "positions": [
            position_row(position) for book in books.values() for position in book.positions.rows() if position.size
        ],
        "orders": [order_row(order) for book in books.values() for order in book.orders.rows()],
        "trades": [trade_row(trade) for book in books.values() for trade in book.trades.rows()],
        "accounts": [
            account_row(gateway.world.account(account_id)) | {"realized_net": plain(book.realized_net)}
            for account_id, book in books.items()
        ],
        "clients": [
            {
                "hub": client.hub,
                "user": client.user,
                "subscriptions": [{"event": event, "target": target} for event, target in client.subscriptions],
            }
            for client in gateway.clients
        ],
        "requests": list(gateway.requests),
    }
