"""What keeps a session's journal ready and bounded while it is served, beside the requests.

After each roll: the next segment is made ahead, and the last ones are synced and sealed. When too
much of the journal is dead, a checkpoint:

    roll ─▶ sync, seal segments ≤ n ─▶ a process makes the checkpoint ─▶ commit
         ─▶ the live extents are pointed at the copies ─▶ segments that nothing refers to go

When a request finds the disk full (`make_room`), clean cache goes first; then comes a checkpoint,
which needs no more room than is allocated: in the next segment, and in a file that is removed for
it and had as much as two snapshots and a small segment take.

Requests go on all the while. From the commit on it can't be cancelled, and every step leaves the
tree and the files such that a crash replays to the same. What finds no room, or fails, changes
nothing, is told, and is tried again later.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import trio

from pdfs.core.relocation import relocate
from pdfs.disk import Disk, disk_error
from pdfs.errors import DiskFull, JournalDamaged, JournalFailed, PdfsError
from pdfs.local.checkpoint import (
    Checkpoint,
    Order,
    commit_checkpoint,
    discard_checkpoint,
    give_up_reserve,
    remove_segments,
    reserve_snapshot,
    superseded,
)
from pdfs.local.journal import Journal
from pdfs.local.journal_segment import SyncFailed
from pdfs.local.journal_tasks import Preparation, Sealing
from pdfs.local.ledger import Ledger, RunBlocking

AGAIN = 1.0
"""Seconds after which what found no room is tried again."""

Evict = Callable[[int], Awaitable[int]]
"""Frees so many bytes of the journal's file system, or fewer; how many."""

Make = Callable[[Order], Awaitable[Checkpoint]]
"""Makes a checkpoint. Raises DiskError or DamageFound."""


async def evict_nothing(wanted: int) -> int:
    """Where there is no cache."""
    return 0


