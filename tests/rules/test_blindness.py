"""Blindness: when it counts, from when, what is closed after it and what is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flatguard.model.decisions import Flatten
from flatguard.model.events import Hub, LinkDown, LinkUp, ReadingFailed
from flatguard.rules.blindness import NAME, Blindness
from tests.fakes.desk import ACCOUNT, MNQ, RTY, Desk, exposure, order, position


def desk(**settings: Any) -> Desk:
    account = Desk({NAME: Blindness(**settings)})
    account.tell(LinkUp(account.now, Hub.USER))
    account.hold(MNQ, 2)
    return account


def go_blind(account: Desk) -> Desk:
    """The hub is lost, and three seconds later a reading fails."""
    account.tell(LinkDown(account.later(1).now, Hub.USER, "cut"))
    account.tell(ReadingFailed(account.later(3).now, ACCOUNT, "no answer"))
    return account


def test_it_is_told_at_the_moment_that_it_has_lasted_so_long() -> None:
    account = go_blind(desk(after_s=60))
    moment = account.book.next_moment(account.state, account.now)
    assert moment == account.now - timedelta(seconds=3) + timedelta(seconds=60)
    assert account.later(56.9).look().found == ()
    [breach] = account.later(0.1).look().found
    assert breach.reason == "Nothing could be seen of the account for 60 s, since 16:00:02 UTC"
    assert dict(breach.figures)["the gateway"] == "no answer"
    assert dict(breach.figures)["the user hub"] == "cut"
    assert breach.decisions == ()
    assert account.later(30).look().found == ()  # one breach for all of it


@pytest.mark.parametrize("way", ["hub", "rest"])
def test_one_way_to_see_is_enough(way: str) -> None:
    account = desk(after_s=60, enforcement="close_all_positions")
    if way == "hub":
        account.tell(ReadingFailed(account.later(1).now, ACCOUNT, "no answer"))
    else:
        account.tell(LinkDown(account.later(1).now, Hub.USER, "cut"))
    for _ in range(20):
        if way == "rest":
            account.tell(exposure(account.later(5).now, [position(MNQ, 2)]))
        assert account.later(5).look().found == ()
    assert account.told == []


@pytest.mark.parametrize("first", ["hub", "rest"])
def test_what_was_open_meanwhile_is_closed_when_the_account_is_seen_again(first: str) -> None:
    account = go_blind(desk(after_s=60, enforcement="close_all_positions"))
    [breach] = account.later(57).look().found
    assert breach.decisions == (Flatten(),)
    if first == "hub":
        account.tell(LinkUp(account.later(9).now, Hub.USER))
    seen = account.tell(exposure(account.later(1).now, [position(MNQ, 2)]))
    assert NAME in account.state.breached  # still standing, so enforcement goes on
    assert seen.cleared == ()
    account.hold(MNQ, 0)
    assert account.last.cleared == (NAME,)


def test_what_is_opened_later_is_left_alone() -> None:
    account = go_blind(desk(after_s=60, enforcement="close_all_positions"))
    account.later(57).look()
    account.tell(exposure(account.later(9).now, [position(MNQ, 2)]))
    account.tell(LinkUp(account.now, Hub.USER))
    account.hold(MNQ, 0)
    account.hold(RTY, 1)
    assert account.last.found == ()
    assert NAME not in account.state.breached


def test_an_order_that_rested_meanwhile_is_cancelled() -> None:
    account = go_blind(desk(after_s=60, enforcement="close_all_positions"))
    account.later(57).look()
    account.tell(exposure(account.later(9).now, [], [order(7, MNQ)]))
    account.tell(exposure(account.later(1).now, [], [order(7, MNQ)]))
    assert account.state.positions == {}
    assert NAME in account.state.breached


def test_a_short_blindness_is_nothing() -> None:
    account = go_blind(desk(after_s=60, enforcement="close_all_positions"))
    account.tell(exposure(account.later(30).now, [position(MNQ, 2)]))
    account.later(60).look()
    assert account.told == []


def test_alert_only_ends_with_the_blindness() -> None:
    account = go_blind(desk(after_s=60))
    account.later(57).look()
    assert account.tell(exposure(account.later(9).now, [position(MNQ, 2)])).cleared == (NAME,)


def test_it_shows_how_long_it_has_lasted() -> None:
    account = desk(after_s=60)
    rule = account.book.rules[NAME]
    assert rule.measure(account.state, account.now) is None
    go_blind(account)
    assert rule.measure(account.state, account.later(17).now).texts == ("20 s", "60 s", "40 s")
    assert rule.judge_again_at(desk().state) is None
