"""The text of a calendar file to a ``Calendar``, or what is wrong with it and where."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from datetime import date, datetime, time
from functools import lru_cache
from itertools import pairwise
from typing import Any

from flatguard.model.calendar import DATE_TURNS, USUAL, Calendar, Group, Session, SpecialDay

Place = tuple[str | int, ...]

_CLOCK = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_SATURDAY = 5
_HEADER = ("source", "reviewed", "ends", "groups", "days")
_GROUP = ("tickers", "sessions")
_DAY = ("date", "name", "business_day", "closed", "early_close", "late_open")


class MalformedCalendar(ValueError):
    """What is wrong with a calendar file. ``place`` are the keys that lead there, with numbers (from 0) in arrays."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(f"{_written(place)}: {what}")
        self.place = place
        self.what = what


@lru_cache(maxsize=8)
def load_calendar(text: str) -> Calendar:
    """Read a calendar file. Raises ``ValueError`` with what is wrong and where: MalformedCalendar, or TOML's own."""
    tree = tomllib.loads(text)
    _known_keys(tree, (), _HEADER)
    groups = {name: _group(raw, ("groups", name)) for name, raw in _table(tree, "groups", ()).items()}
    _each_ticker_once(groups)
    if USUAL not in groups:
        raise MalformedCalendar(("groups",), f"must have {USUAL}: its hours are those of products that no group names")
    reviewed, ends = _date(tree, "reviewed", ()), _date(tree, "ends", ())
    days: dict[date, SpecialDay] = {}
    for index, raw in enumerate(_array(tree, "days", (), {})):
        place: Place = ("days", index)
        day, special = _special_day(raw, place, groups)
        if day in days:
            raise MalformedCalendar((*place, "date"), f"{day} is there already")
        if day > ends:
            raise MalformedCalendar((*place, "date"), f"{day} is after the end of the calendar, {ends}")
        days[day] = special
    return Calendar(reviewed, ends, groups, days, _text(tree, "source", ()))


def _group(raw: object, place: Place) -> Group:
    table = _as_table(raw, place)
    _known_keys(table, place, _GROUP)
    tickers = _array(table, "tickers", place, "")
    sessions = [
        _session(text, (*place, "sessions", index)) for index, text in enumerate(_array(table, "sessions", place, ""))
    ]
    if not sessions:
        raise MalformedCalendar((*place, "sessions"), 'is empty; write ["17:00-16:00"]')
    for index, (before, after) in enumerate(pairwise(sessions), start=1):
        if after.opens > after.closes or after.opens < before.closes:
            raise MalformedCalendar((*place, "sessions", index), "must begin after the session before it, on its day")
    return Group(frozenset(tickers), tuple(sessions))


def _session(text: str, place: Place) -> Session:
    opens, dash, closes = text.partition("-")
    if not dash:
        raise MalformedCalendar(place, 'must be when it opens and when it closes, such as "17:00-16:00"')
    session = Session(_time(opens, place), _time(closes, place))
    if session.closes > DATE_TURNS or DATE_TURNS > session.opens >= session.closes:
        raise MalformedCalendar(place, "must lie between 17:00 of the evening before and 17:00 of the day")
    return session


def _each_ticker_once(groups: Mapping[str, Group]) -> None:
    seen: dict[str, str] = {}
    for name, group in groups.items():
        for ticker in sorted(group.tickers):
            if ticker in seen:
                raise MalformedCalendar(("groups", name, "tickers"), f"{ticker} is in the group {seen[ticker]} already")
            seen[ticker] = name


def _special_day(raw: Mapping[str, Any], place: Place, groups: Mapping[str, Group]) -> tuple[date, SpecialDay]:
    _known_keys(raw, place, _DAY)
    day = _date(raw, "date", place)
    if day.weekday() >= _SATURDAY:
        raise MalformedCalendar((*place, "date"), f"{day} is a weekend, on which nothing trades anyway")
    if not isinstance(business_day := raw.get("business_day", True), bool):
        raise MalformedCalendar((*place, "business_day"), "must be true or false")
    closed = list(groups) if raw.get("closed") == "all" else _array({"closed": [], **raw}, "closed", place, "")
    for index, name in enumerate(closed):
        _known_group(name, (*place, "closed", index), groups)
    early_closes = {}
    for name, text in _table({"early_close": {}, **raw}, "early_close", place).items():
        where = (*place, "early_close", name)
        _known_group(name, where, groups)
        early_closes[name] = early = _time(text, where)
        if name in closed:
            raise MalformedCalendar(where, "is closed on this day; keep one of the two")
        if early >= (usual := groups[name].sessions[-1].closes):
            raise MalformedCalendar(where, f"must be before {usual:%H:%M}, when {name} closes anyway")
    late_opens = {}
    for name, text in _table({"late_open": {}, **raw}, "late_open", place).items():
        where = (*place, "late_open", name)
        _known_group(name, where, groups)
        late_opens[name] = late = _time(text, where)
        if name in closed:
            raise MalformedCalendar(where, "is closed on this day; keep one of the two")
        if late >= (close := early_closes.get(name, groups[name].sessions[-1].closes)):
            raise MalformedCalendar(where, f"must be before {close:%H:%M}, when {name} closes")
    return day, SpecialDay(_text(raw, "name", place), business_day, frozenset(closed), early_closes, late_opens)


def _known_group(name: str, place: Place, groups: Mapping[str, Group]) -> None:
    if name not in groups:
        raise MalformedCalendar(place, f'there is no group "{name}"; write one of {", ".join(groups)}')


def _known_keys(table: Mapping[str, Any], place: Place, known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise MalformedCalendar((*place, key), f"is not known here; write one of {', '.join(known)}")


def _present(table: Mapping[str, Any], key: str, place: Place) -> Any:
    if key not in table:
        raise MalformedCalendar((*place, key), "is missing")
    return table[key]


def _table(table: Mapping[str, Any], key: str, place: Place) -> Mapping[str, Any]:
    return _as_table(_present(table, key, place), (*place, key))


def _as_table(raw: object, place: Place) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise MalformedCalendar(place, "must be a table")
    return raw


def _array(table: Mapping[str, Any], key: str, place: Place, like: str | Mapping[str, Any]) -> list[Any]:
    """Return an array of values of the type of ``like``."""
    raw, what = _present(table, key, place), "texts" if isinstance(like, str) else "tables"
    if not isinstance(raw, list) or not all(isinstance(one, type(like)) for one in raw):
        raise MalformedCalendar((*place, key), f"must be an array of {what}")
    return raw


def _text(table: Mapping[str, Any], key: str, place: Place) -> str:
    if not isinstance(raw := _present(table, key, place), str) or not raw.strip():
        raise MalformedCalendar((*place, key), "must be text")
    return raw


def _date(table: Mapping[str, Any], key: str, place: Place) -> date:
    raw = _present(table, key, place)
    if not isinstance(raw, date) or isinstance(raw, datetime):
        raise MalformedCalendar((*place, key), "must be a date, without quotes, such as 2026-12-25")
    return raw


def _time(raw: object, place: Place) -> time:
    if not isinstance(raw, str) or not _CLOCK.fullmatch(raw):
        raise MalformedCalendar(place, 'must be a time of day such as "16:00"')
    return time.fromisoformat(raw)


def _written(place: Place) -> str:
    """Write a place as a person does: days[3].early_close.fx."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")
