"""A machine of its own for each test of secrets: a state folder, and a keyring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keyring
import pytest

from tests.fakes.keyring import Keyring, NoKeyring

System = Callable[[Keyring], Keyring]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state folder of this test alone."""
    folder = tmp_path / "state"
    monkeypatch.setattr("flatguard.settings.paths.state_folder", lambda: folder)
    return folder


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, state: Path) -> System:
    """Let the system have this keyring; it has none until then."""

    def use(backend: Keyring) -> Keyring:
        monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
        return backend

    use(NoKeyring())
    return use
