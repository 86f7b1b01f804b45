"""``flatguard replay``: the tape folded again: the same must come out. Or by other rules: what they would decide."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from attrs import define, evolve, field, frozen

from flatguard.cli import config_option
from flatguard.cli._record import known_account, moment, print_json, settings_of, utc
from flatguard.clock import SystemClock
from flatguard.errors import FlatguardError, InvalidSettings, JournalDamaged, NotOnRecord
from flatguard.journal.codec import EVENT_KINDS, decode, encode
from flatguard.journal.reading import BaseText, EventText, Past, RunRow, reading_past
from flatguard.journal.tape import judged_text
from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import Breach
from flatguard.model.events import Event
from flatguard.model.ids import AccountId
from flatguard.reports.replay import Difference, Folding, beginning_otherwise
from flatguard.reports.telling import otherwise_lines, replay_lines
from flatguard.rules._book import RuleBook
from flatguard.settings.in_force import InForce, in_force, version
from flatguard.settings.load import Settings, load, rules_at
from flatguard.settings.paths import config_path

PROGRESS_EVERY = 20_000  # rows


@config_option
@click.command("replay", short_help="Fold the record again, and compare.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--account", type=int, help="Of this account alone.")
@click.option("--from", "since", help="From then on: 2h, today, 2026-03-18, or an RFC 3339 time.")
@click.option("--to", "until", help="Before then, likewise.")
@click.option("--rules", type=click.Path(path_type=Path, dir_okay=False), help="Judge by the rules of this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    file: Path | None,
    account: int | None,
    since: str | None,
    until: str | None,
    rules: Path | None,
    as_json: bool,
) -> None:
    """Fold the record again by the rules that were in force, and compare with what was decided then.

    FILE is a journal; without it, the one of the settings. Exit status: 0 the same came out, 1 something else did.
    With --rules nothing is compared: it shows what would have been decided beside what was.
    """
    settings = _settings(ctx, file)
    path = file if file is not None else settings.journal.path
    now = SystemClock().now()
    begins, ends = moment(since, "--from", now, settings), moment(until, "--to", now, settings)
    zone = settings.trading_day.zone
    try:
        with reading_past(path) as past:
            if past is None:
                raise NotOnRecord(f"there is no journal at {path}", hint="name one, or run flatguard first")
            tape = _Tape(past, {run.id: run for run in past.runs()}, begins, ends)
            accounts = past.accounts()
            known_account(account, evolve(settings, accounts=()), accounts)
            chosen = [AccountId(number) for number in accounts if account in {None, number}]
            if rules is None:
                told = [_same(tape, number) for number in chosen]
            else:
                others = rules_at(rules, chosen, os.environ)
                told = [_otherwise(tape, number, others) for number in chosen]
    except JournalDamaged as error:
        if file is None:
            raise
        raise FlatguardError(str(error), hint="name the journal of a flatguard") from None
    ok = all(one["difference"] is None for one in told)
    if as_json:
        print_json({"journal": str(path), "rules": None if rules is None else str(rules), "ok": ok, "accounts": told})
    else:
        for one in told:
            for line in replay_lines(one, zone) if rules is None else otherwise_lines(one, zone, str(rules)):
                click.echo(line)
    if not told:
        click.echo("nothing is on the tape yet", err=True)
    sys.exit(0 if ok else 1)


def _settings(ctx: click.Context, file: Path | None) -> Settings:
    """Return the settings; a journal that is named needs none, and times are then the exchange's."""
    if file is None:
        return settings_of(ctx)
    path: Path = ctx.find_root().obj or config_path()
    if path.exists():
        return load(path, os.environ)
    return rules_at(Path(os.devnull), (AccountId(1),), {})


@frozen
class _Row:
    """A row of the tape, read."""

    text: EventText
    event: Event


