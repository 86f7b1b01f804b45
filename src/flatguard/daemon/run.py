"""The daemon: three rings of tasks. What is needed longest stands outermost; stopping closes the innermost first.

Services: the journal, the token, the report of where everything stands. Workers: the pipeline and enforcement, which
end by themselves when their channels do. Sources: the hubs and the readings, which are cancelled to stop. Any task that
fails unexpectedly ends the process; starting and recovering are the same code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from random import Random, SystemRandom
from typing import Any

import trio
from attrs import define, evolve, field, frozen

from flatguard import __version__
from flatguard.clock import SystemClock, WallClock
from flatguard.daemon.picture import Pictures
from flatguard.daemon.pipeline import Batch, Pipeline
from flatguard.daemon.sole_guard import sole_guard
from flatguard.daemon.standing import Standings, Watchman, link_facts
from flatguard.enforcement.board import Board
from flatguard.enforcement.broker import Broker
from flatguard.enforcement.carry_out import Recorder, Told, Withdrawn, carry_out_breaches
from flatguard.errors import AccountUnknown, FlatguardError, JournalDamaged, LoginRefused
from flatguard.gateway.allowance import Allowance
from flatguard.gateway.http import HttpClient, TransportFactory
from flatguard.gateway.listen import Listener, MarketHub, UserHub
from flatguard.gateway.rest import Gateway, log_in, validate
from flatguard.gateway.socket import Dial, dial_tcp
from flatguard.gateway.token import Token
from flatguard.journal.keep import Keeper
from flatguard.journal.store import Store, set_aside
from flatguard.ledger.apply import apply
from flatguard.ledger.trading_day import trading_day
from flatguard.model.account import AccountState, Terms
from flatguard.model.entries import Alive, Entry, RunStarted, RunStopped, Standing
from flatguard.model.events import Event, Hub
from flatguard.model.ids import AccountId
from flatguard.model.lockouts import ACCOUNT_SCOPE, Lockout, combine
from flatguard.rules._book import RuleBook, forget, remember
from flatguard.settings.load import Settings
from flatguard.settings.secrets import Secret

FEED_BATCHES = 1_000  # a few seconds of the busiest market; full, the hubs' readers wait, and half full is an alarm
TOLD_MESSAGES = 100  # the intake of enforcement empties it at once
STOP_GRACE_S = 4.0  # with the longest request in flight, less than the ten seconds that service managers allow
PULSE_S = 1.0
ASK_AGAIN_S = 5.0  # an unreachable gateway is tried this often, for ever

RunSync = Callable[..., Awaitable[Any]]
Tell = Callable[[str], None]


@frozen
class World:
    """How the daemon meets the world. Tests hand in streams in memory, a virtual clock and an inline ``run_sync``."""

    clock: WallClock = field(factory=SystemClock)
    run_sync: RunSync = trio.to_thread.run_sync
    random: Random = field(factory=SystemRandom)
    transport: TransportFactory | None = None
    dial: Dial = dial_tcp


@define
class Guard:
    """A guard at work: what others may look at while it runs."""

    board: Board
    standings: Standings
    pipeline: Pipeline
    keeper: Keeper
    allowance: Allowance
    clock: WallClock
    on_entry: list[Callable[[Entry], None]] = field(factory=list)

    def note(self, entry: Entry) -> None:
        """Give an entry to the journal, and to whoever looks on."""
        self.keeper.post(entry)
        for look in self.on_entry:
            look(entry)

    def standing(self, account_id: AccountId) -> dict[str, object]:
        """Return where an account stands now."""
        failing = self.pipeline.failing.get(account_id, ())
        state = self.board.states[account_id]
        return self.standings.of(state, failing, self.clock.now(), self.keeper.trouble)


async def guard(  # noqa: ASYNC128  it hands task_status on
    settings: Settings,
    api_key: Secret,
    stopping: trio.Event,
    tell: Tell,
    world: World | None = None,
    *,
    task_status: trio.TaskStatus[Guard] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Guard the accounts of ``settings`` until ``stopping`` is set, then end cleanly.

    Reports the Guard once its tasks run; whether an account is protected by then is in its standing. ``tell`` takes
    sentences for the operator. Raises LoginRefused, AccountUnknown, AlreadyGuarded, or FlatguardError where the journal
    cannot be opened; an unreachable gateway is none of these and is tried for ever. If cancelled, requests in flight
    may still be carried out and the journal lacks what was not yet written.
    """
    world = world if world is not None else World()
    with sole_guard(settings.gateway.rest_url, (account.id for account in settings.accounts)):
        books = {account.id: RuleBook(account.rules) for account in settings.accounts}
        store, states = await world.run_sync(_recover, settings, world.clock, tell)
        try:
            await _guard(settings, api_key, stopping, tell, world, books, store, states, task_status)
        finally:
            with trio.CancelScope(shield=True):
                await world.run_sync(store.close)


