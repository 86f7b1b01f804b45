"""Max contracts: the account never holds more than ``limit`` contracts.

Judged after every event; at the limit is allowed. Locks the account only if ``lockout_on_breach`` is set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal

from attrs import field, frozen

from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import Decision, Flatten, LockOut
from flatguard.model.events import Event
from flatguard.model.money import plain
from flatguard.model.trading import Position
from flatguard.rules._counting import Weight, count, give_up, grouping, offender
from flatguard.rules._rule import Contradiction, Finding, Measure, Rule
from flatguard.rules._settings import at_least, by_product, positive_weights

ONE = Decimal(1)


@frozen
class MaxContracts(Rule):
    """Settings of ``[rules.max_contracts]``.

    ``limit``: contracts. ``count_type``: ``net`` offsets expiries of one product, ``gross`` nothing, ``net_signed``
    everything against everything. ``weights``: what one contract of a ticker counts; 1 where not named.
    """

    limit: int = field(default=5, validator=at_least(1, "to forbid trading, block the symbols or set a session"))
    count_type: Literal["net", "gross", "net_signed"] = "net"
    enforcement: Literal["close_all", "reduce_to_limit", "close_offender"] = "close_all"
    weights: Mapping[str, Decimal] = field(factory=dict, converter=by_product, validator=positive_weights)
    lockout_on_breach: bool = False

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when the count is above the limit."""
        held = self._count(state)
        if held <= self.limit:
            return None
        return Finding(
            reason=f"{plain(held)} contracts held ({self.count_type}), limit {self.limit}",
            decisions=self._decisions(state),
            figures=(
                ("contracts", plain(held)),
                ("limit", str(self.limit)),
                ("counted", self.count_type),
                ("positions", ", ".join(f"{p.size:+d} {state.label(c)}" for c, p in sorted(state.positions.items()))),
            ),
        )

    def measure(self, state: AccountState, at: datetime) -> Measure:
        """Contracts held against the limit."""
        return Measure(self._count(state), Decimal(self.limit))

    def products(self) -> frozenset[str]:
        """Those that are weighed."""
        return frozenset(self.weights)

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """A product of which not one contract is allowed; an enforcement in place of which everything is closed."""
        for ticker, weight in self.weights.items():
            if weight > self.limit:
                yield Contradiction(
                    "weights",
                    f"lets one contract count {plain(weight)}, above the limit of {self.limit}, so none can be held",
                    entry=ticker,
                )
        if self.lockout_on_breach and self.enforcement != "close_all":
            yield Contradiction(
                "enforcement", "has no effect: lockout_on_breach closes everything; keep one of the two"
            )

    def _count(self, state: AccountState) -> Decimal:
        return state.worked_out(self._counted, state.positions, state.contracts)

    def _counted(self, state: AccountState) -> Decimal:
        return count(state.positions.values(), grouping(self.count_type, state), self._weight(state))

    def _weight(self, state: AccountState) -> Weight:
        def weight(position: Position) -> Decimal:
            return self.weights.get(state.ticker(position.contract_id), ONE)

        return weight

    def _decisions(self, state: AccountState) -> tuple[Decision, ...]:
        if self.lockout_on_breach and state.today is not None:
            return LockOut(state.today.unlocks_at), Flatten()
        if self.enforcement == "close_all":
            return (Flatten(),)
        rows, group, weight = state.positions.values(), grouping(self.count_type, state), self._weight(state)
        if self.enforcement == "close_offender":
            return offender(state, rows, group, weight)
        return give_up(state, rows, Decimal(self.limit), group, weight)
