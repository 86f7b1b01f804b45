"""``flatguard simulator serve``: the gateway double on loopback, for anyone's bot."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from math import isnan
from pathlib import Path
from typing import Any

import click
import trio


@click.group("simulator", short_help="Stand in for the broker's gateway on this machine.")
def command() -> None:
    """Stand in for the broker's gateway on this machine."""


class _Moment(click.ParamType[datetime]):
    """A date and time with an offset."""

    name = "moment"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read RFC 3339; anything else is wrong usage."""
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            self.fail(f"{value!r} is not a date with a time and an offset, such as 2026-11-18T15:00:00Z", param, ctx)
        if not 2001 <= moment.year <= 2098:
            self.fail(f"{value!r} does not lie between 2001 and 2098", param, ctx)
        return moment.astimezone(UTC)


class _Speed(click.FloatRange):
    """A number in a range, of which nan is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a number; nan compares with no bound, and would pass."""
        number = float(super().convert(value, param, ctx))
        if isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


@command.command("serve")
@click.option("--port", default=0, show_default="a free one", type=click.IntRange(0, 65535))
@click.option("--seed", default=1, show_default=True, type=int, help="Everything random comes from it.")
@click.option(
    "--scenario",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A TOML file with users, accounts, prices, options and faults.",
)
@click.option("--start", type=_Moment(), help="What the broker's clock says at first, as RFC 3339.  [default: now]")
@click.option(
    "--speed",
    type=_Speed(min=0, max=3_600, min_open=True),
    help="How many times as fast as real time the broker's clock runs.  [default: 1]",
)
def serve(port: int, seed: int, scenario: Path | None, start: datetime | None, speed: float | None) -> None:
    """Serve REST, both hubs and the control calls until interrupted.

    When it is ready it prints one line of JSON that says where everything is and whom to log in as.
    """
    from flatguard.daemon.stopping import stop_on_signals
    from flatguard.simulator.scenario import open_world
    from flatguard.simulator.serve import serve_simulator

    async def main() -> None:
        stopping = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(stop_on_signals, stopping)
            ready = await nursery.start(lambda task_status: serve_simulator(world, port=port, task_status=task_status))
            click.echo(json.dumps(ready))
            await stopping.wait()
            nursery.cancel_scope.cancel()

    world = open_world(scenario, seed=seed, start=start, speed=speed)
    trio.run(main)
