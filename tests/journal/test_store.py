"""The file: what is written is all there or not at all, and what cannot be read is put aside whole."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import timedelta
from decimal import Decimal
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import pytest
from attrs import evolve

from flatguard.errors import FlatguardError, JournalDamaged
from flatguard.journal import migrations
from flatguard.journal.retention import FORGET_AT_ONCE
from flatguard.journal.store import Store, set_aside
from flatguard.model.account import AccountState
from flatguard.model.decisions import CloseContract
from flatguard.model.entries import Checkpoint, Entry, Forgotten, Judged, RunStopped
from flatguard.model.events import EventSetAside, Hub, QuoteMoved, ReadingFailed
from flatguard.model.ids import AccountId
from flatguard.model.lockouts import Lockout
from tests.fakes.entries import (
    ACCOUNT,
    FIVE_PM,
    MNQ,
    NOON,
    OTHER,
    alive,
    at,
    broken,
    held,
    proven,
    quoted,
    stands,
    started,
    step,
    stood,
)

ONE_OF_EACH: tuple[Entry, ...] = (
    started(),
    quoted(1),
    held(2),
    broken("a1"),
    step("a1"),
    proven("a1"),
    Checkpoint(AccountState(ACCOUNT, lockouts=(Lockout(ACCOUNT, "max_contracts", "account", NOON, None, "", ""),))),
    stands(),
    alive(),
    RunStopped(at(9)),
)


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def count(path: Path, table: str) -> int:
    return int(rows(path, f"SELECT count(*) FROM {table}")[0][0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_a_group_with_every_kind_of_entry_is_kept(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write(ONE_OF_EACH)
        recovered = store.recover(ACCOUNT)
    assert recovered.state is not None
    assert recovered.tape == ()
    for table in ("tape", "breach", "lockout", "step", "proof", "checkpoint", "standing", "run"):
        assert count(path, table) >= 1, table
    assert rows(path, "SELECT alive_at, stopped_at FROM run") == [(NOON.isoformat(), at(9).isoformat())]


def test_the_tape_comes_back_in_order_with_what_was_found_cleared_and_locked(path: Path) -> None:
    cleared = Judged(ACCOUNT, QuoteMoved(at(5), MNQ), cleared=("daily_realized_loss",))
    failed = Judged(ACCOUNT, QuoteMoved(at(6), MNQ), failed=(("max_contracts", "ZeroDivisionError: x"),))
    entries = (quoted(1), broken("a1", seconds=2), held(3), cleared, failed)
    with closing(Store.open(path)) as store:
        store.write(entries[:2])
        store.write(entries[2:])
        tape = store.recover(ACCOUNT).tape
    assert [(row.event, row.found, row.cleared, row.locks) for row in tape] == [
        (entry.event, entry.found, entry.cleared, entry.locks) for entry in entries
    ]


def test_accounts_do_not_see_one_another(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([held(1), held(2, OTHER), Checkpoint(AccountState(OTHER)), held(3), held(4, OTHER)])
        ours, other = store.recover(ACCOUNT), store.recover(OTHER)
    assert [row.event for row in ours.tape] == [held(1).event, held(3).event]
    assert [row.event for row in other.tape] == [held(4, OTHER).event]
    assert ours.state is None
    assert other.state == AccountState(OTHER)


def test_a_checkpoint_bounds_the_tape_and_the_newest_one_counts(path: Path) -> None:
    old, new = AccountState(ACCOUNT), AccountState(ACCOUNT, read_failed="later")
    with closing(Store.open(path)) as store:
        store.write([quoted(1), Checkpoint(old), quoted(2), Checkpoint(new), quoted(3)])
        recovered = store.recover(ACCOUNT)
    assert recovered.state == new
    assert [row.event for row in recovered.tape] == [quoted(3).event]


def test_two_hundred_thousand_rows_behind_a_checkpoint_are_not_read(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([quoted(1)])
    with closing(sqlite3.connect(path)) as db, db:
        copy = "INSERT INTO tape (account, at, kind, event) SELECT account, at, kind, event FROM tape LIMIT ?"
        while (have := db.execute("SELECT count(*) FROM tape").fetchone()[0]) < 200_000:
            db.execute(copy, (200_000 - have,))
    with closing(Store.open(path)) as store:
        store.write([Checkpoint(AccountState(ACCOUNT)), *(quoted(n) for n in range(50))])
        read: list[str] = []
        store._db.set_trace_callback(read.append)
        assert len(store.recover(ACCOUNT).tape) == 50
        plan = store._db.execute("EXPLAIN QUERY PLAN " + read[-1]).fetchall()
    assert "tape_by_account (account=? AND seq>?)" in plan[0][3]


def test_a_checkpoint_writes_down_the_lockouts_that_it_holds(path: Path) -> None:
    lock = Lockout(ACCOUNT, "journal_damaged", "account", NOON, FIVE_PM, "it was damaged", "")
    with closing(Store.open(path)) as store:
        store.write([Checkpoint(AccountState(ACCOUNT, lockouts=(lock,)))])
    assert rows(path, "SELECT rule, until FROM lockout") == [("journal_damaged", FIVE_PM.isoformat())]


def test_a_lockout_that_is_gone_is_not_written_down_any_more_and_others_stay(path: Path) -> None:
    lock = Lockout(ACCOUNT, "auth_loss_guard", "account", NOON, None, "it may not trade", "a1", "it may trade")
    other = AccountId(ACCOUNT + 1)
    quiet = QuoteMoved(NOON, MNQ)
    with closing(Store.open(path)) as store:
        store.write([Checkpoint(AccountState(other, lockouts=(evolve(lock, account_id=other),)))])
        store.write([Judged(ACCOUNT, quiet, locks=(lock,))])
        assert rows(path, "SELECT account FROM lockout") == [(ACCOUNT,), (other,)]
        store.write([Judged(ACCOUNT, quiet)])
        assert rows(path, "SELECT account FROM lockout") == [(ACCOUNT,), (other,)]
        store.write([Judged(ACCOUNT, quiet, locks=())])
        assert rows(path, "SELECT account FROM lockout") == [(other,)]
        assert [row.locks for row in store.recover(ACCOUNT).tape] == [(lock,), None, ()]


Older = Callable[[Path, int, str], None]


@pytest.fixture
def older() -> Older:
    """Make a journal as an older program left it, at a version, and run SQL on it."""

    def run(path: Path, version: int, sql: str) -> None:
        schema = resources.files("flatguard.journal").joinpath("schema")
        steps = sorted((s for s in schema.iterdir() if s.name.endswith(".sql")), key=lambda s: s.name)
        with closing(sqlite3.connect(path)) as db:
            done = db.execute("PRAGMA user_version").fetchone()[0]
            for step_ in steps[done:version]:
                db.executescript(step_.read_text("utf-8"))
            db.execute(f"PRAGMA user_version = {version}")
            db.execute(sql)
            db.commit()

    return run


def day(number: int, rows_a_day: int) -> list[Entry]:
    """One day of the tape, with two checkpoints, and what is let go after it: all but a week."""
    noon = NOON + timedelta(days=number)
    seen = [Judged(ACCOUNT, QuoteMoved(noon, MNQ, Decimal(25_000))) for _ in range(rows_a_day)]
    half = len(seen) // 2
    return [*seen[:half], stood(number), *seen[half:], stood(number), *[Forgotten(noon - timedelta(days=7))] * 3]


def test_the_file_is_no_larger_after_a_year_than_its_days_need(path: Path) -> None:
    with closing(Store.open(path)) as store:
        for number in range(10):
            store.write(day(number, 300))
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
        for number in range(10, 365):
            store.write(day(number, 300))
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.stat().st_size <= size * 1.1
    oldest = rows(path, "SELECT min(at) FROM tape")[0][0]
    assert oldest == (NOON + timedelta(days=364 - 8)).isoformat()  # folding begins within the day before
    assert count(path, "base") == 9


def test_the_first_checkpoint_of_a_run_and_of_a_day_is_kept_to_begin_folding_at(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([started(), stood(), quoted(1), stood(), quoted(2), stood(1), quoted(3), stood(1)])
        store.write([stood(0, OTHER)])
    with closing(Store.open(path)) as store:
        store.write([started(9), stood(1)])
    assert rows(path, "SELECT account, seq, run, day, at FROM base ORDER BY account, seq") == [
        (ACCOUNT, 0, 1, "2026-03-18", NOON.isoformat()),
        (ACCOUNT, 2, 1, "2026-03-19", at(2).isoformat()),
        (ACCOUNT, 3, 2, "2026-03-19", at(9).isoformat()),
        (OTHER, 3, 1, "2026-03-18", NOON.isoformat()),
    ]
    assert rows(path, "SELECT seq, run FROM tape") == [(1, 1), (2, 1), (3, 1)]


def test_a_base_that_the_disk_refused_is_kept_when_the_group_is_written_again(path: Path) -> None:
    nothing: Any = None
    with closing(Store.open(path)) as store:
        with pytest.raises(sqlite3.IntegrityError):
            store.write([started(), stood(), evolve(step("a1"), outcome=nothing)])
        store.write([started(), stood()])
    assert count(path, "base") == 1


def test_every_row_that_is_left_can_be_folded_from_a_base(path: Path) -> None:
    """But for rows older than the first of them; those go first."""
    with closing(Store.open(path)) as store:
        for number in range(20):
            store.write(day(number, 10))
            ((seq,),) = rows(path, "SELECT min(seq) FROM base")
            ((oldest,),) = rows(path, "SELECT min(seq) FROM tape")
            assert oldest <= seq + 1
    assert oldest > 50


def test_a_journal_of_an_older_program_gets_a_base_where_its_checkpoint_is(path: Path, older: Older) -> None:
    older(
        path, 2, "INSERT INTO tape (seq, account, at, kind, event) VALUES (7, 1, '2026-03-18T17:00:00+00:00', '', '')"
    )
    older(path, 2, """INSERT INTO checkpoint VALUES (1, 7, '{"today":{"label":"2026-03-18"}}')""")
    older(path, 2, "INSERT INTO checkpoint VALUES (2, 7, '{\"today\":null}')")
    Store.open(path).close()
    assert rows(path, "SELECT account, seq, run, day, at FROM base ORDER BY account") == [
        (1, 7, 0, "2026-03-18", NOON.isoformat()),
        (2, 7, 0, "", "1970-01-01T00:00:00+00:00"),
    ]
    assert rows(path, "SELECT seq, run FROM tape") == [(7, 0)]


def test_only_what_a_checkpoint_stands_for_is_let_go(path: Path) -> None:
    """Else a restart would not find the day's fills; and what was decided and done stays in any case."""
    later = Forgotten(NOON + timedelta(days=400))
    with closing(Store.open(path)) as store:
        store.write([broken("a1"), step("a1"), later])
        assert count(path, "tape") == 1
        store.write([Checkpoint(AccountState(ACCOUNT)), quoted(2), later])
        assert [row.event for row in store.recover(ACCOUNT).tape] == [quoted(2).event]
    assert (count(path, "tape"), count(path, "breach"), count(path, "step")) == (1, 1, 1)


