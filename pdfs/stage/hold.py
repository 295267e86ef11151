"""A stage while a session holds it: the lock, renewed; the root as last seen, and how sure that is.

What writes to the bucket is tried until the bucket gets on (`insist`), or until somebody else has
the stage. What writes to the root begins with a new Start where it is in doubt what became of the
last such write (`insist_on_root`).
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import trio

from pdfs.core import notes
from pdfs.core.ids import Fence, ObjectName
from pdfs.core.lease import Claimant, Lock, LockState, Unpublished
from pdfs.core.root import SessionEntry
from pdfs.errors import LockError, LockHeld, LockLost, LockUnreadable, PdfsError, StoreError
from pdfs.stage.context import StageContext
from pdfs.stage.end import end_session
from pdfs.stage.lock import HeldLock
from pdfs.stage.root import SeenRoot
from pdfs.stage.start import Started, start

Attempt = Callable[[], Awaitable[object]]


class Hold:
    """One session's hold of one stage, from the Start to the release."""

    def __init__(
        self,
        ctx: StageContext,
        *,
        unpublished: Callable[[], Unpublished],
        on_start: Callable[[Fence], None],
        note: Callable[[notes.Note], None],
    ) -> None:
        """`unpublished` is what the lock tells others; `on_start` hears of each new fence."""
        self._ctx = ctx
        self._unpublished = unpublished
        self._on_start = on_start
        self._note = note
        self._claimant: Claimant
        self._started: Started
        self._lock: HeldLock | None = None
        self._lock_turn = trio.Lock()
        self.root_turn = trio.Lock()
        """Held by who writes to the root, or reads what such a write would change."""
        self._root: SeenRoot
        self._root_writes = 0
        """Those of this process that were begun when `root` was written or read."""
        self.lost: LockLost | None = None
        """Why nothing is uploaded any more; None while the stage is ours."""
        self.on_lost: Callable[[LockLost], None] = unheard
        """Called once, when the stage is lost."""
        self.trouble: PdfsError | None = None
        """What keeps the session from getting on with the bucket; None while nothing does."""
        self.left_lock: LockUnreadable | None = None
        """Why the lock could not be released, though everything is in the bucket."""
        self._sending = trio.CancelScope()
        self._is_lost_said = False
        self._hurried = trio.Event()
        """Ends the wait for the next try."""
        ctx.wake.look = self._look

    @property
    def lock(self) -> Lock | None:
        """The lock as this session wrote it last; None before it has one."""
        return None if self._lock is None else self._lock.lock

    @property
    def root(self) -> SeenRoot:
        """As this session read or wrote it last."""
        return self._root

    @root.setter
    def root(self, root: SeenRoot) -> None:
        self._root, self._root_writes = root, self._ctx.root_writes.begun

    @property
    def _is_root_doubtful(self) -> bool:
        """Whether a write to the root was begun whose outcome `root` does not show."""
        return self._root_writes != self._ctx.root_writes.begun

    @property
    def fence(self) -> Fence:
        """The fence of the newest Start."""
        return self._started.fence

    @property
    def others(self) -> list[SessionEntry]:
        """Other sessions that had not ended at the newest Start."""
        entries = self._started.root.root.sessions
        return [entry for entry in entries if entry.session != self._ctx.owner.session]

    # --- take and renew ---------------------------------------------------------------------------

    async def take(self, claimant: Claimant, base: ObjectName | None) -> None:
        """Take the stage, by whatever right. Raises as `stage.start` does."""
        with self._looking():
            self._take(await start(self._ctx, claimant, base=base))
        # What allowed it then allows nothing later: a session that was dead may live by now.
        self._claimant = replace(claimant, take_over=False, agreed=False, crashed=frozenset())

    def _take(self, started: Started) -> None:
        self._started, self._lock, self.root = started, started.lock, started.root
        self._on_start(started.fence)
        self._note(notes.LockTaken(fence=started.fence))

    async def _start_again(self) -> None:
        try:
            async with self._lock_turn:  # a renewal under way would undo it
                with self._looking():
                    self._take(await start(self._ctx, self._claimant))
        except LockHeld as error:
            raise LockLost(error.what, remedy="everything is kept: pdfs recover list") from error

    async def keep(self) -> None:
        """Renew the lock until the stage is lost."""
        failed: PdfsError | None = None
        while True:
            await self._wait_for_renewal()
            if self.lost is not None:
                return
            try:
                await self.renew()
            except LockLost as error:
                self.lose(error)
            except PdfsError as error:
                failed = error
                self._note(notes.LockNotRenewed(what=str(error)))
                self.meet(error)
            else:
                if failed is not None and self.trouble is failed:
                    self.meet(None)

    async def _wait_for_renewal(self) -> None:
        """Return when the next one is due, which it is after a suspend."""
        timing = self._ctx.timing
        due = trio.current_time() + timing.renewal
        while (left := due - trio.current_time()) > 0:
            await trio.sleep(min(left, timing.wake))
            if self._ctx.wake.is_due:
                return

    async def _look(self) -> None:
        """Whether the stage is still ours, by the lock. Raises LockLost, StoreError."""
        try:
            await self.renew()
        except LockUnreadable:
            return  # no publish waits for it; the next renewal says what it is
        except LockLost as error:
            self.lose(error)
            raise

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """A block that writes the lock, and so looks whose it is."""
        suspended = self._ctx.wake.suspended()
        try:
            yield
        except LockUnreadable:
            self._ctx.wake.looked(suspended)
            raise
        self._ctx.wake.looked(suspended)

    async def renew(self, state: LockState | None = None) -> None:
        """Write the lock anew, with what is unpublished, unless it was released.

        Raises LockError, StoreError.
        """
        async with self._lock_turn:
            if self._held.lock.state is LockState.RELEASED:
                return
            with self._looking():
                await self._held.renew(state=state, pending=self._unpublished())

    @property
    def _held(self) -> HeldLock:
        assert self._lock is not None, "the stage was never taken"
        return self._lock

    # --- lose and release -------------------------------------------------------------------------

    def lose(self, error: LockLost) -> None:
        """The stage is somebody else's: what is being sent is given up."""
        if self.lost is None:
            self._say_lost(error)
            self.lost = error
            self.on_lost(error)
            self._sending.cancel()

    def _say_lost(self, error: LockLost) -> None:
        """Tell it once, wherever it is found out first."""
        if not self._is_lost_said:
            self._is_lost_said = True
            self._note(notes.LockTakenAway(what=str(error)))

    async def end(self) -> None:
        """Take the session out of the root. Raises LockLost, StoreError."""
        self.root = await end_session(self._ctx, self.root)

    async def release(self) -> None:
        """Release the lock; what is another's, or no lock, is not ours to release."""
        try:
            await self.insist(partial(self._release, Unpublished()))
        except LockUnreadable as error:
            self.left_lock = error
            self._note(notes.Troubled(kind=type(error).__name__, what=str(error)))
        except LockError as error:
            self.meet(error)

    async def leave(self) -> bool:
        """Release the lock if that goes at once, and whether it did; it says what waits here."""
        try:
            await self._release(self._unpublished())
        except (StoreError, LockError) as error:
            self.meet(error)
            return False
        return True

    async def _release(self, pending: Unpublished) -> None:
        async with self._lock_turn:  # a renewal under way would undo it
            await self._held.release(pending)
        self._note(notes.LockReleased(files=pending.files, bytes=pending.bytes))

    # --- going on ---------------------------------------------------------------------------------

    @contextmanager
    def sending(self) -> Iterator[None]:
        """A block that sends to the bucket, until it is done or the stage is lost: LockLost."""
        with trio.CancelScope() as self._sending:
            if self.lost is not None:
                self._sending.cancel()
            yield
        if self.lost is not None:
            raise self.lost

    async def insist_on_root(self, attempt: Attempt) -> None:
        """Try what writes to the root until the bucket gets on.

        Where a write to the root may be under way whose answer nobody heard, also since it was
        cancelled, the next try begins with a Start, which finds out what became of it. Else it goes
        on from `root`: whether that is still the stage's, each step of it looks for itself.
        """

        async def attempt_surely() -> None:
            if self._is_root_doubtful:
                await self._start_again()
            await attempt()

        await self.insist(attempt_surely)

    async def insist(self, attempt: Attempt) -> None:
        """Try until the bucket gets on, however long that takes. Raises what is no StoreError."""
        number = 0
        while True:
            hurried = self._hurried  # also what changes during the try spares the wait after it
            try:
                await attempt()
            except LockLost as error:
                self._say_lost(error)
                raise
            except StoreError as error:
                self.meet(error)
                self._ctx.uploads.failed(error)
                number += 1
                if number > 1 and number.bit_count() == 1:  # a log of a week stays readable
                    self._note(notes.Retried(tries=number, what=str(error)))
                with trio.move_on_after(self._ctx.timing.wait_before_try(number)):
                    await hurried.wait()
            else:
                self.meet(None)
                return

    def hurry(self) -> None:
        """Something has changed: what waits for its next try has it now."""
        self._hurried.set()
        self._hurried = trio.Event()

    def meet(self, error: PdfsError | None) -> None:
        """Let the trouble be known, or its end."""
        if error is not None and str(error) != str(self.trouble):
            self._note(notes.Troubled(kind=type(error).__name__, what=str(error)))
        elif error is None and self.trouble is not None:
            self._note(notes.TroubleOver())
        self.trouble = error


def unheard(_: object) -> None:
    """Nobody listens."""
