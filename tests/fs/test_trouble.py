"""A full disk, a failed journal, a lost stage, lost bytes."""

import os
from errno import EIO, ENOSPC, EROFS
from pathlib import Path

import pytest

from pdfs.core.content import Content
from pdfs.core.ids import TOP, Inode
from pdfs.core.ids import Path as StagePath
from pdfs.core.record import Found, Unlink
from pdfs.errors import ContentLost, DiskFull, JournalDamaged, JournalFailed, LockLost
from pdfs.fs.plan import Change
from tests.fs.sessions import replayed
from tests.fs.stage import Stage
from tests.local.faulty_disk import Fault


@pytest.fixture
def handle(stage: Stage) -> int:
    """Of the file `f`, open for writing."""
    stage.write_file("f", b"before")
    stage.setxattr("f", "user.x", b"")
    stage.mkdir("d")
    return stage.open("f", os.O_RDWR)


def check_read_only(stage: Stage) -> None:
    """Whatever changes the tree or opens for it is refused; looking is not."""
    for call in (
        lambda: stage.open("f", os.O_WRONLY),
        lambda: stage.open("f", os.O_RDWR),
        lambda: stage.open("f", os.O_RDONLY | os.O_TRUNC),
        lambda: stage.open("new", os.O_CREAT | os.O_RDONLY),
        lambda: stage.mkdir("new"),
        lambda: stage.mknod("new", 0o644),
        lambda: stage.symlink("t", "new"),
        lambda: stage.link("f", "new"),
        lambda: stage.unlink("f"),
        lambda: stage.rmdir("d"),
        lambda: stage.rename("f", "new"),
        lambda: stage.chmod("f", 0o600),
        lambda: stage.truncate("f", 0),
        lambda: stage.change("f", Change(mtime=0)),
        lambda: stage.setxattr("f", "user.y", b""),
        lambda: stage.removexattr("f", "user.x"),
    ):
        with stage.refuses(EROFS):
            call()
    assert stage.listdir() == ["d", "f"]
    assert stage.stat("f").size == 6


# --- the disk is full


async def test_a_full_disk_refuses_a_write_and_goes_on_when_there_is_room(
    stage: Stage, handle: int
) -> None:
    stage.disk.fault = Fault(
        at=1, error=ENOSPC, takes=50, for_ever=True, calls=frozenset({"pwritev"})
    )
    for _ in range(3):
        with pytest.raises(DiskFull):
            stage.pwrite(handle, b"after!", 0)
    with pytest.raises(DiskFull):
        stage.mkdir("e")
    assert await stage.pread(handle, 10, 0) == b"before"
    assert stage.listdir() == ["d", "f"]
    stage.disk.fault = None
    stage.pwrite(handle, b"after!", 0)
    assert await stage.read_file("f") == b"after!"
    assert stage.failures == []


def test_a_node_that_a_full_disk_could_not_drop_goes_at_the_end(stage: Stage, handle: int) -> None:
    stage.unlink("f")
    stage.disk.fault = Fault(at=1, error=ENOSPC, calls=frozenset({"pwritev"}))
    stage.close(handle)
    assert len(stage.fs.tree.orphans) == 1
    stage.fs.end()
    assert not stage.fs.tree.orphans


# --- the journal has failed


async def test_a_failed_write_makes_the_mount_read_only_and_loses_nothing(
    stage: Stage, handle: int, tmp_path: Path
) -> None:
    stage.pwrite(handle, b"acked!", 0)
    stage.disk.fault = Fault(at=1, error=EIO, calls=frozenset({"pwritev"}))
    with pytest.raises(JournalFailed):
        stage.pwrite(handle, b"never!", 0)
    check_read_only(stage)
    for call in (
        lambda: stage.pwrite(handle, b"never!", 0),
        lambda: stage.ftruncate(handle, 0),
        lambda: stage.fs.flush(handle),
    ):
        with pytest.raises(JournalFailed):
            call()
    with pytest.raises(JournalFailed):
        await stage.fs.fsync(handle)
    assert await stage.pread(handle, 10, 0) == b"acked!"
    assert len(stage.failures) == 1
    tree = replayed(tmp_path)
    assert tree == stage.fs.tree


