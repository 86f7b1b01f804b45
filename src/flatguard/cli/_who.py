"""Whose secrets ``login`` and ``logout`` are about: by flags, else the environment, else the settings."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click
from attrs import evolve, frozen

from flatguard.errors import InvalidSettings
from flatguard.settings.load import GatewaySettings, Settings, load
from flatguard.settings.login import Login
from flatguard.settings.paths import config_path

Ask = Callable[[str], str]


@frozen
class Who:
    """A login, and the settings where there is a file."""

    login: Login
    settings: Settings | None


def login_options(command: Any) -> Any:
    """Let a command take the user name and the gateway."""
    for name, text in (
        ("--rest-url", "The gateway, where it is not the one of the settings."),
        ("--user-name", "The platform's login name, where it is not the one of the settings."),
    ):
        command.params.insert(0, click.Option([name], help=text, metavar="URL" if name == "--rest-url" else "NAME"))
    return command


def who(ctx: click.Context, user_name: str | None, rest_url: str | None, ask: Ask | None = None) -> Who:
    """Return whose secrets are meant. ``ask`` is asked for the user name, given the one that is known, or none.

    Raises InvalidSettings for a file with errors, and where there is no user name; a missing file is none.
    """
    path = ctx.find_root().obj or config_path()
    settings = load(path, os.environ) if path.exists() else None
    known = user_name or os.environ.get("FLATGUARD_USER_NAME", "").strip()
    known = known or (settings.gateway.user_name if settings is not None else "")
    if ask is not None and user_name is None:
        known = ask(known)
    if not known:
        raise InvalidSettings(f"there is no user name: {path} does not exist", hint="give it: --user-name NAME")
    try:
        usual = settings.gateway if settings is not None else GatewaySettings(known)
        return Who(evolve(usual, user_name=known, rest_url=rest_url or usual.rest_url).login, settings)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--user-name or --rest-url") from None
