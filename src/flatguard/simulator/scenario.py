"""Scenario files: how a world starts, and what befalls it when. TOML, and nothing in it that we do not know.

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
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, get_type_hints

from attrs import define, field, frozen

from flatguard.clock import SystemClock, WallClock
from flatguard.errors import InvalidSettings
from flatguard.simulator.contracts import Contract, find_contract
from flatguard.simulator.faults import KNOWN_FAULTS
from flatguard.simulator.options import Options
from flatguard.simulator.setup import AccountSetup, UserSetup
from flatguard.simulator.world import World

T = TypeVar("T")
_Act = Callable[[World, datetime], None]


@frozen
class Scenario:
    """A start and what follows. ``users`` None: those that are there by default."""

    options: Options = field(factory=Options)
    users: tuple[UserSetup, ...] | None = None
    prices: Mapping[str, Decimal] = field(factory=dict)
    events: tuple[tuple[float, _Act], ...] = ()
    """What happens: (seconds after the start, act)."""

    def world(self, *, seed: int, start: datetime) -> World:
        """Return a new world in which this scenario takes place."""
        world = World(seed=seed, start=start, options=self.options, users=self.users, prices=self.prices)
        for at_s, act in self.events:
            world.schedule(start + timedelta(seconds=at_s), partial(act, world))
        return world


def open_world(path: Path | None, *, seed: int, clock: WallClock | None = None) -> World:
    """Return the world of a scenario file, or the one that is there without, starting now.

    ``clock`` says when now is; the machine's own by default. Raises ``InvalidSettings``.
    """
    scenario = Scenario() if path is None else load_scenario(path)
    return scenario.world(seed=seed, start=(clock or SystemClock()).now())


def load_scenario(path: Path) -> Scenario:
    """Read a scenario. Raises ``InvalidSettings`` that names everything wrong in it, each with its place."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as error:
        raise InvalidSettings(f"cannot read the scenario {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"the scenario {path} is not TOML: {error}") from error
    errors: list[str] = []
    table = _Table("", values, errors)
    scenario = _scenario(table)
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


def _scenario(table: _Table) -> Scenario:
    options = _options(table.table("options"))
    users = tuple(_user(user) for user in table.tables("users")) if "users" in table.values else None
    table.take("users", _list)
    ids = [account.id for user in users or () for account in user.accounts]
    if len(ids) != len(set(ids)):
        table.complain("users", "two accounts bear the same id")
    prices = _prices(table.table("prices"))
    events = (
        *(_fault(fault) for fault in table.tables("faults")),
        *(_move(move) for move in table.tables("moves")),
    )
    return Scenario(options, users, prices, events)


def _options(table: _Table) -> Options:
    calm = table.take("calm", _bool) or False
    changes = {}
    for name, kind in get_type_hints(Options).items():
        value = table.take(name, _OPTION_READERS[kind])
        if value is not None:
            changes[name] = value
    table.refuse_unknown()
    return (Options.calm() if calm else Options()).but(**changes)


def _user(table: _Table) -> UserSetup:
    user = UserSetup(
        user_name=table.take("user_name", _text, needed=True) or "",
        api_key=table.take("api_key", _text) or "",
        accounts=tuple(_account(account) for account in table.tables("accounts")),
    )
    table.refuse_unknown()
    return user


def _account(table: _Table) -> AccountSetup:
    given: dict[str, Any] = {
        "id": table.take("id", _int, needed=True) or 0,
        "name": table.take("name", _text, needed=True) or "",
        "balance": table.take("balance", _decimal, needed=True) or Decimal(0),
    }
    for name, read in _ACCOUNT_READERS.items():
        value = table.take(name, read)
        if value is not None:
            given[name] = value
    table.refuse_unknown()
    return AccountSetup(**given)


def _prices(table: _Table) -> dict[str, Decimal]:
    prices = {}
    for name in table.values:
        try:
            contract = _contract(name)
        except ValueError as error:
            table.complain(name, str(error))
            continue
        price = table.take(name, partial(_price_of, contract))
        if price is not None:
            prices[contract.id] = price
    return prices


def _fault(table: _Table) -> tuple[float, _Act]:
    at_s = table.take("at_s", _seconds, needed=True) or 0
    name = table.take("name", _fault_name, needed=True) or ""
    how: dict[str, Any] = {
        key: value
        for key, value in (
            ("target", table.take("target", str)),
            ("probability", table.take("probability", _seconds)),
            ("count", table.take("count", _int)),
            ("duration_s", table.take("duration_s", _seconds)),
            ("delay_s", table.take("delay_s", _seconds)),
        )
        if value is not None
    }
    table.refuse_unknown()

    def act(world: World, at: datetime) -> None:
        world.faults.start(name, at, **how)

    return at_s, act


def _move(table: _Table) -> tuple[float, _Act]:
    at_s = table.take("at_s", _seconds, needed=True) or 0
    contract = table.take("contract", _contract, needed=True)
    price = None if contract is None else table.take("price", partial(_price_of, contract))
    resume = table.take("resume", _bool)
    table.take("price", _decimal)
    if ("price" in table.values) == (resume is True):
        table.complain("price", "give either a price or resume = true")
    table.refuse_unknown()

    def act(world: World, at: datetime) -> None:
        assert contract is not None
        if price is None:
            world.resume_price(contract.id, at)
        else:
            world.move_price(contract.id, price, at)

    return at_s, act


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


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("must be a text")
    return value


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, (int, str, Decimal)):
        raise ValueError("must be a number")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a number") from None
    if not number.is_finite():
        raise ValueError(f"{value!r} is not a number")
    return number


def _seconds(value: Any) -> float:
    number = float(_decimal(value))
    if number < 0:
        raise ValueError("must not be negative")
    return number


def _pair(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    def read(value: Any) -> tuple[Any, Any]:
        if not isinstance(value, list) or len(value) != 2:
            raise ValueError("must be an array of two numbers")
        return first(value[0]), second(value[1])

    return read


def _contract(value: Any) -> Contract:
    contract = find_contract(_text(value))
    if contract is None:
        raise ValueError(f"there is no contract {value!r}; give an id, or a ticker such as MNQ")
    return contract


def _price_of(contract: Contract, value: Any) -> Decimal:
    price = _decimal(value)
    if price <= 0 or not contract.aligned(price):
        raise ValueError(f"{contract.ticker} trades in steps of {contract.tick_size}; {price} is not one of them")
    return price


def _fault_name(value: Any) -> str:
    if value not in KNOWN_FAULTS:
        raise ValueError(f"there is no fault {value!r}; known are {', '.join(sorted(KNOWN_FAULTS))}")
    return _text(value)


_OPTION_READERS: Mapping[Any, Callable[[Any], Any]] = MappingProxyType(
    {
        bool: _bool,
        int: _int,
        float: _seconds,
        Decimal: _decimal,
        tuple[float, float]: _pair(_seconds, _seconds),
        tuple[int, int]: _pair(_int, _int),
        tuple[int, float]: _pair(_int, _seconds),
    }
)
_ACCOUNT_READERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "can_trade": _bool,
        "visible": _bool,
        "simulated": _bool,
        "max_minis": _decimal,
        "floor": _decimal,
    }
)
