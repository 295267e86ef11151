"""Others in the directory that plays the bucket: tools between our calls, our own processes."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from pdfs.disk import lock_file
from pdfs.errors import PreconditionFailed, StoreUnavailable
from pdfs.store.directory import DirectoryStore
from pdfs.store.directory.hidden import Hidden
from pdfs.store.objects import IfAbsent, IfMatch
from tests.conftest import ExpectedWarnings
from tests.store.directory_bucket import HIDDEN, MeddledDisk, hidden_files, keys, replacing

pytestmark = pytest.mark.real_clock


@pytest.fixture
def store(root: Path) -> Iterator[DirectoryStore]:
    made = DirectoryStore(root)
    yield made
    trio.run(made.aclose)


# Other tools between our look and our rename


async def test_a_name_taken_at_the_last_moment_is_not_overwritten(root: Path) -> None:
    disk = MeddledDisk("rename_noreplace", replacing(root / "a", b"theirs"))
    store = DirectoryStore(root, disk=disk)
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"ours", condition=IfAbsent())
    assert (root / "a").read_bytes() == b"theirs"
    assert hidden_files(root) == []
    await store.aclose()


async def test_a_file_replaced_at_the_last_moment_is_put_back(root: Path) -> None:
    disk = MeddledDisk("rename_exchange", replacing(root / "a", b"theirs"))
    store = DirectoryStore(root, disk=disk)
    etag = (await store.put("a", b"first", condition=None)).etag
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"ours", condition=IfMatch(etag))
    assert (root / "a").read_bytes() == b"theirs"
    assert hidden_files(root) == []
    await store.aclose()


async def test_a_file_edited_in_place_at_the_last_moment_is_put_back(root: Path) -> None:
    def edit() -> None:
        status = (root / "a").stat()
        with (root / "a").open("r+b") as file:
            file.write(b"FIRST")
        os.utime(root / "a", ns=(status.st_atime_ns, status.st_mtime_ns))

    store = DirectoryStore(root, disk=MeddledDisk("rename_exchange", edit))
    etag = (await store.put("a", b"first", condition=None)).etag
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"ours", condition=IfMatch(etag))
    assert (root / "a").read_bytes() == b"FIRST"
    assert hidden_files(root) == []
    await store.aclose()


async def test_a_file_removed_at_the_last_moment_is_not_brought_back(root: Path) -> None:
    store = DirectoryStore(root, disk=MeddledDisk("rename_exchange", (root / "a").unlink))
    etag = (await store.put("a", b"first", condition=None)).etag
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"ours", condition=IfMatch(etag))
    assert await keys(store) == []
    assert hidden_files(root) == []
    await store.aclose()


async def test_a_directory_that_took_the_place_is_put_back(root: Path) -> None:
    def become_directory() -> None:
        (root / "a").unlink()
        (root / "a").mkdir()
        (root / "a/b").write_bytes(b"theirs")

    store = DirectoryStore(root, disk=MeddledDisk("rename_exchange", become_directory))
    etag = (await store.put("a", b"first", condition=None)).etag
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"ours", condition=IfMatch(etag))
    assert (root / "a/b").read_bytes() == b"theirs"
    assert hidden_files(root) == []
    await store.aclose()


async def test_a_tool_that_saves_twice_keeps_its_newest_and_nothing_of_it_is_lost(
    root: Path, expected_warnings: ExpectedWarnings
) -> None:
    """Once before our exchange, once before we undo it."""
    saves = iter([b"save 1", b"save 2"])
    disk = MeddledDisk("rename_exchange", lambda: replacing(root / "a", next(saves))(), times=2)
    store = DirectoryStore(root, disk=disk)
    etag = (await store.put("a", b"first", condition=None)).etag
    with pytest.raises(PreconditionFailed):
        await store.put("a", b"ours", condition=IfMatch(etag))
    assert (root / "a").read_bytes() == b"save 2"
    assert [path.read_bytes() for path in hidden_files(root)] == [b"save 1"]
    expected_warnings.take("'a'")
    await store.aclose()


async def test_a_file_replaced_before_our_delete_stays(root: Path) -> None:
    disk = MeddledDisk("rename_noreplace", lambda: None)
    store = DirectoryStore(root, disk=disk)
    etag = (await store.put("d/a", b"first", condition=None)).etag
    disk.meddle, disk.times = replacing(root / "d/a", b"theirs"), 1
    with pytest.raises(PreconditionFailed):
        await store.delete("d/a", condition=IfMatch(etag))
    assert (root / "d/a").read_bytes() == b"theirs"
    assert hidden_files(root) == []
    await store.aclose()


async def test_a_delete_that_meets_two_saves_loses_neither(
    root: Path, expected_warnings: ExpectedWarnings
) -> None:
    saves = iter([b"save 1", b"save 2"])
    disk = MeddledDisk("rename_noreplace", lambda: None)
    store = DirectoryStore(root, disk=disk)
    etag = (await store.put("a", b"first", condition=None)).etag
    disk.meddle, disk.times = lambda: replacing(root / "a", next(saves))(), 2
    with pytest.raises(PreconditionFailed):
        await store.delete("a", condition=IfMatch(etag))
    assert (root / "a").read_bytes() == b"save 2"
    assert [path.read_bytes() for path in hidden_files(root)] == [b"save 1"]
    expected_warnings.take("'a'")
    await store.aclose()


# Processes

CONTENDER = """
import sys, trio
from pathlib import Path
from pdfs.errors import PreconditionFailed
from pdfs.store.directory import DirectoryStore
from pdfs.store.directory.hidden import Hidden
from pdfs.store.objects import IfMatch

