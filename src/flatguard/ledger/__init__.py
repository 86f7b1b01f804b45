"""The account's book: an event goes in, the next state comes out. Pure; nothing here reads a clock or waits."""
