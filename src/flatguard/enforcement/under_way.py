"""What enforcement is at on an account, as a plain value for those who look on."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from flatguard.model.ids import ContractId, OrderId


@frozen
class Attempt:
    """What is asked of the broker about one contract or order, and what came of it last.

    ``outcome`` is empty until the first answer. ``next_try_at`` is None while a request is in flight.
    ``market_opens_at`` is what the next try waits for, where the market is closed.
    """

    action: str
    contract_id: ContractId
    order_id: OrderId | None
    tries: int
    outcome: str
    reason: str
    next_try_at: datetime | None
    market_opens_at: datetime | None


@frozen
class UnderWay:
    """The breaches that are being enforced, by id and rule, since when, and what is still asked for.

    Without ``attempts`` the end state seems reached, and is being proven.
    """

    breaches: tuple[str, ...]
    rules: tuple[str, ...]
    since: datetime
    attempts: tuple[Attempt, ...]
