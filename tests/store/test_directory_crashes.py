"""What is left of the directory that plays the bucket after crashes, and before full disks."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio

from pdfs.core.content import ETag
from pdfs.disk import OsDisk
from pdfs.errors import (
    ObjectNotFound,
    StoreRefused,
    StoreUnavailable,
    StoreUnsuitable,
)
from pdfs.store.directory import DirectoryStore, make_root
from pdfs.store.objects import IfAbsent, IfMatch
from tests.conftest import ExpectedWarnings
from tests.store.directory_bucket import (
    Crash,
    MeddledDisk,
    RecordingDisk,
    hidden_files,
    read,
    steps,
)

pytestmark = pytest.mark.real_clock


@pytest.fixture
def store(root: Path) -> Iterator[DirectoryStore]:
    made = DirectoryStore(root)
    yield made
    trio.run(made.aclose)


async def test_a_put_answers_after_bytes_and_name_are_on_the_disk(root: Path) -> None:
    disk = RecordingDisk()
    store = DirectoryStore(root, disk=disk)
    await store.put("a/b", b"1", condition=None)
    disk.done.clear()
    etag = (await store.put("a/b", b"2", condition=None)).etag
    assert steps(disk) == ["rename", "pwritev", "fsync", "rename", "fsync", "fsync"]
    disk.done.clear()
    await store.put("a/b", b"3", condition=IfMatch(etag))
    assert steps(disk) == [
        "rename",
        "pwritev",
        "fsync",
        "rename_exchange",
        "fsync",
        "fsync",
        "unlink",
    ]
    disk.done.clear()
    await store.put("new/b", b"4", condition=IfAbsent())
    assert steps(disk) == [
        "rename",
        "pwritev",
        "fsync",
        "mkdir",
        "fsync",
        "rename_noreplace",
        "fsync",
        "fsync",
    ]
    await store.aclose()


async def test_the_name_of_a_directory_that_a_killed_process_made_is_synced_before_use(
    root: Path,
) -> None:
    (root / "a").mkdir()
    disk = RecordingDisk()
    store = DirectoryStore(root, disk=disk)
    await store.put("x", b"", condition=None)
    disk.calls.clear()
    await store.put("a/b", b"", condition=IfAbsent())
    assert disk.calls.count("fsync") == 4
    disk.calls.clear()
    await store.put("a/c", b"", condition=IfAbsent())
    assert disk.calls.count("fsync") == 3
    await store.aclose()


Step = Callable[[DirectoryStore, ETag], Any]
CRASHED: Mapping[str, tuple[Step, set[bytes | None]]] = {
    "put": (lambda s, _: s.put("d/a", b"new", condition=None), {b"old", b"new"}),
    "replace": (lambda s, etag: s.put("d/a", b"new", condition=IfMatch(etag)), {b"old", b"new"}),
    "create": (lambda s, _: s.put("e/f/g", b"new", condition=IfAbsent()), {None, b"new"}),
    "delete": (lambda s, _: s.delete("d/a", condition=None), {b"old", None}),
    "delete that": (lambda s, etag: s.delete("d/a", condition=IfMatch(etag)), {b"old", None}),
}


@pytest.mark.parametrize("name", CRASHED)
async def test_a_crash_at_any_call_leaves_the_old_object_or_the_new_one(
    tmp_path: Path, name: str, expected_warnings: ExpectedWarnings
) -> None:
    step, allowed = CRASHED[name]
    key = "e/f/g" if name == "create" else "d/a"
    seen = set()
    for fail_at in range(100):
        root = tmp_path / str(fail_at)
        root.mkdir()
        healthy = DirectoryStore(root)
        etag = (await healthy.put("d/a", b"old", condition=None)).etag
        store = DirectoryStore(root, disk=RecordingDisk(fail_at=fail_at))
        try:
            await step(store, etag)
        except Crash:
            pass
        else:
            break
        finally:
            await store.aclose()
        seen.add(await content(healthy, key))
        await healthy.put("after", b"", condition=IfAbsent())
        await healthy.put(key, b"again", condition=None)
        assert await content(healthy, key) == b"again"
        await healthy.aclose()
    assert fail_at > 2
    assert seen == allowed
    expected_warnings.records.clear()


async def content(store: DirectoryStore, key: str) -> bytes | None:
    try:
        return (await store.get(key)).body
    except ObjectNotFound:
        return None


async def test_what_a_crash_displaced_is_kept_and_reported(
    root: Path, expected_warnings: ExpectedWarnings
) -> None:
    """Between the exchange and the look at what came out, it may be another tool's only copy."""
    healthy = DirectoryStore(root)
    etag = (await healthy.put("a", b"displaced", condition=None)).etag
    calls = len(await recorded_calls(root / "dry", b"displaced"))
    dying = DirectoryStore(root, disk=RecordingDisk(fail_at=calls - 1))
    with pytest.raises(Crash):
        await dying.put("a", b"new", condition=IfMatch(etag))
    await dying.aclose()
    assert (root / "a").read_bytes() == b"new"
    assert [path.read_bytes() for path in hidden_files(root)] == [b"displaced"]

    (left,) = await healthy.left_over()
    assert read(left) == b"displaced"
    next_process = DirectoryStore(root)
    await next_process.put("b", b"", condition=None)
    assert left in expected_warnings.take("left by a crash").getMessage()
    assert read(left) == b"displaced"
    await healthy.aclose()
    await next_process.aclose()


