"""What a mount says of the room that there is."""

import os
from pathlib import Path

import pytest

from pdfs.local.cache import PartCache
from pdfs.mount import serving
from pdfs.mount.serving import with_more
from tests.fs.process import Process
from tests.mount.carriers import Desk, stand_in_for_fuse
from tests.stage.contexts import Site

MIB = 1 << 20


@pytest.mark.parametrize(
    ("ample", "unprepared", "more"),
    [(0, 0, 0), (1 << 62, 0, 3 * MIB), (1 << 62, 4 * MIB, -MIB)],
    ids=["ample", "full", "full, no segment"],
)
async def test_on_a_disk_that_is_nearly_full_what_would_be_freed_and_taken_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ample: int, unprepared: int, more: int
) -> None:
    found = os.statvfs(tmp_path)
    desk = Desk(tmp_path, Site())
    os.makedirs(desk.configuration.cache)

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        monkeypatch.setattr(desk.carrier._workspace, "freeable", lambda: 2 * MIB)
        monkeypatch.setattr(desk.carrier._workspace, "unprepared", lambda: unprepared)
        monkeypatch.setattr(PartCache, "size", MIB)
        monkeypatch.setattr(os, "statvfs", lambda path: found)
        said = process.fs.statfs()
        assert (said.f_bavail - found.f_bavail) * found.f_frsize == more
        assert (said.f_bfree - found.f_bfree) * found.f_frsize == more
        assert (said.f_blocks, said.f_files) == (found.f_blocks, found.f_files)
        monkeypatch.undo()

    monkeypatch.setattr(serving, "_AMPLE", ample)
    stand_in_for_fuse(monkeypatch, work)
    assert await desk.carry() == 0


def test_less_than_nothing_is_never_free(tmp_path: Path) -> None:
    said = with_more(os.statvfs(tmp_path), -(1 << 62))
    assert (said.f_bfree, said.f_bavail) == (0, 0)
