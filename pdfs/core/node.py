"""One node of the tree: attributes, and for a file the layers that its bytes come from.

A byte of a file at `offset < size` is, in this order: in the extent that covers it; zero at and
above `limit`; else byte `offset` of `base`. A truncation lowers `limit` for good, so that what was
cut is never read back.

A stage has a million nodes, of which nearly all are files as they were mounted: what those don't
have (names, attributes, written bytes) is one empty value that they share, 360 bytes less for each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, cast

from pdfs.core.content import EMPTY, Content
from pdfs.core.ids import Inode
from pdfs.core.intervals import Extent, Extents
from pdfs.core.record import Kind

PERMISSIONS = 0o7777
"""The bits that a mode can have: what kind of file it is stands elsewhere."""

NO_NAMES: Final = cast(dict[str, Inode], MappingProxyType({}))
NO_XATTRS: Final = cast(dict[str, bytes], MappingProxyType({}))
NOT_WRITTEN: Final = Extents()
"""Shared and empty for ever: the first two refuse a change, and `Node.lay` replaces the third."""


@dataclass(slots=True, kw_only=True)
class Node:
    """A file, directory or special file. Only `Tree.apply` changes one."""

    ino: Inode
    kind: Kind
    mode: int
    uid: int
    gid: int
    atime: int
    mtime: int
    ctime: int
    links: int
    rdev: int = 0
    target: str = ""
    xattrs: dict[str, bytes] = field(default_factory=lambda: NO_XATTRS)
    entries: dict[str, Inode] = field(default_factory=lambda: NO_NAMES)
    """A directory's names, in the order of their making."""
    parent: Inode = Inode(0)
    """Of a directory."""
    size: int = 0
    base: Content = EMPTY
    limit: int = 0
    extents: Extents = field(default_factory=lambda: NOT_WRITTEN)

    def __post_init__(self) -> None:
        if self.is_directory and self.entries is NO_NAMES:
            self.entries = {}

    @property
    def is_directory(self) -> bool:
        return self.kind is Kind.DIRECTORY

    @property
    def is_file(self) -> bool:
        return self.kind is Kind.FILE

    @property
    def is_clean(self) -> bool:
        """Whether a file's bytes are exactly those of its base."""
        return not len(self.extents) and self.limit == self.size == self.base.size

    def copy(self) -> "Node":
        """The same node once more: names and attributes of either change without the other's."""
        entries = dict(self.entries) if self.is_directory else NO_NAMES
        return replace(self, entries=entries, xattrs=own_xattrs(self.xattrs))

    def frozen(self) -> "Node":
        """The node as it is now: it stays this, whatever becomes of the other one.

        Field by field, as a publish needs it of all nodes at once: `replace` takes ten times as
        long.
        """
        return Node(
            ino=self.ino,
            kind=self.kind,
            mode=self.mode,
            uid=self.uid,
            gid=self.gid,
            atime=self.atime,
            mtime=self.mtime,
            ctime=self.ctime,
            links=self.links,
            rdev=self.rdev,
            target=self.target,
            xattrs=own_xattrs(self.xattrs),
            entries=dict(self.entries) if self.entries else NO_NAMES,
            parent=self.parent,
            size=self.size,
            base=self.base,
            limit=self.limit,
            extents=self.extents.copy() if len(self.extents) else NOT_WRITTEN,
        )

    def enter(self, name: str, node: "Node") -> None:
        """Give `node` a name in this directory, which has none like it."""
        self.entries[name] = node.ino
        if node.is_directory:
            node.parent = self.ino
            node.links += 2
            self.links += 1
        else:
            node.links += 1

    def leave(self, name: str, node: "Node") -> None:
        """Take that name of `node` out of this directory."""
        del self.entries[name]
        if node.is_directory:
            node.links -= 2
            self.links -= 1
        else:
            node.links -= 1

    def load(self, content: Content) -> None:
        """Make `content` all that this file holds."""
        self.base, self.size, self.limit = content, content.size, content.size
        self.extents = NOT_WRITTEN

    def write(self, extent: Extent) -> None:
        """Lay written bytes over the file, which grows where they reach beyond it."""
        if extent.start < extent.stop:
            self.lay(extent)
            self.size = max(self.size, extent.stop)

    def lay(self, extent: Extent) -> None:
        """Lay bytes over the file within its size."""
        if self.extents is NOT_WRITTEN:
            self.extents = Extents()
        self.extents.put(extent)

    def set_xattr(self, name: str, value: bytes) -> None:
        """Give the node an attribute, or another value of it."""
        if self.xattrs is NO_XATTRS:
            self.xattrs = {}
        self.xattrs[name] = value

    def resize(self, size: int) -> None:
        """Cut at `size`, or extend to it with zeros."""
        if size < self.size:
            self.extents.cut(size)
            self.limit = min(self.limit, size)
        self.size = size

    def layers(self, start: int, stop: int) -> list["Layer"]:
        """Where each byte of `start` … `min(stop, size)` comes from, in order, without gaps."""
        stop = min(stop, self.size)
        found: list[Layer] = []
        for extent in self.extents.between(start, stop):
            found += self._below(start, extent.start)
            found.append(Written(extent))
            start = extent.stop
        return found + self._below(start, stop)

    def _below(self, start: int, stop: int) -> list["Layer"]:
        edge = max(start, min(stop, self.limit))
        based: list[Layer] = [Based(start, edge)] if start < edge else []
        return [*based, Zeros(edge, stop)] if edge < stop else based


def own_xattrs(xattrs: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same attributes, to be changed without any other node's."""
    return dict(xattrs) if xattrs else NO_XATTRS


@dataclass(frozen=True, slots=True)
class Written:
    """Bytes of the file that are in the journal."""

    extent: Extent


@dataclass(frozen=True, slots=True)
class Based:
    """Bytes `start` … `stop` of the file are those of its base."""

    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Zeros:
    """Bytes `start` … `stop` of the file are zero."""

    start: int
    stop: int


Layer = Written | Based | Zeros
