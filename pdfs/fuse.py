"""pyfuse3's requests as calls of a `StageFilesystem`, and their answers; nothing else.

`serve` mounts, answers until the file system is unmounted, and leaves nothing mounted. pyfuse3 has
one session per process, and so does this module.

An exception other than FUSEError, or an answer of a wrong type, would end the mount for everybody.
So each handler is wrapped: what goes wrong becomes an errno by the one rule in `refusal`.

The kernel may keep what it was told for as long as `MountOptions.caching` says, since whatever
changes the tree without a request goes through `Upward.invalidate`. Notifying the kernel can block
until a request is answered, so that is done by a task and thread of its own.
"""

import contextlib
import errno
import functools
import logging
import math
import stat
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from pdfs.core.ids import Inode
from pdfs.core.node import Node
from pdfs.core.record import Kind
from pdfs.errors import DiskFull, MountError, PdfsError
from pdfs.fs.error import FsError
from pdfs.fs.filesystem import StageFilesystem
from pdfs.fs.names import NAME_MAX
from pdfs.fs.plan import Change

logger = logging.getLogger(__name__)

BLOCK_SIZE: Final = 128 << 10
"""st_blksize, the buffer of stdio: read-ahead's size; 4 KiB means 32 times as many requests."""
FEWEST_TASKS: Final = 32
MOST_TASKS: Final = 1000
"""A request that waits for the bucket holds one; with all of them held, nobody is served."""

_TYPES: Final = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}


class Caching(NamedTuple):
    """For how many seconds the kernel may answer by itself."""

    entries: float
    """What a name stands for, also that it stands for nothing."""
    attributes: float


