"""All rules of an account on one state: independent of order, of one another's faults, and of how often it is asked."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.enforcement.next_step import Held, next_steps
from flatguard.enforcement.plan import Wanted
from flatguard.model.account import AccountState
from flatguard.model.decisions import Breach, CloseContract, Decision, Flatten, LockOut, ReduceTo, WithoutOrder
from flatguard.model.events import (
    AccountChanged,
    ClockReached,
    Event,
    Hub,
    LinkDown,
    LinkUp,
    PositionChanged,
    ReadingFailed,
    TradeMade,
)
from flatguard.model.ids import OrderId
from flatguard.model.lockouts import LockKind, Lockout, latest_end
from flatguard.rules._book import Judgement, RuleBook, RuleFailed, remember
from flatguard.rules._rule import Finding, Measure, Rule
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.rules.max_contracts_per_instrument import MaxContractsPerInstrument
from tests.fakes.desk import ACCOUNT, EP, MNQ, RTY, Desk, account_row, chicago, exposure, order, position, trade
from tests.rules.worked_examples import all_rules

OPENING = chicago("2025-01-15 17:00")
RULES: dict[str, Rule] = {
    "daily_realized_loss": DailyRealizedLoss(Decimal(500)),
    "max_contracts": MaxContracts(limit=3, lockout_on_breach=True),
    "max_contracts_per_instrument": MaxContractsPerInstrument({"MNQ": 2, "ES": 1}),
}


@frozen
class Locks(Rule):
    """Breaches while anything is held and locks until ``until``."""

    until: datetime | None = OPENING
    flatten: bool = True

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        if not state.positions:
            return None
        decisions = (LockOut(self.until), *([Flatten()] if self.flatten else []))
        return Finding("something is held", decisions, ())


class Raises(Rule):
    """A rule with a defect."""

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        raise ZeroDivisionError("a defect")


class AnswersNonsense(Rule):
    """A rule of somebody who has not read what a rule returns."""

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        return "too many contracts"  # type: ignore[return-value]


class CannotSayWhen(MaxContracts):
    """A rule that judges well and fails to tell when it wants to be asked again."""

    def judge_again_at(self, state: AccountState) -> datetime | None:
        raise KeyError("when")


def tape(dice: Random) -> list[Any]:
    """A trader's half hour: sizes up and down, wins and losses, orders."""
    steps: list[Any] = []
    for number in range(1, 12):
        what = dice.randrange(4)
        contract_id = dice.choice([MNQ, EP, RTY])
        if what == 0:
            steps.append(("hold", contract_id, dice.randint(-4, 4)))
        elif what == 1:
            steps.append(("trade", dice.randint(-300, 200)))
        elif what == 2:
            steps.append(("order", order(number, contract_id)))
        else:
            steps.append(("later", dice.choice([1, 30])))
    return steps


def play(account: Desk, steps: list[Any]) -> list[Any]:
    seen = []
    for what, *arguments in steps:
        getattr(account, what)(*arguments)
        account.look()
        seen.append((account.last.found, account.last.standing, account.last.cleared, account.state))
    return seen


@given(st.randoms(use_true_random=False))
def test_the_order_of_rules_does_not_matter(dice: Random) -> None:
    """Nor does the order of tables in the settings file: the tape folded again gives the same, to the byte."""
    steps = tape(dice)
    names = dice.sample(sorted(RULES), len(RULES))
    shuffled = {name: RULES[name] for name in names}
    assert repr(play(Desk(RULES), steps)) == repr(play(Desk(shuffled), steps))


@pytest.mark.parametrize("faulty", [Raises(), AnswersNonsense()])
def test_a_rule_that_fails_does_not_blind_the_others_and_is_named(faulty: Rule) -> None:
    account = Desk({"a": faulty, "max_contracts": MaxContracts(limit=3), "z": faulty})
    account.hold(MNQ, 4)
    assert [breach.rule for breach in account.told] == ["max_contracts"]
    assert [failure.rule for failure in account.last.failed] == ["a", "z"]


def test_what_went_wrong_in_a_rule_is_told() -> None:
    account = Desk({"a": Raises()})
    assert account.look().failed == (RuleFailed("a", "ZeroDivisionError: a defect"),)


def test_a_rule_that_cannot_say_when_to_ask_it_again_is_judged_all_the_same() -> None:
    account = Desk({"a": CannotSayWhen(limit=1)})
    account.hold(MNQ, 2)
    assert [breach.rule for breach in account.told] == ["a"]
    assert account.last.failed == (RuleFailed("a", "KeyError: 'when'"),)
    assert account.book.next_moment(account.state, account.now) is not None


def test_the_breach_of_a_rule_that_fails_later_is_not_taken_as_cleared() -> None:
    account = Desk({"a": MaxContracts(limit=3)})
    account.hold(MNQ, 4)
    account.book = RuleBook({"a": Raises()})
    assert account.look().cleared == ()
    assert "a" in account.state.breached


# one breach as long as it goes on


def test_a_condition_that_goes_on_is_one_breach_told_again_after_two_seconds() -> None:
    account = Desk({"a": MaxContracts(limit=3)})
    (first,) = account.hold(MNQ, 4).found
    quiet = account.later(1.999).look()
    assert (quiet.found, quiet.standing) == ((), ())
    again = account.later(0.001).look()
    assert again.found == ()
    assert [(b.id, b.cause, b.decisions) for b in again.standing] == [(first.id, first.cause, first.decisions)]
    assert account.later(1.999).look().standing == ()
    assert account.state.breached["a"].since == first.at


def test_it_is_told_again_at_once_when_it_calls_for_something_else() -> None:
    account = Desk({"a": MaxContracts(limit=3, enforcement="reduce_to_limit")})
    account.hold(MNQ, 4)
    changed = account.later(-0.5).hold(EP, 2)
    assert changed.found == ()
    assert [b.decisions for b in changed.standing] == [(ReduceTo(EP, 0), ReduceTo(MNQ, 3))]


def test_it_is_told_again_although_the_machines_clock_was_set_back() -> None:
    account = Desk({"a": MaxContracts(limit=3)})
    account.hold(MNQ, 4)
    assert len(account.later(-3600).look().standing) == 1


def test_a_condition_that_ended_and_holds_again_is_another_breach() -> None:
    account = Desk({"a": MaxContracts(limit=3)})
    account.hold(MNQ, 4)
    assert account.hold(MNQ, 3).cleared == ("a",)
    assert account.last.state.breached == {}
    account.hold(MNQ, 4)
    assert len({breach.id for breach in account.told}) == 2


def test_two_rules_one_moment_and_two_accounts_have_ids_of_their_own() -> None:
    account = Desk({"a": MaxContracts(limit=3), "b": MaxContracts(limit=3)})
    account.hold(MNQ, 4)
    assert len({breach.id for breach in account.told}) == 2


# lockouts


def test_a_lockout_leaves_to_its_breach_what_is_open_and_finds_what_appears_later() -> None:
    account = Desk({"daily_realized_loss": DailyRealizedLoss(Decimal(500))})
    account.hold(MNQ, 2)
    account.trade("-500")
    account.later(1).look()
    assert [breach.rule for breach in account.told] == ["daily_realized_loss"]
    assert account.hold(MNQ, 0).cleared == ("lockout",)
    (found,) = account.order(order(7, EP)).found
    assert (found.rule, found.decisions) == ("lockout", (Flatten(),))
    assert found.reason == "locked by daily_realized_loss; open all the same: order 7 (buy 1 ESU5)"
    assert account.hold(EP, 1).found == ()
    assert account.later(2).look().standing[0].reason.endswith("open all the same: +1 ESU5, order 7 (buy 1 ESU5)")


def test_a_lockout_goes_on_telling_until_the_account_is_flat() -> None:
    account = Desk({"daily_realized_loss": DailyRealizedLoss(Decimal(500))})
    account.hold(MNQ, 2)
    account.trade("-500")
    for _ in range(5):
        assert [b.rule for b in account.later(2).look().standing] == ["lockout"]