@define
class _Tape:
    """The past, from which accounts are folded again: ``begins`` and ``ends`` are what of it was asked for."""

    past: Past
    runs: Mapping[int, RunRow]
    begins: datetime | None
    ends: datetime | None
    _in_force: dict[int, InForce] = field(factory=dict)

    def start(self, account: int) -> BaseText:
        """Return the newest state before what was asked for, else the oldest that there is."""
        bases = [base for base in self.past.bases(account) if base.run]
        if not bases:
            raise NotOnRecord(
                f"account {account}: an older flatguard wrote all there is", hint="what is recorded from now on can be"
            )
        before = [base for base in bases if self.begins is None or base.at <= self.begins]
        return bases[0] if self.begins is None or not before else before[-1]

    def rules_of(self, run: int, account: int) -> tuple[RuleBook, Terms]:
        """Return what a run judged an account by. Raises InvalidSettings where that is not known here."""
        if run not in self._in_force:
            try:
                self._in_force[run] = in_force(self.runs[run].settings)
            except InvalidSettings as error:
                began = self.runs[run].started_at
                raise InvalidSettings(f"the run of {began:%Y-%m-%d %H:%M:%SZ}: {error}", hint=error.hint) from None
        known = self._in_force[run]
        rules = next((a.rules for a in known.accounts if a.id == account), {})
        return RuleBook(rules), known.terms

    def rows(self, account: int, start: BaseText) -> Iterator[_Row]:
        """Yield the rows behind ``start``, and say on stderr how far it is."""
        total = self.past.rows(account, start.seq)
        for number, text in enumerate(self.past.tape(account, after=start.seq), 1):
            if self.ends is not None and text.at >= self.ends:
                return
            if number % PROGRESS_EVERY == 0:
                click.echo(f"account {account}: {number:,} of {total:,} events, {text.at:%Y-%m-%d %H:%M:%SZ}", err=True)
            try:
                event = decode(text.event, EVENT_KINDS[text.kind])
            except (LookupError, ValueError) as error:
                raise JournalDamaged(
                    f"row {text.seq} of the tape ({text.at.isoformat()}) cannot be read: {error}",
                    hint="flatguard journal verify tells what is damaged",
                ) from None
            yield _Row(text, event)

    def asked_for(self, at: datetime) -> bool:
        """Whether a moment is in what was asked for."""
        return (self.begins is None or at >= self.begins) and (self.ends is None or at < self.ends)


def _state(text: str, terms: Terms) -> AccountState:
    state: AccountState = decode(text, AccountState)
    return evolve(state, terms=terms)


def _same(tape: _Tape, account: int) -> dict[str, Any]:
    """Fold an account again by the rules that were in force, up to the first difference."""
    start = tape.start(account)
    book, terms = tape.rules_of(start.run, account)
    folding = Folding(_state(start.state, terms), book, judged_text, encode)
    check = _Check(tape, account, folding, start)
    events, difference, last = 0, None, start.at
    for row in tape.rows(account, start):
        difference = check.before(row.text) or folding.fold_row(row.text.seq, row.event, row.text.judged)
        events, last = events + 1, row.text.at
        if difference is not None:
            break
    else:
        if tape.ends is None:
            difference = check.rest()
    return {
        "account": account,
        "from": utc(start.at),
        "to": utc(last),
        "events": events,
        "breaches": sum(tape.asked_for(breach.at) for breach in folding.decided),
        "states_compared": check.compared,
        "notes": check.notes,
        "runs": [_run(tape, number) for number in check.seen],
        "difference": None if difference is None else _difference(difference),
    }


