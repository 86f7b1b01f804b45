"""Files that nobody else may read: written whole or not at all, and not believed where others could have a hand in.

On Windows the permissions of POSIX do not exist; there the profile's folder protects them.
"""

from __future__ import annotations

import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path

from flatguard.errors import InvalidSettings

MOST_BYTES = 64 * 1024
POSIX = os.name == "posix"


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 in a folder of mode 0700, so that a power cut leaves the old one or the new one.

    Blocks. Raises OSError; what was there before is there still then.
    """
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if POSIX:
        folder.chmod(0o700)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.new")
    unfinished.unlink(missing_ok=True)
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if POSIX:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_private(path: Path) -> bytes | None:
    """Return what a file holds; None where there is none. Blocks.

    Raises InvalidSettings for a file that others may read, for one of another user's, and for what is no file of ours.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror}"
        raise InvalidSettings(text, hint="check the file's owner and mode") from None
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MOST_BYTES:
            raise InvalidSettings(f"{path} is no file of flatguard's", hint=f"rm {_quoted(path)}; flatguard login")
        if POSIX and facts.st_uid != os.geteuid():
            raise InvalidSettings(
                f"{path} belongs to another user of this machine", hint=f"rm {_quoted(path)}; flatguard login"
            )
        if POSIX and facts.st_mode & 0o077:
            raise InvalidSettings(
                f"{path} can be read or written by others (mode {stat.S_IMODE(facts.st_mode):04o})",
                hint=f"chmod 600 {_quoted(path)}; if others had the time to copy it, make a new key at the platform",
            )
        return file.read()


def remove_private(path: Path) -> bool:
    """Remove a file, and what an interrupted write left beside it; return whether it was there. Raises OSError."""
    for unfinished in path.parent.glob(f"{path.name}.*.new"):
        with suppress(OSError):
            unfinished.unlink()
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
