"""What a seed stands for: who does what, and when. Drawn before anything runs, so that a failure can be made smaller.

A life goes in turns: a storm, in which the trader is on tilt and several things go wrong at once, then calm, in which
nothing is wrong any more and nobody trades. Whatever the storm has done has to be right by the end of the calm.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from attrs import evolve, field, frozen

from flatguard.simulator.faults import ACCOUNT_FAULTS, ENDS_CONNECTIONS, EVENT_FAULTS, HUB_FAULTS, REST_FAULTS

STORM_S, CALM_S = 90.0, 60.0
MOST_FAULTS = 4  # in one storm

STARTS = {
    "a morning": datetime(2026, 3, 18, 14, 30, tzinfo=UTC),
    "before the reset": datetime(2026, 3, 18, 21, 52, tzinfo=UTC),
    "the night the clocks go forward": datetime(2026, 3, 8, 21, 50, tzinfo=UTC),
    "the night the clocks go back": datetime(2026, 11, 1, 22, 50, tzinfo=UTC),
}

HABITS = (
    *("scalp", "scalp", "scalp", "double_down", "average", "reverse", "rest_orders", "pull_stops"),
    *("bracket", "spam", "close_by_hand", "reenter_at_once", "other_account", "lose"),
)
"""What a trader on tilt does; how often a word stands here is how often he does it."""

EXITS = ("/api/Position/closeContract", "/api/Position/partialCloseContract", "/api/Order/cancel")


@frozen
class Act:
    """Something that happens: so many seconds after the beginning, by whom, what, and how."""

    at: float
    who: str
    what: str
    how: Mapping[str, Any] = field(factory=dict)

    def __str__(self) -> str:
        how = " ".join(f"{key}={value}" for key, value in self.how.items())
        return f"{self.at:8.2f} {self.who}: {self.what} {how}".rstrip()


@frozen
class Script:
    """One life: when it begins, how many turns it has, which settings, and all that happens in it."""

    seed: int
    begins: str
    turns: int
    accounts: int
    settings: str
    acts: tuple[Act, ...]

    @property
    def start(self) -> datetime:
        """When it begins, on the broker's clock."""
        return STARTS[self.begins]

    @property
    def length_s(self) -> float:
        """How long it lasts."""
        return self.turns * (STORM_S + CALM_S)


def drawn(seed: int, turns: int = 3) -> Script:
    """Draw the life of a seed."""
    chance = Random(seed)
    acts: list[Act] = []
    accounts = chance.choice((1, 1, 2))
    for turn in range(turns):
        begins = turn * (STORM_S + CALM_S)
        acts += _trading(chance, begins, accounts)
        acts += _faults(chance, begins)
        acts += _accidents(chance, begins)
    return Script(
        seed=seed,
        begins=chance.choice(list(STARTS)),
        turns=turns,
        accounts=accounts,
        settings=chance.choice(("strict", "strict", "patient", "brakes")),
        acts=tuple(sorted(acts, key=lambda act: act.at)),
    )


def _trading(chance: Random, begins: float, accounts: int) -> list[Act]:
    acts = []
    at = begins + chance.uniform(2, 6)
    while at < begins + STORM_S:
        how = {
            "account": chance.randrange(accounts),
            "ticker": chance.choice(("MNQ", "MES", "M2K")),
            "side": chance.choice((1, -1)),
            "size": chance.choice((1, 1, 1, 2, 2, 3, 5)),
        }
        acts.append(Act(at, "trader", chance.choice(HABITS), how))
        at += chance.choice((0.01, 0.3, 2, 4, 7, 12)) * chance.uniform(0.5, 1.5)
    return acts


def _faults(chance: Random, begins: float) -> list[Act]:
    acts = []
    for name in chance.sample(
        [*EVENT_FAULTS, *HUB_FAULTS, *REST_FAULTS, *ACCOUNT_FAULTS], chance.randint(0, MOST_FAULTS)
    ):
        how: dict[str, Any] = {}
        if name in HUB_FAULTS:
            how["target"] = chance.choice(("user", "market"))
        if name in REST_FAULTS and chance.random() < 0.5:
            how["target"] = chance.choice(EXITS)
        if name not in ENDS_CONNECTIONS:
            how["duration_s"] = round(chance.uniform(3, 40), 1)
        if name in REST_FAULTS or name in EVENT_FAULTS:
            how["probability"] = chance.choice((0.1, 0.3, 0.7, 1.0))
        acts.append(Act(begins + chance.uniform(0, STORM_S - 5), "fault", name, how))
    return acts


def _accidents(chance: Random, begins: float) -> list[Act]:
    acts = []
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
        what = chance.choice(("kill", "kill", "kill", "stop", "disk_full", "slow_disk", "clock", "sleep", "firm"))
        how: dict[str, Any] = {"for_s": round(chance.choice((0.0, 0.2, 3.0, 20.0)) * chance.uniform(0.5, 1.5), 2)}
        if what == "clock":
            how = {"ahead_s": chance.choice((-1800, -20, 20, 90, 3600)), **how}
        acts.append(Act(begins + chance.uniform(0, STORM_S - 25), "world", what, how))
    return acts


def without(script: Script, left_out: frozenset[int]) -> Script:
    """Return the script without the acts of these numbers."""
    return evolve(script, acts=tuple(act for number, act in enumerate(script.acts) if number not in left_out))


def day_of(moment: datetime, zone: Any) -> datetime:
    """Return when the trading day of ``moment`` began: 17:00 in Chicago. Worked out anew, on purpose."""
    local = moment.astimezone(zone)
    start = local.replace(hour=17, minute=0, second=0, microsecond=0, fold=0)
    if local < start:
        start = (start - timedelta(days=1)).replace(hour=17)
    return start.astimezone(UTC)
