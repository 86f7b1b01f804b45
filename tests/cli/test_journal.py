"""What a person and a script learn about a journal, and what they read when it is none."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flatguard.cli import cli
from flatguard.errors import FlatguardError, JournalDamaged
from flatguard.journal import migrations
from flatguard.journal.reading import NEWEST
from flatguard.journal.store import Store
from flatguard.model.entries import RunStopped
from tests.fakes.entries import ACCOUNT, OTHER, at, broken, proven, quoted, started, step, stood


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal.db"
    with closing(Store.open(path)) as store:
        store.write([started(), stood(), quoted(1), quoted(2, OTHER), broken("a1", seconds=3)])
        store.write([step("a1", seconds=5), proven("a1", seconds=7), RunStopped(at(10))])
    return path


def journal(*words: object) -> Result:
    return CliRunner().invoke(cli, ["journal", *map(str, words)])


def exported(*words: object) -> list[dict[str, Any]]:
    result = journal("export", *words)
    assert result.exit_code == 0
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_an_intact_journal_ends_with_0_and_says_its_head(path: Path) -> None:
    said = json.loads(journal("verify", path, "--json").stdout)
    assert said["integrity"] == {"ok": True, "findings": [], "head_known": None}
    result = journal("verify", path, "--head", said["head"]["hash"])
    assert result.exit_code == 0
    assert "INTEGRITY: nothing was changed" in result.stdout
    assert f"HEAD: {said['head']['hash']}" in result.stdout


def test_a_journal_that_was_changed_ends_with_1_and_says_where(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM breach")
    result = journal("verify", path)
    assert result.exit_code == 1
    assert "INTEGRITY: BROKEN" in result.stdout
    assert "breach 25700001 a1 was removed" in result.stdout


def test_a_head_that_is_not_in_the_chain_ends_with_1(path: Path) -> None:
    result = journal("verify", path, "--head", "0" * 64)
    assert result.exit_code == 1
    assert "the head that you noted is not in the chain" in result.stdout


def test_the_record_is_exported_one_object_a_line(path: Path, tmp_path: Path) -> None:
    lines = exported(path)
    assert [line["kind"] for line in lines] == ["run", "breach", "step", "proof", "event", "event", "event"]
    assert {line["schema_version"] for line in lines} == {1}
    assert lines[-1]["judged"]["found"][0]["id"] == "a1"
    assert journal("export", path, "--output", tmp_path / "out").exit_code == 0
    assert [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()] == lines
    assert isinstance(journal("export", path, "--output", tmp_path / "out").exception, FlatguardError)


def test_what_is_exported_can_be_bounded(path: Path) -> None:
    assert [line["account"] for line in exported(path, "--account", OTHER) if line["kind"] != "run"] == [OTHER]
    some = exported(path, "--from", at(2).isoformat(), "--to", "2026-03-18T17:00:03Z", "--account", ACCOUNT)
    assert some == []
    assert [line["kind"] for line in exported(path, "--from", "2026-03-18T17:00:06")] == ["proof"]
    assert journal("export", path, "--from", "yesterday").exit_code == 2


@pytest.mark.parametrize("command", ["verify", "export"])
def test_what_is_no_journal_is_said_to_be_none(command: str, tmp_path: Path, path: Path) -> None:
    assert "there is no journal" in str(journal(command, tmp_path / "none.db").exception)
    (tmp_path / "text").write_text("this is no journal " * 1_000)
    assert isinstance(journal(command, tmp_path / "text").exception, JournalDamaged)
    for version, said in ((99, "newer flatguard"), (2, "older flatguard")):
        with closing(sqlite3.connect(path)) as db:
            db.execute(f"PRAGMA user_version = {version}")
        assert said in str(journal(command, path).exception)


def test_the_reader_knows_the_version_that_the_writer_writes() -> None:
    assert len(migrations.steps()) == NEWEST
