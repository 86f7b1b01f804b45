"""The HTTP client: what its answers carry, how each failure is called, and that nothing jams it for good."""

from __future__ import annotations

import logging
import random
import ssl
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import httpcore
import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from flatguard.gateway import http as http_module
from flatguard.gateway.http import CONNECT_S, CONNECTIONS, HARD_CAP_S, READ_S, Answer, HttpClient, NoAnswer, NotSent
from tests.fakes.plain_http import Behave, PlainServer, anonymous, reply, serve_requests

DATE = "Wed, 18 Mar 2026 14:30:00 GMT"
AT = datetime(2026, 3, 18, 14, 30, tzinfo=UTC)
SECRET = "Bearer eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.s3cr3t"
HEADERS = {"authorization": SECRET, "content-type": "application/json"}
ADDRESS = "http://gateway"

Serve = Callable[[Behave], tuple[PlainServer, HttpClient]]


@pytest.fixture
def serve(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Give a server that behaves as told, and a client of it with the limits that the daemon has."""

    def start(behave: Behave) -> tuple[PlainServer, HttpClient]:
        server = PlainServer(nursery, behave)
        server.takes_over(monkeypatch)
        return server, HttpClient(ADDRESS)

    return start


def saying(
    *pieces: bytes, after: float = 0.0, then: Callable[[trio.abc.Stream], Awaitable[None]] | None = None
) -> Behave:
    """Answer with ``pieces``, each ``after`` so many seconds, and ``then`` do something else."""

    async def behave(stream: trio.abc.Stream, request: bytes) -> None:
        for piece in pieces:
            await trio.sleep(after)
            await stream.send_all(piece)
        if then is not None:
            await then(stream)

    return behave


async def hang_up(stream: trio.abc.Stream) -> None:
    await stream.aclose()


async def keep_silent(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


async def drip(stream: trio.abc.Stream) -> None:
    while True:
        await trio.sleep(1)
        await stream.send_all(b" ")


async def ask(client: HttpClient, body: str = "{}") -> Answer:
    return await client.post("/api/Status", body, HEADERS)


async def test_an_answer_is_handed_over_whatever_its_status(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    for status in (200, 400, 401, 403, 404, 429, 500, 503):
        _, client = serve(saying(reply(b'{"a":1}', status=f"{status} Some Reason", date=DATE)))
        assert await ask(client) == Answer(status, b'{"a":1}', AT, None)
        await client.aclose()


async def test_the_request_is_a_post_of_json_with_its_headers(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    server, client = serve(saying(reply()))
    await ask(client, '{"accountId":1,"name":"ü"}')
    (request,) = server.received
    assert request.startswith(b"POST /api/Status HTTP/1.1\r\n")
    assert b"Authorization: " in request or b"authorization: " in request
    assert request.endswith('\r\n\r\n{"accountId":1,"name":"ü"}'.encode())


async def test_a_redirect_is_an_answer_and_is_not_followed(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    server, client = serve(saying(reply(status="307 Temporary Redirect", location="http://elsewhere/")))
    assert (await ask(client)).status == 307
    assert len(server.received) == 1


@pytest.fixture
def in_chicago(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/Chicago")
        time.tzset()
        yield
    time.tzset()


# --- The service's clock, and the wait that it asks for ---


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (DATE, AT),
        ("Wed, 18 Mar 2026 14:30:00 -0000", AT),
        ("Wed, 18 Mar 2026 14:30:00", AT),
        ("Wed, 18 Mar 2026 15:30:00 +0100", AT),
        ("Wednesday, 18-Mar-26 14:30:00 GMT", AT),
        ("yesterday", None),
        ("", None),
        ("Fri, 31 Dec 9999 23:59:59 -0100", None),
        ("Wed, 18 Mar 2026 14:30:00 +9999", None),
    ],
)
async def test_the_date_is_read_as_utc_wherever_we_are(
    serve: Serve, in_chicago: None, header: str, expected: datetime | None, autojump_clock: trio.abc.Clock
) -> None:
    _, client = serve(saying(reply(date=header)))
    date = (await ask(client)).date
    assert date == expected
    assert date is None or date.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("17", 17.0),
        (" 0 ", 0.0),
        ("Wed, 18 Mar 2026 14:30:42 GMT", 42.0),
        ("Wed, 18 Mar 2026 14:29:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("9" * 500, None),
    ],
)
async def test_the_wait_that_is_asked_for_is_read_as_seconds_or_as_a_date(
    serve: Serve, header: str, expected: float | None, autojump_clock: trio.abc.Clock
) -> None:
    _, client = serve(saying(reply(status="429 Too Many Requests", date=DATE, retry_after=header)))
    assert (await ask(client)).retry_after_s == expected


async def test_a_date_to_wait_for_says_nothing_without_the_services_clock(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    _, client = serve(saying(reply(retry_after="Wed, 18 Mar 2026 14:30:42 GMT")))
    assert (await ask(client)).retry_after_s is None


@given(st.text(max_size=40) | st.from_regex(r"(Mon, )?\d{1,3} (Jan|Feb) \d{2,5} \d\d:\d\d:\d\d( [+-]\d{4}| GMT)?"))
def test_no_date_that_a_server_may_write_raises(header: str) -> None:
    date = http_module._date(header)
    assert date is None or date.utcoffset() == timedelta(0)


# --- Failures ---


async def refuse() -> None:
    raise httpcore.ConnectError("Connection refused")


@pytest.mark.parametrize(("connect", "seconds"), [(refuse, 0), (trio.sleep_forever, CONNECT_S)])
async def test_a_request_without_a_connection_was_not_sent(
    serve: Serve, connect: Callable[[], Awaitable[None]], seconds: float, autojump_clock: trio.abc.Clock
) -> None:
    server, client = serve(saying(reply()))
    server.connect = connect
    began = trio.current_time()
    with pytest.raises(NotSent, match="no connection"):
        await ask(client)
    assert trio.current_time() - began == seconds
    assert not server.received


async def test_a_request_whose_tls_never_came_about_was_not_sent(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    server, _ = serve(saying(reply()))
    server.greet = trio.sleep_forever
    client = HttpClient("https://gateway", tls=anonymous(ssl.PROTOCOL_TLS_CLIENT))
    began = trio.current_time()
    with pytest.raises(NotSent):
        await ask(client)
    assert trio.current_time() - began == CONNECT_S


async def test_a_certificate_that_nobody_vouches_for_is_no_connection(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    server, _ = serve(saying(reply()))
    server.tls = True
    with pytest.raises(NotSent):
        await ask(HttpClient("https://gateway"))
    assert not server.received


@pytest.mark.parametrize(
    ("behave", "seconds"),
    [
        (saying(then=keep_silent), READ_S),
        (saying(then=hang_up), 0),
        (saying(reply(b'{"success":true}')[:-5], then=hang_up), 0),
        (saying(reply(b'{"success":true}')[:-5], then=keep_silent), READ_S),
        (saying(reply()[:20], then=hang_up), 0),
        (saying(b"SSH-2.0-OpenSSH_9.2\r\n", then=hang_up), 0),
        (saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), 0),
    ],
    ids=[
        "silence",
        "hung up",
        "half a body",
        "half a body, silence",
        "half a head",
        "not HTTP",
        "bad chunk",
    ],
)
async def test_a_request_without_a_whole_answer_may_have_been_carried_out(
    serve: Serve, behave: Behave, seconds: float, autojump_clock: trio.abc.Clock
) -> None:
    server, client = serve(behave)
    began = trio.current_time()
    with pytest.raises(NoAnswer):
        await ask(client)
    assert trio.current_time() - began == seconds
    assert len(server.received) == 1, "and it is not sent again"


async def test_a_failure_is_of_one_request_only(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    server, client = serve(saying(then=hang_up))
    for _ in range(40):
        with pytest.raises(NoAnswer):
            await ask(client)
    server.behave = saying(reply())
    assert (await ask(client)).status == 200
    assert client.replaced == 0


@pytest.mark.parametrize(
    "behave",
    [saying(then=hang_up), saying(then=keep_silent), saying(b"\x00\r\n"), saying(reply(b" " * 99)[:-99], then=drip)],
)
async def test_no_failure_shows_the_token_and_no_log_does(
    serve: Serve, behave: Behave, caplog: pytest.LogCaptureFixture, autojump_clock: trio.abc.Clock
) -> None:
    caplog.set_level(logging.DEBUG)
    _, client = serve(behave)
    secret = SECRET.split()[1]
    with pytest.raises(NoAnswer) as caught:
        await ask(client, f'{{"apiKey":"{secret}"}}')
    assert secret not in "".join(traceback.format_exception(caught.value))
    assert secret not in repr(caught.value)
    assert secret not in caplog.text
    assert secret not in repr(client)


# --- The hard cap, and clients that are replaced ---


async def test_an_answer_that_drips_is_cut_at_the_cap_and_the_client_replaced(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    server, client = serve(saying(reply(b" " * 1_000)[:-1_000], then=drip))
    began = trio.current_time()
    with pytest.raises(NoAnswer, match="in time"):
        await ask(client)
    assert trio.current_time() - began == HARD_CAP_S
    assert client.replaced == 1
    server.behave = saying(reply())
    assert (await ask(client)).status == 200
    assert server.dialled == 2


async def test_a_client_that_is_replaced_lets_its_other_requests_end(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    async def behave(stream: trio.abc.Stream, request: bytes) -> None:
        if b"drip" in request:
            await stream.send_all(reply(b" " * 1_000)[:-1_000])
            await drip(stream)
        await trio.sleep(4)
        await stream.send_all(reply())

    server, client = serve(behave)
    answers: list[Answer] = []

    async def ask_late() -> None:
        await trio.sleep(HARD_CAP_S - 2)
        answers.append(await ask(client))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_late)
        with pytest.raises(NoAnswer):
            await ask(client, "drip")
        assert not answers
        assert server.open > 0
    assert [answer.status for answer in answers] == [200]
    await trio.testing.wait_all_tasks_blocked()
    assert server.open == 0, "the old client is closed once nobody needs it"


def cramped(server: PlainServer) -> httpx.AsyncHTTPTransport:
    """A pool smaller than the gate in front of it, which is how a jammed one looks."""
    transport = httpx.AsyncHTTPTransport()
    transport._pool = httpcore.AsyncConnectionPool(network_backend=server, max_connections=1)
    return transport


async def test_a_full_pool_means_not_sent_and_replaces_the_client(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    server, _ = serve(saying(reply(), after=4.5))
    client = HttpClient(ADDRESS, lambda: cramped(server))
    outcomes: list[str] = []

    async def ask_twice() -> None:
        try:
            await ask(client)
        except NotSent as error:
            assert "no free connection" in str(error)  # noqa: PT017 - one of the two
            outcomes.append("not sent")
        else:
            outcomes.append("answered")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask_twice)
        nursery.start_soon(ask_twice)
    assert outcomes == ["not sent", "answered"]
    assert client.replaced == 1
    assert (await ask(client)).status == 200
    assert server.dialled == 2


async def test_requests_that_fail_together_replace_their_client_once(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    _, client = serve(saying(reply(b" " * 1_000)[:-1_000], then=drip))

    async def fail() -> None:
        with pytest.raises(NoAnswer):
            await ask(client)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(fail)
    assert client.replaced == 1


async def test_closing_does_not_wait_for_a_server_that_never_says_goodbye(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    server, _ = serve(saying(reply(connection="keep-alive")))

    class Stuck(httpx.AsyncHTTPTransport):
        async def aclose(self) -> None:
            await trio.sleep_forever()

    def transport() -> Stuck:
        stuck = Stuck()
        stuck._pool = httpcore.AsyncConnectionPool(network_backend=server)
        return stuck

    client = HttpClient(ADDRESS, transport)
    await ask(client)
    began = trio.current_time()
    await client.aclose()
    assert trio.current_time() - began == 2
    await client.aclose()
    assert trio.current_time() - began == 2, "a client that is closed has nothing left to close"


# --- Cancels, and the pool ---


async def test_a_request_that_has_left_is_not_cut_short_by_a_cancel(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    server, client = serve(saying(reply(), after=3))
    answer: Answer | None = None
    with trio.move_on_after(1):
        answer = await ask(client)
    assert answer is not None, "the answer of what was carried out is not thrown away"
    assert len(server.received) == 1


async def test_a_caller_who_is_cancelled_already_sends_nothing(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    server, client = serve(saying(reply()))
    with trio.CancelScope() as scope:
        scope.cancel()
        await ask(client)
    assert scope.cancelled_caught
    assert not server.received


async def test_no_more_requests_run_at_once_than_the_pool_has_room_for(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    server, client = serve(saying(reply(), after=1))
    async with trio.open_nursery() as nursery:
        for _ in range(3 * CONNECTIONS):
            nursery.start_soon(ask, client)
        await trio.sleep(0.5)
        assert len(server.received) == CONNECTIONS - 2
    assert client.replaced == 0


@pytest.fixture
def expiry_in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("httpcore._async.http11.time", SimpleNamespace(monotonic=trio.current_time))


async def test_a_connection_stays_warm_between_two_readings_of_the_picture(
    serve: Serve, expiry_in_virtual_time: None, autojump_clock: trio.abc.Clock
) -> None:
    server, client = serve(saying(reply()))
    for _ in range(5):
        await ask(client)
        await trio.sleep(20)
    assert server.dialled == 1


async def test_a_connection_that_was_idle_for_long_is_not_trusted(
    serve: Serve, expiry_in_virtual_time: None, autojump_clock: trio.abc.Clock
) -> None:
    server, client = serve(saying(reply()))
    await ask(client)
    await trio.sleep(60)
    await ask(client)
    assert server.dialled == 2


class Crowd:
    """Twenty callers who lose patience at random moments. Times are fractions of 1024, so that a cancel often falls on
    the very tick at which something else happens, which is what jams a pool."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.cancelled = 0

    async def wait(self, most: int) -> None:
        await trio.sleep(self.random.randrange(most) / 1024)

    async def run(self, send: Callable[[], Awaitable[object]], seconds: float) -> None:
        async def lose_patience() -> None:
            end = trio.current_time() + seconds
            while trio.current_time() < end:
                with trio.move_on_after(self.random.randrange(32) / 1024) as patience:
                    await send()
                self.cancelled += patience.cancelled_caught
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(lose_patience)

    def server(self, nursery: trio.Nursery, *, tls: bool) -> PlainServer:
        async def behave(stream: trio.abc.Stream, request: bytes) -> None:
            await self.wait(6)
            await stream.send_all(reply())

        slow = partial(self.wait, 16)
        return PlainServer(nursery, behave, connect=slow, greet=slow, tls=tls)


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def crowd_server(
    request: pytest.FixtureRequest, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Crowd, PlainServer]]:
    crowd = Crowd(seed=1)
    server = crowd.server(nursery, tls=request.param)
    server.takes_over(monkeypatch)
    return crowd, server


