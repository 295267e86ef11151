"""`StageFilesystem`: one method per request of a process, over a session's ledger.

    validate (FsError, nothing changed) → record → `ledger.commit` → what to answer

Between the first look at the tree and the commit there is no await: only `read`, `fsync` and
`fsyncdir` can wait, and everything else answers from memory. Names, targets and attribute names
are bytes as processes have them. A `Node` that is returned is the live one: use it before the next
await.

Invariants:
- Nothing is answered that is not in the journal. (Reads change nothing, not even atime: that is
  what utimensat(2) or the making of the file set it to, as under noatime.)
- A node without a name goes by a `drop` record, as soon as no handle is open and the kernel has
  forgotten it; what is left at the end goes by `end`.
- In a read-only mount nothing can be changed. After the stage is lost (`read_only`, too) only what
  was open for writing, and only its bytes. After the journal has failed, nothing: EIO for bytes and
  fsync, else EROFS.
- No clock, no randomness, no network, no thread: what it needs of them is passed in.
"""

import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator, Set
from dataclasses import replace
from errno import EBADF, EEXIST, EFBIG, EINVAL, EISDIR, ELOOP, ENXIO, EROFS, ESTALE
from typing import Final

from pdfs.core.ids import Inode, Sequence
from pdfs.core.moving import move
from pdfs.core.node import Node
from pdfs.core.record import Drop, Kind, Record, Write
from pdfs.core.tree import Tree
from pdfs.disk import Buffer
from pdfs.errors import ContentLost, DamageFound, DiskError, PdfsError
from pdfs.fs import plan, xattrs
from pdfs.fs.clock import Clock
from pdfs.fs.commits import Commits
from pdfs.fs.error import FsError
from pdfs.fs.handles import InUse, Listed
from pdfs.fs.names import changed_names, name_of, raw_of
from pdfs.fs.plan import Caller, Change
from pdfs.fs.upward import Upward
from pdfs.local.ledger import Ledger

LARGEST: Final = (1 << 63) - 1
"""The largest size that Linux knows."""

_KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}
_NO_BYTES: Final = {Kind.DIRECTORY: EISDIR, Kind.SYMLINK: ELOOP}


async def _no_room() -> bool:
    return False


