"""Somebody works on a stage, and a model beside it says what must be there at each moment."""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import inf
from pathlib import Path

from pdfs.core import snapshot
from pdfs.core.content import Content, Digest
from pdfs.core.ids import TOP, Fence, Inode, PublishId, Sequence, SessionId, object_name
from pdfs.core.intervals import NOWHERE, Extents
from pdfs.core.node import Based, Node, Written
from pdfs.core.record import (
    Create,
    Drop,
    Kind,
    Link,
    Publishing,
    Record,
    Rename,
    SetAttributes,
    Settled,
    Unlink,
    Write,
)
from pdfs.core.tree import Tree, new_tree
from pdfs.disk import Disk, OsDisk
from pdfs.local.journal import Journal
from pdfs.local.journal_files import SegmentFiles
from pdfs.local.ledger import Ledger
from pdfs.local.recovery import Recovered, begin, recover, reopen
from pdfs.local.session_directory import SessionDirectory
from pdfs.local.sizes import ALONE, JournalSizes
from pdfs.local.state import StateDirectory
from tests.local.journals import HEADER, SESSION
from tests.local.ledgers import inline, no_fetch

Shown = dict[str, tuple[int, bytes, bool]]
"""Mode and content of every file, by name, and whether all of it was published."""
Bucket = dict[Digest, bytes]
"""What was published."""

NAMES = ("a", "b", "c", "d", "e")


def shown(tree: Tree, files: SegmentFiles, bucket: Bucket) -> Shown:
    """What a process would see, read from the journal's files and the bucket."""
    found: Shown = {}
    for name, ino in tree.nodes[TOP].entries.items():
        node = tree.nodes[ino]
        found[name] = node.mode, content_of(node, files, bucket), node.is_clean
    return found


def content_of(node: Node, files: SegmentFiles, bucket: Bucket) -> bytes:
    pieces = []
    for layer in node.layers(0, node.size):
        match layer:
            case Written(extent) if extent.at.segment == NOWHERE.segment:
                pieces.append(b"?" * (extent.stop - extent.start))
            case Written(extent):
                length = extent.stop - extent.start
                pieces.append(files.read(extent.at.segment, extent.at.offset, length))
                assert len(pieces[-1]) == length
            case Based(start, stop):
                assert node.base.digest is not None
                pieces.append(bucket[node.base.digest][start:stop])
            case _:
                pieces.append(bytes(layer.stop - layer.start))
    return b"".join(pieces)


@dataclass(slots=True)
class Memory:
    """What an observer knows, through all crashes."""

    history: dict[int, Shown] = field(default_factory=dict)
    """What is to be seen after each record, by its number."""
    flights: dict[PublishId, dict[Inode, bytes]] = field(default_factory=dict)
    """What each publish includes."""
    bucket: Bucket = field(default_factory=dict)


