"""Session block outside: nothing is open outside the trading session.

A session begins at ``start`` and holds until just before ``end``; one that ends before it starts ends on the next day.
Holidays and early closes come from the exchange calendar and from lists of one's own. Judged after every event and when
a session ends. What is open then is closed, and the account or the product locked until the next session starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import Literal
from zoneinfo import ZoneInfo

from attrs import field, frozen

from flatguard.model.account import AccountState, Terms
from flatguard.model.calendar import CHICAGO, Calendar, Span, moment_on, starts_at, trading_date
from flatguard.model.decisions import Decision, Flatten, LockOut
from flatguard.model.events import Event
from flatguard.model.lockouts import ACCOUNT_SCOPE
from flatguard.rules._open import adding_orders, all_of, by_ticker, open_contracts
from flatguard.rules._rule import Contradiction, Finding, Rule, moment_of
from flatguard.rules._settings import at_least, by_product
from flatguard.rules._time import no_holidays_known, our_time, the_time
from flatguard.rules.symbol_blocks import SymbolBlocks

NAME = "session_block_outside"

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_SATURDAY = 5
DAYS_KNOWN = 1_000
_ONE_DAY = timedelta(days=1)


def _ends_elsewhere(session: Session | SessionBlockOutside, _field: object, end: time) -> None:
    if end == session.start:
        raise ValueError(f"is when the session starts, {end:%H:%M}; a session ends at another time than it starts")


def _days_once(_session: object, _field: object, days: tuple[Day, ...]) -> None:
    if len(set(days)) < len(days):
        raise ValueError("names a day twice")


def _date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f'must be written as dates, such as "2026-11-27", not {text!r}') from None


def _dates(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_date(text) for text in texts)


def _by_date(table: Mapping[str, time]) -> Mapping[str, time]:
    keyed = {_date(text): at for text, at in table.items()}
    if len(keyed) < len(table):
        raise ValueError("names a date twice")
    return keyed


@frozen
class Session:
    """When a product may be held; in its own zone, and on ``allowed_days`` of its own if it names any."""

    start: time
    end: time = field(validator=_ends_elsewhere)
    zone: ZoneInfo
    allowed_days: tuple[Day, ...] = field(default=(), validator=_days_once)

    @property
    def length(self) -> timedelta:
        """How long it lasts on days on which the clocks do not change."""
        start, end = (datetime.combine(date.min, at) for at in (self.start, self.end))
        return end - start if end > start else end + _ONE_DAY - start

    @property
    def text(self) -> str:
        """The hours as a person reads them."""
        return f"{self.start:%H:%M} to {self.end:%H:%M} {self.zone}"


@frozen
class SessionBlockOutside(Rule):
    """Settings of ``[rules.session_block_outside]``.

    ``start``, ``end`` and ``zone``: the session of every product that ``sessions`` does not name by ticker or root;
    without ``global_session`` those are not judged. ``holidays`` and ``early_closes``: trading dates of the exchange.
    """

    start: time = time(8, 30)
    end: time = field(default=time(15), validator=_ends_elsewhere)
    zone: ZoneInfo = field(default=CHICAGO)
    global_session: bool = field(default=True)
    sessions: Mapping[str, Session] = field(factory=dict, converter=by_product)
    allowed_days: tuple[Day, ...] = field(default=DAYS[:5], validator=_days_once)
    respect_holidays: bool = True
    holidays: tuple[str, ...] = field(default=(), converter=_dates)
    early_closes: Mapping[str, time] = field(factory=dict, converter=_by_date)
    flatten_before_seconds: int = field(default=0, validator=at_least(0))
    enforcement: Literal["close_and_lockout", "close", "cancel_orders_only"] = "close_and_lockout"

    @global_session.validator
    def _about_something(self, _attribute: object, on: bool) -> None:
        if not on and not self.sessions:
            raise ValueError("is off and no product has a session, so nothing would be judged; name one in sessions")

    @allowed_days.validator
    def _any_day(self, _attribute: object, days: tuple[Day, ...]) -> None:
        if not days:
            raise ValueError('must name at least one day, such as ["mon", "tue"]')

    @holidays.validator
    def _each_once(self, _attribute: object, days: tuple[str, ...]) -> None:
        for index, day in enumerate(days):
            if day in days[:index]:
                raise ValueError(f"names {day} twice")
            if day in self.early_closes:
                raise ValueError(f"names {day}, which early_closes says ends early; keep one of the two")

    @flatten_before_seconds.validator
    def _shorter_than_any_session(self, attribute: object, seconds: int) -> None:
        for session in () if self.start == self.end else (self._everybody, *self.sessions.values()):
            if timedelta(seconds=seconds) >= session.length:
                raise ValueError(f"leaves nothing of the session from {session.text}")

    def products(self) -> frozenset[str]:
        """Those that have a session of their own."""
        return frozenset(self.sessions)

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """A session of a product that is blocked."""
        blocks = others.get("symbol_blocks")
        for ticker in self.sessions:
            if isinstance(blocks, SymbolBlocks) and blocks.blocks(ticker):
                yield Contradiction("sessions", "has a session, but symbol_blocks blocks it; keep one", entry=ticker)

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach while anything is open outside its session that is not locked for it."""
        now = the_time(state, event.at)
        locks = [lock for lock in state.locked(event.at) if lock.rule == NAME]
        outside = [
            contract_id
            for contract_id in open_contracts(state)
            if not self._in_session(ticker := state.ticker(contract_id), now, state.terms.calendar)
            and not any(lock.covers(ticker) for lock in locks)
        ]
        only_orders = self.enforcement == "cancel_orders_only"
        found = adding_orders(state, outside) if only_orders else all_of(state, outside)
        if not found:
            return None
        what = by_ticker(state, found)
        hours = {ticker: self.sessions.get(ticker, self._everybody) for ticker, _ in what}
        starts = {t: self._next_start(session, t, now, state.terms.calendar) for t, session in hours.items()}
        decisions: tuple[Decision, ...] = tuple(found)
        cause = ""
        if self.enforcement == "close_and_lockout":
            closing = self._locks(starts, now, state)
            decisions = (*closing, *((Flatten(),) if closing[0].scope == ACCOUNT_SCOPE else found))
            cause = f"{', '.join(lock.scope for lock in closing)} at {moment_of(event)}"
        return Finding(
            reason=f"Outside the session: {'; '.join(f'{words} ({hours[ticker].text})' for ticker, words in what)}",
            decisions=decisions,
            figures=(*what, *((f"next session of {ticker}", start.isoformat()) for ticker, start in starts.items())),
            cause=cause,
        )

    def next_moment(self, state: AccountState, after: datetime) -> datetime | None:
        """The next start or end of the session of anything open."""
        now, calendar = the_time(state, after), state.terms.calendar
        tickers = {state.ticker(contract_id) for contract_id in open_contracts(state)}
        moments = (
            next(moment for span in self._from(hours, ticker, now, calendar) for moment in span if moment > now)
            for ticker in tickers
            if (hours := self._hours(ticker)) is not None
        )
        soonest = min(moments, default=None)
        return None if soonest is None else our_time(state, soonest)

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """Holidays are to be respected and none are known."""
        return no_holidays_known(state, at) if self.respect_holidays else None

    @cached_property
    def _everybody(self) -> Session:
        return Session(self.start, self.end, self.zone)

    @cached_property
    def _known(self) -> dict[tuple[str | None, date], tuple[Calendar | None, tuple[Span, ...]]]:
        """The sessions worked out already; they follow from the settings and the calendar."""
        return {}

    def _hours(self, ticker: str) -> Session | None:
        return self.sessions.get(ticker, self._everybody if self.global_session else None)

    def _in_session(self, ticker: str, now: datetime, calendar: Calendar | None) -> bool:
        hours = self._hours(ticker)
        return hours is None or self._holds(hours, ticker, now, calendar)

    def _holds(self, hours: Session, ticker: str | None, now: datetime, calendar: Calendar | None) -> bool:
        today = now.astimezone(hours.zone).date()
        spans = (s for day in (today - _ONE_DAY, today) for s in self._spans(hours, day, ticker, calendar))
        return any(begins <= now < ends for begins, ends in spans)

    def _next_start(self, hours: Session, ticker: str | None, now: datetime, calendar: Calendar | None) -> datetime:
        return next(begins for begins, _ in self._from(hours, ticker, now, calendar) if begins > now)

    def _locks(self, starts: Mapping[str, datetime], now: datetime, state: AccountState) -> tuple[LockOut, ...]:
        """Return a lock of the account, where every product has the same hours and these are over, else of products.

        A product whose exchange closes early, or not for all, is locked by itself: the others may go on.
        """
        calendar = state.terms.calendar
        if not self.sessions and not self._holds(self._everybody, None, now, calendar):
            return (LockOut(self._next_start(self._everybody, None, now, calendar)),)
        return tuple(LockOut(start, ticker) for ticker, start in starts.items())

    def _from(self, hours: Session, ticker: str | None, now: datetime, calendar: Calendar | None) -> Iterator[Span]:
        """Yield the sessions from the one before ``now`` on, without end: no list of holidays goes on for ever."""
        day = now.astimezone(hours.zone).date() - _ONE_DAY
        while True:
            yield from self._spans(hours, day, ticker, calendar)
            day += _ONE_DAY

    def _spans(self, hours: Session, day: date, ticker: str | None, calendar: Calendar | None) -> tuple[Span, ...]:
        """Return from when until when the session that starts on ``day`` holds, less what holidays take of it."""
        known = self._known.get((ticker, day))
        if known is None or known[0] is not calendar:
            if len(self._known) >= DAYS_KNOWN:
                self._known.clear()
            known = self._known[ticker, day] = (calendar, tuple(self._worked_out(hours, day, ticker, calendar)))
        return known[1]

    def _worked_out(self, hours: Session, day: date, ticker: str | None, calendar: Calendar | None) -> Iterator[Span]:
        if DAYS[day.weekday()] not in (hours.allowed_days or self.allowed_days):
            return
        begins = moment_on(day, hours.start, hours.zone)
        ends = moment_on(day + _ONE_DAY if hours.end < hours.start else day, hours.end, hours.zone)
        early = timedelta(seconds=self.flatten_before_seconds)
        on = trading_date(begins)
        while starts_at(on) < ends:
            closes, turns = self._closes(on, hours, ticker, calendar), starts_at(on + _ONE_DAY)
            if closes is not None and closes < min(ends, turns):
                if begins < closes - early:
                    yield begins, closes - early
                begins = max(begins, turns)
            on += _ONE_DAY
        if begins < ends - early:
            yield begins, ends - early

    def _closes(self, on: date, hours: Session, ticker: str | None, calendar: Calendar | None) -> datetime | None:
        """Return when trading ends on a trading date before it usually does; None on usual days, and on weekends."""
        text = on.isoformat()
        if text in self.holidays:
            return starts_at(on)
        moments = [moment_on(on, self.early_closes[text], hours.zone)] if text in self.early_closes else []
        if self.respect_holidays and calendar is not None and on.weekday() < _SATURDAY:
            if calendar.closed_on(on, ticker):
                return starts_at(on)
            at = None if ticker is None else calendar.early_close(on, ticker)
            moments += [] if at is None else [moment_on(on, at)]
        return min(moments, default=None)
