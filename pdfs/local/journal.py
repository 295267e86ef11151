"""The write-ahead log of a running session: append, sync, roll, seal.

The bytes and names are those of `journal_format`; `journal_loader` reads them back after a crash.

Invariants:
- A record counts from the moment that `append` returns: the offset moves only after a full write,
  so a failed append leaves nothing but bytes that the next one overwrites and no loader accepts.
- `synced_sequence`, and with it what records and trailers call synced, moves only after an
  fdatasync that started after the append and covered all unsynced segments, oldest first.
- At most one sync is under way. A kernel tells a failed write-back once, to whoever syncs next: a
  second sync beside it could get a success that is none.
- After one failed write or sync the journal has failed for ever: every append and sync raises
  JournalFailed, no trailer is written. A full disk at a write is no failure: nothing was taken,
  and the journal goes on.

No trio and no clock here: every call belongs on one thread, except `SyncPoint.run`, which is made
for a worker thread, and `read`.
"""

import contextlib
import errno
import os
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from pdfs.disk import Buffer, Disk, disk_error, read_fully
from pdfs.errors import DiskError, JournalDamaged, JournalFailed, SessionError
from pdfs.local.journal_format import HEADER, PAYLOAD_LIMIT, TRAILER, Header, segment_name
from pdfs.local.journal_segment import SegmentWriter, SyncFailed, fsync

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Appended(NamedTuple):
    """Where a record is; `data_offset` is that of its data in the segment's file."""

    sequence: int
    segment: int
    data_offset: int


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