def test_what_comes_after_everything_was_let_go_is_found_again(path: Path) -> None:
    """As after a month without a run: the next row must not come before the checkpoint."""
    with closing(Store.open(path)) as store:
        store.write([quoted(1), quoted(2), quoted(3), Checkpoint(AccountState(ACCOUNT))])
        store.write([Forgotten(NOON + timedelta(days=400)), broken("a1")])
        assert [row.event for row in store.recover(ACCOUNT).tape] == [broken("a1").event]


def test_letting_go_takes_no_more_than_its_share_at_once(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([*(quoted(0) for _ in range(FORGET_AT_ONCE + 5)), Checkpoint(AccountState(ACCOUNT))])
        store.write([Forgotten(NOON + timedelta(days=1))])
        assert count(path, "tape") == 5


def test_a_breach_found_again_after_a_crash_is_one_breach(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([broken("a1")])
        store.write([broken("a1", seconds=60)])
        assert len(store.recover(ACCOUNT).tape) == 2
    assert rows(path, "SELECT id, at FROM breach") == [("a1", NOON.isoformat())]


def test_an_entry_that_the_schema_refuses_is_an_error_and_never_silently_left_out(path: Path) -> None:
    with closing(Store.open(path)) as store:
        nothing: Any = None
        with pytest.raises(sqlite3.IntegrityError):
            store.write([quoted(1), evolve(step("a1"), outcome=nothing)])
    assert count(path, "tape") == 0


@pytest.mark.parametrize("text", ["half a character \ud83d", "a\0b", "Größe ≥ 5"])
def test_whatever_text_the_broker_sends_can_be_written(path: Path, text: str) -> None:
    aside = Judged(ACCOUNT, EventSetAside(NOON, Hub.USER, text, text))
    with closing(Store.open(path)) as store:
        store.write([aside, evolve(step("a1"), reason=text), Judged(ACCOUNT, ReadingFailed(NOON, ACCOUNT, text))])
        assert store.recover(ACCOUNT).tape[0].event == aside.event


# all or nothing


@pytest.mark.parametrize("broken_at", range(len(ONE_OF_EACH)))
def test_a_group_that_fails_in_the_middle_leaves_nothing_and_can_be_written_again(
    path: Path, broken_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store.open(path)) as store:
        write_one = Store._write_one

        def fail(self: Store, entry: Entry) -> None:
            write_one(self, entry)
            if entry is ONE_OF_EACH[broken_at]:
                raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(Store, "_write_one", fail)
        with pytest.raises(sqlite3.OperationalError):
            store.write(ONE_OF_EACH)
        monkeypatch.undo()
        for table in ("tape", "breach", "lockout", "step", "proof", "checkpoint", "standing", "run"):
            assert count(path, table) == 0, table
        store.write(ONE_OF_EACH)
    assert count(path, "tape") == 3


def test_a_full_disk_takes_nothing_of_a_group_and_takes_it_once_there_is_room(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([started()])
        full = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {full}")
        group = [quoted(n) for n in range(2_000)]
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.write(group)
        assert count(path, "tape") == 0
        store._db.execute("PRAGMA max_page_count = 100000")
        store.write(group)
    assert count(path, "tape") == 2_000


KILLED_IN_THE_MIDDLE = """
import os, sys
from pathlib import Path
from flatguard.journal.store import Store
from tests.fakes.entries import quoted

store = Store.open(Path(sys.argv[1]))
store.write([quoted(1), quoted(2)])

def group():
    yield quoted(3)
    os.kill(os.getpid(), 9)

store.write(group())
"""


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_a_process_killed_in_the_middle_of_a_group_leaves_the_groups_before_it(path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED_IN_THE_MIDDLE, str(path)], check=False, timeout=30)
    with closing(Store.open(path)) as store:
        assert [row.event for row in store.recover(ACCOUNT).tape] == [quoted(1).event, quoted(2).event]


# opening


def test_a_new_journal_is_made_with_its_folder_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "flatguard" / "journal.db"
    with closing(Store.open(path)) as store:
        store.write([quoted(1)])
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_journal_that_others_could_read_is_closed_to_them(path: Path) -> None:
    Store.open(path).close()
    path.chmod(0o644)
    Store.open(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_survives_a_power_cut_by_its_settings(path: Path) -> None:
    with closing(Store.open(path)) as store:
        assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_migrations_run_once_in_order_and_a_failing_one_leaves_the_version_before_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Store.open(path)
    first.write([quoted(1)])
    first.close()
    ((done,),) = rows(path, "PRAGMA user_version")
    steps = tmp_path / "schema"
    steps.mkdir()
    for number in range(1, done + 1):
        (steps / f"{number:04}_done.sql").write_text("CREATE TABLE never (x);")
    (steps / f"{done + 1:04}_more.sql").write_text("CREATE TABLE more (x); INSERT INTO more VALUES (1);")
    (steps / "notes.txt").write_text("not a step")
    monkeypatch.setattr(migrations, "files", lambda _package: tmp_path)
    Store.open(path).close()
    Store.open(path).close()
    assert rows(path, "PRAGMA user_version") == [(done + 1,)]
    assert count(path, "more") == 1
    (steps / f"{done + 2:04}_broken.sql").write_text("CREATE TABLE half (x); nonsense;")
    with pytest.raises(FlatguardError, match="cannot be used"):
        Store.open(path)
    assert rows(path, "PRAGMA user_version") == [(done + 1,)]
    assert rows(path, "SELECT name FROM sqlite_master WHERE name IN ('half', 'never')") == []
    assert count(path, "tape") == 1


def test_a_journal_of_a_newer_program_is_refused_and_left_alone(path: Path) -> None:
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(FlatguardError, match="newer flatguard") as refused:
        Store.open(path)
    assert not isinstance(refused.value, JournalDamaged)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FlatguardError, match="cannot be opened") as refused:
        Store.open(tmp_path / "file" / "journal.db")
    assert "journal.path" in refused.value.hint


def test_a_path_that_is_a_folder_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FlatguardError, match="cannot be opened"):
        Store.open(tmp_path)


def test_a_file_whose_mode_we_may_not_change_is_said_with_what_to_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, mode: int) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(FlatguardError, match="cannot be opened"):
        Store.open(path)


