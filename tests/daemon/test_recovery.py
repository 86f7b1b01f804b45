"""A restart changes nothing: whatever the moment of the kill, the next start stands where the last one stood."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import evolve

from flatguard.daemon.markers import journal_of, note_journal
from flatguard.daemon.recovery import DAMAGED, Recovery, folded, recover, replayed
from flatguard.errors import JournalDamaged
from flatguard.journal import store as store_module
from flatguard.journal.codec import encode
from flatguard.journal.late import LateStore
from flatguard.journal.store import Recovered, Store
from flatguard.journal.tape import TapeRow
from flatguard.ledger.apply import apply
from flatguard.ledger.awakened import awakened
from flatguard.model.account import AccountState, BreachMark, Link, Terms
from flatguard.model.decisions import Flatten
from flatguard.model.entries import Checkpoint, Entry, Judged
from flatguard.model.events import EventSetAside, Hub, LinkUp
from flatguard.model.lockouts import LockKind, Lockout
from flatguard.rules._book import RuleBook
from flatguard.rules.cooldown_after_loss import CooldownAfterLoss, Tier
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.settings.load import AccountSettings, Settings, load
from flatguard.simulator.options import Options
from tests.fakes.entries import ACCOUNT, FIVE_PM, NOON, at, held, quoted, started
from tests.fakes.system import System, open_system

RULES = {
    "max_contracts": MaxContracts(limit=4, enforcement="reduce_to_limit"),
    "daily_realized_loss": DailyRealizedLoss(loss_limit=Decimal(500)),
    "cooldown_after_loss": CooldownAfterLoss((Tier(Decimal(20), timedelta(seconds=8)),)),
}


ACCOUNT_SETTINGS = AccountSettings(ACCOUNT)


def bytes_of(state: AccountState) -> str:
    """The whole state as text, but for what no restart keeps."""
    return encode(awakened(state))


def cooling(system: System) -> list[str]:
    return [lock.rule for lock in system.state.lockouts if lock.kind is LockKind.COOLDOWN]


async def scripted_day(system: System) -> None:
    """Trade, break every rule, trade on while locked, lose the hub, and let the day turn."""
    await system.until_protected()
    await system.order("MNQ", 5)
    await system.until(lambda: system.held("MNQ") == 4)
    await system.order("MNQ", -2)
    await system.order("MNQ", 1, limit=20000)
    last = system.last("MNQ")
    await system.price("MNQ", last - 20)
    await system.order("MNQ", -1)
    await trio.sleep(1)
    await system.order("MNQ", 2)
    await system.until(lambda: system.held("MNQ") == 1 and "cooldown_after_loss" in cooling(system))
    await system.until(lambda: not cooling(system), 60)
    await system.price("ES", 5000)
    await system.order("ES", 2)
    await trio.sleep(2)
    await system.price("ES", 4994)
    await system.until(lambda: not system.held("ES") and not system.held("MNQ") and not system.working())
    await system.order("MNQ", 1)
    await trio.sleep(3)
    await system.fault("cut_hub", target="user", duration_s=5)
    await system.order("MNQ", -1, limit=30000)
    await trio.sleep(20)
    await system.until(lambda: system.clock.now() > FIVE_PM + timedelta(seconds=5), 120)
    await system.order("MNQ", 1)
    await trio.sleep(3)


Day = tuple[list[tuple[Judged, AccountState]], Terms]


async def play(tmp_path: Path) -> Day:
    """Return what the daemon judged on a scripted day, each with the state after it."""
    posted: list[tuple[Entry, AccountState]] = []
    start = FIVE_PM - timedelta(seconds=100)
    async with open_system(tmp_path, RULES, options=Options(), start=start) as system:
        assert system.at_work is not None
        system.at_work.on_entry.append(lambda entry: posted.append((entry, system.state)))
        await scripted_day(system)
    return [(entry, state) for entry, state in posted if isinstance(entry, Judged)], system.settings.terms


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    return trio.run(play, tmp_path_factory.mktemp("day"), clock=trio.testing.MockClock(autojump_threshold=0))


def row_of(entry: Judged) -> TapeRow:
    return TapeRow(entry.event, entry.found, entry.cleared, entry.locks, entry.warned)


@pytest.mark.parametrize("checkpoint_every", [0, 1, 7], ids=["no checkpoint", "every entry", "every seventh"])
def test_cut_after_any_entry_the_recovered_account_and_its_end_are_those_of_the_uncut_run(
    tmp_path: Path, day: Day, checkpoint_every: int
) -> None:
    tape, terms = day
    assert len(tape) > 100
    assert any(live.may_hold for _, live in tape)
    assert any(live.warned for _, live in tape)
    assert {breach.rule for entry, _ in tape for breach in entry.found} >= {*RULES, "lockout"}
    end = bytes_of(tape[-1][1])
    with closing(Store.open(tmp_path / "cut.db")) as store:
        store._db.execute("PRAGMA synchronous = OFF")
        for cut, (entry, live) in enumerate(tape, 1):
            group: list[Entry] = [entry]
            if checkpoint_every and cut % checkpoint_every == 0:
                group.append(Checkpoint(live))
            store.write(group)
            recovered = replayed(ACCOUNT_SETTINGS, store.recover(ACCOUNT), terms)
            assert bytes_of(recovered) == bytes_of(live), (cut, entry)
            if cut % 10 == 0:
                assert bytes_of(folded(recovered, [row_of(rest) for rest, _ in tape[cut:]], RuleBook())) == end, cut


def test_judging_the_tape_again_finds_the_same_breaches_with_the_same_ids(
    day: Day,
) -> None:
    tape, terms = day
    book, state = RuleBook(RULES), AccountState(ACCOUNT, terms=terms)
    for entry, live in tape:
        judgement = book.judge(apply(state, entry.event), entry.event)
        state = judgement.state
        assert (judgement.found, judgement.cleared) == (entry.found, entry.cleared)
        assert encode(state) == encode(live)


def test_a_lock_that_a_standing_breach_moved_to_a_later_end_is_kept() -> None:
    """A breach that stands when the day turns locks anew without being found anew."""
    book = RuleBook({"max_contracts": MaxContracts(limit=2, lockout_on_breach=True)})
    entries, live = live_over_the_reset(book)
    assert [len(entry.found) for entry in entries].count(1) == 1
    ends = {lock.until for entry in entries for lock in entry.locks or ()}
    assert len(ends) == 2
    recovered = replayed(ACCOUNT_SETTINGS, Recovered(None, tuple(row_of(entry) for entry in entries)), Terms())
    assert recovered.lockouts == live.lockouts


def live_over_the_reset(book: RuleBook) -> tuple[list[Judged], AccountState]:
    state = evolve(AccountState(ACCOUNT), exposure_at=NOON, record_at=NOON)
    entries = []
    moments = [FIVE_PM - timedelta(seconds=10), FIVE_PM + timedelta(seconds=1), FIVE_PM + timedelta(seconds=5)]
    for moment in moments:
        event = evolve(held(5).event, at=moment)
        before = state.lockouts
        judgement = book.judge(apply(state, event), event)
        state = judgement.state
        locks = state.lockouts if state.lockouts != before else None
        entries.append(Judged(ACCOUNT, event, judgement.found, judgement.cleared, (), locks))
    return entries, state


def test_what_does_not_outlive_a_process_is_not_believed_after_a_start() -> None:
    mark = BreachMark("a1", "trade 1", at(0), at(5), (Flatten(),))
    state = apply(AccountState(ACCOUNT), quoted(1).event)
    state = apply(apply(state, LinkUp(at(1), Hub.USER)), EventSetAside(at(2), Hub.USER, "?", "unknown"))
    state = evolve(state, exposure_at=at(1), record_at=at(1), read_failed="x", breached={"max_contracts": mark})
    woken = awakened(state)
    assert woken.links == {Hub.USER: Link(), Hub.MARKET: Link()}
    assert (woken.exposure_at, woken.record_at) == (None, None)
    assert (woken.doubt, woken.read_failed, dict(woken.quotes)) == (None, None, {})
    assert woken.breached["max_contracts"] == evolve(mark, told=(), told_at=mark.since)


def test_a_tape_that_cannot_be_folded_is_damage() -> None:
    broken = evolve(held(1), event=evolve(held(1).event, at=datetime.max.replace(tzinfo=UTC)))
    with pytest.raises(JournalDamaged, match="25700001"):
        replayed(ACCOUNT_SETTINGS, Recovered(None, (row_of(broken),)), Terms())


# the whole daemon


def put_aside(folder: Path) -> list[Path]:
    return list(folder.glob("journal.db.damaged-*Z"))


async def test_a_damaged_journal_locks_its_accounts_until_the_reset_also_after_the_next_kill(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, RULES, start=FIVE_PM - timedelta(seconds=60)) as system:
        await system.until_protected()
        await system.stop()
        path = system.settings.journal.path
        damage = b"\0" * 100 + path.read_bytes()[100:]
        path.write_bytes(damage)
        system.said.clear()
        await system.start()
        (aside,) = put_aside(tmp_path)
        assert aside.read_bytes() == damage
        assert [str(aside) in sentence for sentence in system.said] == [True]
        assert [(lock.rule, lock.until) for lock in system.state.lockouts] == [(DAMAGED, FIVE_PM)]
        await system.kill()
        await system.start()
        assert [(lock.rule, lock.until) for lock in system.state.lockouts] == [(DAMAGED, FIVE_PM)]
        await system.until_protected()
        await system.order("MNQ", 1)
        await system.until(lambda: [story.rule for story in system.stories()] == ["lockout"], 10)
        await system.until(lambda: not system.held("MNQ") and not system.working(), 10)
        await system.until(lambda: system.clock.now() > FIVE_PM, 90)
        await system.until(lambda: not system.state.locked(system.clock.now()), 5)


async def test_content_that_is_damaged_behind_a_sound_header_is_set_aside_while_open(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, RULES) as system:
        await system.until_protected()
        await system.kill()
        with closing(sqlite3.connect(system.settings.journal.path)) as db, db:
            db.execute("UPDATE checkpoint SET state = '{}'")
        await system.start()
        assert [lock.rule for lock in system.state.lockouts] == [DAMAGED]
        await system.until_protected()
        await system.stop()
        assert len(put_aside(tmp_path)) == 1
        with closing(Store.open(system.settings.journal.path)) as store:
            assert store.recover(system.account_id).state is not None


async def test_killed_again_and_again_it_never_has_more_to_fold_than_one_run_left(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, RULES) as system:
        lengths = []
        for _ in range(4):
            await system.until_protected()
            await trio.sleep(60)
            await system.kill()
            with closing(Store.open(system.settings.journal.path)) as store:
                lengths.append(len(store.recover(system.account_id).tape))
            await system.start()
        assert max(lengths) < 2 * lengths[0]


class AtNoon:
    """A clock that stands still."""

    def now(self) -> datetime:
        return NOON


def desk_settings(tmp_path: Path, path: Path | None = None) -> Settings:
    file = tmp_path / "config.toml"
    file.write_text(f'[gateway]\nuser_name = "t"\n\n[[accounts]]\nid = {ACCOUNT}\n')
    settings = load(file, {})
    return evolve(settings, journal=evolve(settings.journal, path=path or tmp_path / "journal.db"))


def locked_journal(path: Path) -> Lockout:
    """A journal in which an account is locked, with no end."""
    lock = Lockout(ACCOUNT, "max_contracts", "account", NOON, None, "too many", "a1")
    with closing(Store.open(path)) as store:
        store.write([started(), Checkpoint(AccountState(ACCOUNT, lockouts=(lock,)))])
    return lock


def locks(recovery: Recovery) -> list[str]:
    return [lock.rule for lock in recovery.states[ACCOUNT].lockouts]


def test_where_no_journal_can_be_made_guarding_begins_and_it_is_made_later(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = desk_settings(tmp_path, tmp_path / "file" / "j.db")
    recovery = recover(settings, AtNoon())
    assert locks(recovery) == []
    assert ["NOT DURABLE" in said and "journal.path" in said for said in recovery.troubles] == [True]
    with pytest.raises(sqlite3.OperationalError, match="cannot be opened"):
        recovery.store.write([started()])
    (tmp_path / "file").unlink()
    with closing(recovery.store):
        recovery.store.write([started()])
    assert settings.journal.path.exists()


def test_a_journal_that_another_program_holds_is_read_from_a_copy_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_S", 0.1)
    settings = desk_settings(tmp_path)
    lock = locked_journal(settings.journal.path)
    with closing(sqlite3.connect(settings.journal.path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE run SET link = link")
        recovery = recover(settings, AtNoon())
        assert recovery.states[ACCOUNT].lockouts == (lock,)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            recovery.store.write([started(5)])
    with closing(recovery.store):
        recovery.store.write([started(5)])
    with closing(sqlite3.connect(settings.journal.path)) as db:
        assert db.execute("SELECT count(*) FROM run").fetchone() == (2,)


def test_a_journal_that_cannot_even_be_read_locks_its_accounts_and_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = desk_settings(tmp_path)
    locked_journal(settings.journal.path)
    before = settings.journal.path.read_bytes()

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store_module, "migrate", refused)
    recovery = recover(settings, AtNoon())
    monkeypatch.undo()
    assert locks(recovery) == [DAMAGED]
    with pytest.raises(sqlite3.OperationalError, match="start again"):
        recovery.store.write([Checkpoint(recovery.states[ACCOUNT])])
    assert settings.journal.path.read_bytes() == before


def test_a_journal_that_is_exchanged_while_it_cannot_be_opened_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = desk_settings(tmp_path)
    locked_journal(settings.journal.path)
    with Store.copied(settings.journal.path, NOON) as copy:
        late = LateStore(settings.journal.path, NOON, "locked", copy.id)
    settings.journal.path.unlink()
    with pytest.raises(sqlite3.OperationalError, match="is gone"):
        late.write([started()])
    Store.open(settings.journal.path).close()
    with pytest.raises(sqlite3.OperationalError, match="is not the one"):
        late.write([started()])


def test_a_torn_end_of_the_log_leaves_the_groups_before_it(tmp_path: Path) -> None:
    settings = desk_settings(tmp_path)
    with closing(Store.open(settings.journal.path)) as store:
        store.write([started(), quoted(1)])
        store.write([quoted(2)])
        log = settings.journal.path.with_name("journal.db-wal").read_bytes()
        whole = settings.journal.path.read_bytes()
    settings.journal.path.write_bytes(whole)
    settings.journal.path.with_name("journal.db-wal").write_bytes(log[:-100])
    recovery = recover(settings, AtNoon())
    assert (locks(recovery), recovery.troubles) == ([], ())
    recovery.store.close()


# which journal guards an account


def test_a_journal_that_is_gone_or_another_one_counts_as_damaged(tmp_path: Path) -> None:
    settings, markers = desk_settings(tmp_path), tmp_path / "guarded"
    url = settings.gateway.rest_url
    first = recover(settings, AtNoon(), markers)
    assert locks(first) == []
    assert isinstance(first.store.id, str)
    assert note_journal(markers, url, ACCOUNT, first.store.id) is None
    first.store.close()
    assert {stat.S_IMODE(file.stat().st_mode) for file in markers.iterdir()} == {0o600}
    again = recover(settings, AtNoon(), markers)
    again.store.close()
    assert locks(again) == []
    settings.journal.path.unlink()
    gone = recover(settings, AtNoon(), markers)
    gone.store.close()
    assert locks(gone) == [DAMAGED]
    assert "another journal" in gone.troubles[0]
    assert isinstance(gone.store.id, str)
    note_journal(markers, url, ACCOUNT, gone.store.id)
    assert journal_of(markers, url, ACCOUNT) == gone.store.id


@pytest.mark.parametrize("text", ["", "{}", "[]", "nonsense", '"a"', "\0"])
def test_a_marker_that_says_nothing_keeps_no_account_from_being_guarded(tmp_path: Path, text: str) -> None:
    settings, markers = desk_settings(tmp_path), tmp_path / "guarded"
    assert note_journal(markers, settings.gateway.rest_url, ACCOUNT, "a") is None
    (file,) = markers.iterdir()
    file.write_text(text)
    recovery = recover(settings, AtNoon(), markers)
    recovery.store.close()
    assert locks(recovery) == []


def test_a_marker_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in str(note_journal(tmp_path / "file" / "x", "https://x", ACCOUNT, "a"))
    assert journal_of(tmp_path / "file" / "x", "https://x", ACCOUNT) is None
    assert note_journal(None, "https://x", ACCOUNT, "a") is None


async def test_a_daemon_whose_journal_was_removed_locks_its_account_until_the_reset(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, RULES) as system:
        system.markers, journal = tmp_path / "guarded", system.settings.journal.path
        await system.stop()
        await system.start()
        await system.until_protected()
        await system.stop()
        for suffix in ("", "-wal", "-shm"):
            journal.with_name(journal.name + suffix).unlink(missing_ok=True)
        await system.start()
        assert [lock.rule for lock in system.state.lockouts] == [DAMAGED]
        await system.until_protected()
        await system.kill()
        await system.start()
        assert [lock.rule for lock in system.state.lockouts] == [DAMAGED]


def test_an_account_that_the_journal_has_never_seen_starts_empty(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "journal.db")) as store:
        store.write([quoted(1)])
        new = store.recover(evolve(AccountState(ACCOUNT), id=1).id)
    assert replayed(ACCOUNT_SETTINGS, new, Terms()) == AccountState(ACCOUNT)
