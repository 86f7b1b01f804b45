"""The best that positions, the day and the account have stood at: what raises it, what keeps it, what ends it."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.journal.codec import decode, encode
from flatguard.ledger.peaks import SAME_OPENING, balance_now, day_total, start_of_day
from flatguard.model.account import AccountState, DayPeak, Peak, PeakSource, PositionPeak
from flatguard.model.events import AccountChanged, BarRead, ContractRefuted, PositionChanged
from flatguard.model.ids import ContractId
from flatguard.model.trading import Position, Side
from tests.fakes.desk import ES, MNQ, Desk, account_row, chicago, exposure, position, record, trade

OPENED = chicago("2025-01-15 09:59")


def desk() -> Desk:
    return Desk({})


def place(account: Desk, size: int, average: str = "21000", opened: datetime = OPENED) -> PositionPeak | None:
    """The hub tells the position in MNQ: a point of one is $2."""
    account.later(1).tell(PositionChanged(account.now, position(MNQ, size, average, opened)))
    return account.state.peaks.get(MNQ)


def shown(account: Desk, contract_id: ContractId = MNQ) -> tuple[Decimal, Decimal]:
    peak = account.state.peaks[contract_id]
    return peak.profit.amount, peak.best_price.amount


def agree(account: Desk, positions: tuple[Position, ...] | None = None) -> None:
    """A reading shows what the hub told, so positions and fills agree."""
    account.later(7).tell(exposure(account.now, account.state.positions.values() if positions is None else positions))


# positions


@pytest.mark.parametrize(
    ("size", "prices", "profit", "best"),
    [
        pytest.param(1, ["21010", "21005"], 20, 21010, id="a long: the highest"),
        pytest.param(-1, ["20990", "20995"], 20, 20990, id="a short: the lowest"),
        pytest.param(1, ["20990"], 0, 21000, id="never worse than the entry"),
        pytest.param(-2, ["21010"], 0, 21000, id="nor a short's"),
    ],
)
def test_a_position_keeps_the_best_that_it_showed(size: int, prices: list[str], profit: int, best: int) -> None:
    account = desk()
    place(account, size)
    for price in prices:
        account.later(1).quote(MNQ, last=price)
    assert shown(account) == (profit, best)


def test_a_peak_says_when_it_was_and_what_moved_it_there() -> None:
    account = desk()
    opened = account.later(1).now
    account.tell(PositionChanged(opened, position(MNQ, 1, "21000", OPENED)))
    assert account.state.peaks[MNQ] == PositionPeak(
        OPENED,
        1,
        Decimal(21000),
        Peak(Decimal(0), opened, PeakSource.FILL),
        Peak(Decimal(21000), opened, PeakSource.FILL),
    )
    account.later(1).quote(MNQ, last="21001")
    assert account.state.peaks[MNQ].profit == Peak(Decimal(2), account.now, PeakSource.QUOTE)
    assert account.state.peaks[MNQ].best_price == Peak(Decimal(21001), account.now, PeakSource.QUOTE)


def test_a_price_that_is_known_already_counts_as_soon_as_the_position_is_told() -> None:
    account = desk()
    account.quote(MNQ, last="21003")
    place(account, 1)
    assert shown(account) == (6, 21003)


def test_what_is_added_keeps_the_peak_and_is_counted_from_the_new_average() -> None:
    account = desk()
    place(account, 1)
    account.quote(MNQ, last="21012")
    account.quote(MNQ, last="21004")
    peak = place(account, 2, "21002")
    assert peak is not None
    assert (peak.size, peak.average_price) == (2, 21002)
    assert shown(account) == (24, 21012)
    account.quote(MNQ, last="21009")
    assert shown(account) == (28, 21012)


def test_what_is_given_up_in_part_keeps_the_peak() -> None:
    account = desk()
    place(account, 2)
    account.quote(MNQ, last="21010")
    place(account, 1)
    assert shown(account) == (40, 21010)


@pytest.mark.parametrize(
    ("size", "opened"),
    [
        pytest.param(-1, OPENED, id="turned around"),
        pytest.param(1, OPENED + 2 * SAME_OPENING, id="closed and opened again while nobody told"),
    ],
)
def test_another_position_begins_anew(size: int, opened: datetime) -> None:
    account = desk()
    place(account, 1)
    account.quote(MNQ, last="21010")
    account.later(11)
    peak = place(account, size, "21010", opened)
    assert peak is not None
    assert shown(account) == (0, 21010)
    assert peak.opened_at == opened


def test_a_list_that_writes_the_opening_with_fewer_digits_tells_the_same_position() -> None:
    account = desk()
    place(account, 1)
    account.quote(MNQ, last="21010")
    agree(account, (position(MNQ, 1, "21000", OPENED + timedelta(milliseconds=300)),))
    assert shown(account) == (20, 21010)


def test_a_position_that_is_flat_has_no_peak_whoever_tells() -> None:
    account = desk()
    place(account, 1)
    assert place(account, 0) is None
    place(account, 1)
    for _ in range(2):
        agree(account, ())
    assert account.state.peaks == {}


def test_a_price_that_nobody_believes_raises_nothing() -> None:
    account = desk()
    place(account, 1)
    account.quote(MNQ, last="42000")
    assert shown(account) == (0, 21000)


def test_without_a_tick_size_nothing_is_valued() -> None:
    account = desk()
    place(account, 1)
    account.tell(ContractRefuted(account.now, MNQ, "contradicted"))
    account.quote(MNQ, last="21010")
    assert shown(account) == (0, 21000)


def test_a_bar_is_a_price_too_and_a_price_of_something_else_is_none() -> None:
    account = desk()
    place(account, 1)
    account.quote(ES, last="5800")
    account.later(3).tell(BarRead(account.now, MNQ, account.now - timedelta(seconds=1), Decimal(21005)))
    assert shown(account) == (10, 21005)


def test_positions_stay_over_the_turn_of_the_day() -> None:
    account = desk()
    place(account, 1)
    account.quote(MNQ, last="21010")
    account.at("17:00").look()
    assert shown(account) == (20, 21010)


# positions together


def together(account: Desk) -> Decimal:
    return account.state.open_peak.amount


def test_positions_together_remember_the_most_of_their_sum() -> None:
    account = desk()
    place(account, 1)
    account.tell(PositionChanged(account.now, position(ES, 1, "5800", OPENED)))
    account.quote(MNQ, last="21010")
    assert together(account) == 0  # the other has no price
    account.quote(ES, last="5801")
    account.quote(MNQ, last="21000")
    account.quote(ES, last="5801.25")
    assert together(account) == 70
    assert shown(account)[0] + shown(account, ES)[0] == 20 + Decimal("62.50")


def test_what_is_left_has_shown_no_more_than_it_did_itself() -> None:
    account = desk()
    place(account, 1)
    account.tell(PositionChanged(account.now, position(ES, 1, "5800", OPENED)))
    account.quote(ES, last="5804")
    account.quote(MNQ, last="21010")
    assert together(account) == 220
    account.tell(PositionChanged(account.now, position(ES, 0, "5800", OPENED)))
    assert together(account) == 20
    account.quote(MNQ, last="21005")
    assert together(account) == 20
    place(account, -1, "21005")
    assert together(account) == 0


@given(st.lists(st.tuples(st.sampled_from([MNQ, ES]), st.integers(-20, 20)), max_size=20))
def test_what_all_showed_together_is_the_highest_sum_and_no_more_than_the_sum_of_what_each_showed(
    moves: list[tuple[ContractId, int]],
) -> None:
    account = desk()
    place(account, 2)
    account.tell(PositionChanged(account.now, position(ES, -1, "5800", OPENED)))
    profits, highest = {MNQ: 0, ES: 0}, 0
    account.quote(MNQ, last="21000")
    account.quote(ES, last="5800")
    for contract_id, points in moves:
        profits[contract_id] = points * (4 if contract_id == MNQ else -50)
        account.quote(contract_id, last=str((21000 if contract_id == MNQ else 5800) + points))
        highest = max(highest, sum(profits.values()))
        assert together(account) == highest <= shown(account, MNQ)[0] + shown(account, ES)[0]


# the day


def test_the_day_remembers_the_most_it_made_with_what_is_open_and_its_costs() -> None:
    account = desk()
    account.trade(side=Side.BUY, fees="1")
    place(account, 1)
    account.quote(MNQ, last="21010")
    account.later(1).quote(MNQ, last="21005")
    peak = account.state.day_peak
    assert (peak.net.amount, peak.gross.amount, peak.net.by) == (19, 20, PeakSource.QUOTE)
    assert peak.net.at == account.now - timedelta(seconds=1)
    account.trade("10", fees="1")
    place(account, 0)
    assert account.state.day_peak == peak
    account.trade("30")
    agree(account)
    assert account.state.day_peak.gross.amount == 40
    assert account.state.day_peak.gross.by == PeakSource.FILL


def test_a_profit_is_not_counted_twice_between_its_fill_and_its_position() -> None:
    account = desk()
    account.trade(side=Side.BUY)
    place(account, 1)
    account.quote(MNQ, last="21010")
    account.trade("20")
    assert day_total(account.state, account.now, net=True) is None
    account.quote(MNQ, last="21011")
    assert account.state.day_peak.gross.amount == 20
    place(account, 0)
    assert account.state.day_peak.gross.amount == 20
    assert day_total(account.state, account.now, net=True) == 20
    assert day_total(account.state, account.now, net=False) == 20


def test_while_something_has_no_price_the_day_has_no_sum() -> None:
    account = desk()
    account.trade(side=Side.BUY)
    place(account, 1)
    account.tell(PositionChanged(account.now, position(ES, 1, "5800", OPENED)))
    agree(account)
    account.quote(MNQ, last="21010")
    assert day_total(account.state, account.now, net=True) is None
    assert account.state.day_peak == DayPeak()
    account.quote(ES, last="5800")
    assert account.state.day_peak.net.amount == 20


def test_a_new_day_begins_at_zero() -> None:
    account = desk()
    account.trade("100")
    agree(account)
    assert account.state.day_peak.net.amount == 100
    account.at("17:00").look()
    assert account.state.day_peak == DayPeak()


@given(st.lists(st.integers(-40, 40), min_size=1, max_size=20))
def test_within_a_day_no_peak_falls_and_each_is_the_highest_so_far(ticks: list[int]) -> None:
    account = desk()
    account.trade(side=Side.BUY)
    place(account, 1)
    highest = Decimal(0)
    for step in ticks:
        account.later(1).quote(MNQ, last=str(Decimal(21000) + step * Decimal("0.25")))
        highest = max(highest, step * Decimal("0.50"))
        assert account.state.day_peak.net.amount == account.state.peaks[MNQ].profit.amount == highest


# the balance


def test_the_day_began_with_the_balance_read_less_what_it_has_made() -> None:
    account = Desk({}, trades=[trade(1, chicago("2025-01-15 09:00"), "150", fees="1")])
    assert start_of_day(account.state) == Decimal(50000) - 149
    assert account.state.balances.best_close == Peak(Decimal(49851), chicago("2025-01-14 17:00"), PeakSource.FILL)


def test_the_best_close_is_kept_and_moves_when_the_day_has_turned() -> None:
    account = desk()
    for day, balance, best in [
        ("2025-01-15", "51500", 51500),
        ("2025-01-16", "50500", 51500),
        ("2025-01-17", "52000", 52000),
    ]:
        account.now = chicago(f"{day} 17:00")
        account.tell(record(account.now, account=account_row(balance)))
        assert start_of_day(account.state) == Decimal(balance)
        assert account.state.balances.best_close.amount == best
    assert account.state.balances.best_close.at == chicago("2025-01-17 17:00")


def test_the_balance_does_not_move_the_start_within_the_day() -> None:
    account = desk()
    account.at("15:00").tell(record(account.now, account=account_row("53000")))
    assert start_of_day(account.state) == 50000


def test_a_reading_that_the_hub_has_overtaken_is_not_the_start_of_the_day() -> None:
    account = desk()
    account.at("17:00")
    account.tell(AccountChanged(account.now, account_row("50100")))
    account.tell(record(account.now, account=account_row("50000")))
    assert start_of_day(account.state) is None
    account.later(2).tell(record(account.now, account=account_row("50100")))
    assert start_of_day(account.state) == 50100


def test_a_reading_begun_before_the_day_turned_tells_nothing_of_it() -> None:
    account = desk()
    account.at("17:00").tell(record(account.now, began=account.now - timedelta(seconds=1)))
    assert start_of_day(account.state) is None
    assert start_of_day(AccountState(account.state.id)) is None


def test_what_a_reading_shows_beside_the_fills_lowers_the_balance_counted_with_and_never_raises_it() -> None:
    account = desk()
    account.trade("100", fees="1")
    assert balance_now(account.state) == 50099
    account.later(3)
    for told, counted in [("50099", 50099), ("50050", 50050), ("51099", 50099)]:
        account.later(1).tell(record(account.now, account=account_row(told)))
        assert balance_now(account.state) == counted


def test_the_row_of_the_account_and_the_fill_that_moved_it_count_once_whichever_is_told_first() -> None:
    account = desk()
    account.later(5).tell(AccountChanged(account.now, account_row("49900")))
    assert balance_now(account.state) == 50000
    account.trade("-100")
    assert balance_now(account.state) == 49900


def test_until_the_start_of_the_day_is_known_the_balance_is_the_one_told() -> None:
    account = desk()
    account.at("17:00").tell(AccountChanged(account.now, account_row("50100")))
    assert balance_now(account.state) == 50100
    assert balance_now(AccountState(account.state.id)) is None


# restarts


def test_peaks_are_part_of_the_checkpoint() -> None:
    account = desk()
    account.trade(side=Side.BUY)
    place(account, 1)
    account.quote(MNQ, last="21010")
    again = decode(encode(account.state), AccountState)
    assert again.peaks == account.state.peaks != {}
    assert again.day_peak == account.state.day_peak != DayPeak()
    assert again.balances == account.state.balances