async def recorded_calls(root: Path, body: bytes) -> list[str]:
    """The calls of a replacement that goes well, up to the removal of what it displaced."""
    make_root(OsDisk(), root)
    store = DirectoryStore(root, disk=(disk := RecordingDisk()))
    etag = (await store.put("a", body, condition=None)).etag
    disk.calls.clear()
    await store.put("a", b"new", condition=IfMatch(etag))
    await store.aclose()
    return disk.calls


async def test_a_file_on_its_way_is_not_left_over(store: DirectoryStore, root: Path) -> None:
    await store.put("a", b"", condition=None)
    with store._hidden.new_file():
        assert len(hidden_files(root)) == 1
        assert await store.left_over() == []
    assert hidden_files(root) == []


async def test_a_full_disk_is_told_and_changes_nothing(root: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    healthy = DirectoryStore(root)
    etag = (await healthy.put("a", b"old", condition=None)).etag
    for fail_at in range(10):
        disk = RecordingDisk(fail_at=fail_at, error=full)
        store = DirectoryStore(root, disk=disk)
        with contextlib.suppress(StoreRefused):
            await store.put("a", b"new", condition=IfMatch(etag))
        await store.aclose()
        if disk.calls[fail_at : fail_at + 1] == ["rename_exchange"]:
            break
        assert await content(healthy, "a") == b"old"
        assert hidden_files(root) == []
    assert fail_at > 3
    await healthy.aclose()


class FailingXattrs(OsDisk):
    def __init__(self, error: OSError) -> None:
        self._error = error

    def setxattr(self, descriptor: int, name: str, value: bytes) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("code", "expected", "words"),
    [
        (errno.ENOSPC, StoreRefused, "No space left"),
        (errno.ENOTSUP, StoreUnsuitable, "extended attributes"),
        (errno.EIO, StoreUnavailable, "Input/output error"),
        (errno.EDQUOT, StoreRefused, "quota"),
        (errno.EACCES, StoreRefused, "rights"),
        (errno.EROFS, StoreRefused, "mount"),
    ],
)
async def test_what_the_disk_says_is_put_into_words(
    root: Path, code: int, expected: type[Exception], words: str
) -> None:
    healthy = DirectoryStore(root)
    await healthy.put("a", b"", condition=None)
    error = OSError(code, os.strerror(code))

    store = DirectoryStore(root, disk=FailingXattrs(error))
    with pytest.raises(expected, match=words):
        await store.put("a", b"", condition=None)
    await store.aclose()
    await healthy.aclose()


async def test_a_file_system_without_exchange_is_refused_in_words(root: Path) -> None:
    def refuse() -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    store = DirectoryStore(root, disk=MeddledDisk("rename_exchange", refuse))
    etag = (await store.put("a", b"old", condition=None)).etag
    with pytest.raises(StoreUnsuitable, match="ext4"):
        await store.put("a", b"new", condition=IfMatch(etag))
    assert (root / "a").read_bytes() == b"old"
    await store.aclose()
