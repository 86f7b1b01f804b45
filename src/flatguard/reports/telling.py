"""Decisions, locks and replays as lines for a person, from the same objects that ``--json`` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from flatguard.model.lockouts import ACCOUNT_SCOPE, LockKind

Facts = Mapping[str, Any]

ACTIONS = {"close": "close", "partial_close": "close", "cancel": "cancel"}


def both_clocks(moment: str | datetime, zone: ZoneInfo) -> str:
    """Write a moment by the exchange's clock and in UTC, to the millisecond."""
    at = _at(moment)
    return f"{_local(at, zone)} ({at.astimezone(UTC):%H:%M:%S}.{at.microsecond // 1000:03d}Z)"


def _local(moment: str | datetime, zone: ZoneInfo, *, exact: bool = True) -> str:
    local = _at(moment).astimezone(zone)
    part = f".{local.microsecond // 1000:03d}" if exact else ""
    return f"{local:%a %Y-%m-%d %H:%M:%S}{part} {local:%Z}"


def _at(moment: str | datetime) -> datetime:
    return moment if isinstance(moment, datetime) else datetime.fromisoformat(moment)


def end_state(wanted: Facts, name: str) -> str:
    """Say which end state a decision names; ``name`` is its contract's. A lock is none."""
    match wanted["_type"]:
        case "Flatten":
            return "no position in the account, and no working order"
        case "CloseContract":
            return f"no position in {name}, and no working order that could open one"
        case "ReduceTo":
            return f"at most {wanted['size']} {name}"
        case _:
            return f"order {wanted['order_id']} of {name} does not work any more"


def _where(lock: Facts) -> str:
    return "the account is" if lock["scope"] == ACCOUNT_SCOPE else f"{lock['scope']} is"


def _what(lock: Facts) -> str:
    return "locked" if lock["kind"] == LockKind.HARD else "cooling down"


def why_lines(story: Facts, zone: ZoneInfo) -> Iterator[str]:
    """Tell one decision in full."""
    yield f"{story['rule']}, account {story['account']}, decision {story['id']}"
    yield f"  {story['reason']}"
    yield ""
    yield f"Found      {both_clocks(story['at'], zone)}"
    yield from _cause_lines(story, zone)
    for heading, pairs in (("Figures", story["figures"]), ("Sources", story["sources"])):
        yield from _table(heading, ((pair["name"], pair["value"]) for pair in pairs))
    yield from _settings_lines(story["settings"], zone)
    yield from _table("Wanted", (("", wanted) for wanted in story["wanted"]))
    yield from _request_lines(story, zone)
    yield from _lock_lines(story["locks"], zone)
    if story["led_to"]:
        yield "Led to"
        for later in story["led_to"]:
            yield f"  {_local(later['at'], zone)}  {later['id']}  {later['reason']}"


def _table(heading: str, rows: Any) -> Iterator[str]:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    gap = "  " if width else ""
    if rows:
        yield heading
    yield from (f"  {name:<{width}}{gap}{value}" for name, value in rows)


def _cause_lines(story: Facts, zone: ZoneInfo) -> Iterator[str]:
    event = story["event"]
    if event is None:
        yield f"After      {story['cause']}; the tape has let go of the event"
        return
    yield f"After      {event['kind']} (row {event['row']} of the tape){': ' if event['text'] else ''}{event['text']}"
    if event["broker_at"] is not None:
        yield f"           by the broker {both_clocks(event['broker_at'], zone)}"
        yield f"           received      {both_clocks(event['received_at'], zone)}, {_later(event['age_ms'])}"
    else:
        yield f"           received {both_clocks(event['received_at'], zone)}"


def _later(ms: int) -> str:
    return f"{ms:,} ms later" if ms >= 0 else f"{-ms:,} ms earlier: the clocks differ"


def _settings_lines(settings: Facts | None, zone: ZoneInfo) -> Iterator[str]:
    if settings is None:
        yield "Settings   not on record"
        return
    yield (
        f"Settings   version {settings['version']}, {settings['mode'] or 'mode unknown'}, of the run since "
        f"{_local(settings['run_started_at'], zone, exact=False)} (flatguard {settings['flatguard']})"
    )
    rows = []
    for key, told in settings["rule"].items():
        value = told["value"] if isinstance(told["value"], str) else json.dumps(told["value"])
        origin = told["from"].replace("file:", f"{settings['file']}:")
        rows.append((key, f"{value}  ({origin})" if origin else value))
    width = max((len(key) for key, _ in rows), default=0)
    yield from (f"  {key:<{width}}  {value}" for key, value in rows)


