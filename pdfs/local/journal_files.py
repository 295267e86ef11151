"""The open files of a journal's segments, by number. All calls belong on one thread.

A segment whose file was removed is still read by a publish that had it pinned before.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator

from pdfs.disk import Disk, read_fully
from pdfs.local.journal_format import SegmentName


class SegmentFiles:
    """A descriptor stays open as long as its segment may be read."""

    def __init__(self, disk: Disk, directory: int) -> None:
        self._disk = disk
        self._directory = directory
        self._descriptors: dict[int, int] = {}
        self._removed: set[int] = set()
        self._pins = 0

    def add(self, number: int, descriptor: int) -> None:
        """This is the open file of that segment; it is closed here."""
        self._descriptors[number] = descriptor

    def descriptor_of(self, number: int) -> int:
        """The open file of a segment, opened where this journal did not make it. Raises OSError."""
        if number not in self._descriptors:
            self._descriptors[number] = open_segment(self._disk, self._directory, number)
        return self._descriptors[number]

    def read(self, number: int, offset: int, length: int) -> bytes:
        """These bytes; fewer only where the file ends. Raises OSError."""
        return read_fully(self.descriptor_of(number), length, offset)

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """What can be read now can be read until the end of the block."""
        self._pins += 1
        try:
            yield
        finally:
            self._pins -= 1
            if not self._pins:
                self._close(self._removed)
                self._removed.clear()

    def forget(self, numbers: Iterable[int]) -> None:
        """Nobody but who pinned them will read these segments. Raises OSError.

        Where somebody did, this opens what was not open, so that the files can be removed.
        """
        if not self._pins:
            self._close(numbers)
            return
        for number in numbers:
            self.descriptor_of(number)
            self._removed.add(number)

    def close(self) -> None:
        """Close everything. Idempotent."""
        self._close(list(self._descriptors))

    def _close(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            descriptor = self._descriptors.pop(number, None)
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    self._disk.close(descriptor)


def open_segment(disk: Disk, directory: int, number: int) -> int:
    """A descriptor of the file of that segment, to read from. Raises OSError."""
    whole = SegmentName(number, is_whole=True)
    for name in (whole, whole._replace(is_carried=True)):
        with contextlib.suppress(FileNotFoundError):
            return disk.open(directory, str(name), os.O_RDONLY)
    return disk.open(directory, str(whole._replace(is_whole=False)), os.O_RDONLY)
