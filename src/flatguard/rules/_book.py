"""Judge all rules of an account on one state, and remember what was found.

Rules are independent: their order does not matter and a rule that raises does not blind the others. A rule whose
condition goes on holding is one breach, not one for every event; enforcement is told again while it holds, now and
then, so that nothing stays open because a message to it was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar

from attrs import evolve, field, frozen

from flatguard.model.account import AccountState, BreachMark
from flatguard.model.decisions import Breach, Flatten
from flatguard.model.events import Event
from flatguard.model.lockouts import Lockout, combine
from flatguard.rules import _lockout
from flatguard.rules._rule import Finding, Measure, Rule, breach_of, moment_of

P = ParamSpec("P")
T = TypeVar("T")

TELL_AGAIN = timedelta(seconds=2)


@frozen
class RuleFailed:
    """A rule raised instead of judging. The account is not guarded by it; ``error`` says what happened."""

    rule: str
    error: str


@frozen
class Judgement:
    """What judging one event gave: ``found`` is new, ``standing`` was found earlier and still holds.

    ``cleared`` names the rules whose condition no longer holds.
    """

    state: AccountState
    found: tuple[Breach, ...] = ()
    standing: tuple[Breach, ...] = ()
    cleared: tuple[str, ...] = ()
    failed: tuple[RuleFailed, ...] = ()


@frozen
class Answers:
    """What the rules say when asked: where the account stands, why one cannot judge, which ones raised."""

    measures: Mapping[str, Measure] = field(factory=dict)
    blind: str | None = None
    failed: tuple[RuleFailed, ...] = ()


@frozen
class RuleBook:
    """The rules of one account, by name."""

    rules: Mapping[str, Rule] = field(factory=dict)

    def judge(self, state: AccountState, event: Event) -> Judgement:
        """Judge the lockouts once the exposure has been read, and every rule once the record has been read too."""
        if state.exposure_at is None:
            return Judgement(state)
        state, unsure = self._lifted(state)
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
        return Judgement(state, tuple(found), tuple(standing), cleared, (*unsure, *failed))

    def _lifted(self, state: AccountState) -> tuple[AccountState, list[RuleFailed]]:
        """Return the state without the locks whose condition has come true, or whose rule is not set any more."""
        kept: list[Lockout] = []
        failed: list[RuleFailed] = []
        for lock in state.lockouts:
            keeps: bool | None = True
            if lock.condition and state.pictured:
                rule = self.rules.get(lock.rule)
                keeps, error = (False, None) if rule is None else _asked(rule.keeps, lock, state)
                failed += [RuleFailed(lock.rule, error)] if error is not None else []
            if keeps is not False:  # who cannot say does not unlock
                kept.append(lock)
        return (state if len(kept) == len(state.lockouts) else evolve(state, lockouts=tuple(kept))), failed

    def _breaches(self, state: AccountState, event: Event) -> tuple[dict[str, Breach], list[RuleFailed]]:
        """Return what the rules find, by name and in the order of names."""
        breaches: dict[str, Breach] = {}
        failed: list[RuleFailed] = []
        for name, rule in sorted(self.rules.items()) if state.pictured else ():
            breach, error = _asked(_judged, name, rule.judge, state, event)
            if breach is not None:
                breaches[name] = breach
            _, cannot_say_when = _asked(rule.judge_again_at, state)
            failed += [RuleFailed(name, what) for what in (error, cannot_say_when) if what is not None]
        locked = _judged(_lockout.NAME, _lockout.judge_lockouts, state, event)
        if locked is not None:
            breaches[_lockout.NAME] = locked
        return breaches, failed

    def answers(self, state: AccountState, at: datetime) -> Answers:
        """Ask every rule where the account stands, and whether it can judge. Never raises."""
        measures: dict[str, Measure] = {}
        blind: str | None = None
        failed: list[RuleFailed] = []
        for name, rule in sorted(self.rules.items()):
            reason, error = _asked(rule.blind, state, at)
            measure, no_measure = _asked(rule.measure, state, at)
            failed += [RuleFailed(name, what) for what in (error, no_measure) if what is not None]
            if reason is not None and blind is None:
                blind = f"{name}: {reason}"
            if measure is not None:
                measures[name] = measure
        return Answers(measures, blind, tuple(failed))

    def next_moment(self, state: AccountState, after: datetime) -> datetime | None:
        """Return the next moment later than ``after`` at which something must be judged though nothing happens.

        A rule that cannot say when is judged with the events; judging has told of it.
        """
        moments = [_asked(rule.judge_again_at, state)[0] for rule in self.rules.values()]
        moments += [lock.until for lock in state.lockouts]
        moments += [mark.told_at + TELL_AGAIN for mark in state.breached.values()]
        moments.append(state.today.ends_at if state.today is not None else None)
        return min((moment for moment in moments if moment is not None and moment > after), default=None)


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
    lock = breach.lockout
    if lock is None:
        return evolve(state, breached=marks)
    new = Lockout(
        account_id=breach.account_id,
        rule=breach.rule,
        scope=lock.scope,
        since=breach.at,
        until=lock.until,
        reason=breach.reason,
        breach=breach.id,
        condition=lock.condition,
    )
    if Flatten() in breach.decisions and (state.positions or state.working_orders):
        # what is open now is this breach's own to close; only what appears after it is the lockout's
        marks.setdefault(_lockout.NAME, BreachMark(breach.id, breach.cause, since, breach.at, (Flatten(),)))
    return evolve(state, breached=marks, lockouts=combine(state.lockouts, new))


def forget(state: AccountState, rule: str) -> AccountState:
    """Return the state with the rule's condition no longer holding. A lockout that it set stays."""
    return evolve(state, breached={name: mark for name, mark in state.breached.items() if name != rule})
