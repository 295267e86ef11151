"""Publish: make a session's changes the stage's next generation.

    stage     every changed content gets a home that no plan touches
    commit    write tree and plan, compare-and-swap the root: the commit point
    catch up  apply the plan, settle the root, and tell the tree (`stage.catch_up`)

Up to the commit point a crash leaves garbage that no generation names; after it every byte is in
the bucket, and whoever has the stage next finishes the plan.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import replace
from functools import partial

from pdfs.core.content import Content, Plain
from pdfs.core.generation import Draft, draft_of, manifest_of, replaceable, unread_homes
from pdfs.core.ids import Inode, Path, PublishId, Sequence, object_name, publish_name
from pdfs.core.lease import Unpublished
from pdfs.core.manifest import Manifest
from pdfs.core.plan import Plan, plan_of
from pdfs.core.record import Publishing
from pdfs.core.root import LastPublish, Root
from pdfs.core.tree import Tree
from pdfs.stage.context import StageContext
from pdfs.stage.load import read_tree, write_plan, write_tree
from pdfs.stage.root import SeenRoot, swap_root
from pdfs.stage.staging import Staged, Unstaged, stage_contents
from pdfs.stage.work import Work
from pdfs.store import step
from pdfs.store.step import Step


async def publish(
    ctx: StageContext, seen: SeenRoot, work: Work, *, opened: Set[Inode] = frozenset()
) -> SeenRoot:
    """Commit the tree as of now; returns the root that names it, with the plan that is to apply.

    Programs may go on writing: what they do from here on is the next publish's. `opened` are the
    files that one has opened to look into since they took the place of another.

    The root `seen` has no plan, and `work` stands on its tree. Raises LockLost, StoreError and
    DiskError; nothing is lost by any of them. After StoreUnavailable the commit point may have been
    passed: the way on leads through `stage.start`.
    """
    before = await read_tree(ctx, seen.root.tree)
    publish_id = PublishId(object_name(seen.root.fence, ctx.new_id()))
    sequence = work.last
    with work.pinned():
        work.commit(Publishing(publish=publish_id, sequence=sequence))
        frozen = work.tree.frozen()
        await work.sync()  # from here on, the tree may go on
        draft = await ctx.compute(partial(draft_of, frozen, ctx.is_visible))
        known = replaceable(frozen, opened)
        files = _unstaged(work, frozen, draft)
        unread = unread_homes(frozen, draft.changed)
        del frozen
        staged = await stage_contents(ctx, seen.root.fence, files, draft.displaced)
    make_manifest = partial(
        manifest_of,
        draft,
        staged.files,
        (*staged.displaced, *_moved(staged, unread)),
        before=before,
        predecessor=seen.root.tree,
        publish=publish_id,
        time=ctx.now(),
        kept_for=ctx.timing.kept_for,
    )
    manifest = await ctx.compute(make_manifest)
    plan = await ctx.compute(partial(_plan, ctx, known, manifest, publish_id))
    return await _commit(ctx, seen, manifest, plan, sequence)


def _unstaged(work: Work, frozen: Tree, draft: Draft) -> dict[Inode, Unstaged]:
    """The changed files as they were then, whatever is written to them while they are staged."""
    paths = {entry.ino: entry.path for entry in draft.entries}
    nodes = [frozen.nodes[ino] for ino in draft.changed]
    return {
        node.ino: Unstaged(paths[node.ino], node.size, partial(work.read, node), is_kept=True)
        for node in nodes
    }


def _moved(staged: Staged, unread: Mapping[Inode, tuple[Plain, ...]]) -> Iterator[Content]:
    """Files whose digest nobody knew before, with the plain homes that they had."""
    for ino, homes in unread.items():
        if ino in staged.files:
            yield staged.files[ino].with_plain(*homes)


def _plan(
    ctx: StageContext, known: Mapping[Path, Content], manifest: Manifest, publish_id: PublishId
) -> Plan:
    owner = ctx.owner
    return plan_of(
        manifest,
        known,
        publish=publish_id,
        session=owner.session,
        run=owner.run,
        user=owner.user,
        machine=owner.machine,
        is_visible=ctx.is_visible,
    )


async def _commit(
    ctx: StageContext, seen: SeenRoot, manifest: Manifest, plan: Plan, sequence: Sequence
) -> SeenRoot:
    """Write tree and plan, then swap the root: after this, the publish has happened."""
    with step.at(Step.COMMIT_TREE):
        await write_tree(ctx, publish_name(plan.publish), manifest)
    if plan.has_steps:
        with step.at(Step.COMMIT_PLAN):
            await write_plan(ctx, plan)
    await ctx.wake.heed()
    with step.at(Step.COMMIT_ROOT):
        return await swap_root(ctx, seen, _committed(ctx, seen.root, manifest, plan, sequence))


def _committed(
    ctx: StageContext, root: Root, manifest: Manifest, plan: Plan, sequence: Sequence
) -> Root:
    name = publish_name(plan.publish)
    entry = root.entry(ctx.owner.session)
    assert entry is not None, "Start enters the session"
    last = LastPublish(
        generation=manifest.generation, publish=plan.publish, tree=name, sequence=sequence
    )
    return replace(
        root.with_entry(replace(entry, last=last, unpublished=Unpublished())),
        generation=manifest.generation,
        tree=name,
        plan=name if plan.has_steps else None,
    )