# damage


def opened_and_read(path: Path) -> None:
    """Open and recover as the daemon does; a sound journal with nothing damaged comes back."""
    with closing(Store.open(path)) as store:
        store.recover(ACCOUNT)
        store.recover(OTHER)


def filled(path: Path) -> bytes:
    """Write a journal of some hundred entries and return its bytes, all of them in the main file."""
    with closing(Store.open(path)) as store:
        for n in range(1, 200):
            store.write([quoted(n), held(n), broken(f"b{n}", CloseContract(MNQ), seconds=n)])
        store.write([Checkpoint(AccountState(ACCOUNT)), *(quoted(n) for n in range(200, 300)), *ONE_OF_EACH])
        store.write([quoted(n, OTHER) for n in range(100)])
    return path.read_bytes()


@pytest.mark.parametrize("size", [15, 100, 1_000, 4_096, 10_000])
def test_a_file_that_is_no_journal_is_damaged(path: Path, size: int) -> None:
    path.write_bytes((b"this is no journal " * 1_000)[:size])
    with pytest.raises(JournalDamaged):
        opened_and_read(path)


@pytest.mark.parametrize("page", [0, 1, 2, 5, 10])
def test_a_page_of_zeros_is_found_or_concerns_nothing_that_is_needed(path: Path, page: int) -> None:
    whole = bytearray(filled(path))
    whole[page * 4096 : (page + 1) * 4096] = bytes(4096)
    path.write_bytes(whole)
    with pytest.raises(JournalDamaged, match=r"journal\.db is damaged") if page < 1 else suppress(JournalDamaged):
        opened_and_read(path)


