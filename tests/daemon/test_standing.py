"""What is claimed of an account: never more than there is, and always why not more."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve, frozen

from flatguard.daemon.picture import seconds_a_round
from flatguard.daemon.standing import Standings, Watchman, hub_counters, link_facts, rest_counters
from flatguard.enforcement.under_way import Attempt, UnderWay
from flatguard.gateway.allowance import AllowanceStatistics, Lane
from flatguard.gateway.breaker import BreakerStatistics
from flatguard.ledger.apply import apply
from flatguard.model.account import AccountState, Link
from flatguard.model.events import (
    ClosesRefused,
    ContractLearned,
    Event,
    EventSetAside,
    ExposureRead,
    Hub,
    LinkDown,
    LinkUp,
    OrderChanged,
    PositionChanged,
    QuoteMoved,
    ReadingFailed,
    RecordRead,
)
from flatguard.model.ids import AccountId, OrderId
from flatguard.model.lockouts import Lockout
from flatguard.model.trading import Account, Contract, Order, OrderStatus, OrderType, Position, Side
from flatguard.rules._book import RuleBook
from flatguard.rules._rule import Finding, Measure, Rule
from flatguard.rules.max_contracts import MaxContracts
from flatguard.signalr_client.hub import HubStatistics
from flatguard.signalr_client.reconnect import LinkStatistics
from tests.fakes.entries import ACCOUNT, FIVE_PM, MNQ, NOON, OTHER, at

TWO = RuleBook({"max_contracts": MaxContracts(limit=2)})
ROW = Account(ACCOUNT, "50K", Decimal("50000.5"), can_trade=True)


def after(*events: Event) -> AccountState:
    """An account that was read at noon, with both hubs up, and then ``events``."""
    state = AccountState(ACCOUNT)
    for event in (LinkUp(NOON, Hub.USER), LinkUp(NOON, Hub.MARKET), *reading(NOON), *events):
        state = apply(state, event)
    return state


def reading(moment: datetime) -> tuple[Event, Event]:
    return (
        RecordRead(moment, ACCOUNT, moment, moment, ROW, (), NOON),
        ExposureRead(moment, ACCOUNT, moment, moment, (), ()),
    )


@frozen
class Blind(Rule):
    """A rule that cannot judge."""

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        return None

    def blind(self, state: AccountState, at: datetime) -> str | None:
        return "no price"


@frozen
class Faulty(Rule):
    """A rule that raises when it is asked where the account stands."""

    asked: str

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        return None

    def blind(self, state: AccountState, at: datetime) -> str | None:
        return self._raise_if("blind")

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        return self._raise_if("measure")

    def _raise_if(self, asked: str) -> None:
        if asked == self.asked:
            raise LookupError("nothing there")


def standing(
    state: AccountState,
    moment: datetime = NOON,
    *,
    book: RuleBook = TWO,
    enforcing: bool = True,
    failing: tuple[tuple[str, str], ...] = (),
    trouble: str | None = None,
) -> dict[str, Any]:
    return dict(Standings({ACCOUNT: Watchman(book, enforcing)}).of(state, failing, moment, trouble))


refused = ClosesRefused(NOON, ACCOUNT, "AccountRejected (code 2)")
user_down = LinkDown(NOON, Hub.USER, "cut")
set_aside = EventSetAside(NOON, Hub.USER, "?", "no such field")
failed_to_read = ReadingFailed(NOON, ACCOUNT, "no answer")

TABLE: dict[str, tuple[Callable[[], dict[str, Any]], str, str]] = {
    "all well": (lambda: standing(after()), "PROTECTED", ""),
    "by polling": (lambda: standing(after(user_down)), "PROTECTED", "by polling; the user hub is down: cut"),
    "shadow": (lambda: standing(after(), enforcing=False), "SHADOW", "mode is shadow"),
    "never read": (lambda: standing(AccountState(ACCOUNT)), "BLIND", "not read yet"),
    "never read, and why": (
        lambda: standing(apply(AccountState(ACCOUNT), failed_to_read)),
        "BLIND",
        "not read yet: no answer",
    ),
    "half read": (lambda: standing(apply(AccountState(ACCOUNT), reading(NOON)[0])), "BLIND", "not read yet"),
    "one failed reading": (lambda: standing(after(failed_to_read), at(15)), "PROTECTED", ""),
    "three missed readings": (
        lambda: standing(after(failed_to_read), at(15.1)),
        "BLIND",
        "could not be read since 17:00:00 UTC: no answer; the user hub still tells what happens",
    ),
    "three missed readings without a hub": (
        lambda: standing(after(user_down, failed_to_read), at(15.1)),
        "BLIND",
        "no answer; nothing is seen since 17:00:00 UTC; locks stand, and closes are tried until one comes through",
    ),
    "an old record beside a fresh exposure": (
        lambda: standing(after(failed_to_read, reading(at(70))[1]), at(70)),
        "BLIND",
        "could not be read since 17:00:00 UTC: no answer",
    ),
    "a picture from the future": (lambda: standing(after(), at(-16)), "BLIND", "could not be read"),
    "a clock set forward": (
        lambda: standing(evolve(after(), clock_ahead=timedelta(hours=1))),
        "BLIND",
        "this machine's clock is 1:00:00 ahead of the broker's; set it right",
    ),
    "a clock set back": (
        lambda: standing(evolve(after(), clock_ahead=-timedelta(hours=1))),
        "BLIND",
        "this machine's clock is 1:00:00 behind the broker's; set it right",
    ),
    "in doubt": (lambda: standing(after(set_aside)), "BLIND", "an event could not be understood: no such field"),
    "a rule without prices": (lambda: standing(after(), book=RuleBook({"b": Blind()})), "BLIND", "b: no price"),
    "closes refused": (lambda: standing(after(refused)), "ALERT-ONLY", "AccountRejected (code 2)"),
    "retired": (
        lambda: standing(evolve(after(), account=evolve(ROW, visible=False))),
        "NOT PROTECTED",
        "the broker has retired it; an account that was started anew has a new number",
    ),
    "not allowed to trade": (
        lambda: standing(evolve(after(), account=evolve(ROW, can_trade=False))),
        "PROTECTED",
        "the broker lets nobody trade here; whether it takes closes shows only when one is needed",
    ),
    "no rule": (lambda: standing(after(), book=RuleBook()), "NOT PROTECTED", "no rule is set"),
    "a rule that failed": (
        lambda: standing(after(), failing=(("max_contracts", "KeyError: 'x'"),)),
        "NOT PROTECTED",
        "rule max_contracts failed: KeyError: 'x'",
    ),
    "a rule that cannot be asked whether it sees": (
        lambda: standing(after(), book=RuleBook({"f": Faulty("blind")})),
        "NOT PROTECTED",
        "rule f failed: LookupError: nothing there",
    ),
    "a rule that cannot be measured": (
        lambda: standing(after(), book=RuleBook({"f": Faulty("measure")})),
        "NOT PROTECTED",
        "rule f failed: LookupError: nothing there",
    ),
    # several at once: the worst is told
    "no rule and blind": (lambda: standing(AccountState(ACCOUNT), book=RuleBook()), "NOT PROTECTED", "no rule"),
    "blind in shadow": (lambda: standing(AccountState(ACCOUNT), enforcing=False), "BLIND", "not read yet"),
    "blind and refused": (lambda: standing(after(refused, set_aside)), "BLIND", "could not be understood"),
    "refused and hub down": (lambda: standing(after(refused, user_down)), "ALERT-ONLY", "AccountRejected"),
}


@pytest.mark.parametrize("case", TABLE)
def test_an_account_is_said_to_be_guarded_as_far_as_it_is(case: str) -> None:
    told, level, reason = TABLE[case]
    facts = told()
    assert facts["protection"] == level
    assert reason in facts["reason"]
    assert bool(reason) is bool(facts["reason"])


def test_a_journal_that_cannot_be_written_is_told_beside_whatever_else_there_is() -> None:
    facts = standing(after(), trouble="disk full")
    assert (facts["protection"], facts["durable"]) == ("PROTECTED", False)
    assert facts["reason"] == "NOT DURABLE: the journal cannot be written (disk full)"
    facts = standing(after(user_down), trouble="disk full")
    assert facts["reason"].startswith("NOT DURABLE: the journal cannot be written (disk full); by polling")


def test_a_close_that_the_broker_accepts_again_ends_alert_only() -> None:
    assert standing(after(refused, ClosesRefused(at(1), ACCOUNT, None)))["protection"] == "PROTECTED"


def test_the_protection_bears_the_moment_since_which_it_is_what_it_is() -> None:
    standings = Standings({ACCOUNT: Watchman(TWO, enforcing=True)})
    seen = [
        standings.of(state, (), moment, None)["protection_since"]
        for state, moment in [
            (AccountState(ACCOUNT), at(0)),
            (AccountState(ACCOUNT), at(1)),
            (after(), at(2)),
            (after(user_down), at(3)),
            (after(set_aside), at(4)),
        ]
    ]
    assert seen == [f"2026-03-18T17:00:0{n}Z" for n in (0, 0, 2, 2, 4)]


def test_with_many_accounts_a_picture_may_be_three_rounds_old() -> None:
    watchmen = {AccountId(n): Watchman(TWO, enforcing=True) for n in range(20)}
    watchmen[ACCOUNT] = Watchman(TWO, enforcing=True)
    limit = 3 * seconds_a_round(21)
    for seconds, level in ((limit - 1, "PROTECTED"), (limit + 1, "BLIND")):
        assert Standings(watchmen).of(after(), (), at(seconds), None)["protection"] == level


# the facts


def test_the_facts_hold_all_that_scripts_rely_on() -> None:
    contract = Contract(MNQ, "MNQZ6", Decimal("0.25"), Decimal("0.50"))
    events = (
        ContractLearned(NOON, contract),
        PositionChanged(NOON, Position(ACCOUNT, MNQ, -2, Decimal("25000.125"), NOON)),
        OrderChanged(
            NOON,
            Order(
                OrderId(7),
                ACCOUNT,
                MNQ,
                OrderStatus.OPEN,
                OrderType.STOP,
                Side.BUY,
                3,
                NOON,
                stop_price=Decimal(25100),
                fill_volume=1,
            ),
        ),
        QuoteMoved(NOON, MNQ, last=Decimal("25000.5"), bid=Decimal("25000.25"), ask=Decimal("25000.75")),
    )
    lock = Lockout(ACCOUNT, "daily_realized_loss", "account", NOON, FIVE_PM, "lost", "a1")
    facts = standing(evolve(after(*events), lockouts=(lock,)))
    assert json.loads(json.dumps(facts)) == {
        "protection": "PROTECTED",
        "protection_since": "2026-03-18T17:00:00Z",
        "reason": "",
        "durable": True,
        "id": ACCOUNT,
        "name": "50K",
        "balance": "50000.50",
        "can_trade": True,
        "visible": True,
        "simulated": True,
        "trading_day": "2026-03-18",
        "resets_at": "2026-03-18T22:00:00Z",
        "realized_pnl": "0.00",
        "realized_gross": "0.00",
        "fees_and_commissions": "0.00",
        "unrealized_pnl": "-1.50",
        "unpriced": [],
        "positions": [
            {
                "contract": "MNQZ6",
                "contract_id": MNQ,
                "size": -2,
                "average_price": "25000.125",
                "mark": "25000.50",
                "open_pnl": "-1.50",
            }
        ],
        "working_orders": [
            {
                "id": 7,
                "contract": "MNQZ6",
                "contract_id": MNQ,
                "side": "buy",
                "type": "stop",
                "status": "open",
                "size": 3,
                "remaining": 2,
                "limit_price": None,
                "stop_price": "25100",
            }
        ],
        "limits": [{"rule": "max_contracts", "value": "2", "limit": "2", "distance": "0", "percent": 100}],
        "enforcing": [],
        "lockouts": [
            {
                "rule": "daily_realized_loss",
                "scope": "account",
                "kind": "hard",
                "since": "2026-03-18T17:00:00Z",
                "until": "2026-03-18T22:00:00Z",
                "condition": "",
                "reason": "lost",
            }
        ],
        "read_at": "2026-03-18T17:00:00Z",
    }


def test_what_is_not_known_is_null_and_never_zero() -> None:
    facts = standing(AccountState(ACCOUNT))
    assert [facts[key] for key in ("name", "balance", "realized_pnl", "unrealized_pnl", "read_at")] == [None] * 5


def test_a_position_without_a_price_has_no_open_profit_and_neither_has_the_account() -> None:
    facts = standing(after(PositionChanged(NOON, Position(ACCOUNT, MNQ, 1, Decimal(25000), NOON))))
    assert facts["unrealized_pnl"] is None
    assert facts["unpriced"] == ["MNQZ6"]
    assert (facts["positions"][0]["mark"], facts["positions"][0]["open_pnl"]) == (None, None)


def test_a_short_position_at_its_entry_has_gained_zero_and_not_minus_zero() -> None:
    contract = Contract(MNQ, "MNQZ6", Decimal("0.25"), Decimal("0.50"))
    short = PositionChanged(NOON, Position(ACCOUNT, MNQ, -1, Decimal(25000), NOON))
    facts = standing(after(ContractLearned(NOON, contract), short, QuoteMoved(NOON, MNQ, last=Decimal(25000))))
    assert (facts["unrealized_pnl"], facts["positions"][0]["open_pnl"]) == ("0.00", "0.00")


def test_a_lock_without_end_has_none_and_one_that_is_over_is_not_shown() -> None:
    locks = (
        Lockout(ACCOUNT, "daily_realized_loss", "account", NOON, None, "lost", "a1"),
        Lockout(ACCOUNT, "max_contracts", "account", NOON - timedelta(days=1), NOON, "over", "a0"),
        Lockout(ACCOUNT, "auth_loss_guard", "account", NOON, None, "no", "a2", "the broker lets it trade"),
    )
    facts = standing(evolve(after(), lockouts=locks))
    assert [(lock["rule"], lock["until"], lock["condition"]) for lock in facts["lockouts"]] == [
        ("daily_realized_loss", None, ""),
        ("auth_loss_guard", None, "the broker lets it trade"),
    ]


def test_an_amount_with_more_than_cents_keeps_its_digits() -> None:
    row = evolve(ROW, balance=Decimal("0.1250"))
    state = evolve(after(), account=row)
    assert standing(state)["balance"] == "0.125"


# the links


def links(*states: AccountState) -> dict[str, str]:
    return link_facts(states)


def test_links_are_up_once_all_accounts_know_them_to_be() -> None:
    assert links(after()) == {"user_hub": "up", "market_hub": "up", "rest": "up"}
    assert links(AccountState(ACCOUNT)) == {
        "user_hub": "down: not connected yet",
        "market_hub": "down: not connected yet",
        "rest": "down: not read yet",
    }


def test_the_counters_of_a_hub_tell_the_wall_clock_when_it_was_last_heard() -> None:
    heard = HubStatistics(
        7, 900, heard_at=95.5, round_trip_s=0.04149, messages_waiting=2, calls_waiting=0, answers_ignored=0
    )
    assert hub_counters(LinkStatistics(3, heard), NOON, current_time=100.0) == {
        "reconnects": 2,
        "messages": 7,
        "bytes": 900,
        "waiting": 2,
        "heard_at": (NOON - timedelta(seconds=4.5)).isoformat().replace("+00:00", "Z"),
        "round_trip_ms": 41.5,
    }


def test_a_link_without_a_connection_counts_nothing_of_the_one_before() -> None:
    counters = hub_counters(LinkStatistics(0, None), NOON, current_time=100.0)
    assert (counters["heard_at"], counters["messages"], counters["reconnects"]) == (None, 0, 0)


def test_the_counters_of_rest_tell_who_waits_and_until_when_look_ups_rest() -> None:
    nobody = dict.fromkeys(Lane, 0)
    used = AllowanceStatistics(
        used=61,
        assumed=131,
        history_used=2,
        waiting={**nobody, Lane.ROUTINE: 3},
        longest_wait_s={**nobody, Lane.RECONCILIATION: 4.56},
        refused=7,
        quiet_s=2.96,
    )
    assert rest_counters(used, BreakerStatistics("open", 107.5, 5, 1), NOON, current_time=100.0) == {
        "allowance": {
            "used": 61,
            "limit": 131,
            "history_used": 2,
            "waiting": {"routine": 3},
            "longest_wait_s": {"reconciliation": 4.6},
            "refused": 7,
            "quiet_s": 3.0,
        },
        "breaker": {
            "state": "open",
            "open_until": (NOON + timedelta(seconds=7.5)).isoformat().replace("+00:00", "Z"),
            "failures": 5,
        },
    }
    closed = rest_counters(used, BreakerStatistics("closed", None, 0, 1), NOON, current_time=100.0)
    assert closed["breaker"] == {"state": "closed", "open_until": None, "failures": 0}


def test_a_reading_that_fails_for_one_account_of_several_shows() -> None:
    other = evolve(after(), id=OTHER, read_failed="HTTP status 500", links={hub: Link(up=True) for hub in Hub})
    assert links(after(), other)["rest"] == "down: HTTP status 500"
    assert links(other, after())["rest"] == "down: HTTP status 500"


def test_what_is_under_way_is_told_for_each_contract_and_order() -> None:
    refused_close = Attempt("close", MNQ, None, 3, "refused", "OrderRejected (code 5)", at(9), at(60))
    cancel = Attempt("cancel", MNQ, OrderId(7), 0, "", "", None, None)
    told = standings(UnderWay(("a1", "b2"), ("daily_realized_loss", "lockout"), NOON, (refused_close, cancel)))
    common = {"breaches": ["a1", "b2"], "rules": ["daily_realized_loss", "lockout"], "since": "2026-03-18T17:00:00Z"}
    assert told == [
        {
            **common,
            "action": "close",
            "contract": "MNQZ6",
            "contract_id": MNQ,
            "order_id": None,
            "tries": 3,
            "outcome": "refused",
            "reason": "OrderRejected (code 5)",
            "next_try_at": "2026-03-18T17:00:09Z",
            "market_opens_at": "2026-03-18T17:01:00Z",
        },
        {
            **common,
            "action": "cancel",
            "contract": "MNQZ6",
            "contract_id": MNQ,
            "order_id": 7,
            "tries": 0,
            "outcome": "",
            "reason": "",
            "next_try_at": None,
            "market_opens_at": None,
        },
    ]


def test_what_seems_done_is_under_way_until_it_is_proven() -> None:
    (entry,) = standings(UnderWay(("a1",), ("daily_realized_loss",), NOON, ()))
    assert (entry["action"], entry["contract"], entry["next_try_at"]) == ("prove", None, None)


def standings(under_way: UnderWay) -> Any:
    known = Standings({ACCOUNT: Watchman(TWO, True)})
    return known.of(after(), (), NOON, None, under_way)["enforcing"]
