"""The upkeep of a journal: segments made ahead and sealed behind, while records come."""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from pdfs.errors import PdfsError
from pdfs.local.journal import Journal
from pdfs.local.ledger import Ledger
from pdfs.local.sizes import JournalSizes
from pdfs.local.upkeep import AGAIN, Upkeep
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import HEADER, directory_of, replay
from tests.local.ledgers import create, empty_ledger, inline, made_here, write

SIZES = JournalSizes(segment=64 << 10, growth=8 << 10, reserve=8 << 10)


@asynccontextmanager
async def kept(
    path: Path, disk: FaultyDisk, told: list[PdfsError]
) -> AsyncIterator[tuple[Ledger, Journal]]:
    """A ledger whose journal is kept in order."""
    path.joinpath("snapshot").touch()
    with directory_of(path) as directory:
        journal = Journal.create(disk, directory, HEADER, sizes=SIZES)
        ledger = empty_ledger(journal, reserve=SIZES.reserve)
        upkeep = Upkeep(
            ledger, journal, make=made_here(disk, directory), run_blocking=inline, tell=told.append
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run)
            yield ledger, journal
            nursery.cancel_scope.cancel()
        journal.abandon()


async def test_segments_are_made_ahead_and_sealed_behind(tmp_path: Path) -> None:
    async with kept(tmp_path, FaultyDisk(), []) as (ledger, journal):
        ino = create(ledger, "file")
        for number in range(400):
            write(ledger, ino, number * 1000, bytes(1000))
            await trio.testing.wait_all_tasks_blocked()
        last = journal.segment
        names = [name for name in os.listdir(tmp_path) if name.startswith("journal")]
        sizes = {name: os.stat(tmp_path / name).st_size for name in names}
    assert last > 11
    assert set(sizes) == {
        *(f"journal-{number}.wal" for number in range(1, last, 2)),
        *(f"journal-{number}.wal.__partial__" for number in (last, last + 2)),
    }
    assert max(sizes.values()) == SIZES.segment
    assert len(replay(tmp_path).records) == 401


async def test_a_full_disk_is_told_once_and_the_upkeep_goes_on_when_there_is_room(
    tmp_path: Path,
) -> None:
    disk, told = FaultyDisk(), list[PdfsError]()
    disk.fault = Fault(at=2, error=errno.ENOSPC, for_ever=True, calls=frozenset({"allocate"}))
    async with kept(tmp_path, disk, told) as (ledger, journal):
        await trio.sleep(10 * AGAIN)
        assert len(told) == 2, "once of the next segment, once of the reserve"
        assert journal.segment == 1
        disk.fault = None
        await trio.sleep(2 * AGAIN)
        ino = create(ledger, "file")
        write(ledger, ino, 0, bytes(60_000))
        write(ledger, ino, 0, bytes(60_000))
        assert journal.segment == 3
    assert len(told) == 2


async def test_the_upkeep_ends_with_the_journal(tmp_path: Path) -> None:
    disk = FaultyDisk()
    async with kept(tmp_path, disk, []) as (ledger, journal):
        await trio.testing.wait_all_tasks_blocked()
        ino = create(ledger, "file")
        disk.fault = Fault(at=1, error=errno.EIO, calls=frozenset({"fdatasync"}))
        write(ledger, ino, 0, bytes(60_000))
        write(ledger, ino, 0, bytes(60_000))
        await trio.testing.wait_all_tasks_blocked()
        assert journal.has_failed
