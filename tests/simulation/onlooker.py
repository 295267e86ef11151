"""A read-only mount that follows: it shows one generation, whole, and goes on to newer ones."""

from collections.abc import Callable
from typing import NoReturn

import trio

from pdfs.core.content import Content
from pdfs.core.ids import Inode, Path, SessionId
from pdfs.core.tree import Tree
from pdfs.errors import ContentLost, StoreError
from pdfs.reader import Shown, StageReader
from pdfs.stage.fetch import fetch_whole
from pdfs.store.faulty import Fate, Request
from tests.simulation.history import digest, etag, is_foreign, manifest_written
from tests.simulation.machine import TIMING, Killed, Machine
from tests.simulation.world import World


class Onlooker:
    """One machine that looks at the stage for as long as the story lasts."""

    def __init__(self, world: World, machine: Machine) -> None:
        self._world = world
        self._machine = machine
        self._process: _Process | None = None
        self.looks = 0
        """How often a file was read, and was right."""
        self.moves = 0
        """How often a newer generation took the place of one that was shown."""

    async def look_on(self) -> None:
        """Mount; when that fails, or the process dies, mount again."""
        while True:
            self._process = _Process(self._world, self._machine, self)
            await self._process.run()
            await trio.sleep(self._world.rng.choice([1.0, 100.0]))

    async def check_moved_on(self) -> None:
        """On a network that is calm by now, it shows the generation that the root names."""
        await trio.sleep(3 * TIMING.follow)
        root = self._world.root()
        assert self._process is not None
        shown = self._process.shown
        assert root is not None
        assert shown is not None, "a reader is not mounted"
        assert shown.name == root.tree, f"a reader still shows {shown}, the root is {root}"


class _Process:
    """One read-only mount."""

    def __init__(self, world: World, machine: Machine, onlooker: Onlooker) -> None:
        self._world = world
        self._machine = machine
        self._onlooker = onlooker
        self._scope = trio.CancelScope()
        self._is_dead = False
        self._ctx = machine.context(self, SessionId(machine.new_id()))
        self._reader = StageReader(self._ctx, follows=True)
        self._reader.in_use = lambda: self._in_use
        self._reader.move_to = self._move_to
        self._in_use: frozenset[Inode] = frozenset()
        """What programs have open, or the kernel knows."""
        self._tree: Tree

    @property
    def shown(self) -> Shown | None:
        return self._reader.shown

    def fate_of(self, request: Request) -> Fate:
        if self._is_dead:
            raise Killed
        return self._machine.fate_of(request)

    def die(self) -> NoReturn:
        self._is_dead = True
        self._scope.cancel()
        raise Killed

    async def run(self) -> None:
        try:
            with self._scope:
                await self._reader.run(self._serve)
        except BaseExceptionGroup as group:
            if group.split(Killed)[1] is not None:
                raise
        except (Killed, StoreError):
            pass

    def _move_to(self, tree: Tree, told: Callable[[], None]) -> None:
        before = self._reader.shown
        told()
        after = self._reader.shown
        assert before is not None
        assert after is not None
        assert after.generation >= before.generation, f"a reader went from {before} to {after}"
        self._onlooker.moves += 1
        self._tree = tree
        self._check_whole()

    async def _serve(self, tree: Tree) -> None:
        self._tree = tree
        self._check_whole()
        while True:
            await self._read_one()
            await trio.sleep(self._world.rng.choice([3.0, 50.0, 1000.0]))

    def _check_whole(self) -> None:
        """What is shown is one generation, whole, and no other bytes under a number in use."""
        shown = self._reader.shown
        if shown is None or shown.name is None:
            return  # not yet, or what a listing showed
        entries = manifest_written(self._world, shown.name).by_path()
        files = dict(self._tree.walk())
        assert files.keys() == entries.keys(), f"a reader shows a mixture for {shown}"
        for path, entry in entries.items():
            if entry.content is not None:
                assert files[path].base == entry.content, f"{path!r} is not that of {shown}"

    async def _read_one(self) -> None:
        """What a file holds is what the generation says of it."""
        files = [(path, node) for path, node in self._tree.walk() if node.is_file and node.size]
        if not files:
            return
        path, node = self._world.rng.choice(files)
        self._in_use = frozenset({node.ino})
        try:
            data = await fetch_whole(self._ctx, node.base)
        except ContentLost:
            is_known = self._is_lost(path) or self._is_of_others(path, node.base)
            assert is_known, f"a reader can't read {path!r}"
        except StoreError:
            pass
        else:
            self._onlooker.looks += 1
            assert _is(node.base, data), f"a reader was served other bytes for {path!r}"

    def _is_lost(self, path: Path) -> bool:
        """Whether the generation that is shown says that it does not have the bytes."""
        shown = self._reader.shown
        if shown is None or shown.name is None:
            return False
        return manifest_written(self._world, shown.name).by_path()[path].lost

    def _is_of_others(self, path: Path, content: Content) -> bool:
        """Whether another tool had to do with the object that has these bytes, or took them."""
        paths = {path, *(home.path for home in content.plain)}
        return any(is_foreign(self._world, each) for each in paths)


def _is(content: Content, data: bytes) -> bool:
    if content.digest is not None:
        return content.digest == digest(data)
    return any(home.etag == etag(data) for home in content.plain)
