"""What can go wrong on purpose: faults by name, drawn from the world's own seed.

A fault meets occasions: an event to send, a request to answer, a connection. ``target`` narrows them down,
``probability`` says how many of them it strikes, ``count`` ends it after so many strikes, ``duration_s``
after so much of the broker's time. What ``delay_s`` delays is the fault's own affair, told beside its name.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType

from attrs import define, field

EVENT_FAULTS = MappingProxyType(
    {
        "drop_event": "the event is never sent",
        "delay_event": "the event comes delay_s later (2)",
        "duplicate_event": "the event comes twice",
        "reorder_events": "the event is held back by up to delay_s (0.2), so that others overtake it",
    }
)
"""On hub events; the target is an event name."""

HUB_FAULTS = MappingProxyType(
    {
        "freeze_hub": "stays connected, answers pings and calls, sends no events",
        "silence_hub": "stays connected, sends nothing at all",
        "cut_hub": "the socket is gone",
        "close_hub": "a SignalR Close with allowReconnect, then the socket is gone",
        "refuse_hub": "the upgrade is answered by 503",
        "refuse_negotiation": "negotiating is answered by 200 and an error",
        "redirect_negotiation": "negotiating is answered by this address again, and a token for this attempt only",
        "logout_hub": "GatewayLogout, then the socket is gone",
    }
)
"""On connections; the target is ``user`` or ``market``.

Those that end a connection act at once on the open ones; with ``duration_s`` or ``count`` they also meet
connections to come.
"""

REST_FAULTS = MappingProxyType(
    {
        "timeout_before": "not acted upon, never answered",
        "timeout_after": "acted upon, never answered",
        "reset_after": "acted upon, then the connection is reset",
        "slow": "acted upon at once, answered delay_s later (10)",
        "http_401": "401, not acted upon",
        "http_429": "429, not acted upon",
        "http_500": "500, not acted upon",
        "http_500_after": "500, acted upon",
        "html_body": "200 with a page for people, not acted upon",
        "missing_list": "the list is left out of a successful answer",
        "stale_read": "lists as they were delay_s ago (5)",
        "error_pending": "the endpoint's code for a pending order; acted upon delay_s later (2), "
        "a placed order at status 6 until then",
        "error_pending_fails": "the same code; delay_s later (2) a placed order is rejected, anything else never acts",
        "error_unknown": "the endpoint's code for an unknown error, not acted upon",
        "error_unknown_after": "the endpoint's code for an unknown error, acted upon",
        "refuse_exits": "cancels and closes are refused, as on accounts that the API may not trade",
    }
)
"""On REST calls; the target is a path."""

ACCOUNT_FAULTS = MappingProxyType(
    {
        "velocity_control": "Order/place is refused for trading too fast",
        "partial_fills": "orders fill in parts",
        "leg_left_behind": "a bracket leg survives the fill of its sibling",
        "fast_market": "when a stop is touched the market is 40 ticks beyond it already",
        "outside_range": "Order/place is refused for a price outside the allowed range, whatever the price",
        "slow_cancel": "a cancelled order works on at status 7 for delay_s (2), and may still fill",
        "void_trade": "a half-turn is busted delay_s (5) after it was made",
    }
)
"""On accounts; the target is an account id."""

EVENTS = (
    *("GatewayUserAccount", "GatewayUserOrder", "GatewayUserPosition", "GatewayUserTrade"),
    *("GatewayQuote", "GatewayTrade", "GatewayDepth"),
)
PATHS = (
    *("/api/Auth/loginKey", "/api/Auth/loginApp", "/api/Auth/validate", "/api/Auth/logout"),
    *("/api/Account/search", "/api/Contract/available", "/api/Contract/search", "/api/Contract/searchById"),
    *("/api/History/retrieveBars", "/api/Order/search", "/api/Order/searchOpen", "/api/Order/searchById"),
    *("/api/Order/v2/query", "/api/Order/place", "/api/Order/cancel", "/api/Order/modify"),
    *("/api/Position/searchOpen", "/api/Position/closeContract", "/api/Position/partialCloseContract"),
    "/api/Trade/search",
)
_TARGETS = (
    (EVENT_FAULTS, f"one of {', '.join(EVENTS)}", EVENTS.__contains__),
    (HUB_FAULTS, "user or market", ("user", "market").__contains__),
    (REST_FAULTS, f"one of {', '.join(PATHS)}", PATHS.__contains__),
    (ACCOUNT_FAULTS, "an account id", str.isdecimal),
)
_LONGEST_S = 10 * 365 * 86400

KNOWN_FAULTS: Mapping[str, str] = MappingProxyType({**EVENT_FAULTS, **HUB_FAULTS, **REST_FAULTS, **ACCOUNT_FAULTS})
_DELAYING = frozenset(name for name, does in KNOWN_FAULTS.items() if "delay_s" in does)


def objections(
    name: str,
    accounts: Collection[int],
    *,
    target: str | None = None,
    probability: float | None = None,
    count: int | None = None,
    duration_s: float | None = None,
    delay_s: float | None = None,
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a fault that is asked for: the field's name, and a sentence.

    ``accounts`` are those that there are.
    """
    if name not in KNOWN_FAULTS:
        yield "name", f"there is no fault {name!r}; known are {', '.join(sorted(KNOWN_FAULTS))}"
    for faults, wanted, fits in _TARGETS:
        if name in faults and target is not None and not fits(target):
            yield "target", f"{name} meets {wanted}; {target!r} is none"
        elif name in faults and faults is ACCOUNT_FAULTS and target is not None and target not in map(str, accounts):
            known = ", ".join(map(str, accounts))
            yield "target", f"there is no account {target}; known are {known}"
    if probability is not None and not 0 <= probability <= 1:
        yield "probability", "must be from 0 to 1"
    if count is not None and count < 1:
        yield "count", "must be at least 1"
    for field_name, seconds in (("duration_s", duration_s), ("delay_s", delay_s)):
        if seconds is not None and not 0 <= seconds <= _LONGEST_S:
            yield field_name, f"must be from 0 to {_LONGEST_S}"
    if delay_s is not None and name in KNOWN_FAULTS and name not in _DELAYING:
        yield "delay_s", f"{name} delays nothing; those that do are {', '.join(sorted(_DELAYING))}"


