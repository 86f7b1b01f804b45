"""Symbol blocks: products on the list are never traded.

A position or a working order in one of them is a breach, whatever its expiry. The product is closed and locked for as
long as it is on the list, or with another ``enforcement`` closed only, or only its orders are cancelled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Literal

from attrs import field, frozen

from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import LockOut
from flatguard.model.events import Event
from flatguard.model.lockouts import Lockout
from flatguard.model.products import product
from flatguard.model.trading import root_of
from flatguard.rules._open import adding_orders, all_of, by_ticker, open_contracts
from flatguard.rules._rule import Contradiction, Finding, Rule, moment_of
from flatguard.rules.max_contracts_per_instrument import MaxContractsPerInstrument

NAME = "symbol_blocks"
LISTED = "the symbol is taken off the list"

_SYMBOL = re.compile(r"[A-Z0-9._*-]+")


def _tickers(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(product(name.strip()) for name in names)


@frozen
class SymbolBlocks(Rule):
    """Settings of ``[rules.symbol_blocks]``.

    ``blocked_symbols``: tickers or roots; ``*`` stands for any characters of a ticker. A contract whose id names no
    product is meant by its whole id.
    """

    blocked_symbols: tuple[str, ...] = field(converter=_tickers)
    enforcement: Literal["close_and_lockout_symbol", "close", "cancel_orders_only"] = "close_and_lockout_symbol"
    allow_block_all: bool = False

    @blocked_symbols.validator
    def _each_once_and_not_all(self, _attribute: object, tickers: tuple[str, ...]) -> None:
        for index, ticker in enumerate(tickers):
            if not _SYMBOL.fullmatch(ticker):
                raise ValueError(f'must hold tickers or roots, such as "RTY" or "M*", not {ticker!r}')
            if root_of(ticker) != ticker:
                raise ValueError(f"{ticker} is one expiry; write its product {product(root_of(ticker))}")
            if ticker in tickers[:index]:
                raise ValueError(f"names {ticker} twice, perhaps once by its ticker and once by its root")
            if set(ticker) == {"*"} and not self.allow_block_all:
                raise ValueError(f'"{ticker}" blocks every product; if that is meant, write allow_block_all = true')

    def products(self) -> frozenset[str]:
        """Those that are blocked by name; a pattern and the whole id of a contract name none."""
        return frozenset(name for name in self.blocked_symbols if name.isalnum())

    def contradictions(self, others: Mapping[str, Rule], terms: Terms) -> Iterator[Contradiction]:
        """A blocked product of which another rule allows some."""
        each = others.get("max_contracts_per_instrument")
        limits = each.limits if isinstance(each, MaxContractsPerInstrument) else {}
        for ticker, limit in limits.items():
            if limit and self.blocks(ticker):
                yield Contradiction(
                    "blocked_symbols",
                    f"blocks {ticker}, of which max_contracts_per_instrument allows {limit}; keep one",
                )

    def blocks(self, ticker: str) -> bool:
        """Whether a product is on the list."""
        return any(fnmatchcase(ticker, pattern) for pattern in self.blocked_symbols)

    def judge(self, state: AccountState, event: Event) -> Finding | None:
        """Breach while anything is open in a blocked product that is not locked for it."""
        locked = {lock.scope for lock in state.lockouts if lock.rule == NAME}
        blocked = [
            contract_id
            for contract_id in open_contracts(state)
            if self.blocks(ticker := state.ticker(contract_id)) and ticker not in locked
        ]
        only_orders = self.enforcement == "cancel_orders_only"
        found = adding_orders(state, blocked) if only_orders else all_of(state, blocked)
        if not found:
            return None
        locks: tuple[LockOut, ...] = ()
        figures = by_ticker(state, found)
        if self.enforcement == "close_and_lockout_symbol":
            locks = tuple(LockOut(None, ticker, LISTED) for ticker, _ in figures)
        return Finding(
            reason=f"Blocked symbols: {', '.join(what for _, what in figures)}",
            decisions=(*locks, *found),
            figures=figures,
            cause=f"{', '.join(lock.scope for lock in locks)} at {moment_of(event)}" if locks else "",
        )

    def keeps(self, lock: Lockout, state: AccountState) -> bool:
        """The lock goes on while its product is on the list."""
        return self.enforcement == "close_and_lockout_symbol" and self.blocks(lock.scope)
