"""The stage's tree as a state machine: a record goes in, the tree is changed. Nothing else does.

`Tree.apply` is called for each record once, in the order of the journal; the same calls rebuild
the same tree after a crash. A record whose preconditions fail is damage: it raises JournalDamaged
and changes nothing.

Beside the names that processes see, the tree knows what the bucket's plain keys hold, as far as
this session was served or put it (`known`): a publish may replace exactly these objects.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import assert_never

from pdfs.core.content import Content
from pdfs.core.ids import TOP, Inode, ObjectName, Path
from pdfs.core.intervals import NOWHERE, Extent, Position
from pdfs.core.keys import join
from pdfs.core.node import PERMISSIONS, Node, own_xattrs
from pdfs.core.record import (
    Brought,
    Create,
    Drop,
    Echoed,
    Found,
    Gone,
    Kind,
    Link,
    Publishing,
    Record,
    Rename,
    SetAttributes,
    Settled,
    SetXattr,
    Unlink,
    Write,
)
from pdfs.errors import JournalDamaged

_NO_EDITS = frozenset[type[Record]]({Publishing, Settled, Found, Gone, Drop, Brought})


@dataclass(slots=True, kw_only=True)
class InFlight:
    """A publish between its `publishing` and its `settled` record."""

    record: Publishing
    boundary: Position
    """Bytes appended before it are included in the publish."""
    edits: int
    """How many edits it includes."""
    lowest: dict[Inode, int] = field(default_factory=dict)
    """The smallest size that a file was cut to since."""


@dataclass(slots=True, kw_only=True)
class Tree:
    """Nodes by inode, what the bucket holds by path, and where in history both stand."""

    nodes: dict[Inode, Node]
    known: dict[Path, Content] = field(default_factory=dict)
    unserved: dict[Path, Inode] = field(default_factory=dict)
    """Files of others that took the place of ours since this tree was loaded; forgotten with it."""
    orphans: set[Inode] = field(default_factory=set)
    """Nodes without a name; they go by a `drop` record."""
    generation: int = 0
    base: ObjectName | None = None
    """The manifest that `known` and the bases come from; None for a stage never published."""
    in_flight: InFlight | None = None
    edits: int = 0
    """How many records were applied that a publish has to bring into the bucket."""
    published_edits: int = 0
    """How many of them are there, verified."""

    @property
    def has_edits(self) -> bool:
        """Whether there is anything to publish."""
        return self.edits > self.published_edits

    # --- looking ------------------------------------------------------------------------------

    def child(self, parent: Inode, name: str) -> Node | None:
        """The node called `name` in the directory `parent`, or None."""
        ino = self.nodes[parent].entries.get(name)
        return None if ino is None else self.nodes[ino]

    def find(self, path: Path) -> Node | None:
        """The node at `path`, or None. Symlinks are not followed."""
        node: Node | None = self.nodes[TOP]
        for name in path.split("/") if path else ():
            if node is None or not node.is_directory:
                return None
            node = self.child(node.ino, name)
        return node

    def walk(self) -> Iterator[tuple[Path, Node]]:
        """Every name below the top directory: parents first, siblings in order of their names."""
        pending: list[tuple[Path, Node]] = [(Path(""), self.nodes[TOP])]
        while pending:
            path, node = pending.pop()
            if path:
                yield path, node
            for name in sorted(node.entries, reverse=True):
                pending.append((join(path, name), self.nodes[node.entries[name]]))

    def frozen(self) -> "Tree":
        """The tree as it is now, for a thread to read; 0.15 s for 100,000 nodes."""
        return replace(
            self,
            nodes={ino: node.frozen() for ino, node in self.nodes.items()},
            known=dict(self.known),
            unserved=dict(self.unserved),
            orphans=set(self.orphans),
        )

    # --- changing -----------------------------------------------------------------------------

    def apply(self, record: Record, at: Position = NOWHERE, length: int = 0) -> None:
        """Carry out one record whose data, `length` bytes of it, lies in the journal `at`."""
        match record:
            case Write():
                node = self._file(record.ino)
                start = record.offset
                node.write(Extent(start, start + length, at))
                node.mtime = node.ctime = record.time
            case SetAttributes():
                self._set_attributes(record)
            case Create():
                self._create(record)
            case Rename():
                self._rename(record)
            case Unlink():
                self._unlink(record)
            case Link():
                self._link(record)
            case SetXattr():
                self._set_xattr(record)
            case Drop():
                self._drop(record)
            case Publishing():
                self.in_flight = InFlight(record=record, boundary=at, edits=self.edits)
            case Found():
                self._found(record)
            case Gone():
                self._gone(record)
            case Settled():
                self._settled(record)
            case Echoed():
                self.known[record.path] = record.content
            case Brought():
                self._brought(record, at, length)
            case _:
                assert_never(record)
        self.edits += type(record) not in _NO_EDITS

    def _create(self, record: Create) -> None:
        parent = self._directory(record.parent)
        self._check_free(parent, record.name)
        self._check_new(record.ino)
        _check_mode(record.mode)
        node = Node(
            ino=record.ino,
            kind=record.kind,
            mode=record.mode,
            uid=record.uid,
            gid=record.gid,
            atime=record.time,
            mtime=record.time,
            ctime=record.time,
            links=0,
            rdev=record.rdev,
            target=record.target,
        )
        if node.kind is Kind.SYMLINK:
            node.size = len(record.target.encode("utf-8", "surrogateescape"))
        self.nodes[node.ino] = node
        parent.enter(record.name, node)
        _touch(parent, record.time)

    def _set_attributes(self, record: SetAttributes) -> None:
        node = self._node(record.ino)
        _check_mode(record.mode)
        if record.size is not None:
            if not node.is_file or record.size < 0:
                raise _damage(f"inode {record.ino} can't be cut to {record.size} bytes")
            node.resize(record.size)
            self._note_cut(node)
        node.mode = node.mode if record.mode is None else record.mode
        node.uid = node.uid if record.uid is None else record.uid
        node.gid = node.gid if record.gid is None else record.gid
        node.atime = node.atime if record.atime is None else record.atime
        node.mtime = node.mtime if record.mtime is None else record.mtime
        node.ctime = record.time

    def _note_cut(self, node: Node) -> None:
        if self.in_flight is not None:
            lowest = self.in_flight.lowest
            lowest[node.ino] = min(lowest.get(node.ino, node.size), node.size)

    def _rename(self, record: Rename) -> None:
        source, target = self._directory(record.parent), self._directory(record.new_parent)
        moved = self._entry(source, record.name)
        replaced = self.child(target.ino, record.new_name)
        self._check_no_loop(moved, target)
        if replaced is moved:
            return
        if record.exchange:
            if replaced is None:
                raise _damage(f"nothing called {record.new_name!r} to exchange with")
            self._check_no_loop(replaced, source)
        elif replaced is not None:
            self._check_empty(replaced)
        source.leave(record.name, moved)
        if replaced is not None:
            target.leave(record.new_name, replaced)
        target.enter(record.new_name, moved)
        moved.ctime = record.time
        if replaced is not None:
            if record.exchange:
                source.enter(record.name, replaced)
            replaced.ctime = record.time
            self._note_orphan(replaced)
        _touch(source, record.time)
        _touch(target, record.time)

    def _unlink(self, record: Unlink) -> None:
        parent = self._directory(record.parent)
        node = self._entry(parent, record.name)
        self._check_empty(node)
        parent.leave(record.name, node)
        node.ctime = record.time
        self._note_orphan(node)
        _touch(parent, record.time)

    def _link(self, record: Link) -> None:
        parent, node = self._directory(record.parent), self._node(record.ino)
        self._check_free(parent, record.name)
        if node.is_directory:
            raise _damage(f"directory {node.ino} can't have a second name")
        parent.enter(record.name, node)
        self.orphans.discard(node.ino)
        node.ctime = record.time
        _touch(parent, record.time)

    def _set_xattr(self, record: SetXattr) -> None:
        node = self._node(record.ino)
        if record.value is not None:
            node.set_xattr(record.name, record.value)
        elif record.name in node.xattrs:
            del node.xattrs[record.name]
        else:
            raise _damage(f"inode {record.ino} has no attribute {record.name!r}")
        node.ctime = record.time

    def _drop(self, record: Drop) -> None:
        if record.ino not in self.orphans:
            raise _damage(f"inode {record.ino} still has a name, or never had one")
        self.orphans.discard(record.ino)
        del self.nodes[record.ino]

    def _found(self, record: Found) -> None:
        parent = self._directory(record.parent)
        self._check_new(record.ino)
        _check_mode(record.mode)
        replaced = self.child(parent.ino, record.name)
        if replaced is not None:
            self._check_empty(replaced)
        node = Node(
            ino=record.ino,
            kind=Kind.FILE,
            mode=record.mode,
            uid=record.uid,
            gid=record.gid,
            atime=record.mtime,
            mtime=record.mtime,
            ctime=record.time,
            links=0,
        )
        node.load(record.content)
        if replaced is not None:
            node.xattrs = own_xattrs(replaced.xattrs)
            parent.leave(record.name, replaced)
            self._note_orphan(replaced)
        self.nodes[node.ino] = node
        parent.enter(record.name, node)
        self.known[record.path] = record.content
        _touch(parent, record.time)

    def _gone(self, record: Gone) -> None:
        if record.path not in self.known:
            raise _damage(f"no plain object was known at {record.path!r}")
        if record.parent is not None:
            self._unlink(Unlink(parent=record.parent, name=record.name, time=record.time))
        del self.known[record.path]

    def _settled(self, record: Settled) -> None:
        self._check_settled(record)
        for ino, index in record.bases:
            self._rebase(self.nodes[ino], record.contents[index], own=record.sequence is not None)
        for path, index in record.known:
            if index < 0:
                self.known.pop(path, None)
            else:
                self.known[path] = record.contents[index]
        for move in record.moves:
            self._rename(move)
        for found in record.found:
            self._found(found)
            if record.sequence is not None:
                self.unserved[found.path] = found.ino
        self.generation, self.base = record.generation, record.tree
        if record.sequence is not None and self.in_flight is not None:
            self.published_edits = self.in_flight.edits
            self.in_flight = None

    def _rebase(self, node: Node, content: Content, *, own: bool) -> None:
        node.base = content
        if own and self.in_flight is not None:
            node.extents.drop_until(self.in_flight.boundary)
            node.limit = min(content.size, self.in_flight.lowest.get(node.ino, content.size))

    def _brought(self, record: Brought, at: Position, length: int) -> None:
        node = self._file(record.ino)
        if record.start + length > node.size:
            raise _damage(f"inode {record.ino} has no byte {record.start + length - 1}")
        node.lay(Extent(record.start, record.start + length, at))

    # --- preconditions ------------------------------------------------------------------------

    def _check_settled(self, record: Settled) -> None:
        ours = record.sequence is not None
        if ours and (self.in_flight is None or self.in_flight.record.publish != record.publish):
            raise _damage(f"publish {record.publish} is settled, but was not under way")
        for ino, index in record.bases:
            if not 0 <= index < len(record.contents):
                raise _damage(f"publish {record.publish} names content {index}, which it lacks")
            self._file(ino)
        if any(not -1 <= index < len(record.contents) for _, index in record.known):
            raise _damage(f"publish {record.publish} names a content which it lacks")
        self._check_names(record)

    def _check_names(self, record: Settled) -> None:
        """Try what a settle does to names on copies of the nodes that it touches."""
        slots = [(move.parent, move.name) for move in record.moves]
        slots += [(move.new_parent, move.new_name) for move in record.moves]
        slots += [(found.parent, found.name) for found in record.found]
        if not slots:
            return
        copies = {ino: self.nodes[ino].copy() for ino in self._touched(slots)}
        trial = Tree(nodes=copies)
        for move in record.moves:
            trial._rename(move)
        for found in record.found:
            self._check_new(found.ino)
            trial._found(found)

    def _touched(self, slots: list[tuple[Inode, str]]) -> set[Inode]:
        """The nodes in those places, the directories that hold them, and all above these."""
        touched = {TOP}
        for parent, name in slots:
            above = self._directory(parent)
            touched.add(above.entries.get(name, TOP))
            while above.ino not in touched:
                touched.add(above.ino)
                above = self.nodes[above.parent]
        return touched

    def _node(self, ino: Inode) -> Node:
        node = self.nodes.get(ino)
        if node is None:
            raise _damage(f"there is no inode {ino}")
        return node

    def _file(self, ino: Inode) -> Node:
        node = self._node(ino)
        if node.kind is not Kind.FILE:
            raise _damage(f"inode {ino} is no file")
        return node

    def _directory(self, ino: Inode) -> Node:
        node = self._node(ino)
        if node.kind is not Kind.DIRECTORY or ino in self.orphans:
            raise _damage(f"inode {ino} is no directory that can hold names")
        return node

    def _entry(self, parent: Node, name: str) -> Node:
        ino = parent.entries.get(name)
        if ino is None:
            raise _damage(f"directory {parent.ino} has no {name!r}")
        return self.nodes[ino]

    def _check_free(self, parent: Node, name: str) -> None:
        if name in parent.entries:
            raise _damage(f"directory {parent.ino} has {name!r} already")

    def _check_new(self, ino: Inode) -> None:
        if ino in self.nodes:
            raise _damage(f"inode {ino} exists already")

    def _check_empty(self, node: Node) -> None:
        if node.entries:
            raise _damage(f"directory {node.ino} is not empty")

    def _check_no_loop(self, moved: Node, target: Node) -> None:
        above = target
        while moved.is_directory and above.ino != TOP:
            if above is moved:
                raise _damage(f"directory {moved.ino} can't move below itself")
            above = self.nodes[above.parent]

    def _note_orphan(self, node: Node) -> None:
        if node.links == 0:
            self.orphans.add(node.ino)


def new_tree(*, uid: int, gid: int, mode: int = 0o755, time: int = 0) -> Tree:
    """A tree with nothing but its top directory."""
    top = Node(
        ino=TOP,
        kind=Kind.DIRECTORY,
        mode=mode,
        uid=uid,
        gid=gid,
        atime=time,
        mtime=time,
        ctime=time,
        links=2,
        parent=TOP,
    )
    return Tree(nodes={TOP: top})


def _touch(directory: Node, time: int) -> None:
    directory.mtime = directory.ctime = time


def _check_mode(mode: int | None) -> None:
    if mode is not None and not 0 <= mode <= PERMISSIONS:
        raise _damage(f"mode {mode:o} is more than permission bits")


def _damage(what: str) -> JournalDamaged:
    return JournalDamaged(f"the journal contradicts itself: {what}")
