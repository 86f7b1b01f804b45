"""Max loss limit: the floor that follows the best close, the account above it, and what cannot be seen."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatguard.daemon.recovery import awakened
from flatguard.journal.codec import decode, encode
from flatguard.model.account import AccountState
from flatguard.model.decisions import Flatten, LockOut
from flatguard.model.events import AccountChanged, PositionChanged
from flatguard.model.trading import Side
from flatguard.rules.max_loss_limit import NAME, MaxLossLimit
from tests.fakes.desk import MNQ, Desk, account_row, chicago, exposure, position, record

RESET = chicago("2025-01-15 17:00")


def rule(start: str = "50000", distance: str = "2000", **settings: Any) -> MaxLossLimit:
    money = {k: Decimal(v) if k in {"cushion", "best_close", "stops_at"} else v for k, v in settings.items()}
    return MaxLossLimit(Decimal(start), Decimal(distance), **money)


def desk(balance: str = "50000", **settings: Any) -> Desk:
    """The day begins with ``balance``."""
    account = Desk({NAME: rule(**settings)})
    account.state = AccountState(account.state.id, contracts=account.state.contracts)
    account.told.clear()
    account.tell(record(account.now, account=account_row(balance)))
    account.tell(exposure(account.now))
    return account


def bought(account: Desk) -> None:
    """Two MNQ from 21000: a point is $4."""
    account.trade(side=Side.BUY, size=2)
    hold(account, 2)


def hold(account: Desk, size: int) -> None:
    account.tell(PositionChanged(account.later(1).now, position(MNQ, size, "21000", chicago("2025-01-15 09:59"))))


def at(account: Desk, dollars: int) -> bool:
    return bool(account.later(1).quote(MNQ, last=str(21000 + Decimal(dollars) / 4)).found)


def measured(account: Desk) -> tuple[str, str, str] | None:
    measure = account.book.rules[NAME].measure(account.state, account.now)
    return None if measure is None else measure.texts


def floor(account: Desk) -> Decimal:
    judging = account.book.rules[NAME]
    assert isinstance(judging, MaxLossLimit)
    return judging.floor(account.state)


# the floor


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({}, 48000, id="7.1: at first"),
        pytest.param({"best_close": "51500"}, 49500, id="7.1: best close 51,500"),
        pytest.param({"best_close": "52000"}, 50000, id="7.1: at 52,000"),
        pytest.param({"best_close": "60000"}, 50000, id="7.1: above, for good"),
        pytest.param({"best_close": "49000"}, 48000, id="7.1: a worse close does not lower it"),
        pytest.param({"start": "100000", "distance": "3000", "best_close": "101000"}, 98000, id="7.1: 100K"),
        pytest.param({"start": "150000", "distance": "4500"}, 145500, id="7.1: 150K"),
        pytest.param({"start": "0"}, -2000, id="7.2: begins below zero"),
        pytest.param({"start": "0", "best_close": "1200"}, -800, id="7.2: trails"),
        pytest.param({"start": "0", "best_close": "2000"}, 0, id="7.2: locks at zero, as after a payout"),
        pytest.param({"stops_at": "50100", "best_close": "60000"}, 50100, id="stops elsewhere"),
    ],
)
def test_the_floor_follows_the_best_close_and_stops(settings: dict[str, str], expected: int) -> None:
    assert rule(**settings).floor(AccountState(desk().state.id)) == expected


def test_a_close_that_was_seen_moves_it_and_only_when_the_day_has_turned() -> None:
    account = desk()
    account.later(60).tell(record(account.now, account=account_row("51500")))
    assert floor(account) == 48000
    account.at("17:00").tell(record(account.now, account=account_row("51500")))
    assert floor(account) == 49500
    account.at("2025-01-16 17:00").tell(record(account.now, account=account_row("50500")))
    assert floor(account) == 49500


def test_of_what_is_set_and_what_was_seen_the_better_counts() -> None:
    assert floor(desk("51000", best_close="51500")) == 49500
    assert floor(desk("51800", best_close="51500")) == 49800


@given(st.lists(st.integers(48000, 54000), min_size=1, max_size=8))
def test_the_floor_never_falls_and_never_passes_where_it_stops(closes: list[int]) -> None:
    account, before = desk(), Decimal(48000)
    for day, balance in enumerate(closes, 16):
        account.at(f"2025-01-{day} 17:00").tell(record(account.now, account=account_row(str(balance))))
        assert before <= floor(account) <= 50000
        before = floor(account)
    assert before == min(Decimal(50000), 48000 + max(Decimal(0), Decimal(max(closes)) - 50000))


# reaching it


@pytest.mark.parametrize(
    ("settings", "dollars", "found_on"),
    [
        pytest.param({}, [-1996, -2000], 2, id="inclusive"),
        pytest.param({"cushion": "200"}, [-1796, -1800], 2, id="with a cushion"),
        pytest.param({"best_close": "51500"}, [-496, -500], 2, id="after a better close"),
    ],
)
def test_it_breaches_when_the_balance_with_what_is_open_reaches_the_floor(
    settings: dict[str, str], dollars: list[int], found_on: int
) -> None:
    account = desk(**settings)
    bought(account)
    assert [at(account, amount) for amount in dollars] == [n == found_on for n in range(1, len(dollars) + 1)]
    assert account.locked_until() == [RESET]


def test_the_breach_says_what_it_stood_on() -> None:
    account = desk(cushion="200")
    account.trade("-1000", size=0)
    bought(account)
    at(account, -800)
    (breach,) = account.told
    assert breach.decisions == (LockOut(RESET), Flatten())
    assert breach.reason == (
        "Maximum loss: $48,200.00 with what is open, floor $48,000.00 and a cushion of $200.00, "
        "locked until 2025-01-15 17:00 CST"
    )
    assert breach.figures == (
        ("balance", "$49,000.00"),
        ("open", "-$800.00"),
        ("floor", "$48,000.00"),
        ("cushion", "$200.00"),
    )
    assert not breach.on_record


def test_what_is_used_of_the_distance_is_shown_with_the_floor() -> None:
    account = desk(cushion="200")
    assert measured(account) == ("0.00 (floor $48,000.00)", "-1800.00", "1800.00")
    bought(account)
    at(account, -500)
    assert measured(account) == ("-500.00 (floor $48,000.00)", "-1800.00", "1300.00")


def test_a_winner_that_is_closed_counts_once_though_the_row_of_the_account_comes_later() -> None:
    account = desk("47900")
    assert len(account.told) == 1
    winning = desk("48100")
    bought(winning)
    at(winning, 400)
    winning.trade("400", size=2)
    hold(winning, 0)
    assert not winning.told
    winning.tell(AccountChanged(winning.now, account_row("48500")))
    assert measured(winning) == ("-1500.00 (floor $48,000.00)", "-2000.00", "500.00")


def test_a_loss_that_is_closed_counts_once_though_the_row_of_the_account_comes_first() -> None:
    account = desk("49000")
    bought(account)
    at(account, -600)
    account.tell(AccountChanged(account.now, account_row("48400")))
    assert not account.later(1).look().found
    account.trade("-600", size=2)
    hold(account, 0)
    assert not account.told


def test_a_payout_that_a_reading_shows_counts() -> None:
    account = desk("51000")
    account.later(60).tell(record(account.now, account=account_row("48000")))
    assert len(account.told) == 1


def test_the_day_after_it_is_locked_again_while_the_account_stands_there() -> None:
    account = desk("48100", cushion="200")
    account.later(1).look()
    account.at("17:00").tell(record(account.now, account=account_row("48100")))
    assert len(account.told) == 2
    assert account.locked_until() == [chicago("2025-01-16 17:00")]


@pytest.mark.parametrize(
    ("settings", "decisions"),
    [
        ({"lockout_until": "permanent"}, [(LockOut(None), Flatten())]),
        ({"enforcement": "close_all_positions"}, [(Flatten(),)]),
        ({"enforcement": "alert_only"}, [()]),
    ],
)
def test_what_it_does_is_as_set(settings: dict[str, str], decisions: list[Any]) -> None:
    account = desk(**settings)
    bought(account)
    at(account, -2000)
    assert [breach.decisions for breach in account.told] == decisions


# restarts, and what cannot be seen


def test_a_restart_keeps_the_best_close() -> None:
    account = desk("51500")
    account.state = awakened(decode(encode(account.state), AccountState))
    account.later(60).tell(record(account.now, account=account_row("50000")))
    account.tell(exposure(account.now))
    assert floor(account) == 49500


def test_without_a_price_nothing_is_guessed() -> None:
    account = desk()
    bought(account)
    assert measured(account) is None
    account.later(31)
    reason = account.book.rules[NAME].blind(account.state, account.now)
    assert reason == "no price to believe for MNQU5 (none has come), so the maximum loss is not judged"
    assert desk().book.rules[NAME].blind(desk().state, account.now) is None
    account.look()
    assert not account.told


# settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"start": "NaN"}, 'must be an amount, such as "50000"'),
        ({"distance": "0"}, "a loss is written as a positive amount"),
        ({"cushion": "-1"}, "must be an amount of zero or more"),
        ({"cushion": "2000"}, "must be less than distance, which is 2000, not 2000"),
        ({"best_close": "Infinity"}, "must be an amount, such as"),
        ({"stops_at": "Infinity"}, "must be an amount, such as"),
        ({"stops_at": "47999"}, "must be 48000 or more, where the floor begins, not 47999"),
    ],
)
def test_settings_that_make_no_floor_are_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rule(**settings)
