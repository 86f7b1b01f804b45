"""The gateway double: a ProjectX gateway on real sockets or in memory, for tests, demos and anyone's bot."""

from flatguard.simulator.double import CallFailed, Double, open_double
from flatguard.simulator.options import Options
from flatguard.simulator.scenario import Scenario, load_scenario
from flatguard.simulator.serve import serve_simulator
from flatguard.simulator.setup import AccountSetup, UserSetup
from flatguard.simulator.world import World

__all__ = [
    "AccountSetup",
    "CallFailed",
    "Double",
    "Options",
    "Scenario",
    "UserSetup",
    "World",
    "load_scenario",
    "open_double",
    "serve_simulator",
]
