"""No stop loss grace, beside the worked examples of its page: coverage, scale-ins, and what only a reading can tell."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from flatguard.ledger.awakened import awakened
from flatguard.model.account import Bare
from flatguard.model.decisions import CloseContract, Flatten, LockOut, ReduceTo
from flatguard.model.events import OrderChanged, PositionChanged
from flatguard.model.ids import OrderId
from flatguard.model.trading import Order, OrderStatus, OrderType, Side
from flatguard.rules.no_stop_loss_grace import NAME, NoStopLossGrace
from tests.fakes.desk import ES, MNQ, Desk, exposure, order, position, record

CLOSE = (CloseContract(MNQ),)


class Trader(Desk):
    """Long MNQ from t = 0 on, read by REST every ``pace`` seconds as the daemon does."""

    def __init__(self, size: int = 1, *, pace: float = 1.0, entry: str = "21000", **settings: Any) -> None:
        rule = NoStopLossGrace(**settings)
        super().__init__({NAME: rule})
        self.state = evolve(self.state, terms=rule.terms(self.state.terms))
        self.began, self.pace, self.entry = self.now, pace, entry
        self.found: list[tuple[float, Any]] = []
        if size:
            self.set(0, size)

    def t(self, seconds: float) -> Trader:
        """Move on to ``seconds`` after the start; until then nothing happens but readings."""
        end = self.began + timedelta(seconds=seconds)
        while self.now + timedelta(seconds=self.pace) <= end:
            self.later(self.pace)
            self.reading()
        self.now = end
        self.look()
        self.noted()
        return self

    def noted(self) -> None:
        for breach in self.told[len(self.found) :]:
            self.found.append(((self.now - self.began).total_seconds(), breach.decisions))

    def reading(self) -> None:
        self.tell(exposure(self.now, self.state.positions.values(), self.state.working_orders))
        self.noted()

    def set(self, seconds: float, size: int) -> None:
        self.t(seconds)
        opened = self.state.positions[MNQ].opened_at if MNQ in self.state.positions else self.now
        self.tell(PositionChanged(self.now, position(MNQ, size, self.entry, opened)))
        self.noted()

    def stop(self, seconds: float, price: str | None = "20990", number: int = 1, **about: Any) -> None:
        self.t(seconds)
        self.order(stop(price, number, **about))
        self.noted()


def stop(
    price: str | None = "20990",
    number: int = 1,
    *,
    size: int = 1,
    side: Side = Side.SELL,
    kind: OrderType = OrderType.STOP,
    status: OrderStatus = OrderStatus.OPEN,
) -> Order:
    row = order(number, MNQ, side, size, kind, status)
    return evolve(row, stop_price=None if price is None else Decimal(price))


# the examples


def test_008_1_a_stop_that_works_before_the_position_protects_it() -> None:
    account = Trader(0)
    account.stop(0)
    account.set(0, 1)
    assert account.state.bare == {}
    assert not account.t(120).found


def test_008_2_within_the_grace_nothing_is_done() -> None:
    account = Trader()
    assert not account.t(15).found
    assert account.book.rules[NAME].judge_again_at(account.state) == account.began + timedelta(seconds=30)


def test_008_3_a_stop_within_the_grace_protects() -> None:
    account = Trader()
    account.stop(10, "20995")
    assert account.book.rules[NAME].judge_again_at(account.state) is None
    assert not account.t(300).found


def test_008_4_at_the_end_of_the_grace_the_position_is_closed() -> None:
    account = Trader()
    assert not account.t(29.9).found
    assert account.t(30).found == [(30, CLOSE)]
    (breach,) = account.told
    assert breach.reason == "No stop-loss within 30s grace period: 1 of 1 MNQU5 not covered"
    assert account.locked_until() == []


def test_008_8_a_stop_that_goes_gives_another_grace() -> None:
    account = Trader()
    account.stop(10)
    account.stop(300, status=OrderStatus.CANCELLED)
    assert not account.t(309.9).found
    assert account.t(310).found == [(310, CLOSE)]
    assert account.told[0].reason.startswith("No stop-loss within 10s after a stop was gone")


@pytest.mark.parametrize(
    ("enforcement", "decision"), [("close_position", CloseContract(MNQ)), ("close_uncovered", ReduceTo(MNQ, 1))]
)
def test_008_9_a_stop_of_half_the_size_covers_half(enforcement: str, decision: object) -> None:
    account = Trader(2, enforcement=enforcement)
    account.stop(5)
    assert account.t(30).found == [(30, (decision,))]
    assert "1 of 2 MNQU5 not covered" in account.told[0].reason


def test_008_10_a_stop_at_the_entry_or_beyond_protects() -> None:
    account = Trader()
    account.stop(5)
    account.t(40).quote(MNQ, last="21002.50")
    account.stop(40, "21000")
    account.stop(41, "21002.50")
    assert not account.t(120).found


def test_008_11_what_was_opened_before_a_start_counts_from_its_opening() -> None:
    account = Trader(0)
    opened = account.now - timedelta(seconds=50)
    again = Desk({NAME: NoStopLossGrace()}, account.now, positions=[position(MNQ, 1, "21000", opened)])
    assert [breach.decisions for breach in again.told] == [CLOSE]


def test_008_12_a_position_closed_in_time_is_forgotten() -> None:
    account = Trader()
    account.set(20, 0)
    assert account.state.bare == {}
    assert not account.t(120).found


# what covers


def test_two_stops_cover_two_contracts() -> None:
    account = Trader(2)
    account.stop(5, number=1)
    account.stop(6, number=2)
    assert not account.t(60).found


def test_what_is_added_has_a_grace_of_its_own_and_the_old_part_keeps_its_own() -> None:
    account = Trader(1)
    account.set(20, 3)
    began = account.began
    assert account.state.bare[MNQ] == (Bare(1, began), Bare(2, began + timedelta(seconds=20)))
    account.stop(25, size=1)
    assert account.state.bare[MNQ] == (Bare(2, began + timedelta(seconds=20)),)
    assert account.t(50).found == [(50, CLOSE)]


def test_scaling_in_does_not_put_off_the_end_of_the_first_grace() -> None:
    account = Trader(1, enforcement="close_uncovered")
    account.set(20, 3)
    assert account.t(30).found == [(30, (ReduceTo(MNQ, 2),))]
    account.set(30.5, 2)
    assert NAME not in account.state.breached
    assert account.t(50).found[1:] == [(50, CLOSE)]


def test_a_position_turned_around_begins_anew() -> None:
    account = Trader(1)
    account.set(20, -1)
    assert account.state.bare[MNQ] == (Bare(1, account.now),)
    assert account.t(50).found == [(50, CLOSE)]


def test_a_stop_larger_than_the_position_covers_it_and_what_comes_to_it() -> None:
    account = Trader(1)
    account.stop(1, size=3)
    account.set(40, 3)
    account.set(41, 2)
    assert not account.t(120).found


def test_a_stop_filled_in_part_covers_what_is_left_of_it() -> None:
    account = Trader(3)
    account.t(1).order(evolve(stop(size=3), fill_volume=1))
    assert account.state.bare[MNQ] == (Bare(1, account.began),)
    account.set(2, 2)
    assert account.state.bare == {}


def test_a_stop_that_was_refused_or_is_being_cancelled_covers_nothing() -> None:
    account = Trader(2)
    account.stop(1, number=1, status=OrderStatus.REJECTED)
    account.stop(1, number=2, status=OrderStatus.PENDING_CANCELLATION)
    assert account.t(30).found == [(30, CLOSE)]


def test_a_stop_of_another_contract_covers_nothing() -> None:
    account = Trader()
    account.t(1).order(evolve(stop(), contract_id=ES))
    assert account.t(30).found == [(30, CLOSE)]


def test_a_stop_that_the_market_has_passed_covers_nothing() -> None:
    account = Trader()
    account.stop(1, "20990")
    account.t(60).quote(MNQ, last="20990")
    assert account.state.bare == {}
    account.quote(MNQ, last="20989.75")
    assert account.state.bare[MNQ] == (Bare(1, account.now, stop_lost=True),)
    assert account.t(70).found == [(70, CLOSE)]


def test_a_stop_of_a_bracket_counts_once_it_has_its_price() -> None:
    account = Trader(1, grace=timedelta(seconds=2))
    account.stop(0.1, None, status=OrderStatus.SUSPENDED)
    assert not account.t(4.9).found
    account.stop(4.9, "20990")
    assert not account.t(60).found


def test_a_stop_of_a_bracket_that_has_no_price_after_five_seconds_counts_no_more() -> None:
    account = Trader(1, grace=timedelta(seconds=2))
    account.stop(0.1, None, status=OrderStatus.SUSPENDED)
    assert account.t(5).found == [(5, CLOSE)]


# settings


def test_without_full_coverage_any_stop_will_do() -> None:
    account = Trader(3, require_full_coverage=False)
    account.stop(5)
    account.set(100, 4)
    assert not account.t(200).found
    account.stop(200, status=OrderStatus.CANCELLED)
    assert account.t(210).found == [(210, CLOSE)]


def test_without_full_coverage_no_stop_at_all_is_a_breach() -> None:
    assert Trader(2, require_full_coverage=False).t(30).found == [(30, CLOSE)]


def test_without_rearming_a_stop_once_set_is_enough() -> None:
    account = Trader(rearm_on_stop_removal=False)
    account.stop(10)
    account.stop(20, status=OrderStatus.CANCELLED)
    assert not account.t(200).found
    account.set(200, 2)
    assert account.t(230).found == [(230, CLOSE)]


def test_a_stop_too_far_away_is_none() -> None:
    account = Trader(max_stop_distance_ticks=40)
    account.stop(1, "20989.75")
    account.t(20)
    account.stop(20, "20990", number=2)
    assert account.state.bare == {}
    account.stop(25, number=2, status=OrderStatus.CANCELLED)
    assert account.t(35).found == [(35, CLOSE)]


def test_moving_a_stop_that_is_too_far_away_does_not_put_off_the_end() -> None:
    account = Trader(max_stop_distance_ticks=40)
    for second in range(5, 30, 5):
        account.stop(second, str(20900 + second))
    assert account.t(30).found == [(30, CLOSE)]


def test_it_locks_for_a_while_where_it_is_set_to_and_once() -> None:
    account = Trader(enforcement="close_all_and_lockout", lockout_for=timedelta(minutes=10))
    account.t(30)
    until = account.began + timedelta(seconds=630)
    assert account.found == [(30, (LockOut(until), Flatten()))]
    account.t(35)
    assert account.locked_until() == [until]
    assert [breach.rule for breach in account.told] == [NAME]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"grace": timedelta(0)}, 'from "1s" to "3600s"'),
        ({"rearm_grace": timedelta(hours=2)}, "not 7200 s"),
        ({"max_stop_distance_ticks": 0}, "must be 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NoStopLossGrace(**settings)


def test_how_long_a_part_has_been_bare_is_shown_against_its_grace() -> None:
    account = Trader()
    account.t(18)
    measure = account.book.rules[NAME].measure(account.state, account.now)
    assert measure is not None
    assert measure.texts == ("18 s MNQU5", "30 s", "12 s")
    account.stop(20)
    assert account.book.rules[NAME].measure(account.state, account.now) is None


# only a reading shows that there is none


def test_without_a_fresh_reading_nothing_is_closed_and_the_rule_is_blind_after_five_seconds() -> None:
    account = Trader(pace=1000)
    rule = account.book.rules[NAME]
    account.t(34.9)
    assert not account.found
    assert rule.blind(account.state, account.now) is None
    account.t(35)
    assert rule.blind(account.state, account.now) == (
        "no complete reading since 16:00:30 UTC shows whether MNQU5 has a stop"
    )
    account.later(1).reading()
    assert account.found == [(36, CLOSE)]
    assert rule.blind(account.state, account.now) is None


def test_a_reading_begun_before_the_last_word_does_not_count() -> None:
    account = Trader(2, pace=1000)
    account.t(29).reading()
    account.set(29.5, 1)
    assert not account.t(30).found
    assert account.book.reading_wanted_at(account.state) == account.began + timedelta(seconds=29.5)
    began = account.now
    account.later(0.3)
    account.tell(exposure(account.now, account.state.positions.values(), began=began))
    account.noted()
    assert account.found == [(30.3, CLOSE)]


def test_a_stop_that_only_the_reading_shows_protects() -> None:
    account = Trader(pace=1000)
    account.t(29)
    account.tell(exposure(account.now, account.state.positions.values(), [stop()]))
    assert not account.t(60).found


def test_a_reading_is_wanted_in_time_and_not_where_one_is_there() -> None:
    account = Trader(pace=1000)
    wanted = account.book.reading_wanted_at
    assert wanted(account.state) == account.began + timedelta(seconds=28)
    account.t(28).reading()
    assert wanted(account.state) is None
    assert account.t(30).found == [(30, CLOSE)]
    assert wanted(account.state) is None
    account.set(31, 0)
    assert wanted(account.state) is None


def test_before_the_first_picture_no_reading_is_asked_for() -> None:
    account = Trader()
    assert account.book.reading_wanted_at(evolve(account.state, record_at=None)) is None


def test_what_is_being_closed_goes_on_being_closed_until_it_is_gone() -> None:
    account = Trader(3, pace=1000)
    account.t(29).reading()
    account.t(30)
    account.set(30.2, 1)
    assert NAME in account.state.breached
    account.stop(30.3)
    assert account.last.standing == ()
    assert NAME in account.state.breached
    account.set(30.4, 0)
    assert NAME not in account.state.breached
    assert account.found == [(30, CLOSE)]


def test_who_adds_while_it_is_being_closed_has_a_new_grace_for_that() -> None:
    account = Trader(1)
    account.t(30)
    account.stop(30.5)
    account.set(31, 2)
    assert NAME not in account.state.breached
    assert account.t(61).found == [(30, CLOSE), (61, CLOSE)]


def test_a_hub_that_tells_an_old_opening_of_what_was_just_flat_is_not_believed() -> None:
    account = Trader(1)
    account.set(20, 0)
    account.t(60).tell(PositionChanged(account.now, position(MNQ, 1, "21000", account.began)))
    assert account.state.bare[MNQ][0].since == account.began + timedelta(seconds=20)


def test_what_was_opened_while_nobody_looked_counts_from_its_own_opening() -> None:
    account = Trader(1)
    account.stop(5)
    account.t(100)
    account.state = awakened(account.state)
    opened = account.began + timedelta(seconds=80)
    account.tell(exposure(account.now, [position(MNQ, 1, "21000", opened)]))
    account.tell(record(account.now))
    assert account.state.bare[MNQ] == (Bare(1, opened),)
    assert not account.t(109.9).found
    assert account.t(110).found == [(110, CLOSE)]


def test_what_was_held_all_along_keeps_its_stop_over_a_restart() -> None:
    account = Trader(1)
    account.stop(5)
    account.t(100)
    account.state = awakened(account.state)
    account.reading()
    account.tell(record(account.now))
    assert account.state.bare == {}
    assert not account.t(200).found


def test_a_reading_begun_before_the_position_was_told_neither_takes_it_away_nor_judges_it() -> None:
    account = Trader(pace=1000, grace=timedelta(seconds=1))
    asked = account.began - timedelta(seconds=0.3)
    account.t(1).tell(exposure(account.now, began=asked))
    account.noted()
    assert account.state.bare[MNQ] == (Bare(1, account.began),)
    assert not account.found
    account.reading()
    assert account.found == [(1, CLOSE)]


@pytest.mark.parametrize(("read", "found"), [(24.9, []), (25, [(30, CLOSE)])])
def test_a_reading_of_more_than_five_seconds_ago_does_not_count(read: float, found: list[Any]) -> None:
    account = Trader(pace=1000)
    account.t(read).reading()
    assert account.t(30).found == found


def test_a_reading_begun_before_the_stop_was_told_closes_nothing() -> None:
    account = Trader(pace=1000)
    account.stop(29.8)
    asked = account.began + timedelta(seconds=29.5)
    account.t(30).tell(exposure(account.now, account.state.positions.values(), began=asked))
    account.noted()
    assert account.state.bare == {}
    assert not account.found


MOVES = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.one_of(
            st.tuples(st.just("size"), st.integers(-3, 3)),
            st.tuples(st.just("stop"), st.integers(1, 3)),
            st.tuples(st.just("gone"), st.integers(1, 3)),
        ),
    ),
    max_size=8,
)


def played(
    moves: list[tuple[int, tuple[str, int]]], *, every_second: bool, **settings: Any
) -> list[tuple[datetime, Any]]:
    account = Trader(0, pace=1000, **settings)
    found: list[tuple[datetime, Any]] = []
    plan: list[tuple[datetime, Any]] = []
    moment = account.began
    for wait, move in moves:
        moment += timedelta(seconds=wait)
        plan.append((moment, move))
    end = moment + timedelta(seconds=40)
    plan += [
        (account.began + timedelta(seconds=s + 0.5), None)
        for s in range(0, int((end - account.began).total_seconds()), 4)
    ]
    plan.sort(key=lambda row: row[0])

    def judge_until(until: datetime) -> None:
        while True:
            if every_second:
                due: datetime | None = account.now + timedelta(seconds=1)
                due = due.replace(microsecond=0) if due is not None else None
            else:
                due = account.book.next_moment(account.state, account.now)
            if due is None or due >= until:
                return
            account.now = due
            account.look()
            found.extend((account.now, breach.decisions) for breach in account.last.found)

    for at, move in plan:
        judge_until(at)
        account.now = at
        if move is None:
            account.tell(exposure(at, account.state.positions.values(), account.state.working_orders))
        elif move[0] == "size":
            account.set((at - account.began).total_seconds(), move[1])
        else:
            status = OrderStatus.OPEN if move[0] == "stop" else OrderStatus.CANCELLED
            known = account.state.orders.get(OrderId(move[1]))
            if known is None or known.working:
                account.tell(OrderChanged(at, stop(number=move[1], status=status)))
            else:
                account.look()
        found.extend((account.now, breach.decisions) for breach in account.last.found)
    judge_until(end)
    return found


@given(moves=MOVES, enforcement=st.sampled_from(["close_position", "close_uncovered"]))
def test_judging_at_the_moments_that_it_names_finds_what_judging_every_second_does(
    moves: list[tuple[int, tuple[str, int]]], enforcement: str
) -> None:
    assert played(moves, every_second=True, enforcement=enforcement) == played(
        moves, every_second=False, enforcement=enforcement
    )


@given(moves=MOVES)
def test_what_is_bare_is_what_the_stops_leave(moves: list[tuple[int, tuple[str, int]]]) -> None:
    account = Trader(0)
    for _, (what, number) in moves:
        account.later(1)
        if what == "size":
            account.tell(PositionChanged(account.now, position(MNQ, number, "21000", account.now)))
        else:
            status = OrderStatus.OPEN if what == "stop" else OrderStatus.CANCELLED
            account.order(stop(number=number, status=status))
        held = account.state.size_of(MNQ)
        stops = sum(o.remaining for o in account.state.working_orders) if held > 0 else 0
        assert sum(part.size for part in account.state.bare.get(MNQ, ())) == max(0, abs(held) - stops)
