"""What POSIX says files do, kept in memory and as simply as it can be said; the tests' oracle.

It shares nothing with the product but the interface of `process.Process`: paths in, errnos out.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from errno import (
    EBADF,
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    ENODATA,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    ENXIO,
    EPERM,
)


class Refused(Exception):
    """With this errno."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


@dataclass(eq=False)
class Thing:
    """Anything that a name can stand for."""

    type: int
    mode: int
    mtime: int
    ctime: int
    content: bytearray = field(default_factory=bytearray)
    target: str = ""
    names: dict[str, "Thing"] = field(default_factory=dict)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    links: int = 1

    @property
    def is_directory(self) -> bool:
        return self.type == stat.S_IFDIR


@dataclass
class Descriptor:
    thing: Thing
    can_write: bool


class Model:
    """One file system and its only process, which is root's."""

    def __init__(self, now: int = 0) -> None:
        self.now = now
        """Each change is stamped with it; the test moves it."""
        self.top = Thing(stat.S_IFDIR, 0o755, now, now)
        self.descriptors: dict[int, Descriptor] = {}

    # --- names

    def mkdir(self, path: str, mode: int = 0o755) -> None:
        self._make(path, stat.S_IFDIR, mode)

    def mknod(self, path: str, mode: int, rdev: int = 0) -> None:
        self._make(path, stat.S_IFMT(mode), mode)

    def symlink(self, target: str, path: str) -> None:
        self._make(path, stat.S_IFLNK, 0o777).target = target

    def link(self, old: str, new: str) -> None:
        thing = self._at(old)
        directory, name = self._place(new)
        if name in directory.names:
            raise Refused(EEXIST)
        if thing.is_directory:
            raise Refused(EPERM)
        directory.names[name] = thing
        thing.links += 1
        self._changed(directory)
        thing.ctime = self.now

    def unlink(self, path: str) -> None:
        thing = self._at(path)
        if thing.is_directory:
            raise Refused(EISDIR)
        self._remove(path, thing)

    def rmdir(self, path: str) -> None:
        thing = self._at(path)
        if not thing.is_directory:
            raise Refused(ENOTDIR)
        if thing.names:
            raise Refused(ENOTEMPTY)
        self._remove(path, thing)

    def rename(self, old: str, new: str, flags: int = 0) -> None:
        old_directory, old_name = self._place(old)
        new_directory, new_name = self._place(new)
        thing = self._at(old)
        there = new_directory.names.get(new_name)
        if flags == 1 and there is not None:
            raise Refused(EEXIST)
        if flags == 2 and there is None:
            raise Refused(ENOENT)
        if there is thing:
            return
        if self._holds(thing, new_directory):
            raise Refused(EINVAL)
        if flags == 2:
            assert there is not None
            if self._holds(there, old_directory):
                raise Refused(EINVAL)
            old_directory.names[old_name] = there
            there.ctime = self.now
        else:
            self._check_over(thing, there)
            del old_directory.names[old_name]
            if there is not None:
                there.links -= 1
                there.ctime = self.now
        new_directory.names[new_name] = thing
        thing.ctime = self.now
        self._changed(old_directory)
        self._changed(new_directory)

    def _check_over(self, thing: Thing, there: Thing | None) -> None:
        if there is None:
            return
        if thing.is_directory and not there.is_directory:
            raise Refused(ENOTDIR)
        if there.is_directory and not thing.is_directory:
            raise Refused(EISDIR)
        if there.names:
            raise Refused(ENOTEMPTY)

    def readlink(self, path: str) -> str:
        thing = self._at(path)
        if thing.type != stat.S_IFLNK:
            raise Refused(EINVAL)
        return thing.target

    def listdir(self, path: str = "") -> list[str]:
        thing = self._at(path)
        if not thing.is_directory:
            raise Refused(ENOTDIR)
        return sorted(thing.names)

    # --- attributes

    def chmod(self, path: str, mode: int) -> None:
        thing = self._at(path)
        thing.mode, thing.ctime = mode, self.now

    def utime(self, path: str, mtime: int) -> None:
        thing = self._at(path)
        thing.mtime, thing.ctime = mtime, self.now

    def truncate(self, path: str, size: int) -> None:
        self._resize(self._at(path), size)

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        thing = self._at(path)
        thing.xattrs[name], thing.ctime = value, self.now

    def getxattr(self, path: str, name: str) -> bytes:
        thing = self._at(path)
        if name not in thing.xattrs:
            raise Refused(ENODATA)
        return thing.xattrs[name]

    def removexattr(self, path: str, name: str) -> None:
        self.getxattr(path, name)
        thing = self._at(path)
        del thing.xattrs[name]
        thing.ctime = self.now

    # --- bytes

    def open(self, path: str, flags: int, mode: int, handle: int) -> None:
        """The handle is that which the other side gave; it is used if this is allowed."""
        directory, name = self._place(path)
        thing = directory.names.get(name)
        if thing is None:
            if not flags & os.O_CREAT:
                raise Refused(ENOENT)
            thing = self._make(path, stat.S_IFREG, mode)
        elif flags & os.O_CREAT and flags & os.O_EXCL:
            raise Refused(EEXIST)
        elif thing.type != stat.S_IFREG:
            raise Refused({stat.S_IFDIR: EISDIR, stat.S_IFLNK: ELOOP}.get(thing.type, ENXIO))
        elif flags & os.O_TRUNC:
            self._resize(thing, 0)
        self.descriptors[handle] = Descriptor(thing, flags & os.O_ACCMODE != os.O_RDONLY)

    def close(self, handle: int) -> None:
        del self.descriptors[handle]

    def pwrite(self, handle: int, data: bytes, offset: int) -> int:
        descriptor = self.descriptors[handle]
        if not descriptor.can_write:
            raise Refused(EBADF)
        if data:
            content = descriptor.thing.content
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
            self._changed(descriptor.thing)
        return len(data)

    def pread(self, handle: int, size: int, offset: int) -> bytes:
        return bytes(self.descriptors[handle].thing.content[offset : offset + size])

    def ftruncate(self, handle: int, size: int) -> None:
        self._resize(self.descriptors[handle].thing, size)

    # --- all of it

    def walk(self, top: Thing | None = None, path: str = "") -> Iterator[tuple[str, Thing]]:
        """Everything below the top directory, parents first."""
        for name, thing in sorted((top or self.top).names.items()):
            yield f"{path}{name}", thing
            if thing.is_directory:
                yield from self.walk(thing, f"{path}{name}/")

    def crash(self) -> None:
        """No process survives it."""
        self.descriptors.clear()

    def _at(self, path: str) -> Thing:
        thing = self.top
        for name in path.split("/") if path else ():
            if not thing.is_directory:
                raise Refused(ENOTDIR)
            if name not in thing.names:
                raise Refused(ENOENT)
            thing = thing.names[name]
        return thing

    def _place(self, path: str) -> tuple[Thing, str]:
        above, _, name = path.rpartition("/")
        directory = self._at(above)
        if not directory.is_directory:
            raise Refused(ENOTDIR)
        return directory, name

    def _make(self, path: str, kind: int, mode: int) -> Thing:
        directory, name = self._place(path)
        if name in directory.names:
            raise Refused(EEXIST)
        if kind == stat.S_IFDIR:
            mode |= directory.mode & stat.S_ISGID
        thing = Thing(kind, mode & 0o7777, self.now, self.now)
        directory.names[name] = thing
        self._changed(directory)
        return thing

    def _remove(self, path: str, thing: Thing) -> None:
        directory, name = self._place(path)
        del directory.names[name]
        thing.links -= 1
        thing.ctime = self.now
        self._changed(directory)

    def _resize(self, thing: Thing, size: int) -> None:
        if thing.type != stat.S_IFREG:
            raise Refused(EISDIR if thing.is_directory else EINVAL)
        del thing.content[size:]
        thing.content.extend(bytes(size - len(thing.content)))
        self._changed(thing)

    def _changed(self, thing: Thing) -> None:
        thing.mtime = thing.ctime = self.now

    def _holds(self, thing: Thing, directory: Thing) -> bool:
        return thing is directory or any(
            self._holds(inner, directory) for inner in thing.names.values() if inner.is_directory
        )