def test_whatever_bytes_are_changed_nothing_but_damage_is_raised(path: Path) -> None:
    whole = filled(path)
    random = Random(3)
    found = 0
    for _ in range(150):
        changed = bytearray(whole)
        start = random.randrange(len(whole))
        for place in range(start, min(start + random.choice([1, 8, 64, 512]), len(whole))):
            changed[place] = random.randrange(256)
        path.write_bytes(changed)
        try:
            opened_and_read(path)
        except JournalDamaged:
            found += 1
        for companion in ("-wal", "-shm"):
            path.with_name(path.name + companion).unlink(missing_ok=True)
    assert found


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_journal_that_was_cut_short_is_damaged(path: Path, share: float) -> None:
    whole = filled(path)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(JournalDamaged):
        opened_and_read(path)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE checkpoint SET state = '{}'",
        "UPDATE checkpoint SET state = 'null'",
        "UPDATE checkpoint SET state = ''",
        "UPDATE tape SET event = '[]'",
        "UPDATE tape SET kind = 'NoSuchKind'",
        "UPDATE tape SET judged = '[]'",
        'UPDATE tape SET judged = \'{"found": "x"}\'',
        "UPDATE tape SET judged = 'x'",
        "DROP TABLE tape",
        "UPDATE tape SET event = CAST(x'ff00ff' AS TEXT)",
    ],
)
def test_content_that_cannot_be_understood_is_damage(path: Path, sql: str) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql)
    with pytest.raises(JournalDamaged):
        opened_and_read(path)


