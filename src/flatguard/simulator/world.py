"""The broker as its callers meet it: orders taken, refused, changed and cancelled, positions closed, by codes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

from attrs import define, evolve, frozen

from flatguard.simulator import sequences
from flatguard.simulator.brackets import children, legs_of, tags_of
from flatguard.simulator.contracts import Contract
from flatguard.simulator.firm import Firm
from flatguard.simulator.outbox import milliseconds
from flatguard.simulator.refusals import (
    NO_MARGIN,
    NOT_TRADING,
    OUTSIDE,
    Edit,
    Ticket,
    bracket_objection,
    edit_objection,
    price_objection,
    trail_ticks,
)
from flatguard.simulator.state import Book, Order, Side, Status, Type


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


class World(Firm):
    """One broker with its exchange.

    Every method that takes ``now`` first lets happen what was due until then; ``now`` never goes back.
    """

    def place(self, ticket: Ticket, now: datetime, *, delay: timedelta | None = None, fails: bool = False) -> Answer:
        """Take an order, or refuse it with a code of Order/place.

        A refusal with code 2 or 3 leaves a record. With a ``delay`` an order that is not refused is answered by code 6,
        stays at status 6 for so long, and only then goes to the market, or ``fails`` and is rejected.
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
        self._put_order(book, entry if delay is None else evolve(entry, status=Status.PENDING), now)
        for leg in legs_of(entry, ticket):
            if leg.custom_tag is not None:
                book.tags.add(leg.custom_tag)
            self._put_order(book, leg, now, told_ms=sequences.CHILD_CREATED_MS[leg.type is Type.LIMIT])
        if delay is None:
            return Answer(self._send_to_market(book, entry, now), order_id=entry.id)
        decide = partial(self._end, book, entry.id, Status.REJECTED) if fails else partial(self._release, book, entry)
        self.schedule(now + delay, decide)
        return Answer(self.soon(now), 6)

    def _release(self, book: Book, entry: Order, at: datetime) -> None:
        """Have an order that was kept pending go to the market as ``entry``, unless it has ended meanwhile."""
        kept = book.orders.latest(entry.id)
        if kept is not None and kept.status is Status.PENDING:
            if entry.status is not Status.PENDING:
                self._put_order(book, evolve(entry, updated=at), at)
            self._send_to_market(book, entry, at)

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

    def _objection(
        self, book: Book, contract: Contract, ticket: Ticket, now: datetime
    ) -> tuple[int, str | None] | None:
        """Return code and text of the first thing that is wrong, in the order in which the gateway looks."""
        if not book.tags.isdisjoint(tags_of(ticket)):
            return 2, "Specified custom tag is already in use"
        if not self._takes_orders(contract, now):
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
        if self._opens_at_the_floor(book, contract, Side(ticket.side), ticket.size):
            return 3, None
        if self._exceeds_the_limit(book, contract, Side(ticket.side), ticket.size):
            return 2, NO_MARGIN
        return None

    def _opens_at_the_floor(self, book: Book, contract: Contract, side: Side, size: int) -> bool:
        """Tell whether an order opens something, be it by a reversal, while the account may open nothing."""
        floor, closable = book.setup.floor, max(0, -self._held(book, contract.id) * side.sign)
        return floor is not None and size > closable and self._account(book, book.setup.id).balance <= floor

    def _exceeds_the_limit(self, book: Book, contract: Contract, side: Side, more: int) -> bool:
        """Tell whether ``more`` contracts of an order let the account come to hold more, and too much."""
        limit = book.setup.max_minis
        if limit is None:
            return False
        reach = self._reach(book)
        before = _minis(reach)
        reach.setdefault(contract.id, _Reach(contract)).add(side, more)
        return before < _minis(reach) > limit

    def _reach(self, book: Book) -> dict[str, _Reach]:
        """Return how far each position can go if the orders that rest fill.

        Those that stand by a position or an entry do not count, nor do those of closeContract: they close.
        """
        reach: dict[str, _Reach] = {}
        for position in book.positions.rows():
            reach[position.contract.id] = _Reach(position.contract, position.size, -position.size)
        for working in self._working.values():
            for order in map(book.orders.latest, working):
                if order is None or order.parent_id is not None or order.protective or order.closing:
                    continue
                if not self._is_doomed(order):
                    reach.setdefault(order.contract.id, _Reach(order.contract)).add(order.side, order.remaining)
        return reach

    def _reject(self, book: Book, order: Order, now: datetime) -> None:
        self._put_order(book, evolve(order, status=Status.PENDING), now)
        self._spoken_for.add(order.id)
        self.schedule(now + milliseconds(sequences.REJECTED_MS), partial(self._end, book, order.id, Status.REJECTED))

    def cancel(self, account_id: int, order_id: int, now: datetime, *, by_hand: bool = False) -> Answer:
        """Cancel a working order; the children of an entry that never filled go with it.

        Codes of Order/cancel. ``by_hand``: on the platform, where followers and live accounts may too.
        """
        self.run(now)
        book = self.books.get(account_id)
        if book is None:
            return Answer(self.soon(now), 1)
        if book.setup.follower and not by_hand:
            return Answer(self.soon(now), 6, "Follower accounts cannot cancel orders")
        if not book.setup.simulated and not by_hand:
            return Answer(self.soon(now), 6, "Live accounts not supported")
        order = book.orders.latest(order_id)
        if order is None or not order.status.working or self._is_doomed(order):
            return Answer(self.soon(now), 2)
        fault = self.faults.strikes("slow_cancel", account_id, now) if order.status is Status.OPEN else None
        if fault is not None:
            self._put_order(book, evolve(order, status=Status.PENDING_CANCELLATION, updated=now), now)
            self.schedule(now + fault.delay(2), partial(self._end, book, order_id, Status.CANCELLED))
        elif order.status is not Status.PENDING_CANCELLATION:
            self._end(book, order_id, Status.CANCELLED, now)
        if self.options.cancel_takes_sibling and order.parent_id is not None:
            for sibling in children(book, order.parent_id):
                self._end(book, sibling.id, Status.CANCELLED, now)
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
        more = 0 if edit.size is None else edit.size - order.size
        if more > 0 and not self._account(book, account_id).can_trade:
            return Answer(self.soon(now), 6)
        market = self.markets[order.contract.id]
        objection = (
            NOT_TRADING
            if not self._takes_orders(order.contract, now)
            else edit_objection(order, edit, market, self.options)
        )
        if objection is None and more > 0 and self._is_too_much(book, order, more):
            objection = NO_MARGIN
        if objection is not None:
            return Answer(self.soon(now), 3, objection)
        changed = evolve(order, updated=now, size=order.size if edit.size is None else edit.size)
        if edit.limit_price is not None and order.limit_price is not None:
            changed = evolve(changed, limit_price=edit.limit_price)
        if edit.stop_price is not None and order.stop_price is not None:
            changed = evolve(changed, stop_price=edit.stop_price)
        if edit.trail_price is not None and order.type is Type.TRAILING_STOP:
            distance = trail_ticks(order.contract, market.last, edit.trail_price)
            sign = 1 if order.parent_id is None else order.side.sign  # that of a leg bears one, as all brackets do
            changed = evolve(changed, trail_ticks=sign * distance)
            self._start_trailing(changed)
        self._put_order(book, changed, now)
        self.schedule(now + self._within(self.options.execution_ms), partial(self._arrive, account_id, order_id))
        return Answer(self.soon(now))

    def _is_too_much(self, book: Book, order: Order, more: int) -> bool:
        return self._opens_at_the_floor(
            book, order.contract, order.side, order.remaining + more
        ) or self._exceeds_the_limit(book, order.contract, order.side, more)

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
        if self._has_expired(contract, now):
            return Answer(self.soon(now), codes["ContractNotActive"])
        if not self._takes_orders(contract, now):
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


@define
class _Reach:
    """How far a position can go either way, in contracts bought or sold."""

    contract: Contract
    long: int = 0
    short: int = 0

    def add(self, side: Side, size: int) -> None:
        if side is Side.BUY:
            self.long += size
        else:
            self.short += size


def _minis(reach: Mapping[str, _Reach]) -> Decimal:
    return sum((max(one.long, one.short) * one.contract.weight for one in reach.values()), Decimal(0))


_CLOSE_CODES = {"PositionNotFound": 2, "ContractNotFound": 3, "ContractNotActive": 4, "OrderRejected": 5}
_PARTIAL_CLOSE_CODES = {
    "PositionNotFound": 2,
    "ContractNotFound": 3,
    "ContractNotActive": 4,
    "InvalidCloseSize": 5,
    "OrderRejected": 6,
}
