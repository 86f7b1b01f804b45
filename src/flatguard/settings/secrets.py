"""The API key: from the environment, else from the keyring of the operating system. Never from the settings file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NoReturn

import keyring
from keyring.backend import KeyringBackend
from keyring.errors import KeyringError, NoKeyringError

from flatguard.errors import InvalidSettings

SERVICE = "flatguard"
VARIABLE = "FLATGUARD_API_KEY"


class Secret:
    """A text that shows itself to nobody who does not call ``reveal``."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text. What is done with it must not end in a log, an error, a file or a process list."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")


def api_key(user_name: str, environ: Mapping[str, str]) -> Secret:
    """Return the API key of ``user_name``.

    Asking the keyring blocks, and may open a window that waits for a person: call this in a thread. Raises
    InvalidSettings where there is no key; its text names both ways to give one.
    """
    if text := environ.get(VARIABLE, "").strip():
        return Secret(text)
    try:
        text, found = _from_keyring(user_name)
    except NoKeyringError:
        text, found = "", "this system has no keyring"
    except (KeyringError, OSError, RuntimeError) as error:
        # a backend's text may quote what it stores; its kind says enough
        text, found = "", f"the keyring of this system cannot be read ({type(error).__name__})"
    if text:
        return Secret(text)
    raise InvalidSettings(
        f"there is no API key for {user_name}: {VARIABLE} is not set, and {found}",
        hint=f"set {VARIABLE}, or keep the key in the keyring: python -m keyring set {SERVICE} {user_name}",
    )


def _from_keyring(user_name: str) -> tuple[str, str]:
    """Return the key, or an empty text and why there is none."""
    refused = False
    for backend in _backends():
        if type(backend).__module__.startswith("keyrings.alt"):
            refused = True
        elif text := (backend.get_password(SERVICE, user_name) or "").strip():
            return text, ""
    if refused:
        return "", "the keyring of this system (keyrings.alt) would keep it in a file that others can read"
    return "", "the keyring of this system holds none"


def _backends() -> Iterable[KeyringBackend]:
    """Return the keyrings in the order in which they are asked: several where they are chained."""
    chosen = keyring.get_keyring()
    return getattr(chosen, "backends", None) or (chosen,)
