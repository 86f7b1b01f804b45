"""Every code of every request that changes something, and every other way in which it can be answered."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.gateway.verdict import CANCEL, CLOSE, CODES, MODIFY, PARTIAL_CLOSE, PLACE, verdict
from flatguard.model.outcomes import Done, Outcome, Refused, Unknown

REFUSED, UNKNOWN = "refused", "unknown"

TABLE = [
    (PLACE, 1, "AccountNotFound", REFUSED),
    (PLACE, 2, "OrderRejected", REFUSED),
    (PLACE, 3, "InsufficientFunds", REFUSED),
    (PLACE, 4, "AccountViolation", REFUSED),
    (PLACE, 5, "OutsideTradingHours", REFUSED),
    (PLACE, 6, "OrderPending", UNKNOWN),
    (PLACE, 7, "UnknownError", UNKNOWN),
    (PLACE, 8, "ContractNotFound", REFUSED),
    (PLACE, 9, "ContractNotActive", REFUSED),
    (PLACE, 10, "AccountRejected", REFUSED),
    (CANCEL, 1, "AccountNotFound", REFUSED),
    (CANCEL, 2, "OrderNotFound", REFUSED),
    (CANCEL, 3, "Rejected", REFUSED),
    (CANCEL, 4, "Pending", UNKNOWN),
    (CANCEL, 5, "UnknownError", UNKNOWN),
    (CANCEL, 6, "AccountRejected", REFUSED),
    (MODIFY, 1, "AccountNotFound", REFUSED),
    (MODIFY, 2, "OrderNotFound", REFUSED),
    (MODIFY, 3, "Rejected", REFUSED),
    (MODIFY, 4, "Pending", UNKNOWN),
    (MODIFY, 5, "UnknownError", UNKNOWN),
    (MODIFY, 6, "AccountRejected", REFUSED),
    (MODIFY, 7, "ContractNotFound", REFUSED),
    (CLOSE, 1, "AccountNotFound", REFUSED),
    (CLOSE, 2, "PositionNotFound", REFUSED),
    (CLOSE, 3, "ContractNotFound", REFUSED),
    (CLOSE, 4, "ContractNotActive", REFUSED),
    (CLOSE, 5, "OrderRejected", REFUSED),
    (CLOSE, 6, "OrderPending", UNKNOWN),
    (CLOSE, 7, "UnknownError", UNKNOWN),
    (CLOSE, 8, "AccountRejected", REFUSED),
    (PARTIAL_CLOSE, 1, "AccountNotFound", REFUSED),
    (PARTIAL_CLOSE, 2, "PositionNotFound", REFUSED),
    (PARTIAL_CLOSE, 3, "ContractNotFound", REFUSED),
    (PARTIAL_CLOSE, 4, "ContractNotActive", REFUSED),
    (PARTIAL_CLOSE, 5, "InvalidCloseSize", REFUSED),
    (PARTIAL_CLOSE, 6, "OrderRejected", REFUSED),
    (PARTIAL_CLOSE, 7, "OrderPending", UNKNOWN),
    (PARTIAL_CLOSE, 8, "UnknownError", UNKNOWN),
    (PARTIAL_CLOSE, 9, "AccountRejected", REFUSED),
]
ENDPOINTS = [PLACE, CANCEL, MODIFY, CLOSE, PARTIAL_CLOSE]

every_endpoint = pytest.mark.parametrize("path", ENDPOINTS)


def answered(path: str, **body: object) -> Outcome:
    """Return the verdict on an ordinary answer with this body."""
    return verdict(path, 200, body, None)


def refused_with(code: object, text: object = None) -> Mapping[str, object]:
    return {"success": False, "errorCode": code, "errorMessage": text}


def unknown(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown)


@pytest.mark.parametrize(("path", "code", "name", "expected"), TABLE)
def test_every_documented_code_refuses_or_decides_nothing(path: str, code: int, name: str, expected: str) -> None:
    outcome = verdict(path, 200, refused_with(code), None)
    assert outcome == (Refused(code, name) if expected == REFUSED else Unknown(name))


@pytest.mark.parametrize(("path", "code", "name", "expected"), TABLE)
def test_the_brokers_text_stands_behind_the_name_of_its_code(path: str, code: int, name: str, expected: str) -> None:
    outcome = verdict(path, 200, refused_with(code, "Not enough margin."), None)
    assert isinstance(outcome, Refused | Unknown)
    assert outcome.reason == f"{name}: Not enough margin."


def test_the_table_holds_every_code_that_is_known() -> None:
    assert {(path, code, name) for path, codes in CODES.items() for code, name in codes.items()} == {
        row[:3] for row in TABLE
    }


@pytest.mark.parametrize("path", [CANCEL, MODIFY, CLOSE, PARTIAL_CLOSE])
def test_success_without_an_id_is_done_where_none_is_promised(path: str) -> None:
    assert answered(path, success=True, errorCode=0, errorMessage=None) == Done(None)


def test_a_placed_order_is_done_with_its_id() -> None:
    assert answered(PLACE, orderId=3408995735, success=True, errorCode=0, errorMessage=None) == Done(3408995735)


@pytest.mark.parametrize("order_id", [None, 0, -1, True, False, "", "abc", 12.5, Decimal("12.5"), {}, []])
def test_an_order_accepted_without_a_usable_id_is_unknown(order_id: object) -> None:
    assert unknown(answered(PLACE, orderId=order_id, success=True, errorCode=0, errorMessage=None))


def test_an_order_accepted_without_any_id_is_unknown() -> None:
    assert unknown(answered(PLACE, success=True, errorCode=0, errorMessage=None))


def test_a_refused_order_stays_refused_although_it_bears_an_id() -> None:
    text = "Invalid stop loss ticks (1). Price should be at least 4 ticks away."
    body = {"orderId": 2935091141, **refused_with(2, text)}
    assert verdict(PLACE, 200, body, None) == Refused(2, f"OrderRejected: {text}")


@every_endpoint
@pytest.mark.parametrize("code", [-1, 11, 99, 401, 2**40])
def test_a_code_that_is_not_documented_decides_nothing(path: str, code: int) -> None:
    outcome = verdict(path, 200, refused_with(code, "Brand new reason"), None)
    assert isinstance(outcome, Unknown)
    assert str(code) in outcome.reason
    assert "Brand new reason" in outcome.reason


@every_endpoint
@pytest.mark.parametrize(
    "body",
    [
        {"success": True, "errorCode": 2},
        {"success": False, "errorCode": 0},
        {"success": True},
        {"success": True, "errorCode": None},
        {"success": True, "errorCode": False},
        {"success": True, "errorCode": Decimal("0.5")},
        {"success": False},
        {"success": False, "errorCode": None},
        {"success": False, "errorCode": True},
        {"success": False, "errorCode": "2"},
        {"success": False, "errorCode": Decimal("2.5")},
        {"success": None, "errorCode": 0},
        {"success": 1, "errorCode": 0},
        {"success": "true", "errorCode": 0},
        {"success": 0, "errorCode": 1},
        {"errorCode": 1},
        {},
    ],
    ids=str,
)
def test_an_answer_that_contradicts_itself_is_unknown(path: str, body: Mapping[str, object]) -> None:
    assert unknown(verdict(path, 200, {"orderId": 1, **body}, None))


@every_endpoint
def test_an_answer_that_cannot_be_read_is_unknown(path: str) -> None:
    assert unknown(verdict(path, 200, None, None))


@every_endpoint
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 415, 422])
def test_what_was_turned_away_at_the_door_is_refused(path: str, status: int) -> None:
    outcome = verdict(path, status, None, None)
    assert isinstance(outcome, Refused)
    assert outcome.code == status


@every_endpoint
@pytest.mark.parametrize("status", [201, 202, 204, 301, 302, 307, 308, 402, 408, 409, 410, 418, 421, 425, 429, 451])
def test_any_other_status_below_500_is_unknown(path: str, status: int) -> None:
    assert unknown(verdict(path, status, None, None))


@every_endpoint
@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 520, 522, 524, 599])
@pytest.mark.parametrize("body", [None, {"orderId": 1, "success": True, "errorCode": 0}, refused_with(1)], ids=str)
def test_a_failure_of_the_server_is_unknown_whatever_its_body_says(
    path: str, status: int, body: Mapping[str, object] | None
) -> None:
    assert unknown(verdict(path, status, body, None))


@every_endpoint
@pytest.mark.parametrize("status", [408, 429, 503])
def test_the_wait_that_was_asked_for_is_kept(path: str, status: int) -> None:
    outcome = verdict(path, status, None, 17.0)
    assert isinstance(outcome, Unknown)
    assert outcome.retry_after_s == 17.0


@every_endpoint
def test_the_text_of_the_broker_is_cut_to_one_printable_line(path: str) -> None:
    outcome = verdict(path, 200, refused_with(1, "\x1b[2J " + "no\r\n\t way " * 1_000 + "\x00"), None)
    assert isinstance(outcome, Refused)
    assert outcome.reason.isprintable()
    assert outcome.reason.startswith("AccountNotFound: [2J no way no way")
    assert len(outcome.reason) < 300


json_values = (
    st.none() | st.booleans() | st.integers() | st.decimals() | st.text(max_size=9) | st.just([1]) | st.just({})
)


@given(
    path=st.sampled_from(ENDPOINTS),
    status=st.integers(100, 599) | st.just(200),
    body=st.none()
    | st.fixed_dictionaries(
        {},
        optional={
            "success": st.booleans() | json_values,
            "errorCode": st.integers(0, 12) | json_values,
            "errorMessage": json_values,
            "orderId": json_values,
        },
    ),
)
def test_nothing_is_done_or_refused_without_plain_words(
    path: str, status: int, body: Mapping[str, object] | None
) -> None:
    match verdict(path, status, body, None):
        case Done(order_id):
            assert status == 200
            assert body is not None
            assert body["success"] is True
            assert type(body["errorCode"]) is int
            assert body["errorCode"] == 0
            assert order_id is None or (type(order_id) is int and order_id > 0)
            assert path != PLACE or order_id is not None
        case Refused(code, reason):
            assert reason
            if status == 200:
                assert body is not None
                assert body["success"] is False
                assert (path, code) in {row[:2] for row in TABLE if row[3] == REFUSED}
            else:
                assert 400 <= status < 500
        case Unknown(reason):
            assert reason
