"""All that a rule may know of an account. One frozen value; the ledger makes the next one from each event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from operator import is_
from typing import Any, TypeVar, cast
from zoneinfo import ZoneInfo

from attrs import field, frozen
from immutables import Map

from flatguard.model.calendar import Calendar
from flatguard.model.decisions import Decision
from flatguard.model.events import Hub
from flatguard.model.executions import Executions
from flatguard.model.ids import AccountId, ContractId, OrderId, TradeId
from flatguard.model.lockouts import Lockout
from flatguard.model.money import ZERO
from flatguard.model.products import product
from flatguard.model.trading import Account, Contract, Order, Position, Quote, Trade, root_of
from flatguard.model.value import value

T = TypeVar("T")

BEFORE_ALL_FILLS = (datetime.min.replace(tzinfo=UTC), TradeId(0))


@frozen
class Terms:
    """What the settings fix about how an account is counted.

    ``reset`` in ``zone`` is when the trading day turns. ``commissions`` are US dollars a contract and side, by ticker,
    charged where no fill has told the rate; ``other_commission`` is for tickers that it does not name. ``warn_at`` are
    the shares of a limit, in percent, at which to warn. ``calendar`` is when the exchange trades; without one, only
    weekends are known. A stop farther than ``farthest_stop_ticks`` from the entry covers nothing.
    """

    reset: time = time(17)
    zone: ZoneInfo = field(factory=lambda: ZoneInfo("America/Chicago"))
    commissions: Mapping[str, Decimal] = field(factory=dict)
    other_commission: Decimal = Decimal("0.50")
    warn_at: tuple[int, ...] = (60, 80)
    calendar: Calendar | None = None
    farthest_stop_ticks: int | None = None


@frozen
class TradingDay:
    """One trading day of the account: ``starts_at`` belongs to it, ``ends_at`` no longer.

    ``label`` is the date that traders call it by. ``unlocks_at`` is when a lockout "until the reset" ends: the start of
    the next day that trades, so a Friday's ends on Sunday, and one before a closed holiday after it.
    """

    label: date
    starts_at: datetime
    ends_at: datetime
    unlocks_at: datetime


@value
class Realized:
    """Realised P&L of the trading day, from the broker's trades.

    ``gross`` is what the broker reports per fill; ``net`` takes fees and commissions off. The lows and highs are the
    lowest and highest that each stood at when the fills are taken in the order in which they were made; the lows are
    never above zero, the highs never below. The falls are how far each fell at most below the high that it had reached.
    ``last_fill`` is the place of the last fill among them: when it was made, and its id.
    """

    gross: Decimal = ZERO
    fees: Decimal = ZERO
    commissions: Decimal = ZERO
    fills: int = 0
    low_gross: Decimal = ZERO
    low_net: Decimal = ZERO
    high_gross: Decimal = ZERO
    high_net: Decimal = ZERO
    fall_gross: Decimal = ZERO
    fall_net: Decimal = ZERO
    last_fill: tuple[datetime, TradeId] = BEFORE_ALL_FILLS

    @property
    def net(self) -> Decimal:
        """Gross less fees and commissions."""
        return self.gross - self.fees - self.commissions


class PeakSource(StrEnum):
    """What moved something to its peak: a price, or what was traded."""

    QUOTE = "quote"
    FILL = "fill"


@frozen
class Peak:
    """The best that something has stood at: since when, and what moved it there."""

    amount: Decimal = ZERO
    at: datetime | None = None
    by: PeakSource = PeakSource.FILL


@frozen
class PositionPeak:
    """The best that an open position has shown since it was opened, at ``opened_at``, as far as we watched.

    ``size`` and ``average_price`` are what is held now, from which its profit is counted now. Both peaks begin with the
    entry: ``profit`` is the highest open P&L in US dollars, never below zero; ``best_price`` the highest believed price
    for a long, the lowest for a short. Adding or giving up a part keeps both as they were shown; a position that was
    closed or turned around begins anew.
    """

    opened_at: datetime
    size: int
    average_price: Decimal
    profit: Peak
    best_price: Peak


@frozen
class DayPeak:
    """The highest that the trading day's realised and open P&L stood at together, never below zero."""

    net: Peak = Peak()
    gross: Peak = Peak()


