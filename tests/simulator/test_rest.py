"""The REST side as clients meet it: envelopes, shapes, limits, tokens, and what is not an error."""

from __future__ import annotations

import base64
import json
import re
from datetime import timedelta
from decimal import Decimal

import pytest
import trio

from flatguard.simulator import AccountSetup, Options, UserSetup, World
from flatguard.simulator.setup import DEFAULT_USERS
from flatguard.simulator.state import Timeline
from tests.simulator.conftest import BUY, COMBINE, LIMIT, MNQ, PRACTICE, SELL, START, STOP, System, calm_world, running

FAR = {"startTimestamp": "2020-01-01T00:00:00Z"}


async def test_ping_answers_pong_without_a_token(calm: System, autojump_clock: object) -> None:
    calm.rest.token = ""
    response = await calm.rest.http.get("/api/Status/ping")
    assert (response.status_code, response.text) == (200, "pong")


async def test_every_answer_bears_the_date_of_the_brokers_clock(calm: System, autojump_clock: object) -> None:
    await trio.sleep(90)
    await calm.rest.sim("clock", advance_s=3600)
    for response in (
        await calm.rest.http.get("/api/Status/ping"),
        await calm.rest.send("/api/Account/search", {"onlyActiveAccounts": True}),
        await calm.rest.send("/api/Nowhere", {}),
    ):
        assert response.headers["date"] == "Wed, 18 Nov 2026 16:01:30 GMT"


