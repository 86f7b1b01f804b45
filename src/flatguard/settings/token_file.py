"""The session token between two runs, where the settings want that: a sealed file, under a random key of its own.

The random key is in the system's keyring; where there is none, the file is sealed with the passphrase of the API key's
file instead. A token is replaced by a login, so whatever is wrong with a stored one ends it: it is deleted, and told.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping

from attrs import frozen

from flatguard.errors import FlatguardError
from flatguard.secret import Secret
from flatguard.settings import keyrings
from flatguard.settings.login import Login
from flatguard.settings.private_file import read_private, remove_private, write_private
from flatguard.settings.sealed import seal, unseal
from flatguard.settings.secrets import PASSPHRASE, passphrase, sealed_file

KIND = "token"


@frozen
class Stored:
    """A stored token, or what to tell of it once; neither where none is stored."""

    token: Secret | None = None
    trouble: str = ""


@frozen
class TokenFile:
    """Where the token of one login is kept. Its methods block, as the keyring does, and never raise for the disk."""

    login: Login
    environ: Mapping[str, str]

    def read(self) -> Stored:
        """Return the stored token. One that cannot be used is deleted."""
        path = sealed_file(self.login, KIND)
        try:
            content = read_private(path)
            if content is None:
                return Stored()
            lock = self._lock()
            if lock is not None:
                return Stored(unseal(content, KIND, self.login, lock))
            why = "its key is gone"
        except FlatguardError as error:
            why = str(error)
        except OSError as error:
            why = error.strerror or type(error).__name__
        try:
            remove_private(path)
        except OSError as error:
            why += f"; and it cannot be deleted: {error.strerror}"
        return Stored(trouble=f"the stored token in {path} is not used: {why}; it is deleted")

    def write(self, token: Secret) -> str:
        """Store a token in place of the one before; return why that could not be, empty where it was."""
        path = sealed_file(self.login, KIND)
        try:
            lock = self._kept_lock() or self._new_lock() or passphrase(self.environ)
            if lock is None:
                return f"the token is kept in memory only: {keyrings.usable()}, and {PASSPHRASE} is not set"
            write_private(path, seal(token, KIND, self.login, lock))
        except FlatguardError as error:
            return f"the token is kept in memory only: {error}"
        except OSError as error:
            return f"the token is kept in memory only: {path} cannot be written: {error.strerror}"
        return ""

    def remove(self) -> bool:
        """Remove the stored token and its key; return whether there was one. Raises OSError."""
        keyrings.forget(keyrings.TOKEN_KEY, self.login.name)
        return remove_private(sealed_file(self.login, KIND))

    def _lock(self) -> Secret | None:
        return self._kept_lock() or passphrase(self.environ)

    def _kept_lock(self) -> Secret | None:
        return keyrings.read(keyrings.TOKEN_KEY, self.login.name).secret

    def _new_lock(self) -> Secret | None:
        lock = Secret(base64.b64encode(os.urandom(32)).decode())
        return None if keyrings.keep(keyrings.TOKEN_KEY, self.login.name, lock) else lock