def _recover(settings: Settings, clock: WallClock, tell: Tell) -> tuple[Store, dict[AccountId, AccountState]]:
    """Open the journal and rebuild every account: newest checkpoint, then the tape behind it.

    A damaged journal is set aside, and its accounts count as locked until the reset: whoever damages it gains nothing.
    """
    accounts = [account.id for account in settings.accounts]
    path = settings.journal.path
    try:
        store = Store.open(path)
        return store, {account_id: _rebuilt(store, account_id, settings.terms) for account_id in accounts}
    except JournalDamaged as error:
        aside = set_aside(path, clock.now())
        tell(f"{error}. It was moved to {aside}; its accounts count as locked until the reset.")
        return Store.open(path), {a: _locked_for_damage(a, settings.terms, clock, str(aside)) for a in accounts}


def _rebuilt(store: Store, account_id: AccountId, terms: Terms) -> AccountState:
    recovered = store.recover(account_id)
    state = evolve(recovered.state or AccountState(account_id), terms=terms)
    for row in recovered.tape:
        state = apply(state, row.event)
        for rule in row.cleared:
            state = forget(state, rule)
        for breach in row.found:
            state = remember(state, breach)
    # what was connected and read is no longer; nothing is judged before the first complete picture
    fresh = AccountState(account_id)
    return evolve(state, links=fresh.links, exposure_at=None, record_at=None, read_failed=None, doubt=None, quotes={})


def _locked_for_damage(account_id: AccountId, terms: Terms, clock: WallClock, aside: str) -> AccountState:
    now = clock.now()
    lock = Lockout(
        account_id=account_id,
        rule="journal_damaged",
        scope=ACCOUNT_SCOPE,
        since=now,
        until=trading_day(now, terms).unlocks_at,
        reason=f"the journal was damaged and moved to {aside}; what was locked is not known",
        breach="",
    )
    return AccountState(account_id, terms=terms, lockouts=combine((), lock))


