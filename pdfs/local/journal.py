"""The write-ahead log of a running session: append, sync, roll, seal.

The bytes and names are those of `journal_format`; `journal_loader` reads them back after a crash.

Invariants:
- A record counts from the moment that `append` returns: the offset moves only after a full write,
  so a failed append leaves nothing but bytes that the next one overwrites and no loader accepts.
- `synced_sequence`, and with it what records and trailers call synced, moves only after an
  fdatasync that started after the append and covered all unsynced segments, oldest first.
- At most one sync is under way. A kernel tells a failed write-back once, to whoever syncs next: a
  second sync beside it could get a success that is none. (Making the next segment and sealing old
  ones sync other files than those: no record that a sync has to cover is in them.)
- After one failed write or sync the journal has failed for ever: every append and sync raises
  JournalFailed, no trailer is written. A full disk at a write is no failure: nothing was taken,
  and the journal goes on.
- Once its files were deleted under it (`is_deleted`), it makes, seals and renames none: what it has
  open still takes the records of a publish, and nothing survives this process.
- A record is written where space was allocated before, and leaves as much of that as its caller
  asks: so what makes room, or ends the session, finds some on a full disk.

A roll waits for nothing. When the next segment is ready, it takes the records as soon as the
present one is full; until then that one grows.

No trio and no clock here: every call belongs on one thread. What waits for the disk is handed out
as a task (`journal_tasks`) for a worker thread.
"""

import errno
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from pdfs.disk import Buffer, Disk, disk_error
from pdfs.errors import DiskError, JournalDamaged, JournalFailed, SessionError
from pdfs.local.journal_files import SegmentFiles
from pdfs.local.journal_format import (
    FRAME_SIZE,
    HEADER,
    PAYLOAD_LIMIT,
    TRAILER,
    Header,
    SegmentName,
)
from pdfs.local.journal_segment import SegmentWriter, SyncFailed, fsync
from pdfs.local.journal_tasks import Preparation, Sealing, SyncPoint, Task
from pdfs.local.sizes import ALONE, JournalSizes, free_bytes

_FULL = (errno.ENOSPC, errno.EDQUOT)


T = TypeVar("T", bound=Task)


def _unheard() -> None:
    pass


class Appended(NamedTuple):
    """Where a record is; `data_offset` is that of its data in the segment's file."""

    sequence: int
    segment: int
    data_offset: int


