"""Live the life of a seed: the real daemon, the gateway double, a trader on tilt, faults, crashes; all in virtual time.

What checks the promises looks on after every step, a quarter of a second of the run's time. The same seed gives the
same life: who goes first in Trio's scheduler is drawn from it too.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any
from unittest.mock import patch

import trio
import trio.testing
from attrs import define, field, frozen
from click.testing import CliRunner

from flatguard.cli import cli
from flatguard.journal.store import Store
from flatguard.model.entries import Entry, Judged
from flatguard.model.ids import AccountId
from flatguard.rules._rule import Rule
from flatguard.rules.auth_loss_guard import AuthLossGuard
from flatguard.rules.cooldown_after_loss import CooldownAfterLoss
from flatguard.rules.daily_drawdown import DailyDrawdown
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.daily_unrealized_loss import DailyUnrealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.rules.max_unrealized_profit import MaxUnrealizedProfit
from flatguard.rules.no_stop_loss_grace import NoStopLossGrace
from flatguard.rules.trade_frequency_limit import TradeFrequencyLimit
from flatguard.rules.trade_management import TradeManagement
from flatguard.simulator.contracts import find_contract
from flatguard.simulator.faults import KNOWN_FAULTS
from flatguard.simulator.options import Options
from tests.fakes.system import System, inline, open_system
from tests.sim.invariants import INVARIANTS, Invariant
from tests.sim.observer import View
from tests.sim.script import CALM_S, STORM_S, Act, Script, without

STEP_S = 0.25
STARTS_WITHIN_S = 30.0

ROOM = 130  # of the 200 requests a minute; the rest is kept for closes
ASSUMED_AT_START = 100  # what a daemon that has just started assumes to have been sent

LOSS, LIMIT = Decimal(400), 4
SETTINGS: Mapping[str, Mapping[str, Rule]] = {
    "strict": {
        "max_contracts": MaxContracts(limit=LIMIT, enforcement="reduce_to_limit"),
        "daily_realized_loss": DailyRealizedLoss(loss_limit=LOSS, combined=False),
        "auth_loss_guard": AuthLossGuard(),
    },
    "patient": {
        "max_contracts": MaxContracts(limit=LIMIT),
        "daily_realized_loss": DailyRealizedLoss(loss_limit=LOSS),
        "daily_unrealized_loss": DailyUnrealizedLoss(loss_limit=Decimal(150)),
        "daily_drawdown": DailyDrawdown(drawdown_limit=Decimal(350)),
        "max_unrealized_profit": MaxUnrealizedProfit(profit_target=Decimal(120)),
    },
    "brakes": {
        "max_contracts": MaxContracts(limit=LIMIT, enforcement="close_offender"),
        "daily_realized_loss": DailyRealizedLoss(loss_limit=LOSS),
        "cooldown_after_loss": CooldownAfterLoss(),
        "trade_frequency_limit": TradeFrequencyLimit(per_minute=6),
        "no_stop_loss_grace": NoStopLossGrace(),
        "trade_management": TradeManagement(),
    },
}
OPTIONS = Options().but(market_step_ms=1_000)


class PromiseBroken(AssertionError):
    """An invariant found something. Says which, when, and what."""


@frozen
class Life:
    """What came of a seed. ``broken`` names the promise that was not kept, if any."""

    script: Script
    broken: str | None
    timeline: tuple[str, ...]
    events: int
    steps: int
    virtual_s: float
    real_s: float
    faults: Mapping[str, int]
    reached: frozenset[str]
    tape: bytes = b""


@define
class _Disk:
    """The disk under the journal, which may be full or slow."""

    full: bool = False
    slow_s: float = 0.0

    async def run(self, function: Callable[..., Any], *arguments: Any, abandon_on_cancel: bool = False) -> Any:
        if getattr(function, "__func__", None) is Store.write:
            if self.slow_s:
                await trio.sleep(self.slow_s)
            if self.full:
                raise sqlite3.OperationalError("database or disk is full")
        return await inline(function, *arguments)


@define
class _Storm:
    """One life while it is lived."""

    script: Script
    system: System
    view: View
    disk: _Disk
    invariants: Iterable[Invariant]
    chance: Random
    began: float
    running: bool = False
    wrong_until: float = 0.0
    timeline: list[str] = field(factory=list)
    faults: Counter[str] = field(factory=Counter)
    reached: set[str] = field(factory=set)
    tape: list[str] = field(factory=list)
    sent: list[float] = field(factory=list)
    started_at: float = 0.0
    events: int = 0
    steps: int = 0

    @property
    def elapsed(self) -> float:
        return trio.current_time() - self.began

    def tell(self, what: object) -> None:
        self.timeline.append(f"{self.elapsed:8.2f} {self.system.clock.now():%H:%M:%S} {what}")

    # the daemon

    async def start(self) -> None:
        started = trio.Event()

        async def watched() -> None:
            try:
                await self.system._run(started)
            except Exception as error:  # noqa: BLE001  whatever ends it is a broken promise
                self.view.memory["ended by itself"] = repr(error)
            finally:
                self.running = False
                self.system._ended.set()
                started.set()

        system = self.system
        system.at_work = None
        system._stopping, system._scope, system._ended = trio.Event(), trio.CancelScope(), trio.Event()
        system.nursery.start_soon(watched)
        with trio.move_on_after(STARTS_WITHIN_S):
            await started.wait()
        if system.at_work is None:
            return
        self.running = True
        self.started_at = self.elapsed
        self.upset(12)
        system.at_work.on_entry.append(self._note)

    def _note(self, entry: Entry) -> None:
        if isinstance(entry, Judged):
            self.events += 1
            for breach in entry.found:
                self.reached.add(f"breach of {breach.rule}")
                self.tell(f"account {breach.account_id}: {breach.rule}: {breach.reason}")
            self.tape.append(repr((entry.event, entry.found, entry.cleared, entry.locks)))

    async def end(self, how: str) -> None:
        if not self.running:
            return
        self.running = False
        if how == "kill":
            await self.system.kill()
        else:
            with trio.move_on_after(20):
                await self.system.stop()

    # what happens

    def upset(self, seconds: float) -> None:
        """Nothing is promised for so long from now on."""
        self.wrong_until = max(self.wrong_until, self.elapsed + seconds)

    async def play(self) -> None:
        async with trio.open_nursery() as nursery:
            for act in self.script.acts:
                await trio.sleep_until(self.began + act.at)
                self.tell(str(act)[9:])
                nursery.start_soon(self._do, act)

    async def _do(self, act: Act) -> None:
        if act.who == "trader":
            await self._trade(act)
        elif act.who == "fault":
            self.faults[act.what] += 1
            self.upset(float(act.how.get("duration_s", 5)) + 8)
            await self.system.fault(act.what, **act.how)
        else:
            self.faults[act.what] += 1
            await self._accident(act)

    async def _accident(self, act: Act) -> None:
        seconds = float(act.how["for_s"])
        self.upset(seconds + 20)
        system, clock = self.system, self.system.clock
        if act.what in {"kill", "stop"}:
            await self.end(act.what)
            await trio.sleep(seconds)
            if not self.running:
                await self.start()
        elif act.what == "disk_full":
            self.disk.full = True
            await trio.sleep(seconds)
            self.disk.full = False
        elif act.what == "slow_disk":
            self.disk.slow_s = 1.5
            await trio.sleep(seconds)
            self.disk.slow_s = 0.0
        elif act.what == "clock":
            clock.ahead += timedelta(seconds=act.how["ahead_s"])
            await trio.sleep(seconds + 5)
            clock.ahead -= timedelta(seconds=act.how["ahead_s"])
            self.upset(20)
        elif act.what == "sleep":
            clock.ahead += timedelta(seconds=600)
            await system.rest.sim("clock", advance_s=600)
        elif act.what == "firm":
            account = self.chance.choice(self.view.accounts)
            await system.rest.sim("account", accountId=account, canTrade=False)
            await trio.sleep(seconds)
            await system.rest.sim("account", accountId=account, canTrade=True)

    # the trader

    async def _trade(self, act: Act) -> None:
        how = act.how
        account = self.view.accounts[how["account"]]
        contract = find_contract(how["ticker"])
        assert contract is not None
        held = self.view.sizes(account).get(contract.id, 0)
        signed = how["side"] * how["size"]
        last = self.system.last(how["ticker"])
        tick = contract.tick_size
        match act.what:
            case "double_down":
                await self._order(account, contract.id, held or signed)
            case "average":
                await self._order(account, contract.id, 1 if held >= 0 else -1)
            case "reverse":
                await self._order(account, contract.id, -2 * held or signed)
            case "rest_orders":
                for step in (8, 40):
                    await self._order(account, contract.id, signed, limitPrice=last - how["side"] * step * tick, type=1)
            case "pull_stops":
                for order in self.view.working(account).values():
                    if order.contract.id == contract.id:
                        await self.system.rest.sim("cancel", accountId=account, orderId=order.id)
            case "bracket":
                legs = {
                    "stopLossBracket": {"ticks": -20 * how["side"], "type": 4},
                    "takeProfitBracket": {"ticks": 20 * how["side"], "type": 1},
                }
                await self._order(account, contract.id, signed, **legs)
            case "spam":
                for _ in range(5):
                    await self._order(account, contract.id, how["side"])
            case "close_by_hand":
                if held:
                    await self._order(account, contract.id, -held)
            case "reenter_at_once":
                for _ in range(3):
                    await self._order(account, contract.id, signed)
                    await trio.sleep(0.02)
            case "lose":
                await self._order(account, contract.id, signed)
                await trio.sleep(0.4)
                await self.system.price(how["ticker"], last - how["side"] * 240 * tick)
                await trio.sleep(0.4)
                if now_held := self.view.sizes(account).get(contract.id, 0):
                    await self._order(account, contract.id, -now_held)
                await self.system.rest.sim("price", contractId=how["ticker"], resume=True)
            case _:
                await self._order(account, contract.id, signed)

    async def _order(self, account: int, contract_id: str, signed: int, **more: Any) -> None:
        """What the broker refuses is refused."""
        body = {"type": 2, **more}
        await self.system.rest.sim(
            "orders", accountId=account, contractId=contract_id, side=0 if signed > 0 else 1, size=abs(signed), **body
        )

    # looking on

    async def watch(self) -> None:
        while True:
            await trio.sleep(STEP_S)
            self.look()

    def look(self) -> None:
        view, system = self.view, self.system
        self.steps += 1
        view.elapsed, view.running = self.elapsed, self.running
        view.now = system.gateway.gateway.now()
        if self._short_of_requests():
            self.upset(5)
        wrong = (
            self.elapsed < self.wrong_until or self.disk.full or self.disk.slow_s or system.clock.ahead != self.slept
        )
        view.well_since = None if wrong else (self.elapsed if view.well_since is None else view.well_since)
        view.claims = {}
        if self.running and system.at_work is not None:
            view.claims = {a: system.at_work.standing(AccountId(a)) for a in view.accounts}
            self.reached |= {f"claims {claim['protection']}" for claim in view.claims.values()}
        for invariant in self.invariants:
            for what in invariant(view):
                raise PromiseBroken(f"{invariant.__name__}: {what}")

    def _short_of_requests(self) -> bool:
        """Whether so much was asked within a minute that the gateway's allowance holds up what is no close."""
        asked, limit = self.view.requests, self.elapsed - 60
        self.sent += [self.elapsed] * (len(asked) - len(self.sent))
        lately = sum(1 for moment in reversed(self.sent[-250:]) if moment > limit)
        return lately + (ASSUMED_AT_START if self.started_at > limit else 0) > ROOM

    @property
    def slept(self) -> timedelta:
        """By how much both clocks have been set forward together."""
        return timedelta(seconds=600 * sum(1 for a in self.script.acts if a.what == "sleep" and a.at <= self.elapsed))