async def test_after_a_failed_sync_every_sync_fails_and_the_mount_is_read_only(
    stage: Stage, handle: int
) -> None:
    stage.pwrite(handle, b"unsure", 0)
    stage.disk.fault = Fault(at=1, error=EIO, calls=frozenset({"fdatasync"}))
    for _ in range(2):
        with pytest.raises(JournalFailed):
            await stage.fs.fsync(handle)
    with pytest.raises(JournalFailed):
        await stage.fs.fsyncdir(stage.fs.opendir(TOP))
    assert stage.disk.made.count("fdatasync") == 1
    check_read_only(stage)
    assert len(stage.failures) == 1


def test_what_is_open_can_be_closed_after_the_journal_failed(stage: Stage, handle: int) -> None:
    reading = stage.open("f")
    stage.disk.fault = Fault(at=1, error=EIO, calls=frozenset({"pwritev"}))
    with pytest.raises(JournalFailed):
        stage.pwrite(handle, b"x", 0)
    stage.close(reading)
    stage.fs.release(handle)
    stage.fs.forget([(stage.stat("f").ino, 1)])
    stage.fs.end()


def test_a_record_that_the_tree_refuses_is_the_last_one(stage: Stage, handle: int) -> None:
    """It is in the journal, where a replay ends: nothing behind it would be seen again."""
    with pytest.raises(JournalDamaged):
        stage.fs.commit_from_below(Unlink(parent=TOP, name="missing", time=0))
    with pytest.raises(JournalDamaged):
        stage.pwrite(handle, b"x", 0)
    check_read_only(stage)
    assert len(stage.failures) == 1


# --- the stage is lost


async def test_a_lost_stage_takes_the_bytes_of_what_was_open_and_nothing_else(
    stage: Stage, handle: int, tmp_path: Path
) -> None:
    stage.fs.read_only = LockLost("taken over by bernd")
    check_read_only(stage)
    stage.pwrite(handle, b"after, and longer", 0)
    stage.ftruncate(handle, 6)
    stage.now += 1
    assert await stage.pread(handle, 10, 0) == b"after,"
    await stage.fs.fsync(handle)
    stage.fs.flush(handle)
    tree = replayed(tmp_path)
    assert tree == stage.fs.tree


async def test_a_lost_stage_can_be_read(stage: Stage, handle: int) -> None:
    stage.fs.read_only = LockLost("taken over by bernd")
    assert await stage.read_file("f") == b"before"
    assert stage.getxattr("f", "user.x") == b""


def test_a_handle_for_reading_changes_no_size_of_a_lost_stage(stage: Stage, handle: int) -> None:
    reading = stage.open("f")
    stage.fs.read_only = LockLost("taken over by bernd")
    with stage.refuses(EROFS):
        stage.ftruncate(reading, 0)


# --- bytes that are nowhere


async def test_a_file_whose_bytes_are_nowhere_is_eio_and_named(stage: Stage) -> None:
    stage.mkdir("pumps")
    stage.fs.commit_from_below(a_lost(stage, "P-101.dwg", stage.stat("pumps").ino))
    for _ in range(2):
        with pytest.raises(ContentLost, match=r"^'pumps/P-101\.dwg' can't be read") as lost:
            await stage.read_file("pumps/P-101.dwg")
        assert lost.value.errno == EIO
    assert list(stage.fs.unreadable) == ["pumps/P-101.dwg"]


async def test_what_is_written_to_a_file_whose_bytes_are_nowhere_can_be_read(stage: Stage) -> None:
    stage.fs.commit_from_below(a_lost(stage, "f", TOP))
    handle = stage.open("f", os.O_RDWR)
    stage.pwrite(handle, b"new", 2)
    assert await stage.pread(handle, 3, 2) == b"new"
    with pytest.raises(ContentLost, match="'f' can't be read"):
        await stage.pread(handle, 4, 2)
    assert len(stage.first_writes) == 1


def a_lost(stage: Stage, name: str, parent: Inode) -> Found:
    """A file of ten bytes that no fetch can get."""
    return Found(
        parent=parent,
        name=name,
        path=StagePath(name),
        ino=stage.ledger.new_inode(),
        mode=0o644,
        uid=0,
        gid=0,
        mtime=7,
        time=stage.now,
        content=Content(size=10, digest=None),
    )
