"""The broker's door: log in with a key, exchange a token for a fresh one, log out.

Texts of keys and tokens are revealed in the expression that sends them, and nowhere else; an answer that quotes one is
cleaned before it becomes part of an error.
"""

from __future__ import annotations

import re

from flatguard.errors import GatewayUnreachable, LoginRefused, UnreadableAnswer
from flatguard.gateway.asking import JSON, Body, bearer, json_object, reached
from flatguard.gateway.http import Answer, HttpClient
from flatguard.gateway.verdict import broker_text
from flatguard.secret import Secret
from flatguard.signalr.framing import write_json

NOT_BY_KEY = "log in with an API key; flatguard sends nothing else"
LOGIN_REFUSALS = {
    1: ("the user name is not known", "check gateway.user_name; it is the platform's login name"),
    2: ("the password was not accepted", NOT_BY_KEY),
    3: (
        "the user name or the API key is wrong",
        "check gateway.user_name; store the right key with flatguard login, then start flatguard run anew",
    ),
    4: ("the application is not known", NOT_BY_KEY),
    5: ("the application was not accepted", NOT_BY_KEY),
    6: ("the device was not accepted", NOT_BY_KEY),
    7: ("the platform's agreements are not signed", "log in to the platform once and accept them"),
    9: ("there is no API subscription", "subscribe to API access, then link it to this user"),
    10: ("API key login is switched off by the firm", "ask the firm to allow it"),
}
"""The documented codes that only a person can mend, why, and how. 8 is an unknown error, which passes."""


async def log_in(http: HttpClient, user_name: str, api_key: Secret) -> Secret:
    """Fetch a token with the API key. Raises LoginRefused, GatewayUnreachable or UnreadableAnswer.

    Cancellation is as with ``HttpClient.post``: what has left runs to its end.
    """
    content = Secret(write_json({"userName": user_name, "apiKey": api_key.reveal()}))
    body, token = _opened(await reached(http.post("/api/Auth/loginKey", content, JSON)), "token")
    code = body.get("errorCode")
    if body.get("success") is True and code == 0:
        return _usable(token)
    if body.get("success") is False and type(code) is int and code in LOGIN_REFUSALS:
        text = body.get("errorMessage")
        raise login_refused(code, broker_text(text.replace(api_key.reveal(), "***") if isinstance(text, str) else None))
    if code == 8:
        raise GatewayUnreachable("the gateway could not log us in just now (code 8)", hint="it is tried again")
    raise UnreadableAnswer(f"the login was answered in a way that is not documented (code {code!r:.20})")


async def validate(http: HttpClient, token: Secret) -> Secret:
    """Exchange a token for a fresh one; the old one where the gateway gives none. Raises as ``log_in`` does."""
    answer = await reached(http.post("/api/Auth/validate", "", {**JSON, **bearer(token)}))
    body, new = _opened(answer, "newToken")
    if body.get("success") is not True:
        raise UnreadableAnswer(f"the token was not validated (code {body.get('errorCode')!r:.20})")
    return _usable(new) if new else token


async def log_out(http: HttpClient, token: Secret) -> None:
    """End the session of a token. Returns where it is over already too. Raises as ``log_in`` does, but no refusal."""
    answer = await reached(http.post("/api/Auth/logout", "", {**JSON, **bearer(token)}))
    if answer.status == 401:
        return
    body = json_object(answer)
    if body.get("success") is not True and body.get("errorCode") != 1:  # 1: there is no such session
        raise UnreadableAnswer(f"the session was not ended (code {body.get('errorCode')!r:.20})")


def login_refused(code: int, text: str) -> LoginRefused:
    """Make the error of a login that the broker refused with ``code``, one of LOGIN_REFUSALS, in words of its own."""
    reason, hint = LOGIN_REFUSALS[code]
    return LoginRefused(f"the gateway refused the login: {reason}{text and f' ({text})'}", hint=hint)


def _opened(answer: Answer, key: str) -> tuple[Body, Secret]:
    """Return an answer's JSON object and, apart from it, the token under ``key``; empty where there is none."""
    body = dict(json_object(answer))
    token = body.pop(key, None)
    return body, Secret(token if isinstance(token, str) else "" if token is None else " ")


def _usable(token: Secret) -> Secret:
    """A token that no header can hold would fail with every request, in an error that quotes it."""
    if not re.fullmatch(r"[!-~]+", token.reveal()):
        raise UnreadableAnswer("the gateway gave a token that cannot be used")
    return token
