"""The broker and the exchange behind the double: accounts, prices, matching, money. Pure and reproducible.

Nothing here waits or reads a clock: callers say what time it is, ``run`` makes happen what was due until
then, and everything random is drawn from the seed. What the hubs have to tell lies in ``outbox``.

A change takes place at one moment; that it is told piece by piece over the following milliseconds, and that
REST readers see it later still, is the outbox's and the timelines' affair.

It is long because a fill touches everything at once: the order, its legs and siblings, the position, the money, and
what is told of them. What can be decided without that lies beside it: refusals, matching, markets, sequences.
"""

from __future__ import annotations

import base64
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial

from attrs import evolve, frozen

from flatguard.simulator import sequences
from flatguard.simulator.contracts import Contract, Listing
from flatguard.simulator.faults import Faults
from flatguard.simulator.market import Market, Markets
from flatguard.simulator.matching import fill_price, market_price, touched, trailed
from flatguard.simulator.options import Options
from flatguard.simulator.outbox import Outbox, milliseconds
from flatguard.simulator.refusals import (
    NOT_TRADING,
    Ticket,
    bracket_objection,
    limit_objection,
    price_objection,
    stop_objection,
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
from flatguard.simulator.sessions import is_open, next_opening, takes_orders
from flatguard.simulator.setup import DEFAULT_USERS, AccountSetup, UserSetup
from flatguard.simulator.state import Account, Book, Order, Position, Side, Status, Trade, Type
from flatguard.simulator.tape import Tape

_AVERAGE_DIGITS = Decimal("1e-12")
_MONEY_DIGITS = Decimal("0.0001")


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
        self.listing = Listing(self.options.month_roll)
        self.markets = Markets(self.listing, self.options, self.chance, prices or {})
        self.books: dict[int, Book] = {}
        for user in self.users.values():
            for setup in user.accounts:
                self._open_account(user.user_name.lower(), setup)
        self.left_behind: set[int] = set()
        """Bracket legs that a fault let live on."""
        self._agenda: list[tuple[datetime, int, Callable[[datetime], None]]] = []
        self._agenda_count = 0
        self._steps: dict[str, datetime] = {}
        self._watched: Counter[str] = Counter()
        self._wanted: Counter[tuple[str, str]] = Counter()
        self._working: dict[str, dict[int, int]] = {}
        self._trail_levels: dict[int, Decimal] = {}
        self._spoken_for: set[int] = set()
        self._next_order_id = 3_408_995_735
        self._next_trade_id = 3_004_518_356
        self._next_position_id = 825_245_547

    def chance(self, purpose: str) -> random.Random:
        """Return a stream of chance of its own for ``purpose``, the same for the same seed."""
        return random.Random(f"{self.seed}:{purpose}")

    def _new_key(self, user: UserSetup) -> str:
        return base64.b64encode(self.chance(f"key of {user.user_name}").randbytes(32)).decode()

    def _open_account(self, user: str, setup: AccountSetup) -> None:
        book = Book(user, setup.balance, setup.max_minis, setup.floor)
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
        for contract_id, at in self._steps.items():
            market = self.markets[contract_id]
            market.skip_to(now + distance)
            self._steps[contract_id] = market.next_step(now + distance) if market.driven else at + distance

    def schedule(self, at: datetime, act: Callable[[datetime], None]) -> None:
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
        """Begin to watch a contract for events of this name: it trades while anybody does, and quotes at once."""
        self.run(now)
        self._watched[contract_id] += 1
        self._wanted[event, contract_id] += 1
        self._enliven(contract_id, now)
        self._tell_quote(self.markets[contract_id], now)

    def unwatch(self, contract_id: str, event: str = "GatewayQuote") -> None:
        """Take one ``watch`` back."""
        self._watched[contract_id] -= 1
        self._wanted[event, contract_id] -= 1

    def move_price(self, contract_id: str, price: Decimal, now: datetime) -> None:
        """Trade at ``price`` now, fill what that touches, and hold the price there."""
        self.run(now)
        market = self.markets[contract_id]
        self._traded(market, market.move_to(price, now), now)

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
        if self.options.month_roll and at >= contract.ends_at:
            for order_id, account_id in list(self._working.get(contract_id, {}).items()):
                self._end(self.books[account_id], order_id, Status.EXPIRED, at)
            del self._steps[contract_id]
        elif not self._is_live(contract_id):
            del self._steps[contract_id]
        elif self.options.sessions and not is_open(at, contract.group):
            opening = next_opening(at, contract.group)
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

    def _tell_quote(self, market: Market, at: datetime) -> None:
        news, full = market.quotes(at)
        self.outbox.tell_market("GatewayQuote", market.contract.id, news, at, first=full)

    def _match(self, market: Market, at: datetime) -> None:
        for order_id, account_id in list(self._working.get(market.contract.id, {}).items()):
            order = self.books[account_id].orders.latest(order_id)
            if order is not None and order.status is Status.OPEN and order_id not in self._spoken_for:
                self._try(order, market, at, arriving=False)

    def _try(self, order: Order, market: Market, at: datetime, *, arriving: bool) -> None:
        level = None
        if order.type is Type.TRAILING_STOP:
            assert order.trail_ticks is not None
            distance = abs(order.trail_ticks) * market.contract.tick_size
            level = trailed(order.side, self._trail_levels[order.id], distance, market.last)
            self._trail_levels[order.id] = level
        if touched(order, market, level):
            self._execute(order, fill_price(order, market, self.options, arriving=arriving), at)

    # --- orders ---

    def place(self, ticket: Ticket, now: datetime) -> Answer:
        """Take an order, or refuse it with a code of Order/place.

        A refusal with code 2 or 3 leaves a record.
        """
        self.run(now)
        book = self.books.get(ticket.account_id)
        if book is None:
            return Answer(self.soon(now), 1)
        if not self._account(book, ticket.account_id).can_trade:
            return Answer(self.soon(now), self.options.refusal_when_locked)
        contract = self.listing.get(ticket.contract_id)
        if contract is None:
            return Answer(self.soon(now), 8)
        if not self.listing.is_traded(contract, now):
            return Answer(self.soon(now), 9)
        objection = self._objection(book, contract, ticket, now)
        if ticket.custom_tag is not None:
            book.tags.add(ticket.custom_tag)
        entry = self._entry(contract, ticket, now)
        if objection is not None:
            self._reject(book, entry, now)
            return Answer(self.soon(now) + milliseconds(sequences.REJECTED_MS), *objection, entry.id)
        self._put_order(book, entry, now)
        self._add_children(book, entry, ticket, now)
        return Answer(self._send_to_market(book, entry, now), order_id=entry.id)

    def _entry(self, contract: Contract, ticket: Ticket, now: datetime) -> Order:
        known = set(Type)
        order_type = Type(ticket.type) if ticket.type in known else Type.MARKET
        market = self.markets[contract.id]
        limit_price = ticket.limit_price
        if order_type in {Type.JOIN_BID, Type.JOIN_ASK}:
            limit_price = market.bid if order_type is Type.JOIN_BID else market.ask
        distance = None
        if order_type is Type.TRAILING_STOP and ticket.trail_price is not None:
            distance = trail_ticks(contract, market.last, ticket.trail_price)
        legs = sum(leg is not None for leg in (ticket.stop_loss, ticket.take_profit))
        order = Order(
            id=self._next_order_id,
            account_id=ticket.account_id,
            contract=contract,
            created=now,
            updated=now,
            status=Status.PENDING if order_type is Type.MARKET else Status.OPEN,
            type=order_type,
            side=Side(ticket.side),
            size=ticket.size,
            limit_price=limit_price if order_type is not Type.MARKET else None,
            stop_price=ticket.stop_price if order_type is Type.STOP else None,
            custom_tag=ticket.custom_tag,
            trail_ticks=distance,
        )
        self._next_order_id += 1 + legs + self._rng.randint(0, 40)
        return order

    def _objection(
        self, book: Book, contract: Contract, ticket: Ticket, now: datetime
    ) -> tuple[int, str | None] | None:
        """Return code and text of the first thing that is wrong, in the order in which the gateway looks."""
        if ticket.custom_tag is not None and ticket.custom_tag in book.tags:
            return 2, "Specified custom tag is already in use"
        if not self._takes_orders(contract, now):
            return 2, NOT_TRADING
        if self.faults.strikes("velocity_control", ticket.account_id, now):
            return 2, "Order rejected by velocity control. Please wait before placing another order."
        text = price_objection(ticket, self.markets[contract.id], self.options) or bracket_objection(
            ticket, self.options
        )
        if text is not None:
            return 2, text
        if ticket.size <= 0:
            return 2, "Invalid order size."
        before = self._exposure(book)
        after = self._exposure(book, contract, Side(ticket.side).sign * ticket.size)
        if after > before:
            if book.floor is not None and self._account(book, ticket.account_id).balance <= book.floor:
                return 3, None
            if book.max_minis is not None and after > book.max_minis:
                return 2, "Not enough margin."
        return None

    def _takes_orders(self, contract: Contract, now: datetime) -> bool:
        if self.options.month_roll and now >= contract.ends_at:
            return False
        return not self.options.sessions or takes_orders(now, contract.group)

    def _exposure(self, book: Book, contract: Contract | None = None, change: int = 0) -> Decimal:
        """Return the account's size over all products, in minis, with ``change`` of ``contract`` added."""
        sizes = {position.contract.id: (position.contract, position.size) for position in book.positions.rows()}
        if contract is not None:
            sizes[contract.id] = (contract, self._held(book, contract.id) + change)
        return sum((abs(size) * held.weight for held, size in sizes.values()), Decimal(0))

    def _reject(self, book: Book, order: Order, now: datetime) -> None:
        self._put_order(book, evolve(order, status=Status.PENDING), now)
        self.schedule(now + milliseconds(sequences.REJECTED_MS), partial(self._end, book, order.id, Status.REJECTED))

    def _add_children(self, book: Book, entry: Order, ticket: Ticket, now: datetime) -> None:
        stop_id = None
        legs = ((ticket.stop_loss, "SL"), (ticket.take_profit, "TP"))
        asked = [(leg, suffix) for leg, suffix in legs if leg is not None]
        for place, (leg, suffix) in enumerate(asked):
            child = Order(
                id=entry.id + 1 + place,
                account_id=entry.account_id,
                contract=entry.contract,
                created=now,
                updated=now,
                status=Status.SUSPENDED,
                type=Type(leg.type),
                side=entry.side.other,
                size=entry.size,
                custom_tag=None if entry.custom_tag is None else f"{entry.custom_tag}-{suffix}",
                trail_ticks=abs(leg.ticks) if leg.type == Type.TRAILING_STOP else None,
                bracket_ticks=leg.ticks,
                parent_id=entry.id,
                linked_id=stop_id,
            )
            stop_id = child.id
            if child.custom_tag is not None:
                book.tags.add(child.custom_tag)
            self._put_order(book, child, now, told_ms=sequences.CHILD_CREATED_MS[suffix == "TP"])

    def _send_to_market(self, book: Book, order: Order, now: datetime) -> datetime:
        """Have a new order meet the market shortly; return when its sender hears that it was accepted."""
        executes_at = now + self._within(self.options.execution_ms)
        self.schedule(executes_at, partial(self._arrive, order.account_id, order.id))
        if order.type is not Type.MARKET:
            if order.type is Type.TRAILING_STOP:
                assert order.trail_ticks is not None
                market = self.markets[order.contract.id]
                away = order.trail_ticks * order.contract.tick_size
                self._trail_levels[order.id] = market.last + order.side.sign * away
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
        order = book.orders.latest(order_id)
        if order is None or not order.status.working:
            return Answer(self.soon(now), 2)
        self._end(book, order_id, Status.CANCELLED, now)
        return Answer(self.soon(now))

    def modify(
        self,
        account_id: int,
        order_id: int,
        now: datetime,
        *,
        size: int | None = None,
        limit_price: Decimal | None = None,
        stop_price: Decimal | None = None,
        trail_price: Decimal | None = None,
    ) -> Answer:
        """Change an open order in place; None leaves a property as it is. Codes of Order/modify."""
        self.run(now)
        book = self.books.get(account_id)
        if book is None:
            return Answer(self.soon(now), 1)
        order = book.orders.latest(order_id)
        if order is None or not order.status.working:
            return Answer(self.soon(now), 2)
        if order.status is not Status.OPEN or order_id in self._spoken_for:
            return Answer(self.soon(now), 3, "Order cannot be modified in its present state.")
        objection = None
        if not self._takes_orders(order.contract, now):
            objection = NOT_TRADING
        elif size is not None and size <= order.fill_volume:
            objection = "Invalid order size."
        elif limit_price is not None:
            objection = limit_objection(limit_price, self.markets[order.contract.id], self.options)
        elif stop_price is not None:
            objection = stop_objection(order.side, stop_price, self.markets[order.contract.id], self.options)
        elif trail_price is not None and not order.contract.aligned(trail_price):
            objection = "Invalid trail price. Price is not aligned to tick size."
        if objection is not None:
            return Answer(self.soon(now), 3, objection)
        changed = evolve(order, updated=now, size=order.size if size is None else size)
        if limit_price is not None and order.limit_price is not None:
            changed = evolve(changed, limit_price=limit_price)
        if stop_price is not None and order.stop_price is not None:
            changed = evolve(changed, stop_price=stop_price)
        if trail_price is not None and order.type is Type.TRAILING_STOP:
            last = self.markets[order.contract.id].last
            changed = evolve(changed, trail_ticks=trail_ticks(order.contract, last, trail_price))
            self._trail_levels[order_id] = trail_price
        self._put_order(book, changed, now)
        self.schedule(now + self._within(self.options.execution_ms), partial(self._arrive, account_id, order_id))
        return Answer(self.soon(now))

    def close(self, account_id: int, contract_id: str, now: datetime, size: int | None = None) -> Answer:
        """Close a position, or ``size`` contracts of it, by a market order without a tag; orders stay.

        Codes of Position/closeContract, or of partialCloseContract where ``size`` is given.
        """
        self.run(now)
        codes = _CLOSE_CODES if size is None else _PARTIAL_CLOSE_CODES
        book = self.books.get(account_id)
        if book is None:
            return Answer(self.soon(now), 1)
        contract = self.listing.get(contract_id)
        if contract is None:
            return Answer(self.soon(now), codes["ContractNotFound"])
        held = self._held(book, contract_id)
        if not held:
            return Answer(self.soon(now), codes["PositionNotFound"])
        if not self._takes_orders(contract, now):
            return Answer(self.soon(now), codes["OrderRejected"])
        if size is not None and not 0 < size <= abs(held):
            return Answer(self.soon(now), codes["InvalidCloseSize"])
        order = Order(
            id=self._next_order_id,
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
        self._next_order_id += 1 + self._rng.randint(0, 40)
        self._put_order(book, order, now)
        if self.options.close_cancels_brackets and size is None:
            for other in list(book.orders.rows()):
                if other.parent_id is not None and other.contract is contract and other.status.working:
                    self._end(book, other.id, Status.CANCELLED, now)
        return Answer(self._send_to_market(book, order, now))

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
        for child in self._children(book, entry.id):
            if child.status is Status.SUSPENDED:
                if entry.fill_volume:
                    self._activate(child, entry, at)
                else:
                    self._put_order(book, evolve(child, status=Status.CANCELLED, updated=at), at)

    def _children(self, book: Book, parent_id: int) -> Iterable[Order]:
        # an entry and its children have consecutive ids
        for child_id in (parent_id + 1, parent_id + 2):
            child = book.orders.latest(child_id)
            if child is not None and child.parent_id == parent_id:
                yield child

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
        before = book.positions.latest(contract.id)
        held = before.size if before is not None else 0
        closing = min(quantity, abs(held)) if held * order.side.sign < 0 else 0

        trades: list[Trade] = []
        positions: list[Position] = []
        again: list[Trade] = []
        if closing:
            assert before is not None
            points = (price - before.average_price) * (1 if held > 0 else -1)
            gross = (contract.value_of(points) * closing).quantize(_MONEY_DIGITS, ROUND_HALF_EVEN)
            trades.append(self._trade(order, closing, price, gross, at))
            consumed, lots = _take_lots(before.lots, closing)
            again = [trade for trade in map(book.trades.latest, consumed) if trade is not None]
            before = evolve(before, size=held + order.side.sign * closing, lots=lots)
            positions.append(before)
        if quantity > closing:
            trade = self._trade(order, quantity - closing, price, None, at)
            trades.append(trade)
            positions.append(self._enlarged(before, trade, order))

        done = order.fill_volume + quantity
        spent = (order.filled_price or Decimal(0)) * order.fill_volume + price * quantity
        order = evolve(
            order,
            fill_volume=done,
            filled_price=(spent / done).quantize(_AVERAGE_DIGITS, ROUND_HALF_EVEN),
            status=Status.FILLED if done == order.size else Status.OPEN,
            updated=at,
        )
        net = sum((trade.net for trade in trades), Decimal(0))
        account = self._account(book, order.account_id)
        account = evolve(account, balance=account.balance + net)
        book.realized_net += net

        for trade in trades:
            book.trades.put(trade.id, trade, self._visible(at))
        for position in positions:
            book.positions.put(contract.id, position, self._visible(at))
        book.account.put(account.id, account, self._visible(at))
        self._tell_fill(order, trades, again, positions, account, at, closes=bool(closing))
        if order.status is Status.FILLED:
            self._after_fill(book, order, at)

    def _trade(self, order: Order, size: int, price: Decimal, gross: Decimal | None, at: datetime) -> Trade:
        trade = Trade(
            id=self._next_trade_id,
            account_id=order.account_id,
            contract=order.contract,
            created=at,
            price=price,
            profit_and_loss=gross,
            fees=order.contract.fees * size,
            commissions=order.contract.commission * size,
            side=order.side,
            size=size,
            order_id=order.id,
        )
        self._next_trade_id += 1 + self._rng.randint(0, 40)
        return trade

    def _enlarged(self, before: Position | None, trade: Trade, order: Order) -> Position:
        change = order.side.sign * trade.size
        lot = (trade.id, trade.size)
        if before is not None and before.size:
            size = before.size + change
            cost = before.average_price * abs(before.size) + trade.price * trade.size
            average = (cost / abs(size)).quantize(_AVERAGE_DIGITS, ROUND_HALF_EVEN)
            return evolve(before, size=size, average_price=average, lots=(*before.lots, lot))
        position = Position(
            id=self._next_position_id,
            account_id=order.account_id,
            contract=order.contract,
            created=trade.created,
            size=change,
            average_price=trade.price,
            lots=(lot,),
        )
        self._next_position_id += 1 + self._rng.randint(0, 9)
        return position

    def _tell_fill(
        self,
        order: Order,
        trades: list[Trade],
        again: list[Trade],
        positions: list[Position],
        account: Account,
        at: datetime,
        *,
        closes: bool,
    ) -> None:
        tell = partial(self.outbox.tell_user, account_id=account.id)
        for part, offset_ms in sequence_of(order.type, closes=closes).parts:
            moment = at + milliseconds(offset_ms)
            match part:
                case Part.ORDER:
                    self._put_order(self.books[account.id], order, at, told_ms=offset_ms)
                case Part.TRADE:
                    for trade in trades:
                        tell("GatewayUserTrade", action=0, row=trade_row(trade, hub=True), at=moment)
                case Part.OPENING_AGAIN:
                    for trade in again:
                        row = trade_row(trade, hub=True, again=True)
                        tell("GatewayUserTrade", action=0, row=row, at=moment)
                case Part.POSITION:
                    for position in positions:
                        row = position_row(position, hub=True)
                        tell("GatewayUserPosition", action=1 if position.size else 2, row=row, at=moment)
                case Part.ACCOUNT:
                    tell("GatewayUserAccount", action=1, row=account_row(account), at=moment)
                    for _ in range(self._rng.randint(*self.options.account_repeats)):
                        repeat_at = moment + self._within(self.options.account_repeat_ms)
                        self.schedule(repeat_at, partial(self._tell_account, account.id))

    def _tell_account(self, account_id: int, at: datetime) -> None:
        row = account_row(self._account(self.books[account_id], account_id))
        self.outbox.tell_user("GatewayUserAccount", account_id, 1, row, at)

    def _after_fill(self, book: Book, order: Order, at: datetime) -> None:
        """Wake the legs of a filled entry; cancel the sibling of a filled leg."""
        for child in self._children(book, order.id):
            delay_ms = sequences.CHILD_ACTIVATED_MS[child.type is Type.LIMIT]
            self.schedule(at + milliseconds(delay_ms), partial(self._wake_child, book, child.id))
        if order.parent_id is None:
            return
        for sibling in self._children(book, order.parent_id):
            if sibling.id == order.id or not sibling.status.working:
                continue
            if self.faults.strikes("leg_left_behind", order.account_id, at):
                self.left_behind.add(sibling.id)
                continue
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
        assert parent.filled_price is not None
        assert child.bracket_ticks is not None
        price = _to_grid(parent.filled_price, child.contract) + child.bracket_ticks * child.contract.tick_size
        child = evolve(child, status=Status.OPEN, size=parent.fill_volume, updated=at)
        if child.type is Type.LIMIT:
            child = evolve(child, limit_price=price)
        elif child.type is Type.STOP:
            child = evolve(child, stop_price=price)
        else:
            self._trail_levels[child.id] = price
        self._put_order(self.books[child.account_id], child, at)
        self._try(child, self.markets[child.contract.id], at, arriving=True)

    # --- the firm's desk, and plain questions ---

    def set_account(
        self, account_id: int, now: datetime, *, can_trade: bool | None = None, balance: Decimal | None = None
    ) -> None:
        """Do what the firm's desk does, and tell the hub. Raises ``KeyError`` for an unknown account."""
        self.run(now)
        book = self.books[account_id]
        account = self._account(book, account_id)
        if can_trade is not None:
            account = evolve(account, can_trade=can_trade)
        if balance is not None:
            book.adjustments += balance - account.balance
            account = evolve(account, balance=balance)
        book.account.put(account_id, account, self._visible(now))
        self._tell_account(account_id, now)

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


def _to_grid(price: Decimal, contract: Contract) -> Decimal:
    return (price / contract.tick_size).quantize(Decimal(1), ROUND_HALF_EVEN) * contract.tick_size


def _take_lots(lots: tuple[tuple[int, int], ...], size: int) -> tuple[list[int], tuple[tuple[int, int], ...]]:
    """Take ``size`` contracts from the oldest lots; return the trades touched and what is left."""
    consumed: list[int] = []
    left: list[tuple[int, int]] = []
    for trade_id, count in lots:
        if size > 0:
            consumed.append(trade_id)
        taken = min(size, count)
        size -= taken
        if count > taken:
            left.append((trade_id, count - taken))
    return consumed, tuple(left)
