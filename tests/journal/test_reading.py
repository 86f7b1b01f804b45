"""What others read from a journal while its daemon writes, after it was killed, and before there is one."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from flatguard.errors import JournalDamaged
from flatguard.journal.codec import decode
from flatguard.journal.reading import Facts, read_facts, read_stories, reading_past
from flatguard.journal.store import Store
from flatguard.journal.tape import tape_row
from flatguard.model.account import AccountState
from flatguard.model.decisions import CloseContract, Flatten, LockOut
from flatguard.model.entries import RunStopped, Standing
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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def test_where_there_is_no_journal_there_are_no_facts_and_none_is_made(path: Path) -> None:
    assert read_facts(path) == Facts(None, {}, ())
    assert read_stories(path) == ()
    assert not path.exists()


def test_a_journal_that_is_just_being_made_says_nothing_yet(path: Path) -> None:
    path.touch()
    assert read_facts(path) == Facts(None, {}, ())
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
    assert read_facts(path) == Facts(None, {}, ())
    assert read_stories(path) == ()


def test_the_newest_run_and_the_newest_standings_count(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([started(), alive(1), stands(2), RunStopped(at(3))])
        store.write([started(10), alive(11), stands(12), stands(13), stands(12, OTHER), broken("a1")])
        facts = read_facts(path)
    assert facts.run is not None
    assert (facts.run.started_at, facts.run.stopped_at, facts.run.alive_at) == (at(10), None, at(11))
    assert facts.run.link == {"user_hub": "up", "market_hub": "up", "rest": "up"}
    assert {account: (moment, body["id"]) for account, (moment, body) in facts.standings.items()} == {
        ACCOUNT: (at(13), ACCOUNT),
        OTHER: (at(12), OTHER),
    }
    assert [(lock.account, lock.rule, lock.until) for lock in facts.lockouts] == [
        (ACCOUNT, "daily_realized_loss", FIVE_PM)
    ]


def test_a_run_that_ended_says_when(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([started(), RunStopped(at(3))])
    run = read_facts(path).run
    assert run is not None
    assert run.stopped_at == at(3)


def test_a_story_goes_from_the_finding_to_the_proof(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([broken("a1"), step("a1", seconds=1), step("a1", seconds=2), proven("a1", seconds=4)])
        store.write([broken("b1", CloseContract(MNQ), rule="max_contracts", seconds=10), step("b1", seconds=11)])
    first, second = read_stories(path)
    assert (first.id, first.rule, first.reason) == ("a1", "daily_realized_loss", "too much lost")
    assert first.figures == (("limit", "$500"),)
    assert [taken.sent_at for taken in first.steps] == [at(1), at(2)]
    assert (first.reached_at, first.proven_at, first.locked_until) == (at(4), at(5), FIVE_PM)
    assert (second.id, len(second.steps), second.proven_at, second.locked_until) == ("b1", 1, None, None)


def test_one_request_for_two_breaches_belongs_to_both(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([broken("a1"), broken("b1", Flatten(), rule="max_contracts"), step("a1", "b1"), proven("a1", "b1")])
    assert [(len(story.steps), story.proven_at) for story in read_stories(path)] == [(1, at(4)), (1, at(4))]


def test_a_story_shows_the_lock_that_it_called_for_and_not_that_of_a_later_day(path: Path) -> None:
    tomorrow = at(86_400)
    with closing(Store.open(path)) as store:
        store.write([broken("a1", LockOut(FIVE_PM)), broken("a2", LockOut(tomorrow), seconds=60)])
        store.write([broken("a3", LockOut(None), seconds=70), broken("a4", Flatten(), seconds=80)])
    assert [story.locked_until for story in read_stories(path)] == [FIVE_PM, tomorrow, None, None]


def test_rules_and_accounts_whose_names_run_together_are_told_apart(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([broken("a1", LockOut(FIVE_PM), rule="rule2"), broken("b1", Flatten(), rule="rule", account=OTHER)])
    assert [story.locked_until for story in read_stories(path)] == [FIVE_PM, None]


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE run SET started_at = 'yesterday'",
        "UPDATE run SET link = 'x'",
        "UPDATE standing SET body = '{'",
        "UPDATE lockout SET until = 'later'",
        "DROP TABLE standing",
    ],
)
def test_content_that_cannot_be_understood_is_said_to_be_damaged(path: Path, sql: str) -> None:
    with closing(Store.open(path)) as store:
        store.write([started(), stands(), broken("a1"), step("a1"), proven("a1")])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql)
    with pytest.raises(JournalDamaged, match="cannot be read"):
        read_facts(path)


@pytest.mark.parametrize(
    "sql", ["UPDATE step SET breaches = '{'", "UPDATE breach SET at = ''", "UPDATE breach SET decisions = '[1]'"]
)
def test_a_story_that_cannot_be_understood_is_said_to_be_damaged(path: Path, sql: str) -> None:
    with closing(Store.open(path)) as store:
        store.write([started(), broken("a1"), step("a1"), proven("a1")])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql)
    with pytest.raises(JournalDamaged, match="cannot be read"):
        read_stories(path)


def test_a_file_that_is_no_journal_is_said_to_be_damaged(path: Path) -> None:
    path.write_bytes(b"no journal " * 1_000)
    with pytest.raises(JournalDamaged, match="cannot be read"):
        read_facts(path)


def test_reading_changes_nothing(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([started(), broken("a1")])
    before = path.read_bytes()
    read_facts(path)
    read_stories(path)
    assert path.read_bytes() == before


def test_a_reader_beside_a_writer_sees_whole_groups_only(path: Path) -> None:
    """Each group holds a pulse and a standing of the same second; one without the other would be half a group."""
    with closing(Store.open(path)) as store:
        store.write([started(), alive(0), stands(0)])
        finished = threading.Event()

        def write() -> None:
            try:
                for n in range(1, 100):
                    store.write([alive(n), Standing(ACCOUNT, at(n), "{}"), broken(f"b{n}", seconds=n), step(f"b{n}")])
            finally:
                finished.set()

        writer = threading.Thread(target=write)
        writer.start()
        looks = 0
        try:
            while not finished.is_set():
                facts = read_facts(path)
                assert facts.run is not None
                assert facts.standings[ACCOUNT][0] == facts.run.alive_at
                assert all(len(story.steps) == 1 for story in read_stories(path)[-5:])
                looks += 1
        finally:
            writer.join()
    assert looks > 1


KILLED = """
import os, sys
from pathlib import Path
from flatguard.journal.store import Store
from tests.fakes.entries import broken, quoted, stands, started

