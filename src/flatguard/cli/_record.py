"""What the commands share that read the record: times, accounts and rules as a person types them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from flatguard.errors import WrongUsage
from flatguard.ledger.trading_day import trading_day
from flatguard.settings.load import Settings, load
from flatguard.settings.paths import config_path
from flatguard.settings.structure import nearest

SCHEMA_VERSION = 1

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def settings_of(ctx: click.Context) -> Settings:
    """Read the settings that a command was given, or the platform's."""
    path: Path = ctx.find_root().obj or config_path()
    return load(path, os.environ)


def moment(text: str | None, name: str, now: datetime, settings: Settings) -> datetime | None:
    """Return the moment that a person means: RFC 3339, a day or a time of the exchange, ``2h`` ago, ``today``.

    Raises WrongUsage for anything else.
    """
    if text is None:
        return None
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        if text == "today":
            return trading_day(now, settings.terms).starts_at
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo is not None else when.replace(tzinfo=settings.trading_day.zone)).astimezone(UTC)
    except (OverflowError, ValueError):
        raise WrongUsage(
            f"{name} {text!r} is no time",
            hint='2h, 30m, today, 2026-03-18, "2026-03-18 09:30" (exchange time), or 2026-03-18T14:30:00Z',
        ) from None


def known_account(account: int | None, settings: Settings, recorded: Iterable[int]) -> None:
    """Raise WrongUsage where an account is neither in the settings nor in the journal."""
    known = sorted({*recorded, *(account.id for account in settings.accounts)})
    if account is not None and account not in known:
        raise WrongUsage(
            f"account {account} is not known here", hint=f"known are: {', '.join(map(str, known)) or 'none'}"
        )


def known_rule(rule: str | None, recorded: Iterable[str]) -> None:
    """Raise WrongUsage where there is no such rule."""
    from flatguard.rules import discover
    from flatguard.rules._lockout import NAME

    known = {*discover(), NAME, *recorded}
    if rule is not None and rule not in known:
        raise WrongUsage(f"there is no rule {rule!r}", hint=nearest(rule, known))


def print_json(facts: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **facts}, indent=2, ensure_ascii=False))


def utc(at: datetime | None) -> str | None:
    """Write a moment as scripts read it."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def milliseconds(since: datetime, until: datetime | None) -> int | None:
    """Return what lies between two moments."""
    return None if until is None else round((until - since).total_seconds() * 1000)
