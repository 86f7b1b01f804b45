"""Identifiers as the broker gives them. Order and trade ids pass 32 bits; keep them as Python integers."""

from __future__ import annotations

from typing import NewType

AccountId = NewType("AccountId", int)
ContractId = NewType("ContractId", str)
OrderId = NewType("OrderId", int)
TradeId = NewType("TradeId", int)
