"""Repair: what the holder of a stage does, so that its next publish puts the stage right.

It changes the tree alone, by records (`core.mend`): the publish that follows is one like others. A
plan that is gone is made anew from the trees that it lies between.
"""

import trio

from pdfs.core import notes
from pdfs.core import plan as core_plan
from pdfs.core.check import findings
from pdfs.core.finding import Level
from pdfs.core.foundation import is_judgeable
from pdfs.core.ids import ObjectName, PublishId, RunId, publish_name
from pdfs.core.look import Look
from pdfs.core.mend import mending, touched
from pdfs.core.plan import Plan, plan_of
from pdfs.core.root import Root
from pdfs.errors import ContentLost, ObjectDamaged, OtherVersion
from pdfs.stage.check import look_at
from pdfs.stage.context import StageContext
from pdfs.stage.immutable import put_immutable
from pdfs.stage.load import GZIP, read_plan, read_tree
from pdfs.stage.root import read_held_root, read_root
from pdfs.stage.work import Work
from pdfs.store import step
from pdfs.store.step import Step


async def put_right(ctx: StageContext, work: Work, *, reads: bool) -> Look:
    """Look at the stage, which `work` holds and stands on, and journal what mends it.

    What other tools did has been taken in by then. Raises StoreError, DiskError.
    """
    look = await look_at(ctx, reads=reads)
    if look.tree is not None and is_judgeable(look) and look.plan is None:
        theirs = [each for each in findings(look) if each.level is Level.FOREIGN]
        is_taken_in = any(each.is_repairable for each in theirs)
        for record in mending(work.tree, look) or ([touched(work.tree)] if is_taken_in else []):
            work.commit(record)
        await work.sync()
    return look


async def remake_plan(ctx: StageContext, root: Root) -> None:
    """Make the root's plan anew, where it is gone or damaged; else do nothing.

    What it says is what the trees of before and after the commit say: where the publish had
    expected another tool's object, a conflict copy is made now. Raises LockLost, StoreError, and
    ObjectDamaged where one of the trees can't be read.
    """
    if root.plan is None:
        return
    try:
        await read_plan(ctx, root.plan)
    except ObjectDamaged:
        plan = await _plan_of(ctx, root, root.plan)
        await read_held_root(ctx, root.fence)
        key, body = ctx.keys.plan(root.plan), core_plan.encode(plan)
        with step.at(Step.COMMIT_PLAN):
            await put_immutable(ctx, key, body, GZIP)


async def _plan_of(ctx: StageContext, root: Root, name: ObjectName) -> Plan:
    committed = await read_tree(ctx, root.tree)
    before = await read_tree(ctx, committed.predecessor)
    user, machine = _whose(root, name)
    return plan_of(
        committed,
        before.known(),
        publish=PublishId(name),
        session=ctx.owner.session,
        run=RunId(""),
        user=user,
        machine=machine,
        is_visible=ctx.is_visible,
    )


def _whose(root: Root, name: ObjectName) -> tuple[str, str]:
    """Whose publish it is, where that session has not ended."""
    for entry in root.sessions:
        if entry.last is not None and publish_name(entry.last.publish) == name:
            return entry.user, entry.machine
    return "unknown", "unknown"


class Mending:
    """Puts a stage right while a session has it: `hear` is the session's `on_note`."""

    def __init__(self, ctx: StageContext, *, reads: bool) -> None:
        self._ctx = ctx
        self._reads = reads
        self._is_ready = trio.Event()
        self._is_stuck = False

    def hear(self, note: notes.Note) -> None:
        """What other tools did is taken in; or that will not be, since something is damaged."""
        match note:
            case notes.TakenIn():
                self._is_ready.set()
            case notes.LockTakenAway():
                self._is_stuck = True
                self._is_ready.set()
            case notes.Troubled(kind=kind) if kind in _DAMAGE:
                self._is_stuck = True
                self._is_ready.set()
            case _:
                pass

    async def mend(self, work: Work) -> None:
        """Journal what is to be done. Where the plan is damaged, only that is made anew.

        Raises StoreError, DiskError, DamageFound.
        """
        await self._is_ready.wait()
        if not self._is_stuck:
            await put_right(self._ctx, work, reads=self._reads)
            return
        seen = await read_root(self._ctx)
        if seen is not None:
            await remake_plan(self._ctx, seen.root)


_DAMAGE = frozenset({each.__name__ for each in (ObjectDamaged, OtherVersion, ContentLost)})
