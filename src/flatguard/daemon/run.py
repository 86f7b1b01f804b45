"""The daemon: rings of tasks. What is needed longest stands outermost; stopping closes the innermost first.

The record: the journal's lane. Services: the token, the report of where everything stands. Workers: the pipeline and
enforcement, which end by themselves when their channels do. Sources: the hubs and the readings, which are cancelled to
stop. Any task that fails unexpectedly ends the process; starting and recovering are the same code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from math import inf
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import trio
from attrs import define, field, frozen

from flatguard import __version__, redaction
from flatguard.clock import SystemClock, WallClock
from flatguard.daemon.contracts import LEARN_S, Contracts
from flatguard.daemon.markers import note_journal
from flatguard.daemon.picture import Pictures, Send
from flatguard.daemon.pipeline import Batch, Pipeline
from flatguard.daemon.prices import Prices
from flatguard.daemon.products import Products
from flatguard.daemon.recovery import Recovery, recover
from flatguard.daemon.sole_guard import sole_guard
from flatguard.daemon.standing import Standings, Watchman, hub_counters, link_facts, rest_counters
from flatguard.enforcement.board import Board
from flatguard.enforcement.broker import Broker
from flatguard.enforcement.carry_out import Recorder, Told, Withdrawn, carry_out_breaches
from flatguard.errors import AccountUnknown, FlatguardError, LoginRefused
from flatguard.gateway.allowance import ASSUMED_SENT_AT_START, Allowance, Lane, reserve_for
from flatguard.gateway.auth import log_in, validate
from flatguard.gateway.http import HttpClient, TransportFactory
from flatguard.gateway.listen import Listener, MarketHub, UserHub
from flatguard.gateway.rest import Enforcer, Gateway
from flatguard.gateway.retry import Patience
from flatguard.gateway.rotation import rotate_hubs
from flatguard.gateway.token import WAIT_S, Phase, Token
from flatguard.journal.keep import Keeper
from flatguard.model.calendar import trading_date
from flatguard.model.entries import Alive, Entry, Forgotten, RunStarted, RunStopped, Standing
from flatguard.model.events import Event, Hub, ReadingFailed
from flatguard.model.ids import AccountId
from flatguard.model.trading import Account
from flatguard.rules._book import RuleBook
from flatguard.secret import Secret
from flatguard.settings.in_force import written
from flatguard.settings.load import Settings
from flatguard.settings.token_file import TokenFile
from flatguard.signalr_client import Link
from flatguard.signalr_client.socket import Dial, dial_tcp

FEED_BATCHES = 1_000  # a few seconds of the busiest market; full, the hubs' readers wait, and half full is an alarm
TOLD_MESSAGES = 100  # the intake of enforcement empties it at once
LAST_REQUEST_S = 3.0  # after the call to stop, for a close that is under way
STOP_GRACE_S = 4.0  # with the longest request in flight, less than the ten seconds that service managers allow
FIRST_GROUP_S = 1.0
REPORT_S = 1.0
FORGET_EVERY_S = 3_600.0
FORGET_LOOK_S = 600.0  # an hour's break takes six shares
PULSE_S = 3.0  # a third of what status takes for late
LOOK_AROUND_S = 3_600.0  # how often the login's accounts are looked at
KEYRING_S = 10.0  # it may ask a person who is not there
LOOK_TWICE_S = 2.0  # lists have been seen short, and who is sent away guards nothing
ASK_AGAIN_S = 5.0  # an unreachable gateway is tried this often, for ever

RunSync = Callable[..., Awaitable[Any]]
Tell = Callable[[str], None]


@frozen
class World:
    """How the daemon meets the world. Tests hand in streams in memory, a virtual clock and an inline ``run_sync``.

    ``markers`` is the folder in which is noted which journal guards which account; without one, nothing is noted.
    """

    clock: WallClock = field(factory=SystemClock)
    run_sync: RunSync = trio.to_thread.run_sync
    random: Random = field(factory=SystemRandom)
    transport: TransportFactory | None = None
    dial: Dial = dial_tcp
    markers: Path | None = None


@define
class Guard:
    """A guard at work: what others may look at while it runs."""

    board: Board
    standings: Standings
    pipeline: Pipeline
    keeper: Keeper
    allowance: Allowance
    patience: Patience
    clock: WallClock
    tell: Tell
    hubs: Mapping[Hub, Link]
    token: Token
    products: Products
    on_entry: list[Callable[[Entry], None]] = field(factory=list)

    def note(self, entry: Entry) -> None:
        """Give an entry to the journal, and to whoever looks on. One who raises is told of, and looks on no more."""
        self.keeper.post(entry)
        for look in tuple(self.on_entry):
            try:
                look(entry)
            except Exception as error:  # noqa: BLE001  a view that fails must not end guarding
                self.on_entry.remove(look)
                self.tell(f"what happens is no longer shown: {type(error).__name__}: {error}")

    def standing(self, account_id: AccountId) -> dict[str, object]:
        """Return where an account stands now."""
        state, failing = self.board.states[account_id], self.pipeline.failing(account_id)
        under_way = self.board.under_way(account_id)
        standing = self.standings.of(state, failing, self.clock.now(), self.keeper.trouble, under_way)
        if (login := self.token.state).phase is Phase.LOGIN_REFUSED:
            standing["reason"] = "; ".join(filter(None, (str(login), str(standing["reason"]))))
        standing["findings"] = list(self.products.findings(account_id))
        return standing

    def link(self) -> dict[str, str]:
        """Return how the links of the login stand, and its token."""
        return {**link_facts(self.board.states.values()), "token": str(self.token.state)}

    def counters(self) -> dict[str, object]:
        """Return what was counted on the links to the hubs."""
        now, current_time = self.clock.now(), trio.current_time()
        return {str(hub): hub_counters(link.statistics(), now, current_time) for hub, link in self.hubs.items()}

    def rest_counters(self) -> dict[str, object]:
        """Return what is used of the request allowance, and how the breaker of the routine calls stands."""
        current_time = trio.current_time()
        breaker = self.patience.breaker.statistics(current_time)
        return rest_counters(self.allowance.statistics(), breaker, self.clock.now(), current_time)


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
    is none of ours; an unreachable gateway and a disk that fails are none of these and are tried for ever. If
    cancelled, requests in flight may still be carried out and the journal lacks what was not yet written.
    """
    redaction.install()
    world = world if world is not None else World()
    with sole_guard(settings.gateway.rest_url, (account.id for account in settings.accounts)):
        books = {account.id: RuleBook(account.rules) for account in settings.accounts}
        recovery = await world.run_sync(recover, settings, world.clock, world.markers)
        for trouble in recovery.troubles:
            tell(trouble)
        try:
            await _guard(settings, api_key, stopping, tell, world, books, recovery, task_status)
        finally:
            with trio.CancelScope(shield=True):
                await world.run_sync(recovery.store.close)


