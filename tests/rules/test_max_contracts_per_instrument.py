"""Max contracts per instrument: each setting, then what happens at the edges. The page has the worked examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from flatguard.model.decisions import CloseContract, Decision, Flatten, LockOut, ReduceTo
from flatguard.model.ids import ContractId
from flatguard.rules.max_contracts_per_instrument import MaxContractsPerInstrument
from tests.fakes.desk import EP, ES, MNQ, MNQ_Z, NQ, RTY, Desk, chicago, order

NAME = "max_contracts_per_instrument"
LIMITS = {"MNQ": 3, "ES": 1, "NQ": 1}
RTY_Z = ContractId("CON.F.US.RTY.Z25")


def desk(limits: Mapping[str, int] | None = None, **settings: Any) -> Desk:
    return Desk({NAME: MaxContractsPerInstrument(LIMITS if limits is None else limits, **settings)})


def holding(steps: list[tuple[ContractId, int]], **settings: Any) -> Desk:
    account = desk(**settings)
    for contract_id, size in steps:
        account.hold(contract_id, size)
    return account


def now_called_for(account: Desk) -> list[Decision]:
    mark = account.state.breached.get(NAME)
    return list(mark.told) if mark is not None else []


def measured(account: Desk) -> tuple[str, str, str] | None:
    measure = account.book.rules[NAME].measure(account.state, account.now)
    return None if measure is None else measure.texts


@pytest.mark.parametrize(
    ("steps", "settings", "decisions"),
    [
        pytest.param([(MNQ, 4), (MNQ_Z, -4)], {}, [], id="a calendar spread nets to nothing"),
        pytest.param(
            [(MNQ, 4), (MNQ_Z, -4)],
            {"count_type": "gross"},
            [ReduceTo(MNQ_Z, 0), ReduceTo(MNQ, 3)],
            id="but not in gross",
        ),
        pytest.param(
            [(MNQ, 2), (MNQ_Z, 2)],
            {"enforcement": "close_all"},
            [CloseContract(MNQ), CloseContract(MNQ_Z)],
            id="close_all closes every expiry",
        ),
        pytest.param([(RTY, -1)], {}, [CloseContract(RTY)], id="an unknown product is closed short as well"),
        pytest.param([(RTY, 50)], {"unknown_symbol_action": "allow_unlimited"}, [], id="unless any size is allowed"),
        pytest.param([(RTY, 2)], {"unknown_symbol_action": "allow_with_limit:12"}, [], id="limits have two digits too"),
        pytest.param([(RTY, 4)], {"default_limit": 3}, [ReduceTo(RTY, 3)], id="default_limit says the same, readably"),
        pytest.param([(NQ, 1), (MNQ, 3)], {}, [], id="two sizes of one market are two products"),
        pytest.param([(NQ, 1)], {"limits": {"NQ": 0}}, [CloseContract(NQ)], id="a limit of 0 forbids a product"),
        pytest.param(
            [(NQ, 2), (MNQ, 4)], {}, [ReduceTo(MNQ, 3), ReduceTo(NQ, 1)], id="each product above its limit is reduced"
        ),
    ],
)
def test_a_product_above_its_limit_calls_for_what_the_settings_say(
    steps: list[tuple[ContractId, int]], settings: Mapping[str, Any], decisions: list[Decision]
) -> None:
    assert now_called_for(holding(steps, **settings)) == decisions


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        pytest.param([(MNQ, 4)], "4 MNQ held, limit 3", id="a limit"),
        pytest.param([(RTY, 1)], "1 RTY held, limit 0, RTY is not among the limits", id="an unknown symbol"),
        pytest.param([(MNQ, 4), (EP, 2)], "2 ES held, limit 1; 4 MNQ held, limit 3", id="two of them"),
    ],
)
def test_the_breach_says_what_is_held_and_why_that_is_too_much(
    steps: list[tuple[ContractId, int]], reason: str
) -> None:
    account = holding(steps)
    assert (account.last.found or account.last.standing)[0].reason == reason


def test_figures_are_by_product() -> None:
    assert holding([(MNQ, 4)]).told[0].figures == (("MNQ", "4 of 3"),)


def test_blocking_a_product_cancels_what_rests_in_its_other_expiries() -> None:
    """Else the next expiry's entry fills a second later, and the product that is forbidden is held again."""
    account = desk()
    account.order(order(1, RTY_Z))
    account.order(order(2, NQ))
    account.hold(RTY, 1)
    assert now_called_for(account) == [CloseContract(RTY), CloseContract(RTY_Z)]


@pytest.mark.parametrize("written", ["EP", "ep", "ES", "es"])
def test_a_limit_may_name_a_product_by_root_or_ticker_in_any_case(written: str) -> None:
    for contract_id in (EP, ES):
        assert now_called_for(holding([(contract_id, 2)], limits={written: 1})) == [ReduceTo(contract_id, 1)]


def test_a_similar_name_is_another_product() -> None:
    assert now_called_for(holding([(MNQ, 1)], limits={"NQ": 5, "MNQ1": 5})) == [CloseContract(MNQ)]


def test_a_product_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="EP names the product ES a second time"):
        MaxContractsPerInstrument({"ES": 1, "EP": 1})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"limits": {"ES": -1}}, "ES must be 0 or more contracts, not -1", id="a negative limit"),
        pytest.param({"unknown_symbol_action": "allow"}, 'must be "block", "allow_unlimited" or', id="no such action"),
        pytest.param({"unknown_symbol_action": "allow_with_limit:0"}, "with N from 1", id="a limit of none"),
        pytest.param({"unknown_symbol_action": "allow_with_limit:1.5"}, "with N from 1", id="half a contract"),
        pytest.param({"default_limit": 0}, "must be 1 or more, not 0", id="a default of none"),
        pytest.param(
            {"default_limit": 1, "unknown_symbol_action": "allow_unlimited"},
            "says the same as unknown_symbol_action; keep one of the two",
            id="two answers to one question",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaxContractsPerInstrument(**{"limits": LIMITS, **settings})


def test_with_lockout_on_breach_the_whole_account_is_closed_and_locked_until_the_reset() -> None:
    account = holding([(ES, 1), (MNQ, 4)], lockout_on_breach=True)
    assert now_called_for(account) == [LockOut(chicago("2025-01-15 17:00")), Flatten()]
    assert account.locked_until() == [chicago("2025-01-15 17:00")]
    assert account.told[0].reason == "4 MNQ held, limit 3, locked until 2025-01-15 17:00 CST"


def test_what_is_shown_is_the_product_nearest_to_its_limit() -> None:
    assert measured(holding([])) is None
    assert measured(holding([(RTY, 9)], unknown_symbol_action="allow_unlimited")) is None
    assert measured(holding([(MNQ, 1), (ES, 1)])) == ("1 ES", "1", "0")
    assert measured(holding([(MNQ, 5), (ES, 1)])) == ("5 MNQ", "3", "-2")


def test_a_lower_limit_is_judged_at_the_next_event() -> None:
    account = holding([(MNQ, 3)])
    stricter = account.restarted({NAME: MaxContractsPerInstrument({"MNQ": 2})})
    assert now_called_for(stricter) == [ReduceTo(MNQ, 2)]
