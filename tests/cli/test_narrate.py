"""What the daemon writes down, as a person reads it."""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import pytest
from attrs import evolve

from flatguard.cli.narrate import Narrator
from flatguard.model.account import AccountState
from flatguard.model.decisions import Flatten
from flatguard.model.entries import Entry, Judged, Standing
from flatguard.model.events import ClosesRefused, Hub, LinkDown, LinkUp
from flatguard.model.ids import AccountId
from tests.fakes.entries import ACCOUNT, NOON, OTHER, alive, at, broken, proven, quoted, started, step


def narrator(*accounts: AccountId) -> Narrator:
    return Narrator({a: AccountState(a) for a in accounts or (ACCOUNT,)}, ZoneInfo("America/Chicago"))


def stands(protection: str, reason: str = "", *, durable: bool = True, seconds: int = 0) -> Standing:
    body = f'{{"protection":"{protection}","reason":"{reason}","durable":{str(durable).lower()}}}'
    return Standing(ACCOUNT, at(seconds), body)


SENTENCES: dict[str, tuple[Entry, list[str]]] = {
    "hub up": (Judged(ACCOUNT, LinkUp(at(0.25), Hub.USER)), ["12:00:00.250 user hub connected"]),
    "hub lost": (
        Judged(ACCOUNT, LinkDown(NOON, Hub.MARKET, "no quote for 15 s")),
        ["12:00:00.000 market hub lost: no quote for 15 s"],
    ),
    "closes refused": (
        Judged(ACCOUNT, ClosesRefused(NOON, ACCOUNT, "AccountRejected")),
        ["12:00:00.000 ALERT-ONLY account 25700001: the broker refuses our closes: AccountRejected"],
    ),
    "closes accepted again": (Judged(ACCOUNT, ClosesRefused(NOON, ACCOUNT, None)), []),
    "breach": (
        broken("a1", Flatten()),
        ["12:00:00.000 BREACH daily_realized_loss, account 25700001: too much lost"],
    ),
    "close": (step("a1"), ["12:00:01.000 account 25700001: closing MNQZ6: done"]),
    "partial close": (
        evolve(step("a1"), action="partial_close", detail="3 of 5", outcome="unknown", reason="no answer"),
        ["12:00:01.000 account 25700001: closing 3 of 5 MNQZ6: unknown: no answer"],
    ),
    "cancel": (
        evolve(step("a1"), action="cancel", detail="order 7", outcome="refused", reason="OrderNotFound (code 2)"),
        ["12:00:01.000 account 25700001: cancelling order 7 MNQZ6: refused: OrderNotFound (code 2)"],
    ),
    "proof": (proven("a1"), ["12:00:04.000 account 25700001: done, proven by two readings"]),
    "protected": (stands("PROTECTED"), ["12:00:00.000 account 25700001: PROTECTED"]),
    "shadow": (stands("SHADOW", "mode is shadow"), ["12:00:00.000 account 25700001: SHADOW: mode is shadow"]),
    "not read yet": (stands("BLIND", "not read yet"), []),
    "a quote": (quoted(1), []),
    "a pulse": (alive(), []),
    "a start": (started(), []),
}


@pytest.mark.parametrize("what", SENTENCES)
def test_an_entry_reads_as_a_sentence_or_says_nothing(what: str) -> None:
    entry, sentences = SENTENCES[what]
    assert narrator().sentences(entry) == sentences


def test_links_concern_all_accounts_and_are_told_once() -> None:
    told = narrator(ACCOUNT, OTHER)
    assert told.sentences(Judged(ACCOUNT, LinkUp(NOON, Hub.USER)))
    assert told.sentences(Judged(OTHER, LinkUp(NOON, Hub.USER))) == []
    assert told.sentences(Judged(OTHER, LinkDown(NOON, Hub.USER, "cut"))) == []


def test_how_far_an_account_is_guarded_is_told_when_it_changes_and_not_again() -> None:
    told = narrator()
    said = [
        sentence
        for entry in [
            stands("BLIND", "not read yet"),
            stands("PROTECTED"),
            stands("PROTECTED", "by polling", seconds=1),
            stands("BLIND", "no answer", seconds=2),
            stands("BLIND", "still no answer", seconds=3),
            stands("PROTECTED", "NOT DURABLE", durable=False, seconds=4),
            stands("PROTECTED", "NOT DURABLE", durable=False, seconds=5),
            stands("PROTECTED", "", seconds=6),
        ]
        for sentence in told.sentences(entry)
    ]
    assert [sentence.partition("25700001: ")[2] for sentence in said] == [
        "PROTECTED",
        "BLIND: no answer",
        "PROTECTED: NOT DURABLE",
        "PROTECTED",
    ]


CLOSE = {
    "rules": ["daily_realized_loss"],
    "since": "2026-03-18T17:00:00Z",
    "action": "close",
    "contract": "MNQZ6",
    "order_id": None,
    "outcome": "refused",
    "reason": "OrderRejected (code 5)",
    "next_try_at": None,
    "market_opens_at": None,
}
PROVING = {**CLOSE, "action": "prove", "contract": None, "outcome": "", "reason": ""}
STILL = "account 25700001: STILL ENFORCING daily_realized_loss since 12:00:00.000: "


def enforcing(seconds: int, *entries: dict[str, object]) -> Standing:
    body = {"protection": "BLIND", "reason": "", "durable": True, "enforcing": entries}
    return Standing(ACCOUNT, at(seconds), json.dumps(body))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (CLOSE, "closing MNQZ6: refused: OrderRejected (code 5)"),
        ({**CLOSE, "outcome": "", "reason": ""}, "closing MNQZ6: not answered yet"),
        ({**CLOSE, "action": "cancel", "order_id": 7}, "cancelling order 7 MNQZ6: refused: OrderRejected (code 5)"),
        (
            {**CLOSE, "market_opens_at": "2026-03-18T22:00:00Z"},
            "closing MNQZ6: refused: OrderRejected (code 5); waits for the market to open at Wed 17:00:00 CDT",
        ),
        ({**PROVING, "reason": "no answer"}, "the end state seems reached and is not proven yet: no answer"),
    ],
)
def test_what_lasts_is_told_aloud_and_why(entry: dict[str, object], said: str) -> None:
    assert narrator().sentences(enforcing(4, entry)) == []
    assert narrator().sentences(enforcing(5, entry)) == [f"12:00:05.000 {STILL}{said}"]


def test_a_proof_that_takes_its_time_is_no_alarm() -> None:
    assert narrator().sentences(enforcing(9, PROVING)) == []


def test_what_lasts_is_told_once_and_again_when_its_reason_changes() -> None:
    told, unknown = narrator(), {**CLOSE, "outcome": "unknown", "reason": "no answer"}
    said = [
        sentence.partition(STILL)[2]
        for entry in [
            enforcing(5, CLOSE),
            enforcing(6, {**CLOSE, "tries": 9, "next_try_at": "2026-03-18T17:00:09Z"}),
            enforcing(7, unknown),
            enforcing(8, unknown),
            enforcing(9),
            enforcing(20, CLOSE),
        ]
        for sentence in told.sentences(entry)
    ]
    assert said == [
        "closing MNQZ6: refused: OrderRejected (code 5)",
        "closing MNQZ6: unknown: no answer",
        "closing MNQZ6: refused: OrderRejected (code 5)",
    ]
