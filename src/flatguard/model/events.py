"""What can happen. Each event carries ``at``: when we received it, on our clock, as an aware UTC time.

The broker's own times are separate fields of what the event holds. Events never change once made.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from attrs import frozen

from flatguard.model.ids import AccountId, ContractId
from flatguard.model.trading import Account, Contract, Order, Position, Trade
from flatguard.model.value import value


class Hub(StrEnum):
    """The broker's two streams."""

    USER = "user"
    MARKET = "market"


@frozen
class AccountChanged:
    """The broker told us of an account: balance, or whether it may trade."""

    at: datetime
    account: Account


@value
class OrderChanged:
    """The broker told us of an order."""

    at: datetime
    order: Order


@value
class PositionChanged:
    """The broker told us of a position; ``size`` 0 means that it is flat."""

    at: datetime
    position: Position


@value
class TradeMade:
    """The broker told us of a fill, perhaps again."""

    at: datetime
    trade: Trade


@value
class QuoteMoved:
    """Parts of a quote that changed; a part that is None was not mentioned and stays as it was."""

    at: datetime
    contract_id: ContractId
    last: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None


@frozen
class BarRead:
    """What a contract last traded at by the gateway's newest bar, which began at ``began_at`` and is a second long.

    ``ahead`` is how far our clock is ahead of the one that ``began_at`` is by, None where the answer bore no time.
    """

    at: datetime
    contract_id: ContractId
    began_at: datetime
    close: Decimal
    ahead: timedelta | None = None


@frozen
class LinkUp:
    """A hub is connected and subscribed. For the user hub the picture is still to be read."""

    at: datetime
    hub: Hub


@frozen
class LinkDown:
    """A hub is lost: what happens at the broker now is not told to us there."""

    at: datetime
    hub: Hub
    reason: str


@frozen
class ExposureRead:
    """A complete REST reading of what is open: every position, every order in statuses 1, 6, 7 and 8.

    It was begun at ``began_at``; events received since then know better. ``broker_at`` is the time that the answers
    carried, None if they carried none.
    """

    at: datetime
    account_id: AccountId
    began_at: datetime
    broker_at: datetime | None
    positions: tuple[Position, ...]
    orders: tuple[Order, ...]


@frozen
class RecordRead:
    """A complete REST reading of the record: the account's row and every trade made since ``trades_since``."""

    at: datetime
    account_id: AccountId
    began_at: datetime
    broker_at: datetime | None
    account: Account
    trades: tuple[Trade, ...]
    trades_since: datetime


@frozen
class ReadingFailed:
    """The broker could not be read; what we know of the account grows older."""

    at: datetime
    account_id: AccountId
    reason: str


@frozen
class PictureCorrected:
    """A reading showed what no hub had told: ``what``, a sentence for each. The reading itself has been folded."""

    at: datetime
    account_id: AccountId
    what: tuple[str, ...]


@frozen
class ClosesRefused:
    """The broker does not accept our closes on this account; ``reason`` None once it accepted one again."""

    at: datetime
    account_id: AccountId
    reason: str | None


@frozen
class ContractLearned:
    """The broker described a contract: tick size and tick value."""

    at: datetime
    contract: Contract


@frozen
class ContractRefuted:
    """What the broker described of a contract is contradicted by its own fills: it counts as not known."""

    at: datetime
    contract_id: ContractId
    reason: str


@frozen
class EventSetAside:
    """Something arrived that could not be understood; ``raw`` is what it was. The picture must be read anew."""

    at: datetime
    hub: Hub
    raw: str
    reason: str


@frozen
class LockLifted:
    """An administrator ended the locks of ``rule`` on ``scope``: ``who``, and ``why`` in their words.

    It ends the locks, not the rule: where the rule still finds what it found, it locks again.
    """

    at: datetime
    account_id: AccountId
    rule: str
    scope: str
    who: str
    why: str


@frozen
class ClockReached:
    """No event came before the moment at which something had to be judged."""

    at: datetime


Event = (
    AccountChanged
    | OrderChanged
    | PositionChanged
    | TradeMade
    | QuoteMoved
    | BarRead
    | LinkUp
    | LinkDown
    | ExposureRead
    | RecordRead
    | ReadingFailed
    | PictureCorrected
    | ClosesRefused
    | ContractLearned
    | ContractRefuted
    | EventSetAside
    | LockLifted
    | ClockReached
)


def account_of(event: Event) -> AccountId | None:
    """Return the account that ``event`` speaks of; None for one that concerns all."""
    match event:
        case AccountChanged(account=account):
            return account.id
        case OrderChanged(order=row) | PositionChanged(position=row) | TradeMade(trade=row):
            return row.account_id
        case (
            ExposureRead(account_id=account_id)
            | RecordRead(account_id=account_id)
            | ReadingFailed(account_id=account_id)
            | PictureCorrected(account_id=account_id)
            | ClosesRefused(account_id=account_id)
            | LockLifted(account_id=account_id)
        ):
            return account_id
        case _:
            return None
