"""The REST side: the one way in which every call is answered.

A call passes the faults, the token, the allowance and the binding of its body, in this order, before it is
acted upon; refusals of business come with HTTP 200.

Known: 401 without a body, 400 as a problem document. Inferred from ASP.NET Core: 415 for bodies that are not called
JSON, 405, the case of paths and properties, the texts of problem documents.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from flatguard.simulator import exact_json
from flatguard.simulator.bodies import PROBLEM_TYPE, BadBody, parse, problem, unsupported_media
from flatguard.simulator.operations import ENDPOINTS, Call, Endpoint, Reply, place, placed, ticket_of
from flatguard.simulator.rows import Row
from flatguard.simulator.wire import TEAR

if TYPE_CHECKING:
    from flatguard.simulator.app import Gateway

_SECRETS = frozenset({"apikey", "password", "token", "verifykey"})


def routes(gateway: Gateway) -> Iterable[Route]:
    """Return the routes of the REST side."""
    yield Route("/api/Status/ping", partial(_ping, gateway), methods=["GET"])
    for path, endpoint in ENDPOINTS.items():
        yield Route(path, partial(_answer, gateway, endpoint), methods=["POST"])


async def _ping(gateway: Gateway, request: Request) -> Response:
    now = gateway.now()
    entry = gateway.note_request(request.method, request.url.path)
    too_early = gateway.allowances.refuse("", request.url.path, now)
    entry["outcome"]["status"] = 200 if too_early is None else 429
    await gateway.sleep_until(gateway.world.soon(now))
    entry["ms"] = _milliseconds_since(gateway, now)
    return PlainTextResponse("pong") if too_early is None else _too_many(gateway, too_early)


def _milliseconds_since(gateway: Gateway, began: datetime) -> int:
    return (gateway.now() - began) // timedelta(milliseconds=1)


def _too_many(gateway: Gateway, too_early: timedelta | None) -> Response:
    """Return a 429, which may say when to come again: in seconds, or as a date."""
    response, options = Response(status_code=429), gateway.world.options
    if options.retry_after:
        seconds = 1 + int(too_early.total_seconds() if too_early else 0)
        again = gateway.now() + timedelta(seconds=seconds)
        response.headers["retry-after"] = (
            format_datetime(again, usegmt=True) if options.retry_after_is_a_date else str(seconds)
        )
    return response


def bearer_token(request: HTTPConnection) -> str:
    """Return the token of the Authorization header; empty if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def json_response(value: object, status: int = 200) -> Response:
    """Return an answer in exact JSON."""
    return Response(exact_json.dumps(value), status_code=status, media_type="application/json; charset=utf-8")


class _NeverAnswered(Exception):
    """A fault says that this call gets no answer."""


async def _answer(gateway: Gateway, endpoint: Endpoint, request: Request) -> Response:
    await trio.lowlevel.checkpoint()
    began = gateway.now()
    entry = gateway.note_request(request.method, request.url.path)
    try:
        data = await request.body()
        entry["body"] = _redacted(data)
        response = await _answer_logged(gateway, endpoint, request, data, entry)
        await gateway.sleep_until(gateway.world.soon(began))  # refusals take their time too
        return response
    except _NeverAnswered:
        entry["outcome"]["status"] = None
        await _wait_hung_up(request)
        return Response()
    except ClientDisconnect:  # gone before its request was whole
        entry["outcome"]["status"] = None
        raise
    except Exception:
        entry["outcome"]["status"] = 500
        raise
    finally:
        entry["ms"] = _milliseconds_since(gateway, began)


