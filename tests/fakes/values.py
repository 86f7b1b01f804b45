"""Hypothesis strategies for the model's values, read off the attrs classes, so that a new field is drawn at once."""

from __future__ import annotations

import types
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NewType, TypeVar, Union, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

import attrs
from hypothesis import strategies as st
from immutables import Map

T = TypeVar("T")

moments = st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(fold=0))
amounts = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4) | (
    st.sampled_from([Decimal("0.1"), Decimal("-0"), Decimal("1E+3"), Decimal("25000.00")])
)
ids = st.integers(1, 2**40)

PLAIN: Mapping[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=12),
    int: ids,
    bool: st.booleans(),
    Decimal: amounts,
    datetime: moments,
    date: st.dates(min_value=date(2020, 1, 1), max_value=date(2040, 1, 1)),
    time: st.just(time(17)),
    timedelta: st.timedeltas(),
    ZoneInfo: st.just(ZoneInfo("America/Chicago")),
    type(None): st.none(),
    Any: st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=3),
}


def drawn(kind: type[T], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[T]:
    """Return values of ``kind``: an attrs class, an enumeration, a union, a collection, or a plain type."""
    return _drawn(kind, fixed)


def _drawn(kind: Any, fixed: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    if isinstance(kind, NewType):
        kind = kind.__supertype__
    if kind in PLAIN:
        return PLAIN[kind]
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        return st.one_of(*(_drawn(part, {}) for part in arguments))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(_drawn(arguments[0], {}), max_size=2).map(tuple)
        return st.tuples(*(_drawn(part, {}) for part in arguments))
    if origin in {Mapping, Map}:
        rows = st.dictionaries(_drawn(arguments[0], {}), _drawn(arguments[1], {}), max_size=2)
        return rows.map(Map) if origin is Map else rows
    if isinstance(kind, type) and issubclass(kind, Enum):
        unknown = [kind(99)] if hasattr(kind, "_missing_") and issubclass(kind, int) else []
        return st.sampled_from([*kind, *unknown])
    hints = get_type_hints(kind)
    fields = {
        a.name: fixed[a.name] if a.name in fixed else _drawn(hints[a.name], {}) for a in attrs.fields(kind) if a.init
    }
    return st.builds(kind, **fields)
