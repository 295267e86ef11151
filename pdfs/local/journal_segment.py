"""One segment's file while it grows: the order of writes and syncs that `journal_format` promises.

It decides nothing about failures: every method raises OSError as the disk reported it (SyncFailed,
where that was an fsync), and what it means for the session is the journal's to say.

The descriptor is the caller's from `create` on, to close after the last read from the segment.
"""

import contextlib
import errno
import os
from typing import Final, NamedTuple, Self

from pdfs.disk import Buffer, Disk, write_fully, zero_fill
from pdfs.local.journal_format import (
    FRAME_SIZE,
    HEADER_SIZE,
    Header,
    Origin,
    SegmentName,
    Totals,
    Trailer,
    encode_frame,
    encode_header,
    encode_trailer,
    origin_of,
)

TRAILER_ROOM: Final = 256
"""Records leave so many of the allocated bytes: the trailer of the longest segment needs 190."""


class SyncFailed(OSError):
    """What was to be synced may be lost, also if another sync succeeds later."""


def fsync(disk: Disk, descriptor: int) -> None:
    """Sync a file or directory. Raises SyncFailed."""
    try:
        disk.fsync(descriptor)
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror) from error


class _Written(NamedTuple):
    """What is in a segment: replaced as a whole, so that nothing can come in between."""

    end: int
    last_sequence: int
    totals: Totals


class SegmentWriter:
    """A segment under its partial name, with a synced header and records up to `end`."""

    def __init__(
        self, disk: Disk, directory: int, name: SegmentName, origin: Origin, fd: int, allocated: int
    ) -> None:
        """Use `create`."""
        self._disk = disk
        self._directory = directory
        self._name = name
        self._origin = origin
        self._written = _Written(HEADER_SIZE, 0, Totals())
        self._allocated = allocated
        self._next = 0
        self.descriptor = fd

    @property
    def number(self) -> int:
        return self._name.number

    @property
    def end(self) -> int:
        """Where the next record goes."""
        return self._written.end

    @property
    def room(self) -> int:
        """Allocated bytes that records can still take: writing there can't find the disk full."""
        return self._allocated - TRAILER_ROOM - self._written.end

    @property
    def last_sequence(self) -> int:
        """Of the newest record in this segment, or before it while it has none."""
        return self._written.last_sequence

    @classmethod
    def create(
        cls,
        disk: Disk,
        directory: int,
        name: SegmentName,
        header: Header,
        *,
        size: int = 0,
        is_filled: bool = False,
    ) -> Self:
        """Make the file and sync its header. The directory is still to be synced.

        `size` bytes of it are allocated, and zeros are written to them if `is_filled`: a later
        fdatasync then has no metadata to commit (measured on ext4: 6,000 a second against 3,700).
        When it raises, no file of that name is left, unless removing it failed too. A segment of
        that number, partial or whole, is FileExistsError.
        """
        block = encode_header(header, name.number)
        with contextlib.suppress(FileNotFoundError):
            whole = str(name._replace(is_whole=True))
            os.stat(whole, dir_fd=directory, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, "the segment is there already")
        descriptor = disk.open(directory, str(name), os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            if size:
                disk.allocate(descriptor, 0, size)
            write_fully(disk, descriptor, [block], 0)
            if is_filled:
                # Bytes behind a header prove that there was one, also what a file system that shows
                # the old content of blocks leaves of these zeros.
                fsync(disk, descriptor)
                zero_fill(disk, descriptor, HEADER_SIZE, size - HEADER_SIZE)
            fsync(disk, descriptor)
        except BaseException:
            disk.close(descriptor)
            with contextlib.suppress(OSError):
                disk.unlink(directory, str(name))
            raise
        origin = origin_of(header.session, header.run, name.number)
        return cls(disk, directory, name, origin, descriptor, size)

    @property
    def has_records(self) -> bool:
        return self._written.totals.records > 0

    def begin_after(self, sequence: int) -> None:
        """Its first record will follow the record of that number."""
        self._written = self._written._replace(last_sequence=sequence)

    def end_before(self, number: int) -> None:
        """It takes no more records: the segment of that number, which is there, goes on."""
        self._next = number

    def allocate(self, room: int) -> None:
        """Make sure that there is so much `room`."""
        missing = room - self.room
        if missing > 0:
            self._disk.allocate(self.descriptor, self._allocated, missing)
            self._allocated += missing

    def append(self, kind: int, body: bytes, data: Buffer, synced: int) -> int:
        """Write one record at `end`, under the next number; return the file offset of its data.

        When it raises, anything, the segment is as it was: the record may be in the file, and the
        next one is written over it.
        """
        return self._append(kind, body, data, self._written.last_sequence + 1, synced)

    def carry(self, kind: int, body: bytes, data: Buffer) -> int:
        """Write one record under the number of the last record before this segment; the same."""
        sequence = self._written.last_sequence
        return self._append(kind, body, data, sequence, sequence)

    def _append(self, kind: int, body: bytes, data: Buffer, sequence: int, synced: int) -> int:
        end, _, totals = self._written
        frame = encode_frame(self._origin, end, kind, body, data, sequence, synced)
        size = write_fully(self._disk, self.descriptor, (frame, body, data), end)
        self._written = _Written(end + size, sequence, totals.plus(len(body), len(data)))
        return end + FRAME_SIZE + len(body)

    def drop_torn(self) -> None:
        """Give back the space that a failed append took; left as it is where that fails too.

        What it left in allocated space stays there for the next record to cover.
        """
        with contextlib.suppress(OSError):
            self._disk.ftruncate(self.descriptor, max(self.end, self._allocated))

    def seal(self) -> None:
        """Write and sync the trailer, and rename the file. The directory is still to be synced.

        All records up to `last_sequence` are synced, or carried: then this is what syncs them.
        """
        end, last_sequence, totals = self._written
        trailer = encode_trailer(self._origin, end, Trailer(totals, self._next), last_sequence)
        write_fully(self._disk, self.descriptor, [trailer], end)
        self._disk.ftruncate(self.descriptor, end + len(trailer))
        fsync(self._disk, self.descriptor)
        whole = self._name._replace(is_whole=True)
        self._disk.rename(self._directory, str(self._name), self._directory, str(whole))
        self._name = whole

    def discard(self) -> None:
        """Remove a segment that has no records."""
        self._disk.unlink(self._directory, str(self._name))
