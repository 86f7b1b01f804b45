"""Max unrealized profit: every worked example, then each setting, closes in parts, and restarts."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.daemon.recovery import awakened
from flatguard.journal.codec import decode, encode
from flatguard.model.account import AccountState
from flatguard.model.decisions import CloseContract, Flatten, LockOut
from flatguard.model.events import PositionChanged
from flatguard.model.ids import ContractId
from flatguard.rules.max_unrealized_profit import NAME, MaxUnrealizedProfit
from tests.fakes.desk import ES, MNQ, Desk, chicago, exposure, position, record

RESET = chicago("2025-01-15 17:00")
OPENED = chicago("2025-01-15 09:59")


def desk(**settings: Any) -> Desk:
    return Desk({NAME: MaxUnrealizedProfit(**settings)})


def hold(account: Desk, contract_id: ContractId, size: int, entry: str, opened: datetime = OPENED) -> None:
    account.later(1).tell(PositionChanged(account.now, position(contract_id, size, entry, opened)))


def measured(account: Desk) -> tuple[str, str, str] | None:
    measure = account.book.rules[NAME].measure(account.state, account.now)
    return None if measure is None else measure.texts


def blind(account: Desk) -> str | None:
    return account.book.rules[NAME].blind(account.state, account.now)


# the examples


@pytest.mark.parametrize(
    ("contract_id", "size", "entry", "mark", "profit", "closes"),
    [
        pytest.param(MNQ, 2, "21000", "21100.00", "400.00", False, id="005-1"),
        pytest.param(MNQ, 2, "21000", "21249.75", "999.00", False, id="005-2"),
        pytest.param(MNQ, 2, "21000", "21250.00", "1000.00", True, id="005-3, inclusive"),
        pytest.param(ES, 1, "5800", "5819.75", "987.50", False, id="005-4, a tick before"),
        pytest.param(ES, 1, "5800", "5820.00", "1000.00", True, id="005-4"),
        pytest.param(ES, -1, "5800", "5780.00", "1000.00", True, id="005-5"),
    ],
)
def test_a_position_is_closed_when_its_profit_reaches_the_target(
    contract_id: ContractId, size: int, entry: str, mark: str, profit: str, closes: bool
) -> None:
    account = desk()
    hold(account, contract_id, size, entry)
    account.quote(contract_id, last=mark)
    assert measured(account) == (profit, "1000.00", f"{1000 - Decimal(profit):.2f}")
    assert [breach.decisions for breach in account.told] == ([(CloseContract(contract_id),)] if closes else [])
    assert account.locked_until() == []


def test_005_6_only_the_position_that_has_reached_it_is_closed() -> None:
    account = desk()
    hold(account, ES, 1, "5800")
    hold(account, MNQ, 2, "21000")
    account.quote(ES, last="5810")
    account.quote(MNQ, last="21275")
    (breach,) = account.told
    assert breach.decisions == (CloseContract(MNQ),)
    assert breach.reason == "Open profit: MNQU5 $1,100.00; target $1,000.00"
    assert breach.figures == (
        ("MNQU5", "$1,100.00"),
        ("MNQU5 at its best", "$1,100.00"),
        ("limit", "target $1,000.00"),
    )
    assert not breach.on_record


@pytest.mark.parametrize(
    ("settings", "decisions"),
    [
        ({}, []),
        ({"scope": "total"}, [(Flatten(),)]),
        ({"scope": "total", "action": "close_all_and_lockout"}, [(LockOut(RESET), Flatten())]),
    ],
)
def test_005_7_in_total_profits_add_up(settings: dict[str, Any], decisions: list[Any]) -> None:
    account = desk(**settings)
    hold(account, MNQ, 2, "21000")
    hold(account, ES, 1, "5800")
    account.quote(MNQ, last="21150")
    account.quote(ES, last="5809")
    assert [breach.decisions for breach in account.told if breach.rule == NAME] == decisions
    if decisions:
        assert account.told[0].reason.startswith(
            "Open profit: $1,050.00 in total, ESU5 $450.00, MNQU5 $600.00; target $1,000.00"
        )
        assert measured(account) == ("1050.00", "1000.00", "-50.00")
    account.later(5).look()
    assert len([breach for breach in account.told if breach.rule == NAME]) == len(decisions)


@pytest.mark.parametrize("scope", ["per_position", "total"])
@pytest.mark.parametrize(
    ("points", "closes_at"),
    [
        pytest.param([0, "-2.5"], None, id="005-8, never armed"),
        pytest.param([30, 10, 0], 2, id="005-9"),
        pytest.param([30, "-8.75"], 1, id="005-10, a gap"),
        pytest.param([25, "0.25", 0], 2, id="armed exactly"),
        pytest.param(["24.75", 0], None, id="a tick short of armed"),
    ],
)
def test_breakeven_closes_a_winner_that_is_back_at_its_entry(
    scope: str, points: list[Any], closes_at: int | None
) -> None:
    account = desk(mode="breakeven", scope=scope)
    hold(account, MNQ, 2, "21000")
    found = [bool(account.quote(MNQ, last=str(21000 + Decimal(step))).found) for step in points]
    assert found == [number == closes_at for number in range(len(points))]
    if closes_at is not None:
        assert account.told[0].decisions == ((CloseContract(MNQ),) if scope == "per_position" else (Flatten(),))
        assert account.told[0].figures[-1] == ("limit", "breakeven, armed at $100.00")
    assert measured(account) is None


# what a position has shown


def test_who_enters_again_arms_anew() -> None:
    account = desk(mode="breakeven")
    hold(account, MNQ, 2, "21000")
    account.quote(MNQ, last="21030")
    account.quote(MNQ, last="21000")
    hold(account, MNQ, 0, "21000")
    hold(account, MNQ, 2, "21000", account.now)
    account.quote(MNQ, last="20990")
    assert len(account.told) == 1
    assert account.state.breached == {}


def test_what_is_added_is_judged_from_the_new_average_and_stays_armed() -> None:
    account = desk(mode="breakeven")
    hold(account, MNQ, 2, "21000")
    account.quote(MNQ, last="21030")
    hold(account, MNQ, 4, "21015")
    account.quote(MNQ, last="21015.25")
    assert not account.told
    account.quote(MNQ, last="21015")
    assert len(account.told) == 1


def test_in_total_a_winner_that_was_closed_does_not_arm_what_is_left() -> None:
    account = desk(mode="breakeven", scope="total")
    hold(account, ES, 1, "5800")
    hold(account, MNQ, 1, "21000")
    account.quote(ES, last="5804")
    account.quote(MNQ, last="21005")
    hold(account, ES, 0, "5800")
    account.quote(MNQ, last="20990")
    assert not account.told


def test_a_restart_keeps_a_position_armed() -> None:
    account = desk(mode="breakeven")
    hold(account, MNQ, 2, "21000")
    account.quote(MNQ, last="21030")
    held = tuple(account.state.positions.values())
    account.state = awakened(decode(encode(account.state), AccountState))
    account.later(60).tell(record(account.now))
    account.tell(exposure(account.now, held))
    account.quote(MNQ, last="21000")
    assert [breach.decisions for breach in account.told] == [(CloseContract(MNQ),)]


# until it is closed, and not longer


@pytest.mark.parametrize("scope", ["per_position", "total"])
@pytest.mark.parametrize("mode", ["profit_target", "breakeven"])
def test_a_close_filled_in_part_and_a_price_that_turns_do_not_stop_the_closing(scope: str, mode: str) -> None:
    account = desk(mode=mode, scope=scope, profit_target=Decimal(120))
    hold(account, MNQ, 2, "21000")
    account.quote(MNQ, last="21030")
    if mode == "breakeven":
        account.quote(MNQ, last="21000")
    hold(account, MNQ, 1, "21000")
    account.quote(MNQ, last="21010")
    assert NAME in account.state.breached
    account.later(60).look()  # the price has become too old
    assert NAME in account.state.breached
    assert account.last.standing[0].reason.startswith("Open profit: ")
    assert "no price now" in account.last.standing[0].reason
    hold(account, MNQ, 0, "21000")
    assert NAME not in account.state.breached
    assert len(account.told) == 1


def test_one_position_locks_the_account_where_the_action_says_so() -> None:
    account = desk(action="close_all_and_lockout", lockout_until="permanent")
    hold(account, ES, 1, "5800")
    hold(account, MNQ, 2, "21000")
    account.quote(MNQ, last="21250")
    assert account.told[0].decisions == (LockOut(None), Flatten())
    account.later(5).look()
    assert [breach.rule for breach in account.told] == [NAME]


# what cannot be seen


@pytest.mark.parametrize("scope", ["per_position", "total"])
def test_without_a_price_nothing_is_guessed_and_after_30_seconds_the_rule_is_blind(scope: str) -> None:
    account = desk(scope=scope)
    hold(account, MNQ, 2, "21000", account.now)
    assert measured(account) is None
    assert blind(account.later(29)) is None
    assert (
        blind(account.later(1.001)) == "no price to believe for MNQU5 (none has come), so its open profit is not judged"
    )
    account.look()
    assert not account.told


def test_in_total_nothing_is_judged_until_all_have_a_price() -> None:
    account = desk(scope="total")
    hold(account, ES, 1, "5800")
    hold(account, MNQ, 2, "21000")
    account.quote(MNQ, last="21300")
    assert not account.told
    account.quote(ES, last="5796")
    assert account.told


@pytest.mark.parametrize("key", ["profit_target", "breakeven_arm_profit"])
@pytest.mark.parametrize("amount", ["0", "-300", "NaN", "Infinity"])
def test_a_profit_that_is_no_positive_amount_is_refused(key: str, amount: str) -> None:
    with pytest.raises(ValueError, match="must be an amount above zero"):
        MaxUnrealizedProfit(**{key: Decimal(amount)})


@given(size=st.integers(-3, 3).filter(bool), ticks=st.lists(st.integers(-300, 300), min_size=1, max_size=8))
def test_breakeven_breaches_exactly_where_an_armed_position_is_first_at_zero_or_below(
    size: int, ticks: list[int]
) -> None:
    account = desk(mode="breakeven")
    hold(account, MNQ, size, "21000")
    best, due = Decimal(0), False
    for step in ticks:
        account.quote(MNQ, last=str(Decimal(21000) + step * Decimal("0.25")))
        profit = size * step * Decimal("0.50")
        best = max(best, profit)
        due = due or (best >= 100 and profit <= 0)
        assert bool(account.told) == due
