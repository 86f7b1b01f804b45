"""Errors of ours become one line, a hint and a status; anything else is a bug and keeps its traceback."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from flatguard import cli as room
from flatguard.errors import AlreadyGuarded, FlatguardError, InvalidSettings, LoginRefused


def fails(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Callable[[], None]:
    def command(*, standalone_mode: bool) -> None:
        raise error

    monkeypatch.setattr(room, "cli", command)
    return room.main


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LoginRefused("no", hint="check the key"), 4),
        (BaseExceptionGroup("", [AlreadyGuarded("no", hint="check the key")]), 4),
        (ExceptionGroup("", [ExceptionGroup("", [InvalidSettings("no", hint="check the key")])]), 2),
    ],
)
def test_an_error_of_ours_is_one_line_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int
) -> None:
    with pytest.raises(SystemExit) as ended:
        fails(monkeypatch, error)()
    assert ended.value.code == status
    assert capsys.readouterr().err == "Error: no\nTry: check the key\n"


def test_an_error_without_a_hint_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fails(monkeypatch, FlatguardError("no"))()
    assert capsys.readouterr().err == "Error: no\n"


@pytest.mark.parametrize(
    "group",
    [
        ExceptionGroup("", [LoginRefused("no"), ZeroDivisionError()]),
        ExceptionGroup("", [ZeroDivisionError()]),
    ],
)
def test_a_bug_among_them_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, group: ExceptionGroup) -> None:
    with pytest.raises(ExceptionGroup):
        fails(monkeypatch, group)()
