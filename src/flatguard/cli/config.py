"""``flatguard config``: write the settings file, check it, show what is in force."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import tomli_w

from flatguard.cli import config_option
from flatguard.clock import SystemClock
from flatguard.errors import InvalidSettings
from flatguard.settings import paths
from flatguard.settings.load import AccountSettings, Settings, load
from flatguard.settings.structure import as_written, key_text
from flatguard.shipped import shipped

SCHEMA_VERSION = 1
TOPSTEP = [f"topstep-{kind}{size}" for kind in ("", "express-") for size in ("50k", "100k", "150k")]
PRESETS = {
    "example": ("example.toml",),
    **{name: ("presets/topstep.toml", f"presets/{name}.toml") for name in TOPSTEP},
}
"""The shipped files that make up each, one after the other: what several have in common is written once."""

STAND_INS = {"user_name": "trader1", "id": 25700001}
"""What the shipped files hold where ``init`` writes the trader's own."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def _not_blank(_ctx: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise click.BadParameter("is blank")
    return text


@click.group("config")
def command() -> None:
    """Write, check and show the settings."""


@command.command()
@click.option("--preset", type=click.Choice(tuple(PRESETS)), default="example", help="What to start from.")
@click.option("--user-name", callback=_not_blank, help="Your login name on the platform.")
@click.option("--account", type=click.IntRange(1, 2**63 - 1), metavar="ID", help="The broker's number of your account.")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@click.pass_context
def init(ctx: click.Context, preset: str, user_name: str | None, account: int | None, force: bool) -> None:
    """Write a commented settings file."""
    path = _path(ctx)
    if os.path.lexists(path) and not force:
        raise InvalidSettings(f"{path}: is there already", hint="--force replaces it; --config names another file")
    text = preset_text(preset)
    for key, value in (("user_name", user_name), ("id", account)):
        if value is not None:
            text = text.replace(_pair(key, STAND_INS[key]), _pair(key, value), 1)
    try:
        _write(path, text)
    except OSError as error:
        raise InvalidSettings(f"{path}: cannot be written: {error.strerror}") from None
    click.echo(f"Wrote {path}")
    todo = [what for what, value in (("gateway.user_name", user_name), ("the account's id", account)) if value is None]
    click.echo(f"Next: {'write ' + ' and '.join(todo) + ', ' if todo else ''}set the limits to your own, then")
    elsewhere = "" if path == paths.config_path() else f" --config {shlex.quote(str(path))}"
    click.echo(f"  flatguard config check{elsewhere}")