async def test_cancelled_callers_do_not_jam_the_client(
    crowd_server: tuple[Crowd, PlainServer], autojump_clock: trio.abc.Clock
) -> None:
    crowd, server = crowd_server
    client = HttpClient("https://gateway" if server.tls else ADDRESS, tls=anonymous(ssl.PROTOCOL_TLS_CLIENT))
    await crowd.run(partial(ask, client), 0.2)
    assert crowd.cancelled > 40
    for _ in range(5):
        assert (await ask(client)).status == 200
    assert server.dialled <= CONNECTIONS - 2, "a cancelled caller costs no connection"
    assert client.replaced == 0


async def test_cancelled_callers_do_jam_a_client_of_httpx_alone(
    crowd_server: tuple[Crowd, PlainServer], autojump_clock: trio.abc.Clock
) -> None:
    """The reason for the shield. When this fails, the library has been mended."""
    crowd, server = crowd_server
    client = httpx.AsyncClient(
        base_url="https://gateway" if server.tls else ADDRESS,
        verify=anonymous(ssl.PROTOCOL_TLS_CLIENT),
        timeout=httpx.Timeout(5, pool=3),
        limits=httpx.Limits(max_connections=2),
    )

    async def jam() -> None:
        for _ in range(20):  # Trio draws lots among what happens at once, so it may take a while
            await crowd.run(partial(client.post, "/"), 0.25)
            await client.post("/")

    with pytest.raises(httpx.PoolTimeout):
        await jam()


@pytest.mark.e2e
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_cancelled_callers_do_not_jam_the_client_on_real_sockets(tls: bool) -> None:
    crowd = Crowd(seed=1)

    async def attend(stream: trio.abc.Stream) -> None:
        await crowd.wait(16)
        if tls:
            stream = trio.SSLStream(stream, anonymous(ssl.PROTOCOL_TLS_SERVER), server_side=True)
        await serve_requests(stream, saying(reply()), [])

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, attend, listeners)
        port = listeners[0].socket.getsockname()[1]
        address = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        client = HttpClient(address, tls=anonymous(ssl.PROTOCOL_TLS_CLIENT))
        await crowd.run(partial(ask, client), 1.5)
        assert crowd.cancelled > 20
        for _ in range(5):
            assert (await ask(client)).status == 200
        assert client.replaced == 0
        await client.aclose()
        nursery.cancel_scope.cancel()
