"""``flatguard demo``: the whole system at work on this machine, without an account."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click
import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from flatguard.cli.narrate import Narrator
from flatguard.daemon.run import Guard
from flatguard.demo.show import Report, show
from flatguard.demo.view import View
from flatguard.journal.reading import BreachStory
from flatguard.model.entries import Entry
from flatguard.model.ids import AccountId
from flatguard.model.money import on_grid

SCHEMA_VERSION = 1
CHICAGO = ZoneInfo("America/Chicago")
REDRAWS_A_SECOND = 8


@click.command("demo", short_help="Show the whole system at work on this machine; no account needed.")
@click.option("--seed", default=7, show_default=True, type=int, help="The market's chance comes from it.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but one JSON object at the end.")
def command(seed: int, as_json: bool) -> None:
    """Show the whole system at work on this machine; no account needed.

    A stand-in for the broker's gateway is started on loopback, the real daemon guards an account there, and a scripted
    trader breaks its rules. It ends by itself within a minute. Exit status 0 only if everything was caught and the
    stand-in's own books agree.
    """
    report = trio.run(_present, seed, as_json)
    if as_json:
        click.echo(json.dumps(as_object(report), indent=2))
    else:
        for line in closing_lines(report):
            click.echo(line)
    sys.exit(0 if report.ok else 1)


async def _present(seed: int, as_json: bool) -> Report:
    console = Console(stderr=as_json)
    view = View(console)
    live = console.is_terminal and not as_json
    async with trio.open_nursery() as nursery:

        def line(sentence: str, style: str = "") -> None:
            view.add(sentence, style)
            if not live and not as_json:
                click.echo(sentence)

        def watch(at_work: Guard, account_id: AccountId) -> None:
            narrator = Narrator(at_work.board.states, CHICAGO)

            def look(entry: Entry) -> None:
                for sentence in narrator.sentences(entry):
                    line(sentence, "bold red" if "BREACH" in sentence else "")

            at_work.on_entry.append(look)
            if live:
                nursery.start_soon(_draw, view, at_work, account_id)

        report = await show(seed, lambda scene: line(f"-- {scene}", "bold cyan"), watch, line)
        nursery.cancel_scope.cancel()
    return report


async def _draw(view: View, at_work: Guard, account_id: AccountId) -> None:
    """Redraw the screen until cancelled."""
    with _screen(view) as live:
        while True:
            live.update(view.draw(at_work.standing(account_id), at_work.clock.now(), _prices(at_work, account_id)))
            live.refresh()
            await trio.sleep(1 / REDRAWS_A_SECOND)


@contextlib.contextmanager
def _screen(view: View) -> Iterator[Live]:
    with Live(Text("starting"), console=view.console, auto_refresh=False, transient=False) as live:
        yield live


def _prices(at_work: Guard, account_id: AccountId) -> dict[str, str]:
    state = at_work.board.states[account_id]
    return {
        state.label(contract_id): on_grid(quote.last, state.contracts[contract_id].tick_size)
        for contract_id, quote in state.quotes.items()
        if quote.last is not None and contract_id in state.contracts
    }


def as_object(report: Report) -> dict[str, Any]:
    """Return the report as scripts read it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "ok": report.ok,
        "seed": report.seed,
        "breaches": [
            {
                "id": story.id,
                "rule": story.rule,
                "account": story.account,
                "reason": story.reason,
                "at": _text(story.at),
                "breach_to_request_ms": _ms_to_request(story),
                "breach_to_flat_ms": _ms(story.at, story.reached_at),
                "locked_until": None if story.locked_until is None else _text(story.locked_until),
            }
            for story in report.stories
        ],
        "final_positions": list(report.final_positions),
        "final_working_orders": list(report.final_working_orders),
        "realized_pnl": {"ours": report.realized_ours, "broker": report.realized_broker},
    }


def closing_lines(report: Report) -> list[str]:
    """Return the report as a person reads it."""
    out = ["", "What was caught (read back from the journal):"]
    for story in report.stories:
        out.append(f"  {story.id} {story.rule}: {story.reason}")
        out += [
            f"      {step.action} {step.detail or step.contract}: {step.outcome} {step.reason}".rstrip()
            for step in story.steps
        ]
        request, flat = _ms_to_request(story), _ms(story.at, story.reached_at)
        out.append(
            f"      first request after {_shown(request)}, end state seen after {_shown(flat)}, proven by two readings"
        )
    positions, orders = len(report.final_positions), len(report.final_working_orders)
    same = "equal" if report.realized_ours == report.realized_broker else "NOT EQUAL"
    out += [
        f"Left in the account: {positions or 'no'} positions, {orders or 'no'} working orders.",
        f"Realised P&L: ours {report.realized_ours}, the broker's books {report.realized_broker}: {same}.",
        *(f"FAILED: {failure}" for failure in report.failures),
    ]
    if report.ok:
        out.append("All caught; the broker's own books agree.")
    return out


def _ms_to_request(story: BreachStory) -> float | None:
    return _ms(story.at, min((step.sent_at for step in story.steps), default=None))


def _ms(start: datetime, end: datetime | None) -> float | None:
    return None if end is None else round((end - start).total_seconds() * 1000, 1)


def _shown(ms: float | None) -> str:
    return "never" if ms is None else f"{ms:.0f} ms"


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
