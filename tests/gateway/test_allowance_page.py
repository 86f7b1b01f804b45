"""``docs/allowance.md`` gives the figures that are in force."""

from __future__ import annotations

import re
from pathlib import Path

from attrs import evolve

from flatguard.daemon.picture import (
    BLIND_EVERY_S,
    EXPOSURE_EVERY_S,
    HUB_LAG_S,
    RECORD_EVERY_S,
    REQUESTS_A_MINUTE,
    seconds_a_round,
)
from flatguard.gateway import allowance as figures
from flatguard.gateway.allowance import AT_ONCE, Lane, reserve_for
from flatguard.model.account import AccountState
from flatguard.model.ids import AccountId
from tests.gateway.test_allowance import MNQ, SHARES

PAGE = (Path(__file__).parents[2] / "docs" / "allowance.md").read_text("utf-8")
TEXT = " ".join(PAGE.split())


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its head."""
    _, _, rest = PAGE.partition(f"\n## {heading}\n")
    lines = [line for line in re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0].splitlines() if "|" in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_lanes_are_those_in_force_in_their_order() -> None:
    assert [(row[0], row[2]) for row in rows("Lanes")] == [
        (lane.name.lower(), "waits for nothing" if lane in AT_ONCE else str(SHARES[lane])) for lane in Lane
    ]


def test_the_pace_for_a_number_of_accounts_is_that_of_the_readings() -> None:
    for accounts, up, down in rows("How many accounts"):
        number = int(accounts)
        assert up == f"{max(EXPOSURE_EVERY_S, seconds_a_round(number)):.3g} s"
        assert down == f"{max(BLIND_EVERY_S, seconds_a_round(number, blind=True)):.3g} s"
    assert f"all readings together take {REQUESTS_A_MINUTE:.0f} requests a minute" in TEXT
    assert RECORD_EVERY_S == 6 * EXPOSURE_EVERY_S
    assert seconds_a_round(6) + HUB_LAG_S < 10 < seconds_a_round(7) + HUB_LAG_S, "six accounts"


def test_the_example_of_what_enforcement_may_need_is_right() -> None:
    flat = AccountState(AccountId(1))
    # one position and four orders are five things that are open
    assert reserve_for([evolve(flat, positions=dict.fromkeys([MNQ, *"abcd"]))]) == 13  # type: ignore[arg-type]
    left = figures.LEFT_BY_CONFIRMATION
    assert left + 2 * 13 <= figures.RESERVE < left + 3 * 13
    assert left + 6 * 13 <= figures.MOST_RESERVED < left + 7 * 13


def test_the_other_figures_are_those_in_force() -> None:
    for said in (
        f"{figures.GENERAL_LIMIT} requests in {figures.GENERAL_WINDOW_S - figures.LAG_S:.0f} s",
        f"{figures.HISTORY_LIMIT} in {figures.HISTORY_WINDOW_S - figures.LAG_S:.0f} s for bars",
        f"{figures.LAG_S:.0f} s longer than the gateway",
        f"of which {figures.HISTORY_SHARE} are used",
        f"leave to enforcement is {figures.RESERVE} requests",
        f"It is {figures.MOST_RESERVED} at most, since",
        f"{figures.LEFT_BY_CONFIRMATION} that the proofs leave",
        f"{figures.LONGEST_QUIET_S:.0f} s at most, else for {figures.QUIET_S:.0f} s",
        f"limit for {figures.SHRUNK_S:.0f} s, {figures.ASSUMED_LEAST} at least",
        f"grows again by {figures.RECOVERY_A_S:.0f} each second",
        f"of the window they have {figures.LEAST_SHARE} in any case",
        f"as if {figures.ASSUMED_SENT_AT_START} requests had just been sent",
    ):
        assert said in TEXT, said


def test_a_first_minute_stays_below_the_limit_together_with_the_readings_of_the_run_before() -> None:
    own = SHARES[Lane.RECONCILIATION] - figures.ASSUMED_SENT_AT_START
    assert REQUESTS_A_MINUTE + own <= figures.GENERAL_LIMIT
