"""The contracts on offer: one active and one expired month of each product.

Tick sizes, tick values and roots are those that the service lists; costs are what was seen on trades where a
trade was seen, and otherwise carried over from the nearest product. Starting prices are merely plausible.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

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

# ticker, root, tick size, tick value, starting price, active month, expired month, cost class, description
_TABLE = """
ES   EP   0.25       12.50   6800      Z26 U26 mini     E-mini S&P 500
MES  MES  0.25       1.25    6800      Z26 U26 micro    Micro E-mini S&P 500
NQ   ENQ  0.25       5.00    25000     Z26 U26 mini     E-mini Nasdaq-100
MNQ  MNQ  0.25       0.50    25000     Z26 U26 micro    Micro E-mini Nasdaq-100
RTY  RTY  0.1        5.00    2400      Z26 U26 mini     E-mini Russell 2000
M2K  M2K  0.1        0.50    2400      Z26 U26 micro    Micro E-mini Russell 2000
YM   YM   1          5.00    49000     Z26 U26 mini     E-mini Dow
MYM  MYM  1          0.50    49000     Z26 U26 microdow Micro E-mini Dow
NKD  NKD  5          25.00   51000     Z26 U26 mini     Nikkei 225 (USD)
CL   CLE  0.01       10.00   62        F27 Z26 mini     Crude Oil
QM   NQM  0.025      12.50   62        F27 Z26 mini     E-mini Crude Oil
MCL  MCLE 0.01       1.00    62        F27 Z26 micronrg Micro Crude Oil
NG   NGE  0.001      10.00   4.2       F27 Z26 mini     Natural Gas
QG   NQG  0.005      12.50   4.2       F27 Z26 mini     E-mini Natural Gas
MNG  MNG  0.001      1.00    4.2       F27 Z26 micronrg Micro Henry Hub Natural Gas
RB   RBE  0.0001     4.20    1.9       F27 Z26 mini     RBOB Gasoline
HO   HOE  0.0001     4.20    2.3       F27 Z26 mini     NY Harbor ULSD
PL   PLE  0.1        5.00    1560      F27 V26 mini     Platinum
GC   GCE  0.1        10.00   4100      G27 Z26 mini     Gold
MGC  MGC  0.1        1.00    4100      G27 Z26 micronrg Micro Gold
SI   SIE  0.005      25.00   50        H27 Z26 mini     Silver
SIL  SIL  0.005      5.00    50        H27 Z26 micronrg 1,000-oz. Silver
HG   CPE  0.0005     12.50   5         H27 Z26 mini     Copper
MHG  MHG  0.0005     1.25    5         H27 Z26 micronrg Micro Copper
6E   EU6  0.00005    6.25    1.16      Z26 U26 mini     Euro FX
E7   EEU  0.0001     6.25    1.16      Z26 U26 mini     E-mini Euro FX
M6E  M6E  0.0001     1.25    1.16      Z26 U26 micronrg Micro EUR/USD
6B   BP6  0.0001     6.25    1.31      Z26 U26 mini     British Pound
M6B  M6B  0.0001     0.625   1.31      Z26 U26 micronrg Micro GBP/USD
6A   DA6  0.00005    5.00    0.65      Z26 U26 mini     Australian Dollar
M6A  M6A  0.0001     1.00    0.65      Z26 U26 micronrg Micro AUD/USD
6C   CA6  0.00005    5.00    0.715     Z26 U26 mini     Canadian Dollar
6J   JY6  0.0000005  6.25    0.0065    Z26 U26 mini     Japanese Yen
6S   SF6  0.00005    6.25    1.25      Z26 U26 mini     Swiss Franc
6N   NE6  0.00005    5.00    0.57      Z26 U26 mini     New Zealand Dollar
6M   MX6  0.00001    5.00    0.054     Z26 U26 mini     Mexican Peso
ZT   TUA  0.00390625 7.8125  104       H27 Z26 treasury 2-Year T-Note
ZF   FVA  0.0078125  7.8125  109       H27 Z26 treasury 5-Year T-Note
ZN   TYA  0.015625   15.625  113       H27 Z26 treasury 10-Year T-Note
TN   TNA  0.015625   15.625  115       H27 Z26 treasury Ultra 10-Year T-Note
ZB   USA  0.03125    31.25   117       H27 Z26 treasury U.S. Treasury Bond
UB   ULA  0.03125    31.25   121       H27 Z26 treasury Ultra U.S. Treasury Bond
ZC   ZCE  0.25       12.50   440       H27 Z26 mini     Corn
ZS   ZSE  0.25       12.50   1130      F27 X26 mini     Soybeans
ZW   ZWA  0.25       12.50   540       H27 Z26 mini     Chicago SRW Wheat
ZM   ZME  0.1        10.00   320       F27 Z26 mini     Soybean Meal
ZL   ZLE  0.01       6.00    50        F27 Z26 mini     Soybean Oil
LE   GLE  0.025      10.00   220       G27 Z26 mini     Live Cattle
HE   HE   0.025      10.00   82        G27 Z26 mini     Lean Hogs
MBT  MBT  5          0.50    90000     Z26 X26 micronrg Micro Bitcoin
MET  GMET 0.5        0.05    3000      Z26 X26 micronrg Micro Ether
"""

# fees and commission per contract and side, US dollars
_COSTS = {
    "mini": (Decimal("1.40"), Decimal("0.50")),
    "micro": (Decimal("0.36"), Decimal("0.25")),
    "microdow": (Decimal("0.37"), Decimal("0.25")),
    "micronrg": (Decimal("0.51"), Decimal("0.25")),
    "treasury": (Decimal("0.89"), Decimal("0.50")),
}


@frozen
class Contract:
    """One expiry. ``fees`` and ``commission`` are US dollars per contract and side.

    ``weight`` is what one of it counts as in minis.
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
        return price % self.tick_size == 0

    def value_of(self, points: Decimal) -> Decimal:
        """Return what a move of ``points`` is worth for one contract, in US dollars."""
        return points / self.tick_size * self.tick_value


def _month_name(month: str) -> str:
    return f"{_MONTHS[month[0]]} 20{month[1:]}"


def _read_table() -> dict[str, Contract]:
    contracts: dict[str, Contract] = {}
    for line in _TABLE.strip().splitlines():
        ticker, root, tick_size, tick_value, price, active, expired, costs, description = line.split(None, 8)
        fees, commission = _COSTS[costs]
        for month in (active, expired):
            contract = Contract(
                id=f"CON.F.US.{root}.{month}",
                ticker=ticker,
                root=root,
                month=month,
                description=f"{description}: {_month_name(month)}",
                tick_size=Decimal(tick_size),
                tick_value=Decimal(tick_value),
                fees=fees,
                commission=commission,
                weight=Decimal("0.1") if costs.startswith("micro") else Decimal(1),
                first_price=Decimal(price),
                active=month == active,
            )
            contracts[contract.id] = contract
    return contracts


CONTRACTS = _read_table()
ACTIVE = {contract.ticker: contract for contract in CONTRACTS.values() if contract.active}


def find_contract(name: str) -> Contract | None:
    """Return the contract with this id, or the active month of this ticker; None where there is none."""
    return CONTRACTS.get(name) or ACTIVE.get(name.upper())