async def test_a_good_key_gives_a_token_that_expires_in_24_hours(calm: System, autojump_clock: object) -> None:
    key = calm.world.users["trader1"].api_key
    answer = await calm.rest("Auth/loginKey", userName="TRADER1", apiKey=key)
    assert (answer["success"], answer["errorCode"], answer["errorMessage"]) == (True, 0, None)
    body = answer["token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert claims["exp"] == int((START + timedelta(hours=24)).timestamp())


async def test_a_wrong_key_is_refused_with_code_3_in_http_200(calm: System, autojump_clock: object) -> None:
    answer = await calm.rest("Auth/loginKey", userName="trader1", apiKey="wrong")
    assert answer == {"token": None, "success": False, "errorCode": 3, "errorMessage": None}


@pytest.mark.parametrize(
    ("unlike", "code"),
    [({"agreements_signed": False}, 7), ({"subscribed": False}, 9), ({"key_login": False}, 10)],
)
async def test_a_good_key_is_refused_for_reasons_of_the_firms_own(
    autojump_clock: object, unlike: dict[str, bool], code: int
) -> None:
    other = UserSetup(user_name="Other", accounts=(), api_key="key", **unlike)
    async with running(World(seed=1, start=START, users=(*DEFAULT_USERS, other))) as system:
        answer = await system.rest("Auth/loginKey", userName="other", apiKey="key")
        assert (answer["token"], answer["success"], answer["errorCode"]) == (None, False, code)
        assert (code == 7) == (answer["errorMessage"] is not None), "only the agreements have a text"
        assert (await system.rest("Auth/loginKey", userName="other", apiKey="wrong"))["errorCode"] == 3


async def test_a_password_opens_the_other_way_in(autojump_clock: object) -> None:
    user = UserSetup(user_name="other", accounts=(), password="secret")
    async with running(World(seed=1, start=START, users=(*DEFAULT_USERS, user))) as system:
        body = {"userName": "other", "password": "secret", "deviceId": "d", "appId": "a", "verifyKey": "v"}
        assert (await system.rest("Auth/loginApp", **(body | {"userName": "nobody"})))["errorCode"] == 1
        assert (await system.rest("Auth/loginApp", **(body | {"password": "wrong"})))["errorCode"] == 2
        assert (await system.rest("Auth/loginApp", **(body | {"userName": "trader1", "password": ""})))[
            "errorCode"
        ] == 2
        system.rest.token = (await system.rest("Auth/loginApp", **body))["token"]
        assert (await system.rest("Account/search", onlyActiveAccounts=False))["accounts"] == []
        logged = (await system.rest.truth())["requests"][-2]["body"]
        assert (logged["password"], logged["verifyKey"], logged["appId"]) == ("(redacted)", "(redacted)", "a")


async def test_a_name_in_capitals_shares_one_allowance_with_its_login(autojump_clock: object) -> None:
    user = UserSetup(user_name="Other", accounts=(), api_key="key")
    async with running(World(seed=1, start=START, options=Options(rest_allowance=(2, 60)), users=(user,))) as system:
        ask = {"onlyActiveAccounts": True}
        statuses = [(await system.rest.send("/api/Account/search", ask)).status_code for _ in range(2)]
    assert statuses == [200, 429], "the login was the first call"


async def test_validate_gives_a_new_token_and_leaves_the_old_one_good(calm: System, autojump_clock: object) -> None:
    old = calm.rest.token
    calm.rest.token = (await calm.rest("Auth/validate"))["newToken"]
    assert calm.rest.token != old
    for token in (old, calm.rest.token):
        calm.rest.token = token
        assert (await calm.rest("Account/search", onlyActiveAccounts=True))["success"]


async def test_logout_ends_the_token_that_it_bears_and_no_other(calm: System, autojump_clock: object) -> None:
    other = (await calm.rest("Auth/validate"))["newToken"]
    assert (await calm.rest("Auth/logout")) == {"success": True, "errorCode": 0, "errorMessage": None}
    assert (await calm.rest.send("/api/Account/search", {"onlyActiveAccounts": True})).status_code == 401
    calm.rest.token = other
    assert (await calm.rest("Account/search", onlyActiveAccounts=True))["success"]


@pytest.mark.parametrize("spoil", ["", "nonsense", "a.b.c", "expired"])
async def test_without_a_good_token_the_answer_is_401_and_empty(
    calm: System, autojump_clock: object, spoil: str
) -> None:
    if spoil == "expired":
        await calm.rest.sim("clock", advance_s=24 * 3600)
    else:
        calm.rest.token = spoil
    response = await calm.rest.send("/api/Position/searchOpen", {"accountId": COMBINE})
    assert (response.status_code, response.content) == (401, b"")


@pytest.mark.parametrize(
    ("path", "body", "complaint"),
    [
        ("Auth/loginKey", {"userName": "trader1"}, "'apiKey'"),
        ("Order/v2/query", {"pageSize": 10}, "'filter'"),
        ("Order/place", {"accountId": COMBINE}, "'contractId', 'type', 'side', 'size'"),
        ("Position/searchOpen", {"accountId": "25700001"}, "$.accountId"),
        ("Position/searchOpen", {"accountId": None}, "$.accountId"),
        ("Position/searchOpen", {"accountId": 2**31}, "$.accountId"),
        ("Account/search", {"onlyActiveAccounts": 1}, "$.onlyActiveAccounts"),
        ("Trade/search", {"accountId": COMBINE, "startTimestamp": "yesterday"}, "$.startTimestamp"),
        ("Order/search", [], "could not be converted"),
    ],
)
async def test_a_body_that_cannot_be_bound_is_answered_by_a_problem_document(
    calm: System, autojump_clock: object, path: str, body: object, complaint: str
) -> None:
    response = await calm.rest.send(f"/api/{path}", body)
    assert response.status_code == 400
    assert response.headers["content-type"].startswith("application/problem+json")
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "errors", "traceId"}
    assert complaint in json.dumps(problem["errors"])


async def test_the_path_in_a_problem_document_leads_to_the_property(calm: System, autojump_clock: object) -> None:
    response = await calm.rest.send("/api/Order/v2/query", {"filter": {"accountId": COMBINE, "statuses": "1"}})
    assert "$.filter.statuses" in response.json()["errors"]
    response = await calm.rest.send("/api/Order/place", None)
    assert "A non-empty request body is required." in response.text


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded"])
async def test_a_body_that_is_not_called_json_is_not_read(calm: System, autojump_clock: object, kind: str) -> None:
    headers = {"authorization": f"Bearer {calm.rest.token}"} | ({"content-type": kind} if kind else {})
    response = await calm.rest.http.post("/api/Account/search", content='{"onlyActiveAccounts":true}', headers=headers)
    assert (response.status_code, response.json()["title"]) == (415, "Unsupported Media Type")
    assert (await calm.rest.http.post("/api/Auth/validate", headers=headers)).status_code == 200, "it reads no body"


