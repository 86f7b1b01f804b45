"""What the papers show is what the program does: every command exists, every block of commands runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flatguard.cli import cli

ROOT = Path(__file__).parents[2]
PAPERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(paper: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", paper.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_every_command_that_a_paper_shows_exists(paper: Path) -> None:
    shown = [line for block in blocks(paper, "sh") for line in block.splitlines()]
    shown += re.findall(r"`(flatguard [^`]*)`", paper.read_text("utf-8"))
    for line in shown:
        for words in re.findall(r"(?:^|[\s/])flatguard ((?:[a-z]+ ?)+)", line):
            command = cli
            for word in words.split():
                found = getattr(command, "get_command", lambda _context, _word: None)(None, word)
                assert found is not None or command is not cli, f"{paper.name} shows {line!r}"
                if found is None:
                    break
                command = found


def test_the_readme_begins_with_the_line_that_shows_it_and_the_line_that_tests_it() -> None:
    """People copy them; CI runs the second as it stands here."""
    first, second = (block.strip() for block in blocks(ROOT / "README.md", "sh")[:2])
    assert first == "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/flatguard demo"
    assert second == "python3 -m venv .venv-dev && .venv-dev/bin/pip install nox && .venv-dev/bin/nox"
    assert second in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


def test_the_readmes_way_to_guard_an_account_works_as_far_as_it_goes_without_a_broker(tmp_path: Path) -> None:
    block = next(block for block in blocks(ROOT / "README.md", "sh") if "config init" in block)
    statuses = []
    for line in block.strip().splitlines():
        if " run" in line or " login" in line:
            continue  # needs a gateway; real processes are tested in tests/e2e
        words = line.replace("YOUR_LOGIN", "trader1").replace("YOUR_ACCOUNT_ID", "25700001").split()
        finished = subprocess.run(
            [sys.executable, "-m", "flatguard", *words[1:]],
            env={
                **os.environ,
                "FLATGUARD_CONFIG": str(tmp_path / "config.toml"),
                "FLATGUARD_JOURNAL": str(tmp_path / "journal.db"),
            },
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        statuses.append((words[1], finished.returncode))
        assert "Traceback" not in finished.stderr
    assert statuses == [("config", 0), ("config", 0), ("status", 3)]