# setting aside


def test_setting_aside_keeps_every_byte_of_the_journal_and_its_companions(path: Path) -> None:
    store = Store.open(path)
    store.write([quoted(1)])
    bytes_before = {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}
    assert set(bytes_before) == {"journal.db", "journal.db-wal"}
    aside = store.set_aside(NOON)
    assert aside.name == "journal.db.damaged-20260318T170000Z"
    assert not list(path.parent.glob("journal.db"))
    assert {
        name: aside.with_name(aside.name + name.removeprefix("journal.db")).read_bytes() for name in bytes_before
    } == bytes_before


def test_what_was_set_aside_does_not_touch_the_new_journal(path: Path) -> None:
    """SQLite removes the write-ahead log by its name when the last connection closes; that name is the new one's."""
    store = Store.open(path)
    store.write([quoted(1)])
    store.set_aside(NOON)
    with closing(Store.open(path)) as new:
        new.write([quoted(2)])
        store.close()
        with closing(Store.open(path)) as reader:
            assert [row.event for row in reader.recover(ACCOUNT).tape] == [quoted(2).event]


def test_setting_aside_never_overwrites_what_was_set_aside_before(path: Path) -> None:
    for content in (b"first", b"second", b"third"):
        path.write_bytes(content)
        path.with_name("journal.db-wal").write_bytes(content + b" wal")
        set_aside(path, NOON)
    found = {file.read_bytes() for file in path.parent.iterdir()}
    assert found == {b"first", b"second", b"third", b"first wal", b"second wal", b"third wal"}


def test_two_moments_give_two_names(path: Path) -> None:
    path.write_bytes(b"first")
    first = set_aside(path, NOON)
    path.write_bytes(b"second")
    assert set_aside(path, NOON + timedelta(seconds=1)) != first
    assert len(list(path.parent.iterdir())) == 2


def test_a_journal_that_was_emptied_is_damaged_and_not_new(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.touch()
    with pytest.raises(JournalDamaged, match="empty"):
        Store.open(path)


def test_a_new_journal_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    (tmp_path / "journal.db.new").write_bytes(b"cut off in the middle")
    Store.open(path).close()
    Store.open(path).close()
    assert not (tmp_path / "journal.db.new").exists()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(FlatguardError, match="another program"):
        Store.open(path)
    assert path.read_bytes() == before
