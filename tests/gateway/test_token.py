"""The token: read, refreshed ahead of its end, handed out meanwhile; and what a refused login tells a person."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial

import pytest
import trio
from attrs import define, field

from flatguard.errors import FlatguardError, GatewayUnreachable, LoginRefused, UnreadableAnswer
from flatguard.gateway.token import LOGIN_REFUSALS, Token, login_refused
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

    def issue(self) -> str:
        serial = len(self.logins) + len(self.validations)
        return jwt(self.claims(self.clock.now() + self.life), serial=serial)

    async def log_in(self) -> str:
        self.logins.append(trio.current_time())
        await self.on_login()
        return self.issue()

    async def validate(self, text: str) -> str:
        self.validations.append(trio.current_time())
        await self.on_validate()
        return self.issue() if self.refreshes else text

    def token(self) -> Token:
        return Token(self.log_in, self.validate, self.clock)


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
    async def log_in() -> str:
        await trio.lowlevel.checkpoint()
        return text

    token = Token(log_in, Broker(TrioClock(START)).validate, TrioClock(START))
    assert await token.current() == text
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
    got: set[str] = set()

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
    got: set[str] = set()

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
    await trio.sleep(61)
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
        assert (await gateway.log_in()).count(".") == 2
    async with open_gateway(api_key="wrong") as gateway:
        with pytest.raises(LoginRefused, match="user name or the API key"):
            await gateway.log_in()