async def _guard(
    settings: Settings,
    api_key: Secret,
    stopping: trio.Event,
    tell: Tell,
    world: World,
    books: Mapping[AccountId, RuleBook],
    store: Store,
    states: Mapping[AccountId, AccountState],
    task_status: trio.TaskStatus[Guard],
) -> None:
    clock = world.clock
    board = Board(states)
    keeper = Keeper(store, world.run_sync)
    standings = Standings({a.id: Watchman(books[a.id], a.mode == "enforce") for a in settings.accounts})
    allowance = Allowance()
    routine_http = HttpClient(settings.gateway.rest_url, world.transport)
    enforcement_http = HttpClient(settings.gateway.rest_url, world.transport)
    token = Token(
        log_in=lambda: log_in(routine_http, settings.gateway.user_name, api_key.reveal()),
        validate=lambda text: validate(routine_http, text),
        clock=clock,
    )
    records = Gateway(routine_http, token, clock, allowance.take_routine, allowance.be_quiet)
    exposures = Gateway(enforcement_http, token, clock, allowance.take_routine, allowance.be_quiet)
    enforcing = Gateway(enforcement_http, token, clock, allowance.take_enforcement)

    feed_in, feed_out = trio.open_memory_channel[Batch](FEED_BATCHES)
    told_in, told_out = trio.open_memory_channel[Told | Withdrawn](TOLD_MESSAGES)

    def listener(hub: Hub, url: str) -> Listener:
        return Listener(hub, url, token, clock, world.random, feed_in.send, world.dial)

    user_listener = listener(Hub.USER, settings.gateway.user_hub_url)
    market_listener = listener(Hub.MARKET, settings.gateway.market_hub_url)

    def answered() -> None:
        user_listener.hurry()
        market_listener.hurry()

    pictures = Pictures(records, exposures, board, clock, user_listener.reconnect, answered)
    user_hub = UserHub(user_listener, tuple(books), lambda: _photograph(pictures, tuple(books)))
    market_hub = MarketHub(market_listener)
    pipeline = Pipeline(
        books,
        board,
        clock,
        note=lambda entry: at_work.note(entry),  # noqa: PLW0108  it exists once the pipeline does
        on_failure=lambda account_id, what: tell(f"account {account_id}: {what}"),
        watch=market_hub.watch,
    )
    at_work = Guard(board, standings, pipeline, keeper, allowance, clock)

    def report(event: Event) -> None:
        try:
            feed_in.send_nowait((event,))
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # a reading of enforcement's own that nobody takes is read again by the next one

    def broker_of(account_id: AccountId) -> Broker | None:
        return enforcing if standings.watchmen[account_id].enforcing else None

    recorder = Recorder(at_work.note, keeper.kept, report)
    everything_written = trio.Event()
    keeper.post(RunStarted(clock.now(), __version__, os.getpid(), tuple(books), settings.path.name))
    for state in states.values():
        if state.lockouts:
            keeper.post(Standing(state.id, clock.now(), json.dumps(at_work.standing(state.id))))

    async with trio.open_nursery() as services:
        services.start_soon(keeper.keep, everything_written)
        services.start_soon(_keep_reporting, at_work)
        task_status.started(at_work)
        try:
            await _until_reached(records, settings, stopping, tell)
        except (LoginRefused, AccountUnknown):
            everything_written.set()
            services.cancel_scope.deadline = trio.current_time() + STOP_GRACE_S
            services.cancel_scope.cancel()
            raise
        services.start_soon(token.keep_fresh)
        async with trio.open_nursery() as workers:
            workers.start_soon(carry_out_breaches, told_out, broker_of, board, recorder, clock)
            workers.start_soon(pipeline.judge_events, feed_out, told_in)
            async with trio.open_nursery() as sources:
                sources.start_soon(user_hub.listen)
                sources.start_soon(market_hub.listen)
                for account_id in books:
                    sources.start_soon(pictures.keep, account_id, feed_in.send)
                await stopping.wait()
                sources.cancel_scope.cancel()
            await feed_in.aclose()
            workers.cancel_scope.deadline = trio.current_time() + STOP_GRACE_S
        keeper.post(RunStopped(clock.now()))
        everything_written.set()
        with trio.move_on_after(STOP_GRACE_S):
            await keeper.kept()
        services.cancel_scope.cancel()
    await routine_http.aclose()
    await enforcement_http.aclose()


async def _photograph(pictures: Pictures, accounts: tuple[AccountId, ...]) -> Batch:
    """Read all accounts side by side."""
    events: list[Event] = []

    async def read(account_id: AccountId) -> None:
        events.extend(await pictures.read(account_id))

    async with trio.open_nursery() as nursery:
        for account_id in accounts:
            nursery.start_soon(read, account_id)
    return tuple(events)


async def _until_reached(gateway: Gateway, settings: Settings, stopping: trio.Event, tell: Tell) -> None:
    """Log in and find the accounts; an unreachable gateway is asked again until it answers or we are to stop."""
    said = ""
    while not stopping.is_set():
        try:
            known = {account.id: account.name for account in await gateway.accounts()}
        except (LoginRefused, AccountUnknown):
            raise
        except FlatguardError as error:
            if str(error) != said:
                said = str(error)
                tell(f"BLIND: {error}; asking again every {ASK_AGAIN_S:.0f} s")
            with trio.move_on_after(ASK_AGAIN_S):
                await stopping.wait()
            continue
        for account in settings.accounts:
            if account.id not in known:
                listed = ", ".join(f"{i} ({name})" for i, name in sorted(known.items())) or "none"
                raise AccountUnknown(
                    f"account {account.id} of the settings is not one of this login",
                    hint=f"the login has: {listed}",
                )
        return


async def _keep_reporting(at_work: Guard) -> None:
    """Write down the daemon's pulse, and every account's standing where it changed, for ever."""
    said: dict[AccountId, str] = {}
    while True:
        now = at_work.clock.now()
        for account_id in at_work.board.states:
            body = json.dumps(at_work.standing(account_id))
            if said.get(account_id) != body:
                said[account_id] = body
                at_work.note(Standing(account_id, now, body))
        state = next(iter(at_work.board.states.values()))
        at_work.note(Alive(now, link_facts(state, rest_ok=state.read_failed is None)))
        await trio.sleep(PULSE_S)
