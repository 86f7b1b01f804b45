"""Judge all rules of an account on one state, and remember what was found.

Rules are independent: their order does not matter and a rule that raises does not blind the others. A rule whose
condition goes on holding is one breach, not one for every event; enforcement is told again while it holds, now and
then, so that nothing stays open because a message to it was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from attrs import evolve, field, frozen

from flatguard.ledger.held_down import hold_down
from flatguard.model.account import AccountState, BreachMark, Terms
from flatguard.model.decisions import Breach, Flatten, LimitNear, LockOut
from flatguard.model.events import ClockReached, Event
from flatguard.model.lockouts import LockKind, Lockout, union
from flatguard.model.value import changed
from flatguard.rules import _lockout
from flatguard.rules._rule import Fact, Finding, Measure, Rule, breach_of, moment_of
from flatguard.rules._sources import sources

P = ParamSpec("P")
T = TypeVar("T")

TELL_AGAIN = timedelta(seconds=2)
WELL_BELOW = 10  # percent of a limit
NEVER = -1  # warned of no share of it, not even of none


@frozen
class RuleFailed:
    """A rule raised instead of judging. The account is not guarded by it; ``error`` says what happened."""

    rule: str
    error: str


@frozen
class Judgement:
    """What judging one event gave: ``found`` is new, ``standing`` was found earlier and still holds.

    ``cleared`` names the rules whose condition no longer holds, ``near`` the limits that are not far any more.
    """

    state: AccountState
    found: tuple[Breach, ...] = ()
    standing: tuple[Breach, ...] = ()
    cleared: tuple[str, ...] = ()
    near: tuple[LimitNear, ...] = ()
    failed: tuple[RuleFailed, ...] = ()


@frozen
class Answers:
    """What the rules say when asked: where the account stands, why one cannot judge, which ones raised."""

    measures: Mapping[str, Measure] = field(factory=dict)
    blind: str | None = None
    failed: tuple[RuleFailed, ...] = ()


def _in_order(rules: Mapping[str, Rule]) -> Mapping[str, Rule]:
    return dict(sorted(rules.items()))


@frozen
class RuleBook:
    """The rules of one account, by name and in the order of names."""

    rules: Mapping[str, Rule] = field(factory=dict, converter=_in_order)
    _facts: tuple[tuple[str, str, Fact], ...] = field(init=False, eq=False, repr=False)

    @_facts.default
    def _declared(self) -> tuple[tuple[str, str, Fact], ...]:
        rules = self.rules.items()
        return tuple((name, f"{name}.{key}", fact) for name, rule in rules for key, fact in rule.facts.items())

    def fold(self, state: AccountState, event: Event) -> tuple[AccountState, tuple[RuleFailed, ...]]:
        """Return ``state``, which ``event`` has just been folded into, with the facts that the rules declare.

        A fact that cannot be folded stays as it was, and its rule has failed.
        """
        if not self._facts:
            return state, ()
        facts: dict[str, Any] = {}
        failed: list[RuleFailed] = []
        for rule, key, fact in self._facts:
            before = state.facts.get(key, fact.start)
            facts[key], error = _asked(fact.fold, before, event, state)
            if error is not None:
                facts[key] = before
                failed.append(RuleFailed(rule, error))
        return changed(state, facts=facts), tuple(failed)

    def judge(self, state: AccountState, event: Event) -> Judgement:
        """Judge the lockouts once the exposure has been read, and every rule once the record has been read too."""
        if state.exposure_at is None:
            return Judgement(state)
        state, unsure = self._lifted(state, event.at)
        breaches, failed = self._breaches(state, event)
        found: list[Breach] = []
        standing: list[Breach] = []
        for name, breach in breaches.items():
            mark = state.breached.get(name)
            if mark is None or breach.cause not in {mark.cause, moment_of(event)}:
                found.append(breach)
            elif breach.decisions != mark.told or abs(event.at - mark.told_at) >= TELL_AGAIN:
                standing.append(evolve(breach, id=mark.id, cause=mark.cause))
        failing = {failure.rule for failure in failed}
        asked = state.breached if state.pictured else state.breached.keys() & {_lockout.NAME}
        cleared = tuple(name for name in sorted(asked) if name not in breaches and name not in failing)
        for name in cleared:
            state = forget(state, name)
        for breach in (*found, *standing):
            state = remember(state, breach)
        if any(breach.lockouts for breach in found) and _lockout.NAME not in state.breached:
            at_once = _judged(_lockout.NAME, _lockout.judge_lockouts, state, event)
            if at_once is not None:
                found.append(at_once)
                state = remember(state, at_once)
        if found:
            known = sources(state, event.at)
            found = [evolve(breach, sources=known) for breach in found]
        state, near, unmeasured = self._warned(state, event)
        return Judgement(state, tuple(found), tuple(standing), cleared, near, (*unsure, *failed, *unmeasured))

    def _lifted(self, state: AccountState, at: datetime) -> tuple[AccountState, list[RuleFailed]]:
        """Return the state without the locks that are over: their time, their condition, or their rule is gone."""
        kept: list[Lockout] = []
        failed: list[RuleFailed] = []
        for lock in state.lockouts:
            keeps: bool | None = lock.holds(at, state.broker_seen)
            if keeps and lock.condition and state.pictured:
                rule = self.rules.get(lock.rule)
                keeps, error = (False, None) if rule is None else _asked(rule.keeps, lock, state)
                failed += [RuleFailed(lock.rule, error)] if error is not None else []
            if keeps is not False:  # who cannot say does not unlock
                kept.append(lock)
        if len(kept) < len(state.lockouts):
            state = changed(state, lockouts=tuple(kept))
        return state, failed

    def _warned(
        self, state: AccountState, event: Event
    ) -> tuple[AccountState, tuple[LimitNear, ...], tuple[RuleFailed, ...]]:
        """Return the state with every limit remembered that has come near, and those of which to warn now.

        Of each share a day warns once; once the account is well below it, it warns anew. So does a rule with rungs of
        its own that had nothing to measure meanwhile.
        """
        if not state.pictured:
            return state, (), ()
        warned = dict(state.warned)
        near: list[LimitNear] = []
        failed: list[RuleFailed] = []
        for name, rule in self.rules.items():
            rungs = state.terms.warn_at if rule.rungs is None else rule.rungs
            if not rungs:
                continue
            measure, error = _asked(rule.measure, state, event.at)
            if error is not None:
                failed.append(RuleFailed(name, error))
            if measure is None:
                if rule.rungs is not None and error is None:
                    warned.pop(name, None)
                continue
            percent, before = measure.percent, warned.get(name, NEVER)
            told = max(
                (rung for rung in rungs if rung <= percent or (rung - WELL_BELOW <= percent and rung <= before)),
                default=NEVER,
            )
            if told > before and name not in state.breached:  # who is beyond the limit hears of that
                text, error = _asked(rule.near, measure, state, event.at)
                if error is not None:
                    failed.append(RuleFailed(name, error))
                near.append(LimitNear(state.id, name, event.at, told, text or f"{told} % of its limit"))
            if told > NEVER:
                warned[name] = told
            else:
                warned.pop(name, None)
        return state if warned == state.warned else changed(state, warned=warned), tuple(near), tuple(failed)

    def _breaches(self, state: AccountState, event: Event) -> tuple[dict[str, Breach], list[RuleFailed]]:
        """Return what the rules find, by name and in the order of names."""
        breaches: dict[str, Breach] = {}
        failed: list[RuleFailed] = []
        for name, rule in self.rules.items() if state.pictured else ():
            breach, error = _asked(_judged, name, rule.judge, state, event)
            if breach is not None:
                breaches[name] = breach
            if error is not None:
                failed.append(RuleFailed(name, error))
            if _names_moments(rule):
                _, error = _asked(rule.next_moment, state, event.at)
                failed += [RuleFailed(name, error)] if error is not None else []
        locked = _judged(_lockout.NAME, _lockout.judge_lockouts, state, event)
        if locked is not None:
            breaches[_lockout.NAME] = locked
        return breaches, failed

    def answers(self, state: AccountState, at: datetime) -> Answers:
        """Ask every rule where the account stands, and whether it can judge. Never raises."""
        measures: dict[str, Measure] = {}
        blind: str | None = None
        failed: list[RuleFailed] = []
        for name, rule in self.rules.items():
            reason, error = _asked(rule.blind, state, at)
            measure, no_measure = _asked(rule.measure, state, at)
            failed += [RuleFailed(name, what) for what in (error, no_measure) if what is not None]
            if reason is not None and blind is None:
                blind = f"{name}: {reason}"
            if measure is not None:
                measures[name] = measure
        return Answers(measures, blind, tuple(failed))

    def products(self) -> Mapping[str, frozenset[str]]:
        """Return the tickers that each rule's settings name. A rule that cannot say names none."""
        return {name: _asked(rule.products)[0] or frozenset() for name, rule in self.rules.items()}

    def reading_wanted_at(self, state: AccountState) -> datetime | None:
        """Return from when on a complete reading of what is open is wanted, for a rule that needs one to judge."""
        if not state.pictured:
            return None
        moments = [_asked(rule.reading_wanted_at, state)[0] for rule in self.rules.values()]
        return min((moment for moment in moments if moment is not None), default=None)

    def terms(self, terms: Terms) -> Terms:
        """Return an account's terms with what the settings of its rules fix about how it is counted."""
        for rule in self.rules.values():
            terms = _asked(rule.terms, terms)[0] or terms
        return terms

    def next_moment(self, state: AccountState, after: datetime) -> datetime | None:
        """Return the next moment later than ``after`` at which something must be judged though nothing happens.

        A rule that cannot say when is judged with the events; judging has told of it.
        """
        moments = [_asked(rule.next_moment, state, after)[0] for rule in self.rules.values() if _names_moments(rule)]
        moments += [lock.until for lock in state.lockouts]
        moments += [mark.told_at + TELL_AGAIN for mark in state.breached.values()]
        moments.append(state.today.ends_at if state.today is not None else None)
        return min((moment for moment in moments if moment is not None and moment > after), default=None)


