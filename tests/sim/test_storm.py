"""Lives drawn from seeds, in which every promise is kept; and what looks on does see where one is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flatguard.enforcement import carry_out
from flatguard.rules import _book
from tests.sim.invariants import locked_means_flat, within_the_limit
from tests.sim.script import drawn
from tests.sim.simulate import live

pytestmark = pytest.mark.slow

SEEDS = range(5)
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_promise_is_kept(seed: int) -> None:
    life = live(drawn(seed, turns=1))
    assert life.broken is None, "\n".join([*life.timeline, life.broken or ""])


def test_the_same_seed_is_the_same_life_to_the_byte() -> None:
    told = (
        "import hashlib; from tests.sim.simulate import live; from tests.sim.script import drawn; "
        f"print(hashlib.sha256(live(drawn({SEEDS[-1]}, turns=1)).tape).hexdigest())"
    )
    lives = [
        subprocess.run(
            [sys.executable, "-c", told],
            cwd=ROOT,
            env={"PYTHONHASHSEED": "0", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert lives[0] == lives[1]


def test_a_daemon_that_does_not_close_what_a_lock_forbids_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_book._lockout, "judge_lockouts", lambda state, event: None)
    assert any("locked_means_flat" in (live(drawn(seed, turns=1), [locked_means_flat]).broken or "") for seed in SEEDS)


def test_a_daemon_that_sends_nothing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry_out, "next_steps", lambda wanted, held: ())
    assert any("within_the_limit" in (live(drawn(seed, turns=1), [within_the_limit]).broken or "") for seed in SEEDS)
