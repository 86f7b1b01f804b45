"""Daily drawdown: the day ends when it has given back ``drawdown_limit`` of the best that it stood at.

Judged after every event, on the broker's own trades of the trading day plus what is open, or with
``include_open = false`` on the trades alone. Reaching the limit is a breach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal

from attrs import field, frozen

from flatguard.ledger.peaks import day_total
from flatguard.ledger.pnl import first_fill
from flatguard.model.account import AccountState, Realized, Terms
from flatguard.model.events import Event
from flatguard.model.money import ZERO, dollars
from flatguard.model.trading import Trade
from flatguard.rules._contradictions import lock_that_never_comes, pocket_change
from flatguard.rules._day_end import Enforcement, LockoutUntil, day_end, day_ended
from flatguard.rules._prices import without_total
from flatguard.rules._rule import Contradiction, Finding, Measure, Rule
from flatguard.rules._settings import amount_from_zero, loss_amount, profit_amount

NAME = "daily_drawdown"


@frozen
class DailyDrawdown(Rule):
    """Settings of ``[rules.daily_drawdown]``.

    ``drawdown_limit``: US dollars below the day's best, which is zero at least. ``starts_at_profit``: the day must have
    shown so much before it is judged. ``profit_target`` and ``keep``: once the day has shown the one, it ends when it
    falls to the other. ``include_open``: open P&L counts; ``include_fees``: net of fees and commissions.
    ``lockout_until``: the daily reset, or for good until an administrator acts.
    """

    drawdown_limit: Decimal = field(validator=loss_amount)
    starts_at_profit: Decimal = field(default=ZERO, validator=amount_from_zero)
    profit_target: Decimal | None = field(default=None)
    keep: Decimal | None = field(default=None)
    include_open: bool = True
    include_fees: bool = True
    enforcement: Enforcement = "close_all_and_lockout"
    lockout_until: LockoutUntil = "daily_reset"

    @profit_target.validator
    def _above_zero(self, attribute: object, target: Decimal | None) -> None:
        if target is not None:
            profit_amount(self, attribute, target)

    @keep.validator
    def _below_the_target(self, attribute: object, keep: Decimal | None) -> None:
        if (keep is None) != (self.profit_target is None):
            raise ValueError("what to keep of a profit needs both profit_target and keep")
        if keep is None or self.profit_target is None:
            return
        amount_from_zero(self, attribute, keep)
        if keep >= self.profit_target:
            raise ValueError(f"must be less than profit_target, which is {self.profit_target}, not {keep}")

    def floor(self, peak: Decimal) -> Decimal | None:
        """Return what the day must stay above once it has stood at ``peak``; None while it is not judged."""
        floors = [peak - self.drawdown_limit] if peak >= self.starts_at_profit else []
        if self.profit_target is not None and self.keep is not None and peak >= self.profit_target:
            floors.append(self.keep)
        return max(floors, default=None)

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """An amount that costs alone make up; an end of a lock that is not set."""
        yield from pocket_change("drawdown_limit", self.drawdown_limit, terms)
        yield from lock_that_never_comes(self.enforcement, self.lockout_until)

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when the day stands at its floor or below it; without open P&L, when any of its fills did."""
        if day_ended(NAME, state, self.enforcement, self.lockout_until):
            return None
        peak, value = self._peak(state), self._value(state, event.at)
        floor = self.floor(peak)
        fill = state.worked_out(self._first_fill, state.realized) if not self.include_open else None
        if fill is None and (value is None or floor is None or value > floor):
            return None
        amount = "not known now" if value is None else dollars(value)
        ends = "none now" if floor is None else dollars(floor)
        best = state.day_peak.net if self.include_fees else state.day_peak.gross
        stood = f" at {best.at.astimezone(state.terms.zone):%H:%M}" if self.include_open and best.at else ""
        fell = f"with fill {fill.id} the day fell to its floor, now it" if fill is not None else "the day"
        return Finding(
            reason=f"Daily drawdown: {fell} stands at {amount} after {dollars(peak)}{stood}, floor {ends}",
            decisions=day_end(state, self.enforcement, self.lockout_until),
            figures=(("day, as judged", amount), ("best of the day", dollars(peak)), ("floor", ends)),
            cause=f"trade {fill.id}" if fill is not None else "",
            on_record=fill is not None,
        )

    def _first_fill(self, state: AccountState) -> Trade | None:
        day = state.realized
        kept = (
            self.drawdown_limit if self.profit_target is None or self.keep is None else self.profit_target - self.keep
        )
        fall = day.fall_net if self.include_fees else day.fall_gross
        return first_fill(state, self._fallen) if fall >= min(self.drawdown_limit, kept) else None

    def _fallen(self, day: Realized) -> bool:
        value, high = (day.net, day.high_net) if self.include_fees else (day.gross, day.high_gross)
        floor = self.floor(high)
        return floor is not None and value <= floor

    def _peak(self, state: AccountState) -> Decimal:
        if self.include_open:
            return state.day_peak.net.amount if self.include_fees else state.day_peak.gross.amount
        return state.realized.high_net if self.include_fees else state.realized.high_gross

    def _value(self, state: AccountState, at: datetime) -> Decimal | None:
        if self.include_open:
            return day_total(state, at, net=self.include_fees)
        return state.realized.net if self.include_fees else state.realized.gross

    def blind(self, state: AccountState, at: datetime) -> str | None:
        """Open P&L cannot be counted: no price to believe for 30 s, or positions and fills that do not agree."""
        missing = without_total(state, at) if self.include_open else None
        return None if missing is None else f"{missing}, so the drawdown is not judged"

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """What the day has given back of its best, against what it may; None while it is not judged."""
        peak, value = self._peak(state), self._value(state, at)
        floor = self.floor(peak)
        return None if value is None or floor is None else Measure(value - peak, floor - peak, "USD")
