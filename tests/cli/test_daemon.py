"""Starting a daemon: what keeps it from being begun is told in words."""

import errno
import os
from pathlib import Path

import pytest

from pdfs.cli.daemon import start_daemon
from pdfs.config import Configuration
from pdfs.disk import OsDisk
from pdfs.errors import DiskError
from pdfs.mount.request import MountRequest
from tests.cli.conftest import Run


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """The disk of the state directory takes no new files any more."""
    assert run("status").exit_code == 0
    unbroken = OsDisk.open

    def broken(self: OsDisk, directory: int, name: str, flags: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), name)
        return unbroken(self, directory, name, flags)

    monkeypatch.setattr(OsDisk, "open", broken)


@pytest.mark.usefixtures("read_only")
def test_a_state_disk_that_takes_no_file_is_told_as_that(configuration: Configuration) -> None:
    request = MountRequest(
        configuration=configuration, project="Plant", stage="planning", mountpoint=None
    )
    with pytest.raises(DiskError, match=r"can't write .*/logs/.*: Read-only file system"):
        start_daemon(request, print)


@pytest.mark.usefixtures("read_only")
def test_a_mount_on_a_state_disk_that_takes_no_file_ends_with_8(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    result = run("mount", "--create", "Plant", tmp_path / "mnt")
    assert result.exit_code == 8
    assert "Read-only file system" in result.output
