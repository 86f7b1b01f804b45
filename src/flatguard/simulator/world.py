"""The broker and the exchange behind the double: accounts, prices, matching, money. Pure and reproducible.

Nothing here waits or reads a clock: callers say what time it is, ``run`` makes happen what was due until
then, and everything random is drawn from the seed. What the hubs have to tell lies in ``outbox``.

A change takes place at one moment; that it is told piece by piece over the following milliseconds, and that
REST readers see it later still, is the outbox's and the timelines' affair.

It is long because a fill touches everything at once: the order, its legs and siblings, the position, the money, and
what is told of them. What can be decided without that lies beside it: refusals, matching, booking, brackets, markets,
sequences.
"""

from __future__ import annotations

import base64
import heapq
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial

from attrs import evolve, frozen

from flatguard.simulator import sequences
from flatguard.simulator.booking import Booked, Bookkeeper, averaged
from flatguard.simulator.brackets import children, legs_of, protection, woken
from flatguard.simulator.contracts import CONTRACTS, Contract
from flatguard.simulator.faults import Faults
from flatguard.simulator.market import Market
from flatguard.simulator.matching import fill_price, market_price, stops, touched, trailed
from flatguard.simulator.options import Options
from flatguard.simulator.outbox import Outbox, milliseconds
from flatguard.simulator.refusals import (
    NOT_TRADING,
    OUTSIDE,
    Edit,
    Ticket,
    bracket_objection,
    edit_objection,
    price_objection,
    trail_ticks,
)
from flatguard.simulator.rows import (
    account_row,
    depth_row,
    market_trade_row,
    order_row,
    position_row,
    trade_row,
)
from flatguard.simulator.sequences import Part, sequence_of
from flatguard.simulator.sessions import is_open, takes_orders
from flatguard.simulator.setup import DEFAULT_USERS, AccountSetup, UserSetup
from flatguard.simulator.state import Account, Book, Order, Position, Side, Status, Trade, Type

_RUN_AWAY_TICKS = 40
_CLOSED_MARKET_LOOKS = timedelta(seconds=60)


@frozen
class Answer:
    """How a call that changes something ended.

    ``code`` 0 is success; the numbers are those of the endpoint called.

    ``at`` is when the caller should hear of it.
    """

    at: datetime
    code: int = 0
    message: str | None = None
    order_id: int | None = None


