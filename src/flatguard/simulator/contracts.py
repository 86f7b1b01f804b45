"""The contracts on offer: which months each product has, when the active one rolls, and when it expires.

Tick sizes, tick values and roots are those that the service lists; costs are what was seen on trades where a
trade was seen, and otherwise carried over from the nearest product. Starting prices are merely plausible.

Expiries follow the exchange's rules (contract specifications at www.cmegroup.com). When the service moves its active
flag is not published; the days here fit the one list that was seen, of August 2026.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from types import MappingProxyType

from attrs import field, frozen

from flatguard.simulator.sessions import is_business_day, trading_day_start, windows

_MONTHS = {
    "F": "January",
    "G": "February",
    "H": "March",
    "J": "April",
    "K": "May",
    "M": "June",
    "N": "July",
    "Q": "August",
    "U": "September",
    "V": "October",
    "X": "November",
    "Z": "December",
}
_CODES = "".join(_MONTHS)
_EVERY_MONTH = _CODES
_ONE_DAY = timedelta(days=1)

# ticker, root, tick size, tick value, starting price, active and expired month while nothing rolls, cost class,
# calendar, months that are traded, description
_TABLE = """
ES   EP   0.25       12.50   6800    Z26 U26 mini     equity    HMUZ    E-mini S&P 500
MES  MES  0.25       1.25    6800    Z26 U26 micro    equity    HMUZ    Micro E-mini S&P 500
NQ   ENQ  0.25       5.00    25000   Z26 U26 mini     equity    HMUZ    E-mini Nasdaq-100
MNQ  MNQ  0.25       0.50    25000   Z26 U26 micro    equity    HMUZ    Micro E-mini Nasdaq-100
RTY  RTY  0.1        5.00    2400    Z26 U26 mini     equity    HMUZ    E-mini Russell 2000
M2K  M2K  0.1        0.50    2400    Z26 U26 micro    equity    HMUZ    Micro E-mini Russell 2000
YM   YM   1          5.00    49000   Z26 U26 mini     equity    HMUZ    E-mini Dow
MYM  MYM  1          0.50    49000   Z26 U26 microdow equity    HMUZ    Micro E-mini Dow
NKD  NKD  5          25.00   51000   Z26 U26 mini     nikkei    HMUZ    Nikkei 225 (USD)
CL   CLE  0.01       10.00   62      F27 Z26 mini     crude     all     Crude Oil
QM   NQM  0.025      12.50   62      F27 Z26 mini     minicrude all     E-mini Crude Oil
MCL  MCLE 0.01       1.00    62      F27 Z26 micronrg crude     all     Micro Crude Oil
NG   NGE  0.001      10.00   4.2     F27 Z26 mini     gas       all     Natural Gas
QG   NQG  0.005      12.50   4.2     F27 Z26 mini     minigas   all     E-mini Natural Gas
MNG  MNG  0.001      1.00    4.2     F27 Z26 micronrg gas       all     Micro Henry Hub Natural Gas
RB   RBE  0.0001     4.20    1.9     F27 Z26 mini     products  all     RBOB Gasoline
HO   HOE  0.0001     4.20    2.3     F27 Z26 mini     products  all     NY Harbor ULSD
PL   PLE  0.1        5.00    1560    F27 V26 mini     metals    FJNV    Platinum
GC   GCE  0.1        10.00   4100    G27 Z26 mini     metals    GJMQZ   Gold
MGC  MGC  0.1        1.00    4100    G27 Z26 micronrg metals    GJMQZ   Micro Gold
SI   SIE  0.005      25.00   50      H27 Z26 mini     metals    HKNUZ   Silver
SIL  SIL  0.005      5.00    50      H27 Z26 micronrg metals    HKNUZ   1,000-oz. Silver
HG   CPE  0.0005     12.50   5       H27 Z26 mini     metals    HKNUZ   Copper
MHG  MHG  0.0005     1.25    5       H27 Z26 micronrg metals    HKNUZ   Micro Copper
6E   EU6  0.00005    6.25    1.16    Z26 U26 mini     fx        HMUZ    Euro FX
E7   EEU  0.0001     6.25    1.16    Z26 U26 mini     fx        HMUZ    E-mini Euro FX
M6E  M6E  0.0001     1.25    1.16    Z26 U26 micronrg fx        HMUZ    Micro EUR/USD
6B   BP6  0.0001     6.25    1.31    Z26 U26 mini     fx        HMUZ    British Pound
M6B  M6B  0.0001     0.625   1.31    Z26 U26 micronrg fx        HMUZ    Micro GBP/USD
6A   DA6  0.00005    5.00    0.65    Z26 U26 mini     fx        HMUZ    Australian Dollar
M6A  M6A  0.0001     1.00    0.65    Z26 U26 micronrg fx        HMUZ    Micro AUD/USD
6C   CA6  0.00005    5.00    0.715   Z26 U26 mini     canada    HMUZ    Canadian Dollar
6J   JY6  0.0000005  6.25    0.0065  Z26 U26 mini     fx        HMUZ    Japanese Yen
6S   SF6  0.00005    6.25    1.25    Z26 U26 mini     fx        HMUZ    Swiss Franc
6N   NE6  0.00005    5.00    0.57    Z26 U26 mini     fx        HMUZ    New Zealand Dollar
6M   MX6  0.00001    5.00    0.054   Z26 U26 mini     fx        HMUZ    Mexican Peso
ZT   TUA  0.00390625 7.8125  104     H27 Z26 treasury notes     HMUZ    2-Year T-Note
ZF   FVA  0.0078125  7.8125  109     H27 Z26 treasury notes     HMUZ    5-Year T-Note
ZN   TYA  0.015625   15.625  113     H27 Z26 treasury bonds     HMUZ    10-Year T-Note
TN   TNA  0.015625   15.625  115     H27 Z26 treasury bonds     HMUZ    Ultra 10-Year T-Note
ZB   USA  0.03125    31.25   117     H27 Z26 treasury bonds     HMUZ    U.S. Treasury Bond
UB   ULA  0.03125    31.25   121     H27 Z26 treasury bonds     HMUZ    Ultra U.S. Treasury Bond
ZC   ZCE  0.25       12.50   440     H27 Z26 mini     grains    HKNUZ   Corn
ZS   ZSE  0.25       12.50   1130    F27 X26 mini     grains    FHKNX   Soybeans
ZW   ZWA  0.25       12.50   540     H27 Z26 mini     grains    HKNUZ   Chicago SRW Wheat
ZM   ZME  0.1        10.00   320     F27 Z26 mini     grains    FHKNZ   Soybean Meal
ZL   ZLE  0.01       6.00    50      F27 Z26 mini     grains    FHKNZ   Soybean Oil
LE   GLE  0.025      10.00   220     G27 Z26 mini     cattle    GJMQVZ  Live Cattle
HE   HE   0.025      10.00   82      G27 Z26 mini     hogs      GJMNQVZ Lean Hogs
MBT  MBT  5          0.50    90000   Z26 X26 micronrg crypto    all     Micro Bitcoin
MET  GMET 0.5        0.05    3000    Z26 X26 micronrg crypto    all     Micro Ether
"""

# fees and commission per contract and side, US dollars
_COSTS = {
    "mini": (Decimal("1.40"), Decimal("0.50")),
    "micro": (Decimal("0.36"), Decimal("0.25")),
    "microdow": (Decimal("0.37"), Decimal("0.25")),
    "micronrg": (Decimal("0.51"), Decimal("0.25")),
    "treasury": (Decimal("0.89"), Decimal("0.50")),
}


# --- when a month ends, and when the next becomes the active one ---


def _last_business_day(year: int, month: int) -> date:
    return _business_days_before(date(year, month, monthrange(year, month)[1]) + _ONE_DAY, 1)


def _business_days_before(day: date, days: int) -> date:
    """Return the business day that is the ``days``-th before ``day``; 0 is ``day``, or the last one before it."""
    while days or not is_business_day(day):
        day -= _ONE_DAY
        days -= days > 0 and is_business_day(day)
    return day


def _nth(weekday: int, n: int, year: int, month: int) -> date:
    first = date(year, month, 1)
    return first + timedelta(days=(weekday - first.weekday()) % 7 + 7 * (n - 1))


def _month_before(year: int, month: int) -> tuple[int, int]:
    return (year, month - 1) if month > 1 else (year - 1, 12)


_MONDAY, _WEDNESDAY, _FRIDAY = 0, 2, 4


def _crude_ends(year: int, month: int) -> date:
    """Three business days before the 25th of the month before, or before the business day that precedes it."""
    return _business_days_before(_business_days_before(date(*_month_before(year, month), 25), 0), 3)


def _last_friday(year: int, month: int) -> date:
    last = date(year, month, monthrange(year, month)[1])
    return _business_days_before(last - timedelta(days=(last.weekday() - _FRIDAY) % 7), 0)


@frozen
class Calendar:
    """``ends``: the last day on which a month is traded. ``rolls``: the day from which the next is the active one."""

    ends: Callable[[int, int], date]
    rolls: Callable[[int, int], date]


def _before_the_month(days: int) -> Callable[[int, int], date]:
    return lambda year, month: _business_days_before(date(year, month, 1), days)


def _before_the_end(ends: Callable[[int, int], date], days: int) -> Callable[[int, int], date]:
    return lambda year, month: _business_days_before(ends(year, month), days)


def _monday_of(ends: Callable[[int, int], date]) -> Callable[[int, int], date]:
    return lambda year, month: (end := ends(year, month)) - timedelta(days=end.weekday())


def _calendars() -> Iterator[tuple[str, Calendar]]:
    def third_friday(year: int, month: int) -> date:
        return _business_days_before(_nth(_FRIDAY, 3, year, month), 0)

    def second_thursday(year: int, month: int) -> date:
        return _business_days_before(_nth(_FRIDAY, 2, year, month), 1)

    def before_third_wednesday(days: int) -> Callable[[int, int], date]:
        return lambda year, month: _business_days_before(_nth(_WEDNESDAY, 3, year, month), days)

    def before_last(days: int) -> Callable[[int, int], date]:
        return lambda year, month: _business_days_before(_last_business_day(year, month), days)

    def before_the_15th(year: int, month: int) -> date:
        return _business_days_before(date(year, month, 15), 1)

    def tenth_business_day(year: int, month: int) -> date:
        day = date(year, month, 1) - _ONE_DAY
        for _ in range(10):
            day += _ONE_DAY
            while not is_business_day(day):
                day += _ONE_DAY
        return day

    for name, ends, rolls in (
        ("equity", third_friday, _monday_of(third_friday)),
        ("nikkei", second_thursday, _monday_of(second_thursday)),
        ("fx", before_third_wednesday(2), _before_the_end(before_third_wednesday(2), 3)),
        ("canada", before_third_wednesday(1), _before_the_end(before_third_wednesday(1), 4)),
        ("notes", _last_business_day, _before_the_month(2)),
        ("bonds", before_last(7), _before_the_month(2)),
        ("metals", before_last(2), _before_the_month(2)),
        ("crude", _crude_ends, _before_the_end(_crude_ends, 3)),
        ("minicrude", _before_the_end(_crude_ends, 1), _before_the_end(_crude_ends, 3)),
        ("gas", _before_the_month(3), _before_the_month(6)),
        ("minigas", _before_the_month(4), _before_the_month(6)),
        ("products", _before_the_month(1), _before_the_month(10)),
        ("grains", before_the_15th, _before_the_month(10)),
        ("cattle", _last_business_day, _before_the_month(10)),
        ("hogs", tenth_business_day, _before_the_month(10)),
        ("crypto", _last_friday, _monday_of(_last_friday)),
    ):
        yield name, Calendar(ends, rolls)


CALENDARS: Mapping[str, Calendar] = MappingProxyType(dict(_calendars()))


@frozen
class Product:
    """What all months of it share. ``fees`` and ``commission`` are US dollars per contract and side.

    ``weight`` is what one of it counts as in minis. ``active`` and ``expired`` are its months while nothing rolls.
    """

    ticker: str
    root: str
    description: str
    tick_size: Decimal
    tick_value: Decimal
    fees: Decimal
    commission: Decimal
    weight: Decimal
    first_price: Decimal
    active: str
    expired: str
    months: str
    """The codes of the months that are traded, January to December."""
    calendar: Calendar = field(repr=False)

    def months_from(self, day: date) -> Iterator[str]:
        """Yield its months in order, for ever, beginning with those of the year before ``day``."""
        year = day.year - 1
        while True:
            for code in self.months:
                yield f"{code}{year % 100:02d}"
            year += 1


_BEYOND_ALL_PRICES = Decimal(10) ** 15
"""From here on a remainder cannot be reckoned exactly, and there is no such price."""


@frozen
class Contract:
    """One expiry. ``fees`` and ``commission`` are US dollars per contract and side.

    ``weight`` is what one of it counts as in minis. ``active``: whether it is the active one while nothing rolls.
    """

    id: str
    ticker: str
    root: str
    month: str
    description: str
    tick_size: Decimal
    tick_value: Decimal
    fees: Decimal
    commission: Decimal
    weight: Decimal
    first_price: Decimal
    active: bool
    rolls_at: datetime
    """When the next month becomes the active one: with the start of that trading day."""
    ends_at: datetime
    """When it has traded for the last time."""

    @property
    def symbol_id(self) -> str:
        """Return the product as hub quotes name it (``F.US.MNQ``)."""
        return f"F.US.{self.root}"

    @property
    def name(self) -> str:
        """Return the short name of REST rows, with a one-digit year (``MNQZ6``)."""
        return f"{self.ticker}{self.month[0]}{self.month[-1]}"

    @property
    def display_name(self) -> str:
        """Return the name of position rows, with a two-digit year (``MNQZ26``)."""
        return f"{self.ticker}{self.month}"

    def aligned(self, price: Decimal) -> bool:
        """Tell whether ``price`` lies on the tick grid."""
        return abs(price) < _BEYOND_ALL_PRICES and price % self.tick_size == 0

    def value_of(self, points: Decimal) -> Decimal:
        """Return what a move of ``points`` is worth for one contract, in US dollars."""
        return points / self.tick_size * self.tick_value


def _read_table() -> Iterator[Product]:
    for line in _TABLE.strip().splitlines():
        ticker, root, tick_size, tick_value, price, active, expired, costs, calendar, months, description = line.split(
            maxsplit=10
        )
        fees, commission = _COSTS[costs]
        yield Product(
            ticker=ticker,
            root=root,
            description=description,
            tick_size=Decimal(tick_size),
            tick_value=Decimal(tick_value),
            fees=fees,
            commission=commission,
            weight=Decimal("0.1") if costs.startswith("micro") else Decimal(1),
            first_price=Decimal(price),
            active=active,
            expired=expired,
            months=_EVERY_MONTH if months == "all" else months,
            calendar=CALENDARS[calendar],
        )


PRODUCTS: Mapping[str, Product] = MappingProxyType({product.root: product for product in _read_table()})
_TICKERS = {product.ticker: product for product in PRODUCTS.values()}


@lru_cache(maxsize=4096)
def _contract(root: str, month: str) -> Contract:
    """Return a month of a product; always the same object for the same month."""
    product = PRODUCTS[root]
    when = 2000 + int(month[1:]), _CODES.index(month[0]) + 1
    sessions = windows(last_day := product.calendar.ends(*when), product.ticker)
    return Contract(
        id=f"CON.F.US.{root}.{month}",
        ticker=product.ticker,
        root=root,
        month=month,
        description=f"{product.description}: {_MONTHS[month[0]]} 20{month[1:]}",
        tick_size=product.tick_size,
        tick_value=product.tick_value,
        fees=product.fees,
        commission=product.commission,
        weight=product.weight,
        first_price=product.first_price,
        active=month == product.active,
        rolls_at=trading_day_start(product.calendar.rolls(*when)),
        ends_at=sessions[-1][1] if sessions else trading_day_start(last_day + _ONE_DAY),
    )


def contract_of(contract_id: str) -> Contract | None:
    """Return the month that an id names (``CON.F.US.MNQ.Z26``); None where the product has no such month."""
    parts = contract_id.split(".")
    if len(parts) != 5 or parts[:3] != ["CON", "F", "US"] or parts[3] not in PRODUCTS:
        return None
    root, month = parts[3:]
    year = month[1:]
    if month[:1] not in tuple(PRODUCTS[root].months) or len(year) != 2 or not (year.isascii() and year.isdigit()):
        return None
    return _contract(root, month)


CONTRACTS: Mapping[str, Contract] = MappingProxyType(
    {
        contract.id: contract
        for product in PRODUCTS.values()
        for contract in (_contract(product.root, product.active), _contract(product.root, product.expired))
    }
)
"""What is listed while nothing rolls."""
ACTIVE: Mapping[str, Contract] = MappingProxyType(
    {contract.ticker: contract for contract in CONTRACTS.values() if contract.active}
)
"""What is active while nothing rolls, by ticker."""


def find_contract(name: str) -> Contract | None:
    """Return the contract with this id, or the month of this ticker that is active while nothing rolls; or None."""
    return CONTRACTS.get(name) or ACTIVE.get(name.upper())


@frozen
class Listing:
    """What the broker lists. Where it ``rolls``, that depends on the time; otherwise it is the table for ever."""

    rolls: bool = False

    def get(self, contract_id: str) -> Contract | None:
        """Return the contract with this id, expired or not; None where there is none."""
        return contract_of(contract_id) if self.rolls else CONTRACTS.get(contract_id)

    def find(self, name: str, now: datetime) -> Contract | None:
        """Return the contract with this id, or the active month of this ticker; None where there is none."""
        product = _TICKERS.get(name.upper())
        return self.get(name) if product is None else self._active_month(product, now)

    def active(self, now: datetime) -> list[Contract]:
        """Return the active month of each product."""
        return [self._active_month(product, now) for product in PRODUCTS.values()]

    def is_active(self, contract: Contract, now: datetime) -> bool:
        """Tell whether this is the month that the broker shows as active."""
        return self._active_month(PRODUCTS[contract.root], now) is contract

    def is_traded(self, contract: Contract, now: datetime) -> bool:
        """Tell whether orders for it can fill: after the roll too, until it expires."""
        return now < contract.ends_at if self.rolls else contract.active

    def _active_month(self, product: Product, now: datetime) -> Contract:
        if not self.rolls:
            return _contract(product.root, product.active)
        months = (_contract(product.root, month) for month in product.months_from(now.date()))
        return next(contract for contract in months if now < contract.rolls_at)
