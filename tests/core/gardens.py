"""A tree with a model beside it: a random user's records, and what every file then holds."""

import random
from dataclasses import dataclass, field

from pdfs.core import snapshot
from pdfs.core.content import EMPTY, Content, ETag, Plain, content_of
from pdfs.core.ids import TOP, Fence, Inode, Path, PublishId, Sequence, object_name
from pdfs.core.intervals import Position
from pdfs.core.keys import join
from pdfs.core.node import Based, Node, Written, Zeros
from pdfs.core.record import (
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
from pdfs.core.tree import Tree, new_tree

NAMES = ["a", "b", "c.dwg", "ä"]
SEGMENT = 400
"""Bytes after which the next segment begins."""


@dataclass(slots=True)
class Garden:
    """One tree, what was done to it, and what its files must hold."""

    chance: random.Random
    tree: Tree = field(default_factory=lambda: new_tree(uid=1000, gid=1000))
    history: list[tuple[Record, Position, int]] = field(default_factory=list)
    holds: dict[Inode, bytes] = field(default_factory=dict)
    """What each file that was ever made holds now."""
    bodies: dict[Content, bytes] = field(default_factory=lambda: {EMPTY: b""})
    journal: dict[Position, int] = field(default_factory=dict)
    """Each byte that was ever written."""
    at: Position = Position(1, 0)
    last_inode: int = 7 << 32
    clock: int = 0
    included: dict[Inode, bytes] = field(default_factory=dict)
    """What each file held when the publish that is under way began."""

    # --- doing ------------------------------------------------------------------------------------

    def commit(self, record: Record, data: bytes = b"") -> None:
        self.tree.apply(record, self.at, len(data))
        self.history.append((record, self.at, len(data)))
        for number, byte in enumerate(data):
            self.journal[Position(self.at.segment, self.at.offset + number)] = byte
        # A record has a header, so that two never have one position.
        self.at = Position(self.at.segment, self.at.offset + len(data) + 1)
        if self.at.offset > SEGMENT:
            self.at = Position(self.at.segment + 1, 0)

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def new_inode(self) -> Inode:
        self.last_inode += 1
        return Inode(self.last_inode)

    def create(self, parent: Inode, name: str, kind: Kind = Kind.FILE, target: str = "") -> Inode:
        ino = self.new_inode()
        self.commit(
            Create(
                parent=parent,
                name=name,
                ino=ino,
                kind=kind,
                mode=0o644,
                uid=1000,
                gid=1000,
                time=self.tick(),
                target=target,
            )
        )
        if kind is Kind.FILE:
            self.holds[ino] = b""
        return ino

    def write(self, ino: Inode, offset: int, data: bytes) -> None:
        self.commit(Write(ino=ino, offset=offset, time=self.tick()), data)
        old = self.holds[ino].ljust(offset, b"\0")
        self.holds[ino] = old[:offset] + data + old[offset + len(data) :]

    def resize(self, ino: Inode, size: int) -> None:
        self.commit(SetAttributes(ino=ino, time=self.tick(), size=size, mtime=self.clock))
        self.holds[ino] = self.holds[ino][:size].ljust(size, b"\0")

    def rename(self, old: Path, new: Path, *, exchange: bool = False) -> None:
        (source, name), (target, new_name) = self.holder(old), self.holder(new)
        self.commit(
            Rename(
                parent=source,
                name=name,
                new_parent=target,
                new_name=new_name,
                time=self.tick(),
                exchange=exchange,
            )
        )

    def unlink(self, path: Path) -> None:
        parent, name = self.holder(path)
        self.commit(Unlink(parent=parent, name=name, time=self.tick()))

    def link(self, ino: Inode, path: Path) -> None:
        parent, name = self.holder(path)
        self.commit(Link(ino=ino, parent=parent, name=name, time=self.tick()))

    def find_foreign(self, path: Path, data: bytes, etag: str) -> Inode:
        """Another tool's object enters at `path`, in place of what is there."""
        parent, name = self.holder(path)
        content = Content(size=len(data), digest=None, plain=(Plain(path, ETag(etag)),))
        self.bodies[content] = data
        ino = self.new_inode()
        self.commit(
            Found(
                parent=parent,
                name=name,
                path=path,
                ino=ino,
                mode=0o644,
                uid=1000,
                gid=1000,
                mtime=1,
                time=self.tick(),
                content=content,
            )
        )
        self.holds[ino] = data
        return ino

    def lose_foreign(self, path: Path, *, with_name: bool) -> None:
        """Another tool removed the object that is known at `path`."""
        time = self.tick()
        if with_name:
            parent, name = self.holder(path)
            self.commit(Gone(path=path, time=time, parent=parent, name=name))
        else:
            self.commit(Gone(path=path, time=time))

    def echo(self, path: Path, data: bytes) -> None:
        content = content_of(data).with_plain(Plain(path, ETag("late")))
        self.commit(Echoed(path=path, content=content))

    def begin_publish(self) -> None:
        """Include everything so far; a publish that was under way never committed."""
        self.commit(Publishing(publish=self._publish(), sequence=Sequence(len(self.history))))
        self.included = dict(self.holds)

    def settle(self, *, only: set[Inode] | None = None) -> None:
        """The publish that is under way is verified: what it included is the base of each file."""
        flight = self.tree.in_flight
        assert flight is not None
        contents, bases, known = (
            list[Content](),
            list[tuple[Inode, int]](),
            list[tuple[Path, int]](),
        )
        for ino, data in self.included.items():
            node = self.tree.nodes.get(ino)
            if node is None or (only is not None and ino not in only):
                continue
            content = content_of(data)
            self.bodies[content] = data
            bases.append((ino, len(contents)))
            contents.append(content)
        for path in list(self.tree.known):
            known.append((path, -1))
        self.commit(
            Settled(
                publish=flight.record.publish,
                sequence=flight.record.sequence,
                generation=self.tree.generation + 1,
                tree=object_name(Fence(7), f"t{len(self.history)}"),
                contents=tuple(contents),
                bases=tuple(bases),
                known=tuple(known),
            )
        )

    def _publish(self) -> PublishId:
        return PublishId(object_name(Fence(7), f"p{len(self.history)}"))

    # --- looking ----------------------------------------------------------------------------------

    def holder(self, path: Path) -> tuple[Inode, str]:
        directory, _, name = path.rpartition("/")
        node = self.tree.find(Path(directory))
        assert node is not None, path
        return node.ino, name

    def files(self) -> list[Inode]:
        return [ino for ino, node in self.tree.nodes.items() if node.is_file]

    def directories(self) -> list[Path]:
        return [Path(""), *(path for path, node in self.tree.walk() if node.is_directory)]

    def paths(self) -> list[Path]:
        return [path for path, _ in self.tree.walk()]

    def read(self, node: Node) -> bytes:
        """A file's bytes by its layers."""
        pieces = [self._piece(node, layer) for layer in node.layers(0, node.size + 5)]
        return b"".join(pieces)

    def _piece(self, node: Node, layer: Written | Based | Zeros) -> bytes:
        match layer:
            case Written(extent):
                at, length = extent.at, extent.stop - extent.start
                return bytes(
                    self.journal[Position(at.segment, at.offset + n)] for n in range(length)
                )
            case Based(start, stop):
                data = self.body(node.base)
                assert stop <= len(data)
                return data[start:stop]
            case Zeros(start, stop):
                return bytes(stop - start)

    def body_is(self, node: Node) -> bool:
        """Whether the base of a clean file is what the file must hold."""
        return self.body(node.base) == self.holds[node.ino]

    def body(self, content: Content) -> bytes:
        if content in self.bodies:
            return self.bodies[content]
        return next(data for other, data in self.bodies.items() if other.is_same(content))

    # --- chance -----------------------------------------------------------------------------------

    def grow(self, steps: int, *, foreign: bool = True, publishes: bool = True) -> None:
        """Random operations, each valid as a kernel would have made sure."""
        operations = [self._some_create, self._some_write, self._some_write, self._some_resize]
        operations += [self._some_rename, self._some_unlink, self._some_link, self._some_attribute]
        if foreign:
            operations += [self._some_foreign]
        if publishes:
            operations += [self._some_publish]
        for _ in range(steps):
            self.chance.choice(operations)()

    def _some_path(self) -> Path:
        return join(self.chance.choice(self.directories()), self.chance.choice(NAMES))

    def _some_create(self) -> None:
        path = self._some_path()
        if self.tree.find(path) is None:
            kind = self.chance.choice(
                [Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO]
            )
            target = "../ä" if kind is Kind.SYMLINK else ""
            self.create(*self.holder(path), kind, target)

    def _some_write(self) -> None:
        if self.files():
            data = self.chance.randbytes(self.chance.choice([1, 3, 20]))
            self.write(self.chance.choice(self.files()), self.chance.randrange(40), data)

    def _some_resize(self) -> None:
        if self.files():
            self.resize(self.chance.choice(self.files()), self.chance.choice([0, 0, 5, 15, 60]))

    def _some_rename(self) -> None:
        if not self.paths():
            return
        old, new = self.chance.choice(self.paths()), self._some_path()
        moved, over = self.tree.find(old), self.tree.find(new)
        assert moved is not None
        exchange = over is not None and self.chance.random() < 0.3
        if moved is over or f"{new}/".startswith(f"{old}/") or f"{old}/".startswith(f"{new}/"):
            return
        if over is None or exchange:
            self.rename(old, new, exchange=exchange)
        elif over.is_directory is moved.is_directory and not over.entries:
            self.rename(old, new)

    def _some_unlink(self) -> None:
        removable = [path for path, node in self.tree.walk() if not node.entries]
        if removable and self.chance.random() < 0.6:
            self.unlink(self.chance.choice(removable))
        if self.tree.orphans and self.chance.random() < 0.5:
            self.commit(Drop(ino=self.chance.choice(sorted(self.tree.orphans))))

    def _some_link(self) -> None:
        path = self._some_path()
        nodes = [node.ino for node in self.tree.nodes.values() if not node.is_directory]
        if nodes and self.tree.find(path) is None:
            self.link(self.chance.choice(nodes), path)

    def _some_attribute(self) -> None:
        ino = self.chance.choice(list(self.tree.nodes))
        value = self.chance.choice([b"", b"x", None])
        if value is not None or "user.x" in self.tree.nodes[ino].xattrs:
            self.commit(SetXattr(ino=ino, name="user.x", time=self.tick(), value=value))
        self.commit(SetAttributes(ino=ino, time=self.tick(), mode=self.chance.randrange(0o1000)))

    def _some_foreign(self) -> None:
        known = list(self.tree.known)
        if known and self.chance.random() < 0.5:
            path = self.chance.choice(known)
            node = self.tree.find(path)
            if self.chance.random() < 0.3:
                self.echo(path, b"late")
            else:
                self.lose_foreign(path, with_name=node is not None and not node.is_directory)
            return
        path = self._some_path()
        node = self.tree.find(path)
        if node is None or not node.is_directory:
            data = self.chance.randbytes(self.chance.choice([0, 5, 30]))
            self.find_foreign(path, data, f"etag{len(self.history)}")

    def _some_publish(self) -> None:
        if self.tree.in_flight is None or self.chance.random() < 0.2:
            self.begin_publish()
        else:
            self.settle()


# --- what holds for every tree --------------------------------------------------------------------


def check(garden: Garden) -> None:
    """Every file holds what the model says, and the tree's own counts agree with each other."""
    tree = garden.tree
    for ino in garden.files():
        node = tree.nodes[ino]
        assert garden.read(node) == garden.holds[ino], ino
        assert node.size == len(garden.holds[ino])
        assert 0 <= node.limit <= node.base.size
        assert not node.is_clean or garden.body_is(node)
    check_counts(tree)


def check_counts(tree: Tree) -> None:
    names: dict[Inode, int] = {}
    subdirectories: dict[Inode, int] = {}
    for _, node in tree.walk():
        names[node.ino] = names.get(node.ino, 0) + 1
    for node in tree.nodes.values():
        for ino in node.entries.values():
            if tree.nodes[ino].is_directory:
                subdirectories[node.ino] = subdirectories.get(node.ino, 0) + 1
                assert tree.nodes[ino].parent == node.ino
    for ino, node in tree.nodes.items():
        named = names.get(ino, 0)
        if ino == TOP:
            assert node.links == 2 + subdirectories.get(ino, 0)
        elif node.is_directory:
            assert node.links == (2 + subdirectories.get(ino, 0) if named else 0)
        else:
            assert node.links == named
        assert (ino in tree.orphans) == (node.links == 0)


def body_of(tree: Tree) -> bytes:
    """All of a tree as bytes, to compare it."""
    return snapshot.encode(tree)
