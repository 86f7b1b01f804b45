"""What time it is, and whether holidays are known. Shared by the rules that act by the clock.

When a local time is, is told by ``model.calendar.moment_on``.
"""

from __future__ import annotations

from datetime import datetime

from flatguard.model.account import AccountState


def the_time(state: AccountState, at: datetime) -> datetime:
    """Return what time it is when our clock shows ``at``: by the broker's clock, where ours is wrong by a minute."""
    return at - state.clock_ahead


def our_time(state: AccountState, moment: datetime) -> datetime:
    """Return what our clock shows at ``moment``."""
    return moment + state.clock_ahead


def no_holidays_known(state: AccountState, at: datetime) -> str | None:
    """Return why it is not known whether ``at`` is on a holiday; None where it is."""
    calendar = state.terms.calendar
    if calendar is None:
        return "there is no exchange calendar, so no holiday and no early close is known"
    if not calendar.covers(the_time(state, at)):
        return f"the exchange calendar ended on {calendar.ends}, so no holiday and no early close is known"
    return None
