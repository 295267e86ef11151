"""What became of a committed plan, as a manifest, and as a record for the tree that is mounted.

committed manifest + outcomes ──settle──▶ settled manifest
committed + settled manifest ──settlement_of──▶ settlement
settlement + tree that went on meanwhile ──settled_record──▶ record for it
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pdfs.core.content import Content, ETag
from pdfs.core.entries import Entry
from pdfs.core.generation import entering
from pdfs.core.ids import Inode, ObjectName, Path, PublishId, Sequence
from pdfs.core.keys import ancestors, leaf, parent
from pdfs.core.manifest import Manifest, relinked
from pdfs.core.plan import Plan
from pdfs.core.record import Found, Kind, Rename, Settled
from pdfs.core.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Theirs:
    """Another tool's object, as an answer of the store described it."""

    etag: ETag
    size: int
    mtime: int
    """ns since 1970."""


@dataclass(frozen=True, slots=True)
class Done:
    """The plain object holds the step's content, at this ETag."""

    etag: ETag


@dataclass(frozen=True, slots=True)
class Deleted:
    """There is no plain object at the step's path."""


@dataclass(frozen=True, slots=True)
class Moved:
    """Somebody else's object has the path; ours is at `path`.

    Without an ETag it is there in the tree alone: its content keeps its home, and the next publish
    tries again."""

    path: Path
    etag: ETag | None
    theirs: Theirs | None


@dataclass(frozen=True, slots=True)
class Stays:
    """A delete was refused: somebody else's object is there."""

    theirs: Theirs


@dataclass(frozen=True, slots=True)
class SourceLost:
    """The content was found at none of its homes."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """Left undone by a user's word: a put's content keeps its home; the next publish tries."""


Outcome = Done | Deleted | Moved | Stays | SourceLost | SetAside


def settle(
    committed: Manifest,
    plan: Plan,
    outcomes: Mapping[Path, Outcome],
    *,
    new_inode: Callable[[], Inode],
) -> Manifest:
    """The committed generation as it is in the bucket now that every step has its outcome."""
    moved: dict[Path, Path] = {}
    for put in plan.puts:
        match outcomes[put.path]:
            case Moved(path=path):
                moved[put.path] = path
            case _:
                pass
    lost = _lost_inodes(committed, outcomes)
    etags = {moved.get(put.path, put.path): _etag_of(outcomes[put.path]) for put in plan.puts}
    entries = [
        replace(entry, path=moved.get(entry.path, entry.path), lost=entry.ino in lost or entry.lost)
        if entry.kind is Kind.FILE
        else entry
        for entry in committed.entries
    ]
    linked = list(relinked(entries, etags))
    taken = {entry.path: entry.kind for entry in linked}
    for path, theirs in _entering(plan, outcomes):
        linked += _enter(path, theirs, committed, taken, new_inode)
    aside = {
        step.path: step.expect for step in plan.steps if isinstance(outcomes[step.path], SetAside)
    }
    return replace(committed, entries=tuple(linked), aside=aside)


def still_aside(before: Manifest, committed: Manifest) -> frozenset[Path]:
    """What `before` has set aside, where the generation after it has the same content or none.

    A user's word was about that: what was changed since needs a word of its own.
    """
    was, now = before.by_path(), committed.by_path()
    return frozenset(path for path in before.aside if _is_same(was.get(path), now.get(path)))


def _is_same(before: Entry | None, now: Entry | None) -> bool:
    if before is None or now is None:
        return before is now
    if before.content is None or now.content is None:
        return before.content is now.content
    return before.content.is_same(now.content)


def _lost_inodes(committed: Manifest, outcomes: Mapping[Path, Outcome]) -> set[Inode]:
    """Files whose content was at none of its homes, and that no other name of theirs holds."""
    lost, held = set[Inode](), set[Inode]()
    for entry in committed.entries:
        match outcomes.get(entry.path):
            case SourceLost():
                lost.add(entry.ino)
            case Done() | Moved(etag=str()):
                held.add(entry.ino)
            case None if entry.etag is not None:
                held.add(entry.ino)
            case _:
                pass
    return lost - held


def _etag_of(outcome: Outcome) -> ETag | None:
    return outcome.etag if isinstance(outcome, Done | Moved) else None


def _entering(plan: Plan, outcomes: Mapping[Path, Outcome]) -> list[tuple[Path, Theirs]]:
    found: list[tuple[Path, Theirs]] = []
    paths = [*(put.path for put in plan.puts), *(step.path for step in plan.deletes)]
    for path in paths:
        match outcomes[path]:
            case Moved(theirs=Theirs() as theirs) | Stays(theirs=theirs):
                found.append((path, theirs))
            case _:
                pass
    return found


def most_entering(plan: Plan, outcomes: Mapping[Path, Outcome]) -> int:
    """How many inode numbers `settle` asks for at most."""
    return sum(1 + len(ancestors(path)) for path, _ in _entering(plan, outcomes))


def _enter(
    path: Path,
    theirs: Theirs,
    committed: Manifest,
    taken: dict[Path, Kind],
    new_inode: Callable[[], Inode],
) -> list[Entry]:
    """Entries for another tool's object, and for the directories above it that are missing."""
    above = ancestors(path)[::-1]
    if path in taken or any(taken.get(d, Kind.DIRECTORY) is not Kind.DIRECTORY for d in above):
        return []
    made = [
        Entry(path=d, ino=new_inode(), kind=Kind.DIRECTORY, mode=0o755, mtime=theirs.mtime)
        for d in above
        if d not in taken
    ]
    content = Content(size=theirs.size, digest=None)
    file = Entry(
        path=path, ino=new_inode(), kind=Kind.FILE, mode=0o644, mtime=theirs.mtime, content=content
    )
    taken.update({entry.path: entry.kind for entry in (*made, file)})
    return [*made, *relinked([file], {path: theirs.etag})]


