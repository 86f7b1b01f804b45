"""The settings that a run judged by, as text for its journal: enough to judge again exactly as it did. No secrets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from hashlib import sha256
from pathlib import Path
from typing import Any

import tomli_w
from attrs import frozen

from flatguard.errors import InvalidSettings
from flatguard.model.account import Terms
from flatguard.model.calendar import Calendar
from flatguard.model.calendar_file import load_calendar
from flatguard.settings.load import AccountSettings, Settings, structured
from flatguard.settings.structure import as_written


@frozen
class InForce:
    """What a run judged by: its accounts with their rules, the terms, and where each value came from."""

    accounts: tuple[AccountSettings, ...]
    terms: Terms
    origins: Mapping[str, str]


def written(settings: Settings) -> str:
    """Return what is in force as JSON text, every default spelled out: a later flatguard may have others."""
    accounts = [
        {
            "id": account.id,
            "mode": account.mode,
            "rules": {name: _without_none(as_written(rule)) for name, rule in account.rules.items()},
        }
        for account in settings.accounts
    ]
    facts = {
        "file": str(settings.path),
        "trading_day": as_written(settings.trading_day),
        "warnings": as_written(settings.warnings),
        "commissions": as_written(settings.commissions),
        "other_commission": as_written(settings.other_commission),
        "calendar": tomli_w.dumps(_calendar(settings.exchange)),
        "accounts": accounts,
        "origins": {key: origin for key, origin in settings.origins.items() if key.startswith("accounts")},
    }
    return json.dumps(facts, default=sorted, separators=(",", ":"))


def version(text: str) -> str:
    """Return a short name of settings in force: the same for the same settings, wherever they are written down."""
    return sha256(text.encode()).hexdigest()[:8]


def in_force(text: str) -> InForce:
    """Read what ``written`` made. Raises InvalidSettings where it cannot be put in force here and now."""
    try:
        facts = json.loads(text)
        tree = {
            "gateway": {"user_name": "nobody"},
            "trading_day": facts["trading_day"],
            "warnings": facts["warnings"],
            "accounts": facts["accounts"],
        }
        rates = {ticker: Decimal(rate) for ticker, rate in facts["commissions"].items()}
        other, calendar = Decimal(facts["other_commission"]), load_calendar(facts["calendar"])
        file, origins = Path(facts["file"]), facts["origins"]
    except (AttributeError, InvalidOperation, LookupError, TypeError, ValueError) as error:
        raise InvalidSettings(
            f"the settings of that run are not in the journal in full: {type(error).__name__}: {error}",
            hint="an older flatguard did not write them down; --rules FILE judges by the rules of a file instead",
        ) from None
    settings = structured(file, tree)
    day = settings.trading_day
    terms = Terms(day.reset, day.zone, rates, other, settings.warnings.at, calendar)
    return InForce(settings.accounts, terms, origins)


def _without_none(written_down: Any) -> Any:
    """Return tables without the keys that are not set, as a file has them."""
    if isinstance(written_down, dict):
        return {key: _without_none(value) for key, value in written_down.items() if value is not None}
    return written_down


def _calendar(calendar: Calendar) -> dict[str, Any]:
    """Return a calendar as the tables of its file."""
    days = [
        {
            "date": day,
            "name": special.name,
            "business_day": special.business_day,
            "closed": sorted(special.closed),
            "early_close": {group: f"{at:%H:%M}" for group, at in special.early_closes.items()},
            "late_open": {group: f"{at:%H:%M}" for group, at in special.late_opens.items()},
        }
        for day, special in calendar.special_days.items()
    ]
    groups = {
        name: {
            "tickers": sorted(group.tickers),
            "sessions": [f"{session.opens:%H:%M}-{session.closes:%H:%M}" for session in group.sessions],
        }
        for name, group in calendar.groups.items()
    }
    return {
        "source": calendar.source,
        "reviewed": calendar.reviewed,
        "ends": calendar.ends,
        "groups": groups,
        "days": days,
    }
