"""Who looks at a stage through a read-only mount, without FUSE: as one process sees it."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from pdfs.core.content import Content
from pdfs.core.ids import Inode
from pdfs.core.node import Node
from pdfs.core.tree import Tree
from pdfs.fs.filesystem import StageFilesystem
from pdfs.mount.reading import filesystem_of
from pdfs.reader import Shown, StageReader
from pdfs.stage.context import StageContext
from pdfs.stage.fetch import fetch_span
from tests.fs.process import Process


class Onlooker(Process):
    """A process in the mount, and what the kernel was told."""

    def __init__(self, reader: StageReader, filesystem: StageFilesystem) -> None:
        super().__init__(filesystem)
        self.reader = reader
        self.names: list[tuple[Inode, bytes]] = []
        self.attributes: list[Inode] = []
        self.moved = trio.Event()
        filesystem.upward.invalidate = lambda parent, name: self.names.append((parent, name))
        filesystem.upward.changed = self.attributes.append

    @property
    def shown(self) -> Shown:
        assert self.reader.shown is not None
        return self.reader.shown

    def files(self) -> dict[str, Node]:
        """Every file, by path."""
        return {path: node for path, node in self.fs.tree.walk() if node.is_file}

    async def everything(self) -> dict[str, bytes]:
        """What every file holds."""
        return {path: await self.read_file(path) for path in self.files()}

    async def wait_generation(self, generation: int) -> None:
        """Return when at least that one is shown."""
        while self.shown.generation < generation:
            await self.moved.wait()
            self.moved = trio.Event()

    def move_to(self, tree: Tree, told: Callable[[], None]) -> None:
        self.fs.move_to(tree, told)
        self.moved.set()


@asynccontextmanager
async def reading(ctx: StageContext, *, follows: bool = False) -> AsyncIterator[Onlooker]:
    """A read-only mount while the body runs."""
    reader = StageReader(ctx, follows=follows)
    mounted, over = trio.Event(), trio.Event()
    onlooker: list[Onlooker] = []

    async def fetch(content: Content, start: int, stop: int) -> bytes:
        return await fetch_span(ctx, content, start, stop)

    async def serve(tree: Tree) -> None:
        filesystem = filesystem_of(tree, fetch, room=lambda: os.statvfs("/"))
        onlooker.append(Onlooker(reader, filesystem))
        reader.in_use, reader.move_to = filesystem.in_use, onlooker[0].move_to
        mounted.set()
        await over.wait()
        filesystem.end()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run, serve)
        await mounted.wait()
        yield onlooker[0]
        over.set()
