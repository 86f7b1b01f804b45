"""How a request that changes something at the broker ended. Three values, never two.

``Unknown`` is not ``Refused``: the order may exist, the position may be closing. Only reading again can tell.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Done:
    """The broker accepted it. ``order_id`` where the call returns one."""

    order_id: int | None = None


@frozen
class Refused:
    """The broker said no, and nothing rests or fills because of this request."""

    code: int
    reason: str


@frozen
class Unknown:
    """No answer, or one that decides nothing. ``retry_after_s`` where the broker asked us to wait."""

    reason: str
    retry_after_s: float | None = None


Outcome = Done | Refused | Unknown
