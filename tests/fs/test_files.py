"""Opening, reading and writing."""

import os
from errno import EBADF

import pytest
import trio

from pdfs.core.content import Content, content_of
from pdfs.core.ids import TOP, Inode, Path
from pdfs.core.record import Found
from pdfs.errors import ContentLost, DamageFound
from tests.fs.stage import Stage


def found(stage: Stage, name: str, data: bytes) -> Content:
    """Another tool's object enters the tree; its bytes are in the bucket alone."""
    content = content_of(data)
    stage.contents[content] = data
    stage.fs.commit_from_below(
        Found(
            parent=TOP,
            name=name,
            path=Path(name),
            ino=stage.ledger.new_inode(),
            mode=0o644,
            uid=0,
            gid=0,
            mtime=7,
            time=stage.now,
            content=content,
        )
    )
    return content


async def test_what_was_written_is_read(stage: Stage) -> None:
    handle = stage.open("f", os.O_RDWR | os.O_CREAT)
    assert stage.pwrite(handle, b"hello", 0) == 5
    assert stage.pwrite(handle, b"HE", 0) == 2
    assert await stage.pread(handle, 100, 0) == b"HEllo"
    assert await stage.pread(handle, 2, 1) == b"El"


async def test_a_hole_is_zeros_and_behind_the_end_is_nothing(stage: Stage) -> None:
    handle = stage.open("f", os.O_RDWR | os.O_CREAT)
    stage.pwrite(handle, b"x", 5)
    assert await stage.pread(handle, 10, 0) == b"\0\0\0\0\0x"
    assert await stage.pread(handle, 10, 6) == b""
    assert await stage.pread(handle, 10, 100) == b""


def test_each_write_is_one_record_with_its_bytes(stage: Stage) -> None:
    handle = stage.open("f", os.O_WRONLY | os.O_CREAT)
    last = stage.ledger.last
    stage.disk.made.clear()
    stage.pwrite(handle, b"x" * 100_000, 0)
    assert (stage.ledger.last, stage.disk.made) == (last + 1, ["pwritev"])


def test_an_empty_write_changes_nothing(stage: Stage) -> None:
    handle = stage.open("f", os.O_WRONLY | os.O_CREAT)
    last = stage.ledger.last
    assert stage.pwrite(handle, b"", 10) == 0
    assert (stage.ledger.last, stage.stat("f").size) == (last, 0)


def test_a_write_is_a_modification(stage: Stage) -> None:
    handle = stage.open("f", os.O_WRONLY | os.O_CREAT)
    stage.now += 3
    stage.pwrite(handle, b"x", 0)
    assert (stage.stat("f").mtime, stage.stat("f").ctime) == (stage.now, stage.now)


def test_a_handle_for_reading_takes_no_bytes(stage: Stage) -> None:
    stage.write_file("f", b"")
    handle = stage.open("f", os.O_RDONLY)
    with stage.refuses(EBADF):
        stage.pwrite(handle, b"x", 0)


async def test_a_handle_that_is_closed_is_none(stage: Stage) -> None:
    handle = stage.open("f", os.O_RDWR | os.O_CREAT)
    stage.close(handle)
    for call in (
        lambda: stage.pwrite(handle, b"x", 0),
        lambda: stage.fs.flush(handle),
        lambda: stage.fs.release(handle),
        lambda: stage.fs.releasedir(handle),
        lambda: stage.ftruncate(handle, 0),
    ):
        with stage.refuses(EBADF):
            call()
    with stage.refuses(EBADF):
        await stage.pread(handle, 1, 0)
    with stage.refuses(EBADF):
        await stage.fs.fsync(handle)
    with stage.refuses(EBADF):
        await stage.fs.fsyncdir(handle)


async def test_opening_with_o_trunc_empties_and_is_a_modification_even_if_empty(
    stage: Stage,
) -> None:
    stage.write_file("f", b"x")
    for _ in range(2):
        stage.now += 1
        stage.close(stage.open("f", os.O_WRONLY | os.O_TRUNC))
        assert (stage.stat("f").size, stage.stat("f").mtime) == (0, stage.now)


async def test_a_file_stays_what_it_is_for_who_has_it_open_while_it_is_replaced(
    stage: Stage,
) -> None:
    stage.write_file("doc", b"old")
    handle = stage.open("doc", os.O_RDWR)
    stage.write_file("tmp", b"new")
    stage.rename("tmp", "doc")
    assert await stage.pread(handle, 10, 0) == b"old"
    stage.pwrite(handle, b"OLD", 0)
    assert await stage.read_file("doc") == b"new"
    stage.ftruncate(handle, 1)
    assert await stage.pread(handle, 10, 0) == b"O"


