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
from threading import Event
from urllib.parse import urlsplit

from flatguard.errors import AlreadyGuarded
from flatguard.model.ids import AccountId

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int, *, shared: bool = False) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int, *, shared: bool = False) -> bool:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


FOLDERS = (Path("/run/lock"), Path("/tmp")) if os.name == "posix" else (Path(tempfile.gettempdir()),)
"""For all users of the machine, whatever their environment: not everybody may write to the first one."""

LOOKS = 5
BETWEEN_LOOKS_S = 0.02  # whoever asks whether an account is guarded holds its lock for a moment

DEFAULT_PORTS = {"https": 443, "http": 80}


def _lock_files(rest_url: str, account_id: AccountId) -> list[Path]:
    parts = urlsplit(rest_url)
    gateway = f"{parts.hostname}:{parts.port or DEFAULT_PORTS.get(parts.scheme)}"
    name = f"flatguard-{hashlib.sha256(gateway.encode()).hexdigest()[:12]}-{account_id}.lock"
    return [folder / name for folder in FOLDERS if folder.is_dir()]


def _open(path: Path, *, create: bool) -> int | None:
    """Open a lock file, None where it cannot be: then its folder has no say. Another user's is opened for reading."""
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    for attempt in (flags, os.O_RDONLY):
        try:
            return os.open(path, attempt | getattr(os, "O_NOFOLLOW", 0), 0o644)
        except OSError:
            continue
    return None


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold the lock file while the block runs; False where another guard holds it."""
    descriptor = _open(path, create=True)
    if descriptor is None:
        yield True  # no room, or not allowed: that must not keep an account from being guarded
        return
    try:
        yield _locked_soon(descriptor)
    finally:
        os.close(descriptor)


def _locked_soon(descriptor: int) -> bool:
    for _ in range(LOOKS):
        if _try_lock(descriptor):
            return True
        Event().wait(BETWEEN_LOOKS_S)
    return False


@contextmanager
def sole_guard(rest_url: str, accounts: Iterable[AccountId]) -> Iterator[None]:
    """Be the only guard of ``accounts`` while the block runs. Raises AlreadyGuarded where one has a guard already."""
    with ExitStack() as held:
        for account_id in accounts:
            for path in _lock_files(rest_url, account_id):
                if not held.enter_context(_held(path)):
                    raise AlreadyGuarded(
                        f"account {account_id} is already guarded by another flatguard on this machine",
                        hint="stop the other one first, or take the account out of one of the two settings files",
                    )
        yield


def is_guarded(rest_url: str, account_id: AccountId) -> bool:
    """Whether a running flatguard on this machine guards the account now. Leaves nothing behind."""
    for path in _lock_files(rest_url, account_id):
        descriptor = _open(path, create=False)
        if descriptor is None:
            continue
        try:
            if not _try_lock(descriptor, shared=True):
                return True
        finally:
            os.close(descriptor)
    return False
