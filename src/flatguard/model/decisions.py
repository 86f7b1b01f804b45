"""What must become true, and why. A decision names an end state, never a movement, so repeating it is harmless."""

from __future__ import annotations

from datetime import datetime

from attrs import frozen

from flatguard.model.ids import AccountId, ContractId


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
class LockOut:
    """New exposure is not allowed until ``until``.

    None means until ``condition`` has come true, or where there is none, until an administrator acts.
    """

    until: datetime | None
    scope: str = "account"
    condition: str = ""


Decision = Flatten | CloseContract | ReduceTo | LockOut


@frozen
class Breach:
    """A rule's finding: what it saw, what must become true.

    ``cause`` names what made it so (a trade id, or the moment); judging the same cause again gives the same ``id``.
    ``figures`` are the numbers that it stood on, as text, in the order in which a person reads them.
    ``on_record`` says that the broker's own trades show it, so that after a crash it is found again by itself.
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

    @property
    def lockout(self) -> LockOut | None:
        """The lock that it calls for, if any."""
        return next((d for d in self.decisions if isinstance(d, LockOut)), None)
