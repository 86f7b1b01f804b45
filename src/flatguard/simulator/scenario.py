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
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from attrs import NOTHING, define, evolve, field, fields, frozen

from flatguard.clock import SystemClock, WallClock
from flatguard.errors import InvalidSettings
from flatguard.simulator.contracts import ACTIVE, Contract, Listing
from flatguard.simulator.faults import objections
from flatguard.simulator.options import Options
from flatguard.simulator.recordings import NEEDED, UnusableRecording, read_recording
from flatguard.simulator.setup import DEFAULT_ACCOUNTS, AccountSetup, UserSetup
from flatguard.simulator.tape import Tape, path_ticks
from flatguard.simulator.world import World

T = TypeVar("T")
_MAX_SPEED = 3_600  # as the command line has it
_LEAST = 0.001
_LEAST_MONEY = Decimal("0.0001")
_LONGEST = 10**9
_MOST = 1000
_Act = Callable[[World, datetime], None]


@frozen
class _Drive:
    """What moves a contract. ``name`` is its id or its ticker; the ticker means the month active at the start."""

    place: str
    name: str
    tape: Callable[[Contract, datetime], Tape]


@frozen
class Scenario:
    """A start and what follows. ``users`` None: those that are there by default."""

    options: Options = field(factory=Options)
    users: tuple[UserSetup, ...] | None = None
    prices: Mapping[str, Decimal] = field(factory=dict)
    events: tuple[tuple[float, _Act], ...] = ()
    """What happens: (seconds after the start, act)."""

    drives: tuple[_Drive, ...] = ()
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
        values = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise InvalidSettings(f"cannot read the scenario {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not only TOML's own: a number of 5,000 digits, 3,000 brackets
        raise InvalidSettings(f"the scenario {path} is not TOML: {error}") from error
    errors: list[str] = []
    table = _Table("", values, errors)
    scenario = _scenario(table, path.parent)
    table.refuse_unknown()
    if errors:
        raise InvalidSettings(
            "\n".join([f"the scenario {path} cannot be used:", *(f"  {error}" for error in errors)]),
            hint="Correct the file; nothing was started.",
        )
    return scenario


@define
class _Table:
    """A table of the file. Taking a key checks it; what is wrong is collected, and the key reads as None."""

    path: str
    values: dict[str, Any]
    errors: list[str]
    _taken: set[str] = field(factory=set)

    def _place(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def complain(self, key: str, text: str) -> None:
        self.errors.append(f"{self._place(key)}: {text}")

    def take(self, key: str, read: Callable[[Any], T], *, needed: bool = False) -> T | None:
        self._taken.add(key)
        if key not in self.values:
            if needed:
                self.complain(key, "is missing")
            return None
        try:
            return read(self.values[key])
        except ValueError as error:
            self.complain(key, str(error))
            return None

    def table(self, key: str) -> _Table:
        value = self.take(key, _dict)
        return _Table(self._place(key), value or {}, self.errors)

    def tables(self, key: str) -> Iterator[_Table]:
        for index, value in enumerate(self.take(key, _list) or []):
            if isinstance(value, dict):
                yield _Table(f"{self._place(key)}[{index}]", value, self.errors)
            else:
                self.complain(f"{key}[{index}]", "must be a table")

    def refuse_unknown(self) -> None:
        for key in self.values:
            if key not in self._taken:
                self.complain(key, f"is not known here; known are {', '.join(sorted(self._taken))}")


def _scenario(table: _Table, folder: Path) -> Scenario:
    start = table.take("start", _moment)
    options = _options(table.table("options"))
    users = tuple(_user(user) for user in table.tables("users")) if "users" in table.values else None
    table.take("users", _list)
    ids = [account.id for user in users or () for account in user.accounts]
    if len(ids) != len(set(ids)):
        table.complain("users", "two accounts bear the same id")
    names = [user.user_name.lower() for user in users or ()]
    if len(names) != len(set(names)):
        table.complain("users", "two users bear the same name; capitals do not count")
    known = partial(_contract, Listing(options.month_roll))
    prices = _prices(table.table("prices"), known)
    faults = table.tables("faults")
    events = (
        *(_fault(fault, ids if users is not None else [row.id for row in DEFAULT_ACCOUNTS]) for fault in faults),
        *(_move(move, known) for move in table.tables("moves")),
    )
    pace = timedelta(milliseconds=options.market_step_ms)
    drives = [
        *(_path(path, known, pace) for path in table.tables("paths")),
        *(_recording(recording, known, folder) for recording in table.tables("recordings")),
    ]
    seen: set[str] = set()
    for drive in drives:
        if drive is not None:
            if drive.name in seen:
                table.complain(drive.place, f"{drive.name} has a path or a recording already")
            seen.add(drive.name)
    return Scenario(options, users, prices, events, tuple(drive for drive in drives if drive is not None), start)


def _options(table: _Table) -> Options:
    calm = table.take("calm", _bool) or False
    changes = {}
    for name, kind in get_type_hints(Options).items():
        value = table.take(name, _OWN_OPTION_READERS.get(name, _OPTION_READERS[kind]))
        if value is not None:
            changes[name] = value
    table.refuse_unknown()
    return (Options.calm() if calm else Options()).but(**changes)


def _user(table: _Table) -> UserSetup:
    given = _fields(table, UserSetup, {"accounts"})
    given["accounts"] = tuple(_account(account) for account in table.tables("accounts"))
    table.refuse_unknown()
    given.setdefault("user_name", "")  # complained of already
    return UserSetup(**given)


def _account(table: _Table) -> AccountSetup:
    given = _fields(table, AccountSetup, set())
    table.refuse_unknown()
    if given.get("liquidates") and "floor" not in table.values:
        table.complain("liquidates", "needs a floor, at which the firm closes everything")
    given = {"id": 0, "name": "", "balance": Decimal(0), **given}  # complained of already
    return AccountSetup(**given)


def _fields(table: _Table, kind: type, without: set[str]) -> dict[str, Any]:
    """Take the fields of an attrs class, each by its type; those without a default are needed."""
    hints = get_type_hints(kind)
    taken = {
        attribute.name: table.take(
            attribute.name,
            _OWN_READERS.get(attribute.name, _FIELD_READERS[hints[attribute.name]]),
            needed=attribute.default is NOTHING,
        )
        for attribute in fields(kind)
        if attribute.name not in without
    }
    return {name: value for name, value in taken.items() if value is not None}


_Known = Callable[[Any], tuple[str, Contract]]


def _prices(table: _Table, known: _Known) -> dict[str, Decimal]:
    prices = {}
    for name in table.values:
        try:
            key, contract = known(name)
        except ValueError as error:
            table.complain(name, str(error))
            continue
        if key in prices:
            table.complain(name, f"{key} has a price already")
        price = table.take(name, partial(_price_of, contract))
        if price is not None:
            prices[key] = price
    return prices


def _fault(table: _Table, accounts: Sequence[int]) -> tuple[float, _Act]:
    at_s = table.take("at_s", _seconds, needed=True) or 0
    name = table.take("name", _text, needed=True) or ""
    how: dict[str, Any] = {
        key: value
        for key, value in (
            ("target", table.take("target", str)),
            ("probability", table.take("probability", _share)),
            ("count", table.take("count", _int)),
            ("duration_s", table.take("duration_s", _seconds)),
            ("delay_s", table.take("delay_s", _seconds)),
        )
        if value is not None
    }
    for key, text in objections(name, accounts, **how) if name else ():
        table.complain(key, text)
    table.refuse_unknown()

    def act(world: World, at: datetime) -> None:
        world.faults.start(name, at, **how)

    return at_s, act


def _move(table: _Table, known: _Known) -> tuple[float, _Act]:
    at_s = table.take("at_s", _seconds, needed=True) or 0
    named = table.take("contract", known, needed=True)
    price = None if named is None else table.take("price", partial(_price_of, named[1]))
    resume = table.take("resume", _bool)
    table.take("price", _decimal)
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


def _path(table: _Table, known: _Known, pace: timedelta) -> _Drive | None:
    named = table.take("contract", known, needed=True)
    points = None if named is None else table.take("points", partial(_points, named[1]), needed=True)
    table.take("points", _array)
    table.refuse_unknown()
    if named is None or points is None:
        return None

    def tape(contract: Contract, start: datetime) -> Tape:
        ticks = partial(path_ticks, points, start, contract.tick_size, pace)
        return Tape(ticks(), ticks)

    return _Drive(table.path, named[0], tape)


def _recording(table: _Table, known: _Known, folder: Path) -> _Drive | None:
    named = table.take("contract", known, needed=True)
    path = table.take("path", _text, needed=True)
    kind = table.take("format", partial(_one_of, tuple(NEEDED)), needed=True)
    at = table.take("at", partial(_one_of, ("start", "absolute"))) or "start"
    bar_s = table.take("bar_s", _positive)
    if bar_s is not None and kind == "ticks":
        table.complain("bar_s", "is for bars; these are ticks")
    table.refuse_unknown()
    if named is None or path is None or kind is None:
        return None
    try:
        recording = read_recording(folder / path, kind, named[1], bar_s=bar_s)
    except UnusableRecording as error:
        for text in error.args:
            table.complain("path", text)
        return None

    def tape(_contract: Contract, start: datetime) -> Tape:
        return Tape(recording.shifted_to(start) if at == "start" else recording.since(start))

    return _Drive(table.path, named[0], tape)


# --- readers of single values; ValueError says what is wrong ---


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("must be a table")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("must be an array of tables")
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


def _id(value: Any) -> int:
    if not 0 < _int(value) < 1 << 31:
        raise ValueError("must be a positive number of 32 bits")
    return _int(value)


def _code(value: Any) -> int:
    if _int(value) not in {2, 4, 10}:
        raise ValueError("must be 2, 4 or 10")
    return _int(value)


def _ticks(value: Any) -> int:
    if not 1 <= _int(value) <= 1000:
        raise ValueError("must be from 1 to 1000 ticks")
    return _int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    if "\0" in value:
        raise ValueError("must not hold the character 0")
    return value


_ABSURD = Decimal(10) ** 12


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise ValueError("must be a number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    if not number.is_finite() or abs(number) >= _ABSURD:
        raise ValueError(f"{value!r} is no number that anything here can have")
    return number


def _money(value: Any) -> Decimal:
    if _decimal(value) % _LEAST_MONEY:
        raise ValueError("must have at most four decimals")
    return _decimal(value)


def _minis(value: Any) -> Decimal:
    if not 0 <= _decimal(value) <= _LONGEST:
        raise ValueError(f"must be from 0 to {_LONGEST}")
    return _decimal(value)


def _seconds(value: Any) -> float:
    number = _decimal(value)
    if number < 0:
        raise ValueError("must not be negative")
    if number > _LONGEST:
        raise ValueError(f"must be at most {_LONGEST}")
    return float(number)


def _positive(value: Any) -> float:
    number = _seconds(value)
    if number < _LEAST:
        raise ValueError(f"must be more than 0: at least {_LEAST}")
    return number


def _speed(value: Any) -> float:
    if _positive(value) > _MAX_SPEED:
        raise ValueError(f"must be at most {_MAX_SPEED}")
    return _positive(value)


def _step_ms(value: Any) -> float:
    if _positive(value) < 1:
        raise ValueError(f"must be at least 1, which is {_MOST} trades a second")
    return _positive(value)


def _count(value: Any) -> int:
    if not 0 <= _int(value) <= _MOST:
        raise ValueError(f"must be from 0 to {_MOST}; none negative")
    return _int(value)


def _calls(value: Any) -> int:
    if not _int(value) >= 1:
        raise ValueError("must be at least one call")
    return _int(value)


def _band(value: Any) -> Decimal:
    if not 0 <= _decimal(value) <= _MOST:
        raise ValueError(f"must be from 0 to {_MOST}")
    return _decimal(value)


def _share(value: Any) -> float:
    number = _seconds(value)
    if number > 1:
        raise ValueError("must lie between 0 and 1")
    return number


def _moment(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("must be a date with a time and an offset, such as 2026-11-18T15:00:00Z, without quotes")
    if not 2001 <= value.year <= 2098:  # two digits have to name a contract's year
        raise ValueError("must lie between 2001 and 2098")
    return value.astimezone(UTC)


def _one_of(names: Sequence[str], value: Any) -> str:
    if value not in names:
        raise ValueError(f"must be one of {', '.join(names)}")
    return _text(value)


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("must be an array")
    return value


def _points(contract: Contract, value: Any) -> list[tuple[Decimal, Decimal]]:
    points: list[tuple[Decimal, Decimal]] = []
    for index, point in enumerate(_array(value)):
        try:
            if not isinstance(point, list) or len(point) != 2:
                raise ValueError('must be seconds and a price, such as [60, "24950.25"]')
            seconds, price = Decimal(str(_seconds(point[0]))), _price_of(contract, point[1])
            if seconds < (points[-1][0] if points else 0):
                raise ValueError("the seconds must not be negative, nor go back")
            if points and _ticks_a_second(contract, points[-1], (seconds, price)) > _MOST:
                raise ValueError(
                    f"is more than {_MOST} ticks a second away; for a gap, give two points the same second"
                )
        except ValueError as error:
            raise ValueError(f"[{index}]: {error}") from None
        points.append((seconds, price))
    if not points:
        raise ValueError("must hold at least one point")
    return points


def _ticks_a_second(contract: Contract, before: tuple[Decimal, Decimal], after: tuple[Decimal, Decimal]) -> Decimal:
    lasts = after[0] - before[0]
    return abs(after[1] - before[1]) / contract.tick_size / lasts if lasts else Decimal(0)


def _pair(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    def read(value: Any) -> tuple[Any, Any]:
        if not isinstance(value, list) or len(value) != 2:
            raise ValueError("must be an array of two numbers")
        return first(value[0]), second(value[1])

    return read


def _range(read_one: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    def read(value: Any) -> tuple[Any, Any]:
        low, high = _pair(read_one, read_one)(value)
        if not 0 <= low <= high:
            raise ValueError("must be the lower number and the higher one, none negative")
        return low, high

    return read


def _contract(listing: Listing, value: Any) -> tuple[str, Contract]:
    """Return the name to go by, an id or a ticker, and a contract that shows its tick grid."""
    contract = listing.get(_text(value))
    if contract is not None:
        return contract.id, contract
    contract = ACTIVE.get(value.upper())
    if contract is None:
        raise ValueError(f"there is no contract {value!r}; give an id, or a ticker such as MNQ")
    return contract.ticker, contract


def _price_of(contract: Contract, value: Any) -> Decimal:
    price = _decimal(value)
    if price <= 0 or not contract.aligned(price):
        raise ValueError(f"{contract.ticker} trades in steps of {contract.tick_size}; {price} is not one of them")
    return price


_OPTION_READERS: Mapping[Any, Callable[[Any], Any]] = MappingProxyType(
    {
        bool: _bool,
        int: _count,
        float: _seconds,
        Decimal: _band,
        tuple[float, float]: _range(_seconds),
        tuple[int, int]: _range(_count),
        tuple[int, float]: _pair(_calls, _positive),
    }
)
_OWN_OPTION_READERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "speed": _speed,
        "market_step_ms": _step_ms,
        "hub_ping_s": _positive,
        "order_repeat_probability": _share,
        "refusal_when_locked": _code,
    }
)
_FIELD_READERS: Mapping[Any, Callable[[Any], Any]] = MappingProxyType(
    {
        bool: _bool,
        int: _id,
        int | None: _ticks,
        str: _text,
        Decimal: _money,
        Decimal | None: _money,
    }
)
_OWN_READERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType({"max_minis": _minis})
