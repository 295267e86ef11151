"""Catch up: bring bucket and tree together after a commit, a Start, or a crash.

    finish    a plan that the root names is applied and settled, whoever committed it
    tell      what came of it becomes a record: bases, expectations, conflict copies

A session stands on the generation that its tree came from, or on the one that it committed itself.
Where the root has moved on beyond that, somebody else has published since.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import assert_never

from pdfs.core.generation import holds_work
from pdfs.core.ids import ObjectName, Path, PublishId, object_name, publish_name
from pdfs.core.manifest import Manifest
from pdfs.core.plan import ConflictNames
from pdfs.core.rebase import rebase
from pdfs.core.record import Settled
from pdfs.core.root import Root
from pdfs.core.settle import (
    Moved,
    SourceLost,
    Stays,
    most_entering,
    settle,
    settled_record,
    settlement_of,
)
from pdfs.core.tree import InFlight, Tree
from pdfs.errors import ObjectDamaged, StageMoved
from pdfs.stage.apply import apply
from pdfs.stage.context import StageContext
from pdfs.stage.load import read_generation, read_plan, read_tree, write_tree
from pdfs.stage.root import SeenRoot, swap_root
from pdfs.stage.work import Work
from pdfs.store import step
from pdfs.store.step import Step


class Standing(StrEnum):
    """How a session's tree stands to the generation that the root names."""

    CURRENT = "it stands on it"
    COMMITTED = "it is this session's own publish"
    SUPERSEDED = "all of it was published, and others have published since"
    MOVED = "others have published since, and some of it is in no generation"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtUp:
    """The root without a plan, and what was found out on the way there."""

    root: SeenRoot
    conflicts: tuple[Path, ...] = ()
    """Conflict copies that were made."""
    not_removed: tuple[Path, ...] = ()
    """Names that were to go, and stay: another tool had changed what is there."""
    lost: tuple[Path, ...] = ()
    """Names whose content was at none of its homes."""
    aside: tuple[Path, ...] = ()
    """Where the plain object is not what the generation says, by a user's word."""
    standing: Standing = Standing.CURRENT


async def standing(ctx: StageContext, root: Root, work: Work) -> Standing:
    """How the tree of `work` stands to `root`, whether or not that has a plan."""
    with step.at(Step.LOAD_TREE):
        current = await read_generation(ctx, root)
        flight, tree = work.tree.in_flight, work.tree
        if flight is not None:
            committed = await _find_publish(ctx, current, flight, tree)
            if committed is current:
                return Standing.COMMITTED
            if committed is not None:
                is_all_in = flight.edits == tree.edits and not _unstaged(tree, committed)
                return Standing.SUPERSEDED if is_all_in else Standing.MOVED
        if await _stands_on(ctx, root.tree, current, tree):
            return Standing.CURRENT
    is_all_in = not holds_work(tree)
    return Standing.SUPERSEDED if is_all_in else Standing.MOVED


async def _stands_on(
    ctx: StageContext, name: ObjectName | None, current: Manifest, tree: Tree
) -> bool:
    """Whether `current`, of that name, is the tree's own generation, as published or as settled.

    The number alone doesn't prove it: a root that came back from a backup counts on from there.
    """
    while name != tree.base:
        if current.generation != tree.generation or current.predecessor is None:
            return False
        name = current.predecessor
        if name != tree.base:
            current = await read_tree(ctx, name)
    return True


async def _find_publish(
    ctx: StageContext, current: Manifest, flight: InFlight, tree: Tree
) -> Manifest | None:
    """The newest tree of the publish that the journal began; None if it was never committed.

    The chain of trees from the current one back proves it either way. Nothing else does: an entry
    in the root may be gone because all was published, or because the session was discarded.
    """
    manifest = current
    while manifest.publish != flight.record.publish:
        if manifest.predecessor is None or manifest.generation <= tree.generation:
            return None
        try:
            manifest = await read_tree(ctx, manifest.predecessor)
        except ObjectDamaged as error:
            raise ObjectDamaged(
                "whether this session's last publish was committed can't be told any more, since a"
                f" tree that followed it is gone or damaged: {error.what}",
                remedy="what it wrote is kept here: pdfs recover rescue copies it out; compare it"
                " with the stage, then pdfs recover discard",
            ) from error
    return manifest


