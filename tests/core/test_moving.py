"""Going over to another generation, against a kernel that keeps all that it was told."""

import random
from dataclasses import dataclass, field, replace

from pdfs.core.content import Content, content_of
from pdfs.core.entries import Entry
from pdfs.core.generation import tree_of
from pdfs.core.ids import TOP, Inode, ObjectName, Path
from pdfs.core.keys import parent
from pdfs.core.manifest import Manifest, never_published
from pdfs.core.moving import Numbers, move
from pdfs.core.node import Node
from pdfs.core.record import Kind
from pdfs.core.tree import Tree

NAMES = [Path(name) for name in ("a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a")]
NAME = ObjectName("000000000001-a")


def entry(path: str, ino: int, kind: Kind = Kind.FILE, data: bytes = b"x") -> Entry:
    content = content_of(data) if kind is Kind.FILE else None
    return Entry(path=Path(path), ino=Inode(ino), kind=kind, mode=0o644, mtime=1, content=content)


def manifest(*entries: Entry, generation: int = 1) -> Manifest:
    return replace(never_published(), generation=generation, entries=entries)


def tree(numbers: Numbers, made: Manifest, shown: Tree | None, in_use: set[Inode]) -> Tree:
    return numbers.tree_of(made, NAME, shown=shown, in_use=in_use, uid=0, gid=0)


def attributes(node: Node) -> tuple[object, ...]:
    return (node.kind, node.mode, node.size, node.links, node.mtime, node.target, node.rdev)


@dataclass(slots=True)
class Kernel:
    """Keeps names, attributes and pages for ever, but for what it is told to forget."""

    tree: Tree
    names: dict[tuple[Inode, str], Inode] = field(default_factory=dict)
    attributes: dict[Inode, tuple[object, ...]] = field(default_factory=dict)
    pages: dict[Inode, Content] = field(default_factory=dict)

    def known(self) -> set[Inode]:
        return set(self.attributes) - {TOP}

    def look_up(self, path: Path) -> Node | None:
        """Walk there, as far as possible by what is known already."""
        ino = TOP
        for name in path.split("/"):
            held = self.names.get((ino, name))
            found = self.tree.child(ino, name) if held is None else self.tree.nodes.get(held)
            if found is None:
                assert held is None, f"{path} was known, and is gone"
                return None
            self.names[ino, name] = found.ino
            self.attributes.setdefault(found.ino, attributes(found))
            ino = found.ino
        return self.tree.nodes[ino]

    def read(self, node: Node) -> None:
        if node.is_file:
            self.pages.setdefault(node.ino, node.base)

    def forget(self, ino: Inode) -> None:
        """What memory pressure does; a name below keeps its directory."""
        if any(holder == ino for holder, _ in self.names):
            return
        for name in [name for name, held in self.names.items() if held == ino]:
            del self.names[name]
        self.attributes.pop(ino, None)
        self.pages.pop(ino, None)

    def move(self, new: Tree) -> None:
        moved = move(self.tree, new, self.known())
        self.tree = new
        for name in moved.names:
            self.names.pop(name, None)
        for ino in moved.attributes:
            if ino in self.attributes:
                self.attributes[ino] = attributes(new.nodes[ino])

    def check(self) -> None:
        """Nothing that it keeps is wrong."""
        for (holder, name), ino in self.names.items():
            if holder in self.tree.nodes:
                assert self.tree.nodes[holder].entries.get(name) == ino
        for ino, held in self.attributes.items():
            assert ino in self.tree.nodes, "the kernel knows a node that is gone"
            assert held == attributes(self.tree.nodes[ino])
        for ino, content in self.pages.items():
            assert self.tree.nodes[ino].base.is_same(content), "pages of two contents in one file"


