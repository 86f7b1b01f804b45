"""Entries of a journal, made small."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from flatguard.model.account import AccountState, TradingDay
from flatguard.model.decisions import Breach, Decision, Flatten, LockOut
from flatguard.model.entries import Alive, Checkpoint, EndStateProven, Judged, RunStarted, Standing, StepTaken
from flatguard.model.events import PositionChanged, QuoteMoved
from flatguard.model.ids import AccountId, ContractId
from flatguard.model.lockouts import Lockout
from flatguard.model.trading import Position

ACCOUNT = AccountId(25700001)
OTHER = AccountId(26200002)
MNQ = ContractId("CON.F.US.MNQ.Z26")
NOON = datetime(2026, 3, 18, 17, 0, tzinfo=UTC)
FIVE_PM = datetime(2026, 3, 18, 22, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def quoted(number: int, account: AccountId = ACCOUNT) -> Judged:
    """A quote whose price tells the entries apart."""
    return Judged(account, QuoteMoved(at(number), MNQ, last=Decimal(number)))


def held(number: int, account: AccountId = ACCOUNT) -> Judged:
    """A position whose size tells the entries apart."""
    return Judged(account, PositionChanged(at(number), Position(account, MNQ, number, Decimal(25000), NOON)))


def broken(
    name: str, *decisions: Decision, account: AccountId = ACCOUNT, rule: str = "daily_realized_loss", seconds: int = 0
) -> Judged:
    """A breach, and the lock that it calls for; it flattens and locks unless told otherwise."""
    wanted = decisions or (LockOut(FIVE_PM), Flatten())
    breach = Breach(name, rule, account, at(seconds), "trade 1", "too much lost", (("limit", "$500"),), wanted)
    locks = tuple(
        Lockout(account, rule, d.scope, at(seconds), d.until, "too much lost", name)
        for d in wanted
        if isinstance(d, LockOut)
    )
    return Judged(account, QuoteMoved(at(seconds), MNQ), found=(breach,), locks=locks or None)


def day_of(number: int) -> TradingDay:
    """The trading day that begins so many days after the one that ends today at five."""
    ends = FIVE_PM + timedelta(days=number)
    return TradingDay(ends.date(), ends - timedelta(days=1), ends, ends)


def stood(day: int = 0, account: AccountId = ACCOUNT) -> Checkpoint:
    """A checkpoint of an account in a trading day."""
    return Checkpoint(AccountState(account, today=day_of(day)))


def step(*breaches: str, account: AccountId = ACCOUNT, seconds: int = 1) -> StepTaken:
    return StepTaken(account, breaches, "close", MNQ, "", at(seconds), at(seconds + 1), "done", "")


def proven(*breaches: str, account: AccountId = ACCOUNT, seconds: int = 3) -> EndStateProven:
    return EndStateProven(account, breaches, at(seconds), at(seconds + 1))


def started(seconds: int = 0) -> RunStarted:
    return RunStarted(at(seconds), "0.1", 4711, (ACCOUNT,), "{}")


def alive(seconds: int = 0) -> Alive:
    return Alive(at(seconds), '{"user_hub":"up","market_hub":"up","rest":"up"}')


def stands(seconds: int = 0, account: AccountId = ACCOUNT) -> Standing:
    return Standing(account, at(seconds), f'{{"id":{account},"protection":"PROTECTED"}}')
