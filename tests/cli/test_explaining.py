"""``why``, ``history``, ``lockouts`` and ``replay``: what is asked for, what cannot be meant, and what is not there."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from click.testing import CliRunner, Result

from flatguard.cli import cli, history, lockouts, replay, why
from flatguard.daemon import sole_guard as locks
from flatguard.daemon.sole_guard import sole_guard
from flatguard.errors import FlatguardError, InvalidSettings, JournalDamaged, NotOnRecord, WrongUsage
from flatguard.journal.store import Store
from flatguard.ledger.apply import apply
from flatguard.ledger.awakened import awakened
from flatguard.model.account import AccountState
from flatguard.model.decisions import CloseContract, Flatten, LimitNear, LockOut, ReduceTo
from flatguard.model.entries import Checkpoint, Entry, Judged, RunStarted, RunStopped
from flatguard.model.events import ClockReached, Event, PositionChanged, TradeMade
from flatguard.model.ids import AccountId
from flatguard.rules._book import RuleBook
from flatguard.rules._step import step
from flatguard.settings.in_force import written
from flatguard.settings.load import Settings, load
from tests.fakes import desk
from tests.fakes.entries import ACCOUNT, FIVE_PM, MNQ, OTHER, at, broken, proven
from tests.fakes.entries import step as sent

URL = "http://127.0.0.1:9"
CONFIG = f"""
[gateway]
rest_url = "{URL}"
user_name = "trader1"

[journal]
path = "journal.db"

[rules.max_contracts]
limit = 2

[rules.daily_realized_loss]
loss_limit = "500"

