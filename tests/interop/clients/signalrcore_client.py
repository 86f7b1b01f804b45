"""signalrcore, told what to do by lines of JSON and telling what happens in lines of JSON.

What may be told and what is said stands in ``tests/interop/driving.py``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from functools import partial
from typing import Any

from signalrcore.hub_connection_builder import HubConnectionBuilder
from signalrcore.protocol.json_hub_protocol import JsonHubProtocol

ONE_AT_A_TIME = threading.Lock()


def say(what: str, **more: object) -> None:
    with ONE_AT_A_TIME:
        print(json.dumps({"said": what, **more}), flush=True)


class Driver:
    def __init__(self) -> None:
        self.calls: dict[str, int] = {}

    def start(self, order: dict[str, Any]) -> None:
        options: dict[str, Any] = {"access_token_factory": partial(self.token, order["token"])}
        if order.get("skip_negotiation"):
            options["skip_negotiation"] = True
        builder = HubConnectionBuilder().with_url(order["url"], options=options)
        builder = builder.configure_logging(logging.CRITICAL)
        if order.get("version") is not None:
            builder = builder.with_hub_protocol(JsonHubProtocol(version=order["version"]))
        if order.get("reconnect_s") is not None:
            builder = builder.with_automatic_reconnect(
                {"type": "raw", "keep_alive_interval": 10, "reconnect_interval": order["reconnect_s"]}
            )
        self.hub = builder.build()
        for name in order["events"]:
            self.hub.on(name, partial(say_event, name))
        self.hub.on_open(lambda: say("started"))
        self.hub.on_close(lambda: say("closed"))
        self.hub.on_reconnect(lambda: say("reconnected"))
        self.hub.on_error(self.failed)
        try:
            self.hub.start()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what this client says
            say("failed to start", error=f"{type(error).__name__}: {error}")

    def token(self, token: str) -> str:
        say("asked for a token")
        return token

    def failed(self, message: Any) -> None:
        say("failed", call=self.calls[message.invocation_id], error=message.error)

    def invoke(self, order: dict[str, Any]) -> None:
        self.calls[str(order["call"])] = order["call"]
        self.hub.invoke(
            order["method"],
            order["values"],
            lambda message: say("completed", call=order["call"], result=message.result),
            invocation_id=str(order["call"]),
        )

    def stop(self, order: dict[str, Any]) -> None:
        self.hub.stop()
        say("stopped")


def say_event(name: str, values: list[object]) -> None:
    say("event", name=name, values=values)


driver = Driver()
for line in sys.stdin:
    told = json.loads(line)
    getattr(driver, told["do"])(told)
os._exit(0)  # its threads would keep the process alive
