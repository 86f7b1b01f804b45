"""Products whose root in the contract id is not the exchange's ticker: ES is ``EP`` there, NQ is ``ENQ``.

Source: the gateway's contract list as it was in August 2026. A contract that the broker has described says its ticker
itself; this table serves settings, where a limit may be written either way, and contracts not described yet.
"""

from __future__ import annotations

from functools import lru_cache

TICKER_OF_ROOT = {
    "BP6": "6B",
    "CA6": "6C",
    "CLE": "CL",
    "CPE": "HG",
    "DA6": "6A",
    "EEU": "E7",
    "ENQ": "NQ",
    "EP": "ES",
    "EU6": "6E",
    "FVA": "ZF",
    "GCE": "GC",
    "GLE": "LE",
    "GMCD": "MCD",
    "GMET": "MET",
    "HOE": "HO",
    "JY6": "6J",
    "MCLE": "MCL",
    "MX6": "6M",
    "NE6": "6N",
    "NGE": "NG",
    "NQG": "QG",
    "NQM": "QM",
    "PLE": "PL",
    "RBE": "RB",
    "SF6": "6S",
    "SIE": "SI",
    "TNA": "TN",
    "TUA": "ZT",
    "TYA": "ZN",
    "ULA": "UB",
    "USA": "ZB",
    "ZCE": "ZC",
    "ZLE": "ZL",
    "ZME": "ZM",
    "ZSE": "ZS",
    "ZWA": "ZW",
}


@lru_cache(1_000)
def product(name: str) -> str:
    """Return the ticker that ``name`` (a ticker or a root, in any case) stands for."""
    return TICKER_OF_ROOT.get(name.upper(), name.upper())
