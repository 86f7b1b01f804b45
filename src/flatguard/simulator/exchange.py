"""The exchange behind the double: prices, orders, matching, fills, and what is told of them. Pure and reproducible.

Nothing here waits or reads a clock: callers say what time it is, ``run`` makes happen what was due until
then, and everything random is drawn from the seed. What the hubs have to tell lies in ``outbox``.

A change takes place at one moment; that it is told piece by piece over the following milliseconds, and that
REST readers see it later still, is the outbox's and the timelines' affair.

It is long because a fill touches everything at once: the order, its legs and siblings, the position, the money, and
what is told of them. What can be decided without that lies beside it: matching, booking, brackets, markets, sequences.
"""

from __future__ import annotations

import base64
import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

from attrs import evolve

from flatguard.simulator import sequences
from flatguard.simulator.booking import Booked, Bookkeeper, averaged
from flatguard.simulator.brackets import children, woken
from flatguard.simulator.contracts import Contract, Listing
from flatguard.simulator.faults import Faults
from flatguard.simulator.market import Market, Markets
from flatguard.simulator.matching import fill_price, market_price, stops, touched, trailed
from flatguard.simulator.options import Options
from flatguard.simulator.outbox import Outbox, milliseconds
from flatguard.simulator.rows import (
    account_row,
    depth_row,
    market_trade_row,
    order_row,
    position_row,
    trade_row,
)
from flatguard.simulator.sequences import Part, sequence_of
from flatguard.simulator.sessions import is_open, next_opening, takes_orders
from flatguard.simulator.setup import DEFAULT_USERS, AccountSetup, UserSetup
from flatguard.simulator.state import Account, Book, Order, Position, Side, Status, Trade, Type
from flatguard.simulator.tape import Tape

_RUN_AWAY_TICKS = 40