async def missing_of(ctx: StageContext, root: Root, work: Work) -> list[Path]:
    """Files whose bytes are nowhere, as this session's last publish left them.

    Of a session that has published nothing: those of the current generation.
    """
    with step.at(Step.LOAD_TREE):
        manifest = await read_tree(ctx, root.tree)
        if work.tree.in_flight is not None:
            own = await _find_publish(ctx, manifest, work.tree.in_flight, work.tree)
            manifest = manifest if own is None else own
    return [entry.path for entry in manifest.entries if entry.lost]


async def catch_up(
    ctx: StageContext,
    seen: SeenRoot,
    work: Work,
    *,
    ends: bool = False,
) -> CaughtUp:
    """Finish the plan that the root names, if any, and bring the tree to the root's generation.

    With `ends`, a settle that leaves nothing of this session unpublished takes its entry out of
    the root. A tree that is superseded stays as it is. Raises StageMoved where it can't be brought
    there; LockLost, StoreError, DiskError.
    """
    caught = await _finish(ctx, seen, work, ends=ends)
    root = caught.root.root
    stands = await standing(ctx, root, work)
    match stands:
        case Standing.CURRENT | Standing.COMMITTED:
            await _tell(ctx, work, root, is_own=stands is Standing.COMMITTED)
        case Standing.MOVED:
            raise moved(root)
        case Standing.SUPERSEDED:
            pass
        case _:
            assert_never(stands)
    with step.at(Step.LOAD_TREE):
        aside = tuple(sorted((await read_tree(ctx, root.tree)).aside))
    return replace(caught, standing=stands, aside=aside)


async def _finish(ctx: StageContext, seen: SeenRoot, work: Work, *, ends: bool) -> CaughtUp:
    root = seen.root
    if root.plan is None or root.tree is None:
        return CaughtUp(root=seen)
    with step.at(Step.APPLY_READ):
        plan = await read_plan(ctx, root.plan)
        committed = await read_tree(ctx, root.tree)
    outcomes = await apply(ctx, seen, plan)
    numbers = iter([work.new_inode() for _ in range(most_entering(plan, outcomes))])
    new_inode = partial(next, numbers)
    making = partial(settle, committed, plan, dict(outcomes), new_inode=new_inode)
    settled = await ctx.compute(making)
    name = object_name(root.fence, ctx.new_id())
    with step.at(Step.SETTLE_TREE):
        await write_tree(ctx, name, replace(settled, predecessor=root.tree))
    lost = tuple(path for path, out in outcomes.items() if isinstance(out, SourceLost))
    unstaged = _unstaged(work.tree, committed)
    with step.at(Step.SETTLE_ROOT):
        ended = ends and not lost and not unstaged and _is_all_of(work.tree, plan.publish)
        settled_root = replace(root, tree=name, plan=None)
        if ended:
            settled_root = settled_root.without_entry(ctx.owner.session)
        now = await swap_root(ctx, seen, settled_root)
    return CaughtUp(
        root=now,
        conflicts=tuple(out.path for out in outcomes.values() if isinstance(out, Moved)),
        not_removed=tuple(path for path, out in outcomes.items() if isinstance(out, Stays)),
        lost=lost,
    )


def _unstaged(tree: Tree, committed: Manifest) -> list[Path]:
    """Files that hold work of this session, but could not be made whole for the publish."""
    return [
        entry.path
        for entry in committed.entries
        if entry.lost and entry.ino in tree.nodes and not tree.nodes[entry.ino].is_clean
    ]


def _is_all_of(tree: Tree, publish: PublishId) -> bool:
    """Whether this publish is our own and brings in everything that the session did."""
    flight = tree.in_flight
    return flight is not None and flight.record.publish == publish and flight.edits == tree.edits


