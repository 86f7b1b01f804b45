"""Max loss limit: the account stays above the firm's trailing floor, at which the firm would end it.

The floor follows the best balance with which a day ended, and is judged after every event on the balance plus what is
open. Reaching it, or ``cushion`` above it, is a breach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from attrs import field, frozen

from flatguard.ledger.peaks import balance_now, settled
from flatguard.ledger.pnl import unrealized
from flatguard.model.account import AccountState, Terms
from flatguard.model.events import Event
from flatguard.model.money import ZERO, dollars
from flatguard.rules._contradictions import lock_that_never_comes
from flatguard.rules._day_end import Enforcement, LockoutUntil, day_end, day_ended
from flatguard.rules._prices import without_total
from flatguard.rules._rule import Contradiction, Finding, Measure, Rule
from flatguard.rules._settings import amount_from_zero, an_amount, loss_amount
from flatguard.rules.daily_realized_loss import DailyRealizedLoss

NAME = "max_loss_limit"


@frozen
class MaxLossLimit(Rule):
    """Settings of ``[rules.max_loss_limit]``.

    ``start_balance``: what the account began with, in US dollars like the others. ``distance``: how far below it the
    floor began. ``cushion``: act so much above the floor. ``best_close``: the best balance with which a day ended
    before flatguard watched. ``stops_at``: where the floor stops, else at the start. ``lockout_until``: the daily
    reset, or for good until an administrator acts.
    """

    start_balance: Decimal = field(validator=an_amount)
    distance: Decimal = field(validator=loss_amount)
    cushion: Decimal = field(default=ZERO)
    best_close: Decimal | None = field(default=None)
    stops_at: Decimal | None = field(default=None)
    enforcement: Enforcement = "close_all_and_lockout"
    lockout_until: LockoutUntil = "daily_reset"

    @cushion.validator
    def _within_the_distance(self, attribute: object, cushion: Decimal) -> None:
        amount_from_zero(self, attribute, cushion)
        if cushion >= self.distance:
            raise ValueError(f"must be less than distance, which is {self.distance}, not {cushion}")

    @best_close.validator
    def _a_balance(self, attribute: object, balance: Decimal | None) -> None:
        if balance is not None:
            an_amount(self, attribute, balance)

    @stops_at.validator
    def _not_below_where_it_begins(self, attribute: object, balance: Decimal | None) -> None:
        self._a_balance(attribute, balance)
        begins = self.start_balance - self.distance
        if balance is not None and balance < begins:
            raise ValueError(f"must be {begins} or more, where the floor begins, not {balance}")

    def floor(self, state: AccountState) -> Decimal:
        """Return the balance at which the firm ends the account."""
        seen = state.balances.best_close
        closes = [balance for balance in (self.best_close, seen.amount if seen.at else None) if balance is not None]
        risen = max(ZERO, max(closes, default=self.start_balance) - self.start_balance)
        stops_at = self.start_balance if self.stops_at is None else self.stops_at
        return min(stops_at, self.start_balance - self.distance + risen)

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """A day that may lose all that the account may, while the floor still trails; an end of a lock not set."""
        day, room = others.get("daily_realized_loss"), self.distance - self.cushion
        best = self.start_balance if self.best_close is None else self.best_close
        stops_at = self.start_balance if self.stops_at is None else self.stops_at
        trails = best - self.distance < stops_at
        if isinstance(day, DailyRealizedLoss) and trails and day.loss_limit >= room:
            yield Contradiction(
                "distance",
                f"leaves {dollars(room)} above the cushion, no more than the {dollars(day.loss_limit)} that"
                " daily_realized_loss lets one day lose; write a smaller loss_limit there",
            )
        yield from lock_that_never_comes(self.enforcement, self.lockout_until)

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when balance and open P&L together have reached the floor and its cushion."""
        if day_ended(NAME, state, self.enforcement, self.lockout_until):
            return None
        equity, floor = self._equity(state, event.at), self.floor(state)
        if equity is None or equity > floor + self.cushion:
            return None
        cushion = f" and a cushion of {dollars(self.cushion)}" if self.cushion else ""
        return Finding(
            reason=f"Maximum loss: {dollars(equity)} with what is open, floor {dollars(floor)}{cushion}",
            decisions=day_end(state, self.enforcement, self.lockout_until),
            figures=(
                ("balance", dollars(equity - unrealized(state, event.at).amount)),
                ("open", dollars(unrealized(state, event.at).amount)),
                ("floor", dollars(floor)),
                ("cushion", dollars(self.cushion)),
            ),
        )

    def _equity(self, state: AccountState, at: datetime) -> Decimal | None:
        balance, open_profit = balance_now(state), unrealized(state, at)
        if balance is None or open_profit.unpriced or not settled(state):
            return None
        return balance + open_profit.amount

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """Open P&L cannot be counted: no price to believe for 30 s, or positions and fills that do not agree."""
        missing = without_total(state, at)
        return None if missing is None else f"{missing}, so the maximum loss is not judged"

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """The dollars used of the distance above the floor, less the cushion."""
        equity, floor = self._equity(state, at), self.floor(state)
        if equity is None:
            return None
        used = equity - floor - self.distance
        return Measure(used, self.cushion - self.distance, "USD", f"floor {dollars(floor)}")
