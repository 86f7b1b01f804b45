"""The worked examples of the rules' pages: each row of a page's table, played on a desk and told in the page's words.

The page is the table. Its words are those of ``docs/worked-examples.md``; a step or an outcome that is not among them
fails with the page and the row, and so does a row that comes out otherwise than it says.
"""

from __future__ import annotations

import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import tomli_w
from attrs import define, evolve, field, frozen

from flatguard.journal.codec import decode, encode
from flatguard.ledger.awakened import awakened
from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import (
    Breach,
    CloseContract,
    Decision,
    Flatten,
    LockOut,
    ProtectAt,
    ReduceTo,
    WithoutOrder,
)
from flatguard.model.events import (
    AccountChanged,
    ClockReached,
    ContractLearned,
    Event,
    EventSetAside,
    Hub,
    LinkDown,
    LinkUp,
    LockLifted,
    OrderChanged,
    PositionChanged,
    QuoteMoved,
    ReadingFailed,
    TradeMade,
)
from flatguard.model.ids import ContractId, OrderId
from flatguard.model.lockouts import ACCOUNT_SCOPE, LockKind, Lockout, latest_end
from flatguard.model.trading import Order, OrderStatus, OrderType, Position, Side, Trade
from flatguard.rules import discover
from flatguard.rules._book import Judgement, RuleBook
from flatguard.rules._rule import Rule
from flatguard.settings.load import load
from tests.fakes.desk import ACCOUNT, CHICAGO, Desk, account_row, chicago, contract, exposure, record, trade

PAGES = Path(__file__).parents[2] / "docs" / "rules"
HEAD = ["Id", "Settings", "What happens", "Outcome"]
START = "2025-01-15 10:00"
NEW_YORK = ZoneInfo("America/New_York")

ROOTS = {"ES": "EP", "NQ": "ENQ", "CL": "CLE", "ZC": "ZCE"}
MONTH = "U25"
UNITS = {"s": 1, "min": 60, "h": 3600}
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

KINDS = {
    "market": OrderType.MARKET,
    "limit": OrderType.LIMIT,
    "stop": OrderType.STOP,
    "stop limit": OrderType.STOP_LIMIT,
    "trailing stop": OrderType.TRAILING_STOP,
    "join bid": OrderType.JOIN_BID,
    "join ask": OrderType.JOIN_ASK,
}
STATUSES = {
    "working": OrderStatus.OPEN,
    "pending": OrderStatus.PENDING,
    "suspended": OrderStatus.SUSPENDED,
    "filled": OrderStatus.FILLED,
    "cancelled": OrderStatus.CANCELLED,
    "expired": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
}

NUMBER = r"\d+(?:\.\d+)?"
NAME = r"(?:CON\.F\.US\.\w+\.[FGHJKMNQUVXZ]\d\d|[A-Z][A-Z0-9]{1,3}(?:\.[FGHJKMNQUVXZ]\d\d)?)"
CLOCK = r"\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?(?: ET)?"
SPAN = r"\d+ (?:s|min|h)"
WHEN = rf"(?:(?:{'|'.join(DAYS)}) \d{{4}}-\d\d-\d\d )?{CLOCK}"
LOCKED = rf"(?:[A-Z0-9]+ )?(?:locked|cooling down) until (?:{WHEN}|[a-z][a-z ]+)"
OUTCOME = re.compile(
    rf"all closed|{NAME} closed|{NAME} reduced to \d+|order \d+ cancelled|alert|(?:still )?{LOCKED}"
    rf"|stop(?: order \d+)? for \d+ {NAME} at {NUMBER}|(?:[A-Z0-9]+ )?unlocked|shown as blind|in sight again"
)


class NotUnderstood(ValueError):
    """A page says something that its notation has no words for."""


@frozen
class Example:
    """One row of a page's table, as written."""

    page: str
    id: str
    settings: str
    steps: str
    outcome: str

    def __str__(self) -> str:
        return f"docs/rules/{self.page}.md, row {self.id}"


