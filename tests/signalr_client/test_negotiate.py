"""Negotiation: what is asked, what is understood of the answer, where it leads, and what it never tells."""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from flatguard.signalr import Invocation
from flatguard.signalr_client.address import TokenIn
from flatguard.signalr_client.errors import HubError, HubRefused, HubUnreachable
from flatguard.signalr_client.hub import open_hub
from tests.fakes.signalr_server import ACCEPTED, Answered, Peer, Site

URL = "https://rtc.example.com/hubs/user"
TOKEN = "s3cr3t.t0ken"


async def token() -> str:
    return TOKEN


def offering(transports: object) -> dict[str, object]:
    return {**ACCEPTED, "availableTransports": transports}


async def connect(site: Site, url: str = URL, token_in: TokenIn = TokenIn.HEADER) -> str | None:
    """Open a hub and leave again; return the id that the server gave it."""
    async with open_hub(url, token=token, token_in=token_in, dial=site.dial) as hub:
        return hub.connection_id


# --- What is asked ---


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://h.example/hub", "/hub/negotiate?negotiateVersion=1"),
        ("https://h.example/hub/", "/hub/negotiate?negotiateVersion=1"),
        ("https://h.example/hub?x=1", "/hub/negotiate?x=1&negotiateVersion=1"),
        ("https://h.example/hub?negotiateVersion=0", "/hub/negotiate?negotiateVersion=0"),
        ("wss://h.example/hub", "/hub/negotiate?negotiateVersion=1"),
        ("ws://h.example", "/negotiate?negotiateVersion=1"),
    ],
)
async def test_negotiate_stands_behind_the_path_and_the_query_is_kept(site: Site, url: str, target: str) -> None:
    await connect(site, url)
    assert [asked.target for asked in site.asked] == [target]


async def test_the_token_goes_in_the_header_of_both_requests(site: Site) -> None:
    await connect(site)
    [(path, headers)] = site.upgrades
    assert site.asked[0].headers["authorization"] == headers["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in site.asked[0].target + path


async def test_the_token_goes_in_the_query_of_both_requests_where_the_server_looks_for_it_there(site: Site) -> None:
    await connect(site, token_in=TokenIn.QUERY)
    [(path, headers)] = site.upgrades
    assert site.asked[0].target.endswith(f"access_token={TOKEN}")
    assert path.endswith(f"access_token={TOKEN}")
    assert "authorization" not in headers | site.asked[0].headers


async def test_a_hub_that_wants_no_token_is_given_none(site: Site) -> None:
    async with open_hub(URL, dial=site.dial):
        pass
    [(path, headers)] = site.upgrades
    assert "authorization" not in headers | site.asked[0].headers
    assert "access_token" not in site.asked[0].target + path


async def test_a_token_that_no_header_can_hold_is_an_error_that_does_not_quote_it(site: Site) -> None:
    async def odd() -> str:
        return "é\r\nx: y"

    with pytest.raises(HubUnreachable, match="characters that no header can hold"):
        async with open_hub(URL, token=odd, dial=site.dial):
            pytest.fail("it opened")
    assert site.dialled == []


async def test_a_server_with_cookies_is_told_that_no_person_sits_here(site: Site) -> None:
    await connect(site)
    assert site.asked[0].headers["x-requested-with"] == "XMLHttpRequest"


# --- What is understood ---


async def test_the_connection_token_is_the_id_of_the_websocket_and_percent_encoded(site: Site) -> None:
    assert await connect(site, f"{URL}?x=1") == "public"
    assert [path for path, _ in site.upgrades] == ["/hubs/user?x=1&id=sec%2Fret%3D"]


async def test_an_answer_of_version_0_has_one_id_for_both_purposes(site: Site) -> None:
    site.answers = [Answered({**ACCEPTED, "negotiateVersion": 0})]
    assert await connect(site) == "public"
    assert site.upgrades[0][0] == "/hubs/user?id=public"


async def test_an_answer_without_a_version_is_of_version_0(site: Site) -> None:
    site.answers = [Answered({key: value for key, value in ACCEPTED.items() if key != "negotiateVersion"})]
    await connect(site)
    assert site.upgrades[0][0] == "/hubs/user?id=public"


@pytest.mark.parametrize("empty", [{"error": ""}, {"url": ""}, {"url": None, "accessToken": ""}])
async def test_a_key_with_nothing_in_it_says_nothing(site: Site, empty: dict[str, object]) -> None:
    site.answers = [Answered({**ACCEPTED, **empty})]
    assert await connect(site) == "public"


async def test_an_answer_with_no_version_in_it_is_of_version_0(site: Site) -> None:
    site.answers = [Answered({**ACCEPTED, "negotiateVersion": None})]
    await connect(site)
    assert site.upgrades[0][0] == "/hubs/user?id=public"


@pytest.mark.parametrize("url", ["https://hé.example/hub", "https://h.example/a b", "https://h.example/é"])
async def test_an_address_that_no_request_can_hold_is_unreachable_and_nobody_is_dialled(site: Site, url: str) -> None:
    with pytest.raises(HubUnreachable, match="cannot be written"):
        await connect(site, url)
    assert site.dialled == []


async def test_unknown_keys_and_unknown_transports_are_passed_over(site: Site) -> None:
    transports = [{"transport": "Pigeon"}, "odd", *ACCEPTED["availableTransports"]]  # type: ignore[misc]
    site.answers = [Answered(offering(transports) | {"tokenLifetimeSeconds": 60, "error": None, "url": None})]
    assert await connect(site) == "public"


async def test_cookies_of_the_negotiation_come_back_with_the_upgrade(site: Site) -> None:
    cookies = (("Set-Cookie", "route=7; Path=/; HttpOnly"), ("Set-Cookie", "other=a=b"))
    site.answers = [Answered(ACCEPTED, headers=cookies)]
    await connect(site)
    assert site.upgrades[0][1]["cookie"] == "route=7; other=a=b"


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
async def test_a_refusal_by_status_can_be_seen(site: Site, status: int) -> None:
    site.answers = [Answered("<html>no</html>", status)]
    with pytest.raises(HubRefused, match=f"HTTP {status} to the negotiation") as refused:
        await connect(site)
    assert refused.value.status == status
    assert site.upgrades == []


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(401, "the token is not accepted"), (403, "does not entitle"), (404, "there is no hub at this address")],
)
async def test_a_refusal_whose_reason_is_known_says_it(site: Site, status: int, meaning: str) -> None:
    site.answers = [Answered("", status)]
    with pytest.raises(HubRefused, match=meaning):
        await connect(site)


