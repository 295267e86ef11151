"""From a generation to a tree and back: what is mounted, what is published, what became of it.

manifest ──tree_of──▶ tree ──draft_of──▶ draft ──(contents staged)──manifest_of──▶ manifest

What becomes of a manifest: `core.plan` and `core.settle`.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace

from pdfs.core.content import EMPTY, Content, Digest, ETag, Plain, SameBytes
from pdfs.core.entries import Entry
from pdfs.core.ids import TOP, Inode, ObjectName, Path, PublishId
from pdfs.core.keys import leaf, parent
from pdfs.core.lease import Unpublished
from pdfs.core.manifest import Kept, Manifest, Top, relinked
from pdfs.core.node import Node, own_xattrs
from pdfs.core.record import Found, Kind
from pdfs.core.tree import Tree, new_tree

# --- manifest to tree -------------------------------------------------------------------------


def tree_of(manifest: Manifest, name: ObjectName | None, *, uid: int, gid: int) -> Tree:
    """The tree that a mount of this generation begins with; every file belongs to uid and gid."""
    tree = new_tree(uid=uid, gid=gid, mode=manifest.top.mode, time=manifest.top.mtime)
    tree.generation, tree.base = manifest.generation, name
    tree.nodes[TOP].xattrs = own_xattrs(manifest.top.xattrs)
    directories: dict[Path, Node] = {Path(""): tree.nodes[TOP]}
    for entry in manifest.entries:
        node = tree.nodes.get(entry.ino) or _node_of(entry, uid=uid, gid=gid)
        tree.nodes[node.ino] = node
        holder = directories[parent(entry.path)]
        holder.entries[leaf(entry.path)] = node.ino
        if node.is_directory:
            directories[entry.path] = node
            node.parent, node.links = holder.ino, 2
            holder.links += 1
        else:
            node.links += 1
    tree.known = manifest.known()
    return tree


def _node_of(entry: Entry, *, uid: int, gid: int) -> Node:
    node = Node(
        ino=entry.ino,
        kind=entry.kind,
        mode=entry.mode,
        uid=uid,
        gid=gid,
        atime=entry.mtime,
        mtime=entry.mtime,
        ctime=entry.mtime,
        links=0,
        rdev=entry.rdev,
        target=entry.target,
        xattrs=own_xattrs(entry.xattrs),
    )
    if entry.content is not None:
        node.load(entry.content)
    elif node.kind is Kind.SYMLINK:
        node.size = len(entry.target.encode("utf-8", "surrogateescape"))
    return node


def entering(
    entry: Entry, content: Content, holder: Inode, ino: Inode, tree: Tree, *, time: int
) -> Found:
    """The record by which a file of a generation, with its `content`, enters `tree` as `ino`."""
    top = tree.nodes[TOP]
    return Found(
        parent=holder,
        name=leaf(entry.path),
        path=entry.path,
        ino=ino,
        mode=entry.mode,
        uid=top.uid,
        gid=top.gid,
        mtime=entry.mtime,
        time=time,
        content=content,
    )


# --- tree to manifest -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A tree as it would be published, before its new contents have homes."""

    top: Top
    entries: tuple[Entry, ...]
    """Files that are `changed` still have the content of their base."""
    changed: tuple[Inode, ...]
    """Files whose bytes need a home in a contents object before they can be put."""
    displaced: tuple[Content, ...]
    """Contents that will lose their last home when the plan is applied."""


def draft_of(tree: Tree, is_visible: Callable[[Path], bool]) -> Draft:
    """What publishing `tree` as it is now would have to make."""
    entries: list[Entry] = []
    changed: dict[Inode, None] = {}
    etags: dict[Path, ETag | None] = {}
    for path, node in tree.walk():
        entries.append(_entry_of(path, node))
        if node.is_file:
            etag = _etag_in_place(tree, path, node)
            if not node.is_clean or (etag is None and not node.base.outlives_plain):
                changed[node.ino] = None
            etags[path] = etag if etag is None or is_visible(path) else None
    linked = relinked(entries, etags)
    return Draft(
        top=_top_of(tree.nodes[TOP]),
        entries=linked,
        changed=tuple(changed),
        displaced=_displaced(tree, linked, changed),
    )


def _known(content: Content) -> Content:
    """The same content; what has no bytes is known, though nobody ever read it."""
    return content if content.size else EMPTY


def _displaced(
    tree: Tree, entries: tuple[Entry, ...], changed: Mapping[Inode, None]
) -> tuple[Content, ...]:
    """Known contents that are about to be replaced or deleted and can be read nowhere else."""
    staying = {entry.path for entry in entries if entry.etag is not None}
    staged = SameBytes(tree.nodes[ino].base for ino in changed if tree.nodes[ino].is_clean)
    found: list[Content] = []
    for path, content in sorted(tree.known.items()):
        if not (path in staying or content.outlives_plain or staged.has(content)):
            staged.add(content)
            found.append(content)
    return tuple(found)


def _etag_in_place(tree: Tree, path: Path, node: Node) -> ETag | None:
    """The ETag of the plain object at `path`, if it holds exactly what this file holds."""
    known = tree.known.get(path)
    if known is None or not node.is_clean:
        return None
    if known is not node.base and not known.is_same(node.base):
        return None
    return known.etag_at(path)


def _entry_of(path: Path, node: Node) -> Entry:
    return Entry(
        path=path,
        ino=node.ino,
        kind=node.kind,
        mode=node.mode,
        mtime=node.mtime,
        xattrs=dict(node.xattrs),
        target=node.target,
        rdev=node.rdev,
        content=_known(node.base) if node.is_file else None,
    )


