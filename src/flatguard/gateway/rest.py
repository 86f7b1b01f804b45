"""The REST side of the gateway: one method per endpoint, typed in, typed out.

The families have a module each: ``reading`` for the picture and the routine look-ups, ``acting`` for what changes
something, ``asking`` for the way in which either is asked.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import define, frozen

from flatguard.gateway.acting import Acting
from flatguard.gateway.reading import Looking
from flatguard.model.events import ExposureRead
from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.outcomes import Outcome
from flatguard.model.trading import OrderType, Side


@define
class Gateway(Looking, Acting):
    """All of it, for one purpose: with a client and a lane of its own."""


@frozen
class Enforcer:
    """The broker as enforcement needs it. Closes have a lane and connections of their own, so that neither hanging
    cancels nor a used-up allowance hold them up, and a reading that a partial close waits for goes the same way; after
    the cancels come the readings that prove an end, and stops.
    """

    closes: Gateway
    cancels: Gateway
    proofs: Gateway
    stops: Gateway

    async def read_exposure(self, account_id: AccountId, *, for_an_exit: bool) -> ExposureRead:
        """Read positions and working orders, completely or not at all."""
        return await (self.closes if for_an_exit else self.proofs).read_exposure(account_id)

    async def close(self, account_id: AccountId, contract_id: ContractId) -> Outcome:
        """Close the whole position. Resting orders stay."""
        return await self.closes.close(account_id, contract_id)

    async def partial_close(self, account_id: AccountId, contract_id: ContractId, size: int) -> Outcome:
        """Close ``size`` contracts of the position. Resting orders stay."""
        return await self.closes.partial_close(account_id, contract_id, size)

    async def cancel(self, account_id: AccountId, order_id: OrderId) -> Outcome:
        """Cancel an order."""
        return await self.cancels.cancel(account_id, order_id)

    async def place_stop(
        self, account_id: AccountId, contract_id: ContractId, side: Side, size: int, stop_price: Decimal, tag: str
    ) -> Outcome:
        """Place a stop under a tag that no order has ever had."""
        return await self.stops.place(
            account_id, contract_id, side, size, OrderType.STOP, stop_price=stop_price, custom_tag=tag
        )

    async def move_stop(
        self, account_id: AccountId, order_id: OrderId, stop_price: Decimal | None, size: int | None
    ) -> Outcome:
        """Change a stop in place; what is None stays as it is."""
        return await self.stops.modify(account_id, order_id, stop_price=stop_price, size=size)
