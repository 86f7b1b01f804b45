"""Daily unrealized loss: no open position, or all of them together, loses more than ``loss_limit``.

Judged after every event, at prices that are fresh and believed. Reaching the limit is a breach. Closes the position, or
with ``scope = "total"`` everything; locks the account only if ``lockout`` is set.
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
from flatguard.rules._day_end import LockoutUntil, day_end, day_ended
from flatguard.rules._prices import open_by_contract, without_price
from flatguard.rules._rule import Contradiction, Finding, Measure, Rule
from flatguard.rules._settings import loss_amount
from flatguard.rules.daily_realized_loss import DailyRealizedLoss

NAME = "daily_unrealized_loss"


@frozen
class DailyUnrealizedLoss(Rule):
    """Settings of ``[rules.daily_unrealized_loss]``.

    ``loss_limit``: US dollars, positive. ``scope``: each position by itself, or the sum. ``lockout``: with the sum
    only; ``lockout_until``: the daily reset, or for good until an administrator acts.
    """

    loss_limit: Decimal = field(default=Decimal(300), validator=loss_amount)
    scope: Literal["per_position", "total"] = "per_position"
    lockout: bool = field(default=False)
    lockout_until: LockoutUntil = "daily_reset"

    @lockout.validator
    def _of_the_account(self, _attribute: object, lockout: bool) -> None:
        if lockout and self.scope != "total":
            raise ValueError('locks the whole account, so it needs scope = "total"')

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when the limit is reached, and from then on until what is to be closed is closed."""
        open_loss = open_by_contract(state, event.at)
        if self.scope == "total":
            return self._judge_total(state, sum(open_loss.values(), ZERO), len(open_loss) < len(state.positions))
        if NAME not in state.breached and min(open_loss.values(), default=ZERO) > -self.loss_limit:
            return None
        broken = [
            contract_id
            for contract_id in sorted(state.positions)
            if open_loss.get(contract_id, ZERO) <= -self.loss_limit
            or closing(NAME, state, contract_id, CloseContract(contract_id))
        ]
        if not broken:
            return None
        lost = {c: dollars(open_loss[c]) if c in open_loss else "no price now" for c in broken}
        return Finding(
            reason=f"Open loss: {', '.join(f'{state.label(c)} {lost[c]}' for c in broken)}, "
            f"limit {dollars(-self.loss_limit)} a position",
            decisions=tuple(CloseContract(contract_id) for contract_id in broken),
            figures=(*((state.label(c), lost[c]) for c in broken), ("limit", dollars(-self.loss_limit))),
        )

    def _judge_total(self, state: AccountState, total: Decimal, partial: bool) -> Finding | None:
        enforcement: Literal["close_all_and_lockout", "close_all_positions"]
        enforcement = "close_all_and_lockout" if self.lockout else "close_all_positions"
        if day_ended(NAME, state, enforcement, self.lockout_until):
            return None
        if total > -self.loss_limit and not any(closing(NAME, state, c, Flatten()) for c in state.positions):
            return None
        known = f"{dollars(total)}{', as far as there are prices' if partial else ''}"
        return Finding(
            reason=f"Open loss: {known}, limit {dollars(-self.loss_limit)} in total",
            decisions=day_end(state, enforcement, self.lockout_until),
            figures=(("open", known), ("limit", dollars(-self.loss_limit))),
        )

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """A position cannot be valued: prices contradict each other, or there has been none for 30 s."""
        missing = without_price(state, at)
        return None if missing is None else f"{missing}, so its open loss is not judged"

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """The worst position, or the sum, against the limit; None while nothing that is held has a price."""
        open_loss = open_by_contract(state, at)
        if not open_loss:
            return None
        amount = sum(open_loss.values(), ZERO) if self.scope == "total" else min(open_loss.values())
        return Measure(amount, -self.loss_limit, "USD")

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """A limit that the day's own is reached before; an end of a lock that is not set."""
        day = others.get("daily_realized_loss")
        if isinstance(day, DailyRealizedLoss) and day.acts and self.loss_limit >= day.loss_limit:
            above = f"is {dollars(self.loss_limit)}, not below the {dollars(day.loss_limit)} of daily_realized_loss"
            first, more = "which is reached first unless the day is in profit", "so one loss may be the day's and more"
            yield Contradiction("loss_limit", f"{above}, {first if day.combined else more}")
        yield from pocket_change("loss_limit", self.loss_limit, terms)
        if self.lockout_until != "daily_reset" and not self.lockout:
            yield Contradiction("lockout_until", 'has no effect without a lock; write scope = "total", lockout = true')
