"""Same tape, same decisions: what comes out as it was recorded is the same, and whatever does not is found."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve, frozen

from flatguard.journal.codec import encode
from flatguard.journal.tape import judged_text
from flatguard.ledger.apply import apply
from flatguard.model.account import AccountState, Terms
from flatguard.model.entries import Judged
from flatguard.model.events import ClockReached, Event, PositionChanged, TradeMade
from flatguard.reports.replay import Difference, Folding, beginning_otherwise
from flatguard.rules._book import RuleBook
from flatguard.rules._rule import Rule
from flatguard.rules._step import step
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from tests.fakes.desk import ACCOUNT, MNQ, chicago, exposure, position, record, trade

TERMS = Terms()
START = AccountState(ACCOUNT, terms=TERMS)
BOOK = RuleBook(
    {"max_contracts": MaxContracts(limit=2), "daily_realized_loss": DailyRealizedLoss(loss_limit=Decimal(500))}
)
NINE = chicago("2025-01-15 09:00")
EVENTS: list[Event] = [
    exposure(NINE),
    record(NINE),
    PositionChanged(chicago("2025-01-15 09:01"), position(MNQ, 3)),
    PositionChanged(chicago("2025-01-15 09:02"), position(MNQ, 0)),
    TradeMade(chicago("2025-01-15 09:03"), trade(7, chicago("2025-01-15 09:03"), -600)),
    ClockReached(chicago("2025-01-15 17:00")),
]

Rows = list[tuple[Event, str | None]]


def recorded(events: list[Event] = EVENTS, book: RuleBook = BOOK) -> tuple[Rows, AccountState]:
    """What a daemon writes down of ``events``, and where it ends."""
    state, rows = START, []
    for event in events:
        taken = step(state, event, apply(state, event), book)
        rows.append((event, judged_text(taken.judged)))
        state = taken.state
    return rows, state


def folding(book: RuleBook = BOOK, state: AccountState = START) -> Folding:
    return Folding(state, book, judged_text, encode)


def first_difference(rows: Rows, book: RuleBook = BOOK) -> Difference | None:
    again = folding(book)
    found = (again.fold_row(seq, event, text) for seq, (event, text) in enumerate(rows, 1))
    return next((difference for difference in found if difference is not None), None)


def test_the_same_tape_gives_the_same_decisions_and_the_same_state() -> None:
    rows, end = recorded()
    again = folding()
    assert [again.fold_row(seq, event, text) for seq, (event, text) in enumerate(rows)] == [None] * len(rows)
    assert again.same_as(6, NINE, encode(end)) is None
    assert [breach.rule for breach in again.decided] == ["max_contracts", "daily_realized_loss"]


@pytest.mark.parametrize(
    ("change", "what", "said"),
    [
        (lambda rows: rows.__setitem__(2, (rows[2][0], None)), "found", ("nothing", "max_contracts: 3 contracts")),
        (lambda rows: rows.__setitem__(0, (rows[0][0], rows[2][1])), "found", ("max_contracts: 3", "nothing")),
        (
            lambda rows: rows.__setitem__(4, (rows[4][0], rows[4][1].replace("2025-01-15T23", "2025-01-16T23"))),
            "found",
            ("daily_realized_loss: ", "daily_realized_loss: "),
        ),
        (
            lambda rows: rows.__setitem__(4, (rows[4][0], rows[4][1].replace('"daily_realized_loss": 80', '"x": 80'))),
            "warned",
            ("{", "{"),
        ),
        (
            lambda rows: rows.__setitem__(3, (rows[3][0], rows[3][1].replace("max_contracts", "max_contract"))),
            "cleared",
            ("max_contract", "max_contracts"),
        ),
    ],
)
def test_what_was_recorded_otherwise_is_the_first_difference(
    change: Callable[[Any], None], what: str, said: tuple[str, str]
) -> None:
    rows, _ = recorded()
    before = list(rows)
    change(rows)
    assert rows != before
    difference = first_difference(rows)
    assert difference is not None
    changed = next(seq for seq, (one, two) in enumerate(zip(rows, before, strict=True), 1) if one != two)
    assert (difference.seq, difference.what) == (changed, what)
    assert difference.at == rows[changed - 1][0].at
    assert type(rows[changed - 1][0]).__name__ in difference.event
    assert difference.recorded.startswith(said[0])
    assert difference.came_out.startswith(said[1])


def test_a_lock_that_ends_at_another_time_is_told_with_both_ends() -> None:
    rows, _ = recorded()
    event, text = rows[4]
    assert text is not None
    rows[4] = (event, text.replace('locks": "[{\\"account_id', 'locks": "[{\\"x').replace('\\"locks', '\\"locks'))
    difference = first_difference(rows)
    assert difference is not None
    assert difference.what == "locks"
    assert "until 2025-01-15T23:00:00+00:00" in difference.recorded


def test_other_rules_are_a_difference() -> None:
    rows, _ = recorded()
    difference = first_difference(rows, RuleBook({"max_contracts": MaxContracts(limit=3)}))
    assert difference is not None
    assert (difference.seq, difference.came_out) == (3, "nothing")


def test_what_an_older_version_did_not_write_down_yet_is_no_difference() -> None:
    rows, _ = recorded()
    older = [(event, None if text is None else text.replace('\\"sources\\"', '\\"more\\"')) for event, text in rows]
    assert older != rows
    difference = first_difference(older)
    assert difference is not None, "what it did write has to come out"
    older = [(event, text and text.replace('"failed": [], ', "")) for event, text in rows]
    assert older != rows
    assert first_difference(older) is None


def test_an_event_that_cannot_be_folded_any_more_is_a_difference() -> None:
    broken = evolve(EVENTS[3], position=None)
    difference = folding().fold_row(4, broken, None)
    assert difference is not None
    assert (difference.seq, difference.what, difference.recorded) == (4, "fold", "folded")
    assert difference.came_out.startswith("AttributeError")


def test_a_state_that_differs_is_told_by_its_part() -> None:
    rows, end = recorded(EVENTS[:-1])
    again = folding()
    for event, _ in rows:
        again.fold(event)
    difference = again.same_as(9, NINE, encode(evolve(end, breached={})))
    assert difference is not None
    assert (difference.seq, difference.event) == (9, "")
    assert difference.what.startswith("the state's ")
    assert difference.recorded != difference.came_out


def test_a_state_in_another_order_differs_too_and_one_that_lacks_what_came_later_does_not() -> None:
    again = folding(state=evolve(START, warned={"a": 60, "b": 80}))
    text = encode(again.state)
    difference = again.same_as(1, NINE, text.replace('{"a":60,"b":80}', '{"b":80,"a":60}'))
    assert difference is not None
    assert difference.what == "the state's warned"
    assert again.same_as(1, NINE, text.replace('"doubt":null,', "")) is None


def test_long_things_are_told_in_part() -> None:
    many = exposure(NINE, [position(MNQ, size) for size in range(1, 99)])
    difference = folding().fold_row(1, many, '{"cleared": ["%s"]}' % ("x" * 999))
    assert difference is not None
    assert len(difference.event) == len(difference.recorded) == 400


def test_a_run_begins_without_what_does_not_outlive_a_process_and_by_its_own_settings() -> None:
    again = folding()
    for event in EVENTS[:3]:
        again.fold(event)
    assert again.state.pictured
    book, terms = RuleBook({"max_contracts": MaxContracts(limit=5)}), Terms(other_commission=Decimal(9))
    again.begin_run(book, terms)
    assert not again.state.pictured
    assert (again.book, again.state.terms) == (book, terms)
    assert set(again.state.breached) == {"max_contracts"}
    assert again.state.breached["max_contracts"].told == ()


def test_judging_otherwise_begins_with_the_locks_of_then_and_other_costs() -> None:
    _, end = recorded(EVENTS[:5])
    assert end.breached
    state = beginning_otherwise(
        evolve(end, commission_rates={}, trades=end.trades.set(7, evolve(end.trades[7], commissions=None))),
        Terms(other_commission=Decimal(9), commissions={}),
    )
    assert (state.breached, state.warned, state.lockouts) == ({}, {}, end.lockouts)
    assert state.realized.net == Decimal(-609)


@frozen
class Fails(Rule):
    """A rule that raises."""

    def judge(self, state: AccountState, event: Event) -> None:
        raise RuntimeError("broken")


def test_a_rule_that_raised_then_raises_again() -> None:
    book = RuleBook({"fails": Fails()})
    rows, _ = recorded(book=book)
    assert first_difference(rows, book) is None
    judged = folding(book).fold(EVENTS[0])
    assert isinstance(judged, Judged)
