"""A generation as a reader finds it: one look at the root says which, all else is immutable.

Nothing is written, locked, applied or waited for. A stage that PDFS has never published is read
from a listing of its plain objects.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pdfs.core.generation import draft_of, tree_of
from pdfs.core.ids import Inode, ObjectName
from pdfs.core.manifest import Manifest, Top, never_published
from pdfs.core.merge import Warned, merge_listing
from pdfs.core.root import Root
from pdfs.stage.context import StageContext
from pdfs.stage.load import list_plain, read_generation
from pdfs.stage.root import find_root
from pdfs.store import step
from pdfs.store.step import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """The generation that the root named when it was looked at."""

    name: ObjectName | None
    """Of its manifest; None where nothing was published yet."""
    manifest: Manifest
    warnings: tuple[Warned, ...] = ()
    """Keys of a listing that can't be shown."""


async def current_root(ctx: StageContext) -> Root | None:
    """The root, where anything was published."""
    with step.at(Step.READER_ROOT):
        seen = await find_root(ctx)
    return None if seen is None or seen.root.tree is None else seen.root


async def read_present(ctx: StageContext, new_inode: Callable[[], Inode]) -> Present:
    """The current generation. Raises ObjectDamaged, StoreError.

    A listing is believed only if nothing was published until it was complete: once the root names a
    tree it always does, and plain objects are changed by a publish only after that.
    """
    root = await current_root(ctx)
    if root is None:
        listed = await _listed(ctx, new_inode)
        root = await current_root(ctx)
        if root is None:
            return listed
    return Present(name=root.tree, manifest=await read_current(ctx, root))


async def read_current(ctx: StageContext, root: Root) -> Manifest:
    """The manifest that the root names. Raises ObjectDamaged, StoreError."""
    with step.at(Step.READER_TREE):
        return await read_generation(ctx, root)


async def _listed(ctx: StageContext, new_inode: Callable[[], Inode]) -> Present:
    """Generation 0: what lies in the bucket, under numbers that are this mount's own."""
    now = round(ctx.now() * 1_000_000_000)
    never = never_published(Top(mtime=now))
    tree = tree_of(never, None, uid=ctx.uid, gid=ctx.gid)
    with step.at(Step.LOAD_LISTING):
        rows = await list_plain(ctx)
    merged = merge_listing(tree, rows, busy=frozenset(), echoes={}, new_inode=new_inode, time=now)
    for record in merged.records:
        tree.apply(record)
    draft = draft_of(tree, ctx.is_visible)
    manifest = Manifest(
        generation=0,
        publish=None,
        time=0.0,
        predecessor=None,
        top=draft.top,
        entries=draft.entries,
    )
    return Present(name=None, manifest=manifest, warnings=tuple(merged.warnings))
