"""The states, and what leads from one to another."""

from __future__ import annotations

import pytest

from flatguard.signalr import (
    TRANSITIONS,
    Ack,
    By,
    Close,
    Completion,
    Connection,
    HandshakeAccepted,
    HandshakeRefused,
    HandshakeRequest,
    Invocation,
    LocalProtocolError,
    Ping,
    ProtocolError,
    RemoteProtocolError,
    Role,
    State,
    StreamInvocation,
    StreamItem,
)

RS = "\x1e"
PING = '{"type":6}' + RS
CLOSE = '{"type":7}' + RS
REQUEST = '{"protocol":"json","version":1}' + RS


def client_in(state: State) -> Connection:
    client = Connection(Role.CLIENT)
    if state is State.BROKEN:
        client.send_failed()
    if state in (State.NEW, State.BROKEN):
        return client
    client.send(HandshakeRequest())
    if state is State.GREETING:
        return client
    client.receive("{}" + RS)
    match state:
        case State.LEAVING:
            client.send(Close())
        case State.LEFT:
            client.receive(CLOSE)
        case State.FAULTY:
            client.receive(PING + RS)
        case State.CLOSED:
            client.receive_eof()
    assert client.state is state
    return client


def test_every_state_has_its_row_in_both_tables() -> None:
    assert [set(table) for table in TRANSITIONS.values()] == [set(State), set(State)]


def test_what_one_side_may_say_the_other_may_hear() -> None:
    for role, other in [(Role.CLIENT, Role.SERVER), (Role.SERVER, Role.CLIENT)]:
        said = {kind for row in TRANSITIONS[role].values() for by, kind in row if by is By.US}
        heard = {kind for row in TRANSITIONS[other].values() for by, kind in row if by is By.THEM}
        assert said <= heard


@pytest.mark.parametrize("state", [State.NEW, State.GREETING, State.LEAVING, State.CLOSED, State.BROKEN])
def test_nothing_is_sent_before_the_handshake_or_after_the_end(state: State) -> None:
    client = client_in(state)
    with pytest.raises(LocalProtocolError, match=f"a client may not send Ping while the connection is {state}"):
        client.send(Ping())
    assert client.state is state


@pytest.mark.parametrize(
    ("role", "message"),
    [(Role.CLIENT, Ack(1)), (Role.CLIENT, HandshakeAccepted()), (Role.SERVER, StreamInvocation("T", "1"))],
)
def test_nobody_says_what_is_not_theirs_to_say(role: Role, message: Ack) -> None:
    connection = client_in(State.OPEN)
    if role is Role.SERVER:
        connection = Connection(Role.SERVER)
        connection.receive(REQUEST)
        connection.send(HandshakeAccepted())
    with pytest.raises(LocalProtocolError):
        connection.send(message)
    assert connection.state is State.OPEN


def test_a_message_that_cannot_be_written_leaves_the_connection_as_it_was() -> None:
    """A faulty argument of one caller must not cost the others their link."""
    client = client_in(State.OPEN)
    with pytest.raises(LocalProtocolError):
        client.send(Invocation("T", (object(),)))
    assert client.state is State.OPEN
    assert client.send(Ping()) == PING


def test_a_close_that_cannot_be_written_does_not_close() -> None:
    client = client_in(State.OPEN)
    with pytest.raises(LocalProtocolError):
        client.send(Close("\ud800"))
    assert client.state is State.OPEN


def test_messages_before_a_bad_one_are_delivered_and_the_error_follows() -> None:
    client = client_in(State.OPEN)
    assert client.receive(PING + PING + "garbage" + RS + PING) == [Ping(), Ping()]
    assert client.state is State.FAULTY
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="not JSON"):
            client.receive(b"")
    with pytest.raises(RemoteProtocolError, match="not JSON"):
        client.receive_eof()


def test_after_a_bad_message_we_may_still_answer_and_say_why_we_leave() -> None:
    server = Connection(Role.SERVER)
    server.receive(REQUEST)
    server.send(HandshakeAccepted())
    call = '{"type":1,"invocationId":"1","target":"T","arguments":[]}' + RS
    assert server.receive(call + "garbage" + RS) == [Invocation("T", (), "1")]
    server.send(Completion("1", None))
    assert server.send(Close("Connection closed with an error.", allow_reconnect=True))
    assert server.state is State.CLOSED


