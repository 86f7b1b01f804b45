"""Real processes on loopback, started and ended as a person, a service manager or a power cut does it."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from attrs import define, field

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="ends processes by POSIX signals"),
]

CHICAGO = ZoneInfo("America/Chicago")
MARKET, LIMIT, STOP = 2, 1, 4
WORKING = {1, 6, 7, 8}
SOON_S = 15.0  # far more than anything here takes on an idle machine

REDUCE_TO_2 = """
[rules.max_contracts]
limit = 2
enforcement = "reduce_to_limit"
"""
LOSS_500 = """
[rules.daily_realized_loss]
loss_limit = "500"
"""


def until(true: Callable[[], Any], what: str, seconds: float = SOON_S) -> Any:
    """Return what ``true()`` gives once it is true; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (given := true()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.02)
    return given


def flatguard(*arguments: object, **environment: str) -> dict[str, Any]:
    """Return what Popen needs to run the command line; everything it writes goes to pipes."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("FLATGUARD_")}
    return {
        "args": [sys.executable, "-m", "flatguard", *map(str, arguments)],
        "env": {**ours, "XDG_STATE_HOME": tempfile.mkdtemp(prefix="flatguard-test-"), **environment},
        "stdin": subprocess.DEVNULL,
        "text": True,
    }


@define
class Simulator:
    """The gateway double in a process of its own."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    @property
    def user(self) -> dict[str, Any]:
        user: dict[str, Any] = self.ready["users"][0]
        return user

    @property
    def account(self) -> int:
        return int(self.user["accounts"][0]["id"])

    def contract(self, ticker: str) -> dict[str, Any]:
        return next(c for c in self.ready["contracts"] if c["name"].startswith(ticker))

    def call(self, name: str, /, **body: object) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.ready['control_url']}/{name}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())  # type: ignore[no-any-return]

    def truth(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.ready['control_url']}/truth", timeout=10) as answer:
            return json.loads(answer.read(), parse_float=Decimal)  # type: ignore[no-any-return]

    def price(self, ticker: str, price: float) -> None:
        self.call("price", contractId=self.contract(ticker)["id"], price=price)

    def order(self, ticker: str, size: int, **price: float) -> int:
        """Place an order as the trader's own hand; ``limitPrice`` or ``stopPrice`` make it rest."""
        kind = LIMIT if "limitPrice" in price else STOP if "stopPrice" in price else MARKET
        contract_id = self.contract(ticker)["id"]
        side = 0 if size > 0 else 1
        body = {"accountId": self.account, "contractId": contract_id, "type": kind, "side": side, "size": abs(size)}
        answer = self.call("orders", **body, **price)
        assert answer["success"], answer
        return int(answer["orderId"])

    def held(self) -> dict[str, int]:
        """Return the signed size by contract name."""
        names = {contract["id"]: contract["name"] for contract in self.ready["contracts"]}
        rows = (row for row in self.truth()["positions"] if row["accountId"] == self.account)
        return {names[row["contractId"]]: row["size"] * (1 if row["type"] == 1 else -1) for row in rows}

    def working(self) -> list[int]:
        rows = (row for row in self.truth()["orders"] if row["accountId"] == self.account)
        return [row["id"] for row in rows if row["status"] in WORKING]

    def flat(self) -> bool:
        return not self.held() and not self.working()

    def realized_net(self) -> Decimal:
        row = next(row for row in self.truth()["accounts"] if row["id"] == self.account)
        return Decimal(row["realized_net"])

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@define
class Daemon:
    """``flatguard run``; what it says on stderr is in a file."""

    process: subprocess.Popen[str]
    err: Path

    def said(self) -> str:
        return self.err.read_text()

    def ended(self, seconds: float = 10.0) -> int:
        """Return the exit status."""
        return self.process.wait(seconds)

    def stop(self) -> int:
        self.process.terminate()
        return self.ended()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@define
