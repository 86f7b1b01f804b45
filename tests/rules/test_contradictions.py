"""What the settings of a rule contradict: in themselves, with the other rules, with the terms of the account."""

from __future__ import annotations

from decimal import Decimal

import pytest

from flatguard.model.account import Terms
from flatguard.rules._book import RuleBook
from flatguard.rules._rule import Contradiction, Rule
from flatguard.rules.blindness import Blindness
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.daily_realized_profit import DailyRealizedProfit
from flatguard.rules.daily_unrealized_loss import DailyUnrealizedLoss
from flatguard.rules.max_contracts import MaxContracts
from flatguard.rules.max_contracts_per_instrument import MaxContractsPerInstrument
from tests.fakes.other_rules import Touchy

FIVE = MaxContracts(limit=5, weights={"MNQ": Decimal("0.1")})
DAY_LOSS = DailyRealizedLoss(Decimal(500))


def seen(rule: Rule, *, terms: Terms | None = None, **others: Rule) -> list[Contradiction]:
    return list(rule.contradictions(others, Terms() if terms is None else terms))


@pytest.mark.parametrize(
    "rule", [MaxContracts(), DAY_LOSS, DailyRealizedProfit(), DailyUnrealizedLoss(), Blindness(), FIVE], ids=repr
)
def test_what_stands_at_its_defaults_contradicts_nothing(rule: Rule) -> None:
    assert seen(rule) == []


def test_a_rule_names_the_products_of_its_settings_by_their_tickers() -> None:
    assert FIVE.products() == {"MNQ"}
    assert MaxContractsPerInstrument(limits={"EP": 1, "mnq": 2}).products() == {"ES", "MNQ"}
    assert Blindness().products() == frozenset()


def test_a_rule_that_cannot_say_which_products_it_names_does_not_keep_the_others_from_it() -> None:
    book = RuleBook({"max_contracts": FIVE, "touchy": Touchy("faulty", {"NQ": 1})})
    assert book.products() == {"max_contracts": {"MNQ"}, "touchy": frozenset()}


# max_contracts


@pytest.mark.parametrize(("weight", "told"), [("5", False), ("5.1", True)])
def test_a_product_that_weighs_more_than_the_limit_is_told(weight: str, told: bool) -> None:
    rule = MaxContracts(limit=5, weights={"ES": Decimal(weight)})
    expected = Contradiction(
        "weights", f"lets one contract count {weight}, above the limit of 5, so none can be held", entry="ES"
    )
    assert seen(rule) == [expected] * told


def test_an_enforcement_that_the_lockout_overrides_is_told() -> None:
    (found,) = seen(MaxContracts(enforcement="close_offender", lockout_on_breach=True))
    assert found.key == "enforcement"
    assert seen(MaxContracts(lockout_on_breach=True)) == []


# max_contracts_per_instrument


def test_a_products_limit_above_that_of_the_account_is_told_as_the_account_counts_it() -> None:
    rule = MaxContractsPerInstrument(limits={"ES": 5, "NQ": 6, "MNQ": 50, "MES": 51})
    assert seen(rule, max_contracts=FIVE) == [
        Contradiction("limits", "allows 6, which count 6, but max_contracts allows 5", entry="NQ"),
        Contradiction("limits", "allows 51, which count 51, but max_contracts allows 5", entry="MES"),
    ]
    assert seen(rule) == []


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        (MaxContractsPerInstrument({"ES": 1}, default_limit=6), "default_limit"),
        (MaxContractsPerInstrument({"ES": 1}, unknown_symbol_action="allow_with_limit:6"), "unknown_symbol_action"),
        (MaxContractsPerInstrument({"ES": 1}, default_limit=5), None),
        (MaxContractsPerInstrument({"ES": 1}, unknown_symbol_action="allow_unlimited"), None),
        (MaxContractsPerInstrument({"ES": 1}), None),
    ],
)
def test_the_limit_of_all_other_products_is_held_against_the_accounts_too(
    rule: MaxContractsPerInstrument, key: str | None
) -> None:
    text = "allows 6 of each, but max_contracts allows 5 in all"
    assert seen(rule, max_contracts=FIVE) == ([] if key is None else [Contradiction(key, text)])


def test_another_rule_that_bears_the_name_is_not_taken_for_ours() -> None:
    assert seen(MaxContractsPerInstrument({"ES": 99}), max_contracts=Blindness()) == []
    assert seen(DailyUnrealizedLoss(Decimal(9999)), daily_realized_loss=Blindness()) == []


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (MaxContractsPerInstrument({}), True),
        (MaxContractsPerInstrument({"ES": 0, "NQ": 0}), True),
        (MaxContractsPerInstrument({"ES": 0, "NQ": 1}), False),
        (MaxContractsPerInstrument({"ES": 0}, default_limit=1), False),
    ],
)
def test_limits_that_allow_nothing_are_told(rule: MaxContractsPerInstrument, told: bool) -> None:
    text = "allows no contract of any product; write one such as MNQ = 1"
    assert seen(rule) == [Contradiction("limits", text)] * told


# amounts of the day


@pytest.mark.parametrize(("amount", "told"), [("0.01", True), ("2.50", True), ("2.51", False)])
def test_an_amount_that_one_contracts_commissions_make_up_is_told(amount: str, told: bool) -> None:
    terms = Terms(commissions={"ES": Decimal("1.25"), "MNQ": Decimal("0.25")})
    for rule, key in (
        (DailyRealizedLoss(Decimal(amount)), "loss_limit"),
        (DailyUnrealizedLoss(Decimal(amount)), "loss_limit"),
        (DailyRealizedProfit(Decimal(amount)), "target"),
    ):
        text = f"is ${amount}, no more than what buying and selling one contract may cost in commissions"
        assert [(found.key, found.text) for found in seen(rule, terms=terms)] == (
            [(key, f"{text}; write the amount in US dollars")] * told
        )


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (DailyRealizedLoss(Decimal(500), enforcement="alert_only", lockout_until="permanent"), True),
        (DailyRealizedProfit(enforcement="close_all_positions", lockout_until="permanent"), True),
        (DailyUnrealizedLoss(scope="total", lockout_until="permanent"), True),
        (DailyUnrealizedLoss(scope="total", lockout=True, lockout_until="permanent"), False),
        (DailyRealizedLoss(Decimal(500), lockout_until="permanent"), False),
        (DailyRealizedLoss(Decimal(500), enforcement="alert_only"), False),
    ],
)
def test_the_end_of_a_lock_that_never_comes_is_told(rule: Rule, told: bool) -> None:
    assert [found.key for found in seen(rule)] == ["lockout_until"] * told


@pytest.mark.parametrize(
    ("open_loss", "day", "words"),
    [
        (499, DAY_LOSS, None),
        (500, DAY_LOSS, "which is reached first unless the day is in profit"),
        (800, DailyRealizedLoss(Decimal(500), combined=False), "so one loss may be the day's and more"),
        (800, DailyRealizedLoss(Decimal(500), enforcement="alert_only"), None),
    ],
)
def test_an_open_loss_limit_that_is_not_below_the_days_is_told(
    open_loss: int, day: DailyRealizedLoss, words: str | None
) -> None:
    text = f"is ${open_loss}.00, not below the $500.00 of daily_realized_loss, {words}"
    expected = [] if words is None else [Contradiction("loss_limit", text)]
    assert seen(DailyUnrealizedLoss(Decimal(open_loss)), daily_realized_loss=day) == expected
