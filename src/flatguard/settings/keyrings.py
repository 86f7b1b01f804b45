"""The keyring of the operating system, as far as it deserves the name: those that keep plain files are passed over.

Everything here blocks, and may open a window that waits for a person: call it in a thread.
"""

from __future__ import annotations

import keyring
from attrs import frozen
from keyring.backend import KeyringBackend
from keyring.errors import NoKeyringError, PasswordDeleteError

from flatguard.secret import Secret

API_KEY = "flatguard"
"""The service under which API keys are kept; the user is ``Login.name``."""

TOKEN_KEY = "flatguard token"
"""The service under which the keys of stored tokens are kept."""

NONE = "this system has no keyring"
PLAIN = "the keyring of this system (keyrings.alt) would keep it in a file that others can read"
_EMPTY_BACKENDS = {"keyring.backends.fail", "keyring.backends.null"}


@frozen
class Found:
    """What a keyring gave, or why it gave nothing."""

    secret: Secret | None
    why_not: str = ""


def usable() -> str:
    """Return why there is no keyring that can keep a secret; empty where there is one, as far as can be seen."""
    kinds = [type(backend).__module__ for backend in _backends()]
    if any(kind not in _EMPTY_BACKENDS and not _plain(kind) for kind in kinds):
        return ""
    return PLAIN if any(_plain(kind) for kind in kinds) else NONE


def read(service: str, name: str) -> Found:
    """Return what is kept under this name. Never raises for what a keyring does."""
    plain = False
    try:
        for backend in _backends():
            if _plain(type(backend).__module__):
                plain = True
            elif text := (backend.get_password(service, name) or "").strip():
                return Found(Secret(text))
    except NoKeyringError:
        return Found(None, NONE)
    except Exception as error:  # noqa: BLE001  a backend may raise anything; its text may quote what it stores
        return Found(None, f"the keyring of this system cannot be read ({type(error).__name__})")
    return Found(None, PLAIN if plain else "the keyring of this system holds none")


def keep(service: str, name: str, secret: Secret) -> str:
    """Keep a secret; return why it could not be kept, empty where it was. It is read back: some keep nothing."""
    if why_not := usable():
        return why_not
    failed = NONE
    for backend in _backends():
        if type(backend).__module__ in _EMPTY_BACKENDS or _plain(type(backend).__module__):
            continue
        try:
            backend.set_password(service, name, secret.reveal())
        except Exception as error:  # noqa: BLE001  as above
            failed = f"the keyring of this system takes nothing ({type(error).__name__})"
            continue
        if read(service, name).secret == secret:
            return ""
        failed = "the keyring of this system does not give back what it takes"
    return failed


def forget(service: str, name: str) -> bool:
    """Remove what is kept under this name from every keyring; return whether there was any."""
    forgotten = False
    for backend in _backends():
        try:
            if not _plain(type(backend).__module__) and backend.get_password(service, name):
                backend.delete_password(service, name)
                forgotten = True
        except PasswordDeleteError:
            pass
        except Exception:  # noqa: BLE001  as above
            continue  # the caller looks again, and says what is still there
    return forgotten


def _plain(module: str) -> bool:
    return module.startswith("keyrings.alt")


def _backends() -> tuple[KeyringBackend, ...]:
    """Return the keyrings in the order in which they are asked: several where they are chained."""
    try:
        chosen = keyring.get_keyring()
    except Exception:  # noqa: BLE001  as above
        return ()
    return tuple(getattr(chosen, "backends", None) or (chosen,))