class Journal:
    """One session's journal, open for appending. A context manager: `close`, or `abandon`."""

    def __init__(self, disk: Disk, directory: int, header: Header) -> None:
        """Use `create`."""
        self._disk = disk
        self._directory = directory
        self._header = header
        self._synced = 0
        self._unsealed: list[SegmentWriter] = []
        """Oldest first, `_current` last."""
        self._current: SegmentWriter
        """Takes the records."""
        self._prepared: SegmentWriter | None = None
        self._descriptors: dict[int, int] = {}
        """Of every segment that is open, sealed ones and earlier runs' included."""
        self._opening = threading.Lock()
        self._point: SyncPoint | None = None
        self._failure = ""
        self._is_closed = False

    @classmethod
    def create(
        cls,
        disk: Disk,
        directory: int,
        header: Header,
        *,
        segment: int = 1,
        first_sequence: int = 1,
    ) -> Self:
        """Begin a journal in `directory`, an open descriptor that stays the caller's.

        When this returns, header and name survive power loss. `segment` and `first_sequence` are
        above any that this session ever used. Of records before `first_sequence` this journal calls
        none synced until its own first sync: an old file's sync is never believed. Raises DiskFull
        or JournalFailed.
        """
        journal = cls(disk, directory, header)
        try:
            journal._go_on_in(journal._create_segment(segment), first_sequence - 1)
        except DiskError:
            journal.abandon()
            raise
        return journal

    @property
    def last_sequence(self) -> int:
        """Of the newest record."""
        return self._current.last_sequence

    @property
    def synced_sequence(self) -> int:
        """Of the newest record that survives power loss, with all before it."""
        return self._synced

    @property
    def segment(self) -> int:
        """Number of the segment that takes the records."""
        return self._current.number

    @property
    def segment_size(self) -> int:
        """Bytes in that segment."""
        return self._current.end

    @property
    def has_failed(self) -> bool:
        """A write or sync failed: nothing is taken any more."""
        return bool(self._failure)

    def append(self, kind: int, body: bytes, data: Buffer = b"") -> Appended:
        """Add one record: it survives the death of this process, and power loss once synced.

        `kind` is 1 to 254; `data` is contiguous, of items of one byte. Raises DiskFull, which
        leaves the journal as it was, or JournalFailed.
        """
        if not HEADER < kind < TRAILER or max(len(body), len(data)) > PAYLOAD_LIMIT:
            raise ValueError(f"no record: kind {kind}, {len(body)} and {len(data)} bytes")
        view = memoryview(data)
        if view.nbytes != len(data) or not view.c_contiguous:
            raise ValueError("data is not a buffer of bytes")
        self._check_usable()
        try:
            data_offset = self._current.append(kind, body, data, self._synced)
        except OSError as error:
            self._current.drop_torn()
            raise self._refused(error) from error
        return Appended(self._current.last_sequence, self._current.number, data_offset)

    def sync_point(self) -> SyncPoint:
        """What to sync now. `run` it, then call `mark_synced` or `mark_failed`, whatever came out.

        Raises JournalFailed, and SessionError while another one is under way.
        """
        self._check_usable()
        self._check_no_sync()
        descriptors = tuple(
            segment.descriptor
            for segment in self._unsealed
            if segment.has_records and segment.last_sequence > self._synced
        )
        self._point = SyncPoint(self.last_sequence, self._disk, descriptors)
        return self._point

    def mark_synced(self, point: SyncPoint) -> None:
        """`point.run()` returned: everything up to its sequence number is on the disk."""
        self._end_sync(point)
        self._synced = max(self._synced, point.sequence)

    def mark_failed(self, point: SyncPoint, error: BaseException) -> JournalFailed:
        """`point.run()` raised `error`, or its outcome is unknown; returns what to tell waiters."""
        self._end_sync(point)
        return self._fail(error)

    def sync(self) -> None:
        """Make every record survive power loss, here and now. Raises JournalFailed."""
        point = self.sync_point()
        try:
            point.run()
        except BaseException as error:
            failed = self.mark_failed(point, error)
            if isinstance(error, OSError):
                raise failed from error
            raise
        self.mark_synced(point)

    def read(self, segment: int, offset: int, length: int) -> bytes:
        """Exactly these bytes of a segment of this session, this run's or an earlier one's.

        Any thread may call it, but not while the journal is being closed. Raises JournalDamaged
        where they are not all there, DiskError, and SessionError once the journal is closed.
        """
        self._check_open()
        name = f"segment {segment} of the journal"
        try:
            raw = read_fully(self._descriptor_of(segment), length, offset)
        except OSError as error:
            raise disk_error(error, f"read {name}") from error
        if len(raw) != length:
            raise JournalDamaged(
                f"{name} of session {self._header.session} ends at {offset + len(raw)}; "
                f"{length} bytes at {offset} were written",
            )
        return raw

    def read_cached(self, segment: int, offset: int, length: int) -> bytes | None:
        """The same if it takes no wait for the disk, else None: `read` it in a thread."""
        self._check_open()
        buffer = bytearray(length)
        try:
            count = os.preadv(self._descriptor_of(segment), [buffer], offset, os.RWF_NOWAIT)
        except OSError:  # EAGAIN; EOPNOTSUPP on some file systems; others are told by `read`
            return None
        return bytes(buffer) if count == length else None

    def prepare(self) -> None:
        """Make the next segment ahead, so that `roll` waits for nothing. Idempotent.

        Raises DiskFull, which leaves the journal as it was, or JournalFailed.
        """
        self._check_usable()
        if self._prepared is None:
            self._prepared = self._create_segment(self.segment + 1)

    def roll(self) -> None:
        """Let the next segment take the records from now on. Raises as `prepare` does."""
        self.prepare()
        assert self._prepared is not None
        self._go_on_in(self._prepared, self.last_sequence)
        self._prepared = None

    def seal(self) -> None:
        """Seal the segments that take no more records and are synced: trailer, sync, rename.

        Raises DiskFull, which leaves them to be sealed later, or JournalFailed.
        """
        self._check_usable()
        while len(self._unsealed) > 1 and self._unsealed[0].last_sequence <= self._synced:
            self._seal_oldest()

    def close(self) -> None:
        """Sync, seal every segment, and give back the descriptors. Idempotent.

        When it raises, DiskFull or JournalFailed, the journal is closed as well, and is like one
        whose process died. SessionError while a sync is under way: nothing was changed then.
        """
        if self._is_closed:
            return
        self._check_no_sync()
        try:
            self.sync()
            self._discard_prepared()
            while self._unsealed:
                self._seal_oldest()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give back the descriptors and leave the files as they are. Idempotent.

        Descriptors stay open until a sync that is under way was marked.
        """
        self._is_closed = True
        if self._point is not None:
            return
        while self._descriptors:
            _, descriptor = self._descriptors.popitem()
            with contextlib.suppress(OSError):
                self._disk.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def _create_segment(self, number: int) -> SegmentWriter:
        try:
            segment = SegmentWriter.create(self._disk, self._directory, number, self._header)
            self._descriptors[number] = segment.descriptor
            fsync(self._disk, self._directory)
        except OSError as error:
            raise self._refused(error) from error
        return segment

    def _go_on_in(self, segment: SegmentWriter, last_sequence: int) -> None:
        segment.begin_after(last_sequence)
        self._unsealed.append(segment)
        self._current = segment

    def _seal_oldest(self) -> None:
        try:
            self._unsealed[0].seal()
            fsync(self._disk, self._directory)
        except OSError as error:
            raise self._refused(error) from error
        del self._unsealed[0]

    def _discard_prepared(self) -> None:
        if self._prepared is None:
            return
        try:
            self._prepared.discard()
        except OSError as error:
            raise self._refused(error) from error
        self._prepared = None

    def _descriptor_of(self, segment: int) -> int:
        """The open file of a segment, opened where this journal did not make it. Raises OSError."""
        with self._opening:
            if segment not in self._descriptors:
                try:
                    name = segment_name(segment, "whole")
                    descriptor = self._disk.open(self._directory, name, os.O_RDONLY)
                except FileNotFoundError:
                    name = segment_name(segment, "partial")
                    descriptor = self._disk.open(self._directory, name, os.O_RDONLY)
                self._descriptors[segment] = descriptor
            return self._descriptors[segment]

    def _check_open(self) -> None:
        if self._is_closed:
            raise SessionError(f"the journal of session {self._header.session} is closed")

    def _check_usable(self) -> None:
        self._check_open()
        if self._failure:
            raise self._failed()

    def _check_no_sync(self) -> None:
        if self._point is not None:
            raise SessionError("a sync of the journal is under way")

    def _end_sync(self, point: SyncPoint) -> None:
        if point is not self._point:
            raise SessionError("this sync of the journal is not under way")
        self._point = None
        if self._is_closed:
            self.abandon()

    def _refused(self, error: OSError) -> DiskError:
        """What to raise for a failed write (or sync): the disk is full, or the journal failed."""
        if error.errno in _FULL and not isinstance(error, SyncFailed):
            return disk_error(error, "write the journal")
        return self._fail(error)

    def _fail(self, error: BaseException) -> JournalFailed:
        self._failure = self._failure or str(error) or type(error).__name__
        return self._failed()

    def _failed(self) -> JournalFailed:
        return JournalFailed(
            f"the journal of session {self._header.session} can't be trusted since a write or sync"
            f" of it failed: {self._failure}",
            remedy="what was written until then is kept: see to that disk, then mount again",
        )
