"""A disk that can say what a power cut at any moment would have left of it.

In the spirit of SQLite's `test6.c`. `CrashingDisk` makes every call on a real directory and writes
down what changed; `PowerCuts` turns the first n of these changes into the states that a disk may be
in when the power goes right after them:

- what a finished sync covers is there: fsync or fdatasync of a file covers its bytes and size,
  fsync of a directory covers the names in it; a rename needs the sync of both its directories;
- of everything else, any part may be missing: each change as a whole, in any combination, and of a
  write each sector of 512 bytes;
- where a write is missing, the file may still have grown: with zeros, or with an older content of
  those blocks;
- what a failed sync covered may be missing for ever, whatever later syncs say (the kernel marks
  such pages clean). See "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path

from pdfs.disk import Buffer
from tests.local.faulty_disk import Fault, FaultyDisk

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Wrote:
    node: int
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Resized:
    node: int
    size: int


@dataclass(frozen=True, slots=True)
class Named:
    directory: int
    name: str
    node: int


@dataclass(frozen=True, slots=True)
class Unnamed:
    directory: int
    name: str


@dataclass(frozen=True, slots=True)
class Moved:
    old_directory: int
    old: str
    new_directory: int
    new: str


@dataclass(frozen=True, slots=True)
class Synced:
    node: int


@dataclass(frozen=True, slots=True)
class SyncFailed:
    node: int


Change = Wrote | Resized | Named | Unnamed | Moved
Event = Change | Synced | SyncFailed
State = dict[str, bytes | None]
"""Path below the root → bytes of a file; None = a directory."""


class CrashingDisk(FaultyDisk):
    """Works on the real directory `root` and keeps the log. What is in it was there for ever."""

    def __init__(self, root: Path, fault: Fault | None = None) -> None:
        super().__init__(fault)
        self.log: list[Event] = []
        self.directories: set[int] = set()
        """The nodes that are directories, besides the root."""
        self._nodes = {self._inode(os.stat(root)): 0}
        self._count = 1
        self._enter_old(root, 0)
        self.log += [Synced(node) for node in range(self._count)] if self.log else []

    def _enter_old(self, path: Path, directory: int) -> None:
        for entry in sorted(path.iterdir()):
            node, self._count = self._count, self._count + 1
            self._nodes[self._inode(os.stat(entry))] = node
            self.log.append(Named(directory, entry.name, node))
            if entry.is_dir():
                self.directories.add(node)
                self._enter_old(entry, node)
            else:
                self.log.append(Wrote(node, 0, entry.read_bytes()))

    @staticmethod
    def _inode(found: os.stat_result) -> tuple[int, int]:
        return found.st_dev, found.st_ino

    def _node(self, descriptor: int) -> int:
        return self._nodes[self._inode(os.fstat(descriptor))]

    def _name_new(self, directory: int, name: str) -> None:
        """Note what was just made as a new node, also where its inode number is not new."""
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        self._nodes[self._inode(found)] = self._count
        self.log.append(Named(self._node(directory), name, self._count))
        self._count += 1

    def open(self, directory: int, name: str, flags: int, mode: int = 0o600) -> int:
        is_new = bool(flags & os.O_CREAT) and not _exists(directory, name)
        assert not flags & os.O_TRUNC, "not modelled"
        descriptor = super().open(directory, name, flags, mode)
        if is_new:
            self._name_new(directory, name)
        return descriptor

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        taken = super().write(descriptor, buffers, offset)
        self.log.append(Wrote(self._node(descriptor), offset, b"".join(buffers)[:taken]))
        return taken

    def ftruncate(self, descriptor: int, size: int) -> None:
        super().ftruncate(descriptor, size)
        self.log.append(Resized(self._node(descriptor), size))

    def allocate(self, descriptor: int, offset: int, length: int) -> None:
        before = os.fstat(descriptor).st_size
        super().allocate(descriptor, offset, length)
        if offset + length > before:
            self.log.append(Resized(self._node(descriptor), offset + length))

    def fdatasync(self, descriptor: int) -> None:
        self._sync(descriptor, "fdatasync")

    def fsync(self, descriptor: int) -> None:
        self._sync(descriptor, "fsync")

    def _sync(self, descriptor: int, call: str) -> None:
        """Only noted: the real thing would cost the tests their speed and change nothing."""
        try:
            self._try(call, lambda: None)
        except OSError:
            self.log.append(SyncFailed(self._node(descriptor)))
            raise
        self.log.append(Synced(self._node(descriptor)))

    def rename(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        super().rename(old_directory, old, new_directory, new)
        self._note_moved(old_directory, old, new_directory, new)

    def rename_noreplace(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        super().rename_noreplace(old_directory, old, new_directory, new)
        self._note_moved(old_directory, old, new_directory, new)

    def _note_moved(self, old_directory: int, old: str, new_directory: int, new: str) -> None:
        source, target = self._node(old_directory), self._node(new_directory)
        self.log.append(Moved(source, old, target, new))

    def unlink(self, directory: int, name: str) -> None:
        super().unlink(directory, name)
        self.log.append(Unnamed(self._node(directory), name))

    def mkdir(self, directory: int, name: str, mode: int = 0o700) -> None:
        super().mkdir(directory, name, mode)
        self.directories.add(self._count)
        self._name_new(directory, name)

    def rmdir(self, directory: int, name: str) -> None:
        super().rmdir(directory, name)
        self.log.append(Unnamed(self._node(directory), name))


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def pending(log: Sequence[Event]) -> list[int]:
    """Indices of the changes in `log` that no sync covers for certain."""
    found: list[int] = []
    for index, event in enumerate(log):
        match event:
            case Wrote() | Resized() | Named() | Unnamed() | Moved():
                if not _is_covered(event, log[index + 1 :]):
                    found.append(index)
            case _:
                pass
    return found


def _is_covered(change: Change, later: Sequence[Event]) -> bool:
    needed = _synced_by(change)
    for event in later:
        match event:
            case SyncFailed(node) if node in needed:
                return False
            case Synced(node):
                needed.discard(node)
            case _:
                pass
        if not needed:
            return True
    return False


def _synced_by(change: Change) -> set[int]:
    """The nodes whose syncs together cover a change."""
    match change:
        case Wrote(node, _, _) | Resized(node, _):
            return {node}
        case Named(directory, _, _) | Unnamed(directory, _):
            return {directory}
        case Moved(old_directory, _, new_directory, _):
            return {old_directory, new_directory}


@dataclass(slots=True)
class _Tree:
    """A file system in memory, to which changes are applied in their order."""

    files: dict[int, bytearray] = field(default_factory=dict)
    names: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})

    def apply(self, change: Event) -> None:
        match change:
            case Wrote(node, offset, content):
                raw = self.files.setdefault(node, bytearray())
                raw.extend(bytes(max(0, offset + len(content) - len(raw))))
                raw[offset : offset + len(content)] = content
            case Resized(node, size):
                raw = self.files.setdefault(node, bytearray())
                raw.extend(bytes(max(0, size - len(raw))))
                del raw[size:]
            case Named(directory, name, node):
                self.names.setdefault(directory, {})[name] = node
            case Unnamed(directory, name):
                self.names.setdefault(directory, {}).pop(name, None)
            case Moved(old_directory, old, new_directory, new):
                node = self.names.setdefault(old_directory, {}).pop(old, -1)
                if node >= 0:
                    self.names.setdefault(new_directory, {})[new] = node
            case Synced() | SyncFailed():
                pass

    def state(self, directories: Set[int], top: int = 0, prefix: str = "") -> State:
        found: State = {}
        for name, node in self.names.get(top, {}).items():
            if node in directories:
                found[prefix + name] = None
                found |= self.state(directories, node, f"{prefix}{name}/")
            else:
                found[prefix + name] = bytes(self.files.get(node, b""))
        return found


class PowerCuts:
    """The states that power cuts could leave, the same ones for the same seed."""

    def __init__(self, disk: CrashingDisk, seed: int, *, window: int = 3, tears: int = 8) -> None:
        """Drop every choice of `window` neighbouring changes; tear in `tears` random ways."""
        self._log = tuple(disk.log)
        self._directories = frozenset(disk.directories)
        self._seed = seed
        self._window = window
        self._tears = tears

    def states(
        self, per_cut: int | None = None, *, since: int = 0, until: int | None = None
    ) -> Iterator[tuple[int, State]]:
        """(how many events had happened, from `since` on; state), `per_cut` for each at most.

        The two states in which nothing or everything is missing come first.
        """
        for cut in range(since, (len(self._log) if until is None else until) + 1):
            choice = random.Random(f"{self._seed} {cut}")
            unsynced = pending(self._log[:cut])
            plans = [*self._drops(unsynced), *self._tearings(unsynced, choice)]
            if per_cut is not None and len(plans) > per_cut:
                plans = [*plans[:2], *choice.sample(plans[2:], per_cut - 2)]
            seen: set[int] = set()
            for plan in plans:
                state = self._state(cut, *plan)
                key = hash(frozenset(state.items()))
                if key not in seen:
                    seen.add(key)
                    yield cut, state

    def _drops(self, changes: Sequence[int]) -> Iterator[tuple[set[int], "Instead"]]:
        """Nothing, everything, all after each one, and every choice within each window."""
        yield set(), _nothing
        yield set(changes), _nothing
        for missing in self._missing(changes):
            yield missing, _nothing
            yield missing, _zeros

    def _missing(self, changes: Sequence[int]) -> Iterator[set[int]]:
        for position in range(len(changes)):
            yield set(changes[position:])
        for start in range(max(1, len(changes) - self._window + 1)):
            near, after = changes[start:][: self._window], changes[start + self._window :]
            for count in range(1, len(near) + 1):
                for chosen in combinations(near, count):
                    yield set(chosen)
                    yield {*chosen, *after}

    def _tearings(
        self, changes: Sequence[int], choice: random.Random
    ) -> Iterator[tuple[set[int], "Instead"]]:
        for number in range(self._tears if changes else 0):
            torn = {index for index in changes if choice.random() < 0.5}
            yield torn, self._tearing(f"{self._seed} {changes} {number}")

    def _state(self, cut: int, missing: set[int], instead: "Instead") -> State:
        tree = _Tree()
        for index, event in enumerate(self._log[:cut]):
            if index in missing:
                instead(event, tree, index)
            else:
                tree.apply(event)
        return tree.state(self._directories)

    def _tearing(self, seed: str) -> "Instead":
        choice = random.Random(seed)

        def tear(event: Event, tree: _Tree, index: int) -> None:
            """Some sectors of a write come through; others show what the blocks held before."""
            if not isinstance(event, Wrote):
                return
            size = len(tree.files.get(event.node, b""))
            for start, piece in _sectors(event):
                kind = choice.randrange(4)
                if kind >= 2:
                    tree.apply(Wrote(event.node, start, piece))
                elif kind == 1 and start >= size:
                    stale = self._stale(len(piece), self._log[:index], choice)
                    tree.apply(Wrote(event.node, start, stale))

        return tear

    @staticmethod
    def _stale(size: int, before: Sequence[Event], choice: random.Random) -> bytes:
        writes = [event.content for event in before if isinstance(event, Wrote)]
        old = choice.choice([*writes, choice.randbytes(size)])
        start = choice.randrange(len(old) + 1)
        return old[start : start + size].ljust(size, b"\xa5")


Instead = Callable[[Event, _Tree, int], None]
"""What happens in place of a change that is missing, number `int` of the log."""


def _nothing(event: Event, tree: _Tree, index: int) -> None:
    pass


def _zeros(event: Event, tree: _Tree, index: int) -> None:
    """The file has grown, the bytes have not come."""
    if isinstance(event, Wrote):
        size = len(tree.files.get(event.node, b""))
        tree.apply(Resized(event.node, max(size, event.offset + len(event.content))))


def _sectors(write: Wrote) -> Iterator[tuple[int, bytes]]:
    end = write.offset + len(write.content)
    inner = range((write.offset // SECTOR + 1) * SECTOR, end, SECTOR)
    for start, stop in pairwise([write.offset, *inner, end]):
        yield start, write.content[start - write.offset : stop - write.offset]


def materialize(state: State, target: Path) -> None:
    """Make `target`, which need not exist, hold exactly this state."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for name, content in state.items():
        if content is None:
            (target / name).mkdir()
        else:
            (target / name).write_bytes(content)
