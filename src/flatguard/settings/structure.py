"""Raw TOML values to typed ones, and every reason why one does not fit, with its line.

The schema is the classes themselves: attrs fields are keys, their types say what is written there, their validators
what is allowed. Structuring is spelled out here rather than left to a converter, since a person reads the result:
nothing stops at the first error, and each names its key, its line, what was found and what to write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo, available_timezones

import attrs
from attrs import define, field, frozen
from cattrs import Converter

from flatguard.settings.lines import Place

T = TypeVar("T")

UNREADABLE: Any = object()
"""Stands for a value that was refused."""

DIGITS = 15
"""No amount or size has more digits than this before or after its point; a longer one is a slip."""

_AMOUNT = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_DURATION = re.compile(r"([0-9]{1,9})([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_CLOCK = re.compile(r"([01][0-9]|2[0-3])(:[0-5][0-9]){1,2}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_CREDENTIAL = re.compile(r"api[_-]?key|token|passw|secret|credential|^key$", re.IGNORECASE)


@frozen
class Found:
    """A value that was given, or UNREADABLE, and its place."""

    value: Any
    place: Place


@define
class Reading:
    """One reading of a settings file: what was refused so far.

    ``names`` are better names for places; ``variables`` are the places whose values the environment gave.
    """

    file: Path
    lines: Mapping[Place, int]
    names: dict[Place, str] = field(factory=dict)
    variables: dict[Place, str] = field(factory=dict)
    _refused: dict[str, int] = field(factory=dict)

    @property
    def errors(self) -> list[str]:
        """Everything that was refused, in the order of the lines."""
        return sorted(self._refused, key=lambda text: self._refused[text])

    def refuse(self, place: Place, text: str) -> Any:
        """Note that what stands at ``place`` cannot stay. The same words about the same place count once."""
        if place in self.variables:
            self._refused[f"{self.variables[place]}: {text}"] = 0
        else:
            line = self.line(place)
            self._refused[f"{self.file}:{line}: {self.name(place)}: {text}"] = line
        return UNREADABLE

    def line(self, place: Place) -> int:
        """Return the line of ``place``, or of the innermost table around it that is in the file."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def origin(self, found: Found | None) -> str:
        """Say where a value in force comes from."""
        if found is None:
            return "default"
        return "environment" if found.place in self.variables else f"file:{self.line(found.place)}"

    def name(self, place: Place) -> str:
        """Write a place for a person: accounts[25700001].rules.max_contracts.limit."""
        name = ""
        for depth, part in enumerate(place, start=1):
            if place[:depth] in self.names:
                name = self.names[place[:depth]]
            elif isinstance(part, int):
                name += f"[{part}]"
            else:
                name += ("." if name else "") + key_text(part)
        return name

    def table(
        self, raw: object, place: Place, kinds: Mapping[str, Any], besides: Iterable[str] = ()
    ) -> dict[str, Found]:
        """Read the keys of a table that are in ``kinds``, each as its kind; refuse those not even in ``besides``."""
        if not isinstance(raw, Mapping):
            self.refuse(place, f"must be a table, not {shown(raw)}; write [{self.name(place)}]")
            return {}
        self.known_keys(raw, place, (*kinds, *besides))
        return {
            key: Found(self.value(raw[key], (*place, key), kind), (*place, key))
            for key, kind in kinds.items()
            if key in raw
        }

    def known_keys(self, table: Mapping[str, Any], place: Place, known: Collection[str]) -> None:
        """Refuse the keys of ``table`` that are not ``known``, with the nearest that is."""
        for key in [key for key in table if key not in known]:
            named = [name for name in known if _CREDENTIAL.search(name)]  # token_storage, which is no credential
            if _CREDENTIAL.search(key) and not get_close_matches(key.lower(), named, cutoff=0.8):
                text = "is not written in this file; store it with flatguard login, or set FLATGUARD_API_KEY"
            else:
                text = f"is not known here; {nearest(key, known)}"
            self.refuse((*place, key), text)

    def value(self, raw: Any, place: Place, kind: Any) -> Any:
        """Return ``raw`` as a ``kind``, or UNREADABLE."""
        kind = getattr(kind, "__supertype__", kind)
        if kind in _SCALARS:
            try:
                return _SCALARS[kind](raw)
            except ValueError as error:
                return self.refuse(place, str(error))
        origin, kinds = get_origin(kind), get_args(kind)
        if origin is Literal:
            return raw if raw in kinds else self._choose(raw, place, kinds)
        if origin in {Union, UnionType} and len(rest := [k for k in kinds if k is not NoneType]) == 1:
            return self.value(raw, place, rest[0])
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return self._mapping(raw, place, kinds[1])
        if isinstance(origin, type) and issubclass(origin, Iterable) and kinds[1:] in {(), (...,)}:
            return self._array(raw, place, origin, kinds[0])
        if attrs.has(kind):
            return self.build(kind, self.table(raw, place, kinds_of(kind)), place)
        raise TypeError(f"a setting cannot be a {kind}; change the class that asks for it")

    def _choose(self, raw: object, place: Place, choices: tuple[Any, ...]) -> Any:
        known = " or ".join(filter(None, (", ".join(map(shown, choices[:-1])), shown(choices[-1]))))
        return self.refuse(place, f"must be {known}, not {shown(raw)}")

    def _mapping(self, raw: object, place: Place, kind: Any) -> Any:
        if not isinstance(raw, Mapping):
            return self.refuse(place, f"must be a table, not {shown(raw)}; write {{ NAME = value }}")
        values = {key: self.value(value, (*place, key), kind) for key, value in raw.items()}
        return UNREADABLE if UNREADABLE in values.values() else values

    def _array(self, raw: object, place: Place, container: Any, kind: Any) -> Any:
        if not isinstance(raw, list):
            return self.refuse(place, f"must be an array, not {shown(raw)}; write [value, value]")
        values = [self.value(value, (*place, index), kind) for index, value in enumerate(raw)]
        if UNREADABLE in values:
            return UNREADABLE
        return container(values) if container in {list, set, frozenset} else tuple(values)

    def build(self, kind: type[T], found: Mapping[str, Found], place: Place) -> T:
        """Make a ``kind`` of what was found; UNREADABLE where something is missing or refused.

        Converters and validators are asked one by one on a draft, since the class itself stops at the first that
        objects and does not say which field it was about.
        """
        draft = kind.__new__(kind)
        fields: dict[str, attrs.Attribute[Any]] = {a.alias or a.name: a for a in attrs.fields(kind) if a.init}  # type: ignore[arg-type]
        places = {key: found[key].place if key in found else (*place, key) for key in fields}
        good = True
        for key, attribute in fields.items():
            if key not in found and attribute.default is attrs.NOTHING:
                self.refuse(places[key], f"is missing and has no default; write {key} = …")
                good = False
            elif key in found and found[key].value is UNREADABLE:
                good = False
            else:
                raw = found[key].value if key in found else _default(attribute, draft)
                good &= self._accepted(places[key], _set, draft, attribute, raw)
        for key, attribute in fields.items():
            if attribute.validator is not None and hasattr(draft, attribute.name):
                good &= self._accepted(places[key], _validate, draft, attribute, good)
        made: list[T] = []
        if good:
            self._accepted(place, lambda: made.append(kind(**{key: item.value for key, item in found.items()})))
        return made[0] if made else UNREADABLE

    def _accepted(self, place: Place, call: Callable[..., object], *arguments: object) -> bool:
        try:
            call(*arguments)
        except (TypeError, ValueError) as error:
            self.refuse(place, str(error.args[0]) if error.args else type(error).__name__)
            return False
        return True


