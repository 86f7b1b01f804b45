"""Cooldown after loss: a pause after a losing trade, the longer the more it lost.

Judged when a fill is told, on the broker's own P&L of it. Reaching a tier's loss is a breach; it is one trade that
counts, small losses do not add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Literal

from attrs import field, frozen

from flatguard.ledger.pnl import commission_of
from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import Decision, Flatten, LockOut
from flatguard.model.events import Event
from flatguard.model.executions import index_from
from flatguard.model.lockouts import LockKind
from flatguard.model.money import ZERO, dollars
from flatguard.model.trading import Trade
from flatguard.rules._cooldowns import answered, lasting, over
from flatguard.rules._rule import Contradiction, Finding, Rule
from flatguard.rules._settings import loss_amount, some_time
from flatguard.rules.daily_realized_loss import DailyRealizedLoss

NAME = "cooldown_after_loss"


@frozen
class Tier:
    """From a loss of ``loss``, a positive amount in US dollars, on: a pause of ``cooldown``."""

    loss: Decimal = field(validator=loss_amount)
    cooldown: timedelta = field(validator=some_time)


TIERS = (
    Tier(Decimal(100), timedelta(minutes=5)),
    Tier(Decimal(200), timedelta(minutes=15)),
    Tier(Decimal(300), timedelta(minutes=30)),
)


@frozen
class CooldownAfterLoss(Rule):
    """Settings of ``[rules.cooldown_after_loss]``.

    ``tiers``: losses and their pauses, the larger loss after the smaller. ``group_by``: what is one trade. The loss is
    net of its own costs with ``include_fees``. ``allow_trading_during_cooldown``: only tell of it.
    ``close_positions``: close everything too, and let nothing be open until the end.
    """

    tiers: tuple[Tier, ...] = field(default=TIERS)
    group_by: Literal["order", "execution"] = "order"
    include_fees: bool = True
    allow_trading_during_cooldown: bool = False
    close_positions: bool = field(default=False)

    @tiers.validator
    def _rising(self, _attribute: object, tiers: tuple[Tier, ...]) -> None:
        if not tiers:
            raise ValueError('must hold at least one tier, such as [{ loss = "100", cooldown = "5m" }]')
        for one, next_one in pairwise(tiers):
            if next_one.loss <= one.loss or next_one.cooldown < one.cooldown:
                raise ValueError("each tier must have a larger loss than the one before, and no shorter cooldown")

    @close_positions.validator
    def _or_only_tell(self, _attribute: object, close_positions: bool) -> None:
        if close_positions and self.allow_trading_during_cooldown:
            raise ValueError("cannot be together with allow_trading_during_cooldown, which only tells of the loss")

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """A loss at which the day is over."""
        day = others.get("daily_realized_loss")
        if isinstance(day, DailyRealizedLoss) and day.enforcement == "close_all_and_lockout":
            for tier in self.tiers:
                if tier.loss >= day.loss_limit:
                    yield Contradiction(
                        "tiers",
                        f"has a loss of {dollars(tier.loss)}, not below the {dollars(day.loss_limit)} of"
                        " daily_realized_loss, which ends the day first unless it is in profit",
                    )

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when a fill that was just told, or that others were told around, brought a trade to a tier's loss."""
        latest: tuple[Trade, Decimal, Tier] | None = None
        for fill, loss, tier in self._reached(state):
            if latest is None or fill.made_at + tier.cooldown > latest[0].made_at + latest[2].cooldown:
                latest = fill, loss, tier
        if latest is None:
            return None
        fill, loss, tier = latest
        lock = LockOut(fill.made_at + tier.cooldown, kind=LockKind.HARD if self.close_positions else LockKind.COOLDOWN)
        if over(fill.made_at + tier.cooldown, state, event) or answered(NAME, lock, state):
            return None
        return Finding(
            reason=f"Loss of one {self.group_by}: {dollars(loss)}, limit {dollars(-tier.loss)},"
            f" {'worth a pause' if self.allow_trading_during_cooldown else 'pause'} of {lasting(tier.cooldown)}",
            decisions=self._decisions(lock),
            figures=(
                (f"{self.group_by}, {'net' if self.include_fees else 'gross'}", dollars(loss)),
                ("limit", dollars(-tier.loss)),
                ("pause", lasting(tier.cooldown)),
            ),
            cause=f"trade {fill.id}",
        )

    def _decisions(self, lock: LockOut) -> tuple[Decision, ...]:
        if self.allow_trading_during_cooldown:
            return ()
        return (lock, Flatten()) if self.close_positions else (lock,)

    def _reached(self, state: AccountState) -> Iterator[tuple[Trade, Decimal, Tier]]:
        """Return the fills, not older than the earliest that changed, that brought a trade to a tier."""
        since = state.changed_from
        if since is None:
            return
        made = state.executions
        changed = [made.fills[number] for number in range(index_from(made.fills, since), len(made.fills))]
        if self.group_by == "execution":
            for happening in changed:
                yield from self._of_one_trade(state, [state.trades[happening.trade_id]])
            return
        for order_id in dict.fromkeys(happening.order_id for happening in changed):
            fills = [state.trades[trade_id] for _, trade_id in made.by_order[order_id].fills]
            yield from (found for found in self._of_one_trade(state, fills) if found[0].made_at >= since)

    def _of_one_trade(self, state: AccountState, fills: Iterable[Trade]) -> Iterator[tuple[Trade, Decimal, Tier]]:
        """Return the fills at which the sum first reached a tier, with that sum. Opening fills are no part of it."""
        total, worst = ZERO, ZERO
        for fill in fills:
            if fill.profit_and_loss is None:
                continue
            total += fill.profit_and_loss
            if self.include_fees:
                total -= fill.fees + commission_of(fill, state)
            tier = next((tier for tier in reversed(self.tiers) if total <= -tier.loss), None)
            if tier is not None and tier.loss > worst:
                worst = tier.loss
                yield fill, total, tier
