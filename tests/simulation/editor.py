"""A simulated user's tool: edits files of a mounted stage by records, as the file system would."""

import random

from pdfs.core.ids import TOP, Inode, Path
from pdfs.core.keys import ancestors, leaf, parent
from pdfs.core.node import Node
from pdfs.core.record import Create, Kind, Record, Rename, SetAttributes, Unlink, Write
from pdfs.errors import ContentLost, StoreError
from pdfs.local.ledger import Ledger
from tests.simulation.diary import Diary


class Editor:
    """Edits one mounted stage and keeps the diary."""

    def __init__(self, work: Ledger, diary: Diary, rng: random.Random, now: int) -> None:
        self._work = work
        self._diary = diary
        self._rng = rng
        self._time = now
        self._handles: dict[Inode, Path] = {}
        """Open files, by the name that the user knows."""

    @property
    def busy(self) -> frozenset[Inode]:
        """What some program has open."""
        return frozenset(self._handles)

    def files(self) -> list[tuple[Path, Node]]:
        return [(path, node) for path, node in self._work.tree.walk() if node.is_file]

    def exists(self, path: Path) -> bool:
        return (node := self._work.tree.find(path)) is not None and node.is_file

    def fresh(self, size: int | None = None) -> bytes:
        """Bytes that nobody has ever written before."""
        length = self._rng.choice([1, 40, 200, 700]) if size is None else size
        return self._rng.randbytes(16) + bytes(length)

    # --- files by name ----------------------------------------------------------------------------

    def write(self, path: Path, data: bytes) -> None:
        """Create the file with its directories, or replace what it holds."""
        self._make_way(path)
        for directory in reversed(ancestors(path)):
            if self._work.tree.find(directory) is None:
                self._create(directory, Kind.DIRECTORY)
        node = self._work.tree.find(path)
        if node is None:
            self._create(path, Kind.FILE)
            node = self._node(path)
            self._diary.wrote(path, b"", node.ino)
        elif node.size:
            self._commit(SetAttributes(ino=self._see(node).ino, time=self._tick(), size=0))
            self._diary.wrote(path, b"", node.ino)
        self._commit(Write(ino=node.ino, offset=0, time=self._tick()), data)
        self._diary.own.add(data)
        self._diary.wrote(path, data, node.ino)

    def _make_way(self, path: Path) -> None:
        """Remove a file that is where a directory must be, and a directory where the file must."""
        for above in ancestors(path):
            if self.exists(above):
                self.delete(above)
        node = self._work.tree.find(path)
        if node is not None and node.is_directory:
            below = [inner for inner, _ in self._work.tree.walk() if path in ancestors(inner)]
            for inner in [*reversed(below), path]:
                self.delete(inner)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        """Overwrite a part of a file, without a look at the rest; not for the diary."""
        self._commit(Write(ino=self._node(path).ino, offset=offset, time=self._tick()), data)

    async def read(self, path: Path) -> bytes | None:
        """What the file holds; None where it can't be had now."""
        return await self._read(self._node(path))

    async def _read(self, node: Node) -> bytes | None:
        try:
            data = await self._work.read(node, 0, node.size)
        except (ContentLost, StoreError):
            return None
        if len(data) == node.size:
            served = not data or data in self._diary.written
            assert served, f"{len(data)} bytes were read that are no version of the file"
        self._see(node)
        return data

    async def append(self, path: Path, data: bytes) -> None:
        node = self._node(path)
        old = await self.read(path)
        if old is None or self._work.tree.find(path) is not node or node.size != len(old):
            return
        self._commit(Write(ino=node.ino, offset=node.size, time=self._tick()), data)
        self._diary.wrote(path, old + data, node.ino)

    async def cut(self, path: Path, size: int) -> None:
        node = self._node(path)
        old = await self.read(path)
        if old is None or self._work.tree.find(path) is not node or node.size != len(old):
            return
        self._commit(SetAttributes(ino=node.ino, time=self._tick(), size=size))
        self._diary.wrote(path, old[:size] + bytes(max(0, size - len(old))), node.ino)

    async def rename(self, old: Path, new: Path) -> None:
        """Move a file, also over another one."""
        node = self._node(old)
        data = await self.read(old)
        over = self._work.tree.find(new)
        holder = self._work.tree.find(parent(new))
        is_free = over is None or over.is_file
        if data is None or holder is None or not holder.is_directory or not is_free or old == new:
            return
        if self._work.tree.find(old) is not node or node.size != len(data):
            return
        if over is not None:
            self._handles.pop(self._see(over).ino, None)
        self.move(old, new)
        if node.ino in self._handles:
            self._handles[node.ino] = new
        if over is not None:
            self._diary.removed(new, over.ino)
        self._diary.removed(old, node.ino)
        self._diary.wrote(new, data, node.ino)

    def move(self, old: Path, new: Path) -> None:
        """Rename without a look at what either is; not for the diary."""
        self._commit(
            Rename(
                parent=self._node(parent(old)).ino,
                name=leaf(old),
                new_parent=self._node(parent(new)).ino,
                new_name=leaf(new),
                time=self._tick(),
            )
        )

    def delete(self, path: Path) -> None:
        """Remove a file, or an empty directory."""
        node = self._node(path)
        self._handles.pop(self._see(node).ino, None)
        self._commit(
            Unlink(parent=self._node(parent(path)).ino, name=leaf(path), time=self._tick())
        )
        if node.is_file:
            self._diary.removed(path, node.ino)

    # --- files that stay open ---------------------------------------------------------------------

    def open(self, path: Path) -> None:
        """Have the file open from now on."""
        self._handles[self._see(self._node(path)).ino] = path

    async def append_to_open(self, ino: Inode, data: bytes) -> None:
        """Write to the file that was opened, by whatever name it has now."""
        old = await self._read(self._work.tree.nodes[ino])
        node = self._work.tree.nodes[ino]
        known = self._handles.get(ino)
        if old is None or known is None or node.size != len(old):
            return
        names = [path for path, found in self._work.tree.walk() if found is node]
        assert names, f"{known!r} was taken away from a program that has it open"
        if known not in names:
            self._handles[ino] = names[0]
        self._commit(Write(ino=ino, offset=node.size, time=self._tick()), data)
        self._diary.wrote(self._handles[ino], old + data, ino)

    async def write_to_all_open(self) -> None:
        """As programs do that save when they are closed."""
        for ino in sorted(self._handles):
            await self.append_to_open(ino, self.fresh(3))

    # --- chance -----------------------------------------------------------------------------------

    async def anything(self, names: list[Path]) -> None:
        """One random operation."""
        files = [path for path, _ in self.files()]
        match self._rng.randrange(12):
            case 0 | 1:
                self.write(self._rng.choice(names), self.fresh())
            case 2 if files:
                self.write(self._rng.choice(files), self.fresh())
            case 3 if files:
                await self.append(self._rng.choice(files), self.fresh(5))
            case 4 if files:
                await self.cut(self._rng.choice(files), self._rng.randrange(300))
            case 5 if files:
                await self.rename(self._rng.choice(files), self._rng.choice(names))
            case 6 if files:
                self.delete(self._rng.choice(files))
            case 7 if files:
                await self.read(self._rng.choice(files))
            case 8 | 9 if files:
                self.open(self._rng.choice(files))
            case 10 | 11 if self._handles:
                await self.append_to_open(self._rng.choice(sorted(self._handles)), self.fresh(5))
            case _:
                pass

    def _see(self, node: Node) -> Node:
        """Note that the user was shown this file, and decides on what it is."""
        self._diary.served.update(home.etag for home in node.base.plain)
        return node

    def _node(self, path: Path) -> Node:
        node = self._work.tree.find(path)
        assert node is not None, path
        return node

    def _create(self, path: Path, kind: Kind) -> None:
        holder = self._node(parent(path))
        self._commit(
            Create(
                parent=holder.ino if path else TOP,
                name=leaf(path),
                ino=self._work.new_inode(),
                kind=kind,
                mode=0o755 if kind is Kind.DIRECTORY else 0o644,
                uid=1000,
                gid=1000,
                time=self._tick(),
            )
        )

    def _commit(self, record: Record, data: bytes = b"") -> None:
        self._work.commit(record, data)

    def _tick(self) -> int:
        self._time += 1
        return self._time
