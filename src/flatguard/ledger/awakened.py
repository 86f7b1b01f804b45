"""What of an account outlives a process."""

from __future__ import annotations

from attrs import evolve

from flatguard.model.account import AccountState


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
