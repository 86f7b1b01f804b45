"""Where an account stands, as facts for people and scripts: protection first, and never more of it than there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from attrs import define, evolve, field, frozen

from flatguard.daemon.picture import old_after
from flatguard.enforcement.under_way import UnderWay
from flatguard.gateway.allowance import AllowanceStatistics
from flatguard.gateway.breaker import BreakerStatistics
from flatguard.ledger.pnl import mark_price, profit_at, unrealized
from flatguard.model.account import AccountState
from flatguard.model.events import Hub
from flatguard.model.ids import AccountId
from flatguard.model.money import on_grid
from flatguard.model.trading import Order, Position
from flatguard.rules._book import Answers, RuleBook, RuleFailed
from flatguard.signalr_client import LinkStatistics


class Protection(StrEnum):
    """How far an account is guarded."""

    PROTECTED = "PROTECTED"
    SHADOW = "SHADOW"
    BLIND = "BLIND"
    ALERT_ONLY = "ALERT-ONLY"
    NOT_PROTECTED = "NOT PROTECTED"


def protection(
    state: AccountState,
    book: RuleBook,
    answers: Answers,
    at: datetime,
    *,
    enforcing: bool,
    accounts: int = 1,
) -> tuple[Protection, str]:
    """Return how far the account is guarded at ``at``, and why not further."""
    if not book.rules:
        return Protection.NOT_PROTECTED, "no rule is set for this account"
    if answers.failed:
        return Protection.NOT_PROTECTED, "; ".join(f"rule {f.rule} failed: {f.error}" for f in answers.failed)
    if state.account is not None and not state.account.visible:
        return (
            Protection.NOT_PROTECTED,
            "the broker has retired it; an account that was started anew has a new number",
        )
    blind = _unseen(state, at, accounts) or answers.blind
    if blind is not None:
        return Protection.BLIND, blind
    if not enforcing:
        return Protection.SHADOW, "mode is shadow: judged and recorded, nothing is sent"
    if state.closes_refused is not None:
        return Protection.ALERT_ONLY, f"the broker does not accept our closes here: {state.closes_refused}"
    return Protection.PROTECTED, "; ".join(_but(state))


def _but(state: AccountState) -> Iterator[str]:
    """What a trader has to know of the protection although it is there."""
    hub = state.links[Hub.USER]
    if not hub.up:
        yield f"by polling; the user hub is down: {hub.reason}"
    if state.account is not None and not state.account.can_trade:
        yield "the broker lets nobody trade here; whether it takes closes shows only when one is needed"


def _unseen(state: AccountState, at: datetime, accounts: int) -> str | None:
    """Return why the picture is not to be trusted. One from the future is as bad as an old one: a clock was set."""
    if state.exposure_at is None or state.record_at is None:
        return f"not read yet: {state.read_failed}" if state.read_failed else "not read yet"
    for read_at, limit in zip((state.exposure_at, state.record_at), old_after(accounts), strict=True):
        if abs(at - read_at) > limit:
            why = f"the gateway could not be read since {read_at:%H:%M:%S} UTC: {state.read_failed or 'no answer'}"
            return f"{why}; {_what_still_works(state)}"
    if state.clock_ahead:
        side = "ahead of" if state.clock_ahead > timedelta(0) else "behind"
        return f"this machine's clock is {abs(state.clock_ahead)} {side} the broker's; set it right"
    return state.doubt


def _what_still_works(state: AccountState) -> str:
    if state.links[Hub.USER].up:
        return "the user hub still tells what happens, and what it tells is judged and acted upon"
    since = f" since {state.blind_since:%H:%M:%S} UTC" if state.blind_since is not None else ""
    return f"nothing is seen{since}; locks stand, and closes are tried until one comes through"


def facts(state: AccountState, answers: Answers, at: datetime) -> dict[str, object]:
    """Return what ``status --json`` shows of an account, beside its protection. Money and prices are text."""
    open_profit = unrealized(state, at)
    return {
        "id": state.id,
        "name": state.account.name if state.account is not None else None,
        "balance": _money(state.account.balance) if state.account is not None else None,
        "can_trade": state.account.can_trade if state.account is not None else None,
        "visible": state.account.visible if state.account is not None else None,
        "simulated": state.account.simulated if state.account is not None else None,
        "trading_day": state.today.label.isoformat() if state.today is not None else None,
        "resets_at": _time(state.today.ends_at) if state.today is not None else None,
        "realized_pnl": _money(state.realized.net) if state.pictured else None,
        "realized_gross": _money(state.realized.gross) if state.pictured else None,
        "fees_and_commissions": _money(state.realized.fees + state.realized.commissions) if state.pictured else None,
        "unrealized_pnl": _money(open_profit.amount) if state.pictured and not open_profit.unpriced else None,
        "unpriced": [state.label(contract_id) for contract_id in open_profit.unpriced],
        "positions": [_position(state, position, at) for _, position in sorted(state.positions.items())],
        "working_orders": [_order(state, order) for order in state.working_orders],
        "limits": [
            {
                "rule": name,
                **dict(zip(("value", "limit", "distance"), measure.texts, strict=True)),
                "percent": measure.percent,
            }
            for name, measure in answers.measures.items()
        ],
        "lockouts": [
            {
                "rule": lock.rule,
                "scope": lock.scope,
                "kind": lock.kind,
                "since": _time(lock.since),
                "until": None if lock.until is None else _time(lock.until),
                "condition": lock.condition,
                "reason": lock.reason,
            }
            for lock in state.locked(at)
        ],
        "read_at": None if state.exposure_at is None else _time(state.exposure_at),
    }


def enforcing(state: AccountState, under_way: UnderWay | None) -> list[dict[str, object]]:
    """Return what is being enforced, an entry for each contract or order that is still asked for.

    Where the end state seems reached there is one entry without a contract, until the readings have proven it.
    """
    if under_way is None:
        return []
    common = {
        "breaches": list(under_way.breaches),
        "rules": list(under_way.rules),
        "since": _time(under_way.since),
    }
    if not under_way.attempts:
        unread = state.read_failed or ""
        nothing = dict.fromkeys(("contract", "contract_id", "order_id", "next_try_at", "market_opens_at"))
        return [{**common, "action": "prove", **nothing, "tries": 0, "outcome": "", "reason": unread}]
    return [
        {
            **common,
            "action": each.action,
            "contract": state.label(each.contract_id),
            "contract_id": each.contract_id,
            "order_id": each.order_id,
            "tries": each.tries,
            "outcome": each.outcome,
            "reason": each.reason,
            "next_try_at": None if each.next_try_at is None else _time(each.next_try_at),
            "market_opens_at": None if each.market_opens_at is None else _time(each.market_opens_at),
        }
        for each in under_way.attempts
    ]


def _position(state: AccountState, position: Position, at: datetime) -> dict[str, object]:
    contract = state.contracts.get(position.contract_id)
    mark = mark_price(state.quotes.get(position.contract_id), position, at)
    return {
        "contract": state.label(position.contract_id),
        "contract_id": position.contract_id,
        "size": position.size,
        "average_price": f"{position.average_price:f}",
        "mark": None if mark is None or contract is None else on_grid(mark, contract.tick_size),
        "open_pnl": None if mark is None or contract is None else _money(profit_at(position, mark, contract)),
    }


def _order(state: AccountState, order: Order) -> dict[str, object]:
    return {
        "id": order.id,
        "contract": state.label(order.contract_id),
        "contract_id": order.contract_id,
        "side": order.side.name.lower(),
        "type": order.type.name.lower(),
        "status": order.status.name.lower(),
        "size": order.size,
        "remaining": order.remaining,
        "limit_price": None if order.limit_price is None else f"{order.limit_price:f}",
        "stop_price": None if order.stop_price is None else f"{order.stop_price:f}",
    }


def _money(amount: Decimal) -> str:
    amount += 0  # no minus before a zero
    return f"{amount:.2f}" if amount == round(amount, 2) else f"{amount.normalize():f}"


def _time(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


@frozen
class Watchman:
    """One account's settings as far as its standing depends on them."""

    book: RuleBook
    enforcing: bool