class Desk:
    """A trader's machine: a folder with settings and a journal, and the processes started on it."""

    folder: Path
    ends: ExitStack
    started: int = 0
    key: str = field(default="", repr=False)

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def journal(self) -> Path:
        return self.folder / "journal.db"

    def simulator(self, port: int = 0) -> Simulator:
        process = subprocess.Popen(
            **flatguard("simulator", "serve", "--port", port, "--seed", 11), stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        simulator = Simulator(process, json.loads(line))
        self.ends.callback(simulator.end)
        self.key = simulator.user["api_key"]
        return simulator

    def write_config(self, ready: dict[str, Any], rules: str, account: int | None = None) -> None:
        user = ready["users"][0]
        account = user["accounts"][0]["id"] if account is None else account
        self.config.write_text(
            f"""
[gateway]
rest_url = "{ready["rest_url"]}"
user_hub_url = "{ready["user_hub_url"]}"
market_hub_url = "{ready["market_hub_url"]}"
user_name = "{user["user_name"]}"

[journal]
path = "journal.db"
{rules}
[[accounts]]
id = {account}
mode = "enforce"
"""
        )

    def run(self, key: str | None = None, config: Path | None = None) -> Daemon:
        self.started += 1
        err = self.folder / f"run-{self.started}.err"
        with err.open("w") as stderr:
            process = subprocess.Popen(
                **flatguard("run", "--config", config or self.config, FLATGUARD_API_KEY=key or self.key),
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        daemon = Daemon(process, err)
        self.ends.callback(daemon.kill)
        return daemon

    def status(self, *flags: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            **flatguard("status", "--config", self.config, "--json", *flags), capture_output=True, check=False
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else {}

    def account(self) -> dict[str, Any]:
        status = self.status()[1]
        return status["accounts"][0] if status else {}

    def until_protected(self, daemon: Daemon) -> None:
        until(lambda: ": PROTECTED" in daemon.said(), "the account is PROTECTED")
        assert self.account()["protection"] == "PROTECTED"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with ExitStack() as ends:
        yield Desk(tmp_path, ends)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lose(simulator: Simulator) -> None:
    """Have the open loss on two ES pass 500 dollars."""
    simulator.price("ES", 6800)
    simulator.order("ES", 2)
    until(lambda: simulator.held().get("ESZ6") == 2, "2 ES are held")
    simulator.price("ES", 6794)
    until(simulator.flat, "the account is flat")


def test_an_order_for_five_leaves_two(desk: Desk) -> None:
    simulator = desk.simulator()
    desk.write_config(simulator.ready, REDUCE_TO_2)
    daemon = desk.run()
    desk.until_protected(daemon)
    simulator.order("MNQ", 5)
    until(lambda: simulator.held() == {"MNQZ6": 2}, "2 of 5 are left")
    until(lambda: "proven by two readings" in daemon.said(), "the end state is proven")
    assert simulator.held() == {"MNQZ6": 2}
    assert "BREACH max_contracts" in daemon.said()
    assert daemon.stop() == 0


def test_the_daily_loss_flattens_and_locks_and_outlives_a_sigkill(desk: Desk) -> None:
    simulator = desk.simulator()
    desk.write_config(simulator.ready, LOSS_500)
    daemon = desk.run()
    desk.until_protected(daemon)
    simulator.price("MNQ", 25000)
    simulator.order("MNQ", 1, limitPrice=24000)
    simulator.order("MNQ", -1, stopPrice=24500)
    until(lambda: len(simulator.working()) == 2, "two orders rest")
    lose(simulator)
    now = datetime.now(UTC)
    (lock,) = until(lambda: desk.account()["lockouts"], "the lock is shown")
    ends = datetime.fromisoformat(lock["until"]).astimezone(CHICAGO)
    assert lock["rule"] == "daily_realized_loss"
    assert (ends.hour, ends.minute, ends.second) == (17, 0, 0)
    assert timedelta(0) < ends - now <= timedelta(days=3)
    assert desk.status("--check")[0] == 6

    simulator.order("MNQ", 3)
    until(lambda: simulator.truth()["trades"], "it was filled")
    until(simulator.flat, "what was bought during the lock is gone")
    resting = simulator.order("MNQ", 1, limitPrice=24000)
    until(lambda: resting not in simulator.working(), "what rests during the lock is cancelled")
    until(lambda: Decimal(desk.account()["realized_pnl"]) == simulator.realized_net(), "the P&L is the broker's")

    daemon.kill()
    status, facts = desk.status()
    assert status == 3
    assert facts["accounts"][0]["lockouts"] == [lock]
    simulator.order("MNQ", 2)
    until(lambda: simulator.held() == {"MNQZ6": 2}, "nobody guards")
    again = desk.run()
    until(simulator.flat, "the lock holds after the next start")
    until(lambda: desk.account()["protection"] == "PROTECTED", "guarded again")
    assert desk.account()["lockouts"] == [lock]
    until(lambda: Decimal(desk.account()["realized_pnl"]) == simulator.realized_net(), "the P&L is the broker's")
    assert again.stop() == 0
    assert "Traceback" not in daemon.said() + again.said()


def test_sigterm_ends_cleanly_and_sigint_too(desk: Desk) -> None:
    simulator = desk.simulator()
    desk.write_config(simulator.ready, REDUCE_TO_2)
    for number in (signal.SIGTERM, signal.SIGINT):
        daemon = desk.run()
        desk.until_protected(daemon)
        daemon.process.send_signal(number)
        assert daemon.ended(10) == 0
        assert "Traceback" not in daemon.said()
        status, facts = desk.status()
        assert status == 3
        assert facts["daemon"]["running"] is False


def test_a_second_guard_of_the_same_account_is_refused_whatever_its_journal(desk: Desk) -> None:
    simulator = desk.simulator()
    desk.write_config(simulator.ready, REDUCE_TO_2)
    first = desk.run()
    desk.until_protected(first)
    other = desk.folder / "other.toml"
    other.write_text(desk.config.read_text().replace("journal.db", "other.db"))
    second = desk.run(config=other)
    assert second.ended() == 4
    assert "already guarded" in second.said()
    assert "Traceback" not in second.said()
    first.kill()
    third = desk.run(config=other)
    until(lambda: "PROTECTED" in third.said() or "enforce" in third.said(), "the lock went with its holder")
    assert third.stop() == 0


def test_a_wrong_key_ends_it_with_one_line_and_a_sound_journal(desk: Desk) -> None:
    simulator = desk.simulator()
    desk.write_config(simulator.ready, REDUCE_TO_2)
    daemon = desk.run(key="wrong")
    assert daemon.ended() == 4
    assert "Traceback" not in daemon.said()
    assert daemon.said().count("Error: the gateway refused the login") == 1
    assert "wrong" not in daemon.said().replace("the API key is wrong", "")
    status, facts = desk.status()
    assert status == 3
    assert facts["accounts"][0]["protection"] == "NOT PROTECTED"
    with closing(sqlite3.connect(desk.journal)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((stopped_at,),) = db.execute("SELECT stopped_at FROM run")
        assert stopped_at is not None
    right = desk.run()
    desk.until_protected(right)
    assert right.stop() == 0


def test_an_account_that_is_not_of_this_login_ends_it_and_those_that_are_get_listed(desk: Desk) -> None:
    simulator = desk.simulator()
    desk.write_config(simulator.ready, REDUCE_TO_2, account=99)
    daemon = desk.run()
    assert daemon.ended() == 2
    assert "account 99 of the settings is not one of this login" in daemon.said()
    assert f"{simulator.account} (" in daemon.said()
    assert "Traceback" not in daemon.said()


@pytest.mark.parametrize("text", [None, "[gateway\n", "[gateway]\nuser_nam = 1\n"], ids=["none", "not TOML", "wrong"])
def test_settings_that_cannot_be_used_end_it_with_status_2(desk: Desk, text: str | None) -> None:
    if text is not None:
        desk.config.write_text(text)
    daemon = desk.run(key="any")
    assert daemon.ended() == 2
    assert str(desk.config) in daemon.said()
    assert "Traceback" not in daemon.said()
    assert not desk.journal.exists()


def test_an_unreachable_gateway_is_asked_again_until_it_is_there(desk: Desk) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    ready = {"rest_url": url, "user_hub_url": f"{url}/hubs/user", "market_hub_url": f"{url}/hubs/market"}
    users = [{"user_name": "trader1", "accounts": [{"id": 25700001}]}]
    desk.write_config({**ready, "users": users}, REDUCE_TO_2)
    daemon = desk.run(key="later")
    until(lambda: "BLIND" in daemon.said(), "it says that it is blind")
    assert desk.status()[0] == 1
    assert desk.account()["protection"] == "BLIND"
    assert daemon.process.poll() is None
    assert daemon.stop() == 0

    late = desk.folder / "late.toml"
    late.write_text(f'[[users]]\nuser_name = "trader1"\napi_key = "later"\n{LATE_ACCOUNT}')
    daemon = desk.run(key="later")
    until(lambda: "BLIND" in daemon.said(), "it says that it is blind")
    process = subprocess.Popen(
        **flatguard("simulator", "serve", "--port", port, "--scenario", late), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    simulator = Simulator(process, json.loads(process.stdout.readline()))
    desk.ends.callback(simulator.end)
    desk.until_protected(daemon)
    simulator.order("MNQ", 5)
    until(lambda: simulator.held() == {"MNQZ6": 2}, "2 of 5 are left")
    assert daemon.said().count("BLIND") == 1
    assert daemon.stop() == 0


LATE_ACCOUNT = """
[[users.accounts]]
id = 25700001
name = "50KTC-V2-600001-97000001"
balance = "50000"
"""


def test_a_damaged_journal_is_set_aside_and_its_account_locked(desk: Desk) -> None:
    simulator = desk.simulator()
    desk.write_config(simulator.ready, REDUCE_TO_2)
    damage = b"not a journal at all, " * 1_000
    desk.journal.write_bytes(damage)
    daemon = desk.run()
    desk.until_protected(daemon)
    (aside,) = desk.folder.glob("journal.db.damaged-*")
    assert aside.read_bytes() == damage
    assert "is damaged" in daemon.said()
    assert str(aside) in daemon.said()
    assert [lock["rule"] for lock in desk.account()["lockouts"]] == ["journal_damaged"]
    simulator.order("MNQ", 1)
    until(lambda: simulator.truth()["trades"], "it was filled")
    until(simulator.flat, "a locked account stays flat")
    daemon.kill()
    again = desk.run()
    desk.until_protected(again)
    assert [lock["rule"] for lock in desk.account()["lockouts"]] == ["journal_damaged"]
    assert again.stop() == 0