FOREVER: Final = Caching(entries=86400.0, attributes=86400.0)
"""Nobody changes the stage but the processes on this mount, and we."""
BRIEFLY: Final = Caching(entries=1.0, attributes=1.0)
"""Until the listing has settled."""
FOLLOWING: Final = Caching(entries=60.0, attributes=60.0)
"""Names change by whole generations: should the kernel have missed one, it looks again soon."""
_NOT_AT_ALL: Final = Caching(entries=0.0, attributes=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """How the stage is mounted."""

    source: str
    """What `findmnt` and `df` show as its origin."""
    allow_other: bool = False
    """Also other users, and root; an unprivileged user needs `user_allow_other` in fuse.conf."""
    read_only: bool = False
    caching: Callable[[], Caching] = lambda: FOREVER

    def encode(self) -> set[str]:
        """As libfuse reads them: ASCII, commas and backslashes escaped."""
        source = self.source.encode("ascii", "replace").decode("ascii")
        source = source.replace("\\", "\\\\").replace(",", "\\,")
        chosen = {"allow_other": self.allow_other, "ro": self.read_only}
        others = {name for name, is_chosen in chosen.items() if is_chosen}
        return {"default_permissions", "subtype=pdfs", f"fsname={source}", *others}


async def serve(
    filesystem: StageFilesystem,
    mountpoint: str,
    options: MountOptions,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Mount, call `task_status.started()`, and answer requests until it is unmounted.

    Raises MountError where it can't be mounted. However this ends, nothing is mounted any more,
    and what is open no longer counts. Cancelled: requests that wait are not answered.
    """
    notices = _Notices()
    operations = FuseOperations(filesystem, options.caching)
    try:
        pyfuse3.init(operations, mountpoint, options.encode())
    except RuntimeError as error:
        raise MountError(
            f"can't mount at {mountpoint}: {error}",
            remedy="FUSE said why on the standard error",
        ) from error
    upward = filesystem.upward
    unheard = upward.invalidate, upward.changed, upward.when_told
    upward.invalidate, upward.changed = notices.add, notices.add_changed
    upward.when_told = notices.add_call
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notices.tell)
            task_status.started()
            await pyfuse3.main(min_tasks=FEWEST_TASKS, max_tasks=MOST_TASKS)
            nursery.cancel_scope.cancel()
    finally:
        upward.invalidate, upward.changed, upward.when_told = unheard
        pyfuse3.close(unmount=True)
        filesystem.end()


class _Notice(NamedTuple):
    """One of the two: what to tell the kernel, or what to call here."""

    tell: Callable[[], None] | None = None
    call: Callable[[], None] | None = None


class _Notices:
    """Names and attributes that the kernel has to forget, on their way to it."""

    def __init__(self) -> None:
        self._add, self._changes = trio.open_memory_channel[_Notice](math.inf)
        self._thread = trio.CapacityLimiter(1)

    def add(self, parent: Inode, name: bytes) -> None:
        """Never waits."""
        tell = functools.partial(pyfuse3.invalidate_entry, parent, name)
        self._add.send_nowait(_Notice(tell=tell))

    def add_changed(self, ino: Inode) -> None:
        """Never waits."""
        tell = functools.partial(pyfuse3.invalidate_inode, ino, attr_only=True)
        self._add.send_nowait(_Notice(tell=tell))

    def add_call(self, call: Callable[[], None]) -> None:
        """Call it when all before is told. Never waits."""
        self._add.send_nowait(_Notice(call=call))

    async def tell(self) -> None:
        """Tell the kernel, one by one: a name may have to wait for requests of its directory."""
        async for notice in self._changes:
            if notice.tell is not None:
                await trio.to_thread.run_sync(
                    _tell, notice.tell, limiter=self._thread, abandon_on_cancel=True
                )
            if notice.call is not None:
                notice.call()


def _tell(change: Callable[[], None]) -> None:
    try:
        change()
    except OSError as error:
        # ENOENT: the kernel does not know it. ENOTCONN and the like: it was unmounted meanwhile.
        if error.errno not in (errno.ENOENT, errno.ENOTCONN, errno.ENODEV, errno.EBADF):
            logger.error("the kernel could not be told of a change, %r: %s", change, error)


# --- errors ---------------------------------------------------------------------------------------

_Given = ParamSpec("_Given")
_Answer = TypeVar("_Answer")
_Handler = Callable[Concatenate["FuseOperations", _Given], Coroutine[Any, Any, _Answer]]


def _answers(kind: type[Any]) -> Callable[[_Handler[_Given, _Answer]], _Handler[_Given, _Answer]]:
    """Wrap a handler that answers with a `kind`: nothing but FUSEError comes out of it."""

    def wrap(handler: _Handler[_Given, _Answer]) -> _Handler[_Given, _Answer]:
        @functools.wraps(handler)
        async def answer(
            self: "FuseOperations", /, *given: _Given.args, **named: _Given.kwargs
        ) -> _Answer:
            try:
                try:
                    found = await handler(self, *given, **named)
                except DiskFull as error:
                    again = functools.partial(handler, self, *given, **named)
                    found = await self.again_with_room(error, again)
                if not isinstance(found, kind):
                    raise TypeError(f"{type(found).__name__} is no answer")
            except Exception as error:  # noqa: BLE001 - the last border before the kernel
                raise self.refusal(handler.__name__, error) from None
            if self._told:
                self._told.pop(handler.__name__, None)
            return found

        return answer

    return wrap


def _answers_nothing(handler: _Handler[_Given, None]) -> _Handler[_Given, None]:
    """Wrap a handler that has nothing to say but that it is done."""
    return _answers(type(None))(handler)


# --- requests -------------------------------------------------------------------------------------


class FuseOperations(pyfuse3.Operations):
    """The handlers. What is not here (poll, access) is ENOSYS: the kernel decides it alone."""

    def __init__(self, filesystem: StageFilesystem, caching: Callable[[], Caching]) -> None:
        super().__init__()
        self._filesystem = filesystem
        self._caching = caching
        self._told: dict[str, str] = {}
        """What each handler has to complain of since it last succeeded, as told in the log."""

    async def again_with_room(
        self, error: DiskFull, attempt: Callable[[], Awaitable[_Answer]]
    ) -> _Answer:
        """Carry out what found the disk full, and so changed nothing, as long as room is made."""
        while await self._filesystem.make_room():
            try:
                return await attempt()
            except DiskFull as full:
                error = full
        raise error

    def refusal(self, handler: str, error: Exception) -> FUSEError:
        """What to answer instead.

        An errno can't say what is wrong with PDFS or its data, so the log does; what every write
        to a full disk would repeat is said once.
        """
        match error:
            case FsError():
                return FUSEError(error.errno)
            case PdfsError():
                if self._told.get(handler) != str(error):
                    self._told[handler] = str(error)
                    logger.error("%s: %s", handler, error)
                return FUSEError(error.errno)
            case MemoryError():
                with contextlib.suppress(MemoryError):  # saying so takes some, too
                    logger.error("%s failed: there is no memory", handler, exc_info=error)
                return FUSEError(errno.ENOMEM)
            case _:
                logger.error("%s failed, which it never should", handler, exc_info=error)
                return FUSEError(errno.EIO)

    def _attributes(self, node: Node | None, caching: Caching | None = None) -> EntryAttributes:
        """A node, or that there is none, as the kernel hears and keeps it."""
        entry = EntryAttributes()
        entry.entry_timeout, entry.attr_timeout = caching or self._caching()
        if node is None:
            entry.st_ino = 0
            return entry
        entry.st_ino = node.ino
        entry.st_mode = _TYPES[node.kind] | node.mode
        entry.st_nlink = node.links
        entry.st_uid, entry.st_gid = node.uid, node.gid
        entry.st_rdev = node.rdev
        entry.st_size = node.size
        entry.st_blksize = BLOCK_SIZE
        entry.st_blocks = (node.size + 511) // 512
        entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = node.atime, node.mtime, node.ctime
        return entry

    # --- looking ------------------------------------------------------------------------------

    @_answers(EntryAttributes)
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(self._filesystem.lookup(Inode(parent_inode), name))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        try:
            self._filesystem.forget((Inode(ino), count) for ino, count in inode_list)
        except Exception as error:  # noqa: BLE001 - there is no request to answer
            self.refusal("forget", error)

    @_answers(EntryAttributes)
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(self._filesystem.getattr(Inode(inode)))

    @_answers(EntryAttributes)
    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        change = Change(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime=attr.st_atime_ns if fields.update_atime else None,
            mtime=attr.st_mtime_ns if fields.update_mtime else None,
        )
        return self._attributes(self._filesystem.setattr(Inode(inode), change, fh))

    @_answers(bytes)
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return self._filesystem.readlink(Inode(inode))

    @_answers(pyfuse3.StatvfsData)
    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        room, answer = self._filesystem.statfs(), pyfuse3.StatvfsData()
        answer.f_bsize, answer.f_frsize = room.f_bsize, room.f_frsize
        answer.f_blocks, answer.f_bfree = room.f_blocks, room.f_bfree
        answer.f_bavail, answer.f_namemax = room.f_bavail, NAME_MAX
        return answer

    # --- names --------------------------------------------------------------------------------

    @_answers(EntryAttributes)
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        node = self._filesystem.mknod(Inode(parent_inode), name, mode, rdev, ctx)
        return self._attributes(node)

    @_answers(EntryAttributes)
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        return self._attributes(self._filesystem.mkdir(Inode(parent_inode), name, mode, ctx))

    @_answers(EntryAttributes)
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        return self._attributes(self._filesystem.symlink(Inode(parent_inode), name, target, ctx))

    @_answers(EntryAttributes)
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        parent = Inode(new_parent_inode)
        return self._attributes(self._filesystem.link(Inode(inode), parent, new_name))

    @_answers_nothing
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._filesystem.unlink(Inode(parent_inode), name)

    @_answers_nothing
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        self._filesystem.rmdir(Inode(parent_inode), name)

    @_answers_nothing
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        new = Inode(parent_inode_new)
        self._filesystem.rename(Inode(parent_inode_old), name_old, new, name_new, flags)

    # --- directories --------------------------------------------------------------------------

    @_answers(int)
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        return self._filesystem.opendir(Inode(inode))

    @_answers_nothing
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        for listed in self._filesystem.readdir(fh, start_id):
            entry = self._attributes(listed.node, _NOT_AT_ALL if listed.is_past else None)
            if not pyfuse3.readdir_reply(token, listed.name, entry, listed.next):
                return
            if not listed.is_dot:
                self._filesystem.note_lookup(listed.node.ino)

    @_answers_nothing
    async def releasedir(self, fh: int) -> None:
        self._filesystem.releasedir(fh)

    @_answers_nothing
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._filesystem.fsyncdir(fh)

    # --- files --------------------------------------------------------------------------------

    @_answers(tuple)
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        fh, node = self._filesystem.create(Inode(parent_inode), name, mode, flags, ctx)
        return FileInfo(fh=fh, keep_cache=True), self._attributes(node)

    @_answers(FileInfo)
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=self._filesystem.open(Inode(inode), flags, ctx), keep_cache=True)

    @_answers(bytes)
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._filesystem.read(fh, off, size)

    @_answers(int)
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        return self._filesystem.write(fh, off, buf)

    @_answers_nothing
    async def flush(self, fh: int) -> None:
        self._filesystem.flush(fh)

    @_answers_nothing
    async def release(self, fh: int) -> None:
        self._filesystem.release(fh)

    @_answers_nothing
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._filesystem.fsync(fh)

    # --- extended attributes ------------------------------------------------------------------

    @_answers_nothing
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: RequestContext) -> None:
        self._filesystem.setxattr(Inode(inode), name, value)

    @_answers(bytes)
    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        return self._filesystem.getxattr(Inode(inode), name)

    @_answers(list)
    async def listxattr(self, inode: int, ctx: RequestContext) -> list[bytes]:
        return self._filesystem.listxattr(Inode(inode))

    @_answers_nothing
    async def removexattr(self, inode: int, name: bytes, ctx: RequestContext) -> None:
        self._filesystem.removexattr(Inode(inode), name)
