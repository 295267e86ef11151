"""Recovery: a session's tree from what a dead process left, and a journal that goes on from there.

`recover` only reads: snapshot, then replay. `reopen` goes on in new files:

1. written bytes that count and may not be on the disk are copied into a new segment above all old
   ones (`carrying`), with what a publish under way needs behind them; and so are those of segments
   that are mostly dead, as far as there is room. How much must be written is said before it begins
2. then the new snapshot, which points there
3. the other old segments go; only now is there a segment that takes records

**A snapshot without a segment behind it** has lost that: somebody has removed what it held. But for
a journal that is just beginning, here or in `begin`: this is noted before its snapshot is written
(`beginning-{through}`), until its first segment is there. A checkpoint needs no such note, as the
next segment is there before its snapshot.

**An old file's sync is never believed.** A kernel tells a failed sync once, and whoever was told is
dead. But a segment that its writer has named whole stays where it is: the writer did that when the
sync behind its last byte had succeeded, through a descriptor that was open from the first one, and
after a failed sync it names none so. All other segments are copied: by their names, few of them.

A crash in between leaves the old snapshot with all segments, or the new one; both replay to the
same tree. No sequence number appears twice. Where damage is found, all is copied, and the old
segments, which may hold what was not replayed, are kept until the session ends, through later
recoveries too.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pdfs.core.ids import SessionId
from pdfs.core.operation import Operation, operation_of
from pdfs.core.record import Drop, decode
from pdfs.core.tree import Tree
from pdfs.disk import Disk, disk_error
from pdfs.errors import DiskError, DiskFull, JournalDamaged, PdfsError
from pdfs.local.carrying import carry, discard_carried, live_bytes, plan_copied
from pdfs.local.checkpoint import (
    SnapshotState,
    choose_copied,
    encode_snapshot_state,
    read_snapshot_state,
    replay_on,
)
from pdfs.local.journal import Journal
from pdfs.local.journal_end import End
from pdfs.local.journal_files import SegmentFiles
from pdfs.local.journal_format import Header
from pdfs.local.journal_listing import list_segments
from pdfs.local.journal_loader import load
from pdfs.local.journal_segment import fsync
from pdfs.local.kept import lose_damaged, read_extent
from pdfs.local.ledger import Fetch, Ledger, RunBlocking
from pdfs.local.session_directory import SessionDirectory, is_beginning, words
from pdfs.local.sizes import ALONE, JournalSizes, free_bytes
from pdfs.local.snapshot import SNAPSHOT

_AMPLE: Final = 64 << 20
"""Bytes that are room enough for any snapshot: that of 1,000,000 files takes 16 MiB.

Where there is less, its size is found out first, which takes 1.6 s for 100,000 files.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a dead process left."""

    tree: Tree
    end: End
    """How its journal ends: whole, torn, or damaged."""
    through: int
    """Number of the newest segment that the snapshot includes."""
    highest_segment: int
    header: Header | None
    lost: str
    """Which bytes of files were lost with segments that replay does not read; empty = none."""
    last: Operation | None = None
    """What a program did last; None where a checkpoint was made since."""

    @property
    def number(self) -> int:
        """The segment that takes what is copied."""
        return self.highest_segment + 1

    @property
    def damage(self) -> str:
        """What is damaged and what was lost by that, for people; empty for a sound journal."""
        told = (self.lost, "" if self.end.damage is None else str(self.end.damage))
        return "; ".join(words for words in told if words)

    @property
    def torn(self) -> str:
        """What a torn tail took that can still be seen in the files, for people; or empty.

        A kill tears nothing that is whole behind the tear; a power cut may.
        """
        tail = self.end.torn_tail
        if tail is None or not tail.intact_records:
            return ""
        return (
            f"{tail.intact_records + 1} operations or more at its end are lost, since {tail.file} "
            f"is torn at byte {tail.offset}: after a power cut that is normal, and concerns the "
            "last seconds; without one the disk has failed"
        )


def recover(disk: Disk, directory: SessionDirectory, *, salvages: bool = False) -> Recovered | None:
    """The tree as of the last record that can be trusted; changes nothing.

    That is also the last one before a record that contradicts it. None where the session died
    before it could take any work. Raises JournalDamaged where the snapshot can't be read, or is
    gone; UsageError for a journal of another version, DiskError, also for bytes that the disk can't
    read: the next time it may. With `salvages` these are damage: for who copies out what there is.
    """
    found = read_snapshot_state(disk, directory.descriptor, directory.session)
    if found is None:
        _check_unused(directory)
        return None
    with _rescue_as_remedy(directory.session):
        return _replayed(disk, directory, found, salvages)


@contextlib.contextmanager
def _rescue_as_remedy(session: SessionId) -> Iterator[None]:
    """What the disk can't read keeps nobody from the rest."""
    try:
        yield
    except DiskError as error:
        raise DiskError(
            error.what,
            remedy="nothing was changed: try again, on another machine where the disk fails; or"
            f" have what can be read copied out: pdfs recover rescue {session[:8]} DIR",
        ) from error