class Journal:
    """One session's journal, open for appending. A context manager: `close`, or `abandon`."""

    def __init__(self, disk: Disk, directory: int, header: Header, sizes: JournalSizes) -> None:
        """Use `create`."""
        self.disk = disk
        self.directory = directory
        self.header = header
        self.sizes = sizes
        self._synced = 0
        self._unsealed: list[SegmentWriter] = []
        """Oldest first, `_current` last."""
        self._current: SegmentWriter
        """Takes the records."""
        self._prepared: SegmentWriter | None = None
        self._files = SegmentFiles(disk, directory)
        self._point: SyncPoint | None = None
        self._tasks: list[Task] = []
        """Under way."""
        self._syncs = 0
        """Since the last roll."""
        self._rolled_bytes = 0
        self._failure = ""
        self._is_closed = False
        self.on_roll: Callable[[], None] = _unheard
        """Called when a new segment begins to take the records, from within an append."""

    @classmethod
    def create(
        cls,
        disk: Disk,
        directory: int,
        header: Header,
        *,
        segment: int = 1,
        first_sequence: int = 1,
        sizes: JournalSizes = ALONE,
    ) -> Self:
        """Begin a journal in `directory`, an open descriptor that stays the caller's.

        When this returns, header and name survive power loss. `segment` and `first_sequence` are
        above any that this session ever used. Of records before `first_sequence` this journal calls
        none synced until its own first sync: an old file's sync is never believed. Raises DiskFull
        or JournalFailed.
        """
        journal = cls(disk, directory, header, sizes)
        try:
            task = journal._preparation(segment, sizes.segment)
            task.run()
            journal.finish(task)
            journal._roll(first_sequence - 1)
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
    def appended_bytes(self) -> int:
        """Bytes of all that was appended, headers included; it never becomes less."""
        return self._rolled_bytes + self._current.end

    @property
    def has_failed(self) -> bool:
        """A write or sync failed: nothing is taken any more."""
        return bool(self._failure)

    @property
    def is_deleted(self) -> bool:
        """Somebody deleted the segment that takes the records: it is here only while it is open."""
        if self._is_closed or not self._unsealed:
            return False
        return os.fstat(self._current.descriptor).st_nlink == 0

    @property
    def has_unsealed(self) -> bool:
        """There are segments that take no more records and are not sealed."""
        return len(self._unsealed) > 1

    @property
    def unprepared(self) -> int:
        """Bytes that the next segment will take, 0 where it is there."""
        return self.sizes.segment if self._prepared is None else 0

    def append(self, kind: int, body: bytes, data: Buffer = b"", *, keep: int = 0) -> Appended:
        """Add one record: it survives the death of this process, and power loss once synced.

        `kind` is 1 to 254; `data` is contiguous, of items of one byte; `keep` allocated bytes are
        left for others. Raises DiskFull, which leaves the journal as it was, or JournalFailed.
        """
        if not HEADER < kind < TRAILER or max(len(body), len(data)) > PAYLOAD_LIMIT:
            raise ValueError(f"no record: kind {kind}, {len(body)} and {len(data)} bytes")
        view = memoryview(data)
        if view.nbytes != len(data) or not view.c_contiguous:
            raise ValueError("data is not a buffer of bytes")
        self._check_usable()
        try:
            room = FRAME_SIZE + len(body) + len(data) + keep
            if self._current.room < room and self.sizes.segment:
                self._make_room(room, keep)
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
        self._point = SyncPoint(self.last_sequence, self.disk, descriptors)
        return self._point

    def mark_synced(self, point: SyncPoint) -> None:
        """`point.run()` returned: everything up to its sequence number is on the disk."""
        self._end_sync(point)
        self._syncs += 1
        self._synced = max(self._synced, point.sequence)

    def mark_failed(self, point: SyncPoint, error: BaseException) -> JournalFailed:
        """`point.run()` raised `error`, or its outcome is unknown; returns what to tell waiters."""
        self._end_sync(point)
        return self.fail(error)

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

        Raises JournalDamaged where they are not all there, DiskError, and SessionError once the
        journal is closed.
        """
        self._check_open()
        name = f"segment {segment} of the journal"
        try:
            raw = self._files.read(segment, offset, length)
        except OSError as error:
            raise disk_error(error, f"read {name}") from error
        if len(raw) != length:
            raise JournalDamaged(
                f"{name} of session {self.header.session} ends at {offset + len(raw)}; "
                f"{length} bytes at {offset} were written",
            )
        return raw

    def pinned(self) -> AbstractContextManager[None]:
        """What can be read now can be read until the end of the block, whatever is removed."""
        return self._files.pinned()

    def forget(self, segments: Iterable[int]) -> None:
        """Whoever did not pin these sealed segments reads them no more. Raises DiskError."""
        try:
            self._files.forget(segments)
        except OSError as error:
            raise disk_error(error, "open a segment that is to be removed") from error

    # --- segments ---------------------------------------------------------------------------------

    def preparation(self, size: int | None = None) -> Preparation | None:
        """How to make the next segment, of that size or the usual one; None where it is there.

        Raises JournalFailed.
        """
        self._check_usable()
        if self._prepared is not None or self.is_deleted:
            return None
        return self._preparation(self.segment + 2, self.sizes.segment if size is None else size)

    def sealing(self) -> Sealing | None:
        """How to seal the segments that take no more records and are synced: trailer, sync, rename.

        None where there are none. Raises JournalFailed.
        """
        self._check_usable()
        ready = [one for one in self._unsealed[:-1] if one.last_sequence <= self._synced]
        if not ready or self.is_deleted:
            return None
        return self._begun(Sealing(ready, self._sync_directory))

    def finish(self, task: Preparation | Sealing) -> None:
        """`task.run()` returned. Raises DiskFull, which leaves the journal as it was, or
        JournalFailed."""
        self._tasks.remove(task)
        match task:
            case Preparation(made=SegmentWriter() as made):
                self._files.add(made.number, made.descriptor)
                self._prepared = made if task.error is None else None
            case Sealing():
                self._unsealed = [one for one in self._unsealed if one not in task.sealed]
            case _:
                pass
        if self._is_closed:
            self.abandon()
        elif task.error is not None and not self.is_deleted:
            raise self._refused(task.error) from task.error

    def prepare(self) -> None:
        """Make the next segment here and now. Idempotent. Raises as `finish` does."""
        self._carry_out(self.preparation())

    def roll(self) -> None:
        """Let the next segment take the records from now on. Raises as `prepare` does."""
        self.prepare()
        self._roll(self.last_sequence)

    def seal(self) -> None:
        """Seal what can be sealed, here and now. Raises as `finish` does."""
        self._carry_out(self.sealing())

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Sync, seal every segment, and give back the descriptors. Idempotent.

        When it raises, DiskFull or JournalFailed, the journal is closed as well, and is like one
        whose process died. SessionError while a sync or task is under way: nothing was changed
        then.
        """
        if self._is_closed:
            return
        self._check_no_sync()
        if self._tasks:
            raise SessionError("a segment of the journal is being made or sealed")
        try:
            self.sync()
            if not self.is_deleted:
                self._discard_prepared()
                self._carry_out(self._begun(Sealing(self._unsealed, self._sync_directory)))
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give back the descriptors and leave the files as they are. Idempotent.

        Descriptors stay open until a sync or task that is under way was marked.
        """
        self._is_closed = True
        if self._point is None and not self._tasks:
            self._files.close()

    def fail(self, error: BaseException) -> JournalFailed:
        """The disk can't be trusted any more: nothing is taken from here on; what to tell."""
        self._failure = self._failure or str(error) or type(error).__name__
        return self._failed()

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

    def _make_room(self, room: int, keep: int) -> None:
        """Have so much room in the segment that takes the records. Raises OSError.

        The next segment is a reserve, too: what only takes room goes on there only if there is
        room for another one.
        """
        is_reserved = keep >= self.sizes.reserve and free_bytes(self.directory) < self.sizes.segment
        if self._prepared is not None and self._current.has_records and not is_reserved:
            self._roll(self.last_sequence)
        try:
            self._current.allocate(room + self.sizes.growth)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            self._current.allocate(room)

    def _preparation(self, number: int, size: int) -> Preparation:
        def make() -> SegmentWriter:
            return SegmentWriter.create(
                self.disk,
                self.directory,
                SegmentName(number, is_whole=False),
                self.header,
                size=size,
                is_filled=is_filled,
            )

        is_filled = bool(self.sizes.segment) and self._syncs >= self.sizes.often
        return self._begun(Preparation(make, self._sync_directory))

    def _begun(self, task: T) -> T:
        self._tasks.append(task)
        return task

    def _carry_out(self, task: Preparation | Sealing | None) -> None:
        if task is not None:
            task.run()
            self.finish(task)

    def _roll(self, last_sequence: int) -> None:
        assert self._prepared is not None
        if self._unsealed:
            self._rolled_bytes += self._current.end
            self._current.end_before(self._prepared.number)
        self._current, self._prepared = self._prepared, None
        self._current.begin_after(last_sequence)
        self._unsealed.append(self._current)
        self._syncs = 0
        self.on_roll()

    def _sync_directory(self) -> None:
        fsync(self.disk, self.directory)

    def _discard_prepared(self) -> None:
        if self._prepared is None:
            return
        try:
            self._prepared.discard()
        except OSError as error:
            raise self._refused(error) from error
        self._prepared = None

    def _check_open(self) -> None:
        if self._is_closed:
            raise SessionError(f"the journal of session {self.header.session} is closed")

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
        return self.fail(error)

    def _failed(self) -> JournalFailed:
        return JournalFailed(
            f"the journal of session {self.header.session} can't be trusted since a write or sync"
            f" of it failed: {self._failure}",
            remedy="what was written until then is kept: see to that disk, then mount again",
        )