class StageFilesystem:
    """What a process can do to the stage. All calls belong on the thread of the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        now_ns: Callable[[], int],
        room: Callable[[], os.statvfs_result],
        upward: Upward | None = None,
        largest: int = LARGEST,
        make_room: Callable[[], Awaitable[bool]] = _no_room,
    ) -> None:
        """`room` tells what is free where the journal is; `largest` is the largest file, in bytes.

        `now_ns` should be a coarse clock, in ns since 1970.
        """
        self._ledger = ledger
        self._clock = Clock(now_ns)
        self._room = room
        self._make_room = make_room
        self._largest = largest
        self._in_use = InUse()
        self.upward = Upward() if upward is None else upward
        self._commits = Commits(ledger, self.upward)
        self.read_only: PdfsError | None = None
        """Why nothing new can be changed; set from above, for good."""
        self._seen: set[Inode] = set()
        self._lost: dict[Inode, str] = {}
        """What files whose bytes are nowhere were called when that was found."""
        self.unreadable: dict[str, str] = {}
        """Files that were asked for, and whose bytes are nowhere: by path, why."""

    async def make_room(self) -> bool:
        """A request raised DiskFull, and changed nothing: whether it is worth another try."""
        return self._commits.failure is None and await self._make_room()

    def fail(self, error: PdfsError) -> None:
        """Take nothing from programs from here on, as if the journal had failed; for good."""
        self._commits.fail(error)

    @property
    def tree(self) -> Tree:
        """As of the newest record."""
        return self._ledger.tree

    def busy(self) -> Set[Inode]:
        """The files that are open."""
        return self._in_use.files()

    def in_use(self) -> Set[Inode]:
        """The nodes that are open, or that the kernel knows."""
        return self._in_use.inodes()

    def seen(self) -> Set[Inode]:
        """The files that took the place of others at a publish and were opened since, not only to
        be emptied: who writes to them knows what they held."""
        return self._seen

    # --- looking ----------------------------------------------------------------------------------

    def lookup(self, parent: Inode, name: bytes) -> Node | None:
        """The node of a name, which the kernel knows from now on; None where there is none."""
        directory = plan.directory_of(self.tree, parent)
        if name == b".":
            found: Node | None = directory
        elif name == b"..":
            found = self.tree.nodes.get(directory.parent)
        else:
            found = self.tree.child(parent, name_of(name))
        return None if found is None else self._known(found)

    def forget(self, forgotten: Iterable[tuple[Inode, int]]) -> None:
        """The kernel takes back look-ups. Never raises: there is nobody to hear it."""
        for ino, count in forgotten:
            self._in_use.forget(ino, count)
            self._drop_unused(ino)

    def getattr(self, ino: Inode) -> Node:
        """The node itself, whose attributes are asked for."""
        return plan.node_of(self.tree, ino)

    def readlink(self, ino: Inode) -> bytes:
        """What a symlink points to."""
        node = plan.node_of(self.tree, ino)
        if node.kind is not Kind.SYMLINK:
            raise FsError(EINVAL)
        return raw_of(node.target)

    def statfs(self) -> os.statvfs_result:
        """How much more can be written."""
        return self._room()

    def opendir(self, ino: Inode) -> int:
        """A handle that lists the names as they are now."""
        return self._in_use.open_directory(plan.directory_of(self.tree, ino))

    def readdir(self, handle: int, start: int) -> Iterator[Listed]:
        """The names from `start` on (0 = from the first one, as they are now).

        What was made since is missing, what went is skipped, nothing comes twice. Whoever passes
        an entry to the kernel says so by `note_lookup`, except for dots.
        """
        return self._in_use.directory(handle).listed(self.tree, start)

    def note_lookup(self, ino: Inode) -> None:
        """The kernel was told of a node by a listing."""
        self._in_use.note_lookup(ino)

    def releasedir(self, handle: int) -> None:
        """Close a directory."""
        self._drop_unused(self._in_use.release(handle))

    # --- names ------------------------------------------------------------------------------------

    def mknod(self, parent: Inode, name: bytes, mode: int, rdev: int, caller: Caller) -> Node:
        """A new file, fifo, socket or device, by the type in `mode`."""
        kind = _KINDS.get(stat.S_IFMT(mode) or stat.S_IFREG)
        if kind is None:
            raise FsError(EINVAL)
        return self._known(self._create(parent, name, kind, mode, caller, rdev=rdev))

    def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Node:
        """A new directory."""
        return self._known(self._create(parent, name, Kind.DIRECTORY, mode, caller))

    def symlink(self, parent: Inode, name: bytes, target: bytes, caller: Caller) -> Node:
        """A new symlink."""
        return self._known(self._create(parent, name, Kind.SYMLINK, 0o777, caller, target=target))

    def create(
        self, parent: Inode, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[int, Node]:
        """A new file, opened.

        The kernel believes that the name is free. If it is not, another tool's file has taken it:
        ESTALE makes the kernel look again, and then open that as its mode allows.
        """
        try:
            node = self._create(parent, name, Kind.FILE, mode, caller)
        except FsError as error:
            if error.errno == EEXIST and not flags & os.O_EXCL:
                raise FsError(ESTALE) from error
            raise
        is_writable = flags & os.O_ACCMODE != os.O_RDONLY
        return self._in_use.open_file(node, is_writable=is_writable), self._known(node)

    def link(self, ino: Inode, parent: Inode, name: bytes) -> Node:
        """One more name for a node."""
        self._check_changeable()
        record = plan.plan_link(self.tree, ino, parent, name, time=self._clock.now())
        self._commits.commit(record)
        return self._known(self.tree.nodes[ino])

    def unlink(self, parent: Inode, name: bytes) -> None:
        """Take a name from what is not a directory."""
        self._check_changeable()
        self._commit_names(plan.plan_unlink(self.tree, parent, name, time=self._clock.now()))

    def rmdir(self, parent: Inode, name: bytes) -> None:
        """Remove an empty directory."""
        self._check_changeable()
        self._commit_names(plan.plan_rmdir(self.tree, parent, name, time=self._clock.now()))

    def rename(
        self, parent: Inode, name: bytes, new_parent: Inode, new_name: bytes, flags: int
    ) -> None:
        """Move a name over another one or none, or swap two (`flags` as in renameat2(2))."""
        self._check_changeable()
        record = plan.plan_rename(
            self.tree, parent, name, new_parent, new_name, flags, time=self._clock.now()
        )
        if record is not None:
            self._commit_names(record)

    # --- attributes -------------------------------------------------------------------------------

    def setattr(self, ino: Inode, change: Change, handle: int | None = None) -> Node:
        """Set attributes, by a path or through an open file: so also the size in a lost stage."""
        node = plan.node_of(self.tree, ino)
        is_open = handle is not None and self._in_use.file(handle).is_writable
        if not is_open or change.size is None:
            self._check_changeable()
        change = self._with_times(change)
        record = plan.plan_change(node, change, time=self._clock.now(), largest=self._largest)
        if record is not None:
            if record.size:
                self._note_first_write(node)
            self._commits.commit(record)
        return node

    def getxattr(self, ino: Inode, name: bytes) -> bytes:
        """The value of an extended attribute."""
        return xattrs.attribute(plan.node_of(self.tree, ino), name)

    def listxattr(self, ino: Inode) -> list[bytes]:
        """The names of the extended attributes."""
        return [raw_of(name) for name in plan.node_of(self.tree, ino).xattrs]

    def setxattr(self, ino: Inode, name: bytes, value: bytes) -> None:
        """Make or replace an extended attribute."""
        self._check_changeable()
        node = plan.node_of(self.tree, ino)
        self._commits.commit(xattrs.plan_set(node, name, value, self._clock.now()))

    def removexattr(self, ino: Inode, name: bytes) -> None:
        """Remove an extended attribute."""
        self._check_changeable()
        node = plan.node_of(self.tree, ino)
        self._commits.commit(xattrs.plan_remove(node, name, self._clock.now()))

    # --- bytes ------------------------------------------------------------------------------------

    def open(self, ino: Inode, flags: int, caller: Caller) -> int:
        """A handle of a file, emptied first where `flags` have O_TRUNC."""
        node = plan.node_of(self.tree, ino)
        if not node.is_file:
            raise FsError(_NO_BYTES.get(node.kind, ENXIO))
        is_writable = flags & os.O_ACCMODE != os.O_RDONLY
        if is_writable or flags & os.O_TRUNC:
            self._check_changeable()
        if flags & os.O_TRUNC:
            self._commits.commit(plan.plan_truncate(node, caller, time=self._clock.now()))
        elif ino in self.tree.unserved.values():
            self._seen.add(ino)
        return self._in_use.open_file(node, is_writable=is_writable)

    async def read(self, handle: int, offset: int, size: int) -> bytes:
        """Exactly min(size, file size - offset) bytes, as the file is when this returns.

        Raises FsError, DamageFound, StoreError, DiskError: fewer bytes would be the end of the
        file to a program.
        """
        node = self._in_use.file(handle).node
        try:
            found = await self._ledger.read(node, offset, offset + size)
        except ContentLost as error:
            name = self._name_of_lost(node)
            self.unreadable[name] = error.what
            raise ContentLost(
                f"{name!r} can't be read: {error.what}", remedy=error.remedy
            ) from error
        wanted = max(0, min(size, node.size - offset))
        if len(found) != wanted:
            raise DamageFound(f"{len(found)} bytes of {wanted} came for inode {node.ino}")
        return found

    def write(self, handle: int, offset: int, data: Buffer) -> int:
        """Lay bytes over the file; all of them are in the journal when this returns.

        The hot path: one append, no copy of `data`, no other thread.
        """
        opened = self._in_use.file(handle)
        if not opened.is_writable:
            raise FsError(EBADF)
        node, length = opened.node, len(data)
        if offset + length > self._largest:
            raise FsError(EFBIG)
        if length:
            self._note_first_write(node)
            self._commits.commit(Write(ino=node.ino, offset=offset, time=self._clock.now()), data)
        return length

    def flush(self, handle: int) -> None:
        """close(2) of one descriptor of a file: the journal has it all, unless it has failed."""
        if self._in_use.file(handle).is_writable:
            self._commits.check()

    def release(self, handle: int) -> None:
        """The last descriptor is closed."""
        self._drop_unused(self._in_use.release(handle))

    async def fsync(self, handle: int) -> None:
        """Return when all that was acknowledged survives a power cut. Raises JournalFailed."""
        self._in_use.file(handle)
        await self.sync()

    async def fsyncdir(self, handle: int) -> None:
        """The same, for who has a directory open."""
        self._in_use.directory(handle)
        await self.sync()

    # --- from below and above ---------------------------------------------------------------------

    def commit_from_below(self, record: Record) -> Sequence:
        """Commit what no process asked for: what other tools did, what a publish came to.

        The names that it changes go up, for the kernel to forget. Raises as `Ledger.commit`.
        """
        names = changed_names(record)
        sequence = self._commit_names(record)
        for parent, name in names:
            self.upward.invalidate(parent, raw_of(name))
        return sequence

    def move_to(self, tree: Tree, told: Callable[[], None]) -> None:
        """Show another generation from now on, whose nodes are numbered by `core.moving`.

        What is open stays as it was opened, a listing that has begun ends as it began. `told` is
        called when the kernel has forgotten what it knew otherwise.
        """
        moved = move(self.tree, tree, self.in_use())
        self._ledger.tree = tree
        self.unreadable.clear()
        for parent, name in moved.names:
            self.upward.invalidate(parent, raw_of(name))
        for ino in moved.attributes:
            self.upward.changed(ino)
        self.upward.when_told(told)

    async def sync(self) -> None:
        """Return when all that was acknowledged survives a power cut. Raises JournalFailed."""
        await self._commits.sync()

    def end(self) -> None:
        """There is no mount any more: nothing is open, and nodes without a name go. Idempotent."""
        self._in_use.clear()
        for ino in sorted(self.tree.orphans):
            self._drop_unused(ino)

    # --- changing ---------------------------------------------------------------------------------

    def _create(
        self,
        parent: Inode,
        name: bytes,
        kind: Kind,
        mode: int,
        caller: Caller,
        *,
        rdev: int = 0,
        target: bytes = b"",
    ) -> Node:
        self._check_changeable()
        record = plan.plan_create(
            self.tree,
            parent,
            name,
            caller,
            ino=self._ledger.new_inode(),
            kind=kind,
            mode=mode,
            time=self._clock.now(),
            rdev=rdev,
            target=target,
        )
        self._commits.commit(record)
        return self.tree.nodes[record.ino]

    def _commit_names(self, record: Record) -> Sequence:
        """Commit what may take the last name from a node."""
        held = [
            entries[name]
            for parent, name in changed_names(record)
            if name in (entries := self.tree.nodes[parent].entries)
        ]
        sequence = self._commits.commit(record)
        for ino in held:
            self._drop_unused(ino)
        return sequence

    def _check_changeable(self) -> None:
        if self.read_only is not None or self._commits.failure is not None:
            raise FsError(EROFS)

    def _drop_unused(self, ino: Inode) -> None:
        """Drop a node that has no name and is not in use; what the disk refuses waits for `end`."""
        if ino not in self.tree.orphans or ino in self._in_use or self._commits.failure is not None:
            return
        try:
            self._commits.commit(Drop(ino=ino))
        except DiskError:
            return

    def _name_of_lost(self, node: Node) -> str:
        """A path of the file, for people; looked for once, since a node doesn't know its names."""
        if node.ino not in self._lost:
            names = (path for path, other in self.tree.walk() if other is node)
            self._lost[node.ino] = next(names, f"inode {node.ino}, which has no name")
        return self._lost[node.ino]

    def _note_first_write(self, node: Node) -> None:
        if node.limit and not node.extents:
            self.upward.first_write(node)

    def _known(self, node: Node) -> Node:
        self._in_use.note_lookup(node.ino)
        return node

    def _with_times(self, change: Change) -> Change:
        taken = self._clock.taken
        return replace(
            change,
            atime=None if change.atime is None else taken(change.atime),
            mtime=None if change.mtime is None else taken(change.mtime),
        )