@frozen
class Balances:
    """The balance with which the day that began at ``day_started`` began, and the best with which any day ended.

    ``unexplained`` is by how much the balance last read was off the day's start and its fills: deposits and payouts,
    and costs that no fill told. ``best_close.at`` is when that day ended, None where none was seen to end.
    """

    day_started: datetime | None = None
    day_start: Decimal = ZERO
    unexplained: Decimal = ZERO
    best_close: Peak = Peak()


@frozen
class Link:
    """Whether a hub tells us what happens, since when, and why not."""

    up: bool = False
    since: datetime | None = None
    reason: str = "not connected yet"


@frozen
class BlindSpell:
    """A time in which nothing of the account could be seen, and that is over."""

    since: datetime
    until: datetime


@frozen
class BreachMark:
    """A rule's condition holds; it was found as breach ``id``. Enforcement was last told ``told`` at ``told_at``."""

    id: str
    cause: str
    since: datetime
    told_at: datetime
    told: tuple[Decision, ...]


@frozen
class Span:
    """The least and the most that may be held, signed: zero lies between them."""

    least: int = 0
    most: int = 0

    def including(self, size: int) -> Span:
        """Return the span widened to ``size``."""
        return Span(min(self.least, size), max(self.most, size))

    def nearest(self, size: int) -> int:
        """Return what of ``size`` may be held: none of a position that was turned around."""
        return max(self.least, min(self.most, size))


@frozen
class Bare:
    """Contracts of a position that no stop covers, since when; ``stop_lost`` where one did before."""

    size: int
    since: datetime
    stop_lost: bool = False


