"""Looking at a session's journal from outside: what its files hold, and whether they are whole.

Nothing here changes a file, takes a lock, or needs the session to be dead. What a live session is
writing looks torn, and for an instant even damaged: so damage counts only if a second look finds it
in the same place. Memory is bounded as in `journal_reader`; only the content of a snapshot whose
checksum is right is unpacked as a whole.

Raises DiskError where a file can't be read, UsageError for one of another schema.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import xxhash

from pdfs.core import snapshot
from pdfs.core.ids import SessionId
from pdfs.core.record import decode
from pdfs.disk import Disk, disk_error, open_regular, read_fully
from pdfs.errors import DamageFound, DiskError, JournalDamaged, NotFoundError, UsageError
from pdfs.local.checkpoint import NUMBERS, read_snapshot_state
from pdfs.local.journal_end import Damage, TornTail
from pdfs.local.journal_format import HEADER_SIZE, decode_header, is_uuid, parse_segment_name
from pdfs.local.journal_loader import JournalRecord, Loaded, load, load_segment
from pdfs.local.kept import lose_damaged
from pdfs.local.session_directory import is_beginning
from pdfs.local.snapshot import HEAD_SIZE, SCHEMA, SNAPSHOT, decode_head

_PIECE: Final = 1 << 20
_LARGEST_SNAPSHOT: Final = 1 << 30
_LOOKS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What was found of one file, or of a session's journal as a whole."""

    name: str
    records: int = 0
    first_sequence: int = 0
    last_sequence: int = 0
    is_whole: bool = False
    """It was closed, and nothing was changed since."""
    torn_tail: TornTail | None = None
    damage: Damage | None = None
    is_missing: bool = False
    """There is no such file; without its snapshot a session holds no work."""
    problem: str = ""
    """Damage that is none of the above: what is wrong, from which byte on, what is lost."""

    @property
    def is_damaged(self) -> bool:
        return self.damage is not None or bool(self.problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHead:
    """A snapshot file whose bytes are as they were written."""

    session: SessionId
    size: int
    """Of its content."""
    after: int
    """Number of the newest record that it includes."""
    through: int
    """Number of the newest segment that holds nothing to be replayed on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSummary:
    """What a snapshot holds."""

    head: SnapshotHead
    generation: int
    base: str | None
    edits: int
    published_edits: int
    nodes: dict[str, int]
    """How many of each kind."""
    written_bytes: int
    """Bytes of files that are in the journal alone."""
    in_flight: str | None
    """The publish that was under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file or a directory that a user named."""

    directory: int
    """Open: that directory, or the one that has the file."""
    name: str
    """Of the file, or of the directory."""
    is_directory: bool
    parent: str
    """Name of the directory that `directory` is."""


@contextlib.contextmanager
def opened_place(disk: Disk, path: str) -> Iterator[Place]:
    """What a user names; links are followed. Raises NotFoundError, DiskError, also in the block."""
    full = os.path.realpath(path)
    is_directory = os.path.isdir(full)
    above = full if is_directory else os.path.dirname(full)
    try:
        directory = disk.open_directory(above)
        try:
            yield Place(
                directory=directory,
                name=os.path.basename(full),
                is_directory=is_directory,
                parent=os.path.basename(above),
            )
        finally:
            disk.close(directory)
    except BrokenPipeError:
        raise  # of who reads what is told of it
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no file {path}") from error
    except OSError as error:
        raise disk_error(error, f"read {path}") from error


def is_snapshot(disk: Disk, directory: int, name: str) -> bool:
    """Whether that file is a snapshot, by its first bytes or, where these are damaged, its name."""
    with _opened(disk, directory, name) as descriptor:
        return read_fully(descriptor, 7, 0) == b"PDFSNAP" or name == SNAPSHOT


# --- verify -----------------------------------------------------------------------------------


def verify_file(disk: Disk, directory: int, name: str, session: SessionId | None) -> Verdict:
    """The verdict on one segment or snapshot; `session` is whose it is if its header is damaged."""
    if is_snapshot(disk, directory, name):
        try:
            head = read_snapshot_head(disk, directory, name)
        except DamageFound as error:
            return Verdict(name=name, problem=error.what)
        return Verdict(name=name, is_whole=True, last_sequence=head.after)
    return _twice(
        lambda: _judge(name, lambda: load_segment(disk, directory, name, session=session))
    )


def verify_journal(disk: Disk, directory: int, name: str) -> Verdict:
    """The verdict on all segments in a session's directory, from its snapshot on.

    Without a snapshot that can be read, from the first record that is there.
    """

    def look() -> Verdict:
        session = session_in(disk, directory, name)
        if session is None or not _has_journal(directory):
            raise UsageError(f"there is no journal in {name}", remedy="name a session's directory")
        after, through, is_begun, lost = None, 0, False, ""
        with contextlib.suppress(DamageFound, FileNotFoundError):
            head = read_snapshot_head(disk, directory, SNAPSHOT)
            after, through = head.after, head.through
            is_begun = not is_beginning(directory, through)
            lost = _lost(disk, directory, session)
        verdict = _judge(
            name,
            lambda: load(
                disk,
                directory,
                session=session,
                after=after,
                through=through,
                is_begun=is_begun,
            ),
        )
        return replace(verdict, problem=verdict.problem or lost)

    return _twice(look)


def _lost(disk: Disk, directory: int, session: SessionId) -> str:
    """What is damaged of the bytes that the snapshot itself refers to."""
    found = read_snapshot_state(disk, directory, session)
    if found is None:
        return ""
    return lose_damaged(disk, directory, session, found.tree, through=found.through)


def session_in(disk: Disk, directory: int, name: str) -> SessionId | None:
    """Whose journal lies in that directory, by its name or by the first header that is valid."""
    if is_uuid(name):
        return SessionId(name)
    for segment in sorted(filter(parse_segment_name, os.listdir(directory))):
        with contextlib.suppress(OSError, DiskError), _opened(disk, directory, segment) as file:
            found = decode_header(read_fully(file, HEADER_SIZE, 0))
            if isinstance(found, tuple):
                return found[0].session
    return None


def _has_journal(directory: int) -> bool:
    return any(name == SNAPSHOT or parse_segment_name(name) for name in os.listdir(directory))


def _twice(look: Callable[[], Verdict]) -> Verdict:
    """Look again at what a live session may just have changed.

    Damage stays where it is. What is never found in one place is at the edge of what is written.
    """
    last: Verdict | None = None
    gone: DiskError | None = None
    for _ in range(_LOOKS):
        try:
            verdict = look()
        except DiskError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            gone = error  # closed and renamed, or checkpointed, since it was listed
            continue
        if not verdict.is_damaged or (last is not None and _is_same(verdict, last)):
            return verdict
        last = verdict
    if last is None and gone is not None:
        raise gone
    assert last is not None
    return last if last.problem else replace(last, damage=None)


def _is_same(verdict: Verdict, last: Verdict) -> bool:
    def place(found: Verdict) -> tuple[str, int] | None:
        return None if found.damage is None else (found.damage.file, found.damage.offset)

    return place(verdict) == place(last) and verdict.problem == last.problem


def _judge(name: str, open_it: Callable[[], Loaded]) -> Verdict:
    count, first, problem = 0, 0, ""
    try:
        loaded = open_it()
    except JournalDamaged as error:
        return Verdict(name=name, problem=str(error))
    for record in loaded.records():
        first = first or record.sequence
        count += 1
        problem = problem or _unreadable(name, record)
    end = loaded.end
    return Verdict(
        name=name,
        records=count,
        first_sequence=first,
        last_sequence=end.last_sequence,
        is_whole=end.is_whole,
        torn_tail=end.torn_tail,
        damage=end.damage,
        problem=problem,
    )


def _unreadable(name: str, record: JournalRecord) -> str:
    try:
        decode(record.kind, record.body)
    except JournalDamaged as error:
        where = f"record {record.sequence} at byte {record.offset} of segment {record.segment}"
        return (
            f"{name}: {where} is as it was written, but means nothing to this PDFS ({error.what}):"
            " a replay stops before it"
        )
    return ""


# --- snapshots --------------------------------------------------------------------------------


def read_snapshot_head(disk: Disk, directory: int, name: str) -> SnapshotHead:
    """The head of a snapshot, all of whose bytes were checked.

    Raises DamageFound where they are not as they were written, FileNotFoundError, UsageError.
    """
    with _opened(disk, directory, name) as descriptor:
        size = os.fstat(descriptor).st_size
        head = decode_head(read_fully(descriptor, HEAD_SIZE, 0), file=name)
        if size != HEAD_SIZE + head.size:
            raise DamageFound(
                f"{name} is damaged from byte {min(size, HEAD_SIZE + head.size)} on:"
                f" it has {size} bytes and says {HEAD_SIZE + head.size}"
            )
        hasher = xxhash.xxh3_64(head.checked)
        for start in range(HEAD_SIZE, size, _PIECE):
            hasher.update(read_fully(descriptor, min(_PIECE, size - start), start))
        numbers = read_fully(descriptor, NUMBERS.size, HEAD_SIZE)
    if hasher.intdigest() != head.checksum:
        raise DamageFound(
            f"{name} is damaged: its checksum is wrong, which covers all of its {size} bytes"
        )
    if head.schema != SCHEMA:
        raise UsageError(f"{name} has schema {head.schema}, this PDFS reads {SCHEMA}")
    if len(numbers) < NUMBERS.size:
        raise DamageFound(f"{name} is damaged: its content has only {head.size} bytes")
    after, through = NUMBERS.unpack(numbers)
    return SnapshotHead(session=head.session, size=head.size, after=after, through=through)


def summarize_snapshot(disk: Disk, directory: int, name: str) -> SnapshotSummary:
    """What a snapshot holds. Raises DamageFound, and UsageError for one that is too big to show."""
    head = read_snapshot_head(disk, directory, name)
    if head.size > _LARGEST_SNAPSHOT:
        raise UsageError(f"{name} has {head.size} bytes: that is more than is unpacked here")
    with _opened(disk, directory, name) as descriptor:
        start = HEAD_SIZE + NUMBERS.size
        tree = snapshot.decode(read_fully(descriptor, head.size - NUMBERS.size, start))
    return SnapshotSummary(
        head=head,
        generation=tree.generation,
        base=tree.base,
        edits=tree.edits,
        published_edits=tree.published_edits,
        nodes=dict(Counter(node.kind.value for node in tree.nodes.values())),
        written_bytes=sum(
            extent.stop - extent.start for node in tree.nodes.values() for extent in node.extents
        ),
        in_flight=None if tree.in_flight is None else tree.in_flight.record.publish,
    )


@contextlib.contextmanager
def _opened(disk: Disk, directory: int, name: str) -> Iterator[int]:
    descriptor = open_regular(disk, directory, name, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        disk.close(descriptor)