class World:
    """One broker with its exchange.

    Every method that takes ``now`` first lets happen what was due until then; ``now`` never goes back.
    """

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
        self.markets = {
            contract.id: Market(
                contract,
                self.chance(contract.id),
                self.options.price_walk,
                (prices or {}).get(contract.id, contract.first_price),
            )
            for contract in CONTRACTS.values()
        }
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

    def _next_act(self) -> datetime | None:
        moments = list(self._steps.values())
        if self._agenda:
            moments.append(self._agenda[0][0])
        return min(moments, default=None)

    def run(self, now: datetime) -> None:
        """Let everything happen that was due until ``now``, each thing at its own moment."""
        while (at := self._next_act()) is not None and at <= now:
            if self._agenda and self._agenda[0][0] == at:
                heapq.heappop(self._agenda)[2](at)
            else:
                contract_id = min(self._steps, key=lambda name: (self._steps[name], name))
                self._step(contract_id, at)

    def jump(self, now: datetime, distance: timedelta) -> None:
        """Move on by ``distance`` without the trading that would have taken place on the way."""
        self.run(now)
        self._steps = {contract_id: at + distance for contract_id, at in self._steps.items()}

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

    def watch(self, contract_id: str, now: datetime) -> None:
        """Begin to watch a contract: it trades while anybody does, and quotes at once."""
        self.run(now)
        self._watched[contract_id] += 1
        self._enliven(contract_id, now)
        self._tell_quote(self.markets[contract_id], now)

    def unwatch(self, contract_id: str) -> None:
        """Take one ``watch`` back."""
        self._watched[contract_id] -= 1

    def move_price(self, contract_id: str, price: Decimal, now: datetime) -> None:
        """Trade at ``price`` now, fill what that touches, and hold the price there."""
        self.run(now)
        market = self.markets[contract_id]
        market.held = True
        self._traded(market, market.move_to(price, now), now)

    def resume_price(self, contract_id: str, now: datetime) -> None:
        """Let a held price move by itself again."""
        self.run(now)
        self.markets[contract_id].held = False

    def _enliven(self, contract_id: str, at: datetime) -> None:
        self._steps.setdefault(contract_id, at + milliseconds(self.options.market_step_ms))

    def _is_live(self, contract_id: str) -> bool:
        return (
            self._watched[contract_id] > 0
            or bool(self._working.get(contract_id))
            or any(self._held(book, contract_id) for book in self.books.values())
        )

    def _step(self, contract_id: str, at: datetime) -> None:
        if not self._is_live(contract_id):
            del self._steps[contract_id]
        elif self.options.sessions and not is_open(at):
            self._steps[contract_id] = at + _CLOSED_MARKET_LOOKS
        else:
            self._steps[contract_id] = at + milliseconds(self.options.market_step_ms)
            market = self.markets[contract_id]
            self._traded(market, market.step(at), at)

    def _traded(self, market: Market, volume: int, at: datetime) -> None:
        contract = market.contract
        if self._watched[contract.id]:
            self._tell_quote(market, at)
            aggressor = Side(volume % 2)
            prints = [market_trade_row(contract, market.last, volume, aggressor, at)]
            self.outbox.tell_market("GatewayTrade", contract.id, prints, at)
            levels = [
                depth_row(contract, 4, market.bid, volume, at),
                depth_row(contract, 3, market.ask, volume, at),
                None,
            ]
            self.outbox.tell_market("GatewayDepth", contract.id, levels, at)
        self._match(market, at)
        for account_id, book in self.books.items():
            if book.setup.liquidates and self._held(book, contract.id):
                self._guard_floor(book, account_id, at)

    def _tell_quote(self, market: Market, at: datetime) -> None:
        news = market.quote(market.news(), at)
        full = market.quote(market.figures(), at)
        self.outbox.tell_market("GatewayQuote", market.contract.id, news, at, first=full)

    def _match(self, market: Market, at: datetime) -> None:
        for order_id, account_id in list(self._working.get(market.contract.id, {}).items()):
            order = self.books[account_id].orders.latest(order_id)
            matches = order is not None and order.status in {Status.OPEN, Status.PENDING_CANCELLATION}
            if order is not None and matches and order_id not in self._spoken_for:
                self._try(order, market, at, arriving=False)

    def _try(self, order: Order, market: Market, at: datetime, *, arriving: bool) -> None:
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

    # --- orders ---

    def place(self, ticket: Ticket, now: datetime, *, fails_after: timedelta | None = None) -> Answer:
        """Take an order, or refuse it with a code of Order/place.

        A refusal with code 2 or 3 leaves a record. ``fails_after``: take it, but reject it then; the answer is code 6.
        """
        self.run(now)
        book = self.books.get(ticket.account_id)
        if book is None:
            return Answer(self.soon(now), 1)
        if not self._account(book, ticket.account_id).can_trade:
            return Answer(self.soon(now), self.options.refusal_when_locked)
        contract = CONTRACTS.get(ticket.contract_id)
        if contract is None:
            return Answer(self.soon(now), 8)
        if not contract.active:
            return Answer(self.soon(now), 9)
        objection = self._objection(book, contract, ticket, now)
        if ticket.custom_tag is not None:
            book.tags.add(ticket.custom_tag)
        entry = self._entry(contract, ticket, now)
        if objection is not None:
            self._reject(book, entry, now)
            return Answer(self.soon(now) + milliseconds(sequences.REJECTED_MS), *objection, entry.id)
        if fails_after is not None:
            self._put_order(book, evolve(entry, status=Status.PENDING), now)
            self.schedule(now + fails_after, partial(self._end, book, entry.id, Status.REJECTED))
            return Answer(self.soon(now), 6)
        self._put_order(book, entry, now)
        for leg in legs_of(entry, ticket):
            if leg.custom_tag is not None:
                book.tags.add(leg.custom_tag)
            self._put_order(book, leg, now, told_ms=sequences.CHILD_CREATED_MS[leg.type is Type.LIMIT])
        return Answer(self._send_to_market(book, entry, now), order_id=entry.id)

    def _entry(self, contract: Contract, ticket: Ticket, now: datetime) -> Order:
        known = set(Type)
        order_type = Type(ticket.type) if ticket.type in known else Type.MARKET
        market = self.markets[contract.id]
        limit_price = ticket.limit_price if order_type in {Type.LIMIT, Type.STOP_LIMIT} else None
        if order_type in {Type.JOIN_BID, Type.JOIN_ASK}:
            limit_price = market.bid if order_type is Type.JOIN_BID else market.ask
        distance = None
        if order_type is Type.TRAILING_STOP and ticket.trail_price is not None:
            distance = trail_ticks(contract, market.last, ticket.trail_price)
        legs = sum(leg is not None for leg in (ticket.stop_loss, ticket.take_profit))
        return Order(
            id=self._new_order_id(legs),
            account_id=ticket.account_id,
            contract=contract,
            created=now,
            updated=now,
            status=Status.PENDING if order_type is Type.MARKET else Status.OPEN,
            type=order_type,
            side=Side(ticket.side),
            size=ticket.size,
            limit_price=limit_price,
            stop_price=ticket.stop_price if order_type in {Type.STOP, Type.STOP_LIMIT} else None,
            custom_tag=ticket.custom_tag,
            trail_ticks=distance,
        )

    def _new_order_id(self, legs: int = 0) -> int:
        """Return an id, after which those of ``legs`` are free too."""
        order_id = self._next_order_id
        self._next_order_id += 1 + legs + self._rng.randint(0, 40)
        return order_id

    def _objection(
        self, book: Book, contract: Contract, ticket: Ticket, now: datetime
    ) -> tuple[int, str | None] | None:
        """Return code and text of the first thing that is wrong, in the order in which the gateway looks."""
        if ticket.custom_tag is not None and ticket.custom_tag in book.tags:
            return 2, "Specified custom tag is already in use"
        if not self._takes_orders(now):
            return 2, NOT_TRADING
        if self.faults.strikes("velocity_control", ticket.account_id, now):
            return 2, "Order rejected by velocity control. Please wait before placing another order."
        if self.faults.strikes("outside_range", ticket.account_id, now):
            return 2, OUTSIDE
        auto_oco = self.options.auto_oco and book.setup.protection is None
        text = price_objection(ticket, self.markets[contract.id], self.options) or bracket_objection(
            ticket, auto_oco=auto_oco
        )
        if text is not None:
            return 2, text
        if ticket.size <= 0:
            return 2, "Invalid order size."
        before = self._exposure(book)
        after = self._exposure(book, contract, Side(ticket.side).sign * ticket.size)
        if after > before:
            firm = book.setup
            if firm.floor is not None and self._account(book, ticket.account_id).balance <= firm.floor:
                return 3, None
            if firm.max_minis is not None and after > firm.max_minis:
                return 2, "Not enough margin."
        return None

    def _takes_orders(self, now: datetime) -> bool:
        return not self.options.sessions or takes_orders(now)

    def _exposure(self, book: Book, contract: Contract | None = None, change: int = 0) -> Decimal:
        """Return the account's size over all products, in minis, with ``change`` of ``contract`` added."""
        sizes = {position.contract.id: (position.contract, position.size) for position in book.positions.rows()}
        if contract is not None:
            sizes[contract.id] = (contract, self._held(book, contract.id) + change)
        return sum((abs(size) * held.weight for held, size in sizes.values()), Decimal(0))

    def _reject(self, book: Book, order: Order, now: datetime) -> None:
        self._put_order(book, evolve(order, status=Status.PENDING), now)
        self.schedule(now + milliseconds(sequences.REJECTED_MS), partial(self._end, book, order.id, Status.REJECTED))

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
        if order.closing and self.options.close_is_capped:
            open_size = -self._held(book, order.contract.id) * order.side.sign
            if open_size <= 0:
                self._end(book, order_id, Status.CANCELLED, at)
                return
            order = evolve(order, size=min(order.size, open_size))
        self._try(order, self.markets[order.contract.id], at, arriving=True)

    def cancel(self, account_id: int, order_id: int, now: datetime) -> Answer:
        """Cancel a working order; the children of an entry that never filled go with it.

        Codes of Order/cancel.
        """
        self.run(now)
        book = self.books.get(account_id)
        if book is None:
            return Answer(self.soon(now), 1)
        if book.setup.follower:
            return Answer(self.soon(now), 6, "Follower accounts cannot cancel orders")
        if not book.setup.simulated:
            return Answer(self.soon(now), 6, "Live accounts not supported")
        order = book.orders.latest(order_id)
        if order is None or not order.status.working:
            return Answer(self.soon(now), 2)
        fault = self.faults.strikes("slow_cancel", account_id, now) if order.status is Status.OPEN else None
        if fault is not None:
            self._put_order(book, evolve(order, status=Status.PENDING_CANCELLATION, updated=now), now)
            self.schedule(now + fault.delay(2), partial(self._end, book, order_id, Status.CANCELLED))
        elif order.status is not Status.PENDING_CANCELLATION:
            self._end(book, order_id, Status.CANCELLED, now)
        return Answer(self.soon(now))

    def modify(self, account_id: int, order_id: int, now: datetime, edit: Edit) -> Answer:
        """Change an open order in place. Codes of Order/modify."""
        self.run(now)
        book = self.books.get(account_id)
        if book is None:
            return Answer(self.soon(now), 1)
        order = book.orders.latest(order_id)
        if order is None or not order.status.working:
            return Answer(self.soon(now), 2)
        if order.status is not Status.OPEN or order_id in self._spoken_for:
            return Answer(self.soon(now), 3, "Order cannot be modified in its present state.")
        market = self.markets[order.contract.id]
        objection = NOT_TRADING if not self._takes_orders(now) else edit_objection(order, edit, market, self.options)
        if objection is not None:
            return Answer(self.soon(now), 3, objection)
        changed = evolve(order, updated=now, size=order.size if edit.size is None else edit.size)
        if edit.limit_price is not None and order.limit_price is not None:
            changed = evolve(changed, limit_price=edit.limit_price)
        if edit.stop_price is not None and order.stop_price is not None:
            changed = evolve(changed, stop_price=edit.stop_price)
        if edit.trail_price is not None and order.type is Type.TRAILING_STOP:
            changed = evolve(changed, trail_ticks=trail_ticks(order.contract, market.last, edit.trail_price))
            self._start_trailing(changed)
        self._put_order(book, changed, now)
        self.schedule(now + self._within(self.options.execution_ms), partial(self._arrive, account_id, order_id))
        return Answer(self.soon(now))

    def _start_trailing(self, order: Order) -> None:
        assert order.trail_ticks is not None
        away = order.trail_ticks * order.contract.tick_size
        self._trail_levels[order.id] = self.markets[order.contract.id].last + order.side.sign * away

    def close(self, account_id: int, contract_id: str, now: datetime, size: int | None = None) -> Answer:
        """Close a position, or ``size`` contracts of it, by a market order without a tag; orders stay.

        Codes of Position/closeContract, or of partialCloseContract where ``size`` is given.
        """
        self.run(now)
        codes = _CLOSE_CODES if size is None else _PARTIAL_CLOSE_CODES
        book = self.books.get(account_id)
        if book is None:
            return Answer(self.soon(now), 1)
        contract = CONTRACTS.get(contract_id)
        if contract is None:
            return Answer(self.soon(now), codes["ContractNotFound"])
        held = self._held(book, contract_id)
        if not held:
            return Answer(self.soon(now), codes["PositionNotFound"])
        if not self._takes_orders(now):
            return Answer(self.soon(now), codes["OrderRejected"])
        if size is not None and not 0 < size <= abs(held):
            return Answer(self.soon(now), codes["InvalidCloseSize"])
        order = self._closing_order(account_id, contract, held, size, now)
        self._put_order(book, order, now)
        if self.options.close_cancels_brackets and size is None:
            for other in list(book.orders.rows()):
                if other.parent_id is not None and other.contract is contract and other.status.working:
                    self._end(book, other.id, Status.CANCELLED, now)
        return Answer(self._send_to_market(book, order, now))

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
        quantity = order.remaining
        if quantity > 1 and self.faults.strikes("partial_fills", order.account_id, at):
            quantity = (quantity + 1) // 2
            self._spoken_for.add(order.id)
            rest = partial(self._execute_rest, order.account_id, order.id, price)
            self.schedule(at + milliseconds(self.options.part_ms), rest)
        self._fill(order, quantity, price, at)

    def _execute_rest(self, account_id: int, order_id: int, price: Decimal, at: datetime) -> None:
        order = self.books[account_id].orders.latest(order_id)
        if order is None or not order.status.working:
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
            if fault := self.faults.strikes("void_trade", order.account_id, at):
                self.schedule(at + fault.delay(5), partial(self._void, book, trade.id))
        for position in booked.positions:
            book.positions.put(contract.id, position, self._visible(at))
        book.account.put(account.id, account, self._visible(at))
        self._tell_fill(order, booked, account, at)
        if order.status is Status.FILLED:
            self._after_fill(book, order, at)
        self._after_change(book, order.account_id, contract.id, at)

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

    # --- what the platform and the firm do by themselves ---

    def _after_change(self, book: Book, account_id: int, contract_id: str, at: datetime) -> None:
        """Have protective orders follow a position that has changed, and see that the account is not at its floor."""
        if book.setup.protection is not None:
            position = book.positions.latest(contract_id)
            if position is None or not position.size:  # no attached order may open anything
                self._spoken_for.update(order.id for order in self._attached(book, contract_id))
            self.schedule(at + self._within(self.options.oco_ms), partial(self._protect, book, contract_id))
        if book.setup.liquidates:
            self._guard_floor(book, account_id, at)

    def _attached(self, book: Book, contract_id: str) -> list[Order]:
        """Return the working orders that the platform has attached to a position."""
        orders = map(book.orders.latest, self._working.get(contract_id, {}))
        return [order for order in orders if order is not None and order.protective]

    def _protect(self, book: Book, contract_id: str, at: datetime) -> None:
        position = book.positions.latest(contract_id)
        assert position is not None
        assert book.setup.protection is not None
        attached = {order.type: order for order in self._attached(book, contract_id)}
        for wanted in protection(position, book.setup.protection, at):
            order = attached.pop(wanted.type, None)
            if order is not None and (order.side is not wanted.side or order.id in self._spoken_for):
                self._end(book, order.id, Status.CANCELLED, at)
                order = None
            if order is None:
                order = evolve(wanted, id=self._new_order_id())
            else:
                size = order.fill_volume + wanted.size
                order = evolve(
                    order, size=size, limit_price=wanted.limit_price, stop_price=wanted.stop_price, updated=at
                )
            self._put_order(book, order, at)
            self._try(order, self.markets[contract_id], at, arriving=True)
        for order in attached.values():
            self._end(book, order.id, Status.CANCELLED, at)

    def _equity(self, book: Book) -> Decimal:
        """Return the balance with the open profit and loss at last prices."""
        equity = self._account(book, book.setup.id).balance
        for position in book.positions.rows():
            points = self.markets[position.contract.id].last - position.average_price
            equity += position.contract.value_of(points) * position.size
        return equity

    def _guard_floor(self, book: Book, account_id: int, at: datetime) -> None:
        """Where the account has touched its floor, lock it, cancel everything and close everything."""
        account, floor = self._account(book, account_id), book.setup.floor
        if floor is None or not account.can_trade or self._equity(book) > floor:
            return
        book.account.put(account_id, evolve(account, can_trade=False), self._visible(at))
        self._tell_account(account_id, at)
        for order in list(book.orders.rows()):
            if not order.closing:
                self._end(book, order.id, Status.CANCELLED, at)
        for position in list(book.positions.rows()):
            if position.size:
                order = self._closing_order(account_id, position.contract, position.size, None, at)
                self._put_order(book, order, at)
                self._send_to_market(book, order, at)

    def void_trade(self, trade_id: int, now: datetime) -> Trade:
        """Bust a trade: money and position become as if it had never been, and the hub tells.

        Raises ``KeyError`` for an unknown trade.
        """
        self.run(now)
        for book in self.books.values():
            if book.trades.latest(trade_id) is not None:
                return self._void(book, trade_id, now)
        raise KeyError(trade_id)

    def _void(self, book: Book, trade_id: int, at: datetime) -> Trade:
        trade = book.trades.latest(trade_id)
        assert trade is not None
        if trade.voided:
            return trade
        voided = evolve(trade, voided=True)
        book.trades.put(trade_id, voided, self._visible(at))
        account = self._with_money(book, -trade.net)
        before = book.positions.latest(trade.contract.id)
        assert before is not None
        standing = [row for row in book.trades.rows() if row.contract is trade.contract and not row.voided]
        after = self._bookkeeper.without(trade, before, standing, at)
        book.positions.put(trade.contract.id, after, self._visible(at))
        book.account.put(account.id, account, self._visible(at))
        self._enliven(trade.contract.id, at)
        self.outbox.tell_user("GatewayUserTrade", account.id, 1, trade_row(voided, hub=True), at)
        if before.size or after.size:
            self._tell_position(after, at + milliseconds(sequences.VOIDED_MS))
        self._tell_account(account.id, at + milliseconds(2 * sequences.VOIDED_MS))
        self._after_change(book, account.id, trade.contract.id, at)
        return voided

    # --- the firm's desk, and plain questions ---

    def set_account(
        self,
        account_id: int,
        now: datetime,
        *,
        can_trade: bool | None = None,
        visible: bool | None = None,
        balance: Decimal | None = None,
    ) -> None:
        """Do what the firm's desk does, and tell the hub. Raises ``KeyError`` for an unknown account."""
        self.run(now)
        book = self.books[account_id]
        account = self._account(book, account_id)
        if can_trade is not None:
            account = evolve(account, can_trade=can_trade)
        if visible is not None:
            account = evolve(account, visible=visible)
        if balance is not None:
            book.adjustments += balance - account.balance
            account = evolve(account, balance=balance)
        book.account.put(account_id, account, self._visible(now))
        self._tell_account(account_id, now)

    def restart_account(self, account_id: int, now: datetime) -> Account:
        """Have the firm begin an account anew: the old one is dead and hidden, the new one has another id.

        What the old one held stays as it was. Raises ``KeyError`` for an unknown account.
        """
        self.run(now)
        old = self.books[account_id]
        new_id = max(self.books) + 1 + self._rng.randint(0, 40)
        self._open_account(old.user, evolve(old.setup, id=new_id, name=f"{old.setup.name[:-8]}{new_id:08d}"))
        self.set_account(account_id, now, can_trade=False, visible=False)
        self._tell_account(new_id, now)
        return self.account(new_id)

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


_CLOSE_CODES = {"PositionNotFound": 2, "ContractNotFound": 3, "OrderRejected": 5}
_PARTIAL_CLOSE_CODES = {
    "PositionNotFound": 2,
    "ContractNotFound": 3,
    "InvalidCloseSize": 5,
    "OrderRejected": 6,
}