@frozen(slots=False)  # one is made from another by copying its dictionary
class AccountState:
    """An account as we know it, with the age of what we know.

    ``orders`` holds working orders and, for a minute or two, those that ended; ``orders_swept_at`` is when the others
    were last let go. ``seen`` says when the user hub last spoke of a
    contract's position, ``order_seen`` of an order, ``account_seen`` of the account's row; ``increased_at`` when a
    position last grew, ``flat_at`` when the hub last told that it was flat. ``exposure_at`` and ``record_at`` are
    when the newest complete readings began. ``doubt`` is why the picture may be wrong although the link is up,
    since ``doubted_at``; two readings begun later clear it.

    ``by_fills`` is the size that a position had by the last reading, and by the fills told since; ``filled_at`` when
    the last of them was told. ``contradicted`` and ``missing`` are what the last reading showed smaller, or lacked,
    although nothing had told so: one more has to say it.

    ``blind_since`` is since when neither hub nor REST shows anything, ``was_blind`` when that was the last time.
    ``trades`` are those of today, and for a day those of the day before; ``executions`` what today's made.
    ``changed_from`` is the earliest moment of which the newest event, or before the first picture any, told something
    else than was known of fills. ``broker_seen`` is the newest time that the broker's answers bore, ``clock_ahead`` how
    far our clock is ahead of it; zero while they agree to a minute.

    ``bare`` is what no stop covers of each position, the oldest first.

    ``peaks`` are the best that each open position has shown, ``open_peak`` the highest open P&L that all of them showed
    together, ``day_peak`` the best of the day with what is open; ``balances`` are those of the account when days began.

    ``may_hold`` is what a cooldown lets stand of each contract, none of those it does not name. ``warned`` is the
    highest share of its limit, in percent, that was warned of today, by rule. ``facts`` are what other people's rules
    have the ledger keep for them, by ``rule.fact``.
    """

    id: AccountId
    terms: Terms = field(factory=Terms)
    today: TradingDay | None = None
    account: Account | None = None
    account_seen: datetime | None = None
    contracts: Mapping[ContractId, Contract] = field(factory=dict)
    positions: Mapping[ContractId, Position] = field(factory=dict)
    seen: Mapping[ContractId, datetime] = field(factory=dict)
    increased_at: Mapping[ContractId, datetime] = field(factory=dict)
    flat_at: Mapping[ContractId, datetime] = field(factory=dict)
    orders: Map[OrderId, Order] = field(factory=Map)
    order_seen: Map[OrderId, datetime] = field(factory=Map)
    orders_swept_at: datetime | None = None
    trades: Map[TradeId, Trade] = field(factory=Map)
    commission_rates: Mapping[ContractId, Decimal] = field(factory=dict)
    realized: Realized = field(factory=Realized)
    peaks: Mapping[ContractId, PositionPeak] = field(factory=dict)
    open_peak: Peak = Peak()
    day_peak: DayPeak = DayPeak()
    balances: Balances = Balances()
    executions: Executions = field(factory=Executions)
    changed_from: datetime | None = None
    quotes: Mapping[ContractId, Quote] = field(factory=dict)
    links: Mapping[Hub, Link] = field(factory=lambda: {Hub.USER: Link(), Hub.MARKET: Link()})
    exposure_at: datetime | None = None
    record_at: datetime | None = None
    read_failed: str | None = None
    doubt: str | None = None
    doubted_at: datetime | None = None
    by_fills: Mapping[ContractId, int] = field(factory=dict)
    filled_at: Mapping[ContractId, datetime] = field(factory=dict)
    contradicted: Mapping[ContractId, int] = field(factory=dict)
    missing: tuple[OrderId, ...] = ()
    blind_since: datetime | None = None
    was_blind: BlindSpell | None = None
    closes_refused: str | None = None
    broker_seen: datetime | None = None
    clock_ahead: timedelta = timedelta(0)
    last_event_at: datetime | None = None
    lockouts: tuple[Lockout, ...] = ()
    bare: Mapping[ContractId, tuple[Bare, ...]] = field(factory=dict)
    may_hold: Mapping[ContractId, Span] = field(factory=dict)
    breached: Mapping[str, BreachMark] = field(factory=dict)
    warned: Mapping[str, int] = field(factory=dict)
    facts: Mapping[str, Any] = field(factory=dict)
    memory: dict[object, Any] = field(factory=dict, init=False, repr=False, eq=False)
    """What has been worked out of this state and of those before it. No part of what the account is."""

    @property
    def pictured(self) -> bool:
        """Whether both the exposure and the record have been read at least once; before that no rule is judged."""
        return self.exposure_at is not None and self.record_at is not None

    @property
    def working_orders(self) -> tuple[Order, ...]:
        """Orders that may still fill, oldest id first."""
        return tuple(sorted((o for o in self.orders.values() if o.working), key=lambda o: o.id))

    def worked_out(self, work: Callable[[AccountState], T], *of: object) -> T:
        """Return ``work(self)``, which depends on ``of`` alone: from memory, if they are the very same objects."""
        known = self.memory.get(work)
        if known is None or not all(map(is_, known[1], of)):
            known = self.memory[work] = (work(self), of)
        return cast(T, known[0])

    def size_of(self, contract_id: ContractId) -> int:
        """Return the signed size held in a contract."""
        position = self.positions.get(contract_id)
        return 0 if position is None else position.size

    def remaining(self, order: Order) -> int:
        """Return what an order could still fill. Its fills may be told before its own row tells of them."""
        made = self.executions.by_order.get(order.id)
        if made is None or made.contract_id != order.contract_id:
            return order.remaining
        return min(order.remaining, max(0, order.size - made.volume))

    def locked(self, at: datetime) -> tuple[Lockout, ...]:
        """Return the lockouts in force at ``at``."""
        return tuple(lock for lock in self.lockouts if lock.holds(at, self.broker_seen))

    def ticker(self, contract_id: ContractId) -> str:
        """Return the ticker of a contract, told by the broker or else read from its id."""
        contract = self.contracts.get(contract_id)
        return product(contract.ticker if contract is not None else root_of(contract_id))

    def label(self, contract_id: ContractId) -> str:
        """Return the contract's name for a person (``MNQZ6``), told by the broker or else read from its id."""
        contract = self.contracts.get(contract_id)
        if contract is not None:
            return contract.name
        if root_of(contract_id) == contract_id.upper():
            return contract_id
        month = contract_id.rpartition(".")[2]
        return f"{self.ticker(contract_id)}{month[:1]}{month[-1:]}"
