"""What the fuzzer runs on every input. The first three bytes say who listens, in which state, and how it is cut."""

from __future__ import annotations

import random
import sys

import atheris

with atheris.instrument_imports(include=["flatguard.signalr"]):
    import flatguard.signalr  # noqa: F401  here, so that it is instrumented

from flatguard.signalr import Role
from tests.fuzz.grammar import KEYS, MESSAGES, VALUES, write
from tests.fuzz.promises import READING, RS, check

WHERE = [(role, state) for role in Role for state in READING[role]]
ROOMS = [1 << 20, 60, 200]
HEAD = 3


def test_one_input(data: bytes) -> None:
    """Check every promise on one input; whatever is raised is a finding."""
    if len(data) < HEAD:
        return
    where, seed, room = data[:HEAD]
    body = data[HEAD:]
    cuts = random.Random(seed).sample(range(len(body) + 1), min(seed % 8, len(body)))
    role, state = WHERE[where % len(WHERE)]
    check(role, state, body, cuts, ROOMS[room % len(ROOMS)])


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change an input: half of the time by its grammar, else as the fuzzer likes."""
    chance = random.Random(seed)
    if len(data) < HEAD or chance.random() < 0.5:
        return bytes(atheris.Mutate(data, max_size))
    head, records = data[:HEAD], data[HEAD:].split(RS)
    at = chance.randrange(len(records))
    fields = list(chance.choice(MESSAGES))
    for _ in range(chance.randrange(3)):
        place = chance.randrange(len(fields) + 1)
        fields[place : place + chance.randrange(2)] = [(chance.choice(KEYS), chance.choice(VALUES))]
    records[at : at + chance.randrange(2)] = [write(fields)]
    return (head + RS.join(records))[:max_size]


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input, custom_mutator=mutate)
    atheris.Fuzz()