async def test_the_case_of_paths_and_properties_does_not_count(calm: System, autojump_clock: object) -> None:
    response = await calm.rest.send("/API/account/Search/", {"OnlyActiveAccounts": True})
    assert (response.status_code, len(response.json()["accounts"])) == (200, 3)
    assert calm.gateway.requests[-1]["path"] == "/api/Account/search"


async def test_a_client_that_hangs_up_in_mid_request_harms_nobody(
    calm: System, autojump_clock: object, capfd: pytest.CaptureFixture[str]
) -> None:
    calm.gateway.survives_crashes = True  # as on sockets, where a crash of the double is printed
    for path in ("/api/Order/place", "/sim/price"):
        stream = calm.dial()
        await stream.send_all(f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{{".encode())
        await trio.sleep(1)
        await stream.aclose()
        await trio.sleep(1)
    assert capfd.readouterr().err == ""
    assert (calm.gateway.requests[-1]["outcome"], calm.gateway.requests[-1]["ms"]) == ({"status": None}, 1000)
    assert (await calm.rest("Account/search", onlyActiveAccounts=True))["success"]


async def test_a_path_that_does_not_exist_is_404_and_empty(calm: System, autojump_clock: object) -> None:
    response = await calm.rest.send("/api/Position/closeAll", {})
    assert (response.status_code, response.content) == (404, b"")


async def test_accounts_have_six_fields_and_no_limits(calm: System, autojump_clock: object) -> None:
    rows = (await calm.rest("Account/search", onlyActiveAccounts=True))["accounts"]
    assert [set(row) for row in rows] == [{"id", "name", "balance", "canTrade", "isVisible", "simulated"}] * 3
    assert [row["balance"] for row in rows] == [50000, 150000, 0]


async def test_an_account_that_cannot_trade_is_hidden_from_those_who_ask_for_active_ones(
    calm: System, autojump_clock: object
) -> None:
    await calm.rest.sim("account", accountId=COMBINE, canTrade=False)
    active = (await calm.rest("Account/search", onlyActiveAccounts=True))["accounts"]
    every = (await calm.rest("Account/search", onlyActiveAccounts=False))["accounts"]
    assert COMBINE not in [row["id"] for row in active]
    assert next(row for row in every if row["id"] == COMBINE)["canTrade"] is False


async def test_accounts_of_another_login_are_unknown(autojump_clock: object) -> None:
    other = AccountSetup(id=1, name="PRAC-V2-1-1", balance=Decimal(1000))
    mine = AccountSetup(id=2, name="PRAC-V2-2-2", balance=Decimal(1000))
    users = (UserSetup(user_name="me", accounts=(mine,)), UserSetup(user_name="you", accounts=(other,)))
    async with running(World(seed=1, start=START, options=Options.calm(), users=users)) as system:
        assert [row["id"] for row in (await system.rest("Account/search", onlyActiveAccounts=False))["accounts"]] == [2]
        for path, more in (
            ("Order/searchOpen", {}),
            ("Order/search", FAR),
            ("Position/searchOpen", {}),
            ("Position/closeContract", {"contractId": MNQ}),
            ("Trade/search", FAR),
            ("Order/cancel", {"orderId": 1}),
            ("Order/place", {"contractId": MNQ, "type": 2, "side": 0, "size": 1}),
        ):
            answer = await system.rest(path, accountId=1, **more)
            assert (answer["success"], answer["errorCode"]) == (False, 1)


async def test_fifty_one_contracts_are_available_and_none_live(calm: System, autojump_clock: object) -> None:
    contracts = (await calm.rest("Contract/available", live=False))["contracts"]
    assert len(contracts) == 51
    assert (await calm.rest("Contract/available", live=True))["contracts"] == []
    assert next(row for row in contracts if row["id"] == MNQ) == {
        "id": MNQ,
        "name": "MNQZ6",
        "description": "Micro E-mini Nasdaq-100: December 2026",
        "tickSize": Decimal("0.25"),
        "tickValue": Decimal("0.5"),
        "activeContract": True,
        "symbolId": "F.US.MNQ",
    }


async def test_a_search_for_nq_finds_natural_gas_too(calm: System, autojump_clock: object) -> None:
    contracts = (await calm.rest("Contract/search", searchText="nq", live=False))["contracts"]
    assert {row["symbolId"] for row in contracts} == {"F.US.ENQ", "F.US.MNQ", "F.US.NQG", "F.US.NQM"}
    assert len((await calm.rest("Contract/search", searchText="", live=False))["contracts"]) == 20


async def test_an_expired_month_is_found_by_id_and_cannot_be_traded(calm: System, autojump_clock: object) -> None:
    old = "CON.F.US.MNQ.U26"
    assert (await calm.rest("Contract/searchById", contractId=old))["contract"]["activeContract"] is False
    assert (await calm.rest("Contract/searchById", contractId="CON.F.US.MNQ.Z99"))["errorCode"] == 1
    assert (await calm.place(contractId=old))["errorCode"] == 9
    assert (await calm.place(contractId="CON.F.US.XXX.Z26"))["errorCode"] == 8


async def test_bars_are_made_of_what_traded_newest_first(calm: System, autojump_clock: object) -> None:
    await trio.sleep(0.5)
    for price in (25010, 24990, 25005):
        await calm.move(price)
    await trio.sleep(60)
    await calm.move(25100)
    ask = {"contractId": MNQ, "live": False, "unit": 2, "unitNumber": 1, "limit": 10, "includePartialBar": True}
    span = {"startTime": "2026-11-18T15:00:00Z", "endTime": "2026-11-18T16:00:00Z"}
    bars = (await calm.rest("History/retrieveBars", **ask, **span))["bars"]
    assert [(bar["t"], bar["o"], bar["h"], bar["l"], bar["c"]) for bar in bars] == [
        ("2026-11-18T15:01:00+00:00", 25100, 25100, 25100, 25100),
        ("2026-11-18T15:00:00+00:00", 25010, 25010, 24990, 25005),
    ]
    closed = await calm.rest("History/retrieveBars", **(ask | {"includePartialBar": False}), **span)
    assert len(closed["bars"]) == 1
    for unit, opening in ((4, "2026-11-17T23:00:00+00:00"), (5, "2026-11-15T23:00:00+00:00")):
        bars = (
            await calm.rest("History/retrieveBars", **(ask | {"unit": unit}), **(span | {"startTime": "2026-01-01"}))
        )["bars"]
        assert (bars[0]["t"], bars[0]["h"]) == (opening, 25100)
    for wrong, code in (({"live": True}, 1), ({"unit": 7}, 2), ({"unitNumber": 0}, 3), ({"limit": 20001}, 4)):
        assert (await calm.rest("History/retrieveBars", **(ask | wrong), **span))["errorCode"] == code


async def test_bars_of_absurd_width_are_refused(calm: System, autojump_clock: object) -> None:
    ask = {"contractId": MNQ, "live": False, "limit": 10, "includePartialBar": True}
    span = {"startTime": "2026-11-18T14:00:00Z", "endTime": "2026-11-18T16:00:00Z"}
    for unit in range(1, 7):
        for width, code in ((1, 0), (1000, 0), (1001, 3), (2**31 - 1, 3), (-1, 3)):
            answer = await calm.rest("History/retrieveBars", **ask, **span, unit=unit, unitNumber=width)
            assert answer["errorCode"] == code


async def test_rest_rows_print_nulls_and_six_digits_and_no_commissions(calm: System, autojump_clock: object) -> None:
    await trio.sleep(0.15673)
    placed = await calm.place(size=2, customTag="abc")
    order = (await calm.rest("Order/searchById", accountId=COMBINE, orderId=placed["orderId"]))["order"]
    assert order == {
        "id": placed["orderId"],
        "accountId": COMBINE,
        "contractId": MNQ,
        "symbolId": "F.US.MNQ",
        "creationTimestamp": "2026-11-18T15:00:00.15673+00:00",
        "updateTimestamp": "2026-11-18T15:00:00.16473+00:00",
        "status": 2,
        "type": 2,
        "side": 0,
        "size": 2,
        "limitPrice": None,
        "stopPrice": None,
        "fillVolume": 2,
        "filledPrice": Decimal("25000.25"),
        "customTag": "abc",
    }
    assert order["id"] > 2**31
    (trade,) = (await calm.rest("Trade/search", accountId=COMBINE, **FAR))["trades"]
    assert trade["profitAndLoss"] is None
    assert "commissions" not in trade
    (position,) = (await calm.rest("Position/searchOpen", accountId=COMBINE))["positions"]
    assert set(position) == {
        "id", "accountId", "contractId", "contractDisplayName", "creationTimestamp", "type", "size", "averagePrice",
    }  # fmt: skip
    assert (position["contractDisplayName"], position["type"], position["size"]) == ("MNQZ26", 1, 2)


async def test_a_flat_contract_is_absent_from_the_positions(calm: System, autojump_clock: object) -> None:
    await calm.place()
    await calm.place(SELL)
    assert (await calm.rest("Position/searchOpen", accountId=COMBINE))["positions"] == []
    trades = (await calm.rest("Trade/search", accountId=COMBINE, **FAR))["trades"]
    assert [trade["side"] for trade in trades] == [SELL, BUY], "newest first"


async def test_search_open_shows_status_1_only(calm: System, autojump_clock: object) -> None:
    placed = await calm.place(
        kind=LIMIT,
        limitPrice=24900,
        stopLossBracket={"ticks": -10, "type": 4},
        takeProfitBracket={"ticks": 10, "type": 1},
    )
    shown = (await calm.rest("Order/searchOpen", accountId=COMBINE))["orders"]
    assert [row["id"] for row in shown] == [placed["orderId"]]
    wanted = {"accountId": COMBINE, "statuses": [1, 6, 7, 8]}
    queried = await calm.rest("Order/v2/query", filter=wanted, includeTotalCount=True)
    assert [row["status"] for row in queried["orders"]] == [1, 8, 8]
    assert queried["totalCount"] == 3


async def test_v2_query_gives_100_rows_counts_offsets_in_rows_and_ignores_the_contract(
    autojump_clock: object,
) -> None:
    async with running(calm_world(rest_allowance=(1000, 60))) as system:
        for index in range(105):
            await system.place(kind=LIMIT, limitPrice=24900 - index)
        query = {"filter": {"accountId": COMBINE, "contractId": "CON.F.US.EP.Z26"}, "includeTotalCount": True}
        first = await system.rest("Order/v2/query", **query, pageSize=1000)
        assert (len(first["orders"]), first["totalCount"]) == (100, 105)
        rest = await system.rest("Order/v2/query", **query, pageOffset=100)
        assert len(rest["orders"]) == 5
        middle = await system.rest("Order/v2/query", **query, pageOffset=7, pageSize=3)
        assert middle["orders"] == first["orders"][7:10]
        newest = await system.rest("Order/v2/query", **query, sortBy=1, sortDirection=1, pageSize=1)
        assert newest["orders"][0]["id"] == rest["orders"][-1]["id"]
        late = {"accountId": COMBINE, "createdAfter": "2026-11-18T16:00:00Z"}
        assert (await system.rest("Order/v2/query", filter=late))["orders"] == []


async def test_the_201st_call_within_a_minute_is_429_and_bars_have_an_allowance_of_their_own(
    calm: System, autojump_clock: object
) -> None:
    ask = {"accountId": COMBINE}
    codes = [(await calm.rest.send("/api/Position/searchOpen", ask)).status_code for _ in range(200)]
    assert codes == [200] * 199 + [429], "the login was the first call"
    bars = [(await calm.rest.send("/api/History/retrieveBars", {})).status_code for _ in range(51)]
    assert bars == [400] * 50 + [429]
    await trio.sleep(30)
    assert (await calm.rest.send("/api/History/retrieveBars", {})).status_code == 400
    assert (await calm.rest.send("/api/Position/searchOpen", ask)).status_code == 429
    await trio.sleep(30)
    assert (await calm.rest.send("/api/Position/searchOpen", ask)).status_code == 200


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, None),
        ({"retry_after": True}, "41"),
        ({"retry_after": True, "retry_after_is_a_date": True}, "Wed, 18 Nov 2026 15:01:01 GMT"),
    ],
)
async def test_429_carries_retry_after_where_the_options_say_so(
    autojump_clock: object, options: dict[str, bool], told: str | None
) -> None:
    async with running(calm_world(rest_allowance=(1, 60), **options)) as system:
        await trio.sleep(20)
        response = await system.rest.send("/api/Account/search", {"onlyActiveAccounts": True})
        assert response.status_code == 429
        assert response.headers.get("retry-after") == told


