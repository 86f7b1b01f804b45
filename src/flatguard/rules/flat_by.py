"""Flat by: from ``time`` on until the trading day turns, nothing is open.

Judged after every event and at that moment. What is open then is closed and cancelled, and the account locked until the
reset; before it, whoever still has something open is warned. Products that the exchange closes earlier can be made flat
some time before their own close.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from typing import ClassVar
from zoneinfo import ZoneInfo

from attrs import field, frozen

from flatguard.model.account import AccountState, Terms, TradingDay
from flatguard.model.calendar import CHICAGO, moment_on, trading_date
from flatguard.model.decisions import Flatten, LockOut
from flatguard.model.events import Event
from flatguard.model.lockouts import ACCOUNT_SCOPE
from flatguard.rules._open import all_of, by_ticker, open_contracts, open_in_words
from flatguard.rules._rule import Contradiction, Finding, Measure, Rule, moment_of
from flatguard.rules._time import no_holidays_known, our_time, the_time
from flatguard.rules.session_block_outside import SessionBlockOutside

NAME = "flat_by"

_ONE_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


def _at_most_half_a_day(_rule: object, _field: object, duration: timedelta) -> None:
    if duration > _ONE_DAY / 2:
        raise ValueError("must be 12 hours or less")


@frozen
class FlatBy(Rule):
    """Settings of ``[rules.flat_by]``.

    ``before_close``: so long before the exchange closes a product for the day it is flat too; 0: only at ``time``.
    ``warn_before``: from so long before on it warns; 0: never.
    """

    rungs: ClassVar[tuple[int, ...] | None] = (0, 60, 80)

    time: time_of_day = time_of_day(15, 10)
    zone: ZoneInfo = field(default=CHICAGO)
    lockout: bool = True
    before_close: timedelta = field(default=timedelta(0), validator=_at_most_half_a_day)
    warn_before: timedelta = field(default=timedelta(minutes=15), validator=_at_most_half_a_day)

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """A time that comes before the only session, and closes until after it."""
        hours = others.get("session_block_outside")
        if not isinstance(hours, SessionBlockOutside) or not hours.global_session or hours.sessions:
            return
        if self.zone == hours.zone == terms.zone and self.time <= hours.start < hours.end <= terms.reset:
            yield Contradiction(
                "time",
                f"comes before the session of session_block_outside, from {hours.start:%H:%M} to {hours.end:%H:%M}, and"
                " holds until the trading day turns, so nothing can be held in it",
            )

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach while anything is open after its deadline that is not locked for it."""
        now = the_time(state, event.at)
        deadline = self._deadline(state.today)
        if deadline is None or now < deadline:
            return self._judge_products(state, now, event)
        words = open_in_words(state)
        if not words or state.today is None or self._locked(state, event, ACCOUNT_SCOPE):
            return None
        what = ", ".join(word for row in words.values() for word in row)
        return Finding(
            reason=f"Flat by {self._clock(deadline)}: {what}",
            decisions=(LockOut(state.today.unlocks_at), Flatten()) if self.lockout else (Flatten(),),
            figures=(("flat by", deadline.isoformat()), ("open", what)),
            cause=f"account at {moment_of(event)}" if self.lockout else "",
        )

    def _judge_products(self, state: AccountState, now: datetime, event: Event) -> Finding | None:
        closed = {
            ticker: deadline
            for ticker, deadline in self._product_deadlines(state, now)
            if deadline <= now and not self._locked(state, event, ticker)
        }
        if not closed or state.today is None:
            return None
        found = all_of(state, [c for c in open_contracts(state) if state.ticker(c) in closed])
        locks = tuple(LockOut(state.today.unlocks_at, ticker) for ticker in closed) if self.lockout else ()
        what = by_ticker(state, found)
        return Finding(
            reason="; ".join(f"{ticker} flat by {self._clock(closed[ticker])}: {words}" for ticker, words in what),
            decisions=(*locks, *found),
            figures=(*((f"{ticker} flat by", at.isoformat()) for ticker, at in closed.items()), *what),
            cause=f"{', '.join(closed)} at {moment_of(event)}" if locks else "",
        )

    def _locked(self, state: AccountState, event: Event, scope: str) -> bool:
        return any(lock.rule == NAME and lock.covers(scope) for lock in state.locked(event.at))

    def next_moment(self, state: AccountState, after: datetime) -> datetime | None:
        """The next deadline, or share of the warning time, of anything open."""
        now = the_time(state, after)
        shares = [self.warn_before * (100 - rung) / 100 for rung in self.rungs or ()]
        moments = (
            deadline - before for deadline, _ in self._deadlines(state, now) for before in (*shares, timedelta(0))
        )
        soonest = min((moment for moment in moments if moment > now), default=None)
        return None if soonest is None else our_time(state, soonest)

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """The trading day has no such time, or products are to be flat before closes that nobody knows."""
        if state.today is not None and self._deadline(state.today) is None:
            return f"{self.time:%H:%M} {self.zone} does not come before the trading day turns, so it is not judged"
        return no_holidays_known(state, at) if self.before_close else None

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """How much of the time to warn is used up; None before that, and while nothing is open."""
        now = the_time(state, at)
        ahead = [(deadline - now, ticker) for deadline, ticker in self._deadlines(state, now) if now < deadline]
        if not ahead or min(ahead)[0] > self.warn_before:
            return None
        left, ticker = min(ahead)
        return Measure(_seconds(self.warn_before - left), _seconds(self.warn_before), "s", ticker)

    def near(self, measure: Measure, state: AccountState, at: datetime) -> str:
        """Say until when, and what is still open: ``flat by 15:10 CST, 6 minutes left: +2 MNQU5 open``."""
        words = open_in_words(state).items()
        what = ", ".join(word for c, row in words for word in row if measure.of in {"", state.ticker(c)})
        seconds = int(measure.distance)
        left = f"{seconds} seconds" if seconds < 2 * 60 else f"{seconds // 60} minutes"
        deadline = the_time(state, at) + timedelta(seconds=float(measure.distance))
        return f"{measure.of} flat by {self._clock(deadline)}, {left} left: {what} open".lstrip()

    def _deadlines(self, state: AccountState, now: datetime) -> Iterator[tuple[datetime, str]]:
        """Yield by when everything has to be flat, and by when a product has to be flat earlier; none while flat.

        The account's deadline bears no ticker.
        """
        if not state.positions and not state.working_orders:
            return
        deadline = self._deadline(state.today)
        if deadline is not None:
            yield deadline, ""
        for ticker, own in self._product_deadlines(state, now):
            if deadline is None or own < deadline:
                yield own, ticker

    def _deadline(self, today: TradingDay | None) -> datetime | None:
        """Return the last moment of the trading day at which the clocks show ``time``, but not its very first."""
        if today is None:
            return None
        day = today.ends_at.astimezone(self.zone).date()
        moments = (moment_on(day - back * _ONE_DAY, self.time, self.zone) for back in range(3))
        return next((moment for moment in moments if today.starts_at < moment < today.ends_at), None)

    def _product_deadlines(self, state: AccountState, now: datetime) -> Iterator[tuple[str, datetime]]:
        calendar = state.terms.calendar
        if not self.before_close or calendar is None:
            return
        for ticker in sorted({state.ticker(contract_id) for contract_id in open_contracts(state)}):
            sessions = calendar.sessions(trading_date(now), ticker)
            if sessions:
                yield ticker, sessions[-1][1] - self.before_close

    def _clock(self, moment: datetime) -> str:
        return f"{moment.astimezone(self.zone):%H:%M %Z}"


def _seconds(duration: timedelta) -> Decimal:
    return Decimal(duration // timedelta.resolution) / (_SECOND // timedelta.resolution)