def examples_of(page: str, folder: Path = PAGES) -> list[Example]:
    """Return the worked examples on a rule's page, with the settings of each spelled out."""
    section = (folder / f"{page}.md").read_text(encoding="utf-8").split("\n## Example\n")[1].split("\n## ")[0]
    rows = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in section.splitlines() if line[:1] == "|"]
    if not rows or rows[0] != HEAD:
        raise NotUnderstood(f"docs/rules/{page}.md has no table of worked examples: | {' | '.join(HEAD)} |")
    examples: list[Example] = []
    for row in rows[2:]:
        if len(row) != len(HEAD) or not all(row):
            raise NotUnderstood(f"docs/rules/{page}.md, row {row[0]}: has to say {', '.join(HEAD)}")
        example = Example(page, *(cell.replace("\\|", "|") for cell in row))
        if example.settings == "as above":
            if not examples:
                raise NotUnderstood(f"{example}: nothing stands above")
            example = evolve(example, settings=examples[-1].settings)
        examples.append(example)
    return examples


def play(example: Example) -> str:
    """Return what comes of an example, in the words of its page. Raises NotUnderstood where it has others."""
    try:
        for words in re.split(r", then | and ", example.outcome) if example.outcome != "nothing" else ():
            if not OUTCOME.fullmatch(words):
                raise NotUnderstood(f"no outcome is called {words!r}")
        return Player(example.page, *rules_of(example.page, example.settings), eastern=" ET" in example.outcome).play(
            example.steps
        )
    except NotUnderstood as error:
        raise NotUnderstood(f"{example}: {error}") from None


@cache
def rules_of(rule: str, written: str) -> tuple[Mapping[str, Rule], Terms]:
    """Read settings as the daemon reads them: keys of ``rule`` itself, and tables of other rules or of the whole."""
    own: dict[str, Any] = {}
    file: dict[str, Any] = {"rules": {rule: own}}
    parts = re.findall(r"`([^`]+)`", written)
    if re.sub(r"`[^`]+`", "", written).strip(" ,") not in {"", "defaults"} or (written == "defaults") == bool(parts):
        raise NotUnderstood(f"settings are TOML in backticks, defaults or as above, not {written!r}")
    for key, value in tomllib.loads(f"all = {{ {', '.join(parts)} }}")["all"].items():
        if isinstance(value, dict) and key in discover():
            file["rules"][key] = value
        elif isinstance(value, dict) and key == "trading_day":
            file[key] = value
        else:
            own[key] = value
    return _loaded(file)


@cache
def all_rules() -> Mapping[str, Rule]:
    """Return every rule that has a page, set as in the page's example."""
    rules: dict[str, Any] = {}
    for page in sorted(PAGES.glob("*.md")):
        (block,) = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        rules |= tomllib.loads(block)["rules"]
    return _loaded({"rules": rules})[0]


def _loaded(file: dict[str, Any]) -> tuple[Mapping[str, Rule], Terms]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        whole = {"gateway": {"user_name": "trader1"}, "accounts": [{"id": ACCOUNT}], **file}
        path.write_text(tomli_w.dumps(whole), encoding="utf-8")
        settings = load(path, {})
    return settings.accounts[0].rules, settings.terms


def contract_named(name: str) -> ContractId:
    """Return the contract that a page calls ``MNQ``, ``MNQ.Z25`` or by its whole id."""
    if name.startswith("CON."):
        return ContractId(name)
    ticker, _, month = name.partition(".")
    return ContractId(f"CON.F.US.{ROOTS.get(ticker, ticker)}.{month or MONTH}")


def name_of(contract_id: ContractId) -> str:
    """Return what a page calls a contract."""
    root, month = contract_id.split(".")[3:]
    ticker = next((ticker for ticker, known in ROOTS.items() if known == root), root)
    return ticker if month == MONTH else f"{ticker}.{month}"