async def _guard(
    settings: Settings,
    api_key: Secret,
    stopping: trio.Event,
    tell: Tell,
    world: World,
    books: Mapping[AccountId, RuleBook],
    recovery: Recovery,
    task_status: trio.TaskStatus[Guard],
) -> None:
    clock = world.clock
    board = Board(recovery.states)
    keeper = Keeper(recovery.store, world.run_sync)
    standings = Standings({a.id: Watchman(books[a.id], a.mode == "enforce") for a in settings.accounts})
    allowance = Allowance(lambda: reserve_for(board.states.values()), ASSUMED_SENT_AT_START)
    patience = Patience(world.random)
    routine_http = HttpClient(settings.gateway.rest_url, world.transport)
    enforcement_http = HttpClient(settings.gateway.rest_url, world.transport)
    closing_http = HttpClient(settings.gateway.rest_url, world.transport)
    token_http = HttpClient(settings.gateway.rest_url, world.transport, hard_cap_s=WAIT_S)
    contracts_http = HttpClient(settings.gateway.rest_url, world.transport, hard_cap_s=LEARN_S)
    token = Token(
        log_in=allowance.counting(lambda: log_in(token_http, settings.gateway.user_name, api_key)),
        validate=allowance.counting(lambda secret: validate(token_http, secret)),
        clock=clock,
        tell=tell,
    )

    def gateway(http: HttpClient, lane: Lane, repeated: Patience | None = None) -> Gateway:
        return Gateway(http, token, clock, allowance, lane, repeated)

    routine = gateway(routine_http, Lane.ROUTINE, patience)
    records = gateway(routine_http, Lane.RECONCILIATION)
    exposures = gateway(closing_http, Lane.RECONCILIATION)  # keeps it warm
    enforcing = Enforcer(
        closes=gateway(closing_http, Lane.CLOSE),
        cancels=gateway(enforcement_http, Lane.ENFORCEMENT),
        proofs=gateway(enforcement_http, Lane.CONFIRMATION),
        stops=gateway(enforcement_http, Lane.CONFIRMATION),
    )

    feed_in, feed_out = trio.open_memory_channel[Batch](FEED_BATCHES)
    told_in, told_out = trio.open_memory_channel[Told | Withdrawn](TOLD_MESSAGES)

    def listener(hub: Hub, url: str) -> Listener:
        return Listener(hub, url, token, clock, world.random, feed_in.send, world.dial, token.holds)

    user_listener = listener(Hub.USER, settings.gateway.user_hub_url)
    market_listener = listener(Hub.MARKET, settings.gateway.market_hub_url)

    def answered() -> None:
        user_listener.link.hurry()
        market_listener.link.hurry()

    contracts = Contracts(gateway(contracts_http, Lane.RECONCILIATION, patience), clock)
    pictures = Pictures(
        records,
        exposures,
        contracts,
        board,
        clock,
        user_listener.link.reconnect,
        answered,
        lambda state: books[state.id].reading_wanted_at(state),
    )
    prices = Prices(gateway(routine_http, Lane.ROUTINE), board, clock, market_listener.link.reconnect)
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
    hubs = {Hub.USER: user_listener.link, Hub.MARKET: market_listener.link}
    products = Products(routine, {account_id: book.products() for account_id, book in books.items()}, tell)
    at_work = Guard(board, standings, pipeline, keeper, allowance, patience, clock, tell, hubs, token, products)

    def report(event: Event) -> None:
        try:
            feed_in.send_nowait((event,))
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            pass  # a reading of enforcement's own that nobody takes is read again by the next one

    def broker_of(account_id: AccountId) -> Broker | None:
        return enforcing if standings.watchmen[account_id].enforcing else None

    stored = TokenFile(settings.gateway.login, os.environ) if settings.gateway.token_storage == "encrypted" else None
    refusal: FlatguardError | None = None

    async def check_accounts() -> None:
        """Look at the login's accounts now and once an hour: a restarted account comes back under a new number."""
        nonlocal refusal
        said: set[AccountId] = set()
        while True:
            known = await _accounts_of(routine)
            if not said and not books.keys() <= known.keys():
                await trio.sleep(LOOK_TWICE_S)
                known |= await _accounts_of(routine)
            unknown = [account_id for account_id in books if account_id not in known]
            if unknown and not said:
                refusal = _stranger(unknown[0], known)
                stopping.set()
                return
            for account_id in unknown:
                tell(f"account {account_id}: the login does not list it any more")
            for account_id, account in known.items():
                if account_id not in books and account_id not in said and account.can_trade and account.visible:
                    tell(f"account {account_id} ({account.name}) of this login is not in the settings: NOT PROTECTED")
            said |= known.keys()
            await trio.sleep(LOOK_AROUND_S)

    async def listen(services: trio.Nursery) -> None:
        """Run the sources until we are to stop, which we are too where the login or an account is refused."""
        nonlocal refusal
        try:
            if stored is not None:
                token.stored = await _stored_token(stored, world, tell)
            if not await _until_logged_in(token, at_work, stopping, feed_in.send):
                return
        except LoginRefused as error:
            refusal = error
            return
        services.start_soon(token.keep_fresh)
        if stored is not None:
            services.start_soon(_keep_token, token, stored, world, tell)
        async with trio.open_nursery() as sources:
            sources.start_soon(check_accounts)
            sources.start_soon(products.keep)
            sources.start_soon(user_hub.listen)
            sources.start_soon(market_hub.listen)
            sources.start_soon(prices.keep, feed_in.send)
            sources.start_soon(rotate_hubs, token, (market_listener, user_listener), clock, lambda: _quiet(board))
            for account_id in books:
                sources.start_soon(pictures.keep, account_id, feed_in.send)
            await stopping.wait()
            routine_http.end_within(0)
            contracts_http.end_within(0)
            token_http.end_within(LAST_REQUEST_S)
            enforcement_http.end_within(LAST_REQUEST_S)
            closing_http.end_within(LAST_REQUEST_S)
            sources.cancel_scope.cancel()

    recorder = Recorder(at_work.note, keeper.kept, report)
    everything_written = trio.Event()
    try:
        async with trio.open_nursery() as record:
            record.start_soon(keeper.keep, everything_written)
            keeper.post(RunStarted(clock.now(), __version__, os.getpid(), tuple(books), written(settings)))
            pipeline.checkpoint()
            with trio.move_on_after(FIRST_GROUP_S):
                await keeper.kept()  # locks for a journal set aside must outlive a kill; a dead disk does not stop us
            async with trio.open_nursery() as services:
                services.start_soon(_keep_reporting, at_work)
                services.start_soon(_note_journal, at_work, world, settings)
                services.start_soon(_keep_forgetting, at_work, settings)
                async with trio.open_nursery() as workers:
                    workers.start_soon(carry_out_breaches, told_out, broker_of, board, recorder, clock)
                    workers.start_soon(pipeline.judge_events, feed_out, told_in)
                    task_status.started(at_work)
                    async with feed_in:
                        await listen(services)
                    workers.cancel_scope.deadline = trio.current_time() + STOP_GRACE_S
                services.cancel_scope.cancel()
            keeper.post(RunStopped(clock.now()))
            everything_written.set()
            record.cancel_scope.deadline = trio.current_time() + STOP_GRACE_S
    finally:
        await routine_http.aclose()
        await contracts_http.aclose()
        await token_http.aclose()
        await enforcement_http.aclose()
        await closing_http.aclose()
    if keeper.unwritten:
        tell(f"NOT DURABLE: {keeper.unwritten} entries could not be written to the journal: {keeper.trouble}")
    if refusal is not None:
        raise refusal


