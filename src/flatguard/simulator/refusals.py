"""What Order/place asks for, and what the gateway finds wrong with it, in its own words. Pure.

Known: the texts on tags, brackets, alignment, wrong sides, trailing distances, range, margin and closed markets.
Inferred: those on limit prices, sizes and types, and that an absurd price is out of range before it is off the grid.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from flatguard.simulator.contracts import Contract
from flatguard.simulator.market import Market
from flatguard.simulator.options import Options
from flatguard.simulator.state import Order, Side, Type

_ABSURD = Decimal(10**12)
_MIN_BRACKET_TICKS = 4
_MAX_TRAIL_TICKS = 1000
_TYPE_NAMES = {0: "Unknown", 1: "Limit", 2: "Market", 3: "StopLimit", 4: "Stop", 5: "TrailingStop"}

OUTSIDE = "Invalid price. Price is outside allowed range."
NO_MARGIN = "Not enough margin."
NOT_TRADING = "Trading is currently unavailable. The instrument is not in an active trading status."


@frozen
class Bracket:
    """A leg asked for with an entry: signed ticks from its fill, and the leg's order type."""

    ticks: int
    type: int


@frozen(kw_only=True)
class Ticket:
    """What Order/place asks for. ``trail_price`` is a price level."""

    account_id: int
    contract_id: str
    type: int
    side: int
    size: int
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    custom_tag: str | None = None
    stop_loss: Bracket | None = None
    take_profit: Bracket | None = None


@frozen(kw_only=True)
class Edit:
    """What Order/modify asks for; None leaves a property as it is. ``trail_price`` is a price level."""

    size: int | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None


def price_objection(ticket: Ticket, market: Market, options: Options) -> str | None:
    """Return what is wrong with the type or the prices of an order."""
    contract = market.contract
    if ticket.type not in set(Type):
        return "Invalid order type."
    order_type, side = Type(ticket.type), Side(ticket.side)
    if order_type is Type.LIMIT:
        return limit_objection(ticket.limit_price, market, options)
    if order_type is Type.STOP:
        return stop_objection(side, ticket.stop_price, market, options)
    if order_type is Type.STOP_LIMIT:
        return stop_objection(side, ticket.stop_price, market, options) or limit_objection(
            ticket.limit_price, market, options
        )
    if order_type is Type.TRAILING_STOP:
        if ticket.trail_price is None:
            return "Trail Distance not set."
        if abs(ticket.trail_price) > _ABSURD:
            return f"Trail Distance exceeds maximum ({_MAX_TRAIL_TICKS})"
        if not contract.aligned(ticket.trail_price):
            return "Invalid trail price. Price is not aligned to tick size."
        ticks = trail_ticks(contract, market.last, ticket.trail_price)
        if ticks == 0:
            return "Trail Distance not set."
        if ticks > _MAX_TRAIL_TICKS:
            return f"Trail Distance exceeds maximum ({_MAX_TRAIL_TICKS})"
    return None


def limit_objection(price: Decimal | None, market: Market, options: Options) -> str | None:
    """Return what is wrong with a limit price."""
    if price is None or price <= 0:
        return "Invalid limit price."
    if price > _ABSURD:
        return OUTSIDE
    if not market.contract.aligned(price):
        return "Invalid limit price. Price is not aligned to tick size."
    last = market.last
    if abs(price - last) > last * options.price_band:
        return OUTSIDE
    return None


def stop_objection(side: Side, price: Decimal | None, market: Market, options: Options) -> str | None:
    """Return what is wrong with a stop price."""
    if price is None or price <= 0:
        return "Invalid stop price"
    if price > _ABSURD:
        return OUTSIDE
    if not market.contract.aligned(price):
        return "Invalid stop price. Price is not aligned to tick size."
    last = market.last
    if (price - last) * side.sign <= 0:
        return "Invalid stop price"
    if abs(price - last) > last * options.price_band:
        return OUTSIDE
    return None


def bracket_objection(ticket: Ticket, *, auto_oco: bool) -> str | None:
    """Return what is wrong with the legs: the account's setting, then type, sign and distance of each."""
    stop, target = ticket.stop_loss, ticket.take_profit
    if stop is None and target is None:
        return None
    if not auto_oco:
        return "Brackets cannot be used with Position Brackets. You must enable Auto OCO Brackets."
    way = "when longing" if ticket.side == Side.BUY else "when going short"
    sign = Side(ticket.side).sign
    if stop is not None:
        if stop.type not in {Type.STOP, Type.TRAILING_STOP}:
            return f"Invalid stop loss type ({_TYPE_NAMES.get(stop.type, stop.type)})"
        if stop.ticks * sign >= 0:
            than = "less" if sign > 0 else "greater"
            return f"Invalid stop loss ticks ({stop.ticks}). Ticks should be {than} than zero {way}."
        if abs(stop.ticks) < _MIN_BRACKET_TICKS:
            return f"Invalid stop loss ticks ({stop.ticks}). Price should be at least {_MIN_BRACKET_TICKS} ticks away."
    if target is not None:
        if target.type != Type.LIMIT:
            return f"Invalid take profit type ({_TYPE_NAMES.get(target.type, target.type)})"
        if target.ticks * sign <= 0:
            than = "greater" if sign > 0 else "less"
            return f"Invalid take profit ticks ({target.ticks}). Ticks should be {than} than zero {way}."
    return None


def edit_objection(order: Order, edit: Edit, market: Market, options: Options) -> str | None:
    """Return what is wrong with a change that is asked for; prices that the order does not have are ignored."""
    if edit.size is not None and edit.size <= order.fill_volume:
        return "Invalid order size."
    text = None
    if edit.limit_price is not None and order.limit_price is not None:
        text = limit_objection(edit.limit_price, market, options)
    if text is None and edit.stop_price is not None and order.stop_price is not None and not order.triggered:
        text = stop_objection(order.side, edit.stop_price, market, options)
    if text is None and edit.trail_price is not None and order.type is Type.TRAILING_STOP:
        if abs(edit.trail_price) > _ABSURD or not order.contract.aligned(edit.trail_price):
            text = "Invalid trail price. Price is not aligned to tick size."
        elif not trail_ticks(order.contract, market.last, edit.trail_price):
            text = "Trail Distance not set."
    return text


def trail_ticks(contract: Contract, last: Decimal, level: Decimal) -> int:
    """Return the distance of a trailing stop asked for by its level: whole ticks, the rest dropped."""
    return int(abs(last - level) / contract.tick_size)