@define
class Standings:
    """The standing of every account, with the moment since which each has had its protection."""

    watchmen: Mapping[AccountId, Watchman]
    _since: dict[AccountId, tuple[Protection, datetime]] = field(factory=dict)

    def of(
        self,
        state: AccountState,
        failing: tuple[tuple[str, str], ...],
        at: datetime,
        trouble: str | None,
        under_way: UnderWay | None = None,
    ) -> dict[str, object]:
        """Return the account's facts. ``trouble`` is why the journal does not take what is written, if it does not."""
        watchman = self.watchmen[state.id]
        answers = watchman.book.answers(state, at)
        level, reason = protection(
            state,
            watchman.book,
            evolve(answers, failed=(*(RuleFailed(*failure) for failure in failing), *answers.failed)),
            at,
            enforcing=watchman.enforcing,
            accounts=len(self.watchmen),
        )
        known = self._since.get(state.id)
        if known is None or known[0] is not level:
            self._since[state.id] = (level, at)
        if trouble is not None:
            reason = f"NOT DURABLE: the journal cannot be written ({trouble})" + (f"; {reason}" if reason else "")
        return {
            "protection": str(level),
            "protection_since": _time(self._since[state.id][1]),
            "reason": reason,
            "durable": trouble is None,
            "enforcing": enforcing(state, under_way),
            **facts(state, answers, at),
        }


