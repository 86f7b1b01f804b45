"""``python -m tests.sim --runs N --seed S --turns T``: live so many lives; ``--replay SEED``: tell one of them.

Hashes must not be drawn anew for each process, or the same seed would not be the same life: ``nox -s sim`` sees to it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter

from tests.sim.script import Script, drawn
from tests.sim.simulate import Life, all_kinds, live, shrunk


def main() -> int:
    """Live them; return 1 where a promise was broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--replay", type=int)
    asked = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        sys.exit("set PYTHONHASHSEED=0, or run nox -s sim: otherwise a seed is not the same life each time")
    if asked.replay is not None:
        return _tell(live(drawn(asked.replay, asked.turns)))
    faults: Counter[str] = Counter()
    reached: set[str] = set()
    failed: list[Life] = []
    virtual = real = 0.0
    for seed in range(asked.seed, asked.seed + asked.runs):
        life = live(drawn(seed, asked.turns))
        faults.update(life.faults)
        reached |= life.reached
        virtual, real = virtual + life.virtual_s, real + life.real_s
        failed += [life] if life.broken else []
        print(f"seed {seed}: {life.broken or 'kept'} ({life.events} events, {life.real_s:.1f} s)", flush=True)
    print(f"{asked.runs} lives, {virtual / 3600:.1f} hours in {real:.0f} s: {virtual / real:.0f} times real time")
    print(f"faults met: {', '.join(f'{name} {count}' for name, count in sorted(faults.items()))}")
    print(f"never met: {', '.join(sorted(all_kinds() - faults.keys())) or 'none'}")
    print(f"reached: {', '.join(sorted(reached))}")
    for life in failed:
        smaller = shrunk(life.script, lambda script, life=life: _breaks_the_same(script, life))  # type: ignore[misc]
        print(f"\nseed {life.script.seed}, made smaller: {len(life.script.acts)} acts to {len(smaller.acts)}")
        _tell(live(smaller))
    return 1 if failed else 0


def _breaks_the_same(script: Script, life: Life) -> bool:
    again = live(script).broken
    return again is not None and life.broken is not None and again.split(":")[0] == life.broken.split(":")[0]


def _tell(life: Life) -> int:
    print("\n".join(life.timeline))
    print(life.broken or "every promise was kept")
    return 1 if life.broken else 0


sys.exit(main())
