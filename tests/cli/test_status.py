"""``flatguard status``: what a person and a script are told of a daemon that runs, has run, or never ran."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flatguard.cli import cli
from flatguard.cli import status as room
from flatguard.daemon import sole_guard as locks
from flatguard.daemon.sole_guard import sole_guard
from flatguard.errors import InvalidSettings, JournalDamaged
from flatguard.journal.store import Store
from flatguard.model.entries import Alive, Entry, Judged, RunStarted, RunStopped, Standing
from flatguard.model.events import ClockReached
from flatguard.model.ids import AccountId
from flatguard.model.lockouts import Lockout
from flatguard.shipped import shipped

NOW = datetime(2026, 3, 18, 17, 0, tzinfo=UTC)  # noon in Chicago
FIVE_PM = datetime(2026, 3, 18, 22, 0, tzinfo=UTC)
ONE, TWO = AccountId(25700001), AccountId(26200002)
URL = "http://127.0.0.1:9"

CONFIG = f"""
[gateway]
rest_url = "{URL}"
user_name = "trader1"

[journal]
path = "journal.db"

[rules.max_contracts]
limit = 2

[[accounts]]
id = {ONE}
mode = "enforce"
"""
SECOND = f"[[accounts]]\nid = {TWO}\n"

HUBS = {
    "user": {
        "reconnects": 2,
        "messages": 1204,
        "bytes": 300000,
        "waiting": 3,
        "heard_at": "2026-03-18T16:59:56Z",
        "round_trip_ms": 41.5,
    },
    "market": {"reconnects": 1, "messages": 0, "bytes": 0, "waiting": 0, "heard_at": None, "round_trip_ms": None},
}
TOKEN = "valid until 2026-03-19T14:30:00Z"
UP = json.dumps({"user_hub": "up", "market_hub": "up", "rest": "up", "token": TOKEN, "hubs": HUBS})


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of its own: a folder for locks, and a clock that stands."""
    folder = tmp_path / "lock"
    folder.mkdir()
    monkeypatch.setattr(locks, "FOLDERS", (folder,))

    class Clock:
        def now(self) -> datetime:
            return NOW

    monkeypatch.setattr(room, "SystemClock", Clock)
    (tmp_path / "config.toml").write_text(CONFIG)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def standing(account: AccountId = ONE, at: datetime = NOW, **more: Any) -> Standing:
    body = {
        "protection": "PROTECTED",
        "protection_since": "2026-03-18T16:00:00Z",
        "reason": "",
        "durable": True,
        "id": account,
        "name": "50KTC",
        "balance": "49500.00",
        "realized_pnl": "-500.00",
        "unrealized_pnl": None,
        "positions": [],
        "working_orders": [],
        "limits": [],
        "lockouts": [],
    }
    return Standing(account, at, json.dumps({**body, **more}))


FINDING = "max_contracts names MMQ, which the broker does not know; did you mean MNQ?"


def lock(until: datetime | None = FIVE_PM, account: AccountId = ONE) -> Judged:
    row = Lockout(account, "daily_realized_loss", "account", ago(60), until, "Realised loss: -$500.00", "a1")
    return Judged(account, ClockReached(ago(60)), locks=(row,))


LOCK = {
    "rule": "daily_realized_loss",
    "scope": "account",
    "kind": "hard",
    "since": "2026-03-18T16:59:00Z",
    "until": "2026-03-18T22:00:00Z",
    "condition": "",
    "reason": "Realised loss: -$500.00",
}


def started(seconds_ago: float = 3600) -> RunStarted:
    return RunStarted(ago(seconds_ago), "0.1.0", 1, (ONE,), "{}")


@pytest.fixture
def journal(tmp_path: Path) -> Callable[..., None]:
    def write(*entries: Entry) -> None:
        with closing(Store.open(tmp_path / "journal.db")) as store:
            store.write(entries)

    return write


@contextmanager
def guarding(*accounts: AccountId) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(sole_guard(URL, accounts))
        yield


