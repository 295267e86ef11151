"""The disk is full: room is made, writes are refused last, and what makes room or ends goes on."""

import errno
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pdfs.core.ids import TOP, Inode, PublishId
from pdfs.core.record import Drop, Publishing
from pdfs.disk import Buffer, OsDisk
from pdfs.errors import DiskFull, PdfsError
from pdfs.local.checkpoint import commit_checkpoint
from pdfs.local.sizes import JournalSizes
from pdfs.local.upkeep import Evict, Upkeep
from tests.local.desk import Opened, left_in, opened_session
from tests.local.ledgers import create, inline, made_here, unlink, write

MIB = 1 << 20
SIZES = JournalSizes(segment=MIB, growth=64 << 10, reserve=128 << 10, garbage=1 << 40)
PIECE = 64 << 10
HEADERS = 32 << 10
"""More than those of what a checkpoint writes."""


class SmallDisk(OsDisk):
    """A disk of `capacity` bytes below `root`; what others have of it is in files there, too."""

    def __init__(self, root: Path, capacity: int) -> None:
        self.root = root
        self.capacity = capacity

    def free(self, directory: int = -1) -> int:
        return self.capacity - sum(
            path.stat().st_blocks * 512 for path in self.root.rglob("*") if path.is_file()
        )

    def allocate(self, descriptor: int, offset: int, length: int) -> None:
        missing = offset + length - os.fstat(descriptor).st_blocks * 512
        if missing > self.free():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().allocate(descriptor, offset, length)

    def pwritev(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        end = offset + sum(map(len, buffers))
        if end - os.fstat(descriptor).st_blocks * 512 > self.free():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().pwritev(descriptor, buffers, offset)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallDisk:
    disk = SmallDisk(tmp_path, 12 * MIB)
    monkeypatch.setattr("pdfs.local.journal.free_bytes", disk.free)
    monkeypatch.setattr("pdfs.local.checkpoint.free_bytes", disk.free)
    monkeypatch.setattr("pdfs.local.checkpoint._MARGIN", MIB // 4)
    return disk


@asynccontextmanager
async def served(
    root: Path,
    disk: SmallDisk,
    *,
    evict: Evict | None = None,
    told: list[PdfsError] | None = None,
    sizes: JournalSizes = SIZES,
) -> AsyncIterator[tuple[Opened, Upkeep]]:
    with opened_session(root, disk, sizes=sizes) as opened:
        upkeep = Upkeep(
            opened.ledger,
            opened.journal,
            make=made_here(disk, opened.directory.descriptor),
            run_blocking=inline,
            tell=([] if told is None else told).append,
            **({} if evict is None else {"evict": evict}),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(upkeep.run)
            await trio.testing.wait_all_tasks_blocked()
            yield opened, upkeep
            nursery.cancel_scope.cancel()


def write_often(opened: Opened, ino: Inode) -> None:
    """In place, more than a full disk takes."""
    for _ in range(100):
        write(opened.ledger, ino, 0, bytes(PIECE))


async def fill(opened: Opened, files: int) -> int:
    """Write new files until the disk is full; how many bytes were taken."""
    taken = 0
    for number in range(files):
        ino = create(opened.ledger, f"new {number}")
        for offset in range(0, 100 * MIB, PIECE):
            try:
                write(opened.ledger, ino, offset, bytes(PIECE))
            except DiskFull:
                return taken
            taken += PIECE
            await trio.testing.wait_all_tasks_blocked()
    raise AssertionError("the disk never was full")


@pytest.mark.figure(name="H1")
async def test_a_write_in_place_goes_on_for_ever_on_a_full_disk(
    tmp_path: Path, disk: SmallDisk
) -> None:
    """Each time that it is full a checkpoint lets go of what is dead."""
    made = 0
    async with served(tmp_path, disk) as (opened, upkeep):
        ino = create(opened.ledger, "model")
        for number in range(800):
            data = bytes([number % 251]) * PIECE
            while True:
                try:
                    write(opened.ledger, ino, number % 24 * PIECE, data)
                except DiskFull:
                    assert await upkeep.make_room(), f"refused after {number} writes"
                    made += 1
                else:
                    break
            await trio.testing.wait_all_tasks_blocked()
            assert disk.free() >= 0
    assert made > 3
    left = left_in(tmp_path, {})
    assert left is not None
    content = left.shown["model"][1]
    assert [content[n * PIECE] for n in range(24)] == [
        max(k for k in range(800) if k % 24 == n) % 251 for n in range(24)
    ]


async def test_a_checkpoint_finds_its_room_though_others_took_all_there_was(
    tmp_path: Path, disk: SmallDisk, seed: int
) -> None:
    """Also that of a large tree: its snapshot needs more than sealing a segment gives back."""
    choice = random.Random(seed)
    async with served(tmp_path, disk) as (opened, upkeep):
        ino = create(opened.ledger, "model")
        for _ in range(3000):
            create(opened.ledger, choice.randbytes(120).hex())
        await upkeep.checkpoint()
        await trio.testing.wait_all_tasks_blocked()
        assert os.stat("snapshot", dir_fd=opened.directory.descriptor).st_size > 2 * SIZES.reserve
        disk.capacity -= disk.free()
        with pytest.raises(DiskFull):
            write_often(opened, ino)
        assert await upkeep.make_room()
        write(opened.ledger, ino, 0, b"there is room again")


async def test_what_would_be_freed_is_freed_when_the_disk_is_full(
    tmp_path: Path, disk: SmallDisk
) -> None:
    """What was deleted counts as free, and not what would stay with what is alive."""
    async with served(tmp_path, disk) as (opened, upkeep):
        kept = create(opened.ledger, "kept")
        for number in range(24):
            write(opened.ledger, kept, number * PIECE, bytes(PIECE))
        await fill(opened, 10)
        assert upkeep.freeable() == 0
        gone = opened.ledger.tree.nodes[TOP].entries["new 0"]
        size = opened.ledger.tree.nodes[gone].size
        unlink(opened.ledger, "new 0")
        opened.ledger.commit(Drop(ino=gone))
        said = upkeep.freeable()
        assert said > size // 2 > 2 * MIB
        before = upkeep.size
        assert await upkeep.make_room()
        assert before - upkeep.size > said - HEADERS
        assert upkeep.freeable() == 0


@pytest.mark.figure(name="H1")
async def test_a_write_is_refused_when_all_there_is_counts_and_deletes_and_a_publish_are_not(
    tmp_path: Path, disk: SmallDisk
) -> None:
    async with served(tmp_path, disk) as (opened, upkeep):
        for number in range(20):
            create(opened.ledger, f"old {number}")
        taken = await fill(opened, 10)
        assert taken > 6 * MIB
        assert not await upkeep.make_room()
        for number in range(20):
            unlink(opened.ledger, f"old {number}")
        opened.ledger.commit(Publishing(publish=PublishId("p"), sequence=opened.ledger.last))
        await opened.ledger.sync()
        last = opened.ledger.last
        opened.journal.close()
    left = left_in(tmp_path, {})
    assert left is not None
    assert left.last == last
    assert left.recovered.end.is_whole
    assert sum(len(data) for _, data, _ in left.shown.values()) == taken


async def test_room_that_somebody_else_makes_is_used(tmp_path: Path, disk: SmallDisk) -> None:
    others = tmp_path / "movie"
    others.write_bytes(bytes(4 * MIB))
    async with served(tmp_path, disk) as (opened, _):
        await fill(opened, 10)
        os.unlink(others)
        ino = create(opened.ledger, "more")
        write(opened.ledger, ino, 0, bytes(MIB))


async def test_clean_cache_goes_before_a_checkpoint_is_made(
    tmp_path: Path, disk: SmallDisk
) -> None:
    cache = [tmp_path / f"part {number}" for number in range(3)]
    for part in cache:
        part.write_bytes(bytes(MIB))
    evicted: list[int] = []

    async def evict(wanted: int) -> int:
        await trio.lowlevel.checkpoint()
        evicted.append(wanted)
        if not cache:
            return 0
        os.unlink(cache.pop())
        return MIB

    async with served(tmp_path, disk, evict=evict) as (opened, upkeep):
        taken = await fill(opened, 10)
        for _ in range(3):
            assert await upkeep.make_room()
            taken += await fill_more(opened)
        assert not await upkeep.make_room()
    assert evicted == [SIZES.segment] * 4
    assert taken > 8 * MIB


async def fill_more(opened: Opened) -> int:
    node = max(opened.ledger.tree.nodes.values(), key=lambda node: node.ino)
    taken = 0
    while True:
        try:
            write(opened.ledger, node.ino, node.size, bytes(PIECE))
        except DiskFull:
            return taken
        taken += PIECE
        await trio.testing.wait_all_tasks_blocked()


async def test_those_who_wait_for_room_together_make_it_once(
    tmp_path: Path, disk: SmallDisk
) -> None:
    calls = 0

    async def evict(wanted: int) -> int:
        nonlocal calls
        calls += 1
        await trio.sleep(1)
        return wanted

    made: list[bool] = []
    async with served(tmp_path, disk, evict=evict) as (_, upkeep):

        async def wait() -> None:
            made.append(await upkeep.make_room())

        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(wait)
    assert made == [True] * 9
    assert calls == 1


async def test_room_that_no_checkpoint_can_make_is_given_up_after_a_few(
    tmp_path: Path, disk: SmallDisk
) -> None:
    """Each segment is mostly alive: what is dead in them can't go, and a write is not to wait."""
    async with served(tmp_path, disk) as (opened, upkeep):
        await fill_and_delete(opened, gone=1, left=2)
        made = 0
        while await upkeep.make_room():
            made += 1
            assert made < 10
        segment = opened.journal.segment
        for _ in range(3):
            assert not await upkeep.make_room()
        assert opened.journal.segment == segment, "another checkpoint was made"


async def test_what_is_deleted_after_room_was_given_up_makes_room(
    tmp_path: Path, disk: SmallDisk
) -> None:
    """The journal can't grow on a full disk: it is what is dead in it that counts."""
    async with served(tmp_path, disk) as (opened, upkeep):
        stays = await fill_and_delete(opened, gone=1, left=2)
        while await upkeep.make_room():
            pass
        assert not await upkeep.make_room()
        unlink(opened.ledger, "stays")
        opened.ledger.commit(Drop(ino=stays))
        assert await upkeep.make_room()
        new = create(opened.ledger, "new")
        for number in range(64):
            write(opened.ledger, new, number * PIECE, bytes(PIECE))
            await trio.testing.wait_all_tasks_blocked()
        assert upkeep.size < 6 * MIB


async def test_a_checkpoint_that_freed_nothing_is_not_made_again_before_the_journal_has_grown(
    tmp_path: Path, disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of it is dead, but there is no room to copy what counts beside it."""
    made = 0

    def commit(*given: object) -> None:
        nonlocal made
        made += 1
        assert made < 3
        commit_checkpoint(*given)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr("pdfs.local.upkeep.commit_checkpoint", commit)
    monkeypatch.setattr("pdfs.local.checkpoint._MARGIN", 100 * MIB)
    sizes = replace(SIZES, garbage=4 * MIB)
    async with served(tmp_path, disk, sizes=sizes) as (opened, upkeep):
        await fill_and_delete(opened, gone=2, left=1)
        await upkeep.make_room()
        await trio.sleep(60)
    assert made == 1


async def fill_and_delete(opened: Opened, *, gone: int, left: int) -> Inode:
    """Fill the disk with pieces of two files by turns, and delete the one; that which is left."""
    stays, goes = create(opened.ledger, "stays"), create(opened.ledger, "goes")
    await fill_by_turns(opened, [goes] * gone + [stays] * left)
    unlink(opened.ledger, "goes")
    opened.ledger.commit(Drop(ino=goes))
    return stays


async def fill_by_turns(opened: Opened, files: list[Inode]) -> None:
    """Write pieces to one file after the other until the disk is full."""
    for number in range(10_000):
        try:
            write(opened.ledger, files[number % len(files)], number * PIECE, bytes(PIECE))
        except DiskFull:
            return
        await trio.testing.wait_all_tasks_blocked()
    raise AssertionError("the disk never was full")
