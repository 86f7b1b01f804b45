"""What an answer of the gateway means: done, refused, or unknown.

HTTP 200 is not success: the body's ``success`` and ``errorCode`` decide, and the numbers mean something else on each
endpoint. A refusal is only what is certain to have changed nothing: a documented code that says no, or an HTTP status
that is given at the door. Everything else is unknown and has to be read. ``docs/outcomes.md`` has it all on one page.
Source: the gateway's OpenAPI description for the codes; which of them decide nothing is experience of its users.
"""

from __future__ import annotations

from collections.abc import Mapping

from flatguard.model.outcomes import Done, Outcome, Refused, Unknown

PLACE = "/api/Order/place"
CANCEL = "/api/Order/cancel"
MODIFY = "/api/Order/modify"
CLOSE = "/api/Position/closeContract"
PARTIAL_CLOSE = "/api/Position/partialCloseContract"

CODES: Mapping[str, Mapping[int, str]] = {
    PLACE: {
        1: "AccountNotFound",
        2: "OrderRejected",
        3: "InsufficientFunds",
        4: "AccountViolation",
        5: "OutsideTradingHours",
        6: "OrderPending",
        7: "UnknownError",
        8: "ContractNotFound",
        9: "ContractNotActive",
        10: "AccountRejected",
    },
    CANCEL: {
        1: "AccountNotFound",
        2: "OrderNotFound",
        3: "Rejected",
        4: "Pending",
        5: "UnknownError",
        6: "AccountRejected",
    },
    MODIFY: {
        1: "AccountNotFound",
        2: "OrderNotFound",
        3: "Rejected",
        4: "Pending",
        5: "UnknownError",
        6: "AccountRejected",
        7: "ContractNotFound",
    },
    CLOSE: {
        1: "AccountNotFound",
        2: "PositionNotFound",
        3: "ContractNotFound",
        4: "ContractNotActive",
        5: "OrderRejected",
        6: "OrderPending",
        7: "UnknownError",
        8: "AccountRejected",
    },
    PARTIAL_CLOSE: {
        1: "AccountNotFound",
        2: "PositionNotFound",
        3: "ContractNotFound",
        4: "ContractNotActive",
        5: "InvalidCloseSize",
        6: "OrderRejected",
        7: "OrderPending",
        8: "UnknownError",
        9: "AccountRejected",
    },
}

MAX_TEXT = 200  # its longest sentence seen is about half of that

UNDECIDED: Mapping[str, frozenset[int]] = {
    PLACE: frozenset({6, 7}),
    CANCEL: frozenset({4, 5}),
    MODIFY: frozenset({4, 5}),
    CLOSE: frozenset({6, 7}),
    PARTIAL_CLOSE: frozenset({7, 8}),
}


NOT_SENT = 0
"""The code of a refusal that is not the broker's: the request never left. It tells nothing about the account."""

TURNED_AWAY: Mapping[int, str] = {
    401: "the token was not accepted",
    403: "the gateway does not let us in from here",
    **dict.fromkeys((400, 404, 405, 415, 422), "the gateway did not understand the request"),
}
"""The HTTP statuses that are given at the door, before anything is carried out. No other status is certain."""


def verdict(path: str, status: int, body: Mapping[str, object] | None, retry_after_s: float | None) -> Outcome:
    """Return what the answer to a request that changes something means. ``body`` is None where it is not an object."""
    if status in TURNED_AWAY:
        return Refused(status, TURNED_AWAY[status])
    if status != 200:
        return Unknown(f"the gateway answered with HTTP status {status}", retry_after_s)
    if body is None:
        return Unknown("the answer cannot be read")
    success, code = body.get("success"), body.get("errorCode")
    if type(code) is not int or success is not (code == 0):
        return Unknown("the answer contradicts itself")
    if code == 0:
        return _done(path, body.get("orderId"))
    name = CODES[path].get(code)
    text = broker_text(body.get("errorMessage"))
    if name is None:
        return Unknown(f"the gateway answered with a code that is not documented: {code}{text and f' ({text})'}")
    reason = f"{name}: {text}" if text else name
    return Unknown(reason) if code in UNDECIDED[path] else Refused(code, reason)


def _done(path: str, order_id: object) -> Outcome:
    if type(order_id) is int and order_id > 0:
        return Done(order_id)
    return Unknown("the order was accepted without an id") if path == PLACE else Done()


def broker_text(text: object) -> str:
    """Return what the broker wrote as one short printable line; empty where it is not text."""
    if not isinstance(text, str):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:MAX_TEXT]).split())