async def _answer_logged(
    gateway: Gateway, endpoint: Endpoint, request: Request, data: bytes, entry: dict[str, Any]
) -> Response:
    await trio.lowlevel.checkpoint()
    now, path, world, outcome = gateway.now(), request.url.path, gateway.world, entry["outcome"]

    def struck(name: str) -> bool:
        if world.faults.strikes(name, path, now) is None:
            return False
        outcome["fault"] = name
        return True

    def refuse(status: int, body: str = "", media_type: str | None = None) -> Response:
        outcome["status"] = status
        return Response(body, status_code=status, media_type=media_type)

    if struck("timeout_before"):
        raise _NeverAnswered
    if struck("http_401"):
        return refuse(401)
    if struck("http_500"):
        return refuse(500)
    if struck("html_body"):
        return refuse(200, "<html><body><h1>We will be right back</h1></body></html>", "text/html")
    token = bearer_token(request)
    bearer = gateway.tokens.user_of(token, now)
    if bearer is None and not endpoint.public:
        return refuse(401)
    entry["user"] = user = (bearer or _named_user(data)).lower()
    too_early = gateway.allowances.refuse(user, path, now)
    if too_early is not None or struck("http_429"):
        outcome["status"] = 429
        return _too_many(gateway, too_early)
    if endpoint.schema and not _is_json(request.headers.get("content-type", "")):
        return refuse(415, unsupported_media(gateway.trace_rng), PROBLEM_TYPE)
    try:
        body = parse(data, endpoint.type_name, endpoint.schema) if endpoint.schema else {}
    except BadBody as bad:
        return refuse(400, problem(bad.errors, gateway.trace_rng), PROBLEM_TYPE)

    seen_at = now
    if fault := world.faults.strikes("stale_read", path, now):
        outcome["fault"] = "stale_read"
        seen_at = now - fault.delay(5)
    call = Call(gateway, user, token, body, now, seen_at)
    reply = _act(endpoint, call, path, outcome)
    gateway.stir()
    outcome.update(status=200, errorCode=reply.code)

    if struck("http_500_after"):
        return refuse(500)
    if struck("timeout_after"):
        raise _NeverAnswered
    if struck("reset_after"):
        await request.scope[TEAR]()
        raise _NeverAnswered
    if fault := world.faults.strikes("slow", path, now):
        outcome["fault"] = "slow"
        await gateway.sleep_until(now + fault.delay(10))
    envelope = reply.envelope()
    if endpoint.rows is not None and struck("missing_list"):
        del envelope[endpoint.rows]
    await gateway.sleep_until(reply.at or now)
    return json_response(envelope)


def _act(endpoint: Endpoint, call: Call, path: str, outcome: dict[str, Any]) -> Reply:
    """Act upon a call, or do what a fault says instead."""
    world = call.gateway.world
    world.run(call.now)
    extra: Row = {"orderId": None} if endpoint.act is place else {}
    if endpoint.rows is not None:
        extra[endpoint.rows] = None
    if endpoint.refuses_exit is not None and world.faults.strikes("refuse_exits", path, call.now):
        outcome["fault"] = "refuse_exits"
        return Reply(endpoint.refuses_exit, "Live accounts not supported")
    if world.faults.strikes("error_unknown", path, call.now):
        outcome["fault"] = "error_unknown"
        return Reply(endpoint.unknown, extra=extra)
    for name in ("error_pending", "error_pending_fails"):
        fault = None if endpoint.pending is None else world.faults.strikes(name, path, call.now)
        if fault is None:
            continue
        outcome["fault"], fails = name, name == "error_pending_fails"
        if endpoint.act is place and call.book() is not None:
            return placed(world.place(ticket_of(call.body), call.now, delay=fault.delay(2), fails=fails))
        if not fails:
            world.schedule(call.now + fault.delay(2), partial(_act_later, endpoint, call))
        assert endpoint.pending is not None
        return Reply(endpoint.pending, extra=extra)
    if world.faults.strikes("error_unknown_after", path, call.now):
        outcome["fault"] = "error_unknown_after"
        return Reply(endpoint.unknown, extra=extra, at=endpoint.act(call).at)
    return endpoint.act(call)


def _act_later(endpoint: Endpoint, call: Call, at: datetime) -> None:
    endpoint.act(Call(call.gateway, call.user, call.token, call.body, at, at))


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind in {"application/json", "text/json"} or (kind.startswith("application/") and kind.endswith("+json"))


async def _wait_hung_up(request: Request) -> None:
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return


def _named_user(data: bytes) -> str:
    """Return the login name in a body, by which calls without a token are counted."""
    try:
        body = exact_json.loads(data)
    except ValueError:
        return ""
    return str(body.get("userName", "")).lower() if isinstance(body, dict) else ""


def _redacted(data: bytes) -> object:
    if not data:
        return None
    try:
        return _blanked(exact_json.loads(data))
    except ValueError:
        return "(not JSON)"


def _blanked(value: object) -> object:
    """Return what was sent without what nobody may read in a log."""
    if isinstance(value, dict):
        return {key: "(redacted)" if key.lower() in _SECRETS else _blanked(item) for key, item in value.items()}
    return [_blanked(item) for item in value] if isinstance(value, list) else value
