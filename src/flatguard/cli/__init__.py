"""The commands, one file each. Facts go to stdout, messages to stderr; the exit status says how it went."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import click

from flatguard import __version__, redaction
from flatguard.errors import FlatguardError

COMMANDS = {
    "config": "Write, check and show the settings.",
    "demo": "Show the whole system at work on this machine; no account needed.",
    "history": "List what was decided and done.",
    "journal": "Check and export the record of what happened.",
    "lockouts": "Show what is locked until when.",
    "login": "Test and store the API key.",
    "logout": "Remove the API key and end the stored session.",
    "replay": "Fold the record again, and compare.",
    "run": "Guard the accounts until stopped.",
    "simulator": "Stand in for the broker's gateway on this machine.",
    "status": "Show where every account stands.",
    "why": "Tell one decision in full.",
}


class _Commands(click.Group):
    """Subcommands by name; a command's module is imported when it runs, so that each starts as fast as it can."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"flatguard.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flatguard")
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="FLATGUARD_CONFIG",
    help="The settings file; default: config.toml in the platform's config folder.",
)
@click.pass_context
def cli(ctx: click.Context, config_path: Path | None) -> None:
    """flatguard keeps a futures trader's own risk rules on TopstepX and other ProjectX gateways."""
    ctx.obj = config_path


def config_option(command: click.Command) -> click.Command:
    """Let a command take ``--config`` behind its own name too, where most people write it."""

    def keep(ctx: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
        if value is not None:
            ctx.find_root().obj = value

    option = click.Option(
        ["--config"],
        type=click.Path(path_type=Path, dir_okay=False),
        expose_value=False,
        callback=keep,
        help="The settings file.",
    )
    command.params.append(option)
    return command


def main() -> None:
    """Run the command line. An error of ours becomes one line, its hint, and the exit status of its kind."""
    redaction.install()
    try:
        cli(standalone_mode=True)
    except FlatguardError as error:
        sys.exit(explain(error))
    except BaseExceptionGroup as group:
        # tasks end together: errors of ours are told, anything else is a bug and keeps its traceback
        ours, others = group.split(FlatguardError)
        if ours is None or others is not None:
            raise
        sys.exit(explain(first_of(ours)))


def first_of(group: BaseExceptionGroup[FlatguardError]) -> FlatguardError:
    """Return the first error in a group of groups."""
    first = group.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


def explain(error: FlatguardError) -> int:
    """Tell a person what is wrong and what to do; return the exit status."""
    click.echo(f"Error: {error}", err=True)
    if error.hint:
        click.echo(f"Try: {error.hint}", err=True)
    return error.exit_status
