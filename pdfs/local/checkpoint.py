"""Checkpoints: from the last snapshot and the records behind it to a new one.

`make_checkpoint` writes two new files and changes nothing that is there:

1. replays segments ≤ n on the last snapshot, by the one `Tree.apply`
2. copies the bytes that still count out of segments that are mostly dead (`carrying`), and syncs
3. writes and syncs the new snapshot, under a name that nobody reads

`commit_checkpoint` makes it the session's: the directory is synced, the snapshot renamed, the
directory synced again. Only who holds the session calls that, and no two checkpoints of a session
write files of the same names: so whatever becomes of the process that makes one, and whenever, it
can't take away or replace what a later one wrote.

The snapshot is `<QQ` (number of the newest record that it includes; number of the newest segment
that holds nothing to be replayed on it) and `core.snapshot`.
"""

import contextlib
import os
import struct
from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Final

from pdfs.core import operation, snapshot
from pdfs.core.ids import SessionId
from pdfs.core.intervals import Extent, Position
from pdfs.core.relocation import Moves
from pdfs.core.tree import Tree
from pdfs.disk import Disk, disk_error, opened, write_fully
from pdfs.errors import JournalDamaged
from pdfs.local.carrying import carry, discard_carried, live_bytes, plan_copied
from pdfs.local.journal_files import SegmentFiles
from pdfs.local.journal_format import Header
from pdfs.local.journal_listing import list_segments
from pdfs.local.journal_loader import JournalRecord, Loaded, load
from pdfs.local.journal_segment import fsync
from pdfs.local.kept import lose_damaged, read_extent
from pdfs.local.replay import replay_one
from pdfs.local.sizes import free_bytes
from pdfs.local.snapshot import SNAPSHOT, encode_snapshot_head, next_snapshot, read_snapshot

NUMBERS: Final = struct.Struct("<QQ")
"""`after` and `through`, which come before the tree in the content of a snapshot."""
_RESERVE: Final = "reserve"
_MARGIN: Final = 16 << 20
"""Bytes of free space that what need not be copied leaves to the snapshot, and to others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotState:
    """What a snapshot says."""

    tree: Tree
    after: int
    """Number of the newest record that it includes."""
    through: int
    """Number of the newest segment that holds nothing to be replayed on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which checkpoint is to be made."""

    header: Header
    last: int
    """Number of the newest segment to be included; all of them are sealed."""
    after: int
    """Number of the last record in it."""

    @property
    def number(self) -> int:
        """The segment that takes what is copied."""
        return self.last + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint that was made, and is still to be committed."""

    moves: Moves
    boundary: Position | None
    """Where the publish that was under way ends now."""
    size: int
    """Bytes of the segments that its snapshot refers to."""


class Interrupted(Exception):
    """Whoever wanted the checkpoint is gone."""


def encode_snapshot_state(state: SnapshotState) -> bytes:
    """The content of a snapshot."""
    return NUMBERS.pack(state.after, state.through) + snapshot.encode(state.tree)


def read_snapshot_state(disk: Disk, directory: int, session: SessionId) -> SnapshotState | None:
    """What the snapshot says; None where there is none.

    Raises DamageFound, UsageError for another schema, DiskError.
    """
    raw = read_snapshot(disk, directory, session)
    if raw is None:
        return None
    if len(raw) < NUMBERS.size:
        raise JournalDamaged(f"the snapshot of session {session} is too short")
    after, through = NUMBERS.unpack(raw[: NUMBERS.size])
    return SnapshotState(tree=snapshot.decode(raw[NUMBERS.size :]), after=after, through=through)


def replay_on(
    tree: Tree, loaded: Loaded, is_wanted: Callable[[], bool] = lambda: True
) -> JournalRecord | None:
    """Apply a journal to `tree`, up to its end; a record that contradicts the tree is its end.

    Returns the last one that a program made, if there is any.
    """
    record: JournalRecord | None = None
    last: JournalRecord | None = None
    try:
        for record in loaded.records():
            if not is_wanted():
                raise Interrupted
            replay_one(tree, record)
            if record.kind in operation.CODES:
                last = record
    except JournalDamaged as error:
        assert record is not None
        loaded.reject(record, error.what)
    return last


