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
- Damage is also a segment named whole that is not exactly header, records, right trailer, zeros;
  a segment named whole behind a gap, since sealing goes oldest first; and a segment with content
  behind a header that is not as it was written, since the header was synced before the first
  record. Replay goes on behind damage only if no record is missing.

Damage is a value here, `End.damage`, not an error: the records before it are good. Files that are
not of this journal at all (another session, stage or schema, a symlink, a copy) are refused with an
error before the first record, and no file is ever changed.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from pdfs.core.ids import SessionId
from pdfs.disk import Disk, disk_error, read_fully
from pdfs.errors import JournalDamaged, SessionError, UsageError
from pdfs.local.journal_format import (
    FRAME_SIZE,
    HEADER,
    HEADER_SIZE,
    SCHEMA,
    TRAILER,
    Frame,
    Header,
    SegmentName,
    decode_header,
    decode_trailer,
    mark_of,
    parse_segment_name,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TornTail:
    """What a crash left behind the last record: nothing of it was ever called synced."""

    file: str
    offset: int
    """First byte that is not part of what was replayed."""
    size: int
    """Bytes from there to the last one in that file that is not zero."""
    intact_records: int
    """Whole records behind it, not replayed since one before them is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Bytes that were on the disk are not there any more, or not the same."""

    file: str
    offset: int
    """First bad byte."""
    size: int
    """Bytes from there to the last one in that file that is not zero."""
    last_sequence: int
    """Of the last record that was replayed."""
    lost_records: int
    """So many at least were written after that one and not replayed."""
    intact_records: int
    """Those of them that are still whole in the files."""
    why: str = ""
    """Why a whole record is not to be believed; empty for bytes that are no record."""

    def __str__(self) -> str:
        lost = "no operation is known to be lost"
        if self.lost_records:
            lost = (
                f"at least {self.lost_records} operations after number {self.last_sequence} are"
                f" lost, {self.intact_records} of them still readable behind the damage"
            )
        why = f"; {self.why}" if self.why else ""
        return f"{self.file} is damaged from byte {self.offset} on ({self.size} bytes): {lost}{why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a journal ends."""

    last_sequence: int
    """Of the last record, or of the snapshot where there is none."""
    highest_sequence: int
    """The highest number seen anywhere: a new journal of this session begins above it."""
    is_whole: bool
    """It was closed, and nothing was changed since."""
    torn_tail: TornTail | None
    damage: Damage | None


@dataclass(frozen=True, slots=True)
class _File:
    segment: SegmentName
    header: Header | None
    """None where the file does not begin with one as it was written."""
    name: str
    """Of a copy, that may be any."""

    @property
    def number(self) -> int:
        return self.segment.number

    @property
    def is_whole(self) -> bool:
        return self.segment.is_whole


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
) -> "Loaded":
    """The journal of `session` in `directory`, from the record behind number `after` on.

    None begins with the first record that is there: for looking at segments without a snapshot.
    That record stands in a segment above number `through`; segments above `last` are left alone.
    The caller holds the session's lock, or serves who does. Raises UsageError for a journal of
    another schema, JournalDamaged for files that are not of this journal, DiskError where they
    can't be read.
    """
    names = list_segments(directory)
    files = [
        _File(found, _read_header(disk, directory, found, session), str(found))
        for found in names
        if through < found.number <= (found.number if last is None else last)
        and not found.is_carried
    ]
    for earlier, later in pairwise(files):
        if earlier.number == later.number:
            raise _refused(later.name, f"{earlier.name} is the same segment")
    stages = {(f.header.project, f.header.stage) for f in files if f.header is not None}
    if len(stages) > 1:
        raise _refused(files[-1].name, f"the journal is one of several stages: {sorted(stages)}")
    highest = max((name.number for name in names), default=0)
    return Loaded(disk, directory, session, after, files, highest)


def load_segment(disk: Disk, directory: int, name: str, *, session: SessionId | None) -> "Loaded":
    """The segment `name` alone, from its first record on, judged without the others.

    So only what the segment itself calls synced counts as that. `session` is whose it is where its
    header is damaged. Raises UsageError for another schema, JournalDamaged for what is no segment
    or doesn't tell of which session, DiskError.
    """
    segment = parse_segment_name(name) or SegmentName(0, is_whole=False)
    header: Header | None = None
    match decode_header(_first_block(disk, directory, name)):
        case int(schema):
            raise _of_schema(name, schema)
        case Header() as header, number:
            segment, session = segment._replace(number=number), header.session
        case _:
            pass
    if session is None or not segment.number:
        raise JournalDamaged(
            f"{name} is damaged from byte 0 on, or no segment of a journal: it has no valid header,"
            " and without that nothing in it can be checked"
        )
    file = _File(segment, header, name)
    return Loaded(disk, directory, session, None, [file], segment.number)


