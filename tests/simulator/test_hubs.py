"""The hubs: handshake, calls, what is sent to whom, and how connections end."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
import trio
from trio_websocket import ConnectionRejected

from flatguard.simulator import AccountSetup, Options, UserSetup, World
from tests.fakes.gateway_client import Hub, open_hub, read
from tests.simulator.conftest import COMBINE, ES, LIMIT, MNQ, PRACTICE, START, System, calm_world, running


async def test_a_hub_is_refused_with_401_without_a_good_token(calm: System, autojump_clock: object) -> None:
    for token in ("", "nonsense"):
        with pytest.raises(BaseExceptionGroup) as caught:
            async with open_hub(calm.dial, token):
                pass
        (rejected,) = caught.value.exceptions
        assert isinstance(rejected, ConnectionRejected)
        assert rejected.status_code == 401
    assert [entry["outcome"]["status"] for entry in calm.gateway.requests if "hubs" in entry["path"]] == [401, 401]


async def test_the_token_may_come_in_the_authorization_header(calm: System, autojump_clock: object) -> None:
    headers = [("Authorization", f"Bearer {calm.rest.token}")]
    async with open_hub(calm.dial, "", headers=headers) as hub:
        assert (await hub.invoke("SubscribeOrders", COMBINE))["result"] is None


async def test_calls_complete_with_a_null_result(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        await hub.invoke("SubscribeOrders", COMBINE)
        assert hub.records[-1] == '{"type":3,"invocationId":"1","result":null}'
        await hub.invoke("UnsubscribeOrders", COMBINE)
        assert hub.records[-1] == '{"type":3,"invocationId":"2","result":null}'


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("SubscribeOrders", []),
        ("SubscribeOrders", [str(COMBINE)]),
        ("SubscribeOrders", [COMBINE, COMBINE]),
        ("SubscribeOrders", [1]),
        ("SubscribeOrders", [None]),
        ("SubscribeAccounts", [COMBINE]),
    ],
)
async def test_a_bad_call_fails_with_a_text_that_explains_nothing(
    calm: System, autojump_clock: object, target: str, arguments: list[object]
) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        completion = await hub.invoke(target, *arguments)
        assert completion["error"] == f"Failed to invoke '{target}' due to an error on the server."
        assert "result" not in completion


async def test_a_method_of_the_other_hub_is_unknown(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        for name in ("SubscribeContractQuotes", "Orders", "unsubscribe"):
            assert (await hub.invoke(name, MNQ))["error"] == f"Unknown hub method '{name}'"


async def test_the_case_of_a_method_does_not_count(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        assert (await hub.invoke("subscribeORDERS", COMBINE))["result"] is None
        error = (await hub.invoke("UNSUBSCRIBEorders"))["error"]
        assert error == "Failed to invoke 'UNSUBSCRIBEorders' due to an error on the server.", "named as it was called"
        (client,) = (await calm.rest.truth())["clients"]
        assert client["subscriptions"] == [{"event": "GatewayUserOrder", "target": COMBINE}]


async def test_a_method_is_not_a_stream(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        await hub.say({"type": 4, "invocationId": "1", "target": "SubscribeAccounts", "arguments": []})
        completion = await hub.wait_for(lambda message: message.get("type") == 3)
        assert completion["error"] == (
            "The client attempted to invoke the non-streaming 'SubscribeAccounts' method with a streaming invocation."
        )


async def test_a_call_without_an_id_is_carried_out_and_never_answered(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        await hub.say({"type": 1, "target": "SubscribeOrders", "arguments": [COMBINE]})
        await hub.say({"type": 1, "target": "Nonsense", "arguments": []})
        await trio.sleep(1)
        assert len(hub.heard) == 1, "the handshake"
        (client,) = (await calm.rest.truth())["clients"]
        assert client["subscriptions"] == [{"event": "GatewayUserOrder", "target": COMBINE}]


async def test_only_subscribed_accounts_are_told_of_and_only_from_now_on(calm: System, autojump_clock: object) -> None:
    await calm.place()
    await calm.place(accountId=PRACTICE)
    async with open_hub(calm.dial, calm.rest.token) as hub:
        await hub.invoke("SubscribeOrders", COMBINE)
        await trio.sleep(1)
        assert hub.events() == [], "no snapshot"
        await calm.place()
        await calm.place(accountId=PRACTICE)
        await trio.sleep(1)
        assert {arguments[0]["data"]["accountId"] for _, arguments in hub.events()} == {COMBINE}
        assert {name for name, _ in hub.events()} == {"GatewayUserOrder"}
        await hub.invoke("UnsubscribeOrders", COMBINE)
        told = len(hub.events())
        await calm.place()
        await trio.sleep(1)
        assert len(hub.events()) == told


async def test_subscriptions_die_with_the_connection_and_nothing_is_replayed(
    calm: System, autojump_clock: object
) -> None:
    async with calm.user_hub():
        pass
    await trio.sleep(0.01)
    assert (await calm.rest.truth())["clients"] == []
    await calm.place()
    async with open_hub(calm.dial, calm.rest.token) as hub:
        await trio.sleep(5)
        await calm.place()
        await trio.sleep(5)
        assert hub.events() == []


async def test_hub_rows_leave_nulls_out_and_have_seven_digits_and_commissions(
    calm: System, autojump_clock: object
) -> None:
    await trio.sleep(0.123456)
    async with calm.user_hub() as hub:
        await calm.place(kind=LIMIT, limitPrice=24900, customTag="abc")
        ((_, (order,)),) = hub.events("GatewayUserOrder")
        assert order == {
            "action": 1,
            "data": {
                "id": 3408995735,
                "accountId": COMBINE,
                "contractId": MNQ,
                "symbolId": "F.US.MNQ",
                "creationTimestamp": "2026-11-18T15:00:00.1234562+00:00",
                "updateTimestamp": "2026-11-18T15:00:00.1234562+00:00",
                "status": 1,
                "type": 1,
                "side": 0,
                "size": 1,
                "limitPrice": 24900,
                "fillVolume": 0,
                "customTag": "abc",
            },
        }
        await calm.place()
        await calm.rest("Position/closeContract", accountId=COMBINE, contractId=MNQ)
        await trio.sleep(1)
        trades = [arguments[0] for _, arguments in hub.events("GatewayUserTrade")]
        assert {trade["action"] for trade in trades} == {0}
        assert all(trade["data"]["commissions"] == Decimal("0.25") for trade in trades)
        opened, flat = (arguments[0] for _, arguments in hub.events("GatewayUserPosition"))
        assert (opened["action"], opened["data"]["type"], opened["data"]["size"]) == (1, 1, 1)
        assert (flat["action"], flat["data"]["type"], flat["data"]["size"]) == (2, 0, 0)
        assert flat["data"]["averagePrice"] == opened["data"]["averagePrice"], "the entry, not the exit"
    assert not any("null" in record for record in hub.records if '"target"' in record)


async def test_the_first_quote_is_full_and_the_next_tell_what_changed(autojump_clock: object) -> None:
    async with running(World(seed=1, start=START)) as system, system.market_hub() as hub:
        await hub.invoke("SubscribeContractQuotes", MNQ)
        await trio.sleep(30)
        async with system.market_hub() as late:
            await late.invoke("SubscribeContractQuotes", MNQ)
            await trio.sleep(1)
        await system.rest.sim("price", contractId="MNQ", price=25100)
        await trio.sleep(1)
        figures = {"lastPrice", "bestBid", "bestAsk", "change", "changePercent", "open", "high", "low", "volume"}
        names = {"symbol", "lastUpdated", "timestamp", "contract"}
        quotes = [arguments for _, arguments in hub.events("GatewayQuote")]
        assert {contract for contract, _ in quotes} == {MNQ}
        assert {quote["symbol"] for _, quote in quotes} == {"F.US.MNQ"}
        assert set(quotes[0][1]) == set(late.events("GatewayQuote")[0][1][1]) == figures | names
        sparse = [quote for _, quote in quotes[1:]]
        assert all(set(quote) < figures | names for quote in sparse)
        assert any("lastPrice" not in quote for quote in sparse)
        merged: dict[str, object] = {}
        for _, quote in quotes:
            merged |= quote
        market = system.world.markets[MNQ]
        assert (merged["bestBid"], merged["bestAsk"]) == (market.bid, market.ask)


async def test_nobody_gets_a_quote_that_tells_nothing(calm: System, autojump_clock: object) -> None:
    async with calm.market_hub() as hub, calm.market_hub() as late:
        for client in (hub, late):
            for what in ("Quotes", "Trades", "MarketDepth"):
                await client.invoke(f"SubscribeContract{what}", MNQ)
                await trio.sleep(0.01)
            assert len(client.events("GatewayQuote")) == 1
            assert "lastPrice" in client.events("GatewayQuote")[0][1][1]
        assert len(hub.events("GatewayQuote")) == 1, "that another client came is no news"


async def test_market_trades_and_depth_come_as_arrays_and_depth_may_hold_nulls(
    calm: System, autojump_clock: object
) -> None:
    async with calm.market_hub() as hub:
        await hub.invoke("SubscribeContractTrades", MNQ)
        await hub.invoke("SubscribeContractMarketDepth", MNQ)
        await trio.sleep(1)
        contract, prints = hub.events("GatewayTrade")[0][1]
        assert contract == MNQ
        assert set(prints[0]) == {"symbolId", "price", "timestamp", "type", "volume", "contractId"}
        contract, levels = hub.events("GatewayDepth")[0][1]
        assert contract == MNQ
        assert None in levels
        assert not hub.events("GatewayQuote"), "each stream is subscribed to by itself"


async def test_each_contract_is_subscribed_to_by_itself(calm: System, autojump_clock: object) -> None:
    async with calm.market_hub() as hub:
        await hub.invoke("SubscribeContractQuotes", MNQ)
        await calm.move(6801, "ES")
        await trio.sleep(1)
        assert {arguments[0] for _, arguments in hub.events()} == {MNQ}
        await hub.invoke("SubscribeContractQuotes", ES)
        await trio.sleep(1)
        assert hub.events("GatewayQuote")[-1][1][0] in {MNQ, ES}
        assert ES in {arguments[0] for _, arguments in hub.events()}


async def test_the_server_pings_every_15_seconds(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        began = trio.current_time()
        await trio.sleep(50)
        assert [round(at - began) for at, message in hub.heard if message.get("type") == 6] == [15, 30, 45]


async def test_a_client_that_has_pinged_and_falls_silent_is_closed_after_30_seconds(
    calm: System, autojump_clock: object
) -> None:
    async with open_hub(calm.dial, calm.rest.token) as quiet, open_hub(calm.dial, calm.rest.token) as hub:
        began = trio.current_time()
        await hub.say({"type": 6})
        await hub.wait_closed()
        assert trio.current_time() - began == pytest.approx(30)
        assert hub.heard[-1][1] == {"type": 7, "allowReconnect": True}
        await trio.sleep(60)
        assert not quiet.closed, "one that never pinged is not watched"


async def test_a_piece_of_a_message_is_no_sign_of_life(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        began = trio.current_time()
        await hub.say({"type": 6})
        await trio.sleep(20)
        await hub.socket.send_message('{"type":')
        await hub.wait_closed()
        assert trio.current_time() - began == pytest.approx(30)


def call_of(size: int) -> str:
    """A call without an id that takes so many bytes, its separator included."""
    record = json.dumps({"type": 1, "target": "", "arguments": []})
    return record.replace('""', '"' + "x" * (size - len(record) - 1) + '"') + "\x1e"


async def test_a_message_over_32_kib_ends_the_connection_which_may_come_back(
    calm: System, autojump_clock: object
) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        await hub.socket.send_message(call_of(32_768) * 3)
        await trio.sleep(1)
        assert not hub.closed, "the limit is one message's, not one frame's"
        await hub.socket.send_message(call_of(32_769))
        await hub.wait_closed()
        assert hub.heard[-1][1] == {
            "type": 7,
            "error": "Connection closed with an error.",
            "allowReconnect": True,
        }


async def test_what_cannot_be_understood_ends_the_connection(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        await hub.socket.send_message('{"type":1}\x1e')
        await hub.wait_closed()
        assert hub.heard[-1][1] == {
            "type": 7,
            "error": "Connection closed with an error.",
            "allowReconnect": True,
        }


async def test_a_call_before_a_broken_message_is_still_answered(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        call = {"type": 1, "invocationId": "7", "target": "SubscribeOrders", "arguments": [COMBINE]}
        await hub.socket.send_message(json.dumps(call) + '\x1e{"type":1}\x1e')
        await hub.wait_closed()
        assert [message.get("type") for _, message in hub.heard] == [None, 3, 7]


async def test_a_close_of_the_client_is_answered_by_close(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        await hub.say({"type": 7})
        await hub.wait_closed()
        assert hub.heard[-1][1] == {"type": 7}


async def test_the_log_of_requests_says_why_each_connection_ended(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token) as hub:
        assert "ended" not in calm.gateway.requests[-1]["outcome"], "it is open"
        await hub.say({"type": 7})
        await hub.wait_closed()
    async with open_hub(calm.dial, calm.rest.token) as hub:
        await hub.socket.aclose()
    for fault in ("cut_hub", "close_hub", "logout_hub"):
        async with open_hub(calm.dial, calm.rest.token) as hub:
            await calm.rest.sim("faults", name=fault)
            await hub.wait_closed()
    for said in ({"type": 6}, {"type": 1}):
        async with open_hub(calm.dial, calm.rest.token) as hub:
            await hub.say(said)
            await hub.wait_closed()
    for handshake in ('{"protocol":"json","version":3}', '{"protocol":"json","version":0}'):
        async with open_hub(calm.dial, calm.rest.token, handshake=handshake) as hub:
            await hub.wait_closed()
    await trio.sleep(1)
    assert [e["outcome"] for e in calm.gateway.requests if e["path"] == "/hubs/user"] == [
        {"status": 101, "ended": ended}
        for ended in (
            "the client said Close",
            "the client was gone",
            "cut_hub",
            "close_hub",
            "logout_hub",
            "the client fell silent",
            "the client could not be understood",
            "the handshake failed",
            "the handshake failed",
        )
    ]


async def test_another_protocol_is_refused_with_a_text(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token, handshake='{"protocol":"messagepack","version":1}') as hub:
        await hub.wait_closed()
        assert hub.heard[-1][1] == {"error": "The protocol 'messagepack' is not supported."}


async def test_what_comes_behind_the_handshake_in_the_same_bytes_is_answered(
    calm: System, autojump_clock: object
) -> None:
    call = {"type": 1, "invocationId": "9", "target": "SubscribeAccounts", "arguments": []}
    handshake = '{"protocol":"json","version":1}\x1e' + json.dumps(call)
    async with open_hub(calm.dial, calm.rest.token, handshake=handshake) as hub:
        await hub.wait_for(lambda message: message.get("type") == 3)
        assert hub.records == ["{}", '{"type":3,"invocationId":"9","result":null}']


async def test_a_client_that_could_resume_connections_is_welcome(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token, handshake='{"protocol":"json","version":2}') as hub:
        assert (await hub.invoke("SubscribeAccounts"))["result"] is None
        assert hub.records[0] == "{}"


async def test_a_version_yet_to_come_is_refused_with_a_text(calm: System, autojump_clock: object) -> None:
    async with open_hub(calm.dial, calm.rest.token, handshake='{"protocol":"json","version":3}') as hub:
        await hub.wait_closed()
        assert hub.heard[-1][1] == {"error": "The server does not support version 3 of the 'json' protocol."}


async def test_a_handshake_that_cannot_be_understood_is_refused_with_a_text(
    calm: System, autojump_clock: object
) -> None:
    async with open_hub(calm.dial, calm.rest.token, handshake='{"type":6}') as hub:
        await hub.wait_closed()
        assert [message for _, message in hub.heard] == [
            {"error": "An unexpected error occurred during connection handshake."}
        ]


@pytest.mark.parametrize("said", ["", '{"protocol":'])
async def test_a_handshake_that_does_not_come_is_given_up_after_15_seconds(
    calm: System, autojump_clock: object, said: str
) -> None:
    began = trio.current_time()
    async with open_hub(calm.dial, calm.rest.token, handshake=None) as hub:
        await trio.sleep(5)
        await hub.socket.send_message(said)
        await hub.wait_closed()
        assert trio.current_time() - began == pytest.approx(15)
        assert [message for _, message in hub.heard] == [{"error": "Handshake was canceled."}]


async def test_another_version_is_hung_up_on_after_two_seconds_without_a_word(
    calm: System, autojump_clock: object
) -> None:
    began = trio.current_time()
    async with open_hub(calm.dial, calm.rest.token, handshake='{"protocol":"json","version":0}') as hub:
        await hub.wait_closed()
        assert trio.current_time() - began == pytest.approx(2)
        assert hub.heard == []


@pytest.mark.parametrize("closes", [True, False])
async def test_an_open_hub_outlives_its_token_unless_the_option_says_otherwise(
    autojump_clock: object, closes: bool
) -> None:
    async with running(calm_world(close_hub_on_expiry=closes)) as system, system.user_hub() as hub:
        await system.rest.sim("clock", advance_s=24 * 3600)
        await trio.sleep(1)
        assert hub.closed is closes
        assert bool(hub.events("GatewayLogout")) is closes


async def test_another_login_hears_nothing_of_our_accounts(autojump_clock: object) -> None:
    users = tuple(
        UserSetup(user_name=name, accounts=(AccountSetup(id=number, name=f"PRAC-{number}", balance=Decimal(9)),))
        for name, number in (("me", 1), ("you", 2))
    )
    world = World(seed=1, start=START, options=Options.calm(), users=users)
    async with running(world) as system, open_hub(system.dial, system.rest.token) as hub:
        await hub.invoke("SubscribeAccounts")
        assert "error" in await hub.invoke("SubscribeOrders", 2)
        assert "error" in await hub.invoke("SubscribeOrders", True), "which Python takes for 1"
        await system.rest.sim("account", accountId=2, balance=10)
        await system.rest.sim("account", accountId=1, balance=11)
        await trio.sleep(1)
        assert [arguments[0]["data"]["id"] for _, arguments in hub.events()] == [1]


async def same_twice(seed: int) -> list[str]:
    async with running(World(seed=seed, start=START)) as system:
        hubs: list[Hub] = []
        async with system.user_hub() as user, system.market_hub() as market:
            hubs += [user, market]
            await market.invoke("SubscribeContractQuotes", MNQ)
            await market.invoke("SubscribeContractTrades", MNQ)
            for side in (0, 0, 1):
                await system.place(side, 2, stopLossBracket={"ticks": 10 if side else -10, "type": 4})
                await trio.sleep(2)
            await trio.sleep(20)
        truth = (await system.rest.http.get("/sim/truth")).text
    return [truth, *(record for hub in hubs for record in hub.records)]


async def test_the_same_seed_and_the_same_inputs_give_the_same_bytes(autojump_clock: object) -> None:
    first = await same_twice(5)
    assert len(first) > 200
    assert first == await same_twice(5)
    assert first != await same_twice(6)
    assert read(first[0])["trades"]


async def test_an_option_lets_a_new_session_log_the_older_one_out(autojump_clock: object) -> None:
    async with (
        running(calm_world(one_session=True)) as system,
        system.user_hub() as older,
        system.market_hub() as market,
        system.user_hub() as newer,
    ):
        await older.wait_closed()
        assert older.events("GatewayLogout")
        await trio.sleep(1)
        assert not newer.closed
        assert not market.closed