def test_what_follows_a_close_is_dropped() -> None:
    client = client_in(State.OPEN)
    assert client.receive(CLOSE + PING + "garbage" + RS) == [Close()]
    assert client.state is State.LEFT
    assert client.receive("more garbage" + RS) == []
    client.receive_eof()
    assert client.send(Close()) == CLOSE
    assert client.state is State.CLOSED


def test_what_they_said_before_they_heard_our_close_still_counts() -> None:
    client = client_in(State.LEAVING)
    assert client.receive(PING + CLOSE + PING) == [Ping(), Close()]
    assert client.state is State.CLOSED
    assert client.receive(PING) == []


def test_what_follows_a_refused_handshake_is_dropped() -> None:
    client = client_in(State.GREETING)
    assert client.receive('{"error":"no"}' + RS + PING) == [HandshakeRefused("no")]
    assert client.state is State.CLOSED


def test_a_second_handshake_response_is_an_error() -> None:
    client = client_in(State.OPEN)
    with pytest.raises(RemoteProtocolError):
        client.receive("{}" + RS)


def test_a_server_that_speaks_before_it_is_spoken_to_is_at_fault() -> None:
    client = client_in(State.NEW)
    with pytest.raises(RemoteProtocolError, match="HandshakeAccepted came while the connection was new"):
        client.receive("{}" + RS)


def test_a_client_need_not_wait_for_the_answer_to_its_handshake() -> None:
    server = Connection(Role.SERVER)
    assert server.receive(REQUEST + PING + '{"type":2,"invocationId":"1","item":5}' + RS) == [
        HandshakeRequest(),
        Ping(),
        StreamItem("1", 5),
    ]
    assert server.send(HandshakeAccepted()) == "{}" + RS
    assert server.state is State.OPEN


def test_a_server_that_waits_in_vain_to_be_greeted_may_say_so() -> None:
    server = Connection(Role.SERVER)
    assert server.receive(REQUEST[:10]) == []
    assert server.send(HandshakeRefused("Handshake was canceled.")) == '{"error":"Handshake was canceled."}' + RS
    assert server.state is State.CLOSED


def test_a_client_that_greets_and_leaves_in_one_breath_can_be_answered() -> None:
    server = Connection(Role.SERVER)
    assert server.receive(REQUEST + CLOSE) == [HandshakeRequest(), Close()]
    server.send(HandshakeAccepted())
    server.send(Close())
    assert server.state is State.CLOSED


@pytest.mark.parametrize("state", [State.NEW, State.GREETING, State.OPEN, State.LEAVING])
def test_the_end_of_the_stream_closes(state: State) -> None:
    client = client_in(state)
    client.receive_eof()
    assert client.state is State.CLOSED
    client.receive_eof()


def test_the_end_of_the_stream_in_the_middle_of_a_message_is_an_error() -> None:
    client = client_in(State.OPEN)
    assert client.receive(PING + '{"type"') == [Ping()]
    with pytest.raises(RemoteProtocolError, match="ended in the middle of a message"):
        client.receive_eof()
    assert client.state is State.FAULTY


@pytest.mark.parametrize("state", State)
def test_after_a_send_that_was_cut_short_nothing_may_be_sent_or_received(state: State) -> None:
    client = client_in(state)
    client.send_failed()
    assert client.state is State.BROKEN
    for message in (Ping(), Close(), HandshakeRequest()):
        with pytest.raises(LocalProtocolError):
            client.send(message)
    with pytest.raises(LocalProtocolError):
        client.receive(PING)
    client.receive_eof()
    assert client.state is State.BROKEN


def test_a_message_longer_than_the_limit_is_an_error() -> None:
    server = Connection(Role.SERVER, max_message_bytes=len(REQUEST) - 1)
    assert server.receive(REQUEST) == [HandshakeRequest()], "the separator does not count"
    assert server.receive(PING * 50) == [Ping()] * 50, "each message counts by itself"
    with pytest.raises(RemoteProtocolError, match="longer than 31 bytes"):
        server.receive('{"type":6,"padding":"' + "x" * 50 + '"}' + RS)


def test_a_message_without_end_is_an_error_before_it_fills_the_memory() -> None:
    server = Connection(Role.SERVER, max_message_bytes=100)
    assert server.receive(b" " * 60) == []
    with pytest.raises(RemoteProtocolError, match="longer than 100 bytes"):
        server.receive(b" " * 60)


def test_the_base_of_the_errors_is_never_raised() -> None:
    with pytest.raises(TypeError):
        raise ProtocolError("who was it?")
