"""What a firm and its platform do by themselves: busts, locks, liquidation, protective orders, accounts begun anew.

Known: the firm's own liquidation looks like ordinary orders and trades plus ``canTrade: false``; orders attached by
the platform bear neither parent nor tag; a restarted account comes back under a new id, the old one hidden. Inferred:
open profit and loss is taken at last prices, the lock comes before the cancels and those before the closes, and
attached orders follow a position within the time that a sibling takes to go.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from functools import partial

from attrs import evolve, field, frozen

from flatguard.simulator import sequences
from flatguard.simulator.brackets import protection
from flatguard.simulator.contracts import Contract
from flatguard.simulator.exchange import Exchange
from flatguard.simulator.outbox import milliseconds
from flatguard.simulator.rows import trade_row
from flatguard.simulator.sessions import FRIDAY_REFUSALS, next_opening
from flatguard.simulator.state import Account, Book, Order, Status, Trade


@frozen
class Cleared:
    """What a flattening does: the orders that it has cancelled, and the contracts that it closes, or has to leave."""

    cancelled: list[Order] = field(factory=list)
    closing: list[Contract] = field(factory=list)
    left: list[Contract] = field(factory=list)


class Firm(Exchange):
    """An exchange with a firm that watches its accounts."""

    def _after_change(self, book: Book, contract_id: str, at: datetime) -> None:
        """Have protective orders follow a position that has changed, and see that the account is not at its floor."""
        if book.setup.protection is not None:
            position = book.positions.latest(contract_id)
            if position is None or not position.size:  # no attached order may open anything
                self._spoken_for.update(order.id for order in self._attached(book, contract_id))
            self.schedule(at + self._within(self.options.oco_ms), partial(self._protect, book, contract_id))
        if book.setup.liquidates:
            self._guard_floor(book, at)

    def _after_move(self, contract_id: str, at: datetime) -> None:
        for book in self.books.values():
            if book.setup.liquidates and self._held(book, contract_id):
                self._guard_floor(book, at)

    def _after_trade(self, book: Book, trade: Trade, at: datetime) -> None:
        if fault := self.faults.strikes("void_trade", trade.account_id, at):
            self.schedule(at + fault.delay(5), partial(self._void, book, trade.id))

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

    def _guard_floor(self, book: Book, at: datetime) -> None:
        """Where the account has touched its floor, lock it, cancel everything and close everything."""
        account_id, floor = book.setup.id, book.setup.floor
        account = self._account(book, account_id)
        if floor is None or not account.can_trade or self._equity(book) > floor:
            return
        book.account.put(account_id, evolve(account, can_trade=False), self._visible(at))
        self._tell_account(account_id, at)
        self._liquidate(book, at)

    def _liquidate(self, book: Book, at: datetime) -> None:
        """Cancel and close everything of a locked account; what does not trade now, when it does again."""
        if self._account(book, book.setup.id).can_trade:
            return
        for contract in self._clear(book, at).left:
            if not self._has_expired(contract, at):
                again = next_opening(at + FRIDAY_REFUSALS, contract.ticker)
                self.schedule(again, partial(self._liquidate, book))

    def flatten(self, account_id: int, now: datetime) -> Cleared:
        """Do what the platform's own button does: cancel everything, close everything that trades now (assumed).

        Raises ``KeyError`` for an unknown account.
        """
        self.run(now)
        return self._clear(self.books[account_id], now)

    def _clear(self, book: Book, at: datetime) -> Cleared:
        done = Cleared()
        for order in list(book.orders.rows()):
            if order.status.working and not order.closing and not self._is_doomed(order):
                self._end(book, order.id, Status.CANCELLED, at)
                done.cancelled.append(order)
        for position in list(book.positions.rows()):
            if not position.size:
                continue
            if not self._takes_orders(position.contract, at):
                done.left.append(position.contract)
                continue
            order = self._closing_order(book.setup.id, position.contract, position.size, None, at)
            self._put_order(book, order, at)
            self._send_to_market(book, order, at)
            done.closing.append(position.contract)
        return done

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
        self._after_change(book, trade.contract.id, at)
        return voided

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
        if balance is not None and book.setup.liquidates:
            self._guard_floor(book, now)

    def restart_account(self, account_id: int, now: datetime) -> Account:
        """Have the firm begin an account anew: the old one is dead and hidden, the new one has another id.

        What the old one held stays as it was. Raises ``KeyError`` for an unknown account.
        """
        self.run(now)
        old = self.books[account_id]
        new_id = max(self.books) + 1 + self._rng.randint(0, 40)
        kind, _, _ = old.setup.name.rpartition("-")  # what stands before the number tells the kind of account
        self._open_account(old.user, evolve(old.setup, id=new_id, name=f"{kind}-{new_id:08d}"))
        self.set_account(account_id, now, can_trade=False, visible=False)
        self._tell_account(new_id, now)
        return self.account(new_id)
