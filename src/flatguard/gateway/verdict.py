"""What an answer of the gateway means: done, refused, or unknown.

HTTP 200 is not success: the body's ``success`` and ``errorCode`` decide, and the numbers mean something else on each
endpoint. A refusal is only what is certain to have changed nothing; everything else is unknown and has to be read.
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

UNDECIDED = {
    PLACE: frozenset({6, 7}),
    CANCEL: frozenset({4, 5}),
    MODIFY: frozenset({4, 5}),
    CLOSE: frozenset({6, 7}),
    PARTIAL_CLOSE: frozenset({7, 8}),
}


def verdict(path: str, status: int, body: Mapping[str, object] | None, retry_after_s: float | None) -> Outcome:
    """Return what the answer to a request that changes something means. ``body`` is None where it is not an object."""
    if status in {401, 403}:
        return Refused(status, "the token was not accepted")
    if status in {400, 404, 405}:
        return Refused(status, "the gateway did not understand the request")
    if status != 200:
        return Unknown(f"the gateway answered with HTTP status {status}", retry_after_s)
    if body is None:
        return Unknown("the answer cannot be read")
    success, code, text = body.get("success"), body.get("errorCode"), body.get("errorMessage")
    order_id = body.get("orderId")
    if success is True and code == 0:
        if path == PLACE and not isinstance(order_id, int):
            return Unknown("the order was accepted without an id")
        return Done(order_id if isinstance(order_id, int) else None)
    if success is not False or not isinstance(code, int) or isinstance(code, bool) or code == 0:
        return Unknown("the answer contradicts itself")
    name = CODES[path].get(code)
    if name is None:
        return Unknown(f"the gateway answered with a code that is not documented: {code}")
    reason = f"{name}: {text}" if isinstance(text, str) and text else name
    return Unknown(reason) if code in UNDECIDED[path] else Refused(code, reason)
