"""The broker's rows, in the two dialects that it speaks.

REST prints nulls and six digits of a second; the hubs leave absent fields out, print seven digits, and put
``commissions`` on trades.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from flatguard.simulator.contracts import Contract
from flatguard.simulator.exact_json import plain
from flatguard.simulator.state import Account, Order, Position, Side, Trade, Type

Row = dict[str, Any]


def rest_time(at: datetime) -> str:
    """Write a moment as REST does: at most six digits of a second, trailing zeros trimmed."""
    return _stamp(at, f"{at.microsecond:06d}")


def hub_time(at: datetime) -> str:
    """Write a moment as the hubs do: at most seven digits. The seventh is made up, and always the same."""
    return _stamp(at, f"{at.microsecond:06d}{at.microsecond * 7 % 10}")


def market_time(at: datetime) -> str:
    """Write a moment as market trades do: milliseconds."""
    return _stamp(at, f"{at.microsecond // 1000:03d}")


def _stamp(at: datetime, fraction: str) -> str:
    fraction = fraction.rstrip("0")
    return f"{at.isoformat()[:19]}{'.' if fraction else ''}{fraction}+00:00"


def _number(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else plain(amount)


def account_row(account: Account) -> Row:
    """Return the six fields; no equity, no limits, no kind."""
    return {
        "id": account.id,
        "name": account.name,
        "balance": plain(account.balance),
        "canTrade": account.can_trade,
        "isVisible": account.visible,
        "simulated": account.simulated,
    }


def contract_row(contract: Contract, *, active: bool = True) -> Row:
    """Return a contract as Contract/available lists it."""
    return {
        "id": contract.id,
        "name": contract.name,
        "description": contract.description,
        "tickSize": plain(contract.tick_size),
        "tickValue": plain(contract.tick_value),
        "activeContract": active,
        "symbolId": contract.symbol_id,
    }


def order_row(order: Order, *, hub: bool = False) -> Row:
    """Return an order.

    Trailing distance, parent and link appear only where an order has them, also in REST.
    """
    stamp = hub_time if hub else rest_time
    row: Row = {
        "id": order.id,
        "accountId": order.account_id,
        "contractId": order.contract.id,
        "symbolId": order.contract.symbol_id,
        "creationTimestamp": stamp(order.created),
        "updateTimestamp": stamp(order.updated),
        "status": int(order.status),
        "type": int(order.type),
        "side": int(order.side),
        "size": order.size,
        "limitPrice": _number(order.limit_price),
        "stopPrice": _number(order.stop_price),
        "fillVolume": order.fill_volume,
        "filledPrice": _number(order.filled_price),
        "customTag": order.custom_tag,
    }
    distance = order.trail_ticks if order.type is Type.TRAILING_STOP else order.bracket_ticks
    if distance is not None:
        row["trailDistance"] = distance
        row["trailPrice"] = plain(distance * order.contract.tick_size)
    if order.parent_id is not None:
        row["parentOrderId"] = order.parent_id
    if order.linked_id is not None:
        row["linkedOrderId"] = order.linked_id
    return _without_nulls(row) if hub else row


def position_row(position: Position, *, hub: bool = False) -> Row:
    """Return a position: ``size`` without sign, direction in ``type``, 0 when flat."""
    return {
        "id": position.id,
        "accountId": position.account_id,
        "contractId": position.contract.id,
        "contractDisplayName": position.contract.display_name,
        "creationTimestamp": (hub_time if hub else rest_time)(position.created),
        "type": 0 if not position.size else 1 if position.size > 0 else 2,
        "size": abs(position.size),
        "averagePrice": plain(position.average_price),
    }


def trade_row(trade: Trade, *, hub: bool = False, again: bool = False, commissions: bool = False) -> Row:
    """Return a half-turn; REST tells ``commissions`` only where it is told to.

    ``again``: as the hub re-sends it, with numbers written the other way (``49909.0``).
    """
    row: Row = {
        "id": trade.id,
        "accountId": trade.account_id,
        "contractId": trade.contract.id,
        "creationTimestamp": (hub_time if hub else rest_time)(trade.created),
        "price": _with_a_point(trade.price) if again else plain(trade.price),
        "profitAndLoss": _number(trade.profit_and_loss),
        "fees": plain(trade.fees),
        **({"commissions": plain(trade.commissions)} if hub or commissions else {}),
        "side": int(trade.side),
        "size": trade.size,
        "voided": trade.voided,
        "orderId": trade.order_id,
    }
    return _without_nulls(row) if hub else row


def market_trade_row(contract: Contract, price: Decimal, volume: int, aggressor: Side, at: datetime) -> Row:
    """Return a print of the market hub."""
    return {
        "symbolId": contract.symbol_id,
        "price": plain(price),
        "timestamp": market_time(at),
        "type": int(aggressor),
        "volume": volume,
        "contractId": contract.id,
    }


def depth_row(contract: Contract, kind: int, price: Decimal, volume: int, at: datetime) -> Row:
    """Return a level of the book; ``kind`` 3 is the best ask, 4 the best bid, 6 clears the book."""
    return {
        "contractId": contract.id,
        "timestamp": hub_time(at),
        "type": kind,
        "price": plain(price),
        "volume": volume,
        "currentVolume": volume,
    }


def _with_a_point(amount: Decimal) -> Decimal:
    amount = plain(amount)
    return amount.quantize(Decimal("0.1")) if amount == amount.to_integral_value() else amount


def _without_nulls(row: Row) -> Row:
    return {key: value for key, value in row.items() if value is not None}
