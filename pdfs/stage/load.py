"""Reading a stage: the manifest that the root names, and what the listing says about it."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import partial

import trio

from pdfs.core import manifest as core_manifest
from pdfs.core import plan as core_plan
from pdfs.core.content import Content, Plain
from pdfs.core.ids import Fence, Inode, ObjectName, Path, PublishId, fence_of, publish_name
from pdfs.core.manifest import Manifest, in_columns, never_published
from pdfs.core.merge import Merged, Row, differing, merge_listing
from pdfs.core.plan import Plan
from pdfs.core.root import Root
from pdfs.core.tree import Tree
from pdfs.errors import ObjectDamaged, ObjectNotFound, StoreUnavailable
from pdfs.stage.context import StageContext
from pdfs.stage.immutable import put_immutable
from pdfs.stage.root import how_restored, read_held_root, restorable
from pdfs.stage.together import together
from pdfs.store import step
from pdfs.store.objects import Listed, ObjectInfo
from pdfs.store.step import Step

DIGEST = "pdfs-digest"
PUBLISH = "pdfs-publish"
MTIME = "mtime"
GZIP = "application/gzip"


async def read_tree(ctx: StageContext, name: ObjectName | None) -> Manifest:
    """The manifest of that name; generation 0 for None. Raises ObjectDamaged where it is gone."""
    if name is None:
        return never_published()
    if name not in ctx.trees:
        key = ctx.keys.tree(name)
        body = await _body(ctx, key)
        ctx.trees[name] = await ctx.compute(partial(core_manifest.decode, key, body))
    return ctx.trees[name]


async def read_generation(ctx: StageContext, root: Root) -> Manifest:
    """The manifest of the generation that `root` names.

    Raises ObjectDamaged where it is gone, or another lies in its place.
    """
    with restorable(ctx):
        manifest = await read_tree(ctx, root.tree)
    if manifest.generation != root.generation and root.tree is not None:
        raise ObjectDamaged(
            f"{ctx.keys.tree(root.tree)!r} is the tree of generation {manifest.generation}, where"
            f" that of {root.generation} should be",
            remedy=how_restored(ctx),
        )
    return manifest


async def read_plan(ctx: StageContext, name: ObjectName) -> Plan:
    """The plan of that name. Raises ObjectDamaged where it is gone."""
    if name not in ctx.plans:
        key = ctx.keys.plan(name)
        body = await _body(ctx, key)
        plan = await ctx.compute(partial(core_plan.decode, key, body))
        if publish_name(plan.publish) != name:
            raise ObjectDamaged(
                f"{key!r} is the plan of another publish, {plan.publish}",
                remedy="nothing was changed; bring it back from a backup of the bucket",
            )
        ctx.plans[name] = plan
    return ctx.plans[name]


async def write_tree(ctx: StageContext, name: ObjectName, manifest: Manifest) -> None:
    """Make `manifest` the object of that fresh name."""
    key = ctx.keys.tree(name)
    body = await ctx.compute(partial(_encoded_tree, key, manifest))
    await put_immutable(ctx, key, body, GZIP)
    ctx.trees[name] = in_columns(manifest)


async def write_plan(ctx: StageContext, plan: Plan) -> None:
    """Make `plan` the object of its publish's name."""
    name = publish_name(plan.publish)
    key = ctx.keys.plan(name)
    body = await ctx.compute(partial(_encoded_plan, key, plan))
    await put_immutable(ctx, key, body, GZIP)
    ctx.plans[name] = plan


def _encoded_tree(key: str, manifest: Manifest) -> bytes:
    """Its bytes, which can be read: what nobody could read must not get past here."""
    body = core_manifest.encode(manifest)
    core_manifest.decode(key, body)
    return body


def _encoded_plan(key: str, plan: Plan) -> bytes:
    body = core_plan.encode(plan)
    core_plan.decode(key, body)
    return body


async def _body(ctx: StageContext, key: str) -> bytes:
    """The bytes of an object of ours, of whatever length; what is long gets the time that it needs.

    The tree of a million files has 100 MB, for which the wait for one answer may be too short.
    """
    try:
        try:
            return (await ctx.patience.once(lambda: ctx.store.get(key))).body
        except StoreUnavailable as error:
            await trio.sleep(ctx.patience.wait_after(1, error))
        size = (await ctx.patience.look(lambda: ctx.store.head(key))).size
        return (await ctx.patience.look(lambda: ctx.store.get(key), size=size)).body
    except ObjectNotFound as error:
        raise _missing(key) from error


