"""The settings file, read whole: frozen ``Settings``, or every error in it at once.

A flag beats the environment, which beats the file, which beats the default; ``origins`` keeps where each value came
from. A rule is on where its table exists, for every account or for one; the account's own keys beat the common ones,
and its own ``mode`` beats the one at the top of the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, time
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from attrs import define, evolve, field, frozen

from flatguard.errors import InvalidSettings
from flatguard.model.account import Terms
from flatguard.model.calendar import Calendar
from flatguard.model.calendar_file import MalformedCalendar, load_calendar
from flatguard.model.ids import AccountId
from flatguard.model.products import product
from flatguard.rules import discover
from flatguard.rules._rule import Rule
from flatguard.settings import paths
from flatguard.settings.contradictions import Contradictions
from flatguard.settings.lines import Place, lines_of
from flatguard.settings.login import Login
from flatguard.settings.structure import UNREADABLE, Found, Reading, kinds_of, shown
from flatguard.shipped import shipped_calendar

T = TypeVar("T")

_RuleTables = Mapping[str, Mapping[str, Found]]
_TICKER = re.compile(r"[A-Za-z0-9]{1,5}")

SECTIONS = ("mode", "gateway", "journal", "trading_day", "calendar", "commissions", "warnings", "rules", "accounts")
LOOPBACK = ("127.0.0.1", "localhost", "::1")

OTHER_COMMISSION = Decimal("0.50")

# What TopstepX was seen to charge on fills, in US dollars a contract and side, on top of the exchange's fees. Micros
# that nobody has reported are left to the rate for all others, since counting too dear closes early, not late.
COMMISSIONS = {ticker: Decimal("0.25") for ticker in ("MNQ", "MES", "M2K", "MYM", "MCL", "MGC")}


def _safe_url(_section: object, _field: object, url: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"https", "http"} or re.search(r"[\s\\]", url):
        raise ValueError('must be the address of a gateway; write one such as "https://api.topstepx.com"')
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must hold neither a login nor parameters; write the address alone")
    if parts.scheme != "https" and host not in LOOPBACK:
        raise ValueError(f"must begin with https://, since the API key goes there; write https://{parts.netloc}")


def _not_blank(_section: object, _field: object, text: str) -> None:
    if not text.strip():
        raise ValueError("must not be blank; write the login name of the platform")


def _at_least_a_week(_section: object, _field: object, days: int) -> None:
    if days < 7:
        raise ValueError(f"must be 7 or more, so that last week can be explained, not {days}")


def _account_number(_section: object, _field: object, number: AccountId) -> None:
    if not 1 <= number < 2**63:
        raise ValueError(f"must be the number by which the broker knows the account, not {number}")


def _url(default: str) -> Any:
    return field(default=default, converter=lambda url: url.rstrip("/"), validator=_safe_url)


@frozen
class GatewaySettings:
    """``[gateway]``: where the broker is, and who we are there. The API key is not a setting; see ``secrets``.

    ``token_storage`` says whether the session token outlives the daemon, in a sealed file.
    """

    user_name: str = field(validator=_not_blank)
    rest_url: str = _url("https://api.topstepx.com")
    user_hub_url: str = _url("https://rtc.topstepx.com/hubs/user")
    market_hub_url: str = _url("https://rtc.topstepx.com/hubs/market")
    token_storage: Literal["memory", "encrypted"] = "memory"

    @property
    def login(self) -> Login:
        """Whose secrets are used."""
        return Login(self.user_name, self.rest_url)


@frozen
class JournalSettings:
    """``[journal]``: where the record is kept, and for how many days what was seen; what was done stays."""

    path: Path = field(factory=lambda: paths.state_folder() / "journal.db")
    keep_days: int = field(default=90, validator=_at_least_a_week)


@frozen
class TradingDaySettings:
    """``[trading_day]``: when the trading day turns."""

    reset: time = time(17)
    zone: ZoneInfo = field(factory=lambda: ZoneInfo("America/Chicago"))


def _rising_shares(_section: object, _field: object, shares: tuple[int, ...]) -> None:
    if list(shares) != sorted({*shares}) or not all(0 < share < 100 for share in shares):
        raise ValueError(f"must be percents between 0 and 100, each above the one before, not {list(shares)}")


@frozen
class WarningSettings:
    """``[warnings]``: at which shares of a limit, in percent, to warn that it is near."""

    at: tuple[int, ...] = field(default=(60, 80), validator=_rising_shares)


@frozen
class CalendarSettings:
    """``[calendar]``: the file that says when the exchange trades; without one, the shipped one does."""

    path: Path | None = None


@frozen
class AccountSettings:
    """``[[accounts]]``: an account and the rules in force on it, the common ones included.

    ``switched_off`` names the rules that have a table but are not enabled.
    """

    id: AccountId = field(validator=_account_number)
    mode: Literal["enforce", "shadow"] = "shadow"
    nickname: str | None = None
    rules: Mapping[str, Rule] = field(factory=dict)
    switched_off: tuple[str, ...] = ()


@frozen
class Settings:
    """All that the settings fix.

    ``origins`` says where each value in force is from: default, environment or file:LINE. Its keys are such as
    gateway.rest_url and accounts[25700001].rules.max_contracts.limit. ``findings`` are what is allowed, and probably
    not meant. ``exchange`` is what the file of ``calendar`` holds.
    """

    path: Path
    gateway: GatewaySettings
    journal: JournalSettings
    trading_day: TradingDaySettings
    commissions: Mapping[str, Decimal]
    other_commission: Decimal
    accounts: tuple[AccountSettings, ...]
    warnings: WarningSettings = WarningSettings()
    calendar: CalendarSettings = CalendarSettings()
    exchange: Calendar = field(factory=shipped_calendar)
    origins: Mapping[str, str] = field(factory=dict, eq=False)
    findings: tuple[str, ...] = field(default=(), eq=False)

    @property
    def terms(self) -> Terms:
        """How accounts are counted."""
        day = self.trading_day
        return Terms(
            day.reset, day.zone, self.commissions, self.other_commission, self.warnings.at, calendar=self.exchange
        )

    def findings_at(self, now: datetime) -> tuple[str, ...]:
        """Return the findings, and that the calendar ends soon where it does."""
        ends_soon = self.exchange.warning(now)
        return self.findings if ends_soon is None else (*self.findings, ends_soon)


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """Read the settings at ``path``. Raises InvalidSettings with every error, one a line, in the order of the file.

    What contradicts itself is among them once every value can be read.
    """
    text = _text_of(path)
    return _loaded(path, text, _parsed(path, text), environ)


def _loaded(path: Path, text: str, tree: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    reader = _Reader(Reading(path, lines_of(text)), tree, environ)
    settings = reader.settings()
    if not reader.reading.errors:
        from_environment = settings.origins["journal.path"] == "environment"
        folder = Path.cwd() if from_environment else path.absolute().parent
        settings = evolve(settings, journal=JournalSettings(folder / settings.journal.path))
        if settings.calendar.path is not None:
            file = path.absolute().parent / settings.calendar.path
            settings = evolve(settings, calendar=CalendarSettings(file), exchange=_calendar_at(file))
        settings = evolve(settings, findings=tuple(_findings(reader, settings)))
    if errors := reader.reading.errors:
        what = "that line" if len(errors) == 1 else f"these {len(errors)} lines"
        raise InvalidSettings("\n".join(errors), hint=f"correct {what}, then: flatguard config check")
    return settings


def _findings(reader: _Reader, settings: Settings) -> Iterator[str]:
    """Return what is allowed, and probably not meant; refuse what cannot be meant."""
    for account in settings.accounts:
        name = f"accounts[{account.id}]"
        if not account.rules:
            yield f"{name}: no rule is on, so this account is NOT PROTECTED; write one, such as [rules.max_contracts]"
        elif settings.origins[f"{name}.mode"] == "default":
            yield f'{name}: is in shadow, so its rules judge and nothing is sent; write mode = "enforce"'
    rules = {account.id: account.rules for account in settings.accounts}
    yield from Contradictions(reader.reading, reader.places).of(rules, settings.terms)


def structured(path: Path, tree: Mapping[str, Any]) -> Settings:
    """Return the settings that ``tree`` makes, which was once read from ``path``. Raises InvalidSettings."""
    reader = _Reader(Reading(path, {}), tree, {})
    settings = reader.settings()
    if errors := reader.reading.errors:
        raise InvalidSettings("\n".join(errors), hint="they were in force once; this flatguard does not know them")
    return settings


def rules_at(path: Path, accounts: Iterable[AccountId], environ: Mapping[str, str]) -> Settings:
    """Read the settings at ``path`` for judging by its rules: it need name neither a login nor accounts.

    Without accounts the common rules are those of ``accounts``. Raises InvalidSettings.
    """
    text = _text_of(path, "name a settings file, or one that holds rules alone")
    tree = {"gateway": {"user_name": "nobody"}, "accounts": [{"id": number} for number in accounts]}
    tree |= _parsed(path, text)
    return _loaded(path, text, tree, environ)


def _calendar_at(path: Path) -> Calendar:
    hint = "correct that file, or take the line [calendar] path out of the settings"
    text = _text_of(path, hint)
    _parsed(path, text)
    try:
        return load_calendar(text)
    except MalformedCalendar as error:
        reading = Reading(path, lines_of(text))
        reading.refuse(error.place, error.what)
        raise InvalidSettings("\n".join(reading.errors), hint=hint) from None


def _text_of(path: Path, missing: str = "flatguard config init") -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InvalidSettings(f"{path}: there is no such file", hint=missing) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InvalidSettings(f"{path}:{line}: is not UTF-8 text", hint="save the file as UTF-8") from None
    except OSError as error:
        raise InvalidSettings(
            f"{path}: cannot be read: {error.strerror}", hint="check the file's owner and mode"
        ) from None


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=_exact)
    except (ValueError, RecursionError) as error:
        at = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)", str(error))
        line = at[1] if at and at[1] else str(text.count("\n") + 1)
        what = str(error).replace(at[0], "") if at else "cannot be read"
        raise InvalidSettings(
            f"{path}:{line}: not TOML: {what}", hint="correct that line, then: flatguard config check"
        ) from None


def _exact(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return Decimal("NaN")


@define
class _Reader:
    """Goes through the sections of one file. What it returns while there are errors may hold UNREADABLE."""

    reading: Reading
    tree: Mapping[str, Any]
    environ: Mapping[str, str]
    known: Mapping[str, type[Rule]] = field(factory=discover)
    origins: dict[str, str] = field(factory=dict)
    mode: Found | None = None
    first_named: dict[int, Place] = field(factory=dict)
    places: dict[tuple[int, str, str], Place] = field(factory=dict)  # of account, rule and key; "" is the rule's table

    def settings(self) -> Settings:
        alone = self.tree.keys() & self.known.keys()
        for name in alone:
            self.reading.refuse((name,), f"is the table of a rule; write [rules.{name}]")
        self.reading.known_keys(self.tree, (), (*SECTIONS, *alone))
        commissions = self._commissions()
        return Settings(
            path=self.reading.file,
            gateway=self._section("gateway", GatewaySettings, {"user_name": "FLATGUARD_USER_NAME"}),
            journal=self._section("journal", JournalSettings, {"path": "FLATGUARD_JOURNAL"}),
            trading_day=self._section("trading_day", TradingDaySettings, {}),
            calendar=self._section("calendar", CalendarSettings, {}),
            other_commission=commissions.pop("other"),
            commissions=commissions,
            accounts=tuple(self._accounts()),
            warnings=self._section("warnings", WarningSettings, {}),
            origins=self.origins,
        )

    def _section(self, name: str, kind: type[T], variables: Mapping[str, str]) -> T:
        kinds = kinds_of(kind)
        found = self.reading.table(self.tree.get(name, {}), (name,), kinds)
        for key, variable in variables.items():
            if text := self.environ.get(variable, "").strip():
                self.reading.variables[name, key] = variable
                found[key] = Found(self.reading.value(text, (name, key), kinds[key]), (name, key))
        for key in kinds:
            self.origins[f"{name}.{key}"] = self.reading.origin(found.get(key))
        return self.reading.build(kind, found, (name,))

    def _commissions(self) -> dict[str, Decimal]:
        """Return the rates by ticker, and ``other``: the shipped ones, and over them those of the file."""
        raw = self.tree.get("commissions", {})
        kinds = dict.fromkeys(raw, Decimal) if isinstance(raw, Mapping) else {}
        given: dict[str, Found] = {}
        for key, found in self.reading.table(raw, ("commissions",), kinds).items():
            ticker = key if key == "other" else product(key)
            if key != "other" and (get_close_matches(key.lower(), ["other"]) or not _TICKER.fullmatch(key)):
                self.reading.refuse(("commissions", key), "is not a ticker; write one such as MNQ, or other")
            elif ticker in given:
                self.reading.refuse(("commissions", key), f"names the product {ticker} a second time; keep one")
            elif found.value is not UNREADABLE and found.value < 0:
                self.reading.refuse(("commissions", key), f'must be 0 or more, such as "0.25", not {found.value}')
            given[ticker] = found
        rates = {"other": OTHER_COMMISSION, **COMMISSIONS, **{ticker: found.value for ticker, found in given.items()}}
        self.origins |= {f"commissions.{ticker}": self.reading.origin(given.get(ticker)) for ticker in rates}
        return rates

    def _accounts(self) -> Iterator[AccountSettings]:
        common = self._rule_tables(self.tree.get("rules", {}), ("rules",))
        tables = self.tree.get("accounts", [])
        if not isinstance(tables, list):
            self.reading.refuse(("accounts",), "must be an array of tables; write [[accounts]], with two brackets")
            tables = []
        elif not tables:
            self.reading.refuse(("accounts",), "is missing; write [[accounts]], and below it id = 25700001")
        if not tables:
            self._rules("", {}, common, ())  # for their errors
        for index, raw in enumerate(tables):
            if isinstance(raw, Mapping):
                yield self._account(raw, ("accounts", index), common)
            else:
                self.reading.refuse(("accounts", index), f"must be a table, not {shown(raw)}; write [[accounts]]")

    def _account(self, raw: Mapping[str, Any], place: Place, common: _RuleTables) -> AccountSettings:
        kinds = {key: kind for key, kind in kinds_of(AccountSettings).items() if key in {"id", "mode", "nickname"}}
        number = raw.get("id")
        if type(number) is int:  # a bool is an int too
            self.reading.names[place] = f"accounts[{number}]"
            first = self.first_named.setdefault(number, place)
            if first is not place:
                line = self.reading.line((*first, "id"))
                self.reading.refuse((*place, "id"), f"is the account of line {line} again; keep one of the two")
        found = {**self._common_mode(kinds["mode"]), **self.reading.table(raw, place, kinds, ("rules",))}
        account = self.reading.build(AccountSettings, found, place)
        name = self.reading.name(place)
        self.origins |= {f"{name}.{key}": self.reading.origin(found.get(key)) for key in kinds}
        place = (*place, "rules")
        own = self._rule_tables(raw.get("rules", {}), place)
        rules, off = self._rules(name, own, common, place)
        if account is not UNREADABLE:
            account = evolve(account, rules=rules, switched_off=off)
            for rule in rules:
                self.places[account.id, rule, ""] = (*place, rule) if rule in own else ("rules", rule)
                for key, given in {**common.get(rule, {}), **own.get(rule, {})}.items():
                    self.places[account.id, rule, key] = given.place
        return account

    def _common_mode(self, kind: Any) -> dict[str, Found]:
        """Return the mode of every account that does not say its own, where the file has one."""
        if "mode" not in self.tree:
            return {}
        if self.mode is None:  # read once, for one error
            self.mode = Found(self.reading.value(self.tree["mode"], ("mode",), kind), ("mode",))
        return {"mode": self.mode}

    def _rule_tables(self, raw: Any, place: Place) -> _RuleTables:
        """Read the tables of rules below ``place``, by the rule's name."""
        if not isinstance(raw, Mapping):
            self.reading.refuse(place, f"must hold the tables of rules, not {shown(raw)}")
            return {}
        self.reading.known_keys(raw, place, self.known)
        return {
            name: self.reading.table(raw[name], (*place, name), {**kinds_of(kind), "enabled": bool})
            for name, kind in self.known.items()
            if name in raw
        }

    def _rules(
        self, account: str, own: _RuleTables, common: _RuleTables, place: Place
    ) -> tuple[dict[str, Rule], tuple[str, ...]]:
        """Return the rules in force on an account, and the names of those that are switched off."""
        rules: dict[str, Rule] = {}
        off: list[str] = []
        for name in sorted({*own, *common}):
            found = {**common.get(name, {}), **own.get(name, {})}
            enabled = found.pop("enabled", None)
            if enabled is not None and enabled.value is False:
                self.origins[f"{account}.rules.{name}.enabled"] = self.reading.origin(enabled)
                off.append(name)
                continue
            for key in kinds_of(self.known[name]):
                self.origins[f"{account}.rules.{name}.{key}"] = self.reading.origin(found.get(key))
            rules[name] = self.reading.build(
                self.known[name], found, (*place, name) if name in own else ("rules", name)
            )
        return rules, tuple(off)