async def test_a_refusal_in_words_is_told_with_them(site: Site) -> None:
    words = "The client requested version '0', but the server does not support this version."
    site.answers = [Answered({**ACCEPTED, "error": words})]
    with pytest.raises(HubRefused, match="the server refused the negotiation: The client requested") as refused:
        await connect(site)
    assert refused.value.status is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "cannot be read"),
        ("<html>", "cannot be read"),
        ("[]", "cannot be read"),
        ({}, "no WebSocket"),
        (offering(None), "no WebSocket"),
        (offering([{"transport": "LongPolling", "transferFormats": ["Text"]}]), "no WebSocket"),
        (offering([{"transport": "WebSockets", "transferFormats": ["Binary"]}]), "no WebSocket"),
        (offering([{"transport": "WebSockets"}]), "no WebSocket"),
        ({**ACCEPTED, "connectionToken": None}, "no connectionToken"),
        ({**ACCEPTED, "connectionToken": 7}, "no connectionToken"),
        ({**ACCEPTED, "connectionId": ""}, "no connectionId"),
        ({**ACCEPTED, "useStatefulReconnect": True}, "stateful reconnection, which nobody asked for"),
        ({"ProtocolVersion": "1.4", "ConnectionId": "x"}, "of before ASP.NET Core"),
        ({"url": 7}, "no url"),
        ({"url": "https://h.example/hub", "accessToken": 7}, "no accessToken"),
        ({"url": "ftp://h.example/hub"}, "no http URL"),
        ({"url": "/hub"}, "no http URL"),
        ({"url": "https://[h/hub"}, "no http URL"),
        ({"url": "https://h:99999/hub"}, "no http URL"),
        ({"url": "https://hé.example/hub"}, "no http URL"),
        ("x" * (1024 * 1024 + 1), "too long"),
    ],
)
async def test_an_answer_that_cannot_be_used_says_what_is_wrong_with_it(site: Site, body: object, reason: str) -> None:
    site.answers = [Answered(body)]
    with pytest.raises(HubUnreachable, match=reason):
        await connect(site)
    assert site.upgrades == []


# --- Where it leads ---


async def test_a_redirect_is_negotiated_anew_with_its_own_token(site: Site) -> None:
    site.answers = [
        Answered({"url": "https://b.example/hub?asrs=1", "accessToken": "other"}),
        Answered(ACCEPTED),
    ]
    await connect(site)
    assert [asked.target for asked in site.asked] == [
        "/hubs/user/negotiate?negotiateVersion=1",
        "/hub/negotiate?asrs=1&negotiateVersion=1",
    ]
    assert site.dialled == ["wss://rtc.example.com/hubs/user/negotiate"] + [
        f"wss://b.example/hub{part}" for part in ("/negotiate", "")
    ]
    assert site.asked[1].headers["authorization"] == "Bearer other"
    [(path, headers)] = site.upgrades
    assert (path, headers["authorization"]) == ("/hub?asrs=1&id=sec%2Fret%3D", "Bearer other")


async def test_a_redirect_without_a_token_keeps_ours(site: Site) -> None:
    site.answers = [Answered({"url": "https://b.example/hub"}), Answered(ACCEPTED)]
    await connect(site)
    assert site.asked[1].headers["authorization"] == f"Bearer {TOKEN}"


