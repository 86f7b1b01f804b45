"""What either side asks of the other: streams, calls without an answer, calls given up, and answers to the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing

from flatguard.signalr import (
    CancelInvocation,
    Close,
    Completion,
    Invocation,
    LocalProtocolError,
    Message,
    Ping,
    StreamInvocation,
    StreamItem,
)
from flatguard.signalr_client import hub as hub_module
from flatguard.signalr_client.answers import ANSWERS_AT_ONCE
from flatguard.signalr_client.errors import HubCallFailed, HubCallUnresolved, HubLost
from flatguard.signalr_client.hub import Hub
from flatguard.signalr_client.hub import open_hub as open_hub_by_default
from flatguard.signalr_client.stream import Stream
from tests.fakes.signalr_server import Behaviour, Line, Peer, Serve, deaf_after_greeting

URL = "https://rtc.example.com/hubs/user"
open_hub = partial(open_hub_by_default, negotiating=False)


def streaming(*messages: Message) -> Behaviour:
    """Answer the first streaming call with ``messages``, whose id is that of the call."""

    async def behave(peer: Peer) -> None:
        await peer.greet()
        while True:
            for message in await peer.hear():
                if isinstance(message, StreamInvocation):
                    await peer.say(*messages)

    return behave


def items(*values: object) -> tuple[StreamItem, ...]:
    return tuple(StreamItem("1", value) for value in values)


async def taken(stream: Stream) -> list[object]:
    return [item async for item in stream]


# --- Streams of the server ---


async def test_the_items_of_a_stream_come_in_order_null_included(serve: Serve) -> None:
    line = streaming(*items(1, None, "x"), Completion("1"))
    async with open_hub(URL, dial=serve(line)) as hub, hub.stream("Count", 5) as stream:
        assert await taken(stream) == [1, None, "x"]


async def test_a_stream_is_asked_for_with_its_arguments(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub, hub.stream("Count", 5, None):
        await trio.testing.wait_all_tasks_blocked()
        assert StreamInvocation("Count", "1", (5, None)) in [message for _, message in line.peer.heard]


async def test_a_stream_that_ends_with_an_error_raises_it_behind_its_items(serve: Serve) -> None:
    line = streaming(*items(1, 2), Completion("1", error="An error occurred on the server while streaming results."))
    async with open_hub(URL, dial=serve(line)) as hub, hub.stream("Count") as stream:
        assert [await anext(stream), await anext(stream)] == [1, 2]
        with pytest.raises(HubCallFailed, match="Count failed: An error occurred on the server while streaming"):
            await anext(stream)


async def test_a_result_at_the_end_of_a_stream_is_ignored(serve: Serve) -> None:
    async with (
        open_hub(URL, dial=serve(streaming(*items(1), Completion("1", 7)))) as hub,
        hub.stream("Count") as stream,
    ):
        assert await taken(stream) == [1]


async def test_a_stream_that_is_lost_gives_its_items_and_then_says_so(serve: Serve) -> None:
    line = streaming(*items(1), Close("restarting", allow_reconnect=True))
    async with open_hub(URL, dial=serve(line)) as hub, hub.stream("Count") as stream:
        assert await anext(stream) == 1
        with pytest.raises(HubCallUnresolved, match=r"Count may or may not have run: .*restarting") as lost:
            await anext(stream)
        assert lost.value.worth_reconnecting


async def test_a_stream_on_a_lost_hub_does_not_begin(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet(Close())

    async with open_hub(URL, dial=serve(behave)) as hub:
        with pytest.raises(HubLost):
            await hub.receive()
        with pytest.raises(HubLost) as lost:
            async with hub.stream("Count"):
                pytest.fail("it began")
        assert not isinstance(lost.value, HubCallUnresolved), "it cannot have run"


async def test_leaving_a_stream_early_asks_the_server_to_stop_it(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub:
        async with hub.stream("Count") as stream:
            await line.up.wait()
            await line.peer.say(*items(1, 2, 3))
            assert await anext(stream) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert [message for _, message in line.peer.heard][-1] == CancelInvocation("1")
        assert hub.statistics().messages_waiting == 0
        await line.peer.say(*items(4), Completion("1"))
        await trio.testing.wait_all_tasks_blocked()
        assert hub.statistics().messages_waiting == 0


async def test_leaving_a_stream_that_has_ended_tells_the_server_nothing(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub:
        await line.up.wait()
        async with hub.stream("Count") as stream:
            await line.peer.say(*items(1, 2), Completion("1"))
            assert await anext(stream) == 1
        await trio.testing.wait_all_tasks_blocked()
        assert not line.peer.times_of(CancelInvocation)


async def test_an_item_behind_the_end_of_a_stream_is_counted_and_ignored(serve: Serve) -> None:
    line = streaming(*items(1), Completion("1"), *items(2), Completion("1"))
    async with open_hub(URL, dial=serve(line)) as hub, hub.stream("Count") as stream:
        assert await taken(stream) == [1]
        assert hub.statistics().answers_ignored == 2


async def test_a_stream_that_cannot_be_asked_for_harms_nobody(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub:
        with pytest.raises(LocalProtocolError):
            async with hub.stream("Count", object()):
                pytest.fail("it began")
        await trio.testing.wait_all_tasks_blocked()
        assert {type(message) for _, message in line.peer.heard[1:]} == {Ping}


async def test_streams_do_not_mix(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub, hub.stream("A") as a, hub.stream("B") as b:
        await line.up.wait()
        await line.peer.say(StreamItem("2", "b"), StreamItem("1", "a"), Completion("2"), StreamItem("1", "aa"))
        await line.peer.say(Completion("1"))
        assert (await taken(a), await taken(b)) == (["a", "aa"], ["b"])


async def test_a_cancel_while_waiting_for_an_item_loses_none(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub, hub.stream("Count") as stream:
        await line.up.wait()
        with trio.move_on_after(1):
            await anext(stream)
        await line.peer.say(*items("late"), Completion("1"))
        assert await taken(stream) == ["late"]


# --- What waits is bounded ---


async def test_items_that_nobody_takes_hold_the_server_up_and_are_not_lost(
    serve: Serve, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "HELD", 3)

    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.hear()
        for number in range(20):
            await peer.say(StreamItem("1", number))
        await peer.say(Completion("1"))

    async with open_hub(URL, dial=serve(behave)) as hub, hub.stream("Count") as stream:
        await trio.sleep(20)
        assert 3 < hub.statistics().messages_waiting < 20
        assert await taken(stream) == list(range(20))


async def test_an_item_that_somebody_waits_for_is_read_although_calls_of_the_server_wait(
    serve: Serve, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "HELD", 3)
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub:
        await line.up.wait()
        for number in range(6):
            await line.peer.say(Invocation("Quote", (number,)))
        await trio.sleep(1)
        async with hub.stream("Count") as stream:
            await line.peer.say(*items("found"))
            assert await anext(stream) == "found"
        received: list[object] = []
        while len(received) < 6:
            received += [call.arguments[0] for call in await hub.receive()]
        assert received == list(range(6))


async def test_a_hub_whose_messages_nobody_takes_is_given_up_before_it_fills_the_memory(
    serve: Serve, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "HELD", 3)
    monkeypatch.setattr(hub_module, "HELD_AT_MOST", 10)

    async def behave(peer: Peer) -> None:
        await peer.greet()
        for number in range(100):
            await peer.say(Invocation("Quote", (number,)))

    async with open_hub(URL, dial=serve(behave)) as hub:
        with pytest.raises(HubCallUnresolved, match="11 messages wait and nobody takes them"):
            await hub.invoke("NeverAnswered")
        assert [i.arguments[0] for _ in range(11) for i in await hub.receive()] == list(range(11))
        with pytest.raises(HubLost, match="nobody takes them"):
            await hub.receive()


# --- Calls without an answer, and calls given up ---


async def test_what_is_sent_wants_no_answer(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub:
        await hub.send("Note", 1, None)
        await trio.testing.wait_all_tasks_blocked()
        assert Invocation("Note", (1, None)) in [message for _, message in line.peer.heard]
        assert hub.statistics().calls_waiting == 0


async def test_sending_on_a_lost_hub_says_that_it_is_lost(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet(Close())

    async with open_hub(URL, dial=serve(behave)) as hub:
        with pytest.raises(HubLost):
            await hub.receive()
        with pytest.raises(HubLost, match="closed the connection"):
            await hub.send("Note")


async def test_a_call_given_up_while_it_waits_is_cancelled_at_the_server(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub:
        with trio.move_on_after(5):
            await hub.invoke("Slow")
        await trio.testing.wait_all_tasks_blocked()
        assert [message for _, message in line.peer.heard][-1] == CancelInvocation("1")


async def test_a_call_that_was_answered_is_not_cancelled_at_the_server(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.answer_calls()

    peers: list[Peer] = []

    async def note(peer: Peer) -> None:
        peers.append(peer)
        await behave(peer)

    async with open_hub(URL, dial=serve(note)) as hub:
        await hub.invoke("Quick")
        await trio.testing.wait_all_tasks_blocked()
        assert not peers[0].times_of(CancelInvocation)


async def test_the_round_trip_is_that_of_the_latest_answered_call(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet()
        delay_s = 3
        while True:
            for message in await peer.hear():
                if isinstance(message, Invocation):
                    await trio.sleep(delay_s)
                    await peer.say(Completion(message.invocation_id or "", error="Unknown hub method 'Ping'"))
                    delay_s -= 1

    async with open_hub(URL, dial=serve(behave)) as hub:
        assert hub.statistics().round_trip_s is None
        for expected in (3, 2):
            with pytest.raises(HubCallFailed):
                await hub.invoke("Ping")
            assert hub.statistics().round_trip_s == expected


async def test_the_counters_count_messages_bytes_and_the_time_of_the_last(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub:
        await line.up.wait()
        await trio.sleep(7)
        await line.peer.say(Invocation("A"), Ping())
        await hub.receive()
        seen = hub.statistics()
        records = ["{}", '{"type":1,"target":"A","arguments":[]}', '{"type":6}']
        assert (seen.messages_received, seen.bytes_received) == (3, sum(len(record) + 1 for record in records))
        assert seen.heard_at == 7


# --- What the server asks of us ---


async def asked(line: Line, *questions: Invocation) -> dict[str, Completion]:
    """Ask, wait until nothing more happens, and return our answers by id."""
    await line.up.wait()
    await line.peer.say(*questions)
    await trio.testing.wait_all_tasks_blocked()
    answers = [message for _, message in line.peer.heard if isinstance(message, Completion)]
    assert len({answer.invocation_id for answer in answers}) == len(answers), "one answer each"
    return {answer.invocation_id: answer for answer in answers}


async def give(value: object = None) -> object:
    await trio.lowlevel.checkpoint()
    return value


@pytest.mark.parametrize("value", [7, "", 0, False, None, [1], {"a": None}])
async def test_what_an_answer_returns_is_the_result_whatever_it_is(serve: Serve, value: object) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"Ask": give}):
        assert await asked(line, Invocation("Ask", (value,), "q")) == {"q": Completion("q", value)}


async def test_what_an_answer_raises_is_the_error(serve: Serve) -> None:
    async def fail(words: str) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError(words)

    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"Ask": fail}) as hub:
        answers = await asked(line, Invocation("Ask", ("not today",), "a"), Invocation("Ask", ("",), "b"))
        assert (answers["a"].error, answers["b"].error) == ("not today", "ValueError")
        await line.peer.say(Invocation("Still"))
        assert await hub.receive() == [Invocation("Still")]


async def test_arguments_that_do_not_fit_are_told_to_the_server(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"Ask": give}):
        answers = await asked(line, Invocation("Ask", (1, 2), "q"))
        assert answers["q"].error == "Client failed to parse argument(s)."


async def test_a_type_error_inside_an_answer_is_not_taken_for_arguments_that_do_not_fit(serve: Serve) -> None:
    async def add(number: int) -> object:
        await trio.lowlevel.checkpoint()
        return "1" + number  # type: ignore[operator]

    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"Ask": add}):
        answers = await asked(line, Invocation("Ask", (1,), "q"))
        assert "can only concatenate str" in (answers["q"].error or "")


async def test_a_result_that_cannot_be_written_is_an_error_at_the_server_and_not_here(serve: Serve) -> None:
    async def odd() -> object:
        await trio.lowlevel.checkpoint()
        return object()

    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"Ask": odd}) as hub:
        answers = await asked(line, Invocation("Ask", (), "q"))
        assert "cannot be written as JSON" in (answers["q"].error or "")
        await line.peer.say(Invocation("Still"))
        assert await hub.receive() == [Invocation("Still")]


async def test_a_question_that_is_answered_is_not_handed_over_as_an_event(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"Ask": give}) as hub:
        await asked(line, Invocation("Ask", (), "q"), Invocation("Tell"), Invocation("Ask"))
        assert await hub.receive() == [Invocation("Tell"), Invocation("Ask")]


async def test_an_answer_is_found_whatever_the_capitals(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"getMessage": give}):
        assert (await asked(line, Invocation("GETMESSAGE", (1,), "q")))["q"].result == 1


async def test_answers_begin_in_order_and_do_not_wait_for_each_other(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    began: list[object] = []
    second = trio.Event()

    async def first_waits_for_second(number: object) -> object:
        began.append(number)
        if number == 1:
            await second.wait()
        else:
            second.set()
        return number

    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"Ask": first_waits_for_second}):
        answers = await asked(line, *(Invocation("Ask", (number,), f"q{number}") for number in range(1, 21)))
        assert began == list(range(1, 21))
        assert {answer.result for answer in answers.values()} == set(range(1, 21))


async def test_a_slow_answer_holds_up_neither_events_nor_pings_nor_calls(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    async def slow() -> None:
        await trio.sleep(100)

    async def behave(peer: Peer) -> None:
        peers.append(peer)
        await peer.greet(Invocation("Ask", (), "q"), Invocation("Tell"))
        await peer.answer_calls("done")

    peers: list[Peer] = []
    async with open_hub(URL, dial=serve(behave), answers={"Ask": slow}) as hub:
        assert await hub.receive() == [Invocation("Tell")]
        assert await hub.invoke("Subscribe") == "done"
        await trio.sleep(29)
        assert peers[0].times_of(Ping) == [0, 15]


async def test_an_answer_may_call_the_server(serve: Serve) -> None:
    hubs: list[Hub] = []
    line = Line()

    async def ask_back() -> object:
        return await hubs[0].invoke("AskBack")

    async def behave(peer: Peer) -> None:
        await line(peer)
        await peer.answer_calls("the server's word")

    async with open_hub(URL, dial=serve(behave), answers={"Ask": ask_back}) as hub:
        hubs.append(hub)
        answers = await asked(line, Invocation("Ask", (), "q"))
        assert answers["q"].result == "the server's word"


async def test_a_server_that_asks_too_much_is_told_that_we_are_busy(
    serve: Serve, autojump_clock: trio.abc.Clock
) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"Ask": trio.sleep_forever}):
        answers = await asked(line, *(Invocation("Ask", (), f"q{n}") for n in range(ANSWERS_AT_ONCE + 1)))
        assert answers == {"q100": Completion("q100", error="Client is busy.")}


async def test_a_server_may_ask_again_what_we_had_no_time_for(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"Ask": give}):
        for first in (0, ANSWERS_AT_ONCE):
            ids = [f"q{first + n}" for n in range(ANSWERS_AT_ONCE)]
            answers = await asked(line, *(Invocation("Ask", (1,), id_) for id_ in ids))
            assert {answers[id_].error for id_ in ids} == {None}


async def test_answers_under_way_end_with_the_hub(serve: Serve, autojump_clock: trio.abc.Clock) -> None:
    ended = trio.Event()

    async def slow() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async def behave(peer: Peer) -> None:
        await peer.greet(Invocation("Ask", (), "q"))

    async with open_hub(URL, dial=serve(behave), answers={"Ask": slow}):
        await trio.sleep(1)
        assert not ended.is_set()
    assert ended.is_set()


# --- What goes wrong between ---


async def test_leaving_before_anything_was_taken_is_no_error(serve: Serve) -> None:
    async def behave(peer: Peer) -> None:
        await peer.greet(Invocation("First"))

    async with open_hub(URL, dial=serve(behave)) as hub:
        pass
    assert hub.lost


async def test_whatever_is_being_sent_to_a_server_that_takes_nothing_ends_with_the_hub(
    nursery: trio.Nursery, autojump_clock: trio.abc.Clock
) -> None:
    failures: list[tuple[str, type]] = []

    async def note(what: str, act: Callable[[], Awaitable[object]]) -> None:
        try:
            await act()
        except HubLost as lost:
            failures.append((what, type(lost)))

    async def stream() -> None:
        async with hub.stream("Count"):
            pytest.fail("it began")

    async with open_hub(URL, dial=deaf_after_greeting(nursery, talks=True)) as hub, trio.open_nursery() as callers:
        await trio.sleep(1)
        callers.start_soon(note, "first", partial(hub.send, "Note"))
        await trio.sleep(1)
        callers.start_soon(note, "behind", partial(hub.invoke, "Ask"))
        callers.start_soon(note, "behind", stream)
    assert ("first", HubCallUnresolved) in failures, "half of it may have left"
    assert failures.count(("behind", HubLost)) == 2, "nothing of these has left"


@pytest.mark.parametrize("what", ["too deep", "half a character"])
async def test_an_answer_that_cannot_be_written_in_its_place_is_told_as_an_error(serve: Serve, what: str) -> None:
    async def answer() -> object:
        await trio.lowlevel.checkpoint()
        if what == "half a character":
            raise OSError("no file \udcff.txt")
        value: object = 1
        for _ in range(64):
            value = [value]
        return value

    line = Line()
    async with open_hub(URL, dial=serve(line), answers={"Ask": answer}) as hub:
        answers = await asked(line, Invocation("Ask", (), "q"))
        assert "The client's answer" in (answers["q"].error or "")
        assert not hub.lost


async def test_a_stream_is_of_no_use_outside_its_block(serve: Serve) -> None:
    line = Line()
    async with open_hub(URL, dial=serve(line)) as hub:
        async with hub.stream("Count") as stream:
            await line.up.wait()
            await line.peer.say(*items(1, 2, 3))
        with pytest.raises(LocalProtocolError, match="the block of the stream Count has ended"):
            await anext(stream)
        assert hub.statistics().messages_waiting == 0


async def test_a_stream_that_has_ended_does_not_keep_the_reader_going(
    serve: Serve, autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "HELD", 3)
    monkeypatch.setattr(hub_module, "HELD_AT_MOST", 10)

    async def behave(peer: Peer) -> None:
        await peer.greet()
        await peer.hear()
        await peer.say(*items(1), Completion("1"))
        for number in range(100):
            await peer.say(Invocation("Quote", (number,)))

    async with open_hub(URL, dial=serve(behave)) as hub, hub.stream("Count") as stream:
        assert await taken(stream) == [1]
        await trio.sleep(5)
        assert not hub.lost
        got: list[object] = []
        while len(got) < 100:
            got += [call.arguments[0] for call in await hub.receive()]
        assert got == list(range(100))
