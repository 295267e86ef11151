"""Copying what a crashed session holds out of its journal into an ordinary directory.

Changed files are written whole: bytes that are in the journal come from there, the rest of the
file from the bucket; so are files that have a new name. Each is written as `{name}.incomplete`, and
gets its own name when it is whole and synced: so nothing that a kill or a power cut leaves looks
whole. A file whose rest can't be had keeps that name, with zeros where bytes are missing, and is
told. Every symlink and every empty directory of the stage is made: the journal does not tell those
of this session from others. Modes, times and `user.*` attributes are kept. What can't be made here
is named: a disk without links gets copies, and one without modes goes without. Nothing of the
session is changed, and nothing is written through a symlink. When it returns, all that was copied
survives a power cut.
"""

import errno
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final, ParamSpec

from pdfs.core.content import Content
from pdfs.core.generation import former_name, is_in_place, removed_files
from pdfs.core.ids import Inode, Path
from pdfs.core.intervals import NOWHERE, Extent
from pdfs.core.keys import COMPONENT_LIMIT, join, leaf, parent
from pdfs.core.node import Based, Layer, Node, Written, Zeros
from pdfs.core.record import Kind
from pdfs.core.tree import Tree
from pdfs.disk import (
    Disk,
    disk_error,
    make_path,
    opened,
    opened_directory,
    write_fully,
)
from pdfs.errors import ContentLost, DiskError, StoreError, UsageError
from pdfs.local.journal_files import SegmentFiles
from pdfs.local.kept import read_extent
from pdfs.local.session_directory import SessionDirectory

INCOMPLETE: Final = ".incomplete"
_PIECE: Final = 4 << 20
_NOT_HERE: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What a file system says that has no such thing: a link, a mode, a sync of a directory."""
_NO_NAME: Final = (errno.EINVAL, errno.EILSEQ, errno.ENAMETOOLONG)
"""What one says that takes no such name."""
_ANOTHER: Final = "name a new directory, or an empty one"

P = ParamSpec("P")
Fetch = Callable[[Content, int, int], Awaitable[bytes]]


@dataclass(slots=True)
class Rescued:
    """What was copied out, and what could not be."""

    files: list[Path] = field(default_factory=list)
    incomplete: dict[Path, list[tuple[int, int]]] = field(default_factory=dict)
    """Byte ranges that are missing."""
    renamed: dict[Path, Path] = field(default_factory=dict)
    """New names of unchanged files, which are copied too, and the old ones."""
    removed: list[Path] = field(default_factory=list)
    """Names in the bucket that this session took away."""
    left_out: dict[Path, str] = field(default_factory=dict)
    """What can't be made in that directory, and what it is."""
    refused: dict[Path, str] = field(default_factory=dict)
    """What has a name that the disk does not take, and what it says."""
    damage: str = ""
    """What is damaged in the journal and what was lost by that, for people; empty for none."""
    unkept: set[str] = field(default_factory=set)
    """What that disk keeps of no file: modes, times."""


@contextmanager
def empty_directory(disk: Disk, path: str) -> Iterator[int]:
    """A descriptor of a directory that is empty; it is made where it is missing.

    Raises UsageError, DiskError.
    """
    try:
        descriptor = make_path(disk, os.path.abspath(path))
    except (NotADirectoryError, FileExistsError):
        raise UsageError(f"{path} is no directory", remedy=_ANOTHER) from None
    except OSError as error:
        raise DiskError(f"{path} can't be made: {error.strerror}", remedy=_ANOTHER) from error
    try:
        if os.listdir(descriptor):
            raise UsageError(f"{path} is not empty", remedy=_ANOTHER)
        yield descriptor
    finally:
        disk.close(descriptor)


class Segments:
    """The journal's files, read by number."""

    def __init__(self, disk: Disk, directory: SessionDirectory) -> None:
        self._disk = disk
        self._directory = directory.descriptor

    def read(self, extent: Extent) -> bytes:
        """The bytes of an extent. Raises OSError, also where they are not all there."""
        files = SegmentFiles(self._disk, self._directory)
        try:
            return read_extent(files, extent)
        finally:
            files.close()


