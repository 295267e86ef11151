"""Bring a tree that stands on one generation onto a later one, which others have published.

By path, three sides are compared: the *base* that the session was served, *ours*, its tree now, and
*theirs*, the later generation. Changed on one side ⇒ that side. On both, to different things ⇒ ours
becomes a conflict copy beside theirs. Deleted here and changed there ⇒ theirs stays. Changed here
and deleted there ⇒ ours is new. A directory goes only when nothing is left in it, and comes back
where something in it is needed. Modes, times and xattrs alone make no conflict: what was not
changed here is theirs.

The outcome is a series of records, each carried out before the next is decided. A process that dies
in the middle leaves a tree that still stands on its base; to begin again is right.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pdfs.core.content import Content
from pdfs.core.entries import Entry
from pdfs.core.generation import entering
from pdfs.core.ids import TOP, Inode, ObjectName, Path, PublishId
from pdfs.core.keys import ancestors, leaf, parent
from pdfs.core.manifest import Manifest, Top
from pdfs.core.node import Node
from pdfs.core.plan import ConflictNames, is_conflict_copy
from pdfs.core.record import (
    Create,
    Drop,
    Found,
    Kind,
    Link,
    Record,
    Rename,
    SetAttributes,
    Settled,
    SetXattr,
    Unlink,
)
from pdfs.core.tree import Tree

Commit = Callable[[Record], object]
"""Journals a record and applies it to the tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """What is at a path, on one side."""

    kind: Kind
    content: Content | None = None
    """Of a file; None while it holds bytes that were written here."""
    special: tuple[str, int] = ("", 0)
    """A symlink's target, a device's number."""

    def is_same(self, other: "Thing") -> bool:
        """Whether both are known to be the same, attributes apart."""
        if self.kind is not other.kind or self.special != other.special:
            return False
        return self.kind is not Kind.FILE or _are_same_bytes(self.content, other.content)


def _are_same_bytes(one: Content | None, other: Content | None) -> bool:
    if one is None or other is None:
        return False
    return one.size == other.size == 0 or one.is_same(other)


def rebase(
    tree: Tree,
    base: Manifest,
    theirs: Manifest,
    name: ObjectName,
    *,
    commit: Commit,
    new_inode: Callable[[], Inode],
    names: ConflictNames,
    time: int,
) -> None:
    """Bring `tree`, which stands on `base`, onto `theirs`.

    `name` is that of `theirs`; `commit` applies to `tree`. `names` knows the paths of both.
    """
    _Rebasing(tree, base, theirs, commit, new_inode, names, time).run(name)


def unpublished_copies(tree: Tree, user: str, machine: str) -> tuple[Path, ...]:
    """Conflict copies of this user's work, files or directories, that no generation has yet."""
    found: dict[Path, None] = {}
    for path, node in tree.walk():
        if node.is_file and path not in tree.known:
            for place in (path, *ancestors(path)):
                if is_conflict_copy(leaf(place), user, machine):
                    found[place] = None
    return tuple(found)


