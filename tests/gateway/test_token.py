"""The token: read, refreshed ahead of its end, handed out meanwhile; and what a refused login tells a person."""

from __future__ import annotations

import base64
import json
import os
import traceback
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from attrs import define, field

from flatguard.errors import FlatguardError, GatewayUnreachable, LoginRefused, UnreadableAnswer
from flatguard.gateway.auth import LOGIN_REFUSALS, login_refused, validate
from flatguard.gateway.token import LOGINS_APART_S, REFUSED_PAUSE_S, WAIT_S, Phase, Token
from flatguard.secret import Secret
from tests.fakes.clock import TrioClock
from tests.fakes.memory_gateway import START, open_gateway

HOUR = 3600.0


def jwt(claims: object, *, serial: int = 0) -> str:
    """Return a token with these claims; ``serial`` makes it another one."""
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"head.{payload}.signature{serial}"


@define
class Broker:
    """Issues tokens of ``life`` and counts what it was asked. ``answering`` may fail, or take its time."""

    clock: TrioClock
    life: timedelta = timedelta(hours=24)
    logins: list[float] = field(factory=list)
    validations: list[float] = field(factory=list)
    on_login: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    on_validate: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
    claims: Callable[[datetime], object] = lambda exp: {"exp": int(exp.timestamp())}
    refreshes: bool = True

    def issue(self) -> Secret:
        serial = len(self.logins) + len(self.validations)
        return Secret(jwt(self.claims(self.clock.now() + self.life), serial=serial))

    async def log_in(self) -> Secret:
        self.logins.append(trio.current_time())
        await self.on_login()
        return self.issue()

    async def validate(self, text: Secret) -> Secret:
        self.validations.append(trio.current_time())
        await self.on_validate()
        return self.issue() if self.refreshes else text

    def token(self, **how: Any) -> Token:
        return Token(self.log_in, self.validate, self.clock, **how)


async def unreachable() -> None:
    await trio.lowlevel.checkpoint()
    raise GatewayUnreachable("no connection")


async def refused() -> None:
    await trio.lowlevel.checkpoint()
    raise LoginRefused("no")


# --- Reading it ---


async def test_the_end_is_read_from_the_token(autojump_clock: trio.abc.Clock) -> None:
    broker = Broker(TrioClock(START), life=timedelta(hours=5))
    token = broker.token()
    await token.current()
    assert token.expires_at == START + timedelta(hours=5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not a JWT",
        "a.b.c",
        "a.!!!!.c",
        "ä.ö.ü",
        jwt({}),
        jwt([]),
        jwt("exp"),
        jwt({"exp": "soon"}),
        jwt({"exp": None}),
        jwt({"exp": float("inf")}),
        jwt({"exp": float("nan")}),
        jwt({"exp": 10**30}),
        jwt({"exp": -(10**30)}),
        "a." + base64.urlsafe_b64encode(b"[" * 100_000).decode() + ".c",
        "a." + base64.urlsafe_b64encode(b"\xff\xfe").decode() + ".c",
    ],
    ids=range(16),
)
async def test_a_day_is_assumed_where_the_end_cannot_be_read(autojump_clock: trio.abc.Clock, text: str) -> None:
    async def log_in() -> Secret:
        await trio.lowlevel.checkpoint()
        return Secret(text)

    token = Token(log_in, Broker(TrioClock(START)).validate, TrioClock(START))
    assert (await token.current()).reveal() == text
    assert token.expires_at == START + timedelta(hours=24)


async def test_a_token_that_is_over_when_it_comes_says_that_our_clock_is_wrong(autojump_clock: trio.abc.Clock) -> None:
    broker = Broker(TrioClock(START), life=timedelta(hours=-1))
    token = broker.token()
    for _ in range(10):
        await token.current()
    assert len(broker.logins) == 1, "and not that a login is due with every request"
    assert token.expires_at == START + timedelta(hours=24)


async def test_a_clock_that_is_put_forward_by_days_costs_one_login(autojump_clock: trio.abc.Clock) -> None:
    broker = Broker(clock := TrioClock(START))
    ours = TrioClock(START)
    token = Token(broker.log_in, broker.validate, ours)
    await token.current()
    ours.ahead = timedelta(days=3)
    for _ in range(10):
        await token.current()
    assert len(broker.logins) == 2
    assert clock.ahead == timedelta(0)


