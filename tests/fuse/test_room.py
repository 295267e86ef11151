"""A full disk is told to a program only when there is no room to make."""

import os
from errno import ENOSPC
from pathlib import Path

import pyfuse3
import pytest
import trio

from pdfs.disk import Buffer
from pdfs.errors import DiskFull
from pdfs.fs.clock import coarse_now
from pdfs.fs.filesystem import StageFilesystem
from pdfs.fuse import FOREVER, FuseOperations
from tests.conftest import ExpectedWarnings
from tests.fs.sessions import empty_tree, ledger_of


async def test_a_request_that_finds_the_disk_full_is_tried_again_while_room_is_made(
    tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    made: list[bool] = []

    async def make_room() -> bool:
        await trio.lowlevel.checkpoint()
        made.append(len(made) < 2)
        return made[-1]

    class Full(StageFilesystem):
        def write(self, handle: int, offset: int, data: Buffer) -> int:
            if len(made) < refusals:
                raise DiskFull("no room")
            return len(data)

    with ledger_of(tmp_path, empty_tree) as ledger:
        filesystem = Full(
            ledger, now_ns=coarse_now, room=lambda: os.statvfs(tmp_path), make_room=make_room
        )
        operations = FuseOperations(filesystem, lambda: FOREVER)
        refusals = 2
        assert await operations.write(0, 0, b"four") == 4
        assert made == [True, True]
        made.clear()
        refusals = 9
        with pytest.raises(pyfuse3.FUSEError) as refused:
            await operations.write(0, 0, b"four")
        assert refused.value.errno == ENOSPC
        assert made == [True, True, False]
    expected_warnings.take("no room")
