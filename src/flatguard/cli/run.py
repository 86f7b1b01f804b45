"""``flatguard run``: guard the accounts of the settings until stopped."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import click
import trio

from flatguard.cli import config_option
from flatguard.cli.narrate import Narrator
from flatguard.clock import SystemClock
from flatguard.daemon.run import Guard, World, guard
from flatguard.daemon.stopping import stop_on_signals
from flatguard.secret import Secret
from flatguard.settings.load import Settings, load
from flatguard.settings.paths import config_path, state_folder
from flatguard.settings.secrets import api_key


@config_option
@click.command("run", short_help="Guard the accounts until stopped.")
@click.pass_context
def command(ctx: click.Context) -> None:
    """Guard the accounts of the settings until stopped.

    The first SIGINT or SIGTERM ends it cleanly, the second at once. The API key comes from FLATGUARD_API_KEY, or
    from where flatguard login has stored it.
    """
    path: Path = ctx.find_root().obj or config_path()
    settings = load(path, os.environ)
    for warning in settings.findings_at(SystemClock().now()):
        say(f"Warning: {warning}")
    key = api_key(settings.gateway.login, os.environ)
    trio.run(_run, settings, key)


async def _run(settings: Settings, key: Secret) -> None:
    stopping = trio.Event()
    world = World(markers=state_folder() / "guarded")
    async with trio.open_nursery() as signals:
        await signals.start(stop_on_signals, stopping)
        async with trio.open_nursery() as guarding:
            started: Guard = await guarding.start(guard, settings, key, stopping, say, world)
            narrator = Narrator(started.board.states, settings.trading_day.zone)
            started.on_entry.append(lambda entry: say(*narrator.sentences(entry)))
        signals.cancel_scope.cancel()
    say("stopped")


def say(*sentences: str) -> None:
    """Tell the operator, on stderr. That nobody listens any more is no reason to stop guarding."""
    for sentence in sentences:
        with suppress(OSError, ValueError):
            click.echo(sentence, err=True)
