"""The scripted trader: trades over the broker's REST like any platform, and does not keep the rules for long.

What he does is fixed; what the market does around it comes from the seed. He waits for what he sees, never for a guess,
and gives up a scene that does not come about.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

import trio
from attrs import define

from flatguard.gateway.rest import Gateway
from flatguard.model.ids import AccountId, ContractId
from flatguard.model.outcomes import Done
from flatguard.model.trading import Contract, OrderType, Side

LOOK_AGAIN_S = 0.25
PATIENCE_S = 12.0

MovePrice = Callable[[Contract, Decimal | None], Awaitable[None]]
Narrate = Callable[[str], None]


@define
class Trader:
    """One trader at his platform. ``move_price`` is the market's hand: to a price, or None to let it go its way."""

    broker: Gateway
    account_id: AccountId
    contract: Contract
    price: Decimal
    move_price: MovePrice
    narrate: Narrate

    async def play(self) -> None:
        """Play all scenes. Raises RuntimeError where one does not come about within its patience."""
        await self._within_limits()
        await self._over_the_size_limit()
        await self._into_the_daily_loss()
        await self._again_while_locked()

    async def _within_limits(self) -> None:
        self.narrate("The trader buys 2, within the limit, and takes a small profit.")
        await self._order(Side.BUY, 2)
        await self._until_size(2)
        await self.move_price(self.contract, self.price + 4 * self.contract.tick_size)
        await self._breathe(1.0)
        await self._order(Side.SELL, 2)
        await self._until_size(0)

    async def _over_the_size_limit(self) -> None:
        self.narrate("He feels sure and buys 5, where the limit is 3.")
        await self._order(Side.BUY, 5)
        await self._until_size(3)
        self.narrate("flatguard gave up 2. He sells the rest.")
        await self._breathe(1.5)
        await self._order(Side.SELL, 3)
        await self._until_size(0)

    async def _into_the_daily_loss(self) -> None:
        self.narrate("The market turns. He takes a loss, then doubles down with a resting order below.")
        await self.move_price(self.contract, self.price)
        await self._order(Side.BUY, 3)
        await self._until_size(3)
        await self.move_price(self.contract, self.price - self._points_for(Decimal(240), 3))
        await self._breathe(1.0)
        await self._order(Side.SELL, 3)
        await self._until_size(0)
        base = self.price - self._points_for(Decimal(240), 3)
        await self._order(Side.BUY, 3)
        await self._until_size(3)
        await self._order(Side.BUY, 1, OrderType.LIMIT, base - 400 * self.contract.tick_size)
        await self._breathe(1.0)
        await self.move_price(self.contract, base - self._points_for(Decimal(290), 3))
        self.narrate("It falls on: what he lost and what he is losing reach the daily limit together.")
        await self._until_size(0)
        await self._until_no_orders()

    async def _again_while_locked(self) -> None:
        self.narrate("Locked out, he tries again: once at market, once with a resting order.")
        await self._breathe(1.5)
        await self._order(Side.BUY, 1)
        await self._breathe(0.5)
        await self._until_size(0)
        await self._order(Side.BUY, 1, OrderType.LIMIT, self.price - 600 * self.contract.tick_size)
        await self._breathe(0.5)
        await self._until_no_orders()
        await self.move_price(self.contract, None)
        await self._breathe(1.5)

    def _points_for(self, dollars: Decimal, size: int) -> Decimal:
        """Return the move, on the tick grid, that costs about ``dollars`` with ``size`` contracts."""
        return int(dollars / (self.contract.tick_value * size)) * self.contract.tick_size

    async def _order(
        self, side: Side, size: int, order_type: OrderType = OrderType.MARKET, price: Decimal | None = None
    ) -> None:
        outcome = await self.broker.place(self.account_id, self.contract.id, side, size, order_type, limit_price=price)
        if not isinstance(outcome, Done):
            raise RuntimeError(f"the broker did not take the trader's order: {outcome}")

    async def _until_size(self, size: int) -> None:
        async def reached() -> bool:
            held = {p.contract_id: p.size for p in await self.broker.positions(self.account_id)}
            return held.get(ContractId(self.contract.id), 0) == size

        await self._until(reached, f"a position of {size}")

    async def _until_no_orders(self) -> None:
        async def reached() -> bool:
            return not await self.broker.working_orders(self.account_id)

        await self._until(reached, "no working orders")

    async def _until(self, reached: Callable[[], Awaitable[bool]], what: str) -> None:
        with trio.move_on_after(PATIENCE_S):
            while not await reached():
                await self._breathe(LOOK_AGAIN_S)
            return
        raise RuntimeError(f"the trader waited {PATIENCE_S:.0f} s in vain for {what}")

    async def _breathe(self, seconds: float) -> None:
        await trio.sleep(seconds)