def make_checkpoint(
    disk: Disk, directory: int, order: Order, *, is_wanted: Callable[[], bool] = lambda: True
) -> Checkpoint:
    """Write what `commit_checkpoint` needs; the files that are there are only read.

    Raises DamageFound, DiskError and Interrupted; `discard_checkpoint` removes what is left then.
    """
    session = order.header.session
    found = read_snapshot_state(disk, directory, session)
    if found is None:
        raise JournalDamaged(f"session {session} has no snapshot any more")
    tree = found.tree
    loaded = load(
        disk,
        directory,
        session=session,
        after=found.after,
        through=found.through,
        last=order.last,
    )
    replay_on(tree, loaded, is_wanted)
    end = loaded.end
    if end.damage is not None:
        raise JournalDamaged(str(end.damage))
    if end.last_sequence != order.after:
        raise JournalDamaged(f"record {end.last_sequence + 1} is missing in a sealed segment")
    try:
        live = live_bytes(tree)
        copied = choose_copied(directory, live, plan_copied(tree, live.keys()))
        _check_intact(disk, directory, session, tree, copied, found.through)
        kept = frozenset(live) - copied
        moves = _copied(disk, directory, order, tree, copied, kept, is_wanted)
        state = SnapshotState(tree=tree, after=order.after, through=order.number)
        _write_next(disk, directory, order, encode_snapshot_state(state))
    except OSError as error:
        raise disk_error(error, "write a checkpoint") from error
    return Checkpoint(
        moves=moves,
        boundary=None if tree.in_flight is None else tree.in_flight.boundary,
        size=sum(_sizes(directory, kept | {order.number}).values()),
    )


def commit_checkpoint(disk: Disk, directory: int, order: Order) -> None:
    """Make what `make_checkpoint` wrote for `order` the session's snapshot; it survives power loss.

    Raises OSError, with the old snapshot in place; SyncFailed, and then nobody knows which of them
    is: the disk can't be trusted any more.
    """
    fsync(disk, directory)
    disk.rename(directory, next_snapshot(order.number), directory, SNAPSHOT)
    fsync(disk, directory)


def discard_checkpoint(disk: Disk, directory: int, order: Order) -> None:
    """Remove what a checkpoint that was not committed left. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(directory, next_snapshot(order.number))
    discard_carried(disk, directory, order.number)


def reserve_snapshot(disk: Disk, directory: int, least: int) -> None:
    """Have a file whose room a checkpoint will find on a full disk. Raises OSError."""
    wanted = 2 * os.stat(SNAPSHOT, dir_fd=directory).st_size + least
    with opened(disk, directory, _RESERVE, os.O_RDWR | os.O_CREAT) as descriptor:
        size = os.fstat(descriptor).st_size
        if size < wanted:
            disk.allocate(descriptor, size, wanted - size)


def give_up_reserve(disk: Disk, directory: int) -> None:
    """Let others have that room. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        disk.unlink(directory, _RESERVE)


def choose_copied(directory: int, live: Counter[int], needed: frozenset[int]) -> frozenset[int]:
    """The segments whose live bytes are to be copied, so that the files can go.

    These are the `needed` ones, and those that are mostly dead, the least live ones first, as far
    as there is room. Raises OSError.
    """
    chosen = set(needed)
    sizes = _sizes(directory, live.keys() - chosen)
    room = free_bytes(directory) - _MARGIN - sum(live[number] for number in chosen)
    for number in sorted(live.keys() - chosen, key=lambda one: live[one]):
        room -= live[number]
        if room >= 0 and 2 * live[number] < sizes.get(number, 0):
            chosen.add(number)
    return frozenset(chosen)


def superseded(directory: int, moves: Moves) -> list[int]:
    """The segments that a committed checkpoint has made needless. Raises DiskError."""
    found = {segment.number for segment in list_segments(directory)}
    return sorted(number for number in found - moves.kept if number < moves.segment)


def remove_segments(disk: Disk, directory: int, numbers: list[int]) -> None:
    """Delete the files of these segments. Raises OSError."""
    for segment in list_segments(directory):
        if segment.number in numbers:
            disk.unlink(directory, str(segment))


def _sizes(directory: int, numbers: Set[int]) -> dict[int, int]:
    """The sizes of the files of these segments."""
    return {
        one.number: os.stat(str(one), dir_fd=directory, follow_symlinks=False).st_size
        for one in list_segments(directory)
        if one.number in numbers
    }


def _check_intact(
    disk: Disk,
    directory: int,
    session: SessionId,
    tree: Tree,
    copied: frozenset[int],
    through: int,
) -> None:
    lost = lose_damaged(disk, directory, session, tree, among=copied, through=through)
    if lost:
        raise JournalDamaged(lost)


def _copied(
    disk: Disk,
    directory: int,
    order: Order,
    tree: Tree,
    copied: frozenset[int],
    kept: frozenset[int],
    is_wanted: Callable[[], bool],
) -> Moves:
    files = SegmentFiles(disk, directory)

    def read(extent: Extent) -> bytes:
        if not is_wanted():
            raise Interrupted
        return read_extent(files, extent)

    try:
        return carry(
            disk,
            directory,
            order.header,
            tree,
            read,
            copied=copied,
            kept=kept,
            number=order.number,
            after=order.after,
        )
    finally:
        files.close()


def _write_next(disk: Disk, directory: int, order: Order, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with opened(disk, directory, next_snapshot(order.number), flags) as descriptor:
        head = encode_snapshot_head(order.header.session, content)
        write_fully(disk, descriptor, [head, content], 0)
        disk.fsync(descriptor)