class Loaded:
    """A journal to be replayed, once: first `records`, then `end`."""

    def __init__(
        self,
        disk: Disk,
        directory: int,
        session: SessionId,
        after: int | None,
        files: Sequence[_File],
        highest_segment: int,
    ) -> None:
        """Use `load`."""
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
        self._end: End | None = None

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
                totals = decode_trailer(found.body or b"")
                return found.frame.sequence - (0 if totals is None else totals.records)
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
                self._stop = self._stop or self._edge or _Place(index, found.offset)
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
        file, place = self._files[index], _Place(index, reader.end)
        has_more = reader.used_from(reader.end) > 0
        if reader.trailer is not None:
            self._note(reader.trailer)
            if reader.trailer.sequence <= self._last:
                self._stop, self._edge = None, place
        if has_more:
            self._stop = self._stop or place
        lacks_trailer = file.is_whole and (has_more or reader.trailer is None)
        lacks_header = file.header is None and reader.used_from(HEADER_SIZE) > 0
        if lacks_trailer or lacks_header:
            self._defect = self._defect or place

    def _judge(self) -> End:
        intact = self._survey(self._stop) if self._stop is not None else 0
        damage = torn_tail = None
        if self._is_damaged():
            places = [place for place in (self._stop, self._defect) if place is not None]
            place = min(places, default=self._edge or _Place(0, 0))
            damage = Damage(
                file=self._files[place.file].name,
                offset=place.offset,
                size=self._used_from(place),
                last_sequence=self._last,
                lost_records=self._highest - self._last,
                intact_records=intact,
                why=self._why,
            )
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

    def _is_damaged(self) -> bool:
        """Something was on the disk that is not there now. All frames that matter were noted."""
        behind = self._files[self._stop.file + 1 :] if self._stop is not None else ()
        is_sealed_behind = any(file.is_whole for file in behind)
        return self._synced > self._last or self._defect is not None or is_sealed_behind

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
    def _reader(self, file: _File) -> Iterator[SegmentReader]:
        header = file.header
        mark = None if header is None else mark_of(header.run)
        with _opened(self._disk, self._directory, file.name) as descriptor:
            yield SegmentReader(descriptor, session=self._session, number=file.number, mark=mark)


def _record_of(segment: int, found: Found) -> JournalRecord:
    _, end, frame, body = found
    assert body is not None
    size = frame.data_size
    return JournalRecord(frame.sequence, frame.kind, body, segment, end - size, size)


def list_segments(directory: int) -> list[SegmentName]:
    """The segments by number, what checkpoints carried included. Raises DiskError."""
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise disk_error(error, "list the journal") from error
    return sorted(found for found in map(parse_segment_name, names) if found is not None)


def _read_header(
    disk: Disk, directory: int, segment: SegmentName, session: SessionId
) -> Header | None:
    """The header of a segment; None where it was torn or damaged. Refuses what is not ours."""
    name = str(segment)
    match decode_header(_first_block(disk, directory, name)):
        case None:
            return None
        case int(schema):
            raise _of_schema(name, schema)
        case header, stated:
            if header.session != session:
                whose = f"session {header.session} of {header.project}/{header.stage}"
                raise _refused(name, f"it belongs to {whose}, not to {session}")
            if stated != segment.number:
                raise _refused(name, f"it is a copy of segment {stated}")
            return header


def _first_block(disk: Disk, directory: int, name: str) -> bytes:
    try:
        with _opened(disk, directory, name) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _refused(name, "it is not a regular file")
            return read_fully(descriptor, HEADER_SIZE, 0)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(name, "it is a symlink, which is never followed here") from error
        raise disk_error(error, f"read {name}") from error


@contextlib.contextmanager
def _opened(disk: Disk, directory: int, name: str) -> Iterator[int]:
    """A segment; also one that a live session has sealed, and so renamed, since it was listed."""
    flags = os.O_RDONLY | os.O_NONBLOCK
    try:
        descriptor = disk.open(directory, name, flags)
    except FileNotFoundError:
        parsed = parse_segment_name(name)
        if parsed is None:
            raise
        descriptor = disk.open(directory, str(parsed._replace(is_whole=True)), flags)
    try:
        yield descriptor
    finally:
        disk.close(descriptor)


def _of_schema(name: str, schema: int) -> UsageError:
    return UsageError(
        f"{name} has schema {schema}, this PDFS reads {SCHEMA}",
        remedy="use the PDFS that wrote it, or a newer one; no file was changed",
    )


def _refused(name: str, why: str) -> JournalDamaged:
    return JournalDamaged(
        f"{name} is no segment of this journal: {why}",
        remedy="move that file elsewhere and try again; no file was changed",
    )
