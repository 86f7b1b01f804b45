"""How long what the broker refused is left alone: at the usual pace, rarer in a halt, until the opening when closed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from flatguard.enforcement.pace import (
    CLOSED_PAUSES_S,
    HALTED_PAUSES_S,
    REFUSED_PAUSES_S,
    market_opens_at,
    pause_after,
    sent_into_a_closed_market,
)
from flatguard.model.account import AccountState, Terms
from flatguard.model.ids import AccountId, ContractId
from flatguard.model.outcomes import Refused
from flatguard.shipped import shipped_calendar

MNQ = ContractId("CON.F.US.MNQ.Z26")
GUARDED = AccountState(AccountId(1), Terms(calendar=shipped_calendar()))
WITHOUT_CALENDAR = AccountState(AccountId(1))
MORNING = datetime(2026, 3, 18, 15, tzinfo=UTC)  # a Wednesday, 10:00 in Chicago
CLOSED = datetime(2026, 3, 20, 21, 30, tzinfo=UTC)  # Friday, 16:30
SUNDAY_OPENING = datetime(2026, 3, 22, 22, tzinfo=UTC)  # 17:00
NO = Refused(5, "OrderRejected")
HALTED = Refused(5, "OrderRejected: The instrument is not in an active trading status.")
NEVER_SENT = Refused(0, "no connection")


def test_the_calendar_says_when_a_closed_market_opens_and_nothing_of_an_open_one() -> None:
    assert market_opens_at(GUARDED, MNQ, CLOSED) == SUNDAY_OPENING
    assert market_opens_at(GUARDED, MNQ, MORNING) is None
    assert market_opens_at(GUARDED, MNQ, SUNDAY_OPENING) is None
    assert market_opens_at(WITHOUT_CALENDAR, MNQ, CLOSED) is None


@pytest.mark.parametrize(
    ("sent_at", "refused", "closed"),
    [
        (CLOSED, NO, True),
        (CLOSED, HALTED, True),
        (MORNING, HALTED, True),
        (MORNING, Refused(4, "ContractNotActive"), True),
        (MORNING, Refused(5, "OutsideTradingHours"), True),
        (MORNING, NO, False),
        (CLOSED, NEVER_SENT, False),
    ],
)
def test_a_refusal_is_the_closed_markets_by_the_calendar_or_by_its_text(
    sent_at: datetime, refused: Refused, closed: bool
) -> None:
    assert sent_into_a_closed_market(GUARDED, MNQ, sent_at, refused) is closed


@pytest.mark.parametrize(
    ("sent_at", "refused", "pauses", "opens"),
    [
        (MORNING, NO, REFUSED_PAUSES_S, None),
        (MORNING, HALTED, HALTED_PAUSES_S, None),
        (CLOSED, NO, CLOSED_PAUSES_S, SUNDAY_OPENING),
        (CLOSED, NEVER_SENT, REFUSED_PAUSES_S, None),
    ],
)
def test_tries_become_rarer_and_never_end(
    sent_at: datetime, refused: Refused, pauses: tuple[float, ...], opens: datetime | None
) -> None:
    waits = [pause_after(GUARDED, MNQ, sent_at, sent_at, refused, tries) for tries in range(len(pauses) + 3)]
    assert [wait.seconds for wait in waits] == [*pauses, *[pauses[-1]] * 3]
    assert {wait.market_opens_at for wait in waits} == {opens}


@pytest.mark.parametrize("before_s", [-1.0, 0.0, 0.5, 3.0])
def test_no_pause_outlasts_the_opening(before_s: float) -> None:
    sent_at, now = SUNDAY_OPENING - timedelta(seconds=4), SUNDAY_OPENING - timedelta(seconds=before_s)
    assert pause_after(GUARDED, MNQ, sent_at, now, NO, 4).seconds == max(0, before_s)
