"""What one file of a directory bucket is as a version of an object: ETag, metadata, bytes.

An ETag is the MD5 of the bytes, computed by reading them, and remembered by the file's inode, size,
mtime and ctime, as long as every later change must show there. Two would not: one within the same
tick of the kernel's clock, so a file is remembered only if it was older than `TICK` before it was
read; and one through a mapping that is already writable, which moves the times once per writeback,
so a file that changed lately is synced before, and the next such store has to ask the kernel anew.
"""

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cachetools import LRUCache

from pdfs.core.content import ETag
from pdfs.disk import Disk
from pdfs.errors import StoreUnavailable
from pdfs.store.objects import NO_METADATA

TICK = 2.0
"""Longer than any file system's clock stands still; FAT's two seconds are the record."""
_WRITTEN_BACK = 120.0
"""By then the kernel has written back what was stored through a mapping (30 s by default)."""
_BIG = 8 << 20
DEFAULT_TYPE = "application/octet-stream"
_REMEMBERED = 200_000
_CHUNK = 1 << 20
_LOOKS = 5
"""So often a file that changes while it is read is read again."""

_ETAG = "user.pdfs.etag"
_TYPE = "user.pdfs.type"
_META = "user.pdfs.meta."


@dataclass(frozen=True, slots=True)
class Identity:
    """Equal before and after means: the same file, and nobody wrote to it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of an object, as far as it is known without its bytes."""

    identity: Identity
    etag: ETag
    content_type: str
    metadata: Mapping[str, str]

    @property
    def last_modified(self) -> float:
        return self.identity.mtime_ns / 1e9


def identity_of(status: os.stat_result) -> Identity:
    return Identity(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


class Versions:
    """Looks at open files, and remembers the ETags of those that have settled."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._etags: LRUCache[Identity, ETag] = LRUCache(_REMEMBERED)
        self._guard = threading.Lock()
        self._big = threading.Lock()
        """Held while a big file is read for its ETag, as whoever comes next may find it known."""

    def look(self, key: str, descriptor: int, now: float) -> Version:
        """The version that the file holds; `now` is the file system's time, taken before.

        Raises StoreUnavailable where the file does not stand still.
        """
        for _ in range(_LOOKS):
            before = self._settled(descriptor, now)
            version = self._version(descriptor, before, self._etag(descriptor, before))
            if self._stood_still(descriptor, version, now):
                return version
        raise _unsteady(key)

    def read(
        self, key: str, descriptor: int, now: float, span: tuple[int, int] | None
    ) -> tuple[Version, bytes]:
        """The version, and its bytes; fewer than `span` asks for where the file ends before."""
        for _ in range(_LOOKS):
            before = self._settled(descriptor, now)
            body = b"".join(chunks(descriptor, *(span or (0, before.size))))
            etag = self._etag(descriptor, before) if span else _md5([body])
            version = self._version(descriptor, before, etag)
            if self._stood_still(descriptor, version, now):
                return version, body
        raise _unsteady(key)

    def _settled(self, descriptor: int, now: float) -> Identity:
        """What the file is now; if it will be remembered, then no mapping of it is writable."""
        identity = identity_of(os.fstat(descriptor))
        age = now - identity.ctime_ns / 1e9
        if TICK < age < _WRITTEN_BACK and self._known(identity) is None:
            self._disk.fsync(descriptor)
            return identity_of(os.fstat(descriptor))
        return identity

    def _known(self, identity: Identity) -> ETag | None:
        with self._guard:
            return self._etags.get(identity)

    def _etag(self, descriptor: int, identity: Identity) -> ETag:
        with self._big if identity.size >= _BIG else contextlib.nullcontext():
            return self._known(identity) or _md5(chunks(descriptor, 0, identity.size))

    def _version(self, descriptor: int, identity: Identity, etag: ETag) -> Version:
        content_type, metadata = _read_xattrs(descriptor, etag)
        return Version(identity=identity, etag=etag, content_type=content_type, metadata=metadata)

    def _stood_still(self, descriptor: int, version: Version, now: float) -> bool:
        identity = version.identity
        if identity_of(os.fstat(descriptor)) != identity:
            return False
        if identity.ctime_ns / 1e9 < now - TICK:
            with self._guard:
                self._etags[identity] = version.etag
        return True


def describe(
    disk: Disk, descriptor: int, etag: ETag, content_type: str, metadata: Mapping[str, str]
) -> None:
    """Write what stands beside the bytes of a new file, whose MD5 is `etag`."""
    disk.setxattr(descriptor, _ETAG, etag.encode())
    disk.setxattr(descriptor, _TYPE, content_type.encode())
    for name, value in metadata.items():
        disk.setxattr(descriptor, _META + name, value.encode())


def _read_xattrs(descriptor: int, etag: ETag) -> tuple[str, Mapping[str, str]]:
    try:
        names = os.listxattr(descriptor)
        values = {name: os.getxattr(descriptor, name) for name in names if _is_ours(name)}
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENODATA):
            raise
        return DEFAULT_TYPE, NO_METADATA  # none on this file system, or one vanished meanwhile
    if values.get(_ETAG) != etag.encode():
        return DEFAULT_TYPE, NO_METADATA
    metadata = {
        name.removeprefix(_META): value.decode(errors="replace")
        for name, value in values.items()
        if name.startswith(_META)
    }
    return values.get(_TYPE, b"").decode(errors="replace"), MappingProxyType(metadata)


def _is_ours(name: str) -> bool:
    return name in (_ETAG, _TYPE) or name.startswith(_META)


def chunks(descriptor: int, start: int, stop: int) -> Iterator[bytes]:
    while start < stop and (chunk := os.pread(descriptor, min(_CHUNK, stop - start), start)):
        start += len(chunk)
        yield chunk


def _md5(pieces: Iterable[bytes]) -> ETag:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in pieces:
        digest.update(chunk)
    return ETag(digest.hexdigest())


def _unsteady(key: str) -> StoreUnavailable:
    return StoreUnavailable(
        f"the file of {key!r} changes while it is read",
        remedy="another program is writing to it; this is tried again",
        sent=False,
    )