async def _photograph(pictures: Pictures, accounts: tuple[AccountId, ...]) -> Batch:
    """Read all accounts side by side."""
    events: list[Event] = []

    async def read(account_id: AccountId) -> None:
        events.extend(await pictures.read(account_id))

    async with trio.open_nursery() as nursery:
        for account_id in accounts:
            nursery.start_soon(read, account_id)
    return tuple(events)


async def _stored_token(stored: TokenFile, world: World, tell: Tell) -> Secret | None:
    """Return the token of an earlier run. A keyring that asks a person is not waited for: there is the login."""
    with trio.move_on_after(KEYRING_S):
        found = await world.run_sync(stored.read, abandon_on_cancel=True)
        if found.trouble:
            tell(f"{found.trouble}, and flatguard logs in")
        return found.token  # type: ignore[no-any-return]
    tell("the system's keyring does not answer; the stored token is not used, and flatguard logs in")
    return None


async def _keep_token(token: Token, stored: TokenFile, world: World, tell: Tell) -> None:
    """Store every new token, for ever. That one cannot be stored is told once; guarding does not wait for it."""
    known, told = token.stored, ""
    while True:
        known = await token.wait_other_than(known)
        trouble = await world.run_sync(stored.write, known, abandon_on_cancel=True)
        if trouble and trouble != told:
            tell(trouble)
        told = trouble


