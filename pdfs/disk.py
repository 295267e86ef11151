"""Every call that changes a local file system, and so the seam where tests pull the plug.

`Disk` names the primitives one to one with the system calls; `OsDisk` makes them. Whoever keeps
bytes on this machine (`local`, the directory store) is handed a `Disk`; nothing else in PDFS calls
`os.fsync`, `os.rename` and their kin. Tests put in a disk that fails at the k-th call, or one that
replays every state that a power cut could leave.

Names are relative to an open directory (`directory`, a descriptor), as in the `…at` calls of
POSIX. A symlink as the last component is never followed; the components before it are only safe
where nobody else can write, so walk with `open_directory` elsewhere. Files are made 0600 and
directories 0700, whatever the umask leaves of it.

Durability: a write is on the disk after `fsync` or `fdatasync` of the file; a name made, moved or
removed is so only after `fsync` of its directory, and an `fsync` of the file does not do it.

Errors: every primitive raises `OSError` as the system call reported it; `disk_error` turns one into
words. Nothing is retried here but what Python itself retries (EINTR).
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Final, Protocol

from pdfs.errors import DiskError, DiskFull

Buffer = bytes | bytearray | memoryview

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700

NEW_SUFFIX: Final = ".__new__"
"""`replace_file` writes `name + NEW_SUFFIX` first; one found later is the litter of a crash."""

_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2
_ZEROS: Final = bytes(1 << 20)
_IDLE_WRITES: Final = 8
"""So many writes in a row may take nothing (0 bytes, EINTR) before it counts as an error."""


class Disk(Protocol):
    """The changing calls of one machine's file systems. Calls may run in any thread."""

    def open(self, directory: int, name: str, flags: int, mode: int = FILE_MODE) -> int:
        """openat(2), always with O_CLOEXEC, O_NOFOLLOW and O_NONBLOCK: a symlink is ELOOP, and no
        fifo that somebody has put there holds anybody up."""

    def open_directory(self, name: str, directory: int | None = None) -> int:
        """Open a directory for use as `directory`; a path from the root, where that is None.

        A symlink is refused (ENOTDIR, ELOOP) relative to a directory, and followed without one.
        """

    def close(self, descriptor: int) -> None: ...

    def pwritev(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        """pwritev(2): the number of bytes taken, maybe fewer than given; see `write_fully`."""

    def ftruncate(self, descriptor: int, size: int) -> None: ...

    def allocate(self, descriptor: int, offset: int, length: int) -> None:
        """posix_fallocate(3): reserve the blocks, so that writing there can't be ENOSPC."""

    def fdatasync(self, descriptor: int) -> None: ...

    def fsync(self, descriptor: int) -> None:
        """fsync(2) of a file, or of a directory: the names in it."""

    def rename(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        """Move `old` to `new`, replacing what was there; atomic."""

    def rename_noreplace(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        """The same, but FileExistsError where `new` exists. EINVAL: not on this file system."""

    def rename_exchange(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        """Swap two names that both exist; atomic. EINVAL: not on this file system."""

    def link(self, old_directory: int, old: str, new_directory: int, new: str) -> None: ...

    def symlink(self, target: str, directory: int, name: str) -> None:
        """symlinkat(2): `name` points to `target`, which is not looked at."""

    def unlink(self, directory: int, name: str) -> None: ...

    def mkdir(self, directory: int, name: str, mode: int = DIRECTORY_MODE) -> None: ...

    def rmdir(self, directory: int, name: str) -> None: ...

    def setxattr(self, descriptor: int, name: str, value: bytes) -> None: ...

    def fchmod(self, descriptor: int, mode: int) -> None: ...

    def utime(self, descriptor: int, mtime_ns: int | None = None) -> None:
        """Set both times; None = now, by the clock of the file system."""

    def utime_at(self, directory: int, name: str, mtime_ns: int) -> None:
        """The same by name; of a symlink itself, which has no descriptor."""


class OsDisk:
    """The real one."""

    def open(self, directory: int, name: str, flags: int, mode: int = FILE_MODE) -> int:
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(name, flags, mode, dir_fd=directory)

    def open_directory(self, name: str, directory: int | None = None) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if directory is not None:
            flags |= os.O_NOFOLLOW
        return os.open(name, flags, dir_fd=directory)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def pwritev(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        return os.pwritev(descriptor, buffers, offset)

    def ftruncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def allocate(self, descriptor: int, offset: int, length: int) -> None:
        os.posix_fallocate(descriptor, offset, length)

    def fdatasync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def rename(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        os.rename(old, new, src_dir_fd=old_directory, dst_dir_fd=new_directory)

    def rename_noreplace(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        _renameat2(old_directory, old, new_directory, new, _RENAME_NOREPLACE)

    def rename_exchange(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        _renameat2(old_directory, old, new_directory, new, _RENAME_EXCHANGE)

    def link(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        os.link(old, new, src_dir_fd=old_directory, dst_dir_fd=new_directory, follow_symlinks=False)

    def symlink(self, target: str, directory: int, name: str) -> None:
        os.symlink(target, name, dir_fd=directory)

    def unlink(self, directory: int, name: str) -> None:
        os.unlink(name, dir_fd=directory)

    def mkdir(self, directory: int, name: str, mode: int = DIRECTORY_MODE) -> None:
        os.mkdir(name, mode, dir_fd=directory)

    def rmdir(self, directory: int, name: str) -> None:
        os.rmdir(name, dir_fd=directory)

    def setxattr(self, descriptor: int, name: str, value: bytes) -> None:
        os.setxattr(descriptor, name, value)

    def fchmod(self, descriptor: int, mode: int) -> None:
        os.fchmod(descriptor, mode)

    def utime(self, descriptor: int, mtime_ns: int | None = None) -> None:
        if mtime_ns is None:
            os.utime(descriptor)
        else:
            os.utime(descriptor, ns=(mtime_ns, mtime_ns))

    def utime_at(self, directory: int, name: str, mtime_ns: int) -> None:
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=directory, follow_symlinks=False)


_libc = ctypes.CDLL(None, use_errno=True)
_libc.renameat2.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)
_libc.renameat2.restype = ctypes.c_int


def _renameat2(old_directory: int, old: str, new_directory: int, new: str, flags: int) -> None:
    names = os.fsencode(old), os.fsencode(new)
    if any(b"\0" in name for name in names):
        raise ValueError("embedded null byte")
    if _libc.renameat2(old_directory, names[0], new_directory, names[1], flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), old, None, new)


def disk_error(error: OSError, what: str) -> DiskError:
    """The error to raise for `error` that came out of `what` (“write the snapshot of …”)."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"no room to {what}: {error.strerror}",
            remedy="free some space on that disk (or raise its quota); nothing was lost",
        )
    if error.errno == errno.ELOOP:
        return DiskError(
            f"can't {what}: there is a symlink, which is never followed here",
            remedy="put what it leads to in its place; nothing was changed",
        )
    return DiskError(f"can't {what}: {error.strerror or error}")


def write_fully(disk: Disk, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
    """Write all of `buffers` at `offset` and return how many bytes that were.

    A short write is continued. When this raises OSError, any part may have been written.
    """
    views = [memoryview(buffer).cast("B") for buffer in buffers]
    total = sum(view.nbytes for view in views)
    written = idle = 0
    while written < total:
        try:
            taken = disk.pwritev(descriptor, views, offset + written)
        except InterruptedError:
            taken = 0
        idle = 0 if taken else idle + 1
        if idle == _IDLE_WRITES:
            raise OSError(errno.EIO, "the disk takes no bytes")
        written += taken
        views = _without_first(views, taken)
    return total


def _without_first(views: list[memoryview], count: int) -> list[memoryview]:
    """What is left of `views` after their first `count` bytes."""
    for index, view in enumerate(views):
        if count < view.nbytes:
            return [view[count:], *views[index + 1 :]]
        count -= view.nbytes
    return []


def read_fully(descriptor: int, length: int, offset: int) -> bytes:
    """The `length` bytes at `offset`; fewer only where the file ends. Raises OSError."""
    raw = os.pread(descriptor, length, offset)
    if len(raw) == length:
        return raw
    pieces = [raw]
    while pieces[-1] and (missing := length - sum(map(len, pieces))) > 0:
        pieces.append(os.pread(descriptor, missing, offset + length - missing))
    return b"".join(pieces)


def zero_fill(disk: Disk, descriptor: int, offset: int, length: int) -> None:
    """Write zeros, so that later writes there change no metadata (`allocate` leaves that to them).

    Not synced.
    """
    for start in range(offset, offset + length, len(_ZEROS)):
        piece = memoryview(_ZEROS)[: min(len(_ZEROS), offset + length - start)]
        write_fully(disk, descriptor, [piece], start)


def replace_file(disk: Disk, directory: int, name: str, *content: Buffer) -> None:
    """Make `content`, joined, the bytes of the file `name`, wholly or not at all.

    A crash at any point leaves the old file or the new one; when this returns, it is the new one,
    also after power loss. One writer per name: the caller holds the lock that makes it so. When it
    raises OSError the file is the old one, except after a failed sync of the directory, which
    leaves open which of the two a power cut would show.
    """
    new = name + NEW_SUFFIX
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(directory, new)
    try:
        with opened(disk, directory, new, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
            write_fully(disk, descriptor, content, 0)
            disk.fsync(descriptor)
        disk.rename(directory, new, directory, name)
    except OSError:
        with contextlib.suppress(OSError):
            disk.unlink(directory, new)
        raise
    disk.fsync(directory)


def open_regular(disk: Disk, directory: int, name: str, flags: int) -> int:
    """A descriptor of the regular file `name`. Raises OSError; DiskError for anything else."""
    try:
        descriptor = disk.open(directory, name, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise DiskError(f"{name} is a symlink, which is never followed here") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        disk.close(descriptor)
        raise DiskError(f"{name} is not a regular file", remedy="move it elsewhere")
    return descriptor


@contextlib.contextmanager
def opened(disk: Disk, directory: int, name: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor of `name` for the length of a block."""
    descriptor = disk.open(directory, name, flags)
    try:
        yield descriptor
    finally:
        disk.close(descriptor)


@contextlib.contextmanager
def opened_directory(disk: Disk, directory: int | None, name: str) -> Iterator[int]:
    """A descriptor of the directory `name` for the length of a block; see `open_directory`."""
    descriptor = disk.open_directory(name, directory)
    try:
        yield descriptor
    finally:
        disk.close(descriptor)


def make_directory(disk: Disk, directory: int, name: str) -> None:
    """Make sure that the directory `name` exists and survives power loss.

    A file or a symlink of that name is NotADirectoryError.
    """
    try:
        disk.mkdir(directory, name)
    except FileExistsError:
        disk.close(disk.open_directory(name, directory))
    # Also for one that was there: who made it may have died before this.
    disk.fsync(directory)


def make_path(disk: Disk, path: str) -> int:
    """Open the directory `path`, absolute; it and its parents are made where they are missing.

    Symlinks on the way are followed.
    """
    try:
        return disk.open_directory(path)
    except FileNotFoundError:
        parent, name = os.path.split(path)
        above = make_path(disk, parent)
    try:
        make_directory(disk, above, name)
        return disk.open_directory(name, above)
    finally:
        disk.close(above)


def make_below(disk: Disk, path: PurePath, setting: str) -> int:
    """The same for a directory of ours, which is never followed itself, though those above are.

    Raises OSError; DiskError where it is a symlink or no directory. `setting` is the variable that
    would put it elsewhere.
    """
    above = make_path(disk, str(path.parent))
    try:
        make_directory(disk, above, path.name)
        return disk.open_directory(path.name, above)
    except NotADirectoryError:
        raise not_followed(path, setting) from None
    finally:
        disk.close(above)


def not_followed(path: PurePath, setting: str) -> DiskError:
    """The error for a symlink, or a file, where a directory of ours should be."""
    return DiskError(
        f"{path} is a symlink, or no directory",
        remedy=f"PDFS follows no links there: to keep it elsewhere, set {setting}",
    )


def lock_file(descriptor: int, *, wait: bool = False) -> bool:
    """Take flock(2) for ourselves alone; False = somebody has it (never, if we wait).

    It belongs to the open file: it ends when the last copy of the descriptor is closed, and so with
    the process however that dies.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def read_path(path: str) -> bytes:
    """The bytes of a file that somebody else keeps: a setting, or a table of the kernel's."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def open_null() -> int:
    """A descriptor that swallows what is written and has nothing to read."""
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
