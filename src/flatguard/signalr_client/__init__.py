"""A SignalR client on Trio: one connection, and how to come back to it. It knows no broker."""

from flatguard.signalr_client.address import TokenIn
from flatguard.signalr_client.errors import (
    HubCallFailed,
    HubCallUnresolved,
    HubError,
    HubLost,
    HubRefused,
    HubUnreachable,
)
from flatguard.signalr_client.handlers import Dispatcher, Handler
from flatguard.signalr_client.hub import Hub, HubStatistics, Timings, open_hub
from flatguard.signalr_client.reconnect import Link, LinkState, LinkStatistics, Phase
from flatguard.signalr_client.stream import Stream

__all__ = [
    "Dispatcher",
    "Handler",
    "Hub",
    "HubCallFailed",
    "HubCallUnresolved",
    "HubError",
    "HubLost",
    "HubRefused",
    "HubStatistics",
    "HubUnreachable",
    "Link",
    "LinkState",
    "LinkStatistics",
    "Phase",
    "Stream",
    "Timings",
    "TokenIn",
    "open_hub",
]