def _quiet(board: Board) -> bool:
    """Whether nothing would be missed for a moment: every account is pictured, flat, without orders and undisturbed."""
    return all(
        state.pictured and state.read_failed is None and not state.positions and not state.working_orders
        for state in board.states.values()
    )


async def _until_logged_in(token: Token, at_work: Guard, stopping: trio.Event, send: Send) -> bool:
    """Log in; an unreachable gateway is asked again until it answers or we are to stop.

    Returns whether we are logged in. Raises LoginRefused. Each reason why not is told once, and an event of every
    account.
    """
    said: set[str] = set()
    while not stopping.is_set():
        try:
            await token.current()
        except LoginRefused:
            raise
        except FlatguardError as error:
            reason = str(error)
            if reason not in said:
                at_work.tell(
                    f"BLIND: {reason}; asking again every {ASK_AGAIN_S:.0f} s" if not said else f"still: {reason}"
                )
                said.add(reason)
                await send(tuple(ReadingFailed(at_work.clock.now(), a, reason) for a in at_work.board.states))
            with trio.move_on_after(ASK_AGAIN_S):
                await stopping.wait()
            continue
        if said:
            at_work.tell("the gateway answers")
        return True
    return False


async def _accounts_of(gateway: Gateway) -> dict[AccountId, Account]:
    """Return the accounts of the login. Asks until the gateway lists them; guarding does not wait for that."""
    while True:
        try:
            return {account.id: account for account in await gateway.accounts()}
        except FlatguardError:
            await trio.sleep(ASK_AGAIN_S)


