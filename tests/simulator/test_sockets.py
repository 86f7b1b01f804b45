"""The double on a real loopback socket, in real time: the main path once, and how it starts and stops."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from flatguard.errors import FlatguardError
from flatguard.simulator import World, serve_simulator
from flatguard.simulator.exact_json import dumps
from flatguard.simulator.memory import memory_streams
from flatguard.simulator.wire import SPEAK, serve_connection
from tests.fakes.gateway_client import Rest, open_hub
from tests.simulator.conftest import COMBINE, MNQ


def world() -> World:
    return World(seed=1, start=datetime.now(UTC))


async def test_the_ready_line_says_all_that_a_client_needs(nursery: trio.Nursery) -> None:
    ready: dict[str, Any] = await nursery.start(serve_simulator, world())
    assert list(ready) == [
        "rest_url", "user_hub_url", "market_hub_url", "control_url", "users", "contracts", "seed",
        "sessions", "month_roll",
    ]  # fmt: skip
    assert ready["user_hub_url"] == ready["rest_url"] + "/hubs/user"
    (user,) = ready["users"]
    assert user["accounts"][0] == {"id": COMBINE, "name": "50KTC-V2-600001-97000001", "balance": "50000"}
    assert next(row for row in ready["contracts"] if row["id"] == MNQ) == {
        "id": MNQ,
        "name": "MNQZ6",
        "tick_size": "0.25",
        "tick_value": "0.50",
        "price": "25000",
    }


async def test_a_crash_within_a_request_does_not_end_it(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = world()
    monkeypatch.setattr(broken, "flatten", lambda *_: 1 / 0)
    ready: dict[str, Any] = await nursery.start(serve_simulator, broken)
    async with httpx.AsyncClient(base_url=ready["control_url"]) as http:
        for _ in range(2):
            assert (await http.post("/flatten", json={"accountId": COMBINE})).status_code == 500
        assert (await http.get("/truth")).status_code == 200
    assert "ZeroDivisionError" in capfd.readouterr().err


async def test_a_client_trades_over_sockets(nursery: trio.Nursery) -> None:
    ready: dict[str, Any] = await nursery.start(serve_simulator, world())
    (user,) = ready["users"]
    async with httpx.AsyncClient(base_url=ready["rest_url"]) as http:
        rest = await Rest(http).login(user["user_name"], user["api_key"])
        host, _, port = ready["rest_url"].removeprefix("http://").partition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        with trio.fail_after(20):
            async with stream, open_hub(lambda: stream, rest.token) as hub:
                await hub.invoke("SubscribePositions", COMBINE)
                order = {"accountId": COMBINE, "contractId": MNQ, "type": 2, "side": 0, "size": 2}
                assert (await rest("Order/place", **order))["success"]
                opened = await hub.wait_for(lambda message: message.get("target") == "GatewayUserPosition")
                assert opened["arguments"][0]["data"]["size"] == 2
                assert (await rest("Position/closeContract", accountId=COMBINE, contractId=MNQ))["success"]
                await hub.wait_for(lambda message: '"size":0' in dumps(message))
                truth = (await http.get(ready["control_url"] + "/truth")).json()
                assert truth["positions"] == []
                await rest.sim("faults", name="cut_hub")
                await hub.wait_closed()


async def test_a_reset_reaches_the_client_as_one(nursery: trio.Nursery) -> None:
    ready: dict[str, Any] = await nursery.start(serve_simulator, world())
    async with httpx.AsyncClient(base_url=ready["rest_url"]) as http:
        await http.post("/sim/faults", json={"name": "reset_after", "count": 1})
        with pytest.raises(httpx.ReadError):
            await http.post("/api/Auth/loginKey", json={"userName": "a", "apiKey": "b"})
        assert (await http.get("/api/Status/ping")).text == "pong"


async def test_a_port_in_use_is_named(nursery: trio.Nursery) -> None:
    ready: dict[str, Any] = await nursery.start(serve_simulator, world())
    port = int(ready["rest_url"].rpartition(":")[2])
    with pytest.raises(FlatguardError, match=f"port {port}") as caught:
        await serve_simulator(world(), port=port)
    assert (caught.value.exit_status, "--port" in caught.value.hint) == (1, True)


async def test_a_cancel_stops_it_cleanly_and_frees_the_port() -> None:
    port = 0
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            ready: dict[str, Any] = await nursery.start(partial(serve_simulator, world(), port=port))
            port = int(ready["rest_url"].rpartition(":")[2])
            async with httpx.AsyncClient(base_url=ready["rest_url"]) as http:
                await http.get("/api/Status/ping")
                nursery.cancel_scope.cancel()


async def test_what_is_said_while_the_connection_is_being_closed_is_lost_in_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Closing a stream and sending on it at the same time is an error to Trio."""
    near, far = memory_streams()
    spoken = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        with monkeypatch.context() as closing:
            closing.setattr(near, "send_all", busy)
            await scope[SPEAK]("too late")
        spoken.append("too late")

    async def busy(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        raise trio.BusyResourceError("another task is currently sending data on this SocketStream")

    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve_connection, app, near)
            await far.send_all(
                b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            while not spoken:  # noqa: ASYNC110 - there is nothing to wait for but that
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert spoken == ["too late"]