def _names_moments(rule: Rule) -> bool:
    kind = type(rule)
    return kind.judge_again_at is not Rule.judge_again_at or kind.next_moment is not Rule.next_moment


def _judged(
    name: str, judge: Callable[[AccountState, Event], Finding | None], state: AccountState, event: Event
) -> Breach | None:
    finding = judge(state, event)
    return breach_of(name, finding, state, event) if finding is not None else None


def _asked(question: Callable[P, T], *about: P.args, **more: P.kwargs) -> tuple[T | None, str | None]:
    """Return a rule's answer, or what went wrong in it. The one place where any exception is caught."""
    try:
        return question(*about, **more), None
    except Exception as error:  # noqa: BLE001  one faulty rule must not blind the others; it is shown as failed
        return None, f"{type(error).__name__}: {error}"


def remember(state: AccountState, breach: Breach) -> AccountState:
    """Return the state with ``breach`` marked as told and its lockout, if it calls for one, in force."""
    known = state.breached.get(breach.rule)
    since = known.since if known is not None and known.id == breach.id else breach.at
    marks = {**state.breached, breach.rule: BreachMark(breach.id, breach.cause, since, breach.at, breach.decisions)}
    state = changed(state, breached=marks)
    for lock in breach.lockouts:
        state = _locked(state, breach, lock)
    if not breach.lockouts or _lockout.NAME in marks:
        return state
    forbidden = _lockout.judge_lockouts(state, ClockReached(breach.at))
    if forbidden is not None and (Flatten() in breach.decisions or {*forbidden.decisions} <= {*breach.decisions}):
        # what is open now is this breach's own to close; only what appears after it is the lockout's
        marks[_lockout.NAME] = BreachMark(breach.id, breach.cause, since, breach.at, forbidden.decisions)
    return changed(state, breached=marks)


def _locked(state: AccountState, breach: Breach, lock: LockOut) -> AccountState:
    new = Lockout(
        account_id=breach.account_id,
        rule=breach.rule,
        scope=lock.scope,
        since=breach.at,
        until=lock.until,
        reason=breach.reason,
        breach=breach.id,
        condition=lock.condition,
        kind=lock.kind,
    )
    if lock.kind is LockKind.COOLDOWN:
        state = hold_down(state, new, breach.at)
    return changed(state, lockouts=union(state.lockouts, (new,)))


def forget(state: AccountState, rule: str) -> AccountState:
    """Return the state with the rule's condition no longer holding. A lockout that it set stays."""
    return changed(state, breached={name: mark for name, mark in state.breached.items() if name != rule})