class Upkeep:
    """The upkeep of one journal, from its first record on. `run` it while it takes records."""

    def __init__(
        self,
        ledger: Ledger,
        journal: Journal,
        *,
        make: Make,
        run_blocking: RunBlocking,
        tell: Callable[[PdfsError], None],
        evict: Evict = evict_nothing,
    ) -> None:
        """`tell` hears, once in a row, of what could not be done."""
        self._evict = evict
        self._ledger = ledger
        self._journal = journal
        self._make = make
        self._run_blocking = run_blocking
        self._tell = tell
        self._due = trio.Event()
        self._files = trio.Lock()
        """Held by who makes or seals segments."""
        self._turn = trio.Lock()
        """Held by who makes a checkpoint."""
        self._kept = _written(ledger)
        """Bytes of the segments that the snapshot refers to."""
        self._since = (journal.appended_bytes, journal.last_sequence)
        """What was in the journal when the snapshot was made."""
        self._look_at = 0
        """When the journal has so many bytes, it is worth a look how many of them are dead."""
        self._is_inconsistent = False
        self._is_short = False
        """What room there is belongs to the checkpoint that is being made."""
        self._room = trio.Lock()
        """Held by who makes room."""
        self._rooms_made = 0
        self._stuck = 0
        """Dead bytes that the last checkpoint left, if it was to make room and made little."""

    @property
    def size(self) -> int:
        """Bytes of the journal's records, those that no checkpoint has dropped yet."""
        return self._kept + self._journal.appended_bytes - self._since[0]

    def freeable(self) -> int:
        """Bytes that `make_room` would free, but for a few KiB of headers; it may be more.

        What is dead in segments that are mostly alive stays: no more than what is alive there.
        """
        dead = self._dead()
        is_worth_it = dead >= self._stuck + self._least and not self._is_inconsistent
        return max(0, dead - _written(self._ledger)) if is_worth_it else 0

    @property
    def unprepared(self) -> int:
        """Bytes that will be taken as soon as there is room, 0 where they are."""
        return self._journal.unprepared

    @property
    def _least(self) -> int:
        """So many dead bytes are worth a checkpoint on a full disk: half a segment."""
        return max(self._journal.sizes.segment // 2, 1)

    async def run(self) -> None:
        """Go on until cancelled, or until the journal has failed: requests find that out too."""
        self._journal.on_roll = self._note
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._repeat, self._keep_ready)
            nursery.start_soon(self._repeat, self._keep_bounded)

    async def make_room(self) -> bool:
        """A record found the disk full: whether another try is worth it. Raises JournalFailed."""
        made = self._rooms_made
        if self._journal.is_deleted:
            return False
        async with self._room:
            if self._rooms_made != made:
                return True  # another one has waited for it
            is_made = await self._evict(self._journal.sizes.segment) > 0 or await self._is_freed()
            self._rooms_made += is_made
            return is_made

    async def checkpoint(self) -> None:
        """Make one now. Raises PdfsError, and nothing was changed then; JournalFailed."""
        async with self._turn:
            await self._checkpoint()

    def _note(self) -> None:
        self._due.set()
        self._due = trio.Event()

    async def _repeat(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step after each roll; soon again while it finds no room."""
        is_told = False
        while True:
            due, wait = self._due, float("inf")
            try:
                await step()
                is_told = False
            except JournalFailed as error:
                self._tell(error)
                return
            except PdfsError as error:
                if not is_told:
                    self._tell(error)
                is_told, wait = True, AGAIN if isinstance(error, DiskFull) else wait
            with trio.move_on_after(wait):
                await due.wait()

    async def _keep_ready(self) -> None:
        async with self._files:
            if not self._is_short:
                await self._carry_out(self._journal.preparation())
            await self._seal()

    async def _is_freed(self) -> bool:
        """Make a checkpoint, where half a segment is dead; whether that freed anything.

        What is dead in segments that are mostly alive stays, so it may have freed nothing, and the
        next one wouldn't either before more is dead.
        """
        if self._is_inconsistent or self._dead() < self._stuck + self._least:
            return False
        before = self.size
        try:
            async with self._turn:
                await self._checkpoint_with_reserve()
        except JournalFailed:
            raise
        except PdfsError as error:
            self._tell(error)
            self._stuck = self._dead()
            return False
        if before - self.size < self._least:
            self._stuck = self._dead()
        return self.size < before

    def _dead(self) -> int:
        """Bytes of the journal that no file has."""
        return self.size - _written(self._ledger)

    async def _keep_bounded(self) -> None:
        async with self._turn:
            if self._journal.is_deleted:
                return
            await self._reserve_snapshot()
            if self._is_checkpoint_due():
                await self._checkpoint()

    async def _seal(self) -> None:
        """Seal what takes no more records."""
        if self._journal.has_unsealed:
            await self._ledger.sync()
            await self._carry_out(self._journal.sealing())

    async def _carry_out(self, task: Preparation | Sealing | None) -> None:
        if task is None:
            return
        try:
            with trio.CancelScope(shield=True):
                await self._run_blocking(task.run)
        finally:
            self._journal.finish(task)

    # --- checkpoints ------------------------------------------------------------------------------

    def _is_checkpoint_due(self) -> bool:
        sizes, tree = self._journal.sizes, self._ledger.tree
        if not sizes.segment or self._is_inconsistent:
            return False
        if self._journal.last_sequence - self._since[1] > sizes.records and tree.in_flight is None:
            return True
        if self.size < max(self._look_at, sizes.garbage):
            return False
        self._look_at = self.size + sizes.garbage // 4
        live = _written(self._ledger)
        return self.size - live > max(sizes.garbage, live)

    async def _checkpoint(self) -> None:
        self._look_at = self.size + self._journal.sizes.garbage // 4
        async with self._files:
            order, since = await self._seal_all()
        made = await self._made(order)
        with trio.CancelScope(shield=True):
            await self._refer_to(made)
            self._kept, self._since, self._stuck = made.size, since, 0
            self._look_at = self.size + self._journal.sizes.garbage // 4
            await self._let_go(made)
        self._note()  # there may be room for the next segment now

    async def _seal_all(self) -> tuple[Order, tuple[int, int]]:
        """End the present segment and seal it; and what was in the journal then."""
        journal = self._journal
        try:
            await self._carry_out(journal.preparation())
        except DiskFull:  # what was given up for it has room for a small one
            await self._carry_out(journal.preparation(journal.sizes.reserve // 2))
        since = (journal.appended_bytes, journal.last_sequence)
        order = Order(header=journal.header, last=journal.segment, after=journal.last_sequence)
        journal.roll()
        await self._seal()
        return order, since

    async def _made(self, order: Order) -> Checkpoint:
        """Let it be made and commit it; the old snapshot stays where that fails."""
        is_committed = False
        try:
            made = await self._make(order)
            with trio.CancelScope(shield=True):
                await self._on_disk("write a checkpoint", commit_checkpoint, order)
            is_committed = True
        finally:
            if not is_committed and not self._journal.has_failed:
                with trio.CancelScope(shield=True):
                    await self._on_disk("remove a checkpoint", discard_checkpoint, order)
        return made

    async def _refer_to(self, made: Checkpoint) -> None:
        """Point the live extents at the copies."""
        try:
            for _ in relocate(self._ledger.tree, made.moves, made.boundary):
                await trio.lowlevel.checkpoint()
        except JournalDamaged:
            self._is_inconsistent = True  # what it was to replace stays, and no other comes
            raise

    async def _let_go(self, made: Checkpoint) -> None:
        """Remove the segments that nothing refers to any more."""
        old = superseded(self._journal.directory, made.moves)
        self._journal.forget(old)
        await self._on_disk("remove old segments", remove_segments, old)

    # --- room for a snapshot ----------------------------------------------------------------------

    async def _reserve_snapshot(self) -> None:
        if self._journal.sizes.segment:
            least = self._journal.sizes.reserve
            await self._on_disk("make a reserve", reserve_snapshot, least)

    async def _checkpoint_with_reserve(self) -> None:
        """Nothing else takes what is given up for it."""
        self._is_short = True
        try:
            async with self._files:
                await self._on_disk("use the reserve", give_up_reserve)
            await self._checkpoint()
        finally:
            self._is_short = False
            self._note()

    async def _on_disk(self, what: str, call: Callable[..., None], *given: object) -> None:
        """Call it in a thread. Raises DiskError; JournalFailed where a sync failed."""
        disk: Disk = self._journal.disk
        try:
            await self._run_blocking(partial(call, disk, self._journal.directory, *given))
        except SyncFailed as error:
            raise self._journal.fail(error) from error
        except OSError as error:
            raise disk_error(error, what) from error


def _written(ledger: Ledger) -> int:
    """How many bytes of files are in the journal."""
    return sum(node.extents.total for node in ledger.tree.nodes.values())
