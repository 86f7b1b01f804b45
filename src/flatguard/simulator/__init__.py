"""The gateway double: a ProjectX gateway on real sockets or in memory, for tests, demos and anyone's bot."""

from flatguard.simulator.options import Options
from flatguard.simulator.serve import serve_simulator
from flatguard.simulator.setup import AccountSetup, UserSetup
from flatguard.simulator.world import World

__all__ = ["AccountSetup", "Options", "UserSetup", "World", "serve_simulator"]
