"""Who is in these tests: the double, and other people's clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.driving import JAVASCRIPT, Client, Double, driven, running_double


@pytest.fixture
async def double(tmp_path: Path) -> AsyncIterator[Double]:
    """The double as it is unless told otherwise."""
    async with running_double(tmp_path) as double:
        yield double


@pytest.fixture
async def client(double: Double) -> AsyncIterator[Client]:
    """The official JavaScript client."""
    async with driven(JAVASCRIPT, double) as client:
        yield client
