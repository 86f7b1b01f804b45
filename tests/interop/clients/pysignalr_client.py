"""pysignalr, told what to do by lines of JSON and telling what happens in lines of JSON.

What may be told and what is said stands in ``tests/interop/driving.py``.
"""

from __future__ import annotations

import asyncio
import json
import sys
from functools import partial
from typing import Any

from pysignalr.client import SignalRClient
from pysignalr.messages import CompletionMessage


def say(what: str, **more: object) -> None:
    print(json.dumps({"said": what, **more}), flush=True)


async def said(what: str, **more: object) -> None:
    say(what, **more)


async def heard(name: str, values: list[object]) -> None:
    say("event", name=name, values=values)


class Driver:
    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    async def start(self, order: dict[str, Any]) -> None:
        headers = {"Authorization": f"Bearer {order['token']}"} if order.get("token") else {}
        self.client = SignalRClient(order["url"], headers=headers, retry_sleep=0.1, retry_count=2)
        for name in order["events"]:
            self.client.on(name, partial(heard, name))
        self.client.on_open(partial(said, "started"))
        self.client.on_close(partial(said, "closed"))
        self.client.on_error(self.failed)
        self.running = asyncio.create_task(self.run())

    async def run(self) -> None:
        try:
            await self.client.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what this client says
            say("ended", error=f"{type(error).__name__}: {error}")

    async def failed(self, message: CompletionMessage) -> None:
        say("failed", call=self.calls[message.invocation_id], error=message.error)

    async def invoke(self, order: dict[str, Any]) -> None:
        async def completed(message: CompletionMessage) -> None:
            say("completed", call=order["call"], result=message.result)

        before = set(self.client._invocation_handlers)
        await self.client.send(order["method"], order["values"], completed)
        (invocation_id,) = set(self.client._invocation_handlers) - before
        self.calls[invocation_id] = order["call"]

    async def stop(self, order: dict[str, Any]) -> None:
        self.running.cancel()  # the library has no other way
        await asyncio.wait([self.running])
        say("stopped")


async def main() -> None:
    driver = Driver()
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        await getattr(driver, order["do"])(order)


asyncio.run(main())
