"""The double on a real socket."""

from __future__ import annotations

from functools import partial
from typing import Any

import trio

from flatguard.errors import FlatguardError
from flatguard.simulator.app import Gateway
from flatguard.simulator.wire import serve_connection
from flatguard.simulator.world import World


async def serve_simulator(
    world: World,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    task_status: trio.TaskStatus[dict[str, Any]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``world`` until cancelled, at the speed of its options; port 0 takes a free one.

    Reports the ready line when it accepts connections.

    A crash within a request ends that request or hub connection only, with a traceback on stderr. A cancel closes the
    listener and every connection. Raises ``FlatguardError`` if it cannot listen there.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host)
    except OSError as error:
        raise FlatguardError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            hint="Stop what uses that port, choose another with --port, or take a free one with --port 0.",
        ) from error
    gateway = Gateway(world, speed=world.options.speed, survives_crashes=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(gateway.run)
        await nursery.start(partial(trio.serve_listeners, partial(serve_connection, gateway.app), listeners))
        bound_port = listeners[0].socket.getsockname()[1]
        task_status.started(ready_line(world, f"{host}:{bound_port}"))


def ready_line(world: World, address: str) -> dict[str, Any]:
    """Return what is announced when the gateway at ``address`` is ready. Money and prices are strings."""
    url = f"http://{address}"
    return {
        "rest_url": url,
        "user_hub_url": f"{url}/hubs/user",
        "market_hub_url": f"{url}/hubs/market",
        "control_url": f"{url}/sim",
        "users": [
            {
                "user_name": user.user_name,
                "api_key": user.api_key,
                "accounts": [
                    {"id": account.id, "name": account.name, "balance": f"{account.balance:f}"}
                    for account in user.accounts
                ],
            }
            for user in world.users.values()
        ],
        "contracts": [
            {
                "id": contract.id,
                "name": contract.name,
                "tick_size": f"{contract.tick_size:f}",
                "tick_value": f"{contract.tick_value:f}",
                "price": f"{world.markets[contract.id].last:f}",
            }
            for contract in world.listing.active(world.start)
        ],
        "seed": world.seed,
        "sessions": world.options.sessions,
        "month_roll": world.options.month_roll,
    }
