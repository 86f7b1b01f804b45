"""What it costs to fold one event into an account and to judge every rule on it, beside decoding the event.

The account holds 10 positions in contracts of their own, 40 working orders and 500 trades of the day; no rule breaches.
Events differ and follow one another, each folded into the state that the one before left, so that nothing is found
ready which in earnest would not be. Decoding, folding and judging take turns within a round; what is printed are
medians over the rounds, in microseconds an event and as a ratio to decoding the same event with ``gateway.everyday``.
The curve tells the same of days with more trades. Quote the ratios: the figures move with the machine.

    python benchmarks/rules.py --rounds 15
"""

from __future__ import annotations

import argparse
import gc
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from attrs import evolve

from flatguard.gateway.everyday import read_call
from flatguard.gateway.wire import events_in
from flatguard.ledger.apply import apply
from flatguard.model.account import AccountState
from flatguard.model.events import ContractLearned, Event, ExposureRead, Hub, LinkUp, OrderChanged, RecordRead
from flatguard.model.ids import AccountId, ContractId, OrderId, TradeId
from flatguard.model.trading import Account, Contract, Order, OrderStatus, OrderType, Position, Side, Trade
from flatguard.rules import discover
from flatguard.rules._book import RuleBook
from flatguard.rules._rule import Rule

ACCOUNT = AccountId(25700001)
OPENED = datetime(2026, 11, 20, 0, 0, tzinfo=UTC)  # an hour after the day turned
NOW = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
STEP = timedelta(milliseconds=1)
ROOTS = ("MNQ", "MES", "M2K", "MYM", "MGC", "MCLE", "ENQ", "EP", "RTY", "YM")
CONTRACTS = tuple(ContractId(f"CON.F.US.{root}.Z26") for root in ROOTS)
ORDERS = 40
TRADES = 500
CURVE = (10, 100, 1_000, 10_000, 100_000)
EVENTS = 100  # of a kind in one round

# what no rule finds anything to say against; a rule that is not named here has its defaults
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "max_contracts": {"limit": 1_000},
    "max_contracts_per_instrument": {"limits": {}, "unknown_symbol_action": "allow_with_limit:100"},
    "daily_realized_loss": {"loss_limit": Decimal(1_000_000)},
    "daily_realized_profit": {"target": Decimal(1_000_000), "combined": True},
    "daily_unrealized_loss": {"loss_limit": Decimal(100_000)},
    "max_unrealized_profit": {"profit_target": Decimal(1_000_000)},
    "daily_drawdown": {"drawdown_limit": Decimal(1_000_000)},
    "max_loss_limit": {"start_balance": Decimal(50_000), "distance": Decimal(49_000)},
    "symbol_blocks": {"blocked_symbols": ("BTC",)},
    "trade_frequency_limit": {"per_session": 1_000_000},
    "session_block_outside": {"start": time_of_day(0), "end": time_of_day(23, 59)},
}

# --- What the broker says ---

QUOTE = (
    '{"type":1,"target":"GatewayQuote","arguments":["%(contract)s",{"symbol":"F.US.X","lastPrice":%(price).2f,'
    '"bestBid":%(price).2f,"bestAsk":%(price).2f,"lastUpdated":"2026-11-20T15:00:01.4347534+00:00",'
    '"timestamp":"2026-11-20T15:00:01.348+00:00"}]}'
)
ORDER = (
    '{"type":1,"target":"GatewayUserOrder","arguments":[{"action":1,"data":{"id":%(id)d,"accountId":25700001,'
    '"contractId":"%(contract)s","symbolId":"F.US.X","creationTimestamp":"2026-11-20T14:30:00.1234567+00:00",'
    '"updateTimestamp":"2026-11-20T14:30:01.1234567+00:00","status":%(status)d,"type":4,"side":1,"size":1,'
    '"stopPrice":%(price).2f,"fillVolume":0,"customTag":"x"}}]}'
)
POSITION = (
    '{"type":1,"target":"GatewayUserPosition","arguments":[{"action":1,"data":{"id":%(id)d,"accountId":25700001,'
    '"contractId":"%(contract)s","creationTimestamp":"2026-11-20T14:30:00.1234567+00:00","type":1,"size":%(size)d,'
    '"averagePrice":%(price).2f}}]}'
)
TRADE = (
    '{"type":1,"target":"GatewayUserTrade","arguments":[{"action":1,"data":{"id":%(id)d,"accountId":25700001,'
    '"contractId":"%(contract)s","creationTimestamp":"%(made)s","price":%(price).2f,"profitAndLoss":%(profit).2f,'
    '"fees":0.37,"commissions":0.25,"side":1,"size":1,"voided":false,"orderId":%(id)d}}]}'
)


