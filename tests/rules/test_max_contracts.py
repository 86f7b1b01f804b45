"""Max contracts: every worked example, then each setting, then what happens at the edges."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.enforcement.next_step import Held, PartialClose, next_steps
from flatguard.enforcement.plan import Wanted
from flatguard.model.decisions import CloseContract, Decision, Flatten, LockOut, ReduceTo
from flatguard.model.ids import ContractId
from flatguard.rules.max_contracts import MaxContracts
from tests.fakes.desk import EP, ES, MES, MNQ, MNQ_Z, RTY, Desk, chicago, exposure, position

NAME = "max_contracts"
COUNT_TYPES = ("net", "net_signed", "gross")


def desk(**settings: Any) -> Desk:
    return Desk({NAME: MaxContracts(**settings)})


def holding(steps: list[tuple[ContractId, int]], **settings: Any) -> Desk:
    account = desk(**settings)
    for contract_id, size in steps:
        account.hold(contract_id, size)
    return account


def now_called_for(account: Desk) -> tuple[Decision, ...]:
    mark = account.state.breached.get(NAME)
    return mark.told if mark is not None else ()


EXAMPLES = [
    # id, limit, what is held after one another, count by net, net_signed and gross
    pytest.param(5, [(MNQ, 3), (ES, 1)], (4, 4, 4), id="001-1"),
    pytest.param(5, [(MNQ, 3), (ES, 2)], (5, 5, 5), id="001-2"),
    pytest.param(5, [(MNQ, 3), (ES, 2), (ES, 3)], (6, 6, 6), id="001-3"),
    pytest.param(5, [(MNQ, 7), (ES, -2)], (9, 5, 9), id="001-4"),
    pytest.param(5, [(MNQ, 4), (MNQ_Z, -2)], (2, 2, 6), id="001-5"),
    pytest.param(5, [(ES, -6)], (6, 6, 6), id="001-6"),
    pytest.param(3, [(RTY, 1), (RTY, 0), (MNQ, 2), (ES, 1)], (3, 3, 3), id="001-7"),
    pytest.param(5, [(MNQ, 5), (MNQ, 6), (MNQ, 7)], (7, 7, 7), id="001-8"),
]


@pytest.mark.parametrize(("limit", "steps", "counts"), EXAMPLES)
def test_the_examples_count_as_they_say_and_breach_above_the_limit(
    limit: int, steps: list[tuple[ContractId, int]], counts: tuple[int, int, int]
) -> None:
    for count_type, expected in zip(COUNT_TYPES, counts, strict=True):
        account = holding(steps, limit=limit, count_type=count_type)
        measure = account.book.rules[NAME].measure(account.state, account.now)
        assert measure is not None
        assert measure.texts == (str(expected), str(limit), str(limit - expected))
        assert bool(now_called_for(account)) == (expected > limit)


@pytest.mark.parametrize(
    ("steps", "settings", "decisions"),
    [
        pytest.param([(MNQ, 3), (MNQ, -3)], {}, [], id="a flip is no breach"),
        pytest.param(
            [(MES, 2), (ES, 4), (MNQ, 3)],
            {"enforcement": "reduce_to_limit"},
            [ReduceTo(MNQ, 0), ReduceTo(ES, 3)],
            id="the newest goes first, then the next newest",
        ),
        pytest.param(
            [(ES, 4), (MNQ, 3), (ES, 3)],
            {"enforcement": "reduce_to_limit"},
            [ReduceTo(MNQ, 2)],
            id="newest is what grew last, not what moved last",
        ),
        pytest.param(
            [(MNQ, 4), (ES, 5), (MNQ_Z, -2)],
            {"enforcement": "reduce_to_limit"},
            [ReduceTo(ES, 3)],
            id="a hedge is not given up, since the count would rise",
        ),
        pytest.param(
            [(MNQ, 4), (ES, 5), (MNQ_Z, -2)],
            {"enforcement": "close_offender"},
            [CloseContract(ES)],
            id="a hedge is no offender",
        ),
        pytest.param(
            [(MNQ, 7), (ES, -1)],
            {"count_type": "net_signed", "enforcement": "close_offender"},
            [CloseContract(MNQ)],
            id="nor is what offsets all the rest",
        ),
        pytest.param(
            [(ES, 5), (MNQ_Z, -1), (MNQ, 2)],
            {"enforcement": "close_offender"},
            [CloseContract(ES)],
            id="nor a leg that would leave as much the other way",
        ),
        pytest.param(
            [(ES, 2), (EP, -2), (MNQ, 15), (MNQ_Z, -9)],
            {"enforcement": "close_offender"},
            [CloseContract(MNQ_Z), CloseContract(MNQ)],
            id="a spread of which no leg can go alone goes whole, and no other",
        ),
        pytest.param([(EP, 4), (ES, -4), (MNQ, 5)], {}, [], id="two ids of one product are one product"),
    ],
)
def test_a_breach_calls_for_what_the_settings_say(
    steps: list[tuple[ContractId, int]], settings: Mapping[str, Any], decisions: list[Decision]
) -> None:
    assert list(now_called_for(holding(steps, **settings))) == decisions


def test_a_burst_of_fills_is_one_breach_and_closes_exactly_the_excess() -> None:
    """001-8: 5, 6, 7 within 200 ms. What is closed is counted from what is held, so being told twice closes nothing."""
    account = desk(enforcement="reduce_to_limit")
    wanted = Wanted()
    for size in (5, 6, 7):
        judgement = account.later(-0.9).hold(MNQ, size)
        for breach in (*judgement.found, *judgement.standing):
            wanted = wanted.including(breach)
    assert len(account.told) == 1
    held = Held.of(account.state.positions.values(), ())
    assert next_steps(wanted, held) == (PartialClose(MNQ, 2, 7),)


def test_the_breach_says_what_was_counted_and_how() -> None:
    breach = holding([(MNQ, 3), (EP, 3)]).told[0]
    assert breach.reason == "6 contracts held (net), limit 5"
    assert dict(breach.figures) == {
        "contracts": "6",
        "limit": "5",
        "counted": "net",
        "positions": "+3 ESU5, +3 MNQU5",
    }
    assert not breach.on_record


# weights


@pytest.mark.parametrize(
    ("steps", "count", "decisions"),
    [
        pytest.param([(EP, 1), (MES, 10)], "2", [], id="ten micros are one mini"),
        pytest.param([(EP, 1), (MES, 11)], "2.1", [ReduceTo(MES, 10)], id="the eleventh is one too many"),
        pytest.param([(MES, 20), (EP, 1)], "3", [ReduceTo(EP, 0)], id="a mini is given up whole"),
        pytest.param([(EP, 1), (MES, -5)], "1.5", [], id="products do not offset one another in net"),
    ],
)
def test_micros_may_weigh_a_tenth(steps: list[tuple[ContractId, int]], count: str, decisions: list[Decision]) -> None:
    weights = {"MES": Decimal("0.1"), "mnq": Decimal("0.1")}
    account = holding(steps, limit=2, weights=weights, enforcement="reduce_to_limit")
    measure = account.book.rules[NAME].measure(account.state, account.now)
    assert measure is not None
    assert measure.texts[0] == count
    assert list(now_called_for(account)) == decisions


def test_weights_may_name_a_product_by_root_or_ticker_but_only_once() -> None:
    assert MaxContracts(weights={"ep": Decimal(1)}).weights == {"ES": 1}
    with pytest.raises(ValueError, match="EP names the product ES a second time"):
        MaxContracts(weights={"ES": Decimal(1), "EP": Decimal(1)})


@pytest.mark.parametrize("weight", ["0", "-1", "NaN", "Infinity"])
def test_a_weight_that_would_count_nothing_or_never_is_refused(weight: str) -> None:
    with pytest.raises(ValueError, match="MNQ must weigh more than 0"):
        MaxContracts(weights={"MNQ": Decimal(weight)})


@pytest.mark.parametrize("limit", [0, -5])
def test_a_limit_of_nothing_is_refused(limit: int) -> None:
    message = f"must be 1 or more, not {limit}; to forbid trading, block the symbols or set a session"
    with pytest.raises(ValueError, match=message):
        MaxContracts(limit=limit)


# lockout on breach, and what ends a breach


@pytest.mark.parametrize(
    ("moment", "until"),
    [
        pytest.param("2025-01-15 14:00", "2025-01-15 17:00", id="before the reset"),
        pytest.param("2025-01-15 17:00", "2025-01-16 17:00", id="after it"),
        pytest.param("2025-01-17 14:00", "2025-01-19 17:00", id="on a Friday: until Sunday"),
    ],
)
@pytest.mark.parametrize("enforcement", ["close_all", "reduce_to_limit", "close_offender"])
def test_with_lockout_on_breach_everything_is_closed_and_locked_until_the_reset(
    moment: str, until: str, enforcement: str
) -> None:
    account = desk(lockout_on_breach=True, enforcement=enforcement).at(moment)
    account.hold(MNQ, 6)
    assert account.told[0].decisions == (LockOut(chicago(until)), Flatten())
    assert account.told[0].reason.endswith(f", locked until {until} CST")
    assert account.locked_until() == [chicago(until)]


def test_without_it_nothing_is_locked() -> None:
    assert holding([(MNQ, 6)]).locked_until() == []


def test_the_breach_ends_when_the_count_is_back_at_the_limit() -> None:
    account = holding([(MNQ, 6)])
    assert account.hold(MNQ, 5).cleared == (NAME,)
    assert account.hold(MNQ, 6).found[0].id != account.told[0].id


def test_a_reading_by_rest_breaches_as_an_event_does() -> None:
    account = desk()
    account.tell(exposure(account.later(5).now, [position(MNQ, 6)]))
    assert len(account.told) == 1


# whatever is held, reducing ends at the limit


SIZES = st.fixed_dictionaries({c: st.integers(-9, 9) for c in (MNQ, MNQ_Z, MES, EP, RTY)})


@given(
    sizes=SIZES,
    limit=st.integers(1, 6),
    count_type=st.sampled_from(COUNT_TYPES),
    weights=st.sampled_from([{}, {"MNQ": Decimal("0.1"), "MES": Decimal("0.1")}]),
    enforcement=st.sampled_from(["reduce_to_limit", "close_offender"]),
)
def test_doing_what_is_called_for_ends_at_the_limit_and_never_adds(
    sizes: dict[ContractId, int], limit: int, count_type: str, weights: dict[str, Decimal], enforcement: str
) -> None:
    account = desk(limit=limit, count_type=count_type, weights=weights, enforcement=enforcement)
    for contract_id, size in sizes.items():
        account.hold(contract_id, size)
    counts = []
    for _ in range(12):
        measure = account.book.rules[NAME].measure(account.state, account.now)
        assert measure is not None
        counts.append(Decimal(measure.value))
        if not now_called_for(account):
            break
        for decision in now_called_for(account):
            match decision:
                case ReduceTo(contract_id, size):
                    held = account.state.positions[contract_id].size
                    assert 0 <= size < abs(held)
                    account.hold(contract_id, size if held > 0 else -size)
                case CloseContract(contract_id):
                    account.hold(contract_id, 0)
                case _:
                    raise AssertionError(decision)
    assert counts[-1] <= limit
    assert counts == sorted(counts, reverse=True)
    if enforcement == "reduce_to_limit":
        assert len(counts) <= 2
