"""One segment's file while it grows: the order of writes and syncs that `journal_format` promises.

It decides nothing about failures: every method raises OSError as the disk reported it (SyncFailed,
where that was an fsync), and what it means for the session is the journal's to say.

The descriptor is the caller's from `create` on, to close after the last read from the segment.
"""

import contextlib
import errno
import os
from typing import NamedTuple, Self

from pdfs.disk import Buffer, Disk, write_fully
from pdfs.local.journal_format import (
    FRAME_SIZE,
    HEADER_SIZE,
    Header,
    Origin,
    Totals,
    encode_frame,
    encode_header,
    encode_trailer,
    origin_of,
    segment_name,
)


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

    def __init__(self, disk: Disk, directory: int, number: int, origin: Origin, fd: int) -> None:
        """Use `create`."""
        self._disk = disk
        self._directory = directory
        self._origin = origin
        self._written = _Written(HEADER_SIZE, 0, Totals())
        self.number = number
        self.descriptor = fd

    @property
    def end(self) -> int:
        """Where the next record goes."""
        return self._written.end

    @property
    def last_sequence(self) -> int:
        """Of the newest record in this segment, or before it while it has none."""
        return self._written.last_sequence

    @classmethod
    def create(cls, disk: Disk, directory: int, number: int, header: Header) -> Self:
        """Make the file and sync its header. The directory is still to be synced.

        When it raises, no file of that name is left, unless removing it failed too. A segment of
        that number, partial or whole, is FileExistsError.
        """
        block = encode_header(header, number)
        with contextlib.suppress(FileNotFoundError):
            os.stat(segment_name(number, "whole"), dir_fd=directory, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, "the segment is there already")
        name = segment_name(number, "partial")
        descriptor = disk.open(directory, name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            write_fully(disk, descriptor, [block], 0)
            fsync(disk, descriptor)
        except BaseException:
            disk.close(descriptor)
            with contextlib.suppress(OSError):
                disk.unlink(directory, name)
            raise
        origin = origin_of(header.session, header.run, number)
        return cls(disk, directory, number, origin, descriptor)

    @property
    def has_records(self) -> bool:
        return self._written.totals.records > 0

    def begin_after(self, sequence: int) -> None:
        """Its first record will follow the record of that number."""
        self._written = self._written._replace(last_sequence=sequence)

    def append(self, kind: int, body: bytes, data: Buffer, synced: int) -> int:
        """Write one record at `end`, under the next number; return the file offset of its data.

        When it raises, anything, the segment is as it was: the record may be in the file, and the
        next one is written over it.
        """
        end, last_sequence, totals = self._written
        frame = encode_frame(self._origin, end, kind, body, data, last_sequence + 1, synced)
        size = write_fully(self._disk, self.descriptor, (frame, body, data), end)
        passed = totals.plus(len(body), len(data))
        self._written = _Written(end + size, last_sequence + 1, passed)
        return end + FRAME_SIZE + len(body)

    def drop_torn(self) -> None:
        """Give back the space that a failed append took; left as it is where that fails too."""
        with contextlib.suppress(OSError):
            self._disk.ftruncate(self.descriptor, self.end)

    def seal(self) -> None:
        """Write and sync the trailer, and rename the file. The directory is still to be synced.

        All records up to `last_sequence` are synced.
        """
        end, last_sequence, totals = self._written
        trailer = encode_trailer(self._origin, end, totals, last_sequence)
        write_fully(self._disk, self.descriptor, [trailer], end)
        self._disk.ftruncate(self.descriptor, end + len(trailer))
        fsync(self._disk, self.descriptor)
        self._disk.rename(
            self._directory,
            segment_name(self.number, "partial"),
            self._directory,
            segment_name(self.number, "whole"),
        )

    def discard(self) -> None:
        """Remove a segment that has no records."""
        self._disk.unlink(self._directory, segment_name(self.number, "partial"))
