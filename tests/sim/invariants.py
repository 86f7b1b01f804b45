"""The promises, as functions that name what is wrong with a moment. Each says its promise in its own words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.sim.observer import View

Invariant = Callable[[View], Iterator[str]]

AT_ONCE_S = 4.0  # with the broker's own lag, execution and the second that its lists trail behind
RACE_S = 4.0
RECONCILED_S = 12.0
BLIND_S = 75.0

SENDS = ("/api/Order/place", "/api/Order/modify")
CLOSES = ("/api/Position/closeContract", "/api/Position/partialCloseContract")


def locked_means_flat(view: View) -> Iterator[str]:
    """P1. Under a hard lockout the account has no position and no working order; whatever appears is closed at once."""
    for account in view.accounts:
        locks = view.hard_locks(account)
        open_ = (view.sizes(account), sorted(view.working(account)))
        if view.lasted(f"locked {account}", locks and any(open_), AT_ONCE_S):
            yield f"account {account} is locked by {locks} and holds {open_[0]}, orders {open_[1]}"


def never_worse(view: View) -> Iterator[str]:
    """P2. No request of ours raises a position or turns it around; what a race leaves in excess is gone within 2 s."""
    for account in view.accounts:
        book = view.double.books[account]
        seen = view.memory.setdefault(f"fills {account}", {"count": 0, "sizes": {}, "worse": {}})
        fills = list(book.trades.rows())
        for fill in fills[seen["count"] :]:
            contract, signed = fill.contract.id, fill.size * (-1 if fill.side == 1 else 1)
            before = seen["sizes"].get(contract, 0)
            seen["sizes"][contract] = after = before + signed
            order = book.orders.latest(fill.order_id)
            if order is not None and order.closing and (abs(after) > abs(before) or after * before < 0):
                seen["worse"][contract] = f"close {order.id} made {before:+d} of {contract} {after:+d}"
        seen["count"] = len(fills)
        for contract, what in list(seen["worse"].items()):
            if not view.sizes(account).get(contract):
                del seen["worse"][contract]
            elif view.lasted(f"worse {account} {contract}", True, RACE_S) and not view.memory.get("trader moved"):
                yield what
        for order in view.working(account).values():
            tag = order.custom_tag or ""
            if tag.startswith("flatguard") and int(order.type) not in {3, 4, 5}:
                yield f"our order {order.id} is no stop"


def exits_are_never_blocked(view: View) -> Iterator[str]:
    """P3. Nothing stands between a breach and the close that it calls for."""
    sent = view.memory.setdefault("closes asked", {})
    for id_, account, rule, decisions, at in view.decisions():
        kinds = {decision["_type"] for decision in decisions}
        if not kinds & {"Flatten", "CloseContract"} or sent.get((account, id_)):
            continue
        asked = view.rows("SELECT 1 FROM step WHERE account = ? AND breaches LIKE ? LIMIT 1", account, f'%"{id_}"%')
        proven = view.rows("SELECT 1 FROM proof WHERE account = ? AND breaches LIKE ? LIMIT 1", account, f'%"{id_}"%')
        if asked or proven:
            sent[account, id_] = True
        elif view.lasted(f"unasked {account} {id_}", _still_open(view, account, decisions), 10.0):
            yield f"breach {id_} of {rule} at {at:%H:%M:%S} calls for {sorted(kinds)}, and nothing was asked"


def _still_open(view: View, account: int, decisions: list[Any]) -> bool:
    """Whether anything is open that the decisions want closed. What was closed by hand need not be asked for."""
    named = {decision["contract_id"] for decision in decisions if decision["_type"] == "CloseContract"}
    return bool(named & view.sizes(account).keys() if named else view.sizes(account))


def unknown_is_not_refused(view: View) -> Iterator[str]:
    """P4. A lost answer is resolved by reading, never by repeating."""
    requests = view.requests
    start = view.memory.get("requests judged", 0)
    open_ones: dict[tuple[int, str], int] = view.memory.setdefault("unanswered", {})
    for number in range(start, len(requests)):
        request = requests[number]
        outcome, body = request["outcome"], request["body"] or {}
        if "status" not in outcome:  # still under way: look at it, and at all after it, the next time
            view.memory["requests judged"] = number
            return
        key = (body.get("accountId", 0), body.get("contractId", ""))
        if request["path"] == "/api/Position/partialCloseContract":
            if key in open_ones and open_ones[key] < 2:
                yield f"partial close of {key} asked again after a lost answer and {open_ones[key]} readings"
            open_ones.pop(key, None)
            if outcome["status"] is None or outcome["status"] >= 500 or outcome.get("errorCode") in {7, 8}:
                open_ones[key] = 0
        elif request["path"] == "/api/Position/searchOpen" and outcome["status"] == 200:
            for known in open_ones:
                if known[0] == key[0]:
                    open_ones[known] += 1
    view.memory["requests judged"] = len(requests)


def the_books_agree(view: View) -> Iterator[str]:
    """P5. Nothing is lost, nothing counts twice: realised P&L equals the broker's own trades to the cent."""
    for account, claim in view.claims.items():
        known, true = claim["realized_pnl"], view.net_today(account)
        wrong = known is None or Decimal(known) != true
        if view.lasted(f"books {account}", wrong, RECONCILED_S):
            yield f"account {account}: realised {known}, the broker has {true}"
        sizes = {row["contract_id"]: row["size"] for row in claim["positions"]}
        if view.lasted(f"picture {account}", sizes != view.sizes(account), RECONCILED_S):
            yield f"account {account}: positions {sizes}, the broker has {view.sizes(account)}"
        orders = {row["id"] for row in claim["working_orders"]}
        if view.lasted(f"orders {account}", orders != view.working(account).keys(), RECONCILED_S):
            yield f"account {account}: orders {sorted(orders)}, the broker has {sorted(view.working(account))}"


