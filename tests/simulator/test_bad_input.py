"""Whatever is sent to the double, it answers in a shape that is known, and goes on as if nothing had happened."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import httpx
import pytest
import trio
from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from flatguard.errors import InvalidSettings
from flatguard.simulator import Options, World
from flatguard.simulator.bodies import Field
from flatguard.simulator.control import SCHEMAS
from flatguard.simulator.invariants import broken
from flatguard.simulator.memory import open_in_memory
from flatguard.simulator.operations import ENDPOINTS
from flatguard.simulator.scenario import load_scenario
from tests.fakes.gateway_client import Rest, http_over, open_hub, read
from tests.simulator.conftest import COMBINE, EXPRESS, MNQ, START, System, calm_world

ENVELOPE = {"success", "errorCode", "errorMessage"}
ORDER = {"accountId": COMBINE, "contractId": MNQ, "type": 2, "side": 0, "size": 1}
PROBLEM = {"type", "title", "status", "traceId"}
SCHEMA_OF: Mapping[str, Mapping[str, Field]] = {
    **{path: endpoint.schema for path, endpoint in ENDPOINTS.items()},
    **{f"/sim/{name}": schema for name, schema in SCHEMAS.items()},
}

# --- what is sent ---


@frozen
class Raw:
    """A piece of JSON that no Python value writes."""

    text: str


wild_numbers = st.sampled_from(
    [
        "1e400",
        "-1e400",
        "1e-400",
        "1E28",
        "79228162514264337593543950335",
        "79228162514264337593543950336",
        "-0.0",
        "12345678901234567890123",
        "9" * 5000,
        "0.1234567890123456789012345678901234567890",
        "NaN",
        "Infinity",
        "1e",
    ]
).map(Raw)
wild_texts = st.sampled_from(
    [
        "",
        "\x00",
        "\ud800",
        "MNQ",
        MNQ,
        "CON.F.US.MNQ.U26",
        "x" * 5000,
        "0001-01-01T00:00:00+14:00",
        "24:00",
        "9999-12-31T23:59:59-14:00",
        "2026-11-18",
        "2026-11-18T15:00:00.1234567Z",
        "user",
        "trader1",
        "GatewayUserOrder",
    ]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 30)
    | st.sampled_from([2**31 - 1, 2**31, -(2**31), 2**63 - 1, 2**63, COMBINE, EXPRESS])
    | st.floats(allow_nan=True)
    | wild_numbers
    | wild_texts
    | st.text(max_size=8)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner), max_leaves=6
)
plausible: Mapping[str, st.SearchStrategy[Any]] = {
    "accountId": st.just(COMBINE),
    "contractId": st.just(MNQ),
    "type": st.integers(0, 8),
    "side": st.integers(0, 1),
    "size": st.integers(1, 5),
    "unit": st.integers(1, 7),
    "price": st.sampled_from([25000, 24990.25, 0.25]),
    "limitPrice": st.sampled_from([25000, 24990, 25010.25]),
    "stopPrice": st.sampled_from([25010, 24990]),
    "trailPrice": st.sampled_from([25010, 24990]),
    "orderId": st.integers(3_408_995_735, 3_408_995_800),
    "stopLossBracket": st.fixed_dictionaries({"ticks": st.integers(-2000, 2000), "type": st.integers(0, 8)}),
    "takeProfitBracket": st.fixed_dictionaries({"ticks": st.integers(-2000, 2000), "type": st.integers(0, 8)}),
    "live": st.booleans(),
    "onlyActiveAccounts": st.booleans(),
    "startTimestamp": st.just("2026-11-18T00:00:00Z"),
    "startTime": st.just("2026-11-18T00:00:00Z"),
    "endTime": st.just("2026-11-19T00:00:00Z"),
    "filter": st.fixed_dictionaries({"accountId": st.just(COMBINE)}),
}


def body_for(path: str) -> st.SearchStrategy[object]:
    """Return bodies for a call: right but for some of its fields."""
    schema = SCHEMA_OF.get(path, {})
    fields = {
        name: plausible.get(name, scalars) | plausible.get(name, scalars) | plausible.get(name, scalars) | values
        for name in schema
    }
    needed = {name: value for name, value in fields.items() if schema[name].required}
    rest = {name: value for name, value in fields.items() if name not in needed}
    return st.fixed_dictionaries(needed, optional=rest)


def written(value: object) -> bytes:
    """Write a value as JSON, or as what is nearly JSON."""
    if isinstance(value, Raw):
        return value.text.encode()
    if isinstance(value, dict):
        pairs = (json.dumps(key).encode() + b":" + written(item) for key, item in value.items())
        return b"{" + b",".join(pairs) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(written, value)) + b"]"
    return json.dumps(value).encode()


broken_bodies = st.sampled_from(
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b"[" * 70 + b"]" * 70,
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b'{"accountId":1,"accountId":2}',
        b"{}{}",
        b"{'a': 1}",
        b"\x00" * 10,
    ]
) | st.binary(max_size=30)

paths = st.sampled_from(sorted(SCHEMA_OF)) | st.sampled_from(
    [
        "/api/Status/ping",
        "/sim/truth",
        "/api/Order/cancelAll",
        "/",
        "/api",
        "/sim",
        "/sim/nothing",
        "/api/order/place",
        "/hubs/user",
        "/hubs/user/negotiate",
        "/hubs/market/negotiate",
        "/api/Order/place/",
        "//api/Order/place",
        "/%00",
    ]
)
methods = st.just("POST") | st.just("POST") | st.sampled_from(["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
content_types = st.just("application/json") | st.sampled_from(
    ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "nonsense", ";"]
)
tokens = st.just("good") | st.just("good") | st.sampled_from(["", "nonsense", "a.b.c", "é"])


@frozen
class Sent:
    """A request."""

    method: str
    path: str
    content: bytes
    content_type: str
    token: str


@st.composite
def requests(draw: st.DrawFn) -> Sent:
    path = draw(paths)
    good = body_for(path).map(written)
    content = draw(good | good | values.map(written) | broken_bodies)
    return Sent(draw(methods), path, content, draw(content_types), draw(tokens))


# --- what must come back ---


def check(sent: Sent, response: httpx.Response) -> None:
    """See that an answer has a shape that is known."""
    status, kind = response.status_code, response.headers.get("content-type", "")
    assert status in {200, 400, 401, 404, 405, 415, 429}, (status, response.text)
    if status in {401, 404, 405, 429}:
        assert response.content == b""
    elif sent.method == "HEAD":
        assert status == 200
    elif sent.path.startswith("/sim/"):
        assert status in {200, 400}
        answer = read(response.text)
        assert status == 200 or "error" in answer or set(answer) >= PROBLEM, answer
    elif sent.path == "/api/Status/ping":
        assert (status, response.text) in {(200, "pong"), (200, "")}
    elif status in {400, 415}:
        assert kind.startswith("application/problem+json")
        assert set(read(response.text)) >= PROBLEM
    elif sent.path.startswith("/api/"):
        answer = read(response.text)
        assert set(answer) >= ENVELOPE
        assert answer["success"] == (answer["errorCode"] == 0)


async def send(system: System, sent: Sent) -> httpx.Response:
    """Send what is wild, and take the answer within seconds."""
    token = {"good": system.rest.token}.get(sent.token, sent.token)
    headers = {"authorization": f"Bearer {token}".encode()} if token else {}
    if sent.content_type:
        headers["content-type"] = sent.content_type.encode()
    with trio.fail_after(5):
        return await system.rest.http.request(sent.method, sent.path, content=sent.content, headers=headers)


async def still_works(system: System) -> None:
    """See that the double is whole: no crash, the books add up, the truth can be told, and an order fills."""
    assert (await system.rest.http.delete("/sim/faults")).status_code == 200
    await trio.sleep(70)
    assert system.gateway._crash is None
    assert broken(system.world) == []
    await system.rest.truth()
    user = system.world.users["trader1"]
    await system.rest.login(user.user_name, user.api_key)
    await system.rest.sim("account", accountId=COMBINE, canTrade=True, balance=50000)
    if system.world.position(COMBINE, MNQ):
        assert (await system.rest("Position/closeContract", accountId=COMBINE, contractId=MNQ))["success"]
    held = system.world.position(COMBINE, MNQ)
    assert (await system.place())["success"]
    assert system.world.position(COMBINE, MNQ) == held + 1
    assert broken(system.world) == []


def run(scene: Any, world: World | None = None, *, logs_in: bool = True) -> None:
    """Play a scene with a double in memory, on a virtual clock of its own."""

    async def main() -> None:
        failure: BaseException | None = None
        async with open_in_memory(world or calm_world()) as double, http_over(double.dial) as http:
            user = double.gateway.world.users["trader1"]
            rest = Rest(http)
            if logs_in:
                await rest.login(user.user_name, user.api_key)
            try:
                await scene(System(double.gateway, double.dial, rest))
            except Exception as error:  # noqa: BLE001  raised again below, without the groups around it
                failure = error
        if failure is not None:
            raise failure

    trio.run(main, clock=MockClock(autojump_threshold=0))


@settings(max_examples=250, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=6))
def test_whatever_is_sent_over_http_gets_a_known_answer_and_harms_nothing(sent: list[Sent]) -> None:
    async def scene(system: System) -> None:
        for one in sent:
            check(one, await send(system, one))
            if one.path == "/sim/faults":
                await system.rest.http.delete("/sim/faults")
        await still_works(system)

    run(scene)


@pytest.mark.parametrize("path", sorted(SCHEMA_OF))
def test_every_call_bears_every_wild_value_in_every_field(path: str) -> None:
    """Slower minds than chance: one field wrong at a time."""
    right = {
        "accountId": COMBINE, "contractId": MNQ, "type": 1, "side": 0, "size": 1, "limitPrice": 24990, "unit": 2,
        "unitNumber": 1, "limit": 10, "live": False, "includePartialBar": True, "onlyActiveAccounts": True,
        "startTimestamp": "2026-11-18", "startTime": "2026-11-18", "endTime": "2026-11-19", "orderId": 1,
        "userName": "trader1", "apiKey": "k", "filter": {"accountId": COMBINE}, "advance_s": 1, "name": "slow",
    }  # fmt: skip
    wild: list[object] = [
        *map(Raw, ["1e400", "1e-400", "1E28", "-1e28", "79228162514264337593543950335", "9" * 5000, "NaN"]),
        Raw("1e99999999"),
        *[2**31 - 1, -(2**31), 2**63 - 1, 0, -1, 0.1, True, None, [], {}, "", "\ud800", "x" * 300],
        *["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", [1], {"ticks": 2**31 - 1, "type": 5}],
        *[{"ticks": -(2**31), "type": 4}, {"ticks": 1, "type": 99}, {"accountId": "\ud800"}],
    ]  # fmt: skip
    schema = SCHEMA_OF[path]

    async def scene(system: System) -> None:
        for name in schema or ["nothing"]:
            for value in wild:
                body = {key: right[key] for key, field in schema.items() if key in right and field.required}
                sent = Sent("POST", path, written(body | {name: value}), "application/json", "good")
                check(sent, await send(system, sent))
                if path == "/sim/faults":
                    await system.rest.http.delete("/sim/faults")
        await still_works(system)

    run(scene, calm_world(rest_allowance=(100_000, 1), bars_allowance=(100_000, 1)))


hub_targets = st.sampled_from(
    ["SubscribeAccounts", "SubscribeOrders", "SubscribeTrades", "UnsubscribeOrders", "subscribepositions", "", "\x00",
     "SubscribeContractQuotes", "UnsubscribeContractQuotes", "__init__", "GatewayLogout"]
) | st.text(max_size=6)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(["user", "market"]),
    st.lists(st.tuples(hub_targets, st.lists(values | st.just(COMBINE) | st.just(MNQ), max_size=3)), max_size=6),
)
def test_whatever_is_invoked_on_a_hub_is_completed(hub: str, calls: list[tuple[str, list[object]]]) -> None:
    async def scene(system: System) -> None:
        async with open_hub(system.dial, system.rest.token, hub) as client:
            for number, (target, arguments) in enumerate(calls):
                call = {"type": 1, "invocationId": f"c{number}", "target": target, "arguments": arguments}
                await client.socket.send_message(written(call).decode() + "\x1e")
                await trio.sleep(5)
                if client.closed:
                    break  # it could not be understood
                assert any(message.get("invocationId") == f"c{number}" for _, message in client.heard)
        await still_works(system)

    run(scene)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["user", "market"]), st.lists(st.binary(max_size=40) | st.text(max_size=40), max_size=4))
def test_whatever_is_said_on_a_hub_harms_nothing(hub: str, said: list[bytes | str]) -> None:
    async def scene(system: System) -> None:
        async with open_hub(system.dial, system.rest.token, hub) as client:
            for frame in said:
                if client.closed:
                    break
                with trio.move_on_after(5):
                    await client.socket.send_message(frame + b"\x1e" if isinstance(frame, bytes) else frame + "\x1e")
                await trio.sleep(0.1)
        await still_works(system)

    run(scene)


# --- scenario files ---

WILD_TOML = (
    *("0", "-1", "1", "1.5", "1e300", "1e-300", "inf", "nan", "99999999999999999999", "true", '""', '"x"', "[]", "{}"),
    *(
        "[0, 0]",
        "[5, 1]",
        "[-1, 1]",
        "[0, 1e300]",
        "[0, 1e15]",
        "[1, 0]",
        "[0, 1]",
        "[1, 1]",
        "[true, 1]",
        "2026-11-18",
    ),
    *("'Infinity'", "'1e400'", "[['a']]", "1e15", "2", "3600", "[99999999999999, 99999999999999]"),
)


@pytest.mark.parametrize("name", sorted(get_type_hints(Options)))
def test_an_option_of_a_scenario_is_refused_by_its_name_or_lives(name: str, tmp_path: Path) -> None:
    path = tmp_path / "wild.toml"
    lived = 0

    async def scene(system: System) -> None:
        nonlocal lived
        with trio.move_on_after(40):
            if name not in {"hub_handshake_timeout_s", "hub_client_timeout_s", "token_life_s", "answer_ms"}:
                async with open_hub(system.dial, system.rest.token) as hub:
                    await hub.invoke("SubscribeAccounts")
            await system.rest.send("/api/Order/place", ORDER)
            await system.rest.send("/api/Position/closeContract", {"accountId": COMBINE, "contractId": MNQ})
            await trio.sleep(5)
        assert broken(system.world) == []
        lived += 1

    for text in WILD_TOML:
        path.write_text(f"[options]\n{name} = {text}\n")
        try:
            world = load_scenario(path).world(seed=1, start=START)
        except InvalidSettings as error:
            refusal = str(error)
        else:
            run(scene, world, logs_in=name != "answer_ms")
            continue
        assert f"options.{name}: " in refusal
    assert lived