def test_what_a_lockout_finds_says_by_what_and_until_when() -> None:
    account = Desk({"a": Locks(), "b": Locks(OPENING + timedelta(days=1))})
    account.hold(MNQ, 2)
    account.hold(MNQ, 0)
    figures = dict(account.hold(MNQ, -1).found[-1].figures)
    assert figures == {
        "locked by": "a, b",
        "locked until": "2025-01-16T23:00:00+00:00",
        "not allowed": "-1 MNQU5",
    }


def test_a_lock_without_an_end_says_so() -> None:
    account = Desk({"a": Locks(None)})
    account.hold(MNQ, 2)
    account.hold(MNQ, 0)
    account.book = RuleBook()
    figures = dict(account.order(order(1, MNQ)).found[0].figures)
    assert figures["locked until"] == "no end set"


def test_a_lock_that_closes_nothing_by_itself_closes_what_is_open_through_the_lockout() -> None:
    account = Desk({"a": Locks(flatten=False)})
    assert [b.rule for b in account.hold(MNQ, 2).found] == ["a", "lockout"]


def test_a_position_that_a_reading_shows_under_a_lockout_is_found() -> None:
    account = Desk({"daily_realized_loss": DailyRealizedLoss(Decimal(500))})
    account.trade("-500")
    account.tell(exposure(account.later(5).now, [position(RTY, 1)]))
    assert account.told[-1].rule == "lockout"


def test_after_a_restart_a_lockout_holds_as_soon_as_the_exposure_is_read_whatever_becomes_of_the_record() -> None:
    """What is judged from fills waits for them; that a locked account is flat does not."""
    account = Desk(RULES)
    account.trade("-500")
    account.hold(MNQ, 9)
    account.state = evolve(account.state, exposure_at=None, record_at=None)
    assert account.look() == Judgement(account.state)
    again = account.tell(exposure(account.later(5).now, [position(RTY, 9)]))
    assert [b.rule for b in (*again.found, *again.standing)] == ["lockout"]
    assert again.cleared == ()
    assert account.tell(exposure(account.later(5).now)).cleared == ()  # one list that lacks it proves nothing
    assert account.tell(exposure(account.later(5).now)).cleared == ("lockout",)
    account.read()
    assert "max_contracts" not in account.state.breached


def test_after_its_end_a_lockout_finds_nothing() -> None:
    account = Desk({"daily_realized_loss": DailyRealizedLoss(Decimal(500))})
    account.trade("-500")
    account.at("17:00:02").read()
    assert account.hold(MNQ, 1).found == ()


ENDS = st.none() | st.integers(1, 6).map(lambda hours: chicago("2025-01-15 11:00") + timedelta(hours=hours))


@given(ends=st.dictionaries(st.sampled_from("abcd"), ENDS, min_size=1), hours=st.integers(0, 8))
def test_locks_add_up_and_the_latest_end_counts(ends: dict[str, datetime | None], hours: int) -> None:
    account = Desk({name: Locks(until) for name, until in ends.items()})
    account.hold(MNQ, 1)
    account.hold(MNQ, 0)
    account.now = chicago("2025-01-15 11:00") + timedelta(hours=hours)
    account.read()
    expected = {name for name, until in ends.items() if until is None or account.now < until}
    assert {lock.rule for lock in account.state.locked(account.now)} == expected
    found = [breach for breach in account.order(order(1, MNQ)).found if breach.rule == "lockout"]
    assert bool(found) == bool(expected)


# the next moment


def test_the_next_moment_is_the_soonest_of_what_has_to_be_looked_at() -> None:
    account = Desk({"daily_realized_loss": DailyRealizedLoss(Decimal(500))})
    assert account.book.next_moment(account.state, account.now) == OPENING
    account.hold(MNQ, 1)
    account.trade("-500")
    told_at = account.now
    assert account.book.next_moment(account.state, account.now) == told_at + timedelta(seconds=2)
    account.hold(MNQ, 0)
    assert account.book.next_moment(account.state, account.now) == OPENING
    account.at("16:59:59").look()
    assert account.book.next_moment(account.state, account.now) == OPENING
    assert account.book.next_moment(account.state, OPENING) is None


