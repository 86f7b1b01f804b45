"""How a person or the system stops the daemon: the first signal asks, the second does not ask again."""

from __future__ import annotations

import signal

import trio


async def stop_on_signals(stopping: trio.Event, scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    """Set ``stopping`` at the first SIGINT or SIGTERM, cancel ``scope`` at the second. Runs until cancelled."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            if stopping.is_set():
                scope.cancel()
            stopping.set()