@pytest.fixture
def status(tmp_path: Path) -> Callable[..., Result]:
    def run(*flags: str) -> Result:
        return CliRunner().invoke(cli, ["status", "--config", str(tmp_path / "config.toml"), *flags])

    return run


Status = Callable[..., Result]
Journal = Callable[..., None]


def facts(status: Status, *flags: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(status("--json", *flags).stdout)
    return told


# the state of the daemon


def test_a_daemon_that_guards_speaks_for_itself(status: Status, journal: Journal) -> None:
    journal(started(), Alive(ago(3), UP), standing())
    with guarding(ONE):
        assert status().exit_code == 0
        assert facts(status) == {
            "schema_version": 1,
            "daemon": {"running": True, "since": "2026-03-18T16:00:00Z", "version": "0.1.0"},
            "accounts": [json.loads(standing().body)],
            "link": {"user_hub": "up", "market_hub": "up", "rest": "up", "token": TOKEN},
            "hubs": HUBS,
            "calendar": {"reviewed": "2026-11-20", "ends": "2027-12-31", "warning": None},
        }


def test_a_calendar_that_ends_soon_is_warned_of(status: Status, journal: Journal, tmp_path: Path) -> None:
    journal(started(), Alive(ago(3), UP), standing())
    assert "Warning" not in status().stdout
    hours, _, _ = shipped("calendars/cme_globex.toml").partition("[[days]]")
    text = hours.replace("ends = 2027-12-31", "days = []\nends = 2026-05-17")
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with (tmp_path / "config.toml").open("a") as settings:
        settings.write('\n[calendar]\npath = "mine.toml"\n')
    told = facts(status)["calendar"]
    assert (told["reviewed"], told["ends"]) == ("2026-11-20", "2026-05-17")
    assert told["warning"].startswith("the exchange calendar ends on 2026-05-17")
    assert f"Warning: {told['warning']}" in status().stdout.splitlines()


REST = {
    "allowance": {
        "used": 61,
        "limit": 131,
        "history_used": 0,
        "waiting": {"routine": 2, "reconciliation": 1},
        "longest_wait_s": {"routine": 4.5},
        "refused": 7,
        "quiet_s": 3.0,
    },
    "breaker": {"state": "open", "open_until": "2026-03-18T17:00:20Z", "failures": 5},
}


def test_how_rest_is_used_stands_with_the_links(status: Status, journal: Journal) -> None:
    journal(started(), Alive(ago(3), json.dumps({**json.loads(UP), **REST})), standing())
    with guarding(ONE):
        link = facts(status)["link"]
        assert {name: link[name] for name in REST} == REST


def rest_line(status: Status, journal: Journal, **told: object) -> str | None:
    """Return what a person reads about REST."""
    journal(started(), Alive(ago(3), json.dumps({**json.loads(UP), **REST, **told})), standing())
    with guarding(ONE):
        return next((line.strip() for line in status().output.splitlines() if line.startswith("  REST: ")), None)


def test_a_person_is_told_of_requests_that_were_too_many_and_of_look_ups_that_rest(
    status: Status, journal: Journal
) -> None:
    assert rest_line(status, journal) == (
        "REST: 61 of 131 requests in a minute, 3 waiting, 7 answered with too many, no look-ups until Wed 12:00:20 CDT"
    )


def test_a_person_is_not_told_of_an_allowance_that_does(status: Status, journal: Journal) -> None:
    at_ease = {"allowance": {**REST["allowance"], "waiting": {}, "refused": 0}}
    closed = {"breaker": {"state": "closed", "open_until": None, "failures": 0}}
    assert rest_line(status, journal, **at_ease, **closed) is None
    half_open = {"breaker": {"state": "half-open", "open_until": None, "failures": 5}}
    assert rest_line(status, journal, **at_ease, **half_open) == "REST: look-ups on trial"


def test_where_no_daemon_ever_ran_the_account_is_not_protected(status: Status, tmp_path: Path) -> None:
    assert status().exit_code == 3
    told = facts(status)
    assert told["daemon"] == {"running": False, "since": None, "version": None}
    (account,) = told["accounts"]
    assert (account["id"], account["protection"]) == (ONE, "NOT PROTECTED")
    assert account["reason"] == "the daemon is not running"
    assert account["balance"] is account["realized_pnl"] is account["protection_since"] is None
    assert set(told["link"].values()) == {"down: the daemon is not running"}
    assert told["hubs"] == {}
    assert not (tmp_path / "journal.db").exists()


SCHEMA = {
    "id",
    "name",
    "protection",
    "protection_since",
    "reason",
    "balance",
    "realized_pnl",
    "unrealized_pnl",
    "positions",
    "working_orders",
    "limits",
    "lockouts",
}


def test_an_unknown_account_has_every_documented_key(status: Status) -> None:
    assert facts(status)["accounts"][0].keys() >= SCHEMA


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_after_a_daemon_that_ended_its_last_words_are_shown_with_their_age(
    status: Status, journal: Journal, how: str
) -> None:
    journal(started(), standing(at=ago(600)), lock(), Alive(ago(500), UP))
    if how == "stopped":
        journal(RunStopped(ago(400)))
    result = status()
    assert result.exit_code == 3
    told = facts(status)
    (account,) = told["accounts"]
    assert account["protection"] == "NOT PROTECTED"
    assert account["reason"] == "the daemon is not running; what follows is from 2026-03-18T16:50:00Z"
    assert account["lockouts"] == [LOCK]
    assert account["balance"] == "49500.00"
    assert told["daemon"]["running"] is False
    assert told["link"]["rest"] == "down: the daemon is not running"


def test_a_lock_that_is_over_is_not_shown_after_the_daemon_ended_and_one_without_end_is(
    status: Status, journal: Journal
) -> None:
    journal(started(), standing(at=ago(600)), lock(until=ago(1)))
    assert facts(status)["accounts"][0]["lockouts"] == []
    journal(lock(until=None))
    assert facts(status)["accounts"][0]["lockouts"] == [{**LOCK, "until": None}]


@pytest.mark.parametrize(("seconds", "late"), [(9, False), (11, True)])
def test_a_pulse_that_is_late_is_not_protection(status: Status, journal: Journal, seconds: int, late: bool) -> None:
    journal(started(), standing(at=ago(seconds)), Alive(ago(seconds), UP), lock())
    with guarding(ONE):
        result, told = status("--check"), facts(status)
    (account,) = told["accounts"]
    if not late:
        assert (result.exit_code, account["protection"]) == (0, "PROTECTED")
        return
    assert (result.exit_code, account["protection"]) == (1, "NOT PROTECTED")
    assert "NOT DURABLE: nothing was written since 2026-03-18T16:59:49Z" in account["reason"]
    assert account["lockouts"] == [LOCK]
    assert all(link.startswith("down: NOT DURABLE") for link in told["link"].values())


def test_a_daemon_that_just_starts_is_not_yet_protection(status: Status, journal: Journal) -> None:
    with guarding(ONE):
        assert facts(status)["accounts"][0]["reason"] == "the daemon is starting, or keeps another journal"
        journal(started(), standing(at=ago(600)), RunStopped(ago(400)))
        assert status().exit_code == 1
        assert facts(status)["accounts"][0]["reason"].startswith("the daemon is starting, or keeps another journal; ")
        journal(started(1))
        assert facts(status)["accounts"][0]["reason"].startswith("the daemon is starting; what follows is from")


def test_an_account_that_the_running_daemon_does_not_guard_is_not_protected_by_it(
    status: Status, journal: Journal, tmp_path: Path
) -> None:
    """Its last standing is of another run, and said PROTECTED."""
    (tmp_path / "config.toml").write_text(CONFIG + SECOND)
    journal(started(7200), standing(TWO, at=ago(7000)), RunStopped(ago(6000)))
    journal(started(), Alive(ago(1), UP), standing())
    with guarding(ONE):
        one, two = facts(status)["accounts"]
        assert status().exit_code == 1
    assert one["protection"] == "PROTECTED"
    assert two["protection"] == "NOT PROTECTED"
    assert two["reason"].startswith("the daemon that runs does not guard this account; stop and start it")
    with guarding(ONE, TWO):
        assert facts(status)["accounts"][1]["reason"].startswith("the daemon is starting")


def test_an_account_that_the_journal_has_never_seen_is_not_protected(
    status: Status, journal: Journal, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text(CONFIG + SECOND)
    journal(started(), Alive(ago(1), UP), standing())
    with guarding(ONE):
        _, two = facts(status)["accounts"]
    assert two["reason"] == "the daemon that runs does not guard this account; stop and start it"
    assert two["balance"] is None


# exit statuses


@pytest.mark.parametrize(
    ("protection", "locked", "plain", "checked"),
    [
        ("PROTECTED", False, 0, 0),
        ("PROTECTED", True, 0, 6),
        ("SHADOW", False, 0, 0),
        ("SHADOW", True, 0, 6),
        ("BLIND", False, 1, 1),
        ("BLIND", True, 1, 1),
        ("ALERT-ONLY", True, 1, 1),
        ("NOT PROTECTED", True, 1, 1),
    ],
)
def test_the_exit_status_says_how_it_stands(
    status: Status, journal: Journal, protection: str, locked: bool, plain: int, checked: int
) -> None:
    journal(started(), Alive(NOW, UP), standing(protection=protection, lockouts=[LOCK] if locked else []))
    with guarding(ONE):
        assert status().exit_code == plain
        assert status("--check").exit_code == checked
        assert status("--json", "--check").exit_code == checked


def test_a_lock_of_one_product_does_not_lock_the_account(status: Status, journal: Journal) -> None:
    journal(started(), Alive(NOW, UP), standing(lockouts=[{**LOCK, "scope": "RTY"}]))
    with guarding(ONE):
        assert status("--check").exit_code == 0


def test_that_the_daemon_is_not_running_wins_over_a_lock(status: Status, journal: Journal) -> None:
    journal(started(), standing(lockouts=[LOCK]), lock())
    assert status("--check").exit_code == 3


def test_settings_that_cannot_be_read_are_said_to_be_invalid(status: Status, tmp_path: Path) -> None:
    (tmp_path / "config.toml").unlink()
    result = status()
    assert isinstance(result.exception, InvalidSettings)
    assert result.exception.exit_status == 2


def test_a_damaged_journal_is_said_to_be_damaged(status: Status, tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no journal " * 100)
    assert isinstance(status().exception, JournalDamaged)


def test_a_flag_that_does_not_exist_is_wrong_usage(status: Status) -> None:
    assert status("--jason").exit_code == 2


# for a person


def test_a_person_reads_protection_first_and_then_what_matters(status: Status, journal: Journal) -> None:
    positions = [
        {"size": 2, "contract": "MNQZ6", "average_price": "25000.25", "mark": "25001.00", "open_pnl": "3.00"},
        {"size": -1, "contract": "ESZ6", "average_price": "6800", "mark": None, "open_pnl": None},
    ]
    order = {"id": 7, "side": "sell", "remaining": 1, "contract": "MNQZ6", "type": "stop", "status": "open"}
    journal(
        started(),
        Alive(ago(1), UP),
        standing(
            positions=positions,
            working_orders=[
                {**order, "limit_price": None, "stop_price": "24900"},
                {**order, "id": 8, "type": "market", "limit_price": None, "stop_price": None},
            ],
            limits=[{"rule": "max_contracts", "value": "3", "limit": "2", "distance": "-1"}],
            lockouts=[
                LOCK,
                {**LOCK, "rule": "max_contracts", "until": None, "condition": ""},
                {**LOCK, "rule": "auth_loss_guard", "until": None, "condition": "it may trade"},
                {**LOCK, "rule": "symbol_blocks", "scope": "RTY", "until": None},
                {**LOCK, "rule": "cooldown_after_loss", "kind": "cooldown"},
            ],
            reason="by polling; the user hub is down: cut",
        ),
    )
    with guarding(ONE):
        text = status().stdout
    assert text.splitlines() == [
        "flatguard 0.1.0 running since Wed 11:00:00 CDT",
        "links: user hub up, market hub up, REST up; token valid until 2026-03-19T14:30:00Z",
        "  user hub: 1,204 messages, the last 4 s ago, round trip 41.5 ms, 3 waiting, 2 reconnects",
        "  market hub: 0 messages, 1 reconnect",
        "",
        "PROTECTED since Wed 11:00:00 CDT  account 25700001 50KTC (by polling; the user hub is down: cut)",
        "  balance 49500.00 USD, realised today -500.00, open unknown",
        "  LOCKED by daily_realized_loss until Wed 17:00:00 CDT (5:00:00 left): Realised loss: -$500.00",
        "  LOCKED by max_contracts until an administrator unlocks it: Realised loss: -$500.00",
        "  LOCKED by auth_loss_guard until it may trade: Realised loss: -$500.00",
        "  RTY LOCKED by symbol_blocks until an administrator unlocks it: Realised loss: -$500.00",
        "  COOLING DOWN by cooldown_after_loss until Wed 17:00:00 CDT (5:00:00 left): Realised loss: -$500.00",
        "  max_contracts: 3 of 2, -1 left",
        "  position +2 MNQZ6 at 25000.25, mark 25001.00, open 3.00",
        "  position -1 ESZ6 at 6800, mark no price, open unknown",
        "  order 7 sell 1 MNQZ6 stop 24900 (open)",
        "  order 8 sell 1 MNQZ6 market market (open)",
    ]


def test_what_was_found_of_the_settings_stands_with_the_account(status: Status, journal: Journal) -> None:
    journal(started(), standing(findings=[FINDING]), Alive(ago(1), UP))
    (account,) = json.loads(status("--json").stdout)["accounts"]
    assert account["findings"] == [FINDING]
    assert f"  Warning: {FINDING}" in status().stdout.splitlines()


def test_a_person_is_told_that_nothing_runs(status: Status) -> None:
    lines = status().stdout.splitlines()
    assert lines[0] == "flatguard NOT RUNNING"
    assert lines[3].split() == ["NOT", "PROTECTED", "account", "25700001", "(the", "daemon", "is", "not", "running)"]


def test_a_person_reads_what_is_still_being_tried_since_when_and_why(status: Status, journal: Journal) -> None:
    close = {
        "rules": ["daily_realized_loss", "lockout"],
        "since": "2026-03-18T16:58:00Z",
        "action": "close",
        "contract": "MNQZ6",
        "order_id": None,
        "tries": 3,
        "outcome": "refused",
        "reason": "OrderRejected (code 5)",
        "next_try_at": "2026-03-18T17:00:30Z",
        "market_opens_at": "2026-03-18T22:00:00Z",
    }
    in_flight = {**close, "tries": 1, "next_try_at": None, "market_opens_at": None}
    proving = {**in_flight, "action": "prove", "contract": None, "tries": 0, "outcome": "", "reason": ""}
    journal(started(), Alive(ago(1), UP), standing(enforcing=[close, in_flight, proving]))
    with guarding(ONE):
        lines = status().stdout.splitlines()
    refused = "closing MNQZ6: refused: OrderRejected (code 5)"
    opens = "waits for the market to open at Wed 17:00:00 CDT"
    head = "  ENFORCING daily_realized_loss, lockout since Wed 11:58:00 CDT (0:02:00)"
    assert [line for line in lines if "ENFORCING" in line] == [
        f"{head}, tried 3 times: {refused}; {opens}; next try Wed 12:00:30 CDT",
        f"{head}, tried 1 time: {refused}; waiting for an answer",
        f"{head}: the end state seems reached and is not proven yet",
    ]