[[accounts]]
id = {ACCOUNT}
mode = "enforce"
"""

Run = Callable[..., Result]
Write = Callable[..., None]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "lock"
    folder.mkdir()
    monkeypatch.setattr(locks, "FOLDERS", (folder,))

    class Clock:
        def now(self) -> datetime:
            return at(3600)

    for room in (history, lockouts, replay, why):
        monkeypatch.setattr(room, "SystemClock", Clock)
    (tmp_path / "config.toml").write_text(CONFIG)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*entries: Entry) -> None:
        with closing(Store.open(tmp_path / "journal.db")) as store:
            store.write(entries)

    return write


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return lambda name, *words: CliRunner().invoke(cli, [name, "--config", str(tmp_path / "config.toml"), *words])


def facts(result: Result) -> Any:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    told = json.loads(result.stdout)
    assert told["schema_version"] == 1
    return told


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(tmp_path / "config.toml", {})


def began(settings: Settings | None = None, seconds: float = -60) -> RunStarted:
    text = "{}" if settings is None else written(settings)
    return RunStarted(at(seconds), "0.1.0", 1, (ACCOUNT,), text)


# why


def test_a_decision_is_told_with_its_settings_and_where_they_came_from(
    run: Run, write: Write, settings: Settings
) -> None:
    breach = evolve(broken("a1").found[0], sources=(("user hub", "up"),))
    trade = evolve(desk.trade(1, at(-1), "-510"), contract_id=MNQ)
    write(
        began(settings), evolve(broken("a1"), event=TradeMade(at(0), trade), found=(breach,)), sent("a1"), proven("a1")
    )
    story = facts(run("why", "A1", "--json"))
    assert story["settings"]["rule"]["loss_limit"] == {"value": "500", "from": "file:13"}
    assert story["settings"]["rule"]["combined"] == {"value": True, "from": "default"}
    assert (story["settings"]["mode"], story["settings"]["flatguard"]) == ("enforce", "0.1.0")
    assert story["sources"] == [{"name": "user hub", "value": "up"}]
    assert story["event"]["kind"] == "TradeMade"
    assert (story["event"]["broker_at"], story["event"]["age_ms"]) == ("2026-03-18T16:59:59Z", 1000)
    assert story["event"]["text"].startswith("MNQZ6, side ")
    assert story["requests"][0] == {
        "action": "close",
        "contract": "MNQZ6",
        "detail": "",
        "sent_at": "2026-03-18T17:00:01Z",
        "answered_at": "2026-03-18T17:00:02Z",
        "outcome": "done",
        "reason": "",
        "after_ms": 1000,
        "took_ms": 1000,
    }
    assert (story["reached_ms"], story["proven_ms"]) == (3000, 4000)
    assert story["wanted"] == ["no position in the account, and no working order"]
    assert story["locks"][0]["standing"] == "in force"
    text = run("why", "a1").stdout
    assert f"(flatguard 0.1.0)\n  loss_limit     500  ({settings.path}:13)" in text


def test_a_fill_that_came_in_a_list_is_the_one_that_is_told(run: Run, write: Write) -> None:
    rows = [evolve(desk.trade(number, at(-number), -number), contract_id=MNQ) for number in (3, 1, 2)]
    write(began(), evolve(broken("a1"), event=desk.record(at(0), rows)))
    assert facts(run("why", "a1", "--json"))["event"]["broker_at"] == "2026-03-18T16:59:59Z"


def test_what_a_lock_led_to_is_told_and_what_another_led_to_is_not(run: Run, write: Write) -> None:
    later = evolve(
        broken("b1", Flatten(), rule="lockout", seconds=60),
        found=(
            evolve(
                broken("b1", Flatten(), rule="lockout", seconds=60).found[0],
                figures=(("locked by", "daily_realized_loss, max_contracts"),),
            ),
        ),
    )
    other = evolve(
        later, found=(evolve(later.found[0], id="b2", at=at(61), figures=(("locked by", "max_contracts"),)),)
    )
    write(began(), broken("a1"), later, other, broken("c1", LockOut(None), seconds=5))
    assert [led["id"] for led in facts(run("why", "a1", "--json"))["led_to"]] == ["b1"]
    assert [led["id"] for led in facts(run("why", "c1", "--json"))["led_to"]] == ["b1"]
    assert facts(run("why", "b1", "--json"))["led_to"] == []


@pytest.mark.parametrize(
    ("later", "standing"),
    [
        ([], "in force"),
        ([broken("a2", LockOut(FIVE_PM + timedelta(days=1)), seconds=9)], "in force, by decision a2"),
        ([Judged(ACCOUNT, ClockReached(at(9)), locks=())], "it is over"),
    ],
)
def test_whether_a_lock_still_holds_is_told(run: Run, write: Write, later: list[Entry], standing: str) -> None:
    write(began(), broken("a1"), *later)
    assert facts(run("why", "a1", "--json"))["locks"][0]["standing"] == standing


def test_a_lock_that_nobody_lifts_because_the_daemon_is_down_is_over_by_its_time(run: Run, write: Write) -> None:
    write(began(), broken("a1", LockOut(at(30))))
    (lock,) = facts(run("why", "a1", "--json"))["locks"]
    assert (lock["standing"], lock["in_force"]) == ("its time is over", False)


def test_a_decision_of_which_much_is_not_on_record_is_told_all_the_same(run: Run, write: Write, tmp_path: Path) -> None:
    write(broken("a1", CloseContract(MNQ), ReduceTo(MNQ, 2)))
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db, db:
        db.execute("DELETE FROM tape")
    story = facts(run("why", "a1", "--json"))
    assert (story["event"], story["settings"], story["locks"]) == (None, None, [])
    assert story["wanted"] == ["no position in MNQZ6, and no working order that could open one", "at most 2 MNQZ6"]
    write(began(), broken("b1", Flatten()))
    assert facts(run("why", "b1", "--json"))["settings"]["rule"] == {}


@pytest.mark.parametrize(
    ("prefix", "says"),
    [
        ("zz", "the journal has no decision 'zz'"),
        ("", "no decision is named"),
        ("a", r"7 decisions begin with 'a': a0 \(daily_realized_loss\), .*, …"),
    ],
)
def test_an_id_that_names_no_decision_or_several_is_refused(run: Run, write: Write, prefix: str, says: str) -> None:
    write(began(), *(broken(f"a{number}", Flatten(), seconds=number) for number in range(7)))
    result = run("why", prefix)
    assert isinstance(result.exception, NotOnRecord)
    assert result.exception.exit_status == 1
    assert result.exception.hint
    with pytest.raises(NotOnRecord, match=says):
        raise result.exception


def test_an_id_that_is_the_beginning_of_another_names_itself(run: Run, write: Write) -> None:
    write(began(), broken("a1", Flatten()), broken("a12", Flatten(), seconds=1))
    assert facts(run("why", "a1", "--json"))["id"] == "a1"


# history


def test_the_history_can_be_narrowed(run: Run, write: Write, settings: Settings) -> None:
    write(began(settings), broken("a1", seconds=0), broken("b1", Flatten(), rule="max_contracts", seconds=60))
    write(broken("c1", Flatten(), account=OTHER, seconds=120), sent("b1", seconds=61), proven("a1"))

    def ids(*words: str) -> list[str]:
        return [row["id"] for row in facts(run("history", "--json", *words))["history"]]

    write(RunStarted(at(100), "0.1.0", 1, (OTHER,), "[]"))
    assert ids() == ["a1", "b1", "c1"]
    assert ids("--limit", "2") == ["b1", "c1"]
    assert ids("--rule", "max_contracts") == ["b1"]
    assert ids("--account", str(OTHER)) == ["c1"]
    assert ids("--since", at(60).isoformat()) == ["b1", "c1"]
    assert ids("--until", at(60).isoformat()) == ["a1"]
    assert ids("--since", "59m") == ["b1", "c1"]
    assert ids("--since", "today") == ["a1", "b1", "c1"]
    assert ids("--since", "2026-03-18 12:01") == ["b1", "c1"], "times without a zone are the exchange's"
    assert ids("--since", "2026-03-19") == []
    assert "nothing was decided" in run("history", "--since", "2026-03-19").stderr


def test_the_history_says_what_came_of_each(run: Run, write: Write, settings: Settings) -> None:
    shadow = evolve(settings, accounts=tuple(evolve(a, mode="shadow") for a in settings.accounts))
    write(began(settings), broken("a1"), sent("a1"), proven("a1"), broken("b1", Flatten(), seconds=10))
    write(broken("c1", LockOut(None), seconds=20), sent("c1", seconds=21))
    with_shadow = [began(shadow, 25), broken("d1", Flatten(), seconds=30)]
    write(*with_shadow)
    write(RunStarted(at(35), "0.0.9", 1, (ACCOUNT,), "[]"), broken("e1", Flatten(), seconds=40))
    rows = facts(run("history", "--json"))["history"]
    assert [row["outcome"] for row in rows] == [
        "proven",
        "nothing sent",
        "done, not proven",
        "nothing sent, in shadow",
        "nothing sent",
    ]
    assert [(row["locks"], row["locked_until"]) for row in rows[:3]] == [
        (True, "2026-03-18T22:00:00Z"),
        (False, None),
        (True, None),
    ]
    assert (rows[0]["first_request_ms"], rows[0]["reached_ms"], rows[0]["proven_ms"]) == (1000, 3000, 4000)


def test_warnings_stand_among_the_decisions_where_they_are_asked_for(run: Run, write: Write) -> None:
    near = LimitNear(ACCOUNT, "max_contracts", at(5), 80, "4 of 5")
    write(began(), broken("a1"), Judged(ACCOUNT, ClockReached(at(5)), near=(near,)), broken("b1", seconds=9))
    assert [row["kind"] for row in facts(run("history", "--json", "--warnings"))["history"]] == [
        "decision",
        "warning",
        "decision",
    ]
    assert len(facts(run("history", "--json"))["history"]) == 2
    assert "WARNING: 4 of 5" in run("history", "--warnings").stdout
    narrowed = facts(run("history", "--json", "--warnings", "--rule", "daily_realized_loss"))
    assert {row["kind"] for row in narrowed["history"]} == {"decision"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--since", "yesterday"], "--since 'yesterday' is no time"),
        (["--until", "999999d"], "--until '999999d' is no time"),
        (["--rule", "max_contract"], "there is no rule 'max_contract'"),
        (["--account", "3"], "account 3 is not known here"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(run: Run, write: Write, words: list[str], says: str) -> None:
    write(began(), broken("a1"))
    result = run("history", *words)
    assert isinstance(result.exception, WrongUsage)
    assert (str(result.exception), result.exception.exit_status) == (says, 2)
    assert result.exception.hint


# lockouts


def test_locks_are_told_from_the_journal_whether_the_daemon_runs_or_not(run: Run, write: Write) -> None:
    write(evolve(began(), accounts=(ACCOUNT, OTHER)), broken("a1"))
    write(broken("b1", LockOut(at(30)), account=OTHER, rule="cooldown_after_loss"))
    told = facts(run("lockouts", "--json"))
    assert told["running"] is False
    assert [(lock["breach"], lock["until"]) for lock in told["lockouts"]] == [("a1", "2026-03-18T22:00:00Z")]
    result = run("lockouts")
    assert (result.exit_code, "not running" in result.stderr) == (0, True)
    assert "(4:00:00 left)" in result.stdout
    with sole_guard(URL, [ACCOUNT]):
        assert facts(run("lockouts", "--json"))["running"] is True
        assert run("lockouts").stderr == ""
    assert "nothing is locked" in run("lockouts", "--account", str(OTHER)).stderr


def test_locks_that_are_over_are_told_on_request(run: Run, write: Write) -> None:
    write(
        began(), broken("a1"), Judged(ACCOUNT, ClockReached(at(9)), locks=()), broken("b1", LockOut(at(30)), seconds=20)
    )
    write(broken("c1", LockOut(None), account=OTHER))
    told = facts(run("lockouts", "--all", "--json"))["lockouts"]
    assert [(lock["breach"], lock["in_force"]) for lock in told] == [("a1", False), ("b1", False), ("c1", True)]
    assert [lock["standing"][:10] for lock in told[:2]] == ["it is over", "its time i"]
    assert [lock["breach"] for lock in facts(run("lockouts", "--json"))["lockouts"]] == ["c1"]


def test_a_lock_of_an_account_that_is_not_known_is_not_said_to_be_none(run: Run, write: Write) -> None:
    write(began())
    assert isinstance(run("lockouts", "--account", "3").exception, WrongUsage)


# the journal itself

COMMANDS = [("why", "a1"), ("history",), ("lockouts",), ("replay",)]


@pytest.mark.parametrize("words", COMMANDS)
def test_without_a_journal_nothing_can_be_told(run: Run, words: tuple[str, ...], tmp_path: Path) -> None:
    error = run(*words).exception
    assert isinstance(error, NotOnRecord)
    assert str(tmp_path / "journal.db") in str(error)
    assert "flatguard" in error.hint


@pytest.mark.parametrize("words", COMMANDS)
def test_a_damaged_journal_is_said_to_be_damaged(run: Run, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no journal " * 100)
    assert isinstance(run(*words).exception, JournalDamaged)


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize(("version", "which"), [(1, "older"), (99, "newer")])
def test_a_journal_of_another_version_is_not_guessed_at(
    run: Run, write: Write, words: tuple[str, ...], tmp_path: Path, version: int, which: str
) -> None:
    write(began(), broken("a1"))
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db:
        db.execute(f"PRAGMA user_version = {version}")
    error = run(*words).exception
    assert isinstance(error, FlatguardError)
    assert f"written by a {'n' * (which == 'older')}" in str(error) or f"an {which} flatguard" in str(error)
    assert error.exit_status == 1


@pytest.mark.parametrize("words", COMMANDS)
def test_a_daemon_may_write_meanwhile(run: Run, write: Write, words: tuple[str, ...], tmp_path: Path) -> None:
    write(began(), broken("a1"))
    with closing(Store.open(tmp_path / "journal.db")) as store:
        store.write([broken("b1", seconds=1)])
        result = run(*words)
        store.write([broken("c1", seconds=2)])
    assert result.exception is None or isinstance(result.exception, SystemExit | NotOnRecord)


@pytest.mark.parametrize("name", ["why", "history", "lockouts", "replay"])
def test_a_question_starts_without_what_only_the_daemon_needs(name: str) -> None:
    program = f"import sys, flatguard.cli.{name}; print(*sorted({{'trio', 'httpx', 'hypercorn'}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# replay


def lived(state: AccountState, events: list[Event], book: RuleBook) -> tuple[list[Entry], AccountState]:
    entries: list[Entry] = []
    for event in events:
        taken = step(state, event, apply(state, event), book)
        entries.append(taken.judged)
        state = taken.state
    return entries, state


def some_events(first: float, account: AccountId = ACCOUNT) -> list[Event]:
    def position(size: int) -> Any:
        return evolve(desk.position(MNQ, size), account_id=account)

    return [
        evolve(desk.exposure(at(first)), account_id=account),
        evolve(desk.record(at(first)), account_id=account),
        PositionChanged(at(first + 1), position(3)),
        PositionChanged(at(first + 2), position(0)),
    ]


def the_record(settings: Settings) -> tuple[list[Entry], AccountState]:
    book = RuleBook(settings.accounts[0].rules)
    begins = AccountState(ACCOUNT, terms=settings.terms)
    entries, end = lived(begins, some_events(0), book)
    return [began(settings), Checkpoint(begins), *entries, Checkpoint(end)], end


def test_a_journal_that_is_named_needs_no_settings(run: Run, write: Write, settings: Settings, tmp_path: Path) -> None:
    write(*the_record(settings)[0], RunStopped(at(9)))
    (tmp_path / "config.toml").unlink()
    told = facts(run("replay", str(tmp_path / "journal.db"), "--json"))
    assert (told["ok"], told["accounts"][0]["events"], told["accounts"][0]["states_compared"]) == (True, 4, 2)
    assert told["accounts"][0]["runs"][0]["stopped_at"] == "2026-03-18T17:00:09Z"
    assert isinstance(run("replay").exception, InvalidSettings)


def test_a_file_that_is_no_journal_is_refused_without_advice_about_the_daemon(run: Run, tmp_path: Path) -> None:
    error = run("replay", str(tmp_path / "config.toml")).exception
    assert isinstance(error, FlatguardError)
    assert "file is not a database" in str(error)
    assert error.hint == "name the journal of a flatguard"


def test_a_row_that_cannot_be_read_is_named(run: Run, write: Write, settings: Settings, tmp_path: Path) -> None:
    write(*the_record(settings)[0])
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db, db:
        db.execute("UPDATE tape SET event = '{}' WHERE seq = 3")
    error = run("replay").exception
    assert isinstance(error, JournalDamaged)
    assert "row 3 of the tape" in str(error)


def test_a_record_without_its_settings_cannot_be_judged_again_but_by_other_rules_it_can(
    run: Run, write: Write, settings: Settings, tmp_path: Path
) -> None:
    _, *rest = the_record(settings)[0]
    write(began(), *rest)
    error = run("replay").exception
    assert isinstance(error, InvalidSettings)
    assert "the run of 2026-03-18 16:59:00Z: the settings of that run are not in the journal in full" in str(error)
    (tmp_path / "other.toml").write_text("[rules.max_contracts]\nlimit = 1\n")
    (account,) = facts(run("replay", "--rules", str(tmp_path / "other.toml"), "--json"))["accounts"]
    (row,) = account["decisions"]
    assert (row["decided"]["reason"], row["would_be_decided"]["reason"]) == (
        "3 contracts held (net), limit 2",
        "3 contracts held (net), limit 1",
    )


def test_rules_for_other_accounts_are_refused(run: Run, write: Write, settings: Settings, tmp_path: Path) -> None:
    write(*the_record(settings)[0])
    other = CONFIG.replace(str(ACCOUNT), str(OTHER))
    (tmp_path / "other.toml").write_text(other)
    error = run("replay", "--rules", str(tmp_path / "other.toml")).exception
    assert isinstance(error, InvalidSettings)
    assert f"there is no account {ACCOUNT}" in str(error)
    (tmp_path / "other.toml").write_text("[rules.max_contracts]\nlimit = 0\n")
    assert "must be 1 or more" in str(run("replay", "--rules", str(tmp_path / "other.toml")).exception)


def test_accounts_are_folded_each_by_itself(run: Run, write: Write, settings: Settings) -> None:
    two = evolve(settings, accounts=(*settings.accounts, evolve(settings.accounts[0], id=OTHER)))
    book = RuleBook(settings.accounts[0].rules)
    states = [AccountState(number, terms=settings.terms) for number in (ACCOUNT, OTHER)]
    first, end = lived(states[0], some_events(0), book)
    second, other_end = lived(states[1], some_events(0.5, OTHER), book)
    mixed = [entry for pair in zip(first, second, strict=True) for entry in pair]
    write(began(two), *map(Checkpoint, states), *mixed, Checkpoint(end), Checkpoint(other_end))
    assert [one["events"] for one in facts(run("replay", "--json"))["accounts"]] == [4, 4]
    assert [one["account"] for one in facts(run("replay", "--json", "--account", str(OTHER)))["accounts"]] == [OTHER]
    error = run("replay", "--account", "3").exception
    assert isinstance(error, WrongUsage)


def test_settings_changed_across_a_crash_are_noted_and_what_follows_is_compared(
    run: Run, write: Write, settings: Settings
) -> None:
    """What the crash left behind the checkpoint was folded by the new settings, so commissions count otherwise."""
    dearer = evolve(settings, other_commission=Decimal(9), commissions={})
    book = RuleBook(settings.accounts[0].rules)
    entries, end = the_record(settings)
    begins = awakened(evolve(end, terms=dearer.terms, warned={"max_contracts": 60}))
    later, last = lived(begins, some_events(60), book)
    write(*entries, began(dearer, 50), Checkpoint(begins), *later, Checkpoint(last))
    (account,) = facts(run("replay", "--json"))["accounts"]
    assert account["difference"] is None
    assert "after a crash" in account["notes"][0]
    assert len(account["runs"]) == 2


def test_the_same_settings_across_a_crash_have_to_give_the_same_state(
    run: Run, write: Write, settings: Settings
) -> None:
    entries, end = the_record(settings)
    begins = awakened(evolve(end, warned={"max_contracts": 60}))
    write(*entries, began(settings, 50), Checkpoint(begins))
    told = facts(run("replay", "--json"))
    assert told["ok"] is False
    assert told["accounts"][0]["difference"]["what"] == "the state's warned"
    assert told["accounts"][0]["notes"] == []


def test_a_run_that_left_no_state_begins_where_its_rows_do(run: Run, write: Write, settings: Settings) -> None:
    entries, end = the_record(settings)
    later, _ = lived(awakened(end), some_events(60), RuleBook(settings.accounts[0].rules))
    write(*entries, RunStopped(at(9)), began(settings, 50), *later)
    (account,) = facts(run("replay", "--json"))["accounts"]
    assert (account["difference"], account["events"], len(account["runs"])) == (None, 8, 2)


def test_what_an_older_version_wrote_cannot_be_folded_again(
    run: Run, write: Write, settings: Settings, tmp_path: Path
) -> None:
    write(*the_record(settings)[0])
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db, db:
        db.execute("UPDATE base SET run = 0")
    error = run("replay").exception
    assert isinstance(error, NotOnRecord)
    assert "an older flatguard wrote all there is" in str(error)


def test_nothing_on_the_tape_is_said_and_long_tapes_tell_how_far_it_is(
    run: Run, write: Write, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(began(settings))
    result = run("replay")
    assert (result.exit_code, "nothing is on the tape yet" in result.stderr) == (0, True)
    write(*the_record(settings)[0])
    monkeypatch.setattr(replay, "PROGRESS_EVERY", 2)
    assert "account 25700001: 2 of 4 events, 2026-03-18 17:00:00Z" in run("replay").stderr
