"""Every figure has its source and its age: what was known when a breach was found, and from when."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from attrs import evolve

from flatguard.ledger.apply import apply
from flatguard.model.account import AccountState
from flatguard.model.events import Event, Hub, LinkDown, LinkUp, PositionChanged, QuoteMoved
from flatguard.rules._book import RuleBook
from flatguard.rules._sources import sources
from flatguard.rules.max_contracts import MaxContracts
from tests.fakes.desk import ACCOUNT, ES, MNQ, NQ, chicago, contract, exposure, position, record

NINE = chicago("2025-01-15 09:00")


def after(*events: Event) -> AccountState:
    state = AccountState(ACCOUNT)
    for event in events:
        state = apply(state, event)
    return state


def test_prices_links_and_readings_are_told_with_their_ages() -> None:
    state = after(
        LinkUp(NINE, Hub.USER),
        exposure(NINE + timedelta(seconds=1)),
        record(NINE + timedelta(seconds=2)),
        PositionChanged(NINE + timedelta(seconds=3), position(MNQ, 1, "21000")),
        PositionChanged(NINE + timedelta(seconds=3), position(NQ, -1, "21000")),
        PositionChanged(NINE + timedelta(seconds=4), position(ES, 1, "6000")),
        QuoteMoved(NINE + timedelta(seconds=5), MNQ, last=Decimal(21001), bid=Decimal(21000)),
        QuoteMoved(NINE + timedelta(seconds=6), NQ, bid=Decimal(21000), ask=Decimal(21002)),
    )
    state = evolve(state, contracts={NQ: contract(NQ)})
    assert sources(state, NINE + timedelta(seconds=10)) == (
        ("price of ESU5", "none to believe"),
        ("price of MNQU5", "21001 (last trade), 5.0 s old"),
        ("price of NQU5", "21002.00 (ask), 4.0 s old"),
        ("positions and orders", "read 9.0 s ago; the hub last spoke 6.0 s ago"),
        ("trades and balance", "read 8.0 s ago"),
        ("user hub", "up for 10.0 s"),
    )


def test_a_long_is_valued_at_the_bid_when_the_last_trade_is_old() -> None:
    state = after(
        PositionChanged(NINE, position(MNQ, 1, "21000")),
        QuoteMoved(NINE, MNQ, last=Decimal(21001), bid=Decimal(21000), ask=Decimal(21001)),
        QuoteMoved(NINE + timedelta(seconds=11), MNQ, bid=Decimal("21000.25")),
    )
    assert dict(sources(state, NINE + timedelta(seconds=12)))["price of MNQU5"] == "21000.25 (bid), 1.0 s old"


def test_what_was_never_read_or_heard_is_said() -> None:
    assert sources(AccountState(ACCOUNT), NINE) == (
        ("positions and orders", "not read yet"),
        ("trades and balance", "not read yet"),
        ("user hub", "down: not connected yet"),
    )
    state = after(LinkDown(NINE, Hub.USER, "cut"))
    assert sources(state, NINE + timedelta(seconds=3))[-1] == ("user hub", "down for 3.0 s: cut")


def test_a_breach_bears_what_was_known_when_it_was_found_whatever_its_rule() -> None:
    book = RuleBook({"max_contracts": MaxContracts(limit=1)})
    event = PositionChanged(NINE + timedelta(seconds=2), position(MNQ, 2))
    state = after(exposure(NINE), record(NINE), event)
    (breach,) = book.judge(state, event).found
    assert breach.sources == sources(state, event.at)
    assert breach.sources[1] == ("positions and orders", "read 2.0 s ago; the hub last spoke 0.0 s ago")
