"""The daemon as a whole, on virtual time: how it starts, what it survives, how it ends."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from flatguard.daemon import run as run_module
from flatguard.daemon.picture import Pictures
from flatguard.daemon.pipeline import Batch, Pipeline
from flatguard.daemon.run import guard
from flatguard.errors import AccountUnknown, AlreadyGuarded, LoginRefused
from flatguard.gateway.rest import Gateway
from flatguard.journal.reading import read_facts
from flatguard.model.entries import Alive, Entry, Standing
from flatguard.model.ids import AccountId
from flatguard.model.trading import Account
from flatguard.rules.max_contracts import MaxContracts
from flatguard.secret import Secret
from flatguard.settings.load import Settings
from flatguard.simulator.options import Options
from tests.fakes.system import System, inline, open_system

REDUCE_TO_2 = {"max_contracts": MaxContracts(limit=2, enforcement="reduce_to_limit")}


async def run(system: System, *, settings: Settings | None = None, key: str | None = None) -> None:
    """Guard until it ends by itself."""
    user = next(iter(system.double.users.values()))
    secret = Secret(user.api_key if key is None else key)
    await guard(settings or system.settings, secret, trio.Event(), system.said.append, system.world)


def journal_rows(system: System, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(system.settings.journal.path)) as db:
        return db.execute(sql).fetchall()


# starting


async def test_a_refused_login_ends_it_with_that_error_and_nothing_left_running(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, started=False) as system:
        before = len(trio.lowlevel.current_root_task().child_nurseries)
        with pytest.raises(LoginRefused) as refused:
            await run(system, key="not the key")
        assert refused.value.exit_status == 4
        assert "not the key" not in str(refused.value) + "".join(system.said)
        assert len(trio.lowlevel.current_root_task().child_nurseries) == before
        facts = read_facts(system.settings.journal.path)
        assert facts.run is not None
        assert facts.run.stopped_at is not None
        await system.start()
        await system.until_protected()


async def test_an_account_of_another_login_ends_it_and_the_accounts_of_this_one_are_listed(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, started=False) as system:
        stranger = evolve(system.settings.accounts[0], id=AccountId(99))
        with pytest.raises(AccountUnknown, match="account 99") as unknown:
            await run(system, settings=evolve(system.settings, accounts=(*system.settings.accounts, stranger)))
        for account in next(iter(system.double.users.values())).accounts:
            assert f"{account.id} ({account.name})" in unknown.value.hint
        assert unknown.value.exit_status == 2


async def test_one_short_list_of_accounts_sends_nobody_away(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, asked = Gateway.accounts, 0

    async def short_at_first(gateway: Gateway) -> tuple[Account, ...]:
        nonlocal asked
        asked += 1
        return () if asked == 1 else await whole(gateway)

    monkeypatch.setattr(Gateway, "accounts", short_at_first)
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        await trio.sleep(10)
        assert asked == 2
        assert system.protection == "PROTECTED"


async def test_a_second_guard_is_refused_whatever_its_journal_and_touches_nothing(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        other = tmp_path / "other" / "journal.db"
        with pytest.raises(AlreadyGuarded):
            await run(system, settings=evolve(system.settings, journal=evolve(system.settings.journal, path=other)))
        assert not other.parent.exists()
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2, 2)


async def test_an_unreachable_gateway_is_asked_again_said_once_and_guarded_when_it_is_there(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, started=False) as system:
        system.away = True
        await system.start()
        await trio.sleep(600)
        assert [sentence for sentence in system.said if "BLIND" in sentence] == system.said
        assert len(system.said) == 1
        assert system.at_work is not None
        standing = system.at_work.standing(system.account_id)
        assert standing["protection"] == "BLIND"
        assert "no connection to the gateway" in str(standing["reason"])
        facts = read_facts(system.settings.journal.path)
        assert facts.run is not None
        assert facts.run.link["rest"].startswith("down: no connection")
        assert journal_rows(system, "SELECT count(*) FROM tape WHERE kind = 'ReadingFailed'") == [(1,)]
        system.away = False
        assert await system.until(lambda: system.protection == "PROTECTED") <= 6
        assert system.said[1] == "the gateway answers"
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2, 2)


async def test_a_gateway_that_fails_in_several_ways_is_told_each_way_once(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, started=False) as system:
        for fault in ("http_500", "html_body", "http_500"):
            await system.heal()
            await system.fault(fault, target="/api/Auth/loginKey")
            if system.at_work is None:
                await system.start()
            await trio.sleep(18)  # between two of its attempts
        await system.heal()
        await system.until_protected()
        first, second, third = system.said[:3]
        assert "500" in first
        assert second == "still: the gateway's answer is not a JSON object"
        assert third == "the gateway answers"


async def test_it_can_be_stopped_while_the_gateway_is_unreachable(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, started=False) as system:
        system.away = True
        await system.start()
        await trio.sleep(7)
        began = trio.current_time()
        await system.stop()
        assert trio.current_time() - began < 1
        facts = read_facts(system.settings.journal.path)
        assert facts.run is not None
        assert facts.run.stopped_at is not None


async def test_what_is_in_force_is_written_down_and_the_key_is_nowhere(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        await system.stop()
        ((settings,),) = journal_rows(system, "SELECT settings FROM run")
        (account,) = json.loads(settings)["accounts"]
        assert account["mode"] == "enforce"
        assert account["rules"]["max_contracts"]["limit"] == 2
        key = next(iter(system.double.users.values())).api_key
        assert key.encode() not in system.settings.journal.path.read_bytes()
        assert all(key not in sentence for sentence in system.said)


async def test_a_locked_account_is_kept_flat_after_a_start_although_the_accounts_cannot_be_listed(
    tmp_path: Path, autojump_clock: object
) -> None:
    rules = {"max_contracts": MaxContracts(limit=2, lockout_on_breach=True)}
    async with open_system(tmp_path, rules) as system:
        await system.until_protected()
        await system.order("MNQ", 5)
        await system.until(lambda: system.stories() and system.stories()[0].proven_at)
        await system.kill()
        await system.order("MNQ", 1)
        await system.fault("http_500", target="/api/Account/search")
        await system.start()
        await system.until(lambda: system.held("MNQ") == 0, 5)
        assert system.protection == "BLIND"
        await system.heal()
        await system.until_protected()


# at work


async def test_several_accounts_are_guarded_each_for_itself(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, accounts=3, options=Options()) as system:
        assert system.at_work is not None
        at_work = system.at_work
        await system.until(
            lambda: all(at_work.standing(a)["protection"] == "PROTECTED" for a in at_work.board.states), 60
        )
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2, 5)
        assert all(not at_work.board.states[a.id].positions for a in system.settings.accounts[1:])
        assert {story.account for story in system.stories()} == {system.account_id}
        assert read_facts(system.settings.journal.path).standings.keys() == {a.id for a in system.settings.accounts}


async def test_whoever_looks_on_and_raises_does_not_end_guarding(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        assert system.at_work is not None
        seen: list[Entry] = []

        def broken(entry: Entry) -> None:
            raise BrokenPipeError("nobody reads this")

        system.at_work.on_entry += [broken, seen.append]
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2, 2)
        assert [sentence for sentence in system.said if "no longer shown" in sentence] == [
            "what happens is no longer shown: BrokenPipeError: nobody reads this"
        ]
        assert seen


async def test_a_full_feed_slows_the_hubs_and_not_enforcement(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What enforcement reads for itself goes into the feed too; it is left out rather than waited for."""
    judge_events = Pipeline.judge_events

    async def judge_slowly(self: Pipeline, feed: Any, told: Any) -> None:
        inner_in, inner_out = trio.open_memory_channel[Batch](0)
        async with trio.open_nursery() as nursery, feed, inner_in:
            nursery.start_soon(judge_events, self, inner_out, told)
            async for batch in feed:
                await trio.sleep(0.1)
                await inner_in.send(batch)

    monkeypatch.setattr(run_module, "FEED_BATCHES", 0)
    monkeypatch.setattr(Pipeline, "judge_events", judge_slowly)
    async with open_system(tmp_path, REDUCE_TO_2, options=Options()) as system:
        await system.until_protected()
        await system.order("MNQ", 5)
        await system.until(lambda: system.held("MNQ") == 2, 5)
        await system.until(lambda: system.stories()[0].proven_at)


