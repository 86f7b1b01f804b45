"""The broker's door: token, REST, hubs. What comes in leaves here as values of ``model``."""
