"""What to do with the server's calls, by name: run in order, outside the reader, one's failure apart from the others.

A hub hands its batches to whoever asks for them. This is one way of asking, for those who think in handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

from attrs import define, field

if TYPE_CHECKING:
    from flatguard.signalr_client.hub import Hub

T = TypeVar("T")

Handler = Callable[..., Awaitable[object]]


class ByTarget(Generic[T]):
    """Looks things up by a call's target: as it is spelt, else whatever its capitals, as servers look up theirs."""

    def __init__(self, things: Mapping[str, T]) -> None:
        self._spelt = dict(things)
        self._folded = {name.casefold(): thing for name, thing in things.items()}

    def get(self, target: str) -> T | None:
        """Return what stands under ``target``; None if nothing does."""
        return self._spelt[target] if target in self._spelt else self._folded.get(target.casefold())


@define
class Dispatcher:
    """Runs the handlers of every call, with the call's arguments. ``failed`` is told of what a handler raises."""

    handlers: Mapping[str, Sequence[Handler]]
    failed: Callable[[str, Exception], None]
    unhandled: int = 0
    """Calls that nobody handles. That is no error: a server may say more than anybody wants to know."""

    _by_target: ByTarget[Sequence[Handler]] = field(init=False)

    @_by_target.default
    def _index(self) -> ByTarget[Sequence[Handler]]:
        return ByTarget(self.handlers)

    async def run(self, hub: Hub) -> NoReturn:
        """Handle what the server calls, in its order, one handler after the other, until HubLost is raised.

        While a handler takes its time, calls wait in the hub, which says how many. If cancelled, a handler is cancelled
        with it, and the rest of its batch is dropped.
        """
        while True:
            for invocation in await hub.receive():
                handlers = self._by_target.get(invocation.target)
                if handlers is None:
                    self.unhandled += 1
                    continue
                for handler in handlers:
                    try:
                        await handler(*invocation.arguments)
                    except Exception as error:  # noqa: BLE001  one handler's failure must not cost the others their calls
                        self.failed(invocation.target, error)
