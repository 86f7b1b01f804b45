"""What the settings of a rule contradict: in themselves, with the other rules, with the terms of the account."""

from __future__ import annotations

from datetime import time
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from flatguard.model.account import Terms
from flatguard.rules._book import RuleBook
from flatguard.rules._rule import Contradiction, Rule
from flatguard.rules.blindness import Blindness
from flatguard.rules.cooldown_after_loss import CooldownAfterLoss
from flatguard.rules.daily_drawdown import DailyDrawdown
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.daily_realized_profit import DailyRealizedProfit
from flatguard.rules.daily_unrealized_loss import DailyUnrealizedLoss
from flatguard.rules.flat_by import FlatBy
from flatguard.rules.max_contracts import MaxContracts
from flatguard.rules.max_contracts_per_instrument import MaxContractsPerInstrument
from flatguard.rules.max_loss_limit import MaxLossLimit
from flatguard.rules.max_unrealized_profit import MaxUnrealizedProfit
from flatguard.rules.session_block_outside import Session, SessionBlockOutside
from flatguard.rules.symbol_blocks import SymbolBlocks
from tests.fakes.other_rules import Touchy

FIVE = MaxContracts(limit=5, weights={"MNQ": Decimal("0.1")})
DAY_LOSS = DailyRealizedLoss(Decimal(500))
CHICAGO = ZoneInfo("America/Chicago")
ES_HOURS = Session(time(17), time(16), CHICAGO)


def seen(rule: Rule, *, terms: Terms | None = None, **others: Rule) -> list[Contradiction]:
    return list(rule.contradictions(others, Terms() if terms is None else terms))


@pytest.mark.parametrize(
    "rule",
    [
        MaxContracts(),
        DAY_LOSS,
        DailyRealizedProfit(),
        DailyUnrealizedLoss(),
        Blindness(),
        FIVE,
        SymbolBlocks(("RTY",)),
        SessionBlockOutside(),
        FlatBy(),
        MaxUnrealizedProfit(),
        DailyDrawdown(Decimal(400)),
        MaxLossLimit(Decimal(50000), Decimal(2000)),
        CooldownAfterLoss(),
    ],
    ids=repr,
)
def test_what_stands_at_its_defaults_contradicts_nothing(rule: Rule) -> None:
    assert seen(rule) == []


def test_a_rule_names_the_products_of_its_settings_by_their_tickers() -> None:
    assert FIVE.products() == {"MNQ"}
    assert MaxContractsPerInstrument(limits={"EP": 1, "mnq": 2}).products() == {"ES", "MNQ"}
    assert SymbolBlocks(("ep", "RTY", "M*", "UNUSUAL.FORMAT")).products() == {"ES", "RTY"}
    assert SessionBlockOutside(sessions={"EP": ES_HOURS}).products() == {"ES"}
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
        (MaxUnrealizedProfit(profit_target=Decimal(amount)), "profit_target"),
        (DailyDrawdown(Decimal(amount)), "drawdown_limit"),
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
        (MaxUnrealizedProfit(lockout_until="permanent"), True),
        (MaxUnrealizedProfit(action="close_all_and_lockout", lockout_until="permanent"), False),
        (DailyDrawdown(Decimal(400), enforcement="alert_only", lockout_until="permanent"), True),
        (MaxLossLimit(Decimal(0), Decimal(2000), enforcement="alert_only", lockout_until="permanent"), True),
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


@pytest.mark.parametrize(
    ("rule", "day", "told"),
    [
        (MaxUnrealizedProfit(profit_target=Decimal(1499)), DailyRealizedProfit(Decimal(1500), combined=True), False),
        (MaxUnrealizedProfit(profit_target=Decimal(1500)), DailyRealizedProfit(Decimal(1500), combined=True), True),
        (MaxUnrealizedProfit(profit_target=Decimal(1500)), DailyRealizedProfit(Decimal(1500)), False),
        (
            MaxUnrealizedProfit(profit_target=Decimal(1500)),
            DailyRealizedProfit(Decimal(1500), combined=True, enforcement="alert_only"),
            False,
        ),
        (
            MaxUnrealizedProfit("breakeven", profit_target=Decimal("0.01")),
            DailyRealizedProfit(Decimal("0.01"), combined=True),
            False,
        ),
        (MaxUnrealizedProfit(profit_target=Decimal(1500)), Blindness(), False),
    ],
)
def test_a_target_that_is_not_below_the_days_is_told(rule: Rule, day: Rule, told: bool) -> None:
    text = "is $1,500.00, not below the $1,500.00 of daily_realized_profit, which is reached first unless the day is"
    assert seen(rule, daily_realized_profit=day) == [Contradiction("profit_target", f"{text} at a loss")] * told


