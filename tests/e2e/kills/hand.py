"""System calls in a mount, each noted in the diary before it begins and after it returned."""

import errno
import os
from pathlib import Path

from tests.e2e.kills.diary import Bytes, Diary


class Hand:
    """Has the methods of `tests.fs.model.Model`, and looks, which need no note."""

    def __init__(self, top: Path, diary: Diary, name: str) -> None:
        """`name` makes the bytes of this hand unlike those of others."""
        self.top = top
        self._noted = diary.noted
        self._name = name
        self._count = 0
        self._descriptors: dict[int, int] = {}
        os.umask(0)

    def bytes(self, size: int) -> Bytes:
        """Bytes that were never there before."""
        self._count += 1
        return Bytes(f"{self._name} {self._count}", size)

    def has(self, path: str) -> bool:
        return os.path.lexists(self.top / path)

    def size(self, path: str) -> int:
        return os.stat(self.top / path).st_size

    # --- bytes

    def open(self, path: str, flags: int, mode: int = 0o644) -> int:
        handle = len(self._descriptors) + 1
        with self._noted("open", path, flags, mode, handle):
            self._descriptors[handle] = os.open(self.top / path, flags, mode)
        return handle

    def close(self, handle: int) -> None:
        with self._noted("close", handle):
            os.close(self._descriptors[handle])

    def pwrite(self, handle: int, data: Bytes, offset: int) -> None:
        raw = bytes(data)
        with self._noted("pwrite", handle, data, offset):
            wrote(os.pwrite(self._descriptors[handle], raw, offset), raw)

    def append(self, handle: int, data: Bytes) -> None:
        """To a file that was opened with O_APPEND."""
        raw = bytes(data)
        with self._noted("append", handle, data):
            wrote(os.write(self._descriptors[handle], raw), raw)

    def ftruncate(self, handle: int, size: int) -> None:
        with self._noted("ftruncate", handle, size):
            os.ftruncate(self._descriptors[handle], size)

    def fsync(self, handle: int) -> None:
        with self._noted("fsync", handle):
            os.fsync(self._descriptors[handle])

    def descriptor(self, handle: int) -> int:
        return self._descriptors[handle]

    # --- names and attributes

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        with self._noted("mkdir", path, mode):
            os.mkdir(self.top / path, mode)

    def rename(self, old: str, new: str) -> None:
        with self._noted("rename", old, new):
            os.rename(self.top / old, self.top / new)

    def link(self, old: str, new: str) -> None:
        with self._noted("link", old, new):
            os.link(self.top / old, self.top / new)

    def unlink(self, path: str) -> None:
        with self._noted("unlink", path):
            os.unlink(self.top / path)

    def chmod(self, path: str, mode: int) -> None:
        with self._noted("chmod", path, mode):
            os.chmod(self.top / path, mode)

    def utime(self, path: str, mtime: int) -> None:
        with self._noted("utime", path, mtime):
            os.utime(self.top / path, ns=(mtime, mtime))

    def setxattr(self, path: str, name: str, value: str) -> None:
        with self._noted("setxattr", path, name, value):
            os.setxattr(self.top / path, name, value.encode())


def wrote(count: int, raw: bytes) -> None:
    """A write that ends early was cut short by the daemon's death: the next call would say so."""
    if count < len(raw):
        raise OSError(errno.ENOTCONN, f"{count} of {len(raw)} bytes were written")
