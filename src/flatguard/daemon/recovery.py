"""Starting is recovering: newest checkpoint, the tape behind it, and nothing believed that may have changed since."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from flatguard.clock import WallClock
from flatguard.errors import JournalDamaged
from flatguard.journal.store import Recovered, Store, set_aside
from flatguard.journal.tape import TapeRow
from flatguard.ledger.apply import apply
from flatguard.ledger.trading_day import trading_day
from flatguard.model.account import AccountState, Terms
from flatguard.model.ids import AccountId
from flatguard.model.lockouts import ACCOUNT_SCOPE, Lockout
from flatguard.rules._book import RuleBook, forget, remember
from flatguard.settings.load import AccountSettings, Settings

DAMAGED = "journal_damaged"


def recover(settings: Settings, clock: WallClock) -> tuple[Store, dict[AccountId, AccountState], str | None]:
    """Open the journal and rebuild every account; with them a sentence for the operator where there is one to tell.

    A damaged journal is set aside, and its accounts count as locked until the reset: whoever damages it gains nothing.
    Blocking. Raises FlatguardError where the journal cannot be opened.
    """
    path = settings.journal.path
    terms = {a.id: RuleBook(a.rules).terms(settings.terms) for a in settings.accounts}
    trouble = None
    store = None
    try:
        store = Store.open(path)
        states = {a.id: awakened(replayed(a, store.recover(a.id), terms[a.id])) for a in settings.accounts}
    except JournalDamaged as error:
        aside = store.set_aside(clock.now()) if store is not None else set_aside(path, clock.now())
        trouble = f"{error}. It was moved to {aside}; its accounts count as locked until the reset."
        store = Store.open(path)
        states = {a.id: _locked_for_damage(a.id, terms[a.id], clock, str(aside)) for a in settings.accounts}
    return store, states, trouble


def replayed(account: AccountSettings, recovered: Recovered, terms: Terms) -> AccountState:
    """Return the account as it was when its tape ended. Raises JournalDamaged where the tape cannot be folded."""
    state = evolve(recovered.state or AccountState(account.id), terms=terms)
    try:
        return folded(state, recovered.tape, RuleBook(account.rules))
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # it was folded once, so it was changed
        raise JournalDamaged(f"the journal's record of account {account.id} cannot be folded: {error!r}") from None


def folded(state: AccountState, tape: Iterable[TapeRow], book: RuleBook) -> AccountState:
    """Return ``state`` after ``tape``: every event folded, with what was found then rather than judged anew.

    The settings may have changed since; what they made of the past stands.
    """
    for row in tape:
        state, _ = book.fold(apply(state, row.event), row.event)
        for rule in row.cleared:
            state = forget(state, rule)
        for breach in row.found:
            state = remember(state, breach)
        if row.locks is not None:
            state = evolve(state, lockouts=row.locks)
        if row.warned is not None:
            state = evolve(state, warned=row.warned)
    return state


def awakened(state: AccountState) -> AccountState:
    """Return ``state`` without what does not outlive a process: links, prices, the picture, what enforcement was told.

    Nothing is judged before the first complete picture; a breach that still stands then is told anew.
    """
    fresh = AccountState(state.id)
    return evolve(
        state,
        links=fresh.links,
        quotes=fresh.quotes,
        exposure_at=None,
        by_fills=fresh.by_fills,
        filled_at=fresh.filled_at,
        contradicted=fresh.contradicted,
        missing=fresh.missing,
        blind_since=None,
        record_at=None,
        read_failed=None,
        doubt=None,
        doubted_at=None,
        breached={rule: evolve(mark, told=(), told_at=mark.since) for rule, mark in state.breached.items()},
    )


def _locked_for_damage(account_id: AccountId, terms: Terms, clock: WallClock, aside: str) -> AccountState:
    now = clock.now()
    lock = Lockout(
        account_id=account_id,
        rule=DAMAGED,
        scope=ACCOUNT_SCOPE,
        since=now,
        until=trading_day(now, terms).unlocks_at,
        reason=f"the journal was damaged and moved to {aside}; what was locked is not known",
        breach="",
    )
    return AccountState(account_id, terms=terms, lockouts=(lock,))
