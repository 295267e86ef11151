"""What a mount says of the room that there is."""

import os
from pathlib import Path

import pytest

from pdfs.local.cache import PartCache
from pdfs.mount import serving
from tests.fs.process import Process
from tests.mount.carriers import Desk, stand_in_for_fuse
from tests.stage.contexts import Site

MIB = 1 << 20


@pytest.mark.parametrize(("ample", "more"), [(0, 0), (1 << 62, 3 * MIB)], ids=["ample", "full"])
async def test_what_would_be_freed_counts_as_free_on_a_disk_that_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ample: int, more: int
) -> None:
    found = os.statvfs(tmp_path)
    desk = Desk(tmp_path, Site())
    os.makedirs(desk.configuration.cache)

    async def work(process: Process) -> None:
        assert desk.carrier is not None
        monkeypatch.setattr(desk.carrier._workspace, "freeable", lambda: 2 * MIB)
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