def kinds_of(kind: type) -> dict[str, Any]:
    """Return the keys that a table of ``kind`` may have, and what each of them is."""
    types = get_type_hints(kind)
    return {a.alias or a.name: types[a.name] for a in attrs.fields(kind) if a.init}


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which of the known names was probably meant."""
    names = sorted(known)
    close = get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"write one of {', '.join(names)}"


def key_text(key: str) -> str:
    """Write a key as TOML does, in quotes where it must."""
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def as_written(value: Any) -> Any:
    """Return ``value`` in the types of the file: what structuring it again makes the same value of."""
    return _WRITER.unstructure(value)


def shown(raw: object) -> str:
    """Write a value as the file does; tables and arrays in a word."""
    if isinstance(raw, str):
        return json.dumps(raw if len(raw) <= 60 else raw[:59] + "…", ensure_ascii=False)
    if isinstance(raw, bool):
        return str(raw).lower()
    return "a table" if isinstance(raw, Mapping) else "an array" if isinstance(raw, list) else str(raw)


def _default(attribute: attrs.Attribute[Any], draft: object) -> Any:
    default: Any = attribute.default
    if not isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        return default
    return default.factory(draft) if default.takes_self else default.factory()


def _set(draft: object, attribute: attrs.Attribute[Any], raw: Any) -> None:
    convert: Any = attribute.converter
    if isinstance(convert, attrs.Converter):
        custom: Any = convert
        raw = custom.converter(raw, *[draft] * custom.takes_self, *[attribute] * custom.takes_field)
    elif convert is not None:
        raw = convert(raw)
    object.__setattr__(draft, attribute.name, raw)


def _validate(draft: object, attribute: attrs.Attribute[Any], complete: bool) -> None:
    assert attribute.validator is not None
    try:
        attribute.validator(draft, attribute, getattr(draft, attribute.name))
    except AttributeError:
        if complete:  # otherwise it looks at a value that was itself refused
            raise


def _whole(raw: object) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    bare = raw.strip() if isinstance(raw, str) else ""
    write = f"{bare}, without quotes" if bare.isdecimal() else "one such as 5"
    raise ValueError(f"must be a whole number, not {shown(raw)}; write {write}")


def _amount(raw: object) -> Decimal:
    if isinstance(raw, str) and _AMOUNT.fullmatch(raw):
        raw = Decimal(raw)
    if isinstance(raw, bool) or not isinstance(raw, int | Decimal):
        raise ValueError(f'must be a number, not {shown(raw)}; write one such as "500" or "0.25"')
    amount = Decimal(raw)
    if not amount.is_finite() or amount.adjusted() >= DIGITS or int(amount.as_tuple().exponent) < -DIGITS:
        raise ValueError(f"must be a number of {DIGITS} digits at most before and after its point, not {amount}")
    return amount


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f'must be text, not {shown(raw)}; write it in quotes: "…"')
    return raw


def _switch(raw: object) -> bool:
    if not isinstance(raw, bool):
        raise ValueError(f"must be true or false, not {shown(raw)}; write it without quotes")
    return raw


def _time_of_day(raw: object) -> time:
    text = raw.isoformat() if isinstance(raw, time) else raw
    if not isinstance(text, str) or not _CLOCK.fullmatch(text):
        raise ValueError(f'must be a time of day, not {shown(raw)}; write "17:00"')
    return time.fromisoformat(text)


def _date(raw: object) -> date:
    if isinstance(raw, date) and not isinstance(raw, datetime):
        return raw
    try:
        if isinstance(raw, str) and _DATE.fullmatch(raw):
            return date.fromisoformat(raw)
    except ValueError:
        pass  # such as 2026-02-30
    raise ValueError(f'must be a date, not {shown(raw)}; write "2026-12-24"')


def _zone(raw: object) -> ZoneInfo:
    name = _text(raw)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        close = get_close_matches(name, available_timezones(), n=1)
        write = f"did you mean {close[0]}?" if close else 'write one such as "America/Chicago"'
        raise ValueError(f"is not a known time zone: {shown(name)}; {write}") from None


def _duration(raw: object) -> timedelta:
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
        return timedelta(seconds=raw)
    match = _DURATION.fullmatch(raw) if isinstance(raw, str) else None
    if match is None:
        raise ValueError(f'must be a duration, not {shown(raw)}; write seconds, or "90s", "15m" or "1h"')
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def _path(raw: object) -> Path:
    name = _text(raw)
    if not name.strip() or "\0" in name:
        raise ValueError(f"must be the path of a file, not {shown(name)}")
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise ValueError(f"names a home folder that cannot be found: {shown(name)}; write it out") from None


def _writer() -> Converter:
    writer = Converter(use_alias=True)
    writer.register_unstructure_hook(Decimal, lambda amount: f"{amount:f}")
    writer.register_unstructure_hook(date, date.isoformat)
    writer.register_unstructure_hook(time, lambda at: at.isoformat("seconds" if at.second else "minutes"))
    writer.register_unstructure_hook(timedelta, lambda duration: int(duration.total_seconds()))
    writer.register_unstructure_hook(ZoneInfo, str)
    writer.register_unstructure_hook_func(lambda kind: isinstance(kind, type) and issubclass(kind, Path), str)
    return writer


_WRITER = _writer()

_SCALARS: Mapping[Any, Callable[[object], Any]] = {
    int: _whole,
    Decimal: _amount,
    str: _text,
    bool: _switch,
    date: _date,
    time: _time_of_day,
    timedelta: _duration,
    ZoneInfo: _zone,
    Path: _path,
}
