"""``flatguard login`` and ``flatguard logout`` against the double on loopback, as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keyring
import pytest
from click.testing import CliRunner, Result

from flatguard.cli import cli
from flatguard.cli import login as room
from flatguard.daemon.sole_guard import sole_guard
from flatguard.errors import FlatguardError
from flatguard.gateway.auth import LOGIN_REFUSALS
from flatguard.model.ids import AccountId
from flatguard.secret import Secret
from flatguard.settings.login import Login
from flatguard.settings.token_file import TokenFile
from tests.fakes.keyring import Keyring, NoKeyring

KEY = "the-right-key"
ONE, TWO = 25700001, 25700002
SCENARIO = f"""
[[users]]
user_name = "trader1"
api_key = "{KEY}"
[[users.accounts]]
id = {ONE}
name = "50KTC-ONE"
balance = "50000"
[[users.accounts]]
id = {TWO}
name = "50KTC-TWO"
balance = "50000"

[[users]]
user_name = "unsigned"
api_key = "{KEY}"
agreements_signed = false
[[users.accounts]]
id = 3
name = "THREE"
balance = "50000"

[[users]]
user_name = "switchedoff"
api_key = "{KEY}"
key_login = false
[[users.accounts]]
id = 4
name = "FOUR"
balance = "50000"
"""


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The double in a process of its own; its address."""
    scenario = tmp_path_factory.mktemp("double") / "scenario.toml"
    scenario.write_text(SCENARIO)
    command = [sys.executable, "-m", "flatguard", "simulator", "serve", "--port", "0", "--scenario", str(scenario)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["rest_url"]
        finally:
            process.terminate()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """A machine with a keyring, without settings."""
    backend = Keyring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
    monkeypatch.setattr("flatguard.settings.paths.state_folder", lambda: tmp_path / "state")
    monkeypatch.setenv("FLATGUARD_CONFIG", str(tmp_path / "config.toml"))
    for name in ("FLATGUARD_API_KEY", "FLATGUARD_USER_NAME", "FLATGUARD_KEY_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    return backend


def run(*arguments: str, key: str = KEY, **environ: str) -> Result:
    return CliRunner().invoke(cli, arguments, input=f"{key}\n", env=environ)


def at(double: str, name: str = "trader1") -> list[str]:
    return ["--user-name", name, "--rest-url", double]


def entry(double: str, name: str = "trader1") -> tuple[str, str]:
    return ("flatguard", f"{name}@{double}")


def failed(result: Result, status: int) -> str:
    """Return what the error says; nothing of the key is in it."""
    assert isinstance(result.exception, FlatguardError), result.output
    assert result.exception.exit_status == status
    text = f"{result.exception} / {result.exception.hint}"
    assert KEY not in text + result.output
    return text


# --- login ---


def test_a_good_key_is_stored_and_the_accounts_are_listed_before_there_are_settings(
    machine: Keyring, double: str
) -> None:
    result = run("login", *at(double))
    assert result.exit_code == 0, result.output
    assert machine.kept == {entry(double): KEY}
    assert result.stdout.splitlines() == [
        f"The API key of trader1 at {double} is stored in the keyring of this system.",
        "Accounts of this login (2):",
        f"  {ONE}  50KTC-ONE  not in the settings",
        f"  {TWO}  50KTC-TWO  not in the settings",
        f"Next: flatguard config init --user-name trader1 --account {ONE}",
    ]
    assert KEY not in result.output


def settings(tmp_path: Path, double: str, *accounts: int, more: str = "") -> None:
    tables = "".join(f"[[accounts]]\nid = {number}\n" for number in accounts)
    (tmp_path / "config.toml").write_text(
        f'[gateway]\nuser_name = "trader1"\nrest_url = "{double}"\n{more}\n[rules.max_contracts]\nlimit = 1\n{tables}'
    )


def test_the_settings_say_who_and_where_and_which_accounts_are_guarded(
    machine: Keyring, double: str, tmp_path: Path
) -> None:
    settings(tmp_path, double, ONE, 99)
    told = run("login").stdout
    assert f"  {ONE}  50KTC-ONE  guarded by the settings, mode shadow\n" in told
    assert f"  {TWO}  50KTC-TWO  not in the settings\n" in told
    assert "  99  is in the settings, and is none of this login\n" in told
    facts = json.loads(run("login", "--json").stdout)
    assert facts["accounts"] == [
        {"id": ONE, "name": "50KTC-ONE", "can_trade": True, "mode": "shadow"},
        {"id": TWO, "name": "50KTC-TWO", "can_trade": True, "mode": None},
    ]
    assert (facts["schema_version"], facts["tested"], facts["user_name"]) == (1, True, "trader1")


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("trader1", "wrong", ["user name or the API key is wrong", "gateway.user_name"]),
        ("nobody", KEY, ["user name or the API key is wrong"]),
        ("unsigned", KEY, ["agreements are not signed", "log in to the platform"]),
        ("switchedoff", KEY, ["switched off by the firm", "ask the firm"]),
    ],
)
def test_a_key_that_is_refused_is_not_stored_and_the_reason_is_named(
    machine: Keyring, double: str, name: str, key: str, words: list[str]
) -> None:
    text = failed(run("login", *at(double, name), key=key), 4)
    assert all(word in text for word in words)
    assert "nothing was stored" in text
    assert machine.kept == {}


