"""A trader's account in a test: what the broker tells goes through the ledger and the rule book, as in the daemon.

Nothing here builds a state by hand. Positions, fills and prices are events; the account becomes pictured by one reading
of the exposure and one of the record, as at every start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from attrs import evolve

from flatguard.ledger.apply import apply
from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import Breach
from flatguard.model.events import (
    ClockReached,
    ContractLearned,
    Event,
    ExposureRead,
    OrderChanged,
    PositionChanged,
    QuoteMoved,
    RecordRead,
    TradeMade,
)
from flatguard.model.ids import AccountId, ContractId, OrderId, TradeId
from flatguard.model.trading import Account, Contract, Order, OrderStatus, OrderType, Position, Side, Trade
from flatguard.rules._book import Judgement, RuleBook
from flatguard.rules._rule import Rule

CHICAGO = ZoneInfo("America/Chicago")
ACCOUNT = AccountId(25700001)

# what the broker would tell of the contracts that the examples use: ticker, tick size, tick value
_PRODUCTS = {
    "MNQ": ("MNQ", "0.25", "0.50"),
    "MES": ("MES", "0.25", "1.25"),
    "EP": ("ES", "0.25", "12.50"),
    "ES": ("ES", "0.25", "12.50"),
    "ENQ": ("NQ", "0.25", "5.00"),
    "NQ": ("NQ", "0.25", "5.00"),
    "RTY": ("RTY", "0.10", "5.00"),
    "CLE": ("CL", "0.01", "10.00"),
    "BTC": ("BTC", "5", "25.00"),
    "ZCE": ("ZC", "0.25", "12.50"),
    "M6B": ("M6B", "0.0001", "0.625"),
}

# the examples' ids, some of which the broker does not have (its ES is EP)
MNQ = ContractId("CON.F.US.MNQ.U25")
MNQ_Z = ContractId("CON.F.US.MNQ.Z25")
MES = ContractId("CON.F.US.MES.U25")
ES = ContractId("CON.F.US.ES.U25")
EP = ContractId("CON.F.US.EP.U25")
NQ = ContractId("CON.F.US.NQ.U25")
RTY = ContractId("CON.F.US.RTY.U25")
CL = ContractId("CON.F.US.CLE.V25")


def chicago(text: str) -> datetime:
    """Return the moment that clocks in Chicago show as ``text``; where they show it twice, the first."""
    return datetime.fromisoformat(text).replace(tzinfo=CHICAGO).astimezone(UTC)


def money(text: str | int | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def contract(contract_id: ContractId) -> Contract:
    _, _, _, root, month = contract_id.split(".")
    ticker, tick_size, tick_value = _PRODUCTS[root]
    return Contract(contract_id, f"{ticker}{month[0]}{month[2]}", Decimal(tick_size), Decimal(tick_value))


def position(contract_id: ContractId, size: int, average: str = "100", opened: datetime | None = None) -> Position:
    return Position(ACCOUNT, contract_id, size, Decimal(average), opened or chicago("2025-01-15 08:30"))


def order(
    number: int,
    contract_id: ContractId,
    side: Side = Side.BUY,
    size: int = 1,
    kind: OrderType = OrderType.LIMIT,
    status: OrderStatus = OrderStatus.OPEN,
    fill_volume: int = 0,
) -> Order:
    created = chicago("2025-01-15 08:30")
    return Order(OrderId(number), ACCOUNT, contract_id, status, kind, side, size, created, fill_volume=fill_volume)


def trade(
    number: int,
    made_at: datetime,
    profit: str | int | None = None,
    *,
    fees: str | int = 0,
    commissions: str | int | None = 0,
    contract_id: ContractId = MNQ,
    size: int = 1,
    side: Side = Side.SELL,
    voided: bool = False,
) -> Trade:
    return Trade(
        id=TradeId(number),
        account_id=ACCOUNT,
        contract_id=contract_id,
        made_at=made_at,
        price=Decimal(21000),
        profit_and_loss=money(profit),
        fees=Decimal(fees),
        commissions=money(commissions),
        side=side,
        size=size,
        voided=voided,
        order_id=OrderId(number),
    )


def account_row(balance: str = "50000", *, can_trade: bool = True) -> Account:
    return Account(ACCOUNT, "50KTC", Decimal(balance), can_trade)


def exposure(
    at: datetime,
    positions: Iterable[Position] = (),
    orders: Iterable[Order] = (),
    *,
    began: datetime | None = None,
    broker_at: datetime | None = None,
) -> ExposureRead:
    return ExposureRead(at, ACCOUNT, began or at, broker_at or at, tuple(positions), tuple(orders))


def record(
    at: datetime,
    trades: Iterable[Trade] = (),
    *,
    began: datetime | None = None,
    broker_at: datetime | None = None,
    account: Account | None = None,
) -> RecordRead:
    since = at - timedelta(days=1)
    return RecordRead(at, ACCOUNT, began or at, broker_at or at, account or account_row(), tuple(trades), since)


class Desk:
    """One account under rules, at a moment that the test moves on.

    ``told`` are all breaches found, in order; ``last`` is the newest judgement.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        at: str | datetime = "2025-01-15 10:00",
        *,
        terms: Terms | None = None,
        trades: Iterable[Trade] = (),
        positions: Iterable[Position] = (),
        orders: Iterable[Order] = (),
    ) -> None:
        self.book = RuleBook(rules)
        self.state = AccountState(ACCOUNT, terms or Terms())
        self.now = chicago(at) if isinstance(at, str) else at
        self.told: list[Breach] = []
        self.last = Judgement(self.state)
        self._next_trade = 1
        for name in ("MNQ.U25", "MNQ.Z25", "MES.U25", "ES.U25", "EP.U25", "NQ.U25", "RTY.U25", "CLE.V25"):
            self.state = apply(self.state, ContractLearned(self.now, contract(ContractId(f"CON.F.US.{name}"))))
        self.tell(record(self.now, trades))
        self.tell(exposure(self.now, positions, orders))

    def at(self, moment: str) -> Desk:
        """Move on to a moment of Chicago time: ``14:00`` of the same day there, or with a date.

        Until then the record was read now and then, so the broker's clock has been heard.
        """
        if len(moment) <= len("14:00:00.000"):
            moment = f"{self.now.astimezone(CHICAGO).date()} {moment}"
        before, self.now = self.now, chicago(moment)
        if self.now > before + timedelta(minutes=1):
            self.state = apply(self.state, record(self.now - timedelta(seconds=5)))
        return self

    def later(self, seconds: float) -> Desk:
        self.now += timedelta(seconds=seconds)
        return self

    def tell(self, event: Event) -> Judgement:
        folded, failed = self.book.fold(apply(self.state, event), event)
        judgement = self.book.judge(folded, event)
        self.last = evolve(judgement, failed=(*failed, *judgement.failed))
        self.state = self.last.state
        self.told += self.last.found
        return self.last

    def hold(self, contract_id: ContractId, size: int, average: str = "100") -> Judgement:
        """The hub tells a position, a second after what it told before."""
        self.later(1)
        return self.tell(PositionChanged(self.now, position(contract_id, size, average, self.now)))

    def trade(
        self, profit: str | int | None = None, *, number: int | None = None, made: str | None = None, **costs: object
    ) -> Judgement:
        """The hub tells a fill that was made now, or ``made`` at a moment of Chicago time."""
        if number is None:
            number, self._next_trade = self._next_trade, self._next_trade + 1
        made_at = chicago(made) if made is not None else self.now
        self.later(0.05)
        return self.tell(TradeMade(self.now, trade(number, made_at, profit, **costs)))

    def quote(
        self, contract_id: ContractId, last: str | None = None, bid: str | None = None, ask: str | None = None
    ) -> Judgement:
        return self.tell(QuoteMoved(self.now, contract_id, money(last), money(bid), money(ask)))

    def order(self, row: Order) -> Judgement:
        return self.tell(OrderChanged(self.now, row))

    def look(self) -> Judgement:
        """Nothing happens, but the moment is judged."""
        return self.tell(ClockReached(self.now))

    def read(self, trades: Iterable[Trade] = ()) -> Judgement:
        """The record is read by REST: the broker's clock is heard, and what the hub has not told."""
        return self.tell(record(self.now, trades))

    def restarted(self, rules: Mapping[str, Rule] | None = None) -> Desk:
        """The same account after a crash that lost everything: only the broker's record and rows are left."""
        return Desk(
            self.book.rules if rules is None else rules,
            self.now,
            terms=self.state.terms,
            trades=self.state.trades.values(),
            positions=self.state.positions.values(),
            orders=self.state.orders.values(),
        )

    def locked_until(self) -> list[datetime | None]:
        return [lock.until for lock in self.state.locked(self.now)]
