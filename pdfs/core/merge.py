"""What other tools did to the plain objects, told from a listing and what is known.

Per key, in this order: the ETag that is known ⇒ ours. A file that is changed or open here ⇒ left
alone; the conditions of the next publish make the conflict copy. An *echo* (see
`stage.load.look_closer`) ⇒ ours stays, the next publish puts it right. Known but missing ⇒ removed
by another tool. Else ⇒ theirs enters as a new file; attributes that other tools can't set stay.

Keys that no file name can hold, and `a` beside `a/b`, are skipped with a warning.
"""

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field

from pdfs.core.content import Content, ETag, Plain
from pdfs.core.ids import TOP, Inode, Path
from pdfs.core.keys import ancestors, join, leaf, parent, why_no_file
from pdfs.core.node import Node
from pdfs.core.record import Create, Echoed, Found, Gone, Kind, Record
from pdfs.core.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One plain object of a listing."""

    path: str
    etag: ETag
    size: int
    mtime: int
    """ns since 1970: the object's Last-Modified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """A key that can't be shown as a file, and why."""

    path: str
    why: str


@dataclass(slots=True, kw_only=True)
class Merged:
    """What a listing means: records in the order in which they must be committed."""

    records: list[Record] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)


def differing(tree: Tree, rows: Iterable[Row]) -> list[Row]:
    """The rows whose object is not the one that is known, and that a file can have."""
    return [
        row
        for row in rows
        if why_no_file(row.path) is None and _known_etag(tree, Path(row.path)) != row.etag
    ]


def merge_listing(
    tree: Tree,
    rows: Iterable[Row],
    *,
    busy: Set[Inode],
    echoes: Mapping[Path, Content],
    new_inode: Callable[[], Inode],
    time: int,
    umask: int = 0o022,
) -> Merged:
    """The records that bring a whole listing of the stage's plain objects into `tree`.

    `busy` are files that somebody has open; `echoes` are objects found to be late writes of our
    own, with what they hold.
    """
    return _Merging(tree, busy, echoes, new_inode, time, umask).merged(list(rows))


class _Merging:
    """Collects the outcome of one listing."""

    def __init__(
        self,
        tree: Tree,
        busy: Set[Inode],
        echoes: Mapping[Path, Content],
        new_inode: Callable[[], Inode],
        time: int,
        umask: int,
    ) -> None:
        self.tree = tree
        self.busy = busy
        self.echoes = echoes
        self.new_inode = new_inode
        self.time = time
        self.umask = umask
        self.out = Merged()
        self.made: dict[Path, Inode] = {}
        self.leaving: set[Path] = set()

    def merged(self, rows: list[Row]) -> Merged:
        files = [row for row in rows if self._is_file(row)]
        above = {directory for row in files for directory in ancestors(Path(row.path))}
        listed = {Path(row.path) for row in files}
        for path in sorted(self.tree.known.keys() - listed):
            self._gone(path)
        for row in files:
            path = Path(row.path)
            if path in above:
                self._warn(row, "other objects have it as their directory")
            elif _known_etag(self.tree, path) != row.etag:
                self._differs(path, row)
        return self.out

    def _is_file(self, row: Row) -> bool:
        if row.path == "" or (row.path.endswith("/") and row.size == 0):
            return False  # what other tools leave to show a directory
        why = why_no_file(row.path)
        if why is not None:
            self._warn(row, why)
        return why is None

    def _warn(self, row: Row, why: str) -> None:
        self.out.warnings.append(Warned(path=row.path, why=why))

    def _gone(self, path: Path) -> None:
        node = self.tree.find(path)
        if node is not None and not self._is_ours_to_keep(path, node):
            holder = self.tree.find(parent(path))
            assert holder is not None
            self.leaving.add(path)
            self.out.records.append(
                Gone(path=path, time=self.time, parent=holder.ino, name=leaf(path))
            )
        elif node is None or node.ino not in self.busy:
            self.out.records.append(Gone(path=path, time=self.time))

    def _is_ours_to_keep(self, path: Path, node: Node) -> bool:
        """Whether the tree holds a change of this session at `path`, or somebody has it open."""
        known = self.tree.known.get(path)
        if known is None or not node.is_file or not node.is_clean or node.ino in self.busy:
            return True
        return not known.is_same(node.base)

    def _differs(self, path: Path, row: Row) -> None:
        echo = self.echoes.get(path)
        if echo is not None:
            self.out.records.append(Echoed(path=path, content=echo))
            return
        node = self.tree.find(path)
        if node is not None and not node.is_file:
            self._warn(row, f"a {node.kind} has its name here")
            return
        if node is not None and self._is_ours_to_keep(path, node):
            return
        if node is None and path in self.tree.known:
            return  # removed or renamed here: the delete's own condition will find theirs
        holder = self._directory(parent(path), row)
        if holder is not None:
            self.out.records.append(self._found(path, row, holder, node))

    def _found(self, path: Path, row: Row, holder: Inode, old: Node | None) -> Found:
        top = self.tree.nodes[TOP]
        return Found(
            parent=holder,
            name=leaf(path),
            path=path,
            ino=self.new_inode(),
            mode=0o666 & ~self.umask if old is None else old.mode,
            uid=top.uid,
            gid=top.gid,
            mtime=row.mtime,
            time=self.time,
            content=Content(size=row.size, digest=None, plain=(Plain(path, row.etag),)),
        )

    def _directory(self, path: Path, row: Row) -> Inode | None:
        """The directory of that path, made with all above it where it is missing."""
        holder = TOP
        at = Path("")
        for name in path.split("/") if path else ():
            at = join(at, name)
            node = self.tree.find(at)
            if at in self.made:
                holder = self.made[at]
            elif node is None or at in self.leaving:
                holder = self._make(at, holder, name)
            elif node.is_directory:
                holder = node.ino
            else:
                self._warn(row, f"{at!r} is not a directory here")
                return None
        return holder

    def _make(self, path: Path, holder: Inode, name: str) -> Inode:
        top = self.tree.nodes[TOP]
        ino = self.new_inode()
        self.made[path] = ino
        self.out.records.append(
            Create(
                parent=holder,
                name=name,
                ino=ino,
                kind=Kind.DIRECTORY,
                mode=0o777 & ~self.umask,
                uid=top.uid,
                gid=top.gid,
                time=self.time,
            )
        )
        return ino


def _known_etag(tree: Tree, path: Path) -> ETag | None:
    known = tree.known.get(path)
    return None if known is None else known.etag_at(path)
