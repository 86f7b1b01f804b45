"""Max unrealized profit: an open profit is taken at ``profit_target``, or not let turn into a loss.

Judged after every event, at prices that are fresh and believed. Closes the position, or with ``scope = "total"``
everything; locks the account only if ``action`` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal

from attrs import field, frozen

from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import CloseContract, Flatten
from flatguard.model.events import Event
from flatguard.model.money import ZERO, dollars
from flatguard.rules._closing import closing
from flatguard.rules._contradictions import pocket_change
from flatguard.rules._day_end import Enforcement, LockoutUntil, day_end, day_ended
from flatguard.rules._prices import open_by_contract, without_price
from flatguard.rules._rule import Contradiction, Finding, Measure, Rule
from flatguard.rules._settings import profit_amount
from flatguard.rules.daily_realized_profit import DailyRealizedProfit

NAME = "max_unrealized_profit"


@frozen
class MaxUnrealizedProfit(Rule):
    """Settings of ``[rules.max_unrealized_profit]``.

    ``mode``: close at ``profit_target``, or at the entry once ``breakeven_arm_profit`` has been shown; both in US
    dollars. ``scope``: each position by itself, or the sum. ``action``: close what has reached it, or close everything
    and lock the account; ``lockout_until``: the daily reset, or for good until an administrator acts.
    """

    mode: Literal["profit_target", "breakeven"] = "profit_target"
    profit_target: Decimal = field(default=Decimal(1000), validator=profit_amount)
    breakeven_arm_profit: Decimal = field(default=Decimal(100), validator=profit_amount)
    scope: Literal["per_position", "total"] = "per_position"
    action: Literal["close_position", "close_all_and_lockout"] = "close_position"
    lockout_until: LockoutUntil = "daily_reset"

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """A target that costs make up, or that the day's own is reached before; an end of a lock that is not set."""
        day = others.get("daily_realized_profit")
        if self.mode == "profit_target":
            yield from pocket_change("profit_target", self.profit_target, terms)
            if isinstance(day, DailyRealizedProfit) and day.combined and day.enforcement != "alert_only":
                yield from self._not_below(day.target)
        if self.lockout_until != "daily_reset" and self.action != "close_all_and_lockout":
            yield Contradiction(
                "lockout_until",
                f'has no effect while action is "{self.action}"; write action = "close_all_and_lockout"',
            )

    def _not_below(self, days: Decimal) -> Iterator[Contradiction]:
        if self.profit_target >= days:
            yield Contradiction(
                "profit_target",
                f"is {dollars(self.profit_target)}, not below the {dollars(days)} of daily_realized_profit,"
                " which is reached first unless the day is at a loss",
            )

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when the profit is reached or given back, and from then on until what is to be closed is closed."""
        locks = self.action == "close_all_and_lockout"
        whole = locks or self.scope == "total"
        enforcement: Enforcement = "close_all_and_lockout" if locks else "close_all_positions"
        if whole and day_ended(NAME, state, enforcement, self.lockout_until):
            return None
        known = open_by_contract(state, event.at)
        if self.scope == "total":
            all_known = len(known) == len(state.positions)
            reached = all_known and self._reached(sum(known.values(), ZERO), state.open_peak.amount)
            broken = {*state.positions} if reached else set()
        else:
            broken = {c for c, profit in known.items() if self._reached(profit, state.peaks[c].profit.amount)}
        broken |= {c for c in state.positions if closing(NAME, state, c, Flatten() if whole else CloseContract(c))}
        if not broken:
            return None
        stands = {c: dollars(known[c]) if c in known else "no price now" for c in sorted(broken)}
        together = f"{dollars(sum(known.values(), ZERO))} in total, "
        shown = ", ".join(f"{state.label(c)} {profit}" for c, profit in stands.items())
        return Finding(
            reason=f"Open profit: {together if self.scope == 'total' else ''}{shown}; {self._limit}",
            decisions=day_end(state, enforcement, self.lockout_until)
            if whole
            else tuple(CloseContract(contract_id) for contract_id in stands),
            figures=(
                *((state.label(c), profit) for c, profit in stands.items()),
                *((f"{state.label(c)} at its best", dollars(state.peaks[c].profit.amount)) for c in stands),
                ("limit", self._limit),
            ),
        )

    def _reached(self, profit: Decimal, best: Decimal) -> bool:
        if self.mode == "profit_target":
            return profit >= self.profit_target
        return best >= self.breakeven_arm_profit and profit <= 0

    @property
    def _limit(self) -> str:
        if self.mode == "profit_target":
            return f"target {dollars(self.profit_target)}"
        return f"breakeven, armed at {dollars(self.breakeven_arm_profit)}"

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """A position cannot be valued: prices contradict each other, or there has been none for 30 s."""
        missing = without_price(state, at)
        return None if missing is None else f"{missing}, so its open profit is not judged"

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """The best position, or the sum, against the target; None without a price, and where there is no target."""
        known = open_by_contract(state, at)
        if not known or self.mode == "breakeven":
            return None
        amount = sum(known.values(), ZERO) if self.scope == "total" else max(known.values())
        return Measure(amount, self.profit_target, "USD")
