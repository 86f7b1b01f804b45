"""What the tests of the SignalR client share."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from tests.fakes.signalr_server import Serve, Site, serving


@pytest.fixture
def serve(nursery: trio.Nursery) -> Serve:
    """Give a ``dial`` whose far end is a WebSocket server that behaves as told, then goes on listening."""
    return partial(serving, nursery)


@pytest.fixture
def site(nursery: trio.Nursery) -> Site:
    """Give a server that negotiates."""
    return Site(nursery)
