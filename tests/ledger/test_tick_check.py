"""What the broker says of a contract, held against what its fills earn."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.ledger.tick_check import contradiction
from flatguard.model.trading import Side, Trade
from tests.fakes.desk import MES, MNQ, chicago, contract, trade

NOON = chicago("2025-01-15 12:00")
DESCRIBED = contract(MNQ)  # a quarter of a point is fifty cents


def fill(number: int, signed: int, price: str, profit: str | None = None) -> Trade:
    row = trade(number, NOON + timedelta(seconds=number), profit, size=abs(signed))
    return evolve(row, side=Side.BUY if signed > 0 else Side.SELL, price=Decimal(price))


@given(
    st.lists(
        st.tuples(st.sampled_from([1, -1]), st.integers(1, 5), st.integers(80_000, 90_000), st.integers(-400, 400)),
        max_size=8,
    )
)
def test_round_trips_that_earn_what_they_should_contradict_nothing(trips: list[tuple[int, int, int, int]]) -> None:
    fills: list[Trade] = []
    for number, (direction, size, entry, moved) in enumerate(trips):
        price, later = Decimal(entry) / 4, Decimal(entry + moved) / 4
        profit = Decimal(moved) * direction * size / 2
        opening = fill(2 * number, direction * size, str(price))
        fills += [opening, fill(2 * number + 1, -direction * size, str(later), str(profit))]
    assert contradiction(DESCRIBED, fills) is None


def test_a_tick_value_that_fills_deny_is_found() -> None:
    fills = [fill(1, 2, "21000"), fill(2, -2, "21010", "40.00")]
    assert contradiction(DESCRIBED, fills) is None
    assert contradiction(evolve(DESCRIBED, tick_value=Decimal(5)), fills) == (
        "fill 2 made 40.00, but 80 ticks of 5 are 400.00"
    )


def test_a_tick_size_that_prices_deny_is_found() -> None:
    coarse = evolve(DESCRIBED, tick_size=Decimal(1))
    assert contradiction(coarse, [fill(1, 2, "21000.25")]) == "fill 1 at 21000.25 is not on the grid of 1"


@pytest.mark.parametrize(
    "fills",
    [
        pytest.param([fill(1, 1, "21000"), fill(2, 1, "21004"), fill(3, -1, "21010", "3")], id="two prices"),
        pytest.param([fill(1, -1, "21010", "3")], id="opened on another day"),
        pytest.param([fill(1, 1, "21000"), fill(2, -2, "21010", "3"), fill(3, 1, "21000", "9")], id="turned around"),
        pytest.param([evolve(fill(1, 1, "21000.10"), voided=True)], id="voided"),
        pytest.param([evolve(fill(1, 1, "21000.10"), contract_id=MES)], id="another contract"),
        pytest.param([], id="nothing"),
    ],
)
def test_fills_that_say_nothing_of_it_contradict_nothing(fills: list[Trade]) -> None:
    assert contradiction(DESCRIBED, fills) is None


def test_a_part_that_is_closed_counts_as_the_whole_does() -> None:
    fills = [fill(1, -3, "21000"), fill(2, -1, "21000"), fill(3, 1, "20990", "20"), fill(4, 3, "20980", "121")]
    assert contradiction(DESCRIBED, fills) == "fill 4 made 121, but 240 ticks of 0.50 are 120.00"


def test_what_was_opened_the_day_before_is_no_evidence_of_a_tick_value() -> None:
    """Two were held at 20900; two more were bought, and the broker tells the profit of two of the four."""
    fills = [fill(1, 2, "21000"), fill(2, -2, "21010", "240")]
    assert contradiction(DESCRIBED, fills, from_flat=False) is None
    assert contradiction(DESCRIBED, fills) is not None
    assert contradiction(evolve(DESCRIBED, tick_size=Decimal(3)), fills, from_flat=False) is not None
