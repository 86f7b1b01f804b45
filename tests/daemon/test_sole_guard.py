"""One guard per gateway and account on a machine, and nothing to clean up after it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flatguard.daemon import sole_guard as room
from flatguard.daemon.sole_guard import is_guarded, sole_guard
from flatguard.errors import AlreadyGuarded
from flatguard.model.ids import AccountId

URL = "https://api.topstepx.com"
ONE, TWO, THREE = AccountId(1), AccountId(2), AccountId(3)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The folders that all users share; the first is missing on some systems."""
    first, second = tmp_path / "lock", tmp_path / "tmp"
    first.mkdir()
    second.mkdir()
    monkeypatch.setattr(room, "FOLDERS", (first, tmp_path / "missing", second))
    return first, second


def refused(url: str, *accounts: AccountId) -> bool:
    try:
        with sole_guard(url, accounts):
            return False
    except AlreadyGuarded:
        return True


def test_an_account_has_one_guard_and_is_free_again_after_it() -> None:
    assert not is_guarded(URL, ONE)
    with sole_guard(URL, (ONE, TWO)):
        assert is_guarded(URL, ONE)
        assert is_guarded(URL, TWO)
        assert refused(URL, ONE)
        assert refused(URL, THREE, TWO)
        assert not is_guarded(URL, THREE)
    assert not is_guarded(URL, ONE)
    assert not refused(URL, ONE)


def test_the_refusal_names_the_account_and_what_to_do() -> None:
    with (
        sole_guard(URL, (TWO,)),
        pytest.raises(AlreadyGuarded, match="account 2 is already guarded") as error,
        sole_guard(URL, (ONE, TWO)),
    ):
        pass
    assert "stop the other one" in error.value.hint
    assert error.value.exit_status == 4


def test_another_account_or_another_gateway_is_another_matter() -> None:
    with sole_guard(URL, (ONE,)):
        assert not refused(URL, TWO)
        assert not refused("https://gateway.other.example", ONE)
        assert not refused(f"{URL}:8443", ONE)


@pytest.mark.parametrize("url", [f"{URL}:443", "https://API.TopstepX.com", f"{URL}/", f"{URL}/api"])
def test_one_gateway_written_in_several_ways_is_one_gateway(url: str) -> None:
    with sole_guard(URL, (ONE,)):
        assert refused(url, ONE)
        assert is_guarded(url, ONE)


def test_asking_leaves_no_file_behind(folders: tuple[Path, Path]) -> None:
    assert not is_guarded(URL, ONE)
    assert [list(folder.iterdir()) for folder in folders] == [[], []]


def test_those_who_ask_do_not_take_one_another_for_a_guard() -> None:
    with sole_guard(URL, (ONE,)):
        pass
    (first, *_) = room._lock_files(URL, ONE)
    with opened(first) as descriptor:
        assert room._try_lock(descriptor, shared=True)
        assert not is_guarded(URL, ONE)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_a_start_is_not_refused_because_somebody_asks_in_that_moment() -> None:
    with sole_guard(URL, (ONE,)):
        pass
    (first, *_) = room._lock_files(URL, ONE)
    with opened(first) as descriptor:
        assert room._try_lock(descriptor, shared=True)
        threading.Timer(0.03, room.fcntl.flock, (descriptor, room.fcntl.LOCK_UN)).start()
        with sole_guard(URL, (ONE,)):
            assert is_guarded(URL, ONE)


def test_one_shared_folder_is_enough_to_find_the_other_guard(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some may write to /run/lock and some may not; both find each other in the folder that is open to all."""
    with sole_guard(URL, (ONE,)):
        monkeypatch.setattr(room, "FOLDERS", folders[1:])
        assert refused(URL, ONE)
        assert is_guarded(URL, ONE)


def test_another_users_file_that_only_can_be_read_is_locked_all_the_same(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with sole_guard(URL, (ONE,)):
        pass
    real = os.open

    def not_for_writing(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_RDWR:
            raise PermissionError
        return real(path, flags, mode)

    monkeypatch.setattr(room.os, "open", not_for_writing)
    with sole_guard(URL, (ONE,)):
        assert is_guarded(URL, ONE)
        assert refused(URL, ONE)
    assert not is_guarded(URL, ONE)


def test_no_room_for_a_lock_file_does_not_keep_an_account_from_being_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room.os, "open", full)
    assert not refused(URL, ONE)
    assert not is_guarded(URL, ONE)


def test_a_link_in_the_shared_folder_is_not_followed(folders: tuple[Path, Path]) -> None:
    victim = folders[0].parent / "victim"
    for path in room._lock_files(URL, ONE):
        path.symlink_to(victim)
    with sole_guard(URL, (ONE,)):
        assert not victim.exists()


HOLDS = """
import sys
from flatguard.daemon import sole_guard as room
from pathlib import Path
room.FOLDERS = tuple(map(Path, sys.argv[1:]))
with room.sole_guard("https://api.topstepx.com", (1,)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_the_lock_goes_with_the_process_that_held_it_however_it_ends() -> None:
    folders = [str(folder) for folder in room.FOLDERS if folder.is_dir()]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, *folders], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert refused(URL, ONE)
        assert is_guarded(URL, ONE)
        holder.kill()
        holder.wait(10)
    assert not is_guarded(URL, ONE)
    assert not refused(URL, ONE)
