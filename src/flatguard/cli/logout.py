"""``flatguard logout``: end the session of the stored token, and remove what ``flatguard login`` stored."""

from __future__ import annotations

import os

import click
import trio

from flatguard.cli import config_option
from flatguard.cli._who import login_options, who
from flatguard.daemon.sole_guard import is_guarded
from flatguard.errors import FlatguardError, GatewayUnreachable
from flatguard.gateway.auth import log_out
from flatguard.gateway.http import HttpClient
from flatguard.secret import Secret
from flatguard.settings.login import Login
from flatguard.settings.secrets import VARIABLE, forget_api_key
from flatguard.settings.token_file import TokenFile


@config_option
@login_options
@click.command("logout", short_help="Remove the API key and end the stored session.")
@click.pass_context
def command(ctx: click.Context, user_name: str | None, rest_url: str | None) -> None:
    """End the session of the stored token at the gateway, and remove token and API key from this machine.

    Nothing else logs out: a daemon that stops leaves its session to end by itself. Exit status: 0 fine, 2 wrong usage
    or settings, 5 the gateway could not be told; what is stored here is removed all the same.
    """
    found = who(ctx, user_name, rest_url)
    login = found.login
    untold = _end_session(login)
    removed = forget_api_key(login)
    for what in removed.done:
        click.echo(f"removed: {what}")
    if not removed.done:
        click.echo(f"no API key was stored for {login.user_name} at {login.rest_url}")
    for what in removed.left:
        click.echo(f"Warning: still there: {what}", err=True)
    if os.environ.get(VARIABLE, "").strip():
        click.echo(f"Warning: {VARIABLE} is set here, and is used as long as it is", err=True)
    guarded = () if found.settings is None else found.settings.accounts
    if any(is_guarded(login.rest_url, account.id) for account in guarded):
        click.echo("Warning: a daemon is running; it keeps key and token in its memory until it is stopped", err=True)
    if untold is not None:
        raise untold


def _end_session(login: Login) -> FlatguardError | None:
    """Log out with the stored token, if there is one, and remove it. Returns why the gateway could not be told."""
    file = TokenFile(login, os.environ)
    stored = file.read()
    untold: FlatguardError | None = None
    if stored.token is not None:
        try:
            trio.run(_log_out, login.rest_url, stored.token)
            click.echo("the gateway has ended the session of the stored token")
        except* FlatguardError as group:
            untold = GatewayUnreachable(
                f"the gateway could not be told to end the session: {group.exceptions[0]}",
                hint="what was stored here is removed; the session ends by itself within a day",
            )
    try:
        removed = file.remove()
    except OSError as error:
        click.echo(f"Warning: still there: the stored token: {error}", err=True)
        return untold
    if stored.trouble:
        click.echo(f"removed: the stored token, without ending its session: {stored.trouble}")
    elif removed:
        click.echo("removed: the stored token")
    else:
        click.echo("no token was stored, so there was no session to end")
    return untold


async def _log_out(rest_url: str, token: Secret) -> None:
    http = HttpClient(rest_url)
    try:
        await log_out(http, token)
    finally:
        await http.aclose()