def _replayed(
    disk: Disk, directory: SessionDirectory, found: SnapshotState, salvages: bool
) -> Recovered:
    loaded = load(
        disk,
        directory.descriptor,
        session=directory.session,
        after=found.after,
        through=found.through,
        is_begun=not is_beginning(directory.descriptor, found.through),
        salvages=salvages,
    )
    last = replay_on(found.tree, loaded)
    lost = lose_damaged(
        disk,
        directory.descriptor,
        directory.session,
        found.tree,
        through=found.through,
        salvages=salvages,
    )
    return Recovered(
        tree=found.tree,
        end=loaded.end,
        through=found.through,
        highest_segment=max(found.through, loaded.highest_segment),
        header=loaded.header,
        lost=lost,
        last=None if last is None else operation_of(decode(last.kind, last.body), found.tree),
    )


def _check_unused(directory: SessionDirectory) -> None:
    """There is no snapshot. It is there before any segment is: so there must be none of these."""
    with words(f"look at {directory.path}"):
        segments = list_segments(directory.descriptor)
    if segments:
        raise JournalDamaged(
            f"{directory.path / SNAPSHOT} is gone, and with it the names of the files whose bytes "
            f"are in {len(segments)} segments of the journal",
            remedy="nothing was changed: bring it back from a backup; pdfs journal dump shows "
            "what was written, pdfs recover discard puts the session into the trash",
        )


def begin(
    disk: Disk,
    directory: SessionDirectory,
    header: Header,
    tree: Tree,
    *,
    fetch: Fetch,
    run_blocking: RunBlocking,
    sizes: JournalSizes = ALONE,
) -> tuple[Ledger, Journal]:
    """A new session's ledger, which starts from `tree`; that survives a power cut. DiskError."""
    directory.note_beginning(0)
    _write_snapshot(directory, SnapshotState(tree=tree, after=0, through=0))
    journal = Journal.create(disk, directory.descriptor, header, sizes=sizes)
    directory.end_beginning(0)
    return _ledger(tree, journal, fetch, run_blocking, sizes), journal


def reopen(
    disk: Disk,
    directory: SessionDirectory,
    header: Header,
    recovered: Recovered,
    *,
    fetch: Fetch,
    run_blocking: RunBlocking,
    sizes: JournalSizes = ALONE,
) -> tuple[Ledger, Journal]:
    """The ledger of a recovered session, in new files.

    Raises DiskError; the next recovery then finds the same, in the old files or in new ones.
    """
    tree, after = recovered.tree, recovered.end.highest_sequence
    for ino in sorted(tree.orphans):
        tree.apply(Drop(ino=ino))
    number = recovered.number
    _discard_copies(disk, directory, recovered.through)
    copied = _choose(directory, recovered)
    try:
        if recovered.damage:
            directory.note_damage()
        directory.note_beginning(number)
        kept = _carry(disk, directory, header, recovered, copied, number)
        _write_snapshot(directory, _new_state(recovered))
        directory.let_go_segments(number, kept)
    except BaseException:
        _give_back(disk, directory, number)
        raise
    journal = Journal.create(
        disk,
        directory.descriptor,
        header,
        segment=number + 1,
        first_sequence=after + 1,
        sizes=sizes,
    )
    directory.end_beginning(number)
    return _ledger(tree, journal, fetch, run_blocking, sizes), journal


