"""A simulated user's tool: edits files of a mounted stage by records, as the file system would."""

import random

from pdfs.core.ids import TOP, Path
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

    def files(self) -> list[tuple[Path, Node]]:
        return [(path, node) for path, node in self._work.tree.walk() if node.is_file]

    def exists(self, path: Path) -> bool:
        return (node := self._work.tree.find(path)) is not None and node.is_file

    def fresh(self, size: int | None = None) -> bytes:
        """Bytes that nobody has ever written before."""
        length = self._rng.choice([1, 40, 200, 700]) if size is None else size
        return self._rng.randbytes(16) + bytes(length)

    def write(self, path: Path, data: bytes) -> None:
        """Create the file with its directories, or replace what it holds."""
        for directory in reversed(ancestors(path)):
            if self._work.tree.find(directory) is None:
                self._create(directory, Kind.DIRECTORY)
        node = self._work.tree.find(path)
        if node is None:
            self._create(path, Kind.FILE)
            self._diary.wrote(path, b"")
            node = self._node(path)
        elif not node.is_file:
            return
        elif node.size:
            self._commit(SetAttributes(ino=node.ino, time=self._tick(), size=0))
            self._diary.wrote(path, b"")
        self._commit(Write(ino=node.ino, offset=0, time=self._tick()), data)
        self._diary.wrote(path, data)

    def write_at(self, path: Path, offset: int, data: bytes) -> None:
        """Overwrite a part of a file, without a look at the rest; not for the diary."""
        self._commit(Write(ino=self._node(path).ino, offset=offset, time=self._tick()), data)

    async def read(self, path: Path) -> bytes | None:
        """What the file holds; None where it can't be had now."""
        node = self._node(path)
        try:
            return await self._work.read(node, 0, node.size)
        except (ContentLost, StoreError):
            return None

    async def append(self, path: Path, data: bytes) -> None:
        node = self._node(path)
        old = await self.read(path)
        if old is None or self._work.tree.find(path) is not node or node.size != len(old):
            return
        self._commit(Write(ino=node.ino, offset=node.size, time=self._tick()), data)
        self._diary.wrote(path, old + data)

    async def cut(self, path: Path, size: int) -> None:
        node = self._node(path)
        old = await self.read(path)
        if old is None or self._work.tree.find(path) is not node or node.size != len(old):
            return
        self._commit(SetAttributes(ino=node.ino, time=self._tick(), size=size))
        self._diary.wrote(path, old[:size] + bytes(max(0, size - len(old))))

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
        self._commit(
            Rename(
                parent=self._node(parent(old)).ino,
                name=leaf(old),
                new_parent=holder.ino,
                new_name=leaf(new),
                time=self._tick(),
            )
        )
        self._diary.removed(old)
        self._diary.wrote(new, data)

    def delete(self, path: Path) -> None:
        self._commit(
            Unlink(parent=self._node(parent(path)).ino, name=leaf(path), time=self._tick())
        )
        self._diary.removed(path)

    async def anything(self, names: list[Path]) -> None:
        """One random operation."""
        files = [path for path, _ in self.files()]
        match self._rng.randrange(8):
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
            case _:
                pass

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
