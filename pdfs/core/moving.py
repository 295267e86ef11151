"""From the generation that a mount shows to the next one, under processes that go on.

A node that the kernel knows is never changed under it: an inode number means the same bytes for as
long as the mount lives. So what has a new content has a new number, names that mean something else
are told to the kernel, and nodes that are gone, but still in use, live on without a name.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from itertools import count

from pdfs.core.entries import Entries, Entry
from pdfs.core.generation import tree_of
from pdfs.core.ids import MOST_FENCE, TOP, Fence, Inode, ObjectName, first_inode
from pdfs.core.manifest import Manifest
from pdfs.core.node import NO_NAMES, Node
from pdfs.core.record import Kind
from pdfs.core.tree import Tree

_FIRST_OWN = first_inode(Fence(MOST_FENCE + 1))
"""No session can give numbers from here on."""


class Numbers:
    """The inode numbers of one mount: those of the manifest, or its own where these mean others."""

    def __init__(self) -> None:
        self._own: dict[Inode, Inode] = {}
        """By the number in the manifest."""
        self._unused = count(_FIRST_OWN)

    def new(self) -> Inode:
        """A number that nothing in the stage or in this mount ever had."""
        return Inode(next(self._unused))

    def tree_of(
        self,
        manifest: Manifest,
        name: ObjectName | None,
        *,
        shown: Tree | None,
        in_use: Set[Inode],
        uid: int,
        gid: int,
    ) -> Tree:
        """The tree of a generation, to be shown after `shown`, whose nodes may be `in_use`.

        Requests may go on meanwhile. What comes into use then has a name in `shown`, and what has
        one is numbered without a look at whether it is in use; what goes out of use has at worst a
        new number for nothing.
        """
        if shown is not None:
            entries = Entries(self._numbered(manifest.entries, shown, in_use))
            manifest = replace(manifest, entries=entries)
        return tree_of(manifest, name, uid=uid, gid=gid)

    def _numbered(
        self, entries: Sequence[Entry], shown: Tree, in_use: Set[Inode]
    ) -> Iterator[Entry]:
        decided: dict[Inode, Inode] = {}
        for entry in entries:
            if entry.ino not in decided:
                decided[entry.ino] = self._number_of(entry, shown, in_use)
            ino = decided[entry.ino]
            yield entry if ino == entry.ino else replace(entry, ino=ino)
        self._own = {ino: own for ino, own in decided.items() if own != ino}

    def _number_of(self, entry: Entry, shown: Tree, in_use: Set[Inode]) -> Inode:
        ino = self._own.get(entry.ino, entry.ino)
        node = shown.nodes.get(ino)
        if node is None or ino in shown.orphans:
            return self.new() if ino in in_use else ino
        return ino if _is_same(node, entry) else self.new()


def _is_same(node: Node, entry: Entry) -> bool:
    """Whether what the kernel keeps of the node's bytes is right for the entry, too."""
    if node.kind is not entry.kind:
        return False
    match node.kind:
        case Kind.FILE:
            return entry.content is not None and node.base.is_same(entry.content)
        case Kind.SYMLINK:
            return node.target == entry.target
        case _:
            return node.rdev == entry.rdev


@dataclass(frozen=True, slots=True)
class Moved:
    """What the kernel has to forget after a move."""

    names: list[tuple[Inode, str]]
    """(directory, name) that stands for something else now, or for nothing."""
    attributes: list[Inode]
    """Nodes that have others now."""


def move(old: Tree, new: Tree, in_use: Set[Inode]) -> Moved:
    """Carry what is in use in `old` over into `new`, and tell in what they differ.

    `old` stays as it is: a listing that has begun in it ends in it.
    """
    moved = Moved([], [])
    for ino in sorted(in_use | {TOP}):
        before = old.nodes.get(ino)
        if before is None:
            continue
        if ino not in new.nodes:
            new.nodes[ino] = _without_name(before)
            new.orphans.add(ino)
        after = new.nodes[ino]
        moved.names.extend((ino, name) for name in _differing(before, after))
        if _attributes(before) != _attributes(after):
            moved.attributes.append(ino)
    return moved


def _without_name(node: Node) -> Node:
    """What is left of a node that has left the stage: for a directory, an empty one."""
    return replace(node, entries={} if node.is_directory else NO_NAMES, links=0)


def _differing(before: Node, after: Node) -> list[str]:
    names = {**before.entries, **after.entries}
    return [name for name in names if before.entries.get(name) != after.entries.get(name)]


def _attributes(node: Node) -> tuple[object, ...]:
    return (node.mode, node.size, node.links, node.mtime, node.ctime, node.xattrs)
