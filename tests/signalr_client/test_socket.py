"""The WebSocket by itself: dialling on loopback, and what becomes of errors. The rest is tested through the hub."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio_websocket import wrap_server_stream

from flatguard.signalr_client import socket as socket_module
from flatguard.signalr_client.socket import (
    SocketClosed,
    SocketRefused,
    SocketUnreachable,
    dial_tcp,
    open_helpers,
    open_socket,
)


async def echo(stream: trio.abc.Stream) -> None:
    """Say back the first message, then say goodbye."""
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, stream)
        connection = await request.accept()
        await connection.send_message(await connection.get_message())
        await connection.aclose(1001)
        nursery.cancel_scope.cancel()


def anonymous(side: int) -> ssl.SSLContext:
    """TLS without certificates, which is enough to see that it is TLS."""
    context = ssl.SSLContext(side)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if side == ssl.PROTOCOL_TLS_CLIENT:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("AECDH-AES256-SHA:@SECLEVEL=0")
    return context


@asynccontextmanager
async def listening(serve: Callable[[trio.abc.Stream], Awaitable[None]] = echo) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_a_message_goes_there_and_back_over_tcp() -> None:
    async with listening() as port, open_socket(f"ws://127.0.0.1:{port}/hub?a=b") as socket:
        await socket.send("hello")
        assert await socket.receive() == "hello"
        for _ in range(2):
            with pytest.raises(SocketClosed) as closed:
                await socket.receive()
            assert closed.value.code == 1001
        with pytest.raises(SocketClosed):
            await socket.send("anyone there?")


async def test_a_message_goes_there_and_back_over_tls() -> None:
    async def dial(url: str) -> trio.abc.Stream:
        return await dial_tcp(url, ssl_context=anonymous(ssl.PROTOCOL_TLS_CLIENT))

    async def echo_over_tls(stream: trio.abc.Stream) -> None:
        context = anonymous(ssl.PROTOCOL_TLS_SERVER)
        await echo(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    async with listening(echo_over_tls) as port, open_socket(f"wss://127.0.0.1:{port}/hub", dial=dial) as socket:
        await socket.send("hello")
        assert await socket.receive() == "hello"
        await socket.aclose()


async def test_a_server_that_does_not_speak_tls_is_unreachable() -> None:
    async def speak_plainly(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(speak_plainly) as port:
        with pytest.raises(SocketUnreachable, match=r"cannot connect to 127\.0\.0\.1: .*SSL"):
            async with open_socket(f"wss://127.0.0.1:{port}/hub?access_token=s3cr3t"):
                pytest.fail("it opened")


async def test_where_nobody_listens_there_is_nothing_to_reach() -> None:
    async with listening() as port:
        pass
    with pytest.raises(SocketUnreachable, match=r"cannot connect to 127\.0\.0\.1"):
        async with open_socket(f"ws://127.0.0.1:{port}/hub"):
            pytest.fail("it opened")


def far_end(octets: bytes) -> tuple[socket_module.Dial, trio.abc.Stream]:
    ours, theirs = trio.testing.memory_stream_pair()

    async def dial(url: str) -> trio.abc.Stream:
        await theirs.send_all(octets)
        return ours

    return dial, ours


REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"


async def test_the_stream_is_closed_whatever_happens(autojump_clock: trio.abc.Clock) -> None:
    """The library leaves that to the server, which may take its time or be gone."""
    for octets, ending in [(REFUSAL, SocketRefused), (b"?\r\n\r\n", SocketUnreachable), (b"", trio.TooSlowError)]:
        dial, stream = far_end(octets)
        with pytest.raises(ending), trio.fail_after(5):
            async with open_socket("ws://h.example/hub", dial=dial):
                pytest.fail("it opened")
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"still open?")


async def test_the_library_is_closed_against_messages_beyond_the_limit(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_module, "MAX_MESSAGE_BYTES", 10)
    ours, theirs = trio.testing.memory_stream_pair()

    async def dial(url: str) -> trio.abc.Stream:
        nursery.start_soon(echo, theirs)
        return ours

    async with open_socket("ws://h.example/hub", dial=dial) as socket:
        await socket.send("eleven byte")
        with pytest.raises(SocketClosed) as closed:
            await socket.receive()
        assert closed.value.code == 1009


# --- Helpers ---


async def test_helpers_end_with_the_block() -> None:
    ended = False

    async def help_for_ever() -> None:
        nonlocal ended
        try:
            await trio.sleep_forever()
        finally:
            ended = True

    async with open_helpers() as nursery:
        nursery.start_soon(help_for_ever)
        await trio.testing.wait_all_tasks_blocked()
    assert ended


async def test_one_error_leaves_as_it_is_and_without_the_group_as_its_context() -> None:
    error = ValueError("mine")

    async def block() -> None:
        async with open_helpers() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error

    with pytest.raises(ValueError, match="mine") as raised:
        await block()
    assert raised.value is error
    assert error.__context__ is None


async def test_the_error_of_a_helper_ends_the_block() -> None:
    async def fail() -> None:
        raise ValueError("a helper's")

    async def block() -> None:
        async with open_helpers() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()

    with pytest.raises(ValueError, match="a helper's"):
        await block()


async def test_two_errors_leave_together() -> None:
    async def fail() -> None:
        raise ValueError("a helper's")

    with pytest.RaisesGroup(ValueError, KeyError):
        async with open_helpers() as nursery:
            nursery.start_soon(fail)
            await trio.lowlevel.cancel_shielded_checkpoint()
            raise KeyError("mine")


async def test_a_cancel_leaves_as_a_cancel(autojump_clock: trio.abc.Clock) -> None:
    with trio.move_on_after(1) as scope:
        async with open_helpers() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught
