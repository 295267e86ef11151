"""The directory that plays the bucket: plain files, their names, and what they are versions of."""

import contextlib
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from pdfs.core.content import ETag
from pdfs.disk import OsDisk
from pdfs.errors import (
    KeyClash,
    ObjectNotFound,
    PreconditionFailed,
    StoreRefused,
    StoreUnavailable,
    UsageError,
)
from pdfs.store.directory import DirectoryStore, make_root
from pdfs.store.directory.hidden import Hidden
from pdfs.store.directory.version import Identity, identity_of
from pdfs.store.objects import IfAbsent, IfMatch
from tests.store.directory_bucket import HIDDEN, MeddledDisk, hidden_files, keys, names_below

pytestmark = pytest.mark.real_clock


@pytest.fixture
def store(root: Path) -> Iterator[DirectoryStore]:
    made = DirectoryStore(root)
    yield made
    trio.run(made.aclose)


# Plain files


async def test_an_object_is_a_plain_file_of_its_bytes(store: DirectoryStore, root: Path) -> None:
    await store.put("project/stage/valve.dwg", b"bytes", condition=IfAbsent())
    assert (root / "project/stage/valve.dwg").read_bytes() == b"bytes"


async def test_a_file_of_any_tool_is_an_object(store: DirectoryStore, root: Path) -> None:
    (root / "project").mkdir()
    (root / "project/pump.dwg").write_bytes(b"from elsewhere")
    fetched = await store.get("project/pump.dwg")
    assert fetched.body == b"from elsewhere"
    assert fetched.info.content_type == "application/octet-stream"
    assert dict(fetched.info.metadata) == {}
    assert await keys(store) == ["project/pump.dwg"]


async def test_metadata_of_an_edited_file_are_not_believed(
    store: DirectoryStore, root: Path
) -> None:
    """They name the publish that wrote the bytes; an edit in place by another tool keeps them."""
    await store.put("a", b"ours", condition=None, metadata={"pdfs-publish": "id"})
    assert (await store.head("a")).metadata == {"pdfs-publish": "id"}
    with (root / "a").open("r+b") as file:
        file.write(b"them")
    assert "user.pdfs.meta.pdfs-publish" in os.listxattr(root / "a")
    assert dict((await store.head("a")).metadata) == {}
    assert dict((await store.get("a")).info.metadata) == {}


@pytest.fixture
def no_umask() -> Iterator[None]:
    old = os.umask(0)
    yield
    os.umask(old)


def modes_below(directory: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}


@pytest.mark.parametrize("mode", [0o700, 0o770])
async def test_nothing_is_more_open_than_the_top_directory(
    tmp_path: Path, no_umask: None, mode: int
) -> None:
    root = tmp_path / "bucket"
    root.mkdir(mode)
    store = DirectoryStore(root)
    await store.put("a/b", b"", condition=None)
    begun = await store.create_upload("b")
    await store.upload_part("b", begun, 1, b"")
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == mode & 0o666
    assert stat.S_IMODE((root / "a").stat().st_mode) == mode
    assert not any(each & ~mode for each in modes_below(root))
    await store.aclose()


async def test_the_hidden_directory_is_no_part_of_the_bucket(store: DirectoryStore) -> None:
    await store.put("a", b"", condition=None)
    assert await keys(store) == ["a"]
    assert [name async for page in store.list_directories("") for name in page] == []
    for key in (HIDDEN, f"{HIDDEN}/lock"):
        with pytest.raises(UsageError):
            await store.get(key)
        with pytest.raises(UsageError):
            await store.put(key, b"", condition=None)
    await store.put(f"project/{HIDDEN}", b"a file of that name below", condition=None)


async def test_a_completed_upload_has_the_md5_of_the_whole(store: DirectoryStore) -> None:
    begun = await store.create_upload("a")
    parts = [await store.upload_part("a", begun, n, body) for n, body in [(1, b"x"), (2, b"y")]]
    stored = await store.complete_upload("a", begun, parts, condition=None)
    assert stored.etag == (await store.put("b", b"xy", condition=None)).etag


async def test_an_upload_that_is_aborted_while_it_is_completed_makes_no_object(
    root: Path,
) -> None:
    disk = MeddledDisk("setxattr", lambda: None, times=0)
    store = DirectoryStore(root, disk=disk)
    begun = await store.create_upload("a")
    part = await store.upload_part("a", begun, 1, b"body")
    disk.meddle, disk.times = (root / HIDDEN / "uploads" / begun / "info.json").unlink, 1
    with pytest.raises(ObjectNotFound):
        await store.complete_upload("a", begun, [part], condition=None)
    assert await keys(store) == []
    assert hidden_files(root) == []
    await store.aclose()


