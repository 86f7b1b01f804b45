"""Whether an order fills at the present market, and at what price. Pure.

Known: stops execute as market orders and slip; a trailing stop keeps a distance in whole ticks. Inferred: a resting
limit fills when the last price reaches it, or where a tape tells bid and ask when the other side does; JoinBid and
JoinAsk are limits at the best price of the moment; and a stop-limit rests as a limit once the last price has touched
its stop.
"""

from __future__ import annotations

from decimal import Decimal

from flatguard.simulator.market import Market
from flatguard.simulator.options import Options
from flatguard.simulator.state import Order, Side, Type


def market_price(side: Side, market: Market, slippage_ticks: int) -> Decimal:
    """Return what a market order gets: ask or bid, made worse by ``slippage_ticks``."""
    slip = slippage_ticks * market.contract.tick_size
    return market.ask + slip if side is Side.BUY else market.bid - slip


def stops(order: Order) -> bool:
    """Tell whether an order waits for the market to reach a stop."""
    return order.type in {Type.STOP, Type.TRAILING_STOP} or (order.type is Type.STOP_LIMIT and not order.triggered)


def touched(order: Order, market: Market, level: Decimal | None) -> bool:
    """Tell whether the last price has reached the order; ``level`` is where a trailing stop stands now."""
    if order.type is Type.MARKET:
        return True
    if stops(order):
        stop = level if order.type is Type.TRAILING_STOP else order.stop_price
        assert stop is not None
        return market.last >= stop if order.side is Side.BUY else market.last <= stop
    assert order.limit_price is not None
    if order.side is Side.BUY:
        return market.told_ask <= order.limit_price
    return market.told_bid >= order.limit_price


def fill_price(order: Order, market: Market, options: Options, *, arriving: bool) -> Decimal:
    """Return what a touched order gets.

    A limit gets its price, or better if it could trade when it arrived.
    """
    if order.type is Type.MARKET:
        return market_price(order.side, market, options.market_slippage_ticks)
    if stops(order):
        return market_price(order.side, market, options.stop_slippage_ticks)
    assert order.limit_price is not None
    if not arriving:
        return order.limit_price
    opposite = market_price(order.side, market, 0)
    choose = min if order.side is Side.BUY else max
    return choose(order.limit_price, opposite)


def trailed(side: Side, level: Decimal, distance: Decimal, last: Decimal) -> Decimal:
    """Return where a trailing stop stands after a trade at ``last``; it only ever moves with the market."""
    return min(level, last + distance) if side is Side.BUY else max(level, last - distance)