def link_facts(states: Iterable[AccountState]) -> dict[str, str]:
    """Return the state of the links of one login: ``up``, or ``down`` and why."""
    known = tuple(states)
    return {"user_hub": _link(known, Hub.USER), "market_hub": _link(known, Hub.MARKET), "rest": _rest(known)}


def hub_counters(counted: LinkStatistics, now: datetime, current_time: float) -> dict[str, object]:
    """Return what was counted on the link to a hub. ``current_time`` is Trio's, which the counters go by."""
    present = counted.connection
    heard, round_trip_s = (None, None) if present is None else (present.heard_at, present.round_trip_s)
    return {
        "reconnects": counted.reconnects,
        "messages": 0 if present is None else present.messages_received,
        "bytes": 0 if present is None else present.bytes_received,
        "waiting": 0 if present is None else present.messages_waiting,
        "heard_at": None if heard is None else _time(now - timedelta(seconds=current_time - heard)),
        "round_trip_ms": None if round_trip_s is None else round(round_trip_s * 1_000, 1),
    }


def rest_counters(
    used: AllowanceStatistics, breaker: BreakerStatistics, now: datetime, current_time: float
) -> dict[str, object]:
    """Return what was counted on REST. ``current_time`` is Trio's, which the counters go by."""
    until = None if breaker.open_until is None else _time(now + timedelta(seconds=breaker.open_until - current_time))
    return {
        "allowance": {
            "used": used.used,
            "limit": used.assumed,
            "history_used": used.history_used,
            "waiting": {lane.name.lower(): count for lane, count in used.waiting.items() if count},
            "longest_wait_s": {lane.name.lower(): round(s, 1) for lane, s in used.longest_wait_s.items() if s},
            "refused": used.refused,
            "quiet_s": round(used.quiet_s, 1),
        },
        "breaker": {"state": breaker.state, "open_until": until, "failures": breaker.failures},
    }


def _link(states: Iterable[AccountState], hub: Hub) -> str:
    return next((f"down: {s.links[hub].reason}" for s in states if not s.links[hub].up), "up")


def _rest(states: Iterable[AccountState]) -> str:
    """REST is up once every account has been read, and while none has failed since."""
    for state in states:
        if state.read_failed is not None:
            return f"down: {state.read_failed}"
        if state.exposure_at is None:
            return "down: not read yet"
    return "up"
