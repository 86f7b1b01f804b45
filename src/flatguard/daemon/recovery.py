"""Starting is recovering: newest checkpoint, the tape behind it, and nothing believed that may have changed since."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from attrs import evolve, frozen

from flatguard.clock import WallClock
from flatguard.daemon.markers import journal_of
from flatguard.errors import FlatguardError, JournalDamaged, JournalUnavailable
from flatguard.journal.late import LateStore
from flatguard.journal.store import Recovered, Store, set_aside
from flatguard.journal.tape import TapeRow
from flatguard.ledger.apply import apply
from flatguard.ledger.awakened import awakened
from flatguard.ledger.trading_day import trading_day
from flatguard.model.account import AccountState, Terms
from flatguard.model.ids import AccountId
from flatguard.model.lockouts import ACCOUNT_SCOPE, Lockout, union
from flatguard.rules._book import RuleBook, forget, remember
from flatguard.settings.load import AccountSettings, Settings

DAMAGED = "journal_damaged"


@frozen
class Recovery:
    """What a start found: the journal, every account as it stands, and what the operator has to be told."""

    store: Store | LateStore
    states: dict[AccountId, AccountState]
    troubles: tuple[str, ...] = ()


def recover(settings: Settings, clock: WallClock, markers: Path | None = None) -> Recovery:
    """Open the journal and rebuild every account.

    A damaged journal is set aside, and its accounts count as locked until the reset: whoever damages it gains nothing.
    So do those of one that is there and cannot be read, and those that another journal guarded before, as ``markers``
    tell. One that can be read but not written is known; guarding begins, and writing is tried again. Blocking. Raises
    FlatguardError where the file is another program's, or a newer one's.
    """
    path, now = settings.journal.path, clock.now()
    try:
        store = Store.open(path, now)
    except JournalDamaged as error:
        return _after_damage(settings, clock, error, set_aside(path, now))
    except JournalUnavailable as error:
        return _not_opened(settings, clock, markers, error)
    try:
        states = _states(settings, store)
    except JournalDamaged as error:
        return _after_damage(settings, clock, error, store.set_aside(now))
    return _held_against(markers, settings, clock, Recovery(store, states))


def _states(settings: Settings, store: Store) -> dict[AccountId, AccountState]:
    terms = _terms(settings)
    return {a.id: awakened(replayed(a, store.recover(a.id), terms[a.id])) for a in settings.accounts}


def _terms(settings: Settings) -> dict[AccountId, Terms]:
    return {a.id: RuleBook(a.rules).terms(settings.terms) for a in settings.accounts}


def _after_damage(settings: Settings, clock: WallClock, error: JournalDamaged, aside: Path) -> Recovery:
    why = f"the journal was damaged and moved to {aside}"
    told = f"{error}. It was moved to {aside}; its accounts count as locked until the reset."
    try:
        store: Store | LateStore = Store.open(settings.journal.path, clock.now())
    except JournalUnavailable as other:
        store = LateStore(settings.journal.path, clock.now(), str(other))
    return Recovery(store, _all_locked(settings, clock, why), (told,))


def _not_opened(settings: Settings, clock: WallClock, markers: Path | None, error: JournalUnavailable) -> Recovery:
    """Begin without the journal: with what a copy of it tells, with nothing where there is none, else locked."""
    path, now = settings.journal.path, clock.now()
    told = f"NOT DURABLE: {error} ({error.hint}). Guarding begins without it"
    try:
        if not _is_there(path):
            late = LateStore(path, now, str(error))
            fresh = {id_: AccountState(id_, terms=terms) for id_, terms in _terms(settings).items()}
            return _held_against(markers, settings, clock, Recovery(late, fresh, (f"{told}; it is tried again.",)))
        with Store.copied(path, now) as copy:
            late = LateStore(path, now, str(error), copy.id)
            states = _states(settings, copy)
    except (FlatguardError, OSError) as other:
        late = LateStore(path, now, str(error), unread=True)
        why = f"the journal {path} cannot be read: {other}"
        return Recovery(late, _all_locked(settings, clock, why), (f"{told}; its accounts count as locked: {other}",))
    told = f"{told}, from what it holds; writing to it is tried again."
    return _held_against(markers, settings, clock, Recovery(late, states, (told,)))


def _is_there(path: Path) -> bool:
    """Whether there is a journal. Raises OSError where that cannot be seen."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _held_against(markers: Path | None, settings: Settings, clock: WallClock, found: Recovery) -> Recovery:
    """Lock the accounts that another journal guarded before."""
    troubles = list(found.troubles)
    states = dict(found.states)
    for account_id, state in states.items():
        known = journal_of(markers, settings.gateway.rest_url, account_id)
        if known is not None and known != found.store.id:
            why = f"another journal ({known[:8]}) guarded the account before, and it is not at {settings.journal.path}"
            lock = _lock(account_id, state.terms, clock, why)
            states[account_id] = evolve(state, lockouts=union(state.lockouts, (lock,)))
            troubles.append(f"account {account_id}: {why}; it counts as locked until the reset.")
    return evolve(found, states=states, troubles=tuple(troubles))


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


def _all_locked(settings: Settings, clock: WallClock, why: str) -> dict[AccountId, AccountState]:
    return {
        id_: AccountState(id_, terms=terms, lockouts=(_lock(id_, terms, clock, why),))
        for id_, terms in _terms(settings).items()
    }


def _lock(account_id: AccountId, terms: Terms, clock: WallClock, why: str) -> Lockout:
    now = clock.now()
    return Lockout(
        account_id=account_id,
        rule=DAMAGED,
        scope=ACCOUNT_SCOPE,
        since=now,
        until=trading_day(now, terms).unlocks_at,
        reason=f"{why}; what was locked is not known",
        breach="",
    )