def test_a_rule_may_ask_to_be_judged_at_a_moment_of_its_own() -> None:
    class Patient(MaxContracts):
        def judge_again_at(self, state: AccountState) -> datetime | None:
            return chicago("2025-01-15 12:00")

    account = Desk({"a": Patient(), "b": MaxContracts()})
    assert account.book.next_moment(account.state, account.now) == chicago("2025-01-15 12:00")
    assert account.book.next_moment(account.state, chicago("2025-01-15 12:00")) == OPENING


def test_an_account_of_which_nothing_was_heard_has_no_next_moment() -> None:
    account = Desk({})
    assert RuleBook().next_moment(type(account.state)(account.state.id), account.now) is None


def test_every_moment_it_names_lies_ahead() -> None:
    """Otherwise the loop that waits for it would spin."""
    account = Desk(RULES)
    account.hold(MNQ, 9)
    for _ in range(20):
        moment = account.book.next_moment(account.state, account.now)
        assert moment is not None
        assert moment > account.now
        account.now = moment
        account.tell(ClockReached(moment))


# a crash


def test_after_a_crash_the_record_gives_the_same_breach_id_and_the_same_end() -> None:
    account = Desk(RULES, trades=[])
    account.trade("-300", number=1)
    account.trade("-300", number=2)
    account.trade("250", number=3)
    again = account.later(60).restarted()
    assert [(b.id, b.lockouts, b.on_record) for b in again.told] == [(b.id, b.lockouts, True) for b in account.told]


def test_the_same_loss_on_another_account_is_another_breach() -> None:
    account = Desk(RULES)
    account.trade("-500", number=1)
    other = Desk(RULES)
    other.state = type(other.state)(type(other.state.id)(25700002))
    other.read([trade(1, other.now, "-500")])
    other.tell(exposure(other.now))
    assert other.told[0].id != account.told[0].id


def test_rules_without_more_to_say_have_no_moment_no_measure_and_are_never_blind() -> None:
    account = Desk({})
    rule = Raises()
    assert rule.judge_again_at(account.state) is None
    assert rule.measure(account.state, account.now) is None
    assert rule.blind(account.state, account.now) is None


def test_two_breaches_of_one_contract_are_both_told() -> None:
    account = Desk(
        {
            "max_contracts": MaxContracts(limit=1, enforcement="reduce_to_limit"),
            "max_contracts_per_instrument": MaxContractsPerInstrument({"MNQ": 5}),
        }
    )
    account.hold(RTY, 2)
    assert {b.rule: b.decisions for b in account.told} == {
        "max_contracts": (ReduceTo(RTY, 1),),
        "max_contracts_per_instrument": (CloseContract(RTY),),
    }


class Mute(Rule):
    """A rule whose every answer but the judgement is an error."""

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        return None

    def blind(self, state: AccountState, at: datetime) -> str | None:
        raise LookupError("no eyes")

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        raise LookupError("no ruler")


def test_a_rule_that_raises_when_asked_is_named_and_hides_no_other_rules_figures() -> None:
    book = RuleBook({"mute": Mute(), "max_contracts": MaxContracts(limit=2)})
    answers = book.answers(Desk({}).state, Desk({}).now)
    assert answers.failed == (
        RuleFailed("mute", "LookupError: no eyes"),
        RuleFailed("mute", "LookupError: no ruler"),
    )
    assert list(answers.measures) == ["max_contracts"]


@frozen
class Waits(Rule):
    """Locks while anything is held, until ``keeps`` is no longer so."""

    answer: Any = True

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        waiting = any(lock.condition for lock in state.lockouts)
        lock = LockOut(None, condition="it rains")
        return Finding("something is held", (lock,), ()) if state.positions and not waiting else None

    def keeps(self, lock: Lockout, state: AccountState) -> bool:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]

    def blind(self, state: AccountState, at: datetime) -> str | None:
        return "it cannot see"


