"""Whether what the broker says of a contract fits what its fills earn.

All money of open positions hangs on tick size and tick value. A description that is wrong would show in the first
position that is closed: the broker told the profit of that.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from flatguard.model.trading import Contract, Trade

FIRST_FILLS = 1_000  # of the day; a description that fits those fits
CENT = Decimal("0.01")


def contradiction(contract: Contract, trades: Iterable[Trade], *, from_flat: bool = True) -> str | None:
    """Return in what ``trades`` of a day contradict ``contract``, None where they do not, or say nothing of it.

    A fill says something of the tick value where it closes what was opened at one price. Prices lie on the tick grid.
    Without ``from_flat`` they began with a position of the day before, and close what was opened at its price.
    """
    held, entry = 0, Decimal(0)
    one_price = False
    fills = [trade for trade in trades if trade.contract_id == contract.id and not trade.voided]
    for fill in sorted(fills, key=lambda t: (t.made_at, t.id))[:FIRST_FILLS]:
        if fill.price % contract.tick_size:
            return f"fill {fill.id} at {fill.price:f} is not on the grid of {contract.tick_size:f}"
        signed = fill.side.sign * fill.size
        if fill.profit_and_loss is None:
            one_price = fill.price == entry and one_price if held else True
            held, entry = held + signed, fill.price
            continue
        if from_flat and one_price and held * signed < 0 and abs(signed) <= abs(held):
            ticks = (fill.price - entry) / contract.tick_size * -signed
            earned = ticks * contract.tick_value
            if abs(earned - fill.profit_and_loss) > CENT:
                return (
                    f"fill {fill.id} made {fill.profit_and_loss:f}, but {ticks:f} ticks of {contract.tick_value:f}"
                    f" are {earned:.2f}"
                )
        one_price = one_price and abs(signed) <= abs(held)
        held += signed
    return None