def told(kind: str, trades: int) -> list[bytes]:
    """The messages of one round: ``kind`` of every contract in turn. Every tenth order update ends an order."""
    form = {"quote": QUOTE, "order": ORDER, "position": POSITION, "trade": TRADE}[kind]
    return [
        (
            form
            % {
                "contract": CONTRACTS[number % len(CONTRACTS)],
                "price": 1_000 + number % 7 / 4,
                "id": trades + number if kind == "trade" else number % ORDERS if number % 10 else ORDERS + number,
                "status": 1 if number % 10 else 2,
                "size": 1 + number % 3,
                "profit": 10 if number % 2 else -10,
                "made": (NOW + number * STEP).isoformat(),
            }
        ).encode()
        for number in range(1, EVENTS + 1)
    ]


def events(kind: str, messages: Sequence[bytes]) -> list[Event]:
    """What the messages tell, a millisecond apart."""
    hub = Hub.MARKET if kind == "quote" else Hub.USER
    found: list[Event] = []
    for number, message in enumerate(messages, 1):
        call = read_call(message)
        assert call is not None, message
        found += events_in(hub, call.target, call.arguments, NOW + number * STEP)
    return found


# --- The account ---


def account(trades: int) -> AccountState:
    """An account in the middle of its day."""
    state = AccountState(ACCOUNT)
    state = apply(state, LinkUp(OPENED, Hub.USER))
    for contract_id, root in zip(CONTRACTS, ROOTS, strict=True):
        state = apply(state, ContractLearned(OPENED, Contract(contract_id, f"{root}Z6", Decimal("0.25"), Decimal(5))))
    gap = (NOW - OPENED) / (trades + 1)
    made = tuple(
        Trade(
            id=TradeId(number),
            account_id=ACCOUNT,
            contract_id=CONTRACTS[number % len(CONTRACTS)],
            made_at=OPENED + number * gap,
            price=Decimal("1000.25"),
            profit_and_loss=Decimal("12.50") if number % 2 else Decimal("-12.50"),
            fees=Decimal("0.37"),
            commissions=Decimal("0.25"),
            side=Side(number // len(CONTRACTS) % 2),
            size=1,
            voided=False,
            order_id=OrderId(number),
        )
        for number in range(1, trades + 1)
    )
    held = tuple(Position(ACCOUNT, contract_id, 2, Decimal("1000.25"), OPENED) for contract_id in CONTRACTS)
    working = tuple(_order(number, OrderStatus.OPEN) for number in range(ORDERS))
    row = Account(ACCOUNT, "50KTC", Decimal(50_000), can_trade=True)
    state = apply(state, RecordRead(NOW, ACCOUNT, NOW, NOW, row, made, OPENED))
    state = apply(state, ExposureRead(NOW, ACCOUNT, NOW, NOW, held, working))
    for order in working:
        state = apply(state, OrderChanged(NOW, order))
    for event in events("quote", told("quote", trades)):
        state = apply(state, evolve(event, at=NOW))
    return state


def _order(number: int, status: OrderStatus) -> Order:
    contract_id = CONTRACTS[number % len(CONTRACTS)]
    return Order(
        OrderId(number), ACCOUNT, contract_id, status, OrderType.STOP, Side.SELL, 1, OPENED, stop_price=Decimal(990)
    )


def rule_book() -> tuple[RuleBook, list[str]]:
    """Every rule there is, and which of them are left out, because they want settings or would breach."""
    rules: dict[str, Rule] = {}
    without: list[str] = []
    state = account(TRADES)
    streams = {kind: events(kind, told(kind, TRADES)) for kind in KINDS}
    for name, kind in discover().items():
        try:
            rule = kind(**SETTINGS.get(name, {}))
        except (TypeError, ValueError) as error:
            without.append(f"{name} ({error})")
            continue
        book = RuleBook({name: rule})
        judged = [judgement for stream in streams.values() for judgement in _judged(book, state, stream)]
        if any(judgement.found or judgement.failed for judgement in judged):
            without.append(f"{name} (breaches)")
        else:
            rules[name] = rule
    return RuleBook(rules), without


def _judged(book: RuleBook, state: AccountState, stream: Sequence[Event]) -> list[Any]:
    out = []
    for event in stream:
        out.append(book.judge(apply(state, event), event))
        state = out[-1].state
    return out


# --- Measuring ---

KINDS = ("quote", "order", "position", "trade")
PARTS = ("decode", "fold", "judge", "fold + judge")


def timed(work: Callable[[], object]) -> float:
    """Microseconds an event, of CPU time."""
    began = time.process_time_ns()
    work()
    return (time.process_time_ns() - began) / EVENTS / 1_000


def figures(kind: str, state: AccountState, book: RuleBook, rounds: int) -> dict[str, float]:
    """Medians of every part, in microseconds an event."""
    messages = told(kind, len(state.trades))
    stream = events(kind, messages)
    taken: dict[str, list[float]] = {part: [] for part in PARTS}

    def decode() -> None:
        for message in messages:
            read_call(message)

    def fold() -> None:
        now = state
        for event in stream:
            now = apply(now, event)

    def both() -> None:
        now = state
        for event in stream:
            now = book.judge(apply(now, event), event).state

    gc.collect()
    for _ in range(rounds):
        folded = timed(fold)
        together = timed(both)
        for part, figure in zip(PARTS, (timed(decode), folded, together - folded, together), strict=True):
            taken[part].append(figure)
    return {part: statistics.median(values) for part, values in taken.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--most", type=int, default=CURVE[-1], help="trades of the longest day on the curve")
    given = parser.parse_args()
    book, without = rule_book()
    print(f"Python {platform.python_version()}, msgspec {version('msgspec')}, attrs {version('attrs')}")
    print(f"{len(book.rules)} rules: {', '.join(book.rules)}")
    for name in without:
        print(f"left out: {name}")
    print(f"\n{len(CONTRACTS)} positions, {ORDERS} orders, {TRADES} trades; us an event, and its ratio to decoding")
    print(f"{'':12}" + "".join(f"{part:>18}" for part in PARTS))
    state = account(TRADES)
    for kind in KINDS:
        found = figures(kind, state, book, given.rounds)
        cells = [f"{found[part]:10.2f} /{found[part] / found['decode']:5.2f}" for part in PARTS]
        print(f"{kind:12}" + "".join(f"{cell:>18}" for cell in cells))
    print("\nfold + judge by trades of the day; us an event, and its ratio to the shortest day")
    print(f"{'':12}" + "".join(f"{kind:>18}" for kind in KINDS))
    first: dict[str, float] = {}
    for trades in CURVE:
        if trades > given.most:
            break
        state = account(trades)
        cells = []
        for kind in KINDS:
            figure = figures(kind, state, book, given.rounds)["fold + judge"]
            cells.append(f"{figure:10.2f} /{figure / first.setdefault(kind, figure):5.2f}")
        print(f"{trades:>11,} " + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