async def test_every_call_takes_a_while_also_a_refused_one(autojump_clock: object) -> None:
    async with running(World(seed=1, start=START)) as system:
        system.rest.token = ""
        began = trio.current_time()
        await system.rest.send("/api/Account/search", {})
        assert trio.current_time() - began >= 0.002


async def test_rest_lists_trail_behind_the_hub_by_up_to_a_second(autojump_clock: object) -> None:
    stale = 0
    for seed in range(8):
        async with running(World(seed=seed, start=START)) as system, system.user_hub() as hub:
            await system.place()
            await hub.wait_for(lambda message: message.get("target") == "GatewayUserPosition")
            stale += not (await system.rest("Position/searchOpen", accountId=COMBINE))["positions"]
            await trio.sleep(1)
            assert (await system.rest("Position/searchOpen", accountId=COMBINE))["positions"]
    assert 0 < stale < 8


def test_what_a_reader_has_seen_does_not_vanish_again() -> None:
    """Each write has a lag of its own; a shorter one must not overtake the write before it."""
    timeline: Timeline[str, str] = Timeline()
    timeline.put("a", "opened", START + timedelta(seconds=1))
    timeline.put("a", "closed", START)
    timeline.put("b", "later", START)
    for seconds, seen in ((0, []), (1, ["closed", "later"])):
        assert list(timeline.rows(START + timedelta(seconds=seconds))) == seen
    assert list(timeline.rows()) == ["closed", "later"]


