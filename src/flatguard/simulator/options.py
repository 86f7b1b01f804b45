"""Every knob of the double, with its default and where the default comes from.

"seen" means captured from the real service; "assumed" means that nobody has published it. Durations are
milliseconds unless the name says otherwise; a pair is a range from which each occasion draws evenly.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Self

from attrs import evolve, frozen


@frozen(kw_only=True)
class Options:
    """How this gateway behaves.

    ``Options()`` is as unpleasant as the real one; ``Options.calm()`` is exact.
    """

    hub_lag_ms: tuple[float, float] = (40, 55)
    """From the venue to the client's socket (seen: 40 to 56)."""
    swap_within_ms: float = 2
    """Events closer together than this may change places (seen)."""
    account_repeats: tuple[int, int] = (1, 3)
    """How often an account event comes again (seen: one to three times)."""
    account_repeat_ms: tuple[float, float] = (40, 3500)
    """When it comes again (seen)."""
    order_repeat_probability: float = 0.2
    """How often the last event of an order comes twice (seen "sometimes")."""
    order_repeat_ms: tuple[float, float] = (590, 620)
    """When it comes twice (seen: 606)."""
    execution_ms: tuple[float, float] = (8, 125)
    """From the acceptance of a marketable order to its fill (seen)."""
    answer_after_fill_ms: tuple[float, float] = (0, 100)
    """From the fill events to the HTTP answer of the call that caused them (seen: up to 100)."""
    answer_ms: tuple[float, float] = (2, 25)
    """What any other REST call takes (assumed)."""
    read_lag_ms: tuple[float, float] = (0, 1000)
    """How far REST lists trail behind what happened; mostly short, seldom the upper end (seen: "a moment").
    """
    oco_ms: tuple[float, float] = (5, 20)
    """From the fill of one bracket leg to the cancellation of the other (seen: 5 to 20, once 58 s)."""
    oco_gap_fills: bool = False
    """Whether the other leg may still fill in that gap (said to happen in a fast market)."""

    market_slippage_ticks: int = 0
    """What a market order pays beyond bid or ask (assumed)."""
    stop_slippage_ticks: int = 1
    """What a stop pays beyond bid or ask (seen: a stop filled two ticks beyond its price)."""
    price_walk: bool = True
    """Whether prices move by themselves; otherwise only where they are moved to."""
    market_step_ms: float = 250
    """How often a contract trades while somebody watches or holds it (assumed; the real rate is higher)."""
    part_ms: float = 40
    """Between the parts of a fill in parts (assumed)."""

    sessions: bool = False
    """Whether the exchange keeps hours: those of each product, with weekends and holidays. Otherwise always open.
    """
    month_roll: bool = False
    """Whether the active months follow the calendar, and months expire. Otherwise those of late 2026 are active for
    ever.
    """
    auto_oco: bool = True
    """The account setting that allows brackets; off, an order with brackets is refused (seen)."""
    cancel_takes_sibling: bool = False
    """Whether cancelling one leg of a bracket cancels the other (unknown)."""
    close_cancels_brackets: bool = False
    """Whether closeContract takes bracket legs with it (disputed; most captures say no)."""
    close_is_capped: bool = True
    """Whether a close shrinks to what is still open when it executes (assumed)."""
    refusal_when_locked: int = 10
    """Order/place's code for an account that cannot trade: 4 or 10 (assumed: AccountRejected)."""
    price_band: Decimal = Decimal("0.3")
    """A price further from the market than this share of it is refused (assumed; the real band is generous).
    """

    speed: float = 1
    """How many times as fast as real time the broker's clock runs on sockets, at most 3600; in virtual time it is of
    no effect.
    """

    rest_commissions: bool = False
    """Whether Trade/search tells commissions too (absent from the captures)."""
    one_session: bool = False
    """Whether a new connection to a hub ends the same login's older ones by GatewayLogout (reported, disputed)."""

    token_life_s: float = 24 * 3600
    """Documented."""
    close_hub_on_expiry: bool = False
    """Whether an open hub connection is ended when its token expires (unknown)."""
    bars_allowance: tuple[int, float] = (50, 30)
    """Requests per seconds for History/retrieveBars, in a rolling window (documented; the window is assumed).
    """
    rest_allowance: tuple[int, float] = (200, 60)
    """Requests per seconds for everything else together (documented; the window is assumed)."""
    refused_calls_count: bool = False
    """Whether a call answered by 429 uses up the allowance too (unknown)."""
    retry_after: bool = False
    """Whether 429 carries Retry-After (unknown)."""
    retry_after_is_a_date: bool = False
    """Whether Retry-After is an HTTP date instead of seconds (unknown)."""

    hub_ping_s: float = 15
    """ASP.NET Core's default."""
    hub_client_timeout_s: float = 30
    """ASP.NET Core's default; counts once the client has pinged."""
    hub_handshake_timeout_s: float = 15
    """ASP.NET Core's default."""

    @classmethod
    def calm(cls) -> Self:
        """Return a gateway without chance: no lag, no repeats, still prices, every time the same."""
        return cls(
            hub_lag_ms=(0, 0),
            swap_within_ms=0,
            account_repeats=(0, 0),
            order_repeat_probability=0,
            execution_ms=(8, 8),
            answer_after_fill_ms=(1, 1),
            answer_ms=(0, 0),
            read_lag_ms=(0, 0),
            oco_ms=(18, 18),
            stop_slippage_ticks=0,
            price_walk=False,
        )

    def but(self, **changes: Any) -> Self:
        """Return these options with ``changes``."""
        return evolve(self, **changes)
