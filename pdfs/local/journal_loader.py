"""Reading a journal back: every record that provably was written, in order, and not one more.

Rules, each by the bytes alone:
- Records are followed by sequence number through the segments, from the one after the snapshot.
  Segments that were there when it was made have none of them, and what a checkpoint carried is no
  record: such files are looked at only where a file's bytes are read from them.
  Bytes that are no record end a segment; if the next segment goes on with the next number, or a
  trailer says that there is none, nothing is missing (an append that found the disk full leaves
  such bytes). The first gap ends the replay.
- What any valid frame says is synced, was: also a frame behind the gap. If replay ended before the
  highest of these numbers, bytes that were on the disk have changed: that is damage. If not, it
  ended in the *tail*, where a crash may leave anything, and that is normal.
- A segment that is gone is damage: their numbers have no gaps, each is there before the one before
  it ends, and a trailer names the one that goes on. So is one without a header,
  but for the last where none names it: that was about to be made.
- Damage is also a segment named whole that is not exactly header, records, right trailer, zeros;
  a segment named whole behind a gap, since sealing goes oldest first; and a segment with content
  behind a header that is not as it was written, since the header was synced before the first
  record. Replay goes on behind damage only if no record is missing.

Damage is a value here, `End.damage`, not an error: the records before it are good. Files that are
not of this journal at all (another session, stage or schema, a symlink, a copy) are refused with an
error before the first record, and no file is ever changed.
"""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from pdfs.core.ids import SessionId
from pdfs.disk import Disk, disk_error
from pdfs.errors import SessionError
from pdfs.local.journal_end import Damage, End, TornTail
from pdfs.local.journal_format import (
    FRAME_SIZE,
    HEADER,
    HEADER_SIZE,
    TRAILER,
    Frame,
    Header,
    SegmentName,
    decode_trailer,
    mark_of,
)
from pdfs.local.journal_listing import (
    JournalFile,
    find_file,
    list_files,
    list_segments,
    opened_segment,
)
from pdfs.local.journal_reader import Found, SegmentReader


class JournalRecord(NamedTuple):
    """One record as it was appended; its data stays in the file."""

    sequence: int
    kind: int
    body: bytes
    segment: int
    data_offset: int
    data_size: int

    @property
    def offset(self) -> int:
        """Of its first byte in the segment."""
        return self.data_offset - len(self.body) - FRAME_SIZE


class _Place(NamedTuple):
    file: int
    """Index in `Loaded._files`."""
    offset: int


def load(
    disk: Disk,
    directory: int,
    *,
    session: SessionId,
    after: int | None = 0,
    through: int = 0,
    last: int | None = None,
    is_begun: bool = False,
    salvages: bool = False,
) -> "Loaded":
    """The journal of `session` in `directory`, from the record behind number `after` on.

    None begins with the first record that is there: for looking at segments without a snapshot.
    That record stands in a segment above number `through`; segments above `last` are left alone.
    With `is_begun`, the first one above `through` was there, whether or not it had a record; with
    `salvages`, what the disk can't read any more counts as damaged, and is no DiskError.
    The caller holds the session's lock, or serves who does. Raises UsageError for a journal of
    another schema, JournalDamaged for files that are not of this journal, DiskError where they
    can't be read.
    """
    files = list_files(
        disk, directory, session=session, through=through, last=last, salvages=salvages
    )
    highest = max((name.number for name in list_segments(directory)), default=0)
    loaded = Loaded(disk, directory, session, after, files, highest, salvages=salvages)
    first = None if after is None else through + 1
    loaded.expect(first, is_end_known=last is None, is_begun=is_begun)
    return loaded


def load_segment(disk: Disk, directory: int, name: str, *, session: SessionId | None) -> "Loaded":
    """The segment `name` alone, from its first record on, judged without the others.

    So only what the segment itself calls synced counts as that. `session` is whose it is where its
    header is damaged. Raises UsageError for another schema, JournalDamaged for what is no segment
    or doesn't tell of which session, DiskError.
    """
    file, session = find_file(disk, directory, name, session)
    return Loaded(disk, directory, session, None, [file], file.number)


class _Gone(NamedTuple):
    number: int
    """Of a segment that is not there, though it was."""
    place: _Place
    """Before the file that comes next."""