def moment(words: str, day: date) -> datetime:
    """Return the moment that clocks in Chicago, or with ``ET`` in New York, show on ``day``."""
    clock, _, eastern = words.partition(" ")
    if not eastern:
        return chicago(f"{day} {clock}")
    return datetime.fromisoformat(f"{day} {clock}").replace(tzinfo=NEW_YORK).astimezone(UTC)


Step = Callable[..., None]
STEPS: list[tuple[re.Pattern[str], Step, bool]] = []


def step(pattern: str, *, passes: bool = False) -> Callable[[Step], Step]:
    """Let a method play the steps that read like ``pattern``; its groups are the method's arguments.

    One that ``passes`` lets time pass, or is made of other steps.
    """

    def known(play_it: Step) -> Step:
        STEPS.append((re.compile(pattern), play_it, passes))
        return play_it

    return known


@define
class Player:
    """An account under the rules of one row, and what has come of it so far.

    Time passes as in the daemon: every moment that the rules name is judged, positions, orders and fills are read, and
    the market goes on quoting the last price. What a row tells of one moment comes a
    millisecond apart. Nothing that the rules call for is carried out; the row says what is.
    """

    page: str
    rules: Mapping[str, Rule]
    terms: Terms
    eastern: bool = False
    told: list[str] = field(factory=list)
    _desk: Desk = field(init=False)
    _told_now: bool = False
    _said: dict[str, tuple[Decision, ...]] = field(factory=dict)
    _blind: bool = False
    _fills: int = 1000

    def play(self, steps: str) -> str:
        """Play all steps and return the outcome."""
        first, *rest = [words.strip() for words in steps.replace("−", "-").split(";")]
        start = chicago(START)
        if re.fullmatch(rf"on {WHEN}|{CLOCK}", first):
            start = self._moment(first, start)
            first = ""
        self._desk = Desk(self.rules, start - timedelta(seconds=1), terms=self.terms)
        self._desk.now = start
        for words in ([first] if first else []) + rest:
            self._step(words)
        return ", then ".join(self.told) or "nothing"

    def _step(self, words: str) -> None:
        match, play_it, passes = next(
            ((m, play_it, passes) for pattern, play_it, passes in STEPS if (m := pattern.fullmatch(words)) is not None),
            (None, None, False),
        )
        if match is None or play_it is None:
            raise NotUnderstood(f"no step is called {words!r}")
        if not passes:
            self._desk.now += timedelta(milliseconds=self._told_now)
            self._told_now = True
        play_it(self, *match.groups())
        self._look_around()

    # what the broker tells

    @step(rf"({NAME}) ([+-]\d+)(?: at ({NUMBER}))?")
    def _holds(self, name: str, size: str, price: str | None) -> None:
        contract_id = self._contract(name)
        before = self._state.positions.get(contract_id)
        grown = before is not None and before.size * int(size) > 0
        opened = before.opened_at if before is not None and grown else self._now
        average = Decimal(price) if price else before.average_price if before is not None and grown else Decimal(100)
        self._tell(PositionChanged(self._now, Position(ACCOUNT, contract_id, int(size), average, opened)))

    @step(rf"({NAME}) flat")
    def _flat(self, name: str) -> None:
        self._tell(PositionChanged(self._now, Position(ACCOUNT, self._contract(name), 0, Decimal(0), self._now)))

    @step(rf"({NAME})(?: bid ({NUMBER}) ask ({NUMBER}))?(?: last ({NUMBER}))?")
    def _quoted(self, name: str, bid: str | None, ask: str | None, last: str | None) -> None:
        if bid is last is None:
            raise NotUnderstood(f"nothing happens to {name}")
        prices = (None if price is None else Decimal(price) for price in (last, bid, ask))
        self._tell(QuoteMoved(self._now, self._contract(name), *prices))

    @step(r"fill (\d+) (again|voided)")
    def _filled_again(self, number: str, how: str) -> None:
        known = next((t for t in self._state.trades.values() if t.order_id == OrderId(int(number))), None)
        if known is None:
            raise NotUnderstood(f"fill {number} has not been told")
        self._tell(TradeMade(self._now, evolve(known, voided=how == "voided")))

    @step(rf"((?:opening )?fill .*|opening fill), (\d+) times(?: ({SPAN}) apart)?", passes=True)
    def _filled_often(self, words: str, times: str, span: str | None) -> None:
        for number in range(int(times)):
            if number and span:
                self._pass(self._now + _span(span))
            self._step(words)

    @step(rf"(the record shows )?(?:(opening) )?fill(?: (\d+):)?(?: ([+-]{NUMBER}))?((?: [a-z]+(?: [\w.:]+)?)*)")
    def _filled(self, read: str | None, opening: str | None, number: str | None, amount: str | None, more: str) -> None:
        if (opening is None) == (amount is None):
            raise NotUnderstood("a fill has an amount, and an opening fill has none")
        fill = self._fill(number, amount, more)
        if read:
            self._read(fill)
        else:
            self._tell(TradeMade(self._now, fill))

    @step(
        rf"(our )?order (\d+): (buy|sell) (\d+) ({NAME}) ({'|'.join(sorted(KINDS, reverse=True))})(?: ({NUMBER}))?"
        rf"(?:,? ({'|'.join(STATUSES)}))?"
    )
    def _ordered(
        self,
        ours: str | None,
        number: str,
        side: str,
        size: str,
        name: str,
        kind: str,
        price: str | None,
        status: str | None,
    ) -> None:
        at = None if price is None else Decimal(price)
        row = Order(
            OrderId(int(number)),
            ACCOUNT,
            self._contract(name),
            STATUSES[status or "working"],
            KINDS[kind],
            Side[side.upper()],
            int(size),
            self._now,
            limit_price=at if "limit" in kind else None,
            stop_price=at if "stop" in kind else None,
            custom_tag=f"flatguard-{number}" if ours else None,
        )
        self._tell(OrderChanged(self._now, row))

    @step(rf"order (\d+) (?:({'|'.join(STATUSES)})|moved to ({NUMBER})|resized to (\d+))")
    def _order_changed(self, number: str, status: str | None, price: str | None, size: str | None) -> None:
        row = self._state.orders.get(OrderId(int(number)))
        if row is None:
            raise NotUnderstood(f"order {number} has not been told")
        row = evolve(row, updated_at=self._now, size=int(size) if size else row.size)
        if status is not None:
            row = evolve(row, status=STATUSES[status], fill_volume=row.size if status == "filled" else row.fill_volume)
        if price is not None:
            at = Decimal(price)
            row = evolve(row, limit_price=row.limit_price and at, stop_price=row.stop_price and at)
        self._tell(OrderChanged(self._now, row))

    @step(r"the broker (withdraws|allows) trading")
    def _may_trade(self, what: str) -> None:
        self._tell(AccountChanged(self._now, account_row(can_trade=what == "allows")))

    @step(r"the broker does not say whether the account may trade")
    def _does_not_say(self) -> None:
        self._tell(EventSetAside(self._now, Hub.USER, f'{{"id":{ACCOUNT}}}', "canTrade is missing"))

    # what is read, and whether anything can be

    @step(r"the record is read")
    def _record_is_read(self) -> None:
        self._read()

    @step(rf"a reading shows (nothing|{NAME} [+-]\d+(?: and {NAME} [+-]\d+)*)")
    def _reading_shows(self, words: str) -> None:
        rows = [] if words == "nothing" else [row.split(" ") for row in words.split(" and ")]
        held = [Position(ACCOUNT, self._contract(n), int(size), Decimal(100), self._now) for n, size in rows]
        self._tell(exposure(self._now, held, self._state.working_orders))

    @step(r"the gateway answers again")
    def _answers(self) -> None:
        self._tell(exposure(self._now, self._state.positions.values(), self._state.working_orders))

    @step(r"the gateway does not answer")
    def _does_not_answer(self) -> None:
        self._tell(ReadingFailed(self._now, ACCOUNT, "no answer"))

    @step(r"the user hub is (up|down)")
    def _user_hub(self, what: str) -> None:
        self._tell(LinkUp(self._now, Hub.USER) if what == "up" else LinkDown(self._now, Hub.USER, "cut"))

    # time, restarts, people

    @step(rf"(on {WHEN}|{CLOCK})", passes=True)
    def _until(self, words: str) -> None:
        self._pass(self._moment(words, self._now))

    @step(rf"({SPAN}) later", passes=True)
    def _later(self, words: str) -> None:
        self._pass(self._now + _span(words))

    @step(rf"restart(?: after ({SPAN}))?(?: with (.*))?", passes=True)
    def _restart(self, span: str | None, settings: str | None) -> None:
        """The daemon ends, and begins anew with what its journal kept. The broker's rows are as they were."""
        if settings is not None:
            self.rules, self.terms = rules_of(self.page, settings)
            self._desk.book = RuleBook(self.rules)
        kept = self._state
        self._desk.now += _span(span or "10 s")
        self._desk.state = evolve(awakened(decode(encode(kept), AccountState)), terms=self.terms)
        self._tell(exposure(self._now, kept.positions.values(), kept.working_orders))
        self._read()
        self._told_now = True

    @step(r"an administrator lifts the lock of (\w+)(?: on ([A-Z0-9]+))?")
    def _lifted(self, rule: str, ticker: str | None) -> None:
        self._tell(LockLifted(self._now, ACCOUNT, rule, ticker or ACCOUNT_SCOPE, "ann", "a mistake"))

    # how it is done

    @property
    def _now(self) -> datetime:
        return self._desk.now

    @property
    def _state(self) -> AccountState:
        return self._desk.state

    def _contract(self, name: str) -> ContractId:
        contract_id = contract_named(name)
        if contract_id not in self._state.contracts:
            try:
                self._tell(ContractLearned(self._now, contract(contract_id)))
            except KeyError:
                raise NotUnderstood(f"what a tick of {name} is worth is not known in tests/fakes/desk.py") from None
        return contract_id

    def _moment(self, words: str, now: datetime) -> datetime:
        day = now.astimezone(CHICAGO).date()
        dated = re.fullmatch(r"on (\w+) (\S+) (.*)", words)
        if dated is None:
            return moment(words, day)
        day = date.fromisoformat(dated[2])
        if DAYS[day.weekday()] != dated[1]:
            raise NotUnderstood(f"{day} is a {DAYS[day.weekday()]}, not a {dated[1]}")
        return moment(dated[3], day)

    def _fill(self, number: str | None, amount: str | None, more: str) -> Trade:
        if number is None:
            self._fills += 1
        costs: dict[str, Any] = {}
        made_at = self._now
        order_id = None
        for what, value in _pairs(more):
            match what, value:
                case "bought" | "sold", "":
                    costs["side"] = Side.BUY if what == "bought" else Side.SELL
                case "of", _:
                    costs["size"] = int(value)
                case "in", _:
                    costs["contract_id"] = self._contract(value)
                case "fees" | "commissions", _:
                    costs[what] = value
                case "made", _:
                    made_at = self._moment(value, self._now)
                case "order", _:
                    order_id = OrderId(int(value))
                case _:
                    raise NotUnderstood(f"no fill has {what!r}")
        if amount is None:
            costs.setdefault("side", Side.BUY)
        fill = trade(int(number or self._fills), made_at, amount, **costs)
        return fill if order_id is None else evolve(fill, order_id=order_id)

    def _pass(self, until: datetime) -> None:
        if until < self._now - timedelta(seconds=1):
            raise NotUnderstood(f"time goes back to {until:%H:%M:%S} UTC")
        until = max(until, self._now)
        desk = self._desk
        while (named := desk.book.next_moment(self._state, self._now)) is not None and named < until:
            desk.now = named
            self._read_positions()
            self._tell(ClockReached(named))
        desk.now = until
        self._told_now = False
        for contract_id, quote in self._state.quotes.items():
            self._tell(QuoteMoved(until, contract_id, quote.last, quote.bid, quote.ask))
        self._read_positions()
        if self._state.read_failed is None:
            self._read()
        self._tell(ClockReached(until))

    def _read_positions(self) -> None:
        if self._state.read_failed is None:
            self._tell(exposure(self._now, self._state.positions.values(), self._state.working_orders))

    def _read(self, *more: Trade) -> None:
        trades = (*self._state.trades.values(), *more)
        self._tell(record(self._now, trades, account=self._state.account or account_row()))

    def _tell(self, event: Event) -> None:
        before = self._state.lockouts
        judgement = self._desk.tell(event)
        if judgement.failed:
            raise AssertionError(f"a rule failed: {judgement.failed}")
        self.told += self._told_by(judgement)
        self.told += self._unlocked(before)

    def _told_by(self, judgement: Judgement) -> Iterator[str]:
        for breach in (*judgement.found, *judgement.standing):
            if breach in judgement.found or self._said.get(breach.rule) != breach.decisions:
                yield self._words(breach)
            self._said[breach.rule] = breach.decisions

    def _unlocked(self, before: tuple[Lockout, ...]) -> Iterator[str]:
        left = {lock.key for lock in self._state.lockouts}
        for scope in dict.fromkeys(lock.scope for lock in before if lock.key not in left):
            of = "" if scope == ACCOUNT_SCOPE else f"{scope} "
            remaining = [lock for lock in self._state.lockouts if lock.scope == scope]
            if remaining:
                last = max(remaining, key=lambda lock: (lock.kind is LockKind.HARD, lock.until is None))
                locked = LockOut(last.until and latest_end(remaining), scope, last.condition, last.kind)
                yield f"still {self._lock(locked)}"
            else:
                yield f"{of}unlocked"

    def _look_around(self) -> None:
        blind = self._desk.book.answers(self._state, self._now).blind is not None
        if blind != self._blind:
            self.told.append("shown as blind" if blind else "in sight again")
        self._blind = blind

    def _words(self, breach: Breach) -> str:
        acts = [d for d in breach.decisions if not isinstance(d, LockOut)]
        return " and ".join([*map(_act, acts), *map(self._lock, breach.lockouts)]) or "alert"

    def _lock(self, lock: LockOut) -> str:
        of = "" if lock.scope == ACCOUNT_SCOPE else f"{lock.scope} "
        what = "locked" if lock.kind is LockKind.HARD else "cooling down"
        if lock.until is None:
            return f"{of}{what} until {lock.condition or 'an administrator lifts it'}"
        zone = NEW_YORK if self.eastern else CHICAGO
        until, now = lock.until.astimezone(zone), self._now.astimezone(zone)
        day = "" if until.date() == now.date() else f"{DAYS[until.weekday()]} {until.date()} "
        clock = until.strftime("%H:%M:%S" if until.second else "%H:%M")
        return f"{of}{what} until {day}{clock}" + (" ET" if self.eastern else "")


def _act(decision: Decision) -> str:
    match decision:
        case Flatten():
            return "all closed"
        case CloseContract(contract_id):
            return f"{name_of(contract_id)} closed"
        case ReduceTo(contract_id, size):
            return f"{name_of(contract_id)} reduced to {size}"
        case ProtectAt(contract_id, price, size, order_id):
            what = "stop" if order_id is None else f"stop order {order_id}"
            return f"{what} for {size} {name_of(contract_id)} at {f'{price:.2f}'.removesuffix('.00')}"
        case WithoutOrder(_, order_id):
            return f"order {order_id} cancelled"
        case _:
            raise NotUnderstood(f"no words are known for {decision}")


def _span(words: str) -> timedelta:
    number, unit = words.split(" ")
    return timedelta(seconds=int(number) * UNITS[unit])


def _pairs(more: str) -> Iterator[tuple[str, str]]:
    words = iter(more.replace("by order", "order").split())
    for word in words:
        yield word, "" if word in {"bought", "sold"} else next(words, "")