async def _tell(ctx: StageContext, work: Work, root: Root, *, is_own: bool) -> None:
    """Commit the record that says what became of the generation that the tree stands on."""
    flight = work.tree.in_flight if is_own else None
    base = work.tree.base if flight is None else publish_name(flight.record.publish)
    if root.tree is None or (flight is None and root.tree == base):
        return
    with step.at(Step.LOAD_TREE):
        current, committed = await read_tree(ctx, root.tree), await read_tree(ctx, base)
    settlement = await ctx.compute(partial(settlement_of, committed, current))
    work.commit(
        settled_record(
            work.tree,
            settlement,
            root.tree,
            publish=current.publish or PublishId(root.tree),
            sequence=None if flight is None else flight.record.sequence,
            time=round(ctx.now() * 1_000_000_000),
        )
    )
    await work.sync()


async def rebase_onto(ctx: StageContext, root: Root, work: Work) -> None:
    """Bring a tree that has MOVED onto the generation of `root`; see `core.rebase`.

    Nobody else may look at the tree meanwhile. Survives a crash once it returns; before that, it is
    begun again. Raises StoreError, DiskError, ObjectDamaged.
    """
    if root.tree is None:
        raise _root_gone(ctx)
    tree, time = work.tree, round(ctx.now() * 1_000_000_000)
    with step.at(Step.LOAD_TREE):
        theirs = await read_tree(ctx, root.tree)
        flight = tree.in_flight
        settled = None if flight is None else await _find_publish(ctx, theirs, flight, tree)
        if flight is not None and settled is not None:
            committed = await read_tree(ctx, publish_name(flight.record.publish))
            work.commit(_own_commit(tree, committed, settled, flight, time))
        base = await read_tree(ctx, tree.base)
    ours = {path for path, _ in tree.walk()}
    rebase(
        tree,
        base,
        theirs,
        root.tree,
        commit=work.commit,
        new_inode=work.new_inode,
        names=ConflictNames(
            user=ctx.owner.user,
            machine=ctx.owner.machine,
            time=ctx.now(),
            taken=ours | {entry.path for entry in theirs.entries},
            is_visible=ctx.is_visible,
        ),
        time=time,
    )
    await work.sync()


def _own_commit(
    tree: Tree, committed: Manifest, settled: Manifest, flight: InFlight, time: int
) -> Settled:
    """What this session itself committed is what its tree stands on: not yet how it was settled.

    Of the settle only this counts: a file whose bytes it found nowhere keeps those that are here.
    """
    publish = flight.record.publish
    lost = {entry.ino for entry in settled.entries if entry.lost}
    entries = tuple(
        replace(entry, lost=entry.lost or entry.ino in lost) for entry in committed.entries
    )
    return settled_record(
        tree,
        settlement_of(committed, replace(committed, entries=entries)),
        publish_name(publish),
        publish=publish,
        sequence=flight.record.sequence,
        time=time,
    )


def _root_gone(ctx: StageContext) -> ObjectDamaged:
    return ObjectDamaged(
        f"the root {ctx.keys.root!r} was removed from the bucket, and with it what this session"
        " stands on",
        remedy="bring it back from a backup of the bucket; what was written is kept here: pdfs"
        " recover rescue copies it out",
    )


def moved(root: Root) -> StageMoved:
    """The error for work that stands on a generation which is no longer the current one."""
    return StageMoved(
        f"generation {root.generation} was published by somebody else meanwhile, and there is work"
        " of this session that is in no generation",
        remedy="it is kept here: pdfs recover resume, or another mount, merges the two",
    )


def superseded(root: Root) -> StageMoved:
    """The error for a stage that is shown as it was before somebody else had it, and ended."""
    return StageMoved(
        f"generation {root.generation} was published by somebody else, who had the stage meanwhile:"
        " what is mounted here is older",
        remedy="unmount it and mount it again; what was published before is in the bucket, what was"
        " written since is kept here",
    )
