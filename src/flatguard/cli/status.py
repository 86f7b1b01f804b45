"""``flatguard status``: where every account stands, from the journal of a daemon that runs or has run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from flatguard.cli import config_option
from flatguard.cli.narrate import attempt_in_words
from flatguard.clock import SystemClock
from flatguard.daemon.sole_guard import is_guarded
from flatguard.journal.reading import Facts, LockoutRow, Run, read_facts
from flatguard.model.lockouts import ACCOUNT_SCOPE, LockKind
from flatguard.settings.load import Settings, load
from flatguard.settings.paths import config_path

SCHEMA_VERSION = 1
PULSE_LATE = timedelta(seconds=10)
GUARDED = {"PROTECTED", "SHADOW"}


@config_option
@click.command("status", short_help="Show where every account stands.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--check", is_flag=True, help="Exit with status 6 where an account is locked.")
@click.pass_context
def command(ctx: click.Context, as_json: bool, check: bool) -> None:
    """Show where every account stands.

    Exit status: 0 fine, 1 an account is not protected, 3 the daemon is not running; with --check 6 where an account is
    locked and all are protected.
    """
    path: Path = ctx.find_root().obj or config_path()
    settings = load(path, os.environ)
    now = SystemClock().now()
    status = status_of(settings, read_facts(settings.journal.path), now)
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        for line in lines(status, now, settings):
            click.echo(line)
    sys.exit(exit_status(status, check=check))


def status_of(settings: Settings, facts: Facts, now: datetime) -> dict[str, Any]:
    """Return the status object of ``--json``."""
    guarded = {account.id: is_guarded(settings.gateway.rest_url, account.id) for account in settings.accounts}
    running = any(guarded.values())
    silent = _silent(facts.run, now) if running else "the daemon is not running"
    run = facts.run
    accounts = []
    for account in settings.accounts:
        at, known = facts.standings.get(account.id, (None, _unknown(account.id)))
        body: dict[str, Any] = dict(known)
        why_not = silent
        if why_not is None and not guarded[account.id]:
            why_not = "the daemon that runs does not guard this account; stop and start it"
        if why_not is None and (at is None or run is None or at < run.started_at):
            why_not = "the daemon is starting"
        if why_not is not None:
            body["protection"] = "NOT PROTECTED"
            body["durable"] = False
            body["enforcing"] = []
            body["reason"] = why_not if at is None else f"{why_not}; what follows is from {_text(at)}"
            body["protection_since"] = None if run is None else _text(run.stopped_at or run.alive_at)
            body["lockouts"] = [
                _lockout(row) for row in facts.lockouts if row.account == account.id and _holds(row, now)
            ]
        accounts.append(body)
    links = run.link if run is not None and silent is None else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "daemon": {
            "running": running,
            "since": _text(run.started_at) if run is not None and running else None,
            "version": run.version if run is not None else None,
        },
        "accounts": accounts,
        "link": {
            **{name: links.get(name, f"down: {silent}") for name in ("user_hub", "market_hub", "rest", "token")},
            **{name: links[name] for name in ("allowance", "breaker") if name in links},
        },
        "hubs": links.get("hubs", {}),
        "calendar": {
            "reviewed": settings.exchange.reviewed.isoformat(),
            "ends": settings.exchange.ends.isoformat(),
            "warning": settings.exchange.warning(now),
        },
    }


def _silent(run: Run | None, now: datetime) -> str | None:
    """Return why the journal does not speak for the daemon that runs; None while it does."""
    if run is None or run.stopped_at is not None:
        return "the daemon is starting, or keeps another journal"
    if now - run.alive_at > PULSE_LATE:
        return f"NOT DURABLE: nothing was written since {_text(run.alive_at)}; the disk is full, or the daemon hangs"
    return None


def exit_status(status: Mapping[str, Any], *, check: bool) -> int:
    """Return the exit status that scripts rely on."""
    if not status["daemon"]["running"]:
        return 3
    if any(account["protection"] not in GUARDED for account in status["accounts"]):
        return 1
    return 6 if check and any(_locked(account) for account in status["accounts"]) else 0


def _locked(account: Mapping[str, Any]) -> bool:
    """Whether the account is locked, not one of its products alone."""
    return any(lock["scope"] == ACCOUNT_SCOPE for lock in account["lockouts"])


def _unknown(account_id: int) -> dict[str, Any]:
    return {
        "id": account_id,
        "name": None,
        "protection": "NOT PROTECTED",
        "protection_since": None,
        "reason": "",
        "balance": None,
        "realized_pnl": None,
        "unrealized_pnl": None,
        "positions": [],
        "working_orders": [],
        "limits": [],
        "lockouts": [],
        "enforcing": [],
        "findings": [],
    }


def _holds(row: LockoutRow, now: datetime) -> bool:
    return row.until is None or now < row.until


def _lockout(row: LockoutRow) -> dict[str, Any]:
    return {
        "rule": row.rule,
        "scope": row.scope,
        "kind": row.kind,
        "since": _text(row.since),
        "until": None if row.until is None else _text(row.until),
        "condition": row.condition,
        "reason": row.reason,
    }


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def lines(status: Mapping[str, Any], now: datetime, settings: Settings) -> list[str]:
    """Return the status as a person reads it."""
    daemon, link = status["daemon"], status["link"]
    zone = settings.trading_day.zone
    since = f" since {_when(daemon['since'], zone)}" if daemon["since"] is not None else ", by another journal"
    running = f"running{since}" if daemon["running"] else "NOT RUNNING"
    token = f"; token {link['token']}"
    out = [
        f"flatguard {daemon['version'] or ''} {running}".replace("  ", " "),
        f"links: user hub {link['user_hub']}, market hub {link['market_hub']}, REST {link['rest']}" + token,
        *_rest_lines(link, zone),
        *(_hub_line(name, counters, now) for name, counters in status["hubs"].items()),
    ]
    if warning := status["calendar"]["warning"]:
        out.append(f"Warning: {warning}")
    for account in status["accounts"]:
        out += ["", *_account_lines(account, now, zone)]
    return out


def _rest_lines(link: Mapping[str, Any], zone: Any) -> list[str]:
    """Say what is not as it should be about REST; nothing while the allowance does and the gateway answers."""
    allowance, breaker = link.get("allowance"), link.get("breaker")
    said = []
    if allowance is not None and (allowance["refused"] or allowance["waiting"]):
        said.append(f"{allowance['used']} of {allowance['limit']} requests in a minute")
        said.append(f"{sum(allowance['waiting'].values())} waiting")
        said.append(f"{allowance['refused']} answered with too many")
    if breaker is not None and breaker["state"] != "closed":
        until = breaker["open_until"]
        said.append("look-ups on trial" if until is None else f"no look-ups until {_when(until, zone)}")
    return [f"  REST: {', '.join(said)}"] if said else []


def _hub_line(name: str, counters: Mapping[str, Any], now: datetime) -> str:
    said = [f"{counters['messages']:,} message{'s' if counters['messages'] != 1 else ''}"]
    if counters["heard_at"] is not None:
        age_s = (now - datetime.fromisoformat(counters["heard_at"])).total_seconds()
        said.append(f"the last {max(0, age_s):.0f} s ago")
    if counters["round_trip_ms"] is not None:
        said.append(f"round trip {counters['round_trip_ms']:g} ms")
    if counters["waiting"]:
        said.append(f"{counters['waiting']:,} waiting")
    if counters["reconnects"]:
        said.append(f"{counters['reconnects']} reconnect{'s' if counters['reconnects'] > 1 else ''}")
    return f"  {name} hub: {', '.join(said)}"


def _account_lines(account: Mapping[str, Any], now: datetime, zone: Any) -> list[str]:
    why = f" ({account['reason']})" if account["reason"] else ""
    since = f" since {_when(account['protection_since'], zone)}" if account["protection_since"] else ""
    out = [f"{account['protection']}{since}  account {account['id']} {account['name'] or ''}{why}"]
    if account["balance"] is not None:
        day = account["realized_pnl"] if account["realized_pnl"] is not None else "unknown"
        open_pnl = account["unrealized_pnl"] if account["unrealized_pnl"] is not None else "unknown"
        out.append(f"  balance {account['balance']} USD, realised today {day}, open {open_pnl}")
    out += [f"  Warning: {finding}" for finding in account.get("findings", ())]
    for entry in account.get("enforcing", ()):
        tries = f", tried {entry['tries']} time{'s' if entry['tries'] != 1 else ''}" if entry["tries"] else ""
        lasts = _left(now - datetime.fromisoformat(entry["since"]))
        out.append(
            f"  ENFORCING {', '.join(entry['rules'])} since {_when(entry['since'], zone)} ({lasts}){tries}: "
            f"{attempt_in_words(entry, zone)}{_next_try(entry, zone)}"
        )
    for lock in account["lockouts"]:
        until = lock.get("condition") or "an administrator unlocks it"
        if lock["until"] is not None:
            until = f"{_when(lock['until'], zone)}"
        left = "" if lock["until"] is None else f" ({_left(datetime.fromisoformat(lock['until']) - now)} left)"
        what = "LOCKED" if lock.get("kind", LockKind.HARD) == LockKind.HARD else "COOLING DOWN"
        what = what if lock["scope"] == ACCOUNT_SCOPE else f"{lock['scope']} {what}"
        out.append(f"  {what} by {lock['rule']} until {until}{left}: {lock['reason']}")
    out += [
        f"  {limit['rule']}: {limit['value']} of {limit['limit']}, {limit['distance']} left"
        for limit in account["limits"]
    ]
    for position in account["positions"]:
        mark = position["mark"] or "no price"
        out.append(
            f"  position {position['size']:+d} {position['contract']} at {position['average_price']}, "
            f"mark {mark}, open {position['open_pnl'] or 'unknown'}"
        )
    for order in account["working_orders"]:
        price = order["limit_price"] or order["stop_price"] or "market"
        out.append(
            f"  order {order['id']} {order['side']} {order['remaining']} {order['contract']} {order['type']} {price} "
            f"({order['status']})"
        )
    return out


def _next_try(entry: Mapping[str, Any], zone: Any) -> str:
    if entry["contract"] is None:
        return ""
    return f"; next try {_when(entry['next_try_at'], zone)}" if entry["next_try_at"] else "; waiting for an answer"


def _when(moment: str, zone: Any) -> str:
    local = datetime.fromisoformat(moment).astimezone(zone)
    return f"{local:%a %H:%M:%S %Z}"


def _left(duration: timedelta) -> str:
    minutes, seconds = divmod(max(0, int(duration.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
