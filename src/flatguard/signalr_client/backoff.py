"""How long to wait before the next attempt to reach a hub. Pure; there is no last attempt.

SignalR's own schedule gives up after 42 seconds, which is no way to guard an account: a gap of minutes is
ordinary. So the schedule goes on with its cap for ever. It is spread by a fifth, for after an outage of the
broker everybody comes back at once; only the first attempt is immediate, since most losses are over at once.
"""

from __future__ import annotations

from random import Random

DELAYS_S = (0.0, 2.0, 10.0, 30.0)
LONGEST_DELAY_S = 60.0
SPREAD = 0.2


def delay_s(attempt: int, random: Random) -> float:
    """Return the seconds to wait before ``attempt``; the first after a loss is number 0."""
    nominal = DELAYS_S[attempt] if attempt < len(DELAYS_S) else LONGEST_DELAY_S
    return nominal * random.uniform(1 - SPREAD, 1 + SPREAD)
