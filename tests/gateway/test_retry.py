"""Routine calls are repeated while the gateway does not answer, and left alone where that does not help."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from flatguard.errors import FlatguardError, GatewayUnreachable, LoginRefused, UnreadableAnswer
from flatguard.gateway.allowance import Lane
from flatguard.gateway.breaker import FAILURES, OPEN_S, PROBES
from flatguard.gateway.http import NoAnswer, NotSent
from flatguard.gateway.retry import ATTEMPTS, LONGEST_S, NotAsked, Patience, pause_s
from flatguard.gateway.verdict import ReadingRefused, TooManyRequests
from flatguard.model.trading import OrderQuery
from tests.fakes.chance import Edge
from tests.fakes.memory_gateway import open_gateway
from tests.gateway.test_rest import ACTS, LOGIN, READINGS

UNWELL = [NotSent("x"), NoAnswer("x"), GatewayUnreachable("the gateway answered with HTTP status 503")]
NOT_UNWELL = [ReadingRefused("x", 1), UnreadableAnswer("the gateway answered with HTTP status 401"), LoginRefused("x")]
ROUTINE = {
    "/api/Contract/available",
    "/api/Contract/search",
    "/api/Contract/searchById",
    "/api/History/retrieveBars",
    "/api/Order/search",
}
"""Paths that only routine calls have; ``orders`` and ``past_trades`` share theirs with the picture."""


def patience(edge: str = "highest") -> Patience:
    return Patience(Edge(edge))


class Script:
    """A call that fails as told and then answers, and the moments at which it was made."""

    def __init__(self, *failures: FlatguardError) -> None:
        self.failures = list(failures)
        self.made: list[float] = []

    async def __call__(self) -> str:
        await trio.lowlevel.checkpoint()
        self.made.append(trio.current_time())
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    @property
    def pauses(self) -> list[float]:
        return [after - before for before, after in zip(self.made, self.made[1:], strict=False)]


async def try_to(call: Callable[[], Awaitable[object]]) -> FlatguardError | None:
    try:
        await call()
    except FlatguardError as error:
        return error
    return None


# --- Asking again ---


@pytest.mark.parametrize("error", UNWELL, ids=lambda error: type(error).__name__)
async def test_a_call_is_made_five_times_with_pauses_that_double(
    autojump_clock: trio.abc.Clock, error: FlatguardError
) -> None:
    call = Script(*[error] * ATTEMPTS)
    with pytest.raises(type(error)):
        await patience().ask(call)
    assert call.pauses == [1, 2, 4, 8]


async def test_an_answer_ends_it(autojump_clock: trio.abc.Clock) -> None:
    call = Script(*UNWELL)
    assert await patience().ask(call) == "answer"
    assert len(call.made) == 4


@pytest.mark.parametrize("error", NOT_UNWELL, ids=lambda error: type(error).__name__)
async def test_what_asking_again_does_not_mend_is_asked_once(
    autojump_clock: trio.abc.Clock, error: FlatguardError
) -> None:
    call = Script(error)
    with pytest.raises(type(error)):
        await patience().ask(call)
    assert len(call.made) == 1


async def test_a_wait_that_was_asked_for_is_kept(autojump_clock: trio.abc.Clock) -> None:
    call = Script(TooManyRequests("x", 17.0), TooManyRequests("x", None), TooManyRequests("x", 1.0))
    assert await patience().ask(call) == "answer"
    assert call.pauses == [17, 2, 4], "and one that is shorter than ours does not shorten it"


async def test_a_wait_of_more_than_a_minute_is_not_waited_for(autojump_clock: trio.abc.Clock) -> None:
    call = Script(TooManyRequests("x", LONGEST_S + 1))
    with pytest.raises(TooManyRequests):
        await patience().ask(call)
    assert len(call.made) == 1


@given(st.integers(1, 40), st.integers())
def test_a_pause_is_drawn_from_nothing_to_its_bound(failures: int, seed: int) -> None:
    assert 0 <= pause_s(failures, Random(seed)) <= min(LONGEST_S, 2 ** (failures - 1))


@pytest.mark.parametrize(("edge", "seconds"), [("lowest", 0), ("middle", 30), ("highest", LONGEST_S)])
def test_the_whole_of_a_pause_is_jitter(edge: str, seconds: float) -> None:
    assert pause_s(20, Edge(edge)) == seconds


async def test_a_cancel_between_two_calls_ends_it_and_frees_its_probe(autojump_clock: trio.abc.Clock) -> None:
    waiting = patience()
    with trio.move_on_after(0.5):
        await waiting.ask(Script(*UNWELL))
    assert waiting.breaker.failures == 1

    async def never() -> None:
        await trio.sleep_forever()

    while waiting.breaker.state(trio.current_time()) == "closed":
        await try_to(lambda: waiting.ask(Script(*[UNWELL[0]] * ATTEMPTS)))
    await trio.sleep(OPEN_S)
    for _ in range(2 * PROBES):
        with trio.move_on_after(1):
            await waiting.ask(never)
    assert await waiting.ask(Script()) == "answer"


# --- The breaker in front of it ---


async def test_what_fails_for_long_is_not_asked_for_a_minute_and_then_probed(autojump_clock: trio.abc.Clock) -> None:
    waiting = patience()
    assert isinstance(await try_to(lambda: waiting.ask(Script(*[UNWELL[0]] * ATTEMPTS))), NotSent)
    began, untried = trio.current_time(), Script()
    with pytest.raises(NotAsked):
        await waiting.ask(untried)
    assert (untried.made, trio.current_time()) == ([], began), "it says so at once"
    assert waiting.breaker.statistics(began).open_until == began + OPEN_S
    await trio.sleep(OPEN_S)
    for _ in range(PROBES):
        assert waiting.breaker.state(trio.current_time()) == "half-open"
        assert await waiting.ask(Script()) == "answer"
    assert waiting.breaker.state(trio.current_time()) == "closed"


async def test_a_probe_that_fails_ends_the_repeating_too(autojump_clock: trio.abc.Clock) -> None:
    waiting = patience()
    await try_to(lambda: waiting.ask(Script(*[UNWELL[0]] * ATTEMPTS)))
    await trio.sleep(OPEN_S)
    probe = Script(*[UNWELL[0]] * ATTEMPTS)
    with pytest.raises(NotAsked):
        await waiting.ask(probe)
    assert len(probe.made) == 1


@pytest.mark.parametrize(
    "error", [*NOT_UNWELL, TooManyRequests("x", LONGEST_S + 1)], ids=lambda error: type(error).__name__
)
async def test_answers_that_say_no_do_not_open_it(autojump_clock: trio.abc.Clock, error: FlatguardError) -> None:
    waiting = patience()
    for _ in range(3 * FAILURES):
        await try_to(lambda: waiting.ask(Script(error)))
    assert waiting.breaker.state(trio.current_time()) == "closed"


async def test_a_code_is_an_answer_and_clears_the_count(autojump_clock: trio.abc.Clock) -> None:
    waiting = patience()
    await try_to(lambda: waiting.ask(Script(*UNWELL, ReadingRefused("x", 1))))
    assert waiting.breaker.failures == 0


# --- With the double ---


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
async def test_a_contract_is_asked_for_until_it_is_told(autojump_clock: trio.abc.Clock, status: int) -> None:
    async with open_gateway() as gateway:
        looking, path = gateway.gateway(Lane.ROUTINE, patience()), "/api/Contract/searchById"
        gateway.instead(path, "", status=status)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(looking.contract, "CON.F.US.MNQ.Z26")
            await trio.sleep(2)
            gateway.heal()
        assert len(gateway.requests(path)) == 3


@pytest.mark.parametrize("path", sorted(READINGS))
async def test_only_routine_calls_are_repeated_and_pass_the_breaker(autojump_clock: trio.abc.Clock, path: str) -> None:
    async with open_gateway() as gateway:
        await gateway.token.current()
        gateway.reading.patience = patience()
        gateway.fault("http_500", target=path)
        await try_to(lambda: READINGS[path](gateway))
        assert len(gateway.requests(path)) == (ATTEMPTS if path in ROUTINE else 1)
        assert gateway.reading.patience.breaker.failures == (ATTEMPTS if path in ROUTINE else 0)
        gateway.heal()
        while gateway.reading.patience.breaker.state(trio.current_time()) == "closed":
            ticket = gateway.reading.patience.breaker.admit(trio.current_time())
            assert ticket is not None
            gateway.reading.patience.breaker.failed(ticket, trio.current_time())
        failed = await try_to(lambda: READINGS[path](gateway))
        assert isinstance(failed, NotAsked) == (path in ROUTINE)


async def test_searches_of_the_past_are_repeated_where_the_same_readings_of_the_picture_are_not(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_gateway() as gateway:
        looking = gateway.gateway(Lane.ROUTINE, patience())
        began = gateway.clock.now()
        await gateway.token.current()
        gateway.fault("http_500")
        await try_to(lambda: looking.past_trades(gateway.account_id, began, began))
        assert len(gateway.requests("/api/Trade/search")) == ATTEMPTS
        looking.patience = patience()
        await try_to(lambda: looking.orders(gateway.account_id, OrderQuery()))
        assert len(gateway.requests("/api/Order/v2/query")) == ATTEMPTS


@pytest.mark.parametrize("path", sorted(ACTS))
async def test_no_breaker_stands_before_enforcement_or_the_token(autojump_clock: trio.abc.Clock, path: str) -> None:
    async with open_gateway() as gateway:
        gateway.acting.patience = patience()
        gateway.fault("http_500", target=LOGIN, count=2 * FAILURES)
        for _ in range(2 * FAILURES):
            await ACTS[path](gateway)
        assert len(gateway.requests(LOGIN)) == 2 * FAILURES
        gateway.fault("http_500", target=path, count=2 * FAILURES)
        for _ in range(2 * FAILURES):
            await ACTS[path](gateway)
        assert len(gateway.requests(path)) == 2 * FAILURES
        await ACTS[path](gateway)
        assert gateway.requests(path)[-1]["outcome"]["status"] == 200
        assert gateway.acting.patience.breaker.failures == 0
