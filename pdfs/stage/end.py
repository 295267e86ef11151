"""End: take a session that leaves nothing unpublished, or was discarded, out of the root."""

from pdfs.core.ids import SessionId
from pdfs.core.lease import Claimant, LockState, Unpublished
from pdfs.errors import LockHeld
from pdfs.stage.context import StageContext
from pdfs.stage.lock import SeenLock, read_lock
from pdfs.stage.root import SeenRoot, swap_root
from pdfs.stage.start import start
from pdfs.store import step
from pdfs.store.step import Step


async def end_session(ctx: StageContext, seen: SeenRoot) -> SeenRoot:
    """Remove this session's entry, if the root still has it. Raises LockLost, StoreError."""
    if seen.root.entry(ctx.owner.session) is None:
        return seen
    with step.at(Step.END_ROOT):
        return await swap_root(ctx, seen, seen.root.without_entry(ctx.owner.session))


async def give_back(ctx: StageContext, seen: SeenRoot | None) -> None:
    """End the session of `ctx`, which is dead, and release its lock; `seen` is the root.

    Where the stage is another's by now, nothing is changed: the entry in the root stays, and so
    does what the lock says of work that waits. Raises LockError, StoreError.
    """
    session, lock = ctx.owner.session, await read_lock(ctx)
    if not _is_ours(lock, session):
        has_entry = seen is not None and seen.root.entry(session) is not None
        if not (has_entry and _is_free(lock)):
            return
    claimant = Claimant(
        user=ctx.owner.user if lock is None or lock.lock is None else lock.lock.user,
        session=session,
        run=ctx.owner.run,
        crashed=frozenset({session}),
    )
    try:
        started = await start(ctx, claimant)
    except LockHeld:
        return  # somebody was quicker
    await end_session(ctx, started.root)
    await started.lock.release(Unpublished())


def _is_ours(seen: SeenLock | None, session: SessionId) -> bool:
    return seen is not None and seen.lock is not None and seen.lock.session == session


def _is_free(seen: SeenLock | None) -> bool:
    """Whether nobody has the stage, and no marker tells of anybody's work."""
    if seen is None:
        return True
    lock = seen.lock
    return lock is not None and lock.state is LockState.RELEASED and not lock.pending
