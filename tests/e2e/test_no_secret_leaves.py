"""After a bad day of real processes, neither the API key nor any token is in anything that somebody else can read."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from tests.e2e.test_processes import REDUCE_TO_2, SOON_S, Daemon, Desk, Simulator, flatguard, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

PASSPHRASE = "a passphrase of this test"
AT_DEBUG = """
import logging, sys
from flatguard import redaction
redaction.LOGGERS = ()  # every library says all that it has to say
logging.basicConfig(filename=sys.argv.pop(1), level=logging.DEBUG)
from flatguard.cli import main
main()
"""
BROKEN = """
import sys
from flatguard import redaction
redaction.install()
token = sys.stdin.read()
raise RuntimeError("GET /hubs/user?access_token=" + token)
"""


@define
class Relay:
    """Stands between daemon and gateway and keeps every byte, so that the test knows each token that was handed out."""

    port: int
    listener: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0)))
    seen: bytearray = field(factory=bytearray)

    def __attrs_post_init__(self) -> None:
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def tokens(self) -> set[bytes]:
        return set(re.findall(rb"eyJ[\w-]+\.[\w-]+\.[\w-]{43}", bytes(self.seen)))

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(("127.0.0.1", self.port))
            except OSError:
                return
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.seen += data
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # which wakes the other thread
        source.close()

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with ExitStack() as ends:
        yield Desk(tmp_path, ends)


def environment(desk: Desk) -> dict[str, str]:
    return {
        "XDG_STATE_HOME": str(desk.folder / "state"),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "FLATGUARD_KEY_PASSPHRASE": PASSPHRASE,
    }


def run_at_debug(desk: Desk) -> Daemon:
    desk.started += 1
    command = flatguard("run", "--config", desk.config, **environment(desk))
    command["args"][1:3] = ["-c", AT_DEBUG, str(desk.folder / f"debug-{desk.started}.log")]
    err = desk.folder / f"run-{desk.started}.err"
    with err.open("w") as both:
        daemon = Daemon(subprocess.Popen(**command, stdout=both, stderr=both), err)
    desk.ends.callback(daemon.kill)
    return daemon


def log_in(desk: Desk) -> subprocess.CompletedProcess[str]:
    command = {**flatguard("login", "--config", desk.config, **environment(desk))}
    del command["stdin"]
    return subprocess.run(**command, input=f"{desk.key}\n", capture_output=True, check=False)


def bad_day(desk: Desk, simulator: Simulator, relay: Relay) -> Iterator[bytes]:
    """Play it, and yield what other users of the machine could see meanwhile."""
    daemon = run_at_debug(desk)
    desk.until_protected(daemon)
    for name, how in (
        ("http_401", {"count": 4}),
        ("http_500", {"count": 4}),
        ("html_body", {"count": 4}),
        ("cut_hub", {"target": "user"}),
        ("logout_hub", {"target": "market"}),
        ("http_401", {"count": 2, "target": "/api/Auth/validate"}),
    ):
        struck = len(simulator.truth()["requests"])
        simulator.call("faults", name=name, **how)
        until(lambda at=struck: len(simulator.truth()["requests"]) > at + 4, f"{name} has struck", 40)
    handed_out = len(relay.tokens)
    simulator.call("clock", advance_s=25 * 3600)
    simulator.call("faults", name="cut_hub")
    until(lambda: len(relay.tokens) > handed_out, "another token was handed out after the old one's end")
    yield from command_lines()
    simulator.order("MNQ", 5)
    until(lambda: simulator.held() == {"MNQZ6": 2}, "2 of 5 are left")
    daemon.kill()
    again = run_at_debug(desk)
    simulator.order("MNQ", 3)
    until(lambda: simulator.held() == {"MNQZ6": 2}, "2 of 5 are left, again")
    yield from command_lines()
    assert again.stop() == 0


def command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()


def shown(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file that the day has left, with its name."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path.read_bytes()


@pytest.mark.timeout(300)
def test_no_secret_is_in_logs_output_journal_settings_stored_files_or_command_lines(desk: Desk) -> None:
    simulator = desk.simulator()
    relay = Relay(int(simulator.ready["rest_url"].rpartition(":")[2]))
    desk.ends.callback(relay.close)
    here = f"127.0.0.1:{relay.listener.getsockname()[1]}"
    ready: dict[str, Any] = {
        **simulator.ready,
        **{name: re.sub(r"127\.0\.0\.1:\d+", here, simulator.ready[name]) for name in simulator.ready if "url" in name},
    }
    desk.write_config(ready, REDUCE_TO_2)
    desk.config.write_text(desk.config.read_text().replace("[journal]", 'token_storage = "encrypted"\n[journal]'))

    done = log_in(desk)
    assert done.returncode == 0, done.stderr
    seen = [*bad_day(desk, simulator, relay), done.stdout.encode(), done.stderr.encode()]
    status = subprocess.run(**flatguard("status", "--config", desk.config, "--json"), capture_output=True, check=False)
    seen += [status.stdout.encode(), status.stderr.encode()]

    tokens = relay.tokens
    assert len(tokens) >= 3, "one of the login, one of the daemon, one after the end of that"
    crash = subprocess.run(
        [sys.executable, "-c", BROKEN], input=max(tokens).decode(), capture_output=True, text=True, check=False
    )
    assert "Traceback" in crash.stderr
    seen.append(crash.stderr.encode())

    files = dict(shown(desk.folder))
    assert {"config.toml", "journal.db", "debug-1.log", "debug-2.log", "run-1.err"} <= files.keys()
    assert any(name.endswith(".key") for name in files), "the sealed key was searched too"
    assert any(name.endswith(".token") for name in files), "and the sealed token"
    assert b"httpcore" in files["debug-1.log"], "the libraries have said something"
    assert desk.key.encode() in relay.seen, "it did travel"

    secrets = {desk.key.encode(), PASSPHRASE.encode(), *tokens}
    secrets |= {part for token in tokens for part in token.split(b".")[1:]}
    for secret in secrets:
        assert [name for name, content in files.items() if secret in content] == []
        assert not any(secret in text for text in seen)
    assert not [name for name, content in files.items() if b"eyJ" in content and not name.endswith((".key", ".token"))]


def test_with_the_wrong_passphrase_nothing_is_started_and_the_file_is_named(desk: Desk) -> None:
    simulator = desk.simulator()
    desk.write_config(simulator.ready, REDUCE_TO_2)
    assert log_in(desk).returncode == 0
    environ = {**environment(desk), "FLATGUARD_KEY_PASSPHRASE": "another"}
    done = subprocess.run(
        **flatguard("run", "--config", desk.config, **environ), capture_output=True, check=False, timeout=SOON_S
    )
    assert done.returncode == 2
    assert "sealed with another passphrase" in done.stderr
    assert str(desk.folder / "state") in done.stderr
    assert "another'" not in done.stderr
    assert "Traceback" not in done.stderr
    (sealed,) = (desk.folder / "state").rglob("*.key")
    os.chmod(sealed, 0o644)
    command = flatguard("run", "--config", desk.config, **environment(desk))
    done = subprocess.run(**command, capture_output=True, check=False, timeout=SOON_S)
    assert (done.returncode, f"Try: chmod 600 {sealed}" in done.stderr) == (2, True)