async def test_money_leaves_as_the_digits_that_it_has(calm: System, autojump_clock: object) -> None:
    await calm.rest.sim("price", contractId="ZN", price=Decimal("110.734375"))
    await calm.place(contractId="CON.F.US.TYA.H27", accountId=PRACTICE)
    response = await calm.rest.send("/api/Position/searchOpen", {"accountId": PRACTICE})
    assert re.search(r'"averagePrice":110\.75[,}]', response.text)
    response = await calm.rest.send("/api/Account/search", {"onlyActiveAccounts": True})
    assert '"balance":149998.61,' in response.text
    assert '"balance":50000,' in response.text


async def test_a_stop_order_rests_at_status_1(calm: System, autojump_clock: object) -> None:
    await calm.place(SELL, kind=STOP, stopPrice=24990)
    (row,) = (await calm.rest("Order/searchOpen", accountId=COMBINE))["orders"]
    assert (row["status"], row["stopPrice"], row["limitPrice"]) == (1, 24990, None)


async def test_an_option_has_rest_tell_commissions_too(autojump_clock: object) -> None:
    async with running(calm_world(rest_commissions=True)) as system:
        await system.place(size=2)
        (trade,) = (await system.rest("Trade/search", accountId=COMBINE, **FAR))["trades"]
        assert (trade["fees"], trade["commissions"]) == (Decimal("0.72"), Decimal("0.5"))


