"""project-x-py, told what to do by lines of JSON and telling what happens in lines of JSON.

What may be told and what is said stands in ``tests/interop/driving.py``, but for this. ``start`` has api_url,
user_hub_url, market_hub_url, user_name, api_key, instrument, and as events ``realtime.<callback>`` or ``bus.<event>``.
``invoke`` has as method a part of the package and what to call there, ``orders.modify_order``, and as its one value an
object of keyword arguments. Objects come back as their fields, tables as their rows.

This file runs in an environment of its own, without any code of ours.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from project_x_py import ProjectX, TradingSuite
from project_x_py.config import load_default_config
from project_x_py.event_bus import Event, EventType
from project_x_py.realtime import ProjectXRealtimeClient
from project_x_py.trading_suite import TradingSuiteConfig

Told = dict[str, Any]


def say(what: str, **more: object) -> None:
    print(json.dumps({"said": what, **more}, default=worded), flush=True)


def worded(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value.to_dicts() if hasattr(value, "to_dicts") else str(value)


class Driver:
    client: ProjectX
    realtime: ProjectXRealtimeClient
    suite: TradingSuite

    async def start(self, told: Told) -> None:
        """Do what ``TradingSuite.create`` does, which itself knows the broker's own addresses only."""
        for name in ("api_url", "user_hub_url", "market_hub_url"):
            os.environ[f"PROJECTX_{name.upper()}"] = told[name]
        self.client = ProjectX(told["user_name"], told["api_key"], config=load_default_config())
        try:
            await self.client.__aenter__()
            await self.client.authenticate()
            account = str(self.client.get_account_info().id)
            self.realtime = ProjectXRealtimeClient(self.client.get_session_token(), account, config=self.client.config)
            config = TradingSuiteConfig(told["instrument"], timeframes=["1min"], initial_days=1)
            self.suite = TradingSuite(self.client, self.realtime, config)
            await self.listen(told["events"])
            await self.suite.connect()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what this client says
            say("failed to start", error=f"{type(error).__name__}: {error}")
        else:
            say("started")

    async def listen(self, names: list[str]) -> None:
        for name in names:
            place, event = name.split(".")
            if place == "bus":
                await self.suite.events.on(EventType(event), hearer(name))
            else:
                await self.realtime.add_callback(event, hearer(name))

    async def invoke(self, told: Told) -> None:
        part, name = told["method"].split(".")
        owner = {"client": self.client, "realtime": self.realtime}.get(part) or getattr(self.suite, part)
        (values,) = told["values"]
        try:
            result = getattr(owner, name)(**values)
            if isinstance(result, Awaitable):
                result = await result
        except Exception as error:  # noqa: BLE001 - likewise
            say("failed", call=told["call"], error=f"{type(error).__name__}: {error}")
        else:
            say("completed", call=told["call"], result=result)

    async def stop(self, _: Told) -> None:
        await self.suite.disconnect()
        await self.client.__aexit__(None, None, None)
        say("stopped")


def hearer(name: str) -> Callable[[object], Awaitable[None]]:
    async def hear(what: Any) -> None:
        say("event", name=name, values=[what.data if isinstance(what, Event) else what])

    return hear


async def main() -> None:
    logging.disable(logging.CRITICAL)
    driver = Driver()
    while line := await asyncio.to_thread(sys.stdin.readline):
        told = json.loads(line)
        await getattr(driver, told["do"])(told)


asyncio.run(main())
