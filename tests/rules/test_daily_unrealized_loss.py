"""Daily unrealized loss: every worked example, then each setting, closes in parts, and what cannot be seen."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.model.decisions import CloseContract, Flatten, LockOut
from flatguard.model.events import PositionChanged
from flatguard.model.ids import ContractId
from flatguard.rules.daily_realized_loss import DailyRealizedLoss
from flatguard.rules.daily_unrealized_loss import NAME, DailyUnrealizedLoss
from tests.fakes.desk import ES, MNQ, Desk, chicago, order, position

RESET = chicago("2025-01-15 17:00")


def desk(at: str = "2025-01-15 10:00", **settings: Any) -> Desk:
    return Desk({NAME: DailyUnrealizedLoss(**settings)}, at)


def hold(account: Desk, contract_id: ContractId, size: int, entry: str, mark: str) -> None:
    """Priced as it is told, so that no price of an older position values it."""
    account.hold(contract_id, size, entry)
    account.quote(contract_id, last=mark)


def measured(account: Desk) -> tuple[str, str, str] | None:
    measure = account.book.rules[NAME].measure(account.state, account.now)
    return None if measure is None else measure.texts


def blind(account: Desk) -> str | None:
    return account.book.rules[NAME].blind(account.state, account.now)


# the examples


@pytest.mark.parametrize(
    ("contract_id", "size", "entry", "mark", "loss", "closes"),
    [
        pytest.param(MNQ, 2, "21000", "20950.00", "-200.00", False, id="004-1"),
        pytest.param(MNQ, 2, "21000", "20925.25", "-299.00", False, id="004-2"),
        pytest.param(MNQ, 2, "21000", "20925.00", "-300.00", True, id="004-3, inclusive"),
        pytest.param(MNQ, 2, "21000", "20700.00", "-1200.00", True, id="004-4"),
        pytest.param(MNQ, -2, "21000", "21075.00", "-300.00", True, id="004-5"),
        pytest.param(ES, 1, "5800", "5794.25", "-287.50", False, id="004-6, a tick before"),
        pytest.param(ES, 1, "5800", "5794.00", "-300.00", True, id="004-6"),
        pytest.param(ES, 1, "5800", "5792.00", "-400.00", True, id="004-7"),
    ],
)
def test_a_position_is_closed_when_its_loss_reaches_the_limit(
    contract_id: ContractId, size: int, entry: str, mark: str, loss: str, closes: bool
) -> None:
    account = desk()
    hold(account, contract_id, size, entry, mark)
    assert measured(account) == (loss, "-300.00", f"{Decimal(loss) + 300:.2f}")
    assert [breach.decisions for breach in account.told] == ([(CloseContract(contract_id),)] if closes else [])
    assert account.locked_until() == []


def test_004_8_only_the_position_that_loses_is_closed() -> None:
    account = desk()
    hold(account, ES, 1, "5800", "5802")
    hold(account, MNQ, 2, "21000", "20912.50")
    (breach,) = account.told
    assert breach.decisions == (CloseContract(MNQ),)
    assert breach.reason == "Open loss: MNQU5 -$350.00, limit -$300.00 a position"
    assert breach.figures == (("MNQU5", "-$350.00"), ("limit", "-$300.00"))
    assert not breach.on_record


@pytest.mark.parametrize(
    ("settings", "decisions"),
    [
        ({}, []),
        ({"scope": "total"}, [(Flatten(),)]),
        ({"scope": "total", "lockout": True}, [(LockOut(RESET), Flatten())]),
        ({"scope": "total", "lockout": True, "lockout_until": "permanent"}, [(LockOut(None), Flatten())]),
    ],
)
def test_004_9_in_total_losses_add_up(settings: dict[str, Any], decisions: list[Any]) -> None:
    account = desk(**settings)
    hold(account, MNQ, 2, "21000", "20962.50")
    hold(account, ES, 1, "5800", "5796")
    assert [breach.decisions for breach in account.told] == decisions
    if decisions:
        assert account.told[0].reason.startswith("Open loss: -$350.00, limit -$300.00 in total")
        assert account.told[0].figures == (("open", "-$350.00"), ("limit", "-$300.00"))
        assert measured(account) == ("-350.00", "-300.00", "-50.00")
    account.later(5).look()
    assert len([breach for breach in account.told if breach.rule == NAME]) == len(decisions)


@pytest.mark.parametrize("scope", ["per_position", "total"])
def test_004_10_without_a_price_nothing_is_guessed_and_after_30_seconds_the_rule_is_blind(scope: str) -> None:
    account = desk(scope=scope)
    account.hold(MNQ, 2, "21000")
    assert measured(account) is None
    assert blind(account.later(30)) is None
    assert (
        blind(account.later(0.001)) == "no price to believe for MNQU5 (none has come), so its open loss is not judged"
    )
    account.look()
    assert not account.told


def test_004_11_the_loss_that_is_realised_then_counts_for_the_day() -> None:
    account = Desk(
        {NAME: DailyUnrealizedLoss(), "daily_realized_loss": DailyRealizedLoss(Decimal(500), combined=False)}
    )
    account.trade("-250")
    hold(account, MNQ, 2, "21000", "20925")
    account.trade("-300", contract_id=MNQ)
    assert [breach.rule for breach in account.told] == [NAME, "daily_realized_loss"]


# until it is closed, and not longer


@pytest.mark.parametrize("scope", ["per_position", "total"])
def test_a_close_filled_in_part_and_a_price_that_recovers_do_not_stop_the_closing(scope: str) -> None:
    account = desk(scope=scope)
    hold(account, MNQ, 2, "21000", "20925")
    opened = account.now
    account.tell(PositionChanged(account.later(1).now, position(MNQ, 1, "21000", opened)))
    assert NAME in account.state.breached
    account.quote(MNQ, last="21000")
    assert NAME in account.state.breached
    account.later(60).look()  # the price has become too old
    assert NAME in account.state.breached
    account.hold(MNQ, 0)
    assert NAME not in account.state.breached
    assert len(account.told) == 1


@pytest.mark.parametrize("scope", ["per_position", "total"])
def test_who_enters_again_is_judged_anew(scope: str) -> None:
    account = desk(scope=scope)
    hold(account, MNQ, 2, "21000", "20925")
    account.hold(MNQ, 0)
    hold(account, MNQ, 2, "20925", "20925")
    assert account.state.breached == {}
    account.quote(MNQ, last="20850")
    assert len(account.told) == 2


def test_a_position_that_grows_while_it_is_closed_is_judged_by_its_price() -> None:
    account = desk()
    hold(account, MNQ, 2, "21000", "20925")
    account.quote(MNQ, last="20990")
    account.hold(MNQ, 3, "21000")
    assert account.state.breached == {}


def test_a_second_position_that_reaches_the_limit_is_closed_too() -> None:
    account = desk()
    hold(account, MNQ, 2, "21000", "20925")
    hold(account, ES, 1, "5800", "5794")
    assert account.last.standing[0].decisions == (CloseContract(ES), CloseContract(MNQ))


def test_the_position_that_is_nearest_to_the_limit_is_shown() -> None:
    account = desk()
    hold(account, ES, 1, "5800", "5802")
    hold(account, MNQ, 2, "21000", "20950")
    assert measured(account) == ("-200.00", "-300.00", "100.00")


def test_an_order_alone_is_no_open_loss() -> None:
    account = desk(scope="total")
    account.order(order(1, MNQ))
    assert not account.told


# settings


def test_in_total_a_position_without_a_price_is_left_out_and_said_so() -> None:
    account = desk(scope="total")
    account.hold(ES, 1, "5800")
    hold(account, MNQ, 2, "21000", "20925")
    assert account.told[0].reason == "Open loss: -$300.00, as far as there are prices, limit -$300.00 in total"


def test_in_total_a_profit_offsets_a_loss() -> None:
    account = desk(scope="total")
    hold(account, ES, 1, "5800", "5802")
    hold(account, MNQ, 2, "21000", "20900.25")
    assert not account.told
    account.quote(MNQ, last="20900")
    assert len(account.told) == 1


def test_a_lock_needs_the_scope_of_the_account() -> None:
    with pytest.raises(ValueError, match='needs scope = "total"'):
        DailyUnrealizedLoss(lockout=True)


@pytest.mark.parametrize("amount", ["0", "-300", "NaN", "Infinity"])
def test_a_limit_that_is_no_positive_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="a loss is written as a positive amount"):
        DailyUnrealizedLoss(Decimal(amount))


@given(size=st.integers(-3, 3).filter(bool), ticks=st.integers(-800, 800))
def test_it_breaches_exactly_where_the_ticks_make_the_limit(size: int, ticks: int) -> None:
    account = desk()
    hold(account, MNQ, size, "21000", str(Decimal(21000) + ticks * Decimal("0.25")))
    earned = size * ticks * Decimal("0.50")
    assert bool(account.told) == (earned <= -300)
    measure = measured(account)
    assert measure is not None
    assert Decimal(measure[0]) == earned
