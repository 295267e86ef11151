"""Recovery: a session's tree from what a dead process left, and a journal that goes on from there.

`recover` only reads: snapshot, then replay. `reopen` makes new files and never trusts an old
file's sync:

1. a new segment above all old ones; into it go copies of all written bytes that still count
2. sync, then the new snapshot, which points there
3. the old segments are moved aside; only now does the session take records

A crash in between leaves the old snapshot with all segments, whose copies count for nothing, or the
new one; both replay to the same tree. No sequence number appears twice. Segments with damage, which
may hold what was not replayed, are kept until the session ends, through later recoveries too.

The snapshot is `<Q` (number of the newest record that it includes) and `core.snapshot`.
"""

import contextlib
import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from pdfs.core import snapshot
from pdfs.core.ids import Inode
from pdfs.core.intervals import Extent
from pdfs.core.node import Node
from pdfs.core.record import Carried, Drop
from pdfs.core.tree import Tree
from pdfs.disk import Disk
from pdfs.errors import JournalDamaged, PdfsError
from pdfs.local.journal import Journal
from pdfs.local.journal_format import Header, segment_name
from pdfs.local.journal_loader import End, load
from pdfs.local.ledger import PIECE, Fetch, Ledger, RunBlocking
from pdfs.local.replay import replay
from pdfs.local.session_directory import SessionDirectory

_AFTER = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a dead process left."""

    tree: Tree
    end: End
    """How its journal ends: whole, torn, or damaged."""
    damage: str
    """What is damaged, and what was lost by that, for people; empty for a sound journal."""
    highest_segment: int
    header: Header | None


def write_checkpoint(directory: SessionDirectory, tree: Tree, after: int) -> None:
    """Make `tree`, as of record `after`, what the journal goes on from. Raises DiskError."""
    directory.write_snapshot(_AFTER.pack(after) + snapshot.encode(tree))


def recover(disk: Disk, directory: SessionDirectory) -> Recovered | None:
    """The tree as of the last record that can be trusted; changes nothing.

    That is also the last one before a record that contradicts it. None where the session died
    before it could take any work. Raises JournalDamaged where not even the snapshot can be read,
    UsageError for a journal of another version, DiskError.
    """
    raw = directory.read_snapshot()
    if raw is None:
        return None
    if len(raw) < _AFTER.size:
        raise JournalDamaged(f"the snapshot of session {directory.session} is too short")
    (after,) = _AFTER.unpack(raw[: _AFTER.size])
    tree = snapshot.decode(raw[_AFTER.size :])
    loaded = load(disk, directory.descriptor, session=directory.session, after=after)
    records = loaded.records()
    contradiction = ""
    try:
        replay(tree, records)
    except JournalDamaged as error:
        contradiction = str(error)
        deque(records, maxlen=0)  # numbers behind it are taken, too
    return Recovered(
        tree=tree,
        end=loaded.end,
        damage=contradiction or str(loaded.end.damage or ""),
        highest_segment=loaded.highest_segment,
        header=loaded.header,
    )


def begin(
    disk: Disk,
    directory: SessionDirectory,
    header: Header,
    tree: Tree,
    *,
    fetch: Fetch,
    run_blocking: RunBlocking,
) -> tuple[Ledger, Journal]:
    """A new session's ledger, which starts from `tree`; that survives a power cut. DiskError."""
    write_checkpoint(directory, tree, 0)
    journal = Journal.create(disk, directory.descriptor, header)
    return Ledger(tree, journal, fetch=fetch, run_blocking=run_blocking), journal


def reopen(
    disk: Disk,
    directory: SessionDirectory,
    header: Header,
    recovered: Recovered,
    *,
    fetch: Fetch,
    run_blocking: RunBlocking,
) -> tuple[Ledger, Journal]:
    """The ledger of a recovered session, in new files. Raises DiskError; the old ones then stay."""
    journal = Journal.create(
        disk,
        directory.descriptor,
        header,
        segment=recovered.highest_segment + 1,
        first_sequence=recovered.end.highest_sequence + 1,
    )
    try:
        ledger = Ledger(recovered.tree, journal, fetch=fetch, run_blocking=run_blocking)
        if recovered.damage:
            directory.note_damage()
        _carry(ledger, journal)
        journal.sync()
        write_checkpoint(directory, ledger.tree, journal.last_sequence)
        directory.set_aside_segments(recovered.highest_segment)
    except BaseException:
        journal.abandon()
        _take_back(disk, directory, journal)
        raise
    return ledger, journal


def _take_back(disk: Disk, directory: SessionDirectory, journal: Journal) -> None:
    """Remove the segment of a recovery that failed: a full disk has its room back for the next.

    It stays where the snapshot may point there, as after a failed sync of the snapshot's name.
    """
    with contextlib.suppress(OSError, PdfsError):
        raw = directory.read_snapshot()
        if raw is not None and _AFTER.unpack(raw[: _AFTER.size])[0] < journal.last_sequence:
            disk.unlink(directory.descriptor, segment_name(journal.segment, "partial"))


def _carry(ledger: Ledger, journal: Journal) -> None:
    """Copy all written bytes that count into the new segment; forget nodes without a name."""
    tree = ledger.tree
    for ino in sorted(tree.orphans):
        ledger.commit(Drop(ino=ino))
    boundary = None if tree.in_flight is None else tree.in_flight.boundary
    pieces = [(ino, extent) for ino, extent in _extents(tree)]
    included = [(i, e) for i, e in pieces if boundary is not None and e.at < boundary]
    later = [(i, e) for i, e in pieces if boundary is None or e.at >= boundary]
    for group, is_included in ((included, True), (later, False)):
        for ino, extent in group:
            data = journal.read(extent.at.segment, extent.at.offset, extent.stop - extent.start)
            record = Carried(ino=ino, start=extent.start, is_included=is_included)
            ledger.commit(record, data)


def _extents(tree: Tree) -> Iterator[tuple[Inode, Extent]]:
    """Every written range of every file, in pieces of at most 1 MiB."""
    for node in list(tree.nodes.values()):
        for extent in list(node.extents):
            for start in range(extent.start, extent.stop, PIECE):
                yield node.ino, extent.within(start, min(start + PIECE, extent.stop))


def written_bytes(node: Node) -> int:
    """How many bytes of a file are in the journal alone."""
    return sum(extent.stop - extent.start for extent in node.extents)