def a_restart_changes_nothing(view: View) -> Iterator[str]:
    """P6. After the next start the lockouts are what they would have been."""
    for account in view.accounts:
        now = {(rule, until) for rule, until in view.hard_locks(account)}
        before = view.memory.get(f"locks {account}", set())
        for rule, until in before - now:
            longer = [end for other, end in now if other == rule and (end is None or (until and end >= until))]
            over = until is not None and datetime.fromisoformat(until) <= view.now
            ends_by_condition = until is None and rule in {"auth_loss_guard", "symbol_blocks"}
            if not longer and not over and not ends_by_condition and view.journal.exists():
                yield f"the lock of {rule} until {until} on account {account} is gone at {view.now:%H:%M:%S}"
        view.memory[f"locks {account}"] = now


def enabled_means_alive(view: View) -> Iterator[str]:
    """P7. What cannot guard does not claim to: PROTECTED is never said of an account that is not seen."""
    for account, claim in view.claims.items():
        if claim["protection"] != "PROTECTED":
            view.memory.pop(f"unseen {account}", None)
            continue
        read = claim["read_at"]
        age = (view.now - datetime.fromisoformat(read)).total_seconds() if read else None
        if age is None or age > BLIND_S:
            yield f"account {account} is called PROTECTED, and was last read {age} s ago"


def no_secret_leaves(view: View) -> Iterator[str]:
    """P10. Keys and tokens appear in nothing that is said."""
    for line in view.said[view.memory.get("lines read", 0) :]:
        if any(secret in line for secret in view.secrets):
            yield f"a secret was said: {line[:80]}"
    view.memory["lines read"] = len(view.said)


def within_the_limit(view: View) -> Iterator[str]:
    """Once the faults stop, the account reaches the decided state within seconds: no more contracts than allowed."""
    limit = view.limits.get("max_contracts")
    for account in view.accounts if limit else ():
        held = sum(map(abs, view.sizes(account).values()))
        if view.lasted(f"limit {account}", held > limit, AT_ONCE_S + 2):
            yield f"account {account} holds {held} contracts, the limit is {limit}"


def lost_enough_is_locked(view: View) -> Iterator[str]:
    """Once the faults stop: a day that has lost the limit is locked."""
    limit = view.limits.get("daily_realized_loss")
    for account in view.accounts if limit else ():
        lost = view.net_today(account) <= -limit
        if view.lasted(f"loss {account}", lost and not view.hard_locks(account), RECONCILED_S):
            yield f"account {account} has made {view.net_today(account)} today, the limit is {limit}: no lock"


def protected_again(view: View) -> Iterator[str]:
    """Once the faults stop, guarding is back within seconds and says so."""
    for account, claim in view.claims.items():
        fine = claim["protection"] == "PROTECTED" and claim["durable"]
        if view.lasted(f"claim {account}", not fine, 75.0):
            yield f"account {account} is {claim['protection']}: {claim['reason']}"


def the_daemon_runs(view: View) -> Iterator[str]:
    """It does not exit for what may pass."""
    if view.memory.get("ended by itself"):
        yield f"the daemon has ended: {view.memory['ended by itself']}"


INVARIANTS: tuple[Invariant, ...] = (
    locked_means_flat,
    never_worse,
    exits_are_never_blocked,
    unknown_is_not_refused,
    the_books_agree,
    a_restart_changes_nothing,
    enabled_means_alive,
    no_secret_leaves,
    within_the_limit,
    lost_enough_is_locked,
    protected_again,
    the_daemon_runs,
)