class Exchange:
    """Accounts, prices, orders and fills. What the firm does by itself, and the calls, are its heirs'."""

    def __init__(
        self,
        *,
        seed: int,
        start: datetime,
        options: Options | None = None,
        users: Sequence[UserSetup] | None = None,
        prices: Mapping[str, Decimal] | None = None,
    ) -> None:
        self.seed = seed
        self.start = start
        self.options = options or Options()
        self.users = {
            user.user_name.lower(): user if user.api_key else evolve(user, api_key=self._new_key(user))
            for user in (DEFAULT_USERS if users is None else users)
        }
        self._rng = self.chance("timing")
        self.faults = Faults(self.chance("faults"))
        self.outbox = Outbox(self.options, self.faults, self.chance("outbox"))
        self.listing = Listing(self.options.month_roll)
        self.markets = Markets(self.listing, self.options, self.chance, prices or {}, start)
        self.books: dict[int, Book] = {}
        for user in self.users.values():
            for setup in user.accounts:
                self._open_account(user.user_name.lower(), setup)
        self.left_behind: set[int] = set()
        """Bracket legs that a fault, or an option, let live on after the fill of their siblings."""
        self._agenda: list[tuple[datetime, int, Callable[[datetime], object]]] = []
        self._agenda_count = 0
        self._steps: dict[str, datetime] = {}
        self._watched: Counter[str] = Counter()
        self._wanted: Counter[tuple[str, str]] = Counter()
        self._working: dict[str, dict[int, int]] = {}
        self._trail_levels: dict[int, Decimal] = {}
        self._spoken_for: set[int] = set()
        self._overrun: set[int] = set()
        self._next_order_id = 3_408_995_735
        self._bookkeeper = Bookkeeper(self._rng)

    def chance(self, purpose: str) -> random.Random:
        """Return a stream of chance of its own for ``purpose``, the same for the same seed."""
        return random.Random(f"{self.seed}:{purpose}")

    def _new_key(self, user: UserSetup) -> str:
        return base64.b64encode(self.chance(f"key of {user.user_name}").randbytes(32)).decode()

    def _open_account(self, user: str, setup: AccountSetup) -> None:
        book = Book(user, setup)
        account = Account(setup.id, setup.name, setup.balance, setup.can_trade, setup.visible, setup.simulated)
        book.account.put(setup.id, account, datetime.min.replace(tzinfo=UTC))
        self.books[setup.id] = book

    # --- time ---

    @property
    def next_moment(self) -> datetime | None:
        """When something happens by itself next, or an event has to leave; None if nothing is under way."""
        moments = [moment for moment in (self._next_act(), self.outbox.next_moment) if moment is not None]
        return min(moments, default=None)

    @property
    def next_wake(self) -> datetime | None:
        """When the world has to be run again; None if nothing is under way.

        Trading may come late, as ``run`` has it take place at its own moment, but what is told of it may not.
        """
        moments = [
            self.outbox.earliest(at, for_users=self._may_change_accounts(contract_id))
            for contract_id, at in self._steps.items()
        ]
        if self._agenda:
            moments.append(self._agenda[0][0])
        if (leaves_at := self.outbox.next_moment) is not None:
            moments.append(leaves_at)
        return min(moments, default=None)

    def _may_change_accounts(self, contract_id: str) -> bool:
        """Tell whether a price of this contract could fill an order or liquidate an account."""
        return bool(self._working.get(contract_id)) or any(book.setup.liquidates for book in self.books.values())

    def _next_act(self) -> datetime | None:
        moments = list(self._steps.values())
        if self._agenda:
            moments.append(self._agenda[0][0])
        return min(moments, default=None)

    def run(self, now: datetime, most: float = math.inf) -> datetime:
        """Let everything happen that was due until ``now``, each thing at its own moment.

        Returns how far it got: to ``now``, or, having done ``most`` things, to the moment of the last of them.
        """
        done, reached = 0, now
        while (at := self._next_act()) is not None and at <= now:
            if done >= most and at > reached:
                return reached
            done, reached = done + 1, at
            if self._agenda and self._agenda[0][0] == at:
                heapq.heappop(self._agenda)[2](at)
            else:
                contract_id = min(self._steps, key=lambda name: (self._steps[name], name))
                self._step(contract_id, at)
        return now

    def jump(self, now: datetime, distance: timedelta) -> None:
        """Move on by ``distance`` without the trading that would have taken place on the way."""
        self.run(now)
        for contract_id, at in self._steps.items():
            market = self.markets[contract_id]
            market.skip_to(now + distance)
            following = market.next_step(now + distance)
            self._steps[contract_id] = following if market.driven else min(at + distance, following)

    def schedule(self, at: datetime, act: Callable[[datetime], object]) -> None:
        """Have ``act(at)`` called when the time comes."""
        self._agenda_count += 1
        heapq.heappush(self._agenda, (at, self._agenda_count, act))

    def _within(self, bounds_ms: tuple[float, float]) -> timedelta:
        return milliseconds(self._rng.uniform(*bounds_ms))

    def _visible(self, at: datetime) -> datetime:
        low, high = self.options.read_lag_ms
        return at + milliseconds(low + (high - low) * self._rng.random() ** 3)

    def soon(self, now: datetime) -> datetime:
        """Return when a call that has nothing to wait for is answered."""
        return now + self._within(self.options.answer_ms)

    # --- prices ---

    def watch(self, contract_id: str, now: datetime, event: str = "GatewayQuote") -> None:
        """Begin to watch a contract for events of this name: it trades while anybody does, and quotes at once.

        While it does not trade nothing is told, not even what its prices were.
        """
        self.run(now)
        self._watched[contract_id] += 1
        self._wanted[event, contract_id] += 1
        self._enliven(contract_id, now)
        market = self.markets[contract_id]
        if self._trades(market.contract, now):
            self._tell_quote(market, now)

    def unwatch(self, contract_id: str, event: str = "GatewayQuote") -> None:
        """Take one ``watch`` back."""
        self._watched[contract_id] -= 1
        self._wanted[event, contract_id] -= 1

    def move_price(self, contract_id: str, price: Decimal, now: datetime) -> bool:
        """Trade at ``price`` now, fill what that touches, and hold the price there.

        Returns False where nothing trades at the moment: the price is only set, for when the market opens.
        """
        self.run(now)
        market = self.markets[contract_id]
        market.held = True
        if not self._trades(market.contract, now):
            market.set_to(price)
            return False
        self._traded(market, market.move_to(price, now), now)
        return True

    def resume_price(self, contract_id: str, now: datetime) -> None:
        """Let a held price go on with whatever drives it."""
        self.run(now)
        self.markets[contract_id].let_go()

    def drive(self, contract_id: str, tape: Tape) -> None:
        """Have a contract trade what is on ``tape`` from now on, whether anybody watches or not."""
        market = self.markets[contract_id]
        market.load(tape)
        self._steps[contract_id] = market.next_step(self.start)

    def _enliven(self, contract_id: str, at: datetime) -> None:
        self._steps.setdefault(contract_id, self.markets[contract_id].next_step(at))

    def _has_expired(self, contract: Contract, at: datetime) -> bool:
        return not self.listing.is_traded(contract, at)

    def _trades(self, contract: Contract, at: datetime) -> bool:
        """Tell whether a contract trades: it has not expired, and the exchange does not pause."""
        if self._has_expired(contract, at):
            return False
        return not self.options.sessions or is_open(at, contract.ticker)

    def _takes_orders(self, contract: Contract, at: datetime) -> bool:
        """Tell whether orders are accepted; on Fridays refusals begin before the pause."""
        if self._has_expired(contract, at):
            return False
        return not self.options.sessions or takes_orders(at, contract.ticker)

    def _is_live(self, contract_id: str) -> bool:
        return (
            self.markets[contract_id].driven
            or self._watched[contract_id] > 0
            or bool(self._working.get(contract_id))
            or any(self._held(book, contract_id) for book in self.books.values())
        )

    def _step(self, contract_id: str, at: datetime) -> None:
        market = self.markets[contract_id]
        contract = market.contract
        if self._has_expired(contract, at):
            for order_id, account_id in list(self._working.get(contract_id, {}).items()):
                self._end(self.books[account_id], order_id, Status.EXPIRED, at)
            del self._steps[contract_id]
        elif not self._is_live(contract_id):
            del self._steps[contract_id]
        elif self.options.sessions and not is_open(at, contract.ticker):
            opening = next_opening(at, contract.ticker)
            market.skip_to(opening)
            self._steps[contract_id] = market.next_step(opening)
        else:
            volume = market.step(at)
            self._steps[contract_id] = market.next_step(at)
            self._traded(market, volume, at)

    def _traded(self, market: Market, volume: int, at: datetime) -> None:
        contract = market.contract
        if self._watched[contract.id]:
            self._tell_quote(market, at)
            if volume and self._wanted["GatewayTrade", contract.id]:
                prints = [market_trade_row(contract, market.last, volume, Side(volume % 2), at)]
                self.outbox.tell_market("GatewayTrade", contract.id, prints, at)
            if self._wanted["GatewayDepth", contract.id]:
                levels = [
                    depth_row(contract, 4, market.bid, volume, at),
                    depth_row(contract, 3, market.ask, volume, at),
                    None,
                ]
                self.outbox.tell_market("GatewayDepth", contract.id, levels, at)
        self._match(market, at)
        self._after_move(contract.id, at)

    def _tell_quote(self, market: Market, at: datetime) -> None:
        news, full = market.quotes(at)
        self.outbox.tell_market("GatewayQuote", market.contract.id, news, at, first=full)

    # --- matching ---

    def _match(self, market: Market, at: datetime) -> None:
        for order_id, account_id in list(self._working.get(market.contract.id, {}).items()):
            order = self.books[account_id].orders.latest(order_id)
            matches = order is not None and order.status in {Status.OPEN, Status.PENDING_CANCELLATION}
            if order is not None and matches and order_id not in self._spoken_for:
                self._try(order, market, at, arriving=False)

    def _try(self, order: Order, market: Market, at: datetime, *, arriving: bool) -> None:
        if not self._trades(market.contract, at):
            return
        level = None
        if order.type is Type.TRAILING_STOP:
            assert order.trail_ticks is not None
            distance = abs(order.trail_ticks) * market.contract.tick_size
            level = trailed(order.side, self._trail_levels[order.id], distance, market.last)
            self._trail_levels[order.id] = level
        if not touched(order, market, level):
            return
        if stops(order) and self._runs_away(order, market, at):
            return
        if order.type is Type.STOP_LIMIT and not order.triggered:
            order = evolve(order, triggered=True, updated=at)
            self._put_order(self.books[order.account_id], order, at)
            self._try(order, market, at, arriving=True)
        else:
            self._execute(order, fill_price(order, market, self.options, arriving=arriving), at)

    def _runs_away(self, order: Order, market: Market, at: datetime) -> bool:
        """Where a fault says so, have the market run beyond a stop that it has touched, before the stop fills."""
        if order.id in self._overrun or not self.faults.strikes("fast_market", order.account_id, at):
            return False
        self._overrun.add(order.id)
        beyond = market.last + order.side.sign * _RUN_AWAY_TICKS * market.contract.tick_size
        self._traded(market, market.move_to(max(beyond, market.contract.tick_size * 4), at), at)
        return True

    def _start_trailing(self, order: Order) -> None:
        assert order.trail_ticks is not None
        away = abs(order.trail_ticks) * order.contract.tick_size
        self._trail_levels[order.id] = self.markets[order.contract.id].last + order.side.sign * away

    def _send_to_market(self, book: Book, order: Order, now: datetime) -> datetime:
        """Have a new order meet the market shortly; return when its sender hears that it was accepted."""
        executes_at = now + self._within(self.options.execution_ms)
        self.schedule(executes_at, partial(self._arrive, order.account_id, order.id))
        if order.type is not Type.MARKET:
            if order.type is Type.TRAILING_STOP:
                self._start_trailing(order)
            return self.soon(now)
        closes = self._held(book, order.contract.id) * order.side.sign < 0
        told_ms = sequence_of(order.type, closes=closes).last_fill_ms + self.options.hub_lag_ms[1]
        swap_ms = self.options.swap_within_ms / 2
        return executes_at + milliseconds(told_ms + swap_ms) + self._within(self.options.answer_after_fill_ms)

    def _arrive(self, account_id: int, order_id: int, at: datetime) -> None:
        book = self.books[account_id]
        order = book.orders.latest(order_id)
        if order is None or not order.status.working or order_id in self._spoken_for:
            return
        if order.type is Type.MARKET and not self._trades(order.contract, at):
            self._end(book, order_id, Status.REJECTED, at)
            return
        self._try(order, self.markets[order.contract.id], at, arriving=True)

    # --- orders ---

    def _new_order_id(self, legs: int = 0) -> int:
        """Return an id, after which those of ``legs`` are free too."""
        order_id = self._next_order_id
        self._next_order_id += 1 + legs + self._rng.randint(0, 40)
        return order_id

    def _closing_order(self, account_id: int, contract: Contract, held: int, size: int | None, now: datetime) -> Order:
        return Order(
            id=self._new_order_id(),
            account_id=account_id,
            contract=contract,
            created=now,
            updated=now,
            status=Status.PENDING,
            type=Type.MARKET,
            side=Side.SELL if held > 0 else Side.BUY,
            size=abs(held) if size is None else size,
            closing=True,
        )

    def _put_order(self, book: Book, order: Order, at: datetime, *, told_ms: float = 0) -> None:
        """Make ``order`` the newest version and tell the hub."""
        book.orders.put(order.id, order, self._visible(at))
        working = self._working.setdefault(order.contract.id, {})
        if order.status.working:
            working[order.id] = order.account_id
            self._enliven(order.contract.id, at)
        else:
            working.pop(order.id, None)
            self._trail_levels.pop(order.id, None)
            self._spoken_for.discard(order.id)
            self._overrun.discard(order.id)
        self._tell_order(order, at + milliseconds(told_ms))

    def _tell_order(self, order: Order, at: datetime) -> None:
        row = order_row(order, hub=True)
        self.outbox.tell_user("GatewayUserOrder", order.account_id, 1, row, at)
        if not order.status.working and self._rng.random() < self.options.order_repeat_probability:
            again = at + self._within(self.options.order_repeat_ms)
            tell = partial(self.outbox.tell_user, "GatewayUserOrder", order.account_id, 1, row)
            self.schedule(again, tell)

    def _is_doomed(self, order: Order) -> bool:
        """Tell whether an order has been refused already, and only its last event is to come."""
        return order.status is Status.PENDING and order.id in self._spoken_for

    def _end(self, book: Book, order_id: int, status: Status, at: datetime) -> None:
        """Take a working order to ``status``; what it leaves behind of a bracket follows."""
        order = book.orders.latest(order_id)
        if order is not None and order.status.working:
            self._put_order(book, evolve(order, status=status, updated=at), at)
            self._settle_children(book, order, at)

    def _settle_children(self, book: Book, entry: Order, at: datetime) -> None:
        """When an entry ends unfilled its legs end too; where it filled in part they protect that part."""
        for child in children(book, entry.id):
            if child.status is Status.SUSPENDED:
                if entry.fill_volume:
                    self._activate(child, entry, at)
                else:
                    self._put_order(book, evolve(child, status=Status.CANCELLED, updated=at), at)

    # --- fills ---

    def _execute(self, order: Order, price: Decimal, at: datetime) -> None:
        """Fill what is left of ``order``, in parts where a fault says so."""
        if order.protective or (order.closing and self.options.close_is_capped):  # these may close, and open nothing
            book = self.books[order.account_id]
            open_size = max(0, -self._held(book, order.contract.id) * order.side.sign)
            if not open_size:
                self._end(book, order.id, Status.CANCELLED, at)
                return
            order = evolve(order, size=order.fill_volume + min(order.remaining, open_size))
        quantity = order.remaining
        if quantity > 1 and self.faults.strikes("partial_fills", order.account_id, at):
            quantity = (quantity + 1) // 2
            self._spoken_for.add(order.id)
            rest = partial(self._execute_rest, order.account_id, order.id, price)
            self.schedule(at + milliseconds(self.options.part_ms), rest)
        self._fill(order, quantity, price, at)

    def _execute_rest(self, account_id: int, order_id: int, price: Decimal, at: datetime) -> None:
        book = self.books[account_id]
        order = book.orders.latest(order_id)
        if order is None or not order.status.working:
            return
        if not self._trades(order.contract, at):  # it has closed between two parts
            if order.type is Type.MARKET:
                self._end(book, order_id, Status.CANCELLED, at)
            else:
                self._spoken_for.discard(order_id)
            return
        if order.limit_price is None:
            price = market_price(order.side, self.markets[order.contract.id], self.options.market_slippage_ticks)
        self._execute(order, price, at)

    def _fill(self, order: Order, quantity: int, price: Decimal, at: datetime) -> None:
        book, contract = self.books[order.account_id], order.contract
        booked = self._bookkeeper.book(order, quantity, price, book.positions.latest(contract.id), at)
        done = order.fill_volume + quantity
        cancelling = order.status is Status.PENDING_CANCELLATION
        order = evolve(
            order,
            fill_volume=done,
            filled_price=averaged(order, quantity, price),
            status=Status.FILLED if done == order.size else order.status if cancelling else Status.OPEN,
            updated=at,
        )
        account = self._with_money(book, sum((trade.net for trade in booked.trades), Decimal(0)))
        for trade in booked.trades:
            book.trades.put(trade.id, trade, self._visible(at))
            self._after_trade(book, trade, at)
        for position in booked.positions:
            book.positions.put(contract.id, position, self._visible(at))
        book.account.put(account.id, account, self._visible(at))
        self._tell_fill(order, booked, account, at)
        if order.status is Status.FILLED:
            self._after_fill(book, order, at)
        self._after_change(book, contract.id, at)

    def _with_money(self, book: Book, net: Decimal) -> Account:
        account = self._account(book, book.setup.id)
        book.realized_net += net
        return evolve(account, balance=account.balance + net)

    def _tell_fill(self, order: Order, booked: Booked, account: Account, at: datetime) -> None:
        tell = partial(self.outbox.tell_user, account_id=account.id)
        book = self.books[account.id]
        closes = booked.trades[0].profit_and_loss is not None
        for part, offset_ms in sequence_of(order.type, closes=closes).parts:
            moment = at + milliseconds(offset_ms)
            match part:
                case Part.ORDER:
                    self._put_order(book, order, at, told_ms=offset_ms)
                case Part.TRADE:
                    for trade in booked.trades:
                        tell("GatewayUserTrade", action=0, row=trade_row(trade, hub=True), at=moment)
                case Part.OPENING_AGAIN:
                    for trade in filter(None, map(book.trades.latest, booked.used_up)):
                        row = trade_row(trade, hub=True, again=True)
                        tell("GatewayUserTrade", action=0, row=row, at=moment)
                case Part.POSITION:
                    for position in booked.positions:
                        self._tell_position(position, moment)
                case Part.ACCOUNT:
                    tell("GatewayUserAccount", action=1, row=account_row(account), at=moment)
                    for _ in range(self._rng.randint(*self.options.account_repeats)):
                        repeat_at = moment + self._within(self.options.account_repeat_ms)
                        self.schedule(repeat_at, partial(self._tell_account, account.id))

    def _tell_position(self, position: Position, at: datetime) -> None:
        row = position_row(position, hub=True)
        self.outbox.tell_user("GatewayUserPosition", position.account_id, 1 if position.size else 2, row, at)

    def _tell_account(self, account_id: int, at: datetime) -> None:
        row = account_row(self._account(self.books[account_id], account_id))
        self.outbox.tell_user("GatewayUserAccount", account_id, 1, row, at)

    def _after_fill(self, book: Book, order: Order, at: datetime) -> None:
        """Wake the legs of a filled entry; cancel the sibling of a filled leg."""
        for child in children(book, order.id):
            delay_ms = sequences.CHILD_ACTIVATED_MS[child.type is Type.LIMIT]
            self.schedule(at + milliseconds(delay_ms), partial(self._wake_child, book, child.id))
        if order.parent_id is None:
            return
        for sibling in children(book, order.parent_id):
            if sibling.id == order.id or not sibling.status.working:
                continue
            if self.faults.strikes("leg_left_behind", order.account_id, at):
                self.left_behind.add(sibling.id)
                continue
            if self.options.oco_gap_fills:
                self.left_behind.add(sibling.id)
            else:
                self._spoken_for.add(sibling.id)
            cancel = partial(self._end, book, sibling.id, Status.CANCELLED)
            self.schedule(at + self._within(self.options.oco_ms), cancel)

    def _wake_child(self, book: Book, child_id: int, at: datetime) -> None:
        child = book.orders.latest(child_id)
        assert child is not None
        assert child.parent_id is not None
        parent = book.orders.latest(child.parent_id)
        if parent is not None and child.status is Status.SUSPENDED:
            self._activate(child, parent, at)

    def _activate(self, child: Order, parent: Order, at: datetime) -> None:
        child, price = woken(child, parent, at)
        if child.type is Type.TRAILING_STOP:
            self._trail_levels[child.id] = price
        self._put_order(self.books[child.account_id], child, at)
        self._try(child, self.markets[child.contract.id], at, arriving=True)

    # --- plain questions ---

    def account(self, account_id: int) -> Account:
        """Return an account as it is. Raises ``KeyError`` for an unknown one."""
        return self._account(self.books[account_id], account_id)

    def position(self, account_id: int, contract_id: str) -> int:
        """Return the signed size held. Raises ``KeyError`` for an unknown account."""
        return self._held(self.books[account_id], contract_id)

    @staticmethod
    def _account(book: Book, account_id: int) -> Account:
        account = book.account.latest(account_id)
        assert account is not None
        return account

    @staticmethod
    def _held(book: Book, contract_id: str) -> int:
        position = book.positions.latest(contract_id)
        return 0 if position is None else position.size

    # --- what the firm does when something has changed ---

    def _after_move(self, contract_id: str, at: datetime) -> None:
        """Called when a price has moved and filled what it touched."""

    def _after_trade(self, book: Book, trade: Trade, at: datetime) -> None:
        """Called when a half-turn has been made."""

    def _after_change(self, book: Book, contract_id: str, at: datetime) -> None:
        """Called when a position and the money have changed."""
