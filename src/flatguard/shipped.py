"""Files that come with the program."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

from flatguard.model.calendar import Calendar
from flatguard.model.calendar_file import load_calendar


def shipped(name: str) -> str:
    """Return the text of a file of the ``config`` folder, such as ``presets/topstep-50k.toml``.

    The folder is inside the installed package; in a source tree it stands beside ``src``. Raises
    ``FileNotFoundError``.
    """
    installed = files("flatguard") / "config" / name
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "config" / name).read_text(encoding="utf-8")


@cache
def shipped_calendar() -> Calendar:
    """Return the exchange calendar that comes with the program."""
    return load_calendar(shipped("calendars/cme_globex.toml"))