def waiting() -> Desk:
    account = Desk({"waits": Waits(), "locks": Locks(OPENING)})
    account.hold(MNQ, 1)
    account.hold(MNQ, 0)
    assert [lock.until for lock in account.state.lockouts] == [OPENING, None]
    return account


def test_a_lock_that_waits_ends_when_its_rule_says_so_and_no_other_does() -> None:
    account = waiting()
    account.book = RuleBook({"waits": Waits(answer=False), "locks": Locks(OPENING)})
    account.look()
    assert account.locked_until() == [OPENING]


def test_a_lock_that_waits_ends_when_its_rule_is_not_set_any_more() -> None:
    account = waiting()
    account.book = RuleBook({})
    account.look()
    assert account.locked_until() == [OPENING]


def test_before_both_readings_no_rule_is_asked_whether_its_lock_goes_on() -> None:
    account = waiting()
    account.book = RuleBook({"waits": Waits(answer=False)})
    account.state = evolve(account.state, record_at=None)
    account.look()
    assert account.locked_until() == [OPENING, None]


@pytest.mark.parametrize("answer", [True, None, ZeroDivisionError("a defect")])
def test_a_rule_that_cannot_say_does_not_unlock(answer: Any) -> None:
    account = waiting()
    account.book = RuleBook({"waits": Waits(answer=answer), "locks": Locks(OPENING)})
    account.look()
    assert account.locked_until() == [OPENING, None]
    assert bool(account.last.failed) == isinstance(answer, Exception)


def test_by_itself_a_rule_keeps_its_locks() -> None:
    account = waiting()
    assert MaxContracts().keeps(account.state.lockouts[0], account.state)


def test_the_first_blind_rule_says_why() -> None:
    book = RuleBook({"b": Waits(), "a": Waits()})
    assert book.answers(Desk({}).state, Desk({}).now).blind == "a: it cannot see"


# what all of them call for together


CONTRACTS = st.sampled_from([MNQ, EP, RTY])
DECISIONS: st.SearchStrategy[Decision] = st.one_of(
    st.just(Flatten()),
    st.builds(CloseContract, CONTRACTS),
    st.builds(ReduceTo, CONTRACTS, st.integers(0, 3)),
    st.builds(WithoutOrder, CONTRACTS, st.integers(1, 3).map(OrderId)),
    st.builds(
        LockOut,
        st.none() | st.integers(1, 3).map(lambda hours: OPENING + timedelta(hours=hours)),
        st.sampled_from(["account", "MNQ"]),
        kind=st.sampled_from(LockKind),
    ),
)


def called_for(decisions: dict[str, list[Decision]]) -> list[Breach]:
    at = chicago("2025-01-15 10:00")
    return [Breach(f"id of {n}", n, ACCOUNT, at, "now", f"found by {n}", (), tuple(d)) for n, d in decisions.items()]


def merged(breaches: list[Breach]) -> Wanted:
    wanted = Wanted()
    for breach in breaches:
        wanted = wanted.including(breach)
    return wanted


