"""Bytes in segments that no replay reads any more: read only where they are what was written.

Their records count no longer, but files still have bytes in them. A record there is checked as a
whole before any byte of it is believed.
"""

from bisect import bisect_right
from collections.abc import Set

from pdfs.core.ids import SessionId
from pdfs.core.intervals import NOWHERE, NOWHERE_SINCE, Extent
from pdfs.core.tree import Tree
from pdfs.disk import Disk, disk_error
from pdfs.local.carrying import live_bytes
from pdfs.local.journal_files import SegmentFiles
from pdfs.local.journal_format import FRAME_SIZE
from pdfs.local.journal_reader import SegmentReader


class IntactRanges:
    """Where in one segment the data of intact records lies."""

    def __init__(
        self, descriptor: int, session: SessionId, number: int, *, salvages: bool = False
    ) -> None:
        """Read and check the whole of it. Raises OSError; see `SegmentReader` for `salvages`."""
        reader = SegmentReader(
            descriptor, session=session, number=number, mark=None, salvages=salvages
        )
        self._starts: list[int] = []
        self._stops: list[int] = []
        for found in reader.frames_from(0):
            if found.body is not None:
                self._starts.append(found.offset + FRAME_SIZE + found.frame.body_size)
                self._stops.append(found.end)

    def has(self, extent: Extent) -> bool:
        """Whether all bytes of an extent are in one intact record."""
        index = bisect_right(self._starts, extent.at.offset) - 1
        length = extent.stop - extent.start
        return index >= 0 and extent.at.offset + length <= self._stops[index]


def lose_damaged(
    disk: Disk,
    directory: int,
    session: SessionId,
    tree: Tree,
    *,
    through: int,
    among: Set[int] | None = None,
    salvages: bool = False,
) -> str:
    """Point extents whose bytes are not what was written to nowhere; what there is to say of them.

    Only segments up to `through` are looked at, as replay has checked the others, and of these only
    those `among`, where that is given. Raises DiskError; with `salvages`, bytes that the disk can't
    read any more are not what was written.
    """
    files = SegmentFiles(disk, directory)
    lost, segments = 0, set[int]()
    used = {one for one in live_bytes(tree) if one <= through}
    try:
        for number in sorted(used if among is None else used & among):
            ranges = _intact_ranges(files, session, number, salvages)
            count = _lose(tree, number, ranges)
            lost += count
            segments |= {number} if count else set()
    except OSError as error:
        raise disk_error(error, "read the journal") from error
    finally:
        files.close()
    if not lost:
        return ""
    names = ", ".join(str(number) for number in sorted(segments))
    return f"{lost} bytes of files are lost in segment {names} of the journal, which is damaged"


def _intact_ranges(
    files: SegmentFiles, session: SessionId, number: int, salvages: bool
) -> IntactRanges | None:
    try:
        return IntactRanges(files.descriptor_of(number), session, number, salvages=salvages)
    except FileNotFoundError:
        return None


def _lose(tree: Tree, number: int, intact: IntactRanges | None) -> int:
    """How many bytes were lost."""
    lost = 0
    flight = tree.in_flight

    def looked_at(extent: Extent) -> list[Extent]:
        nonlocal lost
        if extent.at.segment != number or (intact is not None and intact.has(extent)):
            return [extent]
        lost += extent.stop - extent.start
        is_since = flight is not None and extent.at >= flight.boundary
        return [Extent(extent.start, extent.stop, NOWHERE_SINCE if is_since else NOWHERE)]

    for node in tree.nodes.values():
        node.extents.replace_from(0, len(node.extents), looked_at)
    return lost


def read_extent(files: SegmentFiles, extent: Extent) -> bytes:
    """The bytes of an extent. Raises OSError, also where they are not all there."""
    raw = files.read(extent.at.segment, extent.at.offset, extent.stop - extent.start)
    if len(raw) != extent.stop - extent.start:
        raise OSError(f"segment {extent.at.segment} ends before byte {extent.at.offset + len(raw)}")
    return raw
