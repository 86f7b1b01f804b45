"""flatguard keeps a futures trader's own risk rules, also when the trader would rather not."""

__version__ = "0.1.0"