# --- Handing it out ---


async def test_all_who_need_a_first_token_share_one_login(autojump_clock: trio.abc.Clock) -> None:
    broker = Broker(TrioClock(START), on_login=partial(trio.sleep, 3))
    token = broker.token()
    got: set[Secret] = set()

    async def take() -> None:
        got.add(await token.current())

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(take)
    assert len(broker.logins) == len(got) == 1


async def test_all_whose_token_was_refused_share_one_login(autojump_clock: trio.abc.Clock) -> None:
    broker = Broker(TrioClock(START), on_login=partial(trio.sleep, 3))
    token = broker.token()
    old = await token.current()
    got: set[Secret] = set()

    async def renew() -> None:
        got.add(await token.renewed(old))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(renew)
    assert len(broker.logins) == 2
    assert got == {await token.current()}
    assert old not in got


async def test_one_whose_token_was_refused_takes_the_one_that_came_meanwhile(autojump_clock: trio.abc.Clock) -> None:
    broker = Broker(TrioClock(START))
    token = broker.token()
    first = await token.current()
    second = await token.renewed(first)
    assert await token.renewed(first) == second != first
    assert len(broker.logins) == 2


async def test_a_token_that_is_over_by_our_clock_is_not_handed_out(autojump_clock: trio.abc.Clock) -> None:
    broker = Broker(TrioClock(START), life=timedelta(hours=1))
    token = broker.token()
    first = await token.current()
    await trio.sleep(HOUR - 1)
    assert await token.current() == first
    await trio.sleep(1)
    assert await token.current() != first


@pytest.mark.parametrize(("failure", "kind"), [(unreachable, GatewayUnreachable), (refused, LoginRefused)])
async def test_a_login_that_fails_is_told_and_tried_again_by_the_next(
    autojump_clock: trio.abc.Clock, failure: Callable[[], Awaitable[None]], kind: type[FlatguardError]
) -> None:
    broker = Broker(TrioClock(START), on_login=failure)
    token = broker.token()
    with pytest.raises(kind):
        await token.current()
    broker.on_login = trio.lowlevel.checkpoint
    await trio.sleep(REFUSED_PAUSE_S)
    assert await token.current()


async def test_a_cancelled_login_leaves_nothing_locked(autojump_clock: trio.abc.Clock) -> None:
    broker = Broker(TrioClock(START), on_login=trio.sleep_forever)
    token = broker.token()
    with trio.move_on_after(1) as patience:
        await token.current()
    assert patience.cancelled_caught
    broker.on_login = trio.lowlevel.checkpoint
    assert await token.current()


# --- Keeping it fresh ---


@pytest.mark.parametrize(
    ("life_h", "after_h"), [(24, 22), (12, 10), (5, 3), (4, 2), (3, 1.5), (1, 0.5), (0.1, 0.05)], ids=str
)
async def test_it_is_refreshed_two_hours_ahead_or_at_half_of_a_short_life(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery, life_h: float, after_h: float
) -> None:
    broker = Broker(TrioClock(START), life=timedelta(hours=life_h))
    token = broker.token()
    await token.current()
    began = trio.current_time()
    nursery.start_soon(token.keep_fresh)
    await trio.sleep(2.5 * after_h * HOUR)
    assert [at - began for at in broker.validations] == pytest.approx([after_h * HOUR, 2 * after_h * HOUR], abs=2)
    assert len(broker.logins) == 1