async def test_a_part_that_was_damaged_on_disk_is_never_joined(
    store: DirectoryStore, root: Path
) -> None:
    begun = await store.create_upload("a")
    part = await store.upload_part("a", begun, 1, b"good")
    (root / HIDDEN / "uploads" / begun / "00001").write_bytes(b"evil")
    with pytest.raises(StoreRefused):
        await store.complete_upload("a", begun, [part], condition=None)
    assert await keys(store) == []
    assert hidden_files(root) == []


# Names


@pytest.mark.parametrize(
    "key",
    ["..", "../a", "a/..", "a/../b", ".", "a/./b", "/a", "a//b", "a/", "/", "x" * 256, "a\0b"],
)
async def test_a_hostile_key_is_refused_before_the_disk_is_touched(
    store: DirectoryStore, root: Path, key: str
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: store.get(key),
        lambda: store.head(key),
        lambda: store.put(key, b"", condition=None),
        lambda: store.delete(key, condition=None),
        lambda: store.create_upload(key),
        lambda: store.abort_upload(key, ETag("x")),  # type: ignore[arg-type]  # any id is wrong
    ]
    for call in calls:
        with pytest.raises(UsageError):
            await call()
    with pytest.raises(UsageError):
        store.sign_delete(key, valid_for=30)
    assert names_below(root) == []


@pytest.mark.parametrize("upload", ["../../a", "", "x", "a/b", "0" * 32])
async def test_a_hostile_upload_id_leads_nowhere(store: DirectoryStore, upload: Any) -> None:
    with pytest.raises(ObjectNotFound):
        await store.upload_part("a", upload, 1, b"")
    with pytest.raises(ObjectNotFound):
        await store.complete_upload("a", upload, [ETag("0" * 32)], condition=None)
    await store.abort_upload("a", upload)


async def test_an_upload_belongs_to_its_key(store: DirectoryStore) -> None:
    begun = await store.create_upload("a")
    with pytest.raises(ObjectNotFound):
        await store.upload_part("b", begun, 1, b"")
    await store.abort_upload("b", begun)
    await store.upload_part("a", begun, 1, b"")


async def test_no_symlink_is_followed(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "directory").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    for key in ("directory/secret", "file"):
        with pytest.raises(ObjectNotFound):
            await store.get(key)
        await store.delete(key, condition=None)
        for condition in (None, IfAbsent()):
            with pytest.raises(KeyClash):
                await store.put(key, b"overwritten", condition=condition)
        with pytest.raises(PreconditionFailed):
            await store.put(key, b"overwritten", condition=IfMatch(ETag("0" * 32)))
    assert await keys(store) == []
    assert (outside / "secret").read_bytes() == b"secret"
    assert sorted(path.name for path in outside.iterdir()) == ["secret"]
    assert (root / "file").is_symlink()


async def test_a_symlink_in_place_of_the_hidden_directory_is_refused(
    store: DirectoryStore, root: Path, tmp_path: Path
) -> None:
    (root / HIDDEN).symlink_to(tmp_path)
    with pytest.raises(StoreUnavailable):
        await store.put("a", b"", condition=None)
    assert names_below(tmp_path) == ["bucket", f"bucket/{HIDDEN}"]


async def test_special_files_are_no_objects_and_are_not_written_over(
    store: DirectoryStore, root: Path
) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(ObjectNotFound):
        await store.get("fifo")
    with pytest.raises(KeyClash):
        await store.put("fifo", b"", condition=None)
    assert await keys(store) == []


async def test_a_file_name_that_is_not_utf8_is_in_no_listing(
    store: DirectoryStore, root: Path
) -> None:
    (root / os.fsdecode(b"\xff")).write_bytes(b"")
    (root / "ok").write_bytes(b"")
    assert await keys(store) == ["ok"]


async def test_directories_without_files_give_way_to_a_file(
    store: DirectoryStore, root: Path
) -> None:
    (root / "a/b/c").mkdir(parents=True)
    (root / "x/y").mkdir(parents=True)
    (root / "x/y/link").symlink_to("nowhere")
    await store.put("a", b"file", condition=IfAbsent())
    assert (root / "a").read_bytes() == b"file"
    with pytest.raises(KeyClash):
        await store.put("x", b"file", condition=IfAbsent())
    assert (root / "x/y/link").is_symlink()


# ETags