async def test_the_windows_of_both_allowances_roll(calm: System, autojump_clock: object) -> None:
    """Half of an allowance used early in the window comes back early; a window that began anew would give all."""
    for path, allowed, span_s in (("/api/Position/searchOpen", 200, 60), ("/api/History/retrieveBars", 50, 30)):
        await trio.sleep(60)
        for wait_s in (0, span_s - 10):
            await trio.sleep(wait_s)
            for _ in range(allowed // 2):
                await calm.rest.send(path, {"accountId": COMBINE})
        await trio.sleep(10)
        statuses = [(await calm.rest.send(path, {"accountId": COMBINE})).status_code for _ in range(allowed)]
        assert statuses.count(429) == allowed // 2


@pytest.mark.parametrize("counted", [True, False])
async def test_an_option_lets_refused_calls_use_up_the_allowance(autojump_clock: object, counted: bool) -> None:
    async with running(calm_world(rest_allowance=(2, 60), refused_calls_count=counted)) as system:
        ask = {"onlyActiveAccounts": True}
        statuses = []
        for _ in range(4):
            await trio.sleep(25)
            statuses.append((await system.rest.send("/api/Account/search", ask)).status_code)
        assert statuses == ([200, 429, 429, 429] if counted else [200, 429, 200, 200])
