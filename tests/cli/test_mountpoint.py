"""What can be wrong with a mountpoint."""

from pathlib import Path

import pytest

from pdfs.cli.mountpoint import check_mountpoint
from pdfs.errors import MountError
from pdfs.mount.mounts import mount_at, read_mounts


def test_an_empty_directory_can_be_used_and_is_named_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mnt").mkdir()
    monkeypatch.chdir(tmp_path)
    assert check_mountpoint("./mnt/") == str(tmp_path / "mnt")


def test_a_directory_that_is_not_there_will_be_made_by_the_mount(tmp_path: Path) -> None:
    assert check_mountpoint(str(tmp_path / "mnt")) == str(tmp_path / "mnt")
    assert not (tmp_path / "mnt").exists()


def test_what_can_not_be_a_mountpoint_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / "full" / name).touch()
    with pytest.raises(
        MountError, match=f"the directory above it; make that: mkdir -p {tmp_path}/a"
    ):
        check_mountpoint(str(tmp_path / "a" / "b"))
    with pytest.raises(MountError, match="not a directory; name"):
        check_mountpoint(str(tmp_path / "file"))
    with pytest.raises(MountError, match="not empty: a, b, c and 2 more; what is there would be"):
        check_mountpoint(str(tmp_path / "full"))


def test_a_mountpoint_in_use_is_refused() -> None:
    with pytest.raises(MountError, match=r"/proc is a mountpoint already.*unmount it first"):
        check_mountpoint("/proc")


def test_the_mounts_of_this_machine_are_read() -> None:
    found = mount_at("/proc")
    assert found is not None
    assert found.kind == "proc"
    assert all(mounted.mountpoint.startswith("/") for mounted in read_mounts())
