"""Whether the broker knows the products that the settings name: a limit on a mistyped ticker guards nothing.

Asked in the routine lane, beside guarding, until the broker answers, and each day anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import partial

import trio
from attrs import define, field

from flatguard.errors import FlatguardError
from flatguard.gateway.rest import Gateway
from flatguard.model.ids import AccountId
from flatguard.model.trading import Contract

ASK_AGAIN_S = 15.0  # while the gateway does not answer, or lists nothing at all
LOOK_TWICE_S = 2.0  # lists have been seen short
LOOK_AROUND_S = 86_400.0


@define
class Products:
    """What was found of the products that the rules of each account name. ``named`` are those, by account and rule."""

    gateway: Gateway
    named: Mapping[AccountId, Mapping[str, frozenset[str]]]
    tell: Callable[[str], None]
    _findings: dict[AccountId, tuple[str, ...]] = field(factory=dict)

    def findings(self, account_id: AccountId) -> tuple[str, ...]:
        """Return what is wrong with the products that an account's rules name, as words for its trader."""
        return self._findings.get(account_id, ())

    async def keep(self) -> None:
        """Look now and once a day, for ever. What is found is told once for as long as it stands."""
        wanted = frozenset(ticker for rules in self.named.values() for named in rules.values() for ticker in named)
        while wanted:
            unknown = await self._unknown(wanted)
            if unknown:
                await trio.sleep(LOOK_TWICE_S)
                unknown = await self._unknown(frozenset(unknown))
            for account_id, rules in self.named.items():
                before, found = self.findings(account_id), tuple(_sentences(rules, unknown))
                self._findings[account_id] = found
                for sentence in found:
                    if sentence not in before:
                        self.tell(f"account {account_id}: {sentence}")
            await trio.sleep(LOOK_AROUND_S)

    async def _unknown(self, wanted: frozenset[str]) -> dict[str, Sequence[str]]:
        """Return those that the broker does not know, each with what may have been meant."""
        offered = await self._answered(self.gateway.contracts)
        unknown: dict[str, Sequence[str]] = {}
        for ticker in sorted(wanted - offered.keys()):
            named = await self._answered(partial(self.gateway.contracts_named, ticker), or_none=True)
            if ticker not in named:  # what is offered need not be all there is
                of_root = [other for other, contract in (offered | named).items() if contract.root == ticker]
                unknown[ticker] = of_root or get_close_matches(ticker, offered)
        return unknown

    async def _answered(
        self, question: Callable[[], Awaitable[tuple[Contract, ...]]], *, or_none: bool = False
    ) -> dict[str, Contract]:
        """Return the contracts of an answer by ticker; ask until there is one. Nobody offers nothing at all."""
        while True:
            with suppress(FlatguardError):
                told = {contract.ticker: contract for contract in await question()}
                if told or or_none:
                    return told
            await trio.sleep(ASK_AGAIN_S)


def _sentences(rules: Mapping[str, frozenset[str]], unknown: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name, named in rules.items():
        for ticker in sorted(named & unknown.keys()):
            meant = " or ".join(unknown[ticker])
            hint = f"did you mean {meant}?" if meant else "correct it, or take it out"
            yield f"{name} names {ticker}, which the broker does not know; {hint}"
