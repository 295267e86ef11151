"""Restore: give a stage whose root, or whose current tree, is gone or damaged a root again.

It is one conditional write: of the version of the root that was found damaged, or where there was
none. Killed before it, or told that the root is another by now, it has changed nothing. The lock is
judged as by who wants the stage, and not taken: while the root is gone nobody else can start, and
who finds the new one raises its fence.

What can be gone on from, and what the new root says: `core.restore`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pdfs.core import root as core_root
from pdfs.core.ids import ObjectName, SessionId, fence_of
from pdfs.core.keys import PLANS, TREES
from pdfs.core.lease import Claimant
from pdfs.core.restore import Past, past_of, restored_root
from pdfs.core.root import Root
from pdfs.errors import ObjectDamaged, OtherVersion
from pdfs.stage.context import StageContext
from pdfs.stage.inventory import Inventory, list_internal
from pdfs.stage.load import read_generation, read_plan, read_tree
from pdfs.stage.lock import read_lock
from pdfs.stage.root import SeenRoot, how_restored
from pdfs.stage.start import right_to
from pdfs.stage.swap import Won, read, swap
from pdfs.store import step
from pdfs.store.objects import Condition, IfAbsent, IfMatch
from pdfs.store.step import Step


@dataclass(frozen=True, slots=True)
class _Found:
    """What is where the root should be."""

    root: SeenRoot | None
    """As far as it can be read."""
    condition: Condition
    """Under which it is this version that is replaced."""


async def find_past(ctx: StageContext, there: Inventory, root: Root | None) -> Past | None:
    """The newest generation that the root can name; None where no tree is left.

    `root` is the one that is there, if it can be read: then its own tree is no choice. Raises
    StoreError, and OtherVersion where a newer tree is not for this PDFS.
    """
    plans = {each.name for each in there.objects if each.folder == PLANS}
    names = {each.name for each in there.objects if each.folder == TREES}
    if root is not None:
        names = {each for each in names if each != root.tree and fence_of(each) <= root.fence}
    lacks = 0
    for group in _by_fence(names):
        past, unread = await _newest(ctx, group, plans, root)
        lacks += unread
        if past is not None:
            is_behind = root is not None and past.generation < root.generation
            return replace(past, lacks=lacks, is_behind=is_behind)
    return None


def _by_fence(names: Iterable[ObjectName]) -> list[list[ObjectName]]:
    """Those of the highest fence first."""
    groups: dict[int, list[ObjectName]] = {}
    for name in sorted(names, reverse=True):
        groups.setdefault(fence_of(name), []).append(name)
    return list(groups.values())


async def _newest(
    ctx: StageContext, names: Iterable[ObjectName], plans: set[ObjectName], root: Root | None
) -> tuple[Past | None, int]:
    """The newest generation among these trees, and how many of them can't be read."""
    newest: Past | None = None
    unread = 0
    for name in names:
        try:
            tree = await read_tree(ctx, name)
        except OtherVersion:
            raise
        except ObjectDamaged:
            unread += 1
            continue
        past = past_of(name, tree, plans, ctx.is_visible)
        if past is None or (root is not None and past.generation > root.generation):
            continue
        if newest is None or past.rank() > newest.rank():
            newest = past
    return newest, unread


async def restore(ctx: StageContext, claimant: Claimant) -> Past | None:
    """Put a root there that names the newest generation that is left; what it names.

    None where nothing has to be brought back. Raises LockHeld where somebody has the stage,
    LockUnreadable, ObjectDamaged where nothing can be brought back, StoreError. After each of them,
    and after cancellation, it may be called again.
    """
    while True:
        seen, found = await read_lock(ctx), await _find(ctx)
        before = None if found.root is None else found.root.root
        if before is not None and await is_sound(ctx, before):
            return None
        right_to(ctx, seen, found.root, replace(claimant, agreed=True))
        there = await list_internal(ctx)
        past = await find_past(ctx, there, before)
        if past is None:
            raise _nothing_left(ctx)
        root = restored_root(
            past,
            before,
            None if seen is None else seen.lock,
            [each.name for each in there.objects],
            publisher=await _publisher(ctx, past),
            session=ctx.owner.session,
            run=ctx.owner.run,
            until=there.now + ctx.timing.kept_for,
        )
        body = core_root.encode(replace(root, id=ctx.new_id()))
        with step.at(Step.RESTORE_ROOT):
            outcome = await swap(ctx, ctx.keys.root, body, found.condition)
        if isinstance(outcome, Won):
            return past


async def _publisher(ctx: StageContext, past: Past) -> SessionId | None:
    """The session whose publish is to be carried out, as far as its plan can be read."""
    if past.plan is None:
        return None
    try:
        return (await read_plan(ctx, past.plan)).session
    except ObjectDamaged:
        return None


async def is_sound(ctx: StageContext, root: Root) -> bool:
    """Whether the generation that `root` names can be opened. Raises StoreError, OtherVersion."""
    try:
        await read_generation(ctx, root)
    except OtherVersion:
        raise
    except ObjectDamaged:
        return False
    return True


async def _find(ctx: StageContext) -> _Found:
    found = await read(ctx, ctx.keys.root)
    if found is None:
        return _Found(None, IfAbsent())
    condition = IfMatch(found.info.etag)
    try:
        root = core_root.decode(ctx.keys.root, found.body)
    except OtherVersion:
        raise
    except ObjectDamaged:
        return _Found(None, condition)
    return _Found(SeenRoot(root, found.info.etag), condition)


def _nothing_left(ctx: StageContext) -> ObjectDamaged:
    return ObjectDamaged(
        f"no tree of {ctx.keys.project}/{ctx.keys.stage} that can be read is left in the bucket",
        remedy=how_restored(ctx),
    )
