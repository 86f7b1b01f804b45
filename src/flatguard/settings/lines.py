"""Where each value stands in a TOML text. The parser of the standard library does not tell, and an error should.

Only texts that the parser has accepted come here, so what follows knows where things begin and end, and nothing of
what they mean.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping

from attrs import define, field

Place = tuple[str | int, ...]
"""Where a value stands: keys, and numbers (from 0) within arrays."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}'  # up to two quotation marks may stand before the closing three
    r"|'''.*?'{3,5}"
    r'|"(?:[^"\\]|\\.)*"'
    r"|'[^']*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_OTHER_VALUE = re.compile(r"[^,\]}#\r\n]+")


def lines_of(text: str) -> Mapping[Place, int]:
    """Return the line (from 1) of every table, key and array element of ``text``, which must be valid TOML.

    A table's line is that of its header where it has one, else that of the first key which implies it.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.found


@define
class _Scanner:
    text: str
    at: int = 0
    found: dict[Place, int] = field(factory=dict)
    _array_sizes: dict[Place, int] = field(factory=dict)
    _line_ends: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._line_ends = [match.start() for match in re.finditer("\n", self.text)]

    def document(self) -> None:
        table: Place = ()
        self._take(_BLANK)
        while self.at < len(self.text):
            table = self._header() if self.text[self.at] == "[" else self._pair(table)
            self._take(_BLANK)

    def _header(self) -> Place:
        line, brackets = self._line(), 2 if self.text.startswith("[[", self.at) else 1
        self.at += brackets
        *parents, last = self._key()
        self.at += brackets
        table: Place = ()
        for key in parents:
            table = (*table, key)
            self.found.setdefault(table, line)
            if table in self._array_sizes:
                table = (*table, self._array_sizes[table] - 1)
        table = (*table, last)
        if brackets == 1:
            self.found[table] = line
            return table
        self.found.setdefault(table, line)
        index = self._array_sizes.get(table, 0)
        self._array_sizes[table] = index + 1
        self.found[*table, index] = line
        return (*table, index)

    def _pair(self, table: Place) -> Place:
        line, place = self._line(), table
        for key in self._key():
            place = (*place, key)
            self.found.setdefault(place, line)
        self.at += 1  # the equals sign
        self._value(place)
        return table

    def _key(self) -> list[str]:
        """Read a dotted key and the space around it."""
        keys = []
        while True:
            self._take(_SPACE)
            quoted = self.text[self.at] in "\"'"
            token = self._take(_STRING if quoted else _BARE_KEY)
            keys.append(tomllib.loads(f"key = {token}")["key"] if quoted else token)
            self._take(_SPACE)
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def _value(self, place: Place) -> None:
        self._take(_SPACE)
        opening = self.text[self.at]
        if opening == "[":
            self.at += 1
            index = 0
            while self._another("]"):
                self.found[*place, index] = self._line()
                self._value((*place, index))
                index += 1
        elif opening == "{":
            self.at += 1
            while self._another("}"):
                self._pair(place)
        else:
            self._take(_STRING if opening in "\"'" else _OTHER_VALUE)

    def _another(self, closing: str) -> bool:
        """Step to the next element, over a comma, and return True; past ``closing`` where there is none."""
        self._take(_BLANK)
        if self.text[self.at] == ",":
            self.at += 1
            self._take(_BLANK)
        if self.text[self.at] != closing:
            return True
        self.at += 1
        return False

    def _line(self) -> int:
        return bisect_right(self._line_ends, self.at) + 1

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        assert match is not None, f"not valid TOML at character {self.at}"
        self.at = match.end()
        return match.group()
