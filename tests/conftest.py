"""Fixtures that every folder of tests shares."""

from pathlib import Path

import pytest


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Where a queue's file goes: a fresh path for each test, not yet created."""
    return tmp_path / "app.db"
