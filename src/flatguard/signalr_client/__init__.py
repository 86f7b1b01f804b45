"""A SignalR client on Trio: one connection, and how to come back to it. It knows no broker."""
