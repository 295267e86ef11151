"""A process and its kernel, as far as a file system sees them: paths, descriptors, look-ups.

Symlinks are not followed: one on the way is ENOTDIR, one at its end is what is meant.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EEXIST, EISDIR, ENOENT, ENOTDIR

from pdfs.core.ids import TOP, Inode
from pdfs.core.node import Node
from pdfs.fs.error import FsError
from pdfs.fs.filesystem import StageFilesystem
from pdfs.fs.plan import Change


@dataclass(frozen=True, slots=True)
class User:
    """Who makes requests."""

    uid: int = 0
    gid: int = 0


class Process:
    """System calls with paths, made of requests as the kernel makes them; FsError as errno."""

    def __init__(self, filesystem: StageFilesystem, user: User | None = None) -> None:
        self.fs = filesystem
        self.user = user or User()

    # --- names

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        with self._parent(path) as (parent, name):
            self._forget(self.fs.mkdir(parent, name, mode, self.user))

    def mknod(self, path: str, mode: int, rdev: int = 0) -> None:
        with self._parent(path) as (parent, name):
            self._forget(self.fs.mknod(parent, name, mode, rdev, self.user))

    def symlink(self, target: str, path: str) -> None:
        with self._parent(path) as (parent, name):
            self._forget(self.fs.symlink(parent, name, os.fsencode(target), self.user))

    def link(self, old: str, new: str) -> None:
        with self._node(old) as node, self._parent(new) as (parent, name):
            self._forget(self.fs.link(node.ino, parent, name))

    def unlink(self, path: str) -> None:
        with self._node(path), self._parent(path) as (parent, name):
            self.fs.unlink(parent, name)

    def rmdir(self, path: str) -> None:
        with self._node(path), self._parent(path) as (parent, name):
            self.fs.rmdir(parent, name)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        with (
            self._parent(old) as (parent, name),
            self._parent(new) as (new_parent, new_name),
        ):
            self.fs.rename(parent, name, new_parent, new_name, flags)

    def readlink(self, path: str) -> str:
        with self._node(path) as node:
            return os.fsdecode(self.fs.readlink(node.ino))

    def listdir(self, path: str = "") -> list[str]:
        """Sorted, without the dots."""
        with self._node(path) as node:
            handle = self.fs.opendir(node.ino)
            names = [one.name for one in self.fs.readdir(handle, 0) if not one.is_dot]
            self.fs.releasedir(handle)
            return sorted(map(os.fsdecode, names))

    # --- attributes

    def stat(self, path: str = "") -> Node:
        with self._node(path) as node:
            return self.fs.getattr(node.ino)

    def change(self, path: str, change: Change) -> None:
        with self._node(path) as node:
            self.fs.setattr(node.ino, change)

    def chmod(self, path: str, mode: int) -> None:
        self.change(path, Change(mode=mode))

    def truncate(self, path: str, size: int) -> None:
        self.change(path, Change(size=size))

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        with self._node(path) as node:
            self.fs.setxattr(node.ino, os.fsencode(name), value)

    def getxattr(self, path: str, name: str) -> bytes:
        with self._node(path) as node:
            return self.fs.getxattr(node.ino, os.fsencode(name))

    def removexattr(self, path: str, name: str) -> None:
        with self._node(path) as node:
            self.fs.removexattr(node.ino, os.fsencode(name))

    def listxattr(self, path: str) -> list[str]:
        """Sorted."""
        with self._node(path) as node:
            return sorted(map(os.fsdecode, self.fs.listxattr(node.ino)))

    # --- bytes

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
        with self._parent(path) as (parent, name):
            found = self.fs.lookup(parent, name)
            if found is None:
                if not flags & os.O_CREAT:
                    raise FsError(ENOENT)
                handle, created = self.fs.create(parent, name, mode, flags, self.user)
                self._forget(created)
                return handle
            try:
                if flags & os.O_CREAT and flags & os.O_EXCL:
                    raise FsError(EEXIST)
                if flags & os.O_CREAT and found.is_directory:
                    raise FsError(EISDIR)
                return self.fs.open(found.ino, flags & ~os.O_CREAT, self.user)
            finally:
                self._forget(found)

    def close(self, handle: int) -> None:
        self.fs.flush(handle)
        self.fs.release(handle)

    def pwrite(self, handle: int, data: bytes, offset: int) -> int:
        return self.fs.write(handle, offset, data)

    async def pread(self, handle: int, size: int, offset: int) -> bytes:
        return await self.fs.read(handle, offset, size)

    def ftruncate(self, handle: int, size: int) -> None:
        ino = self.fs._in_use.file(handle).node.ino  # the kernel knows it from the open
        self.fs.setattr(ino, Change(size=size), handle)

    def write_file(self, path: str, data: bytes) -> None:
        handle = self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self.pwrite(handle, data, 0)
        self.close(handle)

    async def read_file(self, path: str) -> bytes:
        handle = self.open(path)
        try:
            return await self.pread(handle, 1 << 30, 0)
        finally:
            self.close(handle)

    # --- what the kernel does

    @contextmanager
    def _node(self, path: str) -> Iterator[Node]:
        """The node at a path, known to the kernel for the length of a block."""
        if not path:
            yield self.fs.getattr(TOP)
            return
        with self._parent(path) as (parent, name):
            node = self.fs.lookup(parent, name)
            if node is None:
                raise FsError(ENOENT)
            try:
                yield node
            finally:
                self._forget(node)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[Inode, bytes]]:
        above, _, name = path.rpartition("/")
        with self._node(above) as parent:
            if not parent.is_directory:
                raise FsError(ENOTDIR)
            yield parent.ino, os.fsencode(name)

    def _forget(self, node: Node) -> None:
        self.fs.forget([(node.ino, 1)])
