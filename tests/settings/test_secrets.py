"""The API key is found where it may be, stored where others cannot read it, and shown nowhere."""

from __future__ import annotations

import copy
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from keyring.errors import InitError, KeyringLocked, NoKeyringError

from flatguard.errors import FlatguardError, InvalidSettings
from flatguard.secret import Secret
from flatguard.settings.login import Login
from flatguard.settings.secrets import api_key, check_place, forget_api_key, keep_api_key, passphrase, sealed_file
from tests.fakes.keyring import Chain, Keyring, NoKeyring, PlaintextKeyring
from tests.settings.conftest import System

KEY = "not-to-be-seen"
LOGIN = Login("trader1", "https://api.example.com")
ENTRY = ("flatguard", "trader1@https://api.example.com")
HOLDING = {ENTRY: KEY}
OPEN = {"FLATGUARD_KEY_PASSPHRASE": "correct horse"}
posix = pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")


# --- Finding it ---


def test_the_environment_wins_over_the_keyring(system: System) -> None:
    system(Keyring({ENTRY: "another"}))
    assert api_key(LOGIN, {"FLATGUARD_API_KEY": f" {KEY}\n"}).reveal() == KEY


@pytest.mark.parametrize("environ", [{}, {"FLATGUARD_API_KEY": " "}])
def test_the_keyring_is_asked_for_this_user_at_this_gateway(system: System, environ: dict[str, str]) -> None:
    """A key given to another gateway than its own would be given away."""
    others = {("flatguard", "other@https://api.example.com"): "no", ("flatguard", "trader1@https://elsewhere"): "no"}
    system(Keyring(HOLDING | others))
    assert api_key(LOGIN, environ).reveal() == KEY
    assert api_key(Login("Trader1", LOGIN.rest_url), environ).reveal() == KEY


def test_a_chain_of_keyrings_is_asked_in_order_without_those_that_keep_plain_files(system: System) -> None:
    system(Chain(PlaintextKeyring({ENTRY: "plain"}), Keyring(), Keyring(HOLDING)))
    assert api_key(LOGIN, {}).reveal() == KEY


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (Keyring(), "the keyring of this system holds none"),
        (Chain(), "the keyring of this system holds none"),
        (Keyring(failure=NoKeyringError(KEY)), "this system has no keyring"),
        (Keyring(failure=KeyringLocked(KEY)), "the keyring of this system cannot be read (KeyringLocked)"),
        (Keyring(failure=InitError(KEY)), "the keyring of this system cannot be read (InitError)"),
        (Keyring(failure=OSError(KEY)), "the keyring of this system cannot be read (OSError)"),
        (
            PlaintextKeyring(HOLDING),
            "the keyring of this system (keyrings.alt) would keep it in a file that others can read",
        ),
    ],
)
def test_without_a_key_the_error_names_every_place_and_the_command_that_stores_it(
    system: System, backend: Keyring, reason: str
) -> None:
    system(backend)
    with pytest.raises(InvalidSettings) as caught:
        api_key(LOGIN, {})
    assert str(caught.value) == (
        "there is no API key for trader1 at https://api.example.com: FLATGUARD_API_KEY is not set, "
        f"{reason}, and there is no file {sealed_file(LOGIN, 'key')}"
    )
    assert caught.value.hint == "flatguard login, which stores it; or set FLATGUARD_API_KEY"
    assert caught.value.exit_status == 2
    assert KEY not in repr(caught.value) + str(caught.value)


# --- Storing it in a keyring ---


def test_it_is_stored_in_the_keyring_where_there_is_one_and_nowhere_else(system: System, state: Path) -> None:
    backend = system(Keyring())
    assert keep_api_key(LOGIN, Secret(KEY), OPEN) == "in the keyring of this system"
    assert backend.kept == HOLDING
    assert not list(state.rglob("*"))


@pytest.mark.parametrize(
    "backend",
    [
        NoKeyring(failure=NoKeyringError()),
        PlaintextKeyring(),
        Keyring(failure=KeyringLocked()),
        Keyring(forgetful=True),
        Chain(NoKeyring(failure=NoKeyringError()), PlaintextKeyring()),
    ],
    ids=["none", "plain file", "locked", "keeps nothing", "chain of none"],
)
def test_where_no_keyring_keeps_it_it_is_sealed_in_a_file_that_opens_again(
    system: System, state: Path, backend: Keyring
) -> None:
    system(backend)
    path = sealed_file(LOGIN, "key")
    assert str(path) in keep_api_key(LOGIN, Secret(KEY), OPEN)
    assert not backend.kept
    assert api_key(LOGIN, OPEN).reveal() == KEY
    assert KEY.encode() not in path.read_bytes()
    assert list(path.parent.iterdir()) == [path]


def test_a_keyring_that_comes_later_takes_the_place_of_the_file(system: System) -> None:
    keep_api_key(LOGIN, Secret("old"), OPEN)
    system(Keyring())
    keep_api_key(LOGIN, Secret(KEY), OPEN)
    assert not sealed_file(LOGIN, "key").exists()


def test_without_a_keyring_and_a_passphrase_there_is_no_place_and_that_is_known_before_the_key(system: System) -> None:
    for ask in (lambda: check_place({}), lambda: keep_api_key(LOGIN, Secret(KEY), {})):
        with pytest.raises(InvalidSettings, match="no place for the API key: this system has no keyring") as caught:
            ask()
        assert "FLATGUARD_API_KEY" in caught.value.hint
    check_place(OPEN)
    system(Keyring())
    check_place({})


