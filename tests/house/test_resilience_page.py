"""``docs/resilience.md`` names every id of the catalogue once, and tests that exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "resilience.md").read_text("utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if re.match(r"\| [A-Z]+-", line)
]
UNPROVEN = {"SEC-API-006"}  # the page says why


def ids(prefix: str, numbers: range) -> list[str]:
    return [f"{prefix}-{number:03}" for number in numbers]


def test_every_id_of_the_catalogue_stands_there_once() -> None:
    expected = [
        *ids("GAP-API", range(1, 9)),
        *ids("GAP-API-SCENARIO", range(1, 8)),
        *ids("SEC-API", range(1, 7)),
        *ids("GAP-DM", range(1, 4)),
        *ids("REC-DM", range(1, 8)),
        *ids("REC-API", range(1, 7)),
        "W-001",
    ]
    assert len(expected) == 38
    assert Counter(row[0] for row in ROWS) == Counter(expected)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_proof_is_a_test(row: list[str]) -> None:
    proofs = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", row[3])
    assert proofs or row[0] in UNPROVEN
    for path, name in proofs:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE), name
