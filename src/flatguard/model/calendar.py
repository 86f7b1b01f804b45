"""When the exchange trades: usual hours by kind of product, and the days on which they differ. One frozen value.

A session belongs to a trading date, Monday to Friday, and most begin on the evening before it: Sunday evening is
Monday's. So a holiday, or an early close, is a matter of one trading date, and everything follows from the sessions of
that date. They are made in Chicago's local time, which is what makes the two nights right on which the clocks change.
A session holds from its first moment until just before its last.

The firm's clock is another matter: when an account's day turns and by when it has to be flat are settings of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from attrs import field, frozen

CHICAGO = ZoneInfo("America/Chicago")
DATE_TURNS = time(17)
USUAL = "equity"
"""The group whose hours a product keeps that no group names."""
LOOK_AHEAD_DAYS = 31
"""So far ahead the next session is looked for."""
ENDS_SOON = timedelta(days=60)

_SATURDAY = 5
_ONE_DAY = timedelta(days=1)

Span = tuple[datetime, datetime]
"""From its first moment until just before its last, in UTC."""


@frozen
class Session:
    """Hours of each trading date, in Chicago. One that opens after it closes opens on the evening before."""

    opens: time
    closes: time

    def on(self, day: date, first: time | None = None, last: time | None = None) -> Span | None:
        """Return when it opens and closes on a trading date.

        ``first`` and ``last`` are between which times of the day the exchange trades, where that is less than usual.
        None where nothing is left of the session.
        """
        opens = moment_on(day - _ONE_DAY if self.opens > self.closes else day, self.opens)
        if first is not None:
            opens = max(opens, moment_on(day, first))
        closes = moment_on(day, self.closes if last is None else min(self.closes, last))
        return (opens, closes) if opens < closes else None


@frozen
class Group:
    """Products that keep the same hours, also on holidays."""

    tickers: frozenset[str]
    sessions: tuple[Session, ...]


@frozen
class SpecialDay:
    """A trading date with other hours than usual: which groups do not trade at all, and which only from or until when.

    ``business_day``: whether it counts where the exchange counts days, as it does to find a contract's last one.
    """

    name: str
    business_day: bool = True
    closed: frozenset[str] = frozenset()
    early_closes: Mapping[str, time] = field(factory=dict)
    late_opens: Mapping[str, time] = field(factory=dict)


def moment_on(day: date, at: time, zone: ZoneInfo = CHICAGO) -> datetime:
    """Return when the clocks of ``zone`` show ``at`` on ``day``.

    A time that they skip moves forward; of one that comes twice it is the first.
    """
    return datetime.combine(day, at, zone).astimezone(UTC)


def trading_date(at: datetime) -> date:
    """Return the exchange's date at ``at``, of weekends too; from 17:00 in Chicago on, it is tomorrow's."""
    local = at.astimezone(CHICAGO)
    return local.date() + _ONE_DAY if local.time() >= DATE_TURNS else local.date()


def starts_at(day: date) -> datetime:
    """Return when a trading date begins: 17:00 in Chicago on the evening before."""
    return moment_on(day - _ONE_DAY, DATE_TURNS)


@frozen
class Calendar:
    """The exchange's hours, as somebody reviewed them; special days are listed up to the trading date ``ends``.

    Products go by ticker, as ``AccountState.ticker`` says it. One that no group names keeps the hours of the group
    ``equity``, which every calendar has. After ``ends`` every day but the weekend counts as usual; see ``covers``.
    """

    reviewed: date
    ends: date
    groups: Mapping[str, Group] = field()
    special_days: Mapping[date, SpecialDay] = field(factory=dict)
    source: str = ""
    _group_of: Mapping[str, str] = field(init=False, eq=False, repr=False)
    _sessions: Callable[[date, str], tuple[Span, ...]] = field(init=False, eq=False, repr=False)

    @groups.validator
    def _has_usual_hours(self, _field: object, groups: Mapping[str, Group]) -> None:
        if USUAL not in groups:
            raise ValueError(f"must have the group {USUAL}, whose hours products keep that no group names")

    @_group_of.default
    def _by_ticker(self) -> Mapping[str, str]:
        return {ticker: name for name, group in self.groups.items() for ticker in group.tickers}

    @_sessions.default
    def _remembered(self) -> Callable[[date, str], tuple[Span, ...]]:
        return lru_cache(maxsize=1024)(self._make_sessions)

    def is_open(self, ticker: str, at: datetime) -> bool:
        """Tell whether the product trades at ``at``."""
        return any(opens <= at < closes for opens, closes in self.sessions(trading_date(at), ticker))

    def opens_next(self, ticker: str, at: datetime) -> datetime | None:
        """Return the first moment from ``at`` on at which the product trades: ``at`` itself where it does.

        None where it does not trade within a month.
        """
        span = self._next(ticker, at)
        return None if span is None else max(at, span[0])

    def closes_next(self, ticker: str, at: datetime) -> datetime | None:
        """Return the end of the session that is in force at ``at``, or else of the next one.

        A session ends where the product pauses, also within a day. The moment itself is no longer part of it. None
        where the product does not trade within a month.
        """
        span = self._next(ticker, at)
        return None if span is None else span[1]

    def closed_on(self, day: date, ticker: str | None = None) -> bool:
        """Tell whether the product does not trade on this trading date at all; without a product, whether none does."""
        return not self._spans(day) if ticker is None else not self.sessions(day, ticker)

    def early_close(self, day: date, ticker: str) -> time | None:
        """Return when, in Chicago, the product's last session of this trading date ends early; None on other days."""
        special = self.special_days.get(day)
        return None if special is None or self.closed_on(day, ticker) else special.early_closes.get(self.group(ticker))

    def covers(self, at: datetime) -> bool:
        """Tell whether the special days at ``at`` are known. Days before the review are past, and not asked about."""
        return trading_date(at) <= self.ends

    def warning(self, at: datetime) -> str | None:
        """Say that the calendar has ended or ends within 60 days; None while it does not."""
        left = self.ends - at.astimezone(CHICAGO).date()
        if left > ENDS_SOON:
            return None
        when = f"ends on {self.ends}" if left >= timedelta(0) else f"ended on {self.ends}"
        return (
            f"the exchange calendar {when}, and no holiday after it is known; "
            "update flatguard, or name a newer file in [calendar] path"
        )

    def group(self, ticker: str) -> str:
        """Return the group whose hours the product keeps."""
        return self._group_of.get(ticker, USUAL)

    def sessions(self, day: date, ticker: str) -> tuple[Span, ...]:
        """Return when the product's sessions of a trading date open and close, in order; none on a closed day."""
        return self._sessions(day, self._group_of.get(ticker, USUAL))

    def span(self, day: date) -> Span | None:
        """Return from when until when anything trades on a trading date; None where nothing does."""
        spans = self._spans(day)
        return (min(opens for opens, _ in spans), max(closes for _, closes in spans)) if spans else None

    def is_business_day(self, day: date) -> bool:
        """Tell whether ``day`` counts where the exchange counts days: no weekend, no holiday."""
        special = self.special_days.get(day)
        return day.weekday() < _SATURDAY and (special is None or special.business_day)

    def _next(self, ticker: str, at: datetime) -> Span | None:
        """Return the session in force at ``at``, or else the next one."""
        day = trading_date(at)
        for _ in range(LOOK_AHEAD_DAYS):
            for span in self.sessions(day, ticker):
                if at < span[1]:
                    return span
            day += _ONE_DAY
        return None

    def _spans(self, day: date) -> list[Span]:
        return [span for name in self.groups for span in self._sessions(day, name)]

    def _make_sessions(self, day: date, name: str) -> tuple[Span, ...]:
        special = self.special_days.get(day)
        if day.weekday() >= _SATURDAY or (special is not None and name in special.closed):
            return ()
        first = None if special is None else special.late_opens.get(name)
        last = None if special is None else special.early_closes.get(name)
        spans = (session.on(day, first, last) for session in self.groups[name].sessions)
        return tuple(span for span in spans if span is not None)
