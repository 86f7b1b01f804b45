"""Negotiating: what an id opens, for how long, and where a redirect leads."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio_websocket import ConnectionRejected

from tests.fakes.gateway_client import Rest, open_hub
from tests.simulator.conftest import START, System, calm_world, running

WEBSOCKETS = [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}]


async def negotiate(system: System, query: str = "?negotiateVersion=1", *, hub: str = "user") -> dict[str, Any]:
    response = await system.rest.send(f"/hubs/{hub}/negotiate{query}")
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


async def refused_with(system: System, id: str, *, hub: str = "user", token: str | None = None) -> int:  # noqa: A002
    """The status with which an upgrade is refused."""
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_hub(system.dial, system.rest.token if token is None else token, hub, id=id):
            pass
    (rejected,) = caught.value.exceptions
    assert isinstance(rejected, ConnectionRejected)
    return rejected.status_code


async def test_version_1_tells_a_public_id_from_a_secret_one_and_the_secret_one_connects(
    calm: System, autojump_clock: object
) -> None:
    answer = await negotiate(calm)
    public, secret = answer["connectionId"], answer["connectionToken"]
    assert answer == {
        "negotiateVersion": 1,
        "connectionId": public,
        "connectionToken": secret,
        "availableTransports": WEBSOCKETS,
    }
    assert public != secret
    assert await refused_with(calm, public) == 404
    async with open_hub(calm.dial, calm.rest.token, id=secret) as hub:
        assert (await hub.invoke("SubscribeAccounts"))["result"] is None


@pytest.mark.parametrize("query", ["", "?negotiateVersion=0"])
async def test_version_0_has_one_id_for_both(calm: System, autojump_clock: object, query: str) -> None:
    answer = await negotiate(calm, query)
    assert answer == {
        "negotiateVersion": 0,
        "connectionId": answer["connectionId"],
        "availableTransports": WEBSOCKETS,
    }
    async with open_hub(calm.dial, calm.rest.token, id=answer["connectionId"]) as hub:
        assert (await hub.invoke("SubscribeAccounts"))["result"] is None


async def test_a_version_yet_to_come_is_settled_at_1(calm: System, autojump_clock: object) -> None:
    assert (await negotiate(calm, "?NegotiateVersion=7"))["negotiateVersion"] == 1


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ("Invalid", "The client requested an invalid protocol version 'Invalid'"),
        ("1.0", "The client requested an invalid protocol version '1.0'"),
        ("", "The client requested an invalid protocol version ''"),
        ("4294967297", "The client requested an invalid protocol version '4294967297'"),
        ("-1", "The client requested version '-1', but the server does not support this version."),
    ],
)
async def test_a_version_that_is_none_is_answered_by_an_error(
    calm: System, autojump_clock: object, asked: str, error: str
) -> None:
    assert await negotiate(calm, f"?negotiateVersion={asked}") == {"error": error}
    assert calm.gateway.requests[-1]["outcome"] == {"status": 200, "error": error}


async def test_only_a_good_token_negotiates_be_it_in_the_header_or_in_the_query(
    calm: System, autojump_clock: object
) -> None:
    nobody = Rest(calm.rest.http)
    for query, status in (("", 401), ("?access_token=nonsense", 401), (f"?access_token={calm.rest.token}", 200)):
        assert (await nobody.send(f"/hubs/user/negotiate{query}")).status_code == status
    await calm.rest.sim("clock", advance_s=24 * 3600)
    assert (await calm.rest.send("/hubs/user/negotiate")).status_code == 401
    statuses = [entry["outcome"]["status"] for entry in calm.gateway.requests if "negotiate" in entry["path"]]
    assert statuses == [401, 401, 200, 401]


async def test_a_good_id_does_not_make_up_for_a_bad_token(calm: System, autojump_clock: object) -> None:
    secret = (await negotiate(calm))["connectionToken"]
    assert await refused_with(calm, secret, token="nonsense") == 401
    async with open_hub(calm.dial, calm.rest.token, id=secret):
        pass


async def test_an_id_opens_one_websocket_and_then_no_other(calm: System, autojump_clock: object) -> None:
    secret = (await negotiate(calm))["connectionToken"]
    async with open_hub(calm.dial, calm.rest.token, id=secret):
        await trio.sleep(1)
        assert await refused_with(calm, secret) == 409
    await trio.sleep(0.01)
    assert await refused_with(calm, secret) == 404
    assert [e["outcome"]["status"] for e in calm.gateway.requests if e["path"] == "/hubs/user"] == [101, 409, 404]


async def test_an_id_is_taken_for_as_long_as_its_websocket_is_open(calm: System, autojump_clock: object) -> None:
    secret = (await negotiate(calm))["connectionToken"]
    async with open_hub(calm.dial, calm.rest.token, id=secret):
        await trio.sleep(60)
        assert await refused_with(calm, secret) == 409


async def test_an_id_waits_15_seconds(calm: System, autojump_clock: object) -> None:
    early, late = [(await negotiate(calm))["connectionToken"] for _ in range(2)]
    await calm.rest.sim("clock", advance_s=14)
    async with open_hub(calm.dial, calm.rest.token, id=early):
        await trio.sleep(1)
        assert await refused_with(calm, late) == 404


async def test_an_id_belongs_to_its_hub(calm: System, autojump_clock: object) -> None:
    secret = (await negotiate(calm, hub="market"))["connectionToken"]
    assert await refused_with(calm, secret) == 404
    async with open_hub(calm.dial, calm.rest.token, "market", id=secret):
        assert await refused_with(calm, secret) == 404


async def test_an_id_that_nobody_gave_out_opens_nothing(calm: System, autojump_clock: object) -> None:
    assert await refused_with(calm, "nonsense") == 404


async def test_an_upgrade_that_fails_leaves_the_id_alone(calm: System, autojump_clock: object) -> None:
    secret = (await negotiate(calm))["connectionToken"]
    await calm.rest.sim("faults", name="refuse_hub", count=1)
    assert await refused_with(calm, secret) == 503
    async with open_hub(calm.dial, calm.rest.token, id=secret):
        pass


async def redirected(system: System, token: str = "", query: str = "") -> dict[str, Any]:
    """Negotiate once more with the token of a redirect."""
    response = await Rest(system.rest.http, token).send(f"/hubs/user/negotiate{query}")
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


async def test_the_token_of_a_redirect_is_good_for_one_attempt_and_nothing_else(
    calm: System, autojump_clock: object
) -> None:
    await calm.rest.sim("faults", name="redirect_negotiation", count=1)
    token = (await negotiate(calm))["accessToken"]
    assert (await Rest(calm.rest.http, token).send("/api/Account/search", {"onlyActiveAccounts": True})).is_error
    assert (await Rest(calm.rest.http, token).send("/hubs/market/negotiate")).status_code == 401
    secret = (await redirected(calm, query=f"?negotiateVersion=1&access_token={token}"))["connectionToken"]
    assert (await Rest(calm.rest.http, token).send("/hubs/user/negotiate")).status_code == 401
    async with open_hub(calm.dial, token, id=secret) as hub:
        assert (await hub.invoke("SubscribeAccounts"))["result"] is None
        assert [client.user for client in calm.gateway.clients] == ["trader1"]
    other = (await negotiate(calm))["connectionToken"]
    assert await refused_with(calm, other, token=token) == 401, "the next attempt begins with the login's own token"


async def test_a_client_that_goes_straight_where_it_was_sent_is_let_in_once(
    calm: System, autojump_clock: object
) -> None:
    await calm.rest.sim("faults", name="redirect_negotiation", count=1)
    token = (await negotiate(calm))["accessToken"]
    async with open_hub(calm.dial, token):
        assert (await Rest(calm.rest.http, token).send("/hubs/user/negotiate")).status_code == 401
    assert await refused_with(calm, "", token=token) == 401


async def test_the_address_of_a_redirect_does_not_repeat_the_token(calm: System, autojump_clock: object) -> None:
    await calm.rest.sim("faults", name="redirect_negotiation", count=1)
    answer = await negotiate(calm, f"?access_token={calm.rest.token}")
    assert answer["url"] == "http://gateway/hubs/user"


async def test_a_chain_of_redirects_gives_a_fresh_token_each_time(calm: System, autojump_clock: object) -> None:
    await calm.rest.sim("faults", name="redirect_negotiation", count=3)
    tokens = [(await negotiate(calm))["accessToken"]]
    for _ in range(2):
        tokens.append((await redirected(calm, tokens[-1]))["accessToken"])
    assert len(set(tokens)) == 3
    for old in tokens[:2]:
        assert (await Rest(calm.rest.http, old).send("/hubs/user/negotiate")).status_code == 401
    secret = (await redirected(calm, tokens[-1]))["connectionId"]
    async with open_hub(calm.dial, tokens[-1], id=secret):
        pass


async def test_the_token_of_a_redirect_waits_15_seconds(calm: System, autojump_clock: object) -> None:
    await calm.rest.sim("faults", name="redirect_negotiation", count=1)
    token = (await negotiate(calm))["accessToken"]
    await trio.sleep(15)
    assert (await Rest(calm.rest.http, token).send("/hubs/user/negotiate")).status_code == 401


async def test_a_redirected_hub_ends_when_the_login_does(autojump_clock: object) -> None:
    async with running(calm_world(close_hub_on_expiry=True)) as system:
        assert system.gateway.now().date() == START.date()
        await system.rest.sim("faults", name="redirect_negotiation", count=1)
        token = (await negotiate(system))["accessToken"]
        secret = (await redirected(system, token))["connectionId"]
        async with open_hub(system.dial, token, id=secret) as hub:
            await system.rest.sim("clock", advance_s=24 * 3600)
            await hub.wait_closed()
            assert hub.events("GatewayLogout")
