"""Sealed texts: AES-256-GCM under a key that scrypt makes of a passphrase. The only module that knows cryptography.

A sealed text is one JSON object. Its header says what it is, whose it is and how the key is made, and is authenticated
with the text. Two more values tell three kinds of trouble apart: ``digest`` is over everything, so a file that was cut
or flipped is damaged; ``check`` is made by scrypt beside the key, so a sound file that does not open has another
passphrase; the tag of GCM is what an attacker cannot make.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from flatguard.errors import FlatguardError
from flatguard.secret import Secret
from flatguard.settings.login import Login

VERSION = 1
COST = 2**15
"""scrypt's n: 32 MiB and a tenth of a second for each guess."""

BLOCK, LANES = 8, 1
COSTS = tuple(2**power for power in range(15, 19))
"""What we open: less was weakened by somebody, more would use up the machine's memory."""

SALT_BYTES, NONCE_BYTES, KEY_BYTES, CHECK_BYTES = 32, 12, 32, 16


class NotOpened(FlatguardError):
    """A sealed text does not open; the message says why, for a person."""

    exit_status = 2


class Damaged(NotOpened):
    """It is not as it was written."""


class NotOurs(NotOpened):
    """It is sound, and of another login, another gateway, another kind or a later version."""


class WrongPassphrase(NotOpened):
    """It is sound and ours, and was sealed with another passphrase."""


def seal(text: Secret, kind: str, login: Login, passphrase: Secret) -> str:
    """Return the sealed text; takes a tenth of a second of work. Salt and nonce are new each time."""
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    keys = _keys(passphrase, salt, COST)
    header = {
        "flatguard": kind,
        "version": VERSION,
        "user_name": login.user_name.casefold(),
        "service": login.rest_url,
        "kdf": "scrypt",
        "n": COST,
        "r": BLOCK,
        "p": LANES,
        "salt": _text(salt),
        "check": keys.check,
        "nonce": _text(nonce),
    }
    data = _text(AESGCM(keys.key()).encrypt(nonce, text.reveal().encode(), _octets(header)))
    sealed = {**header, "data": data}
    return json.dumps({**sealed, "digest": _digest(sealed)}, indent=1) + "\n"


def unseal(content: bytes, kind: str, login: Login, passphrase: Secret) -> Secret:
    """Return the text. Raises Damaged, NotOurs or WrongPassphrase; takes as long as ``seal``."""
    sealed = _sound(content)
    data = sealed.pop("data")
    if (sealed.get("flatguard"), sealed.get("version")) != (kind, VERSION):
        raise NotOurs(f"it holds no {kind} of this version of flatguard")
    if (sealed.get("user_name"), sealed.get("service")) != (login.user_name.casefold(), login.rest_url):
        raise NotOurs(f"it is of another login than {login.user_name} at {login.rest_url}")
    if [sealed.get(name) for name in ("kdf", "r", "p")] != ["scrypt", BLOCK, LANES] or sealed.get("n") not in COSTS:
        raise NotOurs("it was sealed in a way that flatguard does not use")
    try:
        salt, nonce, octets = _bytes(sealed["salt"]), _bytes(sealed["nonce"]), _bytes(data)
        keys = _keys(passphrase, salt, sealed["n"])
        if not hmac.compare_digest(keys.check, str(sealed["check"])):
            raise WrongPassphrase("it was sealed with another passphrase")
        return Secret(AESGCM(keys.key()).decrypt(nonce, octets, _octets(sealed)).decode())
    except (InvalidTag, ValueError, KeyError, TypeError):
        raise Damaged("it is damaged, or was changed by somebody") from None


class _Keys:
    """What scrypt made of a passphrase: the key, which is not shown, and the value that tells a wrong one."""

    __slots__ = ("_key", "check")

    def __init__(self, octets: bytes) -> None:
        self._key = octets[:KEY_BYTES]
        self.check = _text(octets[KEY_BYTES:])

    def key(self) -> bytes:
        return self._key


def _keys(passphrase: Secret, salt: bytes, cost: int) -> _Keys:
    return _Keys(
        hashlib.scrypt(
            passphrase.reveal().encode(errors="surrogateescape"),
            salt=salt,
            n=cost,
            r=BLOCK,
            p=LANES,
            maxmem=2 * 128 * cost * BLOCK,
            dklen=KEY_BYTES + CHECK_BYTES,
        )
    )


def _sound(content: bytes) -> dict[str, Any]:
    """Return the object without its digest. Raises Damaged where the two do not agree."""
    try:
        sealed = json.loads(content)
        digest = sealed.pop("digest")
        sealed["data"]
        sound = hmac.compare_digest(digest, _digest(sealed))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = False
    if not sound:
        raise Damaged("it is damaged")
    return sealed  # type: ignore[no-any-return]


def _octets(header: Mapping[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def _digest(sealed: Mapping[str, Any]) -> str:
    return hashlib.sha256(_octets(sealed)).hexdigest()


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
