"""What the journal does that waits for the disk, in pieces that any thread can run.

None of them touches the journal's state: whoever ran one tells the journal on its own thread.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from pdfs.disk import Disk
from pdfs.local.journal_segment import SegmentWriter


@dataclass(frozen=True, slots=True)
class SyncPoint:
    """All that was appended when it was taken, and how to make it survive power loss."""

    sequence: int
    """Newest record that `run` covers."""
    _disk: Disk
    _descriptors: tuple[int, ...]

    def run(self) -> None:
        """fdatasync the segments, oldest first; touches no state, so it may run in a thread.

        Raises OSError. The journal knows nothing of it until `mark_synced` or `mark_failed`.
        """
        for descriptor in self._descriptors:
            self._disk.fdatasync(descriptor)


class Task(Protocol):
    """Work on the journal's files that waits for the disk. `run` it, then `Journal.finish` it."""

    def run(self) -> None:
        """In any thread, once; keeps to itself what came out, errors of the disk included."""


class Preparation:
    """Makes a segment. A `Task`."""

    def __init__(self, make: Callable[[], SegmentWriter], sync: Callable[[], None]) -> None:
        self._make = make
        self._sync = sync
        self.made: SegmentWriter | None = None
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            self.made = self._make()
            self._sync()
        except OSError as error:
            self.error = error


class Sealing:
    """Seals segments that are synced and take no more records, oldest first. A `Task`."""

    def __init__(self, segments: Iterable[SegmentWriter], sync: Callable[[], None]) -> None:
        self._segments = tuple(segments)
        self._sync = sync
        self.sealed: list[SegmentWriter] = []
        self.error: OSError | None = None

    def run(self) -> None:
        try:
            for segment in self._segments:
                segment.seal()
                self._sync()
                self.sealed.append(segment)
        except OSError as error:
            self.error = error