def _missing(key: str) -> ObjectDamaged:
    return ObjectDamaged(
        f"the object {key!r}, which the stage rests on, is gone from the bucket",
        remedy="nothing was changed; bring it back from a backup of the bucket",
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """Every plain object of the stage, while the root did not change."""

    rows: tuple[Row, ...]
    fence: Fence
    """Under which the stage was ours then."""


async def list_stage(ctx: StageContext, fence: Fence) -> Listing:
    """The plain objects, as soon as that can be judged.

    A listing counts only if the root is ours and the same before and after it, and has no plan:
    else a publish may have been under way; it is then made anew. Of a stage that is another's by
    now nothing can be told from it: what he published would be taken for late writes of our own.
    Raises LockLost, StoreError.
    """
    with step.at(Step.LOAD_LISTING):
        while True:
            before = await read_held_root(ctx, fence)
            rows = await list_plain(ctx)
            after = await read_held_root(ctx, fence)
            if before.root.id == after.root.id and after.root.plan is None:
                return Listing(rows, fence)
            await trio.sleep(ctx.timing.backoff)


async def list_plain(ctx: StageContext) -> tuple[Row, ...]:
    """The plain objects, whatever the root. Raises StoreError."""
    return await ctx.patience.ask(lambda: _rows(ctx))


async def _rows(ctx: StageContext) -> tuple[Row, ...]:
    rows: list[Row] = []
    async for page in ctx.store.list(ctx.keys.plain_prefix):
        rows += [_row(ctx, listed) for listed in page]
    return tuple(rows)


def _row(ctx: StageContext, listed: Listed) -> Row:
    return Row(
        path=ctx.keys.path_of(listed.key),
        etag=listed.etag,
        size=listed.size,
        mtime=_ns(listed.last_modified),
    )


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)


@dataclass(slots=True)
class Looked:
    """What single looks made of a listing."""

    rows: dict[str, Row]
    echoes: dict[Path, Content]


async def look_closer(ctx: StageContext, tree: Tree, rows: Sequence[Row]) -> Looked:
    """The listing, corrected where single objects say otherwise, and the echoes in it.

    A listing may be stale; the object itself is not. An *echo* is a late write of our own, from a
    machine that was frozen amid a publish: it carries the name of an earlier publish whose plan
    put exactly this content to this key in place of exactly the ETag that the stage has there now,
    because the content had meanwhile returned to those bytes.
    """
    looked = Looked({row.path: row for row in rows}, {})
    changed: set[str] = {row.path for row in differing(tree, rows)}
    changed |= {path for path in tree.known if path not in looked.rows}
    with step.at(Step.LOAD_STRANGER):
        await together(
            (partial(_look_at, ctx, tree, Path(path), looked) for path in sorted(changed)),
            most=ctx.sizes.parallel,
        )
    return looked


async def _look_at(ctx: StageContext, tree: Tree, path: Path, looked: Looked) -> None:
    try:
        info = await ctx.patience.look(lambda: ctx.store.head(ctx.keys.plain(path)))
    except ObjectNotFound:
        looked.rows.pop(path, None)
        return
    looked.rows[path] = Row(
        path=path, etag=info.etag, size=info.size, mtime=_ns(info.last_modified)
    )
    known = tree.known.get(path)
    if known is None or known.etag_at(path) == info.etag or PUBLISH not in info.metadata:
        return
    try:
        plan = await read_plan(ctx, ObjectName(info.metadata[PUBLISH]))
    except ObjectDamaged:
        return
    echo = _echoed(plan, path, info, known)
    if echo is not None and await _is_earlier(ctx, tree.base, plan.publish):
        looked.echoes[path] = echo


async def _is_earlier(ctx: StageContext, name: ObjectName | None, publish: PublishId) -> bool:
    """Whether the tree of that name, or one before it, is of this publish.

    One that is in no tree was published after a root that was then brought back: it is not late.
    """
    while name is not None and fence_of(name) >= fence_of(publish_name(publish)):
        try:
            manifest = await read_tree(ctx, name)
        except ObjectDamaged:
            return False
        if manifest.publish == publish:
            return True
        name = manifest.predecessor
    return False


def _echoed(plan: Plan, path: Path, info: ObjectInfo, known: Content) -> Content | None:
    digest = info.metadata.get(DIGEST)
    for put in plan.puts:
        if put.path != path or put.content.size != info.size:
            continue
        if put.content.digest and put.content.digest.hex() == digest:
            if put.expect is not None and put.expect == known.etag_at(path):
                return put.content.with_plain(Plain(path, info.etag))
            return None
    return None


async def merge_foreign(
    ctx: StageContext,
    tree: Tree,
    listing: Listing,
    *,
    busy: Callable[[], Set[Inode]],
    new_inode: Callable[[], Inode],
) -> Merged:
    """What other tools changed, as records to be committed at once: no await lies between.

    Raises LockLost where the stage is another's by now, StoreError.
    """
    if tree.base is None:
        looked = Looked({row.path: row for row in listing.rows}, {})
    else:
        looked = await look_closer(ctx, tree, listing.rows)
        with step.at(Step.LOAD_LISTING):  # single objects were looked at since
            await read_held_root(ctx, listing.fence)
    return merge_listing(
        tree,
        looked.rows.values(),
        busy=busy(),
        echoes=looked.echoes,
        new_inode=new_inode,
        time=_ns(ctx.now()),
    )