@pytest.mark.parametrize("code", LOGIN_REFUSALS)
def test_every_documented_refusal_is_told_with_what_to_do(
    machine: Keyring, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    async def log_in(*_arguments: object) -> Secret:
        from flatguard.gateway.auth import login_refused

        raise login_refused(code, "")

    monkeypatch.setattr(room, "log_in", log_in)
    reason, hint = LOGIN_REFUSALS[code]
    text = failed(run("login", *at("http://127.0.0.1:9")), 4)
    assert reason in text
    assert hint in text
    assert machine.kept == {}


def test_an_unreachable_gateway_stores_nothing_unless_it_is_not_to_be_asked(machine: Keyring) -> None:
    nobody = "http://127.0.0.1:9"
    text = failed(run("login", *at(nobody)), 5)
    assert "nothing was stored" in text
    assert "--no-test" in text
    assert machine.kept == {}
    result = run("login", "--no-test", *at(nobody))
    assert result.exit_code == 0
    assert "NOT TESTED" in result.stdout
    assert machine.kept == {entry(nobody): KEY}


def test_an_answer_that_is_none_of_a_gateway_is_no_gateway(machine: Keyring, double: str) -> None:
    text = failed(run("login", *at(f"{double}/nowhere")), 5)
    assert "HTTP status 404; nothing was stored" in text
    assert machine.kept == {}


@pytest.mark.parametrize("arguments", [[KEY], ["--api-key", KEY], [f"--api-key={KEY}"], ["--key", KEY], ["a", "b"]])
def test_a_key_on_the_command_line_is_refused_with_the_reason(machine: Keyring, arguments: list[str]) -> None:
    result = run("login", *arguments)
    assert result.exit_code == 2
    assert "never given on the command line" in result.stderr
    assert KEY not in result.output
    assert machine.kept == {}


@pytest.mark.parametrize("typed", ["", "  ", "two words", "line\nline", "bell\a"])
def test_what_is_no_key_is_wrong_usage(machine: Keyring, typed: str) -> None:
    result = run("login", *at("http://127.0.0.1:9"), key=typed)
    assert result.exit_code == 2
    assert "API key" in result.stderr


def test_without_a_user_name_nobody_is_asked_for(machine: Keyring) -> None:
    assert "--user-name NAME" in failed(run("login"), 2)


@pytest.mark.parametrize("url", ["http://example.com", "ftp://example.com", "https://u:p@example.com", "nonsense"])
def test_a_key_is_sent_to_nothing_but_a_gateway_under_tls(machine: Keyring, url: str) -> None:
    assert run("login", *at(url)).exit_code == 2


def test_settings_with_errors_are_told_first(machine: Keyring, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[gateway]\nuser_nam = 1\n")
    assert "user_nam" in failed(run("login"), 2)


def test_where_there_is_no_place_the_gateway_is_not_even_asked(
    machine: Keyring, double: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring, "get_keyring", NoKeyring)
    assert "no place for the API key" in failed(run("login", *at(double)), 2)
    result = run("login", *at(double), FLATGUARD_KEY_PASSPHRASE="correct horse")
    assert result.exit_code == 0
    assert "sealed with the passphrase in FLATGUARD_KEY_PASSPHRASE (this system has no keyring)" in result.stdout


def test_on_a_terminal_the_name_is_confirmed_and_the_key_asked_for_unseen(
    machine: Keyring, double: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(tmp_path, double, ONE)
    asked: list[tuple[str, dict[str, Any]]] = []

    def prompt(text: str, **how: Any) -> str:
        asked.append((text, how))
        return how.get("default") or KEY

    class Terminal:
        @staticmethod
        def isatty() -> bool:
            return True

    monkeypatch.setattr("click.prompt", prompt)
    with patched_stdin(monkeypatch, Terminal()):
        assert run("login").exit_code == 0
    (name, first), (key, second) = asked
    assert (name, first["default"]) == ("User name", "trader1")
    assert f"API key of trader1 at {double}" in key
    assert second["hide_input"] is True
    assert machine.kept == {entry(double): KEY}


@contextmanager
def patched_stdin(monkeypatch: pytest.MonkeyPatch, terminal: object) -> Iterator[None]:
    class Sys:
        stdin = terminal

    with monkeypatch.context() as patch:
        patch.setattr(room, "sys", Sys)
        yield


def test_what_will_not_be_used_is_warned_of(machine: Keyring, double: str, tmp_path: Path) -> None:
    settings(tmp_path, "https://api.example.com", ONE)
    result = run("login", *at(double), FLATGUARD_API_KEY="other")
    assert result.exit_code == 0
    assert "FLATGUARD_API_KEY is set here, and is used instead" in result.stderr
    assert "the settings are for trader1 at https://api.example.com" in result.stderr
    assert "guarded" not in result.stdout


def test_run_without_a_key_hints_at_login(machine: Keyring, double: str, tmp_path: Path) -> None:
    settings(tmp_path, double, ONE)
    assert "flatguard login" in failed(run("run"), 2)


# --- logout ---


@pytest.fixture
def stored(machine: Keyring, double: str) -> Callable[[], TokenFile]:
    """Store a key, and a token that the double has issued."""

    def store() -> TokenFile:
        assert run("login", *at(double)).exit_code == 0
        file = TokenFile(Login("trader1", double), {})
        assert file.write(token_of(double)) == ""
        return file

    return store


def token_of(double: str) -> Secret:
    import trio

    from flatguard.gateway.auth import log_in
    from flatguard.gateway.http import HttpClient

    async def ask() -> Secret:
        http = HttpClient(double)
        try:
            return await log_in(http, "trader1", Secret(KEY))
        finally:
            await http.aclose()

    return trio.run(ask)


def accepted(double: str, token: Secret) -> bool:
    import trio

    from flatguard.gateway.auth import validate
    from flatguard.gateway.http import HttpClient

    async def ask() -> bool:
        http = HttpClient(double)
        try:
            await validate(http, token)
        except FlatguardError:
            return False
        finally:
            await http.aclose()
        return True

    return trio.run(ask)


def test_logging_out_ends_the_session_and_removes_token_and_key(
    machine: Keyring, double: str, stored: Callable[[], TokenFile]
) -> None:
    token = stored().read().token
    assert token is not None
    assert accepted(double, token)
    result = run("logout", *at(double))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "the gateway has ended the session of the stored token",
        "removed: the stored token",
        "removed: the API key in the keyring of this system",
    ]
    assert not accepted(double, token)
    assert machine.kept == {}


def test_logging_out_twice_says_that_there_was_nothing(machine: Keyring, double: str) -> None:
    result = run("logout", *at(double))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "no token was stored, so there was no session to end",
        f"no API key was stored for trader1 at {double}",
    ]


def test_a_gateway_that_cannot_be_told_keeps_nothing_here(machine: Keyring) -> None:
    nobody = Login("trader1", "http://127.0.0.1:9")
    machine.kept[entry(nobody.rest_url)] = KEY
    file = TokenFile(nobody, {})
    file.write(Secret("eyJ.a.b"))
    text = failed(run("logout", *at(nobody.rest_url)), 5)
    assert "could not be told" in text
    assert machine.kept == {}
    assert file.read().token is None


def test_what_still_works_after_logging_out_is_warned_of(machine: Keyring, double: str, tmp_path: Path) -> None:
    settings(tmp_path, double, ONE)
    with sole_guard(double, [AccountId(ONE)]):
        result = run("logout", FLATGUARD_API_KEY="still")
    assert "FLATGUARD_API_KEY is set here" in result.stderr
    assert "a daemon is running; it keeps key and token in its memory until it is stopped" in result.stderr


def test_an_unusable_stored_token_is_removed_without_a_call(
    machine: Keyring, double: str, stored: Callable[[], TokenFile]
) -> None:
    stored()
    del machine.kept["flatguard token", f"trader1@{double}"]
    result = run("logout", *at(double))
    assert result.exit_code == 0
    assert "without ending its session" in result.stdout
