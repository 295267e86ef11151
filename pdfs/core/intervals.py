"""The dirty ranges of one file: which bytes were written in this session, and where they lie.

An `Extent` says that bytes `start` … `stop` of the file are at `position` in a journal segment.
The extents of one file never overlap and are kept in order; a newer write cuts what it covers.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple


class Position(NamedTuple):
    """A place in the journal. Later appends have greater positions."""

    segment: int
    offset: int


NOWHERE: Final = Position(0, 0)
"""There is no segment 0: of a record without data, and of bytes that were written and are lost."""
NOWHERE_SINCE: Final = Position(0, 1 << 62)
"""Of lost bytes that were written since the publish under way began: it can't bring them back."""


class Extent(NamedTuple):
    """Bytes `start` … `stop` of a file, found at `at` in the journal.

    A tuple, as is a position: a replay makes one of each for every write, 1 µs less for both.
    """

    start: int
    stop: int
    at: Position

    def within(self, start: int, stop: int) -> "Extent":
        """The part of this extent that lies in `start` … `stop`, which must overlap it."""
        first, last = max(self.start, start), min(self.stop, stop)
        shifted = Position(self.at.segment, self.at.offset + first - self.start)
        return Extent(first, last, shifted)

    def is_before(self, other: "Extent") -> bool:
        """Whether `other` goes on where this one ends, in the file and in the journal."""
        end = Position(self.at.segment, self.at.offset + self.stop - self.start)
        return (other.start, other.at) == (self.stop, end)


class Extents:
    """The extents of one file. Costs O(log n) to find and, rarely, O(n) to shift a list."""

    __slots__ = ("_extents", "_starts", "total")

    def __init__(self, extents: Iterable[Extent] = ()) -> None:
        self.total = 0
        """How many bytes they cover."""
        self._starts: list[int] = []
        self._extents: list[Extent] = []
        for extent in extents:
            self.put(extent)

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._extents)

    def __len__(self) -> int:
        return len(self._extents)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Extents) and self._extents == other._extents

    __hash__ = None  # type: ignore[assignment]  # mutable, compared by value

    def copy(self) -> "Extents":
        """The same extents, to be changed without these."""
        made = Extents()
        made.total, made._starts, made._extents = self.total, self._starts[:], self._extents[:]
        return made

    def put(self, extent: Extent) -> None:
        """Lay `extent` over what is there."""
        start, stop, _ = extent
        if start >= stop:
            return
        extents = self._extents
        if not extents or start >= extents[-1].stop:
            self._starts.append(start)
            extents.append(extent)
            self.total += stop - start
            return
        index = bisect_right(self._starts, start) - 1
        if index >= 0 and extents[index].start == start and extents[index].stop == stop:
            extents[index] = extent  # a block, written again
            return
        self._replace(start, stop, [extent])

    def cut(self, size: int) -> None:
        """Drop everything at and above `size`."""
        if self._extents and self._extents[-1].stop > size:
            self._replace(size, self._extents[-1].stop, [])

    def drop_until(self, position: Position) -> None:
        """Drop every extent whose bytes were appended before `position`."""
        kept = [
            extent
            for extent in self._extents
            if extent.at >= position
            or (extent.at.segment == NOWHERE.segment and extent.at >= NOWHERE_SINCE)
        ]
        self._extents = kept
        self._starts = [extent.start for extent in kept]
        self.total = _length(kept)

    def replace_from(
        self, start: int, most: int, replaced: Callable[[Extent], Iterable[Extent]]
    ) -> int | None:
        """Put what `replaced` makes of it in place of each extent that begins at or above `start`.

        Its extents cover exactly the bytes of that one. Those that follow each other in the file
        and in the journal become one. Returns where to go on after `most` extents, or None.
        """
        first = bisect_left(self._starts, start)
        old = self._extents[first : first + most]
        new = _joined(piece for extent in old for piece in replaced(extent))
        self._extents[first : first + most] = new
        self._starts[first : first + most] = [extent.start for extent in new]
        return old[-1].stop if old and self._extents[-1].stop > old[-1].stop else None

    def between(self, start: int, stop: int) -> list[Extent]:
        """The extents that overlap `start` … `stop`, cut to it, in order."""
        first, last = self._overlap(start, stop)
        return [extent.within(start, stop) for extent in self._extents[first:last]]

    def _overlap(self, start: int, stop: int) -> tuple[int, int]:
        first = bisect_right(self._starts, start)
        if first and self._extents[first - 1].stop > start:
            first -= 1
        return first, max(first, bisect_left(self._starts, stop))

    def _replace(self, start: int, stop: int, new: list[Extent]) -> None:
        first, last = self._overlap(start, stop)
        pieces = list(new)
        if first < last:
            head, tail = self._extents[first], self._extents[last - 1]
            if head.start < start:
                pieces.insert(0, head.within(head.start, start))
            if tail.stop > stop:
                pieces.append(tail.within(stop, tail.stop))
        self.total += _length(pieces) - _length(self._extents[first:last])
        self._extents[first:last] = pieces
        self._starts[first:last] = [piece.start for piece in pieces]


def _length(extents: Iterable[Extent]) -> int:
    return sum(extent.stop - extent.start for extent in extents)


def _joined(extents: Iterable[Extent]) -> list[Extent]:
    joined: list[Extent] = []
    for extent in extents:
        if joined and joined[-1].is_before(extent):
            joined[-1] = Extent(joined[-1].start, extent.stop, joined[-1].at)
        else:
            joined.append(extent)
    return joined
