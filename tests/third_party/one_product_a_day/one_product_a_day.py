"""One product a day: who has begun the day in one product does not hop to the next."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar

from attrs import field, frozen

from flatguard.model.account import AccountState
from flatguard.model.decisions import CloseContract
from flatguard.model.events import Event
from flatguard.rules import Fact, Finding, Measure, Rule


def traded(value: list[str], event: Event, state: AccountState) -> list[str]:
    """Fold the products that were held today, in the order in which they came; before them the day itself."""
    day = "" if state.today is None else state.today.label.isoformat()
    known = value if value[0] == day else [day]
    new = {state.ticker(contract_id) for contract_id in state.positions}.difference(known)
    return [*known, *sorted(new)] if new else known


def _one_or_more(_rule: object, _field: object, products: int) -> None:
    if products < 1:
        raise ValueError(f"must be 1 or more, not {products}")


@frozen
class OneProductADay(Rule):
    """Settings of ``[rules.one_product_a_day]``. ``products``: how many may be traded a day; more are closed."""

    facts: ClassVar[Mapping[str, Fact]] = {"traded": Fact([""], traded)}

    products: int = field(default=1, validator=_one_or_more)

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach while a product is held that is not among the first of the day."""
        allowed = self._traded(state)[: self.products]
        others = [contract_id for contract_id in sorted(state.positions) if state.ticker(contract_id) not in allowed]
        if not others:
            return None
        held = ", ".join(dict.fromkeys(state.ticker(contract_id) for contract_id in others))
        return Finding(
            reason=f"{held} held, today is for {', '.join(allowed)}",
            decisions=tuple(CloseContract(contract_id) for contract_id in others),
            figures=(("held", held), ("allowed", ", ".join(allowed))),
        )

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """How many of the day's products are used up."""
        used = min(len(self._traded(state)), self.products)
        return Measure(Decimal(used), Decimal(self.products), "products")

    def _traded(self, state: AccountState) -> list[Any]:
        return state.facts["one_product_a_day.traded"][1:]
