"""One segment's file while it grows: the order of writes and syncs that `journal_format` promises.

It decides nothing about failures: every method raises OSError as the disk reported it (SyncFailed,
where that was an fsync), and what it means for the session is the journal's to say.

The descriptor is the caller's from `create` on, to close after the last read from the segment.
"""

import contextlib
import errno
import os
from typing import Self

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


class SegmentWriter:
    """A segment under its partial name, with a synced header and records up to `end`."""

    __slots__ = (
        "_body_bytes",
        "_data_bytes",
        "_directory",
        "_disk",
        "_origin",
        "_records",
        "descriptor",
        "end",
        "last_sequence",
        "number",
    )

    def __init__(self, disk: Disk, directory: int, number: int, origin: Origin, fd: int) -> None:
        """Use `create`."""
        self._disk = disk
        self._directory = directory
        self._origin = origin
        self._records = self._body_bytes = self._data_bytes = 0
        self.number = number
        self.descriptor = fd
        self.end = HEADER_SIZE
        """Where the next record goes."""
        self.last_sequence = 0
        """Of its newest record; 0 while it has none."""

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

    def append(self, kind: int, body: bytes, data: Buffer, sequence: int, synced: int) -> int:
        """Write one record at `end`, and return the file offset of its data.

        When it raises, `end` has not moved and nothing before it was touched.
        """
        frame = encode_frame(self._origin, self.end, kind, body, data, sequence, synced)
        written = write_fully(self._disk, self.descriptor, (frame, body, data), self.end)
        data_offset = self.end + FRAME_SIZE + len(body)
        self.end += written
        self.last_sequence = sequence
        self._records += 1
        self._body_bytes += len(body)
        self._data_bytes += len(data)
        return data_offset

    def drop_torn(self) -> None:
        """Give back the space that a failed append took; left as it is where that fails too."""
        with contextlib.suppress(OSError):
            self._disk.ftruncate(self.descriptor, self.end)

    def seal(self, last_sequence: int) -> None:
        """Write and sync the trailer, and rename the file. The directory is still to be synced.

        All records up to `last_sequence`, the newest before the end of this segment, are synced.
        """
        totals = Totals(self._records, self._body_bytes, self._data_bytes)
        trailer = encode_trailer(self._origin, self.end, totals, last_sequence)
        write_fully(self._disk, self.descriptor, [trailer], self.end)
        self._disk.ftruncate(self.descriptor, self.end + len(trailer))
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