class Rescue:
    """One copying out of a session's `tree`. `fetch` gets what the journal doesn't have."""

    def __init__(
        self, disk: Disk, target: int, tree: Tree, segments: Segments, fetch: Fetch
    ) -> None:
        self._disk = disk
        self._target = target
        self._tree = tree
        self._segments = segments
        self._fetch = fetch
        self._written: dict[Inode, Path] = {}
        """Files with several names, by the name that is written."""
        self._named: dict[Path, Path] = {}
        """Files that are incomplete, by what they are called."""
        self._folders: set[Path] = set()
        self.rescued = Rescued()

    async def copy(self, *, everything: bool) -> Rescued:
        """Copy what the session changed, or all there is. Raises DiskError."""
        for path, node in self._tree.walk():
            try:
                await self._copy(path, node, everything)
            except OSError as error:
                if error.errno not in _NO_NAME:
                    raise disk_error(error, f"write {path!r}") from error
                self._refuse(path, node, error)
        for path in sorted(self._folders, reverse=True):  # writing into them changes their times
            self._finish_folder(path)
        try:
            self._is_done(self._disk.fsync, self._target)
        except OSError as error:
            raise disk_error(error, "sync what was copied") from error
        self.rescued.removed = removed_files(self._tree, self.rescued.renamed.values())
        return self.rescued

    async def _copy(self, path: Path, node: Node, everything: bool) -> None:
        match node.kind:
            case Kind.FILE:
                if everything or not node.is_clean or self._is_moved(path, node):
                    await self._copy_file(path, node)
            case Kind.DIRECTORY:
                if everything or not node.entries:
                    with self._folder(path):
                        pass
            case Kind.SYMLINK:
                self._make_symlink(path, node)
            case _:
                self.rescued.left_out[path] = node.kind.name.lower()

    def _refuse(self, path: Path, node: Node, error: OSError) -> None:
        self.rescued.refused[path] = error.strerror or str(error)
        if self._written.get(node.ino) == path:
            del self._written[node.ino]  # its other names may be taken

    # --- names ------------------------------------------------------------------------------------

    def _is_moved(self, path: Path, node: Node) -> bool:
        """Whether the bucket knows the bytes of a file by another name than this one."""
        if is_in_place(self._tree, path, node):
            return False
        old = former_name(path, node)
        if old is not None:
            self.rescued.renamed[path] = old
        return True

    def _incomplete_name(self, path: Path) -> str:
        """A name beside `path` that nothing else has."""
        for number in count():
            end = INCOMPLETE if not number else f"{INCOMPLETE}.{number}"
            stem = os.fsencode(leaf(path))[: COMPONENT_LIMIT - len(end)]
            there = join(parent(path), os.fsdecode(stem) + end)
            if self._tree.find(there) is None and there not in self._named.values():
                self._named[path] = there
                break
        return leaf(self._named[path])

    # --- making -----------------------------------------------------------------------------------

    async def _copy_file(self, path: Path, node: Node) -> None:
        first = self._written.setdefault(node.ino, path)
        if first != path and self._is_linked(path, first):
            return
        missing: list[tuple[int, int]] = []
        with self._folder(parent(path)) as folder:
            name = self._incomplete_name(path)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with opened(self._disk, folder, name, flags) as descriptor:
                await self._fill(descriptor, node, missing)
                self._keep_attributes(descriptor, path, node)
                self._disk.fsync(descriptor)
        if missing:
            self.rescued.incomplete[path] = missing
            return
        self._name_whole(path, name)
        self.rescued.files.append(path)

    def _name_whole(self, path: Path, name: str) -> None:
        """Give a file that is whole, and synced, its own name, unless something else has that."""
        with self._folder(parent(path)) as folder:
            if not self._is_done(self._disk.rename_noreplace, folder, name, folder, leaf(path)):
                if leaf(path) in os.listdir(folder):
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
                self._disk.rename(folder, name, folder, leaf(path))
        del self._named[path]

    def _is_linked(self, path: Path, first: Path) -> bool:
        """Give the file `first` its other name, `path`; False where there are no links."""
        missing = self.rescued.incomplete.get(first)
        old, new = leaf(first), leaf(path)
        if missing is not None:
            old, new = leaf(self._named[first]), self._incomplete_name(path)
        with self._folder(parent(first)) as source, self._folder(parent(path)) as target:
            if not self._is_done(self._disk.link, source, old, target, new):
                self._named.pop(path, None)
                return False
        if missing is None:
            self.rescued.files.append(path)
        else:
            self.rescued.incomplete[path] = missing
        return True

    def _make_symlink(self, path: Path, node: Node) -> None:
        with self._folder(parent(path)) as folder:
            if not self._is_done(self._disk.symlink, node.target, folder, leaf(path)):
                self.rescued.left_out[path] = f"symlink to {node.target}"
                return
            self._disk.utime_at(folder, leaf(path), node.mtime)

    def _keep_attributes(self, descriptor: int, path: Path, node: Node) -> None:
        refused = []
        for name, value in node.xattrs.items():
            try:
                self._disk.setxattr(descriptor, name, value)
            except OSError:
                refused.append(name)
        if refused:
            self.rescued.left_out[path] = f"attributes {', '.join(refused)}"
        if not self._is_done(self._disk.fchmod, descriptor, stat.S_IMODE(node.mode) & 0o777):
            self.rescued.unkept.add("modes")
        if not self._is_done(self._disk.utime, descriptor, node.mtime):
            self.rescued.unkept.add("times")

    def _is_done(self, call: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> bool:
        """Call it; False where the file system has no such thing. Raises OSError."""
        try:
            call(*args, **kwargs)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            return False
        return True

    def _finish_folder(self, path: Path) -> None:
        node = self._tree.find(path)
        assert node is not None
        try:
            with (
                self._folder(parent(path)) as above,
                opened_directory(self._disk, above, leaf(path)) as folder,
            ):
                self._keep_attributes(folder, path, node)
                self._is_done(self._disk.fsync, folder)
        except OSError as error:
            raise disk_error(error, f"write {path!r}") from error

    # --- bytes ------------------------------------------------------------------------------------

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
            case Written(extent) if extent.at.segment == NOWHERE.segment:
                missing.append((extent.start, extent.stop))
                return b"", extent.start
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
            self._folders.add(path)
            with opened_directory(self._disk, above, leaf(path)) as folder:
                yield folder