def some_manifest(chance: random.Random, before: Manifest) -> Manifest:
    """What a few edits make of a generation: all that changes between any two."""
    entries = {each.path: each for each in before.entries}
    for _ in range(chance.randrange(1, 5)):
        path = chance.choice(NAMES)
        above = parent(path)
        if above and (above not in entries or entries[above].kind is not Kind.DIRECTORY):
            continue
        below = [each for each in entries if each.startswith(f"{path}/")]
        match chance.randrange(7):
            case 0:
                for each in [path, *below]:
                    entries.pop(each, None)
            case 1 if not below:
                kind = chance.choice([Kind.FILE, Kind.DIRECTORY, Kind.FIFO])
                entries[path] = entry(path, chance.randrange(2, 1 << 40), kind, b"new")
            case 2 if path in entries:
                entries[path] = replace(entries[path], mode=chance.choice([0o600, 0o644, 0o755]))
            case 3 if path in entries and entries[path].kind is Kind.FILE:
                data = chance.choice([b"x", b"y", b"new", b""])
                ino = entries[path].ino
                for old in [each for each in entries.values() if each.ino == ino]:
                    entries[old.path] = replace(old, content=content_of(data))
            case 4 if path in entries and entries[path].kind is Kind.FILE:
                other = chance.choice([each for each in NAMES if parent(each) == above])
                if not any(each.startswith(f"{other}/") for each in entries):
                    entries[other] = replace(entries[path], path=other)  # a link
                    if chance.random() < 0.5 and other != path:
                        del entries[path]  # a rename
            case 5 if path in entries and not below:
                old = entries[path]
                entries[path] = entry(path, old.ino, Kind.SYMLINK)
                entries[path] = replace(entries[path], target=chance.choice(["to", "there"]))
                entries = {
                    each.path: each
                    for each in entries.values()
                    if each.ino != old.ino or each.path == path
                }
            case _:
                pass
    ordered = sorted(entries.values(), key=lambda each: each.path)
    return manifest(*ordered, generation=before.generation + 1)


def test_no_kernel_keeps_anything_that_the_new_generation_has_otherwise(seed: int) -> None:
    for run in range(300):
        chance, numbers = random.Random(f"{seed} {run}"), Numbers()
        made = some_manifest(chance, manifest(entry("d", 2, Kind.DIRECTORY)))
        kernel = Kernel(tree(numbers, made, None, set()))
        for _ in range(chance.randrange(1, 12)):
            use(kernel, chance)
            made = some_manifest(chance, made)
            new = tree(numbers, made, kernel.tree, kernel.known())
            use(kernel, chance)
            kernel.move(new)
            kernel.check()
            fresh = tree_of(made, NAME, uid=0, gid=0)
            assert described(kernel.tree) == described(fresh), "another tree than the manifest's"


def use(kernel: Kernel, chance: random.Random) -> None:
    """What programs do, and what memory pressure makes of it."""
    for _ in range(chance.randrange(8)):
        found = kernel.look_up(chance.choice(NAMES))
        if found is not None and chance.random() < 0.6:
            kernel.read(found)
    for ino in sorted(kernel.known()):
        if chance.random() < 0.1:
            kernel.forget(ino)


def described(shown: Tree) -> list[tuple[object, ...]]:
    return [(path, attributes(node), node.base) for path, node in shown.walk()]


def test_what_is_the_same_keeps_its_number_and_what_has_other_bytes_gets_a_new_one() -> None:
    numbers = Numbers()
    old = tree(numbers, manifest(entry("a", 5), entry("b", 6)), None, set())
    changed = manifest(entry("a", 5, data=b"other"), replace(entry("c", 6), mode=0o600))
    new = tree(numbers, changed, old, {Inode(5), Inode(6)})
    assert new.nodes[TOP].entries["c"] == 6, "a rename and a chmod change no bytes"
    own = new.nodes[TOP].entries["a"]
    assert own not in (5, 6)
    again = tree(numbers, replace(changed, generation=3), new, {own})
    assert again.nodes[TOP].entries["a"] == own


def test_what_is_open_and_gone_stays_readable_without_a_name() -> None:
    numbers = Numbers()
    old = tree(numbers, manifest(entry("d", 4, Kind.DIRECTORY), entry("d/a", 5)), None, set())
    in_use = {Inode(4), Inode(5)}
    new = tree(numbers, manifest(entry("b", 6)), old, in_use)
    moved = move(old, new, in_use)
    assert new.orphans == in_use
    assert new.nodes[Inode(5)].base == content_of(b"x")
    assert (new.nodes[Inode(4)].entries, new.nodes[Inode(4)].links) == ({}, 0)
    assert set(moved.names) == {(TOP, "d"), (TOP, "b"), (4, "a")}
    assert old.nodes[Inode(4)].entries == {"a": 5}, "a listing that has begun ends in it"


def test_a_number_that_comes_back_is_not_given_to_what_the_kernel_takes_for_another() -> None:
    numbers = Numbers()
    first = tree(numbers, manifest(entry("a", 5, data=b"one")), None, set())
    second = tree(numbers, manifest(), first, {Inode(5)})
    move(first, second, {Inode(5)})
    third = tree(numbers, manifest(entry("a", 5, data=b"two")), second, {Inode(5)})
    assert third.nodes[TOP].entries["a"] != 5
