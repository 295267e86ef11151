"""Real mounts for tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuse.mounts import Mount


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for all tests of a module; what it was served is in the journal afterwards."""
    with Mount(tmp_path_factory.mktemp("mount")) as mount:
        yield mount


@pytest.fixture
def place(mount: Mount, request: pytest.FixtureRequest) -> Path:
    """An empty directory in the mount."""
    path = mount.path / f"{request.node.name.replace('/', '_')[:80]}"
    path.mkdir()
    return path


@pytest.fixture
def new_mount(tmp_path: Path) -> Iterator[Mount]:
    """A mount of the test's own."""
    root = tmp_path / "mount"
    root.mkdir()
    with Mount(root) as mount:
        yield mount