store = Store.open(Path(sys.argv[1]))
store.write([started(), stands(5), broken("a1")])
store.write([quoted(1)])
os.kill(os.getpid(), 9)
"""


@pytest.mark.e2e
@pytest.mark.skipif(sys.platform == "win32", reason="kills as POSIX does")
def test_what_a_killed_process_committed_can_be_read(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=30, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    facts = read_facts(path)
    assert facts.run is not None
    assert facts.run.stopped_at is None
    assert facts.standings[ACCOUNT][0] == at(5)
    assert [story.id for story in read_stories(path)] == ["a1"]
    with closing(Store.open(path)) as store:
        assert store.recover(ACCOUNT).tape[-1].event == quoted(1).event


# the past


def test_the_past_is_told_by_row_and_by_moment(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([started(), stood(), quoted(1), quoted(2, OTHER), broken("a1", seconds=3), stood(1), held(4)])
        store.write([RunStopped(at(5)), started(6), stood(1), quoted(7)])
    with reading_past(path) as past:
        assert past is not None
        everything = list(past.tape(ACCOUNT))
        assert [(row.seq, row.run, row.at, row.kind) for row in everything] == [
            (1, 1, at(1), "QuoteMoved"),
            (3, 1, at(3), "QuoteMoved"),
            (4, 1, at(4), "PositionChanged"),
            (5, 2, at(7), "QuoteMoved"),
        ]
        assert [tape_row(row.kind, row.event, row.judged).event for row in everything] == [
            entry.event for entry in (quoted(1), broken("a1", seconds=3), held(4), quoted(7))
        ]
        assert list(past.tape(ACCOUNT, after=1, upto=4)) == everything[1:3]
        assert list(past.tape(ACCOUNT, since=at(3), until=at(7))) == everything[1:3]
        assert [(base.seq, base.run, base.day) for base in past.bases(ACCOUNT)] == [
            (0, 1, "2026-03-18"),
            (3, 1, "2026-03-19"),
            (4, 2, "2026-03-19"),
        ]
        assert past.base(ACCOUNT) == past.bases(ACCOUNT)[2]
        assert past.base(ACCOUNT, seq=3) == past.base(ACCOUNT, at=at(5)) == past.bases(ACCOUNT)[1]
        assert past.base(ACCOUNT, at=at(-1)) is None
        assert decode(past.bases(ACCOUNT)[0].state, AccountState) == stood().state
        assert past.accounts() == (ACCOUNT,)
        assert [(run.id, run.started_at, run.stopped_at, run.accounts, run.settings) for run in past.runs()] == [
            (1, NOON, at(5), (ACCOUNT,), "{}"),
            (2, at(6), None, (ACCOUNT,), "{}"),
        ]


def test_there_is_no_past_before_there_is_a_journal(path: Path) -> None:
    with reading_past(path) as past:
        assert past is None
