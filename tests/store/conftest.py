"""What the tests of stores need besides the servers of `tests.store.running`."""

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty directory to play the bucket."""
    made = tmp_path / "bucket"
    made.mkdir(0o700)
    return made
