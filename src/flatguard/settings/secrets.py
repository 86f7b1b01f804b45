"""The API key: from the environment, else from the system's keyring, else from a sealed file. Never from the settings.

Everything here blocks: the keyring may ask a person, and a sealed file takes a tenth of a second of work.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from flatguard.errors import InvalidSettings
from flatguard.secret import Secret
from flatguard.settings import keyrings, paths
from flatguard.settings.login import Login
from flatguard.settings.private_file import POSIX, read_private, remove_private, write_private
from flatguard.settings.sealed import NotOpened, WrongPassphrase, seal, unseal

VARIABLE = "FLATGUARD_API_KEY"
PASSPHRASE = "FLATGUARD_KEY_PASSPHRASE"
PASSPHRASE_FILE = "FLATGUARD_KEY_PASSPHRASE_FILE"
KIND = "API key"


@frozen
class Removed:
    """What was removed, each thing in words, and what could not be."""

    done: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def api_key(login: Login, environ: Mapping[str, str]) -> Secret:
    """Return the API key of ``login``.

    Raises InvalidSettings where there is none, or where the sealed file does not open; its text names what to do.
    """
    if text := environ.get(VARIABLE, "").strip():
        return Secret(text)
    found = keyrings.read(keyrings.API_KEY, login.name)
    if found.secret is not None:
        return found.secret
    path = sealed_file(login, "key")
    if (content := read_private(path)) is not None:
        return _unsealed(path, content, login, environ)
    raise InvalidSettings(
        f"there is no API key for {login.user_name} at {login.rest_url}: {VARIABLE} is not set, {found.why_not}, "
        f"and there is no file {path}",
        hint=f"flatguard login, which stores it; or set {VARIABLE}",
    )


def _unsealed(path: Path, content: bytes, login: Login, environ: Mapping[str, str]) -> Secret:
    key = passphrase(environ)
    if key is None:
        raise InvalidSettings(
            f"the API key is sealed in {path}, and neither {PASSPHRASE} nor {PASSPHRASE_FILE} is set",
            hint=f"set {PASSPHRASE} to the passphrase of flatguard login, or {PASSPHRASE_FILE} to a file that holds it",
        )
    try:
        return unseal(content, KIND, login, key)
    except WrongPassphrase:
        raise InvalidSettings(
            f"{path} was sealed with another passphrase than the one in {_source(environ)}",
            hint="set the right one, or seal the key anew: flatguard login",
        ) from None
    except NotOpened as error:
        raise InvalidSettings(f"{path} cannot be used: {error}", hint="store the key anew: flatguard login") from None


def keep_api_key(login: Login, key: Secret, environ: Mapping[str, str]) -> str:
    """Store the API key, in the keyring, else in a sealed file; return where, for a person.

    Raises InvalidSettings where neither can be; what was stored before is there still then.
    """
    why_not = keyrings.keep(keyrings.API_KEY, login.name, key)
    path = sealed_file(login, "key")
    if not why_not:
        remove_private(path)  # an older one would be used should the keyring be away one day
        return "in the keyring of this system"
    by = passphrase(environ)
    if by is None:
        raise nowhere(why_not)
    try:
        write_private(path, seal(key, KIND, login, by))
    except OSError as error:
        raise InvalidSettings(
            f"{path} cannot be written: {error.strerror}", hint="check the folder's owner and mode"
        ) from None
    return f"in {path}, sealed with the passphrase in {_source(environ)} ({why_not})"


def check_place(environ: Mapping[str, str]) -> None:
    """Raise InvalidSettings where ``keep_api_key`` would find no place, before anybody types a key."""
    why_not = keyrings.usable()
    if why_not and passphrase(environ) is None:
        raise nowhere(why_not)


def nowhere(why_not: str) -> InvalidSettings:
    """Make the error of a key that cannot be stored."""
    return InvalidSettings(
        f"there is no place for the API key: {why_not}, and neither {PASSPHRASE} nor {PASSPHRASE_FILE} is set",
        hint="set one of the two, here and where flatguard run is started, to seal the key in a file; "
        f"or store no key and set {VARIABLE} for flatguard run",
    )


def forget_api_key(login: Login) -> Removed:
    """Remove the stored API key from the keyring and from the sealed file. Never raises; it says what is left."""
    done: list[str] = []
    left: list[str] = []
    if keyrings.forget(keyrings.API_KEY, login.name):
        done.append("the API key in the keyring of this system")
    if keyrings.read(keyrings.API_KEY, login.name).secret is not None:
        left.append("the API key in the keyring of this system; remove it there by hand")
    path = sealed_file(login, "key")
    try:
        if remove_private(path):
            done.append(f"the sealed API key, {path}")
    except OSError as error:
        left.append(f"the sealed API key, {path}: {error.strerror}")
    return Removed(tuple(done), tuple(left))


def passphrase(environ: Mapping[str, str]) -> Secret | None:
    """Return the passphrase of sealed files; None where none is set. Raises InvalidSettings where its file has none."""
    if given := environ.get(PASSPHRASE):
        return Secret(given)
    if not (name := environ.get(PASSPHRASE_FILE, "").strip()):
        return None
    try:
        # others' right to read is refused, the group's is not: the system's credentials are shown so, and are not
        if POSIX and (mode := stat.S_IMODE(os.stat(name).st_mode)) & 0o007:
            raise InvalidSettings(
                f"{PASSPHRASE_FILE}: {name} can be read or written by everybody (mode {mode:04o})",
                hint=f"chmod 600 {name}",
            )
        read = Secret(Path(name).read_text("utf-8").rstrip("\r\n"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InvalidSettings(f"{PASSPHRASE_FILE}: {name}: {why}", hint="name a file that holds one line") from None
    if not read:
        raise InvalidSettings(f"{PASSPHRASE_FILE}: {name} is empty", hint="name a file that holds one line")
    return read


def sealed_file(login: Login, what: str) -> Path:
    """Return the path of a sealed file of ``login``: its name for people, and a few digits that tell all apart."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", login.user_name.casefold())[:40]
    return paths.secrets_folder() / f"{name}-{hashlib.sha256(login.name.encode()).hexdigest()[:12]}.{what}"


def _source(environ: Mapping[str, str]) -> str:
    return PASSPHRASE if environ.get(PASSPHRASE) else f"{environ.get(PASSPHRASE_FILE)}"
