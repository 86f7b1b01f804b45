"""``flatguard why``: one decision told in full."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import click

from flatguard.cli import config_option
from flatguard.cli._record import milliseconds, print_json, settings_of, utc
from flatguard.clock import SystemClock
from flatguard.errors import NotOnRecord
from flatguard.journal.decided import Cause, Decided, Decision, Lock, asking
from flatguard.model.products import product
from flatguard.model.trading import root_of
from flatguard.reports.telling import end_state, why_lines
from flatguard.rules._lockout import NAME as LOCKOUT

BROKER_TIMES = ("made_at", "updated_at", "broker_at")  # of a position the broker tells only when it was opened
SHOWN = ("side", "size", "price", "average_price", "profit_and_loss", "last", "bid", "ask", "reason", "status")


@config_option
@click.command("why", short_help="Tell one decision in full.")
@click.argument("decision")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, decision: str, as_json: bool) -> None:
    """Tell one decision in full: what was found, by which settings, what was sent, what came of it.

    DECISION is its id, or as much of its beginning as no other has; flatguard history lists them.
    """
    settings = settings_of(ctx)
    with asking(settings.journal.path) as decided:
        story = story_of(decided, _only(decided, decision.strip().lower()), SystemClock().now())
    if as_json:
        print_json(story)
        return
    for line in why_lines(story, settings.trading_day.zone):
        click.echo(line)


def _only(decided: Decided, prefix: str) -> Decision:
    if not prefix:
        raise NotOnRecord("no decision is named", hint="flatguard history lists them")
    found = decided.starting_with(prefix)
    exact = [decision for decision in found if decision.id == prefix]
    if len(found) == 1 or exact:
        return (exact or list(found))[0]
    if not found:
        raise NotOnRecord(f"the journal has no decision {prefix!r}", hint="flatguard history lists them")
    listed = ", ".join(f"{one.id} ({one.rule})" for one in found[:5]) + (", …" if len(found) > 5 else "")
    raise NotOnRecord(f"{len(found)} decisions begin with {prefix!r}: {listed}", hint="write more of the id")


def story_of(decided: Decided, decision: Decision, now: datetime) -> dict[str, Any]:
    """Return the object of ``--json``."""
    outcome = decided.outcomes((decision,))[decision.id]
    return {
        "id": decision.id,
        "account": decision.account,
        "rule": decision.rule,
        "at": utc(decision.at),
        "reason": decision.reason,
        "cause": decision.cause,
        "event": _event(decided.cause_of(decision), decision),
        "figures": [{"name": name, "value": value} for name, value in decision.figures],
        "sources": [{"name": name, "value": value} for name, value in decision.sources],
        "settings": _settings(decided, decision),
        "wanted": [
            end_state(wanted, _label(wanted.get("contract_id", "")))
            for wanted in decision.calls_for
            if wanted not in decision.locks
        ],
        "requests": [
            {
                "action": step.action,
                "contract": _label(step.contract),
                "detail": step.detail,
                "sent_at": utc(step.sent_at),
                "answered_at": utc(step.answered_at),
                "outcome": step.outcome,
                "reason": step.reason,
                "after_ms": milliseconds(decision.at, step.sent_at),
                "took_ms": milliseconds(step.sent_at, step.answered_at),
            }
            for step in outcome.steps
        ],
        "reached_at": utc(outcome.reached_at),
        "reached_ms": milliseconds(decision.at, outcome.reached_at),
        "proven_at": utc(outcome.proven_at),
        "proven_ms": milliseconds(decision.at, outcome.proven_at),
        "locks": list(_locks(decided.locks(), decision, now)),
        "led_to": list(_led_to(decided, decision)),
    }


def _event(cause: Cause | None, decision: Decision) -> dict[str, Any] | None:
    if cause is None:
        return None
    row = _row(cause.event, decision.cause)
    told_at = next((row[name] for name in BROKER_TIMES if row.get(name)), None)
    broker_at = None if told_at is None else datetime.fromisoformat(told_at)
    shown = [f"{name.replace('_', ' ')} {row[name]}" for name in SHOWN if row.get(name) not in {None, ""}]
    contract = row.get("contract_id")
    return {
        "row": cause.seq,
        "kind": cause.kind,
        "text": ", ".join(([_label(contract)] if contract else []) + shown),
        "broker_at": utc(broker_at),
        "received_at": utc(cause.at),
        "age_ms": None if broker_at is None else milliseconds(broker_at, cause.at),
    }


def _row(event: Mapping[str, Any], cause: str) -> Mapping[str, Any]:
    """Return what of an event it is about: the fill that is the cause, the order, the position, else the event."""
    _, _, number = cause.partition("trade ")
    for trade in event.get("trades", ()):
        if str(trade["id"]) == number:
            return trade  # type: ignore[no-any-return]
    return next((event[part] for part in ("trade", "order", "position", "account") if part in event), event)


def _label(contract_id: str) -> str:
    """Return a contract's name for a person, read from its id."""
    month, root = contract_id.rpartition(".")[2], root_of(contract_id)
    return contract_id if root == contract_id.upper() else f"{product(root)}{month[:1]}{month[-1:]}"


def _settings(decided: Decided, decision: Decision) -> dict[str, Any] | None:
    from flatguard.settings.in_force import version

    run = decided.run(decision.run)
    if run is None:
        return None
    try:
        facts = json.loads(run.settings)
        account = next(a for a in facts["accounts"] if a["id"] == decision.account)
        keys = account["rules"].get(decision.rule, {})
        origins = facts.get("origins", {})
        mode, file = account["mode"], facts["file"]
        place = f"accounts[{decision.account}].rules.{decision.rule}"
        rule = {key: {"value": value, "from": origins.get(f"{place}.{key}", "")} for key, value in keys.items()}
    except (AttributeError, LookupError, StopIteration, TypeError, ValueError):
        rule, mode, file = {}, None, None
    return {
        "version": version(run.settings),
        "file": file,
        "mode": mode,
        "run": decision.run,
        "run_started_at": utc(run.started_at),
        "flatguard": run.version,
        "rule": rule,
    }


def _locks(locks: tuple[Lock, ...], decision: Decision, now: datetime) -> Iterator[dict[str, Any]]:
    for called_for in decision.locks:
        key = (decision.account, decision.rule, called_for["scope"], called_for["kind"], called_for["condition"])
        known = next(
            (lock for lock in locks if (lock.account, lock.rule, lock.scope, lock.kind, lock.condition) == key), None
        )
        until = None if called_for["until"] is None else datetime.fromisoformat(called_for["until"])
        if known is None:
            standing = "it is over"
        elif known.until is not None and now >= known.until:
            standing = "its time is over"
        elif known.breach != decision.id:
            standing = f"in force, by decision {known.breach}"
        else:
            standing = "in force"
        yield {
            "scope": called_for["scope"],
            "kind": called_for["kind"],
            "condition": called_for["condition"],
            "until": utc(until),
            "in_force": standing.startswith("in force"),
            "standing": standing,
        }


def _led_to(decided: Decided, decision: Decision) -> Iterator[dict[str, Any]]:
    """Yield what had to be closed or cancelled because of its locks."""
    if decision.rule == LOCKOUT or not decision.locks:
        return
    ends = [lock["until"] for lock in decision.locks]
    last = None if None in ends else max(map(datetime.fromisoformat, ends))
    for later in decided.between(decision.at, last, LOCKOUT, decision.account):
        named = dict(later.figures).get("locked by", "").split(", ")
        if decision.rule in named:
            yield {"id": later.id, "at": utc(later.at), "reason": later.reason}
