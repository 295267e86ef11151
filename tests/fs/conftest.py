"""The fixture `stage`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pdfs.core.content import Content
from pdfs.errors import ContentLost
from tests.fs.sessions import empty_tree, inline, ledger_of
from tests.fs.stage import Stage
from tests.local.faulty_disk import FaultyDisk


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    contents: dict[Content, bytes] = {}
    disk = FaultyDisk()

    async def fetch(content: Content, start: int, stop: int) -> bytes:
        if content not in contents:
            raise ContentLost("its home is gone", remedy="pdfs recover rescue")
        return contents[content][start:stop]

    with ledger_of(tmp_path, empty_tree, fetch=fetch, run_blocking=inline, disk=disk) as ledger:
        yield Stage(ledger, disk, contents)
