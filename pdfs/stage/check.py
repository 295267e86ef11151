"""Check: look at a whole stage without taking it, and say what deviates from what was published.

Reads only. The root is read before and after; where it has moved, somebody published meanwhile, and
the look is taken anew. What the findings are: `core.check`.
"""

from collections.abc import Set
from dataclasses import dataclass

import trio

from pdfs.core.foundation import is_judgeable
from pdfs.core.generation import tree_of
from pdfs.core.ids import Fence, SessionId
from pdfs.core.keys import PLANS
from pdfs.core.lease import LockState, is_lately_renewed
from pdfs.core.look import Look, Unread, Upload
from pdfs.core.root import Root
from pdfs.errors import ObjectDamaged, OtherVersion
from pdfs.stage.collect import dead_uploads
from pdfs.stage.context import StageContext
from pdfs.stage.inventory import Fault, Inventory, Survey, key_of, list_internal, survey
from pdfs.stage.load import Looked, list_plain, look_closer, read_plan
from pdfs.stage.lock import SeenLock, read_lock
from pdfs.stage.reading import wrong_homes
from pdfs.stage.restore import find_past
from pdfs.stage.root import SeenRoot, read_root


@dataclass(frozen=True, slots=True)
class _Basis:
    """The root, or why there is none."""

    seen: SeenRoot | None
    broken: str = ""
    is_ours: bool = True
    """Not of another version of PDFS."""

    @property
    def root(self) -> Root | None:
        return None if self.seen is None else self.seen.root


async def look_at(
    ctx: StageContext, *, reads: bool = False, crashed: Set[SessionId] = frozenset()
) -> Look:
    """All that can be seen of the stage; with `reads`, every byte too. Raises StoreError.

    `crashed` are sessions that are known to be dead, whatever their lock says.
    """
    while True:
        before = await _basis(ctx)
        look = await _look(ctx, before)
        if look.lock is not None and look.lock.session in crashed:
            look.is_owner_alive = False
        if reads and look.tree is not None:
            look.wrong = await wrong_homes(ctx, look)
            look.old_plans = await _old_plans(ctx, look)
        if await _basis(ctx) == before:
            return look
        await trio.sleep(ctx.timing.backoff)


async def _basis(ctx: StageContext) -> _Basis:
    try:
        return _Basis(await read_root(ctx))
    except ObjectDamaged as error:
        return _Basis(None, error.what, is_ours=not isinstance(error, OtherVersion))


async def _look(ctx: StageContext, basis: _Basis) -> Look:
    root, broken = basis.root, basis.broken
    lock, there, found = await read_lock(ctx), await list_internal(ctx), Survey()
    if root is not None:
        found = await survey(ctx, root, there)
    elif there.objects and not broken:
        broken = "the root is gone, and other objects of the stage are there"
    looked = await _plain(ctx, root, found)
    look = Look(
        root=root,
        tree=found.tree,
        plan=found.plan,
        named=found.named,
        unread=[_unread(ctx, root, fault) for fault in found.faults],
        lacking=found.lacking,
        newer=sorted(key_of(ctx, each) for each in there.objects if each.name in found.newer),
        now=there.now,
        objects=there.objects,
        strange=there.strange,
        rows=tuple(looked.rows.values()),
        echoes=looked.echoes,
        uploads=await _uploads(ctx, root, there, found),
        hides_uploads=there.hides_uploads,
        broken_root=broken,
        is_of_other_version=not basis.is_ours or _has_other_tree(root, found),
        broken_lock="" if lock is None or lock.fault is None else lock.fault.what,
        is_visible=ctx.is_visible,
        key=lambda each: key_of(ctx, each),
    )
    _note_owner(ctx, look, lock)
    if there.objects and not (look.newer or look.is_of_other_version or is_judgeable(look)):
        await _note_past(ctx, look, there)
    return look


async def _old_plans(ctx: StageContext, look: Look) -> dict[str, str]:
    """The plans of earlier publishes that can't be read, and why."""
    wrong: dict[str, str] = {}
    for each in look.objects:
        is_current = look.root is not None and each.name == look.root.plan
        if each.folder == PLANS and each in look.named and not is_current:
            try:
                await read_plan(ctx, each.name)
            except ObjectDamaged as error:
                wrong[key_of(ctx, each)] = error.what
    return wrong


def _has_other_tree(root: Root | None, found: Survey) -> bool:
    """Whether the current tree is of another version."""
    return root is not None and any(
        fault.name == root.tree and fault.is_of_other_version for fault in found.faults
    )


def _note_owner(ctx: StageContext, look: Look, seen: SeenLock | None) -> None:
    if seen is not None and seen.lock is not None and seen.lock.state is not LockState.RELEASED:
        look.lock = seen.lock
        look.is_owner_alive = is_lately_renewed(seen.lock, seen.age, ctx.timing)


async def _note_past(ctx: StageContext, look: Look, there: Inventory) -> None:
    try:
        look.past = await find_past(ctx, there, look.root)
    except OtherVersion:
        look.is_of_other_version = True


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


def _unread(ctx: StageContext, root: Root | None, fault: Fault) -> Unread:
    is_plan = fault.folder == PLANS
    return Unread(
        key=ctx.keys.plan(fault.name) if is_plan else ctx.keys.tree(fault.name),
        needed=fault.needed,
        why=fault.error.what,
        is_plan=is_plan,
        is_current=not is_plan and root is not None and fault.name == root.tree,
    )
