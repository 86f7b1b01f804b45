"""The REST side of the gateway: one method per endpoint, typed in, typed out.

The families have a module each: ``reading`` for the picture and the routine look-ups, ``acting`` for what changes
something, ``asking`` for the way in which either is asked.
"""

from __future__ import annotations

import re

from attrs import define, frozen

from flatguard.errors import GatewayUnreachable, UnreadableAnswer
from flatguard.gateway.acting import Acting
from flatguard.gateway.asking import JSON
from flatguard.gateway.asking import bearer as _bearer
from flatguard.gateway.asking import json_object as _object
from flatguard.gateway.asking import reached as _reached
from flatguard.gateway.http import HttpClient
from flatguard.gateway.reading import Looking
from flatguard.gateway.token import LOGIN_REFUSALS, login_refused
from flatguard.gateway.verdict import broker_text
from flatguard.model.events import ExposureRead
from flatguard.model.ids import AccountId, ContractId, OrderId
from flatguard.model.outcomes import Outcome
from flatguard.signalr.framing import write_json


async def log_in(http: HttpClient, user_name: str, api_key: str) -> str:
    """Fetch a token with the API key. Raises LoginRefused, GatewayUnreachable or UnreadableAnswer."""
    body = _object(
        await _reached(http.post("/api/Auth/loginKey", write_json({"userName": user_name, "apiKey": api_key}), JSON))
    )
    code, text = body.get("errorCode"), body.get("errorMessage")
    if body.get("success") is True and code == 0:
        return _token(body.get("token"))
    if body.get("success") is False and type(code) is int and code in LOGIN_REFUSALS:
        raise login_refused(code, broker_text(text.replace(api_key, "***") if isinstance(text, str) else None))
    if code == 8:
        raise GatewayUnreachable("the gateway could not log us in just now (code 8)", hint="it is tried again")
    raise UnreadableAnswer(f"the login was answered in a way that is not documented (code {code!r:.20})")


async def validate(http: HttpClient, token: str) -> str:
    """Exchange a token for a fresh one; the old one where the gateway gives none. Raises as ``log_in`` does."""
    body = _object(await _reached(http.post("/api/Auth/validate", "", {**JSON, **_bearer(token)})))
    if body.get("success") is not True:
        raise UnreadableAnswer(f"the token was not validated (code {body.get('errorCode')!r:.20})")
    return _token(body.get("newToken") or token)


def _token(text: object) -> str:
    """A token that no header can hold would fail with every request, in an error that quotes it."""
    if not isinstance(text, str) or not re.fullmatch(r"[!-~]+", text):
        raise UnreadableAnswer("the gateway gave a token that cannot be used")
    return text


@define
class Gateway(Looking, Acting):
    """All of it, for one purpose: with a client and a lane of its own."""


@frozen
class Enforcer:
    """The broker as enforcement needs it. Closes have a lane and connections of their own, so that neither hanging
    cancels nor a used-up allowance hold them up; the readings that prove an end come after the cancels.
    """

    closes: Gateway
    cancels: Gateway
    proofs: Gateway

    async def read_exposure(self, account_id: AccountId) -> ExposureRead:
        """Read positions and working orders, completely or not at all."""
        return await self.proofs.read_exposure(account_id)

    async def close(self, account_id: AccountId, contract_id: ContractId) -> Outcome:
        """Close the whole position. Resting orders stay."""
        return await self.closes.close(account_id, contract_id)

    async def partial_close(self, account_id: AccountId, contract_id: ContractId, size: int) -> Outcome:
        """Close ``size`` contracts of the position. Resting orders stay."""
        return await self.closes.partial_close(account_id, contract_id, size)

    async def cancel(self, account_id: AccountId, order_id: OrderId) -> Outcome:
        """Cancel an order."""
        return await self.cancels.cancel(account_id, order_id)