# --- settled manifest to tree ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of a committed generation, as far as that is the same for every tree."""

    generation: int
    contents: Mapping[Inode, Content]
    """Of every file whose bytes were found."""
    known: Mapping[Path, Content]
    """What the plain objects hold, as far as that is known."""
    moved: tuple[tuple[Inode, Path, Path], ...]
    """Old and new name of each conflict copy."""
    entered: tuple[Entry, ...]
    """Objects of others, as new files."""


def settlement_of(committed: Manifest, settled: Manifest) -> Settlement:
    """What has to be told to a tree that stands on `committed`."""
    was_at, now_at = _places(committed), _places(settled)
    files = [entry for entry in settled.entries if entry.content is not None]
    return Settlement(
        generation=settled.generation,
        contents={e.ino: e.content for e in files if e.content is not None and not e.lost},
        known=settled.known(),
        moved=tuple(
            (ino, old, new)
            for ino, paths in was_at.items()
            if ino not in now_at or paths != now_at[ino]
            for old, new in zip(
                sorted(paths - now_at.get(ino, set())),
                sorted(now_at.get(ino, set()) - paths),
                strict=False,
            )
        ),
        entered=tuple(entry for entry in files if entry.ino not in was_at),
    )


def _places(manifest: Manifest) -> dict[Inode, set[Path]]:
    places: dict[Inode, set[Path]] = {}
    for entry in manifest.entries:
        places.setdefault(entry.ino, set()).add(entry.path)
    return places


def settled_record(
    tree: Tree,
    settlement: Settlement,
    name: ObjectName,
    *,
    publish: PublishId,
    sequence: Sequence | None,
    time: int,
) -> Settled:
    """What a settle means for a tree that may have changed since."""
    return _Settling(tree, settlement, time).record(name, publish, sequence)


class _Settling:
    """Collects one `Settled` record."""

    def __init__(self, tree: Tree, settlement: Settlement, time: int) -> None:
        self.tree = tree
        self.settlement = settlement
        self.time = time
        self.contents: list[Content] = []
        self.index: dict[int, int] = {}

    def record(self, name: ObjectName, publish: PublishId, sequence: Sequence | None) -> Settled:
        moves = self._moves()
        found, absent = self._found({(m.parent, m.name) for m in moves})
        return Settled(
            publish=publish,
            sequence=sequence,
            generation=self.settlement.generation,
            tree=name,
            bases=self._bases(),
            known=self._known(absent),
            moves=moves,
            found=found,
            contents=tuple(self.contents),
        )

    def _place(self, content: Content) -> int:
        if id(content) not in self.index:
            self.index[id(content)] = len(self.contents)
            self.contents.append(content)
        return self.index[id(content)]

    def _bases(self) -> tuple[tuple[Inode, int], ...]:
        nodes = self.tree.nodes
        return tuple(
            (ino, self._place(content))
            for ino, content in self.settlement.contents.items()
            if (node := nodes.get(ino)) is not None
            and not (node.is_clean and (node.base is content or node.base == content))
        )

    def _moves(self) -> tuple[Rename, ...]:
        """Conflict copies: our file gives its name away, wherever it still has that name."""
        moves = (self._move(*moved) for moved in self.settlement.moved)
        return tuple(move for move in moves if move is not None)

    def _move(self, ino: Inode, old: Path, new: Path) -> Rename | None:
        node, holder = self.tree.find(old), self.tree.find(parent(new))
        if node is None or node.ino != ino or holder is None or not holder.is_directory:
            return None
        if leaf(new) in holder.entries:
            return None
        source = self.tree.find(parent(old))
        assert source is not None
        return Rename(
            parent=source.ino,
            name=leaf(old),
            new_parent=holder.ino,
            new_name=leaf(new),
            time=self.time,
        )

    def _found(self, freed: set[tuple[Inode, str]]) -> tuple[tuple[Found, ...], set[Path]]:
        """Their objects that can enter the tree, and the paths of those that can't now."""
        found: list[Found] = []
        absent: set[Path] = set()
        for entry in self.settlement.entered:
            assert entry.content is not None
            holder, name = self.tree.find(parent(entry.path)), leaf(entry.path)
            if (
                holder is None
                or not holder.is_directory
                or (name in holder.entries and (holder.ino, name) not in freed)
            ):
                absent.add(entry.path)
            else:
                found.append(
                    entering(entry, entry.content, holder.ino, entry.ino, self.tree, time=self.time)
                )
        return tuple(found), absent

    def _known(self, absent: set[Path]) -> tuple[tuple[Path, int], ...]:
        now = self.settlement.known
        if absent:
            now = {path: content for path, content in now.items() if path not in absent}
        tree_knows = self.tree.known.get
        changes = [
            (path, self._place(content))
            for path, content in now.items()
            if (known := tree_knows(path)) is not content and known != content
        ]
        return (*changes, *((path, -1) for path in sorted(self.tree.known.keys() - now.keys())))
