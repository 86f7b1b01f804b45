"""``flatguard lockouts``: what is locked until when. From the journal, so it works with the daemon down."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click

from flatguard.cli import config_option
from flatguard.cli._record import known_account, print_json, settings_of, utc
from flatguard.clock import SystemClock
from flatguard.daemon.sole_guard import is_guarded
from flatguard.journal.decided import Decided, Lock, asking
from flatguard.reports.telling import lockout_lines


@config_option
@click.command("lockouts", short_help="Show what is locked until when.")
@click.option("--account", type=int, help="Of this account alone.")
@click.option("--all", "everything", is_flag=True, help="Also those that are over.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, account: int | None, everything: bool, as_json: bool) -> None:
    """Show what is locked until when, and why."""
    settings = settings_of(ctx)
    now = SystemClock().now()
    with asking(settings.journal.path) as decided:
        known_account(account, settings, decided.accounts())
        known = decided.locks()
        locks = [_row(lock, now) for lock in known]
        locks = list(_over(decided, known)) + locks if everything else [lock for lock in locks if lock["in_force"]]
    locks = [lock for lock in locks if account in {None, lock["account"]}]
    running = any(is_guarded(settings.gateway.rest_url, guarded.id) for guarded in settings.accounts)
    if as_json:
        print_json({"running": running, "lockouts": locks})
        return
    if not running:
        click.echo("The daemon is not running: this is from its journal, and nothing is enforced now.", err=True)
    for lock in locks:
        for line in lockout_lines(lock, now, settings.trading_day.zone):
            click.echo(line)
    if not locks:
        click.echo("nothing is locked", err=True)


def _row(lock: Lock, now: datetime) -> dict[str, Any]:
    in_force = lock.until is None or now < lock.until
    return {
        "account": lock.account,
        "scope": lock.scope,
        "kind": lock.kind,
        "rule": lock.rule,
        "condition": lock.condition,
        "since": utc(lock.since),
        "until": utc(lock.until),
        "reason": lock.reason,
        "breach": lock.breach,
        "in_force": in_force,
        "standing": "" if in_force else "its time is over; the daemon lifts it once the broker's clock says so too",
    }


def _over(decided: Decided, known: tuple[Lock, ...]) -> Iterator[dict[str, Any]]:
    """Yield the locks that decisions called for and that are no more, oldest first."""
    still = {(lock.breach, lock.scope, lock.kind, lock.condition) for lock in known}
    for decision in decided.between():
        for lock in decision.locks:
            if (decision.id, lock["scope"], lock["kind"], lock["condition"]) not in still:
                until = None if lock["until"] is None else datetime.fromisoformat(lock["until"])
                yield {
                    "account": decision.account,
                    "scope": lock["scope"],
                    "kind": lock["kind"],
                    "rule": decision.rule,
                    "condition": lock["condition"],
                    "since": utc(decision.at),
                    "until": utc(until),
                    "reason": decision.reason,
                    "breach": decision.id,
                    "in_force": False,
                    "standing": "it is over, or another of the same rule has taken its place",
                }