@pytest.mark.parametrize(
    ("day", "told"),
    [
        (DailyRealizedLoss(Decimal(300)), True),
        (DailyRealizedLoss(Decimal("300.01")), False),
        (DailyRealizedLoss(Decimal(300), enforcement="alert_only"), False),
        (Blindness(), False),
    ],
)
def test_a_pause_after_a_loss_at_which_the_day_is_over_is_told(day: Rule, told: bool) -> None:
    text = "has a loss of $300.00, not below the $300.00 of daily_realized_loss, which ends the day first unless it is"
    assert seen(CooldownAfterLoss(), daily_realized_loss=day) == [Contradiction("tiers", f"{text} in profit")] * told


# what the account may lose


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (MaxLossLimit(Decimal(0), Decimal(500)), True),
        (MaxLossLimit(Decimal(0), Decimal(501)), False),
        (MaxLossLimit(Decimal(0), Decimal(600), cushion=Decimal(100)), True),
        (MaxLossLimit(Decimal(0), Decimal(500), best_close=Decimal(499)), True),
        (MaxLossLimit(Decimal(0), Decimal(500), best_close=Decimal(500)), False),
        (MaxLossLimit(Decimal(0), Decimal(500), best_close=Decimal(500), stops_at=Decimal(100)), True),
    ],
)
def test_a_day_that_may_lose_all_that_the_account_may_is_told_while_the_floor_trails(rule: Rule, told: bool) -> None:
    text = (
        "leaves $500.00 above the cushion, no more than the $500.00 that daily_realized_loss lets one day lose;"
        " write a smaller loss_limit there"
    )
    assert seen(rule, daily_realized_loss=DAY_LOSS) == [Contradiction("distance", text)] * told
    assert seen(rule, daily_realized_loss=Blindness()) == seen(rule) == []


# blocked products


@pytest.mark.parametrize("blocked", ["ES", "EP", "E*"])
def test_a_blocked_product_of_which_some_are_allowed_is_told(blocked: str) -> None:
    rule = SymbolBlocks((blocked,))
    limits = MaxContractsPerInstrument({"EP": 2, "NQ": 1})
    text = "blocks ES, of which max_contracts_per_instrument allows 2; keep one"
    assert seen(rule, max_contracts_per_instrument=limits) == [Contradiction("blocked_symbols", text)]
    none = MaxContractsPerInstrument({"ES": 0, "NQ": 1})
    assert seen(rule, max_contracts_per_instrument=none) == []
    assert seen(rule, max_contracts_per_instrument=Blindness()) == []


def test_a_blocked_product_that_has_a_session_is_told() -> None:
    rule = SessionBlockOutside(sessions={"EP": ES_HOURS, "NQ": ES_HOURS})
    text = "has a session, but symbol_blocks blocks it; keep one"
    assert seen(rule, symbol_blocks=SymbolBlocks(("ES",))) == [Contradiction("sessions", text, entry="ES")]
    assert seen(rule, symbol_blocks=SymbolBlocks(("RTY",))) == []
    assert seen(rule, symbol_blocks=Blindness()) == []


# times of the day


@pytest.mark.parametrize(
    ("at", "hours", "terms", "told"),
    [
        pytest.param(time(8, 30), SessionBlockOutside(), Terms(), True, id="at the start"),
        pytest.param(time(8, 31), SessionBlockOutside(), Terms(), False, id="after it"),
        pytest.param(time(8), SessionBlockOutside(start=time(18), end=time(22)), Terms(), False, id="the next day"),
        pytest.param(time(8), SessionBlockOutside(start=time(18), end=time(9)), Terms(), False, id="over night"),
        pytest.param(time(8), SessionBlockOutside(sessions={"ES": ES_HOURS}), Terms(), False, id="not the only one"),
        pytest.param(
            time(8),
            SessionBlockOutside(sessions={"ES": ES_HOURS}, global_session=False),
            Terms(),
            False,
            id="of a product only",
        ),
        pytest.param(time(8), SessionBlockOutside(zone=ZoneInfo("Asia/Tokyo")), Terms(), False, id="another zone"),
        pytest.param(time(8), SessionBlockOutside(), Terms(zone=ZoneInfo("UTC")), False, id="a day of another zone"),
        pytest.param(time(8), Blindness(), Terms(), False, id="another rule"),
    ],
)
def test_a_time_that_leaves_nothing_of_the_session_is_told(at: time, hours: Rule, terms: Terms, told: bool) -> None:
    text = (
        "comes before the session of session_block_outside, from 08:30 to 15:00, and holds until the trading day turns,"
        " so nothing can be held in it"
    )
    assert seen(FlatBy(at), terms=terms, session_block_outside=hours) == [Contradiction("time", text)] * told
