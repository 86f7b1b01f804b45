from __future__ import annotations

from random import Random

import pytest

from flatguard.signalr_client.reconnect import delay_s


class Edge(Random):
    """A source of randomness that always draws the same edge of the range."""

    def __init__(self, edge: str) -> None:
        super().__init__(0)
        self._edge = edge

    def uniform(self, a: float, b: float) -> float:
        return {"lowest": min(a, b), "middle": (a + b) / 2, "highest": max(a, b)}[self._edge]


@pytest.mark.parametrize(
    ("attempt", "lowest", "middle", "highest"),
    [
        (0, 0, 0, 0),
        (1, 1.6, 2, 2.4),
        (2, 8, 10, 12),
        (3, 24, 30, 36),
        (4, 48, 60, 72),
        (5, 48, 60, 72),
        (1_000_000, 48, 60, 72),
    ],
)
def test_the_delay_grows_to_a_minute_and_never_ends(attempt: int, lowest: float, middle: float, highest: float) -> None:
    drawn = [delay_s(attempt, Edge(edge)) for edge in ("lowest", "middle", "highest")]
    assert drawn == pytest.approx([lowest, middle, highest])


def test_two_daemons_do_not_come_back_in_step() -> None:
    assert delay_s(4, Random(1)) != delay_s(4, Random(2))


def test_the_same_seed_gives_the_same_delay() -> None:
    assert delay_s(4, Random(1)) == delay_s(4, Random(1))
