"""A mountpoint that the mount makes is there as long as the mount; any other stays as it was."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdfs.core.ids import Fence
from pdfs.core.tree import new_tree
from pdfs.disk import OsDisk
from pdfs.errors import MountError
from pdfs.local.state import StateDirectory
from pdfs.mount.mountpoint import made_for_mount
from pdfs.mount.workspace import DiskWorkspace
from tests.conftest import ExpectedWarnings
from tests.local.journals import HEADER
from tests.mount.test_workspace import impatient, patient


def serve(place: Path, *, is_ours: bool = False, saves: bool = False) -> list[str]:
    """Whether it was made."""
    made: list[str] = []
    with made_for_mount(
        OsDisk(), str(place), is_ours=is_ours, note_made=lambda: made.append("made")
    ):
        assert place.is_dir()
        if saves:
            (place / "saved").touch()
    return made


def test_a_missing_mountpoint_is_made_and_goes_and_one_that_was_there_stays(tmp_path: Path) -> None:
    assert serve(tmp_path / "mnt") == ["made"]
    assert not (tmp_path / "mnt").exists()
    (tmp_path / "mnt").mkdir()
    assert serve(tmp_path / "mnt") == []
    assert (tmp_path / "mnt").is_dir()
    assert serve(tmp_path / "mnt", is_ours=True) == []
    assert not (tmp_path / "mnt").exists()


def test_what_was_saved_below_the_mount_is_never_removed(
    tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    serve(tmp_path / "mnt", saves=True)
    expected_warnings.take("made for the mount, stays: ")
    assert (tmp_path / "mnt" / "saved").exists()


@pytest.fixture
def unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that its user may only pass through, from the working directory, and not root."""
    place = Path("above")
    monkeypatch.chdir(tmp_path)
    place.mkdir()
    (place / "mnt").mkdir()
    for path, mode in ((tmp_path, 0o711), (place, 0o311), (place / "mnt", 0o777)):
        path.chmod(mode)
    user = os.geteuid()
    os.seteuid(user or 65534)
    yield place
    os.seteuid(user)
    place.chmod(0o700)


def test_one_that_was_there_is_used_below_a_directory_that_its_user_can_not_read(
    unreadable: Path,
) -> None:
    with pytest.raises(PermissionError):
        os.listdir(unreadable)
    assert serve(unreadable / "mnt") == []
    with pytest.raises(MountError, match="can't be made: Permission denied"):
        serve(unreadable / "other")


def test_one_that_can_not_be_made_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="can't be made: No such file or directory; name an empty"):
        serve(tmp_path / "no" / "ne")


@pytest.mark.real_clock
async def test_who_resumes_a_session_at_its_place_knows_that_the_mountpoint_was_made(
    tmp_path: Path,
) -> None:
    def workspace(place: str) -> DiskWorkspace:
        described = {"mountpoint": place}
        return DiskWorkspace(OsDisk(), state, HEADER, described, impatient, patient)

    with StateDirectory(OsDisk(), tmp_path / "pdfs") as state:
        first = workspace("/mnt/plant")
        await first.begin(new_tree(uid=0, gid=0), Fence(1))
        assert not first.has_made_mountpoint
        first.note_mountpoint_made()
        first.close()
        for place, is_made in (("/mnt/plant", True), ("/mnt/other", False), ("/mnt/plant", False)):
            again = workspace(place)
            again.resume(HEADER.session)
            assert again.has_made_mountpoint is is_made
            again.close()
