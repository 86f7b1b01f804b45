from __future__ import annotations

from pathlib import Path

import pytest

from flatguard.signalr import Role, State
from flatguard.signalr._diagram import section

PAGE = Path(__file__).parents[2] / "docs" / "signalr.md"


@pytest.mark.parametrize("role", Role)
def test_the_page_shows_the_table_as_it_is(role: Role) -> None:
    assert section(role) in PAGE.read_text("utf-8"), (
        f"docs/signalr.md is out of date; the section of a {role} must read:\n\n{section(role)}"
    )


@pytest.mark.parametrize("state", State)
def test_the_page_explains_every_state(state: State) -> None:
    assert f"| `{state}` |" in PAGE.read_text("utf-8")
