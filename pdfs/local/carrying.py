"""Copying the written bytes that still count out of old segments into a new one.

    carried-{n}.wal, a segment like any other (`journal_format`): header *record trailer

    record    as in the journal, `Brought`: a range of a file
    sequence  of every frame: that of the last record before the checkpoint

It is written once and sealed before anything refers to it. No replay reads it: what its bytes are
of, and whether they still count, is in the snapshot that is written after it. While a publish is
under way, the bytes that it includes come first; its boundary is where they end.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Set
from typing import Final

from pdfs.core.ids import Inode
from pdfs.core.intervals import NOWHERE, Extent, Extents, Position
from pdfs.core.node import Node
from pdfs.core.record import Brought, encode
from pdfs.core.relocation import Move, Moves, relocate
from pdfs.core.tree import Tree
from pdfs.disk import Disk
from pdfs.local.journal_format import Header, SegmentName
from pdfs.local.journal_segment import SegmentWriter

_PIECE: Final = 1 << 20
"""Bytes that one record holds at most."""

Read = Callable[[Extent], bytes]
"""The bytes of an extent, none of them other than what was written."""


def live_bytes(tree: Tree) -> Counter[int]:
    """How many bytes of files are in each segment; those that are lost are in none."""
    live: Counter[int] = Counter()
    for node in tree.nodes.values():
        for extent in node.extents:
            live[extent.at.segment] += extent.stop - extent.start
    del live[NOWHERE.segment]
    return live


def plan_copied(tree: Tree, live: Set[int], doubtful: Set[int] = frozenset()) -> frozenset[int]:
    """Those of the segments `live` whose bytes must be copied.

    These are the `doubtful` ones, and while a publish is under way all that are not wholly before
    its boundary: what is copied comes behind what stays.
    """
    flight = tree.in_flight
    needed = {number for number in live if number in doubtful}
    if flight is not None:
        needed |= {number for number in live if number >= flight.boundary.segment}
    return frozenset(needed)


def carry(
    disk: Disk,
    directory: int,
    header: Header,
    tree: Tree,
    read: Read,
    *,
    copied: frozenset[int],
    kept: frozenset[int] = frozenset(),
    number: int,
    after: int,
) -> Moves:
    """Copy what `tree` has in the segments `copied` into segment `number`, and point it there.

    What it has in those that are `kept` stays there.

    `tree` is as of record `after`. While a publish is under way, all that is `kept` is before its
    boundary.
    The new file is synced and whole, its name is still to be. Raises OSError, and what `read`
    raises: then `discard_carried` removes what there is of it.
    """
    moves = Moves(number, copied, kept)
    if not copied:
        return moves
    name = SegmentName(number, is_whole=False, is_carried=True)
    writer = SegmentWriter.create(disk, directory, name, header)
    try:
        writer.begin_after(after)
        boundary = None if tree.in_flight is None else tree.in_flight.boundary
        copying = _Copying(writer, read)
        if boundary is not None:
            copying.copy(tree, lambda at: at.segment in copied and at < boundary)
        end = Position(number, writer.end)
        copying.copy(tree, lambda at: at.segment in copied and (boundary is None or at >= boundary))
        writer.seal()
    finally:
        disk.close(writer.descriptor)
    moves.add_all(copying.moves)
    for _ in relocate(tree, moves, end):
        pass
    return moves


class _Copying:
    """Writes ranges of files into a segment and notes where they were and are."""

    def __init__(self, writer: SegmentWriter, read: Read) -> None:
        self._writer = writer
        self._read = read
        self.moves: list[Move] = []

    def copy(self, tree: Tree, is_wanted: Callable[[Position], bool]) -> None:
        for ino, node in sorted(tree.nodes.items()):
            for run in _runs(node, is_wanted):
                self._copy_run(ino, run)

    def _copy_run(self, ino: Inode, run: list[Extent]) -> None:
        start = run[0].start
        data = b"".join([self._read(extent) for extent in run])
        kind, body = encode(Brought(ino=ino, start=start))
        offset = self._writer.carry(kind, body, data)
        for extent in run:
            target = offset + extent.start - start
            length = extent.stop - extent.start
            self.moves.append(Move(extent.at.segment, extent.at.offset, length, target))


def _runs(node: Node, is_wanted: Callable[[Position], bool]) -> Iterator[list[Extent]]:
    """The wanted extents of a file, those that follow each other together, 1 MiB at most."""
    run: list[Extent] = []
    for extent in _pieces(node.extents):
        is_next = bool(run) and run[-1].stop == extent.start
        if run and not (is_next and extent.stop - run[0].start <= _PIECE and is_wanted(extent.at)):
            yield run
            run = []
        if is_wanted(extent.at):
            run.append(extent)
    if run:
        yield run


def _pieces(extents: Extents) -> Iterator[Extent]:
    for extent in extents:
        for start in range(extent.start, extent.stop, _PIECE):
            yield extent.within(start, min(start + _PIECE, extent.stop))


def discard_carried(disk: Disk, directory: int, number: int) -> None:
    """Remove what a copying into segment `number` left. Raises OSError."""
    for is_whole in (False, True):
        try:
            disk.unlink(directory, str(SegmentName(number, is_whole=is_whole, is_carried=True)))
        except FileNotFoundError:
            continue
