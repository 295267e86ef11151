"""Copying what a crashed session holds out of its journal into an ordinary directory.

Changed files are written whole: bytes that are in the journal come from there, the rest of the
file from the bucket. A file whose rest can't be had is written as `{name}.incomplete`, with zeros
where bytes are missing, and named. Nothing of the session is changed.
"""

import errno
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pdfs.core.content import Content
from pdfs.core.ids import Path
from pdfs.core.intervals import Extent
from pdfs.core.keys import leaf, parent
from pdfs.core.node import Based, Layer, Node, Written, Zeros
from pdfs.core.tree import Tree
from pdfs.disk import (
    Disk,
    make_path,
    opened,
    opened_directory,
    read_fully,
    write_fully,
)
from pdfs.errors import ContentLost, DiskError, StoreError, UsageError
from pdfs.local.journal_format import parse_segment_name
from pdfs.local.state import SessionDirectory

INCOMPLETE: Final = ".incomplete"
_PIECE: Final = 4 << 20

Fetch = Callable[[Content, int, int], Awaitable[bytes]]


@dataclass(slots=True)
class Rescued:
    """What was copied out, and what could not be."""

    files: list[Path] = field(default_factory=list)
    incomplete: dict[Path, list[tuple[int, int]]] = field(default_factory=dict)
    """Byte ranges that are missing."""
    symlinks: dict[Path, str] = field(default_factory=dict)
    """Links that this session made or may have made; they are told, not written."""


@contextmanager
def empty_directory(disk: Disk, path: str) -> Iterator[int]:
    """A descriptor of a directory that is empty; it is made where it is missing.

    Raises UsageError, DiskError.
    """
    try:
        descriptor = make_path(disk, os.path.abspath(path))
    except OSError as error:
        raise DiskError(f"{path} can't be made: {error.strerror}") from error
    try:
        if os.listdir(descriptor):
            raise UsageError(f"{path} is not empty", remedy="name a new directory")
        yield descriptor
    finally:
        disk.close(descriptor)


class Segments:
    """The journal's files, read by number."""

    def __init__(self, disk: Disk, directory: SessionDirectory) -> None:
        self._disk = disk
        self._directory = directory.descriptor
        parsed = ((parse_segment_name(name), name) for name in os.listdir(self._directory))
        self._names = {number[0]: name for number, name in parsed if number is not None}

    def read(self, extent: Extent) -> bytes:
        """The bytes of an extent."""
        name = self._names[extent.at.segment]
        with opened(self._disk, self._directory, name) as descriptor:
            return read_fully(descriptor, extent.stop - extent.start, extent.at.offset)


class Rescue:
    """One copying out. `fetch` gets what the journal doesn't have."""

    def __init__(self, disk: Disk, target: int, segments: Segments, fetch: Fetch) -> None:
        self._disk = disk
        self._target = target
        self._segments = segments
        self._fetch = fetch
        self.rescued = Rescued()

    async def copy(self, tree: Tree, *, everything: bool) -> Rescued:
        """Copy the changed files of `tree`, or all of them. Raises DiskError."""
        for path, node in tree.walk():
            if node.is_file and (everything or not node.is_clean):
                await self._copy_file(path, node)
            elif node.target and (everything or node.ino >> 32 == _newest_fence(tree)):
                self.rescued.symlinks[path] = node.target
        return self.rescued

    async def _copy_file(self, path: Path, node: Node) -> None:
        missing: list[tuple[int, int]] = []
        with self._folder(parent(path)) as folder:
            name = leaf(path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with opened(self._disk, folder, name, flags) as descriptor:
                await self._fill(descriptor, node, missing)
                self._disk.fchmod(descriptor, stat.S_IMODE(node.mode) & 0o777)
                self._disk.utime(descriptor, node.mtime)
                self._disk.fsync(descriptor)
            if missing:
                self._disk.rename(folder, name, folder, name + INCOMPLETE)
                self.rescued.incomplete[path] = missing
            else:
                self.rescued.files.append(path)

    async def _fill(self, descriptor: int, node: Node, missing: list[tuple[int, int]]) -> None:
        for start in range(0, node.size, _PIECE):
            for layer in node.layers(start, start + _PIECE):
                data, at = await self._bytes_of(node, layer, missing)
                write_fully(self._disk, descriptor, [data], at)
        self._disk.ftruncate(descriptor, node.size)

    async def _bytes_of(
        self, node: Node, layer: Layer, missing: list[tuple[int, int]]
    ) -> tuple[bytes, int]:
        """What to write of a layer, and where; nothing for zeros, and for what is missing."""
        match layer:
            case Written(extent):
                return self._segments.read(extent), extent.start
            case Based(first, last):
                return await self._based(node, first, last, missing), first
            case Zeros(first):
                return b"", first

    async def _based(
        self, node: Node, first: int, last: int, missing: list[tuple[int, int]]
    ) -> bytes:
        try:
            return await self._fetch(node.base, first, last)
        except (ContentLost, StoreError):
            missing.append((first, last))
            return b""

    @contextmanager
    def _folder(self, path: Path) -> Iterator[int]:
        if not path:
            yield self._target
            return
        with self._folder(parent(path)) as above:
            try:
                self._disk.mkdir(above, leaf(path))
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
            with opened_directory(self._disk, above, leaf(path)) as folder:
                yield folder


def _newest_fence(tree: Tree) -> int:
    return max(ino >> 32 for ino in tree.nodes)
