"""What a rule declares to be a fact, the ledger keeps for it: folded once an event, and independent of other rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from flatguard.model.account import AccountState
from flatguard.model.events import Event, QuoteMoved
from flatguard.rules._book import RuleFailed
from flatguard.rules._rule import Fact, Finding, Rule
from tests.fakes.desk import MNQ, Desk


def count_quotes(value: int, event: Event, state: AccountState) -> int:
    return value + isinstance(event, QuoteMoved)


def break_down(value: int, event: Event, state: AccountState) -> int:
    if isinstance(event, QuoteMoved):
        raise ZeroDivisionError("a defect")
    return value + 1


class Patient(Rule):
    """Breaches at the third quote."""

    facts: ClassVar[Mapping[str, Fact]] = {"quotes": Fact(0, count_quotes)}

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        quotes = state.facts["patient.quotes"]
        return Finding(f"{quotes} quotes", (), ()) if quotes >= 3 else None


class Faulty(Patient):
    """Declares a fact that cannot always be folded."""

    facts: ClassVar[Mapping[str, Fact]] = {"events": Fact(0, break_down)}

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        return None


def quoted(rules: dict[str, Any], times: int) -> Desk:
    account = Desk(rules)
    for number in range(times):
        account.quote(MNQ, last=str(21000 + number))
    return account


def test_a_rule_finds_its_fact_as_of_the_event_that_it_judges() -> None:
    account = quoted({"patient": Patient()}, 3)
    assert [breach.reason for breach in account.told] == ["3 quotes"]
    assert account.state.facts == {"patient.quotes": 3}


def test_a_fact_that_cannot_be_folded_stays_as_it_was_and_its_rule_has_failed() -> None:
    account = Desk({"a": Faulty(), "patient": Patient()})
    before = account.state.facts["a.events"]
    state, failed = account.book.fold(account.state, QuoteMoved(account.now, MNQ))
    assert failed == (RuleFailed("a", "ZeroDivisionError: a defect"),)
    assert state.facts == {"a.events": before, "patient.quotes": 1}


def test_without_facts_nothing_is_kept() -> None:
    account = Desk({})
    assert account.book.fold(account.state, QuoteMoved(account.now, MNQ)) == (account.state, ())
