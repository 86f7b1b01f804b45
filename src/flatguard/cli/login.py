"""``flatguard login``: test an API key at the gateway, then store it where nobody else can read it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn

import click
import trio

from flatguard.cli import config_option, first_of
from flatguard.cli._who import Who, login_options, who
from flatguard.clock import SystemClock
from flatguard.errors import FlatguardError, GatewayUnreachable, UnreadableAnswer
from flatguard.gateway.allowance import Allowance
from flatguard.gateway.auth import log_in, validate
from flatguard.gateway.http import HttpClient
from flatguard.gateway.rest import Gateway
from flatguard.gateway.token import Token
from flatguard.model.trading import Account
from flatguard.secret import Secret
from flatguard.settings.login import Login
from flatguard.settings.secrets import VARIABLE, check_place, keep_api_key

SCHEMA_VERSION = 1
NEVER_HERE = (
    "the API key is never given on the command line: every user of this machine can read that, and your shell keeps "
    "it. Let flatguard ask for it, or give it on standard input: flatguard login < FILE. If what you have typed is a "
    "key, others may know it now: make a new one at the platform"
)


def _refuse(_ctx: click.Context, _parameter: click.Parameter, value: object) -> None:
    if value:
        raise click.UsageError(NEVER_HERE)


@config_option
@login_options
@click.command("login", short_help="Test and store the API key.")
@click.option("--no-test", is_flag=True, help="Store the key without asking the gateway whether it is right.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--key", "--api-key", "--apikey", "key", hidden=True, expose_value=False, callback=_refuse)
@click.argument("words", nargs=-1, metavar="", expose_value=False, callback=_refuse)
@click.pass_context
def command(ctx: click.Context, user_name: str | None, rest_url: str | None, no_test: bool, as_json: bool) -> None:
    """Test the API key at the gateway, store it, and list the accounts of the login.

    Asks for the key, and shows nothing of it; or reads it from standard input: flatguard login < FILE. It is stored in
    the keyring of this system. Where there is none, it is sealed in a file with the passphrase in
    FLATGUARD_KEY_PASSPHRASE, or in the file that FLATGUARD_KEY_PASSPHRASE_FILE names. Needs no settings file.

    Exit status: 0 stored, 2 wrong usage or settings, 4 the gateway refuses the login, 5 it cannot be reached; only with
    0 anything was stored.
    """
    asking = sys.stdin.isatty()
    found = who(ctx, user_name, rest_url, _ask_name if asking else None)
    check_place(os.environ)
    key = _key(found.login, asking=asking)
    accounts = () if no_test else _accounts(found.login, key)
    where = keep_api_key(found.login, key, os.environ)
    if as_json:
        click.echo(json.dumps(_facts(found, where, accounts, tested=not no_test), indent=2))
    else:
        _say(found, where, accounts, tested=not no_test)
    if os.environ.get(VARIABLE, "").strip():
        click.echo(f"Warning: {VARIABLE} is set here, and is used instead of what is stored", err=True)
    if found.settings is not None and found.settings.gateway.login != found.login:
        click.echo(
            f"Warning: the settings are for {found.settings.gateway.user_name} at {found.settings.gateway.rest_url}, "
            "so flatguard run does not use this key",
            err=True,
        )


def _ask_name(known: str) -> str:
    return str(click.prompt("User name", default=known or None, err=True)).strip()


def _key(login: Login, *, asking: bool) -> Secret:
    """Read the key: one line without blanks."""
    if asking:
        prompt = f"API key of {login.user_name} at {login.rest_url} (is not shown)"
        key = Secret(str(click.prompt(prompt, hide_input=True, err=True)).strip())
    else:
        key = Secret(sys.stdin.read().strip())
    if not key:
        raise click.UsageError("there is no API key on standard input; write flatguard login < FILE")
    if len(key.reveal().split()) != 1 or not key.reveal().isprintable():
        raise click.UsageError("that is no API key: it is one line without blanks")
    return key


def _accounts(login: Login, key: Secret) -> tuple[Account, ...]:
    """Log in and return the accounts. Raises LoginRefused, or GatewayUnreachable where there is no usable answer."""
    try:
        return trio.run(_ask_gateway, login, key)
    except BaseExceptionGroup as group:
        ours, others = group.split(FlatguardError)
        if ours is None or others is not None:
            raise
        _not_stored(first_of(ours), login)
    except FlatguardError as error:
        _not_stored(error, login)


def _not_stored(error: FlatguardError, login: Login) -> NoReturn:
    if isinstance(error, GatewayUnreachable | UnreadableAnswer):
        raise GatewayUnreachable(
            f"{login.rest_url}: {error}; nothing was stored",
            hint="check address and network, and try again; or store the key untested: flatguard login --no-test",
        ) from None
    raise type(error)(f"{error}; nothing was stored", hint=error.hint) from None


async def _ask_gateway(login: Login, key: Secret) -> tuple[Account, ...]:
    http = HttpClient(login.rest_url)
    token = Token(lambda: log_in(http, login.user_name, key), lambda secret: validate(http, secret), SystemClock())
    try:
        return await Gateway(http, token, SystemClock(), Allowance()).accounts()
    finally:
        await http.aclose()


def _modes(found: Who) -> dict[int, str]:
    """Return the mode by account, of those that the settings guard; none where they are for another login."""
    if found.settings is None or found.settings.gateway.login != found.login:
        return {}
    return {account.id: account.mode for account in found.settings.accounts}


def _facts(found: Who, where: str, accounts: tuple[Account, ...], *, tested: bool) -> dict[str, Any]:
    modes = _modes(found)
    return {
        "schema_version": SCHEMA_VERSION,
        "user_name": found.login.user_name,
        "rest_url": found.login.rest_url,
        "stored": where,
        "tested": tested,
        "accounts": [
            {"id": row.id, "name": row.name, "can_trade": row.can_trade, "mode": modes.get(row.id)} for row in accounts
        ],
    }


def _say(found: Who, where: str, accounts: tuple[Account, ...], *, tested: bool) -> None:
    login, modes = found.login, _modes(found)
    if not tested:
        click.echo(f"NOT TESTED: whether {login.rest_url} accepts the key of {login.user_name} is not known")
    click.echo(f"The API key of {login.user_name} at {login.rest_url} is stored {where}.")
    if not tested:
        return
    click.echo(f"Accounts of this login ({len(accounts)}):")
    for row in sorted(accounts, key=lambda row: row.id):
        guarded = f"guarded by the settings, mode {modes[row.id]}" if row.id in modes else "not in the settings"
        trading = "" if row.can_trade else "; cannot trade"
        click.echo(f"  {row.id}  {row.name}  {guarded}{trading}")
    for number in sorted(modes.keys() - {row.id for row in accounts}):
        click.echo(f"  {number}  is in the settings, and is none of this login")
    if not modes and accounts:
        click.echo(
            f"Next: flatguard config init --user-name {login.user_name} --account {min(row.id for row in accounts)}"
        )