# --- The sealed file ---


@pytest.fixture
def sealed(system: System) -> Path:
    """A sealed key on a machine without keyring."""
    keep_api_key(LOGIN, Secret(KEY), OPEN)
    return sealed_file(LOGIN, "key")


def refusal(environ: dict[str, str]) -> FlatguardError:
    with pytest.raises(InvalidSettings) as caught:
        api_key(LOGIN, environ)
    assert KEY not in str(caught.value) + caught.value.hint
    assert caught.value.hint
    return caught.value


@posix
def test_it_is_for_its_owner_alone_and_so_is_its_folder(sealed: Path) -> None:
    assert sealed.stat().st_mode & 0o777 == 0o600
    assert sealed.parent.stat().st_mode & 0o777 == 0o700


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_one_that_others_may_read_is_refused_with_the_command_that_mends_it(sealed: Path, mode: int) -> None:
    sealed.chmod(mode)
    error = refusal(OPEN)
    assert f"{sealed} can be read or written by others (mode {mode:04o})" in str(error)
    assert error.hint.startswith(f"chmod 600 {sealed}")


def test_a_wrong_passphrase_and_a_damaged_file_are_told_apart(sealed: Path) -> None:
    assert "another passphrase than the one in FLATGUARD_KEY_PASSPHRASE" in str(
        refusal({"FLATGUARD_KEY_PASSPHRASE": "wrong"})
    )
    content = sealed.read_bytes()
    for damage in (content[: len(content) // 2], b"", content.replace(b'"data": "', b'"data": "A'), b"[]", b"null"):
        sealed.write_bytes(damage)
        assert str(refusal(OPEN)) == f"{sealed} cannot be used: it is damaged"


def test_without_a_passphrase_the_error_says_which_file_waits_for_one(sealed: Path) -> None:
    error = refusal({})
    assert f"sealed in {sealed}" in str(error)
    assert "FLATGUARD_KEY_PASSPHRASE_FILE" in error.hint


def test_the_passphrase_may_stand_in_a_file(sealed: Path, tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    environ = {"FLATGUARD_KEY_PASSPHRASE_FILE": str(file)}
    assert api_key(LOGIN, environ).reveal() == KEY
    file.write_text("wrong")
    assert f"the one in {file}" in str(refusal(environ))
    file.write_text("\n")
    assert "is empty" in str(refusal(environ))
    file.unlink()
    assert "No such file" in str(refusal(environ))
    if os.name == "posix":
        file.write_text("correct horse")
        file.chmod(0o604)
        assert refusal(environ).hint == f"chmod 600 {file}"


def test_the_passphrase_is_none_where_none_is_set() -> None:
    assert passphrase({}) is None
    assert passphrase({"FLATGUARD_KEY_PASSPHRASE": "", "FLATGUARD_KEY_PASSPHRASE_FILE": " "}) is None


@posix
def test_a_link_in_place_of_the_file_is_not_followed(sealed: Path) -> None:
    aside = sealed.with_suffix(".aside")
    sealed.rename(aside)
    sealed.symlink_to(aside)
    assert "cannot be read" in str(refusal(OPEN))


@posix
def test_a_file_of_another_user_is_refused(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    assert "belongs to another user" in str(refusal(OPEN))


def test_a_write_that_fails_leaves_the_old_key(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(InvalidSettings, match="No space left"):
        keep_api_key(LOGIN, Secret("new"), OPEN)
    assert api_key(LOGIN, OPEN).reveal() == KEY
    assert list(sealed.parent.iterdir()) == [sealed]


# --- Removing it ---


def test_it_is_removed_from_every_place_and_that_is_said(system: System, sealed: Path) -> None:
    backend = system(Keyring(dict(HOLDING)))
    removed = forget_api_key(LOGIN)
    assert removed.done == ("the API key in the keyring of this system", f"the sealed API key, {sealed}")
    assert removed.left == ()
    assert not backend.kept
    assert not sealed.exists()
    assert forget_api_key(LOGIN).done == ()


def test_what_a_keyring_does_not_give_up_is_said_to_be_there_still(system: System) -> None:
    class Stubborn(Keyring):
        def delete_password(self, service: str, username: str) -> None:
            raise KeyringLocked("locked")

    system(Stubborn(dict(HOLDING)))
    removed = forget_api_key(LOGIN)
    assert removed.done == ()
    assert "remove it there by hand" in removed.left[0]


# --- Secret ---


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{0!r:>20}".format, lambda secret: f"{[secret]}"])
def test_a_secret_never_shows_itself(show: Callable[[Any], str]) -> None:
    assert KEY not in show(Secret(KEY))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_secret_is_neither_copied_nor_pickled(copied: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        copied(Secret(KEY))


def test_secrets_are_equal_where_their_texts_are(system: System) -> None:
    assert Secret(KEY) == Secret(KEY) != Secret("other")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY), Secret("\udcff")}) == 2
    assert not Secret("")


@pytest.mark.skipif(sys.platform == "win32", reason="reads modules by a POSIX command line")
def test_reading_settings_does_not_load_cryptography() -> None:
    """``status`` has to start fast."""
    import subprocess

    code = "import flatguard.cli.status, sys; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