def agree(breaches: list[Breach], dice: Random, account: Desk) -> None:
    """What is done about ``breaches`` is what they call for together, in whatever order they are told."""
    told = [decision for breach in breaches for decision in breach.decisions]
    shuffled = dice.sample(breaches, len(breaches))
    wanted, other = merged(breaches), merged(shuffled)
    assert (wanted.flat, wanted.caps, wanted.without) == (other.flat, other.caps, other.without)
    held = Held.of(account.state.positions.values(), account.state.working_orders)
    assert next_steps(wanted, held) == next_steps(other, held)

    assert wanted.flat == (Flatten() in told)
    if wanted.flat:
        assert next_steps(wanted, held) == next_steps(merged(called_for({"flat": [Flatten()]})), held)
    for contract_id in (MNQ, EP, RTY):
        caps = [d.size for d in told if isinstance(d, ReduceTo) and d.contract_id == contract_id]
        caps += [0 for d in told if d == CloseContract(contract_id)]
        assert wanted.caps.get(contract_id) == (min(caps) if caps else None)
    assert wanted.without == {d.order_id for d in told if isinstance(d, WithoutOrder)}

    one, two = account.state, account.state
    for breach in breaches:
        one = remember(one, breach)
    for breach in shuffled:
        two = remember(two, breach)
    assert one.lockouts == two.lockouts
    for breach in breaches:
        for lock in breach.lockouts:
            kept = [k for k in one.lockouts if (k.rule, k.scope, k.kind) == (breach.rule, lock.scope, lock.kind)]
            ends = [lock.until, *(k.until for k in kept)]
            assert [k.until for k in kept] == [None if None in ends else max(end for end in ends if end)]
    assert latest_end(one.lockouts) == latest_end(two.lockouts)


@given(decisions=st.dictionaries(st.sampled_from("abcd"), st.lists(DECISIONS, max_size=4)), dice=st.randoms())
def test_flat_absorbs_closed_and_closed_absorbs_reduced_and_every_lock_is_kept(
    decisions: dict[str, list[Decision]], dice: Random
) -> None:
    account = Desk({})
    for contract_id, size in ((MNQ, 3), (EP, -2), (RTY, 1)):
        account.hold(contract_id, size)
        account.order(order(size + 10, contract_id))
    agree(called_for(decisions), dice, account)


@settings(max_examples=30)
@given(st.randoms(use_true_random=False))
def test_what_all_rules_call_for_on_one_state_does_not_depend_on_their_order(dice: Random) -> None:
    account = Desk(all_rules())
    for what, *arguments in tape(dice):
        getattr(account, what)(*arguments)
        agree([*account.last.found, *account.last.standing], dice, account)


# judged when something happens, and when a rule asks for it


@settings(max_examples=50)
@given(
    start=st.sampled_from(
        ["2025-01-15 10:00", "2025-01-15 15:07", "2025-01-15 16:58", "2025-01-17 15:58", "2025-01-15 08:28"]
    ),
    dice=st.randoms(use_true_random=False),
)
def test_all_rules_judged_at_the_moments_they_name_find_what_they_find_judged_every_second(
    start: str, dice: Random
) -> None:
    named, every_second = Desk(all_rules(), start), Desk(all_rules(), start)
    for number in range(1, 13):
        wait = dice.choice([1, 2, 5, 31, 61, 90])
        what, contract_id = dice.randrange(8), dice.choice([MNQ, EP])
        size, profit = dice.randint(-3, 3), dice.randint(-300, 200)
        price = str(21000 + dice.randint(-40, 40))
        for account in (named, every_second):
            until = account.now + timedelta(seconds=wait)
            while True:
                then = account.now + timedelta(seconds=1)
                if account is named:
                    moment = account.book.next_moment(account.state, account.now)
                    then = until if moment is None else moment
                if then >= until:
                    break
                account.now = then
                account.look()
            account.now = until
            if what == 0:
                account.tell(PositionChanged(until, position(contract_id, size, "21000", until)))
            elif what == 1:
                account.tell(TradeMade(until, trade(number, until, profit, contract_id=contract_id)))
            elif what == 2:
                account.order(order(number, contract_id))
            elif what == 3:
                account.quote(contract_id, last=price)
            elif what == 4:
                account.read()
            elif what == 5:
                account.tell(AccountChanged(until, account_row(can_trade=profit > 0)))
            elif what == 6:
                account.tell(ReadingFailed(until, ACCOUNT, "no answer"))
                account.tell(LinkDown(until, Hub.USER, "cut"))
            else:
                account.tell(LinkUp(until, Hub.USER))
    assert [(b.at, b.rule, b.id, b.decisions) for b in named.told] == [
        (b.at, b.rule, b.id, b.decisions) for b in every_second.told
    ]
    assert named.state.lockouts == every_second.state.lockouts
