"""The root object in the bucket: read it, and swap it for the next version."""

from dataclasses import dataclass, replace

from pdfs.core import root as core_root
from pdfs.core.content import ETag
from pdfs.core.ids import Fence
from pdfs.core.root import Root
from pdfs.errors import LockLost
from pdfs.stage.context import Owner, StageContext
from pdfs.stage.swap import Won, read, swap
from pdfs.store.objects import IfMatch


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
    """The root as it is now, or None for a stage that PDFS has never written.

    Raises ObjectDamaged where it can't be understood.
    """
    found = await read(ctx, ctx.keys.root)
    if found is None:
        return None
    return SeenRoot(core_root.decode(ctx.keys.root, found.body), found.info.etag)


async def read_held_root(ctx: StageContext, fence: Fence) -> SeenRoot:
    """The root, which this process holds with that fence. Raises LockLost where it doesn't."""
    seen = await read_root(ctx)
    if seen is None or not seen.is_held_by(ctx.owner, fence):
        raise LockLost(
            "the stage has another owner by now",
            remedy="nothing more is uploaded, everything is kept: pdfs recover list",
        )
    return seen


async def swap_root(ctx: StageContext, seen: SeenRoot, root: Root) -> SeenRoot:
    """Replace the version `seen` by `root` with a fresh id.

    Raises LockLost if it is no longer the current version: somebody else has the stage.
    """
    fresh = replace(root, id=ctx.new_id())
    body = core_root.encode(fresh)
    outcome = await swap(ctx, ctx.keys.root, body, IfMatch(seen.etag))
    if isinstance(outcome, Won):
        return SeenRoot(fresh, outcome.etag)
    raise LockLost(
        "the stage has another owner by now",
        remedy="nothing was published by this; everything is kept: pdfs recover list",
    )