async def main():
    store = DirectoryStore(Path(sys.argv[1]))
    for _ in range(20):
        while True:
            seen = await store.get("counter")
            body = str(int(seen.body) + 1).encode()
            try:
                await store.put("counter", body, condition=IfMatch(seen.info.etag))
            except PreconditionFailed:
                continue
            break

trio.run(main)
"""


async def test_processes_that_compare_and_swap_lose_no_step(
    store: DirectoryStore, root: Path
) -> None:
    await store.put("counter", b"0", condition=None)
    here = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", CONTENDER, str(root)]
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(partial(trio.run_process, command, cwd=here))
    assert (root / "counter").read_bytes() == b"80"
    assert hidden_files(root) == []


async def test_a_process_that_keeps_the_lock_is_not_waited_for_without_a_bound(
    root: Path,
) -> None:
    holder, waiter = DirectoryStore(root), DirectoryStore(root, lock_wait=0.05)
    await waiter.put("a", b"", condition=None)
    with holder._hidden.exclusive(), pytest.raises(StoreUnavailable) as caught:
        await waiter.put("a", b"new", condition=None)
    assert not caught.value.sent
    assert (root / "a").read_bytes() == b""
    assert hidden_files(root) == []
    await holder.aclose()
    await waiter.aclose()


async def test_a_lock_on_a_file_that_was_just_removed_excludes_nobody_and_is_not_taken_for_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removals = iter([(root / HIDDEN / "lock").unlink])

    def lock_after_removal(descriptor: int) -> bool:
        for remove in removals:
            remove()
        return lock_file(descriptor)

    monkeypatch.setattr("pdfs.store.directory.hidden.lock_file", lock_after_removal)
    store, other = DirectoryStore(root), DirectoryStore(root, lock_wait=0.05)
    with store._hidden.exclusive(), pytest.raises(StoreUnavailable), other._hidden.exclusive():
        pytest.fail("two hold the lock")
    await store.aclose()
    await other.aclose()


async def test_a_change_is_finished_even_if_its_caller_gives_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(root, disk=MeddledDisk("rename_noreplace", lambda: time.sleep(0.2)))
    with trio.move_on_after(0.1) as scope:
        await store.put("a", b"body", condition=IfAbsent())
    assert (root / "a").read_bytes() == b"body"
    assert hidden_files(root) == []
    assert scope.cancel_called
    await store.aclose()


async def test_the_top_directory_stays_open_for_a_read_that_was_left_behind(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the thread would go on in whatever directory has that number next."""
    store = DirectoryStore(root)
    await store.put("a", b"", condition=None)
    goes_on = threading.Event()
    monkeypatch.setattr(Hidden, "now", lambda _: float(goes_on.wait(5)))
    with trio.move_on_after(0.05):
        await store.get("a")
    await store.aclose()
    os.fstat(store._bucket.root)
    goes_on.set()
    threads = [object() for _ in range(int(store._readers.total_tokens))]
    for thread in threads:  # all of them: the one left behind has ended
        await store._readers.acquire_on_behalf_of(thread)
    for thread in threads:
        store._readers.release_on_behalf_of(thread)
    await store.aclose()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(store._bucket.root)
