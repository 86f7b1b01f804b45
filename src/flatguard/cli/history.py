"""``flatguard history``: what was decided, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click

from flatguard.cli import config_option
from flatguard.cli._record import (
    known_account,
    known_rule,
    milliseconds,
    moment,
    print_json,
    settings_of,
    utc,
)
from flatguard.clock import SystemClock
from flatguard.journal.decided import Decided, Decision, Near, Outcome, asking
from flatguard.reports.telling import history_line

MOST = 50


@config_option
@click.command("history", short_help="List what was decided and done.")
@click.option("--since", help="From then on: 2h, today, 2026-03-18, or an RFC 3339 time.")
@click.option("--until", help="Before then, likewise.")
@click.option("--rule", help="Of this rule alone.")
@click.option("--account", type=int, help="Of this account alone.")
@click.option("--limit", type=click.IntRange(1), default=MOST, show_default=True, help="At most so many, the newest.")
@click.option("--warnings", is_flag=True, help="Also that a limit was near, as far back as the tape goes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    since: str | None,
    until: str | None,
    rule: str | None,
    account: int | None,
    limit: int,
    warnings: bool,
    as_json: bool,
) -> None:
    """List what was decided and done, newest last. flatguard why ID tells one decision in full."""
    settings = settings_of(ctx)
    now = SystemClock().now()
    begins, ends = moment(since, "--since", now, settings), moment(until, "--until", now, settings)
    with asking(settings.journal.path) as decided:
        known_account(account, settings, decided.accounts())
        known_rule(rule, decided.rules())
        decisions = decided.between(begins, ends, rule, account, limit)
        outcomes = decided.outcomes(decisions)
        modes = dict(_modes(decided, decisions))
        rows = [_row(one, outcomes[one.id], modes[one.run, one.account]) for one in decisions]
        if warnings:
            rows += map(_warning, decided.warnings(begins, ends, rule, account))
    rows = sorted(rows, key=lambda row: row["at"])[-limit:]
    if as_json:
        print_json({"history": rows})
        return
    for row in rows:
        click.echo(history_line(row, settings.trading_day.zone))
    if not rows:
        click.echo("nothing was decided", err=True)


def _row(decision: Decision, outcome: Outcome, mode: str | None) -> dict[str, Any]:
    if outcome.proven_at is not None:
        word = "proven"
    elif outcome.steps:
        word = outcome.steps[-1].outcome + ", not proven"
    else:
        word = "nothing sent, in shadow" if mode == "shadow" else "nothing sent"
    first = None if not outcome.steps else outcome.steps[0].sent_at
    locks = [lock["until"] for lock in decision.locks]
    return {
        "kind": "decision",
        "id": decision.id,
        "at": utc(decision.at),
        "account": decision.account,
        "rule": decision.rule,
        "reason": decision.reason,
        "outcome": word,
        "first_request_ms": milliseconds(decision.at, first),
        "reached_ms": milliseconds(decision.at, outcome.reached_at),
        "proven_ms": milliseconds(decision.at, outcome.proven_at),
        "locks": bool(locks),
        "locked_until": None if not locks or None in locks else max(locks).replace("+00:00", "Z"),
    }


def _warning(near: Near) -> dict[str, Any]:
    return {
        "kind": "warning",
        "at": utc(near.at),
        "account": near.account,
        "rule": near.rule,
        "percent": near.percent,
        "text": near.text,
    }


def _modes(decided: Decided, decisions: tuple[Decision, ...]) -> Iterator[tuple[tuple[int, int], str | None]]:
    """Yield by run and account whether it was enforced or in shadow, None where that was not written down."""
    for number, account in {(decision.run, decision.account) for decision in decisions}:
        run = decided.run(number)
        try:
            accounts = json.loads(run.settings if run is not None else "{}").get("accounts", [])
            yield (number, account), next((a["mode"] for a in accounts if a["id"] == account), None)
        except (AttributeError, LookupError, TypeError, ValueError):
            yield (number, account), None
