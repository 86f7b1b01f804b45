"""Contracts, positions, orders, trades, quotes and accounts, as the ProjectX gateway knows them.

Field meanings are those of the gateway's public documentation; where its behaviour differs from that text, the
attribute says so. Enumerations keep numbers that they do not know, so that a value added by the broker is carried,
shown and treated with caution rather than lost.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import Self

from attrs import frozen

from flatguard.model.ids import AccountId, ContractId, OrderId, TradeId
from flatguard.model.value import value


class _OpenEnum(IntEnum):
    """An enumeration of the broker's that may grow: an unknown number of 64 bits becomes a member named after it."""

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int) or not -(2**63) <= value < 2**63:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member


class Side(_OpenEnum):
    """Which way an order or a trade goes."""

    BUY = 0
    SELL = 1

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return -1 if self is Side.SELL else 1


class OrderType(_OpenEnum):
    """How an order is priced."""

    UNKNOWN = 0
    LIMIT = 1
    MARKET = 2
    STOP_LIMIT = 3
    STOP = 4
    TRAILING_STOP = 5
    JOIN_BID = 6
    JOIN_ASK = 7


class OrderStatus(_OpenEnum):
    """Where an order is in its life. The broker has no "partially filled": compare ``fill_volume`` with ``size``."""

    NONE = 0
    OPEN = 1
    FILLED = 2
    CANCELLED = 3
    EXPIRED = 4
    REJECTED = 5
    PENDING = 6
    PENDING_CANCELLATION = 7
    SUSPENDED = 8


class BarUnit(_OpenEnum):
    """What the width of a bar is counted in."""

    SECOND = 1
    MINUTE = 2
    HOUR = 3
    DAY = 4
    WEEK = 5
    MONTH = 6


TERMINAL_STATUSES = frozenset({OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REJECTED})


@frozen
class Account:
    """An account of the login. ``balance`` is realised cash after costs; open P&L is never in it."""

    id: AccountId
    name: str
    balance: Decimal
    can_trade: bool
    visible: bool = True
    simulated: bool = True


@frozen
class Contract:
    """One expiry of one product. ``tick_value`` is US dollars per tick and contract."""

    id: ContractId
    name: str
    tick_size: Decimal
    tick_value: Decimal
    symbol_id: str = ""
    active: bool = True
    description: str = ""

    @cached_property
    def ticker(self) -> str:
        """The exchange's ticker (``ES``), which is not always the root in the id (``EP``)."""
        return ticker_of(self.name) or root_of(self.id)

    @property
    def root(self) -> str:
        """The data vendor's product root, as in the contract id."""
        return root_of(self.id)


@lru_cache(1_000)
def root_of(contract_id: str) -> str:
    """Return the product root in ``CON.F.US.<root>.<month>``; the whole id where it has another shape."""
    parts = contract_id.split(".")
    if len(parts) == 5 and parts[0] == "CON" and parts[1] == "F":
        return parts[3].upper()
    return contract_id.upper()


@lru_cache(1_000)
def ticker_of(name: str) -> str:
    """Return the ticker in a contract name such as ``MNQU6`` or ``MNQU26``; empty where there is none."""
    stem = name.rstrip("0123456789")
    return stem[:-1].upper() if len(stem) > 1 and stem != name and stem[-1].upper() in "FGHJKMNQUVXZ" else ""


@value
class Position:
    """The net position in one contract. ``size`` is signed: long above zero, short below, zero flat.

    ``average_price`` is the broker's volume-weighted entry and need not lie on the tick grid.
    """

    account_id: AccountId
    contract_id: ContractId
    size: int
    average_price: Decimal
    opened_at: datetime


@value
class Order:
    """An order of any status. ``size`` is always positive; ``side`` gives the direction."""

    id: OrderId
    account_id: AccountId
    contract_id: ContractId
    status: OrderStatus
    type: OrderType
    side: Side
    size: int
    created_at: datetime
    updated_at: datetime | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    fill_volume: int = 0
    filled_price: Decimal | None = None
    custom_tag: str | None = None
    parent_order_id: OrderId | None = None
    linked_order_id: OrderId | None = None

    @property
    def working(self) -> bool:
        """Whether it may still fill. A status we do not know counts as working."""
        return self.status not in TERMINAL_STATUSES

    @property
    def remaining(self) -> int:
        """Contracts that it could still fill."""
        return max(0, self.size - self.fill_volume)


@value
class Trade:
    """One fill. ``profit_and_loss`` is gross and None on an opening half-turn; a closing fill may be exactly zero.

    ``fees`` and ``commissions`` are for the whole size. The gateway's REST rows leave ``commissions`` out although
    they are charged: None means "not told", never "free".
    """

    id: TradeId
    account_id: AccountId
    contract_id: ContractId
    made_at: datetime
    price: Decimal
    profit_and_loss: Decimal | None
    fees: Decimal
    commissions: Decimal | None
    side: Side
    size: int
    voided: bool
    order_id: OrderId


@value
class Quote:
    """The merged market of one contract; parts never told are None.

    ``last_at`` is when we last received a trade's price, ``book_at`` when any quote last confirmed bid and ask.
    """

    contract_id: ContractId
    last: Decimal | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    last_at: datetime | None = None
    book_at: datetime | None = None

    @property
    def at(self) -> datetime | None:
        """When its newest part came."""
        return max((moment for moment in (self.last_at, self.book_at) if moment is not None), default=None)


@frozen
class Bar:
    """What a contract traded at within one bar; ``at`` is when the bar began."""

    at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int


@frozen
class Bracket:
    """A leg that an order brings along, so many ticks from its fill. The sign counts: a long's stop is below zero."""

    ticks: int
    type: OrderType


@frozen
class OrderQuery:
    """Which orders of an account to list: without statuses those of all, without times those of any."""

    statuses: tuple[OrderStatus, ...] = ()
    contract_id: ContractId | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