@define
class _Check:
    """Compares the state with those that were written down on the way, and begins the runs where they began."""

    tape: _Tape
    account: int
    folding: Folding
    start: BaseText
    compared: int = 0
    notes: list[str] = field(factory=list)
    seen: list[int] = field(init=False)
    _bases: list[BaseText] = field(init=False)
    _checkpoint: tuple[int, str] | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.seen = [self.start.run]
        self._bases = [base for base in self.tape.past.bases(self.account) if base.seq > self.start.seq][::-1]
        newest = self.tape.past.checkpoint(self.account)
        self._checkpoint = None if newest is None or newest[0] <= self.start.seq else newest

    def before(self, row: EventText) -> Difference | None:
        """Do what was done between the last row and ``row``."""
        difference = self._up_to(row.seq - 1)
        if difference is None and row.run != self.seen[-1]:
            self._begin(row.run)
        return difference

    def rest(self) -> Difference | None:
        """Do what was done behind the last row."""
        return self._up_to(None)

    def _up_to(self, seq: int | None) -> Difference | None:
        difference = None
        while difference is None and self._bases and (seq is None or self._bases[-1].seq <= seq):
            base = self._bases.pop()
            before = self.seen[-1]
            if base.run != before:
                self._begin(base.run)
                if self._changed_in_a_crash(before, base):
                    continue
            self.compared += 1
            difference = self.folding.same_as(base.seq, base.at, base.state)
        checkpoint = self._checkpoint
        if difference is None and checkpoint is not None and (seq is None or checkpoint[0] <= seq):
            self._checkpoint = None
            self.compared += 1
            at = self.folding.state.last_event_at or self.start.at
            difference = self.folding.same_as(checkpoint[0], at, checkpoint[1])
        return difference

    def _begin(self, run: int) -> None:
        self.seen.append(run)
        self.folding.begin_run(*self.tape.rules_of(run, self.account))

    def _changed_in_a_crash(self, before: int, base: BaseText) -> bool:
        """Go on with what the daemon began with where it crashed and came back with other settings.

        What the crash left behind the last checkpoint it folded by the new settings, which is not what was judged.
        """
        one, two = self.tape.runs[before], self.tape.runs[base.run]
        if one.stopped_at is not None or version(one.settings) == version(two.settings):
            return False
        if self.folding.same_as(base.seq, base.at, base.state) is None:
            return False
        self.notes.append(
            f"after a crash at {one.alive_at:%Y-%m-%d %H:%M:%SZ} the settings were others:"
            " from there on it is folded from the state that the daemon began with"
        )
        self.folding.state = _state(base.state, self.folding.state.terms)
        return True


def _otherwise(tape: _Tape, account: int, others: Settings) -> dict[str, Any]:
    """Judge an account's tape by other rules, and put what would have been decided beside what was."""
    rules = next((a.rules for a in others.accounts if a.id == account), None)
    if rules is None:
        raise InvalidSettings(f"{others.path}: there is no account {account}", hint="add it, or --account with another")
    start = tape.start(account)
    book, terms = RuleBook(rules), others.terms
    folding = Folding(beginning_otherwise(_state(start.state, terms), terms), book, judged_text, encode)
    run, events, last = start.run, 0, start.at
    decided: list[Breach] = []
    for row in tape.rows(account, start):
        if row.text.run != run:
            run = row.text.run
            folding.begin_run(book, terms)
        folding.fold(row.event)
        if row.text.judged is not None:
            decided += decode(json.loads(row.text.judged)["found"], tuple[Breach, ...])
        events, last = events + 1, row.text.at
    kept = _state(start.state, terms).locked(start.at)
    return {
        "account": account,
        "from": utc(start.at),
        "to": utc(last),
        "events": events,
        "rules": sorted(rules),
        "locked_at_the_beginning": [
            {"rule": lock.rule, "scope": lock.scope, "until": utc(lock.until)} for lock in kept
        ],
        "decisions": _side_by_side(
            [one for one in decided if tape.asked_for(one.at)],
            [one for one in folding.decided if tape.asked_for(one.at)],
        ),
        "difference": None,
    }


def _side_by_side(then: list[Breach], otherwise: list[Breach]) -> list[dict[str, Any]]:
    """Return both in the order of time. What both decided has one id, and is one row."""
    rows: dict[str, dict[str, Any]] = {}
    for which, breaches in (("decided", then), ("would_be_decided", otherwise)):
        for breach in breaches:
            row = rows.setdefault(
                breach.id, {"id": breach.id, "rule": breach.rule, "decided": None, "would_be_decided": None}
            )
            row[which] = _decision(breach)
    return sorted(rows.values(), key=lambda row: (row["decided"] or row["would_be_decided"])["at"])


def _decision(breach: Breach) -> dict[str, Any]:
    locks = [
        {"scope": lock.scope, "kind": str(lock.kind), "until": utc(lock.until), "condition": lock.condition}
        for lock in breach.lockouts
    ]
    return {"at": utc(breach.at), "reason": breach.reason, "locks": locks}


def _run(tape: _Tape, number: int) -> dict[str, Any]:
    run = tape.runs[number]
    return {
        "started_at": utc(run.started_at),
        "stopped_at": utc(run.stopped_at),
        "version": run.version,
        "settings": version(run.settings),
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "row": difference.seq,
        "at": utc(difference.at),
        "event": difference.event,
        "what": difference.what,
        "recorded": difference.recorded,
        "came_out": difference.came_out,
    }
