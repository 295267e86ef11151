"""The cache of clean contents: parts of files as the bucket has them, shared by all sessions.

    {cache path}/parts/{first two}/{name}    bytes of one part, then 32 bytes: their BLAKE2b-256,
                                             with the part's name as its key

A part's name is its digest, or, for bytes that only another tool has written yet, the digest of
store, key, ETag and part number; its file has that in hexadecimal digits. Files are immutable and
appear by a rename. None is synced: whatever a power cut left under a name, zeros, half a part,
another part's old blocks, fails the check at its first read, is deleted and fetched anew. So no
boot id is needed, and a part needs no sync to count after a reboot. Losing the cache costs time
only: errors of the disk here are never errors of a read.

The newest parts are kept in memory too. The oldest go when the quota is reached.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import PurePath
from typing import Final, TypeVar

import trio
from cachetools import LRUCache

from pdfs.core.content import DIGEST_SIZE, Digest, digest_in, digest_of
from pdfs.disk import (
    Disk,
    make_below,
    make_directory,
    opened,
    opened_directory,
    read_fully,
    write_fully,
)

T = TypeVar("T")

_FOOTER: Final = 32
_MEMORY: Final = 64 << 20
_BOOKKEEPING: Final = 256
"""Bytes that each part takes in memory beside its own."""
_MOST_EVICTED: Final = 1000
"""Parts that go for one that comes, as somebody waits for that: they take 0.3 s."""


def default_quota(free: int, taken: int) -> int:
    """Bytes that the cache may take, which takes so many now and leaves so many free.

    The smaller of 20 GiB and half of what would be free without it: so a cache that has filled its
    half is not cut by a half each time that it is opened.
    """
    return min(20 << 30, (free + taken) // 2)


class PartCache:
    """Parts by name. All calls belong on one thread, except what it sends to threads itself."""

    def __init__(self, disk: Disk, path: PurePath, quota: int) -> None:
        """Open the cache, and make it where there is none. Raises OSError, DiskError."""
        self._disk = disk
        self._root = make_below(disk, path / "parts", "XDG_CACHE_HOME")
        self.quota = quota
        """Bytes of the disk that it may take. What is above goes little by little."""
        self._memory: LRUCache[Digest, bytes] = LRUCache(_MEMORY, getsizeof=_weight)
        self._limit = trio.CapacityLimiter(4)
        self._sizes: dict[bytes, int] = dict(_found_in(disk, self._root))
        """By name, the least recently used first; what a killed process left, by its file's.

        No OrderedDict, which takes 40 bytes more for each: to find the first of a million takes up
        to 0.4 ms here, less than to delete its file.
        """
        self._total = sum(self._sizes.values())

    @property
    def is_full(self) -> bool:
        """Whether one more part would drive out another."""
        return self._total >= self.quota

    @property
    def size(self) -> int:
        """Bytes of the disk that it takes, all of which `evict` gives back."""
        return self._total

    def has(self, name: Digest) -> bool:
        """Whether a part is here, as far as that is known without reading it; it counts as use.

        Who asks for all the parts of a stage shares its names: 80 bytes less for each.
        """
        if name not in self._sizes:
            return name in self._memory
        self._use(name)
        return True

    async def get(self, name: Digest) -> bytes | None:
        """The part, whole and checked, or None."""
        data = self._memory.get(name)
        if data is None and name in self._sizes:
            data = await self._in_thread(lambda: self._load(name))
            if data is None:
                self._forget(name)
            else:
                self._remember(name, data)
        if data is not None and name in self._sizes:
            self._use(name)
        return data

    async def put(self, name: Digest, data: bytes) -> None:
        """Keep a part; where the disk has no room for it, in memory alone."""
        self._remember(name, data)
        if name in self._sizes or len(data) > self.quota:
            return
        for _ in range(_MOST_EVICTED):
            if self._has_room(data):
                break
            await self._evict()
        if not self._has_room(data):
            return
        if await self._in_thread(lambda: self._store(name, data)) and name not in self._sizes:
            self._sizes[name] = len(data) + _FOOTER
            self._total += len(data) + _FOOTER

    async def evict(self, wanted: int) -> int:
        """Give so many bytes of the disk back, those used longest ago, or all there are."""
        before = self._total
        while self._sizes and before - self._total < wanted:
            await self._evict()
        return before - self._total

    def close(self) -> None:
        """Give the directory back."""
        self._disk.close(self._root)

    def _remember(self, name: Digest, data: bytes) -> None:
        with contextlib.suppress(ValueError):  # larger than all memory that there is for parts
            self._memory[name] = data

    def _has_room(self, data: bytes) -> bool:
        return not self._sizes or self._total + len(data) <= self.quota

    def _use(self, name: Digest) -> None:
        """Make a part that is here the most recently used one, by this object as its name."""
        self._sizes[name] = self._sizes.pop(name)

    def _forget(self, name: bytes) -> None:
        self._total -= self._sizes.pop(name, 0)

    async def _evict(self) -> None:
        name = next(iter(self._sizes))
        self._forget(name)
        await self._in_thread(lambda: self._delete(name))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(call, limiter=self._limit)

    # --- in threads -------------------------------------------------------------------------------

    def _load(self, name: Digest) -> bytes | None:
        try:
            with (
                opened_directory(self._disk, self._root, _folder(name)) as folder,
                opened(self._disk, folder, _file(name)) as file,
            ):
                raw = read_fully(file, os.fstat(file).st_size, 0)
        except OSError:
            return None
        data, footer = raw[:-_FOOTER], raw[-_FOOTER:]
        if footer == _footer(name, data):
            return data
        self._delete(name)
        return None

    def _store(self, name: Digest, data: bytes) -> bool:
        try:
            make_directory(self._disk, self._root, _folder(name))
            with opened_directory(self._disk, self._root, _folder(name)) as folder:
                self._write(folder, name, data)
        except OSError:
            return False
        return True

    def _write(self, folder: int, name: Digest, data: bytes) -> None:
        temporary = f"{_file(name)}.{os.getpid()}.{threading.get_ident()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with opened(self._disk, folder, temporary, flags) as file:
                write_fully(self._disk, file, [data, _footer(name, data)], 0)
            self._disk.rename(folder, temporary, folder, _file(name))
        except OSError:
            with contextlib.suppress(OSError):
                self._disk.unlink(folder, temporary)
            raise

    def _delete(self, name: bytes) -> None:
        with (
            contextlib.suppress(OSError),
            opened_directory(self._disk, self._root, _folder(name)) as folder,
        ):
            self._disk.unlink(folder, _file(name))


def _file(name: bytes) -> str:
    """The name of the file that holds a part; see `_name_of`."""
    return name.hex() if len(name) == DIGEST_SIZE else os.fsdecode(name)


def _folder(name: bytes) -> str:
    return _file(name)[:2]


def _name_of(file: str) -> bytes:
    """The inverse of `_file`: what is no part's file keeps its name, by which it can be evicted."""
    try:
        return digest_in(file)
    except ValueError:
        return os.fsencode(file)


def _weight(data: bytes) -> int:
    return len(data) + _BOOKKEEPING


def _footer(name: Digest, data: bytes) -> bytes:
    """What stands behind a part: it proves the bytes, and that they are those of that name."""
    return hashlib.blake2b(data, digest_size=_FOOTER, key=_file(name).encode()).digest()


def _found_in(disk: Disk, root: int) -> list[tuple[bytes, int]]:
    """(name, size) of each part, the least recently written first."""
    found: list[tuple[int, bytes, int]] = []
    with os.scandir(root) as folders:
        names = [folder.name for folder in folders if folder.is_dir(follow_symlinks=False)]
    for name in names:
        with opened_directory(disk, root, name) as folder, os.scandir(folder) as files:
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # another session was at it, too
                    status = file.stat(follow_symlinks=False)
                    found.append((status.st_mtime_ns, _name_of(file.name), status.st_size))
    return [(name, size) for _, name, size in sorted(found)]


def unread_name(store: str, key: str, etag: str, part: int) -> Digest:
    """The name of a part whose digest nobody knows yet."""
    return digest_of(f"{store}\0{key}\0{etag}\0{part}".encode())
