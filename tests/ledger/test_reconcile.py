"""What a reading by REST may change: not what the hub, or a newer reading, knows better."""

from __future__ import annotations

from datetime import timedelta

import pytest
from attrs import evolve

from flatguard.ledger.apply import apply
from flatguard.ledger.reconcile import differences, unsettled_since
from flatguard.model.account import AccountState
from flatguard.model.events import (
    AccountChanged,
    ContractLearned,
    ContractRefuted,
    Event,
    ExposureRead,
    Hub,
    LinkDown,
    LinkUp,
    OrderChanged,
    PositionChanged,
    RecordRead,
    TradeMade,
)
from flatguard.model.trading import Account, OrderStatus, Side
from tests.fakes.desk import ACCOUNT, EP, MNQ, account_row, chicago, contract, exposure, order, position, record, trade

NOON = chicago("2025-01-15 12:00")
LAG = timedelta(seconds=1.5)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def after(*events: Event) -> AccountState:
    state = AccountState(ACCOUNT)
    for event in events:
        state = apply(state, event)
    return state


def sizes(state: AccountState) -> dict[str, int]:
    return {contract_id: row.size for contract_id, row in state.positions.items()}


def test_a_reading_replaces_what_it_shows_otherwise_and_drops_what_it_does_not_show() -> None:
    state = after(
        PositionChanged(NOON, position(MNQ, 2)),
        PositionChanged(NOON, position(EP, 1)),
        OrderChanged(NOON, order(1, MNQ)),
        exposure(NOON + seconds(5), [position(MNQ, 3)], [order(2, MNQ)]),
    )
    assert sizes(state) == {MNQ: 3}
    assert [o.id for o in state.working_orders] == [2]


@pytest.mark.parametrize(
    ("began", "size"),
    [
        pytest.param(NOON - seconds(1), 2, id="begun before"),
        pytest.param(NOON + seconds(1), 2, id="begun after, but lists lag by up to a second"),
        pytest.param(NOON + LAG, 5, id="begun late enough to know"),
    ],
)
def test_the_hubs_word_holds_against_a_reading_begun_before_it_or_just_after_it(began: object, size: int) -> None:
    reading = exposure(NOON + seconds(3), [position(MNQ, 5)], [order(1, MNQ, size=5)], began=began)
    state = after(PositionChanged(NOON, position(MNQ, 2)), OrderChanged(NOON, order(1, MNQ, size=2)), reading)
    assert sizes(state) == {MNQ: size}
    assert [o.size for o in state.working_orders] == [size]


@pytest.mark.parametrize(("age_s", "believed"), [(5, False), (8, True)])
def test_two_lists_do_not_take_back_what_the_hub_told_a_moment_ago_and_fills_do_not_deny(
    age_s: float, *, believed: bool
) -> None:
    told = NOON + seconds(60)
    begun = told + seconds(age_s)
    state = after(
        LinkUp(NOON, Hub.USER),
        exposure(NOON, [position(MNQ, 1)], []),
        TradeMade(told, trade(1, told, side=Side.BUY)),
        PositionChanged(told, position(MNQ, 2)),
        OrderChanged(told, order(1, MNQ)),
        exposure(begun - seconds(1), [], []),
        exposure(begun, [], []),
    )
    assert sizes(state) == ({} if believed else {MNQ: 2})
    assert [o.id for o in state.working_orders] == ([] if believed else [1])


def test_two_lists_that_lack_an_order_are_believed_where_its_end_may_have_been_missed() -> None:
    state = after(
        LinkUp(NOON, Hub.USER),
        exposure(NOON, [], []),
        OrderChanged(NOON + seconds(60), order(1, MNQ)),
        LinkDown(NOON + seconds(61), Hub.USER, "cut"),
        exposure(NOON + seconds(63), [], []),
        LinkUp(NOON + seconds(64), Hub.USER),
    )
    assert [o.id for o in state.working_orders] == [1]
    assert apply(state, exposure(NOON + seconds(65), [], [])).working_orders == ()


