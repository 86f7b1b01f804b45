"""One guard per gateway and account on a machine, whatever its settings and its journal.

A lock file that the operating system gives up when its holder ends, however it ends; nothing has to be cleaned up.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from flatguard.errors import AlreadyGuarded
from flatguard.model.ids import AccountId

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _folder() -> Path:
    """Return the folder for lock files that all users of this machine share."""
    shared = Path("/run/lock")
    return shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def _lock_file(rest_url: str, account_id: AccountId) -> Path:
    gateway = hashlib.sha256(urlsplit(rest_url).netloc.lower().encode()).hexdigest()[:12]
    return _folder() / f"flatguard-{gateway}-{account_id}.lock"


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold the lock file while the block runs; False where somebody else holds it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError:
        yield False  # another user's file that we may not open: it is there because a guard made it
        return
    try:
        yield _try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def sole_guard(rest_url: str, accounts: Iterable[AccountId]) -> Iterator[None]:
    """Be the only guard of ``accounts`` while the block runs. Raises AlreadyGuarded where one has a guard already."""
    with ExitStack() as held:
        for account_id in accounts:
            if not held.enter_context(_held(_lock_file(rest_url, account_id))):
                raise AlreadyGuarded(
                    f"account {account_id} is already guarded by another flatguard on this machine",
                    hint="stop the other one first, or take the account out of one of the two settings files",
                )
        yield


def is_guarded(rest_url: str, account_id: AccountId) -> bool:
    """Whether a running flatguard on this machine guards the account now."""
    path = _lock_file(rest_url, account_id)
    if not path.exists():
        return False
    with _held(path) as free:
        return not free
