"""What was changed, inserted or removed shows; what was let go, or never recorded, is told apart from that."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from attrs import evolve

from flatguard.journal.store import Store
from flatguard.journal.verify import Verdict, verify
from flatguard.model.entries import Entry, Forgotten, Judged, RunStopped
from flatguard.model.events import EventSetAside, Hub
from tests.fakes.entries import (
    ACCOUNT,
    NOON,
    OTHER,
    alive,
    at,
    broken,
    held,
    proven,
    quoted,
    started,
    step,
    stood,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def checked(path: Path, head: str | None = None) -> Verdict:
    verdict = verify(path, head)
    assert verdict is not None
    return verdict


def tampered(path: Path, sql: str) -> Verdict:
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(sql).rowcount == 1
    return checked(path)


@pytest.fixture
def kept(path: Path) -> Path:
    """A journal with a run in it that ended well."""
    with closing(Store.open(path)) as store:
        store.write([started(), stood(), quoted(1), quoted(2, OTHER)])
        store.write([broken("a1", seconds=3), held(4)])
        store.write([step("a1", seconds=5), proven("a1", seconds=7)])
        store.write([quoted(9), stood(), RunStopped(at(10))])
    return path


def test_a_journal_that_nobody_touched_is_intact(kept: Path) -> None:
    verdict = checked(kept)
    assert verdict.findings == []
    assert (verdict.links, verdict.rows, verdict.gaps, verdict.stopped) == (4, 5, [], True)
    assert verdict.head is not None
    assert checked(kept, verdict.head.hash).intact
    assert not checked(kept, "0" * 64).intact


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("UPDATE tape SET event = replace(event, '9', '8') WHERE seq = 5", "at least one was changed"),
        ("UPDATE tape SET judged = NULL WHERE seq = 3", "at least one was changed"),
        ("UPDATE tape SET at = '2026-03-18T17:00:01.5+00:00' WHERE seq = 1", "at least one was changed"),
        ("UPDATE tape SET account = 1 WHERE seq = 2", "1 were inserted"),
        ("DELETE FROM tape WHERE seq = 2", "1 were removed"),
        ("DELETE FROM tape WHERE seq = 5", "1 were removed"),
        ("INSERT INTO tape (account, at, kind, event) VALUES (1, '', '', '')", "1 rows of the tape are in no link"),
        ("INSERT INTO tape (seq, account, at, kind, event) VALUES (0, 1, '', '', '')", "1 rows of the tape come"),
        ("UPDATE breach SET reason = 'another'", "breach: a row was changed"),
        ("DELETE FROM breach", "breach 25700001 a1 was removed"),
        ("UPDATE step SET outcome = 'refused'", "a row was changed"),
        ("DELETE FROM step", "step 1 was removed"),
        ("DELETE FROM proof", "proof 1 was removed"),
        ("UPDATE run SET settings = '{\"x\":1}'", "run: a row was changed"),
        ("INSERT INTO proof SELECT 7, account, breaches, reached_at, proven_at FROM proof", "proof 7 is in no link"),
        ("UPDATE chain SET at = '2026-03-18T17:00:02+00:00' WHERE number = 2", "link 2 of .* was changed"),
        ("UPDATE chain SET digest = '' WHERE number = 3", "link 3 of .* was changed"),
        ("DELETE FROM chain WHERE number = 2", "links 2 to 2 are missing"),
        ("DELETE FROM chain WHERE number = 1", "links 1 to 1 are missing"),
        ("DELETE FROM chain WHERE number = 4", "1 rows of the tape are in no link"),
        ("UPDATE journal SET id = '00000000000000000000000000000000'", "does not follow the link before it"),
    ],
)  # fmt: skip
def test_whatever_is_changed_inserted_or_removed_shows(kept: Path, sql: str, said: str) -> None:
    verdict = tampered(kept, sql)
    assert not verdict.intact
    with pytest.raises(AssertionError, match=said):
        raise AssertionError("; ".join(verdict.findings))


def test_an_end_that_was_cut_off_shows_only_against_a_head_that_was_noted(kept: Path) -> None:
    whole = checked(kept).head
    with closing(sqlite3.connect(kept)) as db, db:
        db.execute("DELETE FROM chain WHERE number = 4")
        db.execute("DELETE FROM tape WHERE seq = 5")
    assert whole is not None
    assert checked(kept).intact
    assert not checked(kept, whole.hash).intact


def test_times_without_a_record_are_told_and_whether_the_daemon_had_been_stopped(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([started(), stood()])
        for seconds in range(3, 600, 3):
            store.write([alive(seconds)])
        store.write([alive(2_000)])  # the machine slept
    with closing(Store.open(path)) as store:
        store.write([started(2_010), RunStopped(at(2_020))])  # it was killed
    with closing(Store.open(path)) as store:
        store.write([started(9_000), quoted(9_001)])
    verdict = checked(path)
    assert verdict.intact
    assert [((g.since - NOON).seconds, (g.until - NOON).seconds, g.clean) for g in verdict.gaps] == [
        (540, 2_000, False),
        (2_000, 2_020, False),
        (2_020, 9_001, True),
    ]
    assert (verdict.links, verdict.stopped) == (13, False)


def test_what_was_let_go_is_told_from_what_was_removed(path: Path) -> None:
    with closing(Store.open(path)) as store:
        for number in range(20):
            noon = NOON + timedelta(days=number)
            seen = [Judged(a, EventSetAside(noon, Hub.USER, "", "")) for a in (ACCOUNT, OTHER) for _ in range(3)]
            entries: list[Entry] = [stood(number), stood(number, OTHER), Forgotten(noon - timedelta(days=7))]
            store.write([started(number * 86_400)] if number in (0, 9) else [])
            for entry in seen:
                store.write([entry])
            store.write([*entries, step("a1", seconds=number * 86_400)] if number == 3 else entries)
    verdict = checked(path)
    assert verdict.findings == []
    assert verdict.forgotten.keys() == {ACCOUNT, OTHER}
    assert min(verdict.forgotten.values()) > 60
    assert verdict.merged > 50
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM chain").fetchone()[0] < 70
        assert db.execute("SELECT count(*) FROM step").fetchone()[0] == 1
    assert not tampered(path, "UPDATE tape SET seq = 1 WHERE seq = (SELECT max(seq) FROM tape)").intact


def test_what_an_older_program_wrote_is_sealed_when_its_journal_is_opened(path: Path) -> None:
    with closing(Store.open(path)) as store:
        store.write([started(), *(quoted(n) for n in range(12_000)), broken("a1"), step("a1"), proven("a1")])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM chain")
    Store.open(path).close()
    verdict = checked(path)
    assert verdict.findings == []
    assert (verdict.rows, verdict.links) == (12_001, 3)
    assert not tampered(path, "DELETE FROM breach").intact


def test_a_group_that_the_disk_refused_leaves_no_link(kept: Path) -> None:
    with closing(Store.open(kept)) as store:
        store._db.execute(f"PRAGMA max_page_count = {store._db.execute('PRAGMA page_count').fetchone()[0]}")
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.write([quoted(n) for n in range(6_000)])
        store._db.execute("PRAGMA max_page_count = 100000")
        store.write([started(20), quoted(21)])
    assert checked(kept).findings == []
    assert checked(kept).links == 5


def test_a_journal_that_is_not_there_is_not_judged(path: Path) -> None:
    assert verify(path) is None


@pytest.mark.parametrize("text", ["half a character \ud83d", "a\0b", "Größe ≥ 5"])
def test_whatever_text_the_broker_sent_is_hashed_as_it_is_read_again(path: Path, text: str) -> None:
    with closing(Store.open(path)) as store:
        store.write([Judged(ACCOUNT, EventSetAside(NOON, Hub.USER, text, text)), evolve(step("a1"), reason=text)])
    assert checked(path).findings == []