async def test_while_nothing_happens_little_is_written(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        await trio.sleep(3)
        posted: list[Entry] = []
        assert system.at_work is not None
        system.at_work.on_entry.append(posted.append)
        await trio.sleep(60)
        assert 15 <= len([entry for entry in posted if isinstance(entry, Alive)]) <= 25
        assert len([entry for entry in posted if isinstance(entry, Standing)]) <= 13


# the disk


def refuse_space(system: System) -> Callable[[], None]:
    """Let the journal's file grow no further; return what gives it room again."""
    assert system.at_work is not None
    db = system.at_work.keeper.store._db
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    db.execute("CREATE TEMP TRIGGER full BEFORE INSERT ON tape BEGIN SELECT raise(ABORT, 'disk is full'); END")

    def give() -> None:
        db.execute("DROP TRIGGER full")
        db.execute("PRAGMA max_page_count = 1073741823")

    return give


async def time_to_two(system: System) -> float:
    await system.order("MNQ", 5)
    return await system.until(lambda: system.held("MNQ") == 2, 5)


async def test_a_full_disk_does_not_slow_enforcement_and_is_told_and_all_is_written_later(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        usual = await time_to_two(system)
        await system.order("MNQ", -2)
        await trio.sleep(5)
        give_space = refuse_space(system)
        await system.until(lambda: system.at_work and system.at_work.keeper.trouble)
        assert await time_to_two(system) <= usual + 0.06
        assert system.at_work is not None
        standing = system.at_work.standing(system.account_id)
        assert (standing["protection"], standing["durable"]) == ("PROTECTED", False)
        assert "NOT DURABLE" in str(standing["reason"])
        await trio.sleep(60)
        assert len(system.stories()) == 1
        give_space()
        await trio.sleep(3)
        assert [story.proven_at is not None for story in system.stories()] == [True, True]
        assert system.at_work.standing(system.account_id)["durable"] is True


async def test_stopping_with_a_full_disk_ends_soon_and_says_what_was_not_written(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        refuse_space(system)
        await trio.sleep(10)
        began = trio.current_time()
        await system.stop()
        assert trio.current_time() - began < 2
        assert "NOT DURABLE" in system.said[-1]


async def test_a_disk_that_never_answers_keeps_nobody_from_being_guarded(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, started=False) as system:
        stuck = trio.Event()

        async def run_sync(function: Callable[..., Any], *arguments: Any) -> Any:
            if function.__name__ == "write":
                await stuck.wait()
            return await inline(function, *arguments)

        system.run_sync = run_sync
        await system.start()
        await system.until_protected()
        assert await time_to_two(system) < 0.5
        await trio.sleep(2)
        assert system.at_work is not None
        assert system.at_work.standing(system.account_id)["durable"] is False
        began = trio.current_time()
        await system.stop()
        assert trio.current_time() - began < 10


# ending


async def test_it_ends_with_a_checkpoint_and_the_word_that_it_ended(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        await system.order("MNQ", 1)
        await trio.sleep(3)
        await system.stop()
        assert journal_rows(system, "SELECT count(*) FROM run WHERE stopped_at IS NULL") == [(0,)]
        ((checkpoint, newest),) = journal_rows(system, "SELECT seq, (SELECT max(seq) FROM tape) FROM checkpoint")
        assert checkpoint == newest


async def test_an_enforcement_under_way_is_finished_before_it_ends(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        await system.order("MNQ", 5)
        await system.until(lambda: system.stories(), 2)
        await system.stop()
        assert system.held("MNQ") == 2


async def test_a_task_that_fails_unexpectedly_ends_everything_and_frees_the_account(
    tmp_path: Path, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, started=False) as system:
        real = Pictures.keep

        async def keep(self: Pictures, *arguments: Any) -> None:
            with trio.move_on_after(2):
                await real(self, *arguments)
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(Pictures, "keep", keep)
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            await run(system)
        monkeypatch.undo()
        await system.start()
        await system.until_protected()


async def test_a_journal_that_cannot_be_opened_or_read_keeps_no_account_from_being_guarded(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2, started=False) as system:
        system.settings.journal.path.mkdir()
        await system.start()
        assert any(said.startswith("NOT DURABLE") for said in system.said)
        await system.until_protected()
        assert [lock.rule for lock in system.state.lockouts] == ["journal_damaged"]
        await system.order("MNQ", 1)
        await system.until(lambda: bool(system.held("MNQ")), 10)
        await system.until(lambda: not system.held("MNQ") and not system.working(), 10)
        assert system.at_work is not None
        assert system.at_work.standing(system.account_id)["durable"] is False


async def test_accounts_of_the_login_that_nobody_guards_are_named_once(tmp_path: Path, autojump_clock: object) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        await trio.sleep(3 * 3_600)
        guarded = {account.id for account in system.settings.accounts}
        others = [row for user in system.double.users.values() for row in user.accounts if row.id not in guarded]
        expected = [
            f"account {row.id} ({row.name}) of this login is not in the settings: NOT PROTECTED" for row in others
        ]
        assert expected
        assert [sentence for sentence in system.said if "not in the settings" in sentence] == expected


async def test_an_account_that_the_broker_retires_is_not_called_protected(
    tmp_path: Path, autojump_clock: object
) -> None:
    async with open_system(tmp_path, REDUCE_TO_2) as system:
        await system.until_protected()
        await system.rest.sim("account", accountId=system.account_id, isVisible=False, canTrade=False)
        await system.until(lambda: system.protection == "NOT PROTECTED", 40)
