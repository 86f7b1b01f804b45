"""What enforcement needs of a broker. The gateway satisfies it without knowing it; tests have a second one."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from flatguard.model.events import ExposureRead
from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.outcomes import Outcome
from flatguard.model.trading import Side


class Broker(Protocol):
    """The verbs. Each checkpoints, and may be cancelled; a request that has left may be carried out all the same.

    None of those that act ever raises for what the broker answers or fails to answer: that is their outcome.
    """

    async def read_exposure(self, account_id: AccountId, *, for_an_exit: bool) -> ExposureRead:
        """Read all positions and all working orders, completely. Raises FlatguardError where that failed.

        ``for_an_exit``: a partial close waits for it, so it is as urgent as that.
        """
        ...

    async def close(self, account_id: AccountId, contract_id: ContractId) -> Outcome:
        """Close what is open in the contract, whatever its size is when the broker acts. Leaves orders alone."""
        ...

    async def partial_close(self, account_id: AccountId, contract_id: ContractId, size: int) -> Outcome:
        """Close ``size`` contracts of the position."""
        ...

    async def cancel(self, account_id: AccountId, order_id: OrderId) -> Outcome:
        """Cancel an order; done means accepted, the order's own event says when it ended."""
        ...

    async def place_stop(
        self, account_id: AccountId, contract_id: ContractId, side: Side, size: int, stop_price: Decimal, tag: str
    ) -> Outcome:
        """Place a stop under a tag that no order has ever had."""
        ...

    async def move_stop(
        self, account_id: AccountId, order_id: OrderId, stop_price: Decimal | None, size: int | None
    ) -> Outcome:
        """Change a stop in place; what is None stays as it is. ``size`` includes what of it is filled."""
        ...
