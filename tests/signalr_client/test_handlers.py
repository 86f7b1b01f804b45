"""Handlers: in order, outside the reader, found by name, one's failure apart from the others."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing

from flatguard.signalr import Close, Invocation, Ping
from flatguard.signalr_client.errors import HubLost
from flatguard.signalr_client.handlers import Dispatcher
from flatguard.signalr_client.hub import Hub
from flatguard.signalr_client.hub import open_hub as open_hub_by_default
from tests.fakes.signalr_server import Behaviour, Peer, Serve

URL = "https://rtc.example.com/hubs/user"
open_hub = partial(open_hub_by_default, negotiating=False)


class Book:
    """Writes down what a handler was given, and what failed."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.failures: list[tuple[str, str]] = []

    async def note(self, *arguments: object) -> None:
        await trio.lowlevel.checkpoint()
        self.calls.append(arguments)

    async def fail(self, *arguments: object) -> None:
        await self.note(*arguments)
        raise RuntimeError("mine")

    def failed(self, target: str, error: Exception) -> None:
        self.failures.append((target, str(error)))


async def run_until_lost(dispatcher: Dispatcher, hub: Hub) -> None:
    with pytest.raises(HubLost):
        await dispatcher.run(hub)


def calling(*invocations: Invocation) -> Behaviour:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        for invocation in invocations:
            await peer.say(invocation)
        await peer.say(Close())

    return behave


async def test_handlers_get_the_arguments_of_every_call_in_the_servers_order(serve: Serve) -> None:
    book = Book()
    calls = [Invocation("Quote", (number, None)) for number in range(50)]
    async with open_hub(URL, dial=serve(calling(*calls))) as hub:
        await run_until_lost(Dispatcher({"Quote": [book.note]}, book.failed), hub)
    assert book.calls == [(number, None) for number in range(50)]


async def test_several_handlers_of_one_name_run_in_their_order(serve: Serve) -> None:
    book = Book()
    handlers = [partial(book.note, "first"), partial(book.note, "second")]
    async with open_hub(URL, dial=serve(calling(Invocation("A", (1,)), Invocation("A", (2,))))) as hub:
        await run_until_lost(Dispatcher({"A": handlers}, book.failed), hub)
    assert book.calls == [("first", 1), ("second", 1), ("first", 2), ("second", 2)]


async def test_a_handler_that_fails_costs_neither_the_others_nor_the_link(serve: Serve) -> None:
    book = Book()
    async with open_hub(URL, dial=serve(calling(Invocation("A", (1,)), Invocation("A", (2,))))) as hub:
        await run_until_lost(Dispatcher({"A": [book.fail, book.note]}, book.failed), hub)
    assert book.calls == [(1,), (1,), (2,), (2,)]
    assert book.failures == [("A", "mine")] * 2


async def test_a_handler_that_does_not_take_the_arguments_has_failed_like_any_other(serve: Serve) -> None:
    async def narrow() -> None:
        await trio.lowlevel.checkpoint()

    book = Book()
    async with open_hub(URL, dial=serve(calling(Invocation("A", (1,)), Invocation("B", (2,))))) as hub:
        await run_until_lost(Dispatcher({"A": [narrow], "B": [book.note]}, book.failed), hub)
    assert [target for target, _ in book.failures] == ["A"]
    assert book.calls == [(2,)]


async def test_a_name_is_found_as_it_is_spelt_and_else_whatever_the_capitals(serve: Serve) -> None:
    book = Book()
    handlers = {"quote": [partial(book.note, "small")], "Quote": [partial(book.note, "large")]}
    calls = [Invocation(target) for target in ("quote", "Quote", "QUOTE")]
    async with open_hub(URL, dial=serve(calling(*calls))) as hub:
        await run_until_lost(Dispatcher(handlers, book.failed), hub)
    assert book.calls[:2] == [("small",), ("large",)]
    assert len(book.calls) == 3


async def test_what_nobody_handles_is_counted_and_no_error(serve: Serve) -> None:
    book = Book()
    dispatcher = Dispatcher({"A": [book.note]}, book.failed)
    async with open_hub(URL, dial=serve(calling(Invocation("B"), Invocation("A"), Invocation("C")))) as hub:
        await run_until_lost(dispatcher, hub)
    assert (dispatcher.unhandled, book.calls, book.failures) == (2, [()], [])


async def test_a_slow_handler_holds_up_neither_pings_nor_answers(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    handled: list[int] = []

    async def slow(number: int) -> None:
        await trio.sleep(10)
        handled.append(number)

    async def behave(peer: Peer) -> None:
        peers.append(peer)
        await peer.greet(*(Invocation("Quote", (number,)) for number in range(6)))
        await peer.answer_calls("done")

    peers: list[Peer] = []
    async with open_hub(URL, dial=serve(behave)) as hub, trio.open_nursery() as nursery:
        nursery.start_soon(Dispatcher({"Quote": [slow]}, Book().failed).run, hub)
        await trio.sleep(16)
        assert peers[0].times_of(Ping) == [0, 15]
        assert await hub.invoke("Subscribe") == "done"
        assert trio.current_time() == 16
        nursery.cancel_scope.cancel()
    assert handled == [0]


async def test_a_handler_may_call_the_server(serve: Serve) -> None:
    hubs: list[Hub] = []
    answers: list[object] = []

    async def ask() -> None:
        answers.append(await hubs[0].invoke("Ask"))
        nursery.cancel_scope.cancel()

    async def behave(peer: Peer) -> None:
        await peer.greet(Invocation("Hello"))
        await peer.answer_calls("done")

    async with open_hub(URL, dial=serve(behave)) as hub, trio.open_nursery() as nursery:
        hubs.append(hub)
        nursery.start_soon(Dispatcher({"Hello": [ask]}, Book().failed).run, hub)
    assert answers == ["done"]