class _Rebasing:
    """One tree on its way."""

    def __init__(
        self,
        tree: Tree,
        base: Manifest,
        theirs: Manifest,
        commit: Commit,
        new_inode: Callable[[], Inode],
        names: ConflictNames,
        time: int,
    ) -> None:
        self.tree = tree
        self.theirs = theirs
        self.commit = commit
        self.new_inode = new_inode
        self.names = names
        self.time = time
        self.base_entries = base.by_path()
        self.base_tops = (base.top, theirs.top)
        self.their_entries = theirs.by_path()
        self.ours = dict(tree.walk())
        self.base_things = self._base_things()
        self.aside: set[Path] = set()
        self.leaving: set[Path] = set()
        self.entering: set[Path] = set()
        self.staying: dict[Path, Node] = {}
        self.entered: dict[Inode, Inode] = {}
        self._shared: set[Inode] = set()
        """Files that have a name which is the same on both sides."""

    def run(self, name: ObjectName) -> None:
        for path in sorted(self.base_things.keys() | self.ours.keys() | self.their_entries.keys()):
            self._decide(path)
        for path in list(self.entering):
            self._need_directories(path)
        self._shared = {
            node.ino
            for path, node in self.staying.items()
            if self.their_entries[path].ino == node.ino
        }
        attributes = list(self._attributes())
        for path in sorted(self.aside):
            self._put_aside(path)
        for path in sorted(self.leaving, reverse=True):
            self._leave(path)
        for path in sorted(self.entering):
            self._enter(path, self.their_entries[path])
        for record in attributes:
            self.commit(record)
        self._stand_on(name)

    # --- deciding -----------------------------------------------------------------------------

    def _base_things(self) -> dict[Path, Thing]:
        """What this session was served: of plain objects that is known, the rest is in the base."""
        served = {
            path: _thing_of(entry)
            for path, entry in self.base_entries.items()
            if entry.content is None or entry.etag is None
        }
        known = {
            path: Thing(kind=Kind.FILE, content=content)
            for path, content in self.tree.known.items()
        }
        return served | known

    def _decide(self, path: Path) -> None:
        base, node = self.base_things.get(path), self.ours.get(path)
        entry = self.their_entries.get(path)
        ours = None if node is None else _thing_at(node)
        theirs = None if entry is None else _thing_of(entry)
        if _are_same(base, theirs) or _are_same(ours, theirs):
            if node is not None and theirs is not None:
                self.staying[path] = node
        elif _are_same(base, ours) or ours is None:
            self._take_theirs(path, ours, theirs)
        elif theirs is not None:
            self.aside.add(path)
            self.entering.add(path)

    def _take_theirs(self, path: Path, ours: Thing | None, theirs: Thing | None) -> None:
        if ours is not None:
            self.leaving.add(path)
        if theirs is not None:
            self.entering.add(path)

    def _need_directories(self, path: Path) -> None:
        """All directories above what enters: where ours is something else, it is put aside."""
        for above in ancestors(path):
            node = self.ours.get(above)
            if node is None or not node.is_directory:
                self.entering.add(above)
                self.staying.pop(above, None)
            if node is not None and not node.is_directory and above not in self.leaving:
                self.aside.add(above)

    # --- names --------------------------------------------------------------------------------

    def _put_aside(self, path: Path) -> None:
        """Give our name away, for a conflict copy beside it."""
        copy, holder = self.names.beside(path), self._holder(path)
        self.commit(
            Rename(
                parent=holder,
                name=leaf(path),
                new_parent=holder,
                new_name=leaf(copy),
                time=self.time,
            )
        )

    def _holder(self, path: Path) -> Inode:
        """The directory that had this name of ours, wherever that directory is now."""
        return self.ours[parent(path)].ino if parent(path) else TOP

    def _leave(self, path: Path) -> None:
        """Take a name that theirs removed or replaced out of the tree."""
        node = self.ours[path]
        if node.entries:  # something of ours is left in it
            if path in self.entering:
                self._put_aside(path)
            return
        holder = self._holder(path)
        self.commit(Unlink(parent=holder, name=leaf(path), time=self.time))
        if node.ino in self.tree.orphans:
            self.commit(Drop(ino=node.ino))

    def _enter(self, path: Path, entry: Entry) -> None:
        holder = self.tree.find(parent(path))
        assert holder is not None, "what is above has entered before"
        there = self.tree.child(holder.ino, leaf(path))
        if there is not None and there.is_directory:
            return
        ino = self.entered.get(entry.ino) or self._linked(entry)
        if ino is not None:
            self.commit(Link(ino=ino, parent=holder.ino, name=leaf(path), time=self.time))
            return
        ino = self.new_inode() if entry.ino in self.tree.nodes else entry.ino
        self.entered[entry.ino] = ino
        self.commit(self._making(entry, holder.ino, ino))
        for key, value in sorted(entry.xattrs.items()):
            self.commit(SetXattr(ino=ino, name=key, value=value, time=self.time))
        if entry.content is None:
            self.commit(SetAttributes(ino=ino, mtime=entry.mtime, time=self.time))

    def _linked(self, entry: Entry) -> Inode | None:
        """Our node of that number, if it is the same file, and has a name that both sides know.

        Without one, both have renamed it: two files from here on.
        """
        node = self.tree.nodes.get(entry.ino)
        if node is None or node.is_directory or entry.ino not in self._shared:
            return None
        return node.ino if _thing_at(node).is_same(_thing_of(entry)) else None

    def _making(self, entry: Entry, holder: Inode, ino: Inode) -> Create | Found:
        if entry.content is not None:
            return entering(entry, entry.content, holder, ino, self.tree, time=self.time)
        top = self.tree.nodes[TOP]
        return Create(
            parent=holder,
            name=leaf(entry.path),
            ino=ino,
            kind=entry.kind,
            mode=entry.mode,
            uid=top.uid,
            gid=top.gid,
            time=self.time,
            rdev=entry.rdev,
            target=entry.target,
        )

    # --- attributes ---------------------------------------------------------------------------

    def _attributes(self) -> Iterator[Record]:
        """For what stays: the attributes that were not changed here become theirs.

        Decided before any name is changed, since that stamps the times of directories.
        """
        mine, base, their = self.tree.nodes[TOP], *self.base_tops
        yield from self._merged(mine, base, their)
        done = {TOP}
        for path, node in self.staying.items():
            if node.ino in done:
                continue
            done.add(node.ino)
            yield from self._merged(node, self.base_entries.get(path), self.their_entries[path])

    def _merged(
        self, node: Node, base: Entry | Top | None, theirs: Entry | Top
    ) -> Iterator[Record]:
        was = theirs if base is None else base
        has_bytes = node.is_file and not node.is_clean
        mode = node.mode if base is not None and node.mode != was.mode else theirs.mode
        is_older = base is None or node.mtime == was.mtime
        mtime = theirs.mtime if is_older and not has_bytes else node.mtime
        if (mode, mtime) != (node.mode, node.mtime) or node.is_directory:
            yield SetAttributes(ino=node.ino, mode=mode, mtime=mtime, time=self.time)
        if base is None or node.xattrs == was.xattrs:
            for key in sorted(node.xattrs.keys() | theirs.xattrs.keys()):
                value = theirs.xattrs.get(key)
                if node.xattrs.get(key) != value:
                    yield SetXattr(ino=node.ino, name=key, value=value, time=self.time)

    # --- standing -----------------------------------------------------------------------------

    def _stand_on(self, name: ObjectName) -> None:
        """From here on the tree stands on `theirs`: its homes, and what plain objects it knows."""
        contents: list[Content] = []
        bases: dict[Inode, int] = {}
        known: list[tuple[Path, int]] = []
        for path, content in self._their_files():
            node = self.tree.find(path)
            is_known = content.etag_at(path) is not None and self.tree.known.get(path) != content
            is_base = node is not None and node.is_file and _are_same_bytes(node.base, content)
            if is_known:
                known.append((path, len(contents)))
            if node is not None and is_base and node.base != content:
                bases[node.ino] = len(contents)
            if is_known or is_base:
                contents.append(content)
        there = {path for path, content in self._their_files() if content.etag_at(path) is not None}
        self.commit(
            Settled(
                publish=self.theirs.publish or PublishId(name),
                generation=self.theirs.generation,
                tree=name,
                contents=tuple(contents),
                bases=tuple(bases.items()),
                known=(*known, *((path, -1) for path in sorted(self.tree.known.keys() - there))),
            )
        )

    def _their_files(self) -> Iterator[tuple[Path, Content]]:
        for entry in self.theirs.entries:
            if entry.content is not None:
                yield entry.path, entry.content


def _thing_of(entry: Entry) -> Thing:
    return Thing(kind=entry.kind, content=entry.content, special=(entry.target, entry.rdev))


def _thing_at(node: Node) -> Thing:
    content = node.base if node.is_file and node.is_clean else None
    return Thing(kind=node.kind, content=content, special=(node.target, node.rdev))


def _are_same(one: Thing | None, other: Thing | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.is_same(other)