async def _live(script: Script, folder: Path, invariants: Iterable[Invariant], out: dict[str, Any]) -> None:
    rules = SETTINGS[script.settings]
    disk = _Disk()
    async with open_system(
        folder,
        rules,
        options=OPTIONS,
        seed=script.seed,
        start=script.start,
        accounts=script.accounts,
        started=False,
    ) as system:
        system.run_sync = disk.run
        user = next(iter(system.double.users.values()))
        view = View(
            double=system.double,
            accounts=tuple(int(account.id) for account in system.settings.accounts),
            journal=system.settings.journal.path,
            requests=system.gateway.gateway.requests,
            secrets=(user.api_key,),
            said=system.said,
            limits={"max_contracts": LIMIT, "daily_realized_loss": LOSS},
        )
        storm = out["storm"] = _Storm(
            script, system, view, disk, invariants, Random(script.seed), began=trio.current_time()
        )
        await storm.start()
        with trio.move_on_after(script.length_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(storm.watch)
                nursery.start_soon(storm.play)
                for turn in range(script.turns):
                    await trio.sleep_until(storm.began + turn * (STORM_S + CALM_S) + STORM_S)
                    storm.tell("--- calm")
                    await system.heal()
                    disk.full, disk.slow_s = False, 0.0
                    if not storm.running:
                        await storm.start()
                await trio.sleep(CALM_S)


def live(script: Script, invariants: Iterable[Invariant] = INVARIANTS) -> Life:
    """Live a script through, and say what came of it. Real time and virtual time are both told."""
    began = perf_counter()
    out: dict[str, Any] = {}
    broken = None
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a disk would be most of the time
    with tempfile.TemporaryDirectory(dir=memory) as folder, patch("trio._core._run._r", Random(script.seed)):
        clock = trio.testing.MockClock(autojump_threshold=0)
        try:
            trio.run(_live, script, Path(folder), invariants, out, clock=clock)
            broken = the_tape_tells_the_same(Path(folder) / "journal.db")
        except BaseExceptionGroup as group:
            broken = _innermost(group)
        except (PromiseBroken, AssertionError, trio.TooSlowError) as error:
            broken = str(error) or repr(error)
    storm = out.get("storm")
    if storm is None:
        raise RuntimeError(f"seed {script.seed} did not begin: {broken}")
    return Life(
        script=script,
        broken=broken,
        timeline=tuple(storm.timeline),
        events=storm.events,
        steps=storm.steps,
        virtual_s=script.length_s,
        real_s=perf_counter() - began,
        faults=dict(storm.faults),
        reached=frozenset(storm.reached),
        tape="\n".join(storm.tape).encode(),
    )


def the_tape_tells_the_same(journal: Path) -> str | None:
    """P8. Folding the tape again gives the same state and the same decisions."""
    result = CliRunner().invoke(cli, ["replay", str(journal)])
    return None if result.exit_code == 0 else f"the_tape_tells_the_same: {result.output.strip()[-500:]}"


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, PromiseBroken) else repr(error)


def all_kinds() -> frozenset[str]:
    """Return every fault and accident that there is, for the count of those that were met."""
    return frozenset({*KNOWN_FAULTS, "kill", "stop", "disk_full", "slow_disk", "clock", "sleep", "firm"})


def shrunk(script: Script, still_fails: Callable[[Script], bool]) -> Script:
    """Return the script with as few acts as still break the same promise, dropping them one by one."""
    number = 0
    while number < len(script.acts):
        smaller = without(script, frozenset({number}))
        if still_fails(smaller):
            script = smaller
        else:
            number += 1
    return script
