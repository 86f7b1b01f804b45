"""How a person or the system stops the daemon: the first signal asks, the second does not ask again."""

from __future__ import annotations

import signal

import trio


async def stop_on_signals(
    stopping: trio.Event, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Set ``stopping`` at the first SIGINT or SIGTERM. Runs until cancelled.

    The second ends the process there and then, as SIGKILL would; the next start recovers from that.
    """
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            if stopping.is_set():
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            stopping.set()
