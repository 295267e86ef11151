"""The cache gives the bytes that it was given or none, whatever becomes of the disk below it."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pdfs.core.content import Digest, digest_of
from pdfs.disk import OsDisk
from pdfs.errors import DiskError
from pdfs.local.cache import PartCache, default_quota, unread_name
from tests.local.faulty_disk import Fault, FaultyDisk

pytestmark = pytest.mark.real_clock

PARTS = [bytes([number]) * 5000 for number in (1, 2, 3)]
NAMES = [digest_of(part) for part in PARTS[:2]] + [unread_name("s3://b", "k", "etag", 0)]
"""The last is one whose digest nobody knew when it was named."""


@contextmanager
def opened(root: Path, disk: OsDisk | None = None, quota: int = 1 << 20) -> Iterator[PartCache]:
    cache = PartCache(disk or OsDisk(), root / "cache", quota)
    try:
        yield cache
    finally:
        cache.close()


async def filled(root: Path) -> dict[Digest, Path]:
    """The files of a cache with all parts, by name; nothing of it is in memory any more."""
    with opened(root) as cache:
        for name, part in zip(NAMES, PARTS, strict=True):
            await cache.put(name, part)
    files = {name: root / "cache" / "parts" / name.hex()[:2] / name.hex() for name in NAMES}
    assert all(file.is_file() for file in files.values())
    return files


def zeros(file: Path, other: Path) -> None:
    """A name that was on the disk before its bytes were."""
    file.write_bytes(bytes(file.stat().st_size))


def zeroed_sector(file: Path, other: Path) -> None:
    with file.open("r+b") as opened:
        opened.seek(1024)
        opened.write(bytes(512))


def zeroed_end(file: Path, other: Path) -> None:
    size = file.stat().st_size
    os.truncate(file, 4096)
    os.truncate(file, size)


def nothing(file: Path, other: Path) -> None:
    os.truncate(file, 0)


def half(file: Path, other: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def longer(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes() + bytes(100))


def another_part(file: Path, other: Path) -> None:
    """Blocks that were another part's, whole, and were freed before the power cut."""
    file.write_bytes(other.read_bytes())


@pytest.mark.parametrize("name", NAMES, ids=["known", "known too", "unread"])
@pytest.mark.parametrize(
    "damage", [zeros, zeroed_sector, zeroed_end, nothing, half, longer, another_part]
)
async def test_what_a_power_cut_left_of_a_part_is_no_part(
    tmp_path: Path, name: Digest, damage: Callable[[Path, Path], None]
) -> None:
    files = await filled(tmp_path)
    other = files[NAMES[NAMES.index(name) - 1]]
    damage(files[name], other)
    with opened(tmp_path) as cache:
        assert cache.has(name)
        assert await cache.get(name) is None
        assert not cache.has(name)
        assert not files[name].exists()
        part = PARTS[NAMES.index(name)]
        await cache.put(name, part)
    with opened(tmp_path) as cache:
        assert await cache.get(name) == part


@pytest.mark.parametrize("for_ever", [False, True], ids=["once", "for ever"])
@pytest.mark.parametrize("takes", [0, 60], ids=["nothing", "torn"])
@pytest.mark.parametrize(
    "error", [errno.ENOSPC, errno.EDQUOT, errno.EIO], ids=errno.errorcode.__getitem__
)
async def test_no_failing_call_is_an_error_of_a_read_or_other_bytes(
    tmp_path: Path, error: int, takes: int, for_ever: bool
) -> None:
    """Each call fails in turn (H1); what was given stays readable in this process all the while."""
    at, failed = 0, True
    while failed:
        at += 1
        root = tmp_path / str(at)
        disk = FaultyDisk()
        with opened(root, disk, quota=13_000) as cache:  # two of the three
            disk.fault = Fault(at=at, error=error, takes=takes, for_ever=for_ever)
            for name, part in zip(NAMES, PARTS, strict=True):
                await cache.put(name, part)
                assert await cache.get(name) == part
            await cache.evict(1)
            failed = bool(disk.failed)
            disk.fault = None
        with opened(root) as later:
            for name, part in zip(NAMES, PARTS, strict=True):
                assert await later.get(name) in (part, None)
    assert at > 10, "nothing failed"


async def test_a_symlink_below_the_cache_is_never_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "parts").symlink_to(elsewhere)
    with pytest.raises(DiskError, match=r"symlink.*set XDG_CACHE_HOME"), opened(tmp_path):
        pass
    (tmp_path / "cache" / "parts").unlink()
    (tmp_path / "cache" / "parts").mkdir()
    (tmp_path / "cache" / "parts" / NAMES[0].hex()[:2]).symlink_to(elsewhere)
    with opened(tmp_path) as cache:
        await cache.put(NAMES[0], PARTS[0])
        assert await cache.get(NAMES[0]) == PARTS[0]
    assert list(elsewhere.iterdir()) == []


async def test_a_part_that_is_a_symlink_is_no_part(tmp_path: Path) -> None:
    files = await filled(tmp_path)
    moved = tmp_path / "moved"
    files[NAMES[0]].rename(moved)
    files[NAMES[0]].symlink_to(moved)
    with opened(tmp_path) as cache:
        assert await cache.get(NAMES[0]) is None
    assert moved.stat().st_size == len(PARTS[0]) + 32


async def test_what_a_stage_has_here_goes_after_what_nobody_asked_for(tmp_path: Path) -> None:
    with opened(tmp_path, quota=13_000) as cache:  # two of the three
        await cache.put(NAMES[0], PARTS[0])
        await cache.put(NAMES[1], PARTS[1])
        assert cache.has(NAMES[0])
        await cache.put(NAMES[2], PARTS[2])
    with opened(tmp_path) as cache:
        assert [cache.has(name) for name in NAMES] == [True, False, True]


def test_a_cache_that_has_filled_its_half_of_the_disk_may_keep_it() -> None:
    room = 10 << 30
    quota = default_quota(room, 0)
    assert quota == room // 2
    assert default_quota(room - quota, quota) == quota
    assert default_quota(1 << 50, 0) == 20 << 30


async def test_what_is_far_above_the_quota_goes_little_by_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for a part does not wait until all of it has gone."""
    monkeypatch.setattr("pdfs.local.cache._MOST_EVICTED", 3)
    names = [digest_of(b"%d" % number) for number in range(10)]
    with opened(tmp_path) as cache:
        for name in names:
            await cache.put(name, PARTS[0])
    with opened(tmp_path, quota=6_000) as cache:
        sizes = [cache.size]
        for number in range(4):
            await cache.put(digest_of(b"new %d" % number), PARTS[1])
            assert await cache.get(digest_of(b"new %d" % number)) == PARTS[1]
            sizes.append(cache.size)
    assert sizes == [5032 * parts for parts in (10, 7, 4, 1, 1)]


async def test_tiny_parts_in_memory_are_counted_with_what_keeps_them_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdfs.local.cache._MEMORY", 100 << 10)
    with opened(tmp_path, quota=0) as cache:
        names = [digest_of(b"%d" % number) for number in range(1000)]
        for name in names:
            await cache.put(name, b"x")
        kept = sum(map(cache.has, names))
        assert 300 < kept < 500
