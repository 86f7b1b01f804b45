"""The wiring: knows every room, decides nothing."""
