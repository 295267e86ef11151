"""End: take a session that leaves nothing unpublished, or was discarded, out of the root."""

from pdfs.stage.context import StageContext
from pdfs.stage.root import SeenRoot, swap_root
from pdfs.store import step
from pdfs.store.step import Step


async def end_session(ctx: StageContext, seen: SeenRoot) -> SeenRoot:
    """Remove this session's entry, if the root still has it. Raises LockLost, StoreError."""
    if seen.root.entry(ctx.owner.session) is None:
        return seen
    with step.at(Step.END_ROOT):
        return await swap_root(ctx, seen, seen.root.without_entry(ctx.owner.session))
