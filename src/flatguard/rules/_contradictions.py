"""Contradictions that several rules look for."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from flatguard.model.account import Terms
from flatguard.model.money import dollars
from flatguard.rules._day_end import Enforcement, LockoutUntil
from flatguard.rules._rule import Contradiction


def pocket_change(key: str, amount: Decimal, terms: Terms) -> Iterator[Contradiction]:
    """Find an amount in dollars that the commissions of a single contract make up."""
    costs = 2 * max((terms.other_commission, *terms.commissions.values()))
    if amount <= costs:
        yield Contradiction(
            key,
            f"is {dollars(amount)}, no more than what buying and selling one contract may cost in commissions; "
            "write the amount in US dollars",
        )


def lock_that_never_comes(enforcement: Enforcement, until: LockoutUntil) -> Iterator[Contradiction]:
    """Find an end that is set for a lock which is not."""
    if until != "daily_reset" and enforcement != "close_all_and_lockout":
        yield Contradiction(
            "lockout_until",
            f'has no effect while enforcement is "{enforcement}"; write enforcement = "close_all_and_lockout"',
        )