def test_a_list_that_is_larger_is_believed_at_once_unless_the_hub_has_just_told_otherwise_and_fills_agree() -> None:
    told = NOON + seconds(60)
    state = after(
        exposure(NOON, [position(MNQ, 1)], []),
        TradeMade(told, trade(1, told, side=Side.BUY)),
        PositionChanged(told, position(MNQ, 2)),
    )
    assert sizes(apply(state, exposure(told + seconds(3), [position(MNQ, 5)], []))) == {MNQ: 2}
    assert sizes(apply(state, exposure(told + seconds(30), [position(MNQ, 5)], []))) == {MNQ: 5}
    more = apply(state, TradeMade(told + seconds(2), trade(2, told, side=Side.BUY, size=3)))
    assert sizes(apply(more, exposure(told + seconds(4), [position(MNQ, 5)], []))) == {MNQ: 5}


def test_what_the_hub_said_is_gone_is_not_brought_back_by_an_older_reading() -> None:
    reading = exposure(NOON + seconds(2), [position(MNQ, 2)], [order(1, MNQ)], began=NOON - seconds(1))
    state = after(
        PositionChanged(NOON, position(MNQ, 0)), OrderChanged(NOON, order(1, MNQ, status=OrderStatus.FILLED)), reading
    )
    assert not state.positions
    assert not state.working_orders


def test_what_the_hub_just_opened_is_not_taken_away_by_a_reading_that_lags() -> None:
    state = after(
        PositionChanged(NOON, position(MNQ, 2)), OrderChanged(NOON, order(1, MNQ)), exposure(NOON + seconds(1))
    )
    assert sizes(state) == {MNQ: 2}
    assert len(state.working_orders) == 1


def test_a_reading_begun_earlier_but_answered_later_than_another_changes_nothing() -> None:
    """Two tasks read one account; a partial close must not go by the answer of the slower."""
    newer = exposure(NOON + seconds(12), [position(MNQ, 2)], [order(2, MNQ)], began=NOON + seconds(11))
    older = exposure(NOON + seconds(14), [position(MNQ, 3)], [order(1, MNQ)], began=NOON + seconds(10))
    state = after(newer, older)
    assert sizes(state) == {MNQ: 2}
    assert [o.id for o in state.working_orders] == [2]
    assert state.exposure_at == NOON + seconds(11)
    assert state.broker_seen == NOON + seconds(14)


def test_after_the_machines_clock_was_set_back_readings_are_believed_at_once() -> None:
    """Stamps from before the correction lie in the future; they must not outrank the broker for an hour."""
    back = NOON - timedelta(hours=1)
    state = after(
        PositionChanged(NOON, position(MNQ, 2)),
        OrderChanged(NOON, order(1, MNQ)),
        exposure(NOON, [position(EP, 1)]),
        exposure(back, [position(EP, 4)]),
    )
    assert sizes(state) == {EP: 4}
    assert not state.working_orders
    assert state.exposure_at == back


def test_a_row_of_size_zero_is_no_position() -> None:
    assert not after(exposure(NOON, [position(MNQ, 0)])).positions


def test_a_position_first_seen_in_a_reading_grew_when_the_broker_opened_it() -> None:
    opened = NOON - timedelta(hours=2)
    assert after(exposure(NOON, [position(MNQ, 2, opened=opened)])).increased_at == {MNQ: opened}


@pytest.mark.parametrize(
    ("size", "grew"),
    [
        pytest.param(3, True, id="added to"),
        pytest.param(-1, True, id="turned around"),
        pytest.param(1, False, id="reduced"),
        pytest.param(2, False, id="the same"),
    ],
)
def test_a_position_that_a_reading_shows_larger_grew_by_then(size: int, grew: bool) -> None:
    began = NOON + seconds(5)
    state = after(
        PositionChanged(NOON, position(MNQ, 2)), exposure(NOON + seconds(6), [position(MNQ, size)], began=began)
    )
    assert state.increased_at == {MNQ: began if grew else NOON}


# what differs


def known() -> AccountState:
    """Read once, with two MNQ, an order that works and one that was cancelled, told a while ago."""
    return after(
        record(NOON),
        exposure(NOON),
        PositionChanged(NOON, position(MNQ, 2)),
        TradeMade(NOON, trade(1, NOON, size=2, side=Side.BUY)),
        OrderChanged(NOON, order(1, MNQ)),
        OrderChanged(NOON, order(2, MNQ, status=OrderStatus.CANCELLED)),
    )


