"""What a person reads of a decision, a lock and a replay."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flatguard.reports.telling import (
    both_clocks,
    end_state,
    history_line,
    left,
    lockout_lines,
    otherwise_lines,
    replay_lines,
    why_lines,
)

CHICAGO = ZoneInfo("America/Chicago")
NOON = datetime(2026, 3, 18, 17, 0, tzinfo=UTC)

LOCK = {
    "scope": "account",
    "kind": "hard",
    "condition": "",
    "until": "2026-03-18T22:00:00Z",
    "in_force": True,
    "standing": "in force",
}
STORY: dict[str, Any] = {
    "id": "a1b2c3d4e5f60718",
    "account": 25700001,
    "rule": "daily_realized_loss",
    "at": "2026-03-18T17:00:00.250000Z",
    "reason": "Realised loss: -$510.00, limit -$500.00",
    "cause": "trade 7",
    "event": {
        "row": 12,
        "kind": "TradeMade",
        "text": "MNQZ6, size 2",
        "broker_at": "2026-03-18T17:00:00.200000Z",
        "received_at": "2026-03-18T17:00:00.250000Z",
        "age_ms": 50,
    },
    "figures": [{"name": "limit", "value": "-$500.00"}, {"name": "realised, as judged", "value": "-$510.00"}],
    "sources": [{"name": "user hub", "value": "up for 3.0 s"}],
    "settings": {
        "version": "0a1b2c3d",
        "file": "/etc/config.toml",
        "mode": "enforce",
        "run": 3,
        "run_started_at": "2026-03-18T14:00:00Z",
        "flatguard": "0.1.0",
        "rule": {
            "loss_limit": {"value": "500", "from": "file:12"},
            "combined": {"value": True, "from": "default"},
            "weights": {"value": {}, "from": ""},
        },
    },
    "wanted": ["no position in the account, and no working order"],
    "requests": [
        {
            "action": "partial_close",
            "contract": "MNQZ6",
            "detail": "1 of 2",
            "sent_at": "2026-03-18T17:00:00.253000Z",
            "answered_at": "2026-03-18T17:00:00.300000Z",
            "outcome": "done",
            "reason": "",
            "after_ms": 3,
            "took_ms": 47,
        },
        {
            "action": "cancel",
            "contract": "MNQZ6",
            "detail": "order 9",
            "sent_at": "2026-03-18T17:00:00.254000Z",
            "answered_at": "2026-03-18T17:00:01.300000Z",
            "outcome": "refused",
            "reason": "no",
            "after_ms": 4,
            "took_ms": 1046,
        },
    ],
    "reached_at": "2026-03-18T17:00:00.400000Z",
    "reached_ms": 150,
    "proven_at": "2026-03-18T17:00:01.500000Z",
    "proven_ms": 1250,
    "locks": [LOCK],
    "led_to": [{"id": "ffff", "at": "2026-03-18T17:10:00Z", "reason": "locked by daily_realized_loss"}],
}


def told(**changes: Any) -> list[str]:
    return list(why_lines({**STORY, **changes}, CHICAGO))


def test_a_decision_is_told_from_the_event_to_the_proof() -> None:
    assert told() == [
        "daily_realized_loss, account 25700001, decision a1b2c3d4e5f60718",
        "  Realised loss: -$510.00, limit -$500.00",
        "",
        "Found      Wed 2026-03-18 12:00:00.250 CDT (17:00:00.250Z)",
        "After      TradeMade (row 12 of the tape): MNQZ6, size 2",
        "           by the broker Wed 2026-03-18 12:00:00.200 CDT (17:00:00.200Z)",
        "           received      Wed 2026-03-18 12:00:00.250 CDT (17:00:00.250Z), 50 ms later",
        "Figures",
        "  limit                -$500.00",
        "  realised, as judged  -$510.00",
        "Sources",
        "  user hub  up for 3.0 s",
        "Settings   version 0a1b2c3d, enforce, of the run since Wed 2026-03-18 09:00:00 CDT (flatguard 0.1.0)",
        "  loss_limit  500  (/etc/config.toml:12)",
        "  combined    true  (default)",
        "  weights     {}",
        "Wanted",
        "  no position in the account, and no working order",
        "Requests",
        "  Wed 2026-03-18 12:00:00.253 CDT  close 1 of 2 MNQZ6: done (sent after 3 ms, answered in 47 ms)",
        "  Wed 2026-03-18 12:00:00.254 CDT  cancel order 9 MNQZ6: refused: no (sent after 4 ms, answered in 1,046 ms)",
        "Seen       Wed 2026-03-18 12:00:00.400 CDT (17:00:00.400Z), 150 ms after it was found",
        f"Proven     {both_clocks(STORY['proven_at'], CHICAGO)}, 1,250 ms after it was found, by two complete readings",
        "Lock       the account is locked until Wed 2026-03-18 17:00:00.000 CDT (22:00:00.000Z): in force",
        "Led to",
        "  Wed 2026-03-18 12:10:00.000 CDT  ffff  locked by daily_realized_loss",
    ]


def test_what_is_not_known_is_said_to_be_not_known() -> None:
    event = STORY["event"]
    assert "After      trade 7; the tape has let go of the event" in told(event=None)
    lines = told(event={**event, "broker_at": None, "age_ms": None, "text": ""})
    assert "After      TradeMade (row 12 of the tape)" in lines
    assert "           received Wed 2026-03-18 12:00:00.250 CDT (17:00:00.250Z)" in lines
    assert any(line.endswith("50 ms earlier: the clocks differ") for line in told(event={**event, "age_ms": -50}))
    assert "Settings   not on record" in told(settings=None)
    assert any("mode unknown" in line for line in told(settings={**STORY["settings"], "mode": None, "rule": {}}))
    assert "Sources" not in told(sources=[])


def test_nothing_sent_and_nothing_proven_is_said() -> None:
    lines = told(requests=[], reached_at=None, proven_at=None)
    assert "Requests   none" in lines
    assert not any(line.startswith("Proven") for line in lines)
    shadow = {**STORY["settings"], "mode": "shadow"}
    assert "Requests   none: the account is in shadow, nothing is sent" in told(requests=[], settings=shadow)
    assert "Requests   none" in told(requests=[], settings=None)
    assert any(line.startswith("Proven     not: ") for line in told(reached_at=None, proven_at=None))


def test_a_decision_that_locks_nothing_tells_of_no_lock() -> None:
    assert not any(line.startswith(("Lock", "Led to")) for line in told(locks=[], led_to=[]))


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"_type": "Flatten"}, "no position in the account, and no working order"),
        ({"_type": "CloseContract"}, "no position in MNQZ6, and no working order that could open one"),
        ({"_type": "ReduceTo", "size": 2}, "at most 2 MNQZ6"),
        ({"_type": "WithoutOrder", "order_id": 9}, "order 9 of MNQZ6 does not work any more"),
    ],
)
def test_an_end_state_in_words(wanted: dict[str, Any], words: str) -> None:
    assert end_state(wanted, "MNQZ6") == words


def test_times_stand_on_both_clocks() -> None:
    assert both_clocks(NOON + timedelta(milliseconds=7), CHICAGO) == "Wed 2026-03-18 12:00:00.007 CDT (17:00:00.007Z)"
    assert both_clocks("2026-03-08T08:00:00Z", CHICAGO).startswith("Sun 2026-03-08 03:00:00.000 CDT")


ROW: dict[str, Any] = {
    "kind": "decision",
    "id": "a1b2c3d4e5f60718",
    "at": "2026-03-18T17:00:00Z",
    "account": 1,
    "rule": "max_contracts",
    "reason": "5 contracts held, limit 4",
    "outcome": "proven",
    "first_request_ms": 3,
    "reached_ms": 1_234,
}


def test_the_history_in_a_line() -> None:
    start = "Wed 2026-03-18 12:00:00 CDT  1  max_contracts  a1b2c3d4  5 contracts held, limit 4"
    assert history_line(ROW, CHICAGO) == f"{start} -- proven, first request after 3 ms, there after 1,234 ms"
    row = {**ROW, "outcome": "nothing sent", "first_request_ms": None, "reached_ms": None}
    assert history_line(row, CHICAGO) == f"{start} -- nothing sent"
    warning = {"kind": "warning", "at": "2026-03-18T17:00:00Z", "account": 1, "rule": "max_contracts", "text": "3 of 4"}
    assert history_line(warning, CHICAGO) == "Wed 2026-03-18 12:00:00 CDT  1  max_contracts  WARNING: 3 of 4"


def lockout(**changes: Any) -> list[str]:
    lock = {**LOCK, "account": 1, "rule": "r", "since": "2026-03-18T16:00:00Z", "reason": "why", "breach": "a1"}
    return list(lockout_lines({**lock, **changes}, NOON, CHICAGO))


def test_a_lock_is_told_with_what_is_left_of_it() -> None:
    assert lockout() == [
        "account 1  LOCKED by r until Wed 2026-03-18 17:00:00.000 CDT (22:00:00.000Z) (5:00:00 left)",
        "  since Wed 2026-03-18 11:00:00.000 CDT (16:00:00.000Z): why",
        "  flatguard why a1",
    ]
    first, *_ = lockout(scope="MNQ", kind="cooldown", until=None, condition="it may trade")
    assert first == "account 1, MNQ only  COOLING DOWN by r until it may trade"
    assert lockout(until=None)[0].endswith("until an administrator unlocks it")
    over = lockout(in_force=False, standing="it is over", breach="")
    assert over[0].endswith("(22:00:00.000Z)")
    assert over[-1] == "  it is over"
    assert len(over) == 3
    assert left(timedelta(seconds=3_725)) == "1:02:05 left"


REPLAY: dict[str, Any] = {
    "account": 1,
    "from": "2026-03-18T14:00:00Z",
    "to": "2026-03-18T17:00:00Z",
    "events": 1_234,
    "breaches": 1,
    "states_compared": 2,
    "notes": [],
    "runs": [{"version": "0.1.0"}],
    "difference": None,
}


def test_that_the_same_came_out_is_a_line() -> None:
    extent = (
        "account 1: 1,234 events from Wed 2026-03-18 09:00:00 CDT to Wed 2026-03-18 12:00:00 CDT, 1 run, 1 decision"
    )
    assert list(replay_lines(REPLAY, CHICAGO)) == [
        f"{extent}: THE SAME AGAIN, and the same byte for byte in 2 states on record"
    ]
    assert list(replay_lines({**REPLAY, "notes": ["said"]}, CHICAGO))[-1] == "  note: said"


def test_that_something_else_came_out_says_where_first() -> None:
    difference = {
        "row": 9,
        "at": "2026-03-18T15:00:00Z",
        "event": "ClockReached()",
        "what": "found",
        "recorded": "r: why",
        "came_out": "nothing",
    }
    lines = list(replay_lines({**REPLAY, "difference": difference}, CHICAGO))
    assert lines[0].endswith("SOMETHING ELSE came out")
    assert lines[1:5] == [
        "  first in row 9, Wed 2026-03-18 10:00:00.000 CDT (15:00:00.000Z): found",
        "  event:    ClockReached()",
        "  recorded: r: why",
        "  came out: nothing",
    ]
    assert "flatguard 0.1.0" in lines[5]
    state = list(replay_lines({**REPLAY, "difference": {**difference, "event": ""}}, CHICAGO))
    assert state[1].startswith("  first in the state after row 9")
    assert not any("event:" in line for line in state)


OTHERWISE: dict[str, Any] = {
    **{key: REPLAY[key] for key in ("account", "from", "to", "events")},
    "rules": ["max_contracts"],
    "locked_at_the_beginning": [],
    "decisions": [],
}


def test_other_decisions_stand_beside_those_of_then() -> None:
    one = {"at": "2026-03-18T15:00:00Z", "reason": "five", "locks": []}
    rows = [
        {"id": "a", "rule": "r", "decided": one, "would_be_decided": None},
        {"id": "b", "rule": "r", "decided": None, "would_be_decided": one},
        {"id": "c", "rule": "r", "decided": one, "would_be_decided": one},
        {
            "id": "d",
            "rule": "r",
            "decided": {**one, "reason": "six"},
            "would_be_decided": {**one, "at": "2026-03-18T15:00:01Z"},
        },
    ]
    lock = {"rule": "q", "scope": "MNQ", "until": None}
    told = {**OTHERWISE, "decisions": rows, "locked_at_the_beginning": [lock]}
    at = "Wed 2026-03-18 10:00:00.000 CDT"
    assert list(otherwise_lines(told, CHICAGO, "other.toml"))[2:] == [
        "  MNQ is locked at the beginning, by q",
        f"  then only  {at}  r: five",
        f"  now only   {at}  r: five",
        f"  both       {at}  r: five",
        "  both       Wed 2026-03-18 10:00:01.000 CDT  r: five",
        f"             then it was {at}",
        "             then it was: six",
    ]


def test_where_nobody_decided_anything_that_is_said() -> None:
    head, caution, nothing = otherwise_lines({**OTHERWISE, "rules": []}, CHICAGO, "other.toml")
    assert head.endswith("judged by no rule of other.toml")
    assert "not simulated" in caution
    assert nothing == "  nothing was decided, and nothing would have been"
