"""No stop loss grace: every position has a protective stop ``grace`` after its entry, and keeps one.

Judged at the moment that the grace of a part ends, on a complete reading of what is open that is a few seconds old at
most: only that shows that no stop is there. Reaching the moment is a breach. Closes the position, or what is not
covered, or everything with a lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from attrs import evolve, field, frozen

from flatguard.ledger.protection import awaits_price, last_told
from flatguard.model.account import AccountState, Bare, Terms
from flatguard.model.decisions import CloseContract, Decision, Flatten, LockOut, ReduceTo
from flatguard.model.events import Event
from flatguard.model.ids import ContractId
from flatguard.rules._counting import LONG_AGO
from flatguard.rules._rule import Finding, Measure, Rule
from flatguard.rules._settings import at_least, lasts

NAME = "no_stop_loss_grace"
SECOND, HOUR, WEEK = timedelta(seconds=1), timedelta(hours=1), timedelta(days=7)

STILL_SHOWS = timedelta(seconds=5)  # a reading that old, and nothing told since
READ_BEFORE = timedelta(seconds=2)  # so that it is there in time
ENTRY_FILLS = timedelta(seconds=5)  # by then a stop that hangs on the entry has its price
BLIND_AFTER = timedelta(seconds=5)


@frozen
class NoStopLossGrace(Rule):
    """Settings of ``[rules.no_stop_loss_grace]``.

    ``grace`` counts from the entry, ``rearm_grace`` from the moment at which a stop went. ``lockout_for`` belongs to
    ``close_all_and_lockout``.
    """

    grace: timedelta = field(default=timedelta(seconds=30), validator=lasts(SECOND, HOUR))
    enforcement: Literal["close_position", "close_uncovered", "close_all_and_lockout"] = "close_position"
    require_full_coverage: bool = True
    rearm_on_stop_removal: bool = True
    rearm_grace: timedelta = field(default=timedelta(seconds=10), validator=lasts(SECOND, HOUR))
    max_stop_distance_ticks: int | None = field(default=None)
    lockout_for: timedelta = field(default=timedelta(hours=1), validator=lasts(SECOND, WEEK))

    @max_stop_distance_ticks.validator
    def _some_ticks(self, attribute: object, ticks: int | None) -> None:
        if ticks is not None:
            at_least(1)(self, attribute, ticks)

    def terms(self, terms: Terms) -> Terms:
        """The ledger keeps since when a part is bare, so it has to know from where on a stop is too far away."""
        return evolve(terms, farthest_stop_ticks=self.max_stop_distance_ticks)

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when the grace of a part is over, a reading shows no stop for it, and until it is closed."""
        locks = self.enforcement == "close_all_and_lockout"
        if locks and any(lock.rule == NAME and lock.until is not None for lock in state.locked(event.at)):
            return None
        found: dict[ContractId, tuple[str, Decision]] = {}
        for contract_id in sorted(state.positions):
            broken = self._broken(state, contract_id, event.at)
            if broken is not None:
                found[contract_id] = broken
        if not found:
            return None
        decisions: tuple[Decision, ...] = tuple(decision for _, decision in found.values())
        if locks:
            decisions = LockOut(event.at + self.lockout_for), Flatten()
        return Finding(
            reason="; ".join(what for what, _ in found.values()),
            decisions=decisions,
            figures=(
                *((state.label(c), what) for c, (what, _) in found.items()),
                ("read at", f"{state.exposure_at:%H:%M:%S} UTC"),
            ),
        )

    def judge_again_at(self, state: AccountState) -> datetime | None:
        """The next moment at which the grace of a part ends; one before the newest reading began was judged with it."""
        dues = (due for c in state.positions for due, _ in self._dues(state, c))
        return min((due for due in dues if state.exposure_at is None or due > state.exposure_at), default=None)

    def reading_wanted_at(self, state: AccountState) -> datetime | None:
        """A little before a grace ends, unless the newest reading will do, or once something was told since."""
        wanted = []
        for contract_id, due in self._unread(state):
            told = last_told(state, contract_id)
            wanted.append(due - READ_BEFORE if told is None else max(due - READ_BEFORE, told))
        return min(wanted, default=None)

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """A grace is over, and for 5 s no complete reading has shown whether there is a stop."""
        for contract_id, due in self._unread(state):
            if at - due >= BLIND_AFTER:
                since = f"{due:%H:%M:%S} UTC"
                return f"no complete reading since {since} shows whether {state.label(contract_id)} has a stop"
        return None

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """How long the part whose grace ends first has been without a stop; None where all is covered."""
        dues = [(due, part, c) for c in sorted(state.positions) for due, part in self._dues(state, c)]
        if not dues:
            return None
        due, part, contract_id = min(dues, key=lambda row: row[0])
        without, limit = ((moment - part.since).total_seconds() for moment in (at, due))
        return Measure(Decimal(int(without)), Decimal(int(limit)), "s", state.label(contract_id))

    def _dues(self, state: AccountState, contract_id: ContractId) -> Iterator[tuple[datetime, Bare]]:
        """Yield the parts of a position that need a stop, each with the moment by which it must have one."""
        if contract_id not in state.bare:
            return
        position = state.positions[contract_id]
        parts = [p for p in state.bare.get(contract_id, ()) if self.rearm_on_stop_removal or not p.stop_lost]
        if not self.require_full_coverage and sum(p.size for p in state.bare.get(contract_id, ())) < abs(position.size):
            return
        dues = [(part.since + (self.rearm_grace if part.stop_lost else self.grace), part) for part in parts]
        if parts and awaits_price(state, position):
            dues = [(max(due, part.since + ENTRY_FILLS), part) for due, part in dues]
        if not self.require_full_coverage and any(part.stop_lost for part in parts):
            dues = [max((d for d in dues if d[1].stop_lost), key=lambda d: d[0])]  # the last that went left it bare
        yield from dues

    def _unread(self, state: AccountState) -> Iterator[tuple[ContractId, datetime]]:
        """Yield what cannot be judged at the end of its grace by the newest reading."""
        for contract_id in sorted(state.positions):
            if self._begun(state, contract_id) is None:
                for due, _ in self._dues(state, contract_id):
                    if not _read(state, contract_id, due):
                        yield contract_id, due

    def _broken(self, state: AccountState, contract_id: ContractId, at: datetime) -> tuple[str, Decision] | None:
        begun = self._begun(state, contract_id)
        over = [
            (due, part)
            for due, part in self._dues(state, contract_id)
            if due <= at and (begun is not None or _read(state, contract_id, due))
        ]
        if not over:
            return None if begun is None or isinstance(begun, ReduceTo) else ("being closed for want of a stop", begun)
        size, bare = abs(state.size_of(contract_id)), sum(part.size for _, part in over)
        _, part = min(over, key=lambda row: row[0])
        grace = self.rearm_grace if part.stop_lost else self.grace
        within = f"{grace.total_seconds():.0f}s" + (" after a stop was gone" if part.stop_lost else " grace period")
        what = f"No stop-loss within {within}: {bare} of {size} {state.label(contract_id)} not covered"
        if self.enforcement == "close_uncovered" and bare < size:
            return what, ReduceTo(contract_id, size - bare)
        return what, CloseContract(contract_id)

    def _begun(self, state: AccountState, contract_id: ContractId) -> Decision | None:
        """Return what this rule has called for already in a contract that has not grown since."""
        mark = state.breached.get(NAME)
        if mark is None or state.increased_at.get(contract_id, LONG_AGO) >= mark.told_at:
            return None
        named = (d for d in mark.told if isinstance(d, CloseContract | ReduceTo) and d.contract_id == contract_id)
        return next(named, None)


def _read(state: AccountState, contract_id: ContractId, due: datetime) -> bool:
    """Whether the newest reading shows what there is at ``due``: begun shortly before, and nothing told since."""
    told = last_told(state, contract_id)
    read = state.exposure_at
    return read is not None and read >= due - STILL_SHOWS and (told is None or read > told)
