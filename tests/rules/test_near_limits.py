"""Who comes near a limit is warned: of each share of it once, and again once he was well below it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from flatguard.model.account import AccountState, Terms
from flatguard.model.decisions import LimitNear
from flatguard.rules._rule import Measure, Rule
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from tests.fakes.desk import ACCOUNT, MNQ, Desk

LOSS = "daily_realized_loss"


def desk(**terms: Any) -> Desk:
    rules: dict[str, Rule] = {LOSS: DailyRealizedLoss(Decimal(500), combined=False)}
    return Desk(rules, terms=Terms(**terms))


def warned(account: Desk, profit: str) -> list[int]:
    return [near.percent for near in account.trade(profit).near]


def test_each_share_is_warned_of_once() -> None:
    account = desk()
    assert warned(account, "-299.99") == []
    assert account.trade("-0.01").near == (
        LimitNear(ACCOUNT, LOSS, account.now, 60, "-300.00 of -500.00 (60 %), 200.00 left"),
    )
    assert warned(account, "-50") == []
    assert warned(account, "-50") == [80]
    assert account.look().near == ()


def test_one_jump_over_two_shares_is_one_warning_of_the_higher() -> None:
    assert warned(desk(), "-450") == [80]


def test_who_is_beyond_the_limit_at_once_hears_of_the_breach_alone() -> None:
    account = Desk({"max_contracts": MaxContracts(limit=3)})
    judgement = account.hold(MNQ, 5)
    assert [breach.rule for breach in judgement.found] == ["max_contracts"]
    assert judgement.near == ()
    assert account.hold(MNQ, 3).near == ()


def test_who_hovers_around_a_share_is_not_warned_over_and_over() -> None:
    account = desk()
    assert warned(account, "-400") == [80]
    assert warned(account, "40") == []
    assert warned(account, "-40") == []
    assert warned(account, "60") == []  # 68 %: well below 80, but not below 60
    assert warned(account, "-60") == [80]


def test_a_new_day_warns_anew() -> None:
    account = desk()
    assert warned(account, "-300") == [60]
    account.at("2025-01-15 17:00:01").read()
    assert account.state.warned == {}
    assert warned(account, "-300") == [60]


@pytest.mark.parametrize(("shares", "expected"), [((), []), ((50,), [50]), ((10, 90), [90])])
def test_the_shares_are_a_matter_of_the_settings(shares: tuple[int, ...], expected: list[int]) -> None:
    assert warned(desk(warn_at=shares), "-455") == expected


def test_every_rule_has_a_ladder_of_its_own() -> None:
    account = Desk({LOSS: DailyRealizedLoss(Decimal(500), combined=False), "max_contracts": MaxContracts(limit=5)})
    assert [near.rule for near in account.hold(MNQ, 4).near] == ["max_contracts"]
    assert [near.text for near in account.trade("-300").near] == ["-300.00 of -500.00 (60 %), 200.00 left"]


class CannotMeasure(MaxContracts):
    """A rule that judges and fails to say where the account stands."""

    def measure(self, state: AccountState, at: object) -> Measure:
        raise KeyError("where")


def test_a_rule_that_cannot_measure_has_failed_and_the_others_warn() -> None:
    account = Desk({"a": CannotMeasure(), LOSS: DailyRealizedLoss(Decimal(500), combined=False)})
    judgement = account.trade("-300")
    assert [failure.rule for failure in judgement.failed] == ["a"]
    assert [near.rule for near in judgement.near] == [LOSS]


@pytest.mark.parametrize(
    ("measure", "percent", "texts"),
    [
        (Measure(Decimal("-299.99"), Decimal(-500), "USD"), 59, ("-299.99", "-500.00", "200.01")),
        (Measure(Decimal(100), Decimal(-500), "USD"), 0, ("100.00", "-500.00", "600.00")),
        (Measure(Decimal(1100), Decimal(1000), "USD"), 110, ("1100.00", "1000.00", "-100.00")),
        (Measure(Decimal(2), Decimal(3), of="MNQ"), 66, ("2 MNQ", "3", "1")),
        (Measure(Decimal(1), Decimal(0), of="RTY"), 100, ("1 RTY", "0", "-1")),
        (Measure(Decimal(0), Decimal(0)), 0, ("0", "0", "0")),
        (Measure(Decimal(20), Decimal(60), "s"), 33, ("20 s", "60 s", "40 s")),
    ],
)
def test_a_measure_tells_its_share_and_its_numbers(measure: Measure, percent: int, texts: tuple[str, str, str]) -> None:
    assert measure.percent == percent
    assert measure.texts == texts