def told_by(reading: ExposureRead | RecordRead, state: AccountState | None = None) -> list[str]:
    return [found.what for found in differences(state or known(), reading, seconds(2))]


LATER = NOON + seconds(30)
HELD = position(MNQ, 2)


@pytest.mark.parametrize(
    ("reading", "what"),
    [
        (exposure(LATER, [HELD], [order(1, MNQ)]), []),
        (exposure(LATER, [position(MNQ, 3)], [order(1, MNQ)]), ["position MNQU5: +2 is +3"]),
        (exposure(LATER, [], [order(1, MNQ)]), []),
        (exposure(LATER, [HELD, position(EP, -1)], [order(1, MNQ)]), ["position ESU5: +0 is -1"]),
        (exposure(LATER, [HELD], []), []),
        (exposure(LATER, [HELD], [order(1, MNQ), order(3, EP)]), ["order 3 (buy 1 ESU5) is working"]),
        (exposure(LATER, [HELD], [order(1, MNQ, size=4)]), ["order 1 (buy 4 MNQU5) was changed"]),
        (exposure(LATER, [HELD], [order(1, MNQ, status=OrderStatus.PENDING)]), []),
        (exposure(LATER, [HELD], [order(1, MNQ), order(2, MNQ)]), []),
        (exposure(LATER, [], [], began=NOON + seconds(1)), []),
        (record(LATER, [trade(1, NOON, size=2, side=Side.BUY)]), []),
        (record(LATER, [trade(2, NOON, size=3)]), ["fill 2: sold 3 MNQU5 at 21000"]),
        (record(LATER, [trade(2, NOON, side=Side.BUY)]), ["fill 2: bought 1 MNQU5 at 21000"]),
        (record(LATER, [trade(2, NOON, voided=True)]), []),
        (record(LATER, [trade(2, LATER - seconds(1))]), []),
        (record(LATER, account=account_row(can_trade=False)), ["the account may not trade"]),
        (record(LATER, account=evolve(account_row(), visible=False)), ["the account is retired"]),
    ],
    ids=range(17),
)
def test_what_a_reading_shows_otherwise_is_named(reading: ExposureRead | RecordRead, what: list[str]) -> None:
    assert told_by(reading) == what


def test_what_a_reading_shows_smaller_or_lacks_is_named_when_it_is_believed() -> None:
    once = apply(known(), exposure(LATER))
    assert told_by(exposure(LATER + seconds(1)), once) == [
        "position MNQU5: +2 is +0",
        "order 1 (buy 1 MNQU5) has ended",
    ]


def test_an_account_that_may_trade_again_is_named_unless_the_hub_told_it() -> None:
    locked = after(record(NOON, account=evolve(account_row(can_trade=False), visible=False)), exposure(NOON))
    assert told_by(record(LATER), locked) == ["the account may trade again", "the account is shown again"]
    row: Account = account_row(can_trade=False)
    assert told_by(record(LATER), apply(locked, AccountChanged(LATER, row))) == []


def test_before_the_first_picture_nothing_differs() -> None:
    assert told_by(exposure(LATER, [HELD]), AccountState(ACCOUNT)) == []
    assert told_by(record(LATER, [trade(2, NOON)]), after(exposure(NOON))) == []


def test_fills_and_positions_that_disagree_do_so_since_the_last_word_on_them() -> None:
    assert unsettled_since(AccountState(ACCOUNT)) is None
    assert unsettled_since(known()) is None
    filled = apply(known(), TradeMade(LATER, trade(2, LATER)))
    assert unsettled_since(filled) == LATER
    moved = apply(filled, PositionChanged(LATER + seconds(1), position(MNQ, 3)))
    assert unsettled_since(moved) == LATER + seconds(1)
    assert unsettled_since(apply(moved, PositionChanged(LATER + seconds(2), position(MNQ, 1)))) is None


def test_a_contract_that_is_refuted_is_not_known_any_more() -> None:
    state = after(ContractLearned(NOON, contract(MNQ)), ContractLearned(NOON, contract(EP)))
    assert apply(state, ContractRefuted(NOON, MNQ, "no")).contracts.keys() == {EP}