def _top_of(node: Node) -> Top:
    return Top(mode=node.mode, mtime=node.mtime, xattrs=dict(node.xattrs))


def manifest_of(
    draft: Draft,
    staged: Mapping[Inode, Content],
    displaced: tuple[Content, ...],
    *,
    before: Manifest,
    predecessor: ObjectName | None,
    publish: PublishId,
    time: float,
    kept_for: float,
) -> Manifest:
    """The generation that follows `before`, once every changed file has a content with a home.

    A file of `draft.changed` that `staged` lacks could not be made whole: it is marked lost. Of the
    `displaced`, those whose digest nobody knew before have the plain homes that they lose.
    """
    entries = tuple(_with_staged(entry, draft.changed, staged) for entry in draft.entries)
    living = {e.content.digest for e in entries if e.content is not None and not e.lost}
    gone = [entry.content.with_plain() for entry in before.entries if entry.content is not None]
    young = {
        digest: kept
        for digest, kept in before.kept.items()
        if kept.time >= time - kept_for and (kept.was or digest not in living)
    }
    return Manifest(
        generation=before.generation + 1,
        publish=publish,
        time=time,
        predecessor=predecessor,
        top=draft.top,
        entries=entries,
        kept=_kept_of((*gone, *displaced), young, living, time),
    )


def _with_staged(
    entry: Entry, changed: tuple[Inode, ...], staged: Mapping[Inode, Content]
) -> Entry:
    if entry.content is None:
        return entry
    if entry.ino in staged:
        return replace(entry, content=staged[entry.ino].with_plain(*entry.content.plain))
    return replace(entry, lost=entry.ino in changed)


def _kept_of(
    contents: Iterable[Content],
    before: Mapping[Digest, Kept],
    living: set[Digest | None],
    time: float,
) -> dict[Digest, Kept]:
    """`before`, with contents that lose a name or their plain homes now.

    What a generation knows by a plain home alone is kept with it, also if its bytes go on living.
    """
    kept = dict(before)
    for content in contents:
        if content.digest is not None and content.packed:
            known = kept[content.digest].was if content.digest in kept else ()
            was = tuple(dict.fromkeys((*known, *content.plain)))
            if was or content.digest not in living:
                kept[content.digest] = Kept(content=content.with_plain(), time=time, was=was)
    return kept


def unread_homes(tree: Tree, inodes: Iterable[Inode]) -> dict[Inode, tuple[Plain, ...]]:
    """Of files that are as they were mounted, and whose bytes nobody knew: the plain homes."""
    nodes = (tree.nodes[ino] for ino in inodes)
    return {
        node.ino: node.base.plain for node in nodes if node.is_clean and node.base.digest is None
    }


def replaceable(tree: Tree, opened: Set[Inode]) -> dict[Path, Content]:
    """What a publish of `tree` may replace or delete: objects whose bytes its user was served.

    A program that saves once more what it has in memory has not seen what took the place of its
    file at a publish meanwhile, unless that is among the `opened`.
    """
    known = dict(tree.known)
    for path, ino in tree.unserved.items():
        node = tree.find(path)
        is_as_found = node is not None and node.ino == ino and node.is_clean
        if ino not in opened and not is_as_found:
            known.pop(path, None)
    return known


def unpublished_of(tree: Tree, is_visible: Callable[[Path], bool]) -> Unpublished:
    """Files, and bytes to send, by which the plain objects would differ from the tree."""
    files = size = 0
    names: set[Path] = set()
    for path, node in tree.walk():
        if node.is_file:
            names.add(path)
            is_settled = node.is_clean and (
                _etag_in_place(tree, path, node) is not None or not is_visible(path)
            )
            files += not is_settled
            size += 0 if node.is_clean else node.size
    return Unpublished(files=files + len(tree.known.keys() - names), bytes=size)


def invisible_files(tree: Tree, is_visible: Callable[[Path], bool]) -> list[Path]:
    """Files whose name no key can hold: the manifest has them, other tools don't see them."""
    # What is known has a plain object at its key, so only the others are asked about.
    return [
        path
        for path, node in tree.walk()
        if node.is_file and path not in tree.known and not is_visible(path)
    ]


def holds_work(tree: Tree) -> bool:
    """Whether this session did anything that is in no generation."""
    return tree.has_edits or bool(changed_files(tree))


def changed_files(tree: Tree) -> list[Path]:
    """Files that hold bytes which are in this session's journal alone."""
    return [path for path, node in tree.walk() if node.is_file and not node.is_clean]


# --- what a session did to names ----------------------------------------------------------------


def is_in_place(tree: Tree, path: Path, node: Node) -> bool:
    """Whether the bucket knows the bytes that an unchanged file had by this name, too."""
    known = tree.known.get(path)
    return known is not None and known.is_same(node.base)


def former_name(path: Path, node: Node) -> Path | None:
    """Another name by which the bucket has a file's bytes; None where there is none."""
    return next((home.path for home in node.base.plain if home.path != path), None)


def renamed_files(tree: Tree) -> dict[Path, Path]:
    """New names of files whose bytes are unchanged, and the old ones."""
    return {
        path: old
        for path, node in tree.walk()
        if node.is_file and node.is_clean and not is_in_place(tree, path, node)
        if (old := former_name(path, node)) is not None
    }


def removed_files(tree: Tree, old_names: Iterable[Path]) -> list[Path]:
    """Names in the bucket that this session took away; `old_names` went with a rename."""
    here = {path for path, node in tree.walk() if node.is_file}
    return sorted(tree.known.keys() - here - set(old_names))