class Loaded:
    """A journal to be replayed, once: first `records`, then `end`."""

    def __init__(
        self,
        disk: Disk,
        directory: int,
        session: SessionId,
        after: int | None,
        files: Sequence[JournalFile],
        highest_segment: int,
        *,
        salvages: bool = False,
    ) -> None:
        """Use `load`."""
        self._salvages = salvages
        self._disk = disk
        self._directory = directory
        self._session = session
        self._files = files
        self.highest_segment = highest_segment
        """A new journal of this session begins above it; 0 where there is no segment."""
        if after is None:
            after = self._number_before_first()
        self._after = self._last = self._highest = after
        self._is_read = False
        self._synced = 0
        """Highest number that a frame calls synced."""
        self._edge: _Place | None = None
        """Behind the last record, and behind the trailers of segments that hold no later one."""
        self._stop: _Place | None = None
        """Bytes that are no record, or a gap, behind the last record."""
        self._has_gap = False
        self._defect: _Place | None = None
        """First damage that shows in itself, whether or not a record is missing."""
        self._why = ""
        self._gone: _Gone | None = None
        self._begun: set[int] = set()
        """Numbers of segments whose headers were synced, as what comes before or behind proves."""
        self._is_end_known = False
        self._end: End | None = None

    def expect(self, first: int | None, *, is_end_known: bool, is_begun: bool) -> None:
        """No segment is missing between the first and the last; `first` is a number, if known.

        With `is_end_known`, none is missing behind the last file either; with `is_begun`, there is
        at least one.
        """
        self._is_end_known = is_end_known
        self._begun = {a.number for a, b in pairwise(self._files) if b.number == a.number + 2}
        if is_begun and first is not None:
            self._begun.add(first)
            if not self._files:
                self._gone = _Gone(first, _Place(0, -1))
        expected = first
        for index, file in enumerate(self._files):
            if expected is not None and file.number > expected:
                self._gone = _Gone(expected, _Place(index, -1))
                return
            expected = file.number + 2

    @property
    def header(self) -> Header | None:
        """Of the newest segment that has one; None where no record was ever written."""
        return next((file.header for file in reversed(self._files) if file.header), None)

    @property
    def end(self) -> End:
        """Known when `records` is exhausted; SessionError before."""
        if self._end is None:
            raise SessionError("the journal was not read to its end yet")
        return self._end

    def records(self) -> Iterator[JournalRecord]:
        """The records in order, each checked as a whole; call once. Raises DiskError."""
        if self._is_read:
            raise SessionError("the journal was read already")
        self._is_read = True
        try:
            for index, file in enumerate(self._files):
                with self._reader(file) as reader:
                    yield from self._records_of(index, reader)
                    if self._has_gap:
                        break
                    self._note_end(index, reader)
            self._end = self._judge()
        except OSError as error:
            raise disk_error(error, "read the journal") from error

    def reject(self, record: JournalRecord, why: str) -> None:
        """End the journal before `record`, the last that came out: it contradicts those before it.

        `end` is known then, and is damage. Raises DiskError.
        """
        index = next(n for n, file in enumerate(self._files) if file.number == record.segment)
        self._last = record.sequence - 1
        self._stop = self._defect = _Place(index, record.offset)
        self._why = why
        try:
            self._end = self._judge()
        except OSError as error:
            raise disk_error(error, "read the journal") from error

    def intact_behind(self) -> Iterator[JournalRecord]:
        """Whole records behind the end, in the order of the files; none of them is replayed."""
        for index, found in self._found_from(self._stop):
            is_record = found.body is not None and found.frame.kind not in (HEADER, TRAILER)
            if is_record and found.frame.sequence > self._last:
                yield _record_of(self._files[index].number, found)

    def _number_before_first(self) -> int:
        """That of the record before the first that shows; one that is damaged counts."""
        for index, found in self._found_from(_Place(0, 0) if self._files else None):
            if self._files[index].segment.is_carried:
                return found.frame.sequence - 1
            if found.frame.kind == TRAILER:
                trailer = decode_trailer(found.body or b"")
                return found.frame.sequence - (0 if trailer is None else trailer.totals.records)
            is_first = (index, found.offset) == (0, HEADER_SIZE)
            return max(0, found.frame.sequence - (1 if is_first else 2))
        return 0

    def _records_of(self, index: int, reader: SegmentReader) -> Iterator[JournalRecord]:
        number, is_carried = self._files[index].number, self._files[index].segment.is_carried
        for found in reader.records():
            frame = found.frame
            self._note(frame)
            sequence = frame.sequence
            if sequence <= self._after:
                continue
            if sequence != self._last + 1 and not is_carried:
                edge = None if self._is_gone_before(index) else self._edge
                self._stop = self._stop or edge or _Place(index, found.offset)
                self._has_gap = True
                return
            self._last, self._stop = sequence, None
            self._edge = _Place(index, found.end)
            yield _record_of(number, found)

    def _note(self, frame: Frame) -> None:
        if frame.synced > self._synced:
            self._synced = frame.synced
        if frame.sequence > self._highest:
            self._highest = frame.sequence

    def _note_end(self, index: int, reader: SegmentReader) -> None:
        """Judge what follows the last record of a segment."""
        place = _Place(index, reader.end)
        has_more = reader.used_from(reader.end) > 0
        if reader.trailer is not None:
            self._note(reader.trailer)
            if reader.trailer.sequence <= self._last:
                self._stop, self._edge = None, place
        if has_more:
            self._stop = self._stop or place
        if index == len(self._files) - 1 and self._is_end_known:
            self._look_for(reader.next_segment, index + 1)
        self._note_defect(index, reader, has_more=has_more)
        self._begun.add(reader.next_segment)

    def _note_defect(self, index: int, reader: SegmentReader, *, has_more: bool) -> None:
        """Note what a crash can't have left."""
        file, place = self._files[index], _Place(index, reader.end)
        lacks_trailer = file.is_whole and (has_more or reader.trailer is None)
        lacks_header = file.header is None and reader.used_from(HEADER_SIZE) > 0
        if reader.unreadable:
            self._why = "bytes of it can't be read from the disk any more"
        if lacks_trailer or lacks_header or reader.unreadable:
            self._defect = self._defect or place
        elif file.header is None and file.number in self._begun:
            self._gone = self._gone or _Gone(file.number, _Place(index, -1))
            self._why = "its file has not even a header any more"

    def _look_for(self, number: int, index: int) -> None:
        """Note it if the segment that goes on is gone; a live session may just have made it."""
        numbers = {0, *(segment.number for segment in list_segments(self._directory))}
        if number not in numbers:
            self._gone = self._gone or _Gone(number, _Place(index, -1))

    def _is_gone_before(self, index: int) -> bool:
        return self._gone is not None and self._gone.place.file <= index

    def _judge(self) -> End:
        intact = self._survey(self._stop) if self._stop is not None else 0
        damage = torn_tail = None
        if self._is_damaged():
            damage = self._damage(intact)
        elif self._stop is not None:
            torn_tail = TornTail(
                file=self._files[self._stop.file].name,
                offset=self._stop.offset,
                size=self._used_from(self._stop),
                intact_records=intact,
            )
        return End(
            last_sequence=self._last,
            highest_sequence=self._highest,
            is_whole=bool(self._files) and self._files[-1].is_whole and not (damage or torn_tail),
            torn_tail=torn_tail,
            damage=damage,
        )

    def _damage(self, intact: int) -> Damage:
        gone = None if self._gone is None else self._gone.place
        places = [place for place in (self._stop, self._defect, gone) if place is not None]
        place = min(places, default=self._edge or _Place(0, 0))
        is_gone = self._gone is not None and place == gone
        missing = "" if self._gone is None else str(SegmentName(self._gone.number, is_whole=True))
        why = f"{missing} is gone, too" if missing and not is_gone else ""
        return Damage(
            file=missing if is_gone else self._files[place.file].name,
            offset=max(place.offset, 0),
            size=0 if is_gone else self._used_from(place),
            last_sequence=self._last,
            lost_records=self._highest - self._last,
            intact_records=intact,
            why="; ".join(filter(None, (self._why, why))),
            is_gone=is_gone,
        )

    def _is_damaged(self) -> bool:
        """Something was on the disk that is not there now. All frames that matter were noted."""
        behind = self._files[self._stop.file + 1 :] if self._stop is not None else ()
        is_sealed_behind = any(file.is_whole for file in behind)
        has_defect = self._defect is not None or self._gone is not None
        return self._synced > self._last or has_defect or is_sealed_behind

    def _survey(self, place: _Place) -> int:
        """Note every frame from `place` on; how many whole records there are behind the last."""
        intact = 0
        for _, found in self._found_from(place):
            self._note(found.frame)
            is_record = found.body is not None and found.frame.kind != TRAILER
            intact += is_record and found.frame.sequence > self._last
        return intact

    def _found_from(self, place: _Place | None) -> Iterator[tuple[int, Found]]:
        """Every valid frame from `place` on, with the index of its file."""
        if place is None:
            return
        try:
            for index in range(place.file, len(self._files)):
                with self._reader(self._files[index]) as reader:
                    for found in reader.frames_from(place.offset if index == place.file else 0):
                        yield index, found
        except OSError as error:
            raise disk_error(error, "read the journal") from error

    def _used_from(self, place: _Place) -> int:
        with self._reader(self._files[place.file]) as reader:
            return reader.used_from(place.offset)

    @contextlib.contextmanager
    def _reader(self, file: JournalFile) -> Iterator[SegmentReader]:
        header = file.header
        mark = None if header is None else mark_of(header.run)
        with opened_segment(self._disk, self._directory, file.name) as descriptor:
            yield SegmentReader(
                descriptor,
                session=self._session,
                number=file.number,
                mark=mark,
                salvages=self._salvages,
            )


def _record_of(segment: int, found: Found) -> JournalRecord:
    _, end, frame, body = found
    assert body is not None
    size = frame.data_size
    return JournalRecord(frame.sequence, frame.kind, body, segment, end - size, size)
