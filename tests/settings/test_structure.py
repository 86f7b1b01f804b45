"""Whatever shape a rule gives its settings, they are read exactly and every objection is told.

The rules of other distributions may use all of this; ours use part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import attrs
import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st

from flatguard.settings.structure import UNREADABLE, Found, Reading, as_written, kinds_of

MIDNIGHT = datetime(2026, 12, 24, tzinfo=UTC)


def reading() -> Reading:
    return Reading(Path("config.toml"), {})


def read(raw: Any, kind: Any) -> Any:
    """Structure ``raw``, which must be good."""
    one = reading()
    value = one.value(raw, ("key",), kind)
    assert one.errors == []
    return value


def refused(raw: Any, kind: Any) -> list[str]:
    """Return what is wrong with ``raw``, without file and line."""
    one = reading()
    assert one.value(raw, ("key",), kind) is UNREADABLE
    return [error.removeprefix("config.toml:1: ") for error in one.errors]


def at_least_one(_owner: object, _field: object, number: int) -> None:
    if number < 1:
        raise ValueError("must be 1 or more")


@frozen
class Step:
    """A table within an array."""

    loss: Decimal
    pause: timedelta = timedelta(minutes=5)


@frozen
class Window:
    """A table within a table, with a limit that looks at its neighbour."""

    start: time
    end: time = field()
    days: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: Sequence[Step] = ()
    names: Mapping[str, Step] = field(factory=dict)
    closed: bool | None = None
    last: date | None = None

    @end.validator
    def _after_start(self, _field: object, end: time) -> None:
        if end <= self.start:
            raise ValueError("must be later than start")


GOOD: dict[str, Any] = {
    "start": "08:30",
    "end": "15:10",
    "days": [0, 4],
    "steps": [{"loss": "100"}, {"loss": 200, "pause": "15m"}],
    "names": {"a b": {"loss": "1"}},
    "closed": True,
}


def test_tables_within_tables_and_arrays_are_read() -> None:
    assert read(GOOD, Window) == Window(
        start=time(8, 30),
        end=time(15, 10),
        days=(0, 4),
        steps=(Step(Decimal(100)), Step(Decimal(200), timedelta(minutes=15))),
        names={"a b": Step(Decimal(1))},
        closed=True,
    )


def test_what_is_deep_inside_is_refused_by_its_whole_path() -> None:
    bad = {
        "start": "08:30",
        "end": "08:30",
        "days": [0, "one"],
        "steps": [{"loss": "1"}, {"los": "1"}, 7],
        "names": {"a b": {"loss": "x", "pause": "soon"}},
    }
    assert refused(bad, Window) == [
        'key.days[1]: must be a whole number, not "one"; write one such as 5',
        "key.steps[1].los: is not known here; did you mean loss?",
        "key.steps[1].loss: is missing and has no default; write loss = …",
        "key.steps[2]: must be a table, not 7; write [key.steps[2]]",
        "key.steps[2].loss: is missing and has no default; write loss = …",
        'key.names."a b".loss: must be a number, not "x"; write one such as "500" or "0.25"',
        'key.names."a b".pause: must be a duration, not "soon"; write seconds, or "90s", "15m" or "1h"',
        "key.end: must be later than start",
    ]


def test_a_check_that_needs_a_refused_neighbour_waits_until_that_is_mended() -> None:
    assert refused({"start": "8:30", "end": "15:10"}, Window) == [
        'key.start: must be a time of day, not "8:30"; write "17:00"'
    ]


@pytest.mark.parametrize(
    ("raw", "kind", "value"),
    [
        (90, timedelta, timedelta(seconds=90)),
        ("90s", timedelta, timedelta(seconds=90)),
        ("15m", timedelta, timedelta(minutes=15)),
        ("1h", timedelta, timedelta(hours=1)),
        (["a"], list[str], ["a"]),
        (["a", "a"], frozenset[str], frozenset({"a"})),
        (["a"], tuple[str, ...], ("a",)),
        (3, Literal[1, 3], 3),
        ("5", Decimal, Decimal(5)),
        (-3, Decimal, Decimal(-3)),
        ("2026-12-24", date, date(2026, 12, 24)),
        (date(2026, 12, 24), date, date(2026, 12, 24)),
        ("Europe/Berlin", ZoneInfo, ZoneInfo("Europe/Berlin")),
    ],
)
def test_a_value_becomes_what_its_field_is(raw: Any, kind: Any, value: Any) -> None:
    assert read(raw, kind) == value
    assert type(read(raw, kind)) is type(value)


@pytest.mark.parametrize(
    ("raw", "kind", "error"),
    [
        ("MNQ", tuple[str, ...], 'must be an array, not "MNQ"; write [value, value]'),
        ({}, list[str], "must be an array, not a table; write [value, value]"),
        ([], str, 'must be text, not an array; write it in quotes: "…"'),
        (True, timedelta, 'must be a duration, not true; write seconds, or "90s", "15m" or "1h"'),
        (-1, timedelta, 'must be a duration, not -1; write seconds, or "90s", "15m" or "1h"'),
        (2, Literal[1, 3], "must be 1 or 3, not 2"),
        ("b", Literal["a"], 'must be "a", not "b"'),
        ("x" * 99, Literal["a"], f'must be "a", not "{"x" * 59}…"'),
        (True, Decimal, 'must be a number, not true; write one such as "500" or "0.25"'),
        ("5_0", Decimal, 'must be a number, not "5_0"; write one such as "500" or "0.25"'),
        ("٥", Decimal, 'must be a number, not "٥"; write one such as "500" or "0.25"'),
        (10**15, Decimal, f"must be a number of 15 digits at most before and after its point, not {10**15}"),
        ("24.12.2026", date, 'must be a date, not "24.12.2026"; write "2026-12-24"'),
        ("2026-02-30", date, 'must be a date, not "2026-02-30"; write "2026-12-24"'),
        (
            datetime(2026, 12, 24, 9, tzinfo=UTC),
            date,
            'must be a date, not 2026-12-24 09:00:00+00:00; write "2026-12-24"',
        ),
        ("", ZoneInfo, 'is not a known time zone: ""; write one such as "America/Chicago"'),
    ],
)
def test_what_does_not_fit_is_refused_with_what_to_write(raw: Any, kind: Any, error: str) -> None:
    assert refused(raw, kind) == [f"key: {error}"]


@pytest.mark.parametrize("kind", [complex, tuple[int, str], int | str])
def test_a_field_of_a_kind_that_no_file_can_hold_is_the_programmers_mistake(kind: Any) -> None:
    with pytest.raises(TypeError, match="a setting cannot be a"):
        reading().value([1], ("key",), kind)


@frozen
class Peculiar:
    """Uses what attrs offers for fields."""

    size: int = field(
        default=1, converter=attrs.Converter(lambda v, owner, _: v * owner.unit, takes_self=True, takes_field=True)
    )  # type: ignore[call-overload]
    twice: int = field(default=attrs.Factory(lambda self: self.unit * 2, takes_self=True), validator=at_least_one)
    _hidden: int = 0
    computed: int = field(init=False, default=7)
    unit = 10

    def __attrs_post_init__(self) -> None:
        if self._hidden > self.size:
            raise ValueError("hidden must not be above size")


def test_defaults_converters_and_private_fields_work_as_attrs_has_them() -> None:
    assert set(kinds_of(Peculiar)) == {"size", "twice", "hidden"}
    assert read({"size": 2, "hidden": 3}, Peculiar) == Peculiar(size=2, hidden=3)
    assert read({}, Peculiar).size == 10


def test_an_objection_of_the_class_as_a_whole_stands_at_its_table() -> None:
    assert refused({"hidden": 11}, Peculiar) == ["key: hidden must not be above size"]
    assert refused({"twice": 0}, Peculiar) == ["key.twice: must be 1 or more"]


@frozen
class Broken:
    """Its validator has a slip."""

    size: int = field(default=1)

    @size.validator
    def _slip(self, _field: object, _size: int) -> None:
        self.no_such_field  # type: ignore[attr-defined]  # noqa: B018


def test_a_validators_own_slip_is_not_hidden() -> None:
    with pytest.raises(AttributeError):
        reading().build(Broken, {"size": Found(1, ("size",))}, ())


@frozen
class Wordless:
    """Its converter objects without a word."""

    size: int = field(converter=lambda _: (_ for _ in ()).throw(ValueError))


def test_an_objection_without_words_is_named_by_its_kind() -> None:
    assert refused({"size": 1}, Wordless) == ["key.size: ValueError"]


WINDOWS = st.builds(
    Window,
    start=st.just(time(0)),
    end=st.times(min_value=time(0, 0, 1)).map(lambda at: at.replace(microsecond=0)),
    days=st.lists(st.integers(0, 6)).map(tuple),
    steps=st.lists(
        st.builds(Step, st.decimals(1, 999, places=2), st.integers(0, 9999).map(lambda s: timedelta(seconds=s)))
    ).map(tuple),
    names=st.dictionaries(st.text(), st.builds(Step, st.decimals(1, 999, places=4))),
    closed=st.booleans(),
    last=st.dates(),
)


@given(WINDOWS)
def test_what_is_written_is_read_back(window: Window) -> None:
    assert read(as_written(window), Window) == window
