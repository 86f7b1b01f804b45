"""When to stop asking for a while: the circuit breaker of the routine calls. Pure; the time is an argument.

    closed ──5 failures in a row──► open ──60 s──► half-open ──3 probes answered──► closed
                                     ▲                 │
                                     └──a probe fails──┘  and each time twice as long, 5 minutes at most

It never stands before the token, a reading of the picture, or enforcement. Only what says that the gateway is unwell
counts as a failure: no connection, no answer, a server's own failure. An answer that says no is an answer.
"""

from __future__ import annotations

from typing import Literal, NewType

from attrs import define, frozen

FAILURES = 5
OPEN_S = 60.0
OPEN_MOST_S = 300.0
PROBES = 3

Ticket = NewType("Ticket", int)
"""Leave to make one call; it has to be given back by ``succeeded``, ``failed`` or ``told_nothing``."""

State = Literal["closed", "open", "half-open"]


@frozen
class BreakerStatistics:
    """How the breaker stands. ``open_until`` is in the caller's time; ``opened`` counts how often it opened."""

    state: State
    open_until: float | None
    failures: int
    opened: int


@define
class Breaker:
    """Counts failures in a row. Results of calls that began before it last changed tell nothing of the present."""

    failures: int = 0
    open_until: float | None = None
    open_s: float = OPEN_S
    probes_out: int = 0
    probes_answered: int = 0
    opened: int = 0
    _era: int = 0

    def state(self, now: float) -> State:
        """Return the state at ``now``."""
        if self.open_until is None:
            return "closed"
        return "open" if now < self.open_until else "half-open"

    def admit(self, now: float) -> Ticket | None:
        """Return a ticket for one call, or None where it must not be made now."""
        match self.state(now):
            case "open":
                return None
            case "half-open":
                if self.probes_out + self.probes_answered >= PROBES:
                    return None
                self.probes_out += 1
        return Ticket(self._era)

    def succeeded(self, ticket: Ticket) -> None:
        """The call was answered."""
        if ticket != self._era:
            return
        if self.open_until is None:
            self.failures = 0
            return
        self.probes_out -= 1
        self.probes_answered += 1
        if self.probes_answered == PROBES:
            self._turn(open_until=None)
            self.failures, self.open_s = 0, OPEN_S

    def failed(self, ticket: Ticket, now: float) -> None:
        """The call has shown that the gateway is unwell."""
        if ticket != self._era:
            return
        self.failures += 1
        if self.open_until is not None:
            self.open_s = min(2 * self.open_s, OPEN_MOST_S)
        elif self.failures < FAILURES:
            return
        self.opened += 1
        self._turn(open_until=now + self.open_s)

    def told_nothing(self, ticket: Ticket) -> None:
        """The call has shown neither: it was cancelled, came too early, or was turned away at the door."""
        if ticket == self._era and self.open_until is not None:
            self.probes_out -= 1

    def statistics(self, now: float) -> BreakerStatistics:
        """Return the figures that status shows."""
        state = self.state(now)
        return BreakerStatistics(state, self.open_until if state == "open" else None, self.failures, self.opened)

    def _turn(self, *, open_until: float | None) -> None:
        self._era += 1
        self.open_until = open_until
        self.probes_out = self.probes_answered = 0