@dataclass(slots=True)
class Desk:
    """Random operations on a ledger, and on the model; each is one record."""

    ledger: Ledger
    choice: random.Random
    memory: Memory
    largest: int = 400
    model: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Mode and content."""
    changed: set[Inode] = field(default_factory=set)
    """Since the publish that is under way began."""

    def __post_init__(self) -> None:
        before = self.memory.history.get(self.ledger.last, {})
        self.model = {name: (mode, data) for name, (mode, data, _) in before.items()}
        self.changed = set(self.ledger.tree.nodes)
        self._note()

    def step(self) -> None:
        """One operation that is possible now."""
        kinds = ["write"] * 12 + ["create", "cut", "cut", "rename", "unlink", "mode", "link"]
        kinds += ["publish", "settle", "drop", "drop"]
        while not self._try(self.choice.choice(kinds)):
            pass
        self._note()

    def _note(self) -> None:
        nodes, entries = self.ledger.tree.nodes, self.ledger.tree.nodes[TOP].entries
        self.memory.history[self.ledger.last] = {
            name: (mode, data, nodes[entries[name]].is_clean)
            for name, (mode, data) in self.model.items()
        }

    def _try(self, kind: str) -> bool:
        name, other = self.choice.choice(NAMES), self.choice.choice(NAMES)
        tree = self.ledger.tree
        match kind:
            case "create" if name not in self.model:
                self.create(name)
            case "write" if name in self.model:
                self.write(name)
            case "cut" if name in self.model:
                self.cut(name)
            case "rename" if name in self.model and name != other:
                if self.ino(name) == tree.nodes[TOP].entries.get(other):
                    return False
                self._commit(Rename(parent=TOP, name=name, new_parent=TOP, new_name=other, time=4))
                self.model[other] = self.model.pop(name)
            case "unlink" if name in self.model:
                self._commit(Unlink(parent=TOP, name=name, time=5))
                del self.model[name]
            case "mode" if name in self.model:
                self._commit(SetAttributes(ino=self.ino(name), time=6, mode=0o600))
                self._change(name, 0o600, self.model[name][1])
            case "link" if name in self.model and other not in self.model:
                self._commit(Link(ino=self.ino(name), parent=TOP, name=other, time=7))
                self.model[other] = self.model[name]
            case "publish" if tree.in_flight is None:
                self.publish()
            case "settle" if tree.in_flight is not None:
                self.settle()
            case "drop" if tree.orphans:
                self._commit(Drop(ino=self.choice.choice(sorted(tree.orphans))))
            case _:
                return False
        return True

    def create(self, name: str) -> None:
        self._commit(
            Create(
                parent=TOP,
                name=name,
                ino=self.ledger.new_inode(),
                kind=Kind.FILE,
                mode=0o644,
                uid=1000,
                gid=1000,
                time=1,
            )
        )
        self.model[name] = (0o644, b"")
        self._note()

    def write(self, name: str, offset: int | None = None, size: int | None = None) -> None:
        """Write somewhere, or at `offset`; some bytes, or `size`."""
        mode, old = self.model[name]
        if offset is None:
            offset = self.choice.randrange(min(len(old), 4 * self.largest) + 50)
        if size is None:
            size = self.choice.randrange(1, self.largest)
        data = self.choice.randbytes(size)
        self.ledger.commit(Write(ino=self.ino(name), offset=offset, time=2), data)
        new = old.ljust(offset, b"\0")
        self._change(name, mode, new[:offset] + data + new[offset + len(data) :])

    def cut(self, name: str, size: int | None = None) -> None:
        """Cut it to `size`, or to any; nothing where there is no such file."""
        mode, old = self.model.get(name, (0, b""))
        size = self.choice.randrange(len(old) + 100) if size is None else size
        if name not in self.model:
            return
        self._commit(SetAttributes(ino=self.ino(name), time=3, size=size))
        self._change(name, mode, old[:size].ljust(size, b"\0"))

    def publish(self) -> None:
        """Begin a publish of what there is now."""
        publish = PublishId(object_name(Fence(1), f"{self.ledger.last:x}"))
        self.changed = set()
        entries = self.ledger.tree.nodes[TOP].entries
        self.memory.flights[publish] = {ino: self.model[name][1] for name, ino in entries.items()}
        self._commit(Publishing(publish=publish, sequence=Sequence(self.ledger.last)))
        self._note()

    def settle(self) -> None:
        """All that the publish includes is in the bucket."""
        tree = self.ledger.tree
        assert tree.in_flight is not None
        flight = self.memory.flights[tree.in_flight.record.publish]
        held = {ino: data for ino, data in flight.items() if ino in tree.nodes}
        contents = [Content(size=len(data), digest=_digest(data)) for data in held.values()]
        self.memory.bucket |= {_digest(data): data for data in held.values()}
        self._commit(
            Settled(
                publish=tree.in_flight.record.publish,
                generation=tree.generation + 1,
                tree=object_name(Fence(1), "t"),
                contents=tuple(contents),
                bases=tuple((ino, index) for index, ino in enumerate(held)),
                known=(),
                sequence=tree.in_flight.record.sequence,
            )
        )
        for ino in held:
            assert tree.nodes[ino].is_clean or ino in self.changed, "it was published as a whole"
        self._note()

    def _change(self, name: str, mode: int, data: bytes) -> None:
        """Also under its other names."""
        ino = self.ino(name)
        self.changed.add(ino)
        for each, number in self.ledger.tree.nodes[TOP].entries.items():
            if number == ino:
                self.model[each] = (mode, data)
        self._note()

    def ino(self, name: str) -> Inode:
        return self.ledger.tree.nodes[TOP].entries[name]

    def _commit(self, record: Record) -> None:
        self.ledger.commit(record)


def _digest(data: bytes) -> Digest:
    return Digest(blake2b(data, digest_size=32).digest())


@dataclass(slots=True)
class Opened:
    """A session whose journal takes records."""

    ledger: Ledger
    journal: Journal
    directory: SessionDirectory
    recovered: Recovered | None


@contextmanager
def opened_session(
    root: Path, disk: Disk | None = None, *, sizes: JournalSizes = ALONE, fence: int = 1
) -> Iterator[Opened]:
    """The one session below `root`: begun, or recovered; left as by a crash."""
    disk = disk or OsDisk()
    with ExitStack() as stack:
        state = stack.enter_context(StateDirectory(disk, root))
        is_new = not state.sessions()
        state.remove_unbegun(inf)  # of an earlier life that ended before it was one
        open_session = state.create_session if is_new else state.open_session
        directory = stack.enter_context(open_session(SESSION))
        recovered = recover(disk, directory)
        if recovered is None:
            tree = new_tree(uid=1000, gid=1000)
            ledger, journal = begin(
                disk, directory, HEADER, tree, fetch=no_fetch, run_blocking=inline, sizes=sizes
            )
        else:
            ledger, journal = reopen(
                disk,
                directory,
                HEADER,
                recovered,
                fetch=no_fetch,
                run_blocking=inline,
                sizes=sizes,
            )
        stack.callback(journal.abandon)
        ledger.adopt(Fence(fence))
        yield Opened(ledger, journal, directory, recovered)


@dataclass(frozen=True, slots=True)
class Left:
    """What a crash left."""

    recovered: Recovered
    shown: Shown

    @property
    def last(self) -> int:
        return self.recovered.end.last_sequence


def left_in(root: Path, bucket: Bucket) -> Left | None:
    """What can be recovered there; nothing is changed. None where there is no work yet."""
    if not (root / "sessions" / SESSION).is_dir():
        return None
    with (
        StateDirectory(OsDisk(), root) as state,
        state.open_session(SessionId(SESSION)) as directory,
    ):
        recovered = recover(OsDisk(), directory)
        if recovered is None:
            return None
        files = SegmentFiles(OsDisk(), directory.descriptor)
        try:
            return Left(recovered, shown(recovered.tree, files, bucket))
        finally:
            files.close()


def tree_hash(root: Path, bucket: Bucket, disk: Disk) -> str:
    """Of all that a replay of the session below `root` gives, but where in its files bytes lie."""
    with (
        StateDirectory(disk, root) as state,
        state.open_session(SessionId(SESSION)) as directory,
    ):
        recovered = recover(disk, directory)
        assert recovered is not None
        files = SegmentFiles(disk, directory.descriptor)
        try:
            return _hash_of(recovered.tree, files, bucket)
        finally:
            files.close()


def _hash_of(tree: Tree, files: SegmentFiles, bucket: Bucket) -> str:
    flight, nodes, found = tree.in_flight, {}, blake2b(digest_size=32)
    boundary = NOWHERE if flight is None else flight.boundary
    for ino, node in sorted(tree.nodes.items()):
        nodes[ino] = replace(node, extents=Extents())
        written = [(each.start, each.stop, each.at >= boundary) for each in node.extents]
        found.update(f"{ino} {_joined(written)} ".encode())
        found.update(content_of(node, files, bucket))
    at_all = None if flight is None else replace(flight, boundary=NOWHERE)
    found.update(snapshot.encode(replace(tree, nodes=nodes, in_flight=at_all)))
    return found.hexdigest()


def _joined(written: list[tuple[int, int, bool]]) -> list[tuple[int, int, bool]]:
    """Neighbours as one: what is copied may be in other pieces."""
    joined: list[tuple[int, int, bool]] = []
    for start, stop, is_late in written:
        if joined and joined[-1][1:] == (start, is_late):
            start = joined.pop()[0]
        joined.append((start, stop, is_late))
    return joined


def seen(opened: Opened, memory: Memory) -> Shown:
    """What processes would see now."""
    files = SegmentFiles(OsDisk(), opened.directory.descriptor)
    try:
        return shown(opened.ledger.tree, files, memory.bucket)
    finally:
        files.close()


def files_in(root: Path) -> list[str]:
    """The names of all files of the one session below `root`."""
    return sorted(path.name for path in (root / "sessions" / SESSION).iterdir())
