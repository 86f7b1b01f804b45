"""Real sockets: what becomes of a request at each stage at which the line, the server or its answer may fail; proxies,
certificates and warm connections.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from attrs import define, field, frozen

from flatguard.errors import FlatguardError, GatewayUnreachable, UnreadableAnswer
from flatguard.gateway import http as http_module
from flatguard.gateway.allowance import Allowance, Lane
from flatguard.gateway.http import HttpClient, NoAnswer, NotSent
from flatguard.gateway.rest import Gateway
from flatguard.gateway.token import Token
from flatguard.gateway.verdict import TooManyRequests
from flatguard.model.ids import AccountId, ContractId
from flatguard.model.outcomes import Done, Refused, Unknown
from flatguard.secret import Secret
from tests.fakes.certificates import EXPIRED, Authority
from tests.fakes.clock import TrioClock
from tests.fakes.memory_gateway import START
from tests.fakes.plain_http import read_request, reply

pytestmark = pytest.mark.e2e

ACCOUNT, MNQ = AccountId(1), ContractId("CON.F.US.MNQ.Z26")
DATE = "Wed, 18 Mar 2026 14:30:00 GMT"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

Handle = Callable[[trio.SocketStream], Awaitable[None]]


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the proxies and certificates of this machine out of it."""
    for name in (*PROXIES, *(name.lower() for name in PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


async def gateway_at(address: str) -> Gateway:
    """Return a client with a token, as the daemon has."""

    async def log_in() -> Secret:
        await trio.lowlevel.checkpoint()
        return Secret("s3cr3t")

    async def validate(text: Secret) -> Secret:
        await trio.lowlevel.checkpoint()
        return text

    clock = TrioClock(START)
    token = Token(log_in, validate, clock)
    await token.current()
    return Gateway(HttpClient(address), token, clock, Allowance(), Lane.CLOSE)


@asynccontextmanager
async def listening(handle: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """Serve connections on loopback; give the port."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def reset(stream: trio.SocketStream) -> None:
    """Close at once, with a reset instead of a goodbye."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


# --- Every stage ---


@frozen
class Stage:
    """One way to fail. ``read`` is whether the server had the request by then, ``unsure`` whether it may therefore have
    been carried out: then it is never refused and never sent again.
    """

    handle: Handle
    read: bool
    unsure: bool
    reading: type[FlatguardError]
    retry_after_s: float | None = None


async def reset_unread(stream: trio.SocketStream) -> None:
    await trio.lowlevel.checkpoint()
    reset(stream)


def after_reading(act: Callable[[trio.SocketStream], Awaitable[None]]) -> Handle:
    async def handle(stream: trio.SocketStream) -> None:
        if await read_request(stream) is not None:
            await act(stream)

    return handle


def answering(data: bytes, *, then_reset: bool = False) -> Handle:
    async def act(stream: trio.SocketStream) -> None:
        await stream.send_all(data)
        if then_reset:
            await trio.testing.wait_all_tasks_blocked()  # the client has what there is
            reset(stream)

    return after_reading(act)


async def say_nothing(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


def ok(body: bytes) -> bytes:
    return reply(body)


WHOLE = reply(b'{"success":true,"errorCode":0,"errorMessage":null,"positions":[]}')
STATUSES = {
    "500": "500 Internal Server Error",
    "502": "502 Bad Gateway",
    "503": "503 Service Unavailable",
    "504": "504 Gateway Timeout",
    "408": "408 Request Timeout",
}
STAGES: dict[str, Stage] = {
    "reset before the request was read": Stage(reset_unread, False, True, NoAnswer),
    "reset after the request was read": Stage(after_reading(reset_unread), True, True, NoAnswer),
    "hung up after the request was read": Stage(after_reading(trio.aclose_forcefully), True, True, NoAnswer),
    "reset in the middle of the body": Stage(answering(WHOLE[:-20], then_reset=True), True, True, NoAnswer),
    "half a body, then the end": Stage(answering(WHOLE[:-20]), True, True, NoAnswer),
    "silence": Stage(after_reading(say_nothing), True, True, NoAnswer),
    "a page for people with 200": Stage(answering(ok(b"<html>soon</html>")), True, True, UnreadableAnswer),
    "half of the JSON, whole by its length": Stage(answering(ok(b'{"success":tr')), True, True, UnreadableAnswer),
    "no JSON object": Stage(answering(ok(b"[true]")), True, True, UnreadableAnswer),
    "wrong types": Stage(
        answering(ok(b'{"success":"true","errorCode":"0","positions":{}}')), True, True, UnreadableAnswer
    ),
    "nothing with 200": Stage(answering(ok(b"")), True, True, UnreadableAnswer),
    **{
        name: Stage(answering(reply(b"{}", status=status)), True, True, GatewayUnreachable)
        for name, status in STATUSES.items()
    },
    "429 with seconds": Stage(
        answering(reply(status="429 Too Many Requests", retry_after="17")), True, True, TooManyRequests, 17.0
    ),
    "429 with a date": Stage(
        answering(reply(status="429 Too Many Requests", date=DATE, retry_after="Wed, 18 Mar 2026 14:30:42 GMT")),
        True,
        True,
        TooManyRequests,
        42.0,
    ),
    "429 with nothing": Stage(answering(reply(status="429 Too Many Requests")), True, True, TooManyRequests),
    "turned away": Stage(answering(reply(status="403 Forbidden")), True, False, UnreadableAnswer),
    "not understood": Stage(answering(reply(status="400 Bad Request")), True, False, UnreadableAnswer),
}


@define
class Counted:
    """A handler of connections; what it read is kept."""

    handle: Handle
    connections: int = 0
    requests: list[bytes] = field(factory=list)

    async def __call__(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        before = stream.receive_some

        async def receive_some(max_bytes: int | None = None) -> bytes:
            data = await before(max_bytes)
            if data:
                self.requests.append(data)
            return bytes(data)

        stream.receive_some = receive_some  # type: ignore[method-assign]
        try:
            await self.handle(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


@pytest.mark.parametrize("name", STAGES)
async def test_a_request_that_changes_something_ends_as_it_must_at_every_stage(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "READ_S", 0.2)
    stage = STAGES[name]
    server = Counted(stage.handle)
    async with listening(server) as port:
        gateway = await gateway_at(f"http://127.0.0.1:{port}")
        outcome = await gateway.close(ACCOUNT, MNQ)
        await gateway.http.aclose()
    assert isinstance(outcome, Unknown) == stage.unsure
    assert isinstance(outcome, Refused) == (not stage.unsure)
    assert bool(server.requests) == stage.read
    assert server.connections == 1, "and it is not sent again"
    if isinstance(outcome, Unknown):
        assert outcome.retry_after_s == stage.retry_after_s


@pytest.mark.parametrize("name", STAGES)
async def test_a_reading_raises_what_it_must_at_every_stage_and_is_never_empty(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_module, "READ_S", 0.2)
    stage = STAGES[name]
    async with listening(Counted(stage.handle)) as port:
        gateway = await gateway_at(f"http://127.0.0.1:{port}")
        with pytest.raises(stage.reading) as caught:
            await gateway.positions(ACCOUNT)
        await gateway.http.aclose()
    if isinstance(caught.value, TooManyRequests):
        assert caught.value.retry_after_s == stage.retry_after_s


async def test_without_a_listener_nothing_was_sent() -> None:
    async with listening(say_nothing) as port:
        pass
    gateway = await gateway_at(f"http://127.0.0.1:{port}")
    outcome = await gateway.close(ACCOUNT, MNQ)
    assert isinstance(outcome, Refused)
    assert outcome.code == 0
    with pytest.raises(NotSent):
        await gateway.positions(ACCOUNT)


async def test_a_warm_connection_that_the_server_gives_up_leaves_its_request_unknown() -> None:
    """It cannot be told from one that was read: the request was on its way."""

    async def once_then_reset(stream: trio.SocketStream) -> None:
        await read_request(stream)
        await stream.send_all(WHOLE)
        await read_request(stream)
        reset(stream)

    server = Counted(once_then_reset)
    async with listening(server) as port:
        gateway = await gateway_at(f"http://127.0.0.1:{port}")
        assert await gateway.positions(ACCOUNT) == ()
        assert isinstance(await gateway.close(ACCOUNT, MNQ), Unknown)
        assert server.connections == 1
        await gateway.http.aclose()


# --- Warm connections, certificates, proxies ---


async def answer_all(stream: trio.abc.Stream) -> None:
    while await read_request(stream) is not None:
        await stream.send_all(WHOLE)


def over_tls(context: ssl.SSLContext, handle: Callable[[trio.abc.Stream], Awaitable[None]]) -> Handle:
    async def serve(stream: trio.SocketStream) -> None:
        secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await handle(secured)
        except trio.BrokenResourceError:
            pass  # the client does not like our certificate

    return serve


async def test_one_connection_serves_all_requests_of_a_purpose() -> None:
    server = Counted(answer_all)
    async with listening(server) as port:
        gateway = await gateway_at(f"http://127.0.0.1:{port}")
        for _ in range(5):
            assert isinstance(await gateway.close(ACCOUNT, MNQ), Done)
            await gateway.positions(ACCOUNT)
        await gateway.http.aclose()
    assert server.connections == 1


async def test_a_bundle_of_ones_own_is_believed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    async with listening(over_tls(authority.server("localhost"), answer_all)) as port:
        stranger = await gateway_at(f"https://localhost:{port}")
        with pytest.raises(NotSent):
            await stranger.positions(ACCOUNT)
        assert isinstance(await stranger.close(ACCOUNT, MNQ), Refused)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        friend = await gateway_at(f"https://localhost:{port}")
        assert await friend.positions(ACCOUNT) == ()
        await friend.http.aclose()


@pytest.mark.parametrize("wrong", ["host", "date"])
async def test_a_certificate_of_another_host_or_one_that_is_over_is_no_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    context = authority.server("elsewhere") if wrong == "host" else authority.server("localhost", until=EXPIRED)
    async with listening(over_tls(context, answer_all)) as port:
        gateway = await gateway_at(f"https://localhost:{port}")
        with pytest.raises(NotSent):
            await gateway.positions(ACCOUNT)


@define
class Proxy:
    """A proxy. It answers requests for whole addresses itself; a tunnel ends at ``port``, or is refused without one."""

    port: int | None = None
    heads: list[bytes] = field(factory=list)
    carried: bytearray = field(factory=bytearray)

    async def __call__(self, stream: trio.SocketStream) -> None:
        while (request := await read_request(stream)) is not None:
            self.heads.append(request.partition(b"\r\n")[0])
            if not request.startswith(b"CONNECT "):
                await stream.send_all(WHOLE)
            elif self.port is None:
                await stream.send_all(reply(status="502 Bad Gateway"))
            else:
                await stream.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await self.tunnel(stream, await trio.open_tcp_stream("127.0.0.1", self.port))
                return

    async def tunnel(self, here: trio.SocketStream, there: trio.SocketStream) -> None:
        async def carry(source: trio.SocketStream, sink: trio.SocketStream) -> None:
            try:
                async for data in source:
                    self.carried += data
                    await sink.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            tunnel.cancel_scope.cancel()

        async with here, there, trio.open_nursery() as tunnel:
            tunnel.start_soon(carry, here, there)
            tunnel.start_soon(carry, there, here)


async def test_requests_go_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    async with listening(proxy) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        gateway = await gateway_at("http://gateway.invalid")
        assert await gateway.positions(ACCOUNT) == ()
        await gateway.http.aclose()
    assert proxy.heads == [b"POST http://gateway.invalid/api/Position/searchOpen HTTP/1.1"]


async def test_what_is_secured_goes_through_the_proxy_in_one_tunnel_that_it_cannot_look_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    server = Counted(over_tls(authority.server("gateway.invalid"), answer_all))
    async with listening(server) as secured:
        proxy = Proxy(secured)
        async with listening(proxy) as port:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
            gateway = await gateway_at("https://gateway.invalid")
            for _ in range(3):
                assert isinstance(await gateway.close(ACCOUNT, MNQ), Done)
            await gateway.http.aclose()
    assert proxy.heads == [b"CONNECT gateway.invalid:443 HTTP/1.1"]
    assert server.connections == 1
    assert len(proxy.carried) > 1000
    assert b"s3cr3t" not in proxy.carried


async def test_a_proxy_that_makes_no_tunnel_has_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(Proxy()) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        gateway = await gateway_at("https://gateway.invalid")
        with pytest.raises(NotSent):
            await gateway.positions(ACCOUNT)
        outcome = await gateway.close(ACCOUNT, MNQ)
        assert isinstance(outcome, Refused)
        assert outcome.code == 0


async def test_hosts_that_need_no_proxy_are_reached_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = Proxy(), Counted(answer_all)
    async with listening(proxy) as proxy_port, listening(server) as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        gateway = await gateway_at(f"http://127.0.0.1:{port}")
        assert await gateway.positions(ACCOUNT) == ()
        await gateway.http.aclose()
    assert (proxy.heads, server.connections) == ([], 1)
