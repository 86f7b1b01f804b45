"""``flatguard journal``: is the record as it was written, is it all there, and what is in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from flatguard.cli import config_option
from flatguard.errors import FlatguardError
from flatguard.journal.export import export as export_lines
from flatguard.journal.verify import Verdict
from flatguard.journal.verify import verify as verdict_of
from flatguard.settings.load import load
from flatguard.settings.paths import config_path

SCHEMA_VERSION = 1
MOST_SHOWN = 20


@click.group("journal", short_help="Check and export the record of what happened.")
def command() -> None:
    """Check and export the record of what happened."""


@config_option
@command.command("verify", short_help="Tell whether the record was changed, and whether it is all there.")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--head", help="A head that was noted earlier; it has to be in the chain.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def verify(ctx: click.Context, path: Path | None, head: str | None, as_json: bool) -> None:
    """Tell whether the record was changed, and whether it is all there.

    PATH is a journal; by default that of the settings. Exit status: 0 intact, 1 not.
    """
    path = path if path is not None else _journal_of_the_settings(ctx)
    verdict = verdict_of(path, head)
    if verdict is None:
        raise _nothing_at(path)
    if as_json:
        click.echo(json.dumps(_facts(path, verdict), indent=2))
    else:
        for line in _lines(path, verdict):
            click.echo(line)
    sys.exit(0 if verdict.intact else 1)


@config_option
@command.command("export", short_help="Print the record as JSON lines.")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--from", "since", help="From this moment on: 2026-03-18 or 2026-03-18T14:30:00Z; without a zone UTC.")
@click.option("--to", "until", help="Until before this moment.")
@click.option("--account", type=int, help="Of this account alone, and the runs.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="A file that is not there yet.")
@click.pass_context
def export(
    ctx: click.Context,
    path: Path | None,
    since: str | None,
    until: str | None,
    account: int | None,
    output: Path | None,
) -> None:
    """Print the record as JSON lines: runs, breaches, requests, proofs, events.

    PATH is a journal; by default that of the settings.
    """
    path = path if path is not None else _journal_of_the_settings(ctx)
    if not path.exists():
        raise _nothing_at(path)
    lines = export_lines(path, _moment("--from", since), _moment("--to", until), account)
    if output is None:
        for line in lines:
            click.echo(line)
    else:
        _write(output, lines)


def _write(output: Path, lines: Iterator[str]) -> None:
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise FlatguardError(f"{output} cannot be written: {error.strerror}", hint="name another file") from None


def _journal_of_the_settings(ctx: click.Context) -> Path:
    return load(ctx.find_root().obj or config_path(), os.environ).journal.path


def _nothing_at(path: Path) -> FlatguardError:
    return FlatguardError(f"there is no journal at {path}", hint="check the path; flatguard run makes it")


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no moment such as 2026-03-18T14:30:00Z", param_hint=option) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _facts(path: Path, verdict: Verdict) -> dict[str, Any]:
    head = verdict.head
    return {
        "schema_version": SCHEMA_VERSION,
        "path": str(path),
        "journal": verdict.journal,
        "integrity": {"ok": verdict.intact, "findings": verdict.findings, "head_known": verdict.head_known},
        "completeness": {
            "since": None if verdict.since is None else _text(verdict.since),
            "gaps": [{"from": _text(gap.since), "to": _text(gap.until), "stopped": gap.clean} for gap in verdict.gaps],
            "forgotten": [{"account": a, "up_to_row": row} for a, row in sorted(verdict.forgotten.items())],
            "stopped": verdict.stopped,
        },
        "links": verdict.links,
        "rows": verdict.rows,
        "head": None if head is None else {"number": head.number, "at": _text(head.at), "hash": head.hash},
    }


def _lines(path: Path, verdict: Verdict) -> Iterator[str]:
    yield f"journal {verdict.journal} at {path}: {verdict.links:,} links, {verdict.rows:,} rows of the tape"
    yield "INTEGRITY: " + ("nothing was changed, inserted or removed" if verdict.intact else "BROKEN")
    for finding in verdict.findings[:MOST_SHOWN]:
        yield f"  {finding}"
    if len(verdict.findings) > MOST_SHOWN:
        yield f"  and {len(verdict.findings) - MOST_SHOWN} more; --json shows all"
    if verdict.head_known is False:
        yield "  the head that you noted is not in the chain: its end was cut off or made anew, or it was let go"
    if verdict.since is not None:
        yield f"COMPLETENESS: recorded since {_text(verdict.since)}, with {len(verdict.gaps)} gaps"
    for gap in verdict.gaps[-MOST_SHOWN:]:
        why = "the daemon had been stopped" if gap.clean else "it had not been stopped: killed, hung, or a full disk"
        yield f"  nothing from {_text(gap.since)} to {_text(gap.until)}: {why}"
    for account, row in sorted(verdict.forgotten.items()):
        yield f"  account {account}: what was seen up to row {row} was let go, as the settings say"
    if verdict.head is not None:
        yield f"HEAD: {verdict.head.hash} of {_text(verdict.head.at)}"
        yield "  Note it elsewhere: an end that was cut off, or a journal made anew, shows only against it."


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
