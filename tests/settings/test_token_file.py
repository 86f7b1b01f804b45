"""The stored token: sealed, used once more, and deleted where anything about it is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from keyring.errors import KeyringLocked, NoKeyringError

from flatguard.secret import Secret
from flatguard.settings.login import Login
from flatguard.settings.secrets import sealed_file
from flatguard.settings.token_file import Stored, TokenFile
from tests.fakes.keyring import Keyring, NoKeyring
from tests.settings.conftest import System

LOGIN = Login("trader1", "https://api.example.com")
TOKEN = Secret("eyJ.not-to-be.seen")
OPEN = {"FLATGUARD_KEY_PASSPHRASE": "correct horse"}


@pytest.fixture(params=["keyring", "passphrase"])
def file(system: System, request: pytest.FixtureRequest) -> TokenFile:
    """A place for a token, under either kind of key."""
    if request.param == "keyring":
        system(Keyring())
        return TokenFile(LOGIN, {})
    return TokenFile(LOGIN, OPEN)


@pytest.fixture
def path(file: TokenFile) -> Path:
    return sealed_file(LOGIN, "token")


def test_what_is_written_is_read_again_and_cannot_be_read_by_others(file: TokenFile, path: Path) -> None:
    assert file.read() == Stored()
    assert file.write(Secret("before")) == ""
    assert file.write(TOKEN) == ""
    assert file.read() == Stored(TOKEN)
    assert TOKEN.reveal().encode() not in path.read_bytes()
    assert list(path.parent.iterdir()) == [path]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("damage", ["cut", "foreign", "wide", "another's"])
def test_one_that_cannot_be_trusted_is_deleted_and_that_is_told_once(
    file: TokenFile, path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.name != "posix" and damage in {"wide", "another's"}:
        pytest.skip("permissions of POSIX")
    file.write(TOKEN)
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:100])
        case "foreign":
            other = TokenFile(Login("other", LOGIN.rest_url), OPEN)
            other.write(TOKEN)
            path.write_bytes(sealed_file(other.login, "token").read_bytes())
        case "wide":
            path.chmod(0o644)
        case _:
            monkeypatch.setattr("os.geteuid", lambda: 4711)
    found = file.read()
    assert found.token is None
    assert str(path) in found.trouble
    assert found.trouble.endswith("; it is deleted")
    assert not path.exists()
    assert file.read() == Stored()


def test_without_its_key_it_is_deleted(system: System) -> None:
    backend = system(Keyring())
    file = TokenFile(LOGIN, {})
    file.write(TOKEN)
    assert [service for service, _ in backend.kept] == ["flatguard token"]
    backend.kept.clear()
    assert "its key is gone" in file.read().trouble


@pytest.mark.parametrize("backend", [NoKeyring(failure=NoKeyringError()), Keyring(failure=KeyringLocked())])
def test_where_nothing_protects_it_it_is_not_stored(system: System, state: Path, backend: Keyring) -> None:
    system(backend)
    assert "kept in memory only" in TokenFile(LOGIN, {}).write(TOKEN)
    assert not list(state.rglob("*"))


def test_a_disk_that_takes_nothing_is_told_and_raises_nothing(
    file: TokenFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    assert file.write(TOKEN).endswith("No space left on device")
    assert not path.exists()


def test_it_is_removed_with_its_key(system: System) -> None:
    backend = system(Keyring())
    file = TokenFile(LOGIN, {})
    assert file.remove() is False
    file.write(TOKEN)
    assert file.remove() is True
    assert not backend.kept
    assert file.read() == Stored()
