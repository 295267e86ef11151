"""Apply: carry out a committed plan on the plain objects, and find out what became of each step.

Only the holder of the root's fence applies. It looks at the root before each batch, and again
before it sends anything under another condition: a process that was frozen stops there. Each step
can be done twice, by us or by whoever finishes the plan after a crash: a put is known by the size
and the metadata of its object, and a delete is done when nothing is there.

A plain object is replaced or removed only if it has the ETag that the plan expects. What else is
there stays: ours then becomes a conflict copy beside it. A refusal is believed at once where
something else is there; where it is not, the second time.
"""

from collections.abc import Sequence
from functools import partial
from typing import assert_never

import trio

from pdfs.core.ids import Path, PublishId
from pdfs.core.plan import Delete, Plan, Put, Step
from pdfs.core.progress import Phase
from pdfs.core.settle import (
    Deleted,
    Done,
    Moved,
    Outcome,
    SetAside,
    SourceLost,
    Stays,
    Theirs,
    still_aside,
)
from pdfs.errors import (
    ContentLost,
    KeyClash,
    LockLost,
    ObjectDamaged,
    ObjectNotFound,
    PreconditionFailed,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from pdfs.stage.context import StageContext
from pdfs.stage.load import read_tree
from pdfs.stage.plain import PlainPut
from pdfs.stage.relatives import Relatives
from pdfs.stage.root import SeenRoot, read_root, root_gone, taken_words
from pdfs.stage.together import together
from pdfs.stage.upload import Sent
from pdfs.store import step as steps
from pdfs.store.objects import Condition, IfAbsent, IfMatch, ObjectInfo, SignedDelete
from pdfs.store.retry import MOST_TRIES


async def apply(ctx: StageContext, seen: SeenRoot, plan: Plan) -> dict[Path, Outcome]:
    """The outcome of every step of the plan that the root `seen` names.

    A plan that another process committed is left alone for `foreign_plan_wait` first: until then a
    delete that it sent may still be carried out. So is one of this process that was cancelled while
    such a delete had no answer.

    Raises LockLost when the root is another's by now, and StoreError when the bucket doesn't do its
    part. A step that is refused holds up no other of its round; and what is done stays done: this
    process doesn't do it again when it is called again.
    """
    if plan.run != ctx.owner.run:
        size = sum(put.content.size for put in plan.puts)
        ctx.uploads.begin(Phase.WAIT, files=len(plan.puts) + len(plan.deletes), size=size)
        await trio.sleep(ctx.timing.foreign_plan_wait)
    await ctx.unanswered.wait_out()
    applying = _Applying(ctx, seen, plan)
    puts = [put for put in plan.puts if put.path not in applying.outcomes]
    deletes = [step for step in plan.deletes if step.path not in applying.outcomes]
    size = sum(put.content.size for put in puts)
    ctx.aside.begin(plan.publish)
    ctx.uploads.begin(Phase.PUBLISH, files=len(puts) + len(deletes), size=size)
    for steps_of_round in plan.rounds():
        await applying.carry_out(steps_of_round)
    return applying.outcomes


def _batches(steps: Sequence[Step], size: int) -> list[Sequence[Step]]:
    return [steps[start : start + size] for start in range(0, len(steps), size)]


def _done_before(ctx: StageContext, publish: PublishId) -> dict[Path, Outcome]:
    """What an earlier try of this process brought about; of another plan, nothing is kept."""
    if publish not in ctx.applied:
        ctx.applied.clear()
    done = ctx.applied.setdefault(publish, {})
    open_ = [path for path, outcome in done.items() if isinstance(outcome, SourceLost | SetAside)]
    for path in open_:
        del done[path]  # its source may have come back, or the bucket takes it by now
    return done


class _Applying:
    """One try at a plan."""

    def __init__(self, ctx: StageContext, seen: SeenRoot, plan: Plan) -> None:
        self._ctx = ctx
        self._seen = seen
        self._plan = plan
        self.outcomes = _done_before(ctx, plan.publish)
        self._errors: list[StoreError] = []
        self._relatives = Relatives(ctx)
        self._held: frozenset[Path] | None = None
        """What the generation before has set aside, and is the same in this one; None: unread."""

    async def carry_out(self, steps_of_round: Sequence[Step]) -> None:
        """The steps of one round that are not done yet. Raises the first error of a step."""
        left = [step for step in steps_of_round if step.path not in self.outcomes]
        for batch in _batches(left, self._ctx.sizes.parallel):
            await self._check_root()
            await together(
                (partial(self._carry_out, step) for step in batch), most=self._ctx.sizes.parallel
            )
            if any(isinstance(error, StoreUnavailable) for error in self._errors):
                break  # the bucket is away: the next batch would fare no better
        if self._errors:
            raise self._errors[0]

    async def _carry_out(self, step: Step) -> None:
        try:
            outcome = await self._outcome_of(step)
        except StoreRefused as error:
            refused = StoreRefused(f"{step.path!r}: {error.what}", remedy=error.remedy)
            refused.__cause__ = error
            self._fail(step, refused)
        except StoreError as error:
            self._fail(step, error)
        else:
            self.outcomes[step.path] = outcome
            self._ctx.aside.end(step.path, is_done=not isinstance(outcome, SetAside))

    def _fail(self, step: Step, error: StoreError) -> None:
        self._errors.append(error)
        self._ctx.aside.fail(step.path, error)

    async def _outcome_of(self, step: Step) -> Outcome:
        if self._ctx.aside.is_given(self._plan.publish, step.path):
            return await self._outcome_aside(step)
        try:
            return await self._outcome_tried(step)
        except StoreRefused:
            if not await self._has_word(step):
                raise
            return await self._outcome_aside(step)

    async def _has_word(self, step: Step) -> bool:
        """Whether a user set it aside before, and that still holds where it is refused again.

        It holds in this process; and where the file is the one that the last generation set aside.
        """
        if self._ctx.aside.holds(step.path):
            return True
        if self._held is None:
            try:
                with steps.at(steps.Step.APPLY_READ):
                    committed = await read_tree(self._ctx, self._seen.root.tree)
                    before = await read_tree(self._ctx, committed.predecessor)
            except ObjectDamaged:
                return False
            self._held = still_aside(before, committed)
        return step.path in self._held

    async def _outcome_tried(self, step: Step) -> Outcome:
        match step:
            case Put():
                with self._ctx.uploads.item(step.path, step.content.size) as sent:
                    return await self._put(step, sent)
            case Delete():
                with self._ctx.uploads.item(step.path, 0):
                    return await self._delete(step)
            case _:
                assert_never(step)

    async def _outcome_aside(self, step: Step) -> Outcome:
        """What became of a step that is tried no more: an earlier try may have done it."""
        try:
            there = await self._look_at(step.path)
        except StoreRefused:
            return SetAside()
        if isinstance(step, Delete):
            return Deleted() if there is None else SetAside()
        sending = PlainPut(self._ctx, self._plan.publish, step)
        if there is None or not sending.is_alike(there):
            return SetAside()
        is_whole = await sending.is_whole(step.path, there.etag)
        return Done(there.etag) if is_whole else SetAside()

    async def _check_root(self) -> None:
        with steps.at(steps.Step.APPLY_CHECK_ROOT):
            now = await read_root(self._ctx)
        if now is None:
            raise root_gone(self._ctx)
        if now.etag != self._seen.etag:
            raise LockLost(
                f"{taken_words(now.root, self._ctx.owner)}, while its plain objects were brought "
                "up to date",
                remedy="what was committed is safe, and the new owner finishes it",
            )

    # --- put ------------------------------------------------------------------------------------

    async def _put(self, put: Put, sent: Sent) -> Outcome:
        expect: Condition = IfAbsent() if put.expect is None else IfMatch(put.expect)
        sending = PlainPut(self._ctx, self._plan.publish, put, sent)
        try:
            if put.expect is None:
                await self._check_relatives(put.path)
            return await self._put_until_judged(sending, put, expect)
        except KeyClash:
            return await self._put_copy(sending, put.aside, theirs=None)
        except ContentLost:
            return SourceLost()

    async def _check_relatives(self, path: Path) -> None:
        """Raise KeyClash where the store should, and does not."""
        with steps.at(steps.Step.APPLY_JUDGE):
            if await self._relatives.has_any(path):
                raise KeyClash(self._ctx.keys.plain(path))

    async def _put_until_judged(self, sending: PlainPut, put: Put, condition: Condition) -> Outcome:
        for number in range(MOST_TRIES):
            if number:
                await self._check_root()
            with steps.at(steps.Step.APPLY_PUT):
                etag = await sending.send(put.path, condition)
            if etag is None:
                there = await self._look_at(put.path)
                if there is None:
                    condition = IfAbsent()  # removed by another tool: ours is new
                    await self._check_relatives(put.path)
                    continue
                if condition == IfMatch(there.etag) and not number:
                    continue  # what is expected is there: one such refusal is not believed
                if not sending.is_alike(there):
                    return await self._put_copy(sending, put.conflict, _theirs(there))
                etag = there.etag
            if await sending.is_whole(put.path, etag):
                return Done(etag)
            condition = IfMatch(etag)  # our own, but damaged on its way
        raise StoreUnavailable(f"{put.path!r} does not arrive undamaged in the bucket")

    async def _put_copy(self, sending: PlainPut, path: Path, theirs: Theirs | None) -> Outcome:
        """Our content beside another tool's object, which keeps the name."""
        if not self._ctx.is_visible(path):
            return Moved(path, None, theirs)
        condition: Condition = IfAbsent()
        for _ in range(MOST_TRIES):
            await self._check_root()
            with steps.at(steps.Step.APPLY_CONFLICT):
                try:
                    await self._check_relatives(path)
                    etag = await sending.send(path, condition)
                except KeyClash:
                    return Moved(path, None, theirs)
            if etag is None:
                there = await self._look_at(path)
                if there is None:
                    continue
                if not sending.is_alike(there):
                    return Moved(path, None, theirs)
                etag = there.etag
            if await sending.is_whole(path, etag):
                return Moved(path, etag, theirs)
            condition = IfMatch(etag)
        raise StoreUnavailable(f"{path!r} does not arrive undamaged in the bucket")

    # --- delete -----------------------------------------------------------------------------------

    async def _delete(self, step: Delete) -> Outcome:
        if self._ctx.store.traits.conditional_delete:
            return await self._delete_if_match(step)
        return await self._delete_signed(step)

    async def _delete_if_match(self, step: Delete) -> Outcome:
        there = await self._left_by_delete(step)
        if there is not None and there.etag == step.expect:  # one such refusal is not believed
            await self._check_root()
            there = await self._left_by_delete(step)
        return Deleted() if there is None else Stays(_theirs(there))

    async def _left_by_delete(self, step: Delete) -> ObjectInfo | None:
        """Delete what is expected; what is there where the store refuses that, None for nothing."""
        ctx, key = self._ctx, self._ctx.keys.plain(step.path)
        with steps.at(steps.Step.APPLY_DELETE):
            try:
                await ctx.patience.ask(
                    lambda: ctx.store.delete(key, condition=IfMatch(step.expect)),
                    first=ctx.wake.heed,
                )
            except ObjectNotFound:
                return None
            except PreconditionFailed:
                pass
            else:
                return None
        return await self._look_at(step.path)

    async def _delete_signed(self, step: Delete) -> Outcome:
        """Look, sign, look at the root, send once; without an answer, wait it out and look again.

        Raises StoreUnavailable where it was not carried out.
        """
        ctx, key = self._ctx, self._ctx.keys.plain(step.path)
        if outcome := await self._needs_no_delete(step):
            return outcome
        signed = ctx.store.sign_delete(key, valid_for=ctx.timing.delete_valid)
        await self._check_root()
        try:
            await self._send_once(signed)
        except StoreUnavailable:
            await ctx.unanswered.wait_out()
            if outcome := await self._needs_no_delete(step):
                return outcome
            raise
        return Deleted()

    async def _needs_no_delete(self, step: Delete) -> Outcome | None:
        """What became of it, where what was expected is not there any more."""
        there = await self._look_at(step.path)
        if there is None:
            return Deleted()
        return Stays(_theirs(there)) if there.etag != step.expect else None

    async def _send_once(self, signed: SignedDelete) -> None:
        """Without an answer, also when cancelled, it may be carried out as long as it is valid."""
        try:
            with steps.at(steps.Step.APPLY_DELETE):
                await self._ctx.patience.once(signed.send)
        except (StoreUnavailable, trio.Cancelled):
            self._ctx.unanswered.note(self._ctx.timing.delete_valid)
            raise

    # --- looking ----------------------------------------------------------------------------------

    async def _look_at(self, path: Path) -> ObjectInfo | None:
        ctx, key = self._ctx, self._ctx.keys.plain(path)
        with steps.at(steps.Step.APPLY_JUDGE):
            try:
                return await ctx.patience.look(lambda: ctx.store.head(key))
            except ObjectNotFound:
                return None


def _theirs(there: ObjectInfo) -> Theirs:
    return Theirs(
        etag=there.etag, size=there.size, mtime=round(there.last_modified * 1_000_000_000)
    )