def _request_lines(story: Facts, zone: ZoneInfo) -> Iterator[str]:
    if not story["requests"]:
        shadow = (story["settings"] or {}).get("mode") == "shadow"
        yield "Requests   none" + (": the account is in shadow, nothing is sent" if shadow else "")
    else:
        yield "Requests"
    for request in story["requests"]:
        what = f"{ACTIONS[request['action']]} {request['detail']} {request['contract']}".replace("  ", " ")
        outcome = request["outcome"] + (f": {request['reason']}" if request["reason"] else "")
        yield (
            f"  {_local(request['sent_at'], zone)}  {what}: {outcome}"
            f" (sent after {request['after_ms']:,} ms, answered in {request['took_ms']:,} ms)"
        )
    if story["reached_at"] is not None:
        yield f"Seen       {both_clocks(story['reached_at'], zone)}, {story['reached_ms']:,} ms after it was found"
        yield (
            f"Proven     {both_clocks(story['proven_at'], zone)}, {story['proven_ms']:,} ms after it was found,"
            " by two complete readings"
        )
    elif story["requests"]:
        yield "Proven     not: the end state was not seen in two complete readings while this decision stood"


def _lock_lines(locks: list[Facts], zone: ZoneInfo) -> Iterator[str]:
    for lock in locks:
        yield f"Lock       {_where(lock)} {_what(lock)} until {_end(lock, zone)}: {lock['standing']}"


def _end(lock: Facts, zone: ZoneInfo) -> str:
    if lock["until"] is not None:
        return both_clocks(lock["until"], zone)
    return lock["condition"] or "an administrator unlocks it"


def history_line(row: Facts, zone: ZoneInfo) -> str:
    """Tell one decision, or one warning, in a line."""
    start = f"{_local(row['at'], zone, exact=False)}  {row['account']}  {row['rule']}"
    if row["kind"] == "warning":
        return f"{start}  WARNING: {row['text']}"
    timing = []
    if row["first_request_ms"] is not None:
        timing.append(f"first request after {row['first_request_ms']:,} ms")
    if row["reached_ms"] is not None:
        timing.append(f"there after {row['reached_ms']:,} ms")
    return f"{start}  {row['id'][:8]}  {row['reason']} -- {', '.join([row['outcome'], *timing])}"


def lockout_lines(lock: Facts, now: datetime, zone: ZoneInfo) -> Iterator[str]:
    """Tell one lockout."""
    what = _what(lock).upper()
    scope = "" if lock["scope"] == ACCOUNT_SCOPE else f", {lock['scope']} only"
    until = f" ({left(_at(lock['until']) - now)})" if lock["until"] is not None and lock["in_force"] else ""
    yield f"account {lock['account']}{scope}  {what} by {lock['rule']} until {_end(lock, zone)}{until}"
    yield f"  since {both_clocks(lock['since'], zone)}: {lock['reason']}"
    if lock["breach"]:
        yield f"  flatguard why {lock['breach']}"
    if not lock["in_force"]:
        yield f"  {lock['standing']}"


def left(duration: timedelta) -> str:
    """Say how much of a time is left."""
    minutes, seconds = divmod(int(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d} left"


def replay_lines(told: Facts, zone: ZoneInfo) -> Iterator[str]:
    """Tell whether an account's tape gave the same again, and if not, where it first did not."""
    runs, states = len(told["runs"]), told["states_compared"]
    extent = (
        f"account {told['account']}: {_count(told['events'], 'event')} from {_local(told['from'], zone, exact=False)}"
        f" to {_local(told['to'], zone, exact=False)}, {_count(runs, 'run')},"
        f" {_count(told['breaches'], 'decision')}"
    )
    difference = told["difference"]
    if difference is None:
        yield f"{extent}: THE SAME AGAIN, and the same byte for byte in {_count(states, 'state')} on record"
    else:
        yield f"{extent}: SOMETHING ELSE came out"
        where = f"in row {difference['row']}" if difference["event"] else f"in the state after row {difference['row']}"
        yield f"  first {where}, {both_clocks(difference['at'], zone)}: {difference['what']}"
        if difference["event"]:
            yield f"  event:    {difference['event']}"
        yield f"  recorded: {difference['recorded']}"
        yield f"  came out: {difference['came_out']}"
        recorded_by = told["runs"][-1]["version"]
        yield f"  The row was changed, or flatguard {recorded_by}, which recorded it, judged otherwise than this one."
    yield from (f"  note: {note}" for note in told["notes"])


def otherwise_lines(told: Facts, zone: ZoneInfo, file: str) -> Iterator[str]:
    """Tell what other rules would have decided, beside what was decided."""
    yield (
        f"account {told['account']}: {_count(told['events'], 'event')} from {_local(told['from'], zone, exact=False)}"
        f" to {_local(told['to'], zone, exact=False)}, judged by {', '.join(told['rules']) or 'no rule'} of {file}"
    )
    yield "  After a decision of then come the fills and prices of then: what another leads to is not simulated."
    for lock in told["locked_at_the_beginning"]:
        yield f"  {_where(lock)} locked at the beginning, by {lock['rule']}"
    for row in told["decisions"]:
        then, otherwise = row["decided"], row["would_be_decided"]
        which = "both     " if then and otherwise else "then only" if then else "now only "
        one = otherwise or then
        yield f"  {which}  {_local(one['at'], zone)}  {row['rule']}: {one['reason']}"
        if then and otherwise and then["at"] != otherwise["at"]:
            yield f"             then it was {_local(then['at'], zone)}"
        if then and otherwise and then["reason"] != otherwise["reason"]:
            yield f"             then it was: {then['reason']}"
    if not told["decisions"]:
        yield "  nothing was decided, and nothing would have been"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
