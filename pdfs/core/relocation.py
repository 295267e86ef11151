"""Pointing a tree at bytes that were copied elsewhere in the journal: no byte of any file changes.

`relocate` may be interrupted by other changes of the tree between two of its steps: as long as the
bytes can be read at both places, it does not matter which of them an extent names.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Final, NamedTuple

from pdfs.core.intervals import NOWHERE, Extent, Position
from pdfs.core.tree import Tree
from pdfs.errors import JournalDamaged

_SLICE: Final = 2000
"""Extents that are looked at in one step: 4 ms."""


class Move(NamedTuple):
    """`length` bytes at `offset` of `segment` are now at `target` of the segment of all moves."""

    segment: int
    offset: int
    length: int
    target: int


class Moves:
    """What was copied, out of which segments, into one. 24 bytes for each move."""

    def __init__(self, segment: int, copied: frozenset[int], kept: frozenset[int]) -> None:
        """All of a tree's bytes in segments below `segment` are in these.

        Those in `copied` will have been copied to `segment`, the others stay where they are.
        """
        self.segment = segment
        self.copied = copied
        self.kept = kept
        self._by_segment = {number: _Table() for number in copied}

    def __iter__(self) -> Iterator[Move]:
        """In order of segment and offset."""
        for number, table in sorted(self._by_segment.items()):
            for row in zip(table.offsets, table.lengths, table.targets, strict=True):
                yield Move(number, *row)

    def add_all(self, moves: list[Move]) -> None:
        """Enter moves out of the segments `copied`; call once."""
        for segment, offset, length, target in sorted(moves):
            table = self._by_segment[segment]
            table.offsets.append(offset)
            table.lengths.append(length)
            table.targets.append(target)

    def moved(self, extent: Extent) -> Iterator[Extent]:
        """The same bytes as they are found now. JournalDamaged where they were not copied."""
        table = self._by_segment.get(extent.at.segment)
        if table is None:
            yield self._stays(extent)
            return
        start, offset = extent.start, extent.at.offset
        index = bisect_right(table.offsets, offset) - 1
        while start < extent.stop:
            begin = table.offsets[index] if 0 <= index < len(table.offsets) else offset + 1
            length = table.lengths[index] - (offset - begin) if begin <= offset else 0
            if length <= 0:
                raise JournalDamaged(f"byte {offset} of segment {extent.at.segment} was not copied")
            stop = min(extent.stop, start + length)
            target = Position(self.segment, table.targets[index] + offset - begin)
            yield Extent(start, stop, target)
            offset, start, index = offset + stop - start, stop, index + 1

    def _stays(self, extent: Extent) -> Extent:
        number = extent.at.segment
        if number < self.segment and number not in self.kept and number != NOWHERE.segment:
            raise JournalDamaged(f"segment {number} was thought to have no bytes that count")
        return extent


class _Table:
    """The moves out of one segment, by offset."""

    __slots__ = ("lengths", "offsets", "targets")

    def __init__(self) -> None:
        self.offsets: array[int] = array("Q")
        self.lengths: array[int] = array("Q")
        self.targets: array[int] = array("Q")


def relocate(tree: Tree, moves: Moves, boundary: Position | None) -> Iterator[None]:
    """Point every extent of `tree` at where its bytes are now; other changes may come at a yield.

    `boundary` is where the publish that was under way when the bytes were copied ends among them.
    If it still is, all is done in one step, since its boundary and its extents must move together.
    Raises JournalDamaged; what was done by then is right.
    """
    flight = tree.in_flight
    is_at_once = flight is not None and flight.boundary.segment < moves.segment
    looked_at = 0
    for ino in list(tree.nodes):
        start: int | None = 0
        while start is not None and (node := tree.nodes.get(ino)) is not None:
            count = len(node.extents)
            start = node.extents.replace_from(
                start, len(node.extents) if is_at_once else _SLICE, moves.moved
            )
            looked_at += 1 + min(count, _SLICE)
            if looked_at >= _SLICE and not is_at_once:
                looked_at = 0
                yield
    if is_at_once:
        assert flight is not None
        assert boundary is not None, "a publish that is under way has a boundary"
        flight.boundary = boundary
