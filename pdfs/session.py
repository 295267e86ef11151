"""The life of one session, from lock to release. A table of contents: the steps are in `stage`.

The lock is released only after the publish was verified in the bucket, or where there was nothing
to publish; whatever else ends a session keeps its journal, and keeps the lock or says in it what
waits unpublished.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Set
from functools import partial
from typing import Protocol

import trio

from pdfs.core import notes
from pdfs.core.generation import tree_of
from pdfs.core.ids import Fence, Inode, Path, first_inode
from pdfs.core.lease import Claimant, LockState
from pdfs.core.manifest import Top, never_published
from pdfs.core.merge import Warned
from pdfs.core.rebase import unpublished_copies
from pdfs.core.states import Event, State, next_state
from pdfs.core.tree import Tree
from pdfs.errors import (
    DamageFound,
    LockError,
    LockLost,
    LockUnreadable,
    MountError,
    PdfsError,
    SessionError,
    StageMoved,
    StoreError,
    StoreUnavailable,
)
from pdfs.stage.catch_up import (
    Standing,
    missing_of,
    rebase_onto,
    standing,
)
from pdfs.stage.collect import Collected, collect_at_end
from pdfs.stage.complete import Ranges, complete
from pdfs.stage.context import StageContext
from pdfs.stage.hold import Hold, unheard
from pdfs.stage.load import list_stage, merge_foreign, read_generation
from pdfs.stage.publishing import Publishing, nothing_to_set_aside
from pdfs.stage.together import background
from pdfs.stage.view import SessionView
from pdfs.stage.work import Work

logger = logging.getLogger(__name__)


_GIVE_BACK = 10.0
"""Seconds in which the bucket has to take a stage back that is not needed, or broken off."""

Serve = Callable[[Work], Awaitable[None]]
"""Shows the tree to processes until it is unmounted."""


class Workspace(Protocol):
    """Where this machine keeps what the session did."""

    async def begin(self, tree: Tree, fence: Fence) -> Work:
        """A new journal that starts from `tree`; returns when that survives a power cut."""

    async def retire(self) -> None:
        """All of it is in the bucket: the journal may go."""

    async def discard(self) -> None:
        """The user wants none of it: the journal goes where it can be brought back from."""


class StageSession(SessionView):
    """One exclusive editing of one stage. `run` is its whole life."""

    def __init__(
        self, ctx: StageContext, workspace: Workspace, *, resumed: Work | None = None
    ) -> None:
        hold = Hold(
            ctx, unpublished=lambda: self.unpublished, on_start=self._adopt, note=self._note
        )
        publishing = Publishing(ctx, hold, resumed, opened=lambda: self.opened(), note=self._note)
        super().__init__(ctx, hold, publishing)
        self._workspace = workspace
        self._resumed = resumed
        self._listing = trio.CancelScope()
        self._is_aborted = False
        self.state = State.IDLE
        self.is_serving = False
        """Processes see the stage."""
        self.is_settled = False
        """What other tools did before the mount has been taken in."""
        self.busy: Callable[[], Set[Inode]] = frozenset
        """Files that some process has open; set by whoever serves."""
        self.opened: Callable[[], Set[Inode]] = frozenset
        """Files that took the place of others, and were opened since; set by whoever serves."""
        self.on_state: Callable[[State], None] = unheard
        """Called after each change of `state`."""
        self.on_note: Callable[[notes.Note], None] = unheard
        """Called with each event that the session's log tells of; must not raise."""
        self.incomplete: dict[Path, Ranges] = {}
        """Files of an aborted session that can't be made whole, and what they lack."""
        self.warnings: list[Warned] = []
        self.collects_all = False
        """Its end collects everything that it may, however long that takes."""
        self.collected = Collected()
        """What its end let go."""
        self._is_given_back = False
        """As far as the bucket could be reached."""

    async def run(self, claimant: Claimant, serve: Serve | None) -> None:
        """Take the stage, serve it, publish, release. Without `serve`, only publish.

        Returns when every change is verified in the bucket and the lock is released. Raises
        LockHeld before anything was taken; LockLost, StageMoved and UnpublishedWork with every
        change kept for recovery; StoreError and DamageFound where the stage could not be opened.
        """
        self._move(Event.OPENED)
        await self._acquire(claimant)
        async with background(self._hold.keep):
            work = await self._open() if serve is not None or self._resumed is not None else None
            if work is not None and serve is not None:
                self._move(Event.SERVED)
                await self._serve_or_give_back(serve, work)
            if work is not None and not self._is_aborted:
                if serve is None:
                    await self._drain()
                await self._publishing.to_the_end(work)
                await self._collect()
            else:
                if work is not None:
                    await self._hold.insist(partial(self._complete, work))
                await self._hold.insist_on_root(self._hold.end)
        await self._hold.release()
        if self._is_aborted:
            await self._workspace.discard()
        else:
            await self._workspace.retire()
        self._move(Event.ABORTED if self._is_aborted else Event.RELEASED)

    async def break_off(self, seal: Callable[[], None]) -> None:
        """End a session that was cut short: seal its journal, then give the stage back.

        The lock is released and says what waits here; where the bucket stays silent, or the
        journal could not be sealed, it is kept. Raises what `seal` raises, and nothing else.
        """
        if self.state is State.CLOSED:
            return
        self._move(Event.CRASHED)
        seal()
        if self.lock is not None and self.lost is None and not self._is_given_back:
            await self._within_reason(self._hold.leave)
        self._move(Event.SEALED)

    async def _within_reason(self, give_back: Callable[[], Awaitable[object]]) -> None:
        """Await it, also while cancelled, but not for long; a lock that stays is told."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _GIVE_BACK) as scope:
            await give_back()
        if scope.cancelled_caught:
            self._hold.meet(
                StoreUnavailable(
                    f"the lock stays: the bucket did not answer within {_GIVE_BACK:g} s",
                    remedy="mount the stage again",
                )
            )

    async def publish(self) -> None:
        """Publish what has been journaled so far; programs go on, and so does the session.

        Returns when all of that is verified in the bucket, however long it takes. Raises
        SessionError where the stage is not being edited (its end publishes), LockLost, StageMoved,
        DiskError; nothing is lost by any of them. May be cancelled.
        """
        async with self._hold.root_turn:
            if not self.is_serving or self._work is None or self._is_aborted:
                raise SessionError(
                    f"this session is {self.state}: it can't be published besides",
                    remedy="what ends it publishes it; pdfs status shows how far it is",
                )
            self._move(Event.PUBLISHING)
            try:
                await self._publishing.at_once(self._work)
            except (LockLost, StageMoved) as error:
                await self._give_up(error)
                raise
            finally:
                if self.state is State.UPLOADING:
                    self._move(Event.PUBLISHED)

    async def set_aside(self, paths: Iterable[Path]) -> bool:
        """Let the publish under way end without these, see `Publishing.set_aside`."""
        if self.lock is None:
            raise nothing_to_set_aside()
        return await self._publishing.set_aside(paths)

    def abort(self) -> None:
        """Publish nothing of this session: when serving ends, it is ended and discarded.

        Raises SessionError where a publish is under way or may have been committed.
        """
        flight = None if self._work is None else self._work.tree.in_flight
        if self.is_serving and (flight is not None or self.state is State.UPLOADING):
            raise SessionError(
                "a publish is under way, and may be in the bucket already: it can't be aborted, and"
                " nothing was changed",
                remedy="let it end (pdfs status shows how far it is), then abort what was written"
                " since",
            )
        if self.state is not State.ACTIVE or not self.is_serving:
            raise SessionError(
                f"this session is {self.state} and can't be aborted; nothing was changed",
                remedy="it is mounted no more, and publishes what it has: pdfs status shows how far"
                " it is"
                if self.state is State.UPLOADING
                else "",
            )
        self._is_aborted = True

    @property
    def is_aborted(self) -> bool:
        """Whether it ends without publishing, by somebody's word."""
        return self._is_aborted

    @property
    def _work(self) -> Work | None:
        return self._publishing.work

    # --- open -------------------------------------------------------------------------------------

    async def _acquire(self, claimant: Claimant) -> None:
        base = None if self._resumed is None else self._resumed.tree.base
        try:
            await self._hold.take(claimant, base)
        except PdfsError:
            self._move(Event.REFUSED)
            raise
        self._move(Event.STARTED if self._resumed is None else Event.RESUMED)

    def _adopt(self, fence: Fence) -> None:
        if self._work is not None:
            self._work.adopt(fence)

    async def _open(self) -> Work | None:
        """What is to be served; None where a resumed session turns out to be in the bucket."""
        if self._resumed is None:
            return await self._open_new()
        stands = await standing(self._ctx, self._hold.root.root, self._resumed)
        if stands is Standing.MOVED:
            await rebase_onto(self._ctx, self._hold.root.root, self._resumed)
        owner = self._ctx.owner
        copies = unpublished_copies(self._resumed.tree, owner.user, owner.machine)
        self._publishing.add_conflicts(copies)
        if stands is not Standing.SUPERSEDED:
            return self._resumed
        root = self._hold.root.root
        self._publishing.missing = await missing_of(self._ctx, root, self._resumed)
        return None

    async def _open_new(self) -> Work:
        try:
            tree = await self._load()
        except BaseException:
            await self._within_reason(self._give_back)
            raise
        work = await self._workspace.begin(tree, self._hold.fence)
        self._publishing.work = work
        return work

    async def _load(self) -> Tree:
        """The tree of the current generation; of a bucket never written, that of a listing."""
        ctx, root = self._ctx, self._hold.root.root
        manifest = await read_generation(ctx, root)
        self._publishing.aside = tuple(sorted(manifest.aside))
        if root.tree is None:
            manifest = never_published(Top(mtime=round(ctx.now() * 1_000_000_000)))
        tree = tree_of(manifest, root.tree, uid=ctx.uid, gid=ctx.gid)
        if root.tree is None:
            numbers = iter(range(first_inode(self._hold.fence), 1 << 62))
            await self._take_in(tree, lambda: Inode(next(numbers)), tree.apply)
        return tree

    async def _give_back(self) -> None:
        """Leave the stage as it was found, as far as the bucket can be reached."""
        self._is_given_back = True
        try:
            await self._hold.end()
            if await self._hold.leave():
                await self._workspace.retire()
        except (StoreError, LockError, DamageFound) as error:
            self._hold.meet(error)

    # --- serve ------------------------------------------------------------------------------------

    async def _serve_or_give_back(self, serve: Serve, work: Work) -> None:
        """Serve; where it can't be mounted at all, a new session leaves nothing behind."""
        try:
            await self._serve(serve, work)
        except MountError:
            if self._resumed is None and not work.tree.has_edits:
                await self._give_back()
            raise

    async def _serve(self, serve: Serve, work: Work) -> None:
        self.is_serving = True
        async with background(partial(self._follow, work)):
            try:
                await serve(work)
            finally:
                self.is_serving = False
            self._listing.cancel()
            if not self._is_aborted:
                await self._drain()
            async with self._hold.root_turn:
                pass  # a plan that is being finished is not left in the middle

    async def _follow(self, work: Work) -> None:
        """Finish the plan that was found; then take in what other tools did."""
        try:
            async with self._hold.root_turn:
                await self._hold.insist_on_root(partial(self._publishing.catch_up, work))
            with self._listing:
                async with self._hold.root_turn:  # what a publish expects is not changed under it
                    take_in = partial(self._take_in, work.tree, work.new_inode, work.commit)
                    await self._hold.insist(take_in)
                    self.is_settled = True
        except (LockLost, StageMoved) as error:
            await self._give_up(error)
        except PdfsError as error:
            self._hold.meet(error)  # the publish meets it again, and says it to the user

    async def _take_in(
        self, tree: Tree, new_inode: Callable[[], Inode], commit: Callable[..., object]
    ) -> None:
        """Bring what other tools did to the plain objects into the tree."""
        listing = await list_stage(self._ctx, self._hold.root.root.fence)
        merged = await merge_foreign(self._ctx, tree, listing, busy=self.busy, new_inode=new_inode)
        for record in merged.records:
            commit(record)
        self.warnings = merged.warnings
        self.on_note(notes.TakenIn(changes=len(merged.records), skipped=len(merged.warnings)))

    # --- publish and release ----------------------------------------------------------------------

    async def _drain(self) -> None:
        """It ends: whoever wants the stage waits for it, and a signal leaves it time to publish."""
        self._move(Event.PUBLISHING)
        with self._publishing.sending():
            await self._hold.insist(self._say_draining)

    async def _say_draining(self) -> None:
        """For people to read: no publish waits for a lock that can't be understood any more."""
        try:
            await self._hold.renew(LockState.DRAINING)
        except LockUnreadable as error:
            logger.error("the publish goes on without it: %s", error)

    async def _collect(self) -> None:
        """Let go what nobody needs any more. It is short of time, and no matter where it fails."""
        self.collected, note = await collect_at_end(
            self._ctx, self._hold.root, collects_all=self.collects_all
        )
        if note is not None:
            self.on_note(note)

    async def _give_up(self, error: LockLost | StageMoved) -> None:
        """Somebody else has, or had, the stage: what is shown here is not the stage any more.

        Where the lock is ours again, it goes, and says what waits here.
        """
        if isinstance(error, StageMoved):
            await self._within_reason(self._hold.leave)
            error = LockLost(error.what, remedy=error.remedy)
        self._hold.lose(error)

    async def _complete(self, work: Work) -> None:
        """What is given up shall need nothing of the bucket, should it be wanted back."""
        self.incomplete = await complete(self._ctx, work)

    # --- telling ----------------------------------------------------------------------------------

    def _note(self, note: notes.Note) -> None:
        self.on_note(note)

    def _move(self, event: Event) -> None:
        self.state = next_state(self.state, event)
        self.on_state(self.state)
        self.on_note(notes.StateChanged(state=self.state))