async def test_bytes_of_the_base_come_from_below(stage: Stage) -> None:
    found(stage, "plan.dxf", b"0123456789")
    handle = stage.open("plan.dxf", os.O_RDWR)
    stage.pwrite(handle, b"ab", 3)
    assert await stage.pread(handle, 100, 1) == b"12ab56789"
    stage.ftruncate(handle, 6)
    stage.ftruncate(handle, 8)
    assert await stage.pread(handle, 100, 0) == b"012ab5\0\0"


async def test_a_content_that_is_nowhere_is_an_error_and_never_zeros(stage: Stage) -> None:
    content = found(stage, "lost.ifc", b"0123456789")
    del stage.contents[content]
    handle = stage.open("lost.ifc")
    with pytest.raises(ContentLost):
        await stage.pread(handle, 100, 0)


async def test_a_fetch_that_is_short_is_an_error_and_not_the_end_of_the_file(
    stage: Stage,
) -> None:
    content = found(stage, "cut.ifc", b"0123456789")
    stage.contents[content] = b"01234"
    with pytest.raises(DamageFound, match="5 bytes of 10 came"):
        await stage.read_file("cut.ifc")


async def test_a_write_during_a_fetch_is_seen_whole(stage: Stage) -> None:
    content = found(stage, "f", b"0123456789")
    handle = stage.open("f", os.O_RDWR)
    asked, go_on = trio.Event(), trio.Event()

    async def fetch(content: Content, start: int, stop: int) -> bytes:
        asked.set()
        await go_on.wait()
        return stage.contents[content][start:stop]

    stage.ledger._fetch = fetch
    read: list[bytes] = []

    async def reader() -> None:
        read.append(await stage.pread(handle, 100, 0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await asked.wait()
        stage.pwrite(handle, b"abc", 2)
        stage.ftruncate(handle, 7)
        go_on.set()
    assert read == [b"01abc56"]
    assert content.size == 10


def test_the_first_change_of_a_file_that_is_not_whole_here_asks_for_the_rest(stage: Stage) -> None:
    for name in ("written", "cut", "emptied", "moved"):
        found(stage, name, b"0123456789")
    handle = stage.open("written", os.O_RDWR)
    stage.pwrite(handle, b"a", 0)
    stage.pwrite(handle, b"b", 1)
    stage.truncate("cut", 5)
    stage.truncate("emptied", 0)
    stage.rename("moved", "else")
    stage.write_file("new", b"x")
    asked = [node.ino for node in stage.first_writes]
    assert asked == [stage.stat("written").ino, stage.stat("cut").ino]


def test_busy_names_the_files_that_are_open(stage: Stage) -> None:
    stage.write_file("f", b"")
    assert stage.fs.busy() == set()
    handles = [stage.open("f"), stage.open("f", os.O_WRONLY)]
    directory = stage.fs.opendir(TOP)
    busy = stage.fs.busy()
    stage.close(handles[0])
    assert busy == stage.fs.busy() == {stage.stat("f").ino}
    stage.close(handles[1])
    stage.fs.releasedir(directory)
    assert stage.fs.busy() == set()


async def test_fsync_returns_when_all_records_are_on_the_disk(stage: Stage) -> None:
    handle = stage.open("f", os.O_WRONLY | os.O_CREAT)
    directory = stage.fs.opendir(TOP)
    for is_file in (True, False):
        stage.pwrite(handle, b"x", 0)
        stage.disk.made.clear()
        await (stage.fs.fsync(handle) if is_file else stage.fs.fsyncdir(directory))
        assert stage.disk.made == ["fdatasync"]
        assert stage.ledger._journal.synced_sequence == stage.ledger.last


async def test_fsync_of_a_handle_for_reading_covers_what_others_wrote(stage: Stage) -> None:
    stage.write_file("f", b"x")
    await stage.fs.fsync(stage.open("f", os.O_RDONLY))
    assert stage.ledger._journal.synced_sequence == stage.ledger.last


def test_close_syncs_nothing(stage: Stage) -> None:
    stage.disk.made.clear()
    stage.write_file("f", b"x")
    assert set(stage.disk.made) == {"pwritev"}


def test_an_inode_number_is_never_given_twice(stage: Stage) -> None:
    seen: set[Inode] = set()
    for _ in range(5):
        stage.write_file("f", b"")
        assert stage.stat("f").ino not in seen
        seen.add(stage.stat("f").ino)
        stage.unlink("f")