@command.command()
@json_option
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Check the file; exit with 2 where it is wrong."""
    path = _path(ctx)
    try:
        settings = load(path, os.environ)
    except InvalidSettings as error:
        if as_json:
            _print_json({"path": str(path), "ok": False, "errors": str(error).splitlines()})
        raise
    warnings = _warn(settings)
    if as_json:
        accounts = [{"id": a.id, "mode": a.mode, "rules": sorted(a.rules)} for a in settings.accounts]
        _print_json({"path": str(path), "ok": True, "accounts": accounts, "warnings": warnings})
        return
    rules = sum(len(account.rules) for account in settings.accounts)
    click.echo(f"OK: {_count(len(settings.accounts), 'account')}, {_count(rules, 'rule')} in {path}")
    for account in settings.accounts:
        click.echo(f"  {_name(account)}: {account.mode}, {_rules(account)}")


@command.command()
@json_option
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """Show what is in force and where it comes from."""
    settings = load(_path(ctx), os.environ)
    _warn(settings)
    if as_json:
        _print_json(_in_force(settings))
    else:
        click.echo("\n".join(_as_toml(_in_force(settings))))


@command.command("path")
@click.pass_context
def show_path(ctx: click.Context) -> None:
    """Print where the settings file is, or would be."""
    click.echo(_path(ctx))


for taking_config in (command, init, check, show, show_path):
    config_option(taking_config)


def preset_text(name: str) -> str:
    """Return the settings file that ``init`` writes for a preset, with its stand-ins."""
    return "".join(map(shipped, PRESETS[name]))


def _path(ctx: click.Context) -> Path:
    return ctx.find_root().obj or paths.config_path()


def _write(path: Path, text: str) -> None:
    """Put the whole text there, or nothing; nobody but its owner may read it. A link is kept, and written through."""
    path = Path(os.path.realpath(path))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # created with mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _name(account: AccountSettings) -> str:
    return f"{account.id} ({account.nickname})" if account.nickname else str(account.id)


def _rules(account: AccountSettings) -> str:
    if not account.rules:
        return "no rule: NOT PROTECTED"
    return f"{_count(len(account.rules), 'rule')} ({', '.join(sorted(account.rules))})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _warn(settings: Settings) -> list[str]:
    """Say what is allowed and probably not meant, and return it."""
    warnings = list(settings.findings_at(SystemClock().now()))
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    return warnings


def _print_json(facts: Mapping[str, Any]) -> None:
    click.echo(json.dumps({"schema_version": SCHEMA_VERSION, **facts}, indent=2, ensure_ascii=False))


def _in_force(settings: Settings) -> dict[str, Any]:
    """Return every value in force with where it comes from, in the order of the settings file."""

    def told(place: str, table: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: {"value": value, "from": settings.origins[f"{place}.{key}"]}
            for key, value in table.items()
            if value is not None
        }

    def account(one: AccountSettings) -> dict[str, Any]:
        place = f"accounts[{one.id}]"
        rules = {name: told(f"{place}.rules.{name}", as_written(rule)) for name, rule in one.rules.items()}
        off = {name: told(f"{place}.rules.{name}", {"enabled": False}) for name in one.switched_off}
        keys = told(place, {"id": one.id, "mode": one.mode, "nickname": one.nickname})
        return {**keys, "rules": dict(sorted({**rules, **off}.items()))}

    commissions = {**settings.commissions, "other": settings.other_commission}
    return {
        "path": str(settings.path),
        "gateway": told("gateway", as_written(settings.gateway)),
        "journal": told("journal", as_written(settings.journal)),
        "trading_day": told("trading_day", as_written(settings.trading_day)),
        "calendar": told("calendar", as_written(settings.calendar)),
        "commissions": told("commissions", as_written(commissions)),
        "warnings": told("warnings", as_written(settings.warnings)),
        "accounts": [account(one) for one in settings.accounts],
    }


def _as_toml(facts: Mapping[str, Any]) -> Iterator[str]:
    """Write what is in force as a settings file that would put the same in force."""

    def table(heading: str, keys: Mapping[str, Any]) -> Iterator[str]:
        yield ""
        yield heading
        pairs = [(_pair(key, told["value"]), told["from"]) for key, told in keys.items()]
        width = max(len(pair) for pair, _ in pairs)
        yield from (f"{pair:<{width}}  # {origin}" for pair, origin in pairs)

    yield f"# In force from {facts['path']}"
    for section in ("gateway", "journal", "trading_day", "calendar", "commissions", "warnings"):
        if facts[section]:
            yield from table(f"[{section}]", facts[section])
    for account in facts["accounts"]:
        yield from table("[[accounts]]", {key: told for key, told in account.items() if key != "rules"})
        if not account["rules"]:
            yield "# no rule: NOT PROTECTED"
        for name, keys in account["rules"].items():
            yield from table(f"[accounts.rules.{key_text(name)}]", keys)


def _pair(key: str, value: Any) -> str:
    """Write a key and its value on one line, tables and arrays inline."""
    return f"{key_text(key)} = {_value(value)}"


def _value(value: Any) -> str:
    """Write a value on one line; a key of a table that is not set is left out."""
    if isinstance(value, dict):
        pairs = ", ".join(_pair(k, v) for k, v in value.items() if v is not None)
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return tomli_w.dumps({"k": value}).removeprefix("k = ").rstrip("\n")
