"""Answers to the calls of a server that wants a result: exactly one for each, whatever happens here."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn

import trio

from flatguard.signalr import Completion, Invocation, LocalProtocolError
from flatguard.signalr.framing import write
from flatguard.signalr_client.handlers import ByTarget, Handler

ANSWERS_AT_ONCE = 100
"""Answers under way at once; a server that asks for more is told that we are busy."""

NO_RESULT = "Client didn't provide a result."
BAD_ARGUMENTS = "Client failed to parse argument(s)."
BUSY = "Client is busy."


class Answers:
    """Runs ``handlers`` for what the server asks, and has each answer said by ``say``."""

    def __init__(self, handlers: Mapping[str, Handler], say: Callable[[Completion], None]) -> None:
        self._handlers = ByTarget(handlers)
        self._say = say
        self._asked_in, self._asked_out = trio.open_memory_channel[tuple[str, Handler, Invocation]](math.inf)
        self._under_way = 0

    def take(self, question: Invocation) -> bool:
        """Have a call that wants a result answered; return whether anybody here knows what it is about."""
        id_, handler = question.invocation_id, self._handlers.get(question.target)
        assert id_ is not None
        if handler is None:
            self._say(Completion(id_, error=NO_RESULT))
        elif self._under_way >= ANSWERS_AT_ONCE:
            self._say(Completion(id_, error=BUSY))
        else:
            self._under_way += 1
            self._asked_in.send_nowait((id_, handler, question))
        return handler is not None

    async def give(self) -> NoReturn:
        """Begin the answers in the order of the questions, and let them run side by side, for ever.

        To wait for each would be a deadlock where one answer needs another question answered. They do begin in order:
        between two of them lies a checkpoint, by which the first has begun. If cancelled, those under way are too.
        """
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._answer, *await self._asked_out.receive())

    async def _answer(self, id_: str, handler: Handler, question: Invocation) -> None:
        try:
            inspect.signature(handler).bind(*question.arguments)
        except TypeError:
            answer = Completion(id_, error=BAD_ARGUMENTS)
        else:
            answer = _writable(await _answer_of(id_, partial(handler, *question.arguments)))
        self._under_way -= 1
        self._say(answer)


async def _answer_of(id_: str, handler: Handler) -> Completion:
    """Return what a handler gives, None included, or why it cannot be told."""
    try:
        return Completion(id_, await handler())
    except Exception as error:  # noqa: BLE001  whatever goes wrong is the answer
        return Completion(id_, error=str(error) or type(error).__name__)


def _writable(answer: Completion) -> Completion:
    """Return the answer, or one that says why that one cannot be told."""
    try:
        write(answer)
    except LocalProtocolError as error:
        return Completion(answer.invocation_id, error=f"The client's answer {error}.")
    return answer
