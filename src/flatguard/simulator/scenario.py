"""Scenario files: how a world starts, and what befalls it when. TOML, and nothing in it that we do not know.

start = 2026-11-18T15:00:00Z    # by default now

[options]
calm = true                     # start from Options.calm(); then any knob of Options by its name
read_lag_ms = [0, 300]

[[users]]
user_name = "trader1"           # api_key = "..." if it has to be known beforehand

[[users.accounts]]
id = 25700001
name = "50KTC-V2-600001-97000001"
balance = "50000"

[prices]
MNQ = "25000"

[[faults]]                      # the keys of POST /sim/faults, and when
at_s = 10
name = "cut_hub"
target = "user"

[[moves]]                       # the keys of POST /sim/price, and when
at_s = 20
contract = "MNQ"
price = "24950"

[[paths]]                       # seconds after the start, and the price then
contract = "ES"
points = [[0, "6800"], [60, "6790.25"]]

[[recordings]]
contract = "CL"
path = "crude.csv"              # beside this file
format = "ticks"
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from attrs import NOTHING, evolve, field, fields, frozen

from flatguard.clock import SystemClock, WallClock
from flatguard.errors import InvalidSettings
from flatguard.simulator import scenario_values as values
from flatguard.simulator.contracts import Listing
from flatguard.simulator.faults import objections
from flatguard.simulator.options import Options
from flatguard.simulator.scenario_prices import (
    Drive,
    Known,
    first_prices,
    known_contract,
    path_of,
    price_of,
    recording_of,
)
from flatguard.simulator.scenario_table import Table
from flatguard.simulator.setup import DEFAULT_ACCOUNTS, AccountSetup, UserSetup
from flatguard.simulator.world import World

_Act = Callable[[World, datetime], None]


@frozen
class Scenario:
    """A start and what follows. ``users`` None: those that are there by default."""

    options: Options = field(factory=Options)
    users: tuple[UserSetup, ...] | None = None
    prices: Mapping[str, Decimal] = field(factory=dict)
    events: tuple[tuple[float, _Act], ...] = ()
    """What happens: (seconds after the start, act)."""

    drives: tuple[Drive, ...] = ()
    start: datetime | None = None

    def world(self, *, seed: int, start: datetime) -> World:
        """Return a new world in which this scenario takes place; ``start`` is when, whatever the scenario says.

        Raises ``InvalidSettings`` if a path or a recording has nothing to play from then on.
        """
        world = World(seed=seed, start=start, options=self.options, users=self.users, prices=self.prices)
        for at_s, act in self.events:
            world.schedule(start + timedelta(seconds=at_s), partial(act, world))
        driven = set()
        for drive in self.drives:
            contract = world.listing.find(drive.name, start)
            assert contract is not None
            if contract.id in driven:
                raise InvalidSettings(f"{drive.place}: {contract.id} has a path or a recording already")
            if not world.listing.is_traded(contract, start):
                raise InvalidSettings(f"{drive.place}: {contract.id} is not traded at the start, {start.isoformat()}")
            driven.add(contract.id)
            tape = drive.tape(contract, start)
            if tape.coming is None:
                raise InvalidSettings(
                    f"{drive.place}: nothing of it is at or after the start, {start.isoformat()}",
                    hint='Start earlier, or have it shifted to the start with at = "start".',
                )
            world.drive(contract.id, tape)
        return world


def open_world(
    path: Path | None,
    *,
    seed: int,
    clock: WallClock | None = None,
    start: datetime | None = None,
    speed: float | None = None,
) -> World:
    """Return the world of a scenario file, or the one that is there without.

    It starts at ``start``, or when the file says, or now. ``clock`` says when now is; the machine's own by default.
    ``speed`` goes before the file's. Raises ``InvalidSettings``.
    """
    scenario = Scenario() if path is None else load_scenario(path)
    if speed is not None:
        scenario = evolve(scenario, options=scenario.options.but(speed=speed))
    return scenario.world(seed=seed, start=start or scenario.start or (clock or SystemClock()).now())


def load_scenario(path: Path) -> Scenario:
    """Read a scenario. Raises ``InvalidSettings`` that names everything wrong in it, each with its place."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise InvalidSettings(f"cannot read the scenario {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not only TOML's own: a number of 5,000 digits, 3,000 brackets
        raise InvalidSettings(f"the scenario {path} is not TOML: {error}") from error
    errors: list[str] = []
    table = Table("", found, errors)
    scenario = _scenario(table, path.parent)
    table.refuse_unknown()
    if errors:
        raise InvalidSettings(
            "\n".join([f"the scenario {path} cannot be used:", *(f"  {error}" for error in errors)]),
            hint="Correct the file; nothing was started.",
        )
    return scenario


def _scenario(table: Table, folder: Path) -> Scenario:
    start = table.take("start", values.moment)
    options = _options(table.table("options"))
    users = tuple(_user(user) for user in table.tables("users")) if "users" in table.values else None
    table.take("users", values.tables)
    ids = [account.id for user in users or () for account in user.accounts]
    if len(ids) != len(set(ids)):
        table.complain("users", "two accounts bear the same id")
    names = [user.user_name.lower() for user in users or ()]
    if len(names) != len(set(names)):
        table.complain("users", "two users bear the same name; capitals do not count")
    known = partial(known_contract, Listing(options.month_roll))
    prices = first_prices(table.table("prices"), known)
    faults = table.tables("faults")
    events = (
        *(_fault(fault, ids if users is not None else [row.id for row in DEFAULT_ACCOUNTS]) for fault in faults),
        *(_move(move, known) for move in table.tables("moves")),
    )
    pace = timedelta(milliseconds=options.market_step_ms)
    drives = [
        *(path_of(path, known, pace) for path in table.tables("paths")),
        *(recording_of(recording, known, folder) for recording in table.tables("recordings")),
    ]
    seen: set[str] = set()
    for drive in drives:
        if drive is not None:
            if drive.name in seen:
                table.complain(drive.place, f"{drive.name} has a path or a recording already")
            seen.add(drive.name)
    return Scenario(options, users, prices, events, tuple(drive for drive in drives if drive is not None), start)


def _options(table: Table) -> Options:
    calm = table.take("calm", values.boolean) or False
    changes = {}
    for name, kind in get_type_hints(Options).items():
        value = table.take(name, values.OWN_OPTION_READERS.get(name, values.OPTION_READERS[kind]))
        if value is not None:
            changes[name] = value
    table.refuse_unknown()
    return (Options.calm() if calm else Options()).but(**changes)


def _user(table: Table) -> UserSetup:
    given = _fields(table, UserSetup, {"accounts"})
    given["accounts"] = tuple(_account(account) for account in table.tables("accounts"))
    table.refuse_unknown()
    given.setdefault("user_name", "")  # complained of already
    return UserSetup(**given)


def _account(table: Table) -> AccountSetup:
    given = _fields(table, AccountSetup, set())
    table.refuse_unknown()
    if given.get("liquidates") and "floor" not in table.values:
        table.complain("liquidates", "needs a floor, at which the firm closes everything")
    given = {"id": 0, "name": "", "balance": Decimal(0), **given}  # complained of already
    return AccountSetup(**given)


def _fields(table: Table, kind: type, without: set[str]) -> dict[str, Any]:
    """Take the fields of an attrs class, each by its type; those without a default are needed."""
    hints = get_type_hints(kind)
    taken = {
        attribute.name: table.take(
            attribute.name,
            values.OWN_READERS.get(attribute.name, values.FIELD_READERS[hints[attribute.name]]),
            needed=attribute.default is NOTHING,
        )
        for attribute in fields(kind)
        if attribute.name not in without
    }
    return {name: value for name, value in taken.items() if value is not None}


def _fault(table: Table, accounts: Sequence[int]) -> tuple[float, _Act]:
    at_s = table.take("at_s", values.seconds, needed=True) or 0
    name = table.take("name", values.text, needed=True) or ""
    how: dict[str, Any] = {
        key: value
        for key, value in (
            ("target", table.take("target", str)),
            ("probability", table.take("probability", values.share)),
            ("count", table.take("count", values.whole)),
            ("duration_s", table.take("duration_s", values.seconds)),
            ("delay_s", table.take("delay_s", values.seconds)),
        )
        if value is not None
    }
    for key, text in objections(name, accounts, **how) if name else ():
        table.complain(key, text)
    table.refuse_unknown()

    def act(world: World, at: datetime) -> None:
        world.faults.start(name, at, **how)

    return at_s, act


def _move(table: Table, known: Known) -> tuple[float, _Act]:
    at_s = table.take("at_s", values.seconds, needed=True) or 0
    named = table.take("contract", known, needed=True)
    price = None if named is None else table.take("price", partial(price_of, named[1]))
    resume = table.take("resume", values.boolean)
    table.take("price", values.decimal)
    if ("price" in table.values) == (resume is True):
        table.complain("price", "give either a price or resume = true")
    table.refuse_unknown()

    def act(world: World, at: datetime) -> None:
        assert named is not None
        contract = world.listing.find(named[0], at)
        assert contract is not None
        if price is None:
            world.resume_price(contract.id, at)
        else:
            world.move_price(contract.id, price, at)

    return at_s, act
