"""What an answer of the gateway means: done, refused, or unknown.

HTTP 200 is not success: the body's ``success`` and ``errorCode`` decide, and the numbers mean something else on each
endpoint. A refusal is only what is certain to have changed nothing: a documented code that says no, or an HTTP status
that is given at the door. Everything else is unknown and has to be read. A reading has no outcome: it is complete, or
an error that says whether the gateway could not be reached, said no, or said nothing that can be read.
``docs/outcomes.md`` has it all on one page.
Source: the gateway's OpenAPI description for the codes; which of them decide nothing is experience of its users.
"""

from __future__ import annotations

from collections.abc import Mapping

from flatguard.errors import GatewayUnreachable, UnreadableAnswer
from flatguard.model.outcomes import Done, Outcome, Refused, Unknown

PLACE = "/api/Order/place"
CANCEL = "/api/Order/cancel"
MODIFY = "/api/Order/modify"
CLOSE = "/api/Position/closeContract"
PARTIAL_CLOSE = "/api/Position/partialCloseContract"

ACCOUNTS = "/api/Account/search"
CONTRACTS = "/api/Contract/available"
CONTRACTS_NAMED = "/api/Contract/search"
CONTRACT = "/api/Contract/searchById"
BARS = "/api/History/retrieveBars"
ORDERS_MADE = "/api/Order/search"
ORDERS_OPEN = "/api/Order/searchOpen"
ORDERS = "/api/Order/v2/query"
ORDER = "/api/Order/searchById"
POSITIONS = "/api/Position/searchOpen"
TRADES = "/api/Trade/search"

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

READING_CODES: Mapping[str, Mapping[int, str]] = {
    ACCOUNTS: {},
    CONTRACTS: {},
    CONTRACTS_NAMED: {},
    CONTRACT: {1: "ContractNotFound"},
    BARS: {1: "ContractNotFound", 2: "UnitInvalid", 3: "UnitNumberInvalid", 4: "LimitInvalid"},
    ORDERS_MADE: {1: "AccountNotFound"},
    ORDERS_OPEN: {1: "AccountNotFound"},
    ORDERS: {1: "AccountNotFound"},
    ORDER: {1: "OrderNotFound"},
    POSITIONS: {1: "AccountNotFound"},
    TRADES: {1: "AccountNotFound"},
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


class TooManyRequests(GatewayUnreachable):
    """HTTP 429: the allowance is used up, by us or by others of this login. ``retry_after_s`` where it says when."""

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ReadingRefused(UnreadableAnswer):
    """The gateway has said no to a reading, with a code of its endpoint. It does not say that anything is empty."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


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


def readable(status: int, body: Mapping[str, object] | None, retry_after_s: float | None) -> Mapping[str, object]:
    """Return the body of an answer to a request that changes nothing; None where it is not an object.

    Raises GatewayUnreachable for what passes by itself, TooManyRequests for 429, else UnreadableAnswer.
    """
    if status == 429:
        raise TooManyRequests("the gateway answered with HTTP status 429", retry_after_s)
    if status >= 500 or status in {408, 425}:
        raise GatewayUnreachable(f"the gateway answered with HTTP status {status}")
    if status != 200:
        raise UnreadableAnswer(f"the gateway answered with HTTP status {status}")
    if body is None:
        raise UnreadableAnswer("the gateway's answer is not a JSON object")
    return body


def refuse_what_failed(path: str, body: Mapping[str, object]) -> None:
    """Raise ReadingRefused where a reading was answered by a code, UnreadableAnswer where it contradicts itself."""
    success, code = body.get("success"), body.get("errorCode")
    if type(code) is not int or success is not (code == 0):
        raise UnreadableAnswer(f"{path} contradicts itself (code {code!r:.20})")
    if code != 0:
        name = READING_CODES[path].get(code, "not documented")
        text = broker_text(body.get("errorMessage"))
        raise ReadingRefused(f"{path} answered with code {code}, {name}{text and f': {text}'}", code)


def broker_text(text: object) -> str:
    """Return what the broker wrote as one short printable line; empty where it is not text."""
    if not isinstance(text, str):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in text[:MAX_TEXT]).split())
