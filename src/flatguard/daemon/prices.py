"""Prices from bars: for what is held while no quotes come, and to find out whether a silent market hub is frozen.

A quiet market sends no quotes, and so does a hub that is connected and dead. The gateway's bars tell the two apart: one
that began well after the last quote shows a trade that no quote told. They are also all the price there is while the
market hub is down. Bars have an allowance of their own. They are dated by the gateway's clock, and ours is often some
seconds off; so each answer's own time tells how far.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from math import inf
from typing import NoReturn

import trio
from attrs import define

from flatguard.clock import WallClock
from flatguard.daemon.picture import ACCUSE_AGAIN_S, Send
from flatguard.enforcement.board import Board
from flatguard.errors import FlatguardError
from flatguard.gateway.rest import Gateway
from flatguard.ledger.apply import CLOCKS_AGREE
from flatguard.model.events import BarRead, Hub
from flatguard.model.ids import ContractId
from flatguard.model.trading import Bar, BarUnit

LOOK_EVERY_S = 3.0
QUIET = timedelta(seconds=5)  # no quote for so long: perhaps nobody trades
QUOTE_LAG = timedelta(seconds=2)  # a trade is told by then
LOOK_BACK = timedelta(minutes=3)
WHOLE_SECONDS = timedelta(seconds=1)  # what the broker's answers tell the time in
BARS = 3


@define
class Prices:
    """Reads bars of what the accounts of one login hold. ``on_frozen`` is called with what shows that the hub is."""

    gateway: Gateway
    board: Board
    clock: WallClock
    on_frozen: Callable[[str], None]
    _accused_at: float = -inf

    async def keep(self, send: Send) -> NoReturn:
        """Look at what has had no quote for a while, for ever."""
        while True:
            for contract_id, quoted_at in self.silent().items():
                await self._look(contract_id, quoted_at, send)
            await trio.sleep(LOOK_EVERY_S)

    def silent(self) -> Mapping[ContractId, datetime | None]:
        """Return what is held without a quote for a while, and when the last one came, None where none ever did."""
        now = self.clock.now()
        found: dict[ContractId, datetime | None] = {}
        for state in self.board.states.values():
            for contract_id in state.positions:
                quote = state.quotes.get(contract_id)
                quoted_at = None if quote is None else quote.at
                if quoted_at is None or abs(now - quoted_at) >= QUIET:  # from the future: our clock was set back
                    found[contract_id] = quoted_at
        return dict(sorted(found.items()))

    async def _look(self, contract_id: ContractId, quoted_at: datetime | None, send: Send) -> None:
        asked_at = self.clock.now()
        ahead = max(state.clock_ahead for state in self.board.states.values())
        until = asked_at - ahead + CLOCKS_AGREE
        try:
            bars, broker_at = await self._bars(contract_id, until)
        except FlatguardError:
            return  # the picture's own readings tell that the gateway does not answer
        if not bars:
            return
        began_at = max(bar.at for bar in bars)
        close = next(bar.close for bar in bars if bar.at == began_at)
        told_ahead = None if broker_at is None else asked_at - broker_at  # too much by what it lacks of a second
        await send((BarRead(self.clock.now(), contract_id, began_at, close, told_ahead),))
        up = any(state.links[Hub.MARKET].up for state in self.board.states.values())
        least_ahead = ahead if told_ahead is None else told_ahead - WHOLE_SECONDS
        untold = quoted_at is not None and began_at > quoted_at - least_ahead + QUOTE_LAG
        if up and untold and trio.current_time() >= self._accused_at + ACCUSE_AGAIN_S:
            self._accused_at = trio.current_time()
            self.on_frozen(f"a bar shows trades in {contract_id} that no quote told")

    async def _bars(self, contract_id: ContractId, until: datetime) -> tuple[tuple[Bar, ...], datetime | None]:
        """Return the newest bars, and the time that the answer bore, if it bore one."""
        self.gateway.broker_at = None
        bars = await self.gateway.bars(contract_id, until - LOOK_BACK, until, BarUnit.SECOND, limit=BARS, partial=True)
        return bars, self.gateway.broker_at