def _stranger(account_id: AccountId, known: Mapping[AccountId, Account]) -> AccountUnknown:
    listed = ", ".join(f"{i} ({account.name})" for i, account in sorted(known.items())) or "none"
    text = f"account {account_id} of the settings is not one of this login"
    return AccountUnknown(text, hint=f"the login has: {listed}")


async def _keep_forgetting(at_work: Guard, settings: Settings) -> None:
    """Let go of what was seen longer ago than the settings say, a little at a time, for ever.

    That is while the exchange is closed; while it trades only once an hour, and if no account holds or works anything.
    """
    kept = timedelta(days=settings.journal.keep_days)
    let_go_at = -inf
    while True:
        now = at_work.clock.now()
        span = settings.exchange.span(trading_date(now))
        closed = span is None or not span[0] <= now < span[1]
        if closed or (trio.current_time() - let_go_at >= FORGET_EVERY_S and _quiet(at_work.board)):
            let_go_at = trio.current_time()
            at_work.note(Forgotten(now - kept))
        await trio.sleep(FORGET_LOOK_S)


async def _note_journal(at_work: Guard, world: World, settings: Settings) -> None:
    """Note outside of the journal that it guards the accounts, once all that a start wrote to it is durable."""
    await at_work.keeper.kept()
    journal = at_work.keeper.store.id
    for account_id in at_work.board.states if journal is not None else ():
        trouble = await world.run_sync(note_journal, world.markers, settings.gateway.rest_url, account_id, journal)
        if trouble is not None:
            at_work.tell(f"account {account_id}: which journal guards it cannot be noted: {trouble}")


async def _keep_reporting(at_work: Guard) -> None:
    """Write down the daemon's pulse, and where every account and the links stand when that changed, for ever."""
    said: dict[AccountId, str] = {}
    link: dict[str, str] = {}
    pulsed_at = -inf
    while True:
        now = at_work.clock.now()
        for account_id in at_work.board.states:
            body = json.dumps(at_work.standing(account_id))
            if said.get(account_id) != body:
                said[account_id] = body
                at_work.note(Standing(account_id, now, body))
        was, link = link, at_work.link()
        if link != was or trio.current_time() - pulsed_at >= PULSE_S:
            pulsed_at = trio.current_time()
            at_work.note(Alive(now, json.dumps({**link, "hubs": at_work.counters(), **at_work.rest_counters()})))
        await trio.sleep(REPORT_S)