def _choose(directory: SessionDirectory, recovered: Recovered) -> frozenset[int]:
    """The segments to be copied. Raises DiskFull where what must be written has no room."""
    live, free = live_bytes(recovered.tree), free_bytes(directory.descriptor)
    whole = {one.number for one in list_segments(directory.descriptor) if one.is_whole}
    doubtful = live.keys() if recovered.damage else live.keys() - whole
    copied = plan_copied(recovered.tree, live.keys(), doubtful)
    size = sum(live[number] for number in copied)
    if free < size + _AMPLE:
        size += len(encode_snapshot_state(_new_state(recovered)))
    if free < size:
        raise DiskFull(
            f"to recover session {directory.session}, {_mib(size)} must be written in"
            f" {directory.path}, and {_mib(free)} are free",
            remedy="free some space on that disk and try again, or have the files copied elsewhere:"
            f" pdfs recover rescue {directory.session} DIR; nothing was changed",
        )
    return choose_copied(directory.descriptor, live, copied)


def _new_state(recovered: Recovered) -> SnapshotState:
    """What the new snapshot says."""
    return SnapshotState(
        tree=recovered.tree, after=recovered.end.highest_sequence, through=recovered.number
    )


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"


def _carry(
    disk: Disk,
    directory: SessionDirectory,
    header: Header,
    recovered: Recovered,
    copied: frozenset[int],
    number: int,
) -> frozenset[int]:
    """Copy into segment `number`; the old segments that stay."""
    files, tree = SegmentFiles(disk, directory.descriptor), recovered.tree
    kept = frozenset(live_bytes(tree)) - copied
    try:
        carry(
            disk,
            directory.descriptor,
            header,
            tree,
            lambda extent: read_extent(files, extent),
            copied=copied,
            kept=kept,
            number=number,
            after=recovered.end.highest_sequence,
        )
        fsync(disk, directory.descriptor)
    except OSError as error:
        raise disk_error(error, "copy what was written into a new segment") from error
    finally:
        files.close()
    return kept


def _discard_copies(disk: Disk, directory: SessionDirectory, through: int) -> None:
    """Remove what was copied by who died before a snapshot pointed there. Raises DiskError."""
    with words(f"remove what nothing refers to in {directory.path}"):
        for segment in list_segments(directory.descriptor):
            if segment.is_carried and segment.number > through:
                disk.unlink(directory.descriptor, str(segment))


def _give_back(disk: Disk, directory: SessionDirectory, number: int) -> None:
    """Remove what was copied, so that a full disk has its room for the next try.

    Not where the new snapshot may have come to be: the last sync that it needs may have failed.
    """
    with contextlib.suppress(PdfsError, OSError):
        found = read_snapshot_state(disk, directory.descriptor, directory.session)
        if found is not None and found.through < number:
            discard_carried(disk, directory.descriptor, number)
            directory.end_beginning(number)


def _write_snapshot(directory: SessionDirectory, state: SnapshotState) -> None:
    directory.write_snapshot(encode_snapshot_state(state))


def _ledger(
    tree: Tree, journal: Journal, fetch: Fetch, run_blocking: RunBlocking, sizes: JournalSizes
) -> Ledger:
    return Ledger(tree, journal, fetch=fetch, run_blocking=run_blocking, reserve=sizes.reserve)
