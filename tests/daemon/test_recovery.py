"""A restart changes nothing: whatever the moment of the kill, the next start stands where the last one stood."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import evolve

from flatguard.daemon.recovery import DAMAGED, awakened, folded, recover, replayed
from flatguard.errors import FlatguardError, JournalDamaged
from flatguard.journal.codec import encode
from flatguard.journal.store import Recovered, Store
from flatguard.journal.tape import TapeRow
from flatguard.ledger.apply import apply
from flatguard.model.account import AccountState, BreachMark, Link, Terms
from flatguard.model.decisions import Flatten
from flatguard.model.entries import Checkpoint, Entry, Judged
from flatguard.model.events import EventSetAside, Hub, LinkUp
from flatguard.rules._book import RuleBook
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.settings.load import AccountSettings
from flatguard.simulator.options import Options
from tests.fakes.clock import TrioClock
from tests.fakes.entries import ACCOUNT, FIVE_PM, NOON, at, held, quoted
from tests.fakes.system import System, open_system

RULES = {
    "max_contracts": MaxContracts(limit=4, enforcement="reduce_to_limit"),
    "daily_realized_loss": DailyRealizedLoss(loss_limit=Decimal(500)),
}


ACCOUNT_SETTINGS = AccountSettings(ACCOUNT)


def bytes_of(state: AccountState) -> str:
    """The whole state as text, but for what no restart keeps."""
    return encode(awakened(state))


async def scripted_day(system: System) -> None:
    """Trade, break both rules, trade on while locked, lose the hub, and let the day turn."""
    await system.until_protected()
    await system.order("MNQ", 5)
    await system.until(lambda: system.held("MNQ") == 4)
    await system.order("MNQ", -2)
    await system.order("MNQ", 1, limit=20000)
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
    start = FIVE_PM - timedelta(seconds=60)
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


async def test_a_journal_that_cannot_be_opened_ends_the_start_with_what_to_do(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, RULES) as system:
        await system.stop()
        (tmp_path / "file").touch()
        settings = evolve(system.settings, journal=evolve(system.settings.journal, path=tmp_path / "file" / "j.db"))
        with pytest.raises(FlatguardError, match="cannot be opened"):
            recover(settings, TrioClock(NOON))


def test_an_account_that_the_journal_has_never_seen_starts_empty(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "journal.db")) as store:
        store.write([quoted(1)])
        new = store.recover(evolve(AccountState(ACCOUNT), id=1).id)
    assert replayed(ACCOUNT_SETTINGS, new, Terms()) == AccountState(ACCOUNT)
