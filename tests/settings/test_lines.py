"""Every value's line is found, however the text is laid out."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from flatguard.settings.lines import Place, lines_of

NASTY = """\
# a comment with = and [brackets] and "quotes"
top = 1
dotted.key."with space" . 'and # dot.' = 2   # trailing

[ plain ]
string = "a # not a comment, \\" not the end ]"
literal = 'C:\\no\\escapes\\'
multi = \"\"\"
[not.a.header]
k = 1 \\\"\"\" still inside
two quotes end it: \"\"\"\"\"
after_multi = 1
raw = '''
# inside ''
'''''
after_raw = 1
empty = \"\"\"\"\"\"
date = 1979-05-27 07:32:00
array = [
  1, # one, [
  "]",

  [ 2, [ ] ],
  { deep = "x", in.line = [
    3 ] },
]
inline = { a = 1, b.c = { d = '}' }, "e,f" = "{" }

[[many]]
name = 1
[many.sub]
x = 1
[[many.sub.again]]
y = 1
[[many.sub.again]]
y = 2

[[many]]
name = 2
[many.sub]
x = 2

[a.b.c]
k = 1
[a]
k = 2
"key\\twith\\u0041escapes" = 3
["quoted . table".'x y']
k = 1
last = true"""


def places_in(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every place of a parsed document, its root left out."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        yield from places_in(inner, (*place, key))


NASTY_LINES = {
    ("top",): 2,
    ("dotted",): 3,
    ("dotted", "key", "with space", "and # dot."): 3,
    ("plain",): 5,
    ("plain", "string"): 6,
    ("plain", "literal"): 7,
    ("plain", "multi"): 8,
    ("plain", "after_multi"): 12,
    ("plain", "raw"): 13,
    ("plain", "after_raw"): 16,
    ("plain", "empty"): 17,
    ("plain", "date"): 18,
    ("plain", "array"): 19,
    ("plain", "array", 0): 20,
    ("plain", "array", 1): 21,
    ("plain", "array", 2): 23,
    ("plain", "array", 2, 1): 23,
    ("plain", "array", 3): 24,
    ("plain", "array", 3, "deep"): 24,
    ("plain", "array", 3, "in", "line"): 24,
    ("plain", "array", 3, "in", "line", 0): 25,
    ("plain", "inline"): 27,
    ("plain", "inline", "b", "c", "d"): 27,
    ("plain", "inline", "e,f"): 27,
    ("many",): 29,
    ("many", 0): 29,
    ("many", 0, "name"): 30,
    ("many", 0, "sub"): 31,
    ("many", 0, "sub", "x"): 32,
    ("many", 0, "sub", "again"): 33,
    ("many", 0, "sub", "again", 0, "y"): 34,
    ("many", 0, "sub", "again", 1): 35,
    ("many", 0, "sub", "again", 1, "y"): 36,
    ("many", 1): 38,
    ("many", 1, "sub"): 40,
    ("many", 1, "sub", "x"): 41,
    ("a", "b"): 43,
    ("a", "b", "c", "k"): 44,
    ("a", "k"): 46,
    ("a", "key\twithAescapes"): 47,
    ("quoted . table", "x y", "k"): 49,
    ("quoted . table", "x y", "last"): 50,
}


@pytest.mark.parametrize(("place", "line"), NASTY_LINES.items())
def test_a_nasty_text_has_every_value_on_its_line(place: Place, line: int) -> None:
    assert lines_of(NASTY)[place] == line


def test_a_table_implied_first_and_written_later_has_the_line_of_its_header() -> None:
    assert lines_of(NASTY)["a",] == 45


@pytest.mark.parametrize("text", [NASTY, NASTY.replace("\n", "\r\n"), NASTY + "\n", "", "# nothing", "\n\n"])
def test_all_places_of_a_document_are_found_and_no_others(text: str) -> None:
    assert set(lines_of(text)) == set(places_in(tomllib.loads(text)))


def test_line_endings_of_windows_do_not_shift_lines() -> None:
    assert lines_of(NASTY) == lines_of(NASTY.replace("\n", "\r\n"))


PIECES = ['"', "'", '"""', "\\", "\n", "\r\n", "#", "=", "[", "]", "{", "}", ",", ".", " ", "\t", "é", "a"]
SPOILS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """TOML documents in which every key and every leaf bears a mark that occurs once."""
    marks = (f"<{number}>" for number in itertools.count())
    leaves = st.builds(lambda spoil: next(marks) + spoil, SPOILS)
    keys = st.builds(lambda spoil: next(marks) + spoil, SPOILS)
    trees = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
        max_leaves=12,
    )
    return draw(st.dictionaries(keys, trees, max_size=4))


@given(documents(), st.booleans())
def test_every_mark_stands_on_the_line_of_its_place(document: dict[str, Any], multiline: bool) -> None:
    text = tomli_w.dumps(document, multiline_strings=multiline)
    found = lines_of(text)
    assert set(found) == set(places_in(document))
    rows = text.split("\n")
    for place, line in found.items():
        row = rows[line - 1]
        value: Any = document
        for part in place:
            value = value[part]
        key = place[-1]
        if isinstance(key, str):
            assert key.split(">")[0] + ">" in row
        if isinstance(value, str):
            mark = value.split(">")[0] + ">"
            assert mark in row or (row.endswith('"""') and mark in rows[line])
