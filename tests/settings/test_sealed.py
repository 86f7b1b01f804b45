"""A sealed text opens for its owner, with its passphrase, as it was written, and in no other case."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from flatguard.secret import Secret
from flatguard.settings.login import Login
from flatguard.settings.sealed import COST, Damaged, NotOpened, NotOurs, WrongPassphrase, seal, unseal

LOGIN = Login("trader1", "https://api.example.com")
RIGHT = Secret("correct horse")


@pytest.fixture(scope="module")
def sealed() -> dict[str, Any]:
    """A sealed text, to be changed."""
    return dict(json.loads(seal(Secret("text"), "token", LOGIN, RIGHT)))


def content(sealed: dict[str, Any], **changes: object) -> bytes:
    """Return the text with ``changes`` and a digest that agrees, as somebody writes it who knows how."""
    changed = {**sealed, **changes}
    del changed["digest"]
    octets = json.dumps(changed, sort_keys=True, separators=(",", ":")).encode()
    return json.dumps({**changed, "digest": hashlib.sha256(octets).hexdigest()}).encode()


def test_it_opens_as_it_was_written(sealed: dict[str, Any]) -> None:
    assert unseal(content(sealed), "token", LOGIN, RIGHT) == Secret("text")
    assert unseal(content(sealed), "token", Login("TRADER1", LOGIN.rest_url), RIGHT) == Secret("text")


def test_guessing_is_dear_and_no_two_are_alike(sealed: dict[str, Any]) -> None:
    again = json.loads(seal(Secret("text"), "token", LOGIN, RIGHT))
    assert sealed["n"] == COST >= 2**15
    assert all(sealed[name] != again[name] for name in ("salt", "nonce", "check", "data"))


@pytest.mark.parametrize(
    ("kind", "login"),
    [
        ("API key", LOGIN),
        ("token", Login("other", LOGIN.rest_url)),
        ("token", Login("trader1", "https://elsewhere.example.com")),
    ],
)
def test_it_is_of_one_kind_and_one_login(sealed: dict[str, Any], kind: str, login: Login) -> None:
    with pytest.raises(NotOurs):
        unseal(content(sealed), kind, login, RIGHT)


def test_another_passphrase_is_told(sealed: dict[str, Any]) -> None:
    with pytest.raises(WrongPassphrase):
        unseal(content(sealed), "token", LOGIN, Secret("wrong"))


def test_a_header_that_somebody_rewrote_for_another_login_does_not_open(sealed: dict[str, Any]) -> None:
    """The header is authenticated: or a file could be passed on from one account to another."""
    for changes, login in (
        ({"user_name": "other"}, Login("other", LOGIN.rest_url)),
        ({"service": "https://evil.example.com"}, Login("trader1", "https://evil.example.com")),
        ({"more": 1}, LOGIN),
    ):
        with pytest.raises(Damaged, match="changed by somebody"):
            unseal(content(sealed, **changes), "token", login, RIGHT)


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 2},
        {"n": 2**30},
        {"n": [1]},
        {"n": "32768"},
        {"r": 1},
        {"p": 99},
        {"kdf": "none"},
        {"version": 2},
        {"salt": 5},
        {"salt": "?"},
        {"check": None},
        {"nonce": ""},
        {"data": ""},
        {"data": 7},
        {"data": "AAAA"},
    ],
    ids=str,
)
def test_whatever_stands_in_it_it_opens_not_and_says_so(sealed: dict[str, Any], changes: dict[str, object]) -> None:
    with pytest.raises(NotOpened):
        unseal(content(sealed, **changes), "token", LOGIN, RIGHT)


def test_every_flipped_or_missing_byte_is_damage(sealed: dict[str, Any]) -> None:
    whole = content(sealed)
    for at in range(0, len(whole), 7):
        for octets in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            with pytest.raises(NotOpened):
                unseal(octets, "token", LOGIN, RIGHT)
