"""Publishing: what of a session is in no generation, and its way into one.

    at_once       the tree as of now; the session goes on
    to_the_end    until nothing is unpublished; the session ends
    set_aside     the publish under way ends without what the bucket refuses

Each catches up with the root first: what an earlier try, or another machine, has committed is
finished before anything else is. This never takes the lock or gives it back; that is `stage.hold`,
and the life of the session is `session`.
"""

from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from functools import partial

from pdfs.core import notes
from pdfs.core.generation import changed_files, holds_work, invisible_files, unpublished_of
from pdfs.core.ids import Inode, Path, Sequence
from pdfs.core.lease import Unpublished
from pdfs.core.plan import Plan
from pdfs.core.progress import Phase
from pdfs.errors import NotFoundError, PdfsError, SessionError, UnpublishedWork
from pdfs.stage.catch_up import Standing, catch_up, missing_of, superseded
from pdfs.stage.context import StageContext
from pdfs.stage.hold import Hold
from pdfs.stage.load import read_plan
from pdfs.stage.publish import publish
from pdfs.stage.work import Work


class Publishing:
    """The publishes of one session."""

    def __init__(
        self,
        ctx: StageContext,
        hold: Hold,
        work: Work | None,
        *,
        opened: Callable[[], Set[Inode]],
        note: Callable[[notes.Note], None],
    ) -> None:
        """`opened` are files that took the place of others, and were opened since."""
        self._ctx = ctx
        self._hold = hold
        self._opened = opened
        self._note = note
        self.work = work
        """None before there is a tree."""
        self.conflicts: list[Path] = []
        """Conflict copies that were made of this session's files."""
        self.not_removed: list[Path] = []
        """Names that were to go, and stay: another tool had changed what is there."""
        self.missing: list[Path] = []
        """Files of the current generation whose bytes are nowhere to be found."""
        self.aside: tuple[Path, ...] = ()
        """Names whose plain object is not what the generation says, by a user's word."""
        self._is_aside_due = False
        """The publish has yet to try again what an earlier one has set aside."""
        self._broken_off: PdfsError | None = None
        """Why the last publish that was asked for ended before its plan was carried out."""
        self._begun: Unpublished | None = None
        """What the publish that is under way began with; None before the first."""
        self._counted: tuple[Sequence, Unpublished] | None = None
        """What is unpublished, as of that record."""
        self._invisible: tuple[Sequence, list[Path]] | None = None
        """What other tools don't see, likewise."""

    @property
    def unpublished(self) -> Unpublished:
        """What of this session is in no generation.

        Counted anew only after another record: that takes 0.4 s for 100,000 files.
        """
        if self.work is None:
            return Unpublished()
        last = self.work.last
        if self._counted is None or self._counted[0] != last:
            self._counted = last, unpublished_of(self.work.tree, self._ctx.is_visible)
        return self._counted[1]

    @property
    def invisible(self) -> list[Path]:
        """Files that no other tool sees, since no key can hold their name.

        Looked for anew only after another record, too: a mount that is waited for is asked 5 times
        a second, and this takes 0.4 s for 100,000 files.
        """
        if self.work is None:
            return []
        last = self.work.last
        if self._invisible is None or self._invisible[0] != last:
            self._invisible = last, invisible_files(self.work.tree, self._ctx.is_visible)
        return self._invisible[1]

    async def at_once(self, work: Work) -> None:
        """Publish the tree as of now, until that is verified; who calls has the root's turn.

        Raises LockLost, StageMoved, DiskError; nothing is lost by any of them. May be cancelled.
        """
        self._is_aside_due, self._broken_off = True, None
        try:
            with self.sending():
                await self._hold.insist_on_root(partial(self._publish_once, work))
        except PdfsError as error:
            self._broken_off = error
            raise

    async def to_the_end(self, work: Work) -> None:
        """Publish until nothing of this session is unpublished."""
        self._is_aside_due = True
        with self.sending():
            async with self._hold.root_turn:
                await self._hold.insist_on_root(partial(self._publish_all, work))

    @contextmanager
    def sending(self) -> Iterator[None]:
        """A block that sends what is unpublished, until that is done or the stage is lost."""
        left = self.unpublished
        self._ctx.uploads.begin(Phase.UPLOAD, files=left.files, size=left.bytes, is_first=True)
        with self._hold.sending():
            yield

    async def set_aside(self, paths: Iterable[Path]) -> bool:
        """Let the publish under way end without the steps of these paths, and wait for its end.

        Returns whether it has ended; False where the unmount broke it off: the session's end
        finishes it then, and obeys too. Each later publish of this session tries the steps once,
        and ends without those that are refused again. Their contents are in the bucket, for PDFS
        alone.

        Raises NotFoundError where one is no step of it, or has not failed; SessionError where no
        publish has passed its commit point; what the publish raises.
        """
        root = self._hold.root.root
        if root.plan is None:
            raise nothing_to_set_aside()
        plan = await read_plan(self._ctx, root.plan)
        wanted = sorted(set(paths))
        self._check_failed(plan, wanted)
        self._ctx.aside.give(plan.publish, wanted)
        for path in wanted:
            self._note(notes.PutAside(path=path))
        self._hold.hurry()
        async with self._hold.root_turn:
            pass
        if self._hold.root.root.plan != root.plan:
            return True
        if error := self._hold.lost or self._broken_off:
            raise error
        return False

    def _check_failed(self, plan: Plan, wanted: Iterable[Path]) -> None:
        steps = {step.path for step in plan.steps}
        for path in wanted:
            if path not in self._ctx.aside.failed:
                of = "" if path in steps else "changed, and so not "
                raise NotFoundError(
                    f"{path!r} is not {of}refused in the publish under way",
                    remedy="pdfs status names what is refused; nothing was set aside",
                )

    # --- steps ------------------------------------------------------------------------------------

    async def _publish_all(self, work: Work) -> None:
        is_tried = False
        while True:
            stands = await self.catch_up(work, ends=True)
            is_left = work.tree.has_edits or (not is_tried and bool(changed_files(work.tree)))
            if stands is Standing.SUPERSEDED or not (is_left or self._has_aside_to_try):
                break
            await self._commit(work)
            is_tried = True
        incomplete = changed_files(work.tree)
        if incomplete and stands is not Standing.SUPERSEDED:
            raise UnpublishedWork(
                f"{len(incomplete)} files could not be made whole, {incomplete[0]!r} first",
                remedy="what was written is kept here: pdfs recover rescue copies it out",
            )
        self.missing = await missing_of(self._ctx, self._hold.root.root, work)
        await self._hold.end()
        if stands is Standing.COMMITTED or self._begun is not None:
            self._note_published()

    async def _publish_once(self, work: Work) -> None:
        """Publish the tree as of now, unless there is nothing to publish."""
        await self._settle_own(work)  # what an earlier try has committed
        if holds_work(work.tree) or self._has_aside_to_try:
            await self._commit(work)
            await self._settle_own(work)

    @property
    def _has_aside_to_try(self) -> bool:
        return self._is_aside_due and bool(self.aside)

    async def _settle_own(self, work: Work) -> None:
        if await self.catch_up(work) is Standing.COMMITTED:
            self.missing = await missing_of(self._ctx, self._hold.root.root, work)
            self._note_published()

    async def _commit(self, work: Work) -> None:
        begun = self._begun = self.unpublished
        self._note(notes.PublishBegun(files=begun.files, bytes=begun.bytes))
        self._hold.root = await publish(self._ctx, self._hold.root, work, opened=self._opened())
        self._is_aside_due = False
        self._note(notes.Committed(generation=self._hold.root.root.generation))

    def _note_published(self) -> None:
        generation, missing = self._hold.root.root.generation, len(self.missing)
        files = bytes_ = None
        if self._begun is not None:
            files, bytes_ = self._begun.files, self._begun.bytes
        self._note(
            notes.Published(generation=generation, files=files, bytes=bytes_, missing=missing)
        )
        self._begun = None

    async def catch_up(self, work: Work, *, ends: bool = False) -> Standing:
        """Bring root and tree together, as `stage.catch_up`. Raises StageMoved, also where the tree
        is superseded and the session goes on.
        """
        has_plan = self._hold.root.root.plan is not None
        caught = await catch_up(self._ctx, self._hold.root, work, ends=ends)
        self._hold.root, self.aside = caught.root, caught.aside
        self._is_aside_due = self._is_aside_due and not has_plan  # it has just tried all of it
        self.add_conflicts(caught.conflicts)
        for path in caught.not_removed:
            self.not_removed.append(path)
            self._note(notes.NotRemoved(path=path))
        if caught.standing is Standing.SUPERSEDED and not ends:
            raise superseded(caught.root.root)
        return caught.standing

    def add_conflicts(self, copies: Iterable[Path]) -> None:
        """Conflict copies that were made; who listens is told of them."""
        for path in copies:
            self.conflicts.append(path)
            self._note(notes.ConflictCopied(path=path))


def nothing_to_set_aside() -> SessionError:
    """The error for a word that comes before, or after, the plan of a publish."""
    return SessionError(
        "no step of a publish can be set aside now",
        remedy="that goes once everything is uploaded and a file is refused: pdfs status",
    )