async def test_the_first_token_is_fetched_by_a_login_and_nothing_else(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    broker = Broker(TrioClock(START))
    nursery.start_soon(broker.token().keep_fresh)
    await trio.sleep(1)
    assert (len(broker.logins), broker.validations) == (1, [])


async def test_callers_keep_the_valid_token_while_it_is_refreshed(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    broker = Broker(TrioClock(START), on_validate=partial(trio.sleep, 12))
    token = broker.token()
    old = await token.current()
    nursery.start_soon(token.keep_fresh)
    await trio.sleep(22 * HOUR + 6)
    assert len(broker.validations) == 1
    with trio.fail_after(0):
        assert await token.current() == old
    await trio.sleep(7)
    assert await token.current() != old


async def test_one_whose_token_is_refused_during_a_refresh_waits_for_it(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    broker = Broker(TrioClock(START), on_validate=partial(trio.sleep, 4))
    token = broker.token()
    old = await token.current()
    nursery.start_soon(token.keep_fresh)
    await trio.sleep(22 * HOUR + 1)
    assert await token.renewed(old) != old
    assert len(broker.logins) == 1


@pytest.mark.parametrize("how", ["it fails", "it gives no other token"])
async def test_a_validation_that_does_not_help_leads_to_a_login(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery, how: str
) -> None:
    broker = Broker(TrioClock(START), refreshes=False)
    if how == "it fails":
        broker.on_validate = unreachable
    token = broker.token()
    old = await token.current()
    nursery.start_soon(token.keep_fresh)
    await trio.sleep(22 * HOUR + 1)
    assert (len(broker.validations), len(broker.logins)) == (1, 2)
    assert await token.current() != old
    assert token.expires_at is not None
    assert token.expires_at >= START + timedelta(hours=46)


async def test_a_refresh_that_fails_is_tried_again_after_1_5_15_and_then_every_60_seconds(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    broker = Broker(TrioClock(START))
    token = broker.token()
    old = await token.current()
    broker.on_validate = broker.on_login = unreachable
    nursery.start_soon(token.keep_fresh)
    await trio.sleep(22 * HOUR + 250)
    pauses = [b - a for a, b in zip(broker.validations, broker.validations[1:], strict=False)]
    assert pauses == pytest.approx([1, 5, 15, 60, 60, 60])
    assert await token.current() == old
    broker.on_validate = broker.on_login = trio.lowlevel.checkpoint
    await trio.sleep(60)
    assert await token.current() != old
    count = len(broker.validations)
    await trio.sleep(21 * HOUR)
    assert len(broker.validations) == count, "after a success the schedule starts over"


async def test_a_login_that_is_refused_meanwhile_does_not_end_the_refreshing(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    broker = Broker(TrioClock(START))
    token = broker.token()
    await token.current()
    broker.on_validate, broker.on_login = unreachable, refused
    nursery.start_soon(token.keep_fresh)
    await trio.sleep(23 * HOUR)
    broker.on_login = trio.lowlevel.checkpoint
    await trio.sleep(REFUSED_PAUSE_S + 1)
    assert token.expires_at is not None
    assert token.expires_at > START + timedelta(hours=40)


async def test_no_refused_token_reaches_a_caller_in_three_days(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.nursery.start_soon(gateway.token.keep_fresh)
        for _ in range(3 * 24 * 6):
            await gateway.reading.accounts()
            await trio.sleep(600)
        statuses = [entry["outcome"]["status"] for entry in gateway.requests()]
        assert set(statuses) == {200}
        assert len(gateway.requests("/api/Auth/loginKey")) == 1
        assert len(gateway.requests("/api/Auth/validate")) == 3


async def test_a_day_without_validation_costs_one_login_more(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.fault("http_500", target="/api/Auth/validate")
        gateway.nursery.start_soon(gateway.token.keep_fresh)
        for _ in range(26):
            await gateway.reading.accounts()
            await trio.sleep(HOUR)
        assert len(gateway.requests("/api/Auth/loginKey")) == 2
        assert not [entry for entry in gateway.requests() if entry["outcome"].get("status") == 401]


# --- One attempt for all, and its limits ---


async def test_all_who_wait_share_the_failure_of_one_login(autojump_clock: trio.abc.Clock) -> None:
    """One after the other they would each wait for their own, and the last one for all of them."""

    async def slow_failure() -> None:
        await trio.sleep(4)
        raise GatewayUnreachable("no connection", hint="wait")

    broker = Broker(TrioClock(START), on_login=slow_failure)
    token = broker.token()
    failures: list[FlatguardError] = []

    async def take() -> None:
        with pytest.raises(GatewayUnreachable, match="no connection") as caught:
            await token.current()
        failures.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(take)
    assert trio.current_time() == pytest.approx(4)
    assert len(broker.logins) == 1
    assert len({id(failure) for failure in failures}) == 20
    assert {failure.hint for failure in failures} == {"wait"}


async def test_nobody_waits_longer_than_five_seconds_for_a_token(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    broker = Broker(TrioClock(START))
    token = broker.token()
    await token.current()
    broker.on_validate = broker.on_login = partial(trio.sleep, 100)
    nursery.start_soon(token.keep_fresh)
    await trio.sleep(22 * HOUR + 50)
    began = trio.current_time()
    with pytest.raises(GatewayUnreachable, match="within 5 s"):
        await token.renewed(await token.current())
    assert trio.current_time() - began == WAIT_S == 5


async def test_where_the_one_who_logs_in_is_cancelled_another_does_it(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    broker = Broker(TrioClock(START), on_login=partial(trio.sleep, 2))
    token = broker.token()
    first = trio.CancelScope()

    async def begin() -> None:
        with first:
            await token.current()

    nursery.start_soon(begin)
    await trio.sleep(1)
    got: list[Secret] = []

    async def wait() -> None:
        got.append(await token.current())

    async with trio.open_nursery() as waiting:
        waiting.start_soon(wait)
        waiting.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
    assert len(broker.logins) == 2
    assert got[0] == got[1]


async def test_a_validation_that_gives_no_longer_life_leads_to_a_login(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    broker = Broker(clock := TrioClock(START))
    token = broker.token()
    await token.current()
    end = token.expires_at
    broker.life = timedelta(hours=2)  # what a broker gives that hands out the rest of the session

    async def longer() -> None:
        await trio.lowlevel.checkpoint()
        broker.life = timedelta(hours=24)

    broker.on_login = longer
    nursery.start_soon(token.keep_fresh)
    await trio.sleep(22 * HOUR + 1)
    assert (len(broker.validations), len(broker.logins)) == (1, 2)
    assert end is not None
    assert token.expires_at is not None
    assert token.expires_at > end
    assert clock.now() < end


async def test_a_hundred_reads_whose_token_is_refused_at_once_cost_one_login() -> None:
    async with open_gateway() as gateway:
        gateway.double.gateway.tokens.end(await gateway.bearer())
        async with trio.open_nursery() as nursery:
            for _ in range(14):
                nursery.start_soon(gateway.reading.accounts)
        statuses = [entry["outcome"]["status"] for entry in gateway.requests("/api/Account/search")]
        assert (statuses.count(401), statuses.count(200)) == (14, 14)
        assert len(gateway.requests("/api/Auth/loginKey")) == 2


async def test_a_clock_that_jumps_over_the_end_is_noticed(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    """A machine that slept does not count the hours, and wakes with a token that is over."""
    broker, ours = Broker(TrioClock(START)), TrioClock(START)
    token = Token(broker.log_in, broker.validate, ours)
    await token.current()
    nursery.start_soon(token.keep_fresh)
    await trio.sleep(HOUR)
    ours.ahead = timedelta(hours=22)
    await trio.sleep(301)
    assert len(broker.validations) == 1


# --- A login that is refused although there was a token ---


async def test_a_refused_login_is_told_once_and_stays_in_the_state_until_it_is_accepted(
    autojump_clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    broker, told = Broker(TrioClock(START)), list[str]()
    token = broker.token(tell=told.append)
    old = await token.current()
    broker.on_validate, broker.on_login = unreachable, refused
    nursery.start_soon(token.keep_fresh)
    await trio.sleep(22 * HOUR + 1)
    assert str(token.state) == "LOGIN_REFUSED until 2026-11-19T15:00:00Z: no"
    assert await token.current() == old, "what we hold is good still"
    for _ in range(10):
        with pytest.raises(LoginRefused, match="no"):
            await token.renewed(old)
    assert len(broker.logins) == 2, "nobody knocks again for a while"
    await trio.sleep(HOUR)
    assert len(broker.logins) == 2 + HOUR // REFUSED_PAUSE_S
    assert len(told) == 1
    assert told[0].startswith("LOGIN_REFUSED: no; ")
    assert "the token in hand is good until 15:00 UTC, and the login is tried every 5 minutes" in told[0]
    await trio.sleep(HOUR)
    with pytest.raises(LoginRefused):
        await token.current()
    assert token.state.phase is Phase.LOGIN_REFUSED
    broker.on_login = trio.lowlevel.checkpoint
    await trio.sleep(REFUSED_PAUSE_S)
    assert await token.current() != old
    assert token.state.phase is Phase.VALID
    assert told[1:] == ["the gateway accepts the login again"]


async def test_the_first_login_is_not_told_when_it_is_refused_but_raised(autojump_clock: trio.abc.Clock) -> None:
    told: list[str] = []
    token = Broker(TrioClock(START), on_login=refused).token(tell=told.append)
    with pytest.raises(LoginRefused):
        await token.current()
    assert told == []


async def test_the_state_says_how_it_stands(autojump_clock: trio.abc.Clock, nursery: trio.Nursery) -> None:
    broker = Broker(TrioClock(START), life=timedelta(hours=1), on_login=partial(trio.sleep, 1))
    token = broker.token()
    assert str(token.state) == "expired"
    await token.current()
    assert str(token.state) == "valid until 2026-11-18T16:00:01Z"
    nursery.start_soon(token.keep_fresh)
    broker.on_validate = partial(trio.sleep, 3)
    await trio.sleep(HOUR / 2 + 1)
    assert str(token.state) == "refreshing until 2026-11-18T16:00:01Z"
    await trio.sleep(4)
    assert token.state.phase is Phase.VALID
    broker.on_validate = broker.on_login = unreachable
    await trio.sleep(HOUR / 2 + 1)
    assert str(token.state) == "refreshing until 2026-11-18T16:30:04Z: no connection"
    await trio.sleep(HOUR / 2)
    assert str(token.state) == "expired since 2026-11-18T16:30:04Z: no connection"


# --- A token of an earlier run ---


@pytest.mark.parametrize("refreshes", [True, False], ids=["a new one", "the same one"])
async def test_a_stored_token_is_validated_and_used_instead_of_a_login(
    autojump_clock: trio.abc.Clock, refreshes: bool
) -> None:
    broker = Broker(TrioClock(START), refreshes=refreshes)
    stored = broker.issue()
    broker.logins.clear()
    token = broker.token(stored=stored)
    assert (await token.current() == stored) is not refreshes or refreshes
    assert (len(broker.validations), len(broker.logins)) == (1, 0)


async def test_a_stored_token_that_the_broker_does_not_know_leads_to_a_login(autojump_clock: trio.abc.Clock) -> None:
    async def unknown() -> None:
        await trio.lowlevel.checkpoint()
        raise UnreadableAnswer("the token was not validated (code 2)")

    broker = Broker(TrioClock(START), on_validate=unknown)
    token = broker.token(stored=Secret("stored"))
    await token.current()
    assert (len(broker.validations), len(broker.logins)) == (1, 1)
    await token.renewed(await token.current())
    assert len(broker.validations) == 1, "it is not asked about again"


async def test_a_stored_token_waits_for_a_gateway_that_does_not_answer(autojump_clock: trio.abc.Clock) -> None:
    broker = Broker(TrioClock(START), on_validate=unreachable)
    token = broker.token(stored=Secret("stored"))
    with pytest.raises(GatewayUnreachable):
        await token.current()
    broker.on_validate = trio.lowlevel.checkpoint
    await token.current()
    assert (len(broker.validations), len(broker.logins)) == (2, 0)


# --- Showing nothing ---


async def test_nothing_that_can_be_printed_of_it_shows_the_token(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        text = await gateway.bearer()
        gateway.token.stored = Secret(text)
        shown = [repr(gateway.token), str(gateway.token.state), repr(gateway.reading)]
        for path, key in (("/api/Auth/loginKey", "token"), ("/api/Auth/validate", "newToken")):
            gateway.instead(path, json.dumps({key: text, "success": False, "errorCode": 77}))
        for call in (
            gateway.log_in,
            lambda: validate(gateway.http, Secret(text)),
            lambda: gateway.token.renewed(Secret(text)),
        ):
            with pytest.raises(FlatguardError) as caught:
                await call()
            lines = traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
            # the frames of this test and of its fakes know the token by its name
            shown += [line for line in lines if f"{os.sep}flatguard{os.sep}" in line.partition("\n")[0]]
        assert len(shown) >= 10
        for secret in (text, text.split(".")[1], text.split(".")[2], gateway.api_key):
            assert not [line for line in shown if secret in line]


# --- What a refused login tells ---


@pytest.mark.parametrize("code", LOGIN_REFUSALS)
def test_every_refused_login_says_why_and_what_to_do(code: int) -> None:
    error = login_refused(code, "")
    assert str(error).startswith("the gateway refused the login: ")
    assert error.hint
    assert error.exit_status == 4


@pytest.mark.parametrize(
    ("code", "reason", "hint"),
    [
        (1, "user name", "user_name"),
        (3, "API key", "key"),
        (7, "agreements", "log in to the platform"),
        (9, "subscription", "subscribe"),
        (10, "switched off", "firm"),
    ],
)
def test_the_usual_refusals_name_what_a_person_can_mend(code: int, reason: str, hint: str) -> None:
    error = login_refused(code, "")
    assert reason in str(error)
    assert hint in error.hint


def test_the_brokers_own_words_stand_behind_ours() -> None:
    text = "Please log in and complete the agreements."
    assert str(login_refused(7, text)).endswith(f"are not signed ({text})")


def test_an_unknown_error_at_login_is_no_refusal() -> None:
    assert LOGIN_REFUSALS.keys() == {1, 2, 3, 4, 5, 6, 7, 9, 10}, "8 is an unknown error, which passes"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"token":null,"success":false,"errorCode":3,"errorMessage":null}', LoginRefused),
        ('{"token":"abc","success":false,"errorCode":3,"errorMessage":null}', LoginRefused),
        ('{"token":null,"success":false,"errorCode":8,"errorMessage":null}', GatewayUnreachable),
        ('{"token":null,"success":false,"errorCode":11,"errorMessage":"New"}', UnreadableAnswer),
        ('{"token":null,"success":false,"errorCode":0,"errorMessage":null}', UnreadableAnswer),
        ('{"token":null,"success":true,"errorCode":0,"errorMessage":null}', UnreadableAnswer),
        ('{"token":"","success":true,"errorCode":0,"errorMessage":null}', UnreadableAnswer),
        ('{"token":5,"success":true,"errorCode":0,"errorMessage":null}', UnreadableAnswer),
        ('{"token":"abc","success":true,"errorCode":3,"errorMessage":null}', UnreadableAnswer),
        ('{"token":"two words","success":true,"errorCode":0}', UnreadableAnswer),
        ('{"token":"line\\nbreak","success":true,"errorCode":0}', UnreadableAnswer),
        ('{"token":"schlüssel","success":true,"errorCode":0}', UnreadableAnswer),
        ("{}", UnreadableAnswer),
        ("[]", UnreadableAnswer),
        ("<html>", UnreadableAnswer),
    ],
)
async def test_only_a_documented_refusal_is_taken_for_one(
    autojump_clock: trio.abc.Clock, body: str, error: type[FlatguardError]
) -> None:
    async with open_gateway() as gateway:
        gateway.instead("/api/Auth/loginKey", body)
        with pytest.raises(error):
            await gateway.log_in()


async def test_a_wrong_key_is_a_refused_login_and_is_not_shown(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(api_key="hunter2-hunter2") as gateway:
        gateway.instead(
            "/api/Auth/loginKey",
            '{"token":null,"success":false,"errorCode":3,"errorMessage":"the key hunter2-hunter2 is not known"}',
        )
        with pytest.raises(LoginRefused) as caught:
            await gateway.log_in()
        assert "hunter2" not in str(caught.value)
        assert "is not known" in str(caught.value)


async def test_a_login_goes_through_and_a_wrong_key_does_not(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        assert (await gateway.log_in()).reveal().count(".") == 2
    async with open_gateway(api_key="wrong") as gateway:
        with pytest.raises(LoginRefused, match="user name or the API key"):
            await gateway.log_in()


async def test_a_gateway_that_turns_every_request_away_is_not_logged_in_to_with_each(
    autojump_clock: trio.abc.Clock,
) -> None:
    broker = Broker(TrioClock(START))
    token = broker.token()
    refused = await token.current()
    for _ in range(100):
        refused = await token.renewed(refused)
        await trio.sleep(1)
    assert len(broker.logins) <= 1 + 100 / LOGINS_APART_S


@pytest.mark.parametrize(
    ("answer", "holds"), [(None, True), (GatewayUnreachable("away"), True), (UnreadableAnswer("no"), False)]
)
async def test_a_session_holds_unless_the_broker_says_no(
    autojump_clock: trio.abc.Clock, answer: Exception | None, holds: bool
) -> None:
    broker = Broker(TrioClock(START))

    async def validate(secret: Secret) -> Secret:
        await trio.lowlevel.checkpoint()
        if answer is not None:
            raise answer
        return secret

    token = Token(broker.log_in, validate, TrioClock(START))
    assert await token.holds(await token.current()) is holds
