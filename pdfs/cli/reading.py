"""Reading a directory of this machine into a session's tree, record by record.

Nothing is followed and nothing is changed: symlinks stay symlinks, hard links one file, holes
zeros. A file that changes while it is read is refused, as it would be neither the one nor the other
version.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

import trio

from pdfs.core.ids import TOP, Inode
from pdfs.core.record import Create, Kind, Link, SetAttributes, SetXattr, Write
from pdfs.disk import Disk, disk_error, opened, opened_directory
from pdfs.errors import DiskError, NotFoundError, UsageError
from pdfs.local.ledger import Ledger
from pdfs.stage.context import StageContext

_PIECE: Final = 1 << 20
_ZEROS: Final = bytes(_PIECE)
_KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}
_SHOWN_XATTRS: Final = "user."
_OUR_XATTRS: Final = "user.pdfs."


@dataclass(slots=True)
class Read:
    """How much was read."""

    files: int = 0
    bytes: int = 0


class Reading:
    """A directory that is read once, by `copy`. A context manager."""

    def __init__(self, disk: Disk, path: str) -> None:
        """Open it. Raises NotFoundError, UsageError, DiskError."""
        self._disk = disk
        self.path = os.path.abspath(path)
        self._seen: dict[tuple[int, int], Inode] = {}
        """Files with several names, by device and inode."""
        self.read = Read()
        try:
            self._top = disk.open_directory(self.path)
        except FileNotFoundError:
            raise NotFoundError(f"there is no directory {path!r}") from None
        except NotADirectoryError:
            raise UsageError(f"{path!r} is not a directory") from None
        except OSError as error:
            raise disk_error(error, f"read {path}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._disk.close(self._top)

    async def copy(self, ledger: Ledger, ctx: StageContext) -> None:
        """Make the stage's tree, which is empty, what the directory holds.

        Raises DiskError for what can't be read, or changes meanwhile, or finds no room.
        """
        self._ledger, self._ctx = ledger, ctx
        await self._fill(TOP, self._top, self.path)
        self._set_attributes(TOP, os.fstat(self._top), None)

    async def _fill(self, parent: Inode, directory: int, path: str) -> None:
        with _words(f"read {path}"):
            names = sorted(os.listdir(directory))
        for name in names:
            await trio.lowlevel.checkpoint()
            await self._enter(parent, directory, name, os.path.join(path, name))

    async def _enter(self, parent: Inode, directory: int, name: str, path: str) -> None:
        with _words(f"read {path}"):
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
            kind = _KINDS[stat.S_IFMT(status.st_mode)]
            target = os.readlink(name, dir_fd=directory) if kind is Kind.SYMLINK else ""
        known = self._seen.get((status.st_dev, status.st_ino))
        if known is not None:
            self._ledger.commit(Link(ino=known, parent=parent, name=name, time=self._now()))
            return
        ino = self._create(parent, name, kind, status, target)
        if kind is not Kind.DIRECTORY and status.st_nlink > 1:
            self._seen[status.st_dev, status.st_ino] = ino
        match kind:
            case Kind.DIRECTORY:
                with _words(f"read {path}"), opened_directory(self._disk, directory, name) as inner:
                    await self._fill(ino, inner, path)
                    self._copy_xattrs(ino, inner)
            case Kind.FILE:
                with _words(f"read {path}"), opened(self._disk, directory, name) as descriptor:
                    await self._copy_bytes(ino, descriptor, status, path)
                    self._copy_xattrs(ino, descriptor)
                self.read.files += 1
            case _:
                pass
        self._set_attributes(ino, status, status.st_size if kind is Kind.FILE else None)

    def _create(
        self, parent: Inode, name: str, kind: Kind, status: os.stat_result, target: str
    ) -> Inode:
        ino = self._ledger.new_inode()
        self._ledger.commit(
            Create(
                parent=parent,
                name=name,
                ino=ino,
                kind=kind,
                mode=stat.S_IMODE(status.st_mode),
                uid=self._ctx.uid,
                gid=self._ctx.gid,
                time=self._now(),
                rdev=status.st_rdev,
                target=target,
            )
        )
        return ino

    async def _copy_bytes(
        self, ino: Inode, descriptor: int, status: os.stat_result, path: str
    ) -> None:
        offset = 0
        while data := os.pread(descriptor, _PIECE, offset):
            if data != _ZEROS[: len(data)]:
                self._ledger.commit(Write(ino=ino, offset=offset, time=self._now()), data)
            offset += len(data)
            self.read.bytes += len(data)
            await trio.lowlevel.checkpoint()
        after = os.fstat(descriptor)
        if (after.st_ino, after.st_size, after.st_mtime_ns, offset) != (
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_size,
        ):
            raise DiskError(
                f"{path} was changed while it was read", remedy="import again when nobody writes"
            )

    def _copy_xattrs(self, ino: Inode, descriptor: int) -> None:
        with suppress(OSError):  # a file system without them
            for name in os.listxattr(descriptor):
                if name.startswith(_SHOWN_XATTRS) and not name.startswith(_OUR_XATTRS):
                    value = os.getxattr(descriptor, name)
                    record = SetXattr(ino=ino, name=name, value=value, time=self._now())
                    self._ledger.commit(record)

    def _set_attributes(self, ino: Inode, status: os.stat_result, size: int | None) -> None:
        self._ledger.commit(
            SetAttributes(
                ino=ino,
                time=self._now(),
                mode=stat.S_IMODE(status.st_mode),
                size=size,
                atime=status.st_atime_ns,
                mtime=status.st_mtime_ns,
            )
        )

    def _now(self) -> int:
        return round(self._ctx.now() * 1_000_000_000)


@contextmanager
def _words(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error, what) from error
