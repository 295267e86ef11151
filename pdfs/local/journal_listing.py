"""Which files in a directory are a session's journal; those of another are refused, in words.

No file is ever changed, and no symlink followed. What is in them: `journal_loader`.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from pdfs.core.ids import SessionId
from pdfs.disk import Disk, disk_error, read_fully
from pdfs.errors import JournalDamaged, UsageError
from pdfs.local.journal_format import (
    HEADER_SIZE,
    SCHEMA,
    Header,
    SegmentName,
    decode_header,
    parse_segment_name,
)
from pdfs.local.journal_reader import read_around

Read = Callable[[int, int, int], bytes]


@dataclass(frozen=True, slots=True)
class JournalFile:
    """A segment's file, as it was found."""

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


def list_segments(directory: int) -> list[SegmentName]:
    """The segments by number, what checkpoints carried included. Raises DiskError."""
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise disk_error(error, "list the journal") from error
    return sorted(found for found in map(parse_segment_name, names) if found is not None)


def newest_header(disk: Disk, directory: int, session: SessionId) -> Header | None:
    """Of the newest segment of this session that begins with one. Raises DiskError."""
    for segment in reversed(list_segments(directory)):
        match decode_header(_first_block(disk, directory, str(segment))):
            case Header() as header, _ if header.session == session:
                return header
            case _:
                continue
    return None


def list_files(
    disk: Disk,
    directory: int,
    *,
    session: SessionId,
    through: int,
    last: int | None,
    salvages: bool = False,
) -> list[JournalFile]:
    """The segments of the journal of `session` above number `through`, and up to `last`.

    Raises UsageError for one of another schema, JournalDamaged for what is not of this journal,
    DiskError; with `salvages`, a header that the disk can't read any more is none.
    """
    files = [
        JournalFile(found, _read_header(disk, directory, found, session, salvages), str(found))
        for found in list_segments(directory)
        if through < found.number <= (found.number if last is None else last)
        and not found.is_carried
    ]
    for earlier, later in pairwise(files):
        if earlier.number == later.number:
            raise _refused(later.name, f"{earlier.name} is the same segment")
    stages = {(f.header.project, f.header.stage) for f in files if f.header is not None}
    if len(stages) > 1:
        raise _refused(files[-1].name, f"the journal is one of several stages: {sorted(stages)}")
    return files


def find_file(
    disk: Disk, directory: int, name: str, session: SessionId | None
) -> tuple[JournalFile, SessionId]:
    """The segment `name`, and whose it is: by its header or, where that is damaged, `session`.

    Raises UsageError for another schema, JournalDamaged for what is no segment or doesn't tell of
    which session, DiskError.
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
    return JournalFile(segment, header, name), session


def _read_header(
    disk: Disk, directory: int, segment: SegmentName, session: SessionId, salvages: bool
) -> Header | None:
    """The header of a segment; None where it was torn or damaged. Refuses what is not ours."""
    name = str(segment)
    read: Read = partial(read_around, unreadable=set()) if salvages else read_fully
    match decode_header(_first_block(disk, directory, name, read)):
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


def _first_block(disk: Disk, directory: int, name: str, read: Read = read_fully) -> bytes:
    try:
        with opened_segment(disk, directory, name) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _refused(name, "it is not a regular file")
            return read(descriptor, HEADER_SIZE, 0)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _refused(name, "it is a symlink, which is never followed here") from error
        raise disk_error(error, f"read {name}") from error


@contextlib.contextmanager
def opened_segment(disk: Disk, directory: int, name: str) -> Iterator[int]:
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
