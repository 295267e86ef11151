"""The root object in the bucket: read it, and swap it for the next version."""

import shlex
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from typing import cast

from pdfs.core import root as core_root
from pdfs.core.content import ETag
from pdfs.core.ids import Fence
from pdfs.core.root import Root
from pdfs.errors import LockLost, ObjectDamaged, OtherVersion
from pdfs.stage.context import Owner, StageContext
from pdfs.stage.swap import Won, read, swap
from pdfs.store.objects import IfMatch, Listed


@dataclass(frozen=True, slots=True)
class SeenRoot:
    """The root as it was read or written, and the ETag that names that version."""

    root: Root
    etag: ETag

    def is_held_by(self, owner: Owner, fence: Fence) -> bool:
        """Whether this process, with this fence, may still write the root."""
        held = (self.root.session, self.root.run, self.root.fence)
        return held == (owner.session, owner.run, fence)


async def read_root(ctx: StageContext) -> SeenRoot | None:
    """The root as it is now, or None where there is none. Raises ObjectDamaged, StoreError."""
    found = await read(ctx, ctx.keys.root)
    if found is None:
        return None
    with restorable(ctx):
        return SeenRoot(core_root.decode(ctx.keys.root, found.body), found.info.etag)


async def find_root(ctx: StageContext) -> SeenRoot | None:
    """The root as it is now, or None for a stage that PDFS has never written.

    A root is made before any other object of a stage, and never removed: where there are others,
    it was taken away, and the stage is not a new one. Raises ObjectDamaged then, StoreError.
    """
    seen = await read_root(ctx)
    if seen is not None or not await _has_objects(ctx):
        return seen
    seen = await read_root(ctx)  # it may have been made in between
    if seen is None:
        raise root_gone(ctx)
    return seen


async def _has_objects(ctx: StageContext) -> bool:
    """Whether the stage has trees, plans or contents."""

    async def look() -> bool:
        # Every store's `list` is a generator; one that is left early has to be closed.
        listing = ctx.store.list(ctx.keys.internal_prefix)
        pages = cast("AsyncGenerator[Sequence[Listed], None]", listing)
        async with aclosing(pages):
            async for page in pages:
                if any(ctx.keys.internal_of(row.key) is not None for row in page):
                    return True
        return False

    return await ctx.patience.ask(look)


def root_gone(ctx: StageContext) -> ObjectDamaged:
    """The error for a stage whose root was taken away."""
    return ObjectDamaged(
        f"the root {ctx.keys.root!r} is gone from the bucket, and what was published is there",
        remedy=how_restored(ctx),
    )


def how_restored(ctx: StageContext) -> str:
    """The remedy for a stage that can't be opened as it was published."""
    place = shlex.quote(f"{ctx.keys.project}/{ctx.keys.stage}")
    return f"pdfs check {place} says what is left, and with --repair brings it back"


@contextmanager
def restorable(ctx: StageContext) -> Iterator[None]:
    """A block that reads what a stage rests on: damage that it finds is told with the remedy."""
    try:
        yield
    except OtherVersion:
        raise
    except ObjectDamaged as error:
        raise ObjectDamaged(error.what, remedy=how_restored(ctx)) from error


async def read_held_root(ctx: StageContext, fence: Fence) -> SeenRoot:
    """The root, which this process holds with that fence.

    Raises LockLost where it doesn't, and ObjectDamaged where there is none.
    """
    seen = await read_root(ctx)
    if seen is None:
        raise root_gone(ctx)
    if not seen.is_held_by(ctx.owner, fence):
        raise LockLost(
            taken_words(seen.root, ctx.owner),
            remedy="nothing more is uploaded, everything is kept: pdfs recover list",
        )
    return seen


def taken_words(root: Root, owner: Owner) -> str:
    """That `owner` has the stage no more, and who took it, as far as that root says."""
    if (root.session, root.run) == (owner.session, owner.run):
        return "the root of the stage was replaced by another version of it"
    if root.session == owner.session:
        return "another process has gone on with this session"
    taker = root.entry(root.session)
    if taker is None:  # it has ended, as a broken lock's does at once
        return "somebody else took the stage meanwhile, or broke its lock"
    return f"the stage was taken over by {taker.user} on {taker.machine}"


async def swap_root(ctx: StageContext, seen: SeenRoot, root: Root) -> SeenRoot:
    """Replace the version `seen` by `root` with a fresh id.

    Raises LockLost if it is no longer the current version: somebody else has the stage; and
    ObjectDamaged where it is gone, or something that is no root lies in its place.
    """
    fresh = replace(root, id=ctx.new_id())
    body = core_root.encode(fresh)
    ctx.root_writes.begun += 1
    outcome = await swap(ctx, ctx.keys.root, body, IfMatch(seen.etag))
    if isinstance(outcome, Won):
        return SeenRoot(fresh, outcome.etag)
    if outcome.found is None:
        raise root_gone(ctx)
    with restorable(ctx):
        there = core_root.decode(ctx.keys.root, outcome.found.body)
    raise LockLost(
        taken_words(there, ctx.owner),
        remedy="nothing was published by this; everything is kept: pdfs recover list",
    )