async def test_the_next_attempt_begins_at_the_first_address_with_the_first_token(site: Site) -> None:
    site.answers = [
        Answered({"url": "https://b.example/hub", "accessToken": "other"}),
        Answered(ACCEPTED),
        Answered(ACCEPTED),
    ]
    await connect(site)
    await connect(site)
    assert site.asked[2].target == "/hubs/user/negotiate?negotiateVersion=1"
    assert site.asked[2].headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_cookie_that_no_header_can_hold_is_left_out(site: Site) -> None:
    site.answers = [Answered(ACCEPTED, headers=(("Set-Cookie", "a=é"), ("Set-Cookie", "b=1")))]
    await connect(site)
    assert site.upgrades[0][1]["cookie"] == "b=1"


@given(url=st.one_of(st.text(max_size=40), st.from_regex(r"https://[\x20-\x7e]{0,30}", fullmatch=True)))
@settings(max_examples=300, deadline=None)
def test_wherever_a_server_sends_us_only_the_errors_of_the_family_come_of_it(url: str) -> None:
    async def go() -> None:
        async with trio.open_nursery() as nursery:
            site = Site(nursery, [Answered({"url": url}), Answered(ACCEPTED)])
            with suppress(HubError), trio.fail_after(5):
                await connect(site)
            nursery.cancel_scope.cancel()

    trio.run(go, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_cookies_go_to_no_other_host(site: Site) -> None:
    cookies = (("Set-Cookie", "route=7"),)
    site.answers = [
        Answered({"url": "https://rtc.example.com/b"}, headers=cookies),
        Answered({"url": "https://b.example/c"}),
        Answered(ACCEPTED),
    ]
    await connect(site)
    assert [asked.headers.get("cookie") for asked in site.asked] == [None, "route=7", None]


async def test_a_circle_of_redirects_ends_after_a_hundred_requests(site: Site) -> None:
    site.answers = [Answered({"url": URL})]
    with pytest.raises(HubUnreachable, match="sent us on 100 times"):
        await connect(site)
    assert len(site.asked) == 100


async def test_a_token_is_not_taken_out_of_tls_by_a_redirect(site: Site) -> None:
    site.answers = [Answered({"url": "http://b.example/hub"})]
    with pytest.raises(HubUnreachable, match="without TLS"):
        await connect(site)
    assert len(site.dialled) == 1


# --- When it fails ---


async def test_a_negotiation_counts_against_the_limit_of_opening(autojump_clock: trio.abc.Clock) -> None:
    async def dial(url: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        kept.append(theirs)
        return ours

    kept: list[trio.abc.Stream] = []
    with pytest.raises(HubUnreachable, match="did not answer within 15 s"):
        async with open_hub(URL, token=token, dial=dial):
            pytest.fail("it opened")
    assert trio.current_time() == 15
    assert b"POST /hubs/user/negotiate" in await kept[0].receive_some()
    assert await kept[0].receive_some() == b"", "our end is closed"


@pytest.mark.parametrize("words", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
async def test_what_does_not_speak_http_is_unreachable_at_once(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock, words: bytes
) -> None:
    async def dial(url: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(answer, theirs)
        return ours

    async def answer(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(words)
        await stream.aclose()

    with pytest.raises(HubUnreachable, match="does not speak HTTP"):
        async with open_hub(URL, token=token, dial=dial):
            pytest.fail("it opened")
    assert trio.current_time() == 0


async def test_a_line_that_breaks_during_the_negotiation_is_unreachable() -> None:
    async def dial(url: str) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        await trio.aclose_forcefully(theirs)
        return ours

    with pytest.raises(HubUnreachable, match="the line broke"):
        async with open_hub(URL, token=token, dial=dial):
            pytest.fail("it opened")


@pytest.mark.parametrize("error", [ConnectionRefusedError("refused"), trio.BrokenResourceError()])
async def test_where_nobody_listens_there_is_nothing_to_negotiate_with(error: Exception) -> None:
    async def dial(url: str) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise error

    with pytest.raises(HubUnreachable, match="cannot connect to rtc"):
        async with open_hub(URL, token=token, dial=dial):
            pytest.fail("it opened")


@pytest.mark.parametrize(
    "answers",
    [
        [Answered("", 401)],
        [Answered({"error": "no"})],
        [Answered({"url": "https://b.example/hub", "accessToken": "0ther.t0ken"}), Answered("<", 200)],
        [Answered(offering([]))],
    ],
)
async def test_neither_token_nor_id_is_in_any_error_or_log(
    site: Site, answers: list[Answered], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    site.answers = answers
    with pytest.raises(HubError) as raised:
        await connect(site, token_in=TokenIn.HEADER | TokenIn.QUERY)
    told = "".join(traceback.format_exception(raised.value)) + caplog.text
    for secret in (TOKEN, "0ther.t0ken", "sec/ret", "sec%2Fret"):
        assert secret not in told


async def test_what_stands_behind_the_handshake_is_received_after_a_negotiation_too(site: Site) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet(Invocation("Hello"))

    site.behave = behave
    async with open_hub(URL, token=token, dial=site.dial) as hub:
        assert await hub.receive() == [Invocation("Hello")]
