"""Max contracts per instrument: each product has a limit of its own.

All expiries of a product count together; at the limit is allowed. A product that is not listed is closed, unless
``unknown_symbol_action`` allows it. Locks the account only if ``lockout_on_breach`` is set.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Literal

from attrs import field, frozen

from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import CloseContract, Decision, Flatten, LockOut
from flatguard.model.events import Event
from flatguard.model.money import plain
from flatguard.model.trading import Position
from flatguard.rules._counting import count, give_up, grouping
from flatguard.rules._rule import Contradiction, Finding, Measure, Rule
from flatguard.rules._settings import at_least, by_product, sizes_from_zero
from flatguard.rules.max_contracts import MaxContracts

ALLOW_WITH_LIMIT = re.compile(r"allow_with_limit:([1-9]\d*)")


def _known_action(_rule: object, _field: object, action: str) -> None:
    if action not in {"block", "allow_unlimited"} and not ALLOW_WITH_LIMIT.fullmatch(action):
        raise ValueError(f'must be "block", "allow_unlimited" or "allow_with_limit:N" with N from 1, not {action!r}')


@frozen
class MaxContractsPerInstrument(Rule):
    """Settings of ``[rules.max_contracts_per_instrument]``.

    ``limits``: contracts by ticker or root. ``enforcement``: ``reduce_to_limit`` gives up the newest contracts,
    ``close_all`` the whole product. ``default_limit`` is the same as ``unknown_symbol_action = "allow_with_limit:N"``.
    """

    limits: Mapping[str, int] = field(converter=by_product, validator=sizes_from_zero)
    count_type: Literal["net", "gross"] = "net"
    enforcement: Literal["reduce_to_limit", "close_all"] = "reduce_to_limit"
    unknown_symbol_action: str = field(default="block", validator=_known_action)
    default_limit: int | None = field(default=None)
    lockout_on_breach: bool = False

    @default_limit.validator
    def _one_way_to_say_it(self, attribute: object, limit: int | None) -> None:
        if limit is None:
            return
        at_least(1)(self, attribute, limit)
        if self.unknown_symbol_action != "block":
            raise ValueError("says the same as unknown_symbol_action; keep one of the two")

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach when any product is above its limit."""
        broken = state.worked_out(self._broken, state.positions, state.contracts)
        if not broken:
            return None
        decisions = [
            d for ticker, (_, limit, rows) in broken.items() for d in self._decisions(state, ticker, limit, rows)
        ]
        if self.lockout_on_breach and state.today is not None:
            decisions = [LockOut(state.today.unlocks_at), Flatten()]
        return Finding(
            reason="; ".join(self._sentence(ticker, held, limit) for ticker, (held, limit, _) in broken.items()),
            decisions=tuple(decisions),
            figures=tuple((ticker, f"{plain(held)} of {limit}") for ticker, (held, limit, _) in broken.items()),
        )

    def _broken(self, state: AccountState) -> dict[str, tuple[Decimal, int, list[Position]]]:
        return {
            ticker: (held, limit, rows)
            for ticker, rows in _by_ticker(state).items()
            if (limit := self._limit(ticker)) is not None and (held := self._count(state, rows)) > limit
        }

    def measure(self, state: AccountState, at: datetime) -> Measure | None:
        """The product that is nearest to its limit; None while nothing limited is held."""
        return state.worked_out(self._nearest, state.positions, state.contracts)

    def _nearest(self, state: AccountState) -> Measure | None:
        held = [
            (limit - (count_held := self._count(state, rows)), ticker, count_held, limit)
            for ticker, rows in _by_ticker(state).items()
            if (limit := self._limit(ticker)) is not None
        ]
        if not held:
            return None
        _, ticker, count_held, limit = min(held)
        return Measure(count_held, Decimal(limit), of=ticker)

    def products(self) -> frozenset[str]:
        """Those that have a limit."""
        return frozenset(self.limits)

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """A limit that the account's own is reached before; limits that allow nothing."""
        whole, other = others.get("max_contracts"), self._limit("")
        if isinstance(whole, MaxContracts):
            for ticker, limit in self.limits.items():
                if (counted := limit * whole.weights.get(ticker, Decimal(1))) > whole.limit:
                    yield Contradiction(
                        "limits",
                        f"allows {limit}, which count {plain(counted)}, but max_contracts allows {whole.limit}",
                        entry=ticker,
                    )
            if other is not None and other > whole.limit:
                key = "unknown_symbol_action" if self.default_limit is None else "default_limit"
                yield Contradiction(key, f"allows {other} of each, but max_contracts allows {whole.limit} in all")
        if other == 0 and not any(self.limits.values()):
            yield Contradiction("limits", "allows no contract of any product; write one such as MNQ = 1")

    def _sentence(self, ticker: str, held: Decimal, limit: int) -> str:
        known = "" if ticker in self.limits else f", {ticker} is not among the limits"
        return f"{plain(held)} {ticker} held, limit {limit}{known}"

    def _count(self, state: AccountState, rows: list[Position]) -> Decimal:
        if len(rows) == 1:
            return Decimal(abs(rows[0].size))
        return count(rows, grouping(self.count_type, state), _one_each)

    def _limit(self, ticker: str) -> int | None:
        if ticker in self.limits:
            return self.limits[ticker]
        if self.default_limit is not None:
            return self.default_limit
        if self.unknown_symbol_action == "allow_unlimited":
            return None
        allowed = ALLOW_WITH_LIMIT.fullmatch(self.unknown_symbol_action)
        return int(allowed.group(1)) if allowed else 0

    def _decisions(self, state: AccountState, ticker: str, limit: int, rows: list[Position]) -> tuple[Decision, ...]:
        held = {row.contract_id for row in rows}
        if limit == 0:
            held |= {o.contract_id for o in state.working_orders if state.ticker(o.contract_id) == ticker}
        if self.enforcement == "close_all" or limit == 0:
            return tuple(CloseContract(contract_id) for contract_id in sorted(held))
        return give_up(state, rows, Decimal(limit), grouping(self.count_type, state), _one_each)


def _one_each(_position: Position) -> Decimal:
    return Decimal(1)


def _by_ticker(state: AccountState) -> dict[str, list[Position]]:
    rows: dict[str, list[Position]] = defaultdict(list)
    for contract_id, position in sorted(state.positions.items()):
        rows[state.ticker(contract_id)].append(position)
    return rows
