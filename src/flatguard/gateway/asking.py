"""The two ways of asking the gateway: a reading, which is complete or raises, and a request that changes something,
which ends as done, refused or unknown and never raises for what the broker answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from attrs import define

from flatguard.clock import WallClock
from flatguard.errors import FlatguardError, GatewayUnreachable, UnreadableAnswer
from flatguard.gateway import verdict
from flatguard.gateway.allowance import Allowance, Lane
from flatguard.gateway.http import Answer, HttpClient, NoAnswer, NotSent
from flatguard.gateway.retry import Patience
from flatguard.gateway.token import Token
from flatguard.model.ids import AccountId
from flatguard.model.outcomes import Outcome, Refused, Unknown
from flatguard.model.trading import Order, Position, Trade
from flatguard.secret import Secret
from flatguard.signalr.errors import ProtocolError
from flatguard.signalr.framing import read_json, write_json

JSON = {"content-type": "application/json"}

Body = Mapping[str, object]
T = TypeVar("T")
Row = TypeVar("Row", Position, Order, Trade)


@define
class Asking:
    """The REST side of one login, in one lane of its allowance.

    Every method is a checkpoint; a request that has left is not cut short by a cancel. ``patience`` is how the routine
    calls are repeated; without it they are made once, as all others are.
    """

    http: HttpClient
    token: Token
    clock: WallClock
    allowance: Allowance
    lane: Lane = Lane.ROUTINE
    patience: Patience | None = None
    broker_at: datetime | None = None

    async def _read(self, path: str, body: Body, account_id: AccountId | None = None) -> Body:
        token, answer = await self._post(path, body, account_id)
        if answer.status in {401, 403}:
            _, answer = await self._post(path, body, account_id, refused=token)
        read = json_object(answer)
        verdict.refuse_what_failed(path, read)
        return read

    async def _routine(self, call: Callable[[], Awaitable[T]]) -> T:
        return await (call() if self.patience is None else self.patience.ask(call))

    async def _act(self, path: str, body: Body, account_id: AccountId) -> Outcome:
        try:
            token, answer = await self._post(path, body, account_id)
        except NoAnswer as error:
            return Unknown(str(error))
        except FlatguardError as error:  # every other one is raised before the request leaves
            return Refused(verdict.NOT_SENT, f"nothing was sent: {error}")
        if answer.status == 401:  # turned away at the door, so not carried out: this one may be sent again, once
            try:
                _, answer = await self._post(path, body, account_id, refused=token)
            except NoAnswer as error:
                return Unknown(str(error))
            except FlatguardError:
                pass  # it stays with what was answered
        return verdict.verdict(path, answer.status, maybe_object(answer), answer.retry_after_s)

    async def _post(
        self, path: str, body: Body, account_id: AccountId | None, *, refused: Secret | None = None
    ) -> tuple[Secret, Answer]:
        """Send when it is our turn, with a token other than ``refused``; return the token used and the answer."""
        content, history = write_json(body), path == verdict.BARS
        await self.allowance.take(self.lane, account_id, history=history)
        token = await (self.token.current() if refused is None else self.token.renewed(refused))
        answer = await self.http.post(path, content, {**JSON, **bearer(token)})
        self._learn_from(answer, history=history)
        return token, answer

    def _learn_from(self, answer: Answer, *, history: bool = False) -> None:
        if answer.date is not None:
            self.broker_at = answer.date
        if answer.status == 429:
            self.allowance.too_many(answer.retry_after_s, history=history)


def bearer(token: Secret) -> dict[str, Secret]:
    """Return the header that carries the token."""
    return {"authorization": Secret(f"Bearer {token.reveal()}")}


def of_account(account_id: AccountId, rows: Sequence[Row]) -> tuple[Row, ...]:
    """An answer about another account answers another question: leaving its rows out would make ours look empty."""
    if any(row.account_id != account_id for row in rows):
        raise UnreadableAnswer(f"asked for account {account_id}, the gateway told of another account")
    return tuple(rows)


async def reached(answer: Awaitable[Answer]) -> Answer:
    """Return the answer; raise GatewayUnreachable, with a hint for a person, where none came."""
    try:
        return await answer
    except (NotSent, NoAnswer) as error:
        raise GatewayUnreachable(str(error), hint="it is tried again until the gateway answers") from None


def json_object(answer: Answer) -> Body:
    """Return the answer's JSON object. Raises GatewayUnreachable for a server's failure, else UnreadableAnswer."""
    return verdict.readable(answer.status, maybe_object(answer), answer.retry_after_s)


def maybe_object(answer: Answer) -> Body | None:
    """Return the answer's JSON object; None where it is none."""
    try:
        return read_json(answer.body)
    except ProtocolError:
        return None
