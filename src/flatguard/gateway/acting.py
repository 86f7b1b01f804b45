"""The requests that change something: orders and closes. They end as done, refused or unknown; none is repeated."""

from __future__ import annotations

from decimal import Decimal

from flatguard.gateway import verdict
from flatguard.gateway.asking import Asking
from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.outcomes import Outcome
from flatguard.model.trading import Bracket, OrderType, Side


class Acting(Asking):
    """What enforcement, and the demo's trader, may do."""

    __slots__ = ()

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
        trail_price: Decimal | None = None,
        custom_tag: str | None = None,
        stop_loss: Bracket | None = None,
        take_profit: Bracket | None = None,
    ) -> Outcome:
        """Place an order. Prices are levels on the contract's tick grid, also a trailing stop's first one; a tag may
        never be used twice.
        """
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
                "trailPrice": trail_price,
                "customTag": custom_tag,
                **_bracket("stopLossBracket", stop_loss),
                **_bracket("takeProfitBracket", take_profit),
            },
            account_id,
        )

    async def modify(
        self,
        account_id: AccountId,
        order_id: OrderId,
        *,
        size: int | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        trail_price: Decimal | None = None,
    ) -> Outcome:
        """Change a working order in place; what is None stays as it is. Done means accepted."""
        return await self._act(
            verdict.MODIFY,
            {
                "accountId": account_id,
                "orderId": order_id,
                "size": size,
                "limitPrice": limit_price,
                "stopPrice": stop_price,
                "trailPrice": trail_price,
            },
            account_id,
        )

    async def cancel(self, account_id: AccountId, order_id: OrderId) -> Outcome:
        """Cancel an order. Done means accepted; the order's own event says when it ended."""
        return await self._act(verdict.CANCEL, {"accountId": account_id, "orderId": order_id}, account_id)

    async def close(self, account_id: AccountId, contract_id: ContractId) -> Outcome:
        """Close the whole position. Resting orders stay."""
        return await self._act(verdict.CLOSE, {"accountId": account_id, "contractId": contract_id}, account_id)

    async def partial_close(self, account_id: AccountId, contract_id: ContractId, size: int) -> Outcome:
        """Close ``size`` contracts of the position. Resting orders stay."""
        return await self._act(
            verdict.PARTIAL_CLOSE, {"accountId": account_id, "contractId": contract_id, "size": size}, account_id
        )


def _bracket(name: str, bracket: Bracket | None) -> dict[str, object]:
    return {} if bracket is None else {name: {"ticks": bracket.ticks, "type": int(bracket.type)}}
