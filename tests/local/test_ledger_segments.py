"""The ledger over a real journal: syncs that are shared, and room that is left to others."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio

from pdfs.core.ids import PublishId, Sequence
from pdfs.core.record import Publishing
from pdfs.disk import OsDisk
from pdfs.errors import DiskFull, JournalFailed
from pdfs.local.journal import Journal
from pdfs.local.sizes import ALONE, JournalSizes
from tests.local.faulty_disk import Fault, FaultyDisk
from tests.local.journals import HEADER, directory_of
from tests.local.ledgers import create, empty_ledger, unlink, write

SIZES = JournalSizes(segment=64 << 10, growth=8 << 10, reserve=8 << 10)


@contextmanager
def journal_in(
    path: Path, disk: OsDisk | None = None, sizes: JournalSizes = ALONE
) -> Iterator[Journal]:
    with directory_of(path) as directory:
        journal = Journal.create(disk or FaultyDisk(), directory, HEADER, sizes=sizes)
        try:
            yield journal
        finally:
            journal.abandon()


class WatchedDisk(OsDisk):
    """Notes which files are synced, and what had been appended when that began."""

    def __init__(self) -> None:
        self.synced: list[tuple[str, int]] = []
        self.newest: Callable[[], int] = lambda: 0

    def fdatasync(self, descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        self.synced.append((name.split(".")[0], self.newest()))


async def test_callers_share_one_sync_that_began_after_their_last_record(tmp_path: Path) -> None:
    disk = WatchedDisk()
    with journal_in(tmp_path, disk) as journal:
        disk.newest = lambda: journal.last_sequence
        ledger = empty_ledger(journal)
        reached: list[tuple[int, int]] = []

        async def caller(number: int) -> None:
            create(ledger, f"file {number}")
            wanted = journal.last_sequence
            await ledger.sync()
            reached.append((wanted, journal.synced_sequence))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(caller, number)
    assert len(reached) == 20
    assert all(wanted <= synced for wanted, synced in reached)
    assert [newest for _, newest in disk.synced][-1] == 20
    assert len(disk.synced) < 5, "20 callers, and each paid for a sync of its own"


async def test_a_caller_whose_record_came_after_a_sync_began_waits_for_the_next(
    tmp_path: Path,
) -> None:
    started, go_on = trio.Event(), trio.Event()

    async def slowly(call: Callable[[], None]) -> None:
        call()
        started.set()
        await go_on.wait()

    disk = WatchedDisk()
    with journal_in(tmp_path, disk) as journal:
        ledger = empty_ledger(journal, run_blocking=slowly)
        create(ledger, "early")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ledger.sync)
            await started.wait()
            create(ledger, "late")
            nursery.start_soon(ledger.sync)
            await trio.testing.wait_all_tasks_blocked()
            assert len(disk.synced) == 1
            go_on.set()
    assert len(disk.synced) == 2
    assert journal.synced_sequence == 2


async def test_a_sync_covers_several_segments_oldest_first(tmp_path: Path) -> None:
    disk = WatchedDisk()
    with journal_in(tmp_path, disk) as journal:
        ledger = empty_ledger(journal)
        for number in range(3):
            create(ledger, f"file {number}")
            journal.roll()
        create(ledger, "in the last segment")
        disk.synced.clear()
        await ledger.sync()
    assert [name for name, _ in disk.synced] == [f"journal-{number}" for number in (1, 3, 5, 7)]


async def test_all_who_wait_for_a_sync_that_fails_are_told(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with journal_in(tmp_path, disk) as journal:
        ledger = empty_ledger(journal)
        told: list[JournalFailed] = []

        async def caller() -> None:
            try:
                await ledger.sync()
            except JournalFailed as error:
                told.append(error)

        create(ledger, "lost, maybe")
        disk.fault = Fault(at=1, error=errno.EIO, calls=frozenset({"fdatasync"}))
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(caller)
        assert len(told) == 5
        assert disk.made.count("fdatasync") == 1
        await caller()
        assert len(told) == 6
        assert disk.made.count("fdatasync") == 1, "a sync was tried again after one had failed"


async def test_deletes_and_the_publish_work_when_writes_find_the_disk_full(tmp_path: Path) -> None:
    disk = FaultyDisk()
    with journal_in(tmp_path, disk, SIZES) as journal:
        ledger = empty_ledger(journal, reserve=SIZES.reserve)
        files = [create(ledger, f"file {number}") for number in range(30)]
        disk.fault = Fault(at=1, error=errno.ENOSPC, for_ever=True, calls=frozenset({"allocate"}))
        with suppress(DiskFull):
            for _ in range(1000):
                write(ledger, files[0], 0, b"x" * 100)
        with pytest.raises(DiskFull):
            create(ledger, "not one more")
        for number in range(30):
            unlink(ledger, f"file {number}")
        ledger.commit(Publishing(publish=PublishId("p"), sequence=Sequence(ledger.last)))
        await ledger.sync()
    assert [path for path, _ in ledger.tree.walk()] == []
