"""What must become true, and why. A decision names an end state, never a movement, so repeating it is harmless."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from attrs import frozen

from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.lockouts import ACCOUNT_SCOPE, LockKind


@frozen
class Flatten:
    """No position in the account, and no working order."""


@frozen
class CloseContract:
    """No position in this contract, and no working order that could open one."""

    contract_id: ContractId


@frozen
class ReduceTo:
    """At most ``size`` contracts (a magnitude) in this contract, in the direction held; nothing that adds to it."""

    contract_id: ContractId
    size: int


@frozen
class WithoutOrder:
    """This order does not work any more."""

    contract_id: ContractId
    order_id: OrderId


@frozen
class LockOut:
    """New exposure is not allowed until ``until``: in the account, or where ``scope`` is a ticker in that product.

    None means until ``condition`` has come true, or where there is none, until an administrator acts. A cooldown lets
    stand what is open and nothing come to it; a hard lock lets nothing stand.
    """

    until: datetime | None
    scope: str = ACCOUNT_SCOPE
    condition: str = ""
    kind: LockKind = LockKind.HARD


@frozen
class ProtectAt:
    """A stop of ours covers ``size`` contracts of the position at ``stop_price`` or better.

    It is the order ``order_id``, or where that is None a new one. Better is nearer to the market: a stop only tightens.
    """

    contract_id: ContractId
    stop_price: Decimal
    size: int
    order_id: OrderId | None = None


Decision = Flatten | CloseContract | ReduceTo | WithoutOrder | ProtectAt | LockOut


@frozen
class Breach:
    """A rule's finding: what it saw, what must become true.

    ``cause`` names what made it so (a trade id, or the moment); judging the same cause again gives the same ``id``.
    ``figures`` are the numbers that it stood on, as text, in the order in which a person reads them.
    ``on_record`` says that the broker's own trades show it, so that after a crash it is found again by itself.
    ``sources`` say where what was known came from, and how old it was.
    """

    id: str
    rule: str
    account_id: AccountId
    at: datetime
    cause: str
    reason: str
    figures: tuple[tuple[str, str], ...]
    decisions: tuple[Decision, ...]
    on_record: bool = False
    sources: tuple[tuple[str, str], ...] = ()

    @property
    def lockouts(self) -> tuple[LockOut, ...]:
        """The locks that it calls for."""
        return tuple(d for d in self.decisions if isinstance(d, LockOut))


@frozen
class LimitNear:
    """A rule's limit is near: ``percent`` of it, a rung of the warning ladder, is used. ``text`` says how much."""

    account_id: AccountId
    rule: str
    at: datetime
    percent: int
    text: str
