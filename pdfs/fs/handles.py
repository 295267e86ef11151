"""What processes have in use: open files and directories, and nodes that the kernel knows.

A node without a name lives on as long as it is in use.
"""

from collections.abc import Iterator, Set
from errno import EBADF
from itertools import count
from typing import NamedTuple

from pdfs.core.ids import Inode
from pdfs.core.node import Node
from pdfs.core.tree import Tree
from pdfs.fs.error import FsError
from pdfs.fs.names import raw_of


class OpenFile:
    """One open(2) of a file."""

    __slots__ = ("is_writable", "node")

    def __init__(self, node: Node, *, is_writable: bool) -> None:
        self.node = node
        self.is_writable = is_writable


class Listed(NamedTuple):
    """One name of a directory listing."""

    name: bytes
    node: Node
    next: int
    """Where a listing goes on behind it."""
    is_dot: bool
    """`.` or `..`: the kernel counts no look-up for it."""
    is_past: bool
    """Of a generation that is shown no more: the listing began in it, and ends in it."""


class OpenDirectory:
    """One opendir(3): the names as they were when its first one was asked for."""

    __slots__ = ("_names", "_tree", "node")

    def __init__(self, node: Node) -> None:
        self.node = node
        self._tree: Tree | None = None
        self._names: list[str] = []

    def listed(self, tree: Tree, start: int) -> Iterator[Listed]:
        """The names from `start` on; 0 = from the first one, as they are now.

        Whatever changes meanwhile, no name comes twice, and none with what it no longer means.
        """
        if start == 0 or self._tree is None:
            self.node = tree.nodes.get(self.node.ino, self.node)
            self._tree, self._names = tree, list(self.node.entries)
        is_past = self._tree is not tree
        above = self._tree.nodes.get(self.node.parent, self.node)
        dots = ((b".", self.node), (b"..", above))
        for at, (name, node) in enumerate(dots[start:], start + 1):
            yield Listed(name, node, at, is_dot=True, is_past=is_past)
        first = max(start - len(dots), 0)
        for at, text in enumerate(self._names[first:], len(dots) + first + 1):
            child = self._tree.child(self.node.ino, text)
            if child is not None:
                yield Listed(raw_of(text), child, at, is_dot=False, is_past=is_past)


class InUse:
    """Handles by number, and per node: how often it is open, how often the kernel looked it up."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._files: dict[int, OpenFile] = {}
        self._directories: dict[int, OpenDirectory] = {}
        self._opened: dict[Inode, int] = {}
        self._looked_up: dict[Inode, int] = {}

    def __contains__(self, ino: Inode) -> bool:
        return ino in self._looked_up or ino in self._opened

    def open_file(self, node: Node, *, is_writable: bool) -> int:
        """A new handle of a file."""
        handle = next(self._numbers)
        self._files[handle] = OpenFile(node, is_writable=is_writable)
        self._opened[node.ino] = self._opened.get(node.ino, 0) + 1
        return handle

    def open_directory(self, node: Node) -> int:
        """A new handle of a directory."""
        handle = next(self._numbers)
        self._directories[handle] = OpenDirectory(node)
        self._opened[node.ino] = self._opened.get(node.ino, 0) + 1
        return handle

    def file(self, handle: int) -> OpenFile:
        """Raises FsError where there is no such handle."""
        try:
            return self._files[handle]
        except KeyError:
            raise FsError(EBADF) from None

    def directory(self, handle: int) -> OpenDirectory:
        """Raises FsError where there is no such handle."""
        try:
            return self._directories[handle]
        except KeyError:
            raise FsError(EBADF) from None

    def release(self, handle: int) -> Inode:
        """Close a handle. Raises FsError where there is none of that number."""
        opened = self._files.pop(handle, None) or self._directories.pop(handle, None)
        if opened is None:
            raise FsError(EBADF)
        _take(self._opened, opened.node.ino, 1)
        return opened.node.ino

    def note_lookup(self, ino: Inode) -> None:
        """The kernel was told of a node, and knows it until it forgets it."""
        self._looked_up[ino] = self._looked_up.get(ino, 0) + 1

    def forget(self, ino: Inode, count: int) -> None:
        """The kernel takes back `count` look-ups."""
        _take(self._looked_up, ino, count)

    def inodes(self) -> Set[Inode]:
        """Every node that is open somewhere, or that the kernel knows, as of now."""
        return self._looked_up.keys() | self._opened.keys()

    def files(self) -> Set[Inode]:
        """Every file that is open somewhere, as of now."""
        return frozenset(file.node.ino for file in self._files.values())

    def clear(self) -> None:
        """There is no process and no kernel any more."""
        for table in (self._files, self._directories, self._opened, self._looked_up):
            table.clear()


def _take(counts: dict[Inode, int], ino: Inode, count: int) -> None:
    left = counts.get(ino, 0) - count
    if left > 0:
        counts[ino] = left
    else:
        counts.pop(ino, None)
