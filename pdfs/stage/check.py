"""Check: look at a whole stage without taking it, and say what deviates from what was published.

Reads only. The root is read before and after; where it has moved, somebody published meanwhile, and
the look is taken anew. What the findings are: `core.check`.
"""

from dataclasses import dataclass

import trio

from pdfs.core.generation import tree_of
from pdfs.core.ids import Fence
from pdfs.core.keys import PLANS
from pdfs.core.look import Look, Unread, Upload
from pdfs.core.root import Root
from pdfs.errors import ObjectDamaged
from pdfs.stage.collect import dead_uploads, key_of
from pdfs.stage.context import StageContext
from pdfs.stage.inventory import Fault, Inventory, Survey, list_internal, survey
from pdfs.stage.load import Looked, list_plain, look_closer
from pdfs.stage.lock import read_lock
from pdfs.stage.reading import wrong_homes
from pdfs.stage.root import SeenRoot, read_root


@dataclass(frozen=True, slots=True)
class _Basis:
    """The root, or why there is none."""

    seen: SeenRoot | None
    broken: str = ""

    @property
    def root(self) -> Root | None:
        return None if self.seen is None else self.seen.root


async def look_at(ctx: StageContext, *, reads: bool = False) -> Look:
    """All that can be seen of the stage; with `reads`, every byte too. Raises StoreError."""
    while True:
        before = await _basis(ctx)
        look = await _look(ctx, before.root, before.broken)
        if reads and look.tree is not None:
            look.wrong = await wrong_homes(ctx, look)
        if await _basis(ctx) == before:
            return look
        await trio.sleep(ctx.timing.backoff)


async def _basis(ctx: StageContext) -> _Basis:
    try:
        return _Basis(await read_root(ctx))
    except ObjectDamaged as error:
        return _Basis(None, str(error))


async def _look(ctx: StageContext, root: Root | None, broken: str) -> Look:
    lock = await read_lock(ctx)
    there, found = Inventory(), Survey()
    if root is not None or broken:
        there = await list_internal(ctx)
    else:
        broken = await _why_no_root(ctx)
    if root is not None:
        found = await survey(ctx, root, there)
    looked = await _plain(ctx, root, found)
    return Look(
        root=root,
        tree=found.tree,
        plan=found.plan,
        named=found.named,
        unread=[_unread(ctx, fault) for fault in found.faults],
        lacking=found.lacking,
        newer=sorted(key_of(ctx, each) for each in there.objects if each.name in found.newer),
        objects=there.objects,
        strange=there.strange,
        rows=tuple(looked.rows.values()),
        echoes=looked.echoes,
        uploads=await _uploads(ctx, root, there, found),
        hides_uploads=there.hides_uploads,
        broken_root=broken,
        broken_lock="" if lock is None or lock.fault is None else lock.fault.what,
        is_visible=ctx.is_visible,
        key=lambda each: key_of(ctx, each),
        lock_session="" if lock is None or lock.lock is None else lock.lock.session,
    )


async def _why_no_root(ctx: StageContext) -> str:
    """A stage that PDFS has never written has none; and no other objects of ours either."""

    async def listed() -> bool:
        pages = [page async for page in ctx.store.list(ctx.keys.internal_prefix)]
        return any(pages)

    ours = await ctx.patience.ask(listed)
    return "the root is gone, and other objects of the stage are there" if ours else ""


async def _plain(ctx: StageContext, root: Root | None, found: Survey) -> Looked:
    rows = await list_plain(ctx)
    if root is None or found.tree is None or root.plan is not None:
        return Looked({row.path: row for row in rows}, {})
    return await look_closer(ctx, tree_of(found.tree, root.tree, uid=0, gid=0), rows)


async def _uploads(
    ctx: StageContext, root: Root | None, there: Inventory, found: Survey
) -> list[Upload]:
    if root is None or not found.is_sure:
        return []
    dead = await dead_uploads(ctx, root, Fence(root.fence + 1), there, found)
    return [Upload(key=each.key, initiated=each.initiated) for each in dead]


def _unread(ctx: StageContext, fault: Fault) -> Unread:
    is_plan = fault.folder == PLANS
    key = ctx.keys.plan(fault.name) if is_plan else ctx.keys.tree(fault.name)
    return Unread(key=key, needed=fault.needed, why=fault.error.what, is_plan=is_plan)
