"""The API key is found where it may be, and shown nowhere."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import keyring
import pytest
from keyring.errors import InitError, KeyringLocked, NoKeyringError

from flatguard.errors import InvalidSettings
from flatguard.settings.secrets import Secret, api_key

KEY = "not-to-be-seen"


class Keyring:
    """A keyring that holds what it was given, or fails as it was told.

    It does not derive from the library's base class, which would register it for every later test.
    """

    def __init__(self, kept: dict[tuple[str, str], str], failure: Exception | None = None) -> None:
        self.kept = kept
        self.failure = failure

    def get_password(self, service: str, username: str) -> str | None:
        if self.failure is not None:
            raise self.failure
        return self.kept.get((service, username))


class PlaintextKeyring(Keyring):
    """One that keeps what it is given in a readable file."""


PlaintextKeyring.__module__ = "keyrings.alt.file"


class Chain(Keyring):
    """Several keyrings, asked in order."""

    def __init__(self, *backends: Keyring) -> None:
        super().__init__({})
        self.backends = backends


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Callable[[Keyring], None]:
    """Let the system have this keyring."""
    return lambda backend: monkeypatch.setattr(keyring, "get_keyring", lambda: backend)


HOLDING = {("flatguard", "trader1"): KEY}


def test_the_environment_wins_over_the_keyring(system: Callable[..., None]) -> None:
    system(Keyring({("flatguard", "trader1"): "another"}))
    assert api_key("trader1", {"FLATGUARD_API_KEY": f" {KEY}\n"}).reveal() == KEY


@pytest.mark.parametrize("environ", [{}, {"FLATGUARD_API_KEY": " "}])
def test_the_keyring_is_asked_for_this_user(system: Callable[..., None], environ: dict[str, str]) -> None:
    system(Keyring(HOLDING | {("flatguard", "other"): "another"}))
    assert api_key("trader1", environ).reveal() == KEY


def test_a_chain_of_keyrings_is_asked_in_order_without_those_that_keep_plain_files(system: Callable[..., None]) -> None:
    system(Chain(PlaintextKeyring({("flatguard", "trader1"): "plain"}), Keyring({}), Keyring(HOLDING)))
    assert api_key("trader1", {}).reveal() == KEY


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (Keyring({}), "the keyring of this system holds none"),
        (Chain(), "the keyring of this system holds none"),
        (Keyring({}, NoKeyringError(KEY)), "this system has no keyring"),
        (Keyring({}, KeyringLocked(KEY)), "the keyring of this system cannot be read (KeyringLocked)"),
        (Keyring({}, InitError(KEY)), "the keyring of this system cannot be read (InitError)"),
        (Keyring({}, OSError(KEY)), "the keyring of this system cannot be read (OSError)"),
        (
            PlaintextKeyring(HOLDING),
            "the keyring of this system (keyrings.alt) would keep it in a file that others can read",
        ),
    ],
)
def test_without_a_key_the_error_names_the_reason_and_both_ways_to_give_one(
    system: Callable[..., None], backend: Keyring, reason: str
) -> None:
    system(backend)
    with pytest.raises(InvalidSettings) as caught:
        api_key("trader1", {})
    assert str(caught.value) == f"there is no API key for trader1: FLATGUARD_API_KEY is not set, and {reason}"
    assert caught.value.hint == (
        "set FLATGUARD_API_KEY, or keep the key in the keyring: python -m keyring set flatguard trader1"
    )
    assert caught.value.exit_status == 2
    assert KEY not in repr(caught.value) + str(caught.value)


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{0!r:>20}".format, lambda secret: f"{[secret]}"])
def test_a_secret_never_shows_itself(show: Callable[[Any], str]) -> None:
    assert KEY not in show(Secret(KEY))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_secret_is_neither_copied_nor_pickled(copied: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        copied(Secret(KEY))
