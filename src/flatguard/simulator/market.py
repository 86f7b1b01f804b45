"""One contract's market: a last price with bid and ask around it, moved by chance, by a tape or by hand.

Each contract walks on a stream of chance of its own, so that watching one never moves another. A tape (tape.py)
takes the place of the walk. A price set by hand goes before both, until it is let go; a tape runs on meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import chain

from attrs import define, evolve, field

from flatguard.simulator.contracts import Contract, Listing
from flatguard.simulator.exact_json import plain
from flatguard.simulator.options import Options
from flatguard.simulator.outbox import milliseconds
from flatguard.simulator.past import Past, Traded
from flatguard.simulator.rows import Row, hub_time, rest_time
from flatguard.simulator.sessions import trading_day, trading_day_start
from flatguard.simulator.tape import Tape, Tick

_MOVES = (-3, -2, -1, -1, -1, 0, 0, 0, 0, 1, 1, 1, 2, 3)


@define
class Market:
    """A contract's present prices and what has traded since the start."""

    contract: Contract
    rng: random.Random
    walks: bool
    last: Decimal
    past: Past
    pace: timedelta
    """From one trade to the next where no tape says when."""
    held: bool = False
    rolls_at: datetime | None = None
    told: Row = field(factory=dict)
    """The figures as the hub told them last."""
    open: Decimal = field(init=False)
    high: Decimal = field(init=False)
    low: Decimal = field(init=False)
    volume: int = 0
    seconds: list[Traded] = field(factory=list)
    _exact: Row = field(factory=dict)
    _figures: Row = field(factory=dict)
    _tape: Tape | None = None
    _newest: Tick | None = None
    _bid: Decimal | None = None
    _ask: Decimal | None = None

    def __attrs_post_init__(self) -> None:
        self.open = self.high = self.low = self.last

    @property
    def bid(self) -> Decimal:
        """What the tape says, and otherwise one tick below the last price."""
        return self.last - self.contract.tick_size if self._bid is None else self._bid

    @property
    def ask(self) -> Decimal:
        """What the tape says, and otherwise one tick above the last price."""
        return self.last + self.contract.tick_size if self._ask is None else self._ask

    @property
    def told_bid(self) -> Decimal:
        """What a selling limit has to meet: the bid where the tape tells it, and otherwise the last price."""
        return self.last if self._bid is None else self._bid

    @property
    def told_ask(self) -> Decimal:
        """What a buying limit has to meet: the ask where the tape tells it, and otherwise the last price."""
        return self.last if self._ask is None else self._ask

    @property
    def driven(self) -> bool:
        """Whether a tape moves it, to its end and beyond: then it trades whether anybody watches or not."""
        return self._tape is not None

    def load(self, tape: Tape) -> None:
        """Put a tape in; until its first tick the market stands at that tick's price."""
        self._tape = tape
        if tape.coming is not None:
            self.last = self.open = self.high = self.low = self.past.price = tape.coming.price

    def next_step(self, at: datetime) -> datetime:
        """Return when it trades next, after ``at``."""
        if self._tape is None or self._tape.coming is None:
            return at + self.pace
        return max(at, self._tape.coming.at)

    def skip_to(self, moment: datetime) -> None:
        """Let the tape run up to ``moment`` without trading; a price that is held stays."""
        if self._tape is not None and (tick := self._tape.skip_to(moment)) is not None:
            self._take(tick)

    def step(self, at: datetime) -> int:
        """Trade once, where chance, the tape or a hand has it. Returns the volume of the trade."""
        if self._tape is not None:
            tick = self._tape.take(at)
            volume = self._taped_volume(tick)
            if tick is not None:
                self._take(tick)
        else:
            move = self.rng.choice(_MOVES)
            volume = self.rng.randint(1, 5)
            if self.walks and not self.held:
                moved = self.last + move * self.contract.tick_size
                self.last = max(moved, self.contract.tick_size * 4)
        self._trade(volume, at)
        return volume

    def _taped_volume(self, tick: Tick | None) -> int:
        return self.rng.randint(1, 5) if tick is None or tick.volume is None else tick.volume

    def _take(self, tick: Tick) -> None:
        self._newest = tick
        if not self.held:
            self.last, self._bid, self._ask = tick.price, tick.bid, tick.ask

    def set_to(self, price: Decimal) -> None:
        """Put the market at ``price`` without a trade."""
        self.last, self._bid, self._ask = price, None, None

    def move_to(self, price: Decimal, at: datetime) -> int:
        """Trade at ``price``, wherever the market was before. Returns the volume of the trade."""
        self.set_to(price)
        self._trade(1, at)
        return 1

    def let_go(self) -> None:
        """Go on with the tape, where that has got to meanwhile, or by chance from here."""
        self.held = False
        if self._newest is not None:
            self._take(self._newest)

    def _trade(self, volume: int, at: datetime) -> None:
        if self.rolls_at is None or at >= self.rolls_at:
            self.rolls_at = trading_day_start(trading_day(at) + timedelta(days=1))
            self.open = self.high = self.low = self.last
            self.volume = 0
        self.high = max(self.high, self.last)
        self.low = min(self.low, self.last)
        self.volume += volume
        second = at.replace(microsecond=0)
        if self.seconds and self.seconds[-1].at == second:
            newest = self.seconds[-1]
            newest.high = max(newest.high, self.last)
            newest.low = min(newest.low, self.last)
            newest.last = self.last
            newest.volume += volume
        else:
            self.seconds.append(Traded(second, self.last, self.last, self.last, self.last, volume))

    def figures(self) -> Row:
        """Return what a full quote tells, apart from its names and times."""
        change = self.last - self.open
        share = (change / self.open).quantize(Decimal("0.000001"), ROUND_HALF_EVEN) if self.open else Decimal(0)
        now: Row = {
            "lastPrice": self.last,
            "bestBid": self.bid,
            "bestAsk": self.ask,
            "change": change,
            "changePercent": share,
            "open": self.open,
            "high": self.high,
            "low": self.low,
            "volume": self.volume,
        }
        # most figures stay as they were, and need not be written anew
        return {
            name: self._figures[name] if self._exact.get(name) == figure else self._written(name, figure)
            for name, figure in now.items()
        }

    def _written(self, name: str, figure: Decimal | int) -> object:
        self._exact[name] = figure
        self._figures[name] = plain(figure) if isinstance(figure, Decimal) else figure
        return self._figures[name]

    def quotes(self, at: datetime) -> tuple[Row | None, Row]:
        """Return a quote of what differs from the one before, if anything does, taking it as told, and a full one.

        The symbol is the product's, not the contract's.
        """
        figures = self.figures()
        news = {name: figure for name, figure in figures.items() if self.told.get(name) != figure}
        self.told = figures
        names = {"symbol": self.contract.symbol_id}
        times = {
            "lastUpdated": hub_time(at),
            "timestamp": hub_time(at.replace(microsecond=at.microsecond // 1000 * 1000)),
            "contract": self.contract.id,
        }
        return {**names, **news, **times} if news else None, {**names, **figures, **times}

    def bars(
        self,
        unit: int,
        width: int,
        start: datetime,
        end: datetime,
        limit: int,
        now: datetime,
        *,
        partial: bool,
    ) -> list[Row]:
        """Return bars newest first, by opening time; ``partial`` adds the one that is still forming."""
        found: dict[datetime, Traded] = {}
        forming = bar_opening(now, unit, width)
        for traded in chain(reversed(self.seconds), self.past.back(days=unit not in _SECONDS)):
            opening = bar_opening(traded.at, unit, width)
            if opening < start or (opening not in found and len(found) == limit):
                break
            if opening > end or (opening == forming and not partial):
                continue
            bar = found.get(opening)
            if bar is None:
                found[opening] = evolve(traded, at=opening)
            else:
                bar.first = traded.first
                bar.high = max(bar.high, traded.high)
                bar.low = min(bar.low, traded.low)
                bar.volume += traded.volume
        return [
            {
                "t": rest_time(bar.at),
                "o": plain(bar.first),
                "h": plain(bar.high),
                "l": plain(bar.low),
                "c": plain(bar.last),
                "v": bar.volume,
            }
            for bar in found.values()
        ]


class Markets(dict[str, Market]):
    """The markets by contract id; one comes into being when it is first asked for.

    ``prices`` are by contract id or by ticker, which means every month. Raises ``KeyError`` for what is not listed.
    """

    def __init__(
        self,
        listing: Listing,
        options: Options,
        chance: Callable[[str], random.Random],
        prices: Mapping[str, Decimal],
        start: datetime,
    ) -> None:
        self._listing = listing
        self._options = options
        self._chance = chance
        self._prices = prices
        self._start = start

    def __missing__(self, contract_id: str) -> Market:
        contract = self._listing.get(contract_id)
        if contract is None:
            raise KeyError(contract_id)
        first = self._prices.get(contract.id, self._prices.get(contract.ticker, contract.first_price))
        walks, pace = self._options.price_walk, milliseconds(self._options.market_step_ms)
        until = min(self._start, contract.ends_at) if self._listing.rolls else self._start
        past = Past(contract, self._chance(f"past of {contract.id}"), until, first, walks, self._options.sessions)
        market = Market(contract, self._chance(contract.id), walks, first, past, pace)
        self[contract_id] = market
        return market


_SECONDS = {1: 1, 2: 60, 3: 3600}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def bar_opening(at: datetime, unit: int, width: int) -> datetime:
    """Return when the bar that holds ``at`` opened.

    Units: 1 second, 2 minute, 3 hour, 4 day, 5 week, 6 month.

    Days, weeks and months are made of trading days, which open at 17:00 in Chicago on the evening before.
    """
    if unit in _SECONDS:
        seconds = _SECONDS[unit] * width
        return _EPOCH + timedelta(seconds=int((at - _EPOCH).total_seconds()) // seconds * seconds)
    day = trading_day(at)
    if unit == 4:
        day -= timedelta(days=day.toordinal() % width)
    elif unit == 5:
        week = (day.toordinal() - 1) // 7
        day = day.fromordinal(week // width * width * 7 + 1)
    else:
        month = (day.year * 12 + day.month - 1) // width * width
        day = day.replace(year=month // 12, month=month % 12 + 1, day=1)
    return trading_day_start(day)