ENDS_CONNECTIONS = frozenset({"cut_hub", "close_hub", "logout_hub"})


@define(kw_only=True)
class Fault:
    """One fault in force."""

    name: str
    target: str | None = None
    probability: float = 1
    left: int | None = None
    until: datetime | None = None
    delay_s: float | None = None

    def delay(self, default_s: float) -> timedelta:
        """Return its ``delay_s``, or the default of its kind."""
        return timedelta(seconds=default_s if self.delay_s is None else self.delay_s)


@define
class Faults:
    """The faults in force. Every draw comes from ``rng``, so the same occasions are struck each time."""

    rng: random.Random
    _running: list[Fault] = field(factory=list)
    _fresh: list[Fault] = field(factory=list)

    def start(
        self,
        name: str,
        now: datetime,
        *,
        target: str | None = None,
        probability: float = 1,
        count: int | None = None,
        duration_s: float | None = None,
        delay_s: float | None = None,
    ) -> Fault:
        """Put a fault in force and return it. Raises ``KeyError`` for a name that is not known."""
        if name not in KNOWN_FAULTS:
            raise KeyError(name)
        until = None if duration_s is None else now + timedelta(seconds=duration_s)
        fault = Fault(name=name, target=target, probability=probability, left=count, until=until, delay_s=delay_s)
        self._running.append(fault)
        if name in ENDS_CONNECTIONS:
            self._fresh.append(fault)
        return fault

    def take_fresh(self) -> list[Fault]:
        """Return the faults that must meet the open connections once, and forget that they must."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def met_connections(self, fault: Fault) -> None:
        """End a fault that was for the connections open when it began: it has no duration and no count."""
        if fault.until is None and fault.left is None:
            self._running = [other for other in self._running if other is not fault]

    def clear(self) -> None:
        """End all faults."""
        self._running.clear()
        self._fresh.clear()

    @property
    def any(self) -> bool:
        """Whether there is a fault at all; nearly always there is none, and nobody need ask what time it is."""
        return bool(self._running)

    def in_force(self, name: str, target: str | int, now: datetime) -> bool:
        """Tell whether such a fault may strike, without an occasion that counts."""
        return any(True for _ in self._meeting(name, target, now))

    def _meeting(self, name: str, target: str | int, now: datetime) -> Iterator[Fault]:
        for fault in self._running:
            if fault.name != name or (fault.target is not None and fault.target != str(target)):
                continue
            if (fault.until is None or now < fault.until) and fault.left != 0:
                yield fault

    def strikes(self, name: str, target: str | int, now: datetime) -> Fault | None:
        """Return the fault that strikes this occasion, having counted it; None if none does."""
        for fault in self._meeting(name, target, now):
            if fault.probability < 1 and self.rng.random() >= fault.probability:
                continue
            if fault.left is not None:
                fault.left -= 1
            return fault
        return None
