"""The fastest file system that pyfuse3 allows: in memory, no journal, no checks. For `bench`.

It keeps just enough of POSIX for the benchmark's own work and for git. getxattr is answered, since
a file system that has attributes can't say ENOSYS: the kernel then asks for security.capability
before each write, which is half of the requests of small writes.
"""

import errno
import itertools
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, RequestContext

from pdfs.fuse import FEWEST_TASKS, FOREVER, MOST_TASKS, MountOptions


@dataclass(slots=True)
class Thing:
    number: int
    mode: int
    content: bytearray = field(default_factory=bytearray)
    names: dict[bytes, "Thing"] = field(default_factory=dict)
    target: bytes = b""


class Floor(pyfuse3.Operations):
    """Handlers without error handling: the ceiling of what a real one can reach."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count(2)
        self.things = {1: Thing(1, stat.S_IFDIR | 0o755)}

    def attributes(self, thing: Thing) -> EntryAttributes:
        entry = EntryAttributes()
        entry.entry_timeout, entry.attr_timeout = FOREVER
        entry.st_ino, entry.st_mode = thing.number, thing.mode
        entry.st_size = len(thing.content)
        return entry

    def make(self, parent: int, name: bytes, mode: int) -> Thing:
        thing = Thing(next(self.numbers), mode)
        self.things[thing.number] = self.things[parent].names[name] = thing
        return thing

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        thing = self.things[parent_inode].names.get(name)
        if thing is not None:
            return self.attributes(thing)
        missing = EntryAttributes()
        missing.st_ino, missing.entry_timeout = 0, FOREVER.entries
        return missing

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        pass

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self.attributes(self.things[inode])

    async def setattr(
        self,
        inode: int,
        attr: EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        thing = self.things[inode]
        if fields.update_mode:
            thing.mode = attr.st_mode
        if fields.update_size:
            del thing.content[attr.st_size :]
            thing.content.extend(bytes(attr.st_size - len(thing.content)))
        return self.attributes(thing)

    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext
    ) -> EntryAttributes:
        return self.attributes(self.make(parent_inode, name, mode | stat.S_IFDIR))

    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        thing = self.make(parent_inode, name, stat.S_IFLNK | 0o777)
        thing.target = target
        return self.attributes(thing)

    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return self.things[inode].target

    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext
    ) -> EntryAttributes:
        thing = self.things[new_parent_inode].names[new_name] = self.things[inode]
        return self.attributes(thing)

    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        del self.things[parent_inode].names[name]

    rmdir = unlink

    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: RequestContext,
    ) -> None:
        thing = self.things[parent_inode_old].names.pop(name_old)
        self.things[parent_inode_new].names[name_new] = thing

    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        return inode

    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        names = list(self.things[fh].names.items())
        for at, (name, thing) in enumerate(names[start_id:], start_id + 1):
            if not pyfuse3.readdir_reply(token, name, self.attributes(thing), at):
                return

    async def releasedir(self, fh: int) -> None:
        pass

    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        thing = self.make(parent_inode, name, mode)
        return FileInfo(fh=thing.number, keep_cache=True), self.attributes(thing)

    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        return FileInfo(fh=inode, keep_cache=True)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        return bytes(self.things[fh].content[off : off + size])

    async def write(self, fh: int, off: int, buf: bytes) -> int:
        self.things[fh].content[off : off + len(buf)] = buf
        return len(buf)

    async def flush(self, fh: int) -> None:
        pass

    release = flush

    async def fsync(self, fh: int, datasync: bool) -> None:
        pass

    async def getxattr(self, inode: int, name: bytes, ctx: RequestContext) -> bytes:
        raise FUSEError(errno.EOPNOTSUPP)

    async def statfs(self, ctx: RequestContext) -> pyfuse3.StatvfsData:
        return pyfuse3.StatvfsData()


async def serve_floor(
    mountpoint: str,
    options: MountOptions,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Mount it as `pdfs.fuse.serve` mounts a stage."""
    pyfuse3.init(Floor(), mountpoint, options.encode())
    try:
        task_status.started()
        await pyfuse3.main(min_tasks=FEWEST_TASKS, max_tasks=MOST_TASKS)
    finally:
        pyfuse3.close(unmount=True)
