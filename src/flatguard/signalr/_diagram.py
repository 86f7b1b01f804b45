"""Draws the transition table as Mermaid text for ``docs/signalr.md``."""

from __future__ import annotations

from flatguard.signalr.connection import TRANSITIONS, By, Role, State


def mermaid(role: Role) -> str:
    """Return the state diagram of one role, one arrow for each pair of states, in the order of the table."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.NEW}"]
    for state, row in TRANSITIONS[role].items():
        arrows: dict[State, list[tuple[By, str]]] = {}
        for (by, kind), then in row.items():
            arrows.setdefault(then, []).append((by, kind.__name__))
        lines += [f"    {state} --> {then}: {_label(moves)}" for then, moves in arrows.items()]
        if not row:
            lines.append(f"    {state} --> [*]")
    return "\n".join(lines)


def _label(moves: list[tuple[By, str]]) -> str:
    said = {by: [name for who, name in moves if who is by] for by in By}
    return "<br/>".join(f"{by.value} say {', '.join(names)}" for by, names in said.items() if names)


def section(role: Role) -> str:
    """Return the diagram as it stands on the page, between its marks."""
    return f"<!-- states of a {role} -->\n```mermaid\n{mermaid(role)}\n```\n<!-- end -->"