async def test_a_change_that_leaves_the_times_as_they_were_is_seen_in_a_young_file(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As two writes within one tick of the kernel's clock do, or a store through a mapping."""
    tick = time.time_ns()

    def same_tick(status: os.stat_result) -> Identity:
        return replace(identity_of(status), mtime_ns=tick, ctime_ns=tick)

    monkeypatch.setattr("pdfs.store.directory.version.identity_of", same_tick)
    (root / "a").write_bytes(b"one")
    first = (await store.head("a")).etag
    (root / "a").write_bytes(b"two")
    assert (await store.head("a")).etag != first
    assert (await store.get("a", span=(0, 3))).info.etag != first


async def test_a_settled_file_is_read_once_for_its_etag(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a").write_bytes(b"one")
    later = time.time() + 3600
    monkeypatch.setattr(Hidden, "now", lambda _: later)
    reads = count_calls(monkeypatch, os, "pread")
    first = await store.head("a")
    after_first = len(reads)
    assert after_first > 0
    assert (await store.head("a")).etag == first.etag
    assert len(reads) == after_first
    (root / "a").write_bytes(b"two")
    assert (await store.head("a")).etag != first.etag


async def test_a_store_through_a_mapping_is_seen(store: DirectoryStore, root: Path) -> None:
    """It moves the file's times only once per writeback, unless the file was synced since."""
    (root / "a").write_bytes(b"zero")
    with (root / "a").open("r+b") as file, mmap.mmap(file.fileno(), 4) as mapping:
        mapping[:] = b"one."
        os.fsync(file)
        before = os.fstat(file.fileno()).st_mtime_ns
        await trio.sleep(2.1)  # too old to be of the same tick
        mapping[:] = b"two."
        if os.fstat(file.fileno()).st_mtime_ns == before:
            pytest.skip("this file system never stamps stores through mappings")
        await trio.sleep(2.1)
        second = (await store.head("a")).etag
        mapping[:] = b"tri."
        assert (await store.head("a")).etag != second


def count_calls(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[None]:
    calls: list[None] = []
    real = getattr(module, name)

    def counted(*args: Any) -> Any:
        calls.append(None)
        return real(*args)

    monkeypatch.setattr(module, name, counted)
    return calls


async def test_a_file_that_changes_while_it_is_read_is_never_spliced(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a").write_bytes(b"one" * 1_000_000)
    real, changes = os.pread, iter(range(1, 100))

    def meddled(descriptor: int, size: int, offset: int) -> bytes:
        got = real(descriptor, size, offset)
        with (root / "a").open("r+b") as file:
            file.write(b"%d" % next(changes))
        return got

    monkeypatch.setattr(os, "pread", meddled)
    with pytest.raises(StoreUnavailable) as caught:
        await store.get("a")
    assert not caught.value.sent


# Deletes, in time


async def test_a_delete_is_not_begun_after_its_validity(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put("a", b"", condition=None)
    signed = store.sign_delete("a", valid_for=30)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr("pdfs.store.directory.files.uptime", lambda: now + 31)
    with pytest.raises(StoreRefused):
        await signed.send()
    assert (root / "a").exists()


async def test_a_delete_removes_the_directories_that_it_emptied(
    store: DirectoryStore, root: Path
) -> None:
    await store.put("a/b/c", b"", condition=None)
    await store.put("a/d", b"", condition=None)
    await store.delete("a/b/c", condition=None)
    assert not (root / "a/b").exists()
    assert (root / "a/d").exists()
    await store.delete("a/d", condition=None)
    assert not any(name.startswith("a") for name in names_below(root))


# The top directory


async def test_a_bucket_that_is_not_there_is_told_with_the_remedy(root: Path) -> None:
    with pytest.raises(StoreUnavailable, match="mkdir"):
        DirectoryStore(root / "unmounted")


@contextlib.contextmanager
def moved_away(root: Path, *, is_replaced: bool) -> Iterator[None]:
    """The bucket is elsewhere meanwhile, perhaps with another directory in its place."""
    away = root.rename(root.with_name("away"))
    if is_replaced:
        root.mkdir()
    yield
    if is_replaced:
        root.rmdir()
    away.rename(root)


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_nothing_goes_to_a_directory_that_is_no_longer_the_bucket(
    store: DirectoryStore, root: Path, is_replaced: bool
) -> None:
    """What is said to be in the bucket would be wherever the former one was moved to."""
    await store.put("a", b"before", condition=IfAbsent())
    with moved_away(root, is_replaced=is_replaced):
        with pytest.raises(StoreUnavailable, match=r"moved|another") as failed:
            await store.put("a", b"after", condition=None)
        assert "kept" in failed.value.remedy
        with pytest.raises(StoreUnavailable):
            await store.get("a")
    assert (await store.get("a")).body == b"before"


def test_a_new_bucket_is_made_for_its_user_alone(root: Path) -> None:
    make_root(OsDisk(), root / "share/pdfs/bucket")
    make_root(OsDisk(), root / "share/pdfs/bucket")
    for path in (root / "share", root / "share/pdfs", root / "share/pdfs/bucket"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


async def test_reading_changes_nothing_but_the_hidden_clock(
    store: DirectoryStore, root: Path
) -> None:
    (root / "a").write_bytes(b"body")
    before = (root / "a").stat()
    await store.get("a")
    await store.head("a")
    await keys(store)
    after = (root / "a").stat()
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns)
    assert names_below(root) == [HIDDEN, f"{HIDDEN}/clock", "a"]
